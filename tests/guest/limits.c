// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Limits per user: how many placed programs, services, threads and requests one
 * user may have; and that all of them are given back, however they end.
 */
#include "common.h"

#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PARAMETERS "/sys/module/rpal/parameters/"
#define USERS	   "/sys/kernel/debug/rpal/users"
#define USER	   1000
#define OTHER	   1001

enum {
	OP_THREADS = OP_USER, /* make some threads that register */
	OP_THREADS_EXIT,      /* some of them end their registration, and themselves */
	OP_THREADS_GO,	      /* some of them just end */
};

enum what { PLACED, SERVICES, THREADS, LINKS, NR_WHAT };

static const char *const parameters[NR_WHAT] = {
	PARAMETERS "user_placed",
	PARAMETERS "user_services",
	PARAMETERS "user_threads",
	PARAMETERS "user_links",
};

/* --------------------------------------------------------------- in the puppet */

static int dev = -1;

static int map_area(int fd)
{
	struct rpal_query q = { .size = sizeof(q) };
	u64 size;

	if (ioctl(fd, RPAL_IOC_QUERY, &q))
		return -errno;
	/* Of a service that has asked for one receiver. */
	size = (q.max_senders + 1) * (u64)q.block_size;
	size = (size + PAGE - 1) & -PAGE;
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -errno :
											   0;
}

/* The kernel's rseq and a registered thread do not go together. */
static void rseq_off(void)
{
	void *area = (char *)__builtin_thread_pointer() + __rseq_offset;
	unsigned int len;

	for (len = 32; len <= 512; len += 32)
		if (!syscall(SYS_rseq, area, len, 1, RSEQ_SIG))
			return;
}

static int register_thread(int fd)
{
	struct rpal_thread t = { .size = sizeof(t), .flags = RPAL_THREAD_SENDER };

	return ioctl(fd, RPAL_IOC_THREAD, &t) ? -errno : 0;
}

#define MAX_THREADS 64

static struct worker {
	pthread_t thread;
	int result;
	int end; /* how, once that is known */
} workers[MAX_THREADS];
static int nr_workers;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void *worker(void *arg)
{
	struct worker *w = arg;
	int r;

	rseq_off();
	r = register_thread(dev);
	pthread_mutex_lock(&lock);
	w->result = r;
	pthread_cond_broadcast(&changed);
	while (!w->end && !r)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	if (!r && w->end == OP_THREADS_EXIT)
		MUST(!ioctl(dev, RPAL_IOC_THREAD_EXIT));
	return NULL;
}

/* How many of them could be registered; why not the last, in *err. */
static int start_workers(int n, int *err)
{
	int good = 0;

	while (n--) {
		struct worker *w = &workers[nr_workers];

		MUST(nr_workers < MAX_THREADS);
		w->result = 1;
		w->end = 0;
		MUST(!pthread_create(&w->thread, NULL, worker, w));
		pthread_mutex_lock(&lock);
		while (w->result == 1)
			pthread_cond_wait(&changed, &lock);
		pthread_mutex_unlock(&lock);
		if (w->result) {
			*err = w->result;
			pthread_join(w->thread, NULL);
		} else {
			good++;
			nr_workers++;
		}
	}
	return good;
}

static void end_workers(int n, int how)
{
	while (n--) {
		struct worker *w = &workers[--nr_workers];

		pthread_mutex_lock(&lock);
		w->end = how;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
		pthread_join(w->thread, NULL);
	}
}

static void user_op(const struct test_cmd *c, struct test_res *r)
{
	int err = 0;

	switch (c->op) {
	case OP_THREADS:
		if (dev < 0) {
			dev = c->a[1];
			r->ret = map_area(dev);
			if (r->ret)
				break;
		}
		r->ret = start_workers(c->a[0], &err);
		r->val = -err;
		break;
	case OP_THREADS_EXIT:
	case OP_THREADS_GO:
		end_workers(c->a[0], c->op);
		break;
	}
}

/* --------------------------------------------------------------- in the driver */

