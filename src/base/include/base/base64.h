/* Base64 (RFC 4648): the URL alphabet without padding is what the gateway writes, the standard one
 * with padding what header fields ask for. */
#pragma once

#include "base/buf.h"
#include "base/slice.h"

/* Appends the base64url form without padding (section 5). */
int base64url_encode(struct buf *out, struct slice bytes);
/* The same into memory that is long enough: (8 * bytes.len + 5) / 6. How long it is. */
size_t base64url_write(char *text, struct slice bytes);
/*
 * Appends the decoded bytes. Strict: alphabet of section 5, no padding, no white space, unused bits
 * zero; -EINVAL otherwise, or the error of the buffer.
 */
MUST_CHECK int base64url_decode(struct buf *out, struct slice text);

/* Appends the form of section 4, padded. */
int base64_encode(struct buf *out, struct slice bytes);
/* As base64url_decode, with the alphabet and the padding of section 4. */
MUST_CHECK int base64_decode(struct buf *out, struct slice text);
