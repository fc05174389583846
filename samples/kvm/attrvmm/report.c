// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - what it tells people and scripts
 *
 * Every line starts with "attrvmm: ".  Lines of facts go on with a subject and
 * key=value words; the others are for people.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "attrvmm.h"

#define MAP_COLUMNS	64
#define MAP_ROWS	8

static const char * const exit_names[NR_EXIT_REASONS] = {
	[KVM_EXIT_IO]			= "io",
	[KVM_EXIT_MMIO]			= "mmio",
	[KVM_EXIT_IRQ_WINDOW_OPEN]	= "irq_window",
	[KVM_EXIT_SHUTDOWN]		= "shutdown",
	[KVM_EXIT_FAIL_ENTRY]		= "fail_entry",
	[KVM_EXIT_INTR]			= "intr",
	[KVM_EXIT_HYPERCALL]		= "hypercall",
	[KVM_EXIT_INTERNAL_ERROR]	= "internal_error",
	[KVM_EXIT_X86_WRMSR]		= "wrmsr",
	[KVM_EXIT_SYSTEM_EVENT]		= "system_event",
	[KVM_EXIT_MEMORY_FAULT]		= "memory_fault",
};

/* Counted even if there were none, as scripts and people ask for them. */
static const unsigned int always_shown[] = {
	KVM_EXIT_IO, KVM_EXIT_MMIO, KVM_EXIT_HYPERCALL, KVM_EXIT_MEMORY_FAULT,
};

static const char * const end_names[] = {
	[END_NONE]	= "none",
	[END_RESET]	= "reset",
	[END_CRASH]	= "crash",
	[END_TIMEOUT]	= "timeout",
	[END_HOST]	= "host_error",
};

const char *exit_reason_name(unsigned int reason)
{
	if (reason >= NR_EXIT_REASONS || !exit_names[reason])
		return "other";
	return exit_names[reason];
}

__printf(1, 2)
static void say(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("attrvmm: ", stdout);
	vprintf(fmt, args);
	putchar('\n');
	fflush(stdout);
	va_end(args);
}

static __u64 nr_pages(const struct ram *ram)
{
	return ram->size >> PAGE_SHIFT;
}

void report_start(const struct vm *vm)
{
	const struct ram *ram = &vm->ram;

	say("machine type=%s cpus=%u ram_mib=%llu memslots=%u shared_backing=%s",
	    vm_type_name(vm->opt.vm_type), vm->opt.cpus, ram->size / MIB,
	    ram->nr_regions, backing_name(ram->backing));
	say("start private_pages=%llu shared_pages=%llu", ram->nr_private,
	    nr_pages(ram) - ram->nr_private);
}

void report_leftover(__u64 gpa, __u64 size, bool to_private, int error)
{
	say("%#llx, %#llx bytes: now %s, but its %s copy cannot be freed: %s",
	    gpa, size, to_private ? "private" : "shared",
	    to_private ? "shared" : "private", strerror(error));
}

void report_search(struct vm *vm, const struct doorbell_search *search)
{
	const struct search_stats *stats = &vm->search_stats;
	const char *where = search->is_shared ? "shared" : "private";

	vm->searches++;
	say("search %llu: the guest has %zu random bytes at %#llx, in a %s page",
	    vm->searches, sizeof(search->half[0]), search->gpa, where);
	say("  own mapping of guest RAM     %7llu pages not empty  %llu found",
	    stats->mapping_pages, search->hits_mapping);
	say("  /proc/self/mem               %7llu MiB read         %llu found",
	    stats->proc_mem_bytes / MIB, search->hits_proc_mem);
	say("  process_vm_readv             %7llu MiB read         %llu found",
	    stats->readv_bytes / MIB, search->hits_readv);
	say("  at the very address          %7u ways             %llu found", 2,
	    search->hits_at_gpa);
	say("  guest_memfd: %s", *stats->memfd ? stats->memfd : "there is none");
	say("  all that took %.1f s", stats->seconds);
	say("search n=%llu memory=%s mapping=%llu proc_mem=%llu readv=%llu at_gpa=%llu memfd=%u",
	    vm->searches, where, search->hits_mapping, search->hits_proc_mem,
	    search->hits_readv, search->hits_at_gpa, search->memfd_open);
}

/* What to show for a run of pages: the first of these that applies. */
static char map_symbol(const unsigned char *pages, __u64 nr)
{
	unsigned char all = PAGE_PRIVATE | PAGE_CONVERTED, any = 0;
	__u64 i;

	for (i = 0; i < nr; i++) {
		all &= pages[i];
		any |= pages[i];
	}
	if (any & PAGE_CONVERTED)
		return all & PAGE_PRIVATE ? 'c' : any & PAGE_PRIVATE ? 'm' : 'S';
	return all & PAGE_PRIVATE ? '#' : any & PAGE_PRIVATE ? 'm' : '.';
}

