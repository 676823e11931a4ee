/* The spawner's own process. */
#pragma once

#include <sys/types.h>

#include "base/compiler.h"
#include "spawner_isolate.h"

/* What the forked process is told; all of it is the memory that it inherits. */
struct server_task {
    int fd;               /* its end of the socket pair */
    bool waits_for_maps;  /* it is in a new user namespace; the gateway writes the maps */
    bool wants_isolation; /* else NONE */
    struct isolation_request request;
};

/* The whole life of the process. */
NO_RETURN void server_main(const struct server_task *task);
