// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - errors, time, ranges
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "attrvmm.h"

void die(enum status status, const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	fputs("attrvmm: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(status);
}

int checked_ioctl(int fd, unsigned long request, unsigned long arg,
		  const char *name, const char *fix)
{
	int ret = ioctl(fd, request, arg);

	if (ret < 0)
		die(STATUS_HOST, "%s: %s: %s", name, strerror(errno), fix);
	return ret;
}

double now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* Whether [start, start + size) is not empty and ends at or below limit. */
bool range_within(__u64 start, __u64 size, __u64 limit)
{
	return size && start < limit && size <= limit - start;
}
