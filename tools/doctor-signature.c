// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* rpal doctor: does the kernel want signed modules, and is ours one that it trusts? */
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "doctor-module.h"
#include "doctor.h"

#define LOCKDOWN    "/sys/kernel/security/lockdown"
#define ENFORCED    "/sys/module/module/parameters/sig_enforce"
#define EFI	    "/sys/firmware/efi"
#define SECURE_BOOT EFI "/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
#define DKMS_CONF   "/etc/dkms/framework.conf"
#define DKMS_KEY    "/var/lib/dkms/mok.pub"

/* Who wants it; NULL if nobody does. */
static const char *wanted_by(void)
{
	char line[64];

	if (read_line(LOCKDOWN, line, sizeof(line))) {
		if (strstr(line, "[integrity]"))
			return "the kernel is locked down (lockdown=integrity)";
		if (strstr(line, "[confidentiality]"))
			return "the kernel is locked down (lockdown=confidentiality)";
	}
	if (read_line(ENFORCED, line, sizeof(line)) && line[0] == 'Y')
		return "module.sig_enforce is on";
	return NULL;
}

/* Four bytes of attributes come before the value. */
static bool is_secure_boot(void)
{
	unsigned char var[5];
	FILE *f = fopen(SECURE_BOOT, "re");
	bool on;

	if (!f)
		return false;
	on = fread(var, 1, sizeof(var), f) == sizeof(var) && var[4] == 1;
	fclose(f);
	return on;
}

/* The key that dkms signs with, as its configuration says. */
static void find_key(char *key, size_t size)
{
	static const char word[] = "mok_certificate=";
	char line[256], *from;
	FILE *f = fopen(DKMS_CONF, "re");

	snprintf(key, size, "%s", DKMS_KEY);
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, word, strlen(word)))
			continue;
		from = line + strlen(word);
		from += strspn(from, "\"'");
		snprintf(key, size, "%.*s", (int)strcspn(from, "\"'\n"), from);
	}
	if (f)
		fclose(f);
}

enum enrolled { KEY_MISSING, KEY_ENROLLED, KEY_UNKNOWN };

/* mokutil knows, if it is there. */
static enum enrolled is_enrolled(const char *key)
{
	char answer[512] = "";
	int p[2], status;
	ssize_t n;
	pid_t pid;

	if (pipe(p))
		return KEY_UNKNOWN;
	pid = fork();
	if (!pid) {
		dup2(p[1], STDOUT_FILENO);
		dup2(p[1], STDERR_FILENO);
		close(p[0]);
		execlp("mokutil", "mokutil", "--test-key", key, NULL);
		_exit(127);
	}
	close(p[1]);
	n = pid > 0 ? read(p[0], answer, sizeof(answer) - 1) : 0;
	close(p[0]);
	answer[n > 0 ? n : 0] = 0;
	if (pid > 0)
		waitpid(pid, &status, 0);
	if (strstr(answer, "already enrolled"))
		return KEY_ENROLLED;
	return strstr(answer, "is not enrolled") ? KEY_MISSING : KEY_UNKNOWN;
}

static void say_unsigned(struct report *r, const char *who, enum verdict verdict)
{
	char version[64];
	struct utsname u;

	doctor_say(r, "module-signature", verdict, "%s, but the module is not signed%s", who,
		   r->loaded ? ": it was loaded before, and will not be again" : "");
	if (access(EFI, F_OK))
		doctor_mend(r, "take lockdown= and module.sig_enforce off the kernel command line, "
			       "and reboot: without EFI no key can be enrolled");
	else if (find_dkms_version(version, sizeof(version)) && !uname(&u))
		doctor_mend(r,
			    "apt-get install openssl mokutil && dkms install --force rpal/%s -k %s",
			    version, u.release);
	else
		doctor_mend(r, "install the package rpal-dkms: dkms signs what it builds");
}

static void say_signed(struct report *r, const char *who, const struct module_file *file)
{
	enum verdict verdict = r->loaded ? DOCTOR_NOTE : DOCTOR_BAD;
	enum enrolled enrolled;
	char key[256];

	find_key(key, sizeof(key));
	enrolled = is_enrolled(key);
	if (enrolled == KEY_ENROLLED || (enrolled == KEY_UNKNOWN && r->loaded)) {
		doctor_say(r, "module-signature", DOCTOR_OK,
			   "%s, and the module is signed by '%s'%s", who, file->signer,
			   enrolled == KEY_ENROLLED ? ", whose key is enrolled" : "");
		return;
	}
	if (access(key, F_OK)) {
		doctor_say(r, "module-signature", DOCTOR_NOTE,
			   "%s, and the module is signed by '%s'; whether the kernel trusts that "
			   "key is seen when it is loaded",
			   who, file->signer);
		return;
	}
	if (access(EFI, F_OK)) {
		doctor_say(r, "module-signature", verdict,
			   "%s, and the module is signed by '%s', whose key cannot be enrolled on "
			   "a machine without EFI",
			   who, file->signer);
		doctor_mend(r, "take lockdown= and module.sig_enforce off the kernel command line, "
			       "and reboot");
		return;
	}
	doctor_say(r, "module-signature", verdict,
		   "%s, and the module is signed by '%s', whose key is not enrolled%s; its "
		   "password is asked for again at the next boot, in a blue menu",
		   who, file->signer, enrolled == KEY_MISSING ? "" : ", as far as can be seen");
	doctor_mend(r, "%smokutil --import %s && reboot",
		    enrolled == KEY_MISSING ? "" : "apt-get install mokutil && ", key);
}

void doctor_signature(struct report *r)
{
	const char *who = wanted_by();
	struct module_file file;

	if (!who && is_secure_boot() && access(LOCKDOWN, R_OK))
		who = "Secure Boot is on";
	if (!who || !find_module_file(&file))
		return;
	if (file.is_signed)
		say_signed(r, who, &file);
	else
		say_unsigned(r, who, r->loaded ? DOCTOR_NOTE : DOCTOR_BAD);
}
