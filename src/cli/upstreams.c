#include "upstreams.h"

#include <errno.h>
#include <unistd.h>

#include "base/limits.h"
#include "secrets.h"

static void tell_first_error(const struct config_problems *problems, struct buf *reason) {
    CLEANUP(buf_deinit) struct buf line = BUF_INIT(KIB(16));
    for (size_t i = 0; i < problems->n; i++) {
        if (problems->items[i].severity != CONFIG_ERROR)
            continue;
        if (config_problem_format(&line, &problems->items[i]) == 0)
            buf_append(reason, slice_trim(buf_slice(&line)));
        return;
    }
}

int cli_try_definition(const struct cli_options *options, const struct config *served,
                       const struct config_stored *upstream, struct config **ret_config,
                       struct buf *reason) {
    CLEANUP(cli_secrets_freep)
    struct cli_secrets *secrets =
        cli_secrets_new(options, served != NULL ? CLI_TO_USE : CLI_TO_CHECK);
    struct config_resolvers resolvers;
    struct config_problems problems;
    const char *path = cli_name_config(options);
    int error;
    cli_secrets_instead(secrets, upstream);
    resolvers = cli_secrets_resolvers(secrets);
    config_problems_init(&problems);
    if (served != NULL)
        error =
            config_load_text_with(served->path, served->text, &resolvers, &problems, ret_config);
    else if (options->config_path == NULL && access(path, F_OK) != 0)
        error = config_load_text_with(SLICE(""), SLICE(""), &resolvers, &problems, ret_config);
    else
        error = config_load_file_with(path, &resolvers, &problems, ret_config);
    if (error != 0 && error != -ENOMEM)
        tell_first_error(&problems, reason);
    config_problems_deinit(&problems);
    return error;
}
