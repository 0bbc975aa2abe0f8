// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Many connections, and clients that die: usage: stress-epoll [MESSAGES]
 *
 * A server has two receiver threads, with an epoll instance each for the first
 * half of the messages, and with one for both, by EPOLLONESHOT, for the second;
 * four client processes have 16 connections each. Every message has its
 * connection's sequence number and a checksum, and is answered; both sides check
 * that none is lost, doubled or out of order. Queues run full, in both
 * directions. Meanwhile clients are killed at any moment and started again: what
 * such a one had under way is excused, nothing else is.
 */
#include "call.h"

#include <sys/epoll.h>
#include <ucontext.h>

#define PATH	"@stress-epoll"
#define CLIENTS 4
#define CONNS	16 /* of each */
#define THREADS 2
#define WINDOW	6 /* messages of a connection without an answer */
#define ANSWER	4 /* words */

struct shared {
	volatile int stop;
	volatile int bad;
	volatile u64 messages; /* answered by the server */
	volatile u64 answers;  /* seen by clients */
	volatile u64 queued, delivered, full, outdated, hangups, accepted;
};

static struct shared *shared;

static void count(volatile u64 *counter)
{
	__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

/* Only the first ones are printed. */
static bool note_bad(const char *what, int line)
{
	bool show = __atomic_add_fetch(&shared->bad, 1, __ATOMIC_RELAXED) < 20;

	if (show)
		printf("%s:%d: not (%s): %s: ", test_name, line, what, rpal_last_error());
	return show;
}

#define GOOD(cond, ...)                                     \
	do {                                                \
		if (!(cond) && note_bad(#cond, __LINE__)) { \
			printf(__VA_ARGS__);                \
			printf("\n");                       \
		}                                           \
	} while (0)

static int64_t checksum(const int64_t *words, int n)
{
	uint64_t sum = n;

	while (n--)
		sum = (sum ^ *words++) * 0x9e3779b97f4a7c15ULL;
	return sum;
}

/* What a message consists of. The first word has its length, too. */
enum { HEAD, SUM, BODY };

static int make_message(int64_t *words, u32 seq)
{
	int n = BODY + test_random() % 8, i;

	if (test_random() % 16 == 0)
		n = RPAL_MAX_WORDS;
	words[HEAD] = (int64_t)seq << 8 | n;
	for (i = BODY; i < n; i++)
		words[i] = test_random();
	words[SUM] = 0;
	words[SUM] = checksum(words, n);
	return n;
}

/* Messages come whole: what follows the first word is there. */
static int read_message(int fd, int64_t *words, u32 *seq)
{
	int64_t sum;
	int n;

	if (rpal_read_ptrs(fd, words, 1) != 1)
		return 0;
	n = words[HEAD] & 0xff;
	*seq = words[HEAD] >> 8;
	GOOD(n >= BODY && n <= RPAL_MAX_WORDS, "length %d", n);
	if (n < BODY || n > RPAL_MAX_WORDS)
		return 0;
	GOOD(rpal_read_ptrs(fd, words + 1, n - 1) == n - 1, "a part of a message");
	sum = words[SUM];
	words[SUM] = 0;
	GOOD(checksum(words, n) == sum, "message %u", *seq);
	return n;
}

static void deliver(rpal_delivery_t how)
{
	count(how == RPAL_DELIVERED ? &shared->delivered : &shared->queued);
}

/* ------------------------------------------------------------------- server */

struct conn {
	int fd;
	int peer;
	int epoll;
	uint64_t handle;
	u32 expected;
	uint32_t waits; /* EPOLLRPALIN or EPOLLRPALOUT */
	bool closed;
	bool owes;
	int64_t answer[ANSWER];
};

static int epolls[THREADS];
static int listener;
static bool common; /* all of epolls are the same: an event is one thread's */

/* What a descriptor waits for, besides. */
static uint32_t oneshot(void)
{
	return common ? EPOLLONESHOT : 0;
}

static void close_conn(struct conn *c)
{
	c->closed = true;
	rpal_close(c->fd);
	count(&shared->hangups);
}

static void want(struct conn *c, uint32_t events)
{
	struct epoll_event ev = { .events = EPOLLIN | events | oneshot(), .data.ptr = c };

	c->waits = events;
	GOOD(!rpal_epoll_ctl(c->epoll, EPOLL_CTL_MOD, c->fd, &ev), "MOD: %d", errno);
}

/* False: not now, or never. */
static bool pay(struct conn *c)
{
	rpal_delivery_t how;
	int n = rpal_write_ptrs_ex(c->peer, c->handle, c->answer, ANSWER, 0, &how);

	if (n == ANSWER) {
		deliver(how);
		count(&shared->messages);
		c->owes = false;
		return true;
	}
	if (n == -RPAL_QUEUE_PUT_FAILED) {
		count(&shared->full);
		return false;
	}
	/* It is dying; the socket will say so. */
	GOOD(n == -RPAL_FDE_OUTDATED || n == -RPAL_INVAL_SERVICE || n == -RPAL_ERR_PEER_MEM,
	     "write: %d", n);
	count(&shared->outdated);
	c->owes = false;
	return false;
}

/* Returns what is to be waited for next. */
static uint32_t serve(struct conn *c)
{
	int64_t words[RPAL_MAX_WORDS];
	u32 seq;
	int n;

	if (c->owes && !pay(c))
		return EPOLLRPALOUT;
	while ((n = read_message(c->fd, words, &seq)) > 0) {
		GOOD(seq == c->expected, "message %u, not %u", seq, c->expected);
		c->expected = seq + 1;
		c->answer[0] = seq;
		c->answer[1] = checksum(words, n);
		c->answer[2] = ~c->answer[1];
		c->answer[3] = n;
		c->owes = true;
		if (!pay(c) && c->owes)
			return EPOLLRPALOUT;
	}
	return EPOLLRPALIN;
}

static void arm_listener(int op)
{
	struct epoll_event ev = { .events = EPOLLIN | oneshot() };

	MUST(!epoll_ctl(epolls[0], op, listener, &ev));
}

static void accept_conn(void)
{
	static unsigned int next;
	struct conn *c = calloc(1, sizeof(*c));
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN | oneshot(), .data.ptr = c };

	MUST(c);
	c->peer = rpal_accept(listener, 10000, &c->fd);
	if (c->peer < 0) {
		free(c); /* it was killed in the middle */
		return;
	}
	c->epoll = epolls[next++ % THREADS];
	c->waits = EPOLLRPALIN;
	count(&shared->accepted);
	/* Before its first event, which may come to the other thread. */
	if (rpal_epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->fd, &ev))
		GOOD(false, "ADD: %d", errno);
}

