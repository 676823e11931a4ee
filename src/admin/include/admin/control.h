/*
 * The control socket: `control.sock` in the data directory, mode 0600, the peer's uid checked (the
 * gateway's own, or root). One JSON object a line each way: {"command":"status"} is answered with
 * {"ok":true,...} or {"ok":false,"error":"...",...}. Commands of one peer are carried out one after
 * the other; an answer may take its time.
 */
#pragma once

#include <stddef.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/log.h"
#include "base/slice.h"
#include "gateway/gateway.h"
#include "json/reader.h"

struct control;
/* A command that has not been answered; its peer may have gone meanwhile. */
struct control_request;

/* On the loop of worker 0. `arguments` has read the whole object, its root's members, and is valid
 * during the call. control_answer() has to be called, once, now or later. */
typedef void control_command_fn(void *context, struct control_request *request,
                                const struct json_reader *arguments);

struct control_command {
    struct slice name;
    control_command_fn *run;
};

struct control_options {
    struct gateway *gateway;
    const char *path;
    struct log *log;
    /* Beside those that the gateway answers by itself (status); they outlive it. */
    const struct control_command *commands;
    size_t n_commands;
    void *context;
};

/* Listens at `path`, on the loop of worker 0. -errno. */
MUST_CHECK int control_new(const struct control_options *options, struct control **ret_control);
/* Removes the socket. What is not answered by then may still be answered, in vain. Accepts NULL. */
struct control *control_free(struct control *control);

/* `error` NULL: it was carried out. `members`: further members of the answer's object as JSON,
 * without braces, or empty. */
void control_answer(struct control_request *request, const char *error, struct slice members);

/* The client's side, blocking: one command, one answer. -ECONNREFUSED or -ENOENT: no gateway runs
 * there. */
MUST_CHECK int control_request(const char *path, struct slice command, struct buf *answer);
