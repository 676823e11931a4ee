/*
 * Lines about the access of tools, for the text of a configuration: written for people to paste, or
 * put into the text where they belong, with every other byte kept.
 */
#pragma once

#include <stddef.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "config/config.h"

struct config_access_edit {
    struct slice server; /* one that the text has */
    struct slice tool;   /* as the server calls it: any bytes that are valid UTF-8 */
    enum config_access access;
};

/* Appends a key as TOML wants it: bare where it can be, else in quotation marks. What a terminal or
 * an editor would obey or hide (controls, marks of direction) is escaped. -EILSEQ: not UTF-8. */
int config_write_key(struct buf *out, struct slice key);

/* Appends a table for each server in turn, `[mcp.servers.files.tools]`, with a line for each tool,
 * `read_file.access = "read"`. Edits of one server stand together. */
int config_write_access(struct buf *out, const struct config_access_edit *edits, size_t n);

/*
 * Appends `text` with these lines in it: in the table of the tool where there is one, else in that
 * of the server's tools, else in a new one behind the last table of the server; where that would be
 * no TOML, because the parent is an inline table or written with dotted keys, in the same way
 * there. The result was read again: it says what `text` says, and these accesses, and nothing else.
 *
 * 0; CONFIG_E_PLACE: nothing was appended, and `reason` gets the end of a sentence, such as "line 3
 * has ...": there is no place, a tool has its access already, or the result would say something
 * else; -E2BIG, -ENOMEM.
 */
enum { CONFIG_E_PLACE = 2 };
MUST_CHECK int config_edit_access(struct slice text, const struct config_access_edit *edits,
                                  size_t n, struct buf *out, struct buf *reason);
