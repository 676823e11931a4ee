/* cardea key: the keys under which secrets are kept. A key is shown nowhere but by "key new". */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"
#include "cli.h"
#include "io/file.h"
#include "json/writer.h"
#include "sealed_files.h"

static int open_store(const struct cli_options *options, struct store **ret_store) {
    CLEANUP(config_unrefp) struct config *config = NULL;
    int result = cli_load_store_config(options, &config);
    return result == CLI_OK ? cli_open_store(options, config, ret_store) : result;
}

/* --- new --- */

/* On a terminal, or into a file: not into whatever keeps a program's output. */
int cli_key_new(const struct cli_options *options) {
    struct buf line CLEANUP(secret_buf_deinit) = BUF_INIT(64);
    int error = vault_make_key(&line);
    if (error == 0)
        error = buf_append_byte(&line, '\n');
    if (error == 0 && options->out_path != NULL) {
        error = io_file_create_private(options->out_path, buf_slice(&line));
    } else if (error == 0 && isatty(STDOUT_FILENO) != 0) {
        printf("%.*s", SLICE_ARGS(buf_slice(&line)));
        error = fflush(stdout) == 0 ? 0 : -errno;
    } else if (error == 0) {
        fprintf(stderr, "cardea: a key is shown on a terminal only; with --out FILE it goes into a "
                        "new file, for its owner alone\n");
        return CLI_USAGE;
    }
    if (error == 0)
        return CLI_OK;
    fprintf(stderr, "cardea: cannot make a key: %s\n",
            error == -EEXIST ? "the file is there already, and is not overwritten"
                             : strerror(-error));
    return CLI_FAILED;
}

/* --- list --- */

struct count {
    char key[VAULT_KEY_ID + 1]; /* "": no key opens them */
    size_t n_secrets;
};

struct counting {
    const struct vault *vault; /* NULL: there are no keys */
    char current[VAULT_KEY_ID + 1];
    struct count counts[LIMIT_VAULT_KEYS + 1]; /* the last: of those that no key opens */
    size_t n_files[LIMIT_VAULT_KEYS];          /* of the data directory */
    struct buf locked_files;                   /* those that no key opens; for people */
};

static void count_one(void *context, const struct vault_listed *listed) {
    struct counting *counting = context;
    size_t n = counting->vault != NULL ? vault_count_keys(counting->vault) : 0;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(counting->counts[i].key, listed->key) == 0) {
            counting->counts[i].n_secrets++;
            return;
        }
    }
    counting->counts[LIMIT_VAULT_KEYS].n_secrets++;
}

/* May be run again: it begins anew. */
static int count(struct store_tx *tx, void *context) {
    struct counting *counting = context;
    memset(counting->counts, 0, sizeof counting->counts);
    for (size_t i = 0; counting->vault != NULL && i < vault_count_keys(counting->vault); i++)
        vault_key_id(counting->vault, i, counting->counts[i].key);
    int error = vault_current_key(tx, counting->current);
    return error == 0 ? vault_list(tx, counting->vault, count_one, counting) : error;
}

/* Before the first secret the first key is it. */
static bool is_current(const struct counting *counting, size_t i) {
    return counting->current[0] != '\0' ? strcmp(counting->counts[i].key, counting->current) == 0
                                        : i == 0;
}

static bool has_current(const struct counting *counting) {
    size_t n = counting->vault != NULL ? vault_count_keys(counting->vault) : 0;
    bool has = counting->current[0] == '\0';
    for (size_t i = 0; i < n; i++)
        has = has || is_current(counting, i);
    return has;
}

static void print_key(const struct counting *counting, size_t i) {
    printf("  %s  %zu secrets", counting->counts[i].key, counting->counts[i].n_secrets);
    if (counting->n_files[i] != 0)
        printf(", %zu private keys", counting->n_files[i]);
    printf("%s\n", is_current(counting, i) ? "  encrypts" : "");
}

static void print_text(const struct counting *counting) {
    size_t n = counting->vault != NULL ? vault_count_keys(counting->vault) : 0;
    size_t n_lost = counting->counts[LIMIT_VAULT_KEYS].n_secrets;
    if (n == 0)
        printf("There is no key yet; one is made at the first start.\n");
    else
        printf("Keys of %s:\n", vault_source_name(vault_source(counting->vault)));
    for (size_t i = 0; i < n; i++)
        print_key(counting, i);
    if (!has_current(counting))
        printf("Secrets of this store are written under the key %s, which is not here.\n",
               counting->current);
    else if (n > 0 && !is_current(counting, 0))
        printf("The first key encrypts from the next `cardea key rotate` on.\n");
    if (n_lost != 0)
        printf("%zu secrets are opened by none of them (cardea secret list names them).\n", n_lost);
    if (buf_len(&counting->locked_files) != 0)
        printf("Opened by none of them: %.*s\n", SLICE_ARGS(buf_slice(&counting->locked_files)));
}

