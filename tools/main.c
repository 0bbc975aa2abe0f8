// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* rpal: start programs so that they can be called, and look at them. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

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

	if (fd >= 0)
		return fd;
	switch (errno) {
	case ENOENT:
	case ENXIO:
	case ENODEV:
		complain("there is no " DEVICE "; load the module with 'modprobe rpal'");
		break;
	case EACCES:
	case EPERM:
		complain("no permission to open " DEVICE "; add this user to the group rpal");
		break;
	default:
		complain("cannot open " DEVICE ": %s", strerror(errno));
	}
	return -1;
}

int ask(int fd, unsigned long cmd, void *arg)
{
	return ioctl(fd, cmd, arg) < 0 ? -errno : 0;
}

static void usage(FILE *to)
{
	size_t i;

	fputs("usage: rpal COMMAND [ARGUMENT]...\n\n", to);
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(to, "  %-8s%s\n", commands[i].name, commands[i].what);
	fputs("\n'rpal COMMAND --help' says more.\n", to);
}

int main(int argc, char **argv)
{
	size_t i;

	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("rpal " RPAL_LIB_VERSION);
		return 0;
	}
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	complain("there is no command '%s'; 'rpal --help' shows those there are", argv[1]);
	return EXIT_USAGE;
}
