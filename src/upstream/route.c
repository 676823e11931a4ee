/* Routes: what all requests of one session have in common. */
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "private.h"

struct route *route_new(const struct route *from) {
    struct counted_route *route =
        mem_xalloc(sizeof *route + from->session.len + from->partition.len);
    atomic_init(&route->refs, 1);
    route->route = *from;
    upstream_ref(from->upstream);
    if (from->session.len != 0)
        memcpy(route->bytes, from->session.ptr, from->session.len);
    if (from->partition.len != 0)
        memcpy(route->bytes + from->session.len, from->partition.ptr, from->partition.len);
    route->route.session = slice_make(route->bytes, from->session.len);
    route->route.partition = slice_make(route->bytes + from->session.len, from->partition.len);
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
