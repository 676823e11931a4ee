/* The private files of a data directory, which the vault encrypts, and the keys for them. */
#pragma once

#include "base/limits.h"
#include "cli.h"
#include "vault/vault.h"

enum { CLI_SEALED_FILES = 5 };
extern const struct vault_file cli_sealed_files[CLI_SEALED_FILES];

/* Where the keys come from that the command line, the environment and the data directory name; all
 * of it outlives what is made of it. */
struct vault_options cli_vault_options(const struct cli_options *options, const char *data_dir);

/* How many of them are under each key of `vault`; and in `locked` (appends) which are under none.
 */
MUST_CHECK int cli_count_sealed_files(const struct vault *vault, const char *data_dir,
                                      size_t counts[static LIMIT_VAULT_KEYS], struct buf *locked);
