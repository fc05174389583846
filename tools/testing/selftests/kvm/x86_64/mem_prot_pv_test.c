// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages through which KVM talks to the guest, under protection.
 *
 * The guest, or the VMM, places a kvmclock, steal time, Hyper-V or Xen
 * structure over a page that it may not write.  KVM must not do it for them:
 * the page keeps every byte, and whatever enables the feature behaves as it
 * does for a page that is no memory at all.  The same must hold if the page
 * becomes protected while the feature is in use.
 *
 * Each feature is tried on
 *  - a plain page, where KVM must write (or the test would show nothing),
 *  - a GFN without memslot, to see what that looks like to the guest,
 *  - a page without write access, and one without any access,
 *  - a page that loses access, and gets it back, while the feature is in use.
 */
#define _GNU_SOURCE /* for sched_setaffinity() */
#include <asm/kvm_para.h>
#include <asm/pvclock-abi.h>
#include <linux/kvm_para.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "apic.h"
#include "hyperv.h"
#include "mem_prot.h"

#define PG		0x1000ull
#define SLOT		10
#define MEM_GPA		0x100000000ull
#define MEM_SIZE	(16 * PG)

/* The page in question, another one that KVM may use, and no memory at all */
#define PV_GPA		(MEM_GPA + 5 * PG)
#define OTHER_GPA	(MEM_GPA + 8 * PG)
#define UNBACKED_GPA	(MEM_GPA + 32 * PG)
#define ABSENT_GPA	(MEM_GPA + 10 * PG)	/* has to be waited for */

/*
 * Odd as a version, with a PV EOI pending and an async page fault token in
 * use: wrong in every way.
 */
#define JUNK		0x5b

#define INT_VECTOR	0xe1
#define XEN_MSR		0x40000000
#define HV_OS_ID	0x8100000000000001ull

/* ---- Events: by which name KVM says that the page was refused ---- */

#define INSTANCE	"/sys/kernel/tracing/instances/mem_prot_pv"

static bool trace_write(const char *name, const char *value)
{
	char path[256];
	FILE *file;
	bool ok;

	snprintf(path, sizeof(path), INSTANCE "/%s", name);
	file = fopen(path, "w");
	if (!file)
		return false;
	ok = fputs(value, file) >= 0;
	return !fclose(file) && ok;
}

static bool traced;	/* else the names are not looked at */

static void trace_start(void)
{
	rmdir(INSTANCE);
	traced = !mkdir(INSTANCE, 0700) &&
		 trace_write("events/kvm/kvm_mem_attrs_refused/enable", "1");
	if (!traced)
		pr_info("No tracing: names are not checked\n");
}

static void trace_stop(void)
{
	trace_write("events/enable", "0");
	rmdir(INSTANCE);
}

/* Whether a refused access of the page with this path was seen, and no other path. */
static bool trace_names(u64 gpa, const char *path)
{
	FILE *file = fopen(INSTANCE "/trace", "r");
	char line[512], page[64], *is;
	bool found = false;

	TEST_ASSERT(file, "The trace should be readable, errno: %i", errno);
	snprintf(page, sizeof(page), " gfn %#llx ", gpa / PG);
	while (fgets(line, sizeof(line), file)) {
		is = strstr(line, " path ");
		if (!is || !strstr(line, page))
			continue;
		is[strcspn(is, "\n")] = 0;
		TEST_ASSERT(path && !strcmp(is + strlen(" path "), path),
			    "The path should be %s: %s", path ?: "none", line);
		found = true;
	}
	fclose(file);
	return found;
}

/* ---- The guest: enables, says what came of it, and goes on ---- */

#define ENABLED	1
#define WENT_ON	2

static void go_on(u64 outcome)
{
	GUEST_SYNC_ARGS(ENABLED, outcome, 0, 0, 0);
	for (;;)
		GUEST_SYNC(WENT_ON);
}

static void guest_idle(u64 gpa)
{
	go_on(0);
}

static void guest_kvmclock(u64 gpa)
{
	go_on(wrmsr_safe(MSR_KVM_SYSTEM_TIME_NEW, gpa | KVM_MSR_ENABLED));
}

