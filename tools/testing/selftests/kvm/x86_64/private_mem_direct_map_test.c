// SPDX-License-Identifier: GPL-2.0-only
/*
 * Private memory in the kernel's direct map, and out of it.
 *
 * The guest fills a page with a pattern that is nowhere else, and root looks for
 * it in all of physical memory as /proc/kcore shows it: through the direct
 * map.  With KVM_GUEST_MEMFD_NO_DIRECT_MAP it must not be found.  When the memory
 * is freed, also by killing the VMM, it is found neither, and is in use again.
 */
#define _GNU_SOURCE /* for aligned_alloc() */
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <asm/kvm_para.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"

#define PG		0x1000ull
#define WORDS		(PG / sizeof(u64))
#define SLOT		10
#define SLOT_GPA	0x100000000ull
#define SLOT_SIZE	PG_SIZE_2M
#define CHUNK		(1024 * 1024)

/* Above this the kernel's own image is mapped a second time. */
#define TEXT_START	0xffffffff80000000ull

static u64 seed;

/* Never stored as a whole by anybody but the guest. */
static u64 next_word(u64 word)
{
	return word * 6364136223846793005ull + 1442695040888963407ull;
}

static void guest_code(void)
{
	u64 *page = (void *)(SLOT_GPA + 5 * PG);
	u64 i, word = seed;

	for (i = 0; i < WORDS; i++) {
		word = next_word(word);
		WRITE_ONCE(page[i], word);
	}
	GUEST_SYNC(1);

	/* Have KVM write to the page on its own. */
	wrmsr(MSR_KVM_WALL_CLOCK_NEW, SLOT_GPA + 6 * PG);
	GUEST_SYNC(READ_ONCE(((u32 *)(SLOT_GPA + 6 * PG))[1]));
	GUEST_DONE();
}

static bool is_pattern(const u64 *page)
{
	u64 i, word = seed;

	for (i = 0; i < WORDS; i++) {
		word = next_word(word);
		if (page[i] != word)
			return false;
	}
	return true;
}

static u64 search_segment(int fd, const Elf64_Phdr *segment, u64 *buf)
{
	u64 offset, i, found = 0;
	ssize_t len;

	for (offset = 0; offset < segment->p_filesz; offset += len) {
		len = min_t(u64, CHUNK, segment->p_filesz - offset);
		len = pread(fd, buf, len, segment->p_offset + offset);
		TEST_ASSERT(len > 0 && !(len % PG),
			    "/proc/kcore should be readable at %#lx, errno: %i",
			    segment->p_vaddr + offset, errno);
		for (i = 0; i < len / sizeof(u64); i += WORDS)
			found += is_pattern(buf + i);
	}
	return found;
}

/* How many pages of physical memory hold the pattern. */
static u64 search_memory(void)
{
	Elf64_Phdr segment;
	Elf64_Ehdr head;
	u64 found = 0;
	u64 *buf;
	int fd, i;

	fd = open("/proc/kcore", O_RDONLY);
	TEST_ASSERT(fd >= 0 && pread(fd, &head, sizeof(head), 0) == sizeof(head),
		    "/proc/kcore should be readable, errno: %i", errno);

	buf = aligned_alloc(PG, CHUNK);
	for (i = 0; i < head.e_phnum; i++) {
		TEST_ASSERT(pread(fd, &segment, sizeof(segment),
				  head.e_phoff + i * sizeof(segment)) ==
			    sizeof(segment), "A program header is missing");
		if (segment.p_type == PT_LOAD && segment.p_paddr != -1ull &&
		    segment.p_vaddr < TEXT_START)
			found += search_segment(fd, &segment, buf);
	}

	/* What was found is in there as well. */
	memset(buf, 0, CHUNK);
	free(buf);
	close(fd);
	return found;
}

static struct kvm_vm *start_guest(struct kvm_vcpu **vcpu,
				  struct private_slot *s, u64 flags)
{
	struct kvm_vm *vm = vm_create_protected(vcpu, 0, guest_code);

	if (flags)
		vm_enable_memfd_flags(vm, flags);
	private_slot_create_flags(s, vm, SLOT, SLOT_GPA, SLOT_SIZE,
				  VM_MEM_SRC_ANONYMOUS_THP, flags);
	private_slot_map(s);
	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);

	seed = next_word(seed);
	sync_global_to_guest(vm, seed);
	vcpu_run_to_sync(*vcpu, 1);
	return vm;
}

static void test_search(u64 flags)
{
	bool hidden = flags & KVM_GUEST_MEMFD_NO_DIRECT_MAP;
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;
	u64 found;

	vm = start_guest(&vcpu, &s, flags);
	found = search_memory();
	TEST_ASSERT(hidden ? !found : found,
		    "Flags %#lx: the pattern should %sbe found, is %lu times",
		    flags, hidden ? "not " : "", found);

	/* Seconds since 1970: whatever they are, KVM did write. */
	TEST_ASSERT(vcpu_run_to_ucall(vcpu, &uc) == UCALL_SYNC && uc.args[1],
		    "KVM should reach a page of flags %#lx", flags);
	vcpu_run_to_done(vcpu);
	kvm_vm_free(vm);
	private_slot_destroy(&s);
	TEST_ASSERT(!search_memory(), "Freed memory should be wiped");
}

static void test_kill(u64 flags)
{
	size_t size = 256 * 1024 * 1024;
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	int status, fd[2];
	char ready;
	pid_t pid;
	u8 *mem;

	TEST_ASSERT(!pipe(fd), "pipe() should succeed");
	seed = next_word(seed);
	pid = fork();
	if (!pid) {
		start_guest(&vcpu, &s, flags);
		TEST_ASSERT(write(fd[1], "", 1) == 1, "write() should succeed");
		pause();
	}

	close(fd[1]);
	TEST_ASSERT(read(fd[0], &ready, 1) == 1, "The guest should have run");
	close(fd[0]);
	kill(pid, SIGKILL);
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status),
		    "The VMM should have been killed");

	/* What start_guest() made of it. */
	seed = next_word(seed);
	TEST_ASSERT(!search_memory(), "A killed VMM's memory should be wiped");

	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED && mem_is_filled(mem, 0, size),
		    "Freed memory should be of use to others");
	munmap(mem, size);
}

int main(int argc, char *argv[])
{
	u64 supported;

	TEST_REQUIRE_PROTECTED_VM();
	supported = kvm_check_cap(KVM_CAP_GUEST_MEMFD_BACKING_FLAGS);
	__TEST_REQUIRE(supported & KVM_GUEST_MEMFD_NO_DIRECT_MAP,
		       "KVM cannot change the direct map here");

	seed = rdtsc();
	test_search(0);
	test_search(KVM_GUEST_MEMFD_NO_DIRECT_MAP);
	test_search(supported);
	test_kill(supported);
	return 0;
}
