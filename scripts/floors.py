"""The floors: which module may include which. Lint checks the #include lines against this table, and
test/structure/test_floors.py that what the table does not allow does not compile. A new edge is a decision: it is
made here, and explained in docs/ARCHITECTURE.md. The order is from the lowest floor up; no row names a later one.
"""

MAY_INCLUDE = {
    "base": set(),
    "json": {"base"},
    "http": {"base"},
    "mcp": {"base", "json"},
    "jose": {"base", "json"},
    "resp": {"base"},
    "io": {"base"},
    "config": {"base", "json", "http", "io"},
    "client": {"base", "http", "io"},
    "store": {"base", "io"},
    "vault": {"base", "io", "store"},
    "pki": {"base", "json", "io", "config"},
    "limits": {"base", "http", "resp", "io", "config"},
    "policy": {"base", "json", "config", "limits"},
    "accounts": {"base", "json", "io", "store", "config", "limits", "policy"},
    "oauth": {"base", "json", "http", "jose", "io", "config", "client"},
    "auth": {"base", "json", "http", "jose", "io", "store", "config", "limits", "policy", "accounts", "oauth"},
    "audit": {"base", "json", "io", "store", "config"},
    "bridge": {"base", "json", "http", "mcp", "io", "client"},
    "upstream": {"base", "json", "http", "mcp", "io", "config", "client", "oauth"},
    "gateway": {
        "base", "json", "http", "mcp", "io", "store", "config", "oauth", "auth", "limits", "policy", "accounts", "audit",
        "upstream",
    },
    "admin": {
        "base", "json", "http", "mcp", "io", "store", "vault", "config", "limits", "policy", "accounts", "audit", "upstream",
        "gateway",
    },
    "cli": {
        "base", "json", "http", "mcp", "io", "store", "vault", "client", "config", "bridge", "pki", "limits", "policy",
        "accounts", "audit", "upstream", "gateway", "admin",
    },
}

# What a module may use of the system beyond the C library: the loop and the sockets belong to io/ and to those who
# serve with it; protocol code (json, http, mcp) has neither file descriptors nor clocks nor threads.
PROTOCOL = {"json", "http", "mcp", "jose", "resp"}
NOT_IN_PROTOCOL = {
    "ares.h", "fcntl.h", "netdb.h", "poll.h", "pthread.h", "signal.h", "sys/epoll.h", "sys/mman.h", "sys/select.h",
    "sys/socket.h", "sys/stat.h", "sys/time.h", "sys/wait.h", "threads.h", "time.h", "unistd.h", "uv.h",
    "base/clock.h", "base/log.h", "base/random.h",
}
# The hash that finds duplicate keys has to have a key that no peer knows. It never shows in what the reader answers.
EXEMPT_IN_PROTOCOL = {("json", "base/random.h")}

_seen: set[str] = set()
for _module, _allowed in MAY_INCLUDE.items():
    assert _allowed <= _seen, f"{_module} may include a module of a higher floor"
    _seen.add(_module)
