// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * rpal doctor: the module's hooks in the kernel, the tracer that they need, and who
 * else holds a function that is to be hooked.
 *
 * Only one at a time may divert the calls of a function: the module, a live patch, or
 * another module.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"

#define TRACER	  "/proc/sys/kernel/ftrace_enabled"
#define HEALTH	  "/sys/kernel/debug/rpal/health"
#define LIVEPATCH "/sys/kernel/livepatch"
#define MAX_HOOKS 64

struct hook {
	char name[64];
	bool diverts;
	bool installed;
};

struct hooks {
	struct hook hook[MAX_HOOKS];
	int nr;
	char verdict[128]; /* "ok", or "broken: " and what */
};

/* --- what the module says; false if this user may not read that */

static bool read_health(struct hooks *hooks)
{
	char line[256], kind[16], installed[8];
	FILE *f = fopen(HEALTH, "re");
	struct hook *h;

	memset(hooks, 0, sizeof(*hooks));
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		h = &hooks->hook[hooks->nr];
		if (!strncmp(line, "hook kind ", 10))
			continue;
		if (!strncmp(line, "ok", 2) || !strncmp(line, "broken: ", 8)) {
			snprintf(hooks->verdict, sizeof(hooks->verdict), "%.*s",
				 (int)sizeof(hooks->verdict) - 1, line);
		} else if (hooks->nr < MAX_HOOKS &&
			   sscanf(line, "%63s %15s %*s %7s", h->name, kind, installed) == 3) {
			h->diverts = !strcmp(kind, "diverts");
			h->installed = !strcmp(installed, "yes");
			hooks->nr++;
		}
	}
	fclose(f);
	return hooks->verdict[0];
}

/* --- who else has a function */

/* One that we have to divert, and do not divert now. */
static bool is_wanted(const struct hooks *hooks, const char *function)
{
	const struct hook *h;

	for (h = hooks->hook; h < hooks->hook + hooks->nr; h++)
		if (h->diverts && !h->installed && !strcmp(h->name, function))
			return true;
	return false;
}

/* In livepatch/PATCH/vmlinux each function that is patched has a directory "NAME,1". */
static void check_patch(struct report *r, const struct hooks *hooks, const char *patch)
{
	char path[512], function[64];
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), LIVEPATCH "/%s/vmlinux", patch);
	dir = opendir(path);
	while (dir && (d = readdir(dir))) {
		snprintf(function, sizeof(function), "%.*s", (int)strcspn(d->d_name, ","),
			 d->d_name);
		if (!is_wanted(hooks, function))
			continue;
		doctor_say(r, "hook-holder", DOCTOR_BAD,
			   "the live patch %s holds %s, which the module has to hook", patch,
			   function);
		doctor_mend(r, "echo 0 >" LIVEPATCH "/%s/enabled", patch);
		break;
	}
	if (dir)
		closedir(dir);
}

static void check_patches(struct report *r, const struct hooks *hooks)
{
	DIR *dir = opendir(LIVEPATCH);
	struct dirent *d;

	while (dir && (d = readdir(dir)))
		if (d->d_name[0] != '.')
			check_patch(r, hooks, d->d_name);
	if (dir)
		closedir(dir);
}

/*
 * A line of enabled_functions: "NAME (users) R I M tramp: ADDRESS (CALLBACK [MODULE])".
 * I stands for one who diverts calls; of modules there may be several.
 */
static bool holds(char *line, char **function, char *module, size_t size)
{
	char *flags, *end, *from;

	*function = line;
	flags = line + strcspn(line, " ");
	if (!*flags)
		return false;
	*flags++ = 0;
	flags = strchr(flags, ')');
	if (!flags)
		return false;
	end = flags + strcspn(flags, "\t-\n");
	from = memchr(flags, 'I', end - flags);
	module[0] = 0;
	if (!from)
		return false;
	while ((end = strchr(end, '['))) {
		end++;
		snprintf(module, size, "%.*s", (int)strcspn(end, "]"), end);
		/* The trampolines themselves are of a module that there is not. */
		if (strcmp(module, "rpal") && strncmp(module, "__builtin__", 11))
			break;
		module[0] = 0;
	}
	return true;
}

