/* `cardea audit list`: pages of records, by the index; and `reindex`, which makes that anew. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "audit.h"
#include "base/limits.h"
#include "base/mem.h"

#define BEGIN_JSON "{\"records\":["

enum { USUAL = 50 };

struct listing {
    const struct cli_options *options;
    struct audit_row row;
    size_t n;
};

static void print_found(void *context, const struct audit_hit *hit) {
    struct listing *listing = context;
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(1));
    if (listing->options->json) {
        fputs(listing->n == 0 ? BEGIN_JSON : ",\n", stdout);
        fputs("{\"record\":", stdout);
        cli_audit_print_json(hit->line);
        if (hit->outcome.len != 0) {
            fputs(",\"outcome\":", stdout);
            cli_audit_print_json(hit->outcome);
        }
        if (hit->log.len != 0)
            printf(",\"log\":\"%.*s\"", SLICE_ARGS(hit->log));
        putchar('}');
    } else {
        if (listing->n == 0 && audit_row_header(&text) == 0)
            buf_append_byte(&text, '\n');
        audit_row_read(&listing->row, hit);
        if (audit_row_format(&listing->row, &text) == 0 && buf_append_byte(&text, '\n') == 0)
            fwrite(buf_slice(&text).ptr, 1, buf_len(&text), stdout);
    }
    listing->n++;
}

/* A page that took too long has fewer: then on. The cursor of the query is in *ret_page. */
static int find(struct listing *listing, struct audit_finder *finder, struct audit_query *query,
                size_t limit, struct audit_page *ret_page, const struct buf *behind) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    do {
        query->limit = limit - listing->n;
        int error = audit_find(finder, query, print_found, listing, ret_page, &reason);
        if (error == AUDIT_E_CURSOR)
            return cli_audit_usage("--cursor takes what a page before has ended with, not",
                                   listing->options->audit.cursor);
        if (error != 0)
            return cli_audit_find_failed(error, &reason, behind);
        query->cursor = slice_from_cstr(ret_page->next);
    } while (ret_page->next[0] != '\0' && listing->n < limit);
    return CLI_OK;
}

static void print_end(const struct listing *listing, const struct audit_page *page,
                      const struct buf *behind) {
    if (listing->options->json) {
        printf("%s],\"next\":", listing->n == 0 ? BEGIN_JSON : "");
        printf(page->next[0] != '\0' ? "\"%s\"" : "null%s", page->next);
        printf(",\"lag\":%llu}\n", (unsigned long long)page->lag);
        return;
    }
    fflush(stdout);
    if (listing->n == 0)
        fputs("no record is like that\n", stderr);
    if (page->next[0] != '\0')
        fprintf(stderr, "there is more: the same command with --cursor %s\n", page->next);
    cli_audit_tell_lag(page->lag, behind);
}

int cli_audit_list(const struct cli_options *options) {
    CLEANUP(mem_freep) char *dir = NULL;
    CLEANUP(config_unrefp) struct config *config = NULL;
    CLEANUP(audit_finder_freep) struct audit_finder *finder = NULL;
    CLEANUP(buf_deinit) struct buf behind = BUF_INIT(KIB(8));
    struct audit_index_options index;
    struct listing listing = {.options = options};
    struct audit_query query;
    struct audit_page page = {.n = 0};
    uint64_t limit = 0;
    int result = cli_audit_query(options, &query);
    if (result == CLI_OK)
        result =
            cli_audit_number("--limit", options->audit.limit, 1, LIMIT_AUDIT_PAGE, USUAL, &limit);
    if (result == CLI_OK)
        result = cli_audit_dir(options, &dir);
    if (result == CLI_OK)
        result = cli_audit_index(options, dir, &config, &index);
    if (result != CLI_OK)
        return result;
    query.cursor = slice_from_cstr(options->audit.cursor);
    if (audit_finder_new(dir, index.url, &finder) != 0 || audit_row_init(&listing.row) != 0)
        return CLI_FAILED;
    cli_audit_update(&index, AUDIT_INDEX_IF_IDLE, &behind);
    result = find(&listing, finder, &query, (size_t)limit, &page, &behind);
    if (result == CLI_OK)
        print_end(&listing, &page, &behind);
    audit_row_deinit(&listing.row);
    if (fflush(stdout) != 0 && result == CLI_OK)
        result = CLI_FAILED;
    return result;
}

/* --- reindex --- */

static void print_progress(void *context, uint64_t n_records) {
    (void)context;
    fprintf(stderr, "\r%llu records", (unsigned long long)n_records);
}

/* The records of another log, whose instance is gone. */
static int forget(const struct cli_options *options, const struct audit_index_options *index) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    if (index->url.len == 0)
        return cli_audit_usage("--forget is for an index that several instances share, with [store]"
                               " in PostgreSQL",
                               NULL);
    int error = audit_index_forget(index->url, slice_from_cstr(options->audit.forget), &reason);
    if (error < 0)
        return cli_audit_failed("cannot forget the log", error);
    if (error != 0) {
        fprintf(stderr, "cardea: %.*s\n", SLICE_ARGS(buf_slice(&reason)));
        return CLI_FAILED;
    }
    puts(options->json ? "{\"forgotten\":true}"
                       : "its records are found no more; the gateways delete them bit by bit");
    return CLI_OK;
}

int cli_audit_reindex(const struct cli_options *options) {
    CLEANUP(mem_freep) char *dir = NULL;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    CLEANUP(config_unrefp) struct config *config = NULL;
    struct audit_index_options index;
    bool is_terminal = isatty(STDERR_FILENO);
    int result = cli_audit_dir(options, &dir);
    if (result == CLI_OK)
        result = cli_audit_index(options, dir, &config, &index);
    if (result != CLI_OK)
        return result;
    if (options->audit.forget != NULL)
        return forget(options, &index);
    int error = audit_index_update(&index, AUDIT_INDEX_ANEW, is_terminal ? print_progress : NULL,
                                   NULL, &reason);
    if (is_terminal)
        fputs("\r\033[K", stderr);
    if (error < 0)
        return cli_audit_failed("cannot make the index", error);
    if (error != 0) {
        fprintf(stderr, "cardea: cannot make the index: %.*s\n", SLICE_ARGS(buf_slice(&reason)));
        return CLI_FAILED;
    }
    puts(options->json ? "{\"reindexed\":true}" : "the index was made anew");
    return CLI_OK;
}
