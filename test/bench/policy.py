"""What is decided about each call: who may, whether it only reads, how often. A gateway with all of it on, beside one
without; counters in memory and in Redis."""

import shutil

import tokens
from peers import HOST, Failed, free_port

RATE = 2000  # calls a second, of the comparison with Redis
MANY = 1000000000  # never reached


def limit():
    return f'limit = {MANY}, interval = "1h"'


def tables(servers, storage=""):
    """The caller is known by a JWT, its groups by a claim; tools are read one by one; six levels are counted."""
    text = (tokens.tables(free_port()) +
            '[server.client_identification]\nenabled = true\nclient_id.jwt_claim = "sub"\n'
            'group_id.jwt_claim = "groups"\n'
            f'[server.rate_limits]\nenabled = true\nglobal = {{ {limit()} }}\nper_ip = {{ {limit()} }}\n{storage}')
    for name, port in servers.items():
        table = f"[mcp.servers.{name}"
        text += (f'{table}]\nurl = "http://{HOST}:{port}/mcp"\nidle_timeout = "1h"\nallow = ["staff", "agents"]\n'
                 'deny = ["guests"]\n'
                 f'{table}.tools.small]\naccess = "read"\n'
                 f'{table}.rate_limits]\n{limit().replace(", ", chr(10))}\n'
                 f'{table}.rate_limits.tools]\nsmall = {{ {limit()} }}\n'
                 f'{table}.rate_limits.per_user]\n{limit().replace(", ", chr(10))}\n'
                 f'{table}.rate_limits.per_user.tools]\nsmall = {{ {limit()} }}\n'
                 f'{table}.rate_limits.per_user.groups]\nagents = {{ {limit()} }}\n')
    return text


def storage(port):
    return f'storage = {{ type = "redis", url = "redis://{HOST}:{port}/0" }}\n'


def redis_command():
    """What runs a Redis: redis-check-rdb is one when it is called so."""
    if shutil.which("redis-server"):
        return ["redis-server"]
    if shutil.which("redis-check-rdb"):
        return ["bash", "-c", 'exec -a redis-server redis-check-rdb "$@"', "redis-server"]
    raise Failed("bench: missing redis-server; please run: scripts/setup bench")


def start_redis(peers, cores):
    """A Redis of its own, that keeps nothing."""
    port = free_port()
    process = peers.start("redis", cores, [*redis_command(), "--port", port, "--bind", HOST, "--save", "", "--appendonly", "no",
                                           "--dir", peers.folder])
    peers.listening(process, port)
    return process, port

