// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Where called code runs: on the caller's CPU, whatever CPUs its own thread may
 * use; once it has entered the kernel, where its own thread may.
 */
#include "call.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

enum {
	P_CPU,	    /* where it runs */
	P_LAZY,	    /* the same behind a system call */
	P_PIN,	    /* the receivers, from now on */
	P_PIN_LIVE, /* this receiver, here and now */
	P_MASK,
	P_HOLD,
	P_NR,
};

/* The number of the CPU is the limit of a segment: no system call, no memory. */
static int this_cpu(void)
{
	u64 limit;

	asm volatile("lsl %1, %0" : "=r"(limit) : "r"(0x7bUL));
	return limit & 0xfff;
}

static int pin(pid_t tid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(tid, sizeof(set), &set) ? -errno : 0;
}

/* The only CPU of a task; -1: none or several. */
static int only_cpu(pid_t tid)
{
	cpu_set_t set;
	int cpu;

	if (sched_getaffinity(tid, sizeof(set), &set) || CPU_COUNT(&set) != 1)
		return -1;
	for (cpu = 0; !CPU_ISSET(cpu, &set); cpu++)
		;
	return cpu;
}

/* ------------------------------------------------------------------- server */

static pid_t receiver_tid;

static void receiver_begins(void)
{
	receiver_tid = call_tid;
}

PROC(p_cpu)
{
	return this_cpu();
}

PROC(p_lazy)
{
	int before = this_cpu();

	syscall(SYS_getppid);
	return before << 8 | this_cpu();
}

PROC(p_pin)
{
	return pin(receiver_tid, *(int *)arg);
}

PROC(p_pin_live)
{
	int cpu = *(int *)arg;

	NEED(!pin(0, cpu));
	NEED(this_cpu() == cpu);
	return 0;
}

PROC(p_mask)
{
	return only_cpu(0);
}

struct hold {
	volatile int began;
	volatile int tid;
	volatile int cpu;
	volatile int end;
};

/* Says all the time where it is. */
PROC(p_hold)
{
	struct hold *h = arg;

	h->tid = call_tid;
	h->cpu = this_cpu();
	__atomic_store_n(&h->began, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&h->end, __ATOMIC_ACQUIRE))
		h->cpu = this_cpu();
	return this_cpu();
}

static void ignore_signal(int sig CALL_UNUSED)
{
}

static int server_role(void)
{
	static const rpal_procedure_fn procs[P_NR] = {
		[P_CPU] = p_cpu,	   [P_LAZY] = p_lazy, [P_PIN] = p_pin,
		[P_PIN_LIVE] = p_pin_live, [P_MASK] = p_mask, [P_HOLD] = p_hold,
	};

	signal(SIGUSR1, ignore_signal);
	call_receiver_begins = receiver_begins;
	return call_server(procs, P_NR);
}

/* ------------------------------------------------------------------- client */

static struct call_peer a;

static void pin_receiver(int cpu)
{
	CHECK_IS(call_result(&a, P_PIN, &cpu, sizeof(cpu), 0), 0);
}

static void fast(void)
{
	int mine, its, i;

	test_begin("called code runs on the caller's CPU");
	for (mine = 0; mine < 2; mine++) {
		for (its = 0; its < 2; its++) {
			pin_receiver(its);
			CHECK_IS(pin(0, mine), 0);
			CHECK_IS(this_cpu(), mine);
			for (i = 0; i < 100; i++)
				CHECK_IS(call_result(&a, P_CPU, NULL, 0, 0), mine);
		}
	}
	test_end();
}

static void lazy(void)
{
	int mine, its, i;

	test_begin("behind a system call it runs where its own thread may");
	for (mine = 0; mine < 2; mine++) {
		for (its = 0; its < 2; its++) {
			pin_receiver(its);
			CHECK_IS(pin(0, mine), 0);
			for (i = 0; i < 50; i++) {
				CHECK_IS(call_result(&a, P_LAZY, NULL, 0, 0), mine << 8 | its);
				CHECK_IS(this_cpu(), mine);
			}
		}
	}
	test_end();
}

