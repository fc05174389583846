// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM write tracking: an external tracker for tests
 *
 * Trackers are parts of other drivers, as that of virtual GPUs, and so need
 * hardware.  This one needs none and does nothing but track the pages that
 * userspace names, and count.  It is for the selftests page_track_test and
 * page_track_stress_test.
 *
 * Each time that the file kvm_page_track_test in debugfs is opened, there is one
 * more tracker, which goes when the file is closed.  A write() is a command:
 *
 *  attach FD		attach to the VM that FD stands for
 *  detach		stop tracking all pages, and detach
 *  track GFN		track writes to a page
 *  untrack GFN		stop it
 *
 * and fails with
 *
 *  EINVAL		not a command; FD is not a VM; no memslot has GFN
 *  EBUSY		attach: it is attached already
 *  ENOTCONN		all others: it is not attached
 *  EEXIST, ENOENT	the page is tracked already; it is not tracked
 *
 * Reading gives "removed REGIONS PAGES", memslots that went away while attached,
 * and then a line for each page that is tracked, "GFN WRITES GPA BYTES VALUE":
 * how many writes there were, and what the last one was, all in hex but for WRITES
 * and BYTES.
 *
 * Locks:
 *
 *  tracker->lock	commands of one tracker, tracker->kvm; outermost
 *  kvm->mmu_lock	the table of pages and the counts, as for any tracker
 *
 * Lifetimes: while attached, KVM holds a reference to the VM for the tracker, and
 * the open file one to this module.  Pages are in the table from "track" to
 * "untrack", or to the end of their memslot.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/hashtable.h>
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include <asm/kvm_page_track.h>

#define COMMAND_MAX	64

struct tracked_page {
	struct hlist_node node;
	gfn_t gfn;
	u64 writes;
	/* The last write. */
	gpa_t gpa;
	int bytes;
	u64 value;
};

struct tracker {
	struct kvm_page_track_notifier_node node;
	/* Commands are carried out one at a time. */
	struct mutex lock;
	/* NULL while detached. */
	struct kvm *kvm;
	/* What is tracked, and the counts below: under kvm->mmu_lock. */
	DECLARE_HASHTABLE(pages, 8);
	u64 removed_regions;
	u64 removed_pages;
};

static struct dentry *tracker_file;

static struct tracked_page *find_page(struct tracker *t, gfn_t gfn)
{
	struct tracked_page *page;

	hash_for_each_possible(t->pages, page, node, gfn) {
		if (page->gfn == gfn)
			return page;
	}
	return NULL;
}

static void free_page_entry(struct tracked_page *page)
{
	hash_del(&page->node);
	kfree(page);
}

static void tracker_write(struct kvm_vcpu *vcpu, gpa_t gpa, const u8 *new,
			  int bytes, struct kvm_page_track_notifier_node *node)
{
	struct tracker *t = container_of(node, struct tracker, node);
	struct tracked_page *page;

	write_lock(&vcpu->kvm->mmu_lock);
	page = find_page(t, gpa_to_gfn(gpa));
	if (page) {
		page->writes++;
		page->gpa = gpa;
		page->bytes = bytes;
		page->value = 0;
		memcpy(&page->value, new, min_t(int, bytes, sizeof(page->value)));
	}
	write_unlock(&vcpu->kvm->mmu_lock);
}

static void tracker_remove_region(struct kvm *kvm, gfn_t start, gfn_t end,
				  struct kvm_page_track_notifier_node *node)
{
	struct tracker *t = container_of(node, struct tracker, node);
	struct tracked_page *page;
	struct hlist_node *tmp;
	int bkt;

	write_lock(&kvm->mmu_lock);
	t->removed_regions++;
	hash_for_each_safe(t->pages, bkt, tmp, page, node) {
		if (page->gfn >= start && page->gfn < end) {
			t->removed_pages++;
			free_page_entry(page);
		}
	}
	write_unlock(&kvm->mmu_lock);
}

/* Commands, all with tracker->lock held. */

static int tracker_attach(struct tracker *t, u64 fd)
{
	struct file *file;
	int r = -EINVAL;

	if (t->kvm)
		return -EBUSY;

	file = fget(fd);
	if (!file)
		return -EINVAL;

	if (file_is_kvm(file)) {
		t->removed_regions = 0;
		t->removed_pages = 0;
		r = kvm_page_track_register_notifier(file->private_data,
						     &t->node);
	}
	if (!r)
		t->kvm = file->private_data;
	fput(file);
	return r;
}

static int tracker_track(struct tracker *t, u64 gfn)
{
	struct kvm_memory_slot *slot;
	struct kvm *kvm = t->kvm;
	struct tracked_page *page;
	int idx, r = 0;

	/* Only commands add pages, and t->lock is held. */
	page = kzalloc(sizeof(*page), GFP_KERNEL_ACCOUNT);
	if (!page)
		return -ENOMEM;
	page->gfn = gfn;

	idx = srcu_read_lock(&kvm->srcu);
	write_lock(&kvm->mmu_lock);
	slot = gfn_to_memslot(kvm, gfn);
	if (!slot)
		r = -EINVAL;
	else if (find_page(t, gfn))
		r = -EEXIST;

	if (!r) {
		kvm_slot_page_track_add_page(kvm, slot, gfn);
		hash_add(t->pages, &page->node, gfn);
	}
	write_unlock(&kvm->mmu_lock);
	srcu_read_unlock(&kvm->srcu, idx);

	if (r)
		kfree(page);
	return r;
}

