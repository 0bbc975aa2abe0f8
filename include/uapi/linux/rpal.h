/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * RPAL: user interface of /dev/rpal.
 *
 * Conventions that hold for every command:
 *
 * - The argument is a pointer to the structure named in the command. Its
 *   first field, size, is set by the caller to sizeof() of the structure it
 *   was built with. A larger structure than the kernel knows is accepted if
 *   all bytes that the kernel does not know are zero (else -E2BIG); a smaller
 *   one is completed with zeros. Less than 8 is -EINVAL, more than 4096 -E2BIG.
 *   The size that is part of the command's number is not looked at.
 * - Unknown bits in flags and non-zero reserved fields are -EINVAL.
 * - An unknown command is -ENOTTY; a pointer that cannot be read or written
 *   is -EFAULT.
 * - Out fields are written only when the command succeeds.
 * - Commands from RPAL_IOC_UNREGISTER on speak for the service that owns the
 *   file: -ENXIO if there is none, and -EPERM from any process but the one that
 *   has registered it.
 *
 * Words: a *service* is a registered process; it lives in a *slot* of
 * 512 GiB of address space. Two services are *linked* once each has asked for
 * the other. A *sender* thread calls, a *receiver* thread is called.
 */
#ifndef _UAPI_LINUX_RPAL_H
#define _UAPI_LINUX_RPAL_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define RPAL_ABI_MAJOR		0
#define RPAL_ABI_MINOR		3

#define RPAL_SLOT_SHIFT		39
#define RPAL_SLOT_SIZE		(1ULL << RPAL_SLOT_SHIFT)
/* Slots 1 .. RPAL_MAX_SLOT are given out; slot 0 holds private low mappings. */
#define RPAL_MAX_SLOT		254

#define RPAL_MAX_RECEIVERS	256	/* receiver threads per service */
#define RPAL_MAX_SENDERS	1024	/* other registered threads per service */
#define RPAL_MAX_DEPTH		8	/* calls nested in calls */
#define RPAL_GROUP_LEN		32	/* group name, with its final zero */

/* ------------------------------------------------------------------ query */

/* What the CPU and the kernel offer. */
#define RPAL_FEATURE_PKEYS	(1ULL << 0)	/* protection keys guard services */
#define RPAL_FEATURE_LA57	(1ULL << 1)	/* five levels of page tables */
#define RPAL_FEATURE_PTI	(1ULL << 2)	/* page-table isolation is on */
#define RPAL_FEATURE_NO_PKEYS_OK (1ULL << 3)	/* placing without keys is allowed */
#define RPAL_FEATURE_LAZY	(1ULL << 4)	/* called code may enter the kernel */
#define RPAL_FEATURE_STAMPS	(1ULL << 5)	/* calls are to be timed, see rpal_block */
#define RPAL_FEATURE_OFF	(1ULL << 6)	/* nothing is placed, nobody becomes a service */
#define RPAL_FEATURE_BROKEN	(1ULL << 7)	/* a hook is missing: nothing is placed */

/**
 * struct rpal_query - what this module can do
 * @size:		sizeof(struct rpal_query)
 * @flags:		must be 0
 * @abi_major:		changes when old programs no longer work
 * @abi_minor:		changes when something was added
 * @features:		RPAL_FEATURE_*
 * @max_services:	services that can exist at once
 * @max_links:		links that one service can have
 * @max_receivers:	receiver threads per service
 * @max_senders:	further registered threads per service
 * @max_depth:		calls that can be nested
 * @slot_shift:		log2 of a slot's size in bytes
 * @nr_keys:		protection keys that can be given to services
 * @block_size:		bytes from one thread block to the next
 */
struct rpal_query {
	__u32 size;
	__u32 flags;
	__u32 abi_major;
	__u32 abi_minor;
	__u64 features;
	__u32 max_services;
	__u32 max_links;
	__u32 max_receivers;
	__u32 max_senders;
	__u32 max_depth;
	__u32 slot_shift;
	__u32 nr_keys;
	__u32 block_size;
};

/* -------------------------------------------------------------- placement */

