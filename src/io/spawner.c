/*
 * The gateway's end of the spawner. Where what is:
 *
 *   spawner.c           start, orders, events, the end            (in the gateway)
 *   spawner_wire.c      the packets between the two               (both)
 *   spawner_server.c    the spawner's loop                        (in the spawner)
 *   spawner_isolate.c   namespaces and covers, built once         (in the spawner)
 *   spawner_confine.c   capabilities, Landlock, seccomp           (spawner and children)
 *   spawner_child.c     between fork and exec                     (in the child)
 *   spawner_process.c   finding and ending descendants            (spawner; gateway at the end)
 *
 * Each method of isolation is an attempt of its own in a fresh process: namespaces with the
 * privileges that we have, namespaces through a user namespace, Landlock. An attempt that is
 * refused anywhere on its way, or whose proof fails, ends that process, and the next one starts
 * clean.
 *
 * The process is made by clone(2) with the namespaces' flags, not by unshare(2) and a second fork:
 * so it is itself the first process of its PID namespace and our direct child, without a stub
 * between that would have to be watched. It must be made before there are threads (a copy of a
 * locked allocator would be of no use), by a thread that lives as long as the process (PDEATHSIG
 * follows the thread), and before secrets are read, which it would hold a copy of.
 *
 * Who kills whom: the gateway gone (in any way) -> its end of the socket closes -> the spawner
 * kills all descendants and exits; with a PID namespace the kernel does both at once. The spawner
 * gone -> spawner_receive() says -EPIPE; direct children have PDEATHSIG; what else is left becomes
 * a child of the gateway, a subreaper, and ends in spawner_free().
 */
#include "io/spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "spawner_isolate.h"
#include "spawner_process.h"
#include "spawner_server.h"
#include "spawner_wire.h"

#define START_TIMEOUT_MS 10000
#define END_TIMEOUT_MS   5000
#define SEND_TIMEOUT_MS  20
#define SEND_BUFFER      (1024 * 1024)

struct spawner {
    int fd;
    int pid_fd; /* -1 before Linux 5.3 */
    pid_t pid;
    enum spawner_isolation isolation;
    bool has_pid_namespace;
    int old_dumpable;
    uint32_t reason_stage; /* of the last attempt that was refused */
    int reason_error;
    atomic_flag has_ordered; /* whoever sends the first order sets the mark, */
    atomic_bool has_mark;    /* which may be read from here on */
    struct process_mark
        mark; /* for the sweep at the end: what was there before cannot be a child's */
};

const char *spawner_isolation_name(enum spawner_isolation isolation) {
    switch (isolation) {
    case SPAWNER_ISOLATION_NONE:
        return "none";
    case SPAWNER_ISOLATION_LANDLOCK:
        return "landlock";
    case SPAWNER_ISOLATION_NAMESPACES:
        return "namespaces";
    }
    return "unknown";
}

enum spawner_isolation spawner_isolation(const struct spawner *spawner) {
    return spawner->isolation;
}

const char *spawner_isolation_refused(const struct spawner *spawner, int *ret_error) {
    if (spawner->reason_error == 0)
        return NULL;
    *ret_error = spawner->reason_error;
    return spawner_stage_name(spawner->reason_stage);
}

pid_t spawner_pid(const struct spawner *spawner) {
    return spawner->pid;
}

int spawner_fd(const struct spawner *spawner) {
    return spawner->fd;
}

/* ---- start ---- */

static pid_t clone_process(unsigned long namespaces) {
    unsigned long flags = namespaces | SIGCHLD;
#if defined(__s390__)
    return (pid_t)syscall(SYS_clone, 0, flags, 0, 0, 0);
#else
    return (pid_t)syscall(SYS_clone, flags, 0, 0, 0, 0);
#endif
}

static int write_proc(pid_t pid, const char *name, const char *text) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, text, strlen(text));
    int error = n < 0 ? -errno : 0;
    close(fd);
    return error;
}

/*
 * All numbers to themselves where we hold the privilege, so that children can be other users; else
 * our own to itself, which needs none (user_namespaces(7): one line, and setgroups(2) denied).
 */
static int write_id_maps(pid_t pid) {
    static const char all[] = "0 0 4294967295\n";
    char own[64];
    snprintf(own, sizeof own, "%ju %ju 1\n", (uintmax_t)geteuid(), (uintmax_t)geteuid());
    bool is_full = write_proc(pid, "uid_map", all) == 0;
    int error = is_full ? 0 : write_proc(pid, "uid_map", own);
    if (error != 0)
        return error;
    if (is_full && write_proc(pid, "gid_map", all) == 0)
        return 0;
    error = write_proc(pid, "setgroups", "deny");
    if (error != 0)
        return error;
    snprintf(own, sizeof own, "%ju %ju 1\n", (uintmax_t)getegid(), (uintmax_t)getegid());
    return write_proc(pid, "gid_map", own);
}

