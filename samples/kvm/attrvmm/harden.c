// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - protect the guest's kernel from an attacker in the guest
 *
 * Once the guest says that it is up, these lose rights, in one ioctl:
 *
 *   text, rodata   NW        found from the kernel's image (image.c)
 *   data           NX        of the kernel, likewise
 *   user           NX        of a program, which says where its data is
 *   secret         NR NW NX  a page of a program: no access from now on
 *
 * The guest's page tables have nothing to do with it: whatever root in the guest
 * maps there, and whichever vCPU makes the access, or KVM on its behalf, the page is
 * what it is.  A guest can only give rights away, and only once, so nothing is
 * gained by lying here.
 *
 * This process is not bound by it.  So it must not be talked into an access that
 * the guest may not make: see writable_by_guest() in doorbell.c.
 *
 * With nested paging the CPU writes to page tables while it walks them, so a page
 * table in a page that is NW makes each walk exit.  Linux has its own in data.
 *
 * A protected page is pinned first: a conversion would take its contents and its
 * protection away.
 *
 * harden.lock is held while the attributes change.  An access that meets one waits for it
 * in note_refusal(), and so finds all ranges there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "attrvmm.h"

#define NR	KVM_MEMORY_ATTRIBUTE_NR
#define NW	KVM_MEMORY_ATTRIBUTE_NW
#define NX	KVM_MEMORY_ATTRIBUTE_NX

void harden_init(struct vm *vm)
{
	pthread_mutex_init(&vm->harden.lock, NULL);
	if (!vm->opt.harden)
		return;

	open_kernel_image(&vm->harden.image, vm->opt.harden);
	if ((vm->attributes & (NR | NW | NX)) != (NR | NW | NX))
		die(STATUS_HOST,
		    "KVM_CAP_MEMORY_ATTRIBUTES: mask %#llx lacks NR, NW or NX, which --harden is made of: boot a kernel that has them",
		    vm->attributes);
}

/* What a page that must not be written holds now, where the VMM can see it. */
static unsigned char *copy_range(struct vm *vm, const struct protected_range *range)
{
	unsigned char *hva, *copy;

	hva = shared_gpa_to_hva(&vm->ram, range->gpa, range->size);
	if (!hva || !(range->attributes & NW))
		return NULL;

	copy = malloc(range->size);
	if (!copy)
		die(STATUS_HOST, "malloc: %s: free some memory", strerror(errno));
	memcpy(copy, hva, range->size);
	return copy;
}

static int add_range(struct vm *vm, const char *name, __u64 gpa, __u64 size,
		     __u64 attributes)
{
	struct harden *harden = &vm->harden;
	struct protected_range *range = &harden->range[harden->nr_ranges];

	if ((gpa | size) & (PAGE_SIZE - 1) || !gpa_to_hva(&vm->ram, gpa, size))
		return -EFAULT;

	*range = (struct protected_range) {
		.name = name,
		.gpa = gpa,
		.size = size,
		.attributes = attributes,
	};
	harden->nr_ranges++;
	return 0;
}

static int add_ranges(struct vm *vm, const struct doorbell_harden *known)
{
	const struct kernel_image *image = &vm->harden.image;
	__u64 text_size = (image->text.size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);

	if (add_range(vm, "text", image->text.gpa, text_size, NW) ||
	    add_range(vm, "rodata", image->rodata.gpa, image->rodata.size, NW) ||
	    add_range(vm, "data", image->data.gpa, image->data.size, NX) ||
	    add_range(vm, "user", known->user_gpa, known->user_size, NX) ||
	    add_range(vm, "secret", known->secret_gpa, PAGE_SIZE, NR | NW | NX))
		return -EFAULT;
	return 0;
}

/* The list is applied in order; a signal may stop it between two of them. */
static void update_attributes(struct vm *vm,
			      struct kvm_memory_attributes_update *updates,
			      unsigned int nr)
{
	struct kvm_update_memory_attributes arg = {
		.updates = (__u64)updates,
		.nr_updates = nr,
	};

	while (ioctl(vm->fd, KVM_UPDATE_MEMORY_ATTRIBUTES, &arg)) {
		if (errno != EINTR)
			die(STATUS_HOST,
			    "KVM_UPDATE_MEMORY_ATTRIBUTES (%#llx, %#llx bytes, set %#llx, clear %#llx): %s: is memory short?",
			    updates[arg.done].address, updates[arg.done].size,
			    updates[arg.done].set, updates[arg.done].clear,
			    strerror(errno));
	}
}

/*
 * KVM_SET_MEMORY_ATTRIBUTES would do for an ordinary machine.  It replaces all the
 * bits of a page, though, and what is private must stay so.
 */
