/* Definitions of upstreams, looked at by the loader of the configuration. */
#pragma once

#include "cli.h"

/*
 * Loads the configuration with this upstream in place of all those of the store. `served`: one of
 * which the text is taken; NULL: the file of the options, or none where there is no file. 0; else
 * `reason` says what is wrong with the configuration, or is empty: -ENOMEM. Any thread.
 */
MUST_CHECK int cli_try_definition(const struct cli_options *options, const struct config *served,
                                  const struct config_stored *upstream, struct config **ret_config,
                                  struct buf *reason);
