// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* rpal doctor: is the module built for this kernel, loaded, and the one that is built? */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <libkmod.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <syslog.h>
#include <unistd.h>

#include "doctor-module.h"
#include "doctor.h"

#define LOADED	 "/sys/module/rpal"
#define DKMS	 "/var/lib/dkms/rpal"
#define DISABLED "/proc/sys/kernel/modules_disabled"

/* --- what lies in the file system */

/* By name, among the modules of the running kernel. */
static struct kmod_module *look_up(struct kmod_ctx *ctx)
{
	struct kmod_module *mod = NULL;
	struct kmod_list *list = NULL;

	if (!kmod_module_new_from_lookup(ctx, "rpal", &list) && list)
		mod = kmod_module_get_module(list);
	kmod_module_unref_list(list);
	if (mod && !kmod_module_get_path(mod)) {
		kmod_module_unref(mod);
		mod = NULL;
	}
	return mod;
}

static void read_info(struct kmod_module *mod, struct module_file *file)
{
	struct kmod_list *list = NULL, *l;
	const char *key;

	snprintf(file->path, sizeof(file->path), "%s", kmod_module_get_path(mod));
	if (kmod_module_get_info(mod, &list) < 0)
		return;
	kmod_list_foreach(l, list)
	{
		key = kmod_module_info_get_key(l);
		if (!strcmp(key, "srcversion"))
			snprintf(file->srcversion, sizeof(file->srcversion), "%s",
				 kmod_module_info_get_value(l));
		else if (!strcmp(key, "signer"))
			snprintf(file->signer, sizeof(file->signer), "%s",
				 kmod_module_info_get_value(l));
		else if (!strcmp(key, "sig_id"))
			file->is_signed = true;
	}
	kmod_module_info_free_list(list);
}

/* modprobe.d says that nobody is to load it but by its name. */
static bool is_blacklisted(struct kmod_ctx *ctx)
{
	struct kmod_list *in = NULL, *out = NULL;
	bool listed;

	if (kmod_module_new_from_lookup(ctx, "rpal", &in) || !in)
		return false;
	if (kmod_module_apply_filter(ctx, KMOD_FILTER_BLACKLIST, in, &out))
		return false;
	listed = !out;
	kmod_module_unref_list(in);
	kmod_module_unref_list(out);
	return listed;
}

bool find_module_file(struct module_file *file)
{
	struct kmod_ctx *ctx = kmod_new(NULL, NULL);
	struct kmod_module *mod;

	memset(file, 0, sizeof(*file));
	if (!ctx)
		return false;
	mod = look_up(ctx);
	if (mod) {
		read_info(mod, file);
		file->blacklisted = is_blacklisted(ctx);
		kmod_module_unref(mod);
	}
	kmod_unref(ctx);
	return file->path[0];
}

bool find_dkms_version(char *version, size_t size)
{
	DIR *dir = opendir(DKMS);
	struct dirent *d;
	bool found = false;
	char path[PATH_MAX];

	/* Each version that dkms knows has a directory with a link to its source. */
	while (dir && (d = readdir(dir))) {
		snprintf(path, sizeof(path), DKMS "/%s/source", d->d_name);
		if (d->d_name[0] == '.' || access(path, F_OK))
			continue;
		if (!found || strverscmp(d->d_name, version) > 0)
			snprintf(version, size, "%s", d->d_name);
		found = true;
	}
	if (dir)
		closedir(dir);
	return found;
}

/* The source for dkms, where dkms was not told of it. */
static bool find_source(char *version, size_t size)
{
	static const char prefix[] = "/usr/src/rpal-";
	glob_t found;
	bool ok = !glob("/usr/src/rpal-*/dkms.conf", 0, NULL, &found);
	const char *from;

	if (!ok)
		return false;
	from = found.gl_pathv[found.gl_pathc - 1] + strlen(prefix);
	snprintf(version, size, "%.*s", (int)strcspn(from, "/"), from);
	globfree(&found);
	return true;
}

/* --- built? */

static void say_not_built(struct report *r, const char *release)
{
	char version[64], log[PATH_MAX];

	if (!find_dkms_version(version, sizeof(version))) {
		doctor_say(r, "module-built", DOCTOR_BAD,
			   "the module is not installed for kernel %s, and dkms does not know it",
			   release);
		if (find_source(version, sizeof(version)))
			doctor_mend(r, "dkms install rpal/%s -k %s", version, release);
		else
			doctor_mend(r, "install the package rpal-dkms, or run 'make install' in "
				       "the source");
		return;
	}
	snprintf(log, sizeof(log), DKMS "/%s/build/make.log", version);
	doctor_say(r, "module-built", DOCTOR_BAD, "dkms has not built the module for kernel %s%s%s",
		   release, access(log, F_OK) ? "" : "; why its last build failed is in ",
		   access(log, F_OK) ? "" : log);
	doctor_mend(r, "dkms install rpal/%s -k %s", version, release);
}

