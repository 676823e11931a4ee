/* The table of routes and what is made of it: each row is whole, paths have one row a method, the
 * OpenAPI document is JSON and names all of them; bodies are what their schemas say. */
#include "base/limits.h"
#include "route.h"
#include "schemas.h"
#include "test.h"

static void test_rows_are_whole(void) {
    for (size_t i = 0; i < n_api_routes; i++) {
        const struct api_route *route = &api_routes[i];
        bool is_safe = route->method == HTTP_METHOD_GET;
        test_row(route->pattern.ptr);
        CHECK(slice_starts_with(route->pattern, SLICE("/api/v1/")) == (route->page == NULL));
        /* A page is a file, the same for everybody. */
        CHECK(route->page == NULL || (is_safe && route->need == API_NEED_PUBLIC &&
                                      route->media != NULL && route->work == NULL));
        CHECK((route->work != NULL) != (route->begin != NULL));
        CHECK(route->summary != NULL && route->summary[0] != '\0');
        CHECK(is_safe || route->audit != API_AUDIT_NONE_READ);
        CHECK(!is_safe || route->request == NULL);
        CHECK((route->status == 204) == (route->answer == NULL && route->media == NULL));
        CHECK(route->password == NULL || route->request != NULL);
        CHECK(api_need_name(route->need).len != 0);
        CHECK(slice_starts_with(slice_from_cstr(api_audit_name(route->audit)), SLICE("admin-")));
        for (size_t k = 0; k < i; k++)
            CHECK(api_routes[k].method != route->method ||
                  !slice_eq(api_routes[k].pattern, route->pattern));
    }
}

/* Whoever changes something that has a version says which. */
static void test_versions(void) {
    for (size_t i = 0; i < n_api_routes; i++) {
        const struct api_route *route = &api_routes[i];
        bool is_versioned = slice_ends_with(route->pattern, SLICE("/{user}")) ||
                            slice_ends_with(route->pattern, SLICE("/{role}"));
        test_row(route->pattern.ptr);
        if (is_versioned && route->method != HTTP_METHOD_GET)
            CHECK(route->needs_match);
        if (is_versioned && route->method == HTTP_METHOD_GET)
            CHECK(route->has_etag);
    }
}

/* Only these are for strangers. */
static void test_public_rows(void) {
    static const char *const expected[] = {
        "POST /api/v1/login",    "GET /api/v1/setup",    "POST /api/v1/setup",      "GET /setup",
        "GET /assets/setup.css", "GET /assets/setup.js", "GET /api/v1/openapi.json"};
    size_t n = 0;
    for (size_t i = 0; i < n_api_routes; i++) {
        char text[128];
        if (api_routes[i].need != API_NEED_PUBLIC)
            continue;
        snprintf(text, sizeof text, "%s %s", api_method_name(api_routes[i].method),
                 api_routes[i].pattern.ptr);
        REQUIRE(n < ARRAY_LEN(expected));
        CHECK_STR(slice_from_cstr(text), expected[n]);
        n++;
    }
    CHECK_INT(n, ARRAY_LEN(expected));
}

static int find(enum http_method method, const char *path, unsigned *ret_allowed) {
    CLEANUP(arena_deinit) struct arena arena = ARENA_INIT(KIB(64));
    struct slice parameters[GUARD_PARAMETERS];
    const struct api_route *route = NULL;
    return api_route_find(method, slice_from_cstr(path), &arena, &route, parameters, ret_allowed);
}

static void test_finding(void) {
    unsigned allowed = 0;
    CHECK_INT(find(HTTP_METHOD_GET, "/api/v1/users/ann", &allowed), 0);
    CHECK_INT(find(HTTP_METHOD_GET, "/api/v1/nothing", &allowed), API_E_PATH);
    CHECK_INT(find(HTTP_METHOD_GET, "/", &allowed), API_E_PATH);
    CHECK_INT(find(HTTP_METHOD_PUT, "/api/v1/users/ann", &allowed), API_E_METHOD);
    CHECK_INT(allowed, 1u << HTTP_METHOD_GET | 1u << HTTP_METHOD_PATCH | 1u << HTTP_METHOD_DELETE);
    CHECK_INT(find(HTTP_METHOD_OPTIONS, "/api/v1/users", &allowed), API_E_METHOD);
}

