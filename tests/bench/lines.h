/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Ways between two processes, without RPAL. */
#ifndef BENCH_LINES_H
#define BENCH_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring;

/**
 * struct box - shared memory for one direction
 * @full:	how many messages have been put in
 * @sleeps:	the reader has gone to sleep, or is about to
 * @data:	the message
 */
struct box {
	uint32_t full __attribute__((aligned(64)));
	uint32_t sleeps;
	uint8_t data[] __attribute__((aligned(64)));
};

/**
 * struct line - one end
 * @side:	0: the client's, 1: the server's
 * @in:		to read from, by side
 * @out:	to write to, by side
 * @box:	to read from, by side
 * @taken:	messages taken
 * @epoll:	epoll instance of @in
 * @ring:	for io_uring
 */
struct line {
	int side;
	int in[2];
	int out[2];
	struct box *box[2];
	uint32_t taken;
	int epoll;
	struct ring *ring;
};

/**
 * struct way - one kind
 * @name:	what it is
 * @polling:	it burns its CPU
 * @yields:	but lets others run
 * @payloads:	is also measured with more than 32 bytes
 * @usable:	does the kernel let us? NULL: yes
 * @open:	before the child is made
 * @begin:	then, in each process; may be NULL
 * @put:	send
 * @take:	wait for as much, and get it
 */
struct way {
	const char *name;
	bool polling;
	bool yields;
	bool payloads;
	bool (*usable)(void);
	void (*open)(struct line *l);
	void (*begin)(struct line *l);
	void (*put)(struct line *l, const void *data, size_t len);
	void (*take)(struct line *l, void *data, size_t len);
};

/* Ends with one that has no name. */
extern const struct way ways[];

void line_open(struct line *l, const struct way *way);
void line_close(struct line *l, const struct way *way);

#endif /* BENCH_LINES_H */
