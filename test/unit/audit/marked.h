/* Texts in which secrets stand between « and »: without the marks they go in, and with "[redacted]"
 * for what is marked they have to come out. */
#pragma once

#include "audit/redact.h"
#include "base/buf.h"
#include "test.h"

#define MARK_BEGIN "\xc2\xab"
#define MARK_END   "\xc2\xbb"

MAYBE_UNUSED static void split_marked(const char *marked, struct buf *text, struct buf *expected) {
    bool inside = false;
    for (const char *p = marked; *p != '\0';) {
        if (strncmp(p, MARK_BEGIN, 2) == 0 || strncmp(p, MARK_END, 2) == 0) {
            inside = strncmp(p, MARK_BEGIN, 2) == 0;
            if (inside)
                buf_append_cstr(expected, AUDIT_REDACTED);
            p += 2;
            continue;
        }
        buf_append_byte(text, *p);
        if (!inside)
            buf_append_byte(expected, *p);
        p++;
    }
}
