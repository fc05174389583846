// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM guest access - how KVM itself reaches guest memory under attributes
 *
 * The emulator, the software page walker, PV clocks and other parts of KVM read and
 * write guest memory through HVAs, so zapping SPTEs does not stop them.  For a VM
 * with attributes, all of these accesses end up here: the raw accessors in kvm_main.c
 * branch off, and so do the few places that use an HVA directly.  Accesses to a
 * region that never had attributes (kvm_gfn_has_mem_attrs()) do not branch off.  The
 * first change in such a region waits for them.
 *
 * Model
 *
 *   A section is one access to one page, made with mem_attrs->access held for read: look
 *   up the attributes of the GFN, refuse the access or reach the page that they name,
 *   copy.  A section never sleeps.  Page faults on the shared mapping are disabled,
 *   and private pages are looked up but not allocated.  If the page is not there,
 *   the section ends, the page is provided where sleeping is allowed, and a new
 *   section begins with a new lookup of the attributes.
 *
 *   A change of attributes commits with the lock held for write.  So the commit waits
 *   for accesses that saw the old values, each of which is a bounded copy.  It never
 *   waits for a page fault, which userfaultfd may serve only after the ioctl has
 *   returned.
 *
 *   A private page can be removed from its file while it is accessed.  Then the access
 *   reads or writes memory that is being freed, and kvm_gmem_put_page() wipes what
 *   was written.
 *
 * A refused access fails with -EFAULT, like an access to unbacked memory.  Most callers,
 * PV features above all, need no more.  A caller that acts for a guest instruction
 * (the emulator, handlers of nested virtualization instructions, page walks) has
 * to exit to userspace instead, and must not take the page for MMIO.  So the refusal is
 * recorded in the running vCPU, and such a caller checks there after a failure.  A
 * second lookup of the attributes would be wrong: they may have changed.
 *
 * Callers that cannot sleep use the _atomic variants, which fail if the page is not
 * there.  These callers have a slower way to fall back to, or only give a hint.
 *
 * Locks
 *
 *   kvm->srcu		 held by every caller: memslots
 *   mem_attrs->access	 for read: the section; see mem_attrs.c.  Nests inside
 *			 mmu_lock.
 *   mem_attrs->maps_lock  the list of tracked kvm_host_maps.  Innermost, and raw: the
 *			 enlightened VMCS is used with preemption disabled.
 *
 * With PREEMPT_RT, mem_attrs->access may sleep.  It is then taken only where a task may
 * be preempted: the sections above, and sections within mmu_lock, which may sleep as
 * well.  The scheduler's hint does without, see kvm_guest_access_write_atomic().
 *
 * Lifetimes: a page is held by reference for one access, or as long as one of these
 * has it:
 *
 *   gfn_to_pfn_cache	 Invalidated when the attributes of its GFN change, as by an
 *			 MMU notifier.
 *   kvm_host_map,	 Mapped while one VM-Exit is handled.  A change waits until it
 *   tracked		 is unmapped.  The owner does not exit to userspace in
 *			 between; only a page fault can delay it.  The map is listed
 *			 before its GFN is resolved.  So a change either finds it
 *			 on the list, or it is resolved by the new attributes.
 *   kvm_host_map,	 Mapped while a nested guest runs, which has hardware write to
 *   untracked		 it.  A change kicks the vCPU out of the guest, and the vCPU
 *			 looks the page up again before the next use, see
 *			 kvm_arch_revoke_nested_pages().  The map is tracked while
 *			 KVM itself uses it.
 */

#include <linux/highmem.h>
#include <linux/io.h>
#include <linux/kvm_host.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "mem_attrs.h"

enum guest_access_op {
	GUEST_READ,
	GUEST_WRITE,
	GUEST_CMPXCHG,
};

/*
 * @access: KVM_MEMORY_EXIT_FLAG_*, what is asked of the attributes; @refused:
 * the exit flags if they said no, else 0
 * @data: read: destination, write: source, cmpxchg: expected value, replaced by
 * the value found if the two differ
 */
struct guest_access {
	struct kvm_memory_slot *slot;
	gfn_t gfn;
	enum guest_access_op op;
	u64 access;
	u64 refused;
	int offset;
	int len;
	void *data;
	const void *new;
};

