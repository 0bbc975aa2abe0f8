/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints, as events rpal:*.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM rpal

#if !defined(RPAL_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define RPAL_TRACE_H

#include <linux/tracepoint.h>

/* Values of enum rpal_reason. */
#define rpal_show_reason(reason)					\
	__print_symbolic(reason, { 0, "syscall" }, { 1, "signal" },	\
			 { 2, "kick" }, { 3, "fault" }, { 4, "exit" })

/* Values of enum rpal_ending. */
#define rpal_show_ending(how)						\
	__print_symbolic(how, { 0, "aborted" }, { 1, "completed" },	\
			 { 2, "unopened" }, { 3, "finished" },		\
			 { 4, "lost" }, { 5, "receiver died" },		\
			 { 6, "guarded" })

/* A task has handed a borrowed context to the thread that it belongs to. */
TRACE_EVENT(rpal_lazy_switch,
	TP_PROTO(int reason, pid_t sender, pid_t receiver, int depth,
		 unsigned long ip),
	TP_ARGS(reason, sender, receiver, depth, ip),
	TP_STRUCT__entry(
		__field(int, reason)
		__field(pid_t, sender)
		__field(pid_t, receiver)
		__field(int, depth)
		__field(unsigned long, ip)
	),
	TP_fast_assign(
		__entry->reason = reason;
		__entry->sender = sender;
		__entry->receiver = receiver;
		__entry->depth = depth;
		__entry->ip = ip;
	),
	TP_printk("reason=%s sender=%d receiver=%d depth=%d ip=%lx",
		  rpal_show_reason(__entry->reason), __entry->sender,
		  __entry->receiver, __entry->depth, __entry->ip)
);

/*
 * A call that was caught inside a trampoline was taken back or finished, or a
 * fault behind a recovery point has led there.
 */
TRACE_EVENT(rpal_restart,
	TP_PROTO(int how, pid_t thread, long status, unsigned long ip),
	TP_ARGS(how, thread, status, ip),
	TP_STRUCT__entry(
		__field(int, how)
		__field(pid_t, thread)
		__field(long, status)
		__field(unsigned long, ip)
	),
	TP_fast_assign(
		__entry->how = how;
		__entry->thread = thread;
		__entry->status = status;
		__entry->ip = ip;
	),
	TP_printk("how=%s thread=%d status=%ld ip=%lx",
		  rpal_show_ending(__entry->how), __entry->thread,
		  __entry->status, __entry->ip)
);

/* A receiver gets its context back from a task that dies. */
TRACE_EVENT(rpal_recovery,
	TP_PROTO(pid_t sender, pid_t receiver, unsigned long ip),
	TP_ARGS(sender, receiver, ip),
	TP_STRUCT__entry(
		__field(pid_t, sender)
		__field(pid_t, receiver)
		__field(unsigned long, ip)
	),
	TP_fast_assign(
		__entry->sender = sender;
		__entry->receiver = receiver;
		__entry->ip = ip;
	),
	TP_printk("sender=%d receiver=%d ip=%lx", __entry->sender,
		  __entry->receiver, __entry->ip)
);

DECLARE_EVENT_CLASS(rpal_pair,
	TP_PROTO(unsigned int a, unsigned int b),
	TP_ARGS(a, b),
	TP_STRUCT__entry(
		__field(unsigned int, a)
		__field(unsigned int, b)
	),
	TP_fast_assign(
		__entry->a = a;
		__entry->b = b;
	),
	TP_printk("services=%u,%u", __entry->a, __entry->b)
);

DEFINE_EVENT(rpal_pair, rpal_link,
	TP_PROTO(unsigned int a, unsigned int b),
	TP_ARGS(a, b)
);

DEFINE_EVENT(rpal_pair, rpal_unlink,
	TP_PROTO(unsigned int a, unsigned int b),
	TP_ARGS(a, b)
);

#endif /* RPAL_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
