/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * librpal: call procedures of another process as if they were functions.
 *
 * A process that uses this library lives in an address range of its own (it
 * was *placed*, see rpal_init()) and is then called a *service*. Two services
 * that have both asked for each other are *linked*: a pointer of one is valid
 * in the other, as far as protection keys allow. A thread that calls is a
 * *sender*, one that is called a *receiver*.
 *
 * Conventions: where a function returns a number, negative means failure. The
 * functions of the direct-call interface return a negative errno; those that
 * follow the RPAL patches for Linux (marked "upstream" below) return what they
 * return there. After every failure rpal_last_error() has a sentence that says
 * what is wrong and what to do about it.
 *
 * All functions may be called from any thread. A signal handler may call only
 * rpal_last_error() and rpal_strerror(), and, in a thread that is a sender or receiver
 * already, rpal_call(), rpal_copy_buffer() and rpal_read_access_safety(). To stop a
 * server from a handler, write to an eventfd that rpal_serve() or rpal_epoll_wait()
 * watches, or wait for the signal in a thread of its own. Once a registered thread is
 * ending, from when destructors of thread-specific data run, the functions fail; those
 * that return an errno fail with -ENXIO.
 */
#ifndef _RPAL_H
#define _RPAL_H

#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <time.h>

/* Like setjmp(): the compiler must know. */
#ifdef __GNUC__
#define RPAL_RETURNS_TWICE __attribute__((returns_twice))
#else
#define RPAL_RETURNS_TWICE
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define RPAL_VERSION_MAJOR 0
#define RPAL_VERSION_MINOR 1
#define RPAL_VERSION_PATCH 0

/* Results of functions that only succeed or fail (upstream). */
typedef enum rpal_status { RPAL_FAILURE = -1, RPAL_SUCCESS = 0 } status_t;

/* Error numbers (upstream): those of the kernel, then those of the library. */
typedef enum rpal_error_code {
	RPAL_ERR_NONE = 0,
	RPAL_ERR_BAD_ARG = 1,
	RPAL_ERR_NO_SERVICE = 2,
	RPAL_ERR_MAPPED = 3,
	RPAL_ERR_RETRY = 4,
	RPAL_ERR_BAD_SERVICE_STATUS = 5,
	RPAL_ERR_BAD_THREAD_STATUS = 6,
	RPAL_ERR_REACH_LIMIT = 7,
	RPAL_ERR_NOMEM = 8,
	RPAL_ERR_NOMAPPING = 9,
	RPAL_ERR_INVAL = 10,

	RPAL_KERNEL_MAX_CODE = 100,

	RPAL_ERR_RPALFILE_OPS = 101,	/* /dev/rpal cannot be used */
	RPAL_ERR_RPAL_DISABLED = 102,	/* the process was not placed */
	RPAL_ERR_GET_CAP_VERSION = 103, /* module and library do not fit */
	RPAL_KERNEL_API_NOTSUPPORT = 104,
	RPAL_HARDWARE_NOTSUPPORT = 105, /* protection keys, FSGSBASE */
	RPAL_ERR_SERVICE_KEY = 106,
	RPAL_ERR_SENDERS_METADATA = 107,
	RPAL_ERR_ENABLE_SERVICE = 108,
	RPAL_ERR_SENDER_PAGES = 109,
	RPAL_DONT_INITED = 110, /* rpal_init() comes first */
	RPAL_ERR_SENDER_INIT = 111,
	RPAL_ERR_SENDER_REG = 112,
	RPAL_INVALID_ARG = 113,
	RPAL_CACHE_FULL = 114,
	RPAL_FDE_OUTDATED = 115,
	RPAL_QUEUE_PUT_FAILED = 116,
	RPAL_ERR_PEER_MEM = 117,
	RPAL_ERR_NOTIFY_RECVER = 118,
	RPAL_INVAL_THREAD = 119,
	RPAL_INVAL_SERVICE = 120
} rpal_error_code_t;

/* ------------------------------------------------------------------ errors */

/**
 * rpal_last_error - what went wrong last in this thread
 *
 * Return: a sentence about the last function of this library that failed in
 * the calling thread; "" if none has. Valid until the next failure.
 */
const char *rpal_last_error(void);

/**
 * rpal_strerror - describe an error number
 * @code: rpal_error_code_t, or an errno made negative
 *
 * Return: a constant sentence, never NULL.
 */
const char *rpal_strerror(int code);

/* -------------------------------------------------------------- life cycle */

/* Flags of rpal_init(). */
#define RPAL_SENDER_RECEIVER 1	       /* upstream; always on here */
#define RPAL_INIT_NO_PKEYS   (1 << 16) /* go on without protection keys */

