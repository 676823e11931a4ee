/*
 * The isolation of the children, built in the spawner before the first of them exists.
 *
 * With namespaces, a process is put where the secret is not: an empty, read-only tmpfs lies on the
 * data directory, in a mount namespace that belongs to the spawner. That holds against
 *   - umount, bind, move, pivot_root, overlayfs: children lack CAP_SYS_ADMIN, and in a user
 * namespace of their own they get copies of the mounts that are locked together;
 *   - other ways to the same files: every other mount of the same file system that shows the
 * directory, or a part of it, is found in mountinfo and covered, too;
 *   - /proc/PID/root and the like: a new PID namespace and a /proc of its own hide all processes
 * outside; where a new /proc cannot be mounted (a container that masks parts of it) the gateway's
 * entries are still closed, since it is not dumpable and the children have no CAP_SYS_PTRACE over
 * it;
 *   - raw disks and the kernel's helpers, for children of root: no device nodes but the harmless
 * ones, /proc/sys and /sys read-only, no capability that leads out;
 *   - those who run commands for whoever asks ("brokers": D-Bus, systemd, container engines): their
 * sockets are covered, or else `systemd-run cat .../token` would be enough.
 *
 * Mounts are made slaves rather than private: what the host mounts later (an automounted home)
 * shows up inside, what it unmounts is released, and nothing that happens inside reaches the host.
 *
 * What this does not promise: a child of the same user can write that user's other files (a shell's
 * start-up file, a program in ~/bin) and so wait for a day when somebody else runs them outside.
 * Against that, run it as another user.
 *
 * Nothing here is believed: at the end a probe, confined as a child will be, tries to get in.
 */
#include "spawner_isolate.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "spawner_process.h"

/* ---- where the directory can be reached ---- */

/* One line of /proc/self/mountinfo (proc(5)), as far as it matters. */
struct mount_line {
    struct slice device; /* "major:minor" */
    struct slice root;   /* of the file system, what is mounted; escaped */
    struct slice point;  /* where; escaped */
};

static bool mount_line_parse(struct slice line, struct mount_line *ret_line) {
    struct slice fields[5];
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (!slice_cut(line, ' ', &fields[i], &line))
            return false;
    *ret_line = (struct mount_line){.device = fields[2], .root = fields[3], .point = fields[4]};
    return true;
}

/* Spaces and the like stand as \ooo. */
static int unescape(struct slice text, char *out, size_t size) {
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '\\' && text.len - i > 3) {
            unsigned byte = 0;
            for (size_t k = 1; k <= 3; k++)
                byte = byte << 3 | ((unsigned char)text.ptr[i + k] & 7u);
            c = (char)(byte & 0xff);
            i += 3;
        }
        if (len + 1 >= size)
            return -ENAMETOOLONG;
        out[len++] = c;
    }
    out[len] = '\0';
    return 0;
}

/* Is `path` at or below `dir`? Then *ret_rest is "" or begins with a slash. */
static bool is_below(const char *path, const char *dir, const char **ret_rest) {
    size_t len = strcmp(dir, "/") == 0 ? 0 : strlen(dir);
    if (strncmp(path, dir, len) != 0 || (path[len] != '\0' && path[len] != '/'))
        return false;
    *ret_rest = strcmp(path + len, "/") == 0 ? "" : path + len;
    return true;
}

static int hidden_paths_add(struct hidden_paths *hidden, const char *path) {
    for (size_t i = 0; i < hidden->count; i++)
        if (strcmp(hidden->path[i], path) == 0)
            return 0;
    if (hidden->count == CONFINE_PATHS_MAX)
        return -E2BIG;
    int error = slice_dup_cstr(slice_from_cstr(path), &hidden->path[hidden->count]);
    if (error == 0)
        hidden->count++;
    return error;
}

void hidden_paths_deinit(struct hidden_paths *hidden) {
    for (size_t i = 0; i < hidden->count; i++)
        mem_free(hidden->path[i]);
    hidden->count = 0;
}

struct mount_paths {
    char root[4096], point[4096];
};

static bool mount_paths_read(struct slice line, struct mount_line *ret_line,
                             struct mount_paths *paths) {
    return mount_line_parse(line, ret_line) &&
           unescape(ret_line->root, paths->root, sizeof paths->root) == 0 &&
           unescape(ret_line->point, paths->point, sizeof paths->point) == 0;
}

/* The mount that holds the path: the longest mount point above it, the last of equals. `paths` is
 * left with it. */
