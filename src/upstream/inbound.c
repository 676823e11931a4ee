/* What an upstream sends: answers to us, requests, notifications, and what is none of these. */
#include <stdio.h>

#include "base/buf.h"
#include "base/checked.h"
#include "base/limits.h"
#include "mcp/capabilities.h"
#include "mcp/message.h"
#include "private.h"

void message_write_answer(struct buf *line, const struct mcp_message *message,
                          unsigned capabilities) {
    /* Without its params: of what kind it is, as one of these. */
    unsigned kind = message->method == MCP_ELICITATION_CREATE
                        ? MCP_CAN_ELICIT_FORM | MCP_CAN_ELICIT_URL
                        : mcp_capabilities_needed(NULL, message->method, NULL);
    if (message->method == MCP_PING)
        mcp_write_result(line, message->id, SLICE("{}"));
    else if ((capabilities & kind) == 0)
        mcp_write_error(line, message->id, MCP_E_METHOD_NOT_FOUND,
                        SLICE("the gateway declared no capability for this request"), SLICE_EMPTY);
    else if (message->method == MCP_ELICITATION_CREATE)
        mcp_write_result(line, message->id, SLICE("{\"action\":\"decline\"}"));
    else
        mcp_write_error(line, message->id, MCP_E_UNAVAILABLE,
                        SLICE("no client can be asked: there is no call that this request can "
                              "belong to, or it is not clear which of several clients is meant"),
                        SLICE_EMPTY);
}

static void on_server_request(struct upstream_instance *instance,
                              const struct mcp_message *message) {
    struct buf line = BUF_INIT(KIB(8));
    /* It must not ask, and nobody may answer (MCP 2026-07-28, basic/transports). */
    if (instance->catalog != NULL && mcp_revision_is_modern(instance->catalog->revision))
        return;
    if (calls_ask(instance, message))
        return;
    message_write_answer(&line, message, instance->capabilities);
    (void)!instance_send(instance, 0, message->method, true, &line);
}

/* Of what goes to the operator's log, no more than a reader can take. */
static bool may_log(struct upstream_instance *instance) {
    uint64_t second = io_loop_now(instance->loop) / 1000;
    if (second != instance->log_second) {
        if (instance->n_logged > LIMIT_SERVER_LOGS)
            log_write(instance_log(instance), LOG_WARN, "upstream", "left out log messages",
                      LOG_TEXT("upstream", instance_name(instance)),
                      LOG_NUM("messages", instance->n_logged - LIMIT_SERVER_LOGS));
        instance->log_second = second;
        instance->n_logged = 0;
    }
    return ++instance->n_logged <= LIMIT_SERVER_LOGS;
}

static void on_log_message(struct upstream_instance *instance, const struct mcp_message *message) {
    const struct json_node *node =
        mcp_param(instance->worker->home_reader, message, SLICE("level"), JSON_STRING);
    int level = node != NULL ? mcp_log_level_parse(json_string_raw(node)) : -1;
    if (level < 0)
        return;
    const struct upstream_hooks *hooks = &instance->upstream->set->options.hooks;
    if (instance->upstream->config->share == CONFIG_SHARE_ALL) {
        /* What one owner's call caused is not for another's eyes: to the operator alone. */
        if (!may_log(instance))
            return;
        log_write(instance_log(instance), LOG_INFO, "upstream", "log",
                  LOG_TEXT("upstream", instance_name(instance)),
                  LOG_TEXT("server_level", mcp_log_level_name(level)),
                  LOG_TEXT("params", message->params->raw));
        return;
    }
    if (!calls_log(instance, message->params->raw) && hooks->on_log != NULL)
        hooks->on_log(hooks->context, instance->upstream, instance->owner, level,
                      message->params->raw);
}

