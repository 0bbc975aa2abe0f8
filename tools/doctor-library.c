// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* rpal doctor: is librpal where the loader looks for it, and of the same release? */
#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"

/* Somewhere the loader could look for it, but does not know of it yet. */
static bool lies_somewhere(char *path, size_t size)
{
	static const char *const dirs[] = { "/usr/local/lib", "/usr/lib/x86_64-linux-gnu",
					    "/usr/lib", "/usr/lib64" };
	size_t i;

	for (i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		snprintf(path, size, "%s/%s", dirs[i], RPAL_SONAME);
		if (!access(path, F_OK))
			return true;
	}
	return false;
}

static void say_missing(struct report *r)
{
	char path[PATH_MAX];

	if (lies_somewhere(path, sizeof(path))) {
		doctor_say(r, "library", DOCTOR_BAD, "%s is there, but the loader does not find it",
			   path);
		doctor_mend(r, "ldconfig");
	} else {
		doctor_say(r, "library", DOCTOR_BAD,
			   RPAL_SONAME
			   " is not installed, which programs that call are linked with");
		doctor_mend(r, "install the package librpal0, or run 'make install' in the source");
	}
}

/* The file that the link leads to is named after the release. */
void doctor_library(struct report *r)
{
	static const char name[] = "librpal.so.";
	void *lib = dlopen(RPAL_SONAME, RTLD_LAZY | RTLD_LOCAL);
	char real[PATH_MAX];
	struct link_map *map;
	const char *version;

	if (!lib) {
		say_missing(r);
		return;
	}
	if (dlinfo(lib, RTLD_DI_LINKMAP, &map) || !realpath(map->l_name, real)) {
		doctor_say(r, "library", DOCTOR_OK, RPAL_SONAME " is installed");
	} else {
		version = strstr(real, name);
		version = version ? version + strlen(name) : "";
		if (!strcmp(version, RPAL_LIB_VERSION)) {
			doctor_say(r, "library", DOCTOR_OK, "programs find the library: %s", real);
		} else {
			doctor_say(r, "library", DOCTOR_NOTE,
				   "programs find the library %s, and this tool is of version " RPAL_LIB_VERSION,
				   real);
			doctor_mend(r, "install both from one release");
		}
	}
	dlclose(lib);
}
