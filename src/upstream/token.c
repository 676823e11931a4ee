/*
 * Tokens of callers, and which one an instance uses by itself.
 *
 * An instance belongs to one principal (share = "all" is refused for these servers), so whatever
 * token is given to it is one of that principal. Clients renew their tokens during a session, and
 * may have several: each call is sent with the one that came with it, and the handshake, lists and
 * streams with the one that ends last. When that has ended they are not sent at all, until a caller
 * brings another one.
 */
#include "private.h"

/* What the operator has to look at is in the log, and in `cardea status` where it lasts. */
const char *token_lack(enum oauth_lack lack) {
    switch (lack) {
    case OAUTH_LACK_REFUSED:
        return "the authorization server gives no token for this upstream to you; ask whoever runs "
               "it for the right to use it, or sign in again";
    case OAUTH_LACK_CLIENT:
    case OAUTH_LACK_CHALLENGE:
        return "the gateway gets no token for this upstream: its credentials are refused, or "
               "configured wrongly; its operator finds the reason in the log";
    case OAUTH_LACK_UNREACHABLE:
        return "the gateway gets no token for this upstream: the authorization server does not "
               "answer as it should; try again later";
    case OAUTH_LACK_MEMORY:
        return "the gateway is out of memory, and did not send the call; try again later";
    }
    return "";
}

bool upstream_wants_token(const struct upstream *upstream) {
    enum config_upstream_auth type = upstream->config->auth_type;
    return type == CONFIG_UPSTREAM_AUTH_FORWARD || type == CONFIG_UPSTREAM_AUTH_EXCHANGE;
}

/* With the lock: the one that has not ended; one that has is given up (*ret_ended). */
static struct oauth_token *look(struct upstream_instance *instance,
                                struct oauth_token **ret_ended) {
    struct oauth_token *token = instance->token;
    if (token == NULL || !oauth_token_has_ended(token))
        return token;
    *ret_ended = TAKE(instance->token);
    upstream_note_change(instance->upstream);
    return NULL;
}

struct oauth_token *instance_token(struct upstream_instance *instance) {
    struct oauth_token *ended = NULL;
    pthread_mutex_lock(&instance->upstream->mutex);
    struct oauth_token *token = oauth_token_ref(look(instance, &ended));
    pthread_mutex_unlock(&instance->upstream->mutex);
    oauth_token_unref(ended);
    return token;
}

void instance_drop_token(struct upstream_instance *instance) {
    pthread_mutex_lock(&instance->upstream->mutex);
    struct oauth_token *token = TAKE(instance->token), *refused = TAKE(instance->refused_token);
    pthread_mutex_unlock(&instance->upstream->mutex);
    oauth_token_unref(token);
    oauth_token_unref(refused);
}

void instance_refuse_token(struct upstream_instance *instance) {
    struct oauth_token *gone = NULL, *tried = TAKE(instance->tried_token);
    pthread_mutex_lock(&instance->upstream->mutex);
    struct oauth_token *old = instance->refused_token;
    if (tried != NULL && instance->token != NULL &&
        oauth_token_is(instance->token, oauth_token_text(tried)))
        gone = TAKE(instance->token);
    bool has_another = instance->token != NULL;
    instance->refused_token = tried;
    pthread_mutex_unlock(&instance->upstream->mutex);
    oauth_token_unref(old);
    oauth_token_unref(gone);
    if (has_another) /* which came while it was tried */
        upstream_instance_start(instance);
    else
        atomic_store(&instance->waits_for_token, true);
}

void instance_retry_token(struct upstream_instance *instance) {
    pthread_mutex_lock(&instance->upstream->mutex);
    struct oauth_token *old = TAKE(instance->refused_token);
    if (instance->token == NULL)
        instance->token = TAKE(old);
    pthread_mutex_unlock(&instance->upstream->mutex);
    oauth_token_unref(old);
}

/* The flag is set before it looks, and read by those who bring one afterwards: so that one of the
 * two sees the other. */
bool instance_lacks_token(struct upstream_instance *instance) {
    if (!upstream_wants_token(instance->upstream))
        return false;
    atomic_store(&instance->waits_for_token, true);
    struct oauth_token *token = instance_token(instance);
    oauth_token_unref(instance->tried_token);
    instance->tried_token = token;
    if (token == NULL)
        return true;
    atomic_store(&instance->waits_for_token, false);
    return false;
}

void instance_keep_token(struct upstream_instance *instance, struct oauth_token *token) {
    struct oauth_token *ended = NULL, *old = NULL;
    if (token == NULL || oauth_token_has_ended(token))
        return;
    pthread_mutex_lock(&instance->upstream->mutex);
    struct oauth_token *known = look(instance, &ended);
    const struct oauth_token *refused = instance->refused_token;
    if (refused != NULL && oauth_token_is(refused, oauth_token_text(token))) {
        pthread_mutex_unlock(&instance->upstream->mutex);
        oauth_token_unref(ended);
        return; /* it is tried again when the pause is over */
    }
    if (known == NULL) /* what upstream_instance_status() says of its start is something else now */
        upstream_note_change(instance->upstream);
    if (known == NULL || oauth_token_ends(token) >= oauth_token_ends(known)) {
        old = known;
        instance->token = oauth_token_ref(token);
    }
    pthread_mutex_unlock(&instance->upstream->mutex);
    oauth_token_unref(ended);
    oauth_token_unref(old);
    if (known == NULL && atomic_exchange(&instance->waits_for_token, false))
        upstream_instance_start(instance);
}

struct oauth_token *upstream_instance_take_token(struct upstream_instance *instance,
                                                 struct slice text, uint64_t ends_wall_ms) {
    struct oauth_token *token = instance_token(instance);
    if (token != NULL && oauth_token_is(token, text))
        return token;
    oauth_token_unref(token);
    token = oauth_token_new(text, ends_wall_ms);
    instance_keep_token(instance, token);
    return token;
}
