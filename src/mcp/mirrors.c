/*
 * Tool arguments that are repeated in header fields (MCP 2026-07-28, server/tools, "x-mcp-header";
 * basic/transports/streamable-http, "Custom headers from tool parameters").
 *
 * An annotation counts where no keyword but `properties` leads to it: then the path of its argument
 * is known without validating. Anywhere else it makes the tool invalid, and so does each other
 * broken rule: clients over HTTP have to leave such tools out.
 *
 * Calls are checked against their arguments in one reading: the objects on the way to mirrored
 * arguments are opened, and nothing else, by a table of wants that is made with the mirrors.
 */
#include <errno.h>

#include "base/limits.h"
#include "mcp/modern.h"
#include "schema_walk.h"

#define ANNOTATION SLICE("x-mcp-header")

enum { LONGEST_NAME = 256 };

/* Reading a schema. */

static int refuse(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return MCP_E_REFUSED;
}

/* Some string of the document spells the word, perhaps with escapes. Goes from quote to quote. */
static bool has_word(struct slice document, struct slice word) {
    if (slice_find(document, word) != SIZE_MAX)
        return true;
    if (slice_find(document, SLICE("\\u")) == SIZE_MAX)
        return false;
    for (size_t i = 0; i < document.len; i++) {
        if (document.ptr[i] != '"')
            continue;
        size_t begin = i + 1;
        bool escaped = false;
        for (i = begin; i < document.len && document.ptr[i] != '"'; i++) {
            if (document.ptr[i] == '\\') {
                escaped = true;
                i++;
            }
        }
        struct json_node text = {.key = slice_sub(document, begin, i), .key_escaped = true};
        if (escaped && json_key_is(&text, word))
            return true;
    }
    return false;
}

/* RFC 9110 section 5.6.2. */
static bool is_token(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool is_alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!is_alnum && slice_find_byte(SLICE("!#$%&'*+-.^_`|~"), c) == SIZE_MAX)
            return false;
    }
    return text.len != 0;
}

static int unescape(struct arena *arena, struct slice between_quotes, struct slice *ret_text) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(between_quotes.len);
    if (json_unescape(&text, between_quotes) != 0)
        return -ENOMEM;
    struct slice copy = arena_dup(arena, buf_slice(&text));
    if (copy.ptr == NULL)
        return -ENOMEM;
    *ret_text = copy;
    return 0;
}

static int read_type(const struct json_reader *reader, const struct json_node *schema,
                     enum mcp_mirror_type *ret_type, const char **ret_reason) {
    static const struct slice types[] = {
        [MCP_MIRROR_STRING] = SLICE_INIT("string"),
        [MCP_MIRROR_INTEGER] = SLICE_INIT("integer"),
        [MCP_MIRROR_BOOLEAN] = SLICE_INIT("boolean"),
    };
    const struct json_node *type = json_member(reader, schema, SLICE("type"));
    for (size_t i = 0; type != NULL && i < ARRAY_LEN(types); i++) {
        if (json_string_is(type, types[i])) {
            *ret_type = (enum mcp_mirror_type)i;
            return 0;
        }
    }
    return refuse(ret_reason,
                  "x-mcp-header stands on a type other than string, integer and boolean");
}

/* Every second level is the object behind `properties`; the keys of the others are the path. */
static int read_path(struct mcp_mirror *mirror, struct arena *arena,
                     const struct schema_walk *walk) {
    size_t n_path = walk->n_levels / 2;
    mirror->path = arena_alloc_array(arena, n_path, sizeof *mirror->path);
    if (mirror->path == NULL)
        return -ENOMEM;
    for (; mirror->n_path < n_path; mirror->n_path++) {
        const struct json_node *schema = walk->levels[2 * mirror->n_path + 2].node;
        int error = unescape(arena, schema->key, &mirror->path[mirror->n_path]);
        if (error != 0)
            return error;
    }
    return 0;
}

