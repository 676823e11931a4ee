/*
 * A disk that is slow, full, read-only or broken, and loses what was not synced: loaded with
 * LD_PRELOAD in front of libc, for the files of one directory of one process.
 *
 *   SYNC_SHIM_DIR      the directory, absolute
 *   SYNC_SHIM_CONTROL  a file of `struct control`, mapped: a test changes it while the process runs
 *   SYNC_SHIM_RECORD   a folder (of the same file system) for what is known of the disk
 *
 * What a power failure would leave is not what kill -9 leaves, which is all that was written. So
 * that a test can make the one out of the other (test/integration/lib/power.ts), RECORD has
 *
 *   files    struct files: of each inode the size that it had when the last successful sync of it
 *            BEGAN; what was written while the sync ran may be lost. It is mapped, and so outlives
 *            kill -9. Beside it what a failed sync took with it: the kernel gives up such pages,
 * and the next sync succeeds without them (fsync(2), EIO). listing  "INODE NAME" lines: the
 * directory at its last successful sync gone/    INODE: what was unlinked, or replaced by rename,
 * for names that come back trace    struct event: what happened in which order. SYNCED is written
 * before the sync returns, SENT before the bytes leave: when SYNCED stands first, it came first.
 * SENT is about each word that begins with "mark-" in what goes to a peer: UPSTREAM has been
 * connected to or is a pipe, CLIENT has been accepted.
 */
#include "sync_shim.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FDS_MAX = 65536, FILES_MAX = 4096, EVENTS_MAX = 1 << 20, MARK_MAX = 32 };

/* All of 64 bits, in the order of lib/power.ts. */
struct control {
    _Atomic(int64_t) sync_delay_us;
    _Atomic(int64_t) sync_errno;  /* 0: syncs work */
    _Atomic(int64_t) sync_left;   /* so many work before that */
    _Atomic(int64_t) write_errno; /* 0: writes work */
    _Atomic(int64_t) write_left;  /* so many bytes before that */
    _Atomic(int64_t) open_errno;  /* of what makes files, or opens them for writing */
    _Atomic(int64_t) is_fake;     /* syncs are said to be done: for speed */
    _Atomic(int64_t) is_traced;
    /* What the shim tells. */
    _Atomic(int64_t) n_syncs, n_failed_syncs, n_failed_writes;
};

struct file {
    _Atomic(uint64_t) inode;   /* 0: free */
    _Atomic(uint64_t) durable; /* bytes */
    _Atomic(uint64_t) lost_from, lost_to;
};

struct files {
    struct file file[FILES_MAX];
};

enum kind { NO_EVENT, SYNCED, SENT_UPSTREAM, SENT_CLIENT };

struct event {
    uint64_t time_ns; /* monotonic */
    uint64_t inode, size;
    char mark[MARK_MAX];
    _Atomic(uint64_t) kind; /* written last */
};

struct trace {
    _Atomic(uint64_t) n;
    uint64_t unused[7];
    struct event event[EVENTS_MAX];
};

_Static_assert(sizeof(struct event) == 64 && offsetof(struct trace, event) == 64, "lib/power.ts");

/* What a descriptor is. */
enum { NOTHING, OF_THE_DIRECTORY, THE_DIRECTORY, UPSTREAM, CLIENT, NOT_LOOKED_AT };

static struct {
    int (*open)(const char *, int, ...);
    int (*openat)(int, const char *, int, ...);
    int (*close)(int);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*writev)(int, const struct iovec *, int);
    ssize_t (*pwrite)(int, const void *, size_t, off_t);
    ssize_t (*send)(int, const void *, size_t, int);
    ssize_t (*sendmsg)(int, const struct msghdr *, int);
    int (*connect)(int, const struct sockaddr *, socklen_t);
    int (*accept)(int, struct sockaddr *, socklen_t *);
    int (*accept4)(int, struct sockaddr *, socklen_t *, int);
    int (*fsync)(int);
    int (*fdatasync)(int);
    int (*ftruncate)(int, off_t);
    int (*fallocate)(int, int, off_t, off_t);
    int (*posix_fallocate)(int, off_t, off_t);
    int (*unlink)(const char *);
    int (*unlinkat)(int, const char *, int);
    int (*rename)(const char *, const char *);
    int (*renameat)(int, const char *, int, const char *);
} next;

