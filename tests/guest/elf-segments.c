// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Programs with odd segments: whatever a file's program headers say, exec maps nothing of
 * it outside of the slot. Where the segments cannot be had, the program does not run.
 *
 * And what others do to the memory of a program that exec is just making.
 */
#include "common.h"

#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define FILE_ "/tmp/elf-segments.program"
#define GIB   (1ULL << 30)

/*
 * Prints all of its mappings and ends: no library, since nothing loads one for a program
 * that is so odd. Position independent.
 */
__asm__(".pushsection .text\n"
	".globl odd_start\n"
	"odd_start:\n"
	"	lea	odd_path(%rip), %rdi\n"
	"	xor	%esi, %esi\n"
	"	mov	$2, %eax\n" /* open */
	"	syscall\n"
	"	mov	%eax, %ebx\n"
	"1:	mov	%ebx, %edi\n"
	"	lea	-8192(%rsp), %rsi\n"
	"	mov	$4096, %edx\n"
	"	xor	%eax, %eax\n" /* read */
	"	syscall\n"
	"	test	%eax, %eax\n"
	"	jle	2f\n"
	"	mov	$1, %edi\n"
	"	lea	-8192(%rsp), %rsi\n"
	"	mov	%eax, %edx\n"
	"	mov	$1, %eax\n" /* write */
	"	syscall\n"
	"	jmp	1b\n"
	"2:	xor	%edi, %edi\n"
	"	mov	$231, %eax\n" /* exit_group */
	"	syscall\n"
	"odd_path: .asciz \"/proc/self/maps\"\n"
	".globl odd_end\n"
	"odd_end:\n"
	".popsection\n");
extern const char odd_start[], odd_end[];

/* Where the code's segment wants to be. */
#define IMAGE (300 * GIB)

#define MAX_SEGMENTS 6

struct segment {
	u64 vaddr;
	u64 filesz;
	u64 memsz;
};

static void write_program(const struct segment *s, int n, bool interpreter)
{
	static char page[2 * PAGE];
	Elf64_Ehdr *e = (Elf64_Ehdr *)page;
	Elf64_Phdr *p = (Elf64_Phdr *)(e + 1);
	int fd, i;

	memset(page, 0, sizeof(page));
	memcpy(e->e_ident, ELFMAG "\x02\x01\x01", 7);
	e->e_type = ET_DYN;
	e->e_machine = EM_X86_64;
	e->e_version = 1;
	e->e_entry = IMAGE + PAGE;
	e->e_phoff = sizeof(*e);
	e->e_ehsize = sizeof(*e);
	e->e_phentsize = sizeof(*p);
	if (interpreter) {
		/* Then exec chooses the place as for an ordinary program. */
		p->p_type = PT_INTERP;
		p->p_offset = PAGE - 64;
		p->p_filesz = p->p_memsz = sizeof(FILE_ ".ld");
		strcpy(page + p->p_offset, FILE_ ".ld");
		p++;
	}
	for (i = 0; i < n; i++, p++) {
		p->p_type = PT_LOAD;
		p->p_flags = s[i].filesz ? PF_R | PF_X : PF_R | PF_W;
		p->p_vaddr = p->p_paddr = s[i].vaddr;
		p->p_filesz = s[i].filesz;
		p->p_memsz = s[i].memsz;
		p->p_align = PAGE;
	}
	e->e_phnum = p - (Elf64_Phdr *)(e + 1);
	memcpy(page + PAGE, odd_start, odd_end - odd_start);
	unlink(FILE_);
	fd = open(FILE_, O_CREAT | O_WRONLY, 0755);
	MUST(fd >= 0 && write(fd, page, sizeof(page)) == sizeof(page) && !close(fd));
}

/* The interpreter is the same code, without anything odd. */
static void write_interpreter(void)
{
	static const struct segment plain = { IMAGE, 2 * PAGE, 2 * PAGE };

	write_program(&plain, 1, false);
	MUST(!rename(FILE_, FILE_ ".ld"));
}

/* Is a line of maps within one slot, that of the first line that is in any? */
static bool line_ok(const char *line, u64 *slot)
{
	u64 start, end;

	if (sscanf(line, "%lx-%lx", &start, &end) != 2)
		return false;
	if (strstr(line, "[vsyscall]"))
		return true;
	if (!*slot)
		*slot = start >> 39;
	return *slot && start >> 39 == *slot && (end - 1) >> 39 == *slot;
}

/* Runs it placed; false if it did not run at all. */
static bool run(const char *what)
{
	char line[300], command[] = "rpal run " FILE_ " 2>/dev/null";
	FILE *f = popen(command, "r");
	u64 slot = 0;
	int lines = 0;

	MUST(f);
	while (fgets(line, sizeof(line), f)) {
		CHECK(line_ok(line, &slot), "%s: outside of the slot: %s", what, line);
		lines++;
	}
	pclose(f);
	return lines;
}

