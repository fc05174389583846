// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages through which KVM talks to the guest, in private memory.
 *
 * KVM itself reads and writes kvmclock, wall clock, steal time, PV EOI, async
 * page fault, vapic, Hyper-V and Xen pages.  Where the guest placed them in
 * private memory, KVM must reach the private page: the guest finds what KVM
 * wrote, KVM acts on what the guest wrote, and the shared page at the same GFN,
 * filled with junk that would lead KVM astray, is neither read nor written.
 *
 * Where KVM keeps a translation for later, it must also follow a conversion.
 */
#include <asm/kvm_para.h>
#include <asm/pvclock-abi.h>
#include <linux/kvm_para.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "apic.h"
#include "hyperv.h"
#include "mem_attrs.h"

#define PG		0x1000ull
#define SLOT		10
#define SLOT_GPA	0x100000000ull
#define SLOT_SIZE	(16 * PG)

/* The page in question, not the first of its memslot. */
#define PV_GPA		(SLOT_GPA + 5 * PG)

/*
 * Odd as a version, with a PV EOI pending and an async page fault token in
 * use: wrong in every way.
 */
#define JUNK		0x5b

#define INT_VECTOR	0xe1

struct pv_case {
	const char *name;
	void (*guest)(u64 arg);
	u64 arg;
	bool (*present)(void);
	void (*prepare)(struct kvm_vcpu *vcpu);
	void (*step)(struct kvm_vcpu *vcpu, u64 stage);
};

/* ---- kvmclock ---- */

static struct pvclock_vcpu_time_info *const pvti = (void *)PV_GPA;

static void guest_kvmclock(u64 msr)
{
	memset((void *)PV_GPA, 0, PG);
	wrmsr(msr, PV_GPA | KVM_MSR_ENABLED);
	GUEST_SYNC(0);
	GUEST_ASSERT_2(pvti->version && !(pvti->version & 1), pvti->version, 0);
	GUEST_ASSERT(pvti->tsc_to_system_mul);
	GUEST_ASSERT(!(pvti->flags & PVCLOCK_GUEST_STOPPED));

	/* KVM keeps the guest's version going, and ORs its flags. */
	pvti->version = 1000;
	GUEST_SYNC(1);
	GUEST_ASSERT_2(pvti->version > 1000 && pvti->version < 1100,
		       pvti->version, 0);
	GUEST_ASSERT(pvti->flags & PVCLOCK_GUEST_STOPPED);
	wrmsr(msr, 0);
	GUEST_DONE();
}

static void step_kvmclock(struct kvm_vcpu *vcpu, u64 stage)
{
	if (stage == 1)
		vcpu_ioctl(vcpu, KVM_KVMCLOCK_CTRL, NULL);
}

static bool has_kvmclock(void)
{
	return kvm_cpu_has(X86_FEATURE_KVM_CLOCKSOURCE) &&
	       kvm_cpu_has(X86_FEATURE_KVM_CLOCKSOURCE2);
}

static void guest_wall_clock(u64 msr)
{
	struct pvclock_wall_clock *wc = (void *)PV_GPA;

	memset(wc, 0, PG);
	wc->version = 6;
	wrmsr(msr, PV_GPA);
	GUEST_ASSERT_2(wc->version == 8, wc->version, 8);
	GUEST_ASSERT_2(wc->sec > 1000000000, wc->sec, 0);
	GUEST_DONE();
}

/* ---- Steal time ---- */

static struct kvm_steal_time *const st = (void *)PV_GPA;

static void guest_steal_time(u64 arg)
{
	u32 version;

	memset(st, 0, PG);
	st->version = 8;
	st->preempted = KVM_VCPU_PREEMPTED;
	st->steal = 1ull << 40;
	wrmsr(MSR_KVM_STEAL_TIME, PV_GPA | KVM_MSR_ENABLED);
	GUEST_SYNC(0);
	version = st->version;
	GUEST_ASSERT_2(version > 8 && version < 100 && !(version & 1),
		       version, 8);
	GUEST_ASSERT_2(!st->preempted, st->preempted, 0);
	GUEST_ASSERT_2(st->steal >> 40 == 1, st->steal, 0);
	GUEST_SYNC(1);
	GUEST_ASSERT_2(st->version > version && !(st->version & 1),
		       st->version, version);
	GUEST_DONE();
}

static bool has_steal_time(void)
{
	return kvm_cpu_has(X86_FEATURE_KVM_STEAL_TIME);
}

/* ---- PV EOI ---- */