/* The other end's handle is wanted when there is something to answer. */
static bool map(struct conn *c)
{
	if (!c->handle && rpal_uds_fdmap_timeout((uint64_t)c->peer << 32 | c->fd, &c->handle, 2000))
		c->handle = 0;
	return c->handle;
}

static void handle(struct conn *c, uint32_t events)
{
	uint32_t wanted = c->waits;

	if (c->closed)
		return; /* its last event was in the same answer */
	if (!(events & (EPOLLRPALIN | EPOLLRPALOUT))) {
		close_conn(c);
		return;
	}
	if (map(c))
		wanted = serve(c);
	if (common || wanted != c->waits)
		want(c, wanted);
}

static void *server_thread(void *arg)
{
	int epoll = *(int *)arg, i, n;
	struct epoll_event ev[16];

	MUST(!rpal_thread_init());
	for (;;) {
		n = rpal_epoll_wait(epoll, ev, 16, -1);
		if (n < 0)
			GOOD(errno == EINTR, "wait: %d", errno);
		for (i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;

			if (c) {
				handle(c, ev[i].events);
				continue;
			}
			accept_conn();
			if (common)
				arm_listener(EPOLL_CTL_MOD);
		}
	}
	return NULL;
}

/* What it died of, for the reader of the log. */
static void on_fault(int sig, siginfo_t *si, void *context)
{
	const greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
	char line[256], path[] = "/proc/self/maps";
	FILE *f = fopen(path, "r");
	unsigned long from, to;

	printf("server: signal %d, code %d, address %p, ip %llx, sp %llx, err %llx, own slot %lx\n",
	       sig, si->si_code, si->si_addr, g[REG_RIP], g[REG_RSP], g[REG_ERR],
	       (unsigned long)rpal_get_service_id() << 39);
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &from, &to) == 2 && (u64)g[REG_RIP] >= from &&
		    (u64)g[REG_RIP] < to)
			printf("%s", line);
	fflush(stdout);
	_exit(99);
}

