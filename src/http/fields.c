/*
 * Questions about a head that was parsed: fields by name, lists, media types.
 */
#include <string.h>

#include "base/mem.h"
#include "chars.h"
#include "parser.h"

bool http_is_token(struct slice s) {
    return s.len > 0 && char_all(s, CHAR_TOKEN);
}

struct slice http_head_get(const struct http_head *head, struct slice name) {
    for (size_t i = 0; i < head->n_fields; i++) {
        if (slice_eq_nocase(head->fields[i].name, name))
            return head->fields[i].value;
    }
    return slice_make(NULL, 0);
}

size_t http_head_count(const struct http_head *head, struct slice name) {
    struct slice value;
    return http_head_find(head, name, &value);
}

size_t http_head_find(const struct http_head *head, struct slice name, struct slice *ret_value) {
    size_t count = 0;
    *ret_value = slice_make(NULL, 0);
    for (size_t i = 0; i < head->n_fields; i++) {
        if (!slice_eq_nocase(head->fields[i].name, name))
            continue;
        if (count++ == 0)
            *ret_value = head->fields[i].value;
    }
    return count;
}

static struct slice copy_slice(char **at, struct slice from) {
    char *copy = *at;
    if (from.len != 0)
        memcpy(copy, from.ptr, from.len);
    *at += from.len;
    return slice_make(copy, from.len);
}

struct http_head *http_head_copy(const struct http_head *head) {
    size_t len = head->path.len;
    for (size_t i = 0; i < head->n_fields; i++)
        len += head->fields[i].name.len + head->fields[i].value.len;
    struct http_field *fields = NULL;
    struct http_head *copy = mem_alloc(sizeof *copy + head->n_fields * sizeof *fields + len);
    if (copy == NULL)
        return NULL;
    fields = (struct http_field *)(copy + 1);
    char *at = (char *)(fields + head->n_fields);
    *copy = (struct http_head){.method = head->method,
                               .path = copy_slice(&at, head->path),
                               .fields = fields,
                               .n_fields = head->n_fields};
    for (size_t i = 0; i < head->n_fields; i++) {
        fields[i].name = copy_slice(&at, head->fields[i].name);
        fields[i].value = copy_slice(&at, head->fields[i].value);
    }
    return copy;
}

/* Up to the separator that stands outside of quoted strings, or the end. */
static struct slice cut_unquoted(struct slice *text, char separator) {
    bool quoted = false;
    size_t i = slice_find_byte(*text, separator) == SIZE_MAX ? text->len : 0;
    for (; i < text->len; i++) {
        char c = text->ptr[i];
        if (c == '"')
            quoted = !quoted;
        else if (c == '\\' && quoted && i + 1 < text->len)
            i++;
        else if (c == separator && !quoted)
            break;
    }
    struct slice piece = slice_sub(*text, 0, i);
    *text = slice_from(*text, i + 1);
    return slice_trim(piece);
}

bool http_list_next(struct slice *list, struct slice *ret_element) {
    while (list->len > 0) {
        struct slice element = cut_unquoted(list, ',');
        if (element.len > 0) {
            *ret_element = element;
            return true;
        }
    }
    return false;
}

static struct slice without_parameters(struct slice element) {
    return cut_unquoted(&element, ';');
}

bool http_list_has(const struct http_head *head, struct slice name, struct slice token) {
    for (size_t i = 0; i < head->n_fields; i++) {
        struct slice list = head->fields[i].value, element;
        if (!slice_eq_nocase(head->fields[i].name, name))
            continue;
        while (http_list_next(&list, &element)) {
            if (slice_eq_nocase(without_parameters(element), token))
                return true;
        }
    }
    return false;
}

struct slice http_content_type(const struct http_head *head) {
    return without_parameters(http_head_get(head, SLICE("content-type")));
}

/* RFC 9110 section 12.4.2: 0 to 1 with up to three decimals, here in thousandths; -1 when
 * malformed. */
static int parse_weight(struct slice text) {
    if (text.len == 0 || text.len > 5 || (text.ptr[0] != '0' && text.ptr[0] != '1') ||
        (text.len > 1 && text.ptr[1] != '.'))
        return -1;
    int weight = (text.ptr[0] - '0') * 1000, unit = 100;
    for (size_t i = 2; i < text.len; i++) {
        if (!char_is_digit(text.ptr[i]))
            return -1;
        weight += (text.ptr[i] - '0') * unit;
        unit /= 10;
    }
    return weight <= 1000 ? weight : -1;
}

/* The weight among the parameters of a media range; 1000 without one. */
static int weight_of(struct slice parameters) {
    while (parameters.len > 0) {
        struct slice parameter = cut_unquoted(&parameters, ';');
        if (slice_starts_with_nocase(parameter, SLICE("q=")))
            return parse_weight(slice_from(parameter, 2));
    }
    return 1000;
}

/* How closely a media range describes the type: 3 exactly, 2 as "type/" and a star, 1 as two stars,
 * 0 not. */
static unsigned closeness(struct slice range, struct slice media_type) {
    if (slice_eq_nocase(range, media_type))
        return 3;
    if (slice_eq(range, SLICE("*/*")))
        return 1;
    if (!slice_ends_with(range, SLICE("/*")))
        return 0;
    return slice_starts_with_nocase(media_type, slice_sub(range, 0, range.len - 1)) ? 2 : 0;
}

/* Section 12.5.1: the range that is closest decides, whatever the order. */
bool http_accepts(const struct http_head *head, struct slice media_type) {
    unsigned best = 0;
    int best_weight = 0;
    bool is_absent = true;
    for (size_t i = 0; i < head->n_fields; i++) {
        struct slice list = head->fields[i].value, element;
        if (!slice_eq_nocase(head->fields[i].name, SLICE("accept")))
            continue;
        is_absent = false;
        while (http_list_next(&list, &element)) {
            struct slice range = cut_unquoted(&element, ';');
            unsigned close = closeness(range, media_type);
            int weight = weight_of(element);
            if (close > best || (close == best && weight > best_weight)) {
                best = close;
                best_weight = weight;
            }
        }
    }
    return is_absent || (best > 0 && best_weight > 0);
}