static int interrupts, pv_eois;

static void guest_irq_handler(struct ex_regs *regs)
{
	u32 *eoi = (void *)PV_GPA;
	bool offered;

	interrupts++;
	/* In one instruction: an exit in between takes the offer back. */
	asm volatile("btrl %[bit], %[eoi]"
		     : [eoi] "+m" (*eoi), "=@ccc" (offered)
		     : [bit] "i" (KVM_PV_EOI_BIT) : "memory");
	if (offered)
		pv_eois++;
	else
		x2apic_write_reg(APIC_EOI, 0);
}

static void self_ipi(void)
{
	x2apic_write_reg(APIC_ICR, APIC_DEST_SELF | APIC_INT_ASSERT |
			 APIC_DM_FIXED | INT_VECTOR);
	asm volatile("sti; nop; nop; cli" ::: "memory");
}

/*
 * Any exit before the handler looks makes KVM take its offer back, so it may
 * need some attempts.  Either way the interrupt must be acknowledged, or the
 * next one would not come.
 */
static void guest_pv_eoi(u64 arg)
{
	int i;

	memset((void *)PV_GPA, 0, PG);
	x2apic_enable();
	wrmsr(MSR_KVM_PV_EOI_EN, PV_GPA | KVM_MSR_ENABLED);
	for (i = 1; i <= 1000 && READ_ONCE(pv_eois) < 5; i++) {
		self_ipi();
		GUEST_ASSERT_2(READ_ONCE(interrupts) == i, interrupts, i);
	}
	GUEST_ASSERT_2(READ_ONCE(pv_eois) == 5, pv_eois, interrupts);
	wrmsr(MSR_KVM_PV_EOI_EN, 0);
	GUEST_DONE();
}

static void prepare_irq(struct kvm_vcpu *vcpu)
{
	vm_init_descriptor_tables(vcpu->vm);
	vcpu_init_descriptor_tables(vcpu);
	vm_install_exception_handler(vcpu->vm, INT_VECTOR, guest_irq_handler);
}

static bool has_pv_eoi(void)
{
	return kvm_cpu_has(X86_FEATURE_KVM_PV_EOI);
}

/* ---- Async page faults ---- */

static void guest_async_pf(u64 arg)
{
	struct kvm_vcpu_pv_apf_data *apf = (void *)PV_GPA;

	memset(apf, 0, PG);
	x2apic_enable();
	wrmsr(MSR_KVM_ASYNC_PF_INT, INT_VECTOR);
	/* Enabling it makes KVM tell the guest to wake everything up. */
	wrmsr(MSR_KVM_ASYNC_PF_EN, PV_GPA | KVM_ASYNC_PF_ENABLED |
	      KVM_ASYNC_PF_DELIVERY_AS_INT);
	GUEST_SYNC(0);
	GUEST_ASSERT_2(apf->token == ~0u, apf->token, ~0u);
	apf->token = 0;
	wrmsr(MSR_KVM_ASYNC_PF_ACK, 1);
	wrmsr(MSR_KVM_ASYNC_PF_EN, 0);
	GUEST_DONE();
}

static bool has_async_pf(void)
{
	return kvm_cpu_has(X86_FEATURE_KVM_ASYNC_PF_INT);
}

/* ---- vapic ---- */

#define VAPIC_GPA	(PV_GPA + 0x80)

/* Each entry with an event tells the guest its TPR, each exit takes it back. */
static void guest_vapic(u64 arg)
{
	u32 *vapic = (void *)VAPIC_GPA;

	memset((void *)PV_GPA, 0, PG);
	x2apic_enable();
	GUEST_SYNC(0);
	GUEST_ASSERT_2((READ_ONCE(*vapic) & 0xff) == 0x50, *vapic, 0x50);
	WRITE_ONCE(*vapic, 0x30);
	GUEST_SYNC(1);
	GUEST_DONE();
}

static void prepare_vapic(struct kvm_vcpu *vcpu)
{
	struct kvm_vapic_addr va = { .vapic_addr = VAPIC_GPA };

	vcpu_ioctl(vcpu, KVM_SET_VAPIC_ADDR, &va);
}

static void step_vapic(struct kvm_vcpu *vcpu, u64 stage)
{
	struct kvm_lapic_state lapic;

	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);
	if (stage) {
		TEST_ASSERT((u8)lapic.regs[APIC_TASKPRI] == 0x30,
			    "The guest should have set its TPR to 0x30, is %#x",
			    (u8)lapic.regs[APIC_TASKPRI]);
		return;
	}
	lapic.regs[APIC_TASKPRI] = 0x50;
	vcpu_ioctl(vcpu, KVM_SET_LAPIC, &lapic);
}

