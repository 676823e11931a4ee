/* `cardea classify`, its two halves: what is suggested, and putting it into the file. */
#pragma once

#include "base/buf.h"
#include "base/compiler.h"
#include "cli.h"
#include "config/config.h"
#include "config/edit.h"

/*
 * Puts the lines into the file of the configuration, and says on stderr why not. The file has them,
 * and says otherwise what `config` was loaded from, or it was not touched. CLI_OK, CLI_FAILED.
 */
MUST_CHECK int classify_write(const struct cli_options *options, const struct config *config,
                              const struct config_access_edit *edits, size_t n);
