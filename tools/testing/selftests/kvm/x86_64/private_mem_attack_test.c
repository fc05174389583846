// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memfd: its rules, and that the host's userspace cannot get at what the
 * guest keeps in private memory.
 *
 * The attacker owns everything that userspace can own: the VM, its file
 * descriptors, the shared mapping, and root.  The guest writes a secret to
 * private memory.  No file operation on the guest_memfd, and no look at the
 * process's own memory, may show it; and a page that was freed must have
 * forgotten it.
 */
#define _GNU_SOURCE
#include <linux/falloc.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "mem_attrs.h"

#define PG		0x1000ull
#define MB		0x100000ull

#define SLOT		10
#define SLOT_GPA	(4096 * MB)
#define SLOT_SIZE	(4 * MB)

#define SECRET		0x5ec2e75ec2e75ec2ull
#define SCRAMBLE	0x9e3779b97f4a7c15ull
#define UNSCRAMBLE	0xf1de83e19937733dull	/* SCRAMBLE's inverse mod 2^64 */
#define DECOY		0xdd

/* ---- Creating guest_memfds, and what can be done to them ---- */

static void expect_failure(long ret, int expected, const char *what)
{
	TEST_ASSERT(ret < 0 && (!expected || errno == expected),
		    "%s should fail with errno %i, rc: %li errno: %i (%s)",
		    what, expected, ret, errno, strerror(errno));
}

static void test_create(struct kvm_vm *vm)
{
	struct kvm_create_guest_memfd args = { .size = PG };
	int i, fd;

	expect_failure(__vm_create_guest_memfd(vm, 0, 0), EINVAL, "Size 0");
	expect_failure(__vm_create_guest_memfd(vm, 1, 0), EINVAL,
		       "A size of one byte");
	expect_failure(__vm_create_guest_memfd(vm, PG - 1, 0), EINVAL,
		       "A byte less than a page");
	expect_failure(__vm_create_guest_memfd(vm, PG + 1, 0), EINVAL,
		       "A byte more than a page");
	expect_failure(__vm_create_guest_memfd(vm, -PG, 0), EINVAL,
		       "A negative size");
	for (i = 0; i < 64; i++)
		expect_failure(__vm_create_guest_memfd(vm, PG, 1ull << i),
			       EINVAL, "A flag");
	/* As in mainline, which never looked at it. */
	memset(args.reserved, 0xff, sizeof(args.reserved));
	fd = __vm_ioctl(vm, KVM_CREATE_GUEST_MEMFD, &args);
	TEST_ASSERT(fd >= 0, "The reserved fields should be ignored");
	close(fd);
	expect_failure(ioctl(vm->fd, KVM_CREATE_GUEST_MEMFD, 8), EFAULT,
		       "An unreadable argument");
}

static void test_create_at_fd_limit(struct kvm_vm *vm)
{
	struct rlimit old, none;

	getrlimit(RLIMIT_NOFILE, &old);
	none = old;
	none.rlim_cur = 0;
	setrlimit(RLIMIT_NOFILE, &none);
	expect_failure(__vm_create_guest_memfd(vm, PG, 0), EMFILE,
		       "Creating one beyond the limit of open files");
	setrlimit(RLIMIT_NOFILE, &old);
}

