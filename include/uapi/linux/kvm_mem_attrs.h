/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * KVM per-page memory attributes and private memory: the whole ABI.
 *
 * <linux/kvm.h> includes this header, it is not meant to be included on its
 * own.  Numbers and layouts are mainline's wherever mainline has the feature,
 * so that one VMM binary runs on Linux 6.1 with this series and on mainline.
 * What mainline lacks uses numbers far away from mainline's next picks and is
 * marked "not in mainline".
 *
 * Addresses and sizes are bytes of guest physical address space.  GFN means
 * guest frame number, address >> 12 on x86.
 */
#ifndef __LINUX_KVM_MEM_ATTRS_H
#define __LINUX_KVM_MEM_ATTRS_H

#include <linux/const.h>
#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * Capabilities.  KVM_CHECK_EXTENSION(KVM_CAP_MEMORY_ATTRIBUTES) returns the
 * mask of supported attributes and KVM_CHECK_EXTENSION(KVM_CAP_VM_TYPES) the
 * bitmap of VM types.  On a VM file descriptor the answer is exact for that
 * VM, on /dev/kvm it is the union over all VM types.
 */
#define KVM_CAP_USER_MEMORY2		231
#define KVM_CAP_MEMORY_FAULT_INFO	232
#define KVM_CAP_MEMORY_ATTRIBUTES	233
#define KVM_CAP_GUEST_MEMFD		234
#define KVM_CAP_VM_TYPES		235
#define KVM_CAP_PRE_FAULT_MEMORY	236
/* Not in mainline: */
#define KVM_CAP_GET_MEMORY_ATTRIBUTES		0x10000
#define KVM_CAP_UPDATE_MEMORY_ATTRIBUTES	0x10001
#define KVM_CAP_GUEST_MEMFD_BACKING_FLAGS	0x10002

/*
 * VM types, the argument of KVM_CREATE_VM on x86.
 *
 * KVM_X86_SW_PROTECTED_VM takes private memory but relies on no hardware to
 * protect it: KVM itself gives only the guest access to it.
 */
#define KVM_X86_DEFAULT_VM		0
#define KVM_X86_SW_PROTECTED_VM		1

/*
 * Attributes of a guest page.  They belong to the GFN, not to a memslot: they
 * may be set where no memslot is and survive every memslot change.  Zero is
 * the state of a page that was never touched.
 *
 * NR, NW and NX take away read, write and execute (not in mainline, which
 * reserves the bits).  They hold for the guest and for KVM's own accesses alike
 * and only narrow what the memslot, the host's mapping and the guest's page
 * tables allow.  They mean nothing for a GFN without memslot, which stays MMIO.
 * Combinations: NR needs NW; NR without NX, i.e. execute-only, only where the
 * CPU can map that (EPT); everything else that is in the mask.
 *
 * PRIVATE means that accesses go to the guest_memfd bound to the memslot instead
 * of to userspace_addr.
 */
#define KVM_MEMORY_ATTRIBUTE_NR		_BITULL(0)
#define KVM_MEMORY_ATTRIBUTE_NW		_BITULL(1)
#define KVM_MEMORY_ATTRIBUTE_NX		_BITULL(2)
#define KVM_MEMORY_ATTRIBUTE_PRIVATE	_BITULL(3)

/**
 * struct kvm_memory_attributes - argument of KVM_SET_MEMORY_ATTRIBUTES
 * @address: start of the range, a multiple of the page size
 * @size: length of the range, a multiple of the page size, not zero;
 *	@address + @size must not wrap (so it cannot be exactly 2^64 either)
 * @attributes: the new attributes of every page, KVM_MEMORY_ATTRIBUTE_* bits
 *	out of the mask that KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES returns
 * @flags: must be zero
 *
 * All pages get the new attributes, or none does.
 *
 * When the ioctl returns 0, no vCPU and no part of KVM can make an access any
 * more that the new attributes forbid.
 *
 * Errors: ENOTTY (the kernel has no memory attributes), EINVAL (this VM does
 * not support one of the bits asked for, or their combination, or a field breaks
 * a rule above), EFAULT, ENOMEM, EINTR (a fatal signal while waiting; nothing was changed).
 *
 * Mainline: same layout and number; there a call that fails midway for lack
 * of memory leaves reservations behind, and cost is linear in @size.  Here it
 * depends on the number of attribute boundaries in the range only.
 */
struct kvm_memory_attributes {
	__u64 address;
	__u64 size;
	__u64 attributes;
	__u64 flags;
};

/**
 * struct kvm_memory_attributes_extent - a run of pages with equal attributes
 * @address: start of the run, in bytes
 * @size: length of the run, in bytes
 * @attributes: KVM_MEMORY_ATTRIBUTE_* bits of each page in it, or 0
 */
struct kvm_memory_attributes_extent {
	__u64 address;
	__u64 size;
	__u64 attributes;
};

