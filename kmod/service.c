// SPDX-License-Identifier: GPL-2.0-only
/*
 * Services: registration, and linking by mutual consent.
 *
 * A service asks for another by its key. Asking needs the right to read the
 * other's memory by the rules of ptrace; what those rules saw is kept with the
 * request, and when the other side's request completes the link, a request
 * whose ground has changed meanwhile is void.
 */
#include <linux/cred.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/ptrace.h>
#include <linux/random.h>
#include <linux/sched/coredump.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "rpal.h"
#include "sym.h"

static struct rpal_space *find_locked(u64 key)
{
	unsigned int slot;

	for (slot = 1; key && slot < RPAL_NR_SLOTS; slot++) {
		if (rpal_slots[slot] && rpal_slots[slot]->key == key)
			return rpal_slots[slot];
	}
	return NULL;
}

/**
 * rpal_service_caller() - the service that a command speaks for
 * @file:	the file on which it came
 *
 * Context: any task context.
 * Return: the current task's space; -ENXIO if the file is not registered,
 * -EPERM if it was registered by another process.
 */
struct rpal_space *rpal_service_caller(struct rpal_file *file)
{
	struct rpal_space *space = READ_ONCE(file->space);

	if (!space)
		return ERR_PTR(-ENXIO);
	/*
	 * A child that shares the memory is another process: a thread of its that
	 * was registered would outlive its exec().
	 */
	if (space != rpal_space_current() || space->tgid != task_tgid(current))
		return ERR_PTR(-EPERM);
	return space;
}

static bool asked_locked(struct rpal_space *space, struct rpal_space *peer)
{
	return space->asks && space->asks[peer->slot].cred;
}

static void drop_ask_locked(struct rpal_space *space, struct rpal_space *peer)
{
	if (!asked_locked(space, peer))
		return;
	rpal_uncharge(space->user, RPAL_LIMIT_LINKS);
	put_cred(space->asks[peer->slot].cred);
	space->asks[peer->slot].cred = NULL;
	kfree(space->asks[peer->slot].notice);
	space->asks[peer->slot].notice = NULL;
}

/*
 * The link ends because of @space, which had @key: @peer is to hear of it. Who
 * has to be woken is added to @told.
 */
static void tell_locked(struct rpal_space *peer, struct rpal_space *space,
			u64 key, u32 reason, unsigned long *told)
{
	struct rpal_ask *ask;

	if (!test_bit(peer->slot, space->peers) || !asked_locked(peer, space))
		return;
	ask = &peer->asks[space->slot];
	rpal_notice_add(peer->file, ask->notice, key, space->slot, reason);
	ask->notice = NULL;
	__set_bit(peer->slot, told);
}

static void wake_told(unsigned long *told)
{
	unsigned int slot;

	for_each_set_bit(slot, told, RPAL_NR_SLOTS)
		rpal_notice_wake(slot);
}

static u32 state_locked(struct rpal_space *space, struct rpal_space *peer)
{
	u32 state = 0;

	if (asked_locked(space, peer))
		state |= RPAL_LINK_ASKED;
	if (asked_locked(peer, space))
		state |= RPAL_LINK_WANTED;
	if (test_bit(peer->slot, space->peers))
		state |= RPAL_LINK_LINKED;
	return state;
}

/* ------------------------------------------------------ register and end */

static bool range_valid(const struct rpal_space *space, u64 start, u64 end)
{
	return start <= end && rpal_in_slot(space, start, end - start);
}

static bool ranges_valid(const struct rpal_space *space,
			 const struct rpal_ranges *r)
{
	return range_valid(space, r->open_start, r->open_end) &&
	       range_valid(space, r->enter_start, r->enter_end) &&
	       range_valid(space, r->leave_start, r->leave_end) &&
	       range_valid(space, r->home_start, r->home_end) &&
	       rpal_in_slot(space, r->lazy_ip, 1) &&
	       rpal_in_slot(space, r->wait_ip, 1);
}

