/* The metadata of the endpoints as protected resources (RFC 9728), tokens in URLs, and whose address a request has. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, describe, test, type TestContext } from "node:test";

import { startControl, type Control } from "./lib/control.ts";
import { startGateway, type Gateway, type LogEntry, type Value } from "./lib/gateway.ts";
import { initialize, send, type Answer, type Outgoing } from "./lib/http.ts";

const WELL_KNOWN = "/.well-known/oauth-protected-resource";
/** Where no issuer is: its keys are not needed here. */
const NOBODY = "http://127.0.0.1:9/jwks";

let control: Control;
before(async () => {
    control = await startControl();
});
after(async () => control.close());

async function start(
    t: TestContext,
    server: { [key: string]: Value },
    mcp?: { [key: string]: Value },
    one: { [key: string]: Value } = {},
): Promise<Gateway> {
    const servers = { one: { cmd: control.command({ name: "one" }), ...one } };
    return startGateway({ config: { server, mcp, servers } }, t);
}

const oauth = (more: { [key: string]: Value } = {}, resource = "https://gw.example.com/mcp"): { [key: string]: Value } => ({
    oauth: {
        url: NOBODY,
        expected_issuer: "https://issuer.example.com",
        protected_resource: { resource, authorization_servers: ["https://login.example.com/"] },
        ...more,
    },
});

const get = (gateway: Gateway, path: string, more: Outgoing = {}): Promise<Answer> =>
    send(gateway, { method: "GET", path, token: false, ...more });

