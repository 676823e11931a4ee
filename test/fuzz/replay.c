/*
 * Runs a fuzz target over a corpus without a fuzzer: one TAP test for each file or folder (with its
 * subfolders) on the command line. A folder that is missing or holds no file fails. Each input lies
 * in a block of exactly its size, so that AddressSanitizer sees the first byte read behind it;
 * short inputs are also run cut short at every length.
 */
#include <errno.h>
#include <fts.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/compiler.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_MAX   (16u * 1024u * 1024u)
#define PREFIX_MAX 512u /* inputs up to this size are also run cut short */

struct replay {
    size_t files;
    int failures;
};

static void run_exact(struct replay *replay, const uint8_t *bytes, size_t size) {
    uint8_t *copy = mem_alloc(size);
    if (copy == NULL) {
        replay->failures++;
        return;
    }
    if (size > 0)
        memcpy(copy, bytes, size);
    if (LLVMFuzzerTestOneInput(copy, size) != 0)
        replay->failures++;
    mem_free(copy);
}

static void run_bytes(struct replay *replay, const uint8_t *bytes, size_t size) {
    run_exact(replay, bytes, size);
    for (size_t cut = 0; size <= PREFIX_MAX && cut < size; cut++)
        run_exact(replay, bytes, cut);
}

static void fail(struct replay *replay, const char *path, const char *why) {
    printf("# %s: %s\n", path, why);
    replay->failures++;
}

static void run_file(struct replay *replay, const char *path, size_t size) {
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = size <= FILE_MAX ? mem_alloc(size) : NULL;
    if (file == NULL || bytes == NULL || fread(bytes, 1, size, file) != size ||
        fgetc(file) != EOF) {
        fail(replay, path, "cannot be read, or is too large");
    } else {
        run_bytes(replay, bytes, size);
        replay->files++;
    }
    mem_free(bytes);
    if (file != NULL)
        (void)fclose(file);
}

static void run_tree(struct replay *replay, char *path) {
    char *const roots[] = {path, NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (tree == NULL) {
        fail(replay, path, strerror(errno));
        return;
    }
    for (FTSENT *entry = fts_read(tree); entry != NULL; entry = fts_read(tree)) {
        if (entry->fts_info == FTS_F)
            run_file(replay, entry->fts_path, (size_t)entry->fts_statp->st_size);
        else if (entry->fts_info != FTS_D && entry->fts_info != FTS_DP)
            fail(replay, entry->fts_path, "is no file or folder that can be read");
    }
    if (fts_close(tree) != 0)
        fail(replay, path, strerror(errno));
    if (replay->files == 0)
        fail(replay, path, "no input found");
}

int main(int argc, char **argv) {
    int failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("1..%d\n", argc - 1);
    for (int i = 1; i < argc; i++) {
        struct replay replay = {.files = 0};
        run_tree(&replay, argv[i]);
        printf("%s %d - %s (%zu inputs)\n", replay.failures == 0 ? "ok" : "not ok", i, argv[i],
               replay.files);
        failed += replay.failures != 0;
    }
    return argc > 1 && failed == 0 ? 0 : 1;
}
