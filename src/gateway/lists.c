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
    page->reader = NULL;
    page->n_parts = 1; /* what comes before the items */
    page->n_items = 0;
    page->len = len;
    page->is_full = false;
}

/* Cursors: the place where the next page begins, sealed so that a client cannot make up one, nor
 * use that of another caller. All pages of a list are public or none is (MCP 2026-07-28,
 * server/utilities/caching), so it says what the pages before were. */

struct place {
    uint32_t list, upstream, item, is_public;
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

/* Places that a page has to look at one by one, in order; `n` are left of them. */
struct exceptions {
    const struct gw_place *next;
    size_t n;
};

/* The first of them at this place or behind it, in the same upstream; else the list's end. */
static size_t next_exception(struct exceptions *exceptions, const struct gw_place *at,
                             size_t n_items) {
    for (; exceptions->n != 0 && is_before(exceptions->next, at); exceptions->n--)
        exceptions->next++;
    return exceptions->n != 0 && exceptions->next->upstream == at->upstream ? exceptions->next->item
                                                                            : n_items;
}

static void add_part(struct gw_page *page, struct slice part) {
    page->parts[page->n_parts++] = part;
    page->len += part.len;
}

/* A locked item, which says so at the beginning of its description: clients show that to their
 * models. */
static void take_locked(struct gw_page *page, const struct catalog_text *text, size_t item) {
    uint32_t from = text->starts[item] + (page->n_items == 0 ? 1u : 0u);
    struct slice whole = slice_make(text->bytes + from, text->starts[item + 1] - from);
    struct slice json = slice_from(whole, page->n_items == 0 ? 0 : 1);
    struct slice mark = SLICE("\"description\":\"[locked]\",");
    size_t at = (size_t)(json.ptr - whole.ptr) + 1; /* behind its brace */
    page->n_items++;
    if (page->reader != NULL && json_read(page->reader, json, &json_want_root, NULL, NULL) == 0) {
        const struct json_node *description = json_member_typed(
            page->reader, json_root(page->reader), SLICE("description"), JSON_STRING);
        if (description != NULL) {
            mark = SLICE("[locked] ");
            at = (size_t)(description->raw.ptr - whole.ptr) + 1; /* behind its quote */
        }
        add_part(page, slice_sub(whole, 0, at));
        add_part(page, mark);
        whole = slice_from(whole, at);
    }
    add_part(page, whole);
}

/* What of a list is not as the list's text has it. */
struct differences {
    struct exceptions left_out, locked;
};

static int find_differences(struct gw_view *view, enum mcp_list list,
                            struct differences *differences) {
    if (list == MCP_LIST_TOOLS) {
        differences->left_out = (struct exceptions){view->hidden.items, view->hidden.n};
        differences->locked = (struct exceptions){view->locked.items, view->locked.n};
        return 0;
    }
    return gw_view_repeated(view, list, &differences->left_out.next, &differences->left_out.n);
}

/* From *at on, as long as the page has room. */
static void cut_list(struct gw_page *page, const struct catalog_text *text, size_t n_items,
                     struct differences *differences, struct gw_place *at) {
    while (at->item < n_items) {
        page->is_full = page->n_items >= GW_PAGE_ITEMS || page->len >= GW_PAGE_BYTES;
        page->next = *at;
        if (page->is_full)
            return;
        size_t left_out = next_exception(&differences->left_out, at, n_items);
        size_t locked = next_exception(&differences->locked, at, n_items);
        if (at->item == left_out) {
            at->item++;
        } else if (at->item == locked) {
            take_locked(page, text, at->item);
            at->item++;
        } else {
            at->item = (uint32_t)take_items(page, text, at->item, size_min(left_out, locked));
        }
    }
}

int gw_page_cut(struct gw_view *view, enum mcp_list list, struct gw_place from,
                enum mcp_revision to, struct gw_page *page) {
    struct differences differences = {0};
    struct gw_place at = from;
    int error = find_differences(view, list, &differences);
    for (; at.upstream < view->n && error == 0; at = (struct gw_place){at.upstream + 1, 0}) {
        const struct gw_view_item *item = &view->items[at.upstream];
        bool is_listed = item->status.is_listed && gw_view_item_has(view, item, list);
        size_t n_items = is_listed ? item->status.catalog->lists[list]->n_items : 0;
        if (at.item >= n_items)
            continue;
        const struct catalog_text *text =
            catalog_text(item->status.catalog, list, view->only == NULL, to);
        if (text == NULL)
            return -ENOMEM;
        cut_list(page, text, n_items, &differences, &at);
        if (page->is_full)
            return 0;
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

/* False: the call has been refused. */
static bool find_cache(struct gw_call *call, const struct gw_view *view,
                       struct mcp_cache *ret_cache) {
    struct mcp_cache cache = gw_cache_of_list(call->worker, view, call->list);
    if (call->is_later_page && call->is_public && !cache.is_public) {
        gw_call_answer_error(call, MCP_E_INVALID_PARAMS,
                             SLICE("the list is another one since its first page: begin again "
                                   "without cursor"),
                             SLICE_EMPTY);
        return false;
    }
    cache.is_public = cache.is_public && (!call->is_later_page || call->is_public);
    *ret_cache = cache;
    return true;
}

/* From its third member on, the answer is not ours to write: the page's texts go out from where
 * they are. */
static void answer_page(struct gw_call *call, struct gw_view *view) {
    struct gateway *gateway = call->worker->gateway;
    struct buf *frame = gw_worker_scratch(call->worker);
    struct gw_page page UNCLEARED;
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
    struct mcp_cache cache;
    if (!find_cache(call, view, &cache))
        return;
    gw_page_init(&page, begin);
    page.reader = call->worker->second_reader;
    struct gw_place from = {call->from_upstream, call->from_item};
    if ((call->list == MCP_LIST_TOOLS && gw_view_find_tools(call->worker, view) != 0) ||
        gw_page_cut(view, call->list, from, call->revision, &page) != 0) {
        gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"),
                             SLICE_EMPTY);
        return;
    }
    json_array_end(&writer);
    if (page.is_full) {
        struct place next = {(uint32_t)call->list, page.next.upstream, page.next.item,
                             cache.is_public};
        write_cursor(&writer, call, &next);
    }
    if (mcp_revision_is_modern(call->revision))
        gw_write_modern_members(&writer, gateway, &cache);
    json_object_end(&writer);
    json_object_end(&writer);
    page.parts[0] = slice_sub(buf_slice(frame), 0, begin);
    page.parts[page.n_parts++] = slice_from(buf_slice(frame), begin);
    answer_parts(call, frame, &page);
}

static void try_list(struct gw_call *call, bool is_late) {
    struct gw_view *view = gw_view_open(call->worker, call->exchange->caller, call->session,
                                        call->capabilities, call->only);
    uint64_t patience = gw_view_patience(view, io_loop_now(call->worker->loop),
                                         call->worker->config->list_timeout_ms);
    /* A later page goes on where the first one ended, in the same items. */
    uint64_t refresh = call->is_later_page ? 0 : gw_view_refresh(view, call, 1u << call->list);
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
    call->is_later_page = cursor != NULL;
    call->is_public = place.is_public != 0;
    try_list(call, false);
}