/* ---- Hyper-V ---- */

#define HV_OS_ID	0x8100000000000001ull

static void guest_hv_hypercall(u64 arg)
{
	u8 *code = (void *)PV_GPA;

	memset(code, 0, PG);
	wrmsr(HV_X64_MSR_GUEST_OS_ID, HV_OS_ID);
	wrmsr(HV_X64_MSR_HYPERCALL, PV_GPA | 1);
	/* vmcall or vmmcall, and ret */
	GUEST_ASSERT_2(code[0] == 0x0f && code[1] == 0x01, code[0], code[1]);
	GUEST_ASSERT_2(code[3] == 0xc3, code[3], 0xc3);
	GUEST_DONE();
}

static void guest_hv_vp_assist(u64 arg)
{
	u32 *page = (void *)PV_GPA;

	memset(page, 0xff, PG);
	wrmsr(HV_X64_MSR_VP_ASSIST_PAGE, PV_GPA | 1);
	GUEST_ASSERT_2(!page[0], page[0], 0);
	GUEST_ASSERT_2(page[1] == -1u, page[1], -1u);
	GUEST_DONE();
}

/* KVM invalidates the page before it fills it, as it may do or not. */
static void guest_hv_tsc_page(u64 arg)
{
	u32 *sequence = (void *)PV_GPA;

	memset(sequence, 0, PG);
	*sequence = 0x1234567;
	wrmsr(HV_X64_MSR_GUEST_OS_ID, HV_OS_ID);
	wrmsr(HV_X64_MSR_REFERENCE_TSC, PV_GPA | 1);
	GUEST_SYNC(0);
	GUEST_ASSERT_2(*sequence == 0 || *sequence == 0x1234568, *sequence, 0);
	GUEST_DONE();
}

static void prepare_hv(struct kvm_vcpu *vcpu)
{
	vcpu_set_hv_cpuid(vcpu);
}

static bool has_hv(void)
{
	return kvm_has_cap(KVM_CAP_HYPERV_CPUID);
}

/* ---- Xen ---- */

#define XEN_WC_OFFSET		0xc00	/* of the wall clock in shared_info */
#define XEN_TIME_OFFSET		0x20	/* of the clock in vcpu_info */

static void guest_xen_shared_info(u64 arg)
{
	struct pvclock_wall_clock *wc = (void *)(PV_GPA + XEN_WC_OFFSET);

	memset((void *)PV_GPA, 0, PG);
	GUEST_SYNC(0);
	GUEST_ASSERT_2(wc->version && !(wc->version & 1), wc->version, 0);
	GUEST_ASSERT_2(wc->sec > 1000000000, wc->sec, 0);
	GUEST_DONE();
}

static void step_xen_shared_info(struct kvm_vcpu *vcpu, u64 stage)
{
	struct kvm_xen_hvm_attr lm = {
		.type = KVM_XEN_ATTR_TYPE_LONG_MODE,
		.u.long_mode = 1,
	};
	struct kvm_xen_hvm_attr info = {
		.type = KVM_XEN_ATTR_TYPE_SHARED_INFO,
		.u.shared_info.gfn = PV_GPA / PG,
	};

	vm_ioctl(vcpu->vm, KVM_XEN_HVM_SET_ATTR, &lm);
	vm_ioctl(vcpu->vm, KVM_XEN_HVM_SET_ATTR, &info);
}

static void guest_xen_clock(u64 offset)
{
	struct pvclock_vcpu_time_info *t = (void *)(PV_GPA + offset);

	memset((void *)PV_GPA, 0, PG);
	GUEST_SYNC(offset);
	GUEST_ASSERT_2(t->version && !(t->version & 1), t->version, 0);
	GUEST_ASSERT(t->tsc_to_system_mul);
	GUEST_DONE();
}

static void step_xen_clock(struct kvm_vcpu *vcpu, u64 offset)
{
	struct kvm_xen_vcpu_attr attr = {
		.type = offset ? KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO :
				 KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO,
		.u.gpa = PV_GPA,
	};

	vcpu_ioctl(vcpu, KVM_XEN_VCPU_SET_ATTR, &attr);
}

