// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_GET_MEMORY_ATTRIBUTES and KVM_UPDATE_MEMORY_ATTRIBUTES: what they refuse,
 * and that what they say and do agrees with a plain array, one element a page.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"

#define PG		0x1000ull
#define TOP		(-PG)
#define MODEL_PAGES	2048

/* The model lies across a 1 GiB edge. */
#define MODEL_GPA	((1ull << 30) - MODEL_PAGES / 2 * PG)

static u8 model[MODEL_PAGES];

static void model_set(u64 page, u64 nr, u8 attributes)
{
	memset(model + page, attributes, nr);
}

/* What KVM_GET_MEMORY_ATTRIBUTES should return for these pages. */
static u32 model_extents(u64 page, u64 nr, struct kvm_memory_attributes_extent *e)
{
	u32 n = 0;
	u64 i;

	for (i = page; i < page + nr; i++) {
		if (i == page || model[i] != model[i - 1])
			e[n++] = (struct kvm_memory_attributes_extent) {
				.address = MODEL_GPA + i * PG,
				.attributes = model[i],
			};
		e[n - 1].size += PG;
	}
	return n;
}

/* Read a range out in pieces of at most @room extents. */
static u32 get_extents(struct kvm_vm *vm, u64 address, u64 size,
		       struct kvm_memory_attributes_extent *e, u32 room)
{
	struct kvm_get_memory_attributes get = {
		.address = address,
		.size = size,
	};
	u32 n = 0;

	do {
		get.extents = (uintptr_t)(e + n);
		get.nr_extents = room;
		vm_ioctl(vm, KVM_GET_MEMORY_ATTRIBUTES, &get);
		TEST_ASSERT(get.nr_extents && get.nr_extents <= room,
			    "Between 1 and %u extents should be returned, not %u",
			    room, get.nr_extents);
		TEST_ASSERT(!get.size || get.nr_extents == room,
			    "Only a full array should end the call early");
		n += get.nr_extents;
		TEST_ASSERT(get.address == e[n - 1].address + e[n - 1].size &&
			    get.address + get.size == address + size,
			    "The call should say where to go on");
	} while (get.size);

	return n;
}

/* A resumed read may cut an extent in two, where one call ended. */
static u32 join_extents(struct kvm_memory_attributes_extent *e, u32 n)
{
	u32 i, out = 0;

	for (i = 1; i < n; i++) {
		if (e[i].attributes == e[out].attributes)
			e[out].size += e[i].size;
		else
			e[++out] = e[i];
	}
	return out + 1;
}

static void check_against_model(struct kvm_vm *vm, u64 page, u64 nr,
				u32 room)
{
	static struct kvm_memory_attributes_extent is[MODEL_PAGES + 1], should[MODEL_PAGES + 1];
	u32 n_is, n_should, i;

	n_should = model_extents(page, nr, should);
	n_is = get_extents(vm, MODEL_GPA + page * PG, nr * PG, is, room);
	TEST_ASSERT(n_is == join_extents(is, n_is),
		    "Neighbouring extents should differ");
	TEST_ASSERT(n_is == n_should, "There should be %u extents, not %u",
		    n_should, n_is);

	for (i = 0; i < n_is; i++)
		TEST_ASSERT(!memcmp(&is[i], &should[i], sizeof(is[i])),
			    "Extent %u should be %#llx+%#llx %#llx, is %#llx+%#llx %#llx",
			    i, should[i].address, should[i].size,
			    should[i].attributes, is[i].address, is[i].size,
			    is[i].attributes);
	memset(should, 0, n_should * sizeof(*should));
}

/* ---- KVM_GET_MEMORY_ATTRIBUTES ---- */

static void expect_get(struct kvm_vm *vm, struct kvm_get_memory_attributes get,
		       int expected, const char *why)
{
	int ret = __vm_ioctl(vm, KVM_GET_MEMORY_ATTRIBUTES, &get);

	TEST_ASSERT(ret == -1 && errno == expected,
		    "GET with %s should fail with errno %i, rc: %i errno: %i",
		    why, expected, ret, errno);
}

