/*
 * What may be a password. Length is what counts (NIST SP 800-63B, section 5.1.1.2): no rule about
 * kinds of characters, but none of the passwords that are tried first.
 *
 * A list of these would have to be endless, for each one is tried with a digit behind it, with a
 * zero for an o, twice. So a password is read as whoever guesses it writes it: words that everybody
 * tries, rows of keys, repetitions, years. Each of these is worth little, however long it is, and
 * any other character is worth one. What is left has to be worth enough: "P4ssw0rd-2026!!" is a
 * word, a hyphen, a year and a repetition; a phrase of some words of one's own is a good password,
 * even where one of them is a common one.
 */
#include <string.h>

#include "accounts/password.h"
#include "base/secret.h"
#include "base/utf8.h"

/* What a password has to be worth; what its parts are worth. */
enum { LEAST_WORTH = 8, WORTH_WORD = 2, LEAST_ROW = 3, LEAST_NAME = 4 };

/* In several languages, without accents; a longer one first where a shorter one begins it. */
static const char *const words[] = {
    "correcthorsebatterystaple",
    "administrator",
    "administrador",
    "contrasena",
    "passphrase",
    "motdepasse",
    "passwort",
    "password",
    "passwd",
    "wachtwoord",
    "kennwort",
    "iloveyou",
    "letmein",
    "changeme",
    "changeit",
    "welcome",
    "willkommen",
    "bienvenue",
    "bienvenido",
    "sunshine",
    "princess",
    "football",
    "baseball",
    "basketball",
    "superman",
    "spiderman",
    "starwars",
    "pokemon",
    "dragon",
    "monkey",
    "shadow",
    "master",
    "killer",
    "jordan",
    "michael",
    "michelle",
    "jennifer",
    "charlie",
    "thomas",
    "daniel",
    "andrew",
    "matthew",
    "jessica",
    "ashley",
    "nicole",
    "hunter",
    "ranger",
    "buster",
    "soccer",
    "hockey",
    "tigger",
    "cheese",
    "pepper",
    "ginger",
    "summer",
    "winter",
    "spring",
    "autumn",
    "sommer",
    "herbst",
    "fruehling",
    "january",
    "february",
    "march",
    "april",
    "august",
    "september",
    "october",
    "november",
    "december",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "computer",
    "internet",
    "keyboard",
    "windows",
    "samsung",
    "google",
    "facebook",
    "linkedin",
    "whatever",
    "trustno",
    "freedom",
    "forever",
    "flower",
    "hello",
    "hallo",
    "bonjour",
    "soleil",
    "secret",
    "geheim",
    "secreto",
    "schatz",
    "liebe",
    "amour",
    "please",
    "bitte",
    "default",
    "manager",
    "operator",
    "support",
    "service",
    "server",
    "network",
    "router",
    "switch",
    "cisco",
    "system",
    "oracle",
    "postgres",
    "database",
    "root",
    "toor",
    "admin",
    "guest",
    "public",
    "private",
    "access",
    "login",
    "logon",
    "enter",
    "company",
    "office",
    "test",
    "temp",
    "demo",
    "example",
    "sample",
    "user",
    "username",
    "abc",
    "love",
    "pass",
    "word",
    "monitor",
    "security",
    "gateway",
    "cardea",
    "nexus",
    "dashboard",
    "claude",
    "correct",
    "horse",
    "battery",
    "staple",
    "matrix",
    "phoenix",
    "diamond",
    "silver",
    "golden",
    "purple",
    "orange",
    "banana",
    "cookie",
    "chocolate",
    "butterfly",
    "america",
    "london",
    "berlin",
    "paris",
    "chelsea",
    "liverpool",
    "arsenal",
    "barcelona",
    "juventus",
    "ferrari",
    "mustang",
    "corvette",
    "mercedes",
    "porsche",
};

/* Beside each other on a keyboard or in the alphabet; both ways. */
static const char *const rows[] = {
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "yxcvbnm",
    "azertyuiop",
    "qsdfghjklm",
    "wxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik",
    "qazwsxedcrfvtgbyhnujmik",
    "!@#$%^&*()",
    "qweasdzxc",
    "147258369",
    "789456123",
};

/* What is written in place of a letter. */
static const char *stands_for(uint32_t character) {
    switch (character) {
    case '4':
    case '@':
        return "a";
    case '8':
        return "b";
    case '(':
        return "c";
    case '3':
        return "e";
    case '9':
    case '6':
        return "g";
    case '1':
    case '!':
    case '|':
        return "il";
    case '0':
        return "o";
    case '5':
    case '$':
        return "s";
    case '7':
    case '+':
        return "t";
    case '2':
        return "z";
    default:
        return "";
    }
}

/* The password's characters, letters of ASCII without case. */
struct characters {
    uint32_t at[PASSWORD_MOST];
    size_t n;
};

static uint32_t fold(uint32_t character) {
    struct slice folded = utf8_ascii_folding(character);
    if (folded.len == 1)
        return (unsigned char)folded.ptr[0];
    return character >= 'A' && character <= 'Z' ? character + ('a' - 'A') : character;
}

