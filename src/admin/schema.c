#include "schema.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/utf8.h"

enum { USUAL_TEXT = 4096, USUAL_LIST = 1000, MOST_DEPTH = 3, PLACE = 256 };

static const struct json_want deepest[] = {{0}};
static const struct json_want items[] = {{"*", deepest}, {0}};
static const struct json_want inner[] = {{"*", items}, {0}};
static const struct json_want members[] = {{"*", inner}, {0}};
const struct json_want api_schema_want = {.children = members};

/* --- checking --- */

static int wrong(struct buf *reason, const char *place, const char *what) {
    buf_append_cstr(reason, place);
    buf_append_cstr(reason, what);
    return buf_error(reason) == -ENOMEM ? -ENOMEM : SCHEMA_E_WRONG;
}

static int wrong_choice(struct buf *reason, const char *place, const char *const *choices) {
    buf_printf(reason, "%s: is one of", place);
    for (; *choices != NULL; choices++)
        buf_printf(reason, " %s", *choices);
    return SCHEMA_E_WRONG;
}

static uint64_t most_of(const struct schema_field *field) {
    bool is_list = field->type == SCHEMA_TEXTS || field->type == SCHEMA_OBJECTS;
    if (field->most != 0)
        return field->most;
    return is_list ? USUAL_LIST : USUAL_TEXT;
}

static bool has_controls(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c < 0x20 || c == 0x7f)
            return true;
    }
    return false;
}

static bool is_choice(const char *const *choices, struct slice text) {
    for (; *choices != NULL; choices++) {
        if (slice_eq(text, slice_from_cstr(*choices)))
            return true;
    }
    return false;
}

static int check_length(const struct schema_field *field, const char *place, struct slice text,
                        struct buf *reason) {
    /* As it was written, unescaped: in bytes, which is what is kept. */
    if (text.len > most_of(field)) {
        buf_printf(reason, "%s: is longer than %llu bytes", place,
                   (unsigned long long)most_of(field));
        return SCHEMA_E_WRONG;
    }
    if (text.len < field->least) {
        buf_printf(reason, "%s: is shorter than %llu bytes", place,
                   (unsigned long long)field->least);
        return SCHEMA_E_WRONG;
    }
    return 0;
}

static int check_text(const struct schema_field *field, const char *place, struct slice text,
                      struct buf *reason) {
    if (field->type == SCHEMA_SECRET)
        return slice_find_byte(text, '\0') == SIZE_MAX ? check_length(field, place, text, reason)
                                                       : wrong(reason, place, ": has a NUL in it");
    if (field->choices != NULL && !is_choice(field->choices, text))
        return wrong_choice(reason, place, field->choices);
    if (has_controls(text))
        return wrong(reason, place, ": has control characters in it");
    return check_length(field, place, text, reason);
}

static int check_number(const struct schema_field *field, const char *place, int64_t number,
                        struct buf *reason) {
    uint64_t most = field->most != 0 ? field->most : INT64_MAX;
    if (number >= 0 && (uint64_t)number >= field->least && (uint64_t)number <= most)
        return 0;
    buf_printf(reason, "%s: is a whole number from %llu to %llu", place,
               (unsigned long long)field->least, (unsigned long long)most);
    return SCHEMA_E_WRONG;
}

int schema_check_text(const struct schema_field *field, struct slice text, struct buf *reason) {
    uint64_t number = 0;
    switch (field->type) {
    case SCHEMA_NUMBER:
        if (slice_to_u64(text, &number) != 0 || number > INT64_MAX)
            return wrong(reason, field->name, ": is a whole number");
        return check_number(field, field->name, (int64_t)number, reason);
    case SCHEMA_BOOL:
        return slice_eq(text, SLICE("true")) || slice_eq(text, SLICE("false"))
                   ? 0
                   : wrong(reason, field->name, ": is true or false");
    case SCHEMA_TEXT:
    case SCHEMA_SECRET:
    case SCHEMA_TIME:
    case SCHEMA_TEXTS:
    case SCHEMA_OBJECT:
    case SCHEMA_OBJECTS:
        break;
    }
    return check_text(field, field->name, text, reason);
}