static bool find_own_mount(struct slice table, const char *path, struct slice *ret_device,
                           struct mount_paths *best) {
    CLEANUP(mem_freep) struct mount_paths *paths = mem_xalloc(sizeof *paths);
    bool found = false;
    for (struct slice line; slice_cut(table, '\n', &line, &table);) {
        struct mount_line parsed;
        const char *rest;
        if (!mount_paths_read(line, &parsed, paths) || !is_below(path, paths->point, &rest))
            continue;
        if (found && strlen(paths->point) < strlen(best->point))
            continue;
        *best = *paths;
        *ret_device = parsed.device;
        found = true;
    }
    return found;
}

static int join(const char *a, const char *b, char *out, size_t size) {
    int len = snprintf(out, size, "%s%s", strcmp(a, "/") == 0 ? "" : a, b);
    if (len < 0 || (size_t)len >= size)
        return -ENAMETOOLONG;
    if (len == 0)
        out[0] = '/', out[1] = '\0';
    return 0;
}

static int add_aliases(struct slice table, struct slice device, const char *within,
                       struct hidden_paths *hidden) {
    CLEANUP(mem_freep) struct mount_paths *paths = mem_xalloc(sizeof *paths);
    for (struct slice line; slice_cut(table, '\n', &line, &table);) {
        struct mount_line parsed;
        const char *rest;
        if (!mount_paths_read(line, &parsed, paths) || !slice_eq(parsed.device, device))
            continue;
        char alias[4096];
        struct stat st;
        int error = 0;
        if (is_below(within, paths->root, &rest)) {
            error = join(paths->point, rest, alias, sizeof alias);
            bool is_same = error == 0 && stat(alias, &st) == 0 && st.st_dev == hidden->device &&
                           st.st_ino == hidden->inode;
            if (error == 0 && is_same)
                error = hidden_paths_add(hidden, alias);
        } else if (is_below(paths->root, within, &rest)) {
            /* A part of the directory is mounted elsewhere; below the directory itself it is
             * covered with it. */
            if (!is_below(paths->point, hidden->path[0], &rest))
                error = hidden_paths_add(hidden, paths->point);
        }
        if (error != 0)
            return error;
    }
    return 0;
}

int hidden_paths_find(const char *hide_path, struct hidden_paths *ret_hidden) {
    struct hidden_paths hidden = {0};
    struct stat st;
    if (stat(hide_path, &st) != 0)
        return -errno;
    hidden.device = st.st_dev;
    hidden.inode = st.st_ino;
    struct buf text = BUF_INIT(MIB(16));
    int error = process_read_file("/proc/self/mountinfo", &text);
    if (error == 0)
        error = hidden_paths_add(&hidden, hide_path);
    CLEANUP(mem_freep) struct mount_paths *own = mem_xalloc(sizeof *own);
    struct slice device = SLICE_EMPTY;
    if (error == 0 && !find_own_mount(buf_slice(&text), hide_path, &device, own))
        error = -ENOENT;
    char within[8192];
    const char *rest;
    if (error == 0 && !is_below(hide_path, own->point, &rest))
        error = -ENOENT;
    if (error == 0)
        error = join(own->root, rest, within, sizeof within);
    if (error == 0)
        error = add_aliases(buf_slice(&text), device, within, &hidden);
    buf_deinit(&text);
    if (error != 0) {
        hidden_paths_deinit(&hidden);
        return error;
    }
    *ret_hidden = hidden;
    return 0;
}

/* ---- mounts ---- */

static int cover(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0)
        return -errno;
    if (!S_ISDIR(st.st_mode))
        return mount("/dev/null", path, NULL, MS_BIND, NULL) != 0 ? -errno : 0;
    unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    return mount("cover", path, "tmpfs", flags, "size=4k,nr_inodes=2,mode=0000") != 0 ? -errno : 0;
}

/* Recursively where the kernel can (5.12), which keeps the other flags, too. Best effort. */
static void make_read_only(const char *path) {
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    if (syscall(SYS_mount_setattr, AT_FDCWD, path, AT_RECURSIVE, &attr, sizeof attr) == 0)
        return;
    struct statvfs fs;
    unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY;
    if (statvfs(path, &fs) == 0)
        flags |=
            fs.f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC); /* ST_ and MS_ have the same values */
    (void)mount(NULL, path, NULL, flags, NULL);
}

static void cover_brokers(void) {
    static const char *const of_user[] = {"bus",    "systemd",     "dbus-1",
                                          "podman", "docker.sock", "docker"};
    static const char *const of_system[] = {"/run/dbus",
                                            "/run/systemd/private",
                                            "/run/docker.sock",
                                            "/run/podman",
                                            "/run/containerd",
                                            "/run/crio",
                                            "/run/libvirt",
                                            "/run/incus",
                                            "/run/snapd.socket",
                                            "/var/lib/lxd/unix.socket",
                                            "/var/lib/incus/unix.socket",
                                            "/var/snap/lxd/common/lxd/unix.socket"};
    for (size_t i = 0; i < ARRAY_LEN(of_system); i++)
        (void)cover(of_system[i]); /* most do not exist */
    if (geteuid() == 0)
        (void)cover("/run/user"); /* a child may become any user */
    for (size_t i = 0; i < ARRAY_LEN(of_user); i++) {
        char path[128];
        snprintf(path, sizeof path, "/run/user/%ju/%s", (uintmax_t)geteuid(), of_user[i]);
        (void)cover(path);
    }
}

