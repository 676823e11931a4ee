/*
 * A request's way: its head is judged when it comes (Host, Origin, route, credentials as far as
 * they can be told without the store); when it is whole a first transaction says who asks and
 * whether they may. Only then is anything of it looked at further: query, body, version, a new
 * password. What it changes is recorded as intended, and done in a second transaction that looks
 * once more who asks: rights are as they are in the moment of the change.
 */
#include <errno.h>

#include "accounts/password.h"
#include "base/base64.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/secret.h"
#include "base/utf8.h"
#include "private.h"

enum { LONGEST_AGENT = 200 };

static const char login_cure[] = "log in: POST /api/v1/login, or send a token as Authorization: "
                                 "Bearer";

/* --- begin and end --- */

static void write_id(struct api_request *request) {
    unsigned char bytes[16];
    random_bytes(bytes, sizeof bytes);
    (void)base64url_write(request->id, slice_make(bytes, sizeof bytes));
}

static void init_answer(struct api_answer *answer) {
    buf_init(&answer->body, API_ANSWER);
    buf_init(&answer->fields, KIB(4));
    buf_init(&answer->reason, KIB(4));
}

void api_answer_reset(struct api_answer *answer) {
    struct buf body = answer->body, fields = answer->fields, reason = answer->reason;
    buf_reset(&body, KIB(64));
    buf_reset(&fields, KIB(4));
    buf_reset(&reason, KIB(4));
    *answer = (struct api_answer){.body = body, .fields = fields, .reason = reason};
}

static void take_client(struct api_request *request, const struct network *client) {
    request->client = *client;
    (void)network_write_address(&request->client, request->client_text);
}

struct api_request *api_request_new(struct api_connection *connection) {
    struct api *api = connection->api;
    struct api_request *request = mem_alloc(sizeof *request);
    if (request == NULL)
        return NULL;
    request->api = api;
    request->connection = connection;
    take_client(request, &connection->peer);
    request->began_us = clock_monotonic_ns() / 1000;
    arena_init(&request->arena, API_ARENA);
    buf_init_held(&request->body, API_BODY, &api->held);
    buf_init(&request->password_hash, KIB(1));
    init_answer(&request->answer);
    write_id(request);
    list_push_back(&api->requests, &request->link);
    api->n_requests++;
    return request;
}

static void wipe(struct buf *buf) {
    if (buf->data != NULL)
        secret_wipe(buf->data, buf->cap);
    buf_deinit(buf);
}

/* Bodies and answers have passwords and tokens in them; so has the arena. */
void api_request_free(struct api_request *request) {
    struct api *api = request->api;
    if (request->free_own != NULL)
        request->free_own(request);
    list_remove(&request->link);
    policy_rights_unref(request->who.rights);
    json_reader_free(request->reader);
    wipe(&request->body);
    wipe(&request->password_hash);
    wipe(&request->answer.body);
    wipe(&request->answer.fields);
    buf_deinit(&request->answer.reason);
    arena_wipe(&request->arena);
    arena_deinit(&request->arena);
    secret_wipe(request, sizeof *request);
    mem_free(request);
    if (--api->n_requests == 0 && api->is_stopping)
        io_loop_stop(api->loop);
}

void api_request_gone(struct api_request *request) {
    request->connection = NULL;
    if (!request->is_running)
        api_request_free(request);
    else if (request->on_gone != NULL)
        request->on_gone(request);
}

/* --- refusals --- */

int api_refuse_kind(struct api_request *request, uint16_t status, const char *kind,
                    const char *reason, const char *cure) {
    struct api_answer *answer = &request->answer;
    api_answer_reset(answer);
    answer->status = status;
    answer->kind = kind;
    answer->cure = cure;
    buf_append_cstr(&answer->reason, reason);
    return API_E_REFUSED;
}

int api_refuse(struct api_request *request, uint16_t status, const char *reason, const char *cure) {
    return api_refuse_kind(request, status, NULL, reason, cure);
}

static bool refuse_head(struct api_request *request, uint16_t status, const char *kind,
                        const char *reason, const char *cure) {
    (void)api_refuse_kind(request, status, kind, reason, cure);
    request->is_refused = true;
    return false;
}

