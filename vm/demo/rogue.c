// SPDX-License-Identifier: GPL-2.0
/*
 * rogue - what an attacker in the guest's kernel can do to a page, for a program
 *
 * Root has loaded this module, so nothing in the guest stands in its way: it maps
 * what it likes as it likes, turns off write protection, and tells the hypervisor
 * to keep its own structures where it likes.
 *
 * Like any rootkit it would rather not crash.  The VMM answers an access that it
 * does not allow with #GP.  A die notifier catches those of the instruction under
 * attempt() and goes on behind it, with the stack as it was before.
 *
 * attack_lock makes attacks happen one at a time; it protects attempted.
 */
#include <asm/kvm_para.h>
#include <asm/nospec-branch.h>
#include <asm/processor.h>
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/kdebug.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "rogue.h"

/* There is no device: reads as ones. */
#define EMPTY_PORT	0x5a8
#define RET		0xc3

static DEFINE_MUTEX(attack_lock);

static struct {
	struct task_struct *task;
	unsigned long ip, sp;	/* where to go on */
	bool caught;
} attempted;

#define attempt(insn, ...)						\
	asm volatile("leaq 9f(%%rip), %%rax\n\t"			\
		     "movq %%rax, %[ip]\n\t"				\
		     "movq %%rsp, %[sp]\n\t"				\
		     insn "\n"						\
		     "9:"						\
		     : [ip] "=m" (attempted.ip), [sp] "=m" (attempted.sp), \
		       ASM_CALL_CONSTRAINT				\
		     : __VA_ARGS__					\
		     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9",	\
		       "r10", "r11", "memory", "cc")

static int rogue_die(struct notifier_block *nb, unsigned long reason, void *data)
{
	struct die_args *args = data;

	if (reason != DIE_GPF || current != attempted.task)
		return NOTIFY_DONE;

	args->regs->ip = attempted.ip;
	args->regs->sp = attempted.sp;
	attempted.caught = true;
	return NOTIFY_STOP;
}

static struct notifier_block rogue_die_block = { .notifier_call = rogue_die };

static void store(void *to)
{
	attempt("movq %%rbx, (%[to])", [to] "r" (to), "b" (0x726f677565212121));
}

static void store_forged(void *to, u64 caller)
{
	attempt("pushq %[caller]\n\t"
		"movq %%rbx, (%[to])\n\t"
		"popq %[caller]",
		[to] "r" (to), [caller] "r" (caller), "b" (0x726f677565212121));
}

static void store_nowp(u64 gpa)
{
	void *to = (void *)(__START_KERNEL_map + gpa - phys_base);
	unsigned long cr0 = read_cr0(), flags;

	local_irq_save(flags);
	asm volatile("movq %0, %%cr0" : : "r" (cr0 & ~X86_CR0_WP) : "memory");
	store(to);
	asm volatile("movq %0, %%cr0" : : "r" (cr0) : "memory");
	local_irq_restore(flags);
}

static void ins(void *to)
{
	attempt("movq %[to], %%rdi\n\t"
		"movl %[count], %%ecx\n\t"
		"movl %[port], %%edx\n\t"
		"rep insb",
		[to] "r" (to), [count] "i" (ROGUE_BYTES), [port] "i" (EMPTY_PORT));
}

static void outs(const void *from)
{
	attempt("movq %[from], %%rsi\n\t"
		"movl %[count], %%ecx\n\t"
		"movl %[port], %%edx\n\t"
		"rep outsb",
		[from] "r" (from), [count] "i" (ROGUE_BYTES),
		[port] "i" (EMPTY_PORT));
}

static void movs(void *to, const void *from)
{
	attempt("movq %[from], %%rsi\n\t"
		"movq %[to], %%rdi\n\t"
		"movl %[count], %%ecx\n\t"
		"rep movsb",
		[from] "r" (from), [to] "r" (to), [count] "i" (ROGUE_BYTES));
}

static void load(void *to, const void *from)
{
	attempt("movq (%[from]), %%rax\n\t"
		"movq %%rax, (%[to])",
		[from] "r" (from), [to] "r" (to));
}

static void call(const void *code)
{
	attempt(ANNOTATE_RETPOLINE_SAFE
		"call *%[code]", [code] "r" (code));
}

/*
 * KVM writes when the vCPU next enters the guest, or takes an interrupt: so make it
 * leave, and wait for some ticks.  Then put back what the kernel had.
 */
static int share_with_kvm(u32 msr, u64 value)
{
	u64 old;
	int i;

	get_cpu();
	if (rdmsrl_safe(msr, &old)) {
		put_cpu();
		return -EOPNOTSUPP;
	}
	attempted.caught = wrmsrl_safe(msr, value);
	for (i = 0; i < 20; i++) {
		inb(EMPTY_PORT);
		mdelay(1);
	}
	wrmsrl_safe(msr, old);
	put_cpu();
	return 0;
}

/* The disk is told where to write; that it could not is not told. */
static int read_disk(u64 gpa)
{
	struct file *disk = filp_open("/dev/vda", O_RDONLY, 0);
	struct bio_vec vec;
	struct bio bio;
	int ret;

	if (IS_ERR(disk))
		return PTR_ERR(disk);

	gpa = round_down(gpa, ROGUE_SECTOR);
	bio_init(&bio, I_BDEV(disk->f_mapping->host), &vec, 1, REQ_OP_READ);
	__bio_add_page(&bio, pfn_to_page(gpa >> PAGE_SHIFT), ROGUE_SECTOR,
		       offset_in_page(gpa));
	ret = submit_bio_wait(&bio);
	bio_uninit(&bio);
	filp_close(disk, NULL);
	return ret;
}

/* vmap() does not map what can be executed, but page tables are only memory. */
static void make_executable(void *map)
{
	unsigned int level;
	pte_t *pte = lookup_address((unsigned long)map, &level);

	set_pte(pte, pte_mkexec(*pte));
}

static void *map_page(u64 gpa, bool exec)
{
	struct page *page = pfn_to_page(gpa >> PAGE_SHIFT);
	void *map = vmap(&page, 1, VM_MAP, PAGE_KERNEL);

	if (!map)
		return NULL;
	if (exec)
		make_executable(map);
	return map + offset_in_page(gpa);
}

static void unmap_page(void *map)
{
	vunmap((void *)((unsigned long)map & PAGE_MASK));
}

static int through_own_mapping(const struct rogue_attack *attack)
{
	void *map = map_page(attack->gpa, attack->route == ROGUE_CALL);

	if (!map)
		return -ENOMEM;

	if (attack->route == ROGUE_STORE)
		store(map);
	else if (attack->route == ROGUE_STORE_FORGED)
		store_forged(map, attack->caller);
	else if (attack->route == ROGUE_INS)
		ins(map);
	else
		call(map);
	unmap_page(map);
	return 0;
}

static int make_attack(struct rogue_attack *attack)
{
	const void *direct = __va(attack->gpa);

	switch (attack->route) {
	case ROGUE_STORE:
	case ROGUE_STORE_FORGED:
	case ROGUE_INS:
	case ROGUE_CALL:
		return through_own_mapping(attack);
	case ROGUE_STORE_NOWP:
		store_nowp(attack->gpa);
		return 0;
	case ROGUE_WALL_CLOCK:
		return share_with_kvm(MSR_KVM_WALL_CLOCK_NEW, attack->gpa);
	case ROGUE_KVMCLOCK:
		return share_with_kvm(MSR_KVM_SYSTEM_TIME_NEW, attack->gpa | 1);
	case ROGUE_PV_EOI:
		/* It leaves a byte of 0, which the upper half of a kernel address has not. */
		return share_with_kvm(MSR_KVM_PV_EOI_EN,
				      (attack->gpa + sizeof(u32)) | 1);
	case ROGUE_DISK:
		return read_disk(attack->gpa);
	case ROGUE_LOAD:
		load(attack->loot, direct);
		return 0;
	case ROGUE_MOVS:
		movs(attack->loot, direct);
		return 0;
	case ROGUE_OUTS:
		outs(direct);
		return 0;
	default:
		return -EINVAL;
	}
}

static bool is_ram(u64 gpa, u64 size)
{
	return pfn_valid(gpa >> PAGE_SHIFT) &&
	       pfn_valid((gpa + size - 1) >> PAGE_SHIFT);
}

static int rogue_attack(struct rogue_attack *attack)
{
	int ret;

	if (!is_ram(attack->gpa, ROGUE_BYTES) ||
	    offset_in_page(attack->gpa) > PAGE_SIZE - ROGUE_BYTES)
		return -EINVAL;

	mutex_lock(&attack_lock);
	attempted.caught = false;
	attempted.task = current;
	ret = make_attack(attack);
	attempted.task = NULL;
	attack->caught = attempted.caught;
	mutex_unlock(&attack_lock);
	return ret;
}

static int rogue_locate(struct rogue_locate *locate)
{
	const u8 *at = (const u8 *)locate->address;
	const u8 *end = at + locate->size;

	/* Not so near to the end of a page that it would not all be in it. */
	while (at < end && (*at != RET ||
			    offset_in_page(at) > PAGE_SIZE - ROGUE_BYTES))
		at++;
	if (locate->size && at == end)
		return -ENOENT;

	locate->gpa = slow_virt_to_phys((void *)at);
	return 0;
}

static long ioctl_attack(void __user *user)
{
	struct rogue_attack attack;
	int ret;

	if (copy_from_user(&attack, user, sizeof(attack)))
		return -EFAULT;
	ret = rogue_attack(&attack);
	if (!ret && copy_to_user(user, &attack, sizeof(attack)))
		ret = -EFAULT;
	return ret;
}

static long ioctl_locate(void __user *user)
{
	struct rogue_locate locate;
	int ret;

	if (copy_from_user(&locate, user, sizeof(locate)))
		return -EFAULT;
	ret = rogue_locate(&locate);
	if (!ret && copy_to_user(user, &locate, sizeof(locate)))
		ret = -EFAULT;
	return ret;
}

static long rogue_ioctl(struct file *file, unsigned int request,
			unsigned long arg)
{
	switch (request) {
	case ROGUE_ATTACK:
		return ioctl_attack((void __user *)arg);
	case ROGUE_LOCATE:
		return ioctl_locate((void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static int rogue_mmap(struct file *file, struct vm_area_struct *vma)
{
	size_t size = vma->vm_end - vma->vm_start;

	if (!is_ram((u64)vma->vm_pgoff << PAGE_SHIFT, size))
		return -EINVAL;

	return remap_pfn_range(vma, vma->vm_start, vma->vm_pgoff, size,
			       vma->vm_page_prot);
}

static const struct file_operations rogue_fops = {
	.owner		= THIS_MODULE,
	.unlocked_ioctl	= rogue_ioctl,
	.mmap		= rogue_mmap,
};

static struct miscdevice rogue_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "rogue",
	.mode	= 0600,
	.fops	= &rogue_fops,
};

static int __init rogue_init(void)
{
	int ret = register_die_notifier(&rogue_die_block);

	if (ret)
		return ret;
	ret = misc_register(&rogue_device);
	if (ret)
		unregister_die_notifier(&rogue_die_block);
	return ret;
}

static void __exit rogue_exit(void)
{
	misc_deregister(&rogue_device);
	unregister_die_notifier(&rogue_die_block);
}

module_init(rogue_init);
module_exit(rogue_exit);

MODULE_DESCRIPTION("Attacks on the guest's own kernel, to be refused by the VMM");
MODULE_LICENSE("GPL");
