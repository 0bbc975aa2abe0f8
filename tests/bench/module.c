// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Instead of /dev/rpal: as much of the module as a call needs that stays in user
 * mode. In the copies of the library open(), ioctl(), rpal_tr_ioctl() and what
 * gives memory are these here (see rules.mk), and nothing else differs.
 *
 * There is no lazy switch: code that enters the kernel does so on the task that
 * it runs on. So no measured path may; messages.c looks that none does.
 */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "module.h"
#include "shared.h"

#define NR_BLOCKS 8

/* Where a task is while others may run on its thread's stack. */
static char stacks[NR_PEERS + 1][16384] __attribute__((aligned(64)));

/* Callee-saved registers and all that belongs to a thread, as in the module. */
void module_resume(const struct rpal_block *block, uint64_t ip, int64_t status, int keys)
	__attribute__((noreturn));

static struct peer *peer_of(uint64_t key, uint32_t id)
{
	if (key)
		id = key >> 48;
	return id >= 1 && id <= NR_PEERS && peers[id].id ? &peers[id] : NULL;
}

static bool has_asked(const struct peer *p, const struct peer *for_whom)
{
	return p->asked & 1U << for_whom->id;
}

/* --------------------------------------------------------------- commands */

static int query(struct rpal_query *q)
{
	q->abi_major = RPAL_ABI_MAJOR;
	q->abi_minor = RPAL_ABI_MINOR;
	q->block_size = RPAL_BLOCK_SIZE;
	q->features = shared->setup.stamps ? RPAL_FEATURE_STAMPS : 0;
	return 0;
}

static int self(struct rpal_self *s)
{
	s->state = RPAL_SELF_PLACED;
	s->slot = me->id;
	s->pkey = me->pkey;
	return 0;
}

static int do_register(struct rpal_register *r)
{
	r->id = me->id;
	r->key = (uint64_t)me->id << 48 | 4711;
	r->area_size = NR_BLOCKS * RPAL_BLOCK_SIZE;
	me->ranges = r->ranges;
	return 0;
}

static int request(struct rpal_request *r)
{
	const struct peer *p = peer_of(r->key, 0);

	if (!p)
		return -ENOENT;
	__atomic_or_fetch(&me->asked, 1U << p->id, __ATOMIC_SEQ_CST);
	r->id = p->id;
	return 0;
}

static int look_at_peer(struct rpal_peer *r)
{
	const struct peer *p = peer_of(r->key, r->id);

	if (!p)
		return -ENOENT;
	r->id = p->id;
	r->pkey = p->pkey;
	r->nr_receivers = 1;
	r->base = (uintptr_t)p->base;
	r->area = (uintptr_t)p->area;
	if (has_asked(me, p))
		r->state |= RPAL_LINK_ASKED;
	if (has_asked(me, p) && has_asked(p, me))
		r->state |= RPAL_LINK_LINKED;
	return 0;
}

/* One thread each: block 0 if it is a receiver, 1 if not. */
static int register_thread(struct rpal_thread *r)
{
	unsigned int index = !(r->flags & RPAL_THREAD_RECEIVER);
	struct rpal_block *b = &me->area[index];

	r->tid = RPAL_TID(me->id, index);
	r->block = (uintptr_t)b;
	b->call_word = (uint64_t)r->tid << 32 | 1 << 8 | RPAL_ST_CALL;
	me->block = b;
	__atomic_store_n(&b->tid, r->tid, __ATOMIC_RELEASE);
	return 0;
}

static int peer_fd(struct rpal_peer_fd *r)
{
	if (r->id > NR_PEERS || r->fd != shared->setup.sock[me->id])
		return -EREMOTE;
	r->peer_fd = shared->setup.sock[r->id];
	return 0;
}

/* What is there now. Nothing comes later: the sockets carry no bytes. */
static int watch(const struct rpal_watch *r)
{
	struct pollfd p = { .fd = r->fd, .events = POLLIN };

	if (r->fd >= 0 && poll(&p, 1, 0) > 0)
		__atomic_or_fetch(&me->block->news, RPAL_NEWS_EVENT, __ATOMIC_SEQ_CST);
	return 0;
}

static void futex(uint32_t *at, int op, uint32_t value)
{
	/* As the C library's, but with no errno: whose that is depends. */
	register long r10 __asm__("r10") = 0;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(SYS_futex), "D"(at), "S"(op | FUTEX_PRIVATE_FLAG), "d"(value),
			   "r"(r10)
			 : "rcx", "r11", "memory");
}

static int wake(const struct rpal_wake *r)
{
	struct peer *p = peer_of(0, RPAL_TID_SERVICE(r->tid));

	if (!p)
		return -ESRCH;
	__atomic_add_fetch(&p->woken, 1, __ATOMIC_SEQ_CST);
	futex(&p->woken, FUTEX_WAKE, 1);
	return 0;
}

/* Who waits for a receiver waits for one that has not come so far. */
static int await(void)
{
	usleep(100);
	return 0;
}

