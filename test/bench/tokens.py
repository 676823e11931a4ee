"""Tokens of an issuer: what a remembered one costs with each call, and what one that comes for the first time costs those
who call beside it."""

import base64
import hashlib
import hmac
import http.server
import json
import subprocess
import threading
import time

import mcp
from peers import HOST, free_port

ISSUER, RESOURCE = "https://id.example", "https://gw.example"
SECRET = "the secret of an issuer that signs with HS256"
FRESH, PAUSE = 200, 0.01


def part(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(head, number=0, **more):
    """As large as those of a real issuer with some scopes and claims."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": RESOURCE, "sub": "bench", "iat": now, "exp": now + 3600, "jti": f"{number:032}",
              "client_id": "0" * 32, "scope": "openid profile email offline_access", "session": "x" * 400, **more}
    return f"{part(json.dumps(head).encode())}.{part(json.dumps(claims).encode())}"


def symmetric(**more):
    text = unsigned({"alg": "HS256", "typ": "at+jwt"}, **more)
    return f"{text}.{part(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest())}"


class Issuer:
    """An RSA key of 2048 bits, its JWKS over HTTP, and tokens of it."""

    def __init__(self, folder):
        self.folder, self.key = folder, folder / "issuer.key"
        subprocess.run(["openssl", "genrsa", "-out", self.key, "2048"], check=True, capture_output=True)
        modulus = subprocess.run(["openssl", "rsa", "-in", self.key, "-noout", "-modulus"], check=True,
                                 capture_output=True, text=True).stdout.strip().split("=")[1]
        jwks = json.dumps({"keys": [{"kty": "RSA", "kid": "k", "use": "sig", "alg": "RS256", "e": "AQAB",
                                     "n": part(bytes.fromhex(modulus))}]}).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # pylint: disable=invalid-name
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(jwks)))
                self.end_headers()
                self.wfile.write(jwks)

            def log_message(self, *_):
                pass

        self.port = free_port()
        server = http.server.ThreadingHTTPServer((HOST, self.port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def token(self, number):
        text = unsigned({"alg": "RS256", "typ": "at+jwt", "kid": "k"}, number)
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=text.encode(), check=True,
                                   capture_output=True).stdout
        return f"{text}.{part(signature)}"


def tables(port):
    """[server.oauth] with both: tokens by the secret and by the keys of the JWKS."""
    return (f'[server.oauth]\nurl = "http://{HOST}:{port}/jwks.json"\nsecret = "{SECRET}"\nexpected_issuer = "{ISSUER}"\n'
            f'protected_resource = {{ resource = "{RESOURCE}", authorization_servers = ["{ISSUER}"] }}\n')


class Strangers(threading.Thread):
    """Asks with one token after the other, each of which nobody has seen before, on one connection."""

    def __init__(self, port, tokens):
        super().__init__(daemon=True)
        self.port, self.tokens, self.ends = port, tokens, threading.Event()
        self.count = 0

    def run(self):
        with mcp.Connection(self.port) as connection:
            for token in self.tokens:
                if self.ends.wait(PAUSE):
                    return
                fields = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
                status, *_ = connection.exchange(mcp.request(self.port, "GET", "/mcp", fields))
                if status != 400:  # let in, and then told that there is no session
                    raise mcp.Failed(f"a fresh token got {status}")
                self.count += 1

    def stop(self):
        self.ends.set()
        self.join()
        if self.count == 0:
            raise mcp.Failed("no fresh token was let in")
