// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * stress-failnth N: allocations that fail, each of them, in everything that a
 * placed process does with the module: commands, system calls, exec.
 *
 * An operation is tried with its first allocation failing, with its second, and
 * so on; of very many, with some. Each try must fail with -ENOMEM, or as it is said
 * below, or succeed; what has failed must work when it is tried again. In the end
 * nothing may be lost: kmemleak must be there (kmemleak=on on the command line).
 */
#include "call.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/rseq.h>

#define DEBUG_FS  "/sys/kernel/debug/"
#define KMEMLEAK  DEBUG_FS "kmemleak"
#define FEW	  20
#define NONE	  100000000U /* none fails */
#define LAZY_PROC 1

enum { OP_TRY = OP_USER, OP_UNDO };

/* ------------------------------------------------- operations, in the puppets */

/* What a puppet has; keys and addresses of the other one come with the command. */
static int fail_fd, pipe_fd[2], fd = -1, other_fd = -1, channel_fd = -1, epoll_fd, server_id;
static u64 my_key, peer_key, peer_addr;
static u32 my_id, peer_id, my_tid, my_channel;
static size_t area_size;
static void *area = MAP_FAILED, *pages;
static volatile int handled;

static long result(int r)
{
	return r < 0 ? -errno : r;
}

static long open_other(void)
{
	other_fd = open(TEST_DEV, O_RDWR | O_CLOEXEC);
	return other_fd < 0 ? -errno : 0;
}

static void close_other(void)
{
	close(other_fd);
}

static long place(void)
{
	struct rpal_place arg = { .size = sizeof(arg), .group = "other" };

	return result(ioctl(other_fd, RPAL_IOC_PLACE, &arg));
}

static long query(void)
{
	struct rpal_query arg = { .size = sizeof(arg) };

	return result(ioctl(fd, RPAL_IOC_QUERY, &arg));
}

static long self(void)
{
	struct rpal_self arg = { .size = sizeof(arg) };

	return result(ioctl(fd, RPAL_IOC_SELF, &arg));
}

static long do_register(void)
{
	struct rpal_register reg;
	int r = test_register(fd, &reg);

	if (!r) {
		my_key = reg.key;
		my_id = reg.id;
		area_size = reg.area_size;
	}
	return r;
}

static long unregister(void)
{
	return result(ioctl(fd, RPAL_IOC_UNREGISTER, NULL));
}

static void undo_register(void)
{
	MUST(!unregister());
}

static void ensure_registered(void)
{
	int r = do_register();

	MUST(!r || r == -EBUSY);
}

