/* The rules about credentials toward one HTTP server: upstream.c and grant.c. */
#pragma once

#include "load.h"

struct upstream_place {
    struct server_place server;
    struct place auth, tls;
    const struct toml_node *auth_node; /* NULL: there is no such table */
};

enum { SENTENCE_MAX = 512 };

/* About the key of that table, when it is there: "NAME SENTENCE". */
void upstream_tell(struct loader *l, enum config_severity severity, const struct place *table,
                   const struct toml_node *node, const char *key, const char *format, ...)
    PRINTF_LIKE(6, 7);

/* auth.type is "exchange" or "client_credentials" (grant.c). */
void check_grant(struct loader *l, const struct upstream_place *at, struct config_server *server);