static void limit(enum what what, unsigned int n)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", n);
	MUST(test_write_file(parameters[what], text));
}

/* What a user has, by the module's own list; 0 if it is not in it. */
static long has(uid_t uid, enum what what)
{
	unsigned int n[NR_WHAT] = {}, who;
	char line[128];
	FILE *f = fopen(USERS, "re");
	long r = 0;

	MUST(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%u %u %u %u %u", &who, &n[0], &n[1], &n[2], &n[3]) == 5 &&
		    who == uid)
			r = n[what];
	fclose(f);
	return r;
}

static bool is_listed(uid_t uid)
{
	char line[128];
	FILE *f = fopen(USERS, "re");
	bool r = false;

	MUST(f);
	while (fgets(line, sizeof(line), f))
		r |= line[0] != 'u' && strtoul(line, NULL, 10) == uid;
	fclose(f);
	return r;
}

/* A process that has been waited for may take its last steps yet. */
#define CHECK_COMES_TO(expr, want)                                          \
	do {                                                                \
		u64 end_ = test_now_ns() + test_patience() * 1000000000ULL; \
		while ((expr) != (want) && test_now_ns() < end_)            \
			usleep(10000);                                      \
		CHECK_IS(expr, want);                                       \
	} while (0)

static void check_nothing(uid_t uid)
{
	CHECK_COMES_TO(has(uid, PLACED), 0);
	CHECK_COMES_TO(has(uid, SERVICES), 0);
	CHECK_COMES_TO(has(uid, THREADS), 0);
	CHECK_COMES_TO(has(uid, LINKS), 0);
	CHECK_COMES_TO(is_listed(uid), false);
}

/* 0 or errno of the exec. */
static int start(struct puppet *p, uid_t uid)
{
	struct test_spawn s = { .group = "limits", .uid = uid };

	return puppet_start(p, &s);
}

static void must_start(struct puppet *p, uid_t uid)
{
	errno = start(p, uid);
	MUST(!errno);
}

static void end(struct puppet *p)
{
	CHECK_IS(puppet_end(p), 0);
}

static void placed(void)
{
	struct puppet p[4], root, other, late;
	int i;

	test_begin("placed programs");
	check_nothing(USER);
	limit(PLACED, 3);
	for (i = 0; i < 3; i++)
		must_start(&p[i], USER);
	CHECK_IS(has(USER, PLACED), 3);
	CHECK_IS(start(&p[3], USER), EDQUOT);
	CHECK_IS(has(USER, PLACED), 3);
	must_start(&other, OTHER);
	CHECK_IS(has(OTHER, PLACED), 1);
	end(&other);
	puppet_kill(&p[0]);
	CHECK_COMES_TO(has(USER, PLACED), 2);
	must_start(&p[0], USER);
	CHECK_IS(start(&p[3], USER), EDQUOT);
	test_end();

	test_begin("a limit that changes holds for what comes then");
	limit(PLACED, 1);
	CHECK_IS(has(USER, PLACED), 3);
	end(&p[0]);
	CHECK_COMES_TO(has(USER, PLACED), 2);
	CHECK_IS(start(&p[3], USER), EDQUOT);
	limit(PLACED, 3);
	must_start(&p[0], USER);
	CHECK_IS(start(&p[3], USER), EDQUOT);
	limit(PLACED, 0);
	must_start(&p[3], USER);
	CHECK_IS(has(USER, PLACED), 4);
	limit(PLACED, 3);
	test_end();

	test_begin("CAP_SYS_RESOURCE is beyond limits, and counted");
	limit(PLACED, 1);
	i = has(0, PLACED);
	must_start(&root, 0);
	must_start(&late, 0);
	CHECK_IS(has(0, PLACED), i + 2);
	end(&late);
	end(&root);
	test_end();
	for (i = 0; i < 4; i++)
		end(&p[i]);
	limit(PLACED, 0);
	check_nothing(USER);
	check_nothing(OTHER);
}

/* The debug kernel is built without. */
static bool have_user_namespaces(void)
{
	return !access("/proc/self/ns/user", F_OK);
}

