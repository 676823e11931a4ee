#include "mcp/message.h"

#include <errno.h>

#include "base/limits.h"
#include "json/writer.h"
#include "mcp/modern.h"
#include "spelling.h"

/* Members of the envelope, of params and of _meta come on the tape, and of what says in them what a
 * request is about and what its client can do. */
static const struct json_want want_nothing[] = {{0}};
static const struct json_want want_capabilities[] = {{"extensions", want_nothing}, {0}};
static const struct json_want want_meta[] = {
    {"io.modelcontextprotocol/clientCapabilities", want_capabilities},
    {0},
};
static const struct json_want want_params[] = {
    {"_meta", want_meta},
    {"ref", want_nothing},
    {0},
};
static const struct json_want want_envelope[] = {
    {"params", want_params},
    {"error", want_nothing},
    {0},
};

static const struct json_want want_message = {.children = want_envelope};

static int refuse(struct mcp_refusal *refusal, enum mcp_error_code code, const char *reason) {
    refusal->code = code;
    refusal->reason = reason;
    return MCP_E_REFUSED;
}

static int refuse_request(struct mcp_refusal *refusal, const char *reason) {
    return refuse(refusal, MCP_E_INVALID_REQUEST, reason);
}

/* A string or an integer, never null, never a fraction (MCP schema, RequestId). */
static bool is_valid_id(const struct json_node *id) {
    if (id->raw.len > LIMIT_RPC_ID)
        return false;
    if (id->type == JSON_STRING)
        return true;
    if (id->type != JSON_NUMBER)
        return false;
    for (size_t i = 0; i < id->raw.len; i++) {
        char c = id->raw.ptr[i];
        if ((c < '0' || c > '9') && !(i == 0 && c == '-'))
            return false;
    }
    return true;
}

/* What `arguments` hold belongs to the tool or prompt, and may be spelled as it likes. */
static int check_keys(const struct json_reader *reader, const struct mcp_message *message,
                      struct mcp_refusal *refusal) {
    if (mcp_has_other_spelling(reader, message->params, MCP_PLACE_PARAMS, true))
        return refuse_request(refusal, "a key of params is another spelling of a protocol key");
    const struct json_node *ref = json_member(reader, message->params, SLICE("ref"));
    if (ref != NULL && mcp_has_other_spelling(reader, ref, MCP_PLACE_REF, true))
        return refuse_request(refusal, "a key of params.ref is another spelling of a protocol key");
    if (message->meta == NULL)
        return 0;
    if (mcp_has_other_spelling(reader, message->meta, MCP_PLACE_META, true))
        return refuse_request(refusal, "a key of _meta is another spelling of a protocol key");
    const struct json_node *capabilities =
        json_member(reader, message->meta, MCP_META_CAPABILITIES);
    if (capabilities != NULL &&
        mcp_has_other_spelling(reader, capabilities, MCP_PLACE_CAPABILITIES, true))
        return refuse_request(refusal,
                              "a key of clientCapabilities is another spelling of a protocol key");
    return 0;
}

/*
 * Some encoders write "tools\/call" (PHP's by default). That is one spelling more of a known
 * method, and goes on in ours; no other escape has a place in a method's name.
 */
static enum mcp_method parse_method(struct slice text) {
    char plain[LIMIT_RPC_METHOD];
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        bool is_slash = text.ptr[i] == '\\' && i + 1 < text.len && text.ptr[i + 1] == '/';
        plain[len++] = text.ptr[is_slash ? ++i : i];
    }
    return mcp_method_parse(slice_make(plain, len));
}

static int read_call(const struct json_reader *reader, const struct json_node *root,
                     const struct json_node *method, struct mcp_message *message,
                     struct mcp_refusal *refusal) {
    const struct json_node *params = json_member(reader, root, SLICE("params"));
    if (method->type != JSON_STRING)
        return refuse_request(refusal, "method must be a string");
    struct slice text = json_string_raw(method);
    if (text.len == 0 || text.len > LIMIT_RPC_METHOD)
        return refuse_request(refusal, "method must have 1 to 128 bytes");
    enum mcp_method known = parse_method(text);
    if (method->value_escaped && known == MCP_METHOD_UNKNOWN)
        return refuse_request(refusal, "method must be written without escapes");
    if (params != NULL && params->type != JSON_OBJECT)
        return refuse_request(refusal, "params must be an object");
    message->kind = message->id.len != 0 ? MCP_REQUEST : MCP_NOTIFICATION;
    message->method_text = method->value_escaped ? mcp_method_name(known) : text;
    message->method = known;
    message->params = params;
    if (params == NULL)
        return 0;
    message->meta = json_member(reader, params, SLICE("_meta"));
    if (message->meta != NULL && message->meta->type != JSON_OBJECT)
        return refuse_request(refusal, "params._meta must be an object");
    return check_keys(reader, message, refusal);
}

