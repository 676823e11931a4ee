/* Texts that name a rule: keys as a person would write them into the file, and what opens a lock.
 */
#include "private.h"

static bool is_bare(struct slice key) {
    for (size_t i = 0; i < key.len; i++) {
        char c = key.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-'))
            return false;
    }
    return key.len != 0;
}

/* A basic string: no control character of somebody else's name gets out. C1 controls and the
 * marks that turn the direction of text around are escaped, too: a terminal acts on them. */
int policy_write_toml_string(struct buf *out, struct slice text) {
    buf_append_byte(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        unsigned char next = (unsigned char)(i + 1 < text.len ? text.ptr[i + 1] : 0);
        unsigned char third = (unsigned char)(i + 2 < text.len ? text.ptr[i + 2] : 0);
        if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            buf_printf(out, "\\u%04X", c);
        else if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
            buf_printf(out, "\\u%04X", next);
            i++;
        } else if (c == 0xe2 && ((next == 0x80 && third >= 0x8b && third <= 0xae) ||
                                 (next == 0x81 && third >= 0xa0 && third <= 0xaf))) {
            buf_printf(out, "\\u%04X", 0x2000u + (next - 0x80u) * 0x40u + (third - 0x80u));
            i += 2;
        } else
            buf_append_byte(out, (char)c);
    }
    return buf_append_byte(out, '"');
}

int policy_write_toml_key(struct buf *out, struct slice key) {
    return is_bare(key) ? buf_append(out, key) : policy_write_toml_string(out, key);
}

int policy_write_toml_strings(struct buf *out, const struct slice *texts, size_t n) {
    buf_append_byte(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i != 0)
            buf_append(out, SLICE(", "));
        policy_write_toml_string(out, texts[i]);
    }
    return buf_append_byte(out, ']');
}

int policy_write_server_key(struct buf *out, const struct policy_server *server) {
    buf_append(out, SLICE("mcp.servers."));
    return policy_write_toml_key(out, server->config->name);
}

int policy_write_tool_key(struct buf *out, const struct policy_server *server, struct slice tool) {
    policy_write_server_key(out, server);
    buf_append(out, SLICE(".tools."));
    return policy_write_toml_key(out, tool);
}

int policy_write_tool_name(struct buf *out, const struct policy_server *server, struct slice tool) {
    CLEANUP(buf_deinit) struct buf name = BUF_INIT(LIMIT_CONFIG_STRING);
    buf_append(&name, server->config->name);
    buf_append(&name, SLICE("__"));
    if (buf_append(&name, tool) != 0)
        return buf_error(&name);
    return policy_write_toml_key(out, buf_slice(&name));
}

int policy_write_duration(struct buf *out, uint64_t ms) {
    static const struct {
        uint64_t ms;
        const char *unit;
    } units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
    size_t i = 0;
    while (ms % units[i].ms != 0)
        i++;
    buf_append_u64(out, ms / units[i].ms);
    return buf_append_cstr(out, units[i].unit);
}

int policy_write_rule(struct buf *out, const struct policy_decision *decision, struct slice name) {
    const char *last = "";
    switch (decision->rule) {
    case POLICY_RULE_NONE:
        return buf_error(out);
    case POLICY_RULE_EDIT_MODE:
        return buf_append(out, SLICE("security.edit_mode"));
    case POLICY_RULE_WHITELIST:
        return buf_append(out, SLICE("security.whitelist"));
    case POLICY_RULE_RIGHTS:
        return buf_append(out, SLICE("roles"));
    case POLICY_RULE_ALLOW:
        last = ".allow";
        break;
    case POLICY_RULE_DENY:
    case POLICY_RULE_DENY_UNKNOWN:
        last = ".deny";
        break;
    }
    if (decision->is_of_tool)
        policy_write_tool_key(out, decision->server, name);
    else
        policy_write_server_key(out, decision->server);
    return buf_append_cstr(out, last);
}

/* Why it counts as a write. */
static void write_reason(struct buf *out, const struct policy_decision *decision,
                         struct slice name) {
    const struct policy_tool *tool = decision->tool;
    bool is_of_tool =
        tool != NULL && tool->config != NULL && tool->config->access != CONFIG_ACCESS_UNSET;
    if (!is_of_tool && decision->server->config->access == CONFIG_ACCESS_UNSET) {
        buf_append(out, SLICE("nothing says that it only reads"));
        return;
    }
    buf_append(out, SLICE("it changes something ("));
    if (is_of_tool)
        policy_write_tool_key(out, decision->server, name);
    else
        policy_write_server_key(out, decision->server);
    buf_append(out, SLICE(".access = \"write\")"));
}

static int write_whitelist_entry(struct buf *out, const struct policy_server *server,
                                 struct slice tool) {
    CLEANUP(buf_deinit) struct buf name = BUF_INIT(LIMIT_CONFIG_STRING);
    buf_append(&name, server->config->name);
    buf_append(&name, SLICE("__"));
    if (buf_append(&name, tool) != 0)
        return buf_error(&name);
    return policy_write_toml_string(out, buf_slice(&name));
}

int policy_write_locked(struct buf *out, const struct policy_decision *decision,
                        struct slice name) {
    const struct policy_server *server = decision->server;
    bool is_off = decision->rule == POLICY_RULE_EDIT_MODE;
    bool is_left_out = server->policy->config->n_whitelist != 0 &&
                       (decision->tool == NULL || !decision->tool->is_whitelisted);
    policy_write_tool_name(out, server, name);
    buf_append(out, SLICE(" is locked: "));
    write_reason(out, decision, name);
    if (decision->rule == POLICY_RULE_RIGHTS) {
        buf_append(out, SLICE(", and your roles let you only read there. An administrator gives "
                              "another one with: cardea user edit NAME --role ROLE; if it only "
                              "reads: "));
        policy_write_tool_key(out, server, name);
        return buf_append(out, SLICE(".access = \"read\""));
    }
    buf_append_cstr(out, is_off ? " and edit mode is off. An operator "
                                : " and security.whitelist does not name it. An operator ");
    if (is_left_out) {
        buf_append(out, SLICE("adds "));
        write_whitelist_entry(out, server, name);
        buf_append_cstr(out, is_off ? " to security.whitelist and " : " to security.whitelist");
    }
    if (is_off)
        buf_append(out, SLICE("opens it with: cardea edit on --minutes 15 --reason \"...\""));
    buf_append(out, SLICE("; if it only reads: "));
    policy_write_tool_key(out, server, name);
    return buf_append(out, SLICE(".access = \"read\""));
}
