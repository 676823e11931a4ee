#include "people.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"

const struct accounts_actor people_owner = {.is_owner = true};

void people_init(struct people *people, const struct cli_options *options, const char *event,
                 const char *what) {
    *people = (struct people){
        .options = options,
        .event = event,
        .what = what,
        .reason = BUF_INIT(KIB(16)),
        .out = BUF_INIT(MIB(256)),
        .text = BUF_INIT(LIMIT_RIGHTS * 2),
        .user = {.is_disabled = -1, .must_change = -1},
    };
    if (options->n_arguments > 0)
        people->who = slice_from_cstr(options->arguments[0]);
}

void people_deinit(struct people *people) {
    buf_deinit(&people->reason);
    buf_deinit(&people->out);
    buf_deinit(&people->text);
    secret_wipe(people->made, sizeof people->made);
}

/* --- running --- */

static const char *tell_error(int error) {
    switch (error) {
    case ACCOUNTS_E_NONE:
        return "there is no such thing";
    case STORE_E_GONE:
        return "the store does not answer";
    case STORE_E_CONFLICT:
        return "it was changed meanwhile";
    default:
        return error < 0 ? strerror(-error) : "the store refused it";
    }
}

static int fail(struct people *people, int error) {
    char what[128];
    if (buf_len(&people->reason) == 0)
        buf_append_cstr(&people->reason, tell_error(error));
    snprintf(what, sizeof what, "cannot %s", people->what);
    return cli_store_failed(what, &people->reason);
}

static int work_and_note(struct store_tx *tx, void *context) {
    struct people *people = context;
    CLEANUP(buf_deinit) struct buf object = BUF_INIT(KIB(64));
    int error = people->work(tx, people);
    buf_append(&object, people->who);
    if (people->made[0] != '\0' && people->who.ptr != people->id) /* a token of that user */
        buf_printf(&object, "/%s", people->id);
    if (error == 0)
        error = buf_error(&object);
    return error != 0
               ? error
               : cli_note(tx, people->options, people->event, buf_slice(&object), people->why);
}

int people_run(struct people *people, enum store_kind kind, store_work_fn *work) {
    CLEANUP(config_unrefp) struct config *config = NULL;
    struct store *store = NULL;
    int result = cli_load_store_config(people->options, &config);
    if (result == CLI_OK)
        result = cli_open_store(people->options, config, &store);
    if (result == CLI_OK) {
        people->work = work;
        int error = store_run(store, kind, kind == STORE_WRITE ? work_and_note : work, people);
        result = error != 0 ? fail(people, error) : CLI_OK;
    }
    store_close(store);
    if (result == CLI_OK && kind == STORE_WRITE)
        cli_tell_gateway(people->options);
    return result;
}

int people_print(struct people *people, store_work_fn *work) {
    int result = people_run(people, STORE_READ, work);
    if (result != CLI_OK)
        return result;
    struct slice out = buf_slice(&people->out);
    if (fwrite(out.ptr, 1, out.len, stdout) == out.len && fflush(stdout) == 0)
        return CLI_OK;
    fprintf(stderr, "cardea: cannot print: %s\n", strerror(errno));
    return CLI_FAILED;
}

/* --- rights --- */

static int refuse_operation(const char *text) {
    CLEANUP(buf_deinit) struct buf safe = BUF_INIT(KIB(16));
    log_escape(&safe, slice_from_cstr(text), KIB(1));
    fprintf(stderr,
            "cardea: an operation is UPSTREAM/TOOL=read or UPSTREAM/TOOL=write, with stars for "
            "whatever, not: %.*s\n",
            SLICE_ARGS(buf_slice(&safe)));
    return CLI_USAGE;
}

/* 'db-*' + '/' + '*' + '=' + 'read'. The operation may have both marks in it: it can be a URI. */
static int write_operation(struct json_writer *json, const char *text) {
    struct slice upstream, rest;
    bool has_upstream = slice_cut(slice_from_cstr(text), '/', &upstream, &rest);
    bool is_write = slice_ends_with(rest, SLICE("=write"));
    if (!has_upstream || upstream.len == 0 || (!is_write && !slice_ends_with(rest, SLICE("=read"))))
        return refuse_operation(text);
    struct slice access = is_write ? SLICE("write") : SLICE("read");
    struct slice operation = slice_sub(rest, 0, rest.len - access.len - 1);
    if (operation.len == 0)
        return refuse_operation(text);
    json_object_begin(json);
    json_kv_string(json, SLICE("upstream"), upstream);
    json_kv_string(json, SLICE("operation"), operation);
    json_kv_string(json, SLICE("access"), access);
    json_object_end(json);
    return CLI_OK;
}

