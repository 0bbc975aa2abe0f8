// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Messages, calls and the kernel's events at one event loop: what the functions of
 * <rpal/rpal.h> about them do and refuse, on both sides of a link.
 */
#include "call.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum {
	P_ADD,
	P_PAGE,
	P_UNMAP,
	P_DRAIN,
	P_PIPE_EVENTS,
	P_BUSY,
	P_SEND,
	P_FILE,
	P_TRUNCATE,
	P_PROTECT,
	P_NR,
};

/* First word of a message to the server, or of one of its own accord. */
enum { ECHO, HOLD, CLOSE, INPUT, SENT, LATE };

/* What an epoll instance says of whom. */
enum { SOCKET = 7, PIPE = 8 };

static int epoll, sock, peer;
static uint64_t handle;
static int input[2]; /* a pipe, whose end to be read is in the epoll instance */

/* ------------------------------------------------------------------- server */

static void *page;

PROC(p_add)
{
	const int64_t *two = arg;

	return two[0] + two[1];
}

PROC(p_page)
{
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*(int64_t *)page = 4711;
	return (intptr_t)page;
}

PROC(p_unmap)
{
	return munmap(page, PAGE);
}

static bool hold; /* leave all in the queue */

/* How many words there were. */
PROC(p_drain)
{
	int64_t words[RPAL_MAX_WORDS];
	int n, sum = 0;

	hold = false;
	while ((n = rpal_read_ptrs(sock, words, RPAL_MAX_WORDS)) > 0)
		sum += n;
	return sum;
}

/* How a procedure spends its time: only who sleeps makes a system call. */
enum { LOOPS, LOOPS_THEN_SLEEPS, SLEEPS, BUSY_WAYS };

static volatile int busy_ordered, busy_written, busy_end;
static bool busy;

/* Makes the receiver's pipe readable while that one is in a procedure. */
static void *busy_thread(void *arg)
{
	int n;

	for (n = 1;; n++) {
		while (busy_ordered < n)
			usleep(1000);
		MUST(write(input[1], "", 1) == 1);
		busy_written = n;
		usleep(200000);
		busy_end = n;
	}
	return arg;
}

PROC(p_pipe_events)
{
	struct epoll_event ev = { .events = *(int64_t *)arg, .data.u64 = PIPE };

	return rpal_epoll_ctl(epoll, EPOLL_CTL_MOD, input[0], &ev);
}

PROC(p_busy)
{
	int64_t way = *(int64_t *)arg;
	int n = busy_ordered + 1;

	busy = true;
	busy_ordered = n;
	while (way != SLEEPS && busy_written < n)
		test_pause();
	while (busy_end < n)
		if (way == LOOPS)
			test_pause();
		else
			usleep(1000);
	busy = false;
	return 0;
}

PROC(p_send)
{
	int64_t words[2] = { SENT, *(int64_t *)arg };

	return rpal_write_ptrs(peer, handle, words, 2);
}

static int file = -1;

/* Two pages of a file. */
PROC(p_file)
{
	int64_t *at;

	if (file >= 0)
		close(file);
	file = memfd_create("call-loop", MFD_CLOEXEC);
	NEED(file >= 0 && !ftruncate(file, 2 * PAGE));
	at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	NEED(at != MAP_FAILED);
	at[0] = 4711;
	at[PAGE / 8] = 4711;
	return (intptr_t)at;
}

PROC(p_truncate)
{
	return ftruncate(file, *(int64_t *)arg);
}

PROC(p_protect)
{
	return mprotect(page, PAGE, *(int64_t *)arg);
}

static void take_input(void)
{
	int64_t words[2] = { INPUT, busy };
	char byte;

	MUST(read(input[0], &byte, 1) == 1);
	MUST(rpal_write_ptrs(peer, handle, words, 2) == 2);
}

static void add_pipe(void)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = PIPE };

	MUST(!pipe2(input, O_CLOEXEC) && !rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, input[0], &ev));
}

static void answer(void)
{
	int64_t words[RPAL_MAX_WORDS];
	int n;

	while (!hold && (n = rpal_read_ptrs(sock, words, 2)) > 0) {
		switch (words[0]) {
		case LATE:
			/* On its own task then, and the peer waits. */
			usleep(5000);
			/* fall through */
		case ECHO:
			words[1]++;
			MUST(rpal_write_ptrs(peer, handle, words, n) == n);
			break;
		case HOLD:
			hold = true;
			break;
		case CLOSE:
			rpal_close(sock);
			sock = -1;
			return;
		}
	}
}

