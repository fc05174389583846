// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM per-page memory attributes - what can be seen of them from outside
 *
 * Model
 *
 *   statistics	  Fields of struct kvm_vm_stat and struct kvm_vcpu_stat, which userspace
 *		  reads by KVM_GET_STATS_FD and in debugfs.  What a VM has at the moment
 *		  (extents, nodes, pages) is kept up to date by each change.  Only a change
 *		  that gives many extents one value leaves the number of extents to be
 *		  counted when it is read: kvm_mem_attrs_refresh_stats().
 *   tracepoints  include/trace/events/kvm_mem_attrs.h.  Here is the one place where
 *		  they are created, and the code that only they need.
 *   debugfs	  mem_attrs, the extents of a VM as text, and mem_attrs_maps, the pages
 *		  that KVM has mapped.  In the VM's directory, for root.
 *
 * A read of mem_attrs gets one piece of 4 KiB of text at a time.  A piece is a snapshot,
 * and begins where the one before it ended.  So lines are in ascending order and never
 * overlap, but lines of different pieces may be of different times.  A snapshot of the
 * whole would hold up changes for as long as the VMM has made it.
 *
 * Locks
 *
 *   kvm->slots_lock	    Statistics of sets; the store, for one piece of mem_attrs.
 *   mem_attrs->maps_lock   The list of maps, for one line of mem_attrs_maps.
 *
 * Statistics of a vCPU are written by the task that runs it.
 *
 * Lifetimes: an open file of debugfs pins the VM.  Files go away with the directory,
 * before the VM does.
 */

#include <linux/debugfs.h>
#include <linux/kvm_host.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>

#include "mem_attrs.h"

#define CREATE_TRACE_POINTS
#include <trace/events/kvm_mem_attrs.h>

void kvm_mem_attrs_count_set(struct kvm *kvm, const struct kvm_mem_attrs_op *op,
			     u64 ns)
{
	struct kvm_vm_stat_generic *stat = &kvm->stat.generic;

	lockdep_assert_held(&kvm->slots_lock);

	if (op->changed)
		stat->mem_attrs_sets++;
	else
		stat->mem_attrs_noop_sets++;
	kvm_stats_log_hist_update(stat->mem_attrs_set_hist,
				  ARRAY_SIZE(stat->mem_attrs_set_hist), ns);

	if (!kvm->mem_attrs)
		return;

	stat->mem_attrs_nodes = kvm->mem_attrs->store.nr_nodes *
				sizeof(struct xa_node);
	if (!kvm->mem_attrs->store.recount)
		stat->mem_attrs_extents = kvm->mem_attrs->store.nr_extents;
}

/*
 * How often a count of extents goes on: some four million of them.  The reader holds
 * slots_lock, and kvm_lock if it adds up all VMs.
 */
#define COUNT_ROUNDS	1024

static bool count_extents(struct kvm_attr_store *store, unsigned long *nr)
{
	unsigned int rounds = COUNT_ROUNDS;
	unsigned long next = 0;

	while (kvm_attr_store_count(store, &next, nr)) {
		if (!--rounds || fatal_signal_pending(current))
			return false;
		cond_resched();
	}
	return true;
}

/*
 * Called before a VM's statistics are read.  If there are too many extents to be
 * counted, the statistic keeps its last value.
 */
void kvm_mem_attrs_refresh_stats(struct kvm *kvm)
{
	struct kvm_attr_store *store;
	unsigned long nr = 0;

	if (!kvm_has_mem_attrs(kvm) || !READ_ONCE(kvm->mem_attrs->store.recount))
		return;
	if (mutex_lock_killable(&kvm->slots_lock))
		return;

	store = &kvm->mem_attrs->store;
	if (store->recount && count_extents(store, &nr)) {
		store->nr_extents = nr;
		store->recount = false;
		kvm->stat.generic.mem_attrs_extents = nr;
	}
	mutex_unlock(&kvm->slots_lock);
}

