/* cardea secret: what {{ secret.NAME }} of a configuration stands for. No command shows a value. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "cli.h"
#include "json/writer.h"
#include "vault/vault.h"

static int check_name(const char *name) {
    if (vault_name_is_fine(slice_from_cstr(name)))
        return CLI_OK;
    fprintf(stderr, "cardea: the name of a secret has 1 to 64 letters, digits, '-', '_' and '.'\n");
    return CLI_USAGE;
}

static const char *tell_error(int error) {
    switch (error) {
    case VAULT_E_STALE:
        return "the secrets of this store are under a key that is not here (cardea key list shows "
               "which); give CARDEA_ENCRYPTION_KEY, or the key file, that key too, or, when it is "
               "lost, delete the secrets and run: cardea key rotate";
    case STORE_E_GONE:
        return "the store does not answer";
    default:
        return error < 0 ? strerror(-error) : "the store refused it";
    }
}

static int fail(const char *what, int error) {
    fprintf(stderr, "cardea: cannot %s: %s\n", what, tell_error(error));
    return CLI_FAILED;
}

/* The store that the configuration names, of which nothing else is read: a secret that it lacks is
 * what these commands are for. */
static int open_store(const struct cli_options *options, struct store **ret_store) {
    CLEANUP(config_unrefp) struct config *config = NULL;
    int result = cli_load_store_config(options, &config);
    return result == CLI_OK ? cli_open_store(options, config, ret_store) : result;
}

/* --- set --- */

struct setting {
    const struct cli_options *options;
    struct slice name;
    const struct vault *vault;
    const struct secret *value;
};

static int put(struct store_tx *tx, void *context) {
    const struct setting *setting = context;
    int error = vault_put(tx, setting->vault, setting->name, secret_reveal(setting->value));
    return error != 0 ? error
                      : cli_note(tx, setting->options, "admin-secret", setting->name, SLICE_EMPTY);
}

/* A rotation may have changed the keys between the opening and the writing: once more, then. */
static int set(const struct cli_options *options, struct store *store, struct slice name,
               const struct secret *value) {
    int error = VAULT_E_STALE;
    for (int i = 0; i < 2 && error == VAULT_E_STALE; i++) {
        CLEANUP(vault_freep) struct vault *vault = NULL;
        int result = cli_open_writing_vault(options, store, false, &vault);
        if (result != CLI_OK)
            return result;
        struct setting setting = {.options = options, .name = name, .vault = vault, .value = value};
        error = store_run(store, STORE_WRITE, put, &setting);
    }
    if (error != 0)
        return fail("keep the secret", error);
    fprintf(stderr, "The secret is kept. A gateway that runs takes it up with: cardea reload\n");
    return CLI_OK;
}

int cli_secret_set(const struct cli_options *options) {
    CLEANUP(secret_freep) struct secret *value = NULL;
    struct store *store = NULL;
    int result = check_name(options->arguments[0]);
    if (result == CLI_OK)
        result = cli_read_secret("the secret", LIMIT_SECRET, &value);
    if (result == CLI_OK && (!utf8_is_valid(secret_reveal(value)) ||
                             slice_find_byte(secret_reveal(value), '\0') != SIZE_MAX)) {
        fprintf(stderr, "cardea: a secret is text in UTF-8; encode other bytes, with base64\n");
        result = CLI_FAILED;
    }
    if (result == CLI_OK)
        result = open_store(options, &store);
    if (result == CLI_OK)
        result = set(options, store, slice_from_cstr(options->arguments[0]), value);
    store_close(store);
    return result;
}

/* --- list --- */

struct listing {
    const struct vault *vault; /* NULL: there are no keys */
    struct buf text;
    struct json_writer json;
    bool is_json;
    size_t n;
};

static void list_one(void *context, const struct vault_listed *listed) {
    struct listing *listing = context;
    char updated[CLOCK_RFC3339_SIZE];
    clock_format_rfc3339(listed->updated_ms, updated);
    listing->n++;
    if (!listing->is_json) {
        buf_printf(&listing->text, "%-40.*s  %.19s  %s\n", SLICE_ARGS(listed->name), updated,
                   listed->key[0] != '\0' ? listed->key : "no key opens it");
        return;
    }
    json_object_begin(&listing->json);
    json_kv_string(&listing->json, SLICE("name"), listed->name);
    json_kv_u64(&listing->json, SLICE("created_ms"), listed->created_ms);
    json_kv_u64(&listing->json, SLICE("updated_ms"), listed->updated_ms);
    json_kv_bool(&listing->json, SLICE("opens"), listed->key[0] != '\0');
    if (listed->key[0] != '\0')
        json_kv_string(&listing->json, SLICE("key"), slice_from_cstr(listed->key));
    json_object_end(&listing->json);
}

/* May be run again: it begins anew. */
static int list(struct store_tx *tx, void *context) {
    struct listing *listing = context;
    buf_reset(&listing->text, KIB(64));
    listing->n = 0;
    json_writer_init(&listing->json, &listing->text);
    if (listing->is_json)
        json_array_begin(&listing->json);
    int error = vault_list(tx, listing->vault, list_one, listing);
    if (listing->is_json)
        json_array_end(&listing->json);
    return error != 0 ? error : buf_error(&listing->text);
}

int cli_secret_list(const struct cli_options *options) {
    CLEANUP(vault_freep) struct vault *vault = NULL;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    struct listing listing = {.text = BUF_INIT(MIB(64)), .is_json = options->json};
    struct store *store = NULL;
    int result = open_store(options, &store);
    int error = 0;
    if (result == CLI_OK)
        error = cli_try_vault(options, false, &vault, &reason);
    if (error != 0 && error != -ENOENT)
        fprintf(stderr, "cardea: %.*s\n", SLICE_ARGS(buf_slice(&reason)));
    listing.vault = vault;
    if (result == CLI_OK) {
        error = store_run(store, STORE_READ, list, &listing);
        result = error != 0 ? fail("list the secrets", error) : CLI_OK;
    }
    if (result == CLI_OK && !options->json && listing.n == 0)
        fprintf(stderr, "There are no secrets; cardea secret set NAME keeps one.\n");
    if (result == CLI_OK)
        printf("%.*s%s", (int)buf_len(&listing.text), buf_slice(&listing.text).ptr,
               options->json ? "\n" : "");
    buf_deinit(&listing.text);
    store_close(store);
    return result;
}

/* --- delete --- */

static int delete (struct store_tx *tx, void *context) {
    const struct setting *setting = context;
    int error = vault_delete(tx, setting->name);
    return error != 0 ? error
                      : cli_note(tx, setting->options, "admin-secret", setting->name, SLICE_EMPTY);
}

int cli_secret_delete(const struct cli_options *options) {
    struct setting setting = {.options = options, .name = slice_from_cstr(options->arguments[0])};
    struct store *store = NULL;
    int result = check_name(options->arguments[0]);
    if (result == CLI_OK)
        result = open_store(options, &store);
    if (result == CLI_OK) {
        int error = store_run(store, STORE_WRITE, delete, &setting);
        if (error == VAULT_E_NONE)
            fprintf(stderr, "cardea: there is no secret %s\n", options->arguments[0]);
        else if (error != 0)
            (void)fail("delete the secret", error);
        result = error == 0 ? CLI_OK : CLI_FAILED;
    }
    store_close(store);
    return result;
}