static void check_built(struct report *r, const struct module_file *file, const char *release)
{
	if (file->path[0]) {
		doctor_say(r, "module-built", DOCTOR_OK, "the module is built for this kernel: %s",
			   file->path);
	} else if (r->loaded) {
		doctor_say(r, "module-built", DOCTOR_NOTE,
			   "the module is loaded, but not installed for this kernel: it will not "
			   "come again after a reboot");
		doctor_mend(r,
			    "install the package rpal-dkms, or run 'make install' in the source");
	} else {
		say_not_built(r, release);
	}
}

/* --- loaded? */

/* A refusal to load, as the module or the kernel itself puts it. */
static bool is_refusal(int priority, const char *text)
{
	return (!strncmp(text, "rpal: ", 6) && (priority & 7) <= LOG_ERR) ||
	       strstr(text, "unsigned module loading is restricted") ||
	       (!strncmp(text, "Loading of ", 11) && strstr(text, " is rejected"));
}

/* The last refusal in the kernel's log, which only root may read. */
static void kernel_words(char *words, size_t size)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char record[4096], *text;
	ssize_t n;

	words[0] = 0;
	if (fd < 0)
		return;
	/* One record at a time; EPIPE: some were overwritten meanwhile. */
	while ((n = read(fd, record, sizeof(record) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		if (n < 0)
			continue;
		record[n] = 0;
		text = strchr(record, ';');
		if (!text)
			continue;
		text++;
		text[strcspn(text, "\n")] = 0;
		if (!strncmp(text, "rpal: ready", 11))
			words[0] = 0;
		else if (is_refusal(atoi(record), text))
			snprintf(words, size, "%s", text);
	}
	close(fd);
}

static void check_loaded(struct report *r)
{
	char words[240];

	if (r->loaded) {
		doctor_say(r, "module-loaded", DOCTOR_OK, "the module is loaded");
		return;
	}
	if (read_number(DISABLED, 0) == 1) {
		doctor_say(r, "module-loaded", DOCTOR_BAD,
			   "the module is not loaded, and this kernel loads none until it is "
			   "booted again (kernel.modules_disabled)");
		doctor_mend(r, "reboot");
		return;
	}
	kernel_words(words, sizeof(words));
	doctor_say(r, "module-loaded", DOCTOR_BAD, "the module is not loaded%s%s",
		   words[0] ? "; the last that the kernel has said of it: " : "", words);
	doctor_mend(r, in_container() ? "on the host of this container, modprobe rpal" :
					"modprobe rpal");
}

/* Is it loaded by the next boot? */
static void check_boot(struct report *r, const struct module_file *file)
{
	if (!file->path[0] || access("/run/systemd/system", F_OK))
		return;
	if (!access("/etc/modules-load.d/rpal.conf", F_OK) ||
	    !access("/usr/lib/modules-load.d/rpal.conf", F_OK) ||
	    !access("/lib/modules-load.d/rpal.conf", F_OK)) {
		if (!file->blacklisted)
			return;
		doctor_say(r, "module-boot", DOCTOR_NOTE,
			   "a line 'blacklist rpal' in modprobe.d keeps the module from being "
			   "loaded at boot");
		doctor_mend(r, "remove that line: grep -r 'blacklist rpal' /etc/modprobe.d");
		return;
	}
	doctor_say(r, "module-boot", DOCTOR_NOTE, "the module is not loaded at boot");
	doctor_mend(r, "echo rpal >/etc/modules-load.d/rpal.conf");
}

/* After an upgrade the old one is there until somebody loads the new one. */
static void check_current(struct report *r, const struct module_file *file)
{
	char loaded[64];

	if (!r->loaded || !file->srcversion[0] ||
	    !read_line(LOADED "/srcversion", loaded, sizeof(loaded)) ||
	    !strcmp(loaded, file->srcversion))
		return;
	doctor_say(r, "module-current", DOCTOR_NOTE,
		   "another build of the module is installed than is loaded; it can be loaded when "
		   "all programs that use the old one have ended, and will be at the next boot");
	doctor_mend(r, "modprobe -r rpal && modprobe rpal");
}

void doctor_module(struct report *r)
{
	struct module_file file;
	struct utsname u;

	if (uname(&u))
		return;
	if (in_container()) {
		check_loaded(r);
		return;
	}
	/* It is not built for this kernel, and there is nothing to load. */
	if (!find_module_file(&file) && !r->loaded && !r->supported)
		return;
	check_built(r, &file, u.release);
	check_loaded(r);
	check_current(r, &file);
	check_boot(r, &file);
}
