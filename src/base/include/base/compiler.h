/*
 * The compiler extensions that this code base uses, each named once. Nothing outside this header
 * spells an
 * __attribute__ or a __builtin.
 */
#pragma once

#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_index, first_arg)                                                       \
    __attribute__((format(printf, format_index, first_arg)))
#define MAYBE_UNUSED __attribute__((unused))
#define NO_RETURN    _Noreturn
#define NONNULL      __attribute__((nonnull))
#define ALIGNED(n)   __attribute__((aligned(n)))

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* The symbol that a function gets in place of its name. */
#define LINKED_AS(symbol) __asm__(symbol)

/* For the few loops in which a measurement asked for them. */
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NO_INLINE     __attribute__((noinline, cold))

/* Number of zero bits below the lowest one; `x` is an unsigned int and not 0. */
#define TRAILING_ZEROS(x) ((unsigned)__builtin_ctz(x))
/* The same of a uint64_t. */
#define TRAILING_ZEROS_64(x) ((unsigned)__builtin_ctzll(x))

/* Of 128 bits, for products of two words. */
__extension__ typedef unsigned __int128 wide_uint;

/* A large array that is filled before it is read, and so need not be cleared before. */
#if defined(__has_attribute)
#if __has_attribute(uninitialized)
#define UNCLEARED __attribute__((uninitialized))
#endif
#endif
#ifndef UNCLEARED
#define UNCLEARED
#endif

/* Runs fn(&variable) when the variable goes out of scope. Every owned local carries it. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Gives ownership away: the value of the pointer, which is NULL afterwards. */
#define TAKE(ptr)                                                                                  \
    __extension__({                                                                                \
        __typeof__(ptr) taken_ = (ptr);                                                            \
        (ptr) = NULL;                                                                              \
        taken_;                                                                                    \
    })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* AddressSanitizer is built in: GCC says so by a macro, Clang by a feature. */
#if defined(__SANITIZE_ADDRESS__)
#define HAS_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ADDRESS_SANITIZER 1
#endif
#endif
#ifndef HAS_ADDRESS_SANITIZER
#define HAS_ADDRESS_SANITIZER 0
#endif

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
