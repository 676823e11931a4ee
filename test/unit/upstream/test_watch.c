/*
 * Who watches an instance, and what its server is asked for: a server of each era that says what a
 * row has it say, be it wrong. What it is sent is written down, what it says comes in as from its
 * pipe.
 */
#include <errno.h>

#include "base/limits.h"
#include "private.h"
#include "test.h"

#define LEGACY_ALL                                                                                 \
    "{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{\"tools\":{\"listChanged\":true},"      \
    "\"prompts\":{},\"resources\":{\"subscribe\":true}}}"
#define LEGACY_NONE                                                                                \
    "{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{\"tools\":{},\"resources\":{"           \
    "\"listChanged\":false,\"subscribe\":1}}}"
#define MODERN_ALL                                                                                 \
    "{\"supportedVersions\":[\"2026-07-28\"],\"capabilities\":{\"tools\":{\"listChanged\":true},"  \
    "\"resources\":{\"listChanged\":true,\"subscribe\":true}}}"
#define MODERN_RESOURCES                                                                           \
    "{\"supportedVersions\":[\"2026-07-28\"],\"capabilities\":{\"resources\":{\"subscribe\":true}" \
    "}}"
#define MODERN_NONE "{\"supportedVersions\":[\"2026-07-28\"],\"capabilities\":{\"tools\":{}}}"

#define MODERN_TASKS                                                                               \
    "{\"supportedVersions\":[\"2026-07-28\"],\"capabilities\":{\"tools\":{},\"extensions\":{"      \
    "\"io.modelcontextprotocol/tasks\":{}}}}"
#define MODERN_BOTH                                                                                \
    "{\"supportedVersions\":[\"2026-07-28\"],\"capabilities\":{\"resources\":{\"subscribe\":true}" \
    ",\"extensions\":{\"io.modelcontextprotocol/tasks\":{}}}}"

#define CONFIG "[mcp.servers.s]\ncmd = [\"x\"]\ntimeout = \"1s\"\n"

#define TOOLS     (1u << MCP_LIST_TOOLS)
#define RESOURCES (1u << MCP_LIST_RESOURCES | 1u << MCP_LIST_TEMPLATES)

struct fixture {
    struct io_loop *loop;
    struct log *log;
    struct config *config;
    struct upstream_set *set;
    struct upstream_list *list;
    struct upstream_instance *instance;
    struct transport transport; /* of the test */
    struct buf sent;            /* lines, until they are looked at */
    int send_error;
    unsigned changed; /* lists, of the hook */
    struct io_message stop_message;
    struct io_timer *timer;
};

/* One watch, and what it heard. */
struct seen {
    struct fixture *f;
    struct upstream_watch *watch;
    size_t n_live, n_updated, n_lost, n_gone;
    enum upstream_outcome outcome;
    unsigned list_mask;
    struct buf bytes, params; /* of the last ones */
};

static struct fixture *of(struct transport *transport) {
    return CONTAINER_OF(transport, struct fixture, transport);
}

static int op_send(struct transport *transport, const struct transport_message *message) {
    struct fixture *f = of(transport);
    if (f->send_error != 0)
        return f->send_error;
    return buf_append(&f->sent, message->line);
}

static bool op_forget(struct transport *transport, uint64_t id) {
    (void)transport, (void)id;
    return true;
}

static void op_nothing(struct transport *transport) {
    (void)transport;
}

static void op_agree(struct transport *transport, enum mcp_revision revision) {
    (void)transport, (void)revision;
}

static void on_changed(void *context, const struct upstream *upstream, struct slice owner,
                       unsigned list_mask) {
    struct fixture *f = context;
    (void)upstream, (void)owner;
    f->changed |= list_mask;
}

static void set_up(struct fixture *f) {
    static const struct transport_ops ops = {op_send,    op_forget,  op_nothing, op_agree,
                                             op_nothing, op_nothing, op_nothing};
    struct config_problems problems;
    *f = (struct fixture){.log = log_new(2, LOG_OFF, LOG_STYLE_TEXT), .transport = {.ops = &ops}};
    buf_init(&f->sent, MIB(16));
    config_problems_init(&problems);
    if (config_load_text(SLICE("f.toml"), SLICE(CONFIG), NULL, NULL, &problems, &f->config) != 0 ||
        io_loop_new(&f->loop) != 0)
        CANNOT_GO_ON();
    config_problems_deinit(&problems);
    struct upstream_set_options options = {.config = f->config,
                                           .log = f->log,
                                           .loops = &f->loop,
                                           .n_loops = 1,
                                           .version = SLICE("0"),
                                           .hooks = {.context = f, .on_changed = on_changed}};
    if (upstream_set_new(&options, &f->set) != 0)
        CANNOT_GO_ON();
    f->list = upstream_set_list(f->set);
    if (upstream_get(upstream_list_at(f->list, 0),
                     &(struct upstream_owner){.principal = SLICE("p")},
                     upstream_set_worker(f->set, 0), &f->instance) != 0)
        CANNOT_GO_ON();
}

static void on_stopped(void *context) {
    io_loop_stop(context);
}

static void tear_down(struct fixture *f) {
    f->instance->transport = NULL;
    upstream_instance_unref(f->instance);
    upstream_list_unref(f->list);
    upstream_set_stop(f->set, on_stopped, f->loop);
    io_loop_run(f->loop);
    upstream_set_free(f->set);
    io_timer_free(f->timer);
    io_loop_free(f->loop);
    config_unref(f->config);
    log_free(f->log);
    buf_deinit(&f->sent);
}

static void deliver_stop(struct io_message *message) {
    io_loop_stop(CONTAINER_OF(message, struct fixture, stop_message)->loop);
}

/* What was posted is delivered, and what that posted. */
static void settle(struct fixture *f) {
    for (int i = 0; i < 3; i++) {
        f->stop_message.deliver = deliver_stop;
        io_loop_post(f->loop, &f->stop_message);
        io_loop_run(f->loop);
    }
}

