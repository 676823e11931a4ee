#!/usr/bin/env python3
"""What large catalogs cost the gateway: lists of 200 servers with 20,000 tools, a change of one of them, a call among
them, and the start.

    test/bench/catalog.py BUILD [--binary CARDEA] [--definition-bytes N]... [--repeat N]

BUILD is a release build folder with test/hostile/catalog_server. Prints one line for each figure: `name: value unit`.
CPU is that of all of the gateway's threads, by the scheduler's count (/proc/PID/task/*/schedstat).
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
from mcp import LEGACY, MODERN, Connection, open_session, open_stream, post  # noqa: E402
from peers import HOST, Failed, Gateway, Peers  # noqa: E402

UPSTREAMS, TOOLS = 200, 100
CORES = "0", "1"  # of the gateway, of the servers and of this


def say(name, value, unit, note=""):
    print(f"{name}: {value:.3f} {unit}{note and '  ' + note}" if isinstance(value, float)
          else f"{name}: {value} {unit}{note and '  ' + note}", flush=True)


def start_servers(peers, name, ports, *options):
    process = peers.start(name, CORES[1], [peers.build / "test/hostile/catalog_server", "--until-eof", "--ports", ports,
                                           *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    return [int(process.stdout.readline()) for _ in range(ports)]


def tables(ports, more=""):
    return "".join(f'[mcp.servers.up-{i:03}]\nurl = "http://{HOST}:{port}/mcp"\n{more}' for i, port in enumerate(ports))


class Client:
    """One session and one connection, and requests of both eras."""

    def __init__(self, gateway):
        self.gateway, self.port, self.token = gateway, gateway.port, gateway.token
        self.connection = Connection(self.port)
        self.session = open_session(self.connection, self.port, self.token)

    def message(self, method, params, is_modern=False):
        if not is_modern:
            return post(self.port, self.token, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
                        Mcp_Session_Id=self.session, MCP_Protocol_Version=LEGACY)
        meta = {"io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {}}
        return post(self.port, self.token, {"jsonrpc": "2.0", "id": 1, "method": method,
                                            "params": {**params, "_meta": meta}},
                    MCP_Protocol_Version=MODERN, Mcp_Method=method, Mcp_Name=params.get("name"))

    def exchange(self, bytes_of_request):
        status, _, body, size = self.connection.exchange(bytes_of_request)
        if status != 200:
            raise Failed(f"got {status}: {body[:300]!r}")
        return body, size

    def result(self, method, params, is_modern=False):
        message = json.loads(self.exchange(self.message(method, params, is_modern))[0])
        if "result" not in message:
            raise Failed(f"{method} got {message}")
        return message["result"]

    def pages(self, is_modern=False):
        """The requests of all pages of tools, and the tools."""
        requests, tools, params = [], [], {}
        while True:
            requests.append(self.message("tools/list", params, is_modern))
            result = json.loads(self.exchange(requests[-1])[0])["result"]
            tools += result["tools"]
            if "nextCursor" not in result:
                return requests, tools
            params = {"cursor": result["nextCursor"]}

    def cpu_us(self, requests, repeat):
        """CPU of the gateway for each round of these requests."""
        for request in requests:
            self.exchange(request)
        began = self.gateway.run_time_ns()
        for _ in range(repeat):
            for request in requests:
                self.exchange(request)
        return (self.gateway.run_time_ns() - began) / repeat / 1000


def start(peers, name, ports, n_tools, binary, more="", server_more=""):
    """A gateway whose lists are complete, and a client of it."""
    began = time.monotonic()
    gateway = Gateway(peers, binary, name, CORES[0], tables(ports, server_more), more=more)
    client = Client(gateway)
    while True:
        requests, tools = client.pages()
        if len(tools) >= n_tools:
            break
        if time.monotonic() - began > 60:
            raise Failed(f"{len(tools)} of {n_tools} tools after a minute")
    if len({tool["name"] for tool in tools}) != n_tools or len(tools) != n_tools:
        raise Failed(f"{len(tools)} tools, some of them twice")
    return gateway, client, requests, tools, time.monotonic() - began


def call_of(client, tool, is_modern):
    return client.message("tools/call", {"name": tool, "arguments": {"text": "x"}}, is_modern)


def measure_change(client, port, requests, repeat):
    """One server changes one tool and says so. CPU up to the word of it at the client, and up to the whole list."""
    events = open_stream(client.port, client.token, client.session)
    while b"tools/list_changed" not in events.held:  # of the start, when there was no stream yet
        events.more()
    events.held = b""
    server = Connection(port)
    change = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "tool-00000", "text": "change"}}
    told, first, whole = 0, 0, 0
    for round_of in range(repeat + 1):
        time.sleep(0.12)  # the pause that the gateway makes after a change
        begin = client.gateway.run_time_ns()
        server.exchange(post(port, "", change))
        while b"tools/list_changed" not in events.held:
            events.more()
        events.held = b""
        after_word = client.gateway.run_time_ns()
        body = client.exchange(requests[0])[0]
        after_first = client.gateway.run_time_ns()
        if f'"description":"{round_of + 1} '.encode() not in body:
            raise Failed("the list does not have the change")
        for request in requests[1:]:
            client.exchange(request)
        if round_of == 0:
            continue
        told += after_word - begin
        first += after_first - begin
        whole += client.gateway.run_time_ns() - begin
    return told / repeat / 1000, first / repeat / 1000, whole / repeat / 1000


def measure_many(peers, binary, size, repeat):
    ports = start_servers(peers, f"servers-{size}", UPSTREAMS, "--tools", TOOLS, "--definition-bytes", size)
    before = f"{size} B"
    gateway, client, requests, tools, took = start(peers, f"gateway-{size}", ports, UPSTREAMS * TOOLS, binary)
    say(f"{before}: all lists read, CPU", gateway.run_time_ns() / 1e6, "ms", f"within {took:.2f} s")
    say(f"{before}: anonymous memory", gateway.memory_kb()["anonymous"] / 1024, "MiB")
    for era, is_modern in (("legacy", False), ("modern", True)):
        pages = requests if era == "legacy" else client.pages(is_modern)[0]
        _, length = client.exchange(pages[0])
        say(f"{before}: first page, {era}, CPU", client.cpu_us(pages[:1], repeat) / 1000, "ms", f"{length} bytes")
        say(f"{before}: all {len(pages)} pages, {era}, CPU", client.cpu_us(pages, repeat // 20) / 1000, "ms")
    told, first, whole = measure_change(client, ports[0], requests, 20)
    say(f"{before}: a change, until clients are told, CPU", told / 1000, "ms")
    say(f"{before}: a change, until the first page, CPU", first / 1000, "ms")
    say(f"{before}: a change, until the whole list, CPU", whole / 1000, "ms")
    for era, is_modern in (("legacy", False), ("modern", True)):
        for place, tool in (("first", tools[0]["name"]), ("last", tools[-1]["name"])):
            cost = client.cpu_us([call_of(client, tool, is_modern)], repeat * 5)
            say(f"{before}: call of the {place} tool, {era}, CPU", cost, "us")
    say(f"{before}: anonymous memory at the end", gateway.memory_kb()["anonymous"] / 1024, "MiB")
    gateway.stop()


def measure_one(peers, binary, repeat):
    ports = start_servers(peers, "one", 1, "--tools", TOOLS)
    gateway, client, _, tools, _ = start(peers, "gateway-one", ports, TOOLS, binary)
    for era, is_modern in (("legacy", False), ("modern", True)):
        cost = client.cpu_us([call_of(client, tools[0]["name"], is_modern)], repeat * 5)
        say(f"one server: a call, {era}, CPU", cost, "us")
    gateway.stop()


def measure_schemas(peers, binary):
    """One server with 1,000 tools of 50 KB, in pages that fit into a message."""
    ports = start_servers(peers, "schemas", 1, "--tools", 1000, "--definition-bytes", 50000, "--page", 150)
    gateway, client, requests, _, took = start(peers, "gateway-schemas", ports, 1000, binary)
    say("1,000 tools of 50 kB: start, CPU", gateway.run_time_ns() / 1e6, "ms", f"within {took:.2f} s")
    say("1,000 tools of 50 kB: anonymous memory", gateway.memory_kb()["anonymous"] / 1024, "MiB")
    say(f"1,000 tools of 50 kB: all {len(requests)} pages, CPU", client.cpu_us(requests, 5) / 1000, "ms")
    gateway.stop()


def measure_storm(peers, binary, seconds=3):
    """One of two servers says all the time that its lists have changed."""
    stormy = start_servers(peers, "storm", 1, "--tools", 1000, "--storm-ms", 10)
    calm = start_servers(peers, "calm", 1, "--tools", 1)
    gateway, client, _, tools, _ = start(peers, "gateway-storm", stormy + calm, 1001, binary)
    call = call_of(client, tools[-1]["name"], False)
    latencies, end, begin = [], time.monotonic() + seconds, gateway.run_time_ns()
    while time.monotonic() < end:
        began = time.monotonic()
        client.exchange(call)
        latencies.append(time.monotonic() - began)
        time.sleep(0.005)
    used = (gateway.run_time_ns() - begin) / 1e9 / seconds
    latencies.sort()
    say("storm of 100 changes a second: share of a core", used * 100, "%", f"{len(latencies)} calls beside it")
    say("storm of 100 changes a second: p50 of another's calls", latencies[len(latencies) // 2] * 1000, "ms")
    say("storm of 100 changes a second: p99 of another's calls", latencies[len(latencies) * 99 // 100] * 1000, "ms")
    gateway.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("--binary", type=Path)
    parser.add_argument("--definition-bytes", type=int, action="append")
    parser.add_argument("--repeat", type=int, default=400)
    options = parser.parse_args()
    binary = options.binary or options.build / "cardea"
    try:
        with Peers(options.build.resolve()) as peers:
            for size in options.definition_bytes or [350, 1000]:
                measure_many(peers, binary, size, options.repeat)
            measure_one(peers, binary, options.repeat)
            measure_schemas(peers, binary)
            measure_storm(peers, binary)
    except Failed as error:
        sys.exit(f"catalog: {error}")


if __name__ == "__main__":
    main()
