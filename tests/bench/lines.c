// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Ways between two processes, without RPAL; see lines.h. */
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#ifdef HAVE_URING
#include <liburing.h>
#endif

#include "bench.h"
#include "lines.h"

#define BOX_SIZE (sizeof(struct box) + MAX_PAYLOAD)

/* ------------------------------------------------------- files that carry it */

static void put_bytes(struct line *l, const void *data, size_t len)
{
	const char *p = data;
	ssize_t n;

	for (; len; p += n, len -= n) {
		n = write(l->out[l->side], p, len);
		MUST(n > 0);
	}
}

static void take_bytes(struct line *l, void *data, size_t len)
{
	char *p = data;
	ssize_t n;

	for (; len; p += n, len -= n) {
		n = read(l->in[l->side], p, len);
		MUST(n > 0);
	}
}

static void take_by_epoll(struct line *l, void *data, size_t len)
{
	struct epoll_event event;
	char *p = data;
	ssize_t n;

	for (; len; p += n, len -= n) {
		MUST(epoll_wait(l->epoll, &event, 1, -1) == 1);
		n = read(event.data.fd, p, len);
		MUST(n > 0);
	}
}

static void begin_epoll(struct line *l)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = l->in[l->side] };

	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	MUST(l->epoll >= 0);
	MUST(!epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->in[l->side], &event));
}

static void open_sockets(struct line *l, int type)
{
	MUST(!socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, l->in));
	l->out[0] = l->in[0];
	l->out[1] = l->in[1];
}

static void open_stream(struct line *l)
{
	open_sockets(l, SOCK_STREAM);
}

static void open_seqpacket(struct line *l)
{
	open_sockets(l, SOCK_SEQPACKET);
}

static void open_pipes(struct line *l)
{
	int there[2], back[2];

	MUST(!pipe(there) && !pipe(back));
	l->in[0] = back[0];
	l->out[0] = there[1];
	l->in[1] = there[0];
	l->out[1] = back[1];
}

/* ----------------------------------- shared memory, and something to wake by */

