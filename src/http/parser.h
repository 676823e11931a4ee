/*
 * The parser's inside, shared by the files that make it up: message.c (states, lines), head.c
 * (start line and fields), target.c (request targets), chunked.c (chunk lines, trailers). Private
 * to the module.
 */
#pragma once

#include "http/message.h"

/*
 * In the order in which a message passes through them. Only message.c changes the state, but for
 * http_refuse().
 */
enum http_state {
    HTTP_STATE_START, /* before the start line, or in it */
    HTTP_STATE_FIELDS,
    HTTP_STATE_BODY_LENGTH,
    HTTP_STATE_BODY_CLOSE,
    HTTP_STATE_CHUNK_LINE,
    HTTP_STATE_CHUNK_DATA,
    HTTP_STATE_CHUNK_CR,
    HTTP_STATE_CHUNK_LF,
    HTTP_STATE_TRAILERS,
    HTTP_STATE_END,
    HTTP_STATE_REFUSED,
};

/* What the fields of the head said so far about things of which there may be one only. */
struct http_seen {
    bool host;
    bool length;
    bool coding;
    bool expect;
    bool close;
    bool keep_alive;
};

struct http_parser {
    enum http_role role;
    enum http_state state;
    bool begun;   /* a byte of the message was seen, its HTTP_END not yet reported */
    bool no_body; /* the request was HEAD */
    unsigned interim;

    size_t max_head;
    size_t max_start_line;
    size_t max_field_line;
    size_t max_fields;
    uint64_t max_body;

    char *text; /* the head as it came; all slices of `head` point here */
    size_t text_len;
    size_t text_cap;
    size_t line_start;
    struct http_head head;
    size_t cap_fields;
    struct http_seen seen;
    char valid_host[64]; /* of an earlier message; most of a connection have the same */
    size_t valid_host_len;

    uint64_t body_len;  /* what was announced by chunks, or came until close */
    uint64_t remaining; /* of the body or of the chunk */
    size_t extension_len;
    size_t trailer_len;
    size_t n_trailers;
    struct buf line; /* a chunk or trailer line that came in pieces */

    struct http_refusal refusal;
};

/* Always false, so that a check may end with it. Responses are refused with 502 whatever `status`
 * says. */
bool http_refuse(struct http_parser *parser, uint16_t status, const char *reason);
bool http_refuse_limit(struct http_parser *parser, uint16_t status, const char *reason,
                       uint64_t limit);

/* head.c; "" for HTTP_METHOD_OTHER. */
struct slice http_method_name(enum http_method method);
/* Lines come without their CRLF; true, or false after http_refuse(). */
bool http_parse_start_line(struct http_parser *parser, struct slice line);
/* A field that was parsed into the head's array already. */
bool http_note_field(struct http_parser *parser, const struct http_field *field);
/* The empty line came: what only the whole head can tell. */
bool http_finish_head(struct http_parser *parser);
/* "Name: value" (RFC 9112 section 5); NULL, or the reason to refuse it. */
const char *http_parse_field_line(struct slice line, struct http_field *ret_field);

/* target.c */
bool http_parse_target(struct http_parser *parser);
/* The target's authority, if it has one, is what Host names (RFC 9112 section 3.2.2). */
bool http_check_target_host(struct http_parser *parser);

/* chunked.c */
bool http_parse_chunk_line(struct http_parser *parser, struct slice line);
bool http_parse_trailer_line(struct http_parser *parser, struct slice line);
/* Connection may not list this name: without the field, the message would mean something else. */
bool http_is_end_to_end(struct slice name);

/*
 * Walks a comma-separated list (RFC 9110 section 5.6.1): the next element, trimmed, is cut off the
 * front of *list. False at its end. Empty elements are skipped, commas in quoted strings do not
 * separate.
 */
bool http_list_next(struct slice *list, struct slice *ret_element);