/* `node` is an annotation, in front of its walk. */
static int read_mirror(struct mcp_mirror *mirror, struct arena *arena,
                       const struct schema_walk *walk, const struct json_node *node,
                       const char **ret_reason) {
    const struct schema_level *schema = schema_walk_top(walk);
    if (!schema->by_properties || walk->n_levels == 1)
        return refuse(ret_reason,
                      "x-mcp-header stands where other keywords than properties lead to");
    if (walk->n_levels / 2 > LIMIT_MIRROR_DEPTH)
        return refuse(ret_reason, "x-mcp-header stands too deep in the schema");
    if (node->type != JSON_STRING)
        return refuse(ret_reason, "x-mcp-header must be a string");
    int error = unescape(arena, json_string_raw(node), &mirror->name);
    if (error != 0)
        return error;
    if (!is_token(mirror->name))
        return refuse(ret_reason, "x-mcp-header must be a token of RFC 9110");
    if (mirror->name.len > LONGEST_NAME)
        return refuse(ret_reason, "x-mcp-header is too long");
    error = read_type(walk->reader, schema->node, &mirror->type, ret_reason);
    return error != 0 ? error : read_path(mirror, arena, walk);
}

static int read_all(struct mcp_mirror *items, size_t *n, struct arena *arena,
                    struct json_reader *reader, const char **ret_reason) {
    struct schema_walk walk;
    schema_walk_init(&walk, reader);
    for (const struct json_node *node = schema_walk_next(&walk); node != NULL;
         node = schema_walk_next(&walk)) {
        if (schema_walk_top(&walk)->inside != SCHEMA_KEYWORDS || !json_key_is(node, ANNOTATION))
            continue;
        if (*n == LIMIT_MIRRORS)
            return refuse(ret_reason, "more than 32 arguments have an x-mcp-header");
        struct mcp_mirror mirror = {0};
        int error = read_mirror(&mirror, arena, &walk, node, ret_reason);
        if (error != 0)
            return error;
        for (size_t i = 0; i < *n; i++) {
            if (slice_eq_nocase(items[i].name, mirror.name))
                return refuse(ret_reason, "two arguments have the same x-mcp-header");
        }
        items[(*n)++] = mirror;
    }
    return 0;
}

/* The table of wants. */

/* What names the key in a table: the star for those that a table cannot spell, which opens more
 * than is needed. */
static const char *want_key(struct slice key) {
    return slice_find_byte(key, '\0') != SIZE_MAX ? "*" : key.ptr;
}

static bool same_way(const char *a, const char *b) {
    return slice_eq(slice_from_cstr(a), slice_from_cstr(b));
}

/*
 * The children of one place, at which the mirrors of `mask` meet after `depth` keys. Those that end
 * here need none: their object is open already. Recursion goes LIMIT_MIRROR_DEPTH deep.
 */
static const struct json_want *make_wants(const struct mcp_mirrors *mirrors, struct arena *arena,
                                          uint32_t mask, size_t depth) {
    static const struct json_want none = {0};
    struct json_want rows[LIMIT_MIRRORS];
    uint32_t masks[LIMIT_MIRRORS] = {0};
    size_t n = 0;
    for (size_t i = 0; i < mirrors->n; i++) {
        const struct mcp_mirror *mirror = &mirrors->items[i];
        if ((mask >> i & 1) == 0 || mirror->n_path <= depth + 1)
            continue;
        const char *key = want_key(mirror->path[depth]);
        size_t at = 0;
        while (at < n && !same_way(rows[at].key, key))
            at++;
        if (at == n)
            rows[n++] = (struct json_want){.key = key};
        masks[at] |= UINT32_C(1) << i;
    }
    if (n == 0)
        return &none;
    struct json_want *wants = arena_alloc_array(arena, n + 1, sizeof *wants);
    if (wants == NULL)
        return NULL;
    size_t first = 0, last = n; /* the star goes behind those that are named */
    for (size_t i = 0; i < n; i++) {
        struct json_want *row = same_way(rows[i].key, "*") ? &wants[--last] : &wants[first++];
        row->key = rows[i].key;
        row->children = make_wants(mirrors, arena, masks[i], depth + 1);
        if (row->children == NULL)
            return NULL;
    }
    return wants;
}

