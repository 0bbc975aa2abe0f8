// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Why can this process not use /dev/rpal?
 *
 * The errno alone does not tell: a missing module and a unit with PrivateDevices=yes
 * look alike, and so do a missing membership and an AppArmor profile. Each sentence
 * here is said only where it was found to be true. A library may be called before a
 * program is ready for NSS, so users and groups are looked up in /etc by hand.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "access.h"

#define DEVICE	   "/dev/rpal"
#define REGISTERED "/sys/class/misc/rpal/dev"
#define GROUP	   "rpal"

/* A user namespace shows every id that it does not have as this one. */
#define OVERFLOW_ID 65534

/* From these systemd takes the users of DynamicUser=yes. */
#define DYNAMIC_FIRST 61184
#define DYNAMIC_LAST  65519

static void say(struct access *a, enum access_why why, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void advise(struct access *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void command(struct access *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(struct access *a, enum access_why why, const char *fmt, ...)
{
	va_list ap;

	a->why = why;
	va_start(ap, fmt);
	vsnprintf(a->text, sizeof(a->text), fmt, ap);
	va_end(ap);
}

static void advise(struct access *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->mend, sizeof(a->mend), fmt, ap);
	va_end(ap);
}

static void command(struct access *a, const char *fmt, ...)
{
	va_list ap;

	a->command = true;
	va_start(ap, fmt);
	vsnprintf(a->mend, sizeof(a->mend), fmt, ap);
	va_end(ap);
}

/* --- what is where */

static bool exists(const char *path)
{
	return !access(path, F_OK);
}

/* The number that the module's device has now; false if it is not registered. */
static bool registered(unsigned int *major_nr, unsigned int *minor_nr)
{
	FILE *f = fopen(REGISTERED, "re");
	bool found;

	if (!f)
		return false;
	found = fscanf(f, "%u:%u", major_nr, minor_nr) == 2;
	fclose(f);
	return found;
}

/* Is this process's /dev another one than the kernel's, as in containers and many units? */
static bool own_dev(void)
{
	char *line = NULL, *type, point[256];
	bool own = true; /* a directory that nothing is mounted on: a chroot's */
	size_t size = 0;
	FILE *f = fopen("/proc/self/mountinfo", "re");

	if (!f)
		return false;
	while (getline(&line, &size, f) > 0) {
		if (sscanf(line, "%*s %*s %*s %*s %255s", point) != 1 || strcmp(point, "/dev"))
			continue;
		/* What is mounted last is what is seen. */
		type = strstr(line, " - ");
		own = !type || strncmp(type + 3, "devtmpfs ", 9);
	}
	free(line);
	fclose(f);
	return own;
}

/* --- users and groups */

/* One line of /etc/passwd or /etc/group, cut into its fields. */
struct entry {
	char *line;
	char *name;
	char *id;
	char *members; /* of a group */
};

static bool cut(struct entry *e)
{
	char *rest = e->line;

	rest[strcspn(rest, "\n")] = 0;
	e->name = strsep(&rest, ":");
	strsep(&rest, ":");
	e->id = strsep(&rest, ":");
	e->members = strsep(&rest, ":");
	return e->id;
}

/* By name, or if that is NULL by id. The caller frees e->line. */
static bool look_up(const char *file, const char *name, unsigned int id, struct entry *e)
{
	size_t size = 0;
	bool found = false;
	FILE *f = fopen(file, "re");

	memset(e, 0, sizeof(*e));
	if (!f)
		return false;
	while (!found && getline(&e->line, &size, f) > 0)
		found = cut(e) &&
			(name ? !strcmp(e->name, name) : strtoul(e->id, NULL, 10) == id && *e->id);
	fclose(f);
	return found;
}

static bool is_listed(const char *members, const char *name)
{
	size_t len = strlen(name), n;

	while (members && *members) {
		n = strcspn(members, ",");
		if (n == len && !strncmp(members, name, len))
			return true;
		members += n + !!members[n];
	}
	return false;
}

static bool in_group(gid_t gid)
{
	gid_t *list;
	bool found = getegid() == gid;
	int n = getgroups(0, NULL), i;

	if (found || n <= 0)
		return found;
	list = calloc(n, sizeof(*list));
	n = list ? getgroups(n, list) : 0;
	for (i = 0; i < n; i++)
		found |= list[i] == gid;
	free(list);
	return found;
}

/* --- there is no node, or nothing behind it */

static void explain_absent(struct access *a)
{
	unsigned int major_nr, minor_nr;

	if (!registered(&major_nr, &minor_nr)) {
		say(a, ACCESS_NO_MODULE, "there is no " DEVICE "%s",
		    exists("/sys/class/misc") ? ", as the module is not loaded" : "");
		command(a, "modprobe rpal");
		return;
	}
	if (own_dev()) {
		say(a, ACCESS_HIDDEN,
		    "the module is loaded, but this process has a /dev of its own without " DEVICE
		    ", as in a container or a unit with PrivateDevices=yes");
		advise(a, "give the container the device " DEVICE
			  ", or the unit PrivateDevices=no and DeviceAllow=" DEVICE " rw");
		return;
	}
	say(a, ACCESS_NODE_GONE, "the module is loaded, but somebody has removed " DEVICE);
	command(a, "mknod -m 660 " DEVICE " c %u %u && chgrp " GROUP " " DEVICE, major_nr,
		minor_nr);
}

static const char *kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "a regular file";
	case S_IFDIR:
		return "a directory";
	case S_IFLNK:
		return "a symbolic link that leads nowhere";
	case S_IFIFO:
		return "a named pipe";
	case S_IFSOCK:
		return "a socket";
	}
	return "something else";
}

