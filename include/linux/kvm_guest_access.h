/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM guest access - how KVM itself reaches guest memory that has attributes
 *
 * virt/kvm/guest_access.c has the model and the locks.  Included by
 * <linux/kvm_host.h>.  Calls of the functions without a stub stand behind
 * kvm_has_mem_attrs() or kvm_gfn_has_mem_attrs(), so that a kernel without
 * attributes has no such call left to link.
 */
#ifndef __KVM_GUEST_ACCESS_H
#define __KVM_GUEST_ACCESS_H

#include <linux/kvm_mem_attrs_host.h>

int kvm_read_guest_attrs(struct kvm *kvm, gpa_t gpa, void *data,
			 unsigned long len);
int kvm_write_guest_attrs(struct kvm *kvm, gpa_t gpa, const void *data,
			  unsigned long len);
int kvm_vcpu_read_guest_attrs(struct kvm_vcpu *vcpu, gpa_t gpa, void *data,
			      unsigned long len);
int kvm_vcpu_write_guest_attrs(struct kvm_vcpu *vcpu, gpa_t gpa,
			       const void *data, unsigned long len);
int kvm_read_guest_page_attrs(struct kvm *kvm, gfn_t gfn, void *data,
			      int offset, int len);
int kvm_write_guest_page_attrs(struct kvm *kvm, gfn_t gfn, const void *data,
			       int offset, int len);
int kvm_vcpu_read_guest_page_attrs(struct kvm_vcpu *vcpu, gfn_t gfn, void *data,
				   int offset, int len);
int kvm_vcpu_read_guest_atomic_attrs(struct kvm_vcpu *vcpu, gpa_t gpa,
				     void *data, unsigned long len);
int kvm_vcpu_write_guest_page_attrs(struct kvm_vcpu *vcpu, gfn_t gfn,
				    const void *data, int offset, int len);
int kvm_guest_access_fetch(struct kvm *kvm, struct kvm_memory_slot *slot,
			   gfn_t gfn, void *data, int offset, int len);
int kvm_guest_access_write_atomic(struct kvm *kvm, gpa_t gpa,
				  const void *data, int len);
int kvm_guest_access_cmpxchg(struct kvm *kvm, struct kvm_memory_slot *slot,
			     gfn_t gfn, int offset, void *old, const void *new,
			     int len);
kvm_pfn_t kvm_guest_access_pfn(struct kvm *kvm, struct kvm_memory_slot *slot,
			       gfn_t gfn, bool *private);
int kvm_guest_access_map(struct kvm *kvm, gfn_t gfn, struct kvm_host_map *map);
void kvm_guest_access_unmap(struct kvm_vcpu *vcpu, struct kvm_host_map *map,
			    bool dirty);
void kvm_guest_access_untrack_map(struct kvm *kvm, struct kvm_host_map *map);
void kvm_guest_access_track_map(struct kvm *kvm, struct kvm_host_map *map);
bool kvm_guest_access_check(struct kvm_vcpu *vcpu, gfn_t gfn);
bool kvm_guest_access_provide(struct kvm_vcpu *vcpu, gfn_t gfn);
bool kvm_guest_access_allowed(struct kvm *kvm, gpa_t gpa, unsigned long len);

void kvm_guest_access_lock(struct kvm *kvm);
void kvm_guest_access_unlock(struct kvm *kvm);

/*
 * Arch: compare and exchange 1, 2, 4 or 8 bytes of userspace memory with page
 * faults disabled: 0, 1 if another value was found (now in *@old), or -EFAULT.
 */
int kvm_arch_cmpxchg_user(void __user *uaddr, void *old, const void *new,
			  int len);

/*
 * Arch: the paravirtual feature that has its page at @gfn, else NULL.  Without a vCPU,
 * only features of the VM as a whole are looked at.  Any context; the name is a
 * constant.
 */
const char *kvm_arch_pv_page_name(struct kvm *kvm, struct kvm_vcpu *vcpu,
				  gfn_t gfn);

/*
 * An access of KVM on behalf of a guest instruction that attributes refuse fails as
 * an access to unbacked memory does.  To tell the two apart, the refusal is recorded in
 * the vCPU.  It stays there until kvm_guest_access_clear_refused(), which is called
 * where an instruction or a page walk starts, or until
 * kvm_guest_access_refused_exit(), which prepares the exit and returns -EFAULT.
 */
/* What ran into the attributes, for those who look at the exit from outside. */
enum kvm_memory_fault_by {
	KVM_MEMORY_FAULT_BY_HARDWARE,
	KVM_MEMORY_FAULT_BY_EMULATOR,
	KVM_MEMORY_FAULT_BY_PAGE_WALK,
	KVM_MEMORY_FAULT_BY_KVM,
};

#ifdef CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES
/* kvm_prepare_memory_fault_exit() for one page, counted and traced. */
void kvm_mem_attrs_prepare_exit(struct kvm_vcpu *vcpu, gpa_t gpa, u64 flags,
				enum kvm_memory_fault_by by);
int __kvm_guest_access_refused_exit(struct kvm_vcpu *vcpu,
				    enum kvm_memory_fault_by by);

static inline bool kvm_guest_access_refused(struct kvm_vcpu *vcpu)
{
	return static_branch_unlikely(&kvm_mem_attrs_in_use) &&
	       vcpu->refused_flags;
}

static inline void kvm_guest_access_clear_refused(struct kvm_vcpu *vcpu)
{
	vcpu->refused_flags = 0;
}

/* A VM outlives its mappings, and the key is on as long as the VM lives. */
static inline bool kvm_host_map_has_attrs(const struct kvm_host_map *map)
{
	return static_branch_unlikely(&kvm_mem_attrs_in_use) && map->has_attrs;
}

#else
static inline int __kvm_guest_access_refused_exit(struct kvm_vcpu *vcpu,
						  enum kvm_memory_fault_by by)
{
	return -EFAULT;
}

static inline bool kvm_guest_access_refused(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvm_host_map_has_attrs(const struct kvm_host_map *map)
{
	return false;
}

static inline void kvm_guest_access_clear_refused(struct kvm_vcpu *vcpu)
{
}
#endif /* CONFIG_KVM_GENERIC_MEMORY_ATTRIBUTES */

static inline int kvm_guest_access_refused_exit(struct kvm_vcpu *vcpu)
{
	return __kvm_guest_access_refused_exit(vcpu, KVM_MEMORY_FAULT_BY_KVM);
}

/*
 * kvm_vcpu_map() of a page that stays mapped for longer than the handling of a
 * VM-Exit.  A change of attributes does not wait for the end of that.  The owner
 * has to unmap the page when kvm_arch_revoke_nested_pages() requests it.
 */
static inline int kvm_vcpu_map_untracked(struct kvm_vcpu *vcpu, gfn_t gfn,
					 struct kvm_host_map *map)
{
	int r = kvm_vcpu_map(vcpu, gfn, map);

	if (!r && kvm_host_map_has_attrs(map))
		kvm_guest_access_untrack_map(vcpu->kvm, map);
	return r;
}

#endif /* __KVM_GUEST_ACCESS_H */
