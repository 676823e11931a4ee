/* Kinds of characters that secrets are made of; only ASCII, whatever the locale. */
#pragma once

#include <stdbool.h>

static inline bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static inline bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}

static inline bool is_alnum(char c) {
    return is_digit(c) || is_upper(c) || (c >= 'a' && c <= 'z');
}

static inline bool is_base64url(char c) {
    return is_alnum(c) || c == '-' || c == '_';
}

static inline bool is_base64(char c) {
    return is_alnum(c) || c == '+' || c == '/' || c == '=';
}

static inline bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

static inline bool is_space(char c) {
    return is_blank(c) || c == '\n' || c == '\r' || c == '\v' || c == '\f';
}

static inline bool is_quote(char c) {
    return c == '"' || c == '\'' || c == '`';
}
