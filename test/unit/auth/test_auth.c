/*
 * Who is calling: every kind of credential, what it makes of the caller, and everything that must
 * not make anybody of it. Tokens are real ones: JWTs signed with an issuer's secret.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <unistd.h>

#include "auth/auth.h"
#include "base/base64.h"
#include "base/limits.h"
#include "private.h"
#include "test.h"

#define SECRET      "0123456789abcdef0123456789abcdef"
#define NOW_S       1800000000u
#define NOW_WALL_MS (NOW_S * (uint64_t)1000)
#define NOW_MS      1000000u
#define RESOURCE    "https://gw.example"
#define NAME_64     "0123456789012345678901234567890123456789012345678901234567890123"
#define LONG_NAME   NAME_64 NAME_64 NAME_64 NAME_64 "4"

/* A gateway's worth of configuration, engine and memory. */
struct desk {
    struct config config;
    struct config_issuer issuer;
    struct config_token tokens[3];
    struct log *log;
    struct io_loop *loop;
    struct oauth *oauth;
    struct auth *auth;
    struct auth_memory *memory;
    struct json_reader *reader;
    struct secret *local, *api;
};

static void digest_of(const char *token, char out[72]) {
    unsigned char digest[32];
    unsigned len = 0;
    if (EVP_Digest(token, strlen(token), digest, &len, EVP_sha256(), NULL) != 1)
        CANNOT_GO_ON();
    snprintf(out, 72, "sha256:");
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(out + 7 + 2 * i, 3, "%02x", digest[i]);
}

static char first_hash[72], second_hash[72], third_hash[72];
static struct slice team[] = {SLICE_INIT("team"), SLICE_INIT("ops"), SLICE_INIT("team")};
static struct slice files_only[] = {SLICE_INIT("files")};

static void set_up(struct desk *desk) {
    digest_of("cardea_first", first_hash);
    digest_of("cardea_second", second_hash);
    digest_of("cardea_third", third_hash);
    desk->issuer = (struct config_issuer){
        .expected_issuer = SLICE("https://id.example"),
        .secret = SLICE(SECRET),
        .leeway_ms = 60000,
    };
    desk->tokens[0] = (struct config_token){.name = SLICE("first"),
                                            .hash = slice_from_cstr(first_hash),
                                            .groups = team,
                                            .n_groups = ARRAY_LEN(team)};
    desk->tokens[1] = (struct config_token){.name = SLICE("second"),
                                            .hash = slice_from_cstr(second_hash),
                                            .has_servers = true,
                                            .servers = files_only,
                                            .n_servers = 1,
                                            .expires_ms = NOW_WALL_MS + 1000};
    desk->tokens[2] = (struct config_token){
        .name = SLICE("third"), .hash = slice_from_cstr(third_hash), .expires_ms = NOW_WALL_MS};
    desk->config.mcp_enabled = true;
    desk->config.mcp_path = SLICE("/mcp");
    desk->config.oauth = (struct config_oauth){
        .is_set = true, .issuers = &desk->issuer, .n_issuers = 1, .resource = SLICE(RESOURCE)};
    desk->config.tokens = desk->tokens;
    desk->config.n_tokens = ARRAY_LEN(desk->tokens);
}

static void start(struct desk *desk) {
    desk->log = log_new(STDERR_FILENO, LOG_ERROR, LOG_STYLE_TEXT);
    if (io_loop_new(&desk->loop) != 0 || json_reader_new(&desk->reader) != 0 ||
        auth_memory_new(&desk->memory) != 0 ||
        secret_new(SLICE("local-token-of-this-machine"), &desk->local) != 0 ||
        secret_new(SLICE("your-secure-token-here"), &desk->api) != 0)
        CANNOT_GO_ON();
    struct oauth_options oauth = {
        .config = &desk->config.oauth, .log = desk->log, .loop = desk->loop, .version = SLICE("0")};
    if (desk->config.oauth.is_set && oauth_new(&oauth, &desk->oauth) != 0)
        CANNOT_GO_ON();
    struct auth_options options = {
        .config = &desk->config,
        .local = desk->local,
        .api = desk->api,
        .oauth = desk->oauth,
    };
    if (auth_new(&options, &desk->auth) != 0)
        CANNOT_GO_ON();
}

static void stop(struct desk *desk) {
    auth_memory_free(desk->memory);
    auth_free(desk->auth);
    oauth_free(desk->oauth);
    json_reader_free(desk->reader);
    io_loop_free(desk->loop);
    secret_free(desk->local);
    secret_free(desk->api);
    log_free(desk->log);
}

/* Requests. */

struct field {
    const char *name, *value;
};

static size_t find_field(void *context, struct slice name, struct slice *ret_value) {
    size_t n = 0;
    for (const struct field *field = context; field != NULL && field->name != NULL; field++) {
        if (!slice_eq_nocase(slice_from_cstr(field->name), name))
            continue;
        if (n++ == 0)
            *ret_value = slice_from_cstr(field->value);
    }
    return n;
}

struct ask {
    const char *authorization;
    size_t n_authorization; /* 0: one, when there is any */
    const char *from;       /* NULL: 127.0.0.1 */
    const char *peer;       /* NULL: the same */
    bool is_from_proxy;
    struct field *fields;
    const char *endpoint; /* NULL: "/mcp" */
    const char *certificate;
    uint64_t later_ms;
    bool is_first; /* AUTH_NEEDS_KEYS is an answer */
};

