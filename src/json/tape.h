/* What reader.c writes and nodes.c reads: the reader itself and its tape. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "json/reader.h"
#include "keys.h"

#define JSON_NO_NODE UINT32_MAX

/* One open container. frames[0] stands for what is around the root. */
struct json_frame {
    struct json_object_keys keys;     /* of an object */
    const struct json_want *children; /* of an opened object: what to open */
    const struct json_want *element;  /* of an opened array: opens each element, or NULL */
    uint32_t node;                    /* its own place on the tape or JSON_NO_NODE */
    bool is_object;
    bool opened; /* members go to the tape */
    char closer;
};

struct json_reader {
    struct json_node *nodes;
    uint32_t n_nodes, cap_nodes;
    bool has_document; /* the tape is that of a document read with 0 */

    /* While reading. */
    const char *begin, *end;
    struct json_limits limits, defaults;
    struct json_frame *frames;
    struct json_frame *top;
    uint32_t depth, cap_frames; /* cap_frames counts frames[0] */
    struct json_keys keys;

    /* The key in front of the next value of an opened object, and what it asks for. */
    struct slice key;
    bool key_escaped;
    const struct json_want *want;

    int error;
    struct json_error why;
    char text[96]; /* of a limit that was exceeded */
};