static long map_area(void)
{
	area = mmap(NULL, area_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return area == MAP_FAILED ? -errno : 0;
}

static void unmap_area(void)
{
	MUST(!munmap(area, area_size));
}

static long thread(void)
{
	struct rpal_thread t = { .size = sizeof(t),
				 .flags = RPAL_THREAD_SENDER | RPAL_THREAD_RECEIVER };
	long r = result(ioctl(fd, RPAL_IOC_THREAD, &t));

	my_tid = r ? 0 : t.tid;
	return r;
}

static long thread_exit(void)
{
	return result(ioctl(fd, RPAL_IOC_THREAD_EXIT, NULL));
}

static void undo_thread(void)
{
	MUST(!thread_exit());
}

static void ensure_thread(void)
{
	long r = thread();

	MUST(!r || r == -EBUSY);
}

static long channel(void)
{
	struct rpal_channel arg = { .size = sizeof(arg), .service = fd };
	long r = result(ioctl(channel_fd, RPAL_IOC_CHANNEL, &arg));

	if (!r)
		my_channel = arg.number;
	return r;
}

static void new_channel_file(void)
{
	if (channel_fd >= 0)
		close(channel_fd);
	channel_fd = test_open();
}

static long watch(void)
{
	struct rpal_watch arg = { .size = sizeof(arg), .fd = epoll_fd };

	return result(ioctl(fd, RPAL_IOC_WATCH, &arg));
}

static void undo_watch(void)
{
	struct rpal_watch arg = { .size = sizeof(arg), .fd = -1 };

	MUST(!ioctl(fd, RPAL_IOC_WATCH, &arg));
}

static long request(void)
{
	struct rpal_request q;

	return test_request(fd, peer_key, &q);
}

static long request_linked(void)
{
	struct rpal_request q;
	long r = test_request(fd, peer_key, &q);

	if (!r && !(q.state & RPAL_LINK_LINKED))
		return -EPROTO;
	peer_id = r ? 0 : q.id;
	return r;
}

static long release(void)
{
	struct rpal_request q;

	return test_release(fd, peer_key, &q);
}

static void undo_request(void)
{
	MUST(!release());
}

static long look_at_peer(void)
{
	struct rpal_peer p;

	return test_peer(fd, peer_key, 0, &p);
}

static long touch(void)
{
	return -test_store((void *)peer_addr, 1);
}

static long touch_in_kernel(void)
{
	return result(read(pipe_fd[0], (void *)peer_addr, 1));
}

/* What was not read stays there. */
static void fill_pipe(void)
{
	MUST(write(pipe_fd[1], "x", 1) == 1);
}

static long peer_fd(void)
{
	struct rpal_peer_fd arg = { .size = sizeof(arg), .id = peer_id, .fd = TEST_FD_PEER };

	return result(ioctl(fd, RPAL_IOC_PEER_FD, &arg));
}

static long peer_of(void)
{
	struct rpal_peer_of arg = { .size = sizeof(arg), .fd = TEST_FD_PEER };

	return result(ioctl(fd, RPAL_IOC_PEER_OF, &arg));
}

static long notify(void)
{
	struct rpal_notify arg = { .size = sizeof(arg), .id = my_id, .number = my_channel };

	return result(ioctl(fd, RPAL_IOC_NOTIFY, &arg));
}

static long deadline(void)
{
	struct rpal_deadline arg = { .size = sizeof(arg), .tid = my_tid };

	return result(ioctl(fd, RPAL_IOC_DEADLINE, &arg));
}

static long wake(void)
{
	struct rpal_wake arg = { .size = sizeof(arg), .tid = my_tid };

	return result(ioctl(fd, RPAL_IOC_WAKE, &arg));
}

static long await(void)
{
	struct rpal_await arg = { .size = sizeof(arg), .id = peer_id };

	return result(ioctl(fd, RPAL_IOC_AWAIT, &arg));
}

static long await_reply(void)
{
	struct rpal_reply arg = { .size = sizeof(arg) };

	return result(ioctl(fd, RPAL_IOC_AWAIT_REPLY, &arg));
}

static long read_notice(void)
{
	struct rpal_notice notice;
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	return result(read(fd, &notice, sizeof(notice)));
}

static void handler(int sig)
{
	handled += sig;
}

static long signal_self(void)
{
	handled = 0;
	if (raise(SIGUSR1))
		return -errno;
	return handled ? 0 : -EPROTO;
}

static long fork_child(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	if (pid < 0)
		return -errno;
	return waitpid(pid, NULL, 0) == pid ? 0 : -EPROTO;
}

static void *nothing(void *arg)
{
	return arg;
}

static long create_thread(void)
{
	pthread_t t;
	int e = pthread_create(&t, NULL, nothing, NULL);

	if (!e)
		pthread_join(t, NULL);
	return -e;
}

static long map_pages(void)
{
	pages = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return pages == MAP_FAILED ? -errno : 0;
}

static void unmap_pages(void)
{
	MUST(!munmap(pages, 8 * PAGE));
}

static long protect_page(void)
{
	return result(mprotect(pages + PAGE, PAGE, PROT_NONE));
}

static void unprotect_page(void)
{
	MUST(!mprotect(pages, 8 * PAGE, PROT_READ | PROT_WRITE));
}

static long unmap_page(void)
{
	return result(munmap(pages + 4 * PAGE, PAGE));
}

static void map_page(void)
{
	MUST(mmap(pages + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == pages + 4 * PAGE);
}

static long close_file(void)
{
	return result(close(other_fd));
}

static void ensure_other(void)
{
	if (fcntl(other_fd, F_GETFD) < 0)
		MUST(!open_other());
}

/* By the library, in a puppet of its own. */
static long init(void)
{
	rpal_error_code_t code;

	if (rpal_init(2, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, &code) >= 0)
		return 0;
	return *rpal_last_error() ? -ENOMEM : -EPROTO;
}

static long serve(void)
{
	return rpal_serve(-1, 0);
}

static long sender(void)
{
	rpal_error_code_t code;

	return rpal_sender_init(&code) == RPAL_SUCCESS ? 0 : -ENOMEM;
}

static void undo_sender(void)
{
	rpal_sender_exit();
}

static void ensure_connected(void)
{
	char path[64];

	if (server_id > 0)
		return;
	snprintf(path, sizeof(path), "@failnth-%d", getppid());
	server_id = rpal_connect(path, test_patience() * 1000, NULL);
	MUST(server_id > 0);
}

/* What is called makes system calls. */
static long call_lazily(void)
{
	int64_t r;
	int e = rpal_call(server_id, LAZY_PROC, NULL, 0, &r);

	return e ? e : r == server_id ? 0 : -EPROTO;
}

static long wait_epoll(void)
{
	struct epoll_event ev;

	return result(rpal_epoll_wait(epoll_fd, &ev, 1, 0));
}

static long ready(void)
{
	int e = rpal_ready_fd(epoll_fd);

	return e < 0 ? e : 0;
}

/* ----------------------------------------------------------------- the table */

struct step {
	const char *name;
	long (*run)(void);
	void (*ensure)(void);  /* before each try, without a failure */
	void (*undo)(void);    /* after a try that succeeded in spite of a failure */
	void (*prepare)(void); /* the same as ensure, but in the driver */
	long want;
	long also; /* with a failure, instead of -ENOMEM */
	bool allocates;
	bool by_partner;
};

static void prepare_unasked(void);
static void prepare_asked(void);
static void prepare_asked_by_us(void);
static void prepare_linked(void);
static void prepare_page(void);
static void prepare_notice(void);

/* In this order; each one finds what those before have left. */
static const struct step steps[] = {
	{ "open", .run = open_other, .undo = close_other, .allocates = true },
	{ "PLACE", .run = place },
	{ "QUERY", .run = query },
	{ "SELF", .run = self },
	{ "REGISTER", .run = do_register, .undo = undo_register, .allocates = true },
	{ "mmap of the area", .run = map_area, .undo = unmap_area, .allocates = true },
	{ "THREAD", .run = thread, .undo = undo_thread, .allocates = true },
	{ "CHANNEL", .run = channel, .ensure = new_channel_file, .allocates = true },
	{ "WATCH", .run = watch, .undo = undo_watch, .allocates = true },
	{ "REQUEST", .run = request, .undo = undo_request, .prepare = prepare_unasked,
	  .allocates = true },
	{ "REQUEST that links", .run = request_linked, .undo = undo_request,
	  .prepare = prepare_asked, .allocates = true },
	{ "REQUEST by the other that links", .run = request_linked, .undo = undo_request,
	  .prepare = prepare_asked_by_us, .allocates = true, .by_partner = true },
	{ "REQUEST that links, again", .run = request_linked, .undo = undo_request,
	  .prepare = prepare_asked, .allocates = true },
	{ "PEER", .run = look_at_peer },
	{ "a peer's page", .run = touch, .prepare = prepare_page, .allocates = true },
	{ "a peer's page in a system call", .run = touch_in_kernel, .ensure = fill_pipe,
	  .prepare = prepare_page, .want = 1, .also = -EFAULT, .allocates = true },
	{ "PEER_FD", .run = peer_fd },
	{ "PEER_OF", .run = peer_of },
	{ "NOTIFY", .run = notify },
	{ "DEADLINE", .run = deadline },
	{ "WAKE", .run = wake },
	{ "AWAIT", .run = await, .want = -EPIPE },
	{ "AWAIT_REPLY", .run = await_reply, .want = -EINVAL },
	{ "read of a notice", .run = read_notice, .prepare = prepare_notice,
	  .want = sizeof(struct rpal_notice) },
	{ "a signal", .run = signal_self },
	{ "fork", .run = fork_child, .also = -EAGAIN, .allocates = true },
	{ "a thread", .run = create_thread, .also = -EAGAIN, .allocates = true },
	{ "mmap", .run = map_pages, .undo = unmap_pages, .allocates = true },
	{ "mprotect", .run = protect_page, .undo = unprotect_page, .allocates = true },
	{ "munmap", .run = unmap_page, .undo = map_page, .allocates = true },
	{ "RELEASE", .run = release, .prepare = prepare_linked },
	{ "THREAD_EXIT", .run = thread_exit, .ensure = ensure_thread },
	{ "UNREGISTER", .run = unregister, .ensure = ensure_registered },
	{ "close", .run = close_file, .ensure = ensure_other },
};

static const struct step library_steps[] = {
	{ "rpal_init()", .run = init, .undo = rpal_exit, .allocates = true },
	{ "rpal_serve()", .run = serve, .want = RPAL_SERVE_TIMEOUT, .undo = rpal_thread_exit,
	  .allocates = true },
	{ "rpal_sender_init()", .run = sender, .undo = undo_sender },
	{ "rpal_epoll_wait()", .run = wait_epoll, .allocates = true },
	{ "rpal_ready_fd()", .run = ready, .allocates = true },
	{ "rpal_call()", .run = call_lazily, .ensure = ensure_connected },
};

static const struct step *step_of(const struct test_cmd *c)
{
	return c->a[0] ? &library_steps[c->a[1]] : &steps[c->a[1]];
}

/* ---------------------------------------------------------------- the puppet */

static void set_fail_nth(unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	if (pwrite(fail_fd, text, len, 0) != len)
		_exit(90);
}

/* How many more would be granted until one fails: 0 if it has. */
static unsigned int get_fail_nth(void)
{
	char text[16] = "";

	if (pread(fail_fd, text, sizeof(text) - 1, 0) <= 0)
		_exit(91);
	return atoi(text);
}

static void begin(void)
{
	static bool begun;
	char *rseq = (char *)__builtin_thread_pointer() + __rseq_offset;
	struct epoll_event ev = { .events = EPOLLIN };

	if (begun)
		return;
	begun = true;
	fail_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	MUST(fail_fd >= 0);
	fd = test_open();
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	MUST(!epoll_ctl(epoll_fd, EPOLL_CTL_ADD, TEST_FD_DRIVER, &ev));
	MUST(!pipe2(pipe_fd, O_CLOEXEC | O_NONBLOCK));
	signal(SIGUSR1, handler);
	/* The library looks after its own threads. */
	if (__rseq_size && (!test_arg || !*test_arg))
		MUST(!syscall(SYS_rseq, rseq, 32, 1 /* unregister */, RSEQ_SIG));
}

static void user_op(const struct test_cmd *c, struct test_res *r)
{
	const struct step *s = step_of(c);

	begin();
	peer_key = c->a[3];
	peer_addr = c->a[4];
	if (c->op == OP_UNDO) {
		if (s->undo)
			s->undo();
		return;
	}
	if (s->ensure)
		s->ensure();
	set_fail_nth(c->a[2]);
	r->ret = s->run();
	r->val = get_fail_nth();
	set_fail_nth(0);
	memcpy(r->buf, &my_key, sizeof(my_key));
}

/* ----------------------------------------------------------------- the driver */

static struct puppet worker, partner;
static u64 page_addr;
static u64 injected, tries, bad;

static void command(struct puppet *p, struct test_cmd *c, struct test_res *r)
{
	c->a[3] = p == &worker ? partner.key : worker.key;
	c->a[4] = page_addr;
	puppet_do(p, c, r);
}

/* The service is that of another file than a puppet's usual one. */
static void let(struct puppet *p, long (*run)(void))
{
	struct test_cmd c = { .op = OP_TRY };
	struct test_res r;

	while (steps[c.a[1]].run != run)
		c.a[1]++;
	command(p, &c, &r);
	memcpy(&p->key, r.buf, sizeof(p->key));
}

static void prepare_unasked(void)
{
	let(&worker, release);
	let(&partner, release);
}

static void prepare_asked(void)
{
	prepare_unasked();
	let(&partner, request);
}

static void prepare_asked_by_us(void)
{
	prepare_unasked();
	let(&worker, request);
}

static void prepare_linked(void)
{
	prepare_asked();
	let(&worker, request_linked);
}

static void prepare_page(void)
{
	page_addr = puppet_mmap(&partner, 0, 4 * MB, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS);
	/* So that it needs a page table, too. */
	page_addr += 2 * MB;
	puppet_rights(&worker, &partner, RIGHTS_WRITE);
}

static void prepare_notice(void)
{
	prepare_linked();
	let(&partner, release);
}

static void wrong(const struct step *s, unsigned int n, long ret, bool hit)
{
	printf("%s: %s, allocation %u%s: %ld, not %ld\n", test_name, s->name, n,
	       hit ? " failing" : "", ret, s->want);
	bad++;
}

/*
 * Of many allocations the first and the last ones, which are ours, and some of
 * those between, others each time.
 */
static unsigned int stride(unsigned int n, unsigned int all)
{
	if (n < 10 || n + 15 > all || all < 40)
		return 1;
	return 1 + test_random() % (all / 10);
}

/* How many more would have been granted: 0 if one has failed. */
static unsigned int try_step(struct puppet *p, const struct step *s, struct test_cmd *c,
			     unsigned int n, struct test_res *r)
{
	bool hit;

	if (s->prepare)
		s->prepare();
	c->op = OP_TRY;
	c->a[2] = n;
	command(p, c, r);
	memcpy(&p->key, r->buf, sizeof(p->key));
	hit = !r->val;
	tries++;
	if (r->ret != s->want && !(hit && (r->ret == -ENOMEM || (s->also && r->ret == s->also))))
		wrong(s, n, r->ret, hit);
	return r->val;
}

static void undo_step(struct puppet *p, const struct step *s, struct test_cmd *c, long ret)
{
	struct test_res r;

	c->op = OP_UNDO;
	if (ret == s->want)
		command(p, c, &r);
}

static void do_step(struct puppet *p, bool library, unsigned int i)
{
	const struct step *s = library ? &library_steps[i] : &steps[i];
	struct test_cmd c = { .op = OP_TRY, .a = { library, i } };
	unsigned int n, all, hits = 0;
	struct test_res r;

	/* One by one, as some are only made the first time. */
	for (n = 1; n <= FEW && !try_step(p, s, &c, n, &r); n++) {
		hits++;
		undo_step(p, s, &c, r.ret);
	}
	all = hits;
	if (n > FEW)
		all = NONE - try_step(p, s, &c, NONE, &r);
	for (; n <= all; n += stride(n, all)) {
		undo_step(p, s, &c, r.ret);
		hits += !try_step(p, s, &c, n, &r);
	}
	/* It works as before, and those that follow find what they need. */
	if (r.ret != s->want)
		try_step(p, s, &c, NONE, &r);
	injected += hits;
	if (s->allocates && !hits) {
		printf("%s: %s: of %u allocations %u have failed\n", test_name, s->name, all, hits);
		bad++;
	}
	if (getenv("VERBOSE"))
		printf("%s: %s: %u of %u\n", test_name, s->name, hits, all);
}

static void commands(void)
{
	struct test_spawn s = { .group = "failnth" };
	unsigned int i;
	int sv[2];

	test_socketpair(sv);
	s.peer = sv[0];
	MUST(!puppet_start(&worker, &s));
	s.peer = sv[1];
	MUST(!puppet_start(&partner, &s));
	close(sv[0]);
	close(sv[1]);
	let(&partner, do_register);
	for (i = 0; i < ARRAY_SIZE(steps); i++)
		do_step(steps[i].by_partner ? &partner : &worker, false, i);
	CHECK(!puppet_end(&worker), "end");
	CHECK(!puppet_end(&partner), "end");
}

/* ------------------------------------------------------------- with the library */

PROC(who)
{
	usleep(1);
	return rpal_get_service_id();
}

static int server_role(void)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "@failnth-%d", getppid());
	MUST(!rpal_export(LAZY_PROC, who, NULL));
	call_init(1);
	call_receivers(1);
	fd = rpal_listen(path);
	MUST(fd >= 0);
	test_send_u64(TEST_FD_DRIVER, 1);
	for (;;)
		rpal_accept(fd, -1, NULL);
}

