/*
 * Answers: a head that lets a browser do nothing with what follows but show it to the script that
 * asked, and a body. What went wrong is a problem document (RFC 9457) with what to do about it.
 */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "private.h"

static const char security_fields[] = "Cache-Control: no-store\r\n"
                                      "X-Content-Type-Options: nosniff\r\n"
                                      "X-Frame-Options: DENY\r\n"
                                      "Referrer-Policy: no-referrer\r\n"
                                      "Cross-Origin-Resource-Policy: same-origin\r\n"
                                      "Cross-Origin-Opener-Policy: same-origin\r\n"
                                      "Strict-Transport-Security: max-age=31536000\r\n";

/* What is shown has scripts and styles of this origin alone, and none within it. */
#define POLICY "frame-ancestors 'none'; base-uri 'none'; form-action 'none'\r\n"
static const char data_policy[] = "Content-Security-Policy: default-src 'none'; " POLICY;
static const char page_policy[] =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'; " POLICY;

/* --- problems --- */

struct meaning {
    int error;
    uint16_t status;
    const char *kind, *reason, *cure;
};

static const struct meaning meanings[] = {
    {ACCOUNTS_E_NONE, 404, NULL, "there is no such thing", NULL},
    {ACCOUNTS_E_EXISTS, 409, "exists", "the name is taken", NULL},
    {ACCOUNTS_E_WRONG, 422, NULL, "a value is not what it has to be", NULL},
    {ACCOUNTS_E_DENIED, 403, "denied", "this is not allowed", NULL},
    {ACCOUNTS_E_STALE, 412, "version", "it has another version by now",
     "get it again, and change that"},
    {ACCOUNTS_E_LOGIN, 401, "login", "name or password are wrong", NULL},
    {ACCOUNTS_E_WAIT, 429, "wait", "too many attempts failed", "wait, and try again"},
    {STORE_E_GONE, 503, "store", "the store does not answer", "try again in a moment"},
    {STORE_E_CONFLICT, 409, "conflict", "something like that is there already, or is in use", NULL},
    {STORE_E_NEWER, 503, "store", "the store was migrated by a newer program",
     "start this gateway with that version"},
    {STORE_E_BROKEN, 503, "store", "the store is damaged", "restore a backup"},
    {VAULT_E_NONE, 404, NULL, "there is no such secret", NULL},
    {-ENOSPC, 507, "store", "the disk of the store is full", "make room on it"},
    {-EROFS, 503, "store", "the store cannot be written", "see what its file system says"},
    {-ECANCELED, 503, NULL, "the gateway stops", NULL},
    {-ENOMEM, 503, NULL, "out of memory", "try again in a moment"},
    {-E2BIG, 422, NULL, "it is too long", NULL},
    {-EMSGSIZE, 422, NULL, "the answer would be too long", "ask for less at once"},
};

static const struct meaning *find_meaning(int error) {
    for (size_t i = 0; i < ARRAY_LEN(meanings); i++) {
        if (meanings[i].error == error)
            return &meanings[i];
    }
    return NULL;
}

/* What is not expected is in the log, and not told. */
static void take_meaning(struct api_request *request, int error) {
    struct api_answer *answer = &request->answer;
    const struct meaning *meaning = find_meaning(error);
    if (meaning == NULL) {
        log_write(request->api->options.log, LOG_ERROR, "admin", "a request failed",
                  LOG_CSTR("route", request->route != NULL ? request->route->pattern.ptr : ""),
                  LOG_NUM("error", error));
        (void)api_refuse(request, 500, "something failed within the gateway",
                         "see the log of the gateway");
        return;
    }
    buf_reset(&answer->body, KIB(64));
    buf_reset(&answer->fields, KIB(4));
    answer->status = meaning->status;
    answer->kind = meaning->kind;
    answer->cure = meaning->cure;
    answer->etag = 0;
    if (buf_len(&answer->reason) == 0 || buf_error(&answer->reason) != 0) {
        buf_reset(&answer->reason, KIB(4));
        buf_append_cstr(&answer->reason, meaning->reason);
    }
}

