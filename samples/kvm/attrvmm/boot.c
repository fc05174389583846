// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - load a bzImage for the 64-bit boot protocol
 * (Documentation/x86/boot.rst)
 *
 * Whatever this file writes must lie in shared RAM, as the VMM has no way into
 * private memory.  That suits the protocol: the compressed kernel is loaded low
 * and unpacks itself, in the guest, to its preferred address at 16 MiB.  So the
 * running kernel is in private memory and only these stay in shared memory:
 *
 *   0x00000500  GDT
 *   0x00007000  boot_params
 *   0x00009000  page tables: the first 4 GiB, identity mapped
 *   0x00020000  command line
 *   0x000f0000  MP tables (mptable.c)
 *   0x00100000  the compressed kernel
 *   above it    initramfs, ending at the preferred address of the kernel, or
 *               beyond what the kernel needs to unpack itself
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attrvmm.h"

#define GDT_ADDR		0x500
#define BOOT_PARAMS_ADDR	0x7000
#define PAGE_TABLES_ADDR	0x9000
#define CMDLINE_ADDR		0x20000
#define KERNEL_ADDR		0x100000
#define EBDA_ADDR		0x9fc00

#define SETUP_MAGIC		0x53726448	/* "HdrS" */
#define SETUP_VERSION		0x020c		/* 64-bit entry, init_size */
#define SETUP_HEADER		0x1f1
#define SECTOR			512
#define ENTRY_64		0x200
#define E820_TYPE_RAM		1
#define LOADER_TYPE_OTHER	0xff

#define PTE_PRESENT		_BITULL(0)
#define PTE_WRITABLE		_BITULL(1)
#define PTE_HUGE		_BITULL(7)
#define PTES			512

struct file {
	const char *name;
	int fd;
	__u64 size;
};

static struct file open_file(const char *name)
{
	struct file file = { .name = name };
	struct stat st;

	file.fd = open(name, O_RDONLY | O_CLOEXEC);
	if (file.fd < 0 || fstat(file.fd, &st))
		die(STATUS_USAGE, "%s: %s", name, strerror(errno));
	file.size = st.st_size;
	return file;
}

static void read_file(const struct file *file, void *buf, __u64 size,
		      __u64 offset)
{
	ssize_t got;

	for (; size; buf += got, size -= got, offset += got) {
		got = pread(file->fd, buf, size, offset);
		if (got < 0)
			die(STATUS_HOST, "%s: %s", file->name, strerror(errno));
		if (!got)
			die(STATUS_USAGE, "%s: the file is cut short", file->name);
	}
}

static void *shared_ram(struct vm *vm, __u64 gpa, __u64 size, const char *what)
{
	if (!range_within(gpa, size, vm->opt.private_above))
		die(STATUS_USAGE,
		    "the %s needs shared RAM up to %llu MiB: raise --private-above (and --mem)",
		    what, (gpa + size + MIB - 1) / MIB);
	return gpa_to_hva(&vm->ram, gpa, size);
}

static void read_setup_header(const struct file *kernel,
			      struct setup_header *hdr)
{
	if (kernel->size < SETUP_HEADER + sizeof(*hdr))
		die(STATUS_USAGE, "%s: too short for a bzImage", kernel->name);

	read_file(kernel, hdr, sizeof(*hdr), SETUP_HEADER);
	if (hdr->header != SETUP_MAGIC)
		die(STATUS_USAGE,
		    "%s: not a bzImage: give arch/x86/boot/bzImage or /boot/vmlinuz-*",
		    kernel->name);
	if (hdr->version < SETUP_VERSION || !(hdr->xloadflags & XLF_KERNEL_64))
		die(STATUS_USAGE,
		    "%s: no 64-bit entry point (boot protocol %x.%02x): give a 64-bit Linux 3.8 or later",
		    kernel->name, hdr->version >> 8, hdr->version & 0xff);
	if (!hdr->relocatable_kernel)
		die(STATUS_USAGE,
		    "%s: not relocatable, but it cannot be loaded where it wants to run: build it with CONFIG_RELOCATABLE",
		    kernel->name);
}

/* Returns where the loaded image ends. */
static __u64 load_kernel(struct vm *vm, const struct file *kernel,
			 const struct setup_header *hdr)
{
	__u64 setup = ((hdr->setup_sects ?: 4) + 1) * SECTOR;
	__u64 size = kernel->size - setup;
	__u64 unpacked = hdr->pref_address + hdr->init_size;

	if (setup >= kernel->size)
		die(STATUS_USAGE, "%s: the file is cut short", kernel->name);
	if (unpacked > vm->ram.region[0].size)
		die(STATUS_USAGE, "%s unpacks itself up to %llu MiB: raise --mem",
		    kernel->name, (unpacked + MIB - 1) / MIB);

	read_file(kernel, shared_ram(vm, KERNEL_ADDR, size, "compressed kernel"),
		  size, setup);
	return KERNEL_ADDR + size;
}

