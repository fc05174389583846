/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The external write tracker of CONFIG_KVM_PAGE_TRACK_TEST; what it understands is
 * described in arch/x86/kvm/mmu/page_track_test.c.
 *
 * As elsewhere, __tracker_foo() returns an errno and tracker_foo() asserts that
 * there is none.
 */
#ifndef SELFTEST_KVM_PAGE_TRACK_H
#define SELFTEST_KVM_PAGE_TRACK_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "test_util.h"
#include "kvm_util.h"

#define TRACKER_FILE	"/sys/kernel/debug/kvm_page_track_test"

struct tracked_page {
	unsigned long long gfn, writes, gpa, value;
	int bytes;
};

static inline int tracker_open(void)
{
	int fd = open(TRACKER_FILE, O_RDWR);

	__TEST_REQUIRE(fd >= 0, "%s: %s (CONFIG_KVM_PAGE_TRACK_TEST)",
		       TRACKER_FILE, strerror(errno));
	return fd;
}

static inline int __tracker_command(int fd, const char *verb, uint64_t arg)
{
	char command[64];
	int n = snprintf(command, sizeof(command), "%s %#lx", verb, arg);

	return write(fd, command, n) == n ? 0 : errno;
}

static inline void tracker_command(int fd, const char *verb, uint64_t arg)
{
	int r = __tracker_command(fd, verb, arg);

	TEST_ASSERT(!r, "\"%s %#lx\" should work: %s", verb, arg, strerror(r));
}

static inline int __tracker_detach(int fd)
{
	return write(fd, "detach", 6) == 6 ? 0 : errno;
}

static inline void tracker_detach(int fd)
{
	int r = __tracker_detach(fd);

	TEST_ASSERT(!r, "Detaching should work: %s", strerror(r));
}

static inline int tracker_attach(struct kvm_vm *vm)
{
	int fd = tracker_open();

	tracker_command(fd, "attach", vm->fd);
	return fd;
}

static inline void tracker_track(int fd, uint64_t gpa)
{
	tracker_command(fd, "track", gpa / PAGE_SIZE);
}

static inline void tracker_untrack(int fd, uint64_t gpa)
{
	tracker_command(fd, "untrack", gpa / PAGE_SIZE);
}

/* The tracker's counts and at most max of its pages; how many there are. */
static inline int tracker_read(int fd, unsigned long long removed[2],
			       struct tracked_page *pages, int max)
{
	static __thread char text[16384];
	struct tracked_page *page;
	char *line = text;
	ssize_t size;
	int n = 0;

	size = pread(fd, text, sizeof(text) - 1, 0);
	TEST_ASSERT(size > 0, "The tracker should be readable: %s",
		    strerror(errno));
	text[size] = '\0';
	TEST_ASSERT(sscanf(line, "removed %llu %llu", &removed[0],
			   &removed[1]) == 2, "Not understood: %s", text);

	while ((line = strchr(line, '\n')) && *++line) {
		TEST_ASSERT(n < max, "More pages are tracked than expected");
		page = &pages[n++];
		TEST_ASSERT(sscanf(line, "%llx %llu %llx %d %llx", &page->gfn,
				   &page->writes, &page->gpa, &page->bytes,
				   &page->value) == 5,
			    "Not understood: %s", line);
	}
	return n;
}

/* What is known of a page; false if it is not tracked. */
static inline bool tracker_find(int fd, uint64_t gpa, struct tracked_page *page)
{
	struct tracked_page pages[64];
	unsigned long long removed[2];
	int n = tracker_read(fd, removed, pages, ARRAY_SIZE(pages));

	while (n--) {
		if (pages[n].gfn == gpa / PAGE_SIZE) {
			*page = pages[n];
			return true;
		}
	}
	return false;
}

#endif /* SELFTEST_KVM_PAGE_TRACK_H */