static void test_fallocate(struct kvm_vm *vm)
{
	const int keep = FALLOC_FL_KEEP_SIZE;
	const int punch = FALLOC_FL_PUNCH_HOLE | keep;
	const struct { int mode; off_t offset, len; int error; } bad[] = {
		{ keep,			1,		PG,	EINVAL },
		{ keep,			0,		PG - 1,	EINVAL },
		{ keep,			0,		0,	EINVAL },
		{ keep,			8 * PG,		PG,	EINVAL },
		{ keep,			7 * PG,		2 * PG,	EINVAL },
		{ 0,			0,		PG,	EOPNOTSUPP },
		{ punch,		1,		PG,	EINVAL },
		{ punch,		0,		PG + 1,	EINVAL },
		{ FALLOC_FL_PUNCH_HOLE,	0,		PG,	EOPNOTSUPP },
		{ FALLOC_FL_ZERO_RANGE,	0,		PG,	EOPNOTSUPP },
		{ FALLOC_FL_COLLAPSE_RANGE, 0,		PG,	EOPNOTSUPP },
		{ FALLOC_FL_INSERT_RANGE, 0,		PG,	EOPNOTSUPP },
		{ FALLOC_FL_UNSHARE_RANGE, 0,		PG,	EOPNOTSUPP },
	};
	const struct { int mode; off_t offset, len; } good[] = {
		{ keep,			0,		8 * PG },
		{ keep,			7 * PG,		PG },
		{ punch,		0,		PG },
		{ punch,		7 * PG,		PG },
		{ punch,		0,		8 * PG },
		{ punch,		8 * PG,		PG },	/* beyond the end */
		{ punch,		4 * PG,		64 * PG },
	};
	int fd = vm_create_guest_memfd(vm, 8 * PG, 0);
	struct stat st;
	int i, ret;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		ret = fallocate(fd, bad[i].mode, bad[i].offset, bad[i].len);
		TEST_ASSERT(ret < 0 && errno == bad[i].error,
			    "fallocate(%#x, %li, %li) should fail with errno %i, errno: %i",
			    bad[i].mode, bad[i].offset, bad[i].len,
			    bad[i].error, errno);
	}
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		ret = fallocate(fd, good[i].mode, good[i].offset, good[i].len);
		TEST_ASSERT(!ret,
			    "fallocate(%#x, %li, %li) should succeed, errno: %i",
			    good[i].mode, good[i].offset, good[i].len, errno);
	}

	TEST_ASSERT(!fstat(fd, &st) && st.st_size == 8 * PG &&
		    st.st_blksize == PG,
		    "fstat() should show 8 pages, size: %lu blksize: %lu",
		    st.st_size, st.st_blksize);
	close(fd);
}

/* ---- Binding: which memslots a guest_memfd may back ---- */

static void expect_slot(struct private_slot *s, int expected, const char *what)
{
	expect_failure(__private_slot_set(s), expected, what);
}

/* A second memslot that wants parts of the guest_memfd which has a first one. */
static struct private_slot second_slot(const struct private_slot *s)
{
	struct private_slot t = *s;

	t.slot++;
	t.gpa += 2 * SLOT_SIZE;
	return t;
}

static void test_bind_ranges(struct private_slot *s)
{
	const int taken = memfd_is_ours() ? EEXIST : EINVAL;
	const struct { u64 offset, size; int error; const char *what; } bad[] = {
		{ 0, SLOT_SIZE, taken, "Binding all of it twice" },
		{ SLOT_SIZE - PG, PG, taken, "Binding the last page twice" },
		{ SLOT_SIZE, PG, EINVAL, "A page beyond the end" },
		{ SLOT_SIZE - PG, 2 * PG, EINVAL, "One page too much" },
		{ 1, PG, EINVAL, "An unaligned offset" },
		{ PG / 2, PG, EINVAL, "An offset of half a page" },
		{ -PG, PG, EINVAL, "An offset that wraps" },
		{ 1ull << 63, PG, EINVAL, "A negative offset" },
	};
	struct private_slot t = second_slot(s);
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		t.memfd_offset = bad[i].offset;
		t.size = bad[i].size;
		expect_slot(&t, bad[i].error, bad[i].what);
	}
}

static void test_bind_files(struct private_slot *s)
{
	struct kvm_vm *other = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	struct private_slot t = *s;

	t.vm = other;
	expect_slot(&t, EINVAL, "Another VM's guest_memfd");
	kvm_vm_free(other);

	t = second_slot(s);
	t.memfd = -1;
	expect_slot(&t, EBADF, "No file");
	t.memfd = s->vm->fd;
	expect_slot(&t, EINVAL, "The VM itself");
	t.memfd = open("/dev/zero", O_RDWR);
	expect_slot(&t, EINVAL, "A device");
	close(t.memfd);
	t.memfd = memfd_create("plain", 0);
	expect_slot(&t, EINVAL, "A memfd");
	close(t.memfd);
}

