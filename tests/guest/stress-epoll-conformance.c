// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Do RPAL's events follow the rules of epoll(7)? usage:
 * stress-epoll-conformance [N [SEED]]
 *
 * A scenario is a list of steps for a process that has connections with a peer.
 * It is done twice, with the same two processes: over sockets, with the kernel's
 * epoll, and over the queues of the same kind of sockets. What was seen by each
 * step must be the same. Some scenarios are written down here, with what is to
 * be seen; N are generated, the k-th from SEED + k.
 *
 * The peer does what it is told, and has done so when the next step begins;
 * only what a wait is to wait for comes later.
 *
 *	stress-epoll-conformance sockets [N [SEED]]
 *
 * does both over sockets: it needs no module, and tells whether what is seen can
 * be foretold at all. RPAL_CONFORMANCE_IGNORE_ET in the environment has RPAL's
 * half leave EPOLLET out; the comparison must fail then. The first scenario is
 * done so each time.
 */
#include "common.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <rpal/rpal.h>

#define CONNS	  4
#define SETS	  3
#define PIPE	  CONNS	      /* objects in a set: connections, a pipe, a set */
#define INNER	  (CONNS + 1) /* the last set, in one of the others */
#define OBJECTS	  (CONNS + 2)
#define LAST_SET  (SETS - 1)
#define MAX_STEPS 64
#define CAPACITY  RPAL_MAX_WORDS
#define MAX_BAD	  5 /* scenarios that are printed */

/* What a step may see of an object, 4 bits each; and of the whole. */
#define SAW_IN	    1
#define SAW_OUT	    2
#define SAW_HUP	    4
#define SEE(o, k)   ((u64)(k) << 4 * (o))
#define SAW_OBJECTS ((1ULL << 4 * OBJECTS) - 1)
#define SAW_WRONG   (1ULL << 56) /* an event that nobody asked for */
#define SAW_TWICE   (1ULL << 57) /* in one answer */
#define SAW_HANDLER (1ULL << 58)
#define SAW_ERROR   (1ULL << 59) /* errno in the low bits */
#define ANYTHING    (~0ULL)
#define NOTHING	    0ULL

static bool have_rpal; /* else both halves are done over sockets */
static bool rpal;      /* the half that is being done */
static bool ignore_et; /* in RPAL's half */
static u64 seen_events;
static u64 waits_later;

/* ------------------------------------------------------- between the processes */

enum { PEER_MODE, PEER_OPEN, PEER_MAP, PEER_WRITE, PEER_DRAIN, PEER_CLOSE, PEER_END };

/**
 * struct order - what the peer is to do
 * @op:		PEER_*
 * @conn:	which connection
 * @n:		units to be written
 * @later_us:	to be answered now, and once more when it has been done: in so long
 */
struct order {
	u32 op;
	u32 conn;
	u32 n;
	u32 later_us;
};

static int control = TEST_FD_PEER;
static int peer_id;
static int listener = -1;
static char listen_name[64];

static int64_t unit(u32 conn, u64 number)
{
	return (int64_t)(number * 0x9e3779b97f4a7c15ULL ^ conn);
}

/**
 * struct link - one end of a connection
 * @fd:		socket
 * @handle:	of the other end's queue
 * @written:	units so far
 * @read:	units so far
 */
struct link {
	int fd;
	u64 handle;
	u64 written;
	u64 read;
};

/* All or nothing; false: it is full. */
static bool link_write(struct link *l, u32 conn, u32 n)
{
	int64_t words[CAPACITY];
	ssize_t r;
	u32 i;

	for (i = 0; i < n; i++)
		words[i] = unit(conn, l->written + i);
	if (rpal) {
		r = rpal_write_ptrs(peer_id, l->handle, words, n);
		if (r == -RPAL_QUEUE_PUT_FAILED)
			return false;
		CHECK(r == n, "rpal_write_ptrs: %ld: %s", r, rpal_last_error());
	} else {
		r = send(l->fd, words, n * 8, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r < 0 && errno == EAGAIN)
			return false;
		CHECK(r == n * 8, "send: %ld, errno %d", r, errno);
	}
	l->written += n;
	return true;
}

/* Units read, which must be the next ones. */
static u32 link_read(struct link *l, u32 conn, u32 n)
{
	int64_t words[CAPACITY];
	ssize_t r, i;

	if (rpal) {
		r = rpal_read_ptrs(l->fd, words, n);
		CHECK(r >= 0, "rpal_read_ptrs: %s", rpal_last_error());
	} else {
		r = recv(l->fd, words, n * 8, MSG_DONTWAIT);
		r = r > 0 ? r / 8 : 0;
	}
	for (i = 0; i < r; i++)
		CHECK(words[i] == unit(conn, l->read + i), "connection %u: unit %lu is %lx", conn,
		      (long)(l->read + i), (long)words[i]);
	if (r > 0)
		l->read += r;
	return r > 0 ? r : 0;
}

static void link_map(struct link *l)
{
	int r = rpal_uds_fdmap_timeout((u64)peer_id << 32 | l->fd, &l->handle,
				       test_patience() * 1000);

	if (!CHECK(!r, "rpal_uds_fdmap: %d: %s", r, rpal_last_error()))
		exit(1);
}

/* Without one it has no queue. */
static void link_keep(struct link *l, int epfd)
{
	struct epoll_event ev = { .events = EPOLLRPALIN };

	if (!CHECK(!rpal_epoll_ctl(epfd, EPOLL_CTL_ADD, l->fd, &ev), "errno %d: %s", errno,
		   rpal_last_error()))
		exit(1);
}