static void services(void)
{
	struct puppet p[3], root;
	int i;

	for (i = 0; i < 3; i++)
		must_start(&p[i], USER);
	must_start(&root, 0);
	test_begin("services");
	limit(SERVICES, 2);
	CHECK_IS(puppet_register(&p[0]), 0);
	CHECK_IS(puppet_register(&p[1]), 0);
	CHECK_IS(has(USER, SERVICES), 2);
	CHECK_IS(puppet_register(&p[2]), -EDQUOT);
	/* What is wrong otherwise is said first. */
	CHECK_IS(puppet_register(&p[1]), -EBUSY);
	CHECK_IS(puppet_unregister(&p[1]), 0);
	CHECK_IS(has(USER, SERVICES), 1);
	CHECK_IS(puppet_register(&p[2]), 0);
	CHECK_IS(puppet_register(&p[1]), -EDQUOT);
	puppet_sys(&p[2], SYS_close, p[2].fd);
	CHECK_IS(has(USER, SERVICES), 1);
	CHECK_IS(puppet_register(&p[1]), 0);
	puppet_kill(&p[0]);
	CHECK_COMES_TO(has(USER, SERVICES), 1);
	test_end();

	test_begin("a user namespace of one's own gives no more");
	limit(SERVICES, 1);
	CHECK_IS(puppet_unregister(&p[1]), 0);
	must_start(&p[0], USER);
	CHECK_IS(puppet_register(&p[0]), 0);
	if (have_user_namespaces())
		CHECK_IS(puppet_sys(&p[1], SYS_unshare, CLONE_NEWUSER), 0);
	else
		test_skip_case("no user namespaces in this kernel");
	CHECK_IS(puppet_register(&p[1]), -EDQUOT);
	test_end();

	test_begin("a service is its user's, whatever its process becomes");
	i = has(0, SERVICES);
	CHECK_IS(puppet_register(&root), 0);
	CHECK_IS(has(0, SERVICES), i + 1);
	CHECK_IS(puppet_sys(&root, SYS_setresuid, USER, USER, USER), 0);
	CHECK_IS(has(0, SERVICES), i + 1);
	CHECK_IS(has(USER, SERVICES), 1);
	CHECK_IS(puppet_unregister(&root), 0);
	CHECK_IS(has(0, SERVICES), i);
	CHECK_IS(puppet_register(&root), -EDQUOT);
	limit(SERVICES, 0);
	CHECK_IS(puppet_register(&root), 0);
	CHECK_IS(has(USER, SERVICES), 2);
	test_end();
	end(&root);
	for (i = 0; i < 3; i++)
		end(&p[i]);
	check_nothing(USER);
}

static void links(void)
{
	struct puppet p[4];
	u32 state = 0;
	int i;

	for (i = 0; i < 4; i++) {
		must_start(&p[i], USER);
		CHECK_IS(puppet_register(&p[i]), 0);
	}
	test_begin("requests for links");
	limit(LINKS, 2);
	CHECK_IS(puppet_request(&p[0], p[1].key, NULL), 0);
	CHECK_IS(puppet_request(&p[0], p[2].key, NULL), 0);
	CHECK_IS(has(USER, LINKS), 2);
	CHECK_IS(puppet_request(&p[0], p[3].key, NULL), -EDQUOT);
	CHECK_IS(puppet_request(&p[0], p[2].key, NULL), -EALREADY);
	/* The other side of a link counts as much. */
	CHECK_IS(puppet_request(&p[1], p[0].key, NULL), -EDQUOT);
	CHECK_IS(puppet_state(&p[0], &p[1]), RPAL_LINK_ASKED);
	CHECK_IS(puppet_release(&p[0], p[2].key, NULL), 0);
	CHECK_IS(has(USER, LINKS), 1);
	CHECK_IS(puppet_request(&p[1], p[0].key, &state), 0);
	CHECK(state & RPAL_LINK_LINKED, "%x", state);
	CHECK_IS(has(USER, LINKS), 2);
	test_end();

	test_begin("links that end give both sides back");
	CHECK_IS(puppet_release(&p[1], p[0].key, NULL), 0);
	CHECK_IS(has(USER, LINKS), 0);
	limit(LINKS, 0);
	puppet_link(&p[0], &p[1]);
	puppet_link(&p[0], &p[2]);
	puppet_link(&p[1], &p[2]);
	CHECK_IS(puppet_request(&p[0], p[3].key, NULL), 0);
	CHECK_IS(puppet_request(&p[3], p[1].key, NULL), 0);
	CHECK_IS(has(USER, LINKS), 8);
	CHECK_IS(puppet_unregister(&p[2]), 0);
	CHECK_IS(has(USER, LINKS), 4);
	puppet_kill(&p[0]);
	CHECK_COMES_TO(has(USER, LINKS), 1);
	puppet_kill(&p[1]);
	CHECK_COMES_TO(has(USER, LINKS), 0);
	CHECK_IS(has(USER, SERVICES), 1);
	test_end();
	end(&p[2]);
	end(&p[3]);
	check_nothing(USER);
}

