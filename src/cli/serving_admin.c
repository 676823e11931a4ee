#include "serving_admin.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "accounts/accounts.h"
#include "admin/api.h"
#include "audit/record.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "json/writer.h"
#include "serving_keys.h"
#include "serving_tls.h"
#include "upstreams.h"

enum { SETUP_MINUTES = 30 };

struct serving_admin {
    struct serving_admin_options options;
    struct api *api;
    struct config_tls own; /* where the gateway itself speaks no TLS: by its own authority */
    struct pki_pair pair;
    struct pki_watch *watch;
    struct audit_worker *trail; /* NULL: nothing is recorded */
    struct audit_redact *redact;
    struct audit_writer *writer;
    struct cli_reload_part part;
    struct config *next;   /* prepared */
    pthread_mutex_t mutex; /* guards what follows */
    struct config *served;
};

static void complain(const char *what, struct slice reason) {
    CLEANUP(buf_deinit) struct buf safe = BUF_INIT(KIB(64));
    (void)log_escape(&safe, reason, KIB(8));
    fprintf(stderr, "cardea: %s%.*s\n", what, SLICE_ARGS(buf_slice(&safe)));
}

/* --- certificates --- */

/* Clients of the console show no certificates: they log in. */
static int make_context(const struct pki_pair *pair, struct io_tls **ret_context,
                        const char **ret_reason) {
    struct io_tls_server_options options = {
        .chain = buf_slice(&pair->chain),
        .key = buf_slice(&pair->key),
    };
    return io_tls_server_new(&options, ret_context, ret_reason);
}

void serving_admin_use(struct serving_admin *admin, const struct pki_pair *pair) {
    struct io_tls *context = NULL;
    const char *reason = "";
    if (admin == NULL)
        return;
    if (make_context(pair, &context, &reason) == 0)
        api_set_tls(admin->api, context);
    else
        log_write(admin->options.log, LOG_ERROR, "admin",
                  "the changed certificate cannot be used; the old one is served on",
                  LOG_CSTR("reason", reason));
    io_tls_unref(context);
}

static void on_changed(void *context, const struct pki_pair *pair) {
    serving_admin_use(context, pair);
}

static struct pki_options pki_options_of(const struct serving_admin *admin,
                                         const struct config *config) {
    bool has_tls = config_has_tls(config);
    return (struct pki_options){
        .tls = has_tls ? &config->tls : &admin->own,
        .data_dir = admin->options.data_dir,
        .sealing = &admin->options.keys->sealing,
        .listen_address = has_tls ? slice_from_cstr(gateway_address(admin->options.gateway)->text)
                                  : config->admin.listen,
        .health_address = config->health_listen,
        .log = admin->options.log,
    };
}

/* The gateway's own certificate, or one by its authority when it speaks in the clear. */
static int load_certificate(struct serving_admin *admin, const struct config *config,
                            struct io_tls **ret_context) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    const char *why = "";
    admin->own = config->tls;
    admin->own.is_auto = true;
    struct pki_options options = pki_options_of(admin, config);
    int error = pki_load(&options, clock_wall_ms(), &admin->pair, &reason);
    if (error == 0)
        error = make_context(&admin->pair, ret_context, &why);
    if (error == 0)
        return CLI_OK;
    complain("the console has no certificate: ",
             buf_len(&reason) != 0 ? buf_slice(&reason) : slice_from_cstr(why));
    return CLI_FAILED;
}

/* --- records --- */

static void write_members(struct serving_admin *admin, const struct api_record *record,
                          struct buf *out) {
    struct audit_writer *writer = admin->writer;
    CLEANUP(buf_deinit) struct buf user = BUF_INIT(KIB(4));
    buf_append_cstr(&user, "user:");
    buf_append(&user, record->user);
    bool is_known = record->user_id.len != 0;
    struct audit_who who = {
        .user = record->user.len != 0 ? buf_slice(&user) : SLICE_EMPTY,
        .authentication = !is_known                ? SLICE("none")
                          : record->token.len != 0 ? SLICE("user")
                                                   : SLICE("session"),
        .token = record->token,
        .address = &record->address,
        .session = slice_sub(record->session, 0, 8),
    };
    struct audit_what what = {.method = slice_from_cstr(record->method),
                              .operation = slice_from_cstr(record->route)};
    struct audit_decided decided = {.decision =
                                        record->is_denied ? SLICE("denied") : SLICE("allowed"),
                                    .rule = record->is_denied ? SLICE("console") : SLICE_EMPTY,
                                    .reason = record->is_denied ? record->reason : SLICE_EMPTY};
    struct audit_result result = {
        .status = record->is_denied       ? SLICE("refused")
                  : record->status >= 400 ? SLICE("error")
                                          : SLICE("ok"),
        .http_status = record->status,
        .message = record->is_denied ? SLICE_EMPTY : record->reason,
        .upstream_status = AUDIT_NONE,
        .bytes = AUDIT_NONE,
        .duration_us = record->duration_us,
    };
    audit_write_who(writer, out, &who);
    audit_write_what(writer, out, &what);
    audit_write_text(writer, out, SLICE("object"), record->object);
    audit_write_raw(out, SLICE("members"), record->members);
    audit_write_decision(writer, out, &decided);
    if (!record->is_intent)
        audit_write_result(writer, out, &result);
}

