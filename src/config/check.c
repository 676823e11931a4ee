/* What the values of single options must look like. */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/network.h"
#include "config/config.h"
#include "http/uri.h"
#include "options.h"

static bool is_one_of(char c, const char *more) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr(more, c) != NULL);
}

static bool all_of(struct slice value, const char *more) {
    for (size_t i = 0; i < value.len; i++) {
        if (!is_one_of(value.ptr[i], more))
            return false;
    }
    return true;
}

const char *check_filled(struct slice value) {
    return value.len > 0 ? NULL : "must not be empty";
}

/* Decimal, 0 to 65535, no leading zero. */
static bool is_port(struct slice text) {
    uint64_t port;
    return text.len <= 5 && slice_to_u64(text, &port) == 0 && port <= 65535 &&
           (text.len == 1 || text.ptr[0] != '0');
}

static bool is_address(struct slice host) {
    char text[INET6_ADDRSTRLEN];
    struct in6_addr either;
    bool bracketed = host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';
    if (bracketed)
        host = slice_sub(host, 1, host.len - 1);
    return slice_to_cstr(host, text, sizeof text) == 0 &&
           inet_pton(bracketed ? AF_INET6 : AF_INET, text, &either) == 1;
}

const char *check_listen_address(struct slice value) {
    size_t colon = value.len;
    while (colon > 0 && value.ptr[colon - 1] != ':')
        colon--;
    if (colon == 0 || !is_port(slice_from(value, colon)) ||
        !is_address(slice_sub(value, 0, colon - 1)))
        return "must be an IP address and a port, such as \"127.0.0.1:8000\" or \"[::1]:8000\"";
    return NULL;
}

/* Plain segments, so that no two parts of the gateway can read a path in two ways. */
const char *check_url_path(struct slice value) {
    static const char reason[] =
        "must be a path such as \"/mcp\": segments of letters, digits, '-', '_', '.' and '~', "
        "each after one '/', and no '/' at the end";
    if (value.len < 2 || value.len > 256 || value.ptr[0] != '/')
        return reason;
    struct slice rest = slice_from(value, 1);
    bool more = true;
    while (more) {
        struct slice segment;
        more = slice_cut(rest, '/', &segment, &rest);
        if (segment.len == 0 || !all_of(segment, "-_.~") || slice_eq(segment, SLICE(".")) ||
            slice_eq(segment, SLICE("..")))
            return reason;
    }
    return NULL;
}

static bool is_all_addresses(const struct network *address) {
    unsigned char any = 0;
    for (unsigned i = 0; i < address->family_bits / 8; i++)
        any |= address->bytes[i];
    return any == 0;
}

const char *check_host(struct slice value) {
    struct uri_authority authority;
    struct network address;
    bool fine = uri_parse_authority(value, &authority) == 0 && authority.host.len > 0;
    if (fine && network_parse_address(authority.host, &address) && is_all_addresses(&address))
        return "must not be the address that stands for all: no client calls the gateway by it, "
               "but a page in a browser on this machine could";
    if (fine)
        return NULL;
    return "must be a host name or an address, with or without a port (\"gw.example.com\", "
           "\"gw.example.com:8000\", \"[::1]:8000\")";
}

const char *check_network(struct slice value) {
    struct network network;
    return network_parse(value, &network) ? NULL
                                          : "must be an address or a block of them (\"192.0.2.7\", "
                                            "\"10.0.0.0/8\", \"fd00::/8\")";
}

/* What environ(7) allows and a child can be given: printable, no '='. */
const char *check_env_name(struct slice value) {
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] <= 0x20 || value.ptr[i] >= 0x7f || value.ptr[i] == '=')
            return "must be the name of an environment variable";
    }
    return value.len > 0 ? NULL : "must be the name of an environment variable";
}

/* As useradd(8) has them, or a number. */
const char *check_user(struct slice value) {
    bool fine = value.len > 0 && value.len <= 32 && value.ptr[0] != '-' && value.ptr[0] != '.' &&
                all_of(value, "-_.");
    return fine ? NULL : "must be the name or number of a user";
}

/*
 * The name is the part of a tool's name before "__" and a segment of the endpoint's path, so "__"
 * must not be in it (a_b__c has one reading), and neither may the segments with a meaning.
 */
const char *check_server_name(struct slice value) {
    static const struct slice taken[] = {SLICE_INIT("sse"), SLICE_INIT("message"),
                                         SLICE_INIT("server-card")};
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        if (slice_eq_nocase(value, taken[i]))
            return "is taken by an address of the gateway itself; choose another name";
    }
    bool fine = value.len > 0 && value.len <= 32 && all_of(value, "-_") && value.ptr[0] != '_' &&
                value.ptr[value.len - 1] != '_' && slice_find(value, SLICE("__")) == SIZE_MAX;
    return fine ? NULL
                : "is no name for a server: at most 32 letters, digits and '-', with single '_' "
                  "between them";
}

/* Part of header values, and of patterns in the files of proxies: nothing that has a meaning there.
 */
const char *check_instance(struct slice value) {
    bool fine = value.len > 0 && value.len <= CONFIG_INSTANCE_MAX && all_of(value, "");
    return fine ? NULL : "is no name for an instance: 1 to 16 letters and digits";
}

/* The name of a tool as clients know it. */
const char *check_whitelisted(struct slice value) {
    size_t end = slice_find(value, SLICE("__"));
    bool fine = end != SIZE_MAX && end + 2 < value.len &&
                check_server_name(slice_sub(value, 0, end)) == NULL;
    return fine ? NULL : "must be a server and its tool, as clients call it: \"server__tool\"";
}

/* Part of who calls in logs and audit ("token:NAME"), and of a command line. What belongs to the
 * token of the environment would belong to one of its name, too. */
const char *config_check_token_name(struct slice value) {
    if (slice_eq(value, SLICE("MCP_API_TOKEN")))
        return "is how the token of the environment is called; choose another name";
    bool fine = value.len > 0 && value.len <= 64 && all_of(value, "-_.") && value.ptr[0] != '-';
    return fine ? NULL
                : "is no name for a token: at most 64 letters, digits, '-', '_' and '.', and no "
                  "'-' at the beginning";
}
