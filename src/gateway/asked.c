#include "asked.h"

#include <string.h>

#include "base/compiler.h"
#include "json/writer.h"

static bool find_kind(enum mcp_method method, enum asked_kind *ret_kind) {
    static const struct {
        enum mcp_method method;
        enum asked_kind kind;
    } rows[] = {
        {MCP_SAMPLING_CREATE_MESSAGE, ASKED_SAMPLING},
        {MCP_ELICITATION_CREATE, ASKED_ELICITATION},
        {MCP_ROOTS_LIST, ASKED_ROOTS},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].method == method) {
            *ret_kind = rows[i].kind;
            return true;
        }
    }
    return false;
}

static void add(uint16_t *n, unsigned more) {
    *n = (uint16_t)(*n + more < UINT16_MAX ? *n + more : UINT16_MAX);
}

void asked_add(struct asked *asked, enum mcp_method method, enum asked_answer answer) {
    enum asked_kind kind;
    if (find_kind(method, &kind))
        add(&asked->n[kind][answer], 1);
}

void asked_end(struct asked *asked, enum mcp_method method, enum asked_answer answer) {
    enum asked_kind kind;
    if (!find_kind(method, &kind))
        return;
    if (asked->n[kind][ASKED_OPEN] != 0)
        asked->n[kind][ASKED_OPEN]--;
    add(&asked->n[kind][answer], 1);
}

void asked_move(struct asked *to, struct asked *from) {
    for (unsigned kind = 0; kind < ASKED_KINDS; kind++) {
        for (unsigned answer = 0; answer < ASKED_ANSWERS; answer++)
            add(&to->n[kind][answer], from->n[kind][answer]);
    }
    memset(from, 0, sizeof *from);
}

/* --- reading --- */

static enum asked_answer answer_of(const struct json_node *action) {
    if (action == NULL || action->type != JSON_STRING)
        return ASKED_ANSWERED;
    if (json_string_is(action, SLICE("accept")))
        return ASKED_ACCEPTED;
    if (json_string_is(action, SLICE("decline")))
        return ASKED_DECLINED;
    return json_string_is(action, SLICE("cancel")) ? ASKED_CANCELLED : ASKED_ANSWERED;
}

enum asked_answer asked_read(struct json_reader *reader, enum mcp_method method,
                             struct slice result) {
    if (method != MCP_ELICITATION_CREATE ||
        json_read(reader, result, &json_want_root, NULL, NULL) != 0)
        return ASKED_ANSWERED;
    return answer_of(json_member(reader, json_root(reader), SLICE("action")));
}

static const struct json_want want_nothing[] = {{0}};
static const struct json_want want_each[] = {{"*", want_nothing}, {0}};
static const struct json_want want_responses = {.children = want_each};
static const struct json_want want_requests[] = {{"inputRequests", want_each}, {0}};
static const struct json_want want_result = {.children = want_requests};

bool asked_read_wanted(struct asked *asked, struct json_reader *reader, struct slice result) {
    enum { MOST = 1024 * 1024 }; /* one that asks is short */
    /* Most results are no such thing: one search tells. */
    if (result.len > MOST || slice_find(result, SLICE("input_required")) == SIZE_MAX ||
        json_read(reader, result, &want_result, NULL, NULL) != 0)
        return false;
    const struct json_node *root = json_root(reader);
    const struct json_node *type = json_member(reader, root, SLICE("resultType"));
    const struct json_node *requests =
        json_member_typed(reader, root, SLICE("inputRequests"), JSON_OBJECT);
    if (type == NULL || !json_string_is(type, SLICE("input_required")))
        return false;
    const struct json_node *request = requests != NULL ? json_first(reader, requests) : NULL;
    for (; request != NULL; request = json_next(reader, request)) {
        const struct json_node *method =
            json_member_typed(reader, request, SLICE("method"), JSON_STRING);
        if (method != NULL)
            asked_add(asked, mcp_method_parse(json_string_raw(method)), ASKED_OPEN);
    }
    return true;
}

void asked_read_responses(struct asked *asked, struct json_reader *reader, struct slice responses) {
    if (json_read(reader, responses, &want_responses, NULL, NULL) != 0 ||
        json_root(reader)->type != JSON_OBJECT)
        return;
    const struct json_node *response = json_first(reader, json_root(reader));
    for (; response != NULL; response = json_next(reader, response)) {
        const struct json_node *action = json_member(reader, response, SLICE("action"));
        bool is_roots = json_member(reader, response, SLICE("roots")) != NULL;
        enum asked_kind kind = action != NULL ? ASKED_ELICITATION
                               : is_roots     ? ASKED_ROOTS
                                              : ASKED_SAMPLING;
        add(&asked->n[kind][answer_of(action)], 1);
    }
}

/* --- writing --- */

static bool has_any(const uint16_t n[static ASKED_ANSWERS]) {
    for (unsigned i = 0; i < ASKED_ANSWERS; i++) {
        if (n[i] != 0)
            return true;
    }
    return false;
}

static void write_kind(struct json_writer *writer, const uint16_t n[static ASKED_ANSWERS]) {
    static const struct slice names[ASKED_ANSWERS] = {
        [ASKED_OPEN] = SLICE_INIT("open"),           [ASKED_ANSWERED] = SLICE_INIT("answered"),
        [ASKED_ACCEPTED] = SLICE_INIT("accepted"),   [ASKED_DECLINED] = SLICE_INIT("declined"),
        [ASKED_CANCELLED] = SLICE_INIT("cancelled"), [ASKED_FAILED] = SLICE_INIT("failed"),
        [ASKED_LATE] = SLICE_INIT("late"),           [ASKED_WITHDRAWN] = SLICE_INIT("withdrawn"),
        [ASKED_REFUSED] = SLICE_INIT("refused"),
    };
    json_object_begin(writer);
    for (unsigned i = 0; i < ASKED_ANSWERS; i++) {
        if (n[i] != 0)
            json_kv_u64(writer, names[i], n[i]);
    }
    json_object_end(writer);
}

void asked_write(const struct asked *asked, struct buf *out) {
    static const struct slice names[ASKED_KINDS] = {
        [ASKED_SAMPLING] = SLICE_INIT("sampling"),
        [ASKED_ELICITATION] = SLICE_INIT("elicitation"),
        [ASKED_ROOTS] = SLICE_INIT("roots"),
    };
    struct json_writer writer;
    bool has_begun = false;
    for (unsigned kind = 0; kind < ASKED_KINDS; kind++) {
        if (!has_any(asked->n[kind]))
            continue;
        if (!has_begun) {
            json_writer_init(&writer, out);
            json_object_begin(&writer);
        }
        has_begun = true;
        json_key(&writer, names[kind]);
        write_kind(&writer, asked->n[kind]);
    }
    if (has_begun)
        json_object_end(&writer);
}
