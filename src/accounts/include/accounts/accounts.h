/*
 * Users, their roles, tokens and sessions, and edit mode: what the store keeps of who may do what.
 * The functions are for work in a transaction (store/store.h): each is whole, checks what has to
 * be so, and says what is wrong in `reason`, for people. Who asks is always named, so that rules
 * about persons hold for commands and the API alike: nobody gives themselves or others more
 * than they have, and the last administrator stays.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "policy/rights.h"
#include "store/store.h"

enum {
    ACCOUNTS_E_NONE = STORE_E_USER, /* there is no such thing */
    ACCOUNTS_E_EXISTS,              /* the name is taken */
    ACCOUNTS_E_WRONG,               /* a value is not what it has to be */
    ACCOUNTS_E_DENIED,              /* whoever asks may not: more rights than they have, the last
                                       administrator, a system role */
    ACCOUNTS_E_STALE,               /* it was changed meanwhile (version) */
    ACCOUNTS_E_LOGIN,               /* name or password are wrong; nothing says which */
    ACCOUNTS_E_WAIT,                /* too many failures: later */
};

/* Ids are 22 characters of base64url, random. Names: users and roles 1 to 64 of letters, digits,
 * _ - . @, the first one a letter or digit; compared without case. */
enum { ACCOUNTS_ID = 22 };

/* Who asks. */
struct accounts_actor {
    bool is_owner;                      /* of the data directory, by a command: may do everything */
    struct slice user;                  /* id */
    const struct policy_rights *rights; /* what they have now; NULL: the owner */
    struct slice session;               /* the id of the session that they ask with; empty: none */
    uint64_t until_ms;                  /* when the token that they ask with is over; 0: it does not
                                           end, or it is none */
};

/* Of something in a list by creation: where the next page begins. */
struct accounts_place {
    uint64_t created_ms;
    char id[ACCOUNTS_ID + 1];
};

/* --- users (users.c) --- */

struct accounts_user {
    struct slice id, name, display_name, email;
    bool is_disabled, must_change; /* the password, before anything else */
    bool has_password;
    uint64_t created_ms, updated_ms, login_ms; /* 0: never */
    uint64_t version;                          /* for ETag: grows with each change */
    struct slice *roles;                       /* names, sorted */
    size_t n_roles;
};
/* One after the other; what is pointed to is of the call alone. False stops. */
typedef bool accounts_user_fn(void *context, const struct accounts_user *user);

struct accounts_user_change {
    /* ptr NULL: stays as it is. */
    struct slice name, display_name, email;
    struct slice password_hash;   /* of password_hash(), made before the transaction, for it takes
                                     long; the caller has asked password_refusal() */
    int is_disabled, must_change; /* -1: stays; of a password that somebody else sets, and not the
                                     owner who adds the user: it has to be changed */
    const struct slice *roles;    /* names; NULL: stay */
    size_t n_roles;
    bool revokes_tokens; /* all of the user's: whoever had the password may have made them */
    uint64_t version;    /* that it has to have; 0: any */
};
MUST_CHECK int accounts_add_user(struct store_tx *tx, const struct accounts_actor *actor,
                                 const struct accounts_user_change *user, char id[ACCOUNTS_ID + 1],
                                 struct buf *reason);
/*
 * `user`: its id or name. Ends the user's sessions but the actor's where rights or password change.
 * Without PERMISSION_USERS_WRITE people change their own display name, address and password. Nobody
 * but the owner changes somebody who has rights that they do not have: they could become them.
 */
MUST_CHECK int accounts_change_user(struct store_tx *tx, const struct accounts_actor *actor,
                                    struct slice user, const struct accounts_user_change *change,
                                    struct buf *reason);
MUST_CHECK int accounts_delete_user(struct store_tx *tx, const struct accounts_actor *actor,
                                    struct slice user, uint64_t version, struct buf *reason);
MUST_CHECK int accounts_get_user(struct store_tx *tx, struct slice user, accounts_user_fn *fn,
                                 void *context);
/* By name, behind `after` (empty: from the beginning), at most `most`; `search`: a part of name,
 * display name or email; empty: all. */
