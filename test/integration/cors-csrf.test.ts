/* What browsers may do: CORS and CSRF with Nexus's keys, closed by default. */
import assert from "node:assert/strict";
import type http from "node:http";
import { after, before, describe, test, type TestContext } from "node:test";

import { startControl, type Control } from "./lib/control.ts";
import { startGateway, type Gateway, type Value } from "./lib/gateway.ts";
import { exchange, initialize, openSession, send, served, stream, type Answer, type Outgoing } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";

const APP = "https://app.example.com";
const EVIL = "http://evil.example.com";

let control: Control;
before(async () => {
    control = await startControl();
});
after(async () => control.close());

async function start(t: TestContext, server: { [key: string]: Value }, args: string[] = []): Promise<Gateway> {
    return startGateway({ config: { server, servers: { one: { cmd: control.command({ name: "one" }) } } }, args }, t);
}

/** The fields of an answer that CORS is made of. */
function corsFields(headers: http.IncomingHttpHeaders): Record<string, string> {
    const fields = Object.entries(headers).filter(([name]) => name.startsWith("access-control-"));
    return Object.fromEntries(fields.map(([name, value]) => [name.slice("access-control-".length), String(value)]));
}

const preflight = (origin: string, more: Outgoing = {}, method = "POST"): Outgoing => ({
    method: "OPTIONS",
    path: "/mcp",
    token: false,
    ...more,
    headers: {
        Origin: origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
        ...more.headers,
    },
});

/** One request for each way to be answered; `status` is without CSRF. */
const EVERYTHING: { name: string; status: number; outgoing: Outgoing }[] = [
    { name: "health", status: 200, outgoing: { method: "GET", path: "/health", token: false } },
    { name: "ready", status: 200, outgoing: { method: "GET", path: "/ready", token: false } },
    { name: "health by POST", status: 405, outgoing: { path: "/health", token: false, body: {} } },
    { name: "no token", status: 401, outgoing: { body: initialize("2025-11-25"), token: false } },
    { name: "a wrong token", status: 401, outgoing: { body: initialize("2025-11-25"), token: "wrong" } },
    { name: "initialize", status: 200, outgoing: { body: initialize("2025-11-25") } },
    { name: "no session", status: 400, outgoing: { method: "GET" } },
    { name: "no such path", status: 404, outgoing: { method: "GET", path: "/other" } },
    { name: "no such server", status: 404, outgoing: { path: "/mcp/other", body: {} } },
    { name: "no such metadata", status: 404, outgoing: { method: "GET", path: "/.well-known/x", token: false } },
    { name: "PUT", status: 405, outgoing: { method: "PUT" } },
    { name: "OPTIONS", status: 405, outgoing: { method: "OPTIONS" } },
    { name: "text", status: 415, outgoing: { headers: { "Content-Type": "text/plain" }, body: "{}" } },
    { name: "no JSON", status: 400, outgoing: { body: "{" } },
    { name: "a token in the URL", status: 400, outgoing: { method: "GET", path: "/mcp?access_token=x" } },
    {
        name: "a body that turns out to be long",
        status: 413,
        outgoing: { headers: { "Content-Length": undefined, "Transfer-Encoding": "chunked" }, body: `"${"x".repeat(3000)}"` },
    },
];