struct odd {
	const char *what;
	bool runs; /* must run */
	int n;
	struct segment s[MAX_SEGMENTS];
};

#define CODE                              \
	{                                 \
		IMAGE, 2 * PAGE, 2 * PAGE \
	}
#define BARE(at, size)      \
	{                   \
		at, 0, size \
	}

static const struct odd odd[] = {
	{ "nothing odd", true, 1, { CODE } },
	{ "memory without bytes, behind", true, 2, { CODE, BARE(IMAGE + GIB, 2 * PAGE) } },
	{ "memory without bytes, far before", false, 2, { CODE, BARE(0x10000, 2 * PAGE) } },
	{ "memory without bytes, far behind",
	  false,
	  2,
	  { CODE, BARE(IMAGE + 300 * GIB, 2 * PAGE) } },
	{ "first, and far before", false, 2, { BARE(0x10000, 2 * PAGE), CODE } },
	{ "first, and near", false, 2, { BARE(IMAGE - GIB, 2 * PAGE), CODE } },
	{ "more memory than bytes", true, 2, { CODE, { IMAGE + GIB, PAGE, 5 * PAGE } } },
	{ "far before, more memory than bytes", false, 2, { CODE, { 0x10000, PAGE, 5 * PAGE } } },
	{ "several slots before",
	  false,
	  2,
	  { { 4000 * GIB, 2 * PAGE, 2 * PAGE }, BARE(0x10000, PAGE) } },
	{ "larger than a slot", false, 2, { CODE, BARE(IMAGE + GIB, 600 * GIB) } },
	{ "almost as large as a slot", false, 2, { CODE, BARE(IMAGE + GIB, 505 * GIB) } },
	{ "wraps", false, 2, { CODE, BARE(~0ULL - GIB + 1, GIB - PAGE) } },
};

static void fixed_ones(bool interpreter, bool random)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(odd); i++) {
		test_begin("%s%s%s", odd[i].what, interpreter ? ", with an interpreter" : "",
			   random ? "" : ", not random");
		write_program(odd[i].s, odd[i].n, interpreter);
		if (!run(odd[i].what) && odd[i].runs)
			CHECK(false, "does not run");
		test_end();
	}
}

static u64 state = 0x9e3779b97f4a7c15;