static void on_late(void *context) {
    struct fixture *f = context;
    CHECK(!"it has come to an end");
    io_loop_stop(f->loop);
}

/* Until a timer of the instance has made it happen. */
static void wait_for(struct fixture *f, const size_t *count, size_t wanted) {
    if (f->timer == NULL)
        f->timer = io_timer_new(f->loop, on_late, f);
    io_timer_start(f->timer, 20000);
    while (*count < wanted && io_timer_is_running(f->timer))
        settle(f);
    io_timer_stop(f->timer);
}

/* The handshake is over, as if the server had answered it so. */
static void be_ready(struct fixture *f, const char *answer) {
    struct upstream_instance *instance = f->instance;
    struct catalog *catalog = catalog_new(NULL);
    struct slice text = slice_from_cstr(answer);
    unsigned lists = 0;
    const char *reason = "";
    bool is_modern = slice_find(text, SLICE("supportedVersions")) != SIZE_MAX;
    int error = is_modern ? catalog_read_discover(catalog, text, instance->worker->home_reader,
                                                  &lists, &reason)
                          : catalog_read_initialize(catalog, text, instance->worker->home_reader,
                                                    &lists, &reason);
    CHECK_INT(error, 0);
    catalog_unref(instance->catalog);
    instance->catalog = catalog;
    instance->lists_declared = lists;
    instance->transport = &f->transport;
    instance->state = UPSTREAM_STARTING;
    instance_ready(instance);
    settle(f);
}

static void lose(struct fixture *f) {
    watches_lost(f->instance);
    f->instance->state = UPSTREAM_STARTING;
}

static void on_live(void *context, enum upstream_outcome outcome, unsigned list_mask,
                    struct slice bytes) {
    struct seen *seen = context;
    CHECK_INT(seen->n_gone, 0);
    seen->n_live++;
    seen->outcome = outcome;
    seen->list_mask = list_mask;
    buf_reset(&seen->bytes, KIB(1));
    buf_append(&seen->bytes, bytes);
}

static void on_updated(void *context, struct slice params) {
    struct seen *seen = context;
    CHECK(seen->n_live == 1 && seen->outcome == UPSTREAM_RESULT && seen->n_gone == 0);
    CHECK(params.len <= LIMIT_URI_LENGTH * 6 + 16);
    seen->n_updated++;
    buf_reset(&seen->params, KIB(1));
    buf_append(&seen->params, params);
}

static void on_lost(void *context) {
    struct seen *seen = context;
    CHECK(seen->n_live == 1 && seen->outcome == UPSTREAM_RESULT && seen->n_gone == 0);
    seen->n_lost++;
}

static void on_gone(void *context) {
    struct seen *seen = context;
    seen->n_gone++;
}

static void begin(struct fixture *f, struct seen *seen, const struct upstream_wish *wish) {
    static const struct upstream_watch_events events = {on_live, on_updated, on_lost, on_gone};
    *seen = (struct seen){.f = f};
    buf_init(&seen->bytes, KIB(64));
    buf_init(&seen->params, KIB(64));
    seen->watch = upstream_watch_start(f->instance, wish, &events, seen);
    REQUIRE(seen->watch != NULL);
    CHECK_INT(seen->n_live, 0); /* no event from inside */
}

static void watch(struct fixture *f, struct seen *seen, struct slice uri, unsigned lists) {
    struct upstream_wish wish = {
        .kind = uri.len == 0 ? UPSTREAM_WATCHED_LISTS : UPSTREAM_WATCHED_RESOURCE,
        .name = uri,
        .list_mask = lists,
    };
    begin(f, seen, &wish);
}

static void watch_task(struct fixture *f, struct seen *seen, const char *id) {
    begin(f, seen,
          &(struct upstream_wish){.kind = UPSTREAM_WATCHED_TASK, .name = slice_from_cstr(id)});
    settle(f);
}

static void watch_uri(struct fixture *f, struct seen *seen, const char *uri) {
    watch(f, seen, slice_from_cstr(uri), 0);
    settle(f);
}

static void stop(struct seen *seen) {
    size_t n = seen->n_gone;
    upstream_watch_stop(seen->watch);
    CHECK_INT(seen->n_gone, n);
    settle(seen->f);
    CHECK_INT(seen->n_gone, 1);
    buf_deinit(&seen->bytes);
    buf_deinit(&seen->params);
}

static void say(struct fixture *f, const char *line) {
    (void)instance_handle_message(f->instance, 0, slice_from_cstr(line));
    settle(f);
}

/* `line` with the id in place of each #. */
static void say_of(struct fixture *f, const char *line, uint64_t id) {
    struct buf whole CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    for (const char *at = line; *at != '\0'; at++) {
        if (*at == '#')
            buf_append_u64(&whole, id);
        else
            buf_append_byte(&whole, *at);
    }
    buf_append_byte(&whole, '\0');
    say(f, whole.data);
}

/* The line of this method that was sent next, which is taken out with all before it. */
static bool take_sent(struct fixture *f, const char *method, char line[static 512]) {
    char text[64];
    snprintf(text, sizeof text, "\"method\":\"%s\"", method);
    while (buf_len(&f->sent) != 0) {
        struct slice all = buf_slice(&f->sent);
        size_t len = slice_find_byte(all, '\n');
        struct slice first = slice_sub(all, 0, len);
        bool is_it = slice_find(first, slice_from_cstr(text)) != SIZE_MAX;
        snprintf(line, 512, "%.*s", (int)(first.len < 511 ? first.len : 511), first.ptr);
        buf_consume(&f->sent, len + 1);
        if (is_it)
            return true;
    }
    return false;
}

static uint64_t id_of(const char *line) {
    uint64_t id = 0;
    struct slice text = message_shown_id(slice_from_cstr(line));
    CHECK_INT(slice_to_u64(text, &id), 0);
    return id;
}