MUST_CHECK int accounts_list_users(struct store_tx *tx, struct slice search, struct slice after,
                                   size_t most, accounts_user_fn *fn, void *context);
/* Whether there is anybody: else the first start. */
MUST_CHECK int accounts_has_users(struct store_tx *tx, bool *ret_has);

/* --- roles (roles.c) --- */

/* "administrator", "operator" and "viewer" are there from the first migration; they cannot be
 * changed or deleted, but for the groups that have them. To add, change or delete a role, and to
 * map groups to it, whoever asks must have all that it gives. */
struct accounts_role {
    struct slice id, name, description;
    bool is_system;
    struct slice rights; /* JSON: policy/rights.h */
    uint64_t created_ms, updated_ms, version;
    uint64_t n_users;
    struct slice *groups; /* of OAuth, that have this role */
    size_t n_groups;
};
typedef bool accounts_role_fn(void *context, const struct accounts_role *role);

struct accounts_role_change {
    struct slice name, description, rights; /* ptr NULL: stays */
    const struct slice *groups;             /* NULL: stay */
    size_t n_groups;
    uint64_t version;
};
MUST_CHECK int accounts_add_role(struct store_tx *tx, const struct accounts_actor *actor,
                                 const struct accounts_role_change *role, char id[ACCOUNTS_ID + 1],
                                 struct buf *reason);
MUST_CHECK int accounts_change_role(struct store_tx *tx, const struct accounts_actor *actor,
                                    struct slice role, const struct accounts_role_change *change,
                                    struct buf *reason);
/* ACCOUNTS_E_DENIED while somebody has it. */
MUST_CHECK int accounts_delete_role(struct store_tx *tx, const struct accounts_actor *actor,
                                    struct slice role, uint64_t version, struct buf *reason);
MUST_CHECK int accounts_get_role(struct store_tx *tx, struct slice role, accounts_role_fn *fn,
                                 void *context);
/* System roles, then the others, each by name; behind the one with `is_system` and `name` of
 * `after` (NULL: from the beginning), at most `most`. */
MUST_CHECK int accounts_list_roles(struct store_tx *tx, const struct accounts_role *after,
                                   size_t most, accounts_role_fn *fn, void *context);
/* What the user's roles give together; a disabled one: nothing. */
MUST_CHECK int accounts_user_rights(struct store_tx *tx, struct slice user,
                                    struct policy_rights **ret_rights);

/* --- tokens for MCP clients and programs (tokens.c) --- */

/* "cardea_" + 8 characters (the prefix, which is shown) + "_" + 43 characters. The store has the
 * SHA-256 of the whole. */
enum { ACCOUNTS_TOKEN = 7 + 8 + 1 + 43, ACCOUNTS_PREFIX = 8 };
struct accounts_token {
    struct slice id, user, user_name, name, prefix;
    struct slice rights;                      /* JSON; empty: all that the user has */
    uint64_t created_ms, expires_ms, used_ms; /* 0: never */
};
typedef bool accounts_token_fn(void *context, const struct accounts_token *token);

struct accounts_token_new {
    struct slice user, name;
    struct slice rights;  /* JSON; empty: the user's, as they are at any time */
    uint64_t lifetime_ms; /* 0: it does not end */
};
/* `token`: the only time that it is seen; the caller wipes it. Its rights are within the user's and
 * the actor's. One that somebody else makes without `rights` keeps to what the user has today; one
 * that is made with a token ends no later than that. */
MUST_CHECK int accounts_add_token(struct store_tx *tx, const struct accounts_actor *actor,
                                  const struct accounts_token_new *options,
                                  char id[ACCOUNTS_ID + 1], char token[ACCOUNTS_TOKEN + 1],
                                  struct buf *reason);
MUST_CHECK int accounts_delete_token(struct store_tx *tx, const struct accounts_actor *actor,
                                     struct slice token, struct buf *reason);
/* All of a user's, by id or name. ACCOUNTS_E_NONE: no such user. */
MUST_CHECK int accounts_delete_tokens(struct store_tx *tx, const struct accounts_actor *actor,
                                      struct slice user, uint64_t *ret_n, struct buf *reason);
