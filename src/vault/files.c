/*
 * Files of the data directory that are sealed as rows of the store are, each for itself: the token,
 * and a line with the name of its key, which helps whoever has another one.
 *
 * They belong to one machine, so they need no agreement with others about the key: they are always
 * sealed under the first one. Rotation adds a key, seals them again, and drops the old key; all of
 * that, and every writing of such a file, is under one lock, with the keys as they are at that
 * moment. So nobody writes under a key that is dropped, however long the process has been running.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/file.h"
#include "private.h"

#define KEY_LINE "# under the key "

enum { CONTENT_MAX = SEALED_MAX + 128 };

static int owner_of(struct buf *owner, struct slice name) {
    return sealed_owner(owner, SLICE("file"), name);
}

/* The token; and what the line behind it says. */
static struct slice take_apart(struct slice content, char id[static VAULT_KEY_ID + 1]) {
    struct slice token = content, rest = SLICE_EMPTY;
    (void)slice_cut(content, '\n', &token, &rest);
    id[0] = '\0';
    if (!slice_starts_with(rest, SLICE(KEY_LINE)))
        return token;
    struct slice said = slice_from(rest, strlen(KEY_LINE));
    bool is_id = said.len >= VAULT_KEY_ID;
    for (size_t i = 0; i < VAULT_KEY_ID && is_id; i++)
        is_id = (said.ptr[i] >= '0' && said.ptr[i] <= '9') ||
                (said.ptr[i] >= 'a' && said.ptr[i] <= 'f');
    if (is_id)
        (void)!slice_to_cstr(slice_sub(said, 0, VAULT_KEY_ID), id, VAULT_KEY_ID + 1);
    return token;
}

/* --- one file's content --- */

/* And opens it again: what cannot be read later is not written. */
static int seal_content(const struct vault *vault, struct slice name, struct slice plain,
                        struct buf *out) {
    struct buf owner CLEANUP(buf_deinit) = BUF_INIT(512);
    struct secret *again CLEANUP(secret_freep) = NULL;
    char id[VAULT_KEY_ID + 1];
    int error = owner_of(&owner, name);
    if (error == 0)
        error = vault_seal(vault, buf_slice(&owner), clock_wall_ms() / 1000, plain, out);
    if (error == 0)
        error = vault_unseal(vault, buf_slice(&owner), buf_slice(out), &again, NULL);
    if (error == 0 && !secret_equals(again, plain))
        error = -EIO;
    if (error != 0)
        return error;
    vault_key_id(vault, 0, id);
    return buf_printf(out, "\n" KEY_LINE "%s\n", id);
}

static int open_content(const struct vault *vault, struct slice name, struct slice content,
                        struct secret **ret_plain, size_t *ret_key) {
    struct buf owner CLEANUP(buf_deinit) = BUF_INIT(512);
    char id[VAULT_KEY_ID + 1];
    int error = owner_of(&owner, name);
    return error == 0
               ? vault_unseal(vault, buf_slice(&owner), take_apart(content, id), ret_plain, ret_key)
               : error;
}

/* One place is used at a time; what lies in the other is easily forgotten. */
static void hint(const struct vault_options *options, const struct vault *vault,
                 struct buf *reason) {
    struct buf path CLEANUP(buf_deinit) = BUF_INIT(0);
    if (vault_source(vault) == VAULT_FILE ||
        vault_join(&path, options->data_dir, "vault.key") != 0 ||
        access(buf_slice(&path).ptr, F_OK) != 0)
        return;
    buf_printf(reason, " (%s, which is not used as long as there are keys elsewhere, may have it)",
               buf_slice(&path).ptr);
}

static bool has_id(const struct vault *vault, const char *id) {
    char own[VAULT_KEY_ID + 1];
    for (size_t i = 0; i < vault_count_keys(vault); i++) {
        vault_key_id(vault, i, own);
        if (strcmp(own, id) == 0)
            return true;
    }
    return false;
}

