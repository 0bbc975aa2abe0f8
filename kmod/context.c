// SPDX-License-Identifier: GPL-2.0-only
/*
 * Register contexts: building them from blocks, taking them from a task,
 * putting them on one.
 *
 * What a block says is user-writable: each field is read once, and nothing of
 * it reaches a register that could hurt the kernel. General registers and the
 * stack pointer may be anything; the instruction pointer is one that was
 * registered, or one at which the CPU really was.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/string.h>
#include <asm/fpu/api.h>
#include <asm/fpu/types.h>
#include <asm/fpu/xstate.h>
#include <asm/fsgsbase.h>
#include <asm/pkru.h>
#include <asm/processor.h>

#include "thread.h"

#define USER_FLAGS	(X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | \
			 X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_DF | \
			 X86_EFLAGS_OF | X86_EFLAGS_AC | X86_EFLAGS_ID)
#define MXCSR_VALID	0xffff

static unsigned long canonical(unsigned long addr)
{
	return addr < TASK_SIZE_MAX ? addr : 0;
}

static void regs_finish(struct pt_regs *regs)
{
	regs->flags = (regs->flags & USER_FLAGS) | X86_EFLAGS_IF |
		      X86_EFLAGS_FIXED;
	regs->cs = __USER_CS;
	regs->ss = __USER_DS;
	/* Nothing of this is a system call that could be restarted. */
	regs->orig_ax = -1;
}

/**
 * rpal_context_from_block() - the context that a thread has saved in its block
 * @ctx:	where to; the FPU image is not touched
 * @t:		the thread
 * @ip:		where it is to continue: an address it has registered
 * @ax:		value of ax
 * @dx:		value of dx
 *
 * Context: any.
 */
void rpal_context_from_block(struct rpal_context *ctx, struct rpal_tcb *t,
			     unsigned long ip, s64 ax, s64 dx)
{
	struct rpal_block *block = t->block;
	struct pt_regs *regs = &ctx->regs;

	memset(regs, 0, sizeof(*regs));
	regs->ip = ip;
	regs->sp = READ_ONCE(block->sp);
	regs->bx = READ_ONCE(block->bx);
	regs->bp = READ_ONCE(block->bp);
	regs->r12 = READ_ONCE(block->r12);
	regs->r13 = READ_ONCE(block->r13);
	regs->r14 = READ_ONCE(block->r14);
	regs->r15 = READ_ONCE(block->r15);
	regs->ax = ax;
	regs->dx = dx;
	regs_finish(regs);
	/* As after a system call, so that the fast way back may be taken. */
	regs->cx = regs->ip;
	regs->r11 = regs->flags;
	ctx->fsbase = canonical(READ_ONCE(block->fsbase));
	ctx->pkru = READ_ONCE(block->pkru);
	ctx->trapped = false;
}

/**
 * rpal_context_live() - the context that the current task runs
 * @ctx:	where to; the FPU image is not touched
 * @regs:	its registers at the entry into the kernel
 * @syscall:	it came by a system call, which is to be made again
 * @trapped:	it came by a trap that is not made again
 *
 * Context: the task itself.
 */
void rpal_context_live(struct rpal_context *ctx, struct pt_regs *regs,
		       bool syscall, bool trapped)
{
	/* Its own steps; those of whoever traces this task are none of its. */
	bool steps = regs->flags & X86_EFLAGS_TF &&
		     !test_thread_flag(TIF_FORCED_TF);

	ctx->regs = *regs;
	if (syscall) {
		/* SYSCALL and INT 0x80 are both two bytes long. */
		ctx->regs.ip -= 2;
		ctx->regs.ax = regs->orig_ax;
	}
	regs_finish(&ctx->regs);
	if (steps)
		ctx->regs.flags |= X86_EFLAGS_TF;
	/* SYSCALL has lost these two; INT 0x80 has not. */
	if (syscall && regs->cx == regs->ip) {
		ctx->regs.cx = ctx->regs.ip;
		ctx->regs.r11 = ctx->regs.flags;
	}
	ctx->fsbase = rdfsbase();
	ctx->pkru = read_pkru();
	ctx->trapped = trapped;
	ctx->trap_nr = current->thread.trap_nr;
	ctx->error_code = current->thread.error_code;
}

