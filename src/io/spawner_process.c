#include "spawner_process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"

#define KILL_TIMEOUT_MS 5000u

int process_read_file(const char *path, struct buf *text) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    int error = 0;
    for (;;) {
        char *room = buf_reserve(text, 4096);
        if (room == NULL) {
            error = buf_error(text);
            break;
        }
        ssize_t n = read(fd, room, 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            error = n < 0 ? -errno : 0;
            break;
        }
        buf_commit(text, (size_t)n);
    }
    close(fd);
    return error;
}

/* The n-th (from 0) number of the line of /proc/PID/status that begins with `key`; n of SIZE_MAX:
 * how many. */
static bool status_number(struct slice status, struct slice key, size_t n, uint64_t *ret_number) {
    for (struct slice line; slice_cut(status, '\n', &line, &status);) {
        if (!slice_starts_with(line, key))
            continue;
        line = slice_trim(slice_from(line, key.len));
        size_t count = 0;
        for (struct slice word, rest = line; !slice_is_empty(rest); rest = slice_trim(rest)) {
            slice_cut(rest, '\t', &word, &rest);
            if (count++ == n)
                return slice_to_u64(word, ret_number) == 0;
        }
        *ret_number = count;
        return n == SIZE_MAX;
    }
    return false;
}

static bool read_status(const char *pid, struct buf *text) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/status", pid);
    buf_reset(text, KIB(16));
    return process_read_file(path, text) == 0;
}

static bool parse_pid(struct slice text, pid_t *ret_pid) {
    uint64_t number;
    if (slice_to_u64(text, &number) != 0 || number == 0 || number > INT32_MAX)
        return false;
    *ret_pid = (pid_t)number;
    return true;
}

/*
 * Where our own number stands among the numbers that /proc gives for us: 0 when it is of our PID
 * namespace; more when a new /proc could not be mounted and what we see is an outer one.
 */
static size_t own_depth(void) {
    struct buf text = BUF_INIT(KIB(16));
    uint64_t count = 1;
    if (!read_status("self", &text) ||
        !status_number(buf_slice(&text), SLICE("NSpid:"), SIZE_MAX, &count) || count == 0)
        count = 1;
    buf_deinit(&text);
    return (size_t)count - 1;
}

static bool translate(pid_t listed, size_t depth, pid_t *ret_pid) {
    if (depth == 0) {
        *ret_pid = listed;
        return true;
    }
    char name[16];
    snprintf(name, sizeof name, "%d", (int)listed);
    struct buf text = BUF_INIT(KIB(16));
    uint64_t number = 0;
    bool found = read_status(name, &text) &&
                 status_number(buf_slice(&text), SLICE("NSpid:"), depth, &number) && number != 0 &&
                 number <= INT32_MAX;
    buf_deinit(&text);
    if (found)
        *ret_pid = (pid_t)number;
    return found;
}

/* Calls visit(pid, parent) for all processes in /proc. */
static int each_process(void (*visit)(pid_t pid, pid_t parent, void *arg), void *arg) {
    DIR *dir = opendir("/proc");
    if (dir == NULL)
        return -errno;
    struct buf text = BUF_INIT(KIB(16));
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        pid_t pid;
        uint64_t parent;
        if (parse_pid(slice_from_cstr(entry->d_name), &pid) && read_status(entry->d_name, &text) &&
            status_number(buf_slice(&text), SLICE("PPid:"), 0, &parent))
            visit(pid, (pid_t)parent, arg);
    }
    buf_deinit(&text);
    closedir(dir);
    return 0;
}

struct child_visit {
    void (*visit)(pid_t pid, void *arg);
    void *arg;
    pid_t parent; /* as listed */
    size_t depth;
};

static void visit_if_child(pid_t pid, pid_t parent, void *arg) {
    const struct child_visit *visit = arg;
    pid_t translated;
    if (parent == visit->parent && translate(pid, visit->depth, &translated))
        visit->visit(translated, visit->arg);
}

