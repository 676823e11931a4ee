/* cardea user: who may log in, and what they may. Works on the store itself, also while a gateway
 * runs, which learns of it at once. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "accounts/password.h"
#include "base/limits.h"
#include "people.h"

/* --- what the options say --- */

/* --admin and --role; without them nothing. */
static int take_roles(struct people *people) {
    const struct cli_people_options *said = &people->options->people;
    size_t n = 0;
    if (said->is_admin)
        people->names[n++] = SLICE("administrator");
    for (int i = 0; i < said->roles.n; i++)
        people->names[n++] = slice_from_cstr(said->roles.items[i]);
    if (said->no_roles && n != 0) {
        fprintf(stderr, "cardea: --no-roles and --role are not for one command\n");
        return CLI_USAGE;
    }
    if (n != 0 || said->no_roles)
        people->user.roles = people->names;
    people->user.n_roles = n;
    return CLI_OK;
}

static void take_texts(struct people *people) {
    const struct cli_people_options *said = &people->options->people;
    if (said->name != NULL)
        people->user.name = slice_from_cstr(said->name);
    if (said->display_name != NULL)
        people->user.display_name = slice_from_cstr(said->display_name);
    if (said->email != NULL)
        people->user.email = slice_from_cstr(said->email);
}

/* Makes the hash, which takes a moment, before there is a transaction. */
static int take_password(struct people *people, struct slice name) {
    CLEANUP(secret_freep) struct secret *password = NULL;
    int result = cli_read_secret("the password", PASSWORD_MOST, &password);
    if (result != CLI_OK)
        return result;
    const char *refusal = password_refusal(secret_reveal(password), name);
    if (refusal != NULL) {
        fprintf(stderr, "cardea: %s\n", refusal);
        return CLI_FAILED;
    }
    if (password_hash(secret_reveal(password), &people->text) != 0) {
        fprintf(stderr, "cardea: there is no memory for the password's hash\n");
        return CLI_FAILED;
    }
    people->user.password_hash = buf_slice(&people->text);
    return CLI_OK;
}

/* --- changes --- */

static int add(struct store_tx *tx, void *context) {
    struct people *people = context;
    return accounts_add_user(tx, &people_owner, &people->user, people->id, &people->reason);
}

int cli_user_add(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-user", "add the user");
    take_texts(&people);
    people.user.name = people.who;
    people.user.must_change = options->people.temporary;
    int result = take_roles(&people);
    if (result == CLI_OK && !options->people.no_password)
        result = take_password(&people, people.who);
    if (result == CLI_OK)
        result = people_run(&people, STORE_WRITE, add);
    if (result != CLI_OK)
        return result;
    if (options->json)
        printf("{\"id\":\"%s\",\"name\":\"%s\"}\n", people.id, options->arguments[0]);
    else
        printf("The user %s is there%s.\n", options->arguments[0],
               people.user.n_roles == 0 ? ", without a role: so far they may do nothing" : "");
    return CLI_OK;
}

static int change(struct store_tx *tx, void *context) {
    struct people *people = context;
    return accounts_change_user(tx, &people_owner, people->who, &people->user, &people->reason);
}

static int change_and_tell(struct people *people, const char *done) {
    int result = people_run(people, STORE_WRITE, change);
    if (result == CLI_OK)
        printf("%s\n", done);
    return result;
}

int cli_user_edit(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-user", "change the user");
    take_texts(&people);
    int result = take_roles(&people);
    if (result == CLI_OK && people.user.name.ptr == NULL && people.user.display_name.ptr == NULL &&
        people.user.email.ptr == NULL && people.user.roles == NULL) {
        fprintf(stderr, "cardea: nothing to change; there are --name, --display-name, --email, "
                        "--role, --admin and --no-roles\n");
        result = CLI_USAGE;
    }
    return result == CLI_OK ? change_and_tell(&people, "The user is changed.") : result;
}

static bool take_name(void *context, const struct accounts_user *user) {
    struct people *people = context;
    return buf_append(&people->out, user->name) == 0;
}

static int find_name(struct store_tx *tx, void *context) {
    struct people *people = context;
    buf_reset(&people->out, 0);
    int error = accounts_get_user(tx, people->who, take_name, people);
    if (error == ACCOUNTS_E_NONE)
        buf_append_cstr(&people->reason, "there is no such user");
    return error;
}

int cli_user_password(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-user", "change the password");
    people.user.must_change = !options->people.final;
    people.user.revokes_tokens = !options->people.keep_tokens;
    /* Before anybody types; and an id has to be a name, which must not be in the password. */
    int result = people_run(&people, STORE_READ, find_name);
    if (result == CLI_OK && options->people.no_password)
        people.user.password_hash = SLICE("");
    else if (result == CLI_OK)
        result = take_password(&people, buf_slice(&people.out));
    if (result != CLI_OK)
        return result;
    result = change_and_tell(
        &people, options->people.no_password ? "The user has no password any more."
                 : options->people.final     ? "The password is changed."
                                             : "The password is changed; the user has to choose "
                                               "another one at the next login.");
    if (result == CLI_OK)
        printf("Sessions have ended; the user's tokens %s.\n",
               options->people.keep_tokens ? "stay (--keep-tokens)" : "are revoked");
    return result;
}

