/*
 * The keys of a trail, in its directory with mode 0600: an Ed25519 key (RFC 8032) that signs
 * checkpoints, and a secret for HMAC-SHA-256 (RFC 2104) of what records do not show. Whoever
 * verifies needs public.pem only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "audit/line.h"

enum { AUDIT_SIGNATURE = 64, AUDIT_KEY_ID_CHARS = 16 };

struct audit_keys;
struct audit_public_key;

/* Reads DIR/signing.pem, DIR/public.pem and DIR/hmac.key; makes those that have never been there
 * (all of them missing). The private ones are encrypted by `sealing`, which may be NULL.
 * AUDIT_E_KEY: *ret_reason says what is wrong with which; -errno. */
enum { AUDIT_E_KEY = 1 };
struct sealing;
MUST_CHECK int audit_keys_open(const char *dir, const struct sealing *sealing,
                               struct audit_keys **ret_keys, const char **ret_reason);
struct audit_keys *audit_keys_free(struct audit_keys *keys);
/* Of the public key: base64url of the first 12 bytes of SHA-256 over its SubjectPublicKeyInfo. */
const char *audit_keys_id(const struct audit_keys *keys);
const struct audit_public_key *audit_keys_public(const struct audit_keys *keys);

/* `pem`: one Ed25519 public key. AUDIT_E_KEY, -ENOMEM. */
MUST_CHECK int audit_public_key_read(struct slice pem, struct audit_public_key **ret_key,
                                     const char **ret_reason);
struct audit_public_key *audit_public_key_free(struct audit_public_key *key);
const char *audit_public_key_id(const struct audit_public_key *key);

/* What a checkpoint signs: that all lines up to the one before it are those of this log. */
struct audit_checkpoint {
    struct slice log;                /* the log's id */
    struct slice time;               /* of the checkpoint */
    uint64_t records;                /* lines since the checkpoint before */
    const struct audit_chain *up_to; /* the line before the checkpoint */
};

/* -ENOMEM. */
MUST_CHECK int audit_sign(const struct audit_keys *keys, const struct audit_checkpoint *checkpoint,
                          unsigned char ret_signature[AUDIT_SIGNATURE]);
bool audit_signature_is_good(const struct audit_public_key *key,
                             const struct audit_checkpoint *checkpoint,
                             const unsigned char signature[AUDIT_SIGNATURE]);

/* HMAC-SHA-256. Any thread, each with its own. */
struct audit_hmac;
MUST_CHECK int audit_hmac_new(const struct audit_keys *keys, struct audit_hmac **ret_hmac);
struct audit_hmac *audit_hmac_free(struct audit_hmac *hmac);
MUST_CHECK int audit_hmac(struct audit_hmac *hmac, struct slice bytes,
                          unsigned char ret_digest[AUDIT_HASH]);
