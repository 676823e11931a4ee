/*
 * The spawner, against a hostile child (test/hostile/hostile_child.c). Each scenario runs in a
 * process of its own, the "host", which plays the gateway: as root, as root without CAP_SYS_ADMIN,
 * as root that runs children as another user, and as an unprivileged user; under namespaces, under
 * Landlock and, to see that the probes can succeed, under nothing. This process is the child
 * subreaper above: when waitpid(2) knows no more children, nothing was left behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/limits.h"
#include "io/spawner.h"
#include "spawner_confine.h"
#include "spawner_process.h"
#include "test.h"

#define NOBODY     65534u
#define TIMEOUT_MS 20000

enum identity {
    AS_ROOT,
    AS_ROOT_WITHOUT_ADMIN,
    AS_ROOT_FOR_NOBODY,
    AS_NOBODY,
    AS_NOBODY_MASKED_PROC
};

struct scenario {
    const char *name;
    enum identity identity;
    bool namespaces, landlock;
    enum spawner_isolation expected;
};

/* ---- the place ---- */

struct place {
    char base[64], program[96], link[96], scratch[96], hidden[96], alias[96], abstract[32];
};

static const char *path_in(const char *dir, const char *name) {
    static char buffer[8][256];
    static unsigned next;
    char *out = buffer[next++ % 8];
    snprintf(out, sizeof buffer[0], "%s/%s", dir, name);
    return out;
}

static bool write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool copy_file(const char *from, const char *to, mode_t mode) {
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    char data[8192];
    ssize_t n = -1;
    while (in >= 0 && out >= 0 && (n = read(in, data, sizeof data)) > 0)
        if (write(out, data, (size_t)n) != n)
            break;
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return n == 0 && chmod(to, mode) == 0;
}

static int listen_at(const char *path, size_t abstract_len, int type) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (abstract_len > 0)
        memcpy(address.sun_path + 1, path, abstract_len);
    else
        snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    socklen_t size = abstract_len > 0
                         ? (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + abstract_len)
                         : (socklen_t)sizeof address;
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (bind(fd, (struct sockaddr *)&address, size) != 0 ||
                    (type == SOCK_STREAM && listen(fd, 64) != 0))) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool place_make(struct place *place) {
    snprintf(place->base, sizeof place->base, "/tmp/cardea test-XXXXXX");
    if (mkdtemp(place->base) == NULL || chmod(place->base, 0755) != 0)
        return false;
    snprintf(place->program, sizeof place->program, "%s/hostile", place->base);
    snprintf(place->scratch, sizeof place->scratch, "%s/scratch", place->base);
    snprintf(place->hidden, sizeof place->hidden, "%s/parent/data", place->base);
    snprintf(place->link, sizeof place->link, "%s/link", place->base);
    snprintf(place->alias, sizeof place->alias, "%s/alias", place->base);
    snprintf(place->abstract, sizeof place->abstract, "cardea-test-%d", (int)getpid());
    return mkdir(place->scratch, 0777) == 0 && chmod(place->scratch, 0777) == 0 &&
           mkdir(place->alias, 0755) == 0 && mkdir(path_in(place->base, "parent"), 0755) == 0 &&
           mkdir(place->hidden, 0700) == 0 && symlink("parent/data", place->link) == 0 &&
           copy_file(HOSTILE_CHILD, place->program, 0755) &&
           copy_file(HOSTILE_CHILD, path_in(place->scratch, "suid"), 04755);
}

static bool place_fill(const struct place *place) {
    if (geteuid() == 0) {
        /* Harmless as such: the device of /dev/zero, where no device should work. */
        (void)mknod(path_in(place->scratch, "node"), S_IFCHR | 0666, makedev(1, 5));
        (void)chmod(path_in(place->scratch, "node"), 0666);
    }
    return write_text(path_in(place->hidden, "token"), "SECRET-TOKEN\n") &&
           write_text(path_in(place->hidden, "victim"), "still here\n");
}

static void remove_tree(const char *path) {
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/rm", "rm", "-rf", path, (char *)NULL);
        _exit(1);
    }
    waitpid(pid, NULL, 0);
}

/* ---- identities ---- */

