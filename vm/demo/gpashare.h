/* SPDX-License-Identifier: GPL-2.0 */
/*
 * gpashare - ask the hypervisor to share pages, from a program
 *
 * Each open file of /dev/gpashare has one buffer of contiguous guest memory.
 * GPASHARE_ALLOC makes it, mmap() maps it, GPASHARE_CONVERT converts parts of it,
 * close() gives it back (as private memory).
 */
#ifndef GPASHARE_H
#define GPASHARE_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct gpashare_alloc {
	__u64 size;	/* in: bytes; a power of two of pages, at most 4 MiB */
	__u64 gpa;	/* out: where it is in guest physical memory */
};

struct gpashare_convert {
	__u64 offset;	/* in the buffer, bytes, whole pages */
	__u64 size;
	__u32 to_private;
	__u32 pad;
};

#define GPASHARE_ALLOC		_IOWR('G', 0xe0, struct gpashare_alloc)
#define GPASHARE_CONVERT	_IOW('G', 0xe1, struct gpashare_convert)

#endif /* GPASHARE_H */
