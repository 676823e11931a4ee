/* The store of a configuration: in the data directory, or where [store] says. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "cli.h"
#include "sealed_files.h"

int cli_store_options(const struct cli_options *options, const struct config *config,
                      char **ret_path, struct store_options *ret_store) {
    CLEANUP(mem_freep) char *data_dir = NULL;
    *ret_store = (struct store_options){.url = config->store.url};
    if (config->store.url.len != 0)
        return CLI_OK;
    int result = cli_open_data_dir(options, &data_dir);
    if (result != CLI_OK)
        return result;
    *ret_path = cli_path(data_dir, "store.sqlite");
    ret_store->path = *ret_path;
    return CLI_OK;
}

int cli_store_failed(const char *what, const struct buf *reason) {
    CLEANUP(buf_deinit) struct buf safe = BUF_INIT(KIB(16));
    log_escape(&safe, buf_slice(reason), KIB(4));
    fprintf(stderr, "cardea: %s: %.*s\n", what, SLICE_ARGS(buf_slice(&safe)));
    return CLI_FAILED;
}

static int open_store(const struct cli_options *options, const struct config *config,
                      const struct store_options *how, struct store **ret_store) {
    CLEANUP(mem_freep) char *path = NULL;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(16));
    struct store_options where;
    int result = cli_store_options(options, config, &path, &where);
    if (result != CLI_OK)
        return result;
    where.log = how->log;
    where.make = true;
    where.migrate = how->migrate;
    int error = store_open(&where, ret_store, &reason);
    if (error != 0 && buf_len(&reason) == 0)
        buf_append_cstr(&reason, error == -ENOMEM ? "there is no memory" : "it cannot be opened");
    return error == 0 ? CLI_OK : cli_store_failed("cannot use the store", &reason);
}

int cli_open_store(const struct cli_options *options, const struct config *config,
                   struct store **ret_store) {
    return open_store(options, config, &(struct store_options){.log = NULL}, ret_store);
}

int cli_open_serving_store(const struct cli_options *options, const struct config *config,
                           struct log *log, struct store **ret_store) {
    return open_store(options, config, &(struct store_options){.log = log, .migrate = true},
                      ret_store);
}

int cli_try_vault(const struct cli_options *options, bool make, struct vault **ret_vault,
                  struct buf *reason) {
    CLEANUP(mem_freep) char *data_dir = NULL;
    if (make && cli_open_data_dir(options, &data_dir) != CLI_OK) {
        buf_append_cstr(reason, "there is no data directory");
        return -ENOTDIR;
    }
    if (!make)
        data_dir = cli_name_data_dir(options);
    struct vault_options vault_options =
        cli_vault_options(options, data_dir != NULL ? data_dir : ".");
    vault_options.make = make;
    int error = vault_open(&vault_options, ret_vault, reason);
    if (error < 0 && buf_len(reason) == 0)
        buf_append_cstr(reason, strerror(-error));
    return error;
}

int cli_open_vault(const struct cli_options *options, bool make, struct vault **ret_vault) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    int error = cli_try_vault(options, make, ret_vault, &reason);
    return error == 0 ? CLI_OK : cli_store_failed("cannot use the keys", &reason);
}

struct looking {
    bool forgets, is_empty;
};

static int look_whether_empty(struct store_tx *tx, void *context) {
    struct looking *looking = context;
    return vault_is_empty(tx, looking->forgets, &looking->is_empty);
}

/* What is encrypted under a key that is not here. */
static int find_locked(const struct cli_options *options, struct buf *locked) {
    CLEANUP(mem_freep) char *data_dir = cli_name_data_dir(options);
    size_t counts[LIMIT_VAULT_KEYS];
    return cli_count_sealed_files(NULL, data_dir != NULL ? data_dir : ".", counts, locked);
}

int cli_open_writing_vault(const struct cli_options *options, struct store *store, bool forgets,
                           struct vault **ret_vault) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    CLEANUP(buf_deinit) struct buf locked = BUF_INIT(KIB(8));
    struct looking looking = {.forgets = forgets};
    int error = cli_try_vault(options, false, ret_vault, &reason);
    if (error == 0)
        return CLI_OK;
    if (error != -ENOENT)
        return cli_store_failed("cannot use the keys", &reason);
    error = store_run(store, STORE_READ, look_whether_empty, &looking);
    if (error != 0) {
        fprintf(stderr, "cardea: the store cannot be read: %s\n",
                error < 0 ? strerror(-error) : "it does not answer");
        return CLI_FAILED;
    }
    error = find_locked(options, &locked);
    if (looking.is_empty && error == 0 && buf_len(&locked) == 0)
        return cli_open_vault(options, true, ret_vault);
    if (error != 0)
        buf_printf(&reason, "; and private keys of the data directory cannot be read: %s",
                   strerror(-error));
    else if (buf_len(&locked) != 0)
        buf_printf(&reason, "; and these are encrypted: %.*s", SLICE_ARGS(buf_slice(&locked)));
    else
        buf_append_cstr(&reason, "; and what is in the store is encrypted");
    buf_append_cstr(&reason, store_is_shared(store)
                                 ? ". All gateways on one store need the same keys: give this one "
                                   "those of the others, in CARDEA_ENCRYPTION_KEY"
                                 : ". Bring the key back; docs/SECRETS.md says what to do when it "
                                   "is lost");
    return cli_store_failed("cannot use the keys", &reason);
}
