// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Probes of the kernel's in a placed program (uprobes, as perf and bpftrace set them):
 * each call is seen, the program does what it does without them, and the page that
 * the kernel maps for them lies where everything else does.
 */
#include "common.h"

#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/wait.h>

#define TRACING "/sys/kernel/tracing/"
#define EVENTS	TRACING "uprobe_events"
#define GROUP	"rpal_probes"
#define CALLS	20
#define THREADS 4

/*
 * The instruction that is probed must really be executed, and in the page mapped for that:
 * the kernel only pretends to do it with some.
 */
asm(".pushsection .text\n"
    "probed:\n"
    "	leal	1(%rdi), %eax\n"
    "	ret\n"
    ".popsection\n");
int probed(int x);

enum { OP_CALLS = OP_USER, OP_THREADS, OP_FORK };

/* ------------------------------------------------------------ in the puppet */

/* How many calls have given what they should. */
static long calls(void)
{
	long i, good = 0;

	for (i = 0; i < CALLS; i++)
		good += probed(i) == i + 1;
	return good;
}

static void *thread(void *unused)
{
	(void)unused;
	return (void *)calls();
}

static long in_threads(void)
{
	pthread_t t[THREADS];
	long good = 0;
	void *r;
	int i;

	for (i = 0; i < THREADS; i++)
		MUST(!pthread_create(&t[i], NULL, thread, NULL));
	for (i = 0; i < THREADS; i++) {
		MUST(!pthread_join(t[i], &r));
		good += (long)r;
	}
	return good;
}

static long in_child(void)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	MUST(pid >= 0);
	if (!pid)
		_exit(calls());
	status = test_wait(pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -status;
}

static int is_probes(const struct test_vma *v, void *unused)
{
	(void)unused;
	return !strcmp(v->name, "[uprobes]");
}

static void obey(const struct test_cmd *c, struct test_res *r)
{
	struct rpal_self self;

	switch (c->op) {
	case OP_CALLS:
		r->ret = calls();
		break;
	case OP_THREADS:
		r->ret = in_threads();
		break;
	case OP_FORK:
		r->ret = in_child();
		break;
	}
	MUST(!test_self(test_open(), &self));
	r->val = test_for_each_vma(false, is_probes, NULL);
	r->code = self.slot ? test_bad_vmas(&self, false) : 0;
}

/* ------------------------------------------------------------ in the driver */

struct place {
	u64 addr;
	u64 offset;
};

static int find_offset(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct place *p = arg;
	u64 start;
	int i;

	(void)size;
	for (i = 0; i < info->dlpi_phnum; i++) {
		start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
		if (info->dlpi_phdr[i].p_type == PT_LOAD && p->addr >= start &&
		    p->addr - start < info->dlpi_phdr[i].p_filesz) {
			p->offset = p->addr - start + info->dlpi_phdr[i].p_offset;
			return 1;
		}
	}
	return 0;
}

static bool add_event(const char *text)
{
	int fd = open(EVENTS, O_WRONLY | O_APPEND | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static void probes_off(void)
{
	test_write_file(TRACING "events/" GROUP "/enable", "0");
	add_event("-:" GROUP "/entry");
	add_event("-:" GROUP "/return");
}

static void probes_on(bool returns)
{
	struct place p = { .addr = (u64)probed };
	char path[200], event[300];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	MUST(n > 0 && dl_iterate_phdr(find_offset, &p));
	path[n] = 0;
	snprintf(event, sizeof(event), "p:" GROUP "/entry %s:%#lx", path, p.offset);
	MUST(add_event(event));
	if (returns) {
		snprintf(event, sizeof(event), "r:" GROUP "/return %s:%#lx", path, p.offset);
		MUST(add_event(event));
	}
	MUST(test_write_file(TRACING "events/" GROUP "/enable", "1"));
}

/* How often an event has come, as the kernel counts it. */
static long hits(const char *event)
{
	char line[500], name[100];
	long n, found = -1;
	FILE *f = fopen(TRACING "uprobe_profile", "re");

	MUST(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %99s %ld", name, &n) == 2 && !strcmp(name, event))
			found = n;
	fclose(f);
	return found;
}

struct trial {
	const char *name;
	int op;
	int want; /* calls */
	bool unplaced;
	bool returns;
	bool late; /* the probes come when the program runs */
	unsigned long persona;
};

static void try(const struct trial *t)
{
	struct test_spawn s = { .unplaced = t->unplaced, .persona = t->persona };
	struct test_cmd c = { .op = t->op };
	struct test_res r;
	struct puppet p;

	if (!t->late)
		probes_on(t->returns);
	errno = puppet_start(&p, &s);
	MUST(!errno);
	if (t->late)
		probes_on(t->returns);
	puppet_send(&p, &c);
	if (CHECK(puppet_result(&p, &r), "does not go on")) {
		CHECK_IS(r.ret, t->want);
		CHECK(r.val || t->op == OP_FORK, "no page for probes");
		CHECK_IS(r.code, 0);
		CHECK_IS(hits("entry"), t->want);
		if (t->returns)
			CHECK_IS(hits("return"), t->want);
		CHECK(!puppet_end(&p), "end");
	} else {
		puppet_kill(&p);
	}
	probes_off();
}

int main(int argc, char **argv)
{
	static const struct trial trials[] = {
		{ .name = "a program that is not placed",
		  .op = OP_CALLS,
		  .want = CALLS,
		  .unplaced = true,
		  .returns = true },
		{ .name = "a placed program", .op = OP_CALLS, .want = CALLS },
		{ .name = "a placed program that is running",
		  .op = OP_CALLS,
		  .want = CALLS,
		  .late = true },
		{ .name = "returns, too", .op = OP_CALLS, .want = CALLS, .returns = true },
		{ .name = "returns, too, of one that is running",
		  .op = OP_CALLS,
		  .want = CALLS,
		  .returns = true,
		  .late = true },
		{ .name = "in the legacy layout",
		  .op = OP_CALLS,
		  .want = CALLS,
		  .returns = true,
		  .persona = ADDR_COMPAT_LAYOUT },
		{ .name = "many threads of a placed program",
		  .op = OP_THREADS,
		  .want = THREADS * CALLS,
		  .returns = true },
		{ .name = "a forked child of a placed program",
		  .op = OP_FORK,
		  .want = CALLS,
		  .returns = true },
	};
	size_t i;

	test_user_op = obey;
	test_init(argc, argv, NULL);
	mount("tracefs", TRACING, "tracefs", 0, NULL);
	if (access(EVENTS, W_OK)) {
		test_begin("probes");
		test_skip_case("this kernel has none");
		test_end();
		return test_finish();
	}
	probes_off();
	for (i = 0; i < ARRAY_SIZE(trials); i++) {
		test_begin("probes: %s", trials[i].name);
		try(&trials[i]);
		test_end();
	}
	return test_finish();
}