static void show_faults(void)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGILL, &sa, NULL);
}

static int server_role(void)
{
	pthread_t thread;
	int i;

	common = *test_arg;
	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	show_faults();
	call_init(THREADS);
	for (i = 0; i < THREADS; i++) {
		epolls[i] = common && i ? epolls[0] : epoll_create1(EPOLL_CLOEXEC);
		MUST(epolls[i] >= 0);
	}
	listener = rpal_listen(PATH);
	MUST(listener >= 0);
	arm_listener(EPOLL_CTL_ADD);
	for (i = 0; i < THREADS; i++)
		MUST(!pthread_create(&thread, NULL, server_thread, &epolls[i]));
	for (;;)
		pause();
}

/* ------------------------------------------------------------------- client */

struct line {
	int fd;
	int peer;
	uint64_t handle;
	u32 next, answered;
	int64_t sums[WINDOW];
	int64_t message[RPAL_MAX_WORDS];
	int len; /* of one that found no room */
};

static void open_line(struct line *l, int epoll)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN | EPOLLRPALOUT | EPOLLET,
				  .data.ptr = l };

	l->peer = rpal_connect(PATH, test_patience() * 1000, &l->fd);
	GOOD(l->peer > 0, "connect: %d", l->peer);
	if (l->peer < 0)
		_exit(1);
	GOOD(!rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, l->fd, &ev), "ADD: %d", errno);
	if (rpal_uds_fdmap_timeout((uint64_t)l->peer << 32 | l->fd, &l->handle,
				   test_patience() * 1000)) {
		GOOD(false, "map");
		_exit(1);
	}
}

static void receive(struct line *l)
{
	int64_t words[ANSWER];
	int n;

	while ((n = rpal_read_ptrs(l->fd, words, ANSWER)) > 0) {
		GOOD(n == ANSWER, "%d words", n);
		GOOD(words[0] == l->answered, "answer %ld, not %u", (long)words[0], l->answered);
		GOOD(words[1] == l->sums[l->answered % WINDOW] && words[2] == ~words[1],
		     "answer %u", l->answered);
		l->answered++;
		count(&shared->answers);
	}
	GOOD(!n, "read: %d", n);
}

static void transmit(struct line *l)
{
	rpal_delivery_t how;
	int n;

	while (l->next - l->answered < WINDOW && (l->len || !shared->stop)) {
		if (!l->len) {
			l->len = make_message(l->message, l->next);
			l->sums[l->next % WINDOW] = l->message[SUM];
		}
		n = rpal_write_ptrs_ex(l->peer, l->handle, l->message, l->len, 0, &how);
		if (n == -RPAL_QUEUE_PUT_FAILED) {
			count(&shared->full);
			return;
		}
		GOOD(n == l->len, "write: %d", n);
		if (n != l->len)
			_exit(1);
		deliver(how);
		l->len = 0;
		l->next++;
		receive(l);
	}
}

static bool all_answered(const struct line *lines)
{
	int i;

	for (i = 0; i < CONNS; i++)
		if (lines[i].len || lines[i].next != lines[i].answered)
			return false;
	return true;
}