static void tell(const struct vault_options *options, const struct vault *vault, struct slice name,
                 struct slice content, int error, struct buf *reason) {
    char id[VAULT_KEY_ID + 1];
    (void)take_apart(content, id);
    buf_printf(reason, "%s/%.*s ", options->data_dir, SLICE_ARGS(name));
    if (error == VAULT_E_MOVED) {
        buf_append_cstr(reason, "holds what was encrypted for another file: somebody has changed "
                                "it; bring it back from a backup");
        return;
    }
    if (has_id(vault, id)) {
        buf_printf(reason,
                   "was changed, or is damaged: the key %s, which it names, does not open it; "
                   "bring it back from a backup",
                   id);
        return;
    }
    if (id[0] != '\0')
        buf_printf(reason, "is encrypted under the key %s, which is not among those of %s", id,
                   vault_source_name(vault_source(vault)));
    else
        buf_printf(reason, "is encrypted, and opened by no key of %s",
                   vault_source_name(vault_source(vault)));
    hint(options, vault, reason);
    buf_append_cstr(reason, "; give it that key, too, behind those that it has");
}

int vault_look_at_file(const struct vault *vault, const char *data_dir,
                       const struct vault_file *file, enum vault_file_state *ret_state,
                       char id[static VAULT_KEY_ID + 1]) {
    struct buf path CLEANUP(buf_deinit) = BUF_INIT(0);
    struct buf content CLEANUP(secret_buf_deinit) = BUF_INIT(CONTENT_MAX);
    struct secret *plain CLEANUP(secret_freep) = NULL;
    size_t key = 0;
    int error = vault_join(&path, data_dir, file->path != NULL ? file->path : file->name);
    if (error == 0)
        error = io_file_read_regular(buf_slice(&path).ptr, &content, NULL);
    id[0] = '\0';
    *ret_state = VAULT_FILE_NONE;
    if (error != 0)
        return error == -ENOENT || error == -ENOTDIR ? 0 : error;
    *ret_state = VAULT_FILE_PLAIN;
    if (!sealing_is_sealed(buf_slice(&content)))
        return 0;
    *ret_state = VAULT_FILE_LOCKED;
    (void)take_apart(buf_slice(&content), id);
    if (vault == NULL)
        return 0;
    error = open_content(vault, slice_from_cstr(file->name), buf_slice(&content), &plain, &key);
    if (error == VAULT_E_TOKEN || error == VAULT_E_MOVED)
        return 0;
    if (error != 0)
        return error;
    *ret_state = VAULT_FILE_SEALED;
    vault_key_id(vault, key, id);
    return 0;
}

/* --- for those who write them --- */

static int open_keys(const struct vault_options *options, struct vault **ret_vault,
                     struct buf *reason) {
    struct vault_options as_they_are = *options;
    as_they_are.make = false;
    return vault_open(&as_they_are, ret_vault, reason);
}

static int refused(int error, struct buf *reason) {
    if (error == -ENOMEM || (error < 0 && buf_len(reason) == 0))
        return error;
    return error != 0 ? SEALING_E_REFUSED : 0;
}

static int seal_for(const void *context, struct slice name, struct slice plain, sealing_put_fn *put,
                    void *put_context, struct buf *reason) {
    const struct vault_place *place = context;
    struct vault *vault CLEANUP(vault_freep) = NULL;
    struct buf content CLEANUP(buf_deinit) = BUF_INIT(CONTENT_MAX);
    CLEANUP(io_fd_close) int held = -1;
    int error = vault_lock(place->options.data_dir, &held, reason);
    if (error == 0)
        error = open_keys(&place->options, &vault, reason);
    if (error == -ENOENT && place->may_be_plain) {
        buf_reset(reason, 0);
        return put(put_context, plain);
    }
    if (error == 0)
        error = seal_content(vault, name, plain, &content);
    return error == 0 ? put(put_context, buf_slice(&content)) : refused(error, reason);
}

static int open_for(const void *context, struct slice name, struct slice content,
                    struct secret **ret_plain, struct buf *reason) {
    const struct vault_place *place = context;
    struct vault *vault CLEANUP(vault_freep) = NULL;
    char id[VAULT_KEY_ID + 1];
    int error = open_keys(&place->options, &vault, reason);
    if (error == -ENOENT) {
        (void)take_apart(content, id);
        buf_reset(reason, 0);
        buf_printf(reason,
                   "%s/%.*s is encrypted under the key %s, and there is none here: set "
                   "CARDEA_ENCRYPTION_KEY as for the gateway, or bring %s/vault.key back",
                   place->options.data_dir, SLICE_ARGS(name), id[0] != '\0' ? id : "(unknown)",
                   place->options.data_dir);
    }
    if (error == 0) {
        error = open_content(vault, name, content, ret_plain, NULL);
        if (error == VAULT_E_TOKEN || error == VAULT_E_MOVED)
            tell(&place->options, vault, name, content, error, reason);
    }
    return refused(error, reason);
}