static const unsigned char certificate_digest[32] = {1, 2, 3};

static enum auth_verdict ask(struct desk *desk, const struct ask *ask, struct auth_answer *answer) {
    struct auth_request request = {
        .endpoint = slice_from_cstr(ask->endpoint != NULL ? ask->endpoint : "/mcp"),
        .is_from_proxy = ask->is_from_proxy,
        .field = find_field,
        .field_context = ask->fields,
    };
    if (ask->authorization != NULL) {
        request.authorization = slice_from_cstr(ask->authorization);
        request.n_authorization = ask->n_authorization != 0 ? ask->n_authorization : 1;
    }
    if (ask->certificate != NULL) {
        request.certificate_digest = certificate_digest;
        request.certificate_name = slice_from_cstr(ask->certificate);
        request.certificate_ends_wall_ms = NOW_WALL_MS + 5000;
    }
    if (!network_parse_address(slice_from_cstr(ask->from != NULL ? ask->from : "127.0.0.1"),
                               &request.client))
        CANNOT_GO_ON();
    if (ask->peer != NULL && !network_parse_address(slice_from_cstr(ask->peer), &request.peer))
        CANNOT_GO_ON();
    return auth_check(desk->auth, desk->memory, desk->reader, &request, NOW_WALL_MS + ask->later_ms,
                      NOW_MS + ask->later_ms, !ask->is_first, answer);
}

/* The principal, "-" and the verdict's number when it is none. Memory of the last four calls. */
static const char *who(struct desk *desk, const struct ask *question) {
    static char texts[4][512];
    static unsigned last;
    char *text = texts[last++ % ARRAY_LEN(texts)];
    struct auth_answer answer;
    enum auth_verdict verdict = ask(desk, question, &answer);
    if (verdict == AUTH_OK)
        snprintf(text, sizeof texts[0], "%.*s", SLICE_ARGS(answer.identity->principal));
    else
        snprintf(text, sizeof texts[0], "-%d", (int)verdict);
    CHECK((answer.identity != NULL) == (verdict == AUTH_OK));
    CHECK(verdict == AUTH_OK || verdict == AUTH_NEEDS_KEYS || answer.reason[0] != '\0');
    auth_identity_unref(answer.identity);
    return text;
}

static const char *refusal(enum auth_verdict verdict) {
    static char texts[4][16];
    static unsigned last;
    char *text = texts[last++ % ARRAY_LEN(texts)];
    snprintf(text, sizeof texts[0], "-%d", (int)verdict);
    return text;
}

#define CHECK_WHO(desk, expected, ...)                                                             \
    CHECK_SLICE(slice_from_cstr(who(desk, &(struct ask){__VA_ARGS__})), slice_from_cstr(expected))

/* Tokens. */

static char *jwt_with(const char *header, const char *claims) {
    static char texts[4][LIMIT_JWT];
    static unsigned last;
    char *text = texts[last++ % ARRAY_LEN(texts)];
    struct buf out = BUF_INIT(LIMIT_JWT);
    unsigned char mac[32];
    unsigned len = 0;
    base64url_encode(&out, slice_from_cstr(header));
    buf_append_byte(&out, '.');
    base64url_encode(&out, slice_from_cstr(claims));
    if (HMAC(EVP_sha256(), SECRET, (int)strlen(SECRET), (const unsigned char *)buf_slice(&out).ptr,
             buf_len(&out), mac, &len) == NULL)
        CANNOT_GO_ON();
    buf_append_byte(&out, '.');
    base64url_encode(&out, slice_make(mac, len));
    snprintf(text, sizeof texts[0], "Bearer %.*s", SLICE_ARGS(buf_slice(&out)));
    buf_deinit(&out);
    return text;
}

/* With the claims that every good token has, and these. */
static char *jwt(const char *more) {
    static char claims[LIMIT_JWT / 2];
    snprintf(claims, sizeof claims, "{\"iss\":\"https://id.example\",\"exp\":%u%s%s%s}",
             NOW_S + 3600, strstr(more, "\"aud\"") != NULL ? "" : ",\"aud\":\"" RESOURCE "\"",
             more[0] != '\0' ? "," : "", more);
    return jwt_with("{\"alg\":\"HS256\"}", claims);
}