static void drop_capabilities(uint64_t drop) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    for (unsigned long cap = 0; cap < 64; cap++)
        if ((drop >> cap & 1) != 0)
            (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    (void)syscall(SYS_capget, &header, data);
    for (unsigned i = 0; i < 2; i++) {
        data[i].permitted &= ~(uint32_t)(drop >> (32 * i));
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    (void)syscall(SYS_capset, &header, data);
}

static bool become_nobody(void) {
    if (geteuid() != 0)
        return true;
    gid_t gid = NOBODY;
    return setgroups(1, &gid) == 0 && setresgid(gid, gid, gid) == 0 &&
           setresuid(NOBODY, NOBODY, NOBODY) == 0 && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;
}

/* A user namespace in which a part of /proc is covered, as in a container: in a further one it
 * cannot be mounted. */
static bool mask_proc(void) {
    char map[64];
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
        return false;
    snprintf(map, sizeof map, "%u %u 1\n", (unsigned)uid, (unsigned)uid);
    bool ok = write_text("/proc/self/setgroups", "deny") && write_text("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "%u %u 1\n", (unsigned)gid, (unsigned)gid);
    ok = ok && write_text("/proc/self/gid_map", map) &&
         mount("mask", "/proc/sys", "tmpfs", MS_RDONLY, NULL) == 0;
    drop_capabilities(UINT64_MAX);
    return ok && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;
}

/* As root: a world with a second mount of the data directory and with brokers to talk to. */
static void build_world(const struct place *place) {
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return;
    (void)mount(place->hidden, place->alias, NULL, MS_BIND, NULL);
    if (mount("run", "/run", "tmpfs", 0, "mode=0755") != 0)
        return;
    static const char *const dirs[] = {"/run/dbus", "/run/systemd", "/run/user", "/run/user/0",
                                       "/run/user/65534"};
    static const char *const sockets[] = {"/run/docker.sock", "/run/dbus/system_bus_socket",
                                          "/run/systemd/private", "/run/user/0/bus",
                                          "/run/user/65534/bus"};
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        (void)mkdir(dirs[i], 0755);
    for (size_t i = 0; i < ARRAY_LEN(sockets); i++) {
        (void)listen_at(sockets[i], 0, SOCK_STREAM); /* open until the host ends */
        (void)chmod(sockets[i], 0777);
    }
}

static bool take_identity(const struct scenario *scenario, const struct place *place) {
    build_world(place);
    (void)listen_at(place->abstract, strlen(place->abstract), SOCK_STREAM);
    switch (scenario->identity) {
    case AS_ROOT:
    case AS_ROOT_FOR_NOBODY:
        break;
    case AS_ROOT_WITHOUT_ADMIN:
        drop_capabilities(UINT64_C(1) << CAP_SYS_ADMIN);
        break;
    case AS_NOBODY:
        if (!become_nobody())
            return false;
        break;
    case AS_NOBODY_MASKED_PROC:
        if (!become_nobody() || !mask_proc())
            return false;
        break;
    }
    int control = listen_at(path_in(place->hidden, "control.sock"), 0, SOCK_STREAM);
    int datagram = listen_at(path_in(place->hidden, "datagram.sock"), 0, SOCK_DGRAM);
    return control >= 0 && datagram >= 0 && chdir(place->hidden) == 0;
}

static bool is_possible(enum identity identity) {
    return geteuid() == 0 || identity == AS_NOBODY || identity == AS_NOBODY_MASKED_PROC;
}

/* ---- the host: plays the gateway ---- */

struct host {
    const struct scenario *scenario;
    const struct place *place;
    struct spawner *spawner;
    int out; /* what the children have as stdout and stderr */
    int in;  /* and as stdin */
};

static bool host_start(struct host *host) {
    const struct spawner_options options = {
        .hide_path = host->scenario->expected != SPAWNER_ISOLATION_NONE ? host->place->link : NULL,
        .allow_namespaces = host->scenario->namespaces,
        .allow_landlock = host->scenario->landlock};
    int error = spawner_start(&options, &host->spawner);
    if (error != 0)
        dprintf(host->out, "HOST spawner_start: %d\n", error);
    else if (spawner_isolation(host->spawner) != host->scenario->expected) {
        int reason = 0;
        const char *stage = spawner_isolation_refused(host->spawner, &reason);
        dprintf(host->out, "HOST isolation is %s: %s: %s\n",
                spawner_isolation_name(spawner_isolation(host->spawner)),
                stage != NULL ? stage : "-", strerror(reason));
    }
    return error == 0 && spawner_isolation(host->spawner) == host->scenario->expected;
}

/* -ETIMEDOUT when nothing comes. */
static int host_event(const struct host *host, struct spawner_event *ret_event) {
    for (;;) {
        int error = spawner_receive(host->spawner, ret_event);
        if (error != -EAGAIN)
            return error;
        struct pollfd readable = {.fd = spawner_fd(host->spawner), .events = POLLIN};
        if (poll(&readable, 1, TIMEOUT_MS) == 0)
            return -ETIMEDOUT;
    }
}

static const char *const declared[] = {"A=1", "B=two words", "EMPTY=", NULL};

static int host_spawn(const struct host *host, uint64_t id, const char *const *argv) {
    struct spawner_command command = {.id = id,
                                      .argv = argv,
                                      .envp = declared,
                                      .change_user = host->scenario->identity == AS_ROOT_FOR_NOBODY,
                                      .uid = NOBODY,
                                      .gid = NOBODY,
                                      .stdin_fd = host->in,
                                      .stdout_fd = host->out,
                                      .stderr_fd = host->out};
    return spawner_spawn(host->spawner, &command);
}

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

static bool expect(const struct host *host, enum spawner_event_kind kind, uint64_t id,
                   struct spawner_event *ret_event) {
    int error = host_event(host, ret_event);
    if (error == 0 && ret_event->kind == kind && ret_event->id == id)
        return true;
    dprintf(host->out, "HOST expected event %d of %d, got %d: %d of %d (%s: %s)\n", (int)kind,
            (int)id, error, error == 0 ? (int)ret_event->kind : -1,
            error == 0 ? (int)ret_event->id : -1, error == 0 ? ret_event->stage : "",
            error == 0 ? strerror(ret_event->error) : "");
    return false;
}

/* ---- this side ---- */

typedef int (*host_fn)(struct host *host); /* its exit code */

struct run {
    pid_t pid;
    int fd; /* the children's output; EOF when the last that holds it is gone */
    struct buf output;
};

static void run_start(struct run *run, const struct scenario *scenario, const struct place *place,
                      host_fn fn) {
    int fds[2];
    *run = (struct run){.pid = -1, .fd = -1, .output = BUF_INIT(MIB(1))};
    if (pipe2(fds, O_CLOEXEC) != 0)
        return;
    fflush(stdout);
    run->pid = fork();
    if (run->pid == 0) {
        struct host host = {.scenario = scenario,
                            .place = place,
                            .out = fds[1],
                            .in = open("/dev/null", O_RDONLY | O_CLOEXEC)};
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        close(fds[0]);
        if (!take_identity(scenario, place)) {
            dprintf(fds[1], "HOST cannot become %s: %s\n", scenario->name, strerror(errno));
            _exit(99);
        }
        _exit(fn(&host));
    }
    close(fds[1]);
    run->fd = fds[0];
}

/* Until EOF, or until the text has come; false when neither happens in time. */
static bool run_read(struct run *run, const char *until, size_t times) {
    for (;;) {
        size_t count = 0;
        struct slice rest = buf_slice(&run->output);
        for (size_t at;
             until != NULL && (at = slice_find(rest, slice_from_cstr(until))) != SIZE_MAX; count++)
            rest = slice_from(rest, at + strlen(until));
        if (until != NULL && count >= times)
            return true;
        struct pollfd readable = {.fd = run->fd, .events = POLLIN};
        char data[4096];
        if (poll(&readable, 1, TIMEOUT_MS) <= 0)
            return false;
        ssize_t n = read(run->fd, data, sizeof data);
        if (n <= 0)
            return n == 0 && until == NULL;
        buf_append(&run->output, slice_make(data, (size_t)n));
    }
}

/* The next process that has ended; 0 when none does in time, -1 when there is none. SIGCHLD is
 * blocked here. */
static pid_t wait_for_any(int *ret_status) {
    sigset_t child_signal;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    for (;;) {
        const struct timespec timeout = {.tv_sec = TIMEOUT_MS / 1000};
        pid_t pid = waitpid(-1, ret_status, WNOHANG | __WALL);
        if (pid != 0 || sigtimedwait(&child_signal, NULL, &timeout) < 0)
            return pid;
    }
}

/* Waits for the host, and proves that no process is left. */
static int run_end(struct run *run, bool may_complain) {
    int host_status = -1, status;
    pid_t pid;
    CHECK(run_read(run, NULL, 0)); /* EOF: nobody holds the pipe */
    while ((pid = wait_for_any(&status)) > 0)
        if (pid == run->pid)
            host_status = status;
    CHECK_INT(pid, -1);
    if (pid == 0)
        process_kill_descendants(false); /* so that the tests after this one mean something */
    struct slice rest = buf_slice(&run->output);
    for (struct slice line; slice_cut(rest, '\n', &line, &rest);)
        if (!may_complain && slice_starts_with(line, SLICE("HOST"))) {
            test_fail(__FILE__, __LINE__, "the host complains");
            printf("#   %.*s\n", SLICE_ARGS(line));
        }
    close(run->fd);
    return host_status;
}

static struct buf run_whole(const struct scenario *scenario, const struct place *place, host_fn fn,
                            int expected_status) {
    struct run run;
    test_row(scenario->name);
    run_start(&run, scenario, place, fn);
    int status = run_end(&run, false);
    CHECK(status >= 0 && WIFEXITED(status));
    if (status >= 0)
        CHECK_INT(WEXITSTATUS(status), expected_status);
    return run.output;
}

static bool give_to_identity(const struct place *place, const struct scenario *scenario) {
    bool is_nobody = scenario->identity == AS_NOBODY || scenario->identity == AS_NOBODY_MASKED_PROC;
    if (geteuid() != 0)
        return true;
    uid_t uid = is_nobody ? NOBODY : 0;
    return chown(place->hidden, uid, uid) == 0 &&
           chown(path_in(place->base, "parent"), uid, uid) == 0 &&
           chown(path_in(place->hidden, "token"), uid, uid) == 0 &&
           chown(path_in(place->hidden, "victim"), uid, uid) == 0;
}

static bool prepare(struct place *place, const struct scenario *scenario) {
    return place_make(place) && place_fill(place) && give_to_identity(place, scenario);
}

/* ---- probes ---- */

static const struct scenario isolated[] = {
    {"root, namespaces", AS_ROOT, true, true, SPAWNER_ISOLATION_NAMESPACES},
    {"root, namespaces without Landlock", AS_ROOT, true, false, SPAWNER_ISOLATION_NAMESPACES},
    {"root, Landlock", AS_ROOT, false, true, SPAWNER_ISOLATION_LANDLOCK},
    {"root without admin, namespaces", AS_ROOT_WITHOUT_ADMIN, true, true,
     SPAWNER_ISOLATION_NAMESPACES},
    {"root without admin, Landlock", AS_ROOT_WITHOUT_ADMIN, false, true,
     SPAWNER_ISOLATION_LANDLOCK},
    {"root for nobody, namespaces", AS_ROOT_FOR_NOBODY, true, true, SPAWNER_ISOLATION_NAMESPACES},
    {"root for nobody, Landlock", AS_ROOT_FOR_NOBODY, false, true, SPAWNER_ISOLATION_LANDLOCK},
    {"user, namespaces", AS_NOBODY, true, true, SPAWNER_ISOLATION_NAMESPACES},
    {"user, namespaces without Landlock", AS_NOBODY, true, false, SPAWNER_ISOLATION_NAMESPACES},
    {"user, Landlock", AS_NOBODY, false, true, SPAWNER_ISOLATION_LANDLOCK},
    {"user, /proc cannot be mounted", AS_NOBODY_MASKED_PROC, true, true,
     SPAWNER_ISOLATION_NAMESPACES},
};

/* What the machine does not protect in this scenario, and the documentation says so. */
static bool is_known_limit(const struct scenario *scenario, struct slice probe) {
    static const char *const between_children[] = {"look_into_sibling", "trace_sibling",
                                                   "kill_sibling"};
    bool is_landlock = scenario->expected == SPAWNER_ISOLATION_LANDLOCK;
    int abi = scenario->landlock ? landlock_abi() : 0;
    for (size_t i = 0; i < ARRAY_LEN(between_children); i++)
        if (slice_eq(probe, slice_from_cstr(between_children[i])))
            return i < 2 ? abi < 2 : abi < 6;
    if (slice_eq(probe, SLICE("connect_abstract")))
        return !is_landlock && abi < 6;
    if (slice_eq(probe, SLICE("kill_gateway")))
        return is_landlock && abi < 6;
    if (slice_eq(probe, SLICE("device_elsewhere")))
        return is_landlock;
    return false;
}

static int host_probe(struct host *host) {
    struct spawner_event event, sibling;
    char gateway[16], other[16];
    const struct place *place = host->place;
    int pipe_fds[2]; /* keeps the sibling, which would otherwise write between the lines */
    int out = host->out;
    if (!host_start(host) || pipe2(pipe_fds, O_CLOEXEC) != 0)
        return 1;
    host->out = pipe_fds[1];
    int error = host_spawn(host, 1, ARGV(place->program, "stubborn"));
    host->out = out;
    if (error != 0 || !expect(host, SPAWNER_STARTED, 1, &sibling))
        return 2;
    snprintf(gateway, sizeof gateway, "%d", (int)getpid());
    snprintf(other, sizeof other, "%d", (int)sibling.pid);
    error = host_spawn(host, 2,
                       ARGV(place->program, "probe", place->hidden, place->alias, place->scratch,
                            place->abstract, gateway, other));
    if (error != 0 || !expect(host, SPAWNER_STARTED, 2, &event) ||
        !expect(host, SPAWNER_EXITED, 2, &event))
        return 3;
    if (event.status != 0)
        dprintf(host->out, "HOST the probe ended with %x\n", (unsigned)event.status);
    /* After kill_spawner it must still work. */
    if (host->scenario->expected == SPAWNER_ISOLATION_NAMESPACES || landlock_abi() >= 6) {
        if (host_spawn(host, 3, ARGV(place->program, "exit", "7")) != 0 ||
            !expect(host, SPAWNER_STARTED, 3, &event) || !expect(host, SPAWNER_EXITED, 3, &event) ||
            WEXITSTATUS(event.status) != 7)
            return 4;
    }
    host->spawner = spawner_free(host->spawner);
    return 0;
}

static size_t check_probes(const struct scenario *scenario, struct slice output, bool judge) {
    size_t probes = 0, breaches = 0, done = 0;
    for (struct slice line; slice_cut(output, '\n', &line, &output);) {
        struct slice word, name;
        slice_cut(line, ' ', &word, &line);
        slice_cut(line, ' ', &name, &line);
        bool is_breach = slice_eq(word, SLICE("BREACH"));
        if (slice_eq(word, SLICE("done")))
            CHECK(slice_to_u64(name, &(uint64_t){0}) == 0 && (done = probes) > 40);
        if (!is_breach && !slice_eq(word, SLICE("ok")))
            continue;
        probes++;
        breaches += is_breach;
        if (judge && is_breach && is_known_limit(scenario, name)) {
            printf("# known limit (%s): %.*s: %.*s\n", scenario->name, SLICE_ARGS(name),
                   SLICE_ARGS(line));
        } else if (judge && is_breach) {
            printf("# BREACH (%s): %.*s: %.*s\n", scenario->name, SLICE_ARGS(name),
                   SLICE_ARGS(line));
            test_fail(__FILE__, __LINE__, "a hostile child got through");
        }
    }
    CHECK(done > 40); /* all of them ran */
    return breaches;
}

static void test_probes(void) {
    for (size_t i = 0; i < ARRAY_LEN(isolated); i++) {
        const struct scenario *scenario = &isolated[i];
        struct place place;
        if (!is_possible(scenario->identity)) {
            printf("# not run, needs root: %s\n", scenario->name);
            continue;
        }
        if (scenario->expected == SPAWNER_ISOLATION_LANDLOCK && landlock_abi() == 0) {
            printf("# not run, the kernel has no Landlock: %s\n", scenario->name);
            continue;
        }
        test_row(scenario->name);
        CHECK(prepare(&place, scenario));
        struct buf output = run_whole(scenario, &place, host_probe, 0);
        check_probes(scenario, buf_slice(&output), true);
        buf_deinit(&output);
        remove_tree(place.base);
    }
}

/* The same probes without isolation get through: they can fail, and so their silence above means
 * something. */
static void test_probes_can_succeed(void) {
    static const char *const must[] = {"list_hidden",     "read_token",       "read_by_dotdot",
                                       "read_by_cwd",     "read_by_symlink",  "create_inside",
                                       "change_inside",   "rename_directory", "connect_control",
                                       "connect_by_proc", "connect_by_pair",  "connect_abstract",
                                       "kill_gateway",    "kill_sibling"};
    const struct scenario scenario = {"user, no isolation", AS_NOBODY, false, false,
                                      SPAWNER_ISOLATION_NONE};
    struct place place;
    test_row(scenario.name);
    CHECK(prepare(&place, &scenario));
    struct run run;
    run_start(&run, &scenario, &place, host_probe);
    (void)run_end(&run, true); /* kill_spawner succeeds; the host says so, or not, as it comes */
    for (size_t i = 0; i < ARRAY_LEN(must); i++) {
        char line[64];
        snprintf(line, sizeof line, "BREACH %s ", must[i]);
        test_row(must[i]);
        CHECK(slice_find(buf_slice(&run.output), slice_from_cstr(line)) != SIZE_MAX);
    }
    static const char *const with_root[] = {"connect_broker",
                                            "read_by_alias"}; /* it builds that world */
    for (size_t i = 0; geteuid() == 0 && i < ARRAY_LEN(with_root); i++) {
        char line[64];
        snprintf(line, sizeof line, "BREACH %s ", with_root[i]);
        test_row(with_root[i]);
        CHECK(slice_find(buf_slice(&run.output), slice_from_cstr(line)) != SIZE_MAX);
    }
    buf_deinit(&run.output);
    remove_tree(place.base);
}

/* ---- lives ---- */

static const struct scenario lives[] = {
    {"root, namespaces", AS_ROOT, true, true, SPAWNER_ISOLATION_NAMESPACES},
    {"user, namespaces", AS_NOBODY, true, true, SPAWNER_ISOLATION_NAMESPACES},
    {"user, Landlock", AS_NOBODY, false, true, SPAWNER_ISOLATION_LANDLOCK},
    {"user, none", AS_NOBODY, false, false, SPAWNER_ISOLATION_NONE},
    {"user, /proc cannot be mounted", AS_NOBODY_MASKED_PROC, true, true,
     SPAWNER_ISOLATION_NAMESPACES},
};

static void for_lives(host_fn fn) {
    for (size_t i = 0; i < ARRAY_LEN(lives); i++) {
        struct place place;
        if (!is_possible(lives[i].identity) ||
            (lives[i].expected == SPAWNER_ISOLATION_LANDLOCK && landlock_abi() == 0))
            continue;
        test_row(lives[i].name);
        CHECK(prepare(&place, &lives[i]));
        struct buf output = run_whole(&lives[i], &place, fn, 0);
        buf_deinit(&output);
        remove_tree(place.base);
    }
}

static bool fails(const struct host *host, struct spawner_command command, int error,
                  const char *stage) {
    struct spawner_event event = {0};
    command.stdin_fd = command.stdout_fd = command.stderr_fd = host->in;
    int sent = spawner_spawn(host->spawner, &command);
    if (sent == 0 && expect(host, SPAWNER_FAILED, command.id, &event) && event.error == error &&
        strcmp(event.stage, stage) == 0)
        return true;
    dprintf(host->out, "HOST wanted %s (%s), got %d: %s (%s)\n", stage, strerror(error), sent,
            event.stage != NULL ? event.stage : "", strerror(event.error));
    return false;
}

static int host_failures(struct host *host) {
    static const char *const no_env[] = {NULL};
    static const char *const paths[] = {"PATH=:relative:/nonexistent:/bin", NULL};
    struct spawner_event event;
    if (!host_start(host))
        return 1;
    if (!fails(host,
               (struct spawner_command){.id = 1, .argv = ARGV("/nonexistent/x"), .envp = no_env},
               ENOENT, "execute") ||
        !fails(host,
               (struct spawner_command){.id = 2, .argv = ARGV("no-such-program"), .envp = paths},
               ENOENT, "execute") ||
        !fails(host, (struct spawner_command){.id = 3, .argv = ARGV("/tmp"), .envp = no_env},
               EACCES, "execute") ||
        !fails(host,
               (struct spawner_command){
                   .id = 4, .argv = ARGV("/bin/true"), .envp = no_env, .cwd = "/nonexistent"},
               ENOENT, "change directory"))
        return 2;
    struct spawner_command command = {.id = 5,
                                      .argv = ARGV("true"),
                                      .envp = paths,
                                      .stdin_fd = host->in,
                                      .stdout_fd = host->out,
                                      .stderr_fd = host->out};
    if (spawner_spawn(host->spawner, &command) != 0 || !expect(host, SPAWNER_STARTED, 5, &event) ||
        !expect(host, SPAWNER_EXITED, 5, &event) || event.status != 0)
        return 3;
    if (geteuid() != 0) {
        struct spawner_command other = {.id = 6,
                                        .argv = ARGV("/bin/true"),
                                        .envp = no_env,
                                        .change_user = true,
                                        .uid = 1,
                                        .gid = 1};
        if (!fails(host, other, EPERM, "change user"))
            return 4;
    }
    if (host_spawn(host, 7, ARGV(host->place->program, "stubborn")) != 0 ||
        !expect(host, SPAWNER_STARTED, 7, &event) ||
        !fails(host, (struct spawner_command){.id = 7, .argv = ARGV("/bin/true"), .envp = no_env},
               EEXIST, "identify"))
        return 5;
    command.stdin_fd = -1;
    if (spawner_spawn(host->spawner, &command) != -EBADF)
        return 6;
    command.stdin_fd = host->in;
    command.argv = ARGV("");
    if (spawner_spawn(host->spawner, &command) != -EINVAL)
        return 7;
    host->spawner = spawner_free(host->spawner);
    return 0;
}

static void test_failures_to_start(void) {
    for_lives(host_failures);
}

static int host_big(struct host *host) {
    static char words[2][KIB(100)];
    struct spawner_event event;
    if (!host_start(host))
        return 1;
    memset(words[0], 'x', sizeof words[0] - 1);
    memset(words[1], 'y', sizeof words[1] - 1);
    if (host_spawn(host, 1, ARGV("/bin/true", words[0])) != 0 ||
        !expect(host, SPAWNER_STARTED, 1, &event) || !expect(host, SPAWNER_EXITED, 1, &event))
        return 2;
    if (host_spawn(host, 2, ARGV("/bin/true", words[0], words[1])) != -E2BIG)
        return 3;
    /* Many at once: each is taken, or refused with -EAGAIN before it was sent. */
    size_t sent = 0, started = 0, exited = 0;
    for (uint64_t id = 10; id < 110; id++)
        sent += host_spawn(host, id, ARGV("/bin/true", words[0])) == 0;
    while (exited < sent && host_event(host, &event) == 0) {
        started += event.kind == SPAWNER_STARTED;
        exited += event.kind == SPAWNER_EXITED && event.status == 0;
    }
    if (sent < 2 || started != sent || exited != sent)
        return 4;
    host->spawner = spawner_free(host->spawner);
    return 0;
}

static void test_size_of_orders(void) {
    for_lives(host_big);
}

static int host_stop(struct host *host) {
    struct spawner_event event;
    int in[2], out[2];
    char text[16];
    struct host piped = *host;
    if (!host_start(host) || pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        return 1;
    piped.spawner = host->spawner;
    piped.in = in[0];
    piped.out = out[1];
    /* By the end of stdin. */
    if (host_spawn(&piped, 1, ARGV(host->place->program, "echo")) != 0 ||
        !expect(host, SPAWNER_STARTED, 1, &event) || read(out[0], text, 6) != 6)
        return 2;
    close(in[0]);
    if (write(in[1], "hello", 5) != 5 || read(out[0], text, sizeof text) != 5 ||
        memcmp(text, "hello", 5) != 0)
        return 3;
    close(in[1]);
    if (!expect(host, SPAWNER_EXITED, 1, &event) || WEXITSTATUS(event.status) != 3)
        return 4;
    /* By TERM; one that ignores it by KILL. */
    piped.in = host->in;
    if (host_spawn(&piped, 2, ARGV("/bin/sleep", "1000")) != 0 ||
        !expect(host, SPAWNER_STARTED, 2, &event) ||
        spawner_signal(host->spawner, 2, SIGTERM) != 0 ||
        !expect(host, SPAWNER_EXITED, 2, &event) || !WIFSIGNALED(event.status) ||
        WTERMSIG(event.status) != SIGTERM)
        return 5;
    if (host_spawn(&piped, 3, ARGV(host->place->program, "stubborn")) != 0 ||
        !expect(host, SPAWNER_STARTED, 3, &event) || read(out[0], text, 6) != 6 ||
        spawner_signal(host->spawner, 3, SIGTERM) != 0 ||
        spawner_signal(host->spawner, 99, SIGKILL) != 0 ||
        spawner_signal(host->spawner, 3, SIGKILL) != 0 ||
        !expect(host, SPAWNER_EXITED, 3, &event) || WTERMSIG(event.status) != SIGKILL)
        return 6;
    if (spawner_signal(host->spawner, 3, 0) != -EINVAL ||
        spawner_signal(host->spawner, 3, 65) != -EINVAL)
        return 7;
    /* A signal right behind the order is not lost, wherever the child is by then. */
    for (uint64_t id = 10; id < 60; id++)
        if (host_spawn(&piped, id, ARGV("/bin/sleep", "1000")) != 0 ||
            spawner_signal(host->spawner, id, SIGTERM) != 0)
            return 8;
    for (size_t exited = 0; exited < 50;) {
        if (host_event(host, &event) != 0 || event.kind == SPAWNER_FAILED)
            return 9;
        exited += event.kind == SPAWNER_EXITED && WTERMSIG(event.status) == SIGTERM;
    }
    host->spawner = spawner_free(host->spawner);
    return 0;
}

static void test_stopping(void) {
    for_lives(host_stop);
}

/* Daemons of a child that has exited are gone while the spawner lives on; a helper in the session
 * stays. */
static int host_daemons(struct host *host) {
    struct spawner_event event;
    int out[2], helper_in[2], helper_out[2];
    char data[64];
    if (!host_start(host) || pipe2(out, O_CLOEXEC) != 0 || pipe2(helper_in, O_CLOEXEC) != 0 ||
        pipe2(helper_out, O_CLOEXEC) != 0)
        return 1;
    struct host with_helper = *host, with_tree = *host;
    with_helper.in = helper_in[0];
    with_helper.out = helper_out[1];
    with_tree.out = out[1];
    if (host_spawn(&with_helper, 1, ARGV(host->place->program, "helper")) != 0 ||
        !expect(host, SPAWNER_STARTED, 1, &event) || read(helper_out[0], data, 6) != 6)
        return 2;
    if (host_spawn(&with_tree, 2, ARGV(host->place->program, "leave")) != 0 ||
        !expect(host, SPAWNER_STARTED, 2, &event) || !expect(host, SPAWNER_EXITED, 2, &event))
        return 3;
    close(out[1]);
    struct pollfd readable = {.fd = out[0], .events = POLLIN};
    ssize_t n;
    do {
        if (poll(&readable, 1, TIMEOUT_MS) <= 0)
            return 4; /* somebody still holds the pipe */
        n = read(out[0], data, sizeof data);
    } while (n > 0);
    if (write(helper_in[1], "?", 1) != 1 || read(helper_out[0], data, sizeof data) != 6 ||
        memcmp(data, "lives\n", 6) != 0)
        return 5;
    host->spawner = spawner_free(host->spawner);
    return 0;
}

static void test_daemons(void) {
    for_lives(host_daemons);
}

static size_t count_entries(const char *path) {
    size_t n = 0;
    for (int fd = 0; fd < 512; fd++) {
        char entry[96];
        snprintf(entry, sizeof entry, "%s/%d", path, fd);
        n += faccessat(AT_FDCWD, entry, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    }
    return n;
}

static int host_thousand(struct host *host) {
    struct spawner_event event = {0};
    char fds[64], children[64], line[16];
    /* A descriptor that leaks on either side is felt long before the end. */
    if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, 64}) != 0 || !host_start(host))
        return 1;
    snprintf(fds, sizeof fds, "/proc/%d/fd", (int)spawner_pid(host->spawner));
    size_t own = count_entries("/proc/self/fd"), theirs = count_entries(fds);
    for (uint64_t id = 1; id <= 1000; id++)
        if (host_spawn(host, id, ARGV("/bin/true")) != 0 ||
            !expect(host, SPAWNER_STARTED, id, &event) ||
            !expect(host, SPAWNER_EXITED, id, &event) || event.status != 0) {
            dprintf(host->out, "HOST start %u ended with status %#x\n", (unsigned)id,
                    (unsigned)event.status);
            return 2;
        }
    for (uint64_t id = 1; id <= 100; id++)
        if (!fails(
                host,
                (struct spawner_command){.id = id, .argv = ARGV("/nonexistent"), .envp = declared},
                ENOENT, "execute"))
            return 3;
    if (count_entries("/proc/self/fd") != own || count_entries(fds) != theirs)
        return 4;
    snprintf(children, sizeof children, "/proc/%d/task/%d/children",
             (int)spawner_pid(host->spawner), (int)spawner_pid(host->spawner));
    int fd = open(children, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, line, sizeof line) != 0) /* no child, no zombie */
        return 5;
    close(fd);
    host->spawner = spawner_free(host->spawner);
    return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD ? 0 : 6;
}

