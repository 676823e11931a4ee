/*
 * Children. A small single-threaded process, forked before any thread exists, starts them and is
 * their parent (and subreaper). It talks over one SOCK_SEQPACKET pair; when the gateway goes,
 * however it goes, the socket closes and the spawner kills every descendant before it exits.
 *
 * Isolation is built once, in the spawner, and inherited: a mount namespace in which `hide_path` is
 * covered by an empty read-only tmpfs, and where possible a PID namespace of which the spawner is
 * init (so nothing inside can outlive it, kill it or see the gateway). As root directly, else
 * through a user namespace, else Landlock, else nothing, and then only children that ask for no
 * isolation start.
 *
 * Thread safety: spawner_start() before any thread; spawner_spawn() and spawner_signal() from any
 * thread (one sendmsg(2) each); spawner_receive() from one thread, when spawner_fd() is readable.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "base/slice.h"

enum spawner_isolation {
    SPAWNER_ISOLATION_NONE,       /* children run as the gateway does */
    SPAWNER_ISOLATION_LANDLOCK,   /* the hidden path by Landlock rules */
    SPAWNER_ISOLATION_NAMESPACES, /* mount namespace, PID namespace where the kernel allows */
};

const char *spawner_isolation_name(enum spawner_isolation isolation);

struct spawner; /* opaque */

struct spawner_options {
    const char *hide_path; /* absolute; children must not reach it. NULL: start without isolation */
    bool allow_namespaces; /* false in tests of the fallbacks */
    bool allow_landlock;
    /*
     * Sockets of those who run commands for whoever asks (D-Bus, systemd, container engines) stay
     * reachable: through each of them a child can read the hidden path. Only NAMESPACES can cover
     * them; LANDLOCK gives no Unix sockets.
     */
    bool allow_brokers;
};

/*
 * Forks the spawner and waits until it stands. 0 or -errno. When hide_path is given and no
 * isolation can be had, it still starts, spawner_isolation() says NONE, and the caller decides.
 */
MUST_CHECK int spawner_start(const struct spawner_options *options, struct spawner **ret_spawner);
/*
 * Closes the socket and waits until the spawner (and so every child) is gone, at most some seconds.
 * Accepts NULL. To be called after -EPIPE, too: it ends what a spawner that died left behind. Then
 * every child of this process that is of another session and was not there before the first order
 * counts as such: start all spawners before that.
 */
struct spawner *spawner_free(struct spawner *spawner);

enum spawner_isolation spawner_isolation(const struct spawner *spawner);
/* The step at which a better method was refused (a fixed string) and its errno; NULL when the best
 * was to be had. */
const char *spawner_isolation_refused(const struct spawner *spawner, int *ret_error);
pid_t spawner_pid(const struct spawner *spawner);
int spawner_fd(const struct spawner *spawner);

struct spawner_command {
    uint64_t id; /* the caller's, unique among living children */
    const char *const
        *argv; /* NULL-terminated; argv[0] is searched in the PATH of envp when it has no slash */
    const char *const *envp; /* NULL-terminated: exactly what the child sees */
    const char *cwd;         /* NULL: that of the gateway */
    bool change_user;        /* run as uid/gid (with their own groups only); needs root */
    uid_t uid;
    gid_t gid;
    int stdin_fd, stdout_fd,
        stderr_fd; /* passed to the child as 0, 1, 2; the caller closes its own */
};

/*
 * Sends the order. 0, -E2BIG (argv and envp are longer than 128 KiB), -EINVAL (no argv[0]), -EBADF,
 * -EPIPE (the spawner is gone), -EAGAIN (it did not take the order within 20 ms: too many at once),
 * -errno.
 */
MUST_CHECK int spawner_spawn(struct spawner *spawner, const struct spawner_command *command);
/* Signals the process group of child `id`; unknown ids are ignored by the spawner. */
MUST_CHECK int spawner_signal(struct spawner *spawner, uint64_t id, int signal);

enum spawner_event_kind {
    SPAWNER_STARTED, /* pid: execve succeeded */
    SPAWNER_FAILED,  /* error and stage: it did not; nothing is left of it */
    SPAWNER_EXITED,  /* status as of waitpid(2); what was left of its group was killed */
};

struct spawner_event {
    enum spawner_event_kind kind;
    uint64_t id;
    pid_t pid;
    int error;         /* errno of SPAWNER_FAILED */
    const char *stage; /* "execute", "change directory", "change user", ...: a fixed string */
    int status;
};

/* 0 and an event; -EAGAIN: none now; -EPIPE: the spawner is gone, call spawner_free(). Never
 * blocks. */
MUST_CHECK int spawner_receive(struct spawner *spawner, struct spawner_event *ret_event);