static void test_local(void) {
    struct desk desk = {0};
    set_up(&desk);
    start(&desk);
    const char *fine = "Bearer local-token-of-this-machine";
    CHECK_WHO(&desk, "local", .authorization = fine);
    CHECK_WHO(&desk, "local", .authorization = "bEARER   local-token-of-this-machine ");
    CHECK_WHO(&desk, "local", .authorization = fine, .from = "127.9.9.9");
    CHECK_WHO(&desk, "local", .authorization = fine, .from = "::1");
    CHECK_WHO(&desk, "local", .authorization = fine, .from = "::ffff:127.0.0.1");
    static const char *const elsewhere[] = {"10.0.0.1", "128.0.0.1", "::2", "fe80::1",
                                            "::ffff:10.0.0.1"};
    for (size_t i = 0; i < ARRAY_LEN(elsewhere); i++)
        CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = fine, .from = elsewhere[i]);
    /* A proxy on this machine speaks for somebody else. */
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = fine, .from = "192.0.2.1",
              .is_from_proxy = true);
    CHECK_WHO(&desk, "local", .authorization = fine, .peer = "::1", .is_from_proxy = true);
    /* The loopback address of the proxy's machine is none of ours. */
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = fine, .peer = "192.0.2.1",
              .is_from_proxy = true);
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = fine, .peer = "192.0.2.1");
    static const char *const wrong[] = {
        "Bearer local-token-of-this-machin",
        "Bearer local-token-of-this-machine1",
        "Bearer LOCAL-TOKEN-OF-THIS-MACHINE",
        "Bearer",
        "Bearer ",
        "",
        "local-token-of-this-machine",
        "Basic bG9jYWw6",
        "Bearer local-token-of-this-machine x",
        "Bearer local-token-of-this-machine local-token-of-this-machine",
        "Bearer local-token-of-this-machine,",
        "Bearer \"local-token-of-this-machine\"",
        "Bearer\tlocal-token-of-this-machine",
        "BearerX local-token-of-this-machine",
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = wrong[i]);
    CHECK_WHO(&desk, refusal(AUTH_MALFORMED), .authorization = fine, .n_authorization = 2);
    CHECK_WHO(&desk, refusal(AUTH_MISSING), .authorization = NULL);
    stop(&desk);
}

/* A credential that is wrong is never taken for none. */
static void test_anonymous(void) {
    struct desk desk = {0};
    set_up(&desk);
    desk.config.auth_none = SLICE("I know");
    start(&desk);
    CHECK_WHO(&desk, "anonymous", .authorization = NULL);
    CHECK_WHO(&desk, "anonymous", .authorization = NULL, .from = "192.0.2.9");
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = "Bearer wrong");
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = "");
    CHECK_WHO(&desk, "local", .authorization = "Bearer local-token-of-this-machine");
    stop(&desk);
}

static void test_tokens(void) {
    struct desk desk = {0};
    struct auth_answer answer;
    set_up(&desk);
    start(&desk);
    CHECK_WHO(&desk, "token:MCP_API_TOKEN", .authorization = "Bearer your-secure-token-here",
              .from = "192.0.2.1");
    CHECK_WHO(&desk, "token:first", .authorization = "Bearer cardea_first", .from = "192.0.2.1");
    CHECK_WHO(&desk, "token:second", .authorization = "Bearer cardea_second");
    CHECK_WHO(&desk, "token:second", .authorization = "Bearer cardea_second", .later_ms = 999);
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = "Bearer cardea_second",
              .later_ms = 1000);
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = "Bearer cardea_third");
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = "Bearer cardea_fourth");
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = "Bearer Cardea_first");
    /* The stored form is no token. */
    char hash[128];
    snprintf(hash, sizeof hash, "Bearer %s", first_hash);
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = hash);
    REQUIRE(ask(&desk, &(struct ask){.authorization = "Bearer cardea_first"}, &answer) == AUTH_OK);
    CHECK_INT(answer.identity->n_groups, 2);
    CHECK_SLICE(answer.identity->groups[0], SLICE("ops"));
    CHECK_SLICE(answer.identity->groups[1], SLICE("team"));
    CHECK(auth_may_use_server(answer.identity, SLICE("other")));
    CHECK(!answer.identity->has_all_scopes);
    auth_identity_unref(answer.identity);
    REQUIRE(ask(&desk, &(struct ask){.authorization = "Bearer cardea_second"}, &answer) == AUTH_OK);
    CHECK(auth_may_use_server(answer.identity, SLICE("files")));
    CHECK(!auth_may_use_server(answer.identity, SLICE("other")));
    CHECK(!auth_may_use_server(answer.identity, SLICE("")));
    auth_identity_unref(answer.identity);
    stop(&desk);
}

static void test_subjects(void) {
    static const struct {
        const char *claims, *principal;
    } rows[] = {
        {"\"sub\":\"alice\"", "oauth:https://id.example alice"},
        {"\"sub\":\"alice\",\"client_id\":\"x\"", "oauth:https://id.example alice"},
        {"\"client_id\":\"job\"", "oauth:https://id.example client:job"},
        {"\"azp\":\"job\"", "oauth:https://id.example client:job"},
        {"\"sub\":\"al\\u0069ce\"", "oauth:https://id.example alice"},
        {"\"sub\":\"\",\"client_id\":\"job\"", NULL},
        {"\"sub\":\"\"", NULL},
        {"\"sub\":\"  \"", NULL},
        /* Whoever has a name that is none is not the client that the token came by. */
        {"\"sub\":\"  \",\"client_id\":\"job\"", NULL},
        {"\"sub\":\"" LONG_NAME "\",\"client_id\":\"job\"", NULL},
        {"\"sub\":\"a\\u0000b\"", NULL},
        {"\"sub\":\"a\\nb\"", NULL},
        {"\"scope\":\"x\"", NULL},
        /* Bound to a key (RFC 7800). */
        {"\"sub\":\"alice\",\"cnf\":{\"jkt\":\"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I\"}",
         NULL},
        {"\"sub\":\"alice\",\"cnf\":{\"x5t#S256\":\"AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
         NULL},
        {"\"sub\":\"alice\",\"cnf\":{}", NULL},
        {"\"sub\":\"alice\",\"cnf\":\"x\"", NULL},
        {"\"sub\":\"alice\",\"cnf\":null", NULL},
    };
    struct desk desk = {0};
    set_up(&desk);
    start(&desk);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].claims);
        CHECK_WHO(&desk, rows[i].principal != NULL ? rows[i].principal : refusal(AUTH_INVALID),
                  .authorization = jwt(rows[i].claims), .from = "192.0.2.1");
    }
    test_row("");
    stop(&desk);
}

