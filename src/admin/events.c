/*
 * The stream of events: what is open in edit mode, how upstreams are, where the trail ends. Each
 * stream gets what its caller may read, whole when it begins and again when it is another.
 *
 * There is one look for all streams: every LOOK_MS, and soon after a notice. It asks the store what
 * is open and whether each stream's session is still one, which does not count as its use: a window
 * that is left open does not keep a session alive. A stream whose session is over ends, and all do
 * when the store cannot be asked: who opens one again is told why.
 */
#include <errno.h>

#include "base/mem.h"
#include "handlers.h"
#include "http/sse.h"
#include "private.h"

enum {
    LOOK_MS = 2000,
    SOON_MS = 100, /* behind a notice: several come together */
    ASK_EACH = 3,  /* looks, of the gateway, when nobody gave notice */
    ALIVE_EACH = 7,
    UNREAD = 256 * 1024,
};

enum topic { TOPIC_EDIT, TOPIC_UPSTREAMS, TOPIC_AUDIT, TOPIC_COUNT };

static const struct {
    const char *name;
    enum permission permission;
} topics[TOPIC_COUNT] = {
    [TOPIC_EDIT] = {"edit", PERMISSION_STATUS_READ},
    [TOPIC_UPSTREAMS] = {"upstreams", PERMISSION_UPSTREAMS_READ},
    [TOPIC_AUDIT] = {"audit", PERMISSION_AUDIT_READ},
};

struct stream {
    struct list_link link;
    struct api_request *request;
    uint64_t serial;
    uint64_t told[TOPIC_COUNT]; /* which of events->numbers */
};

struct events {
    struct api *api;
    struct list streams;
    size_t n_streams;
    struct io_timer *timer;
    struct buf texts[TOPIC_COUNT];
    uint64_t numbers[TOPIC_COUNT]; /* of changes; 0: not known yet */
    uint64_t serial, n_looks;
    bool is_looking, is_noticed, is_asking;
    struct json_reader *reader;
};

/* --- one look: of the store --- */

struct checked {
    uint64_t serial;
    char user[ACCOUNTS_ID + 1], session[ACCOUNTS_ID + 1], token[ACCOUNTS_TOKEN + 1];
    bool is_there;
    struct policy_rights *rights;
};

struct look {
    struct store_job job;
    struct events *events;
    struct buf edits;
    struct json_writer writer;
    size_t n;
    struct checked *streams;
};

static void free_look(struct look *look) {
    for (size_t i = 0; i < look->n; i++)
        policy_rights_unref(look->streams[i].rights);
    buf_deinit(&look->edits);
    mem_free(look->streams);
    mem_free(look);
}

static bool note_edit(void *context, const struct accounts_edit *edit) {
    static const char *const scopes[] = {"all", "role", "upstream"};
    struct json_writer *writer = context;
    json_object_begin(writer);
    api_write_text(writer, "scope", slice_from_cstr(scopes[edit->scope]));
    api_write_text(writer, "name", edit->name);
    api_write_time(writer, "until", edit->until_ms);
    api_write_text(writer, "reason", edit->reason);
    api_write_text(writer, "by", edit->by);
    json_object_end(writer);
    return true;
}

static bool note_session(void *context, const struct accounts_session *session) {
    struct checked *checked = context;
    checked->is_there = slice_eq(session->id, slice_from_cstr(checked->session));
    return !checked->is_there;
}

static bool note_token(void *context, const struct accounts_token *token) {
    (void)token;
    ((struct checked *)context)->is_there = true;
    return true;
}

static int check_stream(struct store_tx *tx, struct checked *checked) {
    int error = 0;
    policy_rights_unref(TAKE(checked->rights));
    checked->is_there = false;
    if (checked->token[0] != '\0') {
        error = accounts_find_token(tx, slice_from_cstr(checked->token), note_token, checked,
                                    &checked->rights);
        return error == ACCOUNTS_E_NONE ? 0 : error;
    }
    struct slice user = slice_from_cstr(checked->user);
    error = accounts_list_sessions(tx, user, NULL, INT32_MAX, note_session, checked);
    if (error == 0 && checked->is_there)
        error = accounts_user_rights(tx, user, &checked->rights);
    return error == ACCOUNTS_E_NONE ? 0 : error;
}

