// SPDX-License-Identifier: GPL-2.0
/*
 * protect_page - KVM memory attributes in one screen
 *
 * A guest of three instructions stores to a page that the VMM has taken write access
 * from.  KVM exits before the store; the VMM looks at it, gives write access back and
 * enters the guest again, and the store completes.  Error handling is what a sample
 * needs, not what a VMM needs.
 *
 *   gcc -Wall -o protect_page protect_page.c
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define CODE	0x1000
#define DATA	0x2000
#define RAM	0x3000

/* mov $DATA, %bx; movb $'x', (%bx); hlt, in 16-bit real mode */
static const unsigned char guest[] = { 0xbb, 0x00, 0x20, 0xc6, 0x07, 'x', 0xf4 };

static void set_attributes(int vm, __u64 address, __u64 attributes)
{
	struct kvm_memory_attributes attrs = {
		.address = address, .size = 0x1000, .attributes = attributes,
	};

	/* A signal can interrupt a long change: nothing has been changed then. */
	while (ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &attrs))
		if (errno != EINTR)
			err(1, "KVM_SET_MEMORY_ATTRIBUTES");
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = ioctl(kvm, KVM_CREATE_VM, KVM_X86_DEFAULT_VM), vcpu, faults = 0;
	unsigned char *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region slot = {
		.memory_size = RAM, .userspace_addr = (unsigned long)ram,
	};
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
	struct kvm_sregs sregs;
	struct kvm_run *run;

	if (vm < 0 || ram == MAP_FAILED)
		err(1, "/dev/kvm");
	if (!(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MEMORY_ATTRIBUTES) &
	      KVM_MEMORY_ATTRIBUTE_NW))
		errx(4, "this kernel's KVM has no memory protection attributes");

	memcpy(ram + CODE, guest, sizeof(guest));
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0),
		   PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) || run == MAP_FAILED ||
	    ioctl(vcpu, KVM_GET_SREGS, &sregs))
		err(1, "creating the VM");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) || ioctl(vcpu, KVM_SET_REGS, &regs))
		err(1, "setting registers");

	set_attributes(vm, DATA, KVM_MEMORY_ATTRIBUTE_NW);
	while (ioctl(vcpu, KVM_RUN, 0)) {
		if (errno != EFAULT || run->exit_reason != KVM_EXIT_MEMORY_FAULT)
			err(1, "KVM_RUN");
		printf("refused: access %#llx to %#llx, the page holds %#x\n",
		       run->memory_fault.flags, run->memory_fault.gpa, ram[DATA]);
		set_attributes(vm, run->memory_fault.gpa, 0);
		faults++;
	}
	printf("exit reason %u, the page holds %#x\n", run->exit_reason, ram[DATA]);
	return run->exit_reason != KVM_EXIT_HLT || faults != 1 || ram[DATA] != 'x';
}
