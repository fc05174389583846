// SPDX-License-Identifier: GPL-2.0
/*
 * Plugin for QEMU's TCG: which code is executed while something is measured.
 *
 * mem_attrs_bench executes "nopl 0x6b766d01(%rax)" where it starts to measure and
 * "nopl 0x6b766d02(%rax)" where it stops.  In between, executions of each
 * translated block are counted.  At the end every block that ran is written as
 * "ADDRESS INSTRUCTIONS EXECUTIONS", after the number of measurements.
 *
 * An exception in the middle of a block counts all of it: sums are some 1 % above
 * the clock.
 *
 * Arguments: out=FILE, skip=N: measurements to leave out at first.
 *
 * The interface is declared here, as distributions do not ship its header.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;

struct tb;
struct insn;

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id,
					   void (*cb)(plugin_id, struct tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct tb *tb,
					  void (*cb)(unsigned int, void *),
					  int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct insn *insn,
					    void (*cb)(unsigned int, void *),
					    int flags, void *data);
void qemu_plugin_register_atexit_cb(plugin_id id,
				    void (*cb)(plugin_id, void *), void *data);
size_t qemu_plugin_tb_n_insns(const struct tb *tb);
struct insn *qemu_plugin_tb_get_insn(const struct tb *tb, size_t idx);
const void *qemu_plugin_insn_data(const struct insn *insn);
size_t qemu_plugin_insn_size(const struct insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct insn *insn);

EXPORT int qemu_plugin_version = 1;

/* A block that was translated; one address can have several, one by one. */
struct block {
	struct block *next;
	uint64_t address;
	uint64_t insns;
	uint64_t runs;
};

static struct block *blocks;
static const char *out;
static uint64_t skip, started;
static bool counting;

static void block_runs(unsigned int cpu, void *data)
{
	struct block *block = data;

	(void)cpu;
	block->runs += counting;
}

static void measuring_starts(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	counting = ++started > skip;
}

static void measuring_stops(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	counting = false;
}

static void look_for_marks(struct insn *insn)
{
	static const uint8_t starts[] = { 0x0f, 0x1f, 0x80, 1, 0x6d, 0x76, 0x6b };
	static const uint8_t stops[] = { 0x0f, 0x1f, 0x80, 2, 0x6d, 0x76, 0x6b };
	const void *code = qemu_plugin_insn_data(insn);

	if (qemu_plugin_insn_size(insn) != sizeof(starts))
		return;
	if (!memcmp(code, starts, sizeof(starts)))
		qemu_plugin_register_vcpu_insn_exec_cb(insn, measuring_starts,
						       0, NULL);
	if (!memcmp(code, stops, sizeof(stops)))
		qemu_plugin_register_vcpu_insn_exec_cb(insn, measuring_stops,
						       0, NULL);
}

static void block_translated(plugin_id id, struct tb *tb)
{
	struct block *block = calloc(1, sizeof(*block));
	size_t i;

	(void)id;
	if (!block)
		abort();
	block->insns = qemu_plugin_tb_n_insns(tb);
	block->address = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
	block->next = blocks;
	blocks = block;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, block_runs, 0, block);
	for (i = 0; i < block->insns; i++)
		look_for_marks(qemu_plugin_tb_get_insn(tb, i));
}

static void machine_ends(plugin_id id, void *data)
{
	struct block *block;
	FILE *f;

	(void)id;
	(void)data;
	f = fopen(out, "w");
	if (!f)
		return;
	fprintf(f, "%lu\n", started > skip ? started - skip : 0);
	for (block = blocks; block; block = block->next)
		if (block->runs)
			fprintf(f, "%lx %lu %lu\n", block->address,
				block->insns, block->runs);
	fclose(f);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc,
			       char **argv)
{
	int i;

	(void)info;
	for (i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4))
			out = strdup(argv[i] + 4);
		if (!strncmp(argv[i], "skip=", 5))
			skip = strtoull(argv[i] + 5, NULL, 0);
	}
	if (!out)
		return -1;

	qemu_plugin_register_vcpu_tb_trans_cb(id, block_translated);
	qemu_plugin_register_atexit_cb(id, machine_ends, NULL);
	return 0;
}
