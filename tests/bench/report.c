// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The figures for programs: JSON, and columns for plotting. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <glob.h>

#include "shared.h"

static const char *const kind_names[] = {
	[KIND_FLOOR] = "floor",
	[KIND_RPAL] = "rpal",
	[KIND_KERNEL] = "kernel",
	[KIND_POLLING] = "polling",
};

/* ------------------------------------------------------------------ targets */

/* The faster of both, so that no pinning is chosen in our favour. */
static double best_shm_futex(size_t size)
{
	double one = figures_median("shared memory, futex", ONE_CPU, size);
	double two = figures_median("shared memory, futex", TWO_CPUS, size);

	return two > 0 && two < one ? two : one;
}

static double copy_ratio(void)
{
	return best_shm_futex(65536) / figures_median("payload, one copy", ONE_CPU, 65536);
}

static double zero_copy_growth(void)
{
	return figures_median("payload by pointer", ONE_CPU, MAX_PAYLOAD) /
	       figures_median("payload by pointer", ONE_CPU, SMALL);
}

int targets_get(struct target *t)
{
	double floor = figures_median("floor round trip", ONE_CPU, 0);
	double rtt = figures_median("message, round trip", ONE_CPU, SMALL);
	const struct target all[] = {
		{ "null call / floor", figures_median("null call", ONE_CPU, 0) / floor, 1.5,
		  false },
		{ "null call, accounted / floor",
		  figures_median("null call, accounted", ONE_CPU, 0) / floor, 2.5, false },
		{ "message of 32 bytes one way, cycles",
		  figures_median("message, one way", ONE_CPU, SMALL), 500, false },
		{ "message of 32 bytes round trip, cycles", rtt, 900, false },
		{ "fastest round trip by the kernel / message round trip",
		  figures_best_kernel(ONE_CPU)->median / rtt, 10, true },
		{ "unix stream, epoll / message round trip",
		  figures_median("unix stream, epoll", ONE_CPU, SMALL) / rtt, 20, true },
		{ "64 KiB, one copy: throughput / shared memory, futex", copy_ratio(), 1.8, true },
		{ "zero copy: 1 MiB / 32 bytes", zero_copy_growth(), 1.1, false },
	};

	_Static_assert(sizeof(all) / sizeof(all[0]) <= NR_TARGETS, "targets");
	memcpy(t, all, sizeof(all));
	return sizeof(all) / sizeof(all[0]);
}

bool target_met(const struct target *t)
{
	return t->at_least ? t->value >= t->limit : t->value <= t->limit;
}

/* --------------------------------------------------------------------- JSON */

static void set(json_t *to, const char *key, json_t *value)
{
	MUST(!json_object_set_new(to, key, value));
}

/* One line of a file without its end; false if there is none. */
static bool first_line(const char *path, char *line, size_t size)
{
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(line, size, f);

	if (f)
		fclose(f);
	if (ok)
		line[strcspn(line, "\n")] = 0;
	return ok;
}

static json_t *cpu_model(void)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	json_t *model = NULL;
	char line[512];

	while (f && !model && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "model name", 10) && strchr(line, ':'))
			model = json_string(strchr(line, ':') + 2);
	}
	if (f)
		fclose(f);
	return model ? model : json_null();
}

static json_t *governor(void)
{
	char line[128];

	return first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", line,
			  sizeof(line)) ?
		       json_string(line) :
		       json_null();
}

static json_t *mitigations(void)
{
	json_t *all = json_object();
	char line[512];
	glob_t g;
	size_t i;

	if (glob("/sys/devices/system/cpu/vulnerabilities/*", 0, NULL, &g))
		return all;
	for (i = 0; i < g.gl_pathc; i++)
		if (first_line(g.gl_pathv[i], line, sizeof(line)))
			set(all, strrchr(g.gl_pathv[i], '/') + 1, json_string(line));
	globfree(&g);
	return all;
}

static json_t *machine(void)
{
	json_t *m = json_object();
	struct utsname u;
	char load[128];

	MUST(!uname(&u));
	set(m, "name", json_string(u.nodename));
	set(m, "architecture", json_string(u.machine));
	set(m, "cpu", cpu_model());
	set(m, "kernel", json_string(u.release));
	set(m, "kernel_version", json_string(u.version));
	set(m, "governor", governor());
	set(m, "mitigations", mitigations());
	set(m, "load",
	    first_line("/proc/loadavg", load, sizeof(load)) ? json_string(load) : json_null());
	set(m, "cpu_of_client", json_integer(machine_cpu(0)));
	set(m, "cpu_of_server_on_two_cpus", json_integer(machine_cpu(1)));
	return m;
}

