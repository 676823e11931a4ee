/*
 * Bodies are written by hand, a literal and a value at a time, because there is one for each call:
 * what a general writer knows (which comma, which nesting) is known here beforehand.
 *
 * How a body stays below LIMIT_AUDIT_BODY: each text takes at most LIMIT_AUDIT_STRING bytes as it
 * is written, with its escapes; groups together LONGEST_GROUPS, arguments as much as is configured,
 * at most half of a body. All sections together are less than that then, and what other members do
 * not find room for is left out.
 */
#include "record.h"

#include <assert.h>
#include <errno.h>

#include "base/base64.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "json/writer.h"

enum { LONGEST_GROUP = 256, LONGEST_GROUPS = 4096, DOTS = 3, QUOTES = 2, NUMBER = 20 };

struct audit_writer {
    const struct audit_redact *redact;
    struct audit_hmac *hmac;
    struct json_reader *reader;
    struct redact_room room;
};

int audit_writer_new(const struct audit_writer_options *options, struct audit_writer **ret_writer) {
    assert(options->redact != NULL);
    struct audit_writer *writer = mem_alloc(sizeof *writer);
    if (writer == NULL)
        return -ENOMEM;
    writer->redact = options->redact;
    redact_room_init(&writer->room);
    int error = json_reader_new(&writer->reader);
    if (error == 0 && options->keys != NULL)
        error = audit_hmac_new(options->keys, &writer->hmac);
    if (error != 0) {
        audit_writer_free(writer);
        return error;
    }
    *ret_writer = writer;
    return 0;
}

struct audit_writer *audit_writer_free(struct audit_writer *writer) {
    if (writer == NULL)
        return NULL;
    audit_hmac_free(writer->hmac);
    json_reader_free(writer->reader);
    redact_room_deinit(&writer->room);
    mem_free(writer);
    return NULL;
}

void audit_writer_set_redact(struct audit_writer *writer, const struct audit_redact *redact) {
    assert(redact != NULL);
    writer->redact = redact;
    redact_room_forget(&writer->room);
}

void record_remember_nothing(struct audit_writer *writer) {
    redact_room_forget(&writer->room);
    writer->room.memo.is_off = true;
}

/* --- texts --- */

/* As json_escape() writes what stands at the front, which is *ret_len bytes long. */
static size_t escaped_size(struct slice text, size_t *ret_len) {
    unsigned char c = (unsigned char)text.ptr[0];
    uint32_t code_point;
    *ret_len = 1;
    if (c >= 0x80) {
        size_t len = utf8_decode(text, &code_point);
        *ret_len = len != 0 ? len : 1;
        return len != 0 ? len : 3; /* U+FFFD */
    }
    if (c == '"' || c == '\\' || c == '\b' || c == '\f' || c == '\n' || c == '\r' || c == '\t')
        return 2;
    return c < ' ' ? 6 : 1;
}

bool record_escape(struct buf *out, struct slice text, bool is_cut, size_t most) {
    enum { WORST = 6 };
    if (text.len <= most && text_is_plain(text)) {
        buf_append(out, text);
        if (is_cut)
            buf_append(out, SLICE("..."));
        return is_cut;
    }
    if (text.len > most / WORST) {
        size_t at = 0, written = 0, len = 0;
        while (at < text.len) {
            written += escaped_size(slice_from(text, at), &len);
            if (written > most)
                break;
            at += len;
        }
        is_cut = is_cut || at < text.len;
        text.len = at;
    }
    json_escape(out, text);
    if (is_cut)
        buf_append(out, SLICE("..."));
    return is_cut;
}

/* More than LIMIT_AUDIT_BODY would have to be written. */
static bool has_room(const struct buf *out, size_t n) {
    return n <= LIMIT_AUDIT_BODY && buf_len(out) <= LIMIT_AUDIT_BODY - n;
}

/* Memory for what a section mostly takes, at once instead of bit by bit. */
static void expect(struct buf *out, size_t n) {
    if (out->cap - out->end < n && has_room(out, n) && n <= out->max - buf_len(out))
        (void)!buf_reserve(out, n);
}

/* The usual section, without arguments. */
enum { SECTION = 256 };

/* What is ours and needs neither redaction nor a limit of its own. `start` is `,"key":"`. */
static ALWAYS_INLINE void put_own(struct buf *out, struct slice start, struct slice text) {
    if (text.len == 0 || !has_room(out, start.len + LIMIT_AUDIT_STRING + DOTS + 1) ||
        record_plain(out, start, text, LIMIT_AUDIT_STRING, SLICE("\"")))
        return;
    buf_append(out, start);
    record_escape(out, text, false, LIMIT_AUDIT_STRING);
    buf_append_byte(out, '"');
}

/* In quotes, at most `most` bytes. What turns out to be written as it stands is remembered. */
static NO_INLINE void put_redacted(struct audit_writer *writer, struct buf *out, struct slice start,
                                   struct slice text, size_t most) {
    bool is_cut = false;
    struct slice shown = redact_front(writer->redact, &writer->room, text, &is_cut);
    buf_append(out, start);
    is_cut = record_escape(out, shown, is_cut, most);
    buf_append_byte(out, '"');
    if (!is_cut && shown.ptr == text.ptr && text_is_plain(text))
        memo_note(&writer->room.memo, text, MEMO_TEXT);
}