static void guest_xen_runstate(u64 arg)
{
	/* state, state_entry_time and the times in each of four states */
	u64 *rs = (void *)PV_GPA;

	memset(rs, 0, PG);
	GUEST_SYNC(0);
	GUEST_SYNC(1);
	GUEST_ASSERT_2(rs[1] & ~(1ull << 63), rs[1], 0);
	GUEST_ASSERT_2(rs[2], rs[2], 0);
	GUEST_DONE();
}

static void step_xen_runstate(struct kvm_vcpu *vcpu, u64 stage)
{
	struct kvm_xen_vcpu_attr attr = {
		.type = KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR,
		.u.gpa = PV_GPA,
	};

	if (!stage)
		vcpu_ioctl(vcpu, KVM_XEN_VCPU_SET_ATTR, &attr);
}

static void prepare_xen(struct kvm_vcpu *vcpu)
{
	struct kvm_xen_hvm_config config = {
		.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
		.msr = 0x40000000,
	};
	struct kvm_xen_hvm_attr lm = {
		.type = KVM_XEN_ATTR_TYPE_LONG_MODE,
		.u.long_mode = 1,
	};

	vm_ioctl(vcpu->vm, KVM_XEN_HVM_CONFIG, &config);
	vm_ioctl(vcpu->vm, KVM_XEN_HVM_SET_ATTR, &lm);
}