static void write_problem(struct api_request *request) {
    struct api_answer *answer = &request->answer;
    struct json_writer writer;
    char kind[64] = "about:blank";
    if (answer->kind != NULL)
        snprintf(kind, sizeof kind, "urn:cardea:problem:%s", answer->kind);
    buf_reset(&answer->body, KIB(64));
    json_writer_init(&writer, &answer->body);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("type"), slice_from_cstr(kind));
    json_kv_string(&writer, SLICE("title"), slice_from_cstr(http_status_text(answer->status)));
    json_kv_u64(&writer, SLICE("status"), answer->status);
    json_kv_string(&writer, SLICE("detail"), buf_slice(&answer->reason));
    if (answer->cure != NULL)
        json_kv_string(&writer, SLICE("cure"), slice_from_cstr(answer->cure));
    json_kv_string(&writer, SLICE("instance"), slice_from_cstr(request->id));
    json_object_end(&writer);
    if (answer->status == 401) /* RFC 9110 section 11.6.1: no scheme that a browser asks for */
        buf_append_cstr(&answer->fields, "WWW-Authenticate: Bearer realm=\"cardea admin\"\r\n");
    if (answer->status == 503 && answer->wait_ms == 0)
        answer->wait_ms = 1000;
    if (answer->wait_ms != 0)
        buf_printf(&answer->fields, "Retry-After: %llu\r\n",
                   (unsigned long long)((answer->wait_ms + 999) / 1000));
}

static bool is_problem(const struct api_request *request) {
    return request->answer.status >= 400;
}

static void settle(struct api_request *request, int error) {
    struct api_answer *answer = &request->answer;
    if (error != 0 && error != API_E_REFUSED)
        take_meaning(request, error);
    if (error == 0 && (buf_error(&answer->body) != 0 || buf_error(&answer->fields) != 0))
        take_meaning(request, buf_error(&answer->body) == -E2BIG ? -EMSGSIZE : -ENOMEM);
    if (answer->status == 0)
        answer->status = request->route->status != 0 ? request->route->status : 200;
    if (is_problem(request))
        write_problem(request);
}

static void touch(struct api_request *request);

void api_request_done(struct api_request *request, int error) {
    settle(request, error);
    touch(request);
}

/* --- after the work: when it was used, what is recorded, the answer --- */

static int note_use(struct store_tx *tx, struct api_request *request) {
    const struct api_who *who = &request->who;
    struct accounts_use use = {.used_ms = clock_wall_ms()};
    if (!who->is_token)
        return accounts_touch_session(tx, slice_from_cstr(who->session));
    memcpy(use.id, who->token, sizeof use.id);
    return accounts_note_uses(tx, &use, 1);
}

static int run_note(struct store_tx *tx, void *context) {
    return note_use(tx, context);
}

static void on_noted(struct api_request *request) {
    api_record_outcome(request, api_send);
}

static void deliver_note(struct io_message *message) {
    struct store_job *job = CONTAINER_OF(message, struct store_job, message);
    on_noted(CONTAINER_OF(job, struct api_request, job));
}

/* At most once a minute: most requests do not write. */
static void touch(struct api_request *request) {
    enum { TOUCH_MS = 60000 };
    const struct api_who *who = &request->who;
    bool is_due = who->is_token ? clock_wall_ms() > who->used_ms + TOUCH_MS : who->is_due;
    if (!who->is_known || !is_due) {
        on_noted(request);
        return;
    }
    request->job = (struct store_job){
        .message = {.deliver = deliver_note},
        .loop = request->api->loop,
        .kind = STORE_NOTE,
        .work = run_note,
        .context = request,
    };
    store_submit(request->api->options.store, &request->job);
}

/* --- on the wire --- */

static void append_head(struct api_request *request, struct buf *out) {
    const struct api_answer *answer = &request->answer;
    if (request->api->is_stopping)
        request->keep_alive = false;
    http_write_status(out, answer->status);
    api_append_date(request->api, out);
    buf_append_cstr(out, security_fields);
    bool is_page = request->route != NULL && request->route->page != NULL && !is_problem(request);
    buf_append_cstr(out, is_page ? page_policy : data_policy);
    buf_append(out, buf_slice(&answer->fields));
    if (answer->etag != 0)
        guard_write_etag(out, answer->etag);
    if (!request->keep_alive)
        buf_append_cstr(out, "Connection: close\r\n");
    else if (request->is_http10)
        buf_append_cstr(out, "Connection: keep-alive\r\n");
}

