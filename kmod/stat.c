// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counters and the list of services, under debugfs in rpal/; tracepoints.
 */
#include <linux/debugfs.h>
#include <linux/pid.h>
#include <linux/seq_file.h>

#include "rpal.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

atomic_long_t rpal_stats[RPAL_NR_STATS];

static const char * const stat_names[RPAL_NR_STATS] = {
	[RPAL_STAT_PLACED]		= "placed",
	[RPAL_STAT_REFUSED]		= "placements_refused",
	[RPAL_STAT_HEIRS]		= "heirs",
	[RPAL_STAT_ADOPTED]		= "heirs_adopted",
	[RPAL_STAT_LINKS]		= "links",
	[RPAL_STAT_UNLINKS]		= "unlinks",
	[RPAL_STAT_FAULTS]		= "peer_faults_user",
	[RPAL_STAT_FAULTS_KERNEL]	= "peer_faults_kernel",
	[RPAL_STAT_FAULTS_DENIED]	= "peer_faults_denied",
	[RPAL_STAT_FAULTS_BAD]		= "peer_faults_unresolved",
	[RPAL_STAT_SYNCS]		= "entries_copied",
	[RPAL_STAT_FLUSHES]		= "peer_flushes",
	[RPAL_STAT_PRIVATE_LOW]		= "private_low_mappings",
	[RPAL_STAT_LAZY_SYSCALL]	= "lazy_syscall",
	[RPAL_STAT_LAZY_SIGNAL]		= "lazy_signal",
	[RPAL_STAT_LAZY_KICK]		= "lazy_kick",
	[RPAL_STAT_LAZY_FAULT]		= "lazy_fault",
	[RPAL_STAT_LAZY_EXIT]		= "lazy_exit",
	[RPAL_STAT_ABORTED]		= "calls_aborted",
	[RPAL_STAT_COMPLETED]		= "calls_completed",
	[RPAL_STAT_UNOPENED]		= "calls_unopened",
	[RPAL_STAT_FINISHED]		= "calls_finished",
	[RPAL_STAT_LOST]		= "calls_lost",
	[RPAL_STAT_DEAD_RECEIVER]	= "calls_receiver_died",
	[RPAL_STAT_GUARDED]		= "guards_recovered",
	[RPAL_STAT_WAITS]		= "receiver_waits",
	[RPAL_STAT_KICKS]		= "kicks",
	[RPAL_STAT_FORGED]		= "words_forged",
	[RPAL_STAT_MOVED_NS]		= "cpu_time_moved_ns",
};

static struct dentry *dir;

static int stats_show(struct seq_file *seq, void *unused)
{
	unsigned int i;

	for (i = 0; i < RPAL_NR_STATS; i++)
		seq_printf(seq, "%s %ld\n", stat_names[i],
			   atomic_long_read(&rpal_stats[i]));
	seq_printf(seq, "hook_users %d\n", rpal_hook_users());
	seq_printf(seq, "heirs_alive %d\n", rpal_heirs());
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stats);

/* A copy of what is shown, so that nothing is printed under rpal_lock. */
struct row {
	bool used;
	bool registered;
	bool private_low;
	unsigned int pkey;
	pid_t tgid;
	unsigned int links;
	long stats[RPAL_NR_SERVICE_STATS];
	char group[RPAL_GROUP_LEN];
	char comm[TASK_COMM_LEN];
};

static struct row row_of(unsigned int slot)
{
	struct row row = {};
	struct rpal_space *space;
	unsigned int i;

	spin_lock(&rpal_lock);
	space = rpal_slots[slot];
	if (space) {
		row.used = true;
		row.registered = space->key;
		row.private_low = READ_ONCE(space->private_low);
		row.pkey = space->pkey;
		row.tgid = pid_vnr(space->tgid);
		row.links = bitmap_weight(space->peers, RPAL_NR_SLOTS);
		for (i = 0; i < RPAL_NR_SERVICE_STATS; i++)
			row.stats[i] = atomic_long_read(&space->stats[i]);
		strscpy(row.group, space->group, sizeof(row.group));
		strscpy(row.comm, space->comm, sizeof(row.comm));
	}
	spin_unlock(&rpal_lock);
	return row;
}

static int services_show(struct seq_file *seq, void *unused)
{
	unsigned int slot, i;

	seq_puts(seq, "slot pid pkey links state low lazy_calls lazy_called restarts faults group name\n");
	for (slot = 1; slot < RPAL_NR_SLOTS; slot++) {
		struct row row = row_of(slot);

		if (!row.used)
			continue;
		seq_printf(seq, "%u %d %u %u %s %s ", slot, row.tgid, row.pkey,
			   row.links, row.registered ? "service" : "placed",
			   row.private_low ? "private" : "-");
		for (i = 0; i < RPAL_NR_SERVICE_STATS; i++)
			seq_printf(seq, "%ld ", row.stats[i]);
		/* Both are what somebody chose to write there. */
		seq_escape(seq, row.group[0] ? row.group : "-", " \t\n\\");
		seq_putc(seq, ' ');
		seq_escape(seq, row.comm, "\t\n\\");
		seq_putc(seq, '\n');
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(services);

static int users_show(struct seq_file *seq, void *unused)
{
	unsigned int count[RPAL_NR_LIMITS];
	unsigned int nr, i;
	kuid_t uid;

	seq_puts(seq, "uid placed services threads links\n");
	for (nr = 0; rpal_user_row(nr, &uid, count); nr++) {
		seq_printf(seq, "%u", __kuid_val(uid));
		for (i = 0; i < RPAL_NR_LIMITS; i++)
			seq_printf(seq, " %u", count[i]);
		seq_putc(seq, '\n');
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(users);

static int health_show(struct seq_file *seq, void *unused)
{
	rpal_hook_show(seq);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(health);

/**
 * rpal_stat_init() - make the debugfs files
 *
 * Context: module load. Without debugfs there are none, and all else works.
 */
void rpal_stat_init(void)
{
	dir = debugfs_create_dir("rpal", NULL);
	debugfs_create_file("stats", 0400, dir, NULL, &stats_fops);
	debugfs_create_file("services", 0400, dir, NULL, &services_fops);
	debugfs_create_file("users", 0400, dir, NULL, &users_fops);
	debugfs_create_file("health", 0400, dir, NULL, &health_fops);
}

/**
 * rpal_stat_exit() - remove the debugfs files
 *
 * Context: module unload.
 */
void rpal_stat_exit(void)
{
	debugfs_remove(dir);
}