static bool has_xen(void)
{
	return kvm_check_cap(KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_SHARED_INFO;
}

static bool has_xen_runstate(void)
{
	return kvm_check_cap(KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_RUNSTATE;
}

/* ---- Hypercalls with data ---- */

static void guest_clock_pairing(u64 arg)
{
	struct kvm_clock_pairing *cp = (void *)PV_GPA;
	u64 ret;

	memset(cp, 0xff, PG);
	ret = kvm_hypercall(KVM_HC_CLOCK_PAIRING, PV_GPA,
			    KVM_CLOCK_PAIRING_WALLCLOCK, 0, 0);
	/* It needs the host to run on its TSC. */
	if (ret == -KVM_EOPNOTSUPP)
		GUEST_DONE();
	GUEST_ASSERT_2(!ret, ret, 0);
	GUEST_ASSERT_2(cp->sec > 1000000000 && !cp->flags, cp->sec, cp->flags);
	GUEST_DONE();
}

static const struct pv_case cases[] = {
	{ "kvmclock", guest_kvmclock, MSR_KVM_SYSTEM_TIME_NEW,
	  has_kvmclock, NULL, step_kvmclock },
	{ "kvmclock, old MSR", guest_kvmclock, MSR_KVM_SYSTEM_TIME,
	  has_kvmclock, NULL, step_kvmclock },
	{ "wall clock", guest_wall_clock, MSR_KVM_WALL_CLOCK_NEW,
	  has_kvmclock },
	{ "wall clock, old MSR", guest_wall_clock, MSR_KVM_WALL_CLOCK,
	  has_kvmclock },
	{ "steal time", guest_steal_time, 0, has_steal_time },
	{ "PV EOI", guest_pv_eoi, 0, has_pv_eoi, prepare_irq },
	{ "async page fault", guest_async_pf, 0, has_async_pf, prepare_irq },
	{ "vapic", guest_vapic, 0, NULL, prepare_vapic, step_vapic },
	{ "clock pairing", guest_clock_pairing },
	{ "Hyper-V hypercall page", guest_hv_hypercall, 0, has_hv, prepare_hv },
	{ "Hyper-V VP assist page", guest_hv_vp_assist, 0, has_hv, prepare_hv },
	{ "Hyper-V TSC page", guest_hv_tsc_page, 0, has_hv, prepare_hv },
	{ "Xen shared info", guest_xen_shared_info, 0, has_xen, prepare_xen,
	  step_xen_shared_info },
	{ "Xen vcpu_info clock", guest_xen_clock, XEN_TIME_OFFSET, has_xen,
	  prepare_xen, step_xen_clock },
	{ "Xen vcpu_time_info", guest_xen_clock, 0, has_xen, prepare_xen,
	  step_xen_clock },
	{ "Xen runstate", guest_xen_runstate, 0, has_xen_runstate, prepare_xen,
	  step_xen_runstate },
};

static void test_case(const struct pv_case *c)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;

	vm = vm_create_with_slot(&vcpu, c->guest, &s, SLOT, SLOT_GPA,
				 SLOT_SIZE);
	memset(s.hva, JUNK, s.size);
	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);
	vcpu_args_set(vcpu, 1, c->arg);
	if (c->prepare)
		c->prepare(vcpu);

	pr_info("%s\n", c->name);
	while (vcpu_run_to_ucall(vcpu, &uc) != UCALL_DONE) {
		TEST_ASSERT(uc.cmd == UCALL_SYNC, "%s: unknown ucall %lu",
			    c->name, uc.cmd);
		if (c->step)
			c->step(vcpu, uc.args[1]);
	}
	TEST_ASSERT(mem_is_filled(s.hva, JUNK, s.size),
		    "%s: KVM should not have written to the shared page",
		    c->name);
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* ---- Translations that KVM keeps follow conversions ---- */

static void guest_idle(u64 msr, u64 value)
{
	if (msr)
		wrmsr(msr, value);
	for (;;)
		GUEST_SYNC_ARGS(0, *(u32 *)PV_GPA,
				*(u32 *)(PV_GPA + 8),
				*(u32 *)(PV_GPA + XEN_TIME_OFFSET), 0);
}

static void idle(struct kvm_vcpu *vcpu, u64 words[3])
{
	struct ucall uc;

	TEST_ASSERT(vcpu_run_to_ucall(vcpu, &uc) == UCALL_SYNC,
		    "The guest should have reported");
	memcpy(words, &uc.args[2], 3 * sizeof(*words));
}

struct kept_case {
	const char *name;
	u64 msr;
	u64 value;
	bool (*present)(void);
	void (*start)(struct kvm_vcpu *vcpu);
	void (*kick)(struct kvm_vcpu *vcpu);
	int word;	/* which of the guest's words is a version, and where */
	int offset;
};

static void kick_kvmclock(struct kvm_vcpu *vcpu)
{
	vcpu_ioctl(vcpu, KVM_KVMCLOCK_CTRL, NULL);
}

static void kick_by_clock(struct kvm_vcpu *vcpu)
{
	struct kvm_clock_data data;

	vm_ioctl(vcpu->vm, KVM_GET_CLOCK, &data);
	data.flags = 0;
	vm_ioctl(vcpu->vm, KVM_SET_CLOCK, &data);
}

static void start_xen_clock(struct kvm_vcpu *vcpu)
{
	prepare_xen(vcpu);
	step_xen_clock(vcpu, XEN_TIME_OFFSET);
}

static const struct kept_case kept_cases[] = {
	{ "kvmclock", MSR_KVM_SYSTEM_TIME_NEW, PV_GPA | KVM_MSR_ENABLED,
	  has_kvmclock, NULL, kick_kvmclock, 0, 0 },
	{ "steal time", MSR_KVM_STEAL_TIME, PV_GPA | KVM_MSR_ENABLED,
	  has_steal_time, NULL, NULL, 1, 8 },
	{ "Xen vcpu_info clock", 0, 0, has_xen, start_xen_clock,
	  kick_by_clock, 2, XEN_TIME_OFFSET },
};

static void kick_and_idle(const struct kept_case *c, struct kvm_vcpu *vcpu,
			  u64 words[3])
{
	if (c->kick)
		c->kick(vcpu);
	idle(vcpu, words);
}

/* Of a structure that is complete: not zero, and even. */
static bool is_version(u32 version)
{
	return version && !(version & 1);
}

/* A memslot with another guest_memfd takes the place of this one, at the same HVA. */
static void test_replaced_page(const struct kept_case *c, struct kvm_vcpu *vcpu,
			       struct private_slot *s)
{
	u64 words[3];
	int before = s->memfd;

	private_slot_unset(s);
	s->memfd = vm_create_guest_memfd(vcpu->vm, s->size, 0);
	private_slot_set(s);
	kick_and_idle(c, vcpu, words);
	idle(vcpu, words);
	TEST_ASSERT(is_version(words[c->word]),
		    "%s: KVM should write to the page of the new memslot, version %lu",
		    c->name, words[c->word]);
	close(before);
}

static void test_kept_translation(const struct kept_case *c)
{
	u64 words[3], before;
	u32 *shared;
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i;

	vm = vm_create_with_slot(&vcpu, guest_idle, &s, SLOT, SLOT_GPA,
				 SLOT_SIZE);
	vcpu_args_set(vcpu, 2, c->msr, c->value);
	shared = (void *)(private_slot_hva(&s, PV_GPA) + c->offset);
	if (c->start)
		c->start(vcpu);
	idle(vcpu, words);
	kick_and_idle(c, vcpu, words);
	TEST_ASSERT(is_version(READ_ONCE(*shared)) &&
		    words[c->word] <= *shared,
		    "%s: KVM should have written to the shared page, version %u",
		    c->name, *shared);

	for (i = 0; i < 3; i++) {
		memset(s.hva, JUNK, s.size);
		vm_set_private(vm, PV_GPA, PG);
		idle(vcpu, words);
		before = words[c->word];
		kick_and_idle(c, vcpu, words);
		TEST_ASSERT(words[c->word] > before && !(words[c->word] & 1),
			    "%s: KVM should write to the page once private, version was %lu, is %lu",
			    c->name, before, words[c->word]);
		TEST_ASSERT(mem_is_filled(s.hva, JUNK, s.size),
			    "%s: KVM should not write to the shared page of a private GFN",
			    c->name);

		memset(s.hva, 0, s.size);
		vm_set_shared(vm, PV_GPA, PG);
		idle(vcpu, words);
		kick_and_idle(c, vcpu, words);
		TEST_ASSERT(is_version(READ_ONCE(*shared)),
			    "%s: KVM should write to the page once shared again, version %u",
			    c->name, *shared);
	}

	/* The private page is freed, or its memslot gone: KVM copes. */
	vm_set_private(vm, PV_GPA, PG);
	idle(vcpu, words);
	private_slot_punch(&s, PV_GPA, PG);
	kick_and_idle(c, vcpu, words);
	idle(vcpu, words);
	TEST_ASSERT(words[c->word] < 1000,
		    "%s: a punched page should start from zero, version %lu",
		    c->name, words[c->word]);
	test_replaced_page(c, vcpu, &s);

	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* ---- Pages that are private without private backing ---- */

/*
 * To KVM they are unbacked memory: the MSR write fails as it does there, or
 * has no effect.  In no case may the shared page be touched.
 */
static void guest_enable_all(void)
{
	static const struct { u32 msr; u64 flags; } msrs[] = {
		{ MSR_KVM_SYSTEM_TIME_NEW, KVM_MSR_ENABLED },
		{ MSR_KVM_WALL_CLOCK_NEW, 0 },
		{ MSR_KVM_STEAL_TIME, KVM_MSR_ENABLED },
		{ MSR_KVM_PV_EOI_EN, KVM_MSR_ENABLED },
		{ MSR_KVM_ASYNC_PF_EN, KVM_ASYNC_PF_ENABLED |
				       KVM_ASYNC_PF_DELIVERY_AS_INT },
	};
	int i;

	x2apic_enable();
	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		wrmsr_safe(msrs[i].msr, PV_GPA | msrs[i].flags);
		GUEST_SYNC(i);
		wrmsr_safe(msrs[i].msr, 0);
	}
	GUEST_DONE();
}

static void test_unbacked(void)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_protected(&vcpu, SLOT_SIZE / PG, guest_enable_all);
	vm_init_descriptor_tables(vm);
	vcpu_init_descriptor_tables(vcpu);
	private_slot_create(&s, vm, SLOT, SLOT_GPA, SLOT_SIZE,
			    VM_MEM_SRC_ANONYMOUS);
	private_slot_unset(&s);
	s.flags = 0;
	private_slot_set(&s);
	memset(s.hva, JUNK, s.size);
	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);

	while (vcpu_run_to_ucall(vcpu, &(struct ucall){}) != UCALL_DONE)
		;
	TEST_ASSERT(mem_is_filled(s.hva, JUNK, s.size),
		    "KVM should not fall back on the shared page of a private GFN");
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* Cases can be chosen by a part of their names. */
static bool is_chosen(const char *name, const char *part)
{
	return !part || strstr(name, part);
}

static void test_cases(const char *part)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (!is_chosen(cases[i].name, part))
			continue;
		if (cases[i].present && !cases[i].present())
			pr_info("%s: not on this host\n", cases[i].name);
		else
			test_case(&cases[i]);
	}
}

static void test_kept_translations(const char *part)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(kept_cases); i++) {
		if (!is_chosen(kept_cases[i].name, part))
			continue;
		if (!kept_cases[i].present()) {
			pr_info("%s: not on this host\n", kept_cases[i].name);
			continue;
		}
		pr_info("%s, converted\n", kept_cases[i].name);
		test_kept_translation(&kept_cases[i]);
	}
}

int main(int argc, char *argv[])
{
	const char *part = argc > 1 ? argv[1] : NULL;

	TEST_REQUIRE_PROTECTED_VM();

	test_cases(part);
	test_kept_translations(part);
	test_unbacked();
	return 0;
}