static u64 next(u64 below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static u64 some_length(void)
{
	switch (next(4)) {
	case 0:
		return next(8 * PAGE);
	case 1:
		return next(GIB);
	case 2:
		return next(600 * GIB);
	default:
		return PAGE;
	}
}

static void random_ones(int rounds)
{
	struct segment s[MAX_SEGMENTS];
	int i, k, n, ran = 0;

	test_begin("%d random files", rounds);
	for (i = 0; i < rounds; i++) {
		n = 1 + (int)next(MAX_SEGMENTS);
		for (k = 0; k < n; k++) {
			s[k].vaddr = next(2) ? next(0x7fffffffffffULL) : next(1000 * GIB);
			s[k].filesz = next(2) ? 0 : next(2 * PAGE);
			s[k].vaddr &= ~(u64)(PAGE - 1);
			s[k].memsz = s[k].filesz + some_length();
		}
		k = (int)next((u64)n);
		s[k] = (struct segment)CODE;
		write_program(s, n, next(2));
		ran += run("random");
	}
	printf("# %d of %d ran\n", ran, rounds);
	test_end();
}

/*
 * Exec gives a program its stack at the top of what the processor can address, lets others
 * reach it, and only then moves it to where it belongs. Waking up the many who have been
 * waiting for the end of the exec takes it so long that the first ones come in between.
 */
#define TRIES	   8
#define WAITERS	   100
#define OVERCOMMIT "/proc/sys/vm/overcommit_memory"
/* More than there is below any stack in its slot. */
#define GROWTH (512 * GIB)
/* The more memory there is to be given back, the longer an exec makes others wait. */
#define BALLAST (32 * MB)

static struct rlimit stack_limit;

static void exec_slowly(bool placed, int out, int ready)
{
	struct rpal_place place = { .size = sizeof(place) };
	int dev = test_open();
	char *p;

	if (!test_have_pkeys())
		place.flags |= RPAL_PLACE_NO_PKEYS;
	setrlimit(RLIMIT_STACK, &stack_limit);
	test_pin(0);
	p = mmap(NULL, BALLAST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || dup2(out, 1) != 1)
		_exit(60);
	madvise(p, BALLAST, MADV_NOHUGEPAGE);
	memset(p, 1, BALLAST);
	if (placed && ioctl(dev, RPAL_IOC_PLACE, &place))
		_exit(61);
	/* Not before: those who wait would hold up each page fault of the above. */
	if (write(ready, "", 1) != 1)
		_exit(63);
	execl(FILE_, FILE_, NULL);
	_exit(62);
}

/* Store something far below the stack that exec begins with. */
static void grow(pid_t pid)
{
	static const u64 tops[] = { (1UL << 56) - PAGE, (1UL << 47) - PAGE };
	char path[64];
	size_t i;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	/* With five levels, and with four. */
	for (i = 0; i < ARRAY_SIZE(tops); i++)
		if (pwrite(fd, "x", 1, (off_t)(tops[i] - GROWTH)) == 1)
			break;
	close(fd);
}

/* Whose stack is to grow, 0: nobody's at the moment. */
static pid_t target;
static bool done;

static void *waiter(void *unused)
{
	static const struct timespec moment = { 0, 1000000 };
	pid_t pid;

	(void)unused;
	while (!__atomic_load_n(&done, __ATOMIC_RELAXED)) {
		pid = __atomic_load_n(&target, __ATOMIC_RELAXED);
		if (pid)
			grow(pid);
		nanosleep(&moment, NULL);
	}
	return NULL;
}

/* The mappings that the program has printed. */
static FILE *exec_and_grow(bool placed)
{
	int out[2], ready[2];
	pid_t pid;
	char c;

	MUST(!pipe2(out, O_CLOEXEC) && !pipe2(ready, O_CLOEXEC));
	fflush(stdout);
	pid = fork();
	MUST(pid >= 0);
	if (!pid)
		exec_slowly(placed, out[1], ready[1]);
	close(out[1]);
	close(ready[1]);
	MUST(read(ready[0], &c, 1) == 1);
	close(ready[0]);
	__atomic_store_n(&target, pid, __ATOMIC_RELAXED);
	test_wait(pid);
	__atomic_store_n(&target, 0, __ATOMIC_RELAXED);
	return fdopen(out[0], "r");
}

/* In how many of the tries does the stack of a program that is not placed grow? */
static int times_grown(void)
{
	char line[300];
	int i, n = 0;
	u64 start, end;
	FILE *f;

	for (i = 0; i < TRIES; i++) {
		f = exec_and_grow(false);
		MUST(f);
		while (fgets(line, sizeof(line), f))
			n += sscanf(line, "%lx-%lx", &start, &end) == 2 && end - start >= GROWTH;
		fclose(f);
	}
	return n;
}

static void placed_grown(void)
{
	char line[300];
	int i, lines;
	u64 slot;
	FILE *f;

	for (i = 0; i < TRIES; i++) {
		f = exec_and_grow(true);
		MUST(f);
		slot = 0;
		lines = 0;
		while (fgets(line, sizeof(line), f)) {
			CHECK(line_ok(line, &slot), "outside of the slot: %s", line);
			lines++;
		}
		fclose(f);
		CHECK(lines, "does not run");
	}
}

static void placed_and_not(void)
{
	int n;

	placed_grown();
	n = times_grown();
	printf("# not placed, it has grown in %d of %d\n", n, TRIES);
	if (!n)
		test_skip_case("nobody comes in time here");
}

static void first_stack(void)
{
	static const struct segment plain = CODE;
	struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };
	pthread_t threads[WAITERS];
	char before[8] = "";
	int fd = open(OVERCOMMIT, O_RDONLY), i;

	test_begin("another lets the stack grow that exec begins with");
	write_program(&plain, 1, false);
	/* Else it takes many who do that at a time, a part of it each. */
	MUST(fd >= 0 && read(fd, before, sizeof(before) - 1) > 0 && !close(fd));
	MUST(test_write_file(OVERCOMMIT, "1"));
	/* Not on the CPU of the exec, if there is another. */
	test_pin(sysconf(_SC_NPROCESSORS_ONLN) > 1);
	for (i = 0; i < WAITERS; i++)
		MUST(!pthread_create(&threads[i], NULL, waiter, NULL));
	/* Not before: threads' stacks would be as large. */
	MUST(!getrlimit(RLIMIT_STACK, &stack_limit) && !setrlimit(RLIMIT_STACK, &none));
	placed_and_not();
	__atomic_store_n(&done, true, __ATOMIC_RELAXED);
	for (i = 0; i < WAITERS; i++)
		pthread_join(threads[i], NULL);
	setrlimit(RLIMIT_STACK, &stack_limit);
	test_write_file(OVERCOMMIT, before);
	test_end();
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 100;
	int old;

	test_init(argc, argv, NULL);
	write_interpreter();
	fixed_ones(false, true);
	fixed_ones(true, true);
	old = personality(0xffffffff);
	personality(old | ADDR_NO_RANDOMIZE);
	fixed_ones(true, false);
	personality(old);
	random_ones(rounds);
	/* Last: it stays on one CPU. */
	first_stack();
	unlink(FILE_);
	unlink(FILE_ ".ld");
	return test_finish();
}
