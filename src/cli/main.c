/*
 * The command line: one table of commands, one of options; help comes from the same rows. A command
 * has one word or two ("token new"). Words are collected first, wherever options stand between
 * them, and looked up then.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "cli.h"
#include "io/stream.h"

struct command {
    const char *name; /* one word, or two with a space between them */
    const char *arguments, *help;
    int n_arguments; /* required */
    int max_arguments;
    cli_command *run;
};

static const struct command commands[] = {
    {"serve", "", "start the gateway (the default)", 0, 0, cli_serve},
    {"check", "[FILE]", "say what is wrong in a configuration", 0, 1, cli_check},
    {"config", "[FILE]", "show every key with its value and where that comes from", 0, 1,
     cli_config},
    {"tools", "", "list the tools that a configuration serves", 0, 0, cli_tools},
    {"classify", "", "suggest which tools read and which write; --write: into the file", 0, 0,
     cli_classify},
    {"call", "TOOL [JSON]", "call one tool with these arguments", 1, 2, cli_call},
    {"status", "", "show what the running gateway does", 0, 0, cli_status},
    {"reload", "", "let the running gateway read its configuration again", 0, 0, cli_reload},
    {"edit", "[on|off|list]",
     "show, open (--minutes, --reason, --role, --upstream) or close edit mode", 0, 1, cli_edit},
    {"explain", "TOOL [JSON]", "say what comes of a call, and why (--as, --group, --kind)", 1, 2,
     cli_explain},
    {"token new", "NAME", "make an API token and the lines that let it in", 1, 1, cli_token_new},
    {"token add", "USER NAME", "make a token of a user (--days, --operation, --permission)", 2, 2,
     cli_token_add},
    {"token list", "[USER]", "list the tokens of users", 0, 1, cli_token_list},
    {"token revoke", "[ID]", "revoke a token, or all of a user's (--user)", 0, 1, cli_token_revoke},
    {"user add", "NAME", "add a user (--admin, --role); the password from standard input", 1, 1,
     cli_user_add},
    {"user list", "", "list the users", 0, 0, cli_user_list},
    {"user show", "NAME", "show a user, with what their roles give", 1, 1, cli_user_show},
    {"user edit", "NAME", "change a user (--name, --display-name, --email, --role)", 1, 1,
     cli_user_edit},
    {"user password", "NAME", "set a user's password, from standard input", 1, 1,
     cli_user_password},
    {"user disable", "NAME", "disable a user, with all tokens and sessions", 1, 1,
     cli_user_disable},
    {"user enable", "NAME", "enable a user again", 1, 1, cli_user_enable},
    {"user delete", "NAME", "delete a user, with all tokens and sessions", 1, 1, cli_user_delete},
    {"session list", "[USER]", "list who is logged in to the console", 0, 1, cli_session_list},
    {"session end", "[ID]", "end a session, or all of a user's (--user)", 0, 1, cli_session_end},
    {"role list", "", "list the roles", 0, 0, cli_role_list},
    {"role show", "NAME", "show what a role gives", 1, 1, cli_role_show},
    {"role add", "NAME", "add a role (--permission, --operation, --group)", 1, 1, cli_role_add},
    {"role edit", "NAME", "change a role; rights that are given replace the old ones", 1, 1,
     cli_role_edit},
    {"role delete", "NAME", "delete a role that nobody has", 1, 1, cli_role_delete},
    {"upstream list", "", "list the upstreams of the file and of the store", 0, 0,
     cli_upstream_list},
    {"upstream show", "NAME", "show an upstream of the store, with its definition", 1, 1,
     cli_upstream_show},
    {"upstream add", "NAME", "add an upstream to the store; its JSON from standard input", 1, 1,
     cli_upstream_add},
    {"upstream edit", "NAME", "give it another definition, from standard input", 1, 1,
     cli_upstream_edit},
    {"upstream disable", "NAME", "serve it no more, and keep it", 1, 1, cli_upstream_disable},
    {"upstream enable", "NAME", "serve it again", 1, 1, cli_upstream_enable},
    {"upstream delete", "NAME", "delete it from the store", 1, 1, cli_upstream_delete},
    {"upstream test", "NAME", "connect to one of the file or the store, and say how that went", 1,
     1, cli_upstream_test},
    {"connect", "[URL]",
     "be the MCP server of a client that knows only stdio: a bridge to URL, or\n"
     "                             to the gateway that runs here",
     0, 1, cli_connect},
    {"cert show", "", "show the certificate that is served, and its authority", 0, 0,
     cli_cert_show},
    {"cert renew", "", "make a new certificate; a running gateway takes it up", 0, 0,
     cli_cert_renew},
    {"cert ca", "", "print the gateway's own authority, for clients to trust", 0, 0, cli_cert_ca},
    {"secret set", "NAME", "keep what {{ secret.NAME }} stands for, from standard input", 1, 1,
     cli_secret_set},
    {"secret list", "", "list the secrets, without what they hold", 0, 0, cli_secret_list},
    {"secret delete", "NAME", "delete a secret", 1, 1, cli_secret_delete},
    {"key list", "", "list the keys that secrets are kept under", 0, 0, cli_key_list},
    {"key new", "", "make a key for CARDEA_ENCRYPTION_KEY", 0, 0, cli_key_new},
    {"key rotate", "", "encrypt all secrets and private keys again, under a new key", 0, 0,
     cli_key_rotate},
    {"store migrate", "[FILE]", "bring the store, or a backup, up to this version's schema", 0, 1,
     cli_store_migrate},
    {"store backup", "FILE", "copy the store as it is now into a new file", 1, 1, cli_store_backup},
    {"store restore", "FILE", "put a backup into the store (--force: in place of what is in it)", 1,
     1, cli_store_restore},
    {"store copy", "", "copy the store into another one (--to), such as PostgreSQL", 0, 0,
     cli_store_copy},
    {"audit tail", "", "show the last records (-n), and those that come (-f)", 0, 0,
     cli_audit_tail},
    {"audit list", "", "look for records (--user, --since and other filters)", 0, 0,
     cli_audit_list},
    {"audit export", "", "write records out (--format csv or jsonl, filters)", 0, 0,
     cli_audit_export},
    {"audit verify", "", "prove that nobody changed the records (--key, --expect)", 0, 0,
     cli_audit_verify},
    {"audit head", "", "print what --expect takes later: keep it elsewhere", 0, 0, cli_audit_head},
    {"audit reindex", "", "make the index of the records anew (--forget)", 0, 0, cli_audit_reindex},
};

