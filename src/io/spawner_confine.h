/*
 * What a single process does to itself: capabilities, Landlock, seccomp. Used by the spawner for
 * what it keeps, by every child between fork and exec, and by the probe that verifies the
 * isolation.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "io/spawner.h"
#include "spawner_wire.h"

#define CONFINE_PATHS_MAX 16u

/* The paths under which the hidden directory can be reached: its own, and those of other mounts of
 * the same files. */
struct hidden_paths {
    char *path[CONFINE_PATHS_MAX]; /* mem_free */
    size_t count;
    uint64_t device, inode; /* of the directory, before anything covers it */
};

struct confinement {
    enum spawner_isolation isolation;
    bool has_pid_namespace;
    bool is_scoped;          /* kill(-1) from the spawner reaches its descendants and nobody else */
    bool denies_unix_socket; /* children by seccomp: Landlock does not judge connect(2) to a path */
    bool denies_truncate;    /* Landlock before ABI 3 does not judge truncate(2) */
    int ruleset_fd;          /* Landlock rules that each child takes on, or -1 */
};

/* The effective capabilities of this process as bits. */
uint64_t caps_effective(void);
/* Those which a child of root may keep: none of them leads out of the isolation. */
uint64_t caps_harmless(void);
/* Drops all others from every set, the bounding set included. 0 or -errno. */
MUST_CHECK int caps_limit(uint64_t keep);

/* The version of Landlock that the running kernel has; 0: none. */
int landlock_abi(void);
/*
 * Rules that allow everything but the hidden paths. `is_root`: device nodes, /proc and /sys are
 * restricted, too. 0 and a descriptor, or -errno.
 */
MUST_CHECK int landlock_hide(const struct hidden_paths *hidden, bool is_root, int *ret_fd);
/*
 * Rules that hide no file: a process under them can be traced only from within, and with ABI 6
 * cannot signal or reach by an abstract socket what is outside. -EOPNOTSUPP where the kernel is too
 * old.
 */
MUST_CHECK int landlock_separate(int *ret_fd);
/* The same for signals alone. -EOPNOTSUPP before ABI 6. */
MUST_CHECK int landlock_scope_signals(int *ret_fd);
/* Enters a domain of its own with these rules; needs no_new_privs. 0 or -errno. */
MUST_CHECK int landlock_enter(int ruleset_fd);

/* What a child, or the probe, puts on last. 0, or -errno and the stage. */
MUST_CHECK int confine_self(const struct confinement *confinement, enum spawner_stage *ret_stage);
