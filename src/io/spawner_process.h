/* Finding processes in /proc, and ending those that must not go on. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/compiler.h"

/* Appends the whole of a small file. 0 or -errno. */
MUST_CHECK int process_read_file(const char *path, struct buf *text);

/*
 * Calls `visit` for each process whose parent is the caller, zombies included. When /proc belongs
 * to an outer PID namespace, its numbers are translated. 0, or -errno when /proc cannot be read.
 * Single-threaded callers.
 */
int process_each_child(void (*visit)(pid_t pid, void *arg), void *arg);

/*
 * Kills every descendant of the caller, which must be a child subreaper, and reaps them, until
 * there is none or 5 seconds have passed. `is_scoped`: kill(-1) reaches exactly the descendants.
 */
void process_kill_descendants(bool is_scoped);

#define PROCESS_SPARED_MAX 16u

/* What was there before the first order, and so is no orphan of ours: other spawners of this
 * process. */
struct process_mark {
    uint64_t ticks;
    pid_t spared[PROCESS_SPARED_MAX];
    size_t spared_count;
};

void process_mark_set(struct process_mark *ret_mark);
/*
 * Kills and reaps, generation by generation, the caller's children of foreign sessions that were
 * born after the mark: what a dead spawner left to its subreaper.
 */
void process_sweep_orphans(const struct process_mark *mark);