enum option_id {
    OPTION_CONFIG,
    OPTION_LISTEN,
    OPTION_ADMIN_LISTEN,
    OPTION_DATA_DIR,
    OPTION_LOG,
    OPTION_LOG_STYLE,
    OPTION_GROUP,
    OPTION_OPERATION,
    OPTION_LIST, /* each is kept */
    OPTION_WORD, /* kept as it is */
    OPTION_FLAG,
    OPTION_VERSION,
    OPTION_HELP,
};

struct option {
    enum option_id id;
    char letter; /* 0: none */
    const char *name, *value, *environment, *help;
    size_t offset; /* of OPTION_WORD, _LIST and _FLAG, in struct cli_options */
};

#define WORD(letter, name, value, member, help)                                                    \
    { OPTION_WORD, letter, name, value, NULL, help, offsetof(struct cli_options, member) }
#define LIST(name, value, member, help)                                                            \
    { OPTION_LIST, 0, name, value, NULL, help, offsetof(struct cli_options, member) }
#define FLAG(letter, name, member, help)                                                           \
    { OPTION_FLAG, letter, name, NULL, NULL, help, offsetof(struct cli_options, member) }

static const struct option options_table[] = {
    {OPTION_CONFIG, 'c', "config", "FILE", "CARDEA_CONFIG_PATH",
     "configuration (default: cardea.toml, then nexus.toml)", 0},
    {OPTION_LISTEN, 'l', "listen-address", "IP:PORT", "CARDEA_LISTEN_ADDRESS",
     "instead of server.listen_address", 0},
    {OPTION_ADMIN_LISTEN, 0, "admin-listen", "IP:PORT|off", "CARDEA_ADMIN_LISTEN",
     "instead of admin.listen; off: no console", 0},
    {OPTION_DATA_DIR, 0, "data-dir", "DIR", NULL,
     "token, lock, control socket (default: $STATE_DIRECTORY,\n"
     "                               $XDG_STATE_HOME/cardea, ~/.local/state/cardea)",
     0},
    {OPTION_LOG, 0, "log", "LEVEL", "CARDEA_LOG",
     "off, error, warn, info, debug, trace (default: info)", 0},
    {OPTION_LOG_STYLE, 0, "log-style", "STYLE", NULL,
     "text, json, color (default: color on a terminal)", 0},
    FLAG(0, "json", json, "output for programs"),
    WORD(0, "out", "FILE", out_path, "token new, key new: into this new file, for its owner alone"),
    FLAG(0, "write", write, "classify: put the lines into the configuration"),
    WORD(0, "minutes", "N", minutes, "edit on: for so long, 1 to 1440 (default: 15)"),
    WORD(0, "to", "URL", to, "store copy: postgres://USER@HOST:PORT/NAME"),
    FLAG(0, "force", force,
         "store restore, copy: in place of what is there\n"
         "                               key rotate: where the key is lost, and the secrets are "
         "deleted"),
    WORD(0, "reason", "TEXT", reason, "edit: why, for the log"),
    WORD(0, "as", "USER", user, "explain: who calls"),
    {OPTION_GROUP, 0, "group", "GROUP", NULL,
     "explain: a group that the caller is in; repeatable\n"
     "                               audit list, export: of callers in this group\n"
     "                               role add, edit: of OAuth, which has the role",
     0},
    WORD(0, "kind", "KIND", kind, "explain: tool (the default), prompt or resource"),
    WORD('n', "lines", "N", audit.lines, "audit tail: so many (default: 10)"),
    FLAG('f', "follow", audit.follow, "audit tail: go on with what comes"),
    WORD(0, "user", "USER", audit.user,
         "audit list, export, session end, token revoke: of this user"),
    {OPTION_OPERATION, 0, "operation", "NAME", NULL,
     "audit list, export: of this tool, prompt or resource\n"
     "                               role add, edit, token add: UPSTREAM/TOOL=read or =write,\n"
     "                               with stars for whatever; repeatable",
     0},
    LIST("permission", "NAME", people.permissions,
         "role add, edit, token add: what it gives in the console; repeatable"),
    LIST("role", "NAME", people.roles,
         "user add, edit: a role of the user's; repeatable\n"
         "                               edit on, off: for this role alone"),
    FLAG(0, "admin", people.is_admin, "user add, edit: the role administrator"),
    FLAG(0, "no-roles", people.no_roles, "user edit: no role any more"),
    FLAG(0, "no-groups", people.no_groups, "role edit: no group any more"),
    FLAG(0, "no-password", people.no_password, "user add, password: nobody can log in with one"),
    FLAG(0, "temporary", people.temporary, "user add: the password is to be changed at once"),
    FLAG(0, "final", people.final, "user password: it need not be changed at the next login"),
    FLAG(0, "keep-tokens", people.keep_tokens, "user password: the user's tokens stay"),
    WORD(0, "name", "NAME", people.name, "user edit, role edit: another name"),
    WORD(0, "display-name", "TEXT", people.display_name, "user add, edit: how they are called"),
    WORD(0, "email", "ADDRESS", people.email, "user add, edit: where mail reaches them"),
    WORD(0, "description", "TEXT", people.description, "role add, edit: what it is for"),
    WORD(0, "days", "N", people.days, "token add: how long it lives (default: 365; 0: no end)"),
    WORD(0, "upstream", "SERVER", audit.upstream,
         "audit list, export: of this server\n"
         "                               edit on, off: for this server alone"),
    WORD(0, "status", "STATUS", audit.status,
         "audit list, export: ok, tool-error, error, input_required,\n"
         "                               refused, cancelled, timeout, unavailable, lost"),
    WORD(0, "decision", "DECISION", audit.decision, "audit list, export: allowed, denied"),
    WORD(0, "event", "EVENT", audit.event, "audit list, export: call, login, edit, ..."),
    WORD(0, "address", "ADDRESS", audit.address, "audit list, export: from this address or block"),
    WORD(0, "since", "TIME", audit.since,
         "audit list, export: from then on; 2026-11-21T22:55:01Z, 2d"),
    WORD(0, "until", "TIME", audit.until, "audit list, export: before then"),
    WORD(0, "text", "TEXT", audit.text, "audit list, export: that have this text anywhere"),
    WORD(0, "limit", "N", audit.limit, "audit list: so many (default: 50)"),
    WORD(0, "cursor", "N", audit.cursor, "audit list: on behind the page before"),
    FLAG(0, "oldest-first", audit.oldest_first, "audit list: from the oldest on"),
    WORD(0, "format", "FORMAT", audit.format, "audit export: csv, jsonl"),
    WORD('o', "output", "FILE", audit.output,
         "audit export: into this new file, for its owner alone"),
    WORD(0, "dir", "DIR", audit.dir, "audit: the trail's directory (default: DATA_DIR/audit)"),
    WORD(0, "key", "FILE", audit.key, "audit verify: the public key (default: DIR/public.pem)"),
    WORD(0, "forget", "LOG", audit.forget,
         "audit reindex: take out the records of an instance that is gone (PostgreSQL)"),
    WORD(0, "expect", "HEAD", audit.expect, "audit verify: a head that has to be in the trail"),
    FLAG(0, "stdio", stdio,
         "serve: one client on standard input and output, nothing that\n"
         "                               listens"),
    LIST("header", "NAME: VALUE", headers,
         "connect: a field of every request; repeatable. Not for tokens:\n"
         "                               command lines are seen by everybody"),
    WORD(0, "token-file", "FILE", token_file, "connect: the token (else CARDEA_TOKEN)"),
    WORD(0, "ca", "FILE", ca_file, "connect: trust this authority, too (PEM)"),
    FLAG(0, "allow-http", allow_http, "connect: show the token to an http URL elsewhere"),
    {OPTION_VERSION, 0, "version", NULL, NULL, "print the version", 0},
    {OPTION_HELP, 'h', "help", NULL, NULL, "print this", 0},
};

