// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - virtual CPUs: set-up, the run loop, exits
 *
 * Each vCPU is a thread that calls KVM_RUN until the machine ends.  vCPU 0 starts
 * at the kernel's 64-bit entry point; the others wait, in the in-kernel local
 * APIC, for the guest's start-up interrupt.
 *
 * To end, vm->stopping is set and every thread gets a signal.  The signal
 * interrupts KVM_RUN; immediate_exit closes the window between the test of
 * vm->stopping and KVM_RUN.
 */
#include <asm/kvm_para.h>
#include <errno.h>
#include <linux/kvm_para.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "attrvmm.h"

#define MAX_CPUID_ENTRIES	256
#define KICK_SIGNAL		SIGUSR1

#define CR0_PE			_BITULL(0)
#define CR0_MP			_BITULL(1)
#define CR0_ET			_BITULL(4)
#define CR0_NE			_BITULL(5)
#define CR0_WP			_BITULL(16)
#define CR0_PG			_BITULL(31)
#define CR4_PAE			_BITULL(5)
#define EFER_LME		_BITULL(8)
#define EFER_LMA		_BITULL(10)

#define BOOT_CS			0x10
#define BOOT_DS			0x18
#define RFLAGS_RESERVED		_BITUL(1)

#define MSR_IA32_MISC_ENABLE	0x1a0
#define MISC_ENABLE_FAST_STRING	_BITUL(0)
#define MSR_MTRR_DEF_TYPE	0x2ff
#define MTRR_ENABLED		_BITUL(11)
#define MTRR_WRITE_BACK		6

#define APIC_LVT_LINT0		0x350
#define APIC_LVT_LINT1		0x360
#define LVT_NMI			0x400
#define LVT_EXTINT		0x700

static void *must_alloc(size_t size)
{
	void *mem = calloc(1, size);

	if (!mem)
		die(STATUS_HOST, "calloc: %s: free some memory", strerror(errno));
	return mem;
}

/* The smallest number of APIC ID bits that tells nr CPUs apart. */
static unsigned int id_bits(unsigned int nr)
{
	unsigned int bits = 0;

	while (1U << bits < nr)
		bits++;
	return bits;
}

/* One package of single-threaded cores. */
static void set_topology(struct kvm_cpuid_entry2 *entry, unsigned int id,
			 unsigned int cpus)
{
	bool cores = entry->index == 1;

	entry->eax = cores ? id_bits(cpus) : 0;
	entry->ebx = entry->index > 1 ? 0 : cores ? cpus : 1;
	entry->ecx = entry->index | (entry->index > 1 ? 0 : (cores ? 2 : 1) << 8);
	entry->edx = id;
}

static void adjust_cpuid(const struct vcpu *vcpu, struct kvm_cpuid_entry2 *entry)
{
	unsigned int cpus = vcpu->vm->opt.cpus;

	switch (entry->function) {
	case 0x1:
		entry->ebx &= 0xffff;
		entry->ebx |= vcpu->id << 24 | cpus << 16;
		entry->ecx |= 1U << 31;			/* hypervisor */
		if (ioctl(vcpu->vm->fd, KVM_CHECK_EXTENSION,
			  KVM_CAP_TSC_DEADLINE_TIMER) > 0)
			entry->ecx |= 1U << 24;
		if (cpus > 1)
			entry->edx |= 1U << 28;		/* more than one ID */
		break;
	case 0xb:
	case 0x1f:
		set_topology(entry, vcpu->id, cpus);
		break;
	case 0x80000008:
		entry->ecx = id_bits(cpus) << 12 | (cpus - 1);
		break;
	case KVM_CPUID_FEATURES:
		/* KVM leaves it to the program that serves the hypercall. */
		if (vcpu->vm->hypercall_exits)
			entry->eax |= 1U << KVM_FEATURE_HC_MAP_GPA_RANGE;
		break;
	}
}

