// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A service is killed and started again, under load: usage: stress-restart N
 *
 * Four processes call it and pass messages with it, all the time. N times it is
 * killed at any moment and started anew at the same path. Each caller must see an
 * error of those that are documented, be told once who has gone, link with the new
 * one, and never get an answer that is wrong or of an earlier service. Nothing may
 * pile up meanwhile: slots, links, references, descriptors, memory.
 *
 * Says how long it took from the SIGKILL to the caller's error, and to its first
 * right answer after that.
 */
#include "common-lazy.h"

#include <dirent.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <sys/wait.h>

#define PATH	  "@stress-restart"
#define CALLERS	  4
#define RECEIVERS 2 /* besides the one for messages */
#define SERVICES  "/sys/kernel/debug/rpal/services"
#define STATS	  "/sys/kernel/debug/rpal/stats"
#define REFCNT	  "/sys/module/rpal/refcnt"

/* Procedures of the service's own. */
enum { P_GENERATION = DO_OWN, P_KEY };

/* Counts of the program's own. */
enum {
	KILLED,	   /* services that are about to be killed, or were */
	KILLED_AT, /* when the last one was, in ns */
	ANSWERS,   /* to messages */
	BY_CALL,   /* errors: of a call, */
	BY_WRITE,  /* of writing a message, */
	BY_WAIT,   /* and the end of a wait for one */
	EARLY,	   /* key exchanges that were broken off */
	CALLS,	   /* with a right answer */
	SEEN,	   /* one for each caller: latest service it has used */
};

/* A message and its answer. */
enum { SEQ, SEED, RESULT, GENERATION, WORDS };

static bool pollable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

/* ------------------------------------------------------------------- service */

struct conn {
	int fd;
	int peer;
	uint64_t handle;
	bool owes;
	int64_t answer[WORDS];
};

static long generation;
static int epoll;

static int64_t p_generation(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	(void)arg, (void)len, (void)caller, (void)ctx;
	return generation;
}

static int64_t p_key(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	uint64_t key = 0;

	(void)arg, (void)len, (void)caller, (void)ctx;
	rpal_get_service_key(&key);
	return key;
}

static void answer_all(struct conn *c)
{
	int64_t words[WORDS];
	int n;

	while ((n = rpal_read_ptrs(c->fd, words, WORDS)) > 0) {
		if (n != WORDS)
			lazy_bad("a message of %d words", n);
		words[RESULT] = lazy_answer(0, DO_OWN, words[SEED]);
		words[GENERATION] = generation;
		/* One is under way at a time, so there is room. */
		n = rpal_write_ptrs(c->peer, c->handle, words, WORDS);
		if (n != WORDS)
			lazy_bad("answer: %d: %s", n, rpal_last_error());
	}
}

static void *message_thread(void *unused)
{
	struct epoll_event ev[CALLERS];
	int i, n;

	lazy_thread(true);
	for (;;) {
		n = rpal_epoll_wait(epoll, ev, CALLERS, -1);
		if (n < 0 && errno != EINTR)
			lazy_bad("wait: %d", errno);
		for (i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;

			if (!c->handle &&
			    rpal_uds_fdmap_timeout((uint64_t)c->peer << 32 | c->fd, &c->handle,
						   test_patience() * 1000))
				lazy_bad("map: %s", rpal_last_error());
			answer_all(c);
		}
	}
	return unused;
}

static void accept_one(int listener)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct epoll_event ev = { .events = EPOLLRPALIN, .data.ptr = c };

	MUST(c);
	c->peer = rpal_accept(listener, -1, &c->fd);
	if (c->peer < 0) {
		lazy_bad("accept: %d: %s", c->peer, rpal_last_error());
		free(c);
	} else if (rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &ev)) {
		lazy_bad("ADD: %d", errno);
	}
}

