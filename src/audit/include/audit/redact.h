/*
 * Redaction: what of a call's arguments and texts may be written. In this order:
 *
 *   paths     "password", "db.*.secret": names of members from the top of the arguments, a star for
 *             any one of them; elements of arrays have the path of the array. Without regard to
 * case. A path of one name is that name at any depth. The whole value is replaced. names likewise,
 * of members that are secrets wherever they stand: password, token, api_key ... (docs/AUDIT.md has
 * the list) shapes    what looks like a secret: PEM private keys, JWTs, tokens with a known prefix,
 *             passwords in URLs, Authorization values ...; the part that does is replaced
 *   patterns  regular expressions of the operator's; the part that matches is replaced. A text for
 *             which one cannot be decided (LIMIT_PATTERN_STEPS) is replaced as a whole
 *
 * What is replaced reads "[redacted]". Keys of objects go by shapes and patterns too. Texts are
 * looked at unescaped. Immutable; any thread.
 */
#pragma once

#include "base/buf.h"
#include "base/regex.h"
#include "config/config.h"

#define AUDIT_REDACTED "[redacted]"

struct audit_redact;

/* `config` outlives it. AUDIT_E_RULE: *ret_reason (of `text`) says which rule is wrong and why;
 * -ENOMEM. */
enum { AUDIT_E_RULE = 1 };
MUST_CHECK int audit_redact_new(const struct config_audit *config, struct audit_redact **ret_redact,
                                struct buf *ret_reason);
struct audit_redact *audit_redact_free(struct audit_redact *redact);

/* Appends the text, which is unescaped, without what must not be seen. The buffer's error. */
int audit_redact_text(const struct audit_redact *redact, struct regex_work *work, struct slice text,
                      struct buf *out);
