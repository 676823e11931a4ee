#include "expand.h"

#include <errno.h>

struct template {
    struct buf *out;
    struct slice rest; /* behind "{{" and what was read since */
    expand_resolve *resolve;
    void *context;
    struct slice *detail;
};

/* What names may consist of is what their owners take: variables, secrets; of a path all but what
 * ends it, or it is written in quotation marks. */
static bool is_variable_byte(char c, bool first) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

static bool is_secret_byte(char c, bool first) {
    return is_variable_byte(c, false) || c == '.' || (!first && c == '-');
}

static bool is_path_byte(char c, bool first) {
    (void)first;
    return (unsigned char)c > ' ' && c != 0x7f && c != '|' && c != '{' && c != '}' && c != '"';
}

static const struct scope {
    struct slice name;
    bool (*is_name_byte)(char c, bool first);
    const char *missing;
} scopes[] = {
    [EXPAND_ENV] = {SLICE_INIT("env"), is_variable_byte,
                    "env needs the name of a variable: env.NAME"},
    [EXPAND_SECRET] = {SLICE_INIT("secret"), is_secret_byte, "secret needs a name: secret.NAME"},
    [EXPAND_FILE] = {SLICE_INIT("file"), is_path_byte,
                     "file needs a path: file.PATH, or file.\"PATH\" where it has spaces"},
};

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_space(struct template *t) {
    while (t->rest.len > 0 && is_space(t->rest.ptr[0]))
        t->rest = slice_from(t->rest, 1);
}

static bool take(struct template *t, struct slice word) {
    if (!slice_starts_with(t->rest, word))
        return false;
    t->rest = slice_from(t->rest, word.len);
    return true;
}

MUST_CHECK static int syntax(struct template *t, const char *reason) {
    *t->detail = slice_from_cstr(reason);
    return EXPAND_E_SYNTAX;
}

static struct slice take_name(struct template *t, bool (*is_name_byte)(char c, bool first)) {
    size_t n = 0;
    while (n < t->rest.len && is_name_byte(t->rest.ptr[n], n == 0))
        n++;
    struct slice name = slice_sub(t->rest, 0, n);
    t->rest = slice_from(t->rest, n);
    return name;
}

/* "text" with \" and \\ for the two; into `out`, unless that is NULL. */
MUST_CHECK static int take_quoted(struct template *t, struct buf *out) {
    if (!take(t, SLICE("\"")))
        return syntax(t, "a text in quotation marks is missing");
    while (t->rest.len > 0) {
        char c = t->rest.ptr[0];
        t->rest = slice_from(t->rest, 1);
        if (c == '"')
            return out != NULL ? buf_error(out) : 0;
        if (c == '\\') {
            if (t->rest.len == 0 || (t->rest.ptr[0] != '"' && t->rest.ptr[0] != '\\'))
                return syntax(t, "only \\\" and \\\\ may follow a backslash");
            c = t->rest.ptr[0];
            t->rest = slice_from(t->rest, 1);
        }
        if (out != NULL)
            buf_append_byte(out, c);
    }
    return syntax(t, "a text in quotation marks is not closed");
}

/* | default("text"), which is used for what is not set. */
MUST_CHECK static int take_default(struct template *t, bool wanted, bool *ret_found) {
    skip_space(t);
    *ret_found = take(t, SLICE("|"));
    if (!*ret_found)
        return 0;
    skip_space(t);
    struct slice filter = take_name(t, is_variable_byte);
    if (!slice_eq(filter, SLICE("default"))) {
        *t->detail = filter;
        return filter.len > 0 ? EXPAND_E_UNKNOWN
                              : syntax(t, "default(\"...\") is missing behind |");
    }
    skip_space(t);
    if (!take(t, SLICE("(")))
        return syntax(t, "default needs its text in parentheses: default(\"...\")");
    skip_space(t);
    int r = take_quoted(t, wanted ? t->out : NULL);
    if (r != 0)
        return r;
    skip_space(t);
    return take(t, SLICE(")")) ? 0 : syntax(t, "a closing parenthesis is missing");
}

/* The name behind "env.", "secret." or "file.". */
MUST_CHECK static int take_reference_name(struct template *t, const struct scope *scope,
                                          struct buf *quoted, struct slice *ret_name) {
    enum { LONGEST = 4096 };
    struct slice name;
    if (!take(t, SLICE(".")))
        return syntax(t, scope->missing);
    if (slice_starts_with(t->rest, SLICE("\"")) && scope == &scopes[EXPAND_FILE]) {
        int r = take_quoted(t, quoted);
        if (r != 0)
            return r == -E2BIG ? syntax(t, "the name is too long") : r;
        name = buf_slice(quoted);
    } else {
        name = take_name(t, scope->is_name_byte);
    }
    if (name.len == 0 || slice_find_byte(name, '\0') != SIZE_MAX)
        return syntax(t, scope->missing);
    if (name.len > LONGEST)
        return syntax(t, "the name is too long");
    *ret_name = name;
    return 0;
}

MUST_CHECK static int take_reference(struct template *t) {
    struct buf quoted CLEANUP(buf_deinit) = BUF_INIT(4096);
    struct slice word = take_name(t, is_variable_byte), name;
    size_t i = 0;
    while (i < ARRAY_LEN(scopes) && !slice_eq(word, scopes[i].name))
        i++;
    if (i == ARRAY_LEN(scopes)) {
        *t->detail = word;
        return word.len > 0 ? EXPAND_E_UNKNOWN : syntax(t, "env.NAME is missing");
    }
    int r = take_reference_name(t, &scopes[i], &quoted, &name);
    if (r != 0)
        return r;
    int resolved = t->resolve(t->context, (enum expand_scope)i, name, t->out);
    if (resolved != 0 && resolved != EXPAND_E_UNSET)
        return resolved;
    bool has_default = false;
    r = take_default(t, resolved == EXPAND_E_UNSET, &has_default);
    return r == 0 && !has_default ? resolved : r;
}

/* From behind "{{" to behind "}}". */
MUST_CHECK static int take_template(struct template *t) {
    static const char open[] = "{{ is not closed; for the braces themselves write {{ \"{{\" }}";
    skip_space(t);
    if (slice_find(t->rest, SLICE("}}")) == SIZE_MAX)
        return syntax(t, open);
    int r = slice_starts_with(t->rest, SLICE("\"")) ? take_quoted(t, t->out) : take_reference(t);
    if (r != 0)
        return r;
    skip_space(t);
    if (!take(t, SLICE("}}")))
        return syntax(t, "only letters, digits and _ may be in a name, and }} must follow");
    return 0;
}

int expand_text(struct buf *out, struct slice text, expand_resolve *resolve, void *context,
                struct slice *ret_detail) {
    struct template t = {
        .out = out, .rest = text, .resolve = resolve, .context = context, .detail = ret_detail};
    for (;;) {
        size_t at = slice_find(t.rest, SLICE("{{"));
        buf_append(out, slice_sub(t.rest, 0, at));
        if (at == SIZE_MAX)
            return buf_error(out);
        t.rest = slice_from(t.rest, at + 2);
        int r = take_template(&t);
        if (r != 0)
            return r;
    }
}
