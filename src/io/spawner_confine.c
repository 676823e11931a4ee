/*
 * Landlock as a hiding place. Landlock knows grants only, and a grant on a directory holds for all
 * beneath it. To hide one directory, everything else is granted: each entry of "/" that does not
 * lead to it, then each entry of the next directory on the way that does not, and so on. What
 * follows:
 *   - in the directories on the way, new entries cannot be made, those made later are not visible,
 * and they cannot be listed (a right to list them would hold for the hidden directory as well);
 *   - stat, chmod, chown, utime and the like are not judged by Landlock: a child of the same user
 * can see that files exist, and can spoil their attributes, but neither read nor change what is in
 * them;
 *   - connect(2) to a socket's path is not judged either, so that children under these rules get no
 * Unix socket at all (seccomp); socketpair(2) stays, but for datagrams, which could be connected
 * again.
 */
#include "spawner_confine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

/* ---- capabilities ---- */

uint64_t caps_effective(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    if (syscall(SYS_capget, &header, data) != 0)
        return 0;
    return (uint64_t)data[1].effective << 32 | data[0].effective;
}

uint64_t caps_harmless(void) {
    return UINT64_C(1) << CAP_CHOWN | UINT64_C(1) << CAP_DAC_OVERRIDE | UINT64_C(1) << CAP_FOWNER |
           UINT64_C(1) << CAP_FSETID | UINT64_C(1) << CAP_KILL | UINT64_C(1) << CAP_SETGID |
           UINT64_C(1) << CAP_SETUID | UINT64_C(1) << CAP_NET_BIND_SERVICE;
}

int caps_limit(uint64_t keep) {
    /* EPERM: there is no CAP_SETPCAP; then no_new_privs alone keeps execve(2) from giving more than
     * is held. */
    for (unsigned long cap = 0; cap < 64; cap++)
        if ((keep >> cap & 1) == 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0 && errno == EINVAL)
            break;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL)
        return -errno;

    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    if (syscall(SYS_capget, &header, data) != 0)
        return -errno;
    for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        uint32_t mask = (uint32_t)(keep >> (32 * i));
        data[i].permitted &= mask;
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    return syscall(SYS_capset, &header, data) != 0 ? -errno : 0;
}

/* ---- Landlock ---- */

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif

/* Our own names and layout: kernel headers of the build machine may be older than the kernel that
 * runs. */
enum {
    LL_EXECUTE = 1 << 0,
    LL_WRITE_FILE = 1 << 1,
    LL_READ_FILE = 1 << 2,
    LL_READ_DIR = 1 << 3,
    LL_MAKE_CHAR = 1 << 6,
    LL_MAKE_BLOCK = 1 << 11,
    LL_ALL_ABI_1 = (1 << 13) - 1,
    LL_REFER = 1 << 13,
    LL_TRUNCATE = 1 << 14,

    LL_OF_FILES = LL_EXECUTE | LL_WRITE_FILE | LL_READ_FILE | LL_TRUNCATE,
    LL_READ_ONLY = LL_EXECUTE | LL_READ_FILE | LL_READ_DIR,

    LL_SCOPE_ABSTRACT_UNIX = 1 << 0,
    LL_SCOPE_SIGNAL = 1 << 1,
};

#define LL_VERSION      1u
#define LL_PATH_BENEATH 1

struct ll_ruleset {
    uint64_t handled_fs;
    uint64_t handled_net; /* ABI 4 */
    uint64_t scoped;      /* ABI 6 */
};

struct ll_path {
    uint64_t allowed;
    int32_t fd;
}; /* the kernel's is packed; it reads these twelve bytes and no padding */

int landlock_abi(void) {
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LL_VERSION);
    return abi > 0 ? (int)abi : 0;
}

static int ruleset_new(uint64_t handled_fs, uint64_t scoped, int *ret_fd) {
    struct ll_ruleset rules = {.handled_fs = handled_fs, .scoped = scoped};
    size_t size = scoped != 0 ? sizeof rules : sizeof rules.handled_fs;
    long fd = syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (fd < 0)
        return -errno;
    *ret_fd = (int)fd;
    return 0;
}

static int ruleset_grant(int ruleset_fd, int fd, uint64_t rights) {
    struct ll_path rule = {.allowed = rights, .fd = fd};
    if (rights == 0)
        return 0;
    return syscall(SYS_landlock_add_rule, ruleset_fd, LL_PATH_BENEATH, &rule, 0) != 0 ? -errno : 0;
}

int landlock_enter(int ruleset_fd) {
    return syscall(SYS_landlock_restrict_self, ruleset_fd, 0) != 0 ? -errno : 0;
}

struct hiding {
    const struct hidden_paths *hidden;
    bool is_root;
    int ruleset_fd;
    uint64_t handled;
};