int people_take_rights(struct people *people) {
    const struct cli_list *permissions = &people->options->people.permissions;
    const struct cli_list *operations = &people->options->people.operations;
    struct json_writer json;
    int result = CLI_OK;
    if (permissions->n == 0 && operations->n == 0)
        return CLI_OK;
    json_writer_init(&json, &people->text);
    json_object_begin(&json);
    json_key(&json, SLICE("permissions"));
    json_array_begin(&json);
    for (int i = 0; i < permissions->n; i++)
        json_string(&json, slice_from_cstr(permissions->items[i]));
    json_array_end(&json);
    json_key(&json, SLICE("operations"));
    json_array_begin(&json);
    for (int i = 0; i < operations->n && result == CLI_OK; i++)
        result = write_operation(&json, operations->items[i]);
    if (result != CLI_OK)
        return result;
    json_array_end(&json);
    json_object_end(&json);
    return buf_error(&people->text) == 0 ? CLI_OK : CLI_FAILED;
}

static const struct json_want want_nothing[] = {{.key = NULL}};
static const struct json_want want_elements[] = {{"*", want_nothing}, {.key = NULL}};
static const struct json_want want_members[] = {
    {"permissions", want_nothing}, {"operations", want_elements}, {.key = NULL}};
static const struct json_want want_rights = {.key = NULL, .children = want_members};

static void write_string(struct people *people, const struct json_node *node, size_t width) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(4));
    if (node != NULL && json_string_append(&text, node) == 0)
        people_write_cell(people, buf_slice(&text), width);
}

void people_write_rights_text(struct people *people, struct slice rights) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    if (json_reader_new(&reader) != 0 || json_read(reader, rights, &want_rights, NULL, NULL) != 0)
        return;
    const struct json_node *root = json_root(reader);
    buf_append(&people->out, SLICE("permissions:  "));
    const struct json_node *list = json_member(reader, root, SLICE("permissions"));
    for (const struct json_node *at = list != NULL ? json_first(reader, list) : NULL; at != NULL;
         at = json_next(reader, at))
        write_string(people, at, 1);
    buf_append(&people->out, SLICE("\noperations:\n"));
    list = json_member(reader, root, SLICE("operations"));
    for (const struct json_node *at = list != NULL ? json_first(reader, list) : NULL; at != NULL;
         at = json_next(reader, at)) {
        buf_append(&people->out, SLICE("  "));
        write_string(people, json_member(reader, at, SLICE("access")), 6);
        write_string(people, json_member(reader, at, SLICE("upstream")), 20);
        write_string(people, json_member(reader, at, SLICE("operation")), 0);
        buf_append_byte(&people->out, '\n');
    }
}

/* --- writing --- */

void people_write_cell(struct people *people, struct slice text, size_t width) {
    size_t before = buf_len(&people->out);
    log_escape(&people->out, text, KIB(4));
    if (width == 0)
        return;
    do
        buf_append_byte(&people->out, ' ');
    while (buf_error(&people->out) == 0 && buf_len(&people->out) - before < width + 1);
}

void people_write_when(struct people *people, uint64_t ms) {
    char text[CLOCK_RFC3339_SIZE];
    clock_format_rfc3339(ms, text);
    if (ms == 0)
        people_write_cell(people, SLICE("never"), 19);
    else
        people_write_cell(people, slice_make(text, 19), 19);
}

void people_begin_list(struct people *people, struct slice key) {
    buf_reset(&people->out, KIB(64));
    json_writer_init(&people->json, &people->out);
    if (!people->options->json)
        return;
    json_object_begin(&people->json);
    json_key(&people->json, key);
    json_array_begin(&people->json);
}

void people_end_list(struct people *people) {
    if (!people->options->json)
        return;
    json_array_end(&people->json);
    json_object_end(&people->json);
    buf_append_byte(&people->out, '\n');
}

void people_write_time(struct people *people, struct slice key, uint64_t ms) {
    char text[CLOCK_RFC3339_SIZE];
    clock_format_rfc3339(ms, text);
    json_key(&people->json, key);
    if (ms == 0)
        json_null(&people->json);
    else
        json_string(&people->json, slice_from_cstr(text));
}

void people_write_texts(struct people *people, struct slice key, const struct slice *texts,
                        size_t n) {
    json_key(&people->json, key);
    json_array_begin(&people->json);
    for (size_t i = 0; i < n; i++)
        json_string(&people->json, texts[i]);
    json_array_end(&people->json);
}
