// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - the command line
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attrvmm.h"

#define MAX_CPUS	64

static const char usage[] =
"usage: attrvmm --kernel BZIMAGE [option...]\n"
"\n"
"Boot a Linux kernel in a small KVM machine whose RAM may be private: memory\n"
"that the guest uses and that no other program on the host can map or read.\n"
"\n"
"  --kernel FILE         bzImage, booted through the 64-bit protocol\n"
"  --initrd FILE         its initramfs\n"
"  --append ARGS         its command line (console=ttyS0)\n"
"  --mem MIB             RAM (256)\n"
"  --cpus N              virtual CPUs (1)\n"
"  --vm-type TYPE        sw-protected: a VM with private memory; default: an\n"
"                        ordinary one (sw-protected)\n"
"  --private-above MIB   RAM from here on starts out private (16); kernel and\n"
"                        initramfs are loaded below, as only the guest\n"
"                        can write to private memory\n"
"  --shared-backing B    anon, tmpfs or hugetlb: what backs shared pages (anon)\n"
"  --private-backing B   4k, 2m (2 MiB where possible), 4k-hidden or 2m-hidden\n"
"                        (out of the host kernel's direct map): what backs\n"
"                        private pages (4k)\n"
"  --on-fault ACTION     convert or stop: what to do when the guest's access\n"
"                        does not fit the state of the page (convert)\n"
"  --doorbell            give the guest the port of doorbell.h, through which\n"
"                        it can make this program attack its memory\n"
"  --harden VMLINUX      once the guest says through the doorbell that it is up:\n"
"                        its kernel's text and rodata can no longer be written,\n"
"                        its data not executed, a page of secrets not touched;\n"
"                        VMLINUX is the ELF image that is packed in --kernel\n"
"  --save-attributes FILE     when the guest has ended, write the attributes of\n"
"                        its memory, a line per extent\n"
"  --restore-attributes FILE  start with these, instead of --private-above;\n"
"                        kernel and initramfs need shared memory, as above\n"
"  --console FILE        where the guest's serial console goes (stdout)\n"
"  --timeout SECONDS     stop a guest that has not ended by then (never)\n"
"  --help                this text\n"
"\n"
"What comes on standard input goes to the guest's console.  The guest ends the\n"
"program by a reset (reboot -f).\n"
"\n"
"Exit status: 0 the guest ended well, 1 it crashed, hung or reported a fault,\n"
"2 wrong usage, 3 the host refused something; one line then says what fixes it.\n";

enum option_id {
	OPT_KERNEL = 1, OPT_INITRD, OPT_APPEND, OPT_MEM, OPT_CPUS, OPT_VM_TYPE,
	OPT_PRIVATE_ABOVE, OPT_BACKING, OPT_PRIVATE_BACKING, OPT_ON_FAULT,
	OPT_DOORBELL, OPT_HARDEN, OPT_SAVE, OPT_RESTORE, OPT_CONSOLE,
	OPT_TIMEOUT, OPT_HELP,
};

static const struct option long_options[] = {
	{ "kernel",		required_argument, NULL, OPT_KERNEL },
	{ "initrd",		required_argument, NULL, OPT_INITRD },
	{ "append",		required_argument, NULL, OPT_APPEND },
	{ "mem",		required_argument, NULL, OPT_MEM },
	{ "cpus",		required_argument, NULL, OPT_CPUS },
	{ "vm-type",		required_argument, NULL, OPT_VM_TYPE },
	{ "private-above",	required_argument, NULL, OPT_PRIVATE_ABOVE },
	{ "shared-backing",	required_argument, NULL, OPT_BACKING },
	{ "private-backing",	required_argument, NULL, OPT_PRIVATE_BACKING },
	{ "on-fault",		required_argument, NULL, OPT_ON_FAULT },
	{ "doorbell",		no_argument,       NULL, OPT_DOORBELL },
	{ "harden",		required_argument, NULL, OPT_HARDEN },
	{ "save-attributes",	required_argument, NULL, OPT_SAVE },
	{ "restore-attributes",	required_argument, NULL, OPT_RESTORE },
	{ "console",		required_argument, NULL, OPT_CONSOLE },
	{ "timeout",		required_argument, NULL, OPT_TIMEOUT },
	{ "help",		no_argument,       NULL, OPT_HELP },
	{ }
};

static const char * const backings[] = {
	[BACKING_ANON]		= "anon",
	[BACKING_TMPFS]		= "tmpfs",
	[BACKING_HUGETLB]	= "hugetlb",
};

static const char * const private_backings[] = {
	"4k", "2m", "4k-hidden", "2m-hidden",
};

