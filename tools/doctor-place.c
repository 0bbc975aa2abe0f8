// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * rpal doctor: when nothing speaks against it, place a program. That shows what cannot
 * be seen from outside: hooks that cannot be installed, a limit that is reached. What
 * the module knows of its hooks is new then, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "doctor.h"
#include "rpal.h"

/* This program itself: it is there, and can be placed. */
#define PROGRAM "/proc/self/exe"

/* In the child. The pipe's end closes when the program begins, or has the errno. */
static void be_placed(int device, unsigned int flags, int report)
{
	struct rpal_place req = { .size = sizeof(req), .flags = flags };
	int null = open("/dev/null", O_WRONLY), err;
	ssize_t n;

	if (null >= 0)
		dup2(null, STDOUT_FILENO);
	err = -ask(device, RPAL_IOC_PLACE, &req);
	if (!err) {
		execl(PROGRAM, "rpal", "--version", NULL);
		err = errno;
	}
	n = write(report, &err, sizeof(err));
	_exit(n == sizeof(err) ? 1 : 2);
}

/* 0, the errno with which it was refused, or ECHILD if it has not run to its end. */
static int try_it(int device, unsigned int flags)
{
	int p[2], err = 0, status;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC))
		return errno;
	fflush(stdout);
	pid = fork();
	if (!pid)
		be_placed(device, flags, p[1]);
	close(p[1]);
	if (pid < 0)
		err = errno;
	else if (read(p[0], &err, sizeof(err)) != sizeof(err))
		err = 0;
	close(p[0]);
	if (pid > 0 && waitpid(pid, &status, 0) == pid && !err && status)
		err = ECHILD;
	return err;
}

/* What is known already has its own line, with what mends it. */
static void say_refused(struct report *r, int err)
{
	bool known = doctor_bad(r);

	switch (err) {
	case EBUSY:
		doctor_say(r, "place", DOCTOR_BAD,
			   "no program can be placed: a live patch or another module holds a "
			   "function of the kernel that has to be hooked%s",
			   geteuid() ? "; root can see which" : "; the kernel log names it");
		if (geteuid())
			doctor_mend(r, "as root, run 'rpal doctor'");
		else if (!known)
			doctor_mend(r, "dmesg | grep rpal:");
		break;
	case ENODEV:
		doctor_say(r, "place", DOCTOR_BAD,
			   "no program can be placed: a hook in the kernel does not fire");
		if (!known)
			doctor_mend(r, "modprobe -r rpal && modprobe rpal");
		break;
	case EDQUOT:
		doctor_say(r, "place", DOCTOR_BAD,
			   "this user has as many placed programs as one user may have");
		doctor_mend(r, "end some, or, as root, echo a larger number "
			       ">/sys/module/rpal/parameters/user_placed");
		break;
	case ENOSPC:
		doctor_say(r, "place", DOCTOR_BAD, "no slot is free");
		doctor_mend(r, "end some of the programs that 'rpal ps' shows to root");
		break;
	case ECHILD:
		doctor_say(r, "place", DOCTOR_BAD,
			   "a program was placed, and has not run to its end");
		doctor_mend(r, "dmesg | tail");
		break;
	default:
		doctor_say(r, "place", DOCTOR_BAD, "a program cannot be placed: %s", strerror(err));
	}
}

void doctor_try_to_place(struct report *r)
{
	unsigned int flags = 0;

	if (!r->answers || doctor_bad(r))
		return;
	if (!(r->query.features & RPAL_FEATURE_PKEYS))
		flags = RPAL_PLACE_NO_PKEYS;
	r->place_error = try_it(r->fd, flags);
	/* What cannot be asked again stays as it was. */
	ask(r->fd, RPAL_IOC_QUERY, &r->query);
}

void doctor_placed(struct report *r)
{
	if (r->place_error > 0)
		say_refused(r, r->place_error);
	else if (!r->place_error)
		doctor_say(r, "place", DOCTOR_OK, "a program was placed, and has run");
}
