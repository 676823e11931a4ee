/*
 * Secrets that are told by the name in front of them: `password=...`, `"token": "..."`,
 * `Authorization: ...`, `--api-key ...`, `https://user:...@host`.
 *
 * An equals sign is no prose, so that whatever follows a secret's name and an equals sign is
 * replaced up to the next space, "&" or ";". A colon is: behind a name that is a word of the
 * language ("token: what proves who you are") only what looks like a secret is replaced, and in
 * front of a colon in the middle of a line one word.
 */
#include "chars.h"
#include "names.h"
#include "shapes.h"

enum {
    LONGEST_NAME = 80,
    LONGEST_GAP = 16, /* of blanks around the sign */
    LONGEST_AUTHORITY = 1024,
    LONGEST_SCHEME = 32
};

/* A name in front of a sign. */
struct name {
    struct slice text;
    enum name_kind kind;
    size_t begin;   /* with its quote */
    bool is_quoted; /* "name", or \"name\" in text that is JSON inside of JSON */
    bool in_query;  /* behind "?" or "&" */
    bool at_line;   /* the first of a line */
    char around;    /* the quote in front of it that has no other one behind; or NUL */
};

static bool is_of_name(char c) {
    return is_base64url(c) || c == '.' || c == '%';
}

static size_t back_over_blanks(struct slice text, size_t at) {
    for (size_t n = 0; n < LONGEST_GAP && at > 0 && is_blank(text.ptr[at - 1]); n++)
        at--;
    return at;
}

static size_t back_over_backslashes(struct slice text, size_t at) {
    for (size_t n = 0; n < LONGEST_GAP && at > 0 && text.ptr[at - 1] == '\\'; n++)
        at--;
    return at;
}

/* Only what makes lists and quotations stands in front of it in its line. */
static bool is_at_line(struct slice text, size_t at) {
    for (size_t n = 0; n < LONGEST_GAP && at > 0; n++, at--) {
        char c = text.ptr[at - 1];
        if (c == '\n' || c == '\r')
            return true;
        if (!is_blank(c) && c != '-' && c != '*' && c != '#' && c != '>' && c != '{' && c != '"' &&
            c != '\'')
            return false;
    }
    return at == 0;
}

/* The name that ends before `at`. */
static bool read_name(struct slice text, size_t at, struct name *ret_name) {
    struct name name = {.is_quoted = false};
    size_t end = back_over_blanks(text, at);
    if (end > 0 && is_quote(text.ptr[end - 1])) {
        end = back_over_backslashes(text, end - 1);
        name.is_quoted = true;
    }
    if (end > 0 && text.ptr[end - 1] == ']') {
        end--;
        if (end > 0 && is_quote(text.ptr[end - 1]))
            end--;
    }
    size_t begin = end;
    while (begin > 0 && end - begin < LONGEST_NAME && is_of_name(text.ptr[begin - 1]))
        begin--;
    if (begin == end)
        return false;
    name.text = slice_sub(text, begin, end);
    name.begin = begin;
    char before = begin > 0 ? text.ptr[begin - 1] : '\n';
    name.in_query = before == '?' || before == '&';
    name.at_line = is_at_line(text, begin);
    if (!name.is_quoted && is_quote(before))
        name.around = before;
    name.kind = name_kind_of(name.text);
    if (name.kind == NAME_HARMLESS && name.in_query && name_is_secret_in_query(name.text))
        name.kind = NAME_SECRET;
    *ret_name = name;
    return name.kind != NAME_HARMLESS;
}

/*
 * The end of a quoted value. `depth`: backslashes before the quote that opened it, which has been
 * in that many strings of JSON; one that closes it has as many, or as many as follow from
 * backslashes at the value's end.
 */
static size_t end_of_quoted(struct slice text, size_t at, char quote, size_t depth) {
    size_t backslashes = 0;
    for (; at < text.len; at++) {
        char c = text.ptr[at];
        if (c == quote && (backslashes <= depth ? backslashes == depth || backslashes % 2 == 0
                                                : (backslashes - depth) % (2 * (depth + 1)) == 0))
            return at - (backslashes < depth ? backslashes : depth);
        backslashes = c == '\\' ? backslashes + 1 : 0;
    }
    return text.len;
}

/* Of `{...}` and the like. */
static size_t end_of_brackets(struct slice text, size_t at) {
    size_t depth = 0;
    for (; at < text.len; at++) {
        char c = text.ptr[at];
        if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && --depth == 0)
            return at + 1;
    }
    return text.len;
}

static bool is_one_of(const char *chars, char c) {
    while (*chars != '\0' && *chars != c)
        chars++;
    return *chars != '\0';
}

/* Of what is not quoted: `stops` end it beside white space and quotes. */
static size_t end_of_word(struct slice text, size_t at, const char *stops) {
    while (at < text.len && !is_space(text.ptr[at]) && !is_quote(text.ptr[at]) &&
           !is_one_of(stops, text.ptr[at]))
        at++;
    return at;
}