static void add_socket(uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.u64 = SOCKET };

	if (!epoll)
		epoll = epoll_create1(EPOLL_CLOEXEC);
	MUST(epoll >= 0 && !rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, sock, &ev));
	MUST(!rpal_uds_fdmap_timeout((uint64_t)peer << 32 | sock, &handle, test_patience() * 1000));
}

static const rpal_procedure_fn procs[P_NR] = {
	[P_ADD] = p_add,
	[P_PAGE] = p_page,
	[P_UNMAP] = p_unmap,
	[P_DRAIN] = p_drain,
	[P_PIPE_EVENTS] = p_pipe_events,
	[P_BUSY] = p_busy,
	[P_SEND] = p_send,
	[P_FILE] = p_file,
	[P_TRUNCATE] = p_truncate,
	[P_PROTECT] = p_protect,
};

static int server_role(void)
{
	struct epoll_event ev[4], listen_ev = { .events = EPOLLIN };
	pthread_t thread;
	int fd, i, n;

	call_init(1);
	MUST(!rpal_thread_init());
	for (i = 0; i < P_NR; i++)
		MUST(!rpal_export(i, procs[i], NULL));
	epoll = epoll_create1(EPOLL_CLOEXEC);
	add_pipe();
	MUST(!pthread_create(&thread, NULL, busy_thread, NULL));
	fd = rpal_listen(test_arg);
	MUST(fd >= 0 && !epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &listen_ev));
	for (;;) {
		n = rpal_epoll_wait(epoll, ev, 4, -1);
		for (i = 0; i < n; i++) {
			if (ev[i].data.u64 == PIPE) {
				take_input();
			} else if (ev[i].data.u64 != SOCKET) {
				if (sock > 0)
					rpal_close(sock);
				peer = rpal_accept(fd, -1, &sock);
				MUST(peer > 0);
				/* Edges: what is left unread does not come again. */
				add_socket(EPOLLRPALIN | EPOLLET);
			} else if (ev[i].events & EPOLLRPALIN) {
				answer();
			}
		}
	}
}

/* ------------------------------------------------------------------- client */

static int management; /* file descriptor */

static void client_init(void)
{
	management = rpal_init(2, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL);
	MUST(management >= 0);
	MUST(!rpal_thread_init());
}

static void connect_to(const char *path, uint32_t events)
{
	peer = rpal_connect(path, test_patience() * 1000, &sock);
	if (!CHECK(peer > 0, "connect: %d: %s", peer, rpal_last_error()))
		_exit(1);
	add_socket(events);
}

static int put(int64_t what, int64_t word)
{
	int64_t words[2] = { what, word };

	return rpal_write_ptrs(peer, handle, words, 2);
}

static void echo(int64_t word)
{
	struct epoll_event ev;
	int64_t words[2] = {};

	CHECK_IS(put(ECHO, word), 2);
	CHECK_IS(rpal_epoll_wait(epoll, &ev, 1, test_patience() * 1000), 1);
	CHECK(ev.events == EPOLLRPALIN && ev.data.u64 == SOCKET, "events %x", ev.events);
	CHECK_IS(rpal_read_ptrs(sock, words, 2), 2);
	CHECK_IS(words[1], word + 1);
}

static void calls_and_messages(void)
{
	int64_t two[2] = { 40, 2 }, r;
	int i;

	test_begin("procedures are called where messages are waited for");
	for (i = 0; i < 1000; i++) {
		two[0] = i;
		r = -1;
		CHECK_IS(rpal_call(peer, P_ADD, two, sizeof(two), &r), 0);
		CHECK_IS(r, i + 2);
		echo(i);
	}
	test_end();
}

static void *no_receiver(void *arg)
{
	struct epoll_event ev;

	/* A message is there; only the kernel's events are told. */
	CHECK_IS(rpal_epoll_wait(epoll, &ev, 1, 20), 0);
	CHECK_IS(rpal_epoll_wait_user(epoll, &ev, 1, 0), 1);
	return arg;
}

