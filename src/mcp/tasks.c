#include "mcp/tasks.h"

#include "base/limits.h"
#include "edits.h"
#include "mcp/message.h"

static const struct json_want want_nothing[] = {{0}};
static const struct json_want want_each[] = {{"*", want_nothing}, {0}};
static const struct json_want want_related[] = {
    {"io.modelcontextprotocol/related-task", want_nothing}, {0}};
static const struct json_want want_places[] = {
    {"_meta", want_related}, {"task", want_nothing}, {"tasks", want_each}, {0}};
static const struct json_want want_document = {.children = want_places};

static const struct json_want want_request[] = {{"params", want_nothing}, {0}};
static const struct json_want want_requests[] = {{"*", want_request}, {0}};
static const struct json_want want_members[] = {
    {"task", want_nothing}, {"inputRequests", want_requests}, {0}};
static const struct json_want want_task = {.children = want_members};

bool mcp_method_is_of_tasks(enum mcp_method method) {
    return method == MCP_TASKS_GET || method == MCP_TASKS_RESULT || method == MCP_TASKS_LIST ||
           method == MCP_TASKS_UPDATE || method == MCP_TASKS_CANCEL;
}

/* Most results are none, and long: one search tells. A letter may be escaped. */
static bool may_have(struct slice result, struct slice word) {
    return slice_find(result, word) != SIZE_MAX || slice_find(result, SLICE("\\u00")) != SIZE_MAX;
}

/* --- other ids --- */

struct renaming {
    struct buf *out;
    const struct json_reader *reader;
    mcp_task_rename_fn *rename;
    void *context;
    const char *at; /* up to here it has been written */
};

bool mcp_tasks_possible(struct slice document) {
    return may_have(document, SLICE("taskId"));
}

static void write_up_to(struct renaming *renaming, const char *end) {
    buf_append(renaming->out, slice_make(renaming->at, (size_t)(end - renaming->at)));
    renaming->at = end;
}

static int rename_one(struct renaming *renaming, const struct json_node *id) {
    if (id->type != JSON_STRING)
        return MCP_E_REFUSED;
    write_up_to(renaming, id->raw.ptr);
    renaming->at += id->raw.len;
    return renaming->rename(renaming->context, id, renaming->out);
}

static int rename_in(struct renaming *renaming, const struct json_node *object) {
    const struct json_node *id =
        object->type == JSON_OBJECT ? json_member(renaming->reader, object, SLICE("taskId")) : NULL;
    return id != NULL ? rename_one(renaming, id) : 0;
}

static int rename_listed(struct renaming *renaming, const struct json_node *tasks) {
    int error = 0;
    for (const struct json_node *task = json_first(renaming->reader, tasks);
         task != NULL && error == 0; task = json_next(renaming->reader, task))
        error = rename_in(renaming, task);
    return error;
}

static int rename_related(struct renaming *renaming, const struct json_node *meta) {
    const struct json_node *related =
        meta->type == JSON_OBJECT ? json_member(renaming->reader, meta, MCP_META_RELATED_TASK)
                                  : NULL;
    return related != NULL ? rename_in(renaming, related) : 0;
}

static int rename_member(struct renaming *renaming, const struct json_node *member,
                         unsigned places) {
    if (json_key_is(member, SLICE("_meta")) && (places & MCP_TASK_RELATED) != 0)
        return rename_related(renaming, member);
    if (json_key_is(member, SLICE("taskId")) && (places & MCP_TASK_AT_ROOT) != 0)
        return rename_one(renaming, member);
    if (json_key_is(member, SLICE("task")) && (places & MCP_TASK_CREATED) != 0)
        return rename_in(renaming, member);
    if (json_key_is(member, SLICE("tasks")) && (places & MCP_TASK_LISTED) != 0)
        return rename_listed(renaming, member);
    return 0;
}

static int read_object(struct json_reader *reader, struct slice document) {
    int error = json_read(reader, document, &want_document, NULL, NULL);
    if (error != 0)
        return error < 0 ? error : MCP_E_REFUSED;
    return json_root(reader)->type == JSON_OBJECT ? 0 : MCP_E_REFUSED;
}

int mcp_tasks_rename(struct buf *out, struct json_reader *reader, struct slice document,
                     unsigned places, mcp_task_rename_fn *rename, void *context) {
    int error = read_object(reader, document);
    struct renaming renaming = {
        .out = out, .reader = reader, .rename = rename, .context = context, .at = document.ptr};
    if (error != 0)
        return error;
    for (const struct json_node *member = json_first(reader, json_root(reader));
         member != NULL && error == 0; member = json_next(reader, member))
        error = rename_member(&renaming, member, places);
    write_up_to(&renaming, document.ptr + document.len);
    return error != 0 ? error : buf_error(out);
}

int mcp_tasks_strip(struct buf *out, struct json_reader *reader, struct slice document) {
    static const struct slice key[] = {SLICE_INIT("io.modelcontextprotocol/related-task")};
    static const struct edits_keys related = {key, ARRAY_LEN(key), false};
    struct edits edits = {.n = 0};
    struct buf none = BUF_INIT(1);
    int error = read_object(reader, document);
    if (error != 0)
        return error;
    const struct json_node *meta =
        json_member_typed(reader, json_root(reader), SLICE("_meta"), JSON_OBJECT);
    if (meta != NULL)
        edits_members(&edits, reader, meta, &related, &none);
    return mcp_splice(out, document, edits.items, edits.n);
}

