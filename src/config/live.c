/*
 * What is served by, key by key, with where it comes from. The rows of the option table say what
 * there is; each leads to its value in the struct, and its path to where it stands in the file.
 *
 * No value is shown that may be a secret: rows that hold some; whatever came by a reference, for
 * people put secrets into variables wherever they stand; arguments of commands; what was derived
 * from a URL. Of the URLs that are shown there is no user name, password and query.
 */
#include "base/limits.h"
#include "json/writer.h"
#include "load.h"

enum { PATH_COLUMN = 52, VALUE_COLUMN = 26 };

struct live {
    const struct config *config;
    struct buf *out;
    struct json_writer *json; /* NULL: for people */
    struct buf path;          /* of the key at hand */
    bool is_stored;           /* the server at hand is the store's: it has no line */
};

/* A key at hand. */
struct key {
    const struct option *row;
    const void *member;
    size_t n; /* entries of a list or table */
    const struct config_mark *mark;
    const struct config_kept *kept;
    const struct config_reference *references;
    bool is_given;  /* by the command line */
    bool is_stored; /* by the store */
    bool is_hidden; /* there is no value */
    bool is_set;
};

static void walk_rows(struct live *live, const struct place *place, const char *parent,
                      const void *object, enum option_kind kind);

/* --- where it comes from --- */

static bool begins_with(const struct config_reference *reference, struct slice scope) {
    while (reference != NULL && !slice_starts_with(reference->name, scope))
        reference = reference->next;
    return reference != NULL;
}

static const char *source_of(const struct key *key) {
    bool is_default = key->kept != NULL ? key->kept->is_default : key->mark == NULL;
    if (key->is_given)
        return "command line";
    if (begins_with(key->references, SLICE("secret.")))
        return "secret";
    if (begins_with(key->references, SLICE("file.")))
        return "file reference";
    if (key->references != NULL)
        return "environment";
    if (is_default)
        return "default";
    return key->is_stored ? "store" : "file";
}

static bool is_given(const struct config *config, const char *path) {
    struct slice text = slice_from_cstr(path);
    return (config->has_given_listen && slice_eq(text, SLICE("server.listen_address"))) ||
           (config->has_given_admin &&
            (slice_eq(text, SLICE("admin.listen")) || slice_eq(text, SLICE("admin.enabled"))));
}

/* --- values --- */

static struct slice string_of(const struct key *key) {
    const struct slice *string = key->member;
    return string->ptr != NULL ? *string : SLICE_EMPTY;
}

/* Without what a URL may hold beside scheme, host and path. What has an @ anywhere is cut before
 * it, for a password may have any byte. */
static struct slice without_secrets(struct slice text) {
    if (slice_find(text, SLICE("://")) == SIZE_MAX)
        return text;
    if (slice_find_byte(text, '@') != SIZE_MAX)
        return slice_sub(text, 0, slice_find(text, SLICE("://")) + 3);
    size_t query = slice_find_byte(text, '?'), fragment = slice_find_byte(text, '#');
    return slice_sub(text, 0, query < fragment ? query : fragment);
}

/* "https://api.example.com:8443" of a URL that is hidden; empty: none that is safe to tell. */
static struct slice origin_of(const struct key *key) {
    option_check *check = key->row->check;
    if (key->references != NULL || (check != check_upstream_url && check != check_proxy &&
                                    check != check_store_url && check != check_storage_url))
        return SLICE_EMPTY;
    struct slice text = string_of(key);
    size_t begin = slice_find(text, SLICE("://"));
    if (begin == SIZE_MAX || slice_find_byte(text, '@') != SIZE_MAX)
        return SLICE_EMPTY;
    size_t end = begin + 3;
    while (end < text.len && text.ptr[end] != '/' && text.ptr[end] != '?' && text.ptr[end] != '#')
        end++;
    return slice_sub(text, 0, end);
}

static bool is_number(const struct option *row) {
    return row->type == OPTION_BOOL || row->type == OPTION_INTEGER || row->type == OPTION_NUMBER ||
           row->type == OPTION_DURATION || row->type == OPTION_SIZE || row->type == OPTION_ENUM ||
           row->type == OPTION_TABLE || row->type == OPTION_TABLES || row->type == OPTION_NAMED;
}

/* Not by the file, nor the row's default: made of other keys, of a URL for example. */
static bool is_derived(const struct key *key) {
    return key->row->owner == OPTION_OF_SERVER && key->row->type == OPTION_STRING &&
           key->mark == NULL && key->row->text == NULL && string_of(key).len != 0;
}

