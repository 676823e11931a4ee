/*
 * Tokens that a worker has verified lately, by their whole digest. The table is bounded: what was
 * used longest ago is forgotten first. Whether an entry still holds is not decided here.
 */
#include <errno.h>
#include <openssl/evp.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "private.h"

struct entry {
    struct list_link link; /* in memory->recent, the most recently used one first */
    unsigned char digest[AUTH_DIGEST];
    struct auth_identity *identity; /* a reference */
};

struct auth_memory {
    struct map by_digest; /* to struct entry */
    struct list recent;
    EVP_MD *sha256;
    EVP_MD_CTX *context;
    struct buf scratch;
};

static struct slice key_of(const unsigned char *digest) {
    return slice_make(digest, AUTH_DIGEST);
}

int auth_memory_new(struct auth_memory **ret_memory) {
    struct auth_memory *memory = mem_alloc(sizeof *memory);
    if (memory == NULL)
        return -ENOMEM;
    map_init(&memory->by_digest);
    list_init(&memory->recent);
    buf_init(&memory->scratch, LIMIT_JWT);
    memory->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    memory->context = EVP_MD_CTX_new();
    if (memory->sha256 == NULL || memory->context == NULL) {
        auth_memory_free(memory);
        return -ENOMEM;
    }
    *ret_memory = memory;
    return 0;
}

static void forget(struct auth_memory *memory, struct entry *entry) {
    (void)map_remove(&memory->by_digest, key_of(entry->digest));
    list_remove(&entry->link);
    auth_identity_unref(entry->identity);
    mem_free(entry);
}

static void wipe_scratch(struct auth_memory *memory) {
    if (memory->scratch.data != NULL)
        secret_wipe(memory->scratch.data, memory->scratch.cap);
}

struct auth_memory *auth_memory_free(struct auth_memory *memory) {
    if (memory == NULL)
        return NULL;
    LIST_FOREACH_SAFE (&memory->recent, link, tmp)
        forget(memory, CONTAINER_OF(link, struct entry, link));
    map_deinit(&memory->by_digest);
    EVP_MD_CTX_free(memory->context);
    EVP_MD_free(memory->sha256);
    wipe_scratch(memory);
    buf_deinit(&memory->scratch);
    mem_free(memory);
    return NULL;
}

bool memory_digest(struct auth_memory *memory, struct slice token, const unsigned char *certificate,
                   unsigned char ret_digest[static AUTH_DIGEST]) {
    unsigned len = 0;
    return EVP_DigestInit_ex2(memory->context, memory->sha256, NULL) == 1 &&
           EVP_DigestUpdate(memory->context, token.ptr, token.len) == 1 &&
           (certificate == NULL || (EVP_DigestUpdate(memory->context, "", 1) == 1 &&
                                    EVP_DigestUpdate(memory->context, certificate, 32) == 1)) &&
           EVP_DigestFinal_ex(memory->context, ret_digest, &len) == 1;
}

struct auth_identity *memory_find(struct auth_memory *memory,
                                  const unsigned char digest[static AUTH_DIGEST]) {
    struct entry *entry = map_get(&memory->by_digest, key_of(digest));
    if (entry == NULL)
        return NULL;
    list_remove(&entry->link);
    list_push_front(&memory->recent, &entry->link);
    return auth_identity_ref(entry->identity);
}

void memory_drop(struct auth_memory *memory, const unsigned char digest[static AUTH_DIGEST]) {
    struct entry *entry = map_get(&memory->by_digest, key_of(digest));
    if (entry != NULL)
        forget(memory, entry);
}

void memory_keep(struct auth_memory *memory, const unsigned char digest[static AUTH_DIGEST],
                 struct auth_identity *identity) {
    memory_drop(memory, digest);
    if (memory->by_digest.count >= LIMIT_KNOWN_TOKENS)
        forget(memory, CONTAINER_OF(memory->recent.ring.prev, struct entry, link));
    struct entry *entry = mem_alloc(sizeof *entry);
    if (entry == NULL)
        return; /* verified anew next time */
    memcpy(entry->digest, digest, AUTH_DIGEST);
    if (map_set(&memory->by_digest, key_of(digest), entry) != 0) {
        mem_free(entry);
        return;
    }
    entry->identity = auth_identity_ref(identity);
    list_push_front(&memory->recent, &entry->link);
}

size_t memory_count(const struct auth_memory *memory) {
    return memory->by_digest.count;
}

struct buf *memory_scratch(struct auth_memory *memory) {
    return &memory->scratch;
}
