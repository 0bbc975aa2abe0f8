// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * bench-grow [MOST]: how cost grows with the number of services and threads.
 *
 * Services are linked all with all, 1 to MOST of them; without protection keys
 * up to 64, with them no more than there are keys. Medians of TSC ticks: a link
 * made and ended between two of them, and munmap of a touched page in one whose
 * peers sleep (bench-flush has peers that run). Then the memory that each takes, as
 * the kernel charges it to their cgroup; what registering a thread costs beside
 * others; calls by the number of the callee's receivers and of the caller's peers, all
 * of which sleep; and what a program does that is placed and one that is not, from
 * vfork() to its end.
 *
 *	bench: name=grow services=N link=T unlink=T munmap=T munmap_plain=T
 *	bench: name=memory process_kb=K placed_kb=K registered_kb=K link_bytes=B
 *	bench: name=threads threads=N init=T exit=T
 *	bench: name=thread-memory threads=N thread_bytes=B
 *	bench: name=receivers receivers=N peers=N call=T lazy=T
 *	bench: name=exec plain=T placed=T
 */
#include "call.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <x86intrin.h>

#define MOST   64
#define ROUNDS 100

enum { OP_TIMED_IOCTL = OP_USER, OP_MUNMAP };

static int by_value(const void *a, const void *b)
{
	const u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static u64 median(u64 *times, unsigned int n)
{
	qsort(times, n, sizeof(*times), by_value);
	return times[n / 2];
}

/* --------------------------------------------------------------- in puppets */

static u64 munmap_time(void)
{
	u64 times[ROUNDS], begin;
	unsigned int i;
	char *p;

	for (i = 0; i < ROUNDS; i++) {
		p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		MUST(p != MAP_FAILED);
		*(volatile char *)p = 1;
		begin = __rdtsc();
		MUST(!munmap(p, PAGE));
		times[i] = __rdtsc() - begin;
	}
	return median(times, ROUNDS);
}

static void user_op(const struct test_cmd *c, struct test_res *r)
{
	struct rpal_request q = { .size = sizeof(q), .key = c->a[2] };
	u64 begin;

	switch (c->op) {
	case OP_TIMED_IOCTL:
		begin = __rdtsc();
		r->ret = ioctl(c->a[0], c->a[1], &q) ? -errno : 0;
		r->val = __rdtsc() - begin;
		break;
	case OP_MUNMAP:
		r->val = munmap_time();
		break;
	default:
		r->ret = -ENOSYS;
	}
}

/* ----------------------------------------------------------------- services */

static struct puppet services[MOST];

static u64 timed(struct puppet *p, unsigned long cmd, u64 key)
{
	struct test_cmd c = { .op = OP_TIMED_IOCTL, .a = { p->fd, cmd, key } };
	struct test_res r;

	puppet_do(p, &c, &r);
	errno = -r.ret;
	MUST(!r.ret);
	return r.val;
}

static u64 munmap_in(struct puppet *p)
{
	struct test_cmd c = { .op = OP_MUNMAP };
	struct test_res r;

	puppet_do(p, &c, &r);
	return r.val;
}

static void link_cost(struct puppet *a, struct puppet *b, u64 *link, u64 *unlink)
{
	u64 links[ROUNDS], unlinks[ROUNDS];
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		timed(b, RPAL_IOC_REQUEST, a->key);
		links[i] = timed(a, RPAL_IOC_REQUEST, b->key);
		unlinks[i] = timed(a, RPAL_IOC_RELEASE, b->key);
	}
	*link = median(links, ROUNDS);
	*unlink = median(unlinks, ROUNDS);
}

static void add_service(unsigned int n)
{
	unsigned int i;

	puppet_new(&services[n], "grow");
	errno = -puppet_register(&services[n]);
	MUST(!errno);
	for (i = 0; i < n; i++)
		puppet_link(&services[i], &services[n]);
}

