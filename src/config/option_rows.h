/* How rows of the option table are written (options_*.c). */
#pragma once

#include "base/limits.h"
#include "config/config.h"
#include "options.h"

#define SECONDS(n) ((uint64_t)(n)*1000u)
#define MINUTES(n) SECONDS((n)*60u)
#define HOURS(n)   MINUTES((n)*60u)
#define DAYS(n)    HOURS((n)*24u)

#define OF_CONFIG(member) .owner = OPTION_OF_CONFIG, .offset = offsetof(struct config, member)

/* A key inside a table that is not built, or ignored: it only has to be known. */
#define INNER(name, kind)                                                                          \
    { .path = (name), .type = OPTION_##kind, .status = OPTION_IGNORED }

/* At most `limit` in any window of `interval`; who has one needs the other (rate.c). */
#define LIMIT_KEY(of, owner_and_offset, words)                                                     \
    {                                                                                              \
        .path = of ".limit", .type = OPTION_INTEGER, owner_and_offset, .max = LIMIT_RATE,          \
        .has_no_default = true, .doc = (words)                                                     \
    }
#define INTERVAL_KEY(of, owner_and_offset)                                                         \
    {                                                                                              \
        .path = of ".interval", .type = OPTION_DURATION, owner_and_offset, .min = 1,               \
        .max = LIMIT_RATE_INTERVAL_MS, .has_no_default = true, .doc = "The window."                \
    }
