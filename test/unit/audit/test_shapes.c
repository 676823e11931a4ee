/* What is taken for a secret in a text, and what is not. */
#include "base/limits.h"
#include "marked.h"
#include "names.h"
#include "shapes.h"

#define HEX32   "0123456789abcdef0123456789abcdef"
#define ALNUM36 "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF4hJ6"
#define HEADER  "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
#define PAYLOAD "eyJzdWIiOiIxMjM0NTY3ODkwIn0"
#define JWT     HEADER "." PAYLOAD ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
#define AWS_KEY "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define AWS_ID                                                                                     \
    "AKIA"                                                                                         \
    "IOSFODNN7EXAMPLE"

static const char *const positives[] = {
    /* Private keys. */
    "«-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\n-----END PRIVATE KEY-----»\n",
    "a «-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----» b",
    "«-----BEGIN EC PRIVATE KEY-----\r\nMIIE\r\n-----END EC PRIVATE KEY-----»",
    "«-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----»",
    "«-----BEGIN ENCRYPTED PRIVATE KEY-----\nx\n-----END ENCRYPTED PRIVATE KEY-----»",
    "«-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQ\n-----END PGP PRIVATE KEY BLOCK-----»",
    "«-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY-----»\\n",
    "cut: «-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw»",
    "«-----BEGIN PRIVATE KEY-----\nA\n-----END PRIVATE KEY-----» and "
    "«-----BEGIN PRIVATE KEY-----\nB\n-----END PRIVATE KEY-----»",
    "------«-----BEGIN PRIVATE KEY-----\nA\n-----END PRIVATE KEY-----»",
    /* JWTs and the like. */
    "«" JWT "»",
    "the token is «" JWT "».",
    "x=«" JWT "»",
    "(«" JWT "»)",
    "«" HEADER "." PAYLOAD "».",
    "«" HEADER "..48V1_ALb6US04U3b.5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6ji"
    ".XFBoMYUZodetZdvTiFvSkQ»",
    "«eyAiYWxnIjogIm5vbmUiIH0.eyJhIjoxfQ».", /* with blanks in its header */
    "«ewogICJhbGciOiAiSFMyNTYiCn0.eyJhIjoxfQ.abc»",
    "prefix"
    "«" JWT "»",
    /* Tokens with a prefix. */
    "«cardea_"
    "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmE»",
    "key «" AWS_ID "».",
    "«ASIA"
    "IOSFODNN7EXAMPLE»",
    "«" AWS_ID "» «" AWS_KEY "»",
    "«" AWS_ID "»,«" AWS_KEY "»",
    "[«" AWS_KEY "», «" AWS_ID "»]",
    "aws_access_key_id = «" AWS_ID "»\naws_secret_access_key = «" AWS_KEY "»",
    "«ghp_" ALNUM36 "»",
    "«gho_" ALNUM36 "»",
    "«ghu_" ALNUM36 "»",
    "«ghs_" ALNUM36 "»",
    "«ghr_" ALNUM36 "»",
    "x«ghp_" ALNUM36 "»",
    "«github_pat_"
    "11ABCDEFG0aBcDeFgHiJkL_aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789»",
    "«glpat-"
    "aB3dE5gH7jK9mN1pQ3sT»",
    "«gldt-"
    "aB3dE5gH7jK9mN1pQ3sT»",
    "«glptt-"
    "aB3dE5gH7jK9mN1pQ3sT5vW7yZ»",
    "«xoxb-"
    "123456789012-1234567890123-aB3dE5gH7jK9mN1pQ3sT5vW7»",
    "«xoxp-"
    "123456789012-1234567890123»",
    "«xoxs-"
    "123456789012»",
    "«xapp-"
    "1-A0123456789-1234567890123-abcdef»",
    "«AIza"
    "SyA1234567890abcdefghijklmnopqrstuv»",
    "?key=«AIza"
    "SyA1234567890abcdefghijklmnopqrstuv»&x=1",
    "«GOCSPX-"
    "aB3dE5gH7jK9mN1pQ3sT»",
    "«ya29."
    "a0AfH6SMBx1234567890abcdefg»",
    "«1//0"
    "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF4hJ6»",
    "«sk_live_"
    "aB3dE5gH7jK9mN1pQ3sT»",
    "«rk_live_"
    "aB3dE5gH7jK9mN1pQ3sT»",
    "«sk_test_"
    "aB3dE5gH7jK9mN1pQ3sT»",
    "«whsec_"
    "aB3dE5gH7jK9mN1pQ3sT»",
    "«sk-"
    "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF4hJ6aB3dE5gH7jK9»",
    "«sk-proj-"
    "aB3dE5gH7jK9mN1pQ3sT-5vW7yZ9bC2_F4hJ6»",
    "«sk-ant-api03-"
    "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF4hJ6-aB3dE5gH7jK9AA»",
    "«sk-or-v1-" HEX32 "»",
    "\"«sk-"
    "aB3dE5gH7jK9mN1pQ3sT5»\"",
    "a%20«sk-"
    "aB3dE5gH7jK9mN1pQ3sT5»",
    "«gsk_"
    "aB3dE5gH7jK9mN1pQ3sT5vW7»",
    "«pplx-"
    "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF»",
    "«hf_"
    "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH»",
    "«npm_" ALNUM36 "»",
    "«pypi-"
    "AgEIcHlwaS5vcmcCJDU4NzU3YjQ1LTEyMzQtNTY3OC05YWJjLWRlZjAxMjM0NTY3OA»",
    "«dckr_pat_"
    "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9»",
    "«SG."
    "aB3dE5gH7jK9mN1pQ3sT5v.aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF4hJ6aB3dE5g»",
    "«gAAAAA"
    "BkZm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmE=»",
    "«AGE-SECRET-KEY-1"
    "QQPZRY9X8GF2TVDW0S3JN54KHCE6MUA7LQPZRY9X8GF2TVDW0S3JN»",
    "«hvs."
    "aB3dE5gH7jK9mN1pQ3sT5vW7»",
    "«dop_v1_" HEX32 HEX32 "»",
    "«shpat_" HEX32 "»",
    "«dapi" HEX32 "»",
    "«lin_api_" ALNUM36 "»",
    "«glsa_"
    "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF_1a2b3c4d»",
    "«figd_"
    "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF4hJ6-_»",
    "«SK" HEX32 "»",
    "«key-" HEX32 "»",
    "bot 123456789:«AAF"
    "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF»",
    /* With their scheme. */
    "Bearer «aB3dE5gH7jK9»",
    "bearer «hunterhunter»",
    "curl with Bearer «abc123def456» works",
    "Bearer%20«abc123def456»",
    "Bearer\t«abc123def456.ghi~jkl+mno/p==»",
    "Bearer «" JWT "»",
    "Basic «dXNlcjpwYXNzd29yZA==»",
    "send basic «YWRtaW46aHVudGVyMg»!",
    "Authorization: «Basic dXNlcjpwYXNzd29yZA==»",
    "authorization: «Bearer x»\nHost: a",
    "-H 'Authorization: «Bearer abc def»' https://a.example/",
    "-H \"X-Api-Key: «abc»\" https://a.example/",
    "Proxy-Authorization: «Basic eDp5»",
    "Authorization: «AWS4-HMAC-SHA256 Credential=x, Signature=y»",
    "Cookie: «sid=abc; theme=dark»",
    "Set-Cookie: «sid=abc; HttpOnly»\r\nServer: x",
    "x-api-key: «abc»",
    /* Passwords in URLs. */
    "https://user:«hunter2»@example.com/",
    "postgres://app:«p4ss»@db:5432/x",
    "postgres://app:«p/4:ss»@db/x",
    "postgres://app:«p@ss»@db/x",
    "redis://:«hunter2»@cache:6379/0",
    "see amqp://guest:«guest»@mq, please",
    "\"mongodb+srv://u:«pw»@cluster0.example.net/?x=1\"",
    "git clone https://x-access-token:«abcdef»@git.example/x",
    "https://«abcdef0123456789abcdef:x-oauth-basic»@git.example/",
    "https://«abcdef0123456789abcdef:»@git.example/",
    "http://u:«p»@[::1]/",
    /* Given to a name. */
    "password=«hunter2»",
    "password = «hunter2» # x",
    "password=\"«correct horse»\"",
    "password='«it\\'s»' x",
    "PASSWORD=«hunter2» psql",
    "PGPASSWORD=«hunter2» psql -h x",
    "export DB_PASSWORD=«hunter2»",
    "?user=a&password=«b%20c»&x=1",
    "https://a.example/?access_token=«abc»&x=1",
    "?api_key=«abc»",
    "apikey=«abc»",
    "token=«abc»",
    "refresh-token = «abc»",
    "Server=a;Password=«b»;Database=c",
    "DefaultEndpointsProtocol=https;AccountKey=«Zm9vYmFy/+Zm9v==»;EndpointSuffix=x",
    "SharedAccessKey=«abc=»;x",
    "?se=2026&sig=«abc%3D»&sp=r",
    "X-Amz-Date=1&X-Amz-Signature=«abc»",
    "client_secret=«abc»&grant_type=x",
    "user[password]=«abc»&x=1",
    "config['secret_key'] = '«abc»'",
    "password := \"«abc»\"",
    "\"password\" => \"«abc»\"",
    "secret = b'«abc»'",
    "{\"password\": \"«abc»\"}",
    "{\"password\": \"«a\\\"bc\\\\»\", \"x\": \"y\"}",
    "{\"apiKey\":\"«abc»\",\"b\":1}",
    "{\"pin\":«1234»,\"b\":1}",
    "{\"token\": «true»}",
    "{\"credentials\": «{\"a\": [1, 2]}», \"b\": 1}",
    "{\\\"password\\\": \\\"«abc»\\\", \\\"b\\\": 1}",
    "{\\\\\\\"token\\\\\\\":\\\\\\\"«abc»\\\\\\\"}",
    "{'password': '«abc»'}",
    "password: «hunter2»",
    "  password: «two words»\n  user: x",
    "- passphrase: «correct horse battery staple»\n",
    "user: a\npassword: «b c»\nhost: d",
    "my password: «hunter2» is good",
    "token: «abc12345»",
    "secret: «a1b2c3d4e5»",
    "password=«a\xc3\xa4\xe2\x82\xac»",
    "PASSWORD=«-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----»\n",
    "password=«" JWT "»;x",
    "password2=«abc»",
    "password=«\x01\x02»",
    /* Flags. */
    "mysql --password «hunter2» db",
    "login --token «abc»",
    "login --api-key '«a b»' x",
    "login --password=«hunter2»",
    "curl -u admin:«hunter2» https://a.example/",
    "curl --user 'admin:«hunter 2»'",
    /* Elements. */
    "<password>«hunter2»</password>",
    "<a:ApiKey>«abc»</a:ApiKey>",
    "<Password>«cut»",
};