static struct xregs_state *own_image(void)
{
	return &current->thread.fpu.fpstate->regs.xsave;
}

/**
 * rpal_context_fpu_from_block() - make an image as after a function call
 * @image:	an image that was a valid one before
 * @t:		thread whose control words it gets
 *
 * Context: any.
 */
void rpal_context_fpu_from_block(void *image, struct rpal_tcb *t)
{
	struct xregs_state *x = image;

	memset(x->i387.st_space, 0, sizeof(x->i387.st_space));
	memset(x->i387.xmm_space, 0, sizeof(x->i387.xmm_space));
	x->i387.cwd = READ_ONCE(t->block->fcw);
	x->i387.swd = 0;
	x->i387.twd = 0;
	x->i387.fop = 0;
	x->i387.rip = 0;
	x->i387.rdp = 0;
	x->i387.mxcsr = READ_ONCE(t->block->mxcsr) & MXCSR_VALID;
	x->header.xfeatures &= XFEATURE_MASK_SUPERVISOR_SUPPORTED;
	x->header.xfeatures |= XFEATURE_MASK_FPSSE;
}

/**
 * rpal_context_fpu_save() - copy the current task's image
 * @ctx:	where to
 *
 * Context: between kernel_fpu_begin() and kernel_fpu_end().
 */
void rpal_context_fpu_save(struct rpal_context *ctx)
{
	struct xregs_state *x = ctx->fpu;

	unsafe_memcpy(x, own_image(),
		      min(ctx->fpu_size, current->thread.fpu.fpstate->size),
		      /* both are allocated with the size in the fpstate */);
	/*
	 * Supervisor state is the task's, not the code's that it runs. State that a task
	 * asks for (AMX) has no room in the images of those that have not.
	 */
	x->header.xfeatures &= ~(u64)(XFEATURE_MASK_SUPERVISOR_SUPPORTED |
				      XFEATURE_MASK_USER_DYNAMIC);
}

/* After its image was changed: it must be loaded again. */
static void image_changed(void)
{
	current->thread.fpu.last_cpu = -1;
}

/**
 * rpal_context_fpu_own() - give the current task an image from a block
 * @t:		whose control words
 *
 * Context: between kernel_fpu_begin() and kernel_fpu_end().
 */
void rpal_context_fpu_own(struct rpal_tcb *t)
{
	rpal_context_fpu_from_block(own_image(), t);
	image_changed();
}

/**
 * rpal_context_enter() - let the current task go on with a context
 * @ctx:	the context; its FPU image is not looked at
 *
 * Context: the task itself, on its way back to user mode.
 */
void rpal_context_enter(const struct rpal_context *ctx)
{
	struct pt_regs *regs = current_pt_regs();

	*regs = ctx->regs;
	/* Whatever the source says: user code, that can be interrupted. */
	regs->cs = __USER_CS;
	regs->ss = __USER_DS;
	regs->flags = (regs->flags & (USER_FLAGS | X86_EFLAGS_TF)) |
		      X86_EFLAGS_IF | X86_EFLAGS_FIXED;
	/* Whoever steps through this task goes on with it. */
	if (test_thread_flag(TIF_SINGLESTEP))
		regs->flags |= X86_EFLAGS_TF;
	write_pkru(ctx->pkru);
	wrfsbase(ctx->fsbase);
}

/* Components of the compacted format: as the CPU describes them. */
#define FIRST_EXTENDED	2
#define NR_COMPONENTS	63

static struct {
	u32 size;		/* in bytes */
	bool aligned;		/* to 64 bytes */
} components[NR_COMPONENTS];

/**
 * rpal_context_module_init() - ask the CPU how it saves registers
 *
 * Context: module load.
 * Return: 0, or -ENODEV on a CPU that cannot call.
 */
int rpal_context_module_init(void)
{
	u32 size, offset, flags, unused;
	int i;

	if (!boot_cpu_has(X86_FEATURE_FSGSBASE)) {
		pr_err("this CPU or kernel has no FSGSBASE, which calls need\n");
		return -ENODEV;
	}
	/* Without it images have no header. */
	if (!boot_cpu_has(X86_FEATURE_XSAVE)) {
		pr_err("this CPU or kernel has no XSAVE, which calls need\n");
		return -ENODEV;
	}
	for (i = FIRST_EXTENDED; i < NR_COMPONENTS; i++) {
		cpuid_count(0xd, i, &size, &offset, &flags, &unused);
		components[i].size = size;
		components[i].aligned = flags & 2;
	}
	return 0;
}

