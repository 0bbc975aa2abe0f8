// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Placement at link time: a program linked with this object asks for its slot
 * itself, whenever it is started.
 *
 * Before any constructor and before main() it looks whether it was placed, and
 * if not, asks the module for it and executes itself again. The environment
 * variable below keeps it from doing so twice; it is removed again.
 *
 * Why not a note in the ELF file that the module reads at each exec? Because a
 * module that is loaded but not in use is to have nothing on any path, and
 * this way asks only when such a program is started.
 *
 * Nothing is done for set-user-id programs, which cannot be placed. When it
 * fails, a line says why and the program goes on, unplaced: rpal_init() then
 * fails, and what needs no RPAL still works.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/rpal.h>

#define GUARD	 "RPAL_PLACED_EXEC"
#define SELF_EXE "/proc/self/exe"

/* Where the program's ELF header is in memory; from the linker. */
extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden")));

/* The C library's own idea of it is not there yet. */
static const char *name = "?";

static void complain(const char *what, const char *why)
{
	dprintf(STDERR_FILENO, "%s: not placed for RPAL: %s%s%s\n", name, what, why ? ": " : "",
		why ? why : "");
}

static int place(int fd)
{
	struct rpal_place req = { .size = sizeof(req) };

	return ioctl(fd, RPAL_IOC_PLACE, &req);
}

/* Was the program given to the dynamic loader by name? Then exe is the loader. */
static int exe_is_self(void)
{
	Elf64_Ehdr header;
	int fd = open(SELF_EXE, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, &header, sizeof(header));
	close(fd);
	return n == sizeof(header) && !memcmp(&header, &__ehdr_start, sizeof(header));
}

/* The name by which it was started makes a better entry in ps than "exe". */
static const char *exe_path(char *buf, size_t size)
{
	struct stat a, b;
	ssize_t n = readlink(SELF_EXE, buf, size - 1);

	if (n <= 0 || n == (ssize_t)size - 1)
		return SELF_EXE;
	buf[n] = '\0';
	if (stat(buf, &a) || stat(SELF_EXE, &b) || a.st_dev != b.st_dev || a.st_ino != b.st_ino)
		return SELF_EXE;
	return buf;
}

static void explain_exec(int err)
{
	switch (err) {
	case ELIBBAD:
		complain("it is no position-independent program (link it with -pie)", NULL);
		break;
	case ENOSPC:
		complain("no slot is free; 'rpal ps' shows who has them", NULL);
		break;
	case EDQUOT:
		complain("this user has as many placed programs as one may have (module parameter "
			 "user_placed)",
			 NULL);
		break;
	case EPERM:
		complain("set-user-id programs cannot be placed", NULL);
		break;
	case EBUSY:
	case ENODEV:
		complain("the module cannot hook the kernel; 'rpal status' says why", NULL);
		break;
	default:
		complain("executing itself again failed", strerror(err));
	}
}

static void again(int fd, char **argv, char **envp)
{
	char path[4096];
	size_t n = 0;

	if (!exe_is_self()) {
		complain("it was started through the dynamic loader; use 'rpal run'", NULL);
		return;
	}
	if (place(fd)) {
		complain(errno == EOPNOTSUPP ? "this CPU has no protection keys" :
					       "the module refuses",
			 errno == EOPNOTSUPP ? NULL : strerror(errno));
		return;
	}
	while (envp[n])
		n++;
	char *env[n + 2];

	memcpy(env, envp, n * sizeof(*env));
	env[n] = (char *)GUARD "=1";
	env[n + 1] = NULL;
	execve(exe_path(path, sizeof(path)), argv, env);
	explain_exec(errno);
}

/* getenv() and unsetenv() do not work yet either. */
static int take_guard(char **envp)
{
	size_t len = strlen(GUARD);
	char **to = envp;

	for (; *envp; envp++)
		if (strncmp(*envp, GUARD, len) || (*envp)[len] != '=')
			*to++ = *envp;
	*to = NULL;
	return to != envp;
}

static void rpal_placed(int argc, char **argv, char **envp)
{
	struct rpal_self self = { .size = sizeof(self) };
	int fd, tried, saved = errno;

	if (getauxval(AT_SECURE))
		return;
	if (argc > 0)
		name = argv[0];
	tried = take_guard(envp);
	fd = open("/dev/rpal", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		complain("/dev/rpal", strerror(errno));
	} else {
		if (ioctl(fd, RPAL_IOC_SELF, &self))
			complain("the module does not answer", strerror(errno));
		else if (self.state & RPAL_SELF_PLACED)
			;
		else if (tried)
			complain("the module has not placed it", NULL);
		else
			again(fd, argv, envp);
		close(fd);
	}
	errno = saved;
}

__attribute__((section(".preinit_array"), used)) static void (*const start)(int, char **,
									    char **) = rpal_placed;