/**
 * rpal_init - make this process a service (upstream)
 * @nr_rpalthread:	receiver threads it may have at once, 1 .. 256
 * @flags:		RPAL_SENDER_RECEIVER, RPAL_INIT_NO_PKEYS, or 0
 * @error:		where to store an error number; may be NULL
 *
 * The process must have been placed when it was started, in one of three
 * ways: "rpal run -- PROGRAM", "rpal mark PROGRAM" once, or linking the
 * program with $(pkg-config --libs rpal-placed). A program that was not fails
 * here with RPAL_ERR_RPAL_DISABLED; it is never started again unasked.
 *
 * A child of fork() is no service: it has no links, and functions fail with -ENXIO.
 * Once its parent has ended, for which this function waits up to two seconds, it takes
 * the parent's place here, with a new key and without links; procedures stay exported.
 * So after daemon(3) call it, or call it again, before other threads are started.
 *
 * Return: the management file descriptor, which belongs to the library and is
 * closed by rpal_exit(); -1 on failure. Errors: RPAL_INVALID_ARG,
 * RPAL_ERR_RPALFILE_OPS, RPAL_ERR_GET_CAP_VERSION, RPAL_ERR_RPAL_DISABLED,
 * RPAL_HARDWARE_NOTSUPPORT, RPAL_ERR_ENABLE_SERVICE (also: is a service
 * already), RPAL_ERR_REACH_LIMIT (the user has as many services as one may have),
 * RPAL_ERR_SENDER_PAGES, RPAL_ERR_NOMEM.
 */
int rpal_init(int nr_rpalthread, int flags, rpal_error_code_t *error);

/**
 * rpal_exit - stop being a service (upstream)
 *
 * Ends all links and all threads' registrations; to be called when no thread
 * is in a call or serves. May be called twice, and rpal_init() may follow. A
 * process that ends need not call it. Does nothing in a child of fork() or vfork().
 */
void rpal_exit(void);

/**
 * rpal_is_enabled - can this process use RPAL? (upstream)
 *
 * A forked child of a placed process cannot unless rpal_init() has made it a service.
 *
 * Return: 1 if the module is there and the process was placed, else 0 (then
 * rpal_last_error() says why not).
 */
int rpal_is_enabled(void);

/**
 * rpal_is_enabled_fast - the same, asked once and remembered (upstream)
 *
 * Return: 1 or 0.
 */
int rpal_is_enabled_fast(void);

/* ----------------------------------------------------------------- threads */

/**
 * rpal_thread_init - the calling thread becomes a receiver (upstream)
 *
 * It can then serve, and call others too. Ends by itself with the thread.
 * While a thread is registered it has no restartable sequences (rseq): the
 * kernel would update them in the wrong process.
 *
 * Return: 0, or a negative errno: -ENXIO (no rpal_init(), or the thread is ending
 * and was registered before), -ENOSPC (all receivers of rpal_init() are taken),
 * -EDQUOT (the user has as many registered threads as one may have), -EOPNOTSUPP (user
 * shadow stack, AMX or syscall user dispatch in use), -EBUSY (rseq of another library
 * than the C library), -ENOMEM.
 */
int rpal_thread_init(void);

/** rpal_thread_exit - the calling thread stops being a receiver (upstream) */
void rpal_thread_exit(void);

/* The same functions under their later upstream names. */
int rpal_receiver_init(void);
void rpal_receiver_exit(void);

/**
 * rpal_sender_init - the calling thread becomes a sender (upstream)
 * @error: where to store an error number; may be NULL
 *
 * rpal_call() does this by itself. Ends by itself with the thread.
 *
 * Return: RPAL_SUCCESS or RPAL_FAILURE. Errors: RPAL_DONT_INITED,
 * RPAL_ERR_SENDER_INIT, RPAL_ERR_SENDER_REG, RPAL_ERR_REACH_LIMIT,
 * RPAL_ERR_NOMEM.
 */
status_t rpal_sender_init(rpal_error_code_t *error);

/**
 * rpal_sender_exit - the calling thread stops being a sender (upstream)
 *
 * Return: RPAL_SUCCESS; RPAL_FAILURE if it was none or is in a call.
 */
status_t rpal_sender_exit(void);

/* ---------------------------------------------------------------- services */

/**
 * rpal_get_service_id - own id (upstream)
 *
 * Return: 1 .. 254, or -1 before rpal_init().
 */
int rpal_get_service_id(void);

/**
 * rpal_get_service_key - own key (upstream)
 * @key: where to store it
 *
 * A process that has the key can ask to be linked with this service. Keys of
 * different starts of one program differ.
 *
 * Return: RPAL_SUCCESS, or RPAL_FAILURE before rpal_init().
 */