/* RFC 8705: the token is for the connection that proves this certificate, and no other one. */
static void test_bound(void) {
    struct desk desk = {0};
    set_up(&desk);
    start(&desk);
    char bound[LIMIT_JWT];
    snprintf(bound, sizeof bound, "%s",
             jwt("\"sub\":\"alice\",\"cnf\":{\"x5t#S256\":"
                 "\"AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}"));
    CHECK_WHO(&desk, "oauth:https://id.example alice", .authorization = bound,
              .certificate = "CN=a");
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = bound);
    const char *two = jwt("\"sub\":\"alice\",\"cnf\":{\"x5t#S256\":"
                          "\"AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",\"jkt\":\"x\"}");
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = two, .certificate = "CN=a");
    /* Without a token the certificate speaks; with a wrong one it does not. */
    CHECK_WHO(&desk, "certificate:CN=a", .authorization = NULL, .certificate = "CN=a");
    CHECK_WHO(&desk, "certificate:CN=a", .authorization = NULL, .certificate = "CN=a",
              .later_ms = 4999);
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = NULL, .certificate = "CN=a",
              .later_ms = 5000);
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = "Bearer x", .certificate = "CN=a");
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = NULL, .certificate = "");
    stop(&desk);
}

/* RFC 8707, and one endpoint's token at another one. */
static void test_audiences(void) {
    static const struct {
        const char *audience, *endpoint;
        bool fine;
    } rows[] = {
        {"\"https://gw.example\"", "/mcp", true},
        {"\"https://gw.example/\"", "/mcp", true},
        {"\"https://gw.example/mcp\"", "/mcp", true},
        {"\"https://gw.example/mcp\"", "/mcp/files", true},
        {"\"https://gw.example\"", "/mcp/files", true},
        {"\"https://gw.example/mcp/files\"", "/mcp/files", true},
        {"\"https://gw.example/mcp/files\"", "/mcp", false},
        {"\"https://gw.example/mcp/files\"", "/mcp/other", false},
        {"\"https://gw.example/mcp/\"", "/mcp", false},
        {"\"https://gw.example/mc\"", "/mcp", false},
        {"\"https://GW.example/mcp\"", "/mcp", false},
        {"\"http://gw.example/mcp\"", "/mcp", false},
        {"\"https://gw.example.evil.example\"", "/mcp", false},
        {"[\"https://other.example\",\"https://gw.example/mcp\"]", "/mcp", true},
        {"[\"https://other.example\"]", "/mcp", false},
        {"[]", "/mcp", false},
        {"\"\"", "/mcp", false},
        {"[\"https://gw.example/mcp\",1]", "/mcp", false},
        {"null", "/mcp", false},
    };
    struct desk desk = {0};
    set_up(&desk);
    start(&desk);
    /* Twice: what is remembered of one endpoint is nothing to another one. */
    for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
        size_t k = i % ARRAY_LEN(rows);
        char claims[256];
        test_row(rows[k].audience);
        snprintf(claims, sizeof claims, "\"sub\":\"alice\",\"aud\":%s", rows[k].audience);
        CHECK_WHO(&desk, rows[k].fine ? "oauth:https://id.example alice" : refusal(AUTH_INVALID),
                  .authorization = jwt(claims), .endpoint = rows[k].endpoint);
    }
    test_row("");
    stop(&desk);
    memset(&desk, 0, sizeof desk);
    set_up(&desk);
    desk.issuer.expected_audience = SLICE("nexus-production");
    start(&desk);
    CHECK_WHO(&desk, "oauth:https://id.example alice",
              .authorization = jwt("\"sub\":\"alice\",\"aud\":\"nexus-production\""));
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = jwt("\"sub\":\"alice\""));
    stop(&desk);
    /* A configuration that cannot be: no audience is not every audience. */
    memset(&desk, 0, sizeof desk);
    set_up(&desk);
    desk.config.oauth.resource = SLICE_EMPTY;
    start(&desk);
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = jwt("\"sub\":\"alice\""));
    stop(&desk);
}

