#!/usr/bin/env python3
"""One client with a thousand calls waiting beside another one of the same principal: what the other one's times become.

    test/bench/fairness.py BUILD

BUILD is a folder with cardea, test/hostile/tiny_http and test/bench/bench_rate; wrk is the crowd. The upstream answers after
5 ms. The other client sends 200 calls a second, each counted from when it was due: alone, then beside the crowd.
"""

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
META = "io.modelcontextprotocol/"


def post(port, token, message, fields):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/mcp", json.dumps(message), {
        "Authorization": f"Bearer {token}", "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream", **fields})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def request_file(folder, port, token, era, name):
    """A whole request of a client of that name, in a file, and how long its answer is."""
    params = {"name": "tiny__echo", "arguments": {}}
    if era == "modern":
        fields = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "tiny__echo"}
        params["_meta"] = {META + "protocolVersion": "2026-07-28", META + "clientCapabilities": {},
                           META + "clientInfo": {"name": name, "version": "1"}}
    else:
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": name, "version": "1"}}
        answer, _ = post(port, token, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}, {})
        fields = {"Mcp-Session-Id": answer.getheader("mcp-session-id"), "MCP-Protocol-Version": "2025-11-25"}
        post(port, token, {"jsonrpc": "2.0", "method": "notifications/initialized"}, fields)
    message = {"jsonrpc": "2.0", "id": 10000000, "method": "tools/call", "params": params}
    answer, body = post(port, token, message, fields)
    if answer.status != 200:
        raise SystemExit(f"fairness: HTTP {answer.status}: {body!r}")
    text = json.dumps(message, separators=(",", ":"))
    head = [f"Host: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
            "Accept: application/json, text/event-stream\r\n", *(f"{key}: {value}\r\n" for key, value in fields.items())]
    path = folder / f"{era}-{name}"
    path.write_bytes(f"POST /mcp HTTP/1.1\r\n{''.join(head)}Content-Length: {len(text)}\r\n\r\n{text}".encode())
    return str(path), len(body)


def measure(build, folder, port, token, era, workers):
    other, size = request_file(folder, port, token, era, "other")
    crowd, _ = request_file(folder, port, token, era, "crowd")

    def constant():
        command = [build / "test/bench/bench_rate", str(port), "200", "8", "16", other, str(size)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    alone = constant()
    with subprocess.Popen(["wrk", "-t1", "-c1000", "-d13s", "--timeout", "20s", "-s", HERE / "call.lua",
                           f"http://127.0.0.1:{port}"], env={**os.environ, "BENCH_REQUEST": crowd},
                          stdout=subprocess.PIPE, text=True) as wrk:
        time.sleep(3)  # until all of the crowd wait
        beside = constant()
        result = json.loads(re.search(r"RESULT (.*)", wrk.communicate()[0]).group(1))
    print(f"{workers} workers, {era}: p99 {alone['p99'] / 1000:.1f} ms alone, {beside['p99'] / 1000:.1f} ms beside "
          f"the crowd, {beside['p99'] / alone['p99']:.2f} x; the crowd waits {result['p50'] / 1000:.0f} ms", flush=True)


def main():
    build = Path(sys.argv[1]).resolve()
    tiny = [build / "test/hostile/tiny_http", "--port", "0", "--delay-ms", "5", "--until-eof"]
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as name, \
                subprocess.Popen(tiny, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as upstream:
            folder = Path(name)
            port = upstream.stdout.readline().strip()
            (folder / "c.toml").write_text(f"[server]\nworkers = {workers}\n[security]\nedit_mode = true\n"
                                           f"[mcp.servers.tiny]\nurl = \"http://127.0.0.1:{port}/mcp\"\n")
            gateway = subprocess.Popen(
                [build / "cardea", "serve", "-c", folder / "c.toml", "--data-dir", folder / "data", "-l", "127.0.0.1:0",
                 "--admin-listen", "off", "--log-style", "json"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
            try:
                said = next(entry for entry in map(json.loads, gateway.stderr) if entry["message"] == "listening")
                threading.Thread(target=gateway.stderr.read, daemon=True).start()
                token = (folder / "data/token").read_text().strip()
                for era in ("legacy", "modern"):
                    measure(build, folder, int(said["address"].rsplit(":", 1)[1]), token, era, workers)
            finally:
                gateway.terminate()
                gateway.wait()
                upstream.stdin.close()


main()