static ALWAYS_INLINE void put_text(struct audit_writer *writer, struct buf *out, struct slice start,
                                   struct slice text) {
    if (text.len == 0 || !has_room(out, start.len + LIMIT_AUDIT_STRING + DOTS + 1) ||
        (memo_knows(&writer->room.memo, text, MEMO_TEXT) &&
         record_copy(out, start, text, SLICE("\""))))
        return;
    put_redacted(writer, out, start, text, LIMIT_AUDIT_STRING);
}

static NO_INLINE struct slice long_digits(uint64_t number, char digits[NUMBER]) {
    size_t at = NUMBER;
    for (; number != 0; number /= 10)
        digits[--at] = (char)('0' + number % 10);
    return slice_make(digits + at, NUMBER - at);
}

/* Nearly all numbers are short. */
static ALWAYS_INLINE struct slice digits_of(uint64_t number, char digits[NUMBER]) {
    if (number > 9999)
        return long_digits(number, digits);
    unsigned rest = (unsigned)number;
    size_t at = NUMBER;
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    return slice_make(digits + at, NUMBER - at);
}

/* `start` is `,"key":`. */
static ALWAYS_INLINE void put_number(struct buf *out, struct slice start, uint64_t number) {
    UNCLEARED char digits[NUMBER];
    if (number == AUDIT_NONE || !has_room(out, start.len + NUMBER))
        return;
    struct slice text = digits_of(number, digits);
    if (record_copy(out, start, text, SLICE_EMPTY))
        return;
    buf_append(out, start);
    buf_append(out, text);
}

/* --- begin --- */

void audit_write_begin(struct buf *out, const char *event, uint64_t time_us, struct slice id) {
    char time[AUDIT_TIME_CHARS + 1];
    expect(out, SECTION);
    audit_time_write(time_us, time);
    buf_append(out, SLICE("\"time\":\""));
    buf_append(out, slice_make(time, AUDIT_TIME_CHARS));
    struct slice name = slice_from_cstr(event);
    if (!record_plain(out, SLICE("\",\"event\":\""), name, AUDIT_EVENT_CHARS, SLICE("\""))) {
        buf_append(out, SLICE("\",\"event\":\""));
        record_escape(out, name, false, AUDIT_EVENT_CHARS);
        buf_append_byte(out, '"');
    }
    put_own(out, SLICE(",\"id\":\""), id);
}

/* --- who --- */

static void put_groups(struct audit_writer *writer, struct buf *out, const struct audit_who *who) {
    if (who->n_groups == 0 || !has_room(out, LONGEST_GROUPS + LONGEST_GROUP))
        return;
    buf_append(out, SLICE(",\"groups\":["));
    size_t start = buf_len(out);
    for (size_t i = 0; i < who->n_groups; i++) {
        if (i > 0)
            buf_append_byte(out, ',');
        if (buf_len(out) - start > LONGEST_GROUPS - 2 * (size_t)LONGEST_GROUP) {
            buf_append(out, SLICE("\"...\""));
            break;
        }
        if (!memo_knows(&writer->room.memo, who->groups[i], MEMO_TEXT) ||
            !record_copy(out, SLICE("\""), who->groups[i], SLICE("\"")))
            put_redacted(writer, out, SLICE("\""), who->groups[i], LONGEST_GROUP);
    }
    buf_append_byte(out, ']');
}

static size_t write_byte(unsigned byte, char text[3]) {
    size_t n = 0;
    if (byte >= 100)
        text[n++] = (char)('0' + byte / 100);
    if (byte >= 10)
        text[n++] = (char)('0' + byte / 10 % 10);
    text[n++] = (char)('0' + byte % 10);
    return n;
}

static struct slice address_text(const struct network *address, char text[NETWORK_TEXT]) {
    if (address->family_bits != NETWORK_V4_BITS)
        return network_write_address(address, text);
    size_t n = 0;
    for (size_t i = 0; i < 4; i++) {
        if (i > 0)
            text[n++] = '.';
        n += write_byte(address->bytes[i], text + n);
    }
    return slice_make(text, n);
}

void audit_write_who(struct audit_writer *writer, struct buf *out, const struct audit_who *who) {
    char address[NETWORK_TEXT];
    expect(out, 2 * (size_t)SECTION);
    redact_room_begin(writer->redact, &writer->room);
    put_text(writer, out, SLICE(",\"user\":\""), who->user);
    put_groups(writer, out, who);
    put_own(out, SLICE(",\"authentication\":\""), who->authentication);
    put_text(writer, out, SLICE(",\"token\":\""), who->token);
    put_text(writer, out, SLICE(",\"client\":\""), who->client);
    if (who->address != NULL)
        put_own(out, SLICE(",\"address\":\""), address_text(who->address, address));
    put_text(writer, out, SLICE(",\"session\":\""), who->session);
    put_text(writer, out, SLICE(",\"trace\":\""), who->trace);
}

