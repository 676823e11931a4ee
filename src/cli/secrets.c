#include "secrets.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "accounts/upstreams.h"
#include "base/arena.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/mem.h"
#include "sealed_files.h"

struct kept {
    struct list_link link;
    struct secret *value;
};

#define STORED_MEMORY (LIMIT_STORED_UPSTREAMS * (LIMIT_STORED_DEFINITION + KIB(1)))

struct cli_stored {
    struct arena arena;
    struct config_stored *items;
    size_t n;
    struct buf mark;
};

struct cli_secrets {
    const struct cli_options *options;
    enum cli_purpose purpose;
    bool is_open;        /* or there is nothing to open */
    bool has_no_place;   /* no data directory, so no store */
    struct store *store; /* NULL: there is none, or `refused` says why */
    struct vault *vault; /* likewise, of the keys alone */
    struct buf refused;  /* why the store is not open */
    struct buf no_keys;  /* ... there is no vault */
    int vault_error;
    struct list kept; /* struct kept */
    struct cli_stored stored;
    const struct config_stored *instead; /* NULL: those of the store */
};

struct cli_secrets *cli_secrets_new(const struct cli_options *options, enum cli_purpose purpose) {
    struct cli_secrets *secrets = mem_xalloc(sizeof *secrets);
    secrets->options = options;
    secrets->purpose = purpose;
    buf_init(&secrets->refused, KIB(4));
    buf_init(&secrets->no_keys, KIB(4));
    list_init(&secrets->kept);
    secrets->stored = (struct cli_stored){.arena = ARENA_INIT(STORED_MEMORY)};
    buf_init(&secrets->stored.mark, KIB(64));
    return secrets;
}

struct cli_secrets *cli_secrets_free(struct cli_secrets *secrets) {
    struct list_link *link;
    if (secrets == NULL)
        return NULL;
    while ((link = list_pop_front(&secrets->kept)) != NULL) {
        struct kept *kept = CONTAINER_OF(link, struct kept, link);
        secret_free(kept->value);
        mem_free(kept);
    }
    arena_deinit(&secrets->stored.arena);
    buf_deinit(&secrets->stored.mark);
    store_close(secrets->store);
    vault_free(secrets->vault);
    buf_deinit(&secrets->refused);
    buf_deinit(&secrets->no_keys);
    mem_free(secrets);
    return NULL;
}

void cli_secrets_freep(struct cli_secrets **secrets) {
    *secrets = cli_secrets_free(*secrets);
}

/* --- opening --- */

static void open_store(struct cli_secrets *secrets, const struct config *config,
                       const char *data_dir) {
    CLEANUP(mem_freep) char *path = cli_path(data_dir, "store.sqlite");
    struct store_options options = {
        .url = config->store.url,
        .path = config->store.url.len == 0 ? path : NULL,
        .migrate = secrets->purpose == CLI_TO_SERVE,
        .n_threads = 1,
    };
    if (options.path != NULL && access(options.path, F_OK) != 0 && errno == ENOENT)
        return;
    int error = store_open(&options, &secrets->store, &secrets->refused);
    if (error != 0 && buf_len(&secrets->refused) == 0)
        buf_printf(&secrets->refused, "the store cannot be opened: %s",
                   error < 0 ? strerror(-error) : "there is none that can be used");
}

static void open_vault(struct cli_secrets *secrets, const char *data_dir) {
    struct vault_options options = cli_vault_options(secrets->options, data_dir);
    int error = vault_open(&options, &secrets->vault, &secrets->no_keys);
    secrets->vault_error = error;
    if (error != 0 && buf_len(&secrets->no_keys) == 0)
        buf_printf(&secrets->no_keys, "the keys cannot be read: %s",
                   error < 0 ? strerror(-error) : "there is none");
}

static void open_both(struct cli_secrets *secrets, const struct config *config) {
    CLEANUP(mem_freep) char *data_dir = cli_name_data_dir(secrets->options);
    secrets->is_open = true;
    if (data_dir == NULL) {
        secrets->has_no_place = true;
        buf_append_cstr(&secrets->refused,
                        "there is no HOME to keep a store in; name a place with --data-dir DIR");
        return;
    }
    open_store(secrets, config, data_dir);
    if (secrets->store != NULL)
        open_vault(secrets, data_dir);
}

/* --- asking --- */

struct asking {
    struct slice name;
    const struct vault *vault; /* NULL: whether it is there is all that can be said */
    bool is_there;
    struct secret *value;
};

static int ask(struct store_tx *tx, void *context) {
    struct asking *asking = context;
    asking->value = secret_free(asking->value);
    int error = vault_has(tx, asking->name, &asking->is_there);
    if (error != 0 || !asking->is_there || asking->vault == NULL)
        return error;
    return vault_get(tx, asking->vault, asking->name, &asking->value);
}