/* Written once each time that the guest asks for it. */
static void guest_wall_clock(u64 gpa)
{
	u64 outcome = wrmsr_safe(MSR_KVM_WALL_CLOCK_NEW, gpa);

	GUEST_SYNC_ARGS(ENABLED, outcome, 0, 0, 0);
	for (;;) {
		wrmsr_safe(MSR_KVM_WALL_CLOCK_NEW, gpa);
		GUEST_SYNC(WENT_ON);
	}
}

static void guest_steal_time(u64 gpa)
{
	go_on(wrmsr_safe(MSR_KVM_STEAL_TIME, gpa | KVM_MSR_ENABLED));
}

/* Stays in the guest for some ticks of the host, so that it can be preempted. */
static void guest_steal_time_busy(u64 gpa)
{
	u64 outcome = wrmsr_safe(MSR_KVM_STEAL_TIME, gpa | KVM_MSR_ENABLED);
	int i;

	GUEST_SYNC_ARGS(ENABLED, outcome, 0, 0, 0);
	for (;;) {
		for (i = 0; i < 3000000; i++)
			asm volatile("");
		GUEST_SYNC(WENT_ON);
	}
}

static void guest_async_pf(u64 gpa)
{
	x2apic_enable();
	wrmsr(MSR_KVM_ASYNC_PF_INT, INT_VECTOR);
	go_on(wrmsr_safe(MSR_KVM_ASYNC_PF_EN, gpa | KVM_ASYNC_PF_ENABLED |
			 KVM_ASYNC_PF_DELIVERY_AS_INT));
}

/*
 * Faults again and again until the page is there.  The token is taken, what else
 * KVM has said on the page is left there for the VMM to see.
 */
static struct kvm_vcpu_pv_apf_data *apf;

static void guest_async_pf_taken(u64 gpa)
{
	u64 outcome;

	apf = (void *)gpa;
	x2apic_enable();
	wrmsr(MSR_KVM_ASYNC_PF_INT, INT_VECTOR);
	outcome = wrmsr_safe(MSR_KVM_ASYNC_PF_EN, gpa | KVM_ASYNC_PF_ENABLED |
			     KVM_ASYNC_PF_SEND_ALWAYS |
			     KVM_ASYNC_PF_DELIVERY_AS_INT);
	GUEST_SYNC_ARGS(ENABLED, outcome, 0, 0, 0);
	for (;;) {
		asm volatile("sti; nop" ::: "memory");
		WRITE_ONCE(*(u64 *)ABSENT_GPA, 1);
		asm volatile("cli" ::: "memory");
		GUEST_SYNC(WENT_ON);
	}
}

static void guest_pf_handler(struct ex_regs *regs)
{
}

static void guest_ready_handler(struct ex_regs *regs)
{
	apf->token = 0;
	wrmsr(MSR_KVM_ASYNC_PF_ACK, 1);
	x2apic_write_reg(APIC_EOI, 0);
}

static void guest_irq_handler(struct ex_regs *regs)
{
	x2apic_write_reg(APIC_EOI, 0);
}

/* Only an interrupt makes KVM say that an EOI needs no exit. */
static void guest_pv_eoi(u64 gpa)
{
	u64 outcome;

	x2apic_enable();
	outcome = wrmsr_safe(MSR_KVM_PV_EOI_EN, gpa | KVM_MSR_ENABLED);
	GUEST_SYNC_ARGS(ENABLED, outcome, 0, 0, 0);
	for (;;) {
		x2apic_write_reg(APIC_ICR, APIC_DEST_SELF | APIC_INT_ASSERT |
				 APIC_DM_FIXED | INT_VECTOR);
		asm volatile("sti; nop; nop; cli" ::: "memory");
		GUEST_SYNC(WENT_ON);
	}
}

static void guest_vapic(u64 gpa)
{
	x2apic_enable();
	go_on(0);
}

static void guest_clock_pairing(u64 gpa)
{
	go_on(kvm_hypercall(KVM_HC_CLOCK_PAIRING, gpa,
			    KVM_CLOCK_PAIRING_WALLCLOCK, 0, 0));
}