static const char *const names[] = {
    "open",      "openat",          "close",  "write",    "writev", "pwrite",    "send",
    "sendmsg",   "connect",         "accept", "accept4",  "fsync",  "fdatasync", "ftruncate",
    "fallocate", "posix_fallocate", "unlink", "unlinkat", "rename", "renameat"};

_Static_assert(sizeof next == ARRAY_LEN(names) * sizeof(void *), "a row for each");

static atomic_bool is_found, is_on;
static char directory[PATH_MAX], folder[PATH_MAX];
static size_t directory_len;
static struct control *control;
static struct files *files;
static struct trace *trace;
static _Atomic(uint8_t) class_of[FDS_MAX];
static _Atomic(uint64_t) inode_of[FDS_MAX];
static pthread_mutex_t listing_lock = PTHREAD_MUTEX_INITIALIZER;

/* --- the beginning --- */

static void *map_of(const char *path, size_t size) {
    int fd = next.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *map = MAP_FAILED;
    struct stat info;
    if (fd >= 0 && fstat(fd, &info) == 0 &&
        ((size_t)info.st_size >= size || next.ftruncate(fd, (off_t)size) == 0))
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        next.close(fd);
    if (map == MAP_FAILED) {
        static const char complaint[] = "sync_shim: cannot map its files\n";
        (void)!next.write(STDERR_FILENO, complaint, sizeof complaint - 1);
        _exit(125);
    }
    return map;
}

static struct file *file_of(uint64_t inode) {
    for (size_t i = 0; i < FILES_MAX; i++) {
        struct file *file = &files->file[(inode + i) % FILES_MAX];
        uint64_t found = 0;
        if (atomic_load(&file->inode) == inode ||
            atomic_compare_exchange_strong(&file->inode, &found, inode) || found == inode)
            return file;
    }
    abort();
}

/* The names in the directory, into a file beside the last list; what `is_first` is there before us
 * has been there for long, and is durable. */
static bool write_listing(const char *path, bool is_first) {
    DIR *stream = opendir(directory);
    FILE *out = fopen(path, "we");
    const struct dirent *entry;
    while (stream != NULL && out != NULL && (entry = readdir(stream)) != NULL) {
        struct stat info;
        if (entry->d_name[0] == '.' || fstatat(dirfd(stream), entry->d_name, &info, 0) != 0)
            continue;
        fprintf(out, "%llu %s\n", (unsigned long long)info.st_ino, entry->d_name);
        if (is_first)
            atomic_store(&file_of(info.st_ino)->durable, (uint64_t)info.st_size);
    }
    if (stream != NULL)
        closedir(stream);
    return out != NULL && fclose(out) == 0;
}

static void begin(void) {
    const char *dir = getenv("SYNC_SHIM_DIR"), *of_control = getenv("SYNC_SHIM_CONTROL");
    const char *record = getenv("SYNC_SHIM_RECORD");
    char path[PATH_MAX + 16];
    if (dir == NULL || of_control == NULL || record == NULL)
        return;
    snprintf(directory, sizeof directory, "%s", dir);
    snprintf(folder, sizeof folder, "%s", record);
    (void)unsetenv("SYNC_SHIM_DIR"); /* children are none of this */
    directory_len = strlen(directory);
    for (size_t i = 0; i < FDS_MAX; i++)
        atomic_store_explicit(&class_of[i], NOT_LOOKED_AT, memory_order_relaxed);
    control = map_of(of_control, sizeof *control);
    snprintf(path, sizeof path, "%s/files", folder);
    files = map_of(path, sizeof *files);
    snprintf(path, sizeof path, "%s/trace", folder);
    trace = map_of(path, sizeof *trace);
    snprintf(path, sizeof path, "%s/gone", folder);
    (void)mkdir(path, 0700);
    char begun[PATH_MAX + 16];
    snprintf(begun, sizeof begun, "%s/listing.new", folder);
    snprintf(path, sizeof path, "%s/listing", folder);
    /* With the name all is there that a reader relies on. */
    if (!write_listing(begun, true) || next.rename(begun, path) != 0)
        abort();
    atomic_store(&is_on, true);
}

