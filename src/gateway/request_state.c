/*
 * requestState, as clients of 2026-07-28 get it (MCP 2026-07-28, basic/patterns/mrtr): a text that
 * comes back with the answers. What stands in it (the server's own, or where the call waits) is
 * sealed, and bound to whom it was given, for which server, method, name and arguments, and for how
 * long: for everything else it is no state.
 *
 * In there: the time of its end, the kind, what it holds. White space between the tokens of the
 * arguments does not count.
 */
#include <errno.h>
#include <openssl/evp.h>

#include "base/clock.h"
#include "private.h"

enum { HEAD = 9, DIGEST = GW_SEAL_BOUND };

/* For CLEANUP(). */
static void digest_freep(EVP_MD_CTX **context) {
    EVP_MD_CTX_free(*context);
}

static bool add(EVP_MD_CTX *digest, struct slice text) {
    uint64_t len = text.len;
    return EVP_DigestUpdate(digest, &len, sizeof len) == 1 &&
           EVP_DigestUpdate(digest, text.ptr, text.len) == 1;
}

/* JSON without the white space that means nothing. */
static bool add_json(EVP_MD_CTX *digest, struct slice json) {
    size_t from = 0;
    bool in_string = false, is_fine = true;
    for (size_t i = 0; i < json.len && is_fine; i++) {
        char c = json.ptr[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == ' ' || c == '\t' || c == '\n' || c == '\r')) {
            is_fine = EVP_DigestUpdate(digest, json.ptr + from, i - from) == 1;
            from = i + 1;
        }
    }
    return is_fine && EVP_DigestUpdate(digest, json.ptr + from, json.len - from) == 1;
}

static int bind(const struct gw_state_binding *binding, unsigned char digest[static DIGEST]) {
    CLEANUP(digest_freep) EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool is_fine = context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1 &&
                   add(context, binding->principal) && add(context, binding->upstream) &&
                   add(context, mcp_method_name(binding->method)) && add(context, binding->name) &&
                   add_json(context, binding->arguments) &&
                   EVP_DigestFinal_ex(context, digest, NULL) == 1;
    return is_fine ? 0 : -ENOMEM;
}

int gw_state_seal(const struct gateway *gateway, const struct gw_state_binding *binding,
                  enum gw_state_kind kind, struct slice payload, struct buf *out) {
    unsigned char bound[DIGEST];
    uint64_t ends_ms = clock_wall_ms() + LIMIT_ASK_MS;
    struct buf plain CLEANUP(buf_deinit) = BUF_INIT(HEAD + payload.len);
    buf_append(&plain, slice_make(&ends_ms, sizeof ends_ms));
    buf_append_byte(&plain, (char)kind);
    buf_append(&plain, payload);
    int error = buf_error(&plain) != 0 ? buf_error(&plain) : bind(binding, bound);
    return error != 0 ? error : gw_seal(gateway, bound, buf_slice(&plain), out);
}

int gw_state_open(const struct gateway *gateway, const struct gw_state_binding *binding,
                  struct slice text, enum gw_state_kind *ret_kind, struct buf *out) {
    unsigned char bound[DIGEST];
    uint64_t ends_ms = 0;
    struct buf plain CLEANUP(buf_deinit) = BUF_INIT(text.len + 64);
    int error = bind(binding, bound);
    if (error == 0)
        error = gw_unseal(gateway, bound, text, &plain);
    if (error != 0)
        return error;
    struct slice opened = buf_slice(&plain);
    if (opened.len < HEAD)
        return GW_E_STATE;
    memcpy(&ends_ms, opened.ptr, sizeof ends_ms);
    if (clock_wall_ms() > ends_ms)
        return GW_E_STATE;
    *ret_kind = (enum gw_state_kind)opened.ptr[sizeof ends_ms];
    return buf_append(out, slice_from(opened, HEAD));
}
