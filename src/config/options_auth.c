/* [server]: who is calling, and how a connection is protected. */
#include "option_rows.h"

#define OF_TOKEN(member)      .owner = OPTION_OF_TOKEN, .offset = offsetof(struct config_token, member)
#define COUNT_OF_TOKEN(count) .count_offset = offsetof(struct config_token, count)
#define TOKEN                 "server.auth.tokens.*"

static const char *const identity_choices[] = {
    [CONFIG_IDENTITY_SUBJECT] = "subject", [CONFIG_IDENTITY_COMMON_NAME] = "common_name",
    [CONFIG_IDENTITY_SAN_DNS] = "san_dns", [CONFIG_IDENTITY_SAN_EMAIL] = "san_email",
    [CONFIG_IDENTITY_SAN_URI] = "san_uri", NULL,
};
static const char *const version_choices[] = {
    [CONFIG_TLS_1_2] = "1.2",
    [CONFIG_TLS_1_3] = "1.3",
    NULL,
};
static const char *const token_type_choices[] = {
    [CONFIG_TOKEN_ANY] = "any",
    [CONFIG_TOKEN_AT_JWT] = "at+jwt",
    NULL,
};

static const struct option_entry token_entry = {
    .owner = OPTION_OF_TOKEN,
    .size = sizeof(struct config_token),
    .finish = finish_token,
};
static const struct option_entry issuer_entry = {
    .owner = OPTION_OF_ISSUER,
    .size = sizeof(struct config_issuer),
    .finish = finish_issuer,
};

/* The keys of an issuer: [server.oauth] is one itself, as a part of the configuration, and so is
 * each of [[server.oauth.issuers]], in a struct of its own that begins at 0. */
#define ISSUER_MEMBER(holder, begin, member)                                                       \
    .owner = (holder), .offset = (begin) + offsetof(struct config_issuer, member)
#define ISSUER_KEYS(of, holder, begin)                                                             \
    {.path = of ".url",                                                                            \
     .type = OPTION_STRING,                                                                        \
     ISSUER_MEMBER(holder, begin, url),                                                            \
     .check = check_issuer_url,                                                                    \
     .before = "is no URL to use: ",                                                               \
     .doc = "Where the issuer's keys are (its JWKS). Not needed with `issuer`, which finds it."},  \
        {.path = of ".issuer",                                                                     \
         .type = OPTION_STRING,                                                                    \
         ISSUER_MEMBER(holder, begin, issuer),                                                     \
         .check = check_issuer_url,                                                                \
         .before = "is no URL to use: ",                                                           \
         .doc = "The issuer's own URL, exactly as it stands in `iss` of its tokens. Its metadata " \
                "(RFC 8414, OpenID Connect Discovery) say where the keys are."},                   \
        {.path = of ".poll_interval",                                                              \
         .type = OPTION_DURATION,                                                                  \
         ISSUER_MEMBER(holder, begin, poll_interval_ms),                                           \
         .min = SECONDS(1),                                                                        \
         .max = HOURS(24),                                                                         \
         .has_no_default = true,                                                                   \
         .doc = "How often the keys are fetched again. When not set, as the issuer's "             \
                "`Cache-Control` says. A key that is not known is looked for at once, too."},      \
        {.path = of ".expected_issuer",                                                            \
         .type = OPTION_STRING,                                                                    \
         ISSUER_MEMBER(holder, begin, expected_issuer),                                            \
         .check = check_filled,                                                                    \
         .doc = "What `iss` of a token must be, byte by byte. `issuer` when not set."},            \
        {.path = of ".expected_audience",                                                          \
         .type = OPTION_STRING,                                                                    \
         ISSUER_MEMBER(holder, begin, expected_audience),                                          \
         .check = check_filled,                                                                    \
         .doc = "What `aud` of a token must have among its entries. The URL of the endpoint that " \
                "is called when not set, which is what RFC 8707 asks for."},                       \
        {.path = of ".secret",                                                                     \
         .type = OPTION_STRING,                                                                    \
         ISSUER_MEMBER(holder, begin, secret),                                                     \
         .secret = true,                                                                           \
         .check = check_secret,                                                                    \
         .doc = "A secret of at least 32 bytes that tokens are signed with (HS256; HS384 needs "   \
                "48, HS512 64). Without it these are refused. Best written `{{ secret.NAME }}`; "  \
                "never printed."},                                                                 \
        {.path = of ".algorithms",                                                                 \
         .type = OPTION_LIST,                                                                      \
         ISSUER_MEMBER(holder, begin, algorithms),                                                 \
         .count_offset = (begin) + offsetof(struct config_issuer, n_algorithms),                   \
         .check = check_algorithm,                                                                 \
         .doc = "The signatures that are taken, by the names of RFC 7518. All of RS, PS and ES "   \
                "256 to 512 and EdDSA when not set, and HS 256 to 512 with a `secret`."},          \
        {.path = of ".token_type",                                                                 \
         .type = OPTION_ENUM,                                                                      \
         ISSUER_MEMBER(holder, begin, token_type),                                                 \
         .choices = token_type_choices,                                                            \
         .doc =                                                                                    \
             "`at+jwt` takes only tokens that say that they are access tokens (RFC 9068). Then "   \
             "no ID token of the same issuer is taken for one."},                                  \
    {                                                                                              \
        .path = of ".leeway", .type = OPTION_DURATION, ISSUER_MEMBER(holder, begin, leeway_ms),    \
        .fallback = SECONDS(60), .max = MINUTES(5),                                                \
        .doc = "How far the issuer's clock may be from ours, for `exp`, `nbf` and `iat`."          \
    }