/* --- the head --- */

static bool is_safe(const struct api_request *request) {
    return request->method == HTTP_METHOD_GET;
}

static bool judge_border(struct api_request *request, const struct http_head *head) {
    struct api *api = request->api;
    pthread_mutex_lock(&api->mutex);
    bool is_ours = guard_host_is_ours(api->hosts, head);
    pthread_mutex_unlock(&api->mutex);
    if (!is_ours) /* RFC 9110 section 15.5.20 */
        return refuse_head(request, 421, "host", "this is not a host of this gateway",
                           "use localhost, a name of its certificate, or name it in admin.hosts");
    if (!guard_origin_is_ours(head))
        return refuse_head(request, 403, "origin", "pages of other origins may not ask", NULL);
    return true;
}

static bool refuse_method(struct api_request *request, unsigned allowed) {
    struct buf *fields = &request->answer.fields;
    (void)refuse_head(request, 405, NULL, "this path does not know the method", NULL);
    buf_append_cstr(fields, "Allow: ");
    bool is_first = true;
    for (unsigned method = 0; method <= HTTP_METHOD_PATCH; method++) {
        if ((allowed & (1u << method)) == 0)
            continue;
        buf_printf(fields, "%s%s", is_first ? "" : ", ", api_method_name((enum http_method)method));
        if (method == HTTP_METHOD_GET)
            buf_append_cstr(fields, ", HEAD");
        is_first = false;
    }
    buf_append_cstr(fields, "\r\n");
    return false;
}

static bool judge_route(struct api_request *request) {
    unsigned allowed = 0;
    if (request->method == HTTP_METHOD_OTHER)
        return refuse_head(request, 501, NULL, "there is no such method", NULL);
    int error = api_route_find(request->method, request->path, &request->arena, &request->route,
                               request->parameters, &allowed);
    if (error == API_E_METHOD)
        return refuse_method(request, allowed);
    if (error == API_E_PATH)
        return refuse_head(request, 404, NULL, "there is nothing at this path",
                           "GET /api/v1/openapi.json tells what there is");
    return error == 0 || refuse_head(request, 503, NULL, "out of memory", NULL);
}

static bool judge_credentials(struct api_request *request) {
    if (request->route->need == API_NEED_PUBLIC)
        return true;
    switch (request->credentials) {
    case GUARD_COOKIE_SENT:
    case GUARD_BEARER:
        return true;
    case GUARD_AMBIGUOUS:
        return refuse_head(request, 400, "credentials",
                           "the request has more than one session cookie or Authorization", NULL);
    case GUARD_MALFORMED:
    case GUARD_NOBODY:
        break;
    }
    return refuse_head(request, 401, NULL, "nobody is logged in", login_cure);
}

static bool has_body(const struct http_head *head) {
    return head->body == HTTP_BODY_CHUNKED ||
           (head->body == HTTP_BODY_LENGTH && head->content_length != 0);
}

/* What a form of another page can send is not taken: text/plain, forms (Fetch, "simple" media
 * types). */
static bool judge_body(struct api_request *request, const struct http_head *head) {
    struct slice media = http_content_type(head);
    bool is_public = request->route->need == API_NEED_PUBLIC;
    size_t max = is_public ? API_PUBLIC_BODY : API_BODY;
    if (request->route->request == NULL)
        return !has_body(head) ||
               refuse_head(request, 400, NULL, "this request has no body here", NULL);
    bool is_json = slice_eq_nocase(media, SLICE("application/json")) ||
                   (request->method == HTTP_METHOD_PATCH &&
                    slice_eq_nocase(media, SLICE("application/merge-patch+json")));
    if (!is_json || http_head_count(head, SLICE("content-type")) != 1 ||
        http_head_count(head, SLICE("content-encoding")) != 0)
        return refuse_head(request, 415, NULL, "the body has to be JSON, and not compressed",
                           "send Content-Type: application/json");
    buf_init_held(&request->body, max, &request->api->held);
    return head->body != HTTP_BODY_LENGTH || head->content_length <= max ||
           refuse_head(request, 413, NULL, "the body is too long for this route", NULL);
}

