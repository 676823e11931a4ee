/*
 * `cardea edit`: opens and closes edit mode, and says how it stands. It works on the store, so that
 * it holds on every instance, and also while no gateway runs. One that runs here is told, and the
 * command ends when each of its calls goes by it. What the gateway answers also shows whether its
 * configuration keeps edit mode open, and whether it works with this store at all.
 */
#include <stdio.h>
#include <string.h>

#include "admin/control.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "people.h"

enum { MINUTES_USUAL = 15, MINUTES_MAX = LIMIT_EDIT_MOST_MS / 60000 };

static const char *const scope_names[] = {"all", "role", "upstream"};

struct edit {
    struct people people;
    bool is_on, is_off; /* neither: how it stands */
    enum accounts_scope scope;
    struct slice name, why;
    uint64_t for_ms, now_ms;

    /* What was found. */
    bool is_open; /* for everybody */
    struct buf by, reason;
    uint64_t until_ms;
    struct buf others; /* for people: a line for each window of a role or an upstream */
    struct buf windows;
    struct json_writer json; /* of all windows */

    /* What the gateway says that runs here. */
    bool is_running, is_always, says_open;
};

static void edit_init(struct edit *edit, const struct cli_options *options) {
    *edit = (struct edit){.by = BUF_INIT(KIB(1)),
                          .reason = BUF_INIT(KIB(4)),
                          .others = BUF_INIT(MIB(4)),
                          .windows = BUF_INIT(MIB(4))};
    people_init(&edit->people, options, "admin-edit", "tell how edit mode stands");
}

static void edit_deinit(struct edit *edit) {
    people_deinit(&edit->people);
    buf_deinit(&edit->by);
    buf_deinit(&edit->reason);
    buf_deinit(&edit->others);
    buf_deinit(&edit->windows);
}

/* --- what is asked for --- */

static int usage_error(const char *what) {
    fprintf(stderr,
            "cardea: %s\n"
            "usage: cardea edit on [--minutes N] [--role NAME | --upstream NAME] --reason TEXT\n"
            "       cardea edit off [--role NAME | --upstream NAME] [--reason TEXT]\n"
            "       cardea edit [list]\n",
            what);
    return CLI_USAGE;
}

/* What does not go together, or is out of bounds; NULL: nothing. */
static const char *find_mistake(const struct cli_options *options, const struct edit *edit) {
    bool is_set = edit->is_on || edit->is_off;
    int n_targets = options->people.roles.n + (options->audit.upstream != NULL);
    if (options->n_arguments == 1 && !is_set && strcmp(options->arguments[0], "list") != 0)
        return "edit mode is set on or off";
    if (edit->is_on && edit->why.len == 0)
        return "who opens edit mode says why, with --reason";
    if (edit->why.len > LIMIT_EDIT_REASON)
        return "a reason has at most 1000 bytes";
    if (!utf8_is_valid(edit->why))
        return "a reason is text in UTF-8";
    if (!edit->is_on && options->minutes != NULL)
        return "--minutes goes with: cardea edit on";
    if (!is_set && options->reason != NULL)
        return "--reason goes with: cardea edit on, cardea edit off";
    if (!is_set && n_targets != 0)
        return "--role and --upstream go with: cardea edit on, cardea edit off";
    if (n_targets > 1)
        return "one --role or one --upstream at a time";
    if (edit->scope != ACCOUNTS_EDIT_ALL && edit->name.len == 0)
        return "a role and an upstream have names";
    return NULL;
}

/* False: not a number, or out of bounds. */
static bool read_minutes(const char *text, uint64_t *ret_minutes) {
    *ret_minutes = MINUTES_USUAL;
    return text == NULL || (slice_to_u64(slice_from_cstr(text), ret_minutes) == 0 &&
                            *ret_minutes >= 1 && *ret_minutes <= MINUTES_MAX);
}

static int take_options(struct edit *edit, const struct cli_options *options) {
    const char *set = options->n_arguments == 1 ? options->arguments[0] : "";
    uint64_t minutes = MINUTES_USUAL;
    edit->is_on = strcmp(set, "on") == 0;
    edit->is_off = strcmp(set, "off") == 0;
    edit->why = slice_trim(slice_from_cstr(options->reason));
    if (options->people.roles.n != 0) {
        edit->scope = ACCOUNTS_EDIT_ROLE;
        edit->name = slice_from_cstr(options->people.roles.items[0]);
    } else if (options->audit.upstream != NULL) {
        edit->scope = ACCOUNTS_EDIT_UPSTREAM;
        edit->name = slice_from_cstr(options->audit.upstream);
    }
    const char *mistake = find_mistake(options, edit);
    if (mistake == NULL && !read_minutes(options->minutes, &minutes))
        mistake = "--minutes takes a number from 1 to 1440";
    if (mistake != NULL)
        return usage_error(mistake);
    edit->for_ms = minutes * 60 * 1000;
    if (!edit->is_on && !edit->is_off)
        return CLI_OK;
    edit->people.what = edit->is_on ? "open edit mode" : "close edit mode";
    buf_append_cstr(&edit->people.text, set);
    if (edit->scope != ACCOUNTS_EDIT_ALL)
        buf_printf(&edit->people.text, " %s %.*s", scope_names[edit->scope],
                   SLICE_ARGS(edit->name));
    edit->people.who = buf_slice(&edit->people.text);
    edit->people.why = edit->why;
    return CLI_OK;
}