/* Its id; 0: nothing of that kind was sent. */
static uint64_t sent(struct fixture *f, const char *method, const char *with) {
    char line[512];
    if (!take_sent(f, method, line))
        return 0;
    CHECK(strstr(line, with) != NULL);
    if (strstr(line, with) == NULL)
        printf("# %s\n", line);
    return strncmp(method, "notifications/", 14) == 0 ? 1 : id_of(line);
}

#define RESULT       "{\"jsonrpc\":\"2.0\",\"id\":#,\"result\":{}}"
#define REFUSED      "{\"jsonrpc\":\"2.0\",\"id\":#,\"error\":{\"code\":-32002,\"message\":\"no\"}}"
#define UNKNOWN      "{\"jsonrpc\":\"2.0\",\"id\":#,\"error\":{\"code\":-32601,\"message\":\"no\"}}"
#define SUBSCRIBE    "resources/subscribe"
#define UNSUBSCRIBE  "resources/unsubscribe"
#define LISTEN       "subscriptions/listen"
#define META         "\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":#}"
#define ACKNOWLEDGED "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\","
#define UPDATED      "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\","
#define CHANGED      "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\""

static void test_subscribe(void) {
    struct fixture f;
    struct seen one, two, other;
    set_up(&f);
    be_ready(&f, LEGACY_ALL);
    watch_uri(&f, &one, "test://\xc3\xa9");
    watch_uri(&f, &two, "test://\xc3\xa9");
    uint64_t id = sent(&f, SUBSCRIBE, "\"params\":{\"uri\":\"test://\xc3\xa9\"}");
    CHECK_INT(sent(&f, SUBSCRIBE, ""), 0);
    CHECK_INT(one.n_live + two.n_live, 0);
    say_of(&f, RESULT, id);
    CHECK(one.n_live == 1 && one.outcome == UPSTREAM_RESULT && two.n_live == 1);
    watch_uri(&f, &other, "test://other");
    id = sent(&f, SUBSCRIBE, "test://other");
    say_of(&f, RESULT, id);
    say(&f, UPDATED "\"params\":{\"uri\":\"test:\\/\\/\\u00e9\",\"x\":[1]}}");
    CHECK(one.n_updated == 1 && two.n_updated == 1 && other.n_updated == 0);
    CHECK_SLICE(buf_slice(&one.params), SLICE("{\"uri\":\"test:\\/\\/\\u00e9\",\"x\":[1]}"));
    say(&f, UPDATED "\"params\":{\"uri\":\"test://nobody\"}}");
    say(&f, UPDATED "\"params\":{\"uri\":7}}");
    say(&f, UPDATED "\"params\":{}}");
    say(&f, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\"}");
    CHECK(one.n_updated == 1 && other.n_updated == 0);
    stop(&one);
    CHECK_INT(sent(&f, UNSUBSCRIBE, ""), 0);
    say(&f, UPDATED "\"params\":{\"uri\":\"test://\xc3\xa9\"}}");
    CHECK_INT(two.n_updated, 2);
    stop(&two);
    id = sent(&f, UNSUBSCRIBE, "test://\xc3\xa9");
    CHECK(id != 0);
    /* Somebody comes back before that is answered: asked for again, afterwards. */
    watch_uri(&f, &one, "test://\xc3\xa9");
    CHECK_INT(sent(&f, SUBSCRIBE, ""), 0);
    say_of(&f, RESULT, id);
    CHECK(sent(&f, SUBSCRIBE, "test://\xc3\xa9") != 0);
    CHECK_INT(one.n_live, 0);
    stop(&one); /* and goes before it is live */
    CHECK_INT(one.n_live, 0);
    stop(&other);
    CHECK_INT(watches_any(f.instance), false);
    tear_down(&f);
}

static void check_failed(struct seen *seen, enum upstream_outcome outcome, const char *words) {
    CHECK_INT(seen->n_live, 1);
    CHECK_INT(seen->outcome, outcome);
    CHECK(slice_find(buf_slice(&seen->bytes), slice_from_cstr(words)) != SIZE_MAX);
    CHECK_INT(seen->n_updated, 0);
}

static void test_refused(void) {
    struct fixture f;
    struct seen seen;
    char *uri = mem_xalloc(LIMIT_URI_LENGTH + 1);
    memset(uri, 'u', LIMIT_URI_LENGTH + 1);
    set_up(&f);
    be_ready(&f, LEGACY_ALL);
    watch_uri(&f, &seen, "test://a");
    say_of(&f, REFUSED, sent(&f, SUBSCRIBE, "test://a"));
    check_failed(&seen, UPSTREAM_ERROR, "{\"code\":-32002,\"message\":\"no\"}");
    CHECK_INT(watches_any(f.instance), false);
    stop(&seen);
    CHECK_INT(sent(&f, UNSUBSCRIBE, ""), 0);
    watch(&f, &seen, slice_make(uri, LIMIT_URI_LENGTH), 0);
    settle(&f);
    CHECK(sent(&f, SUBSCRIBE, "uuuu") != 0);
    stop(&seen);
    watch(&f, &seen, slice_make(uri, LIMIT_URI_LENGTH + 1), 0);
    settle(&f);
    check_failed(&seen, UPSTREAM_FAILED, "8 KiB");
    stop(&seen);
    f.send_error = -EPIPE;
    watch_uri(&f, &seen, "test://b");
    check_failed(&seen, UPSTREAM_FAILED, "does not read its input");
    stop(&seen);
    f.send_error = 0;
    watch_uri(&f, &seen, "test://silent");
    uint64_t id = sent(&f, SUBSCRIBE, "test://silent");
    wait_for(&f, &seen.n_live, 1);
    check_failed(&seen, UPSTREAM_TIMEOUT, "in time");
    CHECK_INT(sent(&f, "notifications/cancelled", "\"requestId\""), 1);
    say_of(&f, RESULT, id); /* too late */
    stop(&seen);
    lose(&f);
    be_ready(&f, LEGACY_NONE);
    watch_uri(&f, &seen, "test://a");
    check_failed(&seen, UPSTREAM_ERROR, "\"code\":-32601");
    CHECK_INT(sent(&f, SUBSCRIBE, ""), 0);
    stop(&seen);
    watch(&f, &seen, SLICE_EMPTY, UPSTREAM_ALL_LISTS);
    settle(&f);
    CHECK(seen.n_live == 1 && seen.outcome == UPSTREAM_RESULT && seen.list_mask == 0);
    stop(&seen);
    tear_down(&f);
    mem_free(uri);
}