static void explain_missing(struct access *a)
{
	unsigned int major_nr, minor_nr;
	struct stat st;

	if (lstat(DEVICE, &st)) {
		explain_absent(a);
		return;
	}
	if (S_ISLNK(st.st_mode) && !stat(DEVICE, &st) && S_ISCHR(st.st_mode))
		st.st_mode = S_IFCHR;
	if (!S_ISCHR(st.st_mode)) {
		say(a, ACCESS_NO_DEVICE, DEVICE " is %s, not the module's device",
		    kind_of(st.st_mode));
		command(a, "rm -r " DEVICE " && modprobe -r rpal && modprobe rpal");
		return;
	}
	if (!registered(&major_nr, &minor_nr)) {
		say(a, ACCESS_NO_MODULE, "there is nothing behind " DEVICE "%s",
		    exists("/sys/class/misc") ? ", as the module is not loaded" : "");
		command(a, "modprobe rpal");
		return;
	}
	if (st.st_rdev == makedev(major_nr, minor_nr)) {
		say(a, ACCESS_OTHER, "the module is just being loaded or unloaded");
		advise(a, "try again");
		return;
	}
	say(a, ACCESS_NODE_STALE, DEVICE " has the number %u:%u, and the module's device has %u:%u",
	    major(st.st_rdev), minor(st.st_rdev), major_nr, minor_nr);
	command(a, "rm " DEVICE " && mknod -m 660 " DEVICE " c %u %u && chgrp " GROUP " " DEVICE,
		major_nr, minor_nr);
}

/* --- there is one, and it may not be opened */

bool rpal_access_profile(pid_t pid, char *profile, size_t size)
{
	char path[64], line[200] = "";
	FILE *f;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/attr/apparmor/current", (int)pid);
	else
		snprintf(path, sizeof(path), "/proc/thread-self/attr/apparmor/current");
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(line, sizeof(line), f))
		line[0] = 0;
	fclose(f);
	line[strcspn(line, "\n")] = 0;
	/* A profile that only complains, or is called unconfined, forbids nothing. */
	if (!line[0] || !strcmp(line, "unconfined") || strstr(line, " (complain)") ||
	    strstr(line, " (unconfined)"))
		return false;
	snprintf(profile, size, "%.*s", (int)strcspn(line, " "), line);
	return true;
}

/* Owner and mode do not bind it. */
static bool overrides_modes(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};

	return !syscall(SYS_capget, &head, data) &&
	       data[0].effective & CAP_TO_MASK(CAP_DAC_OVERRIDE);
}

/*
 * Do owner and mode let this process, and no access list keeps it out? faccessat() does
 * not tell, as it asks SELinux too.
 */
static bool rights_suffice(const struct stat *st)
{
	bool has_uid = st->st_uid != OVERFLOW_ID, has_gid = st->st_gid != OVERFLOW_ID;

	if (has_uid && has_gid && overrides_modes())
		return true;
	if (has_uid && geteuid() == st->st_uid)
		return (st->st_mode & 0600) == 0600;
	if (getxattr(DEVICE, "system.posix_acl_access", NULL, 0) > 0)
		return false;
	if (has_gid && in_group(st->st_gid))
		return (st->st_mode & 0060) == 0060;
	return (st->st_mode & 0006) == 0006;
}

/* Owner and mode let this process, so something else does not. */
static void explain_security(struct access *a)
{
	struct statvfs fs;
	char profile[80];

	if (!statvfs(DEVICE, &fs) && fs.f_flag & ST_NODEV) {
		say(a, ACCESS_MOUNT, "the file system with " DEVICE " is mounted with nodev");
		advise(a, "mount it without that option");
	} else if (rpal_access_profile(0, profile, sizeof(profile))) {
		say(a, ACCESS_APPARMOR,
		    "owner and mode of " DEVICE
		    " let this process open it, but the AppArmor profile %s confines it",
		    profile);
		advise(a, "add '" DEVICE
			  " rw,', 'ptrace (read),' and 'ptrace (readby),' to the profile, and load "
			  "it with 'apparmor_parser -r FILE'");
	} else {
		say(a, ACCESS_OTHER,
		    "owner and mode of " DEVICE " let this process open it, but a security "
		    "module of the kernel, such as SELinux or Landlock, forbids it");
		advise(a, "the rules are of whoever confines this process; 'journalctl -k' may "
			  "have more");
	}
}