status_t rpal_get_service_key(uint64_t *key);

/**
 * rpal_request_service - ask to be linked with a service (upstream)
 * @key: its key
 *
 * Memory is shared from the moment when both have asked. rpal_exchange() does
 * all of it over a socket.
 *
 * Return: 0, or a negative errno: -ENXIO (no rpal_init()), -ENOENT (no such
 * service), -EINVAL (own key), -EALREADY (was asked before), -EACCES (this
 * process may not read the other's memory), -ENOTUNIQ (both have the same
 * protection key), -EDQUOT (the services of this user have asked for as many links
 * as one user may have).
 */
int rpal_request_service(uint64_t key);

/**
 * rpal_release_service - end a link, in both directions (upstream)
 * @key: the peer's key
 *
 * Return: RPAL_SUCCESS, or RPAL_FAILURE if it was not asked for.
 */
status_t rpal_release_service(uint64_t key);

/**
 * rpal_get_request_service_id - the id of a linked service (upstream)
 * @key: its key
 *
 * Return: its id; -1 if there is no such service or it is not linked yet.
 */
int rpal_get_request_service_id(uint64_t key);

/**
 * rpal_copy_prepare - open a peer's memory for this thread (upstream)
 * @service_id: a linked service
 *
 * Until rpal_copy_finish() the calling thread can read and write that peer's
 * memory. Several peers may be open at once. Signal handlers do not see them
 * open.
 *
 * If memory of a peer turns out not to be there (any more), whatever the thread was
 * doing is abandoned at once, all is closed as by rpal_copy_finish(), and this
 * function returns a second time, as setjmp() does, with RPAL_FAILURE; of several the
 * one that was called last. So, as with setjmp():
 *  - the function that has called it must not return before rpal_copy_finish();
 *  - its local variables that were changed in between have their values only if
 *    they are volatile.
 * What cannot keep to that should touch memory under rpal_read_access_safety(), or
 * copy it with rpal_copy_buffer(): these end by themselves, in between as well. Calls
 * and messages are possible in between; a procedure that returns, and
 * rpal_read_access_safety() around it, close what was not closed.
 *
 * Return: RPAL_SUCCESS, or RPAL_FAILURE if there is no link, or the second time.
 */
status_t rpal_copy_prepare(int service_id) RPAL_RETURNS_TWICE;

/**
 * rpal_copy_finish - close again what rpal_copy_prepare() has opened (upstream)
 *
 * Return: RPAL_SUCCESS; RPAL_FAILURE if nothing was open.
 */
status_t rpal_copy_finish(void);

/* ------------------------------------------------------------ key exchange */

/**
 * rpal_listen - make a Unix socket at which services can link themselves
 * @path: a path, or "@name" for the abstract name space
 *
 * A socket that a dead program has left at @path is replaced. Who may connect
 * is decided by the file's permissions.
 *
 * Return: a listening socket (close it with close()), or a negative errno:
 * -EADDRINUSE (a program listens there), -ENAMETOOLONG, -EINVAL, or what
 * socket(), bind() and listen() give.
 */
int rpal_listen(const char *path);

/**
 * rpal_accept - wait for a service to come, and link with it
 * @listen_fd:	the value that rpal_listen() has returned. You may poll it for input
 *		first. If it is negative, because rpal_listen() has failed,
 *		rpal_accept() returns it unchanged
 * @timeout_ms:	milliseconds in all; -1: no limit
 * @sock:	NULL, or where to store the connected socket, which the caller
 *		then owns. It is ordinary and empty: use it at will, and see by
 *		it when the peer ends. With NULL it is closed.
 *
 * Return: the peer's service id, or a negative errno: -ETIMEDOUT,
 * -ECONNABORTED (the peer went away in the middle), -EPROTO (the peer speaks
 * something else), those of rpal_request_service(), -EREMOTEIO (the peer has
 * refused).
 */
int rpal_accept(int listen_fd, int timeout_ms, int *sock);

/**
 * rpal_connect - connect to a service that listens, and link with it
 * @path:	as in rpal_listen()
 * @timeout_ms:	milliseconds in all; -1: no limit. The peer need not listen
 *		yet, and one that ends in the middle may be started anew: it is
 *		tried again until then.
 * @sock:	as in rpal_accept()
 *
 * Return: the peer's service id, or a negative errno as of rpal_accept(),
 * -ENOENT or -ECONNREFUSED (nobody listens), -EACCES.
 */
int rpal_connect(const char *path, int timeout_ms, int *sock);