static bool is_on_the_way(const struct hidden_paths *hidden, const char *path,
                          bool *ret_is_hidden) {
    size_t len = strlen(path);
    bool leads = false;
    *ret_is_hidden = false;
    for (size_t i = 0; i < hidden->count; i++) {
        if (strcmp(hidden->path[i], path) == 0)
            *ret_is_hidden = true;
        else if (strncmp(hidden->path[i], path, len) == 0 && hidden->path[i][len] == '/')
            leads = true;
    }
    return leads;
}

/* Root needs no file of the data directory where it may open the disk or give the kernel a program
 * to run. */
static uint64_t rights_for(const struct hiding *hiding, const char *path) {
    if (!hiding->is_root)
        return hiding->handled;
    if (strcmp(path, "/proc") == 0 || strcmp(path, "/sys") == 0)
        return LL_READ_ONLY;
    if (strcmp(path, "/dev") == 0)
        return LL_READ_DIR;
    return hiding->handled & ~(uint64_t)(LL_MAKE_CHAR | LL_MAKE_BLOCK);
}

static int grant_root_devices(const struct hiding *hiding) {
    static const char *const names[] = {"/dev/null",   "/dev/zero", "/dev/full",
                                        "/dev/random", "/dev/tty",  "/dev/urandom",
                                        "/dev/ptmx",   "/dev/pts",  "/dev/shm"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct stat st;
        int fd = open(names[i], O_PATH | O_CLOEXEC);
        if (fd < 0)
            continue;
        int error = 0;
        if (fstat(fd, &st) == 0) {
            uint64_t rights = hiding->handled & ~(uint64_t)(LL_MAKE_CHAR | LL_MAKE_BLOCK);
            error = ruleset_grant(hiding->ruleset_fd, fd,
                                  S_ISDIR(st.st_mode) ? rights : rights & LL_OF_FILES);
        }
        close(fd);
        if (error != 0)
            return error;
    }
    return 0;
}

static int grant_around(const struct hiding *hiding, int dir_fd, const char *path, unsigned depth);

static int grant_entry(const struct hiding *hiding, int dir_fd, const char *dir, const char *name,
                       unsigned depth) {
    char path[4096];
    int len = snprintf(path, sizeof path, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, name);
    if (len < 0 || (size_t)len >= sizeof path)
        return -ENAMETOOLONG;

    bool is_hidden;
    bool leads = is_on_the_way(hiding->hidden, path, &is_hidden);
    if (is_hidden)
        return 0;
    int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return 0; /* gone, or not ours to see: then it is not granted */
    struct stat st;
    if (fstat(fd, &st) != 0 || S_ISLNK(st.st_mode)) {
        close(fd);
        return 0; /* where a link leads is judged there */
    }
    int error;
    if (leads) {
        error = grant_around(hiding, fd, path, depth + 1);
    } else {
        uint64_t rights = rights_for(hiding, path);
        error = ruleset_grant(hiding->ruleset_fd, fd,
                              S_ISDIR(st.st_mode) ? rights : rights & LL_OF_FILES);
    }
    close(fd);
    return error;
}

