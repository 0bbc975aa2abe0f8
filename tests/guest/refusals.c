// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Which exec is placed and which is not: what cannot be placed is refused with
 * its own error before anything has happened, and a placement that was not
 * used does not turn up elsewhere.
 */
#include "common.h"

#include <elf.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <linux/capability.h>
#include <linux/xattr.h>

#define DIR_	"/tmp/refusals"
#define PROGRAM DIR_ "/program"

/* What the role "verdict" exits with. */
#define PLACED	 50
#define UNPLACED 51
/* What in_child() gives for an exec that failed. */
#define FAILED(e) (100 + (e))

static char tiny[256], tiny_fixed[256 + 8];

static int verdict_role(void)
{
	struct rpal_self self;

	/* Who may not open it, or has another file of that name, was given one. */
	if (test_self(test_open(), &self))
		MUST(!test_self(TEST_FD_SHARED, &self));
	return self.state & RPAL_SELF_PLACED ? PLACED : UNPLACED;
}

static void exec_role(const char *path, const char *role)
{
	char *argv[] = { (char *)path, NULL };

	setenv("RPAL_TEST_ROLE", role, 1);
	execv(path, argv);
}

/* A program that is placed, and executes another. */
static int again_role(void)
{
	if (verdict_role() != PLACED)
		return 60;
	exec_role(PROGRAM, "verdict");
	return 61;
}

/* A child of a placed program is placed in a slot of its own. */
static int nested_role(void)
{
	struct rpal_place place = { .size = sizeof(place) };
	int fd = test_open(), status;
	pid_t pid;

	if (verdict_role() != PLACED)
		return 60;
	pid = fork();
	if (!pid) {
		if (ioctl(fd, RPAL_IOC_PLACE, &place))
			_exit(62);
		exec_role(PROGRAM, "verdict");
		_exit(63);
	}
	status = test_wait(pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 64;
}

static int do_place(int fd, const char *group)
{
	struct rpal_place place = { .size = sizeof(place) };

	if (group)
		strncpy((char *)place.group, group, sizeof(place.group) - 1);
	return ioctl(fd, RPAL_IOC_PLACE, &place) ? errno : 0;
}

/* Exit status of a child that does something. */
static int in_child(int (*fn)(const void *), const void *arg)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	MUST(pid >= 0);
	if (!pid)
		_exit(fn(arg));
	status = test_wait(pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -status;
}

/* Ask for placement and execute a file; how that ended. */
static int placed_exec(const void *path)
{
	int fd = test_open();

	if (do_place(fd, NULL))
		return 62;
	exec_role(path, "verdict");
	return FAILED(errno);
}

static int unplaced_exec(const void *path)
{
	exec_role(path, "verdict");
	return FAILED(errno);
}

/* The same, but after a failure execute the good program. */
static int placed_exec_then_good(const void *path)
{
	int fd = test_open();

	if (do_place(fd, NULL))
		return 62;
	exec_role(path, "verdict");
	exec_role(PROGRAM, "verdict");
	return FAILED(errno);
}

static void write_file(const char *path, const void *data, size_t n, int mode)
{
	int fd;

	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	MUST(fd >= 0 && write(fd, data, n) == (ssize_t)n && !fchmod(fd, mode));
	close(fd);
}

static void check_refused(const char *path, int error, const char *what)
{
	int r;

	r = in_child(placed_exec, path);
	CHECK(r == FAILED(error), "%s: %d, not %d", what, r, FAILED(error));
	/* It was refused in time: the process lives on, the placement is used up. */
	r = in_child(placed_exec_then_good, path);
	CHECK(r == UNPLACED, "%s, then another program: %d", what, r);
}

/* ------------------------------------------------------- not to be placed */

static void formats(void)
{
	/* exit(42) for 32-bit programs */
	static const unsigned char code[] = {
		0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80,
	};
	struct {
		Elf32_Ehdr e;
		Elf32_Phdr p;
		unsigned char code[sizeof(code)];
	} f32 = {
		.e = {
			.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32,
				     ELFDATA2LSB, EV_CURRENT },
			.e_type = ET_EXEC,
			.e_machine = EM_386,
			.e_version = EV_CURRENT,
			.e_entry = 0x8048000 + sizeof(Elf32_Ehdr) + sizeof(Elf32_Phdr),
			.e_phoff = sizeof(Elf32_Ehdr),
			.e_ehsize = sizeof(Elf32_Ehdr),
			.e_phentsize = sizeof(Elf32_Phdr),
			.e_phnum = 1,
		},
		.p = {
			.p_type = PT_LOAD,
			.p_vaddr = 0x8048000,
			.p_paddr = 0x8048000,
			.p_filesz = sizeof(f32),
			.p_memsz = sizeof(f32),
			.p_flags = PF_R | PF_X,
			.p_align = 4096,
		},
	};
	static const char text[] = "exit 7\n";
	char *argv[] = { DIR_ "/text", NULL };
	int r, fd;
	pid_t pid;

	test_begin("a program at fixed addresses is refused");
	check_refused(tiny_fixed, ELIBBAD, "fixed");
	test_end();

	test_begin("32-bit programs are refused");
	memcpy(f32.code, code, sizeof(code));
	write_file(DIR_ "/32", &f32, sizeof(f32), 0755);
	r = in_child(unplaced_exec, DIR_ "/32");
	CHECK(r == 42 || r == FAILED(ENOEXEC) || r == -SIGSEGV, "unplaced: %d", r);
	check_refused(DIR_ "/32", ELIBBAD, "32-bit");
	f32.e.e_type = ET_DYN;
	write_file(DIR_ "/32-pie", &f32, sizeof(f32), 0755);
	check_refused(DIR_ "/32-pie", ELIBBAD, "32-bit PIE");
	/* x32: a 64-bit machine with 32-bit pointers. */
	f32.e.e_machine = EM_X86_64;
	write_file(DIR_ "/x32", &f32, sizeof(f32), 0755);
	check_refused(DIR_ "/x32", ELIBBAD, "x32");
	test_end();

	test_begin("what is no program is refused and not run by a shell");
	write_file(DIR_ "/text", text, sizeof(text) - 1, 0755);
	check_refused(DIR_ "/text", ELIBBAD, "text");
	fflush(stdout);
	pid = fork();
	if (!pid) {
		fd = test_open();
		if (do_place(fd, NULL))
			_exit(62);
		execvp(argv[0], argv);
		_exit(FAILED(errno));
	}
	r = test_wait(pid);
	CHECK(r == FAILED(ELIBBAD) << 8, "execvp: %s", test_status(r));
	test_end();
}

