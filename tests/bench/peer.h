/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Processes that see each other's memory without the module: they are made by
 * clone(CLONE_VM). Each has a slot of its own with its stack, its thread-local
 * storage, its heap and its blocks, under a protection key of its own if the CPU
 * has them; its own descriptors, signals and process id; and its own copy of the
 * library, made out of the library's very objects by objcopy.
 */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/rpal.h>
#include <rpal/rpal.h>

/* The library's functions in one copy. */
struct copy {
	int (*init)(int nr, int flags, rpal_error_code_t *error);
	int (*request)(uint64_t key);
	int (*thread_init)(void);
	int (*export)(uint32_t procedure, rpal_procedure_fn fn, void *ctx);
	int (*serve)(int fd, int timeout_ms);
	int (*call)(int id, uint32_t procedure, void *arg, size_t len, int64_t *result);
	int (*epoll_ctl)(int epfd, int op, int fd, struct epoll_event *event);
	int (*epoll_wait)(int epfd, struct epoll_event *events, int max, int timeout);
	int (*fdmap)(uint64_t sid_fd, uint64_t *handle, int timeout_ms);
	int (*write_ptrs)(int id, uint64_t handle, int64_t *words, int n);
	int (*write_ptrs_ex)(int id, uint64_t handle, const int64_t *words, int n,
			     unsigned int flags, rpal_delivery_t *how);
	int (*read_ptrs)(int fd, int64_t *words, int n);
	const char *(*last_error)(void);
};

#define NR_PEERS 3

/* Of each copy; see rules.mk. */
extern const struct copy copy_1, copy_2, copy_3;

/**
 * struct peer - one of the processes
 * @id:		its service id and slot, 1 .. NR_PEERS
 * @lib:	its copy of the library
 * @main:	what it runs
 * @first:	runs in the process that has started all; the others have their own
 * @pkey:	its protection key, 0 without
 * @base:	its slot
 * @next:	what is free of that
 * @thread:	whose stack and thread-local storage it has
 * @ready:	it has a block
 *
 * and what the stand-in for the module knows of it:
 *
 * @area:	its blocks
 * @ranges:	its trampolines
 * @asked:	peers that it has asked for, one bit each
 * @block:	of its thread
 * @woken:	changes when its thread is to wake
 */
struct peer {
	unsigned int id;
	const struct copy *lib;
	void (*main)(void);
	bool first;
	int pkey;
	char *base;
	char *next;
	pthread_t thread;
	bool ready;
	struct rpal_block *area;
	struct rpal_ranges ranges;
	unsigned int asked;
	struct rpal_block *block;
	uint32_t woken;
};

extern struct peer peers[NR_PEERS + 1];
/* Whose code this is: by the thread-local storage, so also on another's task. */
extern __thread struct peer *me;

/* Are calls to be timed for the kernel? Both ends of a socket between 1 and 2. */
struct peer_setup {
	bool stamps;
	int sock[NR_PEERS + 1];
};

/*
 * Start peers 1 .. n with these programs: the last ones first, each when those
 * after it are ready, the first one in this process. Returns when that one does,
 * and the others are ended. To be used once in a process.
 */
void peers_run(unsigned int n, void (*const programs[])(void));

/* In a program: be a service, know all others, and be ready. */
void peer_init(bool receiver);

/* The service id of a peer, after that. */
int peer_service(unsigned int id);

/* Does the module hand calls over to the receiver's task when they enter the kernel? */
bool peers_are_placed(void);

/*
 * First thing in main(): does not return in a process that peers_run() has executed,
 * and ends the program if there can be no peers here.
 */
void peers_begin(int argc, char **argv);

/* Memory of the calling peer's slot; never given back. */
void *peer_alloc(size_t size, size_t align);

#endif /* BENCH_PEER_H */