static void test_lists_of_sessions(void) {
    struct fixture f;
    struct seen early, late;
    set_up(&f);
    f.instance->state = UPSTREAM_STARTING;
    watch(&f, &early, SLICE_EMPTY, TOOLS | RESOURCES);
    settle(&f);
    CHECK_INT(early.n_live, 0);
    be_ready(&f, LEGACY_ALL);
    CHECK(early.n_live == 1 && early.list_mask == TOOLS);
    watch(&f, &late, SLICE_EMPTY, RESOURCES);
    settle(&f);
    CHECK(late.n_live == 1 && late.list_mask == 0);
    stop(&early);
    stop(&late);
    tear_down(&f);
}

/* It starts anew: all is asked for again, and told once; then it is down, and closed. */
static void test_again(void) {
    static const char *const eras[] = {LEGACY_ALL, MODERN_RESOURCES};
    for (size_t i = 0; i < ARRAY_LEN(eras); i++) {
        struct fixture f;
        struct seen told, waiting, last;
        bool is_modern = i == 1;
        const char *method = is_modern ? LISTEN : SUBSCRIBE;
        const char *answer = is_modern ? ACKNOWLEDGED
                                 "\"params\":{\"notifications\":{\"resourceSubscriptions\":["
                                 "\"test://a\",\"test://b\"]}," META "}}"
                                       : RESULT;
        test_row(is_modern ? "listen" : "subscribe");
        set_up(&f);
        be_ready(&f, eras[i]);
        watch_uri(&f, &told, "test://a");
        say_of(&f, answer, sent(&f, method, "test://a"));
        CHECK_INT(told.n_live, 1);
        lose(&f);
        watch_uri(&f, &waiting, "test://a");
        CHECK_INT(waiting.n_live, 0);
        be_ready(&f, eras[i]);
        CHECK_INT(told.n_updated, 0);
        say_of(&f, answer, sent(&f, method, "test://a"));
        CHECK(told.n_live == 1 && told.n_updated == 1);
        CHECK_SLICE(buf_slice(&told.params), SLICE("{\"uri\":\"test://a\"}"));
        CHECK(waiting.n_live == 1 && waiting.n_updated == 0);
        lose(&f);
        watch_uri(&f, &last, "test://b");
        watches_fail(f.instance, SLICE("it is down"));
        check_failed(&last, UPSTREAM_FAILED, "it is down");
        CHECK(told.n_gone == 0 && waiting.n_gone == 0 && last.n_gone == 0);
        instance_close(f.instance);
        f.instance->transport = NULL;
        settle(&f);
        CHECK(told.n_gone == 1 && waiting.n_gone == 1 && last.n_gone == 1);
        stop(&told);
        stop(&waiting);
        stop(&last);
        watch_uri(&f, &last, "test://b"); /* of what is closed */
        CHECK_INT(last.n_gone, 1);
        check_failed(&last, UPSTREAM_FAILED, "stopping");
        stop(&last);
        tear_down(&f);
    }
}

/* The gateway ends while somebody watches. */
static void test_end(void) {
    struct fixture f;
    struct seen live, waiting;
    set_up(&f);
    be_ready(&f, LEGACY_ALL);
    watch_uri(&f, &live, "test://a");
    say_of(&f, RESULT, sent(&f, SUBSCRIBE, "test://a"));
    watch_uri(&f, &waiting, "test://b");
    tear_down(&f);
    CHECK(live.n_live == 1 && live.n_gone == 1);
    check_failed(&waiting, UPSTREAM_FAILED, "stopping");
    CHECK_INT(waiting.n_gone, 1);
    upstream_watch_stop(live.watch);
    upstream_watch_stop(waiting.watch);
    buf_deinit(&live.bytes);
    buf_deinit(&live.params);
    buf_deinit(&waiting.bytes);
    buf_deinit(&waiting.params);
}

static void test_bounds(void) {
    struct fixture f;
    struct seen *seen = mem_xalloc((LIMIT_WATCHES + 2) * sizeof *seen);
    struct buf long_params CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    char uri[64];
    size_t n_failed = 0;
    set_up(&f);
    f.instance->state = UPSTREAM_STARTING;
    for (size_t i = 0; i < LIMIT_WATCHES + 1; i++) {
        snprintf(uri, sizeof uri, "test://%zu", i % 100);
        watch(&f, &seen[i], slice_from_cstr(uri), 0);
    }
    watch(&f, &seen[LIMIT_WATCHES + 1], SLICE_EMPTY, TOOLS);
    settle(&f);
    for (size_t i = 0; i < LIMIT_WATCHES + 2; i++)
        n_failed += seen[i].n_live;
    CHECK_INT(n_failed, 1);
    check_failed(&seen[LIMIT_WATCHES], UPSTREAM_FAILED, "too many");
    be_ready(&f, LEGACY_ALL);
    size_t n_asked = 0;
    for (uint64_t id; (id = sent(&f, SUBSCRIBE, "test://")) != 0; n_asked++) {
        CHECK(f.instance->watches.n_out <= 8);
        say_of(&f, RESULT, id);
    }
    CHECK_INT(n_asked, 100);
    CHECK_INT(seen[LIMIT_WATCHES + 1].n_live, 1);
    buf_append_cstr(&long_params, UPDATED "\"params\":{\"uri\":\"test://7\",\"x\":\"");
    for (size_t i = 0; i < LIMIT_UPDATED; i++)
        buf_append_byte(&long_params, 'x');
    buf_append_cstr(&long_params, "\"}}");
    (void)instance_handle_message(f.instance, 0, buf_slice(&long_params));
    CHECK_INT(seen[7].n_updated, 1);
    CHECK_SLICE(buf_slice(&seen[7].params), SLICE("{\"uri\":\"test://7\"}"));
    for (size_t i = 0; i < LIMIT_WATCHES + 2; i++) {
        upstream_watch_stop(seen[i].watch);
        buf_deinit(&seen[i].bytes);
        buf_deinit(&seen[i].params);
    }
    settle(&f);
    CHECK_INT(f.instance->watches.n_resources, 0);
    lose(&f);
    CHECK_INT(f.instance->watches.n_bytes, 0);
    CHECK_INT(f.instance->watches.topics.count, 0);
    tear_down(&f);
    mem_free(seen);
}

