/*
 * What one process says and hears: loaded with LD_PRELOAD in front of libc and OpenSSL, it writes
 * down every byte that passes read(2), write(2) and their kin, and every byte that passes OpenSSL
 * before it is encrypted or after it was decrypted, and where to. A test reads that afterwards
 * (test/integration/lib/canary.ts) and looks for credentials in places where they do not belong.
 *
 * The record is the file $CANARY_RECORD.PID. It is mapped once and its descriptor closed, so that
 * tests which count descriptors see none, and what was written before a kill -9 is there. It has
 * room for RECORD_SIZE bytes; what does not fit is counted. Of its pages few stay in memory.
 *
 *   header   struct header
 *   frames   struct frame, then `len` bytes, then zeros up to a multiple of 8
 *
 * A frame OPENED gives a number to a peer, in words: "connect tcp 127.0.0.1:8080", "accept tcp
 * 127.0.0.1:50000", "pipe", "stderr", "file /var/lib/cardea/token", "tls client up.example RANDOM".
 * RANDOM is that of the ClientHello (RFC 8446 section 4.1.2), by which the reader finds the
 * connection that the TLS is on. The other frames have bytes of the peer with that number.
 *
 * A process that is forked from the recorded one is not recorded: the mark that says "this is the
 * one" lies in a page that forks get empty.
 */
#include "canary_shim.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    RECORD_SIZE = 64 * 1024 * 1024,
    /* Of what was written so much may stay in this process's memory. */
    RESIDENT_STEP = 256 * 1024,
    FDS_MAX = 65536,
    TEXT_MAX = 512,
    RANDOM_SIZE = 32,
};

enum kind { OPENED = 1, HEARD, SAID };

/* What a descriptor is, until it is closed: one of these, or the number of its peer. */
enum { NOT_KNOWN, NOT_RECORDED, FIRST_PEER };

struct header {
    char magic[8];
    _Atomic(uint64_t) end;  /* where the next frame begins */
    _Atomic(uint64_t) lost; /* bytes for which there was no room */
    _Atomic(uint32_t) peers;
};

struct frame {
    uint32_t size; /* of all of it; 0: there is none */
    uint32_t kind;
    uint32_t peer;
    uint32_t len;
};

/* What stands behind us, in the order of `names`. */
static struct {
    ssize_t (*read)(int, void *, size_t);
    ssize_t (*readv)(int, const struct iovec *, int);
    ssize_t (*recv)(int, void *, size_t, int);
    ssize_t (*recvfrom)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
    ssize_t (*recvmsg)(int, struct msghdr *, int);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*writev)(int, const struct iovec *, int);
    ssize_t (*send)(int, const void *, size_t, int);
    ssize_t (*sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    ssize_t (*sendmsg)(int, const struct msghdr *, int);
    int (*connect)(int, const struct sockaddr *, socklen_t);
    int (*accept)(int, struct sockaddr *, socklen_t *);
    int (*accept4)(int, struct sockaddr *, socklen_t *, int);
    int (*close)(int);
    int (*dup2)(int, int);
    int (*dup3)(int, int, int);
} next;

static const char *const names[] = {"read",    "readv", "recv",   "recvfrom", "recvmsg", "write",
                                    "writev",  "send",  "sendto", "sendmsg",  "connect", "accept",
                                    "accept4", "close", "dup2",   "dup3"};

/* NULL in a process without OpenSSL. */
static struct {
    int (*read)(struct ssl_st *, void *, int);
    int (*read_ex)(struct ssl_st *, void *, size_t, size_t *);
    int (*write)(struct ssl_st *, const void *, int);
    int (*write_ex)(struct ssl_st *, const void *, size_t, size_t *);
    int (*is_server)(const struct ssl_st *);
    size_t (*get_client_random)(const struct ssl_st *, unsigned char *, size_t);
    const char *(*get_servername)(const struct ssl_st *, int);
    int (*set_ex_data)(struct ssl_st *, int, void *);
    void *(*get_ex_data)(const struct ssl_st *, int);
    int (*new_index)(int, long, void *, void *, void *, void *);
} next_ssl;

static const char *const ssl_names[] = {"SSL_read",           "SSL_read_ex",
                                        "SSL_write",          "SSL_write_ex",
                                        "SSL_is_server",      "SSL_get_client_random",
                                        "SSL_get_servername", "SSL_set_ex_data",
                                        "SSL_get_ex_data",    "CRYPTO_get_ex_new_index"};