static void plain_threads(void)
{
	int64_t words[2];
	pthread_t thread;
	struct pollfd p;

	test_begin("threads that are no receivers");
	CHECK_IS(put(ECHO, 1), 2);
	while (rpal_epoll_wait_user(epoll, &(struct epoll_event){}, 1, 0) != 1)
		usleep(1000);
	MUST(!pthread_create(&thread, NULL, no_receiver, NULL));
	pthread_join(thread, NULL);
	CHECK_IS(rpal_read_ptrs(sock, words, 2), 2);
	CHECK_IS(rpal_epoll_wait_user(epoll, &(struct epoll_event){}, 1, 0), 0);
	p = (struct pollfd){ .fd = rpal_ready_fd(epoll), .events = POLLIN };
	CHECK(p.fd >= 0, "%d: %s", p.fd, rpal_last_error());
	CHECK_IS(poll(&p, 1, 0), 0);
	CHECK_IS(put(ECHO, 2), 2);
	CHECK_IS(poll(&p, 1, test_patience() * 1000), 1);
	CHECK_IS(rpal_epoll_wait_user(epoll, &(struct epoll_event){}, 1, 0), 1);
	CHECK_IS(rpal_read_ptrs(sock, words, 2), 2);
	CHECK_IS(rpal_epoll_wait_user(epoll, &(struct epoll_event){}, 1, 0), 0);
	CHECK_IS(poll(&p, 1, 0), 0);
	test_end();
}

/* It is called when it waits, and so when it has seen what was written before. */
static void make_it_hold(void)
{
	int64_t two[2] = {}, r;

	CHECK_IS(put(HOLD, 0), 2);
	CHECK_IS(rpal_call(peer, P_ADD, two, sizeof(two), &r), 0);
}

static void full_queues(void)
{
	struct epoll_event ev = { .events = EPOLLRPALIN | EPOLLRPALOUT | EPOLLET,
				  .data.u64 = SOCKET };
	int64_t many[RPAL_MAX_WORDS] = {}, r;
	rpal_delivery_t how = 0;
	int i;

	test_begin("a full queue");
	CHECK_IS(rpal_epoll_ctl(epoll, EPOLL_CTL_MOD, sock, &ev), 0);
	CHECK_IS(rpal_epoll_wait(epoll, &ev, 1, test_patience() * 1000), 1);
	CHECK_IS(ev.events, EPOLLRPALOUT);
	make_it_hold();
	while (rpal_write_ptrs(peer, handle, many, 1) == 1)
		;
	CHECK_IS(rpal_call(peer, P_DRAIN, NULL, 0, &r), 0);
	CHECK_IS(r, RPAL_MAX_WORDS);
	/* All of a message or nothing. */
	make_it_hold();
	for (i = 0; i < RPAL_MAX_WORDS - 2; i++)
		CHECK_IS(rpal_write_ptrs_ex(peer, handle, many, 1, 0, &how), 1);
	CHECK(how == RPAL_DELIVERED || how == RPAL_QUEUED, "how %d", how);
	CHECK_IS(rpal_write_ptrs(peer, handle, many, 3), -RPAL_QUEUE_PUT_FAILED);
	CHECK_IS(rpal_write_ptrs(peer, handle, many, 2), 2);
	CHECK_IS(rpal_write_ptrs(peer, handle, many, 1), -RPAL_QUEUE_PUT_FAILED);
	while (rpal_epoll_wait(epoll, &ev, 1, 0) == 1)
		;
	CHECK_IS(rpal_call(peer, P_DRAIN, NULL, 0, &r), 0);
	CHECK_IS(r, RPAL_MAX_WORDS);
	CHECK_IS(rpal_epoll_wait(epoll, &ev, 1, test_patience() * 1000), 1);
	CHECK_IS(ev.events, EPOLLRPALOUT);
	ev.events = EPOLLIN | EPOLLRPALIN;
	CHECK_IS(rpal_epoll_ctl(epoll, EPOLL_CTL_MOD, sock, &ev), 0);
	test_end();
}

static int64_t ask(int proc, int64_t arg)
{
	int64_t r = -1;

	CHECK_IS(rpal_call(peer, proc, &arg, sizeof(arg), &r), 0);
	return r;
}

static const char *const busy_names[BUSY_WAYS] = { "loops", "loops, then sleeps", "sleeps" };