/* At the first call of all: of the one thread that there is. */
static bool find(void) {
    if (LIKELY(atomic_load_explicit(&is_found, memory_order_relaxed)))
        return atomic_load_explicit(&is_on, memory_order_relaxed);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        /* ISO C knows no way from what dlsym() gives to a function but its bytes. */
        void *symbol = dlsym(RTLD_NEXT, names[i]);
        memcpy((char *)&next + i * sizeof symbol, &symbol, sizeof symbol);
    }
    atomic_store(&is_found, true);
    begin();
    return atomic_load(&is_on);
}

/* --- what a descriptor is --- */

static void set_class(int fd, uint8_t class) {
    struct stat info;
    if (fd < 0 || fd >= FDS_MAX)
        return;
    atomic_store(&inode_of[fd], fstat(fd, &info) == 0 ? (uint64_t)info.st_ino : 0);
    atomic_store(&class_of[fd], class);
}

/* Descriptors are closed in ways that nobody sees: what is believed of one is compared. */
static uint8_t class_at(int fd, struct stat *ret_info) {
    if (fd < 0 || fd >= FDS_MAX)
        return NOTHING;
    uint8_t class = atomic_load_explicit(&class_of[fd], memory_order_relaxed);
    if (class == NOTHING)
        return NOTHING;
    int error = errno;
    if (fstat(fd, ret_info) != 0) {
        class = NOTHING;
    } else if (class == NOT_LOOKED_AT || ret_info->st_ino != atomic_load(&inode_of[fd])) {
        class = S_ISFIFO(ret_info->st_mode) && fd > STDERR_FILENO ? UPSTREAM : NOTHING;
        if (!S_ISSOCK(ret_info->st_mode))
            set_class(fd, class);
    }
    errno = error;
    return class;
}

/* The name in our directory, "" for itself; NULL: it is elsewhere. */
static const char *name_in(int dir, const char *path) {
    struct stat info;
    if (path[0] != '/' && dir != AT_FDCWD)
        return class_at(dir, &info) == THE_DIRECTORY ? path : NULL;
    if (strncmp(path, directory, directory_len) != 0)
        return NULL;
    const char *rest = path + directory_len;
    return rest[0] == '\0' ? rest : rest[0] == '/' ? rest + 1 : NULL;
}

/* --- opening --- */

static bool is_refused(const char *name, int flags) {
    int64_t error = atomic_load(&control->open_errno);
    if (error == 0 || name == NULL || (flags & (O_CREAT | O_WRONLY | O_RDWR)) == 0)
        return false;
    errno = (int)error;
    return true;
}

static int opened(int fd, const char *name) {
    if (fd >= 0 && fd < FDS_MAX) {
        if (name != NULL)
            set_class(fd,
                      name[0] == '\0' || strcmp(name, ".") == 0 ? THE_DIRECTORY : OF_THE_DIRECTORY);
        else
            set_class(fd, NOTHING);
    }
    return fd;
}

static int open_at(int dir, const char *path, int flags, mode_t mode) {
    if (!find())
        return next.openat(dir, path, flags, mode);
    const char *name = name_in(dir, path);
    if (is_refused(name, flags))
        return -1;
    return opened(next.openat(dir, path, flags, mode), name);
}

/* --- the order of things --- */

static void note(enum kind kind, uint64_t inode, uint64_t size, const char *mark, size_t len) {
    struct timespec now = {0};
    if (atomic_load(&control->is_traced) == 0)
        return;
    uint64_t at = atomic_fetch_add(&trace->n, 1);
    if (at >= EVENTS_MAX)
        return;
    struct event *event = &trace->event[at];
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    event->time_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    event->inode = inode;
    event->size = size;
    if (len != 0)
        memcpy(event->mark, mark, len < MARK_MAX - 1 ? len : MARK_MAX - 1);
    atomic_store(&event->kind, kind);
}