/* Go on without protection keys where the CPU has none (module must allow). */
#define RPAL_PLACE_NO_PKEYS	(1U << 0)

/**
 * struct rpal_place - have the calling task's next program placed in a slot
 * @size:	sizeof(struct rpal_place)
 * @flags:	RPAL_PLACE_*
 * @group:	zero-terminated name; services of one group get different keys.
 *		Empty: no group
 *
 * Holds for the next execve() of the calling task that reaches a program, and
 * ends with the task, with the file it was asked on, or with that execve().
 * A second request replaces the first, on whatever file.
 *
 * Errors of the command: -EINVAL (group not terminated, flags), -EOPNOTSUPP
 * (the CPU has no protection keys and they were not waived), -ESHUTDOWN (switched
 * off by the administrator: module parameter enable).
 *
 * execve() then has these errors, all before the point of no return:
 * -ELIBBAD (not a 64-bit x86 position-independent ELF program), -EPERM
 * (set-user-id, set-group-id or file capabilities), -ENOSPC (no slot free),
 * -EDQUOT (the user has too many placed programs, see below), -ENOTUNIQ (all keys
 * are in use within the group), -EOPNOTSUPP (no protection keys), -ESHUTDOWN,
 * -EBUSY (a live patch or another module holds a kernel function that has to be
 * hooked, or the function tracer is off: the kernel log names it), -ENODEV (a hook
 * does not fire or has gone; see rpal/health in debugfs), -ENOMEM, -EINTR.
 *
 * Limits per user: the administrator can say how many placed programs, services,
 * registered threads and requests for links one user may have (module parameters
 * user_placed, user_services, user_threads, user_links; 0: no limit). What would be
 * more is -EDQUOT, unless the caller has CAP_SYS_RESOURCE in the initial user
 * namespace. A user is the real user id, as that namespace sees it, at the time of
 * the execve(), or of RPAL_IOC_REGISTER for a service, its threads and its requests.
 */
struct rpal_place {
	__u32 size;
	__u32 flags;
	__u8 group[RPAL_GROUP_LEN];
};

#define RPAL_SELF_PLACED	(1U << 0)	/* lives in a slot */
#define RPAL_SELF_REGISTERED	(1U << 1)	/* is a service */
/* Has made mappings below 512 GiB, which no peer can reach. */
#define RPAL_SELF_PRIVATE_LOW	(1U << 2)
#define RPAL_SELF_HEIR		(1U << 3)	/* forked from a placed process */

/**
 * struct rpal_self - where the calling process lives
 * @size:	sizeof(struct rpal_self)
 * @flags:	must be 0
 * @state:	out: RPAL_SELF_*
 * @slot:	out: slot number, 0 if not placed
 * @pkey:	out: protection key of its memory, 0 if none
 * @id:		out: service id, 0 if not registered
 * @base:	out: first address of the slot
 * @end:	out: first address after the slot
 * @key:	out: service key, 0 if not registered
 */
struct rpal_self {
	__u32 size;
	__u32 flags;
	__u32 state;
	__u32 slot;
	__u32 pkey;
	__u32 id;
	__u64 base;
	__u64 end;
	__u64 key;
};

/*
 * RPAL_IOC_ADOPT (it has no argument): a child that was forked from a placed process
 * takes over the slot, once its parent has ended. From then on it is placed, and can
 * register, as a service like any other: nothing of its parent's is inherited, neither
 * key nor links nor threads.
 *
 * Errors: -ENXIO (not forked from a placed process), -EALREADY (is placed), -EPERM
 * (not the process that was forked: a child of vfork()), -EUSERS (it has other
 * threads: it must do this before it starts them), -ESHUTDOWN (switched off),
 * -EBUSY (the parent has not ended yet), -EADDRINUSE (somebody else lives in the slot,
 * such as another child), -ENOTUNIQ (a new member of the group has got the key),
 * -EDQUOT (the user has too many placed programs), -ERANGE (it has made mappings
 * outside of the slot, above the lowest 512 GiB), -EAGAIN (another thread keeps
 * mapping memory meanwhile), -ENOMEM, and what mprotect() says of memory that does
 * not carry the key yet.
 */

