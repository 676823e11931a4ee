/*
 * One document, or one answer of a token endpoint, over HTTP.
 *
 * A document is fetched with GET, and 200 is the only answer that counts. Up to LIMIT_REDIRECTS
 * redirects are followed, because nothing secret is in the request, and each hop goes by the rules
 * for addresses that others name. Of the media type only web pages are refused: issuers send
 * application/json, application/jwk-set+json, text/plain from object stores, or nothing at all, and
 * what decides is that the document is strict JSON; but a page, whatever is in it, was not made to
 * be read by us.
 *
 * A form is sent with POST, with the gateway's credentials. No redirect is followed, and the
 * answers from 400 to 499 count too: they say what is wrong (RFC 6749 section 5.2).
 */
#include "fetch.h"

#include <errno.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/secret.h"

void oauth_wipe(struct buf *buf) {
    if (buf->data != NULL)
        secret_wipe(buf->data, buf->cap);
    buf_deinit(buf);
}

static void finish(struct oauth_fetch *fetch, enum oauth_got got) {
    fetch->call = NULL;
    fetch->on_done(fetch->context, got);
}

/* From inside the call's callbacks but the last. */
static void refuse(struct oauth_fetch *fetch, enum oauth_got got, const char *reason) {
    client_cancel(fetch->call);
    snprintf(fetch->reason, sizeof fetch->reason, "%s", reason);
    finish(fetch, got);
}

static bool is_page(const struct http_head *head) {
    struct slice type = http_content_type(head);
    return slice_eq_nocase(type, SLICE("text/html")) ||
           slice_eq_nocase(type, SLICE("application/xhtml+xml"));
}

/* Which may have no end: some servers of MCP answer any GET so. */
static bool is_stream(const struct http_head *head) {
    return slice_eq_nocase(http_content_type(head), SLICE("text/event-stream"));
}

/* RFC 9110 sections 15.4.2 to 15.4.4, 15.4.8, 15.4.9. */
static bool is_redirect(const struct http_head *head) {
    return head->status == 301 || head->status == 302 || head->status == 303 ||
           head->status == 307 || head->status == 308;
}

static void refuse_status(struct oauth_fetch *fetch, const struct http_head *head) {
    char reason[OAUTH_REASON];
    fetch->is_absent = head->status == 404 || head->status == 410;
    snprintf(reason, sizeof reason, "it answers with status %u", (unsigned)head->status);
    refuse(fetch, OAUTH_GOT_ANOTHER, reason);
}

/* --- a request --- */

static int write_fields(const struct oauth_fetch *fetch, struct slice authorization,
                        struct buf *out) {
    char agent[128];
    if (fetch->is_post) {
        (void)!http_write_field(out, SLICE("Accept"), SLICE("application/json"));
        (void)!http_write_field(out, SLICE("Content-Type"),
                                SLICE("application/x-www-form-urlencoded"));
        if (authorization.len != 0)
            (void)!http_write_field(out, SLICE("Authorization"), authorization);
    } else {
        (void)!http_write_field(
            out, SLICE("Accept"),
            SLICE("application/json, application/jwk-set+json;q=0.9, */*;q=0.1"));
    }
    snprintf(agent, sizeof agent, "cardea/%.*s", SLICE_ARGS(slice_sub(fetch->version, 0, 64)));
    (void)!http_write_field(out, SLICE("User-Agent"), slice_from_cstr(agent));
    return buf_error(out);
}

static void on_head(void *context, const struct http_head *head);

static void on_data(void *context, struct slice bytes) {
    struct oauth_fetch *fetch = context;
    if (buf_append(&fetch->body, bytes) != 0)
        refuse(fetch, OAUTH_GOT_NOTHING, "there is not enough memory for its answer");
}

static void on_end(void *context) {
    finish(context, OAUTH_GOT_DOCUMENT);
}

