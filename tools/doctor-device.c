// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * rpal doctor: the device, and who may use it.
 *
 * The rule is udev's: root:rpal 0660. Whether this process can open it is tried; the
 * library's own words say why not.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/access.h"
#include "doctor.h"
#include "rpal.h"

#define GROUP "rpal"

/* From these systemd takes the users of DynamicUser=yes. */
#define DYNAMIC_FIRST 61184
#define DYNAMIC_LAST  65519

/* --- the group */

/* What keeps others out is no fault of a process that can open it all the same. */
static enum verdict fault(const struct report *r)
{
	return r->fd >= 0 ? DOCTOR_NOTE : DOCTOR_BAD;
}

static void check_group(struct report *r, const struct group *group)
{
	if (group) {
		doctor_say(r, "group", DOCTOR_OK, "there is a group " GROUP);
		return;
	}
	if (in_container()) {
		/* The node has the host's number, which a group made here would not have. */
		doctor_say(r, "group", DOCTOR_NOTE,
			   "there is no group " GROUP " in this container");
		return;
	}
	doctor_say(r, "group", fault(r),
		   "there is no group " GROUP ", so udev cannot give it the device");
	if (!access("/usr/lib/sysusers.d/rpal.conf", F_OK) ||
	    !access("/etc/sysusers.d/rpal.conf", F_OK))
		doctor_mend(r, "systemd-sysusers && systemctl restart systemd-udevd && udevadm "
			       "trigger --action=add " DEVICE);
	else
		doctor_mend(r, "groupadd --system " GROUP);
}

/* In the database, where a membership is that began after the session. */
static bool is_member(const struct group *group, const struct passwd *user)
{
	char **name;

	for (name = group->gr_mem; *name; name++)
		if (!strcmp(*name, user->pw_name))
			return true;
	return user->pw_gid == group->gr_gid;
}

static bool in_session(gid_t gid)
{
	int n = getgroups(0, NULL), i;
	gid_t *list = calloc(n > 0 ? n : 1, sizeof(*list));
	bool found = getegid() == gid;

	n = list ? getgroups(n, list) : 0;
	for (i = 0; i < n; i++)
		found |= list[i] == gid;
	free(list);
	return found;
}

/* Root needs no group; but whom does root work for? */
static void check_sudo_user(struct report *r, const struct group *group)
{
	const char *name = getenv("SUDO_USER");
	struct passwd *user = name ? getpwnam(name) : NULL;

	if (!user || !user->pw_uid || is_member(group, user))
		return;
	doctor_say(r, "group-member", DOCTOR_NOTE,
		   "user %s is not in the group " GROUP "; a new member logs in again", name);
	doctor_mend(r, "usermod -a -G " GROUP " %s", name);
}

static void check_member(struct report *r, const struct group *group)
{
	struct passwd *user = getpwuid(geteuid());
	enum verdict verdict = fault(r); /* by an access list it may do without */

	if (!geteuid()) {
		check_sudo_user(r, group);
	} else if (in_session(group->gr_gid)) {
		doctor_say(r, "group-member", DOCTOR_OK, "this session is in the group " GROUP);
	} else if (user && is_member(group, user)) {
		doctor_say(r, "group-member", verdict,
			   "user %s is in the group " GROUP
			   ", but was not yet when this session began",
			   user->pw_name);
		doctor_mend(r, "log out and in again, or 'newgrp " GROUP "' for this shell only");
	} else if (user && (geteuid() < DYNAMIC_FIRST || geteuid() > DYNAMIC_LAST)) {
		doctor_say(r, "group-member", verdict,
			   "user %s is not in the group " GROUP "; a new member logs in again",
			   user->pw_name);
		doctor_mend(r, "usermod -a -G " GROUP " %s", user->pw_name);
	} else {
		doctor_say(r, "group-member", verdict,
			   "user %u, whom no administrator has made, is not in the group " GROUP,
			   geteuid());
		doctor_mend(r, "SupplementaryGroups=" GROUP
			       " for a unit of systemd, --group-add for a container");
	}
}

/* --- the node */

