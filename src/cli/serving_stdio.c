#include "serving_stdio.h"

#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "bridge/bridge.h"
#include "http/message.h"
#include "stdio_client.h"

struct serving_stdio {
    struct gateway *gateway;
    struct bridge *bridge; /* NULL: it has ended */
    struct cli_stdio *stdio;
};

static void on_end(void *context, int error) {
    struct serving_stdio *stdio = context;
    (void)error; /* the log has it */
    stdio->bridge = bridge_free(stdio->bridge);
    gateway_stop(stdio->gateway);
}

static int write_fields(const struct config *config, const struct secret *token, struct buf *out) {
    struct buf value CLEANUP(secret_buf_deinit) = BUF_INIT(KIB(4));
    buf_append_cstr(&value, "Bearer ");
    buf_append(&value, secret_reveal(token));
    int error = http_write_field(out, SLICE("Authorization"), buf_slice(&value));
    if (error == 0 && config->csrf.enabled)
        error = http_write_field(out, config->csrf.header_name, SLICE("1"));
    return error;
}

int serving_stdio_start(struct gateway *gateway, const struct config *config, struct log *log,
                        const struct secret *token, struct serving_stdio **ret_stdio) {
    struct buf url CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    struct buf fields CLEANUP(secret_buf_deinit) = BUF_INIT(KIB(8));
    struct serving_stdio *stdio = mem_xalloc(sizeof *stdio);
    *stdio = (struct serving_stdio){.gateway = gateway};
    struct bridge_options options = {
        .loop = gateway_loop(gateway),
        .log = log,
        .connect = gateway_connect,
        .connect_context = gateway,
        .on_end = on_end,
        .context = stdio,
    };
    const char *reason = "";
    buf_append_cstr(&url, "http://localhost");
    int error = buf_append(&url, config->mcp_path);
    if (error == 0)
        error = write_fields(config, token, &fields);
    if (error == 0)
        error = cli_stdio_open(&options.in_fd, &options.out_fd, &stdio->stdio);
    options.url = buf_slice(&url);
    options.fields = buf_slice(&fields);
    if (error == 0)
        error = bridge_new(&options, &stdio->bridge, &reason);
    if (error == 0) {
        *ret_stdio = stdio;
        return CLI_OK;
    }
    fprintf(stderr, "cardea: standard input and output cannot be served: %s\n",
            error < 0 ? strerror(-error) : reason);
    serving_stdio_free(stdio);
    return CLI_FAILED;
}

bool serving_stdio_stop(struct serving_stdio *stdio) {
    if (stdio == NULL || stdio->bridge == NULL)
        return false;
    bridge_stop(stdio->bridge);
    return true;
}

struct serving_stdio *serving_stdio_free(struct serving_stdio *stdio) {
    if (stdio == NULL)
        return NULL;
    bridge_free(stdio->bridge);
    cli_stdio_free(stdio->stdio);
    mem_free(stdio);
    return NULL;
}
