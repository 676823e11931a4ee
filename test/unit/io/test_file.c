/* Small files: limits, modes, links in the way, locks; and without memory. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "test.h"

struct place {
    char base[64];
};

static bool place_make(struct place *place) {
    snprintf(place->base, sizeof place->base, "%s/cardea-test-XXXXXX", P_tmpdir);
    return mkdtemp(place->base) != NULL;
}

/* Valid until the sixteenth call behind it. */
static const char *path_in(const struct place *place, const char *name) {
    static char paths[16][256];
    static unsigned next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", place->base, name);
    return path;
}

static int mode_of(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0 ? (int)(info.st_mode & 07777) : -1;
}

static void test_create_and_read(void) {
    struct place place;
    REQUIRE(place_make(&place));
    const char *path = path_in(&place, "file"), *link = path_in(&place, "link");
    static char content[40000];
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (char)(i * 7);
    mode_t mask = umask(0);
    CHECK_INT(io_file_create_private(path, slice_make(content, sizeof content)), 0);
    umask(mask);
    CHECK_INT(mode_of(path), 0600);
    CHECK_INT(io_file_create_private(path, SLICE("other")), -EEXIST);
    struct buf exact CLEANUP(buf_deinit) = BUF_INIT(sizeof content);
    CHECK_INT(io_file_read(path, &exact), 0);
    CHECK_SLICE(buf_slice(&exact), slice_make(content, sizeof content));
    struct buf small CLEANUP(buf_deinit) = BUF_INIT(sizeof content - 1);
    CHECK_INT(io_file_read(path, &small), -EFBIG);
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(100);
    CHECK_INT(io_file_read(path_in(&place, "none"), &out), -ENOENT);
    CHECK_INT(io_file_read(place.base, &out), -EISDIR);
    CHECK_INT(buf_len(&out), 0);
    /* A link in the way is never followed, wherever it leads. */
    CHECK_INT(symlink(path_in(&place, "none"), link), 0);
    CHECK_INT(io_file_create_private(link, SLICE("x")), -EEXIST);
    CHECK_INT(access(path_in(&place, "none"), F_OK), -1);
    CHECK_INT(io_file_create_private(path_in(&place, "none/file"), SLICE("x")), -ENOENT);
    CHECK_INT(unlink(link), 0);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(rmdir(place.base), 0);
}

static void test_read_regular(void) {
    struct place place;
    REQUIRE(place_make(&place));
    struct stat info = {.st_size = -1};
    struct buf exact CLEANUP(buf_deinit) = BUF_INIT(5);
    struct buf small CLEANUP(buf_deinit) = BUF_INIT(4);
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(100);
    const char *path = path_in(&place, "file"), *fifo = path_in(&place, "fifo");
    CHECK_INT(io_file_create_private(path, SLICE("12345")), 0);
    CHECK_INT(io_file_read_regular(path, &exact, &info), 0);
    CHECK_SLICE(buf_slice(&exact), SLICE("12345"));
    CHECK_INT(info.st_size, 5);
    CHECK_INT(io_file_read_regular(path, &small, NULL), -EFBIG);
    CHECK_INT(io_file_read_regular(path_in(&place, "none"), &out, NULL), -ENOENT);
    CHECK_INT(io_file_read_regular(place.base, &out, NULL), -EISDIR);
    CHECK_INT(mkfifo(fifo, 0600), 0);
    CHECK_INT(io_file_read_regular(fifo, &out, NULL), -EINVAL); /* without waiting for a writer */
    CHECK_INT(io_file_read_regular("/dev/zero", &out, NULL), -EINVAL);
    CHECK_INT(buf_len(&out), 0);
    CHECK_INT(io_file_read_regular("/proc/self/stat", &out, NULL), -EFBIG); /* its size is 0 */
    CHECK_INT(unlink(fifo), 0);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(rmdir(place.base), 0);
}

static void test_put_private(void) {
    struct place place;
    REQUIRE(place_make(&place));
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(100);
    const char *path = path_in(&place, "file"), *new = path_in(&place, "file.new");
    CHECK_INT(io_file_put_private(path, SLICE("first")), 0);
    CHECK_INT(mode_of(path), 0600);
    CHECK_INT(chmod(path, 0644), 0);
    CHECK_INT(io_file_create_private(new, SLICE("of one that was killed")), 0);
    CHECK_INT(io_file_put_private(path, SLICE("second")), 0);
    CHECK_INT(mode_of(path), 0600);
    CHECK_INT(mode_of(new), -1);
    CHECK_INT(io_file_read(path, &out), 0);
    CHECK_SLICE(buf_slice(&out), SLICE("second"));
    CHECK_INT(io_file_put_private(path_in(&place, "none/file"), SLICE("x")), -ENOENT);
    CHECK_INT(mkdir(path_in(&place, "folder"), 0700), 0);
    CHECK_INT(io_file_put_private(path_in(&place, "folder"), SLICE("x")), -EISDIR);
    CHECK_INT(mode_of(path_in(&place, "folder.new")), -1);
    CHECK_INT(rmdir(path_in(&place, "folder")), 0);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(rmdir(place.base), 0);
}

