/*
 * Lines for the access of tools, put into the text of a configuration.
 *
 * TOML lets a table be written in many ways, and forbids to mix some of them: a table that dotted
 * keys made has no header, one in braces is complete. So a line goes where the thing nearest to it
 * is written already, and in the way in which that is written; only where nothing of a server's
 * tools is there, and the server has a header, is a header added. The places are looked for from
 * the tool upwards: mcp.servers.X.tools.T, then ...tools, then the server itself.
 *
 * Finding places is a guess about a language with corners. What makes it safe is the end: the new
 * text is parsed, and its tree has to be that of the old text and the wanted leaves, nothing more
 * or less. Tool names come from servers; they get into keys only, and there in quotation marks.
 */
#include "config/edit.h"

#include <errno.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "edit_scan.h"
#include "edit_tree.h"
#include "toml.h"

/* keys */

static bool is_bare(struct slice key) {
    for (size_t i = 0; i < key.len; i++) {
        char c = key.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_'))
            return false;
    }
    return key.len != 0;
}

/* It does something to what is shown, or hides: controls, marks of direction, what has no width,
 * tags, the edges of the planes. */
static bool is_unseen(uint32_t c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || c == 0x180e ||
           (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || (c >= 0xfe00 && c <= 0xfe0f) || c == 0xfeff ||
           (c >= 0xfff0 && c <= 0xffff) || c >= 0xe0000;
}

int config_write_key(struct buf *out, struct slice key) {
    if (is_bare(key))
        return buf_append(out, key);
    buf_append_byte(out, '"');
    while (key.len != 0) {
        uint32_t code_point = 0;
        size_t len = utf8_decode(key, &code_point);
        if (len == 0)
            return -EILSEQ;
        if (is_unseen(code_point)) {
            buf_printf(out, code_point > 0xffff ? "\\U%08x" : "\\u%04x", code_point);
        } else {
            if (code_point == '"' || code_point == '\\')
                buf_append_byte(out, '\\');
            buf_append(out, slice_sub(key, 0, len));
        }
        key = slice_from(key, len);
    }
    return buf_append_byte(out, '"');
}

static int write_path(struct buf *out, const struct slice *parts, size_t n) {
    int error = 0;
    for (size_t i = 0; i < n && error == 0; i++) {
        if (i != 0)
            buf_append_byte(out, '.');
        error = config_write_key(out, parts[i]);
    }
    return error;
}

/* From the part of that index on, as seen from the table above it. */
static int write_assignment(struct buf *out, const struct config_access_edit *edit, size_t from) {
    struct slice path[PATH_ACCESS];
    edit_path_of(edit, path);
    int error = write_path(out, path + from, PATH_ACCESS - from);
    if (error != 0)
        return error;
    buf_append_cstr(out, " = \"");
    buf_append(out, edit_access_name(edit->access));
    return buf_append_byte(out, '"');
}

static int write_header(struct buf *out, const struct config_access_edit *edit, size_t n) {
    struct slice path[PATH_ACCESS];
    edit_path_of(edit, path);
    buf_append_byte(out, '[');
    int error = write_path(out, path, n);
    return error != 0 ? error : buf_append_byte(out, ']');
}

int config_write_access(struct buf *out, const struct config_access_edit *edits, size_t n) {
    int error = 0;
    for (size_t i = 0; i < n && error == 0; i++) {
        if (i == 0 || !slice_eq(edits[i].server, edits[i - 1].server)) {
            if (i != 0)
                buf_append_byte(out, '\n');
            error = write_header(out, &edits[i], PATH_TOOLS);
            buf_append_byte(out, '\n');
        }
        if (error == 0)
            error = write_assignment(out, &edits[i], PATH_TOOL - 1);
        buf_append_byte(out, '\n');
    }
    return error != 0 ? error : buf_error(out);
}

/* places */

enum place_kind {
    PLACE_NONE,
    PLACE_LINE,   /* a line in a table */
    PLACE_INLINE, /* behind a brace */
    PLACE_HEADER, /* a header, and lines */
};

struct place {
    enum place_kind kind;
    size_t at;
    size_t above;  /* parts of the path that the table at hand stands for */
    size_t header; /* PLACE_HEADER: parts of the path that the new one has */
    struct slice indent;
    bool is_empty; /* PLACE_INLINE: there is nothing else between the braces */
};

struct insertion {
    struct place place;
    size_t order;
    const struct config_access_edit *edit;
};

struct edit {
    struct edit_scan scan;
    const struct config_access_edit *edits;
    size_t n;
    struct insertion *insertions;
    struct buf *reason;
};

MUST_CHECK static int refuse(struct edit *e, const char *format, ...) PRINTF_LIKE(2, 3);
MUST_CHECK static int refuse(struct edit *e, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int error = buf_vprintf(e->reason, format, args);
    va_end(args);
    return error != 0 ? error : CONFIG_E_PLACE;
}

static bool begins_with(const struct edit_path *path, const struct slice *prefix, size_t n) {
    bool is_same = path->n >= n;
    for (size_t i = n; i-- > 0 && is_same;) /* the last one is what differs most */
        is_same = slice_eq(path->parts[i], prefix[i]);
    return is_same;
}

static struct place line_in(const struct edit_table *table, size_t at) {
    if (table->kind == EDIT_INLINE)
        return (struct place){.kind = PLACE_INLINE,
                              .at = table->end,
                              .above = table->path.n,
                              .is_empty = table->is_empty};
    return (struct place){
        .kind = PLACE_LINE, .at = at, .above = table->path.n, .indent = table->indent};
}

/* A table of just that path. */
static struct place find_table(const struct edit_scan *scan, const struct slice *path, size_t n) {
    for (size_t i = 0; i < scan->n_tables; i++) {
        const struct edit_table *table = &scan->tables[i];
        if (table->path.n == n && table->kind != EDIT_ARRAY && begins_with(&table->path, path, n))
            return line_in(table, table->end);
    }
    return (struct place){.kind = PLACE_NONE};
}

/* What dotted keys in a table further up made: behind the last of them. */
static struct place find_dotted(const struct edit_scan *scan, const struct slice *path, size_t n) {
    for (size_t i = scan->n_entries; i-- > 0;) {
        const struct edit_entry *entry = &scan->entries[i];
        const struct edit_table *table = &scan->tables[entry->table];
        if (entry->path.n > n && table->path.n < n && table->kind != EDIT_ARRAY &&
            begins_with(&entry->path, path, n))
            return line_in(table, entry->end);
    }
    return (struct place){.kind = PLACE_NONE};
}

/* Behind the last table with a header at or below the path: room for a header with `header` parts.
 */
static struct place find_last(const struct edit_scan *scan, const struct slice *path, size_t n,
                              size_t header) {
    for (size_t i = scan->n_tables; i-- > 0;) {
        const struct edit_table *table = &scan->tables[i];
        if (table->kind != EDIT_INLINE && begins_with(&table->path, path, n))
            return (struct place){
                .kind = PLACE_HEADER, .at = table->end_of_block, .above = header, .header = header};
    }
    return (struct place){.kind = PLACE_NONE};
}

/* Of the tool itself: its table, keys of it, or tables below it. */
static struct place find_tool(const struct edit_scan *scan, const struct slice *path) {
    struct place place = find_table(scan, path, PATH_TOOL);
    if (place.kind == PLACE_NONE)
        place = find_dotted(scan, path, PATH_TOOL);
    if (place.kind == PLACE_NONE)
        place = find_last(scan, path, PATH_TOOL, PATH_TOOL);
    return place;
}

/* For tools of which nothing is there. */
static struct place find_tools(const struct edit_scan *scan, const struct slice *path) {
    struct place place = find_table(scan, path, PATH_TOOLS);
    if (place.kind == PLACE_NONE)
        place = find_dotted(scan, path, PATH_TOOLS);
    if (place.kind != PLACE_NONE)
        return place;
    place = find_table(scan, path, PATH_SERVER);
    if (place.kind == PLACE_NONE)
        place = find_dotted(scan, path, PATH_SERVER);
    if (place.kind == PLACE_INLINE || (place.kind == PLACE_LINE && place.above < PATH_SERVER))
        return place;
    return find_last(scan, path, PATH_SERVER, PATH_TOOLS);
}

/* Keys and tables in the order in which they go in: first what continues a table, then new ones,
 * those of one header together. */
static int compare_insertions(const void *left, const void *right) {
    const struct insertion *a = left, *b = right;
    if (a->place.at != b->place.at)
        return a->place.at < b->place.at ? -1 : 1;
    bool a_is_new = a->place.kind == PLACE_HEADER, b_is_new = b->place.kind == PLACE_HEADER;
    if (a_is_new != b_is_new)
        return a_is_new ? 1 : -1;
    return a->order < b->order ? -1 : 1;
}

/* `order`: tools that have a header of their own stand before those that share one. */
MUST_CHECK static int find_places(struct edit *e) {
    struct place shared = {.kind = PLACE_NONE};
    for (size_t i = 0; i < e->n; i++) {
        const struct config_access_edit *edit = &e->edits[i];
        struct insertion *insertion = &e->insertions[i];
        struct slice path[PATH_ACCESS];
        edit_path_of(edit, path);
        if (i == 0 || !slice_eq(edit->server, e->edits[i - 1].server))
            shared = find_tools(&e->scan, path);
        *insertion = (struct insertion){.order = i, .edit = edit};
        insertion->place = find_tool(&e->scan, path);
        if (insertion->place.kind == PLACE_NONE) {
            insertion->place = shared;
            insertion->order += e->n;
        }
        if (insertion->place.kind == PLACE_NONE)
            return refuse(e,
                          "there is no place for what belongs to a server that it does not have");
    }
    qsort(e->insertions, e->n, sizeof *e->insertions, compare_insertions);
    return 0;
}

/* writing */

/* The file's own line end. */
static struct slice line_end(struct slice text) {
    size_t at = slice_find_byte(text, '\n');
    return at != SIZE_MAX && at != 0 && text.ptr[at - 1] == '\r' ? SLICE("\r\n") : SLICE("\n");
}

static bool is_line_begin(struct slice before) {
    return before.len == 0 || slice_ends_with(before, SLICE("\n")) ||
           slice_eq(before, SLICE("\xEF\xBB\xBF"));
}

static bool is_behind_blank_line(struct slice before) {
    return before.len == 0 || slice_ends_with(before, SLICE("\n\n")) ||
           slice_ends_with(before, SLICE("\n\r\n"));
}

MUST_CHECK static int write_insertion(struct buf *out, const struct insertion *insertion,
                                      const struct insertion *previous, struct slice eol) {
    const struct place *place = &insertion->place;
    bool is_first = previous == NULL || previous->place.at != place->at;
    if (place->kind == PLACE_INLINE) {
        buf_append_cstr(out, is_first || !place->is_empty ? " " : ", ");
        int error = write_assignment(out, insertion->edit, place->above);
        if (!place->is_empty)
            buf_append_byte(out, ',');
        return error;
    }
    if (!is_line_begin(buf_slice(out)))
        buf_append(out, eol);
    if (place->kind == PLACE_HEADER &&
        (is_first || previous->place.kind != PLACE_HEADER ||
         previous->place.header != place->header || place->header == PATH_TOOL ||
         !slice_eq(previous->edit->server, insertion->edit->server))) {
        if (!is_behind_blank_line(buf_slice(out)))
            buf_append(out, eol);
        int error = write_header(out, insertion->edit, place->header);
        if (error != 0)
            return error;
        buf_append(out, eol);
    }
    buf_append(out, place->indent);
    int error = write_assignment(out, insertion->edit, place->above);
    return error != 0 ? error : buf_append(out, eol);
}

/* What follows an insertion of the given kind at that place, from the old text. */
static void write_behind(struct buf *out, const struct place *place, struct slice behind,
                         struct slice eol) {
    if (place->kind == PLACE_INLINE && place->is_empty && slice_starts_with(behind, SLICE("}")))
        buf_append_byte(out, ' ');
    if (place->kind == PLACE_HEADER && behind.len != 0 && behind.ptr[0] != '\n' &&
        behind.ptr[0] != '\r')
        buf_append(out, eol);
}

MUST_CHECK static int write_text(struct edit *e, struct buf *out) {
    struct slice text = e->scan.text, eol = line_end(text);
    size_t at = 0;
    int error = 0;
    for (size_t i = 0; i < e->n && error == 0; i++) {
        const struct insertion *insertion = &e->insertions[i];
        size_t to = insertion->place.at;
        if (to < at || to > text.len)
            return refuse(e, "it is written in a way that is not understood");
        buf_append(out, slice_sub(text, at, to));
        at = to;
        error = write_insertion(out, insertion, i != 0 ? insertion - 1 : NULL, eol);
        if (i + 1 == e->n || insertion[1].place.at != to)
            write_behind(out, &insertion->place, slice_from(text, to), eol);
    }
    if (error == -EILSEQ)
        return refuse(e, "the name of a tool is not UTF-8");
    buf_append(out, slice_from(text, at));
    return error != 0 ? error : buf_error(out);
}

/* what came of it */

MUST_CHECK static int check_text(struct edit *e, const struct toml_node *old, struct slice text) {
    struct arena arena CLEANUP(arena_deinit) = ARENA_INIT(LIMIT_CONFIG_MEMORY);
    struct toml_node *root;
    struct toml_error error;
    int r = toml_parse(&arena, text, &root, &error);
    if (r == TOML_E_SYNTAX)
        return refuse(e, "it is written in a way in which the lines would be no valid TOML");
    if (r == 0 && !edit_is_all(old, root, e->edits, e->n))
        return refuse(e, "with the lines it would say something else than it does");
    return r;
}

/* Nobody is asked twice. */
MUST_CHECK static int check_unset(struct edit *e, const struct toml_node *root) {
    for (size_t i = 0; i < e->n; i++) {
        struct slice path[PATH_ACCESS];
        const struct toml_node *node = root;
        edit_path_of(&e->edits[i], path);
        for (size_t k = 0; k < PATH_ACCESS && node != NULL; k++) {
            size_t cursor = 0;
            node = node->type == TOML_TABLE ? edit_find_child(node, path[k], &cursor) : NULL;
        }
        if (node != NULL)
            return refuse(e, "it says in line %u already which access a tool has", node->at.line);
    }
    return 0;
}

MUST_CHECK static int edit_text(struct edit *e, struct slice text, struct arena *arena,
                                struct buf *out) {
    struct toml_node *root;
    struct toml_error error;
    int r = toml_parse(arena, text, &root, &error);
    if (r == TOML_E_SYNTAX)
        return refuse(e, "it is no valid TOML, as line %u shows", error.at.line);
    if (r == 0)
        r = check_unset(e, root);
    if (r == 0) {
        r = edit_scan(text, arena, &e->scan);
        if (r == EDIT_E_UNKNOWN)
            return refuse(e, "line %zu is written in a way that is not understood", e->scan.line);
    }
    e->insertions = r == 0 ? arena_alloc_array(arena, e->n + 1, sizeof *e->insertions) : NULL;
    if (r == 0 && e->insertions == NULL)
        r = -ENOMEM;
    if (r == 0)
        r = find_places(e);
    if (r == 0)
        r = write_text(e, out);
    return r != 0 ? r : check_text(e, root, buf_slice(out));
}

int config_edit_access(struct slice text, const struct config_access_edit *edits, size_t n,
                       struct buf *out, struct buf *reason) {
    struct arena arena CLEANUP(arena_deinit) = ARENA_INIT(LIMIT_CONFIG_MEMORY);
    struct edit edit = {.edits = edits, .n = n, .reason = reason};
    struct buf changed CLEANUP(buf_deinit) = BUF_INIT(LIMIT_CONFIG_FILE);
    int r = edit_text(&edit, text, &arena, &changed);
    return r != 0 ? r : buf_append(out, buf_slice(&changed));
}