static int charge_locked(struct rpal_space *space, struct rpal_user **spare,
			 bool exempt)
{
	struct rpal_user *user = rpal_user_get_locked(spare);
	int err = rpal_charge_locked(user, RPAL_LIMIT_SERVICES, exempt);

	if (err)
		rpal_user_put_locked(user);
	else
		space->user = user;
	return err;
}

static int begin_locked(struct rpal_file *file, struct rpal_space *space,
			struct rpal_ask *asks, const struct rpal_register *reg,
			struct rpal_user **spare, bool exempt)
{
	int err;

	if (file->space || file->channel || space->key || space->ending)
		return -EBUSY;
	if (!reg->key || find_locked(reg->key))
		return -EAGAIN;
	err = charge_locked(space, spare, exempt);
	if (err)
		return err;
	rpal_space_get(space);
	file->space = space;
	space->file = file;
	space->asks = asks;
	space->nr_receivers = reg->nr_receivers;
	space->ranges = reg->ranges;
	space->key = reg->key;
	return 0;
}

/**
 * rpal_service_register() - RPAL_IOC_REGISTER
 * @file:	the file that is going to own the service
 * @reg:	arguments, already copied, and results
 *
 * Context: may sleep.
 * Return: 0, -ENXIO, -EPERM, -EINVAL, -EBUSY, -EDQUOT, -ESHUTDOWN or -ENOMEM.
 */
int rpal_service_register(struct rpal_file *file, struct rpal_register *reg)
{
	struct rpal_space *space = rpal_space_current();
	struct rpal_user *spare;
	struct rpal_ask *asks;
	bool exempt = false;
	int err;

	if (reg->flags || !reg->nr_receivers ||
	    reg->nr_receivers > RPAL_MAX_RECEIVERS)
		return -EINVAL;
	if (!space)
		return -ENXIO;
	if (space->tgid != task_tgid(current))
		return -EPERM;
	if (!ranges_valid(space, &reg->ranges))
		return -EINVAL;
	if (!READ_ONCE(rpal_enable))
		return -ESHUTDOWN;
	asks = kcalloc(RPAL_NR_SLOTS, sizeof(*asks), GFP_KERNEL_ACCOUNT);
	spare = rpal_user_new();
	if (!asks || !spare) {
		kfree(asks);
		kfree(spare);
		return -ENOMEM;
	}
	do {
		reg->key = get_random_u64();
		spin_lock(&rpal_lock);
		err = begin_locked(file, space, asks, reg, &spare, exempt);
		spin_unlock(&rpal_lock);
	} while (err == -EAGAIN || rpal_limit_waived(err, &exempt));
	kfree(spare);
	if (err) {
		kfree(asks);
		return err;
	}
	reg->id = space->slot;
	reg->area_size = rpal_area_size(reg->nr_receivers);
	return 0;
}

/* Ends a service; the result is to be freed without the lock. */
static struct rpal_ask *end_locked(struct rpal_space *space,
				   unsigned long *told)
{
	struct rpal_ask *asks = space->asks;
	u64 key = space->key;
	unsigned int slot;

	if (!key)
		return NULL;
	space->key = 0;
	for (slot = 1; slot < RPAL_NR_SLOTS; slot++) {
		struct rpal_space *peer = rpal_slots[slot];

		if (!peer)
			continue;
		tell_locked(peer, space, key, RPAL_GONE_ENDED, told);
		drop_ask_locked(space, peer);
		drop_ask_locked(peer, space);
		if (peer != space)
			rpal_unlink(space, peer);
	}
	space->asks = NULL;
	rpal_uncharge(space->user, RPAL_LIMIT_SERVICES);
	rpal_user_put_locked(space->user);
	space->user = NULL;
	return asks;
}

