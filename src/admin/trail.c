/*
 * The audit trail: looking for records, exporting them, its head. Looking takes files and time, so
 * it happens on the readers' threads, a page each; an export goes on with the next one when the
 * client has taken the last, and holds nothing but that.
 */
#include <errno.h>

#include "audit/export.h"
#include "audit/index.h"
#include "base/clock.h"
#include "base/mem.h"
#include "handlers.h"
#include "private.h"

enum { USUAL_PAGE = 50, EXPORT_PAGE = 64 };
#define EXPORT_CHUNK MIB(24) /* EXPORT_PAGE records and outcomes of LIMIT_AUDIT_BODY, quoted */

struct look {
    struct audit_query query;
    struct audit_page page;
    struct buf out, filter, reason;
    struct json_writer writer;
    struct audit_row row;
    bool is_csv, is_filtered, is_running, is_gone, is_counted, is_over;
    struct audit_follow *follow; /* all of it, as it is */
    uint64_t last;
    int error;
};

static struct audit_finder *finder_of(const struct api_request *request) {
    return request->api->options.finder;
}

static const char *dir_of(const struct api_request *request) {
    return audit_dir(request->api->options.audit);
}

static void free_look(struct api_request *request) {
    struct look *look = request->own;
    if (look->is_counted)
        request->api->n_exports--;
    audit_follow_free(look->follow);
    audit_row_deinit(&look->row);
    buf_deinit(&look->out);
    buf_deinit(&look->filter);
    buf_deinit(&look->reason);
    mem_free(look);
}

/* --- what is asked for --- */

static struct slice text_of(const struct api_request *request, const char *name) {
    struct slice text = api_query(request, name);
    return text.ptr != NULL ? text : SLICE_EMPTY;
}

static int read_time(struct api_request *request, const char *name, uint64_t *ret_us) {
    struct slice text = text_of(request, name);
    if (text.len == 0 || audit_query_time(text, clock_wall_ms() * 1000, ret_us))
        return 0;
    (void)api_refuse(request, 400, name, NULL);
    buf_append_cstr(&request->answer.reason,
                    ": is a time like 2026-11-21T22:55:01Z, a day, or how long ago, like 15m");
    return API_E_REFUSED;
}

static int read_filters(struct api_request *request, struct audit_query *query) {
    struct network block;
    *query = (struct audit_query){
        .user = text_of(request, "user"),
        .group = text_of(request, "group"),
        .operation = text_of(request, "operation"),
        .upstream = text_of(request, "upstream"),
        .status = text_of(request, "status"),
        .decision = text_of(request, "decision"),
        .event = text_of(request, "event"),
        .address = text_of(request, "address"),
        .text = text_of(request, "text"),
    };
    if (query->address.len != 0 && !network_parse(query->address, &block))
        return api_refuse(request, 400, "address: is an address, or a block like 192.0.2.0/24",
                          NULL);
    int error = read_time(request, "since", &query->since_us);
    return error == 0 ? read_time(request, "until", &query->until_us) : error;
}

/* NULL: it was answered. */
static struct look *new_look(struct api_request *request) {
    if (request->api->options.audit == NULL || finder_of(request) == NULL) {
        api_request_done(request, api_refuse(request, 503, "this gateway keeps no trail",
                                             "audit.enabled = true"));
        return NULL;
    }
    struct look *look = mem_xalloc(sizeof *look);
    buf_init(&look->out, EXPORT_CHUNK);
    buf_init(&look->filter, KIB(256));
    buf_init(&look->reason, KIB(4));
    request->own = look;
    request->free_own = free_look;
    int error = read_filters(request, &look->query);
    if (error == 0)
        error = audit_row_init(&look->row);
    if (error == 0)
        return look;
    api_request_done(request, error);
    return NULL;
}

static int refuse_index(struct api_request *request, const struct look *look) {
    if (look->error == AUDIT_E_CURSOR)
        return api_refuse(request, 400, "cursor: is none of this list", NULL);
    (void)api_refuse_kind(request, 503, "audit-index", "records cannot be looked for: ", NULL);
    buf_append(&request->answer.reason, buf_slice(&look->reason));
    return API_E_REFUSED;
}

/* --- a page --- */