static int run_as(const char *path, uid_t uid)
{
	struct test_spawn s = { .path = path, .role = "verdict", .uid = uid };
	struct test_child c;
	int e = test_spawn(&c, &s), status;

	if (e)
		return FAILED(e);
	status = test_wait(c.pid);
	close(c.sock);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -status;
}

static void privileges(void)
{
	struct vfs_cap_data caps = {
		.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
		.data[0].permitted = 1 << CAP_NET_RAW,
	};
	const char *f = DIR_ "/privileged";
	int r;

	test_begin("set-user-id and set-group-id programs are refused");
	MUST(!test_copy_file(PROGRAM, f, 0755));
	CHECK(run_as(f, 0) == PLACED, "%d", run_as(f, 0));
	CHECK(run_as(f, 1000) == PLACED, "%d", run_as(f, 1000));
	MUST(!chown(f, 1001, 1001) && !chmod(f, 04755));
	check_refused(f, EPERM, "setuid");
	r = run_as(f, 1000);
	CHECK(r == FAILED(EPERM), "setuid: %d", r);
	MUST(!chmod(f, 02755));
	check_refused(f, EPERM, "setgid");
	r = run_as(f, 1000);
	CHECK(r == FAILED(EPERM), "setgid: %d", r);
	MUST(!chown(f, 0, 0) && !chmod(f, 04755));
	r = run_as(f, 1000);
	CHECK(r == FAILED(EPERM), "setuid root: %d", r);
	/* Without the group's x it does not mean set-group-id. */
	MUST(!chmod(f, 02745));
	r = run_as(f, 1000);
	CHECK(r == PLACED, "02745: %d", r);
	MUST(!chmod(f, 0755));
	r = run_as(f, 1000);
	CHECK(r == PLACED, "0755: %d", r);
	test_end();

	test_begin("programs with file capabilities are refused");
	if (setxattr(f, XATTR_NAME_CAPS, &caps, XATTR_CAPS_SZ_2, 0)) {
		test_skip_case("this file system has no capabilities");
	} else {
		check_refused(f, EPERM, "file capabilities");
		r = run_as(f, 1000);
		CHECK(r == FAILED(EPERM), "capabilities: %d", r);
		removexattr(f, XATTR_NAME_CAPS);
		r = run_as(f, 1000);
		CHECK(r == PLACED, "without them: %d", r);
	}
	test_end();
}

