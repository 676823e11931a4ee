/*
 * Merged lists: the items of all upstreams that the caller may see, in the order of the file and of
 * each upstream's own list, cut into pages by cursors of our own. An upstream that is slow or down
 * takes nothing from the others.
 *
 * No item is written here: each list has its text as it is sent (upstream/catalog.h), and a page is
 * an array of pieces of those texts, one for each list that it touches.
 */
#include <errno.h>

#include "base/base64.h"
#include "base/checked.h"
#include "base/mem.h"
#include "private.h"

enum { MAX_PARTS = 256 }; /* of one answer */

/* Pages. */

void gw_page_init(struct gw_page *page, size_t len) {
    page->n_parts = 1; /* what comes before the items */
    page->n_items = 0;
    page->len = len;
    page->is_full = false;
}

/* Cursors: the place where the next page begins, sealed so that a client cannot make up one, nor
 * use that of another caller. */

struct place {
    uint32_t list, upstream, item;
};

static uint64_t seal(const struct gw_call *call, const struct place *place) {
    struct hash_key key = call->worker->gateway->cursor_key;
    key.k0 ^= hash_siphash(&key, call->principal->id);
    return hash_siphash(&key, slice_make(place, sizeof *place));
}

static void write_cursor(struct json_writer *writer, const struct gw_call *call,
                         const struct place *place) {
    struct buf bytes = BUF_INIT(64), text = BUF_INIT(128);
    uint64_t mac = seal(call, place);
    buf_append(&bytes, slice_make(place, sizeof *place));
    buf_append(&bytes, slice_make(&mac, sizeof mac));
    base64url_encode(&text, buf_slice(&bytes));
    json_kv_string(writer, SLICE("nextCursor"), buf_slice(&text));
    buf_deinit(&bytes);
    buf_deinit(&text);
}

static bool read_cursor(const struct gw_call *call, const struct json_node *node,
                        struct place *ret_place) {
    struct buf bytes = BUF_INIT(64);
    struct place place;
    uint64_t mac;
    bool is_valid = base64url_decode(&bytes, json_string_raw(node)) == 0 &&
                    buf_len(&bytes) == sizeof place + sizeof mac;
    if (is_valid) {
        memcpy(&place, buf_slice(&bytes).ptr, sizeof place);
        memcpy(&mac, buf_slice(&bytes).ptr + sizeof place, sizeof mac);
        is_valid = mac == seal(call, &place) && place.list == ret_place->list;
    }
    buf_deinit(&bytes);
    if (is_valid)
        *ret_place = place;
    return is_valid;
}

/* Appends the items from `item` up to `end`, as far as the page has room: at least one. */
static size_t take_items(struct gw_page *page, const struct catalog_text *text, size_t item,
                         size_t end) {
    size_t most = size_min(end, item + (GW_PAGE_ITEMS - page->n_items)), stop = item + 1;
    size_t from = text->starts[item] + (page->n_items == 0 ? 1u : 0u); /* its comma */
    if (page->len + text->starts[most] - from < GW_PAGE_BYTES)
        stop = most;
    while (stop < most && page->len + text->starts[stop] - from < GW_PAGE_BYTES)
        stop++;
    struct slice part = slice_make(text->bytes + from, text->starts[stop] - from);
    page->parts[page->n_parts++] = part;
    page->len += part.len;
    page->n_items += stop - item;
    return stop;
}

static bool is_before(const struct gw_place *a, const struct gw_place *b) {
    return a->upstream != b->upstream ? a->upstream < b->upstream : a->item < b->item;
}

/* Items that belong to an earlier upstream; `n` are left of them. */
struct repeated {
    const struct gw_place *next;
    size_t n;
};

/* Where the run of items ends that begins at this place; the place itself when it is repeated. */
static size_t end_of_run(struct repeated *repeated, const struct gw_place *at, size_t n_items) {
    for (; repeated->n != 0 && is_before(repeated->next, at); repeated->n--)
        repeated->next++;
    return repeated->n != 0 && repeated->next->upstream == at->upstream ? repeated->next->item
                                                                        : n_items;
}