/* What is needed later is copied: the head may be gone by then. */
static bool copy_head(struct api_request *request, const struct http_head *head) {
    struct arena *arena = &request->arena;
    struct guard_who *presented = &request->presented;
    request->credentials = guard_credentials(head, presented);
    presented->session = arena_dup(arena, presented->session);
    presented->secret = arena_dup(arena, presented->secret);
    presented->token = arena_dup(arena, presented->token);
    request->path = arena_dup(arena, head->path);
    request->query = arena_dup(arena, head->query);
    request->csrf = arena_dup(arena, http_head_get(head, SLICE("x-csrf-token")));
    request->agent =
        arena_dup(arena, utf8_truncate(http_head_get(head, SLICE("user-agent")), LONGEST_AGENT));
    request->match = guard_if_match(head, &request->version);
    if (http_head_count(head, SLICE("x-csrf-token")) > 1)
        request->csrf = SLICE_EMPTY;
    return !arena_failed(arena) || refuse_head(request, 503, NULL, "out of memory", NULL);
}

bool api_request_head(struct api_request *request, const struct http_head *head) {
    request->is_head = head->method == HTTP_METHOD_HEAD;
    request->method = request->is_head ? HTTP_METHOD_GET : head->method;
    request->keep_alive = head->keep_alive;
    request->is_http10 = head->minor_version == 0;
    const struct network client = api_client(request->api, head, &request->client);
    take_client(request, &client);
    bool is_fine = copy_head(request, head) && judge_border(request, head) &&
                   judge_route(request) && judge_credentials(request) && judge_body(request, head);
    if (is_fine && head->expect_continue && has_body(head))
        return api_connection_write(request->connection, SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
    if (is_fine || !has_body(head))
        return true;
    request->keep_alive = false; /* its body is not read */
    request->is_running = true;
    api_request_done(request, API_E_REFUSED);
    return false;
}

/* --- what it asks for --- */

static size_t count_queries(const struct schema_field *fields) {
    size_t n = 0;
    while (fields != NULL && fields[n].name != NULL)
        n++;
    return n;
}

static int take_query(struct api_request *request, struct slice name, struct slice value) {
    const struct schema_field *fields = request->route->query;
    for (size_t i = 0; fields != NULL && fields[i].name != NULL; i++) {
        if (!slice_eq(name, slice_from_cstr(fields[i].name)))
            continue;
        if (request->queries[i].ptr != NULL)
            return api_refuse(request, 400, "a parameter of the query stands there twice", NULL);
        request->queries[i] = value;
        (void)api_refuse(request, 400, "", NULL);
        int error = schema_check_text(&fields[i], value, &request->answer.reason);
        return error > 0 ? API_E_REFUSED : error;
    }
    (void)api_refuse(request, 400, "the query has a parameter that this route does not know: ",
                     "GET /api/v1/openapi.json tells which it knows");
    buf_append(&request->answer.reason, utf8_truncate(name, 64));
    return API_E_REFUSED;
}

static int read_query(struct api_request *request) {
    const struct schema_field *fields = request->route->query;
    struct slice rest = request->query, name = SLICE_EMPTY, value = SLICE_EMPTY;
    int error = 0;
    request->queries =
        arena_alloc_array(&request->arena, count_queries(fields) + 1, sizeof(struct slice));
    if (request->queries == NULL)
        return -ENOMEM;
    while (error == 0 && guard_next_query(&rest, &request->arena, &name, &value, &error)) {
        if (error > 0)
            return api_refuse(request, 400, "the query is not well-formed", NULL);
        if (error == 0)
            error = take_query(request, name, value);
    }
    for (size_t i = 0; error == 0 && fields != NULL && fields[i].name != NULL; i++) {
        if (!fields[i].is_required || request->queries[i].ptr != NULL)
            continue;
        (void)api_refuse(request, 400, fields[i].name, NULL);
        buf_append_cstr(&request->answer.reason, ": is missing in the query");
        return API_E_REFUSED;
    }
    return error;
}

static int read_match(struct api_request *request) {
    if (!request->route->needs_match)
        return 0;
    switch (request->match) {
    case GUARD_MATCH_NONE: /* RFC 6585 section 3 */
        return api_refuse(request, 428, "a change says which version it is of",
                          "send If-Match with the ETag that a GET answered, or \"*\" for any");
    case GUARD_MATCH_BAD:
        return api_refuse(request, 400, "If-Match has to be one entity tag, or *", NULL);
    case GUARD_MATCH_OTHER:
        return api_refuse(request, 412, "it has another version by now",
                          "get it again, and change that");
    case GUARD_MATCH_ANY:
    case GUARD_MATCH_ONE:
        break;
    }
    return 0;
}

static int read_body(struct api_request *request) {
    const struct json_limits limits = {.max_depth = 16, .max_keys = 1000, .max_nodes = 20000};
    struct json_error why = {.reason = "", .offset = 0};
    if (request->route->request == NULL)
        return 0;
    int error = json_reader_new(&request->reader);
    if (error == 0)
        error =
            json_read(request->reader, buf_slice(&request->body), &api_schema_want, &limits, &why);
    if (error > 0) {
        (void)api_refuse(request, 400, "the body is not the JSON that it has to be: ", NULL);
        buf_printf(&request->answer.reason, "%s (at byte %zu)", why.reason, why.offset);
        return API_E_REFUSED;
    }
    if (error != 0)
        return error;
    (void)api_refuse(request, 422, "", NULL);
    error = schema_check(request->route->request, request->reader, &request->answer.reason);
    return error > 0 ? API_E_REFUSED : error;
}

/* --- a new password --- */

static void hash_password(struct api_request *request) {
    struct slice password;
    int error = api_text(request, request->route->password, &password);
    if (error == 0)
        error = password_hash(password, &request->password_hash);
    request->job.result = error;
}

static void on_hashed(struct api_request *request);

/* True: it goes on later, or was answered. */
static bool needs_hash(struct api_request *request) {
    struct slice password = {0}, name = {0};
    if (request->route->password == NULL)
        return false;
    int error = api_text(request, request->route->password, &password);
    if (error == 0)
        error = api_text(request, "name", &name);
    if (error == 0 && password.ptr == NULL)
        return false;
    if (error == 0 && name.ptr == NULL)
        name = slice_from_cstr(request->who.name);
    const char *refusal = error == 0 ? password_refusal(password, name) : NULL;
    if (refusal != NULL) {
        (void)api_refuse_kind(request, 422, "password", request->route->password, NULL);
        buf_printf(&request->answer.reason, ": %s", refusal);
        error = API_E_REFUSED;
    }
    if (error != 0)
        api_request_done(request, error);
    else
        (void)!api_in_crew(request, request->api->hashers, hash_password, on_hashed);
    return true;
}

/* --- its way --- */

static void on_worked(struct api_request *request) {
    api_request_done(request, request->job.result);
}

static void do_it(struct api_request *request) {
    const struct api_route *route = request->route;
    api_answer_reset(&request->answer);
    if (route->begin != NULL)
        route->begin(request);
    else
        api_in_store(request, is_safe(request) ? STORE_READ : STORE_WRITE, route->work, on_worked);
}

static void intend(struct api_request *request) {
    api_answer_reset(&request->answer);
    /* Strangers could fill the trail with what they intend; of them the outcome is enough. */
    if (is_safe(request) || request->route->need == API_NEED_PUBLIC)
        do_it(request);
    else
        api_record_intent(request, do_it);
}

static void on_hashed(struct api_request *request) {
    if (request->job.result != 0)
        api_request_done(request, request->job.result);
    else
        intend(request);
}

static void look_closer(struct api_request *request) {
    int error = read_query(request);
    if (error == 0)
        error = read_match(request);
    if (error == 0)
        error = read_body(request);
    if (error != 0)
        api_request_done(request, error);
    else if (!needs_hash(request))
        intend(request);
}

static void on_who(struct api_request *request) {
    if (request->job.result != 0)
        api_request_done(request, request->job.result);
    else
        look_closer(request);
}

static int nothing_more(struct store_tx *tx, struct api_request *request) {
    (void)tx;
    (void)request;
    return 0;
}

void api_request_run(struct api_request *request) {
    request->is_running = true;
    if (request->is_refused)
        api_request_done(request, API_E_REFUSED);
    else if (request->route->need == API_NEED_PUBLIC)
        look_closer(request);
    else
        api_in_store(request, STORE_READ, nothing_more, on_who);
}

/* --- elsewhere, and back --- */

static int run_work(struct store_tx *tx, void *context) {
    struct api_request *request = context;
    api_answer_reset(&request->answer);
    int error = request->route->need != API_NEED_PUBLIC ? api_find_who(tx, request) : 0;
    return error == 0 ? request->work(tx, request) : error;
}

static void deliver_job(struct io_message *message) {
    struct store_job *job = CONTAINER_OF(message, struct store_job, message);
    struct api_request *request = CONTAINER_OF(job, struct api_request, job);
    /* What was changed holds for the next call, wherever it lands: so the answer waits for that. */
    if (job->kind == STORE_WRITE && job->result == 0 && request->api->options.gateway != NULL)
        api_refresh(request);
    else
        request->next(request);
}

void api_in_store(struct api_request *request, enum store_kind kind, api_work_fn *work,
                  void (*next)(struct api_request *request)) {
    request->work = work;
    request->next = next;
    request->job = (struct store_job){
        .message = {.deliver = deliver_job},
        .loop = request->api->loop,
        .kind = kind,
        .work = run_work,
        .context = request,
    };
    store_submit(request->api->options.store, &request->job);
}

static void run_task(struct crew_task *task) {
    struct api_request *request = CONTAINER_OF(task, struct api_request, task);
    request->run(request);
}

static void deliver_task(struct io_message *message) {
    struct crew_task *task = CONTAINER_OF(message, struct crew_task, message);
    struct api_request *request = CONTAINER_OF(task, struct api_request, task);
    request->next(request);
}

bool api_again_in_crew(struct api_request *request, struct crew *crew,
                       void (*run)(struct api_request *request),
                       void (*next)(struct api_request *request)) {
    request->run = run;
    request->next = next;
    request->task = (struct crew_task){
        .message = {.deliver = deliver_task},
        .loop = request->api->loop,
        .run = run_task,
    };
    return crew_submit(crew, &request->task);
}

bool api_in_crew(struct api_request *request, struct crew *crew,
                 void (*run)(struct api_request *request),
                 void (*next)(struct api_request *request)) {
    if (api_again_in_crew(request, crew, run, next))
        return true;
    (void)api_refuse(request, 503, "too many others wait for this", "try again in a moment");
    request->answer.wait_ms = 1000;
    api_request_done(request, API_E_REFUSED);
    return false;
}

/* --- for handlers --- */

int api_text(struct api_request *request, const char *name, struct slice *ret_text) {
    return schema_text(request->reader, name, &request->arena, ret_text);
}

struct slice api_query(const struct api_request *request, const char *name) {
    const struct schema_field *fields = request->route->query;
    for (size_t i = 0; fields[i].name != NULL; i++) {
        if (slice_eq(slice_from_cstr(fields[i].name), slice_from_cstr(name)))
            return request->queries[i];
    }
    return (struct slice){0};
}

uint64_t api_query_number(const struct api_request *request, const char *name, uint64_t usual) {
    uint64_t number = usual;
    struct slice text = api_query(request, name);
    return text.ptr != NULL && slice_to_u64(text, &number) == 0 ? number : usual;
}

struct accounts_actor api_actor(const struct api_request *request) {
    return (struct accounts_actor){
        .user = slice_from_cstr(request->who.user),
        .rights = request->who.rights,
        .session = slice_from_cstr(request->who.session),
        .until_ms = request->who.is_token ? request->who.ends_ms : 0,
    };
}

bool api_may(const struct api_request *request, enum permission permission) {
    return request->who.rights != NULL && policy_rights_have(request->who.rights, permission);
}
