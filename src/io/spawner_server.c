/*
 * The spawner's loop: orders from the socket, SIGCHLD, and the pipes by which children say that
 * they could not start. One thread, no blocking call but epoll_wait(2): a child that hangs before
 * its exec (a dead file server) holds up nobody.
 *
 * All signals are blocked, and so ignored: a terminal's ^C is the gateway's affair. SIGCHLD comes
 * through a signalfd.
 *
 * A child is looked at with WNOWAIT first: while it is a zombie its number cannot be given to
 * another, and so the kill of its process group cannot hit a stranger. What left the group and lost
 * its parent becomes our child; whoever is our child and not in the session of a living child that
 * we started is killed: at every exit, and once a second. A server that wants a helper in the
 * background keeps it in its session.
 *
 * When the socket closes, the gateway is gone, whatever the reason; then everything goes.
 */
#include "spawner_server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/list.h"
#include "base/mem.h"
#include "spawner_child.h"
#include "spawner_process.h"
#include "spawner_wire.h"

#define SWEEP_INTERVAL_MS 1000

struct outgoing {
    struct list_link link;
    struct event_packet packet;
};

struct child {
    struct list_link link;
    uint64_t id;
    pid_t pid;
    int report_fd; /* -1 once it is known whether the program runs */
    struct child_failure failure;
    struct outgoing started, ended;
};

struct server {
    int socket_fd, signal_fd, epoll_fd;
    pid_t parent;
    const struct confinement *confinement;
    struct list children;
    size_t child_count;
    struct list outbox;
    bool is_blocked;  /* the socket takes no more; EPOLLOUT is asked for */
    bool has_orphans; /* some were found by the last sweep */
    char *buffer;     /* SPAWNER_PACKET_MAX + 1 */
};

static NO_RETURN void server_end(const struct server *server) {
    if (!server->confinement->has_pid_namespace)
        process_kill_descendants(server->confinement->is_scoped);
    _exit(0); /* of the first process in a PID namespace: the kernel kills and reaps all others
                 before it is gone */
}

/* ---- events ---- */

static void watch_socket(struct server *server, bool is_blocked) {
    if (server->is_blocked == is_blocked)
        return;
    server->is_blocked = is_blocked;
    struct epoll_event event = {.events = EPOLLIN | (is_blocked ? (uint32_t)EPOLLOUT : 0u),
                                .data.ptr = &server->socket_fd};
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, server->socket_fd, &event) != 0)
        server_end(server);
}

static void flush_outbox(struct server *server) {
    for (struct list_link *link; (link = list_first(&server->outbox)) != NULL;) {
        struct outgoing *out = CONTAINER_OF(link, struct outgoing, link);
        ssize_t n =
            send(server->socket_fd, &out->packet, sizeof out->packet, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)) {
            watch_socket(server, true);
            return;
        }
        if (n < 0)
            server_end(server);
        list_remove(link);
        if (out->packet.kind != SPAWNER_STARTED)
            mem_free(CONTAINER_OF(out, struct child, ended)); /* it was unlinked when it ended */
    }
    watch_socket(server, false);
}

static void queue_event(struct server *server, struct outgoing *out, struct event_packet packet) {
    out->packet = packet;
    list_push_back(&server->outbox, &out->link);
}

/* ---- children ---- */

static struct child *find_child_by_id(struct server *server, uint64_t id) {
    LIST_FOREACH_SAFE (&server->children, link, next) {
        struct child *child = CONTAINER_OF(link, struct child, link);
        if (child->id == id)
            return child;
    }
    return NULL;
}

static struct child *find_child_by_pid(struct server *server, pid_t pid) {
    LIST_FOREACH_SAFE (&server->children, link, next) {
        struct child *child = CONTAINER_OF(link, struct child, link);
        if (child->pid == pid)
            return child;
    }
    return NULL;
}

/* `child` is in no list. */
static void refuse(struct server *server, struct child *child, enum spawner_stage stage,
                   int error) {
    queue_event(server, &child->ended,
                (struct event_packet){
                    .id = child->id, .kind = SPAWNER_FAILED, .stage = stage, .error = error});
}

static void close_report(struct server *server, struct child *child) {
    /* By hand: a sibling on its way to exec may hold a copy, and then close(2) alone leaves it in
     * the set. */
    (void)epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, child->report_fd, NULL);
    close(child->report_fd);
    child->report_fd = -1;
}

/* The pipe has come to its end: by execve(2), by a failure's report, or by the death of the child.
 */
static void settle_start(struct server *server, struct child *child) {
    if (child->report_fd < 0)
        return;
    struct child_failure failure;
    ssize_t n;
    do
        n = read(child->report_fd, &failure, sizeof failure);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return;
    close_report(server, child);
    if (n == (ssize_t)sizeof failure)
        child->failure = failure;
    else
        queue_event(
            server, &child->started,
            (struct event_packet){.id = child->id, .kind = SPAWNER_STARTED, .pid = child->pid});
}