static bool is_of_word(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-';
}

static void note_marks(int fd, const struct iovec *pieces, size_t n_pieces) {
    static const char begins[] = "mark-";
    struct stat info;
    if (atomic_load(&control->is_traced) == 0)
        return;
    uint8_t class = class_at(fd, &info);
    if (class != UPSTREAM && class != CLIENT)
        return;
    for (size_t i = 0; i < n_pieces; i++) {
        const char *at = pieces[i].iov_base, *end = at + pieces[i].iov_len;
        while (at != NULL && at < end &&
               (at = memmem(at, (size_t)(end - at), begins, sizeof begins - 1)) != NULL) {
            size_t len = sizeof begins - 1;
            while (at + len < end && is_of_word(at[len]))
                len++;
            note(class == UPSTREAM ? SENT_UPSTREAM : SENT_CLIENT, 0, 0, at, len);
            at += len;
        }
    }
}

/* --- writing --- */

/* How much of n bytes may be written; -1: nothing, and errno says why. */
static ssize_t allowed(int fd, size_t n) {
    struct stat info;
    int64_t error = atomic_load(&control->write_errno);
    if (error == 0 || n == 0 || class_at(fd, &info) != OF_THE_DIRECTORY)
        return (ssize_t)n;
    int64_t left = atomic_load(&control->write_left);
    int64_t take;
    do {
        take = left < (int64_t)n ? left : (int64_t)n;
    } while (left > 0 && !atomic_compare_exchange_weak(&control->write_left, &left, left - take));
    if (left > 0)
        return (ssize_t)take;
    atomic_fetch_add(&control->n_failed_writes, 1);
    errno = (int)error;
    return -1;
}

static struct iovec piece_of(const void *bytes, size_t n) {
    struct iovec piece = {.iov_len = n};
    memcpy(&piece.iov_base, &bytes, sizeof bytes); /* iovec knows no const */
    return piece;
}

/* --- syncing --- */

static bool may_sync(void) {
    int64_t error = atomic_load(&control->sync_errno);
    if (error == 0)
        return true;
    if (atomic_fetch_sub(&control->sync_left, 1) > 0)
        return true;
    atomic_store(&control->sync_left, 0);
    atomic_fetch_add(&control->n_failed_syncs, 1);
    errno = (int)error;
    return false;
}

/* As long as the disk takes, and not the 50 us more that the kernel may let pass before a thread
 * that slept is woken (prctl(2), PR_SET_TIMERSLACK). */
static void be_slow(void) {
    static _Thread_local bool is_exact;
    int64_t delay = atomic_load(&control->sync_delay_us);
    const struct timespec time = {.tv_sec = delay / 1000000, .tv_nsec = delay % 1000000 * 1000};
    if (delay > 0 && !is_exact)
        is_exact = prctl(PR_SET_TIMERSLACK, 1UL) == 0;
    if (delay > 0)
        (void)ppoll(NULL, 0, &time, NULL);
}

static void raise_to(_Atomic(uint64_t) *number, uint64_t to) {
    uint64_t now = atomic_load(number);
    while (now < to && !atomic_compare_exchange_weak(number, &now, to))
        ;
}

static int sync_file(int fd, const struct stat *before, int (*real)(int)) {
    struct file *file = file_of(before->st_ino);
    uint64_t size = (uint64_t)before->st_size;
    be_slow();
    if (!may_sync()) {
        struct stat now;
        uint64_t none = 0;
        int error = errno;
        if (fstat(fd, &now) == 0 && (uint64_t)now.st_size > atomic_load(&file->durable)) {
            if (atomic_compare_exchange_strong(&file->lost_to, &none, (uint64_t)now.st_size))
                atomic_store(&file->lost_from, atomic_load(&file->durable));
            else
                raise_to(&file->lost_to, (uint64_t)now.st_size);
        }
        errno = error;
        return -1;
    }
    int result = atomic_load(&control->is_fake) != 0 ? 0 : real(fd);
    if (result == 0) {
        raise_to(&file->durable, size);
        atomic_fetch_add(&control->n_syncs, 1);
        note(SYNCED, before->st_ino, size, NULL, 0);
    }
    return result;
}