/* What the server has said of its own accord; its second word. */
static int64_t told(int64_t what)
{
	struct epoll_event ev = {};
	int64_t words[2] = { -1, -1 };

	CHECK_IS(rpal_epoll_wait(epoll, &ev, 1, test_patience() * 1000), 1);
	CHECK(ev.events == EPOLLRPALIN && ev.data.u64 == SOCKET, "events %x", ev.events);
	CHECK_IS(rpal_read_ptrs(sock, words, 2), 2);
	CHECK_IS(words[0], what);
	return words[1];
}

static void input_in_a_call(int way)
{
	int i;

	test_begin("input for a receiver in whose context a procedure %s", busy_names[way]);
	for (i = 0; i < 6; i++) {
		CHECK_IS(ask(P_PIPE_EVENTS, EPOLLIN | (i % 2 ? EPOLLET : 0)), 0);
		/* It waits for the first time since a message, or since a call. */
		if (i % 3)
			echo(i);
		CHECK_IS(ask(P_BUSY, way), 0);
		/* Reported, and not before the procedure had returned. */
		CHECK_IS(told(INPUT), false);
	}
	echo(i);
	test_end();
}

/* What is to come while a receiver sleeps. */
enum { MESSAGE = 1, READABLE = 2 };

struct waker {
	pid_t tid; /* who sleeps */
	int what;
	bool event_first;
	int64_t word;
};

static bool asleep(pid_t tid)
{
	char path[64], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "re");
	MUST(f && fscanf(f, "%*d (%*[^)]) %c", &state) == 1);
	fclose(f);
	return state == 'S';
}

static void *waker_thread(void *arg)
{
	struct waker *w = arg;
	int64_t r = -1;

	while (!asleep(w->tid))
		usleep(1000);
	if (w->what & READABLE && w->event_first)
		MUST(write(input[1], "", 1) == 1);
	/* The server sends it within a call of this thread's. */
	if (w->what & MESSAGE) {
		CHECK_IS(rpal_call(peer, P_SEND, &w->word, sizeof(w->word), &r), 0);
		CHECK_IS(r, 2);
	}
	if (w->what & READABLE && !w->event_first)
		MUST(write(input[1], "", 1) == 1);
	return NULL;
}

enum { WAIT, PWAIT, PWAIT2, WAITS };

static int wait_as(int way, struct epoll_event *ev)
{
	struct timespec patience = { .tv_sec = test_patience() };
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	switch (way) {
	case PWAIT:
		return rpal_epoll_pwait(epoll, ev, 2, test_patience() * 1000, &mask);
	case PWAIT2:
		return rpal_epoll_pwait2(epoll, ev, 2, &patience, NULL);
	}
	return rpal_epoll_wait(epoll, ev, 2, test_patience() * 1000);
}

/* Takes what was reported; which of both it was. */
static int take_event(const struct epoll_event *ev, int64_t word)
{
	int64_t words[2] = {};
	char byte;

	if (ev->data.u64 == PIPE) {
		CHECK_IS(ev->events, EPOLLIN);
		CHECK_IS(read(input[0], &byte, 1), 1);
		return READABLE;
	}
	CHECK_IS(ev->events, EPOLLRPALIN);
	CHECK_IS(rpal_read_ptrs(sock, words, 2), 2);
	CHECK(words[0] == SENT && words[1] == word, "%ld, %ld", words[0], words[1]);
	return MESSAGE;
}

static void woken(int way, struct waker *w)
{
	struct epoll_event ev[2];
	pthread_t thread;
	int i, n, seen = 0;

	MUST(!pthread_create(&thread, NULL, waker_thread, w));
	while (seen != w->what) {
		n = wait_as(way, ev);
		if (!CHECK(n > 0, "%d after %d of %d, errno %d", n, seen, w->what, errno))
			break;
		for (i = 0; i < n; i++)
			seen |= take_event(&ev[i], w->word);
	}
	pthread_join(thread, NULL);
	CHECK_IS(rpal_epoll_wait(epoll, ev, 2, 0), 0);
}