static void test_bind_flags(struct private_slot *s)
{
	struct private_slot t = second_slot(s);

	t.memfd = vm_create_guest_memfd(s->vm, SLOT_SIZE, 0);
	t.flags = KVM_MEM_GUEST_MEMFD | KVM_MEM_LOG_DIRTY_PAGES;
	expect_slot(&t, EINVAL, "Dirty logging");
	t.flags = KVM_MEM_GUEST_MEMFD | KVM_MEM_READONLY;
	expect_slot(&t, EINVAL, "A read-only memslot");
	t.flags = KVM_MEM_GUEST_MEMFD | 1u << 3;
	expect_slot(&t, EINVAL, "An unknown flag");
	close(t.memfd);

	/* The first memslot ioctl has no room for a guest_memfd. */
	expect_failure(__vm_set_user_memory_region(s->vm, t.slot,
						   KVM_MEM_GUEST_MEMFD, t.gpa,
						   PG, s->hva),
		       EINVAL, "KVM_MEM_GUEST_MEMFD in KVM_SET_USER_MEMORY_REGION");
}

/* A bound memslot may only be deleted. */
static void test_change_bound(struct private_slot *s)
{
	struct private_slot t = *s;

	t.gpa += 2 * SLOT_SIZE;
	expect_slot(&t, EINVAL, "Moving it");
	t = *s;
	t.flags |= KVM_MEM_LOG_DIRTY_PAGES;
	expect_slot(&t, EINVAL, "Turning dirty logging on");
	t = *s;
	t.flags = 0;
	expect_slot(&t, EINVAL, "Taking the guest_memfd away");
}

/* Halves of it back two memslots, and all of it one after deletion. */
static void test_rebind(struct private_slot *s)
{
	struct private_slot low = *s, high = second_slot(s);

	private_slot_unset(s);
	low.size /= 2;
	high.size /= 2;
	high.memfd_offset = SLOT_SIZE / 2;
	private_slot_set(&low);
	private_slot_set(&high);
	private_slot_unset(&high);
	private_slot_unset(&low);
	private_slot_set(s);
}

static void test_bind(struct kvm_vm *vm)
{
	struct private_slot s;

	private_slot_create(&s, vm, SLOT, SLOT_GPA, SLOT_SIZE,
			    VM_MEM_SRC_ANONYMOUS);
	test_bind_ranges(&s);
	test_bind_files(&s);
	test_bind_flags(&s);
	test_change_bound(&s);
	test_rebind(&s);
	private_slot_unset(&s);
	private_slot_destroy(&s);
}

/* ---- The attacks ---- */

/*
 * Each word of the guest's memory has a secret of its own, which decodes back
 * to the word's address.  The host decodes what it finds and never computes a
 * secret, so that it does not stumble over copies of its own making.
 */
static u64 encode_secret(u64 gpa)
{
	return (gpa ^ SECRET) * SCRAMBLE;
}

static u64 decode_secret(u64 value)
{
	return (value * UNSCRAMBLE) ^ SECRET;
}

/* The last words' secrets may linger in registers, and so on the stack. */
static bool is_secret(u64 value)
{
	u64 gpa = decode_secret(value);

	return gpa >= SLOT_GPA && gpa < SLOT_GPA + SLOT_SIZE - PG && !(gpa & 7);
}

static void guest_keep_secret(void)
{
	u64 gpa;

	for (gpa = SLOT_GPA; gpa < SLOT_GPA + SLOT_SIZE; gpa += 8)
		*(u64 *)gpa = encode_secret(gpa);
	for (;;) {
		GUEST_SYNC(0);
		for (gpa = SLOT_GPA; gpa < SLOT_GPA + SLOT_SIZE; gpa += PG / 4)
			GUEST_ASSERT_1(*(u64 *)gpa == encode_secret(gpa),
				       gpa);
	}
}

static bool holds_secret(const void *buf, size_t size)
{
	const u64 *p = buf;
	size_t i;

	for (i = 0; i < size / sizeof(*p); i++)
		if (is_secret(p[i]))
			return true;
	return false;
}

static void expect_no_secret(const void *buf, size_t size, const char *where)
{
	TEST_ASSERT(!holds_secret(buf, size),
		    "The guest's secret should not show in %s", where);
}

