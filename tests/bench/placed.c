// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Peers as they are meant to be: placed processes, with the module. Instead of
 * peer.c and module.c, in a program for guests, bench-placed; see peer.h.
 *
 * A peer is this program, executed anew. What it is to run is told by where that is
 * in the program, since sessions are nothing but lists of functions.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared.h"

#define DEVICE	  "/dev/rpal"
#define ACCOUNT	  "/sys/module/rpal/parameters/account"
#define ROLE	  "peer"
#define NO_MODULE 77 /* as the other programs for guests say it */

extern const struct copy copy;

struct peer peers[NR_PEERS + 1];
__thread struct peer *me;

static unsigned int nr_peers;
static int services[NR_PEERS + 1];

bool peers_are_placed(void)
{
	return true;
}

void *peer_alloc(size_t size, size_t align)
{
	void *p = aligned_alloc(align, size);

	MUST(p);
	return p;
}

int peer_service(unsigned int id)
{
	return services[id];
}

/* ---------------------------------------------------------------- in a peer */

static void be_service(bool receiver)
{
	if (me->lib->init(1, machine_has_pku() ? 0 : RPAL_INIT_NO_PKEYS, NULL) >= 0 &&
	    !(receiver && me->lib->thread_init()))
		return;
	fprintf(stderr, "peer %u: %s\n", me->id, me->lib->last_error());
	_exit(1);
}

static uint64_t wait_for_key(unsigned int id)
{
	uint64_t key;

	while (!(key = __atomic_load_n(&shared->key[id], __ATOMIC_ACQUIRE)))
		usleep(1000);
	return key;
}

static void wait_for_link(unsigned int id)
{
	while ((services[id] = rpal_get_request_service_id(shared->key[id])) < 0)
		usleep(1000);
}

void peer_init(bool receiver)
{
	unsigned int id;
	uint64_t key;

	be_service(receiver);
	MUST(rpal_get_service_key(&key) == RPAL_SUCCESS);
	__atomic_store_n(&shared->key[me->id], key, __ATOMIC_RELEASE);
	for (id = 1; id <= nr_peers; id++)
		if (id != me->id)
			MUST(!me->lib->request(wait_for_key(id)));
	for (id = 1; id <= nr_peers; id++)
		if (id != me->id)
			wait_for_link(id);
}

/* Arguments: ROLE, which of how many, the shared memory, where the program begins. */
static void be_peer(char **argv)
{
	unsigned int id = atoi(argv[2]);

	nr_peers = atoi(argv[3]);
	shared_join(atoi(argv[4]));
	me = &peers[id];
	me->id = id;
	me->lib = &copy;
	me->main = (void (*)(void))((char *)be_peer + strtol(argv[5], NULL, 0));
	machine_pin(ONE_CPU, 0);
	me->main();
	fflush(stdout);
	_exit(0);
}

void peers_begin(int argc, char **argv)
{
	if (argc == 6 && !strcmp(argv[1], ROLE))
		be_peer(argv);
	if (!access(DEVICE, R_OK | W_OK))
		return;
	fprintf(stderr, "no " DEVICE " here\n");
	exit(NO_MODULE);
}

/* -------------------------------------------------------------- who starts them */

static void keep_open(int fd)
{
	MUST(!fcntl(fd, F_SETFD, 0));
}

/* Only its own end of the connection, and what is shared. */
static void inherit(unsigned int id)
{
	keep_open(shared_fd());
	if (shared->setup.sock[id])
		keep_open(shared->setup.sock[id]);
}

static void place(void)
{
	struct rpal_place place = { .size = sizeof(place), .group = "bench" };
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (!machine_has_pku())
		place.flags |= RPAL_PLACE_NO_PKEYS;
	MUST(fd >= 0 && !ioctl(fd, RPAL_IOC_PLACE, &place));
}

static void execute(unsigned int id, void (*program)(void))
{
	char number[16], of[16], fd[16], where[32];

	snprintf(number, sizeof(number), "%u", id);
	snprintf(of, sizeof(of), "%u", nr_peers);
	snprintf(fd, sizeof(fd), "%d", shared_fd());
	snprintf(where, sizeof(where), "%ld", (long)((char *)program - (char *)be_peer));
	execl("/proc/self/exe", "bench-placed", ROLE, number, of, fd, where, NULL);
	MUST(!"execl");
}

static pid_t start(unsigned int id, void (*program)(void))
{
	pid_t pid = fork();

	MUST(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		inherit(id);
		place();
		execute(id, program);
	}
	return pid;
}

/* By ticks, or by what the timed trampolines note; services see which at their begin. */
static void set_account(const char *how)
{
	int fd = open(ACCOUNT, O_WRONLY | O_CLOEXEC);

	MUST(fd >= 0 && write(fd, how, strlen(how)) == (ssize_t)strlen(how));
	close(fd);
}

/* Peers that are to be called do not end by themselves. */
void peers_run(unsigned int n, void (*const programs[])(void))
{
	pid_t pids[NR_PEERS + 1];
	unsigned int id;
	int status;

	nr_peers = n;
	memset(shared->key, 0, sizeof(shared->key));
	set_account(shared->setup.stamps ? "2" : "1");
	for (id = n; id >= 1; id--)
		pids[id] = start(id, programs[id - 1]);
	MUST(waitpid(pids[1], &status, 0) == pids[1] && !status);
	for (id = 2; id <= n; id++) {
		kill(pids[id], SIGKILL);
		MUST(waitpid(pids[id], NULL, 0) == pids[id]);
	}
	set_account("-1");
}