/* Again and again: for KVM the page is in use when it cannot be written. */
static void guest_hv_msr(u64 gpa, u64 msr)
{
	u64 outcome;

	wrmsr(HV_X64_MSR_GUEST_OS_ID, HV_OS_ID);
	outcome = wrmsr_safe(msr, gpa | 1);
	GUEST_SYNC_ARGS(ENABLED, outcome, 0, 0, 0);
	for (;;) {
		wrmsr_safe(msr, gpa | 1);
		GUEST_SYNC(WENT_ON);
	}
}

/* Flushes the address spaces that its input, in memory, tells. */
static void guest_hv_hypercall(u64 gpa)
{
	u64 control = 2, output = OTHER_GPA + PG, result;

	wrmsr(HV_X64_MSR_GUEST_OS_ID, HV_OS_ID);
	wrmsr(HV_X64_MSR_HYPERCALL, OTHER_GPA | 1);
	asm volatile("mov %4, %%r8; vmcall"
		     : "=a"(result), "+c"(control), "+d"(gpa)
		     : "a"(0), "r"(output) : "cc", "memory", "r8", "r9", "r10",
		     "r11");
	go_on((u16)result);
}

static void guest_xen_hypercall_page(u64 gpa)
{
	go_on(wrmsr_safe(XEN_MSR, gpa));
}

/* ---- The VMM's part of each feature ---- */

static bool has_kvmclock(void)
{
	return kvm_cpu_has(X86_FEATURE_KVM_CLOCKSOURCE2);
}

static bool has_steal_time(void)
{
	return kvm_cpu_has(X86_FEATURE_KVM_STEAL_TIME);
}

static bool has_async_pf(void)
{
	return kvm_cpu_has(X86_FEATURE_KVM_ASYNC_PF_INT);
}

static bool has_pv_eoi(void)
{
	return kvm_cpu_has(X86_FEATURE_KVM_PV_EOI);
}

static bool has_hv(void)
{
	return kvm_has_cap(KVM_CAP_HYPERV_CPUID);
}

