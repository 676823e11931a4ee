/*
 * A first look at a TOML text: bytes (UTF-8, control characters, line ends: TOML 1.0,
 * "Preliminaries", "Comment", "String"), where strings end, how deep brackets and dotted keys nest,
 * and that a header begins with a name. The grammar itself is left to toml++.
 *
 * It must not disagree with toml++ about where strings and comments begin and end, or the depth
 * that it counts is not the one that toml++ builds. Both follow the same few rules: outside of
 * them '#' begins a comment and a quotation mark a string.
 */
#include <errno.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "toml.h"

struct scan {
    struct slice text;
    size_t i;
    struct toml_position at;
    unsigned depth; /* of open brackets */
    unsigned parts; /* dots since the last thing that ends a key */
    bool line_start;
    struct toml_error *error;
};

MUST_CHECK static int scan_fail(struct scan *s, const char *message) {
    s->error->at = s->at;
    snprintf(s->error->message, sizeof s->error->message, "%s", message);
    return TOML_E_SYNTAX;
}

static char peek(const struct scan *s, size_t ahead) {
    return s->text.len - s->i > ahead ? s->text.ptr[s->i + ahead] : '\0';
}

static bool at_end(const struct scan *s) {
    return s->i == s->text.len;
}

static bool at_newline(const struct scan *s) {
    return peek(s, 0) == '\n' || (peek(s, 0) == '\r' && peek(s, 1) == '\n');
}

/* Over one code point or line end. */
MUST_CHECK static int next(struct scan *s) {
    if (at_newline(s)) {
        s->i += peek(s, 0) == '\n' ? 1 : 2;
        s->at.line++;
        s->at.column = 1;
        return 0;
    }
    uint32_t code_point = 0;
    size_t len = utf8_decode(slice_from(s->text, s->i), &code_point);
    if (len == 0)
        return scan_fail(s, "this is not valid UTF-8");
    if (code_point == '\r')
        return scan_fail(s, "a carriage return without a line feed behind it");
    if ((code_point < 0x20 && code_point != '\t') || code_point == 0x7f)
        return scan_fail(s, "a control character; inside a string write it as an escape (\\u001B)");
    s->i += len;
    s->at.column++;
    return 0;
}

MUST_CHECK static int next_n(struct scan *s, size_t n) {
    int r = 0;
    while (r == 0 && n-- > 0)
        r = next(s);
    return r;
}

MUST_CHECK static int scan_comment(struct scan *s) {
    int r = 0;
    while (r == 0 && !at_end(s) && !at_newline(s))
        r = next(s);
    return r;
}

/* Up to and with the closing mark. The opening ones are behind us. */
MUST_CHECK static int scan_string_body(struct scan *s, char quote, bool multi_line,
                                       struct toml_position start) {
    for (;;) {
        int r = 0;
        if (at_end(s) || (!multi_line && at_newline(s))) {
            s->at = start;
            return scan_fail(s, multi_line ? "this string is not closed"
                                           : "this string is not closed on its line");
        }
        if (quote == '"' && peek(s, 0) == '\\') {
            r = next(s);
            if (r == 0 && !at_end(s) && !(!multi_line && at_newline(s)))
                r = next(s);
        } else if (peek(s, 0) == quote && !multi_line) {
            return next(s);
        } else if (peek(s, 0) == quote && peek(s, 1) == quote && peek(s, 2) == quote) {
            r = next_n(s, 3);
            /* One or two marks may stand right before the closing three. */
            for (int extra = 0; r == 0 && extra < 2 && peek(s, 0) == quote; extra++)
                r = next(s);
            return r;
        } else {
            r = next(s);
        }
        if (r != 0)
            return r;
    }
}

MUST_CHECK static int scan_string(struct scan *s) {
    struct toml_position start = s->at;
    char quote = peek(s, 0);
    bool two = peek(s, 1) == quote;
    bool three = two && peek(s, 2) == quote;
    int r = next_n(s, three ? 3 : two ? 2 : 1);
    if (r != 0 || (two && !three))
        return r; /* or the empty string */
    return scan_string_body(s, quote, three, start);
}

static bool begins_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '"' || c == '\'';
}

/* "[name]", "[[name]]": toml++ asserts, without a check, that a name follows. */
MUST_CHECK static int check_header(struct scan *s) {
    size_t ahead = peek(s, 1) == '[' ? 2 : 1;
    while (peek(s, ahead) == ' ' || peek(s, ahead) == '\t')
        ahead++;
    if (begins_name(peek(s, ahead)))
        return 0;
    return scan_fail(s, "the name of this table is missing or needs quotation marks");
}

MUST_CHECK static int scan_open(struct scan *s) {
    if (s->line_start && s->depth == 0 && peek(s, 0) == '[') {
        int r = check_header(s);
        if (r != 0)
            return r;
    }
    if (s->depth == LIMIT_TOML_DEPTH)
        return scan_fail(s, "too many brackets inside each other");
    s->depth++;
    s->parts = 0;
    return next(s);
}

MUST_CHECK static int scan_token(struct scan *s) {
    char c = peek(s, 0);
    bool was_line_start = s->line_start;
    if (c == '[' || c == '{') {
        int r = scan_open(s);
        s->line_start = false;
        return r;
    }
    s->line_start = at_newline(s) || (was_line_start && (c == ' ' || c == '\t'));
    switch (c) {
    case '#':
        return scan_comment(s);
    case '"':
    case '\'':
        return scan_string(s);
    case ']':
    case '}':
        s->depth -= s->depth > 0;
        s->parts = 0;
        return next(s);
    case '.':
        if (++s->parts == LIMIT_TOML_KEY_PARTS)
            return scan_fail(s, "a key with too many parts");
        return next(s);
    case '=':
    case ',':
    case '\n':
        s->parts = 0;
        return next(s);
    default:
        return next(s);
    }
}

int toml_scan(struct slice text, struct toml_error *ret_error) {
    struct scan s = {.text = text, .at = {1, 1}, .line_start = true, .error = ret_error};
    if (slice_starts_with(text, SLICE("\xEF\xBB\xBF")))
        s.i = 3;
    int r = 0;
    while (r == 0 && !at_end(&s))
        r = scan_token(&s);
    return r;
}

const struct toml_node *toml_get(const struct toml_node *table, const char *key) {
    if (table == NULL || table->type != TOML_TABLE)
        return NULL;
    for (size_t i = 0; i < table->n_children; i++) {
        if (slice_eq(table->children[i].key, slice_from_cstr(key)))
            return &table->children[i];
    }
    return NULL;
}