/*
 * A /proc of the new PID namespace. For uid 0 the files by which it could give the kernel a program
 * to run (core_pattern) or stop the machine are read-only, those that show memory are covered.
 */
static void build_proc(void) {
    static const char *const read_only[] = {
        "/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi"};
    static const char *const covered[] = {"/proc/kcore",      "/proc/kmsg",
                                          "/proc/keys",       "/proc/timer_list",
                                          "/proc/kpageflags", "/proc/kpagecount"};
    (void)mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    if (geteuid() != 0)
        return;
    for (size_t i = 0; i < ARRAY_LEN(read_only); i++)
        if (mount(read_only[i], read_only[i], NULL, MS_BIND | MS_REC, NULL) == 0)
            make_read_only(read_only[i]);
    for (size_t i = 0; i < ARRAY_LEN(covered); i++)
        (void)cover(covered[i]);
}

#define DEVICE_COUNT 6

static int place_device(int tree, const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return -errno;
    close(fd);
    return syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) != 0 ? -errno
                                                                                           : 0;
}

static int fill_dev(const char *const *devices, const int *trees) {
    static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                           {"/proc/self/fd/0", "/dev/stdin"},
                                           {"/proc/self/fd/1", "/dev/stdout"},
                                           {"/proc/self/fd/2", "/dev/stderr"},
                                           {"pts/ptmx", "/dev/ptmx"}};
    for (size_t i = 0; i < DEVICE_COUNT; i++) {
        int error = trees[i] < 0 ? 0 : place_device(trees[i], devices[i]);
        if (error != 0)
            return error;
    }
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        if (symlink(links[i][0], links[i][1]) != 0)
            return -errno;
    if (mkdir("/dev/pts", 0755) != 0 || mkdir("/dev/shm", 01777) != 0)
        return -errno;
    (void)mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
                "newinstance,ptmxmode=0666,mode=0620");
    (void)mount("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    /* Not recursively: /dev/shm stays writable. */
    unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC;
    return mount(NULL, "/dev", NULL, flags, NULL) != 0 ? -errno : 0;
}

/* For uid 0: a /dev of harmless nodes, and no device anywhere else works. */
static int build_dev(void) {
    static const char *const devices[DEVICE_COUNT] = {"/dev/null",   "/dev/zero",    "/dev/full",
                                                      "/dev/random", "/dev/urandom", "/dev/tty"};
    int trees[DEVICE_COUNT];
    for (size_t i = 0; i < DEVICE_COUNT; i++) {
        long fd = syscall(SYS_open_tree, AT_FDCWD, devices[i], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        trees[i] = (int)fd;
    }
    int error = trees[0] < 0 ? -ENODEV : 0;
    /* After the clones, which stay usable; before the new mounts. Not in old kernels, nor in a
     * chroot. */
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_NODEV};
    (void)syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &attr, sizeof attr);
    if (error == 0 &&
        mount("dev", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k") != 0)
        error = -errno;
    if (error == 0) {
        mode_t mask = umask(0);
        error = fill_dev(devices, trees);
        umask(mask);
    }
    for (size_t i = 0; i < DEVICE_COUNT; i++)
        if (trees[i] >= 0)
            close(trees[i]);
    return error;
}

static int build_mounts(const struct isolation_request *request, const struct hidden_paths *hidden,
                        enum spawner_stage *ret_stage) {
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0) {
        *ret_stage = STAGE_MOUNT_PRIVATE;
        return -errno;
    }
    for (size_t i = 0; i < hidden->count; i++) {
        int error = cover(hidden->path[i]);
        if (error != 0) {
            *ret_stage = STAGE_COVER;
            return error;
        }
    }
    if (!request->allow_brokers)
        cover_brokers();
    build_proc();
    if (geteuid() == 0) {
        int error = build_dev();
        if (error != 0) {
            *ret_stage = STAGE_DEVICES;
            return error;
        }
        make_read_only("/sys");
    }
    return 0;
}

/* By its path again: the old reference leads around the covers. Never into the hidden directory
 * itself. */
static int enter_directory(const char *cwd, const struct hidden_paths *hidden) {
    bool is_open = cwd != NULL;
    const char *rest;
    for (size_t i = 0; is_open && i < hidden->count; i++)
        is_open = !is_below(cwd, hidden->path[i], &rest);
    if (is_open && chdir(cwd) == 0)
        return 0;
    return chdir("/") != 0 ? -errno : 0;
}