static int service_role(void)
{
	int i, listener;
	pthread_t t;

	generation = atol(test_arg);
	lazy_init(0, RECEIVERS + 1);
	MUST(!rpal_export(P_GENERATION, p_generation, NULL));
	MUST(!rpal_export(P_KEY, p_key, NULL));
	epoll = epoll_create1(EPOLL_CLOEXEC);
	lazy_start(&t, message_thread, NULL);
	for (i = 0; i < RECEIVERS; i++)
		lazy_start(&t, lazy_receiver, NULL);
	listener = rpal_listen(PATH);
	if (listener < 0)
		lazy_bad("listen: %s", rpal_last_error());
	MUST(listener >= 0);
	for (;;)
		accept_one(listener);
}

/* ------------------------------------------------------------------- callers */

/**
 * struct line - a caller's connection
 * @sock:	socket
 * @id:		service
 * @key:	its key
 * @generation:	which one it is
 * @handle:	its end of the socket
 * @seq:	messages sent
 */
struct line {
	int sock;
	int id;
	uint64_t key;
	long generation;
	uint64_t handle;
	int64_t seq;
};

/* What the driver gets at the end: ns from the SIGKILL on. */
struct samples {
	long n;
	long *error;
	long *again;
};

static int number;
static long killed_at; /* of the service that was used last; 0: none was */

static int dial(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = PATH };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	MUST(fd >= 0);
	addr.sun_path[0] = 0;
	if (!connect(fd, (struct sockaddr *)&addr,
		     offsetof(struct sockaddr_un, sun_path) + strlen(PATH)))
		return fd;
	if (errno != ECONNREFUSED)
		lazy_bad("connect: %d", errno);
	close(fd);
	return -1;
}

/* As long as nobody is there, each time after a longer pause. */
static bool reach(struct line *l)
{
	unsigned int pause = 1000;

	while (!lazy->stop) {
		l->sock = dial();
		l->id = l->sock < 0 ? -ECONNREFUSED :
				      rpal_exchange(l->sock, test_patience() * 1000);
		if (l->id > 0)
			return true;
		if (l->sock >= 0) {
			if (l->id != -ECONNABORTED && l->id != -ENOENT)
				lazy_bad("exchange: %d: %s", l->id, rpal_last_error());
			LAZY_ADD(lazy->count[EARLY]);
			close(l->sock);
		}
		usleep(pause + lazy_random() % pause);
		if (pause < 32000)
			pause *= 2;
	}
	return false;
}

/* Must the service have been killed already, or may it yet answer? */
static void must_be_killed(const struct line *l, const char *what, long err)
{
	if (lazy->count[KILLED] < l->generation)
		lazy_bad("%s: %ld, but service %ld lives: %s", what, err, l->generation,
			 rpal_last_error());
}

/* False: it has gone. */
static bool call_ok(const struct line *l, int err)
{
	if (!err) {
		LAZY_ADD(lazy->count[CALLS]);
		return true;
	}
	if (err != -EPIPE && err != -ECONNREFUSED)
		lazy_bad("call: %d: %s", err, rpal_last_error());
	must_be_killed(l, "call", err);
	LAZY_ADD(lazy->count[BY_CALL]);
	return false;
}

static bool call_own(const struct line *l, int proc, int64_t *result)
{
	return call_ok(l, lazy_call_checked(l->id, proc, NULL, 0, result, lazy_grant()));
}

static bool call_generation(struct line *l)
{
	int64_t r = -1;

	if (!call_own(l, P_GENERATION, &r))
		return false;
	if (r != l->generation)
		lazy_bad("service %ld answers in the place of %ld", (long)r, l->generation);
	return true;
}

static bool write_message(const struct line *l, int64_t *words)
{
	int n = rpal_write_ptrs(l->id, l->handle, words, WORDS);

	if (n == WORDS)
		return true;
	if (n != -RPAL_INVAL_SERVICE && n != -RPAL_ERR_PEER_MEM && n != -RPAL_FDE_OUTDATED)
		lazy_bad("write: %d: %s", n, rpal_last_error());
	must_be_killed(l, "write", n);
	LAZY_ADD(lazy->count[BY_WRITE]);
	return false;
}