static int look_work(struct store_tx *tx, void *context) {
    struct look *look = context;
    int error = 0;
    buf_reset(&look->edits, KIB(64));
    json_writer_init(&look->writer, &look->edits);
    json_array_begin(&look->writer);
    error = accounts_list_edits(tx, note_edit, &look->writer);
    json_array_end(&look->writer);
    for (size_t i = 0; i < look->n && error == 0; i++)
        error = check_stream(tx, &look->streams[i]);
    return error;
}

/* --- telling --- */

static void drop(struct stream *stream) {
    struct api_request *request = stream->request;
    api_stream_end(request, true); /* free_stream() */
}

static bool write_topic(struct events *events, struct stream *stream, enum topic topic) {
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(MIB(8));
    if (events->numbers[topic] == stream->told[topic] ||
        !api_may(stream->request, topics[topic].permission))
        return true;
    stream->told[topic] = events->numbers[topic];
    return sse_write_event(&out, slice_from_cstr(topics[topic].name), SLICE_EMPTY,
                           buf_slice(&events->texts[topic])) == 0 &&
           api_stream_write(stream->request, buf_slice(&out));
}

static void tell(struct events *events, bool is_alive) {
    LIST_FOREACH_SAFE (&events->streams, link, tmp) {
        struct stream *stream = CONTAINER_OF(link, struct stream, link);
        bool goes_on = stream->request->connection != NULL &&
                       api_connection_queued(stream->request->connection) <= UNREAD;
        for (unsigned topic = 0; topic < TOPIC_COUNT && goes_on; topic++)
            goes_on = write_topic(events, stream, (enum topic)topic);
        if (goes_on && is_alive)
            goes_on = api_stream_write(stream->request, SLICE(": alive\n\n"));
        if (!goes_on)
            drop(stream);
    }
}

static void set_text(struct events *events, enum topic topic, struct slice text) {
    struct buf *own = &events->texts[topic];
    if (events->numbers[topic] != 0 && slice_eq(buf_slice(own), text))
        return;
    buf_reset(own, MIB(1));
    if (buf_append(own, text) == 0)
        events->numbers[topic]++;
}

/* --- the gateway, the trail --- */

static void copy_member(struct json_writer *writer, const struct json_reader *reader,
                        const struct json_node *object, struct slice key) {
    const struct json_node *node = json_member(reader, object, key);
    if (node != NULL)
        json_kv_raw(writer, key, node->raw);
}

/* What does not change with every call. */
static void shape_upstreams(struct events *events, struct slice status, struct buf *out) {
    static const struct json_want nothing[] = {{0}};
    static const struct json_want each[] = {{"*", nothing}, {0}};
    static const struct json_want list[] = {{"upstreams", each}, {0}};
    static const struct json_want want = {.children = list};
    static const struct slice keys[] = {SLICE_INIT("name"),    SLICE_INIT("state"),
                                        SLICE_INIT("n_tools"), SLICE_INIT("locked"),
                                        SLICE_INIT("breaker"), SLICE_INIT("error")};
    const struct json_reader *reader = events->reader;
    struct json_writer writer;
    if (json_read(events->reader, status, &want, NULL, NULL) != 0)
        return;
    const struct json_node *upstreams = json_member(reader, json_root(reader), SLICE("upstreams"));
    json_writer_init(&writer, out);
    json_array_begin(&writer);
    for (const struct json_node *node = upstreams != NULL ? json_first(reader, upstreams) : NULL;
         node != NULL; node = json_next(reader, node)) {
        json_object_begin(&writer);
        for (size_t i = 0; i < ARRAY_LEN(keys); i++)
            copy_member(&writer, reader, node, keys[i]);
        json_object_end(&writer);
    }
    json_array_end(&writer);
}