static void set_cpuid(const struct vcpu *vcpu)
{
	struct kvm_cpuid2 *cpuid;
	unsigned int i;

	cpuid = must_alloc(sizeof(*cpuid) +
			   MAX_CPUID_ENTRIES * sizeof(cpuid->entries[0]));
	cpuid->nent = MAX_CPUID_ENTRIES;
	must_ioctl(vcpu->vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid,
		   "for E2BIG raise MAX_CPUID_ENTRIES");
	for (i = 0; i < cpuid->nent; i++)
		adjust_cpuid(vcpu, &cpuid->entries[i]);
	must_ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid,
		   "the host refuses a CPU that it offered: a kernel bug");
	free(cpuid);
}

static void set_msrs(const struct vcpu *vcpu)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[2];
	} msrs = {
		.head.nmsrs = 2,
		.entries[0] = {
			.index = MSR_IA32_MISC_ENABLE,
			.data = MISC_ENABLE_FAST_STRING,
		},
		.entries[1] = {
			.index = MSR_MTRR_DEF_TYPE,
			.data = MTRR_ENABLED | MTRR_WRITE_BACK,
		},
	};

	must_ioctl(vcpu->fd, KVM_SET_MSRS, &msrs, "a kernel bug");
}

/* As firmware leaves them: the old interrupt controller, and NMI. */
static void set_local_apic(const struct vcpu *vcpu)
{
	struct kvm_lapic_state lapic;
	__u32 lvt;

	must_ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic, "a kernel bug");
	lvt = LVT_EXTINT;
	memcpy(lapic.regs + APIC_LVT_LINT0, &lvt, sizeof(lvt));
	lvt = LVT_NMI;
	memcpy(lapic.regs + APIC_LVT_LINT1, &lvt, sizeof(lvt));
	must_ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic, "a kernel bug");
}

static struct kvm_segment flat_segment(__u16 selector, bool code)
{
	return (struct kvm_segment) {
		.selector = selector,
		.limit = 0xffffffff,
		.type = code ? 0xb : 0x3,	/* accessed, executable/writable */
		.present = 1,
		.s = 1,
		.g = 1,
		.l = code,
		.db = !code,
	};
}

/* 64-bit mode, paging on, interrupts off, RSI: boot_params. */
static void set_entry_state(const struct vcpu *vcpu,
			    const struct entry_point *entry)
{
	struct kvm_regs regs = {
		.rip = entry->rip,
		.rsi = entry->boot_params,
		.rflags = RFLAGS_RESERVED,
	};
	struct kvm_sregs sregs;

	must_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs, "a kernel bug");
	sregs.cs = flat_segment(BOOT_CS, true);
	sregs.ds = flat_segment(BOOT_DS, false);
	sregs.es = sregs.ds;
	sregs.fs = sregs.ds;
	sregs.gs = sregs.ds;
	sregs.ss = sregs.ds;
	sregs.gdt.base = entry->gdt;
	sregs.gdt.limit = entry->gdt_limit;
	sregs.idt.base = 0;
	sregs.idt.limit = 0;
	sregs.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	sregs.cr3 = entry->page_tables;
	sregs.cr4 = CR4_PAE;
	sregs.efer = EFER_LME | EFER_LMA;
	must_ioctl(vcpu->fd, KVM_SET_SREGS, &sregs, "a bug in boot.c or vcpu.c");
	must_ioctl(vcpu->fd, KVM_SET_REGS, &regs, "a kernel bug");
}

static void map_run(struct vcpu *vcpu)
{
	vcpu->run_size = must_ioctl(vcpu->vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0,
				    "is /dev/kvm really KVM?");
	vcpu->run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE,
			 MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED)
		die(STATUS_HOST, "mmap of vCPU %u: %s: free some memory",
		    vcpu->id, strerror(errno));
}

void vcpus_create(struct vm *vm, const struct entry_point *entry)
{
	struct vcpu *vcpu;
	unsigned int i;

	vm->vcpus = must_alloc(vm->opt.cpus * sizeof(*vm->vcpus));
	for (i = 0; i < vm->opt.cpus; i++) {
		vcpu = &vm->vcpus[i];
		vcpu->vm = vm;
		vcpu->id = i;
		vcpu->fd = must_ioctl(vm->fd, KVM_CREATE_VCPU, i,
				      "give less --cpus");
		map_run(vcpu);
		set_cpuid(vcpu);
		set_msrs(vcpu);
		set_local_apic(vcpu);
	}
	set_entry_state(&vm->vcpus[0], entry);
}

