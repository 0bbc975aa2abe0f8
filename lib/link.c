// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Links with other services.
 *
 * A call looks its peer up here without a lock and without asking the kernel.
 * Ids are used again, so an entry is known by its key; that of a service which
 * has ended is thrown out before any new service can take its place, since a
 * new one can only become a peer through rpal_request_service().
 */
#include <signal.h>
#include <string.h>

#include "internal.h"

struct rpal_link_entry rpal_links[MAX_ID + 1];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/*
 * A signal handler may call a peer, and so may have to look here: there are no
 * signals while this thread changes anything.
 */
static void lock(sigset_t *old)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, old);
	pthread_mutex_lock(&mutex);
}

static void unlock(const sigset_t *old)
{
	pthread_mutex_unlock(&mutex);
	pthread_sigmask(SIG_SETMASK, old, NULL);
}

/* Lock held. Readers spin meanwhile, so there is no system call in between. */
static void set(int id, unsigned int state, const struct rpal_link *link)
{
	struct rpal_link_entry *e = &rpal_links[id];

	__atomic_store_n(&e->seq, e->seq + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	e->state = state;
	if (link)
		e->link = *link;
	__atomic_store_n(&e->seq, e->seq + 1, __ATOMIC_RELEASE);
}

void rpal_link_reset(void)
{
	static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;

	mutex = fresh;
	memset(rpal_links, 0, sizeof(rpal_links));
}

/* Without a grant the receiver can read the caller's block all the same, to return. */
static void set_rights(struct rpal_link *link)
{
	uint32_t own = rpal_state.pkey, peer = link->pkey;
	uint32_t read = rpal_pkru_for(own, peer, 0);
	uint32_t none = rpal_pkru_for(own, peer, RPAL_CALL_GRANT_NONE);
	uint32_t write = rpal_pkru_for(own, peer, RPAL_CALL_GRANT_WRITE);

	link->rights[GRANT_READ] = TRAMP_RIGHTS(read, read);
	link->rights[GRANT_NONE] = TRAMP_RIGHTS(none, read);
	link->rights[GRANT_WRITE] = TRAMP_RIGHTS(write, write);
}

/* Ask the kernel how it stands with a service. 0 or a negative errno. */
static int look(uint64_t key, int *id, unsigned int *state, struct rpal_link *link)
{
	struct rpal_peer peer = { .size = sizeof(peer), .key = key };
	int ret = rpal_ioctl(RPAL_IOC_PEER, &peer);

	if (ret)
		return ret;
	if (!peer.id || peer.id > MAX_ID || peer.nr_receivers > RPAL_MAX_RECEIVERS)
		return -EPROTO;
	*id = peer.id;
	link->key = key;
	link->area = peer.area;
	link->nr = peer.nr_receivers;
	link->pkey = peer.pkey;
	set_rights(link);
	*state = peer.state & RPAL_LINK_LINKED && peer.area ? LINK_LINKED :
		 peer.state & RPAL_LINK_ASKED		    ? LINK_ASKED :
							      LINK_NONE;
	return 0;
}

/* Bring one entry up to date; lock held. Returns its state. */
static unsigned int update(int id, uint64_t key)
{
	struct rpal_link link;
	unsigned int state;
	int now_id;

	if (look(key, &now_id, &state, &link) || now_id != id || state == LINK_NONE)
		set(id, LINK_GONE, NULL);
	else
		set(id, state, &link);
	return rpal_links[id].state;
}

int rpal_link_get_slowly(int id, struct rpal_link *link)
{
	unsigned int state;
	sigset_t old;

	memset(link, 0, sizeof(*link));
	if (unlikely(!rpal_up()))
		return rpal_no_service(-ENXIO);
	if (unlikely(id < 1 || id > MAX_ID))
		return rpal_failf(-ESRCH, "%d is no service id; ids are 1 to %d", id, MAX_ID);
	state = rpal_link_read(id, link);
	if (unlikely(state == LINK_ASKED)) {
		lock(&old);
		if (rpal_links[id].state == LINK_ASKED)
			update(id, rpal_links[id].link.key);
		unlock(&old);
		state = rpal_link_read(id, link);
	}
	if (likely(state == LINK_LINKED))
		return 0;
	switch (state) {
	case LINK_ASKED:
		return rpal_failf(-ENOTCONN, "service %d has not asked for this process yet", id);
	case LINK_GONE:
		return rpal_failf(-EPIPE, "service %d has ended or has released the link", id);
	}
	return rpal_failf(-ESRCH,
			  "service %d was not asked for; rpal_request_service() or "
			  "rpal_exchange() comes first",
			  id);
}

int rpal_link_check(int id, uint64_t key)
{
	int ret = -EPIPE;
	sigset_t old;

	lock(&old);
	if (rpal_links[id].link.key == key && update(id, key) == LINK_LINKED)
		ret = 0;
	unlock(&old);
	return ret;
}

int rpal_link_state(uint64_t key)
{
	struct rpal_link link;
	unsigned int state;
	int id, ret;

	ret = key ? look(key, &id, &state, &link) : -ENOENT;
	if (ret)
		return ret;
	return state == LINK_LINKED ? id : -ENOTCONN;
}

/* --- the public side */

int rpal_link_refused(int err)
{
	switch (err) {
	case -ENXIO:
		return rpal_no_service(err);
	case -ENOENT:
		return rpal_fail(err, "no service has this key; its process has ended, or the key "
				      "was not passed on rightly");
	case -EINVAL:
		return rpal_fail(err, "this is the process's own key");
	case -EALREADY:
		return rpal_fail(err, "this service was asked for before");
	case -EACCES:
	case -EPERM:
		return rpal_fail(err, "this process may not read the other's memory: both must "
				      "belong to the same user and group, neither may have made "
				      "itself undumpable or have more capabilities, and a security "
				      "module such as AppArmor must let them");
	case -ENOTUNIQ:
		return rpal_fail(err, "both services have the same protection key: start them with "
				      "'rpal run --group NAME' and one name");
	case -EDQUOT:
		return rpal_fail(err, "the services of this user have asked for as many links as "
				      "one user may have: release some, or raise the module "
				      "parameter user_links");
	}
	return rpal_failf(err, "the module refuses the link: %s", strerror(-err));
}

EXPORT int rpal_request_service(uint64_t key)
{
	struct rpal_request req = { .size = sizeof(req), .key = key };
	struct rpal_link link = { .key = key };
	sigset_t old;
	int id, ret;

	if (!rpal_up())
		return rpal_no_service(-ENXIO);
	if (!key)
		return rpal_link_refused(-ENOENT);
	lock(&old);
	/* Who has ended goes out before its id can be linked again. */
	for (id = 1; id <= MAX_ID; id++)
		if (rpal_links[id].state == LINK_LINKED || rpal_links[id].state == LINK_ASKED)
			update(id, rpal_links[id].link.key);
	ret = rpal_ioctl(RPAL_IOC_REQUEST, &req);
	if (!ret && req.id && req.id <= MAX_ID) {
		set(req.id, LINK_ASKED, &link);
		update(req.id, key);
	}
	unlock(&old);
	return ret ? rpal_link_refused(ret) : 0;
}

EXPORT status_t rpal_release_service(uint64_t key)
{
	struct rpal_request req = { .size = sizeof(req), .key = key };
	sigset_t old;
	int id, ret;

	if (!rpal_up())
		return rpal_no_service(RPAL_FAILURE);
	lock(&old);
	for (id = 1; id <= MAX_ID; id++)
		if (rpal_links[id].state != LINK_NONE && rpal_links[id].link.key == key)
			set(id, LINK_NONE, NULL);
	ret = key ? rpal_ioctl(RPAL_IOC_RELEASE, &req) : -ENOENT;
	unlock(&old);
	if (ret)
		return rpal_fail(RPAL_FAILURE, "no service of this key was asked for");
	return RPAL_SUCCESS;
}

EXPORT int rpal_get_request_service_id(uint64_t key)
{
	int id;

	if (!rpal_up())
		return rpal_no_service(-1);
	id = rpal_link_state(key);
	if (id == -ENOTCONN)
		return rpal_fail(-1, "the service is not linked: both sides must ask for it");
	if (id < 0)
		return rpal_fail(-1, "no service has this key, or nobody has asked for it");
	return id;
}