describe("CORS", () => {
    test("closed by default: no field of it anywhere, and other origins are refused", async (t) => {
        const gateway = await start(t, { max_request_body: "2KiB" });
        for (const { name, status, outgoing } of EVERYTHING) {
            const own = await send(gateway, outgoing);
            assert.equal(own.status, status, `${name}: ${own.text}`);
            for (const origin of [undefined, APP, "null", `http://127.0.0.1:${gateway.port}`]) {
                const answer = await send(gateway, { ...outgoing, headers: { ...outgoing.headers, Origin: origin } });
                assert.deepEqual(corsFields(answer.headers), {}, `${name} ${origin}`);
                assert.equal(answer.headers.vary, undefined, name);
            }
        }
        for (const origin of [APP, "null", EVIL]) {
            const refused = await send(gateway, { body: initialize("2025-11-25"), headers: { Origin: origin } });
            assert.equal(refused.status, 403, origin);
            assert.equal(refused.headers["cache-control"], "no-store");
            const asked = await send(gateway, preflight(origin));
            assert.equal(asked.status, 403, origin);
            assert.deepEqual(corsFields(asked.headers), {});
        }
    });

    test("an allowed origin reads every answer, errors and streams too; others read none", async (t) => {
        const gateway = await start(t, {
            max_request_body: "2KiB",
            cors: { allow_origins: [APP, "http://*.dev.example.com:3000"], expose_headers: ["Mcp-Session-Id"] },
        });
        await served(gateway, "one__echo");
        for (const origin of [APP, "http://a.b.dev.example.com:3000"]) {
            const expected = { "allow-origin": origin, "expose-headers": "Mcp-Session-Id" };
            for (const { name, status, outgoing } of EVERYTHING) {
                const answer = await send(gateway, { ...outgoing, headers: { ...outgoing.headers, Origin: origin } });
                assert.equal(answer.status, status, `${name}: ${answer.text}`);
                assert.deepEqual(corsFields(answer.headers), expected, name);
                assert.equal(answer.headers.vary, "Origin", name);
            }
            const session = await openSession(gateway);
            const listening = await stream(gateway, { method: "GET", headers: { ...session.headers, Origin: origin } });
            assert.equal(listening.status, 200);
            assert.deepEqual(corsFields(listening.headers), expected, "the GET stream");
            listening.close();
            const call = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "one__progress" } };
            const progress = await send(gateway, {
                body: { ...call, params: { ...call.params, _meta: { progressToken: 1 } } },
                headers: { ...session.headers, Origin: origin },
            });
            assert.deepEqual(corsFields(progress.headers), expected, "a call");
            const ended = await send(gateway, {
                method: "DELETE",
                headers: { ...session.headers, Origin: origin },
            });
            assert.equal(ended.status, 200);
            assert.deepEqual(corsFields(ended.headers), expected, "DELETE");
            const modern = new ModernClient(gateway, "/mcp", { headers: { Origin: origin } });
            const listed = await modern.ask("tools/list");
            assert.equal(listed.status, 200);
            assert.deepEqual(corsFields(listed.headers), expected, "2026-07-28");
        }
        for (const origin of [
            "https://app.example.com:8443",
            "http://app.example.com",
            "https://app.example.com.evil.example",
            "https://xapp.example.com",
            "http://dev.example.com:3000",
            "http://a.dev.example.com",
            "http://a.xdev.example.com:3000",
            "null",
            EVIL,
        ]) {
            for (const { name, outgoing } of EVERYTHING) {
                const answer = await send(gateway, { ...outgoing, headers: { ...outgoing.headers, Origin: origin } });
                assert.deepEqual(corsFields(answer.headers), {}, `${name} ${origin}`);
                assert.equal(answer.headers.vary, "Origin", "a cache must not give it to another origin");
            }
            const refused = await send(gateway, { body: initialize("2025-11-25"), headers: { Origin: origin } });
            assert.equal(refused.status, 403, origin);
        }
        const none = await send(gateway, { method: "GET", path: "/health", token: false });
        assert.deepEqual(corsFields(none.headers), {}, "without an origin");
        assert.equal(none.headers.vary, "Origin");
    });

    test("a preflight is answered before CSRF, authentication and identification", async (t) => {
        const gateway = await start(t, {
            csrf: { enabled: true },
            client_identification: { enabled: true, client_id: { http_header: "X-Client-Id" } },
            cors: {
                allow_origins: APP,
                allow_methods: ["GET", "POST", "DELETE"],
                allow_headers: ["Authorization", "Content-Type", "X-Nexus-CSRF-Protection"],
                expose_headers: ["Mcp-Session-Id"],
                max_age: "1h",
            },
        });
        for (const path of ["/mcp", "/mcp/one", "/mcp/other", "/health", "/ready", "/other", "/.well-known/x"]) {
            for (const token of [false, "wrong", undefined] as const) {
                const answer = await send(gateway, preflight(APP, { path, token }));
                assert.equal(answer.status, 204, path);
                assert.equal(answer.text, "");
                assert.equal(answer.headers["content-length"], undefined, "RFC 9110 section 8.6");
                assert.deepEqual(corsFields(answer.headers), {
                    "allow-origin": APP,
                    "allow-methods": "GET, POST, DELETE, OPTIONS",
                    "allow-headers": "Authorization, Content-Type, X-Nexus-CSRF-Protection",
                    "expose-headers": "Mcp-Session-Id",
                    "max-age": "3600",
                });
                assert.match(String(answer.headers.vary), /Origin.*Access-Control-Request-Method/);
            }
        }
        const refused = await send(gateway, { body: initialize("2025-11-25"), headers: { Origin: APP } });
        assert.equal(refused.status, 403, "what comes after it still needs the field");
        const anonymous = await send(gateway, {
            body: initialize("2025-11-25"),
            token: false,
            headers: { Origin: APP, "X-Nexus-CSRF-Protection": "1" },
        });
        assert.equal(anonymous.status, 401, "and a token");
    });

    test("a preflight of another origin, and one by another host, is 403 without fields", async (t) => {
        const gateway = await start(t, { cors: { allow_origins: [APP], allow_methods: "*", allow_headers: "*" } });
        for (const origin of [EVIL, "null", "", "*", `${APP}, ${EVIL}`, `${APP}/`]) {
            const answer = await send(gateway, preflight(origin));
            assert.equal(answer.status, 403, origin);
            assert.deepEqual(corsFields(answer.headers), {}, origin);
        }
        const twice = await send(gateway, preflight(APP, { headers: { Origin: [APP, EVIL] as unknown as string } }));
        assert.equal(twice.status, 403, "two Origin fields");
        const rebound = await send(gateway, preflight(APP, { headers: { Host: "evil.example.com" } }));
        assert.equal(rebound.status, 403);
        const actual = await send(gateway, {
            body: initialize("2025-11-25"),
            headers: { Origin: APP, Host: "evil.example.com" },
        });
        assert.equal(actual.status, 403, "an allowed origin opens no other host");
    });

    test("OPTIONS that is no preflight is no way in", async (t) => {
        const gateway = await start(t, { cors: { allow_origins: "*", allow_methods: "*" } });
        const options: Outgoing = { method: "OPTIONS", path: "/mcp", headers: { Origin: APP } };
        assert.equal((await send(gateway, { ...options, token: false })).status, 401);
        const known = await send(gateway, options);
        assert.equal(known.status, 405);
        assert.equal(known.headers.allow, "GET, POST, DELETE");
        const post = await send(gateway, {
            body: initialize("2025-11-25"),
            token: false,
            headers: { Origin: APP, "Access-Control-Request-Method": "POST" },
        });
        assert.equal(post.status, 401, "the fields of a preflight do not make one");
    });

    test('"*" is every origin but null, and never with credentials', async (t) => {
        const gateway = await start(t, {
            cors: { allow_origins: "*", allow_methods: "*", allow_headers: "*", expose_headers: "*" },
        });
        const asked = await send(gateway, preflight(EVIL));
        assert.equal(asked.status, 204);
        assert.deepEqual(corsFields(asked.headers), {
            "allow-origin": "*",
            "allow-methods": "*",
            "allow-headers": "*, Authorization",
            "expose-headers": "*",
        });
        const answer = await send(gateway, { body: initialize("2025-11-25"), headers: { Origin: EVIL } });
        assert.equal(answer.status, 200);
        assert.equal(answer.headers["access-control-allow-origin"], "*");
        for (const origin of ["null", "", "*", "file://", "evil"]) {
            const refused = await send(gateway, { body: initialize("2025-11-25"), headers: { Origin: origin } });
            assert.equal(refused.status, 403, origin);
            assert.deepEqual(corsFields(refused.headers), {});
            assert.equal((await send(gateway, preflight(origin))).status, 403, origin);
        }
        const rebound = await send(gateway, { body: {}, headers: { Origin: EVIL, Host: "evil.example.com" } });
        assert.equal(rebound.status, 403, "the host is checked as ever");
    });

    test("credentials and private networks, where they are allowed", async (t) => {
        const gateway = await start(t, {
            cors: { allow_origins: [APP], allow_credentials: true, allow_private_network: true },
        });
        const asked = await send(
            gateway,
            preflight(APP, { headers: { "Access-Control-Request-Private-Network": "true" } }),
        );
        assert.deepEqual(corsFields(asked.headers), {
            "allow-origin": APP,
            "allow-credentials": "true",
            "allow-private-network": "true",
        });
        const plain = await send(gateway, preflight(APP));
        assert.deepEqual(corsFields(plain.headers), { "allow-origin": APP, "allow-credentials": "true" });
        const answer = await send(gateway, { body: initialize("2025-11-25"), headers: { Origin: APP } });
        assert.deepEqual(corsFields(answer.headers), { "allow-origin": APP, "allow-credentials": "true" });
    });

    test("a table without origins opens nothing", async (t) => {
        const gateway = await start(t, { cors: { allow_methods: "*", allow_headers: "*" } });
        const asked = await send(gateway, preflight(APP));
        assert.equal(asked.status, 403);
        assert.deepEqual(corsFields(asked.headers), {});
        const own = await send(gateway, {
            body: initialize("2025-11-25"),
            headers: { Origin: `http://localhost:${gateway.port}` },
        });
        assert.equal(own.status, 200, "our own origin is no other one");
        assert.deepEqual(corsFields(own.headers), {});
    });
});