/* Below where the kernel unpacks itself if it fits there, else above. */
static __u64 place_initrd(const struct vm *vm, const struct setup_header *hdr,
			  __u64 kernel_end, __u64 size)
{
	__u64 top = hdr->pref_address;

	if (top > vm->opt.private_above)
		top = vm->opt.private_above;
	if (kernel_end < top && size <= top - kernel_end)
		return (top - size) & ~(PAGE_SIZE - 1);
	top = hdr->pref_address + hdr->init_size;
	return (top + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
}

static void load_initrd(struct vm *vm, struct setup_header *hdr,
			__u64 kernel_end)
{
	struct file initrd;
	__u64 gpa;

	if (!vm->opt.initrd)
		return;

	initrd = open_file(vm->opt.initrd);
	if (!initrd.size)
		die(STATUS_USAGE, "%s: the file is empty", initrd.name);
	gpa = place_initrd(vm, hdr, kernel_end, initrd.size);
	read_file(&initrd, shared_ram(vm, gpa, initrd.size, "initramfs"),
		  initrd.size, 0);
	hdr->ramdisk_image = gpa;
	hdr->ramdisk_size = initrd.size;
	close(initrd.fd);
}

static void write_cmdline(struct vm *vm, struct setup_header *hdr)
{
	size_t size = strlen(vm->opt.append) + 1;

	if (size > hdr->cmdline_size)
		die(STATUS_USAGE, "--append: the kernel takes at most %u characters",
		    hdr->cmdline_size);
	memcpy(shared_ram(vm, CMDLINE_ADDR, size, "command line"),
	       vm->opt.append, size);
	hdr->cmd_line_ptr = CMDLINE_ADDR;
}

static void add_e820(struct boot_params *params, __u64 start, __u64 end)
{
	params->e820_table[params->e820_entries++] = (struct boot_e820_entry) {
		.addr = start,
		.size = end - start,
		.type = E820_TYPE_RAM,
	};
}

static void write_boot_params(struct vm *vm, const struct setup_header *hdr)
{
	const struct ram *ram = &vm->ram;
	struct boot_params *params;

	params = shared_ram(vm, BOOT_PARAMS_ADDR, sizeof(*params), "boot_params");
	memset(params, 0, sizeof(*params));
	params->hdr = *hdr;
	params->hdr.type_of_loader = LOADER_TYPE_OTHER;
	add_e820(params, 0, EBDA_ADDR);
	add_e820(params, KERNEL_ADDR, ram->region[0].size);
	if (ram->nr_regions > 1)
		add_e820(params, ram->region[1].gpa,
			 ram->region[1].gpa + ram->region[1].size);
}

/* PML4, one page of PDPTEs, four pages of 2 MiB PDEs. */
static void write_page_tables(struct vm *vm)
{
	__u64 *pml4 = shared_ram(vm, PAGE_TABLES_ADDR, 6 * PAGE_SIZE,
				 "page tables");
	__u64 *pdpt = pml4 + PTES, *pd = pdpt + PTES;
	__u64 flags = PTE_PRESENT | PTE_WRITABLE;
	unsigned int i;

	memset(pml4, 0, 6 * PAGE_SIZE);
	pml4[0] = (PAGE_TABLES_ADDR + PAGE_SIZE) | flags;
	for (i = 0; i < 4; i++)
		pdpt[i] = (PAGE_TABLES_ADDR + (2 + i) * PAGE_SIZE) | flags;
	for (i = 0; i < 4 * PTES; i++)
		pd[i] = i * 2 * MIB | flags | PTE_HUGE;
}

/* __BOOT_CS is 0x10 and __BOOT_DS 0x18, as the protocol wants it. */
static __u16 write_gdt(struct vm *vm)
{
	static const __u64 gdt[] = {
		0, 0,
		0x00af9b000000ffff,	/* 64-bit code */
		0x00cf93000000ffff,	/* data */
	};

	memcpy(shared_ram(vm, GDT_ADDR, sizeof(gdt), "GDT"), gdt, sizeof(gdt));
	return sizeof(gdt) - 1;
}

void load_guest(struct vm *vm, struct entry_point *entry)
{
	struct file kernel = open_file(vm->opt.kernel);
	struct setup_header hdr;
	__u64 kernel_end;

	read_setup_header(&kernel, &hdr);
	kernel_end = load_kernel(vm, &kernel, &hdr);
	close(kernel.fd);
	load_initrd(vm, &hdr, kernel_end);
	write_cmdline(vm, &hdr);
	write_boot_params(vm, &hdr);
	write_page_tables(vm);
	write_mptable(&vm->ram, vm->opt.cpus);

	*entry = (struct entry_point) {
		.rip = KERNEL_ADDR + ENTRY_64,
		.boot_params = BOOT_PARAMS_ADDR,
		.page_tables = PAGE_TABLES_ADDR,
		.gdt = GDT_ADDR,
		.gdt_limit = write_gdt(vm),
	};
}
