/*
 * A second look at a TOML text, for changing it. The tree that toml++ makes has forgotten how the
 * text was written; here the statements are found again, with their places: headers, keys, where a
 * value ends, what is inside of inline tables. Values themselves are passed over: strings end where
 * their marks say, brackets pair. (TOML 1.0: "Keys", "String", "Table", "Inline Table".)
 *
 * Whatever this gets wrong cannot do harm: what is made by it is parsed again and compared
 * (edit.c).
 */
#include "edit_scan.h"

#include <errno.h>

#include "base/limits.h"
#include "base/utf8.h"

static char peek(const struct edit_scan *s, size_t ahead) {
    return s->i < s->text.len && s->text.len - s->i > ahead ? s->text.ptr[s->i + ahead] : '\0';
}

static bool at_end(const struct edit_scan *s) {
    return s->i >= s->text.len;
}

static bool at_line_end(const struct edit_scan *s) {
    return at_end(s) || peek(s, 0) == '\n' || (peek(s, 0) == '\r' && peek(s, 1) == '\n');
}

static void next(struct edit_scan *s) {
    s->line += peek(s, 0) == '\n';
    s->i++;
}

static void skip_blanks(struct edit_scan *s) {
    while (!at_end(s) && (peek(s, 0) == ' ' || peek(s, 0) == '\t'))
        s->i++;
}

/* To the begin of the next line, over nothing but blanks and a comment. */
MUST_CHECK static int skip_rest(struct edit_scan *s) {
    skip_blanks(s);
    if (!at_line_end(s) && peek(s, 0) != '#')
        return EDIT_E_UNKNOWN;
    while (!at_end(s) && peek(s, 0) != '\n')
        s->i++;
    if (!at_end(s))
        next(s);
    return 0;
}

/* strings */

