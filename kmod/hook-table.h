/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The hooks themselves: what hook.c installs and removes, and hook-try.c tries.
 */
#ifndef RPAL_HOOK_TABLE_H
#define RPAL_HOOK_TABLE_H

#include <linux/mutex.h>

#include "hook.h"

enum rpal_hook_how {
	RPAL_HOOK_OFF,		/* not at all */
	RPAL_HOOK_TRACED,	/* the function calls the tracer, and that calls us */
	RPAL_HOOK_DIRECT,	/* the function calls thunk.S */
};

/**
 * struct rpal_hook - a function that is hooked
 * @name:	its name
 * @func:	our callback
 * @diverts:	whether that may send calls elsewhere, else it changes arguments
 * @original:	then, where the thunk to the function goes, or NULL if there is none
 * @entry:	what it calls directly, in thunk.S, or NULL
 * @self:	where that finds this
 * @function:	address of the function
 * @site:	address of the instruction in it that calls the tracer
 * @fired:	calls for tasks that may be ours, since it was installed
 * @traced:	what the tracer knows of it if that calls us
 * @direct:	what it knows if the function calls @entry
 * @how:	which of them is registered; changed under rpal_hook_mutex
 * @seen:	the callback has seen a call that tries it; under rpal_hook_mutex
 */
struct rpal_hook {
	const char *name;
	void (*func)(struct rpal_hook *hook, struct pt_regs *regs);
	bool diverts;
	unsigned long *original;
	const char *entry;
	struct rpal_hook **self;
	unsigned long function;
	unsigned long site;
	unsigned long __percpu *fired;
	struct ftrace_ops traced;
	struct ftrace_ops direct;
	enum rpal_hook_how how;
	bool seen;
};

/* hook.c; the last of the hooks has no name. */
extern struct rpal_hook rpal_hooks[];
extern struct mutex rpal_hook_mutex;
extern bool rpal_hooks_installed;
extern const char *rpal_hook_failed;

int rpal_hook_on(struct rpal_hook *hook);
void rpal_hook_off(struct rpal_hook *hook);

/* hook-try.c */
extern struct rpal_hook *rpal_left_out;

void rpal_hook_tried(struct rpal_hook *hook, struct pt_regs *regs);
const struct rpal_hook *rpal_hook_missing(void);
int rpal_hook_try_once(void);
void rpal_hook_try_exit(void);

/* Made by rpal_probe(): nothing else calls any of them with no arguments at all. */
static inline bool rpal_hook_is_trial(const struct pt_regs *regs)
{
	return READ_ONCE(rpal_trying) == current &&
	       !(regs->di | regs->si | regs->dx | regs->cx | regs->r8 | regs->r9);
}

static inline bool rpal_hook_is_left_out(const struct rpal_hook *hook)
{
	return hook == READ_ONCE(rpal_left_out);
}

#endif /* RPAL_HOOK_TABLE_H */