/* Where records are required the API waits for each; otherwise it is refused to change anything
 * while the trail cannot be written. */
static int record(void *context, const struct api_record *record, struct audit_wait *wait) {
    struct serving_admin *admin = context;
    CLEANUP(buf_deinit) struct buf body = BUF_INIT(LIMIT_AUDIT_BODY);
    if (admin->trail == NULL)
        return 0;
    bool must_wait = wait != NULL && audit_mode(admin->options.audit) == AUDIT_REQUIRED;
    if (wait != NULL && !audit_can_write(admin->options.audit))
        return -EIO;
    audit_write_begin(&body, record->event, clock_wall_us(), record->id);
    write_members(admin, record, &body);
    struct slice piece = buf_slice(&body);
    if (buf_error(&body) != 0)
        return buf_error(&body);
    if (audit_submit(admin->trail, &piece, 1, must_wait ? wait : NULL) != 0)
        return -EIO;
    return must_wait ? API_RECORD_WAITS : 0;
}

static void count_stranger(void *context, const struct network *address, const char *reason) {
    struct serving_admin *admin = context;
    if (admin->trail == NULL)
        return;
    audit_count_requests(admin->trail, 1); /* whoever counts what is missing counts it too */
    audit_deny(admin->trail, address, reason);
}

static int open_records(struct serving_admin *admin, const struct config *config) {
    struct audit *audit = admin->options.audit;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    if (audit == NULL)
        return 0;
    int error = audit_redact_new(&config->audit, &admin->redact, &reason);
    struct audit_writer_options options = {.redact = admin->redact,
                                           .keys = audit_trail_keys(audit)};
    if (error == 0)
        error = audit_writer_new(&options, &admin->writer);
    if (error == 0) /* the one behind those of the gateway */
        admin->trail = audit_worker(audit, gateway_count_workers(config));
    return error;
}

/* --- by which names it is asked --- */

/* Those of the configuration, and those of the certificate. */
static struct slice *list_hosts(const struct config *config, size_t *ret_n) {
    size_t n = config->admin.n_hosts + config->tls.n_names;
    struct slice *hosts = mem_xalloc((n + 1) * sizeof *hosts);
    for (size_t i = 0; i < n; i++)
        hosts[i] = i < config->admin.n_hosts ? config->admin.hosts[i]
                                             : config->tls.names[i - config->admin.n_hosts];
    *ret_n = n;
    return hosts;
}

/* Whose word counts: the networks are the caller's. */
static struct http_forwarded read_proxies(const struct config *config,
                                          struct network **ret_trusted) {
    size_t n = 0;
    *ret_trusted = mem_xalloc((config->admin.n_trusted_proxies + 1) * sizeof **ret_trusted);
    for (size_t i = 0; i < config->admin.n_trusted_proxies; i++)
        n += network_parse(config->admin.trusted_proxies[i], &(*ret_trusted)[n]);
    return (struct http_forwarded){.x_real_ip = config->client_ip.x_real_ip,
                                   .x_forwarded_for = config->client_ip.x_forwarded_for,
                                   .hops = config->client_ip.hops,
                                   .trusted = *ret_trusted,
                                   .n_trusted = n};
}

static int prepare(void *context, struct config *config, struct buf *reason) {
    struct serving_admin *admin = context;
    (void)reason;
    config_unref(admin->next);
    admin->next = config_ref(config);
    return 0;
}

static void commit(void *context) {
    struct serving_admin *admin = context;
    size_t n_hosts;
    CLEANUP(mem_freep) struct slice *hosts = list_hosts(admin->next, &n_hosts);
    CLEANUP(mem_freep) struct network *trusted = NULL;
    const struct http_forwarded forwarded = read_proxies(admin->next, &trusted);
    if (api_set_hosts(admin->api, hosts, n_hosts) != 0 ||
        api_set_forwarded(admin->api, &forwarded) != 0)
        log_write(admin->options.log, LOG_ERROR, "admin",
                  "there is no memory for the names and proxies of the console; it keeps those "
                  "that it had");
    admin->next = config_unref(admin->next);
}

const struct cli_reload_part *serving_admin_part(const struct serving_admin *admin) {
    return admin != NULL ? &admin->part : NULL;
}

/* --- upstreams --- */

void serving_admin_reloaded(struct serving_admin *admin, struct config *config) {
    if (admin == NULL)
        return;
    pthread_mutex_lock(&admin->mutex);
    struct config *old = admin->served;
    admin->served = config_ref(config);
    pthread_mutex_unlock(&admin->mutex);
    config_unref(old);
}