static void test_thousand_starts(void) {
    for_lives(host_thousand);
}

/* ---- kill -9 ---- */

static int host_waits(struct host *host) {
    if (!host_start(host))
        return 1;
    for (uint64_t id = 1; id <= 3; id++)
        if (host_spawn(host, id, ARGV(host->place->program, "tree")) != 0)
            return 2;
    for (;;)
        pause();
}

static void test_gateway_is_killed(void) {
    for (size_t i = 0; i < ARRAY_LEN(lives); i++) {
        struct place place;
        if (!is_possible(lives[i].identity) ||
            (lives[i].expected == SPAWNER_ISOLATION_LANDLOCK && landlock_abi() == 0))
            continue;
        test_row(lives[i].name);
        CHECK(prepare(&place, &lives[i]));
        for (int round = 0; round < 50; round++) {
            struct run run;
            run_start(&run, &lives[i], &place, host_waits);
            bool ready = run_read(&run, "ready\n", 3);
            CHECK(ready);
            CHECK_INT(kill(run.pid, SIGKILL), 0);
            int status = run_end(&run, false);
            CHECK(status >= 0 && WIFSIGNALED(status));
            buf_deinit(&run.output);
            unlink(path_in(place.hidden, "control.sock"));
            unlink(path_in(place.hidden, "datagram.sock"));
            if (!ready)
                break;
        }
        remove_tree(place.base);
    }
}