static FILE *open_tracefs(const char *name)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/tracing/%s", name);
	f = fopen(path, "re");
	if (f)
		return f;
	snprintf(path, sizeof(path), "/sys/kernel/debug/tracing/%s", name);
	return fopen(path, "re");
}

/* Live patches are in this list, too, and have been named by then. */
static void check_tracer_users(struct report *r, const struct hooks *hooks)
{
	char line[512], module[64], *function;
	FILE *f = open_tracefs("enabled_functions");

	while (f && fgets(line, sizeof(line), f)) {
		if (!holds(line, &function, module, sizeof(module)) || !is_wanted(hooks, function))
			continue;
		doctor_say(r, "hook-holder", DOCTOR_BAD,
			   "%s%s holds %s, which the module has to hook",
			   module[0] ? "the kernel module " : "another user of the function tracer",
			   module, function);
		if (module[0])
			doctor_mend(r, "rmmod %s", module);
		else
			doctor_mend(r, "remove what holds it: "
				       "/sys/kernel/tracing/enabled_functions says what it calls");
		break;
	}
	if (f)
		fclose(f);
}

/* --- the tracer and the hooks */

void doctor_tracer(struct report *r)
{
	if (read_number(TRACER, 1))
		return;
	doctor_say(r, "function-tracer", DOCTOR_BAD,
		   "the kernel's function tracer is switched off, by which the module hooks "
		   "functions");
	doctor_mend(r, "sysctl kernel.ftrace_enabled=1");
}

static void say_broken(struct report *r, const struct hooks *hooks)
{
	static const char prefix[] = "broken: ";
	bool named = !strncmp(hooks->verdict, prefix, strlen(prefix));

	doctor_say(r, "hooks", DOCTOR_BAD, "the module's hook on %s in the kernel is missing%s",
		   named ? hooks->verdict + strlen(prefix) : "a function",
		   named ? "; the kernel log says more" : "; only root can see which");
	if (named)
		doctor_mend(r, "end all placed programs, then modprobe -r rpal && modprobe rpal");
	else
		doctor_mend(r, "as root, run 'rpal doctor'");
}

/* For root: which, and who may be holding it. */
static void look_closer(struct report *r, const struct hooks *hooks)
{
	int before = r->nr;

	check_patches(r, hooks);
	if (r->nr == before)
		check_tracer_users(r, hooks);
	if (r->nr != before)
		return;
	if (!strncmp(hooks->verdict, "broken: ", 8))
		say_broken(r, hooks);
	else
		doctor_say(r, "hooks", DOCTOR_OK, "the module's hooks in the kernel are well: %s",
			   hooks->verdict);
}

void doctor_hooks(struct report *r)
{
	struct hooks hooks;

	if (!r->answers || !read_number(TRACER, 1))
		return;
	if (read_health(&hooks)) {
		look_closer(r, &hooks);
	} else if (r->query.features & RPAL_FEATURE_BROKEN) {
		say_broken(r, &hooks);
	} else if (geteuid()) {
		doctor_say(r, "hooks", DOCTOR_NOTE,
			   "the module knows of no hook that is missing; only root can see more");
	} else if (access("/sys/kernel/debug/rpal", F_OK)) {
		doctor_say(r, "hooks", DOCTOR_NOTE,
			   "the module knows of no hook that is missing; more is in debugfs, which "
			   "is not mounted");
		doctor_mend(r, "mount -t debugfs none /sys/kernel/debug");
	} else {
		doctor_say(r, "hooks", DOCTOR_NOTE,
			   "the module knows of no hook that is missing; more is in " HEALTH
			   ", which cannot be read: %s",
			   strerror(errno));
	}
}
