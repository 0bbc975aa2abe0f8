// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Run a program in a control group that may use no device, as systemd does it for
 * DevicePolicy=closed, and containers do.
 *
 * usage: without-devices PROGRAM [ARGUMENT]...
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GROUP "/sys/fs/cgroup/without-devices"

static int failed(const char *what)
{
	fprintf(stderr, "without-devices: %s: %s\n", what, strerror(errno));
	return 125;
}

/* A program that allows nothing: it returns 0. */
static int load(void)
{
	static const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insns = (unsigned long)code,
		.insn_cnt = sizeof(code) / sizeof(code[0]),
		.license = (unsigned long)"GPL",
	};

	return syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}

static int attach(int group, int program)
{
	union bpf_attr attr = {
		.target_fd = group,
		.attach_bpf_fd = program,
		.attach_type = BPF_CGROUP_DEVICE,
	};

	return syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof(attr));
}

int main(int argc, char **argv)
{
	int group, program, procs;

	if (argc < 2) {
		fprintf(stderr, "usage: without-devices PROGRAM [ARGUMENT]...\n");
		return 2;
	}
	if (mkdir(GROUP, 0755) && errno != EEXIST)
		return failed(GROUP);
	group = open(GROUP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (group < 0)
		return failed(GROUP);
	program = load();
	if (program < 0)
		return failed("BPF_PROG_LOAD");
	if (attach(group, program))
		return failed("BPF_PROG_ATTACH");
	procs = openat(group, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (procs < 0 || write(procs, "0", 1) != 1)
		return failed("cgroup.procs");
	execvp(argv[1], argv + 1);
	return failed(argv[1]);
}