/* The URIs of all of them together. */
static void test_bytes(void) {
    struct fixture f;
    enum { FIT = LIMIT_WATCHED_BYTES / LIMIT_URI_LENGTH };
    struct seen seen[FIT + 1];
    char *uri = mem_xalloc(LIMIT_URI_LENGTH);
    memset(uri, 'u', LIMIT_URI_LENGTH);
    set_up(&f);
    f.instance->state = UPSTREAM_STARTING;
    for (size_t i = 0; i < FIT + 1; i++) {
        uri[0] = (char)('a' + i / 16);
        uri[1] = (char)('a' + i % 16);
        watch(&f, &seen[i], slice_make(uri, LIMIT_URI_LENGTH), 0);
    }
    settle(&f);
    CHECK_INT(seen[FIT - 1].n_live, 0);
    check_failed(&seen[FIT], UPSTREAM_FAILED, "too many");
    for (size_t i = 0; i < FIT + 1; i++)
        stop(&seen[i]);
    tear_down(&f);
    mem_free(uri);
}

/* What comes with the answers of calls, on other threads: no more than a few are kept. */
static void test_overheard(void) {
    struct fixture f;
    struct seen seen, other;
    struct mcp_message message;
    struct mcp_refusal refusal;
    set_up(&f);
    be_ready(&f, LEGACY_ALL);
    watch_uri(&f, &seen, "test://a");
    say_of(&f, RESULT, sent(&f, SUBSCRIBE, "test://a"));
    watch_uri(&f, &other, "test://b");
    say_of(&f, RESULT, sent(&f, SUBSCRIBE, "test://b"));
    struct json_reader *reader = f.instance->worker->reader;
    struct slice text = SLICE(UPDATED "\"params\":{\"uri\":\"test://a\",\"n\":1}}");
    REQUIRE(mcp_message_read(reader, text, &message, &refusal) == 0);
    watches_overhear(f.instance, reader, &message);
    CHECK_INT(seen.n_updated, 0);
    settle(&f);
    CHECK(seen.n_updated == 1 && other.n_updated == 0);
    CHECK_SLICE(buf_slice(&seen.params), SLICE("{\"uri\":\"test://a\",\"n\":1}"));
    for (size_t i = 0; i < 1000; i++)
        watches_overhear(f.instance, reader, &message);
    settle(&f);
    CHECK_INT(seen.n_updated, 1 + 32 + 1);
    CHECK_INT(other.n_updated, 1); /* it may have been among those that were not kept */
    CHECK_INT(f.instance->watches.n_heard, 0);
    stop(&seen);
    stop(&other);
    watches_overhear(f.instance, reader, &message);
    CHECK_INT(f.instance->watches.n_heard, 0);
    tear_down(&f);
}

#define ACK_LISTS                                                                                  \
    ACKNOWLEDGED "\"params\":{\"notifications\":{\"toolsListChanged\":true,"                       \
                 "\"resourcesListChanged\":true}," META "}}"
#define ACK_A                                                                                      \
    ACKNOWLEDGED "\"params\":{\"notifications\":{\"toolsListChanged\":true,"                       \
                 "\"resourceSubscriptions\":[\"test://a\",\"nobody://asked\",7]}," META "}}"

