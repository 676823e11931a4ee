/* What an edit is in the tree of a configuration: its path, its value, and whether a tree has it
 * more than another, and nothing else. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config/edit.h"
#include "toml.h"

/* mcp.servers.SERVER.tools.TOOL.access */
enum { PATH_SERVER = 3, PATH_TOOLS = 4, PATH_TOOL = 5, PATH_ACCESS = 6 };

void edit_path_of(const struct config_access_edit *edit, struct slice out[PATH_ACCESS]);
struct slice edit_access_name(enum config_access access);

/* The tree is the old one and the edits, each of them once. */
bool edit_is_all(const struct toml_node *old, const struct toml_node *root,
                 const struct config_access_edit *edits, size_t n);
/* The child of a table with that key, or NULL: from the cursor on and round. */
const struct toml_node *edit_find_child(const struct toml_node *table, struct slice key,
                                        size_t *cursor);