/* What is remembered ends with the token, after five minutes, and with the engine. */
static void test_memory(void) {
    struct desk desk = {0};
    struct auth_answer first, second;
    set_up(&desk);
    start(&desk);
    char token[LIMIT_JWT];
    snprintf(token, sizeof token, "%s", jwt("\"sub\":\"alice\""));
    REQUIRE(ask(&desk, &(struct ask){.authorization = token}, &first) == AUTH_OK);
    struct slice value = slice_from_cstr(token), endpoint = SLICE("/mcp");
    REQUIRE(ask(&desk, &(struct ask){.authorization = token, .later_ms = 299999}, &second) ==
            AUTH_OK);
    CHECK(second.identity == first.identity);
    auth_identity_unref(second.identity);
    REQUIRE(ask(&desk, &(struct ask){.authorization = token, .later_ms = 300000}, &second) ==
            AUTH_OK);
    CHECK(second.identity != first.identity);
    auth_identity_unref(second.identity);
    CHECK(auth_still_holds(desk.auth, first.identity, value, endpoint, 0, NOW_WALL_MS, NOW_MS));
    CHECK(!auth_still_holds(desk.auth, first.identity, value, endpoint, 0, NOW_WALL_MS,
                            NOW_MS + LIMIT_KNOWN_TOKEN_MS));
    uint64_t end_ms = NOW_WALL_MS + 3660000;
    CHECK(auth_still_holds(desk.auth, first.identity, value, endpoint, 0, end_ms - 1, NOW_MS));
    CHECK(!auth_still_holds(desk.auth, first.identity, value, endpoint, 0, end_ms, NOW_MS));
    CHECK(!auth_still_holds(desk.auth, first.identity, (struct slice){0}, endpoint, 0, NOW_WALL_MS,
                            NOW_MS));
    for (size_t i = 0; i < value.len; i++) {
        token[i] = (char)(token[i] ^ 1);
        CHECK(
            !auth_still_holds(desk.auth, first.identity, value, endpoint, 0, NOW_WALL_MS, NOW_MS));
        token[i] = (char)(token[i] ^ 1);
    }
    CHECK(!auth_still_holds(desk.auth, first.identity, slice_sub(value, 0, value.len - 1), endpoint,
                            0, NOW_WALL_MS, NOW_MS));
    struct auth *other = NULL;
    struct auth_options options = {
        .config = &desk.config, .local = desk.local, .api = desk.api, .oauth = desk.oauth};
    REQUIRE(auth_new(&options, &other) == 0);
    CHECK(!auth_still_holds(other, first.identity, value, endpoint, 0, NOW_WALL_MS, NOW_MS));
    auth_free(other);
    auth_identity_unref(first.identity);
    stop(&desk);
}

/* More tokens than are remembered: each works, the table does not grow. */
static void test_many(void) {
    struct desk desk = {0};
    set_up(&desk);
    start(&desk);
    for (unsigned i = 0; i < LIMIT_KNOWN_TOKENS + 100; i++) {
        char claims[64], principal[64];
        snprintf(claims, sizeof claims, "\"sub\":\"u%u\"", i);
        snprintf(principal, sizeof principal, "oauth:https://id.example u%u", i);
        CHECK_WHO(&desk, principal, .authorization = jwt(claims));
    }
    CHECK_INT(memory_count(desk.memory), LIMIT_KNOWN_TOKENS);
    stop(&desk);
}

/* What one caller may be called at will, in part, must never be what another one is called. */
static void test_principals_apart(void) {
    static const struct {
        const char *claims; /* NULL: a certificate speaks */
        const char *name, *field;
    } pairs[][2] = {
        /* Users who chose their names. */
        {{.claims = "\"sub\":\"alice\",\"plan\":\"web\""},
         {.claims = "\"sub\":\"alice client:web\",\"plan\":\"alice client:web\""}},
        {{.claims = "\"sub\":\"alice%20x\",\"plan\":\"p\""},
         {.claims = "\"sub\":\"alice x\",\"plan\":\"p\""}},
        /* A user, and a client for itself. */
        {{.claims = "\"client_id\":\"job\",\"plan\":\"p\""},
         {.claims = "\"sub\":\"client:job\",\"plan\":\"p\""}},
        {{.claims = "\"client_id\":\"job\",\"plan\":\"client:job\""},
         {.claims = "\"sub\":\"client:job\",\"plan\":\"client:job\""}},
        /* What a proxy says of the caller. */
        {{.name = "CN=a", .field = "b client:c"}, {.name = "CN=a client:b", .field = "c"}},
        {{.name = "CN=a%20client:b", .field = "c"}, {.name = "CN=a client:b", .field = "c"}},
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct desk desk = {0};
        char principals[2][256];
        test_row(pairs[i][0].claims != NULL ? pairs[i][0].claims : pairs[i][0].name);
        set_up(&desk);
        desk.config.identification = (struct config_identification){
            .enabled = true,
            .client_claim = pairs[i][0].claims != NULL ? SLICE("plan") : SLICE_EMPTY,
            .client_header = pairs[i][0].claims != NULL ? SLICE_EMPTY : SLICE("X-Client"),
        };
        start(&desk);
        for (size_t k = 0; k < 2; k++) {
            struct field fields[] = {{"X-Client", pairs[i][k].field}, {0}};
            struct ask question = {
                .certificate = pairs[i][k].name, .is_from_proxy = true, .fields = fields};
            if (pairs[i][k].claims != NULL)
                question = (struct ask){.authorization = jwt(pairs[i][k].claims)};
            snprintf(principals[k], sizeof principals[k], "%s", who(&desk, &question));
            CHECK(principals[k][0] != '-');
        }
        CHECK(strcmp(principals[0], principals[1]) != 0);
        stop(&desk);
    }
    test_row("");
}

