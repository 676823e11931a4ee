/*
 * `cardea audit export`: all records, or those that filters let through, as JSON Lines or CSV.
 *
 * All of them as JSON Lines are the lines of the trail, byte for byte: they can be verified. What
 * is filtered says so in its first line, and in a column of CSV. Records go from the files to the
 * output one after the other: memory does not grow with the trail.
 *
 * A file has no name until it is whole, where the file system can do that (O_TMPFILE), so that
 * nothing is left of an export that was broken off, however it ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "audit.h"
#include "base/limits.h"
#include "base/mem.h"
#include "io/file.h"

enum { FLUSH = KIB(64) };

struct export {
    const struct cli_options *options;
    struct audit_query query;
    bool is_csv, is_filtered;
    const char *path; /* NULL: standard output */
    int fd;           /* of the file, -1: none */
    bool has_no_name;
    int error; /* of the output: -errno */
    struct buf out, filter;
    struct audit_row row;
    uint64_t n;
};

/* --- the output --- */

static int open_unnamed(struct export *export) {
    struct slice path = slice_from_cstr(export->path);
    CLEANUP(mem_freep) char *folder = NULL;
    size_t slash = path.len;
    while (slash > 0 && path.ptr[slash - 1] != '/')
        slash--;
    if (slice_dup_cstr(slash != 0 ? slice_sub(path, 0, slash) : SLICE("."), &folder) != 0)
        return -ENOMEM;
    export->fd = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    export->has_no_name = export->fd >= 0;
    return export->fd >= 0 ? 0 : -errno;
}

static int open_output(struct export *export) {
    if (export->path == NULL)
        return 0;
    if (access(export->path, F_OK) == 0)
        return -EEXIST;
    if (open_unnamed(export) == 0)
        return 0;
    export->fd = open(export->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return export->fd >= 0 ? 0 : -errno;
}

static void write_out(struct export *export) {
    struct slice rest = buf_slice(&export->out);
    if (export->error == 0)
        export->error = buf_error(&export->out);
    while (rest.len != 0 && export->error == 0) {
        ssize_t n = write(export->fd >= 0 ? export->fd : STDOUT_FILENO, rest.ptr, rest.len);
        if (n < 0 && errno != EINTR)
            export->error = -errno;
        if (n > 0)
            rest = slice_from(rest, (size_t)n);
    }
    buf_reset(&export->out, KIB(256));
}

static void write_when_full(struct export *export) {
    if (buf_len(&export->out) >= FLUSH || buf_error(&export->out) != 0)
        write_out(export);
}

/* The file gets its name now, unless somebody else has taken it meanwhile. */
static int give_name(struct export *export) {
    char own[64];
    snprintf(own, sizeof own, "/proc/self/fd/%d", export->fd);
    return linkat(AT_FDCWD, own, AT_FDCWD, export->path, AT_SYMLINK_FOLLOW) == 0 ? 0 : -errno;
}

static int close_output(struct export *export, int result) {
    if (result == CLI_OK)
        write_out(export);
    if (export->path == NULL || export->fd < 0)
        return export->error;
    if (result == CLI_OK && export->error == 0 && fsync(export->fd) != 0)
        export->error = -errno;
    bool is_whole = result == CLI_OK && export->error == 0;
    if (is_whole && export->has_no_name)
        export->error = give_name(export);
    if (!is_whole && !export->has_no_name)
        unlink(export->path);
    io_fd_close(&export->fd);
    return export->error;
}

/* --- all of it, as it is --- */

static int copy_lines(struct export *export, const char *dir) {
    struct audit_follow *follow = NULL;
    struct slice line;
    int reason = 0;
    int error = audit_follow_new(dir, -1, &follow);
    if (error != 0)
        return cli_audit_failed("cannot read the trail", error);
    audit_follow_seek_end(follow); /* what comes later than now is not waited for */
    uint64_t last = audit_follow_place(follow).seq;
    const struct audit_place beginning = {.seq = 0};
    error = audit_follow_seek(follow, &beginning);
    enum audit_followed followed = AUDIT_FOLLOWED_END;
    while (error == 0 && export->error == 0 && audit_follow_place(follow).seq < last &&
           (followed = audit_follow_next(follow, 0, &line, &reason)) == AUDIT_FOLLOWED_LINE) {
        buf_append(&export->out, line);
        buf_append_byte(&export->out, '\n');
        export->n++;
        write_when_full(export);
    }
    uint64_t n_missed = audit_follow_missed(follow);
    audit_follow_free(follow);
    if (error != 0 || followed == AUDIT_FOLLOWED_ERROR)
        return cli_audit_failed("cannot read the trail", error != 0 ? ESTALE : reason);
    if (n_missed != 0)
        fprintf(stderr, "cardea: %llu lines were deleted while this was written\n",
                (unsigned long long)n_missed);
    return CLI_OK;
}

/* --- by the index --- */

static void write_found(void *context, const struct audit_hit *hit) {
    struct export *export = context;
    export->n++;
    if (export->is_csv) {
        audit_row_read(&export->row, hit);
        (void)audit_csv_row(&export->row, buf_slice(&export->filter), &export->out);
    } else {
        (void)audit_export_hit(hit, &export->out);
    }
    write_when_full(export);
}

static void write_beginning(struct export *export) {
    if (export->is_csv) {
        (void)audit_csv_header(&export->out);
        return;
    }
    buf_append_cstr(&export->out, "{\"export\":{\"complete\":false,\"filter\":");
    buf_append(&export->out, buf_slice(&export->filter));
    buf_append_cstr(&export->out, "}}\n");
}

static int copy_found(struct export *export, const char *dir) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    CLEANUP(buf_deinit) struct buf behind = BUF_INIT(KIB(8));
    CLEANUP(config_unrefp) struct config *config = NULL;
    CLEANUP(audit_finder_freep) struct audit_finder *finder = NULL;
    struct audit_index_options index;
    struct audit_page page = {.n = 0};
    int result = cli_audit_index(export->options, dir, &config, &index);
    if (result != CLI_OK)
        return result;
    if (audit_finder_new(dir, index.url, &finder) != 0 || audit_row_init(&export->row) != 0)
        return CLI_FAILED;
    cli_audit_update(&index, AUDIT_INDEX_GO_ON, &behind);
    write_beginning(export);
    export->query.oldest_first = true;
    export->query.limit = LIMIT_AUDIT_PAGE;
    int error = 0;
    do {
        error = audit_find(finder, &export->query, write_found, export, &page, &reason);
        export->query.cursor = slice_from_cstr(page.next);
    } while (error == 0 && export->error == 0 && page.next[0] != '\0');
    audit_row_deinit(&export->row);
    if (error != 0)
        return cli_audit_find_failed(error, &reason, &behind);
    cli_audit_tell_lag(page.lag, &behind);
    return CLI_OK;
}