/* ------------------------------------------------------------ no more room */

#define MANY 300

static struct test_child many[MANY];

/* The slot of a dead process may be taken for a moment more. */
static int retry_spawn(struct test_child *c, const struct test_spawn *s)
{
	u64 end = test_now_ns() + 10000000000ULL;
	int e;

	while ((e = test_spawn(c, s)) && test_now_ns() < end)
		usleep(10000);
	return e;
}

static int end_many(int n)
{
	int i;

	for (i = 0; i < n; i++)
		kill(many[i].pid, SIGKILL);
	for (i = 0; i < n; i++)
		test_reap(&many[i]);
	return n;
}

static void slots(void)
{
	struct test_spawn s = { .path = tiny };
	int n, e = 0, r;

	test_begin("no slot left");
	for (n = 0; n < MANY; n++) {
		e = n < 10 ? retry_spawn(&many[n], &s) : test_spawn(&many[n], &s);
		if (e)
			break;
	}
	CHECK(e == ENOSPC, "errno %d", e);
	CHECK(n >= RPAL_MAX_SLOT - 2 && n <= RPAL_MAX_SLOT, "after %d", n);
	check_refused(PROGRAM, ENOSPC, "full");
	r = in_child(unplaced_exec, PROGRAM);
	CHECK(r == UNPLACED, "%d", r);
	if (n) {
		test_reap(&many[n - 1]);
		e = retry_spawn(&many[n - 1], &s);
		CHECK(!e, "after one has gone: %s", strerror(e));
	}
	end_many(n);
	e = retry_spawn(&many[0], &s);
	CHECK(!e, "after all have gone: %s", strerror(e));
	if (!e)
		end_many(1);
	test_end();
}

static void groups(void)
{
	struct rpal_query q = { .size = sizeof(q) };
	struct test_spawn s = { .path = tiny, .group = "team" };
	int fd = test_open(), n, e = 0, nr = 0;

	test_begin("a group with as many members as there are keys");
	CHECK(!ioctl(fd, RPAL_IOC_QUERY, &q), "errno %d", errno);
	close(fd);
	CHECK(q.nr_keys >= 1 && q.nr_keys <= 15, "%u keys", q.nr_keys);
	for (n = 0; n < 20; n++) {
		e = test_spawn(&many[n], &s);
		if (e)
			break;
	}
	nr = n;
	CHECK(e == ENOTUNIQ && n == (int)q.nr_keys, "errno %d after %d", e, n);
	s.group = "others";
	e = test_spawn(&many[nr], &s);
	CHECK(!e, "another group: %s", strerror(e));
	nr += !e;
	s.group = NULL;
	e = test_spawn(&many[nr], &s);
	CHECK(!e, "no group: %s", strerror(e));
	nr += !e;
	s.group = "team";
	e = test_spawn(&many[nr], &s);
	CHECK(e == ENOTUNIQ, "still full: %s", strerror(e));
	test_reap(&many[0]);
	e = retry_spawn(&many[0], &s);
	CHECK(!e, "after one has gone: %s", strerror(e));
	end_many(nr);
	test_end();
}

/* --------------------------------------------------------- use of a request */

static int closed_file(const void *unused)
{
	int fd = test_open();

	(void)unused;
	if (do_place(fd, NULL))
		return 62;
	close(fd);
	exec_role(PROGRAM, "verdict");
	return FAILED(errno);
}

