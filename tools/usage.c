// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Wrong usage: one sentence, and where to read more. */
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "rpal.h"

int wrong_usage(const char *command, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	complain("%s: %s; 'rpal %s --help' shows the options", command, text, command);
	return EXIT_USAGE;
}

static bool is_option(const struct option *options, int val)
{
	for (; options->name; options++)
		if (options->val == val)
			return true;
	return false;
}

/* What getopt_long() leaves behind: no letter in optopt if a word is unknown. */
int wrong_option(const char *command, const struct option *options, char **argv, int c)
{
	const char *last = argv[optind - 1];

	if (!optopt)
		return wrong_usage(command, "unknown option '%s'", last);
	if (c == ':' && !strncmp(last, "--", 2))
		return wrong_usage(command, "option '%s' needs a value", last);
	if (c == ':')
		return wrong_usage(command, "option '-%c' needs a value", optopt);
	if (is_option(options, optopt))
		return wrong_usage(command, "option '%.*s' takes no value", (int)strcspn(last, "="),
				   last);
	return wrong_usage(command, "unknown option '-%c'", optopt);
}

int no_operands(const char *command, const char *help, int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, {} };
	int c = getopt_long(argc, argv, ":h", options, NULL);

	if (c == 'h') {
		fputs(help, stdout);
		return 0;
	}
	if (c >= 0)
		return wrong_option(command, options, argv, c);
	if (optind < argc)
		return wrong_usage(command, "it takes no arguments such as '%s'", argv[optind]);
	return -1;
}
