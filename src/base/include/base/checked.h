/*
 * Arithmetic on numbers that a peer had a say in. Each returns true when the result did not fit;
 * the result is then not to be used.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

MUST_CHECK static inline bool size_add_overflows(size_t a, size_t b, size_t *ret_sum) {
    return __builtin_add_overflow(a, b, ret_sum);
}

MUST_CHECK static inline bool size_mul_overflows(size_t a, size_t b, size_t *ret_product) {
    return __builtin_mul_overflow(a, b, ret_product);
}

MUST_CHECK static inline bool u64_add_overflows(uint64_t a, uint64_t b, uint64_t *ret_sum) {
    return __builtin_add_overflow(a, b, ret_sum);
}

MUST_CHECK static inline bool u64_mul_overflows(uint64_t a, uint64_t b, uint64_t *ret_product) {
    return __builtin_mul_overflow(a, b, ret_product);
}

static inline size_t size_min(size_t a, size_t b) {
    return a < b ? a : b;
}

static inline size_t size_max(size_t a, size_t b) {
    return a > b ? a : b;
}
