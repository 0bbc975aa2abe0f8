// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* rpal doctor: is the kernel one that the module is made for, and are its headers here? */
#include <dirent.h>
#include <limits.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "doctor-module.h"
#include "doctor.h"

#define MODULES "/lib/modules"

/* Of the lines "6.1 6.12"? 6.10.3 is of neither. */
static bool is_supported(const char *release)
{
	const char *line = RPAL_KERNEL_LINES;
	size_t len;

	for (; *line; line += len + !!line[len]) {
		len = strcspn(line, " ");
		if (len && !strncmp(release, line, len) &&
		    (release[len] == '.' || release[len] == '-' || !release[len]))
			return true;
	}
	return false;
}

/* The same for people: "6.1 and 6.12". */
static const char *lines_in_words(void)
{
	static char words[128];
	const char *line = RPAL_KERNEL_LINES;
	size_t len, n = 0;

	for (; *line && n < sizeof(words); line += len + !!line[len]) {
		len = strcspn(line, " ");
		n += snprintf(words + n, sizeof(words) - n, "%s%.*s", n ? " and " : "", (int)len,
			      line);
	}
	return words;
}

static bool has_headers(const char *release)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), MODULES "/%s/build/Makefile", release);
	return !access(path, F_OK);
}

static bool has_image(const char *release)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/boot/vmlinuz-%s", release);
	return !access(path, F_OK);
}

/* Another kernel to boot that would do; @headers: it must have its headers, too. */
static bool find_other(const char *running, bool headers, char found[NAME_MAX + 1])
{
	DIR *dir = opendir(MODULES);
	struct dirent *d;
	bool ok = false;

	while (dir && !ok && (d = readdir(dir))) {
		ok = strcmp(d->d_name, running) && is_supported(d->d_name) &&
		     has_image(d->d_name) && (!headers || has_headers(d->d_name));
		if (ok)
			strcpy(found, d->d_name);
	}
	if (dir)
		closedir(dir);
	return ok;
}

static void check_supported(struct report *r, const struct utsname *u)
{
	char other[NAME_MAX + 1];

	if (strcmp(u->machine, "x86_64")) {
		doctor_say(r, "kernel-supported", DOCTOR_BAD,
			   "this machine is %s, and the module is for x86_64 only", u->machine);
		return;
	}
	r->supported = is_supported(u->release);
	if (r->supported) {
		doctor_say(r, "kernel-supported", DOCTOR_OK, "kernel %s is supported", u->release);
		return;
	}
	if (r->loaded) {
		doctor_say(r, "kernel-supported", DOCTOR_NOTE,
			   "kernel %s is not supported: the module is loaded, but tested on "
			   "%s only",
			   u->release, lines_in_words());
		return;
	}
	doctor_say(r, "kernel-supported", DOCTOR_BAD,
		   "kernel %s is not supported: the module is made for %s", u->release,
		   lines_in_words());
	if (find_other(u->release, false, other))
		doctor_mend(r, "boot kernel %s, which is installed", other);
	else
		doctor_mend(r, "apt-get install linux-image-amd64, and boot that kernel");
}

/* They are of no use to who has the module already. */
static void check_headers(struct report *r, const struct utsname *u)
{
	char other[NAME_MAX + 1];
	struct module_file file;
	bool built = r->loaded || find_module_file(&file);
	enum verdict missing = built ? DOCTOR_NOTE : DOCTOR_BAD;

	if (has_headers(u->release)) {
		doctor_say(r, "kernel-headers", DOCTOR_OK,
			   "the headers of the running kernel are installed");
		return;
	}
	if (find_other(u->release, true, other)) {
		doctor_say(r, "kernel-headers", missing,
			   "the headers of the running kernel are not installed, but those of "
			   "%s are",
			   other);
		doctor_mend(r, "reboot into kernel %s", other);
		return;
	}
	doctor_say(r, "kernel-headers", missing,
		   "the headers of the running kernel are not installed%s",
		   built ? "; without them the module cannot be built again" :
			   ", which the module is built with");
	doctor_mend(r, "apt-get install linux-headers-%s", u->release);
}

void doctor_kernel(struct report *r)
{
	struct utsname u;

	if (uname(&u))
		return;
	check_supported(r, &u);
	/* To build on a kernel that is not supported is no way out. */
	if (r->supported && !in_container())
		check_headers(r, &u);
}