static void library(void)
{
	struct test_spawn s = { .group = "failnth", .role = "server" };
	struct test_child server;
	unsigned int i;

	MUST(!test_spawn(&server, &s) && test_recv_u64(server.sock) == 1);
	s.role = "puppet";
	s.arg = "library";
	MUST(!puppet_start(&worker, &s));
	for (i = 0; i < ARRAY_SIZE(library_steps); i++)
		do_step(&worker, true, i);
	CHECK(!puppet_end(&worker), "end");
	test_reap(&server);
}

/* ------------------------------------------------------------------------ exec */

static char tiny[300];

/* In a child: execute a program that ends at once; what comes back is an errno. */
static void exec_child(unsigned int n, int err)
{
	struct rpal_place arg = { .size = sizeof(arg), .group = "failnth" };
	char *argv[] = { tiny, "exit", NULL };
	int dev = test_open(), e;

	if (!test_have_pkeys())
		arg.flags |= RPAL_PLACE_NO_PKEYS;
	fail_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	MUST(fail_fd >= 0 && !ioctl(dev, RPAL_IOC_PLACE, &arg));
	set_fail_nth(n);
	execv(tiny, argv);
	e = errno;
	set_fail_nth(0);
	_exit(write(err, &e, sizeof(e)) == sizeof(e) ? 98 : 99);
}