/* The answer, or the end of the socket. */
static bool wait_for_answer(const struct line *l, int64_t *words)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	struct epoll_event ev[4];
	int i, n;

	while (test_now_ns() < end) {
		n = rpal_read_ptrs(l->sock, words, WORDS);
		if (n == WORDS)
			return true;
		if (n)
			lazy_bad("read: %d words", n);
		n = rpal_epoll_wait(epoll, ev, ARRAY_SIZE(ev), 1000);
		if (n < 0)
			lazy_bad("wait: %d", errno);
		for (i = 0; i < n; i++)
			if (ev[i].events & (EPOLLIN | EPOLLHUP)) {
				must_be_killed(l, "wait", ev[i].events);
				LAZY_ADD(lazy->count[BY_WAIT]);
				return false;
			}
	}
	lazy_bad("no answer, and no end: service %ld, killed %ld", l->generation,
		 (long)lazy->count[KILLED]);
	return false;
}

static bool pass_message(struct line *l)
{
	int64_t words[WORDS] = { ++l->seq, lazy_random() }, seed = words[SEED];

	if (!write_message(l, words) || !wait_for_answer(l, words))
		return false;
	if (words[SEQ] != l->seq || words[SEED] != seed || words[GENERATION] != l->generation ||
	    words[RESULT] != lazy_answer(0, DO_OWN, seed))
		lazy_bad("message %ld: answer %lx %lx %lx %ld", (long)l->seq, (long)words[SEQ],
			 (long)words[SEED], (long)words[RESULT], (long)words[GENERATION]);
	LAZY_ADD(lazy->count[ANSWERS]);
	return true;
}

/* As much as tells that the link works. False: it has gone meanwhile. */
static bool begin(struct line *l)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRPALIN };
	int64_t r = 0;

	l->generation = 0;
	l->handle = 0;
	l->seq = 0;
	if (rpal_epoll_ctl(epoll, EPOLL_CTL_ADD, l->sock, &ev))
		lazy_bad("ADD: %d", errno);
	if (!call_own(l, P_GENERATION, &r))
		return false;
	if (r <= generation)
		lazy_bad("service %ld after %ld", (long)r, generation);
	generation = l->generation = r;
	if (!call_own(l, P_KEY, &r))
		return false;
	l->key = r;
	if (rpal_uds_fdmap_timeout((uint64_t)l->id << 32 | l->sock, &l->handle,
				   test_patience() * 1000))
		lazy_bad("map: %s", rpal_last_error());
	return true;
}

static bool call_any(const struct line *l)
{
	return call_ok(l, lazy_call(l->id, lazy_pick(LAZY_ALL_OPS), lazy_grant(), true));
}

static bool step(struct line *l, int n)
{
	switch (n % 3) {
	case 0:
		return call_generation(l);
	case 1:
		return pass_message(l);
	}
	return call_any(l);
}

static void converse(struct line *l)
{
	int n;

	for (n = 0; !lazy->stop && step(l, n); n++)
		/* It has been seen to work; the driver waits for that. */
		if (n == 2)
			__atomic_store_n(&lazy->count[SEEN + number], l->generation,
					 __ATOMIC_RELEASE);
}

/* Told once, by what is documented, of this one. */
static void told(const struct line *l)
{
	struct rpal_gone gone[2] = {};
	int64_t list = 0;
	int n = 0;

	if (!pollable(lazy_fd, test_patience() * 1000)) {
		lazy_bad("nobody tells that service %ld has gone", l->generation);
		return;
	}
	if (l->generation % 2) {
		n = rpal_read_gone(gone, 2);
	} else if (!rpal_clean_service_start(&list)) {
		while (n < 2 && rpal_clean_service_next(&list, &gone[n]))
			n++;
		rpal_clean_service_end(&list);
	}
	if (n != 1 || gone[0].key != l->key || gone[0].service_id != l->id ||
	    gone[0].reason != RPAL_GONE_ENDED)
		lazy_bad("%d have gone, service %d of key %lx (%d), not %d of key %lx", n,
			 gone[0].service_id, (long)gone[0].key, gone[0].reason, l->id,
			 (long)l->key);
	if (pollable(lazy_fd, 0))
		lazy_bad("and somebody else has gone");
}

/* Descriptors must not pile up. */
static void count_files(void)
{
	static int first;
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	MUST(d);
	while (readdir(d))
		n++;
	closedir(d);
	if (!first)
		first = n;
	if (n != first)
		lazy_bad("%d open files, not %d", n, first);
}