static void child_ended(struct server *server, struct child *child, int status) {
    settle_start(server, child);
    if (child->report_fd >= 0) /* cannot be: the writer is dead */
        close_report(server, child);
    list_remove(&child->link);
    server->child_count--;
    if (child->failure.error != 0)
        refuse(server, child, (enum spawner_stage)child->failure.stage, child->failure.error);
    else
        queue_event(
            server, &child->ended,
            (struct event_packet){
                .id = child->id, .kind = SPAWNER_EXITED, .pid = child->pid, .status = status});
}

static void sweep_visit(pid_t pid, void *arg) {
    struct server *server = arg;
    if (find_child_by_pid(server, pid) != NULL)
        return;
    pid_t session = getsid(pid);
    if (session > 0 && find_child_by_pid(server, session) != NULL)
        return;
    server->has_orphans = true;
    (void)kill(pid, SIGKILL);
}

static void sweep(struct server *server) {
    server->has_orphans = false;
    (void)process_each_child(sweep_visit, server); /* without /proc: at the end of all, then */
}

static void reap(struct server *server) {
    bool reaped = false;
    for (;;) {
        siginfo_t info = {.si_pid = 0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) != 0 || info.si_pid == 0)
            break;
        struct child *child = find_child_by_pid(server, info.si_pid);
        if (child != NULL)
            (void)kill(-child->pid, SIGKILL);
        int status = 0;
        if (waitpid(info.si_pid, &status, __WALL) < 0)
            break;
        if (child != NULL)
            child_ended(server, child, status);
        reaped = true;
    }
    if (reaped)
        sweep(server);
    flush_outbox(server);
}

/* ---- orders ---- */

static void close_all(const int fds[static SPAWNER_FDS], size_t count) {
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
}

static int start_child(struct server *server, struct child *child, const struct order *order,
                       const int *fds) {
    int report[2];
    if (pipe2(report, O_CLOEXEC | O_NONBLOCK) != 0)
        return -errno;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = child};
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, report[0], &event) != 0) {
        int error = -errno;
        close(report[0]);
        close(report[1]);
        return error;
    }
    pid_t self = getpid();
    pid_t pid = fork();
    if (pid == 0)
        child_run(order, fds, report[1], self, server->confinement);
    int error = pid < 0 ? -errno : 0;
    close(report[1]);
    child->report_fd = report[0];
    if (error != 0) {
        close_report(server, child);
        return error;
    }
    child->pid = pid;
    list_push_back(&server->children, &child->link);
    server->child_count++;
    return 0;
}

static void take_spawn(struct server *server, const struct order *order, const int *fds,
                       size_t fd_count) {
    struct child *child = mem_xalloc(sizeof *child);
    child->id = order->head.id;
    child->report_fd = -1;
    if (fd_count != SPAWNER_FDS) { /* the kernel cut them off: our limit of open files */
        refuse(server, child, STAGE_RECEIVE, EMFILE);
    } else if (find_child_by_id(server, child->id) != NULL) {
        refuse(server, child, STAGE_IDENTIFY, EEXIST);
    } else if (server->child_count >= SPAWNER_CHILDREN_MAX) {
        refuse(server, child, STAGE_LIMIT, EAGAIN);
    } else {
        int error = start_child(server, child, order, fds);
        if (error != 0)
            refuse(server, child, STAGE_FORK, -error);
    }
}

static void take_signal(struct server *server, const struct order_head *head) {
    const struct child *child = find_child_by_id(server, head->id);
    if (child == NULL)
        return;
    /* Before its setsid(2) there is no such group. Signals wait then: they are blocked until the
     * exec. */
    if (kill(-child->pid, head->signal) != 0)
        (void)kill(child->pid, head->signal);
}

static size_t received_fds(struct msghdr *message, int fds[static SPAWNER_FDS]) {
    size_t count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n && count < SPAWNER_FDS; i++)
            memcpy(&fds[count++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
    }
    return count;
}

static void take_order(struct server *server) {
    ALIGNED(16) char control[CMSG_SPACE(SPAWNER_FDS * sizeof(int))] = {0};
    struct iovec iov = {.iov_base = server->buffer, .iov_len = SPAWNER_PACKET_MAX};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(server->socket_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM))
        return;
    if (n <= 0)
        server_end(server);
    int fds[SPAWNER_FDS] = {-1, -1, -1};
    size_t count = received_fds(&message, fds);
    struct order order;
    if ((message.msg_flags & MSG_TRUNC) != 0 ||
        order_decode(slice_make(server->buffer, (size_t)n), &order) != 0)
        server_end(
            server); /* the gateway speaks another language: nothing it says can be relied on */
    if (order.head.kind == ORDER_SPAWN)
        take_spawn(server, &order, fds, count);
    else
        take_signal(server, &order.head);
    close_all(fds, count);
    order_deinit(&order);
    flush_outbox(server);
}

/* ---- the process ---- */

static void drain_signals(const struct server *server) {
    struct signalfd_siginfo info[8];
    while (read(server->signal_fd, info, sizeof info) > 0)
        continue;
}

static int add_to_epoll(struct server *server, int *fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = fd};
    return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, *fd, &event) != 0 ? -errno : 0;
}

