// SPDX-License-Identifier: GPL-2.0
/*
 * attrvmm - the MP table (Intel MultiProcessor Specification 1.4)
 *
 * It tells the guest how many CPUs there are and how the ISA interrupts reach
 * the I/O APIC; there is no ACPI.  The table is at 0xf0000, where guests look
 * for it in BIOS memory.
 */
#include <assert.h>
#include <string.h>

#include "attrvmm.h"

#define MPTABLE_ADDR	0xf0000
#define MPTABLE_MAX	0x10000
#define LAPIC_ADDR	0xfee00000
#define IOAPIC_ADDR	0xfec00000
#define ISA_IRQS	16
#define LAPIC_VERSION	0x14
#define IOAPIC_VERSION	0x11
#define ALL_LAPICS	0xff
#define CPU_ENABLED	1
#define CPU_BOOT	2
#define APIC_ENABLED	1

enum entry_type { MP_CPU, MP_BUS, MP_IOAPIC, MP_IRQ, MP_LOCAL_IRQ };
enum irq_type { MP_INT, MP_NMI, MP_SMI, MP_EXTINT };

struct mp_pointer {
	char signature[4];
	__u32 table;
	__u8 length, version, checksum;
	__u8 features[5];
};

struct mp_table {
	char signature[4];
	__u16 length;
	__u8 version, checksum;
	char oem[8], product[12];
	__u32 oem_table;
	__u16 oem_size, entries;
	__u32 lapic;
	__u16 ext_length;
	__u8 ext_checksum, reserved;
};

struct mp_cpu {
	__u8 type, apic_id, version, flags;
	__u32 signature, features, reserved[2];
};

struct mp_bus {
	__u8 type, id;
	char name[6];
};

struct mp_ioapic {
	__u8 type, id, version, flags;
	__u32 address;
};

struct mp_irq {
	__u8 type, irq_type;
	__u16 flags;
	__u8 bus, irq, apic, pin;
};

static_assert(sizeof(struct mp_pointer) == 16 && sizeof(struct mp_table) == 44 &&
	      sizeof(struct mp_cpu) == 20 && sizeof(struct mp_bus) == 8 &&
	      sizeof(struct mp_ioapic) == 8 && sizeof(struct mp_irq) == 8,
	      "the layouts are the specification's, without padding");

/* Append an entry; both the table's length and its count grow. */
static void add_entry(struct mp_table *table, const void *entry, size_t size)
{
	memcpy((char *)table + table->length, entry, size);
	table->length += size;
	table->entries++;
}

static void add_irq(struct mp_table *table, __u8 type, __u8 irq_type, __u8 irq,
		    __u8 apic, __u8 pin)
{
	struct mp_irq entry = {
		.type = type,
		.irq_type = irq_type,
		.irq = irq,
		.apic = apic,
		.pin = pin,
	};

	add_entry(table, &entry, sizeof(entry));
}

static void add_cpus(struct mp_table *table, unsigned int cpus)
{
	struct mp_cpu cpu = { .type = MP_CPU, .version = LAPIC_VERSION };
	unsigned int i;

	for (i = 0; i < cpus; i++) {
		cpu.apic_id = i;
		cpu.flags = CPU_ENABLED | (i ? 0 : CPU_BOOT);
		add_entry(table, &cpu, sizeof(cpu));
	}
}

static void add_interrupts(struct mp_table *table, __u8 ioapic)
{
	unsigned int i;

	/* KVM's default routing: interrupt n is at pin n, the timer's too. */
	for (i = 0; i < ISA_IRQS; i++)
		add_irq(table, MP_IRQ, MP_INT, i, ioapic, i);
	add_irq(table, MP_LOCAL_IRQ, MP_EXTINT, 0, 0, 0);
	add_irq(table, MP_LOCAL_IRQ, MP_NMI, 0, ALL_LAPICS, 1);
}

/* All bytes, this one included, add up to zero. */
static __u8 checksum(const void *data, size_t size)
{
	const __u8 *byte = data;
	__u8 sum = 0;

	while (size--)
		sum -= *byte++;
	return sum;
}

void write_mptable(struct ram *ram, unsigned int cpus)
{
	struct mp_pointer *pointer = gpa_to_hva(ram, MPTABLE_ADDR, MPTABLE_MAX);
	struct mp_table *table = (void *)(pointer + 1);
	struct mp_bus bus = { .type = MP_BUS, .name = "ISA   " };
	struct mp_ioapic ioapic = {
		.type = MP_IOAPIC,
		.id = cpus,
		.version = IOAPIC_VERSION,
		.flags = APIC_ENABLED,
		.address = IOAPIC_ADDR,
	};

	memset(pointer, 0, MPTABLE_MAX);
	memcpy(table->signature, "PCMP", 4);
	memcpy(table->oem, "ATTRVMM ", 8);
	memcpy(table->product, "SAMPLE      ", 12);
	table->length = sizeof(*table);
	table->version = 4;
	table->lapic = LAPIC_ADDR;
	add_cpus(table, cpus);
	add_entry(table, &bus, sizeof(bus));
	add_entry(table, &ioapic, sizeof(ioapic));
	add_interrupts(table, ioapic.id);
	table->checksum = checksum(table, table->length);

	memcpy(pointer->signature, "_MP_", 4);
	pointer->table = MPTABLE_ADDR + sizeof(*pointer);
	pointer->length = 1;
	pointer->version = 4;
	pointer->checksum = checksum(pointer, sizeof(*pointer));
}
