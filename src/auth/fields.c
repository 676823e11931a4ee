/*
 * Client identification by header: what a trusted proxy says of the caller that it has let in. From
 * anybody else such a field means nothing. Two fields of one name are refused: one of them may be
 * the caller's own, which the proxy was to take away.
 */
#include "private.h"

/* -1: more than one; 0: none, or not from a proxy; 1: *ret_value, without spaces around it. */
static int find(const struct auth_request *request, struct slice name, struct slice *ret_value) {
    struct slice value = SLICE_EMPTY;
    size_t n = request->is_from_proxy ? request->field(request->field_context, name, &value) : 0;
    if (n > 1)
        return -1;
    *ret_value = slice_trim(value);
    return n == 1 && ret_value->len != 0;
}

/* "a, b": a list, as proxies write it. False: too many. */
static bool read_groups(struct slice value, struct slice *groups, size_t *n_groups) {
    struct slice rest = value, head;
    while (rest.len != 0) {
        slice_cut(rest, ',', &head, &rest);
        head = slice_trim(head);
        if (head.len == 0)
            continue;
        if (*n_groups == LIMIT_GROUPS)
            return false;
        groups[(*n_groups)++] = head;
    }
    return true;
}

static enum auth_verdict apply_client(const struct config_identification *identification,
                                      const struct auth_request *request, struct auth_draft *draft,
                                      struct buf *principal, const char **ret_reason) {
    struct slice id;
    if (find(request, identification->client_header, &id) != 1 || !client_id_is_fine(id)) {
        *ret_reason = "client identification is required: one field from a trusted proxy "
                      "(server.client_identification.client_id, server.trusted_proxies)";
        return AUTH_NO_CLIENT;
    }
    buf_append(principal, draft->principal);
    buf_append_cstr(principal, " client:");
    principal_append(principal, id);
    draft->principal = buf_slice(principal);
    draft->client_id = id;
    return buf_error(principal) == 0 ? AUTH_OK : AUTH_NO_MEMORY;
}

static enum auth_verdict apply_groups(const struct config_identification *identification,
                                      const struct auth_request *request, struct auth_draft *draft,
                                      struct slice *groups, const char **ret_reason) {
    struct slice value;
    int n = find(request, identification->group_header, &value);
    draft->n_groups = 0;
    draft->groups_state = AUTH_GROUPS_NONE;
    draft->has_unknown_group = false;
    if (n == 0)
        return AUTH_OK;
    draft->groups = groups;
    draft->groups_state = AUTH_GROUPS_MALFORMED;
    if (n < 0 || !read_groups(value, groups, &draft->n_groups)) {
        draft->n_groups = 0;
        return AUTH_OK;
    }
    draft->groups_state = AUTH_GROUPS_FINE;
    if (groups_settle(identification, groups, &draft->n_groups, &draft->has_unknown_group))
        return AUTH_OK;
    *ret_reason = "the group of the request is none that this gateway knows";
    return AUTH_BAD_GROUP;
}

enum auth_verdict fields_apply(const struct auth *auth, const struct auth_request *request,
                               struct auth_identity **identity, const char **ret_reason) {
    const struct config_identification *identification = &auth->config->identification;
    bool by_client = identification->client_header.len != 0;
    bool by_group = identification->group_header.len != 0;
    if (!identification->enabled || (!by_client && !by_group))
        return AUTH_OK;
    struct auth_draft draft = identity_draft(*identity);
    struct buf principal CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
    struct slice groups[LIMIT_GROUPS] UNCLEARED;
    enum auth_verdict verdict = AUTH_OK;
    draft.depends_on_request = true;
    if (by_client)
        verdict = apply_client(identification, request, &draft, &principal, ret_reason);
    if (verdict == AUTH_OK && by_group)
        verdict = apply_groups(identification, request, &draft, groups, ret_reason);
    if (verdict != AUTH_OK)
        return verdict;
    struct auth_identity *other = identity_new(&draft);
    if (other == NULL)
        return AUTH_NO_MEMORY;
    auth_identity_unref(*identity);
    *identity = other;
    return AUTH_OK;
}