static void woken_from_sleep(int way)
{
	static const char *const names[WAITS] = { "rpal_epoll_wait()", "rpal_epoll_pwait(), masked",
						  "rpal_epoll_pwait2()" };
	struct waker w = { .tid = syscall(SYS_gettid) };
	int i;

	test_begin("messages and input wake a receiver that sleeps in %s", names[way]);
	add_pipe();
	for (i = 0; i < 24; i++) {
		w.what = i % 3 + 1;
		w.event_first = i % 2;
		w.word = i;
		woken(way, &w);
	}
	echo(i);
	rpal_close(input[0]);
	close(input[1]);
	test_end();
}

/* Each is woken by the other's message, on its own task by then: that is no depth. */
static void to_and_fro(void)
{
	int64_t words[2] = {}, two[2] = { 4000, 711 }, r;
	struct epoll_event ev;
	int i;

	test_begin("messages to and fro nest nothing");
	for (i = 0; i < 3 * RPAL_MAX_DEPTH; i++) {
		CHECK_IS(put(LATE, i), 2);
		CHECK_IS(rpal_epoll_wait(epoll, &ev, 1, test_patience() * 1000), 1);
		usleep(1000);
		CHECK_IS(rpal_read_ptrs(sock, words, 2), 2);
		CHECK_IS(words[1], i + 1);
		CHECK_IS(rpal_call(peer, P_ADD, two, sizeof(two), &r), 0);
		CHECK_IS(r, 4711);
	}
	test_end();
}

static int touch_word(va_list args)
{
	volatile int64_t *at = va_arg(args, int64_t *);
	bool store = va_arg(args, int);

	if (store)
		*at = 4711;
	return *at;
}

/* There: what is read is @want. Not there: it is told, and nothing else happens. */
static void reach(int64_t at, bool store, status_t status, int want)
{
	int ret = -1;

	CHECK_IS(rpal_copy_prepare(peer), RPAL_SUCCESS);
	CHECK_IS(rpal_read_access_safety(touch_word, &ret, (int64_t *)(intptr_t)at, (int)store),
		 status);
	CHECK_IS(ret, status ? -1 : want);
	if (status)
		CHECK(strstr(rpal_last_error(), "not there"), "\"%s\"", rpal_last_error());
	CHECK_IS(rpal_copy_finish(), RPAL_SUCCESS);
}

#define CAN_READ(at, want) reach(at, false, RPAL_SUCCESS, want)
#define CANNOT_READ(at)	   reach(at, false, RPAL_FAILURE, 0)
#define CAN_WRITE(at)	   reach(at, true, RPAL_SUCCESS, 4711)
#define CANNOT_WRITE(at)   reach(at, true, RPAL_FAILURE, 0)

static void vanished_memory(void)
{
	int64_t at;

	test_begin("memory of a peer that goes away");
	at = ask(P_PAGE, 0);
	MUST(at > 0);
	CAN_READ(at, 4711);
	CHECK_IS(ask(P_PROTECT, PROT_NONE), 0);
	CANNOT_READ(at);
	CANNOT_WRITE(at);
	CHECK_IS(ask(P_PROTECT, PROT_READ), 0);
	CAN_READ(at, 4711);
	CANNOT_WRITE(at);
	CHECK_IS(ask(P_PROTECT, PROT_READ | PROT_WRITE), 0);
	CAN_WRITE(at);
	CHECK_IS(ask(P_UNMAP, 0), 0);
	CANNOT_READ(at);
	CANNOT_WRITE(at);
	echo(5);
	test_end();
}

/* As what does not look for it does: the kernel, and the copy of a buffer. */
static void copy_out(int64_t at, bool there)
{
	struct rpal_buffer buffer = { .addr = (void *)(intptr_t)at, .len = 8 };
	int64_t word = 0;
	int fds[2];

	CHECK_IS(rpal_copy_buffer(peer, &word, &buffer, 0, 8), there ? 8 : -EFAULT);
	if (!there)
		CHECK(strstr(rpal_last_error(), "unmapped"), "\"%s\"", rpal_last_error());
	MUST(!pipe(fds));
	CHECK_IS(rpal_copy_prepare(peer), RPAL_SUCCESS);
	errno = 0;
	CHECK_IS(write(fds[1], buffer.addr, 8), there ? 8 : -1);
	CHECK_IS(errno, there ? 0 : EFAULT);
	CHECK_IS(rpal_copy_finish(), RPAL_SUCCESS);
	close(fds[0]);
	close(fds[1]);
}

