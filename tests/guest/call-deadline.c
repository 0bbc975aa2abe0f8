// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Calls that end at a deadline, or because another thread wants them to, whatever
 * the procedure does; and what it answers then goes to nobody.
 */
#include "call.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "../../lib/internal.h"

enum {
	P_LOOP,	 /* until it is let go */
	P_SLEEP, /* the same, asleep */
	P_LET_GO,
	P_HELD,	   /* how many are */
	P_ECHO,	   /* after some time */
	P_LINK,	   /* with the service of this path */
	P_CALL_ON, /* calls P_LOOP there */
	P_CALL_ON_TIMED,
	P_EXIT,
	P_NR,
};

/* ------------------------------------------------------------------- server */

static volatile int let_go, held;
static int other; /* service */

PROC(p_loop)
{
	int was = let_go;

	__atomic_add_fetch(&held, 1, __ATOMIC_RELAXED);
	while (let_go == was)
		;
	__atomic_sub_fetch(&held, 1, __ATOMIC_RELAXED);
	return 4711;
}

PROC(p_sleep)
{
	int was = let_go;

	__atomic_add_fetch(&held, 1, __ATOMIC_RELAXED);
	while (let_go == was)
		usleep(1000);
	__atomic_sub_fetch(&held, 1, __ATOMIC_RELAXED);
	return 4712;
}

PROC(p_let_go)
{
	return ++let_go;
}

PROC(p_held)
{
	return held;
}

struct echo {
	u64 number;
	u64 ns;
	bool asleep;
};

PROC(p_echo)
{
	struct echo e = *(struct echo *)arg;
	struct timespec ts = { .tv_nsec = e.ns };
	u64 end = test_now_ns() + e.ns;

	if (e.asleep)
		nanosleep(&ts, NULL);
	while (test_now_ns() < end)
		;
	return e.number;
}

PROC(p_link)
{
	other = rpal_connect(arg, test_patience() * 1000, NULL);
	return other;
}

PROC(p_call_on)
{
	int64_t r = 0;
	int err = rpal_call(other, P_LOOP, NULL, 0, &r);

	return err ? err : r;
}

PROC(p_call_on_timed)
{
	int64_t r = 0;
	int err = rpal_call_timeout(other, P_LOOP, NULL, 0, &r, 0, 30);

	return err ? err : r;
}

PROC(p_exit)
{
	_exit(5);
}

/* When there is no receiver to tell it to. */
static void *let_go_thread(void *arg CALL_UNUSED)
{
	for (;;) {
		test_recv_u64(TEST_FD_DRIVER);
		let_go++;
	}
	return NULL;
}

static int server_role(void)
{
	static const rpal_procedure_fn procs[P_NR] = {
		[P_LOOP] = p_loop,	 [P_SLEEP] = p_sleep,
		[P_LET_GO] = p_let_go,	 [P_HELD] = p_held,
		[P_ECHO] = p_echo,	 [P_LINK] = p_link,
		[P_CALL_ON] = p_call_on, [P_CALL_ON_TIMED] = p_call_on_timed,
		[P_EXIT] = p_exit,
	};

	pthread_t thread;

	MUST(!pthread_create(&thread, NULL, let_go_thread, NULL));
	return call_server(procs, P_NR);
}

/* ------------------------------------------------------------------- client */

static struct call_peer a, b;

static int timed(struct call_peer *p, int proc, int ms)
{
	u64 begin = test_now_ns();
	int err = rpal_call_timeout(p->id, proc, NULL, 0, NULL, 0, ms);

	CHECK(err != -ETIMEDOUT || test_now_ns() - begin >= (u64)ms * 1000000, "too early");
	return err;
}

static void let_all_go(struct call_peer *p)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	call_result(p, P_LET_GO, NULL, 0, 0);
	while (call_result(p, P_HELD, NULL, 0, 0) && test_now_ns() < end)
		usleep(1000);
	CHECK_IS(call_result(p, P_HELD, NULL, 0, 0), 0);
}

static void loops_and_sleep(void)
{
	int i;

	test_begin("a procedure that loops, one that sleeps");
	for (i = 0; i < 10; i++) {
		CHECK_IS(timed(&a, P_LOOP, 20), -ETIMEDOUT);
		CHECK(strstr(rpal_last_error(), "in time"), "%s", rpal_last_error());
		CHECK_IS(timed(&a, P_SLEEP, 20), -ETIMEDOUT);
		let_all_go(&a);
	}
	CHECK_IS(timed(&a, P_LOOP, 0), -ETIMEDOUT);
	CHECK_IS(timed(&a, P_HELD, 60000), 0);
	CHECK_IS(timed(&a, P_HELD, -1), 0);
	let_all_go(&a);
	test_end();
}