bool mcp_mirrors_possible(struct slice input_schema) {
    return has_word(input_schema, ANNOTATION);
}

int mcp_mirrors_read(struct mcp_mirrors *ret_mirrors, struct arena *arena,
                     struct json_reader *reader, struct slice input_schema,
                     const char **ret_reason) {
    struct mcp_mirror items[LIMIT_MIRRORS];
    struct mcp_mirrors mirrors = {0};
    struct json_error json_error = {0};
    if (!mcp_mirrors_possible(input_schema)) {
        *ret_mirrors = mirrors;
        return 0;
    }
    int error = json_read(reader, input_schema, &schema_want, NULL, &json_error);
    if (error > 0)
        return refuse(ret_reason, json_error.reason);
    if (error == 0)
        error = read_all(items, &mirrors.n, arena, reader, ret_reason);
    if (error == 0 && mirrors.n != 0) {
        mirrors.items = arena_alloc_array(arena, mirrors.n, sizeof *mirrors.items);
        if (mirrors.items == NULL)
            return -ENOMEM;
        memcpy(mirrors.items, items, mirrors.n * sizeof *items);
        struct json_want *want = arena_alloc(arena, sizeof *want);
        if (want == NULL)
            return -ENOMEM;
        want->children = make_wants(&mirrors, arena, UINT32_MAX, 0);
        mirrors.want = want;
        if (want->children == NULL)
            return -ENOMEM;
    }
    if (error == 0)
        *ret_mirrors = mirrors;
    return error;
}

/* Numbers. */

struct decimal {
    bool is_negative;
    struct slice whole, fraction; /* digits */
    int64_t exponent;             /* stops growing when it is larger than any number of digits */
};

static struct slice take_digits(struct slice *rest) {
    size_t n = 0;
    while (n < rest->len && rest->ptr[n] >= '0' && rest->ptr[n] <= '9')
        n++;
    struct slice digits = slice_sub(*rest, 0, n);
    *rest = slice_from(*rest, n);
    return digits;
}

static bool take(struct slice *rest, char c) {
    if (rest->len == 0 || rest->ptr[0] != c)
        return false;
    *rest = slice_from(*rest, 1);
    return true;
}

static bool read_exponent(struct slice *rest, int64_t *exponent) {
    if (!take(rest, 'e') && !take(rest, 'E'))
        return true;
    bool is_negative = take(rest, '-');
    if (!is_negative)
        (void)take(rest, '+');
    struct slice digits = take_digits(rest);
    for (size_t i = 0; i < digits.len && *exponent < INT64_C(1000000000000); i++)
        *exponent = *exponent * 10 + (digits.ptr[i] - '0');
    if (is_negative)
        *exponent = -*exponent;
    return digits.len != 0;
}

/* RFC 8259 section 6. */
static bool read_decimal(struct slice text, struct decimal *ret_decimal) {
    struct decimal decimal = {.is_negative = take(&text, '-')};
    decimal.whole = take_digits(&text);
    if (decimal.whole.len == 0 || (decimal.whole.len > 1 && decimal.whole.ptr[0] == '0'))
        return false;
    if (take(&text, '.')) {
        decimal.fraction = take_digits(&text);
        if (decimal.fraction.len == 0)
            return false;
    }
    if (!read_exponent(&text, &decimal.exponent) || text.len != 0)
        return false;
    *ret_decimal = decimal;
    return true;
}

enum number_kind { NUMBER_INTEGER, NUMBER_FRACTION, NUMBER_TOO_LARGE, NUMBER_NONE };

