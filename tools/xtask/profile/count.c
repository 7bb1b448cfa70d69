/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A QEMU plugin that counts the guest's instructions, block by block, while it is between two
 * places: from `start` to `stop`, or to the first block of user space where `stop` is 0. Where
 * `stop` is `start`, everything from the first time on is counted, and each time is a round.
 *
 * Made for guests whose CPUs take turns on one thread. There QEMU does not say which CPU a block
 * runs on: what the others do within a turn's end is counted, too, and evens out.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The part of QEMU's qemu-plugin.h that is used here, API versions 2 to 6. */
typedef uint64_t plugin_id;
struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 4;

struct block {
	uint64_t address, instructions, runs;
	struct block *next;
};

static struct block *blocks;
static uint64_t start, stop, rounds;
static int counting;
static const char *out;

static void executed(unsigned cpu, void *data)
{
	struct block *block = data;

	(void)cpu;
	if (block->address == start) {
		rounds += !counting || stop == start;
		counting = 1;
	} else if (counting && (stop ? block->address == stop : !(block->address >> 63))) {
		counting = 0;
	}
	block->runs += counting;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
	struct block *block = calloc(1, sizeof(*block));

	(void)id;
	if (!block)
		abort();
	block->address = qemu_plugin_tb_vaddr(tb);
	block->instructions = qemu_plugin_tb_n_insns(tb);
	block->next = blocks;
	blocks = block;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, block);
}

/* A line for each block: address, instructions, how often; before them, the rounds. */
static void finished(plugin_id id, void *data)
{
	FILE *file = fopen(out, "w");

	(void)id;
	(void)data;
	if (!file)
		return;
	fprintf(file, "%llu\n", (unsigned long long)rounds);
	for (struct block *block = blocks; block; block = block->next)
		if (block->runs)
			fprintf(file, "%llx %llu %llu\n", (unsigned long long)block->address,
				(unsigned long long)block->instructions, (unsigned long long)block->runs);
	fclose(file);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int count, char **options)
{
	(void)info;
	for (int i = 0; i < count; i++) {
		char *value = strchr(options[i], '=');

		if (!value)
			return -1;
		value++;
		if (!strncmp(options[i], "start=", 6))
			start = strtoull(value, NULL, 16);
		else if (!strncmp(options[i], "stop=", 5))
			stop = strtoull(value, NULL, 16);
		else if (!strncmp(options[i], "out=", 4))
			out = strdup(value);
	}
	if (!start || !out)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, finished, NULL);
	return 0;
}
