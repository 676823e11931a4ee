#include "sealed_files.h"

#include <stdlib.h>
#include <string.h>

#define TRAIL_CURE                                                                                 \
    "move the folder audit out of the data directory: what is in it can be verified all the same " \
    "(cardea audit verify --dir), and a new trail begins"
#define TLS_CURE                                                                                   \
    "remove the folder tls of the data directory: a new authority is made, which clients have to " \
    "be given"

const struct vault_file cli_sealed_files[CLI_SEALED_FILES] = {
    {.name = "audit/signing.pem", .is_strict = true, .cure = TRAIL_CURE},
    {.name = "audit/hmac.key", .is_strict = true, .cure = TRAIL_CURE},
    {.name = "tls/ca.key", .cure = TLS_CURE},
    {.name = "tls/server.key", .cure = TLS_CURE},
    /* What a new authority has replaced. */
    {.name = "tls/ca.key", .path = "tls/ca.key.old", .is_spare = true, .cure = TLS_CURE},
};

struct vault_options cli_vault_options(const struct cli_options *options, const char *data_dir) {
    return (struct vault_options){
        .data_dir = data_dir,
        .environment = options->encryption_key,
        .credentials_dir = getenv("CREDENTIALS_DIRECTORY"),
    };
}

static void count(const struct vault *vault, const char *id,
                  size_t counts[static LIMIT_VAULT_KEYS]) {
    char own[VAULT_KEY_ID + 1];
    for (size_t i = 0; i < vault_count_keys(vault); i++) {
        vault_key_id(vault, i, own);
        counts[i] += strcmp(own, id) == 0;
    }
}

int cli_count_sealed_files(const struct vault *vault, const char *data_dir,
                           size_t counts[static LIMIT_VAULT_KEYS], struct buf *locked) {
    memset(counts, 0, LIMIT_VAULT_KEYS * sizeof counts[0]);
    for (size_t i = 0; i < CLI_SEALED_FILES; i++) {
        const struct vault_file *file = &cli_sealed_files[i];
        enum vault_file_state state;
        char id[VAULT_KEY_ID + 1];
        int error = vault_look_at_file(vault, data_dir, file, &state, id);
        if (error != 0)
            return error;
        if (state == VAULT_FILE_SEALED)
            count(vault, id, counts);
        if (state == VAULT_FILE_LOCKED && !file->is_spare)
            buf_printf(locked, "%s%s/%s (key %s)", buf_len(locked) != 0 ? ", " : "", data_dir,
                       file->name, id[0] != '\0' ? id : "unknown");
    }
    return buf_error(locked);
}