static int duplicated_file(const void *unused)
{
	int fd = test_open();

	(void)unused;
	if (do_place(fd, NULL) || dup(fd) < 0)
		return 62;
	close(fd);
	exec_role(PROGRAM, "verdict");
	return FAILED(errno);
}

/* execvp() tries one directory after the other. */
static int search(const void *unused)
{
	int fd = test_open();

	(void)unused;
	if (do_place(fd, NULL))
		return 62;
	exec_role(DIR_ "/nothing", "verdict");
	exec_role(DIR_, "verdict");
	exec_role(DIR_ "/not-executable", "verdict");
	exec_role(PROGRAM, "verdict");
	return FAILED(errno);
}

static int request_replaced(const void *unused)
{
	int fd = test_open();

	(void)unused;
	if (do_place(fd, "first") || do_place(fd, "second") || do_place(fd, NULL))
		return 62;
	exec_role(PROGRAM, "again");
	return FAILED(errno);
}

/* Two files, neither of which is closed by the exec. */
static int two_files(const void *unused)
{
	int a = open(TEST_DEV, O_RDWR), b = open(TEST_DEV, O_RDWR);

	(void)unused;
	if (do_place(a, NULL) || do_place(b, NULL))
		return 62;
	exec_role(PROGRAM, "again");
	return FAILED(errno);
}

/* However many files a task asks on: what counts is the last request, and its file. */
static int many_files(const void *unused)
{
	int last = -1, i;

	(void)unused;
	for (i = 0; i < 500; i++) {
		last = open(TEST_DEV, O_RDWR);
		if (do_place(last, NULL))
			return 62;
	}
	close(last);
	exec_role(PROGRAM, "verdict");
	return FAILED(errno);
}

static int used_once(const void *unused)
{
	int fd = open(TEST_DEV, O_RDWR);

	(void)unused;
	if (do_place(fd, NULL))
		return 62;
	exec_role(PROGRAM, "again");
	return FAILED(errno);
}

static int child_of_placed(const void *unused)
{
	int fd = test_open();

	(void)unused;
	if (do_place(fd, NULL))
		return 62;
	exec_role(PROGRAM, "nested");
	return FAILED(errno);
}

static int not_the_child(const void *unused)
{
	int fd = test_open(), r;

	(void)unused;
	if (do_place(fd, NULL))
		return 62;
	r = in_child(unplaced_exec, PROGRAM);
	if (r != UNPLACED)
		return r;
	exec_role(PROGRAM, "verdict");
	return FAILED(errno);
}

static void *place_thread(void *fd)
{
	return (void *)(long)do_place(*(int *)fd, NULL);
}

static void *exec_thread(void *fd)
{
	if (do_place(*(int *)fd, NULL))
		_exit(62);
	exec_role(PROGRAM, "verdict");
	_exit(FAILED(errno));
}

static int not_another_thread(const void *unused)
{
	int fd = test_open();
	pthread_t t;
	void *r;

	(void)unused;
	if (pthread_create(&t, NULL, place_thread, &fd))
		return 63;
	pthread_join(t, &r);
	if (r)
		return 62;
	exec_role(PROGRAM, "verdict");
	return FAILED(errno);
}

static int a_thread_itself(const void *unused)
{
	int fd = test_open();
	pthread_t t;

	(void)unused;
	if (pthread_create(&t, NULL, exec_thread, &fd))
		return 63;
	for (;;)
		pause();
}

static int shared_dev;

static int place_and_die(const void *unused)
{
	(void)unused;
	return do_place(shared_dev, NULL);
}

static int vfork_child(const void *unused)
{
	int fd = test_open(), status;
	pid_t pid;

	(void)unused;
	setenv("RPAL_TEST_ROLE", "verdict", 1);
	pid = vfork();
	if (!pid) {
		if (do_place(fd, NULL))
			_exit(62);
		execl(PROGRAM, PROGRAM, NULL);
		_exit(63);
	}
	waitpid(pid, &status, 0);
	if (status != PLACED << 8)
		return WEXITSTATUS(status);
	/* We are what we were. */
	exec_role(PROGRAM, "verdict");
	return FAILED(errno);
}

