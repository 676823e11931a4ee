#include "syslog_lookup.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"

enum { HOST_SIZE = 256, PORT_SIZE = 8 };

/* Of the thread that looks up and the one that waits; the last of them frees it. */
struct lookup {
    atomic_uint refs;
    int done_fd;
    atomic_bool is_done; /* what follows is not written any more */
    int error;           /* of getaddrinfo() */
    struct addrinfo *found;
    char host[HOST_SIZE], port[PORT_SIZE];
    int socket_type;
};

static void unref(struct lookup *lookup) {
    if (atomic_fetch_sub(&lookup->refs, 1) != 1)
        return;
    if (lookup->found != NULL)
        freeaddrinfo(lookup->found);
    io_fd_close(&lookup->done_fd);
    mem_free(lookup);
}

static int look_up(const char *host, const char *port, int socket_type, int flags,
                   struct addrinfo **ret_found) {
    struct addrinfo hints = {.ai_socktype = socket_type, .ai_flags = flags | AI_NUMERICSERV};
    return getaddrinfo(host, port, &hints, ret_found);
}

static void *run(void *arg) {
    struct lookup *lookup = arg;
    uint64_t one = 1;
    lookup->error =
        look_up(lookup->host, lookup->port, lookup->socket_type, AI_ADDRCONFIG, &lookup->found);
    atomic_store(&lookup->is_done, true);
    if (write(lookup->done_fd, &one, sizeof one) < 0)
        (void)one; /* cannot be: it is written once */
    unref(lookup);
    return NULL;
}

static int start(struct lookup *lookup) {
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, old;
    int error = pthread_attr_init(&attributes);
    if (error != 0)
        return -error;
    error = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (error == 0)
        error = pthread_create(&thread, &attributes, run, lookup);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    return -error;
}

static int fail(struct audit_sink *sink, const char *host, const char *why) {
    sink_tell(sink, "%.80s cannot be looked up: %s", host, why);
    return -ENOENT;
}

int syslog_lookup(struct audit_sink *sink, const char *host, const char *port, int socket_type,
                  uint64_t until_ms, struct addrinfo **ret_found) {
    /* An address needs nobody. */
    if (look_up(host, port, socket_type, AI_NUMERICHOST, ret_found) == 0)
        return 0;
    struct lookup *lookup = mem_xalloc(sizeof *lookup);
    atomic_init(&lookup->refs, 2);
    lookup->socket_type = socket_type;
    snprintf(lookup->host, sizeof lookup->host, "%s", host);
    snprintf(lookup->port, sizeof lookup->port, "%s", port);
    lookup->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = lookup->done_fd >= 0 ? start(lookup) : -errno;
    if (error != 0) {
        unref(lookup); /* of the thread that is not there */
        unref(lookup);
        return fail(sink, host, strerror(-error));
    }
    if (sink_poll(sink, lookup->done_fd, POLLIN, until_ms, false) == 0 ||
        !atomic_load(&lookup->is_done))
        error = fail(sink, host, "no answer in time");
    else if (lookup->error != 0)
        error = fail(sink, host, gai_strerror(lookup->error));
    else
        *ret_found = TAKE(lookup->found);
    unref(lookup);
    return error;
}
