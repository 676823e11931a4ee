"""An MCP client of few words: what it takes to make one real call of each era, whose bytes wrk and bench_rate then
repeat with ids of their own."""

import json
import socket
import ssl

from peers import HOST, Failed, TlsPort

LEGACY, MODERN = "2025-11-25", "2026-07-28"
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE  # certificates are not what is measured
FIRST_ID = 10000000  # eight digits: call.lua and bench_rate count from here


def request(port, method, path, fields, body=b""):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}:{port}"]
    lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def post(port, token, message, **fields):
    body = json.dumps(message, separators=(",", ":")).encode()
    base = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    return request(port, "POST", "/mcp", {**base, **{name.replace("_", "-"): value for name, value in fields.items()}},
                   body)


class Connection:
    """One connection, one request after the other."""

    def __init__(self, port):
        self.socket = socket.create_connection((HOST, int(port)), 20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if isinstance(port, TlsPort):
            self.socket = TLS.wrap_socket(self.socket)
            if self.socket.version() != "TLSv1.3":
                raise Failed(f"{self.socket.version()} was agreed on")
        self.held = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def more(self):
        got = self.socket.recv(1 << 18)
        if not got:
            raise Failed(f"the connection was closed after {self.held[:300]!r}")
        self.held += got

    def head(self):
        """(status, fields, bytes of the head)"""
        while b"\r\n\r\n" not in self.held:
            self.more()
        head, self.held = self.held.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, value in pairs}, len(head) + 4

    def exchange(self, data):
        """(status, fields, body, bytes in all)"""
        self.socket.sendall(data)
        status, fields, size = self.head()
        length = int(fields.get("content-length", "-1"))
        if length < 0:
            raise Failed(f"an answer without a length: {status} {fields}")
        parts = [self.held]
        have = len(self.held)
        while have < length:
            parts.append(self.socket.recv(1 << 18))
            have += len(parts[-1])
            if not parts[-1]:
                raise Failed("the connection was closed in an answer")
        self.held = b""
        return status, fields, b"".join(parts), size + length


def open_session(connection, port, token):
    """The id of a new session: initialize, and the word that it is done."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}}
    status, fields, body, _ = connection.exchange(post(port, token, message))
    if status != 200 or "mcp-session-id" not in fields:
        raise Failed(f"initialize got {status}: {body[:300]!r}")
    session = fields["mcp-session-id"]
    done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    status, _, body, _ = connection.exchange(post(port, token, done, Mcp_Session_Id=session,
                                                  MCP_Protocol_Version=LEGACY))
    if status != 202:
        raise Failed(f"notifications/initialized got {status}: {body[:300]!r}")
    return session


def legacy_call(port, token, tool):
    with Connection(port) as connection:
        session = open_session(connection, port, token)
    message = {"jsonrpc": "2.0", "id": FIRST_ID, "method": "tools/call", "params": {
        "name": tool, "arguments": {"text": "hello"}}}
    return post(port, token, message, Mcp_Session_Id=session, MCP_Protocol_Version=LEGACY)


def modern(method, params):
    return {"jsonrpc": "2.0", "id": FIRST_ID, "method": method, "params": {**params, "_meta": {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"}}}}


def modern_call(port, token, tool):
    message = modern("tools/call", {"name": tool, "arguments": {"text": "hello"}})
    return post(port, token, message, MCP_Protocol_Version=MODERN, Mcp_Method="tools/call", Mcp_Name=tool)


def probe(port, call):
    """(bytes of the body, bytes of the answer): the call is answered with a result."""
    with Connection(port) as connection:
        status, _, body, size = connection.exchange(call)
    try:
        result = json.loads(body).get("result", {})
    except ValueError:
        result = {}
    if status != 200 or "content" not in result or result.get("isError"):
        raise Failed(f"a call got {status}: {body[:300]!r}")
    return len(body), size


def open_stream(port, token, session):
    """The connection of a GET stream that was granted."""
    connection = Connection(port)
    connection.socket.sendall(request(port, "GET", "/mcp", {
        "Authorization": f"Bearer {token}", "Accept": "text/event-stream", "Mcp-Session-Id": session,
        "MCP-Protocol-Version": LEGACY}))
    status, _, _ = connection.head()
    if status != 200:
        raise Failed(f"a stream got {status}")
    return connection


def open_listen(port, token):
    """The connection of a subscriptions/listen that was acknowledged."""
    connection = Connection(port)
    asked = {"notifications": {"toolsListChanged": True, "resourcesListChanged": True}}
    connection.socket.sendall(post(port, token, modern("subscriptions/listen", asked), MCP_Protocol_Version=MODERN,
                                   Mcp_Method="subscriptions/listen"))
    status, _, _ = connection.head()
    while status == 200 and b"\n\n" not in connection.held:
        connection.more()
    if status != 200 or b"notifications/subscriptions/acknowledged" not in connection.held:
        raise Failed(f"a listen got {status}: {connection.held[:300]!r}")
    connection.held = b""
    return connection