static void read_characters(struct slice text, struct characters *out) {
    uint32_t character;
    size_t len;
    out->n = 0;
    while (out->n < PASSWORD_MOST && (len = utf8_decode(text, &character)) != 0) {
        out->at[out->n++] = fold(character);
        text = slice_from(text, len);
    }
}

static bool is_letter(uint32_t character, uint32_t letter) {
    if (character == letter)
        return true;
    return letter >= 'a' && letter <= 'z' && strchr(stands_for(character), (int)letter) != NULL;
}

/* Whether the word stands there, from its front or from its back. */
static bool is_word(const struct characters *password, size_t from, struct slice word,
                    bool is_backwards) {
    if (word.len == 0 || word.len > password->n - from)
        return false;
    for (size_t i = 0; i < word.len; i++) {
        size_t at = is_backwards ? word.len - 1 - i : i;
        if (!is_letter(password->at[from + i], fold((unsigned char)word.ptr[at])))
            return false;
    }
    return true;
}

static bool has_word(const struct characters *password, struct slice word) {
    for (size_t i = 0; i < password->n; i++) {
        if (is_word(password, i, word, false) || is_word(password, i, word, true))
            return true;
    }
    return false;
}

/* How many characters from there are a word; 0: none. */
static size_t word_len(const struct characters *password, size_t from, struct slice name,
                       size_t *ret_word) {
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct slice word = slice_from_cstr(words[i]);
        if (is_word(password, from, word, false) || is_word(password, from, word, true)) {
            *ret_word = i;
            return word.len;
        }
    }
    *ret_word = sizeof words / sizeof words[0];
    return is_word(password, from, name, false) ? name.len : 0;
}

static size_t repetition_len(const struct characters *password, size_t from) {
    size_t n = 1;
    while (from + n < password->n && password->at[from + n] == password->at[from])
        n++;
    return n;
}

/* Of the characters from there, how many are beside each other in this row. */
static size_t one_row_len(const struct characters *password, size_t from, const char *row) {
    size_t len = strlen(row), most = 0;
    for (size_t i = 0; i < len; i++) {
        size_t up = 0, down = 0;
        while (from + up < password->n && i + up < len &&
               password->at[from + up] == (unsigned char)row[i + up])
            up++;
        while (from + down < password->n && down <= i &&
               password->at[from + down] == (unsigned char)row[i - down])
            down++;
        most = up > most ? up : most;
        most = down > most ? down : most;
    }
    return most;
}

static size_t row_len(const struct characters *password, size_t from) {
    size_t most = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t len = one_row_len(password, from, rows[i]);
        most = len > most ? len : most;
    }
    return most >= LEAST_ROW ? most : 0;
}

static bool is_year(const struct characters *password, size_t from) {
    if (password->n - from < 4)
        return false;
    const uint32_t *at = &password->at[from];
    return ((at[0] == '1' && at[1] == '9') || (at[0] == '2' && at[1] == '0')) && at[2] >= '0' &&
           at[2] <= '9' && at[3] >= '0' && at[3] <= '9';
}

/* "horsehorseho" is a horse. */
static void cut_repetition(struct characters *password) {
    for (size_t period = 1; period <= password->n / 2; period++) {
        size_t i = period;
        while (i < password->n && password->at[i] == password->at[i - period])
            i++;
        if (i == password->n) {
            password->n = period;
            return;
        }
    }
}

static size_t worth(const struct characters *password, struct slice name) {
    bool was_seen[sizeof words / sizeof words[0] + 1] = {false};
    size_t sum = 0, i = 0;
    while (i < password->n && sum < LEAST_WORTH) {
        size_t word;
        size_t len = word_len(password, i, name, &word);
        size_t row = row_len(password, i), same = repetition_len(password, i);
        if (row > len || same > len) {
            len = row > same ? row : same;
            sum++;
        } else if (len != 0) {
            sum += was_seen[word] ? 0 : WORTH_WORD;
            was_seen[word] = true;
        } else {
            len = is_year(password, i) ? 4 : 1;
            sum++;
        }
        i += len;
    }
    return sum;
}

/* A name that is an address of e-mail: what is before the @ counts, too. */
static bool has_name(const struct characters *password, struct slice name) {
    struct slice before, behind;
    if (name.len >= LEAST_NAME && has_word(password, name))
        return true;
    return slice_cut(name, '@', &before, &behind) && before.len >= LEAST_NAME &&
           has_word(password, before);
}

static const char *refusal(struct characters *password, struct slice name) {
    if (password->n < PASSWORD_LEAST)
        return "a password has to have at least 12 characters";
    if (has_name(password, name))
        return "a password must not have the user's name in it, in whatever way it is written";
    cut_repetition(password);
    if (worth(password, name) < LEAST_WORTH)
        return "this password is one of those that are tried first: it is made of common words, "
               "rows of keys, years or repetitions";
    return NULL;
}

const char *password_refusal(struct slice password, struct slice name) {
    struct characters characters;
    if (password.len > PASSWORD_MOST)
        return "a password may have at most 1024 bytes";
    if (!utf8_is_valid(password))
        return "a password has to be valid UTF-8";
    if (slice_find_byte(password, '\0') != SIZE_MAX)
        return "a password must not have a NUL byte in it";
    read_characters(password, &characters);
    const char *reason = refusal(&characters, name);
    secret_wipe(&characters, sizeof characters);
    return reason;
}
