/* `cardea audit tail` and `head`, and what all of `cardea audit` needs. */
#include "audit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/follow.h"
#include "base/limits.h"
#include "base/mem.h"

int cli_audit_usage(const char *what, const char *word) {
    CLEANUP(buf_deinit) struct buf safe = BUF_INIT(KIB(4));
    log_escape(&safe, slice_from_cstr(word), 200);
    fprintf(stderr, "cardea: %s%s%.*s\ntry: cardea --help\n", what, word != NULL ? ": " : "",
            SLICE_ARGS(buf_slice(&safe)));
    return CLI_USAGE;
}

int cli_audit_failed(const char *what, int error) {
    fprintf(stderr, "cardea: %s: %s\n", what, strerror(error < 0 ? -error : error));
    return CLI_FAILED;
}

int cli_audit_number(const char *option, const char *text, uint64_t least, uint64_t most,
                     uint64_t usual, uint64_t *ret_number) {
    uint64_t number = usual;
    if (text != NULL &&
        (slice_to_u64(slice_from_cstr(text), &number) != 0 || number < least || number > most)) {
        fprintf(stderr, "cardea: %s takes a number from %llu to %llu\ntry: cardea --help\n", option,
                (unsigned long long)least, (unsigned long long)most);
        return CLI_USAGE;
    }
    *ret_number = number;
    return CLI_OK;
}

int cli_audit_dir(const struct cli_options *options, char **ret_dir) {
    CLEANUP(mem_freep) char *data_dir = NULL;
    CLEANUP(mem_freep) char *dir = NULL;
    struct stat info;
    if (options->audit.dir != NULL) {
        dir = mem_xstrdup(options->audit.dir);
    } else if (options->data_dir != NULL && access(options->data_dir, F_OK) != 0) {
        dir = cli_path(options->data_dir, "audit"); /* nothing is made there */
    } else {
        int result = cli_open_data_dir(options, &data_dir);
        if (result != CLI_OK)
            return result;
        dir = cli_path(data_dir, "audit");
    }
    if (stat(dir, &info) != 0 || !S_ISDIR(info.st_mode)) {
        fprintf(stderr,
                "cardea: there is no audit trail in %s: name the gateway's data directory with "
                "--data-dir DIR, or that of the trail with --dir DIR\n",
                dir);
        return CLI_FAILED;
    }
    *ret_dir = TAKE(dir);
    return CLI_OK;
}

int cli_audit_index(const struct cli_options *options, const char *dir, struct config **ret_config,
                    struct audit_index_options *ret_index) {
    *ret_index = (struct audit_index_options){.dir = dir};
    if (options->audit.dir != NULL)
        return CLI_OK;
    int result = cli_load_store_config(options, ret_config);
    if (result == CLI_OK)
        ret_index->url = (*ret_config)->store.url;
    return result;
}

static void print_progress(void *context, uint64_t n_records) {
    (void)context;
    fprintf(stderr, "\rbringing the index up to date: %llu records", (unsigned long long)n_records);
}

/* Root could, and would leave files that the gateway must not touch. */
static bool is_others(const char *dir, struct buf *why) {
    struct stat info;
    if (stat(dir, &info) != 0 || info.st_uid == geteuid())
        return false;
    buf_printf(why, "run as the owner of %s (user %u), this brings the index up to date", dir,
               (unsigned)info.st_uid);
    return true;
}

void cli_audit_update(const struct audit_index_options *index, enum audit_index_how how,
                      struct buf *why) {
    bool is_terminal = isatty(STDERR_FILENO);
    if (is_others(index->dir, why))
        return;
    int error = audit_index_update(index, how, is_terminal ? print_progress : NULL, NULL, why);
    if (is_terminal)
        fputs("\r\033[K", stderr);
    if (error == AUDIT_E_BUSY)
        buf_append_cstr(why, "the gateway puts them in, in a moment");
    else if (error < 0)
        buf_printf(why, "it cannot be brought up to date: %s", strerror(-error));
}

int cli_audit_find_failed(int error, const struct buf *reason, const struct buf *why) {
    CLEANUP(buf_deinit) struct buf safe = BUF_INIT(KIB(32));
    if (error < 0)
        return cli_audit_failed("cannot look for records", error);
    buf_append(&safe, buf_slice(reason));
    if (buf_len(why) != 0) {
        buf_append_cstr(&safe, "\ncardea: ");
        log_escape(&safe, buf_slice(why), KIB(4));
    }
    fprintf(stderr, "cardea: cannot look for records: %.*s\n", SLICE_ARGS(buf_slice(&safe)));
    return CLI_FAILED;
}