static int check_string_node(const struct schema_field *field, const char *place,
                             const struct json_node *node, struct buf *reason) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(2));
    if (node->type != JSON_STRING)
        return wrong(reason, place, ": is a text");
    int error = json_string_append(&text, node);
    return error != 0 ? error : check_text(field, place, buf_slice(&text), reason);
}

static bool came_before(const struct json_reader *reader, const struct json_node *list,
                        const struct json_node *node, struct slice text) {
    for (const struct json_node *other = json_first(reader, list); other != node;
         other = json_next(reader, other)) {
        if (json_string_is(other, text))
            return true;
    }
    return false;
}

static void write_item(char item[PLACE], const char *place, size_t n) {
    snprintf(item, PLACE, "%.200s[%zu]", place, n);
}

static int check_texts(const struct schema_field *field, const char *place,
                       const struct json_reader *reader, const struct json_node *list,
                       struct buf *reason) {
    struct schema_field each = *field;
    size_t n = 0;
    each.type = SCHEMA_TEXT;
    each.least = each.most = 0;
    if (list->type != JSON_ARRAY)
        return wrong(reason, place, ": is a list of texts");
    for (const struct json_node *node = json_first(reader, list); node != NULL;
         node = json_next(reader, node), n++) {
        CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(1));
        char item[PLACE];
        write_item(item, place, n);
        if (n >= most_of(field))
            return wrong(reason, place, ": has too many entries");
        int error = check_string_node(&each, item, node, reason);
        if (error == 0)
            error = json_string_append(&text, node);
        if (error != 0)
            return error;
        if (came_before(reader, list, node, buf_slice(&text)))
            return wrong(reason, item, ": stands there twice");
    }
    return 0;
}

static int check_object(const struct schema *schema, const char *place,
                        const struct json_reader *reader, const struct json_node *object,
                        unsigned depth, struct buf *reason);

static int check_objects(const struct schema_field *field, const char *place,
                         const struct json_reader *reader, const struct json_node *list,
                         unsigned depth, struct buf *reason) {
    size_t n = 0;
    if (list->type != JSON_ARRAY)
        return wrong(reason, place, ": is a list");
    for (const struct json_node *node = json_first(reader, list); node != NULL;
         node = json_next(reader, node), n++) {
        char item[PLACE];
        write_item(item, place, n);
        if (n >= most_of(field))
            return wrong(reason, place, ": has too many entries");
        int error = check_object(field->of, item, reader, node, depth + 1, reason);
        if (error != 0)
            return error;
    }
    return 0;
}

static int check_field(const struct schema_field *field, const char *place,
                       const struct json_reader *reader, const struct json_node *node,
                       unsigned depth, struct buf *reason) {
    int64_t number = 0;
    if (node->type == JSON_NULL && field->may_be_null)
        return 0;
    switch (field->type) {
    case SCHEMA_TEXT:
    case SCHEMA_SECRET:
    case SCHEMA_TIME:
        return check_string_node(field, place, node, reason);
    case SCHEMA_BOOL:
        return node->type == JSON_TRUE || node->type == JSON_FALSE
                   ? 0
                   : wrong(reason, place, ": is true or false");
    case SCHEMA_NUMBER:
        if (json_to_i64(node, &number) != 0)
            return wrong(reason, place, ": is a whole number");
        return check_number(field, place, number, reason);
    case SCHEMA_TEXTS:
        return check_texts(field, place, reader, node, reason);
    case SCHEMA_OBJECT:
        return check_object(field->of, place, reader, node, depth + 1, reason);
    case SCHEMA_OBJECTS:
        return check_objects(field, place, reader, node, depth, reason);
    }
    return -EINVAL;
}

static const struct schema_field *find_field(const struct schema *schema,
                                             const struct json_node *node) {
    for (const struct schema_field *field = schema->fields; field->name != NULL; field++) {
        if (json_key_is(node, slice_from_cstr(field->name)))
            return field;
    }
    return NULL;
}

static void write_place(char place[PLACE], const char *parent, struct slice name) {
    name = utf8_truncate(name, 64);
    snprintf(place, PLACE, "%s%s%.*s", parent, parent[0] != '\0' ? "." : "", SLICE_ARGS(name));
}

