/*
 * The text of a list: its items as they are sent, one behind the other with a comma before each, so
 * that a page is a piece of it. Kept in the form that most clients get, with exposed names and in
 * the era of the upstream; the other forms are made when somebody asks for them.
 */
#include <errno.h>

#include "base/mem.h"
#include "json/writer.h"
#include "list.h"

int list_write_token(struct buf *out, struct slice name) {
    buf_append_byte(out, '"');
    json_escape(out, name);
    return buf_append_byte(out, '"');
}

static void free_starts(struct catalog_text *text) {
    union {
        const uint32_t *in;
        uint32_t *out;
    } starts = {.in = text->starts};
    mem_free(starts.out);
}

static void free_form(struct catalog_text *form) {
    if (form == NULL)
        return;
    union {
        const char *in;
        char *out;
    } bytes = {.in = form->bytes};
    mem_free(bytes.out);
    free_starts(form);
    mem_free(form);
}

void list_text_free(struct catalog_list *list) {
    buf_deinit(&list->bytes);
    free_starts(&list->text);
    for (size_t i = 0; i < 4; i++)
        free_form(atomic_load(&list->forms[i / 2][i % 2]));
}

/* The item's definition with another name in it. */
static int write_named(struct buf *out, struct slice json, struct slice name, struct slice token) {
    size_t before = (size_t)(name.ptr - json.ptr);
    buf_append(out, slice_sub(json, 0, before));
    buf_append(out, token);
    return buf_append(out, slice_from(json, before + name.len));
}

static struct slice item_text(const struct catalog_text *text, size_t index) {
    uint32_t from = text->starts[index] + 1; /* behind the comma */
    return slice_make(text->bytes + from, text->starts[index + 1] - from);
}

/* Takes the texts of the items from `from` on over from the page. */
static int take_texts(struct catalog_list *list, size_t from, uint32_t *starts) {
    size_t in_all = 0;
    for (size_t i = from; i < list->n_items; i++)
        in_all += list->items[i].json.len + list->items[i].exposed.len + 3;
    if (buf_reserve(&list->bytes, in_all) == NULL)
        return -ENOMEM;
    for (size_t i = from; i < list->n_items; i++) {
        struct catalog_item *item = &list->items[i];
        struct slice json = item->json, name = item->name;
        starts[i] = (uint32_t)buf_len(&list->bytes);
        buf_append_byte(&list->bytes, ',');
        item->name = slice_make(NULL, name.len); /* its place is found below */
        if (slice_eq(item->key, item->exposed)) {
            buf_append(&list->bytes, json);
        } else {
            struct buf token CLEANUP(buf_deinit) = BUF_INIT(LIMIT_DEFINITION);
            list_write_token(&token, item->exposed);
            item->name.len = buf_len(&token);
            write_named(&list->bytes, json, name, buf_slice(&token));
            if (buf_error(&token) != 0)
                return -ENOMEM;
        }
        item->name_at = (uint32_t)(name.ptr - json.ptr);
    }
    starts[list->n_items] = (uint32_t)buf_len(&list->bytes);
    return buf_error(&list->bytes) != 0 ? -ENOMEM : 0;
}

void list_text_place(struct catalog_list *list) {
    list->text.bytes = buf_slice(&list->bytes).ptr;
    for (size_t i = 0; i < list->n_items; i++) {
        struct catalog_item *item = &list->items[i];
        item->json = item_text(&list->text, i);
        item->name.ptr = item->json.ptr + item->name_at;
    }
}

int list_text_add(struct catalog_list *list, size_t from) {
    size_t len = buf_len(&list->bytes);
    uint32_t *starts = mem_alloc((list->n_items + 1) * sizeof *starts);
    int error = starts != NULL ? 0 : -ENOMEM;
    if (starts != NULL && from != 0)
        memcpy(starts, list->text.starts, from * sizeof *starts);
    if (error == 0)
        error = take_texts(list, from, starts);
    if (error != 0) {
        mem_free(starts);
        list->bytes.error = 0; /* what is in there stays */
        buf_truncate(&list->bytes, len);
        return error;
    }
    free_starts(&list->text);
    list->text.starts = starts;
    return 0;
}

/* Forms. */

static bool is_other_era(const struct catalog *catalog, enum mcp_revision to) {
    return mcp_revision_is_modern(catalog->revision) != mcp_revision_is_modern(to);
}

/* The item as catalog_text() has it. */
static int write_item(struct buf *out, const struct catalog_item *item, bool exposed,
                      bool is_other) {
    if (!is_other || item->other_json.len == 0)
        return exposed || item->own_token.len == 0
                   ? buf_append(out, item->json)
                   : write_named(out, item->json, item->name, item->own_token);
    struct slice name = exposed ? item->exposed : item->own;
    if (slice_eq(item->key, name))
        return buf_append(out, item->other_json);
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(LIMIT_DEFINITION);
    if (list_write_token(&token, name) != 0)
        return out->error = buf_error(&token);
    return write_named(out, item->other_json, item->other_name, buf_slice(&token));
}

int catalog_item_write(struct buf *out, const struct catalog *catalog,
                       const struct catalog_item *item, bool exposed, enum mcp_revision to) {
    return write_item(out, item, exposed, is_other_era(catalog, to));
}

/* Names and what the eras differ in add little to the text that is there: far from the maximum. */
static struct catalog_text *make_form(const struct catalog_list *list, bool is_own, bool is_other) {
    struct buf bytes CLEANUP(buf_deinit) = BUF_INIT(LIST_BYTES * 4);
    struct catalog_text *form = mem_alloc(sizeof *form);
    uint32_t *starts = mem_alloc((list->n_items + 1) * sizeof *starts);
    for (size_t i = 0; starts != NULL && i < list->n_items; i++) {
        starts[i] = (uint32_t)buf_len(&bytes);
        buf_append_byte(&bytes, ',');
        write_item(&bytes, &list->items[i], !is_own, is_other);
    }
    size_t len = 0;
    if (starts != NULL)
        starts[list->n_items] = (uint32_t)buf_len(&bytes);
    if (form == NULL || starts == NULL || buf_error(&bytes) != 0 ||
        (form->bytes = buf_take(&bytes, &len)) == NULL) {
        mem_free(form);
        mem_free(starts);
        return NULL;
    }
    form->starts = starts;
    return form;
}

const struct catalog_text *catalog_text(const struct catalog *catalog, enum mcp_list kind,
                                        bool exposed, enum mcp_revision to) {
    struct catalog_list *list = catalog->lists[kind];
    bool is_own = !exposed && list->has_own_names;
    bool is_other = list->has_other_form && is_other_era(catalog, to);
    if ((!is_own && !is_other) || list->n_items == 0)
        return &list->text;
    struct catalog_text *form = atomic_load(&list->forms[is_own][is_other]);
    if (form != NULL)
        return form;
    struct catalog_text *made = make_form(list, is_own, is_other);
    /* Two workers may come at once: the first one's is everybody's. */
    if (made == NULL || atomic_compare_exchange_strong(&list->forms[is_own][is_other], &form, made))
        return made;
    free_form(made);
    return form;
}
