/*
 * A store of the test's own, in either database. SQLite in a folder that goes with it; PostgreSQL
 * in a server that the program starts when it is first needed, and that ends with it
 * (postgres_server.h), or in the one of $CARDEA_TEST_POSTGRES (a URL whose user may make
 * databases); each world in a database of its own.
 *
 *     static void test_of(enum store_world_kind kind) {
 *         struct store_world world;
 *         store_world_open(&world, kind);
 *         CHECK_INT(store_run(world.store, STORE_WRITE, work, &context), 0);
 *         store_world_close(&world);
 *     }
 *     STORE_TEST(test_of) // makes test_of_sqlite() and test_of_postgres()
 *     TEST_MAIN(TEST(test_of_sqlite), TEST(test_of_postgres))
 */
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "io/file.h"
#include "postgres_server.h"
#include "store/store.h"
#include "test.h"

enum store_world_kind { STORE_WORLD_SQLITE, STORE_WORLD_POSTGRES };

struct store_world {
    enum store_world_kind kind;
    char folder[64], path[96], url[512], database[32];
    struct store_options options;
    struct store *store;
    struct log *log; /* what was said: store_world_said() */
    int log_fd;
};

#define STORE_TEST(function)                                                                       \
    static void function##_sqlite(void) {                                                          \
        function(STORE_WORLD_SQLITE);                                                              \
    }                                                                                              \
    static void function##_postgres(void) {                                                        \
        function(STORE_WORLD_POSTGRES);                                                            \
    }

/* A place for a store, and options that name it. */
MAYBE_UNUSED static void store_world_make(struct store_world *world, enum store_world_kind kind) {
    static unsigned n;
    *world = (struct store_world){.kind = kind, .log_fd = memfd_create("log", MFD_CLOEXEC)};
    world->log = log_new(world->log_fd, LOG_DEBUG, LOG_STYLE_TEXT);
    snprintf(world->folder, sizeof world->folder, "/tmp/cardea-store-XXXXXX");
    if (mkdtemp(world->folder) == NULL)
        CANNOT_GO_ON();
    snprintf(world->path, sizeof world->path, "%s/store.sqlite", world->folder);
    world->options = (struct store_options){.log = world->log, .migrate = true};
    if (kind == STORE_WORLD_SQLITE) {
        world->options.path = world->path;
        return;
    }
    snprintf(world->database, sizeof world->database, "world_%ld_%u", (long)getpid(), n++);
    postgres_make_database(world->database);
    postgres_url(world->database, world->url, sizeof world->url);
    world->options.url = slice_from_cstr(world->url);
}

MAYBE_UNUSED static void store_world_said(const struct store_world *world, struct buf *out) {
    char chunk[4096];
    ssize_t n;
    off_t at = 0;
    while ((n = pread(world->log_fd, chunk, sizeof chunk, at)) > 0) {
        buf_append(out, slice_make(chunk, (size_t)n));
        at += n;
    }
}

MAYBE_UNUSED static void store_world_start(struct store_world *world) {
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    if (store_open(&world->options, &world->store, &reason) != 0) {
        fprintf(stderr, "the store cannot be opened: %.*s\n", SLICE_ARGS(buf_slice(&reason)));
        CANNOT_GO_ON();
    }
}

MAYBE_UNUSED static void store_world_open(struct store_world *world, enum store_world_kind kind) {
    store_world_make(world, kind);
    store_world_start(world);
}

MAYBE_UNUSED static void store_world_close(struct store_world *world) {
    static const char *const endings[] = {"", "-wal", "-shm", "-journal"};
    world->store = store_close(world->store);
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        char path[128];
        snprintf(path, sizeof path, "%s%s", world->path, endings[i]);
        unlink(path);
    }
    if (rmdir(world->folder) != 0)
        CANNOT_GO_ON();
    if (world->database[0] != '\0')
        postgres_drop_database(world->database);
    log_free(world->log);
    io_fd_close(&world->log_fd);
}
