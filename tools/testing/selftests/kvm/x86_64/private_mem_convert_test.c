// SPDX-License-Identifier: GPL-2.0-only
/*
 * Conversions between private and shared, driven by the guest.
 *
 * Each vCPU owns an area of two hugepages' size around a 2 MiB edge, in one or
 * more memslots.  For each range of a table it asks the VMM, through
 * KVM_HC_MAP_GPA_RANGE, to make the range shared and then private again, and
 * on the way both sides check every page of the area:
 *
 *   pattern    written by                       must be seen by
 *   KEPT       guest, whole area, private       guest, outside the range
 *   STALE      host, whole shared mapping       host, where nothing was shared
 *   FROM_HOST  host, in the range, once shared  guest, in the range
 *   FROM_GUEST guest, in the range              host, in the range
 *   zero or KEPT                                guest, in the range, private
 *                                               again, punched or not
 *
 * Patterns differ from page to page and from vCPU to vCPU, so that a page
 * mapped at the wrong place is seen, too.
 */
#define _GNU_SOURCE
#include <linux/kvm_para.h>
#include <linux/sizes.h>
#include <pthread.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"

#define PG		0x1000ull
#define BASE_SLOT	10
#define BASE_GPA	0x100000000ull
#define AREA_SIZE	(2 * PG_SIZE_2M)
#define EDGE		PG_SIZE_2M
#define MAX_VCPUS	16

enum pattern { KEPT = 1, STALE, FROM_HOST, FROM_GUEST };

/* Offset and size within the area, a 2 MiB edge in its middle. */
static const struct {
	u64 offset;
	u64 size;
} ranges[] = {
	{ 0, PG },				/* at each end of a hugepage */
	{ EDGE - PG, PG },
	{ EDGE, PG },
	{ AREA_SIZE - PG, PG },
	{ EDGE - PG, 2 * PG },			/* over the edge */
	{ EDGE / 2, 7 * PG },			/* in the middle of one */
	{ 0, EDGE },				/* exactly one, and the other */
	{ EDGE, EDGE },
	{ PG, EDGE - PG },			/* all but its first page */
	{ EDGE, EDGE - PG },			/* all but its last page */
	{ EDGE / 2, EDGE },			/* half of each */
	{ PG, AREA_SIZE - 2 * PG },
	{ 0, AREA_SIZE },
};

enum stage { MADE_SHARED, WROTE_SHARED, MADE_PRIVATE };

static struct private_slot slots[MAX_VCPUS];
static int nr_slots = 1;
static int nr_vcpus = 1;
static u64 total_size;

static u64 word(enum pattern pattern, u64 gpa)
{
	return ((u64)pattern << 60) ^ (gpa * 0x100000001b3ull >> 4);
}

/* ---- The guest ---- */

static void fill(u64 gpa, u64 size, enum pattern pattern)
{
	u64 end = gpa + size;

	for (; gpa < end; gpa += 8)
		*(u64 *)gpa = word(pattern, gpa);
}

/* Eight words of each page, the first and the last among them. */
static void check(u64 gpa, u64 size, enum pattern pattern)
{
	u64 page, at, value, should;
	int i;

	for (page = gpa; page < gpa + size; page += PG) {
		for (i = 0; i < 8; i++) {
			at = page + i * (PG - 8) / 7 / 8 * 8;
			value = *(u64 *)at;
			should = pattern ? word(pattern, at) : 0;
			GUEST_ASSERT_3(value == should, at, value, should);
		}
	}
}

static void check_but(u64 area, int r, enum pattern pattern)
{
	u64 end = ranges[r].offset + ranges[r].size;

	check(area, ranges[r].offset, pattern);
	check(area + end, AREA_SIZE - end, pattern);
}

static void map_gpa_range(u64 gpa, u64 size, bool private)
{
	u64 flags = KVM_MAP_GPA_RANGE_PAGE_SZ_4K |
			 (private ? KVM_MAP_GPA_RANGE_ENCRYPTED :
				    KVM_MAP_GPA_RANGE_DECRYPTED);

	GUEST_ASSERT_EQ(kvm_hypercall(KVM_HC_MAP_GPA_RANGE, gpa, size / PG,
				      flags, 0), 0);
}

