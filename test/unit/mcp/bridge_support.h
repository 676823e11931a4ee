/* What the tests of bridging share: exact blocks, and what must hold for every output. */
#pragma once

#include "base/limits.h"
#include "mcp/bridge.h"
#include "test.h"

#define P       "io.modelcontextprotocol/"
#define L1      MCP_2024_11_05
#define L2      MCP_2025_03_26
#define L3      MCP_2025_06_18
#define L4      MCP_2025_11_25
#define MODERN  MCP_2026_07_28
#define GATEWAY "{\"name\":\"gate \\\"way\\\"\",\"version\":\"1\"}"

static const struct mcp_implementation gateway = {SLICE_INIT("gate \"way\""), SLICE_INIT("1")};

static struct json_reader *new_reader(void) {
    struct json_reader *reader = NULL;
    if (json_reader_new(&reader) != 0)
        CANNOT_GO_ON();
    return reader;
}

/* In a block of exactly its size, so that the sanitizer sees a read behind it. */
static char *exact_copy(struct slice text) {
    char *copy = mem_alloc(text.len);
    if (copy == NULL)
        CANNOT_GO_ON();
    if (text.len != 0)
        memcpy(copy, text.ptr, text.len);
    return copy;
}

static void check_json(struct slice text) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct json_error error = {0};
    int r = json_read(reader, text, NULL, NULL, &error);
    CHECK_INT(r, 0);
    if (r != 0)
        printf("# %s at %zu: %.*s\n", error.reason, error.offset, SLICE_ARGS(text));
}
