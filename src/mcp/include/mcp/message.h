/*
 * JSON-RPC 2.0 messages as MCP uses them (no params arrays, no null or fractional ids; MCP
 * 2025-11-25 basic), read strictly from one JSON document. What matters to the gateway is on the
 * reader's tape; the rest stays a span.
 *
 * So that no other parser can read a message differently, a key of the envelope, of params or of
 * _meta that equals a protocol key only after unescaping or Unicode case folding is refused.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "json/reader.h"
#include "mcp/protocol.h"

enum mcp_kind { MCP_REQUEST, MCP_NOTIFICATION, MCP_RESULT, MCP_ERROR };

/* All spans point into the document, nodes to the reader's tape. */
struct mcp_message {
    enum mcp_kind kind;
    struct slice id; /* as written, with quotes; empty for notifications and errors without one */
    enum mcp_method method;         /* requests and notifications */
    struct slice method_text;       /* between the quotes, or mcp_method_name() */
    const struct json_node *params; /* opened object, or NULL */
    const struct json_node *meta;   /* params._meta, opened object, or NULL */
    struct slice result;            /* MCP_RESULT: the object as written */
    struct slice error;             /* MCP_ERROR: the object as written */
};

struct mcp_refusal {
    enum mcp_error_code code; /* MCP_E_PARSE or MCP_E_INVALID_REQUEST */
    const char *reason;       /* a fixed sentence */
    struct slice id;          /* of the refused message when it had a valid one */
};

/* 0; MCP_E_REFUSED with *ret_refusal; -ENOMEM. */
enum { MCP_E_REFUSED = 1 };
MUST_CHECK int mcp_message_read(struct json_reader *reader, struct slice document,
                                struct mcp_message *ret_message, struct mcp_refusal *ret_refusal);

/*
 * True when the document is a JSON array, by its first byte: a batch (2025-03-26 only).
 * mcp_batch_split() checks it as a whole and hands out the spans of its elements. MCP_E_REFUSED,
 * -ENOMEM.
 */
bool mcp_is_batch(struct slice document);
MUST_CHECK int mcp_batch_split(struct json_reader *reader, struct slice document,
                               struct slice *elements, size_t max_elements, size_t *ret_count,
                               struct mcp_refusal *ret_refusal);

/* A member of params by key and type, or NULL. */
const struct json_node *mcp_param(const struct json_reader *reader,
                                  const struct mcp_message *message, struct slice key,
                                  enum json_type type);

/* Two spellings of one id give the same key: "i42", "sabc". */
MUST_CHECK int mcp_id_key(struct buf *out, struct slice id);

/* Writing: one compact line each, without the line end. `params` may be empty. All are JSON already
 * but method. */
int mcp_write_request(struct buf *out, struct slice id, enum mcp_method method,
                      struct slice params);
int mcp_write_notification(struct buf *out, enum mcp_method method, struct slice params);
int mcp_write_result(struct buf *out, struct slice id, struct slice result);
/* The same up to the result, behind which the caller writes it and one '}'. */
int mcp_write_result_begin(struct buf *out, struct slice id);
int mcp_write_error_object(struct buf *out, struct slice id, struct slice error);
/* An error of ours; an empty id leaves the member out; `data` is JSON or empty. */
int mcp_write_error(struct buf *out, struct slice id, enum mcp_error_code code, struct slice text,
                    struct slice data);
/* A tool's refusal: a result object with isError and one text (MCP 2025-11-25 server/tools). */
int mcp_write_tool_error(struct buf *out, struct slice text);

/*
 * JSON may hold line ends between its tokens, where stdio ends a message and SSE a field: makes
 * them spaces, from `from` on.
 */
void mcp_make_one_line(struct buf *json, size_t from);

/* Replaces spans of a document. `edits` are sorted and do not overlap; each span lies in the
 * document. */
struct mcp_edit {
    struct slice span;
    struct slice replacement;
};
int mcp_splice(struct buf *out, struct slice document, const struct mcp_edit *edits,
               size_t n_edits);
