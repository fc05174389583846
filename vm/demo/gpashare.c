// SPDX-License-Identifier: GPL-2.0
/*
 * gpashare - ask the hypervisor to share pages, from a program
 *
 * A guest whose memory is private shares a page with its VMM by the hypercall
 * KVM_HC_MAP_GPA_RANGE, which only the kernel may make.  This module makes it on a
 * program's behalf, for memory that it allocated itself: a program cannot make
 * the kernel's own pages shared.
 *
 * A conversion loses the contents of the page.  A buffer belongs to one open
 * file and lives until that and all mappings of it are gone; gpashare->lock makes
 * its allocation and conversions happen one at a time.  A page that cannot be
 * made private again is never given back to the kernel, which would keep data in
 * it, but leaked.
 */
#include <asm/processor.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/kvm_para.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "gpashare.h"

/* 4 MiB, the largest block of the page allocator. */
#define GPASHARE_MAX	(PAGE_SIZE << 10)

struct gpashare {
	struct mutex lock;	/* allocation and conversions */
	struct page *pages;
	unsigned int order;
};

static size_t buffer_size(const struct gpashare *share)
{
	return share->pages ? PAGE_SIZE << share->order : 0;
}

/* Modules cannot ask kvm_para_has_feature(). */
static bool has_map_gpa_range(void)
{
	u32 base = hypervisor_cpuid_base("KVMKVMKVM\0\0\0", 0);

	return base && cpuid_eax(base | KVM_CPUID_FEATURES) &
		       BIT(KVM_FEATURE_HC_MAP_GPA_RANGE);
}

static int map_gpa_range(phys_addr_t gpa, size_t size, bool to_private)
{
	unsigned long flags = KVM_MAP_GPA_RANGE_PAGE_SZ_4K;
	long ret;

	if (!has_map_gpa_range())
		return -EOPNOTSUPP;

	flags |= to_private ? KVM_MAP_GPA_RANGE_ENCRYPTED :
			      KVM_MAP_GPA_RANGE_DECRYPTED;
	ret = kvm_hypercall3(KVM_HC_MAP_GPA_RANGE, gpa, size >> PAGE_SHIFT,
			     flags);
	/* KVM's error numbers end in an errno or in its own 1000. */
	return ret == -KVM_ENOSYS ? -EOPNOTSUPP : ret;
}

static int gpashare_open(struct inode *inode, struct file *file)
{
	struct gpashare *share = kzalloc(sizeof(*share), GFP_KERNEL);

	if (!share)
		return -ENOMEM;

	mutex_init(&share->lock);
	file->private_data = share;
	return 0;
}

static int gpashare_release(struct inode *inode, struct file *file)
{
	struct gpashare *share = file->private_data;
	size_t size = buffer_size(share);
	int ret = 0;

	if (share->pages)
		ret = map_gpa_range(page_to_phys(share->pages), size, true);
	if (ret && ret != -EOPNOTSUPP)
		pr_err("gpashare: leaking %zu bytes that cannot be made private: %d\n",
		       size, ret);
	else if (share->pages)
		__free_pages(share->pages, share->order);

	kfree(share);
	return 0;
}

static int gpashare_alloc(struct gpashare *share, struct gpashare_alloc *arg)
{
	if (share->pages)
		return -EBUSY;
	if (arg->size < PAGE_SIZE || arg->size > GPASHARE_MAX ||
	    !is_power_of_2(arg->size))
		return -EINVAL;

	share->order = get_order(arg->size);
	share->pages = alloc_pages(GFP_KERNEL | __GFP_ZERO | __GFP_COMP,
				   share->order);
	if (!share->pages)
		return -ENOMEM;

	arg->gpa = page_to_phys(share->pages);
	return 0;
}

static int gpashare_convert(struct gpashare *share,
			    const struct gpashare_convert *arg)
{
	size_t size = buffer_size(share);

	if (arg->pad || arg->to_private > 1 || !arg->size ||
	    !PAGE_ALIGNED(arg->offset | arg->size) ||
	    arg->offset >= size || arg->size > size - arg->offset)
		return -EINVAL;

	return map_gpa_range(page_to_phys(share->pages) + arg->offset,
			     arg->size, arg->to_private);
}

static long ioctl_alloc(struct gpashare *share, void __user *user)
{
	struct gpashare_alloc arg;
	int ret;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;

	mutex_lock(&share->lock);
	ret = gpashare_alloc(share, &arg);
	mutex_unlock(&share->lock);
	if (!ret && copy_to_user(user, &arg, sizeof(arg)))
		ret = -EFAULT;
	return ret;
}

static long ioctl_convert(struct gpashare *share, void __user *user)
{
	struct gpashare_convert arg;
	int ret;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;

	mutex_lock(&share->lock);
	ret = gpashare_convert(share, &arg);
	mutex_unlock(&share->lock);
	return ret;
}

static long gpashare_ioctl(struct file *file, unsigned int request,
			   unsigned long arg)
{
	void __user *user = (void __user *)arg;

	switch (request) {
	case GPASHARE_ALLOC:
		return ioctl_alloc(file->private_data, user);
	case GPASHARE_CONVERT:
		return ioctl_convert(file->private_data, user);
	default:
		return -ENOTTY;
	}
}

/* A mapping pins the file, and so the buffer. */
static int gpashare_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct gpashare *share = file->private_data;
	size_t size = vma->vm_end - vma->vm_start;
	int ret = -EINVAL;

	mutex_lock(&share->lock);
	if (!vma->vm_pgoff && size <= buffer_size(share))
		ret = remap_pfn_range(vma, vma->vm_start,
				      page_to_pfn(share->pages), size,
				      vma->vm_page_prot);
	mutex_unlock(&share->lock);
	return ret;
}

static const struct file_operations gpashare_fops = {
	.owner		= THIS_MODULE,
	.open		= gpashare_open,
	.release	= gpashare_release,
	.unlocked_ioctl	= gpashare_ioctl,
	.mmap		= gpashare_mmap,
};

static struct miscdevice gpashare_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "gpashare",
	.mode	= 0600,
	.fops	= &gpashare_fops,
};

module_misc_device(gpashare_device);

MODULE_DESCRIPTION("Share guest pages with the VMM through KVM_HC_MAP_GPA_RANGE");
MODULE_LICENSE("GPL");
