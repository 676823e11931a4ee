/*
 * Random configurations, principals and things to ask for, against an oracle that is written down
 * from the sentences of the requirement. It knows groups as bits of a number and no struct of
 * policy/; a configuration is made out of the oracle's model, not the other way round.
 */
#include "support.h"

enum { GROUPS = 5, TOOLS = 5, CONFIGS = 20000, MOST_SERVERS = 2 };

static const char *const group_names[GROUPS] = {"a", "aa", "b", "c:d", "z"};
static const char *const tool_names[TOOLS] = {"get", "put", "p:t", "user", "__x"};
static const char *const server_names[MOST_SERVERS] = {"s", "s_1"};

/* --- chance, the same in each run --- */

static uint64_t state = 88172645463325252u;

static uint64_t chance(uint64_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % below;
}

/* A set of groups, more often small than large. */
static unsigned some_groups(void) {
    uint64_t one = chance(1u << GROUPS), other = chance(1u << GROUPS);
    return (unsigned)(one & other);
}

/* --- the model --- */

enum word { UNSAID, READ, WRITE };

struct model_rate {
    unsigned limit, seconds; /* 0: none */
};

struct model_tool {
    bool has_allow;
    unsigned allow, deny;
    enum word access;
    bool is_whitelisted;
    struct model_rate all, user;
};

struct model_server {
    bool has_allow;
    unsigned allow, deny;
    enum word access;
    struct model_tool tools[TOOLS];
    struct model_rate all, user, groups[GROUPS];
};

struct model {
    bool trusts, has_whitelist, limits_are_on;
    int n_servers;
    struct model_server servers[MOST_SERVERS];
};

struct asker {
    unsigned groups;
    bool are_known;
};

/* --- the oracle --- */

static bool oracle_may_see(const struct model_server *server, const struct model_tool *tool,
                           struct asker asker) {
    /* "`deny` adds up and wins" */
    unsigned denied = server->deny;
    if (tool != NULL)
        denied |= tool->deny;
    if (denied & asker.groups)
        return false;
    /* "where any `deny` applies and the group is missing or malformed, or a group is outside
     * `group_values`: denied" */
    if (denied != 0 && (!asker.are_known || asker.groups == 0))
        return false;
    /* "A tool's `allow` replaces the server's ... empty `allow` = nobody" */
    if (tool != NULL && tool->has_allow)
        return (tool->allow & asker.groups) != 0;
    return !server->has_allow || (server->allow & asker.groups) != 0;
}

static bool oracle_writes(const struct model *model, const struct model_server *server,
                          const struct model_tool *tool, bool hint) {
    /* "A tool is *read* when the operator says so ... or, with `trust_annotations = true`, when it
     * sets `readOnlyHint` ... Everything else is *write*." */
    bool operator_says_read =
        tool->access == READ || (tool->access == UNSAID && server->access == READ);
    bool operator_says_nothing = tool->access == UNSAID && server->access == UNSAID;
    return !(operator_says_read || (operator_says_nothing && model->trusts && hint));
}

static bool oracle_is_locked(const struct model *model, const struct model_tool *tool, bool writes,
                             bool edit) {
    /* "Edit mode off: writes are denied ... On with a non-empty `whitelist`: those writes only." */
    return writes && (!edit || (model->has_whitelist && !tool->is_whitelisted));
}

/* "a group's row replaces `per_user` for its members, of several groups the one that allows most":
 * calls a second, as a fraction; of the same rate the longer interval. */
static int oracle_user_row(const struct model_server *server, struct asker asker) {
    int best = -1;
    for (int g = 0; g < GROUPS; g++) {
        struct model_rate row = server->groups[g];
        if (row.limit == 0 || !(asker.groups >> g & 1))
            continue;
        if (best < 0) {
            best = g;
            continue;
        }
        struct model_rate other = server->groups[best];
        long double rate = (long double)row.limit / row.seconds;
        long double other_rate = (long double)other.limit / other.seconds;
        if (rate > other_rate ||
            (row.limit * other.seconds == other.limit * row.seconds && row.seconds > other.seconds))
            best = g;
    }
    return best;
}

/* --- a configuration of it --- */

