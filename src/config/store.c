/* Values of the tree, checked against their rows and put into the struct. */
#include <errno.h>

#include "base/limits.h"
#include "base/secret.h"
#include "load.h"

_Static_assert(sizeof(enum config_share) == sizeof(unsigned), "enums are stored as unsigned");

static void *member(void *object, size_t offset) {
    return (char *)object + offset;
}

static bool has_type(enum option_type type, const struct toml_node *node) {
    switch (type) {
    case OPTION_TABLE:
        return node->type == TOML_TABLE;
    case OPTION_BOOL:
        return node->type == TOML_BOOL;
    case OPTION_INTEGER:
        return node->type == TOML_INTEGER;
    case OPTION_NUMBER:
        return node->type == TOML_INTEGER || node->type == TOML_FLOAT;
    case OPTION_DURATION:
    case OPTION_STRING:
    case OPTION_PATH:
    case OPTION_ENUM:
        return node->type == TOML_STRING;
    case OPTION_SIZE:
        return node->type == TOML_STRING || node->type == TOML_INTEGER;
    case OPTION_TIME:
        return node->type == TOML_STRING || node->type == TOML_TIME;
    case OPTION_LIST:
    case OPTION_VALUES:
    case OPTION_TABLES:
        return node->type == TOML_ARRAY;
    case OPTION_MAP:
    case OPTION_NAMED:
        return node->type == TOML_TABLE;
    case OPTION_STDERR:
        return node->type == TOML_STRING || node->type == TOML_TABLE;
    case OPTION_ANY:
        return true;
    }
    return false;
}

static bool is_scalar(const struct toml_node *node) {
    return node->type == TOML_STRING || node->type == TOML_INTEGER || node->type == TOML_FLOAT ||
           node->type == TOML_BOOL;
}

/* Each entry of a list or map of strings that is none, of an array of tables that is none. BOOL
 * stands for any scalar. */
static bool check_entries(struct loader *l, const struct place *place, const struct toml_node *node,
                          enum toml_type wanted) {
    bool fine = true;
    for (size_t i = 0; i < node->n_children; i++) {
        const struct toml_node *child = &node->children[i];
        struct place entry = {.up = place, .index = i};
        if (node->type == TOML_TABLE)
            entry.key = child->key;
        if (wanted == TOML_BOOL ? is_scalar(child) : child->type == wanted)
            continue;
        problem_of(l, CONFIG_ERROR, child->type == TOML_TABLE ? child->key_at : child->at, &entry,
                   wanted == TOML_TABLE  ? "must be a table"
                   : wanted == TOML_BOOL ? "must be a string, a number, true or false"
                                         : "must be a string, in quotation marks");
        fine = false;
    }
    return fine;
}

static bool check_length(struct loader *l, const struct place *place, const struct option *row,
                         const struct toml_node *node) {
    if (row->max == 0 || node->n_children <= row->max)
        return true;
    problem_of(l, CONFIG_ERROR, node->at, place, "must have at most %llu entries",
               (unsigned long long)row->max);
    return false;
}

bool check_type(struct loader *l, const struct place *place, const struct option *row,
                const struct toml_node *node) {
    if (row->type == OPTION_LIST && row->single && node->type == TOML_STRING)
        return true;
    if (!has_type(row->type, node)) {
        problem_of(l, CONFIG_ERROR, node->type == TOML_TABLE ? node->key_at : node->at, place,
                   "must be %s", option_type_name(row));
        return false;
    }
    if (row->type == OPTION_TABLES || row->type == OPTION_NAMED)
        return check_entries(l, place, node, TOML_TABLE);
    if (row->type == OPTION_LIST || row->type == OPTION_MAP)
        return check_entries(l, place, node, TOML_STRING) && check_length(l, place, row, node);
    if (row->type == OPTION_VALUES)
        return check_entries(l, place, node, TOML_BOOL) && check_length(l, place, row, node);
    return true;
}

/* The row's check. What is refused, perhaps a secret, is not kept. */
static bool check_string(struct loader *l, const struct place *place, const struct option *row,
                         const struct toml_node *node, struct slice string) {
    const char *wrong = row->check != NULL ? row->check(string) : NULL;
    if (wrong == NULL)
        return true;
    if (l->is_hidden)
        problem_of(l, CONFIG_WARNING, node->at, place,
                   "is not checked: what its secret holds is not known here");
    else
        problem_of(l, CONFIG_ERROR, node->at, place, "%s%s", row->before != NULL ? row->before : "",
                   wrong);
    secret_wipe((void *)(uintptr_t)string.ptr, string.len);
    return false;
}

/* expand_string() and the check. */
static bool read_string(struct loader *l, const struct place *place, const struct option *row,
                        const struct toml_node *node, struct slice *ret_string) {
    struct slice string;
    if (!expand_string(l, place, row, node, &string) || !check_string(l, place, row, node, string))
        return false;
    *ret_string = string;
    return true;
}