static bool has_xen(void)
{
	return kvm_check_cap(KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_EVTCHN_SEND;
}

/* Of what KVM offers the guest is told of steal time alone. */
static void prepare_no_flush(struct kvm_vcpu *vcpu)
{
	struct kvm_cpuid_entry2 *entry;

	entry = vcpu_get_cpuid_entry(vcpu, KVM_CPUID_FEATURES);
	entry->eax = BIT(KVM_FEATURE_STEAL_TIME);
	vcpu_set_cpuid(vcpu);
	vcpu_enable_cap(vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1);
}

static void prepare_irq(struct kvm_vcpu *vcpu)
{
	vm_install_exception_handler(vcpu->vm, INT_VECTOR, guest_irq_handler);
}

/* The memory of the VM at hand */
static struct prot_mem *memory;

/* Faults on it reach the VMM. */
static int absent_uffd = -1;

static void prepare_absent(struct kvm_vcpu *vcpu)
{
	struct uffdio_register reg = {
		.range.start = (u64)prot_mem_hva(memory, ABSENT_GPA),
		.range.len = PG,
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };

	virt_map(vcpu->vm, PV_GPA, PV_GPA, 1);
	virt_map(vcpu->vm, ABSENT_GPA, ABSENT_GPA, 1);
	vm_install_exception_handler(vcpu->vm, INT_VECTOR, guest_ready_handler);
	vm_install_exception_handler(vcpu->vm, PF_VECTOR, guest_pf_handler);

	if (absent_uffd >= 0)
		close(absent_uffd);
	absent_uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	TEST_ASSERT(absent_uffd >= 0 && !ioctl(absent_uffd, UFFDIO_API, &api) &&
		    !ioctl(absent_uffd, UFFDIO_REGISTER, &reg),
		    "userfaultfd should be there, %s", strerror(errno));
}

static void prepare_hv(struct kvm_vcpu *vcpu)
{
	vcpu_set_hv_cpuid(vcpu);
}

static void prepare_synic(struct kvm_vcpu *vcpu)
{
	vcpu_set_hv_cpuid(vcpu);
	vcpu_enable_cap(vcpu, KVM_CAP_HYPERV_SYNIC, 0);
}

static int set_xen_vcpu_attr(struct kvm_vcpu *vcpu, u16 type, u64 gpa)
{
	struct kvm_xen_vcpu_attr attr = { .type = type, .u.gpa = gpa };

	return __vcpu_ioctl(vcpu, KVM_XEN_VCPU_SET_ATTR, &attr);
}

static void prepare_xen(struct kvm_vcpu *vcpu)
{
	struct kvm_xen_hvm_config config = {
		.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
		.msr = XEN_MSR,
	};
	struct kvm_xen_hvm_attr lm = {
		.type = KVM_XEN_ATTR_TYPE_LONG_MODE,
		.u.long_mode = 1,
	};

	vm_ioctl(vcpu->vm, KVM_XEN_HVM_CONFIG, &config);
	vm_ioctl(vcpu->vm, KVM_XEN_HVM_SET_ATTR, &lm);
}

static int enable_vapic(struct kvm_vcpu *vcpu, u64 gpa)
{
	struct kvm_vapic_addr va = { .vapic_addr = gpa };

	return __vcpu_ioctl(vcpu, KVM_SET_VAPIC_ADDR, &va);
}

static int enable_shared_info(struct kvm_vcpu *vcpu, u64 gpa)
{
	struct kvm_xen_hvm_attr info = {
		.type = KVM_XEN_ATTR_TYPE_SHARED_INFO,
		.u.shared_info.gfn = gpa / PG,
	};
	int ret;

	ret = __vm_ioctl(vcpu->vm, KVM_XEN_HVM_SET_ATTR, &info);
	if (!ret)
		ret = set_xen_vcpu_attr(vcpu, KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO,
					OTHER_GPA);
	return ret;
}

static int enable_vcpu_info(struct kvm_vcpu *vcpu, u64 gpa)
{
	return set_xen_vcpu_attr(vcpu, KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO, gpa);
}

static int enable_vcpu_time(struct kvm_vcpu *vcpu, u64 gpa)
{
	return set_xen_vcpu_attr(vcpu, KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO,
				 gpa);
}

static int enable_runstate(struct kvm_vcpu *vcpu, u64 gpa)
{
	return set_xen_vcpu_attr(vcpu, KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR,
				 gpa);
}

static bool has_all(void)
{
	return has_kvmclock() && has_steal_time() && has_async_pf() &&
	       has_pv_eoi() && has_hv() && has_xen();
}

/* All features but one are in use, on other pages. */
static void prepare_all(struct kvm_vcpu *vcpu)
{
	static const u64 msrs[] = {
		MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_STEAL_TIME,
		MSR_KVM_ASYNC_PF_EN, MSR_KVM_PV_EOI_EN, HV_X64_MSR_SIMP,
		HV_X64_MSR_SIEFP, HV_X64_MSR_REFERENCE_TSC,
	};
	int i;

	prepare_synic(vcpu);
	vcpu_set_msr(vcpu, HV_X64_MSR_GUEST_OS_ID, HV_OS_ID);
	/* Has the same MSR. */
	prepare_xen(vcpu);
	/* Before the PV EOI, which it would bring with it. */
	vcpu_set_msr(vcpu, HV_X64_MSR_VP_ASSIST_PAGE, (OTHER_GPA + PG) | 1);
	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		vcpu_set_msr(vcpu, msrs[i], (OTHER_GPA + i * 64) | 1);
	TEST_ASSERT(!enable_vapic(vcpu, OTHER_GPA + 0x800) &&
		    !enable_shared_info(vcpu, OTHER_GPA + 4 * PG) &&
		    !enable_vcpu_time(vcpu, OTHER_GPA + 0x900) &&
		    !enable_runstate(vcpu, OTHER_GPA + 0xa00),
		    "All should be enabled, errno: %i", errno);
}

static void act_kvmclock(struct kvm_vcpu *vcpu)
{
	__vcpu_ioctl(vcpu, KVM_KVMCLOCK_CTRL, NULL);
}

static void *keep_cpu_busy(void *arg)
{
	struct timespec start, elapsed;

	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		elapsed = timespec_elapsed(start);
	} while (timespec_to_ns(elapsed) < 50 * 1000 * 1000);
	return NULL;
}