static int check_required(const struct schema *schema, const char *place,
                          const struct json_reader *reader, const struct json_node *object,
                          struct buf *reason) {
    for (const struct schema_field *field = schema->fields; field->name != NULL; field++) {
        char missing[PLACE];
        write_place(missing, place, slice_from_cstr(field->name));
        if (field->is_required && json_member(reader, object, slice_from_cstr(field->name)) == NULL)
            return wrong(reason, missing, ": is missing");
    }
    return 0;
}

static int check_object(const struct schema *schema, const char *place,
                        const struct json_reader *reader, const struct json_node *object,
                        unsigned depth, struct buf *reason) {
    if (object->type != JSON_OBJECT)
        return wrong(reason, place[0] != '\0' ? place : "the body", ": is an object");
    if (schema == NULL || schema->fields == NULL || depth >= MOST_DEPTH)
        return 0; /* whoever takes it checks it */
    for (const struct json_node *node = json_first(reader, object); node != NULL;
         node = json_next(reader, node)) {
        const struct schema_field *field = find_field(schema, node);
        char inside[PLACE];
        write_place(inside, place, node->key);
        if (field == NULL)
            return wrong(reason, inside, ": there is no such member here");
        int error = check_field(field, inside, reader, node, depth, reason);
        if (error != 0)
            return error;
    }
    return check_required(schema, place, reader, object, reason);
}

int schema_check(const struct schema *schema, const struct json_reader *reader,
                 struct buf *reason) {
    return check_object(schema, "", reader, json_root(reader), 0, reason);
}

/* --- reading what was checked --- */

static const struct json_node *find(const struct json_reader *reader, const char *name) {
    const struct json_node *node =
        json_root(reader) != NULL ? json_member(reader, json_root(reader), slice_from_cstr(name))
                                  : NULL;
    return node != NULL && node->type != JSON_NULL ? node : NULL;
}

static int copy_text(const struct json_node *node, struct arena *arena, struct slice *ret_text) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(2));
    int error = json_string_append(&text, node);
    struct slice copy = error == 0 ? arena_dup(arena, buf_slice(&text)) : (struct slice){0};
    if (copy.ptr == NULL)
        return -ENOMEM;
    *ret_text = copy;
    return 0;
}

int schema_text(const struct json_reader *reader, const char *name, struct arena *arena,
                struct slice *ret_text) {
    const struct json_node *node = find(reader, name);
    if (node == NULL) {
        *ret_text = (struct slice){0};
        return 0;
    }
    return copy_text(node, arena, ret_text);
}

int schema_texts(const struct json_reader *reader, const char *name, struct arena *arena,
                 struct slice **ret_texts, size_t *ret_n) {
    const struct json_node *list = find(reader, name);
    size_t n = 0, i = 0;
    if (list == NULL) {
        *ret_texts = NULL;
        *ret_n = 0;
        return 0;
    }
    for (const struct json_node *node = json_first(reader, list); node != NULL;
         node = json_next(reader, node))
        n++;
    struct slice *texts = arena_alloc_array(arena, n + 1, sizeof *texts);
    int error = texts != NULL ? 0 : -ENOMEM;
    for (const struct json_node *node = json_first(reader, list); node != NULL && error == 0;
         node = json_next(reader, node))
        error = copy_text(node, arena, &texts[i++]);
    if (error != 0)
        return error;
    *ret_texts = texts;
    *ret_n = n;
    return 0;
}

int schema_bool(const struct json_reader *reader, const char *name) {
    const struct json_node *node = find(reader, name);
    return node == NULL ? -1 : node->type == JSON_TRUE;
}

bool schema_number(const struct json_reader *reader, const char *name, uint64_t *ret_number) {
    const struct json_node *node = find(reader, name);
    int64_t number = 0;
    if (node == NULL || json_to_i64(node, &number) != 0 || number < 0)
        return false;
    *ret_number = (uint64_t)number;
    return true;
}

struct slice schema_raw(const struct json_reader *reader, const char *name) {
    const struct json_node *node = find(reader, name);
    return node != NULL ? node->raw : SLICE_EMPTY;
}