/**
 * rpal_exchange - link with the process at the other end of a socket
 * @sock:	a connected stream or seqpacket socket on which nothing is in
 *		flight; the peer does the same on its end. Stays open, and is
 *		empty afterwards.
 * @timeout_ms:	milliseconds; -1: no limit
 *
 * Return: the peer's service id, or a negative errno as of rpal_accept().
 */
int rpal_exchange(int sock, int timeout_ms);

/**
 * rpal_offered - does the other end of a socket begin with rpal_exchange()?
 * @sock: a connected socket
 *
 * Looks at what has arrived there and takes nothing away. So a server can serve
 * programs with RPAL and without at one socket: when a new connection has input
 * for the first time, it asks.
 *
 * Return: 1: yes, call rpal_exchange(); 0: no, or nothing has arrived yet.
 */
int rpal_offered(int sock);

/**
 * rpal_peer_is_service - has the process at the other end of a socket RPAL?
 * @sock: a connected Unix socket
 *
 * A client asks this before rpal_exchange(), whose bytes a server without RPAL would
 * take for a request. The process is that of SO_PEERCRED: for a client, the one that
 * called listen(). If another process serves the connections (a forked worker, or one
 * that was given the socket), the answer does not apply to that process. A server
 * should call rpal_init() before it listens.
 *
 * Return: 1: it is a service now; 0: it is none; or a negative errno: -ENXIO
 * (this process is none), -EBADF, -ENOTSOCK, -EPROTONOSUPPORT (no Unix socket),
 * -ENOTCONN.
 */
int rpal_peer_is_service(int sock);

/* ------------------------------------------------------------ direct calls */

#define RPAL_MAX_PROCEDURES 1024

/* Flags of a call. What is not granted gives the procedure a SIGSEGV. */
#define RPAL_CALL_NOWAIT      (1U << 0) /* -EAGAIN if no receiver is free */
#define RPAL_CALL_GRANT_NONE  (1U << 1) /* caller's memory stays closed */
#define RPAL_CALL_GRANT_WRITE (1U << 2) /* it can be read and written */

/**
 * struct rpal_caller - who has called
 * @service_id:	its service
 * @thread:	a number that no other thread of that service has
 * @flags:	RPAL_CALL_* of the call
 * @depth:	1, or more for a call out of a procedure
 */
struct rpal_caller {
	int service_id;
	unsigned int thread;
	unsigned int flags;
	unsigned int depth;
};

/**
 * typedef rpal_procedure_fn - a procedure that others can call
 * @arg:	as passed to rpal_call(): points into the caller's memory
 * @len:	as passed
 * @caller:	who has called; valid until the procedure returns
 * @ctx:	as passed to rpal_export()
 *
 * Runs with the stack, thread-local storage and rights of a receiver thread of
 * the service that has exported it, on the caller's CPU.
 *
 * Return: the result that the caller gets.
 */
typedef int64_t (*rpal_procedure_fn)(void *arg, size_t len, const struct rpal_caller *caller,
				     void *ctx);

/**
 * rpal_export - let others call a procedure
 * @procedure:	its number, 0 .. RPAL_MAX_PROCEDURES - 1, by which it is called
 * @fn:		the procedure; NULL takes it back
 * @ctx:	passed to it
 *
 * To be done before callers come; a procedure can be taken back, but not be
 * exchanged, while calls to it may run.
 *
 * Return: 0, -EINVAL (number too large), -EEXIST (is exported already).
 */
int rpal_export(uint32_t procedure, rpal_procedure_fn fn, void *ctx);

/* Results of rpal_serve(). */
#define RPAL_SERVE_STOPPED 0
#define RPAL_SERVE_EVENT   1
#define RPAL_SERVE_TIMEOUT 2

/**
 * rpal_serve - run the procedures that others call
 * @fd:		-1, or a pollable file descriptor
 * @timeout_ms:	-1: for ever, else milliseconds after which to return unless a
 *		call runs; counted anew after a call that has entered the kernel
 *
 * The calling thread becomes a receiver if it is none.
 *
 * Return: RPAL_SERVE_STOPPED after rpal_serve_stop(), RPAL_SERVE_EVENT when
 * @fd has input, RPAL_SERVE_TIMEOUT; or a negative errno: -EINTR (a signal
 * handler has run; serve again), -EBUSY (called by a procedure), those of
 * rpal_thread_init(), -EBADF, -EPERM (@fd cannot be waited for), -EINVAL.
 */
int rpal_serve(int fd, int timeout_ms);

/**
 * rpal_serve_stop - end rpal_serve() in all threads
 *
 * Calls that run are finished first. A later rpal_serve() returns at once, too,
 * until rpal_exit(). Callers that come now sleep until a thread serves again or the
 * process ends, which gives them -EPIPE.
 */
