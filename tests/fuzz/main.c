// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * stress-fuzz N [SEED [trace|loud|probes]]: N operations of workers that use the module in
 * every way that it is not meant for, and in some that it is. They may die of it,
 * and are killed at random moments, and started again. Nothing else may suffer:
 * not the kernel, not the driver, not two services that have nothing to do with
 * them; and when all have gone, all must be gone.
 *
 * What a worker does follows from the seed; what comes of it, also from chance.
 * With "trace" each operation is told to the kernel's log first, which is slow;
 * with "loud" workers say how they crash; with "probes" there are profilers and uprobes in what
 * is called, too. A process that is not placed must not notice anything, either.
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define SECOND 1000000000UL

/* What workers can write may be overwritten by one that has lost its way. */
struct fuzz_good *fuzz_good;
static u64 limit, done;
static u32 seed;
static int shared_fd, good_fd;
static u32 bad;
static u64 lives, kills, stuck;
static pid_t bystander;

static struct worker {
	struct test_child child;
	u64 ops;   /* when it was looked at last */
	u64 first; /* that it has done */
	u64 since; /* it has done none more since then */
} workers[FUZZ_PLACES];

static const struct test_role roles[] = {
	{ "worker", fuzz_worker_role },	      { "visitor", fuzz_visitor_role },
	{ "server", fuzz_server_role },	      { "caller", fuzz_caller_role },
	{ "bystander", fuzz_bystander_role }, {}
};

static void wrong(const char *what, long value)
{
	printf("%s: %s (%ld)\n", test_name, what, value);
	bad++;
}

/* ------------------------------------------------------------------ workers */

static void start(u32 i)
{
	static const char *const groups[] = { FUZZ_GROUP, FUZZ_GROUP, "", "other" };
	char arg[8];
	struct test_spawn s = { .role = "worker", .arg = arg, .shared = shared_fd };

	snprintf(arg, sizeof(arg), "%u", i);
	s.unplaced = i == FUZZ_OUTSIDER || one_in(16);
	s.group = PICK(groups);
	s.uid = one_in(8) ? 1000 : 0;
	workers[i].ops = board->place[i].ops;
	workers[i].first = workers[i].ops;
	workers[i].since = test_now_ns();
	workers[i].child.pid = 0;
	/* Another time, if the keys of a group are all in use. */
	if (!test_spawn(&workers[i].child, &s))
		lives++;
}

/* Its children are in its group. */
static void end_group(u32 i)
{
	kill(-workers[i].child.pid, SIGKILL);
	close(workers[i].child.sock);
	workers[i].child.pid = 0;
}

static void end(u32 i)
{
	struct worker *w = &workers[i];

	if (!w->child.pid)
		return;
	kill(w->child.pid, SIGKILL);
	if (test_wait(w->child.pid) == -1)
		wrong("a worker does not end, in life", board->place[i].life);
	end_group(i);
}

/* How they ended, for who wants to know whether they got anywhere. */
static u32 by_exit[256], by_signal[65];

static void note(int status)
{
	if (WIFEXITED(status))
		by_exit[WEXITSTATUS(status)]++;
	else if (WIFSIGNALED(status))
		by_signal[WTERMSIG(status) & 63]++;
}

static void print_ends(void)
{
	u32 i;

	printf("# ended:");
	for (i = 0; i < ARRAY_SIZE(by_exit); i++)
		if (by_exit[i])
			printf(" exit %u: %u", i, by_exit[i]);
	for (i = 0; i < ARRAY_SIZE(by_signal); i++)
		if (by_signal[i])
			printf(" signal %u: %u", i, by_signal[i]);
	printf("\n");
}

/* What the module has counted, in one line. */
static void print_stats(void)
{
	FILE *f = fopen("/sys/kernel/debug/rpal/stats", "re");
	char name[64];
	long v;

	printf("# counted:");
	while (f && fscanf(f, "%63s %ld", name, &v) == 2)
		if (v)
			printf(" %s %ld", name, v);
	printf("\n");
	if (f)
		fclose(f);
}