static void test_empty_file(void) {
    struct place place;
    REQUIRE(place_make(&place));
    const char *path = path_in(&place, "file");
    CHECK_INT(io_file_create_private(path, SLICE("")), 0);
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(0);
    CHECK_INT(io_file_read(path, &out), 0);
    CHECK_INT(buf_len(&out), 0);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(rmdir(place.base), 0);
}

static void test_directories(void) {
    struct place place;
    REQUIRE(place_make(&place));
    mode_t mask = umask(0);
    CHECK_INT(io_directory_make(path_in(&place, "a/b//c/")), 0);
    umask(mask);
    CHECK_INT(mode_of(path_in(&place, "a")), 0700);
    CHECK_INT(mode_of(path_in(&place, "a/b")), 0700);
    CHECK_INT(mode_of(path_in(&place, "a/b/c")), 0700);
    CHECK_INT(io_directory_make(path_in(&place, "a/b/c")), 0);
    CHECK_INT(io_directory_make(place.base), 0);
    CHECK_INT(io_file_create_private(path_in(&place, "file"), SLICE("x")), 0);
    CHECK_INT(io_directory_make(path_in(&place, "file")), -ENOTDIR);
    CHECK_INT(io_directory_make(path_in(&place, "file/below")), -ENOTDIR);
    CHECK_INT(io_directory_make(""), -ENOENT);
    CHECK_INT(io_directory_make("/"), 0);
    CHECK_INT(symlink(path_in(&place, "nowhere"), path_in(&place, "link")), 0);
    CHECK(io_directory_make(path_in(&place, "link")) < 0);
    CHECK_INT(unlink(path_in(&place, "link")), 0);
    CHECK_INT(unlink(path_in(&place, "file")), 0);
    CHECK_INT(rmdir(path_in(&place, "a/b/c")), 0);
    CHECK_INT(rmdir(path_in(&place, "a/b")), 0);
    CHECK_INT(rmdir(path_in(&place, "a")), 0);
    CHECK_INT(rmdir(place.base), 0);
}

