// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM x86 - per-page memory attributes outside of the MMU
 *
 * VM types, and the accesses of x86 to guest memory that stock KVM makes
 * straight through the HVA, for VMs whose attributes forbid that: they go
 * through virt/kvm/guest_access.c instead, which see for the model, the locks
 * and the lifetimes.  Every function here is called by the owner of the vCPU
 * with kvm->srcu held, and may sleep, unless it says otherwise.
 */

#include <linux/kvm_host.h>
#include <linux/uaccess.h>

#include "cpuid.h"
#include "hyperv.h"
#include "kvm_emulate.h"
#include "lapic.h"
#include "mem_attrs.h"
#include "mmu.h"
#include "trace.h"
#include "tss.h"
#include "x86.h"
#include "xen.h"

#ifdef CONFIG_KVM_PRIVATE_MEM
bool kvm_arch_has_private_mem(struct kvm *kvm)
{
	return kvm->arch.vm_type == KVM_X86_SW_PROTECTED_VM;
}
#endif

/*
 * Private memory that no hardware protects has to be mapped by KVM alone: with
 * shadow paging, a guest page table decides what is mapped where.
 */
bool kvm_is_vm_type_supported(unsigned long type)
{
	if (type == KVM_X86_DEFAULT_VM)
		return true;

	return type == KVM_X86_SW_PROTECTED_VM && tdp_enabled &&
	       IS_ENABLED(CONFIG_KVM_SW_PROTECTED_VM);
}

int kvm_mem_attrs_check_extension(long ext)
{
	switch (ext) {
	case KVM_CAP_MEMORY_FAULT_INFO:
		return 1;
	case KVM_CAP_VM_TYPES:
		return BIT(KVM_X86_DEFAULT_VM) |
		       (kvm_is_vm_type_supported(KVM_X86_SW_PROTECTED_VM) ?
			BIT(KVM_X86_SW_PROTECTED_VM) : 0);
	case KVM_CAP_PRE_FAULT_MEMORY:
		return IS_ENABLED(CONFIG_KVM_GENERIC_PRE_FAULT_MEMORY) &&
		       tdp_enabled;
	default:
		return 0;
	}
}

/*
 * A VM type made for private memory gets its store at once, so that its first
 * attributes need not wait for accesses that began without.
 */
int kvm_mem_attrs_init_vm_type(struct kvm *kvm)
{
	if (!kvm_arch_has_private_mem(kvm))
		return 0;

	return kvm_mem_attrs_init_vm(kvm);
}

/*
 * For SEV-ES.  The GHCB stays mapped from a VMGEXIT to the next VM-Enter, which writes
 * to it.  The vCPU may exit to userspace in between, so a change of attributes can
 * neither wait for the unmap nor revoke the page.  As attributes cannot be enforced,
 * the VM has none from now on.  Returns -EINVAL if it has some already.
 */
int kvm_mem_attrs_disable(struct kvm *kvm)
{
	int r = -EINVAL;

	mutex_lock(&kvm->slots_lock);
	if (!kvm->mem_attrs) {
		WRITE_ONCE(kvm->arch.mem_attrs_disabled, true);
		r = 0;
	}
	mutex_unlock(&kvm->slots_lock);
	return r;
}
EXPORT_SYMBOL_GPL(kvm_mem_attrs_disable);

/*
 * Nested VMX maps the virtual-APIC page, the posted-interrupt descriptor and the
 * APIC-access page of L1 for as long as L2 runs, and an enlightened VMCS for
 * longer.
 */
bool kvm_arch_revoke_nested_pages(struct kvm *kvm)
{
	const struct kvm_x86_nested_ops *ops = kvm_x86_ops.nested_ops;
	struct kvm_vcpu *vcpu;
	bool kick = false;
	unsigned long i;

	if (!ops->uses_l1_pages)
		return false;

	/*
	 * Pairs with smp_mb() in map_list(): a vCPU that is not seen to have
	 * begun with VMX here sees the new attributes when it maps its pages.
	 */
	smp_mb();

	kvm_for_each_vcpu(i, vcpu, kvm) {
		if (!ops->uses_l1_pages(vcpu))
			continue;
		kvm_make_request(KVM_REQ_NESTED_PAGES, vcpu);
		kick = true;
	}
	return kick;
}

