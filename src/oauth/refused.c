/*
 * What a server says when it refuses a token: 401, or 403 with insufficient_scope (RFC 6750 section
 * 3, RFC 9728 section 5.1, MCP "Scope Challenge Handling").
 *
 * A server could use this to make us ask the authorization server without end. So a token that was
 * refused goes, but no more than a few of a subject in a row and one in TOKENS_DROP_MS then:
 * further ones stay, and so does the refusal. And scopes are asked for once: those that were denied
 * are not asked for again for a while, others then no more often than tokens go, and of many no
 * more than LIMIT_SCOPES.
 *
 * Any thread; with the source's mutex held where it looks at the source.
 */
#include "base/limits.h"
#include "http/challenge.h"
#include "tokens.h"

struct said {
    bool is_about_scope; /* 403, and that is why */
    struct buf scopes, named, error;
};

static void get(const struct http_challenge *challenge, struct slice name, struct buf *out) {
    if (http_challenge_get(challenge, name, out) != 0)
        buf_reset(out, 0);
}

static bool is_url(struct slice text) {
    struct uri uri;
    return uri_parse(text, &uri, NULL) == 0 && uri.has_authority && !uri.has_userinfo;
}

/* What is malformed was not said. */
static void read_challenge(const struct http_head *head, struct said *said) {
    struct http_challenge challenge;
    struct buf scopes CLEANUP(buf_deinit) = BUF_INIT(LIMIT_HTTP_FIELD_LINE);
    if (http_challenge_find(head, SLICE("Bearer"), &challenge) != 0)
        return;
    get(&challenge, SLICE("error"), &said->error);
    get(&challenge, SLICE("resource_metadata"), &said->named);
    get(&challenge, SLICE("scope"), &scopes);
    if (oauth_scopes_add(&said->scopes, buf_slice(&scopes)) != 0)
        buf_reset(&said->scopes, 0);
    if (!is_url(buf_slice(&said->named)))
        buf_reset(&said->named, 0);
    said->is_about_scope =
        head->status == 403 && slice_eq(buf_slice(&said->error), SLICE("insufficient_scope"));
}

/* True: one more may be dropped. */
static bool take_drop(struct oauth_subject *subject, uint64_t now_ms) {
    uint64_t n_back = (now_ms - subject->dropped_ms) / TOKENS_DROP_MS;
    if (n_back != 0) {
        subject->n_drops = n_back < subject->n_drops ? subject->n_drops - (unsigned)n_back : 0;
        subject->dropped_ms = now_ms;
    }
    if (subject->n_drops == TOKENS_DROPS)
        return false;
    if (subject->n_drops++ == 0)
        subject->dropped_ms = now_ms;
    return true;
}

/* Both may be the same. False: there is no memory, and `to` is empty. */
static bool replace(struct buf *to, struct slice by) {
    struct buf fresh = BUF_INIT(to->max);
    bool is_done = buf_append(&fresh, by) == 0;
    buf_deinit(to);
    if (is_done)
        *to = fresh;
    else
        buf_deinit(&fresh);
    return is_done;
}

/* --- 401 --- */

/* What the next one is asked for with: RFC 9728 section 5.1. */
static void learn(struct oauth_source *source, struct said *said) {
    struct slice named = buf_slice(&said->named);
    if (buf_len(&source->fixed_scopes) == 0 && buf_len(&said->scopes) != 0)
        (void)!replace(&source->challenge_scopes, buf_slice(&said->scopes));
    if (named.len == 0 || slice_eq(named, buf_slice(&source->named)))
        return;
    if (!replace(&source->named, named))
        return;
    source->is_stale = true;
    if (source->failure.lack == OAUTH_LACK_CHALLENGE) /* that was what it lacked */
        source->failure.until_ms = 0;
}

static bool drop(struct oauth_source *source, struct oauth_subject *subject, struct said *said,
                 uint64_t now_ms) {
    if (!take_drop(subject, now_ms))
        return false;
    learn(source, said);
    subject_drop_token(subject);
    return true;
}

/* --- 403 --- */

/* Those that the token has and those that the server wants (MCP 2026-07-28, "Step-Up Authorization
 * Flow"). */
static bool step_up(struct oauth_source *source, struct oauth_subject *subject, struct slice scopes,
                    uint64_t now_ms) {
    struct buf both CLEANUP(buf_deinit) = BUF_INIT(OAUTH_SCOPES_TEXT);
    struct buf tried CLEANUP(buf_deinit) = BUF_INIT(2 * OAUTH_SCOPES_TEXT + 1);
    if (buf_len(&source->fixed_scopes) != 0 || scopes.len == 0)
        return false;
    bool was_denied =
        buf_len(&subject->denied) != 0 && now_ms - subject->denied_ms < TOKENS_DENIED_MS;
    buf_append(&tried, buf_slice(&subject->asked));
    buf_append_byte(&tried, ' ');
    if (was_denied)
        buf_append(&tried, buf_slice(&subject->denied));
    if (buf_error(&tried) != 0 || oauth_scopes_has(buf_slice(&tried), scopes))
        return false;
    buf_append(&both, buf_slice(&subject->asked));
    if (oauth_scopes_add(&both, scopes) != 0)
        return false;
    /* Scopes that are granted come to an end by their number. */
    if (was_denied && !take_drop(subject, now_ms))
        return false;
    if (!replace(&subject->wanted, buf_slice(&both)))
        return false;
    subject->is_stepping = true;
    subject_drop_token(subject);
    return true;
}

static bool refused(struct oauth_source *source, struct oauth_subject *subject,
                    const struct oauth_token *token, struct said *said) {
    uint64_t now = tokens_now(source->tokens);
    /* Another one has been got since, or is about to be. */
    if (subject == NULL || subject->token != token)
        return !source->is_closed;
    return said->is_about_scope ? step_up(source, subject, buf_slice(&said->scopes), now)
                                : drop(source, subject, said, now);
}

bool oauth_source_refused(struct oauth_source *source, struct oauth_token *subject,
                          struct oauth_token *token, const struct http_head *head) {
    struct said said = {.scopes = BUF_INIT(OAUTH_SCOPES_TEXT),
                        .named = BUF_INIT(LIMIT_URI),
                        .error = BUF_INIT(LIMIT_HTTP_FIELD_LINE)};
    bool helps = false;
    read_challenge(head, &said);
    if (head->status == 401 || said.is_about_scope) {
        pthread_mutex_lock(&source->mutex);
        helps = refused(source, subject_find(source, subject), token, &said);
        pthread_mutex_unlock(&source->mutex);
    }
    buf_deinit(&said.scopes);
    buf_deinit(&said.named);
    buf_deinit(&said.error);
    return helps;
}