static void test_listen(void) {
    struct fixture f;
    struct seen lists, a, b;
    set_up(&f);
    be_ready(&f, MODERN_ALL);
    uint64_t first = sent(&f, LISTEN,
                          "{\"notifications\":{\"toolsListChanged\":true,"
                          "\"resourcesListChanged\":true},\"_meta\":{\"io.modelcontextprotocol/"
                          "protocolVersion\":\"2026-07-28\"");
    CHECK(first != 0);
    watch(&f, &lists, SLICE_EMPTY, UPSTREAM_ALL_LISTS);
    settle(&f);
    CHECK_INT(lists.n_live, 0);
    say_of(&f, ACK_LISTS, first);
    CHECK(lists.n_live == 1 && lists.list_mask == (TOOLS | RESOURCES));
    CHECK_INT(sent(&f, "tools/list", ""), 0);
    say_of(&f, CHANGED ",\"params\":{" META "}}", first);
    CHECK(sent(&f, "tools/list", "") != 0);
    lose(&f); /* its answer is not what this is about */
    handshake_forget(f.instance);
    be_ready(&f, MODERN_ALL);
    first = sent(&f, LISTEN, "");
    say_of(&f, ACK_LISTS, first);
    /* Two that come together are asked for together. The one before goes on until then. */
    watch(&f, &a, SLICE("test://a"), 0);
    watch(&f, &b, SLICE("test://b"), 0);
    settle(&f);
    uint64_t second = sent(&f, LISTEN, "\"resourceSubscriptions\":[\"test://a\",\"test://b\"]");
    CHECK_INT(sent(&f, LISTEN, ""), 0);
    CHECK_INT(sent(&f, "notifications/cancelled", ""), 0);
    say_of(&f, UPDATED "\"params\":{\"uri\":\"test://a\"," META "}}", second); /* too early */
    say_of(&f, ACK_A, first);                                                  /* of another one */
    say(&f, ACKNOWLEDGED "\"params\":{\"notifications\":{}}}");
    CHECK_INT(a.n_live, 0);
    say_of(&f, ACK_A, second);
    char line[512];
    REQUIRE(take_sent(&f, "notifications/cancelled", line));
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"requestId\":%llu", (unsigned long long)first);
    CHECK(strstr(line, wanted) != NULL);
    CHECK(a.n_live == 1 && a.outcome == UPSTREAM_RESULT && a.n_updated == 0);
    check_failed(&b, UPSTREAM_FAILED, "does not tell");
    say_of(&f, ACK_A, second); /* again */
    say_of(&f, UPDATED "\"params\":{\"uri\":\"test://a\",\"x\":1," META "}}", second);
    CHECK_INT(a.n_updated, 1);
    static const char *const strange[] = {
        UPDATED "\"params\":{\"uri\":\"test://a\",\"_meta\":{\"io.modelcontextprotocol/"
                "subscriptionId\":\"#\"}}}",
        UPDATED "\"params\":{\"uri\":\"test://a\",\"_meta\":{\"io.modelcontextprotocol/"
                "subscriptionId\":#.0}}}",
        UPDATED "\"params\":{\"uri\":\"test://a\",\"_meta\":{\"io.modelcontextprotocol/"
                "subscriptionId\":[#]}}}",
        UPDATED "\"params\":{\"uri\":\"test://a\",\"_meta\":{\"io.modelcontextprotocol/"
                "subscriptionId\":1#}}}",
        UPDATED "\"params\":{\"uri\":\"test://a\",\"subscriptionId\":#}}",
        UPDATED "\"params\":{\"uri\":\"test://b\"," META "}}",
        UPDATED "\"params\":{\"uri\":\"nobody://asked\"," META "}}",
        UPDATED "\"params\":{\"uri\":null," META "}}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/prompts/list_changed\",\"params\":{" META
        "}}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progress\":1,"
        "\"progressToken\":#}}",
    };
    for (size_t i = 0; i < ARRAY_LEN(strange); i++) {
        test_row(strange[i]);
        say_of(&f, strange[i], second);
        CHECK_INT(a.n_updated, 1);
    }
    say(&f, CHANGED "}"); /* nobody's */
    CHECK_INT(sent(&f, "tools/list", ""), 0);
    say_of(&f, UPDATED "\"params\":{\"uri\":\"test://a\"," META "}}", first);
    CHECK_INT(a.n_updated, 1);
    stop(&b);
    stop(&a);
    stop(&lists);
    tear_down(&f);
}

/* Whoever has gone is not told of any more, and the server hears that. */
static void test_surplus(void) {
    struct fixture f;
    struct seen a, b;
    const char *both = ACKNOWLEDGED "\"params\":{\"notifications\":{\"resourceSubscriptions\":["
                                    "\"test://a\",\"test://b\"]}," META "}}";
    set_up(&f);
    be_ready(&f, MODERN_RESOURCES);
    CHECK_INT(sent(&f, LISTEN, ""), 0); /* it tells of no lists, and nobody watches */
    watch(&f, &a, SLICE("test://a"), 0);
    watch_uri(&f, &b, "test://b");
    say_of(&f, both, sent(&f, LISTEN, ""));
    stop(&b);
    listen_on_retry(f.instance);
    uint64_t second = sent(&f, LISTEN, "\"resourceSubscriptions\":[\"test://a\"]");
    say_of(&f, both, second); /* and more than that */
    CHECK_INT(a.n_live, 1);
    CHECK_INT(sent(&f, "notifications/cancelled", ""), 1);
    CHECK_INT(a.n_updated, 0);
    stop(&a);
    listen_on_retry(f.instance);
    CHECK_INT(sent(&f, "notifications/cancelled", ""), 1);
    CHECK_INT(sent(&f, LISTEN, ""), 0);
    tear_down(&f);
}

/* It ends: asked again after a pause, and everything counts as changed. */
static void test_ended(void) {
    static const char *const ends[] = {
        "{\"jsonrpc\":\"2.0\",\"id\":#,\"result\":{\"resultType\":\"complete\"," META "}}",
        RESULT,
        REFUSED,
        UNKNOWN,
    };
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct fixture f;
        struct seen a;
        test_row(ends[i]);
        set_up(&f);
        be_ready(&f, MODERN_ALL);
        say_of(&f, ACK_LISTS, sent(&f, LISTEN, ""));
        watch_uri(&f, &a, "test://a");
        uint64_t id = sent(&f, LISTEN, "test://a");
        say_of(&f, ACK_A, id);
        say_of(&f, ends[i], id);
        CHECK_INT(sent(&f, LISTEN, ""), 0);
        CHECK(f.instance->watches.retry_at_ms != 0);
        say_of(&f, ends[i], id); /* of nothing any more */
        listen_on_retry(f.instance);
        id = sent(&f, LISTEN, "test://a");
        CHECK_INT(a.n_updated, 0);
        say_of(&f, ACK_A, id);
        CHECK(a.n_updated == 1 && a.n_live == 1 && a.n_gone == 0);
        CHECK(sent(&f, "tools/list", "") != 0);
        stop(&a);
        tear_down(&f);
    }
}

