/*
 * check-jwt: whether tokens are accepted, with the gateway's own code. Algorithms of public keys
 * are tried with the set of --jwks, HS256 to HS512 with the secret of --secret. A token's file and
 * a secret's may end with a newline. The exit status is 0 when all tokens are accepted, 1 when one
 * is not, 2 on bad usage and for keys that cannot be read.
 */
#include <errno.h>
#include <getopt.h>
#include <time.h>

#include "check.h"
#include "jose/jwt.h"
#include "jose/keys.h"
#include "json/writer.h"

enum { MAX_AUDIENCES = 32, DEFAULT_LEEWAY = 60 };

static const char usage[] = "usage: check-jwt --jwks FILE [OPTION...] TOKENFILE...\n"
                            "  --jwks FILE         the issuer's keys, a JWK Set\n"
                            "  --secret FILE       a shared secret for HS256, HS384 and HS512\n"
                            "  --issuer TEXT       what iss has to be\n"
                            "  --audience TEXT     what has to be in aud; several: one of them\n"
                            "  --at-jwt            typ has to be at+jwt\n"
                            "  --at SECONDS        the time since 1970, in place of the clock's\n"
                            "  --leeway SECONDS    for exp, nbf and iat (60)\n"
                            "  --json              a line of JSON for each token\n";

struct options {
    const char *jwks, *secret;
    struct slice audiences[MAX_AUDIENCES];
    struct jwt_rules rules;
    uint64_t now_s;
    bool as_json;
};

struct checker {
    struct options options;
    struct json_reader *reader;
    struct jose_keys *keys, *secret;
    struct buf decoded;
};

static int bad_usage(void) {
    fputs(usage, stderr);
    return 2;
}

static bool read_number(const char *text, uint64_t *ret_number) {
    return slice_to_u64(slice_from_cstr(text), ret_number) == 0;
}

static bool read_option(struct options *options, int option, char *value) {
    switch (option) {
    case 'j':
        options->jwks = value;
        return true;
    case 's':
        options->secret = value;
        return true;
    case 'i':
        options->rules.issuer = slice_from_cstr(value);
        return value[0] != '\0';
    case 'a':
        if (options->rules.n_audiences == MAX_AUDIENCES || value[0] == '\0')
            return false;
        options->audiences[options->rules.n_audiences++] = slice_from_cstr(value);
        return true;
    case 'y':
        options->rules.needs_at_jwt = true;
        return true;
    case 't':
        return read_number(value, &options->now_s);
    case 'l':
        return read_number(value, &options->rules.leeway_s);
    case 'o':
        options->as_json = true;
        return true;
    default:
        return false;
    }
}

/* The first argument behind the options, or 0. */
static int read_options(struct options *options, int argc, char **argv) {
    static const struct option names[] = {
        {"jwks", required_argument, NULL, 'j'},
        {"secret", required_argument, NULL, 's'},
        {"issuer", required_argument, NULL, 'i'},
        {"audience", required_argument, NULL, 'a'},
        {"at-jwt", no_argument, NULL, 'y'},
        {"at", required_argument, NULL, 't'},
        {"leeway", required_argument, NULL, 'l'},
        {"json", no_argument, NULL, 'o'},
        {NULL, 0, NULL, 0},
    };
    *options = (struct options){.now_s = (uint64_t)time(NULL), .rules.leeway_s = DEFAULT_LEEWAY};
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (!read_option(options, option, optarg))
            return 0;
    }
    bool has_keys = options->jwks != NULL || options->secret != NULL;
    return has_keys && optind < argc ? optind : 0;
}

static struct slice without_newline(const struct check_file *file) {
    size_t len = file->len > 0 && file->bytes[file->len - 1] == '\n' ? file->len - 1 : file->len;
    return slice_make(file->bytes, len);
}

/* --- keys --- */

static bool tell(const char *path, const char *reason) {
    fprintf(stderr, "check-jwt: %s: %s\n", path, reason);
    return false;
}

static bool read_jwks(struct checker *checker, const char *path) {
    struct check_file file = {.bytes = NULL};
    struct jose_keys_report report;
    const char *reason = "no memory";
    int r = check_read(path, &file);
    if (r != 0)
        reason = strerror(r);
    else
        r = jose_keys_read(checker->reader, slice_make(file.bytes, file.len), &checker->keys,
                           &report, &reason);
    mem_free(file.bytes);
    if (r != 0)
        return tell(path, reason);
    if (report.n_skipped > 0)
        fprintf(stderr, "check-jwt: %s: %zu of %zu keys are left out, the first: %s\n", path,
                report.n_skipped, report.n_skipped + report.n_used, report.first_reason);
    return true;
}

