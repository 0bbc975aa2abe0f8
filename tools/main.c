// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* rpal: start programs so that they can be called, and look at them. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/access.h"
#include "rpal.h"

#ifndef RPAL_LIB_VERSION
#define RPAL_LIB_VERSION "0.1.0"
#endif

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} commands[] = {
	{ "run", cmd_run, "start a program in a slot of its own" },
	{ "mark", cmd_mark, "have a program placed whenever it is started" },
	{ "check", cmd_check, "say whether a program can be placed" },
	{ "status", cmd_status, "show what module and machine offer" },
	{ "ps", cmd_ps, "show the services" },
	{ "doctor", cmd_doctor, "say whether calls will work, and if not, what mends it" },
};

/* In one piece: others may be writing to the same terminal. */
void complain(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	dprintf(STDERR_FILENO, "rpal: %s\n", text);
}

int open_device(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	char sentence[400];
	struct access why;
	int err = errno;
	struct stat st;

	/* Whoever writes to a node that is not there makes a file in its place. */
	if (fd >= 0 && !fstat(fd, &st) && !S_ISCHR(st.st_mode)) {
		close(fd);
		fd = -1;
		err = ENOTTY;
	}
	if (fd >= 0)
		return fd;
	rpal_access_explain(err, &why);
	rpal_access_sentence(&why, sentence, sizeof(sentence));
	complain("%s", sentence);
	return -1;
}

int ask(int fd, unsigned long cmd, void *arg)
{
	return ioctl(fd, cmd, arg) < 0 ? -errno : 0;
}

static void usage(void)
{
	size_t i;

	puts("usage: rpal COMMAND [ARGUMENT]...\n");
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		printf("  %-8s%s\n", commands[i].name, commands[i].what);
	puts("\n'rpal COMMAND --help' says more.");
}

int main(int argc, char **argv)
{
	size_t i;

	if (argc < 2) {
		complain("a command is missing; 'rpal --help' shows those there are");
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage();
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("rpal " RPAL_LIB_VERSION);
		return 0;
	}
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	complain("%s '%s'; 'rpal --help' shows those there are",
		 argv[1][0] == '-' ? "unknown option" : "there is no command", argv[1]);
	return EXIT_USAGE;
}