static int convert(struct vm *vm, __u64 gpa, __u64 size, bool to_private)
{
	int leftover, ret = convert_range(vm, gpa, size, to_private, &leftover);

	if (leftover)
		report_leftover(gpa, size, to_private, leftover);
	return ret;
}

/*
 * The guest asks for a conversion.  What it gets back is the hypercall's
 * result: 0 or a negative KVM_E*, whose numbers are those of errno.
 */
static void hypercall(struct vm *vm, struct kvm_run *run)
{
	__u64 gpa = run->hypercall.args[0];
	__u64 pages = run->hypercall.args[1];
	__u64 flags = run->hypercall.args[2];

	if (run->hypercall.nr != KVM_HC_MAP_GPA_RANGE) {
		run->hypercall.ret = -KVM_ENOSYS;
		return;
	}
	/* Shifting must not lose bits: no machine has that many pages. */
	if (pages > vm->ram.size >> PAGE_SHIFT) {
		run->hypercall.ret = -KVM_EINVAL;
		return;
	}
	run->hypercall.ret = convert(vm, gpa, pages << PAGE_SHIFT,
				     flags & KVM_MAP_GPA_RANGE_ENCRYPTED);
}

/*
 * KVM wanted the page to be of the other kind, private or shared.  If it is of that
 * kind by now, another vCPU met it too and had it converted: then enter again.  But
 * if nothing was converted since this vCPU entered, then KVM cannot provide the
 * page, and would exit for ever.
 */
static void wrong_kind(struct vcpu *vcpu, bool to_private)
{
	const char *kind = to_private ? "private" : "shared";
	struct kvm_run *run = vcpu->run;
	__u64 gpa = run->memory_fault.gpa;
	struct vm *vm = vcpu->vm;
	bool is_private;

	if (!gpa_to_hva(&vm->ram, gpa, run->memory_fault.size)) {
		vm_end(vm, END_CRASH, "%s access to %#llx, where there is no RAM",
		       kind, gpa);
		return;
	}

	is_private = !shared_gpa_to_hva(&vm->ram, gpa, run->memory_fault.size);
	if (is_private == to_private &&
	    atomic_load(&vm->ram.conversions) != vcpu->entry_conversions)
		return;
	if (is_private == to_private)
		vm_end(vm, END_HOST, "KVM_RUN: %s page %#llx cannot be provided: is memory short?",
		       kind, gpa);
	else if (!vm->opt.convert_on_fault)
		vm_end(vm, END_CRASH, "%s access to %s page %#llx, and --on-fault is stop",
		       kind, to_private ? "shared" : "private", gpa);
	else if (convert(vm, gpa, run->memory_fault.size, to_private))
		vm_end(vm, END_HOST,
		       "KVM_SET_MEMORY_ATTRIBUTES: page %#llx cannot become %s: is memory short?",
		       gpa, kind);
}

/*
 * KVM could not make an access, and says why.  Nothing has happened yet: entering
 * the guest again repeats the access.
 */
static void memory_fault(struct vcpu *vcpu)
{
	const __u64 rwx = KVM_MEMORY_EXIT_FLAG_READ |
			  KVM_MEMORY_EXIT_FLAG_WRITE |
			  KVM_MEMORY_EXIT_FLAG_EXEC;
	const struct kvm_run *run = vcpu->run;
	__u64 flags = run->memory_fault.flags;

	if (flags & ~(rwx | KVM_MEMORY_EXIT_FLAG_PRIVATE))
		vm_end(vcpu->vm, END_HOST,
		       "KVM_EXIT_MEMORY_FAULT: flags %#llx: this kernel is newer than attrvmm",
		       flags);
	else if (flags & rwx)
		refused_access(vcpu, run->memory_fault.gpa, flags & rwx);
	else
		wrong_kind(vcpu, flags & KVM_MEMORY_EXIT_FLAG_PRIVATE);
}