/* --------------------------------------------------------------- services */

/**
 * struct rpal_ranges - code addresses of the call trampolines
 * @open_start:		first instruction after which the caller's own memory
 *			may be closed: the WRPKRU of a call
 * @open_end:		first instruction after PKRU was restored because the
 *			claim failed
 * @enter_start:	first instruction after the claiming cmpxchg
 * @enter_end:		end of the code that jumps to the receiver
 * @leave_start:	the receiver's check of its own word on return
 * @leave_end:		end of the code that jumps back to the sender
 * @home_start:		where a sender continues after a call
 * @home_end:		first instruction after its PKRU was restored
 * @lazy_ip:		where a sender continues with status in ax and result
 *			in dx after the kernel has ended the call
 * @wait_ip:		where a receiver continues when its wait ends
 *
 * Between enter_start and home_end r10 holds the address of the caller's block
 * and r11 that of the receiver's; from leave_start on r8 holds the status and
 * r9 the result. Between open_start and enter_start r10 holds the caller's
 * block. All addresses must lie in the caller's slot.
 */
struct rpal_ranges {
	__u64 open_start;
	__u64 open_end;
	__u64 enter_start;
	__u64 enter_end;
	__u64 leave_start;
	__u64 leave_end;
	__u64 home_start;
	__u64 home_end;
	__u64 lazy_ip;
	__u64 wait_ip;
};

/**
 * struct rpal_register - make the calling process a service
 * @size:		sizeof(struct rpal_register)
 * @flags:		must be 0
 * @nr_receivers:	1 .. RPAL_MAX_RECEIVERS: receiver threads it may have
 * @id:			out: service id, the number of its slot
 * @key:		out: unguessable key by which others ask for it
 * @area_size:		out: bytes of thread area to be mapped, MAP_SHARED, at
 *			offset 0 of the file
 * @ranges:		the trampolines
 *
 * Errors: -ENXIO (the process was not placed), -EBUSY (already a service, or its
 * last one is just ending, or the file is registered), -EDQUOT (the user has too
 * many), -ESHUTDOWN (switched off), -EPERM (a child that shares its parent's
 * memory), -EINVAL, -ENOMEM.
 *
 * RPAL_IOC_UNREGISTER ends the service, and so does the end of the file or the
 * process. The file, if it is still open somewhere, is as one that was never
 * registered then. All further commands that speak for the service, and read() and
 * mmap() of the file, must come from the same process (-EPERM).
 *
 * mmap() of the file gives the thread area. Errors: -ENXIO, -EPERM, -EINVAL (not
 * the whole area, not shared, executable, or outside of the slot), -EBUSY (it is
 * mapped already).
 */
struct rpal_register {
	__u32 size;
	__u32 flags;
	__u32 nr_receivers;
	__u32 id;
	__u64 key;
	__u64 area_size;
	struct rpal_ranges ranges;
};

#define RPAL_LINK_ASKED		(1U << 0)	/* we have asked for it */
#define RPAL_LINK_WANTED	(1U << 1)	/* it has asked for us */
#define RPAL_LINK_LINKED	(1U << 2)	/* both: memory is shared */

/**
 * struct rpal_request - ask to be linked with a service, or take it back
 * @size:	sizeof(struct rpal_request)
 * @flags:	must be 0
 * @key:	the peer's key
 * @id:		out: the peer's id
 * @state:	out: RPAL_LINK_* after the command
 *
 * RPAL_IOC_REQUEST. Errors: -ENXIO (caller is no service), -ENOENT (no service
 * has this key), -EINVAL (own key), -EALREADY (asked before), -EACCES (the
 * caller may not read the peer by the rules of ptrace), -ENOTUNIQ (both use
 * the same protection key), -EDQUOT (the user's services have asked too often: a
 * link counts on both sides), -ERANGE (one of the two has memory where the other's would
 * be, which the module does not let come about), -ENOMEM.
 *
 * The link exists from the moment when both have asked, in any order.
 *
 * RPAL_IOC_RELEASE. Ends link and request in both directions. Errors: -ENXIO,
 * -ENOENT (nothing was asked).
 */
