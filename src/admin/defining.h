/* What the routes about upstreams share: a definition is looked at by the loader of the
 * configuration on a thread of the readers, before anything is done with it (defining.c). */
#pragma once

#include "accounts/upstreams.h"
#include "config/config.h"
#include "private.h"

/* A row of the store. */
struct defined_row {
    struct slice name, definition;
    bool is_disabled;
    uint64_t created_ms, updated_ms, version;
};

struct defining {
    struct slice name;       /* in the request's arena */
    struct slice definition; /* JSON; ptr NULL: none was sent */
    struct config *config;   /* with the upstream in it, if it can be; NULL: not loaded */
    int error;               /* of whatever ran last on another thread */
    struct buf reason;       /* why the configuration could not be loaded */
    struct defined_row *rows;
    size_t n_rows;
    struct buf text; /* of the gateway */
    struct json_reader *reader;
    struct io_timer *timer; /* of a trial */
    uint64_t since_ms;
    bool is_trial;     /* nothing is written */
    api_work_fn *work; /* what is done when the definition was looked at */
    void (*next)(struct api_request *request);
};

/* The request's; made by the first call. */
struct defining *defining_of(struct api_request *request);
/* Loads the definition, then does `work` in the store and `next` on the loop. */
void defining_load(struct api_request *request, api_work_fn *work,
                   void (*next)(struct api_request *request));
/* The same blocking, on a thread of a crew. */
void defining_run(struct api_request *request);
/* Within a work: whether who asks may have it so; then, whether it can be so. */
MUST_CHECK int defining_check(struct store_tx *tx, struct api_request *request);
/* What became of it by itself; NULL: the file has no trouble with it. */
const struct config_stored_upstream *defining_found(const struct defining *defining);

/* Keeps the row; for accounts_get_upstream() and accounts_list_upstreams(). */
struct defining_rows {
    struct api_request *request;
    bool with_definitions;
};
bool defining_take_row(void *context, const struct accounts_upstream *upstream);
