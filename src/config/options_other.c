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
     .fallback = true,
     .doc = "`true` lets calls through that change something. Read-only mode is not built yet, so "
            "`true` is the only value that is accepted."},

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
