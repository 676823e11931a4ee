/*
 * A child that means harm. As `probe` it tries every way that we know to the hidden directory, the
 * gateway, the spawner and its siblings, and prints one line for each: "ok NAME" or "BREACH NAME
 * detail". Other modes play the children of the life-cycle tests. It uses libc alone and none of
 * the project's code.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"

struct world {
    const char *hidden; /* the directory: token, victim, control.sock */
    const char *alias;  /* another mount of the same */
    const char
        *scratch; /* a directory that we may write; device node "node", setuid program "suid" */
    const char *abstract;
    pid_t gateway, sibling;
    bool is_root;
};

typedef const char *(*probe_fn)(const struct world *w); /* NULL: it did not work */

PRINTF_LIKE(1, 2) static const char *text(const char *format, ...) {
    static char buffer[4][4400];
    static unsigned next;
    char *out = buffer[next++ % 4];
    va_list args;
    va_start(args, format);
    vsnprintf(out, sizeof buffer[0], format, args);
    va_end(args);
    return out;
}

static bool reads_secret(const char *path) {
    char data[256] = "";
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, data, sizeof data - 1);
    close(fd);
    return n > 0 && strstr(data, "SECRET-TOKEN") != NULL;
}

static bool opens(const char *path, int flags) {
    int fd = open(path, flags | O_NONBLOCK | O_NOCTTY, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static size_t entries(const char *path) {
    DIR *dir = opendir(path);
    size_t n = 0;
    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n > 2 ? n - 2 : 0;
}

/* ---- the hidden directory ---- */

static const char *list_hidden(const struct world *w) {
    return entries(w->hidden) > 0 ? "listed" : NULL;
}

static const char *read_token(const struct world *w) {
    return reads_secret(text("%s/token", w->hidden)) ? "read" : NULL;
}

static const char *read_by_alias(const struct world *w) {
    return reads_secret(text("%s/token", w->alias)) || entries(w->alias) > 0 ? "read" : NULL;
}

static const char *read_by_dotdot(const struct world *w) {
    const char *name = strrchr(w->hidden, '/') + 1;
    if (reads_secret(text("%s/../%s/token", w->hidden, name)))
        return "path";
    bool read_it = chdir(text("%s/..", w->hidden)) == 0 && reads_secret(text("%s/token", name));
    return chdir("/") != 0 || read_it ? "relative" : NULL;
}

static const char *read_by_cwd(const struct world *w) {
    char path[4096] = "";
    if (getcwd(path, sizeof path) == NULL || strncmp(path, w->hidden, strlen(w->hidden)) == 0)
        return text("the current directory is %s", path);
    return reads_secret("token") || reads_secret("./token") ? "the current directory leads there"
                                                            : NULL;
}

static const char *read_by_symlink(const struct world *w) {
    const char *link_path = text("%s/link-%d", w->scratch, (int)getpid());
    bool read_it = symlink(w->hidden, link_path) == 0 && reads_secret(text("%s/token", link_path));
    unlink(link_path);
    return read_it ? "read" : NULL;
}

static const char *hard_link(const struct world *w) {
    const char *path = text("%s/hard-%d", w->scratch, (int)getpid());
    bool linked = link(text("%s/token", w->hidden), path) == 0;
    unlink(path);
    return linked ? "linked" : NULL;
}

static const char *create_inside(const struct world *w) {
    const char *path = text("%s/evil", w->hidden);
    bool made = opens(path, O_WRONLY | O_CREAT) || mkdir(path, 0700) == 0 ||
                symlink("/", path) == 0 || mkfifo(path, 0600) == 0;
    if (made && unlink(path) != 0)
        rmdir(path);
    return made ? "created" : NULL;
}

static const char *change_inside(const struct world *w) {
    const char *victim = text("%s/victim", w->hidden);
    if (truncate(victim, 0) == 0)
        return "truncated";
    if (opens(victim, O_WRONLY))
        return "opened for writing";
    if (rename(victim, text("%s/stolen", w->scratch)) == 0)
        return "moved out";
    return unlink(victim) == 0 ? "unlinked" : NULL;
}

static const char *rename_directory(const struct world *w) {
    const char *other = text("%s.moved", w->hidden);
    if (rename(w->hidden, other) != 0)
        return NULL;
    return rename(other, w->hidden) == 0 ? "renamed" : "renamed, and not back";
}

static bool connects(const char *path, int type) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, type, 0);
    bool connected = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0)
        close(fd);
    return connected;
}