describe("CSRF", () => {
    const FIELD = "X-Nexus-CSRF-Protection";
    const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"];
    const PATHS = ["/health", "/ready", "/mcp", "/mcp/one", "/other", "/.well-known/oauth-protected-resource"];

    test("every request but OPTIONS needs the field, whatever it holds, before anything else", async (t) => {
        const gateway = await start(t, { csrf: { enabled: true } });
        for (const path of PATHS) {
            for (const method of METHODS) {
                for (const token of [undefined, false, "wrong"] as const) {
                    const refused = await send(gateway, { method, path, token });
                    assert.equal(refused.status, 403, `${method} ${path}`);
                    assert.equal(refused.headers["www-authenticate"], undefined);
                }
                const passed = await send(gateway, { method, path, headers: { [FIELD]: "" } });
                assert.notEqual(passed.status, 403, `${method} ${path} with an empty one: ${passed.text}`);
            }
            const options = await send(gateway, { method: "OPTIONS", path });
            assert.notEqual(options.status, 403, path);
        }
        for (const value of ["1", "0", "false", "anything, at all"]) {
            for (const name of [FIELD, FIELD.toLowerCase(), FIELD.toUpperCase()]) {
                const health = await send(gateway, { method: "GET", path: "/health", headers: { [name]: value } });
                assert.equal(health.status, 200, `${name}: ${value}`);
            }
        }
        const other = await send(gateway, { method: "GET", path: "/health", headers: { "X-CSRF": "1" } });
        assert.equal(other.status, 403);
        const answer = await send(gateway, { body: initialize("2025-11-25"), headers: { [FIELD]: "1" } });
        assert.equal(answer.status, 200, answer.text);
        const anonymous = await send(gateway, { body: {}, token: false, headers: { [FIELD]: "1" } });
        assert.equal(anonymous.status, 401);
    });

    test("its name may be another", async (t) => {
        const gateway = await start(t, { csrf: { enabled: true, header_name: "X-Mine" } });
        const health = (headers: Record<string, string>): Promise<Answer> =>
            send(gateway, { method: "GET", path: "/health", headers });
        assert.equal((await health({ "x-mine": "" })).status, 200);
        assert.equal((await health({ [FIELD]: "1" })).status, 403);
        assert.equal((await health({ "X-Mine-Not": "1" })).status, 403);
        assert.match((await health({})).text, /X-Mine/, "the refusal says what is missing");
    });

    test("off by default", async (t) => {
        const gateway = await start(t, { csrf: { header_name: "X-Mine" } });
        assert.equal((await send(gateway, { method: "GET", path: "/health" })).status, 200);
    });

    test("a refused request leaves its connection usable, whatever its body is", async (t) => {
        const gateway = await start(t, { csrf: { enabled: true } });
        const head = `Host: localhost\r\n`;
        const answers = await exchange(
            gateway.port,
            `POST /mcp HTTP/1.1\r\n${head}Content-Type: application/json\r\nContent-Length: 5\r\n\r\n{"x":` +
                `GET /health HTTP/1.1\r\n${head}${FIELD}: 1\r\nConnection: close\r\n\r\n`,
        );
        assert.deepEqual(
            answers.map(({ status }) => status),
            [403, 200],
        );
    });
});

