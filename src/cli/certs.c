/*
 * cert show, cert renew, cert ca: about the certificate that a gateway with this configuration and
 * data directory serves. They need no running gateway; one that runs takes a new certificate up by
 * itself. They go by the rules of the start, but for who may call: MCP_API_TOKEN is often set for
 * the service alone.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "cli.h"
#include "io/file.h"
#include "pki/pki.h"
#include "sealed_files.h"
#include "serving_tls.h"

/* What all three begin with. */
struct asked {
    struct config *config;
    char *data_dir;
    struct log *log;
    struct vault_place keys;
    struct sealing sealing;
    struct pki_options pki;
    struct buf reason;
};

static void asked_deinit(struct asked *asked) {
    config_unref(asked->config);
    mem_free(asked->data_dir);
    log_free(asked->log);
    buf_deinit(&asked->reason);
}

/* The address of the command line, and is_auto. What else is wrong is for `check` to say. */
static void apply_start_rules(const struct cli_options *options, struct config *config) {
    struct config_problems problems;
    if (options->listen_address != NULL)
        config->listen_address = slice_from_cstr(options->listen_address);
    config_problems_init(&problems);
    if (config_check_start(config, true, &problems) == -ENOMEM)
        mem_exhausted(1);
    config_problems_deinit(&problems);
}

static int begin(const struct cli_options *options, struct asked *asked) {
    *asked = (struct asked){.reason = BUF_INIT(KIB(8))};
    int result = cli_load_config(options, &asked->config);
    if (result == CLI_OK)
        result = cli_open_data_dir(options, &asked->data_dir);
    if (result != CLI_OK)
        return result;
    apply_start_rules(options, asked->config);
    if (!config_has_tls(asked->config)) {
        fprintf(stderr,
                "cardea: with this configuration there is no TLS on %s; [server.tls] with "
                "auto = true, or with certificate and key, switches it on\n",
                asked->config->listen_address.ptr);
        return CLI_FAILED;
    }
    /* Warnings are what a person wants to see, the chatter of a start is not. */
    struct cli_options quiet = *options;
    if (quiet.log_level == LOG_INFO)
        quiet.log_level = LOG_WARN;
    asked->log = cli_new_log(&quiet);
    /* Before the first start there may be no key yet: that encrypts what is made here. */
    asked->keys = (struct vault_place){.options = cli_vault_options(options, asked->data_dir),
                                       .may_be_plain = true};
    asked->sealing = vault_sealing(&asked->keys);
    asked->pki = (struct pki_options){
        .tls = &asked->config->tls,
        .data_dir = asked->data_dir,
        .sealing = &asked->sealing,
        .listen_address = asked->config->listen_address,
        .health_address = asked->config->health_listen,
        .log = asked->log,
    };
    return CLI_OK;
}

static int refuse(const struct asked *asked) {
    CLEANUP(buf_deinit) struct buf safe = BUF_INIT(KIB(64));
    (void)log_escape(&safe, buf_slice(&asked->reason), KIB(8));
    fprintf(stderr, "cardea: %.*s\n", SLICE_ARGS(buf_slice(&safe)));
    return CLI_FAILED;
}

static void print(const struct buf *text) {
    fwrite(buf_slice(text).ptr, 1, buf_len(text), stdout);
}

/* --- show --- */

static int read_chain(const char *path, struct buf *chain) {
    int error = io_file_read(path, chain);
    if (error == 0)
        return CLI_OK;
    fprintf(stderr, "cardea: cannot read %s: %s%s\n", path, strerror(-error),
            error == -ENOENT ? "; the gateway makes its own at its start" : "");
    return CLI_FAILED;
}

static int describe(const struct cli_options *options, const char *path, const struct buf *chain) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(8));
    int error = pki_describe(buf_slice(chain), clock_wall_ms(), options->json, &text);
    if (error != 0) {
        fprintf(stderr, "cardea: %s %s\n", path,
                error == PKI_E_INVALID ? "holds no certificate in PEM" : strerror(-error));
        return CLI_FAILED;
    }
    if (options->json)
        buf_append_byte(&text, '\n');
    else
        printf("file         %s\n", path);
    print(&text);
    return CLI_OK;
}

/* The certificate, then the authority: two texts, or one object with both. */
static int show_own(const struct cli_options *options, const struct asked *asked) {
    CLEANUP(mem_freep) char *server = cli_path(asked->data_dir, "tls/server.pem");
    CLEANUP(mem_freep) char *authority = cli_path(asked->data_dir, "tls/ca.pem");
    CLEANUP(buf_deinit) struct buf chain = BUF_INIT(LIMIT_CERTIFICATE_FILE);
    CLEANUP(buf_deinit) struct buf above = BUF_INIT(LIMIT_CERTIFICATE_FILE);
    int result = read_chain(server, &chain);
    if (result == CLI_OK)
        result = read_chain(authority, options->json ? &chain : &above);
    if (result == CLI_OK)
        result = describe(options, server, &chain);
    if (result != CLI_OK || options->json)
        return result;
    putchar('\n');
    return describe(options, authority, &above);
}

int cli_cert_show(const struct cli_options *options) {
    CLEANUP(asked_deinit) struct asked asked;
    CLEANUP(buf_deinit) struct buf chain = BUF_INIT(LIMIT_CERTIFICATE_FILE);
    int result = begin(options, &asked);
    if (result != CLI_OK)
        return result;
    struct slice path = asked.config->tls.certificate;
    if (path.len == 0)
        return show_own(options, &asked);
    result = read_chain(path.ptr, &chain);
    return result == CLI_OK ? describe(options, path.ptr, &chain) : result;
}

/* --- renew, ca --- */

int cli_cert_renew(const struct cli_options *options) {
    CLEANUP(asked_deinit) struct asked asked;
    int result = begin(options, &asked);
    if (result != CLI_OK)
        return result;
    if (pki_renew(&asked.pki, clock_wall_ms(), &asked.reason) != 0)
        return refuse(&asked);
    fprintf(stderr, "cardea: a new certificate was made; a gateway that runs takes it up within "
                    "some seconds\n");
    return show_own(options, &asked);
}

int cli_cert_ca(const struct cli_options *options) {
    CLEANUP(asked_deinit) struct asked asked;
    CLEANUP(buf_deinit) struct buf pem = BUF_INIT(LIMIT_CERTIFICATE_FILE);
    CLEANUP(buf_deinit) struct buf advice = BUF_INIT(KIB(64));
    int result = begin(options, &asked);
    if (result != CLI_OK)
        return result;
    if (pki_authority(&asked.pki, clock_wall_ms(), &pem, &asked.reason) != 0)
        return refuse(&asked);
    print(&pem);
    fflush(stdout);
    if (isatty(STDOUT_FILENO) && serving_tls_advice(asked.config, asked.data_dir, &advice) == 0)
        fprintf(stderr, "\n%.*s", SLICE_ARGS(buf_slice(&advice)));
    return CLI_OK;
}