static void on_status(struct api *api, int error, struct slice text) {
    CLEANUP(buf_deinit) struct buf shaped = BUF_INIT(MIB(4));
    struct events *events = api->events;
    events->is_asking = false;
    if (error != 0)
        return;
    shape_upstreams(events, text, &shaped);
    if (buf_len(&shaped) != 0 && buf_error(&shaped) == 0)
        set_text(events, TOPIC_UPSTREAMS, buf_slice(&shaped));
    tell(events, false);
}

static int write_status(void *context, struct buf *out) {
    return gateway_write_status(context, out);
}

static void ask_gateway(struct events *events) {
    struct gateway *gateway = events->api->options.gateway;
    if (gateway == NULL || events->is_asking || events->api->is_stopping)
        return;
    events->is_asking = true;
    api_ask_alone(events->api, write_status, gateway, on_status);
}

static void look_at_trail(struct events *events) {
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(4));
    struct audit *audit = events->api->options.audit;
    struct audit_state state;
    struct json_writer writer;
    char head[AUDIT_HEAD_CHARS + 1];
    if (audit == NULL)
        return;
    audit_get_state(audit, &state);
    json_writer_init(&writer, &out);
    json_object_begin(&writer);
    json_kv_u64(&writer, SLICE("seq"), state.head.seq);
    api_write_text(&writer, "signed_head", audit_head_write(&state.signed_head, head));
    json_kv_bool(&writer, SLICE("can_write"), state.can_write);
    json_kv_u64(&writer, SLICE("lost"), state.n_lost);
    json_object_end(&writer);
    set_text(events, TOPIC_AUDIT, buf_slice(&out));
}

/* --- looking --- */

static struct stream *find_stream(struct events *events, uint64_t serial) {
    LIST_FOREACH_SAFE (&events->streams, link, tmp) {
        struct stream *stream = CONTAINER_OF(link, struct stream, link);
        if (stream->serial == serial)
            return stream;
    }
    return NULL;
}

static void end_all(struct events *events) {
    LIST_FOREACH_SAFE (&events->streams, link, tmp)
        drop(CONTAINER_OF(link, struct stream, link));
}

static void take_check(struct events *events, struct checked *checked) {
    struct stream *stream = find_stream(events, checked->serial);
    if (stream == NULL)
        return;
    if (!checked->is_there || checked->rights == NULL) {
        drop(stream);
        return;
    }
    policy_rights_unref(stream->request->who.rights);
    stream->request->who.rights = TAKE(checked->rights);
}

static void take_look(struct events *events, struct look *look) {
    if (look->job.result != 0) {
        end_all(events);
        return;
    }
    for (size_t i = 0; i < look->n; i++)
        take_check(events, &look->streams[i]);
    set_text(events, TOPIC_EDIT, buf_slice(&look->edits));
    look_at_trail(events);
    if (events->is_noticed || events->n_looks % ASK_EACH == 0)
        ask_gateway(events);
    events->is_noticed = false;
    tell(events, events->n_looks % ALIVE_EACH == 0);
    events->n_looks++;
}

/* Counts as a request, so that the loop waits for it. */
static void deliver_look(struct io_message *message) {
    struct store_job *job = CONTAINER_OF(message, struct store_job, message);
    struct look *look = CONTAINER_OF(job, struct look, job);
    struct events *events = look->events;
    struct api *api = events->api;
    events->is_looking = false;
    if (!api->is_stopping) {
        take_look(events, look);
        if (events->n_streams != 0)
            io_timer_start(events->timer, events->is_noticed ? SOON_MS : LOOK_MS);
    }
    free_look(look);
    if (--api->n_requests == 0 && api->is_stopping)
        io_loop_stop(api->loop);
}

