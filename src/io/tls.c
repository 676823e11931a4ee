/*
 * What contexts for clients (tls_client.c) and for servers (tls_server.c) have in common: their
 * settings, their life, and that streams may have to wait for them.
 *
 * The mutex guards is_loaded and the waiters, and is held while they are posted: so whoever frees a
 * stream knows that the message is either not posted at all or already in the mailbox of a loop
 * that still lives.
 */
#include "io/tls.h"

#include "base/mem.h"
#include "tls_private.h"

const unsigned char tls_alpn[] = "\x08http/1.1";
const char tls_no_context[] = "TLS cannot be set up on this machine";

/*
 * No tickets and no cache: every connection proves everything anew, and what would open recorded
 * connections later does not exist. MCP's clients keep their connections.
 */
bool tls_set_up(SSL_CTX *context, const char *ciphers) {
    SSL_CTX_set_options(context,
                        SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(context, ciphers) == 1;
}

struct io_tls *tls_new(void) {
    struct io_tls *tls = mem_xalloc(sizeof *tls);
    atomic_init(&tls->refs, 1);
    pthread_mutex_init(&tls->mutex, NULL);
    list_init(&tls->waiters);
    return tls;
}

struct io_tls *io_tls_ref(struct io_tls *tls) {
    atomic_fetch_add(&tls->refs, 1);
    return tls;
}

struct io_tls *io_tls_unref(struct io_tls *tls) {
    if (tls != NULL && atomic_fetch_sub(&tls->refs, 1) == 1) {
        if (tls->has_loader)
            pthread_join(tls->loader, NULL);
        SSL_CTX_free(tls->context);
        pthread_mutex_destroy(&tls->mutex);
        mem_free(tls->ca_file);
        mem_free(tls->env_file);
        mem_free(tls->env_directory);
        mem_free(tls->cert_file);
        mem_free(tls->key_file);
        mem_free(tls);
    }
    return NULL;
}

void tls_loaded(struct io_tls *tls, int error) {
    struct list_link *link;
    pthread_mutex_lock(&tls->mutex);
    tls->error = error;
    tls->is_loaded = true;
    while ((link = list_pop_front(&tls->waiters)) != NULL) {
        struct tls_waiter *waiter = CONTAINER_OF(link, struct tls_waiter, message.link);
        waiter->is_waiting = false;
        io_loop_post(waiter->loop, &waiter->message);
    }
    pthread_mutex_unlock(&tls->mutex);
}

void tls_wait(struct io_tls *tls, struct tls_waiter *waiter) {
    int error = 0;
    pthread_mutex_lock(&tls->mutex);
    waiter->is_waiting = !tls->is_loaded;
    if (waiter->is_waiting)
        list_push_back(&tls->waiters, &waiter->message.link);
    else
        io_loop_post(waiter->loop, &waiter->message);
    if (tls->is_lazy && !tls->is_loaded) {
        tls->is_lazy = false;
        error = tls_start_loader(tls);
    }
    pthread_mutex_unlock(&tls->mutex);
    if (error != 0) {
        tls->reason = tls_no_context;
        tls_loaded(tls, error);
    }
}

bool tls_wait_cancel(struct io_tls *tls, struct tls_waiter *waiter) {
    pthread_mutex_lock(&tls->mutex);
    bool was_waiting = waiter->is_waiting;
    if (was_waiting)
        list_remove(&waiter->message.link);
    waiter->is_waiting = false;
    pthread_mutex_unlock(&tls->mutex);
    return was_waiting;
}

int tls_context(const struct io_tls *tls, SSL_CTX **ret_context, const char **ret_reason) {
    if (tls->error != 0) {
        *ret_reason = tls->reason;
        return tls->error;
    }
    *ret_context = tls->context;
    return 0;
}