static const char *media_of(const struct api_request *request) {
    if (is_problem(request))
        return "application/problem+json";
    return request->route->media != NULL ? request->route->media : "application/json";
}

/* The request is gone afterwards. */
static void end(struct api_request *request) {
    struct api_connection *connection = request->connection;
    bool keep_alive = request->keep_alive;
    request->connection = NULL;
    if (connection != NULL)
        connection->request = NULL;
    api_request_free(request);
    if (connection != NULL)
        api_connection_answered(connection, keep_alive);
}

void api_send(struct api_request *request) {
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(16));
    const struct api_answer *answer = &request->answer;
    struct slice body = buf_slice(&answer->body);
    if (request->connection == NULL) {
        end(request);
        return;
    }
    append_head(request, &out);
    if (body.len != 0)
        buf_printf(&out, "Content-Type: %s\r\n", media_of(request));
    if (answer->status != 204) /* RFC 9110 section 8.6 */
        http_write_field_u64(&out, SLICE("Content-Length"), body.len);
    buf_append_cstr(&out, "\r\n");
    bool is_written =
        buf_error(&out) == 0 && api_connection_write(request->connection, buf_slice(&out)) &&
        (request->is_head || body.len == 0 || api_connection_write(request->connection, body));
    if (!is_written)
        request->keep_alive = false;
    end(request);
}

bool api_stream_begin(struct api_request *request, const char *media, struct slice fields) {
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(16));
    if (request->connection == NULL)
        return false;
    request->answer.status = 200;
    request->streams = true;
    if (request->is_http10)
        request->keep_alive = false;
    append_head(request, &out);
    buf_append(&out, fields);
    buf_printf(&out, "Content-Type: %s\r\n%s\r\n", media,
               request->is_http10 ? "" : "Transfer-Encoding: chunked\r\n");
    return buf_error(&out) == 0 && api_connection_write(request->connection, buf_slice(&out));
}

bool api_stream_write(struct api_request *request, struct slice bytes) {
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(bytes.len + 64);
    if (request->connection == NULL)
        return false;
    if (bytes.len == 0)
        return true;
    if (request->is_http10)
        buf_append(&out, bytes);
    else
        http_write_chunk(&out, bytes);
    return buf_error(&out) == 0 && api_connection_write(request->connection, buf_slice(&out));
}

/* A part is not the whole: without its last chunk the client knows. */
void api_stream_end(struct api_request *request, bool is_whole) {
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(64);
    http_write_last_chunk(&out);
    bool is_written =
        is_whole && request->connection != NULL &&
        (request->is_http10 || api_connection_write(request->connection, buf_slice(&out)));
    if (!is_written)
        request->keep_alive = false;
    end(request);
}

bool api_stream_is_full(const struct api_request *request) {
    return request->connection != NULL && api_connection_queued(request->connection) != 0;
}

/* --- small things --- */

void api_write_time(struct json_writer *writer, const char *key, uint64_t ms) {
    char text[CLOCK_RFC3339_SIZE];
    json_key(writer, slice_from_cstr(key));
    if (ms == 0) {
        json_null(writer);
        return;
    }
    clock_format_rfc3339(ms, text);
    json_string(writer, slice_from_cstr(text));
}

void api_write_text(struct json_writer *writer, const char *key, struct slice text) {
    json_kv_string(writer, slice_from_cstr(key), text);
}

/* RFC 6265bis: the prefix __Host- makes browsers insist on Secure, Path=/ and no Domain, so that no
 * other host and no plain connection can plant one. It ends with the browser. */
int api_write_cookie(struct buf *fields, const struct accounts_cookie *cookie) {
    return buf_printf(
        fields, "Set-Cookie: " GUARD_COOKIE "=%s.%s; Path=/; Secure; HttpOnly; SameSite=Strict\r\n",
        cookie->session, cookie->secret);
}

int api_write_no_cookie(struct buf *fields) {
    return buf_append_cstr(fields, "Set-Cookie: " GUARD_COOKIE
                                   "=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0\r\n");
}
