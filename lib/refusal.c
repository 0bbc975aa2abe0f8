// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Why can the two at the ends of a socket not link?
 *
 * The kernel says no more than EACCES, but the socket knows who made its other end.
 */
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "access.h"
#include "internal.h"

/* A sentence has room for 400 bytes, with the numbers and names that come into it. */
#define RULE                                                           \
	"both must belong to one user, group and user namespace, and " \
	"neither may be undumpable (as setuid() makes it) or have more capabilities"
#define MODULE ", and a security module such as AppArmor must let them"

/* The AppArmor profile of either, and whose it is. */
static const char *confined(pid_t peer, char *profile, size_t size)
{
	if (rpal_access_profile(0, profile, size))
		return "this process";
	if (peer && rpal_access_profile(peer, profile, size))
		return "who made the socket's other end";
	return NULL;
}

/*
 * @who: a clause on who was refused.
 *
 * The socket knows who called listen(), connect() or socketpair(). Since then that process
 * may have become another user, or have handed the socket on, as systemd does. So nothing
 * here is certain of the peer, and the whole rule is always told.
 */
static int denied(int sock, int ret, const char *who)
{
	struct ucred peer = {};
	socklen_t len = sizeof(peer);
	char profile[80];
	const char *whose;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) || len != sizeof(peer))
		return rpal_failf(ret, "%s: " RULE MODULE, who);
	if (peer.uid != getuid() || peer.gid != getgid())
		return rpal_failf(ret,
				  "%s: user %u of group %u made the socket's other end (and may be "
				  "another now), this process is of user %u, group %u; " RULE MODULE,
				  who, peer.uid, peer.gid, getuid(), getgid());
	whose = confined(peer.pid, profile, sizeof(profile));
	if (whose)
		return rpal_failf(ret,
				  "%s: the AppArmor profile %s confines %s, and has to allow "
				  "'ptrace (read),' and 'ptrace (readby),'; besides, " RULE,
				  who, profile, whose);
	return rpal_failf(ret, "%s: " RULE MODULE, who);
}

int rpal_refusal_own(int sock, int err)
{
	if (err == -EACCES)
		return denied(sock, err, "this process may not read the other's memory");
	return rpal_link_refused(err);
}

int rpal_refusal_peer(int sock, int err)
{
	switch (err) {
	case -EACCES:
		return denied(sock, -EREMOTEIO, "the peer may not read this process's memory");
	case -EPERM:
	case -ENXIO:
		return rpal_fail(-EREMOTEIO, "the peer cannot link: it is no service any more, or "
					     "was forked from one");
	case -ENOENT:
		return rpal_fail(-EREMOTEIO,
				 "the peer cannot link: its kernel does not know the key "
				 "of this process");
	}
	return rpal_failf(-EREMOTEIO, "the peer cannot link: %s", rpal_strerror(err));
}