/* Over a string. Of one that is not closed, to the end of the text. */
static void skip_string(struct edit_scan *s) {
    char quote = peek(s, 0);
    bool is_long = peek(s, 1) == quote && peek(s, 2) == quote;
    s->i += is_long ? 3 : 1;
    while (!at_end(s)) {
        if (quote == '"' && peek(s, 0) == '\\') {
            next(s);
        } else if (peek(s, 0) == quote && !is_long) {
            s->i++;
            return;
        } else if (peek(s, 0) == quote && peek(s, 1) == quote && peek(s, 2) == quote) {
            s->i += 3;
            /* One or two marks may stand right before the closing three. */
            for (int extra = 0; extra < 2 && peek(s, 0) == quote; extra++)
                s->i++;
            return;
        }
        if (!at_end(s))
            next(s);
    }
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* \uXXXX and \UXXXXXXXX, behind the letter. */
static size_t decode_hex(struct edit_scan *s, size_t n_digits, char *out) {
    uint32_t code_point = 0;
    for (size_t k = 0; k < n_digits; k++) {
        int digit = hex_digit(peek(s, 0));
        if (digit < 0)
            return 0;
        code_point = code_point << 4 | (uint32_t)digit;
        s->i++;
    }
    if (code_point > 0x10ffff || (code_point >= 0xd800 && code_point <= 0xdfff))
        return 0;
    return utf8_encode(code_point, out);
}

/* One escape, behind its backslash: how many bytes it stands for, 0 when it is none. */
static size_t decode_escape(struct edit_scan *s, char *out) {
    static const char letters[] = "btnfr\"\\", values[] = "\b\t\n\f\r\"\\";
    char letter = peek(s, 0);
    s->i++;
    if (letter == 'u' || letter == 'U')
        return decode_hex(s, letter == 'u' ? 4 : 8, out);
    for (size_t k = 0; letters[k] != '\0'; k++) {
        if (letters[k] == letter) {
            out[0] = values[k];
            return 1;
        }
    }
    return 0;
}

/* keys */

static bool is_bare(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

/* In quotation marks, which are a line's. Never longer than what is written. */
MUST_CHECK static int read_quoted(struct edit_scan *s, struct slice *ret_part) {
    char quote = peek(s, 0);
    size_t begin = ++s->i;
    while (!at_line_end(s) && peek(s, 0) != quote)
        s->i += quote == '"' && peek(s, 0) == '\\' ? 2 : 1;
    if (at_line_end(s))
        return EDIT_E_UNKNOWN;
    size_t end = s->i;
    *ret_part = slice_sub(s->text, begin, end);
    if (quote == '"' && slice_find_byte(*ret_part, '\\') != SIZE_MAX) {
        char *out = arena_alloc(s->arena, end - begin);
        if (out == NULL)
            return -ENOMEM;
        ret_part->ptr = out;
        ret_part->len = 0;
        for (s->i = begin; s->i < end;) {
            char encoded[4] = {s->text.ptr[s->i++]};
            size_t len = encoded[0] == '\\' ? decode_escape(s, encoded) : 1;
            if (len == 0 || s->i > end)
                return EDIT_E_UNKNOWN;
            memcpy(out + ret_part->len, encoded, len);
            ret_part->len += len;
        }
    }
    s->i = end + 1;
    return 0;
}

MUST_CHECK static int read_part(struct edit_scan *s, struct slice *ret_part) {
    if (peek(s, 0) == '"' || peek(s, 0) == '\'')
        return read_quoted(s, ret_part);
    size_t begin = s->i;
    while (!at_end(s) && is_bare(peek(s, 0)))
        s->i++;
    *ret_part = slice_sub(s->text, begin, s->i);
    return ret_part->len != 0 ? 0 : EDIT_E_UNKNOWN;
}

/* A dotted key, behind what `above` is. */
MUST_CHECK static int read_path(struct edit_scan *s, const struct edit_path *above,
                                struct edit_path *ret_path) {
    struct slice parts[LIMIT_TOML_KEY_PARTS];
    size_t n = 0;
    for (;; s->i++) {
        skip_blanks(s);
        int r = n < ARRAY_LEN(parts) ? read_part(s, &parts[n++]) : EDIT_E_UNKNOWN;
        if (r != 0)
            return r;
        skip_blanks(s);
        if (peek(s, 0) != '.')
            break;
    }
    struct slice *all = arena_alloc_array(s->arena, above->n + n, sizeof *all);
    if (all == NULL)
        return -ENOMEM;
    if (above->n != 0)
        memcpy(all, above->parts, above->n * sizeof *all);
    memcpy(all + above->n, parts, n * sizeof *all);
    *ret_path = (struct edit_path){all, above->n + n};
    return 0;
}

/* It is mcp, mcp.servers, or below: what stands elsewhere is not remembered. */
static bool is_of_servers(const struct edit_path *path) {
    return (path->n < 1 || slice_eq(path->parts[0], SLICE("mcp"))) &&
           (path->n < 2 || slice_eq(path->parts[1], SLICE("servers")));
}

/* what was found */

/* Room for one more: arenas do not grow a block, so that the old half is left behind. */
static void *grown(struct arena *arena, void *items, size_t n, size_t *cap, size_t size) {
    if (n < *cap)
        return items;
    size_t wanted = *cap == 0 ? 64 : 2 * *cap;
    void *more = arena_alloc_array(arena, wanted, size);
    if (more == NULL)
        return NULL;
    if (n != 0)
        memcpy(more, items, n * size);
    *cap = wanted;
    return more;
}

MUST_CHECK static int add_table(struct edit_scan *s, const struct edit_table *table) {
    struct edit_table *tables =
        grown(s->arena, s->tables, s->n_tables, &s->cap_tables, sizeof *tables);
    if (tables == NULL)
        return -ENOMEM;
    s->tables = tables;
    s->tables[s->n_tables++] = *table;
    return 0;
}

MUST_CHECK static int add_entry(struct edit_scan *s, const struct edit_entry *entry) {
    struct edit_entry *entries =
        grown(s->arena, s->entries, s->n_entries, &s->cap_entries, sizeof *entries);
    if (entries == NULL)
        return -ENOMEM;
    s->entries = entries;
    s->entries[s->n_entries++] = *entry;
    return 0;
}

/* values */

MUST_CHECK static int read_inline(struct edit_scan *s, const struct edit_path *path,
                                  unsigned depth);

/* Brackets with all that is between them; what is inside of a list has no name of its own. */
MUST_CHECK static int skip_brackets(struct edit_scan *s) {
    size_t depth = 0;
    do {
        char c = peek(s, 0);
        if (at_end(s))
            return EDIT_E_UNKNOWN;
        if (c == '"' || c == '\'') {
            skip_string(s);
            continue;
        }
        if (c == '#') {
            while (!at_end(s) && peek(s, 0) != '\n')
                s->i++;
            continue;
        }
        depth += c == '[' || c == '{';
        depth -= c == ']' || c == '}';
        next(s);
    } while (depth != 0);
    return 0;
}

/* `path` is that of its key. A number, date or word goes up to what can end it. */
MUST_CHECK static int read_value(struct edit_scan *s, const struct edit_path *path,
                                 unsigned depth) {
    char c = peek(s, 0);
    if (c == '[')
        return skip_brackets(s);
    if (c == '{')
        return read_inline(s, path, depth + 1);
    if (c == '"' || c == '\'') {
        skip_string(s);
        return 0;
    }
    size_t begin = s->i;
    for (; !at_line_end(s) && c != '#' && c != ',' && c != '}' && c != ']'; c = peek(s, 0))
        s->i++;
    return s->i > begin ? 0 : EDIT_E_UNKNOWN;
}

/* KEY = VALUE, in the table of that index. */
MUST_CHECK static int read_entry(struct edit_scan *s, const struct edit_path *above, size_t table,
                                 unsigned depth) {
    struct edit_path path;
    int r = read_path(s, above, &path);
    if (r != 0)
        return r;
    if (peek(s, 0) != '=')
        return EDIT_E_UNKNOWN;
    s->i++;
    skip_blanks(s);
    size_t index = s->n_entries;
    bool is_kept = is_of_servers(&path);
    if (is_kept)
        r = add_entry(s, &(struct edit_entry){.path = path, .table = table});
    if (r == 0)
        r = read_value(s, &path, depth);
    if (r != 0 || depth != 0)
        return r;
    r = skip_rest(s);
    if (r == 0 && is_kept)
        s->entries[index].end = s->i;
    return r;
}

MUST_CHECK static int read_inline(struct edit_scan *s, const struct edit_path *path,
                                  unsigned depth) {
    if (depth > LIMIT_TOML_DEPTH)
        return EDIT_E_UNKNOWN;
    s->i++;
    size_t index = s->n_tables;
    struct edit_table table = {.kind = EDIT_INLINE, .path = *path, .end = s->i};
    skip_blanks(s);
    table.is_empty = peek(s, 0) == '}';
    int r = is_of_servers(path) ? add_table(s, &table) : 0;
    if (r == 0 && table.is_empty) {
        s->i++;
        return 0;
    }
    while (r == 0) {
        skip_blanks(s);
        r = read_entry(s, path, index, depth);
        skip_blanks(s);
        char c = peek(s, 0);
        if (r == 0 && c != ',' && c != '}')
            r = EDIT_E_UNKNOWN;
        s->i++;
        if (c == '}')
            break;
    }
    return r;
}

/* lines */

/* Comments right below something are about it, unless a table follows them without a blank line. */
static size_t find_end_of_block(const struct edit_scan *s, size_t from) {
    size_t i = from;
    for (;;) {
        struct slice line, rest;
        (void)slice_cut(slice_from(s->text, i), '\n', &line, &rest);
        struct slice content = slice_trim(line);
        if (slice_starts_with(content, SLICE("#")))
            i = s->text.len - rest.len;
        else
            return content.len == 0 || slice_eq(content, SLICE("\r")) ? i : from;
        if (i == s->text.len)
            return i;
    }
}

/* [PATH] or [[PATH]] */
MUST_CHECK static int read_header(struct edit_scan *s, struct slice indent,
                                  struct edit_table *table) {
    static const struct edit_path root = {NULL, 0};
    size_t n_brackets = peek(s, 1) == '[' ? 2 : 1;
    s->i += n_brackets;
    *table = (struct edit_table){.indent = indent, .is_empty = true};
    table->kind = n_brackets == 2 ? EDIT_ARRAY : EDIT_TABLE;
    int r = read_path(s, &root, &table->path);
    for (size_t k = 0; r == 0 && k < n_brackets; k++, s->i++) {
        if (peek(s, 0) != ']')
            r = EDIT_E_UNKNOWN;
    }
    if (r == 0)
        r = skip_rest(s);
    table->end = s->i;
    return r;
}

/* The lines of one table: its place is known when they are read. */
MUST_CHECK static int read_lines(struct edit_scan *s, struct edit_table *table) {
    size_t index = s->n_tables;
    int r = add_table(s, table);
    while (r == 0 && !at_end(s)) {
        size_t begin = s->i;
        skip_blanks(s);
        if (peek(s, 0) == '[') {
            s->i = begin;
            break;
        }
        if (at_line_end(s) || peek(s, 0) == '#') {
            r = skip_rest(s);
            continue;
        }
        table->indent = slice_sub(s->text, begin, s->i);
        table->is_empty = false;
        r = read_entry(s, &table->path, index, 0);
        table->end = s->i;
    }
    if (r != 0)
        return r;
    table->end_of_block = find_end_of_block(s, table->end);
    s->tables[index] = *table;
    return 0;
}

int edit_scan(struct slice text, struct arena *arena, struct edit_scan *ret_scan) {
    struct edit_scan *s = ret_scan;
    *s = (struct edit_scan){.text = text, .arena = arena, .line = 1};
    if (slice_starts_with(text, SLICE("\xEF\xBB\xBF")))
        s->i = 3;
    struct edit_table table = {.kind = EDIT_TABLE, .end = s->i, .is_empty = true};
    int r = read_lines(s, &table);
    while (r == 0 && !at_end(s)) {
        size_t begin = s->i;
        skip_blanks(s);
        r = read_header(s, slice_sub(text, begin, s->i), &table);
        if (r == 0)
            r = read_lines(s, &table);
    }
    return r;
}
