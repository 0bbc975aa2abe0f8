/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the checks of rpal doctor share. */
#ifndef _TOOLS_DOCTOR_H
#define _TOOLS_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <linux/rpal.h>

enum verdict {
	DOCTOR_OK,
	DOCTOR_NOTE, /* does not keep calls from working, but is good to know */
	DOCTOR_BAD,  /* calls will not work */
};

/**
 * struct finding - what one check has found
 * @id:		names the check; scripts rely on it
 * @verdict:	one of the above
 * @text:	what is the case
 * @mend:	the command that mends it, or what to do; may be empty
 */
struct finding {
	const char *id;
	enum verdict verdict;
	char text[400];
	char mend[300];
};

#define MAX_FINDINGS 64

/**
 * struct report - all findings, and what later checks want to know of earlier ones
 * @finding:	in the order in which they are shown
 * @nr:		how many
 * @supported:	the kernel is one that the module is made for
 * @loaded:	the module is loaded
 * @fd:		the device, -1 if it cannot be opened
 * @query:	what the module says; valid if @answers
 * @answers:	the module has answered, and speaks our version
 * @place_error: 0 if a program could be placed, an errno if not, -1 if that was not tried
 */
struct report {
	struct finding finding[MAX_FINDINGS];
	int nr;
	bool supported;
	bool loaded;
	int fd;
	struct rpal_query query;
	bool answers;
	int place_error;
};

/* Add a finding. */
void doctor_say(struct report *r, const char *id, enum verdict verdict, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Add to the last one what mends it. */
void doctor_mend(struct report *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Is anything wrong so far? */
bool doctor_bad(const struct report *r);

/* The checks, each in a file of its own. */
void doctor_cpu(struct report *r);
void doctor_kernel(struct report *r);
void doctor_module(struct report *r);
void doctor_signature(struct report *r);
void doctor_device(struct report *r);
void doctor_tracer(struct report *r);
void doctor_hooks(struct report *r);
void doctor_limits(struct report *r);
void doctor_library(struct report *r);
/* Tries it, before the hooks are looked at; what came of it is said behind that. */
void doctor_try_to_place(struct report *r);
void doctor_placed(struct report *r);

void doctor_print(const struct report *r, FILE *to);
/* False if it could not be written. */
bool doctor_print_json(const struct report *r, FILE *to);

/* The first line of a small file without its end; false if it cannot be read. */
bool read_line(const char *path, char *line, size_t size);
/* Kernel and modules are the host's affair then. */
bool in_container(void);
/* A number in a file; @missing if there is none. */
long read_number(const char *path, long missing);

#endif /* _TOOLS_DOCTOR_H */
