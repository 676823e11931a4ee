/*
 * What has to be there before the gateway listens for other machines. The address may have come
 * from the command line, and a token from the environment, so this is looked at when all of it is
 * known. The rules are apart: TLS does not stand in for authentication, nor the other way round,
 * and server.auth.none does not open TLS.
 */
#include <errno.h>

#include "io/stream.h"
#include "load.h"

static int tell(struct config_problems *problems, const struct config *config,
                const char *sentence) {
    return problem_add(problems, CONFIG_ERROR, config->path, (struct toml_position){0, 0},
                       slice_from_cstr(sentence));
}

bool config_has_authentication(const struct config *config, bool has_api_token) {
    return config->oauth.is_set || config->n_tokens != 0 || has_api_token ||
           config->tls.client_ca.len != 0;
}

bool config_lets_everybody_in(const struct config *config) {
    return config->auth_anonymous || config->auth_none.len != 0;
}

bool config_has_tls(const struct config *config) {
    return config->tls.is_auto || config->tls.certificate.len != 0;
}

static bool is_beyond_loopback(const struct config *config) {
    struct io_address address;
    return io_address_parse(config->listen_address, &address) != 0 || !address.is_loopback;
}

/* The local token is for this machine alone, and does not count. */
static int check_callers(const struct config *config, bool has_api_token,
                         struct config_problems *problems) {
    if (config->auth_none.len != 0 || config_has_authentication(config, has_api_token))
        return 0;
    if (config->auth_anonymous)
        return tell(problems, config,
                    "server.auth.anonymous lets everybody in, and server.listen_address is open "
                    "to other machines: listen on 127.0.0.1, or write server.auth.none = \"I "
                    "know\" if everybody there may call everything");
    return tell(problems, config,
                "server.listen_address is open to other machines, and nobody there can prove who "
                "they are: configure [server.oauth], a token (cardea token new NAME prints the "
                "lines), MCP_API_TOKEN in the environment or server.tls.client_ca; or listen on "
                "127.0.0.1; server.auth.none = \"I know\" lets everybody there call everything");
}

static int check_encryption(struct config *config, struct config_problems *problems) {
    if (!config->plaintext) {
        config->tls.is_auto = config->tls.certificate.len == 0;
        return 0;
    }
    if (config->n_trusted_proxies != 0)
        return 0;
    return tell(problems, config,
                "server.plaintext is for a proxy in front that does the encryption: name it with "
                "server.trusted_proxies = [\"192.0.2.7\"], or remove plaintext, and there is TLS");
}

int config_check_start(struct config *config, bool has_api_token,
                       struct config_problems *problems) {
    size_t n_errors = problems->n_errors;
    int error = 0;
    if (is_beyond_loopback(config)) {
        error = check_encryption(config, problems);
        if (error == 0)
            error = check_callers(config, has_api_token, problems);
    } else if (config->tls.is_set && !config_has_tls(config)) {
        error = tell(problems, config,
                     "server.tls needs certificate and key, or auto = true; on a loopback address "
                     "there is no TLS otherwise");
    }
    if (error == 0 && config_lets_everybody_in(config) && has_api_token)
        error = tell(problems, config,
                     config->auth_anonymous
                         ? "server.auth.anonymous lets everybody in, and MCP_API_TOKEN is set in "
                           "the environment; keep one of them"
                         : "server.auth.none lets everybody in, and MCP_API_TOKEN is set in the "
                           "environment; keep one of them");
    if (error != 0)
        return error;
    return problems->n_errors > n_errors ? CONFIG_E_INVALID : 0;
}
