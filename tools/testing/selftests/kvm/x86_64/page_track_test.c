// SPDX-License-Identifier: GPL-2.0-only
/*
 * External write tracking: which writes a tracker hears of, and what becomes of
 * tracked pages and of trackers when memslots and VMs come and go.
 *
 * The guest makes the write that the host has chosen, and exits.  The tracker is
 * the kernel's own for tests (CONFIG_KVM_PAGE_TRACK_TEST).
 *
 * A tracked page is write-protected; whether pages around it are is told by the
 * count of hugepages that are mapped (statistic pages_2m, with EPT or NPT only).
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "exit_story.h"
#include "page_track.h"

#define PG		0x1000ull
#define HUGE_SIZE	0x200000ull

#define SLOT		10
#define SLOT_GPA	0x10000000ull
#define MOVED_GPA	0x18000000ull
#define NR_HUGE		2ull
#define SLOT_SIZE	(NR_HUGE * HUGE_SIZE)

#define AS_SMM		0x10000
#define SMRAM_SLOT	(AS_SMM | 1)
#define SMRAM_GPA	0x1000000ull
#define SMRAM_PAGES	16
#define SMI_PORT	0x0e

/* A page in the middle of a hugepage, the one next to it, one far away. */
#define PAGE(i)		(SLOT_GPA + (i) * PG)
#define TRACKED		PAGE(77)
#define NEIGHBOUR	PAGE(78)
#define FAR		PAGE(512 + 5)

enum how { MOV, MOV_BYTE, ADD, CMPXCHG, STOS, NR_HOW };

static const char * const how_name[] = {
	"mov", "mov of a byte", "add", "lock cmpxchg", "rep stos",
};

/* ---- The guest ---- */

static u64 write_gpa, write_value;
static enum how write_how;

static void guest_write(u64 *p, u64 value)
{
	u64 count = 1, to = (u64)p, old = *p;

	switch (write_how) {
	case MOV:
		WRITE_ONCE(*p, value);
		break;
	case MOV_BYTE:
		WRITE_ONCE(*(u8 *)p, value);
		break;
	case ADD:
		asm volatile("addq %1, %0" : "+m"(*p) : "r"(value - old));
		break;
	case CMPXCHG:
		asm volatile("lock cmpxchgq %2, %0" : "+m"(*p), "+a"(old)
			     : "r"(value));
		break;
	case STOS:
		asm volatile("rep stosq" : "+D"(to), "+c"(count)
			     : "a"(value) : "memory");
		break;
	default:
		GUEST_ASSERT(0);
	}
}

static void guest_code(void)
{
	for (;;) {
		GUEST_SYNC(0);
		guest_write((u64 *)write_gpa, write_value);
	}
}

/*
 * SMI handler, in 16-bit mode with flat segments: movl $value, gpa; then an exit
 * to the host, and back.
 */
static u8 smi_handler[] = {
	0x67, 0x66, 0xc7, 0x05, 0, 0, 0, 0, 0, 0, 0, 0,
	0xe4, SMI_PORT,		/* in $SMI_PORT, %al */
	0x0f, 0xaa,		/* rsm */
};

#define SMI_GPA		4
#define SMI_VALUE	8

/* ---- The VMM ---- */

struct machine {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	u64 gpa;		/* where the memory is */
	u64 other_hugepages;	/* what is not the memory's */
};

static bool tdp;
static void *mem;
static u64 number = 0x1000;

