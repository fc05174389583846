/* SPDX-License-Identifier: GPL-2.0 */
/* Where things of the kernel are in guest memory, for programs that attack them. */
#ifndef LOCATE_H
#define LOCATE_H

#include <stdbool.h>
#include <linux/types.h>

/* The program's: ends it, saying what and errno, if !ok. */
void must(bool ok, const char *what);

/* The address of a symbol, by /proc/kallsyms. */
__u64 symbol(const char *name);

/* By /dev/rogue: the GPA of address or, with a size, of the first RET from there on. */
__u64 locate(int rogue, __u64 address, __u64 size);

#endif /* LOCATE_H */
