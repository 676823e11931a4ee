/* `cardea edit`: opens and closes edit mode of the gateway that runs, and says how it stands. */
#include <stdio.h>
#include <string.h>

#include "admin/control.h"
#include "base/limits.h"
#include "base/mem.h"
#include "cli.h"
#include "json/reader.h"
#include "json/writer.h"

enum { MINUTES_USUAL = 15, MINUTES_MAX = 24 * 60, REASON_MAX = 1000 };

static void print_text(FILE *out, const struct json_node *node) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(64));
    CLEANUP(buf_deinit) struct buf safe = BUF_INIT(KIB(256));
    if (node != NULL && json_string_append(&text, node) == 0 &&
        log_escape(&safe, buf_slice(&text), KIB(64)) == 0)
        fwrite(buf_slice(&safe).ptr, 1, buf_len(&safe), out);
}

/* "edit mode is on until 2026-08-01T12:15:00Z, by command: to fix the index" */
static void print_state(const struct json_reader *reader, const struct json_node *edit) {
    const struct json_node *until = json_member_typed(reader, edit, SLICE("until"), JSON_STRING);
    const struct json_node *by = json_member_typed(reader, edit, SLICE("by"), JSON_STRING);
    const struct json_node *reason = json_member_typed(reader, edit, SLICE("reason"), JSON_STRING);
    bool is_on = json_member_typed(reader, edit, SLICE("edit_mode"), JSON_TRUE) != NULL;
    printf("edit mode is %s", is_on ? "on" : "off");
    if (until != NULL) {
        printf(" until ");
        print_text(stdout, until);
    } else if (is_on) {
        printf(" and does not end by itself");
    }
    if (by != NULL) {
        printf(", by ");
        print_text(stdout, by);
    }
    if (reason != NULL) {
        printf(": ");
        print_text(stdout, reason);
    }
    putchar('\n');
}

static int print_answer(const struct cli_options *options, struct slice answer) {
    static const struct json_want nothing[] = {{0}};
    static const struct json_want want[] = {{"edit", nothing}, {0}};
    struct json_reader *reader CLEANUP(json_reader_freep) = NULL;
    if (json_reader_new(&reader) != 0 ||
        json_read(reader, answer, &(struct json_want){.children = want}, NULL, NULL) != 0) {
        fputs("cardea: the gateway's answer cannot be read\n", stderr);
        return CLI_FAILED;
    }
    const struct json_node *root = json_root(reader);
    const struct json_node *edit = json_member_typed(reader, root, SLICE("edit"), JSON_OBJECT);
    bool is_fine = json_member_typed(reader, root, SLICE("ok"), JSON_TRUE) != NULL && edit != NULL;
    if (options->json) {
        fwrite(answer.ptr, 1, answer.len, stdout);
        putchar('\n');
    } else if (is_fine) {
        print_state(reader, edit);
    } else {
        fputs("cardea: nothing was changed: ", stderr);
        print_text(stderr, json_member_typed(reader, root, SLICE("error"), JSON_STRING));
        fputc('\n', stderr);
    }
    return is_fine ? CLI_OK : CLI_FAILED;
}

static int usage_error(const char *what) {
    fprintf(stderr,
            "cardea: %s\nusage: cardea edit on [--minutes N] --reason TEXT\n"
            "       cardea edit off [--reason TEXT]\n       cardea edit\n",
            what);
    return CLI_USAGE;
}

/* What does not go together, or is out of bounds; NULL: nothing. */
static const char *find_mistake(const struct cli_options *options, bool is_on, bool is_off,
                                struct slice reason) {
    if (options->n_arguments == 1 && !is_on && !is_off)
        return "edit mode is set on or off";
    if (is_on && reason.len == 0)
        return "who opens edit mode says why, with --reason";
    if (reason.len > REASON_MAX)
        return "a reason has at most 1000 bytes";
    if (!is_on && options->minutes != NULL)
        return "--minutes goes with: cardea edit on";
    if (!is_on && !is_off && options->reason != NULL)
        return "--reason goes with: cardea edit on, cardea edit off";
    return NULL;
}

/* False: not a number, or out of bounds. */
static bool read_minutes(const char *text, uint64_t *ret_minutes) {
    *ret_minutes = MINUTES_USUAL;
    return text == NULL || (slice_to_u64(slice_from_cstr(text), ret_minutes) == 0 &&
                            *ret_minutes >= 1 && *ret_minutes <= MINUTES_MAX);
}

/* The command's object; CLI_USAGE: it was told what is wrong. */
static int write_command(const struct cli_options *options, struct buf *out) {
    const char *set = options->n_arguments == 1 ? options->arguments[0] : "";
    bool is_on = strcmp(set, "on") == 0, is_off = strcmp(set, "off") == 0;
    struct slice reason = slice_trim(slice_from_cstr(options->reason));
    const char *mistake = find_mistake(options, is_on, is_off, reason);
    uint64_t minutes = MINUTES_USUAL;
    if (mistake == NULL && !read_minutes(options->minutes, &minutes))
        mistake = "--minutes takes a number from 1 to 1440";
    if (mistake != NULL)
        return usage_error(mistake);
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("command"), SLICE("edit"));
    if (is_on || is_off)
        json_kv_string(&writer, SLICE("set"), slice_from_cstr(set));
    if (is_on)
        json_kv_u64(&writer, SLICE("for_ms"), minutes * 60 * 1000);
    if (reason.len != 0)
        json_kv_string(&writer, SLICE("reason"), reason);
    json_object_end(&writer);
    return buf_error(out) == 0 ? CLI_OK : CLI_FAILED;
}

int cli_edit(const struct cli_options *options) {
    CLEANUP(mem_freep) char *data_dir = NULL;
    CLEANUP(buf_deinit) struct buf command = BUF_INIT(KIB(16));
    CLEANUP(buf_deinit) struct buf answer = BUF_INIT(MIB(1));
    int result = write_command(options, &command);
    if (result == CLI_OK)
        result = cli_open_data_dir(options, &data_dir);
    if (result != CLI_OK)
        return result;
    CLEANUP(mem_freep) char *path = cli_path(data_dir, "control.sock");
    int error = control_request(path, buf_slice(&command), &answer);
    if (error != 0) {
        fprintf(stderr, "cardea: no gateway answers at %s: %s\n", path, strerror(-error));
        return CLI_FAILED;
    }
    return print_answer(options, buf_slice(&answer));
}