static void meet(void)
{
	if (!have_rpal)
		return;
	if (rpal_init(1, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL) < 0 ||
	    rpal_thread_init()) {
		printf("%s: rpal_init: %s\n", test_name, rpal_last_error());
		exit(1);
	}
	peer_id = rpal_exchange(control, test_patience() * 1000);
	if (!CHECK(peer_id > 0, "rpal_exchange: %d: %s", peer_id, rpal_last_error()))
		exit(1);
}

static socklen_t address(struct sockaddr_un *sa)
{
	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	strcpy(sa->sun_path + 1, listen_name);
	return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(listen_name);
}

/* -------------------------------------------------------------------- the peer */

static struct link theirs[CONNS];
static int their_set;

static void peer_open(struct link *l)
{
	struct sockaddr_un sa;
	socklen_t len = address(&sa);

	*l = (struct link){ .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	MUST(l->fd >= 0 && !connect(l->fd, (struct sockaddr *)&sa, len));
	if (rpal)
		link_keep(l, their_set);
}

static void peer_obey(const struct order *o)
{
	struct link *l = &theirs[o->conn];

	switch (o->op) {
	case PEER_MODE:
		rpal = o->n;
		break;
	case PEER_OPEN:
		peer_open(l);
		break;
	case PEER_MAP:
		link_map(l);
		break;
	case PEER_WRITE:
		CHECK(link_write(l, o->conn, o->n), "full with %u units more", o->n);
		break;
	case PEER_DRAIN:
		while (link_read(l, o->conn, CAPACITY))
			;
		break;
	case PEER_CLOSE:
		if (l->fd >= 0)
			rpal ? rpal_close(l->fd) : close(l->fd);
		l->fd = -1;
		break;
	}
}

static int peer_role(void)
{
	struct order o;

	test_recv(control, listen_name, sizeof(listen_name));
	meet();
	their_set = epoll_create1(EPOLL_CLOEXEC);
	for (;;) {
		test_recv(control, &o, sizeof(o));
		if (o.op == PEER_END)
			return 0;
		if (o.later_us) {
			test_send_u64(control, 0);
			usleep(o.later_us);
		}
		peer_obey(&o);
		test_send_u64(control, test_failures());
	}
}

/* ----------------------------------------------------------------------- steps */

enum op {
	ADD = 1,
	MOD,
	DEL,
	WRITE,	/* the peer writes n units */
	READ,	/* n units at most */
	FILL,	/* write until the peer's end is full */
	DRAIN,	/* the peer reads all */
	WAIT,	/* n: milliseconds */
	EACH,	/* wait for one event at a time, until all have been seen */
	LATER,	/* a wait during which the peer writes n units; 0: drains */
	ALARM,	/* a wait that a signal interrupts */
	MASK,	/* a wait with a mask; n: a signal waits for it */
	PUT,	/* a byte into the pipe */
	GET,	/* all bytes out of it */
	HANGUP, /* the peer closes */
	REOPEN, /* close and connect again */
	NR_OPS
};

static const char *const op_name[] = { "?",    "ADD",	"MOD",	"DEL",	  "WRITE", "READ",
				       "FILL", "DRAIN", "WAIT", "EACH",	  "LATER", "ALARM",
				       "MASK", "PUT",	"GET",	"HANGUP", "REOPEN" };

/**
 * struct step - one step
 * @op:		what is done
 * @set:	with which set
 * @obj:	with which object
 * @events:	EPOLLIN, EPOLLOUT, EPOLLET, EPOLLONESHOT
 * @n:		see enum op
 * @want:	in those that are written down: what is seen
 */
struct step {
	enum op op;
	int set;
	int obj;
	u32 events;
	int n;
	u64 want;
};

/**
 * struct reg - an object in a set
 * @in:		it is
 * @used:	EPOLLONESHOT: by an event
 * @events:	as in the step
 * @data:	that comes with its events
 */
struct reg {
	bool in;
	bool used;
	u32 events;
	u64 data;
};

static struct link mine[CONNS];
static u64 coming[CONNS]; /* units that the peer was told to write */
static bool hung_up[CONNS];
static struct reg reg[SETS][OBJECTS];
static int set_fd[SETS];
static int keeper;
static int pipe_fd[2];
static u32 serial;
static volatile sig_atomic_t handled;

static void ask_later(u32 op, u32 conn, u32 n, u32 later_us)
{
	struct order o = { op, conn, n, later_us };

	test_send(control, &o, sizeof(o));
	MUST(!test_recv_u64(control));
}

static void ask(u32 op, u32 conn, u32 n)
{
	ask_later(op, conn, n, 0);
}

/* --- connections */

static void open_conn(int i)
{
	struct link *l = &mine[i];
	int small = 4096;

	ask(PEER_OPEN, i, 0);
	*l = (struct link){ .fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC) };
	MUST(l->fd >= 0);
	/* Soon full. */
	MUST(!setsockopt(l->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)));
	hung_up[i] = false;
	coming[i] = 0;
	if (!rpal)
		return;
	link_keep(l, keeper);
	link_map(l);
	ask(PEER_MAP, i, 0);
}

static int control_set(int set, int op, int fd, struct epoll_event *ev)
{
	return (rpal ? rpal_epoll_ctl : epoll_ctl)(set, op, fd, ev) ? errno : 0;
}

static void close_conn(int i)
{
	int s;

	for (s = 0; s < SETS; s++) {
		if (reg[s][i].in)
			CHECK(!control_set(set_fd[s], EPOLL_CTL_DEL, mine[i].fd, NULL), "DEL");
		reg[s][i].in = false;
	}
	if (rpal)
		CHECK(!control_set(keeper, EPOLL_CTL_DEL, mine[i].fd, NULL), "DEL");
	ask(PEER_CLOSE, i, 0);
	rpal ? rpal_close(mine[i].fd) : close(mine[i].fd);
}