static void test_get_refuses(struct kvm_vm *vm)
{
	static const struct { u64 address, size; const char *why; } bad[] = {
		{ 0, 0, "size 0" },
		{ 0, PG + 1, "an unaligned size" },
		{ PG / 2, PG, "an unaligned address" },
		{ TOP, PG, "an end at 2^64" },
		{ TOP, TOP, "an end that wraps" },
	};
	struct kvm_memory_attributes_extent e;
	const struct kvm_get_memory_attributes good = {
		.size = PG,
		.extents = (uintptr_t)&e,
		.nr_extents = 1,
	};
	struct kvm_get_memory_attributes get;
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		get = good;
		get.address = bad[i].address;
		get.size = bad[i].size;
		expect_get(vm, get, EINVAL, bad[i].why);
	}
	for (i = 0; i < 32; i++) {
		get = good;
		get.flags = 1u << i;
		expect_get(vm, get, EINVAL, "a flag");
	}
	for (i = 0; i < ARRAY_SIZE(get.reserved); i++) {
		get = good;
		get.reserved[i] = 1;
		expect_get(vm, get, EINVAL, "a reserved field set");
	}
	get = good;
	get.nr_extents = 0;
	expect_get(vm, get, EINVAL, "no room for extents");
	get = good;
	get.extents = 8;
	expect_get(vm, get, EFAULT, "an unwritable array");
	TEST_ASSERT(ioctl(vm->fd, KVM_GET_MEMORY_ATTRIBUTES, 8) == -1 &&
		    errno == EFAULT, "An unreadable argument should be EFAULT");
}

/*
 * An argument that KVM can read but not write to: what was asked for has been done,
 * only how far it got cannot be told.
 */