static void test_document(void) {
    static const struct json_want nothing[] = {{0}};
    static const struct json_want each[] = {{"*", nothing}, {0}};
    static const struct json_want members[] = {{"paths", each}, {0}};
    static const struct json_want want = {.children = members};
    CLEANUP(buf_deinit) struct buf document = BUF_INIT(MIB(1));
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct json_error why;
    REQUIRE(api_write_openapi(&document, SLICE("1")) == 0);
    REQUIRE(json_reader_new(&reader) == 0);
    CHECK_INT(json_read(reader, buf_slice(&document), &want, NULL, &why), 0);
    const struct json_node *paths = json_member(reader, json_root(reader), SLICE("paths"));
    REQUIRE(paths != NULL);
    for (size_t i = 0; i < n_api_routes; i++) {
        test_row(api_routes[i].pattern.ptr);
        CHECK((json_member(reader, paths, api_routes[i].pattern) != NULL) ==
              (api_routes[i].page == NULL));
    }
}

/* --- bodies --- */

static void test_bodies(void) {
    static const struct {
        const struct schema *schema;
        const char *body;
        const char *reason; /* NULL: it is fine */
    } cases[] = {
        {&schema_login, "{\"name\":\"a\",\"password\":\"b\"}", NULL},
        {&schema_login, "{\"name\":\"a\"}", "password: is missing"},
        {&schema_login, "[]", "the body: is an object"},
        {&schema_login, "{\"name\":\"a\",\"password\":\"b\",\"x\":1}",
         "x: there is no such member here"},
        {&schema_login, "{\"Name\":\"a\",\"password\":\"b\"}",
         "Name: there is no such member here"},
        {&schema_login, "{\"name\":1,\"password\":\"b\"}", "name: is a text"},
        {&schema_login, "{\"name\":null,\"password\":\"b\"}", "name: is a text"},
        {&schema_login, "{\"name\":\"\",\"password\":\"b\"}", "name: is shorter than 1 bytes"},
        {&schema_login, "{\"name\":\"a\\u0000\",\"password\":\"b\"}",
         "name: has control characters in it"},
        {&schema_login, "{\"name\":\"a\\n\",\"password\":\"b\"}",
         "name: has control characters in it"},
        {&schema_login, "{\"name\":\"a\",\"password\":\"b\\u0000\"}", "password: has a NUL in it"},
        {&schema_new_user, "{\"name\":\"a\",\"roles\":[\"x\",\"y\"]}", NULL},
        {&schema_new_user, "{\"name\":\"a\",\"roles\":[\"x\",1]}", "roles[1]: is a text"},
        {&schema_new_user, "{\"name\":\"a\",\"roles\":[\"x\",\"\\u0078\"]}",
         "roles[1]: stands there twice"},
        {&schema_new_user, "{\"name\":\"a\",\"roles\":\"x\"}", "roles: is a list of texts"},
        {&schema_new_user, "{\"name\":\"a\",\"is_disabled\":1}", "is_disabled: is true or false"},
        {&schema_new_user, "{\"name\":\"a\",\"id\":\"b\"}", "id: there is no such member here"},
        {&schema_new_edit, "{\"scope\":\"all\",\"minutes\":15,\"reason\":\"r\"}", NULL},
        {&schema_new_edit, "{\"scope\":\"world\",\"minutes\":15,\"reason\":\"r\"}",
         "scope: is one of all role upstream"},
        {&schema_new_edit, "{\"scope\":\"all\",\"minutes\":0,\"reason\":\"r\"}",
         "minutes: is a whole number from 1 to 1440"},
        {&schema_new_edit, "{\"scope\":\"all\",\"minutes\":-5,\"reason\":\"r\"}",
         "minutes: is a whole number from 1 to 1440"},
        {&schema_new_edit, "{\"scope\":\"all\",\"minutes\":1e3,\"reason\":\"r\"}",
         "minutes: is a whole number"},
        {&schema_new_edit, "{\"scope\":\"all\",\"minutes\":99999999999999999999,\"reason\":\"r\"}",
         "minutes: is a whole number"},
        {&schema_new_role, "{\"name\":\"r\",\"rights\":{\"permissions\":[\"audit.read\"]}}", NULL},
        {&schema_new_role, "{\"name\":\"r\",\"rights\":{\"permission\":[]}}",
         "rights.permission: there is no such member here"},
        {&schema_new_role,
         "{\"name\":\"r\",\"rights\":{\"operations\":[{\"upstream\":\"a\",\"operation\":\"b\","
         "\"access\":\"read\"}]}}",
         NULL},
        {&schema_new_role,
         "{\"name\":\"r\",\"rights\":{\"operations\":[{\"upstream\":\"a\",\"operation\":\"b\"}]}}",
         "rights.operations[0].access: is missing"},
        {&schema_new_role,
         "{\"name\":\"r\",\"rights\":{\"operations\":[{\"upstream\":\"a\",\"operation\":\"b\","
         "\"access\":\"all\"}]}}",
         "rights.operations[0].access: is one of read write"},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(1));
        test_row(cases[i].body);
        CHECK_INT(json_read(reader, slice_from_cstr(cases[i].body), &api_schema_want, NULL, NULL),
                  0);
        CHECK_INT(schema_check(cases[i].schema, reader, &reason),
                  cases[i].reason == NULL ? 0 : SCHEMA_E_WRONG);
        CHECK_STR(buf_slice(&reason), cases[i].reason != NULL ? cases[i].reason : "");
    }
}

