/*
 * The proxy of a target: which one, and the CONNECT request that is sent to it (RFC 9110 section
 * 9.3.6). Its URL may hold a password, so no sentence made here quotes any of it.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/base64.h"
#include "base/limits.h"
#include "private.h"

/* --- which --- */

static const char *process_environment(void *context, const char *name) {
    (void)context;
    return getenv(name);
}

struct environment {
    const char *(*get)(void *context, const char *name);
    void *context;
};

/* The first of the names that is set to something. */
static struct slice look_up(const struct environment *environment, const char *const *names) {
    for (; *names != NULL; names++) {
        struct slice value =
            slice_trim(slice_from_cstr(environment->get(environment->context, *names)));
        if (value.len != 0)
            return value;
    }
    return SLICE_EMPTY;
}

static struct slice choose_by_environment(const struct environment *environment,
                                          const struct uri *uri, bool is_tls) {
    /* Not HTTP_PROXY: a CGI server sets it from the field "Proxy" of a stranger's request. */
    static const char *const for_https[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
                                            NULL};
    static const char *const for_http[] = {"http_proxy", "all_proxy", "ALL_PROXY", NULL};
    static const char *const exempt[] = {"no_proxy", "NO_PROXY", NULL};
    if (client_is_loopback(uri) || client_no_proxy_has(look_up(environment, exempt), uri))
        return SLICE_EMPTY;
    return look_up(environment, is_tls ? for_https : for_http);
}

struct client_proxy client_proxy_choose(const struct client_target_options *options,
                                        const struct uri *uri, bool is_tls) {
    struct environment environment = {options->getenv_fn, options->getenv_context};
    if (environment.get == NULL)
        environment.get = process_environment;
    if (slice_eq(options->proxy, SLICE("none")))
        return (struct client_proxy){.url = SLICE_EMPTY};
    if (options->proxy.len != 0)
        return (struct client_proxy){.url = options->proxy};
    return (struct client_proxy){.url = choose_by_environment(&environment, uri, is_tls),
                                 .is_from_environment = true};
}

/* --- its URL --- */

enum proxy_problem { PROXY_URL, PROXY_SCHEME, PROXY_REST, PROXY_USER };

static const char *const problems[][2] = {
    [PROXY_URL] = {"the proxy is not a URL; write http://host:port",
                   "the proxy of the environment is not a URL; set it to http://host:port, or set "
                   "proxy = \"none\""},
    [PROXY_SCHEME] = {"the proxy is reached by HTTPS or SOCKS, but only HTTP with CONNECT is "
                      "supported; write http://host:port",
                      "the proxy of the environment is reached by HTTPS or SOCKS, but only HTTP "
                      "with CONNECT is supported; set it to http://host:port, or set proxy = "
                      "\"none\""},
    [PROXY_REST] = {"the URL of the proxy has a path, query or fragment; write http://host:port",
                    "the URL of the environment's proxy has a path, query or fragment; write "
                    "http://host:port"},
    [PROXY_USER] = {"user and password of the proxy must be percent-encoded, without control "
                    "characters, and the user without a colon",
                    "user and password of the environment's proxy must be percent-encoded, without "
                    "control characters, and the user without a colon"},
};

static int refuse(enum proxy_problem problem, const struct client_proxy *proxy,
                  const char **ret_reason) {
    *ret_reason = problems[problem][proxy->is_from_environment];
    return CLIENT_E_INVALID;
}

/* RFC 7617 section 2: a decoded user without a colon, no control characters in either. */
static int decode_part(struct buf *out, struct slice part, bool may_have_colon) {
    size_t from = buf_len(out);
    int error = uri_percent_decode(out, part);
    if (error != 0)
        return error;
    struct slice decoded = slice_from(buf_slice(out), from);
    for (size_t i = 0; i < decoded.len; i++) {
        unsigned char c = (unsigned char)decoded.ptr[i];
        if (c < 0x20 || c == 0x7f || (c == ':' && !may_have_colon))
            return URI_E_INVALID;
    }
    return 0;
}