struct rpal_request {
	__u32 size;
	__u32 flags;
	__u64 key;
	__u32 id;
	__u32 state;
};

/**
 * struct rpal_peer - look at a service by key or, with @key 0, by id
 * @size:		sizeof(struct rpal_peer)
 * @flags:		must be 0
 * @key:		in, or out when asked by id and linked
 * @id:			in when @key is 0, else out
 * @state:		out: RPAL_LINK_*
 * @pkey:		out: protection key of its memory
 * @nr_receivers:	out: blocks 0 .. nr_receivers - 1 belong to receivers
 * @base:		out: first address of its slot
 * @area:		out: address of its thread area, 0 if not mapped, or if the
 *			caller has not asked for the service
 *
 * Only services for which one side has asked are shown. Errors: -ENXIO,
 * -ENOENT.
 */
struct rpal_peer {
	__u32 size;
	__u32 flags;
	__u64 key;
	__u32 id;
	__u32 state;
	__u32 pkey;
	__u32 nr_receivers;
	__u64 base;
	__u64 area;
};

/* ---------------------------------------------------------------- threads */

/*
 * Each registered thread has a block of RPAL_BLOCK_SIZE bytes in the thread
 * area of its service: the lowest nr_receivers blocks are for receivers.
 */
#define RPAL_BLOCK_SIZE		256

/* A thread's name: service id in bits 31..16, index of its block below. */
#define RPAL_TID(service, index)	(((__u32)(service) << 16) | (index))
#define RPAL_TID_SERVICE(tid)	((__u32)(tid) >> 16)
#define RPAL_TID_INDEX(tid)	((__u32)(tid) & 0xffff)

/*
 * A state word: bits 63..32 the tid of the caller and bits 31..8 a generation
 * of it (both only in RPAL_ST_CALL), bit 7 RPAL_ST_PENDING, bits 6..0 a state.
 */
#define RPAL_ST_RUNNING		0	/* runs its own code on its own task */
#define RPAL_ST_WAIT		1	/* can be called */
#define RPAL_ST_CALL		2	/* its context runs on the caller's task */
#define RPAL_ST_LAZY		3	/* was handed to its own task */
#define RPAL_ST_DEAD		5	/* will never be called again */
#define RPAL_ST_MASK		0x7f
#define RPAL_ST_PENDING		0x80	/* wake the receiver when the call ends */

/* In callee: no call, but code that may touch memory of peers; see below. */
#define RPAL_TID_GUARD		0xffffffffU

/* In news. */
#define RPAL_NEWS_MESSAGE	(1U << 0)	/* set by peers: look into your memory */
#define RPAL_NEWS_EVENT		(1U << 1)	/* set by the kernel, see struct rpal_watch */

/* In flags of a block. */
#define RPAL_BLOCK_ASYNC	(1U << 0)	/* this thread's call needs no answer */

/**
 * struct rpal_block - the words through which threads call each other
 * @word:		state word
 * @caller:		address of the caller's block, set by the caller
 * @caller_word:	the caller's call_word, set by the caller
 * @call_word:		RPAL_ST_CALL with this thread's identity, for its calls
 * @callee:		tid of the thread this one is calling, 0 if none
 * @tid:		own tid, written last: a block without it is nobody's
 * @status:		answer to a lazily switched call
 * @result:		answer to a lazily switched call
 * @news:		RPAL_NEWS_*: there is something for this thread to look at
 * @flags:		RPAL_BLOCK_*
 * @ip:			saved context: where to continue
 * @sp:			stack pointer
 * @bx:			callee-saved registers
 * @bp:			callee-saved registers
 * @r12:		callee-saved registers
 * @r13:		callee-saved registers
 * @r14:		callee-saved registers
 * @r15:		callee-saved registers
 * @fsbase:		base of thread-local storage
 * @pkru:		access rights of this context
 * @mxcsr:		SSE control word
 * @fcw:		x87 control word
 * @pad1:		unused
 * @stamp:		TSC when this thread began its call, 0 if calls are not timed
 * @away_ticks:		TSC ticks that its calls have taken, by callee's tid % 4
 * @away_tid:		whom it called last, by callee's tid % 4
 * @user:		free for the library of the service
 * @timer:		CLOCK_MONOTONIC ns when the kernel looks at @deadline next, 0:
 *			it does not
 * @deadline:		CLOCK_MONOTONIC ns when this thread's call is over, 0: never
 *
 * A recovery point: a thread that has saved its context here and then set
 * @callee to RPAL_TID_GUARD continues at lazy_ip, with this context and -EFAULT
 * in ax, when code of its own slot faults (SIGSEGV, SIGBUS) on an address in the
 * slot of another service, there or not. The kernel clears @callee then. It gets
 * no signal. Its signal mask is not restored: a handler that itself touches such
 * memory meanwhile never returns. It ends with the registration of the thread. A
 * handler may set one while a lazily switched call of the thread goes on, if it puts
 * @callee back afterwards.
 *
 * With RPAL_BLOCK_ASYNC a call that is handed over to the receiver's own task
 * has ended for the caller: RPAL_CALL_LAZY in ax, and nothing to wait for.
 *
 * With RPAL_FEATURE_STAMPS a thread should write @stamp, @away_ticks and
 * @away_tid for each of its calls: where no tick interrupts user code nobody
 * else can tell how long whose code has run. What is charged to others is never
 * more than what the kernel has seen this thread run.
 */
