// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The report of rpal doctor, for people and as JSON. */
#include <jansson.h>
#include <stdio.h>

#include "doctor.h"

static const char *const names[] = {
	[DOCTOR_OK] = "ok",
	[DOCTOR_NOTE] = "note",
	[DOCTOR_BAD] = "bad",
};

static int count(const struct report *r, enum verdict verdict)
{
	int i, n = 0;

	for (i = 0; i < r->nr; i++)
		n += r->finding[i].verdict == verdict;
	return n;
}

void doctor_print(const struct report *r, FILE *to)
{
	const struct finding *f;
	int bad = count(r, DOCTOR_BAD);

	for (f = r->finding; f < r->finding + r->nr; f++) {
		fprintf(to, "%-4s  %-16s  %s\n", names[f->verdict], f->id, f->text);
		if (f->mend[0])
			fprintf(to, "%24s-> %s\n", "", f->mend);
	}
	if (bad)
		fprintf(to, "\nCalls will not work: %d line%s bad.%s\n", bad,
			bad == 1 ? " is" : "s are", bad == 1 ? "" : " Mend the first one first.");
	else
		fputs("\nCalls will work.\n", to);
}

bool doctor_print_json(const struct report *r, FILE *to)
{
	json_t *checks = json_array(), *all, *check;
	const struct finding *f;
	bool ok = true;

	for (f = r->finding; f < r->finding + r->nr; f++) {
		/* Text that is not UTF-8 makes it fail. */
		check = json_pack("{s:s, s:s, s:s, s:s?}", "id", f->id, "status", names[f->verdict],
				  "text", f->text, "mend", f->mend[0] ? f->mend : NULL);
		ok = ok && check && !json_array_append_new(checks, check);
	}
	all = json_pack("{s:s, s:b, s:o}", "version", RPAL_LIB_VERSION, "works",
			!count(r, DOCTOR_BAD), "checks", checks);
	ok = ok && all && !json_dumpf(all, to, JSON_INDENT(2)) && fputc('\n', to) != EOF;
	json_decref(all);
	return ok;
}