/* The longest that a login may be, and one byte more. */
static void test_lengths(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    for (size_t len = 1024; len <= 1025; len++) {
        CLEANUP(buf_deinit) struct buf body = BUF_INIT(KIB(4));
        CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(1));
        buf_append_cstr(&body, "{\"name\":\"a\",\"password\":\"");
        for (size_t i = 0; i < len; i++)
            buf_append_byte(&body, 'p');
        buf_append_cstr(&body, "\"}");
        CHECK_INT(json_read(reader, buf_slice(&body), &api_schema_want, NULL, NULL), 0);
        CHECK_INT(schema_check(&schema_login, reader, &reason), len == 1024 ? 0 : SCHEMA_E_WRONG);
    }
}

static void torture(void *arg) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(1));
    CLEANUP(arena_deinit) struct arena arena = ARENA_INIT(KIB(64));
    struct json_reader *reader = arg;
    struct slice *texts = NULL, name;
    size_t n = 0;
    int error = schema_check(&schema_new_user, reader, &reason);
    CHECK(error == 0 || error == -ENOMEM);
    error = schema_text(reader, "name", &arena, &name);
    CHECK(error == 0 || error == -ENOMEM);
    error = schema_texts(reader, "roles", &arena, &texts, &n);
    CHECK(error == -ENOMEM || (error == 0 && n == 2));
}

static void test_without_memory(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    REQUIRE(json_reader_new(&reader) == 0);
    REQUIRE(json_read(reader, SLICE("{\"name\":\"a\",\"roles\":[\"x\",\"y\"]}"), &api_schema_want,
                      NULL, NULL) == 0);
    test_torture(torture, reader);
}

TEST_MAIN(TEST(test_rows_are_whole), TEST(test_versions), TEST(test_public_rows),
          TEST(test_finding), TEST(test_document), TEST(test_bodies), TEST(test_lengths),
          TEST(test_without_memory))