/* Of one user (empty: of all), by creation, behind `after` (NULL: from the beginning), which need
 * not be there any more. ACCOUNTS_E_NONE: no such user. */
MUST_CHECK int accounts_list_tokens(struct store_tx *tx, struct slice user,
                                    const struct accounts_place *after, size_t most,
                                    accounts_token_fn *fn, void *context);
/* The one that this is the whole of (token_find.c), with its user's rights as they are, and no more
 * than its own. ACCOUNTS_E_NONE: none, over, or its user is disabled. */
MUST_CHECK int accounts_find_token(struct store_tx *tx, struct slice token, accounts_token_fn *fn,
                                   void *context, struct policy_rights **ret_rights);
/* They were used, at these times. */
struct accounts_use {
    char id[ACCOUNTS_ID + 1];
    uint64_t used_ms;
};
MUST_CHECK int accounts_note_uses(struct store_tx *tx, const struct accounts_use *uses, size_t n);

/* --- logins and sessions (sessions.c) --- */

/* What a login needs before its password is looked at: *ret_hash is empty for nobody, and for
 * somebody who is disabled or has no password; then password_pretend(). ACCOUNTS_E_WAIT with
 * *ret_wait_ms: the account from this address, the address (IPv6: its /64), or, much later, the
 * account from everywhere has failed too often. So a stranger who tries an account does not lock
 * its owner out, who comes from another address. It counts as a failure from here on, so that many
 * at once do not pass together; accounts_open_session() takes that back. A work that writes. */
MUST_CHECK int accounts_begin_login(struct store_tx *tx, struct slice name, struct slice address,
                                    struct buf *ret_hash, uint64_t *ret_wait_ms);
/* It was wrong: the wait begins now. */
MUST_CHECK int accounts_fail_login(struct store_tx *tx, struct slice name, struct slice address);

/* The cookie's value is `session` + "." + `secret`, both base64url; the store has the secret's
 * SHA-256. `csrf` goes to the page; it is made of the secret, and kept nowhere. */
enum { ACCOUNTS_SECRET = 43 };
struct accounts_session_new {
    struct slice user;           /* id or name */
    struct slice address, agent; /* of the browser, for the list */
    uint64_t idle_ms, max_ms;
    struct slice hash;     /* that the password was right for; is it the user's no more, nobody has
                              logged in. Empty: without a password */
    struct slice new_hash; /* of the password, where it was old; empty: stays */
};
struct accounts_cookie {
    char session[ACCOUNTS_ID + 1], secret[ACCOUNTS_SECRET + 1], csrf[ACCOUNTS_SECRET + 1];
};
/* ACCOUNTS_E_LOGIN: there is no such user any more, it is disabled, or has another password.
 * Whoever logs in with an old cookie has accounts_end_session() called for that one. */
MUST_CHECK int accounts_open_session(struct store_tx *tx,
                                     const struct accounts_session_new *options,
                                     struct accounts_cookie *ret_cookie);
/* A new id and new secrets for this session, which goes on: where its user's rights or password
 * have changed. ACCOUNTS_E_NONE. */
MUST_CHECK int accounts_renew_session(struct store_tx *tx, struct slice session,
                                      struct accounts_cookie *ret_cookie);
struct accounts_session {
    struct slice id, user, user_name, address, agent;
    struct slice csrf;                     /* empty in lists */
    uint64_t created_ms, seen_ms, ends_ms; /* the earlier one of both bounds */
    bool must_change;                      /* the password: nothing else may be done */
    bool is_due;                           /* for accounts_touch_session() */
};
typedef bool accounts_session_fn(void *context, const struct accounts_session *session);
/* The one of this cookie, with the user's rights as they are. ACCOUNTS_E_NONE: none, over, revoked,
 * or its user is disabled. It only reads, as most requests do: where the session `is_due`, and at
 * most once a minute, the caller has accounts_touch_session() write that it was seen. */
MUST_CHECK int accounts_find_session(struct store_tx *tx, struct slice session, struct slice secret,
                                     accounts_session_fn *fn, void *context,
                                     struct policy_rights **ret_rights);
MUST_CHECK int accounts_touch_session(struct store_tx *tx, struct slice session);
/* The newest first, of one user (id or name; empty: of all), behind `after` (NULL: from the
 * beginning), at most `most`. */