static void internal_error(struct vcpu *vcpu)
{
	struct kvm_regs regs = { };

	ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	vm_end(vcpu->vm, END_CRASH,
	       "vCPU %u at RIP %#llx: KVM_EXIT_INTERNAL_ERROR, suberror %u: KVM could not emulate the instruction",
	       vcpu->id, regs.rip, vcpu->run->internal.suberror);
}

static void handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct vm *vm = vcpu->vm;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		port_access(vcpu);
		break;
	case KVM_EXIT_MMIO:
		/* No devices there: reads give ones, writes are lost. */
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
		break;
	case KVM_EXIT_HYPERCALL:
		hypercall(vm, run);
		break;
	case KVM_EXIT_X86_WRMSR:
		pvmsr_write(vcpu);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	case KVM_EXIT_SHUTDOWN:
		vm_end(vm, END_CRASH, "vCPU %u: triple fault", vcpu->id);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		internal_error(vcpu);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		vm_end(vm, END_HOST,
		       "vCPU %u: KVM_EXIT_FAIL_ENTRY, hardware reason %#llx: the CPU refused the guest's state",
		       vcpu->id, run->fail_entry.hardware_entry_failure_reason);
		break;
	default:
		vm_end(vm, END_CRASH, "vCPU %u: exit %u (%s) is not handled",
		       vcpu->id, run->exit_reason,
		       exit_reason_name(run->exit_reason));
	}
}

/* KVM_RUN has failed: a memory fault is one way of it. */
static void handle_failure(struct vcpu *vcpu, int error)
{
	struct kvm_run *run = vcpu->run;

	if (error == EINTR || error == EAGAIN)
		return;

	/* With any other errno, exit_reason is that of an earlier exit. */
	if ((error == EFAULT || error == EHWPOISON) &&
	    run->exit_reason == KVM_EXIT_MEMORY_FAULT) {
		vcpu->exits[KVM_EXIT_MEMORY_FAULT]++;
		memory_fault(vcpu);
		return;
	}
	vm_end(vcpu->vm, END_HOST, "KVM_RUN, vCPU %u: %s: %s", vcpu->id,
	       strerror(error), error == EFAULT || error == ENOMEM ?
	       "is the shared backing full (/dev/shm, nr_hugepages)?" :
	       "see the host's kernel log");
}

static void *run_vcpu(void *arg)
{
	struct vcpu *vcpu = arg;
	struct kvm_run *run = vcpu->run;

	while (!atomic_load(&vcpu->vm->stopping)) {
		run->exit_reason = KVM_EXIT_UNKNOWN;
		vcpu->entry_conversions =
			atomic_load(&vcpu->vm->ram.conversions);
		if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
			handle_failure(vcpu, errno);
			continue;
		}
		if (run->exit_reason < NR_EXIT_REASONS)
			vcpu->exits[run->exit_reason]++;
		handle_exit(vcpu);
	}
	return NULL;
}

static void kicked(int sig)
{
	/* Its delivery alone makes KVM_RUN return. */
	(void)sig;
}

void vcpus_start(struct vm *vm)
{
	struct sigaction action = { .sa_handler = kicked };
	struct vcpu *vcpu;
	int error;

	sigaction(KICK_SIGNAL, &action, NULL);
	for (; vm->nr_started < vm->opt.cpus; vm->nr_started++) {
		vcpu = &vm->vcpus[vm->nr_started];
		error = pthread_create(&vcpu->thread, NULL, run_vcpu, vcpu);
		if (error)
			die(STATUS_HOST, "thread of vCPU %u: %s: give less --cpus",
			    vcpu->id, strerror(error));
	}
}

void vcpus_stop(struct vm *vm)
{
	unsigned int i;

	for (i = 0; i < vm->nr_started; i++) {
		vm->vcpus[i].run->immediate_exit = 1;
		pthread_kill(vm->vcpus[i].thread, KICK_SIGNAL);
	}
	for (i = 0; i < vm->nr_started; i++)
		pthread_join(vm->vcpus[i].thread, NULL);
}