static int host_storm(struct host *host) {
    struct spawner_event event;
    if (!host_start(host) || host_spawn(host, 1, ARGV(host->place->program, "storm")) != 0 ||
        !expect(host, SPAWNER_STARTED, 1, &event) || !expect(host, SPAWNER_EXITED, 1, &event))
        return 1;
    host->spawner = spawner_free(host->spawner);
    return 0;
}

/* What forks faster than it can be counted is reached by one kill(2) of all. */
static void test_fork_storm(void) {
    for (size_t i = 0; i < ARRAY_LEN(lives); i++) {
        struct place place;
        bool is_landlock = lives[i].expected == SPAWNER_ISOLATION_LANDLOCK;
        if (!is_possible(lives[i].identity) || lives[i].expected == SPAWNER_ISOLATION_NONE ||
            (is_landlock && landlock_abi() < 6))
            continue;
        test_row(lives[i].name);
        CHECK(prepare(&place, &lives[i]));
        struct buf output = run_whole(&lives[i], &place, host_storm, 0);
        buf_deinit(&output);
        remove_tree(place.base);
    }
}

static int host_loses_spawner(struct host *host) {
    struct spawner_event event;
    int out[2];
    char data[64];
    if (!host_start(host) || pipe2(out, O_CLOEXEC) != 0)
        return 1;
    struct host with_tree = *host;
    with_tree.out = out[1];
    if (host_spawn(&with_tree, 1, ARGV(host->place->program, "tree")) != 0 ||
        !expect(host, SPAWNER_STARTED, 1, &event) || read(out[0], data, 6) != 6)
        return 2;
    close(out[1]);
    if (kill(spawner_pid(host->spawner), SIGKILL) != 0)
        return 3;
    int received = host_event(host, &event);
    int signalled = spawner_signal(host->spawner, 1, SIGTERM);
    int spawned = host_spawn(host, 2, ARGV("/bin/true"));
    host->spawner = spawner_free(host->spawner);
    struct pollfd readable = {.fd = out[0], .events = POLLIN};
    if (poll(&readable, 1, 0) != 1 || read(out[0], data, sizeof data) != 0)
        return 4; /* EOF at once: spawner_free() has ended them all */
    if (received == -EPIPE && signalled == -EPIPE && spawned == -EPIPE)
        return 0;
    dprintf(host->out, "HOST got %d, %d, %d for the dead spawner\n", received, signalled, spawned);
    return 5;
}

