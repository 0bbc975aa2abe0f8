// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * rpal mark: put the marker into a program's ELF header, or take it away.
 *
 * The file is replaced as a whole, by rename: it may be running, and a half
 * written program must never be seen.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "elfcheck.h"
#include "rpal.h"

static void help(void)
{
	fputs("usage: rpal mark [--remove] FILE...\n"
	      "       rpal check FILE...\n"
	      "\n"
	      "mark: have FILE placed in a slot of its own whenever it is started by somebody\n"
	      "who may open /dev/rpal; --remove ends that. The file is replaced in one step\n"
	      "and keeps owner and mode. Exit status: 0, or 1 if a file could not be marked.\n"
	      "\n"
	      "check: say whether FILE can be placed, and if not, why. Exit status: 0 yes,\n"
	      "1 no, 2 it cannot be read.\n"
	      "\n"
	      "  -r, --remove\n"
	      "  -h, --help\n",
	      stdout);
}

static int copy(int from, int to)
{
	char buf[65536];
	ssize_t n, done, w;

	while ((n = read(from, buf, sizeof(buf))) > 0)
		for (done = 0; done < n; done += w) {
			w = write(to, buf + done, n - done);
			if (w < 0)
				return -errno;
		}
	return n < 0 ? -errno : 0;
}

/* Access lists, labels. What the new file cannot have is not worth a failure. */
static void copy_xattrs(int from, int to)
{
	char names[4096], value[65536], *name;
	ssize_t len, n;

	len = flistxattr(from, names, sizeof(names));
	for (name = names; len > 0 && name < names + len; name += strlen(name) + 1) {
		n = fgetxattr(from, name, value, sizeof(value));
		if (n >= 0 && fsetxattr(to, name, value, n, 0))
			continue;
	}
}

static int fill(int from, int to, bool mark)
{
	static const char none[MARK_LEN];
	struct timespec times[2];
	struct stat st;
	int ret;

	if (fstat(from, &st))
		return -errno;
	ret = copy(from, to);
	if (ret)
		return ret;
	if (pwrite(to, mark ? MARK : none, MARK_LEN, MARK_OFFSET) != MARK_LEN)
		return -errno;
	/* Owner before mode: a change of owner clears bits of the mode. */
	if (fchown(to, st.st_uid, st.st_gid) || fchmod(to, st.st_mode & 07777))
		return -errno;
	copy_xattrs(from, to);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	if (futimens(to, times) || fsync(to))
		return -errno;
	return 0;
}

static int rewrite(const char *path, bool mark)
{
	char real[PATH_MAX], temp[PATH_MAX + 16];
	int from, to, ret;

	/* Through symbolic links: it is the program that is marked. */
	if (!realpath(path, real))
		return -errno;
	from = open(real, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		return -errno;
	snprintf(temp, sizeof(temp), "%s.XXXXXX", real);
	to = mkostemp(temp, O_CLOEXEC);
	if (to < 0) {
		ret = -errno;
		close(from);
		return ret;
	}
	ret = fill(from, to, mark);
	close(from);
	if (close(to) && !ret)
		ret = -errno;
	if (!ret && rename(temp, real))
		ret = -errno;
	if (ret)
		unlink(temp);
	return ret;
}

static int mark_one(const char *path, bool mark)
{
	struct elf_info info;
	int ret;

	switch (elf_check_file(path, &info)) {
	case ELF_ERROR:
		complain("%s: %s", path, info.why);
		return -1;
	case ELF_NO:
		if (!mark && info.marked)
			break; /* whatever it is, away with it */
		complain("%s cannot be placed: %s", path, info.why);
		return -1;
	case ELF_YES:
		if (info.script) {
			complain("%s is a script; start it with 'rpal run', or mark its "
				 "interpreter %s",
				 path, info.interpreter);
			return -1;
		}
		if (mark && info.warning[0])
			complain("warning: %s will not work placed: %s", path, info.warning);
	}
	if (info.marked == mark)
		return 0;
	ret = rewrite(path, mark);
	if (ret)
		complain("%s: cannot be replaced: %s", path, strerror(-ret));
	return ret;
}

int cmd_mark(int argc, char **argv)
{
	static const struct option options[] = { { "remove", no_argument, NULL, 'r' },
						 { "help", no_argument, NULL, 'h' },
						 {} };
	bool mark = true;
	int c, ret = 0;

	while ((c = getopt_long(argc, argv, ":rh", options, NULL)) >= 0) {
		switch (c) {
		case 'r':
			mark = false;
			break;
		case 'h':
			help();
			return 0;
		default:
			return wrong_option("mark", options, argv, c);
		}
	}
	if (optind == argc)
		return wrong_usage("mark", "the name of a program is missing");
	for (; optind < argc; optind++)
		if (mark_one(argv[optind], mark))
			ret = 1;
	return ret;
}

/* 0 yes, 1 no, 2 error */
static int check_one(const char *path)
{
	struct elf_info info;
	char script[256];

	switch (elf_check_file(path, &info)) {
	case ELF_ERROR:
		complain("%s: %s", path, info.why);
		return 2;
	case ELF_NO:
		printf("%s: no: %s\n", path, info.why);
		return 1;
	case ELF_YES:
		break;
	}
	if (info.script) {
		snprintf(script, sizeof(script), "%s", info.interpreter);
		printf("%s: a script, its interpreter decides\n", path);
		return check_one(script);
	}
	printf("%s: yes%s\n", path, info.marked ? ", and is marked" : "");
	if (info.warning[0])
		printf("%s: but it will not work: %s\n", path, info.warning);
	return info.warning[0] ? 1 : 0;
}

int cmd_check(int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, {} };
	int c, one, ret = 0;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) >= 0) {
		if (c != 'h')
			return wrong_option("check", options, argv, c);
		help();
		return 0;
	}
	if (optind == argc)
		return wrong_usage("check", "the name of a program is missing");
	for (; optind < argc; optind++) {
		one = check_one(argv[optind]);
		if (one > ret)
			ret = one;
	}
	return ret;
}
