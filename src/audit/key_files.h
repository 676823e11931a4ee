/* The files that the keys of a trail are in: read and written whole, the private ones encrypted. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/sealing.h"
#include "base/slice.h"

enum { KEY_FILE_MAX = 16 * 1024 };
enum key_file { KEY_FILE_SIGNING, KEY_FILE_PUBLIC, KEY_FILE_HMAC, N_KEY_FILES };

/* Where they are, and who encrypts those that are private. */
struct key_place {
    const char *dir;
    const struct sealing *sealing; /* NULL: nobody */
};

/* In place of what is in `out`. -ENOENT: it is missing. AUDIT_E_KEY: *ret_reason says why. */
MUST_CHECK int key_file_read(const struct key_place *place, enum key_file which, struct buf *out,
                             const char **ret_reason);
/* Whole or not at all; what is there stays. */
MUST_CHECK int key_file_write(const struct key_place *place, enum key_file which,
                              struct slice content);
/* What is said of one that does not hold what it has to. */
const char *key_file_damaged(enum key_file which);