static void test_spawner_is_killed(void) {
    for_lives(host_loses_spawner);
}

/* Two spawners, as the gateway has them: what one leaves behind is swept, the other is spared. */
static int host_two(struct host *host) {
    struct spawner_event event;
    const struct spawner_options plain = {0};
    struct host other = *host;
    int out[2];
    char data[64];
    if (!host_start(host) || spawner_start(&plain, &other.spawner) != 0 ||
        pipe2(out, O_CLOEXEC) != 0)
        return 1;
    other.out = out[1];
    if (host_spawn(&other, 1, ARGV(host->place->program, "tree")) != 0 ||
        !expect(&other, SPAWNER_STARTED, 1, &event) || read(out[0], data, 6) != 6 ||
        host_spawn(host, 1, ARGV("/bin/sleep", "1000")) != 0 ||
        !expect(host, SPAWNER_STARTED, 1, &event))
        return 2;
    close(out[1]);
    if (kill(spawner_pid(other.spawner), SIGKILL) != 0 || host_event(&other, &event) != -EPIPE)
        return 3;
    other.spawner = spawner_free(other.spawner);
    struct pollfd readable = {.fd = out[0], .events = POLLIN};
    if (poll(&readable, 1, 0) != 1 || read(out[0], data, sizeof data) != 0)
        return 4;
    if (spawner_signal(host->spawner, 1, SIGTERM) != 0 ||
        !expect(host, SPAWNER_EXITED, 1, &event) || WTERMSIG(event.status) != SIGTERM)
        return 5;
    host->spawner = spawner_free(host->spawner);
    return 0;
}

