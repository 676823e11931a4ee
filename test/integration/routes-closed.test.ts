/*
 * Every route and every method of every listener, without credentials and with wrong ones: nothing but health, the
 * short form of ready, metadata and preflights answers anything but a refusal, and no refusal tells of what is inside.
 */
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, describe, test, type TestContext } from "node:test";

import { startControl, type Control } from "./lib/control.ts";
import { startGateway, type Gateway, type Value } from "./lib/gateway.ts";
import { initialize, openSession, served } from "./lib/http.ts";
import { within } from "./lib/wait.ts";

const SERVERS = ["hidden-files", "hidden-mail"];
const WELL_KNOWN = "/.well-known/oauth-protected-resource";
const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"];
const TYPES = [undefined, "application/json", "text/plain", "application/x-www-form-urlencoded"];
const VERSIONS = [undefined, "2024-11-05", "2025-06-18", "2026-07-28", "2099-01-01"];
const PATHS = [
    "/",
    "/mcp",
    "/mcp/",
    "/mcp/hidden-files",
    "/mcp/hidden-mail",
    "/mcp/nobody",
    "/mcp/hidden-files/",
    "/mcp/sse",
    "/mcp/message",
    "/mcp/server-card",
    "/mcp?x=1",
    "/MCP",
    "/sse",
    "/message",
    "/api",
    "/api/servers",
    "/admin",
    "/metrics",
    "/status",
    "/token",
    "/.well-known/",
    "/.well-known/mcp.json",
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
];
/** GET and HEAD of these are for everybody; /mcp/NAME whatever the name is. */
const OPEN = [
    "/health",
    "/ready",
    WELL_KNOWN,
    `${WELL_KNOWN}/mcp`,
    `${WELL_KNOWN}/mcp/hidden-files`,
    `${WELL_KNOWN}/mcp/nobody`,
];

interface Seen {
    status: number;
    headers: http.IncomingHttpHeaders;
    text: string;
}

type Credentials = { name: string; headers: Record<string, string> };

const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
after(() => agent.destroy());

function ask(port: number, method: string, path: string, headers: http.OutgoingHttpHeaders, body?: string): Promise<Seen> {
    const asked = new Promise<Seen>((resolve, reject) => {
        const request = http.request({ host: "127.0.0.1", port, method, path, headers, agent }, (incoming) => {
            let text = "";
            incoming.setEncoding("utf8");
            incoming.on("data", (chunk: string) => (text += chunk));
            incoming.once("end", () => resolve({ status: incoming.statusCode!, headers: incoming.headers, text }));
            incoming.once("error", reject);
        });
        request.once("error", reject);
        request.end(body);
    });
    return within(asked, `an answer to ${method} ${path}`);
}

/** What no stranger may be told. */
function tellsNothing(seen: Seen, what: string, secrets: string[], path: string): void {
    const asked = path.slice(path.lastIndexOf("/") + 1); // a name that the caller brought itself
    const said = `${JSON.stringify(seen.headers)}\n${seen.text}`.replaceAll(asked === "" ? path : asked, "");
    for (const secret of [...SERVERS, ...secrets]) assert.ok(!said.includes(secret), `${what} tells ${secret}: ${said}`);
    for (const word of ["mcp-session-id", "serverInfo", "upstream", "tools", "protocolVersion"]) {
        assert.ok(!said.toLowerCase().includes(word.toLowerCase()), `${what} tells of ${word}: ${said}`);
    }
    assert.ok(!/\.c:\d|errno|stack/i.test(said), `${what} shows internals: ${said}`);
}

