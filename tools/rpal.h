/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the commands of the rpal tool share. */
#ifndef _TOOLS_RPAL_H
#define _TOOLS_RPAL_H

#include <linux/rpal.h>

#define DEVICE "/dev/rpal"

/* Exit statuses: like env(1) and timeout(1) for "run", but for wrong usage. */
#define EXIT_OWN     125 /* the tool itself failed */
#define EXIT_CANNOT  126 /* found, but cannot be executed */
#define EXIT_MISSING 127 /* not found */
#define EXIT_USAGE   2

int cmd_run(int argc, char **argv);
int cmd_mark(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_doctor(int argc, char **argv);

/* A line on standard error, with the tool's name. */
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Wrong usage of a command, said in one line; returns EXIT_USAGE. */
int wrong_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same for an option: @c is what getopt_long() returned, '?' or ':'. */
struct option;
int wrong_option(const char *command, const struct option *options, char **argv, int c);

/* For a command of --help alone: the exit status, or -1 to go on. */
int no_operands(const char *command, const char *help, int argc, char **argv);

/* Opens the device; complains and returns -1 if it cannot. */
int open_device(void);

/* An ioctl that is tried once: 0 or a negative errno. */
int ask(int fd, unsigned long cmd, void *arg);

#endif /* _TOOLS_RPAL_H */