static void test_two_spawners(void) {
    for_lives(host_two);
}

/* ---- the rest ---- */

static int host_latency(struct host *host) {
    static uint64_t times[300];
    struct spawner_event event;
    if (!host_start(host))
        return 1;
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        uint64_t start = clock_monotonic_ns();
        if (host_spawn(host, i, ARGV("/bin/true")) != 0 ||
            !expect(host, SPAWNER_STARTED, i, &event) || !expect(host, SPAWNER_EXITED, i, &event))
            return 2;
        times[i] = clock_monotonic_ns() - start;
    }
    for (size_t i = 1; i < ARRAY_LEN(times); i++)
        for (size_t k = i; k > 0 && times[k - 1] > times[k]; k--) {
            uint64_t swap = times[k];
            times[k] = times[k - 1];
            times[k - 1] = swap;
        }
    dprintf(host->out, "median %u us, 99th %u us\n", (unsigned)(times[150] / 1000),
            (unsigned)(times[297] / 1000));
    host->spawner = spawner_free(host->spawner);
    return 0;
}

static void test_latency(void) {
    for (size_t i = 0; i < ARRAY_LEN(lives); i++) {
        struct place place;
        if (!is_possible(lives[i].identity) ||
            (lives[i].expected == SPAWNER_ISOLATION_LANDLOCK && landlock_abi() == 0))
            continue;
        CHECK(prepare(&place, &lives[i]));
        struct buf output = run_whole(&lives[i], &place, host_latency, 0);
        printf("# %s: start to exit of /bin/true: %.*s", lives[i].name,
               SLICE_ARGS(buf_slice(&output)));
        buf_deinit(&output);
        remove_tree(place.base);
    }
}