static const char *const negatives[] = {
    "",
    "a",
    "=",
    ":",
    "-",
    "--",
    "hello, world",
    "550e8400-e29b-41d4-a716-446655440000",
    "urn:uuid:550e8400-e29b-41d4-a716-446655440000",
    "d41d8cd98f00b204e9800998ecf8427e",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", /* 40 characters, and no id beside */
    "commit 14f5c7d1e2a3b4c5d6e7f8091a2b3c4d5e6f7081",
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9aw==",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQg==",
    "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7",
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAAMCAgICAgMCAgIDAwMDBAYEBAQEBAgGBgUGCQgKCgkICQkKDA8MCgsOCwkJ",
    "UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoBAAEAAwA0JaQAA3AA/vuUAAA=",
    "eyJvZmZzZXQiOjEwfQ==", /* a cursor */
    "eyJvZmZzZXQiOjEwfQ",
    "they are new keys, eyeing.stuff here",
    "ewok.txt",
    "https://example.com/",
    "https://example.com:8443/a/b?x=1&y=2#top",
    "https://user@example.com/",
    "https://example.com:8080/@user",
    "https://example.com:8080/a@b",
    "https://[2001:db8::1]:443/x@y",
    "http://localhost:3000/path?mail=a@b.example",
    "mailto:someone@example.com",
    "git@github.com:owner/project.git",
    "ssh://git@example.com/x.git",
    "file:///etc/passwd",
    "//example.com/x",
    "a://b",
    "C:\\Users\\x",
    "10:45:12",
    "2026-11-21T22:55:01Z",
    "fe80::1ff:fe23:4567:890a",
    "std::token::next()",
    "The token is what proves who you are.",
    "Tokens: how many tokens does this prompt have?",
    "Token: a piece of a word",
    "A bearer of news came.",
    "Bearer authentication is described in RFC 6750",
    "the bearer token",
    "Basic understanding of the secret life of trees",
    "Basic JavaScript",
    "basic auth",
    "the authorization: it is granted by the owner",
    "Authorization: none of us has it",
    "Cookie: a small cake",
    "secret: keep quiet",
    "pin: the map",
    "the password was reset",
    "a password, a token and a secret",
    "forgot password?",
    "password",
    "password=",
    "password =",
    "password: ",
    "password:\n  x",
    "if (password == other) return;",
    "password != x",
    "token => token.id",
    "max_tokens=100",
    "max_tokens: 100",
    "\"max_tokens\": 4096",
    "tokens=12",
    "token_count=7",
    "token_type=bearer&expires_in=3600",
    "next_page_token=abc123",
    "pageToken: abc12345",
    "progressToken=abc12345",
    "eos_token=</s>",
    "tokenizer=gpt2",
    "secretary=Jane",
    "secret_name=prod/db",
    "password_length=12",
    "passwordless=true",
    "compass=north",
    "bypass=1",
    "spin=1",
    "monkey=banana",
    "key=value",
    "keyboard: us",
    "primary_key=id",
    "foreign key: user_id",
    "public_key=abc",
    "author=Jane",
    "authority: https",
    "sig=abc", /* no query */
    "signature: abc",
    "risk-averse people ask-me-anything about disk-usage-and-other-long-words",
    "sk-learn",
    "sk-these-are-only-words-of-a-slug-that-is-long",
    "task-0123456789012345678901234567",
    "pk_live_aB3dE5gH7jK9mN1pQ3sT",
    "ghp_short",
    "ghost_writer",
    "npm_config_registry",
    "hf_hub_download",
    "AKIA",
    "AKIAfoo",
    "xoxo",
    "SG.1",
    "gAAAAA",
    "AIzawa",
    "SKU12345",
    "key-value-store",
    "dapi-docs",
    "cardea_config",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n",
    "-----BEGIN PGP MESSAGE-----\nx\n-----END PGP MESSAGE-----",
    "----------------------------------------",
    "ls -u && date -u +%H:%M",
    "sort -u file",
    "run --verbose --output x --force",
    "--max-tokens 100",
    "--token --verbose",
    "<p>password</p>",
    "<a href=\"x\">token</a>",
    "a < b > c",
    "SELECT * FROM t WHERE a = 'b' AND c > 1",
    "{\"a\": \"b\", \"n\": [1, 2], \"type\": \"object\"}",
    "x\xff\xfe\x80:\xff=\xc3",
};