static const char *connect_control(const struct world *w) {
    return connects(text("%s/control.sock", w->hidden), SOCK_STREAM) ? "connected" : NULL;
}

static const char *connect_by_proc(const struct world *w) {
    if (connects(text("/proc/self/root%s/control.sock", w->hidden), SOCK_STREAM))
        return "/proc/self/root";
    if (connects(text("/proc/%d/root%s/control.sock", (int)w->gateway, w->hidden), SOCK_STREAM))
        return "/proc/GATEWAY/root";
    return connects(text("/proc/1/root%s/control.sock", w->hidden), SOCK_STREAM) ? "/proc/1/root"
                                                                                 : NULL;
}

static const char *connect_by_pair(const struct world *w) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/datagram.sock", w->hidden);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) != 0)
        return NULL;
    bool sent = sendto(pair[0], "x", 1, 0, (struct sockaddr *)&address, sizeof address) == 1;
    close(pair[0]);
    close(pair[1]);
    return sent ? "a datagram went in" : NULL;
}

static const char *connect_abstract(const struct world *w) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(w->abstract);
    memcpy(address.sun_path + 1, w->abstract, len);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
    bool connected = fd >= 0 && connect(fd, (struct sockaddr *)&address, size) == 0;
    if (fd >= 0)
        close(fd);
    return connected ? "connected" : NULL;
}

static const char *connect_broker(const struct world *w) {
    (void)w;
    static const char *const paths[] = {"/run/docker.sock", "/var/run/docker.sock",
                                        "/run/dbus/system_bus_socket", "/run/systemd/private"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (connects(paths[i], SOCK_STREAM))
            return paths[i];
    return connects(text("/run/user/%d/bus", (int)getuid()), SOCK_STREAM) ? "/run/user/UID/bus"
                                                                          : NULL;
}

static const char *use_io_uring(const struct world *w) {
    (void)w;
    /* Only where socket(2) is refused: io_uring would be the way around. */
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd >= 0) {
        close(fd);
        return NULL;
    }
    char parameters[512] = {0};
    long ring = syscall(SYS_io_uring_setup, 4, parameters);
    if (ring >= 0)
        close((int)ring);
    return ring >= 0 ? "a ring was made" : NULL;
}

static const char *open_by_handle(const struct world *w) {
    (void)w;
    struct {
        struct file_handle head;
        char bytes[128];
    } handle = {.head.handle_bytes = 128};
    int mount_id, root = open("/", O_PATH | O_DIRECTORY);
    bool opened = false;
    if (root >= 0 && name_to_handle_at(AT_FDCWD, "/", &handle.head, &mount_id, 0) == 0) {
        int at = open("/", O_RDONLY | O_DIRECTORY);
        int fd = at < 0 ? -1 : open_by_handle_at(at, &handle.head, O_RDONLY);
        opened = fd >= 0;
        if (fd >= 0)
            close(fd);
        if (at >= 0)
            close(at);
    }
    if (root >= 0)
        close(root);
    return opened ? "opened" : NULL;
}

/* ---- the gateway and other processes ---- */

static const char *look_into(pid_t pid, const struct world *w) {
    static const char *const files[] = {"environ", "mem", "maps", "ns/mnt", "stack", "auxv"};
    if (pid <= 0)
        return NULL;
    if (reads_secret(text("/proc/%d/root%s/token", (int)pid, w->hidden)))
        return "root";
    if (reads_secret(text("/proc/%d/cwd/token", (int)pid)))
        return "cwd";
    for (int fd = 0; fd < 32;
         fd++) /* their numbers may be listed; what they are, and they themselves, may not */
        if (readlink(text("/proc/%d/fd/%d", (int)pid, fd), (char[64]){0}, 64) > 0 ||
            opens(text("/proc/%d/fd/%d", (int)pid, fd), O_RDONLY))
            return "fd";
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char byte;
        int fd = open(text("/proc/%d/%s", (int)pid, files[i]), O_RDONLY);
        if (fd < 0)
            continue;
        bool readable = strcmp(files[i], "mem") == 0 || strcmp(files[i], "ns/mnt") == 0 ||
                        read(fd, &byte, 1) > 0;
        close(fd);
        if (readable)
            return files[i];
    }
    return NULL;
}

