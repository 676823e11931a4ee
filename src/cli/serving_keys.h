/* The keys of a gateway that serves: of the vault, and of the cluster. */
#pragma once

#include "base/log.h"
#include "base/sealing.h"
#include "cli.h"
#include "store/store.h"
#include "vault/vault.h"

struct serving_keys {
    struct vault_place place; /* where the vault's keys are */
    struct sealing sealing;   /* of private files, by them */
    struct secret *cluster;   /* the same for all gateways on one store */
};

/*
 * Before anything else of the data directory is opened. The key file is made when it is the first
 * start, private files that are in plain are encrypted, and the cluster's key is made or read. What
 * is wrong is said on stderr. CLI_OK, CLI_FAILED. `keys` stays where it is.
 */
MUST_CHECK int serving_keys_start(const struct cli_options *options, const char *data_dir,
                                  struct store *store, struct log *log, struct serving_keys *keys);
/* Of all zeros, too. */
void serving_keys_end(struct serving_keys *keys);