static int print_json(const struct counting *counting) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(64));
    struct json_writer writer;
    size_t n = counting->vault != NULL ? vault_count_keys(counting->vault) : 0;
    json_writer_init(&writer, &text);
    json_object_begin(&writer);
    if (n > 0)
        json_kv_string(&writer, SLICE("source"),
                       slice_from_cstr(vault_source_name(vault_source(counting->vault))));
    json_key(&writer, SLICE("keys"));
    json_array_begin(&writer);
    for (size_t i = 0; i < n; i++) {
        json_object_begin(&writer);
        json_kv_string(&writer, SLICE("id"), slice_from_cstr(counting->counts[i].key));
        json_kv_bool(&writer, SLICE("encrypts"), is_current(counting, i));
        json_kv_u64(&writer, SLICE("secrets"), counting->counts[i].n_secrets);
        json_kv_u64(&writer, SLICE("files"), counting->n_files[i]);
        json_object_end(&writer);
    }
    json_array_end(&writer);
    json_kv_u64(&writer, SLICE("unopened"), counting->counts[LIMIT_VAULT_KEYS].n_secrets);
    json_kv_bool(&writer, SLICE("complete"), has_current(counting));
    json_object_end(&writer);
    if (buf_error(&text) != 0)
        return CLI_FAILED;
    printf("%.*s\n", (int)buf_len(&text), buf_slice(&text).ptr);
    return CLI_OK;
}

/* What cannot be read (by this account) is not counted. */
static void count_files(const struct cli_options *options, struct counting *counting) {
    CLEANUP(mem_freep) char *data_dir = cli_name_data_dir(options);
    if (data_dir != NULL && cli_count_sealed_files(counting->vault, data_dir, counting->n_files,
                                                   &counting->locked_files) != 0)
        fprintf(stderr, "cardea: private keys in %s cannot be read, and are not counted\n",
                data_dir);
}

static int count_all(const struct cli_options *options, struct store *store,
                     struct counting *counting) {
    int error = store_run(store, STORE_READ, count, counting);
    if (error == 0) {
        count_files(options, counting);
        return CLI_OK;
    }
    fprintf(stderr, "cardea: the store cannot be read: %s\n",
            error < 0 ? strerror(-error) : "it does not answer");
    return CLI_FAILED;
}

int cli_key_list(const struct cli_options *options) {
    CLEANUP(vault_freep) struct vault *vault = NULL;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    struct store *store = NULL;
    int error = cli_try_vault(options, false, &vault, &reason);
    if (error != 0 && error != -ENOENT) {
        fprintf(stderr, "cardea: %.*s\n", SLICE_ARGS(buf_slice(&reason)));
        return CLI_FAILED;
    }
    struct counting *counting = mem_xalloc(sizeof *counting);
    counting->vault = vault;
    buf_init(&counting->locked_files, KIB(32));
    int result = open_store(options, &store);
    if (result == CLI_OK)
        result = count_all(options, store, counting);
    if (result == CLI_OK && options->json)
        result = print_json(counting);
    else if (result == CLI_OK)
        print_text(counting);
    buf_deinit(&counting->locked_files);
    mem_free(counting);
    store_close(store);
    return result;
}

/* --- rotate --- */

struct rotation {
    const struct cli_options *options;
    struct store *store;
    char *data_dir;
    struct vault *vault;
    struct vault_resealed resealed;
    struct vault_files_done files;
};

static int tell(const struct buf *reason) {
    fprintf(stderr, "cardea: cannot rotate: %.*s\n", SLICE_ARGS(buf_slice(reason)));
    return CLI_FAILED;
}

/*
 * A new key in front of those of the file, unless there are several: then a rotation was begun and
 * did not come to its end, and this is its end. Keys from elsewhere are given by whoever owns them.
 */