static void explain_rights(const struct stat *st, struct access *a)
{
	struct entry e;
	bool udev = exists("/run/udev/control");
	bool group = look_up("/etc/group", GROUP, 0, &e);

	free(e.line);
	say(a, ACCESS_NODE_RIGHTS,
	    DEVICE " has the owner %u:%u and the mode %04o, where root:" GROUP " and 0660 belong%s",
	    st->st_uid, st->st_gid, st->st_mode & 07777,
	    group ? "" : "; and there is no group " GROUP);
	if (udev)
		command(a,
			"%ssystemctl restart systemd-udevd && udevadm trigger --action=add " DEVICE,
			group ? "" : "systemd-sysusers && ");
	else
		command(a, "%schown root:" GROUP " " DEVICE " && chmod 0660 " DEVICE,
			group ? "" : "groupadd --system " GROUP " && ");
}

static void explain_group(const struct stat *st, struct access *a)
{
	struct entry group, user;
	bool named = look_up("/etc/group", NULL, st->st_gid, &group);
	bool known = look_up("/etc/passwd", NULL, geteuid(), &user);
	char gid[16];

	snprintf(gid, sizeof(gid), "%u", st->st_gid);
	if (!named)
		group.name = gid;
	if (known && named && is_listed(group.members, user.name)) {
		say(a, ACCESS_SESSION,
		    "user %.40s is in the group %.40s, but was not yet when this session began",
		    user.name, group.name);
		advise(a, "log out and in again; restart a service");
	} else if (!named && own_dev()) {
		/* The number is the host's. No group that is made here would have it. */
		say(a, ACCESS_NOT_MEMBER,
		    "this process is not in the group %s of the host, which may open " DEVICE
		    " and has no name here",
		    gid);
		advise(a, "give the container --group-add %s, or the unit SupplementaryGroups=%s",
		       gid, gid);
	} else if (!known && geteuid() >= DYNAMIC_FIRST && geteuid() <= DYNAMIC_LAST) {
		say(a, ACCESS_DYNAMIC_USER,
		    "this process is not in the group %.40s, which may open " DEVICE
		    "; its user %u is one that systemd has made up (DynamicUser=yes)",
		    group.name, geteuid());
		advise(a, "add SupplementaryGroups=%.40s to its unit", group.name);
	} else {
		say(a, ACCESS_NOT_MEMBER,
		    "this process is not in the group %.40s, which may open " DEVICE
		    "; a new member logs in again",
		    group.name);
		if (known && named)
			command(a, "usermod -a -G %.40s %.40s", group.name, user.name);
		else
			advise(a, "make user %u a member of the group %.40s", geteuid(),
			       group.name);
	}
	free(group.line);
	free(user.line);
}

static void explain_denied(int err, struct access *a)
{
	struct stat st;

	if (stat(DEVICE, &st)) {
		say(a, ACCESS_OTHER, "cannot look at " DEVICE ": %s", strerror(errno));
		advise(a, "see to it that this process may search /dev");
	} else if (err == EPERM) {
		say(a, ACCESS_DEVICE_RULES,
		    "the control group of this process may not use " DEVICE
		    ", by DevicePolicy= of its unit or by a container");
		advise(a, "add DeviceAllow=" DEVICE
			  " rw to the unit, or give the container the device");
	} else if (!faccessat(AT_FDCWD, DEVICE, R_OK | W_OK, AT_EACCESS) || rights_suffice(&st)) {
		explain_security(a);
	} else if (st.st_gid == OVERFLOW_ID) {
		say(a, ACCESS_USER_NS,
		    "this process is in a user namespace that does not have the group of " DEVICE);
		advise(a, "map the group " GROUP
			  " into it; podman does so with --group-add keep-groups");
	} else if (!st.st_gid || (st.st_mode & 0660) != 0660) {
		explain_rights(&st, a);
	} else if (!in_group(st.st_gid)) {
		explain_group(&st, a);
	} else {
		/* The mode would let it; then an access list was found above. */
		say(a, ACCESS_OTHER, "an access list of " DEVICE " denies it to this process");
		command(a, "setfacl -b " DEVICE);
	}
}

void rpal_access_explain(int err, struct access *a)
{
	memset(a, 0, sizeof(*a));
	switch (err) {
	case ENOENT:
	case ENXIO:
	case ENODEV:
	case ENOTTY: /* of an ioctl: it was opened and is no device */
	case EISDIR:
	case ELOOP:
		explain_missing(a);
		return;
	case EACCES:
	case EPERM:
		explain_denied(err, a);
		return;
	}
	say(a, ACCESS_OTHER, "cannot open " DEVICE ": %s", strerror(err));
}

void rpal_access_sentence(const struct access *a, char *sentence, size_t size)
{
	snprintf(sentence, size,
		 a->command ? "%s: as root, run '%s'" :
		 a->mend[0] ? "%s: %s" :
			      "%s",
		 a->text, a->mend);
}