static const __u64 private_backing_flags[] = {
	0,
	KVM_GUEST_MEMFD_HUGE_PAGES,
	KVM_GUEST_MEMFD_NO_DIRECT_MAP,
	KVM_GUEST_MEMFD_HUGE_PAGES | KVM_GUEST_MEMFD_NO_DIRECT_MAP,
};

static const char * const vm_types[] = {
	[KVM_X86_DEFAULT_VM]		= "default",
	[KVM_X86_SW_PROTECTED_VM]	= "sw-protected",
};

static const char * const fault_actions[] = { "stop", "convert" };

const char *backing_name(enum backing backing)
{
	return backings[backing];
}

const char *vm_type_name(unsigned long type)
{
	return vm_types[type];
}

static unsigned long parse_number(const char *name, const char *text,
				  unsigned long min, unsigned long max)
{
	unsigned long value;
	char *end;

	value = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || value < min || value > max)
		die(STATUS_USAGE, "--%s %s: want a number from %lu to %lu",
		    name, text, min, max);
	return value;
}

static unsigned int parse_name(const char *name, const char *text,
			       const char * const *names, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (!strcmp(text, names[i]))
			return i;

	fprintf(stderr, "attrvmm: --%s %s: want one of", name, text);
	for (i = 0; i < nr; i++)
		fprintf(stderr, " %s", names[i]);
	fputc('\n', stderr);
	exit(STATUS_USAGE);
}

static void parse_option(struct options *opt, int id, const char *name)
{
	unsigned int i;

	switch (id) {
	case OPT_KERNEL:
		opt->kernel = optarg;
		break;
	case OPT_INITRD:
		opt->initrd = optarg;
		break;
	case OPT_APPEND:
		opt->append = optarg;
		break;
	case OPT_MEM:
		opt->mem = parse_number(name, optarg, 32, 1 << 20) * MIB;
		break;
	case OPT_CPUS:
		opt->cpus = parse_number(name, optarg, 1, MAX_CPUS);
		break;
	case OPT_VM_TYPE:
		opt->vm_type = parse_name(name, optarg, vm_types,
					  ARRAY_SIZE(vm_types));
		break;
	case OPT_PRIVATE_ABOVE:
		opt->private_above = parse_number(name, optarg, 2, 1 << 20) * MIB;
		break;
	case OPT_BACKING:
		opt->backing = parse_name(name, optarg, backings,
					  ARRAY_SIZE(backings));
		break;
	case OPT_PRIVATE_BACKING:
		i = parse_name(name, optarg, private_backings,
			       ARRAY_SIZE(private_backings));
		opt->memfd_flags = private_backing_flags[i];
		break;
	case OPT_ON_FAULT:
		opt->convert_on_fault = parse_name(name, optarg, fault_actions,
						   ARRAY_SIZE(fault_actions));
		break;
	case OPT_DOORBELL:
		opt->doorbell = true;
		break;
	case OPT_HARDEN:
		opt->harden = optarg;
		break;
	case OPT_SAVE:
		opt->save = optarg;
		break;
	case OPT_RESTORE:
		opt->restore = optarg;
		break;
	case OPT_CONSOLE:
		opt->console = optarg;
		break;
	case OPT_TIMEOUT:
		opt->timeout = parse_number(name, optarg, 1, 1 << 20);
		break;
	case OPT_HELP:
		fputs(usage, stdout);
		exit(STATUS_OK);
	default:
		/* getopt_long() has said what is wrong. */
		die(STATUS_USAGE, "attrvmm --help lists the options");
	}
}

void parse_options(struct options *opt, int argc, char **argv)
{
	int id, index = 0;

	*opt = (struct options) {
		.append = "console=ttyS0",
		.mem = 256 * MIB,
		.private_above = 16 * MIB,
		.cpus = 1,
		.vm_type = KVM_X86_SW_PROTECTED_VM,
		.convert_on_fault = true,
	};

	while ((id = getopt_long(argc, argv, "", long_options, &index)) != -1)
		parse_option(opt, id, long_options[index].name);

	if (optind < argc)
		die(STATUS_USAGE, "%s: not an option; attrvmm --help lists them",
		    argv[optind]);
	if (!opt->kernel)
		die(STATUS_USAGE, "no kernel: give --kernel BZIMAGE");
	if (opt->harden && !opt->doorbell)
		die(STATUS_USAGE,
		    "--harden: the guest says through the doorbell that it is up: add --doorbell");
	if (opt->vm_type == KVM_X86_DEFAULT_VM)
		opt->private_above = NOTHING_PRIVATE;
	else if (opt->private_above > opt->mem)
		die(STATUS_USAGE, "--private-above is more than --mem (%llu MiB)",
		    opt->mem / MIB);
}
