/* One allocation: the header line as it is sent, around the token. */
#include "oauth/token.h"

#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/secret.h"

static const struct slice line_begin = SLICE_INIT("Authorization: Bearer ");
static const struct slice line_end = SLICE_INIT("\r\n");

struct oauth_token {
    atomic_uint refs;
    uint64_t ends_wall_ms;
    size_t len; /* of the token */
    char line[];
};

static bool is_token_byte(char c) {
    bool is_alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return is_alpha || (c >= '0' && c <= '9') || slice_find_byte(SLICE("-._~+/"), c) != SIZE_MAX;
}

/* b64token of RFC 6750 section 2.1: no byte of it means anything in a header field. */
static bool is_token(struct slice text) {
    size_t len = text.len;
    while (len != 0 && text.ptr[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++) {
        if (!is_token_byte(text.ptr[i]))
            return false;
    }
    return len != 0 && text.len <= LIMIT_JWT;
}

struct oauth_token *oauth_token_new(struct slice token, uint64_t ends_wall_ms) {
    if (!is_token(token))
        return NULL;
    struct oauth_token *made = mem_alloc(sizeof *made + line_begin.len + token.len + line_end.len);
    if (made == NULL)
        return NULL;
    atomic_init(&made->refs, 1);
    made->ends_wall_ms = ends_wall_ms;
    made->len = token.len;
    memcpy(made->line, line_begin.ptr, line_begin.len);
    memcpy(made->line + line_begin.len, token.ptr, token.len);
    memcpy(made->line + line_begin.len + token.len, line_end.ptr, line_end.len);
    return made;
}

struct oauth_token *oauth_token_ref(struct oauth_token *token) {
    if (token != NULL)
        atomic_fetch_add(&token->refs, 1);
    return token;
}

struct oauth_token *oauth_token_unref(struct oauth_token *token) {
    if (token != NULL && atomic_fetch_sub(&token->refs, 1) == 1) {
        secret_wipe(token->line, oauth_token_line(token).len);
        mem_free(token);
    }
    return NULL;
}

void oauth_token_unrefp(struct oauth_token **token) {
    *token = oauth_token_unref(*token);
}

uint64_t oauth_token_ends(const struct oauth_token *token) {
    return token->ends_wall_ms;
}

uint64_t oauth_token_time_left(const struct oauth_token *token) {
    uint64_t now = clock_wall_ms();
    if (token->ends_wall_ms == UINT64_MAX)
        return UINT64_MAX;
    return token->ends_wall_ms > now ? token->ends_wall_ms - now : 0;
}

bool oauth_token_has_ended(const struct oauth_token *token) {
    return oauth_token_time_left(token) == 0;
}

struct slice oauth_token_text(const struct oauth_token *token) {
    return slice_make(token->line + line_begin.len, token->len);
}

struct slice oauth_token_line(const struct oauth_token *token) {
    return slice_make(token->line, line_begin.len + token->len + line_end.len);
}

bool oauth_token_is(const struct oauth_token *token, struct slice text) {
    struct slice own = oauth_token_text(token);
    unsigned char difference = 0;
    if (own.len != text.len)
        return false;
    for (size_t i = 0; i < text.len; i++)
        difference |= (unsigned char)(own.ptr[i] ^ text.ptr[i]);
    return difference == 0;
}