static int decode_userinfo(struct buf *out, struct slice userinfo) {
    struct slice user, password;
    slice_cut(userinfo, ':', &user, &password);
    int error = decode_part(out, user, false);
    if (error == 0)
        error = buf_append_byte(out, ':');
    return error != 0 ? error : decode_part(out, password, true);
}

/* A buffer that held a secret. */
static void wipe_buf(struct buf *buf) {
    if (buf->data != NULL)
        secret_wipe(buf->data, buf->cap);
    buf_deinit(buf);
}

/* A buffer for a secret has its room from the start: one that grows leaves copies behind. */
static int init_secret_buf(struct buf *buf, size_t max) {
    buf_init(buf, max);
    return buf_reserve(buf, max) != NULL ? 0 : -ENOMEM;
}

/* Variables often hold "host:port" alone. */
static int complete_url(struct client_proxy *proxy) {
    if (!proxy->is_from_environment || slice_find(proxy->url, SLICE("://")) != SIZE_MAX)
        return 0;
    int error = init_secret_buf(&proxy->text, proxy->url.len + 7);
    if (error == 0)
        error = buf_append(&proxy->text, SLICE("http://"));
    if (error == 0)
        error = buf_append(&proxy->text, proxy->url);
    proxy->url = buf_slice(&proxy->text);
    return error;
}

static int check_userinfo(struct slice userinfo) {
    struct buf scratch CLEANUP(wipe_buf) = BUF_INIT(0);
    int error = init_secret_buf(&scratch, userinfo.len + 1);
    return error != 0 ? error : decode_userinfo(&scratch, userinfo);
}

int client_proxy_parse(struct client_proxy *proxy, const char **ret_reason) {
    struct uri *uri = &proxy->uri;
    int error = complete_url(proxy);
    if (error != 0)
        return error;
    if (proxy->url.len > LIMIT_URI || slice_find(proxy->url, SLICE("://")) == SIZE_MAX ||
        uri_parse(proxy->url, uri, NULL) != 0)
        return refuse(PROXY_URL, proxy, ret_reason);
    if (!slice_eq_nocase(uri->scheme, SLICE("http")))
        return refuse(PROXY_SCHEME, proxy, ret_reason);
    bool has_path = uri->path.len != 0 && !slice_eq(uri->path, SLICE("/"));
    if (has_path || uri->has_query || uri->has_fragment)
        return refuse(PROXY_REST, proxy, ret_reason);
    error = check_userinfo(uri->userinfo);
    return error == URI_E_INVALID ? refuse(PROXY_USER, proxy, ret_reason) : error;
}

void client_proxy_deinit(struct client_proxy *proxy) {
    wipe_buf(&proxy->text);
}

/* --- CONNECT --- */

static int append_authorization(struct buf *out, const struct uri *proxy) {
    struct buf credentials CLEANUP(wipe_buf) = BUF_INIT(0);
    int error = init_secret_buf(&credentials, proxy->userinfo.len + 1);
    if (error == 0)
        error = decode_userinfo(&credentials, proxy->userinfo);
    if (error != 0)
        return error;
    buf_append(out, SLICE("Proxy-Authorization: Basic "));
    base64_encode(out, buf_slice(&credentials));
    return buf_append(out, SLICE("\r\n"));
}

int client_proxy_connect(const struct uri *proxy, struct slice authority,
                         struct secret **ret_request) {
    struct buf out CLEANUP(wipe_buf) = BUF_INIT(0);
    int error = init_secret_buf(&out, 128 + 2 * authority.len + 2 * proxy->userinfo.len);
    if (error == 0)
        error = http_write_request_line(&out, HTTP_METHOD_CONNECT, authority);
    if (error == 0)
        error = http_write_field(&out, SLICE("Host"), authority);
    if (error == 0 && proxy->userinfo.len != 0)
        error = append_authorization(&out, proxy);
    if (error == 0)
        error = buf_append(&out, SLICE("\r\n"));
    return error != 0 ? error : secret_new(buf_slice(&out), ret_request);
}