static void write_item(void *context, const struct audit_hit *hit) {
    struct json_writer *writer = &((struct look *)context)->writer;
    json_object_begin(writer);
    json_kv_raw(writer, SLICE("record"), hit->line);
    json_key(writer, SLICE("outcome"));
    if (hit->outcome.len != 0)
        json_raw(writer, hit->outcome);
    else
        json_null(writer);
    if (hit->log.len != 0)
        json_kv_string(writer, SLICE("log"), hit->log);
    json_object_end(writer);
}

static void find_page(struct api_request *request) {
    struct look *look = request->own;
    struct json_writer *writer = &look->writer;
    json_writer_init(writer, &request->answer.body);
    json_object_begin(writer);
    json_key(writer, SLICE("items"));
    json_array_begin(writer);
    look->error =
        audit_find(finder_of(request), &look->query, write_item, look, &look->page, &look->reason);
    json_array_end(writer);
    json_key(writer, SLICE("next"));
    if (look->page.next[0] != '\0')
        json_string(writer, slice_from_cstr(look->page.next));
    else
        json_null(writer);
    json_kv_u64(writer, SLICE("lag"), look->page.lag);
    json_object_end(writer);
}

static void on_page(struct api_request *request) {
    const struct look *look = request->own;
    api_request_done(request, look->error > 0 ? refuse_index(request, look) : look->error);
}

void api_list_audit(struct api_request *request) {
    struct slice cursor = text_of(request, "cursor"), order = text_of(request, "order");
    struct look *look = new_look(request);
    if (look == NULL)
        return;
    look->query.cursor = cursor;
    look->query.oldest_first = slice_eq(order, SLICE("oldest"));
    look->query.limit = api_query_number(request, "limit", USUAL_PAGE);
    (void)!api_in_crew(request, request->api->readers, find_page, on_page);
}

/* --- an export --- */

static void write_found(void *context, const struct audit_hit *hit) {
    struct look *look = context;
    if (look->is_csv) {
        audit_row_read(&look->row, hit);
        (void)audit_csv_row(&look->row, buf_slice(&look->filter), &look->out);
        return;
    }
    (void)audit_export_hit(hit, &look->out);
}

static void find_more(struct api_request *request) {
    struct look *look = request->own;
    look->error =
        audit_find(finder_of(request), &look->query, write_found, look, &look->page, &look->reason);
    look->query.cursor = slice_from_cstr(look->page.next);
    if (look->error == 0)
        look->error = buf_error(&look->out);
}

/* All of it as JSON Lines: the lines of the trail, byte for byte, so that they can be verified.
 * What comes later than now is not waited for. */
static int begin_lines(struct api_request *request, struct look *look) {
    const struct audit_place beginning = {.seq = 0};
    int error = audit_follow_new(dir_of(request), -1, &look->follow);
    if (error != 0)
        return error;
    audit_follow_seek_end(look->follow);
    look->last = audit_follow_place(look->follow).seq;
    return audit_follow_seek(look->follow, &beginning);
}

static void copy_more(struct api_request *request) {
    struct look *look = request->own;
    struct slice line = SLICE_EMPTY;
    enum audit_followed followed = AUDIT_FOLLOWED_LINE;
    int reason = 0;
    if (look->follow == NULL)
        look->error = begin_lines(request, look);
    while (look->error == 0 && buf_len(&look->out) < MIB(1) &&
           audit_follow_place(look->follow).seq < look->last &&
           (followed = audit_follow_next(look->follow, 0, &line, &reason)) == AUDIT_FOLLOWED_LINE) {
        buf_append(&look->out, line);
        buf_append_byte(&look->out, '\n');
    }
    if (look->error == 0 && followed == AUDIT_FOLLOWED_ERROR)
        look->error = -reason;
    bool is_over = look->error != 0 || followed != AUDIT_FOLLOWED_LINE ||
                   audit_follow_place(look->follow).seq >= look->last;
    look->is_over = is_over;
    if (look->error == 0)
        look->error = buf_error(&look->out);
}

static void go_on(struct api_request *request);

static void on_more(struct api_request *request) {
    struct look *look = request->own;
    look->is_running = false;
    if (look->is_gone || look->error != 0 || !api_stream_write(request, buf_slice(&look->out))) {
        if (look->error != 0)
            log_write(request->api->options.log, LOG_WARN, "admin", "an export was broken off",
                      LOG_TEXT("reason", buf_slice(&look->reason)), LOG_NUM("error", look->error));
        api_stream_end(request, false);
        return;
    }
    buf_reset(&look->out, MIB(1));
    bool is_over = look->follow != NULL ? look->is_over : look->page.next[0] == '\0';
    if (is_over)
        api_stream_end(request, true);
    else if (!api_stream_is_full(request))
        go_on(request);
}

