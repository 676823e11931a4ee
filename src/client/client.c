/*
 * The client and what it keeps. Finding a connection for a request is one look into a hash map;
 * its pool hands out the one that was used last, so that the others grow old and go, and what is
 * left are as many as are needed.
 */
#include <errno.h>

#include "base/limits.h"
#include "base/mem.h"
#include "private.h"

int client_new(const struct client_options *options, struct client **ret_client) {
    struct client *client = mem_alloc(sizeof *client);
    if (client == NULL)
        return -ENOMEM;
    client->loop = options->loop;
    client->log = options->log;
    map_init(&client->pools);
    buf_init(&client->key, SIZE_MAX);
    list_init(&client->connections);
    list_init(&client->kept);
    int error = io_resolver_new(options->loop, &client->resolver);
    if (error != 0) {
        client_free(client);
        return error;
    }
    if (options->tls != NULL)
        client->tls = io_tls_ref(options->tls);
    *ret_client = client;
    return 0;
}

struct client *client_free(struct client *client) {
    if (client == NULL)
        return NULL;
    while (!list_is_empty(&client->connections)) {
        struct client_connection *connection =
            CONTAINER_OF(list_first(&client->connections), struct client_connection, link);
        if (connection->call != NULL)
            client_cancel(connection->call);
        else
            client_connection_free(connection);
    }
    io_resolver_free(client->resolver);
    io_tls_unref(client->tls);
    map_deinit(&client->pools);
    buf_deinit(&client->key);
    mem_free(client);
    return NULL;
}

size_t client_count_connections(const struct client *client) {
    return client->n_connections;
}

/* --- pools --- */

static struct client_pool *pool_new(struct client *client, const struct client_target *target,
                                    struct slice key) {
    struct slice origin = target->origin.name;
    struct client_pool *pool = mem_alloc(sizeof *pool + key.len + origin.len);
    if (pool == NULL)
        return NULL;
    memcpy(pool->text, key.ptr, key.len);
    memcpy(pool->text + key.len, origin.ptr, origin.len);
    pool->client = client;
    pool->key = slice_make(pool->text, key.len);
    pool->origin = slice_make(pool->text + key.len, origin.len);
    list_init(&pool->kept);
    if (map_set(&client->pools, pool->key, pool) != 0) {
        mem_free(pool);
        return NULL;
    }
    return pool;
}

int client_pool_get(struct client *client, const struct client_target *target,
                    struct slice partition, struct client_pool **ret_pool) {
    buf_reset(&client->key, KIB(1));
    buf_append(&client->key, slice_make(target->id, sizeof target->id));
    int error = buf_append(&client->key, partition);
    if (error != 0)
        return error;
    struct client_pool *pool = map_get(&client->pools, buf_slice(&client->key));
    if (pool == NULL)
        pool = pool_new(client, target, buf_slice(&client->key));
    if (pool == NULL)
        return -ENOMEM;
    *ret_pool = pool;
    return 0;
}

void client_pool_put(struct client_pool *pool) {
    if (pool->n_connections != 0)
        return;
    map_remove(&pool->client->pools, pool->key);
    mem_free(pool);
}

void client_pool_forget(struct client_connection *connection) {
    if (!list_is_linked(&connection->pool_link))
        return;
    list_remove(&connection->pool_link);
    list_remove(&connection->kept_link);
    connection->pool->n_kept--;
    connection->client->n_kept--;
}

struct client_connection *client_pool_take(struct client_pool *pool) {
    struct list_link *link = list_first(&pool->kept);
    if (link == NULL)
        return NULL;
    struct client_connection *connection = CONTAINER_OF(link, struct client_connection, pool_link);
    client_pool_forget(connection);
    return connection;
}

void client_pool_keep(struct client_connection *connection, uint64_t idle_ms) {
    struct client_pool *pool = connection->pool;
    struct client *client = connection->client;
    list_push_front(&pool->kept, &connection->pool_link);
    list_push_front(&client->kept, &connection->kept_link);
    pool->n_kept++;
    client->n_kept++;
    client_connection_enter(connection, CLIENT_IDLE);
    io_timer_start(connection->timer, idle_ms);
    /* The oldest make room. There is more than one in both cases, so it is not this one. */
    if (pool->n_kept > LIMIT_KEPT_CONNECTIONS)
        client_connection_free(
            CONTAINER_OF(pool->kept.ring.prev, struct client_connection, pool_link));
    if (client->n_kept > LIMIT_KEPT_IN_ALL)
        client_connection_free(
            CONTAINER_OF(client->kept.ring.prev, struct client_connection, kept_link));
}
