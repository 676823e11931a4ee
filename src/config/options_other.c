/* [security], and what is known and not built yet or not for us. */
#include "option_rows.h"

#define OTLP(name)                                                                                 \
    INNER(name, TABLE), INNER(name ".enabled", BOOL), INNER(name ".endpoint", STRING),             \
        INNER(name ".protocol", STRING), INNER(name ".timeout", STRING),                           \
        INNER(name ".grpc", TABLE), INNER(name ".grpc.headers", ANY),                              \
        INNER(name ".grpc.tls", TABLE), INNER(name ".grpc.tls.domain_name", STRING),               \
        INNER(name ".grpc.tls.key", STRING), INNER(name ".grpc.tls.cert", STRING),                 \
        INNER(name ".grpc.tls.ca", STRING), INNER(name ".http", TABLE),                            \
        INNER(name ".http.headers", ANY), INNER(name ".batch_export", TABLE),                      \
        INNER(name ".batch_export.scheduled_delay", STRING),                                       \
        INNER(name ".batch_export.max_queue_size", INTEGER),                                       \
        INNER(name ".batch_export.max_export_batch_size", INTEGER),                                \
        INNER(name ".batch_export.max_concurrent_exports", INTEGER)
#define EXPORTERS(name) INNER(name, TABLE), OTLP(name ".otlp")

const struct option option_other_rows[] = {
    {.path = "security", .type = OPTION_TABLE, .doc = "What the gateway lets through."},
    {.path = "security.edit_mode",
     .type = OPTION_BOOL,
     OF_CONFIG(edit_mode),
     .fallback = false,
     .doc = "`false`: a tool is called only when it is a read (`mcp.servers.NAME.access`, "
            "`mcp.servers.NAME.tools.TOOL.access`); `cardea classify` writes these lines. `true`: "
            "writes "
            "are let through, too. `cardea edit on` opens the running gateway for a while, "
            "without a change to the file."},
    {.path = "security.trust_annotations",
     .type = OPTION_BOOL,
     OF_CONFIG(trust_annotations),
     .doc = "`true` takes a server's word (`readOnlyHint`) that a tool is a read, for the "
            "definition that was seen first; a definition that changed is a write again. With "
            "`false` only this file says so."},
    {.path = "security.hide_denied",
     .type = OPTION_BOOL,
     OF_CONFIG(hide_denied),
     .fallback = true,
     .doc = "What is locked because it writes is not listed. `false`: it is listed, and says "
            "that it is locked. What a caller's groups do not allow is never "
            "listed."},
    {.path = "security.whitelist",
     .type = OPTION_LIST,
     OF_CONFIG(whitelist),
     .count_offset = offsetof(struct config, n_whitelist),
     .max = LIMIT_WHITELIST,
     .check = check_whitelisted,
     .doc = "The writes that edit mode lets through, as `server__tool` with the name that the "
            "server gives the tool; with an empty list all of them."},
    {.path = "security.allow_networks",
     .type = OPTION_LIST,
     OF_CONFIG(allow_networks),
     .count_offset = offsetof(struct config, n_allow_networks),
     .max = LIMIT_ALLOW_NETWORKS,
     .check = check_network,
     .doc = "Networks (CIDR) that an address may be in which the gateway was told by others: in "
            "metadata, redirects and the like. Without this line only public addresses are "
            "connected to, over https; what this file names itself needs no line here."},

    {.path = "telemetry",
     .type = OPTION_TABLE,
     .status = OPTION_IGNORED,
     .why = "traces, metrics and logs are not exported yet"},
    INNER("telemetry.enabled", BOOL),
    INNER("telemetry.service_name", STRING),
    INNER("telemetry.resource_attributes", MAP),
    EXPORTERS("telemetry.exporters"),
    INNER("telemetry.tracing", TABLE),
    INNER("telemetry.tracing.sampling", NUMBER),
    INNER("telemetry.tracing.parent_based_sampler", BOOL),
    INNER("telemetry.tracing.collect", TABLE),
    INNER("telemetry.tracing.collect.max_events_per_span", INTEGER),
    INNER("telemetry.tracing.collect.max_attributes_per_span", INTEGER),
    INNER("telemetry.tracing.collect.max_links_per_span", INTEGER),
    INNER("telemetry.tracing.collect.max_attributes_per_event", INTEGER),
    INNER("telemetry.tracing.collect.max_attributes_per_link", INTEGER),
    INNER("telemetry.tracing.propagation", TABLE),
    INNER("telemetry.tracing.propagation.trace_context", BOOL),
    INNER("telemetry.tracing.propagation.aws_xray", BOOL),
    EXPORTERS("telemetry.tracing.exporters"),
    INNER("telemetry.metrics", TABLE),
    EXPORTERS("telemetry.metrics.exporters"),
    INNER("telemetry.logs", TABLE),
    EXPORTERS("telemetry.logs.exporters"),

    {.path = "llm",
     .type = OPTION_ANY,
     .status = OPTION_IGNORED,
     .why = "Cardea is a gateway for MCP and does not route models"},
};
const size_t option_other_count = ARRAY_LEN(option_other_rows);