describe("metadata of protected resources", () => {
    test("of the resource and of every endpoint, without credentials", async (t) => {
        const gateway = await start(t, oauth());
        for (const [path, resource] of [
            ["", "https://gw.example.com/mcp"],
            ["/mcp", "https://gw.example.com/mcp"],
            ["/mcp/one", "https://gw.example.com/mcp/one"],
            ["/mcp/nobody-is-here", "https://gw.example.com/mcp/nobody-is-here"],
        ]) {
            for (const token of [false, "wrong"] as const) {
                const answer = await get(gateway, `${WELL_KNOWN}${path}`, { token });
                assert.equal(answer.status, 200, path);
                assert.equal(answer.headers["content-type"], "application/json");
                assert.equal(answer.headers["x-content-type-options"], "nosniff");
                assert.equal(answer.headers["cache-control"], "public, max-age=300");
                assert.deepEqual(JSON.parse(answer.text), {
                    resource,
                    authorization_servers: ["https://login.example.com/"],
                    bearer_methods_supported: ["header"],
                });
            }
            const head = await get(gateway, `${WELL_KNOWN}${path}`, { method: "HEAD" });
            assert.equal(head.status, 200);
            assert.equal(head.text, "");
            for (const method of ["POST", "PUT", "DELETE"]) {
                const refused = await send(gateway, { method, path: `${WELL_KNOWN}${path}`, token: false });
                assert.equal(refused.status, 405, method);
                assert.equal(refused.headers.allow, "GET, HEAD");
            }
        }
        for (const path of [
            `${WELL_KNOWN}/`,
            `${WELL_KNOWN}/mcp/`,
            `${WELL_KNOWN}/mcp/a/b`,
            `${WELL_KNOWN}/mcp/a__b`,
            `${WELL_KNOWN}/mcp/%22`,
            `${WELL_KNOWN}/other`,
            `${WELL_KNOWN}x`,
            "/.well-known/oauth-authorization-server",
            "/.well-known/openid-configuration",
            "/.well-known/",
            "/mcp/.well-known/oauth-protected-resource",
        ]) {
            const answer = await get(gateway, path);
            assert.equal(answer.status, path.startsWith("/.well-known/") ? 404 : 401, path);
        }
    });

    test("nothing without server.oauth", async (t) => {
        const gateway = await start(t, {});
        for (const path of ["", "/mcp", "/mcp/one"]) {
            for (const token of [false, undefined] as const) {
                assert.equal((await get(gateway, `${WELL_KNOWN}${path}`, { token })).status, 404);
            }
        }
    });

    test("all scopes that are asked for anywhere, the same for every endpoint", async (t) => {
        const gateway = await start(t, oauth({ scopes: ["mcp", "base"] }), undefined, {
            scopes: ["one:use", "base"],
            tools: { echo: { scopes: ["one:echo"] } },
        });
        for (const path of ["", "/mcp", "/mcp/one", "/mcp/other"]) {
            const answer = await get(gateway, `${WELL_KNOWN}${path}`);
            const { scopes_supported } = JSON.parse(answer.text) as { scopes_supported: string[] };
            assert.deepEqual(scopes_supported, ["base", "mcp", "one:echo", "one:use"], path);
        }
    });

    test("issuers are the authorization servers where none are named", async (t) => {
        const gateway = await start(t, {
            oauth: {
                protected_resource: { resource: "https://gw.example.com" },
                issuers: [
                    { url: NOBODY, expected_issuer: "https://a.example.com" },
                    { url: NOBODY, expected_issuer: "https://b.example.com/tenant" },
                ],
            },
        });
        const answer = await get(gateway, `${WELL_KNOWN}/mcp`);
        assert.deepEqual(JSON.parse(answer.text), {
            resource: "https://gw.example.com/mcp",
            authorization_servers: ["https://a.example.com", "https://b.example.com/tenant"],
            bearer_methods_supported: ["header"],
        });
        const root = JSON.parse((await get(gateway, WELL_KNOWN)).text) as { resource: string };
        assert.equal(root.resource, "https://gw.example.com");
    });

    test("another mcp.path, and a prefix that a proxy takes away", async (t) => {
        const gateway = await start(t, oauth({}, "https://gw.example.com/tools/api/mcp"), { path: "/api/mcp" });
        for (const [path, resource] of [
            ["", "https://gw.example.com/tools/api/mcp"],
            ["/api/mcp", "https://gw.example.com/tools/api/mcp"],
            ["/tools/api/mcp", "https://gw.example.com/tools/api/mcp"],
            ["/tools/api/mcp/one", "https://gw.example.com/tools/api/mcp/one"],
        ]) {
            const answer = await get(gateway, `${WELL_KNOWN}${path}`);
            assert.equal(answer.status, 200, path);
            assert.equal((JSON.parse(answer.text) as { resource: string }).resource, resource);
        }
        assert.equal((await get(gateway, `${WELL_KNOWN}/mcp`)).status, 404);
    });

    test("401 names them, and the address that it names is right", async (t) => {
        const gateway = await start(t, oauth());
        for (const [path, suffix] of [
            ["/mcp", "/mcp"],
            ["/mcp/one", "/mcp/one"],
            ["/mcp/other", "/mcp/other"],
        ] as const) {
            const answer = await send(gateway, { path, token: false, body: initialize("2025-11-25") });
            assert.equal(answer.status, 401);
            assert.equal(answer.headers["cache-control"], "no-store");
            const url = /resource_metadata="([^"]*)"/.exec(String(answer.headers["www-authenticate"]))?.[1];
            assert.equal(url, `https://gw.example.com${WELL_KNOWN}${suffix}`);
            const document = await get(gateway, new URL(url).pathname, { headers: { Host: new URL(url).host } });
            assert.equal(document.status, 200);
            assert.equal((JSON.parse(document.text) as { resource: string }).resource, `https://gw.example.com${path}`);
        }
    });

    test("by a host that is not ours they are refused, and other origins need CORS", async (t) => {
        const gateway = await start(t, { ...oauth(), cors: { allow_origins: ["https://app.example.com"] } });
        assert.equal((await get(gateway, WELL_KNOWN, { headers: { Host: "evil.example.com" } })).status, 403);
        assert.equal((await get(gateway, WELL_KNOWN, { headers: { Origin: "https://evil.example.com" } })).status, 403);
        assert.equal((await get(gateway, WELL_KNOWN, { headers: { Host: "gw.example.com" } })).status, 200);
        const answer = await get(gateway, WELL_KNOWN, { headers: { Origin: "https://app.example.com" } });
        assert.equal(answer.status, 200);
        assert.equal(answer.headers["access-control-allow-origin"], "https://app.example.com");
        assert.equal(answer.headers.vary, "Origin", "caches keep it apart");
    });
});

describe("a token in the URL", () => {
    test("is refused on every route, however its name is spelled, and never logged", async (t) => {
        const gateway = await start(t, oauth());
        const secret = `leak${randomBytes(8).toString("hex")}`;
        for (const path of ["/mcp", "/mcp/one", "/health", "/ready", "/other", WELL_KNOWN]) {
            for (const query of [
                `access_token=${secret}`,
                `a=b&access_token=${secret}`,
                `a=b;access_token=${secret}`,
                `&&access_token=${secret}&c=d`,
                `%61ccess%5Ftoken=${secret}`,
                `a%63cess_toke%6e=${secret}`,
                `ACCESS_TOKEN=${secret}`,
                `%41ccess_token=${secret}`,
                `access_token`,
                `access_token=`,
            ]) {
                for (const token of [undefined, false] as const) {
                    const answer = await send(gateway, { method: "GET", path: `${path}?${query}`, token });
                    assert.equal(answer.status, 400, `${path}?${query}: ${answer.text}`);
                    assert.match(answer.text, /Authorization: Bearer/);
                    assert.ok(!answer.text.includes(secret));
                }
            }
        }
        for (const query of ["access_tokens=1", "xaccess_token=1", "token=1", "a=access_token", "%2561ccess_token=1"]) {
            const answer = await get(gateway, `/health?${query}`);
            assert.equal(answer.status, 200, query);
        }
        const post = await send(gateway, { path: `/mcp?access_token=${gateway.token}`, token: false, body: {} });
        assert.equal(post.status, 400, "a right one too");
        await get(gateway, `/other?x=${secret}`);
        await gateway.waitForLog((entry) => entry.path === "/other");
        const log = gateway.tail(Infinity);
        assert.ok(!log.includes(secret), "no query is in the log");
        assert.ok(!log.includes(gateway.token));
    });
});

