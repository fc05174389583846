/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM memory attributes and guest_memfd - tracepoints
 *
 * A VM is named by the PID of the task that created it, as its directory in debugfs is.
 * Documentation/virt/kvm/memory-attributes-observe.rst shows how to use them.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm

#if !defined(_TRACE_KVM_MEM_ATTRS_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_KVM_MEM_ATTRS_H

#include <linux/kvm_host.h>
#include <linux/tracepoint.h>

struct kvm_mem_attrs_op;

#define kvm_trace_mem_attrs						\
	{ KVM_MEMORY_ATTRIBUTE_NR,	"NR" },				\
	{ KVM_MEMORY_ATTRIBUTE_NW,	"NW" },				\
	{ KVM_MEMORY_ATTRIBUTE_NX,	"NX" },				\
	{ KVM_MEMORY_ATTRIBUTE_PRIVATE,	"PRIVATE" }

#define kvm_trace_mem_access						\
	{ KVM_MEMORY_EXIT_FLAG_READ,	"read" },			\
	{ KVM_MEMORY_EXIT_FLAG_WRITE,	"write" },			\
	{ KVM_MEMORY_EXIT_FLAG_EXEC,	"exec" },			\
	{ KVM_MEMORY_EXIT_FLAG_PRIVATE,	"private" }

#define show_mem_attrs(attrs)						\
	((attrs) ? __print_flags(attrs, "|", kvm_trace_mem_attrs) : "0")

/*
 * A change that was asked for with KVM_SET_MEMORY_ATTRIBUTES or is one element of
 * KVM_UPDATE_MEMORY_ATTRIBUTES, when it has ended: new = (old & keep) | set.
 * changed: pages that got another value; extents: how many extents these had been
 */
TRACE_EVENT(kvm_mem_attrs_set,
	TP_PROTO(struct kvm *kvm, gfn_t gfn, u64 npages,
		 const struct kvm_mem_attrs_op *op, int result, u64 ns),
	TP_ARGS(kvm, gfn, npages, op, result, ns),

	TP_STRUCT__entry(
		__field(pid_t,		vm)
		__field(u64,		gfn)
		__field(u64,		npages)
		__field(u64,		set)
		__field(u64,		keep)
		__field(u64,		changed)
		__field(u64,		extents)
		__field(int,		result)
		__field(u64,		ns)
	),

	TP_fast_assign(
		__entry->vm		= kvm->userspace_pid;
		__entry->gfn		= gfn;
		__entry->npages		= npages;
		__entry->set		= op->set;
		__entry->keep		= op->keep & (KVM_MEMORY_ATTRIBUTES_RWX |
						      KVM_MEMORY_ATTRIBUTE_PRIVATE);
		__entry->changed	= op->changed ? op->nr_changed : 0;
		__entry->extents	= op->changed ? op->nr_extents : 0;
		__entry->result		= result;
		__entry->ns		= ns;
	),

	TP_printk("vm %d gfn 0x%llx pages %llu set %s keep 0x%llx changed %llu extents %llu result %d ns %llu",
		  __entry->vm, __entry->gfn, __entry->npages,
		  show_mem_attrs(__entry->set), __entry->keep,
		  __entry->changed, __entry->extents, __entry->result,
		  __entry->ns)
);

/* Mainline's event, here for KVM_SET_MEMORY_ATTRIBUTES alone.  @end is not included. */
TRACE_EVENT(kvm_vm_set_mem_attributes,
	TP_PROTO(gfn_t start, gfn_t end, unsigned long attr),
	TP_ARGS(start, end, attr),

	TP_STRUCT__entry(
		__field(gfn_t,		start)
		__field(gfn_t,		end)
		__field(unsigned long,	attr)
	),

	TP_fast_assign(
		__entry->start		= start;
		__entry->end		= end;
		__entry->attr		= attr;
	),

	TP_printk("start 0x%llx end 0x%llx attr 0x%lx",
		  __entry->start, __entry->end, __entry->attr)
);

/*
 * Mappings of one memslot in one extent, about to go from @old to @new, have been
 * zapped, or write-protected if only NW is new.
 */
TRACE_EVENT(kvm_mem_attrs_zap,
	TP_PROTO(struct kvm *kvm, const struct kvm_memory_slot *slot,
		 gfn_t start, gfn_t end, unsigned long old, unsigned long new),
	TP_ARGS(kvm, slot, start, end, old, new),

	TP_STRUCT__entry(
		__field(pid_t,		vm)
		__field(int,		slot)
		__field(int,		as_id)
		__field(u64,		gfn)
		__field(u64,		npages)
		__field(u64,		old)
		__field(u64,		new)
	),

	TP_fast_assign(
		__entry->vm		= kvm->userspace_pid;
		__entry->slot		= slot->id;
		__entry->as_id		= slot->as_id;
		__entry->gfn		= start;
		__entry->npages		= end - start;
		__entry->old		= old;
		__entry->new		= new;
	),

	TP_printk("vm %d slot %d as %d gfn 0x%llx pages %llu old %s new %s: %s",
		  __entry->vm, __entry->slot, __entry->as_id, __entry->gfn,
		  __entry->npages, show_mem_attrs(__entry->old),
		  show_mem_attrs(__entry->new),
		  (__entry->new & ~__entry->old) == KVM_MEMORY_ATTRIBUTE_NW &&
		  !((__entry->old ^ __entry->new) & KVM_MEMORY_ATTRIBUTE_PRIVATE) ?
		  "write-protected" : "zapped")
);