const struct option option_auth_rows[] = {
    {.path = "server.plaintext",
     .type = OPTION_BOOL,
     OF_CONFIG(plaintext),
     .doc = "Serves HTTP without TLS to other machines too: for a proxy in front that has the "
            "certificate. Needs `server.trusted_proxies`. It opens nothing else: authentication is "
            "needed as ever."},
    {.path = "server.proxy_protocol",
     .type = OPTION_BOOL,
     OF_CONFIG(proxy_protocol),
     .doc = "Connections of `server.trusted_proxies` begin with the PROXY protocol, version 2, "
            "which says where they come from. Such a connection without it is closed."},

    {.path = "server.tls",
     .type = OPTION_TABLE,
     OF_CONFIG(tls.is_set),
     .doc = "HTTPS on the gateway's own listener: with your certificate, or with `auto`. When "
            "`listen_address` is open to other machines and there is no certificate, `auto` is "
            "taken, unless `server.plaintext = true`. [TLS.md](TLS.md) has the steps."},
    {.path = "server.tls.certificate",
     .type = OPTION_PATH,
     OF_CONFIG(tls.certificate),
     .check = check_filled,
     .doc = "A PEM file with the certificate, and then those between it and its authority. A "
            "changed file is taken up without a restart."},
    {.path = "server.tls.key",
     .type = OPTION_PATH,
     OF_CONFIG(tls.key),
     .check = check_filled,
     .doc = "A PEM file with its private key, without a passphrase."},
    {.path = "server.tls.auto",
     .type = OPTION_BOOL,
     OF_CONFIG(tls.is_auto),
     .doc = "Makes an authority in the data directory and a certificate by it, and renews that by "
            "itself. Clients have to trust the authority: `cardea cert ca` prints it."},
    {.path = "server.tls.names",
     .type = OPTION_LIST,
     OF_CONFIG(tls.names),
     .count_offset = offsetof(struct config, tls.n_names),
     .check = check_tls_name,
     .lower = true,
     .doc =
         "DNS names and addresses of the gateway, for the certificate of `auto` beside the "
         "machine's own addresses. The `Host` header may have them too, but for those with a star "
         "(`*.example.com`)."},
    {.path = "server.tls.client_ca",
     .type = OPTION_PATH,
     OF_CONFIG(tls.client_ca),
     .check = check_filled,
     .doc = "A PEM file with the authorities of clients. A client may then prove itself with a "
            "certificate by one of them, in place of a token."},
    {.path = "server.tls.client_identity",
     .type = OPTION_ENUM,
     OF_CONFIG(tls.client_identity),
     .choices = identity_choices,
     .doc = "Which part of that certificate is the caller's name: the whole subject (as RFC 4514 "
            "writes it), its common name, or the first alternative name of a kind. Without that "
            "part, the certificate names nobody."},
    {.path = "server.tls.require_client_certificate",
     .type = OPTION_BOOL,
     OF_CONFIG(tls.require_client_certificate),
     .doc = "Makes no connection without one, whatever token the client has."},
    {.path = "server.tls.min_version",
     .type = OPTION_ENUM,
     OF_CONFIG(tls.min_version),
     .choices = version_choices,
     .doc = "The oldest version of TLS that is spoken."},
    {.path = "server.tls.hsts",
     .type = OPTION_DURATION,
     OF_CONFIG(tls.hsts_ms),
     .fallback = DAYS(365),
     .max = DAYS(3650),
     .doc = "How long browsers keep to HTTPS (`Strict-Transport-Security`, RFC 6797). `\"0s\"`: "
            "the field is not sent."},

    {.path = "server.auth",
     .type = OPTION_TABLE,
     .doc = "How callers prove who they are. The token in the data directory lets in callers on "
            "this machine; [AUTHENTICATION.md](AUTHENTICATION.md) tells of all ways."},
    {.path = "server.auth.anonymous",
     .type = OPTION_BOOL,
     OF_CONFIG(auth_anonymous),
     .doc = "Lets callers in without a token, on a loopback address. Not together with a way to "
            "prove who they are."},
    {.path = "server.auth.none",
     .type = OPTION_STRING,
     OF_CONFIG(auth_none),
     .check = check_none,
     .doc = "`\"I know\"` lets everybody in from other machines too: whoever reaches the gateway "
            "may call everything. TLS is as ever. Not together with a way to prove who they "
            "are."},
    {.path = "server.auth.tokens",
     .type = OPTION_NAMED,
     OF_CONFIG(tokens),
     .count_offset = offsetof(struct config, n_tokens),
     .max = LIMIT_API_TOKENS,
     .check = config_check_token_name,
     .entry = &token_entry,
     .doc = "API tokens, by name. `cardea token new NAME` makes one and prints the lines."},
    {.path = TOKEN,
     .type = OPTION_TABLE,
     .doc = "One token. Its name is who is calling in logs; it has letters, digits, `-`, `_` and "
            "`.`."},
    {.path = TOKEN ".hash",
     .type = OPTION_STRING,
     OF_TOKEN(hash),
     .hidden = true,
     .check = check_hash,
     .lower = true,
     .required = true,
     .doc = "`\"sha256:\"` and the SHA-256 of the token, 64 hexadecimal digits. The token itself "
            "stands nowhere."},
    {.path = TOKEN ".groups",
     .type = OPTION_LIST,
     OF_TOKEN(groups),
     COUNT_OF_TOKEN(n_groups),
     .check = check_filled,
     .doc = "The groups that its owner belongs to."},
    {.path = TOKEN ".servers",
     .type = OPTION_LIST,
     OF_TOKEN(servers),
     COUNT_OF_TOKEN(n_servers),
     .check = check_filled,
     .doc = "The servers that it is for, by name; all when not set, none when empty."},
    {.path = TOKEN ".scopes",
     .type = OPTION_LIST,
     OF_TOKEN(scopes),
     COUNT_OF_TOKEN(n_scopes),
     .check = check_scope,
     .doc = "The scopes that it carries, for `scopes` of servers and tools."},
    {.path = TOKEN ".expires",
     .type = OPTION_TIME,
     OF_TOKEN(expires),
     COUNT_OF_TOKEN(expires_ms),
     .doc = "When it ends: a time with its offset (`\"2027-01-31T18:00:00+01:00\"`), or a date "
            "(`\"2027-01-31\"`), of which the last moment in UTC is meant. Never when not set."},

    {.path = "server.oauth",
     .type = OPTION_TABLE,
     OF_CONFIG(oauth.is_set),
     .doc = "OAuth 2: callers show an access token (a JWT) of an authorization server. Its keys "
            "come from `url`, from discovery by `issuer`, or are a `secret`. For several, one "
            "`[[server.oauth.issuers]]` each."},
    ISSUER_KEYS("server.oauth", OPTION_OF_CONFIG, offsetof(struct config, oauth.own)),
    {.path = "server.oauth.scopes",
     .type = OPTION_LIST,
     OF_CONFIG(oauth.scopes),
     .count_offset = offsetof(struct config, oauth.n_scopes),
     .check = check_scope,
     .doc = "Scopes that every request with an access token needs."},
    {.path = "server.oauth.protected_resource",
     .type = OPTION_TABLE,
     .doc = "What clients are told, to find the way to a token (RFC 9728)."},
    {.path = "server.oauth.protected_resource.resource",
     .type = OPTION_STRING,
     OF_CONFIG(oauth.resource),
     .check = check_resource,
     .before = "is no URL to use: ",
     .has_no_default = true,
     .doc = "The URL by which clients know the gateway: of the MCP endpoint "
            "(`\"https://gw.example.com/mcp\"`), or of what is above it "
            "(`\"https://gw.example.com\"`). Must be there. Its host is allowed as `Host`."},
    {.path = "server.oauth.protected_resource.authorization_servers",
     .type = OPTION_LIST,
     OF_CONFIG(oauth.authorization_servers),
     .count_offset = offsetof(struct config, oauth.n_authorization_servers),
     .check = check_issuer_url,
     .before = "is no URL to use: ",
     .doc = "Where clients get tokens. The issuers when not set."},
    {.path = "server.oauth.issuers",
     .type = OPTION_TABLES,
     OF_CONFIG(oauth.issuers),
     .count_offset = offsetof(struct config, oauth.n_issuers),
     .max = LIMIT_ISSUERS,
     .entry = &issuer_entry,
     .doc = "Authorization servers, when there is more than one. A token belongs to the one that "
            "its `iss` names, so each needs `issuer` or `expected_issuer`."},
    ISSUER_KEYS("server.oauth.issuers", OPTION_OF_ISSUER, 0),

    {.path = "server.client_identification",
     .type = OPTION_TABLE,
     .doc = "Who a caller is beside its credentials: a name and groups, by a claim of its access "
            "token or by a header that a proxy sets."},
    {.path = "server.client_identification.enabled",
     .type = OPTION_BOOL,
     OF_CONFIG(identification.enabled),
     .doc = "Refuses callers without a name, or with a group outside of `group_values`, with 400."},
    {.path = "server.client_identification.client_id",
     .type = OPTION_TABLE,
     .doc = "Where the name is: one of the two."},
    {.path = "server.client_identification.client_id.jwt_claim",
     .type = OPTION_STRING,
     OF_CONFIG(identification.client_claim),
     .text = "sub",
     .check = check_filled,
     .doc = "A claim, or the way to one with dots between (`\"realm.user\"`). A claim whose own "
            "name has dots is found too."},
    {.path = "server.client_identification.client_id.http_header",
     .type = OPTION_STRING,
     OF_CONFIG(identification.client_header),
     .check = check_field_name,
     .doc = "A header, taken from `server.trusted_proxies` alone."},
    {.path = "server.client_identification.group_id",
     .type = OPTION_TABLE,
     .doc = "Where the groups are: one of the two, or none."},
    {.path = "server.client_identification.group_id.jwt_claim",
     .type = OPTION_STRING,
     OF_CONFIG(identification.group_claim),
     .check = check_filled,
     .doc = "As for `client_id`; a string, or a list of strings."},
    {.path = "server.client_identification.group_id.http_header",
     .type = OPTION_STRING,
     OF_CONFIG(identification.group_header),
     .check = check_field_name,
     .doc = "A header, taken from `server.trusted_proxies` alone; several groups are set off by "
            "commas."},
    {.path = "server.client_identification.validation",
     .type = OPTION_TABLE,
     .doc = "What is let through."},
    {.path = "server.client_identification.validation.group_values",
     .type = OPTION_LIST,
     OF_CONFIG(identification.group_values),
     .count_offset = offsetof(struct config, identification.n_group_values),
     .check = check_filled,
     .doc = "The groups that there are; any when not set or empty."},

    {.path = "server.client_ip",
     .type = OPTION_TABLE,
     .doc = "The address of a caller behind `server.trusted_proxies`, and of a person behind "
            "`admin.trusted_proxies`. From anybody else these headers mean nothing."},
    {.path = "server.client_ip.x_real_ip",
     .type = OPTION_BOOL,
     OF_CONFIG(client_ip.x_real_ip),
     .doc = "Takes it from `X-Real-IP`, before all others."},
    {.path = "server.client_ip.x_forwarded_for",
     .type = OPTION_BOOL,
     OF_CONFIG(client_ip.x_forwarded_for),
     .doc = "Takes the last address of `X-Forwarded-For` that is not one of the trusted proxies: "
            "the best choice when all of them are listed."},
    {.path = "server.client_ip.x_forwarded_for_trusted_hops",
     .type = OPTION_INTEGER,
     OF_CONFIG(client_ip.hops),
     .fallback = UINT64_MAX,
     .max = LIMIT_FORWARDED - 1,
     .has_no_default = true,
     .doc = "Takes the address at this place of `X-Forwarded-For`, counted from the right: 0 is "
            "the last one."},

    {.path = "server.cors",
     .type = OPTION_TABLE,
     OF_CONFIG(cors.is_set),
     .doc = "What pages of other origins may do in a browser. Without it, nothing. `\"*\"` stands "
            "for all."},
    {.path = "server.cors.allow_credentials",
     .type = OPTION_BOOL,
     OF_CONFIG(cors.allow_credentials),
     .doc = "Lets browsers send cookies and certificates along. Not together with `\"*\"`."},
    {.path = "server.cors.allow_origins",
     .type = OPTION_LIST,
     OF_CONFIG(cors.allow_origins),
     .count_offset = offsetof(struct config, cors.n_allow_origins),
     .single = true,
     .check = check_origin,
     .lower = true,
     .doc = "Origins such as `\"https://app.example.com\"`; the host may have `*` for any part of "
            "a name (`\"https://*.example.com\"`). Requests of other origins are refused."},
    {.path = "server.cors.allow_methods",
     .type = OPTION_LIST,
     OF_CONFIG(cors.allow_methods),
     .count_offset = offsetof(struct config, cors.n_allow_methods),
     .single = true,
     .check = check_method,
     .doc = "Methods, in capitals. `OPTIONS` is always among them."},
    {.path = "server.cors.allow_headers",
     .type = OPTION_LIST,
     OF_CONFIG(cors.allow_headers),
     .count_offset = offsetof(struct config, cors.n_allow_headers),
     .single = true,
     .check = check_cors_header,
     .doc = "Headers that a page may send."},
    {.path = "server.cors.expose_headers",
     .type = OPTION_LIST,
     OF_CONFIG(cors.expose_headers),
     .count_offset = offsetof(struct config, cors.n_expose_headers),
     .single = true,
     .check = check_cors_header,
     .doc = "Headers of answers that a page may read."},
    {.path = "server.cors.max_age",
     .type = OPTION_DURATION,
     OF_CONFIG(cors.max_age_ms),
     .fallback = UINT64_MAX,
     .max = DAYS(365),
     .has_no_default = true,
     .doc = "How long a browser may remember this."},
    {.path = "server.cors.allow_private_network",
     .type = OPTION_BOOL,
     OF_CONFIG(cors.allow_private_network),
     .doc = "Lets pages from the Internet reach a gateway in a private network."},

    {.path = "server.csrf",
     .type = OPTION_TABLE,
     .doc = "A header that every request needs and that no page of another origin can send "
            "unasked."},
    {.path = "server.csrf.enabled",
     .type = OPTION_BOOL,
     OF_CONFIG(csrf.enabled),
     .doc = "Refuses requests without it, other than `OPTIONS`, with 403."},
    {.path = "server.csrf.header_name",
     .type = OPTION_STRING,
     OF_CONFIG(csrf.header_name),
     .text = "X-Nexus-CSRF-Protection",
     .check = check_field_name,
     .doc = "Its name. What it holds does not matter."},
};
const size_t option_auth_count = ARRAY_LEN(option_auth_rows);
