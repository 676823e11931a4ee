/* [store] and [admin]: users, roles, tokens and whatever else is not in a file, and the API for it.
 */
#include "option_rows.h"

const struct option option_admin_rows[] = {
    {.path = "store",
     .type = OPTION_TABLE,
     .doc = "Where users, roles, tokens, sessions, edit mode and secrets are kept."},
    {.path = "store.url",
     .type = OPTION_STRING,
     OF_CONFIG(store.url),
     .secret = true,
     .opens_store = true,
     .check = check_store_url,
     .doc = "`postgres://USER:PASSWORD@HOST:PORT/NAME`, for several instances; without it SQLite "
            "in the data directory. Its password is best kept in a variable: `{{ env.NAME }}`."},
    {.path = "admin",
     .type = OPTION_TABLE,
     .doc = "The API of the console: users, roles, tokens, edit mode, the audit trail. It speaks "
            "TLS only."},
    {.path = "admin.enabled",
     .type = OPTION_BOOL,
     OF_CONFIG(admin.enabled),
     .fallback = true,
     .doc = "`false`: there is none; the commands are left."},
    {.path = "admin.listen",
     .type = OPTION_STRING,
     OF_CONFIG(admin.listen),
     .text = "127.0.0.1:7443",
     .check = check_listen_address,
     .doc = "Its address and port."},
    {.path = "admin.hosts",
     .type = OPTION_LIST,
     OF_CONFIG(admin.hosts),
     .count_offset = offsetof(struct config, admin.n_hosts),
     .check = check_host,
     .doc = "Names by which browsers reach it, beside `localhost`, its own address and the names "
            "of its certificate."},
    {.path = "admin.trusted_proxies",
     .type = OPTION_LIST,
     OF_CONFIG(admin.trusted_proxies),
     .count_offset = offsetof(struct config, admin.n_trusted_proxies),
     .check = check_network,
     .doc = "Addresses and CIDR blocks of the proxies in front of the console. What they say of a "
            "client's address counts, by `server.client_ip`, for throttled logins and records. "
            "`server.trusted_proxies` are not believed here."},
    {.path = "admin.session_idle",
     .type = OPTION_DURATION,
     OF_CONFIG(admin.session_idle_ms),
     .fallback = HOURS(1),
     .min = MINUTES(1),
     .max = DAYS(1),
     .doc = "A session in the console ends when nothing was asked for so long."},
    {.path = "admin.session_max",
     .type = OPTION_DURATION,
     OF_CONFIG(admin.session_max_ms),
     .fallback = HOURS(12),
     .min = MINUTES(5),
     .max = DAYS(7),
     .doc = "... and after so long whatever was asked."},
    {.path = "admin.allow_commands",
     .type = OPTION_BOOL,
     OF_CONFIG(admin.allow_commands),
     .doc = "`true` lets administrators put upstreams with `cmd` into the store: whoever is one "
            "may then run programs on the gateway's machine as the gateway's account. "
            "[SERVERS.md](SERVERS.md#in-the-store) has what else may not stand there."},
};
const size_t option_admin_count = ARRAY_LEN(option_admin_rows);