/* It does not do what it declares. */
static void test_no_listen(void) {
    struct fixture f;
    struct seen lists, a;
    set_up(&f);
    be_ready(&f, MODERN_NONE);
    CHECK_INT(sent(&f, LISTEN, ""), 0);
    watch_uri(&f, &a, "test://a");
    check_failed(&a, UPSTREAM_ERROR, "-32601");
    stop(&a);
    lose(&f);
    be_ready(&f, MODERN_ALL);
    watch(&f, &lists, SLICE_EMPTY, TOOLS);
    settle(&f);
    say_of(&f, UNKNOWN, sent(&f, LISTEN, ""));
    CHECK(lists.n_live == 1 && lists.outcome == UPSTREAM_RESULT && lists.list_mask == 0);
    listen_on_retry(f.instance);
    CHECK_INT(sent(&f, LISTEN, ""), 0);
    watch_uri(&f, &a, "test://a"); /* who wants something is asked for */
    say_of(&f, UNKNOWN, sent(&f, LISTEN, "test://a"));
    check_failed(&a, UPSTREAM_ERROR, "-32601");
    stop(&a);
    stop(&lists);
    /* Results at once, again and again: with nobody there it is left alone in the end. */
    lose(&f);
    be_ready(&f, MODERN_ALL);
    size_t n = 0;
    for (uint64_t id; (id = sent(&f, LISTEN, "")) != 0 && n < 100; n++) {
        say_of(&f, RESULT, id);
        listen_on_retry(f.instance);
    }
    CHECK(n > 1 && n < 10);
    tear_down(&f);
}

static void test_late_listen(void) {
    struct fixture f;
    struct seen a, lists;
    set_up(&f);
    be_ready(&f, MODERN_ALL);
    watch_uri(&f, &a, "test://a");
    watch(&f, &lists, SLICE_EMPTY, TOOLS);
    CHECK(sent(&f, LISTEN, "") != 0);
    wait_for(&f, &lists.n_live, 1);
    check_failed(&lists, UPSTREAM_TIMEOUT, "in time");
    CHECK_INT(sent(&f, "notifications/cancelled", ""), 1);
    wait_for(&f, &a.n_live, 1); /* which was not in there: by the next one */
    check_failed(&a, UPSTREAM_TIMEOUT, "in time");
    stop(&a);
    stop(&lists);
    tear_down(&f);
}

/* A server that refuses everything for one resource: the others are not to suffer. */
static void test_one_of_many(void) {
    struct fixture f;
    struct seen seen[4];
    static const char *const uris[] = {"test://0", "test://bad", "test://2", "test://3"};
    set_up(&f);
    be_ready(&f, MODERN_RESOURCES);
    for (size_t i = 0; i < ARRAY_LEN(seen); i++)
        watch(&f, &seen[i], slice_from_cstr(uris[i]), 0);
    settle(&f);
    char line[512];
    size_t n = 0;
    for (; take_sent(&f, LISTEN, line) && n < 20; n++) {
        const char *answer = strstr(line, "test://bad") != NULL ? REFUSED
                                                                : ACKNOWLEDGED
                                 "\"params\":{\"notifications\":{\"resourceSubscriptions\":["
                                 "\"test://0\",\"test://2\",\"test://3\"]}," META "}}";
        say_of(&f, answer, id_of(line));
    }
    CHECK(n < 20);
    for (size_t i = 0; i < ARRAY_LEN(seen); i++) {
        CHECK_INT(seen[i].n_live, 1);
        CHECK_INT(seen[i].outcome, i == 1 ? UPSTREAM_ERROR : UPSTREAM_RESULT);
        CHECK_INT(seen[i].n_updated, 0);
        stop(&seen[i]);
    }
    tear_down(&f);
}

#define TASK "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tasks\","
#define ACK_TASK                                                                                   \
    ACKNOWLEDGED "\"params\":{\"notifications\":{\"taskIds\":[\"t\",\"other\",7]}," META "}}"
#define DECLARED "\"extensions\":{\"io.modelcontextprotocol/tasks\":{}}"

static void test_task(void) {
    struct fixture f;
    struct seen t, unknown;
    set_up(&f);
    be_ready(&f, MODERN_TASKS);
    begin(&f, &t, &(struct upstream_wish){.kind = UPSTREAM_WATCHED_TASK, .name = SLICE("t")});
    watch_task(&f, &unknown, "unknown");
    char line[512];
    REQUIRE(take_sent(&f, LISTEN, line));
    CHECK(strstr(line, "{\"notifications\":{\"taskIds\":[\"t\",\"unknown\"]}") != NULL);
    CHECK(strstr(line, DECLARED) != NULL);
    uint64_t id = id_of(line);
    say_of(&f, TASK "\"params\":{\"taskId\":\"t\",\"status\":\"working\"," META "}}", id);
    CHECK_INT(t.n_live, 0); /* too early */
    say_of(&f, ACK_TASK, id);
    CHECK(t.n_live == 1 && t.outcome == UPSTREAM_RESULT && t.n_updated == 0);
    check_failed(&unknown, UPSTREAM_FAILED, "does not tell");
    say_of(&f, TASK "\"params\":{\"taskId\":\"\\u0074\",\"status\":\"working\"," META "}}", id);
    CHECK_INT(t.n_updated, 1);
    CHECK(slice_starts_with(buf_slice(&t.params),
                            SLICE("{\"taskId\":\"\\u0074\",\"status\":\"working\",")));
    static const char *const strange[] = {
        TASK "\"params\":{\"taskId\":\"t\",\"status\":\"working\"}}",
        TASK "\"params\":{\"taskId\":\"other\",\"status\":\"working\"," META "}}",
        TASK "\"params\":{\"taskId\":[\"t\"],\"status\":\"working\"," META "}}",
        TASK "\"params\":{\"task\":{\"taskId\":\"t\"}," META "}}",
        TASK "\"params\":{\"uri\":\"t\"," META "}}",
        UPDATED "\"params\":{\"uri\":\"t\"," META "}}",
        UPDATED "\"params\":{\"taskId\":\"t\"," META "}}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tasks/"
        "status\",\"params\":{\"taskId\":\"t\","
        "\"status\":\"completed\"," META "}}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tasks\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(strange); i++) {
        test_row(strange[i]);
        say_of(&f, strange[i], id);
        CHECK_INT(t.n_updated, 1);
    }
    stop(&unknown);
    stop(&t);
    listen_on_retry(f.instance);
    CHECK_INT(sent(&f, "notifications/cancelled", ""), 1);
    tear_down(&f);
}

