/*
 * Merged lists: the items of all upstreams that the caller may see, in the order of the file and of
 * each upstream's own list, cut into pages by cursors of our own. An upstream that is slow or down
 * takes nothing from the others.
 */
#include "base/base64.h"
#include "base/checked.h"
#include "base/mem.h"
#include "private.h"

enum { PAGE_ITEMS = 1000 };
#define PAGE_BYTES MIB(4)

void gw_view_open(struct gw_view *view, struct gw_worker *worker, struct gw_principal *principal,
                  const struct gw_session *session, struct upstream *only) {
    struct upstream_set *set = worker->gateway->upstreams;
    size_t count = only != NULL ? 1 : upstream_set_count(set);
    struct slice session_id = session != NULL ? slice_from_cstr(session->id) : SLICE_EMPTY;
    *view = (struct gw_view){.items = mem_xalloc(count * sizeof *view->items)};
    for (size_t i = 0; i < count; i++) {
        struct gw_view_item item = {.upstream = only != NULL ? only : upstream_set_at(set, i)};
        item.instance = upstream_get(item.upstream, principal->id, session_id, worker->upstreams);
        if (item.instance == NULL)
            continue; /* the gateway is stopping */
        upstream_instance_status(item.instance, &item.status);
        if (item.status.state == UPSTREAM_IDLE && item.status.catalog == NULL)
            upstream_instance_start(item.instance);
        view->items[view->n++] = item;
    }
    /* Closed in the meantime: an instance that was made for it just now would stay for ever. */
    if (session != NULL && atomic_load(&session->is_closed))
        upstream_set_forget_session(set, session_id);
}

void gw_view_close(struct gw_view *view) {
    for (size_t i = 0; i < view->n; i++) {
        catalog_unref(view->items[i].status.catalog);
        upstream_instance_unref(view->items[i].instance);
    }
    mem_free(view->items);
    *view = (struct gw_view){0};
}

uint64_t gw_view_patience(const struct gw_view *view, uint64_t now_ms, uint64_t most_ms) {
    uint64_t patience = 0;
    for (size_t i = 0; i < view->n; i++) {
        const struct upstream_status *status = &view->items[i].status;
        if (!status->is_first_start || status->catalog != NULL)
            continue;
        uint64_t since = status->first_started_ms != 0 ? status->first_started_ms : now_ms;
        uint64_t waited = now_ms > since ? now_ms - since : 0;
        if (waited < most_ms && most_ms - waited > patience)
            patience = most_ms - waited;
    }
    return patience;
}

/* Lists of the mask that are no longer fresh, and were read before this call began. */
static unsigned stale_lists(const struct gw_view_item *item, const struct gw_call *call,
                            unsigned list_mask, bool is_running) {
    const struct upstream_status *status = &item->status;
    uint64_t now = io_loop_now(call->worker->loop);
    unsigned stale = 0;
    for (unsigned k = 0; k < MCP_LIST_COUNT; k++) {
        const struct upstream_freshness *list = &status->lists[k];
        if ((now > list->until_ms || !is_running) && list->read_ms < call->began_ms)
            stale |= 1u << k;
    }
    return stale & status->catalog->declared & list_mask;
}

uint64_t gw_view_refresh(const struct gw_view *view, struct gw_call *call, unsigned list_mask) {
    bool is_first = !call->has_refreshed, is_stale = false;
    for (size_t i = 0; i < view->n; i++) {
        const struct gw_view_item *item = &view->items[i];
        const struct upstream_status *status = &item->status;
        bool is_running = status->state == UPSTREAM_READY;
        /* An HTTP server goes on without us, and tells nobody of changes who has no session. */
        bool sleeps = (status->state == UPSTREAM_IDLE || status->state == UPSTREAM_STARTING) &&
                      upstream_config(item->upstream)->url.len != 0;
        if (status->catalog == NULL || (!is_running && !sleeps))
            continue; /* one that starts reads its lists anyway */
        unsigned wanted = stale_lists(item, call, list_mask, is_running);
        if (wanted == 0)
            continue;
        is_stale = true;
        call->has_refreshed = true;
        if (is_first && is_running)
            upstream_instance_refresh(item->instance, wanted);
        else if (status->state == UPSTREAM_IDLE)
            upstream_instance_start(item->instance);
    }
    return is_stale ? call->worker->gateway->config->list_timeout_ms : 0;
}

/* Cursors: the place where the next page begins, sealed so that a client cannot make up one. */

struct place {
    uint32_t list, upstream, item;
};

static uint64_t seal(const struct gateway *gateway, const struct place *place) {
    return hash_siphash(&gateway->cursor_key, slice_make(place, sizeof *place));
}

static void write_cursor(struct json_writer *writer, const struct gateway *gateway,
                         const struct place *place) {
    struct buf bytes = BUF_INIT(64), text = BUF_INIT(128);
    uint64_t mac = seal(gateway, place);
    buf_append(&bytes, slice_make(place, sizeof *place));
    buf_append(&bytes, slice_make(&mac, sizeof mac));
    base64url_encode(&text, buf_slice(&bytes));
    json_kv_string(writer, SLICE("nextCursor"), buf_slice(&text));
    buf_deinit(&bytes);
    buf_deinit(&text);
}

