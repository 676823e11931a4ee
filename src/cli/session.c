/* cardea session list, end: who is logged in to the console. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "people.h"

/* --- list --- */

static bool list_one(void *context, const struct accounts_session *session) {
    struct people *people = context;
    people->n++;
    if (!people->options->json) {
        people_write_cell(people, session->id, ACCOUNTS_ID);
        people_write_cell(people, session->user_name, 20);
        people_write_when(people, session->created_ms);
        people_write_when(people, session->seen_ms);
        people_write_when(people, session->ends_ms);
        people_write_cell(people, session->address, 15);
        people_write_cell(people, session->agent, 0);
        buf_append_byte(&people->out, '\n');
        return true;
    }
    json_object_begin(&people->json);
    json_kv_string(&people->json, SLICE("id"), session->id);
    json_kv_string(&people->json, SLICE("user_id"), session->user);
    json_kv_string(&people->json, SLICE("user"), session->user_name);
    people_write_time(people, SLICE("created"), session->created_ms);
    people_write_time(people, SLICE("seen"), session->seen_ms);
    people_write_time(people, SLICE("ends"), session->ends_ms);
    json_kv_string(&people->json, SLICE("address"), session->address);
    json_kv_string(&people->json, SLICE("agent"), session->agent);
    json_object_end(&people->json);
    return true;
}

static int list(struct store_tx *tx, void *context) {
    struct people *people = context;
    people->n = 0;
    people_begin_list(people, SLICE("sessions"));
    int error = accounts_list_sessions(tx, people->who, NULL, INT32_MAX, list_one, people);
    if (error == ACCOUNTS_E_NONE)
        buf_append_cstr(&people->reason, "there is no such user");
    if (error == 0 && people->n == 0 && !people->options->json)
        buf_append_cstr(&people->out, "nobody is logged in\n");
    people_end_list(people);
    return error != 0 ? error : buf_error(&people->out);
}

int cli_session_list(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-session", "list the sessions");
    return people_print(&people, list);
}

/* --- end --- */

static int end(struct store_tx *tx, void *context) {
    struct people *people = context;
    buf_reset(&people->reason, KIB(4));
    return accounts_end_session(tx, &people_owner, people->who, &people->reason);
}

struct ids {
    char of[LIMIT_SESSIONS][ACCOUNTS_ID + 1];
    size_t n;
};

static bool note_id(void *context, const struct accounts_session *session) {
    struct ids *ids = context;
    if (slice_to_cstr(session->id, ids->of[ids->n], sizeof ids->of[0]) == 0)
        ids->n++;
    return ids->n < LIMIT_SESSIONS;
}

/* There are never more than are noted. */
static int end_all(struct store_tx *tx, void *context) {
    struct people *people = context;
    struct ids ids = {.n = 0};
    buf_reset(&people->reason, KIB(4));
    int error = accounts_list_sessions(tx, people->who, NULL, INT32_MAX, note_id, &ids);
    if (error == ACCOUNTS_E_NONE)
        buf_append_cstr(&people->reason, "there is no such user");
    for (size_t i = 0; error == 0 && i < ids.n; i++)
        error =
            accounts_end_session(tx, &people_owner, slice_from_cstr(ids.of[i]), &people->reason);
    people->n = ids.n;
    return error;
}

int cli_session_end(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    bool is_one = options->n_arguments == 1;
    people_init(&people, options, "admin-session", is_one ? "end the session" : "end the sessions");
    if (is_one == (options->audit.user != NULL) || (!is_one && options->audit.user[0] == '\0')) {
        fputs("cardea: which one? Its id (cardea session list), or --user NAME for all of a "
              "user's\n",
              stderr);
        return CLI_USAGE;
    }
    if (!is_one)
        people.who = slice_from_cstr(options->audit.user);
    int result = people_run(&people, STORE_WRITE, is_one ? end : end_all);
    if (result != CLI_OK)
        return result;
    if (options->json)
        printf("{\"ended\":%zu}\n", is_one ? (size_t)1 : people.n);
    else if (is_one)
        puts("The session has ended.");
    else
        printf("Sessions that have ended: %zu.\n", people.n);
    return CLI_OK;
}