static bool is_hidden(const struct key *key) {
    return key->row->secret || key->row->holds_secrets || is_derived(key) ||
           (key->row->hidden && key->row->type != OPTION_LIST) ||
           (key->references != NULL && !is_number(key->row));
}

static bool is_set(const struct key *key) {
    const struct option *row = key->row;
    if (key->mark != NULL || key->is_given)
        return true;
    if (row->type == OPTION_STRING || row->type == OPTION_PATH || row->type == OPTION_TIME)
        return row->owner != OPTION_OF_HEADER_RULE && string_of(key).len != 0;
    return row->count_offset != 0 && key->n != 0;
}

static void write_choice(struct json_writer *json, const struct key *key) {
    unsigned choice = *(const unsigned *)key->member;
    const struct option *row = key->row;
    size_t n = 0;
    while (row->choices[n] != NULL)
        n++;
    if (choice >= row->min && choice - row->min < n)
        json_string(json, slice_from_cstr(row->choices[choice - row->min]));
    else /* not set; of stderr a file, which has a key of its own */
        json_null(json);
}

static void write_list(struct json_writer *json, const struct key *key) {
    const struct slice *list = *(struct slice *const *)key->member;
    json_array_begin(json);
    for (size_t i = 0; i < key->n; i++) {
        if (key->row->hidden && i != 0)
            json_null(json);
        else
            json_string(json, without_secrets(list[i]));
    }
    json_array_end(json);
}

static void write_values(struct json_writer *json, const struct key *key) {
    const struct config_value *values = *(struct config_value *const *)key->member;
    json_array_begin(json);
    for (size_t i = 0; i < key->n; i++) {
        if (values[i].type == CONFIG_VALUE_STRING)
            json_string(json, values[i].text);
        else
            json_raw(json, values[i].text);
    }
    json_array_end(json);
}

static void write_number(struct json_writer *json, const struct key *key) {
    uint64_t number = *(const uint64_t *)key->member;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    bool is_unset = number == UINT64_MAX ||
                    (key->row->has_no_default && key->mark == NULL && number == key->row->fallback);
    if (is_unset) {
        json_null(json);
    } else if (key->row->type == OPTION_INTEGER) {
        json_u64(json, number);
    } else {
        (void)option_write_number(&text, key->row, number);
        json_string(json, buf_slice(&text));
    }
}

static void write_double(struct json_writer *json, const struct key *key) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(64);
    buf_printf(&text, "%.15g", *(const double *)key->member);
    if (key->mark != NULL)
        json_raw(json, buf_slice(&text));
    else
        json_null(json);
}

static void write_value(struct json_writer *json, const struct key *key) {
    if (key->is_hidden) {
        json_null(json);
        return;
    }
    switch (key->row->type) {
    case OPTION_TABLE: /* there is one */
    case OPTION_BOOL:
        json_bool(json, *(const bool *)key->member);
        return;
    case OPTION_INTEGER:
    case OPTION_DURATION:
    case OPTION_SIZE:
        write_number(json, key);
        return;
    case OPTION_NUMBER:
        write_double(json, key);
        return;
    case OPTION_STRING:
    case OPTION_PATH:
    case OPTION_TIME:
        if (string_of(key).len != 0)
            json_string(json, without_secrets(string_of(key)));
        else
            json_null(json);
        return;
    case OPTION_ENUM:
    case OPTION_STDERR:
        write_choice(json, key);
        return;
    case OPTION_LIST:
        write_list(json, key);
        return;
    case OPTION_VALUES:
        write_values(json, key);
        return;
    case OPTION_TABLES: /* how many; each has keys of its own */
    case OPTION_NAMED:
        json_u64(json, key->n);
        return;
    case OPTION_MAP: /* those that are built hold secrets */
    case OPTION_ANY:
        json_null(json);
        return;
    }
}

/* --- a key, told --- */

static void write_references(struct json_writer *json, const struct key *key) {
    if (key->references == NULL)
        return;
    json_key(json, SLICE("references"));
    json_array_begin(json);
    for (const struct config_reference *r = key->references; r != NULL; r = r->next)
        json_string(json, r->name);
    json_array_end(json);
}

/* Names of variables are no secrets. */
static void write_names(struct json_writer *json, const struct key *key) {
    const struct config_pair *map;
    if (key->row->type != OPTION_MAP || key->n == 0)
        return;
    map = *(struct config_pair *const *)key->member;
    json_key(json, SLICE("names"));
    json_array_begin(json);
    for (size_t i = 0; i < key->n; i++)
        json_string(json, map[i].key);
    json_array_end(json);
}

