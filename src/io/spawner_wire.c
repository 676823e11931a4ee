#include "spawner_wire.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"

const char *spawner_stage_name(uint32_t stage) {
    static const char *const names[] = {
        [STAGE_NONE] = "nothing",
        [STAGE_RECEIVE] = "receive descriptors",
        [STAGE_IDENTIFY] = "identify",
        [STAGE_LIMIT] = "limit of children",
        [STAGE_FORK] = "fork",
        [STAGE_SESSION] = "new session",
        [STAGE_DESCRIPTORS] = "descriptors",
        [STAGE_LIMITS] = "resource limits",
        [STAGE_CHANGE_USER] = "change user",
        [STAGE_PRIVILEGES] = "drop privileges",
        [STAGE_LANDLOCK] = "Landlock",
        [STAGE_SECCOMP] = "seccomp",
        [STAGE_DIRECTORY] = "change directory",
        [STAGE_EXECUTE] = "execute",
        [STAGE_NAMESPACES] = "create namespaces",
        [STAGE_ID_MAP] = "map user and group",
        [STAGE_MOUNT_PRIVATE] = "make mounts private",
        [STAGE_FIND_HIDDEN] = "find the hidden directory",
        [STAGE_COVER] = "cover the hidden directory",
        [STAGE_DEVICES] = "build devices",
        [STAGE_VERIFY] = "verify the isolation",
        [STAGE_SETUP] = "set up the spawner",
    };
    return stage < ARRAY_LEN(names) && names[stage] != NULL ? names[stage] : "unknown";
}

/* With its NUL. */
static void append_string(struct buf *packet, const char *string) {
    buf_append(packet, slice_make(string, strlen(string) + 1));
}

static uint32_t count_strings(const char *const *strings) {
    uint32_t n = 0;
    while (strings != NULL && strings[n] != NULL && n <= SPAWNER_STRINGS_MAX)
        n++;
    return n;
}

int order_encode_spawn(const struct spawner_command *command, struct buf *packet) {
    struct order_head head = {
        .id = command->id,
        .kind = ORDER_SPAWN,
        .change_user = command->change_user,
        .uid = command->change_user ? command->uid : 0,
        .gid = command->change_user ? command->gid : 0,
        .argc = count_strings(command->argv),
        .envc = count_strings(command->envp),
        .has_cwd = command->cwd != NULL,
    };
    if (head.argc == 0 || command->argv[0][0] == '\0')
        return -EINVAL;
    if (head.argc > SPAWNER_STRINGS_MAX || head.envc > SPAWNER_STRINGS_MAX)
        return -E2BIG;

    size_t before = buf_len(packet);
    buf_append(packet, slice_make(&head, sizeof head));
    for (uint32_t i = 0; i < head.argc; i++)
        append_string(packet, command->argv[i]);
    for (uint32_t i = 0; i < head.envc; i++)
        append_string(packet, command->envp[i]);
    if (command->cwd != NULL)
        append_string(packet, command->cwd);
    if (buf_error(packet) != 0)
        return buf_error(packet);

    head.strings = (uint32_t)(buf_len(packet) - before - sizeof head);
    memcpy(packet->data + packet->start + before, &head, sizeof head);
    return 0;
}

/* Lays the strings out behind their pointers in one block. */
static int decode_strings(struct slice strings, struct order *order) {
    size_t n = (size_t)order->head.argc + order->head.envc + order->head.has_cwd;
    size_t nuls = 0;
    for (size_t i = 0; i < strings.len; i++)
        nuls += strings.ptr[i] == '\0';
    if (nuls != n || strings.len == 0 || strings.ptr[strings.len - 1] != '\0')
        return -EPROTO;

    size_t pointers = (size_t)order->head.argc + order->head.envc + 2;
    char **block = mem_alloc(pointers * sizeof(char *) + strings.len);
    if (block == NULL)
        return -ENOMEM;
    char *at = (char *)(block + pointers);
    memcpy(at, strings.ptr, strings.len);

    order->block = block;
    order->argv = block;
    order->envp = block + order->head.argc + 1;
    for (uint32_t i = 0; i < order->head.argc; i++, at += strlen(at) + 1)
        order->argv[i] = at;
    for (uint32_t i = 0; i < order->head.envc; i++, at += strlen(at) + 1)
        order->envp[i] = at;
    order->cwd = order->head.has_cwd != 0 ? at : NULL;
    return 0;
}

int order_decode(struct slice packet, struct order *ret_order) {
    struct order order = {0};
    if (packet.len < sizeof order.head || packet.len > SPAWNER_PACKET_MAX)
        return -EPROTO;
    memcpy(&order.head, packet.ptr, sizeof order.head);
    struct slice strings = slice_from(packet, sizeof order.head);
    const struct order_head *head = &order.head;
    if (head->strings != strings.len || head->reserved != 0)
        return -EPROTO;

    if (head->kind == ORDER_SIGNAL) {
        bool is_plain = head->argc == 0 && head->envc == 0 && head->has_cwd == 0;
        if (!is_plain || strings.len != 0 || head->signal <= 0 || head->signal > 64)
            return -EPROTO;
    } else if (head->kind == ORDER_SPAWN) {
        if (head->argc == 0 || head->argc > SPAWNER_STRINGS_MAX || head->has_cwd > 1 ||
            head->envc > SPAWNER_STRINGS_MAX || head->change_user > 1 || head->signal != 0)
            return -EPROTO;
        int error = decode_strings(strings, &order);
        if (error != 0)
            return error;
    } else {
        return -EPROTO;
    }
    *ret_order = order;
    return 0;
}

void order_deinit(struct order *order) {
    mem_free(order->block);
    *order = (struct order){0};
}

int event_decode(struct slice packet, struct spawner_event *ret_event) {
    struct event_packet event;
    if (packet.len != sizeof event)
        return -EPROTO;
    memcpy(&event, packet.ptr, sizeof event);
    if (event.kind > SPAWNER_EXITED)
        return -EPROTO;
    *ret_event = (struct spawner_event){
        .kind = (enum spawner_event_kind)event.kind,
        .id = event.id,
        .pid = event.pid,
        .error = event.error,
        .stage = spawner_stage_name(event.stage),
        .status = event.status,
    };
    return 0;
}