static const char *look_into_gateway(const struct world *w) {
    return look_into(w->gateway, w);
}

static const char *look_into_spawner(const struct world *w) {
    const char *first = look_into(getppid(), w);
    return first != NULL ? first : look_into(1, w);
}

static const char *look_into_sibling(const struct world *w) {
    return look_into(w->sibling, w);
}

static const char *look_into_all(const struct world *w) {
    DIR *dir = opendir("/proc");
    if (dir == NULL)
        return NULL;
    const char *found = NULL;
    for (struct dirent *entry; found == NULL && (entry = readdir(dir)) != NULL;)
        if (strtol(entry->d_name, NULL, 10) > 0 &&
            (reads_secret(text("/proc/%s/root%s/token", entry->d_name, w->hidden)) ||
             reads_secret(text("/proc/%s/cwd/token", entry->d_name))))
            found = text("process %s", entry->d_name);
    closedir(dir);
    return found;
}

static const char *trace(pid_t pid) {
    char byte = 0;
    struct iovec own = {&byte, 1}, other = {(void *)(uintptr_t)0x1000, 1};
    if (pid <= 0)
        return NULL;
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
        ptrace(PTRACE_DETACH, pid, 0, 0);
        return "seized";
    }
    if (process_vm_readv(pid, &own, 1, &other, 1, 0) >= 0 || errno == EFAULT)
        return "process_vm_readv";
    return NULL;
}

static const char *trace_gateway(const struct world *w) {
    return trace(w->gateway);
}

static const char *trace_spawner(const struct world *w) {
    (void)w;
    return trace(getppid());
}

static const char *trace_sibling(const struct world *w) {
    return trace(w->sibling);
}

static const char *kill_gateway(const struct world *w) {
    return kill(w->gateway, 0) == 0 ? "would arrive" : NULL;
}

static const char *kill_sibling(const struct world *w) {
    return w->sibling > 0 && kill(w->sibling, 0) == 0 ? "would arrive" : NULL;
}

static const char *steal_descriptor(const struct world *w) {
    int pid_fd = (int)syscall(SYS_pidfd_open, w->gateway, 0);
    if (pid_fd < 0)
        return NULL;
    const char *found = NULL;
    for (int i = 0; i < 16 && found == NULL; i++) {
        int fd = (int)syscall(SYS_pidfd_getfd, pid_fd, i, 0);
        if (fd >= 0)
            found = "pidfd_getfd";
        if (fd >= 0)
            close(fd);
    }
    close(pid_fd);
    return found;
}

/* ---- what was inherited ---- */

