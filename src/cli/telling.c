/* What a command has changed in the store is noted there for the audit trail, and told to the
 * gateway that runs, if one does: the command ends when every call goes by it. */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "accounts/accounts.h"
#include "admin/control.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "cli.h"

/* Who runs the command, by the system's account: whoever can write to the store could write any
 * name, and this one is right unless they try. */
static void write_who(struct buf *out) {
    char text[1024];
    struct passwd account, *found = NULL;
    bool is_known = getpwuid_r(getuid(), &account, text, sizeof text, &found) == 0 && found != NULL;
    struct slice name = slice_from_cstr(is_known ? account.pw_name : "");
    buf_append_cstr(out, "command:");
    if (name.len != 0 && utf8_is_valid(name))
        buf_append(out, name);
    else
        buf_append_u64(out, getuid());
}

int cli_note(struct store_tx *tx, const struct cli_options *options, const char *event,
             struct slice object, struct slice reason) {
    CLEANUP(buf_deinit) struct buf who = BUF_INIT(KIB(2)), action = BUF_INIT(KIB(1));
    write_who(&who);
    buf_printf(&action, "cardea %s", options->command);
    if (buf_error(&who) != 0 || buf_error(&action) != 0)
        return -ENOMEM;
    struct accounts_note note = {.event = slice_from_cstr(event),
                                 .who = buf_slice(&who),
                                 .action = buf_slice(&action),
                                 .object = object,
                                 .reason = reason};
    return accounts_add_note(tx, &note);
}

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
