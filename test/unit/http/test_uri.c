/* URIs: what is taken apart, what is refused, and the reference resolution examples of RFC 3986
 * section 5.4. */
#include <errno.h>

#include "base/limits.h"
#include "http/uri.h"
#include "test.h"

static void test_parse(void) {
    static const struct {
        const char *text, *scheme, *userinfo, *host;
        enum uri_host_kind kind;
        int port;
        const char *path, *query, *fragment; /* NULL: none */
    } rows[] = {
        {"http://h", "http", NULL, "h", URI_HOST_NAME, 80, "", NULL, NULL},
        {"HTTPS://Example.COM/a/b?c=d&e#f/?", "HTTPS", NULL, "Example.COM", URI_HOST_NAME, 443,
         "/a/b", "c=d&e", "f/?"},
        {"http://h:8080?q", "http", NULL, "h", URI_HOST_NAME, 8080, "", "q", NULL},
        {"http://h?", "http", NULL, "h", URI_HOST_NAME, 80, "", "", NULL},
        {"http://h#", "http", NULL, "h", URI_HOST_NAME, 80, "", NULL, ""},
        {"ws://h", "ws", NULL, "h", URI_HOST_NAME, 80, "", NULL, NULL},
        {"wss://h", "wss", NULL, "h", URI_HOST_NAME, 443, "", NULL, NULL},
        {"redis://:pw@h/0", "redis", ":pw", "h", URI_HOST_NAME, 6379, "/0", NULL, NULL},
        {"rediss://h", "rediss", NULL, "h", URI_HOST_NAME, 6379, "", NULL, NULL},
        {"postgresql://u:p%40@db.internal:5432/x", "postgresql", "u:p%40", "db.internal",
         URI_HOST_NAME, 5432, "/x", NULL, NULL},
        {"custom://h/", "custom", NULL, "h", URI_HOST_NAME, 0, "/", NULL, NULL},
        {"http://u@h/", "http", "u", "h", URI_HOST_NAME, 80, "/", NULL, NULL},
        {"http://@h/", "http", "", "h", URI_HOST_NAME, 80, "/", NULL, NULL},
        {"http://127.0.0.1/", "http", NULL, "127.0.0.1", URI_HOST_IPV4, 80, "/", NULL, NULL},
        {"http://255.255.255.255:65535", "http", NULL, "255.255.255.255", URI_HOST_IPV4, 65535, "",
         NULL, NULL},
        {"http://[::1]:1/", "http", NULL, "::1", URI_HOST_IPV6, 1, "/", NULL, NULL},
        {"http://[::ffff:127.0.0.1]", "http", NULL, "::ffff:127.0.0.1", URI_HOST_IPV6, 80, "", NULL,
         NULL},
        {"file:///etc/x", "file", NULL, "", URI_HOST_NONE, 0, "/etc/x", NULL, NULL},
        {"mailto:a@b.example", "mailto", NULL, "", URI_HOST_NONE, 0, "a@b.example", NULL, NULL},
        {"urn:a:b?c#d", "urn", NULL, "", URI_HOST_NONE, 0, "a:b", "c", "d"},
        {"a+b-c.1:/x", "a+b-c.1", NULL, "", URI_HOST_NONE, 0, "/x", NULL, NULL},
        {"data:,x%20y", "data", NULL, "", URI_HOST_NONE, 0, ",x%20y", NULL, NULL},
        {"memo://my_notes/a//b", "memo", NULL, "my_notes", URI_HOST_NAME, 0, "/a//b", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct uri uri;
        const char *reason = NULL;
        test_row(rows[i].text);
        int r = uri_parse(slice_from_cstr(rows[i].text), &uri, &reason);
        CHECK_INT(r, 0);
        if (r != 0)
            continue;
        CHECK_STR(uri.scheme, rows[i].scheme);
        CHECK_INT(uri.has_userinfo, rows[i].userinfo != NULL);
        CHECK_STR(uri.userinfo, rows[i].userinfo);
        CHECK_STR(uri.host, rows[i].host);
        CHECK_INT(uri.host_kind, rows[i].kind);
        CHECK_INT(uri.port, rows[i].port);
        CHECK_STR(uri.path, rows[i].path);
        CHECK_INT(uri.has_query, rows[i].query != NULL);
        CHECK_STR(uri.query, rows[i].query);
        CHECK_INT(uri.has_fragment, rows[i].fragment != NULL);
        CHECK_STR(uri.fragment, rows[i].fragment);
    }
}

static void test_refused(void) {
    static const struct {
        struct slice text;
        const char *reason;
    } rows[] = {
        {SLICE_INIT(""), "the scheme is missing"},
        {SLICE_INIT("//h/"), "the scheme is missing"},
        {SLICE_INIT("/a"), "the scheme is missing"},
        {SLICE_INIT("h"), "the scheme is missing"},
        {SLICE_INIT(":a"), "the scheme is missing"},
        {SLICE_INIT("1http://h/"), "the scheme is missing"},
        {SLICE_INIT("ht tp://h/"), "the scheme is missing"},
        {SLICE_INIT(" http://h/"), "the scheme is missing"},
        {SLICE_INIT("http:"), "the scheme needs a host"},
        {SLICE_INIT("http:/h"), "the scheme needs a host"},
        {SLICE_INIT("https:h"), "the scheme needs a host"},
        {SLICE_INIT("http://"), "the host is missing"},
        {SLICE_INIT("http:///a"), "the host is missing"},
        {SLICE_INIT("http://?a"), "the host is missing"},
        {SLICE_INIT("http://:80/"), "the host name is not valid"},
        {SLICE_INIT("http://u@/"), "the host is missing"},
        {SLICE_INIT("x://u@/"), "the host is missing"},
        {SLICE_INIT("x://:1/"), "the host name is not valid"},
        {SLICE_INIT("http://h:/"), "the port is not a number from 1 to 65535"},
        {SLICE_INIT("http://h:0/"), "the port is not a number from 1 to 65535"},
        {SLICE_INIT("http://h:080/"), "the port is not a number from 1 to 65535"},
        {SLICE_INIT("http://h:65536/"), "the port is not a number from 1 to 65535"},
        {SLICE_INIT("http://h:100000/"), "the port is not a number from 1 to 65535"},
        {SLICE_INIT("http://h:4294967376/"), "the port is not a number from 1 to 65535"},
        {SLICE_INIT("http://h:-1/"), "the port is not a number from 1 to 65535"},
        {SLICE_INIT("http://h:8a/"), "the port is not a number from 1 to 65535"},
        {SLICE_INIT("http://u:p@h:x@i/"), "the port is not a number from 1 to 65535"},
        {SLICE_INIT("http://a@b@c/"), "the host name is not valid"},
        {SLICE_INIT("http://u[@h/"), "the user information is not valid"},
        {SLICE_INIT("http://u%4@h/"), "the user information is not valid"},
        {SLICE_INIT("http://h./"), "the host name is not valid"},
        {SLICE_INIT("http://.h/"), "the host name is not valid"},
        {SLICE_INIT("http://a..b/"), "the host name is not valid"},
        {SLICE_INIT("http://-h/"), "the host name is not valid"},
        {SLICE_INIT("http://h-/"), "the host name is not valid"},
        {SLICE_INIT("http://a.-b/"), "the host name is not valid"},
        {SLICE_INIT("http://h%61/"), "the host name is not valid"},
        {SLICE_INIT("http://h\xc3\xa4/"), "the host name is not valid"},
        {SLICE_INIT("http://h\\@i/"), "the user information is not valid"},
        {SLICE_INIT("http://h\\i/"), "the host name is not valid"},
        {SLICE_INIT("http://h i/"), "the host name is not valid"},
        {SLICE_INIT("http://h\0/"), "the host name is not valid"},
        {SLICE_INIT("http://h;a/"), "the host name is not valid"},
        {SLICE_INIT("http://0x7f.1/"), "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://0x7f000001/"),
         "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://127.0.0.0x1/"),
         "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://127.0.0.0X1/"),
         "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://a.0x/"), "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://2130706433/"),
         "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://0/"), "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://127.1/"), "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://127.0.1/"), "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://127.0.0.1.1/"),
         "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://0177.0.0.1/"),
         "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://127.0.0.01/"),
         "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://127.0.0.256/"),
         "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://127.0.0.4294967297/"),
         "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://127..0.1/"), "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://a.example.1/"),
         "a numeric host must be an IPv4 address of four numbers"},
        {SLICE_INIT("http://127.0.0.1./"), "the host name is not valid"},
        {SLICE_INIT("http://[::1/"), "the bracket of an IPv6 address is not closed"},
        {SLICE_INIT("http://[]/"), "the IPv6 address is not valid"},
        {SLICE_INIT("http://[::1%25eth0]/"), "the IPv6 address is not valid"},
        {SLICE_INIT("http://[fe80::1%eth0]/"), "the IPv6 address is not valid"},
        {SLICE_INIT("http://[v1.a]/"), "the IPv6 address is not valid"},
        {SLICE_INIT("http://[127.0.0.1]/"), "the IPv6 address is not valid"},
        {SLICE_INIT("http://[::1]a/"), "the authority does not end behind the host"},
        {SLICE_INIT("http://[::1]:/"), "the port is not a number from 1 to 65535"},
        {SLICE_INIT("http://[::1]]/"), "the authority does not end behind the host"},
        {SLICE_INIT("http://::1/"), "the host name is not valid"},
        {SLICE_INIT("http://h/a b"), "the path is not valid"},
        {SLICE_INIT("http://h/a\\b"), "the path is not valid"},
        {SLICE_INIT("http://h/%"), "the path is not valid"},
        {SLICE_INIT("http://h/%2"), "the path is not valid"},
        {SLICE_INIT("http://h/%2g"), "the path is not valid"},
        {SLICE_INIT("http://h/[a]"), "the path is not valid"},
        {SLICE_INIT("http://h/\x7f"), "the path is not valid"},
        {SLICE_INIT("http://h/\r\nX: y"), "the path is not valid"},
        {SLICE_INIT("http://h/\xc3\xa4"), "the path is not valid"},
        {SLICE_INIT("http://h/?a b"), "the query is not valid"},
        {SLICE_INIT("http://h/?%zz"), "the query is not valid"},
        {SLICE_INIT("http://h/#a#b"), "the fragment is not valid"},
        {SLICE_INIT("http://h/#a b"), "the fragment is not valid"},
        {SLICE_INIT("mailto:a\tb"), "the path is not valid"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct uri uri = {.port = 77};
        const char *reason = "";
        test_row(rows[i].text.ptr);
        CHECK_INT(uri_parse(rows[i].text, &uri, &reason), URI_E_INVALID);
        CHECK_STR(slice_from_cstr(reason), rows[i].reason);
        CHECK_INT(uri.port, 77);
        CHECK_INT(uri_parse(rows[i].text, &uri, NULL), URI_E_INVALID);
    }
}