/* Have another thread want the CPU that the vCPU runs on. */
static void act_preempt(struct kvm_vcpu *vcpu)
{
	pthread_t thread;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(cpus), &cpus),
		    "The first CPU should be there to run on");
	TEST_ASSERT(!pthread_create(&thread, NULL, keep_cpu_busy, NULL) &&
		    !pthread_detach(thread), "There should be a thread to be had");
}

static void *provide_absent(void *arg)
{
	struct uffdio_zeropage zero = {
		.range.start = (u64)prot_mem_hva(memory, ABSENT_GPA),
		.range.len = PG,
	};
	struct uffd_msg msg;

	TEST_ASSERT(read(absent_uffd, &msg, sizeof(msg)) == sizeof(msg),
		    "There should be a fault to read, %s", strerror(errno));
	usleep(10000);
	TEST_ASSERT(!ioctl(absent_uffd, UFFDIO_ZEROPAGE, &zero),
		    "The page should be missing, %s", strerror(errno));
	return NULL;
}

/* The page goes, and comes back some time after it was missed. */
static void act_absent(struct kvm_vcpu *vcpu)
{
	pthread_t thread;

	TEST_ASSERT(!madvise(prot_mem_hva(memory, ABSENT_GPA), PG,
			     MADV_DONTNEED), "%s", strerror(errno));
	TEST_ASSERT(!pthread_create(&thread, NULL, provide_absent, NULL) &&
		    !pthread_detach(thread), "There should be a thread to be had");
}

static void act_clock(struct kvm_vcpu *vcpu)
{
	struct kvm_clock_data data;

	vm_ioctl(vcpu->vm, KVM_GET_CLOCK, &data);
	data.flags = 0;
	vm_ioctl(vcpu->vm, KVM_SET_CLOCK, &data);
}

/* May KVM read the page now? */
static bool readable;

/* On the next entry KVM tells the guest its task priority. */
static void act_vapic(struct kvm_vcpu *vcpu)
{
	struct kvm_lapic_state lapic;

	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);
	TEST_ASSERT(readable || (u8)lapic.regs[APIC_TASKPRI] != JUNK,
		    "KVM should not take a task priority from a page it may not read");
	lapic.regs[APIC_TASKPRI] = 0x50;
	vcpu_ioctl(vcpu, KVM_SET_LAPIC, &lapic);
}

static void act_event(struct kvm_vcpu *vcpu)
{
	struct kvm_irq_routing_xen_evtchn event = {
		.port = 5,	/* not pending by JUNK */
		.vcpu = vcpu->id,
		.priority = KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL,
	};

	__vm_ioctl(vcpu->vm, KVM_XEN_HVM_EVTCHN_SEND, &event);
}