/* --- objects in sets */

static int object_fd(int obj)
{
	return obj < CONNS ? mine[obj].fd : obj == PIPE ? pipe_fd[0] : set_fd[LAST_SET];
}

static u32 events_for(int obj, u32 events)
{
	if (!rpal)
		return events;
	if (ignore_et)
		events &= ~EPOLLET;
	if (obj >= CONNS)
		return events;
	return (events & ~(EPOLLIN | EPOLLOUT)) | (events & EPOLLIN ? EPOLLRPALIN : 0) |
	       (events & EPOLLOUT ? EPOLLRPALOUT : 0);
}

static u64 change(const struct step *s)
{
	struct reg *r = &reg[s->set][s->obj];
	struct epoll_event ev = { .events = events_for(s->obj, s->events) };
	int op = s->op == ADD ? EPOLL_CTL_ADD : s->op == MOD ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, err;

	/* Another word each time: an old one must not come any more. */
	ev.data.u64 = (u64)++serial << 32 | s->obj;
	err = control_set(set_fd[s->set], op, object_fd(s->obj), &ev);
	if (err)
		return SAW_ERROR | err;
	*r = (struct reg){ s->op != DEL, false, s->events, ev.data.u64 };
	return NOTHING;
}

/* --- waiting */

static u64 kinds(int obj, u32 events)
{
	u32 in = rpal && obj < CONNS ? EPOLLRPALIN : EPOLLIN;
	u32 out = rpal && obj < CONNS ? EPOLLRPALOUT : EPOLLOUT;
	u64 k = (events & in ? SAW_IN : 0) | (events & out ? SAW_OUT : 0);

	if (events & (EPOLLHUP | EPOLLERR))
		k |= SAW_HUP;
	/* A socket that was closed can be read, which a queue cannot. */
	if (obj < CONNS && hung_up[obj])
		return SEE(obj, k & SAW_HUP);
	if (events & ~(in | out | EPOLLHUP | EPOLLERR))
		return SEE(obj, k) | SAW_WRONG;
	return SEE(obj, k);
}

static u64 saw(int set, const struct epoll_event *ev, int n)
{
	u64 all = 0, one;
	struct reg *r;
	int i, obj;

	for (i = 0; i < n; i++) {
		obj = ev[i].data.u64 & 0xff;
		r = &reg[set][obj < OBJECTS ? obj : 0];
		if (!r->in || r->data != ev[i].data.u64 || r->used)
			return SAW_WRONG;
		one = kinds(obj, ev[i].events);
		/* The kernel's and RPAL's events of an inner set are told one by one. */
		if (all & one && obj != INNER)
			all |= SAW_TWICE;
		all |= one;
		seen_events++;
	}
	/* At last: both kinds of one object come in two. */
	for (i = 0; i < n; i++) {
		r = &reg[set][ev[i].data.u64 & 0xff];
		r->used |= !!(r->events & EPOLLONESHOT);
	}
	return all;
}

static int wait_ns(int set, struct epoll_event *ev, int max, int64_t ns, const sigset_t *mask)
{
	struct timespec ts = { ns / 1000000000, ns % 1000000000 };
	int fd = set_fd[set], ms = ns / 1000000;

	/* In turn, by all names that waiting has. */
	switch (serial++ % 3) {
	case 0:
		if (!mask)
			return rpal ? rpal_epoll_wait(fd, ev, max, ms) :
				      epoll_wait(fd, ev, max, ms);
		/* fallthrough */
	case 1:
		return rpal ? rpal_epoll_pwait(fd, ev, max, ms, mask) :
			      epoll_pwait(fd, ev, max, ms, mask);
	}
	return rpal ? rpal_epoll_pwait2(fd, ev, max, &ts, mask) :
		      epoll_pwait2(fd, ev, max, &ts, mask);
}

static u64 wait_some(int set, int max, int64_t ns, const sigset_t *mask)
{
	struct epoll_event ev[4 * OBJECTS];
	sig_atomic_t before = handled;
	int n = wait_ns(set, ev, max, ns, mask);
	u64 all = n < 0 ? SAW_ERROR | errno : saw(set, ev, n);

	if (n > max)
		all |= SAW_WRONG;
	return handled != before && mask ? all | SAW_HANDLER : all;
}

#define MS	 1000000LL
#define PATIENCE (test_patience() / 2 * 1000 * MS)

static u64 wait_all(int set, int64_t ns, const sigset_t *mask)
{
	return wait_some(set, 4 * OBJECTS, ns, mask);
}

/* Whoever has few places sees all of them in the end. */
static u64 wait_each(int set)
{
	u64 all = 0;
	int i;

	for (i = 0; i < 4 * OBJECTS; i++)
		all |= wait_some(set, 1, 0, NULL);
	return all;
}

static bool wakes(int set, int obj, u32 event)
{
	struct reg *r = &reg[set][obj];

	if (r->in && !r->used && r->events & event)
		return true;
	r = &reg[set][INNER];
	return set != LAST_SET && r->in && !r->used && r->events & EPOLLIN &&
	       wakes(LAST_SET, obj, event);
}

static u32 unread(int i)
{
	return coming[i] - mine[i].read;
}

static void tell_to_write(int i, u32 n, u32 later_us)
{
	coming[i] += n;
	ask_later(PEER_WRITE, i, n, later_us);
}

static void fill(int i)
{
	while (link_write(&mine[i], i, 1))
		;
}

static void empty_pipe(void)
{
	char c;

	while (read(pipe_fd[0], &c, 1) == 1)
		;
}

