/*
 * The sink that sends records to a syslog server.
 *
 *     <PRI>1 TIME HOSTNAME cardea PID EVENT - {"seq":...}      RFC 5424
 *
 * Over UDP each record is a datagram (RFC 5426); over TCP and TLS the length stands before it
 * (octet counting, RFC 6587 section 3.4.1, RFC 5425 section 4.3). The message is the line as it is:
 * JSON in UTF-8, without the byte order mark that RFC 5424 asks for, since every reader of JSON
 * would trip over it. One that is too long for a datagram is replaced by its beginning, as a JSON
 * string of an object that says so.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "audit/line.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "json/reader.h"
#include "json/writer.h"
#include "sink_private.h"
#include "syslog_peer.h"

enum {
    BATCH = KIB(32),
    DATAGRAM_MOST = KIB(60),
    SMALL = KIB(1),
    CUT_TO = KIB(28), /* escaped it is at most twice as long */
    HEAD_SIZE = 512,
    HOSTNAME_MOST = 255,
    PAUSE_FIRST_MS = 1000,
    PAUSE_MOST_MS = 60000,
};

enum severity { SEVERITY_ERROR = 3, SEVERITY_WARNING = 4, SEVERITY_NOTICE = 5, SEVERITY_INFO = 6 };

struct syslog {
    struct syslog_peer peer;
    unsigned facility;
    char hostname[HOSTNAME_MOST + 1];
    struct json_reader *reader;
};

static struct syslog *syslog_of(const struct audit_sink *sink) {
    return sink->of_kind;
}

/* --- the message --- */

static const unsigned facilities[] = {
    [CONFIG_SYSLOG_AUTH] = 4,
    [CONFIG_SYSLOG_AUTHPRIV] = 10,
    [CONFIG_SYSLOG_DAEMON] = 3,
    [CONFIG_SYSLOG_USER] = 1,
};

static unsigned facility_of(enum config_syslog_facility facility) {
    return facility < CONFIG_SYSLOG_LOCAL0
               ? facilities[facility]
               : 16 + (unsigned)facility - (unsigned)CONFIG_SYSLOG_LOCAL0;
}

static enum severity severity_of(struct syslog *syslog, struct slice event, struct slice line) {
    static const struct {
        struct slice event;
        enum severity severity;
    } rows[] = {
        {SLICE_INIT("gap"), SEVERITY_ERROR},    {SLICE_INIT("denied"), SEVERITY_WARNING},
        {SLICE_INIT("start"), SEVERITY_NOTICE}, {SLICE_INIT("stop"), SEVERITY_NOTICE},
        {SLICE_INIT("edit"), SEVERITY_NOTICE},  {SLICE_INIT("configuration"), SEVERITY_NOTICE},
        {SLICE_INIT("torn"), SEVERITY_NOTICE},  {SLICE_INIT("checkpoint"), SEVERITY_INFO},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (slice_eq(event, rows[i].event))
            return rows[i].severity;
    }
    /* Not by searching for the text: arguments have members, too. */
    if (slice_find(line, SLICE("\"denied\"")) == SIZE_MAX ||
        json_read(syslog->reader, line, &json_want_root, NULL, NULL) != 0)
        return SEVERITY_INFO;
    const struct json_node *decision =
        json_member(syslog->reader, json_root(syslog->reader), SLICE("decision"));
    return decision != NULL && json_string_is(decision, SLICE("denied")) ? SEVERITY_WARNING
                                                                         : SEVERITY_INFO;
}

/* PRINTUSASCII, RFC 5424 section 6. */
static void read_hostname(char out[HOSTNAME_MOST + 1]) {
    if (gethostname(out, HOSTNAME_MOST + 1) != 0)
        out[0] = '\0';
    out[HOSTNAME_MOST] = '\0';
    for (char *at = out; *at != '\0'; at++) {
        if (*at <= ' ' || *at > '~')
            *at = '?';
    }
    if (out[0] == '\0')
        memcpy(out, "-", 2);
}

static size_t write_head(struct syslog *syslog, struct slice line, char head[HEAD_SIZE]) {
    struct audit_line parts;
    char time[AUDIT_TIME_CHARS + 1] = "-";
    struct slice event = SLICE("-");
    if (audit_line_read(line, &parts, NULL) == 0) {
        audit_time_write(parts.time_us, time);
        event = parts.event;
    }
    enum severity severity = severity_of(syslog, event, line);
    int n =
        snprintf(head, HEAD_SIZE, "<%u>1 %s %s cardea %d %.*s - ", syslog->facility * 8 + severity,
                 time, syslog->hostname, (int)getpid(),
                 (int)(event.len < AUDIT_EVENT_CHARS ? event.len : AUDIT_EVENT_CHARS), event.ptr);
    return n > 0 && n < HEAD_SIZE ? (size_t)n : 0;
}

