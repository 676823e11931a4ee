/*
 * The table of routes: what there is, who may, what is recorded of it. Server, checks and the
 * OpenAPI document go by these rows alone. A row that does not say who may and what is recorded
 * does not compile, nor does one that changes something and records nothing
 * (test/structure/test_routes.py).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "guard.h"
#include "http/message.h"
#include "policy/rights.h"
#include "schema.h"
#include "store/store.h"

struct api_request;

/* Who may: a permission, or one of the last two. */
enum api_need {
    API_NEED_STATUS_READ = PERMISSION_STATUS_READ,
    API_NEED_CONFIG_READ = PERMISSION_CONFIG_READ,
    API_NEED_UPSTREAMS_READ = PERMISSION_UPSTREAMS_READ,
    API_NEED_UPSTREAMS_WRITE = PERMISSION_UPSTREAMS_WRITE,
    API_NEED_UPSTREAMS_TEST = PERMISSION_UPSTREAMS_TEST,
    API_NEED_AUDIT_READ = PERMISSION_AUDIT_READ,
    API_NEED_AUDIT_EXPORT = PERMISSION_AUDIT_EXPORT,
    API_NEED_EDIT_OPEN = PERMISSION_EDIT_OPEN,
    API_NEED_USERS_READ = PERMISSION_USERS_READ,
    API_NEED_USERS_WRITE = PERMISSION_USERS_WRITE,
    API_NEED_ROLES_READ = PERMISSION_ROLES_READ,
    API_NEED_ROLES_WRITE = PERMISSION_ROLES_WRITE,
    API_NEED_TOKENS_OWN = PERMISSION_TOKENS_OWN,
    API_NEED_TOKENS_ALL = PERMISSION_TOKENS_ALL,
    API_NEED_SESSIONS_ALL = PERMISSION_SESSIONS_ALL,
    API_NEED_SECRETS_READ = PERMISSION_SECRETS_READ,
    API_NEED_SECRETS_WRITE = PERMISSION_SECRETS_WRITE,
    API_NEED_PUBLIC = PERMISSION_COUNT, /* anybody */
    API_NEED_SELF,                      /* any session; of tokens those who only read */
};

/* What is recorded; denials always are. */
enum api_audit {
    API_AUDIT_NONE_READ, /* nothing: for what only reads */
    API_AUDIT_LOGIN,
    API_AUDIT_LOGOUT,
    API_AUDIT_SETUP,
    API_AUDIT_PASSWORD,
    API_AUDIT_SESSION,
    API_AUDIT_USER,
    API_AUDIT_ROLE,
    API_AUDIT_TOKEN,
    API_AUDIT_EDIT,
    API_AUDIT_SECRET,
    API_AUDIT_UPSTREAM,
    API_AUDIT_EXPORT, /* of the trail itself */
};

/* In a transaction, on a thread of the store, perhaps more than once. 0 or a code of it; what is
 * answered is in the request. */
typedef int api_work_fn(struct store_tx *tx, struct api_request *request);
/* On the loop; ends, now or later, with api_request_done() or a stream. */
typedef void api_begin_fn(struct api_request *request);

struct api_route {
    enum http_method method;
    struct slice pattern;
    enum api_need need;
    enum api_audit audit;
    const char *summary;
    const struct schema_field *query; /* what may be asked for; NULL: nothing */
    const struct schema *request;     /* NULL: there is no body */
    const struct schema *answer;      /* NULL: there is none, or not JSON */
    const char *media;                /* of an answer that is not JSON */
    const char *page;                 /* a file for browsers (web.h), which is no part of the API */
    uint16_t status;                  /* when it went well; 0: 200 */
    bool needs_match;                 /* If-Match */
    bool has_etag;
    bool before_change; /* may also be asked by who has to change the password first */
    /* The member of the body that is a password to be kept: it is looked at and hashed before the
     * work; request->password_hash. */
    const char *password;
    api_work_fn *work; /* one of the two */
    api_begin_fn *begin;
};

/* A constant 0, or no program: the condition is one too. */
#define ROUTE_PROVES_(condition, text)                                                             \
    (0 * sizeof(struct {                                                                           \
         _Static_assert(condition, text);                                                          \
         int unused;                                                                               \
     }))
#define ROUTE_CHANGES_(method_)                                                                    \
    (HTTP_METHOD_##method_ != HTTP_METHOD_GET && HTTP_METHOD_##method_ != HTTP_METHOD_HEAD)
/* ROUTE(GET, "/api/v1/users", USERS_READ, NONE_READ, .summary = ..., ...) */
#define ROUTE(method_, pattern_, need_, audit_, ...)                                               \
    {                                                                                              \
        .method = HTTP_METHOD_##method_, .pattern = SLICE_INIT(pattern_),                          \
        .need = API_NEED_##need_,                                                                  \
        .audit = (enum api_audit)(                                                                 \
            API_AUDIT_##audit_ +                                                                   \
            ROUTE_PROVES_(!ROUTE_CHANGES_(method_) || API_AUDIT_##audit_ != API_AUDIT_NONE_READ,   \
                          "what changes something is recorded")),                                  \
        __VA_ARGS__                                                                                \
    }

extern const struct api_route api_routes[];
extern const size_t n_api_routes;

/*
 * The row of method and path (HEAD is GET). API_E_PATH: no row has the path; API_E_METHOD: some
 * have, *ret_allowed is a set of bits, 1 << method. -ENOMEM.
 */
enum { API_E_PATH = 1, API_E_METHOD = 2 };
MUST_CHECK int api_route_find(enum http_method method, struct slice path, struct arena *arena,
                              const struct api_route **ret_route,
                              struct slice ret_parameters[static GUARD_PARAMETERS],
                              unsigned *ret_allowed);
/* "admin-user" */
const char *api_audit_name(enum api_audit audit);
/* "users.read", "public", "self" */
struct slice api_need_name(enum api_need need);
const char *api_method_name(enum http_method method);

/* The document (openapi.c). */
int api_write_openapi(struct buf *out, struct slice version);