static void go_on(struct api_request *request) {
    struct look *look = request->own;
    struct api *api = request->api;
    bool is_copy = !look->is_csv && !look->is_filtered;
    request->run = is_copy ? copy_more : find_more;
    look->is_running = true;
    if (!api_again_in_crew(request, api->readers, request->run, on_more)) {
        look->is_running = false;
        api_stream_end(request, false);
    }
}

static void on_export_drain(struct api_request *request) {
    const struct look *look = request->own;
    if (!look->is_running)
        go_on(request);
}

static void on_export_gone(struct api_request *request) {
    struct look *look = request->own;
    look->is_gone = true;
    if (!look->is_running)
        api_stream_end(request, false);
}

static void write_beginning(struct look *look) {
    if (look->is_csv) {
        (void)audit_csv_header(&look->out);
    } else if (look->is_filtered) {
        buf_append_cstr(&look->out, "{\"export\":{\"complete\":false,\"filter\":");
        buf_append(&look->out, buf_slice(&look->filter));
        buf_append_cstr(&look->out, "}}\n");
    }
}

static void begin_export(struct api_request *request) {
    static const struct slice csv =
        SLICE_INIT("Content-Disposition: attachment; filename=\"audit.csv\"\r\n");
    static const struct slice lines =
        SLICE_INIT("Content-Disposition: attachment; filename=\"audit.jsonl\"\r\n");
    struct look *look = request->own;
    const char *media = look->is_csv ? "text/csv; charset=utf-8" : "application/jsonl";
    if (request->is_head) {
        api_send(request);
        return;
    }
    if (!api_stream_begin(request, media, look->is_csv ? csv : lines)) {
        api_stream_end(request, false);
        return;
    }
    request->on_drain = on_export_drain;
    request->on_gone = on_export_gone;
    write_beginning(look);
    go_on(request);
}

/* Whoever takes the trail away is in it. */
void api_export_audit(struct api_request *request) {
    struct api *api = request->api;
    struct look *look = new_look(request);
    if (look == NULL)
        return;
    if (api->n_exports >= API_EXPORTS) {
        api_request_done(request, api_refuse(request, 503, "other exports are going on",
                                             "try again in a moment"));
        return;
    }
    api->n_exports++;
    look->is_counted = true;
    look->is_csv = slice_eq(text_of(request, "format"), SLICE("csv"));
    look->is_filtered = audit_query_is_filtered(&look->query);
    look->query.oldest_first = true;
    look->query.limit = EXPORT_PAGE;
    if (look->is_filtered && audit_query_write(&look->filter, &look->query) != 0) {
        api_request_done(request, -ENOMEM);
        return;
    }
    request->answer.status = 200;
    api_record_outcome(request, begin_export);
}

/* --- the head --- */

static void write_chain(struct json_writer *writer, const char *key,
                        const struct audit_chain *chain) {
    char text[AUDIT_HEAD_CHARS + 1];
    api_write_text(writer, key, audit_head_write(chain, text));
}

void api_get_audit_head(struct api_request *request) {
    struct audit *audit = request->api->options.audit;
    struct audit_state state;
    struct json_writer writer;
    if (audit == NULL) {
        api_request_done(request, api_refuse(request, 503, "this gateway keeps no trail",
                                             "audit.enabled = true"));
        return;
    }
    audit_get_state(audit, &state);
    json_writer_init(&writer, &request->answer.body);
    json_object_begin(&writer);
    api_write_text(&writer, "mode",
                   audit_mode(audit) == AUDIT_REQUIRED ? SLICE("required") : SLICE("best_effort"));
    json_kv_bool(&writer, SLICE("can_write"), state.can_write);
    write_chain(&writer, "head", &state.head);
    write_chain(&writer, "signed_head", &state.signed_head);
    json_kv_u64(&writer, SLICE("seq"), state.head.seq);
    json_kv_u64(&writer, SLICE("lost"), state.n_lost);
    json_kv_u64(&writer, SLICE("bytes"), state.bytes);
    json_kv_u64(&writer, SLICE("segments"), state.n_segments);
    api_write_text(&writer, "error", slice_from_cstr(state.error));
    json_object_end(&writer);
    api_request_done(request, 0);
}
