// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - where the kernel is that the guest runs
 *
 * The bzImage says neither where text and rodata are, nor how long they are; the
 * ELF image that is packed in it does.  So --harden takes that image, and finds it
 * again in the guest:
 *
 *   1. MSR_LSTAR points to the entry of system calls, which is in the text.  KVM
 *      translates it by the guest's page tables.
 *   2. Of the places at which the kernel, moved in steps of its alignment, would
 *      have that address in its text, the one is right where RAM holds the text
 *      of the image.  Not all of it: Linux patches itself when it boots.
 *
 * Private RAM cannot be compared.  Then the kernel must be where the image says,
 * in virtual as in physical memory ("nokaslr").
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attrvmm.h"

#define MSR_LSTAR	0xc0000082
/* Linux patches some percent of its text; elsewhere few bytes agree by chance. */
#define MIN_PERCENT	75
#define SAMPLE_STEP	(16 * PAGE_SIZE)

struct elf {
	const char *name;
	const unsigned char *map;
	__u64 size;
	const Elf64_Ehdr *header;
	const Elf64_Phdr *segment;
	const Elf64_Shdr *section;
	const char *names;
	__u64 names_size;
};

static const void *part_of_file(const struct elf *elf, __u64 offset, __u64 size)
{
	if (!range_within(offset, size, elf->size))
		die(STATUS_USAGE, "%s: the file is cut short", elf->name);
	return elf->map + offset;
}