void rpal_serve_stop(void);

/**
 * rpal_call - run a procedure of a peer
 * @service_id:	a linked service
 * @procedure:	number under which it was exported
 * @arg:	passed to it. If @len is not 0 it must lie in this process's
 *		shareable memory or in the peer's
 * @len:	passed to it, bytes
 * @result:	where to store what it has returned; may be NULL
 *
 * The procedure may read all of this process's memory while it runs, not only what
 * @arg points to. When this function has returned, whatever it has returned, @arg may
 * be used for something else. If all receivers of the peer are busy the thread sleeps
 * until one is free. A peer that has no receiver thread is given two seconds to start
 * one. The calling thread becomes a sender if it is none.
 *
 * Return: 0 if the procedure has run; a negative errno if not:
 *  -ESRCH		no such service was asked for
 *  -ENOTCONN		it was asked for, but has not asked for this process
 *  -ENOENT		it has exported no such procedure
 *  -EPIPE		it has ended or has released the link, or the receiver
 *			died in the procedure
 *  -ECONNREFUSED	no thread of it is registered as a receiver
 *  -EAGAIN		all receivers are busy (only with RPAL_CALL_NOWAIT)
 *  -EBUSY		called by a signal handler that has interrupted a call
 *  -ELOOP		calls are nested too deeply
 *  -EFAULT		the peer could not reach @arg
 *  -EINVAL		unknown flags
 *  -EPROTO		the peer has answered nonsense
 *  -ENXIO, -ENOSPC, -EDQUOT, -EOPNOTSUPP, -ENOMEM: this thread cannot be a sender
 */
int rpal_call(int service_id, uint32_t procedure, void *arg, size_t len, int64_t *result);

/**
 * rpal_call_flags - rpal_call() with flags
 * @flags: RPAL_CALL_*; the two grants exclude each other
 *
 * Return: as rpal_call().
 */
int rpal_call_flags(int service_id, uint32_t procedure, void *arg, size_t len, int64_t *result,
		    unsigned int flags);

/**
 * rpal_call_timeout - a call that ends at a deadline, or can be cancelled
 * @timeout_ms: milliseconds from now, -1: no limit, but it can be cancelled
 *
 * Whatever the procedure does then, be it a loop or sleep, the caller goes on. So does
 * the receiver, and its answer is dropped. After -ETIMEDOUT or -ECANCELED the procedure
 * may still be running and may still read (with RPAL_CALL_GRANT_WRITE, write) what @arg
 * points to. Do not place that on the stack. Do not free or reuse it until the peer has
 * confirmed that the procedure has returned, or until the link has ended:
 * rpal_read_gone() has told so, or rpal_release_service() has returned. After any other
 * result it may be used for something else at once.
 *
 * Needs a system call now and then, not for each call.
 *
 * Return: as rpal_call(), or -ETIMEDOUT, or -ECANCELED after rpal_call_cancel().
 */
int rpal_call_timeout(int service_id, uint32_t procedure, void *arg, size_t len, int64_t *result,
		      unsigned int flags, int timeout_ms);

/**
 * rpal_thread_number - by which number peers and rpal_call_cancel() know this thread
 *
 * As in struct rpal_caller. The calling thread becomes a sender if it is none. The
 * number is good until the thread ends, or becomes a receiver.
 *
 * Return: the number, or a negative errno as of rpal_call().
 */
int rpal_thread_number(void);

/**
 * rpal_call_cancel - end the call of another thread of this process
 * @thread: its number
 *
 * What it is in must be rpal_call_timeout(). If that is ending at this moment it may
 * return what it would have returned anyway.
 *
 * Return: 0; -ESRCH: there is no such call; -ENXIO: this process is no service.
 */
int rpal_call_cancel(int thread);

/* ---------------------------------------------------------------- messages */

/*
 * Two services that are linked, and connected by a Unix socket, can pass
 * messages of 1 to 32 words (pointers, most often) by the side of it. Each
 * socket that was given to rpal_epoll_ctl() with EPOLLRPALIN has a queue, into
 * which the peer writes with rpal_write_ptrs() and of which rpal_epoll_wait()
 * tells: an event loop that has used epoll_wait() goes on as it is.
 *
 * What is written comes out in the order in which it was written. If a receiver
 * thread of the peer waits in rpal_epoll_wait() it runs at once, on the writer's
 * CPU, until it waits again or has something to ask of the kernel; otherwise it
 * finds the message when it waits next.
 */