describe("nexus 6.3.10: who believes what of a client's address", () => {
    const PROXIED = { "X-Real-IP": "198.51.100.7", "X-Forwarded-For": "203.0.113.1, 203.0.113.2, 203.0.113.3" };

    /** The address that the log has of a request with these headers. */
    async function client(gateway: Gateway, headers: Record<string, string | string[]>): Promise<unknown> {
        const from = gateway.log.items.length;
        const answer = await send(gateway, { path: "/nowhere", token: "wrong", headers: headers as Record<string, string> });
        assert.equal(answer.status, 401);
        const entry: LogEntry = await gateway.waitForLog((item) => item.message === "refused a request", from);
        return entry.client;
    }

    for (const [name, server, expected] of [
        ["nothing is configured", { trusted_proxies: ["127.0.0.1"] }, "127.0.0.1"],
        ["x_real_ip", { trusted_proxies: ["127.0.0.0/8"], client_ip: { x_real_ip: true } }, "198.51.100.7"],
        [
            "hops",
            { trusted_proxies: ["127.0.0.1"], client_ip: { x_forwarded_for_trusted_hops: 1 } },
            "203.0.113.2",
        ],
        [
            "hops beyond the list",
            { trusted_proxies: ["127.0.0.1"], client_ip: { x_forwarded_for_trusted_hops: 3 } },
            "127.0.0.1",
        ],
        [
            "the last that is not trusted",
            { trusted_proxies: ["127.0.0.1", "203.0.113.2/31"], client_ip: { x_forwarded_for: true } },
            "203.0.113.1",
        ],
        [
            "both",
            { trusted_proxies: ["127.0.0.1"], client_ip: { x_real_ip: true, x_forwarded_for: true } },
            "198.51.100.7",
        ],
    ] as [string, { [key: string]: Value }, string][]) {
        test(`nexus 6.3.10: ${name}: a trusted proxy is believed that far, anybody else never`, async (t) => {
            const trusting = await start(t, server);
            assert.equal(await client(trusting, PROXIED), expected);
            assert.equal(await client(trusting, {}), "127.0.0.1");
            assert.equal(await client(trusting, { "X-Real-IP": "x", "X-Forwarded-For": "y" }), "127.0.0.1");
            const wary = await start(t, { ...server, trusted_proxies: ["192.0.2.1"] });
            assert.equal(await client(wary, PROXIED), "127.0.0.1", "these are a client's own words");
        });
    }
});

describe("nexus 6.3.3: who may say which group a caller is in", () => {
    const token = `cardea-test-${randomBytes(24).toString("hex")}`;
    const hash = `sha256:${createHash("sha256").update(token).digest("hex")}`;
    const identified = {
        auth: { tokens: { app: { hash } } },
        client_identification: {
            enabled: true,
            client_id: { http_header: "X-Client-Id" },
            group_id: { http_header: "X-Group-Id" },
            validation: { group_values: ["staff"] },
        },
    };
    const ask = (gateway: Gateway, headers: Record<string, string>): Promise<Answer> =>
        send(gateway, { token, headers, body: initialize("2025-11-25") });

    test("nexus 6.3.3: header fields about the caller count from a trusted proxy only", async (t) => {
        const behind = await start(t, { ...identified, trusted_proxies: ["127.0.0.1"] });
        assert.equal((await ask(behind, { "X-Client-Id": "ann", "X-Group-Id": "staff" })).status, 200);
        assert.equal((await ask(behind, { "X-Client-Id": "ann" })).status, 200, "a group is not required");
        assert.equal((await ask(behind, { "X-Client-Id": "ann", "X-Group-Id": "root" })).status, 400);
        assert.equal((await ask(behind, {})).status, 400, "a client is");
        const alone = await start(t, { ...identified, trusted_proxies: ["192.0.2.1"] });
        const spoofed = await ask(alone, { "X-Client-Id": "ann", "X-Group-Id": "staff" });
        assert.equal(spoofed.status, 400, spoofed.text);
        const forwarded = await ask(alone, { "X-Client-Id": "ann", "X-Forwarded-For": "192.0.2.1" });
        assert.equal(forwarded.status, 400, "nor from one that claims to be it");
    });
});