static void requests(void)
{
	static const struct {
		const char *name;
		int (*fn)(const void *);
		int want;
	} cases[] = {
		{ "a closed file's request is gone", closed_file, UNPLACED },
		{ "but not while the file is open elsewhere", duplicated_file, PLACED },
		{ "a search through PATH is one exec", search, PLACED },
		{ "a request replaces the one before", request_replaced, UNPLACED },
		{ "requests on two files are one placement", two_files, UNPLACED },
		{ "of requests on many files the last one counts", many_files, UNPLACED },
		{ "a request is good for one exec", used_once, UNPLACED },
		{ "a child does not inherit a request", not_the_child, PLACED },
		{ "a child of a placed program can be placed", child_of_placed, PLACED },
		{ "another thread's request", not_another_thread, UNPLACED },
		{ "the exec of a thread", a_thread_itself, PLACED },
		{ "a request after vfork is the child's", vfork_child, UNPLACED },
	};
	size_t i;
	int r, n;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		test_begin("%s", cases[i].name);
		r = in_child(cases[i].fn, NULL);
		CHECK(r == cases[i].want, "%d, not %d", r, cases[i].want);
		test_end();
	}

	test_begin("a dead task's request is not inherited");
	shared_dev = test_open();
	for (n = 0; n < 200; n++) {
		r = in_child(place_and_die, NULL);
		CHECK(!r, "%d", r);
		r = in_child(unplaced_exec, PROGRAM);
		if (!CHECK(r == UNPLACED, "round %d: %d", n, r))
			break;
	}
	close(shared_dev);
	test_end();
}

static void scripts(void)
{
	static const char a[] = "#!" PROGRAM "\nnothing\n";
	static const char b[] = "#!" DIR_ "/script\n";
	char c[300];
	int r;

	test_begin("a script's interpreter is placed");
	write_file(DIR_ "/script", a, sizeof(a) - 1, 0755);
	write_file(DIR_ "/script2", b, sizeof(b) - 1, 0755);
	snprintf(c, sizeof(c), "#!%s\n", tiny_fixed);
	write_file(DIR_ "/script3", c, strlen(c), 0755);
	r = in_child(placed_exec, DIR_ "/script");
	CHECK(r == PLACED, "%d", r);
	r = in_child(unplaced_exec, DIR_ "/script");
	CHECK(r == UNPLACED, "%d", r);
	r = in_child(placed_exec, DIR_ "/script2");
	CHECK(r == PLACED, "script of a script: %d", r);
	check_refused(DIR_ "/script3", ELIBBAD, "script of a fixed program");
	test_end();
}

/* Stamp a copy as the mark does. */
static void marked_copy(const char *from, const char *to, int mode)
{
	int fd;

	MUST(!test_copy_file(from, to, mode));
	fd = open(to, O_RDWR | O_CLOEXEC);
	MUST(fd >= 0 && pwrite(fd, "RPAL", 4, 12) == 4);
	close(fd);
	MUST(!chmod(to, mode)); /* writing took the bits away */
}

static void marks(void)
{
	const char *f = DIR_ "/marked";
	int r;

	test_begin("a marked program is placed by itself");
	marked_copy(PROGRAM, f, 0755);
	r = in_child(unplaced_exec, f);
	CHECK(r == PLACED, "%d", r);
	r = in_child(placed_exec, f);
	CHECK(r == PLACED, "with a request: %d", r);
	test_end();
	test_begin("a marked program that cannot be placed is refused");
	marked_copy(tiny_fixed, f, 0755);
	r = in_child(unplaced_exec, f);
	CHECK(r == FAILED(ELIBBAD), "fixed: %d", r);
	marked_copy(PROGRAM, f, 04755);
	r = in_child(unplaced_exec, f);
	CHECK(r == FAILED(EPERM), "setuid: %d", r);
	test_end();
	if (access("/sys/module/rpal/parameters/marker", W_OK))
		return;
	test_begin("marks can be forbidden");
	test_write_file("/sys/module/rpal/parameters/marker", "0");
	marked_copy(PROGRAM, f, 0755);
	r = in_child(unplaced_exec, f);
	CHECK(r == UNPLACED, "%d", r);
	test_write_file("/sys/module/rpal/parameters/marker", "1");
	r = in_child(unplaced_exec, f);
	CHECK(r == PLACED, "%d", r);
	test_end();
}

