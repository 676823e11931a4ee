#include "serving_tls.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "io/tls.h"
#include "pki/pki.h"

/* What belongs to one table [server.tls]. */
struct side {
    struct config *config; /* a reference */
    struct pki_pair pair;
    struct io_tls *context; /* a reference, until the gateway has it */
};

struct serving_tls {
    struct serving_tls_options options;
    struct cli_reload_part part;
    struct side now, next; /* next: between prepare and commit */
    bool has_next;
    struct pki_watch *watch;
};

static void side_deinit(struct side *side) {
    config_unref(side->config);
    pki_pair_deinit(&side->pair);
    io_tls_unref(side->context);
    *side = (struct side){.config = NULL};
}

static void side_init(struct side *side, struct config *config) {
    *side = (struct side){.config = config_ref(config)};
    pki_pair_init(&side->pair);
}

static struct pki_options pki_options_of(const struct serving_tls *tls,
                                         const struct config *config) {
    return (struct pki_options){
        .tls = &config->tls,
        .data_dir = tls->options.data_dir,
        .sealing = tls->options.sealing,
        .listen_address = slice_from_cstr(gateway_address(tls->options.gateway)->text),
        .health_address = config->health_listen,
        .log = tls->options.log,
    };
}

MUST_CHECK static int make_context(const struct config_tls *config, const struct pki_pair *pair,
                                   struct io_tls **ret_context, struct buf *reason) {
    struct io_tls_server_options options = {
        .chain = buf_slice(&pair->chain),
        .key = buf_slice(&pair->key),
        .client_ca = buf_slice(&pair->client_ca),
        .require_certificate = config->require_client_certificate,
        .only_tls13 = config->min_version == CONFIG_TLS_1_3,
    };
    const char *why = strerror(ENOMEM);
    int error = io_tls_server_new(&options, ret_context, &why);
    if (error != 0 && config->certificate.len != 0)
        buf_printf(reason, "the certificate %.*s cannot be served: %s",
                   SLICE_ARGS(config->certificate), why);
    else if (error != 0)
        buf_printf(reason, "the certificate cannot be served: %s", why);
    return error;
}

static void use(struct serving_tls *tls, struct side *side) {
    gateway_set_tls(tls->options.gateway, side->context);
    side->context = io_tls_unref(side->context);
    if (tls->options.on_pair != NULL)
        tls->options.on_pair(tls->options.context, &side->pair);
}

/* --- while it runs --- */

static void on_changed(void *context, const struct pki_pair *pair) {
    struct serving_tls *tls = context;
    struct side *now = &tls->now;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    struct pki_pair copy;
    pki_pair_init(&copy);
    int error = make_context(&now->config->tls, pair, &now->context, &reason);
    if (error == 0)
        error = pki_pair_copy(pair, &copy);
    if (error != 0) {
        now->context = io_tls_unref(now->context);
        pki_pair_deinit(&copy);
        log_write(tls->options.log, LOG_ERROR, "tls",
                  "the changed certificate cannot be used; the old one is served on",
                  LOG_TEXT("reason", buf_slice(&reason)));
        return;
    }
    pki_pair_deinit(&now->pair);
    now->pair = copy;
    use(tls, now);
    log_write(tls->options.log, LOG_INFO, "tls",
              "another certificate is served to connections that come from now on");
}

static void watch(struct serving_tls *tls) {
    struct pki_options options = pki_options_of(tls, tls->now.config);
    tls->watch = pki_watch_free(tls->watch);
    int error = pki_watch_new(gateway_loop(tls->options.gateway), &options, &tls->now.pair,
                              on_changed, tls, &tls->watch);
    if (error != 0)
        log_write(tls->options.log, LOG_ERROR, "tls",
                  "nobody looks after the certificate: it is not renewed, and changed files are "
                  "not taken up, until a restart",
                  LOG_CSTR("reason", strerror(-error)));
}

/* --- a reload --- */

static bool is_same_list(const struct slice *a, size_t n_a, const struct slice *b, size_t n_b) {
    bool is_same = n_a == n_b;
    for (size_t i = 0; is_same && i < n_a; i++)
        is_same = slice_eq(a[i], b[i]);
    return is_same;
}

static bool is_same_table(const struct config_tls *a, const struct config_tls *b) {
    return slice_eq(a->certificate, b->certificate) && slice_eq(a->key, b->key) &&
           slice_eq(a->client_ca, b->client_ca) && a->is_auto == b->is_auto &&
           a->require_client_certificate == b->require_client_certificate &&
           a->min_version == b->min_version &&
           is_same_list(a->names, a->n_names, b->names, b->n_names);
}

/*
 * The gateway's own certificate stays as it is for the moment: when other names are wanted the
 * watch makes another one, on its thread. This is the loop that serves.
 */
MUST_CHECK static int load_next(const struct serving_tls *tls, struct side *next,
                                struct buf *reason) {
    struct pki_options options = pki_options_of(tls, next->config);
    bool was_own = tls->now.config->tls.certificate.len == 0;
    int error = 0;
    if (!was_own || next->config->tls.certificate.len != 0)
        return pki_load(&options, clock_wall_ms(), &next->pair, reason);
    error = pki_pair_copy(&tls->now.pair, &next->pair);
    return error == 0 ? pki_load_client_ca(&options, &next->pair, reason) : error;
}

