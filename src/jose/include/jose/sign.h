/*
 * Signing, with a private key of the gateway's own: assertions that prove to an authorization
 * server which client it is (RFC 7523 section 2.2, OpenID Connect Core 1.0 section 9). The
 * algorithm goes by the key: RS256 for RSA of 2048 to 8192 bits, ES256, ES384 and ES512 by the
 * curve, EdDSA for Ed25519 (RFC 7518 section 3.1, RFC 8037).
 */
#pragma once

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"

struct jose_signer;

/* JOSE_E_KEY: *ret_reason says why it is none that can be used. */
enum { JOSE_E_KEY = 1 };

/* `pem`: one private key, PKCS #8 or the older forms, without a passphrase. -ENOMEM. */
MUST_CHECK int jose_signer_new(struct slice pem, struct jose_signer **ret_signer,
                               const char **ret_reason);
/* Accepts NULL. */
struct jose_signer *jose_signer_free(struct jose_signer *signer);
struct slice jose_signer_algorithm(const struct jose_signer *signer);
/* Appends a JWT in compact form: `claims` is a JSON object; `key_id` empty: no `kid`. -ENOMEM, or
 * the buffer's error. Any thread. */
MUST_CHECK int jose_sign(const struct jose_signer *signer, struct slice key_id, struct slice claims,
                         struct buf *out);