static void write_item(struct live *live, const struct key *key) {
    struct json_writer *json = live->json;
    json_object_begin(json);
    json_kv_string(json, SLICE("path"), buf_slice(&live->path));
    json_key(json, SLICE("value"));
    write_value(json, key);
    json_kv_string(json, SLICE("source"), slice_from_cstr(source_of(key)));
    if (key->mark != NULL && !key->is_stored) {
        json_kv_u64(json, SLICE("line"), key->mark->line);
        json_kv_u64(json, SLICE("column"), key->mark->column);
    }
    write_references(json, key);
    write_names(json, key);
    json_kv_bool(json, SLICE("is_secret"), key->is_hidden);
    json_kv_bool(json, SLICE("is_set"), key->is_set);
    if (key->is_hidden && origin_of(key).len != 0)
        json_kv_string(json, SLICE("origin"), origin_of(key));
    json_kv_bool(json, SLICE("needs_restart"), option_needs_restart(key->row->path));
    json_kv_bool(json, SLICE("waits_for_restart"), key->kept != NULL);
    json_object_end(json);
}

static void pad(struct buf *out, size_t begin, size_t width) {
    size_t len = buf_len(out) - begin;
    do
        buf_append_byte(out, ' ');
    while (++len < width);
}

static void print_origin(struct buf *out, const struct live *live, const struct key *key) {
    buf_append_cstr(out, source_of(key));
    for (const struct config_reference *r = key->references; r != NULL; r = r->next) {
        buf_append_cstr(out, r == key->references ? " " : ", ");
        log_escape(out, r->name, KIB(4));
    }
    if (key->mark != NULL && !key->is_stored) {
        buf_append_cstr(out, ", ");
        log_escape(out, live->config->path, KIB(4));
        buf_printf(out, ":%u", key->mark->line);
    }
    if (key->kept != NULL)
        buf_append_cstr(out, ", which waits for a restart");
}

static void print_item(struct live *live, const struct key *key) {
    struct buf value CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct json_writer json;
    size_t begin = buf_len(live->out);
    json_writer_init(&json, &value);
    write_value(&json, key);
    buf_append(live->out, buf_slice(&live->path));
    pad(live->out, begin, PATH_COLUMN);
    begin = buf_len(live->out);
    if (key->is_hidden)
        buf_append_cstr(live->out, key->is_set ? "(not shown)" : "(not set)");
    else if (slice_eq(buf_slice(&value), SLICE("null")))
        buf_append_cstr(live->out, "(not set)");
    else
        log_escape(live->out, buf_slice(&value), KIB(8));
    pad(live->out, begin, VALUE_COLUMN);
    print_origin(live->out, live, key);
    buf_append_byte(live->out, '\n');
}

/* The issuer that [server.oauth] is itself is the first of its issuers, and has keys of its own. */
static size_t n_left_out(const struct live *live, const struct option *row) {
    return row->entry != NULL && row->entry->owner == OPTION_OF_ISSUER &&
                   live->config->oauth.has_own
               ? 1
               : 0;
}

static void tell_key(struct live *live, const struct place *place, const struct option *row,
                     const void *object) {
    struct key key = {.row = row, .member = (const char *)object + row->offset};
    buf_reset(&live->path, KIB(64));
    append_place(&live->path, place);
    key.mark = mark_find(live->config, buf_slice(&live->path));
    key.kept = row->owner == OPTION_OF_CONFIG ? kept_find(live->config, row->path) : NULL;
    key.references = key.kept != NULL   ? key.kept->references
                     : key.mark != NULL ? key.mark->references
                                        : NULL;
    key.is_stored = live->is_stored;
    key.is_given = row->owner == OPTION_OF_CONFIG && is_given(live->config, row->path);
    if (row->count_offset != 0 && row->type != OPTION_TIME)
        key.n = *(const size_t *)(const void *)((const char *)object + row->count_offset) -
                n_left_out(live, row);
    key.is_hidden = is_hidden(&key);
    key.is_set = is_set(&key);
    if (live->json != NULL)
        write_item(live, &key);
    else
        print_item(live, &key);
}

/* --- all of them --- */

