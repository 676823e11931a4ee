/*
 * TLS (OpenSSL 3) on a stream. A stream that was started as TLS is used like any other: on_read
 * gets plain bytes, io_stream_write() takes plain bytes. TLS 1.2 and 1.3; certificate and name are
 * checked (RFC 9525: the name as DNS name or IP address in the subject alternative names).
 *
 * A context is shared by all workers. Reading the system's roots takes tens of milliseconds, so it
 * happens on a thread of its own from io_tls_client_new() on; streams that start earlier wait.
 *
 * What is different from a plain stream: an end without the peer's close_notify is -ECONNRESET,
 * because anybody on the way can make it (RFC 8446 section 6.1). io_stream_shutdown() sends
 * close_notify before FIN; io_stream_free() closes without: a stream that was broken off does not
 * look complete. io_stream_queued() counts what is on the wire; records make a write at the limit
 * longer by less than one percent, or some 30 bytes.
 */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "io/stream.h"

struct io_tls; /* immutable but for its loading; any thread */

struct io_tls_client_options {
    /* The files and folders of SSL_CERT_FILE and SSL_CERT_DIR, else OpenSSL's own, else where
     * systems usually have them. */
    bool use_system_roots;
    const char *ca_file;              /* PEM, further roots; NULL: none */
    bool is_lazy;                     /* loads when the first stream needs it, not before */
    const char *cert_file, *key_file; /* PEM, what this side shows when asked; both or NULL */
    bool accept_invalid_hostnames;    /* the certificate is checked, the name in it is not */
    bool accept_anything;             /* nothing is checked */
};

/* --- clients --- */

/*
 * Files that cannot be read, that do not belong together, or no root at all make the handshakes
 * fail, with a reason that names which. They are read once. A certificate of this side is shown to
 * whatever server asks for one: a context that has one is for connections to its own servers only.
 */
MUST_CHECK int io_tls_client_new(const struct io_tls_client_options *options,
                                 struct io_tls **ret_tls);
struct io_tls *io_tls_ref(struct io_tls *tls);
/* Waits for the loading thread when it is the last one. Accepts NULL. */
struct io_tls *io_tls_unref(struct io_tls *tls);

/* --- servers --- */

struct io_tls_server_options {
    struct slice chain, key;  /* PEM; the server's own certificate first */
    struct slice client_ca;   /* PEM; empty: clients are not asked for a certificate */
    bool require_certificate; /* of clients, with client_ca; else it may be missing, never wrong */
    bool only_tls13;
};

/*
 * Loaded when it returns. IO_TLS_E_INVALID: *ret_reason is a fixed sentence ("the key does not
 * belong to the certificate"). -ENOMEM. A context for connections that come: one that is open goes
 * on with the context that it began with.
 */
enum { IO_TLS_E_INVALID = 1 };
MUST_CHECK int io_tls_server_new(const struct io_tls_server_options *options,
                                 struct io_tls **ret_tls, const char **ret_reason);

/* Parts of the certificate that a peer has proved to have. */
enum io_tls_name {
    IO_TLS_SUBJECT, /* RFC 4514 */
    IO_TLS_COMMON_NAME,
    IO_TLS_SAN_DNS, /* the first of its kind */
    IO_TLS_SAN_EMAIL,
    IO_TLS_SAN_URI,
};

/* --- streams --- */

/* Once, on the stream's loop, never from inside io_stream_start_tls(). error 0: the handshake is
 * done; else -errno, with io_stream_tls_reason(): the stream is of no use any more and on_end is
 * not called. -EKEYREJECTED: the certificate; -EPROTO: the server; -ENOKEY and others: this side.
 */
typedef void io_tls_ready_fn(void *context, int error);

/*
 * Makes a connected stream a TLS client: a new one, or one on which both sides have agreed on it
 * (as by CONNECT) and nothing more has come. `name` is the host to be proved: a name, with or
 * without a last dot, or an address. ALPN offers http/1.1. Turns reading on by itself during the
 * handshake and off at its end; until then writing is -ENOTCONN. The stream holds a reference of
 * `tls`. -EINVAL (the name is none), -EALREADY, -EPIPE.
 */
MUST_CHECK int io_stream_start_tls(struct io_stream *stream, struct io_tls *tls, struct slice name,
                                   io_tls_ready_fn *ready, void *context);
/*
 * The other side: makes an accepted stream a TLS server, with a context of io_tls_server_new().
 * `early` is what has come of the handshake already, behind something else. As
 * io_stream_start_tls() otherwise; how long the handshake may take is the caller's to watch, and
 * handshakes of a crowd take turns with the rest of the loop. -ENODATA: the client went away
 * without a byte. -EPROTONOSUPPORT: it speaks HTTP in the clear; the stream is a plain one now, on
 * which that can be said (what came of it is gone, reading is off).
 */
MUST_CHECK int io_stream_accept_tls(struct io_stream *stream, struct io_tls *tls,
                                    struct slice early, io_tls_ready_fn *ready, void *context);
/* Of a stream that io_stream_accept_tls() made, after its handshake. */
bool io_stream_tls_has_certificate(const struct io_stream *stream);
/* Appends that name as UTF-8. -ENOENT: the certificate has none, or one with a NUL or an invalid
 * character in it. */
MUST_CHECK int io_stream_tls_peer_name(const struct io_stream *stream, enum io_tls_name kind,
                                       struct buf *out);
/* When it ends, in ms since 1970; 0: there is none. */
uint64_t io_stream_tls_peer_ends_ms(const struct io_stream *stream);
/* SHA-256 of the certificate in DER (RFC 8705 section 3.1). False: there is none. */
bool io_stream_tls_peer_digest(const struct io_stream *stream, unsigned char ret_digest[32]);
/* Its certificate would be accepted by this context, of servers, too. */
bool io_stream_tls_would_be_trusted(const struct io_stream *stream, const struct io_tls *tls);
/* Why the handshake failed, or the stream ended with an error, for a person: "the certificate has
 * expired"; a fixed text, empty when there is nothing to say. */
const char *io_stream_tls_reason(const struct io_stream *stream);
