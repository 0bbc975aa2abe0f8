// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Becoming a service, and ending it. */
#include <cpuid.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "access.h"
#include "events.h"
#include "internal.h"

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE (1 << 1)
#endif

/* CPUID 7, ECX: the kernel has turned protection keys on. */
#define CPUID7_OSPKE (1U << 4)

struct rpal_state rpal_state = { .fd = -1, .stop_fd = -1 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int do_ioctl(int fd, unsigned long cmd, void *arg)
{
	int saved = errno, ret;

	ret = ioctl(fd, cmd, arg);
	if (ret < 0)
		ret = -errno;
	errno = saved;
	return ret;
}

int rpal_ioctl(unsigned long cmd, void *arg)
{
	return do_ioctl(rpal_state.fd, cmd, arg);
}

int rpal_no_service(int ret)
{
	if (rpal_state.forked)
		return rpal_fail(ret, "this process was forked from a service and is none itself; "
				      "when that one has ended rpal_init() makes it one");
	return rpal_fail(ret, "this process is no service; call rpal_init() first");
}

static int fail(rpal_error_code_t *error, rpal_error_code_t code)
{
	if (error)
		*error = code;
	return -1;
}

/* --- what has to be there. 0, or an error code with its sentence */

static int no_device(int err)
{
	char sentence[400];
	struct access why;

	rpal_access_explain(err, &why);
	rpal_access_sentence(&why, sentence, sizeof(sentence));
	errno = err; /* and not what the last look around has left */
	return rpal_failf(RPAL_ERR_RPALFILE_OPS, "%s", sentence);
}

static int open_device(int *fd)
{
	*fd = open(RPAL_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	return *fd >= 0 ? 0 : no_device(errno);
}

static int check_module(int fd, uint64_t *features)
{
	struct rpal_query query = { .size = sizeof(query) };
	int ret = do_ioctl(fd, RPAL_IOC_QUERY, &query);
	struct stat st;

	if (ret == -ENOTTY && !fstat(fd, &st) && !S_ISCHR(st.st_mode))
		return no_device(ENOTTY);
	if (ret)
		return rpal_failf(RPAL_ERR_GET_CAP_VERSION,
				  RPAL_DEVICE " does not answer (%s): "
					      "is it of another rpal release?",
				  strerror(-ret));
	if (query.abi_major != RPAL_ABI_MAJOR || query.block_size != RPAL_BLOCK_SIZE)
		return rpal_failf(RPAL_ERR_GET_CAP_VERSION,
				  "the module speaks version %u.%u, this "
				  "library %u.%u: install both from one release",
				  query.abi_major, query.abi_minor, RPAL_ABI_MAJOR, RPAL_ABI_MINOR);
	*features = query.features;
	return 0;
}

#define SWITCHED_OFF                                                   \
	"RPAL is switched off on this machine: the administrator can " \
	"write 1 to /sys/module/rpal/parameters/enable"

#define RUN_ANEW "; let it execute a program by 'rpal run'"

/* How long a forked child waits for the end of its parent: daemon() is just ending it. */
#define PARENT_MS      2000
#define PARENT_STEP_MS 10

/* A forked child takes over the slot of its parent. */
static int adopt(int fd)
{
	struct timespec step = { .tv_nsec = PARENT_STEP_MS * 1000000L };
	int ret, waited = 0;

	for (;;) {
		ret = do_ioctl(fd, RPAL_IOC_ADOPT, NULL);
		/* A thread that was joined may be seen for an instant. */
		if ((ret != -EBUSY && ret != -EUSERS) || waited >= PARENT_MS)
			break;
		nanosleep(&step, NULL);
		waited += PARENT_STEP_MS;
	}
	switch (ret) {
	case 0:
		return 0;
	case -EBUSY:
		return rpal_fail(RPAL_ERR_RPAL_DISABLED,
				 "this process was forked from a placed one, in whose address "
				 "range it lives: it can be a service when that one has "
				 "ended" RUN_ANEW);
	case -EUSERS:
		return rpal_fail(RPAL_ERR_RPAL_DISABLED,
				 "this process was forked from a placed one, and has threads: "
				 "call rpal_init() before it starts any" RUN_ANEW);
	case -EADDRINUSE:
		return rpal_fail(RPAL_ERR_RPAL_DISABLED,
				 "this process was forked from a placed one, and another process "
				 "has got the address range of that one" RUN_ANEW);
	case -ENOTUNIQ:
		return rpal_fail(RPAL_ERR_RPAL_DISABLED,
				 "this process was forked from a placed one, and a new member of "
				 "its group has got the protection key of that one" RUN_ANEW);
	case -EDQUOT:
		return rpal_fail(RPAL_ERR_RPAL_DISABLED,
				 "this user has as many placed programs as one may have: the "
				 "administrator can raise "
				 "/sys/module/rpal/parameters/user_placed");
	case -ERANGE:
		return rpal_fail(RPAL_ERR_RPAL_DISABLED,
				 "this process was forked from a placed one, and has since mapped "
				 "memory outside of the address range of that one" RUN_ANEW);
	case -EPERM:
		return rpal_fail(RPAL_ERR_RPAL_DISABLED,
				 "this process shares the memory of another one, as after vfork(), "
				 "or has sealed memory since it was forked" RUN_ANEW);
	}
	return rpal_failf(RPAL_ERR_RPAL_DISABLED,
			  "this process was forked from a placed one, and cannot take over its "
			  "address range: %s",
			  strerror(-ret));
}

static int look_at_self(int fd, struct rpal_self *self)
{
	int ret;

	memset(self, 0, sizeof(*self));
	self->size = sizeof(*self);
	ret = do_ioctl(fd, RPAL_IOC_SELF, self);
	if (ret)
		return rpal_failf(RPAL_ERR_GET_CAP_VERSION,
				  "cannot ask where this process "
				  "lives: %s",
				  strerror(-ret));
	return 0;
}

static int check_placed(int fd, uint64_t features, struct rpal_self *self)
{
	int ret = look_at_self(fd, self);

	if (ret)
		return ret;
	if (self->state & RPAL_SELF_HEIR)
		return rpal_fail(RPAL_ERR_RPAL_DISABLED,
				 "this process was forked from a placed "
				 "one: rpal_init() makes it a service once that one has ended");
	if (features & RPAL_FEATURE_OFF)
		return rpal_fail(RPAL_ERR_RPAL_DISABLED, SWITCHED_OFF);
	if (!(self->state & RPAL_SELF_PLACED) && features & RPAL_FEATURE_BROKEN)
		return rpal_fail(RPAL_ERR_RPAL_DISABLED,
				 "nothing can be placed on this machine now, as a hook of the module "
				 "in the kernel is missing: 'rpal status' says which");
	if (!(self->state & RPAL_SELF_PLACED))
		return rpal_fail(RPAL_ERR_RPAL_DISABLED,
				 "this process was not placed when it was "
				 "started: start it with 'rpal run -- PROGRAM', or mark the program "
				 "once with 'rpal mark PROGRAM', or link it with "
				 "`pkg-config --libs rpal-placed`");
	return 0;
}

static bool cpu_has_keys(void)
{
	unsigned int eax, ebx, ecx, edx;

	return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && ecx & CPUID7_OSPKE;
}

static int check_cpu(const struct rpal_self *self, int flags)
{
	if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE))
		return rpal_fail(RPAL_HARDWARE_NOTSUPPORT,
				 "programs cannot use FSGSBASE here: "
				 "that needs a CPU that has it and a kernel not started with "
				 "nofsgsbase");
	if (self->pkey && cpu_has_keys())
		return 0;
	if (!(flags & RPAL_INIT_NO_PKEYS))
		return rpal_fail(RPAL_HARDWARE_NOTSUPPORT,
				 "no protection keys guard this process: "
				 "use a CPU that has them (pku and ospke in /proc/cpuinfo), or "
				 "accept that linked processes can overwrite each other, with "
				 "RPAL_INIT_NO_PKEYS");
	return 0;
}

