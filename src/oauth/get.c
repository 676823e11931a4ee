/*
 * One document over HTTP: GET, and 200 is the only answer that counts. A redirect is not followed,
 * because an address that was checked would be left for one that was not. Of the media type only
 * web pages are refused: issuers send application/json, application/jwk-set+json, text/plain from
 * object stores, or nothing at all, and what decides is that the document is strict JSON; but a
 * page, whatever is in it, was not made to be read by us.
 */
#include <errno.h>
#include <stdio.h>

#include "base/limits.h"
#include "private.h"

static void finish(struct oauth_get *get, enum oauth_got got) {
    get->call = NULL;
    get->on_done(get->context, got);
}

/* From inside the call's callbacks but the last. */
static void refuse(struct oauth_get *get, enum oauth_got got, const char *reason) {
    client_cancel(get->call);
    snprintf(get->reason, sizeof get->reason, "%s", reason);
    finish(get, got);
}

static bool is_page(const struct http_head *head) {
    struct slice type = http_content_type(head);
    return slice_eq_nocase(type, SLICE("text/html")) ||
           slice_eq_nocase(type, SLICE("application/xhtml+xml"));
}

static void on_head(void *context, const struct http_head *head) {
    struct oauth_get *get = context;
    char reason[OAUTH_REASON];
    if (head->status >= 300 && head->status < 400) {
        refuse(get, OAUTH_GOT_ANOTHER, "it redirects, which is not followed");
    } else if (head->status != 200) {
        get->is_absent = head->status == 404 || head->status == 410;
        snprintf(reason, sizeof reason, "it answers with status %u", (unsigned)head->status);
        refuse(get, OAUTH_GOT_ANOTHER, reason);
    } else if (is_page(head)) {
        refuse(get, OAUTH_GOT_ANOTHER, "it answers with a web page");
    } else {
        get->lifetime_ms = oauth_lifetime(head);
    }
}

static void on_data(void *context, struct slice bytes) {
    struct oauth_get *get = context;
    if (buf_append(&get->body, bytes) != 0)
        refuse(get, OAUTH_GOT_NOTHING, "there is not enough memory for its answer");
}

static void on_end(void *context) {
    finish(context, OAUTH_GOT_DOCUMENT);
}

static void on_failed(void *context, const struct client_failure *failure) {
    struct oauth_get *get = context;
    bool has_answered =
        failure->kind == CLIENT_FAILED_PROTOCOL || failure->kind == CLIENT_FAILED_RESET;
    snprintf(get->reason, sizeof get->reason, "%s", failure->reason);
    finish(get, has_answered ? OAUTH_GOT_ANOTHER : OAUTH_GOT_NOTHING);
}

static int write_fields(const struct oauth_get *get, struct buf *out) {
    char agent[128];
    (void)!http_write_field(out, SLICE("Accept"),
                            SLICE("application/json, application/jwk-set+json;q=0.9, */*;q=0.1"));
    snprintf(agent, sizeof agent, "cardea/%.*s", SLICE_ARGS(slice_sub(get->version, 0, 64)));
    (void)!http_write_field(out, SLICE("User-Agent"), slice_from_cstr(agent));
    return buf_error(out);
}

int oauth_get_start(struct oauth_get *get, struct slice url) {
    static const struct client_events events = {
        .on_head = on_head, .on_data = on_data, .on_end = on_end, .on_failed = on_failed};
    struct client_target_options options = {.url = url};
    struct buf fields CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    const char *reason = "";
    buf_reset(&get->body, 0);
    get->is_absent = false;
    get->reason[0] = '\0';
    get->target = client_target_free(get->target);
    int error = client_target_new(&options, &get->target, &reason);
    if (error > 0) {
        snprintf(get->reason, sizeof get->reason, "%s", reason);
        return OAUTH_E_INVALID;
    }
    if (error == 0)
        error = write_fields(get, &fields);
    if (error != 0)
        return error;
    struct client_request request = {
        .target = get->target,
        .method = HTTP_METHOD_GET,
        .fields = buf_slice(&fields),
        .max_body = LIMIT_JWKS,
        .is_idempotent = true,
    };
    return client_start(get->client, &request, &events, get, &get->call);
}

void oauth_get_stop(struct oauth_get *get) {
    get->call = client_cancel(get->call);
}

void oauth_get_deinit(struct oauth_get *get) {
    oauth_get_stop(get);
    get->target = client_target_free(get->target);
    buf_deinit(&get->body);
}
