/*
 * Verbs in names. A name is cut at every character that is no letter or digit, and where a capital
 * begins a word (readFile, getURLList). The first verb counts: `get_update` gets, `update_get`
 * updates. But a name may do two things: behind `and`, `or` or `then` every verb counts, and those
 * that are hardly ever nouns count wherever they stand, so that `get_or_create` and `read_delete`
 * are writes. Words that are not known here, such as query or run_sql in another alphabet, decide
 * nothing, and without a decision a tool is a write.
 */
#include "suggest.h"

enum { WORD_MAX = 24 };

enum verb_kind {
    VERB_NONE,
    VERB_READS,
    VERB_WRITES,    /* and nothing else */
    VERB_MAY_WRITE, /* a noun as well: get_post, list_set */
    VERB_JOINS,     /* no verb: another one follows */
};

static const struct {
    enum verb_kind kind;
    const char *words; /* in alphabetical order, a space behind each */
} verbs[] = {
    {VERB_READS, "browse count describe fetch find get inspect list lookup ls peek read retrieve "
                 "search show view "},
    {VERB_WRITES,
     "append apply approve cancel chmod chown create deploy delete destroy disable drop edit "
     "enable erase exec execute grant insert install invoke kill mkdir modify mv overwrite publish "
     "purge put reject remove rename replace restart revoke rm save send submit terminate toggle "
     "trigger truncate uninstall unlink update upload upsert wipe write "},
    {VERB_MAY_WRITE,
     "add archive assign change click close commit copy import merge move patch "
     "post press push reset restore run set share start stop store touch transfer "},
    {VERB_JOINS, "and or then "},
};

/* *ret_verb: the word as it stands in the table. */
static enum verb_kind find_verb(struct slice word, struct slice *ret_verb) {
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        struct slice rest = slice_from_cstr(verbs[i].words);
        while (slice_cut(rest, ' ', ret_verb, &rest)) {
            if (slice_eq(*ret_verb, word))
                return verbs[i].kind;
        }
    }
    return VERB_NONE;
}

static bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}

static bool is_lower(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* Bytes beyond ASCII are letters of words that are not known here. */
static bool is_of_word(char c) {
    return is_upper(c) || is_lower(c) || (unsigned char)c >= 0x80;
}

/* A capital behind a small letter, or before one at the end of a row of capitals. */
static bool begins_word(struct slice name, size_t i) {
    if (!is_upper(name.ptr[i]))
        return false;
    bool is_before_small = i + 1 < name.len && is_lower(name.ptr[i + 1]);
    return !is_upper(name.ptr[i - 1]) || is_before_small;
}

/* The next word in lower case; longer ones are cut, and known to nobody then. */
static bool next_word(struct slice *rest, char *out, struct slice *ret_word) {
    size_t begin = 0;
    while (begin < rest->len && !is_of_word(rest->ptr[begin]))
        begin++;
    struct slice name = slice_from(*rest, begin);
    size_t end = 0;
    for (; end < name.len && is_of_word(name.ptr[end]); end++) {
        if (end != 0 && begins_word(name, end))
            break;
        if (end < WORD_MAX)
            out[end] = is_upper(name.ptr[end]) ? (char)(name.ptr[end] - 'A' + 'a') : name.ptr[end];
    }
    *ret_word = slice_make(out, end < WORD_MAX ? end : WORD_MAX);
    *rest = slice_from(name, end);
    return end != 0;
}

/* What the name says as a whole. */
static enum verb_kind read_name(struct slice name, struct slice *ret_verb) {
    char letters[WORD_MAX];
    struct slice word;
    enum verb_kind found = VERB_NONE;
    bool is_joined = false;
    *ret_verb = SLICE_EMPTY;
    while (next_word(&name, letters, &word)) {
        struct slice verb;
        enum verb_kind kind = find_verb(word, &verb);
        bool is_write =
            kind == VERB_WRITES || (kind == VERB_MAY_WRITE && (found == VERB_NONE || is_joined));
        if (is_write) {
            *ret_verb = verb;
            return VERB_WRITES;
        }
        if (kind == VERB_READS && found == VERB_NONE) {
            found = VERB_READS;
            *ret_verb = verb;
        }
        is_joined = is_joined || (kind == VERB_JOINS && found != VERB_NONE);
    }
    return found;
}

struct suggestion suggest_access(const struct suggest_facts *facts) {
    struct slice verb;
    enum verb_kind kind = read_name(facts->name, &verb);
    bool says_read = facts->read_only == SUGGEST_TRUE;
    bool says_write = facts->read_only == SUGGEST_FALSE || facts->destructive == SUGGEST_TRUE;
    struct suggestion write = {.access = CONFIG_ACCESS_WRITE, .verb = verb};
    struct suggestion read = {.access = CONFIG_ACCESS_READ, .verb = verb};
    if (says_read && facts->destructive == SUGGEST_TRUE) {
        write.is_contradiction = true;
        write.why = "says that it only reads, and that it destroys";
        write.verb = SLICE_EMPTY;
        return write;
    }
    if (says_write) {
        write.is_contradiction = kind == VERB_READS;
        write.why = kind == VERB_READS                   ? "says that it writes, but its name says"
                    : facts->destructive == SUGGEST_TRUE ? "says that it destroys"
                                                         : "says that it writes";
        write.verb = kind == VERB_READS ? verb : SLICE_EMPTY;
        return write;
    }
    if (kind == VERB_WRITES) {
        write.is_contradiction = says_read;
        write.why = says_read ? "says that it only reads, but its name says" : "its name says";
        return write;
    }
    if (says_read) {
        read.why = kind == VERB_READS ? "says that it only reads, and its name says"
                                      : "says that it only reads";
        return read;
    }
    if (kind == VERB_READS) {
        read.why = "its name says";
        return read;
    }
    write.why = "nothing says what it does";
    return write;
}