TRACE_DEFINE_ENUM(KVM_MEMORY_FAULT_BY_HARDWARE);
TRACE_DEFINE_ENUM(KVM_MEMORY_FAULT_BY_EMULATOR);
TRACE_DEFINE_ENUM(KVM_MEMORY_FAULT_BY_PAGE_WALK);
TRACE_DEFINE_ENUM(KVM_MEMORY_FAULT_BY_KVM);

#define kvm_trace_memory_fault_by					\
	{ KVM_MEMORY_FAULT_BY_HARDWARE,		"hardware" },		\
	{ KVM_MEMORY_FAULT_BY_EMULATOR,		"emulator" },		\
	{ KVM_MEMORY_FAULT_BY_PAGE_WALK,	"page-walk" },		\
	{ KVM_MEMORY_FAULT_BY_KVM,		"kvm" }

/* An exit with KVM_EXIT_MEMORY_FAULT, and what ran into the attributes. */
TRACE_EVENT(kvm_memory_fault_exit,
	TP_PROTO(struct kvm_vcpu *vcpu, gpa_t gpa, u64 flags,
		 unsigned long rip, enum kvm_memory_fault_by by),
	TP_ARGS(vcpu, gpa, flags, rip, by),

	TP_STRUCT__entry(
		__field(pid_t,		vm)
		__field(unsigned int,	vcpu_id)
		__field(u64,		gpa)
		__field(u64,		flags)
		__field(unsigned long,	rip)
		__field(u8,		by)
	),

	TP_fast_assign(
		__entry->vm		= vcpu->kvm->userspace_pid;
		__entry->vcpu_id	= vcpu->vcpu_id;
		__entry->gpa		= gpa;
		__entry->flags		= flags;
		__entry->rip		= rip;
		__entry->by		= by;
	),

	TP_printk("vm %d vcpu %u gpa 0x%llx flags %s rip 0x%lx by %s",
		  __entry->vm, __entry->vcpu_id, __entry->gpa,
		  __print_flags(__entry->flags, "|", kvm_trace_mem_access),
		  __entry->rip,
		  __print_symbolic(__entry->by, kvm_trace_memory_fault_by))
);

/*
 * An access by KVM that is not part of a guest instruction was refused, and dropped.
 * @path: the paravirtual feature whose page it is, or "vm" without a running vCPU
 */
TRACE_EVENT(kvm_mem_attrs_refused,
	TP_PROTO(struct kvm *kvm, struct kvm_vcpu *vcpu, gfn_t gfn, u64 flags,
		 const char *path),
	TP_ARGS(kvm, vcpu, gfn, flags, path),

	TP_STRUCT__entry(
		__field(pid_t,		vm)
		__field(int,		vcpu_id)
		__field(u64,		gfn)
		__field(u64,		flags)
		__string(path,		path)
	),

	TP_fast_assign(
		__entry->vm		= kvm->userspace_pid;
		__entry->vcpu_id	= vcpu ? vcpu->vcpu_id : -1;
		__entry->gfn		= gfn;
		__entry->flags		= flags;
		__assign_str(path, path);
	),

	TP_printk("vm %d vcpu %d gfn 0x%llx flags %s path %s",
		  __entry->vm, __entry->vcpu_id, __entry->gfn,
		  __print_flags(__entry->flags, "|", kvm_trace_mem_access),
		  __get_str(path))
);

/* A file is named by its inode, which /proc/PID/fdinfo has, too. */
DECLARE_EVENT_CLASS(kvm_gmem_folio,
	TP_PROTO(const struct inode *inode, pgoff_t index, unsigned int order,
		 u64 ns),
	TP_ARGS(inode, index, order, ns),

	TP_STRUCT__entry(
		__field(unsigned long,	ino)
		__field(pgoff_t,	index)
		__field(unsigned int,	order)
		__field(u64,		ns)
	),

	TP_fast_assign(
		__entry->ino		= inode->i_ino;
		__entry->index		= index;
		__entry->order		= order;
		__entry->ns		= ns;
	),

	TP_printk("ino %lu index 0x%lx order %u ns %llu", __entry->ino,
		  __entry->index, __entry->order, __entry->ns)
);

/* A folio has been allocated, zeroed, converted, and added to a file. */
DEFINE_EVENT(kvm_gmem_folio, kvm_gmem_alloc,
	TP_PROTO(const struct inode *inode, pgoff_t index, unsigned int order,
		 u64 ns),
	TP_ARGS(inode, index, order, ns)
);

/* A folio that had left its file has been wiped, converted back, and freed. */
DEFINE_EVENT(kvm_gmem_folio, kvm_gmem_free,
	TP_PROTO(const struct inode *inode, pgoff_t index, unsigned int order,
		 u64 ns),
	TP_ARGS(inode, index, order, ns)
);

/* A folio could not be made private memory, or not be made ordinary memory again. */
TRACE_EVENT(kvm_gmem_convert_fail,
	TP_PROTO(unsigned long pfn, unsigned int order, bool to_private,
		 int error),
	TP_ARGS(pfn, order, to_private, error),

	TP_STRUCT__entry(
		__field(unsigned long,	pfn)
		__field(unsigned int,	order)
		__field(bool,		to_private)
		__field(int,		error)
	),

	TP_fast_assign(
		__entry->pfn		= pfn;
		__entry->order		= order;
		__entry->to_private	= to_private;
		__entry->error		= error;
	),

	TP_printk("pfn 0x%lx order %u to %s error %d", __entry->pfn,
		  __entry->order, __entry->to_private ? "private" : "ordinary",
		  __entry->error)
);

#endif /* _TRACE_KVM_MEM_ATTRS_H */

/* The file is not called what the system is. */
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE kvm_mem_attrs

/* Expands the events once more, so it stays outside of the #ifndef. */
#include <trace/define_trace.h>