/* No call of or to the service is left: its slot may become another's. */
static void forget_locked(struct rpal_space *space)
{
	unsigned int slot;

	for_each_set_bit(slot, space->known, RPAL_NR_SLOTS) {
		if (rpal_slots[slot])
			clear_bit(space->slot, rpal_slots[slot]->known);
	}
	bitmap_zero(space->known, RPAL_NR_SLOTS);
}

/* The file is nobody's; its reference on the space is the caller's now. */
static struct rpal_file *detach_locked(struct rpal_space *space)
{
	struct rpal_file *file = space->file;

	space->file = NULL;
	if (file) {
		WRITE_ONCE(file->space, NULL);
		rpal_notice_forget(file);
	}
	return file;
}

/*
 * First the links, so that no call can begin; then the threads, which may
 * still be in calls; then what these calls need to be understood.
 */
static void end(struct rpal_space *space, bool alive)
{
	DECLARE_BITMAP(told, RPAL_NR_SLOTS) = {};
	struct rpal_file *file;
	struct rpal_ask *asks;

	/* Without the lock the file may be closed; it is freed later. */
	rcu_read_lock();
	spin_lock(&rpal_lock);
	file = detach_locked(space);
	asks = end_locked(space, told);
	/* What follows would hit the next service as well. */
	space->ending++;
	spin_unlock(&rpal_lock);
	/* Who waits for notices of it. */
	if (file)
		wake_up_poll(&file->wq, EPOLLERR);
	rcu_read_unlock();
	wake_told(told);
	rpal_channel_service_gone(space);
	rpal_thread_service_gone(space, alive);
	spin_lock(&rpal_lock);
	forget_locked(space);
	space->ending--;
	spin_unlock(&rpal_lock);
	kfree(asks);
	if (file)
		rpal_space_put(space);
}

/**
 * rpal_service_mm_gone() - the service's mm is being torn down
 * @space:	its space
 *
 * Context: mmu notifier release: may sleep.
 */
void rpal_service_mm_gone(struct rpal_space *space)
{
	end(space, false);
}

/**
 * rpal_service_file_gone() - the file that owns a service was closed
 * @file:	the file
 *
 * Context: may sleep.
 */
void rpal_service_file_gone(struct rpal_file *file)
{
	struct rpal_space *space;

	spin_lock(&rpal_lock);
	space = file->space;
	if (space)
		rpal_space_get(space);
	spin_unlock(&rpal_lock);
	if (!space)
		return;
	end(space, true);
	rpal_space_put(space);
}

/**
 * rpal_service_unregister() - RPAL_IOC_UNREGISTER
 * @file:	the file that owns the service
 *
 * Context: may sleep.
 * Return: 0, -ENXIO or -EPERM.
 */
int rpal_service_unregister(struct rpal_file *file)
{
	struct rpal_space *space = rpal_service_caller(file);

	if (IS_ERR(space))
		return PTR_ERR(space);
	rpal_service_file_gone(file);
	return 0;
}

/* ---------------------------------------------------------------- consent */

/**
 * rpal_service_task() - a task of a service's process
 * @space:	its space
 *
 * Context: any.
 * Return: any task that has its mm, with a reference; NULL if there is none.
 */
struct task_struct *rpal_service_task(struct rpal_space *space)
{
	struct task_struct *leader, *task, *found = NULL;

	rcu_read_lock();
	leader = pid_task(space->tgid, PIDTYPE_TGID);
	if (leader) {
		for_each_thread(leader, task) {
			if (READ_ONCE(task->mm) != space->mm)
				continue;
			found = get_task_struct(task);
			break;
		}
	}
	rcu_read_unlock();
	return found;
}