struct sealing vault_sealing(const struct vault_place *place) {
    return (struct sealing){.context = place, .seal = seal_for, .open = open_for};
}

/* --- all of them --- */

struct pass {
    const struct vault_options *options;
    const struct vault *vault;
    struct vault_files_done done;
    struct buf *reason;
};

static int cannot(struct pass *pass, const char *path, const char *verb, int error) {
    if (error != -ENOMEM)
        buf_printf(pass->reason, "%s cannot be %s: %s", path, verb,
                   error == -EINVAL || error == -EISDIR ? "it is no regular file"
                                                        : strerror(-error));
    return error;
}

static int put_again(struct pass *pass, const struct vault_file *file, const char *path,
                     struct slice plain) {
    struct buf content CLEANUP(buf_deinit) = BUF_INIT(CONTENT_MAX);
    int error = seal_content(pass->vault, slice_from_cstr(file->name), plain, &content);
    if (error == 0)
        error = io_file_put_private(path, buf_slice(&content));
    return error == 0 ? 0 : cannot(pass, path, "encrypted", error);
}

static int seal_again(struct pass *pass, const struct vault_file *file, const char *path,
                      struct slice content) {
    struct secret *plain CLEANUP(secret_freep) = NULL;
    size_t key = 0;
    int error = open_content(pass->vault, slice_from_cstr(file->name), content, &plain, &key);
    if (error == VAULT_E_TOKEN || error == VAULT_E_MOVED) {
        if (file->is_spare)
            return 0;
        tell(pass->options, pass->vault, slice_from_cstr(file->name), content, error, pass->reason);
        if (error == VAULT_E_TOKEN)
            buf_printf(pass->reason, "; if it is lost, %s", file->cure);
    }
    if (error != 0 || key == 0)
        return error;
    error = put_again(pass, file, path, secret_reveal(plain));
    pass->done.n_resealed += error == 0;
    return error;
}

/* What a writer that was killed has left: it had not come to its end, and may be in plain. */
static void remove_beside(const char *path) {
    struct buf beside CLEANUP(buf_deinit) = BUF_INIT(PATH_MAX + 8);
    buf_append_cstr(&beside, path);
    buf_append(&beside, slice_make(".new", sizeof ".new"));
    if (buf_error(&beside) == 0)
        (void)unlink(buf_slice(&beside).ptr);
}

static int look_after(struct pass *pass, const struct vault_file *file) {
    struct buf path CLEANUP(buf_deinit) = BUF_INIT(0);
    struct buf content CLEANUP(secret_buf_deinit) = BUF_INIT(CONTENT_MAX);
    struct stat info;
    const char *where = file->path != NULL ? file->path : file->name;
    int error = vault_join(&path, pass->options->data_dir, where);
    if (error != 0)
        return error;
    const char *name = buf_slice(&path).ptr;
    remove_beside(name);
    if (lstat(name, &info) != 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : cannot(pass, name, "read", -errno);
    if (!S_ISREG(info.st_mode))
        return file->is_spare || file->is_strict ? 0 : cannot(pass, name, "encrypted", -EINVAL);
    error = io_file_read_regular(name, &content, NULL);
    if (error != 0)
        return cannot(pass, name, "read", error);
    if (sealing_is_sealed(buf_slice(&content)))
        return seal_again(pass, file, name, buf_slice(&content));
    if (file->is_strict && (info.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return 0;
    error = put_again(pass, file, name, buf_slice(&content));
    pass->done.n_plain += error == 0;
    return error;
}

int vault_seal_files(const struct vault_options *options, const struct vault_file *files,
                     size_t n_files, struct vault_files_done *ret_done, struct buf *reason) {
    struct vault *vault CLEANUP(vault_freep) = NULL;
    CLEANUP(io_fd_close) int held = -1;
    int error = vault_lock(options->data_dir, &held, reason);
    if (error == 0)
        error = open_keys(options, &vault, reason);
    struct pass pass = {.options = options, .vault = vault, .reason = reason};
    for (size_t i = 0; i < n_files && error == 0; i++)
        error = look_after(&pass, &files[i]);
    *ret_done = pass.done;
    return error;
}