/* Kernels without CONFIG_PROC_CHILDREN, and processes with several threads. */
static int each_child_by_parent(struct child_visit *visit) {
    char self[16];
    ssize_t len = readlink("/proc/self", self, sizeof self);
    if (len < 0)
        return -errno;
    if (!parse_pid(slice_make(self, (size_t)len), &visit->parent))
        return -EINVAL;
    return each_process(visit_if_child, visit);
}

static void visit_listed(struct slice list, const struct child_visit *visit) {
    for (struct slice word; !slice_is_empty(list);) {
        pid_t listed, pid;
        slice_cut(list, ' ', &word, &list);
        if (parse_pid(word, &listed) && translate(listed, visit->depth, &pid))
            visit->visit(pid, visit->arg);
    }
}

int process_each_child(void (*visit)(pid_t pid, void *arg), void *arg) {
    struct child_visit by_parent = {.visit = visit, .arg = arg, .depth = own_depth()};
    struct buf text = BUF_INIT(MIB(1));
    int error = process_read_file("/proc/thread-self/children", &text);
    if (error == 0)
        visit_listed(buf_slice(&text), &by_parent);
    buf_deinit(&text);
    return error == 0 ? 0 : each_child_by_parent(&by_parent);
}

/* ---- the end of all descendants ---- */

struct member {
    pid_t pid, parent;
    bool descends;
};

struct family {
    struct member *members;
    size_t count, room;
};

static void family_add(pid_t pid, pid_t parent, void *arg) {
    struct family *family = arg;
    if (family->count == family->room) {
        size_t room = family->room == 0 ? 256 : family->room * 2;
        struct member *members = mem_realloc(family->members, room * sizeof *members);
        if (members == NULL)
            return; /* the next pass finds the rest */
        family->members = members;
        family->room = room;
    }
    family->members[family->count++] = (struct member){.pid = pid, .parent = parent};
}

static int compare_members(const void *a, const void *b) {
    const struct member *first = a, *second = b;
    return (first->pid > second->pid) - (first->pid < second->pid);
}

/* Parents mostly have the lower number, so that the first pass marks nearly all. */
static size_t mark_descendants(struct family *family) {
    pid_t self = getpid();
    size_t marked = 0;
    if (family->count == 0)
        return 0;
    qsort(family->members, family->count, sizeof *family->members, compare_members);
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < family->count; i++) {
            struct member *member = &family->members[i];
            struct member key = {.pid = member->parent};
            const struct member *parent =
                bsearch(&key, family->members, family->count, sizeof key, compare_members);
            if (member->descends ||
                (member->parent != self && (parent == NULL || !parent->descends)))
                continue;
            member->descends = changed = true;
            marked++;
        }
    }
    return marked;
}

static size_t signal_descendants(int signal_number) {
    struct family family = {0};
    size_t marked = 0;
    if (each_process(family_add, &family) == 0)
        marked = mark_descendants(&family);
    for (size_t i = 0; i < family.count; i++)
        if (family.members[i].descends)
            (void)kill(family.members[i].pid, signal_number);
    mem_free(family.members);
    return marked;
}

static void kill_visited(pid_t pid, void *arg) {
    (void)arg;
    (void)kill(pid, SIGKILL);
}

static void kill_round(bool is_scoped) {
    if (is_scoped) {
        (void)kill(-1, SIGKILL);
        return;
    }
    /* First they are stopped, so that none makes another while we count; whoever was missed is in
     * the next pass. */
    for (size_t pass = 0, before = 0; pass < 8; pass++) {
        size_t found = signal_descendants(SIGSTOP);
        if (found == before)
            break;
        before = found;
    }
    (void)signal_descendants(SIGKILL);
    (void)process_each_child(kill_visited, NULL);
}