static void attack_file(int fd, const char *how)
{
	static const struct { int prot, flags; } maps[] = {
		{ PROT_READ, MAP_SHARED },
		{ PROT_READ | PROT_WRITE, MAP_SHARED },
		{ PROT_READ, MAP_PRIVATE },
		{ PROT_READ | PROT_WRITE, MAP_PRIVATE },
		{ PROT_EXEC, MAP_PRIVATE },
		{ PROT_NONE, MAP_SHARED },
		{ PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC },
	};
	char buf[4096] = {};
	struct iovec iov = { buf, sizeof(buf) };
	loff_t off = 0;
	int pipes[2], i, out;

	for (i = 0; i < ARRAY_SIZE(maps); i++)
		TEST_ASSERT(mmap(NULL, PG, maps[i].prot, maps[i].flags, fd, 0) ==
			    MAP_FAILED, "%s: mmap(%#x, %#x) should fail", how,
			    maps[i].prot, maps[i].flags);

	expect_failure(read(fd, buf, sizeof(buf)), 0, "read()");
	expect_failure(pread(fd, buf, sizeof(buf), 0), 0, "pread()");
	expect_failure(readv(fd, &iov, 1), 0, "readv()");
	expect_failure(preadv2(fd, &iov, 1, 0, 0), 0, "preadv2()");
	expect_failure(write(fd, buf, sizeof(buf)), 0, "write()");
	expect_failure(pwrite(fd, buf, sizeof(buf), 0), 0, "pwrite()");
	expect_failure(pwritev2(fd, &iov, 1, 0, 0), 0, "pwritev2()");
	expect_failure(ftruncate(fd, 0), 0, "ftruncate() to 0");
	expect_failure(ftruncate(fd, 2 * SLOT_SIZE), 0, "ftruncate() to more");

	TEST_ASSERT(!pipe(pipes), "pipe() should succeed");
	expect_failure(splice(fd, &off, pipes[1], NULL, PG, SPLICE_F_NONBLOCK),
		       0, "splice() from it");
	TEST_ASSERT(write(pipes[1], buf, 64) == 64, "write() to a pipe");
	expect_failure(splice(pipes[0], NULL, fd, &off, 64, SPLICE_F_NONBLOCK),
		       0, "splice() into it");
	close(pipes[0]);
	close(pipes[1]);

	out = memfd_create("loot", 0);
	TEST_ASSERT(out >= 0 && !ftruncate(out, PG), "memfd_create() should succeed");
	expect_failure(sendfile(out, fd, &off, PG), 0, "sendfile() from it");
	expect_failure(copy_file_range(fd, &off, out, NULL, PG, 0), 0,
		       "copy_file_range() from it");
	close(out);
	expect_no_secret(buf, sizeof(buf), "what the file gave");
}

/* A file that is reopened must not turn into something more obliging. */
static void attack_reopened(int fd)
{
	static const int flags[] = { O_RDONLY, O_RDWR, O_RDWR | O_DIRECT,
				     O_RDWR | O_TRUNC };
	char path[64];
	int i, again;

	snprintf(path, sizeof(path), "/proc/self/fd/%i", fd);
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		again = open(path, flags[i]);
		if (again < 0)
			continue;
		attack_file(again, "reopened");
		close(again);
	}
	again = dup(fd);
	attack_file(again, "duplicated");
	close(again);
	expect_failure(truncate(path, 0), 0, "truncate()");
}

static void attack_proc_mem(const void *hva, size_t size, char *buf)
{
	int fd = open("/proc/self/mem", O_RDONLY);

	TEST_ASSERT(fd >= 0, "/proc/self/mem should open");
	TEST_ASSERT(pread(fd, buf, size, (uintptr_t)hva) == size,
		    "/proc/self/mem should show the shared mapping");
	close(fd);
	expect_no_secret(buf, size, "/proc/self/mem");
	TEST_ASSERT(mem_is_filled(buf, DECOY, size),
		    "/proc/self/mem should show what is shared");
}

/* A child that looks into its parent, as a debugger would. */
static void attack_process_vm(const void *hva, size_t size)
{
	pid_t parent = getpid(), child = fork();
	struct iovec local, remote = { (void *)hva, size };
	char *buf;
	int status;

	TEST_ASSERT(child >= 0, "fork() should succeed");
	if (!child) {
		buf = malloc(size);
		local = (struct iovec) { buf, size };
		if (process_vm_readv(parent, &local, 1, &remote, 1, 0) != size)
			_exit(2);
		_exit(holds_secret(buf, size) ||
		      !mem_is_filled(buf, DECOY, size));
	}
	waitpid(child, &status, 0);
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status),
		    "process_vm_readv() should show the shared pages only, status: %#x",
		    status);
}