static bool was_reached(const struct client_failure *failure) {
    return failure->kind == CLIENT_FAILED_PROTOCOL || failure->kind == CLIENT_FAILED_RESET;
}

static void on_failed(void *context, const struct client_failure *failure) {
    struct oauth_fetch *fetch = context;
    fetch->is_unreached = !was_reached(failure);
    snprintf(fetch->reason, sizeof fetch->reason, "%.*s", OAUTH_REASON - 1, failure->reason);
    finish(fetch, was_reached(failure) ? OAUTH_GOT_ANOTHER : OAUTH_GOT_NOTHING);
}

static const struct client_events events = {
    .on_head = on_head, .on_data = on_data, .on_end = on_end, .on_failed = on_failed};

static int make_target(struct oauth_fetch *fetch) {
    const char *reason = "";
    struct client_target_options options = {
        .url = buf_slice(&fetch->url),
        .tls = fetch->tls,
        .proxy = fetch->proxy,
        .rules = fetch->is_found || fetch->is_for_stored ? fetch->rules : NULL,
    };
    fetch->target = client_target_free(fetch->target);
    int error = client_target_new(&options, &fetch->target, &reason);
    if (error <= 0)
        return error;
    snprintf(fetch->reason, sizeof fetch->reason, "%s", reason);
    return OAUTH_E_INVALID;
}

/* To what `url` says. */
static int start(struct oauth_fetch *fetch, struct slice authorization, struct slice form) {
    struct buf fields CLEANUP(oauth_wipe) = BUF_INIT(LIMIT_HTTP_HEADER_BLOCK);
    if (fetch->is_post && buf_reserve(&fields, KIB(1) + authorization.len) == NULL)
        return buf_error(&fields);
    int error = make_target(fetch);
    if (error == 0)
        error = write_fields(fetch, authorization, &fields);
    if (error != 0)
        return error;
    struct client_request request = {
        .target = fetch->target,
        .partition = fetch->is_post ? SLICE("tokens") : SLICE_EMPTY,
        .method = fetch->is_post ? HTTP_METHOD_POST : HTTP_METHOD_GET,
        .fields = buf_slice(&fields),
        .has_secret = fetch->is_post,
        .body = form,
        .max_body = fetch->body.max,
        /* A form too: the same token is asked for twice. An assertion that has arrived both times
         * is refused, which is no worse than no answer. */
        .is_idempotent = true,
    };
    return client_start(fetch->client, &request, &events, fetch, &fetch->call);
}

static int begin(struct oauth_fetch *fetch, struct slice url) {
    oauth_fetch_forget(fetch);
    fetch->n_redirects = 0;
    fetch->is_absent = fetch->is_unreached = false;
    fetch->status = 0;
    fetch->reason[0] = '\0';
    buf_reset(&fetch->url, 0);
    return buf_append(&fetch->url, url);
}

/* --- redirects --- */

/* Where it leads, without the fragment that it may have (RFC 9110 section 10.2.2). */
static int resolve(struct oauth_fetch *fetch, const struct http_head *head, bool *ret_is_same) {
    struct buf next CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI);
    struct uri base, uri;
    struct slice location = http_head_get(head, SLICE("Location")), fragment;
    slice_cut(location, '#', &location, &fragment);
    if (http_head_count(head, SLICE("Location")) != 1 || location.len == 0 ||
        uri_parse(buf_slice(&fetch->url), &base, NULL) != 0)
        return OAUTH_E_INVALID;
    int error = uri_resolve(&next, &base, location);
    if (error != 0)
        return error == -ENOMEM ? error : OAUTH_E_INVALID;
    if (uri_parse(buf_slice(&next), &uri, NULL) != 0)
        return OAUTH_E_INVALID;
    *ret_is_same = uri_same_origin(&base, &uri);
    buf_reset(&fetch->url, LIMIT_URI);
    return buf_append(&fetch->url, buf_slice(&next));
}

