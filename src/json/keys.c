#include "keys.h"

#include "base/mem.h"
#include "base/random.h"
#include "json/reader.h"
#include "unescape.h"

enum {
    ENTRIES_FIRST = 64,
    ENTRIES_KEPT = 4096, /* 64 KiB, between documents */
    HEADS_FIRST = 64,
    HEADS_KEPT = 16384, /* 64 KiB, between documents */
    UNESCAPED_KEPT = 1024,
};

static void draw_secrets(struct json_keys *keys) {
    random_bytes(keys->secrets, sizeof keys->secrets);
    random_bytes(&keys->sip, sizeof keys->sip);
    keys->table_used = false;
}

void json_keys_init(struct json_keys *keys) {
    *keys = (struct json_keys){.entries = NULL};
    draw_secrets(keys);
}

void json_keys_deinit(struct json_keys *keys) {
    mem_free(keys->entries);
    mem_free(keys->heads);
    buf_deinit(&keys->unescaped);
    *keys = (struct json_keys){.entries = NULL};
}

void json_keys_reset(struct json_keys *keys) {
    keys->n = keys->n_heads = 0;
    if (keys->cap > ENTRIES_KEPT) {
        mem_free(keys->entries);
        keys->entries = NULL;
        keys->cap = 0;
    }
    if (keys->cap_heads > HEADS_KEPT) {
        mem_free(keys->heads);
        keys->heads = NULL;
        keys->cap_heads = 0;
    }
    buf_reset(&keys->unescaped, UNESCAPED_KEPT);
    if (keys->table_used)
        draw_secrets(keys);
}

uint32_t json_keys_hash_long(const struct json_keys *keys, struct slice text) {
    return (uint32_t)hash_siphash(&keys->sip, text);
}

static bool entry_is(const struct json_key_entry *entry, const char *document, struct slice key,
                     bool escaped) {
    struct slice other = slice_make(document + entry->offset, entry->len & ~JSON_KEY_ESCAPED);
    return json_equal_unescaped(other, (entry->len & JSON_KEY_ESCAPED) != 0, key, escaped);
}

static bool is_known(const struct json_keys *keys, const struct json_object_keys *object,
                     const char *document, struct slice key, bool escaped, uint32_t hash) {
    const struct json_key_entry *entries = keys->entries + object->first;
    if (object->n_heads == 0) {
        for (uint32_t i = 0; i < json_object_n_keys(keys, object); i++)
            if (entries[i].hash == hash && entry_is(&entries[i], document, key, escaped))
                return true;
        return false;
    }
    uint32_t next = keys->heads[object->heads + (hash & (object->n_heads - 1))];
    while (next != 0) {
        const struct json_key_entry *entry = &entries[next - 1];
        if (entry->hash == hash && entry_is(entry, document, key, escaped))
            return true;
        next = entry->chain;
    }
    return false;
}

/* Twice the capacity of an array, for at least `needed` items; *array and *cap stay as they are
 * without memory. */
static void *grow(void *array, uint32_t *cap, uint32_t first, uint32_t needed, size_t item_size) {
    uint32_t wanted = *cap < first ? first : *cap;
    while (wanted < needed || wanted == *cap) {
        if (wanted > UINT32_MAX / 2)
            return NULL;
        wanted *= 2;
    }
    void *grown = mem_realloc(array, wanted * item_size);
    if (grown != NULL)
        *cap = wanted;
    return grown;
}

static void link_entry(struct json_keys *keys, const struct json_object_keys *object,
                       uint32_t index) {
    struct json_key_entry *entry = &keys->entries[object->first + index];
    uint32_t *head = &keys->heads[object->heads + (entry->hash & (object->n_heads - 1))];
    entry->chain = *head;
    *head = index + 1;
}

/* A table for the innermost object, twice as large as before: it is on top of the stack, so it
 * grows in place. */
static bool grow_table(struct json_keys *keys, struct json_object_keys *object) {
    uint32_t n_heads = object->n_heads == 0 ? HEADS_FIRST : 2 * object->n_heads;
    uint32_t needed =
        object->heads + n_heads; /* less than four times the number of keys in the document */
    if (needed > keys->cap_heads) {
        uint32_t *grown =
            grow(keys->heads, &keys->cap_heads, HEADS_FIRST, needed, sizeof *keys->heads);
        if (grown == NULL)
            return false;
        keys->heads = grown;
    }
    memset(keys->heads + object->heads, 0, n_heads * sizeof *keys->heads);
    object->n_heads = n_heads;
    keys->n_heads = needed;
    keys->table_used = true;
    for (uint32_t i = 0; i < json_object_n_keys(keys, object); i++)
        link_entry(keys, object, i);
    return true;
}

enum json_keys_result json_keys_add_hashed(struct json_keys *keys, struct json_object_keys *object,
                                           const char *document, struct slice key, bool escaped,
                                           uint32_t hash) {
    uint64_t bit = UINT64_C(1) << (hash >> 26);
    if ((object->seen & bit) != 0 && is_known(keys, object, document, key, escaped, hash))
        return JSON_KEYS_DUPLICATE;
    if (keys->n == keys->cap) {
        struct json_key_entry *grown =
            grow(keys->entries, &keys->cap, ENTRIES_FIRST, keys->n + 1, sizeof *keys->entries);
        if (grown == NULL)
            return JSON_KEYS_NO_MEMORY;
        keys->entries = grown;
    }
    uint32_t index = json_object_n_keys(keys, object);
    if (index >= JSON_KEYS_LINEAR && index >= object->n_heads && !grow_table(keys, object))
        return JSON_KEYS_NO_MEMORY;
    object->seen |= bit;
    keys->entries[keys->n++] =
        (struct json_key_entry){.hash = hash,
                                .offset = (uint32_t)(key.ptr - document),
                                .len = (uint32_t)key.len | (escaped ? JSON_KEY_ESCAPED : 0)};
    if (object->n_heads != 0)
        link_entry(keys, object, index);
    return JSON_KEYS_NEW;
}

enum json_keys_result json_keys_add_escaped(struct json_keys *keys, struct json_object_keys *object,
                                            const char *document, struct slice key) {
    buf_reset(&keys->unescaped, keys->unescaped.cap);
    if (json_unescape(&keys->unescaped, key) != 0)
        return JSON_KEYS_NO_MEMORY;
    struct slice text = buf_slice(&keys->unescaped);
    return json_keys_add_hashed(keys, object, document, key, true,
                                json_keys_hash(keys, text, text.len));
}