struct made {
    struct config config;
    struct config_server servers[MOST_SERVERS];
    struct config_tool tools[MOST_SERVERS][TOOLS];
    struct slice sets[MOST_SERVERS * (TOOLS + 1) * 2][GROUPS];
    size_t n_sets;
    struct config_named_limit tool_rows[MOST_SERVERS][TOOLS], user_rows[MOST_SERVERS][TOOLS],
        group_rows[MOST_SERVERS][GROUPS];
    struct slice whitelist[MOST_SERVERS * TOOLS + 1];
    char whitelist_text[MOST_SERVERS * TOOLS + 1][16];
};

/* In any order. */
static struct slice *make_set(struct made *made, unsigned groups, size_t *ret_n) {
    struct slice *set = made->sets[made->n_sets++];
    size_t n = 0;
    unsigned first = (unsigned)chance(GROUPS);
    for (unsigned i = 0; i < GROUPS; i++) {
        unsigned g = (first + i) % GROUPS;
        if (groups >> g & 1)
            set[n++] = slice_from_cstr(group_names[g]);
    }
    *ret_n = n;
    return set;
}

static enum config_access make_access(enum word word) {
    return word == READ    ? CONFIG_ACCESS_READ
           : word == WRITE ? CONFIG_ACCESS_WRITE
                           : CONFIG_ACCESS_UNSET;
}

static struct config_limit make_limit(struct model_rate rate) {
    return (struct config_limit){.limit = rate.limit, .interval_ms = rate.seconds * 1000u};
}

static void add_row(struct config_named_limit *rows, size_t *n, const char *name,
                    struct model_rate rate) {
    if (rate.limit != 0)
        rows[(*n)++] = (struct config_named_limit){slice_from_cstr(name), make_limit(rate)};
}

static void make_server(struct made *made, const struct model *model, int at) {
    const struct model_server *from = &model->servers[at];
    struct config_server *server = &made->servers[at];
    *server = (struct config_server){.name = slice_from_cstr(server_names[at]),
                                     .has_allow = from->has_allow,
                                     .access = make_access(from->access),
                                     .tools = made->tools[at]};
    server->allow = make_set(made, from->allow, &server->n_allow);
    server->deny = make_set(made, from->deny, &server->n_deny);
    struct config_rate_limits *limits = &server->rate_limits;
    *limits = (struct config_rate_limits){.all = make_limit(from->all),
                                          .user = make_limit(from->user),
                                          .tools = made->tool_rows[at],
                                          .user_tools = made->user_rows[at],
                                          .groups = made->group_rows[at]};
    for (int g = 0; g < GROUPS; g++)
        add_row(limits->groups, &limits->n_groups, group_names[g], from->groups[g]);
    for (int t = 0; t < TOOLS; t++) {
        const struct model_tool *tool = &from->tools[t];
        add_row(limits->tools, &limits->n_tools, tool_names[t], tool->all);
        add_row(limits->user_tools, &limits->n_user_tools, tool_names[t], tool->user);
        if (tool->is_whitelisted) {
            char *text = made->whitelist_text[made->config.n_whitelist];
            snprintf(text, sizeof made->whitelist_text[0], "%s__%s", server_names[at],
                     tool_names[t]);
            made->whitelist[made->config.n_whitelist++] = slice_from_cstr(text);
        }
        /* A tool of which nothing is said has a table now and then all the same. */
        if (!tool->has_allow && tool->deny == 0 && tool->access == UNSAID && chance(3) != 0)
            continue;
        struct config_tool *table = &made->tools[at][server->n_tools++];
        *table = (struct config_tool){.name = slice_from_cstr(tool_names[t]),
                                      .has_allow = tool->has_allow,
                                      .access = make_access(tool->access)};
        table->allow = make_set(made, tool->allow, &table->n_allow);
        table->deny = make_set(made, tool->deny, &table->n_deny);
    }
}

static void make_config(struct made *made, const struct model *model) {
    *made = (struct made){.config = {.trust_annotations = model->trusts,
                                     .rate_limits = {.enabled = model->limits_are_on}}};
    made->config.servers = made->servers;
    made->config.whitelist = made->whitelist;
    for (int s = 0; s < model->n_servers; s++)
        make_server(made, model, s);
    made->config.n_servers = (size_t)model->n_servers;
    /* One that names nothing that is there makes a whitelist, too. */
    if (model->has_whitelist && made->config.n_whitelist == 0)
        made->whitelist[made->config.n_whitelist++] = SLICE("gone__x");
}

