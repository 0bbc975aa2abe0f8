/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Why can this process not use /dev/rpal? The tool asks the same question. */
#ifndef _RPAL_ACCESS_H
#define _RPAL_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum access_why {
	ACCESS_NO_MODULE,    /* the module is not loaded */
	ACCESS_HIDDEN,	     /* it is, but this process has a /dev of its own */
	ACCESS_NODE_GONE,    /* it is, but somebody has removed the node */
	ACCESS_NODE_STALE,   /* the node has the number of another device */
	ACCESS_NO_DEVICE,    /* something else has the name */
	ACCESS_NODE_RIGHTS,  /* owner or mode of the node are not what udev's rule says */
	ACCESS_NOT_MEMBER,   /* this process is not in the node's group */
	ACCESS_SESSION,	     /* its user is, but was not yet when the session began */
	ACCESS_DYNAMIC_USER, /* its user was made up by systemd */
	ACCESS_USER_NS,	     /* its user namespace does not have the node's group */
	ACCESS_DEVICE_RULES, /* its control group may not use the device */
	ACCESS_APPARMOR,     /* a profile confines it */
	ACCESS_MOUNT,	     /* the file system is mounted without devices */
	ACCESS_OTHER,
};

/**
 * struct access - what stands between this process and the device
 * @why:	one of the above
 * @text:	a clause: what is the case
 * @mend:	what to do about it
 * @command:	@mend is a command for root
 */
struct access {
	enum access_why why;
	char text[200];
	char mend[160];
	bool command;
};

/* Find out why the device could not be opened, or is none; @err: the errno of that. */
void rpal_access_explain(int err, struct access *a);
/* The same as one sentence. */
void rpal_access_sentence(const struct access *a, char *sentence, size_t size);
/* The AppArmor profile that confines a process (0: this one); false if none does. */
bool rpal_access_profile(pid_t pid, char *profile, size_t size);

#endif /* _RPAL_ACCESS_H */