/* --- how it stands --- */

/* " until 2026-08-01T12:15:00Z, by command: to fix the index" */
static void write_window(struct buf *out, uint64_t until_ms, struct slice by, struct slice reason) {
    char text[CLOCK_RFC3339_SIZE];
    clock_format_rfc3339(until_ms, text);
    buf_printf(out, " until %s, by ", text);
    log_escape(out, by, KIB(1));
    buf_append_cstr(out, ": ");
    log_escape(out, reason, KIB(4));
}

static void write_json_window(struct edit *edit, const struct accounts_edit *window) {
    char text[CLOCK_RFC3339_SIZE];
    struct json_writer *json = &edit->json;
    json_object_begin(json);
    json_kv_string(json, SLICE("scope"), slice_from_cstr(scope_names[window->scope]));
    if (window->scope != ACCOUNTS_EDIT_ALL)
        json_kv_string(json, SLICE("name"), window->name);
    json_kv_string(json, SLICE("by"), window->by);
    json_kv_string(json, SLICE("reason"), window->reason);
    clock_format_rfc3339(window->opened_ms, text);
    json_kv_string(json, SLICE("opened"), slice_from_cstr(text));
    clock_format_rfc3339(window->until_ms, text);
    json_kv_string(json, SLICE("until"), slice_from_cstr(text));
    json_kv_u64(json, SLICE("left_ms"), window->until_ms - edit->now_ms);
    json_object_end(json);
}

static bool take_window(void *context, const struct accounts_edit *window) {
    struct edit *edit = context;
    write_json_window(edit, window);
    if (window->scope == ACCOUNTS_EDIT_ALL) {
        edit->is_open = true;
        edit->until_ms = window->until_ms;
        buf_append(&edit->by, window->by);
        buf_append(&edit->reason, window->reason);
        return true;
    }
    buf_printf(&edit->others, "edit mode is on for the %s ",
               window->scope == ACCOUNTS_EDIT_ROLE ? "role" : "upstream");
    log_escape(&edit->others, window->name, KIB(1));
    write_window(&edit->others, window->until_ms, window->by, window->reason);
    buf_append_byte(&edit->others, '\n');
    return true;
}

/* The work may have been run before. */
static int look(struct store_tx *tx, struct edit *edit) {
    struct buf *const texts[] = {&edit->by, &edit->reason, &edit->others, &edit->windows};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        buf_reset(texts[i], KIB(4));
    edit->is_open = false;
    json_writer_init(&edit->json, &edit->windows);
    json_array_begin(&edit->json);
    int error = store_now_ms(tx, &edit->now_ms);
    if (error == 0)
        error = accounts_list_edits(tx, take_window, edit);
    json_array_end(&edit->json);
    for (size_t i = 0; error == 0 && i < ARRAY_LEN(texts); i++)
        error = buf_error(texts[i]);
    return error;
}

/* --- what is done --- */

/* Off is off: without a target all windows are closed, whatever they were for. */
static int close_windows(struct store_tx *tx, struct edit *edit) {
    static const enum accounts_scope scopes[] = {ACCOUNTS_EDIT_ALL, ACCOUNTS_EDIT_ROLE,
                                                 ACCOUNTS_EDIT_UPSTREAM};
    uint64_t closed = 0;
    int error = 0;
    if (edit->scope != ACCOUNTS_EDIT_ALL)
        return accounts_close_edit(tx, &people_owner, edit->scope, edit->name, &closed,
                                   &edit->people.reason);
    for (size_t i = 0; error == 0 && i < ARRAY_LEN(scopes); i++)
        error = accounts_close_edit(tx, &people_owner, scopes[i], SLICE_EMPTY, &closed,
                                    &edit->people.reason);
    return error;
}

static int work(struct store_tx *tx, void *context) {
    struct people *people = context;
    struct edit *edit = CONTAINER_OF(people, struct edit, people);
    int error = 0;
    buf_reset(&people->reason, KIB(4));
    if (edit->is_on)
        error = accounts_open_edit(tx, &people_owner, edit->scope, edit->name, edit->for_ms,
                                   edit->why, &people->reason);
    else if (edit->is_off)
        error = close_windows(tx, edit);
    return error == 0 ? look(tx, edit) : error;
}

