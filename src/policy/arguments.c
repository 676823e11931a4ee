/*
 * Rules about the arguments of a tool. The server reads the same bytes with a parser of its own,
 * and may be more lenient than the gateway, so that each kind of rule takes the reading that it is
 * worse with: an `allow` wants type and value to be as they are written there, a `deny` and a `max`
 * hold for whatever a server could make of the value. Objects cannot be compared with anything, and
 * are refused. A list is its entries, at any depth; null, and a list with nothing in it, is as if
 * the argument were not there.
 *
 * Costs are bounded: values are looked up in sorted arrays, the matches of one call share their
 * work, and what is left over undecided is refused.
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "json/reader.h"
#include "private.h"

/* Everything below. */
static const struct json_want all_below[2];
static const struct json_want all_below[2] = {{"*", all_below}, {0}};

/* --- compiling --- */

static int compare_slices(const void *a, const void *b) {
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

static int compare_numbers(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Type and value. */
static int compile_allow(struct policy *policy, const struct config_argument *config,
                         struct policy_values *values) {
    size_t n = config->n_allow;
    if (n == 0)
        return 0;
    values->texts = arena_alloc_array(&policy->arena, n, sizeof *values->texts);
    values->numbers = arena_alloc_array(&policy->arena, n, sizeof *values->numbers);
    if (values->texts == NULL || values->numbers == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const struct config_value *value = &config->allow[i];
        switch (value->type) {
        case CONFIG_VALUE_STRING:
            values->texts[values->n_texts++] = value->text;
            break;
        case CONFIG_VALUE_NUMBER:
            if (!isnan(value->number))
                values->numbers[values->n_numbers++] = value->number;
            break;
        case CONFIG_VALUE_BOOL:
            *(slice_eq(value->text, SLICE("true")) ? &values->has_true : &values->has_false) = true;
            break;
        }
    }
    qsort(values->texts, values->n_texts, sizeof *values->texts, compare_slices);
    qsort(values->numbers, values->n_numbers, sizeof *values->numbers, compare_numbers);
    return 0;
}

/* Every text, and every number that one of them could be taken for. */
static int compile_deny(struct policy *policy, const struct config_argument *config,
                        struct policy_values *values) {
    size_t n = config->n_deny;
    if (n == 0)
        return 0;
    CLEANUP(buf_deinit) struct buf scratch = BUF_INIT(LIMIT_CONFIG_STRING + 1);
    values->texts = arena_alloc_array(&policy->arena, n, sizeof *values->texts);
    values->numbers = arena_alloc_array(&policy->arena, n, sizeof *values->numbers);
    if (values->texts == NULL || values->numbers == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const struct config_value *value = &config->deny[i];
        double number = value->number;
        bool has_number = value->type == CONFIG_VALUE_NUMBER;
        values->texts[values->n_texts++] = value->text;
        if (!has_number)
            has_number = policy_reads_as_number(&scratch, value->text, &number);
        if (buf_error(&scratch) == -ENOMEM)
            return -ENOMEM;
        if (has_number && !isnan(number))
            values->numbers[values->n_numbers++] = number;
    }
    qsort(values->texts, values->n_texts, sizeof *values->texts, compare_slices);
    qsort(values->numbers, values->n_numbers, sizeof *values->numbers, compare_numbers);
    return 0;
}

/* What the argument's name may not be mistaken for. */
static int compile_name(struct policy *policy, struct policy_argument *argument) {
    CLEANUP(buf_deinit) struct buf folded = BUF_INIT(LIMIT_CONFIG_STRING);
    if (policy_fold(&folded, argument->config->name) != 0)
        return -ENOMEM;
    argument->folded = arena_dup(&policy->arena, buf_slice(&folded));
    if (argument->folded.ptr == NULL)
        return -ENOMEM;
    if (policy_is_ascii(argument->folded))
        return 0;
    int error = regex_new_caseless(argument->folded, &argument->alike);
    return error > 0 ? -EINVAL : error;
}

static int compile_argument(struct policy *policy, struct policy_argument *argument) {
    const struct config_argument *config = argument->config;
    int error = compile_allow(policy, config, &argument->allow);
    if (error == 0)
        error = compile_deny(policy, config, &argument->deny);
    if (error == 0)
        error = compile_name(policy, argument);
    if (error == 0 && config->pattern.len != 0)
        error = regex_new(config->pattern, &argument->pattern, NULL);
    return error > 0 ? -EINVAL : error;
}

int policy_compile_arguments(struct policy *policy, struct policy_tool *tool) {
    size_t n = tool->config->n_arguments;
    if (n == 0)
        return 0;
    tool->arguments = arena_alloc_array(&policy->arena, n, sizeof *tool->arguments);
    tool->wants = arena_alloc_array(&policy->arena, n + 1, sizeof *tool->wants);
    if (tool->arguments == NULL || tool->wants == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        struct policy_argument *argument = &tool->arguments[tool->n_arguments++];
        argument->config = &tool->config->arguments[i];
        tool->wants[i] = (struct json_want){argument->config->name.ptr, all_below};
        int error = compile_argument(policy, argument);
        if (error != 0)
            return error;
    }
    return 0;
}

void policy_free_arguments(struct policy_tool *tool) {
    for (size_t i = 0; i < tool->n_arguments; i++) {
        tool->arguments[i].pattern = regex_free(tool->arguments[i].pattern);
        tool->arguments[i].alike = regex_free(tool->arguments[i].alike);
    }
}

/* --- checking --- */

enum refusal {
    REFUSAL_NONE,
    REFUSAL_ABSENT,
    REFUSAL_ALLOW,
    REFUSAL_DENY,
    REFUSAL_PATTERN,
    REFUSAL_UNDECIDED,
    REFUSAL_MAX,
    REFUSAL_LONG,
    REFUSAL_ENTRIES,
    REFUSAL_OBJECT,
    REFUSAL_SPELLING,
};

struct check {
    const struct policy_argument *argument;
    const struct json_reader *reader;
    struct regex_work work;
    struct buf text, scratch; /* an unescaped string; a number as it is read */
    size_t n_scalars;         /* of the argument that is looked at */
    bool is_out_of_memory;
};

static bool has_rule(const struct config_argument *config) {
    return config->has_allow || config->n_deny != 0 || config->pattern.len != 0 || config->has_max;
}

static bool needs_value(const struct config_argument *config) {
    return (config->has_allow || config->pattern.len != 0) && !config->optional;
}

/* What a scalar is called as text; of a string, what is in it. */
static bool text_of(struct check *check, const struct json_node *node, struct slice *ret_text) {
    *ret_text = node->raw;
    if (node->type != JSON_STRING)
        return true;
    *ret_text = json_string_raw(node);
    if (!node->value_escaped)
        return true;
    buf_reset(&check->text, KIB(4));
    if (json_string_append(&check->text, node) != 0) {
        check->is_out_of_memory = true;
        return false;
    }
    *ret_text = buf_slice(&check->text);
    return true;
}

static bool has_text(const struct policy_values *values, struct slice text) {
    return values->n_texts != 0 &&
           bsearch(&text, values->texts, values->n_texts, sizeof text, compare_slices) != NULL;
}

static bool reads_as_number(struct check *check, struct slice text, double *ret_number) {
    bool does = policy_reads_as_number(&check->scratch, text, ret_number);
    check->is_out_of_memory |= buf_error(&check->scratch) != 0;
    return does;
}

static bool has_number(struct check *check, const struct policy_values *values, struct slice text) {
    double number;
    return values->n_numbers != 0 && reads_as_number(check, text, &number) && !isnan(number) &&
           bsearch(&number, values->numbers, values->n_numbers, sizeof number, compare_numbers) !=
               NULL;
}

static bool is_allowed(struct check *check, const struct json_node *node, struct slice text) {
    const struct policy_values *values = &check->argument->allow;
    switch (node->type) {
    case JSON_STRING:
        return has_text(values, text);
    case JSON_NUMBER:
        return has_number(check, values, text);
    case JSON_TRUE:
        return values->has_true;
    case JSON_FALSE:
        return values->has_false;
    case JSON_NULL:
    case JSON_OBJECT:
    case JSON_ARRAY:
        break;
    }
    return false;
}

static bool is_denied(struct check *check, struct slice text) {
    const struct policy_values *values = &check->argument->deny;
    struct slice head, rest;
    (void)slice_cut(text, '\0', &head, &rest);
    return has_text(values, text) || has_text(values, head) || has_number(check, values, text);
}

static size_t count_characters(struct slice text) {
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += ((unsigned char)text.ptr[i] & 0xc0) != 0x80;
    return n;
}

/* What is no number (NaN) is not at most `max` either. */
static enum refusal check_max(struct check *check, const struct json_node *node,
                              struct slice text) {
    double max = check->argument->config->max, number;
    if (node->type != JSON_STRING && node->type != JSON_NUMBER)
        return REFUSAL_NONE;
    if (node->type == JSON_STRING && !((double)count_characters(text) <= max))
        return REFUSAL_LONG;
    if (reads_as_number(check, text, &number))
        return number <= max ? REFUSAL_NONE : REFUSAL_MAX;
    return node->type == JSON_STRING ? REFUSAL_NONE : REFUSAL_UNDECIDED;
}

static enum refusal check_scalar(struct check *check, const struct json_node *node) {
    const struct config_argument *config = check->argument->config;
    struct slice text;
    check->n_scalars++;
    if (!text_of(check, node, &text))
        return REFUSAL_UNDECIDED;
    if (config->has_allow && !is_allowed(check, node, text))
        return REFUSAL_ALLOW;
    if (config->n_deny != 0 && is_denied(check, text))
        return REFUSAL_DENY;
    if (check->argument->pattern != NULL) {
        enum regex_verdict verdict = regex_match(check->argument->pattern, text, &check->work);
        if (verdict != REGEX_MATCHES)
            return verdict == REGEX_DIFFERS ? REFUSAL_PATTERN : REFUSAL_UNDECIDED;
    }
    return config->has_max ? check_max(check, node, text) : REFUSAL_NONE;
}

/* As deep as the reader lets a document be (LIMIT_JSON_DEPTH). */
static enum refusal check_value(struct check *check, const struct json_node *node) {
    const struct config_argument *config = check->argument->config;
    if (node->type == JSON_OBJECT)
        return has_rule(config) ? REFUSAL_OBJECT : REFUSAL_NONE;
    if (node->type == JSON_NULL)
        return needs_value(config) ? REFUSAL_ABSENT : REFUSAL_NONE;
    if (node->type != JSON_ARRAY)
        return check_scalar(check, node);
    if (!node->opened)
        return REFUSAL_UNDECIDED;
    size_t n = 0;
    enum refusal refusal = REFUSAL_NONE;
    for (const struct json_node *entry = json_first(check->reader, node);
         entry != NULL && refusal == REFUSAL_NONE; entry = json_next(check->reader, entry)) {
        n++;
        refusal = config->has_max && !((double)n <= config->max) ? REFUSAL_ENTRIES
                                                                 : check_value(check, entry);
    }
    return refusal;
}

static enum refusal check_argument(struct check *check, const struct json_node *node) {
    check->n_scalars = 0;
    enum refusal refusal = node != NULL ? check_value(check, node) : REFUSAL_NONE;
    if (check->is_out_of_memory)
        return REFUSAL_UNDECIDED;
    if (refusal == REFUSAL_NONE && check->n_scalars == 0 && needs_value(check->argument->config))
        return REFUSAL_ABSENT;
    return refusal;
}

/* --- names --- */

/* One key as it is and as it is folded, for all rules. */
struct key {
    struct slice text, folded;
    bool is_ascii; /* folded */
};

static bool is_alike(struct check *check, const struct policy_argument *argument,
                     const struct key *key) {
    if (slice_eq(key->text, argument->config->name))
        return false;
    if (argument->alike == NULL)
        return key->is_ascii && slice_eq_nocase(key->folded, argument->folded);
    return !key->is_ascii && count_characters(key->folded) == count_characters(argument->folded) &&
           regex_match(argument->alike, key->folded, &check->work) != REGEX_DIFFERS;
}

/* The rule whose argument another parser could take this one for. */
static const struct policy_argument *find_alike(struct check *check, const struct policy_tool *tool,
                                                const struct json_node *node) {
    struct key key = {.text = node->key};
    buf_reset(&check->text, KIB(4));
    buf_reset(&check->scratch, KIB(4));
    if (node->key_escaped) {
        check->is_out_of_memory |= json_unescape(&check->text, node->key) != 0;
        key.text = buf_slice(&check->text);
    }
    assert(tool->arguments != NULL); /* who asks has seen that there are rules */
    struct slice rest;               /* C ends a text at its first NUL */
    (void)slice_cut(key.text, '\0', &key.folded, &rest);
    key.is_ascii = policy_is_ascii(key.folded);
    if (!key.is_ascii) {
        check->is_out_of_memory |= policy_fold(&check->scratch, key.folded) != 0;
        key.folded = buf_slice(&check->scratch);
        key.is_ascii = policy_is_ascii(key.folded);
    }
    for (size_t i = 0; i < tool->n_arguments; i++) {
        if (check->is_out_of_memory || is_alike(check, &tool->arguments[i], &key))
            return &tool->arguments[i];
    }
    return NULL;
}

/* --- telling --- */

static int write_number(struct buf *out, double number) {
    return buf_printf(out, "%.15g", number);
}

static void write_value(struct buf *out, const struct config_value *value) {
    if (value->type == CONFIG_VALUE_STRING)
        policy_write_toml_string(out, value->text);
    else
        buf_append(out, value->text);
}

/* The caller has to know what it may send; a long list is cut. */
static void write_choice(struct buf *out, const struct config_argument *config) {
    enum { MOST = 10, MOST_BYTES = 300 };
    if (config->n_allow == 0) {
        buf_append(out, SLICE("no value is allowed"));
        return;
    }
    buf_append(out, SLICE("use one of: "));
    size_t before = buf_len(out);
    for (size_t i = 0; i < config->n_allow; i++) {
        if (i == MOST || buf_len(out) - before > MOST_BYTES) {
            buf_append(out, SLICE(", ..."));
            return;
        }
        if (i != 0)
            buf_append(out, SLICE(", "));
        write_value(out, &config->allow[i]);
    }
}

static void write_cure(struct buf *out, const struct config_argument *config) {
    if (config->has_allow)
        write_choice(out, config);
    else if (config->pattern.len != 0) {
        buf_append(out, SLICE("the whole text has to match "));
        policy_write_toml_string(out, config->pattern);
    } else
        buf_append(out, SLICE("use another value"));
}

static const struct {
    const char *what, *key, *cure; /* cure NULL: write_cure() */
} texts[] = {
    [REFUSAL_NONE] = {"", "", ""},
    [REFUSAL_ABSENT] = {" is missing", NULL, NULL},
    [REFUSAL_ALLOW] = {" is none of the values of ", "allow", NULL},
    [REFUSAL_DENY] = {" has a value of ", "deny", "use another value"},
    [REFUSAL_PATTERN] = {" does not match ", "pattern", NULL},
    [REFUSAL_UNDECIDED] = {" takes too long to check against ", "", "use a shorter value"},
    [REFUSAL_MAX] = {" is, or can be read as, a number above ", "max", "use at most "},
    [REFUSAL_LONG] = {" has more characters than ", "max", "use at most "},
    [REFUSAL_ENTRIES] = {" is a list with more entries than ", "max", "use at most "},
    [REFUSAL_OBJECT] = {" is an object or has one in it, which cannot be checked against ", "",
                        "use plain values"},
    [REFUSAL_SPELLING] = {" has a second spelling, which other parsers could take for it; rule: ",
                          "", "send it once, as it is written here"},
};

static void tell(struct buf *out, const struct policy_decision *decision, struct slice name,
                 const struct config_argument *config, enum refusal refusal) {
    const char *key = texts[refusal].key;
    if (key == NULL) /* a rule is what needs the argument */
        key = config->has_allow ? "allow" : "pattern";
    policy_write_tool_name(out, decision->server, name);
    buf_append(out, SLICE(": the argument "));
    policy_write_toml_key(out, config->name);
    buf_append_cstr(out, texts[refusal].what);
    buf_append_cstr(out, refusal == REFUSAL_ABSENT ? ", which " : "");
    policy_write_tool_key(out, decision->server, name);
    buf_append(out, SLICE(".arguments."));
    policy_write_toml_key(out, config->name);
    buf_append_cstr(out, key[0] != '\0' ? "." : "");
    buf_append_cstr(out, key);
    buf_append_cstr(out, refusal == REFUSAL_ABSENT ? " asks for; " : "; ");
    if (texts[refusal].cure == NULL)
        write_cure(out, config);
    else
        buf_append_cstr(out, texts[refusal].cure);
    if (refusal == REFUSAL_MAX || refusal == REFUSAL_LONG || refusal == REFUSAL_ENTRIES)
        write_number(out, config->max);
}

static int tell_unreadable(struct buf *out, const struct policy_decision *decision,
                           struct slice name, const char *reason) {
    policy_write_tool_name(out, decision->server, name);
    buf_append(out, SLICE(": the arguments cannot be checked against "));
    policy_write_tool_key(out, decision->server, name);
    buf_append(out, SLICE(".arguments: "));
    buf_append_cstr(out, reason);
    return POLICY_E_ARGUMENT;
}

static int check_all(struct check *check, const struct policy_decision *decision, struct slice name,
                     const struct json_node *root, struct buf *reason) {
    const struct policy_tool *tool = decision->tool;
    for (const struct json_node *node = root != NULL ? json_first(check->reader, root) : NULL;
         node != NULL; node = json_next(check->reader, node)) {
        const struct policy_argument *argument = find_alike(check, tool, node);
        if (argument != NULL && !check->is_out_of_memory) {
            tell(reason, decision, name, argument->config, REFUSAL_SPELLING);
            return POLICY_E_ARGUMENT;
        }
    }
    for (size_t i = 0; i < tool->n_arguments && !check->is_out_of_memory; i++) {
        check->argument = &tool->arguments[i];
        const struct config_argument *config = check->argument->config;
        enum refusal refusal = check_argument(
            check, root != NULL ? json_member(check->reader, root, config->name) : NULL);
        if (refusal == REFUSAL_NONE || check->is_out_of_memory)
            continue;
        tell(reason, decision, name, config, refusal);
        return POLICY_E_ARGUMENT;
    }
    return check->is_out_of_memory ? -ENOMEM : 0;
}

int policy_check_arguments(const struct policy_decision *decision, struct slice name,
                           struct json_reader *reader, struct slice arguments, struct buf *reason) {
    if (!policy_has_argument_rules(decision))
        return 0;
    struct json_error unread = {.reason = ""};
    const struct json_node *root = NULL;
    if (arguments.len != 0) {
        struct json_want want = {.children = decision->tool->wants};
        int error = json_read(reader, arguments, &want, NULL, &unread);
        if (error < 0)
            return error;
        if (error > 0)
            return tell_unreadable(reason, decision, name, unread.reason);
        root = json_root(reader);
        if (root->type != JSON_OBJECT)
            return tell_unreadable(reason, decision, name, "they are no object");
    }
    /* An unescaped text is no longer than it was written. Folding may make a text longer, but not
     * to more than twice as much. */
    struct check check = {.reader = reader};
    buf_init(&check.text, arguments.len + 1);
    buf_init(&check.scratch, 2 * arguments.len + 1);
    regex_work_init(&check.work);
    int result = check_all(&check, decision, name, root, reason);
    regex_work_deinit(&check.work);
    buf_deinit(&check.text);
    buf_deinit(&check.scratch);
    return result;
}