/* What was missed, or is too long, is told as nothing known: what a task is like only its server
 * can say. */
static void test_task_missed(void) {
    struct fixture f;
    struct seen t;
    struct buf line CLEANUP(buf_deinit) = BUF_INIT(LIMIT_UPDATED * 2);
    set_up(&f);
    be_ready(&f, MODERN_TASKS);
    watch_task(&f, &t, "t");
    uint64_t id = sent(&f, LISTEN, "");
    say_of(&f, ACK_TASK, id);
    for (size_t over = 0; over < 2; over++) {
        struct slice begin = SLICE(TASK "\"params\":");
        char head[256];
        int len = snprintf(head, sizeof head,
                           "{\"taskId\":\"t\",\"_meta\":{\"io.modelcontextprotocol/"
                           "subscriptionId\":%llu},\"x\":\"",
                           (unsigned long long)id);
        buf_reset(&line, 0);
        buf_append(&line, begin);
        buf_append(&line, slice_make(head, (size_t)len));
        for (size_t i = (size_t)len + 2; i < LIMIT_UPDATED + over; i++)
            buf_append_byte(&line, 'x');
        buf_append_cstr(&line, "\"}}");
        buf_append_byte(&line, '\0');
        say(&f, line.data);
        CHECK_INT(t.n_updated, 1 + over);
        CHECK_INT(buf_len(&t.params), over == 0 ? LIMIT_UPDATED : 0);
    }
    lose(&f);
    be_ready(&f, MODERN_TASKS);
    CHECK_INT(t.n_updated, 2);
    say_of(&f, ACK_TASK, sent(&f, LISTEN, "\"taskIds\":[\"t\"]"));
    CHECK(t.n_updated == 3 && buf_len(&t.params) == 0 && t.n_live == 1);
    /* Not acknowledged any more; and the extension is gone. */
    lose(&f);
    be_ready(&f, MODERN_TASKS);
    say_of(&f, ACKNOWLEDGED "\"params\":{\"notifications\":{}," META "}}", sent(&f, LISTEN, ""));
    CHECK(t.n_updated == 3 && t.n_lost == 1);
    lose(&f);
    be_ready(&f, MODERN_RESOURCES);
    CHECK(t.n_updated == 3 && t.n_lost == 2 && t.n_live == 1);
    CHECK_INT(sent(&f, LISTEN, ""), 0);
    stop(&t);
    tear_down(&f);
}

/* A resource and a task of one name are two things, and a server may have one kind alone. */
static void test_kinds(void) {
    struct fixture f;
    struct seen uri, task;
    set_up(&f);
    f.instance->state = UPSTREAM_STARTING;
    watch_uri(&f, &uri, "t");
    watch_task(&f, &task, "t");
    be_ready(&f, MODERN_BOTH);
    uint64_t id = sent(&f, LISTEN, "{\"resourceSubscriptions\":[\"t\"],\"taskIds\":[\"t\"]}");
    say_of(&f, ACK_TASK, id);
    CHECK(task.n_live == 1 && task.outcome == UPSTREAM_RESULT);
    check_failed(&uri, UPSTREAM_FAILED, "does not tell");
    say_of(&f, TASK "\"params\":{\"taskId\":\"t\"," META "}}", id);
    CHECK_INT(task.n_updated, 1);
    stop(&uri);
    stop(&task);
    static const struct {
        const char *server;
        bool has_resources, has_tasks;
    } rows[] = {
        {LEGACY_ALL, true, false},       {LEGACY_NONE, false, false}, {MODERN_NONE, false, false},
        {MODERN_RESOURCES, true, false}, {MODERN_TASKS, false, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (int is_ready = 0; is_ready < 2; is_ready++) {
            test_row(rows[i].server);
            lose(&f);
            if (is_ready)
                be_ready(&f, rows[i].server);
            watch_uri(&f, &uri, "t");
            watch_task(&f, &task, "t");
            if (!is_ready)
                be_ready(&f, rows[i].server);
            CHECK_INT(uri.n_live, rows[i].has_resources ? 0 : 1);
            CHECK_INT(task.n_live, rows[i].has_tasks ? 0 : 1);
            if (!rows[i].has_tasks)
                check_failed(&task, UPSTREAM_ERROR, "extension");
            stop(&uri);
            stop(&task);
        }
    }
    tear_down(&f);
}

static void try_start(void *context) {
    struct fixture *f = context;
    struct seen seen = {.f = f};
    static const struct upstream_watch_events events = {on_live, on_updated, on_lost, on_gone};
    static const struct upstream_wish wish = {UPSTREAM_WATCHED_RESOURCE, SLICE_INIT("test://a"), 0};
    seen.watch = upstream_watch_start(f->instance, &wish, &events, &seen);
    if (seen.watch == NULL)
        return;
    settle(f);
    upstream_watch_stop(seen.watch);
    settle(f);
    CHECK_INT(seen.n_gone, 1);
    buf_deinit(&seen.bytes);
    buf_deinit(&seen.params);
}

static void test_no_memory(void) {
    struct fixture f;
    set_up(&f);
    f.instance->state = UPSTREAM_STARTING;
    test_torture(try_start, &f);
    CHECK_INT(f.instance->watches.topics.count, 0);
    tear_down(&f);
}

TEST_MAIN(TEST(test_subscribe), TEST(test_refused), TEST(test_lists_of_sessions), TEST(test_again),
          TEST(test_end), TEST(test_bounds), TEST(test_bytes), TEST(test_overheard),
          TEST(test_listen), TEST(test_surplus), TEST(test_ended), TEST(test_no_listen),
          TEST(test_late_listen), TEST(test_one_of_many), TEST(test_task), TEST(test_task_missed),
          TEST(test_kinds), TEST(test_no_memory))
