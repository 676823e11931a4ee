/*
 * What is recorded of a request: that it is intended, before it changes anything, and how it ended.
 * In the order intent, change, outcome, answer; where the trail is required each waits until the
 * one before is on disk.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "private.h"

/* Names alone: values may be secrets. */
static void write_members(const struct api_request *request, struct buf *out) {
    struct json_writer writer;
    const struct json_node *root = request->reader != NULL ? json_root(request->reader) : NULL;
    json_writer_init(&writer, out);
    json_array_begin(&writer);
    for (const struct json_node *node = root != NULL ? json_first(request->reader, root) : NULL;
         node != NULL; node = json_next(request->reader, node))
        json_string(&writer, utf8_truncate(node->key, 64));
    json_array_end(&writer);
}

/* A login's is the name that was tried. */
static struct slice user_of(struct api_request *request) {
    struct slice name = {0};
    bool is_login = request->route != NULL && (request->route->audit == API_AUDIT_LOGIN ||
                                               request->route->audit == API_AUDIT_SETUP);
    if (request->who.is_known || !is_login || request->reader == NULL ||
        api_text(request, "name", &name) != 0 || name.ptr == NULL)
        return slice_from_cstr(request->who.name);
    return utf8_truncate(name, 64);
}

static bool is_denial(const struct api_request *request) {
    uint16_t status = request->answer.status;
    return status == 401 || status == 403 || status == 421 || status == 429;
}

/* --- strangers --- */

/* How many requests they send is theirs to choose, so they are counted and not written; but for
 * logins that fail, for which the throttle sets the pace. NULL: it is none. */
static const char *stranger_reason(const struct api_request *request) {
    uint16_t status = request->answer.status;
    bool is_login = request->route != NULL && (request->route->audit == API_AUDIT_LOGIN ||
                                               request->route->audit == API_AUDIT_SETUP);
    if (request->who.is_known || status < 400 || (is_login && status == 401))
        return NULL;
    switch (status) {
    case 401:
        return "console: nobody is logged in";
    case 403:
        return "console: a page of another origin";
    case 421:
        return "console: another host";
    case 429:
    case 503:
        return "console: too many attempts";
    default:
        return "console: a request that cannot be taken";
    }
}

void api_count_stranger(struct api *api, const struct network *address, const char *reason) {
    if (api->options.count != NULL)
        api->options.count(api->options.context, address, reason);
}

/* --- writing --- */

static void deliver_wait(struct io_message *message) {
    struct audit_wait *wait = CONTAINER_OF(message, struct audit_wait, message);
    struct api_request *request = CONTAINER_OF(wait, struct api_request, wait);
    request->next(request);
}

static int record(struct api_request *request, bool is_intent) {
    CLEANUP(buf_deinit) struct buf members = BUF_INIT(KIB(16));
    const struct api_route *route = request->route;
    const struct api_options *options = &request->api->options;
    bool is_change = route != NULL && route->audit != API_AUDIT_NONE_READ;
    write_members(request, &members);
    struct api_record record = {
        .event = route != NULL ? api_audit_name(route->audit) : "admin-request",
        .method = api_method_name(request->method),
        .route = route != NULL ? route->pattern.ptr : "",
        .id = slice_from_cstr(request->id),
        .object = request->parameters[0].ptr != NULL ? request->parameters[0] : SLICE_EMPTY,
        .user_id = slice_from_cstr(request->who.user),
        .user = user_of(request),
        .session = slice_from_cstr(request->who.session),
        .token = slice_from_cstr(request->who.token),
        .address = request->client,
        .members = buf_slice(&members),
        .is_intent = is_intent,
        .duration_us = clock_monotonic_ns() / 1000 - request->began_us,
    };
    if (!is_intent) {
        record.is_denied = is_denial(request);
        record.status = request->answer.status;
        record.reason = buf_slice(&request->answer.reason);
    }
    request->wait =
        (struct audit_wait){.message = {.deliver = deliver_wait}, .loop = request->api->loop};
    if (options->record == NULL)
        return 0;
    return options->record(options->context, &record, is_change ? &request->wait : NULL);
}

/* --- before --- */

static void refuse_unrecorded(struct api_request *request) {
    (void)api_refuse_kind(request, 503, "audit",
                          "the audit trail cannot be written, and nothing is changed without it",
                          "see the log of the gateway");
    api_request_done(request, API_E_REFUSED);
}

static void on_intent(struct api_request *request) {
    if (request->wait.is_durable)
        request->after_record(request);
    else
        refuse_unrecorded(request);
}

void api_record_intent(struct api_request *request, void (*next)(struct api_request *request)) {
    request->next = on_intent;
    request->after_record = next;
    int result = record(request, true);
    if (result < 0)
        refuse_unrecorded(request);
    else if (result == 0)
        next(request);
}

/* --- behind --- */

void api_record_outcome(struct api_request *request, void (*next)(struct api_request *request)) {
    bool is_change = request->route != NULL && request->route->audit != API_AUDIT_NONE_READ;
    const char *stranger = stranger_reason(request);
    request->next = next;
    if (stranger != NULL) {
        api_count_stranger(request->api, &request->client, stranger);
        next(request);
        return;
    }
    /* What is done is done: it is answered also when its end cannot be written. */
    if ((!is_change && !is_denial(request)) || record(request, false) != API_RECORD_WAITS)
        next(request);
}