/* Keys of an address alone are trusted for every issuer: whose token it is stays part of who. */
static void test_any_issuer_apart(void) {
    struct desk desk = {0};
    char principals[2][256];
    set_up(&desk);
    desk.issuer.expected_issuer = SLICE_EMPTY;
    start(&desk);
    static const char *const claims[] = {
        "{\"exp\":1800003600,\"aud\":\"" RESOURCE "\",\"iss\":\"hello\",\"sub\":\"x\"}",
        "{\"exp\":1800003600,\"aud\":\"" RESOURCE "\",\"sub\":\"5:hello x\"}",
    };
    for (size_t i = 0; i < 2; i++) {
        snprintf(
            principals[i], sizeof principals[i], "%s",
            who(&desk, &(struct ask){.authorization = jwt_with("{\"alg\":\"HS256\"}", claims[i])}));
        CHECK(principals[i][0] != '-');
    }
    CHECK(strcmp(principals[0], principals[1]) != 0);
    stop(&desk);
}

static struct slice group_values[] = {SLICE_INIT("free"), SLICE_INIT("pro"), SLICE_INIT("7"),
                                      SLICE_INIT("true")};

static void test_claims(void) {
    static const struct {
        const char *client_claim, *group_claim, *claims;
        enum auth_verdict verdict;
        const char *client_id, *groups; /* groups with spaces between; NULL: malformed */
        bool has_unknown;
    } rows[] = {
        {"sub", "plan", "\"sub\":\"alice\",\"plan\":\"pro\"", AUTH_OK, "alice", "pro", false},
        {"sub", "plan", "\"sub\":\"alice\"", AUTH_OK, "alice", "", false},
        {"sub", "plan", "\"sub\":\"alice\",\"plan\":null", AUTH_OK, "alice", "", false},
        {"sub", "plan", "\"sub\":\"alice\",\"plan\":7", AUTH_OK, "alice", "7", false},
        {"sub", "plan", "\"sub\":\"alice\",\"plan\":true", AUTH_OK, "alice", "true", false},
        {"sub", "plan", "\"sub\":\"alice\",\"plan\":\"gold\"", AUTH_BAD_GROUP, "", "", false},
        {"sub", "plan", "\"sub\":\"alice\",\"plan\":[\"pro\",\"free\",\"pro\"]", AUTH_OK, "alice",
         "free pro", false},
        {"sub", "plan", "\"sub\":\"alice\",\"plan\":[\"pro\",\"everyone\"]", AUTH_OK, "alice",
         "pro", true},
        {"sub", "plan", "\"sub\":\"alice\",\"plan\":[\"everyone\"]", AUTH_BAD_GROUP, "", "", false},
        {"sub", "plan", "\"sub\":\"alice\",\"plan\":[]", AUTH_OK, "alice", "", false},
        {"sub", "plan", "\"sub\":\"alice\",\"plan\":[\"pro\",7]", AUTH_OK, "alice", NULL, false},
        {"sub", "plan", "\"sub\":\"alice\",\"plan\":{\"pro\":1}", AUTH_OK, "alice", NULL, false},
        {"sub", "a.b", "\"sub\":\"alice\",\"a\":{\"b\":\"pro\"}", AUTH_OK, "alice", "pro", false},
        {"sub", "a.b", "\"sub\":\"alice\",\"a.b\":\"free\",\"a\":{\"b\":\"pro\"}", AUTH_OK, "alice",
         "free", false},
        {"sub", "https://x.example/plan", "\"sub\":\"alice\",\"https://x.example/plan\":\"pro\"",
         AUTH_OK, "alice", "pro", false},
        {"sub", "https://x.example/app.plan",
         "\"sub\":\"alice\",\"https://x.example/app\":{\"plan\":\"pro\"}", AUTH_OK, "alice", "pro",
         false},
        {"sub", "realm_access.roles", "\"sub\":\"alice\",\"realm_access\":{\"roles\":[\"pro\"]}",
         AUTH_OK, "alice", "pro", false},
        {"org.id", "", "\"sub\":\"alice\",\"org\":{\"id\":\"acme\"}", AUTH_OK, "acme", "", false},
        {"org.id", "", "\"sub\":\"alice\",\"org\":{\"id\":12}", AUTH_OK, "12", "", false},
        {"org.id", "", "\"sub\":\"alice\",\"org\":{\"id\":\"\"}", AUTH_NO_CLIENT, "", "", false},
        {"org.id", "", "\"sub\":\"alice\",\"org\":{\"id\":\"  \"}", AUTH_NO_CLIENT, "", "", false},
        {"org.id", "", "\"sub\":\"alice\",\"org\":{\"id\":[\"a\"]}", AUTH_NO_CLIENT, "", "", false},
        {"org.id", "", "\"sub\":\"alice\",\"org\":\"id\"", AUTH_NO_CLIENT, "", "", false},
        {"org.id", "", "\"sub\":\"alice\"", AUTH_NO_CLIENT, "", "", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct desk desk = {0};
        struct auth_answer answer;
        test_row(rows[i].claims);
        set_up(&desk);
        desk.config.identification = (struct config_identification){
            .enabled = true,
            .client_claim = slice_from_cstr(rows[i].client_claim),
            .group_claim = slice_from_cstr(rows[i].group_claim),
            .group_values = group_values,
            .n_group_values = ARRAY_LEN(group_values),
        };
        start(&desk);
        enum auth_verdict verdict =
            ask(&desk, &(struct ask){.authorization = jwt(rows[i].claims)}, &answer);
        CHECK_INT(verdict, rows[i].verdict);
        if (verdict == AUTH_OK) {
            char groups[256] = "";
            for (size_t k = 0; k < answer.identity->n_groups; k++)
                snprintf(groups + strlen(groups), sizeof groups - strlen(groups), "%s%.*s",
                         k == 0 ? "" : " ", SLICE_ARGS(answer.identity->groups[k]));
            CHECK_SLICE(answer.identity->client_id, slice_from_cstr(rows[i].client_id));
            CHECK_SLICE(slice_from_cstr(groups),
                        slice_from_cstr(rows[i].groups != NULL ? rows[i].groups : ""));
            CHECK_INT(answer.identity->groups_state == AUTH_GROUPS_MALFORMED,
                      rows[i].groups == NULL);
            CHECK_INT(answer.identity->has_unknown_group, rows[i].has_unknown);
        }
        auth_identity_unref(answer.identity);
        stop(&desk);
    }
    test_row("");
}

/* Nexus takes these headers from anybody: one token, two groups, two levels of rights. */
static void test_fields(void) {
    struct desk desk = {0};
    set_up(&desk);
    desk.config.identification = (struct config_identification){
        .enabled = true,
        .client_header = SLICE("X-Client-Id"),
        .group_header = SLICE("X-Client-Group"),
        .group_values = group_values,
        .n_group_values = ARRAY_LEN(group_values),
    };
    start(&desk);
    struct field fine[] = {{"x-client-id", "bob"}, {"X-Client-Group", "pro, free"}, {0}};
    struct field twice[] = {{"x-client-id", "bob"}, {"X-Client-Id", "eve"}, {0}};
    struct field two_groups[] = {
        {"x-client-id", "bob"}, {"X-Client-Group", "free"}, {"x-client-group", "pro"}, {0}};
    struct field unknown[] = {{"x-client-id", "bob"}, {"X-Client-Group", "gold"}, {0}};
    struct field none[] = {{0}};
    const char *token = "Bearer cardea_first";
    struct auth_answer answer;
    CHECK_WHO(&desk, "token:first client:bob", .authorization = token, .fields = fine,
              .is_from_proxy = true);
    CHECK_WHO(&desk, refusal(AUTH_NO_CLIENT), .authorization = token, .fields = fine);
    CHECK_WHO(&desk, refusal(AUTH_NO_CLIENT), .authorization = token, .fields = twice,
              .is_from_proxy = true);
    CHECK_WHO(&desk, refusal(AUTH_NO_CLIENT), .authorization = token, .fields = none,
              .is_from_proxy = true);
    CHECK_WHO(&desk, refusal(AUTH_BAD_GROUP), .authorization = token, .fields = unknown,
              .is_from_proxy = true);
    REQUIRE(ask(&desk, &(struct ask){.authorization = token, .fields = fine, .is_from_proxy = true},
                &answer) == AUTH_OK);
    CHECK_INT(answer.identity->n_groups, 2);
    /* Another request of the connection may speak for another user. */
    CHECK(!auth_still_holds(desk.auth, answer.identity, slice_from_cstr(token), SLICE("/mcp"), 0,
                            NOW_WALL_MS, NOW_MS));
    auth_identity_unref(answer.identity);
    REQUIRE(ask(&desk,
                &(struct ask){.authorization = token, .fields = two_groups, .is_from_proxy = true},
                &answer) == AUTH_OK);
    CHECK_INT(answer.identity->groups_state, AUTH_GROUPS_MALFORMED);
    CHECK_INT(answer.identity->n_groups, 0);
    auth_identity_unref(answer.identity);
    stop(&desk);
}

static void test_scopes(void) {
    static const struct {
        const char *claims, *scopes;
    } rows[] = {
        {"\"scope\":\"a b  c\"", "a b c"}, {"\"scope\":\"\"", ""},
        {"\"scp\":\"a b\"", "a b"},        {"\"scp\":[\"a\",\"b\"]", "a b"},
        {"\"scope\":[\"a\"]", ""},         {"\"scope\":7", ""},
        {"\"scp\":{\"a\":1}", ""},         {"\"scope\":\"a\",\"scp\":[\"b\"]", "a"},
    };
    struct desk desk = {0};
    set_up(&desk);
    start(&desk);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char claims[256], scopes[256] = "";
        struct auth_answer answer;
        test_row(rows[i].claims);
        snprintf(claims, sizeof claims, "\"sub\":\"alice\",%s", rows[i].claims);
        REQUIRE(ask(&desk, &(struct ask){.authorization = jwt(claims)}, &answer) == AUTH_OK);
        for (size_t k = 0; k < answer.identity->n_scopes; k++)
            snprintf(scopes + strlen(scopes), sizeof scopes - strlen(scopes), "%s%.*s",
                     k == 0 ? "" : " ", SLICE_ARGS(answer.identity->scopes[k]));
        CHECK_SLICE(slice_from_cstr(scopes), slice_from_cstr(rows[i].scopes));
        static const struct slice wanted[] = {SLICE_INIT("a"), SLICE_INIT("b")};
        CHECK_INT(auth_has_scopes(answer.identity, wanted, 2),
                  strncmp(rows[i].scopes, "a b", 3) == 0);
        CHECK(auth_has_scopes(answer.identity, wanted, 0));
        auth_identity_unref(answer.identity);
    }
    test_row("");
    stop(&desk);
}