/*
 * Without a memslot the page's is just being removed: there is no count any more,
 * and tracker_remove_region() would have come for the entry.
 */
static void untrack_page(struct tracker *t, struct tracked_page *page)
{
	struct kvm_memory_slot *slot = gfn_to_memslot(t->kvm, page->gfn);

	if (slot)
		kvm_slot_page_track_remove_page(t->kvm, slot, page->gfn);
	free_page_entry(page);
}

static int tracker_untrack(struct tracker *t, u64 gfn)
{
	struct kvm *kvm = t->kvm;
	struct tracked_page *page;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	write_lock(&kvm->mmu_lock);
	page = find_page(t, gfn);
	if (page)
		untrack_page(t, page);
	write_unlock(&kvm->mmu_lock);
	srcu_read_unlock(&kvm->srcu, idx);

	return page ? 0 : -ENOENT;
}

static int tracker_detach(struct tracker *t)
{
	struct kvm *kvm = t->kvm;
	struct tracked_page *page;
	struct hlist_node *tmp;
	int idx, bkt;

	idx = srcu_read_lock(&kvm->srcu);
	write_lock(&kvm->mmu_lock);
	hash_for_each_safe(t->pages, bkt, tmp, page, node)
		untrack_page(t, page);
	write_unlock(&kvm->mmu_lock);
	srcu_read_unlock(&kvm->srcu, idx);

	/* This may be the end of the VM. */
	kvm_page_track_unregister_notifier(kvm, &t->node);
	t->kvm = NULL;
	return 0;
}

static int tracker_command(struct tracker *t, const char *command)
{
	char verb[8];
	u64 arg = 0;
	int n;

	n = sscanf(command, "%7s %lli", verb, &arg);
	if (n == 2 && !strcmp(verb, "attach"))
		return tracker_attach(t, arg);
	if (n == 2 && !strcmp(verb, "track"))
		return t->kvm ? tracker_track(t, arg) : -ENOTCONN;
	if (n == 2 && !strcmp(verb, "untrack"))
		return t->kvm ? tracker_untrack(t, arg) : -ENOTCONN;
	if (n == 1 && !strcmp(verb, "detach"))
		return t->kvm ? tracker_detach(t) : -ENOTCONN;
	return -EINVAL;
}

static ssize_t tracker_file_write(struct file *file, const char __user *ubuf,
				  size_t size, loff_t *pos)
{
	struct seq_file *m = file->private_data;
	struct tracker *t = m->private;
	char command[COMMAND_MAX];
	int r;

	if (size >= sizeof(command))
		return -EINVAL;
	if (copy_from_user(command, ubuf, size))
		return -EFAULT;
	command[size] = '\0';

	mutex_lock(&t->lock);
	r = tracker_command(t, command);
	mutex_unlock(&t->lock);
	return r ?: size;
}

static int tracker_file_show(struct seq_file *m, void *v)
{
	struct tracker *t = m->private;
	struct tracked_page *page;
	int bkt;

	mutex_lock(&t->lock);
	if (!t->kvm) {
		mutex_unlock(&t->lock);
		return -ENOTCONN;
	}

	read_lock(&t->kvm->mmu_lock);
	seq_printf(m, "removed %llu %llu\n", t->removed_regions,
		   t->removed_pages);
	hash_for_each(t->pages, bkt, page, node)
		seq_printf(m, "%llx %llu %llx %d %llx\n", page->gfn,
			   page->writes, page->gpa, page->bytes, page->value);
	read_unlock(&t->kvm->mmu_lock);
	mutex_unlock(&t->lock);
	return 0;
}

static int tracker_file_open(struct inode *inode, struct file *file)
{
	struct tracker *t;
	int r;

	t = kzalloc(sizeof(*t), GFP_KERNEL_ACCOUNT);
	if (!t)
		return -ENOMEM;

	t->node.track_write = tracker_write;
	t->node.track_remove_region = tracker_remove_region;
	mutex_init(&t->lock);
	hash_init(t->pages);

	r = single_open(file, tracker_file_show, t);
	if (r)
		kfree(t);
	return r;
}

static int tracker_file_release(struct inode *inode, struct file *file)
{
	struct seq_file *m = file->private_data;
	struct tracker *t = m->private;

	mutex_lock(&t->lock);
	if (t->kvm)
		tracker_detach(t);
	mutex_unlock(&t->lock);
	kfree(t);
	return single_release(inode, file);
}

static const struct file_operations tracker_fops = {
	.owner		= THIS_MODULE,
	.open		= tracker_file_open,
	.release	= tracker_file_release,
	.read		= seq_read,
	.write		= tracker_file_write,
	.llseek		= seq_lseek,
};

static int __init page_track_test_init(void)
{
	tracker_file = debugfs_create_file("kvm_page_track_test", 0600, NULL,
					   NULL, &tracker_fops);
	return PTR_ERR_OR_ZERO(tracker_file);
}
module_init(page_track_test_init);

static void __exit page_track_test_exit(void)
{
	debugfs_remove(tracker_file);
}
module_exit(page_track_test_exit);

MODULE_DESCRIPTION("KVM write tracking: an external tracker for tests");
MODULE_LICENSE("GPL");