static void on_notification(struct upstream_instance *instance, const struct mcp_message *message) {
    if (message->method == MCP_NOTIFY_PROGRESS) {
        const struct json_node *token =
            mcp_param(instance->worker->home_reader, message, SLICE("progressToken"), JSON_NUMBER);
        if (token != NULL)
            (void)!calls_progress(instance, token->raw, message->params->raw);
    } else if (message->method == MCP_NOTIFY_MESSAGE) {
        on_log_message(instance, message);
    } else if (message->method == MCP_NOTIFY_TASKS_STATUS) {
        const struct upstream_hooks *hooks = &instance->upstream->set->options.hooks;
        if (message->params != NULL && hooks->on_task_status != NULL)
            hooks->on_task_status(hooks->context, instance->upstream, instance->owner,
                                  instance->capabilities, message->params->raw);
    } else if (message->method == MCP_NOTIFY_CANCELLED) {
        const struct json_node *id =
            json_member(instance->worker->home_reader, message->params, SLICE("requestId"));
        if (id != NULL)
            calls_ask_cancelled(instance, id->raw);
    } else {
        watches_notified(instance, message);
    }
}

struct slice message_garbage(char text[static MESSAGE_GARBAGE], const char *reason) {
    int len = snprintf(text, MESSAGE_GARBAGE,
                       "the upstream's answer is not a valid message and was refused: %s", reason);
    return slice_make(text, size_min((size_t)len, MESSAGE_GARBAGE - 1));
}

struct slice message_shown_id(struct slice line) {
    size_t at = slice_find(line, SLICE("\"id\":"));
    if (at == SIZE_MAX)
        return SLICE_EMPTY;
    struct slice rest = slice_trim(slice_from(line, at + 5));
    size_t len = 0;
    while (len < rest.len && rest.ptr[len] >= '0' && rest.ptr[len] <= '9')
        len++;
    return slice_sub(rest, 0, len);
}

/* A line that is no message: banners on stdout are common and harmless, endless garbage is not. */
static void on_garbage(struct upstream_instance *instance, struct slice line, const char *reason) {
    if (instance->n_garbage++ < 10)
        log_write(instance_log(instance), LOG_WARN, "upstream",
                  "wrote a line that is no valid message",
                  LOG_TEXT("upstream", instance_name(instance)), LOG_CSTR("reason", reason),
                  LOG_TEXT("line", slice_sub(line, 0, 200)));
    if (instance->n_garbage > LIMIT_GARBAGE_LINES) {
        instance_give_up(instance, "it wrote more than 1,000 lines that are no messages");
        return;
    }
    /* An answer that was refused: the call whose id it shows need not wait for its timeout. */
    struct slice id = message_shown_id(line);
    char text[MESSAGE_GARBAGE];
    if (id.len != 0)
        (void)!calls_answer(instance, id, UPSTREAM_FAILED, message_garbage(text, reason));
}

/* True: it answers what the handshake asked, or a request of this POST. */
static bool on_answer(struct upstream_instance *instance, uint64_t request,
                      const struct mcp_message *message) {
    uint64_t id;
    bool is_number = slice_to_u64(message->id, &id) == 0;
    bool is_ask = instance->ask != ASK_NOTHING && is_number && id == instance->ask_id;
    bool is_level = instance->level_id != 0 && is_number && id == instance->level_id;
    if (is_ask || is_level)
        (void)instance->transport->ops->forget(instance->transport, id);
    if (is_ask) {
        handshake_answer(instance, message);
        return true;
    }
    if (is_level) {
        instance_level_told(instance);
        return true;
    }
    if (watches_answer(instance, message))
        return true;
    bool is_result = message->kind == MCP_RESULT;
    if (calls_answer(instance, message->id, is_result ? UPSTREAM_RESULT : UPSTREAM_ERROR,
                     is_result ? message->result : message->error))
        return true;
    log_write(instance_log(instance), LOG_DEBUG, "upstream", "answered nobody",
              LOG_TEXT("upstream", instance_name(instance)), LOG_TEXT("id", message->id));
    return is_number && request != 0 && id == request;
}

bool instance_handle_message(struct upstream_instance *instance, uint64_t request,
                             struct slice document) {
    struct mcp_message message;
    struct mcp_refusal refusal;
    int error = mcp_message_read(instance->worker->home_reader, document, &message, &refusal);
    if (error != 0) {
        on_garbage(instance, document, error > 0 ? refusal.reason : "out of memory");
        return false;
    }
    switch (message.kind) {
    case MCP_RESULT:
    case MCP_ERROR:
        return on_answer(instance, request, &message);
    case MCP_REQUEST:
        on_server_request(instance, &message);
        return false;
    case MCP_NOTIFICATION:
        on_notification(instance, &message);
        return false;
    }
    return false;
}
