/*
 * The doors of the gateway: whose Host and Origin are ours, and who is calling. Each row is a real
 * request, read by the parser, as it comes in.
 */
#include "base/limits.h"
#include "private.h"
#include "test.h"

/* What a gateway needs for these questions. */
struct doors {
    struct gateway *gateway;
    struct config *config;
};

static struct doors doors_open(const char *listen, bool anonymous) {
    static struct slice hosts[] = {
        SLICE_INIT("gw.example"),
        SLICE_INIT("Ported.example:8443"),
        SLICE_INIT("[2001:db8::1]"),
        SLICE_INIT("not an authority"),
        SLICE_INIT(""),
    };
    struct doors doors = {.gateway = mem_xalloc(sizeof *doors.gateway),
                          .config = mem_xalloc(sizeof *doors.config)};
    doors.config->hosts = hosts;
    doors.config->n_hosts = ARRAY_LEN(hosts);
    doors.config->auth_anonymous = anonymous;
    doors.gateway->config = doors.config;
    snprintf(doors.gateway->address.text, sizeof doors.gateway->address.text, "%s", listen);
    if (secret_new(SLICE("s3cret-Token"), &doors.gateway->token) != 0)
        CANNOT_GO_ON();
    return doors;
}

static void doors_close(struct doors *doors) {
    secret_free(doors->gateway->token);
    mem_free(doors->gateway);
    mem_free(doors->config);
}

/* The head of one request with these lines behind the first; NULL: the parser refuses it. */
static const struct http_head *read_head(struct http_parser *parser, const char *first,
                                         const char *fields) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    enum http_event event = HTTP_NEED_MORE;
    struct slice data;
    size_t consumed;
    buf_printf(&text, "%s\r\n%s\r\n", first, fields);
    if (http_parser_feed(parser, buf_slice(&text), &consumed, &event, &data) != 0)
        CANNOT_GO_ON();
    return event == HTTP_HEAD ? http_parser_head(parser) : NULL;
}

static struct http_parser *new_parser(void) {
    struct http_parser *parser = NULL;
    if (http_parser_new(HTTP_REQUESTS, NULL, &parser) != 0)
        CANNOT_GO_ON();
    return parser;
}

static void test_token(void) {
    static const struct {
        const char *fields;
        enum gw_authn result;
    } rows[] = {
        {"", GW_AUTHN_MISSING},
        {"Authorization: Bearer s3cret-Token\r\n", GW_AUTHN_OK},
        {"authorization: bEARER s3cret-Token\r\n", GW_AUTHN_OK},
        {"Authorization: Bearer   s3cret-Token\r\n", GW_AUTHN_OK},
        {"Authorization:   Bearer s3cret-Token  \r\n", GW_AUTHN_OK},
        {"Authorization: Bearer s3cret-token\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer s3cret-Toke\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer s3cret-Token1\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer s3cret-Token s3cret-Token\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer s3cret-Token,\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer \"s3cret-Token\"\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer \r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer\r\n", GW_AUTHN_INVALID},
        {"Authorization: \r\n", GW_AUTHN_INVALID},
        {"Authorization: s3cret-Token\r\n", GW_AUTHN_INVALID},
        {"Authorization: Basic s3cret-Token\r\n", GW_AUTHN_INVALID},
        {"Authorization: BearerX s3cret-Token\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer\ts3cret-Token\r\n", GW_AUTHN_INVALID},
        {"Authorization: Bearer s3cret-Token\r\nAuthorization: Bearer s3cret-Token\r\n",
         GW_AUTHN_INVALID},
        {"Authorization: Bearer s3cret-Token\r\nauthorization: Bearer other\r\n", GW_AUTHN_INVALID},
        {"Proxy-Authorization: Bearer s3cret-Token\r\n", GW_AUTHN_MISSING},
        {"X-Api-Key: s3cret-Token\r\n", GW_AUTHN_MISSING},
    };
    for (int anonymous = 0; anonymous <= 1; anonymous++) {
        struct doors doors = doors_open("127.0.0.1:8000", anonymous != 0);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            CLEANUP(http_parser_freep) struct http_parser *parser = new_parser();
            struct gw_principal *principal = NULL;
            char fields[256];
            test_row(rows[i].fields);
            snprintf(fields, sizeof fields, "Host: localhost\r\n%s", rows[i].fields);
            const struct http_head *head = read_head(parser, "GET / HTTP/1.1", fields);
            REQUIRE(head != NULL);
            enum gw_authn result = gw_authenticate(doors.gateway, head, &principal);
            /* A wrong token is never taken for none. */
            bool open = rows[i].result == GW_AUTHN_MISSING && anonymous != 0;
            CHECK_INT(result, open ? GW_AUTHN_OK : rows[i].result);
            CHECK(principal == (open                            ? &doors.gateway->anonymous
                                : rows[i].result == GW_AUTHN_OK ? &doors.gateway->local
                                                                : NULL));
        }
        doors_close(&doors);
    }
}

TEST_MAIN(TEST(test_token))