static void follow(struct oauth_fetch *fetch, const struct http_head *head) {
    bool is_same_origin = false;
    if (fetch->n_redirects == LIMIT_REDIRECTS) {
        refuse(fetch, OAUTH_GOT_ANOTHER, "it redirects too often");
        return;
    }
    int error = resolve(fetch, head, &is_same_origin);
    if (error != 0) {
        refuse(fetch, OAUTH_GOT_ANOTHER,
               error > 0 ? "it redirects to what is no URL" : "there is not enough memory");
        return;
    }
    fetch->call = client_cancel(fetch->call);
    fetch->n_redirects++;
    fetch->is_found = true;
    if (!is_same_origin) { /* what was set for one server is for no other */
        fetch->tls = NULL;
        fetch->proxy = SLICE_EMPTY;
    }
    error = start(fetch, SLICE_EMPTY, SLICE_EMPTY);
    if (error == 0)
        return;
    char reason[OAUTH_REASON];
    snprintf(reason, sizeof reason, "it redirects: %.150s",
             error > 0 ? fetch->reason : "there is not enough memory");
    refuse(fetch, OAUTH_GOT_ANOTHER, reason);
}

static void on_head(void *context, const struct http_head *head) {
    struct oauth_fetch *fetch = context;
    fetch->status = head->status;
    if (is_redirect(head) && !fetch->is_post)
        follow(fetch, head);
    else if (is_redirect(head))
        refuse(fetch, OAUTH_GOT_ANOTHER, "it redirects, which is not followed");
    else if (head->status != 200 && !(fetch->is_post && head->status / 100 == 4))
        refuse_status(fetch, head);
    else if (is_page(head) && head->status == 200)
        refuse(fetch, OAUTH_GOT_ANOTHER, "it answers with a web page");
    else if (is_stream(head))
        refuse(fetch, OAUTH_GOT_ANOTHER, "it answers with a stream of events");
    else
        fetch->lifetime_ms = oauth_lifetime(head);
}

/* --- for the others --- */

static int explain(struct oauth_fetch *fetch, int error) {
    if (error != -E2BIG)
        return error;
    snprintf(fetch->reason, sizeof fetch->reason, "the request would be longer than the limit");
    return OAUTH_E_INVALID;
}

int oauth_fetch_get(struct oauth_fetch *fetch, struct slice url, bool is_found) {
    fetch->is_post = false;
    fetch->is_found = is_found;
    int error = begin(fetch, url);
    return explain(fetch, error != 0 ? error : start(fetch, SLICE_EMPTY, SLICE_EMPTY));
}

int oauth_fetch_post(struct oauth_fetch *fetch, struct slice url, bool is_found,
                     struct slice authorization, struct slice form) {
    fetch->is_post = true;
    fetch->is_found = is_found;
    fetch->tls = NULL;
    fetch->proxy = SLICE_EMPTY;
    int error = begin(fetch, url);
    /* In one piece, so that no copy of a token stays behind when the buffer grows. */
    if (error == 0 && buf_reserve(&fetch->body, fetch->body.max) == NULL)
        error = buf_error(&fetch->body);
    return explain(fetch, error != 0 ? error : start(fetch, authorization, form));
}

void oauth_fetch_stop(struct oauth_fetch *fetch) {
    fetch->call = client_cancel(fetch->call);
}

void oauth_fetch_forget(struct oauth_fetch *fetch) {
    if (fetch->is_post)
        oauth_wipe(&fetch->body);
    buf_reset(&fetch->body, 0);
}

void oauth_fetch_init(struct oauth_fetch *fetch, size_t max_body) {
    *fetch = (struct oauth_fetch){.client = NULL};
    buf_init(&fetch->body, max_body);
    buf_init(&fetch->url, LIMIT_URI);
}

void oauth_fetch_deinit(struct oauth_fetch *fetch) {
    oauth_fetch_stop(fetch);
    oauth_fetch_forget(fetch);
    fetch->target = client_target_free(fetch->target);
    buf_deinit(&fetch->url);
}
