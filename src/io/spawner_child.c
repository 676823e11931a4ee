#include "spawner_child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"

#define CHILD_OPEN_FILES 1024u /* the soft limit that programs expect: select(2) holds no more */
#define CLOSE_ON_EXEC    4u    /* CLOSE_RANGE_CLOEXEC */

static int take_descriptors(const int fds[static SPAWNER_FDS]) {
    for (int i = 0; i < (int)SPAWNER_FDS; i++)
        if (dup2(fds[i], i) <
            0) /* 0 to 2 are taken in the spawner, so that fds[] are never among them */
            return -errno;
    /* All of ours have the flag from birth; this is for those that a library might open one day.
     * Linux 5.11. */
    if (syscall(SYS_close_range, SPAWNER_FDS, ~0u, CLOSE_ON_EXEC) != 0 && errno != ENOSYS &&
        errno != EINVAL)
        return -errno;
    return 0;
}

static int set_limits(void) {
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0)
        return -errno;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return -errno;
    files.rlim_cur = files.rlim_max < CHILD_OPEN_FILES ? files.rlim_max : CHILD_OPEN_FILES;
    return setrlimit(RLIMIT_NOFILE, &files) != 0 ? -errno : 0;
}

/* With its own group alone: reading the group database here would mean to load modules with our
 * privileges. */
static int change_user(const struct order_head *head) {
    gid_t gid = head->gid;
    if (setgroups(1, &gid) != 0 || setresgid(gid, gid, gid) != 0 ||
        setresuid(head->uid, head->uid, head->uid) != 0)
        return -errno;
    return caps_limit(0);
}

static void reset_signals(void) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int number = 1; number <= 64; number++)
        (void)sigaction(number, &standard, NULL); /* EINVAL: KILL, STOP, and two of libc */
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static const char *find_path(char *const *envp) {
    for (; *envp != NULL; envp++)
        if (strncmp(*envp, "PATH=", 5) == 0)
            return *envp + 5;
    return "/usr/local/bin:/usr/bin:/bin";
}

/*
 * As execvpe(3), but with the PATH that was declared, without the current directory for an empty
 * entry, and without handing a file of unknown format to a shell.
 */
static int execute(const struct order *order) {
    const char *name = order->argv[0];
    if (strchr(name, '/') != NULL) {
        execve(name, order->argv, order->envp);
        return -errno;
    }
    int error = -ENOENT;
    struct slice path = slice_from_cstr(find_path(order->envp));
    for (bool more = true; more;) {
        struct slice dir;
        more = slice_cut(path, ':', &dir, &path);
        char file[4096];
        struct buf text = BUF_INIT(sizeof file - 1);
        buf_append(&text, dir);
        buf_append_byte(&text, '/');
        buf_append_cstr(&text, name);
        bool fits =
            buf_error(&text) == 0 && slice_to_cstr(buf_slice(&text), file, sizeof file) == 0;
        buf_deinit(&text);
        if (slice_is_empty(dir) || dir.ptr[0] != '/' || !fits)
            continue;
        execve(file, order->argv, order->envp);
        if (errno == EACCES)
            error = -EACCES; /* found, perhaps; a later directory may do better */
        else if (errno != ENOENT && errno != ENOTDIR && errno != ESTALE && errno != ENODEV)
            return -errno;
    }
    return error;
}

static int prepare(const struct order *order, const int fds[static SPAWNER_FDS], pid_t spawner,
                   const struct confinement *confinement, enum spawner_stage *stage) {
    int error;
    *stage = STAGE_SESSION;
    if (setsid() < 0)
        return -errno;
    *stage = STAGE_DESCRIPTORS;
    if ((error = take_descriptors(fds)) != 0)
        return error;
    *stage = STAGE_LIMITS;
    if ((error = set_limits()) != 0)
        return error;
    *stage = STAGE_CHANGE_USER;
    if (order->head.change_user != 0 && (error = change_user(&order->head)) != 0)
        return error;
    /* After the change of user, which clears it. In a PID namespace the spawner's death is enough;
     * still. */
    *stage = STAGE_SETUP;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return -errno;
    if (getppid() != spawner)
        return -EPIPE;
    if ((error = confine_self(confinement, stage)) != 0)
        return error;
    *stage = STAGE_DIRECTORY;
    return order->cwd != NULL && chdir(order->cwd) != 0 ? -errno : 0;
}

NO_RETURN void child_run(const struct order *order, const int fds[static SPAWNER_FDS],
                         int report_fd, pid_t spawner, const struct confinement *confinement) {
    enum spawner_stage stage = STAGE_SETUP;
    int error = prepare(order, fds, spawner, confinement, &stage);
    if (error == 0) {
        reset_signals();
        stage = STAGE_EXECUTE;
        error = execute(order);
    }
    struct child_failure failure = {.stage = (uint32_t)stage, .error = -error};
    ssize_t written = write(report_fd, &failure, sizeof failure);
    _exit(written == (ssize_t)sizeof failure ? 127 : 126);
}
