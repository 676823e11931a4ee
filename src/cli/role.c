/* cardea role: what users and groups of OAuth may do. */
#include <errno.h>
#include <stdio.h>

#include "base/limits.h"
#include "people.h"

/* What the options say; rights that are given take the place of all that were there. */
static int take_change(struct people *people) {
    const struct cli_people_options *said = &people->options->people;
    int n_groups = people->options->n_groups;
    int result = people_take_rights(people);
    if (result != CLI_OK)
        return result;
    if (said->no_groups && n_groups != 0) {
        fprintf(stderr, "cardea: --no-groups and --group are not for one command\n");
        return CLI_USAGE;
    }
    if (buf_len(&people->text) != 0)
        people->role.rights = buf_slice(&people->text);
    if (said->name != NULL)
        people->role.name = slice_from_cstr(said->name);
    if (said->description != NULL)
        people->role.description = slice_from_cstr(said->description);
    for (int i = 0; i < n_groups; i++)
        people->names[i] = slice_from_cstr(people->options->groups[i]);
    if (n_groups != 0 || said->no_groups)
        people->role.groups = people->names;
    people->role.n_groups = (size_t)n_groups;
    return CLI_OK;
}

static int add(struct store_tx *tx, void *context) {
    struct people *people = context;
    return accounts_add_role(tx, &people_owner, &people->role, people->id, &people->reason);
}

int cli_role_add(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-role", "add the role");
    int result = take_change(&people);
    people.role.name = people.who;
    if (result == CLI_OK)
        result = people_run(&people, STORE_WRITE, add);
    if (result == CLI_OK && options->json)
        printf("{\"id\":\"%s\",\"name\":\"%s\"}\n", people.id, options->arguments[0]);
    else if (result == CLI_OK)
        printf("The role %s is there%s.\n", options->arguments[0],
               people.role.rights.len == 0 ? ", and gives nothing so far" : "");
    return result;
}

static int change(struct store_tx *tx, void *context) {
    struct people *people = context;
    return accounts_change_role(tx, &people_owner, people->who, &people->role, &people->reason);
}

int cli_role_edit(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-role", "change the role");
    int result = take_change(&people);
    if (result == CLI_OK && people.role.name.ptr == NULL && people.role.description.ptr == NULL &&
        people.role.rights.ptr == NULL && people.role.groups == NULL) {
        fprintf(stderr, "cardea: nothing to change; there are --name, --description, --permission, "
                        "--operation, --group and --no-groups\n");
        result = CLI_USAGE;
    }
    if (result == CLI_OK)
        result = people_run(&people, STORE_WRITE, change);
    if (result == CLI_OK)
        printf("The role is changed.\n");
    return result;
}

static int delete_one(struct store_tx *tx, void *context) {
    struct people *people = context;
    return accounts_delete_role(tx, &people_owner, people->who, 0, &people->reason);
}

int cli_role_delete(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-role", "delete the role");
    int result = people_run(&people, STORE_WRITE, delete_one);
    if (result == CLI_OK)
        printf("The role is deleted.\n");
    return result;
}

/* --- looking --- */

static void write_json(struct people *people, const struct accounts_role *role) {
    struct json_writer *json = &people->json;
    json_object_begin(json);
    json_kv_string(json, SLICE("id"), role->id);
    json_kv_string(json, SLICE("name"), role->name);
    json_kv_string(json, SLICE("description"), role->description);
    json_kv_bool(json, SLICE("is_system"), role->is_system);
    json_kv_raw(json, SLICE("rights"), role->rights);
    people_write_texts(people, SLICE("groups"), role->groups, role->n_groups);
    json_kv_u64(json, SLICE("n_users"), role->n_users);
    people_write_time(people, SLICE("created"), role->created_ms);
    people_write_time(people, SLICE("updated"), role->updated_ms);
    json_kv_u64(json, SLICE("version"), role->version);
    json_object_end(json);
}

static bool list_one(void *context, const struct accounts_role *role) {
    struct people *people = context;
    if (people->options->json) {
        write_json(people, role);
    } else {
        people_write_cell(people, role->name, 24);
        people_write_cell(people, role->is_system ? SLICE("system") : SLICE("custom"), 7);
        buf_printf(&people->out, "%4zu %-6s ", (size_t)role->n_users,
                   role->n_users == 1 ? "user" : "users");
        people_write_cell(people, role->description, 0);
        buf_append_byte(&people->out, '\n');
    }
    return buf_error(&people->out) == 0;
}

/* May be run again: it begins anew. */
static int list(struct store_tx *tx, void *context) {
    struct people *people = context;
    people_begin_list(people, SLICE("roles"));
    int error = accounts_list_roles(tx, NULL, LIMIT_ROLES, list_one, people);
    people_end_list(people);
    return error != 0 ? error : buf_error(&people->out);
}

int cli_role_list(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-role", "list the roles");
    return people_print(&people, list);
}

static bool show_one(void *context, const struct accounts_role *role) {
    struct people *people = context;
    if (people->options->json) {
        write_json(people, role);
        buf_append_byte(&people->out, '\n');
        return true;
    }
    people_write_cell(people, SLICE("name:"), 13);
    people_write_cell(people, role->name, 0);
    buf_append(&people->out, SLICE("\ndescription:  "));
    people_write_cell(people, role->description, 0);
    buf_printf(&people->out, "\nusers:        %zu\ngroups:       ", (size_t)role->n_users);
    for (size_t i = 0; i < role->n_groups; i++)
        people_write_cell(people, role->groups[i], 1);
    buf_append_byte(&people->out, '\n');
    people_write_rights_text(people, role->rights);
    return true;
}

static int show(struct store_tx *tx, void *context) {
    struct people *people = context;
    buf_reset(&people->out, KIB(64));
    json_writer_init(&people->json, &people->out);
    int error = accounts_get_role(tx, people->who, show_one, people);
    if (error == ACCOUNTS_E_NONE)
        buf_append_cstr(&people->reason, "there is no such role");
    return error != 0 ? error : buf_error(&people->out);
}

int cli_role_show(const struct cli_options *options) {
    CLEANUP(people_deinit) struct people people;
    people_init(&people, options, "admin-role", "show the role");
    return people_print(&people, show);
}