/* Events, besides those of epoll. Reported in epoll_events of their own. */
#define EPOLLRPALIN  0x00020000U /* there are words in the queue (upstream) */
#define EPOLLRPALOUT 0x00040000U /* the peer's queue has room (upstream) */

#define RPAL_MAX_WORDS 32 /* of a message, and in a queue */

/**
 * rpal_uds_fdmap - find the peer's end of a socket (upstream)
 * @sid_fd:	(peer's service id << 32) | own socket: AF_UNIX, stream or
 *		seqpacket, connected
 * @rpalfd:	where to store the handle that rpal_write_ptrs() wants: a
 *		generation stamp in bits 63..48, the index of the peer's receiver
 *		in bits 39..32, the peer's descriptor below
 *
 * If the peer has not accepted the connection yet, or has no queue for it, it is
 * waited for, two seconds at most.
 *
 * Return: RPAL_SUCCESS or RPAL_FAILURE.
 */
status_t rpal_uds_fdmap(uint64_t sid_fd, uint64_t *rpalfd);

/**
 * rpal_uds_fdmap_timeout - the same, with a limit and a reason
 * @sid_fd:	as above
 * @rpalfd:	as above
 * @timeout_ms:	milliseconds; 0: do not wait, -1: no limit
 *
 * Return: 0, or a negative errno: -EAGAIN (0 was given, and the peer is not
 * ready yet), -ETIMEDOUT, -ENXIO, -ESRCH, -ENOTCONN, -EPIPE (as of rpal_call()
 * for the service; -ENOTCONN also: the socket is not connected), -EBADF,
 * -ENOTSOCK, -EPROTONOSUPPORT (not such a socket), -EREMOTE (the other end
 * is not open in that service), -ENOTUNIQ (it has been duplicated there).
 * While a thread of the peer is in accept() an end that is not open there counts
 * as one that is not ready: it may be what that thread is about to get.
 */
int rpal_uds_fdmap_timeout(uint64_t sid_fd, uint64_t *rpalfd, int timeout_ms);

/**
 * rpal_get_peer_rid - which receiver of the peer has added the other end (upstream)
 * @sid_fd: as of rpal_uds_fdmap()
 *
 * Return: its index, 0 .. 255, or -1.
 */
int rpal_get_peer_rid(uint64_t sid_fd);

/**
 * rpal_epoll_ctl - epoll_ctl(), and a queue for the descriptor (upstream)
 * @epfd:	epoll instance
 * @op:		EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL
 * @fd:		descriptor
 * @event:	as of epoll_ctl(); EPOLLRPALIN and EPOLLRPALOUT may be among the
 *		events. EPOLLET and EPOLLONESHOT hold for them, too
 *
 * A descriptor may be in four epoll instances, an epoll instance may hold 65536
 * such descriptors. An epoll instance that is added to another one makes that
 * one readable by its RPAL events, too; added with EPOLLET, it has edges of its
 * own for these, besides those of the kernel's events.
 *
 * The kernel does not tell when a descriptor is closed: use EPOLL_CTL_DEL or
 * rpal_close() before, or events that the peer has caused may still be reported
 * until the number is added again. A peer that writes by an old handle then gets
 * RPAL_FDE_OUTDATED.
 *
 * Return: 0; -1 with errno as of epoll_ctl(), ENOSPC (too many), ENXIO (RPAL
 * events without rpal_init()).
 */
int rpal_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);

/**
 * rpal_epoll_wait - epoll_wait(), for messages and calls as well (upstream)
 * @epfd:	epoll instance
 * @events:	where to store events: the kernel's first, then RPAL's
 * @maxevents:	how many at most
 * @timeout:	milliseconds in all, -1: no limit
 *
 * In a receiver thread this is where messages wake it and where procedures that
 * peers call (rpal_export()) run. In any other thread, and before rpal_init(),
 * it is epoll_wait().
 *
 * Events of both kinds follow the rules of epoll(7). If the thread was woken by
 * a message it may be running on the writer's task; the writer goes on when this
 * thread waits again, or at its first system call.
 *
 * Return: number of events; -1 with errno as of epoll_wait().
 */
int rpal_epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout);

/**
 * rpal_epoll_pwait - rpal_epoll_wait() with a signal mask
 *
 * With a mask the thread is woken through the kernel.
 */
int rpal_epoll_pwait(int epfd, struct epoll_event *events, int maxevents, int timeout,
		     const sigset_t *sigmask);

/** rpal_epoll_pwait2 - the same with a time-out in nanoseconds; NULL: no limit */
int rpal_epoll_pwait2(int epfd, struct epoll_event *events, int maxevents,
		      const struct timespec *timeout, const sigset_t *sigmask);