describe("every route is closed to strangers", () => {
    let control: Control;
    before(async () => {
        control = await startControl();
    });
    after(async () => control.close());

    const start = (t: TestContext, server: { [key: string]: Value }, args: string[] = []): Promise<Gateway> =>
        startGateway(
            {
                config: {
                    server,
                    servers: Object.fromEntries(SERVERS.map((name) => [name, { cmd: control.command({ name }) }])),
                },
                args,
            },
            t,
        );

    /** Ways not to prove anything. */
    function wrongs(gateway: Gateway): Credentials[] {
        const jwt = (header: object): string =>
            [header, { sub: "root", iss: "https://issuer.example.com", aud: "https://gw.example.com/mcp", exp: 9e9 }]
                .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
                .join(".");
        const bearer = (name: string, value: string): Credentials => ({ name, headers: { Authorization: value } });
        return [
            { name: "none", headers: {} },
            bearer("a wrong token", "Bearer wrong"),
            bearer("half of the token", `Bearer ${gateway.token.slice(0, -1)}`),
            bearer("an empty one", "Bearer "),
            bearer("another scheme", `Basic ${Buffer.from(`root:${gateway.token}`).toString("base64")}`),
            bearer("no scheme", gateway.token),
            bearer("a JWT without signature", `Bearer ${jwt({ alg: "none" })}.`),
            bearer("a JWT by nobody", `Bearer ${jwt({ alg: "RS256", kid: "x" })}.AAAA`),
            { name: "the token elsewhere", headers: { "X-Api-Key": gateway.token, Cookie: `token=${gateway.token}` } },
        ];
    }

    /** A refusal of a stranger. 400: the credentials are no bearer token at all (RFC 6750 section 3.1). */
    function isRefusal(seen: Seen, credentials: Credentials): boolean {
        if ([401, 403, 404, 405].includes(seen.status)) return true;
        return seen.status === 400 && credentials.headers.Authorization !== undefined && !seen.text.includes("result");
    }

    async function checkClosed(gateway: Gateway, more: http.OutgoingHttpHeaders = {}): Promise<void> {
        const { port } = gateway;
        await served(gateway, ...SERVERS.map((name) => `${name}__echo`));
        const session = await openSession(gateway);
        const secrets = [session.id, gateway.token];
        let refused = 0;
        for (const credentials of wrongs(gateway)) {
            for (const path of [...PATHS, ...OPEN]) {
                for (const method of METHODS) {
                    const isPost = method === "POST" && !OPEN.includes(path);
                    for (const type of isPost ? TYPES : [undefined]) {
                        for (const version of isPost || method === "GET" ? VERSIONS : [undefined]) {
                            const what = `${method} ${path} (${type}, ${version}) with ${credentials.name}`;
                            const headers: http.OutgoingHttpHeaders = {
                                Host: `127.0.0.1:${port}`,
                                Accept: "application/json, text/event-stream",
                                "Mcp-Session-Id": session.id,
                                ...more,
                                ...credentials.headers,
                            };
                            if (type !== undefined) headers["Content-Type"] = type;
                            if (version !== undefined) {
                                headers["MCP-Protocol-Version"] = version;
                                headers["Mcp-Method"] = "tools/list";
                            }
                            const body = isPost ? JSON.stringify(initialize("2025-11-25")) : undefined;
                            const seen = await ask(port, method, path, headers, body);
                            tellsNothing(seen, what, secrets, path);
                            if (OPEN.includes(path) && (method === "GET" || method === "HEAD")) {
                                assert.ok([200, 404].includes(seen.status), `${what}: ${seen.status}`);
                                if (path === "/ready" && method === "GET") assert.equal(seen.text, '{"status":"ready"}');
                                if (path === "/health" && method === "GET") assert.equal(seen.text, '{"status":"healthy"}');
                                continue;
                            }
                            assert.ok(isRefusal(seen, credentials), `${what}: ${seen.status} ${seen.text}`);
                            refused++;
                        }
                    }
                }
            }
        }
        assert.ok(refused > 5000, `${refused} were asked`);
        assert.deepEqual((await session.request("ping")).result, {}, "the session lives on");
        await session.end();
    }

    test("the main listener", { timeout: 300_000 }, async (t) => {
        await checkClosed(await start(t, {}));
    });

    test("the main listener with OAuth, CORS for all, a trusted proxy and its words", { timeout: 300_000 }, async (t) => {
        const gateway = await start(t, {
            trusted_proxies: ["127.0.0.1"],
            client_ip: { x_real_ip: true, x_forwarded_for: true },
            cors: { allow_origins: "*", allow_methods: "*", allow_headers: "*" },
            oauth: {
                url: "http://127.0.0.1:9/jwks",
                expected_issuer: "https://issuer.example.com",
                protected_resource: { resource: "https://gw.example.com/mcp" },
            },
        });
        await checkClosed(gateway, { "X-Real-IP": "127.0.0.1", "X-Forwarded-For": "127.0.0.1" });
    });

    test("the listener for health checks serves nothing else, to the owner neither", async (t) => {
        const gateway = await start(t, { health: { listen: "127.0.0.1:0" }, csrf: { enabled: true } });
        const entry = await gateway.waitForLog((item) => item.health_address !== undefined);
        const address = String(entry.health_address);
        const port = Number(address.slice(address.lastIndexOf(":") + 1));
        const owner = { name: "the owner", headers: { Authorization: `Bearer ${gateway.token}` } };
        for (const credentials of [...wrongs(gateway), owner]) {
            for (const path of [...PATHS, ...OPEN]) {
                for (const method of METHODS) {
                    const headers = { Host: `127.0.0.1:${port}`, ...credentials.headers };
                    const seen = await ask(port, method, path, headers);
                    const isHere = path === "/health" || path === "/ready";
                    const isRead = method === "GET" || method === "HEAD";
                    const what = `${method} ${path} with ${credentials.name}`;
                    assert.equal(seen.status, !isHere ? 404 : isRead ? 200 : 405, what);
                    if (credentials !== owner) tellsNothing(seen, what, [gateway.token], path);
                }
            }
        }
        for (const path of ["/health", "/ready"]) {
            const headers = { Host: `127.0.0.1:${gateway.port}`, "X-Nexus-CSRF-Protection": "1" };
            assert.equal((await ask(gateway.port, "GET", path, headers)).status, 401, "not on the main one then");
        }
    });

    test("a server that is there answers strangers as one that is not", async (t) => {
        const gateway = await start(t, {
            oauth: {
                url: "http://127.0.0.1:9/jwks",
                expected_issuer: "https://issuer.example.com",
                protected_resource: { resource: "https://gw.example.com/mcp" },
            },
        });
        await served(gateway, ...SERVERS.map((name) => `${name}__echo`));
        for (const method of METHODS) {
            for (const token of [undefined, "Bearer wrong"]) {
                for (const prefix of ["/mcp/", `${WELL_KNOWN}/mcp/`]) {
                    const see = async (name: string): Promise<string> => {
                        const headers: http.OutgoingHttpHeaders = { Host: `127.0.0.1:${gateway.port}` };
                        if (token !== undefined) headers.Authorization = token;
                        const seen = await ask(gateway.port, method, prefix + name, headers);
                        delete seen.headers.date;
                        delete seen.headers["content-length"]; // the name's own length
                        return JSON.stringify(seen).replaceAll(name, "NAME");
                    };
                    assert.equal(await see("hidden-files"), await see("not-here"), `${method} ${prefix} ${token}`);
                }
            }
        }
    });
});