/* Its links are given back; what tells of their ends is not to pile up instead. */
static void unread_notices(void)
{
	struct puppet p[2];
	long n = 0;
	int i;

	must_start(&p[0], USER);
	must_start(&p[1], USER);
	CHECK_IS(puppet_register(&p[0]), 0);
	CHECK_IS(puppet_register(&p[1]), 0);
	test_begin("notices that are not read");
	for (i = 0; i < RPAL_MAX_NOTICES + 100; i++) {
		if (!CHECK(!puppet_request(&p[0], p[1].key, NULL) &&
				   !puppet_request(&p[1], p[0].key, NULL) &&
				   !puppet_release(&p[1], p[0].key, NULL),
			   "round %d", i))
			break;
	}
	n = puppet_sys(&p[0], SYS_read, p[0].fd, p[0].buf, PUPPET_BUF);
	CHECK_IS(n, RPAL_MAX_NOTICES * (long)sizeof(struct rpal_notice));
	CHECK_IS(has(USER, LINKS), 0);
	test_end();
	end(&p[0]);
	end(&p[1]);
	check_nothing(USER);
}

static long do_op(struct puppet *p, u64 op, u64 n, int *err)
{
	struct test_cmd c = { .op = op, .a = { n, p->fd } };
	struct test_res r;

	puppet_do(p, &c, &r);
	if (err)
		*err = r.val;
	return r.ret;
}

static void threads(void)
{
	struct puppet a, b;
	int err = 0;

	must_start(&a, USER);
	must_start(&b, USER);
	CHECK_IS(puppet_register(&a), 0);
	CHECK_IS(puppet_register(&b), 0);
	test_begin("threads, of all services together");
	limit(THREADS, 5);
	CHECK_IS(do_op(&a, OP_THREADS, 3, &err), 3);
	CHECK_IS(do_op(&b, OP_THREADS, 4, &err), 2);
	CHECK_IS(err, EDQUOT);
	CHECK_IS(has(USER, THREADS), 5);
	do_op(&a, OP_THREADS_EXIT, 1, NULL);
	CHECK_IS(has(USER, THREADS), 4);
	CHECK_IS(do_op(&b, OP_THREADS, 2, &err), 1);
	CHECK_IS(err, EDQUOT);
	do_op(&b, OP_THREADS_GO, 2, NULL);
	CHECK_COMES_TO(has(USER, THREADS), 3);
	CHECK_IS(do_op(&a, OP_THREADS, 3, &err), 2);
	CHECK_IS(err, EDQUOT);
	test_end();

	test_begin("threads of services that end, and of processes that are killed");
	CHECK_IS(has(USER, THREADS), 5);
	CHECK_IS(puppet_unregister(&a), 0);
	CHECK_COMES_TO(has(USER, THREADS), 1);
	limit(THREADS, 0);
	CHECK_IS(do_op(&b, OP_THREADS, 20, &err), 20);
	CHECK_IS(has(USER, THREADS), 21);
	puppet_kill(&b);
	CHECK_COMES_TO(has(USER, THREADS), 0);
	test_end();
	puppet_kill(&a);
	check_nothing(USER);
}