static void add_checked(struct checked *checked, const struct stream *stream) {
    const struct api_request *request = stream->request;
    checked->serial = stream->serial;
    memcpy(checked->user, request->who.user, sizeof checked->user);
    memcpy(checked->session, request->who.session, sizeof checked->session);
    if (request->who.is_token)
        (void)!slice_to_cstr(request->presented.token, checked->token, sizeof checked->token);
}

static void on_timer(void *context) {
    struct events *events = context;
    if (events->is_looking || events->n_streams == 0)
        return;
    struct look *look = mem_xalloc(sizeof *look);
    look->events = events;
    look->streams = mem_xalloc(events->n_streams * sizeof *look->streams);
    buf_init(&look->edits, MIB(1));
    LIST_FOREACH_SAFE (&events->streams, link, tmp)
        add_checked(&look->streams[look->n++], CONTAINER_OF(link, struct stream, link));
    look->job = (struct store_job){
        .message = {.deliver = deliver_look},
        .loop = events->api->loop,
        .kind = STORE_READ,
        .work = look_work,
        .context = look,
    };
    events->is_looking = true;
    events->api->n_requests++;
    store_submit(events->api->options.store, &look->job);
}

void events_look(struct events *events) {
    if (events->n_streams == 0)
        return;
    events->is_noticed = true;
    if (!events->is_looking)
        io_timer_start(events->timer, SOON_MS);
}

/* --- streams --- */

static void free_stream(struct api_request *request) {
    struct stream *stream = request->own;
    list_remove(&stream->link);
    request->api->events->n_streams--;
    mem_free(stream);
}

static void on_gone(struct api_request *request) {
    api_stream_end(request, false);
}

static size_t count_of(const struct events *events, const char *user) {
    size_t n = 0;
    LIST_FOREACH_SAFE (&events->streams, link, tmp) {
        const struct stream *stream = CONTAINER_OF(link, struct stream, link);
        n += slice_eq(slice_from_cstr(stream->request->who.user), slice_from_cstr(user));
    }
    return n;
}

void api_open_events(struct api_request *request) {
    struct events *events = request->api->events;
    if (request->is_head) {
        api_request_done(request, 0);
        return;
    }
    if (events->n_streams >= API_STREAMS ||
        count_of(events, request->who.user) >= API_STREAMS_OF_ONE) {
        api_request_done(request, api_refuse(request, 503, "too many streams are open",
                                             "close one, and try again"));
        return;
    }
    struct stream *stream = mem_xalloc(sizeof *stream);
    stream->request = request;
    stream->serial = ++events->serial;
    list_push_back(&events->streams, &stream->link);
    events->n_streams++;
    request->own = stream;
    request->free_own = free_stream;
    request->on_gone = on_gone;
    if (!api_stream_begin(request, "text/event-stream", SLICE_EMPTY) ||
        !api_stream_write(request, SLICE(": hello\n\n"))) {
        api_stream_end(request, false);
        return;
    }
    events_look(events);
}

int events_new(struct api *api, struct events **ret_events) {
    struct events *events = mem_xalloc(sizeof *events);
    int error = json_reader_new(&events->reader);
    if (error != 0) {
        mem_free(events);
        return error;
    }
    events->api = api;
    list_init(&events->streams);
    for (size_t i = 0; i < TOPIC_COUNT; i++)
        buf_init(&events->texts[i], MIB(4));
    events->timer = io_timer_new(api->loop, on_timer, events);
    *ret_events = events;
    return 0;
}

void events_stop(struct events *events) {
    io_timer_stop(events->timer);
    end_all(events);
}

struct events *events_free(struct events *events) {
    if (events == NULL)
        return NULL;
    io_timer_free(events->timer);
    json_reader_free(events->reader);
    for (size_t i = 0; i < TOPIC_COUNT; i++)
        buf_deinit(&events->texts[i]);
    mem_free(events);
    return NULL;
}