static int command(unsigned long cmd, void *arg)
{
	switch (cmd) {
	case RPAL_IOC_QUERY:
		return query(arg);
	case RPAL_IOC_SELF:
		return self(arg);
	case RPAL_IOC_REGISTER:
		return do_register(arg);
	case RPAL_IOC_REQUEST:
		return request(arg);
	case RPAL_IOC_PEER:
		return look_at_peer(arg);
	case RPAL_IOC_THREAD:
		return register_thread(arg);
	case RPAL_IOC_THREAD_EXIT:
		return 0; /* so does the process */
	case RPAL_IOC_PEER_FD:
		return peer_fd(arg);
	case RPAL_IOC_WATCH:
		return watch(arg);
	case RPAL_IOC_WAKE:
		return wake(arg);
	case RPAL_IOC_AWAIT:
		return await();
	}
	fprintf(stderr, "command %#lx is none that a benchmark needs\n", cmd);
	_exit(1);
}

/* --------------------------------------------------------------- the wait */

/*
 * RPAL_IOC_WAIT on a stack of its own: as soon as the word says WAIT, others run
 * on the thread's. Then go on at wait_ip with what is in the block by then.
 */
__asm__("	.text\n"
	"	.globl	module_tr_ioctl\n"
	"	.type	module_tr_ioctl, @function\n"
	"module_tr_ioctl:\n"
	"	cmp	$0x4018bf22, %esi\n" /* RPAL_IOC_WAIT */
	"	jne	module_ioctl_raw\n"
	"	mov	%rdx, %rbx\n"
	"	sub	$8, %rsp\n"
	"	call	module_stack\n"
	"	mov	%rax, %rsp\n"
	"	mov	%rbx, %rdi\n"
	"	call	module_wait\n"
	"	ud2\n"
	"	.globl	module_resume\n"
	"	.type	module_resume, @function\n"
	"module_resume:\n"
	"	mov	%rdi, %r10\n"
	"	mov	%rsi, %r11\n"
	"	mov	%rdx, %r9\n"
	"	mov	128(%r10), %rax\n"
	"	wrfsbase %rax\n"
	"	ldmxcsr	140(%r10)\n"
	"	fldcw	144(%r10)\n"
	"	mov	72(%r10), %rsp\n"
	"	mov	80(%r10), %rbx\n"
	"	mov	88(%r10), %rbp\n"
	"	mov	96(%r10), %r12\n"
	"	mov	104(%r10), %r13\n"
	"	mov	112(%r10), %r14\n"
	"	mov	120(%r10), %r15\n"
	"	test	%ecx, %ecx\n"
	"	je	1f\n"
	"	mov	136(%r10), %eax\n"
	"	xor	%ecx, %ecx\n"
	"	xor	%edx, %edx\n"
	"	wrpkru\n"
	"1:	mov	%r9, %rax\n"
	"	jmp	*%r11\n");

void *module_stack(void)
{
	return stacks[me->id] + sizeof(stacks[0]);
}

long module_ioctl_raw(int fd, unsigned long cmd, void *arg)
{
	(void)fd;
	return command(cmd, arg);
}

/* On the stack that is the task's alone. */
void module_wait(const struct rpal_wait *w)
{
	struct peer *p = me;
	struct rpal_block *b = p->block;
	uint64_t word;
	uint32_t seen;

	if (w->flags & RPAL_WAIT_REPLY) {
		fprintf(stderr, "a call was handed over, which cannot be here\n");
		_exit(1);
	}
	__atomic_store_n(&b->word, RPAL_ST_WAIT, __ATOMIC_SEQ_CST);
	for (;;) {
		seen = __atomic_load_n(&p->woken, __ATOMIC_SEQ_CST);
		word = __atomic_load_n(&b->word, __ATOMIC_SEQ_CST);
		if ((word & RPAL_ST_MASK) == RPAL_ST_WAIT &&
		    ((w->flags & RPAL_WAIT_NEWS && b->news) || word & RPAL_ST_PENDING) &&
		    __atomic_compare_exchange_n(&b->word, &word, RPAL_ST_RUNNING, false,
						__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			break;
		futex(&p->woken, FUTEX_WAIT, seen);
	}
	module_resume(b, p->ranges.wait_ip, RPAL_WAITED_NEWS, p->pkey);
}

/* ------------------------------------- instead of functions of the C library */

/* Something that can be closed. */
int module_open(const char *path, int flags, ...)
{
	(void)path;
	(void)flags;
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

int module_ioctl(int fd, unsigned long cmd, ...)
{
	va_list args;
	void *arg;
	int ret;

	(void)fd;
	va_start(args, cmd);
	arg = va_arg(args, void *);
	va_end(args);
	ret = command(cmd, arg);
	if (ret < 0) {
		errno = -ret;
		return -1;
	}
	return ret;
}

void *module_mmap(void *addr, size_t size, int prot, int flags, int fd, off_t offset)
{
	void *p = peer_alloc(size, 4096);

	(void)addr, (void)prot, (void)flags, (void)offset;
	/* The thread area is the one thing that is mapped of a file. */
	if (fd >= 0)
		me->area = p;
	return p;
}

int module_munmap(void *addr, size_t size)
{
	(void)addr, (void)size;
	return 0;
}

void *module_aligned_alloc(size_t align, size_t size)
{
	return peer_alloc(size, align);
}

/* The size is in front, for realloc(). */
void *module_calloc(size_t n, size_t size)
{
	size_t *p = peer_alloc(n * size + 64, 64);

	*p = n * size;
	return (char *)p + 64;
}

void *module_realloc(void *old, size_t size)
{
	void *p = module_calloc(1, size);
	size_t *old_size;

	if (old) {
		old_size = (size_t *)((char *)old - 64);
		memcpy(p, old, *old_size < size ? *old_size : size);
	}
	return p;
}

void module_free(void *p)
{
	(void)p;
}