/* May the current task share memory with the peer? Notes what was judged. */
static int check_rights(struct rpal_space *peer, struct rpal_ask *ask)
{
	struct task_struct *task = rpal_service_task(peer);
	unsigned int mode = READ_ONCE(rpal_link_attach) ?
			    PTRACE_MODE_ATTACH_REALCREDS :
			    PTRACE_MODE_READ_REALCREDS;
	int err = 0;

	if (!task)
		return -ENOENT;
	ask->cred = get_task_cred(task);
	ask->dumpable = get_dumpable(peer->mm);
	if (!rpal_debug_no_rights && !rpal_k_ptrace_may_access(task, mode)) {
		put_cred(ask->cred);
		err = -EACCES;
	}
	put_task_struct(task);
	return err;
}

static bool same_identity(const struct cred *a, const struct cred *b)
{
	return uid_eq(a->uid, b->uid) && uid_eq(a->euid, b->euid) &&
	       uid_eq(a->suid, b->suid) && gid_eq(a->gid, b->gid) &&
	       gid_eq(a->egid, b->egid) && gid_eq(a->sgid, b->sgid) &&
	       a->user_ns == b->user_ns &&
	       cap_issubset(b->cap_permitted, a->cap_permitted);
}

/* Is what @peer once was allowed to see still what the current task is? */
static bool still_valid(struct rpal_space *space, struct rpal_ask *ask)
{
	return same_identity(ask->cred, current_real_cred()) &&
	       ask->dumpable == get_dumpable(space->mm);
}

static int ask_locked(struct rpal_space *space, struct rpal_space *peer,
		      struct rpal_request *req, struct rpal_ask *ask,
		      bool exempt)
{
	int err = 0;

	/* Either may have ended while rights were checked. */
	if (!space->asks)
		return -ENXIO;
	if (peer->key != req->key)
		return -ENOENT;
	if (asked_locked(space, peer))
		return -EALREADY;
	if (space->pkey && space->pkey == peer->pkey)
		return -ENOTUNIQ;
	err = rpal_charge_locked(space->user, RPAL_LIMIT_LINKS, exempt);
	if (err)
		return err;
	space->asks[peer->slot] = *ask;
	if (asked_locked(peer, space)) {
		if (still_valid(space, &peer->asks[space->slot]))
			err = rpal_link(space, peer);
		else
			drop_ask_locked(peer, space);
	}
	if (err) {
		/* The caller keeps what the request would have had. */
		space->asks[peer->slot] = (struct rpal_ask) {};
		rpal_uncharge(space->user, RPAL_LIMIT_LINKS);
		return err;
	}
	req->id = peer->slot;
	req->state = state_locked(space, peer);
	return 0;
}

static struct rpal_space *find_get(u64 key)
{
	struct rpal_space *space;

	spin_lock(&rpal_lock);
	space = find_locked(key);
	if (space)
		rpal_space_get(space);
	spin_unlock(&rpal_lock);
	return space;
}

/**
 * rpal_service_request() - RPAL_IOC_REQUEST
 * @file:	the caller's file
 * @req:	arguments, already copied, and results
 *
 * Context: may sleep.
 * Return: 0, -ENXIO, -EPERM, -EINVAL, -ENOENT, -EALREADY, -EACCES, -ENOTUNIQ,
 * -EDQUOT, -ERANGE, -ENOMEM.
 */
int rpal_service_request(struct rpal_file *file, struct rpal_request *req)
{
	struct rpal_space *space = rpal_service_caller(file);
	struct rpal_ask ask = {};
	struct rpal_space *peer;
	bool exempt = false;
	int err;

	if (IS_ERR(space))
		return PTR_ERR(space);
	if (req->flags)
		return -EINVAL;
	ask.notice = rpal_notice_alloc();
	if (!ask.notice)
		return -ENOMEM;
	peer = find_get(req->key);
	if (!peer) {
		kfree(ask.notice);
		return -ENOENT;
	}
	err = peer == space ? -EINVAL : check_rights(peer, &ask);
	if (err)
		goto out;
	do {
		spin_lock(&rpal_lock);
		err = ask_locked(space, peer, req, &ask, exempt);
		spin_unlock(&rpal_lock);
	} while (rpal_limit_waived(err, &exempt));
	if (err)
		put_cred(ask.cred);
out:
	if (err)
		kfree(ask.notice);
	rpal_space_put(peer);
	return err;
}