static size_t end_of_line(struct slice text, size_t at, char quote) {
    while (at < text.len && text.ptr[at] != '\n' && text.ptr[at] != '\r' &&
           (quote == '\0' || text.ptr[at] != quote))
        at++;
    return at;
}

/* A quoted value at `at`, maybe with a letter or two in front (b"...", f"..."). */
static bool read_quoted(struct slice text, size_t at, size_t *ret_begin, size_t *ret_end) {
    size_t depth = 0, letters = 0;
    while (letters < 2 && at + letters < text.len && is_alnum(text.ptr[at + letters]))
        letters++;
    if (at + letters < text.len && is_quote(text.ptr[at + letters]))
        at += letters;
    for (; depth < LONGEST_GAP && at < text.len && text.ptr[at] == '\\'; depth++)
        at++;
    if (at == text.len || !is_quote(text.ptr[at]))
        return false;
    *ret_begin = at + 1;
    *ret_end = end_of_quoted(text, at + 1, text.ptr[at], depth);
    return true;
}

static bool looks_secret(struct slice text, size_t at) {
    enum { SHORT = 8, LOOKED_AT = 128 };
    size_t end = end_of_word(slice_sub(text, 0, at + LOOKED_AT), at, "");
    bool has_digit = false, has_letter = false;
    for (size_t i = at; i < end; i++) {
        has_digit = has_digit || is_digit(text.ptr[i]);
        has_letter = has_letter || !is_digit(text.ptr[i]);
    }
    return end - at >= SHORT && has_digit && has_letter;
}

/* The value of a field in a head: "Basic ...", "a=b; c=d". */
static bool is_field_value(const struct name *name, struct slice line) {
    enum { LOOKED_AT = 128 };
    static const struct slice schemes[] = {
        SLICE_INIT("basic "),     SLICE_INIT("bearer "), SLICE_INIT("digest "),
        SLICE_INIT("negotiate "), SLICE_INIT("token "),  SLICE_INIT("apikey "),
        SLICE_INIT("aws4-hmac-"), SLICE_INIT("dpop "),   SLICE_INIT("ntlm "),
        SLICE_INIT("sharedkey "),
    };
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        if (slice_starts_with_nocase(line, schemes[i]))
            return true;
    }
    bool is_cookie = slice_starts_with_nocase(name->text, SLICE("cookie")) ||
                     slice_starts_with_nocase(name->text, SLICE("set-cookie"));
    return is_cookie && slice_find_byte(slice_sub(line, 0, LOOKED_AT), '=') != SIZE_MAX;
}

/* Behind a colon, without quotes. */
static size_t end_after_colon(struct slice text, size_t at, const struct name *name) {
    if (name->is_quoted)
        return text.ptr[at] == '{' || text.ptr[at] == '[' ? end_of_brackets(text, at)
                                                          : end_of_word(text, at, ",}]");
    bool is_field = is_field_value(name, slice_from(text, at));
    if (name->kind == NAME_WORD && !is_field && !looks_secret(text, at))
        return at;
    return is_field || (name->kind == NAME_SECRET && name->at_line)
               ? end_of_line(text, at, name->around)
               : end_of_word(text, at, "");
}

bool assigned_find(struct slice text, size_t at, size_t *ret_begin, size_t *ret_end) {
    struct name name;
    bool is_colon = text.ptr[at] == ':';
    size_t value = at + 1;
    if (value == text.len || !read_name(text, at, &name))
        return false;
    char behind = text.ptr[value];
    /* Comparisons, arrows, C++'s names; Ruby's arrow behind a name in quotes, := are none. */
    if (is_colon ? behind == ':' : behind == '=' || behind == '~')
        return false;
    if (!is_colon && behind == '>' && !name.is_quoted)
        return false;
    if ((is_colon && behind == '=') || (!is_colon && behind == '>')) {
        value++;
        is_colon = false;
    }
    for (size_t n = 0; n < LONGEST_GAP && value < text.len && is_blank(text.ptr[value]); n++)
        value++;
    if (value == text.len || is_space(text.ptr[value]))
        return false;
    if (!read_quoted(text, value, ret_begin, ret_end)) {
        *ret_begin = value;
        *ret_end = is_colon ? end_after_colon(text, value, &name) : end_of_word(text, value, "&;");
    }
    return *ret_end > *ret_begin;
}

/* --- flags of commands --- */

static struct slice flag_name(struct slice text, size_t at) {
    size_t end = at;
    while (end < text.len && end - at < LONGEST_NAME && is_base64url(text.ptr[end]))
        end++;
    return slice_sub(text, at, end);
}