static int add_key(struct rotation *rotation) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    if (vault_source(rotation->vault) != VAULT_FILE)
        return CLI_OK;
    if (vault_count_keys(rotation->vault) > 1) {
        printf("A rotation was begun before, and goes on.\n");
        return CLI_OK;
    }
    if (vault_add_key(rotation->data_dir, &reason) != 0)
        return tell(&reason);
    rotation->vault = vault_free(rotation->vault);
    return cli_open_vault(rotation->options, false, &rotation->vault);
}

static int note(struct store_tx *tx, void *context) {
    const struct rotation *rotation = context;
    return cli_note(tx, rotation->options, "admin-key", SLICE_EMPTY, SLICE_EMPTY);
}

static int reseal(struct rotation *rotation) {
    const struct vault_resealed *resealed = &rotation->resealed;
    int error = store_run(rotation->store, STORE_WRITE, note, rotation);
    if (error == 0)
        error = vault_reseal(rotation->store, rotation->vault, rotation->options->force,
                             &rotation->resealed);
    if (error != 0) {
        fprintf(stderr, "cardea: cannot rotate: %s; run it again, it goes on where it was\n",
                error == VAULT_E_STALE
                    ? "the secrets of this store are under a key that is not here, or another "
                      "rotation has begun (where that key is lost, and its secrets are deleted: "
                      "--force)"
                : error < 0 ? strerror(-error)
                            : "the store does not answer");
        return CLI_FAILED;
    }
    printf("%llu secrets were encrypted again.\n", (unsigned long long)resealed->n_done);
    if (resealed->n_left != 0)
        fprintf(stderr,
                "cardea: %llu secrets are opened by none of the keys (cardea secret list names "
                "them); old keys stay until these are set again or deleted\n",
                (unsigned long long)resealed->n_left);
    if (resealed->is_cluster_left)
        fprintf(stderr, "cardea: the key of the cluster is opened by none of the keys; with "
                        "--force the next start makes another one\n");
    return resealed->n_left == 0 && !resealed->is_cluster_left ? CLI_OK : CLI_FAILED;
}

/* Those of this data directory, under the first key. */
static int reseal_files(struct rotation *rotation) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    struct vault_options options = cli_vault_options(rotation->options, rotation->data_dir);
    int error =
        vault_seal_files(&options, cli_sealed_files, CLI_SEALED_FILES, &rotation->files, &reason);
    if (error < 0 && buf_len(&reason) == 0)
        buf_append_cstr(&reason, strerror(-error));
    if (error != 0)
        return tell(&reason);
    if (rotation->files.n_plain + rotation->files.n_resealed != 0)
        printf("%zu private keys were encrypted again.\n",
               rotation->files.n_plain + rotation->files.n_resealed);
    return CLI_OK;
}

static int drop_keys(struct rotation *rotation) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    bool is_file = vault_source(rotation->vault) == VAULT_FILE;
    if (is_file && vault_drop_old_keys(rotation->vault, rotation->data_dir, &reason) != 0)
        return tell(&reason);
    if (is_file)
        printf("The key is new, and the old one is gone.\n");
    else if (vault_count_keys(rotation->vault) > 1)
        printf("All but the first key can be taken out of %s, where every gateway was started with "
               "both.\n",
               vault_source_name(vault_source(rotation->vault)));
    return CLI_OK;
}

/* One at a time in this data directory. */
static int lock(const char *data_dir, int *ret_fd) {
    CLEANUP(mem_freep) char *path = cli_path(data_dir, "rotate.lock");
    int error = io_lock_file(path, ret_fd);
    if (error == 0)
        return CLI_OK;
    fprintf(stderr, "cardea: cannot rotate: %s\n",
            error == -EWOULDBLOCK ? "another rotation is at work" : strerror(-error));
    return CLI_FAILED;
}

int cli_key_rotate(const struct cli_options *options) {
    struct rotation rotation = {.options = options};
    CLEANUP(io_fd_close) int held = -1;
    int result = cli_open_data_dir(options, &rotation.data_dir);
    if (result == CLI_OK)
        result = lock(rotation.data_dir, &held);
    if (result == CLI_OK)
        result = open_store(options, &rotation.store);
    if (result == CLI_OK)
        result = cli_open_writing_vault(options, rotation.store, options->force, &rotation.vault);
    if (result == CLI_OK)
        result = add_key(&rotation);
    if (result == CLI_OK)
        result = reseal(&rotation);
    if (result == CLI_OK)
        result = reseal_files(&rotation);
    if (result == CLI_OK)
        result = drop_keys(&rotation);
    vault_free(rotation.vault);
    store_close(rotation.store);
    mem_free(rotation.data_dir);
    return result;
}
