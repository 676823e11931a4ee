/* Secrets of the vault: their names. What is in them goes in, and never out. */
#include <errno.h>

#include "base/limits.h"
#include "handlers.h"
#include "private.h"

/*
 * The keys as they are now: a rotation may have changed them since the last request. What is wrong
 * is answered; the paths in that are for administrators.
 */
static int open_vault(struct api_request *request, struct vault **ret_vault) {
    const struct vault_options *options = request->api->options.vault;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    if (options == NULL)
        return api_refuse(request, 503, "this gateway has no vault", NULL);
    int error = vault_open(options, ret_vault, &reason);
    if (error == 0 || error == -ENOMEM)
        return error;
    log_write(request->api->options.log, LOG_ERROR, "admin", "the keys of the vault cannot be used",
              LOG_TEXT("reason", buf_slice(&reason)));
    return api_refuse_kind(request, 503, "vault", "the keys of the vault cannot be used",
                           "see the log of the gateway");
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
    CLEANUP(vault_freep) struct vault *vault = NULL;
    struct json_writer writer;
    int error = open_vault(request, &vault);
    if (error != 0)
        return error;
    json_writer_init(&writer, &request->answer.body);
    json_object_begin(&writer);
    json_key(&writer, SLICE("items"));
    json_array_begin(&writer);
    error = vault_list(tx, vault, list_secret, &writer);
    json_array_end(&writer);
    json_object_end(&writer);
    return error;
}

/* What comes out of a file is new as soon as it is written; what a process was started with is not.
 */
static int refuse_stale(struct api_request *request, const struct vault *vault) {
    static const char reason[] = "the secrets of the store are under a key that this gateway does "
                                 "not have";
    static const char *const cures[] = {
        [VAULT_ENVIRONMENT] = "restart the gateway with the new key in CARDEA_ENCRYPTION_KEY",
        [VAULT_CREDENTIAL] = "restart the gateway with the new key in its credential cardea.key",
        [VAULT_FILE] = "bring the key back into vault.key of the data directory",
    };
    return api_refuse_kind(request, 503, "vault", reason, cures[vault_source(vault)]);
}

/* A rotation between the opening and the writing: once more, then. */
static int put(struct store_tx *tx, struct api_request *request, struct slice value) {
    int error = VAULT_E_STALE;
    for (int i = 0; i < 2 && error == VAULT_E_STALE; i++) {
        CLEANUP(vault_freep) struct vault *vault = NULL;
        error = open_vault(request, &vault);
        if (error == 0)
            error = vault_put(tx, vault, request->parameters[0], value);
        if (error == VAULT_E_STALE && i > 0)
            return refuse_stale(request, vault);
    }
    return error;
}

int api_put_secret(struct store_tx *tx, struct api_request *request) {
    struct slice value = {0};
    if (!vault_name_is_fine(request->parameters[0]))
        return api_refuse(request, 422, "a secret's name is 1 to 64 of A-Z a-z 0-9 _ - and the dot",
                          NULL);
    int error = api_text(request, "value", &value);
    return error == 0 ? put(tx, request, value) : error;
}

int api_delete_secret(struct store_tx *tx, struct api_request *request) {
    return vault_name_is_fine(request->parameters[0]) ? vault_delete(tx, request->parameters[0])
                                                      : VAULT_E_NONE;
}