/* An integer may be written as 42.0 or 4.2e1; it counts as far as doubles tell integers apart. */
static enum number_kind read_number(struct slice text, int64_t *ret_number) {
    static const int64_t largest = (INT64_C(1) << 53) - 1;
    struct decimal decimal;
    int64_t number = 0;
    bool is_large = false;
    if (!read_decimal(text, &decimal))
        return NUMBER_NONE;
    int64_t n_digits = (int64_t)(decimal.whole.len + decimal.fraction.len);
    int64_t point = (int64_t)decimal.whole.len + decimal.exponent;
    for (int64_t i = 0; i < n_digits; i++) {
        size_t at = (size_t)i;
        char digit = at < decimal.whole.len ? decimal.whole.ptr[at]
                                            : decimal.fraction.ptr[at - decimal.whole.len];
        if (i >= point && digit != '0')
            return NUMBER_FRACTION;
        if (i < point && !is_large)
            number = number * 10 + (digit - '0');
        is_large = is_large || number > largest;
    }
    for (int64_t i = n_digits; i < point && number != 0 && !is_large; i++) {
        number *= 10;
        is_large = number > largest;
    }
    if (is_large)
        return NUMBER_TOO_LARGE;
    *ret_number = decimal.is_negative ? -number : number;
    return NUMBER_INTEGER;
}

/* Arguments. */

static const struct json_node *find_argument(const struct json_reader *reader,
                                             const struct mcp_mirror *mirror) {
    const struct json_node *node = json_root(reader);
    for (size_t i = 0; node != NULL && i < mirror->n_path; i++)
        node = json_member(reader, node, mirror->path[i]);
    return node;
}

/* What the field says before it is encoded. False: there is no field for such a value. The buffer's
 * error is the caller's to look at. */
static bool argument_text(struct buf *out, const struct json_node *argument) {
    int64_t number;
    switch (argument->type) {
    case JSON_STRING:
        return json_string_append(out, argument) == 0 || buf_error(out) != 0;
    case JSON_TRUE:
    case JSON_FALSE:
        buf_append(out, argument->raw);
        return true;
    case JSON_NUMBER:
        switch (read_number(argument->raw, &number)) {
        case NUMBER_INTEGER:
            buf_printf(out, "%lld", (long long)number);
            return true;
        case NUMBER_FRACTION:
            buf_append(out, argument->raw);
            return true;
        case NUMBER_TOO_LARGE:
        case NUMBER_NONE:
            return false;
        }
        return false;
    case JSON_NULL:
    case JSON_OBJECT:
    case JSON_ARRAY:
        return false;
    }
    return false;
}

static bool has_annotated_type(const struct mcp_mirror *mirror, const struct json_node *argument) {
    int64_t number;
    switch (mirror->type) {
    case MCP_MIRROR_STRING:
        return argument->type == JSON_STRING;
    case MCP_MIRROR_INTEGER:
        return argument->type == JSON_NUMBER &&
               read_number(argument->raw, &number) == NUMBER_INTEGER;
    case MCP_MIRROR_BOOLEAN:
        return argument->type == JSON_TRUE || argument->type == JSON_FALSE;
    }
    return false;
}

/* 1: there are no arguments to look at. What a message held that was read before can only be too
 * much. */
static int read_arguments(const struct mcp_mirrors *mirrors, struct json_reader *reader,
                          struct slice arguments) {
    if (mirrors->n == 0 || arguments.len == 0)
        return 1;
    int error = json_read(reader, arguments, mirrors->want, NULL, NULL);
    if (error > 0)
        return error == JSON_E_LIMIT ? -E2BIG : 1;
    return error != 0 ? error : json_root(reader)->type != JSON_OBJECT;
}

