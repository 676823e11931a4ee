/* Targets: a URL, checked once, the rules that it goes by, and the proxy in front of it. */
#include <errno.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/random.h"
#include "private.h"

/* Slices of a text that is still being built are kept as offsets. */
struct piece {
    size_t from, to;
};

static void begin(const struct buf *text, struct piece *piece) {
    piece->from = buf_len(text);
}

static void end(const struct buf *text, struct piece *piece) {
    piece->to = buf_len(text);
}

static struct slice piece_slice(const char *text, struct piece piece) {
    return slice_make(text + piece.from, piece.to - piece.from);
}

/* "host", or "[v6]"; a port of 0 is left out. */
static void append_authority(struct buf *text, const struct uri *uri, uint16_t port) {
    bool is_v6 = uri->host_kind == URI_HOST_IPV6;
    buf_append(text, is_v6 ? SLICE("[") : SLICE_EMPTY);
    buf_append(text, uri->host);
    buf_append(text, is_v6 ? SLICE("]") : SLICE_EMPTY);
    if (port != 0) {
        buf_append_byte(text, ':');
        buf_append_u64(text, port);
    }
}

struct peer_pieces {
    struct piece host, name, label;
};

static void append_peer(struct buf *text, struct slice prefix, const struct uri *uri,
                        struct peer_pieces *ret_pieces) {
    begin(text, &ret_pieces->host);
    buf_append(text, uri->host);
    end(text, &ret_pieces->host);
    begin(text, &ret_pieces->label);
    buf_append(text, prefix);
    begin(text, &ret_pieces->name);
    append_authority(text, uri, uri->port);
    end(text, &ret_pieces->name);
    end(text, &ret_pieces->label);
}

static struct client_peer make_peer(const char *text, const struct uri *uri,
                                    const struct peer_pieces *pieces) {
    return (struct client_peer){.host = piece_slice(text, pieces->host),
                                .port = uri->port,
                                .name = piece_slice(text, pieces->name),
                                .label = piece_slice(text, pieces->label)};
}

/* RFC 9112 section 3.2.1: the path, "/" if empty, and the query. */
static void append_path(struct buf *text, const struct uri *uri) {
    buf_append(text, uri->path.len != 0 ? uri->path : SLICE("/"));
    if (uri->has_query) {
        buf_append_byte(text, '?');
        buf_append(text, uri->query);
    }
}

/* Host without a port that goes without saying (RFC 9110 section 4.2.3): some servers compare it
 * with their name as it stands. */
static void append_fields(struct buf *text, const struct uri *uri, bool is_tls) {
    buf_append(text, SLICE("Host: "));
    append_authority(text, uri, uri->port != (is_tls ? 443 : 80) ? uri->port : 0);
    buf_append(text, SLICE("\r\nAccept-Encoding: identity\r\n"));
}

static int build(struct client_target *target, const struct uri *uri, const struct uri *proxy) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI + KIB(4));
    struct peer_pieces origin = {.host = {0, 0}}, via = {.host = {0, 0}};
    struct piece path, fields;
    append_peer(&text, SLICE_EMPTY, uri, &origin);
    if (proxy != NULL)
        append_peer(&text, SLICE("proxy "), proxy, &via);
    begin(&text, &path);
    append_path(&text, uri);
    end(&text, &path);
    begin(&text, &fields);
    append_fields(&text, uri, target->is_tls);
    end(&text, &fields);
    size_t len;
    target->text = buf_take(&text, &len);
    if (target->text == NULL)
        return -ENOMEM;
    target->origin = make_peer(target->text, uri, &origin);
    if (proxy != NULL)
        target->proxy = make_peer(target->text, proxy, &via);
    target->path = piece_slice(target->text, path);
    target->fields = piece_slice(target->text, fields);
    return 0;
}

static int check_url(struct slice url, struct uri *ret_uri, const char **ret_reason) {
    struct uri uri;
    if (url.len > LIMIT_URI) {
        *ret_reason = "the URL is longer than the limit";
        return CLIENT_E_INVALID;
    }
    if (uri_parse(url, &uri, ret_reason) != 0)
        return CLIENT_E_INVALID;
    if (!slice_eq_nocase(uri.scheme, SLICE("http")) && !slice_eq_nocase(uri.scheme, SLICE("https")))
        *ret_reason = "the URL is neither http nor https";
    else if (uri.has_userinfo)
        *ret_reason = "the URL has a user or password in it";
    else if (uri.has_fragment)
        *ret_reason = "the URL has a fragment";
    else {
        *ret_uri = uri;
        return 0;
    }
    return CLIENT_E_INVALID;
}

static void free_target(struct client_target **target) {
    *target = client_target_free(*target);
}

static int make(const struct client_target_options *options, struct client_target *target,
                const char **ret_reason) {
    struct uri uri;
    int error = check_url(options->url, &uri, ret_reason);
    if (error != 0)
        return error;
    target->is_tls = slice_eq_nocase(uri.scheme, SLICE("https"));
    target->connect_fn = options->connect;
    target->connect_context = options->connect_context;
    struct client_target_options direct = *options;
    if (options->connect != NULL)
        direct.proxy = SLICE("none");
    struct client_proxy proxy CLEANUP(client_proxy_deinit) =
        client_proxy_choose(&direct, &uri, target->is_tls);
    target->has_proxy = proxy.url.len != 0;
    if (options->rules != NULL && !client_rules_exempt(options->rules, &uri, target->is_tls)) {
        const char *reason =
            client_rules_refuse_url(options->rules, &uri, target->is_tls, target->has_proxy);
        if (reason != NULL) {
            *ret_reason = reason;
            return CLIENT_E_INVALID;
        }
        target->rules = client_rules_ref(options->rules);
    }
    if (target->has_proxy)
        error = client_proxy_parse(&proxy, ret_reason);
    if (error == 0)
        error = build(target, &uri, target->has_proxy ? &proxy.uri : NULL);
    if (error == 0 && target->has_proxy)
        error = client_proxy_connect(&proxy.uri, target->origin.name, &target->connect);
    return error;
}

int client_target_new(const struct client_target_options *options,
                      struct client_target **ret_target, const char **ret_reason) {
    struct client_target *target CLEANUP(free_target) = mem_alloc(sizeof *target);
    const char *reason = "";
    if (target == NULL)
        return -ENOMEM;
    int error = make(options, target, &reason);
    if (error == 0) {
        random_bytes(target->id, sizeof target->id);
        target->tls = options->tls != NULL ? io_tls_ref(options->tls) : NULL;
        *ret_target = TAKE(target);
    } else if (error == CLIENT_E_INVALID && ret_reason != NULL) {
        *ret_reason = reason;
    }
    return error;
}

struct client_target *client_target_free(struct client_target *target) {
    if (target == NULL)
        return NULL;
    secret_free(target->connect);
    io_tls_unref(target->tls);
    client_rules_unref(target->rules);
    mem_free(target->text);
    mem_free(target);
    return NULL;
}

bool client_target_is_tls(const struct client_target *target) {
    return target->is_tls;
}

struct slice client_target_proxy(const struct client_target *target) {
    return target->has_proxy ? target->proxy.name : SLICE_EMPTY;
}