static void all_busy(void)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;
	int i;

	test_begin("all receivers are busy");
	/* On a busy machine a time may be over before the call has begun: until none is left. */
	for (i = 0; i < 3 || (rpal_call_timeout(a.id, P_HELD, NULL, 0, NULL, RPAL_CALL_NOWAIT,
						60000) != -EAGAIN &&
			      test_now_ns() < end);
	     i++)
		CHECK_IS(timed(&a, i % 2 ? P_SLEEP : P_LOOP, 20), -ETIMEDOUT);
	CHECK_IS(timed(&a, P_HELD, 50), -ETIMEDOUT);
	CHECK_IS(rpal_call_timeout(a.id, P_HELD, NULL, 0, NULL, RPAL_CALL_NOWAIT, 60000), -EAGAIN);
	test_send_u64(a.child.sock, 0);
	let_all_go(&a);
	test_end();
}

/* In a thread, so that it can be cancelled. */
struct waiter {
	pthread_t thread;
	volatile int number; /* plus 1 */
	int proc;
	int err;
};

static void *waiter_run(void *arg)
{
	struct waiter *w = arg;

	__atomic_store_n(&w->number, rpal_thread_number() + 1, __ATOMIC_RELEASE);
	w->err = rpal_call_timeout(a.id, w->proc, NULL, 0, NULL, 0, -1);
	return NULL;
}

/* It is in its call when somebody is held there. */
static void begin_waiter(struct waiter *w, struct call_peer *where)
{
	MUST(!pthread_create(&w->thread, NULL, waiter_run, w));
	MUST(call_wait_for(&w->number, 1));
	while (call_result(where, P_HELD, NULL, 0, 0) != 1)
		usleep(1000);
}

static void cancelled(void)
{
	int i, err;

	test_begin("cancelled by another thread");
	CHECK_IS(rpal_call_cancel(-1), -ESRCH);
	CHECK_IS(rpal_call_cancel(1 << 20), -ESRCH);
	CHECK_IS(rpal_call_cancel(rpal_thread_number()), -ESRCH);
	for (i = 0; i < 10; i++) {
		struct waiter w = { .proc = i % 2 ? P_SLEEP : P_LOOP };

		begin_waiter(&w, &a);
		err = rpal_call_cancel(w.number - 1);
		CHECK_IS(err, 0);
		pthread_join(w.thread, NULL);
		CHECK_IS(w.err, -ECANCELED);
		CHECK_IS(rpal_call_cancel(w.number - 1), -ESRCH);
		let_all_go(&a);
	}
	test_end();
}

static void late_answers(void)
{
	/* A procedure may still read what a call before has left behind. */
	static struct echo e[1000];
	int i, over = 0, done = 0;

	test_begin("late answers go to nobody");
	for (i = 0; i < 1000; i++) {
		int64_t r = -1;
		int err;

		e[i].number = i;
		e[i].ns = test_random() % 4000000;
		e[i].asleep = test_random() % 2;
		err = rpal_call_timeout(a.id, P_ECHO, &e[i], sizeof(e[i]), &r, 0, 2);
		if (err == -ETIMEDOUT)
			over++;
		else
			CHECK(!err && r == i && ++done, "%d, %ld, not %d", err, (long)r, i);
		if (!(i % 10))
			CHECK_IS(call_result(&a, P_ECHO, &e[i], sizeof(e[i]), 0), i);
	}
	CHECK(over && done, "%d over, %d done", over, done);
	test_end();
}

static void in_calls(void)
{
	struct waiter w = { .proc = P_CALL_ON };

	test_begin("calls in calls");
	/* Of ours, with the whole chain below it. */
	begin_waiter(&w, &b);
	CHECK_IS(rpal_call_cancel(w.number - 1), 0);
	pthread_join(w.thread, NULL);
	CHECK_IS(w.err, -ECANCELED);
	CHECK_IS(call_result(&b, P_HELD, NULL, 0, 0), 1);
	let_all_go(&b);
	CHECK_IS(timed(&a, P_CALL_ON, 30), -ETIMEDOUT);
	let_all_go(&b);
	/* Of the one in the middle. */
	CHECK_IS(call_result(&a, P_CALL_ON_TIMED, NULL, 0, 0), -ETIMEDOUT);
	let_all_go(&b);
	/* Both, the inner one first. */
	CHECK_IS(timed(&a, P_CALL_ON_TIMED, 60000), 0);
	let_all_go(&b);
	test_end();
}

static volatile int alarms;

static void on_alarm(int sig CALL_UNUSED)
{
	alarms++;
}