/* ---------------------------------------------------- everything at any moment */

#define CHURN_THREADS 4

static u64 churn_peer;

/* Registers and leaves, asks and takes back, and is killed in the middle of it. */
static void *churn(void *seed)
{
	struct rpal_register reg;
	struct rpal_request req;

	test_seed((long)seed);
	rseq_off();
	for (;;) {
		switch (test_random() % 8) {
		case 0:
			ioctl(dev, RPAL_IOC_UNREGISTER);
			break;
		case 1:
		case 2:
			if (!test_register(dev, &reg))
				map_area(dev);
			break;
		case 3:
			test_request(dev, churn_peer, &req);
			break;
		case 4:
			test_release(dev, churn_peer, &req);
			break;
		case 5:
		case 6:
			register_thread(dev);
			break;
		case 7:
			ioctl(dev, RPAL_IOC_THREAD_EXIT);
			break;
		}
	}
	return NULL;
}

static int churn_role(void)
{
	pthread_t t;
	long i;

	churn_peer = strtoull(test_arg, NULL, 16);
	dev = test_open();
	MUST(dev >= 0);
	test_send_u64(TEST_FD_DRIVER, 0);
	for (i = 1; i < CHURN_THREADS; i++)
		MUST(!pthread_create(&t, NULL, churn, (void *)((long)test_random() + i)));
	churn((void *)(long)test_random());
	return 0;
}

static void races(void)
{
	int rounds = test_patience() > 100 ? 40 : 100, i, j;
	struct test_spawn s = { .group = "limits", .uid = USER, .role = "churn" };
	struct test_child c[3];
	struct puppet peer;
	char key[24];

	test_begin("counts are exact, whatever was killed in the middle of it");
	must_start(&peer, USER);
	CHECK_IS(puppet_register(&peer), 0);
	snprintf(key, sizeof(key), "%lx", peer.key);
	s.arg = key;
	/* So small that they are often met. */
	limit(SERVICES, 3);
	limit(THREADS, 7);
	limit(LINKS, 2);
	for (i = 0; i < rounds;) {
		for (j = 0; j < 3; j++, i++) {
			MUST(!test_spawn(&c[j], &s));
			test_recv_u64(c[j].sock);
		}
		usleep(test_random() % 30000);
		CHECK(has(USER, SERVICES) <= 3, "%ld services", has(USER, SERVICES));
		CHECK(has(USER, THREADS) <= 7, "%ld threads", has(USER, THREADS));
		CHECK(has(USER, LINKS) <= 2, "%ld requests", has(USER, LINKS));
		for (j = 0; j < 3; j++)
			test_reap(&c[j]);
	}
	CHECK_COMES_TO(has(USER, PLACED), 1);
	CHECK_COMES_TO(has(USER, SERVICES), 1);
	CHECK_COMES_TO(has(USER, THREADS), 0);
	CHECK_COMES_TO(has(USER, LINKS), 0);
	end(&peer);
	check_nothing(USER);
	test_end();
}

static const struct test_role roles[] = { { "churn", churn_role }, {} };

int main(int argc, char **argv)
{
	long before[NR_WHAT];
	int i;

	test_user_op = user_op;
	test_init(argc, argv, roles);
	if (access(USERS, R_OK)) {
		printf("skip %s: no debugfs\n", test_name);
		return TEST_SKIP;
	}
	for (i = 0; i < NR_WHAT; i++)
		before[i] = test_file_number(parameters[i]);
	test_begin("there are limits, and they are those that are documented");
	CHECK_IS(before[PLACED], 170);
	CHECK_IS(before[SERVICES], 170);
	CHECK_IS(before[THREADS], 16384);
	CHECK_IS(before[LINKS], 16384);
	test_end();
	for (i = 0; i < NR_WHAT; i++)
		limit(i, 0);
	placed();
	services();
	links();
	unread_notices();
	threads();
	races();
	for (i = 0; i < NR_WHAT; i++)
		limit(i, before[i]);
	return test_finish();
}
