// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What calls properly: workers now and then, and the two who have nothing to do
 * with them.
 */
#include "../guest/call.h"
#include "fuzz.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { P_SUM, P_GETPID, P_CALL, P_SLEEP, P_FAULT, P_END, P_NR };

PROC(p_sum)
{
	const unsigned char *p = arg;
	int64_t sum = 0;

	while (len--)
		sum = sum * 31 + *p++;
	return sum;
}

PROC(p_getpid)
{
	return syscall(SYS_getpid);
}

/* -------------------------------------------------------- who calls properly */

int fuzz_server_role(void)
{
	static const rpal_procedure_fn procs[] = { p_sum, p_getpid };

	return call_server(procs, ARRAY_SIZE(procs));
}

/* Something that only its owner knows, in memory that only its owner can read. */
static u64 make_secret(void)
{
	u64 *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	u64 secret = random64() | 1;
	size_t i;

	MUST(p != MAP_FAILED);
	for (i = 0; i < PAGE / 8; i++)
		p[i] = secret;
	board->good_address = (u64)p;
	return secret;
}

/* One that nobody can notify who is not linked. */
static int make_channel(int service)
{
	struct rpal_channel c = { .size = sizeof(c), .service = service };
	int fd = test_open();

	MUST(!ioctl(fd, RPAL_IOC_CHANNEL, &c));
	return fd;
}

static void expect(bool ok, const char *what)
{
	if (!ok)
		fuzz_good_wrong("who is not linked with any worker: %s", what);
}

static void good_round(struct call_peer *p, u64 i)
{
	unsigned char buf[24] = "what is to be added up";
	int64_t r;

	buf[i % 20] = i;
	expect(!rpal_call(p->id, P_SUM, buf, sizeof(buf), &r) &&
		       r == p_sum(buf, sizeof(buf), NULL, NULL),
	       "a call has failed");
	expect(!rpal_call(p->id, P_GETPID, NULL, 0, &r) && r == p->child.pid,
	       "a call that enters the kernel has failed");
}

int fuzz_caller_role(void)
{
	struct call_peer p;
	struct pollfd pfd;
	u64 i, secret;
	int service;

	board = test_shared_map(sizeof(*board), TEST_FD_SHARED);
	fuzz_good = test_shared_map(sizeof(*fuzz_good), TEST_FD_PEER);
	service = rpal_init(1, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL);
	MUST(service >= 0);
	call_peer_new(&p, "server", 2);
	secret = make_secret();
	pfd = (struct pollfd){ .fd = make_channel(service), .events = POLLIN };
	board->good_id[0] = rpal_get_service_id();
	board->good_id[1] = p.id;
	fuzz_good_begin(false);
	for (i = 0; !fuzz_good->stop; i++) {
		good_round(&p, i);
		expect(poll(&pfd, 1, 0) == 0, "its channel was notified");
		expect(board->leaked != secret, "its memory was read");
		fuzz_good_look();
		fuzz_good->calls++;
	}
	call_peer_end(&p);
	return fuzz_good->wrong != 0;
}

/* ---------------------------------------------------- workers with librpal */

bool fuzz_library;
static volatile int peers[RPAL_MAX_SLOT + 1];

static int any_peer(void)
{
	u32 id = any_place()->id;

	return id <= RPAL_MAX_SLOT && peers[id] ? (int)id : 0;
}

PROC(p_call)
{
	int id = any_peer();
	int64_t r = 0;

	return id ? rpal_call_flags(id, P_GETPID, NULL, 0, &r, RPAL_CALL_NOWAIT) : 0;
}

PROC(p_sleep)
{
	return usleep(100);
}

PROC(p_fault)
{
	u64 v;

	return test_load(any_place(), &v) + test_load((void *)any_address(8), &v);
}

/* The receiver's end, in the middle of a call. */
PROC(p_end)
{
	if (one_in(8))
		syscall(SYS_exit_group, 0);
	return syscall(SYS_exit, 0);
}

static void *serve(void *arg)
{
	int r;

	do
		r = rpal_serve(one_in(4) ? FUZZ_EVENT : -1, 20);
	while (r >= 0 || r == -EINTR);
	return arg;
}

static const rpal_procedure_fn all[P_NR] = { p_sum, p_getpid, p_call, p_sleep, p_fault, p_end };

/* The library's service, instead of one without; and others do to it what they do. */
void fuzz_begin_library(void)
{
	pthread_t thread;
	uint64_t key;
	int i, fd;

	for (i = 0; i < P_NR; i++)
		rpal_export(i, all[i], NULL);
	fd = rpal_init(3, test_have_pkeys() ? 0 : RPAL_INIT_NO_PKEYS, NULL);
	if (fd < 0)
		return;
	fuzz_count(&board->services);
	fuzz_library = true;
	fuzz_service_fd = fd;
	rpal_get_service_key(&key);
	place->key = key;
	place->id = rpal_get_service_id();
	for (i = 0; i < 2; i++)
		if (!pthread_create(&thread, NULL, serve, NULL))
			pthread_detach(thread);
}

/* Those who have not been asked yet. */
static void ask_all(void)
{
	struct fuzz_place *p;

	for (p = board->place; p < board->place + FUZZ_PLACES; p++)
		if (p != place && p->key && p->id <= RPAL_MAX_SLOT && !peers[p->id] &&
		    !rpal_request_service(p->key))
			peers[p->id] = 1;
}

void op_call(void)
{
	static const unsigned int flags[] = { RPAL_CALL_NOWAIT,
					      RPAL_CALL_NOWAIT | RPAL_CALL_GRANT_NONE,
					      RPAL_CALL_NOWAIT | RPAL_CALL_GRANT_WRITE, 0 };
	struct fuzz_place *p = any_place();
	unsigned char buf[16] = "sum";
	u32 proc = below(P_NR);
	int64_t r;
	int e;

	if (p == place || !fuzz_library)
		return;
	if (proc == P_END && !one_in(16))
		proc = P_SUM;
	ask_all();
	e = rpal_call_flags(p->id, proc, buf, sizeof(buf), &r, PICK(flags));
	if (!e)
		fuzz_count(&board->calls);
	if (e && board->loud)
		printf("call: %d %s\n", e, rpal_last_error());
	if (one_in(64) && rpal_release_service(p->key) == RPAL_SUCCESS)
		peers[p->id] = 0;
}