/* Nothing is known of the gateway where none answers. */
static void ask_gateway(struct edit *edit) {
    static const struct json_want nothing[] = {{0}};
    static const struct json_want want[] = {{"edit", nothing}, {0}};
    CLEANUP(mem_freep) char *data_dir = NULL;
    CLEANUP(buf_deinit) struct buf answer = BUF_INIT(MIB(16));
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    if (cli_open_data_dir(edit->people.options, &data_dir) != CLI_OK)
        return;
    CLEANUP(mem_freep) char *path = cli_path(data_dir, "control.sock");
    if (control_request(path, SLICE("{\"command\":\"refresh\"}"), &answer) != 0 ||
        json_reader_new(&reader) != 0 ||
        json_read(reader, buf_slice(&answer), &(struct json_want){.children = want}, NULL, NULL) !=
            0)
        return;
    const struct json_node *state =
        json_member_typed(reader, json_root(reader), SLICE("edit"), JSON_OBJECT);
    if (state == NULL)
        return;
    const struct json_node *by = json_member_typed(reader, state, SLICE("by"), JSON_STRING);
    edit->is_running = true;
    edit->says_open = json_member_typed(reader, state, SLICE("edit_mode"), JSON_TRUE) != NULL;
    edit->is_always = edit->says_open && by != NULL && json_string_is(by, SLICE("configuration"));
}

/* --- telling --- */

static void print_json(const struct edit *edit) {
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(MIB(16));
    char text[CLOCK_RFC3339_SIZE];
    struct json_writer json;
    json_writer_init(&json, &out);
    json_object_begin(&json);
    json_kv_bool(&json, SLICE("ok"), true);
    json_key(&json, SLICE("edit"));
    json_object_begin(&json);
    json_kv_bool(&json, SLICE("edit_mode"), edit->is_open || edit->is_always);
    if (edit->is_always) {
        json_kv_string(&json, SLICE("by"), SLICE("configuration"));
    } else if (edit->is_open) {
        json_kv_string(&json, SLICE("by"), buf_slice(&edit->by));
        json_kv_string(&json, SLICE("reason"), buf_slice(&edit->reason));
        json_kv_u64(&json, SLICE("left_ms"), edit->until_ms - edit->now_ms);
        clock_format_rfc3339(edit->until_ms, text);
        json_kv_string(&json, SLICE("until"), slice_from_cstr(text));
    } else if (edit->is_off) {
        json_kv_string(&json, SLICE("by"), SLICE("command"));
        if (edit->why.len != 0)
            json_kv_string(&json, SLICE("reason"), edit->why);
    }
    json_kv_raw(&json, SLICE("windows"), buf_slice(&edit->windows));
    json_object_end(&json);
    json_object_end(&json);
    buf_append_byte(&out, '\n');
    fwrite(buf_slice(&out).ptr, 1, buf_len(&out), stdout);
}

static void print_text(const struct edit *edit) {
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(MIB(16));
    bool is_off = !edit->is_open && !edit->is_always;
    buf_printf(&out, "edit mode is %s", is_off ? "off" : "on");
    if (edit->is_always) {
        buf_append_cstr(&out, " and does not end by itself, by configuration");
    } else if (edit->is_open) {
        write_window(&out, edit->until_ms, buf_slice(&edit->by), buf_slice(&edit->reason));
    } else if (edit->is_off && edit->scope == ACCOUNTS_EDIT_ALL) {
        buf_append_cstr(&out, ", by command");
        buf_append_cstr(&out, edit->why.len != 0 ? ": " : "");
        log_escape(&out, edit->why, KIB(4));
    }
    buf_append_byte(&out, '\n');
    buf_append(&out, buf_slice(&edit->others));
    fwrite(buf_slice(&out).ptr, 1, buf_len(&out), stdout);
}

/* What was asked for is in the store; whether it is so on the gateway that runs here, too. */
static int judge(const struct edit *edit) {
    bool is_changed = edit->is_on || edit->is_off;
    if (is_changed && edit->is_running && !edit->is_always && edit->says_open != edit->is_open) {
        fputs("cardea: the gateway that runs here works with another store; name its "
              "configuration with --config\n",
              stderr);
        return CLI_FAILED;
    }
    if (edit->is_off && edit->is_always) {
        fputs("cardea: it stays open: security.edit_mode in the configuration\n", stderr);
        return CLI_FAILED;
    }
    return CLI_OK;
}

int cli_edit(const struct cli_options *options) {
    CLEANUP(edit_deinit) struct edit edit;
    edit_init(&edit, options);
    int result = take_options(&edit, options);
    if (result == CLI_OK)
        result =
            people_run(&edit.people, edit.is_on || edit.is_off ? STORE_WRITE : STORE_READ, work);
    if (result != CLI_OK)
        return result;
    ask_gateway(&edit);
    if (options->json)
        print_json(&edit);
    else
        print_text(&edit);
    return judge(&edit);
}