static void map_row(const struct ram *ram, __u64 first, __u64 per_cell)
{
	char row[MAP_COLUMNS + 1] = "";
	__u64 nr, i, left;

	for (i = 0; i < MAP_COLUMNS && first + i * per_cell < nr_pages(ram); i++) {
		left = nr_pages(ram) - first - i * per_cell;
		nr = left < per_cell ? left : per_cell;
		row[i] = map_symbol(ram->pages + first + i * per_cell, nr);
	}
	say("  %5llu MiB |%s|", first * PAGE_SIZE / MIB, row);
}

void report_map(struct vm *vm, const char *title)
{
	struct ram *ram = &vm->ram;
	__u64 per_cell, first;

	pthread_mutex_lock(&ram->convert_lock);
	per_cell = (nr_pages(ram) + MAP_COLUMNS * MAP_ROWS - 1) /
		   (MAP_COLUMNS * MAP_ROWS);
	say("map of RAM, %llu KiB a sign: %s", per_cell * PAGE_SIZE / 1024, title);
	for (first = 0; first < nr_pages(ram); first += MAP_COLUMNS * per_cell)
		map_row(ram, first, per_cell);
	say("  . shared  # private  m both  S shared by conversion  c private again");
	pthread_mutex_unlock(&ram->convert_lock);
}

static const char *access_name(__u64 access)
{
	switch (access) {
	case KVM_MEMORY_EXIT_FLAG_READ:
		return "read";
	case KVM_MEMORY_EXIT_FLAG_WRITE:
		return "write";
	case KVM_MEMORY_EXIT_FLAG_EXEC:
		return "exec";
	default:
		return "unknown";
	}
}

void report_harden(const struct vm *vm)
{
	const struct kernel_image *image = &vm->harden.image;
	const struct protected_range *range;
	__u64 pages = 0;
	unsigned int i;

	if (image->same_percent)
		say("harden kernel=%#llx same_as_image_percent=%u",
		    image->text.gpa, image->same_percent);
	else
		say("harden kernel=%#llx same_as_image_percent=unseen",
		    image->text.gpa);
	for (i = 0; i < vm->harden.nr_ranges; i++) {
		range = &vm->harden.range[i];
		say("harden range=%-6s gpa=%#010llx pages=%-5llu rights=%c%c%c",
		    range->name, range->gpa, range->size >> PAGE_SHIFT,
		    range->attributes & KVM_MEMORY_ATTRIBUTE_NR ? '-' : 'r',
		    range->attributes & KVM_MEMORY_ATTRIBUTE_NW ? '-' : 'w',
		    range->attributes & KVM_MEMORY_ATTRIBUTE_NX ? '-' : 'x');
		pages += range->size >> PAGE_SHIFT;
	}
	say("harden done ranges=%u pages=%llu", i, pages);
}

void report_refusal(const struct refusal *refusal)
{
	say("refused page=%#llx access=%s rip=%#llx seen=%s", refusal->gpa,
	    access_name(refusal->access), refusal->rip, refusal->seen);
}

/* One line for each attack: what was tried, what came of it. */
void report_attack(const struct harden *harden, const char *unchanged)
{
	const struct doorbell_attack *attack = &harden->attack;
	const struct refusal *refusal = &harden->refusal;
	char how[128] = "";

	if (harden->nr_refusals)
		snprintf(how, sizeof(how), " access=%-5s rip=%#llx seen=%s",
			 access_name(refusal->access), refusal->rip,
			 refusal->seen);
	say("attack hardened=%-3s target=%-6s route=%-13s outcome=%-9s page=%#llx unchanged=%s%s",
	    harden->done ? "yes" : "no", attack->target, attack->route,
	    attack->succeeded ? "succeeded" :
	    harden->nr_refusals ? "refused" : "failed",
	    attack->gpa & ~(PAGE_SIZE - 1), unchanged, how);
}

static void report_hardened(struct vm *vm)
{
	const struct harden *harden = &vm->harden;
	__u64 compared, changed = count_changed_pages(vm, &compared);

	say("hardened refusals=%llu unannounced=%llu pages_compared=%llu pages_changed=%llu",
	    harden->refusals, harden->unannounced, compared, changed);
	say("attacks succeeded_before=%llu refused_after=%llu not_refused_after=%llu",
	    harden->succeeded_before, harden->refused_after,
	    harden->not_refused_after);
}