static void walk_entries(struct live *live, const struct place *place, const struct option *row,
                         const void *object) {
    const char *entries = *(const char *const *)(const void *)((const char *)object + row->offset);
    size_t n = *(const size_t *)(const void *)((const char *)object + row->count_offset);
    size_t first = n_left_out(live, row);
    const char *parent =
        row->type == OPTION_NAMED ? option_find(row->path, SLICE_EMPTY)->path : row->path;
    for (size_t i = first; i < n; i++) {
        const void *entry = entries + i * row->entry->size;
        struct place inner = {.up = place, .index = i - first};
        if (row->type == OPTION_NAMED)
            memcpy(&inner.key, entry, sizeof inner.key);
        walk_rows(live, &inner, parent, entry, OPTION_FOR_ALL);
    }
}

static void walk_servers(struct live *live, const struct place *place) {
    const struct config *config = live->config;
    const char *parent = option_find("mcp.servers", SLICE_EMPTY)->path;
    for (size_t i = 0; i < config->n_servers; i++) {
        const struct config_server *server = &config->servers[i];
        struct place inner = {.up = place, .key = server->name};
        live->is_stored = server->line == 0;
        walk_rows(live, &inner, parent, server,
                  server->url.len != 0 ? OPTION_FOR_HTTP : OPTION_FOR_CHILDREN);
    }
    live->is_stored = false;
}

/* The file that error output goes to is a key of its own. */
static void tell_stderr(struct live *live, const struct place *place,
                        const struct config_server *server) {
    struct option row = *option_find("mcp.servers.*.stderr", SLICE("file"));
    row.owner = OPTION_OF_SERVER;
    row.offset = offsetof(struct config_server, stderr_file);
    tell_key(live, &(struct place){.up = place, .key = SLICE("file")}, &row, server);
}

static void walk_row(struct live *live, const struct place *place, const struct option *row,
                     const void *object, enum option_kind kind) {
    if (slice_eq(slice_from_cstr(row->path), SLICE("mcp.servers"))) {
        walk_servers(live, place);
        return;
    }
    if (row->owner != OPTION_OF_NOTHING)
        tell_key(live, place, row, object);
    if (row->type == OPTION_TABLES || row->type == OPTION_NAMED)
        walk_entries(live, place, row, object);
    else if (row->type == OPTION_TABLE)
        walk_rows(live, place, row->path, object, kind);
    else if (row->type == OPTION_STDERR)
        tell_stderr(live, place, object);
}

static void walk_rows(struct live *live, const struct place *place, const char *parent,
                      const void *object, enum option_kind kind) {
    const struct option *row;
    for (size_t i = 0; (row = option_at(i)) != NULL; i++) {
        struct place inner = {.up = place};
        if (row->status != OPTION_BUILT || !option_is_child(row, parent, &inner.key) ||
            (row->only != OPTION_FOR_ALL && kind != OPTION_FOR_ALL && row->only != kind) ||
            slice_eq(inner.key, SLICE("*")))
            continue;
        walk_row(live, &inner, row, object, kind);
    }
}

static void tell_all(struct live *live) {
    buf_init(&live->path, KIB(64));
    walk_rows(live, NULL, "", live->config, OPTION_FOR_ALL);
    buf_deinit(&live->path);
}

static void write_servers(struct json_writer *json, const struct config *config) {
    json_key(json, SLICE("servers"));
    json_array_begin(json);
    for (size_t i = 0; i < config->n_servers; i++) {
        json_object_begin(json);
        json_kv_string(json, SLICE("name"), config->servers[i].name);
        bool is_stored = config->servers[i].line == 0;
        json_kv_string(json, SLICE("source"), is_stored ? SLICE("store") : SLICE("file"));
        if (!is_stored)
            json_kv_u64(json, SLICE("line"), config->servers[i].line);
        json_object_end(json);
    }
    json_array_end(json);
}

int config_write_live(const struct config *config, struct buf *out) {
    struct json_writer json;
    struct live live = {.config = config, .out = out, .json = &json};
    json_writer_init(&json, out);
    json_object_begin(&json);
    json_key(&json, SLICE("file"));
    if (config->path.len != 0)
        json_string(&json, config->path);
    else
        json_null(&json);
    write_servers(&json, config);
    json_key(&json, SLICE("items"));
    json_array_begin(&json);
    tell_all(&live);
    json_array_end(&json);
    json_object_end(&json);
    return buf_error(out);
}

int config_print_live(const struct config *config, struct buf *out) {
    struct live live = {.config = config, .out = out};
    tell_all(&live);
    return buf_error(out);
}