int gw_page_cut(struct gw_view *view, enum mcp_list list, struct gw_place from,
                enum mcp_revision to, struct gw_page *page) {
    struct repeated repeated = {0};
    struct gw_place at = from;
    int error = gw_view_repeated(view, list, &repeated.next, &repeated.n);
    for (; at.upstream < view->n && error == 0; at = (struct gw_place){at.upstream + 1, 0}) {
        const struct upstream_status *status = &view->items[at.upstream].status;
        size_t n_items = status->is_listed ? status->catalog->lists[list]->n_items : 0;
        const struct catalog_text *text =
            at.item < n_items ? catalog_text(status->catalog, list, view->only == NULL, to) : NULL;
        if (at.item < n_items && text == NULL)
            return -ENOMEM;
        while (at.item < n_items) {
            page->is_full = page->n_items >= GW_PAGE_ITEMS || page->len >= GW_PAGE_BYTES;
            page->next = at;
            if (page->is_full)
                return 0;
            size_t end = end_of_run(&repeated, &at, n_items);
            at.item = (uint32_t)(end > at.item ? take_items(page, text, at.item, end) : end + 1);
        }
    }
    return error;
}

/* A page of hundreds of small lists has more pieces than are sent at once: it is copied. */
static void answer_parts(struct gw_call *call, struct buf *frame, const struct gw_page *page) {
    if (buf_error(frame) != 0) {
        gw_call_answer_scratch(call);
        return;
    }
    if (page->n_parts <= MAX_PARTS) {
        gw_call_answer_parts(call, page->parts, page->n_parts);
        return;
    }
    struct buf whole CLEANUP(buf_deinit) = BUF_INIT(frame->max);
    for (size_t i = 0; i < page->n_parts; i++)
        buf_append(&whole, page->parts[i]);
    struct slice part = buf_slice(&whole);
    if (buf_error(&whole) != 0)
        gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"),
                             SLICE_EMPTY);
    else
        gw_call_answer_parts(call, &part, 1);
}

/* From its third member on, the answer is not ours to write: the page's texts go out from where
 * they are. */
static void answer_page(struct gw_call *call, struct gw_view *view) {
    struct gateway *gateway = call->worker->gateway;
    struct buf *frame = gw_worker_scratch(call->worker);
    struct gw_page page;
    struct json_writer writer;
    json_writer_init(&writer, frame);
    json_object_begin(&writer);
    json_kv_raw(&writer, SLICE("jsonrpc"), SLICE("\"2.0\""));
    json_kv_raw(&writer, SLICE("id"), gw_call_id(call));
    json_key(&writer, SLICE("result"));
    json_object_begin(&writer);
    json_key(&writer, mcp_list_info(call->list)->result_key);
    json_array_begin(&writer);
    size_t begin = buf_len(frame);
    gw_page_init(&page, begin);
    struct gw_place from = {call->from_upstream, call->from_item};
    if (gw_page_cut(view, call->list, from, call->revision, &page) != 0) {
        gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"),
                             SLICE_EMPTY);
        return;
    }
    json_array_end(&writer);
    if (page.is_full) {
        struct place next = {(uint32_t)call->list, page.next.upstream, page.next.item};
        write_cursor(&writer, call, &next);
    }
    if (mcp_revision_is_modern(call->revision))
        gw_write_modern_members(&writer, gateway, true);
    json_object_end(&writer);
    json_object_end(&writer);
    page.parts[0] = slice_sub(buf_slice(frame), 0, begin);
    page.parts[page.n_parts++] = slice_from(buf_slice(frame), begin);
    answer_parts(call, frame, &page);
}

static void try_list(struct gw_call *call, bool is_late) {
    struct gw_view *view =
        gw_view_open(call->worker, call->exchange->caller, call->session, call->only);
    uint64_t patience = gw_view_patience(view, io_loop_now(call->worker->loop),
                                         call->worker->config->list_timeout_ms);
    /* A later page goes on where the first one ended, in the same items. */
    uint64_t refresh = call->from_upstream == 0 && call->from_item == 0
                           ? gw_view_refresh(view, call, 1u << call->list)
                           : 0;
    if (refresh > patience)
        patience = refresh;
    if (patience != 0 && !is_late) {
        gw_view_close(view);
        gw_call_wait(call, try_list, patience);
        return;
    }
    answer_page(call, view);
    gw_view_close(view);
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
    if (cursor != NULL && (cursor->type != JSON_STRING || !read_cursor(call, cursor, &place))) {
        gw_call_answer_error(call, MCP_E_INVALID_PARAMS, SLICE("cursor is not one of this list's"),
                             SLICE_EMPTY);
        return;
    }
    call->from_upstream = place.upstream;
    call->from_item = place.item;
    try_list(call, false);
}