/* KEY_file, of a key that is a secret. */
void store_twin(struct loader *l, const struct place *place, const struct option *row,
                const struct toml_node *node, void *object) {
    struct slice string;
    if (read_twin(l, place, node, &string) && check_string(l, place, row, node, string))
        *(struct slice *)member(object, row->offset) = string;
}

static bool read_path(struct loader *l, const struct place *place, const struct option *row,
                      const struct toml_node *node, struct slice *ret_path) {
    struct slice path;
    if (!read_string(l, place, row, node, &path))
        return false;
    if (slice_starts_with(path, SLICE("/")) || path.len == 0) {
        *ret_path = path;
        return true;
    }
    char *joined = arena_printf(&l->config->arena, "%s/%s", l->folder.ptr, path.ptr);
    if (joined == NULL) {
        l->error = -ENOMEM;
        return false;
    }
    *ret_path = slice_from_cstr(joined);
    return true;
}

static void to_lower(struct loader *l, struct slice *string) {
    char *copy = arena_cstr(&l->config->arena, *string);
    if (copy == NULL) {
        l->error = -ENOMEM;
        return;
    }
    for (size_t i = 0; i < string->len; i++)
        copy[i] = (char)(copy[i] >= 'A' && copy[i] <= 'Z' ? copy[i] - 'A' + 'a' : copy[i]);
    string->ptr = copy;
}

static void store_list(struct loader *l, const struct place *place, const struct option *row,
                       const struct toml_node *node, void *object) {
    bool is_single = node->type == TOML_STRING;
    size_t n = is_single ? 1 : node->n_children;
    struct slice *list = arena_alloc_array(&l->config->arena, n + 1, sizeof *list);
    if (list == NULL) {
        l->error = -ENOMEM;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct place entry = {.up = place, .index = i};
        if (read_string(l, is_single ? place : &entry, row, is_single ? node : &node->children[i],
                        &list[i]) &&
            row->lower)
            to_lower(l, &list[i]);
    }
    *(struct slice **)member(object, row->offset) = list;
    *(size_t *)member(object, row->count_offset) = n;
}

static void store_map(struct loader *l, const struct place *place, const struct option *row,
                      const struct toml_node *node, void *object) {
    struct config_pair *map =
        arena_alloc_array(&l->config->arena, node->n_children + 1, sizeof *map);
    if (map == NULL) {
        l->error = -ENOMEM;
        return;
    }
    for (size_t i = 0; i < node->n_children; i++) {
        const struct toml_node *child = &node->children[i];
        struct place entry = {.up = place, .key = child->key};
        const char *wrong = row->check(child->key);
        if (wrong != NULL)
            problem_of(l, CONFIG_ERROR, child->key_at, &entry, "%s", wrong);
        map[i].key = arena_dup(&l->config->arena, child->key);
        if (map[i].key.ptr == NULL)
            l->error = -ENOMEM;
        if (!expand_string(l, &entry, row, child, &map[i].value))
            map[i].value = SLICE_EMPTY;
    }
    *(struct config_pair **)member(object, row->offset) = map;
    *(size_t *)member(object, row->count_offset) = node->n_children;
}

/* All choices in the words of a message: "a", "b" or "c". */
static void tell_choices(struct loader *l, const struct place *place, const struct option *row,
                         struct toml_position at) {
    CLEANUP(buf_deinit) struct buf list = BUF_INIT(KIB(1));
    for (size_t i = 0; row->choices[i] != NULL; i++) {
        const char *before = i == 0 ? "" : row->choices[i + 1] == NULL ? " or " : ", ";
        buf_printf(&list, "%s\"%s\"", before, row->choices[i]);
    }
    if (row->type == OPTION_STDERR)
        buf_append_cstr(&list, ", or { file = PATH }");
    problem_of(l, CONFIG_ERROR, at, place, "must be %.*s", SLICE_ARGS(buf_slice(&list)));
}

static void store_enum(struct loader *l, const struct place *place, const struct option *row,
                       const struct toml_node *node, void *object) {
    struct slice value;
    if (!read_string(l, place, row, node, &value))
        return;
    for (unsigned i = 0; row->choices[i] != NULL; i++) {
        if (slice_eq(value, slice_from_cstr(row->choices[i]))) {
            unsigned choice = i + (unsigned)row->min;
            memcpy(member(object, row->offset), &choice, sizeof choice);
            return;
        }
    }
    tell_choices(l, place, row, node->at);
}

static void store_stderr(struct loader *l, const struct place *place, const struct option *row,
                         const struct toml_node *node, struct config_server *server) {
    if (node->type == TOML_STRING) {
        store_enum(l, place, row, node, server);
        return;
    }
    walk_table(l, place, node, row->path, NULL, WALK_NAMES);
    const struct toml_node *file = toml_get(node, "file");
    if (file == NULL) {
        tell_choices(l, place, row, node->key_at);
        return;
    }
    struct place inner = {.up = place, .key = file->key};
    mark_key(l, &inner, file->key_at);
    if (file->type == TOML_STRING && read_path(l, &inner, row, file, &server->stderr_file))
        server->stderr_kind = CONFIG_STDERR_FILE;
}