static const char *tell_error(int error) {
    switch (error) {
    case VAULT_E_TOKEN:
        return "no key that is here opens it; cardea key list shows which key it needs";
    case VAULT_E_MOVED:
        return "what the store has in its place belongs to something else: somebody has changed "
               "the store; set it again";
    case STORE_E_GONE:
        return "the store does not answer";
    default:
        return error < 0 ? strerror(-error) : "the store cannot be read";
    }
}

static int get_secret(void *context, const struct config *config, struct slice name,
                      struct slice *ret_value, struct buf *reason) {
    struct cli_secrets *secrets = context;
    if (!secrets->is_open)
        open_both(secrets, config);
    if (buf_len(&secrets->refused) != 0) {
        buf_append(reason, buf_slice(&secrets->refused));
        return CONFIG_SECRET_REFUSED;
    }
    if (secrets->store == NULL)
        return CONFIG_SECRET_NONE;
    struct asking asking = {.name = name, .vault = secrets->vault};
    int error = store_run(secrets->store, STORE_READ, ask, &asking);
    if (error == -ENOMEM)
        return error;
    if (error != 0) {
        buf_append_cstr(reason, tell_error(error));
        return CONFIG_SECRET_REFUSED;
    }
    if (!asking.is_there)
        return CONFIG_SECRET_NONE;
    /* The keys may be for the gateway's account alone, or on its machine. */
    bool is_elsewhere = secrets->vault_error == -ENOENT || secrets->vault_error == -EACCES;
    if (asking.value == NULL && secrets->purpose == CLI_TO_CHECK && is_elsewhere)
        return CONFIG_SECRET_HIDDEN;
    if (asking.value == NULL) {
        buf_append(reason, buf_slice(&secrets->no_keys));
        return CONFIG_SECRET_REFUSED;
    }
    struct kept *kept = mem_xalloc(sizeof *kept);
    kept->value = asking.value;
    list_push_back(&secrets->kept, &kept->link);
    *ret_value = secret_reveal(kept->value);
    return 0;
}

/* --- upstreams --- */

static bool keep_upstream(void *context, const struct accounts_upstream *upstream) {
    struct cli_stored *stored = context;
    if (stored->n == LIMIT_STORED_UPSTREAMS)
        return false;
    struct config_stored *item = &stored->items[stored->n++];
    *item = (struct config_stored){.name = arena_dup(&stored->arena, upstream->name),
                                   .definition = arena_dup(&stored->arena, upstream->definition),
                                   .is_disabled = upstream->is_disabled};
    return !arena_failed(&stored->arena);
}

/* May be run again. */
static int read_upstreams(struct store_tx *tx, void *context) {
    struct cli_stored *stored = context;
    arena_reset(&stored->arena);
    buf_reset(&stored->mark, KIB(64));
    stored->n = 0;
    stored->items =
        arena_alloc_array(&stored->arena, LIMIT_STORED_UPSTREAMS, sizeof *stored->items);
    if (stored->items == NULL)
        return -ENOMEM;
    int error = accounts_mark_upstreams(tx, &stored->mark);
    if (error == 0)
        error = accounts_list_upstreams(tx, keep_upstream, stored);
    return error == 0 && arena_failed(&stored->arena) ? -ENOMEM : error;
}

/* Commands that only look do without: the store may be for the gateway's account alone. */
static int get_stored(void *context, const struct config *config,
                      struct config_stored_list *ret_list, struct buf *reason) {
    struct cli_secrets *secrets = context;
    struct cli_stored *stored = &secrets->stored;
    if (secrets->instead != NULL) {
        *ret_list = (struct config_stored_list){.items = secrets->instead, .n = 1};
        return 0;
    }
    if (!secrets->is_open)
        open_both(secrets, config);
    int error = 0;
    if (secrets->store != NULL)
        error = store_run(secrets->store, STORE_READ, read_upstreams, stored);
    if (error == -ENOMEM)
        return error;
    if (error != 0)
        buf_append_cstr(reason, tell_error(error));
    else if (secrets->store == NULL && !secrets->has_no_place)
        buf_append(reason, buf_slice(&secrets->refused));
    *ret_list = (struct config_stored_list){
        .items = stored->items, .n = stored->n, .mark = buf_slice(&stored->mark)};
    if (buf_len(reason) == 0)
        return 0;
    return secrets->purpose == CLI_TO_CHECK ? CONFIG_STORED_HIDDEN : CONFIG_STORED_REFUSED;
}

void cli_secrets_instead(struct cli_secrets *secrets, const struct config_stored *upstream) {
    secrets->instead = upstream;
}

struct config_resolvers cli_secrets_resolvers(struct cli_secrets *secrets) {
    return (struct config_resolvers){
        .secret_fn = get_secret, .stored_fn = get_stored, .context = secrets};
}
