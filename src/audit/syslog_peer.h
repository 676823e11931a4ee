/* A connection to a syslog server: datagrams, TCP, or TLS on it. Of the sink's thread. */
#pragma once

#include <openssl/ssl.h>

#include "sink_private.h"

enum syslog_transport { SYSLOG_UDP, SYSLOG_TCP, SYSLOG_TLS };

enum { SYSLOG_HOST_SIZE = 256, SYSLOG_PORT_SIZE = 8 };

struct syslog_peer {
    enum syslog_transport transport;
    char host[SYSLOG_HOST_SIZE], port[SYSLOG_PORT_SIZE]; /* without brackets */
    char *ca_bundle;                                     /* NULL: the system's roots */
    SSL_CTX *context; /* made with the first connection that wants it */
    int fd;           /* -1: there is no connection */
    SSL *ssl;
    uint64_t n_sent; /* over TCP: bytes, on this connection */
};

/* "tls://[2001:db8::1]:6514". False: it is none. */
bool syslog_peer_parse(struct slice url, struct syslog_peer *ret_peer);
/* Connects, unless it is connected. 0, or -errno after sink_tell(). */
MUST_CHECK int syslog_peer_open(struct audit_sink *sink, struct syslog_peer *peer);
/* All of it: one datagram, or bytes of the stream. -EMSGSIZE: it is too long for a datagram. */
MUST_CHECK int syslog_peer_write(struct audit_sink *sink, struct syslog_peer *peer,
                                 struct slice bytes);
/*
 * How the connection is; what the server says is thrown away. A server that closes what it has read
 * to its end ends the connection; one that leaves something unread (because it crashed) makes its
 * system reset it.
 */
enum syslog_connection { SYSLOG_OPEN, SYSLOG_ENDED, SYSLOG_RESET };
enum syslog_connection syslog_peer_look(struct syslog_peer *peer);
/* Bytes that the server's TCP has acknowledged. */
uint64_t syslog_peer_acknowledged(const struct syslog_peer *peer);
/* Says that it is over, and waits until all is acknowledged. */
void syslog_peer_finish(struct audit_sink *sink, struct syslog_peer *peer);
void syslog_peer_close(struct syslog_peer *peer);
void syslog_peer_deinit(struct syslog_peer *peer);