/* All that the token names, and the token itself; of no other credential. */
static void test_for_others(void) {
    static const struct {
        const char *aud, *audiences;
    } rows[] = {
        {"\"" RESOURCE "\"", RESOURCE},
        {"[\"" RESOURCE "\"]", RESOURCE},
        {"[\"https://a.example/x y\",\"" RESOURCE "\",\"\",\"internal\"]",
         "https://a.example/x y|" RESOURCE "|internal"},
    };
    struct desk desk = {0};
    struct auth_answer answer;
    set_up(&desk);
    start(&desk);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char claims[256], text[256] = "";
        test_row(rows[i].aud);
        snprintf(claims, sizeof claims, "\"sub\":\"alice\",\"aud\":%s", rows[i].aud);
        char *token = jwt(claims);
        REQUIRE(ask(&desk, &(struct ask){.authorization = token}, &answer) == AUTH_OK);
        const struct auth_identity *identity = answer.identity;
        for (size_t k = 0; k < identity->n_audiences; k++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%.*s", k == 0 ? "" : "|",
                     SLICE_ARGS(identity->audiences[k]));
        CHECK_STR(slice_from_cstr(text), rows[i].audiences);
        CHECK_STR(auth_access_token(identity), token + strlen("Bearer "));
        auth_identity_unref(answer.identity);
    }
    test_row("the same token, written otherwise");
    char other[LIMIT_JWT];
    snprintf(other, sizeof other, "bEARER   %s ", jwt("\"sub\":\"alice\"") + strlen("Bearer "));
    REQUIRE(ask(&desk, &(struct ask){.authorization = other}, &answer) == AUTH_OK);
    CHECK_STR(auth_access_token(answer.identity), jwt("\"sub\":\"alice\"") + strlen("Bearer "));
    auth_identity_unref(answer.identity);
    test_row("the local token");
    REQUIRE(ask(&desk, &(struct ask){.authorization = "Bearer local-token-of-this-machine"},
                &answer) == AUTH_OK);
    CHECK_INT(auth_access_token(answer.identity).len, 0);
    CHECK_INT(answer.identity->n_audiences, 0);
    auth_identity_unref(answer.identity);
    test_row("");
    stop(&desk);
}

