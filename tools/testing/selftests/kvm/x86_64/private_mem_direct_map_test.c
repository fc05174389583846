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

/* All guests' patterns are looked for at once: physical memory takes long to read. */
#define MAX_PATTERNS	4

static struct pattern {
	u64 seed;
	u64 found;
} patterns[MAX_PATTERNS];

static bool is_pattern(const u64 *page, u64 word)
{
	u64 i;

	for (i = 0; i < WORDS; i++) {
		word = next_word(word);
		if (page[i] != word)
			return false;
	}
	return true;
}

static void search_page(const u64 *page)
{
	int i;

	for (i = 0; i < MAX_PATTERNS; i++)
		patterns[i].found += is_pattern(page, patterns[i].seed);
}

static void search_segment(int fd, const Elf64_Phdr *segment, u64 *buf)
{
	u64 offset, i;
	ssize_t len;

	for (offset = 0; offset < segment->p_filesz; offset += len) {
		len = min_t(u64, CHUNK, segment->p_filesz - offset);
		len = pread(fd, buf, len, segment->p_offset + offset);
		TEST_ASSERT(len > 0 && !(len % PG),
			    "/proc/kcore should be readable at %#lx, errno: %i",
			    segment->p_vaddr + offset, errno);
		for (i = 0; i < len / sizeof(u64); i += WORDS)
			search_page(buf + i);
	}
}

/* How many pages of physical memory hold each of the patterns. */
static void search_memory(void)
{
	Elf64_Phdr segment;
	Elf64_Ehdr head;
	u64 *buf;
	int fd, i;

	for (i = 0; i < MAX_PATTERNS; i++)
		patterns[i].found = 0;

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
			search_segment(fd, &segment, buf);
	}

	/* What was found is in there as well. */
	memset(buf, 0, CHUNK);
	free(buf);
	close(fd);
}

struct guest {
	u64 flags;
	struct private_slot slot;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
};

/* One that writes the pattern to a page. */
static void start_guest(struct guest *g, u64 flags, const struct pattern *p)
{
	g->flags = flags;
	g->vm = vm_create_protected(&g->vcpu, 0, guest_code);
	if (flags)
		vm_enable_memfd_flags(g->vm, flags);
	private_slot_create_flags(&g->slot, g->vm, SLOT, SLOT_GPA, SLOT_SIZE,
				  VM_MEM_SRC_ANONYMOUS_THP, flags);
	private_slot_map(&g->slot);
	vm_set_private(g->vm, SLOT_GPA, SLOT_SIZE);

	seed = p->seed;
	sync_global_to_guest(g->vm, seed);
	vcpu_run_to_sync(g->vcpu, 1);
}

static void end_guest(struct guest *g)
{
	struct ucall uc;

	/* Seconds since 1970: whatever they are, KVM did write. */
	TEST_ASSERT(vcpu_run_to_ucall(g->vcpu, &uc) == UCALL_SYNC && uc.args[1],
		    "KVM should reach a page of flags %#lx", g->flags);
	vcpu_run_to_done(g->vcpu);
	kvm_vm_free(g->vm);
	private_slot_destroy(&g->slot);
}

/* A guest whose VMM is killed while it has private memory. */
static void kill_guest(u64 flags, const struct pattern *p)
{
	int status, fd[2];
	struct guest g;
	char ready;
	pid_t pid;

	TEST_ASSERT(!pipe(fd), "pipe() should succeed");
	pid = fork();
	if (!pid) {
		start_guest(&g, flags, p);
		TEST_ASSERT(write(fd[1], "", 1) == 1, "write() should succeed");
		pause();
	}

	close(fd[1]);
	TEST_ASSERT(read(fd[0], &ready, 1) == 1, "The guest should have run");
	close(fd[0]);
	kill(pid, SIGKILL);
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status),
		    "The VMM should have been killed");
}

static void test_search(const u64 *flags, int nr)
{
	struct guest guests[MAX_PATTERNS];
	bool hidden;
	int i;

	for (i = 0; i < nr; i++)
		start_guest(&guests[i], flags[i], &patterns[i]);

	search_memory();
	for (i = 0; i < nr; i++) {
		hidden = flags[i] & KVM_GUEST_MEMFD_NO_DIRECT_MAP;
		TEST_ASSERT(hidden ? !patterns[i].found : patterns[i].found,
			    "Flags %#lx: the pattern should %sbe found, is %lu times",
			    flags[i], hidden ? "not " : "", patterns[i].found);
	}

	for (i = 0; i < nr; i++)
		end_guest(&guests[i]);
	kill_guest(flags[nr - 1], &patterns[nr]);

	search_memory();
	for (i = 0; i <= nr; i++)
		TEST_ASSERT(!patterns[i].found, "Memory freed %s should be wiped",
			    i < nr ? "with its file" : "by SIGKILL");
}

static void test_reuse(void)
{
	size_t size = 256 * 1024 * 1024;
	u8 *mem;

	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED && mem_is_filled(mem, 0, size),
		    "Freed memory should be of use to others");
	munmap(mem, size);
}

int main(int argc, char *argv[])
{
	u64 supported, flags[3];
	int i;

	TEST_REQUIRE_PROTECTED_VM();
	supported = kvm_check_cap(KVM_CAP_GUEST_MEMFD_BACKING_FLAGS);
	__TEST_REQUIRE(supported & KVM_GUEST_MEMFD_NO_DIRECT_MAP,
		       "KVM cannot change the direct map here");

	for (i = 0; i < MAX_PATTERNS; i++)
		patterns[i].seed = next_word(i ? patterns[i - 1].seed : rdtsc());

	flags[0] = 0;
	flags[1] = KVM_GUEST_MEMFD_NO_DIRECT_MAP;
	flags[2] = supported;
	test_search(flags, ARRAY_SIZE(flags));
	test_reuse();
	return 0;
}