static void trace_refused(struct kvm *kvm, struct kvm_vcpu *vcpu, gfn_t gfn,
			  u64 flags)
{
	const char *path = kvm_arch_pv_page_name(kvm, vcpu, gfn);

	/* Anything else of a running vCPU ends as an exit of its instruction. */
	if (path || !vcpu)
		trace_kvm_mem_attrs_refused(kvm, vcpu, gfn, flags,
					    path ?: "vm");
}

/*
 * KVM was refused an access.  @access: what it wanted, @flags: what is in the way, both
 * KVM_MEMORY_EXIT_FLAG_*.  Any context.
 */
void kvm_mem_attrs_note_refused(struct kvm *kvm, gfn_t gfn, u64 access,
				u64 flags)
{
	struct kvm_vcpu *vcpu = kvm_running_vcpu_of(kvm);

	if (vcpu) {
		if (access & KVM_MEMORY_EXIT_FLAG_READ)
			vcpu->stat.generic.refused_read++;
		if (access & KVM_MEMORY_EXIT_FLAG_WRITE)
			vcpu->stat.generic.refused_write++;
		if (access & KVM_MEMORY_EXIT_FLAG_EXEC)
			vcpu->stat.generic.refused_exec++;
	}

	if (trace_kvm_mem_attrs_refused_enabled())
		trace_refused(kvm, vcpu, gfn, flags);
}

void kvm_mem_attrs_prepare_exit(struct kvm_vcpu *vcpu, gpa_t gpa, u64 flags,
				enum kvm_memory_fault_by by)
{
	kvm_prepare_memory_fault_exit(vcpu, gpa, PAGE_SIZE, flags);
	vcpu->stat.generic.memory_fault_exits++;
	if (trace_kvm_memory_fault_exit_enabled())
		trace_kvm_memory_fault_exit(vcpu, gpa, flags,
					    kvm_arch_vcpu_get_ip(vcpu), by);
}

/* Open a file of a VM's directory, with an iterator for lines of that VM. */
static int vm_seq_open(struct inode *inode, struct file *file,
		       const struct seq_operations *ops)
{
	struct kvm *kvm = inode->i_private;
	int r;

	/* The directory is removed after the last reference is gone. */
	if (!kvm_get_kvm_safe(kvm))
		return -ENOENT;

	r = seq_open(file, ops);
	if (r)
		kvm_put_kvm(kvm);
	else
		((struct seq_file *)file->private_data)->private = kvm;
	return r;
}

static int vm_seq_release(struct inode *inode, struct file *file)
{
	seq_release(inode, file);
	kvm_put_kvm(inode->i_private);
	return 0;
}

/* The first extent with attributes from *pos on, which is moved there. */
static bool next_extent(struct kvm *kvm, loff_t *pos,
			struct kvm_attr_extent *ext)
{
	struct kvm_attr_iter iter;

	if (!kvm->mem_attrs)
		return false;

	kvm_attr_iter_init(&iter, &kvm->mem_attrs->store, *pos,
			   KVM_ATTR_MAX_INDEX);
	while (kvm_attr_iter_next(&iter, ext)) {
		*pos = ext->first;
		if (ext->attrs)
			return true;
	}
	return false;
}

/* The position is a GFN, and stands for the extent from there on. */
static void *mem_attrs_seq_start(struct seq_file *m, loff_t *pos)
{
	struct kvm *kvm = m->private;
	struct kvm_attr_extent ext;

	if (mutex_lock_killable(&kvm->slots_lock))
		return ERR_PTR(-EINTR);

	return next_extent(kvm, pos, &ext) ? pos : NULL;
}

static void *mem_attrs_seq_next(struct seq_file *m, void *v, loff_t *pos)
{
	struct kvm *kvm = m->private;
	struct kvm_attr_extent ext = {};

	/* seq_read() returns once it has a page of text: 200,000 instructions. */
	cond_resched();
	next_extent(kvm, pos, &ext);
	*pos = ext.last + 1;
	return next_extent(kvm, pos, &ext) ? pos : NULL;
}

static void mem_attrs_seq_stop(struct seq_file *m, void *v)
{
	struct kvm *kvm = m->private;

	if (!IS_ERR(v))
		mutex_unlock(&kvm->slots_lock);
}