struct rpal_block {
	__u64 word;		/* 0 */
	__u64 caller;		/* 8 */
	__u64 caller_word;	/* 16 */
	__u64 call_word;	/* 24 */
	__u32 callee;		/* 32 */
	__u32 tid;		/* 36 */
	__s64 status;		/* 40 */
	__s64 result;		/* 48 */
	__u32 news;		/* 56 */
	__u32 flags;		/* 60 */
	__u64 ip;		/* 64 */
	__u64 sp;		/* 72 */
	__u64 bx;		/* 80 */
	__u64 bp;		/* 88 */
	__u64 r12;		/* 96 */
	__u64 r13;		/* 104 */
	__u64 r14;		/* 112 */
	__u64 r15;		/* 120 */
	__u64 fsbase;		/* 128 */
	__u32 pkru;		/* 136 */
	__u32 mxcsr;		/* 140 */
	__u16 fcw;		/* 144 */
	__u16 pad1[3];
	__u64 stamp;		/* 152 */
	__u64 away_ticks[4];	/* 160 */
	__u32 away_tid[4];	/* 192 */
	__u64 user[4];		/* 208 */
	__u64 timer;		/* 240 */
	__u64 deadline;		/* 248 */
};

#define RPAL_THREAD_SENDER	(1U << 0)
#define RPAL_THREAD_RECEIVER	(1U << 1)

/**
 * struct rpal_thread - make the calling thread a sender, a receiver or both
 * @size:	sizeof(struct rpal_thread)
 * @flags:	RPAL_THREAD_*, at least one. Registering again adds a role, but
 *		a sender that is to be a receiver too must ask for both at once
 * @tid:	out: the thread's tid
 * @reserved:	must be 0
 * @block:	out: address of its block
 *
 * Errors: -ENXIO (no service, or its thread area is not mapped), -EBUSY
 * (registered already with another kind of block, or still registered with
 * rseq), -ENOSPC (all blocks of the kind are in use), -EDQUOT (the user has too
 * many), -EOPNOTSUPP (user shadow stack, AMX permission, syscall user dispatch in
 * use, 32-bit task), -ENOMEM.
 *
 * A registered thread can neither take rseq again nor change syscall user
 * dispatch: rseq() and prctl(PR_SET_SYSCALL_USER_DISPATCH) fail with -EBUSY.
 *
 * RPAL_IOC_THREAD_EXIT ends it; -ENXIO if there is none, -EBUSY in a call (while
 * callee in its block is not 0).
 */
struct rpal_thread {
	__u32 size;
	__u32 flags;
	__u32 tid;
	__u32 reserved;
	__u64 block;
};

#define RPAL_WAIT_REPLY		(1U << 0)	/* answer a lazily switched call first */
#define RPAL_WAIT_NEWS		(1U << 1)	/* news ends the wait */