#define try_cmpxchg_user(type)						\
	__try_cmpxchg_user((type __user *)uaddr, (type *)old,		\
			   *(const type *)new, efault_##type)

int kvm_arch_cmpxchg_user(void __user *uaddr, void *old, const void *new,
			  int len)
{
	switch (len) {
	case 1:
		return try_cmpxchg_user(u8);
	case 2:
		return try_cmpxchg_user(u16);
	case 4:
		return try_cmpxchg_user(u32);
	case 8:
		return try_cmpxchg_user(u64);
	default:
		WARN_ON_ONCE(1);
		return -EFAULT;
	}
}

/*
 * Clear the flags that the guest set while it took the vCPU for preempted, and
 * serve the TLB flush that it may have asked for.
 */
static int clear_preempted(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	gpa_t flags = gpa + offsetof(struct kvm_steal_time, preempted);
	struct kvm_memory_slot *slot;
	u8 old = 0, new = 0;
	int r;

	/* @old becomes what was found: the next round replaces just that. */
	slot = gfn_to_memslot(vcpu->kvm, gpa_to_gfn(gpa));
	do {
		r = kvm_guest_access_cmpxchg(vcpu->kvm, slot, gpa_to_gfn(gpa),
					     offset_in_page(flags), &old, &new,
					     sizeof(new));
	} while (r > 0);
	if (r)
		return r;

	vcpu->arch.st.preempted = 0;
	if (!guest_pv_has(vcpu, KVM_FEATURE_PV_TLB_FLUSH))
		return 0;

	/* Steal time is updated before VM-Enter, which looks for requests. */
	trace_kvm_pv_tlb_flush(vcpu->vcpu_id, old & KVM_VCPU_FLUSH_TLB);
	if (old & KVM_VCPU_FLUSH_TLB)
		kvm_make_request(KVM_REQ_TLB_FLUSH_GUEST, vcpu);
	return 0;
}

/*
 * record_steal_time() for a VM with memory attributes.  The structure lies within one
 * page, outside of SMM even if the vCPU is in SMM.  Only if steal time is on.
 */
bool __kvm_record_steal_time_attrs(struct kvm_vcpu *vcpu)
{
	gpa_t gpa = vcpu->arch.st.msr_val & KVM_STEAL_VALID_BITS;
	struct kvm_steal_time st;

	if (current->mm != vcpu->kvm->mm)
		return false;

	if (clear_preempted(vcpu, gpa))
		return true;

	if (kvm_read_guest(vcpu->kvm, gpa, &st, sizeof(st)))
		return true;

	/* Odd tells the guest to read again; the first time it is junk. */
	st.version += 1 + (st.version & 1);
	if (kvm_write_guest(vcpu->kvm, gpa + offsetof(typeof(st), version),
			    &st.version, sizeof(st.version)))
		return true;

	/* Pairs with virt_rmb() in kvm_steal_clock() of the guest. */
	smp_wmb();

	st.steal += current->sched_info.run_delay - vcpu->arch.st.last_steal;
	vcpu->arch.st.last_steal = current->sched_info.run_delay;
	kvm_write_guest(vcpu->kvm, gpa + offsetof(typeof(st), steal),
			&st.steal, sizeof(st.steal));

	/* As above. */
	smp_wmb();

	st.version++;
	kvm_write_guest(vcpu->kvm, gpa + offsetof(typeof(st), version),
			&st.version, sizeof(st.version));
	return true;
}

/* Scheduler context, see kvm_guest_access_write_atomic(). */
void kvm_steal_time_set_preempted_attrs(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	static const u8 preempted = KVM_VCPU_PREEMPTED;

	gpa += offsetof(struct kvm_steal_time, preempted);
	if (!kvm_guest_access_write_atomic(vcpu->kvm, gpa, &preempted,
					   sizeof(preempted)))
		vcpu->arch.st.preempted = KVM_VCPU_PREEMPTED;
}

/*
 * Whether KVM and the guest can talk about page faults at all, given that they
 * mean to.  If not, faults are waited for, and the guest is told of pages that it
 * waits for once KVM can tell it.  Otherwise, unable to take the event off its list,
 * KVM would believe that a page was on its way for ever.
 */
bool kvm_async_pf_page_allowed(struct kvm_vcpu *vcpu)
{
	return !kvm_has_mem_attrs(vcpu->kvm) ||
	       kvm_guest_access_allowed(vcpu->kvm, vcpu->arch.apf.data.gpa,
					sizeof(struct kvm_vcpu_pv_apf_data));
}

/* Whether the page of an address with flags below it is @gfn. */
static bool is_page_at(gfn_t gfn, gpa_t gpa, bool enabled)
{
	return enabled && gpa_to_gfn(gpa) == gfn;
}

static const char *hyperv_page_name(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	struct kvm_vcpu_hv *hv = to_hv_vcpu(vcpu);

	if (!hv)
		return NULL;
	if (is_page_at(gfn, hv->hv_vapic,
		       hv->hv_vapic & HV_X64_MSR_VP_ASSIST_PAGE_ENABLE))
		return "hyperv-assist-page";
	if (is_page_at(gfn, hv->synic.msg_page,
		       hv->synic.msg_page & HV_SYNIC_SIMP_ENABLE))
		return "hyperv-synic-messages";
	if (is_page_at(gfn, hv->synic.evt_page,
		       hv->synic.evt_page & HV_SYNIC_SIEFP_ENABLE))
		return "hyperv-synic-events";
	return NULL;
}

static const char *xen_page_name(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	struct kvm_vcpu_xen *xen = &vcpu->arch.xen;

	if (is_page_at(gfn, xen->vcpu_info_cache.gpa,
		       xen->vcpu_info_cache.active))
		return "xen-vcpu-info";
	if (is_page_at(gfn, xen->vcpu_time_info_cache.gpa,
		       xen->vcpu_time_info_cache.active))
		return "xen-vcpu-time-info";
	if (is_page_at(gfn, xen->runstate_cache.gpa,
		       xen->runstate_cache.active))
		return "xen-runstate";
	return NULL;
}

static const char *vm_page_name(struct kvm *kvm, gfn_t gfn)
{
	if (is_page_at(gfn, kvm->arch.wall_clock, kvm->arch.wall_clock))
		return "wall-clock";
	if (is_page_at(gfn, kvm->arch.xen.shinfo_cache.gpa,
		       kvm->arch.xen.shinfo_cache.active))
		return "xen-shared-info";
	if (is_page_at(gfn, kvm->arch.hyperv.hv_tsc_page,
		       kvm->arch.hyperv.hv_tsc_page & HV_X64_MSR_TSC_REFERENCE_ENABLE))
		return "hyperv-tsc-page";
	return NULL;
}

const char *kvm_arch_pv_page_name(struct kvm *kvm, struct kvm_vcpu *vcpu,
				  gfn_t gfn)
{
	struct kvm_lapic *apic = vcpu ? vcpu->arch.apic : NULL;

	if (!vcpu)
		return vm_page_name(kvm, gfn);
	if (is_page_at(gfn, vcpu->arch.pv_time.gpa, vcpu->arch.pv_time.active))
		return "clock";
	if (is_page_at(gfn, vcpu->arch.st.msr_val,
		       vcpu->arch.st.msr_val & KVM_MSR_ENABLED))
		return "steal-time";
	if (is_page_at(gfn, vcpu->arch.apf.data.gpa,
		       vcpu->arch.apf.msr_en_val & KVM_ASYNC_PF_ENABLED))
		return "async-page-fault";
	if (is_page_at(gfn, vcpu->arch.pv_eoi.data.gpa,
		       vcpu->arch.pv_eoi.msr_val & KVM_MSR_ENABLED))
		return "pv-eoi";
	if (apic && is_page_at(gfn, apic->vapic_addr, apic->vapic_addr))
		return "vapic";

	return hyperv_page_name(vcpu, gfn) ?: xen_page_name(vcpu, gfn) ?:
	       vm_page_name(kvm, gfn);
}

/*
 * Emulated instructions
 *
 * The emulator writes registers back last, so that an instruction of which an
 * access is refused starts over from the state before it: once more from the
 * beginning, a repeated one from the iteration that was refused.  What an
 * instruction had written to memory before, it writes there again, as it comes
 * from the same registers and the same source.
 *
 * That does not hold if its source is a device, which must not be read twice:
 * for those kvm_emulate_dst_refused() asks beforehand.  And it would leave half
 * of a write across a page boundary behind, should userspace not allow it after
 * all: kvm_emulate_write_refused() looks at both pages first.  Task switches
 * load segments and CR3 as they go: kvm_task_switch_refused().
 */

/* The exit.  Registers that were not written back never will be. */
int kvm_emulate_refused_exit(struct kvm_vcpu *vcpu)
{
	vcpu->arch.emulate_regs_need_sync_to_vcpu = false;
	return __kvm_guest_access_refused_exit(vcpu,
					       KVM_MEMORY_FAULT_BY_EMULATOR);
}

/* Read an instruction, or a part of one, that lies within one page. */
int kvm_vcpu_fetch_attrs(struct kvm_vcpu *vcpu, gpa_t gpa, void *data, int len)
{
	gfn_t gfn = gpa_to_gfn(gpa);

	return kvm_guest_access_fetch(vcpu->kvm,
				      kvm_vcpu_gfn_to_memslot(vcpu, gfn), gfn,
				      data, offset_in_page(gpa), len);
}

/*
 * Whether attributes refuse an access, KVM_MEMORY_EXIT_FLAG_READ or _WRITE or
 * both, to the page of a linear address, or to a page table on the way there.
 * @pferr is what the walk asks for: a write, which sets the dirty bit, only if
 * there will be one.  If there is no translation the instruction will find out.
 * A private page that cannot be provided is refused, too.
 */
static bool linear_page_refused(struct kvm_vcpu *vcpu, gva_t addr, u64 pferr,
				u64 access)
{
	struct kvm_mmu *mmu = vcpu->arch.walk_mmu;
	struct kvm_memory_slot *slot;
	struct x86_exception ex;
	unsigned long attrs;
	u64 refused;
	gpa_t gpa;

	gpa = mmu->gva_to_gpa(vcpu, mmu, addr, pferr, &ex);
	if (gpa == INVALID_GPA)
		return kvm_guest_access_refused(vcpu);

	slot = kvm_vcpu_gfn_to_memslot(vcpu, gpa_to_gfn(gpa));
	if (slot && !kvm_mem_attrs_apply(slot))
		return false;

	attrs = kvm_mem_attrs_get(vcpu->kvm, gpa_to_gfn(gpa));
	refused = slot ? kvm_mem_attrs_refuse(attrs, access) : 0;
	if (!refused)
		return !kvm_guest_access_provide(vcpu, gpa_to_gfn(gpa));

	vcpu->refused_gpa = gpa & PAGE_MASK;
	vcpu->refused_flags = (refused & -refused) |
			      (attrs & KVM_MEMORY_ATTRIBUTE_PRIVATE);
	return true;
}

/* As linear_page_refused(), for each page of a range. */
static bool linear_range_refused(struct kvm_vcpu *vcpu, gva_t addr,
				 unsigned int bytes, u64 pferr, u64 access)
{
	gva_t page = addr & PAGE_MASK;

	for (; page < addr + bytes; page += PAGE_SIZE)
		if (linear_page_refused(vcpu, max(page, addr), pferr, access))
			return true;

	return false;
}

static u64 cpl_pferr(struct kvm_vcpu *vcpu)
{
	return static_call(kvm_x86_get_cpl)(vcpu) == 3 ? PFERR_USER_MASK : 0;
}

/* Whether a write across a page boundary has to be given up before it begins. */
bool kvm_emulate_write_refused(struct kvm_vcpu *vcpu, gva_t addr,
			       unsigned int bytes)
{
	if (!kvm_has_mem_attrs(vcpu->kvm))
		return false;
	if (!(((addr + bytes - 1) ^ addr) & PAGE_MASK))
		return false;

	return linear_range_refused(vcpu, addr, bytes, cpl_pferr(vcpu),
				    KVM_MEMORY_EXIT_FLAG_WRITE);
}

static bool is_rep_done(struct kvm_vcpu *vcpu,
			const struct x86_emulate_ctxt *ctxt)
{
	unsigned long count = kvm_rcx_read(vcpu);

	if (ctxt->ad_bytes < sizeof(count))
		count &= (1UL << (ctxt->ad_bytes * 8)) - 1;

	return ctxt->rep_prefix && !count;
}

static gva_t emulate_linear(struct kvm_vcpu *vcpu, int seg, unsigned long ea)
{
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;

	if (ctxt->mode == X86EMUL_MODE_PROT64)
		return ea;

	return (u32)(ea + static_call(kvm_x86_get_segment_base)(vcpu, seg));
}

/*
 * PUSH and CALL with a memory operand write @bytes below the stack pointer, or
 * twice as many if the call is a far one.
 */
static unsigned int pushes_from_memory(const struct x86_emulate_ctxt *ctxt)
{
	if (ctxt->modrm_mod == 3)
		return 0;

	switch (ctxt->modrm_reg & 7) {
	case 2:
	case 6:
		return ctxt->op_bytes;
	case 3:
		return 2 * ctxt->op_bytes;
	default:
		return 0;
	}
}

/* INS, MOVS, or the opcode that pushes from memory are among. */
static bool may_be_device_to_memory(const struct x86_emulate_ctxt *ctxt)
{
	return ctxt->opcode_len == 1 &&
	       ((ctxt->b & ~1) == 0x6c || (ctxt->b & ~1) == 0xa4 ||
		ctxt->b == 0xff);
}

/* Where those write to; 0 bytes: it is another instruction. */
static unsigned int device_to_memory(struct kvm_vcpu *vcpu, gva_t *addr)
{
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;
	unsigned int bytes;

	if (ctxt->b != 0xff) {
		*addr = emulate_linear(vcpu, VCPU_SREG_ES,
				       ctxt->dst.addr.mem.ea);
		return is_rep_done(vcpu, ctxt) ? 0 : ctxt->dst.bytes;
	}

	bytes = pushes_from_memory(ctxt);
	*addr = emulate_linear(vcpu, VCPU_SREG_SS, kvm_rsp_read(vcpu) - bytes);
	return bytes;
}

/* A source that cannot be read ends the instruction before anything else. */
static bool src_readable(struct kvm_vcpu *vcpu)
{
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;
	struct kvm_mmu *mmu = vcpu->arch.walk_mmu;
	struct x86_exception ex;
	gva_t addr;

	if (ctxt->src.type != OP_MEM)
		return true;

	addr = emulate_linear(vcpu, ctxt->src.addr.mem.seg,
			      ctxt->src.addr.mem.ea);
	return mmu->gva_to_gpa(vcpu, mmu, addr, cpl_pferr(vcpu), &ex) !=
	       INVALID_GPA;
}

static noinline bool dst_refused(struct kvm_vcpu *vcpu)
{
	unsigned int bytes;
	gva_t addr;

	bytes = device_to_memory(vcpu, &addr);
	if (!bytes || !src_readable(vcpu))
		return false;

	return linear_range_refused(vcpu, addr, bytes,
				    cpl_pferr(vcpu) | PFERR_WRITE_MASK,
				    KVM_MEMORY_EXIT_FLAG_WRITE);
}

/*
 * Whether the decoded instruction, or the next iteration of it, has to be given
 * up before it reads its source: a device that has answered has answered.  Which
 * is also why nothing is refused here if the answer is waiting to be written.  If
 * userspace forbids the write while it is at that answer, it is lost.
 */
bool kvm_emulate_dst_refused(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.pio.count || vcpu->mmio_read_completed)
		return false;

	return may_be_device_to_memory(vcpu->arch.emulate_ctxt) &&
	       dst_refused(vcpu);
}