/* All that is mapped into this process, from end to end. */
static void attack_all_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	int mem = open("/proc/self/mem", O_RDONLY);
	unsigned long start, end, at, scanned = 0;
	static u64 buf[8192];
	char line[512];
	ssize_t n;

	TEST_ASSERT(maps && mem >= 0, "/proc/self should be there");
	while (fgets(line, sizeof(line), maps)) {
		TEST_ASSERT(sscanf(line, "%lx-%lx", &start, &end) == 2,
			    "/proc/self/maps should list ranges");
		for (at = start; at < end; at += n) {
			n = pread(mem, buf, min(sizeof(buf), end - at), at);
			if (n <= 0)
				break;
			expect_no_secret(buf, n, line);
			scanned += n;
		}
	}
	TEST_ASSERT(scanned > 2 * SLOT_SIZE, "More than %lu bytes should be mapped",
		    scanned);
	fclose(maps);
	close(mem);
}

static void test_attacks(void)
{
	char *buf = malloc(SLOT_SIZE);
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_with_slot(&vcpu, guest_keep_secret, &s, SLOT, SLOT_GPA,
				 SLOT_SIZE);
	memset(s.hva, DECOY, s.size);
	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);
	vcpu_run_to_sync(vcpu, 0);

	TEST_ASSERT(mem_is_filled(s.hva, DECOY, s.size),
		    "The shared mapping should be as it was");
	attack_file(s.memfd, "guest_memfd");
	attack_reopened(s.memfd);
	attack_proc_mem(s.hva, s.size, buf);
	attack_process_vm(s.hva, s.size);
	attack_all_mappings();

	/* Giving up the shared pages does not touch private memory. */
	madvise(s.hva, s.size, MADV_DONTNEED);
	vcpu_run_to_sync(vcpu, 0);

	/* The search is no good if it would not find a secret that is there. */
	*(u64 *)(s.hva + PG) = encode_secret(SLOT_GPA + PG);
	TEST_ASSERT(holds_secret(s.hva, s.size),
		    "A secret in shared memory should be found");

	kvm_vm_free(vm);
	private_slot_destroy(&s);
	free(buf);
}

/* ---- Freed pages, and lifetimes ---- */

static void guest_fill_and_look(void)
{
	u64 gpa, value;

	for (;;) {
		for (gpa = SLOT_GPA; gpa < SLOT_GPA + SLOT_SIZE; gpa += 8)
			*(u64 *)gpa = SECRET;
		GUEST_SYNC(1);
		value = 0;
		for (gpa = SLOT_GPA; gpa < SLOT_GPA + SLOT_SIZE; gpa += 8)
			value |= *(u64 *)gpa;
		GUEST_SYNC_ARGS(2, value, 0, 0, 0);
	}
}

static u64 look(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run_to_ucall(vcpu, &uc);
	ASSERT_EQ(uc.args[1], 2);
	return uc.args[2];
}

/* Punching a hole forgets: the guest finds zeroes, from whatever page. */
static void test_freed_pages_are_zero(void)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 gpa;

	vm = vm_create_with_slot(&vcpu, guest_fill_and_look, &s, SLOT, SLOT_GPA,
				 SLOT_SIZE);
	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);

	vcpu_run_to_sync(vcpu, 1);
	TEST_ASSERT(look(vcpu) == SECRET, "Private memory should keep its content");

	vcpu_run_to_sync(vcpu, 1);
	private_slot_punch(&s, SLOT_GPA, SLOT_SIZE);
	TEST_ASSERT(!look(vcpu), "Punched pages should read as zero");

	/* In pieces, each odd one beginning within what may be one large folio */
	vcpu_run_to_sync(vcpu, 1);
	for (gpa = SLOT_GPA; gpa < SLOT_GPA + SLOT_SIZE; gpa += 4 * PG)
		private_slot_punch(&s, gpa + PG, 3 * PG);
	for (gpa = SLOT_GPA; gpa < SLOT_GPA + SLOT_SIZE; gpa += 4 * PG)
		private_slot_punch(&s, gpa, PG);
	TEST_ASSERT(!look(vcpu), "Pages punched in pieces should read as zero");

	/* Being shared for a while frees nothing. */
	vcpu_run_to_sync(vcpu, 1);
	vm_set_shared(vm, SLOT_GPA, SLOT_SIZE);
	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);
	TEST_ASSERT(look(vcpu) == SECRET,
		    "Private pages should outlive being shared for a while");

	/* Nor does losing the memslot. */
	vcpu_run_to_sync(vcpu, 1);
	private_slot_unset(&s);
	private_slot_set(&s);
	TEST_ASSERT(look(vcpu) == SECRET,
		    "Private pages should outlive their memslot");

	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* The file descriptor goes first: the memslot holds on to the memory. */
