/* `cardea reload`: asks the gateway that runs to read its configuration again, and says what came
 * of it. */
#include <stdio.h>
#include <string.h>

#include "admin/control.h"
#include "base/limits.h"
#include "base/mem.h"
#include "cli.h"
#include "json/reader.h"

static void print_text(FILE *out, const struct json_node *node) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
    struct buf safe CLEANUP(buf_deinit) = BUF_INIT(KIB(256));
    if (node != NULL && json_string_append(&text, node) == 0 &&
        log_escape(&safe, buf_slice(&text), KIB(64)) == 0)
        fwrite(buf_slice(&safe).ptr, 1, buf_len(&safe), out);
}

static void print_problems(const struct json_reader *reader) {
    const struct json_node *problems = json_member(reader, json_root(reader), SLICE("problems"));
    if (problems == NULL)
        return;
    for (const struct json_node *node = json_first(reader, problems); node != NULL;
         node = json_next(reader, node)) {
        print_text(stderr, json_member_typed(reader, node, SLICE("text"), JSON_STRING));
        fputc('\n', stderr);
    }
}

/* "changed: a, b", or nothing. */
static void print_list(const struct json_reader *reader, const struct json_node *object,
                       struct slice key, const char *label) {
    const struct json_node *list = json_member_typed(reader, object, key, JSON_ARRAY);
    const struct json_node *first = list != NULL ? json_first(reader, list) : NULL;
    if (first == NULL)
        return;
    printf("%s", label);
    for (const struct json_node *node = first; node != NULL; node = json_next(reader, node)) {
        printf("%s", node == first ? " " : ", ");
        print_text(stdout, node);
    }
    putchar('\n');
}

static void print_outcome(const struct json_reader *reader) {
    const struct json_node *reload =
        json_member_typed(reader, json_root(reader), SLICE("reload"), JSON_OBJECT);
    if (reload == NULL)
        return;
    const struct json_node *servers =
        json_member_typed(reader, reload, SLICE("servers"), JSON_OBJECT);
    const struct json_node *unchanged =
        servers != NULL ? json_member(reader, servers, SLICE("unchanged")) : NULL;
    if (servers == NULL || unchanged == NULL)
        return;
    puts("the configuration is reloaded");
    print_list(reader, reload, SLICE("applied"), "applied:        ");
    print_list(reader, servers, SLICE("added"), "servers added:  ");
    print_list(reader, servers, SLICE("changed"), "servers changed:");
    print_list(reader, servers, SLICE("removed"), "servers removed:");
    printf("servers kept:    %.*s\n", SLICE_ARGS(unchanged->raw));
    print_list(reader, reload, SLICE("needs_restart"), "needs a restart:");
}

static int print_answer(const struct cli_options *options, const struct json_reader *reader,
                        struct slice answer) {
    const struct json_node *root = json_root(reader);
    bool is_fine = json_member_typed(reader, root, SLICE("ok"), JSON_TRUE) != NULL;
    bool is_invalid = json_member_typed(reader, root, SLICE("invalid"), JSON_TRUE) != NULL;
    if (options->json) {
        fwrite(answer.ptr, 1, answer.len, stdout);
        putchar('\n');
    } else {
        print_problems(reader);
        if (is_fine)
            print_outcome(reader);
    }
    if (!is_fine && !options->json) {
        fputs("cardea: nothing was changed: ", stderr);
        print_text(stderr, json_member_typed(reader, root, SLICE("error"), JSON_STRING));
        fputc('\n', stderr);
    }
    return is_fine ? CLI_OK : is_invalid ? CLI_CONFIG : CLI_FAILED;
}

int cli_reload(const struct cli_options *options) {
    static const struct json_want nothing[] = {{0}};
    static const struct json_want each[] = {{"*", nothing}, {0}};
    static const struct json_want servers[] = {
        {"added", nothing}, {"changed", nothing}, {"removed", nothing}, {0}};
    static const struct json_want reload[] = {
        {"applied", nothing}, {"needs_restart", nothing}, {"servers", servers}, {0}};
    static const struct json_want want[] = {{"problems", each}, {"reload", reload}, {0}};
    CLEANUP(mem_freep) char *data_dir = NULL;
    int result = cli_open_data_dir(options, &data_dir);
    if (result != CLI_OK)
        return result;
    CLEANUP(mem_freep) char *path = cli_path(data_dir, "control.sock");
    struct buf answer = BUF_INIT(MIB(32));
    struct json_reader *reader = NULL;
    int error = control_request(path, SLICE("{\"command\":\"reload\"}"), &answer);
    result = CLI_FAILED;
    if (error != 0)
        fprintf(stderr, "cardea: no gateway answers at %s: %s\n", path, strerror(-error));
    else if (json_reader_new(&reader) != 0 ||
             json_read(reader, buf_slice(&answer), &(struct json_want){.children = want}, NULL,
                       NULL) != 0)
        fputs("cardea: the gateway's answer cannot be read\n", stderr);
    else
        result = print_answer(options, reader, buf_slice(&answer));
    json_reader_free(reader);
    buf_deinit(&answer);
    return result;
}