static void print_help(void) {
    printf("Cardea %s, a secure gateway for the Model Context Protocol\n\n"
           "usage: cardea [COMMAND] [OPTIONS]\n\ncommands:\n",
           CARDEA_VERSION);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", commands[i].name, commands[i].arguments);
        printf("  %-26s %s\n", left, commands[i].help);
    }
    printf("\noptions:\n");
    for (size_t i = 0; i < ARRAY_LEN(options_table); i++) {
        const struct option *option = &options_table[i];
        char left[64], letter[8] = "    ";
        if (option->letter != 0)
            snprintf(letter, sizeof letter, "-%c, ", option->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, option->name,
                 option->value != NULL ? " " : "", option->value != NULL ? option->value : "");
        printf("  %-28s %s\n", left, option->help);
        if (option->environment != NULL)
            printf("  %-28s [env: %s]\n", "", option->environment);
    }
    printf("\nexit codes: 0 fine, 1 failed, 2 bad usage, 78 bad configuration\n");
}

static int usage_error(const char *what, const char *which) {
    fprintf(stderr, "cardea: %s%s%s\ntry: cardea --help\n", what, which[0] != '\0' ? ": " : "",
            which);
    return CLI_USAGE;
}

static const struct option *find_option(const char *text, const char **ret_value) {
    *ret_value = NULL;
    for (size_t i = 0; i < ARRAY_LEN(options_table); i++) {
        const struct option *option = &options_table[i];
        size_t len = strlen(option->name);
        if (text[0] == '-' && text[1] == '-' && strncmp(text + 2, option->name, len) == 0) {
            if (text[2 + len] == '\0')
                return option;
            if (text[2 + len] == '=' && option->value != NULL) {
                *ret_value = text + 2 + len + 1;
                return option;
            }
        }
        if (text[0] == '-' && option->letter != 0 && text[1] == option->letter) {
            if (text[2] != '\0' && option->value != NULL)
                *ret_value = text + 2;
            if (text[2] == '\0' || *ret_value != NULL)
                return option;
        }
    }
    return NULL;
}

