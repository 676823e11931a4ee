#!/usr/bin/env python3
"""Calls over HTTP+SSE (2024-11-05), which wrk cannot make: its answers come on another connection. To have a measure, the same
client makes the same calls over Streamable HTTP, too.

    BENCH_TOKEN=... sse.py PORT sse|streamable TOOL CLIENTS SECONDS

So many clients at once, each with one call after the other. One line of JSON on stdout.
"""

import json
import os
import selectors
import sys
import time

import mcp
from peers import Failed

OLD = "2024-11-05"


class Client:
    """One session. Whoever drives it tells it that there is something to read, on `socket`."""

    def __init__(self, port, token, tool):
        self.port, self.token, self.tool, self.calls = port, token, tool, 0
        self.posts = mcp.Connection(port)

    def message(self, number):
        return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {
            "name": self.tool, "arguments": {"text": "hello"}}}

    def read(self, connection):
        got = connection.socket.recv(1 << 16)
        if not got:
            raise Failed(f"the connection was closed after {connection.held[:300]!r}")
        connection.held += got


class Streamable(Client):
    def __init__(self, port, token, tool):
        super().__init__(port, token, tool)
        session = mcp.open_session(self.posts, port, token)
        self.call = mcp.post(port, token, self.message(mcp.FIRST_ID), Mcp_Session_Id=session, MCP_Protocol_Version=mcp.LEGACY)
        self.connections = [self.posts]

    def send(self):
        self.posts.socket.sendall(self.call)

    def take(self, connection):
        """True: the call is answered."""
        self.read(connection)
        head, found, body = connection.held.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or b"0")
        if not found or len(body) < length:
            return False
        if b'"content"' not in body:
            raise Failed(f"a call got {connection.held[:300]!r}")
        connection.held = body[length:]
        return True


class Sse(Client):
    def __init__(self, port, token, tool):
        super().__init__(port, token, tool)
        self.stream = mcp.Connection(port)
        self.stream.socket.sendall(mcp.request(port, "GET", "/mcp/sse", {
            "Authorization": f"Bearer {token}", "Accept": "text/event-stream"}))
        status, _, _ = self.stream.head()
        if status != 200:
            raise Failed(f"a stream got {status}")
        self.path = self.wait(b"data: ").split(b"data: ")[1].split(b"\n")[0].decode()
        self.tell({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": OLD, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}})
        self.wait(b'"result"')
        self.tell({"jsonrpc": "2.0", "method": "notifications/initialized"})
        self.call = self.post(self.message(mcp.FIRST_ID))
        self.connections = [self.posts, self.stream]

    def post(self, message):
        body = json.dumps(message, separators=(",", ":")).encode()
        return mcp.request(self.port, "POST", self.path, {
            "Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}, body)

    def tell(self, message):
        self.posts.socket.sendall(self.post(message))
        self.accepted(self.posts)

    def accepted(self, connection):
        status, fields, _ = connection.head()
        length = int(fields.get("content-length", "0"))
        while len(connection.held) < length:
            connection.more()
        connection.held = connection.held[length:]
        if status != 202:
            raise Failed(f"a message got {status}")

    def wait(self, word):
        """What has come on the stream up to the end of the event with this word."""
        while word not in self.stream.held or b"\n\n" not in self.stream.held.split(word, 1)[1]:
            self.stream.more()
        found, self.stream.held = self.stream.held, b""
        return found

    def send(self):
        self.is_accepted = self.is_answered = False
        self.posts.socket.sendall(self.call)

    def take(self, connection):
        """True: the call is accepted and answered, in whichever order that came."""
        if connection is self.posts:
            self.accepted(connection)
            self.is_accepted = True
        else:
            self.read(connection)
            self.is_answered = b'"content"' in connection.held and connection.held.count(b"\n\n") > 0
            if self.is_answered:
                connection.held = b""
        return self.is_accepted and self.is_answered


def drive(clients, seconds):
    ready = selectors.DefaultSelector()
    for client in clients:
        for connection in client.connections:
            ready.register(connection.socket, selectors.EVENT_READ, (client, connection))
        client.send()
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        for key, _ in ready.select(1):
            client, connection = key.data
            if client.take(connection):
                client.calls += 1
                client.send()
    return {"calls": sum(client.calls for client in clients), "seconds": time.monotonic() - began}


def main():
    port, kind, tool, n, seconds = sys.argv[1:]
    make = Sse if kind == "sse" else Streamable
    clients = [make(int(port), os.environ["BENCH_TOKEN"], tool) for _ in range(int(n))]
    got = drive(clients, float(seconds))
    if got["calls"] == 0:
        raise Failed("no call was answered")
    print(json.dumps(got))


if __name__ == "__main__":
    main()