/* --- what --- */

static void put_arguments(struct audit_writer *writer, struct buf *out, struct slice arguments) {
    size_t max = (size_t)redact_config(writer->redact)->max_arguments;
    bool is_cut = false;
    if (max > LIMIT_AUDIT_BODY / 2)
        max = LIMIT_AUDIT_BODY / 2;
    if (max != 0 && !has_room(out, max + 4 * (size_t)LIMIT_AUDIT_STRING))
        is_cut = true;
    else if (max != 0) {
        size_t before = buf_len(out);
        buf_append(out, SLICE(",\"arguments\":"));
        if (!arguments_write(writer->redact, &writer->room, writer->reader, arguments, max, out,
                             &is_cut))
            buf_truncate(out, before);
    }
    if (is_cut)
        buf_append(out, SLICE(",\"arguments_cut\":true"));
    put_number(out, SLICE(",\"arguments_bytes\":"), arguments.len);
}

static void put_hmac(struct audit_writer *writer, struct buf *out, struct slice arguments) {
    unsigned char digest[AUDIT_HASH];
    if (writer->hmac == NULL || audit_hmac(writer->hmac, arguments, digest) != 0)
        return;
    buf_append(out, SLICE(",\"arguments_hmac\":\""));
    base64url_encode(out, slice_make(digest, sizeof digest));
    buf_append_byte(out, '"');
}

void audit_write_what(struct audit_writer *writer, struct buf *out, const struct audit_what *what) {
    expect(out, SECTION);
    redact_room_begin(writer->redact, &writer->room);
    put_text(writer, out, SLICE(",\"method\":\""), what->method);
    put_text(writer, out, SLICE(",\"operation\":\""), what->operation);
    if (what->arguments.ptr == NULL)
        return;
    put_arguments(writer, out, what->arguments);
    put_hmac(writer, out, what->arguments);
}

/* --- where, decision, result --- */

void audit_write_where(struct audit_writer *writer, struct buf *out,
                       const struct audit_where *where) {
    expect(out, SECTION);
    redact_room_begin(writer->redact, &writer->room);
    put_text(writer, out, SLICE(",\"upstream\":\""), where->upstream);
    put_text(writer, out, SLICE(",\"upstream_operation\":\""), where->upstream_operation);
    put_own(out, SLICE(",\"instance\":\""), where->instance);
    put_own(out, SLICE(",\"access\":\""), where->access);
}

void audit_write_decision(struct audit_writer *writer, struct buf *out,
                          const struct audit_decided *decided) {
    redact_room_begin(writer->redact, &writer->room);
    put_own(out, SLICE(",\"decision\":\""), decided->decision);
    put_text(writer, out, SLICE(",\"rule\":\""), decided->rule);
    put_text(writer, out, SLICE(",\"reason\":\""), decided->reason);
}

void audit_write_result(struct audit_writer *writer, struct buf *out,
                        const struct audit_result *result) {
    expect(out, SECTION);
    redact_room_begin(writer->redact, &writer->room);
    put_own(out, SLICE(",\"status\":\""), result->status);
    put_number(out, SLICE(",\"http_status\":"), result->http_status);
    put_text(writer, out, SLICE(",\"code\":\""), result->code);
    put_text(writer, out, SLICE(",\"message\":\""), result->message);
    put_number(out, SLICE(",\"upstream_status\":"), result->upstream_status);
    put_number(out, SLICE(",\"bytes\":"), result->bytes);
    put_number(out, SLICE(",\"duration_us\":"), result->duration_us);
}

/* --- any other --- */

/* The key is ours. */
static void put_key(struct buf *out, struct slice key) {
    buf_append(out, SLICE(",\""));
    json_escape(out, key);
    buf_append(out, SLICE("\":"));
}

void audit_write_text(struct audit_writer *writer, struct buf *out, struct slice key,
                      struct slice text) {
    bool is_cut = false;
    if (text.len == 0 || !has_room(out, 6 * key.len + LIMIT_AUDIT_STRING + DOTS + 3 * QUOTES))
        return;
    redact_room_begin(writer->redact, &writer->room);
    struct slice shown = redact_front(writer->redact, &writer->room, text, &is_cut);
    put_key(out, key);
    buf_append_byte(out, '"');
    record_escape(out, shown, is_cut, LIMIT_AUDIT_STRING);
    buf_append_byte(out, '"');
}

void audit_write_number(struct buf *out, struct slice key, uint64_t number) {
    if (number == AUDIT_NONE || !has_room(out, 6 * key.len + NUMBER + 2 * QUOTES))
        return;
    put_key(out, key);
    buf_append_u64(out, number);
}

void audit_write_raw(struct buf *out, struct slice key, struct slice json) {
    if (json.len == 0 || !has_room(out, 6 * key.len + json.len + 2 * QUOTES))
        return;
    put_key(out, key);
    buf_append(out, json);
}