/* As far as one side can see to it: so that a wait has something to wait for. */
static void make_quiet(int but)
{
	int i;

	for (i = 0; i < CONNS; i++)
		while (!hung_up[i] && link_read(&mine[i], i, CAPACITY))
			;
	empty_pipe();
	if (but >= 0)
		fill(but);
}

/*
 * If something is there already that ends the wait, and there is none. What the
 * wait has not seen is seen when the peer is known to have done it.
 */
static u64 wait_later(const struct step *s)
{
	static const sigset_t none;
	bool comes = wakes(s->set, s->obj, s->n ? EPOLLIN : EPOLLOUT);
	u64 seen, next = 0;

	make_quiet(s->n ? -1 : s->obj);
	seen = wait_all(s->set, 0, NULL);
	if (seen)
		return seen;
	if (s->n)
		tell_to_write(s->obj, s->n, 1000 + serial % 4 * 1000);
	else
		ask_later(PEER_DRAIN, s->obj, 0, 1000 + serial % 4 * 1000);
	seen = wait_all(s->set, comes ? PATIENCE : 3 * MS, s->events ? &none : NULL);
	waits_later += comes;
	/* Possibly still on the peer's task. */
	if (comes && serial % 2)
		next = wait_all(s->set, serial % 4 > 1 ? MS : 0, NULL);
	test_recv_u64(control);
	return seen | (next & SAW_OBJECTS) << 28 | (next & ~SAW_OBJECTS);
}

static void on_signal(int sig)
{
	(void)sig;
	handled++;
}

static u64 wait_alarm(int set)
{
	/* Again and again: the first one may come before the wait. */
	struct itimerval often = { { 0, 20000 }, { 0, 2000 } }, never = {};
	u64 seen;

	setitimer(ITIMER_REAL, &often, NULL);
	seen = wait_all(set, PATIENCE, NULL);
	setitimer(ITIMER_REAL, &never, NULL);
	return seen;
}

static u64 wait_masked(int set, bool signal)
{
	sigset_t usr1, before;
	u64 seen;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, &before);
	if (signal)
		kill(getpid(), SIGUSR1);
	seen = wait_all(set, signal ? PATIENCE : 2 * MS, &before);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return seen;
}

/* --- one step */

static u64 do_conn(const struct step *s)
{
	int i = s->obj;

	if (s->op == REOPEN) {
		close_conn(i);
		open_conn(i);
		return NOTHING;
	}
	if (hung_up[i])
		return NOTHING;
	switch (s->op) {
	case WRITE:
		if (unread(i) + s->n <= CAPACITY)
			tell_to_write(i, s->n, 0);
		return NOTHING;
	case READ:
		return link_read(&mine[i], i, s->n);
	case FILL:
		fill(i);
		return NOTHING;
	case LATER:
		return wait_later(s);
	case DRAIN:
		ask(PEER_DRAIN, i, 0);
		return NOTHING;
	default: /* HANGUP; with bytes that nobody has read it would be an error */
		ask(PEER_DRAIN, i, 0);
		ask(PEER_CLOSE, i, 0);
		hung_up[i] = true;
		return NOTHING;
	}
}

static u64 do_step(const struct step *s)
{
	switch (s->op) {
	case ADD:
	case MOD:
	case DEL:
		return change(s);
	case WAIT:
		return wait_all(s->set, s->n * MS, NULL);
	case EACH:
		return wait_each(s->set);
	case ALARM:
		return wait_alarm(s->set);
	case MASK:
		return wait_masked(s->set, s->n);
	case PUT:
		MUST(write(pipe_fd[1], "", 1) == 1);
		return NOTHING;
	case GET:
		empty_pipe();
		return NOTHING;
	default:
		return do_conn(s);
	}
}

/* ------------------------------------------------------------------- scenarios */