static void test_ipv6(void) {
    static const struct {
        const char *text;
        bool valid;
    } rows[] = {
        {"[::]", true},
        {"[::1]", true},
        {"[1::]", true},
        {"[1:2:3:4:5:6:7:8]", true},
        {"[1:2:3:4:5:6:7::]", true},
        {"[::2:3:4:5:6:7:8]", true},
        {"[1::8]", true},
        {"[1:2::7:8]", true},
        {"[abcd:EF01:2345:6789:abcd:ef01:2345:6789]", true},
        {"[::1.2.3.4]", true},
        {"[1:2:3:4:5:6:1.2.3.4]", true},
        {"[1::1.2.3.4]", true},
        {"[1:2:3:4:5::1.2.3.4]", true},
        {"[0000:0000:0000:0000:0000:ffff:255.255.255.255]", true},
        {"[:]", false},
        {"[:::]", false},
        {"[1]", false},
        {"[1:]", false},
        {"[:1]", false},
        {"[1:2:3:4:5:6:7]", false},
        {"[1:2:3:4:5:6:7:8:9]", false},
        {"[1:2:3:4:5:6:7:8::]", false},
        {"[::1:2:3:4:5:6:7:8]", false},
        {"[1:2:3:4::5:6:7:8]", false},
        {"[1::2::3]", false},
        {"[1:::2]", false},
        {"[::12345]", false},
        {"[::g]", false},
        {"[1:2:3:4:5:6:7:]", false},
        {"[:1:2:3:4:5:6:7]", false},
        {"[1:2:3:4:5:6:7:1.2.3.4]", false},
        {"[1:2:3:4:5:6::1.2.3.4]", false},
        {"[::1.2.3]", false},
        {"[::1.2.3.4.5]", false},
        {"[::1.2.3.256]", false},
        {"[::01.2.3.4]", false},
        {"[::1.2.3.4:5]", false},
        {"[::1 ]", false},
        {"[::1/64]", false},
        {"[0000:0000:0000:0000:0000:ffff:255.255.255.2555]", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct uri_authority authority;
        test_row(rows[i].text);
        CHECK_INT(uri_parse_authority(slice_from_cstr(rows[i].text), &authority) == 0,
                  rows[i].valid);
    }
}

static void test_authority(void) {
    struct uri_authority authority = {.port = 77};
    CHECK_INT(uri_parse_authority(SLICE("h"), &authority), 0);
    CHECK_STR(authority.host, "h");
    CHECK(!authority.has_port && authority.port == 0);
    CHECK_INT(uri_parse_authority(SLICE("[::1]:80"), &authority), 0);
    CHECK_STR(authority.host, "::1");
    CHECK_INT(authority.host_kind, URI_HOST_IPV6);
    CHECK(authority.has_port && authority.port == 80);
    CHECK_INT(uri_parse_authority(SLICE("10.0.0.1:443"), &authority), 0);
    CHECK_INT(authority.host_kind, URI_HOST_IPV4);
    static const char *const refused[] = {"",        "u@h",  "h/", "h?", "h#",
                                          "h:80:80", "h, i", " h", "h\t"};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        test_row(refused[i]);
        CHECK_INT(uri_parse_authority(slice_from_cstr(refused[i]), &authority), URI_E_INVALID);
        CHECK_INT(authority.port, 443);
    }
}

