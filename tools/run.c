// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* rpal run: start a program in a slot of its own. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elfcheck.h"
#include "rpal.h"

static void help(void)
{
	fputs("usage: rpal run [--group NAME] [--no-pkeys] [--] PROGRAM [ARGUMENT]...\n"
	      "\n"
	      "Start PROGRAM so that it can become a service. It must be a 64-bit\n"
	      "position-independent program without set-user-id bits or capabilities.\n"
	      "\n"
	      "  -g, --group NAME   programs started with one NAME never have the same\n"
	      "                     protection key, so that they can be linked\n"
	      "  -n, --no-pkeys     where the CPU has no protection keys, go on without\n"
	      "  -h, --help\n"
	      "\n"
	      "The exit status is the program's; 125 if rpal itself failed, 126 if the\n"
	      "program cannot be executed or placed, 127 if it was not found;\n"
	      "2 if rpal does not understand its command line.\n",
	      stdout);
}

/* As execvp() does, but we have to know the file to explain a failure. */
static int find(const char *name, char *path, size_t size)
{
	const char *dirs = getenv("PATH"), *end;
	int err = ENOENT;
	struct stat st;

	if (strchr(name, '/')) {
		snprintf(path, size, "%s", name);
		return stat(path, &st) ? errno : 0;
	}
	if (!dirs)
		dirs = "/bin:/usr/bin";
	for (;; dirs = end + 1) {
		end = strchrnul(dirs, ':');
		if ((size_t)snprintf(path, size, "%.*s%s%s", (int)(end - dirs), dirs,
				     end > dirs ? "/" : "./", name) < size &&
		    !stat(path, &st) && S_ISREG(st.st_mode)) {
			if (!access(path, X_OK))
				return 0;
			err = EACCES;
		}
		if (!*end)
			return err;
	}
}

/* What the file itself says about why it was refused. */
static const char *blame(const char *path, struct elf_info *info)
{
	static char why[512];
	char script[256];

	elf_check_file(path, info);
	if (info->script) {
		snprintf(script, sizeof(script), "%s", info->interpreter);
		elf_check_file(script, info);
		if (info->verdict == ELF_NO) {
			snprintf(why, sizeof(why), "its interpreter %s cannot be: %s", script,
				 info->why);
			return why;
		}
		return NULL;
	}
	return info->verdict == ELF_NO ? info->why : NULL;
}

static void explain(const char *path, int err)
{
	struct elf_info info;
	const char *why = NULL;

	switch (err) {
	case ELIBBAD:
	case EPERM:
		why = blame(path, &info);
		if (why)
			complain("%s cannot be placed: %s", path, why);
		else if (err == EPERM)
			complain("%s cannot be placed: it changes its user, group or "
				 "capabilities when it is executed",
				 path);
		else
			complain("%s cannot be placed: it is no 64-bit position-independent "
				 "program",
				 path);
		break;
	case ENOSPC:
		complain("%s cannot be placed: no slot is free; 'rpal ps' shows who has them",
			 path);
		break;
	case EDQUOT:
		complain("%s cannot be placed: this user has as many placed programs as one may "
			 "have (module parameter user_placed)",
			 path);
		break;
	case ENOTUNIQ:
		complain("%s cannot be placed: each protection key is in use within the group; "
			 "use another group",
			 path);
		break;
	case EOPNOTSUPP:
		complain("%s cannot be placed: this CPU has no protection keys (--no-pkeys goes "
			 "on without, if the module allows it)",
			 path);
		break;
	case ENOMEM:
		complain("%s cannot be placed: out of memory", path);
		break;
	case EBUSY:
		complain("%s cannot be placed: a live patch or another module holds a function "
			 "of the kernel, or the function tracer is off; 'rpal doctor' says which",
			 path);
		break;
	case ENODEV:
		complain("%s cannot be placed: a hook of the module in the kernel is missing; "
			 "'rpal doctor' says which",
			 path);
		break;
	case ENOEXEC:
		complain("%s is no executable program", path);
		break;
	default:
		complain("cannot execute %s: %s", path, strerror(err));
	}
}

static int place(int fd, const char *group, bool no_pkeys)
{
	struct rpal_place req = { .size = sizeof(req) };
	int ret;

	if (group)
		memcpy(req.group, group, strlen(group));
	if (no_pkeys)
		req.flags |= RPAL_PLACE_NO_PKEYS;
	ret = ask(fd, RPAL_IOC_PLACE, &req);
	if (ret == -EOPNOTSUPP)
		complain("this CPU has no protection keys%s",
			 no_pkeys ? ", and the module does not allow to go on without (parameter "
				    "allow_no_pkeys)" :
				    "; --no-pkeys goes on without");
	else if (ret == -ESHUTDOWN)
		complain("RPAL is switched off on this machine; the administrator can write 1 to "
			 "/sys/module/rpal/parameters/enable");
	else if (ret)
		complain("the module refuses to place a program: %s", strerror(-ret));
	return ret;
}

static int start(char **argv, const char *group, bool no_pkeys)
{
	struct elf_info info;
	char path[PATH_MAX];
	int err, fd;

	err = find(argv[0], path, sizeof(path));
	if (err) {
		if (err == ENOENT || err == ENOTDIR)
			complain("%s: not found", argv[0]);
		else
			complain("%s: %s", argv[0], strerror(err));
		return err == ENOENT || err == ENOTDIR ? EXIT_MISSING : EXIT_CANNOT;
	}
	if (elf_check_file(path, &info) == ELF_YES && info.warning[0])
		complain("warning: %s will not work: %s", path, info.warning);
	fd = open_device();
	if (fd < 0 || place(fd, group, no_pkeys))
		return EXIT_OWN;
	/* The file stays open until the program begins: its end is the request's. */
	execv(path, argv);
	err = errno;
	explain(path, err);
	return err == ENOENT ? EXIT_MISSING : EXIT_CANNOT;
}

int cmd_run(int argc, char **argv)
{
	static const struct option options[] = { { "group", required_argument, NULL, 'g' },
						 { "no-pkeys", no_argument, NULL, 'n' },
						 { "help", no_argument, NULL, 'h' },
						 {} };
	const char *group = NULL;
	bool no_pkeys = false;
	int c;

	while ((c = getopt_long(argc, argv, "+:g:nh", options, NULL)) >= 0) {
		switch (c) {
		case 'g':
			group = optarg;
			break;
		case 'n':
			no_pkeys = true;
			break;
		case 'h':
			help();
			return 0;
		default:
			return wrong_option("run", options, argv, c);
		}
	}
	if (group && (!*group || strlen(group) >= RPAL_GROUP_LEN))
		return wrong_usage("run", "a group's name has 1 to %d bytes, unlike '%s'",
				   RPAL_GROUP_LEN - 1, group);
	if (optind == argc)
		return wrong_usage("run", "the program to run is missing");
	return start(argv + optind, group, no_pkeys);
}