/* One half: what each step has seen. */
static void play(const struct step *steps, int n, bool by_rpal, u64 *trace)
{
	int i;

	rpal = by_rpal;
	serial = 0;
	ask(PEER_MODE, 0, rpal);
	memset(reg, 0, sizeof(reg));
	for (i = 0; i < SETS; i++)
		MUST((set_fd[i] = epoll_create1(EPOLL_CLOEXEC)) >= 0);
	MUST((keeper = epoll_create1(EPOLL_CLOEXEC)) >= 0);
	MUST(!pipe2(pipe_fd, O_CLOEXEC | O_NONBLOCK));
	for (i = 0; i < CONNS; i++)
		open_conn(i);
	for (i = 0; i < n; i++)
		trace[i] = do_step(&steps[i]);
	for (i = 0; i < CONNS; i++)
		close_conn(i);
	for (i = 0; i < SETS; i++)
		rpal ? rpal_close(set_fd[i]) : close(set_fd[i]);
	rpal ? rpal_close(keeper) : close(keeper);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

static void print_trace(u64 t)
{
	static const char kind[] = "IOH";
	int o, k;

	if (t & SAW_ERROR)
		printf(" errno %d", (int)(t & 0xff));
	for (o = 0; o < OBJECTS + 7 + OBJECTS && !(t & SAW_ERROR); o++)
		for (k = 0; k < 3; k++)
			if (t >> (4 * o + k) & 1)
				printf(" %s%d%c", o < 7 ? "" : "then ", o % 7, kind[k]);
	if (t & SAW_WRONG)
		printf(" WRONG");
	if (t & SAW_TWICE)
		printf(" TWICE");
	if (t & SAW_HANDLER)
		printf(" handler");
}

static void print_step(const struct step *s, u64 socket, u64 queue)
{
	printf("  %-6s set %d object %d%s%s%s%s n %d%s", op_name[s->op], s->set, s->obj,
	       s->events & EPOLLIN ? " IN" : "", s->events & EPOLLOUT ? " OUT" : "",
	       s->events & EPOLLET ? " ET" : "", s->events & EPOLLONESHOT ? " ONESHOT" : "", s->n,
	       socket || queue ? ":" : "");
	print_trace(socket);
	if (socket != queue) {
		printf("   <-- but by RPAL:");
		print_trace(queue);
	}
	putchar('\n');
}

/* Both halves; true if they are the same, and as wanted. */
static bool compare(const struct step *steps, int n, bool wanted, const char *name)
{
	static int printed;
	u64 socket[MAX_STEPS], queue[MAX_STEPS];
	int i, failures = test_failures();
	bool same = true;

	play(steps, n, false, socket);
	play(steps, n, have_rpal, queue);
	for (i = 0; i < n; i++)
		same &= socket[i] == queue[i] &&
			(!wanted || steps[i].want == ANYTHING || steps[i].want == socket[i]);
	same &= failures == test_failures();
	if (same || !name || printed++ >= MAX_BAD)
		return same;
	printf("%s: %s: not the same:\n", test_name, name);
	for (i = 0; i < n; i++) {
		print_step(&steps[i], socket[i], queue[i]);
		if (wanted && steps[i].want != ANYTHING && steps[i].want != socket[i])
			printf("    wanted was %lx\n", (long)steps[i].want);
	}
	fflush(stdout);
	return false;
}

/* --- those that are written down */

#define I EPOLLIN
#define O EPOLLOUT
#define E EPOLLET
#define S EPOLLONESHOT

#define IS(op, set, obj, events, n, want)      \
	{                                      \
		op, set, obj, events, n, want, \
	}
#define ADD_(set, obj, events)	  IS(ADD, set, obj, events, 0, NOTHING)
#define MOD_(set, obj, events)	  IS(MOD, set, obj, events, 0, NOTHING)
#define DEL_(set, obj)		  IS(DEL, set, obj, 0, 0, NOTHING)
#define FAILS_(op, set, obj, err) IS(op, set, obj, I, 0, SAW_ERROR | (err))
#define WRITE_(obj, n)		  IS(WRITE, 0, obj, 0, n, NOTHING)
#define READ_(obj, n, got)	  IS(READ, 0, obj, 0, n, got)
#define DO_(op, obj)		  IS(op, 0, obj, 0, 0, NOTHING)
#define WAIT_(set, want)	  IS(WAIT, set, 0, 0, 0, want)
#define WAIT_MS_(set, ms, want)	  IS(WAIT, set, 0, 0, ms, want)
#define EACH_(set, want)	  IS(EACH, set, 0, 0, 0, want)
#define LATER_(set, obj, mask, n) IS(LATER, set, obj, mask, n, ANYTHING)
#define ALARM_(set, want)	  IS(ALARM, set, 0, 0, 0, want)
#define MASK_(set, signal, want)  IS(MASK, set, 0, 0, signal, want)
#define IN_(obj)		  SEE(obj, SAW_IN)
#define OUT_(obj)		  SEE(obj, SAW_OUT)
#define HUP_(obj)		  SEE(obj, SAW_HUP)
#define INTR_			  (SAW_ERROR | EINTR)

struct scenario {
	const char *name;
	struct step steps[24];
};

static const struct scenario written[] = {
	{ "edge: not again",
	  { ADD_(0, 0, I | E), WRITE_(0, 2), WAIT_(0, IN_(0)), WAIT_(0, NOTHING), WRITE_(0, 1),
	    WAIT_(0, IN_(0)), WAIT_MS_(0, 2, NOTHING) } },
	{ "level: again and again",
	  { ADD_(0, 0, I), WAIT_(0, NOTHING), WRITE_(0, 2), WAIT_(0, IN_(0)), WAIT_(0, IN_(0)),
	    READ_(0, 1, 1), WAIT_(0, IN_(0)), READ_(0, 8, 1), WAIT_(0, NOTHING), READ_(0, 8, 0) } },
	{ "edge: part is read",
	  { ADD_(0, 0, I | E), WRITE_(0, 4), WAIT_(0, IN_(0)), READ_(0, 1, 1), WAIT_(0, NOTHING),
	    WRITE_(0, 1), WAIT_(0, IN_(0)), READ_(0, 8, 4), WAIT_(0, NOTHING) } },
	{ "edge: all is read before the wait",
	  { ADD_(0, 0, I | E), WRITE_(0, 4), READ_(0, 8, 4), WAIT_(0, NOTHING), WRITE_(0, 1),
	    WAIT_(0, IN_(0)) } },
	{ "edge: several at once are one",
	  { ADD_(0, 0, I | E), WRITE_(0, 1), WRITE_(0, 1), WRITE_(0, 1), WAIT_(0, IN_(0)),
	    WAIT_(0, NOTHING) } },
	{ "oneshot: once",
	  { ADD_(0, 0, I | S), WRITE_(0, 1), WAIT_(0, IN_(0)), WAIT_(0, NOTHING), WRITE_(0, 1),
	    WAIT_MS_(0, 2, NOTHING), MOD_(0, 0, I | S), WAIT_(0, IN_(0)), WAIT_(0, NOTHING) } },
	{ "oneshot: armed again without data",
	  { ADD_(0, 0, I | S), WRITE_(0, 1), WAIT_(0, IN_(0)), READ_(0, 8, 1), MOD_(0, 0, I | S),
	    WAIT_(0, NOTHING), WRITE_(0, 1), WAIT_(0, IN_(0)), WAIT_(0, NOTHING) } },
	{ "oneshot and edge",
	  { ADD_(0, 0, I | S | E), WRITE_(0, 1), WAIT_(0, IN_(0)), WRITE_(0, 1), WAIT_(0, NOTHING),
	    MOD_(0, 0, I | E), WAIT_(0, IN_(0)), WAIT_(0, NOTHING), WRITE_(0, 1),
	    WAIT_(0, IN_(0)) } },
	{ "oneshot: ends with the peer, too",
	  { ADD_(0, 0, I | S), WRITE_(0, 1), WAIT_(0, IN_(0)), DO_(HANGUP, 0), WAIT_(0, NOTHING),
	    MOD_(0, 0, I | S), WAIT_(0, HUP_(0)), WAIT_(0, NOTHING) } },
	{ "there before: ADD",
	  { WRITE_(0, 1), WRITE_(1, 1), ADD_(0, 0, I), ADD_(0, 1, I | E), WAIT_(0, IN_(0) | IN_(1)),
	    WAIT_(0, IN_(0)) } },
	{ "there before: MOD",
	  { ADD_(0, 0, I | E), WRITE_(0, 1), WAIT_(0, IN_(0)), WAIT_(0, NOTHING), MOD_(0, 0, I | E),
	    WAIT_(0, IN_(0)), WAIT_(0, NOTHING), MOD_(0, 0, I), WAIT_(0, IN_(0)), WAIT_(0, IN_(0)),
	    MOD_(0, 0, 0), WAIT_(0, NOTHING) } },
	{ "no events wanted",
	  { ADD_(0, 0, 0), WRITE_(0, 1), WAIT_(0, NOTHING), MOD_(0, 0, I), WAIT_(0, IN_(0)) } },
	{ "DEL",
	  { ADD_(0, 0, I), WRITE_(0, 1), WAIT_(0, IN_(0)), DEL_(0, 0), WAIT_(0, NOTHING),
	    WRITE_(0, 1), WAIT_MS_(0, 2, NOTHING), ADD_(0, 0, I), WAIT_(0, IN_(0)),
	    READ_(0, 8, 2) } },
	{ "refused",
	  { FAILS_(MOD, 0, 0, ENOENT), FAILS_(DEL, 0, 0, ENOENT), ADD_(0, 0, I),
	    FAILS_(ADD, 0, 0, EEXIST), DEL_(0, 0), FAILS_(MOD, 0, 0, ENOENT) } },
	{ "two sets",
	  { ADD_(0, 0, I), ADD_(1, 0, I | E), WRITE_(0, 1), WAIT_(0, IN_(0)), WAIT_(1, IN_(0)),
	    WAIT_(1, NOTHING), WAIT_(0, IN_(0)), DEL_(0, 0), WRITE_(0, 1), WAIT_(0, NOTHING),
	    WAIT_(1, IN_(0)) } },
	{ "nested",
	  { ADD_(0, INNER, I), WAIT_(0, NOTHING), ADD_(2, 0, I), WRITE_(0, 1), WAIT_(0, IN_(INNER)),
	    WAIT_(2, IN_(0)), WAIT_(0, IN_(INNER)), READ_(0, 8, 1), WAIT_(0, NOTHING),
	    WAIT_(2, NOTHING) } },
	{ "nested: edges inside",
	  { ADD_(2, 0, I | E), ADD_(2, 1, I | S), ADD_(0, INNER, I), WRITE_(0, 1), WRITE_(1, 1),
	    WAIT_(0, IN_(INNER)), WAIT_(2, IN_(0) | IN_(1)), WAIT_(0, NOTHING), WRITE_(1, 1),
	    WAIT_(0, NOTHING), WRITE_(0, 1), WAIT_(0, IN_(INNER)) } },
	{ "nested: edges outside",
	  { ADD_(2, 0, I), ADD_(2, PIPE, I), ADD_(0, INNER, I | E), WRITE_(0, 1),
	    WAIT_(0, IN_(INNER)), WAIT_(0, NOTHING), WRITE_(0, 1), WAIT_(0, IN_(INNER)),
	    DO_(PUT, 0), WAIT_(0, IN_(INNER)), WAIT_(0, NOTHING) } },
	{ "nested: oneshot outside",
	  { ADD_(2, 0, I), ADD_(2, PIPE, I), ADD_(0, INNER, I | S), WRITE_(0, 1),
	    WAIT_(0, IN_(INNER)), DO_(PUT, 0), WAIT_(0, NOTHING), MOD_(0, INNER, I | S),
	    WAIT_(0, IN_(INNER)), WAIT_(0, NOTHING) } },
	{ "nested: DEL of the set",
	  { ADD_(2, 0, I), ADD_(0, INNER, I), WRITE_(0, 1), WAIT_(0, IN_(INNER)), DEL_(0, INNER),
	    WAIT_(0, NOTHING), WAIT_(2, IN_(0)), ADD_(1, INNER, I), WAIT_(1, IN_(INNER)) } },
	{ "room",
	  { ADD_(0, 0, O), WAIT_(0, OUT_(0)), WAIT_(0, OUT_(0)), DO_(FILL, 0), WAIT_(0, NOTHING),
	    DO_(DRAIN, 0), WAIT_(0, OUT_(0)), WAIT_(0, OUT_(0)) } },
	{ "room: edge",
	  { ADD_(0, 0, O | E), WAIT_(0, OUT_(0)), WAIT_(0, NOTHING), DO_(FILL, 0),
	    WAIT_(0, NOTHING), DO_(DRAIN, 0), WAIT_(0, OUT_(0)), WAIT_(0, NOTHING), WRITE_(0, 1),
	    WAIT_(0, NOTHING), DO_(FILL, 0), DO_(DRAIN, 0), WAIT_(0, OUT_(0)) } },
	{ "room: oneshot, and two sets",
	  { ADD_(0, 0, O | S), ADD_(1, 0, O), WAIT_(0, OUT_(0)), DO_(FILL, 0), WAIT_(1, NOTHING),
	    MOD_(0, 0, O | S), WAIT_(0, NOTHING), DO_(DRAIN, 0), WAIT_(0, OUT_(0)),
	    WAIT_(1, OUT_(0)), WAIT_(0, NOTHING), WAIT_(1, OUT_(0)) } },
	{ "room and input",
	  { ADD_(0, 0, I | O), WAIT_(0, OUT_(0)), WRITE_(0, 1), WAIT_(0, IN_(0) | OUT_(0)),
	    DO_(FILL, 0), WAIT_(0, IN_(0)), READ_(0, 8, 1), WAIT_(0, NOTHING), DO_(DRAIN, 0),
	    WAIT_(0, OUT_(0)), MOD_(0, 0, I), WAIT_(0, NOTHING) } },
	{ "time-out",
	  { WAIT_(0, NOTHING), WAIT_MS_(0, 2, NOTHING), ADD_(0, 0, I), WAIT_MS_(0, 3, NOTHING),
	    MASK_(0, 0, NOTHING), ALARM_(0, INTR_), WRITE_(0, 1), ALARM_(0, IN_(0)) } },
	{ "signals",
	  { ADD_(0, 0, I), ALARM_(0, INTR_), MASK_(0, 1, INTR_ | SAW_HANDLER), WRITE_(0, 1),
	    MASK_(0, 1, ANYTHING), MASK_(0, 0, IN_(0)), ALARM_(0, IN_(0)) } },
	{ "few places",
	  { ADD_(0, 0, I), ADD_(0, 1, I | E), ADD_(0, 2, I | O), ADD_(0, 3, I | S),
	    ADD_(0, PIPE, I), DO_(PUT, 0), WRITE_(0, 1), WRITE_(1, 1), WRITE_(2, 1), WRITE_(3, 1),
	    EACH_(0, IN_(0) | IN_(1) | IN_(2) | OUT_(2) | IN_(3) | IN_(PIPE)),
	    EACH_(0, IN_(0) | IN_(2) | OUT_(2) | IN_(PIPE)) } },
	{ "the kernel's events besides",
	  { ADD_(0, 0, I), ADD_(0, PIPE, I), DO_(PUT, 0), WAIT_(0, IN_(PIPE)), WRITE_(0, 1),
	    WAIT_(0, IN_(0) | IN_(PIPE)), DO_(GET, 0), WAIT_(0, IN_(0)), READ_(0, 8, 1),
	    WAIT_(0, NOTHING), DO_(PUT, 0), WAIT_(0, IN_(PIPE)), MOD_(0, PIPE, I | E),
	    WAIT_(0, IN_(PIPE)), WAIT_(0, NOTHING), DO_(PUT, 0), WAIT_(0, IN_(PIPE)) } },
	{ "the end of a peer",
	  { ADD_(0, 0, I), ADD_(1, 0, E), DO_(HANGUP, 0), WAIT_(0, HUP_(0)), WAIT_(0, HUP_(0)),
	    WAIT_(1, HUP_(0)), WAIT_(1, NOTHING), DO_(REOPEN, 0), WAIT_(0, NOTHING),
	    WAIT_(1, NOTHING), ADD_(0, 0, I), WRITE_(0, 3), WAIT_(0, IN_(0)), WAIT_(1, NOTHING),
	    READ_(0, 8, 3) } },
	{ "a number used again",
	  { ADD_(0, 0, I), WRITE_(0, 1), DO_(REOPEN, 0), WAIT_(0, NOTHING), ADD_(0, 0, I | E),
	    WAIT_(0, NOTHING), READ_(0, 8, 0), WRITE_(0, 2), WAIT_(0, IN_(0)), WAIT_(0, NOTHING),
	    READ_(0, 8, 2) } },
	{ "to be waited for",
	  { ADD_(0, 0, I), ADD_(0, 1, I | E), LATER_(0, 0, 0, 1), LATER_(0, 1, 0, 8),
	    LATER_(0, 0, 1, 2), LATER_(0, 1, 0, 1), LATER_(0, 0, 0, 3), ADD_(1, 2, O | E),
	    LATER_(1, 2, 0, 0), LATER_(1, 2, 0, 0), LATER_(1, 2, 1, 0), ADD_(0, INNER, I),
	    ADD_(2, 3, I), LATER_(0, 3, 0, 1), LATER_(0, 3, 1, 1), LATER_(0, 3, 0, 1) } },
};

/* --- those that are made */

static u32 pick_events(int obj)
{
	static const u32 how[] = { 0, 0, 0, E, E, E, S, S, S | E };
	u32 events = how[test_random() % ARRAY_SIZE(how)];

	if (obj >= CONNS)
		return events | I;
	switch (test_random() % 8) {
	case 0:
		return events | O;
	case 1:
		return events | I | O;
	case 2:
		return test_random() % 4 ? events | I : events;
	}
	return events | I;
}

static void pick(struct step *s, bool first)
{
	static const enum op often[] = { ADD,	ADD,   ADD,   MOD,  MOD,    MOD,   DEL,
					 WRITE, WRITE, WRITE, READ, READ,   FILL,  DRAIN,
					 WAIT,	WAIT,  WAIT,  WAIT, EACH,   LATER, LATER,
					 ALARM, MASK,  PUT,   GET,  HANGUP, REOPEN };
	u32 r = test_random();

	*s = (struct step){ .op = first ? ADD : often[r % ARRAY_SIZE(often)], .want = ANYTHING };
	r = test_random();
	s->set = r % SETS;
	s->obj = r / SETS % CONNS;
	if (s->op == ADD || s->op == MOD || s->op == DEL) {
		s->obj = r / SETS % (OBJECTS + CONNS) % OBJECTS;
		if (s->obj == INNER && s->set == LAST_SET)
			s->obj = PIPE;
		s->events = pick_events(s->obj);
		/* Of the two halves of an inner set each has its own edges. */
		if (s->obj == INNER)
			s->events &= ~EPOLLET;
	}
	r = test_random();
	if (s->op == WRITE || s->op == READ)
		s->n = 1 + r % 8;
	if (s->op == WAIT)
		s->n = r % 4 ? 0 : 2;
	if (s->op == MASK)
		s->n = r % 2;
	if (s->op == LATER) {
		s->n = r % 3 ? 1 + r / 8 % 8 : 0;
		s->events = !(r / 64 % 4);
	}
	/* Peers end more rarely. */
	if (s->op == HANGUP && r % 3)
		s->op = WAIT;
}

static bool generated(u32 seed)
{
	struct step steps[MAX_STEPS];
	bool hung[OBJECTS] = {};
	char name[32];
	int i, n;

	test_seed(seed * 2654435761U | 1);
	n = 20 + test_random() % (MAX_STEPS - 20);
	for (i = 0; i < n; i++) {
		struct step *s = &steps[i];

		pick(s, i < 5);
		if (s->op == HANGUP || s->op == REOPEN)
			hung[s->obj] = s->op == HANGUP;
		/* Such a socket can be written and has ended, all in one event. */
		if (hung[s->obj])
			s->events &= ~EPOLLOUT;
	}
	snprintf(name, sizeof(name), "seed %u", seed);
	return compare(steps, n, false, name);
}

/* ------------------------------------------------------------------ the program */

static int length(const struct step *steps)
{
	int n = 0;

	while (n < (int)ARRAY_SIZE(written[0].steps) && steps[n].op)
		n++;
	return n;
}

static long run_written(void)
{
	bool was = ignore_et;
	long bad = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(written); i++)
		bad += !compare(written[i].steps, length(written[i].steps), true, written[i].name);
	if (!have_rpal)
		return bad;
	ignore_et = true;
	if (compare(written[0].steps, length(written[0].steps), true, NULL)) {
		printf("%s: a queue that repeats edges is not noticed\n", test_name);
		bad++;
	}
	ignore_et = was;
	return bad;
}