static void test_bad_options(void) {
    struct spawner *spawner = NULL;
    static const struct {
        const char *name, *path;
        int error;
    } rows[] = {
        {"relative", "data", -EINVAL},
        {"everything", "/", -EINVAL},
        {"everything, in other words", "/tmp/..", -EINVAL},
        {"not there", "/nonexistent/data", -ENOENT},
        {"a file", "/etc/passwd", -ENOTDIR},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct spawner_options options = {.hide_path = rows[i].path,
                                                .allow_namespaces = true};
        test_row(rows[i].name);
        CHECK_INT(spawner_start(&options, &spawner), rows[i].error);
        CHECK(spawner == NULL);
    }
    CHECK(spawner_free(NULL) == NULL);
}

/* hide_path is given and nothing is allowed: it starts, and says that there is no isolation. */
static void test_no_isolation_is_said(void) {
    struct place place;
    struct spawner *spawner = NULL;
    const struct spawner_options options = {.hide_path = place.hidden};
    int reason = 0;
    REQUIRE(place_make(&place));
    REQUIRE(spawner_start(&options, &spawner) == 0);
    CHECK_INT(spawner_isolation(spawner), SPAWNER_ISOLATION_NONE);
    CHECK(spawner_isolation_refused(spawner, &reason) == NULL);
    struct spawner_event event;
    CHECK_INT(spawner_receive(spawner, &event), -EAGAIN);
    spawner = spawner_free(spawner);
    CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
    remove_tree(place.base);
}

static void test_is_subreaper(void) {
    sigset_t child_signal;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    CHECK_INT(sigprocmask(SIG_BLOCK, &child_signal, NULL), 0);
    CHECK_INT(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    signal(SIGPIPE, SIG_IGN); /* as the gateway does; children must not inherit it */
    if (geteuid() != 0)
        printf("# not root: the scenarios of root are not run\n");
    printf("# Landlock ABI %d\n", landlock_abi());
}

TEST_MAIN(TEST(test_is_subreaper), TEST(test_bad_options), TEST(test_no_isolation_is_said),
          TEST(test_probes_can_succeed), TEST(test_probes), TEST(test_failures_to_start),
          TEST(test_size_of_orders), TEST(test_stopping), TEST(test_daemons),
          TEST(test_thousand_starts), TEST(test_gateway_is_killed), TEST(test_fork_storm),
          TEST(test_spawner_is_killed), TEST(test_two_spawners), TEST(test_latency))