/* What is its owner's SIGBUS is nobody else's signal. */
static void truncated_file(void)
{
	int64_t at, second;

	test_begin("a file of a peer's that becomes shorter");
	at = ask(P_FILE, 0);
	MUST(at > 0);
	second = at + PAGE;
	CAN_READ(at, 4711);
	CAN_READ(second, 4711);
	CHECK_IS(ask(P_TRUNCATE, PAGE), 0);
	CAN_READ(at, 4711);
	CANNOT_READ(second);
	CANNOT_WRITE(second);
	copy_out(at, true);
	copy_out(second, false);
	CHECK_IS(ask(P_TRUNCATE, 0), 0);
	CANNOT_READ(at);
	CANNOT_READ(second);
	CHECK_IS(ask(P_TRUNCATE, 2 * PAGE), 0);
	CAN_READ(second, 0);
	CAN_WRITE(at);
	/* None of it was touched before. */
	at = ask(P_FILE, 0);
	CHECK_IS(ask(P_TRUNCATE, 0), 0);
	CANNOT_READ(at);
	echo(8);
	test_end();
}

static int touch_for_ever(va_list args)
{
	volatile int64_t *at = va_arg(args, int64_t *);
	volatile int *touched = va_arg(args, int *);

	do
		*touched = *at == 4711;
	while (*touched >= 0);
	return 0;
}

struct cut {
	volatile int touched;
	int proc;
};

static void *cut_thread(void *arg)
{
	struct cut *c = arg;

	CHECK(call_wait_for(&c->touched, 1), "it reads nothing");
	CHECK_IS(ask(c->proc, 0), 0);
	return NULL;
}

static void vanishes_meanwhile(void)
{
	struct cut c = {};
	pthread_t thread;
	int64_t at;
	int i;

	test_begin("memory and files of a peer go away while they are read");
	for (i = 0; i < 20; i++) {
		c = (struct cut){ .proc = i % 2 ? P_TRUNCATE : P_UNMAP };
		at = ask(i % 2 ? P_FILE : P_PAGE, 0);
		MUST(!pthread_create(&thread, NULL, cut_thread, &c));
		CHECK_IS(rpal_copy_prepare(peer), RPAL_SUCCESS);
		CHECK_IS(rpal_read_access_safety(touch_for_ever, NULL, (int64_t *)(intptr_t)at,
						 &c.touched),
			 RPAL_FAILURE);
		CHECK_IS(rpal_copy_finish(), RPAL_SUCCESS);
		pthread_join(thread, NULL);
	}
	echo(9);
	test_end();
}

static void refusals(void)
{
	int64_t words[RPAL_MAX_WORDS + 1] = {};
	struct epoll_event ev = { .events = EPOLLRPALIN };
	int pair[2], tcp = socket(AF_INET, SOCK_STREAM, 0);
	uint64_t other;

	test_begin("refusals");
	CHECK_IS(rpal_write_ptrs(peer, handle, words, 0), -RPAL_INVALID_ARG);
	CHECK_IS(rpal_write_ptrs(peer, handle, words, RPAL_MAX_WORDS + 1), -RPAL_INVALID_ARG);
	CHECK_IS(rpal_write_ptrs(peer, handle, NULL, 1), -RPAL_INVALID_ARG);
	CHECK_IS(rpal_write_ptrs_ex(peer, handle, words, 1, 1U << 9, NULL), -RPAL_INVALID_ARG);
	CHECK_IS(rpal_write_ptrs(0, handle, words, 1), -RPAL_INVAL_SERVICE);
	CHECK_IS(rpal_write_ptrs(255, handle, words, 1), -RPAL_INVAL_SERVICE);
	CHECK_IS(rpal_write_ptrs(peer, handle + 1, words, 1), -RPAL_FDE_OUTDATED);
	CHECK_IS(rpal_write_ptrs(peer, handle ^ 1ULL << 50, words, 1), -RPAL_FDE_OUTDATED);
	CHECK_IS(rpal_read_ptrs(1000, words, 1), -1);
	CHECK_IS(rpal_read_ptrs(sock, words, -1), -1);
	CHECK(rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, sock, &ev) == -1 && errno == EEXIST, "%d",
	      errno);
	CHECK(rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, sock, NULL) == -1, "no event");
	CHECK(rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, 999, &ev) == -1 && errno == EBADF, "%d", errno);
	CHECK(rpal_epoll_wait(epoll, &ev, 0, 0) == -1 && errno == EINVAL, "errno %d", errno);
	CHECK(rpal_epoll_wait_user(999, &ev, 1, 0) == -1 && errno == EBADF, "errno %d", errno);
	MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	CHECK_IS(rpal_uds_fdmap_timeout((uint64_t)peer << 32 | pair[0], &other, 0), -EREMOTE);
	CHECK_IS(rpal_uds_fdmap_timeout((uint64_t)peer << 32 | tcp, &other, 0), -EPROTONOSUPPORT);
	CHECK_IS(rpal_uds_fdmap_timeout((uint64_t)peer << 32 | epoll, &other, 0), -ENOTSOCK);
	CHECK_IS(rpal_uds_fdmap_timeout((uint64_t)peer << 32 | 999, &other, 0), -EBADF);
	CHECK_IS(rpal_uds_fdmap_timeout(250ULL << 32 | sock, &other, 0), -ESRCH);
	CHECK_IS(rpal_uds_fdmap_timeout((uint64_t)peer << 32 | sock, NULL, 0), -EINVAL);
	CHECK_IS(rpal_get_peer_rid((uint64_t)peer << 32 | sock), 0);
	close(pair[0]);
	close(pair[1]);
	close(tcp);
	test_end();
}