static int sync_directory(int fd, int (*real)(int)) {
    char written[PATH_MAX + 16], path[PATH_MAX + 16];
    snprintf(written, sizeof written, "%s/listing.new", folder);
    snprintf(path, sizeof path, "%s/listing", folder);
    pthread_mutex_lock(&listing_lock);
    bool is_written = write_listing(written, false);
    be_slow();
    int result = may_sync() ? atomic_load(&control->is_fake) != 0 ? 0 : real(fd) : -1;
    int error = errno;
    if (result == 0 && (!is_written || next.rename(written, path) != 0))
        abort();
    pthread_mutex_unlock(&listing_lock);
    errno = error;
    return result;
}

static int sync_any(int fd, int (*real)(int)) {
    struct stat info;
    switch (class_at(fd, &info)) {
    case OF_THE_DIRECTORY:
        return sync_file(fd, &info, real);
    case THE_DIRECTORY:
        return sync_directory(fd, real);
    default:
        return real(fd);
    }
}

static int truncate_to(int fd, off_t size) {
    struct stat info;
    bool is_ours = find() && class_at(fd, &info) == OF_THE_DIRECTORY;
    int64_t error = is_ours ? atomic_load(&control->write_errno) : 0;
    if (error == EROFS || (error != 0 && size > info.st_size)) {
        errno = (int)error;
        return -1;
    }
    int result = next.ftruncate(fd, size);
    if (result == 0 && is_ours) {
        struct file *file = file_of(info.st_ino);
        if (atomic_load(&file->durable) > (uint64_t)size)
            atomic_store(&file->durable, (uint64_t)size);
    }
    return result;
}

/* 0: go on; else the error. */
static int refuses_room(int fd) {
    struct stat info;
    return find() && class_at(fd, &info) == OF_THE_DIRECTORY
               ? (int)atomic_load(&control->write_errno)
               : 0;
}

/* --- names --- */

/* -1: they cannot be changed. What is about to lose its name gets one in `gone`. */
static int keep(int dir, const char *path) {
    char kept[PATH_MAX + 48];
    struct stat info;
    int error = errno;
    if (!find() || name_in(dir, path) == NULL)
        return 0;
    if (atomic_load(&control->open_errno) == EROFS) {
        errno = EROFS;
        return -1;
    }
    if (fstatat(dir, path, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode)) {
        snprintf(kept, sizeof kept, "%s/gone/%llu", folder, (unsigned long long)info.st_ino);
        (void)!linkat(dir, path, AT_FDCWD, kept, 0);
    }
    errno = error;
    return 0;
}

/* All else is built to be hidden. */
#pragma GCC visibility push(default)

int synced_open(const char *path, int flags, mode_t mode) {
    return open_at(AT_FDCWD, path, flags, mode);
}

int synced_open64(const char *path, int flags, mode_t mode) {
    return open_at(AT_FDCWD, path, flags, mode);
}

int synced_open_2(const char *path, int flags) {
    return open_at(AT_FDCWD, path, flags, 0);
}

int synced_open64_2(const char *path, int flags) {
    return open_at(AT_FDCWD, path, flags, 0);
}

int synced_openat(int dir, const char *path, int flags, mode_t mode) {
    return open_at(dir, path, flags, mode);
}

int synced_openat64(int dir, const char *path, int flags, mode_t mode) {
    return open_at(dir, path, flags, mode);
}

int synced_openat_2(int dir, const char *path, int flags) {
    return open_at(dir, path, flags, 0);
}

int synced_openat64_2(int dir, const char *path, int flags) {
    return open_at(dir, path, flags, 0);
}

/* Before, because the number is another thread's as soon as it is free. */
int synced_close(int fd) {
    if (find() && fd >= 0 && fd < FDS_MAX)
        atomic_store(&class_of[fd], NOT_LOOKED_AT);
    return next.close(fd);
}

ssize_t synced_write(int fd, const void *bytes, size_t n) {
    if (!find())
        return next.write(fd, bytes, n);
    struct iovec piece = piece_of(bytes, n);
    ssize_t may = allowed(fd, n);
    if (may < 0)
        return -1;
    note_marks(fd, &piece, 1);
    return next.write(fd, bytes, (size_t)may);
}