static int add_to(struct cli_list *list, const char *value) {
    if (list->n == (int)ARRAY_LEN(list->items))
        return usage_error("too many of this option", value);
    list->items[list->n++] = value;
    return CLI_OK;
}

/* CLI_OK, or CLI_USAGE with the reason on stderr. */
static int apply(struct cli_options *options, const struct option *option, const char *value) {
    struct io_address address;
    char *place = (char *)options + option->offset;
    switch (option->id) {
    case OPTION_CONFIG:
        options->config_path = value;
        return CLI_OK;
    case OPTION_LISTEN:
        options->listen_address = value;
        if (io_address_parse(slice_from_cstr(value), &address) != 0)
            return usage_error("an address is IP:PORT or [IPV6]:PORT, not", value);
        return CLI_OK;
    case OPTION_ADMIN_LISTEN:
        options->admin_listen = value;
        if (strcmp(value, "off") != 0 && io_address_parse(slice_from_cstr(value), &address) != 0)
            return usage_error("an address is IP:PORT or [IPV6]:PORT, or off, not", value);
        return CLI_OK;
    case OPTION_DATA_DIR:
        options->data_dir = value;
        return CLI_OK;
    case OPTION_LOG:
        if (log_level_parse(slice_from_cstr(value), &options->log_level) != 0)
            return usage_error("a log level is off, error, warn, info, debug or trace, not", value);
        return CLI_OK;
    case OPTION_LOG_STYLE:
        options->has_log_style = true;
        if (log_style_parse(slice_from_cstr(value), &options->log_style) != 0)
            return usage_error("a log style is text, json or color, not", value);
        return CLI_OK;
    case OPTION_GROUP:
        if (options->n_groups == (int)ARRAY_LEN(options->groups))
            return usage_error("too many groups", value);
        options->groups[options->n_groups++] = value;
        return CLI_OK;
    case OPTION_OPERATION:
        options->audit.operation = value;
        return add_to(&options->people.operations, value);
    case OPTION_LIST:
        return add_to((struct cli_list *)(void *)place, value);
    case OPTION_WORD:
        memcpy(place, &value, sizeof value);
        return CLI_OK;
    case OPTION_FLAG:
        *(bool *)place = true;
        return CLI_OK;
    case OPTION_VERSION:
    case OPTION_HELP:
        break;
    }
    return CLI_OK;
}