static void set_in_call(void)
{
	int mine, its;

	test_begin("affinity set by called code is the receiver's");
	for (mine = 0; mine < 2; mine++) {
		CHECK_IS(pin(0, mine), 0);
		for (its = 0; its < 2; its++) {
			CHECK_IS(call_result(&a, P_PIN_LIVE, &its, sizeof(its), 0), 0);
			CHECK_IS(call_result(&a, P_MASK, NULL, 0, 0), its);
			CHECK_IS(only_cpu(0), mine);
			CHECK_IS(this_cpu(), mine);
			CHECK_IS(call_result(&a, P_CPU, NULL, 0, 0), mine);
		}
	}
	test_end();
}

struct holder {
	pthread_t thread;
	struct hold hold;
	int cpu;
	int64_t result;
};

static void *holder_thread(void *arg)
{
	struct holder *h = arg;

	MUST(!pin(0, h->cpu));
	h->result = call_result(&a, P_HOLD, &h->hold, sizeof(h->hold), RPAL_CALL_GRANT_WRITE);
	return NULL;
}

static bool wait_cpu(struct holder *h, int cpu)
{
	u64 end = test_now_ns() + test_patience() * 1000000000ULL;

	while (h->hold.cpu != cpu && test_now_ns() < end)
		usleep(1000);
	return h->hold.cpu == cpu;
}

/* Its thread is moved while its code runs elsewhere: that is not moved. */
static void moved_in_call(void)
{
	struct holder h = {};
	int i;

	test_begin("in the middle of a call: of the caller, the receiver, by a signal");
	for (i = 0; i < 5; i++) {
		memset(&h, 0, sizeof(h));
		pin_receiver(0);
		h.cpu = 1;
		MUST(!pthread_create(&h.thread, NULL, holder_thread, &h));
		CHECK(call_wait_for(&h.hold.began, 1), "the call does not begin");
		CHECK_IS(h.hold.cpu, 1);
		/* To one CPU and back: nobody hands anything over. */
		CHECK_IS(pin(h.hold.tid, 1), 0);
		CHECK_IS(pin(h.hold.tid, 0), 0);
		CHECK(wait_cpu(&h, 1), "on CPU %d", h.hold.cpu);
		MUST(!syscall(SYS_tgkill, a.child.pid, h.hold.tid, SIGUSR1));
		CHECK(wait_cpu(&h, 0), "on CPU %d", h.hold.cpu);
		__atomic_store_n(&h.hold.end, 1, __ATOMIC_RELEASE);
		pthread_join(h.thread, NULL);
		CHECK_IS(h.result, 0);
	}
	test_end();
}

#define CG "/tmp/call-affinity-cgroup"

static bool write_number(const char *path, int n)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", n);
	return test_write_file(path, text);
}

/* 0 if there are cpusets here. */
static int make_cpuset(void)
{
	mkdir(CG, 0755);
	if (mount("none", CG, "cgroup2", 0, NULL))
		return -errno;
	if (!test_write_file(CG "/cgroup.subtree_control", "+cpuset") || mkdir(CG "/set", 0755))
		return -errno;
	return 0;
}

static void cpuset(void)
{
	int i, cpu;

	test_begin("the receiver's cpuset");
	if (make_cpuset()) {
		test_skip_case("no cpusets on this kernel");
		umount(CG);
		test_end();
		return;
	}
	CHECK_IS(pin(0, 0), 0);
	for (cpu = 1; cpu >= 0; cpu--) {
		CHECK(write_number(CG "/set/cpuset.cpus", cpu), "cpuset.cpus: %d", errno);
		CHECK(write_number(CG "/set/cgroup.procs", a.child.pid), "cgroup.procs: %d", errno);
		for (i = 0; i < 50; i++) {
			CHECK_IS(call_result(&a, P_LAZY, NULL, 0, 0), 0 << 8 | cpu);
			CHECK_IS(call_result(&a, P_CPU, NULL, 0, 0), 0);
		}
	}
	write_number(CG "/cgroup.procs", a.child.pid);
	rmdir(CG "/set");
	umount(CG);
	test_end();
}

static int client_role(void)
{
	call_init(1);
	call_peer_new(&a, "server", 1);
	fast();
	lazy();
	set_in_call();
	moved_in_call();
	cpuset();
	call_peer_end(&a);
	return 0;
}

static const struct test_role roles[] = { { "server", server_role },
					  { "client", client_role },
					  {} };

int main(int argc, char **argv)
{
	test_init(argc, argv, roles);
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		printf("skip %s: one CPU is not enough\n", test_name);
		return TEST_SKIP;
	}
	call_run_client("client");
	return test_finish();
}