void cli_audit_tell_lag(uint64_t lag, const struct buf *why) {
    CLEANUP(buf_deinit) struct buf safe = BUF_INIT(KIB(32));
    if (lag == 0)
        return;
    if (buf_len(why) != 0)
        buf_append_cstr(&safe, "; ");
    log_escape(&safe, buf_slice(why), KIB(4));
    fprintf(stderr,
            "cardea: the newest %llu lines of the trail are not in the index, and may be missing "
            "here%.*s\n",
            (unsigned long long)lag, SLICE_ARGS(buf_slice(&safe)));
}

/* --- tail and head --- */

/* Behind the last n lines. */
static int seek_last(struct audit_follow *follow, uint64_t n) {
    audit_follow_seek_end(follow);
    uint64_t last = audit_follow_place(follow).seq;
    struct audit_place place = {.seq = last > n ? last - n : 0};
    int error = audit_follow_seek(follow, &place);
    (void)audit_follow_missed(follow); /* what retention has deleted before was not asked for */
    return error > 0 ? -ESTALE : error;
}

static void print_line(const struct cli_options *options, struct audit_row *row,
                       struct slice line) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(64));
    if (options->json) {
        cli_audit_print_json(line);
        putchar('\n');
        return;
    }
    audit_row_read(row, &(struct audit_hit){.line = line});
    if (audit_row_format(row, &text) == 0 && buf_append_byte(&text, '\n') == 0)
        fwrite(buf_slice(&text).ptr, 1, buf_len(&text), stdout);
}

static int print_on(const struct cli_options *options, struct audit_follow *follow,
                    struct audit_row *row) {
    uint64_t wait_ms = 0, n_missed = 0;
    for (;;) {
        struct slice line;
        int error = 0;
        switch (audit_follow_next(follow, wait_ms, &line, &error)) {
        case AUDIT_FOLLOWED_LINE:
            print_line(options, row, line);
            wait_ms = 0;
            break;
        case AUDIT_FOLLOWED_END:
            if (fflush(stdout) != 0)
                return cli_audit_failed("cannot write", errno);
            n_missed = audit_follow_missed(follow);
            if (n_missed != 0)
                fprintf(stderr, "cardea: %llu lines were deleted before they could be shown\n",
                        (unsigned long long)n_missed);
            if (!options->audit.follow)
                return CLI_OK;
            wait_ms = UINT64_MAX;
            break;
        case AUDIT_FOLLOWED_STOP:
            return CLI_OK;
        case AUDIT_FOLLOWED_ERROR:
            return cli_audit_failed("cannot read the trail", error);
        }
    }
}

int cli_audit_tail(const struct cli_options *options) {
    enum { USUAL = 10 };
    CLEANUP(mem_freep) char *dir = NULL;
    struct audit_follow *follow = NULL;
    struct audit_row row = {.lines = {{0}}};
    uint64_t n = 0;
    int result = cli_audit_number("-n", options->audit.lines, 0, UINT64_MAX - 1, USUAL, &n);
    if (result == CLI_OK)
        result = cli_audit_dir(options, &dir);
    if (result != CLI_OK)
        return result;
    int error = audit_follow_new(dir, -1, &follow);
    if (error == 0 && n == 0)
        audit_follow_seek_end(follow);
    else if (error == 0)
        error = seek_last(follow, n);
    if (error == 0)
        error = audit_row_init(&row);
    result = error == 0 ? print_on(options, follow, &row)
                        : cli_audit_failed("cannot read the trail", error);
    audit_row_deinit(&row);
    audit_follow_free(follow);
    return result;
}

int cli_audit_head(const struct cli_options *options) {
    CLEANUP(mem_freep) char *dir = NULL;
    struct audit_follow *follow = NULL;
    struct slice line;
    struct audit_line parts;
    char text[AUDIT_HEAD_CHARS + 1];
    int result = cli_audit_dir(options, &dir);
    if (result != CLI_OK)
        return result;
    int reason = 0, error = audit_follow_new(dir, -1, &follow);
    if (error == 0)
        error = seek_last(follow, 1);
    if (error != 0)
        result = cli_audit_failed("cannot read the trail", error);
    else if (audit_follow_next(follow, 0, &line, &reason) != AUDIT_FOLLOWED_LINE ||
             audit_line_read(line, &parts, NULL) != 0) {
        fputs("cardea: the trail has no last line that can be read; cardea audit verify says what "
              "is wrong\n",
              stderr);
        result = CLI_FAILED;
    } else {
        struct audit_chain chain = {.seq = parts.seq};
        memcpy(chain.hash, parts.hash, sizeof chain.hash);
        struct slice head = audit_head_write(&chain, text);
        printf(options->json ? "{\"head\":\"%.*s\"}\n" : "%.*s\n", SLICE_ARGS(head));
    }
    audit_follow_free(follow);
    return result;
}
