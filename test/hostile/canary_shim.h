/* The functions that the canary stands in front of, under names of its own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/compiler.h"

struct ssl_st; /* of OpenSSL */

ssize_t canary_read(int fd, void *out, size_t n) LINKED_AS("read");
ssize_t canary_read_chk(int fd, void *out, size_t n, size_t size) LINKED_AS("__read_chk");
ssize_t canary_readv(int fd, const struct iovec *pieces, int n_pieces) LINKED_AS("readv");
ssize_t canary_recv(int fd, void *out, size_t n, int flags) LINKED_AS("recv");
ssize_t canary_recv_chk(int fd, void *out, size_t n, size_t size, int flags)
    LINKED_AS("__recv_chk");
ssize_t canary_recvfrom(int fd, void *out, size_t n, int flags, struct sockaddr *from,
                        socklen_t *size) LINKED_AS("recvfrom");
ssize_t canary_recvmsg(int fd, struct msghdr *message, int flags) LINKED_AS("recvmsg");

ssize_t canary_write(int fd, const void *bytes, size_t n) LINKED_AS("write");
ssize_t canary_writev(int fd, const struct iovec *pieces, int n_pieces) LINKED_AS("writev");
ssize_t canary_send(int fd, const void *bytes, size_t n, int flags) LINKED_AS("send");
ssize_t canary_sendto(int fd, const void *bytes, size_t n, int flags, const struct sockaddr *to,
                      socklen_t size) LINKED_AS("sendto");
ssize_t canary_sendmsg(int fd, const struct msghdr *message, int flags) LINKED_AS("sendmsg");

int canary_connect(int fd, const struct sockaddr *to, socklen_t size) LINKED_AS("connect");
int canary_accept(int fd, struct sockaddr *from, socklen_t *size) LINKED_AS("accept");
int canary_accept4(int fd, struct sockaddr *from, socklen_t *size, int flags) LINKED_AS("accept4");
int canary_close(int fd) LINKED_AS("close");
int canary_dup2(int from, int to) LINKED_AS("dup2");
int canary_dup3(int from, int to, int flags) LINKED_AS("dup3");

int canary_ssl_read(struct ssl_st *ssl, void *out, int n) LINKED_AS("SSL_read");
int canary_ssl_read_ex(struct ssl_st *ssl, void *out, size_t n, size_t *ret_n)
    LINKED_AS("SSL_read_ex");
int canary_ssl_write(struct ssl_st *ssl, const void *bytes, int n) LINKED_AS("SSL_write");
int canary_ssl_write_ex(struct ssl_st *ssl, const void *bytes, size_t n, size_t *ret_n)
    LINKED_AS("SSL_write_ex");