static int define(void *context, struct slice name, struct slice definition,
                  struct config **ret_config, struct buf *reason) {
    struct serving_admin *admin = context;
    pthread_mutex_lock(&admin->mutex);
    CLEANUP(config_unrefp) struct config *served = config_ref(admin->served);
    pthread_mutex_unlock(&admin->mutex);
    const struct config_stored stored = {
        .name = name, .definition = definition, .is_disabled = definition.len == 0};
    return cli_try_definition(admin->options.options, served, &stored, ret_config, reason);
}

/* --- beginning and end --- */

static int make_api(struct serving_admin *admin, const struct config *config,
                    struct io_tls *context) {
    size_t n_hosts;
    CLEANUP(mem_freep) struct slice *hosts = list_hosts(config, &n_hosts);
    CLEANUP(mem_freep) struct network *trusted = NULL;
    struct api_options options = {
        .log = admin->options.log,
        .gateway = admin->options.gateway,
        .store = admin->options.store,
        .vault = &admin->options.keys->place.options,
        .audit = admin->options.audit,
        .finder = admin->options.finder,
        .tls = context,
        .listen = config->admin.listen,
        .hosts = hosts,
        .n_hosts = n_hosts,
        .forwarded = read_proxies(config, &trusted),
        .session_idle_ms = config->admin.session_idle_ms,
        .session_max_ms = config->admin.session_max_ms,
        .version = SLICE(CARDEA_VERSION),
        .record = record,
        .count = count_stranger,
        .define = define,
        .context = admin,
    };
    int error = api_new(&options, &admin->api);
    if (error == 0)
        error = api_start(admin->api);
    if (error == 0) {
        log_write(admin->options.log, LOG_INFO, "admin", "the console listens",
                  LOG_CSTR("admin_address", api_address(admin->api)->text));
        return CLI_OK;
    }
    fprintf(stderr,
            "cardea: the console cannot listen on %.*s: %s\nAnother address: admin.listen; "
            "without it: admin.enabled = false\n",
            SLICE_ARGS(config->admin.listen), strerror(-error));
    return CLI_FAILED;
}

int serving_admin_start(const struct serving_admin_options *options, struct config *config,
                        struct serving_admin **ret_admin) {
    struct io_tls *context = NULL;
    *ret_admin = NULL;
    if (!config->admin.enabled)
        return CLI_OK;
    struct serving_admin *admin = mem_xalloc(sizeof *admin);
    admin->options = *options;
    admin->part = (struct cli_reload_part){admin, prepare, commit};
    admin->served = config_ref(config);
    pthread_mutex_init(&admin->mutex, NULL);
    pki_pair_init(&admin->pair);
    int result = load_certificate(admin, config, &context);
    if (result == CLI_OK && open_records(admin, config) != 0)
        result = CLI_FAILED;
    if (result == CLI_OK)
        result = make_api(admin, config, context);
    io_tls_unref(context);
    if (result == CLI_OK && !config_has_tls(config)) {
        struct pki_options pki = pki_options_of(admin, config);
        if (pki_watch_new(gateway_loop(options->gateway), &pki, &admin->pair, on_changed, admin,
                          &admin->watch) != 0)
            log_write(options->log, LOG_ERROR, "admin",
                      "nobody looks after the console's certificate until a restart");
    }
    if (result != CLI_OK) {
        serving_admin_free(admin);
        return result;
    }
    *ret_admin = admin;
    return CLI_OK;
}

void serving_admin_notice(struct serving_admin *admin) {
    if (admin != NULL)
        api_notice(admin->api);
}

int serving_admin_origin(const struct serving_admin *admin, struct buf *out) {
    struct slice text = slice_from_cstr(api_address(admin->api)->text);
    size_t port = text.len;
    while (port > 0 && text.ptr[port - 1] != ':')
        port--;
    return serving_is_for_all(text)
               ? buf_printf(out, "https://localhost:%.*s", SLICE_ARGS(slice_from(text, port)))
               : buf_printf(out, "https://%.*s", SLICE_ARGS(text));
}

static int make_setup(struct store_tx *tx, void *context) {
    bool has_users = false;
    char *code = context;
    int error = accounts_has_users(tx, &has_users);
    if (error != 0 || has_users)
        return error;
    return accounts_make_setup(tx, SETUP_MINUTES * UINT64_C(60000), code);
}

int serving_admin_setup_code(const struct serving_admin *admin, struct buf *out) {
    char code[ACCOUNTS_SECRET + 1] = "";
    int error = store_run(admin->options.store, STORE_WRITE, make_setup, code);
    if (error != 0 || code[0] == '\0')
        return error;
    error = buf_append_cstr(out, code);
    secret_wipe(code, sizeof code);
    return error;
}

struct serving_admin *serving_admin_free(struct serving_admin *admin) {
    if (admin == NULL)
        return NULL;
    pki_watch_free(admin->watch);
    api_free(admin->api);
    audit_writer_free(admin->writer);
    audit_redact_free(admin->redact);
    config_unref(admin->next);
    config_unref(admin->served);
    pthread_mutex_destroy(&admin->mutex);
    pki_pair_deinit(&admin->pair);
    mem_free(admin);
    return NULL;
}
