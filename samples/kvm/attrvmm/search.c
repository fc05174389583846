// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - attack: try to find a pattern of the guest's, every way that
 * userspace has
 *
 *   mapping    the VMM's own mapping of guest RAM, all pages that exist in it
 *   proc_mem   /proc/self/mem, for all of the VMM's address space
 *   readv      process_vm_readv(), likewise
 *   memfd      map, read, write, splice or reopen the guest_memfd
 *
 * An attack that finds nothing proves something only if it would have found the
 * pattern: so the guest also puts it into a shared page and has it searched
 * again.  And it must not find itself: the pattern never exists in the VMM's
 * variables (see doorbell.h), the buffer that copies pass through is left out of
 * the search and wiped after it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

#include "attrvmm.h"

#define CHUNK		(1 * MIB)
#define NEEDLE_SIZE	(DOORBELL_NEEDLE * sizeof(__u64))

typedef ssize_t (*reader_fn)(int fd, void *buf, size_t size, __u64 addr);

struct scan {
	const struct doorbell_search *search;
	reader_fn read;
	int fd;
	__u64 hits, bytes;
};

static __u8 *buffer;

static bool matches(const __u8 *hay, const struct doorbell_search *search)
{
	unsigned int i;
	__u64 word;

	for (i = 0; i < DOORBELL_NEEDLE; i++) {
		memcpy(&word, hay + i * sizeof(word), sizeof(word));
		if ((word ^ search->half[0][i]) != search->half[1][i])
			return false;
	}
	return true;
}

static bool page_is_zero(const __u8 *page)
{
	return !page[0] && !memcmp(page, page + 1, PAGE_SIZE - 1);
}

/* Copies at any byte offset in [hay, hay + size). */
static __u64 count_matches(const __u8 *hay, __u64 size,
			   const struct doorbell_search *search)
{
	__u64 i = 0, hits = 0;

	while (i + NEEDLE_SIZE <= size) {
		if (!(i % PAGE_SIZE) && i + PAGE_SIZE + NEEDLE_SIZE <= size &&
		    page_is_zero(hay + i)) {
			i += PAGE_SIZE;
			continue;
		}
		hits += matches(hay + i, search);
		i++;
	}
	return hits;
}

static ssize_t read_proc_mem(int fd, void *buf, size_t size, __u64 addr)
{
	return pread(fd, buf, size, addr);
}

static ssize_t read_readv(int fd, void *buf, size_t size, __u64 addr)
{
	struct iovec local = { .iov_base = buf, .iov_len = size };
	struct iovec remote = { .iov_base = (void *)addr, .iov_len = size };

	(void)fd;
	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
}

static void scan_range(struct scan *scan, __u64 start, __u64 end)
{
	__u64 addr = start, size;
	ssize_t got;

	while (addr + NEEDLE_SIZE <= end) {
		size = end - addr < CHUNK ? end - addr : CHUNK;
		got = scan->read(scan->fd, buffer, size, addr);
		if (got < (ssize_t)NEEDLE_SIZE) {
			addr = (addr + PAGE_SIZE) & ~(PAGE_SIZE - 1);
			continue;
		}
		scan->hits += count_matches(buffer, got, scan->search);
		scan->bytes += got;
		/* Overlap, for a copy that lies across two chunks. */
		addr += (__u64)got < size || addr + got == end ?
			got : got - (NEEDLE_SIZE - 1);
	}
}

static void scan_around_buffer(struct scan *scan, __u64 start, __u64 end)
{
	__u64 hole = (__u64)buffer, hole_end = hole + CHUNK;

	if (start < hole)
		scan_range(scan, start, end < hole ? end : hole);
	if (end > hole_end)
		scan_range(scan, start > hole_end ? start : hole_end, end);
}

static void scan_address_space(struct scan *scan)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long start, end;
	char line[512], readable;

	if (!maps)
		die(STATUS_HOST, "/proc/self/maps: %s: mount /proc",
		    strerror(errno));
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %c", &start, &end, &readable) == 3 &&
		    readable == 'r')
			scan_around_buffer(scan, start, end);
	fclose(maps);
}

/*
 * Touching a page that does not exist would only create an empty one (or, with
 * hugepages, kill the process), hence mincore().  The other ways do create them.
 */
static void search_mapping(struct ram *ram, struct doorbell_search *search,
			   struct search_stats *stats)
{
	__u64 pages = ram->size >> PAGE_SHIFT, first, i;
	unsigned char *resident = calloc(pages + 1, 1);

	if (!resident || mincore(ram->hva, ram->size, resident))
		die(STATUS_HOST, "mincore: %s: free some memory",
		    strerror(errno));

	for (i = 0; i < pages; i++) {
		if (!(resident[i] & 1))
			continue;
		for (first = i; resident[i] & 1; i++)
			stats->mapping_pages += !page_is_zero(ram->hva + (i << PAGE_SHIFT));
		search->hits_mapping +=
			count_matches(ram->hva + (first << PAGE_SHIFT),
				      (i - first) << PAGE_SHIFT, search);
	}
	free(resident);
}

