// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a linked service calls the other end of one of our sockets: two that talk
 * through a socket can then send each other messages through memory, and both say
 * by their own descriptor where these belong.
 *
 * The caller learns a number. That the socket is connected with that service it
 * knows already, or finds out: before they are linked it can ask whether there is
 * any service at the other end.
 */
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/net.h>
#include <linux/sched/task.h>
#include <net/af_unix.h>
#include <net/sock.h>

#include "rpal.h"

/**
 * struct search - a socket is looked for in a table of files
 * @fd:		where it was found last
 * @found:	how often
 * @opening:	the table has a descriptor whose file is still to come
 */
struct search {
	int fd;
	unsigned int found;
	bool opening;
};

/* A linked service, with a reference. */
static struct rpal_space *linked_get(struct rpal_space *space, u32 id)
{
	struct rpal_space *peer = NULL;

	spin_lock(&rpal_lock);
	if (id < RPAL_NR_SLOTS && test_bit(id, space->peers)) {
		peer = rpal_slots[id];
		rpal_space_get(peer);
	}
	spin_unlock(&rpal_lock);
	return peer;
}

/* The other end of a descriptor of the caller's, with a reference. */
static struct sock *peer_sock_get(int fd)
{
	struct socket *sock;
	struct sock *peer;
	int err;

	sock = sockfd_lookup(fd, &err);
	if (!sock)
		return ERR_PTR(err);
	if (sock->sk->sk_family != AF_UNIX ||
	    (sock->type != SOCK_STREAM && sock->type != SOCK_SEQPACKET))
		peer = ERR_PTR(-EPROTONOSUPPORT);
	else
		peer = unix_peer_get(sock->sk) ?: ERR_PTR(-ENOTCONN);
	sockfd_put(sock);
	return peer;
}

/* Has it a file yet, or no longer? */
static int check_accepted(struct sock *sk)
{
	int err = 0;

	read_lock_bh(&sk->sk_callback_lock);
	if (sock_flag(sk, SOCK_DEAD))
		err = -EREMOTE;
	else if (!sk->sk_socket || !READ_ONCE(sk->sk_socket->file))
		err = -EAGAIN;
	read_unlock_bh(&sk->sk_callback_lock);
	return err;
}

/*
 * By the sock, on which there is a reference: a file that was found before may
 * be another one by now. Whoever is in a table keeps its socket.
 */
static struct sock *sock_of(struct file *file)
{
	struct socket *sock = sock_from_file(file);

	return sock ? READ_ONCE(sock->sk) : NULL;
}

static void search_locked(struct files_struct *files, struct sock *sk,
			  struct search *search)
{
	const struct fdtable *fdt = files_fdtable(files);
	unsigned int fd;

	for_each_set_bit(fd, fdt->open_fds, fdt->max_fds) {
		struct file *file = files_lookup_fd_locked(files, fd);

		if (!file) {
			search->opening = true;
		} else if (sock_of(file) == sk) {
			search->fd = fd;
			search->found++;
		}
	}
}

static void search_task(struct task_struct *task, struct sock *sk,
			struct search *search)
{
	task_lock(task);
	if (task->files) {
		spin_lock(&task->files->file_lock);
		search_locked(task->files, sk, search);
		spin_unlock(&task->files->file_lock);
	}
	task_unlock(task);
}

static int find_in(struct rpal_space *peer, struct sock *sk)
{
	struct task_struct *task = rpal_service_task(peer);
	struct search search = {};

	if (!task)
		return -ESRCH;
	search_task(task, sk, &search);
	put_task_struct(task);
	if (search.found > 1)
		return -ENOTUNIQ;
	if (search.found)
		return search.fd;
	/* Between accept()'s making the socket and its putting it there. */
	return search.opening ? -EAGAIN : -EREMOTE;
}

/**
 * rpal_peer_fd() - RPAL_IOC_PEER_FD
 * @file:	the caller's file
 * @arg:	arguments, already copied, and results
 *
 * Context: may sleep.
 * Return: 0, -ENXIO, -EPERM, -EINVAL, -ESRCH, -EBADF, -ENOTSOCK,
 * -EPROTONOSUPPORT, -ENOTCONN, -EAGAIN, -EREMOTE or -ENOTUNIQ.
 */
int rpal_peer_fd(struct rpal_file *file, struct rpal_peer_fd *arg)
{
	struct rpal_space *space = rpal_service_caller(file);
	struct rpal_space *peer;
	struct sock *sk;
	int ret;

	if (IS_ERR(space))
		return PTR_ERR(space);
	if (arg->flags || arg->reserved)
		return -EINVAL;
	peer = linked_get(space, arg->id);
	if (!peer)
		return -ESRCH;
	sk = peer_sock_get(arg->fd);
	if (IS_ERR(sk)) {
		ret = PTR_ERR(sk);
	} else {
		ret = check_accepted(sk) ?: find_in(peer, sk);
		sock_put(sk);
	}
	rpal_space_put(peer);
	if (ret < 0)
		return ret;
	arg->peer_fd = ret;
	return 0;
}

/* The process of SO_PEERCRED, with a reference. */
static struct pid *peer_pid_get(int fd)
{
	struct socket *sock;
	struct pid *pid;
	int err;

	sock = sockfd_lookup(fd, &err);
	if (!sock)
		return ERR_PTR(err);
	if (sock->sk->sk_family == AF_UNIX) {
		spin_lock(&sock->sk->sk_peer_lock);
		pid = get_pid(sock->sk->sk_peer_pid) ?: ERR_PTR(-ENOTCONN);
		spin_unlock(&sock->sk->sk_peer_lock);
	} else {
		pid = ERR_PTR(-EPROTONOSUPPORT);
	}
	sockfd_put(sock);
	return pid;
}

static bool is_service_locked(const struct pid *pid)
{
	unsigned int slot;

	for (slot = 1; slot < RPAL_NR_SLOTS; slot++) {
		if (rpal_slots[slot] && rpal_slots[slot]->key &&
		    rpal_slots[slot]->tgid == pid)
			return true;
	}
	return false;
}

/**
 * rpal_peer_of() - RPAL_IOC_PEER_OF
 * @file:	the caller's file
 * @arg:	arguments, already copied, and results
 *
 * Context: may sleep.
 * Return: 0, -ENXIO, -EPERM, -EINVAL, -EBADF, -ENOTSOCK, -EPROTONOSUPPORT or
 * -ENOTCONN.
 */
int rpal_peer_of(struct rpal_file *file, struct rpal_peer_of *arg)
{
	struct rpal_space *space = rpal_service_caller(file);
	struct pid *pid;

	if (IS_ERR(space))
		return PTR_ERR(space);
	if (arg->flags)
		return -EINVAL;
	pid = peer_pid_get(arg->fd);
	if (IS_ERR(pid))
		return PTR_ERR(pid);
	spin_lock(&rpal_lock);
	arg->state = is_service_locked(pid) ? RPAL_PEER_OF_SERVICE : 0;
	spin_unlock(&rpal_lock);
	put_pid(pid);
	return 0;
}