static void open_boxes(struct line *l)
{
	char *p =
		mmap(NULL, 2 * BOX_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	MUST(p != MAP_FAILED);
	l->box[0] = (struct box *)p;
	l->box[1] = (struct box *)(p + BOX_SIZE);
	/* No page is to be met for the first time while the clock runs. */
	memset(p, 0, 2 * BOX_SIZE);
}

static void open_boxes_and_eventfds(struct line *l)
{
	int i;

	open_boxes(l);
	for (i = 0; i < 2; i++) {
		l->in[i] = eventfd(0, EFD_CLOEXEC);
		MUST(l->in[i] >= 0);
		l->out[!i] = l->in[i];
	}
}

static struct box *fill(struct line *l, const void *data, size_t len)
{
	struct box *b = l->box[!l->side];

	memcpy(b->data, data, len);
	__atomic_add_fetch(&b->full, 1, __ATOMIC_SEQ_CST);
	return b;
}

static bool is_there(struct line *l)
{
	return __atomic_load_n(&l->box[l->side]->full, __ATOMIC_SEQ_CST) != l->taken;
}

static void empty(struct line *l, void *data, size_t len)
{
	l->taken++;
	memcpy(data, l->box[l->side]->data, len);
}

static long futex(uint32_t *at, int op, uint32_t value)
{
	return syscall(SYS_futex, at, op, value, NULL, NULL, 0);
}

/* No system call for a reader that is awake. */
static void put_futex(struct line *l, const void *data, size_t len)
{
	struct box *b = fill(l, data, len);

	if (__atomic_load_n(&b->sleeps, __ATOMIC_SEQ_CST))
		futex(&b->full, FUTEX_WAKE, 1);
}

static void take_futex(struct line *l, void *data, size_t len)
{
	struct box *b = l->box[l->side];

	while (!is_there(l)) {
		__atomic_store_n(&b->sleeps, 1, __ATOMIC_SEQ_CST);
		futex(&b->full, FUTEX_WAIT, l->taken);
		__atomic_store_n(&b->sleeps, 0, __ATOMIC_SEQ_CST);
	}
	empty(l, data, len);
}

static void put_eventfd(struct line *l, const void *data, size_t len)
{
	uint64_t one = 1;

	fill(l, data, len);
	MUST(write(l->out[l->side], &one, sizeof(one)) == sizeof(one));
}

static void take_eventfd(struct line *l, void *data, size_t len)
{
	uint64_t n;

	MUST(read(l->in[l->side], &n, sizeof(n)) == sizeof(n));
	empty(l, data, len);
}

static void put_polled(struct line *l, const void *data, size_t len)
{
	fill(l, data, len);
}

static void take_spinning(struct line *l, void *data, size_t len)
{
	while (!is_there(l))
		_mm_pause();
	empty(l, data, len);
}

static void take_yielding(struct line *l, void *data, size_t len)
{
	while (!is_there(l))
		sched_yield();
	empty(l, data, len);
}

/* ----------------------------------------------------------------- io_uring */

#ifdef HAVE_URING
/**
 * struct ring - io_uring of one side
 * @uring:	itself
 * @data:	what is being sent
 * @due:	completions that are to come before what is read
 */
struct ring {
	struct io_uring uring;
	char data[SMALL];
	unsigned int due;
};

static bool has_ring(void)
{
	struct io_uring uring;

	if (io_uring_queue_init(8, &uring, 0))
		return false;
	io_uring_queue_exit(&uring);
	return true;
}

static void begin_ring(struct line *l)
{
	l->ring = calloc(1, sizeof(*l->ring));
	MUST(l->ring && !io_uring_queue_init(8, &l->ring->uring, 0));
}

/* Goes to the kernel together with the next read: one system call for both. */
static void put_ring(struct line *l, const void *data, size_t len)
{
	struct ring *r = l->ring;

	MUST(len <= SMALL);
	memcpy(r->data, data, len);
	io_uring_prep_send(io_uring_get_sqe(&r->uring), l->out[l->side], r->data, len, 0);
	r->due++;
}

static void take_ring(struct line *l, void *data, size_t len)
{
	struct ring *r = l->ring;
	struct io_uring_cqe *cqe;

	io_uring_prep_recv(io_uring_get_sqe(&r->uring), l->in[l->side], data, len, 0);
	for (r->due++; r->due; r->due--) {
		MUST(io_uring_submit_and_wait(&r->uring, r->due) >= 0);
		MUST(!io_uring_peek_cqe(&r->uring, &cqe));
		MUST(cqe->res == (int)len);
		io_uring_cqe_seen(&r->uring, cqe);
	}
}
#endif

/* ------------------------------------------------------------------ all ways */

const struct way ways[] = {
	{
		.name = "unix stream, epoll",
		.payloads = true,
		.open = open_stream,
		.begin = begin_epoll,
		.put = put_bytes,
		.take = take_by_epoll,
	},
	{
		.name = "unix stream, read",
		.payloads = true,
		.open = open_stream,
		.put = put_bytes,
		.take = take_bytes,
	},
	{
		.name = "unix seqpacket, epoll",
		.open = open_seqpacket,
		.begin = begin_epoll,
		.put = put_bytes,
		.take = take_by_epoll,
	},
	{
		.name = "unix seqpacket, read",
		.open = open_seqpacket,
		.put = put_bytes,
		.take = take_bytes,
	},
	{
		.name = "pipe",
		.open = open_pipes,
		.put = put_bytes,
		.take = take_bytes,
	},
	{
		.name = "shared memory, eventfd",
		.open = open_boxes_and_eventfds,
		.put = put_eventfd,
		.take = take_eventfd,
	},
	{
		.name = "shared memory, futex",
		.payloads = true,
		.open = open_boxes,
		.put = put_futex,
		.take = take_futex,
	},
#ifdef HAVE_URING
	{
		.name = "unix stream, io_uring",
		.usable = has_ring,
		.open = open_stream,
		.begin = begin_ring,
		.put = put_ring,
		.take = take_ring,
	},
#endif
	{
		.name = "shared memory, spinning",
		.polling = true,
		.open = open_boxes,
		.put = put_polled,
		.take = take_spinning,
	},
	{
		.name = "shared memory, sched_yield",
		.polling = true,
		.yields = true,
		.open = open_boxes,
		.put = put_polled,
		.take = take_yielding,
	},
	{},
};

void line_open(struct line *l, const struct way *way)
{
	memset(l, 0, sizeof(*l));
	l->in[0] = l->in[1] = l->out[0] = l->out[1] = l->epoll = -1;
	way->open(l);
}

void line_close(struct line *l, const struct way *way)
{
	int i;

	(void)way;
	for (i = 0; i < 2; i++) {
		if (l->out[i] >= 0 && l->out[i] != l->in[0] && l->out[i] != l->in[1])
			close(l->out[i]);
	}
	for (i = 0; i < 2; i++)
		if (l->in[i] >= 0)
			close(l->in[i]);
	if (l->epoll >= 0)
		close(l->epoll);
	if (l->box[0])
		munmap(l->box[0], 2 * BOX_SIZE);
#ifdef HAVE_URING
	if (l->ring) {
		io_uring_queue_exit(&l->ring->uring);
		free(l->ring);
	}
#endif
}
