/* Secrets of the vault: their names. What is in them goes in, and never out. */
#include <errno.h>

#include "handlers.h"
#include "private.h"

static int without_vault(struct api_request *request) {
    return api_refuse(request, 503, "this gateway has no vault", NULL);
}

static void list_secret(void *context, const struct vault_listed *listed) {
    struct json_writer *writer = context;
    json_object_begin(writer);
    api_write_text(writer, "name", listed->name);
    api_write_time(writer, "created", listed->created_ms);
    api_write_time(writer, "updated", listed->updated_ms);
    api_write_text(writer, "key", slice_from_cstr(listed->key));
    json_kv_bool(writer, SLICE("can_be_opened"), listed->key[0] != '\0');
    json_object_end(writer);
}

int api_list_secrets(struct store_tx *tx, struct api_request *request) {
    const struct vault *vault = request->api->options.vault;
    struct json_writer writer;
    if (vault == NULL)
        return without_vault(request);
    json_writer_init(&writer, &request->answer.body);
    json_object_begin(&writer);
    json_key(&writer, SLICE("items"));
    json_array_begin(&writer);
    int error = vault_list(tx, vault, list_secret, &writer);
    json_array_end(&writer);
    json_object_end(&writer);
    return error;
}

int api_put_secret(struct store_tx *tx, struct api_request *request) {
    const struct vault *vault = request->api->options.vault;
    struct slice value = {0};
    if (vault == NULL)
        return without_vault(request);
    if (!vault_name_is_fine(request->parameters[0]))
        return api_refuse(request, 422, "a secret's name is 1 to 64 of A-Z a-z 0-9 _ - and the dot",
                          NULL);
    int error = api_text(request, "value", &value);
    return error == 0 ? vault_put(tx, vault, request->parameters[0], value) : error;
}

int api_delete_secret(struct store_tx *tx, struct api_request *request) {
    return vault_name_is_fine(request->parameters[0]) ? vault_delete(tx, request->parameters[0])
                                                      : VAULT_E_NONE;
}
