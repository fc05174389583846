// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM x86 - private memory outside of the kernel's direct map
 *
 * Model
 *
 * The folios of a guest_memfd with KVM_GUEST_MEMFD_NO_DIRECT_MAP are not present in
 * the direct map from their allocation until they are freed.  The kernel has no other
 * alias of them.  Code that follows a stray pointer, or reads all memory
 * (/proc/kcore), gets a fault that it has to handle.
 *
 * A window is a page of kernel address space of one CPU.  KVM points it at a folio's
 * page for one access, with interrupts off, so that no other code on that CPU can use
 * it meanwhile.  Pages that KVM keeps mapped for longer (kvm_host_map,
 * gfn_to_pfn_cache: pages that the guest gave to KVM to work on) get a vmap().
 *
 * The direct map itself tells whether a page is removed from it.  This changes only
 * while no lookup can find the folio.  So the holder of a reference may see a page
 * return to the direct map, as it was freed, but not leave it.
 *
 * Costs: removing a folio of 2 MiB is 512 changes of page attributes and one flush of
 * this range on all CPUs.  Restoring needs no flush: what is not present is not
 * cached.  Removal splits the 2 MiB and 1 GiB mappings of the direct map, and the kernel
 * does not join them again.
 *
 * Locks
 *
 *   windows_lock	creating the windows, once; they are never freed
 *
 * set_direct_map_*() and the flush of a kernel address are not exported to modules, so
 * the Kconfig symbol depends on KVM being built in.
 */
#include <linux/kvm_host.h>
#include <linux/set_memory.h>
#include <linux/vmalloc.h>

#include <asm/tlbflush.h>

struct gmem_window {
	void *addr;
	pte_t *pte;
};

/* Interrupts are off from kvm_gmem_map_local() to kvm_gmem_unmap_local(). */
struct gmem_window_use {
	unsigned long flags;
	bool open;
};

static struct gmem_window __percpu *windows;
static DEFINE_PER_CPU(struct gmem_window_use, window_use);
static DEFINE_MUTEX(windows_lock);

static int window_pte(pte_t *pte, unsigned long addr, void *data)
{
	struct gmem_window *window = data;

	window->pte = pte;
	return 0;
}

static int window_create(struct gmem_window *window)
{
	struct vm_struct *area = get_vm_area(PAGE_SIZE, VM_MAP);

	if (!area)
		return -ENOMEM;

	window->addr = area->addr;
	return apply_to_page_range(&init_mm, (unsigned long)area->addr,
				   PAGE_SIZE, window_pte, window);
}

static void windows_free(struct gmem_window __percpu *w)
{
	int cpu;

	for_each_possible_cpu(cpu)
		if (per_cpu_ptr(w, cpu)->addr)
			free_vm_area(find_vm_area(per_cpu_ptr(w, cpu)->addr));

	free_percpu(w);
}

static int windows_create(void)
{
	struct gmem_window __percpu *w = alloc_percpu(struct gmem_window);
	int cpu, r = 0;

	if (!w)
		return -ENOMEM;

	for_each_possible_cpu(cpu) {
		r = window_create(per_cpu_ptr(w, cpu));
		if (r)
			break;
	}

	if (r) {
		windows_free(w);
		return r;
	}

	/* Pairs with smp_load_acquire() in windows_in_use(). */
	smp_store_release(&windows, w);
	return 0;
}

static bool windows_in_use(void)
{
	/* Pairs with smp_store_release() in windows_create(). */
	return smp_load_acquire(&windows);
}

int kvm_gmem_direct_map_init(void)
{
	int r = 0;

	if (!can_set_direct_map())
		return -EINVAL;

	mutex_lock(&windows_lock);
	if (!windows)
		r = windows_create();
	mutex_unlock(&windows_lock);

	return r;
}

static int show_pages(struct page *page, unsigned long nr)
{
	int r = 0;

	for (; nr; nr--, page++)
		r = set_direct_map_default_noflush(page) ?: r;

	return r;
}

int kvm_gmem_direct_map_remove(struct folio *folio)
{
	unsigned long addr = (unsigned long)folio_address(folio);
	unsigned long i, nr = folio_nr_pages(folio);
	int r;

	for (i = 0; i < nr; i++) {
		r = set_direct_map_invalid_noflush(folio_page(folio, i));
		if (r) {
			/* Also the one that failed: it may have been split. */
			show_pages(&folio->page, i + 1);
			return r;
		}
		cond_resched();
	}

	flush_tlb_kernel_range(addr, addr + folio_size(folio));
	return 0;
}

int kvm_gmem_direct_map_restore(struct folio *folio)
{
	if (!windows_in_use() || kernel_page_present(&folio->page))
		return 0;

	return show_pages(&folio->page, folio_nr_pages(folio));
}

void *kvm_gmem_map_local(struct page *page)
{
	struct gmem_window *window;
	unsigned long flags;

	if (!windows_in_use() || kernel_page_present(page))
		return page_address(page);

	local_irq_save(flags);
	WARN_ON_ONCE(__this_cpu_read(window_use.open));
	__this_cpu_write(window_use.flags, flags);
	__this_cpu_write(window_use.open, true);

	window = this_cpu_ptr(windows);
	set_pte_at(&init_mm, (unsigned long)window->addr, window->pte,
		   mk_pte(page, PAGE_KERNEL));
	return window->addr;
}

/* No other CPU uses this window, so none can have it in its TLB. */
void kvm_gmem_unmap_local(void *p)
{
	unsigned long addr = (unsigned long)p & PAGE_MASK;
	struct gmem_window *window;

	if (!is_vmalloc_addr(p))
		return;

	window = this_cpu_ptr(windows);
	pte_clear(&init_mm, addr, window->pte);
	flush_tlb_one_kernel(addr);

	__this_cpu_write(window_use.open, false);
	local_irq_restore(__this_cpu_read(window_use.flags));
}

void *kvm_gmem_map(struct page *page)
{
	if (!windows_in_use() || kernel_page_present(page))
		return kmap(page);

	return vmap(&page, 1, VM_MAP, PAGE_KERNEL);
}

void kvm_gmem_unmap(struct page *page, void *p)
{
	if (is_vmalloc_addr(p))
		vunmap((void *)((unsigned long)p & PAGE_MASK));
	else
		kunmap(page);
}