/* Whoever has died; false: something that should not have. */
static bool reap(pid_t caller)
{
	int status;
	pid_t pid;
	u32 i;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == caller || pid == bystander) {
			wrong(pid == caller ? "the caller has ended" : "the bystander has ended",
			      status);
			return false;
		}
		for (i = 0; i < FUZZ_PLACES; i++) {
			if (workers[i].child.pid != pid)
				continue;
			if (board->loud)
				printf("worker %u ends: %s after %lu operations\n", i,
				       test_status(status), board->place[i].ops - workers[i].first);
			note(status);
			end_group(i);
		}
	}
	return true;
}

/* Who has done nothing for a while waits for what will not come. */
static void look_after(u32 i)
{
	struct worker *w = &workers[i];
	u64 now = test_now_ns(), patience = test_patience() / 60 * SECOND;

	/* Beginning takes its time, too. */
	if (w->ops == w->first)
		patience *= 10;
	if (!w->child.pid) {
		start(i);
	} else if (w->ops != board->place[i].ops) {
		w->ops = board->place[i].ops;
		w->since = now;
	} else if (now - w->since > patience) {
		stuck++;
		if (board->loud)
			printf("worker %u stuck: %s\n", i, fuzz_op_name(board->place[i].doing));
		end(i);
	}
}

static void tell_what_they_do(void)
{
	u32 i;

	for (i = 0; i < FUZZ_PLACES; i++)
		printf("%s: worker %u life %u: %s\n", test_name, i, board->place[i].life,
		       fuzz_op_name(board->place[i].doing));
}

/* Operations so far: what no worker can have done in so short a time is none. */
static bool more_to_do(void)
{
	static u64 looked;
	u64 now = test_now_ns(), ops = board->ops;

	if (ops < done || ops - done > 1000 + (now - looked) / 1000)
		board->ops = done;
	else
		done = ops;
	looked = now;
	board->limit = limit;
	board->seed = seed;
	return done < limit;
}

static void supervise(pid_t caller)
{
	u64 ops = 0, since = test_now_ns(), calls_since = since, looks_since = since;
	int calls = 0, looks = 0;
	u32 i;

	while (more_to_do() && !bad && board->bad != FUZZ_BAD && !fuzz_good->wrong) {
		if (!reap(caller))
			break;
		for (i = 0; i < FUZZ_PLACES; i++)
			look_after(i);
		if (one_in(128)) {
			kills++;
			end(below(FUZZ_PLACES));
		}
		if (ops != board->ops || calls != fuzz_good->calls) {
			if (ops != board->ops)
				since = test_now_ns();
			if (calls != fuzz_good->calls)
				calls_since = test_now_ns();
			ops = board->ops;
			calls = fuzz_good->calls;
		}
		if (looks != fuzz_good->looks) {
			looks = fuzz_good->looks;
			looks_since = test_now_ns();
		}
		if (test_now_ns() - looks_since > test_patience() * SECOND)
			wrong("the bystander stands still, after", looks);
		if (test_now_ns() - since > test_patience() * SECOND)
			wrong("nobody does anything, at operation", ops);
		if (test_now_ns() - calls_since > test_patience() * SECOND)
			wrong("no calls any more, after", calls);
		usleep(2000);
	}
	if (bad)
		tell_what_they_do();
	for (i = 0; i < FUZZ_PLACES; i++)
		end(i);
}

/* -------------------------------------------------------------- the others */

static pid_t start_caller(void)
{
	struct test_spawn s = {
		.role = "caller", .group = "good", .shared = shared_fd, .peer = good_fd
	};
	u64 end = test_now_ns() + test_patience() * SECOND;
	struct test_child caller;

	MUST(!test_spawn(&caller, &s));
	while (fuzz_good->calls < 2) {
		if (test_now_ns() > end)
			test_die(__FILE__, __LINE__, "no calls");
		usleep(1000);
	}
	return caller.pid;
}

/* Not placed, and never will be. */
static void start_bystander(void)
{
	struct test_spawn s = {
		.role = "bystander", .unplaced = true, .shared = shared_fd, .peer = good_fd
	};
	struct test_child child;

	MUST(!test_spawn(&child, &s));
	bystander = child.pid;
}

