// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - guest RAM and the conversion of its pages
 *
 * Guest RAM consists of one or two regions; each is a memslot.  RAM has two backings
 * of equal size, and every memslot is bound to both:
 *
 *   shared    ram.hva, memory of this process: what the VMM can see
 *   private   ram.memfd, a guest_memfd: can neither be mapped nor read
 *
 * The attribute PRIVATE of a GFN says which of them the guest reaches.  Both are
 * sparse, so that a page costs memory only where it is used, as long as the
 * backing that a page leaves is given up at its conversion.
 *
 * To convert, first set the attribute and then free the old backing.  Once the
 * ioctl has returned no vCPU can reach the old backing any more; the other way
 * round a vCPU could fault it right back in.  Contents are not carried over: the
 * guest reads zeros, or what the VMM left in a shared page, from then on.
 *
 * A page can be pinned: it is then not converted, as long as another part of the
 * VMM needs it to stay as it is.
 *
 * convert_lock serialises conversions and protects ram.pages[] and the counters, so
 * that attribute, backings and ram.pages[] agree whenever it is free.  RAM lives as
 * long as the process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attrvmm.h"

/* RAM stops here and goes on at 4 GiB: APICs and such are between. */
#define LOW_RAM_END	(3 * GIB)
#define HIGH_RAM_START	(4 * GIB)
#define HUGE_PAGE	(2 * MIB)

static const struct ram_region *find_region(const struct ram *ram, __u64 gpa,
					    __u64 size)
{
	const struct ram_region *region;
	unsigned int i;

	for (i = 0; i < ram->nr_regions; i++) {
		region = &ram->region[i];
		if (gpa >= region->gpa &&
		    range_within(gpa - region->gpa, size, region->size))
			return region;
	}
	return NULL;
}

/* Where the range's shared backing is; NULL if it is not all RAM. */
void *gpa_to_hva(struct ram *ram, __u64 gpa, __u64 size)
{
	const struct ram_region *region = find_region(ram, gpa, size);

	return region ? ram->hva + region->offset + (gpa - region->gpa) : NULL;
}

/*
 * The same for data that the guest means the VMM to see; NULL also if a page of
 * the range is private.  The guest may convert it right after that: then the VMM
 * reads zeros, which is the guest's own loss.
 */
void *shared_gpa_to_hva(struct ram *ram, __u64 gpa, __u64 size)
{
	unsigned char *hva = gpa_to_hva(ram, gpa, size);
	bool shared = true;
	__u64 i, last;

	if (!hva)
		return NULL;

	pthread_mutex_lock(&ram->convert_lock);
	last = (hva - ram->hva + size - 1) >> PAGE_SHIFT;
	for (i = (hva - ram->hva) >> PAGE_SHIFT; i <= last; i++)
		shared &= !(ram->pages[i] & PAGE_PRIVATE);
	pthread_mutex_unlock(&ram->convert_lock);
	return shared ? hva : NULL;
}

static int create_shared_fd(const struct ram *ram)
{
	unsigned int flags = MFD_CLOEXEC;
	int fd;

	if (ram->backing == BACKING_ANON)
		return -1;
	if (ram->backing == BACKING_HUGETLB)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;

	fd = memfd_create("attrvmm-shared", flags);
	if (fd < 0 || ftruncate(fd, ram->size))
		die(STATUS_HOST,
		    "memfd_create (%s, %llu MiB): %s: is CONFIG_MEMFD_CREATE set, and hugetlbfs for hugetlb?",
		    backing_name(ram->backing), ram->size / MIB, strerror(errno));
	return fd;
}

static void map_shared(struct ram *ram)
{
	int fd = create_shared_fd(ram);
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;

	/*
	 * Without NORESERVE, every page would be paid for twice: here, and in
	 * the guest_memfd.  KVM maps 2 MiB to the guest only if they are aligned
	 * here as well: hence some address space more, of which the start is
	 * skipped.
	 */
	ram->hva = mmap(NULL, ram->size + HUGE_PAGE, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ram->hva != MAP_FAILED) {
		ram->hva = (void *)(((unsigned long)ram->hva + HUGE_PAGE - 1) &
				    ~(HUGE_PAGE - 1));
		ram->hva = mmap(ram->hva, ram->size, PROT_READ | PROT_WRITE,
				flags | MAP_NORESERVE | MAP_FIXED, fd, 0);
	}
	if (ram->hva == MAP_FAILED)
		die(STATUS_HOST, "mmap (%s, %llu MiB): %s: give less --mem%s",
		    backing_name(ram->backing), ram->size / MIB, strerror(errno),
		    ram->backing == BACKING_HUGETLB ?
		    ", or more in /proc/sys/vm/nr_hugepages" : "");
	if (fd >= 0)
		close(fd);
}

