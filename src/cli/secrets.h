/*
 * What a configuration has from the store: its upstreams, and {{ secret.NAME }}. Opens the store
 * and the vault, and keeps what it got until the configuration is loaded. Makes neither: where
 * there is no store, there are no secrets and no upstreams beside those of the file.
 */
#pragma once

#include "cli.h"

struct cli_secrets;

enum cli_purpose {
    CLI_TO_USE,
    CLI_TO_SERVE, /* an older store is brought up to date */
    CLI_TO_CHECK, /* a secret that is there need not be readable here; nothing is changed */
};

/* `options` outlive it. */
struct cli_secrets *cli_secrets_new(const struct cli_options *options, enum cli_purpose purpose);
/* Wipes what it got. */
struct cli_secrets *cli_secrets_free(struct cli_secrets *secrets);
void cli_secrets_freep(struct cli_secrets **secrets); /* for CLEANUP() */
/* This one in place of all upstreams of the store: to see what becomes of it. It outlives them. */
void cli_secrets_instead(struct cli_secrets *secrets, const struct config_stored *upstream);
/* For config_load_*_with(); valid as long as it lives. */
struct config_resolvers cli_secrets_resolvers(struct cli_secrets *secrets);