static void *caller_thread(void *arg)
{
	struct samples *s = arg;
	struct line l;

	lazy_thread(true);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	while (reach(&l)) {
		if (begin(&l)) {
			if (killed_at)
				s->again[s->n++] = test_now_ns() - killed_at;
			converse(&l);
		}
		if (lazy->stop)
			break;
		killed_at = lazy->count[KILLED_AT];
		s->error[s->n] = test_now_ns() - killed_at;
		rpal_close(l.sock);
		told(&l);
		count_files();
	}
	return NULL;
}

static int caller_role(void)
{
	struct samples s = {};
	pthread_t t;

	number = atoi(test_arg);
	lazy_init(1 + number, 1);
	s.error = calloc(lazy->wanted + 1, sizeof(long));
	s.again = calloc(lazy->wanted + 1, sizeof(long));
	MUST(s.error && s.again);
	lazy_start(&t, caller_thread, &s);
	pthread_join(t, NULL);
	test_send_u64(TEST_FD_DRIVER, s.n);
	test_send(TEST_FD_DRIVER, s.error, s.n * sizeof(long));
	test_send(TEST_FD_DRIVER, s.again, s.n * sizeof(long));
	return 0;
}

/* -------------------------------------------------------------------- driver */

static const struct test_role roles[] = { { "service", service_role },
					  { "caller", caller_role },
					  {} };

static struct test_child callers[CALLERS];

static bool all_have_used(long n)
{
	int i;

	for (i = 0; i < CALLERS; i++)
		if (lazy->count[SEEN + i] < n)
			return false;
	return true;
}

static bool has_ended(struct test_child *c, const char *who)
{
	int status;

	if (waitpid(c->pid, &status, WNOHANG) != c->pid)
		return false;
	c->pid = 0;
	lazy_bad("%s has ended: %s", who, test_status(status));
	return true;
}

static bool wait_for_use(struct test_child *service, long n)
{
	u64 end = test_now_ns() + 2 * test_patience() * 1000000000ULL;
	int i;

	while (!all_have_used(n)) {
		for (i = 0; i < CALLERS; i++)
			if (has_ended(&callers[i], "a caller"))
				return false;
		if (has_ended(service, "the service"))
			return false;
		if (test_now_ns() > end) {
			lazy_bad("service %ld: not all callers go on", n);
			return false;
		}
		usleep(300);
	}
	return true;
}

/* Lines of placed processes; *links is how many links they have in all. */
static int services(int *links)
{
	FILE *f = fopen(SERVICES, "re");
	char line[256];
	int n = 0, l;

	*links = 0;
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*d %*d %*u %d", &l) == 1) {
			n++;
			*links += l;
		}
	if (f)
		fclose(f);
	return n;
}

/* Between two services the callers are all there is. */
static void nothing_left(void)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	static long first = -1;
	int n, links;
	long refs;

	do {
		n = services(&links);
		refs = test_file_number(REFCNT);
		if (first < 0 && n == CALLERS && !links) {
			/* What the dead have had is given back some time later. */
			usleep(1000000);
			first = refs = test_file_number(REFCNT);
		}
		if (n == CALLERS && !links && refs == first)
			return;
		usleep(2000);
	} while (test_now_ns() < end);
	lazy_bad("between two services: %d processes with %d links, %ld references, not %ld", n,
		 links, refs, first);
}

/* In kB, at the same moment of each round. */
struct memory {
	long slab;
	long available;
};

static struct memory *memory;

static void note_memory(long n)
{
	memory[n].slab = test_file_value("/proc/meminfo", "Slab");
	memory[n].available = test_file_value("/proc/meminfo", "MemAvailable");
}

static void mean(long from, long to, struct memory *m)
{
	long i;

	*m = (struct memory){};
	for (i = from; i < to; i++) {
		m->slab += memory[i].slab;
		m->available += memory[i].available;
	}
	m->slab /= to - from;
	m->available /= to - from;
}

/*
 * The last quarter of the rounds against the second. What is allowed is caches
 * that fill, and less than a page for each round; so a few rounds say nothing.
 */
