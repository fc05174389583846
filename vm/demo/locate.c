// SPDX-License-Identifier: GPL-2.0
/* Where things of the kernel are in guest memory, for programs that attack them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "locate.h"
#include "rogue.h"

__u64 symbol(const char *name)
{
	FILE *file = fopen("/proc/kallsyms", "r");
	char line[512], type, found[256];
	__u64 address, result = 0;

	must(file, "open /proc/kallsyms");
	while (!result && fgets(line, sizeof(line), file))
		if (sscanf(line, "%llx %c %255s", &address, &type, found) == 3 &&
		    !strcmp(found, name))
			result = address;
	fclose(file);
	errno = ENOENT;
	must(result, name);
	return result;
}

__u64 locate(int rogue, __u64 address, __u64 size)
{
	struct rogue_locate arg = { .address = address, .size = size };

	must(!ioctl(rogue, ROGUE_LOCATE, &arg), "ROGUE_LOCATE");
	return arg.gpa;
}