static void protect(struct vm *vm)
{
	struct kvm_memory_attributes_update updates[ARRAY_SIZE(vm->harden.range)];
	struct harden *harden = &vm->harden;
	struct protected_range *range;
	unsigned int i;

	for (i = 0; i < harden->nr_ranges; i++) {
		range = &harden->range[i];
		updates[i] = (struct kvm_memory_attributes_update) {
			.address = range->gpa,
			.size = range->size,
			.set = range->attributes,
		};
		pin_pages(&vm->ram, range->gpa, range->size, true);
	}
	update_attributes(vm, updates, harden->nr_ranges);

	/* From now on nothing can change them. */
	for (i = 0; i < harden->nr_ranges; i++)
		harden->range[i].copy = copy_range(vm, &harden->range[i]);
}

static int harden_locked(struct vcpu *vcpu, const struct doorbell_harden *known)
{
	struct vm *vm = vcpu->vm;
	int ret;

	if (!vm->opt.harden)
		return -EOPNOTSUPP;
	if (vm->harden.done)
		return -EALREADY;
	if (!locate_kernel_image(vcpu, &vm->harden.image)) {
		vm_end(vm, END_HOST,
		       "--harden %s: the guest runs another kernel, or (private) elsewhere: unpack the one of --kernel, or add nokaslr to --append",
		       vm->opt.harden);
		return -ENOENT;
	}
	ret = add_ranges(vm, known);
	if (ret) {
		vm->harden.nr_ranges = 0;
		return ret;
	}

	protect(vm);
	vm->harden.done = true;
	return 0;
}

int harden_guest(struct vcpu *vcpu, const struct doorbell_harden *known)
{
	int ret;

	pthread_mutex_lock(&vcpu->vm->harden.lock);
	ret = harden_locked(vcpu, known);
	pthread_mutex_unlock(&vcpu->vm->harden.lock);
	return ret;
}

/*
 * The page of secrets, back to the guest: it can then look whether it is as it was.
 * A VMM that protects a page for real would not do so because the guest asks.
 */
int release_secret(struct vm *vm)
{
	struct kvm_memory_attributes_update update = {
		.clear = NR | NW | NX,
		.size = PAGE_SIZE,
	};
	struct protected_range *secret;
	int ret = -EINVAL;

	pthread_mutex_lock(&vm->harden.lock);
	if (vm->harden.done) {
		secret = &vm->harden.range[vm->harden.nr_ranges - 1];
		update.address = secret->gpa;
		update_attributes(vm, &update, 1);
		secret->attributes = 0;
		pin_pages(&vm->ram, secret->gpa, secret->size, false);
		ret = 0;
	}
	pthread_mutex_unlock(&vm->harden.lock);
	return ret;
}

/* The rights that pages of the range have lost; with harden.lock held. */
__u64 protection_of(const struct vm *vm, __u64 gpa, __u64 size)
{
	const struct protected_range *range;
	__u64 attributes = 0;
	unsigned int i;

	for (i = 0; i < vm->harden.nr_ranges; i++) {
		range = &vm->harden.range[i];
		if (gpa < range->gpa + range->size && range->gpa < gpa + size)
			attributes |= range->attributes;
	}
	return attributes;
}

/* For comparison with what KVM says. */
__u64 count_protected_pages(const struct vm *vm)
{
	const struct protected_range *range;
	__u64 pages = vm->restored_protected;
	unsigned int i;

	for (i = 0; i < vm->harden.nr_ranges; i++) {
		range = &vm->harden.range[i];
		if (range->attributes)
			pages += range->size >> PAGE_SHIFT;
	}
	return pages;
}

/* Of all pages that must not be written, and that can be compared: @compared. */
__u64 count_changed_pages(struct vm *vm, __u64 *compared)
{
	const struct protected_range *range;
	const unsigned char *hva;
	__u64 at, changed = 0;
	unsigned int i;

	*compared = 0;
	for (i = 0; i < vm->harden.nr_ranges; i++) {
		range = &vm->harden.range[i];
		hva = gpa_to_hva(&vm->ram, range->gpa, range->size);
		if (!range->copy)
			continue;
		for (at = 0; at < range->size; at += PAGE_SIZE, (*compared)++)
			changed += !!memcmp(hva + at, range->copy + at, PAGE_SIZE);
	}
	return changed;
}

/* Whether the machine was what --harden promises, and stayed it. */
bool harden_held(struct vm *vm)
{
	__u64 compared;

	if (!vm->opt.harden)
		return true;
	return vm->harden.done && !vm->harden.not_refused_after &&
	       !count_changed_pages(vm, &compared);
}