/* ------------------------------------------ marked, by who may not open the device */

struct stranger {
	const char *path;
	gid_t group;	 /* 0: of its own */
	bool namespaces; /* with a /dev of its own, in which there is a file of that name */
};

static int strange_exec(const void *arg)
{
	const struct stranger *s = arg;
	gid_t group = s->group ? s->group : 1001;
	int fd = test_open();

	if (dup2(fd, TEST_FD_SHARED) != TEST_FD_SHARED || setgroups(0, NULL) ||
	    setresgid(group, group, group) || setresuid(1001, 1001, 1001))
		return 70;
	if (s->namespaces) {
		prctl(PR_SET_DUMPABLE, 1);
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
			return 71;
		if (!test_write_file("/proc/self/setgroups", "deny") ||
		    !test_write_file("/proc/self/uid_map", "0 1001 1") ||
		    !test_write_file("/proc/self/gid_map", "0 1001 1") ||
		    mount("none", "/dev", "tmpfs", 0, NULL) ||
		    open(TEST_DEV, O_RDWR | O_CREAT | O_CLOEXEC, 0666) < 0)
			return 72;
	}
	exec_role(s->path, "verdict");
	return FAILED(errno);
}

static void strangers(void)
{
	struct stranger s = { .path = DIR_ "/marked" };
	struct stat st;
	int r;

	test_begin("a marked program runs unplaced if its user may not open the device");
	MUST(!stat(TEST_DEV, &st) && !chmod(TEST_DEV, 0660) && !chown(TEST_DEV, 0, 990));
	marked_copy(PROGRAM, s.path, 0755);
	r = in_child(strange_exec, &s);
	CHECK(r == UNPLACED, "%d", r);
	s.namespaces = true;
	r = in_child(strange_exec, &s);
	CHECK(r == UNPLACED || r == 71, "another file in the device's place: %d", r);
	s.namespaces = false;
	s.group = 990;
	r = in_child(strange_exec, &s);
	CHECK(r == PLACED, "in its group: %d", r);
	/* It wants both, as a service does. */
	MUST(!chmod(TEST_DEV, 0640));
	r = in_child(strange_exec, &s);
	CHECK(r == UNPLACED, "it may read: %d", r);
	MUST(!chmod(TEST_DEV, 0600));
	r = in_child(strange_exec, &s);
	CHECK(r == UNPLACED, "root's alone: %d", r);
	r = in_child(unplaced_exec, s.path);
	CHECK(r == PLACED, "root: %d", r);
	/* Nor is it refused what nobody would be placed for. */
	s.group = 0;
	marked_copy(PROGRAM, s.path, 04755);
	r = in_child(strange_exec, &s);
	CHECK(r == UNPLACED, "set-user-id: %d", r);
	MUST(!chmod(TEST_DEV, st.st_mode & 07777) && !chown(TEST_DEV, st.st_uid, st.st_gid));
	test_end();
}

/* ------------------------------------------- what others have asked for */

/*
 * Requests of one task, of another, and of many. With a walk through them the exec of who
 * has asked takes as many steps as there are, for each of its own.
 */
#define ASKED	      2000
#define ASKED_BEFORE  30000
#define ASKED_THREADS 2000

/* How much longer it may take: more than the noise of a busy machine. */
#define TOLERATED      3
#define TOLERATED_ONCE 20 /* what is not the shortest of many tries */

struct asker {
	pid_t pid;
	int ready, go;
};

static void *ask_thread(void *ready)
{
	if (do_place(test_open(), NULL))
		_exit(65);
	MUST(write(*(int *)ready, "", 1) == 1);
	for (;;)
		pause();
}

static void ask_in_threads(int ready)
{
	pthread_attr_t attr;
	pthread_t t;
	int i;

	MUST(!pthread_attr_init(&attr) && !pthread_attr_setstacksize(&attr, 64 * 1024));
	for (i = 0; i < ASKED_THREADS; i++)
		if (pthread_create(&t, &attr, ask_thread, &ready))
			_exit(66);
}