static int receive_hello(int fd, struct hello_packet *ret_hello) {
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    int n;
    do
        n = poll(&readable, 1, START_TIMEOUT_MS);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n == 0 ? -ETIMEDOUT : -errno;
    struct hello_packet hello;
    ssize_t len = recv(fd, &hello, sizeof hello, MSG_DONTWAIT);
    if (len < 0)
        return -errno;
    if (len != (ssize_t)sizeof hello)
        return len == 0 ? -EPIPE : -EPROTO;
    *ret_hello = hello;
    return 0;
}

static int shake_hands(int fd, pid_t pid, struct hello_packet *ret_hello) {
    int error = receive_hello(fd, ret_hello);
    if (error == 0 && ret_hello->kind == HELLO_WAITS) {
        ret_hello->stage = STAGE_ID_MAP;
        error = write_id_maps(pid);
        if (error == 0 && send(fd, "g", 1, MSG_NOSIGNAL) != 1)
            error = -errno;
        if (error == 0)
            error = receive_hello(fd, ret_hello);
    }
    if (error != 0)
        return error;
    if (ret_hello->kind == HELLO_FAILED)
        return ret_hello->error > 0 && ret_hello->error < 4096 ? -ret_hello->error : -EPROTO;
    return ret_hello->kind == HELLO_READY ? 0 : -EPROTO;
}

static void wait_for(pid_t pid) {
    while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
        continue;
}

/* One method. 0, or -errno with *ret_stage. */
static int attempt(struct spawner *spawner, unsigned long namespaces, struct server_task task,
                   uint32_t *ret_stage) {
    int pair[2];
    *ret_stage = STAGE_SETUP;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return -errno;
    int size =
        SEND_BUFFER; /* cut by the system to what is allowed; the default holds one packet, too */
    (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    task.fd = pair[1];
    task.waits_for_maps = (namespaces & CLONE_NEWUSER) != 0;
    task.request.has_new_namespaces = namespaces != 0;

    *ret_stage = namespaces != 0 ? STAGE_NAMESPACES : STAGE_FORK;
    pid_t pid = clone_process(namespaces);
    if (pid == 0) {
        close(pair[0]);
        server_main(&task);
    }
    int error = pid < 0 ? -errno : 0;
    close(pair[1]);
    struct hello_packet hello = {.stage = *ret_stage};
    if (error == 0 && (error = shake_hands(pair[0], pid, &hello)) != 0) {
        *ret_stage = hello.stage;
        (void)kill(pid, SIGKILL);
        wait_for(pid);
    }
    if (error != 0) {
        close(pair[0]);
        return error;
    }
    spawner->fd = pair[0];
    spawner->pid = pid;
    spawner->has_pid_namespace = hello.has_pid_namespace != 0;
    spawner->pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return 0;
}

#define CAP_SYS_ADMIN_BIT (UINT64_C(1) << 21)

static int attempt_all(struct spawner *spawner, const struct spawner_options *options,
                       struct server_task *task) {
    const unsigned long direct = CLONE_NEWNS | CLONE_NEWPID;
    const struct {
        unsigned long namespaces;
        enum spawner_isolation isolation;
        bool is_allowed;
    } methods[] = {
        {direct, SPAWNER_ISOLATION_NAMESPACES,
         options->allow_namespaces && (task->request.gateway_caps & CAP_SYS_ADMIN_BIT) != 0},
        {direct | CLONE_NEWUSER, SPAWNER_ISOLATION_NAMESPACES, options->allow_namespaces},
        {0, SPAWNER_ISOLATION_LANDLOCK, options->allow_landlock},
        {0, SPAWNER_ISOLATION_NONE, true},
    };
    int error = -EPERM;
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        bool isolates = methods[i].isolation != SPAWNER_ISOLATION_NONE;
        if (!methods[i].is_allowed || (isolates && task->request.hide_path == NULL))
            continue;
        uint32_t stage;
        task->wants_isolation = isolates;
        error = attempt(spawner, methods[i].namespaces, *task, &stage);
        if (error == 0) {
            spawner->isolation = methods[i].isolation;
            return 0;
        }
        spawner->reason_stage = stage;
        spawner->reason_error = -error;
    }
    return error;
}

/* mem_free() does not take what libc allocated. */
static void cleanup_libc_string(char **string) {
    free(*string);
}

