/*
 * Upstreams of the store while a configuration is loaded (stored.c), and what may not stand in them
 * (trust.c). Their JSON becomes a part of the file's tree, so that rows, checks and messages are
 * the same. Positions in it say whose they are: what is wrong there is wrong with that upstream
 * alone, which is left out; then all is loaded once more without it.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "config/config.h"
#include "toml.h"

struct loader;
struct option;
struct place;

struct stored_item {
    enum config_stored_kind kind;
    bool is_new;       /* it was left out by this pass */
    unsigned needs;    /* CONFIG_NEEDS_* */
    struct buf reason; /* why it is left out */
};

/* Of one load, all its passes. */
struct stored {
    bool is_asked;
    struct config_stored_list list;
    struct stored_item *items; /* of list.items */
};

void stored_deinit(struct stored *stored);
/* Asks for them, and puts those that may be served into the tree, beside the file's. */
void stored_graft(struct loader *l, struct toml_node *root);
/* Their servers, when all the rest of the file is known. */
void stored_load(struct loader *l, const struct toml_node *root);
/* Whether the position is in one of them: *ret_index. */
bool stored_is_at(struct toml_position at, size_t *ret_index);
/* Something is wrong with it. */
void stored_problem(struct loader *l, size_t index, enum config_severity severity,
                    struct slice message);
/* Some were left out by this pass, and would have been served. */
bool stored_needs_pass(struct stored *stored);
/* What became of each, into the configuration, and of those that are left out a problem. */
void stored_finish(struct loader *l);

/* Says so, and returns true, where a definition of the store may not have this key, or not so. */
bool trust_refuses(struct loader *l, const struct place *place, const struct option *row,
                   const struct toml_node *node);
/* Where they are reached. */
void check_stored(struct loader *l, const struct toml_node *root);
