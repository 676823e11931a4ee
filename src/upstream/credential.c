/*
 * Tokens of callers, and which one an instance uses by itself.
 *
 * An instance belongs to one principal (share = "all" is refused for these servers), so whatever
 * token is given to it is one of that principal. Clients renew their tokens during a session, and
 * may have several: each call is sent with the one that came with it, and the handshake, lists and
 * streams with the one that ends last. When that has ended they are not sent at all, until a caller
 * brings another one.
 */
#include "credential.h"

#include <stdatomic.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/secret.h"
#include "http/message.h"
#include "private.h"

struct upstream_credential {
    atomic_uint refs;
    uint64_t ends_wall_ms;
    size_t len;
    char line[];
};

static const struct slice line_begin = SLICE_INIT("Authorization: Bearer ");
static const struct slice line_end = SLICE_INIT("\r\n");

struct upstream_credential *credential_new(struct slice token, uint64_t ends_wall_ms) {
    struct buf value = BUF_INIT(LIMIT_JWT + 16), line = BUF_INIT(LIMIT_JWT + 64);
    struct upstream_credential *credential = NULL;
    (void)!buf_append(&value, SLICE("Bearer "));
    int error = buf_append(&value, token);
    if (error == 0)
        error = http_write_field(&line, SLICE("Authorization"), buf_slice(&value));
    if (error == 0)
        credential = mem_alloc(sizeof *credential + buf_len(&line));
    if (credential != NULL) {
        atomic_init(&credential->refs, 1);
        credential->ends_wall_ms = ends_wall_ms;
        credential->len = buf_len(&line);
        memcpy(credential->line, buf_slice(&line).ptr, credential->len);
    }
    if (value.data != NULL)
        secret_wipe(value.data, value.cap);
    if (line.data != NULL)
        secret_wipe(line.data, line.cap);
    buf_deinit(&value);
    buf_deinit(&line);
    return credential;
}

struct upstream_credential *credential_ref(struct upstream_credential *credential) {
    if (credential != NULL)
        atomic_fetch_add(&credential->refs, 1);
    return credential;
}

struct upstream_credential *upstream_credential_unref(struct upstream_credential *credential) {
    if (credential != NULL && atomic_fetch_sub(&credential->refs, 1) == 1) {
        secret_wipe(credential->line, credential->len);
        mem_free(credential);
    }
    return NULL;
}

void upstream_credential_unrefp(struct upstream_credential **credential) {
    *credential = upstream_credential_unref(*credential);
}

uint64_t credential_time_left(const struct upstream_credential *credential) {
    uint64_t now = clock_wall_ms();
    if (credential->ends_wall_ms == UINT64_MAX)
        return UINT64_MAX;
    return credential->ends_wall_ms > now ? credential->ends_wall_ms - now : 0;
}

bool credential_has_ended(const struct upstream_credential *credential) {
    return credential_time_left(credential) == 0;
}

struct slice credential_line(const struct upstream_credential *credential) {
    return slice_make(credential->line, credential->len);
}

bool credential_is(const struct upstream_credential *credential, struct slice token) {
    struct slice line = credential_line(credential);
    size_t around = line_begin.len + line_end.len;
    unsigned char difference = 0;
    if (line.len != token.len + around)
        return false;
    for (size_t i = 0; i < token.len; i++)
        difference |= (unsigned char)(line.ptr[line_begin.len + i] ^ token.ptr[i]);
    return difference == 0;
}

/* --- of an instance --- */

bool upstream_wants_credential(const struct upstream *upstream) {
    return upstream->config->auth_type == CONFIG_UPSTREAM_AUTH_FORWARD;
}

/* With the lock: the one that has not ended; one that has is given up (*ret_ended). */
static struct upstream_credential *look(struct upstream_instance *instance,
                                        struct upstream_credential **ret_ended) {
    struct upstream_credential *credential = instance->credential;
    if (credential == NULL || !credential_has_ended(credential))
        return credential;
    *ret_ended = TAKE(instance->credential);
    upstream_note_change(instance->upstream);
    return NULL;
}

struct upstream_credential *instance_credential(struct upstream_instance *instance) {
    struct upstream_credential *ended = NULL;
    pthread_mutex_lock(&instance->upstream->mutex);
    struct upstream_credential *credential = credential_ref(look(instance, &ended));
    pthread_mutex_unlock(&instance->upstream->mutex);
    upstream_credential_unref(ended);
    return credential;
}

void instance_drop_credential(struct upstream_instance *instance) {
    pthread_mutex_lock(&instance->upstream->mutex);
    struct upstream_credential *credential = TAKE(instance->credential);
    pthread_mutex_unlock(&instance->upstream->mutex);
    upstream_credential_unref(credential);
}

/* The flag is set before it looks, and read by those who bring one afterwards: so that one of the
 * two sees the other. */
bool instance_lacks_credential(struct upstream_instance *instance) {
    if (!upstream_wants_credential(instance->upstream))
        return false;
    atomic_store(&instance->waits_for_credential, true);
    CLEANUP(upstream_credential_unrefp)
    struct upstream_credential *credential = instance_credential(instance);
    if (credential == NULL)
        return true;
    atomic_store(&instance->waits_for_credential, false);
    return false;
}

void instance_keep_credential(struct upstream_instance *instance,
                              struct upstream_credential *credential) {
    struct upstream_credential *ended = NULL, *old = NULL;
    if (credential == NULL || credential_has_ended(credential))
        return;
    pthread_mutex_lock(&instance->upstream->mutex);
    struct upstream_credential *known = look(instance, &ended);
    if (known == NULL) /* what upstream_instance_status() says of its start is something else now */
        upstream_note_change(instance->upstream);
    if (known == NULL || credential->ends_wall_ms >= known->ends_wall_ms) {
        old = known;
        instance->credential = credential_ref(credential);
    }
    pthread_mutex_unlock(&instance->upstream->mutex);
    upstream_credential_unref(ended);
    upstream_credential_unref(old);
    if (known == NULL && atomic_exchange(&instance->waits_for_credential, false))
        upstream_instance_start(instance);
}

struct upstream_credential *upstream_instance_take_token(struct upstream_instance *instance,
                                                         struct slice token,
                                                         uint64_t ends_wall_ms) {
    struct upstream_credential *credential = instance_credential(instance);
    if (credential != NULL && credential_is(credential, token))
        return credential;
    upstream_credential_unref(credential);
    credential = credential_new(token, ends_wall_ms);
    instance_keep_credential(instance, credential);
    return credential;
}