static void end_bystander(void)
{
	int status;

	if (bad)
		kill(bystander, SIGKILL);
	status = test_wait(bystander);
	if (!bad && status)
		wrong("the bystander has not ended well", status);
	if (!bad && !fuzz_good->looks)
		wrong("the bystander has never looked", 0);
}

static void end_caller(pid_t caller)
{
	int status;

	fuzz_good->stop = 1;
	if (bad)
		kill(caller, SIGKILL);
	status = test_wait(caller);
	if (!bad && status)
		wrong("the caller has not ended well", status);
	if (fuzz_good->wrong)
		wrong(fuzz_good->why, fuzz_good->wrong);
}

/* --------------------------------------------------------------------- end */

/* Children of children come to us. */
static void reap_all(void)
{
	u64 end = test_now_ns() + test_patience() * SECOND;
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0 || errno != ECHILD) {
		if (test_now_ns() > end) {
			wrong("some children do not end", pid);
			return;
		}
		usleep(1000);
	}
}

static void show(const char *path)
{
	char text[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text));

	if (n > 0)
		printf("%s:\n%.*s\n", path, (int)n, text);
	close(fd);
}

static void show_task(const char *pid, const char *tid)
{
	static const char *const files[] = { "comm", "status", "wchan", "syscall", "stack" };
	char path[128];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "/proc/%.20s/task/%.20s/%s", pid, tid, files[i]);
		show(path);
	}
}

