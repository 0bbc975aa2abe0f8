/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * RPAL: what the files of the module share.
 *
 * Lock order, outermost first. All are spinlocks but the first; none but the last
 * is taken with interrupts off.
 *
 *	rpal_hook_mutex		hook.c: installing and removing hooks
 *	  pending_lock		place.c: placements that were asked for
 *	  heir_lock		pkey.c: forked children of placed processes (raw)
 *	  rpal_tcb.lock		thread.c: one thread's mailbox and death (raw)
 *	  thread_lock		thread.c: the table of threads (raw)
 *	  rpal_lock		here: slots, links, services
 *	rpal_tcb.timer_lock	deadline.c: under none, also in interrupts (raw)
 *
 * A thread's watcher is called with the lock of a wait queue of any file, and
 * takes none. Wait queues are woken with none of the above held: what is called
 * then may be anybody's.
 *
 * rpal_lock is taken inside mmu notifiers, so below mmap_lock, rmap locks and
 * page-table locks: nothing is allocated and no other lock is taken while it
 * is held, and since its holder waits for other CPUs to flush, it is never
 * taken with interrupts off.
 */
#ifndef RPAL_H
#define RPAL_H

#include <linux/bitmap.h>
#include <linux/binfmts.h>
#include <linux/kref.h>
#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/rpal.h>

#include "compat/compat.h"

struct seq_file;

#define RPAL_NR_SLOTS	(RPAL_MAX_SLOT + 1)
/* Blocks of one service. */
#define RPAL_NR_INDEX	(RPAL_MAX_RECEIVERS + RPAL_MAX_SENDERS)

/* -------------------------------------------------------------- param.c */

extern bool rpal_enable;
extern bool rpal_allow_no_pkeys;
extern bool rpal_marker;
extern bool rpal_link_attach;
extern int rpal_account;
extern bool rpal_direct_hooks;
extern unsigned int rpal_hook_linger_ms;

/* What a user can have too much of. */
enum rpal_limit {
	RPAL_LIMIT_PLACED,	/* placed programs, each of which takes a slot */
	RPAL_LIMIT_SERVICES,
	RPAL_LIMIT_THREADS,	/* registered */
	RPAL_LIMIT_LINKS,	/* requests of its services, answered or not */
	RPAL_NR_LIMITS,
};

extern unsigned int rpal_user_limits[RPAL_NR_LIMITS];

/* Each turns one protection off, so that a test can see it missing. */
extern bool rpal_debug_no_flush;
extern bool rpal_debug_no_clear;
extern bool rpal_debug_no_pkey;
extern bool rpal_debug_no_pkey_signal;
extern bool rpal_debug_no_heir;
extern bool rpal_debug_no_rights;
extern bool rpal_debug_no_clamp;
extern bool rpal_debug_no_lazy;
extern bool rpal_debug_no_restart;
extern bool rpal_debug_no_guard;
extern bool rpal_debug_no_rseq;

/* --------------------------------------------------------------- stat.c */

enum rpal_stat {
	RPAL_STAT_PLACED,
	RPAL_STAT_REFUSED,
	RPAL_STAT_HEIRS,
	RPAL_STAT_ADOPTED,
	RPAL_STAT_LINKS,
	RPAL_STAT_UNLINKS,
	RPAL_STAT_FAULTS,
	RPAL_STAT_FAULTS_KERNEL,
	RPAL_STAT_FAULTS_DENIED,
	RPAL_STAT_FAULTS_BAD,
	RPAL_STAT_SYNCS,
	RPAL_STAT_FLUSHES,
	RPAL_STAT_PRIVATE_LOW,
	RPAL_STAT_LAZY_SYSCALL,
	RPAL_STAT_LAZY_SIGNAL,
	RPAL_STAT_LAZY_KICK,
	RPAL_STAT_LAZY_FAULT,
	RPAL_STAT_LAZY_EXIT,
	RPAL_STAT_ABORTED,
	RPAL_STAT_COMPLETED,
	RPAL_STAT_UNOPENED,
	RPAL_STAT_FINISHED,
	RPAL_STAT_LOST,
	RPAL_STAT_DEAD_RECEIVER,
	RPAL_STAT_GUARDED,
	RPAL_STAT_WAITS,
	RPAL_STAT_KICKS,
	RPAL_STAT_FORGED,
	RPAL_STAT_MOVED_NS,
	RPAL_NR_STATS,
};

extern atomic_long_t rpal_stats[RPAL_NR_STATS];

static inline void rpal_count(enum rpal_stat what)
{
	atomic_long_inc(&rpal_stats[what]);
}

static inline void rpal_count_many(enum rpal_stat what, long n)
{
	atomic_long_add(n, &rpal_stats[what]);
}