static void test_host_name(void) {
    static const struct {
        const char *text;
        bool valid;
    } rows[] = {
        {"a", true},
        {"a-b.c_d.E0", true},
        {"_mcp._tcp.example", true},
        {"1.example", true},
        {"0xg", true},
        {"x0x1", true},
        {"xn--bcher-kva.example", true},
        {"", false},
        {".", false},
        {"a.", false},
        {".a", false},
        {"a..b", false},
        {"-a", false},
        {"a-", false},
        {"a b", false},
        {"a:1", false},
        {"a/b", false},
        {"1.2.3.4", false},
        {"1", false},
        {"0x1", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].text);
        CHECK_INT(uri_is_host_name(slice_from_cstr(rows[i].text)), rows[i].valid);
    }
    /* Lengths: a label of 63 and 64, a name of 253 and 254. */
    char name[260];
    memset(name, 'a', sizeof name);
    test_row("lengths");
    CHECK(uri_is_host_name(slice_make(name, 63)));
    CHECK(!uri_is_host_name(slice_make(name, 64)));
    for (size_t i = 49; i < sizeof name; i += 50)
        name[i] = '.';
    CHECK(uri_is_host_name(slice_make(name, 253)));
    CHECK(!uri_is_host_name(slice_make(name, 254)));
}