static __u64 read_at(const struct scan *scan, __u64 addr)
{
	return scan->read(scan->fd, buffer, NEEDLE_SIZE, addr) == NEEDLE_SIZE &&
	       matches(buffer, scan->search);
}

static void search_through(struct vm *vm, struct scan *scan,
			   struct doorbell_search *search)
{
	void *hva = gpa_to_hva(&vm->ram, search->gpa, NEEDLE_SIZE);

	scan_address_space(scan);
	search->hits_at_gpa += read_at(scan, (__u64)hva);
	explicit_bzero(buffer, CHUNK);
}

static void search_proc_mem(struct vm *vm, struct doorbell_search *search,
			    struct search_stats *stats)
{
	struct scan scan = { .search = search, .read = read_proc_mem };

	scan.fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	if (scan.fd < 0)
		die(STATUS_HOST, "/proc/self/mem: %s: mount /proc",
		    strerror(errno));
	search_through(vm, &scan, search);
	close(scan.fd);
	search->hits_proc_mem = scan.hits;
	stats->proc_mem_bytes = scan.bytes;
}

static void search_readv(struct vm *vm, struct doorbell_search *search,
			 struct search_stats *stats)
{
	struct scan scan = { .search = search, .read = read_readv, .fd = -1 };

	search_through(vm, &scan, search);
	search->hits_readv = scan.hits;
	stats->readv_bytes = scan.bytes;
}

/* Ways into the guest_memfd: each returns whether it found a way. */

static bool try_mmap(int fd, int flags)
{
	void *map = mmap(NULL, PAGE_SIZE, PROT_READ, flags, fd, 0);

	if (map == MAP_FAILED)
		return false;
	munmap(map, PAGE_SIZE);
	return true;
}

static bool try_mmap_shared(int fd)
{
	return try_mmap(fd, MAP_SHARED);
}

static bool try_mmap_private(int fd)
{
	return try_mmap(fd, MAP_PRIVATE);
}

static bool try_read(int fd)
{
	char byte;

	return read(fd, &byte, 1) >= 0;
}

static bool try_pread(int fd)
{
	char byte;

	return pread(fd, &byte, 1, 0) >= 0;
}

static bool try_pwrite(int fd)
{
	return pwrite(fd, "", 1, 0) >= 0;
}

static bool try_splice(int fd)
{
	int pipe_fd[2], error;
	bool found;

	if (pipe2(pipe_fd, O_CLOEXEC | O_NONBLOCK))
		return false;
	found = splice(fd, NULL, pipe_fd[1], NULL, 1, SPLICE_F_NONBLOCK) >= 0;
	error = errno;
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	errno = error;
	return found;
}

static bool try_sendfile(int fd)
{
	int out = memfd_create("attrvmm-attack", MFD_CLOEXEC), error;
	bool found;

	if (out < 0)
		return false;
	found = sendfile(out, fd, NULL, 1) >= 0;
	error = errno;
	close(out);
	errno = error;
	return found;
}

/* A new open file of the same inode might have other operations. */
static bool try_reopen(int fd)
{
	char path[32];
	bool found;
	int again, error;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	if (again < 0)
		return false;
	found = try_mmap_shared(again) || try_mmap_private(again) ||
		try_pread(again) || try_pwrite(again);
	error = errno;
	close(again);
	errno = error;
	return found;
}

static const struct {
	const char *name;
	bool (*try)(int fd);
} memfd_ways[] = {
	{ "mmap shared",	try_mmap_shared },
	{ "mmap private",	try_mmap_private },
	{ "read",		try_read },
	{ "pread",		try_pread },
	{ "pwrite",		try_pwrite },
	{ "splice",		try_splice },
	{ "sendfile",		try_sendfile },
	{ "reopen",		try_reopen },
};

static void search_memfd(int fd, struct doorbell_search *search,
			 struct search_stats *stats)
{
	size_t used = 0;
	unsigned int i;
	bool found;

	for (i = 0; i < ARRAY_SIZE(memfd_ways); i++) {
		errno = 0;
		found = memfd_ways[i].try(fd);
		search->memfd_open += found;
		used += snprintf(stats->memfd + used, sizeof(stats->memfd) - used,
				 "%s%s %s", i ? ", " : "", memfd_ways[i].name,
				 found ? "WORKS" : strerrorname_np(errno));
	}
}

void search_everywhere(struct vm *vm, struct doorbell_search *search)
{
	struct search_stats *stats = &vm->search_stats;
	double start = now_seconds();

	if (!buffer)
		buffer = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffer == MAP_FAILED)
		die(STATUS_HOST, "mmap: %s: free some memory", strerror(errno));

	*stats = (struct search_stats) { };
	search->hits_mapping = 0;
	search->hits_at_gpa = 0;
	search->memfd_open = 0;
	search_mapping(&vm->ram, search, stats);
	search_proc_mem(vm, search, stats);
	search_readv(vm, search, stats);
	if (vm->ram.memfd >= 0)
		search_memfd(vm->ram.memfd, search, stats);
	stats->seconds = now_seconds() - start;
}
