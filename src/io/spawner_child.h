/* A child between fork and exec. */
#pragma once

#include "base/compiler.h"
#include "spawner_confine.h"
#include "spawner_wire.h"

/* What a child that cannot start says through the pipe that execve(2) would have closed. */
struct child_failure {
    uint32_t stage;
    int32_t error;
};

/* Becomes the program, or writes a struct child_failure to report_fd and exits. */
NO_RETURN void child_run(const struct order *order, const int fds[static SPAWNER_FDS],
                         int report_fd, pid_t spawner, const struct confinement *confinement);