static json_t *figure(const struct figure *f)
{
	json_t *j = json_object();

	set(j, "name", json_string(f->name));
	set(j, "kind", json_string(kind_names[f->kind]));
	set(j, "pinning", json_string(place_names[f->place]));
	set(j, "bytes", json_integer(f->size));
	set(j, "batch", json_integer(f->batch));
	set(j, "samples", json_integer(f->samples));
	set(j, "median", json_real(f->median));
	set(j, "p99", json_real(f->p99));
	set(j, "p99.9", json_real(f->p999));
	set(j, "min", json_real(f->min));
	set(j, "median_ns", json_real(f->median * 1e9 / timer.hz));
	return j;
}

static json_t *figures(void)
{
	json_t *all = json_array();
	const struct figure *f;
	unsigned int i = 0;

	while ((f = figures_next(&i)))
		MUST(!json_array_append_new(all, figure(f)));
	return all;
}

static json_t *targets(void)
{
	json_t *all = json_array(), *j;
	struct target t[NR_TARGETS];
	int i, n = targets_get(t);

	for (i = 0; i < n; i++) {
		j = json_object();
		set(j, "name", json_string(t[i].name));
		set(j, "value", json_real(t[i].value));
		set(j, t[i].at_least ? "at_least" : "at_most", json_real(t[i].limit));
		set(j, "met", json_boolean(target_met(&t[i])));
		MUST(!json_array_append_new(all, j));
	}
	return all;
}

static void set_median(json_t *to, const char *key, const char *name, size_t size)
{
	set(to, key, json_real(figures_median(name, ONE_CPU, size)));
}

int report_write(const char *path)
{
	const struct figure *best = figures_best_kernel(ONE_CPU);
	json_t *j = json_object();
	int ret;

	set_median(j, "floor_rtt_cycles", "floor round trip", 0);
	set_median(j, "null_call_rtt_cycles", "null call", 0);
	set_median(j, "null_call_accounted_rtt_cycles", "null call, accounted", 0);
	set_median(j, "epoll32_oneway_cycles", "message, one way", SMALL);
	set_median(j, "epoll32_rtt_cycles", "message, round trip", SMALL);
	set_median(j, "uds_epoll_rtt_cycles_same_cpu", "unix stream, epoll", SMALL);
	set(j, "best_kernel_rtt_cycles_same_cpu", json_real(best->median));
	set(j, "best_kernel_same_cpu", json_string(best->name));
	set(j, "copy64k_vs_shm_futex", json_real(copy_ratio()));
	set(j, "pku", json_boolean(machine_has_pku()));
	set(j, "timer_overhead_cycles", json_integer(timer.overhead));
	set(j, "timer_step_cycles", json_integer(timer.step));
	set(j, "tsc_hz", json_integer(timer.hz));
	set(j, "messages_looked_at", json_integer(shared->entered.messages));
	set(j, "messages_that_entered_the_kernel", json_integer(shared->entered.entered));
	set(j, "machine", machine());
	set(j, "emulated", json_boolean(machine_is_emulated()));
	if (!machine_is_emulated())
		set(j, "targets", targets());
	set(j, "figures", figures());
	ret = json_dump_file(j, path, JSON_INDENT(2) | JSON_REAL_PRECISION(8));
	json_decref(j);
	if (ret)
		fprintf(stderr, "cannot write %s: %m\n", path);
	return ret;
}

/* ------------------------------------------------------------------ columns */

static FILE *open_columns(const char *prefix, const char *what)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s-%s.tsv", prefix, what);
	f = fopen(path, "we");
	if (!f)
		fprintf(stderr, "cannot write %s: %m\n", path);
	return f;
}

static double in_ns(double ticks)
{
	return ticks * 1e9 / timer.hz;
}

/* Round trips of little. */
static int small_columns(const char *prefix)
{
	FILE *out = open_columns(prefix, "small");
	const struct figure *f;
	unsigned int i = 0;

	if (!out)
		return -1;
	while ((f = figures_next(&i)))
		if (f->kind != KIND_FLOOR && f->size <= SMALL && f->batch == 1)
			fprintf(out, "\"%s, %s\"\t%.1f\t%.1f\n", f->name, place_names[f->place],
				in_ns(f->median), in_ns(f->p99));
	return fclose(out);
}

/* One block for each way, with its name in front. */
static int payload_columns(const char *prefix)
{
	static const char *const names[] = { "payload by pointer", "payload, one copy",
					     "shared memory, futex", "unix stream, epoll",
					     "unix stream, read" };
	FILE *out = open_columns(prefix, "payload");
	const struct figure *f;
	unsigned int n, i, p;

	if (!out)
		return -1;
	for (p = 0; p < FREE; p++) {
		for (n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
			if (!figures_find(names[n], p, payload_sizes[1]))
				continue;
			fprintf(out, "\"%s, %s\"\n", names[n], place_names[p]);
			for (i = 0; i < nr_payload_sizes; i++) {
				f = figures_find(names[n], p, payload_sizes[i]);
				if (f)
					fprintf(out, "%zu\t%.1f\n", f->size, in_ns(f->median));
			}
			fprintf(out, "\n\n");
		}
	}
	return fclose(out);
}

int report_columns(const char *prefix)
{
	return small_columns(prefix) || payload_columns(prefix);
}