void process_kill_descendants(bool is_scoped) {
    uint64_t deadline = clock_monotonic_ms() + KILL_TIMEOUT_MS;
    while (clock_monotonic_ms() < deadline) {
        kill_round(is_scoped);
        for (;;) {
            pid_t pid = waitpid(-1, NULL, WNOHANG | __WALL);
            if (pid < 0 && errno == ECHILD)
                return; /* whoever loses its parent becomes our child: no child, no descendant */
            if (pid <= 0)
                break;
        }
        (void)poll(NULL, 0, 1);
    }
}

/* ---- what a dead spawner left ---- */

#define TICKS_PER_SECOND 100u /* USER_HZ, a constant of the kernel's interface */

struct pid_list {
    pid_t *pids;
    size_t count, max;
};

static void add_to_list(pid_t pid, void *arg) {
    struct pid_list *list = arg;
    if (list->count < list->max)
        list->pids[list->count++] = pid;
}

/* The children of this process's first thread, which is the one that makes spawners. */
static int list_children(pid_t *pids, size_t max, size_t *ret_count) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    struct pid_list list = {.pids = pids, .max = max};
    const struct child_visit visit = {.visit = add_to_list, .arg = &list};
    struct buf text = BUF_INIT(MIB(1));
    int error = process_read_file(path, &text);
    if (error == 0) {
        visit_listed(buf_slice(&text), &visit);
        *ret_count = list.count;
    }
    buf_deinit(&text);
    return error;
}

/* The time since boot in the unit of process start times. */
static uint64_t ticks_now(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_BOOTTIME, &now) != 0)
        return UINT64_MAX;
    return (uint64_t)now.tv_sec * TICKS_PER_SECOND +
           (uint64_t)now.tv_nsec / (1000000000u / TICKS_PER_SECOND);
}

/* Field 22 of /proc/PID/stat; the second is in brackets and may hold anything. */
static bool start_ticks(pid_t pid, uint64_t *ret_ticks) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    struct buf text = BUF_INIT(KIB(16)); /* reads ask for room for 4 KiB more */
    bool found = process_read_file(path, &text) == 0;
    struct slice rest = buf_slice(&text);
    size_t bracket = rest.len;
    while (bracket > 0 && rest.ptr[bracket - 1] != ')')
        bracket--;
    rest = slice_trim(slice_from(rest, bracket));
    struct slice word = SLICE_EMPTY;
    for (unsigned field = 3; found && field <= 22; field++)
        found = slice_cut(rest, ' ', &word, &rest);
    found = found && slice_to_u64(word, ret_ticks) == 0;
    buf_deinit(&text);
    return found;
}

void process_mark_set(struct process_mark *ret_mark) {
    struct process_mark mark = {.ticks = ticks_now()};
    if (list_children(mark.spared, PROCESS_SPARED_MAX, &mark.spared_count) != 0)
        mark.spared_count = 0; /* then the time alone decides, to the hundredth of a second */
    *ret_mark = mark;
}

/* A number may be given again, so the time counts as well. */
static bool is_spared(const struct process_mark *mark, pid_t pid, uint64_t start) {
    for (size_t i = 0; i < mark->spared_count; i++)
        if (mark->spared[i] == pid && start <= mark->ticks)
            return true;
    return start < mark->ticks;
}

struct sweep {
    const struct process_mark *mark;
    size_t killed;
};

static void sweep_visit(pid_t pid, void *arg) {
    struct sweep *sweep = arg;
    uint64_t start;
    pid_t session = getsid(pid);
    if (session < 0 || session == getsid(0) || !start_ticks(pid, &start) ||
        is_spared(sweep->mark, pid, start))
        return;
    sweep->killed++;
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, WNOHANG | __WALL);
}

void process_sweep_orphans(const struct process_mark *mark) {
    uint64_t deadline = clock_monotonic_ms() + KILL_TIMEOUT_MS;
    do {
        struct sweep sweep = {.mark = mark};
        struct child_visit visit = {.visit = sweep_visit, .arg = &sweep};
        if (each_child_by_parent(&visit) != 0 || sweep.killed == 0)
            return;
        (void)poll(NULL, 0, 1);
    } while (clock_monotonic_ms() < deadline);
}