/* ---- proof ---- */

/* What a child could see in there; true when it is anything of the hidden directory. */
static bool shows_anything(const struct hidden_paths *hidden, const char *path,
                           enum spawner_isolation isolation) {
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return false;
    struct stat st;
    bool is_cover = isolation == SPAWNER_ISOLATION_NAMESPACES && fstat(fd, &st) == 0 &&
                    (st.st_dev != hidden->device || st.st_ino != hidden->inode);
    DIR *dir = is_cover && S_ISDIR(st.st_mode) ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        close(fd);
        return !is_cover || S_ISDIR(st.st_mode);
    }
    size_t entries = 0;
    while (readdir(dir) != NULL)
        entries++;
    closedir(dir);
    return entries > 2;
}

/* Runs in the probe. 0: nothing got through. */
static int try_everything(const struct confinement *confinement,
                          const struct hidden_paths *hidden) {
    for (size_t i = 0; i < hidden->count; i++) {
        char path[4224];
        if (shows_anything(hidden, hidden->path[i], confinement->isolation))
            return 1;
        snprintf(path, sizeof path, "%s/.cardea-probe", hidden->path[i]);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0) {
            close(fd);
            unlink(path);
            return 2;
        }
    }
    if (confinement->denies_unix_socket && socket(AF_UNIX, SOCK_STREAM, 0) >= 0)
        return 3;
    return 0;
}

static int verify(const struct confinement *confinement, const struct hidden_paths *hidden) {
    pid_t probe = fork();
    if (probe < 0)
        return -errno;
    if (probe == 0) {
        enum spawner_stage stage;
        int code = confine_self(confinement, &stage) == 0 ? try_everything(confinement, hidden) : 4;
        _exit(code);
    }
    int status;
    while (waitpid(probe, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

/* ---- the two methods ---- */

static int build_landlock(const struct isolation_request *request,
                          const struct hidden_paths *hidden, struct confinement *confinement,
                          enum spawner_stage *ret_stage) {
    *ret_stage = STAGE_LANDLOCK;
    int error = landlock_hide(hidden, geteuid() == 0, &confinement->ruleset_fd);
    if (error != 0)
        return error;
    confinement->isolation = SPAWNER_ISOLATION_LANDLOCK;
    confinement->denies_unix_socket = true;
    confinement->denies_truncate = landlock_abi() < 3;

    /* The spawner takes on a domain of its own in which it can signal nobody but its descendants:
       then one kill(-1) reaches them all at once, however fast they fork. */
    int scope_fd;
    if (landlock_scope_signals(&scope_fd) == 0) {
        error = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ? -errno : landlock_enter(scope_fd);
        close(scope_fd);
        if (error != 0)
            return error;
        confinement->is_scoped = kill(request->gateway, 0) != 0 && errno == EPERM;
    }
    return 0;
}

static int build_namespaces(const struct isolation_request *request,
                            const struct hidden_paths *hidden, struct confinement *confinement,
                            enum spawner_stage *ret_stage) {
    int error = build_mounts(request, hidden, ret_stage);
    if (error != 0)
        return error;
    confinement->isolation = SPAWNER_ISOLATION_NAMESPACES;
    confinement->has_pid_namespace = true;
    /* Between children of the same uid: without this, one could read the other's environment. */
    if (request->allow_landlock && landlock_separate(&confinement->ruleset_fd) != 0)
        confinement->ruleset_fd = -1;
    return 0;
}

int isolation_build(const struct isolation_request *request, struct confinement *ret_confinement,
                    enum spawner_stage *ret_stage) {
    struct confinement confinement = {.ruleset_fd = -1};
    struct hidden_paths hidden = {0};
    uint64_t keep = request->gateway_caps & caps_harmless();
    int error = hidden_paths_find(request->hide_path, &hidden);
    if (error != 0) {
        *ret_stage = STAGE_FIND_HIDDEN;
        return error;
    }
    if (request->has_new_namespaces)
        error = build_namespaces(request, &hidden, &confinement, ret_stage);
    else
        error = build_landlock(request, &hidden, &confinement, ret_stage);
    if (error == 0 && (error = enter_directory(request->cwd, &hidden)) != 0)
        *ret_stage = STAGE_DIRECTORY;
    if (error == 0 && (error = caps_limit(keep)) != 0)
        *ret_stage = STAGE_PRIVILEGES;
    if (error == 0 && (error = verify(&confinement, &hidden)) != 0)
        *ret_stage = STAGE_VERIFY;
    hidden_paths_deinit(&hidden);
    if (error != 0)
        return error;
    *ret_confinement = confinement;
    return 0;
}