int spawner_start(const struct spawner_options *options, struct spawner **ret_spawner) {
    CLEANUP(cleanup_libc_string) char *hide_path = NULL;
    CLEANUP(cleanup_libc_string) char *cwd = getcwd(NULL, 0);
    if (options->hide_path != NULL) {
        struct stat st;
        if (options->hide_path[0] != '/')
            return -EINVAL;
        hide_path = realpath(options->hide_path, NULL);
        if (hide_path == NULL || stat(hide_path, &st) != 0)
            return -errno;
        if (!S_ISDIR(st.st_mode))
            return -ENOTDIR;
        if (strcmp(hide_path, "/") == 0)
            return -EINVAL;
    }
    struct server_task task = {
        .request = {.hide_path = hide_path,
                    .cwd = cwd,
                    .gateway = getpid(),
                    .gateway_caps = caps_effective(),
                    .allow_landlock = options->allow_landlock,
                    .allow_brokers = options->allow_brokers},
    };
    CLEANUP(mem_freep) struct spawner *spawner = mem_xalloc(sizeof *spawner);
    atomic_flag_clear(&spawner->has_ordered);
    spawner->old_dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        return -errno;
    int error = attempt_all(spawner, options, &task);
    if (error != 0)
        return error;
    /* From here on nobody of our user traces us or reads our memory, environment or descriptors. */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    *ret_spawner = TAKE(spawner);
    return 0;
}

/* ---- orders ---- */

static int send_packet(const struct spawner *spawner, struct msghdr *message) {
    for (bool waited = false;;) {
        if (sendmsg(spawner->fd, message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return 0;
        switch (errno) {
        case EINTR:
            continue;
        case ECONNRESET:
        case EPIPE:
            return -EPIPE;
        case EMSGSIZE:
            return -E2BIG;
        case EAGAIN:
            break;
        default:
            return -errno;
        }
        struct pollfd writable = {.fd = spawner->fd, .events = POLLOUT};
        if (waited || poll(&writable, 1, SEND_TIMEOUT_MS) == 0)
            return -EAGAIN;
        waited = true;
    }
}

static void note_first_order(struct spawner *spawner) {
    if (spawner->has_pid_namespace || atomic_flag_test_and_set(&spawner->has_ordered))
        return;
    process_mark_set(&spawner->mark);
    atomic_store(&spawner->has_mark, true);
}

int spawner_spawn(struct spawner *spawner, const struct spawner_command *command) {
    const int fds[SPAWNER_FDS] = {command->stdin_fd, command->stdout_fd, command->stderr_fd};
    for (size_t i = 0; i < SPAWNER_FDS; i++)
        if (fds[i] < 0)
            return -EBADF;
    struct buf packet = BUF_INIT(SPAWNER_PACKET_MAX);
    int error = order_encode_spawn(command, &packet);
    if (error == 0) {
        note_first_order(spawner);
        ALIGNED(16) char control[CMSG_SPACE(sizeof fds)] = {0};
        struct iovec iov = {.iov_base = packet.data + packet.start, .iov_len = buf_len(&packet)};
        struct msghdr message = {.msg_iov = &iov,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof control};
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof fds);
        memcpy(CMSG_DATA(rights), fds, sizeof fds);
        error = send_packet(spawner, &message);
    }
    buf_deinit(&packet);
    return error;
}

int spawner_signal(struct spawner *spawner, uint64_t id, int signal_number) {
    if (signal_number <= 0 || signal_number > 64)
        return -EINVAL;
    struct order_head head = {.id = id, .kind = ORDER_SIGNAL, .signal = signal_number};
    struct iovec iov = {.iov_base = &head, .iov_len = sizeof head};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    return send_packet(spawner, &message);
}

int spawner_receive(struct spawner *spawner, struct spawner_event *ret_event) {
    char packet[sizeof(struct event_packet) + 1];
    ssize_t n;
    do
        n = recv(spawner->fd, packet, sizeof packet, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == ECONNRESET ? -EPIPE : -errno;
    return n == 0 ? -EPIPE : event_decode(slice_make(packet, (size_t)n), ret_event);
}

/* ---- the end ---- */

static void wait_for_end(const struct spawner *spawner) {
    struct pollfd ended = {.fd = spawner->pid_fd, .events = POLLIN};
    uint64_t deadline = clock_monotonic_ms() + END_TIMEOUT_MS;
    for (uint64_t now; spawner->pid_fd >= 0 && (now = clock_monotonic_ms()) < deadline;)
        if (poll(&ended, 1, (int)(deadline - now)) > 0)
            break;
    (void)kill(spawner->pid, SIGKILL); /* a zombie does not mind */
    wait_for(spawner->pid);
}

struct spawner *spawner_free(struct spawner *spawner) {
    if (spawner == NULL)
        return NULL;
    close(spawner->fd);
    wait_for_end(spawner);
    if (spawner->pid_fd >= 0)
        close(spawner->pid_fd);
    if (atomic_load(&spawner->has_mark))
        process_sweep_orphans(&spawner->mark);
    /* At exit LeakSanitizer traces this process. In other builds its memory stays closed to the
     * end. */
    if (HAS_ADDRESS_SANITIZER)
        (void)prctl(PR_SET_DUMPABLE, spawner->old_dumpable, 0, 0, 0);
    mem_free(spawner);
    return NULL;
}