static void test_same_origin(void) {
    static const struct {
        const char *a, *b;
        bool same;
    } rows[] = {
        {"http://h/a", "HTTP://H:80/b?c", true}, {"https://h", "https://h:443", true},
        {"http://h", "https://h", false},        {"http://h", "http://h:8080", false},
        {"http://h", "http://i", false},         {"http://a.h", "http://h", false},
        {"x://h:1", "x://h:1/", true},           {"file:///a", "file:///a", false},
        {"mailto:a", "mailto:a", false},         {"http://[::1]", "http://[::1]:80", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct uri a, b;
        test_row(rows[i].a);
        REQUIRE(uri_parse(slice_from_cstr(rows[i].a), &a, NULL) == 0);
        REQUIRE(uri_parse(slice_from_cstr(rows[i].b), &b, NULL) == 0);
        CHECK_INT(uri_same_origin(&a, &b), rows[i].same);
        CHECK_INT(uri_same_origin(&b, &a), rows[i].same);
    }
}

static void test_resolve(void) {
    static const struct {
        const char *base, *reference, *expect; /* NULL: refused */
    } rows[] = {
        {"http://a/b/c/d;p?q", "g:h", "g:h"},
        {"http://a/b/c/d;p?q", "g", "http://a/b/c/g"},
        {"http://a/b/c/d;p?q", "./g", "http://a/b/c/g"},
        {"http://a/b/c/d;p?q", "g/", "http://a/b/c/g/"},
        {"http://a/b/c/d;p?q", "/g", "http://a/g"},
        {"http://a/b/c/d;p?q", "//g", "http://g"},
        {"http://a/b/c/d;p?q", "?y", "http://a/b/c/d;p?y"},
        {"http://a/b/c/d;p?q", "g?y", "http://a/b/c/g?y"},
        {"http://a/b/c/d;p?q", "#s", "http://a/b/c/d;p?q#s"},
        {"http://a/b/c/d;p?q", "g#s", "http://a/b/c/g#s"},
        {"http://a/b/c/d;p?q", "g?y#s", "http://a/b/c/g?y#s"},
        {"http://a/b/c/d;p?q", ";x", "http://a/b/c/;x"},
        {"http://a/b/c/d;p?q", "g;x", "http://a/b/c/g;x"},
        {"http://a/b/c/d;p?q", "g;x?y#s", "http://a/b/c/g;x?y#s"},
        {"http://a/b/c/d;p?q", "", "http://a/b/c/d;p?q"},
        {"http://a/b/c/d;p?q", ".", "http://a/b/c/"},
        {"http://a/b/c/d;p?q", "./", "http://a/b/c/"},
        {"http://a/b/c/d;p?q", "..", "http://a/b/"},
        {"http://a/b/c/d;p?q", "../", "http://a/b/"},
        {"http://a/b/c/d;p?q", "../g", "http://a/b/g"},
        {"http://a/b/c/d;p?q", "../..", "http://a/"},
        {"http://a/b/c/d;p?q", "../../", "http://a/"},
        {"http://a/b/c/d;p?q", "../../g", "http://a/g"},
        {"http://a/b/c/d;p?q", "../../../g", "http://a/g"},
        {"http://a/b/c/d;p?q", "../../../../g", "http://a/g"},
        {"http://a/b/c/d;p?q", "/./g", "http://a/g"},
        {"http://a/b/c/d;p?q", "/../g", "http://a/g"},
        {"http://a/b/c/d;p?q", "g.", "http://a/b/c/g."},
        {"http://a/b/c/d;p?q", ".g", "http://a/b/c/.g"},
        {"http://a/b/c/d;p?q", "g..", "http://a/b/c/g.."},
        {"http://a/b/c/d;p?q", "..g", "http://a/b/c/..g"},
        {"http://a/b/c/d;p?q", "./../g", "http://a/b/g"},
        {"http://a/b/c/d;p?q", "./g/.", "http://a/b/c/g/"},
        {"http://a/b/c/d;p?q", "g/./h", "http://a/b/c/g/h"},
        {"http://a/b/c/d;p?q", "g/../h", "http://a/b/c/h"},
        {"http://a/b/c/d;p?q", "g;x=1/./y", "http://a/b/c/g;x=1/y"},
        {"http://a/b/c/d;p?q", "g;x=1/../y", "http://a/b/c/y"},
        {"http://a/b/c/d;p?q", "g?y/./x", "http://a/b/c/g?y/./x"},
        {"http://a/b/c/d;p?q", "g#s/../x", "http://a/b/c/g#s/../x"},
        {"http://a/b/c/d;p?q", "http:g", NULL}, /* strict, and http needs a host */
        {"http://a", "g", "http://a/g"},
        {"http://a", "../g", "http://a/g"},
        {"http://a?x", "", "http://a?x"},
        {"http://u@a:1/x?y", "?z", "http://u@a:1/x?z"},
        {"http://[::1]:1/x", "y", "http://[::1]:1/y"},
        {"http://a/x", "//b:2/../y", "http://b:2/y"},
        {"http://a/x", "https://b/./y", "https://b/y"},
        {"http://a/x", "?", "http://a/x?"},
        {"file:///a/b", "c", "file:///a/c"},
        {"urn:a/b", "c", "urn:a/c"},
        {"urn:a", "../b", "urn:b"},
        {"urn:a/b", "..", "urn:/"},
        {"x:/a", "/.//b", NULL}, /* would come out as an authority */
        {"http://a/x", "//b c/", NULL},
        {"http://a/x", "y z", NULL},
        {"http://a/x", "\\y", NULL},
        {"http://a/x", "//\\b", NULL},
        {"http://a/x", "%zz", NULL},
        {"http://a/x", "//0x7f.1/", NULL},
        {"http://a/x", "//", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(256);
        struct uri base;
        test_row(rows[i].reference);
        REQUIRE(uri_parse(slice_from_cstr(rows[i].base), &base, NULL) == 0);
        buf_append_byte(&out, '>');
        int r = uri_resolve(&out, &base, slice_from_cstr(rows[i].reference));
        CHECK_INT(r, rows[i].expect != NULL ? 0 : URI_E_INVALID);
        CHECK_STR(slice_from(buf_slice(&out), 1), rows[i].expect);
    }
    test_row("no room");
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(5);
    struct uri base;
    REQUIRE(uri_parse(SLICE("http://a/"), &base, NULL) == 0);
    CHECK_INT(uri_resolve(&out, &base, SLICE("b")), -E2BIG);
}

static void test_percent(void) {
    static const struct {
        struct slice text;
        int result;
        struct slice expect;
    } decode[] = {
        {SLICE_INIT(""), 0, SLICE_INIT("")},
        {SLICE_INIT("a%20b%2F%c3%A4+"), 0, SLICE_INIT("a b/\xc3\xa4+")},
        {SLICE_INIT("%25%32%35"), 0, SLICE_INIT("%25")},
        {SLICE_INIT("%"), URI_E_INVALID, SLICE_INIT("")},
        {SLICE_INIT("a%2"), URI_E_INVALID, SLICE_INIT("")},
        {SLICE_INIT("a%2g"), URI_E_INVALID, SLICE_INIT("")},
        {SLICE_INIT("a%%32"), URI_E_INVALID, SLICE_INIT("")},
        {SLICE_INIT("a%00"), URI_E_INVALID, SLICE_INIT("")},
        {SLICE_INIT("a\0"), URI_E_INVALID, SLICE_INIT("")},
    };
    for (size_t i = 0; i < ARRAY_LEN(decode); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(64);
        test_row(decode[i].text.ptr);
        CHECK_INT(uri_percent_decode(&out, decode[i].text), decode[i].result);
        CHECK_SLICE(buf_slice(&out), decode[i].expect);
    }
    test_row("encode");
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(64), back CLEANUP(buf_deinit) = BUF_INIT(64);
    CHECK_INT(uri_percent_encode(&out, SLICE("aZ09-._~ /%\xc3\xa4\r\n?#")), 0);
    CHECK_STR(buf_slice(&out), "aZ09-._~%20%2F%25%C3%A4%0D%0A%3F%23");
    CHECK_INT(uri_percent_decode(&back, buf_slice(&out)), 0);
    CHECK_STR(buf_slice(&back), "aZ09-._~ /%\xc3\xa4\r\n?#");
    struct buf small CLEANUP(buf_deinit) = BUF_INIT(4);
    CHECK_INT(uri_percent_encode(&small, SLICE("  ")), -E2BIG);
}

static void run_without_memory(void *arg) {
    (void)arg;
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(256);
    struct uri base;
    REQUIRE(uri_parse(SLICE("http://a/b/c"), &base, NULL) == 0);
    int r = uri_resolve(&out, &base, SLICE("../d"));
    CHECK(r == 0 || r == -ENOMEM);
    r = uri_percent_decode(&out, SLICE("%20"));
    CHECK(r == 0 || r == -ENOMEM);
    r = uri_percent_encode(&out, SLICE(" "));
    CHECK(r == 0 || r == -ENOMEM);
}

static void test_without_memory(void) {
    test_torture(run_without_memory, NULL);
}

TEST_MAIN(TEST(test_parse), TEST(test_refused), TEST(test_ipv6), TEST(test_authority),
          TEST(test_host_name), TEST(test_same_origin), TEST(test_resolve), TEST(test_percent),
          TEST(test_without_memory))