static void check_memory(long n)
{
	long rounds = n / 2, most = 4096 + rounds * 2;
	struct memory then, now;

	if (n < 8)
		return;
	mean(n / 4, n / 2, &then);
	mean(n - n / 4, n, &now);
	lazy_need("slab_kb", now.slab - then.slab, LONG_MAX);
	lazy_need("used_kb", then.available - now.available, LONG_MAX);
	if (n < 200)
		return;
	if (now.slab - then.slab > most || then.available - now.available > most)
		lazy_bad("in %ld rounds: %ld kB more slab, %ld kB less available", rounds,
			 now.slab - then.slab, then.available - now.available);
}

static bool one_round(struct test_spawn *s, long n)
{
	struct test_child service;
	char arg[24];
	int err;
	bool ok;

	snprintf(arg, sizeof(arg), "%ld", n);
	s->role = "service";
	s->arg = arg;
	err = test_spawn(&service, s);
	if (err) {
		lazy_bad("service %ld does not start: %s", n, strerror(err));
		return false;
	}
	ok = wait_for_use(&service, n);
	usleep(test_random() % 10000);
	if (ok && has_ended(&service, "the service"))
		ok = false;
	lazy->count[KILLED_AT] = test_now_ns();
	__atomic_store_n(&lazy->count[KILLED], n, __ATOMIC_SEQ_CST);
	test_reap(&service);
	if (ok)
		nothing_left();
	note_memory(n - 1);
	return ok && !lazy->bad;
}

static int compare(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return x < y ? -1 : x > y;
}

/* Median and 99th percentile of all callers, in microseconds. */
static void percentiles(const char *what, long *all, long n)
{
	char name[40];

	if (!n)
		return;
	qsort(all, n, sizeof(*all), compare);
	snprintf(name, sizeof(name), "%s_p50_us", what);
	lazy_need(name, all[n / 2] / 1000, LONG_MAX);
	snprintf(name, sizeof(name), "%s_p99_us", what);
	lazy_need(name, all[n * 99 / 100] / 1000, LONG_MAX);
}

static void collect(void)
{
	long *error = calloc(CALLERS * (lazy->wanted + 1), sizeof(long));
	long *again = calloc(CALLERS * (lazy->wanted + 1), sizeof(long));
	long n = 0;
	u64 one;
	int i;

	MUST(error && again);
	for (i = 0; i < CALLERS; i++) {
		if (!test_try_recv(callers[i].sock, &one, sizeof(one)) || (long)one > lazy->wanted)
			continue;
		if (one && (!test_try_recv(callers[i].sock, error + n, one * sizeof(long)) ||
			    !test_try_recv(callers[i].sock, again + n, one * sizeof(long))))
			continue;
		n += one;
	}
	percentiles("error", error, n);
	percentiles("again", again, n);
}

int main(int argc, char **argv)
{
	struct test_spawn s = { .group = "stress" };
	char arg[8];
	long n;
	int i;

	test_init(argc, argv, roles);
	lazy_driver(argc > 1 ? atol(argv[1]) : 20, &s.shared);
	memory = calloc(lazy->wanted + 1, sizeof(*memory));
	MUST(memory);
	for (i = 0; i < CALLERS; i++) {
		snprintf(arg, sizeof(arg), "%d", i);
		s.role = "caller";
		s.arg = arg;
		MUST(!test_spawn(&callers[i], &s));
	}
	for (n = 1; n <= lazy->wanted && one_round(&s, n); n++)
		lazy->calls = n;
	lazy->stop = 1;
	lazy_watch(callers, CALLERS, NULL);
	collect();
	check_memory(lazy->calls);
	lazy_need("calls", lazy->count[CALLS], 1);
	lazy_need("answers", lazy->count[ANSWERS], 1);
	lazy_need("by_call", lazy->count[BY_CALL], 20);
	lazy_need("by_write", lazy->count[BY_WRITE], LONG_MAX);
	lazy_need("by_wait", lazy->count[BY_WAIT], 20);
	lazy_need("early", lazy->count[EARLY], LONG_MAX);
	return lazy_end("restart");
}