static int prepare(void *context, struct config *config, struct buf *reason) {
    struct serving_tls *tls = context;
    tls->has_next = !is_same_table(&tls->now.config->tls, &config->tls);
    if (!tls->has_next)
        return 0;
    side_init(&tls->next, config);
    int error = load_next(tls, &tls->next, reason);
    if (error == 0)
        error = make_context(&config->tls, &tls->next.pair, &tls->next.context, reason);
    if (error == 0)
        return 0;
    tls->has_next = false;
    side_deinit(&tls->next);
    return error;
}

static void commit(void *context) {
    struct serving_tls *tls = context;
    if (tls->has_next) {
        tls->has_next = false;
        tls->watch = pki_watch_free(tls->watch); /* it reads the table that goes */
        side_deinit(&tls->now);
        tls->now = tls->next;
        use(tls, &tls->now);
        watch(tls);
    }
    if (tls->watch != NULL)
        pki_watch_check(tls->watch);
}

const struct cli_reload_part *serving_tls_part(const struct serving_tls *tls) {
    return tls != NULL ? &tls->part : NULL;
}

/* --- start and end --- */

int serving_tls_start(const struct serving_tls_options *options, struct config *config,
                      struct serving_tls **ret_tls) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    if (!config_has_tls(config)) {
        *ret_tls = NULL;
        return CLI_OK;
    }
    struct serving_tls *tls = mem_xalloc(sizeof *tls);
    tls->options = *options;
    tls->part = (struct cli_reload_part){tls, prepare, commit};
    side_init(&tls->now, config);
    struct pki_options pki = pki_options_of(tls, config);
    int error = pki_load(&pki, clock_wall_ms(), &tls->now.pair, &reason);
    if (error == 0)
        error = make_context(&config->tls, &tls->now.pair, &tls->now.context, &reason);
    if (error != 0) {
        CLEANUP(buf_deinit) struct buf safe = BUF_INIT(KIB(64));
        (void)log_escape(&safe, buf_slice(&reason), KIB(8));
        fprintf(stderr, "cardea: %.*s\n", SLICE_ARGS(buf_slice(&safe)));
        serving_tls_free(tls);
        return CLI_FAILED;
    }
    use(tls, &tls->now);
    watch(tls);
    *ret_tls = tls;
    return CLI_OK;
}

struct serving_tls *serving_tls_free(struct serving_tls *tls) {
    if (tls == NULL)
        return NULL;
    pki_watch_free(tls->watch);
    if (tls->has_next)
        side_deinit(&tls->next);
    side_deinit(&tls->now);
    mem_free(tls);
    return NULL;
}

/* --- words --- */

static bool stands_for_all(struct slice host) {
    return slice_eq(host, SLICE("0.0.0.0")) || slice_eq(host, SLICE("[::]"));
}

/* The first name of tls.names that is no pattern; else what is a host of ours in any case. */
static void append_host(const struct config *config, struct slice host, struct buf *out) {
    for (size_t i = 0; i < config->tls.n_names; i++) {
        struct slice name = config->tls.names[i];
        if (slice_find_byte(name, '*') == SIZE_MAX) {
            bool is_v6 = slice_find_byte(name, ':') != SIZE_MAX && name.ptr[0] != '[';
            buf_printf(out, is_v6 ? "[%.*s]" : "%.*s", SLICE_ARGS(name));
            return;
        }
    }
    buf_append(out, stands_for_all(host) ? SLICE("localhost") : host);
}

/* "0.0.0.0:8000" into its two parts. */
static void split(struct slice address, struct slice *ret_host, struct slice *ret_port) {
    size_t colon = address.len;
    while (colon > 0 && address.ptr[colon - 1] != ':')
        colon--;
    *ret_host = slice_sub(address, 0, colon != 0 ? colon - 1 : 0);
    *ret_port = slice_from(address, colon);
}

bool serving_is_for_all(struct slice address) {
    struct slice host, port;
    split(address, &host, &port);
    return stands_for_all(host);
}

int serving_tls_origin(const struct config *config, struct slice address, bool is_from_here,
                       struct buf *out) {
    struct slice host, port;
    split(address, &host, &port);
    buf_append_cstr(out, config_has_tls(config) ? "https://" : "http://");
    if (is_from_here && stands_for_all(host))
        buf_append_cstr(out, "localhost");
    else
        append_host(config, host, out);
    return buf_printf(out, ":%.*s", SLICE_ARGS(port));
}

int serving_tls_advice(const struct config *config, const char *data_dir, struct buf *out) {
    if (!config_has_tls(config) || config->tls.certificate.len != 0)
        return buf_error(out);
    buf_printf(out,
               "The certificate comes from the gateway's own authority, which clients have to "
               "trust:\n"
               "  Claude Code, VS Code, Cursor, all of Node   export NODE_EXTRA_CA_CERTS='%s/tls/"
               "ca.pem'\n"
               "  curl                                        curl --cacert '%s/tls/ca.pem'\n"
               "  the whole system (Debian, Ubuntu)           cp '%s/tls/ca.pem' "
               "/usr/local/share/ca-certificates/cardea.crt && update-ca-certificates\n"
               "  on another machine                          cardea cert ca > ca.pem, copy that "
               "file, and name it there\n",
               data_dir, data_dir, data_dir);
    return buf_error(out);
}