/* --- */

static int read_options(struct export *export) {
    const struct cli_audit_options *audit = &export->options->audit;
    if (audit->format == NULL)
        return cli_audit_usage("say which format: --format csv or --format jsonl", NULL);
    export->is_csv = strcmp(audit->format, "csv") == 0;
    if (!export->is_csv && strcmp(audit->format, "jsonl") != 0)
        return cli_audit_usage("a format is csv or jsonl, not", audit->format);
    export->path = audit->output;
    int result = cli_audit_query(export->options, &export->query);
    if (result != CLI_OK)
        return result;
    export->is_filtered = audit_query_is_filtered(&export->query);
    if (export->is_filtered && audit_query_write(&export->filter, &export->query) != 0)
        return CLI_FAILED;
    return CLI_OK;
}

static int run(struct export *export, const char *dir) {
    int error = open_output(export);
    if (error != 0) {
        fprintf(stderr, "cardea: cannot write %s: %s\n", export->path,
                error == -EEXIST ? "it is there already, and is not overwritten"
                                 : strerror(-error));
        return CLI_FAILED;
    }
    int result =
        export->is_csv || export->is_filtered ? copy_found(export, dir) : copy_lines(export, dir);
    error = close_output(export, result);
    if (result != CLI_OK || error != 0) {
        if (error != 0)
            fprintf(stderr, "cardea: cannot write %s: %s\n",
                    export->path != NULL ? export->path : "the output", strerror(-error));
        return CLI_FAILED;
    }
    if (export->path != NULL)
        fprintf(stderr, "%llu records in %s\n", (unsigned long long)export->n, export->path);
    return CLI_OK;
}

int cli_audit_export(const struct cli_options *options) {
    CLEANUP(mem_freep) char *dir = NULL;
    struct export export = {
        .options = options, .fd = -1, .out = BUF_INIT(MIB(8)), .filter = BUF_INIT(KIB(256))};
    int result = read_options(&export);
    if (result == CLI_OK)
        result = cli_audit_dir(options, &dir);
    if (result == CLI_OK)
        result = run(&export, dir);
    io_fd_close(&export.fd);
    buf_deinit(&export.out);
    buf_deinit(&export.filter);
    return result;
}