_Static_assert(sizeof next == ARRAY_LEN(names) * sizeof(void *), "a row for each");
_Static_assert(sizeof next_ssl == ARRAY_LEN(ssl_names) * sizeof(void *), "a row for each");

static atomic_bool is_found, is_opened;
static atomic_int ssl_index = -1; /* where an SSL has the number of its peer */
static char *record;              /* the mapped file */
static const atomic_int *is_ours; /* 1, in a page that a fork finds empty */
static _Atomic(uint32_t) peer_of[FDS_MAX];

/* --- the beginning --- */

/* ISO C knows no way from what dlsym() gives to a function but its bytes. */
static void find_all(void *ret_table, const char *const *wanted, size_t n) {
    for (size_t i = 0; i < n; i++) {
        void *symbol = dlsym(RTLD_NEXT, wanted[i]);
        memcpy((char *)ret_table + i * sizeof symbol, &symbol, sizeof symbol);
    }
}

static char *map_file(const char *prefix) {
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s.%d", prefix, (int)getpid());
    if (n < 0 || (size_t)n >= sizeof path)
        return MAP_FAILED;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return MAP_FAILED;
    void *map = ftruncate(fd, RECORD_SIZE) == 0
                    ? mmap(NULL, RECORD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                    : MAP_FAILED;
    next.close(fd);
    return map;
}

static void begin(void) {
    const char *prefix = getenv("CANARY_RECORD");
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (prefix == NULL)
        return;
    atomic_int *mark = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *map = map_file(prefix);
    if (mark == MAP_FAILED || map == MAP_FAILED || madvise(mark, page, MADV_WIPEONFORK) != 0) {
        static const char complaint[] = "canary: cannot open the record\n";
        (void)!next.write(STDERR_FILENO, complaint, sizeof complaint - 1);
        _exit(125);
    }
    struct header *header = (struct header *)(void *)map;
    memcpy(header->magic, "CANARY1", sizeof header->magic);
    atomic_store(&header->peers, FIRST_PEER);
    atomic_store(&header->end, (sizeof *header + 7) / 8 * 8);
    atomic_store(mark, 1);
    is_ours = mark;
    record = map;
    atomic_store(&is_opened, true);
}

/* At the first call of all: of the one thread that there is. */
static void find(void) {
    if (LIKELY(atomic_load_explicit(&is_found, memory_order_relaxed)))
        return;
    find_all(&next, names, ARRAY_LEN(names));
    find_all(&next_ssl, ssl_names, ARRAY_LEN(ssl_names));
    atomic_store(&is_found, true);
    begin();
}

static bool is_recorded(void) {
    return atomic_load_explicit(&is_opened, memory_order_relaxed) && atomic_load(is_ours) == 1;
}

/* --- frames --- */

/* Pages before `end` that are full: the file has them, this process needs them no more. */
static void let_go(uint64_t before, uint64_t end) {
    if (before / RESIDENT_STEP == end / RESIDENT_STEP || end <= RESIDENT_STEP)
        return;
    uint64_t from = before / RESIDENT_STEP * RESIDENT_STEP;
    uint64_t to = end / RESIDENT_STEP * RESIDENT_STEP;
    if (from < to)
        (void)madvise(record + from, to - from, MADV_DONTNEED);
}

static void append(enum kind kind, uint32_t peer, const struct iovec *pieces, size_t n_pieces,
                   size_t len) {
    struct header *header = (struct header *)(void *)record;
    size_t size = (sizeof(struct frame) + len + 7) / 8 * 8;
    if (size > RECORD_SIZE) {
        atomic_fetch_add(&header->lost, len);
        return;
    }
    uint64_t at = atomic_fetch_add(&header->end, size);
    if (at + size > RECORD_SIZE) {
        atomic_fetch_add(&header->lost, len);
        return;
    }
    struct frame *frame = (struct frame *)(void *)(record + at);
    char *out = record + at + sizeof *frame;
    *frame =
        (struct frame){.size = (uint32_t)size, .kind = kind, .peer = peer, .len = (uint32_t)len};
    for (size_t i = 0; i < n_pieces && len != 0; i++) {
        size_t n = pieces[i].iov_len < len ? pieces[i].iov_len : len;
        memcpy(out, pieces[i].iov_base, n);
        out += n;
        len -= n;
    }
    let_go(at, at + size);
}

static uint32_t open_peer(const char *text) {
    struct header *header = (struct header *)(void *)record;
    uint32_t peer = atomic_fetch_add(&header->peers, 1);
    char copy[TEXT_MAX];
    size_t len = strnlen(text, sizeof copy);
    memcpy(copy, text, len);
    append(OPENED, peer, &(struct iovec){.iov_base = copy, .iov_len = len}, 1, len);
    return peer;
}

/* --- what a descriptor is --- */

static bool is_known_fd(int fd) {
    return fd >= 0 && fd < FDS_MAX;
}

static void forget(int fd) {
    if (is_known_fd(fd))
        atomic_store(&peer_of[fd], NOT_KNOWN);
}

/* "connect tcp 127.0.0.1:80"; false: of another kind, which is not recorded. */
static bool describe(const char *verb, int type, const struct sockaddr_storage *address,
                     char text[TEXT_MAX]) {
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
    const char *transport = type == SOCK_STREAM ? "tcp" : "udp";
    char host[INET6_ADDRSTRLEN] = "?";
    switch (address->ss_family) {
    case AF_INET:
        (void)inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(text, TEXT_MAX, "%s %s %s:%u", verb, transport, host, ntohs(v4->sin_port));
        return true;
    case AF_INET6:
        (void)inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(text, TEXT_MAX, "%s %s [%s]:%u", verb, transport, host, ntohs(v6->sin6_port));
        return true;
    case AF_UNIX:
        snprintf(text, TEXT_MAX, "%s unix", verb);
        return type == SOCK_STREAM; /* packets are orders to the process that starts others */
    default:
        return false;
    }
}

static void note_socket(int fd, const char *verb, const struct sockaddr *given, socklen_t size) {
    struct sockaddr_storage address = {0};
    socklen_t room = sizeof address;
    char text[TEXT_MAX];
    int type = 0;
    socklen_t type_size = sizeof type;
    if (!is_known_fd(fd))
        return;
    if (given != NULL)
        memcpy(&address, given, size < sizeof address ? size : sizeof address);
    else
        (void)getpeername(fd, (struct sockaddr *)(void *)&address, &room);
    (void)getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size);
    bool is_wanted = describe(verb, type, &address, text);
    atomic_store(&peer_of[fd], is_wanted ? open_peer(text) : NOT_RECORDED);
}