/* The environment first, so that the command line overrides it. */
static int apply_environment(struct cli_options *options) {
    for (size_t i = 0; i < ARRAY_LEN(options_table); i++) {
        const char *name = options_table[i].environment;
        const char *value = name != NULL ? getenv(name) : NULL;
        if (value == NULL || value[0] == '\0')
            continue;
        int result = apply(options, &options_table[i], value);
        if (result != CLI_OK)
            return result;
    }
    return CLI_OK;
}

/* What was typed: the words of the command, then its arguments. */
struct words {
    const char *items[8];
    int n;
};

/* How many of the words are the row's name; 0: it is another command. */
static int match(const struct command *command, const struct words *words) {
    struct slice first, second;
    struct slice name = slice_from_cstr(command->name);
    bool has_two = slice_cut(name, ' ', &first, &second);
    if (words->n == 0 || !slice_eq(first, slice_from_cstr(words->items[0])))
        return 0;
    if (!has_two)
        return 1;
    return words->n > 1 && slice_eq(second, slice_from_cstr(words->items[1])) ? 2 : 0;
}

/* The second words that may stand behind the first one, if any: a command of two was begun. */
static int tell_unknown(const struct words *words) {
    CLEANUP(buf_deinit) struct buf choices = BUF_INIT(1024);
    struct slice first, second;
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (slice_cut(slice_from_cstr(commands[i].name), ' ', &first, &second) &&
            slice_eq(first, slice_from_cstr(words->items[0])))
            buf_printf(&choices, "%s%.*s %.*s", buf_len(&choices) == 0 ? "" : ", ",
                       SLICE_ARGS(first), SLICE_ARGS(second));
    }
    if (buf_append_byte(&choices, '\0') != 0 || buf_len(&choices) == 1)
        return usage_error("unknown command", words->items[0]);
    return usage_error("these are the commands with that word", buf_slice(&choices).ptr);
}