/* Whether KVM's own access to a page with the attributes @attrs goes to private memory. */
static bool reaches_private(struct kvm *kvm, unsigned long attrs)
{
	return IS_ENABLED(CONFIG_KVM_PRIVATE_MEM) &&
	       (attrs & KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

static bool gfn_reaches_private(struct kvm *kvm, gfn_t gfn)
{
	return reaches_private(kvm, kvm_mem_attrs_get(kvm, gfn));
}

/* KVM_HVA_ERR_*, or where userspace has the shared page. */
static unsigned long access_hva(const struct guest_access *a)
{
	unsigned long hva;

	if (a->op == GUEST_READ)
		hva = gfn_to_hva_memslot_prot(a->slot, a->gfn, NULL);
	else
		hva = gfn_to_hva_memslot(a->slot, a->gfn);

	return kvm_is_error_hva(hva) ? hva : hva + a->offset;
}

/* 0 or, for a cmpxchg that found another value, 1; -EAGAIN: fault it in. */
static int access_shared(const struct guest_access *a)
{
	unsigned long hva = access_hva(a);
	int r;

	if (kvm_is_error_hva(hva))
		return -EFAULT;

	pagefault_disable();
	switch (a->op) {
	case GUEST_READ:
		r = __copy_from_user_inatomic(a->data, (void __user *)hva,
					      a->len);
		break;
	case GUEST_WRITE:
		r = __copy_to_user_inatomic((void __user *)hva, a->data,
					    a->len);
		break;
	default:
		r = kvm_arch_cmpxchg_user((void __user *)hva, a->data, a->new,
					  a->len);
		break;
	}
	pagefault_enable();

	if (a->op != GUEST_CMPXCHG)
		return r ? -EAGAIN : 0;
	return r < 0 ? -EAGAIN : r;
}

#define kernel_cmpxchg(type, ptr, old, new)				\
({									\
	type *__expected = old;						\
	type __found = cmpxchg((type *)(ptr), *__expected,		\
			       *(const type *)(new));			\
	bool __differs = __found != *__expected;			\
									\
	*__expected = __found;						\
	__differs;							\
})

static int access_cmpxchg(void *p, const struct guest_access *a)
{
	switch (a->len) {
	case 1:
		return kernel_cmpxchg(u8, p, a->data, a->new);
	case 2:
		return kernel_cmpxchg(u16, p, a->data, a->new);
	case 4:
		return kernel_cmpxchg(u32, p, a->data, a->new);
	case 8:
		return kernel_cmpxchg(u64, p, a->data, a->new);
	default:
		WARN_ON_ONCE(1);
		return -EFAULT;
	}
}

static int access_page(struct page *page, const struct guest_access *a)
{
	void *p = kvm_gmem_map_local(page);
	int r = 0;

	switch (a->op) {
	case GUEST_READ:
		memcpy(a->data, p + a->offset, a->len);
		break;
	case GUEST_WRITE:
		memcpy(p + a->offset, a->data, a->len);
		break;
	default:
		r = access_cmpxchg(p + a->offset, a);
		break;
	}
	kvm_gmem_unmap_local(p);
	return r;
}

/* As access_shared(); -EAGAIN: allocate the page. */
static int access_private(struct kvm *kvm, struct guest_access *a)
{
	struct page *page;
	int r;

	if (!kvm_slot_can_be_private(a->slot)) {
		a->refused = KVM_MEMORY_EXIT_FLAG_PRIVATE;
		return -EFAULT;
	}

	r = kvm_gmem_get_page(kvm, a->slot, a->gfn, false, &page, NULL);
	if (r == -ENOENT)
		return -EAGAIN;
	if (r) {
		a->refused = KVM_MEMORY_EXIT_FLAG_PRIVATE;
		return -EFAULT;
	}

	r = access_page(page, a);
	kvm_gmem_put_page(page);
	return r;
}

/* The section: one attempt at the access, without sleeping. */
static int access_locked(struct kvm *kvm, struct guest_access *a)
{
	unsigned long attrs = __kvm_mem_attrs_get(kvm, a->gfn);

	if (kvm_mem_attrs_apply(a->slot))
		a->refused = kvm_mem_attrs_refuse(attrs, a->access);
	if (a->refused) {
		a->refused |= attrs & KVM_MEMORY_ATTRIBUTE_PRIVATE;
		return -EFAULT;
	}

	if (reaches_private(kvm, attrs))
		return access_private(kvm, a);

	return access_shared(a);
}

static int access_try(struct kvm *kvm, struct guest_access *a)
{
	struct kvm_mem_attrs *attrs = kvm->mem_attrs;
	int r;

	read_lock(&attrs->access);
	r = access_locked(kvm, a);
	read_unlock(&attrs->access);
	return r;
}

static int provide_private(struct kvm *kvm, struct guest_access *a)
{
	struct page *page;

	if (!kvm_slot_can_be_private(a->slot) ||
	    kvm_gmem_get_page(kvm, a->slot, a->gfn, true, &page, NULL)) {
		a->refused = KVM_MEMORY_EXIT_FLAG_PRIVATE;
		return -EFAULT;
	}

	kvm_gmem_put_page(page);
	return 0;
}

static int provide_shared(const struct guest_access *a)
{
	unsigned long hva = access_hva(a);
	size_t left;

	if (kvm_is_error_hva(hva))
		return -EFAULT;

	if (a->op == GUEST_READ)
		left = fault_in_readable((char __user *)hva, a->len);
	else
		left = fault_in_safe_writeable((char __user *)hva, a->len);

	return left ? -EFAULT : 0;
}

/*
 * Repeat until the page stays in place for the time of the access.  This ends: each
 * round makes the access, provides the page, or finds that the page cannot be
 * provided.  If pages are taken away faster than that, a fatal signal ends the loop.
 */
static int access_repeat(struct kvm *kvm, struct guest_access *a)
{
	int r;

	for (;;) {
		r = access_try(kvm, a);
		if (r != -EAGAIN)
			return r;
		if (fatal_signal_pending(current))
			return -EFAULT;

		if (gfn_reaches_private(kvm, a->gfn))
			r = provide_private(kvm, a);
		else
			r = provide_shared(a);
		if (r)
			return r;
		cond_resched();
	}
}

static int guest_access(struct kvm *kvm, struct guest_access *a)
{
	struct kvm_vcpu *vcpu;
	int r;

	might_sleep();

	r = access_repeat(kvm, a);
	if (likely(!a->refused))
		return r;

	kvm_mem_attrs_note_refused(kvm, a->gfn, a->access, a->refused);
	vcpu = kvm_running_vcpu_of(kvm);
	if (vcpu) {
		vcpu->refused_gpa = gfn_to_gpa(a->gfn);
		vcpu->refused_flags = a->refused;
	}
	return r;
}

/* The instruction that had an access refused ends as an exit to userspace. */
int __kvm_guest_access_refused_exit(struct kvm_vcpu *vcpu,
				    enum kvm_memory_fault_by by)
{
	kvm_mem_attrs_prepare_exit(vcpu, vcpu->refused_gpa,
				   vcpu->refused_flags, by);
	kvm_guest_access_clear_refused(vcpu);
	return -EFAULT;
}
EXPORT_SYMBOL_GPL(__kvm_guest_access_refused_exit);

void kvm_guest_access_init(struct kvm_mem_attrs *attrs)
{
	rwlock_init(&attrs->access);
	raw_spin_lock_init(&attrs->maps_lock);
	INIT_LIST_HEAD(&attrs->maps);
	rcuwait_init(&attrs->maps_wait);
}

static bool access_in_page(int offset, int len)
{
	return !WARN_ON_ONCE(offset < 0 || len < 0 ||
			     offset + len > PAGE_SIZE);
}

/*
 * Read from one guest page.  Returns 0, or -EFAULT if there is no memory, or
 * none that may be read.  Sleeps.
 */
static int guest_read(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn,
		      void *data, int offset, int len)
{
	struct guest_access a = {
		.slot = slot, .gfn = gfn, .op = GUEST_READ,
		.access = KVM_MEMORY_EXIT_FLAG_READ,
		.offset = offset, .len = len, .data = data,
	};

	if (!access_in_page(offset, len))
		return -EFAULT;

	return guest_access(kvm, &a);
}

int kvm_read_guest_page_attrs(struct kvm *kvm, gfn_t gfn, void *data,
			      int offset, int len)
{
	return guest_read(kvm, gfn_to_memslot(kvm, gfn), gfn, data, offset, len);
}

int kvm_vcpu_read_guest_page_attrs(struct kvm_vcpu *vcpu, gfn_t gfn, void *data,
				   int offset, int len)
{
	return guest_read(vcpu->kvm, kvm_vcpu_gfn_to_memslot(vcpu, gfn), gfn,
			  data, offset, len);
}

/* As guest_read(), of an instruction: it need only be executable. */
int kvm_guest_access_fetch(struct kvm *kvm, struct kvm_memory_slot *slot,
			   gfn_t gfn, void *data, int offset, int len)
{
	struct guest_access a = {
		.slot = slot, .gfn = gfn, .op = GUEST_READ,
		.access = KVM_MEMORY_EXIT_FLAG_EXEC,
		.offset = offset, .len = len, .data = data,
	};

	if (!access_in_page(offset, len))
		return -EFAULT;

	return guest_access(kvm, &a);
}

/* As kvm_vcpu_read_guest_page_attrs(), failing where that would sleep. */
int kvm_vcpu_read_guest_atomic_attrs(struct kvm_vcpu *vcpu, gpa_t gpa,
				     void *data, unsigned long len)
{
	gfn_t gfn = gpa_to_gfn(gpa);
	struct guest_access a = {
		.slot = kvm_vcpu_gfn_to_memslot(vcpu, gfn), .gfn = gfn,
		.op = GUEST_READ, .access = KVM_MEMORY_EXIT_FLAG_READ,
		.offset = offset_in_page(gpa), .len = len, .data = data,
	};

	if (!access_in_page(a.offset, len))
		return -EFAULT;

	return access_try(vcpu->kvm, &a) ? -EFAULT : 0;
}

/*
 * Write to one guest page and mark it dirty.  Returns 0, or -EFAULT if there is
 * no memory, or none that may be written.  Sleeps.
 */
static int guest_write(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn,
		       const void *data, int offset, int len)
{
	struct guest_access a = {
		.slot = slot, .gfn = gfn, .op = GUEST_WRITE,
		.access = KVM_MEMORY_EXIT_FLAG_WRITE,
		.offset = offset, .len = len, .data = (void *)data,
	};
	int r;

	if (!access_in_page(offset, len))
		return -EFAULT;

	r = guest_access(kvm, &a);
	if (!r)
		mark_page_dirty_in_slot(kvm, slot, gfn);
	return r;
}

int kvm_write_guest_page_attrs(struct kvm *kvm, gfn_t gfn, const void *data,
			       int offset, int len)
{
	return guest_write(kvm, gfn_to_memslot(kvm, gfn), gfn, data, offset,
			   len);
}

int kvm_vcpu_write_guest_page_attrs(struct kvm_vcpu *vcpu, gfn_t gfn,
				    const void *data, int offset, int len)
{
	return guest_write(vcpu->kvm, kvm_vcpu_gfn_to_memslot(vcpu, gfn), gfn,
			   data, offset, len);
}

/*
 * Write a hint from the scheduler, with interrupts off and the runqueue lock held.  The
 * section is entered by trylock, as the holder of the lock may wait for this
 * runqueue.  A private page is not written, as dropping its last reference here could
 * free it.  With PREEMPT_RT the lock cannot be released here, as that may wake up a task,
 * so the hint is always lost.  Returns 0, or -EFAULT if the hint is lost.
 */
int kvm_guest_access_write_atomic(struct kvm *kvm, gpa_t gpa,
				  const void *data, int len)
{
	struct kvm_mem_attrs *attrs = kvm->mem_attrs;
	gfn_t gfn = gpa_to_gfn(gpa);
	struct guest_access a = {
		.slot = gfn_to_memslot(kvm, gfn), .gfn = gfn,
		.op = GUEST_WRITE, .access = KVM_MEMORY_EXIT_FLAG_WRITE,
		.offset = offset_in_page(gpa),
		.len = len, .data = (void *)data,
	};
	int r = -EFAULT;

	if (IS_ENABLED(CONFIG_PREEMPT_RT) || !read_trylock(&attrs->access))
		return -EFAULT;

	if (!gfn_reaches_private(kvm, gfn))
		r = access_locked(kvm, &a);
	read_unlock(&attrs->access);

	if (a.refused)
		kvm_mem_attrs_note_refused(kvm, gfn, a.access, a.refused);
	if (r)
		return -EFAULT;

	mark_page_dirty_in_slot(kvm, a.slot, gfn);
	return 0;
}

/* How many of @len bytes lie within the page of @gpa. */
static int segment(gpa_t gpa, unsigned long len)
{
	return min_t(unsigned long, len, PAGE_SIZE - offset_in_page(gpa));
}

/*
 * kvm_read_guest() and its like where a page may have attributes: page by page, each
 * of them as it needs.
 */
int kvm_read_guest_attrs(struct kvm *kvm, gpa_t gpa, void *data,
			 unsigned long len)
{
	int seg, r;

	for (; len; gpa += seg, data += seg, len -= seg) {
		seg = segment(gpa, len);
		r = kvm_read_guest_page(kvm, gpa_to_gfn(gpa), data,
					offset_in_page(gpa), seg);
		if (r < 0)
			return r;
	}
	return 0;
}

int kvm_write_guest_attrs(struct kvm *kvm, gpa_t gpa, const void *data,
			  unsigned long len)
{
	int seg, r;

	for (; len; gpa += seg, data += seg, len -= seg) {
		seg = segment(gpa, len);
		r = kvm_write_guest_page(kvm, gpa_to_gfn(gpa), data,
					 offset_in_page(gpa), seg);
		if (r < 0)
			return r;
	}
	return 0;
}

int kvm_vcpu_read_guest_attrs(struct kvm_vcpu *vcpu, gpa_t gpa, void *data,
			      unsigned long len)
{
	int seg, r;

	for (; len; gpa += seg, data += seg, len -= seg) {
		seg = segment(gpa, len);
		r = kvm_vcpu_read_guest_page(vcpu, gpa_to_gfn(gpa), data,
					     offset_in_page(gpa), seg);
		if (r < 0)
			return r;
	}
	return 0;
}

int kvm_vcpu_write_guest_attrs(struct kvm_vcpu *vcpu, gpa_t gpa,
			       const void *data, unsigned long len)
{
	int seg, r;

	for (; len; gpa += seg, data += seg, len -= seg) {
		seg = segment(gpa, len);
		r = kvm_vcpu_write_guest_page(vcpu, gpa_to_gfn(gpa), data,
					      offset_in_page(gpa), seg);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Compare and exchange @len bytes, 1, 2, 4 or 8, naturally aligned or at least
 * within one page.  Returns 0 if *@old was there and *@new is now, 1 if not,
 * with the value found in *@old, or -EFAULT.  Dirty either way.  Sleeps.
 */
int kvm_guest_access_cmpxchg(struct kvm *kvm, struct kvm_memory_slot *slot,
			     gfn_t gfn, int offset, void *old, const void *new,
			     int len)
{
	struct guest_access a = {
		.slot = slot, .gfn = gfn, .op = GUEST_CMPXCHG,
		.access = KVM_MEMORY_EXIT_FLAG_WRITE,
		.offset = offset, .len = len, .data = old, .new = new,
	};
	int r;

	if (!access_in_page(offset, len))
		return -EFAULT;

	r = guest_access(kvm, &a);
	if (r >= 0)
		mark_page_dirty_in_slot(kvm, slot, gfn);
	return r;
}

/*
 * The page behind a GFN, to be read and written, with a reference, for callers
 * that map it themselves.  *@private says whether it is a private one.  Sleeps.
 */
kvm_pfn_t kvm_guest_access_pfn(struct kvm *kvm, struct kvm_memory_slot *slot,
			       gfn_t gfn, bool *private)
{
	u64 access = KVM_MEMORY_EXIT_FLAG_READ | KVM_MEMORY_EXIT_FLAG_WRITE;
	unsigned long attrs = __kvm_mem_attrs_get(kvm, gfn);
	struct page *page;
	u64 refused;

	*private = reaches_private(kvm, attrs);

	refused = kvm_mem_attrs_refuse(attrs, access);
	if (refused && kvm_mem_attrs_apply(slot)) {
		kvm_mem_attrs_note_refused(kvm, gfn, refused, refused);
		return KVM_PFN_ERR_FAULT;
	}

	if (!*private)
		return gfn_to_pfn_memslot(slot, gfn);

	if (!kvm_slot_can_be_private(slot) ||
	    kvm_gmem_get_page(kvm, slot, gfn, true, &page, NULL))
		return KVM_PFN_ERR_FAULT;

	return page_to_pfn(page);
}

/*
 * Whether a PV feature can be given [gpa, gpa + len), to be read and written.  That
 * may change later on, in which case it finds the memory gone.
 */
bool kvm_guest_access_allowed(struct kvm *kvm, gpa_t gpa, unsigned long len)
{
	gfn_t gfn = gpa_to_gfn(gpa), last = gpa_to_gfn(gpa + len - 1);

	for (; gfn <= last; gfn++) {
		if (!kvm_mem_attrs_apply(gfn_to_memslot(kvm, gfn)))
			continue;
		if (kvm_mem_attrs_refuse(__kvm_mem_attrs_get(kvm, gfn),
					 KVM_MEMORY_EXIT_FLAG_READ |
					 KVM_MEMORY_EXIT_FLAG_WRITE))
			return false;
	}
	return true;
}

static void map_list(struct kvm_mem_attrs *attrs, struct kvm_host_map *map)
{
	raw_spin_lock(&attrs->maps_lock);
	list_add(&map->in_use, &attrs->maps);
	raw_spin_unlock(&attrs->maps_lock);

	/*
	 * Pairs with smp_mb() in kvm_guest_access_wait().  The list is written
	 * before attributes, or requests to give pages up, are read here, there
	 * those are written before the list is read: one of the two sees the
	 * other.
	 */
	smp_mb();
}

static void map_unlist(struct kvm_mem_attrs *attrs, struct kvm_host_map *map)
{
	if (list_empty(&map->in_use))
		return;

	raw_spin_lock(&attrs->maps_lock);
	list_del_init(&map->in_use);
	raw_spin_unlock(&attrs->maps_lock);

	rcuwait_wake_up(&attrs->maps_wait);
}

static void *map_pfn(kvm_pfn_t pfn, struct page **page)
{
	if (pfn_valid(pfn)) {
		*page = pfn_to_page(pfn);
		return kvm_gmem_map(*page);
	}

	*page = KVM_UNMAPPED_PAGE;
	return IS_ENABLED(CONFIG_HAS_IOMEM) ?
	       memremap(PFN_PHYS(pfn), PAGE_SIZE, MEMREMAP_WB) : NULL;
}

static void map_put(struct kvm_host_map *map, bool dirty)
{
	if (map->private)
		kvm_gmem_put_page(pfn_to_page(map->pfn));
	else
		kvm_release_pfn(map->pfn, dirty);
}

/* Returns 0, or an error with nothing in use. */
static int map_resolve(struct kvm *kvm, gfn_t gfn, struct kvm_host_map *map)
{
	map->pfn = kvm_guest_access_pfn(kvm, gfn_to_memslot(kvm, gfn), gfn,
					&map->private);
	if (is_error_noslot_pfn(map->pfn))
		return -EINVAL;

	map->hva = map_pfn(map->pfn, &map->page);
	if (map->hva)
		return 0;

	map_put(map, false);
	return -EFAULT;
}

/* kvm_vcpu_map() of a page that may have attributes, noting that it is in use. */
int kvm_guest_access_map(struct kvm *kvm, gfn_t gfn, struct kvm_host_map *map)
{
	int r;

	map->has_attrs = true;
	map->gfn = gfn;
	map_list(kvm->mem_attrs, map);

	r = map_resolve(kvm, gfn, map);
	if (r)
		map_unlist(kvm->mem_attrs, map);
	return r;
}

/* kvm_vcpu_unmap() of that. */
void kvm_guest_access_unmap(struct kvm_vcpu *vcpu, struct kvm_host_map *map,
			    bool dirty)
{
	if (map->page != KVM_UNMAPPED_PAGE)
		kvm_gmem_unmap(map->page, map->hva);
	else if (IS_ENABLED(CONFIG_HAS_IOMEM))
		memunmap(map->hva);

	if (dirty)
		kvm_vcpu_mark_page_dirty(vcpu, map->gfn);

	map_put(map, dirty);
	map->hva = NULL;
	map->page = NULL;
	map_unlist(vcpu->kvm->mem_attrs, map);
}

/* A change of attributes no longer waits until this map is unmapped. */
void kvm_guest_access_untrack_map(struct kvm *kvm, struct kvm_host_map *map)
{
	map_unlist(kvm->mem_attrs, map);
}
EXPORT_SYMBOL_GPL(kvm_guest_access_untrack_map);

/*
 * KVM uses an untracked map until kvm_guest_access_untrack_map().  The map obeys the
 * attributes unless the caller now finds a request to look the page up again.
 */
void kvm_guest_access_track_map(struct kvm *kvm, struct kvm_host_map *map)
{
	/* It may have been mapped when the VM had no attributes. */
	if (!map->has_attrs) {
		map->has_attrs = true;
		map->private = false;
	}
	map_list(kvm->mem_attrs, map);
}
EXPORT_SYMBOL_GPL(kvm_guest_access_track_map);

/*
 * A section for the use of an untracked map, without sleeping, in a VM with attributes.
 * No request to look the page up again is made during the section.
 */
void kvm_guest_access_lock(struct kvm *kvm)
	__acquires(&kvm->mem_attrs->access)
{
	read_lock(&kvm->mem_attrs->access);
}
EXPORT_SYMBOL_GPL(kvm_guest_access_lock);

void kvm_guest_access_unlock(struct kvm *kvm)
	__releases(&kvm->mem_attrs->access)
{
	read_unlock(&kvm->mem_attrs->access);
}
EXPORT_SYMBOL_GPL(kvm_guest_access_unlock);

static bool map_in_use(struct kvm_mem_attrs *attrs,
		       const struct kvm_mem_attrs_op *op)
{
	struct kvm_host_map *map;
	bool found = false;

	raw_spin_lock(&attrs->maps_lock);
	list_for_each_entry(map, &attrs->maps, in_use)
		if (map->gfn >= op->first && map->gfn <= op->last)
			found = true;
	raw_spin_unlock(&attrs->maps_lock);
	return found;
}

/*
 * Wait until no map of the range is tracked that was resolved before the commit.  Maps
 * created after the commit are also waited for; they obey the new attributes and are
 * short-lived, so the wait still ends.
 */
void kvm_guest_access_wait(struct kvm *kvm, const struct kvm_mem_attrs_op *op)
{
	struct kvm_mem_attrs *attrs = kvm->mem_attrs;

	/* One task waits at a time. */
	lockdep_assert_held(&kvm->slots_lock);

	/* Pairs with smp_mb() in map_list(). */
	smp_mb();

	/* A fatal signal may cut the wait short: the VM is going away. */
	rcuwait_wait_event(&attrs->maps_wait, !map_in_use(attrs, op),
			   TASK_KILLABLE);
}

/*
 * Allocate the page of @gfn if it is private, before an instruction does what cannot
 * be undone.  If that fails, it is noted as a refused access of the vCPU.  A hole
 * punched afterwards can still take the page away.  May sleep.
 */
bool kvm_guest_access_provide(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	struct guest_access a = {
		.slot	= kvm_vcpu_gfn_to_memslot(vcpu, gfn),
		.gfn	= gfn,
	};

	if (!gfn_reaches_private(vcpu->kvm, gfn) ||
	    !provide_private(vcpu->kvm, &a))
		return true;

	vcpu->refused_gpa = gfn_to_gpa(gfn);
	vcpu->refused_flags = a.refused;
	return false;
}
EXPORT_SYMBOL_GPL(kvm_guest_access_provide);

/*
 * Whether the page of @gfn can be mapped as kvm_vcpu_map() does, as far as
 * attributes go.  If not, that is noted as a refused access of the vCPU.
 */
bool kvm_guest_access_check(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	struct kvm_memory_slot *slot = kvm_vcpu_gfn_to_memslot(vcpu, gfn);
	unsigned long attrs = kvm_mem_attrs_get(vcpu->kvm, gfn);
	u64 refused = 0;

	if (kvm_mem_attrs_apply(slot))
		refused = kvm_mem_attrs_refuse(attrs,
					       KVM_MEMORY_EXIT_FLAG_READ |
					       KVM_MEMORY_EXIT_FLAG_WRITE);
	refused &= -refused;
	if (refused || (reaches_private(vcpu->kvm, attrs) &&
			!kvm_slot_can_be_private(slot)))
		refused |= attrs & KVM_MEMORY_ATTRIBUTE_PRIVATE;
	if (!refused)
		return true;

	kvm_mem_attrs_note_refused(vcpu->kvm, gfn, refused, refused);
	vcpu->refused_gpa = gfn_to_gpa(gfn);
	vcpu->refused_flags = refused;
	return false;
}
EXPORT_SYMBOL_GPL(kvm_guest_access_check);
