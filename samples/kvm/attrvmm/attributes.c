// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - the attributes of all RAM, saved to a file and restored from one
 *
 * A migration has to take them along with the memory: KVM_GET_MEMORY_ATTRIBUTES reads
 * the extents, KVM_UPDATE_MEMORY_ATTRIBUTES gives a new VM as many at a time as fit
 * into a list.  The file has a line per extent, as debugfs shows them: first and last
 * address, bytes, what may be done, private or shared.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "attrvmm.h"

#define NR_AT_ONCE	512

static const char * const kinds[] = { "shared", "private" };

static void write_extent(FILE *file,
			 const struct kvm_memory_attributes_extent *extent)
{
	__u64 attrs = extent->attributes;

	if (!attrs)
		return;

	fprintf(file, "0x%016llx 0x%016llx %llu %c%c%c %s\n", extent->address,
		extent->address + extent->size - 1, extent->size,
		attrs & KVM_MEMORY_ATTRIBUTE_NR ? '-' : 'r',
		attrs & KVM_MEMORY_ATTRIBUTE_NW ? '-' : 'w',
		attrs & KVM_MEMORY_ATTRIBUTE_NX ? '-' : 'x',
		kinds[!!(attrs & KVM_MEMORY_ATTRIBUTE_PRIVATE)]);
}

static void save_region(struct vm *vm, const struct ram_region *region,
			FILE *file)
{
	static struct kvm_memory_attributes_extent extents[NR_AT_ONCE];
	struct kvm_get_memory_attributes get = {
		.address = region->gpa,
		.size = region->size,
		.extents = (__u64)extents,
	};
	unsigned int i;

	/* Each call moves address and size behind what it has read. */
	while (get.size) {
		get.nr_extents = NR_AT_ONCE;
		must_ioctl(vm->fd, KVM_GET_MEMORY_ATTRIBUTES, &get,
			   "--save-attributes needs KVM_CAP_GET_MEMORY_ATTRIBUTES");
		for (i = 0; i < get.nr_extents; i++)
			write_extent(file, &extents[i]);
	}
}

void save_attributes(struct vm *vm)
{
	FILE *file = fopen(vm->opt.save, "w");
	unsigned int i;

	if (!file)
		die(STATUS_HOST, "--save-attributes %s: %s", vm->opt.save,
		    strerror(errno));

	for (i = 0; i < vm->ram.nr_regions; i++)
		save_region(vm, &vm->ram.region[i], file);
	if (fclose(file))
		die(STATUS_HOST, "--save-attributes %s: %s", vm->opt.save,
		    strerror(errno));
}

static bool parse_extent(FILE *file, struct kvm_memory_attributes_update *update)
{
	unsigned long long first, last, size;
	char rwx[4], kind[8];
	int got;

	got = fscanf(file, "%llx %llx %llu %3s %7s\n", &first, &last, &size,
		     rwx, kind);
	if (got == EOF)
		return false;
	if (got != 5 || last < first || size != last - first + 1 ||
	    strlen(rwx) != 3)
		die(STATUS_USAGE, "--restore-attributes: not a file of --save-attributes");

	*update = (struct kvm_memory_attributes_update) {
		.address = first,
		.size = size,
		.set = (rwx[0] == 'r' ? 0 : KVM_MEMORY_ATTRIBUTE_NR) |
		       (rwx[1] == 'w' ? 0 : KVM_MEMORY_ATTRIBUTE_NW) |
		       (rwx[2] == 'x' ? 0 : KVM_MEMORY_ATTRIBUTE_NX) |
		       (strcmp(kind, kinds[1]) ? 0 : KVM_MEMORY_ATTRIBUTE_PRIVATE),
	};
	return true;
}

static void apply(struct vm *vm, struct kvm_memory_attributes_update *updates,
		  unsigned int nr)
{
	struct kvm_update_memory_attributes args = {
		.updates = (__u64)updates,
		.nr_updates = nr,
	};
	unsigned int i;

	/* A signal may end the call early: args.done says how far it got. */
	while (ioctl(vm->fd, KVM_UPDATE_MEMORY_ATTRIBUTES, &args)) {
		if (errno == EINTR)
			continue;
		die(STATUS_HOST,
		    "KVM_UPDATE_MEMORY_ATTRIBUTES (%#llx, %#llx, %#llx): %s: does this host support them?",
		    updates[args.done].address, updates[args.done].size,
		    updates[args.done].set, strerror(errno));
	}

	for (i = 0; i < nr; i++) {
		if (updates[i].set & KVM_MEMORY_ATTRIBUTE_PRIVATE)
			book_private(&vm->ram, updates[i].address,
				     updates[i].size);
		if (updates[i].set & ~KVM_MEMORY_ATTRIBUTE_PRIVATE)
			vm->restored_protected += updates[i].size >> PAGE_SHIFT;
	}
}

void restore_attributes(struct vm *vm)
{
	static struct kvm_memory_attributes_update updates[NR_AT_ONCE];
	FILE *file = fopen(vm->opt.restore, "r");
	unsigned int nr = 0;

	if (!file)
		die(STATUS_USAGE, "--restore-attributes %s: %s",
		    vm->opt.restore, strerror(errno));

	while (parse_extent(file, &updates[nr])) {
		if (!gpa_to_hva(&vm->ram, updates[nr].address, updates[nr].size))
			die(STATUS_USAGE,
			    "--restore-attributes: no RAM at %#llx, %#llx bytes: --mem is too small",
			    updates[nr].address, updates[nr].size);
		if (++nr == NR_AT_ONCE) {
			apply(vm, updates, nr);
			nr = 0;
		}
	}
	if (nr)
		apply(vm, updates, nr);
	fclose(file);
}
