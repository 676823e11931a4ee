/* `cardea store migrate | backup | restore | copy`. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"
#include "cli.h"
#include "io/file.h"

/* The configuration's store, and what its path is kept in. */
struct place {
    struct config *config;
    char *path;
    struct store_options store;
};

static void place_deinit(struct place *place) {
    config_unrefp(&place->config);
    mem_free(place->path);
}

static int find_place(const struct cli_options *options, struct place *ret_place) {
    int result = cli_load_store_config(options, &ret_place->config);
    if (result == CLI_OK)
        result = cli_store_options(options, ret_place->config, &ret_place->path, &ret_place->store);
    return result;
}

/* A command's result: for people, or for programs. */
static void tell(const struct cli_options *options, const char *key, uint64_t n, const char *text) {
    if (options->json)
        printf("{\"%s\":%" PRIu64 "}\n", key, n);
    else
        printf("%s (%s: %" PRIu64 ")\n", text, key, n);
}

static int tell_errno(const char *what, const char *path, int error) {
    fprintf(stderr, "cardea: %s %s: %s\n", what, path, strerror(-error));
    return CLI_FAILED;
}

static int copy(const struct cli_options *options, const struct store_options *from,
                struct store_options *to, const char *what, const char *done) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(16));
    uint64_t n = 0;
    to->replace = options->force;
    int error = store_copy(from, to, &n, &reason);
    if (error == STORE_E_CONFLICT && !options->force &&
        slice_find(buf_slice(&reason), SLICE("it is not empty")) != SIZE_MAX)
        buf_append_cstr(&reason, "; --force puts the other one in its place");
    if (error != 0)
        return cli_store_failed(what, &reason);
    tell(options, "rows", n, done);
    return CLI_OK;
}

int cli_store_migrate(const struct cli_options *options) {
    CLEANUP(place_deinit) struct place place = {.path = NULL};
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(16));
    size_t n = 0;
    if (options->n_arguments == 1) {
        if (access(options->arguments[0], F_OK) != 0)
            return tell_errno("cannot read", options->arguments[0], -errno);
        place.store = (struct store_options){.path = options->arguments[0]};
    } else {
        int result = find_place(options, &place);
        if (result != CLI_OK)
            return result;
    }
    if (store_migrate(&place.store, &n, &reason) != 0)
        return cli_store_failed("cannot bring the store up to date", &reason);
    tell(options, "steps", n, "the store is up to date");
    return CLI_OK;
}

/* --- backup --- */

/* Never over another file, and seen under its name when it is whole. */
static int put_in_place(const char *part, const char *path) {
    if (renameat2(AT_FDCWD, part, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL) /* a file system that cannot do that */
        return -errno;
    if (access(path, F_OK) == 0)
        return -EEXIST;
    return rename(part, path) == 0 ? 0 : -errno;
}

static void remove_part(const char *part) {
    static const char *const endings[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        CLEANUP(buf_deinit) struct buf path = BUF_INIT(KIB(8));
        buf_append_cstr(&path, part);
        buf_append_cstr(&path, endings[i]);
        if (buf_append_byte(&path, '\0') == 0)
            (void)unlink(buf_slice(&path).ptr);
    }
}

static int back_up_into(const struct cli_options *options, const struct place *place,
                        const char *part, const char *path) {
    struct store_options to = {.path = part};
    int result = copy(options, &place->store, &to, "cannot make the backup", "the backup is made");
    if (result != CLI_OK)
        return result;
    int error = put_in_place(part, path);
    return error == 0 ? CLI_OK : tell_errno("cannot make", path, error);
}

int cli_store_backup(const struct cli_options *options) {
    CLEANUP(place_deinit) struct place place = {.path = NULL};
    const char *path = options->arguments[0];
    int result = find_place(options, &place);
    if (result != CLI_OK)
        return result;
    if (access(path, F_OK) == 0)
        return tell_errno("cannot make", path, -EEXIST);
    size_t size = strlen(path) + sizeof ".part";
    CLEANUP(mem_freep) char *part = mem_xalloc(size);
    snprintf(part, size, "%s.part", path);
    int error = io_file_create_private(part, SLICE_EMPTY);
    if (error == -EEXIST) {
        fprintf(stderr,
                "cardea: there is %s: another backup is being made, or one was broken off: then "
                "remove it\n",
                part);
        return CLI_FAILED;
    }
    if (error != 0)
        return tell_errno("cannot make", part, error);
    result = back_up_into(options, &place, part, path);
    if (result != CLI_OK)
        remove_part(part);
    return result;
}

int cli_store_restore(const struct cli_options *options) {
    CLEANUP(place_deinit) struct place place = {.path = NULL};
    struct store_options from = {.path = options->arguments[0]};
    int result = find_place(options, &place);
    if (result != CLI_OK)
        return result;
    place.store.is_restored = true;
    return copy(options, &from, &place.store, "cannot restore", "the store is restored");
}

/* --- copy --- */

/* Whoever lists the processes sees what they were started with. */
static bool has_password(struct slice url) {
    struct slice user, rest, name, password;
    size_t scheme = slice_find(url, SLICE("://"));
    struct slice behind = scheme != SIZE_MAX ? slice_from(url, scheme + 3) : url;
    return (slice_cut(behind, '@', &user, &rest) && slice_cut(user, ':', &name, &password)) ||
           slice_find(url, SLICE("password=")) != SIZE_MAX;
}

int cli_store_copy(const struct cli_options *options) {
    CLEANUP(place_deinit) struct place place = {.path = NULL};
    if (options->to == NULL) {
        fprintf(stderr, "cardea: where to? cardea store copy --to postgres://USER@HOST:PORT/NAME\n"
                        "try: cardea --help\n");
        return CLI_USAGE;
    }
    struct store_options to = {.url = slice_from_cstr(options->to)};
    if (has_password(to.url)) {
        fprintf(stderr, "cardea: others see the password in the list of processes: leave it out of "
                        "the URL, and set PGPASSWORD\n");
        return CLI_USAGE;
    }
    int result = find_place(options, &place);
    if (result != CLI_OK)
        return result;
    return copy(options, &place.store, &to, "cannot copy the store",
                "the store is copied; the gateway uses it once [store] url names it");
}