/**
 * struct rpal_wait - a receiver waits to be called
 * @size:	sizeof(struct rpal_wait)
 * @flags:	RPAL_WAIT_*
 * @fd:		-1, or a pollable file whose input ends the wait
 * @reserved:	must be 0
 * @timeout_ns:	-1: for ever, else nanoseconds from the command on: calls that
 *		are served meanwhile do not begin it anew
 *
 * The caller has saved its context in its block before. The command itself
 * returns only errors that are found before waiting: -ENXIO (no receiver),
 * -EINVAL, -EBADF. Once it waits, the thread continues at wait_ip with its
 * saved context and in ax: -EINTR (a signal came), RPAL_WAITED_EVENT,
 * RPAL_WAITED_TIMEOUT, RPAL_WAITED_NEWS, -EPROTO (its state word held nonsense);
 * or it continues in the middle of a procedure that a caller's task had begun
 * and handed over. With RPAL_WAIT_REPLY the kernel takes status and result from
 * the block.
 *
 * With RPAL_WAIT_NEWS the wait ends when news in the block is not 0: looked at
 * after the word has become RPAL_ST_WAIT, and after each RPAL_IOC_WAKE. So who
 * sets news and then finds the word to be neither WAIT nor CALL need do nothing
 * more. As an event, it waits for the end of a call.
 */
struct rpal_wait {
	__u32 size;
	__u32 flags;
	__s32 fd;
	__u32 reserved;
	__s64 timeout_ns;
};

#define RPAL_WAITED_EVENT	(-4001)
#define RPAL_WAITED_TIMEOUT	(-4002)
#define RPAL_WAITED_NEWS	(-4004)

/* In ax at lazy_ip: the call goes on without us, ask RPAL_IOC_AWAIT_REPLY. */
#define RPAL_CALL_LAZY		(-4003)

#define RPAL_REPLY_DEADLINE	(1U << 0)	/* no longer than until the deadline */

/**
 * struct rpal_reply - a sender waits for the answer to a lazily switched call
 * @size:	sizeof(struct rpal_reply)
 * @flags:	RPAL_REPLY_*
 * @status:	out: 0 or a negative errno
 * @result:	out: the procedure's result
 *
 * Errors: -ENXIO, -EINVAL (no such call), -EINTR (ask again), -ETIMEDOUT (the
 * deadline in the block has passed: the call has ended for the caller, and what
 * is answered later is dropped).
 */
struct rpal_reply {
	__u32 size;
	__u32 flags;
	__s64 status;
	__s64 result;
};

/**
 * struct rpal_deadline - have a thread's deadline looked at
 * @size:	sizeof(struct rpal_deadline)
 * @flags:	must be 0
 * @tid:	a thread of the caller's service
 * @reserved:	must be 0
 *
 * If the deadline in its block has passed, what the thread has called is handed
 * over to its own task: the thread continues at lazy_ip, as after any lazy switch.
 * Else that will happen when it passes; the kernel writes into timer when it is
 * going to look, and takes the deadline that it finds then. So who has set a
 * deadline, and finds a timer that is not 0 and not later, need not ask.
 *
 * Errors: -ENXIO, -ESRCH (no such thread).
 */
struct rpal_deadline {
	__u32 size;
	__u32 flags;
	__u32 tid;
	__u32 reserved;
};

/**
 * struct rpal_wake - wake a receiver whose word became WAIT | PENDING
 * @size:	sizeof(struct rpal_wake)
 * @flags:	must be 0
 * @tid:	the receiver
 * @reserved:	must be 0
 *
 * Errors: -ENXIO, -ESRCH (no such receiver in a linked service).
 */
struct rpal_wake {
	__u32 size;
	__u32 flags;
	__u32 tid;
	__u32 reserved;
};

/**
 * struct rpal_await - sleep until a receiver of a service may be free
 * @size:	sizeof(struct rpal_await)
 * @flags:	must be 0
 * @id:		service
 * @reserved:	must be 0
 * @timeout_ns:	-1: for ever, else nanoseconds
 *
 * Returns 0 when it is worth another try (spurious returns happen). Errors:
 * -ENXIO, -ESRCH (not linked), -EPIPE (it has no receiver, or none yet), -EINTR,
 * -ETIMEDOUT.
 */