/* Who is still there, and where. */
static void show_tasks(void)
{
	struct dirent *p, *t;
	char path[64];
	DIR *proc = opendir("/proc"), *tasks;

	while (proc && (p = readdir(proc))) {
		/* The kernel's own threads have children's numbers, but not ours. */
		if (atoi(p->d_name) <= getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/task", p->d_name);
		tasks = opendir(path);
		while (tasks && (t = readdir(tasks)))
			if (atoi(t->d_name))
				show_task(p->d_name, t->d_name);
		if (tasks)
			closedir(tasks);
	}
	if (proc)
		closedir(proc);
}

/* Nothing is left, and so the module can go, and come again. */
static void check_gone(void)
{
	static const char stats[] = "/sys/kernel/debug/rpal/stats";
	long users = test_wait_users_gone(test_patience());
	int e;

	if (users)
		wrong("users of hooks are left", users);
	if (test_file_value(stats, "heirs_alive") > 0)
		wrong("heirs are left", test_file_value(stats, "heirs_alive"));
	if (test_file_value(stats, "links") != test_file_value(stats, "unlinks"))
		wrong("links are left", test_file_value(stats, "links"));
	if (bad) {
		show(stats);
		show("/sys/kernel/debug/rpal/services");
		show_tasks();
	}
	print_stats();
	if (!test_module_file())
		return;
	e = test_module_unload_soon(test_patience());
	if (e) {
		wrong("the module does not unload", e);
		return;
	}
	e = test_module_load("");
	if (e)
		wrong("the module does not load again", e);
}

/* ------------------------------------------------------------------- memory */

#define PAGE_TABLES "PageTables:"
#define SLABS	    "SUnreclaim:"

static long before[2];

static void read_memory(long *kb)
{
	kb[0] = test_file_value("/proc/meminfo", PAGE_TABLES);
	kb[1] = test_file_value("/proc/meminfo", SLABS);
}

/*
 * What the kernel has kept. Page tables are all gone with those who had them; slabs
 * are in part caches of the kernel's, which grow with whatever was done.
 */
static void check_memory(void)
{
	static const long most[] = { 1024, 64 << 10 };
	u64 end = test_now_ns() + test_patience() / 3 * SECOND;
	long now[2];

	do {
		read_memory(now);
		if (now[0] - before[0] <= most[0] && now[1] - before[1] <= most[1])
			break;
		usleep(100000);
	} while (test_now_ns() < end);
	printf("# memory: %s %ld -> %ld kB, %s %ld -> %ld kB\n", PAGE_TABLES, before[0], now[0],
	       SLABS, before[1], now[1]);
	if (now[0] - before[0] > most[0])
		wrong("page tables are left, in kB", now[0] - before[0]);
	if (now[1] - before[1] > most[1])
		wrong("slabs have grown, in kB", now[1] - before[1]);
}

static void print_moves(void)
{
	static const char *const names[] = {
		[MOVE_EDGE] = "edge",	      [MOVE_STACK] = "stack",
		[MOVE_AREA] = "area",	      [MOVE_AUDIT] = "audit",
		[MOVE_COLLAPSE] = "collapse", [MOVE_HUGETLB] = "hugetlb",
		[MOVE_SECRET] = "secret",     [MOVE_UFFD] = "uffd",
		[MOVE_PERF] = "perf",	      [MOVE_PROBE] = "probe",
		[MOVE_TRACE] = "trace",	      [MOVE_SECCOMP] = "seccomp",
		[MOVE_FREEZE] = "freeze",     [MOVE_KVM] = "kvm",
		[MOVE_OUTLIVE] = "outlive",   [MOVE_SCRIBBLE] = "scribble",
	};
	u32 i;

	printf("# moves:");
	for (i = 0; i < FUZZ_MOVES; i++)
		printf(" %s %lu", names[i], board->moves[i]);
	printf("\n");
}

static void remove_groups(void)
{
	char dir[48];
	u32 i;

	for (i = 0; i < FUZZ_PLACES; i++) {
		snprintf(dir, sizeof(dir), "/sys/fs/cgroup/fuzz-%u", i);
		if (rmdir(dir) && errno != ENOENT)
			wrong("a group of processes stays, errno", errno);
	}
}

int main(int argc, char **argv)
{
	u64 begin = test_now_ns();
	pid_t caller;

	/* Who registers a thread may not have rseq: this is for the workers. */
	setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
	test_init(argc, argv, roles);
	board = test_shared_new(sizeof(*board), &shared_fd);
	fuzz_good = test_shared_new(sizeof(*fuzz_good), &good_fd);
	limit = argc > 1 ? strtoull(argv[1], NULL, 0) : 3000;
	board->limit = limit;
	board->seed = seed = argc > 2 ? strtoul(argv[2], NULL, 0) : test_random();
	board->trace = argc > 3 && !strcmp(argv[3], "trace");
	board->loud = argc > 3 && !strcmp(argv[3], "loud");
	board->probes = argc > 3 && !strcmp(argv[3], "probes");
	printf("%s: seed %u\n", test_name, board->seed);
	fflush(stdout);
	test_seed(board->seed);
	/* Nobody shall be taken for one who has died. */
	test_write_file("/proc/sys/kernel/pid_max", "4194304");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	test_write_file("/sys/kernel/mm/ksm/run", "1");
	test_write_file("/proc/sys/vm/nr_hugepages", "8");
	if (board->probes)
		fuzz_hold_events();
	read_memory(before);
	start_bystander();
	caller = start_caller();
	supervise(caller);
	end_caller(caller);
	end_bystander();
	reap_all();
	test_write_file("/sys/kernel/mm/ksm/run", "0");
	test_write_file("/proc/sys/vm/nr_hugepages", "0");
	remove_groups();
	check_gone();
	check_memory();
	board->why[sizeof(board->why) - 1] = 0;
	if (board->bad == FUZZ_BAD)
		wrong(board->why, 0);
	print_ends();
	fuzz_print_commands();
	print_moves();
	printf("stress: name=fuzz kernel=%s n=%lu bad=%u seed=%u lives=%lu kills=%lu stuck=%lu services=%lu "
	       "links=%lu calls=%lu claims=%lu threads=%lu forks=%lu execs=%lu passed=%lu good=%d looks=%d seconds=%lu\n",
	       getenv("RPAL_KERNEL") ?: "?", done < limit ? done : limit, bad, seed, lives, kills,
	       stuck, board->services, board->links, board->calls, board->claims, board->threads,
	       board->forks, board->execs, board->passed, fuzz_good->calls, fuzz_good->looks,
	       (test_now_ns() - begin) / SECOND);
	return bad != 0;
}