static bool read_secret(struct checker *checker, const char *path) {
    struct check_file file = {.bytes = NULL};
    const char *reason = "a secret of less than 32 bytes";
    int r = check_read(path, &file);
    if (r != 0)
        reason = strerror(r);
    else
        r = jose_keys_from_secret(without_newline(&file), &checker->secret);
    mem_free(file.bytes);
    return r == 0 || tell(path, r < 0 ? "no memory" : reason);
}

/* --- tokens --- */

/* NULL: accepted. */
static const char *judge(struct checker *checker, struct slice token, struct jwt *ret_jwt) {
    static const unsigned symmetric = 1u << JOSE_HS256 | 1u << JOSE_HS384 | 1u << JOSE_HS512;
    const struct options *options = &checker->options;
    const char *reason = "no memory";
    int r = jwt_read(checker->reader, token, &checker->decoded, ret_jwt, &reason);
    if (r != 0)
        return reason;
    bool is_symmetric = (symmetric & (1u << ret_jwt->algorithm)) != 0;
    const struct jose_keys *keys = is_symmetric ? checker->secret : checker->keys;
    if (keys == NULL)
        return is_symmetric ? "no secret is given for its algorithm (alg)"
                            : "no keys are given for its algorithm (alg)";
    r = jwt_verify(ret_jwt, keys, JOSE_ALL_ALGORITHMS, &reason);
    if (r == 0)
        r = jwt_check(checker->reader, ret_jwt, &options->rules, options->now_s, &reason);
    return r == 0 ? NULL : reason;
}

static void print_json(struct buf *line, const char *path, const struct jwt *jwt,
                       const char *reason) {
    struct json_writer writer;
    json_writer_init(&writer, line);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("file"), slice_from_cstr(path));
    json_kv_bool(&writer, SLICE("accepted"), reason == NULL);
    if (reason != NULL) {
        json_kv_string(&writer, SLICE("reason"), slice_from_cstr(reason));
    } else {
        const char *algorithm = jose_algorithm_name(jwt->algorithm);
        json_kv_string(&writer, SLICE("algorithm"), slice_from_cstr(algorithm));
        if (jwt->has_subject)
            json_kv_string(&writer, SLICE("subject"), jwt->subject);
    }
    json_object_end(&writer);
}

static bool check_file(struct checker *checker, const char *path) {
    struct check_file file = {.bytes = NULL};
    struct buf line = BUF_INIT(KIB(64));
    struct jwt jwt = {.has_kid = false};
    int r = check_read(path, &file);
    const char *reason = r != 0 ? strerror(r) : judge(checker, without_newline(&file), &jwt);
    if (checker->options.as_json) {
        print_json(&line, path, &jwt, reason);
    } else {
        log_escape(&line, slice_from_cstr(path), KIB(4));
        buf_printf(&line, ": %s%s",
                   reason == NULL ? "accepted" : "refused: ", reason == NULL ? "" : reason);
    }
    printf("%.*s\n", (int)buf_len(&line), buf_slice(&line).ptr);
    buf_deinit(&line);
    mem_free(file.bytes);
    return reason == NULL;
}

int main(int argc, char **argv) {
    struct checker checker = {.decoded = BUF_INIT(LIMIT_JWT)};
    int first = read_options(&checker.options, argc, argv);
    if (first == 0)
        return bad_usage();
    checker.options.rules.audiences = checker.options.audiences;
    bool has_keys =
        json_reader_new(&checker.reader) == 0 &&
        (checker.options.jwks == NULL || read_jwks(&checker, checker.options.jwks)) &&
        (checker.options.secret == NULL || read_secret(&checker, checker.options.secret));
    bool all_accepted = true;
    for (int i = first; i < argc && has_keys; i++)
        all_accepted = check_file(&checker, argv[i]) && all_accepted;
    bool is_written = fflush(stdout) == 0;
    jose_keys_unref(checker.keys);
    jose_keys_unref(checker.secret);
    json_reader_free(checker.reader);
    buf_deinit(&checker.decoded);
    return !has_keys ? 2 : all_accepted && is_written ? 0 : 1;
}