static bool read_cursor(const struct gateway *gateway, const struct json_node *node,
                        struct place *ret_place) {
    struct buf bytes = BUF_INIT(64);
    struct place place;
    uint64_t mac;
    bool is_valid = base64url_decode(&bytes, json_string_raw(node)) == 0 &&
                    buf_len(&bytes) == sizeof place + sizeof mac;
    if (is_valid) {
        memcpy(&place, buf_slice(&bytes).ptr, sizeof place);
        memcpy(&mac, buf_slice(&bytes).ptr + sizeof place, sizeof mac);
        is_valid = mac == seal(gateway, &place) && place.list == ret_place->list;
    }
    buf_deinit(&bytes);
    if (is_valid)
        *ret_place = place;
    return is_valid;
}

/* The same URI from two upstreams belongs to the first in the file that lists it. */
static bool belongs_to_earlier(const struct gw_view *view, size_t index, enum mcp_list list,
                               const struct catalog_item *item) {
    for (size_t i = 0; i < index; i++) {
        const struct upstream_status *status = &view->items[i].status;
        if (status->is_listed && catalog_find(status->catalog, list, item->exposed, true) != NULL)
            return true;
    }
    return false;
}

static void write_page(struct gw_call *call, const struct gw_view *view) {
    struct gateway *gateway = call->worker->gateway;
    const struct mcp_list_info *info = mcp_list_info(call->list);
    struct buf *out = gw_worker_scratch(call->worker);
    struct json_writer writer;
    size_t n = 0, upstream = call->from_upstream, item = call->from_item;
    bool is_full = false, is_first = true;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_raw(&writer, SLICE("jsonrpc"), SLICE("\"2.0\""));
    json_kv_raw(&writer, SLICE("id"), gw_call_id(call));
    json_key(&writer, SLICE("result"));
    json_object_begin(&writer);
    json_key(&writer, info->result_key);
    json_array_begin(&writer);
    for (; upstream < view->n && !is_full; upstream++, item = 0) {
        const struct upstream_status *status = &view->items[upstream].status;
        if (!status->is_listed)
            continue;
        const struct catalog_list *list = status->catalog->lists[call->list];
        for (; item < list->n_items; item++) {
            if (n >= PAGE_ITEMS || buf_len(out) >= PAGE_BYTES) {
                is_full = true;
                break;
            }
            if (belongs_to_earlier(view, upstream, call->list, &list->items[item]))
                continue;
            if (!is_first)
                buf_append_byte(out, ',');
            is_first = false;
            catalog_item_write(out, status->catalog, &list->items[item], call->only == NULL,
                               call->revision);
            n++;
        }
        if (is_full)
            break;
    }
    json_array_end(&writer);
    if (is_full) {
        struct place next = {
            .list = (uint32_t)call->list,
            .upstream = (uint32_t)upstream,
            .item = (uint32_t)item,
        };
        write_cursor(&writer, gateway, &next);
    }
    if (mcp_revision_is_modern(call->revision))
        gw_write_modern_members(&writer, gateway, true);
    json_object_end(&writer);
    json_object_end(&writer);
}

static void try_list(struct gw_call *call, bool is_late) {
    struct gw_view view;
    gw_view_open(&view, call->worker, call->principal, call->session, call->only);
    uint64_t patience = gw_view_patience(&view, io_loop_now(call->worker->loop),
                                         call->worker->gateway->config->list_timeout_ms);
    /* A later page goes on where the first one ended, in the same items. */
    uint64_t refresh = call->from_upstream == 0 && call->from_item == 0
                           ? gw_view_refresh(&view, call, 1u << call->list)
                           : 0;
    if (refresh > patience)
        patience = refresh;
    if (patience != 0 && !is_late) {
        gw_view_close(&view);
        gw_call_wait(call, try_list, patience);
        return;
    }
    write_page(call, &view);
    gw_view_close(&view);
    gw_call_answer_scratch(call);
}

void gw_list_start(struct gw_call *call, const struct mcp_message *message) {
    for (unsigned i = 0; i < MCP_LIST_COUNT; i++) {
        if (mcp_list_info((enum mcp_list)i)->method == call->method)
            call->list = (enum mcp_list)i;
    }
    const struct json_node *cursor =
        message->params != NULL
            ? json_member(call->worker->reader, message->params, SLICE("cursor"))
            : NULL;
    struct place place = {.list = (uint32_t)call->list};
    if (cursor != NULL &&
        (cursor->type != JSON_STRING || !read_cursor(call->worker->gateway, cursor, &place))) {
        gw_call_answer_error(call, MCP_E_INVALID_PARAMS, SLICE("cursor is not one of this list's"),
                             SLICE_EMPTY);
        return;
    }
    call->from_upstream = place.upstream;
    call->from_item = place.item;
    try_list(call, false);
}