/* @punches: does the VMM punch the private pages of what becomes shared? */
static void guest_code(u64 area, u64 punches)
{
	u64 gpa, size;
	int r;

	for (r = 0; r < ARRAY_SIZE(ranges); r++) {
		gpa = area + ranges[r].offset;
		size = ranges[r].size;

		fill(area, AREA_SIZE, KEPT);
		map_gpa_range(gpa, size, false);
		GUEST_SYNC_ARGS(MADE_SHARED, r, 0, 0, 0);
		check(gpa, size, FROM_HOST);
		check_but(area, r, KEPT);

		fill(gpa, size, FROM_GUEST);
		GUEST_SYNC_ARGS(WROTE_SHARED, r, 0, 0, 0);

		map_gpa_range(gpa, size, true);
		GUEST_SYNC_ARGS(MADE_PRIVATE, r, 0, 0, 0);
		check(gpa, size, punches ? 0 : KEPT);
		check_but(area, r, KEPT);
	}
	GUEST_DONE();
}

/* ---- The VMM ---- */

/* A range may lie across memslots. */
static struct private_slot *slot_of(u64 gpa)
{
	int i;

	for (i = 0; i < nr_slots; i++)
		if (gpa >= slots[i].gpa && gpa < slots[i].gpa + slots[i].size)
			return &slots[i];
	TEST_FAIL("GPA %#lx is in no memslot", gpa);
}

static void host_fill(u64 gpa, u64 size, enum pattern pattern)
{
	u64 end = gpa + size;

	for (; gpa < end; gpa += 8)
		*(u64 *)private_slot_hva(slot_of(gpa), gpa) =
			word(pattern, gpa);
}

static void host_check(u64 gpa, u64 size, enum pattern pattern)
{
	u64 end = gpa + size, value;

	for (; gpa < end; gpa += PG / 4) {
		value = *(u64 *)private_slot_hva(slot_of(gpa), gpa);
		TEST_ASSERT(value == word(pattern, gpa),
			    "The shared page at %#lx should hold pattern %i (%#lx), holds %#lx",
			    gpa, pattern, word(pattern, gpa), value);
	}
}

static void punch(u64 gpa, u64 size)
{
	struct private_slot *s;
	u64 n;

	for (; size; gpa += n, size -= n) {
		s = slot_of(gpa);
		n = min_t(u64, size, s->gpa + s->size - gpa);
		private_slot_punch(s, gpa, n);
	}
}

struct worker {
	pthread_t thread;
	struct kvm_vcpu *vcpu;
	u64 area;
	bool punches;
	int conversions;
};

static void handle_conversion(struct worker *w)
{
	struct kvm_run *run = w->vcpu->run;
	u64 gpa = run->hypercall.args[0];
	u64 size = run->hypercall.args[1] * PG;
	bool private = run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED;

	TEST_ASSERT(run->hypercall.nr == KVM_HC_MAP_GPA_RANGE,
		    "The hypercall should be KVM_HC_MAP_GPA_RANGE, is %llu",
		    run->hypercall.nr);
	TEST_ASSERT(gpa >= w->area && gpa + size <= w->area + AREA_SIZE,
		    "The guest should convert what is its own");

	vm_set_memory_attributes(w->vcpu->vm, gpa, size,
				 private ? MEM_ATTR_PRIVATE : 0);
	if (!private && w->punches)
		punch(gpa, size);
	w->conversions++;
	run->hypercall.ret = 0;
}

static void host_check_but(u64 area, int r)
{
	u64 end = ranges[r].offset + ranges[r].size;

	host_check(area, ranges[r].offset, STALE);
	host_check(area + end, AREA_SIZE - end, STALE);
}

static void handle_sync(struct worker *w, struct ucall *uc)
{
	int r = uc->args[2];
	u64 gpa = w->area + ranges[r].offset;
	u64 size = ranges[r].size;

	switch (uc->args[1]) {
	case MADE_SHARED:
		host_check(w->area, AREA_SIZE, STALE);
		host_fill(gpa, size, FROM_HOST);
		break;
	case WROTE_SHARED:
		host_check(gpa, size, FROM_GUEST);
		host_check_but(w->area, r);
		break;
	case MADE_PRIVATE:
		host_check(gpa, size, FROM_GUEST);
		host_fill(gpa, size, STALE);
		break;
	default:
		TEST_FAIL("Unknown stage %lu", uc->args[1]);
	}
}

