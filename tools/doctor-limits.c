// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* rpal doctor: how much of what is limited is in use. */
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"

#define USERS	   "/sys/kernel/debug/rpal/users"
#define PARAMETERS "/sys/module/rpal/parameters/"

enum { PLACED, SERVICES, THREADS, LINKS, NR_LIMITS };

static const char *const names[NR_LIMITS] = { "placed", "services", "threads", "links" };
static const char *const things[NR_LIMITS] = { "placed programs", "services", "registered threads",
					       "requests for links" };

/* 0: no limit */
static void read_limits(long limit[NR_LIMITS])
{
	char path[128];
	int i;

	for (i = 0; i < NR_LIMITS; i++) {
		snprintf(path, sizeof(path), PARAMETERS "user_%s", names[i]);
		limit[i] = read_number(path, 0);
	}
}

static void say_user(struct report *r, unsigned int uid, const unsigned int count[NR_LIMITS],
		     const long limit[NR_LIMITS])
{
	struct passwd *user = getpwuid(uid);
	char text[240] = "", name[40], of[32];
	int i, full = -1;
	size_t len;

	snprintf(name, sizeof(name), "%u", uid);
	if (user)
		snprintf(name, sizeof(name), "%s", user->pw_name);
	for (i = 0; i < NR_LIMITS; i++) {
		len = strlen(text);
		snprintf(of, sizeof(of), " of %ld", limit[i]);
		snprintf(text + len, sizeof(text) - len, "%s%u%s %s", i ? ", " : "", count[i],
			 limit[i] ? of : "", things[i]);
		if (limit[i] && count[i] >= limit[i] && full < 0)
			full = i;
	}
	doctor_say(r, "limits", full < 0 ? DOCTOR_OK : DOCTOR_NOTE, "user %s has %s%s", name, text,
		   full < 0 ? "" : ", and so gets no more of what is used up");
	if (full >= 0)
		doctor_mend(r, "echo %ld >" PARAMETERS "user_%s", limit[full] * 2, names[full]);
}

static void check_users(struct report *r, FILE *f, const long limit[NR_LIMITS])
{
	unsigned int uid, count[NR_LIMITS], placed = 0, users = 0;
	char line[128];

	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%u %u %u %u %u", &uid, &count[PLACED], &count[SERVICES],
			   &count[THREADS], &count[LINKS]) != 5)
			continue; /* the heading */
		placed += count[PLACED];
		/* There may be many, and the first ones say enough. */
		if (users++ < 8)
			say_user(r, uid, count, limit);
	}
	if (r->answers && placed >= r->query.max_services) {
		doctor_say(r, "slots", DOCTOR_BAD,
			   "all %u slots are taken, so no more programs can be placed", placed);
		doctor_mend(r, "end some of those that 'rpal ps' shows");
	} else if (!users) {
		doctor_say(r, "limits", DOCTOR_OK, "no program is placed now");
	}
}

void doctor_limits(struct report *r)
{
	long limit[NR_LIMITS];
	FILE *f;

	if (!r->answers)
		return;
	read_limits(limit);
	f = fopen(USERS, "re");
	if (f) {
		check_users(r, f, limit);
		fclose(f);
	} else if (geteuid()) {
		doctor_say(r, "limits", DOCTOR_NOTE,
			   "a user can have %ld placed programs, %ld services, %ld registered "
			   "threads and %ld requests for links (0: any number); only root can see "
			   "how many are in use",
			   limit[PLACED], limit[SERVICES], limit[THREADS], limit[LINKS]);
	}
}