static const char *descriptors(const struct world *w) {
    (void)w;
    for (int fd = 3; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            return text("descriptor %d is open", fd);
    return NULL;
}

static const char *environment(const struct world *w) {
    (void)w;
    static const char *const expected[] = {"A=1", "B=two words", "EMPTY="};
    size_t n = 0;
    for (; environ[n] != NULL; n++)
        if (n >= 3 || strcmp(environ[n], expected[n]) != 0)
            return environ[n];
    return n != 3 ? "something is missing" : NULL;
}

static const char *terminal(const struct world *w) {
    (void)w;
    return opens("/dev/tty", O_RDWR) ? "a controlling terminal" : NULL;
}

static const char *group(const struct world *w) {
    (void)w;
    return getsid(0) == getpid() && getpgrp() == getpid() ? NULL : "not a session of its own";
}

static const char *signals(const struct world *w) {
    (void)w;
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (int i = 1; i <= 64; i++) {
        struct sigaction action;
        if (sigismember(&mask, i) == 1)
            return text("signal %d is blocked", i);
        if (sigaction(i, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            return text("signal %d is ignored", i);
    }
    return NULL;
}

static const char *capabilities(const struct world *w) {
    (void)w;
    const uint64_t harmless = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER |
                              1u << CAP_FSETID | 1u << CAP_KILL | 1u << CAP_SETGID |
                              1u << CAP_SETUID | 1u << CAP_NET_BIND_SERVICE;
    char line[256];
    const char *found = NULL;
    FILE *status = fopen("/proc/self/status", "re");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        bool is_set = strncmp(line, "CapEff:", 7) == 0 || strncmp(line, "CapPrm:", 7) == 0 ||
                      strncmp(line, "CapInh:", 7) == 0 || strncmp(line, "CapAmb:", 7) == 0;
        if (is_set && (strtoull(line + 7, NULL, 16) & ~harmless) != 0)
            found = text("%.40s", line);
        if (strncmp(line, "NoNewPrivs:", 11) == 0 && strtol(line + 11, NULL, 10) != 1)
            found = "no_new_privs is off";
    }
    if (status != NULL)
        fclose(status);
    return found;
}

static const char *setuid_program(const struct world *w) {
    pid_t pid = fork();
    if (pid == 0) {
        execl(text("%s/suid", w->scratch), "suid", "euid", text("%d", (int)geteuid()),
              (char *)NULL);
        _exit(0); /* not there, or not to be run: nothing gained */
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 9 ? "another uid" : NULL;
}

static const char *become_root(const struct world *w) {
    return !w->is_root && (setresuid(0, 0, 0) == 0 || setresgid(0, 0, 0) == 0) ? "became root"
                                                                               : NULL;
}

/* ---- the kernel and the disks ---- */

static const char *raw_devices(const struct world *w) {
    (void)w;
    static const char *const paths[] = {"/dev/vda",  "/dev/sda",  "/dev/nvme0n1", "/dev/mem",
                                        "/dev/port", "/dev/kmsg", "/proc/kcore",  "/proc/kmsg",
                                        "/dev/fuse", "/dev/loop0"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (w->is_root && opens(paths[i], O_RDONLY))
            return paths[i];
    return NULL;
}

static const char *make_device(const struct world *w) {
    struct stat st;
    if (stat("/", &st) != 0)
        return NULL;
    const char *path = text("%s/disk-%d", w->scratch, (int)getpid());
    bool made = mknod(path, S_IFBLK | 0600, st.st_dev) == 0;
    unlink(path);
    return made ? "made" : NULL;
}

static const char *device_elsewhere(const struct world *w) {
    return w->is_root && opens(text("%s/node", w->scratch), O_RDONLY) ? "opened" : NULL;
}

static const char *kernel_helpers(const struct world *w) {
    (void)w;
    static const char *const paths[] = {"/proc/sys/kernel/core_pattern",
                                        "/proc/sys/kernel/modprobe",
                                        "/proc/sysrq-trigger",
                                        "/sys/kernel/uevent_helper",
                                        "/sys/power/state",
                                        "/sys/fs/cgroup/memory/release_agent",
                                        "/sys/fs/cgroup/cpu/release_agent"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (opens(paths[i], O_WRONLY))
            return paths[i];
    return NULL;
}

/* ---- mounts ---- */

static bool see_token(const struct world *w, const char *prefix) {
    return reads_secret(text("%s%s/token", prefix, w->hidden));
}

static const char *unmount(const struct world *w) {
    (void)umount2(w->hidden, MNT_DETACH);
    (void)mount(NULL, w->hidden, NULL, MS_REMOUNT | MS_BIND, NULL);
    return see_token(w, "") ? "uncovered" : NULL;
}

static void write_file(const char *path, const char *what) {
    int fd = open(path, O_WRONLY);
    if (fd >= 0 && write(fd, what, strlen(what)) < 0)
        errno = 0;
    if (fd >= 0)
        close(fd);
}

/* Runs as root of a new user namespace with a mount namespace of its own. */
static const char *from_user_namespace(const struct world *w) {
    const char *place = text("%s/place", w->scratch);
    mkdir(place, 0777);
    if (unmount(w) != NULL)
        return "umount";
    if (mount("/", place, NULL, MS_BIND, NULL) == 0 && see_token(w, place))
        return "bind";
    umount2(place, MNT_DETACH);
    char parent[4200];
    snprintf(parent, sizeof parent, "%s", w->hidden);
    *strrchr(parent, '/') = '\0';
    const char *name = strrchr(w->hidden, '/') + 1;
    if (mount(parent, place, NULL, MS_BIND, NULL) == 0 &&
        reads_secret(text("%s/%s/token", place, name)))
        return "bind of the parent";
    umount2(place, MNT_DETACH);
    if (mount("/", place, NULL, MS_BIND | MS_REC, NULL) == 0) {
        umount2(text("%s%s", place, w->hidden), MNT_DETACH);
        if (see_token(w, place))
            return "recursive bind, then umount";
        umount2(place, MNT_DETACH);
    }
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, parent, 1 /* OPEN_TREE_CLONE */);
    if (tree >= 0) {
        int fd = openat(tree, text("%s/token", name), O_RDONLY);
        if (fd >= 0)
            return "open_tree";
    }
    if (mount("o", place, "overlay", 0, text("lowerdir=%s:%s", parent, w->scratch)) == 0 &&
        reads_secret(text("%s/%s/token", place, name)))
        return "overlay";
    umount2(place, MNT_DETACH);
    if (mount("proc", place, "proc", 0, NULL) == 0 && look_into_all(w) != NULL)
        return "a new /proc";
    if (chroot(place) == 0 && chdir("../../../../../..") == 0 && see_token(w, ""))
        return "chroot";
    return NULL;
}

static const char *user_namespace(const struct world *w) {
    int pipe_fds[2];
    if (pipe(pipe_fds) != 0)
        return NULL;
    pid_t pid = fork();
    if (pid == 0) {
        int uid = (int)getuid(), gid = (int)getgid();
        const char *found = NULL;
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) {
            write_file("/proc/self/setgroups", "deny");
            write_file("/proc/self/uid_map", text("0 %d 1", uid));
            write_file("/proc/self/gid_map", text("0 %d 1", gid));
            found = from_user_namespace(w);
        }
        if (found != NULL && write(pipe_fds[1], found, strlen(found)) < 0)
            _exit(1);
        _exit(0);
    }
    close(pipe_fds[1]);
    static char answer[64];
    ssize_t n = read(pipe_fds[0], answer, sizeof answer - 1);
    close(pipe_fds[0]);
    waitpid(pid, NULL, 0);
    return n > 0 ? answer : NULL;
}

/* Last: it hits where it can. The test sees whether the spawner still works. */
static const char *kill_spawner(const struct world *w) {
    (void)w;
    kill(getppid(), SIGTERM);
    kill(getppid(), SIGKILL);
    return NULL;
}

static const struct {
    const char *name;
    probe_fn run;
} probes[] = {
    {"read_by_cwd", read_by_cwd}, /* first: others move */
    {"list_hidden", list_hidden},
    {"read_token", read_token},
    {"read_by_alias", read_by_alias},
    {"read_by_dotdot", read_by_dotdot},
    {"read_by_symlink", read_by_symlink},
    {"hard_link", hard_link},
    {"create_inside", create_inside},
    {"change_inside", change_inside},
    {"rename_directory", rename_directory},
    {"connect_control", connect_control},
    {"connect_by_proc", connect_by_proc},
    {"connect_by_pair", connect_by_pair},
    {"connect_abstract", connect_abstract},
    {"connect_broker", connect_broker},
    {"use_io_uring", use_io_uring},
    {"open_by_handle", open_by_handle},
    {"look_into_gateway", look_into_gateway},
    {"look_into_spawner", look_into_spawner},
    {"look_into_sibling", look_into_sibling},
    {"look_into_all", look_into_all},
    {"trace_gateway", trace_gateway},
    {"trace_spawner", trace_spawner},
    {"trace_sibling", trace_sibling},
    {"kill_gateway", kill_gateway},
    {"kill_sibling", kill_sibling},
    {"steal_descriptor", steal_descriptor},
    {"descriptors", descriptors},
    {"environment", environment},
    {"terminal", terminal},
    {"group", group},
    {"signals", signals},
    {"capabilities", capabilities},
    {"setuid_program", setuid_program},
    {"become_root", become_root},
    {"raw_devices", raw_devices},
    {"make_device", make_device},
    {"device_elsewhere", device_elsewhere},
    {"kernel_helpers", kernel_helpers},
    {"unmount", unmount},
    {"user_namespace", user_namespace},
    {"kill_spawner", kill_spawner},
};

/* probe HIDDEN ALIAS SCRATCH ABSTRACT GATEWAY SIBLING */
static int probe_all(char **argv) {
    struct world w = {.hidden = argv[0],
                      .alias = argv[1],
                      .scratch = argv[2],
                      .abstract = argv[3],
                      .gateway = (pid_t)strtol(argv[4], NULL, 10),
                      .sibling = (pid_t)strtol(argv[5], NULL, 10),
                      .is_root = geteuid() == 0};
    size_t n = sizeof probes / sizeof probes[0];
    for (size_t i = 0; i < n; i++) {
        const char *found = probes[i].run(&w);
        printf(found == NULL ? "ok %s\n" : "BREACH %s %s\n", probes[i].name, found);
        fflush(stdout);
    }
    printf("done %zu\n", n);
    return 0;
}

/* ---- lives ---- */

static int say_ready(void) {
    return write(STDOUT_FILENO, "ready\n", 6) == 6 ? 0 : 1;
}

/* Daemons: each leaves the session and the parent; all hold stdout. */
static void leave_daemon(int generations) {
    if (fork() != 0)
        return;
    setsid();
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, 0);
    if (fork() != 0)
        _exit(0);
    if (generations > 0)
        leave_daemon(generations - 1);
    for (;;)
        pause();
}

static int tree(bool stays) {
    signal(SIGTERM, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, 0);
    leave_daemon(2);
    leave_daemon(0);
    if (fork() == 0)
        for (;;)
            pause();
    if (say_ready() != 0)
        return 1;
    if (stays)
        for (;;)
            pause();
    return 0;
}

/* Forks as fast as it can, each generation leaving the session of the one before, and none staying.
 */
static int storm(void) {
    say_ready();
    for (;;) {
        pid_t pid = fork();
        if (pid > 0)
            _exit(0);
        if (pid == 0) {
            setsid();
            prctl(PR_SET_PDEATHSIG, 0);
        }
    }
}

/* An orphan that stays in our session; then for each line on stdin, whether it lives. */
static int helper(void) {
    int pipe_fds[2];
    char line[8];
    pid_t orphan = 0;
    if (pipe(pipe_fds) != 0)
        return 1;
    pid_t between = fork();
    if (between == 0) {
        orphan = fork();
        if (orphan == 0)
            for (;;)
                pause();
        _exit(write(pipe_fds[1], &orphan, sizeof orphan) == sizeof orphan ? 0 : 1);
    }
    waitpid(between, NULL, 0);
    if (read(pipe_fds[0], &orphan, sizeof orphan) != sizeof orphan || say_ready() != 0)
        return 1;
    while (read(STDIN_FILENO, line, sizeof line) > 0) {
        const char *answer = kill(orphan, 0) == 0 ? "lives\n" : "is dead\n";
        if (write(STDOUT_FILENO, answer, strlen(answer)) < 0)
            return 1;
    }
    return 0;
}

static int echo(void) {
    char data[512];
    ssize_t n;
    say_ready();
    while ((n = read(STDIN_FILENO, data, sizeof data)) > 0)
        if (write(STDOUT_FILENO, data, (size_t)n) < 0)
            return 1;
    return 3;
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    if (strcmp(argv[1], "probe") == 0 && argc == 8)
        return probe_all(argv + 2);
    if (strcmp(argv[1], "tree") == 0)
        return tree(true);
    if (strcmp(argv[1], "leave") == 0)
        return tree(false);
    if (strcmp(argv[1], "storm") == 0)
        return storm();
    if (strcmp(argv[1], "helper") == 0)
        return helper();
    if (strcmp(argv[1], "echo") == 0)
        return echo();
    if (strcmp(argv[1], "stubborn") == 0) {
        signal(SIGTERM, SIG_IGN);
        say_ready();
        for (;;)
            pause();
    }
    if (strcmp(argv[1], "exit") == 0 && argc == 3)
        return (int)strtol(argv[2], NULL, 10);
    if (strcmp(argv[1], "cwd") == 0) {
        char path[4096];
        puts(getcwd(path, sizeof path) != NULL ? path : "?");
        return 0;
    }
    if (strcmp(argv[1], "euid") == 0 && argc == 3)
        return strtol(argv[2], NULL, 10) == (long)geteuid() ? 0 : 9;
    return 2;
}