/* --- as JSON Schema --- */

static void write_type(struct json_writer *writer, const char *type, bool may_be_null) {
    json_key(writer, SLICE("type"));
    if (!may_be_null) {
        json_string(writer, slice_from_cstr(type));
        return;
    }
    json_array_begin(writer);
    json_string(writer, slice_from_cstr(type));
    json_string(writer, SLICE("null"));
    json_array_end(writer);
}

static void write_text_rules(struct json_writer *writer, const struct schema_field *field) {
    write_type(writer, "string", field->may_be_null);
    if (field->type == SCHEMA_TIME)
        json_kv_string(writer, SLICE("format"), SLICE("date-time"));
    if (field->type == SCHEMA_SECRET)
        json_kv_bool(writer, SLICE("writeOnly"), true);
    if (field->least != 0)
        json_kv_u64(writer, SLICE("minLength"), field->least);
    if (field->most != 0)
        json_kv_u64(writer, SLICE("maxLength"), field->most);
    if (field->choices == NULL)
        return;
    json_key(writer, SLICE("enum"));
    json_array_begin(writer);
    for (const char *const *choice = field->choices; *choice != NULL; choice++)
        json_string(writer, slice_from_cstr(*choice));
    json_array_end(writer);
}

static void write_reference(struct json_writer *writer, const struct schema *schema) {
    CLEANUP(buf_deinit) struct buf path = BUF_INIT(256);
    buf_printf(&path, "#/components/schemas/%s", schema->name);
    json_kv_string(writer, SLICE("$ref"), buf_slice(&path));
}

static void write_rules(struct json_writer *writer, const struct schema_field *field) {
    switch (field->type) {
    case SCHEMA_TEXT:
    case SCHEMA_SECRET:
    case SCHEMA_TIME:
        write_text_rules(writer, field);
        break;
    case SCHEMA_BOOL:
        write_type(writer, "boolean", field->may_be_null);
        break;
    case SCHEMA_NUMBER:
        write_type(writer, "integer", field->may_be_null);
        json_kv_u64(writer, SLICE("minimum"), field->least);
        if (field->most != 0)
            json_kv_u64(writer, SLICE("maximum"), field->most);
        break;
    case SCHEMA_TEXTS:
        write_type(writer, "array", field->may_be_null);
        json_key(writer, SLICE("items"));
        json_object_begin(writer);
        json_kv_string(writer, SLICE("type"), SLICE("string"));
        json_object_end(writer);
        break;
    case SCHEMA_OBJECT:
        if (field->of == NULL)
            write_type(writer, "object", field->may_be_null);
        else
            write_reference(writer, field->of);
        break;
    case SCHEMA_OBJECTS:
        write_type(writer, "array", field->may_be_null);
        json_key(writer, SLICE("items"));
        json_object_begin(writer);
        if (field->of != NULL)
            write_reference(writer, field->of);
        json_object_end(writer);
        break;
    }
}

void schema_write_field(struct json_writer *writer, const struct schema_field *field) {
    json_object_begin(writer);
    write_rules(writer, field);
    if (field->doc != NULL)
        json_kv_string(writer, SLICE("description"), slice_from_cstr(field->doc));
    json_object_end(writer);
}

void schema_write(struct json_writer *writer, const struct schema *schema) {
    json_object_begin(writer);
    json_kv_string(writer, SLICE("type"), SLICE("object"));
    if (schema->fields == NULL) {
        json_object_end(writer);
        return;
    }
    json_key(writer, SLICE("properties"));
    json_object_begin(writer);
    for (const struct schema_field *field = schema->fields; field->name != NULL; field++) {
        json_key(writer, slice_from_cstr(field->name));
        schema_write_field(writer, field);
    }
    json_object_end(writer);
    json_key(writer, SLICE("required"));
    json_array_begin(writer);
    for (const struct schema_field *field = schema->fields; field->name != NULL; field++) {
        if (field->is_required)
            json_string(writer, slice_from_cstr(field->name));
    }
    json_array_end(writer);
    json_kv_bool(writer, SLICE("additionalProperties"), false);
    json_object_end(writer);
}