/* Where the descriptor of a TSS says that it lies; 0 if it is not there. */
static gva_t tss_base(struct kvm_vcpu *vcpu, gva_t addr)
{
	struct kvm_mmu *mmu = vcpu->arch.walk_mmu;
	struct desc_struct desc;
	struct x86_exception ex;
	gpa_t gpa;

	gpa = mmu->gva_to_gpa(vcpu, mmu, addr, 0, &ex);
	if (gpa == INVALID_GPA ||
	    kvm_vcpu_read_guest(vcpu, gpa, &desc, sizeof(desc)))
		return 0;

	return get_desc_base(&desc);
}

/*
 * Whether a task switch is refused access to either TSS or either descriptor.  Checked
 * before the switch begins, and before the event or the instruction that caused it
 * counts as completed.  Later accesses, i.e. loading segments and page tables of the new
 * task and pushing an error code to its stack, cannot be undone.  If one of those is
 * refused, the switch ends as an internal error.
 */
bool kvm_task_switch_refused(struct kvm_vcpu *vcpu, u16 selector, int reason)
{
	u64 rw = KVM_MEMORY_EXIT_FLAG_READ | KVM_MEMORY_EXIT_FLAG_WRITE;
	struct desc_ptr gdt;
	struct kvm_segment tr;
	gva_t next;

	kvm_guest_access_clear_refused(vcpu);
	kvm_get_segment(vcpu, &tr, VCPU_SREG_TR);
	static_call(kvm_x86_get_gdt)(vcpu, &gdt);
	next = gdt.address + (selector & ~7);

	if (linear_range_refused(vcpu, tr.base, sizeof(struct tss_segment_32),
				 0, rw) ||
	    linear_range_refused(vcpu, gdt.address + (tr.selector & ~7),
				 sizeof(struct desc_struct), 0, rw) ||
	    linear_range_refused(vcpu, next, sizeof(struct desc_struct), 0, rw))
		return true;

	/* Only a nested task has a link to the one that it will return to. */
	if (reason == TASK_SWITCH_IRET || reason == TASK_SWITCH_JMP)
		rw = KVM_MEMORY_EXIT_FLAG_READ;

	next = tss_base(vcpu, next);
	return next && linear_range_refused(vcpu, next,
					    sizeof(struct tss_segment_32), 0,
					    rw);
}
EXPORT_SYMBOL_GPL(kvm_task_switch_refused);

/*
 * For emulator_cmpxchg_emulated() and update_accessed_dirty_bits(), within one
 * page: 0, 1 if another value was there, or -EFAULT if the page is refused or not
 * there.  A memslot that has gone since the caller saw it counts as another value:
 * either caller then starts over, and sees that it has.
 */
int kvm_vcpu_cmpxchg_attrs(struct kvm_vcpu *vcpu, gpa_t gpa, void *old,
			   const void *new, int len)
{
	gfn_t gfn = gpa_to_gfn(gpa);
	struct kvm_memory_slot *slot = kvm_vcpu_gfn_to_memslot(vcpu, gfn);

	if (kvm_is_error_hva(gfn_to_hva_memslot(slot, gfn)))
		return 1;

	return kvm_guest_access_cmpxchg(vcpu->kvm, slot, gfn,
					offset_in_page(gpa), old, new, len);
}