static struct audit_redact *make(void) {
    static const struct config_audit config = {.redact_shapes = true};
    struct audit_redact *redact = NULL;
    struct buf reason = BUF_INIT(1000);
    if (audit_redact_new(&config, &redact, &reason) != 0)
        CANNOT_GO_ON();
    buf_deinit(&reason);
    return redact;
}

static void check_row(const struct audit_redact *redact, const char *marked) {
    struct regex_work work;
    struct buf text = BUF_INIT(MIB(1)), expected = BUF_INIT(MIB(1)), out = BUF_INIT(MIB(1));
    split_marked(marked, &text, &expected);
    regex_work_init(&work);
    CHECK_INT(audit_redact_text(redact, &work, buf_slice(&text), &out), 0);
    test_row(marked);
    CHECK_SLICE(buf_slice(&out), buf_slice(&expected));
    test_row("");
    regex_work_deinit(&work);
    buf_deinit(&text);
    buf_deinit(&expected);
    buf_deinit(&out);
}

static void test_positives(void) {
    struct audit_redact *redact = make();
    CHECK(ARRAY_LEN(positives) >= 120);
    for (size_t i = 0; i < ARRAY_LEN(positives); i++) {
        CHECK(strstr(positives[i], MARK_BEGIN) != NULL);
        check_row(redact, positives[i]);
    }
    audit_redact_free(redact);
}

static void test_negatives(void) {
    struct audit_redact *redact = make();
    CHECK(ARRAY_LEN(negatives) >= 80);
    for (size_t i = 0; i < ARRAY_LEN(negatives); i++)
        check_row(redact, negatives[i]);
    audit_redact_free(redact);
}

TEST_MAIN(TEST(test_positives), TEST(test_negatives))