/* curl's and others': -u USER:PASSWORD, --user USER:PASSWORD. */
static bool user_find(struct slice text, size_t at, size_t end, size_t *ret_begin,
                      size_t *ret_end) {
    size_t colon = at;
    while (colon < end && text.ptr[colon] != ':')
        colon++;
    *ret_begin = colon + 1;
    *ret_end = end;
    return colon > at && colon + 1 < end && text.ptr[at] != '+';
}

bool flag_find(struct slice text, size_t at, size_t *ret_begin, size_t *ret_end) {
    bool is_long = at + 1 < text.len && text.ptr[at + 1] == '-';
    if (at > 0 && !is_space(text.ptr[at - 1]) && !is_quote(text.ptr[at - 1]))
        return false;
    struct slice name = flag_name(text, at + (is_long ? 2 : 1));
    size_t value = at + (is_long ? 2 : 1) + name.len, blanks = 0;
    for (; blanks < LONGEST_GAP && value < text.len && is_blank(text.ptr[value]); blanks++)
        value++;
    if (blanks == 0 || value == text.len || text.ptr[value] == '-')
        return false;
    bool is_user = slice_eq(name, is_long ? SLICE("user") : SLICE("u"));
    if (!is_user && (!is_long || !name_is_secret(name)))
        return false;
    if (read_quoted(text, value, ret_begin, ret_end))
        return is_user ? user_find(text, *ret_begin, *ret_end, ret_begin, ret_end)
                       : *ret_end > *ret_begin;
    if (is_user)
        return user_find(text, value, end_of_word(text, value, ""), ret_begin, ret_end);
    *ret_begin = value;
    *ret_end = end_of_word(text, value, "");
    return *ret_end > *ret_begin;
}

bool flag_is_secret(struct slice text) {
    if (!slice_starts_with(text, SLICE("--")))
        return false;
    struct slice name = flag_name(text, 2);
    return name.len + 2 == text.len && name_is_secret(name);
}

/* --- elements: <password>...</password> --- */

bool element_find(struct slice text, size_t at, size_t *ret_begin, size_t *ret_end) {
    size_t begin = at, end = at + 1;
    while (begin > 0 && at - begin < LONGEST_NAME &&
           (is_of_name(text.ptr[begin - 1]) || text.ptr[begin - 1] == ':'))
        begin--;
    if (begin == at || begin == 0 || text.ptr[begin - 1] != '<' ||
        !name_is_secret(slice_sub(text, begin, at)))
        return false;
    while (end < text.len && text.ptr[end] != '<')
        end++;
    *ret_begin = at + 1;
    *ret_end = end;
    return end > at + 1;
}

/* --- URLs (RFC 3986 section 3.2.1) --- */

static bool ends_url(char c) {
    return is_space(c) || is_quote(c) || c == '<' || c == '>' || c == '\\';
}

/* Some write a slash into a password without escaping it: then the last "@" of the word counts,
 * unless what is before the slash is a port. */
static size_t end_of_userinfo(struct slice text, size_t begin) {
    size_t most = text.len - begin < LONGEST_AUTHORITY ? text.len : begin + LONGEST_AUTHORITY;
    size_t at = begin, mark = SIZE_MAX, colon = SIZE_MAX;
    for (; at < most && !ends_url(text.ptr[at]) && !is_one_of("/?#", text.ptr[at]); at++) {
        if (text.ptr[at] == '@')
            mark = at;
        else if (text.ptr[at] == ':' && colon == SIZE_MAX)
            colon = at;
    }
    bool is_port = true;
    for (size_t i = colon; i != SIZE_MAX && i + 1 < at; i++)
        is_port = is_port && is_digit(text.ptr[i + 1]);
    if (mark != SIZE_MAX || colon == SIZE_MAX || is_port)
        return mark;
    for (; at < most && !ends_url(text.ptr[at]); at++) {
        if (text.ptr[at] == '@')
            mark = at;
    }
    return mark;
}

bool url_password_find(struct slice text, size_t at, size_t *ret_begin, size_t *ret_end) {
    enum { SHORTEST_TOKEN = 16 };
    struct slice rest = slice_from(text, at + 1);
    if (!slice_starts_with(rest, SLICE("//")) || at == 0 || !is_alnum(text.ptr[at - 1]))
        return false;
    size_t begin = at + 3, end = end_of_userinfo(text, begin);
    bool is_ipv6 = begin < text.len && text.ptr[begin] == '[';
    if (end == SIZE_MAX || is_ipv6)
        return false;
    size_t colon = slice_find_byte(slice_sub(text, begin, end), ':');
    if (colon == SIZE_MAX)
        return false;
    /* A token in place of the user, and nothing, or a word for nothing, in place of the password.
     */
    struct slice password = slice_sub(text, begin + colon + 1, end);
    if ((password.len <= 1 || slice_eq(password, SLICE("x-oauth-basic"))) &&
        colon >= SHORTEST_TOKEN) {
        *ret_begin = begin;
        *ret_end = end;
        return true;
    }
    *ret_begin = begin + colon + 1;
    *ret_end = end;
    return password.len != 0;
}