static void test_lock(void) {
    struct place place;
    REQUIRE(place_make(&place));
    const char *path = path_in(&place, "lock"), *link = path_in(&place, "link");
    int first = -1, second = -1;
    REQUIRE(io_lock_file(path, &first) == 0);
    CHECK_INT(mode_of(path), 0600);
    CHECK((fcntl(first, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_INT(io_lock_file(path, &second), -EWOULDBLOCK);
    CHECK_INT(second, -1);
    io_fd_close(&first);
    CHECK_INT(first, -1);
    io_fd_close(&first);
    CHECK_INT(io_lock_file(path, &second), 0);
    io_fd_close(&second);
    CHECK_INT(symlink(path, link), 0);
    CHECK_INT(io_lock_file(link, &second), -ELOOP);
    CHECK_INT(unlink(link), 0);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(rmdir(place.base), 0);
}

static void test_append(void) {
    struct place place;
    REQUIRE(place_make(&place));
    const char *path = path_in(&place, "log"), *link = path_in(&place, "link");
    for (int round = 0; round < 2; round++) {
        int fd = -1;
        REQUIRE(io_file_open_append(path, &fd) == 0);
        CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        CHECK_INT(write(fd, "ab", 2), 2);
        io_fd_close(&fd);
    }
    CHECK_INT(mode_of(path), 0600);
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(10);
    CHECK_INT(io_file_read(path, &out), 0);
    CHECK_STR(buf_slice(&out), "abab");
    int fd = -1;
    CHECK_INT(symlink(path, link), 0);
    CHECK_INT(io_file_open_append(link, &fd), -ELOOP);
    CHECK_INT(fd, -1);
    CHECK_INT(unlink(link), 0);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(rmdir(place.base), 0);
}

static void test_descriptors(void) {
    int fds[2] = {-1, -1}, null = -1;
    char byte = 0;
    REQUIRE(io_pipe(&fds[0], &fds[1]) == 0);
    CHECK((fcntl(fds[0], F_GETFD) & FD_CLOEXEC) != 0 && (fcntl(fds[1], F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_INT(write(fds[1], "x", 1), 1);
    CHECK_INT(read(fds[0], &byte, 1), 1);
    CHECK_INT(byte, 'x');
    CHECK_INT(io_null_open(&null), 0);
    CHECK_INT(read(null, &byte, 1), 0);
    io_fd_close(&null);
    io_fd_close(&fds[0]);
    io_fd_close(&fds[1]);
}

static void test_replace(void) {
    struct place place;
    REQUIRE(place_make(&place));
    const char *file = path_in(&place, "file"), *symbolic = path_in(&place, "link");
    const char *other = path_in(&place, "other");
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(100);
    struct stat info;
    CHECK_INT(io_file_create_private(file, SLICE("old")), 0);
    CHECK_INT(chmod(file, 0640), 0);
    /* As root owner and group can be anybody's, and have to stay. */
    bool is_root = geteuid() == 0;
    if (is_root)
        CHECK_INT(chown(file, 65534, 65533), 0);
    /* Through a link, which stays one. */
    CHECK_INT(symlink("file", symbolic), 0);
    CHECK_INT(io_file_replace(symbolic, SLICE("old"), SLICE("the new")), 0);
    CHECK_INT(lstat(symbolic, &info), 0);
    CHECK(S_ISLNK(info.st_mode));
    CHECK_INT(mode_of(file), 0640);
    CHECK_INT(stat(file, &info), 0);
    if (is_root)
        CHECK(info.st_uid == 65534 && info.st_gid == 65533);
    CHECK_INT(io_file_read(file, &out), 0);
    CHECK_STR(buf_slice(&out), "the new");
    /* It holds something else: longer, shorter, of the same length. */
    CHECK_INT(io_file_replace(file, SLICE("old"), SLICE("x")), -ESTALE);
    CHECK_INT(io_file_replace(file, SLICE("the new "), SLICE("x")), -ESTALE);
    CHECK_INT(io_file_replace(file, SLICE("the old"), SLICE("x")), -ESTALE);
    /* Nor is what is no file of its own. */
    CHECK_INT(io_file_replace(place.base, SLICE_EMPTY, SLICE("x")), -EINVAL);
    CHECK_INT(io_file_replace(path_in(&place, "none"), SLICE_EMPTY, SLICE("x")), -ENOENT);
    CHECK_INT(link(file, other), 0);
    CHECK_INT(io_file_replace(file, SLICE("the new"), SLICE("x")), -EMLINK);
    buf_reset(&out, 0);
    CHECK_INT(io_file_read(file, &out), 0);
    CHECK_STR(buf_slice(&out), "the new");
    CHECK_INT(unlink(symbolic), 0);
    CHECK_INT(unlink(other), 0);
    CHECK_INT(unlink(file), 0);
    CHECK_INT(rmdir(place.base), 0); /* and so nothing is left beside it */
}

/* Read without the allocator that is failing. */
static bool holds(const char *path, const char *text) {
    char bytes[64] = {0};
    FILE *stream = fopen(path, "rb");
    size_t n = stream != NULL ? fread(bytes, 1, sizeof bytes - 1, stream) : 0;
    if (stream != NULL)
        fclose(stream);
    return n == strlen(text) && memcmp(bytes, text, n) == 0;
}

/* Done or not done; the last step, making the new name durable, may fail behind it. */
static void torture_replace(void *arg) {
    const char *path = path_in(arg, "file");
    const char *old = holds(path, "content") ? "content" : "other";
    const char *new = strcmp(old, "content") == 0 ? "other" : "content";
    int r = io_file_replace(path, slice_from_cstr(old), slice_from_cstr(new));
    CHECK(r == -ENOMEM || r == 0);
    CHECK(holds(path, new) || (r != 0 && holds(path, old)));
}

static void torture_body(void *arg) {
    const struct place *place = arg;
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(100);
    int r = io_file_read(path_in(place, "file"), &out);
    CHECK(r == -ENOMEM || (r == 0 && slice_eq(buf_slice(&out), SLICE("content"))));
    r = io_directory_make(path_in(place, "d/e"));
    CHECK(r == -ENOMEM || r == 0);
    CHECK_INT(access(path_in(place, "d/e"), F_OK), r == 0 ? 0 : -1);
    rmdir(path_in(place, "d/e"));
    rmdir(path_in(place, "d"));
}

static void test_out_of_memory(void) {
    struct place place;
    REQUIRE(place_make(&place));
    CHECK_INT(io_file_create_private(path_in(&place, "file"), SLICE("content")), 0);
    test_torture(torture_body, &place);
    test_torture(torture_replace, &place);
    CHECK_INT(unlink(path_in(&place, "file")), 0);
    CHECK_INT(rmdir(place.base), 0);
}

TEST_MAIN(TEST(test_create_and_read), TEST(test_read_regular), TEST(test_put_private),
          TEST(test_empty_file), TEST(test_directories), TEST(test_lock), TEST(test_append),
          TEST(test_descriptors), TEST(test_replace), TEST(test_out_of_memory))