/* --- a model by chance --- */

static struct model_rate some_rate(void) {
    if (chance(2) == 0)
        return (struct model_rate){0, 0};
    return (struct model_rate){(unsigned)(1 + chance(6)), (unsigned)(1 + chance(4))};
}

static enum word some_word(void) {
    return (enum word)chance(3);
}

static void make_model(struct model *model) {
    *model = (struct model){.trusts = chance(2),
                            .has_whitelist = chance(2),
                            .limits_are_on = chance(4) != 0,
                            .n_servers = (int)(1 + chance(MOST_SERVERS))};
    for (int s = 0; s < model->n_servers; s++) {
        struct model_server *server = &model->servers[s];
        server->has_allow = chance(3) == 0;
        server->allow = server->has_allow ? some_groups() : 0;
        server->deny = chance(3) == 0 ? some_groups() : 0;
        server->access = some_word();
        server->all = some_rate();
        server->user = some_rate();
        for (int g = 0; g < GROUPS; g++)
            server->groups[g] = some_rate();
        for (int t = 0; t < TOOLS; t++) {
            struct model_tool *tool = &server->tools[t];
            if (chance(3) == 0)
                continue;
            tool->has_allow = chance(3) == 0;
            tool->allow = tool->has_allow ? some_groups() : 0;
            tool->deny = chance(3) == 0 ? some_groups() : 0;
            tool->access = some_word();
            tool->is_whitelisted = model->has_whitelist && chance(2);
            tool->all = some_rate();
            tool->user = some_rate();
        }
    }
}

/* --- what is asked --- */

/* One of what came, the id in place of what names the rule otherwise. */
static bool take(const struct limits_charge *charges, size_t n, size_t *at, const char *id,
                 struct model_rate rate, bool is_users) {
    if (rate.limit == 0)
        return true;
    if (*at == n)
        return false;
    const struct limits_charge *charge = &charges[(*at)++];
    return slice_eq(charge->rule->id, slice_from_cstr(id)) &&
           charge->rule->limit.limit == rate.limit &&
           charge->rule->limit.interval_ms == rate.seconds * 1000u &&
           charge->subject.high == (is_users ? 7u : 0u) &&
           charge->subject.low == (is_users ? 9u : 0u);
}

static const char *escaped(const char *name) {
    return strcmp(name, "c:d") == 0 ? "c%3Ad" : strcmp(name, "p:t") == 0 ? "p%3At" : name;
}

static bool charges_are_right(const struct model *model, int s, int t, struct asker asker,
                              const struct limits_charge *charges, size_t n) {
    const struct model_server *server = &model->servers[s];
    char all[64], tool_all[64], user[64], tool_user[64];
    size_t at = 0;
    if (!model->limits_are_on)
        return n == 0;
    snprintf(all, sizeof all, "server:%s", server_names[s]);
    snprintf(user, sizeof user, "server:%s:user", server_names[s]);
    struct model_rate user_rate = server->user;
    int row = oracle_user_row(server, asker);
    if (row >= 0) {
        snprintf(user, sizeof user, "server:%s:user:group:%s", server_names[s],
                 escaped(group_names[row]));
        user_rate = server->groups[row];
    }
    bool right = take(charges, n, &at, all, server->all, false);
    if (t >= 0) {
        snprintf(tool_all, sizeof tool_all, "server:%s:tool:%s", server_names[s],
                 escaped(tool_names[t]));
        right = right && take(charges, n, &at, tool_all, server->tools[t].all, false);
    }
    right = right && take(charges, n, &at, user, user_rate, true);
    if (t >= 0) {
        snprintf(tool_user, sizeof tool_user, "server:%s:user:tool:%s", server_names[s],
                 escaped(tool_names[t]));
        right = right && take(charges, n, &at, tool_user, server->tools[t].user, true);
    }
    return right && at == n;
}

struct asked {
    const struct policy *policy;
    const struct model *model;
    struct policy_caller caller;
    struct asker asker;
    bool edit;
};