/* The same for one service. */
enum rpal_service_stat {
	RPAL_SERVICE_LAZY_CALLS,	/* calls of its threads, handed over */
	RPAL_SERVICE_LAZY_CALLED,	/* contexts handed to its threads */
	RPAL_SERVICE_RESTARTS,		/* calls of its threads, ended here */
	RPAL_SERVICE_FAULTS,		/* faults on its peers' memory, resolved */
	RPAL_NR_SERVICE_STATS,
};

void rpal_stat_init(void);
void rpal_stat_exit(void);

/* -------------------------------------------------------------- limit.c */

struct rpal_user;

struct rpal_user *rpal_user_new(void);
struct rpal_user *rpal_user_get_locked(struct rpal_user **spare);
struct rpal_user *rpal_user_hold_locked(struct rpal_user *user);
void rpal_user_put_locked(struct rpal_user *user);
int rpal_charge_locked(struct rpal_user *user, enum rpal_limit what, bool exempt);
void rpal_uncharge(struct rpal_user *user, enum rpal_limit what);
bool rpal_limit_waived(int err, bool *exempt);
bool rpal_user_row(unsigned int nr, kuid_t *uid,
		   unsigned int count[RPAL_NR_LIMITS]);

/* -------------------------------------------------------------- space.c */

struct rpal_notice_node;
struct rpal_table;

/* One process has asked for another. */
struct rpal_ask {
	const struct cred *cred;	/* the peer's, when it was checked */
	int dumpable;			/* the peer's, when it was checked */
	struct rpal_notice_node *notice; /* memory, for when the peer goes */
};

/**
 * struct rpal_space - a placed address space and the service that lives in it
 * @mn:		ties it to the mm: holds one reference
 * @node:	in the table of spaces by mm, while the mm is alive
 * @ref:	references: the notifier, the file, registered threads
 * @rcu:	for freeing
 * @released: among those whose notifier is to be given back
 * @mm:		the mm; its struct is kept as long as this one
 * @slot:	number of its slot
 * @number:	that no other space has or had
 * @pkey:	protection key of its memory, 0 without keys
 * @base:	first address of the slot
 * @end:	first address after the slot
 * @rnd_stack:	randomness for the stack, drawn where one may sleep
 * @rnd_mmap:	randomness for the mmap area
 * @laid_out:	exec has set up the layout: mappings are kept in the slot
 * @private_low: has made mappings below the first slot
 * @group:	group of different keys, empty if none
 * @comm:	name of the program, for people
 * @stats:	counters, see enum rpal_service_stat
 * @placed_by:	whose program it is; under rpal_lock
 * @dead:	the mm is gone; under rpal_lock
 * @peers:	slots of linked services; under rpal_lock
 * @copies:	by slot, what this mm's table says of a peer's: set by us alone; under
 *		rpal_lock
 * @known:	slots of services with which there has been a link: calls that
 *		were begun through it may still run; under rpal_lock
 * @tgid:	the process that was placed, set together with @laid_out
 * @key:	service key, 0 if there is no service; under rpal_lock
 * @user:	whose service it is, NULL if there is none; under rpal_lock
 * @ending:	how many are ending the service, which takes more than the lock: no
 *		other begins meanwhile; under rpal_lock
 * @file:	that owns the service, NULL if there is none; under rpal_lock
 * @asks:	by slot, whom the service has asked for; under rpal_lock
 * @nr_receivers: receiver blocks of the service
 * @ranges:	its trampolines
 * @area:	user address of the thread area, 0 if not mapped
 * @pages:	pages of the thread area that were needed so far, or NULL
 * @table:	the service's threads, NULL if there have been none
 * @threads:	indices of those in @table, dead ones too; changed under thread_lock
 * @nr_channels: of the service; under rpal_lock
 */
struct rpal_space {
	struct mmu_notifier mn;
	struct hlist_node node;
	struct kref ref;
	struct rcu_head rcu;
	struct llist_node released;
	struct mm_struct *mm;
	unsigned int slot;
	u64 number;
	unsigned int pkey;
	unsigned long base;
	unsigned long end;
	u32 rnd_stack;
	u32 rnd_mmap;
	bool laid_out;
	bool private_low;
	char group[RPAL_GROUP_LEN];
	char comm[TASK_COMM_LEN];
	atomic_long_t stats[RPAL_NR_SERVICE_STATS];

	struct rpal_user *placed_by;
	bool dead;
	DECLARE_BITMAP(peers, RPAL_NR_SLOTS);
	u64 copies[RPAL_NR_SLOTS];
	DECLARE_BITMAP(known, RPAL_NR_SLOTS);

	struct pid *tgid;
	u64 key;
	struct rpal_user *user;
	unsigned int ending;
	struct rpal_file *file;
	struct rpal_ask *asks;
	unsigned int nr_receivers;
	struct rpal_ranges ranges;
	unsigned long area;
	struct page **pages;
	struct rpal_table *table;
	DECLARE_BITMAP(threads, RPAL_NR_INDEX);
	unsigned int nr_channels;
};