int mcp_task_bare(struct buf *out, struct json_reader *reader, struct slice document) {
    static const struct slice type[] = {SLICE_INIT("resultType"), SLICE_INIT("_meta")};
    static const struct slice server[] = {SLICE_INIT("io.modelcontextprotocol/serverInfo")};
    static const struct edits_keys of_result = {type, 1, false}, with_meta = {type, 2, false},
                                   of_meta = {server, ARRAY_LEN(server), false};
    struct edits edits = {.n = 0};
    struct buf none = BUF_INIT(1);
    int error = read_object(reader, document);
    if (error != 0)
        return error;
    const struct json_node *root = json_root(reader);
    const struct json_node *meta = json_member_typed(reader, root, SLICE("_meta"), JSON_OBJECT);
    /* One that is no object, as null, says nothing. */
    edits_members(&edits, reader, root, meta != NULL ? &of_result : &with_meta, &none);
    if (meta != NULL)
        edits_members(&edits, reader, meta, &of_meta, &none);
    return mcp_splice(out, document, edits.items, edits.n);
}

/* --- what a task says --- */

static const struct {
    struct slice name;
    enum mcp_task_status status;
} statuses[] = {
    {SLICE_INIT("working"), MCP_TASK_WORKING},
    {SLICE_INIT("input_required"), MCP_TASK_INPUT_REQUIRED},
    {SLICE_INIT("completed"), MCP_TASK_COMPLETED},
    {SLICE_INIT("failed"), MCP_TASK_FAILED},
    {SLICE_INIT("cancelled"), MCP_TASK_CANCELLED},
};

static bool read_status(const struct json_node *node, enum mcp_task_status *ret_status) {
    for (size_t i = 0; node != NULL && i < ARRAY_LEN(statuses); i++) {
        if (!json_string_is(node, statuses[i].name))
            continue;
        *ret_status = statuses[i].status;
        return true;
    }
    return false;
}

static uint64_t read_poll(const struct json_node *node) {
    int64_t wished = 0;
    if (node == NULL || node->type != JSON_NUMBER || json_to_i64(node, &wished) != 0 || wished < 0)
        return LIMIT_TASK_POLL_USUAL_MS;
    uint64_t poll_ms = (uint64_t)wished;
    return poll_ms < LIMIT_TASK_POLL_LEAST_MS  ? LIMIT_TASK_POLL_LEAST_MS
           : poll_ms > LIMIT_TASK_POLL_MOST_MS ? LIMIT_TASK_POLL_MOST_MS
                                               : poll_ms;
}

static struct slice object_of(const struct json_reader *reader, const struct json_node *task,
                              struct slice key) {
    const struct json_node *node = json_member_typed(reader, task, key, JSON_OBJECT);
    return node != NULL ? node->raw : SLICE_EMPTY;
}

static bool read_task(const struct json_reader *reader, const struct json_node *node,
                      struct slice poll_key, struct mcp_task *ret_task) {
    struct mcp_task task = {
        .id = json_member_typed(reader, node, SLICE("taskId"), JSON_STRING),
        .poll_ms = read_poll(json_member(reader, node, poll_key)),
        .result = object_of(reader, node, SLICE("result")),
        .error = object_of(reader, node, SLICE("error")),
        .input = json_member_typed(reader, node, SLICE("inputRequests"), JSON_OBJECT),
    };
    if (task.id == NULL || !read_status(json_member(reader, node, SLICE("status")), &task.status))
        return false;
    *ret_task = task;
    return true;
}

static const struct json_node *read_root(struct json_reader *reader, struct slice result) {
    if (json_read(reader, result, &want_task, NULL, NULL) != 0 ||
        json_root(reader)->type != JSON_OBJECT)
        return NULL;
    return json_root(reader);
}

static bool is_task_type(const struct json_reader *reader, const struct json_node *root) {
    const struct json_node *type = json_member(reader, root, SLICE("resultType"));
    return type != NULL && json_string_is(type, SLICE("task"));
}

bool mcp_result_is_task(struct json_reader *reader, struct slice result) {
    const struct json_node *root =
        may_have(result, SLICE("\"task\"")) ? read_root(reader, result) : NULL;
    return root != NULL && is_task_type(reader, root);
}

bool mcp_task_read_created(struct json_reader *reader, struct slice result,
                           enum mcp_revision revision, struct mcp_task *ret_task) {
    const struct json_node *root =
        may_have(result, SLICE("\"task\"")) ? read_root(reader, result) : NULL;
    if (root == NULL)
        return false;
    if (mcp_revision_is_modern(revision))
        return is_task_type(reader, root) &&
               read_task(reader, root, SLICE("pollIntervalMs"), ret_task);
    const struct json_node *task = json_member_typed(reader, root, SLICE("task"), JSON_OBJECT);
    return task != NULL && read_task(reader, task, SLICE("pollInterval"), ret_task);
}

bool mcp_task_read(struct json_reader *reader, struct slice result, struct mcp_task *ret_task) {
    const struct json_node *root = read_root(reader, result);
    return root != NULL && read_task(reader, root, SLICE("pollIntervalMs"), ret_task);
}