/**
 * rpal_epoll_wait_user - RPAL events only (upstream)
 *
 * Never blocks; enters the kernel only to make an rpal_ready_fd() unreadable.
 * @timeout is ignored. May be called from any thread.
 *
 * Return: number of events, 0 if there are none; -1 with errno EBADF (no RPAL
 * events were asked for with this epoll instance), EINVAL or EFAULT (no place).
 */
int rpal_epoll_wait_user(int epfd, struct epoll_event *events, int maxevents, int timeout);

/**
 * rpal_ready_fd - a descriptor that is readable when there are RPAL events
 * @epfd: epoll instance
 *
 * For event loops of any other kind. When it is readable call
 * rpal_epoll_wait_user() until that returns 0, which makes it unreadable.
 * Belongs to the library; closed by rpal_close(@epfd) and rpal_exit().
 *
 * Return: the descriptor, or a negative errno: -ENXIO (no rpal_init()), -EMFILE,
 * -ENOSPC, -ENOMEM.
 */
int rpal_ready_fd(int epfd);

/* Results of rpal_wait(), as bits. */
#define RPAL_WAIT_MESSAGES 1 /* rpal_epoll_wait_user() has events */
#define RPAL_WAIT_INPUT	   2 /* @fd has input */

/**
 * rpal_wait - wait for RPAL events of an epoll instance, or for a file
 * @epfd:	epoll instance whose RPAL events end the wait; its other events
 *		do not
 * @fd:		-1, or a pollable descriptor, such as an io_uring's
 * @timeout_ms:	milliseconds, -1: no limit
 *
 * For a receiver thread whose event loop is not epoll: it is called here as it
 * is in rpal_epoll_wait(). See also <rpal/io_uring.h>.
 *
 * Return: RPAL_WAIT_* bits, 0 after the time-out, or a negative errno: -EINTR,
 * -EBADF, -EPERM (the thread is no receiver), -EBUSY (in a procedure).
 */
int rpal_wait(int epfd, int fd, int timeout_ms);

/** rpal_close - close() of a socket or an epoll instance with RPAL events */
int rpal_close(int fd);

/* How a message got there. */
typedef enum rpal_delivery {
	RPAL_DELIVERED = 1, /* a waiting receiver was called */
	RPAL_QUEUED = 2	    /* it is in the queue: no receiver was called */
} rpal_delivery_t;

/**
 * rpal_write_ptrs - send a message (upstream)
 * @service_id:	a linked service
 * @rpalfd:	from rpal_uds_fdmap()
 * @ptrs:	words
 * @len:	how many, 1 .. RPAL_MAX_WORDS; all of them or none are sent
 *
 * If the calling thread is not a sender, it is registered as one. The function does
 * not block when the queue is full. However, if a receiver thread waits, that thread
 * runs on the caller's CPU first, and this function returns only when the receiver
 * waits again or enters the kernel. To avoid this delay use rpal_write_ptrs_ex() with
 * RPAL_WRITE_QUEUE.
 *
 * Return: @len, or a negative rpal_error_code_t: -RPAL_INVALID_ARG,
 * -RPAL_INVAL_SERVICE (not linked, or the service has ended), -RPAL_FDE_OUTDATED
 * (the peer has closed that socket, or was started anew), -RPAL_QUEUE_PUT_FAILED
 * (the queue is full: wait for EPOLLRPALOUT), -RPAL_ERR_PEER_MEM (the peer ended
 * meanwhile, or its memory holds nonsense), -RPAL_INVAL_THREAD (this thread
 * cannot be a sender, or is a signal handler's that has interrupted a call).
 */
int rpal_write_ptrs(int service_id, uint64_t rpalfd, int64_t *ptrs, int len);

/* Flags of rpal_write_ptrs_ex(). */
#define RPAL_WRITE_QUEUE (1U << 0) /* wake the receiver, but do not call it */

/**
 * rpal_write_ptrs_ex - send a message and learn how it went
 * @flags:	RPAL_WRITE_QUEUE or 0
 * @how:	where to store it; may be NULL
 *
 * Return: as rpal_write_ptrs().
 */
int rpal_write_ptrs_ex(int service_id, uint64_t rpalfd, const int64_t *ptrs, int len,
		       unsigned int flags, rpal_delivery_t *how);

/**
 * rpal_read_ptrs - take words out of a queue (upstream)
 * @fd:		own descriptor
 * @ptrs:	where to store them
 * @len:	how many at most
 *
 * Return: number of words, 0 if the queue is empty, -1 if @fd has none.
 */
int rpal_read_ptrs(int fd, int64_t *ptrs, int len);

/* ----------------------------------------------------------------- buffers */