static int grant_around(const struct hiding *hiding, int dir_fd, const char *path, unsigned depth) {
    if (depth > 64)
        return -ELOOP;
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES ? 0 : -errno; /* cannot be listed: nothing in it is granted */
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int error = -errno;
        close(fd);
        return error;
    }
    int error = 0;
    for (struct dirent *entry; error == 0 && (entry = readdir(dir)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            error = grant_entry(hiding, dirfd(dir), path, entry->d_name, depth);
    closedir(dir);
    return error;
}

int landlock_hide(const struct hidden_paths *hidden, bool is_root, int *ret_fd) {
    int abi = landlock_abi();
    if (abi < 1)
        return -EOPNOTSUPP;
    struct hiding hiding = {.hidden = hidden, .is_root = is_root, .handled = LL_ALL_ABI_1};
    if (abi >= 2)
        hiding.handled |= LL_REFER;
    if (abi >= 3)
        hiding.handled |= LL_TRUNCATE;
    uint64_t scoped = abi >= 6 ? LL_SCOPE_ABSTRACT_UNIX | LL_SCOPE_SIGNAL : 0;
    int error = ruleset_new(hiding.handled, scoped, &hiding.ruleset_fd);
    if (error != 0)
        return error;

    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    error = root < 0 ? -errno : grant_around(&hiding, root, "/", 0);
    if (root >= 0)
        close(root);
    if (error == 0 && is_root)
        error = grant_root_devices(&hiding);
    if (error != 0) {
        close(hiding.ruleset_fd);
        return error;
    }
    *ret_fd = hiding.ruleset_fd;
    return 0;
}

int landlock_separate(int *ret_fd) {
    int abi = landlock_abi();
    if (abi >= 6)
        return ruleset_new(0, LL_SCOPE_ABSTRACT_UNIX | LL_SCOPE_SIGNAL, ret_fd);
    /* Before: any domain keeps tracers out. This one forbids what no child needs; ABI 1 would also
       forbid to move files between directories, which is too much. */
    if (abi < 2)
        return -EOPNOTSUPP;
    int fd = -1;
    int error = ruleset_new(LL_MAKE_BLOCK | LL_REFER, 0, &fd);
    if (error != 0)
        return error;
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    error = root < 0 ? -errno : ruleset_grant(fd, root, LL_REFER);
    if (root >= 0)
        close(root);
    if (error != 0) {
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

int landlock_scope_signals(int *ret_fd) {
    return landlock_abi() >= 6 ? ruleset_new(0, LL_SCOPE_SIGNAL, ret_fd) : -EOPNOTSUPP;
}

/* ---- seccomp ---- */

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && !defined(__AARCH64EB__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define NATIVE_ARCH AUDIT_ARCH_RISCV64
#endif

#ifdef NATIVE_ARCH

#define LOW_WORD(n)                                                                                \
    ((uint32_t)(offsetof(struct seccomp_data, args) + 8 * (n))) /* little-endian                   \
                                                                 */
#define LOAD(offset)                                                                               \
    { BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)(offset) }
#define JUMP_IF(op, value, if_true, if_false)                                                      \
    { BPF_JMP | (op) | BPF_K, (if_true), (if_false), (uint32_t)(value) }
#define RETURN(value)                                                                              \
    { BPF_RET | BPF_K, 0, 0, (uint32_t)(value) }
#define REFUSE(error) RETURN(SECCOMP_RET_ERRNO | ((error)&SECCOMP_RET_DATA))

static int seccomp_enter(bool denies_truncate) {
    /* Jumps count from the next line; the last two lines are where they end. */
    struct sock_filter code[] = {
        /* Another ABI of the same machine (32-bit, x32) has other numbers for the same calls:
           refused whole. */
        LOAD(offsetof(struct seccomp_data, arch)),
        JUMP_IF(BPF_JEQ, NATIVE_ARCH, 1, 0),
        REFUSE(ENOSYS),
        LOAD(offsetof(struct seccomp_data, nr)),
        JUMP_IF(BPF_JGE, 0x40000000u, 0, 1),
        REFUSE(ENOSYS),
        /* io_uring makes and connects sockets without these calls. */
        JUMP_IF(BPF_JEQ, SYS_io_uring_setup, 0, 1),
        REFUSE(ENOSYS),
        JUMP_IF(BPF_JEQ, denies_truncate ? SYS_truncate : SYS_io_uring_setup, 0, 1),
        REFUSE(EACCES),
        JUMP_IF(BPF_JEQ, SYS_socket, 0, 2),
        LOAD(LOW_WORD(0)), /* the family */
        JUMP_IF(BPF_JEQ, AF_UNIX, 6, 5),
        JUMP_IF(BPF_JEQ, SYS_socketpair, 0, 4),
        LOAD(LOW_WORD(1)),                      /* the type, */
        {BPF_ALU | BPF_AND | BPF_K, 0, 0, 0xf}, /* without SOCK_CLOEXEC and SOCK_NONBLOCK */
        JUMP_IF(BPF_JEQ, SOCK_STREAM, 1, 0),
        JUMP_IF(BPF_JEQ, SOCK_SEQPACKET, 0, 1),
        RETURN(SECCOMP_RET_ALLOW),
        REFUSE(EACCES),
    };
    struct sock_fprog program = {.len = (unsigned short)ARRAY_LEN(code), .filter = code};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
        return -errno;
    return 0;
}

#else

static int seccomp_enter(bool denies_truncate) {
    (void)denies_truncate;
    return -EOPNOTSUPP; /* no filter for this machine: Landlock alone does not count as isolation */
}

#endif

int confine_self(const struct confinement *confinement, enum spawner_stage *ret_stage) {
    /* Also without isolation: what takes another uid on execve(2) could not be killed by an
     * unprivileged gateway. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        *ret_stage = STAGE_PRIVILEGES;
        return -errno;
    }
    if (confinement->ruleset_fd >= 0) {
        int error = landlock_enter(confinement->ruleset_fd);
        if (error != 0) {
            *ret_stage = STAGE_LANDLOCK;
            return error;
        }
    }
    if (confinement->denies_unix_socket) {
        int error = seccomp_enter(confinement->denies_truncate);
        if (error != 0) {
            *ret_stage = STAGE_SECCOMP;
            return error;
        }
    }
    return 0;
}