int mcp_mirrors_write(struct buf *out, const struct mcp_mirrors *mirrors,
                      struct json_reader *reader, struct slice arguments) {
    int error = read_arguments(mirrors, reader, arguments);
    if (error != 0)
        return error > 0 ? 0 : error;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(arguments.len + 32);
    for (size_t i = 0; i < mirrors->n; i++) {
        const struct mcp_mirror *mirror = &mirrors->items[i];
        const struct json_node *argument = find_argument(reader, mirror);
        buf_reset(&text, arguments.len + 32);
        if (argument == NULL || !argument_text(&text, argument))
            continue;
        if (buf_error(&text) != 0)
            return buf_error(&text);
        buf_append(out, SLICE("Mcp-Param-"));
        buf_append(out, mirror->name);
        buf_append(out, SLICE(": "));
        mcp_field_encode(out, buf_slice(&text));
        buf_append(out, SLICE("\r\n"));
    }
    return buf_error(out);
}

/* The decoded field says what the argument says. */
static bool says_the_same(const struct json_node *argument, struct slice text, struct slice field) {
    int64_t left, right;
    if (slice_eq(text, field))
        return true;
    return argument->type == JSON_NUMBER && read_number(argument->raw, &left) == NUMBER_INTEGER &&
           read_number(field, &right) == NUMBER_INTEGER && left == right;
}

static int check_value(const struct json_node *argument, struct slice value,
                       const char **ret_reason) {
    size_t most = argument->raw.len + value.len + 32;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(most);
    struct buf field CLEANUP(buf_deinit) = BUF_INIT(most);
    if (!argument_text(&text, argument))
        return refuse(ret_reason, "the argument is of a kind that has no header field");
    int error = mcp_field_decode(&field, value);
    if (error == MCP_E_REFUSED)
        return refuse(ret_reason, "the header field is not encoded as it should be");
    if (error == 0)
        error = buf_error(&text);
    if (error != 0)
        return error;
    if (!says_the_same(argument, buf_slice(&text), buf_slice(&field)))
        return refuse(ret_reason, "the header field and the argument differ");
    return 0;
}

static int check_mirror(const struct mcp_mirror *mirror, const struct json_node *argument,
                        const struct mcp_param_field *fields, size_t n_fields,
                        const char **ret_reason) {
    const struct mcp_param_field *field = NULL;
    for (size_t i = 0; i < n_fields; i++) {
        if (!slice_eq_nocase(fields[i].name, mirror->name))
            continue;
        if (field != NULL)
            return refuse(ret_reason, "the header field is there twice");
        field = &fields[i];
    }
    bool has_argument = argument != NULL && argument->type != JSON_NULL;
    if (field == NULL)
        return has_argument && has_annotated_type(mirror, argument)
                   ? refuse(ret_reason, "the argument lacks its header field")
                   : 0;
    if (!has_argument)
        return refuse(ret_reason, "there is a header field but no argument");
    return check_value(argument, field->value, ret_reason);
}

int mcp_mirrors_check(const struct mcp_mirrors *mirrors, struct json_reader *reader,
                      struct slice arguments, const struct mcp_param_field *fields, size_t n_fields,
                      struct slice *ret_name, const char **ret_reason) {
    if (mirrors->n == 0)
        return 0;
    int error = read_arguments(mirrors, reader, arguments);
    if (error == -E2BIG) {
        *ret_name = mirrors->items[0].name;
        return refuse(ret_reason, "the arguments hold too many values to be compared");
    }
    if (error < 0)
        return error;
    bool has_arguments = error == 0;
    for (size_t i = 0; i < mirrors->n; i++) {
        const struct mcp_mirror *mirror = &mirrors->items[i];
        error = check_mirror(mirror, has_arguments ? find_argument(reader, mirror) : NULL, fields,
                             n_fields, ret_reason);
        if (error == MCP_E_REFUSED)
            *ret_name = mirror->name;
        if (error != 0)
            return error;
    }
    return 0;
}