static int create_guest_memfd(const struct vm *vm)
{
	struct kvm_create_guest_memfd memfd = {
		.size = vm->ram.size,
		.flags = vm->opt.memfd_flags,
	};
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_GUEST_MEMFD_BACKING_FLAGS,
		.args = { memfd.flags },
	};

	if (vm->opt.vm_type == KVM_X86_DEFAULT_VM)
		return -1;

	if (memfd.flags)
		must_ioctl(vm->fd, KVM_ENABLE_CAP, &cap,
			   "this kernel cannot back private memory so: give another --private-backing (hidden needs KVM built in)");
	return must_ioctl(vm->fd, KVM_CREATE_GUEST_MEMFD, &memfd,
			  "the size must be a multiple of the page size; is there memory and a free file descriptor?");
}

static void add_slot(const struct vm *vm, unsigned int slot)
{
	const struct ram_region *region = &vm->ram.region[slot];
	struct kvm_userspace_memory_region2 arg = {
		.slot = slot,
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = region->gpa,
		.memory_size = region->size,
		.userspace_addr = (__u64)vm->ram.hva + region->offset,
		.guest_memfd = vm->ram.memfd,
		.guest_memfd_offset = region->offset,
	};

	if (vm->ram.memfd >= 0) {
		must_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &arg,
			   "a memslot must not overlap another, nor its part of the guest_memfd");
		return;
	}

	/* The older structure is how the newer one starts; 6.1 knows no other. */
	arg.flags = 0;
	must_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &arg,
		   "a memslot must not overlap another");
}

static void add_region(struct vm *vm, __u64 gpa, __u64 size)
{
	struct ram *ram = &vm->ram;
	struct ram_region *region = &ram->region[ram->nr_regions];

	region->gpa = gpa;
	region->size = size;
	region->offset = ram->nr_regions ? ram->region[0].size : 0;
	add_slot(vm, ram->nr_regions++);
}

static int set_attributes(const struct vm *vm, __u64 gpa, __u64 size,
			  __u64 attributes)
{
	struct kvm_memory_attributes arg = {
		.address = gpa,
		.size = size,
		.attributes = attributes,
	};

	return ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES, &arg);
}

/* Book the state of a range's pages; returns how many of them changed it. */
static __u64 book_pages(struct ram *ram, __u64 first, __u64 nr, bool to_private,
			unsigned char mark)
{
	unsigned char want = to_private ? PAGE_PRIVATE : 0;
	__u64 i, changed = 0;

	for (i = first; i < first + nr; i++) {
		if ((ram->pages[i] & PAGE_PRIVATE) == want)
			continue;
		ram->pages[i] = (ram->pages[i] & ~PAGE_PRIVATE) | want | mark;
		changed++;
	}
	ram->nr_private += to_private ? changed : -changed;
	return changed;
}

/* [gpa, gpa + size), which lies in one region, has become private. */
void book_private(struct ram *ram, __u64 gpa, __u64 size)
{
	const struct ram_region *region = find_region(ram, gpa, size);

	book_pages(ram, (region->offset + gpa - region->gpa) >> PAGE_SHIFT,
		   size >> PAGE_SHIFT, true, 0);
}

/* RAM above a boundary, before the guest is there. */
void make_initially_private(struct vm *vm)
{
	const struct ram_region *region;
	struct ram *ram = &vm->ram;
	__u64 start, end;
	unsigned int i;

	for (i = 0; i < ram->nr_regions; i++) {
		region = &ram->region[i];
		start = region->gpa;
		end = start + region->size;
		if (start < vm->opt.private_above)
			start = vm->opt.private_above;
		if (start >= end)
			continue;
		if (set_attributes(vm, start, end - start,
				   KVM_MEMORY_ATTRIBUTE_PRIVATE))
			die(STATUS_HOST,
			    "KVM_SET_MEMORY_ATTRIBUTES (%#llx, %#llx bytes, private): %s: is memory short?",
			    start, end - start, strerror(errno));
		book_private(ram, start, end - start);
	}
}

void memory_init(struct vm *vm)
{
	struct ram *ram = &vm->ram;

	pthread_mutex_init(&ram->convert_lock, NULL);
	ram->size = vm->opt.mem;
	ram->backing = vm->opt.backing;
	if (ram->backing == BACKING_HUGETLB && ram->size % HUGE_PAGE)
		die(STATUS_USAGE, "--shared-backing hugetlb: --mem must be an even number of MiB");
	ram->pages = calloc(ram->size >> PAGE_SHIFT, 1);
	if (!ram->pages)
		die(STATUS_HOST, "calloc: %s: give less --mem", strerror(errno));

	map_shared(ram);
	ram->memfd = create_guest_memfd(vm);
	if (ram->size <= LOW_RAM_END) {
		add_region(vm, 0, ram->size);
	} else {
		add_region(vm, 0, LOW_RAM_END);
		add_region(vm, HIGH_RAM_START, ram->size - LOW_RAM_END);
	}
}