static void grow_services(unsigned int most)
{
	u64 link = 0, unlink = 0, plain;
	struct puppet ordinary;
	unsigned int n;

	MUST(!puppet_start(&ordinary, &(struct test_spawn){ .unplaced = true }));
	plain = munmap_in(&ordinary);
	puppet_end(&ordinary);
	for (n = 1; n <= most; n++) {
		add_service(n - 1);
		if (n & (n - 1) && n != most)
			continue;
		if (n > 1) {
			timed(&services[0], RPAL_IOC_RELEASE, services[1].key);
			link_cost(&services[0], &services[1], &link, &unlink);
			puppet_link(&services[0], &services[1]);
		}
		printf("bench: name=grow services=%u link=%lu unlink=%lu munmap=%lu munmap_plain=%lu\n",
		       n, link, unlink, munmap_in(&services[0]), plain);
	}
	for (n = 0; n < most; n++)
		puppet_end(&services[n]);
}

/* ------------------------------------------------------------------- memory */

#define CGROUPS "/tmp/bench-grow"
#define CGROUP	CGROUPS "/bench"

/* All that is started from now on is in a cgroup of its own. */
static void enter_cgroup(void)
{
	MUST(!mkdir(CGROUPS, 0755) && !mount("none", CGROUPS, "cgroup2", 0, NULL));
	MUST(test_write_file(CGROUPS "/cgroup.subtree_control", "+memory"));
	MUST(!mkdir(CGROUP, 0755) && test_write_file(CGROUP "/cgroup.procs", "0"));
}

/*
 * What is the services' own, page tables and all that the kernel has allocated for
 * them. It is summed up every two seconds only; some pages may still be missing, so
 * this is for what there is many of.
 */
static long charged(void)
{
	sleep(5);
	return test_file_value(CGROUP "/memory.stat", "anon") +
	       test_file_value(CGROUP "/memory.stat", "kernel");
}

static void end_all(unsigned int n)
{
	while (n--)
		puppet_end(&services[n]);
}

static void memory(unsigned int n)
{
	long before = charged(), plain, placed, registered, linked;
	struct test_spawn ordinary = { .unplaced = true };
	unsigned int i, j;

	for (i = 0; i < n; i++)
		MUST(!puppet_start(&services[i], &ordinary));
	plain = charged() - before;
	end_all(n);
	before = charged();
	for (i = 0; i < n; i++)
		puppet_new(&services[i], "grow");
	placed = charged() - before;
	for (i = 0; i < n; i++) {
		errno = -puppet_register(&services[i]);
		MUST(!errno);
	}
	registered = charged() - before;
	for (i = 0; i < n; i++)
		for (j = 0; j < i; j++)
			puppet_link(&services[i], &services[j]);
	linked = charged() - before;
	end_all(n);
	printf("bench: name=memory services=%u process_kb=%ld placed_kb=%ld registered_kb=%ld link_bytes=%ld\n",
	       n, plain / n / 1024, placed / n / 1024, registered / n / 1024,
	       (linked - registered) / (long)(n * (n - 1) / 2));
}

/* ------------------------------------------------------------------ threads */

static u64 inits[MOST], exits[MOST];
static pthread_barrier_t turn;

/* After the last one's turn, and when the memory has been looked at. */
#define MEASURED 2

static void *thread(void *arg)
{
	unsigned int me = (unsigned int)(u64)arg, i;
	u64 begin;

	for (i = 0; i < MOST; i++) {
		pthread_barrier_wait(&turn);
		if (i != me)
			continue;
		begin = __rdtsc();
		MUST(!rpal_thread_init());
		inits[me] = __rdtsc() - begin;
	}
	for (i = 0; i < MEASURED; i++)
		pthread_barrier_wait(&turn);
	for (i = 0; i < MOST; i++) {
		pthread_barrier_wait(&turn);
		if (i != me)
			continue;
		begin = __rdtsc();
		rpal_thread_exit();
		exits[me] = __rdtsc() - begin;
	}
	return NULL;
}