/**
 * struct kvm_get_memory_attributes - argument of KVM_GET_MEMORY_ATTRIBUTES
 * @address: in: start of the range asked for, a multiple of the page size;
 *	out: where the next call has to go on
 * @size: in: length of the range, a multiple of the page size, not zero,
 *	without wrapping; out: how much of the range is still to be asked for,
 *	0 once everything was returned
 * @extents: userspace address of an array of
 *	&struct kvm_memory_attributes_extent
 * @nr_extents: in: entries the array has room for, not zero; out: entries
 *	that were filled in
 * @flags: must be zero
 * @reserved: must be zero
 *
 * The extents are returned in ascending order, touch one another, cover the
 * range without gaps and are clipped to it.  Neighbours always differ.  When
 * the array is full the call succeeds with @size not zero: call again with
 * @nr_extents set again and everything else left as it was returned.
 *
 * At most 65536 extents are returned by one call, whatever @nr_extents says.
 *
 * One call is a consistent snapshot.  A sequence of calls is not, if attributes change
 * meanwhile.
 *
 * Cost is proportional to the number of extents returned, not of pages.
 *
 * Errors: ENOTTY, EINVAL, EFAULT (of the array or of the argument), EINTR (a
 * fatal signal while waiting).  ENOMEM.
 *
 * Not in mainline.
 */
struct kvm_get_memory_attributes {
	__u64 address;
	__u64 size;
	__u64 extents;
	__u32 nr_extents;
	__u32 flags;
	__u64 reserved[4];
};

/**
 * struct kvm_memory_attributes_update - one change of a list of them
 * @address: start of the range, a multiple of the page size
 * @size: length of the range, a multiple of the page size, not zero
 * @set: KVM_MEMORY_ATTRIBUTE_* bits to set in every page
 * @clear: KVM_MEMORY_ATTRIBUTE_* bits to clear in every page; may not overlap
 *	@set
 *
 * Bits in neither mask keep the value that each page has.  @set and @clear
 * may not both be zero.
 */
struct kvm_memory_attributes_update {
	__u64 address;
	__u64 size;
	__u64 set;
	__u64 clear;
};

/**
 * struct kvm_update_memory_attributes - argument of
 *	KVM_UPDATE_MEMORY_ATTRIBUTES
 * @updates: userspace address of an array of
 *	&struct kvm_memory_attributes_update
 * @nr_updates: entries in the array, not zero
 * @flags: must be zero
 * @done: in: entries to skip, 0 at first, at most @nr_updates; out: entries
 *	that took effect, counted from the start of the array
 * @pad: must be zero
 * @reserved: must be zero
 *
 * The updates are applied in order.  Each takes effect on all of its range or
 * on none of it, and holds as KVM_SET_MEMORY_ATTRIBUTES does once it is
 * counted in @done.
 *
 * On an error @done names the update that failed: that one and those after it
 * changed nothing.  With a signal pending the call stops between two updates
 * with EINTR.  Either way calling again with the same argument goes on where
 * it stopped.
 *
 * Errors: as KVM_SET_MEMORY_ATTRIBUTES.  EINVAL also when the combination of
 * bits that an update would leave on some page is one this VM cannot enforce.
 * @done is written back on success and on every error other than EFAULT of
 * the argument itself.
 *
 * Not in mainline.
 */
struct kvm_update_memory_attributes {
	__u64 updates;
	__u32 nr_updates;
	__u32 flags;
	__u32 done;
	__u32 pad;
	__u64 reserved[5];
};

/*
 * KVM_EXIT_MEMORY_FAULT.  KVM_RUN returns -1 with errno EFAULT (or EHWPOISON),
 * and kvm_run::memory_fault says which access KVM refused.  The guest's RIP is
 * still on the instruction; entering again retries it.
 *
 * PRIVATE is set when the access was to private memory.  For a mismatch
 * between what the guest accessed and what the page is, or for a private page
 * that cannot be provided, flags is exactly KVM_MEMORY_EXIT_FLAG_PRIVATE
 * or 0.
 *
 * Not in mainline: exactly one of READ, WRITE and EXEC is set when an NR, NW or
 * NX attribute refused the access, beside PRIVATE if the page is private.  Reading
 * a page table to translate an address is a READ, setting its accessed and dirty
 * bits a WRITE; with nested paging hardware counts every walk as a WRITE.
 */
#define KVM_EXIT_MEMORY_FAULT		39

#define KVM_MEMORY_EXIT_FLAG_READ	_BITULL(0)
#define KVM_MEMORY_EXIT_FLAG_WRITE	_BITULL(1)
#define KVM_MEMORY_EXIT_FLAG_EXEC	_BITULL(2)
#define KVM_MEMORY_EXIT_FLAG_PRIVATE	_BITULL(3)

/**
 * struct kvm_userspace_memory_region2 - argument of
 *	KVM_SET_USER_MEMORY_REGION2
 * @slot: as in &struct kvm_userspace_memory_region
 * @flags: as there, and KVM_MEM_GUEST_MEMFD
 * @guest_phys_addr: as there
 * @memory_size: as there
 * @userspace_addr: as there; backs the pages that are shared
 * @guest_memfd_offset: with KVM_MEM_GUEST_MEMFD: where in the guest_memfd the
 *	memslot starts, a multiple of the page size
 * @guest_memfd: with KVM_MEM_GUEST_MEMFD: file descriptor of the guest_memfd,
 *	created on this same VM; backs the pages that are private
 * @pad1: ignored
 * @pad2: ignored
 *
 * A memslot with KVM_MEM_GUEST_MEMFD can be deleted but neither moved nor have
 * its flags changed, and takes neither KVM_MEM_LOG_DIRTY_PAGES nor
 * KVM_MEM_READONLY.
 *
 * Errors beyond those of KVM_SET_USER_MEMORY_REGION: EINVAL (not a
 * guest_memfd, or of another VM, offset unaligned or range beyond its size),
 * EBADF, EEXIST (that part of the guest_memfd is bound to another memslot).
 */