static void with_signals(void)
{
	struct itimerval every = { { 0, 3000 }, { 0, 3000 } }, never = {};
	struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	int i;

	test_begin("signals meanwhile");
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	for (i = 0; i < 10; i++) {
		CHECK_IS(timed(&a, i % 2 ? P_SLEEP : P_LOOP, 50), -ETIMEDOUT);
		let_all_go(&a);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	CHECK(alarms, "no signal has come");
	test_end();
}

static void *short_life(void *arg CALL_UNUSED)
{
	CHECK_IS(timed(&a, P_HELD, 100), 0);
	return NULL;
}

static void gone(void)
{
	struct call_peer p;
	pthread_t thread;
	int i;

	test_begin("threads that end with a timer, receivers that die");
	for (i = 0; i < 20; i++) {
		MUST(!pthread_create(&thread, NULL, short_life, NULL));
		pthread_join(thread, NULL);
	}
	usleep(150000);
	CHECK_IS(timed(&a, P_HELD, 60000), 0);
	call_peer_new(&p, "server", 2);
	CHECK_IS(timed(&p, P_EXIT, 60000), -EPIPE);
	/* Its other receiver may still serve for a moment. */
	test_wait(p.child.pid);
	p.child.pid = 0;
	CHECK_IS(timed(&p, P_HELD, 60000), -EPIPE);
	call_peer_end(&p);
	test_end();
}

static int deadline_ioctl(int fd, u32 tid, u32 flags, u32 reserved)
{
	struct rpal_deadline d = {
		.size = sizeof(d), .flags = flags, .tid = tid, .reserved = reserved
	};

	return ioctl(fd, RPAL_IOC_DEADLINE, &d) ? -errno : 0;
}

/* Whoever wants to may end a thread's deadline, also while the thread itself ends. */
static volatile int ending = -1; /* a thread's number */

static void *end_at_once(void *arg CALL_UNUSED)
{
	int n = rpal_thread_number();

	MUST(n >= 0);
	__atomic_store_n(&ending, n, __ATOMIC_RELEASE);
	return NULL;
}

static void *make_threads(void *arg)
{
	pthread_t thread;
	int i;

	for (i = 0; i < *(int *)arg; i++) {
		MUST(!pthread_create(&thread, NULL, end_at_once, NULL));
		pthread_join(thread, NULL);
	}
	__atomic_store_n(&ending, -1, __ATOMIC_RELEASE);
	return NULL;
}

static void while_it_ends(void)
{
	int threads = 2000, found = 0, n;
	pthread_t maker;

	test_begin("a deadline passes while its thread ends");
	MUST(!pthread_create(&maker, NULL, make_threads, &threads));
	MUST(call_wait_for(&ending, 0));
	while ((n = __atomic_load_n(&ending, __ATOMIC_ACQUIRE)) >= 0) {
		struct rpal_block *b = rpal_thr_block(n);

		if (b)
			__atomic_store_n(&b->deadline, 1, __ATOMIC_SEQ_CST);
		found += !deadline_ioctl(rpal_state.fd, RPAL_TID(rpal_state.id, n), 0, 0);
	}
	pthread_join(maker, NULL);
	CHECK(found, "no thread was found");
	test_end();
}

static void refusals(void)
{
	struct rpal_reply reply = { .size = sizeof(reply), .flags = 2 };
	u32 tid = RPAL_TID(rpal_state.id, rpal_thread_number());
	int fd = test_open();

	test_begin("what the kernel refuses");
	CHECK_IS(deadline_ioctl(rpal_state.fd, tid, 0, 0), 0);
	CHECK_IS(deadline_ioctl(rpal_state.fd, tid, 1, 0), -EINVAL);
	CHECK_IS(deadline_ioctl(rpal_state.fd, tid, 0, 1), -EINVAL);
	CHECK_IS(deadline_ioctl(rpal_state.fd, tid + 1000, 0, 0), -ESRCH);
	CHECK_IS(deadline_ioctl(rpal_state.fd, -1, 0, 0), -ESRCH);
	CHECK_IS(deadline_ioctl(rpal_state.fd, RPAL_TID(a.id, 0), 0, 0), -ESRCH);
	CHECK_IS(deadline_ioctl(fd, tid, 0, 0), -ENXIO);
	CHECK(ioctl(rpal_state.fd, RPAL_IOC_AWAIT_REPLY, &reply) && errno == EINVAL, "%d", errno);
	reply.flags = RPAL_REPLY_DEADLINE;
	CHECK(ioctl(rpal_state.fd, RPAL_IOC_AWAIT_REPLY, &reply) && errno == EINVAL, "%d", errno);
	close(fd);
	test_end();
}

static int client_role(void)
{
	call_init(1);
	call_peer_new(&a, "server", 3);
	call_peer_new(&b, "server", 3);
	CHECK(call_result(&a, P_LINK, b.path, strlen(b.path) + 1, 0) > 0, "no link");
	loops_and_sleep();
	all_busy();
	cancelled();
	late_answers();
	in_calls();
	with_signals();
	gone();
	while_it_ends();
	refusals();
	call_peer_end(&b);
	call_peer_end(&a);
	return 0;
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