static void ask_on_files(int files, bool really, int ready)
{
	int fd, i;

	for (i = 0; i < files; i++) {
		fd = test_open();
		if (fd < 0 || (really && do_place(fd, NULL)))
			_exit(67);
	}
	MUST(write(ready, "", 1) == 1);
}

/* A child that asks for placement, and executes something when it is told to. */
static void asker_new(struct asker *a, int files, bool really, bool threads)
{
	struct rlimit limit = { 2 * ASKED_BEFORE, 2 * ASKED_BEFORE };
	int ready[2], go[2], n = threads ? ASKED_THREADS : 1;
	char c;

	MUST(!pipe2(ready, O_CLOEXEC) && !pipe2(go, O_CLOEXEC));
	fflush(stdout);
	a->pid = fork();
	MUST(a->pid >= 0);
	if (!a->pid) {
		setrlimit(RLIMIT_NOFILE, &limit);
		close(go[1]);
		if (threads)
			ask_in_threads(ready[1]);
		else
			ask_on_files(files, really, ready[1]);
		if (read(go[0], &c, 1) != 1)
			_exit(68);
		/* Refused, or not: that takes little time, and is one exec. */
		execl(tiny_fixed, "tiny", "ends", NULL);
		_exit(0);
	}
	close(ready[1]);
	close(go[0]);
	while (n--)
		MUST(read(ready[0], &c, 1) == 1);
	close(ready[0]);
	a->go = go[1];
}

static void asker_kill(struct asker *a)
{
	kill(a->pid, SIGKILL);
	test_wait(a->pid);
	close(a->go);
}

/* How long its exec takes. */
static u64 asker_exec(struct asker *a)
{
	u64 start = test_now_ns();

	MUST(write(a->go, "", 1) == 1);
	CHECK(!test_wait(a->pid), "the program");
	close(a->go);
	return test_now_ns() - start;
}

static u64 one_exec(void)
{
	u64 start = test_now_ns();
	pid_t pid = vfork();

	if (!pid) {
		execl(tiny_fixed, "tiny", "ends", NULL);
		_exit(69);
	}
	MUST(pid > 0 && waitpid(pid, NULL, 0) == pid);
	return test_now_ns() - start;
}

/* The shortest time in which somebody else executes a program. */
static u64 others_exec(void)
{
	u64 best = ~0UL, t;
	int i;

	for (i = 0; i < 30; i++) {
		t = one_exec();
		best = t < best ? t : best;
	}
	return best;
}

static void check_time(const char *what, u64 time, u64 before, u64 tolerated)
{
	printf("# %s: %lu us, without %lu us\n", what, time / 1000, before / 1000);
	CHECK(time < tolerated * before, "%s: %lu us, without %lu us", what, time / 1000,
	      before / 1000);
}

static void many_requests(void)
{
	struct asker plain, before, asks;
	u64 ordinary, alone;

	test_begin("an exec takes as long, however much others have asked for");
	ordinary = others_exec();
	asker_new(&plain, ASKED, false, false);
	alone = asker_exec(&plain);
	asker_new(&asks, ASKED, true, false);
	asker_new(&before, ASKED_BEFORE, true, false);
	check_time("somebody's, with requests on many files", others_exec(), ordinary, TOLERATED);
	check_time("who has asked itself", asker_exec(&asks), alone, TOLERATED_ONCE);
	asker_kill(&before);
	asker_new(&before, 0, true, true);
	check_time("somebody's, with requests of many threads", others_exec(), ordinary, TOLERATED);
	asker_kill(&before);
	test_end();
}

#define SWITCH "/sys/module/rpal/parameters/enable"

enum { REGISTER, IS_SERVICE };