static bool is_same_file(const struct stat *a, int fd) {
    struct stat b;
    return fstat(fd, &b) == 0 && a->st_dev == b.st_dev && a->st_ino == b.st_ino;
}

/* What the system and its libraries have in files is no secret of a test. */
static bool is_of_system(const char *path) {
    static const char *const folders[] = {"/proc/", "/sys/", "/dev/", "/etc/", "/usr/", "/lib"};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        if (strncmp(path, folders[i], strlen(folders[i])) == 0)
            return true;
    return path[0] != '/';
}

static uint32_t open_file(int fd) {
    char link[64], target[TEXT_MAX - 8], text[TEXT_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    if (is_of_system(target))
        return NOT_RECORDED;
    snprintf(text, sizeof text, "file %s", target);
    return open_peer(text);
}

/* A descriptor that neither connect() nor accept() gave. */
static uint32_t classify(int fd) {
    struct stat info;
    if (fstat(fd, &info) != 0)
        return NOT_KNOWN;
    if (S_ISREG(info.st_mode))
        return open_file(fd);
    if (!S_ISSOCK(info.st_mode) && !S_ISFIFO(info.st_mode) && !isatty(fd))
        return NOT_RECORDED;
    if (is_same_file(&info, STDERR_FILENO))
        return open_peer("stderr");
    if (is_same_file(&info, STDOUT_FILENO))
        return open_peer("stdout");
    if (S_ISFIFO(info.st_mode))
        return open_peer("pipe");
    note_socket(fd, "socket", NULL, 0);
    return atomic_load(&peer_of[fd]);
}

/* FIRST_PEER or more, or: not to be recorded. */
static uint32_t peer_at(int fd) {
    if (!is_known_fd(fd))
        return NOT_RECORDED;
    uint32_t peer = atomic_load_explicit(&peer_of[fd], memory_order_relaxed);
    if (peer == NOT_KNOWN) {
        peer = classify(fd);
        atomic_store(&peer_of[fd], peer);
    }
    return peer;
}

static void note_pieces(enum kind kind, int fd, const struct iovec *pieces, size_t n_pieces,
                        ssize_t n) {
    if (n <= 0 || !is_recorded())
        return;
    int error = errno;
    uint32_t peer = peer_at(fd);
    if (peer >= FIRST_PEER)
        append(kind, peer, pieces, n_pieces, (size_t)n);
    errno = error;
}

static void note_read(int fd, void *bytes, ssize_t n) {
    if (n > 0)
        note_pieces(HEARD, fd, &(struct iovec){.iov_base = bytes, .iov_len = (size_t)n}, 1, n);
}

static void note_write(int fd, const void *bytes, ssize_t n) {
    struct iovec piece = {.iov_len = n > 0 ? (size_t)n : 0};
    memcpy(&piece.iov_base, &bytes, sizeof bytes); /* iovec knows no const */
    note_pieces(SAID, fd, &piece, 1, n);
}

/* --- TLS --- */

static uint32_t open_tls(struct ssl_st *ssl) {
    unsigned char random[RANDOM_SIZE] = {0};
    char hex[2 * RANDOM_SIZE + 1], text[TEXT_MAX];
    bool is_server = next_ssl.is_server(ssl) != 0;
    const char *name = next_ssl.get_servername(ssl, 0 /* TLSEXT_NAMETYPE_host_name */);
    (void)next_ssl.get_client_random(ssl, random, sizeof random);
    for (size_t i = 0; i < RANDOM_SIZE; i++)
        snprintf(hex + 2 * i, 3, "%02x", random[i]);
    snprintf(text, sizeof text, "tls %s %.256s %s", is_server ? "server" : "client",
             name != NULL ? name : "-", hex);
    return open_peer(text);
}

/* Not before OpenSSL is in use: its first call decides how it is set up. */
static int index_of_peers(void) {
    int index = atomic_load(&ssl_index), expected = -1;
    if (index >= 0)
        return index;
    index = next_ssl.new_index(0 /* CRYPTO_EX_INDEX_SSL */, 0, NULL, NULL, NULL, NULL);
    if (!atomic_compare_exchange_strong(&ssl_index, &expected, index))
        index = expected; /* another thread was faster */
    return index;
}

static void note_plain(enum kind kind, struct ssl_st *ssl, const void *bytes, size_t n) {
    if (n == 0 || !is_recorded())
        return;
    int error = errno;
    int index = index_of_peers();
    uintptr_t peer = (uintptr_t)next_ssl.get_ex_data(ssl, index);
    if (peer == 0) {
        peer = open_tls(ssl);
        (void)next_ssl.set_ex_data(ssl, index, (void *)peer);
    }
    struct iovec piece = {.iov_len = n};
    memcpy(&piece.iov_base, &bytes, sizeof bytes);
    append(kind, (uint32_t)peer, &piece, 1, n);
    errno = error;
}

/* All else is built to be hidden. */
#pragma GCC visibility push(default)

ssize_t canary_read(int fd, void *out, size_t n) {
    find();
    ssize_t got = next.read(fd, out, n);
    note_read(fd, out, got);
    return got;
}

/* Libraries that are built with _FORTIFY_SOURCE call these. */
ssize_t canary_read_chk(int fd, void *out, size_t n, size_t size) {
    if (n > size)
        abort();
    return canary_read(fd, out, n);
}

ssize_t canary_readv(int fd, const struct iovec *pieces, int n_pieces) {
    find();
    ssize_t got = next.readv(fd, pieces, n_pieces);
    note_pieces(HEARD, fd, pieces, n_pieces > 0 ? (size_t)n_pieces : 0, got);
    return got;
}

ssize_t canary_recv(int fd, void *out, size_t n, int flags) {
    find();
    ssize_t got = next.recv(fd, out, n, flags);
    if ((flags & (MSG_PEEK | MSG_TRUNC)) == 0)
        note_read(fd, out, got);
    return got;
}

ssize_t canary_recv_chk(int fd, void *out, size_t n, size_t size, int flags) {
    if (n > size)
        abort();
    return canary_recv(fd, out, n, flags);
}

ssize_t canary_recvfrom(int fd, void *out, size_t n, int flags, struct sockaddr *from,
                        socklen_t *size) {
    find();
    ssize_t got = next.recvfrom(fd, out, n, flags, from, size);
    if ((flags & (MSG_PEEK | MSG_TRUNC)) == 0)
        note_read(fd, out, got);
    return got;
}

ssize_t canary_recvmsg(int fd, struct msghdr *message, int flags) {
    find();
    ssize_t got = next.recvmsg(fd, message, flags);
    if ((flags & (MSG_PEEK | MSG_TRUNC)) == 0)
        note_pieces(HEARD, fd, message->msg_iov, message->msg_iovlen, got);
    return got;
}

ssize_t canary_write(int fd, const void *bytes, size_t n) {
    find();
    ssize_t done = next.write(fd, bytes, n);
    note_write(fd, bytes, done);
    return done;
}

ssize_t canary_writev(int fd, const struct iovec *pieces, int n_pieces) {
    find();
    ssize_t done = next.writev(fd, pieces, n_pieces);
    note_pieces(SAID, fd, pieces, n_pieces > 0 ? (size_t)n_pieces : 0, done);
    return done;
}

ssize_t canary_send(int fd, const void *bytes, size_t n, int flags) {
    find();
    ssize_t done = next.send(fd, bytes, n, flags);
    note_write(fd, bytes, done);
    return done;
}

ssize_t canary_sendto(int fd, const void *bytes, size_t n, int flags, const struct sockaddr *to,
                      socklen_t size) {
    find();
    ssize_t done = next.sendto(fd, bytes, n, flags, to, size);
    note_write(fd, bytes, done);
    return done;
}

ssize_t canary_sendmsg(int fd, const struct msghdr *message, int flags) {
    find();
    ssize_t done = next.sendmsg(fd, message, flags);
    note_pieces(SAID, fd, message->msg_iov, message->msg_iovlen, done);
    return done;
}

int canary_connect(int fd, const struct sockaddr *to, socklen_t size) {
    find();
    int result = next.connect(fd, to, size);
    int error = errno;
    if (is_recorded() && (result == 0 || error == EINPROGRESS))
        note_socket(fd, "connect", to, size);
    errno = error;
    return result;
}

static int accepted(int fd) {
    int error = errno;
    if (fd >= 0 && is_recorded())
        note_socket(fd, "accept", NULL, 0);
    errno = error;
    return fd;
}

int canary_accept(int fd, struct sockaddr *from, socklen_t *size) {
    find();
    return accepted(next.accept(fd, from, size));
}

int canary_accept4(int fd, struct sockaddr *from, socklen_t *size, int flags) {
    find();
    return accepted(next.accept4(fd, from, size, flags));
}

/* Before, because the number is another thread's as soon as it is free. */
int canary_close(int fd) {
    find();
    forget(fd);
    return next.close(fd);
}

int canary_dup2(int from, int to) {
    find();
    if (from != to)
        forget(to);
    return next.dup2(from, to);
}

int canary_dup3(int from, int to, int flags) {
    find();
    forget(to);
    return next.dup3(from, to, flags);
}

int canary_ssl_read(struct ssl_st *ssl, void *out, int n) {
    find();
    int got = next_ssl.read(ssl, out, n);
    note_plain(HEARD, ssl, out, got > 0 ? (size_t)got : 0);
    return got;
}

int canary_ssl_read_ex(struct ssl_st *ssl, void *out, size_t n, size_t *ret_n) {
    find();
    int result = next_ssl.read_ex(ssl, out, n, ret_n);
    note_plain(HEARD, ssl, out, result == 1 ? *ret_n : 0);
    return result;
}

int canary_ssl_write(struct ssl_st *ssl, const void *bytes, int n) {
    find();
    int done = next_ssl.write(ssl, bytes, n);
    note_plain(SAID, ssl, bytes, done > 0 ? (size_t)done : 0);
    return done;
}

int canary_ssl_write_ex(struct ssl_st *ssl, const void *bytes, size_t n, size_t *ret_n) {
    find();
    int result = next_ssl.write_ex(ssl, bytes, n, ret_n);
    note_plain(SAID, ssl, bytes, result == 1 ? *ret_n : 0);
    return result;
}

#pragma GCC visibility pop
