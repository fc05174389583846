// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM x86 - the owner of each page of private memory, for debugging
 *
 * Model
 *
 * A table in software takes the place of a hardware table that lists what every
 * page of the machine is used for, and refuses uses that do not fit.  The same hooks
 * maintain it: a folio is entered, with its size, when it becomes private memory of a
 * VM, and removed when it becomes ordinary memory again.
 *
 * Three events are bugs.  Each gives a warning once, and is counted in debugfs: a page
 * is given to a VM while it has an owner; a folio is taken back that has no owner, or
 * an owner of another size; a page is about to be mapped into a VM that does not
 * own it.
 *
 * The table does not restrict how a page is mapped, except that no mapping is larger
 * than the folio.  An entry of the XArray covers a folio, so its order is the size
 * that is owned.
 *
 * Locks
 *
 *   xa_lock of the table	changes; looking up: RCU
 *
 * Lifetimes: an entry names a VM by its address, and never follows it.  The
 * table itself lives as long as the module.
 */
#include <linux/debugfs.h>
#include <linux/kvm_host.h>
#include <linux/seq_file.h>
#include <linux/xarray.h>

#include "gmem_owner.h"

static DEFINE_XARRAY(owners);
static struct dentry *owner_dir;

/* In units of hook calls, of pages, and of folios now owned. */
static atomic64_t nr_prepared, nr_invalidated, nr_failed;
static atomic64_t pages_prepared, pages_invalidated;
static atomic64_t owned_small, owned_large;
static atomic64_t nr_violations;

/* Counts down; the call that reaches zero fails.  Zero: none does. */
static atomic64_t fail_in;

#define OWNER_WARN(cond, fmt...)				\
({								\
	bool __cond = (cond);					\
								\
	if (__cond)						\
		atomic64_inc(&nr_violations);			\
	WARN_ONCE(__cond, fmt);					\
	__cond;							\
})

static bool owner_should_fail(void)
{
	return atomic64_read(&fail_in) > 0 && !atomic64_dec_return(&fail_in);
}

static void owner_count(unsigned int order, int by)
{
	atomic64_add(by, order ? &owned_large : &owned_small);
}

int kvm_arch_gmem_prepare(struct kvm *kvm, struct page *page,
			  unsigned int order)
{
	unsigned long pfn = page_to_pfn(page);
	XA_STATE_ORDER(xas, &owners, pfn, order);
	void *entry;

	if (owner_should_fail()) {
		atomic64_inc(&nr_failed);
		return -ENOMEM;
	}

	do {
		xas_lock(&xas);
		xas_for_each_conflict(&xas, entry)
			OWNER_WARN(entry, "pfn %lx: has an owner already", pfn);
		xas_store(&xas, kvm);
		xas_unlock(&xas);
	} while (xas_nomem(&xas, GFP_KERNEL));

	if (xas_error(&xas)) {
		atomic64_inc(&nr_failed);
		return xas_error(&xas);
	}

	atomic64_inc(&nr_prepared);
	atomic64_add(1ul << order, &pages_prepared);
	owner_count(order, 1);
	return 0;
}

void kvm_arch_gmem_invalidate(struct page *page, unsigned int order)
{
	unsigned long pfn = page_to_pfn(page);
	XA_STATE(xas, &owners, pfn);
	void *entry;

	xas_lock(&xas);
	entry = xas_load(&xas);
	OWNER_WARN(!entry || xas_get_order(&xas) != order,
		   "pfn %lx: not owned with order %u", pfn, order);
	if (entry)
		xas_store(&xas, NULL);
	xas_unlock(&xas);

	atomic64_inc(&nr_invalidated);
	atomic64_add(1ul << order, &pages_invalidated);
	if (entry)
		owner_count(order, -1);
}

/*
 * Called with a reference, but without a lock that would keep the page in
 * the file.  A page that leaves has its mapping cleared before its owner: so one
 * without owner that still has a mapping, looked at in this order, never
 * had an owner.
 */
int kvm_arch_gmem_max_order(struct kvm *kvm, struct page *page, int order)
{
	XA_STATE(xas, &owners, page_to_pfn(page));
	int owned = 0;
	void *entry;

	rcu_read_lock();
	do {
		entry = xas_load(&xas);
	} while (xas_retry(&xas, entry));
	if (entry)
		owned = xas_get_order(&xas);
	rcu_read_unlock();

	/* Pairs with smp_mb() in kvm_gmem_free_folio(). */
	smp_rmb();

	if (entry != kvm)
		OWNER_WARN(READ_ONCE(page_folio(page)->mapping),
			   "pfn %lx: mapped by a VM that does not own it",
			   page_to_pfn(page));

	return min(order, owned);
}

static int owner_get(void *data, u64 *val)
{
	*val = atomic64_read(data);
	return 0;
}

static int owner_set(void *data, u64 val)
{
	atomic64_set(data, val);
	return 0;
}

DEFINE_DEBUGFS_ATTRIBUTE(owner_ro_fops, owner_get, NULL, "%llu\n");
DEFINE_DEBUGFS_ATTRIBUTE(owner_rw_fops, owner_get, owner_set, "%llu\n");

static const struct {
	const char *name;
	atomic64_t *value;
} owner_stats[] = {
	{ "prepared",		&nr_prepared },
	{ "prepared_pages",	&pages_prepared },
	{ "prepare_failed",	&nr_failed },
	{ "invalidated",	&nr_invalidated },
	{ "invalidated_pages",	&pages_invalidated },
	{ "owned_4k",		&owned_small },
	{ "owned_2m",		&owned_large },
	{ "violations",		&nr_violations },
};

/* A line per folio: PFN of its first page, order. */
static int owners_show(struct seq_file *m, void *unused)
{
	unsigned long pfn;
	void *kvm;

	xa_for_each(&owners, pfn, kvm) {
		seq_printf(m, "%lx %u\n", pfn, xa_get_order(&owners, pfn));
		cond_resched();
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(owners);

void kvm_gmem_owner_init(void)
{
	int i;

	owner_dir = debugfs_create_dir("kvm_gmem_owner", NULL);
	for (i = 0; i < ARRAY_SIZE(owner_stats); i++)
		debugfs_create_file_unsafe(owner_stats[i].name, 0444, owner_dir,
					   owner_stats[i].value,
					   &owner_ro_fops);
	debugfs_create_file("owners", 0444, owner_dir, NULL, &owners_fops);
	debugfs_create_file_unsafe("fail_in", 0644, owner_dir, &fail_in,
				   &owner_rw_fops);
}

void kvm_gmem_owner_exit(void)
{
	debugfs_remove(owner_dir);
	WARN_ON_ONCE(!xa_empty(&owners));
	xa_destroy(&owners);
}