/* One of KVM's statistics of the VM; 0 if it has none of that name. */
static __u64 vm_statistic(const struct vm *vm, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *desc;
	__u64 value = 0;
	unsigned int i;
	size_t size;
	int fd;

	fd = ioctl(vm->fd, KVM_GET_STATS_FD, NULL);
	if (fd < 0 || pread(fd, &header, sizeof(header), 0) != sizeof(header))
		goto out;

	size = sizeof(*desc) + header.name_size;
	desc = malloc(size);
	for (i = 0; desc && i < header.num_desc; i++) {
		if (pread(fd, desc, size, header.desc_offset + i * size) != (ssize_t)size)
			break;
		if (strcmp(desc->name, name))
			continue;
		if (pread(fd, &value, sizeof(value),
			  header.data_offset + desc->offset) != sizeof(value))
			value = 0;
		break;
	}
	free(desc);
out:
	if (fd >= 0)
		close(fd);
	return value;
}

/* KVM's own view of the same; needs a kernel that can be asked. */
static void report_extents(struct vm *vm)
{
	struct kvm_memory_attributes_extent extent;
	struct kvm_get_memory_attributes get;
	const struct ram_region *region;
	__u64 extents = 0, private = 0, protected = 0;
	unsigned int i;

	if (ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_GET_MEMORY_ATTRIBUTES) <= 0)
		return;

	for (i = 0; i < vm->ram.nr_regions; i++) {
		region = &vm->ram.region[i];
		get = (struct kvm_get_memory_attributes) {
			.address = region->gpa,
			.size = region->size,
			.extents = (__u64)&extent,
		};
		while (get.size) {
			get.nr_extents = 1;
			must_ioctl(vm->fd, KVM_GET_MEMORY_ATTRIBUTES, &get,
				   "KVM_CAP_GET_MEMORY_ATTRIBUTES was offered, so this is a kernel bug");
			extents++;
			if (extent.attributes & KVM_MEMORY_ATTRIBUTE_PRIVATE)
				private += extent.size >> PAGE_SHIFT;
			if (extent.attributes & ~KVM_MEMORY_ATTRIBUTE_PRIVATE)
				protected += extent.size >> PAGE_SHIFT;
		}
	}
	say("kernel extents=%llu private_pages=%llu protected_pages=%llu agrees=%s",
	    extents, private, protected, private == vm->ram.nr_private &&
	    protected == count_protected_pages(vm) ? "yes" : "no");
}

static __u64 count_exits(const struct vm *vm, unsigned int reason)
{
	__u64 count = 0;
	unsigned int i;

	for (i = 0; i < vm->nr_started; i++)
		count += vm->vcpus[i].exits[reason];
	return count;
}

static bool is_always_shown(unsigned int reason)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(always_shown); i++)
		if (always_shown[i] == reason)
			return true;
	return false;
}

static void report_exits(const struct vm *vm)
{
	char line[512] = "";
	size_t used = 0;
	__u64 count, total = 0;
	unsigned int i;

	for (i = 0; i < NR_EXIT_REASONS; i++) {
		count = count_exits(vm, i);
		total += count;
		if (count || is_always_shown(i))
			used += snprintf(line + used, sizeof(line) - used,
					 " %s=%llu", exit_reason_name(i), count);
	}
	say("exits total=%llu%s", total, line);
}

/* Where a guest that did not end by itself stands. */
static void report_vcpus(const struct vm *vm)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	unsigned int i;

	for (i = 0; i < vm->nr_started; i++) {
		if (ioctl(vm->vcpus[i].fd, KVM_GET_REGS, &regs) ||
		    ioctl(vm->vcpus[i].fd, KVM_GET_SREGS, &sregs))
			continue;
		say("vcpu id=%u rip=%#llx rsp=%#llx cr0=%#llx cr2=%#llx cr3=%#llx",
		    i, regs.rip, regs.rsp, sregs.cr0, sregs.cr2, sregs.cr3);
	}
}

void report_end(struct vm *vm)
{
	const struct ram *ram = &vm->ram;

	report_map(vm, "at the end");
	say("memory private_pages=%llu shared_pages=%llu private_backed_pages=%llu",
	    ram->nr_private, nr_pages(ram) - ram->nr_private,
	    private_backed_pages(ram));
	report_extents(vm);
	say("mapped pages_4k=%llu pages_2m=%llu", vm_statistic(vm, "pages_4k"),
	    vm_statistic(vm, "pages_2m"));
	say("to_shared conversions=%llu pages=%llu", ram->to_shared,
	    ram->to_shared_pages);
	say("to_private conversions=%llu pages=%llu refused=%llu",
	    ram->to_private, ram->to_private_pages, ram->refused);
	if (vm->opt.harden)
		report_hardened(vm);
	report_exits(vm);
	if (vm->end.reason != END_RESET)
		report_vcpus(vm);
	if (vm->verdict.given)
		say("guest verdict=%s %s", vm->verdict.pass ? "pass" : "fail",
		    vm->verdict.text);
	say("end reason=%s seconds=%.1f: %s", end_names[vm->end.reason],
	    vm->seconds, vm->end.text);
}