static inline void rpal_count_for(struct rpal_space *space,
				  enum rpal_service_stat what)
{
	atomic_long_inc(&space->stats[what]);
}

extern spinlock_t rpal_lock;
extern struct rpal_space *rpal_slots[RPAL_NR_SLOTS];

int rpal_space_create(struct mm_struct *mm, const char *group);
int rpal_space_adopt(void);
void rpal_space_module_exit(void);
void rpal_space_get(struct rpal_space *space);
void rpal_space_put(struct rpal_space *space);
struct rpal_space *rpal_space_of(struct mm_struct *mm);

/*
 * Is there any chance that this task's mm is ours? One load decides for every
 * ordinary process.
 */
static inline bool rpal_maybe_ours(void)
{
	struct mm_struct *mm = current->mm;

	return mm && READ_ONCE(mm->notifier_subscriptions);
}

/**
 * rpal_space_current() - the space of the current task
 *
 * Context: any in which current->mm is stable. The space lives as long as the
 * mm, so the pointer stays good while the task runs in it.
 * Return: the space, or NULL.
 */
static inline struct rpal_space *rpal_space_current(void)
{
	struct rpal_space *space;

	if (!rpal_maybe_ours())
		return NULL;
	rcu_read_lock();
	space = rpal_space_of(current->mm);
	rcu_read_unlock();
	return space;
}

static inline bool rpal_in_slot(const struct rpal_space *space,
				unsigned long addr, unsigned long len)
{
	return addr >= space->base && addr < space->end &&
	       len <= space->end - addr;
}

/* ------------------------------------------------------------- layout.c */

int rpal_layout_keys(struct rpal_space *space);
int rpal_layout_fits(struct rpal_space *space);
void rpal_layout_begin(struct rpal_space *space);

/* --------------------------------------------------------------- link.c */

int rpal_link(struct rpal_space *a, struct rpal_space *b);
void rpal_unlink(struct rpal_space *a, struct rpal_space *b);
void rpal_link_sync(struct rpal_space *a, struct rpal_space *b);
bool rpal_link_none(struct rpal_space *space);
void rpal_link_invalidate(struct rpal_space *space, unsigned long start,
			  unsigned long end);

/* ------------------------------------------------------------- device.c */

struct rpal_file;

/* A placement that was asked for: belongs to a file, meant for one task. */
struct rpal_pending {
	struct hlist_node node;
	struct pid *pid;
	u32 flags;
	char group[RPAL_GROUP_LEN];
};

/**
 * struct rpal_file - an open /dev/rpal
 * @pending:	placement asked on this file; pid is NULL if none
 * @space:	service registered on this file, or NULL; under rpal_lock
 * @gone:	notices of links that have ended, not read yet; under rpal_lock
 * @nr_gone:	how many; under rpal_lock
 * @channel:	number of the channel that it is, 0 if it is none; under rpal_lock
 * @channel_of:	whose channel it is, which is alive as long; under rpal_lock
 * @notices:	as a channel: notices that were not read yet
 * @wq:		who polls it
 * @rcu:	for freeing
 */
struct rpal_file {
	struct rpal_pending pending;
	struct rpal_space *space;
	struct list_head gone;
	unsigned int nr_gone;
	unsigned int channel;
	struct rpal_space *channel_of;
	atomic64_t notices;
	wait_queue_head_t wq;
	struct rcu_head rcu;
};

struct rpal_file *rpal_device_file(struct file *filp);
bool rpal_device_may_open(void);
int rpal_device_init(void);
void rpal_device_exit(void);

/* -------------------------------------------------------------- place.c */

int rpal_place_init(void);
void rpal_place_exit(void);
int rpal_place_ask(struct rpal_file *file, const struct rpal_place *place);
void rpal_place_forget(struct rpal_file *file);

/* ------------------------------------------------------------ service.c */

struct rpal_space *rpal_service_caller(struct rpal_file *file);
int rpal_service_register(struct rpal_file *file, struct rpal_register *reg);
int rpal_service_unregister(struct rpal_file *file);
void rpal_service_file_gone(struct rpal_file *file);
void rpal_service_mm_gone(struct rpal_space *space);
int rpal_service_request(struct rpal_file *file, struct rpal_request *req);
int rpal_service_release(struct rpal_file *file, struct rpal_request *req);
int rpal_service_peer(struct rpal_file *file, struct rpal_peer *peer);
struct task_struct *rpal_service_task(struct rpal_space *space);
void rpal_service_self(struct rpal_self *self);

/* ------------------------------------------------------------- notice.c */

struct rpal_notice_node *rpal_notice_alloc(void);
void rpal_notice_add(struct rpal_file *file, struct rpal_notice_node *node,
		     u64 key, u32 id, u32 reason);