static int discard_private(const struct ram *ram, __u64 offset, __u64 size)
{
	return fallocate(ram->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 offset, size);
}

static int discard_shared(const struct ram *ram, __u64 offset, __u64 size)
{
	__u64 end = offset + size;

	if (ram->backing == BACKING_ANON)
		return madvise(ram->hva + offset, size, MADV_DONTNEED);

	/* A hugepage can be given up only whole; the rest stays allocated. */
	if (ram->backing == BACKING_HUGETLB) {
		offset = (offset + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
		end &= ~(HUGE_PAGE - 1);
		if (offset >= end)
			return 0;
	}
	return madvise(ram->hva + offset, end - offset, MADV_REMOVE);
}

static int convert_locked(struct vm *vm, __u64 gpa, __u64 offset, __u64 size,
			  bool to_private, int *leftover)
{
	struct ram *ram = &vm->ram;
	__u64 pages;

	if (set_attributes(vm, gpa, size,
			   to_private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0))
		return -errno;

	pages = book_pages(ram, offset >> PAGE_SHIFT, size >> PAGE_SHIFT,
			   to_private, PAGE_CONVERTED);
	atomic_fetch_add(&ram->conversions, 1);
	if (to_private) {
		ram->to_private++;
		ram->to_private_pages += pages;
	} else {
		ram->to_shared++;
		ram->to_shared_pages += pages;
	}

	/* The guest has what it wants: a failure here only costs memory. */
	if (to_private ? discard_shared(ram, offset, size) :
			 discard_private(ram, offset, size))
		*leftover = errno;
	return 0;
}

static bool is_pinned(const struct ram *ram, __u64 offset, __u64 size)
{
	__u64 end = (offset + size + PAGE_SIZE - 1) >> PAGE_SHIFT, i;

	for (i = offset >> PAGE_SHIFT; i < end; i++) {
		if (ram->pages[i] & PAGE_PINNED)
			return true;
	}
	return false;
}

/*
 * Convert a range that the guest named, so nothing about it is taken for
 * granted.  Returns 0 or a negative errno, with nothing changed: -EPERM if a page
 * is pinned.  @leftover is set to an errno if the old backing could not be freed,
 * and to 0 otherwise.
 */
int convert_range(struct vm *vm, __u64 gpa, __u64 size, bool to_private,
		  int *leftover)
{
	unsigned char *hva = gpa_to_hva(&vm->ram, gpa, size);
	struct ram *ram = &vm->ram;
	int ret = -EINVAL;

	*leftover = 0;
	pthread_mutex_lock(&ram->convert_lock);
	if (hva && is_pinned(ram, hva - ram->hva, size))
		ret = -EPERM;
	else if (hva && ram->memfd >= 0 && !((gpa | size) & (PAGE_SIZE - 1)))
		ret = convert_locked(vm, gpa, hva - ram->hva, size, to_private,
				     leftover);
	if (ret)
		ram->refused++;
	pthread_mutex_unlock(&ram->convert_lock);
	return ret;
}

/*
 * Pin the pages of a range of RAM, or give them free again.  A conversion loses the
 * contents of a page, and all its attributes but PRIVATE, as
 * KVM_SET_MEMORY_ATTRIBUTES replaces all the bits.
 */
void pin_pages(struct ram *ram, __u64 gpa, __u64 size, bool pin)
{
	unsigned char *hva = gpa_to_hva(ram, gpa, size);
	__u64 i, first, nr = size >> PAGE_SHIFT;

	if (!hva)
		return;

	pthread_mutex_lock(&ram->convert_lock);
	first = (hva - ram->hva) >> PAGE_SHIFT;
	for (i = first; i < first + nr; i++) {
		if (pin)
			ram->pages[i] |= PAGE_PINNED;
		else
			ram->pages[i] &= ~PAGE_PINNED;
	}
	pthread_mutex_unlock(&ram->convert_lock);
}

/* How many pages of private memory there really are, as the kernel counts. */
__u64 private_backed_pages(const struct ram *ram)
{
	struct stat st;

	if (ram->memfd < 0 || fstat(ram->memfd, &st))
		return 0;
	return st.st_blocks * 512ULL >> PAGE_SHIFT;
}
