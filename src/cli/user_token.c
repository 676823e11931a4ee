/* cardea token add, list, revoke: tokens of users, in the store. Those of the configuration are
 * made by `cardea token new` (token.c). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "io/file.h"
#include "people.h"

enum { USUAL_DAYS = 365 };
static const uint64_t day_ms = 24u * 3600u * 1000u;

/* --- add --- */

static int take_days(struct people *people) {
    uint64_t days = USUAL_DAYS;
    const char *text = people->options->people.days;
    if (text != NULL &&
        (slice_to_u64(slice_from_cstr(text), &days) != 0 || days > LIMIT_TOKEN_DAYS)) {
        fprintf(stderr, "cardea: --days is a number up to %u; 0: without an end\n",
                LIMIT_TOKEN_DAYS);
        return CLI_USAGE;
    }
    people->token.lifetime_ms = days * day_ms;
    return CLI_OK;
}

static int add(struct store_tx *tx, void *context) {
    struct people *people = context;
    return accounts_add_token(tx, &people_owner, &people->token, people->id, people->made,
                              &people->reason);
}

static int revoke_one(struct store_tx *tx, void *context) {
    struct people *people = context;
    return accounts_delete_token(tx, &people_owner, people->who, &people->reason);
}

/* One that nobody has is not kept; people_run() says so where it stays. */
static int take_back(struct people *people) {
    people->who = slice_from_cstr(people->id);
    people->what = "take the token back, which nobody has";
    (void)!people_run(people, STORE_WRITE, revoke_one);
    return CLI_FAILED;
}

static int save(struct people *people) {
    char line[ACCOUNTS_TOKEN + 2];
    const char *path = people->options->out_path;
    int len = snprintf(line, sizeof line, "%s\n", people->made);
    int error = io_file_create_private(path, slice_make(line, (size_t)len));
    secret_wipe(line, sizeof line);
    if (error == 0)
        return CLI_OK;
    fprintf(stderr, "cardea: cannot write %s: %s\n", path,
            error == -EEXIST ? "it is there already, and is not overwritten" : strerror(-error));
    return take_back(people);
}

/* The token is what this command is for, and programs ask for it too: so it is printed wherever
 * standard output goes, against the rule for every other secret. */
static int tell(struct people *people) {
    const char *path = people->options->out_path;
    if (people->options->json) {
        printf("{\"id\":\"%s\",\"prefix\":\"%.*s\"", people->id, ACCOUNTS_PREFIX,
               people->made + strlen("cardea_"));
        if (path == NULL)
            printf(",\"token\":\"%s\"", people->made);
        printf("}\n");
    } else if (path != NULL) {
        printf("The token %s is in %s, which only you can read.\n", people->id, path);
    } else if (isatty(STDOUT_FILENO) != 0) {
        printf("The token, which is shown this once. Give it to whoever is to call:\n\n  %s\n\n"
               "Its id, for cardea token revoke: %s\n",
               people->made, people->id);
    } else {
        printf("%s\n", people->made);
    }
    if (fflush(stdout) == 0)
        return CLI_OK;
    fprintf(stderr, "cardea: cannot print the token: %s\n", strerror(errno));
    return take_back(people);
}

int cli_token_add(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-token", "make the token");
    people.token.user = people.who;
    people.token.name = slice_from_cstr(options->arguments[1]);
    int result = take_days(&people);
    if (result == CLI_OK)
        result = people_take_rights(&people);
    people.token.rights = buf_slice(&people.text);
    if (result == CLI_OK)
        result = people_run(&people, STORE_WRITE, add);
    if (result == CLI_OK && options->out_path != NULL)
        result = save(&people);
    return result == CLI_OK ? tell(&people) : result;
}

/* --- list --- */

static void write_json(struct people *people, const struct accounts_token *token) {
    struct json_writer *json = &people->json;
    json_object_begin(json);
    json_kv_string(json, SLICE("id"), token->id);
    json_kv_string(json, SLICE("user"), token->user_name);
    json_kv_string(json, SLICE("user_id"), token->user);
    json_kv_string(json, SLICE("name"), token->name);
    json_kv_string(json, SLICE("prefix"), token->prefix);
    json_key(json, SLICE("rights"));
    if (token->rights.len != 0)
        json_raw(json, token->rights);
    else
        json_null(json);
    people_write_time(people, SLICE("created"), token->created_ms);
    people_write_time(people, SLICE("expires"), token->expires_ms);
    people_write_time(people, SLICE("last_used"), token->used_ms);
    json_object_end(json);
}

static bool list_one(void *context, const struct accounts_token *token) {
    struct people *people = context;
    people->n++;
    if (people->options->json) {
        write_json(people, token);
        return buf_error(&people->out) == 0;
    }
    people_write_cell(people, token->id, ACCOUNTS_ID);
    people_write_cell(people, token->prefix, ACCOUNTS_PREFIX);
    people_write_cell(people, token->user_name, 16);
    people_write_when(people, token->expires_ms);
    people_write_when(people, token->used_ms);
    people_write_cell(people, token->name, 0);
    buf_append_byte(&people->out, '\n');
    return buf_error(&people->out) == 0;
}

/* May be run again: it begins anew. */
static int list(struct store_tx *tx, void *context) {
    struct people *people = context;
    buf_reset(&people->reason, 0);
    people->n = 0;
    people_begin_list(people, SLICE("tokens"));
    if (!people->options->json)
        buf_append_cstr(&people->out, "id                     prefix   user             "
                                      "until               last used           name\n");
    int error = accounts_list_tokens(tx, people->who, NULL, INT32_MAX, list_one, people);
    if (error == ACCOUNTS_E_NONE)
        buf_append_cstr(&people->reason, "there is no such user");
    people_end_list(people);
    if (people->n == 0 && !people->options->json)
        buf_reset(&people->out, KIB(64));
    return error != 0 ? error : buf_error(&people->out);
}

int cli_token_list(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-token", "list the tokens");
    int result = people_print(&people, list);
    if (result == CLI_OK && people.n == 0)
        fprintf(stderr, "There are no tokens; cardea token add USER NAME makes one.\n");
    return result;
}

static int revoke_all(struct store_tx *tx, void *context) {
    struct people *people = context;
    uint64_t n = 0;
    int error = accounts_delete_tokens(tx, &people_owner, people->who, &n, &people->reason);
    people->n = (size_t)n;
    return error;
}

int cli_token_revoke(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    bool is_one = options->n_arguments == 1;
    people_init(&people, options, "admin-token", is_one ? "revoke the token" : "revoke the tokens");
    if (is_one == (options->audit.user != NULL) || (!is_one && options->audit.user[0] == '\0')) {
        fputs("cardea: which one? Its id (cardea token list), or --user NAME for all of a user's\n",
              stderr);
        return CLI_USAGE;
    }
    if (!is_one)
        people.who = slice_from_cstr(options->audit.user);
    int result = people_run(&people, STORE_WRITE, is_one ? revoke_one : revoke_all);
    if (result == CLI_OK && is_one)
        printf("The token is revoked.\n");
    else if (result == CLI_OK)
        printf("Tokens that are revoked: %zu.\n", people.n);
    return result;
}