/**
 * struct rpal_buffer - memory that was handed to a peer
 * @addr:	its address
 * @len:	its length in bytes
 * @cookie:	of its owner
 * @released:	0: a peer's buffer to be read; 1: an own one comes back
 */
struct rpal_buffer {
	void *addr;
	size_t len;
	uint64_t cookie;
	int released;
};

/**
 * rpal_send_buffer - let the peer read a buffer
 * @service_id:	as of rpal_write_ptrs()
 * @rpalfd:	as of rpal_write_ptrs()
 * @addr:	must stay as it is until the peer is done with it: its answer says so,
 *		or it comes back as released, as the protocol has it
 * @len:	bytes
 * @cookie:	comes back with it
 *
 * A queue that carries buffers carries nothing else.
 *
 * Return: 0, or a negative rpal_error_code_t as of rpal_write_ptrs().
 */
int rpal_send_buffer(int service_id, uint64_t rpalfd, const void *addr, size_t len,
		     uint64_t cookie);

/**
 * rpal_recv_buffer - take a buffer, or a release, out of a queue
 * @fd:		own descriptor
 * @buffer:	where to store it
 *
 * Return: 1, 0 (empty), or -1 (no queue, or it carries something else).
 */
int rpal_recv_buffer(int fd, struct rpal_buffer *buffer);

/**
 * rpal_copy_buffer - copy out of a peer's buffer
 * @service_id:	whose it is
 * @to:		own memory
 * @buffer:	from rpal_recv_buffer()
 * @offset:	first byte
 * @len:	bytes; what would lie behind the end is not copied
 *
 * Return: bytes copied, or a negative errno: -EFAULT (the peer has ended or
 * unmapped it), -EINVAL, and those of rpal_call() for the service.
 */
int64_t rpal_copy_buffer(int service_id, void *to, const struct rpal_buffer *buffer, size_t offset,
			 size_t len);

/**
 * rpal_release_buffer - give a peer's buffer back
 *
 * Its owner's queue gets it with @released set.
 *
 * Return: as rpal_send_buffer().
 */
int rpal_release_buffer(int service_id, uint64_t rpalfd, const struct rpal_buffer *buffer);

/* -------------------------------------------------------- peers that have gone */

/* Why. */
#define RPAL_GONE_ENDED	   1 /* the process or its service has ended */
#define RPAL_GONE_RELEASED 2 /* it has released the link */

/**
 * struct rpal_gone - a link that the other side has ended
 * @key:	key of the service
 * @service_id:	id that it had; may be another's soon
 * @reason:	RPAL_GONE_*
 */
struct rpal_gone {
	uint64_t key;
	int service_id;
	int reason;
};

/**
 * rpal_read_gone - who has gone?
 * @gone:	where to store it
 * @max:	how many at most
 *
 * The file descriptor that rpal_init() has returned is readable when there is
 * something to tell. Nothing is told twice, and nothing is lost.
 *
 * Return: how many, 0 if there is none; -ENXIO (no rpal_init()), -EINVAL (no place).
 */
int rpal_read_gone(struct rpal_gone *gone, int max);

/**
 * rpal_clean_service_start - collect the peers that have gone (upstream)
 * @ptr: where to store what rpal_clean_service_end() wants
 *
 * In between the application closes what it has had of them. What
 * rpal_read_gone() has told is not told here.
 *
 * Return: RPAL_SUCCESS, or RPAL_FAILURE if none has.
 */
status_t rpal_clean_service_start(int64_t *ptr);

/**
 * rpal_clean_service_next - one after the other
 * @ptr:	from rpal_clean_service_start()
 * @gone:	where to store it
 *
 * Return: 1, or 0 if there are no more.
 */
int rpal_clean_service_next(int64_t *ptr, struct rpal_gone *gone);

/** rpal_clean_service_end - the application is done with them (upstream) */
void rpal_clean_service_end(int64_t *ptr);

/* --------------------------------------------------------- recovery points */

/** typedef access_fn - code that touches memory of peers (upstream) */
typedef int (*access_fn)(va_list args);

/**
 * rpal_read_access_safety - touch memory of peers without risk (upstream)
 * @do_access:	what to run
 * @ret:	where to store what it returns; may be NULL
 *
 * The further arguments are passed to @do_access. If memory of a peer is not
 * there (any more), what it was doing is abandoned at once: it should hold no
 * lock and own no memory. It may call peers, and this function again.
 *
 * Return: RPAL_SUCCESS; RPAL_FAILURE if memory was not there, or the thread
 * cannot be a sender.
 */
status_t rpal_read_access_safety(access_fn do_access, int *ret, ...);

#ifdef __cplusplus
}
#endif

#endif /* _RPAL_H */