/* Where the next component is in an image of these, and what is behind it. */
static unsigned int place_of(u64 layout, int i, unsigned int *end)
{
	unsigned int at = *end;

	if (!(layout & BIT_ULL(i)))
		return 0;
	if (components[i].aligned)
		at = ALIGN(at, 64);
	*end = at + components[i].size;
	return at;
}

/*
 * Component by component: the task's own supervisor state stays where it is, and what
 * its image has no room for, or is not allowed to hold, is left out. If such state were
 * marked as there, the kernel would fault when it loads the image.
 */
static void install_compacted(struct xregs_state *to,
			      const struct xregs_state *from, u64 allowed)
{
	unsigned int to_end = sizeof(to->i387) + sizeof(to->header);
	unsigned int from_end = to_end;
	int i;

	for (i = FIRST_EXTENDED; i < NR_COMPONENTS; i++) {
		unsigned int a = place_of(to->header.xcomp_bv, i, &to_end);
		unsigned int b = place_of(from->header.xcomp_bv, i, &from_end);

		if (!a || !b || !(allowed & BIT_ULL(i)))
			continue;
		unsafe_memcpy((void *)to + a, (const void *)from + b,
			      components[i].size,
			      /* both images have the component */);
	}
}

static void install_image(const struct rpal_context *ctx)
{
	struct fpstate *fpstate = current->thread.fpu.fpstate;
	const struct xregs_state *from = ctx->fpu;
	struct xregs_state *to = own_image();
	u64 supervisor = to->header.xfeatures & XFEATURE_MASK_SUPERVISOR_SUPPORTED;
	u64 allowed = fpstate->xfeatures & ~fpstate->xfd &
		      ~(u64)(XFEATURE_MASK_SUPERVISOR_SUPPORTED |
			     XFEATURE_MASK_USER_DYNAMIC);

	if (to->header.xcomp_bv & XCOMP_BV_COMPACTED_FORMAT)
		install_compacted(to, from, allowed);
	else
		unsafe_memcpy(to->extended_state_area, from->extended_state_area,
			      min(ctx->fpu_size, fpstate->size) - sizeof(*to),
			      /* both are allocated with the size in the fpstate */);
	to->i387 = from->i387;
	to->header.xfeatures = (from->header.xfeatures & allowed) | supervisor;
}

/**
 * rpal_context_of_guest() - is the current task's image that of a virtual machine
 *
 * A thread that runs one has its registers swapped for the machine's: it is in a system
 * call of its own then, and nothing of it can be handed over.
 *
 * Context: the task itself.
 */
bool rpal_context_of_guest(void)
{
	return READ_ONCE(current->thread.fpu.fpstate)->is_guest;
}

/**
 * rpal_context_install() - as rpal_context_enter(), with the FPU image
 * @ctx:	the context
 *
 * Context: the task itself, on its way back to user mode.
 */
void rpal_context_install(struct rpal_context *ctx)
{
	kernel_fpu_begin();
	install_image(ctx);
	image_changed();
	kernel_fpu_end();
	if (ctx->trapped) {
		/* What a signal frame will tell of it. */
		current->thread.trap_nr = ctx->trap_nr;
		current->thread.error_code = ctx->error_code;
	}
	rpal_context_enter(ctx);
}

/**
 * rpal_context_go_home() - let the current task go on where its thread waited
 * @t:		the current thread
 * @ip:		where it is to continue
 * @ax:		value of ax
 * @dx:		value of dx
 *
 * Context: the task itself, on its way back to user mode.
 */
void rpal_context_go_home(struct rpal_tcb *t, unsigned long ip, s64 ax, s64 dx)
{
	struct rpal_context ctx;

	rpal_context_from_block(&ctx, t, ip, ax, dx);
	kernel_fpu_begin();
	rpal_context_fpu_own(t);
	kernel_fpu_end();
	rpal_context_enter(&ctx);
}