struct kvm_userspace_memory_region2 {
	__u32 slot;
	__u32 flags;
	__u64 guest_phys_addr;
	__u64 memory_size;
	__u64 userspace_addr;
	__u64 guest_memfd_offset;
	__u32 guest_memfd;
	__u32 pad1;
	__u64 pad2[14];
};

#define KVM_MEM_GUEST_MEMFD		(1UL << 2)

/**
 * struct kvm_create_guest_memfd - argument of KVM_CREATE_GUEST_MEMFD
 * @size: size in bytes, a multiple of the page size, not zero, cannot be changed later
 * @flags: zero, or KVM_GUEST_MEMFD_* flags that were enabled
 * @reserved: ignored, as in mainline; zero it
 *
 * Returns a file descriptor of memory that only this VM's private GFNs can
 * reach: it cannot be mapped, read or written.  fallocate() allocates and,
 * with FALLOC_FL_PUNCH_HOLE, frees pages.  New pages read as zero.
 */
struct kvm_create_guest_memfd {
	__u64 size;
	__u64 flags;
	__u64 reserved[6];
};

/*
 * Flags of KVM_CREATE_GUEST_MEMFD.  Not in mainline, so every one is EINVAL, as
 * it is there, until the VM has it enabled: KVM_ENABLE_CAP on the VM file
 * descriptor with cap KVM_CAP_GUEST_MEMFD_BACKING_FLAGS and the flags in args[0]
 * (EINVAL: one of them is not supported).  KVM_CHECK_EXTENSION of the
 * same returns the mask of flags supported here.
 *
 * HUGE_PAGES: memory is allocated 2 MiB at a time, wherever all of an aligned
 * 2 MiB piece of the file lies within its size and none of it is allocated yet,
 * and mapped so to the guest, if GPA and offset (and userspace_addr) are
 * aligned alike and the attributes are uniform.  Where 2 MiB are not to be had it
 * is 4 KiB.  Touching a page, or fallocate() of one, thus allocates 512.  A
 * page that is punched out of 2 MiB is gone for the guest, and zero when it
 * comes back, but the memory is freed only when all 512 have been punched:
 * until then st_blocks counts it.
 *
 * NO_DIRECT_MAP: the memory is taken out of the kernel's direct map as long as
 * it is part of the file, so that stray pointers of the kernel, and code that reads
 * all of memory, do not reach it.  Only in a kernel with KVM built in.
 */
#define KVM_GUEST_MEMFD_HUGE_PAGES	_BITULL(24)
#define KVM_GUEST_MEMFD_NO_DIRECT_MAP	_BITULL(25)

/**
 * struct kvm_pre_fault_memory - argument of the vCPU ioctl
 *	KVM_PRE_FAULT_MEMORY
 * @gpa: in: start of the range, a multiple of the page size; out: where the
 *	next call has to go on
 * @size: in: length, a multiple of the page size, not zero; out: what is left
 * @flags: must be zero
 * @padding: ignored, as in mainline; zero it
 *
 * Maps the range as the guest's read access to each page would do.  Returns 0
 * when something was mapped before an error or a signal stopped the call:
 * repeat until @size is zero.
 *
 * Errors (only if nothing was mapped): EINVAL, EINTR, EAGAIN, EFAULT, ENOENT (no
 * memslot there), EHWPOISON, EOPNOTSUPP (without two-dimensional paging).
 */
struct kvm_pre_fault_memory {
	__u64 gpa;
	__u64 size;
	__u64 flags;
	__u64 padding[5];
};

/* VM ioctls */
#define KVM_SET_USER_MEMORY_REGION2 \
	_IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#define KVM_SET_MEMORY_ATTRIBUTES \
	_IOW(KVMIO, 0xd2, struct kvm_memory_attributes)
/* Returns the mask of attributes this VM supports; not in mainline. */
#define KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES	_IOR(KVMIO, 0xd2, __u64)
#define KVM_CREATE_GUEST_MEMFD \
	_IOWR(KVMIO, 0xd4, struct kvm_create_guest_memfd)
#define KVM_UPDATE_MEMORY_ATTRIBUTES \
	_IOWR(KVMIO, 0xdc, struct kvm_update_memory_attributes)
#define KVM_GET_MEMORY_ATTRIBUTES \
	_IOWR(KVMIO, 0xdd, struct kvm_get_memory_attributes)

/* vCPU ioctls */
#define KVM_PRE_FAULT_MEMORY \
	_IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)

#endif /* __LINUX_KVM_MEM_ATTRS_H */