static void begin(void)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct sockaddr_un sa_un;
	socklen_t len;

	sigaction(SIGALRM, &sa, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	snprintf(listen_name, sizeof(listen_name), "conformance-%d", getpid());
	len = address(&sa_un);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(listener >= 0 && !bind(listener, (struct sockaddr *)&sa_un, len));
	MUST(!listen(listener, 2 * CONNS));
	test_send(control, listen_name, sizeof(listen_name));
	meet();
	ignore_et = getenv("RPAL_CONFORMANCE_IGNORE_ET");
}

/* The process that has the sets. Tells the driver that it goes on. */
static int tested(long n, u32 seed, int driver)
{
	const char *kernel = getenv("RPAL_KERNEL");
	struct order end = { .op = PEER_END };
	long bad, i;

	begin();
	bad = run_written();
	for (i = 0; i < n; i++) {
		bad += !generated(seed + i);
		if (driver >= 0)
			test_send_u64(driver, i);
	}
	test_send(control, &end, sizeof(end));
	bad += !bad && test_failures();
	/* A comparison of nothing with nothing is none. */
	if (waits_later < (u64)n / 4 || seen_events < (u64)n) {
		printf("%s: only %lu events and %lu that came later\n", test_name, seen_events,
		       waits_later);
		bad++;
	}
	printf("stress: name=epoll-conformance kernel=%s n=%ld bad=%ld seed=%u written=%zu events=%lu later=%lu\n",
	       kernel ? kernel : "?", n, bad, seed, ARRAY_SIZE(written), seen_events, waits_later);
	return bad != 0;
}