static const struct pv_case {
	const char *name;
	void (*guest)(u64 gpa);
	u64 arg;
	bool (*present)(void);
	void (*prepare)(struct kvm_vcpu *vcpu);
	int (*enable)(struct kvm_vcpu *vcpu, u64 gpa);
	void (*act)(struct kvm_vcpu *vcpu);
	bool goes_on;		/* after an interruption, too */
	bool only_reads;	/* and what it reads shows in the outcome */
	bool zero;		/* must be zero, not junk, or KVM leaves it */
	const char *path;	/* by which KVM is refused the page while in use */
} cases[] = {
	{ "kvmclock", guest_kvmclock, 0, has_kvmclock, NULL, NULL,
	  act_kvmclock, true, .path = "clock" },
	{ "wall clock", guest_wall_clock, 0, has_kvmclock,
	  .goes_on = true, .path = "wall-clock" },
	{ "wall clock, all others in use", guest_wall_clock, 0, has_all,
	  prepare_all, .goes_on = true, .path = "wall-clock" },
	{ "steal time", guest_steal_time, 0, has_steal_time, NULL, NULL, NULL,
	  true, .path = "steal-time" },
	{ "steal time without TLB flushes", guest_steal_time, 0,
	  has_steal_time, prepare_no_flush, NULL, NULL, true,
	  .path = "steal-time" },
	{ "steal time of a preempted vCPU", guest_steal_time_busy, 0,
	  has_steal_time, NULL, NULL, act_preempt, true, .path = "steal-time" },
	{ "async page fault", guest_async_pf, 0, has_async_pf, .zero = true },
	{ "async page fault that is taken", guest_async_pf_taken, 0,
	  has_async_pf, prepare_absent, NULL, act_absent, true, .zero = true },
	{ "PV EOI", guest_pv_eoi, 0, has_pv_eoi, prepare_irq, NULL, NULL,
	  true, .path = "pv-eoi" },
	{ "vapic", guest_vapic, 0, NULL, NULL, enable_vapic, act_vapic, true,
	  .path = "vapic" },
	{ "clock pairing", guest_clock_pairing },
	{ "Hyper-V hypercall page", (void *)guest_hv_msr, HV_X64_MSR_HYPERCALL,
	  has_hv, prepare_hv, .goes_on = true },
	/* The page begins with the PV EOI, and is known by that. */
	{ "Hyper-V VP assist page", (void *)guest_hv_msr,
	  HV_X64_MSR_VP_ASSIST_PAGE, has_hv, prepare_hv, .goes_on = true,
	  .path = "pv-eoi" },
	{ "Hyper-V TSC page", (void *)guest_hv_msr, HV_X64_MSR_REFERENCE_TSC,
	  has_hv, prepare_hv, NULL, act_clock, true,
	  .path = "hyperv-tsc-page" },
	{ "Hyper-V message page", (void *)guest_hv_msr, HV_X64_MSR_SIMP,
	  has_hv, prepare_synic, .goes_on = true,
	  .path = "hyperv-synic-messages" },
	{ "Hyper-V event page", (void *)guest_hv_msr, HV_X64_MSR_SIEFP,
	  has_hv, prepare_synic, .goes_on = true,
	  .path = "hyperv-synic-events" },
	{ "Hyper-V hypercall input", guest_hv_hypercall, 0, has_hv, prepare_hv,
	  .only_reads = true },
	{ "Xen hypercall page", guest_xen_hypercall_page, 0, has_xen,
	  prepare_xen },
	{ "Xen shared info", guest_idle, 0, has_xen, prepare_xen,
	  enable_shared_info, act_event, true, .path = "xen-shared-info" },
	{ "Xen vcpu_info", guest_idle, 0, has_xen, prepare_xen,
	  enable_vcpu_info, act_clock, true, .path = "xen-vcpu-info" },
	{ "Xen vcpu_time_info", guest_idle, 0, has_xen, prepare_xen,
	  enable_vcpu_time, act_clock, true, .path = "xen-vcpu-time-info" },
	{ "Xen runstate", guest_idle, 0, has_xen, prepare_xen,
	  enable_runstate, NULL, true, .path = "xen-runstate" },
};

/* ---- One feature on one page ---- */

struct pv_vm {
	const struct pv_case *c;
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct prot_mem mem;
	u64 gpa;
	u64 outcome;	/* of enabling it: of the ioctl, and for the guest */
};

static void create(struct pv_vm *p, const struct pv_case *c, u64 gpa)
{
	p->c = c;
	p->gpa = gpa;
	readable = true;
	p->vm = __vm_create_with_one_vcpu(&p->vcpu, MEM_SIZE / PG, c->guest);
	vm_init_descriptor_tables(p->vm);
	vcpu_init_descriptor_tables(p->vcpu);
	prot_mem_create(&p->mem, p->vm, SLOT, 0, MEM_GPA, MEM_SIZE,
			VM_MEM_SRC_ANONYMOUS);
	memset(p->mem.hva, p->c->zero ? 0 : JUNK, MEM_SIZE);
	memory = &p->mem;
	vcpu_args_set(p->vcpu, 2, gpa, c->arg);
	if (c->prepare)
		c->prepare(p->vcpu);
}

static void destroy(struct pv_vm *p)
{
	kvm_vm_free(p->vm);
	prot_mem_destroy(&p->mem);
}

/* SynIC tells the VMM of the pages that the guest has placed. */
static void run_to_stage(struct pv_vm *p, u64 stage, struct ucall *uc)
{
	do {
		vcpu_run(p->vcpu);
	} while (p->vcpu->run->exit_reason == KVM_EXIT_HYPERV);

	TEST_ASSERT(get_ucall(p->vcpu, uc) == UCALL_SYNC &&
		    uc->args[1] == stage,
		    "%s: the guest should go on whatever comes of it, exit: %s",
		    p->c->name, exit_story(p->vcpu->run));
}

