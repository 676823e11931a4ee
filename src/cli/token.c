/* API tokens: new ones for the configuration, and the one of the environment. */
#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/random.h"
#include "cli.h"
#include "io/file.h"

#define API_TOKEN      "MCP_API_TOKEN"
#define ENCRYPTION_KEY "CARDEA_ENCRYPTION_KEY"

enum { TOKEN_BYTES = 32, TOKEN_SHORT = 32, TEXT_MAX = 128 };

static void wipe(struct buf *text) {
    if (text->data != NULL)
        secret_wipe(text->data, text->cap);
    buf_deinit(text);
}

int cli_make_token(struct buf *out) {
    char bytes[TOKEN_BYTES];
    random_bytes(bytes, sizeof bytes);
    buf_append_cstr(out, "cardea_");
    int error = base64url_encode(out, slice_make(bytes, sizeof bytes));
    secret_wipe(bytes, sizeof bytes);
    return error;
}

/* As server.auth.tokens.NAME.hash has it. The token has 256 bits of chance, so that a fast hash
 * without salt tells nothing about it. */
static int write_hash(struct buf *out, struct slice token) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)token.ptr, token.len, digest);
    buf_append_cstr(out, "sha256:");
    for (size_t i = 0; i < sizeof digest; i++)
        buf_printf(out, "%02x", digest[i]);
    return buf_error(out);
}

/* A dot would be read as the border of two tables. */
static int write_table(struct buf *out, const char *name) {
    const char *mark = strchr(name, '.') != NULL ? "\"" : "";
    return buf_printf(out, "[server.auth.tokens.%s%s%s]", mark, name, mark);
}

static int save(const char *path, const struct buf *token) {
    struct buf line = BUF_INIT(TEXT_MAX);
    buf_append(&line, buf_slice(token));
    int error = buf_append_byte(&line, '\n');
    if (error == 0)
        error = io_file_create_private(path, buf_slice(&line));
    wipe(&line);
    if (error != 0)
        fprintf(stderr, "cardea: cannot write %s: %s\n", path,
                error == -EEXIST ? "it is there already, and is not overwritten"
                                 : strerror(-error));
    return error;
}

/* Nothing of it has a character that JSON escapes. */
static void print_json(const struct cli_options *options, struct slice token, struct slice hash) {
    printf("{\"name\":\"%s\",", options->arguments[0]);
    if (options->out_path == NULL)
        printf("\"token\":\"%.*s\",", SLICE_ARGS(token));
    printf("\"hash\":\"%.*s\"}\n", SLICE_ARGS(hash));
}

/*
 * The token is what this command is for, and programs ask for it too: so it is printed wherever
 * standard output goes, against the rule for every other secret. --out keeps it off the screen.
 */
static void print_text(const struct cli_options *options, struct slice token, struct slice table,
                       struct slice hash) {
    bool is_terminal = isatty(STDOUT_FILENO) != 0;
    if (options->out_path == NULL && is_terminal)
        printf("The token, which is shown this once. Give it to whoever is to call:\n\n  %.*s\n\n",
               SLICE_ARGS(token));
    else if (options->out_path == NULL)
        printf("%.*s\n", SLICE_ARGS(token));
    else if (is_terminal)
        printf("The token is in %s, which only you can read.\n\n", options->out_path);
    const char *margin = is_terminal ? "  " : "";
    if (is_terminal)
        printf("These lines in the configuration let it in; then: cardea reload\n\n");
    printf("%s%.*s\n%shash = \"%.*s\"\n", margin, SLICE_ARGS(table), margin, SLICE_ARGS(hash));
}

static int make_and_print(const struct cli_options *options, struct buf *token) {
    struct buf hash = BUF_INIT(TEXT_MAX), table = BUF_INIT(TEXT_MAX);
    int error = cli_make_token(token);
    if (error == 0)
        error = write_hash(&hash, buf_slice(token));
    if (error == 0)
        error = write_table(&table, options->arguments[0]);
    if (error != 0)
        fprintf(stderr, "cardea: cannot make a token: %s\n", strerror(-error));
    else if (options->out_path != NULL)
        error = save(options->out_path, token);
    if (error == 0 && options->json)
        print_json(options, buf_slice(token), buf_slice(&hash));
    else if (error == 0)
        print_text(options, buf_slice(token), buf_slice(&table), buf_slice(&hash));
    if (error == 0 && fflush(stdout) != 0) {
        error = -errno;
        fprintf(stderr, "cardea: cannot print the token: %s\n", strerror(errno));
    }
    buf_deinit(&hash);
    buf_deinit(&table);
    return error == 0 ? CLI_OK : CLI_FAILED;
}

int cli_token_new(const struct cli_options *options) {
    struct buf token = BUF_INIT(TEXT_MAX);
    const char *wrong = config_check_token_name(slice_from_cstr(options->arguments[0]));
    if (wrong != NULL) {
        fprintf(stderr, "cardea: the name %s\n", wrong);
        return CLI_USAGE;
    }
    int result = make_and_print(options, &token);
    wipe(&token);
    return result;
}

/* Every one of that name: the environment is what whoever started us made of it. */
static void erase_variable(const char *name) {
    size_t len = strlen(name);
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        if (strncmp(*entry, name, len) == 0 && (*entry)[len] == '=')
            secret_wipe(*entry + len + 1, strlen(*entry + len + 1));
    }
    (void)unsetenv(name);
}

/* `keeps_empty`: what is set to nothing was meant to be something, and is told so later. */
static int take_variable(const char *name, bool keeps_empty, struct secret **ret_secret) {
    const char *value = getenv(name);
    int error = 0;
    if (value != NULL && (value[0] != '\0' || keeps_empty))
        error = secret_new(slice_from_cstr(value), ret_secret);
    erase_variable(name);
    if (error != 0)
        fprintf(stderr, "cardea: cannot keep %s: %s\n", name, strerror(-error));
    return error == 0 ? CLI_OK : CLI_FAILED;
}

int cli_take_environment(struct cli_options *options) {
    int result = take_variable(API_TOKEN, false, &options->api_token);
    int other = take_variable(ENCRYPTION_KEY, true, &options->encryption_key);
    return result != CLI_OK ? result : other;
}

int cli_take_token(struct secret **ret_token) {
    return take_variable("CARDEA_TOKEN", false, ret_token);
}

int cli_check_api_token(const struct cli_options *options) {
    struct slice token = SLICE_EMPTY;
    if (options->api_token != NULL)
        token = secret_reveal(options->api_token);
    for (size_t i = 0; i < token.len; i++) {
        if (token.ptr[i] > 0x20 && token.ptr[i] < 0x7f)
            continue;
        fprintf(stderr,
                "cardea: error: %s holds a space, a line end or another character that no request "
                "can carry; make one with: openssl rand -hex 32\n",
                API_TOKEN);
        return CLI_CONFIG;
    }
    if (token.len != 0 && token.len < TOKEN_SHORT)
        fprintf(stderr,
                "cardea: warning: %s is shorter than 32 characters, and so can be guessed; make a "
                "better one with: openssl rand -hex 32\n",
                API_TOKEN);
    return CLI_OK;
}