static int read_answer(const struct json_reader *reader, const struct json_node *result,
                       const struct json_node *error, struct mcp_message *message,
                       struct mcp_refusal *refusal) {
    if (result != NULL && error != NULL)
        return refuse_request(refusal, "a message has both result and error");
    if (result != NULL) {
        if (result->type != JSON_OBJECT)
            return refuse_request(refusal, "result must be an object");
        if (message->id.len == 0)
            return refuse_request(refusal, "a result needs an id");
        message->kind = MCP_RESULT;
        message->result = result->raw;
        return 0;
    }
    int64_t code;
    const struct json_node *number =
        error->type == JSON_OBJECT ? json_member_typed(reader, error, SLICE("code"), JSON_NUMBER)
                                   : NULL;
    if (number == NULL || json_to_i64(number, &code) != 0 ||
        json_member_typed(reader, error, SLICE("message"), JSON_STRING) == NULL)
        return refuse_request(refusal,
                              "error must be an object with an integer code and a message");
    message->kind = MCP_ERROR;
    message->error = error->raw;
    return 0;
}

static int read_envelope(const struct json_reader *reader, struct mcp_message *message,
                         struct mcp_refusal *refusal) {
    const struct json_node *root = json_root(reader);
    if (root->type != JSON_OBJECT)
        return refuse_request(refusal, "a message must be a JSON object");
    if (mcp_has_other_spelling(reader, root, MCP_PLACE_ENVELOPE, true))
        return refuse_request(refusal,
                              "a key of the message is another spelling of a protocol key");
    const struct json_node *id = json_member(reader, root, SLICE("id"));
    const struct json_node *method = json_member(reader, root, SLICE("method"));
    const struct json_node *result = json_member(reader, root, SLICE("result"));
    const struct json_node *error = json_member(reader, root, SLICE("error"));
    /* JSON-RPC 2.0 section 5: the answer to what could not be read has a null id. It answers
     * nothing. */
    bool is_null_id = id != NULL && id->type == JSON_NULL && error != NULL;
    if (id != NULL && !is_null_id) {
        if (!is_valid_id(id))
            return refuse_request(refusal, "id must be a string or an integer");
        message->id = id->raw;
        refusal->id = id->raw;
    }
    const struct json_node *version = json_member(reader, root, SLICE("jsonrpc"));
    if (version == NULL || !slice_eq(version->raw, SLICE("\"2.0\"")))
        return refuse_request(refusal, "jsonrpc must be \"2.0\"");
    if (method != NULL) {
        if (result != NULL || error != NULL)
            return refuse_request(refusal, "a message has a method and an answer");
        return read_call(reader, root, method, message, refusal);
    }
    if (result != NULL || error != NULL)
        return read_answer(reader, result, error, message, refusal);
    return refuse_request(refusal, "a message needs a method, a result or an error");
}

int mcp_message_read(struct json_reader *reader, struct slice document,
                     struct mcp_message *ret_message, struct mcp_refusal *ret_refusal) {
    struct json_error json_error = {0};
    struct mcp_message message = {0};
    struct mcp_refusal refusal = {0};
    int error = json_read(reader, document, &want_message, NULL, &json_error);
    if (error < 0)
        return error;
    if (error != 0)
        error = refuse(&refusal, MCP_E_PARSE, json_error.reason);
    else
        error = read_envelope(reader, &message, &refusal);
    if (error == 0)
        *ret_message = message;
    else
        *ret_refusal = refusal;
    return error;
}

bool mcp_is_batch(struct slice document) {
    for (size_t i = 0; i < document.len; i++) {
        char c = document.ptr[i];
        if (c != ' ' && c != '\t' && c != '\r' && c != '\n')
            return c == '[';
    }
    return false;
}

int mcp_batch_split(struct json_reader *reader, struct slice document, struct slice *elements,
                    size_t max_elements, size_t *ret_count, struct mcp_refusal *ret_refusal) {
    struct json_error json_error = {0};
    struct mcp_refusal refusal = {0};
    int error = json_read(reader, document, &json_want_root, NULL, &json_error);
    if (error < 0)
        return error;
    size_t count = 0;
    if (error != 0) {
        error = refuse(&refusal, MCP_E_PARSE, json_error.reason);
    } else if (json_root(reader)->type != JSON_ARRAY) {
        error = refuse_request(&refusal, "a batch must be a JSON array");
    } else {
        for (const struct json_node *node = json_first(reader, json_root(reader));
             node != NULL && error == 0; node = json_next(reader, node)) {
            if (count == max_elements)
                error = refuse_request(&refusal, "the batch has more than 100 messages");
            else
                elements[count++] = node->raw;
        }
        if (error == 0 && count == 0)
            error = refuse_request(&refusal, "the batch is empty");
    }
    if (error == 0)
        *ret_count = count;
    else
        *ret_refusal = refusal;
    return error;
}

