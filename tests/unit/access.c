// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Why this process cannot use /dev/rpal, in places that a guest does not have: each case
 * makes a /dev of its own, and leaves root. The device itself is not needed.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../../lib/access.h"
#include "../../lib/internal.h"

#define DEVICE "/dev/rpal"

/* A misc device of this number is one that nobody has registered. */
#define MISC   10
#define NOBODY 250

/* Neither has a name in /etc. */
#define USER  54321
#define GROUP 54322

static void in_own_dev(mode_t mode)
{
	ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
	/* In a chroot / is no mount, but /dev is one. */
	ck_assert(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		  !mount(NULL, "/dev", NULL, MS_REC | MS_PRIVATE, NULL));
	ck_assert_int_eq(mount("tmpfs", "/dev", "tmpfs", 0, "mode=755"), 0);
	ck_assert_int_eq(mknod(DEVICE, S_IFCHR | 0600, makedev(MISC, NOBODY)), 0);
	ck_assert_int_eq(chown(DEVICE, 0, GROUP), 0);
	ck_assert_int_eq(chmod(DEVICE, mode), 0);
}

static void leave_root(gid_t group)
{
	ck_assert_int_eq(setgroups(0, NULL), 0);
	ck_assert_int_eq(setgid(group), 0);
	ck_assert_int_eq(setuid(USER), 0);
}

/* As SELinux denies it: whoever asks about access with all rights is told the same. */
static void forbid_faccessat(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_faccessat2, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_faccessat, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
	ck_assert_int_eq(faccessat(AT_FDCWD, DEVICE, R_OK, AT_EACCESS), -1);
	ck_assert_int_eq(errno, EACCES);
}

/* The group may, @user may not. */
static void deny_by_list(uid_t user)
{
	struct {
		struct posix_acl_xattr_header head;
		struct posix_acl_xattr_entry entry[5];
	} list = { .head = { POSIX_ACL_XATTR_VERSION } };

	list.entry[0] = (struct posix_acl_xattr_entry){ ACL_USER_OBJ, 6, ACL_UNDEFINED_ID };
	list.entry[1] = (struct posix_acl_xattr_entry){ ACL_USER, 0, user };
	list.entry[2] = (struct posix_acl_xattr_entry){ ACL_GROUP_OBJ, 6, ACL_UNDEFINED_ID };
	list.entry[3] = (struct posix_acl_xattr_entry){ ACL_MASK, 6, ACL_UNDEFINED_ID };
	list.entry[4] = (struct posix_acl_xattr_entry){ ACL_OTHER, 0, ACL_UNDEFINED_ID };
	ck_assert_int_eq(setxattr(DEVICE, "system.posix_acl_access", &list, sizeof(list), 0), 0);
}

static void explained(enum access_why why, const char *text, const char *mend, bool command)
{
	struct access a;

	rpal_access_explain(EACCES, &a);
	ck_assert_msg(strstr(a.text, text), "'%s' does not say '%s'", a.text, text);
	ck_assert_msg(strstr(a.mend, mend), "'%s' does not say '%s'", a.mend, mend);
	ck_assert_int_eq(a.why, why);
	ck_assert_int_eq(a.command, command);
}

static void refuses_to_open(int err)
{
	ck_assert_int_eq(open(DEVICE, O_RDWR), -1);
	ck_assert_int_eq(errno, err);
}

START_TEST(access_list)
{
	in_own_dev(0660);
	deny_by_list(USER);
	leave_root(GROUP);
	refuses_to_open(EACCES);
	explained(ACCESS_OTHER, "an access list of " DEVICE, "setfacl -b " DEVICE, true);
}
END_TEST

/* Without a list none is blamed. */
START_TEST(security_module_and_member)
{
	in_own_dev(0660);
	leave_root(GROUP);
	forbid_faccessat();
	explained(ACCESS_OTHER, "a security module of the kernel", "journalctl", false);
}
END_TEST

START_TEST(security_module_and_anybody)
{
	in_own_dev(0666);
	leave_root(USER);
	forbid_faccessat();
	explained(ACCESS_OTHER, "a security module of the kernel", "journalctl", false);
}
END_TEST

START_TEST(security_module_and_root)
{
	in_own_dev(0660);
	ck_assert_int_eq(chown(DEVICE, USER, 0), 0);
	forbid_faccessat();
	explained(ACCESS_OTHER, "a security module of the kernel", "journalctl", false);
}
END_TEST

/* What the mode denies is not a security module's doing. */
START_TEST(mode)
{
	in_own_dev(0600);
	leave_root(GROUP);
	refuses_to_open(EACCES);
	explained(ACCESS_NODE_RIGHTS, "the mode 0600", "chmod 0660", true);
}
END_TEST

/* As docker makes it by --device: no command takes a number for a name. */
START_TEST(group_without_a_name)
{
	in_own_dev(0660);
	leave_root(USER);
	refuses_to_open(EACCES);
	explained(ACCESS_NOT_MEMBER, "not in the group 54322 of the host", "--group-add 54322",
		  false);
}
END_TEST

/* errno is what open() has left, however much was looked at to explain it. */
START_TEST(error_number)
{
	rpal_error_code_t code = RPAL_ERR_NONE;

	in_own_dev(0660);
	refuses_to_open(ENODEV);
	errno = 0;
	ck_assert_int_eq(rpal_init(1, 0, &code), -1);
	ck_assert_int_eq(errno, ENODEV);
	ck_assert_int_eq(code, RPAL_ERR_RPALFILE_OPS);
	errno = 0;
	ck_assert_int_eq(rpal_is_enabled(), 0);
	ck_assert_int_eq(errno, ENODEV);
}
END_TEST

START_TEST(error_number_of_a_user)
{
	in_own_dev(0600);
	leave_root(USER);
	refuses_to_open(EACCES);
	errno = 0;
	ck_assert_int_eq(rpal_init(1, 0, NULL), -1);
	ck_assert_int_eq(errno, EACCES);
	errno = 0;
	ck_assert_int_eq(rpal_is_enabled(), 0);
	ck_assert_int_eq(errno, EACCES);
}
END_TEST

int main(void)
{
	TCase *tc;
	Suite *s;
	SRunner *sr;
	int failed;

	if (geteuid()) {
		fputs("not root: what a /dev of one's own is needed for is left out\n", stderr);
		return EXIT_SUCCESS;
	}
	tc = tcase_create("access");
	s = suite_create("access");
	suite_add_tcase(s, tc);
	tcase_add_test(tc, access_list);
	tcase_add_test(tc, security_module_and_member);
	tcase_add_test(tc, security_module_and_anybody);
	tcase_add_test(tc, security_module_and_root);
	tcase_add_test(tc, mode);
	tcase_add_test(tc, group_without_a_name);
	tcase_add_test(tc, error_number);
	tcase_add_test(tc, error_number_of_a_user);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