describe("nexus 6.3.2: any web page can drive the gateway", () => {
    const body = JSON.stringify(initialize("2025-11-25"));

    test("nexus 6.3.2: what a page may send without a preflight gets it nowhere", async (t) => {
        const gateway = await start(t, { auth: { anonymous: true } });
        for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]) {
            for (const origin of [EVIL, "null", APP]) {
                const answer = await send(gateway, {
                    token: false,
                    headers: { Origin: origin, "Content-Type": type, Accept: "*/*" },
                    body,
                });
                assert.equal(answer.status, 403, `${type} of ${origin}`);
                assert.deepEqual(corsFields(answer.headers), {});
            }
            const noOrigin = await send(gateway, { token: false, headers: { "Content-Type": type }, body });
            assert.equal(noOrigin.status, 415, "nor from a form that names no origin");
        }
        for (const method of ["GET", "DELETE", "OPTIONS", "POST"]) {
            const answer = await send(gateway, { method, token: false, headers: { Origin: EVIL } });
            assert.equal(answer.status, 403, method);
        }
    });

    test("nexus 6.3.2: a name that was bound to this machine gets it nowhere, on loopback and beyond", async (t) => {
        const beyond = ["-l", "0.0.0.0:0"];
        const open = { plaintext: true, trusted_proxies: ["192.0.2.1"], hosts: ["gw.example.com"], auth: { none: "I know" } };
        for (const [server, args] of [
            [{ auth: { anonymous: true } }, []],
            [open, beyond],
            [{ ...open, cors: { allow_origins: "*" } }, beyond],
        ] as [{ [key: string]: Value }, string[]][]) {
            const gateway = await start(t, server, args);
            const { port } = gateway;
            for (const host of [
                `evil.example.com:${port}`,
                `evil.example.com`,
                `0.0.0.0:${port}`,
                `[::]:${port}`,
                `127.0.0.1.evil.example.com:${port}`,
                `gw.example.com.evil.example.com`,
                `x.gw.example.com`,
                `127.0.0.2:${port}`,
            ]) {
                // A page of that name and port is of the same origin: it sends what it likes, without a preflight.
                for (const origin of [undefined, `http://${host}`]) {
                    const answer = await send(gateway, { headers: { Host: host, Origin: origin }, body });
                    assert.equal(answer.status, 403, `${host} ${origin}: ${answer.text}`);
                    assert.equal(answer.headers["mcp-session-id"], undefined);
                }
            }
            assert.equal((await send(gateway, { headers: { Host: `localhost:${port}` }, body })).status, 200);
            if (args.length > 0) {
                assert.equal((await send(gateway, { headers: { Host: "gw.example.com" }, body })).status, 200);
            }
        }
    });
});