/* `t` < 0: a prompt or a resource. */
static enum policy_verdict ask(const struct asked *asked, int s, int t, bool hint) {
    const struct model_server *server = &asked->model->servers[s];
    const struct model_tool *tool = t >= 0 ? &server->tools[t] : NULL;
    const struct policy_server *found =
        policy_find_server(asked->policy, slice_from_cstr(server_names[s]));
    struct policy_item item = {.kind = t >= 0 ? POLICY_TOOL
                                              : (enum policy_kind)(POLICY_PROMPT + chance(2)),
                               .name = slice_from_cstr(tool_names[t >= 0 ? t : 0]),
                               .says_read_only = hint};
    struct policy_decision decision = policy_decide(found, &asked->caller, &item, asked->edit);
    bool sees = oracle_may_see(server, tool, asked->asker);
    bool writes = tool != NULL && oracle_writes(asked->model, server, tool, hint);
    bool is_locked = tool != NULL && oracle_is_locked(asked->model, tool, writes, asked->edit);
    enum policy_verdict wanted = !sees       ? POLICY_UNKNOWN
                                 : is_locked ? POLICY_LOCKED
                                             : POLICY_ALLOWED;
    CHECK_INT(decision.verdict, wanted);
    CHECK_INT(decision.is_write, writes);
    CHECK((decision.rule == POLICY_RULE_NONE) == (wanted == POLICY_ALLOWED));
    struct limits_charge charges[LIMIT_RATE_LEVELS];
    size_t n = policy_charges(found, &asked->caller, &item, (struct limits_subject){7, 9}, charges);
    CHECK(charges_are_right(asked->model, s, t, asked->asker, charges, n));
    return decision.verdict;
}

/* All of one server: what is asked one by one agrees with what is asked as a whole. */
static void ask_server(const struct asked *asked, int s) {
    const struct policy_server *found =
        policy_find_server(asked->policy, slice_from_cstr(server_names[s]));
    bool all_tools = policy_allows_all(found, &asked->caller, POLICY_TOOL, asked->edit);
    bool knows_some = false;
    for (int t = 0; t < TOOLS; t++) {
        enum policy_verdict verdict = ask(asked, s, t, chance(2));
        CHECK(!all_tools || verdict == POLICY_ALLOWED);
        knows_some |= verdict != POLICY_UNKNOWN;
    }
    enum policy_verdict other = ask(asked, s, -1, false);
    CHECK_INT(policy_allows_all(found, &asked->caller, POLICY_PROMPT, asked->edit),
              other == POLICY_ALLOWED);
    CHECK_INT(policy_allows_all(found, &asked->caller, POLICY_RESOURCE, asked->edit),
              other == POLICY_ALLOWED);
    CHECK_INT(policy_may_know(found, &asked->caller), knows_some || other == POLICY_ALLOWED);
}

static void test_oracle(void) {
    static struct model model;
    static struct made made;
    size_t verdicts = 0;
    for (int i = 0; i < CONFIGS && test_failures == 0; i++) {
        char row[64];
        snprintf(row, sizeof row, "configuration %d", i);
        test_row(row);
        make_model(&model);
        make_config(&made, &model);
        struct policy *policy = NULL;
        REQUIRE(policy_new(&made.config, &policy) == 0);
        for (int p = 0; p < 3; p++) {
            struct slice names[GROUPS];
            struct asked asked = {.policy = policy, .model = &model, .edit = chance(2)};
            asked.asker.groups = p == 0 ? 0 : (unsigned)chance(1u << GROUPS);
            asked.asker.are_known = chance(4) != 0;
            asked.caller.groups_are_known = asked.asker.are_known;
            asked.caller.groups = names;
            for (int g = 0; g < GROUPS; g++) { /* the names are sorted */
                if (asked.asker.groups >> g & 1)
                    names[asked.caller.n_groups++] = slice_from_cstr(group_names[g]);
            }
            for (int s = 0; s < model.n_servers; s++)
                ask_server(&asked, s);
            verdicts += (size_t)model.n_servers * (TOOLS + 1);
        }
        policy_free(policy);
        test_row("");
    }
    printf("# %zu decisions\n", verdicts);
    CHECK(verdicts > CONFIGS * 3 * TOOLS);
}

TEST_MAIN(TEST(test_oracle))