static int mem_attrs_seq_show(struct seq_file *m, void *v)
{
	struct kvm_attr_extent ext = {};
	loff_t pos = *(loff_t *)v;

	next_extent(m->private, &pos, &ext);
	seq_printf(m, "%#018llx %#018llx %llu %c%c%c %s\n",
		   gfn_to_gpa(ext.first), gfn_to_gpa(ext.last + 1) - 1,
		   gfn_to_gpa(ext.last - ext.first + 1),
		   ext.attrs & KVM_MEMORY_ATTRIBUTE_NR ? '-' : 'r',
		   ext.attrs & KVM_MEMORY_ATTRIBUTE_NW ? '-' : 'w',
		   ext.attrs & KVM_MEMORY_ATTRIBUTE_NX ? '-' : 'x',
		   ext.attrs & KVM_MEMORY_ATTRIBUTE_PRIVATE ? "private" :
							      "shared");
	return 0;
}

static const struct seq_operations mem_attrs_seq_ops = {
	.start	= mem_attrs_seq_start,
	.next	= mem_attrs_seq_next,
	.stop	= mem_attrs_seq_stop,
	.show	= mem_attrs_seq_show,
};

static int mem_attrs_open(struct inode *inode, struct file *file)
{
	return vm_seq_open(inode, file, &mem_attrs_seq_ops);
}

static const struct file_operations mem_attrs_fops = {
	.owner		= THIS_MODULE,
	.open		= mem_attrs_open,
	.read		= seq_read,
	.llseek		= seq_lseek,
	.release	= vm_seq_release,
};

/* The @n-th tracked map. */
static bool nth_map(struct kvm *kvm, loff_t n, gfn_t *gfn)
{
	struct kvm_mem_attrs *attrs;
	struct kvm_host_map *map;
	bool found = false;

	if (!kvm_has_mem_attrs(kvm))
		return false;

	attrs = kvm->mem_attrs;
	raw_spin_lock(&attrs->maps_lock);
	list_for_each_entry(map, &attrs->maps, in_use) {
		if (n--)
			continue;
		*gfn = map->gfn;
		found = true;
		break;
	}
	raw_spin_unlock(&attrs->maps_lock);
	return found;
}

static void *maps_seq_start(struct seq_file *m, loff_t *pos)
{
	gfn_t gfn;

	return nth_map(m->private, *pos, &gfn) ? pos : NULL;
}

static void *maps_seq_next(struct seq_file *m, void *v, loff_t *pos)
{
	/* Each line walks the list anew, which has some maps of each vCPU. */
	cond_resched();
	++*pos;
	return maps_seq_start(m, pos);
}

static void maps_seq_stop(struct seq_file *m, void *v)
{
}

static int maps_seq_show(struct seq_file *m, void *v)
{
	gfn_t gfn;

	/* It may have been unmapped by now. */
	if (nth_map(m->private, *(loff_t *)v, &gfn))
		seq_printf(m, "%#018llx %s\n", gfn_to_gpa(gfn),
			   kvm_mem_is_private(m->private, gfn) ? "private" :
								 "shared");
	return 0;
}

static const struct seq_operations maps_seq_ops = {
	.start	= maps_seq_start,
	.next	= maps_seq_next,
	.stop	= maps_seq_stop,
	.show	= maps_seq_show,
};

static int maps_open(struct inode *inode, struct file *file)
{
	return vm_seq_open(inode, file, &maps_seq_ops);
}

static const struct file_operations maps_fops = {
	.owner		= THIS_MODULE,
	.open		= maps_open,
	.read		= seq_read,
	.llseek		= seq_lseek,
	.release	= vm_seq_release,
};

/* In the directory of a new VM.  A file that is missing is nothing that a VM needs. */
void kvm_mem_attrs_create_debugfs(struct kvm *kvm)
{
	debugfs_create_file("mem_attrs", 0400, kvm->debugfs_dentry, kvm,
			    &mem_attrs_fops);
	debugfs_create_file("mem_attrs_maps", 0400, kvm->debugfs_dentry, kvm,
			    &maps_fops);
}