const struct json_node *mcp_param(const struct json_reader *reader,
                                  const struct mcp_message *message, struct slice key,
                                  enum json_type type) {
    return message->params != NULL ? json_member_typed(reader, message->params, key, type) : NULL;
}

int mcp_id_key(struct buf *out, struct slice id) {
    if (slice_starts_with(id, SLICE("\""))) {
        buf_append_byte(out, 's');
        return json_unescape(out, slice_sub(id, 1, id.len - 1));
    }
    buf_append_byte(out, 'i');
    return buf_append(out, slice_eq(id, SLICE("-0")) ? SLICE("0") : id);
}

/* Everything that is put in here is JSON already, or a method's name, which needs no escapes. */
static void write_begin(struct buf *out, struct slice id) {
    buf_append(out, SLICE("{\"jsonrpc\":\"2.0\""));
    if (id.len != 0) {
        buf_append(out, SLICE(",\"id\":"));
        buf_append(out, id);
    }
}

int mcp_write_request(struct buf *out, struct slice id, enum mcp_method method,
                      struct slice params) {
    write_begin(out, id);
    buf_append(out, SLICE(",\"method\":\""));
    buf_append(out, mcp_method_name(method));
    buf_append_byte(out, '"');
    if (params.len != 0) {
        buf_append(out, SLICE(",\"params\":"));
        buf_append(out, params);
    }
    return buf_append_byte(out, '}');
}

int mcp_write_notification(struct buf *out, enum mcp_method method, struct slice params) {
    return mcp_write_request(out, SLICE_EMPTY, method, params);
}

int mcp_write_result_begin(struct buf *out, struct slice id) {
    write_begin(out, id);
    return buf_append(out, SLICE(",\"result\":"));
}

int mcp_write_result(struct buf *out, struct slice id, struct slice result) {
    mcp_write_result_begin(out, id);
    buf_append(out, result);
    return buf_append_byte(out, '}');
}

int mcp_write_error_object(struct buf *out, struct slice id, struct slice error) {
    write_begin(out, id);
    buf_append(out, SLICE(",\"error\":"));
    buf_append(out, error);
    return buf_append_byte(out, '}');
}

int mcp_write_error(struct buf *out, struct slice id, enum mcp_error_code code, struct slice text,
                    struct slice data) {
    struct json_writer writer;
    write_begin(out, id);
    buf_append(out, SLICE(",\"error\":"));
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_i64(&writer, SLICE("code"), code);
    json_kv_string(&writer, SLICE("message"), text);
    if (data.len != 0)
        json_kv_raw(&writer, SLICE("data"), data);
    json_object_end(&writer);
    return buf_append_byte(out, '}');
}

int mcp_write_tool_error(struct buf *out, struct slice text) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_key(&writer, SLICE("content"));
    json_array_begin(&writer);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("type"), SLICE("text"));
    json_kv_string(&writer, SLICE("text"), text);
    json_object_end(&writer);
    json_array_end(&writer);
    json_kv_bool(&writer, SLICE("isError"), true);
    json_object_end(&writer);
    return buf_error(out);
}

void mcp_make_one_line(struct buf *json, size_t from) {
    static const char line_ends[] = {'\n', '\r'};
    for (size_t i = 0; i < ARRAY_LEN(line_ends); i++) {
        size_t at = json->start + from;
        while (at < json->end) {
            char *found = memchr(json->data + at, line_ends[i], json->end - at);
            if (found == NULL)
                break;
            *found = ' ';
            at = (size_t)(found - json->data) + 1;
        }
    }
}

int mcp_splice(struct buf *out, struct slice document, const struct mcp_edit *edits,
               size_t n_edits) {
    const char *at = document.ptr;
    size_t size = document.len;
    for (size_t i = 0; i < n_edits; i++) /* each span is a part of the document */
        size = size - edits[i].span.len + edits[i].replacement.len;
    if (buf_reserve(out, size) == NULL)
        return buf_error(out);
    for (size_t i = 0; i < n_edits; i++) {
        buf_append(out, slice_make(at, (size_t)(edits[i].span.ptr - at)));
        buf_append(out, edits[i].replacement);
        at = edits[i].span.ptr + edits[i].span.len;
    }
    return buf_append(out, slice_make(at, (size_t)(document.ptr + document.len - at)));
}