/**
 * rpal_service_release() - RPAL_IOC_RELEASE
 * @file:	the caller's file
 * @req:	arguments, already copied, and results
 *
 * Context: process context.
 * Return: 0, -ENXIO, -EPERM, -EINVAL or -ENOENT.
 */
int rpal_service_release(struct rpal_file *file, struct rpal_request *req)
{
	struct rpal_space *space = rpal_service_caller(file);
	DECLARE_BITMAP(told, RPAL_NR_SLOTS) = {};
	struct rpal_space *peer;
	int err = -ENOENT;

	if (IS_ERR(space))
		return PTR_ERR(space);
	if (req->flags)
		return -EINVAL;
	spin_lock(&rpal_lock);
	peer = find_locked(req->key);
	if (peer && peer != space && state_locked(space, peer)) {
		tell_locked(peer, space, space->key, RPAL_GONE_RELEASED, told);
		drop_ask_locked(space, peer);
		drop_ask_locked(peer, space);
		rpal_unlink(space, peer);
		req->id = peer->slot;
		req->state = 0;
		err = 0;
	}
	spin_unlock(&rpal_lock);
	wake_told(told);
	return err;
}

static int show_locked(struct rpal_space *space, struct rpal_space *peer,
		       struct rpal_peer *out)
{
	if (!peer || peer == space || !peer->key || !state_locked(space, peer))
		return -ENOENT;
	out->state = state_locked(space, peer);
	/* An id may be guessed, a key may not. */
	if (!out->key && !(out->state & RPAL_LINK_LINKED))
		return -ENOENT;
	out->key = peer->key;
	out->id = peer->slot;
	out->pkey = peer->pkey;
	out->nr_receivers = peer->nr_receivers;
	out->base = peer->base;
	/* An address in its memory: for who has been found to have the right. */
	out->area = out->state & RPAL_LINK_ASKED ? peer->area : 0;
	return 0;
}

/**
 * rpal_service_peer() - RPAL_IOC_PEER
 * @file:	the caller's file
 * @out:	arguments, already copied, and results
 *
 * Context: process context.
 * Return: 0, -ENXIO, -EPERM, -EINVAL or -ENOENT.
 */
int rpal_service_peer(struct rpal_file *file, struct rpal_peer *out)
{
	struct rpal_space *space = rpal_service_caller(file);
	struct rpal_space *peer = NULL;
	int err;

	if (IS_ERR(space))
		return PTR_ERR(space);
	if (out->flags)
		return -EINVAL;
	spin_lock(&rpal_lock);
	if (out->key)
		peer = find_locked(out->key);
	else if (out->id < RPAL_NR_SLOTS)
		peer = rpal_slots[out->id];
	err = show_locked(space, peer, out);
	spin_unlock(&rpal_lock);
	return err;
}

/**
 * rpal_service_self() - RPAL_IOC_SELF
 * @self:	results
 *
 * Context: process context.
 */
void rpal_service_self(struct rpal_self *self)
{
	struct rpal_space *space = rpal_space_current();

	if (!space) {
		if (rpal_is_heir(current->mm))
			self->state = RPAL_SELF_HEIR;
		return;
	}
	self->state = RPAL_SELF_PLACED;
	if (READ_ONCE(space->private_low))
		self->state |= RPAL_SELF_PRIVATE_LOW;
	self->slot = space->slot;
	self->pkey = space->pkey;
	self->base = space->base;
	self->end = space->end;
	spin_lock(&rpal_lock);
	if (space->key) {
		self->state |= RPAL_SELF_REGISTERED;
		self->id = space->slot;
		self->key = space->key;
	}
	spin_unlock(&rpal_lock);
}