static void append_cut(struct buf *out, struct slice line) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_bool(&writer, SLICE("cut"), true);
    json_kv_u64(&writer, SLICE("bytes"), line.len);
    json_kv_string(&writer, SLICE("begin"), utf8_truncate(line, CUT_TO));
    json_object_end(&writer);
}

static int encode(struct audit_sink *sink, struct slice line) {
    struct syslog *syslog = syslog_of(sink);
    char head[HEAD_SIZE];
    size_t len = write_head(syslog, line, head);
    bool is_udp = syslog->peer.transport == SYSLOG_UDP;
    if (!is_udp)
        buf_printf(&sink->batch, "%zu ", len + line.len);
    buf_append(&sink->batch, slice_make(head, len));
    if (is_udp && len + line.len > DATAGRAM_MOST)
        append_cut(&sink->batch, line);
    else
        buf_append(&sink->batch, line);
    return buf_error(&sink->batch);
}

/* --- handing over --- */

static void close_peer(struct audit_sink *sink) {
    syslog_peer_close(&syslog_of(sink)->peer);
}

static int tell_ended(struct audit_sink *sink) {
    const struct syslog_peer *peer = &syslog_of(sink)->peer;
    sink_tell(sink, "%.60s port %s ended the connection", peer->host, peer->port);
    return -EPIPE;
}

static int flush(struct audit_sink *sink) {
    struct syslog_peer *peer = &syslog_of(sink)->peer;
    /* That it ended while there was nothing to say is no failure, when nothing was under way. */
    enum syslog_connection connection = syslog_peer_look(peer);
    if (peer->fd >= 0 && connection != SYSLOG_OPEN) {
        if (connection == SYSLOG_RESET || syslog_peer_acknowledged(peer) < peer->n_sent)
            return tell_ended(sink);
        sink->safe = sink->sent;
        sink->has_candidate = false;
        syslog_peer_close(peer);
    }
    int error = syslog_peer_open(sink, peer);
    if (error == 0)
        error = syslog_peer_write(sink, peer, buf_slice(&sink->batch));
    if (error == -EMSGSIZE) /* a way that carries no more: better its beginning than none of all */
        error = syslog_peer_write(sink, peer, utf8_truncate(buf_slice(&sink->batch), SMALL));
    return error;
}

static int look(struct audit_sink *sink, uint64_t *ret_sent, uint64_t *ret_acknowledged) {
    struct syslog_peer *peer = &syslog_of(sink)->peer;
    if (peer->fd < 0)
        return tell_ended(sink);
    uint64_t acknowledged = syslog_peer_acknowledged(peer);
    enum syslog_connection connection = syslog_peer_look(peer);
    if (connection == SYSLOG_RESET || (connection == SYSLOG_ENDED && acknowledged < peer->n_sent))
        return tell_ended(sink);
    *ret_sent = peer->n_sent;
    *ret_acknowledged = acknowledged;
    return 0;
}

static void finish(struct audit_sink *sink) {
    syslog_peer_finish(sink, &syslog_of(sink)->peer);
}

static void free_syslog(struct audit_sink *sink) {
    struct syslog *syslog = syslog_of(sink);
    syslog_peer_deinit(&syslog->peer);
    json_reader_free(syslog->reader);
    mem_free(syslog);
}

int audit_sink_syslog(const char *dir, const struct config_audit *config, struct log *log,
                      struct audit_sink **ret_sink) {
    static const struct sink_kind stream = {
        .name = "syslog",
        .batch = BATCH,
        .pause_first_ms = PAUSE_FIRST_MS,
        .pause_most_ms = PAUSE_MOST_MS,
        .encode = encode,
        .flush = flush,
        .look = look,
        .finish = finish,
        .close = close_peer,
        .free = free_syslog,
    };
    static const struct sink_kind datagrams = {
        .name = "syslog",
        .pause_first_ms = PAUSE_FIRST_MS,
        .pause_most_ms = PAUSE_MOST_MS,
        .encode = encode,
        .flush = flush,
        .close = close_peer,
        .free = free_syslog,
    };
    struct syslog_peer peer;
    char *ca_bundle = NULL;
    struct json_reader *reader = NULL;
    if (!syslog_peer_parse(config->syslog_url, &peer))
        return -EINVAL;
    int error = config->syslog_ca_bundle.len != 0
                    ? slice_dup_cstr(config->syslog_ca_bundle, &ca_bundle)
                    : 0;
    if (error == 0)
        error = json_reader_new(&reader);
    if (error != 0) {
        mem_free(ca_bundle);
        return error;
    }
    struct syslog *syslog = mem_xalloc(sizeof *syslog);
    syslog->peer = peer;
    syslog->peer.ca_bundle = ca_bundle;
    syslog->facility = facility_of(config->syslog_facility);
    syslog->reader = reader;
    read_hostname(syslog->hostname);
    return sink_start(peer.transport == SYSLOG_UDP ? &datagrams : &stream, syslog, dir, log,
                      ret_sink);
}