/* Runs what the words name, with what is left of them as its arguments. */
static int run(struct cli_options *options, const struct words *words) {
    const struct command *command = words->n == 0 ? &commands[0] : NULL;
    int n = 0;
    for (size_t i = 0; i < ARRAY_LEN(commands) && command == NULL; i++) {
        n = match(&commands[i], words);
        command = n != 0 ? &commands[i] : NULL;
    }
    if (command == NULL)
        return tell_unknown(words);
    _Static_assert(ARRAY_LEN(words->items) > ARRAY_LEN(options->arguments) + 2, "all fit");
    if (words->n - n > command->max_arguments)
        return usage_error("too many arguments", words->items[n + command->max_arguments]);
    for (int i = n; i < words->n; i++)
        options->arguments[options->n_arguments++] = words->items[i];
    if (options->n_arguments < command->n_arguments) {
        fprintf(stderr, "cardea: an argument is missing; usage: cardea %s %s\ntry: cardea --help\n",
                command->name, command->arguments);
        return CLI_USAGE;
    }
    options->command = command->name;
    return command->run(options);
}

/*
 * No core dump, and nobody of the same account reads our memory, environment or descriptors: there
 * are secrets in them. At exit LeakSanitizer traces this process: then it has to be open again.
 */
static void close_memory(bool is_end) {
    struct rlimit none = {0, 0};
    (void)!setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, HAS_ADDRESS_SANITIZER && is_end ? 1 : 0, 0, 0, 0);
}

static int run_arguments(int argc, char **argv) {
    struct cli_options options = {.log_level = LOG_INFO};
    struct words words = {.n = 0};
    int result = cli_take_environment(&options);
    if (result == CLI_OK)
        result = apply_environment(&options);
    bool only_words = false;
    for (int i = 1; i < argc && result == CLI_OK; i++) {
        const char *value = NULL;
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
            continue;
        }
        if (only_words || argv[i][0] != '-' || argv[i][1] == '\0') {
            if (words.n == (int)ARRAY_LEN(words.items))
                return usage_error("too many arguments", argv[i]);
            words.items[words.n++] = argv[i];
            continue;
        }
        const struct option *option = find_option(argv[i], &value);
        if (option == NULL)
            return usage_error("unknown option", argv[i]);
        if (option->id == OPTION_HELP) {
            print_help();
            return CLI_OK;
        }
        if (option->id == OPTION_VERSION) {
            printf("cardea %s\n", CARDEA_VERSION);
            return CLI_OK;
        }
        if (option->value != NULL && value == NULL && (value = argv[++i]) == NULL)
            return usage_error("this option needs a value", argv[i - 1]);
        result = apply(&options, option, value);
    }
    if (result == CLI_OK)
        result = run(&options, &words);
    options.api_token = secret_free(options.api_token);
    options.encryption_key = secret_free(options.encryption_key);
    return result;
}

int main(int argc, char **argv) {
    close_memory(false);
    int result = run_arguments(argc, argv);
    close_memory(true);
    return result;
}