static void go_on_for_a_while(struct pv_vm *p)
{
	struct ucall uc;
	int i;

	for (i = 0; i < 3; i++) {
		if (p->c->act)
			p->c->act(p->vcpu);
		run_to_stage(p, WENT_ON, &uc);
	}
}

static void enable(struct pv_vm *p)
{
	int error = 0;
	struct ucall uc;

	if (p->c->enable && p->c->enable(p->vcpu, p->gpa))
		error = errno;
	run_to_stage(p, ENABLED, &uc);
	p->outcome = (u64)error << 32 | (u32)uc.args[2];
	go_on_for_a_while(p);
}

static bool is_unchanged(struct pv_vm *p)
{
	return mem_is_filled(prot_mem_hva(&p->mem, PV_GPA),
			     p->c->zero ? 0 : JUNK, PG);
}

static void set_attributes(struct pv_vm *p, u64 attrs)
{
	vm_set_memory_attributes(p->vm, PV_GPA, PG, attrs);
	readable = !(attrs & NR);
}

/* Returns whether the page changed, and what came of enabling the feature. */
static bool try_on(const struct pv_case *c, u64 gpa, u64 attrs, u64 *outcome)
{
	struct pv_vm p;
	bool changed;

	create(&p, c, gpa);
	set_attributes(&p, attrs);
	enable(&p);
	changed = !is_unchanged(&p);
	*outcome = p.outcome;
	destroy(&p);
	return changed;
}

static void test_protected(const struct pv_case *c, u64 attrs, u64 should)
{
	u64 outcome;

	TEST_ASSERT(!try_on(c, PV_GPA, attrs, &outcome),
		    "%s: KVM should not write to a page with %#lx", c->name,
		    attrs);
	TEST_ASSERT(outcome == should,
		    "%s: with %#lx the outcome should be %#lx, is %#lx",
		    c->name, attrs, should, outcome);
}

static void test_protected_later(const struct pv_case *c, u64 attrs)
{
	struct pv_vm p;

	create(&p, c, PV_GPA);
	enable(&p);
	set_attributes(&p, attrs);
	memset(prot_mem_hva(&p.mem, PV_GPA), c->zero ? 0 : JUNK, PG);
	if (traced)
		trace_write("trace", "");
	go_on_for_a_while(&p);
	TEST_ASSERT(!traced || trace_names(PV_GPA, c->path) == !!c->path,
		    "%s: KVM should say that it was refused %s", c->name,
		    c->path);
	TEST_ASSERT(is_unchanged(&p),
		    "%s: KVM should not write any more once the page has %#lx",
		    c->name, attrs);
	if (c->goes_on) {
		set_attributes(&p, 0);
		go_on_for_a_while(&p);
		TEST_ASSERT(!is_unchanged(&p),
			    "%s: KVM should write again when it may", c->name);
	}
	destroy(&p);
}

static void test_case(const struct pv_case *c)
{
	u64 plain, unbacked;
	bool changed;

	pr_info("%s\n", c->name);
	changed = try_on(c, PV_GPA, 0, &plain);
	try_on(c, UNBACKED_GPA, 0, &unbacked);
	if ((int)plain == -KVM_EOPNOTSUPP) {
		pr_info("%s: not on this host\n", c->name);
		return;
	}
	TEST_ASSERT(c->only_reads ? plain != unbacked : changed,
		    "%s: KVM should use a page that it may use", c->name);

	test_protected(c, NW, c->only_reads ? plain : unbacked);
	test_protected(c, NOTHING, unbacked);
	test_protected_later(c, NW);
	test_protected_later(c, NOTHING);
}

int main(int argc, char *argv[])
{
	const char *part = argc > 1 ? argv[1] : "";
	int i;

	TEST_REQUIRE_PROTECTIONS();

	trace_start();
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (!strstr(cases[i].name, part))
			continue;
		if (cases[i].present && !cases[i].present())
			pr_info("%s: not on this host\n", cases[i].name);
		else
			test_case(&cases[i]);
	}
	trace_stop();
	return 0;
}
