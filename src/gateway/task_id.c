/*
 * Ids of tasks, as clients get them. Two servers may choose one id, and an id is all that it takes
 * to be told a result: so clients get a sealed one (seal.c), which says where the task is, is good
 * for whom it was given to and at the endpoint where it was given, and is the same each time, for
 * clients compare ids. What is no such id is an unknown task, whatever is wrong with it.
 *
 * Sealed: kind, what the client can do, lengths of two texts; server, session, the server's own id.
 */
#include <errno.h>
#include <openssl/evp.h>

#include "private.h"

enum { HEAD = 4 };

static int bind(struct slice principal, struct slice endpoint,
                unsigned char bound[static GW_SEAL_BOUND]) {
    unsigned len = 0;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(principal.len + endpoint.len + 64);
    buf_append_cstr(&text, "task");
    buf_append_byte(&text, '\0');
    buf_append(&text, endpoint); /* a server's name has no NUL */
    buf_append_byte(&text, '\0');
    buf_append(&text, principal);
    struct slice all = buf_slice(&text);
    return buf_error(&text) == 0 &&
                   EVP_Digest(all.ptr, all.len, bound, &len, EVP_sha256(), NULL) == 1
               ? 0
               : -ENOMEM;
}

int gw_task_seal(const struct gateway *gateway, struct slice principal, struct slice endpoint,
                 const struct gw_task_name *name, struct buf *out) {
    unsigned char bound[GW_SEAL_BOUND];
    const struct gw_task_home *home = &name->home;
    struct buf plain CLEANUP(buf_deinit) = BUF_INIT(KIB(2));
    _Static_assert(LIMIT_TASK_ID + GW_SERVER_NAME_CHARS + GW_SESSION_ID_CHARS < KIB(2) - HEAD,
                   "it fits");
    if (name->id.len > LIMIT_TASK_ID || home->upstream.len > UINT8_MAX ||
        home->session.len > UINT8_MAX || home->capabilities > UINT8_MAX)
        return -E2BIG;
    buf_append_byte(&plain, (char)name->kind);
    buf_append_byte(&plain, (char)home->capabilities);
    buf_append_byte(&plain, (char)home->upstream.len);
    buf_append_byte(&plain, (char)home->session.len);
    buf_append(&plain, home->upstream);
    buf_append(&plain, home->session);
    buf_append(&plain, name->id);
    int error = buf_error(&plain) != 0 ? buf_error(&plain) : bind(principal, endpoint, bound);
    return error != 0 ? error : gw_seal_name(gateway, bound, buf_slice(&plain), out);
}

int gw_task_open(const struct gateway *gateway, struct slice principal, struct slice endpoint,
                 struct slice text, struct buf *memory, struct gw_task_name *ret_name) {
    unsigned char bound[GW_SEAL_BOUND];
    if (text.len > LIMIT_TASK_NAME)
        return GW_E_STATE;
    int error = bind(principal, endpoint, bound);
    if (error == 0)
        error = gw_unseal(gateway, bound, text, memory);
    if (error != 0)
        return error;
    struct slice plain = buf_slice(memory);
    if (plain.len < HEAD)
        return GW_E_STATE;
    size_t upstream = (unsigned char)plain.ptr[2], session = (unsigned char)plain.ptr[3];
    if (plain.len < HEAD + upstream + session)
        return GW_E_STATE;
    struct slice texts = slice_from(plain, HEAD);
    *ret_name = (struct gw_task_name){
        .kind = (enum gw_task_kind)plain.ptr[0],
        .home =
            {
                .upstream = slice_sub(texts, 0, upstream),
                .session = slice_sub(texts, upstream, upstream + session),
                .capabilities = (unsigned char)plain.ptr[1],
            },
        .id = slice_from(texts, upstream + session),
    };
    return 0;
}
