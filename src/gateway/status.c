#include "private.h"

struct upstream_instance *gw_own_instance(struct gateway *gateway, struct upstream *upstream) {
    struct slice owner =
        gateway->config->auth_anonymous ? gateway->anonymous.id : gateway->local.id;
    if (upstream_config(upstream)->share == CONFIG_SHARE_SESSION && !gateway->is_local)
        return NULL;
    return upstream_get(upstream, owner, SLICE_EMPTY, gateway->workers[0].upstreams);
}

bool gateway_is_settled(struct gateway *gateway) {
    bool is_settled = true;
    for (size_t i = 0; i < upstream_set_count(gateway->upstreams); i++) {
        struct upstream_instance *instance =
            gw_own_instance(gateway, upstream_set_at(gateway->upstreams, i));
        if (instance == NULL)
            continue;
        struct upstream_status status;
        upstream_instance_status(instance, &status);
        is_settled = is_settled && !status.is_first_start;
        catalog_unref(status.catalog);
        upstream_instance_unref(instance);
    }
    return is_settled;
}

static void write_tools(struct json_writer *writer, const struct upstream_status *status) {
    json_key(writer, SLICE("tools"));
    json_array_begin(writer);
    if (status->is_listed) {
        const struct catalog_list *list = status->catalog->lists[MCP_LIST_TOOLS];
        for (size_t i = 0; i < list->n_items; i++)
            json_string(writer, list->items[i].exposed);
    }
    json_array_end(writer);
}

int gateway_write_status(struct gateway *gateway, struct buf *out) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("address"), slice_from_cstr(gateway->address.text));
    json_kv_u64(&writer, SLICE("workers"), gateway->n_workers);
    json_kv_u64(&writer, SLICE("sessions"), atomic_load(&gateway->sessions.count));
    json_kv_u64(&writer, SLICE("held"), budget_held(&gateway->budget));
    json_key(&writer, SLICE("upstreams"));
    json_array_begin(&writer);
    for (size_t i = 0; i < upstream_set_count(gateway->upstreams); i++) {
        struct upstream *upstream = upstream_set_at(gateway->upstreams, i);
        struct upstream_instance *instance = gw_own_instance(gateway, upstream);
        json_object_begin(&writer);
        json_kv_string(&writer, SLICE("name"), upstream_name(upstream));
        if (instance == NULL) {
            json_kv_string(&writer, SLICE("state"), SLICE("per session"));
        } else {
            struct upstream_status status;
            upstream_instance_status(instance, &status);
            json_kv_string(&writer, SLICE("state"),
                           slice_from_cstr(upstream_state_name(status.state)));
            if (status.error[0] != '\0')
                json_kv_string(&writer, SLICE("error"), slice_from_cstr(status.error));
            write_tools(&writer, &status);
            catalog_unref(status.catalog);
            upstream_instance_unref(instance);
        }
        json_object_end(&writer);
    }
    json_array_end(&writer);
    json_object_end(&writer);
    return buf_error(out);
}
