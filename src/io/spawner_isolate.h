/* Builds the isolation in the spawner, once, for all children; and proves it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "io/spawner.h"
#include "spawner_confine.h"

struct isolation_request {
    const char *hide_path; /* canonical */
    const char *cwd;       /* of the gateway, to be entered again behind the covers; NULL: "/" */
    pid_t gateway;
    uint64_t gateway_caps; /* a user namespace gives all: children get none that the gateway did not
                              have */
    bool allow_landlock;
    bool allow_brokers;
    bool has_new_namespaces; /* this process is the first in its own mount and PID namespaces */
};

/*
 * 0 and the confinement, verified; -errno and the stage when the method is not to be had. The
 * process is of no more use after a failure.
 */
MUST_CHECK int isolation_build(const struct isolation_request *request,
                               struct confinement *ret_confinement, enum spawner_stage *ret_stage);

/* The paths that lead to the directory, as of now: its own and those through other mounts. */
MUST_CHECK int hidden_paths_find(const char *hide_path, struct hidden_paths *ret_hidden);
void hidden_paths_deinit(struct hidden_paths *hidden);