static int threads_role(void)
{
	pthread_t threads[MOST];
	unsigned int i;
	long before;

	call_init(MOST);
	MUST(!pthread_barrier_init(&turn, NULL, MOST + 1));
	for (i = 0; i < MOST; i++)
		MUST(!pthread_create(&threads[i], NULL, thread, (void *)(u64)i));
	before = charged();
	for (i = 0; i < MOST + 1; i++)
		pthread_barrier_wait(&turn);
	before = charged() - before;
	for (i = 0; i < MOST + 1; i++)
		pthread_barrier_wait(&turn);
	for (i = 0; i < MOST; i++)
		pthread_join(threads[i], NULL);
	printf("bench: name=thread-memory threads=%u thread_bytes=%ld\n", MOST, before / MOST);
	for (i = 1; i <= MOST; i *= 2)
		printf("bench: name=threads threads=%u init=%lu exit=%lu\n", i, inits[i - 1],
		       exits[i - 1]);
	return 0;
}

static void grow_threads(void)
{
	struct test_child c;

	fflush(stdout);
	MUST(!test_spawn(&c, &(struct test_spawn){ .role = "threads" }));
	MUST(!test_wait(c.pid));
}

/* -------------------------------------------------------------------- calls */

enum { P_NULL, P_LAZY, NR_PROCS };

PROC(nothing)
{
	return 0;
}

PROC(system_call)
{
	return syscall(SYS_getppid) > 0;
}

static int server_role(void)
{
	static const rpal_procedure_fn procs[NR_PROCS] = {
		[P_NULL] = nothing,
		[P_LAZY] = system_call,
	};

	return call_server(procs, NR_PROCS);
}

static u64 call_time(struct call_peer *p, int procedure)
{
	u64 times[ROUNDS], begin;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		begin = __rdtsc();
		MUST(call_result(p, procedure, NULL, 0, 0) == procedure);
		times[i] = __rdtsc() - begin;
	}
	return median(times, ROUNDS);
}

/* Each server stays, so with each the client has one peer more. */
static int client_role(void)
{
	struct call_peer servers[16];
	unsigned int n, peers = 0;

	call_init(1);
	for (n = 1; n <= MOST; n *= 2) {
		struct call_peer *p = &servers[peers++];

		call_peer_new(p, "server", n);
		printf("bench: name=receivers receivers=%u peers=%u call=%lu lazy=%lu\n", n, peers,
		       call_time(p, P_NULL), call_time(p, P_LAZY));
	}
	while (peers)
		call_peer_end(&servers[--peers]);
	return 0;
}

/* --------------------------------------------------------------------- exec */

/* This program, which then ends at once. */
#define ENDS "ends"

static u64 exec_time(int fd)
{
	struct rpal_place place = { .size = sizeof(place) };
	u64 times[ROUNDS], begin;
	unsigned int i;
	int status;
	pid_t pid;

	if (!test_have_pkeys())
		place.flags = RPAL_PLACE_NO_PKEYS;
	for (i = 0; i < ROUNDS; i++) {
		begin = __rdtsc();
		pid = vfork();
		MUST(pid >= 0);
		if (!pid) {
			if (fd < 0 || !ioctl(fd, RPAL_IOC_PLACE, &place))
				execl("/proc/self/exe", test_name, ENDS, NULL);
			_exit(1);
		}
		MUST(waitpid(pid, &status, 0) == pid && !status);
		times[i] = __rdtsc() - begin;
	}
	return median(times, ROUNDS);
}

static void exec_cost(void)
{
	int fd = test_open();
	u64 plain;

	MUST(fd >= 0);
	plain = exec_time(-1);
	printf("bench: name=exec plain=%lu placed=%lu\n", plain, exec_time(fd));
	close(fd);
}

int main(int argc, char **argv)
{
	static const struct test_role roles[] = { { "threads", threads_role },
						  { "server", server_role },
						  { "client", client_role },
						  {} };
	unsigned int most = argc > 1 ? atoi(argv[1]) : MOST, keys = 15;

	if (argc > 1 && !strcmp(argv[1], ENDS))
		return 0;
	test_user_op = user_op;
	test_init(argc, argv, roles);
	if (most > MOST)
		most = MOST;
	if (test_have_pkeys() && most > keys)
		most = keys;
	enter_cgroup();
	grow_services(most);
	if (most > 1)
		memory(most);
	grow_threads();
	call_run_client("client");
	exec_cost();
	return test_finish();
}
