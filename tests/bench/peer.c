// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Processes that see each other's memory without the module; see peer.h. */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "bench.h"
#include "peer.h"

#define HWCAP2_FSGSBASE_ (1 << 1)

#define ARENA_SIZE (256UL << 20)
#define STACK_SIZE (1UL << 20)

struct peer peers[NR_PEERS + 1];
__thread struct peer *me;

static unsigned int nr_peers;

void *peer_alloc(size_t size, size_t align)
{
	uintptr_t at = ((uintptr_t)me->next + align - 1) & ~(align - 1);

	MUST(at + size <= (uintptr_t)me->base + ARENA_SIZE);
	me->next = (char *)at + size;
	return (void *)at;
}

static void make_slot(struct peer *p, unsigned int id)
{
	static const struct copy *const copies[] = { &copy_1, &copy_2, &copy_3 };
	void *base = (void *)((uintptr_t)id << RPAL_SLOT_SHIFT);

	p->id = id;
	p->lib = copies[id - 1];
	p->base = mmap(base, ARENA_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	MUST(p->base == base);
	p->next = p->base + STACK_SIZE;
	if (!machine_has_pku())
		return;
	p->pkey = pkey_alloc(0, 0);
	MUST(p->pkey > 0);
	MUST(!pkey_mprotect(p->base, ARENA_SIZE, PROT_READ | PROT_WRITE, p->pkey));
}

/* From now on only the own memory is open, as it is in a placed program. */
static void close_others(void)
{
	unsigned int id;

	for (id = 1; id <= nr_peers; id++)
		if (peers[id].pkey && &peers[id] != me)
			MUST(!pkey_set(peers[id].pkey, PKEY_DISABLE_ACCESS));
}

static int process(void *arg)
{
	me = arg;
	if (!me->first)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	close_others();
	machine_pin(ONE_CPU, 0);
	me->main();
	return 0;
}

/*
 * A process that is made in a thread has that one's thread-local storage. The
 * thread sleeps as long as it lives, so nobody else uses that.
 */
static void *thread(void *arg)
{
	struct peer *p = arg;
	void *stack;

	me = p;
	if (p->first) {
		process(p);
		return NULL;
	}
	stack = peer_alloc(STACK_SIZE, 64);
	clone(process, (char *)stack + STACK_SIZE, CLONE_VM | CLONE_VFORK | SIGCHLD, p);
	fprintf(stderr, "peer %u has ended\n", p->id);
	_exit(1);
}

static void start(struct peer *p)
{
	pthread_attr_t attr;

	MUST(!pthread_attr_init(&attr));
	MUST(!pthread_attr_setstack(&attr, p->base, STACK_SIZE - p->id * 1088));
	MUST(!pthread_create(&p->thread, &attr, thread, p));
	pthread_attr_destroy(&attr);
	while (!p->first && !__atomic_load_n(&p->ready, __ATOMIC_ACQUIRE))
		usleep(100);
}

/* The others end with this process, which ends right after this. */
void peers_run(unsigned int n, void (*const programs[])(void))
{
	unsigned int id;

	nr_peers = n;
	for (id = 1; id <= n; id++) {
		make_slot(&peers[id], id);
		peers[id].main = programs[id - 1];
		peers[id].first = id == 1;
	}
	for (id = n; id >= 1; id--)
		start(&peers[id]);
	MUST(!pthread_join(peers[1].thread, NULL));
}

static uint64_t key_of(unsigned int id)
{
	return 0x1000000000000ULL * id + 4711;
}

int peer_service(unsigned int id)
{
	return id;
}

bool peers_are_placed(void)
{
	return false;
}

/* Peers are threads of the process that wants them: nothing is executed. */
void peers_begin(int argc, char **argv)
{
	(void)argc, (void)argv;
	if (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_)
		return;
	fprintf(stderr, "programs cannot use FSGSBASE here: the trampolines need it\n");
	exit(1);
}

void peer_init(bool receiver)
{
	unsigned int id;

	if (me->lib->init(1, me->pkey ? 0 : RPAL_INIT_NO_PKEYS, NULL) < 0 ||
	    (receiver && me->lib->thread_init())) {
		fprintf(stderr, "peer %u: %s\n", me->id, me->lib->last_error());
		_exit(1);
	}
	for (id = 1; id <= nr_peers; id++)
		if (id != me->id)
			MUST(!me->lib->request(key_of(id)));
	__atomic_store_n(&me->ready, true, __ATOMIC_RELEASE);
}
