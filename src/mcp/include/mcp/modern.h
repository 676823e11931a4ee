/*
 * What requests of 2026-07-28 carry beside their message: the envelope in params._meta, and header
 * fields that repeat a part of the body (MCP 2026-07-28, basic/index and
 * basic/transports/streamable-http). Sans-io, like all of mcp/.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "json/reader.h"
#include "mcp/message.h"
#include "mcp/protocol.h"

#define MCP_META_VERSION      SLICE("io.modelcontextprotocol/protocolVersion")
#define MCP_META_CAPABILITIES SLICE("io.modelcontextprotocol/clientCapabilities")
#define MCP_META_CLIENT_INFO  SLICE("io.modelcontextprotocol/clientInfo")
#define MCP_META_SERVER_INFO  SLICE("io.modelcontextprotocol/serverInfo")
#define MCP_META_LOG_LEVEL    SLICE("io.modelcontextprotocol/logLevel")
#define MCP_META_SUBSCRIPTION SLICE("io.modelcontextprotocol/subscriptionId")

/* The envelope. */

struct mcp_envelope {
    enum mcp_revision revision;           /* MCP_REVISION_NONE: one that nobody knows */
    struct slice version;                 /* as written, with quotes */
    const struct json_node *capabilities; /* an opened object */
    const struct json_node *client_info;  /* an object, or NULL */
    int log_level;                        /* -1: not given */
};

/* True when the message claims a revision in its _meta, whatever the claim's shape. */
bool mcp_has_envelope(const struct json_reader *reader, const struct mcp_message *message);
/*
 * Reads it. MCP_E_REFUSED: a required key is missing or has another type than the schema's, the log
 * level is none; *ret_reason names the key. Also for messages without any claim.
 */
MUST_CHECK int mcp_envelope_read(const struct json_reader *reader,
                                 const struct mcp_message *message,
                                 struct mcp_envelope *ret_envelope, const char **ret_reason);

/* Header fields. */

/*
 * The value codec of Mcp-Name and Mcp-Param-*: plain where all bytes are 0x20 to 0x7e or tab, no
 * white space at the ends, and the text does not look like the sentinel; else "=?base64?...?=".
 */
int mcp_field_encode(struct buf *out, struct slice text);
/* The text is its own value, in both directions. */
bool mcp_field_is_plain(struct slice text);
/* MCP_E_REFUSED for a sentinel whose base64 is not strict; the buffer's error. */
MUST_CHECK int mcp_field_decode(struct buf *out, struct slice value);

/* Which params say what Mcp-Name must be: SLICE("name"), SLICE("uri"), SLICE("taskId"), or empty
 * for methods without that field. */
struct slice mcp_named_by(enum mcp_method method);

/*
 * Tool arguments that are repeated as Mcp-Param-NAME: annotated with x-mcp-header in the tool's
 * inputSchema. Memory is the arena's that was given.
 */
enum mcp_mirror_type { MCP_MIRROR_STRING, MCP_MIRROR_INTEGER, MCP_MIRROR_BOOLEAN };

struct mcp_mirror {
    struct slice name;  /* behind "Mcp-Param-", as the schema writes it */
    struct slice *path; /* of the argument: keys, unescaped */
    size_t n_path;
    enum mcp_mirror_type type;
};

struct mcp_mirrors {
    struct mcp_mirror *items;
    size_t n;
    const struct json_want *want; /* opens the objects of arguments that hold the mirrored ones */
};

/*
 * Reads the annotations of an inputSchema (JSON as written; read by `reader`, whose tape is
 * replaced). Looks below `properties` only. MCP_E_REFUSED: an annotation breaks a rule (empty, no
 * token, twice without case, on another type than string, integer, boolean, below another keyword);
 * *ret_reason says which. Documents without the word cost one search. -ENOMEM.
 */
bool mcp_mirrors_possible(struct slice input_schema); /* that search */
MUST_CHECK int mcp_mirrors_read(struct mcp_mirrors *ret_mirrors, struct arena *arena,
                                struct json_reader *reader, struct slice input_schema,
                                const char **ret_reason);

/*
 * Reads arguments (JSON as written, or empty) with `reader`, then for each mirror appends to `out`
 * the field's line "Mcp-Param-NAME: value\r\n"; none for an argument that is absent or null, an
 * object or array, or an integer past 2^53-1. Text, numbers and booleans of another type than the
 * annotated one have their field too: servers ask for it, and say then what is wrong with the type.
 * 0, -ENOMEM, -E2BIG.
 */
MUST_CHECK int mcp_mirrors_write(struct buf *out, const struct mcp_mirrors *mirrors,
                                 struct json_reader *reader, struct slice arguments);

/* A field that the client sent: the part behind "Mcp-Param-", and the value. */
struct mcp_param_field {
    struct slice name;
    struct slice value;
};

/*
 * Holds the fields against the arguments: each mirrored argument has exactly one field that says
 * the same (integers as numbers: 42.0 is 42), what is absent or null, or could not be written, has
 * none. One of another type than the annotated may have a field or none. Fields that no mirror
 * names are not looked at. MCP_E_REFUSED: *ret_reason is a sentence, *ret_name the field's name.
 * -ENOMEM.
 */
MUST_CHECK int mcp_mirrors_check(const struct mcp_mirrors *mirrors, struct json_reader *reader,
                                 struct slice arguments, const struct mcp_param_field *fields,
                                 size_t n_fields, struct slice *ret_name, const char **ret_reason);
