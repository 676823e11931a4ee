/* Redaction as record.c and arguments.c use it. */
#pragma once

#include "audit/redact.h"
#include "json/reader.h"
#include "memo.h"

/* Room for what one call after the other needs. Of one thread. */
struct redact_room {
    struct regex_work work;
    struct buf unescaped, clean;
    struct memo memo;
};

void redact_room_init(struct redact_room *room);
void redact_room_deinit(struct redact_room *room);
/* From now on for other rules. */
void redact_room_forget(struct redact_room *room);
/* Of a new section: its own steps for patterns. */
void redact_room_begin(const struct audit_redact *redact, struct redact_room *room);

const struct config_audit *redact_config(const struct audit_redact *redact);

/*
 * The text without what must not be seen: the text itself, when there is nothing such in it, else
 * in room->clean. Of a long text it is the front alone, with *ret_cut set: as much as a record
 * shows, so that each secret that begins in it was seen with what is behind.
 */
struct slice redact_front(const struct audit_redact *redact, struct redact_room *room,
                          struct slice text, bool *ret_cut);

/* A path ends there: the whole value is replaced. `node` is a member on the tape of `root`; `key`
 * is its key, unescaped. */
bool redact_hides_by_path(const struct audit_redact *redact, const struct json_node *root,
                          const struct json_node *node, struct slice key);
/* A pattern matches in the number. */
bool redact_hides_number(const struct audit_redact *redact, struct redact_room *room,
                         struct slice number);
