/*
 * The API of the console: HTTP/1.1 over TLS on a listener of its own, with a loop and threads of
 * its own, so that nothing that is asked here keeps a call waiting. All of its routes are rows of
 * one table (routes.c), of which the OpenAPI document at /api/v1/openapi.json is made;
 * docs/ADMIN.md is for those who use it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audit/index.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/log.h"
#include "base/network.h"
#include "base/slice.h"
#include "config/config.h"
#include "gateway/gateway.h"
#include "http/forwarded.h"
#include "io/loop.h"
#include "io/stream.h"
#include "io/tls.h"
#include "store/store.h"
#include "vault/vault.h"

struct api;

/*
 * What is recorded: each change before it is tried (the intent) and when it is over, each denial,
 * logins, exports. Whoever reads alone leaves nothing; of those who have not proved to be anybody
 * logins that fail are recorded, and everything else that is refused is counted.
 */
struct api_record {
    const char *event;      /* "admin-user", "admin-login", ...: the route's audit class */
    const char *method;     /* "POST" */
    const char *route;      /* "/api/v1/users/{user}"; "": the request has none */
    struct slice id;        /* joins intent and outcome */
    struct slice object;    /* what the path names, as the client wrote it; may be empty */
    struct slice user_id;   /* empty: nobody has proved to be anybody */
    struct slice user;      /* name; of a login the one that was tried (then user_id is empty) */
    struct slice session;   /* id; empty: none */
    struct slice token;     /* id; empty: none */
    struct network address; /* of the client */
    struct slice members;   /* JSON array: what the body had members for; never their values */
    bool is_intent;         /* then what follows is not known yet */
    bool is_denied;         /* refused for who asks or how, not for what */
    uint16_t status;
    struct slice reason; /* of a refusal; may be empty */
    uint64_t duration_us;
};

/* 0: it is on its way. API_RECORD_WAITS (only with `wait`): its message comes when it is written,
 * or cannot be (is_durable). -errno: it cannot be written: with `wait` a change is not done then.
 * On the API's thread. `wait->message.deliver` and `loop` are set. */
enum { API_RECORD_WAITS = 1 };
typedef int api_record_fn(void *context, const struct api_record *record, struct audit_wait *wait);

/* A request of a stranger was refused; how many there are is his to choose. `reason`: a constant,
 * one of a few. On the API's thread. */
typedef void api_count_fn(void *context, const struct network *address, const char *reason);

/* Appends JSON, on worker 0 of the gateway. 0, -errno. */
typedef int api_write_fn(void *context, struct buf *out);

/*
 * What would become of an upstream of the store: loads the configuration that is served by with
 * this one in place of all others of the store; `definition` empty: with none. 0: *ret_config is
 * the caller's, and config_find_stored() tells. Else `reason` says why there is none, or is empty:
 * -ENOMEM. Any thread; it blocks, for it asks the store for secrets.
 */
typedef int api_define_fn(void *context, struct slice name, struct slice definition,
                          struct config **ret_config, struct buf *reason);

struct api_options {
    struct log *log;         /* outlives it, as does what follows */
    struct gateway *gateway; /* NULL: what is asked of it is unavailable (tests) */
    struct store *store;
    const struct vault_options *vault; /* NULL: secrets are unavailable */
    struct audit *audit;               /* the trail; NULL: there is none, and nothing to look for */
    struct audit_finder *finder;       /* who looks; NULL as above */
    struct io_tls *tls;                /* a reference is taken */
    struct slice listen;               /* "127.0.0.1:7443" */
    /* Names by which it is asked, beside localhost, loopback addresses and its own: admin.hosts and
     * the names of the certificate. With or without a port; "*.example.com" is none. Copied. */
    const struct slice *hosts;
    size_t n_hosts;
    struct http_forwarded forwarded; /* whose word counts about clients; copied */
    uint64_t session_idle_ms, session_max_ms;
    struct slice version;  /* of the program; a constant */
    api_record_fn *record; /* NULL: nothing is recorded, as with the next one */
    api_count_fn *count;
    api_define_fn *define; /* NULL: upstreams of the store are unavailable */
    void *context;         /* of all three */
};

/* Binds the address; what is asked waits until api_start(). -EADDRINUSE and the like; -EINVAL: the
 * address is none. */
MUST_CHECK int api_new(const struct api_options *options, struct api **ret_api);
/* With the port that was picked for port 0. */
const struct io_address *api_address(const struct api *api);
/* Its thread. -errno. */
MUST_CHECK int api_start(struct api *api);
/* Connections that come from now on speak TLS with this context; a reference is taken. Any thread.
 */
void api_set_tls(struct api *api, struct io_tls *tls);
/* Names, after a reload. Any thread. -ENOMEM. */
MUST_CHECK int api_set_hosts(struct api *api, const struct slice *hosts, size_t n_hosts);
/* The same of proxies. */
MUST_CHECK int api_set_forwarded(struct api *api, const struct http_forwarded *forwarded);
/* The loop of its thread, for those who submit records with a wait. */
struct io_loop *api_loop(struct api *api);

/* Something that open event streams tell has changed: they look now, and not in a second. Any
 * thread. */
void api_notice(struct api *api);

/* Not while gateway_run() runs, and before store_close(). What is under way in the store is waited
 * for (seconds at most). Accepts NULL. */
struct api *api_free(struct api *api);
