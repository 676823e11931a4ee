/*
 * The packets between the gateway and its spawner. Both ends are the same binary, so integers
 * travel as the machine has them; still every length is checked on both sides, because a mistake
 * here is a mistake in the process that holds the privileges.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "base/slice.h"
#include "io/spawner.h"

#define SPAWNER_PACKET_MAX   KIB(128)
#define SPAWNER_STRINGS_MAX  16384u /* of argv, and of envp */
#define SPAWNER_CHILDREN_MAX 4096u
#define SPAWNER_FDS          3u

/* Where a start failed; spawner_stage_name() says it in words. */
enum spawner_stage {
    STAGE_NONE,
    STAGE_RECEIVE,
    STAGE_IDENTIFY,
    STAGE_LIMIT,
    STAGE_FORK,
    STAGE_SESSION,
    STAGE_DESCRIPTORS,
    STAGE_LIMITS,
    STAGE_CHANGE_USER,
    STAGE_PRIVILEGES,
    STAGE_LANDLOCK,
    STAGE_SECCOMP,
    STAGE_DIRECTORY,
    STAGE_EXECUTE,
    /* of the isolation */
    STAGE_NAMESPACES,
    STAGE_ID_MAP,
    STAGE_MOUNT_PRIVATE,
    STAGE_FIND_HIDDEN,
    STAGE_COVER,
    STAGE_DEVICES,
    STAGE_VERIFY,
    STAGE_SETUP,
};

/* A fixed string, also for numbers that are none of the above. */
const char *spawner_stage_name(uint32_t stage);

enum order_kind { ORDER_SPAWN = 1, ORDER_SIGNAL };

/* The head of an order. ORDER_SPAWN is followed by argc + envc strings and the cwd, each with its
 * NUL. */
struct order_head {
    uint64_t id;
    uint32_t kind;
    int32_t signal;
    uint32_t change_user;
    uint32_t uid;
    uint32_t gid;
    uint32_t argc;
    uint32_t envc;
    uint32_t has_cwd;
    uint32_t strings; /* their bytes */
    uint32_t reserved;
};

struct order {
    struct order_head head;
    char **argv; /* NULL-terminated; these three lie in `block` */
    char **envp;
    char *cwd; /* or NULL */
    void *block;
};

/* Appends the packet. 0, -E2BIG, -ENOMEM, -EINVAL (no argv[0]). */
MUST_CHECK int order_encode_spawn(const struct spawner_command *command, struct buf *packet);
/* The strict reverse of both orders. 0, -EPROTO, -ENOMEM. */
MUST_CHECK int order_decode(struct slice packet, struct order *ret_order);
void order_deinit(struct order *order);

struct event_packet {
    uint64_t id;
    uint32_t kind;
    uint32_t stage;
    int32_t pid;
    int32_t error;
    int32_t status;
    uint32_t reserved;
};

/* 0 or -EPROTO. */
MUST_CHECK int event_decode(struct slice packet, struct spawner_event *ret_event);

/*
 * The handshake of an attempt: the spawner says HELLO, waits for the gateway to have written its id
 * maps (the answer is one packet of any content), builds, and says READY or FAILED.
 */
enum hello_kind { HELLO_WAITS = 1, HELLO_READY, HELLO_FAILED };

struct hello_packet {
    uint32_t kind;
    uint32_t stage;
    int32_t error;
    uint32_t has_pid_namespace;
};
