#include "serving_audit.h"

#include <stdio.h>
#include <string.h>

#include "audit/sink.h"
#include "base/mem.h"
#include "cli.h"
#include "gateway/gateway.h"

enum { LAST_WORDS_MS = 2000 }; /* for sinks to take the end of the trail */

struct serving_audit {
    struct audit *trail;
    struct audit_index *index;
    struct audit_finder *finder;
    struct audit_sink *jsonl, *syslog;
};

static void warn(struct log *log, const char *message, int error) {
    log_write(log, LOG_WARN, "audit", message, LOG_CSTR("reason", strerror(-error)));
}

/* What is made of the trail. It can be made later, too: nobody has to wait for it. */
static void start_followers(struct serving_audit *audit, const struct config *all,
                            struct log *log) {
    const struct config_audit *config = &all->audit;
    const char *dir = audit_dir(audit->trail);
    const struct audit_index_options index = {.dir = dir,
                                              .url = all->store.url,
                                              .max_age_ms = config->max_age_ms,
                                              .audit = audit->trail,
                                              .log = log};
    int error = audit_index_start(&index, &audit->index);
    if (error == 0)
        error = audit_finder_new(dir, index.url, &audit->finder);
    if (error != 0)
        warn(log, "there is no index of the trail", error);
    if (config->jsonl_path.len != 0) {
        error = audit_sink_jsonl(dir, config, log, &audit->jsonl);
        if (error != 0)
            warn(log, "there is no copy of the trail as JSON Lines", error);
    }
    if (config->syslog_url.len != 0) {
        error = audit_sink_syslog(dir, config, log, &audit->syslog);
        if (error != 0)
            warn(log, "there is no copy of the trail for syslog", error);
    }
}

static int open_trail(const struct config *config, const char *dir, const struct sealing *sealing,
                      struct log *log, struct audit **ret_trail) {
    const char *reason = "";
    struct audit_options options = {
        .dir = dir,
        .sealing = sealing,
        .mode = config->audit.mode == CONFIG_AUDIT_REQUIRED ? AUDIT_REQUIRED : AUDIT_BEST_EFFORT,
        .max_bytes = config->audit.max_bytes,
        .max_age_ms = config->audit.max_age_ms,
        .n_workers = gateway_count_workers(config) + 1, /* the last one: of the console */
        .program = SLICE("cardea " CARDEA_VERSION),
        .log = log,
    };
    int error = audit_open(&options, ret_trail, &reason);
    if (error == 0)
        return CLI_OK;
    fprintf(stderr,
            "cardea: the audit trail in %s cannot be written: %s\n"
            "Make room or repair it; audit.enabled = false serves without a record.\n",
            dir, error > 0 ? reason : strerror(-error));
    return CLI_FAILED;
}

int serving_audit_start(const struct config *config, const char *data_dir,
                        const struct sealing *sealing, struct log *log,
                        struct serving_audit **ret_audit) {
    if (!config->audit.enabled) {
        log_write(log, LOG_WARN, "audit", "nothing is recorded (audit.enabled)");
        return CLI_OK;
    }
    CLEANUP(mem_freep) char *dir = cli_path(data_dir, "audit");
    struct serving_audit *audit = mem_xalloc(sizeof *audit);
    int result = open_trail(config, dir, sealing, log, &audit->trail);
    if (result != CLI_OK) {
        mem_free(audit);
        return result;
    }
    start_followers(audit, config, log);
    *ret_audit = audit;
    return CLI_OK;
}

struct audit_finder *serving_audit_finder(const struct serving_audit *audit) {
    return audit != NULL ? audit->finder : NULL;
}

struct audit *serving_audit_trail(const struct serving_audit *audit) {
    return audit != NULL ? audit->trail : NULL;
}

/* The index can come to the end of the trail the next time; sinks are given a moment for it. */
struct serving_audit *serving_audit_free(struct serving_audit *audit) {
    if (audit == NULL)
        return NULL;
    audit_index_stop(audit->index);
    audit_finder_free(audit->finder);
    audit_close(audit->trail);
    audit_sink_stop(audit->jsonl, LAST_WORDS_MS);
    audit_sink_stop(audit->syslog, LAST_WORDS_MS);
    mem_free(audit);
    return NULL;
}