static void *run_worker(void *arg)
{
	struct worker *w = arg;
	struct ucall uc;

	for (;;) {
		vcpu_run(w->vcpu);
		if (w->vcpu->run->exit_reason == KVM_EXIT_HYPERCALL) {
			handle_conversion(w);
			continue;
		}
		TEST_ASSERT(w->vcpu->run->exit_reason == KVM_EXIT_IO,
			    "Unexpected exit %s", exit_story(w->vcpu->run));

		switch (get_ucall(w->vcpu, &uc)) {
		case UCALL_SYNC:
			handle_sync(w, &uc);
			break;
		case UCALL_DONE:
			return NULL;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT_3(uc, "at %#lx: %#lx should be %#lx");
		default:
			TEST_FAIL("Unknown ucall %lu", uc.cmd);
		}
	}
}

static void create_slots(struct kvm_vm *vm, enum vm_mem_backing_src_type src)
{
	u64 gpa = BASE_GPA, size;
	int i;

	/* hugetlb memory needs aligned memslots, others end off the beat. */
	for (i = 0; i < nr_slots; i++, gpa += size) {
		size = align_down(total_size / nr_slots, PG);
		if (is_hugetlb(src))
			size = align_up(size, PG_SIZE_2M);
		else if (!(i & 1) && nr_slots > 1)
			size += 3 * PG;
		if (i == nr_slots - 1)
			size = BASE_GPA + total_size - gpa;
		private_slot_create(&slots[i], vm, BASE_SLOT + i, gpa, size,
				    src);
		private_slot_map(&slots[i]);
	}
}

static void test_conversions(enum vm_mem_backing_src_type src, bool punches)
{
	struct kvm_vcpu *vcpus[MAX_VCPUS];
	struct worker workers[MAX_VCPUS] = {};
	struct kvm_vm *vm;
	int i, conversions = 0;

	total_size = nr_vcpus * AREA_SIZE;
	vm = vm_create_protected_with_vcpus(nr_vcpus, total_size / PG,
					    guest_code, vcpus);
	vm_enable_cap(vm, KVM_CAP_EXIT_HYPERCALL, 1 << KVM_HC_MAP_GPA_RANGE);
	create_slots(vm, src);
	vm_set_private(vm, BASE_GPA, total_size);
	host_fill(BASE_GPA, total_size, STALE);

	for (i = 0; i < nr_vcpus; i++) {
		workers[i].vcpu = vcpus[i];
		workers[i].area = BASE_GPA + i * AREA_SIZE;
		workers[i].punches = punches;
		vcpu_args_set(vcpus[i], 2, workers[i].area, punches);
		TEST_ASSERT(!pthread_create(&workers[i].thread, NULL,
					    run_worker, &workers[i]),
			    "pthread_create() should succeed");
	}
	for (i = 0; i < nr_vcpus; i++) {
		pthread_join(workers[i].thread, NULL);
		conversions += workers[i].conversions;
	}
	host_check(BASE_GPA, total_size, STALE);

	pr_info("%s, %i vCPUs, %i memslots, %s: %i conversions\n",
		vm_mem_backing_src_alias(src)->name, nr_vcpus, nr_slots,
		punches ? "punched" : "kept", conversions);
	kvm_vm_free(vm);
	for (i = 0; i < nr_slots; i++)
		private_slot_destroy(&slots[i]);
}

int main(int argc, char *argv[])
{
	static const struct number_option options[] = {
		{ 'n', "vCPUs", &nr_vcpus, 1, MAX_VCPUS },
		{ 'm', "memslots", &nr_slots, 1, MAX_VCPUS },
	};
	enum vm_mem_backing_src_type src = DEFAULT_VM_MEM_SRC;

	parse_options(argc, argv, options, ARRAY_SIZE(options), &src);

	TEST_REQUIRE_PROTECTED_VM();
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_EXIT_HYPERCALL) &
		     (1 << KVM_HC_MAP_GPA_RANGE));
	if (is_hugetlb(src))
		require_hugetlb_pages((nr_vcpus * AREA_SIZE) / PG_SIZE_2M +
				      nr_slots);

	test_conversions(src, true);
	test_conversions(src, false);
	return 0;
}