static void again(const char *path)
{
	test_begin("the other end is closed; the service ends and begins again");
	CHECK_IS(put(CLOSE, 0), 2);
	while (put(ECHO, 0) == 2)
		usleep(1000);
	CHECK_IS(put(ECHO, 0), -RPAL_FDE_OUTDATED);
	rpal_close(sock);
	connect_to(path, EPOLLIN | EPOLLRPALIN);
	echo(6);
	rpal_close(sock);
	rpal_close(epoll);
	epoll = 0;
	rpal_exit();
	CHECK_IS(put(ECHO, 0), -RPAL_INVAL_SERVICE);
	client_init();
	connect_to(path, EPOLLIN | EPOLLRPALIN);
	echo(7);
	test_end();
}

static void gone(struct test_child *server)
{
	struct pollfd p = { .fd = management, .events = POLLIN };
	struct rpal_gone who = {};
	int old = peer, err;
	int64_t list = 0;

	test_begin("a peer that has died is told of");
	CHECK_IS(poll(&p, 1, 0), 0);
	CHECK_IS(rpal_clean_service_start(&list), RPAL_FAILURE);
	test_reap(server);
	CHECK_IS(poll(&p, 1, test_patience() * 1000), 1);
	CHECK_IS(rpal_clean_service_start(&list), RPAL_SUCCESS);
	CHECK_IS(rpal_clean_service_next(&list, &who), 1);
	CHECK(who.service_id == old && who.reason == RPAL_GONE_ENDED && who.key, "%d, %d",
	      who.service_id, who.reason);
	CHECK_IS(rpal_clean_service_next(&list, &who), 0);
	rpal_clean_service_end(&list);
	CHECK_IS(poll(&p, 1, 0), 0);
	CHECK_IS(rpal_read_gone(&who, 1), 0);
	err = put(ECHO, 0);
	CHECK_IS(err, -RPAL_INVAL_SERVICE);
	test_end();
}

static int client_role(void)
{
	struct test_spawn s = { .role = "server", .arg = "@call-loop", .group = "call" };
	struct test_child server;
	int i;

	client_init();
	MUST(!test_spawn(&server, &s));
	connect_to(s.arg, EPOLLIN | EPOLLRPALIN);
	calls_and_messages();
	plain_threads();
	full_queues();
	for (i = 0; i < BUSY_WAYS; i++)
		input_in_a_call(i);
	for (i = 0; i < WAITS; i++)
		woken_from_sleep(i);
	to_and_fro();
	vanished_memory();
	truncated_file();
	vanishes_meanwhile();
	refusals();
	again(s.arg);
	gone(&server);
	return test_failures() != 0;
}

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  {} };

int main(int argc, char **argv)
{
	test_init(argc, argv, roles);
	call_run_client("client");
	return test_finish();
}
