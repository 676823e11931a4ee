/*
 * What must hold for URIs with any input: the parts lie inside the text and make it up again; an
 * authority that was accepted is accepted alone; what resolving makes is valid and free of dot
 * segments; percent-encoding can be taken back. The input is a base and, behind its first line end,
 * a reference. A rule that breaks ends the process.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "http/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void must_lie_inside(struct slice text, struct slice part) {
    MUST(part.len == 0 || ((uintptr_t)part.ptr >= (uintptr_t)text.ptr &&
                           (uintptr_t)part.ptr + part.len <= (uintptr_t)text.ptr + text.len));
}

static void append_part(struct buf *out, struct slice text, struct slice part) {
    must_lie_inside(text, part);
    buf_append(out, part);
}

static void must_make_up_again(struct slice text, const struct uri *uri) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(text.len);
    struct buf authority CLEANUP(buf_deinit) = BUF_INIT(text.len);
    append_part(&out, text, uri->scheme);
    buf_append_cstr(&out, uri->has_authority ? "://" : ":");
    if (uri->has_userinfo) {
        append_part(&out, text, uri->userinfo);
        buf_append_byte(&out, '@');
    }
    bool bracket = uri->host_kind == URI_HOST_IPV6;
    buf_append_cstr(&authority, bracket ? "[" : "");
    append_part(&authority, text, uri->host);
    buf_append_cstr(&authority, bracket ? "]" : "");
    if (uri->has_port) {
        buf_append_byte(&authority, ':');
        buf_append_u64(&authority, uri->port);
    }
    buf_append(&out, buf_slice(&authority));
    append_part(&out, text, uri->path);
    if (uri->has_query)
        buf_append_byte(&out, '?');
    append_part(&out, text, uri->query);
    if (uri->has_fragment)
        buf_append_byte(&out, '#');
    append_part(&out, text, uri->fragment);
    MUST(slice_eq(buf_slice(&out), text));

    struct uri_authority alone;
    if (uri->host.len > 0) {
        MUST(uri_parse_authority(buf_slice(&authority), &alone) == 0);
        MUST(slice_eq(alone.host, uri->host) && alone.host_kind == uri->host_kind);
        MUST(uri_same_origin(uri, uri));
    }
    MUST((uri->host_kind == URI_HOST_NAME) == uri_is_host_name(uri->host));
}

static void must_resolve(const struct uri *base, struct slice text, struct slice reference) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct uri uri;
    int r = uri_resolve(&out, base, reference);
    MUST(r == 0 || r == URI_E_INVALID);
    if (r != 0) {
        MUST(buf_len(&out) == 0);
        return;
    }
    MUST(uri_parse(buf_slice(&out), &uri, NULL) == 0);
    /* Once more: an absolute URI resolves to itself. */
    struct buf again CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    if (reference.len > 0 && reference.ptr[0] != '?' && reference.ptr[0] != '#') {
        MUST(uri_resolve(&again, base, buf_slice(&out)) == 0);
        MUST(slice_eq(buf_slice(&out), buf_slice(&again)));
    }
    if (reference.len == 0)
        MUST(slice_eq(buf_slice(&out), slice_sub(text, 0, slice_find_byte(text, '#'))));
}

static void must_encode_and_back(struct slice text) {
    struct buf encoded CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct buf decoded CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    if (text.len > KIB(64))
        return;
    int r = uri_percent_decode(&decoded, text);
    MUST(r == 0 ? buf_len(&decoded) <= text.len : buf_len(&decoded) == 0);
    buf_reset(&decoded, 0);
    MUST(uri_percent_encode(&encoded, text) == 0);
    r = uri_percent_decode(&decoded, buf_slice(&encoded));
    MUST(r == 0 || slice_find_byte(text, '\0') != SIZE_MAX);
    MUST(r != 0 || slice_eq(buf_slice(&decoded), text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice input = slice_make(data, size), text, reference;
    struct uri uri;
    struct uri_authority authority;
    slice_cut(input, '\n', &text, &reference);
    must_encode_and_back(input);
    if (uri_parse_authority(text, &authority) == 0)
        must_lie_inside(text, authority.host);
    if (uri_parse(text, &uri, NULL) != 0)
        return 0;
    must_make_up_again(text, &uri);
    must_resolve(&uri, text, reference);
    must_resolve(&uri, text, SLICE(""));
    return 0;
}