static void map_file(struct elf *elf)
{
	struct stat st;
	int fd;

	fd = open(elf->name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		die(STATUS_USAGE, "--harden %s: %s", elf->name, strerror(errno));
	elf->size = st.st_size;
	elf->map = mmap(NULL, elf->size ?: 1, PROT_READ, MAP_PRIVATE, fd, 0);
	if (elf->map == MAP_FAILED)
		die(STATUS_USAGE, "--harden %s: %s", elf->name, strerror(errno));
	close(fd);
}

static void open_elf(struct elf *elf)
{
	const Elf64_Ehdr *header;
	const Elf64_Shdr *names;

	map_file(elf);
	if (elf->size < sizeof(*header) ||
	    memcmp(elf->map, ELFMAG, SELFMAG) ||
	    elf->map[EI_CLASS] != ELFCLASS64)
		die(STATUS_USAGE,
		    "--harden %s: not a 64-bit ELF image: unpack the kernel (scripts/extract-vmlinux)",
		    elf->name);

	header = part_of_file(elf, 0, sizeof(*header));
	elf->header = header;
	elf->segment = part_of_file(elf, header->e_phoff,
				    header->e_phnum * sizeof(*elf->segment));
	elf->section = part_of_file(elf, header->e_shoff,
				    header->e_shnum * sizeof(*elf->section));
	if (header->e_shstrndx >= header->e_shnum)
		die(STATUS_USAGE, "--harden %s: no names of sections", elf->name);
	names = &elf->section[header->e_shstrndx];
	elf->names = part_of_file(elf, names->sh_offset, names->sh_size);
	elf->names_size = names->sh_size;
}

static const Elf64_Shdr *find_section(const struct elf *elf, const char *name)
{
	size_t size = strlen(name) + 1;
	const Elf64_Shdr *section;
	unsigned int i;

	for (i = 1; i < elf->header->e_shnum; i++) {
		section = &elf->section[i];
		if (range_within(section->sh_name, size, elf->names_size) &&
		    !memcmp(elf->names + section->sh_name, name, size))
			return section;
	}
	die(STATUS_USAGE, "--harden %s: no section %s: is it a Linux kernel?",
	    elf->name, name);
}

/* What is loaded as one piece, and has the section in it. */
static const Elf64_Phdr *segment_of(const struct elf *elf,
				    const Elf64_Shdr *section)
{
	const Elf64_Phdr *segment;
	unsigned int i;

	for (i = 0; i < elf->header->e_phnum; i++) {
		segment = &elf->segment[i];
		if (segment->p_type == PT_LOAD &&
		    section->sh_addr >= segment->p_vaddr &&
		    range_within(section->sh_addr - segment->p_vaddr,
				 section->sh_size, segment->p_memsz))
			return segment;
	}
	die(STATUS_USAGE,
	    "--harden %s: a section in no segment: is it a Linux kernel?",
	    elf->name);
}

/* A section, or all of its segment from its start on. */
static struct image_range range_from(const struct elf *elf, const char *name,
				     bool whole_segment)
{
	const Elf64_Shdr *section = find_section(elf, name);
	const Elf64_Phdr *segment = segment_of(elf, section);
	__u64 skip = section->sh_addr - segment->p_vaddr;
	struct image_range range = {
		.gpa = segment->p_paddr + skip,
		.size = whole_segment ? segment->p_memsz - skip :
					section->sh_size,
	};

	if (range.gpa % PAGE_SIZE)
		die(STATUS_USAGE,
		    "--harden %s: %s does not start with a page: is it a Linux kernel?",
		    elf->name, name);
	range.bytes = part_of_file(elf, section->sh_offset, section->sh_size);
	return range;
}

static __u64 page_align_up(__u64 size)
{
	return (size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
}

/*
 * What is read-only lasts to the end of its last page.  What follows data is freed
 * after boot and becomes anything, so data ends with its last whole page.  .bss is
 * left alone for the same reason: Linux frees parts of it.
 */
void open_kernel_image(struct kernel_image *image, const char *name)
{
	struct elf elf = { .name = name };
	const Elf64_Phdr *segment;

	open_elf(&elf);
	segment = segment_of(&elf, find_section(&elf, ".text"));
	*image = (struct kernel_image) {
		.name = name,
		.virt_minus_phys = segment->p_vaddr - segment->p_paddr,
		.align = segment->p_align,
		.text = range_from(&elf, ".text", false),
		.rodata = range_from(&elf, ".rodata", true),
		.data = range_from(&elf, ".data", true),
	};
	if (!image->align || image->align % PAGE_SIZE)
		die(STATUS_USAGE,
		    "--harden %s: text is not aligned to pages: is it a Linux kernel?",
		    name);
	image->rodata.size = page_align_up(image->rodata.size);
	image->data.size &= ~(PAGE_SIZE - 1);
}

/* How much of the text is in RAM, were it at gpa, judged by samples. */
static unsigned int percent_same(struct ram *ram,
				 const struct image_range *text, __u64 gpa)
{
	const unsigned char *hva = shared_gpa_to_hva(ram, gpa, text->size);
	__u64 start, i, same = 0, all = 0;

	if (!hva)
		return 0;

	for (start = 0; start + PAGE_SIZE <= text->size; start += SAMPLE_STEP)
		for (i = start; i < start + PAGE_SIZE; i++, all++)
			same += hva[i] == text->bytes[i];
	return all ? same * 100 / all : 0;
}

static bool entry_point(struct vcpu *vcpu, __u64 *virt, __u64 *phys)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry lstar;
	} msrs = { .head.nmsrs = 1, .lstar.index = MSR_LSTAR };
	struct kvm_translation translation = { };

	if (ioctl(vcpu->fd, KVM_GET_MSRS, &msrs) != 1)
		return false;
	translation.linear_address = msrs.lstar.data;
	must_ioctl(vcpu->fd, KVM_TRANSLATE, &translation, "a kernel bug");
	*virt = msrs.lstar.data;
	*phys = translation.physical_address;
	return translation.valid;
}

static void move_image(struct kernel_image *image, __u64 by)
{
	image->text.gpa += by;
	image->rodata.gpa += by;
	image->data.gpa += by;
}

/* Returns false if it is not there.  Moves @image to where it is. */
bool locate_kernel_image(struct vcpu *vcpu, struct kernel_image *image)
{
	const struct image_range *text = &image->text;
	__u64 virt, phys, first, gpa, best_gpa = 0;
	unsigned int percent, best = 0;

	if (!entry_point(vcpu, &virt, &phys))
		return false;

	/* The lowest place from which the text still reaches up to phys. */
	first = phys < text->size ? 0 : phys - text->size + 1;
	first += (text->gpa - first) % image->align;
	for (gpa = first; gpa <= phys; gpa += image->align) {
		percent = percent_same(&vcpu->vm->ram, text, gpa);
		if (percent > best) {
			best = percent;
			best_gpa = gpa;
		}
	}
	if (best >= MIN_PERCENT) {
		image->same_percent = best;
		move_image(image, best_gpa - text->gpa);
		return true;
	}
	return !shared_gpa_to_hva(&vcpu->vm->ram, text->gpa, text->size) &&
	       phys >= text->gpa && phys - text->gpa < text->size &&
	       virt - phys == image->virt_minus_phys;
}