struct rpal_await {
	__u32 size;
	__u32 flags;
	__u32 id;
	__u32 reserved;
	__s64 timeout_ns;
};

/* --------------------------------------------------------------- messages */

/**
 * struct rpal_peer_fd - what is the other end of a socket called
 * @size:	sizeof(struct rpal_peer_fd)
 * @flags:	must be 0
 * @id:		a linked service
 * @fd:		a connected AF_UNIX stream or seqpacket socket of the caller
 * @peer_fd:	out: the descriptor that the other end has in that service
 * @reserved:	must be 0
 *
 * Errors: -ENXIO, -ESRCH (not linked), -EBADF, -ENOTSOCK, -EPROTONOSUPPORT (no
 * AF_UNIX stream or seqpacket socket), -ENOTCONN, -EAGAIN (the other end was not
 * accepted yet, or is just being: ask again), -EREMOTE (it is not open in that
 * service), -ENOTUNIQ (it has several descriptors there).
 */
struct rpal_peer_fd {
	__u32 size;
	__u32 flags;
	__u32 id;
	__s32 fd;
	__s32 peer_fd;
	__u32 reserved;
};

#define RPAL_PEER_OF_SERVICE	(1U << 0) /* its process is a service now */

/**
 * struct rpal_peer_of - who is at the other end of a socket
 * @size:	sizeof(struct rpal_peer_of)
 * @flags:	must be 0
 * @fd:		a connected AF_UNIX socket of the caller
 * @state:	out: RPAL_PEER_OF_*
 *
 * The process is that of SO_PEERCRED: who connected, or listened. Nothing is sent,
 * and nothing but this is learnt of it. Errors: -ENXIO, -EBADF, -ENOTSOCK,
 * -EPROTONOSUPPORT (no AF_UNIX socket), -ENOTCONN (nobody is there).
 */
struct rpal_peer_of {
	__u32 size;
	__u32 flags;
	__s32 fd;
	__u32 state;
};

/**
 * struct rpal_watch - have input of a file noted in the thread's block
 * @size:	sizeof(struct rpal_watch)
 * @flags:	must be 0
 * @fd:		a pollable file, typically an epoll instance; -1: none any more
 * @reserved:	must be 0
 *
 * The kernel sets RPAL_NEWS_EVENT in the calling thread's block now if the file
 * has input, and whenever some arrives, or an error or the end. That alone wakes
 * nobody. One file per thread; another replaces it, but not if there is an error.
 * The file stays open until then, or until the thread ends.
 *
 * Errors: -ENXIO (not registered), -EBADF, -EPERM (not pollable, or of /dev/rpal
 * and no channel), -EOPNOTSUPP (a file with several wait queues), -ENOMEM.
 */
struct rpal_watch {
	__u32 size;
	__u32 flags;
	__s32 fd;
	__u32 reserved;
};

/**
 * struct rpal_channel - make a file one that peers can make readable
 * @size:	sizeof(struct rpal_channel)
 * @flags:	must be 0
 * @service:	descriptor of the file that owns the service
 * @number:	out: its number, for peers; 1 or more
 *
 * On a file of /dev/rpal that is no service's. It ends with the file or the
 * service. Errors: -ENXIO (no service), -EBADF, -EINVAL (@service is no file of
 * /dev/rpal), -EPERM (another process's), -EBUSY (is one already, or owns a
 * service), -ENOSPC (1024 per service), -ENOMEM.
 *
 * A channel polls readable (EPOLLIN) after RPAL_IOC_NOTIFY, until it is read.
 * read() of 8 bytes or more gives the number of notices since the last one, as a
 * __u64, or -EAGAIN if there was none. A file that is no channel, or no longer,
 * and no service's polls EPOLLERR, and read() of it gives -ENXIO, or -EINVAL with
 * less room than for a notice.
 */
struct rpal_channel {
	__u32 size;
	__u32 flags;
	__s32 service;
	__u32 number;
};

