/*
 * What a refused caller is told, so that its client can get a token that is good enough: the
 * WWW-Authenticate field of RFC 6750 section 3 with the metadata of RFC 9728 section 5.1 and the
 * scopes that the operation needs (MCP 2026-07-28, basic/authorization, "Scope Challenge
 * Handling").
 */
#include "private.h"

/* RFC 9110 section 5.6.4. What stands in a scope or in a URL of ours needs no escaping
 * (RFC 6749 section 3.3), which the configuration has checked; what does is left out. */
static void append_quoted(struct buf *out, struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
            buf_append_byte(out, text.ptr[i]);
    }
}

static void append_scopes(struct buf *out, const struct slice *scopes, size_t n, bool *is_first) {
    for (size_t i = 0; i < n; i++) {
        buf_append_cstr(out, *is_first ? ", scope=\"" : " ");
        append_quoted(out, scopes[i]);
        *is_first = false;
    }
}

void gw_challenge_write(struct buf *out, const struct gw_worker *worker, struct slice path,
                        const char *error, const struct slice *scopes, size_t n_scopes) {
    const struct config_oauth *oauth = &worker->config->oauth;
    struct buf url CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI * 2);
    buf_append_cstr(out, "WWW-Authenticate: Bearer realm=\"cardea\"");
    if (error != NULL)
        buf_printf(out, ", error=\"%s\"", error);
    bool is_first = true;
    append_scopes(out, oauth->scopes, oauth->n_scopes, &is_first);
    append_scopes(out, scopes, n_scopes, &is_first);
    if (!is_first)
        buf_append_byte(out, '"');
    if (oauth->is_set && gw_metadata_url(worker, path, &url) == 0) {
        buf_append_cstr(out, ", resource_metadata=\"");
        append_quoted(out, buf_slice(&url));
        buf_append_byte(out, '"');
    }
    buf_append_cstr(out, "\r\nCache-Control: no-store\r\n");
}

void gw_exchange_challenge(struct gw_exchange *exchange, const char *error,
                           const struct slice *scopes, size_t n_scopes) {
    const struct gw_connection *connection = exchange->connection;
    if (connection == NULL || exchange->streams)
        return; /* the head has left already */
    exchange->status = 403;
    buf_reset(&exchange->fields, KIB(1));
    gw_challenge_write(&exchange->fields, exchange->worker,
                       http_parser_head(connection->parser)->path, error, scopes, n_scopes);
}
