// SPDX-License-Identifier: GPL-2.0-only
/*
 * External write tracking and protections of the same page: the narrower wins.
 *
 * A write that NW forbids is not made, exits to the VMM, and no tracker hears of
 * it.  When the VMM allows it after all it is made once, and reported once if the
 * page is tracked by then.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_prot.h"
#include "page_track.h"

#define PG		0x1000ull
#define HUGE_SIZE	0x200000ull
#define SLOT		10
#define SLOT_GPA	0x10000000ull

#define TRACKED		(SLOT_GPA + 77 * PG)
#define NEIGHBOUR	(SLOT_GPA + 78 * PG)

static struct kvm_vcpu *vcpu;
static struct kvm_vm *vm;
static int tracker;
static void *mem;
static u64 number = 0x1000;

/* ---- The guest ---- */

static u64 write_gpa, write_value;

static void guest_code(void)
{
	for (;;) {
		GUEST_SYNC(0);
		WRITE_ONCE(*(u64 *)write_gpa, write_value);
	}
}

/* ---- The VMM ---- */

static void set_slot(u64 size)
{
	vm_set_user_memory_region(vm, SLOT, 0, SLOT_GPA, size, mem);
}

static void set_attributes(u64 gpa, u64 size, u64 attributes)
{
	vm_set_memory_attributes(vm, gpa, size, attributes);
}

static u64 in_memory(u64 gpa)
{
	return *(u64 *)(mem + (gpa - SLOT_GPA));
}

static void prepare_write(u64 gpa)
{
	write_gpa = gpa;
	write_value = ++number;
	sync_global_to_guest(vm, write_gpa);
	sync_global_to_guest(vm, write_value);
}

/* A write that was prepared, or refused before, is made now. */
static void write_is_made(u64 gpa)
{
	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, NULL) == UCALL_SYNC,
		    "The guest should have written, exit: %s",
		    exit_story(vcpu->run));
	ASSERT_EQ(in_memory(gpa), number);
}

static void write_is_refused(u64 gpa)
{
	u64 before = in_memory(gpa);

	vcpu_expect_memory_fault(vcpu, EXIT_W, gpa);
	ASSERT_EQ(in_memory(gpa), before);
}

static void expect_writes(u64 writes, const char *when)
{
	struct tracked_page page;

	TEST_ASSERT(tracker_find(tracker, TRACKED, &page),
		    "%s: the page should be tracked", when);
	TEST_ASSERT(page.writes == writes,
		    "%s: the tracker should know of %lu writes, not of %llu",
		    when, writes, page.writes);
	TEST_ASSERT(!writes || page.value == in_memory(TRACKED),
		    "%s: the tracker should know what is in memory", when);
}

static void start(void)
{
	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	memset(mem, 0, HUGE_SIZE);
	set_slot(HUGE_SIZE);
	virt_map(vm, SLOT_GPA, SLOT_GPA, HUGE_SIZE / PG);
	vcpu_run(vcpu);
	ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_SYNC);

	/* So that there is a mapping to be narrowed. */
	prepare_write(NEIGHBOUR);
	write_is_made(NEIGHBOUR);
	tracker = tracker_attach(vm);
}

static void finish(void)
{
	close(tracker);
	kvm_vm_free(vm);
}

/* ---- The tests ---- */

static void test_protect_tracked(u64 attributes)
{
	start();
	tracker_track(tracker, TRACKED);
	prepare_write(TRACKED);
	write_is_made(TRACKED);
	expect_writes(1, "only tracked");

	set_attributes(TRACKED, PG, attributes);
	prepare_write(TRACKED);
	write_is_refused(TRACKED);
	write_is_refused(TRACKED);
	expect_writes(1, "tracked, then protected");

	set_attributes(TRACKED, PG, 0);
	write_is_made(TRACKED);
	expect_writes(2, "protection lifted");
	finish();
}

static void test_track_protected(void)
{
	start();
	set_attributes(TRACKED, PG, NW);
	prepare_write(TRACKED);
	write_is_refused(TRACKED);
	tracker_track(tracker, TRACKED);
	write_is_refused(TRACKED);
	expect_writes(0, "protected, then tracked");
	set_attributes(TRACKED, PG, 0);
	write_is_made(TRACKED);
	expect_writes(1, "protection lifted");
	finish();
}

/* The protection stays when tracking ends. */
static void test_untrack_protected(void)
{
	struct tracked_page page;

	start();
	tracker_track(tracker, TRACKED);
	set_attributes(TRACKED, PG, NW);
	prepare_write(TRACKED);
	write_is_refused(TRACKED);
	tracker_untrack(tracker, TRACKED);
	write_is_refused(TRACKED);
	set_attributes(TRACKED, PG, 0);
	write_is_made(TRACKED);
	TEST_ASSERT(!tracker_find(tracker, TRACKED, &page),
		    "The page should not be tracked any more");
	finish();
}

/* Each page has its own, also where one set covers the whole hugepage. */
static void test_neighbours(void)
{
	start();
	tracker_track(tracker, TRACKED);
	set_attributes(NEIGHBOUR, PG, NW);
	prepare_write(NEIGHBOUR);
	write_is_refused(NEIGHBOUR);
	set_attributes(NEIGHBOUR, PG, 0);
	write_is_made(NEIGHBOUR);
	prepare_write(TRACKED);
	write_is_made(TRACKED);
	expect_writes(1, "the neighbour was protected");

	set_attributes(SLOT_GPA, HUGE_SIZE, NW);
	prepare_write(TRACKED);
	write_is_refused(TRACKED);
	set_attributes(SLOT_GPA, HUGE_SIZE, 0);
	write_is_made(TRACKED);
	expect_writes(2, "the hugepage was protected");
	prepare_write(NEIGHBOUR);
	write_is_made(NEIGHBOUR);
	prepare_write(TRACKED);
	write_is_made(TRACKED);
	expect_writes(3, "the hugepage was written");
	finish();
}

/* What takes nothing away from writes leaves them to the tracker. */
static void test_not_executable(void)
{
	start();
	tracker_track(tracker, TRACKED);
	set_attributes(TRACKED, PG, NX);
	prepare_write(TRACKED);
	write_is_made(TRACKED);
	expect_writes(1, "NX");
	finish();
}

/* Protections belong to GFNs and stay, tracking belongs to the memslot. */
static void test_delete(void)
{
	struct tracked_page page;

	start();
	tracker_track(tracker, TRACKED);
	set_attributes(TRACKED, PG, NW);
	set_slot(0);
	set_slot(HUGE_SIZE);
	prepare_write(TRACKED);
	write_is_refused(TRACKED);
	set_attributes(TRACKED, PG, 0);
	write_is_made(TRACKED);
	TEST_ASSERT(!tracker_find(tracker, TRACKED, &page),
		    "A new memslot should have no tracked page");
	finish();
}

int main(int argc, char *argv[])
{
	u64 supported = kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES);

	close(tracker_open());
	__TEST_REQUIRE((supported & NW) && (supported & NX),
		       "KVM has no protections here");

	mem = mmap(NULL, 2 * HUGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap() failed");
	mem = align_ptr_up(mem, HUGE_SIZE);
	madvise(mem, HUGE_SIZE, MADV_HUGEPAGE);

	test_protect_tracked(NW);
	test_protect_tracked(NW | NX);
	if ((supported & NOTHING) == NOTHING)
		test_protect_tracked(NOTHING);
	test_track_protected();
	test_untrack_protected();
	test_neighbours();
	test_not_executable();
	test_delete();
	return 0;
}
