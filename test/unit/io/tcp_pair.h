/* A connected pair of TCP sockets, of which the first has a send buffer of a given size. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "io/file.h"
#include "io/stream.h"

enum { SMALL_SEND_BUFFER = 4096 };

static bool tcp_pair(int fds[2], int send_buffer) {
    struct io_address address;
    int listener = -1;
    if (io_address_parse(SLICE("127.0.0.1:0"), &address) != 0 ||
        io_listen_socket(&address, false, &listener) != 0)
        return false;
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
    bool connected = connect(fds[0], (struct sockaddr *)(void *)address.storage, address.size) == 0;
    fds[1] = connected ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
    io_fd_close(&listener);
    return fds[1] >= 0;
}