/**
 * struct rpal_notify - make a channel readable
 * @size:	sizeof(struct rpal_notify)
 * @flags:	must be 0
 * @id:		a linked service, or the caller's own
 * @number:	its channel
 *
 * Errors: -ENXIO, -ESRCH (not linked, or no such channel).
 */
struct rpal_notify {
	__u32 size;
	__u32 flags;
	__u32 id;
	__u32 number;
};

/* A service that does not read its notices keeps so many, the last ones. */
#define RPAL_MAX_NOTICES	1024

#define RPAL_GONE_ENDED		1	/* the process or its service has ended */
#define RPAL_GONE_RELEASED	2	/* it has released the link */

/**
 * struct rpal_notice - a link that the other side has ended
 * @key:	key of the service at the other end
 * @id:		its id; may be another's soon
 * @reason:	RPAL_GONE_*
 *
 * read() of the file that owns the service, which polls readable when there is
 * one, gives as many as there is room for; each is read once, none after the end of
 * the service. If RPAL_MAX_NOTICES wait to be read, the oldest gives way to a new one.
 * Errors: -EINVAL (less room than for one), -EAGAIN (none, and
 * O_NONBLOCK), -EINTR, -EFAULT, -ENXIO (no service), -EPERM (another process's).
 */
struct rpal_notice {
	__u64 key;
	__u32 id;
	__u32 reason;
};

#define RPAL_IOC_MAGIC		0xBF

#define RPAL_IOC_QUERY		_IOWR(RPAL_IOC_MAGIC, 0x00, struct rpal_query)
#define RPAL_IOC_PLACE		_IOW(RPAL_IOC_MAGIC, 0x01, struct rpal_place)
#define RPAL_IOC_SELF		_IOWR(RPAL_IOC_MAGIC, 0x02, struct rpal_self)
#define RPAL_IOC_ADOPT		_IO(RPAL_IOC_MAGIC, 0x03)
#define RPAL_IOC_REGISTER	_IOWR(RPAL_IOC_MAGIC, 0x10, struct rpal_register)
#define RPAL_IOC_UNREGISTER	_IO(RPAL_IOC_MAGIC, 0x11)
#define RPAL_IOC_REQUEST	_IOWR(RPAL_IOC_MAGIC, 0x12, struct rpal_request)
#define RPAL_IOC_RELEASE	_IOWR(RPAL_IOC_MAGIC, 0x13, struct rpal_request)
#define RPAL_IOC_PEER		_IOWR(RPAL_IOC_MAGIC, 0x14, struct rpal_peer)
#define RPAL_IOC_THREAD		_IOWR(RPAL_IOC_MAGIC, 0x20, struct rpal_thread)
#define RPAL_IOC_THREAD_EXIT	_IO(RPAL_IOC_MAGIC, 0x21)
#define RPAL_IOC_WAIT		_IOW(RPAL_IOC_MAGIC, 0x22, struct rpal_wait)
#define RPAL_IOC_AWAIT_REPLY	_IOWR(RPAL_IOC_MAGIC, 0x23, struct rpal_reply)
#define RPAL_IOC_WAKE		_IOW(RPAL_IOC_MAGIC, 0x24, struct rpal_wake)
#define RPAL_IOC_AWAIT		_IOW(RPAL_IOC_MAGIC, 0x25, struct rpal_await)
#define RPAL_IOC_DEADLINE	_IOW(RPAL_IOC_MAGIC, 0x26, struct rpal_deadline)
#define RPAL_IOC_PEER_FD	_IOWR(RPAL_IOC_MAGIC, 0x30, struct rpal_peer_fd)
#define RPAL_IOC_WATCH		_IOW(RPAL_IOC_MAGIC, 0x31, struct rpal_watch)
#define RPAL_IOC_CHANNEL	_IOWR(RPAL_IOC_MAGIC, 0x32, struct rpal_channel)
#define RPAL_IOC_NOTIFY		_IOW(RPAL_IOC_MAGIC, 0x33, struct rpal_notify)
#define RPAL_IOC_PEER_OF	_IOWR(RPAL_IOC_MAGIC, 0x34, struct rpal_peer_of)

#endif /* _UAPI_LINUX_RPAL_H */
