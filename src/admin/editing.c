/* Edit mode: the windows that are open, opening one, closing. */
#include <errno.h>

#include "handlers.h"
#include "private.h"

static const char *const scope_names[] = {"all", "role", "upstream"};

static enum accounts_scope scope_of(struct slice name) {
    for (size_t i = 0; i < ARRAY_LEN(scope_names); i++) {
        if (slice_eq(name, slice_from_cstr(scope_names[i])))
            return (enum accounts_scope)i;
    }
    return ACCOUNTS_EDIT_ALL; /* the schema has looked at it */
}

static bool list_edit(void *context, const struct accounts_edit *edit) {
    struct json_writer *writer = context;
    json_object_begin(writer);
    api_write_text(writer, "id", edit->id);
    api_write_text(writer, "scope", slice_from_cstr(scope_names[edit->scope]));
    api_write_text(writer, "name", edit->name);
    api_write_time(writer, "opened", edit->opened_ms);
    api_write_time(writer, "until", edit->until_ms);
    api_write_text(writer, "reason", edit->reason);
    api_write_text(writer, "by", edit->by);
    json_object_end(writer);
    return true;
}

int api_list_edits(struct store_tx *tx, struct api_request *request) {
    struct json_writer writer;
    uint64_t now_ms = 0;
    int error = store_now_ms(tx, &now_ms);
    json_writer_init(&writer, &request->answer.body);
    json_object_begin(&writer);
    api_write_time(&writer, "now", now_ms);
    json_key(&writer, SLICE("items"));
    json_array_begin(&writer);
    if (error == 0)
        error = accounts_list_edits(tx, list_edit, &writer);
    json_array_end(&writer);
    json_object_end(&writer);
    return error;
}

int api_open_edit(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    struct slice scope = {0}, name = {0}, why = {0};
    uint64_t minutes = 0;
    int error = api_text(request, "scope", &scope);
    if (error == 0)
        error = api_text(request, "name", &name);
    if (error == 0)
        error = api_text(request, "reason", &why);
    if (error != 0)
        return error;
    (void)schema_number(request->reader, "minutes", &minutes);
    bool is_all = scope_of(scope) == ACCOUNTS_EDIT_ALL;
    if (is_all != (name.ptr == NULL || name.len == 0))
        return api_refuse(request, 422,
                          is_all ? "name: is for a role or an upstream alone"
                                 : "name: of which role or upstream",
                          NULL);
    error = accounts_open_edit(tx, &actor, scope_of(scope), name.ptr != NULL ? name : SLICE_EMPTY,
                               minutes * 60 * 1000, why, &request->answer.reason);
    return error == 0 ? api_list_edits(tx, request) : error;
}

int api_close_edit(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    struct slice name = api_query(request, "name");
    struct json_writer writer;
    uint64_t closed = 0;
    int error = accounts_close_edit(tx, &actor, scope_of(api_query(request, "scope")),
                                    name.ptr != NULL ? name : SLICE_EMPTY, &closed,
                                    &request->answer.reason);
    if (error != 0)
        return error;
    json_writer_init(&writer, &request->answer.body);
    json_object_begin(&writer);
    json_kv_u64(&writer, SLICE("closed"), closed);
    json_object_end(&writer);
    return 0;
}