/* In the midst of a longer string. */
static void put(char *at, const char *text) {
    while (*text != '\0')
        *at++ = *text++;
}

/* Tokens that are none, of strangers, too long; and everything with the n-th allocation failing. */
static void test_hostile(void) {
    struct desk desk = {0};
    set_up(&desk);
    start(&desk);
    static char long_token[LIMIT_JWT * 2];
    memset(long_token, 'a', sizeof long_token - 1);
    put(long_token, "Bearer ");
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = long_token);
    put(long_token, "Bearer a.b.c");
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = long_token);
    static const char *const headers[] = {"{\"alg\":\"none\"}", "{\"alg\":\"HS512\"}", "{}", "x",
                                          "{\"alg\":\"HS256\",\"crit\":[\"x\"]}"};
    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        CHECK_WHO(&desk, refusal(AUTH_INVALID),
                  .authorization = jwt_with(headers[i], "{\"sub\":\"alice\",\"exp\":1900000000,"
                                                        "\"iss\":\"https://id.example\","
                                                        "\"aud\":\"" RESOURCE "\"}"));
    CHECK_WHO(&desk, refusal(AUTH_INVALID),
              .authorization = jwt_with("{\"alg\":\"HS256\"}",
                                        "{\"sub\":\"alice\",\"exp\":1900000000,\"aud\":\"" RESOURCE
                                        "\",\"iss\":\"https://id.example/\"}"));
    CHECK_WHO(&desk, refusal(AUTH_INVALID),
              .authorization =
                  jwt_with("{\"alg\":\"HS256\"}",
                           "{\"sub\":\"alice\",\"exp\":1900000000,\"aud\":\"" RESOURCE "\"}"));
    /* Public keys were never fetched: the caller may wait for them, once. */
    CHECK_WHO(&desk, refusal(AUTH_INVALID), .authorization = "Bearer e30.e30.e30");
    char token[LIMIT_JWT];
    snprintf(token, sizeof token, "%s", jwt("\"sub\":\"alice\",\"groups\":[\"a\",\"b\"]"));
    for (uint64_t n = 1;; n++) {
        struct auth_answer answer;
        mem_fail_after(n);
        enum auth_verdict verdict = ask(&desk, &(struct ask){.authorization = token}, &answer);
        mem_fail_after(0);
        auth_identity_unref(answer.identity);
        if (verdict == AUTH_OK)
            break;
        CHECK_INT(verdict, AUTH_NO_MEMORY);
        REQUIRE(n < 1000);
    }
    stop(&desk);
}

TEST_MAIN(TEST(test_local), TEST(test_anonymous), TEST(test_tokens), TEST(test_subjects),
          TEST(test_bound), TEST(test_audiences), TEST(test_for_others), TEST(test_memory),
          TEST(test_many), TEST(test_claims), TEST(test_fields), TEST(test_scopes),
          TEST(test_hostile), TEST(test_principals_apart), TEST(test_any_issuer_apart))