static void test_vm_outlives_fd(void)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_with_slot(&vcpu, guest_keep_secret, &s, SLOT, SLOT_GPA,
				 SLOT_SIZE);
	memset(s.hva, DECOY, s.size);
	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);
	vcpu_run_to_sync(vcpu, 0);

	/*
	 * A closed guest_memfd is no private backing any more.  What the guest
	 * then does is the VMM's fault, but it must not see the shared page.
	 */
	close(s.memfd);
	if (_vcpu_run(vcpu)) {
		TEST_ASSERT(errno == EFAULT &&
			    vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT,
			    "A lost guest_memfd should be a memory fault, errno: %i exit: %s",
			    errno, exit_story(vcpu->run));
	} else {
		TEST_ASSERT(get_ucall(vcpu, NULL) == UCALL_SYNC,
			    "The guest should find its secret or nothing");
	}
	TEST_ASSERT(mem_is_filled(s.hva, DECOY, s.size),
		    "The shared page should be as it was");

	kvm_vm_free(vm);
	munmap(s.map_start, s.map_size);
}

/* The VM goes first: the file is still a file, and bound to no other VM. */
static void test_fd_outlives_vm(void)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct stat st;

	vm = vm_create_with_slot(&vcpu, guest_keep_secret, &s, SLOT, SLOT_GPA,
				 SLOT_SIZE);
	vm_set_private(vm, SLOT_GPA, SLOT_SIZE);
	vcpu_run_to_sync(vcpu, 0);
	kvm_vm_free(vm);

	attack_file(s.memfd, "left over");
	TEST_ASSERT(!fstat(s.memfd, &st) && st.st_size == SLOT_SIZE,
		    "The file should still have its size");
	private_slot_punch(&s, SLOT_GPA, SLOT_SIZE);
	TEST_ASSERT(!fallocate(s.memfd, FALLOC_FL_KEEP_SIZE, 0, SLOT_SIZE),
		    "The file should still take pages");

	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	s.vm = vm;
	expect_slot(&s, EINVAL, "A dead VM's guest_memfd");
	kvm_vm_free(vm);
	private_slot_destroy(&s);
}

/* A process that just dies with everything open leaves no mess behind. */
static void test_sudden_death(void)
{
	struct private_slot s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int status, i;
	pid_t child;

	for (i = 0; i < 4; i++) {
		child = fork();
		TEST_ASSERT(child >= 0, "fork() should succeed");
		if (!child) {
			vm = vm_create_with_slot(&vcpu, guest_keep_secret, &s,
						 SLOT, SLOT_GPA, SLOT_SIZE);
			vm_set_private(vm, SLOT_GPA, SLOT_SIZE);
			vcpu_run_to_sync(vcpu, 0);
			if (i & 1)
				raise(SIGKILL);
			_exit(0);
		}
		waitpid(child, &status, 0);
		TEST_ASSERT(i & 1 ? WIFSIGNALED(status) : !status,
			    "The child should have got that far, status: %#x",
			    status);
	}
}

int main(int argc, char *argv[])
{
	struct kvm_vm *vm;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GUEST_MEMFD));
	TEST_REQUIRE_PROTECTED_VM();

	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	test_create(vm);
	test_create_at_fd_limit(vm);
	test_fallocate(vm);
	test_bind(vm);
	kvm_vm_free(vm);

	test_attacks();
	test_freed_pages_are_zero();
	test_vm_outlives_fd();
	test_fd_outlives_vm();
	test_sudden_death();
	return 0;
}