static void test_unwritable_argument(struct kvm_vm *vm)
{
	struct kvm_memory_attributes_update u = { PG, PG, MEM_ATTR_PRIVATE, 0 };
	struct kvm_memory_attributes_extent e = {};
	struct kvm_update_memory_attributes *update;
	struct kvm_get_memory_attributes *get;
	void *page = mmap(NULL, PG, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(page != MAP_FAILED, "mmap() should succeed");
	update = page;
	*update = (typeof(*update)) { .updates = (u64)&u, .nr_updates = 1 };
	get = page + PG / 2;
	*get = (typeof(*get)) {
		.address = PG, .size = PG, .extents = (u64)&e, .nr_extents = 1,
	};
	TEST_ASSERT(!mprotect(page, PG, PROT_READ), "mprotect() should succeed");

	TEST_ASSERT(__vm_ioctl(vm, KVM_UPDATE_MEMORY_ATTRIBUTES, update) == -1 &&
		    errno == EFAULT, "UPDATE should be EFAULT, errno: %i", errno);
	TEST_ASSERT(__vm_ioctl(vm, KVM_GET_MEMORY_ATTRIBUTES, get) == -1 &&
		    errno == EFAULT, "GET should be EFAULT, errno: %i", errno);
	ASSERT_EQ(e.attributes, MEM_ATTR_PRIVATE);
	TEST_ASSERT(ioctl(vm->fd, KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES, page) == -1 &&
		    errno == EFAULT, "GET_SUPPORTED should be EFAULT, errno: %i",
		    errno);
	munmap(page, PG);
	vm_set_shared(vm, 0, TOP);
}

static void test_get_whole_space(struct kvm_vm *vm)
{
	const u64 tib = 1ull << 40;
	struct kvm_memory_attributes_extent e[8];
	u32 n;

	n = get_extents(vm, 0, TOP, e, ARRAY_SIZE(e));
	TEST_ASSERT(n == 1 && !e[0].address && e[0].size == TOP &&
		    !e[0].attributes, "A new VM should be one extent without attributes");

	vm_set_private(vm, tib, tib);
	vm_set_shared(vm, tib + tib / 2, PG);
	n = get_extents(vm, 0, TOP, e, ARRAY_SIZE(e));
	TEST_ASSERT(n == 5 && e[1].address == tib && e[1].size == tib / 2 &&
		    e[2].size == PG && e[3].size == tib / 2 - PG,
		    "A hole in the middle of 1 TiB should make 5 extents, not %u",
		    n);

	n = get_extents(vm, tib + PG, 2 * PG, e, ARRAY_SIZE(e));
	TEST_ASSERT(n == 1 && e[0].address == tib + PG && e[0].size == 2 * PG &&
		    e[0].attributes == MEM_ATTR_PRIVATE,
		    "An extent should be clipped to the range at both ends");
	vm_set_shared(vm, 0, TOP);
}

/* A full array exactly at the end of the range leaves nothing to ask for. */
static void test_get_exact_room(struct kvm_vm *vm)
{
	struct kvm_get_memory_attributes get;
	struct kvm_memory_attributes_extent e[4];

	vm_set_private(vm, PG, PG);
	memset(e, 0xaa, sizeof(e));
	get = (struct kvm_get_memory_attributes) {
		.size = 3 * PG,
		.extents = (uintptr_t)e,
		.nr_extents = 3,
	};
	vm_ioctl(vm, KVM_GET_MEMORY_ATTRIBUTES, &get);
	TEST_ASSERT(get.nr_extents == 3 && !get.size && get.address == 3 * PG,
		    "Three extents should fit into room for three");
	TEST_ASSERT(mem_is_filled(&e[3], 0xaa, sizeof(e[3])),
		    "Nothing should be written behind the array");
	vm_set_shared(vm, 0, TOP);
}

static void test_get_random(struct kvm_vm *vm)
{
	u64 page, nr;
	u8 attr;
	int i;

	srandom(1);
	for (i = 0; i < 3000; i++) {
		page = random() % MODEL_PAGES;
		nr = random() % (random() % 8 ? 9 : MODEL_PAGES) + 1;
		if (page + nr > MODEL_PAGES)
			nr = MODEL_PAGES - page;
		attr = random() & 1 ? MEM_ATTR_PRIVATE : 0;

		vm_set_memory_attributes(vm, MODEL_GPA + page * PG, nr * PG,
					 attr);
		model_set(page, nr, attr);

		page = random() % MODEL_PAGES;
		nr = random() % (MODEL_PAGES - page) + 1;
		check_against_model(vm, page, nr, random() % 16 + 1);
		if (!(i % 64))
			check_against_model(vm, 0, MODEL_PAGES, MODEL_PAGES);
	}
	vm_set_shared(vm, 0, TOP);
	model_set(0, MODEL_PAGES, 0);
}

struct toggler {
	struct kvm_vm *vm;
	atomic_bool stop;
};

static void *toggle(void *arg)
{
	struct toggler *t = arg;
	u64 attr = 0;

	while (!atomic_load(&t->stop)) {
		attr ^= MEM_ATTR_PRIVATE;
		vm_set_memory_attributes(t->vm, 5 * PG, 1001 * PG, attr);
	}
	return NULL;
}

/* While the whole range changes to and fro, half of it is never seen. */
static void test_get_is_snapshot(struct kvm_vm *vm)
{
	struct toggler t = { .vm = vm };
	pthread_t thread;
	struct kvm_memory_attributes_extent e[16];
	int i, seen[2] = {};

	TEST_ASSERT(!pthread_create(&thread, NULL, toggle, &t),
		    "pthread_create() should succeed");
	for (i = 0; i < 20000 || !seen[0] || !seen[1]; i++) {
		u32 n = get_extents(vm, 5 * PG, 1001 * PG, e,
					 ARRAY_SIZE(e));

		TEST_ASSERT(n == 1, "One call should be a snapshot, but saw %u extents",
			    n);
		seen[!!e[0].attributes]++;
	}
	atomic_store(&t.stop, true);
	pthread_join(thread, NULL);
	vm_set_shared(vm, 0, TOP);
}

/* ---- KVM_UPDATE_MEMORY_ATTRIBUTES ---- */

static int update(struct kvm_vm *vm, struct kvm_memory_attributes_update *u,
		  u32 nr, u32 *done)
{
	struct kvm_update_memory_attributes args = {
		.updates = (uintptr_t)u,
		.nr_updates = nr,
		.done = *done,
	};
	int ret = __vm_ioctl(vm, KVM_UPDATE_MEMORY_ATTRIBUTES, &args);

	*done = args.done;
	return ret;
}

static void expect_update(struct kvm_vm *vm,
			  struct kvm_update_memory_attributes args,
			  int expected, const char *why)
{
	int ret = __vm_ioctl(vm, KVM_UPDATE_MEMORY_ATTRIBUTES, &args);

	TEST_ASSERT(ret == -1 && errno == expected,
		    "UPDATE with %s should fail with errno %i, rc: %i errno: %i",
		    why, expected, ret, errno);
}

static void test_update_refuses_header(struct kvm_vm *vm)
{
	struct kvm_memory_attributes_update u = {
		.size = PG,
		.set = MEM_ATTR_PRIVATE,
	};
	const struct kvm_update_memory_attributes good = {
		.updates = (uintptr_t)&u,
		.nr_updates = 1,
	};
	struct kvm_update_memory_attributes args;
	int i;

	for (i = 0; i < 32; i++) {
		args = good;
		args.flags = 1u << i;
		expect_update(vm, args, EINVAL, "a flag");
	}
	for (i = 0; i < ARRAY_SIZE(args.reserved); i++) {
		args = good;
		args.reserved[i] = 1;
		expect_update(vm, args, EINVAL, "a reserved field set");
	}
	args = good;
	args.pad = 1;
	expect_update(vm, args, EINVAL, "the padding set");
	args = good;
	args.nr_updates = 0;
	expect_update(vm, args, EINVAL, "no updates");
	args = good;
	args.done = 2;
	expect_update(vm, args, EINVAL, "more done than there is");
	args = good;
	args.updates = 8;
	expect_update(vm, args, EFAULT, "an unreadable array");
	TEST_ASSERT(ioctl(vm->fd, KVM_UPDATE_MEMORY_ATTRIBUTES, 8) == -1 &&
		    errno == EFAULT, "An unreadable argument should be EFAULT");
	ASSERT_EQ(vm_get_memory_attributes(vm, 0), 0);
}

#define P MEM_ATTR_PRIVATE

static const struct {
	const char *why;
	struct kvm_memory_attributes_update u;
} bad_updates[] = {
	{ "neither set nor clear",	{ PG, PG, 0, 0 } },
	{ "set and clear overlapping",	{ PG, PG, P, P } },
	{ "an unknown bit to set",	{ PG, PG, 1ull << 4, 0 } },
	{ "an unknown bit to clear",	{ PG, PG, 0, 1ull << 4 } },
	{ "bit 63 to set",		{ PG, PG, P | 1ull << 63, 0 } },
	{ "bit 63 to clear",		{ PG, PG, P, 1ull << 63 } },
	{ "size 0",			{ PG, 0, P, 0 } },
	{ "an unaligned address",	{ PG + 1, PG, P, 0 } },
	{ "an unaligned size",		{ PG, PG - 1, P, 0 } },
	{ "an end at 2^64",		{ TOP, PG, P, 0 } },
	{ "an end that wraps",		{ TOP, 3 * PG, P, 0 } },
};

/*
 * The bad update stands between good ones: those before it take effect and are
 * counted, those after it do not, and mending it lets the same call go on.
 */
static void test_update_progress(struct kvm_vm *vm)
{
	struct kvm_memory_attributes_update u[4];
	u32 done;
	int i, ret;

	for (i = 0; i < ARRAY_SIZE(bad_updates); i++) {
		u[0] = (typeof(u[0])) { 8 * PG, 4 * PG, P, 0 };
		u[1] = (typeof(u[0])) { 9 * PG, PG, 0, P };
		u[2] = bad_updates[i].u;
		u[3] = (typeof(u[0])) { 32 * PG, PG, P, 0 };
		done = 0;

		ret = update(vm, u, 4, &done);
		TEST_ASSERT(ret == -1 && errno == EINVAL && done == 2,
			    "An update with %s should fail with EINVAL as number 2, rc: %i errno: %i done: %u",
			    bad_updates[i].why, ret, errno, done);
		ASSERT_EQ(vm_get_memory_attributes(vm, 8 * PG), P);
		ASSERT_EQ(vm_get_memory_attributes(vm, 9 * PG), 0);
		ASSERT_EQ(vm_get_memory_attributes(vm, 10 * PG), P);
		ASSERT_EQ(vm_get_memory_attributes(vm, PG), 0);
		ASSERT_EQ(vm_get_memory_attributes(vm, 32 * PG), 0);

		u[2] = (typeof(u[0])) { PG, PG, P, 0 };
		ret = update(vm, u, 4, &done);
		TEST_ASSERT(!ret && done == 4,
			    "The fixed call should go on, rc: %i errno: %i done: %u",
			    ret, errno, done);
		ASSERT_EQ(vm_get_memory_attributes(vm, PG), P);
		ASSERT_EQ(vm_get_memory_attributes(vm, 32 * PG), P);

		vm_set_shared(vm, 0, TOP);
	}
}

/* Skipped updates are not even looked at. */
static void test_update_skips_done(struct kvm_vm *vm)
{
	struct kvm_memory_attributes_update u[2] = {
		{ 1, 1, 1, 1 },
		{ PG, PG, P, 0 },
	};
	u32 done = 1;

	TEST_ASSERT(!update(vm, u, 2, &done) && done == 2,
		    "An update before the first to be done should be skipped");
	ASSERT_EQ(vm_get_memory_attributes(vm, PG), P);
	TEST_ASSERT(!update(vm, u, 2, &done) && done == 2,
		    "A call with everything done should do nothing and succeed");
	vm_set_shared(vm, 0, TOP);
}

/* The array runs into unmapped memory: what was counted is what was done. */
static void test_update_array_fault(struct kvm_vm *vm)
{
	u8 *mem = mmap(NULL, 2 * PG, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_memory_attributes_update *u;
	u32 done = 0;
	u64 i;
	int ret;

	TEST_ASSERT(mem != MAP_FAILED, "mmap() should succeed");
	munmap(mem + PG, PG);
	u = (void *)(mem + PG - 3 * sizeof(*u));
	for (i = 0; i < 3; i++)
		u[i] = (typeof(*u)) { 2 * i * PG, PG, P, 0 };

	ret = update(vm, u, 5, &done);
	TEST_ASSERT(ret == -1 && errno == EFAULT && done <= 3,
		    "An array with an unreadable end should be EFAULT, rc: %i errno: %i done: %u",
		    ret, errno, done);
	for (i = 0; i < 3; i++)
		ASSERT_EQ(vm_get_memory_attributes(vm, 2 * i * PG),
			  i < done ? P : 0);
	munmap(mem, PG);
	vm_set_shared(vm, 0, TOP);
}

static void test_update_random(struct kvm_vm *vm)
{
	struct kvm_memory_attributes_update u[32];
	u64 page, nr;
	u32 done;
	int i, k;

	for (i = 0; i < 200; i++) {
		for (k = 0; k < ARRAY_SIZE(u); k++) {
			page = random() % MODEL_PAGES;
			nr = random() % (MODEL_PAGES - page) + 1;
			u[k] = (typeof(u[0])) { MODEL_GPA + page * PG, nr * PG };
			if (random() & 1)
				u[k].set = P;
			else
				u[k].clear = P;
			model_set(page, nr, u[k].set);
		}
		done = 0;
		TEST_ASSERT(!update(vm, u, ARRAY_SIZE(u), &done) &&
			    done == ARRAY_SIZE(u), "Updates should succeed");
		check_against_model(vm, 0, MODEL_PAGES, 7);
	}
	vm_set_shared(vm, 0, TOP);
	model_set(0, MODEL_PAGES, 0);
}

static void on_alarm(int sig)
{
}

/*
 * Signals stop the call between two updates.  Calling again goes on, and in
 * the end each update took effect exactly as if there had been no signals.
 */
static void test_update_restarts(struct kvm_vm *vm)
{
	const struct itimerval fast = { { 0, 2000 }, { 0, 2000 } };
	const struct sigaction action = { .sa_handler = on_alarm };
	const struct itimerval off = { };
	const u32 nr = 1u << 17;
	struct kvm_memory_attributes_update *u = calloc(nr, sizeof(*u));
	u32 i, before, done = 0;
	int ret, interrupted = 0;

	TEST_ASSERT(u, "calloc() should succeed");
	for (i = 0; i < nr; i++) {
		u64 page = i * 7919ull % MODEL_PAGES;

		u[i] = (typeof(*u)) { MODEL_GPA + page * PG, PG };
		if (i & 4)
			u[i].set = P;
		else
			u[i].clear = P;
		model_set(page, 1, u[i].set);
	}

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &fast, NULL);
	do {
		before = done;
		ret = update(vm, u, nr, &done);
		TEST_ASSERT(!ret || errno == EINTR,
			    "Only a signal should stop the updates, errno: %i",
			    errno);
		TEST_ASSERT(done >= before, "Progress should not be lost");
		interrupted += !!ret;
	} while (done < nr);
	setitimer(ITIMER_REAL, &off, NULL);

	TEST_ASSERT(interrupted, "Some signal should have come in between");
	check_against_model(vm, 0, MODEL_PAGES, MODEL_PAGES);
	pr_info("%u updates, interrupted %i times\n", nr, interrupted);
	free(u);
	vm_set_shared(vm, 0, TOP);
	model_set(0, MODEL_PAGES, 0);
}

int main(int argc, char *argv[])
{
	struct kvm_vm *vm;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GET_MEMORY_ATTRIBUTES));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_UPDATE_MEMORY_ATTRIBUTES));
	TEST_REQUIRE_PROTECTED_VM();

	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);

	test_get_refuses(vm);
	test_unwritable_argument(vm);
	test_get_whole_space(vm);
	test_get_exact_room(vm);
	test_get_random(vm);
	test_get_is_snapshot(vm);

	test_update_refuses_header(vm);
	test_update_progress(vm);
	test_update_skips_done(vm);
	test_update_array_fault(vm);
	test_update_random(vm);
	test_update_restarts(vm);

	kvm_vm_free(vm);
	return 0;
}