void rpal_notice_wake(unsigned int slot);
bool rpal_notice_pending(struct rpal_file *file);
ssize_t rpal_notice_read(struct rpal_file *file, char __user *to, size_t size,
			 bool nonblock);
void rpal_notice_forget(struct rpal_file *file);

/* ------------------------------------------------------------- thread.c */

int rpal_thread_register(struct rpal_file *file, struct rpal_thread *reg);
int rpal_thread_exit(struct rpal_file *file);
void rpal_thread_service_gone(struct rpal_space *space, bool alive);
void rpal_thread_space_gone(struct rpal_space *space);
void rpal_thread_table_free(struct rpal_space *space);
int rpal_thread_module_init(void);
void rpal_thread_module_exit(void);

/* ------------------------------------------------------------ context.c */

int rpal_context_module_init(void);

/* --------------------------------------------------------------- wait.c */

int rpal_wait_call(struct rpal_file *file, const struct rpal_wait *wait);
int rpal_wait_reply(struct rpal_file *file, struct rpal_reply *reply);
int rpal_wait_wake(struct rpal_file *file, const struct rpal_wake *wake);
int rpal_wait_free(struct rpal_file *file, const struct rpal_await *await);

/* ----------------------------------------------------------- deadline.c */

int rpal_deadline(struct rpal_file *file, const struct rpal_deadline *arg);

/* ------------------------------------------------------------- peerfd.c */

int rpal_peer_fd(struct rpal_file *file, struct rpal_peer_fd *arg);
int rpal_peer_of(struct rpal_file *file, struct rpal_peer_of *arg);

/* -------------------------------------------------------------- watch.c */

int rpal_watch(struct rpal_file *file, const struct rpal_watch *arg);

/* ------------------------------------------------------------ channel.c */

struct poll_table_struct;

int rpal_channel_begin(struct rpal_file *file, struct rpal_channel *arg);
void rpal_channel_end(struct rpal_file *file);
void rpal_channel_service_gone(struct rpal_space *space);
int rpal_channel_notify(struct rpal_file *file, const struct rpal_notify *arg);
__poll_t rpal_channel_poll(struct rpal_file *file, struct file *filp,
			   struct poll_table_struct *wait);
ssize_t rpal_channel_read(struct rpal_file *file, char __user *to, size_t len);
void rpal_channel_module_exit(void);

/* ------------------------------------------------------------ account.c */

bool rpal_account_wants_stamps(void);

/* --------------------------------------------------------------- area.c */

#define RPAL_AREA_PAGES							\
	DIV_ROUND_UP((RPAL_MAX_RECEIVERS + RPAL_MAX_SENDERS) * RPAL_BLOCK_SIZE, \
		     PAGE_SIZE)

/* Bytes of thread area of a service with so many receivers. */
static inline unsigned long rpal_area_size(unsigned int nr_receivers)
{
	return PAGE_ALIGN((nr_receivers + RPAL_MAX_SENDERS) *
			  (unsigned long)RPAL_BLOCK_SIZE);
}

void *rpal_area_page(struct rpal_space *space, unsigned int index);
void rpal_area_free(struct rpal_space *space);
int rpal_area_mmap(struct rpal_file *file, struct vm_area_struct *vma);

/* --------------------------------------------------------------- pkey.c */

bool rpal_pkeys_present(void);
u32 rpal_pkru_for(unsigned int pkey);
int rpal_pkey_choose(const char *group);
bool rpal_pkey_taken(const char *group, unsigned int pkey);

/**
 * struct rpal_heritage - what a forked child has of its parent
 * @tgid:	the process that was forked
 * @origin:	number of the space of whose memory it has a copy
 * @slot:	slot of that space
 * @pkey:	protection key that the memory carries, 0 without keys
 * @group:	group of that space
 */
struct rpal_heritage {
	struct pid *tgid;
	u64 origin;
	unsigned int slot;
	unsigned int pkey;
	char group[RPAL_GROUP_LEN];
};

bool rpal_is_heir(struct mm_struct *mm);
bool rpal_heritage(struct rpal_heritage *heritage);
void rpal_heirs_slots(unsigned long *slots);
int rpal_heirs(void);

/* ---------------------------------------------------------------- sym.c */

int rpal_sym_init(void);

/* --------------------------------------------------------------- hook.c */

int rpal_hook_init(void);
void rpal_hook_exit(void);
int rpal_hook_try(void);
int rpal_hook_get(void);
void rpal_hook_hold(void);
void rpal_hook_put(void);
void rpal_hook_reschedule(void);
int rpal_hook_users(void);

/* ----------------------------------------------------------- hook-try.c */

bool rpal_hook_healthy(void);
void rpal_hook_show(struct seq_file *seq);
void rpal_hook_leave_out(const char *name);

#endif /* RPAL_H */