ssize_t synced_writev(int fd, const struct iovec *pieces, int n) {
    size_t len = 0;
    if (!find() || n <= 0)
        return next.writev(fd, pieces, n);
    for (int i = 0; i < n; i++)
        len += pieces[i].iov_len;
    ssize_t may = allowed(fd, len);
    if (may < 0)
        return -1;
    note_marks(fd, pieces, (size_t)n);
    if ((size_t)may == len)
        return next.writev(fd, pieces, n);
    size_t first = pieces[0].iov_len < (size_t)may ? pieces[0].iov_len : (size_t)may;
    return next.write(fd, pieces[0].iov_base, first);
}

ssize_t synced_pwrite(int fd, const void *bytes, size_t n, off_t at) {
    ssize_t may = find() ? allowed(fd, n) : (ssize_t)n;
    return may < 0 ? -1 : next.pwrite(fd, bytes, (size_t)may, at);
}

ssize_t synced_pwrite64(int fd, const void *bytes, size_t n, off_t at) {
    return synced_pwrite(fd, bytes, n, at);
}

ssize_t synced_send(int fd, const void *bytes, size_t n, int flags) {
    if (find()) {
        struct iovec piece = piece_of(bytes, n);
        note_marks(fd, &piece, 1);
    }
    return next.send(fd, bytes, n, flags);
}

ssize_t synced_sendmsg(int fd, const struct msghdr *message, int flags) {
    if (find())
        note_marks(fd, message->msg_iov, message->msg_iovlen);
    return next.sendmsg(fd, message, flags);
}

int synced_connect(int fd, const struct sockaddr *to, socklen_t size) {
    if (find())
        set_class(fd, UPSTREAM);
    return next.connect(fd, to, size);
}

int synced_accept(int fd, struct sockaddr *from, socklen_t *size) {
    bool is_ours = find();
    int got = next.accept(fd, from, size);
    if (is_ours && got >= 0)
        set_class(got, CLIENT);
    return got;
}

int synced_accept4(int fd, struct sockaddr *from, socklen_t *size, int flags) {
    bool is_ours = find();
    int got = next.accept4(fd, from, size, flags);
    if (is_ours && got >= 0)
        set_class(got, CLIENT);
    return got;
}

int synced_fsync(int fd) {
    return find() ? sync_any(fd, next.fsync) : next.fsync(fd);
}

int synced_fdatasync(int fd) {
    return find() ? sync_any(fd, next.fdatasync) : next.fdatasync(fd);
}

int synced_ftruncate(int fd, off_t size) {
    return truncate_to(fd, size);
}

int synced_ftruncate64(int fd, off_t size) {
    return truncate_to(fd, size);
}

int synced_fallocate(int fd, int mode, off_t at, off_t n) {
    int error = refuses_room(fd);
    if (error == 0)
        return next.fallocate(fd, mode, at, n);
    errno = error;
    return -1;
}

int synced_fallocate64(int fd, int mode, off_t at, off_t n) {
    return synced_fallocate(fd, mode, at, n);
}

int synced_posix_fallocate(int fd, off_t at, off_t n) {
    int error = refuses_room(fd);
    return error == 0 ? next.posix_fallocate(fd, at, n) : error;
}

int synced_posix_fallocate64(int fd, off_t at, off_t n) {
    return synced_posix_fallocate(fd, at, n);
}

int synced_unlink(const char *path) {
    return keep(AT_FDCWD, path) == 0 ? next.unlink(path) : -1;
}

int synced_unlinkat(int dir, const char *path, int flags) {
    return keep(dir, path) == 0 ? next.unlinkat(dir, path, flags) : -1;
}

int synced_rename(const char *from, const char *to) {
    return keep(AT_FDCWD, to) == 0 ? next.rename(from, to) : -1;
}

int synced_renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return keep(to_dir, to) == 0 ? next.renameat(from_dir, from, to_dir, to) : -1;
}

#pragma GCC visibility pop
