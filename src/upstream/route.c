/* Routes: what all requests of one session have in common. */
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "private.h"

static struct slice keep(char **at, struct slice bytes) {
    struct slice kept = slice_make(*at, bytes.len);
    if (bytes.len != 0)
        memcpy(*at, bytes.ptr, bytes.len);
    *at += bytes.len;
    return kept;
}

struct route *route_new(const struct route *from) {
    struct counted_route *route =
        mem_xalloc(sizeof *route + from->session.len + from->partition.len + from->path.len);
    atomic_init(&route->refs, 1);
    route->route = *from;
    upstream_ref(from->upstream);
    char *at = route->bytes;
    route->route.session = keep(&at, from->session);
    route->route.partition = keep(&at, from->partition);
    route->route.path = keep(&at, from->path);
    return &route->route;
}

struct route *route_ref(struct route *route) {
    atomic_fetch_add(&CONTAINER_OF(route, struct counted_route, route)->refs, 1);
    return route;
}

struct route *route_unref(struct route *route) {
    if (route == NULL)
        return NULL;
    struct counted_route *counted = CONTAINER_OF(route, struct counted_route, route);
    if (atomic_fetch_sub(&counted->refs, 1) == 1) {
        upstream_unref(route->upstream);
        mem_free(counted);
    }
    return NULL;
}