/* Who may open what is not as the rule says? Too many is no fault, too few is. */
static void check_rights(struct report *r, const struct stat *st, const struct group *group)
{
	bool usable = (st->st_mode & 0006) == 0006 || (st->st_gid && (st->st_mode & 0660) == 0660);
	bool udev = !access("/run/udev/control", F_OK);

	if (!st->st_uid && group && st->st_gid == group->gr_gid && (st->st_mode & 07777) == 0660) {
		doctor_say(r, "device-rights", DOCTOR_OK, DEVICE " is root:" GROUP " 0660");
		return;
	}
	doctor_say(r, "device-rights", usable ? DOCTOR_NOTE : fault(r),
		   DEVICE " is %u:%u %04o, and not root:" GROUP " 0660%s", st->st_uid, st->st_gid,
		   st->st_mode & 07777,
		   st->st_mode & 0006 ? ": any user may use it" :
		   usable	      ? "" :
					": only root may use it");
	if (!group)
		return; /* that comes first, and has a line of its own */
	if (udev)
		doctor_mend(r,
			    "systemctl restart systemd-udevd && udevadm trigger --action=add " DEVICE);
	else
		doctor_mend(r, "chown root:" GROUP " " DEVICE " && chmod 0660 " DEVICE);
}

/* What the lines about group and rights do not say. */
static void check_open(struct report *r, int err, const struct group *group)
{
	struct access a;

	if (r->fd >= 0) {
		doctor_say(r, "device-open", DOCTOR_OK, "this process can open " DEVICE);
		return;
	}
	rpal_access_explain(err, &a);
	switch (a.why) {
	case ACCESS_NODE_RIGHTS:
	case ACCESS_NOT_MEMBER:
	case ACCESS_SESSION:
		/* In a container without the group those lines do not say what to do. */
		if (doctor_bad(r) && (group || !in_container()))
			return;
		break;
	default:
		break;
	}
	doctor_say(r, "device-open", DOCTOR_BAD, "%s", a.text);
	doctor_mend(r, "%s", a.mend);
}

static void check_apparmor(struct report *r)
{
	char profile[128];

	if (r->fd < 0 || !rpal_access_profile(0, profile, sizeof(profile)))
		return;
	doctor_say(r, "apparmor", DOCTOR_NOTE,
		   "the AppArmor profile %s confines this process; to be linked it needs the lines "
		   "'ptrace (read),' and 'ptrace (readby),' there",
		   profile);
}

/* --- the module behind it */

static void check_answer(struct report *r)
{
	char version[64];
	int ret;

	if (r->fd < 0)
		return;
	r->query.size = sizeof(r->query);
	ret = ask(r->fd, RPAL_IOC_QUERY, &r->query);
	if (ret) {
		doctor_say(r, "interface", DOCTOR_BAD, "the module does not answer: %s",
			   strerror(-ret));
		doctor_mend(r, "install tool and module from one release");
		return;
	}
	if (r->query.abi_major != RPAL_ABI_MAJOR || r->query.abi_minor < RPAL_ABI_MINOR) {
		r->answers = r->query.abi_major == RPAL_ABI_MAJOR;
		doctor_say(r, "interface", r->answers ? DOCTOR_NOTE : DOCTOR_BAD,
			   "the module speaks version %u.%u, and this tool %u.%u",
			   r->query.abi_major, r->query.abi_minor, RPAL_ABI_MAJOR, RPAL_ABI_MINOR);
		doctor_mend(r, "install tool and module from one release, and 'modprobe -r rpal && "
			       "modprobe rpal'");
		return;
	}
	r->answers = true;
	if (!read_line("/sys/module/rpal/version", version, sizeof(version)))
		snprintf(version, sizeof(version), "?");
	doctor_say(r, "interface", DOCTOR_OK,
		   "the module is of version %s, and speaks version %u.%u", version,
		   r->query.abi_major, r->query.abi_minor);
	if (!(r->query.features & RPAL_FEATURE_OFF))
		return;
	doctor_say(r, "enabled", DOCTOR_BAD,
		   "RPAL is switched off on this machine: no program is placed, and none becomes a "
		   "service");
	doctor_mend(r, "echo 1 >/sys/module/rpal/parameters/enable");
}

void doctor_device(struct report *r)
{
	struct group *group = getgrnam(GROUP);
	bool is_device = false;
	struct stat st;
	int err = 0;

	if (!r->loaded)
		return; /* there is no device then, and that is said already */
	r->fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (r->fd < 0)
		err = errno;
	if (!stat(DEVICE, &st)) {
		is_device = S_ISCHR(st.st_mode);
		/* Whoever writes to a node that is not there makes a file in its place. */
		if (!is_device && r->fd >= 0)
			close(r->fd);
		if (!is_device) {
			r->fd = -1;
			err = ENOTTY;
		}
	}
	check_group(r, group);
	if (is_device)
		check_rights(r, &st, group);
	/* A container's own group of that name is of no use with the host's node. */
	if (group && is_device && st.st_gid && st.st_gid != group->gr_gid && in_container())
		group = NULL;
	if (group)
		check_member(r, group);
	check_open(r, err, group);
	check_apparmor(r);
	check_answer(r);
}