static void check_bounds(struct loader *l, const struct place *place, const struct option *row,
                         const struct toml_node *node, uint64_t number, void *object) {
    if (number >= row->min && number <= row->max) {
        *(uint64_t *)member(object, row->offset) = number;
        return;
    }
    CLEANUP(buf_deinit) struct buf bounds = BUF_INIT(KIB(1));
    option_write_number(&bounds, row, row->min);
    buf_append_cstr(&bounds, " to ");
    option_write_number(&bounds, row, row->max);
    problem_of(l, CONFIG_ERROR, node->at, place, "must be from %.*s",
               SLICE_ARGS(buf_slice(&bounds)));
}

static void store_number(struct loader *l, const struct place *place, const struct option *row,
                         const struct toml_node *node, void *object) {
    uint64_t number = 0;
    if (node->type == TOML_INTEGER) {
        /* A negative one is past every bound. */
        number = node->integer < 0 ? UINT64_MAX : (uint64_t)node->integer;
    } else {
        struct slice text;
        const char *wrong = NULL;
        if (!expand_string(l, place, row, node, &text))
            return;
        int r = row->type == OPTION_DURATION ? option_parse_duration(text, &number, &wrong)
                                             : option_parse_size(text, &number, &wrong);
        if (r != 0) {
            problem_of(l, CONFIG_ERROR, node->at, place, "%s", wrong);
            return;
        }
    }
    check_bounds(l, place, row, node, number, object);
}

static void store_time(struct loader *l, const struct place *place, const struct option *row,
                       const struct toml_node *node, void *object) {
    struct slice text;
    uint64_t ms;
    const char *wrong = NULL;
    if (!expand_string(l, place, row, node, &text))
        return;
    if (option_parse_time(text, &ms, &wrong) != 0) {
        problem_of(l, CONFIG_ERROR, node->at, place, "%s", wrong);
        return;
    }
    *(struct slice *)member(object, row->offset) = text;
    *(uint64_t *)member(object, row->count_offset) = ms;
}

void store_value(struct loader *l, const struct place *place, const struct option *row,
                 const struct toml_node *node, void *object) {
    if (!check_type(l, place, row, node))
        return;
    struct slice string;
    switch (row->type) {
    case OPTION_BOOL:
        *(bool *)member(object, row->offset) = node->boolean;
        return;
    case OPTION_INTEGER:
    case OPTION_DURATION:
    case OPTION_SIZE:
        store_number(l, place, row, node, object);
        return;
    case OPTION_STRING:
        if (!read_string(l, place, row, node, &string))
            return;
        if (row->lower)
            to_lower(l, &string);
        *(struct slice *)member(object, row->offset) = string;
        return;
    case OPTION_PATH:
        if (read_path(l, place, row, node, &string))
            *(struct slice *)member(object, row->offset) = string;
        return;
    case OPTION_TIME:
        store_time(l, place, row, node, object);
        return;
    case OPTION_LIST:
        store_list(l, place, row, node, object);
        return;
    case OPTION_VALUES:
        store_values(l, place, row, node, object);
        return;
    case OPTION_NUMBER:
        (void)read_number(l, place, node, member(object, row->offset));
        return;
    case OPTION_MAP:
        store_map(l, place, row, node, object);
        return;
    case OPTION_ENUM:
        store_enum(l, place, row, node, object);
        return;
    case OPTION_STDERR:
        store_stderr(l, place, row, node, object);
        return;
    case OPTION_TABLES:
    case OPTION_NAMED:
        store_tables(l, place, row, node, object);
        return;
    case OPTION_TABLE:
    case OPTION_ANY:
        return; /* nothing of their own to store */
    }
}

static void store_default(struct loader *l, const struct option *row, void *object) {
    void *place = member(object, row->offset);
    struct slice string;
    unsigned choice = 0;
    switch (row->type) {
    case OPTION_BOOL:
        *(bool *)place = row->fallback != 0;
        return;
    case OPTION_INTEGER:
    case OPTION_DURATION:
    case OPTION_SIZE:
        *(uint64_t *)place = row->fallback;
        return;
    case OPTION_STRING:
    case OPTION_PATH:
        string = arena_dup(&l->config->arena, slice_from_cstr(row->text));
        if (string.ptr == NULL)
            l->error = -ENOMEM;
        else
            *(struct slice *)place = string;
        return;
    case OPTION_ENUM:
    case OPTION_STDERR:
        choice = (unsigned)row->fallback;
        memcpy(place, &choice, sizeof choice);
        return;
    case OPTION_TABLE:
    case OPTION_LIST:
    case OPTION_VALUES:
    case OPTION_MAP:
    case OPTION_TABLES:
    case OPTION_NAMED:
    case OPTION_TIME:
    case OPTION_NUMBER:
    case OPTION_ANY:
        return; /* empty, as the struct was made */
    }
}

void store_defaults(struct loader *l, enum option_owner owner, void *object) {
    const struct option *row;
    for (size_t i = 0; (row = option_at(i)) != NULL; i++) {
        if (row->owner == owner)
            store_default(l, row, object);
    }
}
