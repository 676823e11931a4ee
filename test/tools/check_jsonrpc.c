/*
 * check-jsonrpc FILE...: whether each file is one JSON-RPC message as MCP uses them, or a batch in
 * which each element is. A batch that the gateway takes has at most 100 elements.
 */
#include "check.h"
#include "mcp/message.h"

enum { MAX_ELEMENTS = 100 };

static bool say(struct buf *reason, int r, const struct mcp_refusal *refusal) {
    if (r != 0)
        buf_printf(reason, "%s (%d)", r < 0 ? "no memory" : refusal->reason, (int)refusal->code);
    return r == 0;
}

static bool check(struct slice document, struct buf *reason) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct mcp_message message;
    struct mcp_refusal refusal = {.reason = ""};
    struct slice elements[MAX_ELEMENTS];
    size_t count = 0;
    int r = json_reader_new(&reader);
    if (r != 0)
        return say(reason, r, &refusal);
    if (!mcp_is_batch(document))
        return say(reason, mcp_message_read(reader, document, &message, &refusal), &refusal);
    r = mcp_batch_split(reader, document, elements, MAX_ELEMENTS, &count, &refusal);
    if (r != 0)
        return say(reason, r, &refusal);
    for (size_t i = 0; i < count; i++) {
        r = mcp_message_read(reader, elements[i], &message, &refusal);
        if (r != 0) {
            buf_printf(reason, "message %zu of %zu: ", i + 1, count);
            return say(reason, r, &refusal);
        }
    }
    return true;
}

int main(int argc, char **argv) {
    return check_main(argc, argv, check);
}