MUST_CHECK int accounts_list_sessions(struct store_tx *tx, struct slice user,
                                      const struct accounts_place *after, size_t most,
                                      accounts_session_fn *fn, void *context);
/* `session`: its id. ACCOUNTS_E_NONE also for one of others, without PERMISSION_SESSIONS_ALL. */
MUST_CHECK int accounts_end_session(struct store_tx *tx, const struct accounts_actor *actor,
                                    struct slice session, struct buf *reason);
/* What is over; called now and then. */
MUST_CHECK int accounts_sweep(struct store_tx *tx);

/* --- the first administrator (setup.c) --- */

/* A code for the link that opens the set-up page, good for `lifetime_ms` and once, and only while
 * there is nobody (else ACCOUNTS_E_EXISTS); a newer one takes its place. */
MUST_CHECK int accounts_make_setup(struct store_tx *tx, uint64_t lifetime_ms,
                                   char code[ACCOUNTS_SECRET + 1]);
/* The user becomes an administrator, whatever else it says. ACCOUNTS_E_LOGIN: not that code, or
 * over, or there is somebody. */
MUST_CHECK int accounts_use_setup(struct store_tx *tx, struct slice code,
                                  const struct accounts_user_change *user, char id[ACCOUNTS_ID + 1],
                                  struct buf *reason);

/* --- what commands did, for the audit trail (notes.c) --- */

struct accounts_note {
    struct slice id;     /* of those that are taken */
    uint64_t at_ms;      /* likewise: when it was done */
    struct slice event;  /* "admin-user": the class of records */
    struct slice who;    /* "command:root" */
    struct slice action; /* "cardea user add" */
    struct slice object; /* a name, an id; never a value. May be empty */
    struct slice reason; /* that was given; may be empty */
};
typedef bool accounts_note_fn(void *context, const struct accounts_note *note);
/* In the transaction of the change. */
MUST_CHECK int accounts_add_note(struct store_tx *tx, const struct accounts_note *note);
MUST_CHECK int accounts_has_notes(struct store_tx *tx, bool *ret_has);
/* The oldest first, at most `most` that nobody has taken in the last minute. They are `taker`'s,
 * who drops them when they are recorded. A work that writes (STORE_NOTE). */
MUST_CHECK int accounts_take_notes(struct store_tx *tx, size_t most, char taker[ACCOUNTS_ID + 1],
                                   accounts_note_fn *fn, void *context);
MUST_CHECK int accounts_drop_notes(struct store_tx *tx, const char taker[ACCOUNTS_ID + 1]);

/* --- edit mode (editing.c) --- */

enum accounts_scope { ACCOUNTS_EDIT_ALL, ACCOUNTS_EDIT_ROLE, ACCOUNTS_EDIT_UPSTREAM };
struct accounts_edit {
    struct slice id;
    enum accounts_scope scope;
    struct slice name; /* of the role, the upstream */
    uint64_t opened_ms, until_ms;
    /* `by`: a user's name; "command". Who is called like a word that stands here is user:NAME. */
    struct slice reason, by;
};
typedef bool accounts_edit_fn(void *context, const struct accounts_edit *edit);
/* One window for each scope and name: a new one takes the place of an old one. Needs
 * PERMISSION_EDIT_OPEN, as closing does. 1 minute to 24 hours; `why` has to say something. Whether
 * there is such an upstream is the caller's to know. ACCOUNTS_E_NONE: there is no such role. */
MUST_CHECK int accounts_open_edit(struct store_tx *tx, const struct accounts_actor *actor,
                                  enum accounts_scope scope, struct slice name, uint64_t for_ms,
                                  struct slice why, struct buf *reason);
/* All of the scope where `name` is empty. *ret_closed: how many. */
MUST_CHECK int accounts_close_edit(struct store_tx *tx, const struct accounts_actor *actor,
                                   enum accounts_scope scope, struct slice name,
                                   uint64_t *ret_closed, struct buf *reason);
/* Those that are open. */
MUST_CHECK int accounts_list_edits(struct store_tx *tx, accounts_edit_fn *fn, void *context);