/* --- becoming a service */

static int do_register(int fd, int nr, struct rpal_state *st)
{
	struct rpal_register reg = { .size = sizeof(reg), .nr_receivers = nr };
	int ret;

	reg.ranges = st->tramp->ranges;
	ret = do_ioctl(fd, RPAL_IOC_REGISTER, &reg);
	if (ret == -EBUSY)
		return rpal_fail(RPAL_ERR_ENABLE_SERVICE, "this process is a service already, by "
							  "another copy of librpal: link only one");
	if (ret == -ESHUTDOWN)
		return rpal_fail(RPAL_ERR_RPAL_DISABLED, SWITCHED_OFF);
	if (ret == -EDQUOT)
		return rpal_fail(RPAL_ERR_REACH_LIMIT,
				 "this user has as many services as one may have: end some, or "
				 "raise the module parameter user_services");
	if (ret == -ENOMEM)
		return rpal_fail(RPAL_ERR_NOMEM, "the kernel has no memory for a service");
	if (ret)
		return rpal_failf(RPAL_ERR_ENABLE_SERVICE,
				  "the module refuses to make this "
				  "process a service: %s",
				  strerror(-ret));
	st->id = reg.id;
	st->key = reg.key;
	st->area_size = reg.area_size;
	st->area = mmap(NULL, st->area_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (st->area == MAP_FAILED)
		return rpal_failf(RPAL_ERR_SENDER_PAGES, "cannot map the thread area: %s",
				  strerror(errno));
	return 0;
}

static int start(int nr, int flags)
{
	struct rpal_state st = { .fd = -1, .stop_fd = -1, .nr_receivers = nr, .pid = getpid() };
	struct rpal_self self;
	uint64_t features;
	int ret;

	ret = open_device(&st.fd);
	if (ret)
		return ret;
	ret = check_module(st.fd, &features);
	if (!ret)
		ret = look_at_self(st.fd, &self);
	if (!ret && self.state & RPAL_SELF_HEIR && !(features & RPAL_FEATURE_OFF))
		ret = adopt(st.fd);
	if (!ret)
		ret = check_placed(st.fd, features, &self);
	if (!ret)
		ret = check_cpu(&self, flags);
	if (ret)
		goto out;
	st.slot = self.slot;
	st.pkey = self.pkey;
	st.timed = features & RPAL_FEATURE_STAMPS;
	st.pkeys = self.pkey && cpu_has_keys();
	if (st.timed)
		st.tramp = st.pkeys ? &rpal_tramp_pk_timed : &rpal_tramp_nopk_timed;
	else
		st.tramp = st.pkeys ? &rpal_tramp_pk : &rpal_tramp_nopk;
	st.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (st.stop_fd < 0) {
		ret = rpal_failf(RPAL_ERR_NOMEM, "cannot make an eventfd: %s", strerror(errno));
		goto out;
	}
	ret = do_register(st.fd, nr, &st);
	if (ret)
		goto out;
	st.epoch = rpal_state.epoch + 1;
	rpal_state = st;
	rpal_link_reset();
	rpal_call_reset();
	__atomic_store_n(&rpal_state.up, true, __ATOMIC_RELEASE);
	return 0;
out:
	if (st.stop_fd >= 0)
		close(st.stop_fd);
	close(st.fd); /* a registration ends with its file */
	return ret;
}

/* A child of fork() is no service, and must not keep ours alive. */
static void forked(void)
{
	static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;

	lock = fresh;
	rpal_thr_forked();
	if (!rpal_up())
		return;
	rpal_state.up = false;
	rpal_state.forked = true;
	close(rpal_state.fd);
	close(rpal_state.stop_fd);
	rpal_state.fd = -1;
	rpal_state.stop_fd = -1;
	rpal_link_reset();
	events_reset();
}

static void at_fork(void)
{
	pthread_atfork(NULL, NULL, forked);
}

EXPORT int rpal_init(int nr_rpalthread, int flags, rpal_error_code_t *error)
{
	int ret;

	if (nr_rpalthread < 1 || nr_rpalthread > RPAL_MAX_RECEIVERS) {
		rpal_failf(-1, "the number of receivers must be 1 to %d", RPAL_MAX_RECEIVERS);
		return fail(error, RPAL_INVALID_ARG);
	}
	if (flags & ~(RPAL_SENDER_RECEIVER | RPAL_INIT_NO_PKEYS)) {
		rpal_fail(-1, "unknown flags given to rpal_init()");
		return fail(error, RPAL_INVALID_ARG);
	}
	pthread_once(&once, at_fork);
	pthread_mutex_lock(&lock);
	if (rpal_state.up)
		ret = rpal_fail(RPAL_ERR_ENABLE_SERVICE, "this process is a service already; "
							 "rpal_exit() ends it");
	else
		ret = start(nr_rpalthread, flags);
	pthread_mutex_unlock(&lock);
	if (ret)
		return fail(error, ret);
	if (error)
		*error = RPAL_ERR_NONE;
	return rpal_state.fd;
}

EXPORT void rpal_exit(void)
{
	/* A child of vfork() would end it in the library only, for its parent, too. */
	if (rpal_up() && rpal_state.pid != getpid())
		return;
	pthread_mutex_lock(&lock);
	if (rpal_state.up) {
		/* This thread gets its rseq back; others do when they end. */
		rpal_sender_exit();
		rpal_thread_exit();
		__atomic_store_n(&rpal_state.up, false, __ATOMIC_RELEASE);
		do_ioctl(rpal_state.fd, RPAL_IOC_UNREGISTER, NULL);
		munmap(rpal_state.area, rpal_state.area_size);
		close(rpal_state.stop_fd);
		close(rpal_state.fd);
		rpal_state.fd = -1;
		rpal_state.stop_fd = -1;
		rpal_link_reset();
		events_reset();
	}
	pthread_mutex_unlock(&lock);
}

/* --- questions */

EXPORT int rpal_is_enabled(void)
{
	struct rpal_self self;
	uint64_t features;
	int fd, ret;

	if (rpal_up())
		return 1;
	if (open_device(&fd))
		return 0;
	ret = check_module(fd, &features);
	if (!ret)
		ret = check_placed(fd, features, &self);
	close(fd);
	return !ret;
}

EXPORT int rpal_is_enabled_fast(void)
{
	static int answer = -1;
	int known = __atomic_load_n(&answer, __ATOMIC_RELAXED);

	if (unlikely(known < 0)) {
		known = rpal_is_enabled();
		__atomic_store_n(&answer, known, __ATOMIC_RELAXED);
	}
	/* A forked child may have become one since. */
	return known || rpal_up();
}

EXPORT int rpal_get_service_id(void)
{
	if (!rpal_up())
		return rpal_no_service(-1);
	return rpal_state.id;
}

EXPORT status_t rpal_get_service_key(uint64_t *key)
{
	if (!key)
		return rpal_fail(RPAL_FAILURE, "a place for the key is needed");
	if (!rpal_up())
		return rpal_no_service(RPAL_FAILURE);
	*key = rpal_state.key;
	return RPAL_SUCCESS;
}