/* One that was placed before; says what has come of what it is told. */
static int early_role(void)
{
	struct rpal_self self = { .size = sizeof(self) };
	struct rpal_register reg = { .size = sizeof(reg), .nr_receivers = 1 };
	int fd = test_open();

	MUST(!ioctl(fd, RPAL_IOC_SELF, &self));
	reg.ranges.open_start = self.base;
	reg.ranges.open_end = self.base;
	reg.ranges.enter_start = self.base;
	reg.ranges.enter_end = self.base;
	reg.ranges.leave_start = self.base;
	reg.ranges.leave_end = self.base;
	reg.ranges.home_start = self.base;
	reg.ranges.home_end = self.base;
	reg.ranges.lazy_ip = self.base;
	reg.ranges.wait_ip = self.base;
	for (;;) {
		int r;

		if (test_recv_u64(TEST_FD_DRIVER) == REGISTER) {
			r = ioctl(fd, RPAL_IOC_REGISTER, &reg) ? errno : 0;
		} else {
			MUST(!ioctl(fd, RPAL_IOC_SELF, &self));
			r = !!(self.state & RPAL_SELF_REGISTERED);
		}
		test_send_u64(TEST_FD_DRIVER, r);
	}
}

static int tell(const struct test_child *c, int what)
{
	test_send_u64(c->sock, what);
	return test_recv_u64(c->sock);
}

static bool is_off(void)
{
	struct rpal_query q = { .size = sizeof(q) };
	int fd = test_open();

	MUST(!ioctl(fd, RPAL_IOC_QUERY, &q));
	close(fd);
	return q.features & RPAL_FEATURE_OFF;
}

static int ask_to_be_placed(const void *arg)
{
	struct rpal_place req = { .size = sizeof(req) };

	(void)arg;
	return ioctl(test_open(), RPAL_IOC_PLACE, &req) ? FAILED(errno) : PLACED;
}

static int ask_then_switch_off(const void *path)
{
	struct rpal_place req = { .size = sizeof(req) };

	MUST(!ioctl(test_open(), RPAL_IOC_PLACE, &req));
	test_write_file(SWITCH, "0");
	exec_role(path, "verdict");
	return FAILED(errno);
}

static void off_switch(void)
{
	struct test_spawn s = { .role = "early" };
	const char *f = DIR_ "/marked-off";
	struct test_child service, late;
	int r;

	test_begin("the off switch");
	marked_copy(PROGRAM, f, 0755);
	CHECK(!is_off(), "off");
	MUST(!test_spawn(&service, &s) && !test_spawn(&late, &s));
	CHECK(tell(&service, REGISTER) == 0, "no service");
	r = in_child(ask_then_switch_off, PROGRAM);
	CHECK(r == FAILED(ESHUTDOWN), "%d", r);
	CHECK(is_off(), "not off");
	r = in_child(ask_to_be_placed, NULL);
	CHECK(r == FAILED(ESHUTDOWN), "%d", r);
	r = in_child(unplaced_exec, f);
	CHECK(r == UNPLACED, "marked: %d", r);
	r = tell(&late, REGISTER);
	CHECK(r == ESHUTDOWN, "%d", r);
	CHECK(tell(&service, IS_SERVICE), "no longer a service");
	test_write_file(SWITCH, "1");
	CHECK(!is_off(), "off");
	r = tell(&late, REGISTER);
	CHECK(r == 0, "%d", r);
	r = in_child(unplaced_exec, f);
	CHECK(r == PLACED, "marked: %d", r);
	test_reap(&service);
	test_reap(&late);
	test_end();
}

static const struct test_role roles[] = { { "early", early_role },
					  { "verdict", verdict_role },
					  { "again", again_role },
					  { "nested", nested_role },
					  {} };

int main(int argc, char **argv)
{
	char self[200];
	ssize_t n;

	test_init(argc, argv, roles);
	if (!test_have_pkeys()) {
		printf("skip %s: no protection keys\n", test_name);
		return TEST_SKIP;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	MUST(n > 0);
	self[n] = 0;
	snprintf(tiny, sizeof(tiny), "%.*s/tiny", (int)(strrchr(self, '/') - self), self);
	snprintf(tiny_fixed, sizeof(tiny_fixed), "%s-fixed", tiny);
	mkdir(DIR_, 0755);
	MUST(!test_copy_file(self, PROGRAM, 0755));
	write_file(DIR_ "/not-executable", "x", 1, 0644);

	formats();
	privileges();
	requests();
	scripts();
	marks();
	strangers();
	many_requests();
	groups();
	slots();
	off_switch();
	return test_finish();
}