/* The same for a process that has ended, but was not waited for. */
static unsigned int fail_nth_of(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fail-nth", pid);
	return test_file_number(path);
}

static unsigned int exec_once(unsigned int n)
{
	int ev[2], e = 0, status;
	siginfo_t info;
	unsigned int left;
	bool ok;
	pid_t pid;

	MUST(!pipe2(ev, O_CLOEXEC));
	fflush(stdout);
	pid = fork();
	if (!pid)
		exec_child(n, ev[1]);
	close(ev[1]);
	if (read(ev[0], &e, sizeof(e)) != sizeof(e))
		e = 0;
	close(ev[0]);
	MUST(pid > 0 && !waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	/* Who is back has set it to 0. */
	left = fail_nth_of(pid);
	MUST(waitpid(pid, &status, 0) == pid);
	/* Behind the point of no return there is nobody to get an error. */
	if (e)
		/* The kernel says so where it has no memory for arguments or headers. */
		ok = e == ENOMEM || (!left && (e == E2BIG || e == ENOEXEC));
	else if (WIFSIGNALED(status))
		ok = !left && (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGKILL);
	else
		ok = !status;
	if (!ok) {
		printf("%s: exec, allocation %u: error %d, %s\n", test_name, n, e,
		       test_status(status));
		bad++;
	}
	tries++;
	return left;
}

/* With its end; allocations of ours are near its begin. */
static void exec_placed(void)
{
	unsigned int n, hits = 0, all = NONE - exec_once(NONE);

	for (n = 1; n <= all; n += n < 40 ? 1 : stride(n, all))
		hits += !exec_once(n);
	injected += hits;
	if (hits < 40) {
		printf("%s: exec: of %u allocations %u have failed\n", test_name, all, hits);
		bad++;
	}
	if (getenv("VERBOSE"))
		printf("%s: exec: %u of %u\n", test_name, hits, all);
}

/* ----------------------------------------------------------------------- leaks */

static void scan(void)
{
	MUST(test_write_file(KMEMLEAK, "scan"));
}

/* What is left without a pointer to it, that was not when we began. */
static int leaks(void)
{
	char line[300];
	int n = 0;
	FILE *f;

	/* What is younger than five seconds does not count; and a second look helps. */
	usleep(6000000);
	scan();
	usleep(6000000);
	scan();
	f = fopen(KMEMLEAK, "re");
	MUST(f);
	while (fgets(line, sizeof(line), f)) {
		n += !strncmp(line, "unreferenced object", 19);
		/* Not in the words that a report in the log has. */
		printf("%s: leak: %s", test_name, line);
	}
	fclose(f);
	return n;
}

static bool let_all_fail(void)
{
	return test_write_file(DEBUG_FS "failslab/ignore-gfp-wait", "N") &&
	       test_write_file(DEBUG_FS "failslab/verbose", "0") &&
	       test_write_file(DEBUG_FS "fail_page_alloc/ignore-gfp-wait", "N") &&
	       test_write_file(DEBUG_FS "fail_page_alloc/ignore-gfp-highmem", "N") &&
	       test_write_file(DEBUG_FS "fail_page_alloc/min-order", "0") &&
	       test_write_file(DEBUG_FS "fail_page_alloc/verbose", "0");
}

static const struct test_role roles[] = { { "server", .run = server_role }, {} };

int main(int argc, char **argv)
{
	u64 n, i, t;
	ssize_t len;
	long users;
	int lost;

	test_user_op = user_op;
	test_init(argc, argv, roles);
	if (access("/proc/self/fail-nth", W_OK) || !let_all_fail()) {
		printf("skip %s: this kernel cannot let allocations fail\n", test_name);
		return TEST_SKIP;
	}
	if (!test_write_file(KMEMLEAK, "clear")) {
		printf("%s: no kmemleak: add kmemleak=on to the kernel command line\n", test_name);
		return 1;
	}
	len = readlink("/proc/self/exe", tiny, sizeof(tiny) - 10);
	MUST(len > 0);
	strcpy(strrchr(tiny, '/'), "/tiny");
	n = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	t = test_now_ns();
	for (i = 0; i < n; i++) {
		commands();
		library();
		exec_placed();
	}
	users = test_wait_users_gone(test_patience());
	if (users) {
		printf("%s: %ld users of hooks are left\n", test_name, users);
		bad++;
	}
	lost = leaks();
	bad += lost + !!test_failures();
	printf("stress: name=failnth kernel=%s n=%lu bad=%lu tries=%lu failed=%lu leaks=%d seconds=%lu\n",
	       getenv("RPAL_KERNEL") ?: "?", i, bad, tries, injected, lost,
	       (test_now_ns() - t) / 1000000000);
	return bad != 0;
}
