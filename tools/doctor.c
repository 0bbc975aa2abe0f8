// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * rpal doctor: will calls work on this machine, for this user? If not, what is it that
 * stands in the way, and which command mends it?
 *
 * Each check says what it has found; only those are shown that can be true here.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"
#include "rpal.h"

static const char help[] =
	"usage: rpal doctor [--json]\n"
	"\n"
	"Say whether calls will work on this machine for this user; and if not, what is\n"
	"in the way and what mends it. Root sees more than other users.\n"
	"\n"
	"  -j, --json   the same as JSON\n"
	"  -h, --help\n"
	"\n"
	"Exit status: 0 calls will work, 1 they will not, 2 wrong usage.\n";

void doctor_say(struct report *r, const char *id, enum verdict verdict, const char *fmt, ...)
{
	struct finding *f = &r->finding[r->nr];
	va_list ap;

	if (r->nr == MAX_FINDINGS)
		abort(); /* there are fewer checks than that */
	r->nr++;
	f->id = id;
	f->verdict = verdict;
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
}

void doctor_mend(struct report *r, const char *fmt, ...)
{
	struct finding *f = &r->finding[r->nr - 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->mend, sizeof(f->mend), fmt, ap);
	va_end(ap);
}

bool doctor_bad(const struct report *r)
{
	int i;

	for (i = 0; i < r->nr; i++)
		if (r->finding[i].verdict == DOCTOR_BAD)
			return true;
	return false;
}

bool read_line(const char *path, char *line, size_t size)
{
	FILE *f = fopen(path, "re");
	bool ok;

	if (!f)
		return false;
	ok = fgets(line, size, f);
	fclose(f);
	if (ok)
		line[strcspn(line, "\n")] = 0;
	return ok;
}

long read_number(const char *path, long missing)
{
	char line[64], *end;
	long value;

	if (!read_line(path, line, sizeof(line)))
		return missing;
	value = strtol(line, &end, 0);
	return end == line ? missing : value;
}

bool in_container(void)
{
	return !access("/run/systemd/container", F_OK) || !access("/run/.containerenv", F_OK) ||
	       !access("/.dockerenv", F_OK);
}

/* Later ones use what earlier ones have found: the order matters. */
static void examine(struct report *r)
{
	doctor_cpu(r);
	doctor_kernel(r);
	doctor_module(r);
	doctor_signature(r);
	doctor_library(r);
	doctor_device(r);
	doctor_tracer(r);
	doctor_try_to_place(r);
	doctor_hooks(r);
	doctor_limits(r);
	doctor_placed(r);
}

int cmd_doctor(int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' },
						 { "help", no_argument, NULL, 'h' },
						 {} };
	static struct report report = { .fd = -1, .place_error = -1 };
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, ":jh", options, NULL)) >= 0) {
		switch (c) {
		case 'j':
			json = true;
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			return wrong_option("doctor", options, argv, c);
		}
	}
	if (optind < argc)
		return wrong_usage("doctor", "it takes no arguments such as '%s'", argv[optind]);
	examine(&report);
	if (report.fd >= 0)
		close(report.fd);
	if (!json)
		doctor_print(&report, stdout);
	errno = 0;
	if ((json && !doctor_print_json(&report, stdout)) || fflush(stdout)) {
		complain("doctor: cannot write: %s",
			 errno ? strerror(errno) : "a text is not UTF-8, or memory is short");
		return 1;
	}
	return doctor_bad(&report) ? 1 : 0;
}
