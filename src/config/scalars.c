/*
 * Numbers and lists of scalars: what values of JSON are compared with. JSON's numbers are doubles
 * to most who read them, so an integer that a double does not hold is refused rather than compared
 * with its neighbours.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "load.h"

static const int64_t EXACT = INT64_C(1) << 53;

bool read_number(struct loader *l, const struct place *place, const struct toml_node *node,
                 double *ret_number) {
    if (node->type == TOML_INTEGER && node->integer >= -EXACT && node->integer <= EXACT) {
        *ret_number = (double)node->integer;
        return true;
    }
    if (node->type == TOML_FLOAT && isfinite(node->number)) {
        *ret_number = node->number;
        return true;
    }
    problem_of(l, CONFIG_ERROR, node->at, place,
               node->type == TOML_INTEGER
                   ? "is beyond 9007199254740992 (2 to the 53rd), where numbers can not be told "
                     "apart"
                   : "must be a finite number");
    return false;
}

/* The shortest text that reads as the same number. */
static void write_number(struct buf *out, double number) {
    for (int digits = 15; digits <= 17; digits++) {
        char text[40];
        (void)snprintf(text, sizeof text, "%.*g", digits, number);
        if (digits < 17 && strtod(text, NULL) != number)
            continue;
        buf_append_cstr(out, text);
        return;
    }
}

static bool read_text_of(struct loader *l, double number, struct slice *ret_text) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(64);
    write_number(&text, number);
    struct slice copy = arena_dup(&l->config->arena, buf_slice(&text));
    if (copy.ptr == NULL || buf_error(&text) != 0) {
        l->error = -ENOMEM;
        return false;
    }
    *ret_text = copy;
    return true;
}

static void read_value(struct loader *l, const struct place *place, const struct option *row,
                       const struct toml_node *node, struct config_value *ret_value) {
    struct config_value value = {.type = CONFIG_VALUE_STRING};
    bool fine;
    if (node->type == TOML_STRING) {
        fine = expand_string(l, place, row, node, &value.text);
    } else if (node->type == TOML_BOOL) {
        value.type = CONFIG_VALUE_BOOL;
        value.text = node->boolean ? SLICE("true") : SLICE("false");
        fine = true;
    } else {
        value.type = CONFIG_VALUE_NUMBER;
        fine = read_number(l, place, node, &value.number);
        value.number += 0.0; /* -0 is 0 */
        fine = fine && read_text_of(l, value.number, &value.text);
    }
    if (fine)
        *ret_value = value;
}

void store_values(struct loader *l, const struct place *place, const struct option *row,
                  const struct toml_node *node, void *object) {
    size_t n = node->n_children;
    struct config_value *values = arena_alloc_array(&l->config->arena, n + 1, sizeof *values);
    if (values == NULL) {
        l->error = -ENOMEM;
        return;
    }
    for (size_t i = 0; i < n && l->error == 0; i++) {
        struct place entry = {.up = place, .index = i};
        read_value(l, &entry, row, &node->children[i], &values[i]);
    }
    memcpy((char *)object + row->offset, &values, sizeof values);
    memcpy((char *)object + row->count_offset, &n, sizeof n);
}