static int server_open(struct server *server) {
    sigset_t child_signal;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    list_init(&server->children);
    list_init(&server->outbox);
    server->buffer = mem_alloc(SPAWNER_PACKET_MAX);
    if (server->buffer == NULL)
        return -ENOMEM;
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    server->signal_fd = signalfd(-1, &child_signal, SFD_CLOEXEC | SFD_NONBLOCK);
    if (server->epoll_fd < 0 || server->signal_fd < 0)
        return -errno;
    int error = add_to_epoll(server, &server->socket_fd);
    return error != 0 ? error : add_to_epoll(server, &server->signal_fd);
}

static NO_RETURN void server_loop(struct server *server) {
    for (;;) {
        bool is_idle = server->child_count == 0 && !server->has_orphans;
        struct epoll_event event;
        int n = epoll_wait(server->epoll_fd, &event, 1, is_idle ? -1 : SWEEP_INTERVAL_MS);
        if (n < 0 && errno != EINTR)
            server_end(server);
        if (getppid() != server->parent) /* a copy of its socket end may still be open somewhere */
            server_end(server);
        if (n == 0)
            sweep(server);
        if (n != 1)
            continue;
        if (event.data.ptr == &server->signal_fd) {
            drain_signals(server);
            reap(server);
        } else if (event.data.ptr != &server->socket_fd) {
            settle_start(server, event.data.ptr);
            flush_outbox(server);
        } else if ((event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
            take_order(server);
        } else {
            flush_outbox(server);
        }
    }
}

/* Leaves 0 to 2 on /dev/null and the socket on 3, and nothing else. */
static int set_up_descriptors(int *fd) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int own = fcntl(*fd, F_DUPFD_CLOEXEC, 10);
    if (null < 0 || own < 0)
        return -errno;
    /* The sanitizer's reports are to be read. */
    for (int i = 0; i < (HAS_ADDRESS_SANITIZER ? 2 : 3); i++)
        if (dup2(null, i) < 0)
            return -errno;
    if (dup3(own, 3, O_CLOEXEC) < 0)
        return -errno;
    *fd = 3;
    if (syscall(SYS_close_range, 4u, ~0u, 0u) == 0)
        return 0;
    struct rlimit limit; /* before Linux 5.9 */
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return -errno;
    for (rlim_t i = 4; i < limit.rlim_cur && i < 1048576; i++)
        close((int)i);
    return 0;
}

static int set_up_process(int *fd) {
    (void)prctl(PR_SET_NAME, "cardea-spawner", 0, 0, 0);
    sigset_t all;
    sigfillset(&all);
    if (sigprocmask(SIG_SETMASK, &all, NULL) != 0)
        return -errno;
    struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int number = 1; number <= 64; number++)
        (void)sigaction(number, &standard, NULL);
    if (setsid() < 0) /* out of the terminal's foreground */
        return -errno;
    int error = set_up_descriptors(fd);
    if (error != 0)
        return error;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 ? -errno : 0;
}

static void say(int fd, struct hello_packet hello) {
    ssize_t n;
    do
        n = send(fd, &hello, sizeof hello, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        _exit(1);
}

static int wait_for_maps(int fd) {
    /* The gateway may be no longer dumpable, and its copy, too: then /proc/PID/uid_map would be
     * root's. */
    if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0)
        return -errno;
    say(fd, (struct hello_packet){.kind = HELLO_WAITS});
    char go;
    ssize_t n;
    do
        n = recv(fd, &go, 1, 0);
    while (n < 0 && errno == EINTR);
    return n == 1 ? 0 : -EPERM;
}

static int build(const struct server_task *task, struct confinement *ret_confinement,
                 enum spawner_stage *ret_stage) {
    *ret_stage = STAGE_ID_MAP;
    int error = task->waits_for_maps ? wait_for_maps(task->fd) : 0;
    if (error != 0)
        return error;
    *ret_stage = STAGE_SETUP;
    if (task->wants_isolation) {
        error = isolation_build(&task->request, ret_confinement, ret_stage);
        if (error != 0)
            return error;
    }
    *ret_stage = STAGE_SETUP;
    /* Whoever could trace the spawner would have what it has. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return -errno;
    /* The first process of a PID namespace takes all others with it. Anywhere else it must live to
     * kill them. */
    if (ret_confinement->has_pid_namespace && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return -errno;
    return 0;
}

NO_RETURN void server_main(const struct server_task *given) {
    struct server_task task = *given;
    struct confinement confinement = {.ruleset_fd = -1};
    struct server server = {.confinement = &confinement};
    enum spawner_stage stage = STAGE_SETUP;
    server.parent = getppid();
    int error = set_up_process(&task.fd);
    if (error == 0)
        error = build(&task, &confinement, &stage);
    server.socket_fd = task.fd;
    if (error == 0 && (error = server_open(&server)) != 0)
        stage = STAGE_SETUP;
    if (error != 0) {
        say(task.fd, (struct hello_packet){.kind = HELLO_FAILED, .stage = stage, .error = -error});
        _exit(1);
    }
    say(task.fd, (struct hello_packet){.kind = HELLO_READY,
                                       .has_pid_namespace = confinement.has_pid_namespace});
    server_loop(&server);
}