static int tested_role(void)
{
	long n, seed;

	MUST(sscanf(test_arg, "%ld %ld", &n, &seed) == 2);
	have_rpal = true;
	return tested(n, seed, TEST_FD_DRIVER);
}

static int rpal_peer_role(void)
{
	have_rpal = true;
	return peer_role();
}

static const struct test_role roles[] = { { "tested", tested_role },
					  { "peer", rpal_peer_role },
					  {} };

static int without_module(long n, u32 seed)
{
	int sv[2];

	test_name = "stress-epoll-conformance";
	test_socketpair(sv);
	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		control = sv[1];
		_exit(peer_role());
	}
	control = sv[0];
	return tested(n, seed, -1);
}

int main(int argc, char **argv)
{
	struct test_spawn s = { .group = "stress" };
	struct test_child peer, child;
	bool sockets = argc > 1 && !strcmp(argv[1], "sockets");
	long n = argc > 1 + sockets ? atol(argv[1 + sockets]) : 500;
	u32 seed = argc > 2 + sockets ? atol(argv[2 + sockets]) : 1;
	int sv[2], status;
	char arg[64];
	u64 done;

	if (sockets)
		return without_module(n, seed);
	test_init(argc, argv, roles);
	test_socketpair(sv);
	snprintf(arg, sizeof(arg), "%ld %u", n, seed);
	s.arg = arg;
	s.role = "peer";
	s.peer = sv[0];
	MUST(!test_spawn(&peer, &s));
	s.role = "tested";
	s.peer = sv[1];
	MUST(!test_spawn(&child, &s));
	close(sv[0]);
	close(sv[1]);
	while (test_try_recv(child.sock, &done, sizeof(done)))
		;
	status = test_wait(child.pid);
	if (status)
		printf("%s: the process under test: %s\n", test_name, test_status(status));
	child.pid = 0;
	status |= test_wait(peer.pid);
	peer.pid = 0;
	return status ? 1 : 0;
}
