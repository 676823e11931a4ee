/* What a command has changed in the store is told to the gateway that runs, if one does: the
 * command ends when every call goes by it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "admin/control.h"
#include "base/limits.h"
#include "base/mem.h"
#include "cli.h"

void cli_tell_gateway(const struct cli_options *options) {
    CLEANUP(mem_freep) char *data_dir = NULL;
    CLEANUP(buf_deinit) struct buf answer = BUF_INIT(MIB(16));
    if (cli_open_data_dir(options, &data_dir) != CLI_OK)
        return;
    CLEANUP(mem_freep) char *path = cli_path(data_dir, "control.sock");
    int error = control_request(path, SLICE("{\"command\":\"refresh\"}"), &answer);
    if (error == -ENOENT || error == -ECONNREFUSED)
        return;
    if (error != 0)
        fprintf(stderr,
                "cardea: it is done, and the gateway that runs will see it in a moment: it could "
                "not be told (%s)\n",
                strerror(-error));
}