static void allocate_memory(void)
{
	mem = mmap(NULL, SLOT_SIZE + HUGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap() failed");
	mem = align_ptr_up(mem, HUGE_SIZE);
	madvise(mem, SLOT_SIZE, MADV_HUGEPAGE);
	memset(mem, 0, SLOT_SIZE);
}

static int __set_memory(struct machine *m, u32 slot, u64 gpa, u64 size,
			u32 flags)
{
	return __vm_set_user_memory_region(m->vm, slot, flags, gpa, size, mem);
}

static void set_memory(struct machine *m, u32 slot, u64 gpa, u64 size)
{
	TEST_ASSERT(!__set_memory(m, slot, gpa, size, 0),
		    "Slot %#x at %#lx, size %#lx: %s", slot, gpa, size,
		    strerror(errno));
}

static u64 hugepages(struct machine *m)
{
	return vm_get_stat(m->vm, "pages_2m") - m->other_hugepages;
}

static void start(struct machine *m)
{
	m->vm = vm_create_with_one_vcpu(&m->vcpu, guest_code);
	m->gpa = SLOT_GPA;
	set_memory(m, SLOT, SLOT_GPA, SLOT_SIZE);
	virt_map(m->vm, SLOT_GPA, SLOT_GPA, SLOT_SIZE / PG);
	virt_map(m->vm, MOVED_GPA, MOVED_GPA, SLOT_SIZE / PG);
	vcpu_run(m->vcpu);
	ASSERT_EQ(get_ucall(m->vcpu, NULL), UCALL_SYNC);
	m->other_hugepages = vm_get_stat(m->vm, "pages_2m");
}

static u64 *host(struct machine *m, u64 gpa)
{
	return mem + (gpa - m->gpa);
}

static void write_at(struct machine *m, u64 gpa)
{
	write_gpa = gpa;
	write_value = ++number;
	sync_global_to_guest(m->vm, write_gpa);
	sync_global_to_guest(m->vm, write_value);
	sync_global_to_guest(m->vm, write_how);
	vcpu_run(m->vcpu);
	TEST_ASSERT(get_ucall(m->vcpu, NULL) == UCALL_SYNC,
		    "The guest should have written, exit: %s",
		    exit_story(m->vcpu->run));
}

/* The write must reach memory, tracked or not. */
static void guest_writes(struct machine *m, u64 gpa)
{
	u64 mask = write_how == MOV_BYTE ? 0xff : ~0ull;

	write_at(m, gpa);
	TEST_ASSERT((*host(m, gpa) & mask) == (number & mask),
		    "%s at %#lx: memory has %#lx instead of %#lx",
		    how_name[write_how], gpa, *host(m, gpa), number);
}

static void smm_writes(struct machine *m, u64 gpa)
{
	struct kvm_vcpu_events events;
	struct kvm_run *run = m->vcpu->run;
	u32 where = gpa, what = ++number;
	void *handler = addr_gpa2hva(m->vm, SMRAM_GPA) + 0x8000;

	memcpy(handler, smi_handler, sizeof(smi_handler));
	memcpy(handler + SMI_GPA, &where, 4);
	memcpy(handler + SMI_VALUE, &what, 4);

	vcpu_events_get(m->vcpu, &events);
	events.smi.pending = 1;
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	vcpu_events_set(m->vcpu, &events);

	vcpu_run(m->vcpu);
	TEST_ASSERT(run->exit_reason == KVM_EXIT_IO && run->io.port == SMI_PORT,
		    "The SMI handler should have run, exit: %s",
		    exit_story(run));
	TEST_ASSERT(*(u32 *)host(m, gpa) == what,
		    "SMM at %#lx: memory has %#x instead of %#x", gpa,
		    *(u32 *)host(m, gpa), what);

	/* Back to where the guest was, which writes once more. */
	write_at(m, FAR);
}

static void expect_writes(int tracker, u64 gpa, u64 writes, const char *when)
{
	struct tracked_page page;

	TEST_ASSERT(tracker_find(tracker, gpa, &page),
		    "%s: %#lx should be tracked", when, gpa);
	TEST_ASSERT(page.writes == writes,
		    "%s: the tracker should know of %lu writes to %#lx, not %llu",
		    when, writes, gpa, page.writes);
}

static void expect_last(int tracker, u64 gpa, u64 value, int bytes,
			const char *when)
{
	struct tracked_page page;

	TEST_ASSERT(tracker_find(tracker, gpa, &page),
		    "%s: %#lx should be tracked", when, gpa);
	TEST_ASSERT(page.gpa == gpa && page.bytes == bytes && page.value == value,
		    "%s: last write should be %d bytes %#lx at %#lx, not %d bytes %#llx at %#llx",
		    when, bytes, value, gpa, page.bytes, page.value, page.gpa);
}

static void expect_removed(int tracker, u64 regions, u64 nr_pages, int left)
{
	unsigned long long removed[2];
	struct tracked_page pages[8];
	int n = tracker_read(tracker, removed, pages, ARRAY_SIZE(pages));

	TEST_ASSERT(removed[0] == regions && removed[1] == nr_pages,
		    "%lu memslots with %lu tracked pages should be gone, not %llu with %llu",
		    regions, nr_pages, removed[0], removed[1]);
	TEST_ASSERT(n == left, "%d pages should be left, not %d", left, n);
}

/* Nothing denies hugepages any more: let KVM map them, and see. */
static void expect_hugepages_back(struct machine *m, const char *when)
{
	TEST_ASSERT(!__set_memory(m, SLOT, m->gpa, SLOT_SIZE,
				  KVM_MEM_LOG_DIRTY_PAGES), "Logging on");
	set_memory(m, SLOT, m->gpa, SLOT_SIZE);
	guest_writes(m, m->gpa + (TRACKED - SLOT_GPA));
	guest_writes(m, m->gpa + (FAR - SLOT_GPA));
	TEST_ASSERT(!tdp || hugepages(m) == NR_HUGE,
		    "%s: %llu hugepages should be mapped, %lu are", when,
		    NR_HUGE, hugepages(m));
}

static void expect_errno(int r, int expected, const char *what)
{
	TEST_ASSERT(r == expected, "%s should fail with %s, not with %s", what,
		    strerror(expected), strerror(r));
}

/* ---- The tests ---- */

static void test_commands(void)
{
	static const char long_command[64] = "detach and then go on for a while";
	struct machine m;
	int tracker, null;
	char c;

	start(&m);
	tracker = tracker_open();
	null = open("/dev/null", O_RDWR);

	expect_errno(__tracker_command(tracker, "track", TRACKED / PG),
		     ENOTCONN, "Tracking while detached");
	expect_errno(__tracker_command(tracker, "untrack", TRACKED / PG),
		     ENOTCONN, "Untracking while detached");
	expect_errno(__tracker_detach(tracker), ENOTCONN, "Detaching twice");
	expect_errno(__tracker_command(tracker, "attach", null), EINVAL,
		     "Attaching to /dev/null");
	expect_errno(__tracker_command(tracker, "attach", m.vcpu->fd), EINVAL,
		     "Attaching to a vCPU");
	expect_errno(__tracker_command(tracker, "attach", 9999), EINVAL,
		     "Attaching to no file");
	expect_errno(__tracker_command(tracker, "trace", 0), EINVAL,
		     "An unknown command");
	expect_errno(write(tracker, "attach", 6) == 6 ? 0 : errno, EINVAL,
		     "A command without its argument");
	expect_errno(write(tracker, long_command, sizeof(long_command)) > 0 ?
		     0 : errno, EINVAL, "A command that is too long");
	expect_errno(write(tracker, (void *)8, 8) > 0 ? 0 : errno, EFAULT,
		     "A command that cannot be read");
	expect_errno(read(tracker, &c, 1) >= 0 ? 0 : errno, ENOTCONN,
		     "Reading while detached");

	tracker_command(tracker, "attach", m.vm->fd);
	expect_errno(__tracker_command(tracker, "attach", m.vm->fd), EBUSY,
		     "Attaching twice");
	expect_errno(__tracker_command(tracker, "track", MOVED_GPA / PG),
		     EINVAL, "Tracking where no memslot is");
	expect_errno(__tracker_command(tracker, "untrack", TRACKED / PG),
		     ENOENT, "Untracking what is not tracked");
	tracker_track(tracker, TRACKED);
	expect_errno(__tracker_command(tracker, "track", TRACKED / PG),
		     EEXIST, "Tracking twice");
	tracker_untrack(tracker, TRACKED);
	tracker_detach(tracker);

	close(null);
	close(tracker);
	kvm_vm_free(m.vm);
}

/* 4 KiB in a hugepage: mapped before, by whatever instruction it is written. */
static void test_detection(void)
{
	struct machine m;
	int tracker;

	start(&m);
	guest_writes(&m, TRACKED);
	guest_writes(&m, FAR);
	TEST_ASSERT(!tdp || hugepages(&m) == NR_HUGE,
		    "Hugepages should be mapped at first");

	tracker = tracker_attach(m.vm);
	tracker_track(tracker, TRACKED);
	expect_writes(tracker, TRACKED, 0, "before the first write");

	for (write_how = MOV; write_how < NR_HOW; write_how++) {
		guest_writes(&m, TRACKED);
		expect_writes(tracker, TRACKED, write_how + 1,
			      how_name[write_how]);
		if (write_how == MOV_BYTE)
			expect_last(tracker, TRACKED, number & 0xff, 1, "byte");
		else
			expect_last(tracker, TRACKED, number, 8,
				    how_name[write_how]);
	}
	write_how = MOV;

	guest_writes(&m, NEIGHBOUR);
	guest_writes(&m, FAR);
	expect_writes(tracker, TRACKED, NR_HOW, "writes to other pages");
	TEST_ASSERT(!tdp || hugepages(&m) == NR_HUGE - 1,
		    "One hugepage should be split, %lu are there", hugepages(&m));

	tracker_untrack(tracker, TRACKED);
	guest_writes(&m, TRACKED);
	expect_hugepages_back(&m, "no page is tracked");

	close(tracker);
	kvm_vm_free(m.vm);
}

/* Each hears of its own pages, and a page is tracked until the last one stops. */
static void test_two_trackers(void)
{
	struct machine m;
	int one, two;

	start(&m);
	one = tracker_attach(m.vm);
	two = tracker_attach(m.vm);
	tracker_track(one, TRACKED);
	tracker_track(two, TRACKED);
	tracker_track(two, FAR);

	guest_writes(&m, TRACKED);
	guest_writes(&m, FAR);
	expect_writes(one, TRACKED, 1, "first of two");
	expect_writes(two, TRACKED, 1, "second of two");
	expect_writes(two, FAR, 1, "second of two");

	tracker_untrack(two, TRACKED);
	guest_writes(&m, TRACKED);
	expect_writes(one, TRACKED, 2, "the second has stopped");

	/* Closing the file detaches. */
	close(one);
	guest_writes(&m, FAR);
	expect_writes(two, FAR, 2, "the first is gone");
	close(two);
	expect_hugepages_back(&m, "both trackers are gone");
	kvm_vm_free(m.vm);
}

static void test_delete(void)
{
	struct tracked_page page;
	struct machine m;
	int tracker;

	start(&m);
	tracker = tracker_attach(m.vm);
	tracker_track(tracker, TRACKED);
	tracker_track(tracker, FAR);
	guest_writes(&m, TRACKED);
	expect_removed(tracker, 0, 0, 2);

	set_memory(&m, SLOT, SLOT_GPA, 0);
	expect_removed(tracker, 1, 2, 0);
	expect_errno(__tracker_command(tracker, "untrack", TRACKED / PG),
		     ENOENT, "Untracking a page of a deleted memslot");
	expect_errno(__tracker_command(tracker, "track", TRACKED / PG),
		     EINVAL, "Tracking a page of a deleted memslot");

	/* A new memslot starts with nothing tracked. */
	set_memory(&m, SLOT, SLOT_GPA, SLOT_SIZE);
	guest_writes(&m, TRACKED);
	guest_writes(&m, FAR);
	TEST_ASSERT(!tracker_find(tracker, TRACKED, &page),
		    "A new memslot should have no tracked page");
	TEST_ASSERT(!tdp || hugepages(&m) == NR_HUGE,
		    "A new memslot should have its hugepages");

	tracker_track(tracker, TRACKED);
	guest_writes(&m, TRACKED);
	expect_writes(tracker, TRACKED, 1, "in the new memslot");

	/* What changes only flags is no removal. */
	TEST_ASSERT(!__set_memory(&m, SLOT, SLOT_GPA, SLOT_SIZE,
				  KVM_MEM_LOG_DIRTY_PAGES), "Logging on");
	guest_writes(&m, TRACKED);
	set_memory(&m, SLOT, SLOT_GPA, SLOT_SIZE);
	guest_writes(&m, TRACKED);
	expect_writes(tracker, TRACKED, 3, "dirty logging on and off");
	expect_removed(tracker, 1, 2, 1);

	close(tracker);
	expect_hugepages_back(&m, "after deletion");
	kvm_vm_free(m.vm);
}

static void move_refused(struct machine *m, const char *when)
{
	int r = __set_memory(m, SLOT, MOVED_GPA, SLOT_SIZE, 0);

	TEST_ASSERT(r == -1 && errno == EINVAL,
		    "%s: a move should fail with EINVAL, not with %s", when,
		    r ? strerror(errno) : "success");
}

static void test_move(void)
{
	struct machine m;
	int tracker;

	start(&m);
	tracker = tracker_attach(m.vm);
	move_refused(&m, "nothing is tracked yet");
	tracker_track(tracker, TRACKED);
	guest_writes(&m, TRACKED);
	move_refused(&m, "a page is tracked");

	/* As if nothing had happened. */
	expect_removed(tracker, 0, 0, 1);
	guest_writes(&m, TRACKED);
	guest_writes(&m, FAR);
	expect_writes(tracker, TRACKED, 2, "after a refused move");

	/* KVM's own tracking, as of shadowed page tables, refuses nothing. */
	tracker_detach(tracker);
	set_memory(&m, SLOT, MOVED_GPA, SLOT_SIZE);
	m.gpa = MOVED_GPA;
	guest_writes(&m, MOVED_GPA);
	expect_hugepages_back(&m, "after a move");

	tracker_command(tracker, "attach", m.vm->fd);
	TEST_ASSERT(__set_memory(&m, SLOT, SLOT_GPA, SLOT_SIZE, 0) == -1 &&
		    errno == EINVAL, "A move back should be refused");
	close(tracker);
	set_memory(&m, SLOT, SLOT_GPA, SLOT_SIZE);

	kvm_vm_free(m.vm);
}

/* The same memory at the same GFNs in both address spaces. */
static void test_smm(void)
{
	struct machine m;
	int tracker;

	start(&m);
	vm_userspace_mem_region_add(m.vm, VM_MEM_SRC_ANONYMOUS, SMRAM_GPA,
				    SMRAM_SLOT, SMRAM_PAGES, 0);
	vcpu_set_msr(m.vcpu, MSR_IA32_SMBASE, SMRAM_GPA);
	set_memory(&m, AS_SMM | SLOT, SLOT_GPA, SLOT_SIZE);

	/* SMM has a mapping, a huge one at that, when tracking begins. */
	smm_writes(&m, NEIGHBOUR);
	guest_writes(&m, TRACKED);
	tracker = tracker_attach(m.vm);
	tracker_track(tracker, TRACKED);

	smm_writes(&m, TRACKED);
	expect_writes(tracker, TRACKED, 1, "mapped in SMM before");
	smm_writes(&m, NEIGHBOUR);
	smm_writes(&m, TRACKED);
	expect_writes(tracker, TRACKED, 2, "the page next to it was written");
	guest_writes(&m, TRACKED);
	expect_writes(tracker, TRACKED, 3, "in the normal address space");

	/* SMM's memslot is not the one whose pages are tracked. */
	set_memory(&m, AS_SMM | SLOT, SLOT_GPA, 0);
	expect_removed(tracker, 0, 0, 1);
	guest_writes(&m, TRACKED);
	set_memory(&m, AS_SMM | SLOT, SLOT_GPA, SLOT_SIZE);
	smm_writes(&m, NEIGHBOUR);
	smm_writes(&m, TRACKED);
	expect_writes(tracker, TRACKED, 5, "with a new memslot in SMM");

	/* But this one is. */
	set_memory(&m, SLOT, SLOT_GPA, 0);
	expect_removed(tracker, 1, 1, 0);
	set_memory(&m, SLOT, SLOT_GPA, SLOT_SIZE);
	smm_writes(&m, TRACKED);
	guest_writes(&m, TRACKED);

	close(tracker);
	expect_hugepages_back(&m, "after SMM");
	kvm_vm_free(m.vm);
}

static bool vm_exists(const char *dir)
{
	return !access(dir, F_OK);
}

/* Which goes first, the VM or its tracker. */
static void test_teardown(void)
{
	struct machine m;
	char dir[64];
	int tracker;

	start(&m);
	snprintf(dir, sizeof(dir), "/sys/kernel/debug/kvm/%d-%d", getpid(),
		 m.vm->fd);
	tracker = tracker_attach(m.vm);
	tracker_track(tracker, TRACKED);
	guest_writes(&m, TRACKED);
	kvm_vm_free(m.vm);

	TEST_ASSERT(vm_exists(dir), "A tracker should keep its VM");
	expect_writes(tracker, TRACKED, 1, "the VM was closed");
	tracker_track(tracker, FAR);
	tracker_untrack(tracker, TRACKED);
	tracker_detach(tracker);
	TEST_ASSERT(!vm_exists(dir), "%s should be gone with its tracker", dir);

	/* The same tracker, another VM; and the end of the file detaches. */
	start(&m);
	snprintf(dir, sizeof(dir), "/sys/kernel/debug/kvm/%d-%d", getpid(),
		 m.vm->fd);
	tracker_command(tracker, "attach", m.vm->fd);
	tracker_track(tracker, TRACKED);
	expect_writes(tracker, TRACKED, 0, "in another VM");
	kvm_vm_free(m.vm);
	close(tracker);
	TEST_ASSERT(!vm_exists(dir), "%s should be gone with the file", dir);

	start(&m);
	tracker = tracker_attach(m.vm);
	tracker_track(tracker, TRACKED);
	guest_writes(&m, TRACKED);
	close(tracker);
	expect_hugepages_back(&m, "the tracker is gone");
	kvm_vm_free(m.vm);
}

/* Nothing is closed: that is left to the end of the process. */
static void test_exit(void)
{
	struct machine m;

	start(&m);
	tracker_track(tracker_attach(m.vm), TRACKED);
	guest_writes(&m, TRACKED);
}

int main(int argc, char *argv[])
{
	close(tracker_open());
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_SMM));
	tdp = is_amd_cpu() ? get_kvm_amd_param_bool("npt") :
			     get_kvm_intel_param_bool("ept");
	allocate_memory();

	test_commands();
	test_detection();
	test_two_trackers();
	test_delete();
	test_move();
	test_smm();
	test_teardown();
	test_exit();
	return 0;
}