static int set_disabled(const struct cli_options *options, int is_disabled, const char *what,
                        const char *done) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-user", what);
    people.user.is_disabled = is_disabled;
    return change_and_tell(&people, done);
}

int cli_user_disable(const struct cli_options *options) {
    return set_disabled(options, 1, "disable the user",
                        "The user is disabled: no login, no session, no token.");
}

int cli_user_enable(const struct cli_options *options) {
    return set_disabled(options, 0, "enable the user", "The user is enabled.");
}

static int delete_one(struct store_tx *tx, void *context) {
    struct people *people = context;
    return accounts_delete_user(tx, &people_owner, people->who, 0, &people->reason);
}

int cli_user_delete(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-user", "delete the user");
    int result = people_run(&people, STORE_WRITE, delete_one);
    if (result == CLI_OK)
        printf("The user is deleted, with all tokens and sessions.\n");
    return result;
}

/* --- looking --- */

static void write_members(struct people *people, const struct accounts_user *user) {
    struct json_writer *json = &people->json;
    json_kv_string(json, SLICE("id"), user->id);
    json_kv_string(json, SLICE("name"), user->name);
    json_kv_string(json, SLICE("display_name"), user->display_name);
    json_kv_string(json, SLICE("email"), user->email);
    json_kv_bool(json, SLICE("is_disabled"), user->is_disabled);
    json_kv_bool(json, SLICE("must_change"), user->must_change);
    json_kv_bool(json, SLICE("has_password"), user->has_password);
    people_write_texts(people, SLICE("roles"), user->roles, user->n_roles);
    people_write_time(people, SLICE("created"), user->created_ms);
    people_write_time(people, SLICE("updated"), user->updated_ms);
    people_write_time(people, SLICE("last_login"), user->login_ms);
    json_kv_u64(json, SLICE("version"), user->version);
}

static const char *state_of(const struct accounts_user *user) {
    if (user->is_disabled)
        return "disabled";
    if (!user->has_password)
        return "no password";
    return user->must_change ? "new password" : "enabled";
}

static void write_roles(struct people *people, const struct accounts_user *user) {
    for (size_t i = 0; i < user->n_roles; i++)
        people_write_cell(people, user->roles[i], 1);
    if (user->n_roles == 0)
        buf_append(&people->out, SLICE("-"));
    buf_append_byte(&people->out, '\n');
}

static bool list_one(void *context, const struct accounts_user *user) {
    struct people *people = context;
    people->n++;
    if (people->options->json) {
        json_object_begin(&people->json);
        write_members(people, user);
        json_object_end(&people->json);
    } else {
        people_write_cell(people, user->name, 24);
        people_write_cell(people, slice_from_cstr(state_of(user)), 12);
        people_write_when(people, user->login_ms);
        write_roles(people, user);
    }
    return buf_error(&people->out) == 0;
}

/* May be run again: it begins anew. */
static int list(struct store_tx *tx, void *context) {
    struct people *people = context;
    people->n = 0;
    people_begin_list(people, SLICE("users"));
    int error = accounts_list_users(tx, SLICE_EMPTY, SLICE_EMPTY, LIMIT_USERS, list_one, people);
    people_end_list(people);
    return error != 0 ? error : buf_error(&people->out);
}

int cli_user_list(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-user", "list the users");
    int result = people_print(&people, list);
    if (result == CLI_OK && people.n == 0)
        fprintf(stderr, "There are no users; cardea user add NAME --admin makes the first one.\n");
    return result;
}

static void write_line(struct people *people, const char *key, struct slice text) {
    people_write_cell(people, slice_from_cstr(key), 13);
    people_write_cell(people, text, 0);
    buf_append_byte(&people->out, '\n');
}

static bool show_one(void *context, const struct accounts_user *user) {
    struct people *people = context;
    if (people->options->json) {
        write_members(people, user);
        return true;
    }
    write_line(people, "name:", user->name);
    write_line(people, "id:", user->id);
    write_line(people, "display name:", user->display_name);
    write_line(people, "email:", user->email);
    write_line(people, "state:", slice_from_cstr(state_of(user)));
    people_write_cell(people, SLICE("last login:"), 13);
    people_write_when(people, user->login_ms);
    buf_append(&people->out, SLICE("\nroles:        "));
    write_roles(people, user);
    return true;
}

static int show(struct store_tx *tx, void *context) {
    struct people *people = context;
    struct policy_rights *rights = NULL;
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(16));
    buf_reset(&people->out, KIB(64));
    json_writer_init(&people->json, &people->out);
    if (people->options->json)
        json_object_begin(&people->json);
    int error = accounts_get_user(tx, people->who, show_one, people);
    if (error == ACCOUNTS_E_NONE)
        buf_append_cstr(&people->reason, "there is no such user");
    if (error == 0)
        error = accounts_user_rights(tx, people->who, &rights);
    if (error == 0)
        error = policy_rights_write(rights, &text);
    if (error == 0 && people->options->json) {
        json_kv_raw(&people->json, SLICE("rights"), buf_slice(&text));
        json_object_end(&people->json);
        buf_append_byte(&people->out, '\n');
    } else if (error == 0) {
        people_write_rights_text(people, buf_slice(&text));
    }
    policy_rights_unref(rights);
    return error != 0 ? error : buf_error(&people->out);
}

int cli_user_show(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-user", "show the user");
    return people_print(&people, show);
}
