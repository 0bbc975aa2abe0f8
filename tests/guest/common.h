/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What the programs that run in a guest share.
 *
 * A program is started without placement and is the driver of its cases. It
 * starts children of itself, placed in slots, and tells them what to do: most
 * of them are puppets, which do one small thing at a time on command, so that
 * a case with several processes reads from top to bottom in one place. Other
 * children have a role of their own.
 *
 * Exit status: 0 all passed, 1 something failed, 77 skipped.
 */
#ifndef TESTS_GUEST_COMMON_H
#define TESTS_GUEST_COMMON_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <linux/rpal.h>

typedef uint32_t u32;
typedef uint64_t u64;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PAGE	      4096UL
#define MB	      (1UL << 20)
#define GB	      (1UL << 30)
#define LOW_END	      RPAL_SLOT_SIZE /* below: private mappings */

#define TEST_SKIP 77
#define TEST_DEV  "/dev/rpal"
/* Children find the socket to their driver, and what else they got, here. */
#define TEST_FD_DRIVER 3
#define TEST_FD_PEER   4
#define TEST_FD_SHARED 5

/* ----------------------------------------------------------------- verdicts */

bool test_check(bool ok, const char *file, int line, const char *cond, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* Say where, what and with which values if @cond does not hold; its value. */
#define CHECK(cond, ...) test_check(!!(cond), __FILE__, __LINE__, #cond, __VA_ARGS__)

#define CHECK_IS(expr, want)                                                  \
	do {                                                                  \
		long is_ = (expr), want_ = (want);                            \
		CHECK(is_ == want_, "%s is %ld, not %ld", #expr, is_, want_); \
	} while (0)

/* A call that must succeed for the test to make sense at all. */
#define MUST(cond)                                           \
	do {                                                 \
		if (!(cond))                                 \
			test_die(__FILE__, __LINE__, #cond); \
	} while (0)

void test_die(const char *file, int line, const char *what) __attribute__((noreturn));

/* One case from begin to end: prints "ok NAME: what" if no check failed. */
void test_begin(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void test_end(void);
void test_skip_case(const char *why);
int test_failures(void);
extern const char *test_name;

/* -------------------------------------------------------------------- roles */

struct test_role {
	const char *name;
	int (*run)(void); /* exit status, 0 also needs no failed check */
};

/*
 * First thing in main(): runs the role and exits in a child, returns in the
 * driver. Skips the whole program if there is no /dev/rpal; adds the roles
 * "puppet", "report" (sends struct rpal_self to the driver and exits) and
 * "sleep" (the same, but stays).
 */
void test_init(int argc, char **argv, const struct test_role *roles);
/* Last thing in main(). */
int test_finish(void);

/* How long one step may take here, in seconds. */
int test_patience(void);
bool test_have_pkeys(void);

/* ----------------------------------------------------------------- children */

struct test_spawn {
	const char *role;  /* default "puppet" */
	const char *arg;   /* becomes test_arg in the child */
	const char *path;  /* default: this program */
	char *const *argv; /* default: the program's name */
	const char *group; /* service group, default: none */
	bool unplaced;
	bool stack_unlimited;
	unsigned long persona; /* personality(2) */
	uid_t uid;	       /* 0: stay root */
	int peer;	       /* descriptor for TEST_FD_PEER, 0: none */
	int shared;	       /* descriptor for TEST_FD_SHARED, 0: none */
};

struct test_child {
	pid_t pid;
	int sock;
};

extern const char *test_arg;

/* Returns 0 or the errno of the execve() (or of the placement). */
int test_spawn(struct test_child *c, const struct test_spawn *s);
/* Wait status, or -1 if it had to be killed after test_patience() seconds. */
int test_wait(pid_t pid);
const char *test_status(int status);
/* Kill it if need be, and wait for its end. */
void test_reap(struct test_child *c);

/* Over the sockets; a driver or peer that has gone ends the child. */
void test_send(int fd, const void *p, size_t n);
void test_recv(int fd, void *p, size_t n);
bool test_try_recv(int fd, void *p, size_t n); /* false: end or time-out */
void test_send_u64(int fd, u64 v);
u64 test_recv_u64(int fd);
void test_socketpair(int fd[2]);
/* Send a descriptor over a Unix socket; with @fd -1 receive one. It, 0 or -errno. */
int test_pass_fd(int sock, int fd);

/* ------------------------------------------------------------------- faults */

/*
 * One access that may fault. 0, or the signal; what came with it is then in
 * test_fault. The signal handler goes on behind the access, so that PKRU is
 * restored by the return from the signal. Any other fault is reported with
 * all registers and ends the process.
 */
struct test_fault {
	int sig;
	int code;
	u32 pkey;
	u64 addr;
};

extern __thread struct test_fault test_fault;

#define TEST_EXTABLE                                    \
	".pushsection test_extable, \"a\", @progbits\n" \
	".long 1b - .\n"                                \
	".long 2b - .\n"                                \
	".popsection\n"

static inline int test_load8(const volatile void *p, unsigned char *v)
{
	int sig;

	asm volatile("xorl %%eax, %%eax\n1: movb (%2), %1\n2:\n" TEST_EXTABLE
		     : "=&a"(sig), "=&q"(*v)
		     : "r"(p)
		     : "memory");
	return sig;
}

static inline int test_load(const volatile void *p, u64 *v)
{
	u64 r = 0;
	int sig;

	asm volatile("xorl %%eax, %%eax\n1: movq (%2), %1\n2:\n" TEST_EXTABLE
		     : "=&a"(sig), "+&r"(r)
		     : "r"(p)
		     : "memory");
	*v = r;
	return sig;
}

static inline int test_store8(volatile void *p, unsigned char v)
{
	int sig;

	asm volatile("xorl %%eax, %%eax\n1: movb %1, (%2)\n2:\n" TEST_EXTABLE
		     : "=&a"(sig)
		     : "q"(v), "r"(p)
		     : "memory");
	return sig;
}

static inline int test_store(volatile void *p, u64 v)
{
	int sig;

	asm volatile("xorl %%eax, %%eax\n1: movq %1, (%2)\n2:\n" TEST_EXTABLE
		     : "=&a"(sig)
		     : "r"(v), "r"(p)
		     : "memory");
	return sig;
}

/* Call int (*)(int); *@ret is only good if 0 is returned. */
int test_call(void *fn, int arg, int *ret);
/* Install the handlers; test_init() has done so. */
void test_catch_faults(void);

/* -------------------------------------------------------------------- pkeys */

enum test_rights { RIGHTS_NONE, RIGHTS_READ, RIGHTS_WRITE };

/* All of these do nothing, and rights are RIGHTS_WRITE, without pkeys. */
u32 pkru_read(void);
void pkru_write(u32 v);
enum test_rights pkru_rights(u32 pkru, unsigned int pkey);
u32 pkru_with(u32 pkru, unsigned int pkey, enum test_rights r);

/* ------------------------------------------------------------------ address */

struct test_vma {
	u64 start, end;
	char perms[8];
	char name[128];
	int pkey; /* -1: not known */
};

/* Calls @fn for each line of smaps (of maps, if !@keys); its results are or-ed. */
int test_for_each_vma(bool keys, int (*fn)(const struct test_vma *, void *), void *arg);
/*
 * Number of mappings (but for vsyscall) outside @self's slot, or with another
 * key; each is printed. Mappings in the lowest 512 GiB pass if @low.
 */
int test_bad_vmas(const struct rpal_self *self, bool low);
/* True if any mapping of pid meets [start, end). */
bool test_mapped(pid_t pid, u64 start, u64 end);
int test_vma_pkey(const void *addr);

static inline bool in_slot(const struct rpal_self *s, const volatile void *p, u64 len)
{
	u64 a = (u64)p;

	return a >= s->base && a < s->end && len <= s->end - a;
}

/* ----------------------------------------------------------------- services */

int test_open(void);			    /* /dev/rpal, close-on-exec */
int test_self(int fd, struct rpal_self *s); /* 0 or -errno */
void test_ranges(struct rpal_ranges *r);
int test_register(int fd, struct rpal_register *r); /* 0 or -errno */
int test_request(int fd, u64 key, struct rpal_request *r);
int test_release(int fd, u64 key, struct rpal_request *r);
int test_peer(int fd, u64 key, u32 id, struct rpal_peer *p);
/* Are there hooks of the module? -1: cannot know. */
int test_hooks(void);
/*
 * Have hooks removed soon after their last use, as they are by default: whoever
 * runs many tests in a row may have said otherwise.
 */
void test_hooks_go_soon(void);
int test_wait_hooks_gone(int seconds); /* 0, or what test_hooks() says */
/* What the module counts as alive: address spaces and forked children; 0 if none. */
long test_wait_users_gone(int seconds);

/* ------------------------------------------------------------------ puppets */

struct puppet {
	struct test_child child;
	struct rpal_self self;
	u64 key; /* once registered */
	u64 buf; /* address of a buffer of PUPPET_BUF bytes */
	int fd;	 /* its file of /dev/rpal */
};

#define PUPPET_BUF 65536UL

enum {
	OP_EXIT,
	OP_SYSCALL,
	OP_IOCTL,
	OP_LOAD,
	OP_LOAD8,
	OP_STORE,
	OP_STORE8,
	OP_CALL,
	OP_PKRU,
	OP_FILL,
	OP_VERIFY,
	OP_EXEC,
	OP_PUT,
	OP_GET,
	OP_REGISTER,
	OP_OPEN,
	OP_CODE,
	OP_PKEY_OF,
	OP_USER = 64,
};

struct test_cmd {
	u64 op;
	u64 a[7];
	unsigned char buf[512];
};

struct test_res {
	int64_t ret; /* of system calls: -errno */
	int32_t sig;
	int32_t code;
	u64 addr;
	u64 val;
	u32 pkey;
	u32 pad;
	unsigned char buf[512];
};

/* What puppets of this program can do besides (ops from OP_USER on). */
extern void (*test_user_op)(const struct test_cmd *c, struct test_res *r);

int test_puppet_role(void); /* what test_init() runs for "puppet" */

/* Start one; 0 or errno as test_spawn(). Placed unless @s says otherwise. */
int puppet_start(struct puppet *p, const struct test_spawn *s);
/* The same with the default of everything and a group; must succeed. */
void puppet_new(struct puppet *p, const char *group);
/* End it; its wait status. */
int puppet_end(struct puppet *p);
void puppet_kill(struct puppet *p);

void puppet_do(struct puppet *p, const struct test_cmd *c, struct test_res *r);
/* For its result alone. */
long puppet_op(struct puppet *p, u64 op, u64 a, u64 b, u64 c, u64 d);
/* The same in two steps. */
void puppet_send(struct puppet *p, const struct test_cmd *c);
bool puppet_result(struct puppet *p, struct test_res *r);

long puppet_syscall(struct puppet *p, long nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
#define PUPPET_ARG_(_1, _2, _3, _4, _5, _6, _7, ...) \
	(u64)(_1), (u64)(_2), (u64)(_3), (u64)(_4), (u64)(_5), (u64)(_6)
/* puppet_sys(p, SYS_munmap, addr, len): missing arguments are 0. */
#define puppet_sys(p, nr, ...) puppet_syscall(p, nr, PUPPET_ARG_(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0))

u64 puppet_mmap(struct puppet *p, u64 addr, u64 len, int prot, int flags);
/* A page, or @len bytes, of private memory with its first word set. */
u64 puppet_alloc(struct puppet *p, u64 len, u64 value);
long puppet_ioctl(struct puppet *p, int fd, unsigned long cmd, void *arg, size_t n);
int puppet_load(struct puppet *p, u64 addr, u64 *v); /* signal, test_fault */
int puppet_load8(struct puppet *p, u64 addr, unsigned char *v);
int puppet_store(struct puppet *p, u64 addr, u64 v);
int puppet_store8(struct puppet *p, u64 addr, unsigned char v);
int puppet_call(struct puppet *p, u64 addr, int arg, int *ret);
/* Every @step bytes one word that is made from @seed and its offset. */
int puppet_fill(struct puppet *p, u64 addr, u64 len, u64 step, u64 seed);
/* Number of words that are different, or -signal. */
long puppet_verify(struct puppet *p, u64 addr, u64 len, u64 step, u64 seed);
u64 puppet_put(struct puppet *p, u64 off, const void *data, size_t n);
void puppet_get(struct puppet *p, u64 off, void *data, size_t n);
u32 puppet_pkru(struct puppet *p);
void puppet_set_pkru(struct puppet *p, u32 v);
/* Open or close the memory of another puppet for this one. */
void puppet_rights(struct puppet *p, struct puppet *peer, enum test_rights r);

int puppet_register(struct puppet *p); /* 0 or -errno */
int puppet_unregister(struct puppet *p);
int puppet_request(struct puppet *p, u64 key, u32 *state);
int puppet_release(struct puppet *p, u64 key, u32 *state);
int puppet_peer(struct puppet *p, u64 key, u32 id, struct rpal_peer *out);
u32 puppet_state(struct puppet *p, struct puppet *peer); /* RPAL_LINK_* */
/* Register both if need be, ask both ways, open rights both ways. */
void puppet_link(struct puppet *a, struct puppet *b);

/* ------------------------------------------------------------------- module */

/* Can the module be taken out and put in again here? */
bool test_module_file(void);
int test_module_unload(void); /* 0 or -errno, at once */
/* The same, but tries for some time while it is still in use. */
int test_module_unload_soon(int seconds);
int test_module_load(const char *parameters);		   /* 0 or -errno */
int test_insmod(const char *file, const char *parameters); /* another one; 0 or -errno */

/* --------------------------------------------------------------------- misc */

u64 test_now_ns(void);
void test_pin(int cpu);
u32 test_random(void);
void test_seed(u32 seed);
bool test_write_file(const char *path, const char *text);
/* Number behind @word in a file such as /proc/vmstat, -1 if not there. */
long test_file_value(const char *path, const char *word);
/* The number in a file that holds nothing else, -1 if not there. */
long test_file_number(const char *path);
int test_copy_file(const char *from, const char *to, int mode);
/*
 * Memory that driver and children share. The driver gives @len and hands *@fd
 * to children; in a child, whose own it is by then, fd is TEST_FD_SHARED.
 */
void *test_shared_new(size_t len, int *fd);
void *test_shared_map(size_t len, int fd);

static inline void test_pause(void)
{
	asm volatile("pause" ::: "memory");
}

#endif /* TESTS_GUEST_COMMON_H */
