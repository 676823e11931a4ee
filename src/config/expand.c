#include "expand.h"

#include "base/utf8.h"

struct template {
    struct buf *out;
    struct slice rest; /* behind "{{" and what was read since */
    config_getenv *getenv_fn;
    void *context;
    struct slice *detail;
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

static bool is_name_byte(char c, bool first) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

static struct slice take_name(struct template *t) {
    size_t n = 0;
    while (n < t->rest.len && is_name_byte(t->rest.ptr[n], n == 0))
        n++;
    struct slice name = slice_sub(t->rest, 0, n);
    t->rest = slice_from(t->rest, n);
    return name;
}

/* "text" with \" and \\ for the two; the value goes to `out` when it is wanted. */
MUST_CHECK static int take_quoted(struct template *t, bool wanted) {
    if (!take(t, SLICE("\"")))
        return syntax(t, "a text in quotation marks is missing");
    while (t->rest.len > 0) {
        char c = t->rest.ptr[0];
        t->rest = slice_from(t->rest, 1);
        if (c == '"')
            return buf_error(t->out);
        if (c == '\\') {
            if (t->rest.len == 0 || (t->rest.ptr[0] != '"' && t->rest.ptr[0] != '\\'))
                return syntax(t, "only \\\" and \\\\ may follow a backslash");
            c = t->rest.ptr[0];
            t->rest = slice_from(t->rest, 1);
        }
        if (wanted)
            buf_append_byte(t->out, c);
    }
    return syntax(t, "a text in quotation marks is not closed");
}

/* | default("text"), which is used for a variable that is not set. */
MUST_CHECK static int take_default(struct template *t, bool wanted, bool *ret_found) {
    skip_space(t);
    *ret_found = take(t, SLICE("|"));
    if (!*ret_found)
        return 0;
    skip_space(t);
    struct slice filter = take_name(t);
    if (!slice_eq(filter, SLICE("default"))) {
        *t->detail = filter;
        return filter.len > 0 ? EXPAND_E_UNKNOWN
                              : syntax(t, "default(\"...\") is missing behind |");
    }
    skip_space(t);
    if (!take(t, SLICE("(")))
        return syntax(t, "default needs its text in parentheses: default(\"...\")");
    skip_space(t);
    int r = take_quoted(t, wanted);
    if (r != 0)
        return r;
    skip_space(t);
    return take(t, SLICE(")")) ? 0 : syntax(t, "a closing parenthesis is missing");
}

MUST_CHECK static int take_variable(struct template *t) {
    enum { NAME_MAX_ = 256 };
    char name[NAME_MAX_];
    struct slice scope = take_name(t);
    if (!slice_eq(scope, SLICE("env"))) {
        *t->detail = scope;
        return scope.len > 0 ? EXPAND_E_UNKNOWN : syntax(t, "env.NAME is missing");
    }
    if (!take(t, SLICE(".")))
        return syntax(t, "env needs the name of a variable: env.NAME");
    struct slice variable = take_name(t);
    if (variable.len == 0)
        return syntax(t, "env needs the name of a variable: env.NAME");
    if (slice_to_cstr(variable, name, sizeof name) != 0)
        return syntax(t, "the name of a variable is too long");
    const char *value = t->getenv_fn(t->context, name);
    bool has_default = false;
    int r = take_default(t, value == NULL, &has_default);
    if (r != 0)
        return r;
    if (value == NULL && !has_default) {
        *t->detail = variable;
        return EXPAND_E_UNSET;
    }
    if (value != NULL && !utf8_is_valid(slice_from_cstr(value))) {
        *t->detail = variable;
        return EXPAND_E_ENCODING;
    }
    return buf_append(t->out, slice_from_cstr(value));
}

/* From behind "{{" to behind "}}". */
MUST_CHECK static int take_template(struct template *t) {
    static const char open[] = "{{ is not closed; for the braces themselves write {{ \"{{\" }}";
    skip_space(t);
    if (slice_find(t->rest, SLICE("}}")) == SIZE_MAX)
        return syntax(t, open);
    int r = slice_starts_with(t->rest, SLICE("\"")) ? take_quoted(t, true) : take_variable(t);
    if (r != 0)
        return r;
    skip_space(t);
    if (!take(t, SLICE("}}")))
        return syntax(t, "only letters, digits and _ may be in a name, and }} must follow");
    return 0;
}

int expand_text(struct buf *out, struct slice text, config_getenv *getenv_fn, void *context,
                struct slice *ret_detail) {
    struct template t = {
        .out = out, .rest = text, .getenv_fn = getenv_fn, .context = context, .detail = ret_detail};
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