static int client_role(void)
{
	static struct line lines[CONNS];
	u64 end = test_now_ns() + 10 * test_patience() * 1000000000ULL;
	int epoll = epoll_create1(EPOLL_CLOEXEC), i, n;
	struct epoll_event ev[CONNS];

	shared = test_shared_map(sizeof(*shared), TEST_FD_SHARED);
	test_seed(getpid() * 2654435761U | 1);
	call_init(1);
	MUST(!rpal_thread_init());
	for (i = 0; i < CONNS; i++)
		open_line(&lines[i], epoll);
	while (!shared->stop || !all_answered(lines)) {
		for (i = 0; i < CONNS; i++) {
			receive(&lines[i]);
			transmit(&lines[i]);
		}
		n = rpal_epoll_wait(epoll, ev, CONNS, 1000);
		GOOD(n >= 0, "wait: %d", errno);
		if (shared->stop && test_now_ns() > end) {
			GOOD(false, "answers are missing");
			break;
		}
	}
	return shared->bad != 0;
}

/* ------------------------------------------------------------------- driver */

static int shared_fd;
static u64 kills;

static void start(struct test_child *c, const char *role, const char *arg)
{
	struct test_spawn s = { .role = role, .arg = arg, .group = "call", .shared = shared_fd };

	MUST(!test_spawn(c, &s));
}

static bool is_dead(const struct test_child *c)
{
	siginfo_t si = {};

	return !waitid(P_PID, c->pid, &si, WEXITED | WNOHANG | WNOWAIT) && si.si_pid;
}

/* Until enough were answered: kill one, start it anew. False: it goes no further. */
static bool run(struct test_child *clients, const struct test_child *server, u64 n)
{
	u64 last = 0, since = test_now_ns();

	while (shared->messages < n && !shared->bad) {
		int i = test_random() % CLIENTS;

		usleep(50000 + test_random() % 400000);
		if (is_dead(server) || is_dead(&clients[i]))
			return CHECK(false, "a process has ended by itself");
		if (shared->messages != last)
			since = test_now_ns();
		else if (test_now_ns() - since > test_patience() * 1000000000ULL)
			return CHECK(false, "nothing comes any more");
		last = shared->messages;
		if (test_random() % 4)
			continue;
		test_reap(&clients[i]);
		kills++;
		start(&clients[i], "client", NULL);
	}
	return true;
}

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  {} };

/* Until @n were answered in all. */
static void phase(u64 n, const char *sets)
{
	struct test_child server, clients[CLIENTS];
	int i, status;

	shared->stop = 0;
	start(&server, "server", sets);
	for (i = 0; i < CLIENTS; i++)
		start(&clients[i], "client", NULL);
	if (!run(clients, &server, n))
		shared->bad++;
	shared->stop = 1;
	for (i = 0; i < CLIENTS; i++) {
		status = test_wait(clients[i].pid);
		if (!CHECK(!status, "client %d: %s", i, test_status(status)))
			shared->bad++;
		close(clients[i].sock);
	}
	if (is_dead(&server)) {
		CHECK(false, "the server: %s", test_status(test_wait(server.pid)));
		server.pid = 0;
		shared->bad++;
	}
	test_reap(&server);
}

int main(int argc, char **argv)
{
	u64 n = argc > 1 ? strtoul(argv[1], NULL, 0) : 1000000;

	test_init(argc, argv, roles);
	shared = test_shared_new(sizeof(*shared), &shared_fd);
	phase(n / 2, "");
	phase(n, "common");
	printf("stress: name=epoll n=%lu bad=%d answers=%lu kills=%lu queued=%lu delivered=%lu full=%lu outdated=%lu hangups=%lu accepted=%lu\n",
	       (unsigned long)(shared->messages < n ? shared->messages : n), shared->bad,
	       (unsigned long)shared->answers, (unsigned long)kills, (unsigned long)shared->queued,
	       (unsigned long)shared->delivered, (unsigned long)shared->full,
	       (unsigned long)shared->outdated, (unsigned long)shared->hangups,
	       (unsigned long)shared->accepted);
	return shared->bad || test_finish();
}
