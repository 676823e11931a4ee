/*
 * Whom the gateway asks for tokens, and to whom it shows its credentials: what servers and authorization servers say
 * about each other, and what hostile ones could say.
 */
import assert from "node:assert/strict";
import type http from "node:http";
import { describe, test, type TestContext } from "node:test";

import { legacyOnly, modernOnly } from "./fixtures/http-server.ts";
import { startGateway, type Config, type Gateway, type LogEntry, type Value } from "./lib/gateway.ts";
import {
    CLIENTS,
    credentials,
    type FakeGrantor,
    grant,
    type Guarded,
    type GuardedOptions,
    json,
    pathDocument,
    rootDocument,
    SECRET,
    startFakeGrantor,
    startGrantor,
    startGuarded,
} from "./lib/grants.ts";
import { send } from "./lib/http.ts";
import { Authority } from "./lib/tls.ts";
import { call, client, refusal, said, status } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

const LOOPBACK = { edit_mode: true, allow_networks: ["127.0.0.0/8"] };

interface Here {
    grantor: FakeGrantor;
    guarded: Guarded;
    gateway: Gateway;
}

interface Options extends Omit<GuardedOptions, "grantor"> {
    /** of the authorization server's URL */
    path?: string;
    /** false: none is configured */
    issuer?: false;
    auth?: { [key: string]: Value };
    security?: { [key: string]: Value };
    /** of the gateway */
    env?: NodeJS.ProcessEnv;
    before?: (grantor: FakeGrantor, guarded: Guarded) => unknown;
}

/** Before a server that takes every token, and names this authorization server. */
async function start(t: TestContext, options: Options = {}): Promise<Here> {
    const { path, issuer, auth, security, env, before, ...rest } = options;
    const grantor = await startFakeGrantor(t, path);
    const guarded = await startGuarded(t, { ...modernOnly, ...rest });
    if (guarded.metadata !== false) guarded.metadata = { authorization_servers: [grantor.url], ...guarded.metadata };
    await before?.(grantor, guarded);
    const config: Config = {
        security: security ?? { edit_mode: true },
        servers: { srv: { url: guarded.url, auth: credentials(issuer === false ? undefined : grantor.url, auth) } },
    };
    return { grantor, guarded, gateway: await startGateway({ config, env }, t) };
}

async function works(here: Here): Promise<void> {
    assert.equal(await said(call(await client(here.gateway, "modern", "srv"), "echo", { text: "hi" })), "hi");
    assert.equal(
        here.guarded.visits.items.filter((visit) => visit.status !== 200 && visit.token !== undefined).length,
        0,
    );
}

const line = (entry: LogEntry): string => JSON.stringify(entry);
const isAbout = (entry: LogEntry): boolean =>
    entry.upstream === "srv" || entry.server === "srv" || /"srv"/.test(line(entry));

/** Calls are refused, and the log has the reason. */
async function fails(here: Here, reason: RegExp): Promise<string> {
    const text = await refusal(call(await client(here.gateway, "modern", "srv"), "echo", { text: "hi" }));
    const entry = await here.gateway
        .waitForLog((item) => isAbout(item) && reason.test(line(item)))
        .catch((error: Error) => {
            throw new Error(`${error.message}\n${here.gateway.tail()}`);
        });
    assert.ok(!line(entry).includes(SECRET) && !text.includes(SECRET));
    assert.equal(here.guarded.visits.items.filter((visit) => visit.token !== undefined).length, 0, "nothing was sent");
    return text;
}

/** By no name, in no form. */
function isUnheard(...grantors: FakeGrantor[]): void {
    for (const each of grantors) {
        assert.equal(each.tokens.length, 0, "it is asked for no token");
        assert.ok(!each.hasHeard(SECRET, CLIENTS.basic), JSON.stringify(each.asked.items));
    }
}

describe("metadata of an authorization server are looked for", { concurrency: 2 }, () => {
    const gets = ({ grantor }: Here) =>
        grantor.asked.items.filter(({ method }) => method === "GET").map(({ path }) => path);

    test("where RFC 8414 puts them", async (t) => {
        const here = await start(t);
        await works(here);
        assert.deepEqual(gets(here), ["/.well-known/oauth-authorization-server"]);
        assert.ok(here.grantor.hasHeard(SECRET) && here.grantor.hasHeard(CLIENTS.basic), "so it would be noticed");
    });

    test("where OpenID Connect puts them", async (t) => {
        const here = await start(t, {
            before: (grantor) => void (grantor.documents = new Set(["/.well-known/openid-configuration"])),
        });
        await works(here);
        assert.deepEqual(gets(here), ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"]);
    });

    const orders = [
        "/.well-known/oauth-authorization-server/tenant/1",
        "/.well-known/openid-configuration/tenant/1",
        "/tenant/1/.well-known/openid-configuration",
    ];
    for (const [n, document] of orders.entries()) {
        test(`for an issuer with a path: ${document}`, async (t) => {
            const here = await start(t, {
                path: "/tenant/1",
                before: (grantor) => void (grantor.documents = new Set([document])),
            });
            await works(here);
            assert.deepEqual(gets(here), orders.slice(0, n + 1));
            assert.equal(here.grantor.tokens[0]!.path, "/tenant/1/token");
        });
    }

    test("of a real one that has a path, or OpenID Connect alone", async (t) => {
        for (const options of [{ path: "/tenant" }, { openid: true }, { path: "/realms/one", openid: true }]) {
            const grantor = await startGrantor(t, options),
                guarded = await startGuarded(t, { grantor });
            const servers = { srv: { url: guarded.url, auth: credentials(grantor.url) } };
            const gateway = await startGateway({ config: { servers } }, t);
            assert.equal(await said(call(await client(gateway, "modern", "srv"), "echo", { text: "hi" })), "hi");
        }
    });

    test("not at all, where the configuration has the token endpoint", async (t) => {
        const grantor = await startFakeGrantor(t),
            guarded = await startGuarded(t, { ...modernOnly, metadata: false });
        grantor.documents.clear();
        const auth = credentials(undefined, { token_endpoint: `${grantor.url}/own/token?x=1` });
        const gateway = await startGateway({ config: { servers: { srv: { url: guarded.url, auth } } } }, t);
        await works({ grantor, guarded, gateway });
        assert.deepEqual(
            grantor.asked.items.map(({ method, path }) => `${method} ${path}`),
            ["POST /own/token?x=1"],
        );
    });

    test("which say that secrets belong into the form", async (t) => {
        const here = await start(t, {
            before: (grantor) =>
                void (grantor.metadata = { token_endpoint_auth_methods_supported: ["client_secret_post", "none"] }),
        });
        await works(here);
        const [{ form, headers }] = here.grantor.tokens as [FakeGrantor["tokens"][number]];
        assert.equal(headers.authorization, undefined);
        assert.equal(form.get("client_secret"), SECRET);
    });
});

describe("metadata of a server", { concurrency: 2 }, () => {
    const found = { issuer: false, security: LOOPBACK } as const;

    test("at its path", async (t) => {
        const here = await start(t, found);
        await works(here);
        assert.equal(here.guarded.looks.items[0], pathDocument);
        assert.equal(here.grantor.tokens[0]!.form.get("resource"), here.guarded.url);
    });

    test("at the root, where that is all there is", async (t) => {
        const here = await start(t, { ...found, documents: [rootDocument] });
        await works(here);
        assert.deepEqual(here.guarded.looks.items.slice(0, 2), [pathDocument, rootDocument]);
    });

    test("where its challenge points, once it has refused a token", async (t) => {
        const here = await start(t, { ...found, metadata: { scopes_supported: ["mcp:use"] } });
        await works(here);
        const { guarded, grantor } = here;
        guarded.documents = new Set(["/deep/metadata.json"]);
        guarded.metadata = { authorization_servers: [grantor.url], scopes_supported: ["files:read"] };
        guarded.challenge = `realm="a \\"b\\", c", resource_metadata="${guarded.origin}/deep/metadata.json"`;
        guarded.revoked.add(guarded.served.at(-1)!.token!);
        assert.equal(await said(call(await client(here.gateway, "modern", "srv"), "echo", { text: "hi" })), "hi");
        assert.equal(guarded.looks.items.at(-1), "/deep/metadata.json");
        assert.deepEqual(
            grantor.tokens.map(({ form }) => form.get("scope")),
            ["mcp:use", "files:read"],
        );
    });

    test("where its challenge points, to a request without a token, and nowhere else", async (t) => {
        for (const era of [modernOnly, legacyOnly()]) {
            const here = await start(t, {
                ...found,
                ...era,
                documents: ["/deep/metadata.json"],
                before: (_grantor, guarded) =>
                    void (guarded.challenge = `resource_metadata="${guarded.origin}/deep/metadata.json", scope="a b"`),
            });
            await works(here);
            const bare = here.guarded.visits.items.filter((visit) => visit.token === undefined);
            assert.equal(bare.length, 1, "one request asks, and it opens the session");
            assert.match(String(bare[0]!.request.message?.method), /^(server\/discover|initialize)$/);
            assert.deepEqual(
                here.grantor.tokens.map(({ form }) => form.get("scope")),
                ["a b"],
            );
        }
    });

    test("a challenge that does not say where: one request asks, and no secret leaves", async (t) => {
        const here = await start(t, { ...found, documents: [] });
        await fails(here, /auth\.issuer/);
        isUnheard(here.grantor);
        assert.ok(here.guarded.visits.items.every((visit) => visit.token === undefined));
    });

    test("where a challenge points that is about another server: nobody is asked there", async (t) => {
        const evil = await startFakeGrantor(t);
        const here = await start(t, found);
        await works(here);
        const { guarded } = here;
        evil.on = (asked, response) => {
            if (asked.path !== "/theirs") return false;
            json(response, { resource: guarded.url, authorization_servers: [evil.url] });
            return true;
        };
        guarded.documents = new Set();
        guarded.challenge = `resource_metadata="${evil.url}/theirs"`;
        guarded.revoked.add(guarded.served.at(-1)!.token!);
        await refusal(call(await client(here.gateway, "modern", "srv"), "echo", { text: "hi" }));
        isUnheard(evil);
    });

    test("none: nobody is asked without an issuer, and the log says so", async (t) => {
        const here = await start(t, { ...found, metadata: false });
        await fails(here, /auth\.issuer|authorization server/);
        isUnheard(here.grantor);
    });

    test("none: a configured issuer is asked", async (t) => {
        await works(await start(t, { metadata: false }));
    });

    test("of another resource", async (t) => {
        const rows: [string, (guarded: Guarded) => unknown][] = [
            ["a stranger's", () => "https://evil.example/mcp"],
            ["another port", () => "http://127.0.0.1:1/mcp"],
            ["a longer path", (guarded) => `${guarded.url}/more`],
            ["another path", (guarded) => `${guarded.origin}/mc`],
            ["another scheme", (guarded) => guarded.url.replace("http:", "https:")],
            ["with a fragment", (guarded) => `${guarded.url}#x`],
        ];
        for (const issuer of [false, undefined] as const) {
            for (const [name, resource] of rows) {
                const here = await start(t, {
                    issuer,
                    security: LOOPBACK,
                    before: (_grantor, guarded) =>
                        void (guarded.metadata = { ...guarded.metadata, resource: resource(guarded) }),
                });
                await fails(here, /resource/).catch((error: Error) => {
                    throw new Error(`${name}: ${error.message}`);
                });
                isUnheard(here.grantor);
                await here.gateway.stop();
            }
        }
    });

    test("of no resource at all: the same as none", async (t) => {
        for (const resource of [7, null, undefined]) {
            const lost = await start(t, { ...found, metadata: { resource } });
            await fails(lost, /auth\.issuer/);
            isUnheard(lost.grantor);
            await works(await start(t, { metadata: { resource } }));
        }
    });

    test("of a path above it, or of the root", async (t) => {
        for (const resource of [(guarded: Guarded) => guarded.origin, (guarded: Guarded) => `${guarded.origin}/`]) {
            const here = await start(t, {
                ...found,
                before: (_grantor, guarded) =>
                    void (guarded.metadata = { ...guarded.metadata, resource: resource(guarded) }),
            });
            await works(here);
        }
    });

    test("name another authorization server than the configuration: nobody is asked", async (t) => {
        const evil = await startFakeGrantor(t);
        const here = await start(t, { security: LOOPBACK, metadata: { authorization_servers: [evil.url] } });
        await fails(here, /authorization_servers|authorization server/);
        isUnheard(evil, here.grantor);
        assert.equal(evil.asked.items.length, 0);
    });

    test("name it among others", async (t) => {
        const evil = await startFakeGrantor(t);
        const here = await start(t, {
            before: (grantor, guarded) =>
                void (guarded.metadata = { authorization_servers: [evil.url, grantor.url, "https://x.example"] }),
        });
        await works(here);
        assert.equal(evil.asked.items.length, 0);
    });

    test("name what is almost the issuer: not byte for byte", async (t) => {
        for (const change of [
            (url: string) => `${url}/`,
            (url: string) => url.toUpperCase(),
            (url: string) => url.replace("127.0.0.1", "localhost"),
            (url: string) => `${url}?x`,
        ]) {
            const here = await start(t, {
                before: (grantor, guarded) =>
                    void (guarded.metadata = { authorization_servers: [change(grantor.url)] }),
            });
            await fails(here, /authorization_servers|authorization server/);
            isUnheard(here.grantor);
            await here.gateway.stop();
        }
    });

    test("name another one later: the first one stays, and nobody hears the secret", async (t) => {
        const evil = await startFakeGrantor(t);
        const here = await start(t, found);
        await works(here);
        here.guarded.metadata = { authorization_servers: [evil.url] };
        // A refusal makes the gateway look again.
        const told = here.grantor.tokens.length;
        here.guarded.challenge = `resource_metadata="${here.guarded.origin}${pathDocument}"`;
        here.guarded.isClosed = true;
        const ask = await client(here.gateway, "modern", "srv");
        for (let n = 0; n < 5; n++) await refusal(call(ask, "echo", { text: "x" }));
        here.guarded.isClosed = false;
        await here.gateway.waitForLog((entry) => isAbout(entry) && /used first/.test(line(entry)));
        for (let n = 0; n < 5; n++) await refusal(call(ask, "echo", { text: "x" }));
        isUnheard(evil);
        assert.equal(evil.asked.items.length, 0);
        assert.equal(here.grantor.tokens.length, told);
    });

    test("that lie: nobody is asked", async (t) => {
        const rows: { [name: string]: unknown }[] = [
            { authorization_servers: "x" },
            { authorization_servers: [] },
            { authorization_servers: [7] },
            { authorization_servers: ["javascript:alert(1)"] },
            { authorization_servers: ["file:///etc/passwd"] },
            { authorization_servers: ["http://user:pass@127.0.0.1/"] },
            { authorization_servers: [`http://127.0.0.1:1/${"x".repeat(20_000)}`] },
            { authorization_servers: ["http://127.0.0.1:1/\r\nX: y"] },
        ];
        for (const metadata of rows) {
            const here = await start(t, { ...found, metadata });
            await fails(here, /./);
            isUnheard(here.grantor);
            await here.gateway.stop();
        }
    });

    test("that are no document: a configured issuer is asked, or nobody; the gateway lives", async (t) => {
        const bodies = [
            "",
            "x",
            "[]",
            "null",
            `{"resource":`,
            `{"resource": "a", "resource": "b"}`,
            "x".repeat(1 << 20),
        ];
        for (const body of bodies) {
            const grantor = await startFakeGrantor(t);
            const guarded = await startGuarded(t, modernOnly);
            const on = guarded.on.bind(guarded);
            guarded.on = (exchange) => {
                if (!exchange.request.path.startsWith("/.well-known/")) return on(exchange);
                exchange.text(200, "application/json", body);
                return true;
            };
            const servers = { srv: { url: guarded.url, auth: credentials(undefined) } };
            const gateway = await startGateway({ config: { security: LOOPBACK, servers } }, t);
            await fails({ grantor, guarded, gateway }, /./);
            isUnheard(grantor);
            await gateway.stop();
        }
    });
});

describe("what is found is dialled by the rules", { concurrency: 2 }, () => {
    const authority = new Authority();
    const tls = authority.sign("IP:127.0.0.1,IP:127.0.0.2");
    const env = { ...process.env, SSL_CERT_FILE: authority.file };

    /** Nothing of it was looked at. */
    const isUntouched = (grantor: FakeGrantor) => assert.equal(grantor.asked.items.length, 0);

    test("an authorization server on this machine: refused, and the log has the cure", async (t) => {
        const here = await start(t, { issuer: false });
        await fails(here, /security\.allow_networks|auth\.issuer/);
        isUntouched(here.grantor);
    });

    test("a token endpoint at an address that nobody configured", async (t) => {
        const evil = await startFakeGrantor(t, "", "127.0.0.2", tls);
        const here = await start(t, {
            env,
            before: (grantor) => void (grantor.metadata = { token_endpoint: `${evil.url}/token` }),
        });
        await fails(here, /security\.allow_networks/);
        isUntouched(evil);
        assert.equal(evil.connections, 0);
        isUnheard(here.grantor);
    });

    test("another port of a configured host is not that host", async (t) => {
        const evil = await startFakeGrantor(t, "", "127.0.0.1", tls);
        const here = await start(t, {
            env,
            before: (grantor) => void (grantor.metadata = { token_endpoint: `${evil.url}/token` }),
        });
        await fails(here, /security\.allow_networks/);
        isUntouched(evil);
        assert.equal(evil.connections, 0);
    });

    test("opened by security.allow_networks", async (t) => {
        const other = await startFakeGrantor(t, "", "127.0.0.2", tls);
        const here = await start(t, {
            env,
            security: { edit_mode: true, allow_networks: ["127.0.0.2/32"] },
            before: (grantor) => void (grantor.metadata = { token_endpoint: `${other.url}/token` }),
        });
        await works(here);
        assert.equal(other.tokens.length, 1);
        assert.equal(here.grantor.tokens.length, 0);
    });

    const rows: [string, (grantor: FakeGrantor) => unknown][] = [
        ["http elsewhere", () => "http://token.example/token"],
        ["http at a public address", () => "http://93.184.216.34/token"],
        ["another scheme", () => "ftp://127.0.0.1/token"],
        ["a file", () => "file:///etc/passwd"],
        ["the cloud's own", () => "https://169.254.169.254/latest/meta-data"],
        ["a private network", () => "https://10.0.0.1/token"],
        ["IPv4 in IPv6", () => "https://[::ffff:169.254.169.254]/token"],
        ["NAT64", () => "https://[64:ff9b::a9fe:a9fe]/token"],
        ["a number", () => "https://2130706433/token"],
        ["octal", () => "https://0177.0.0.1/token"],
        ["a name of this machine", () => "https://localhost/token"],
        ["with a password", (grantor) => `${grantor.url.replace("://", "://a:b@")}/token`],
        ["with a fragment", (grantor) => `${grantor.url}/token#x`],
        ["no URL", () => "token"],
        ["no string", () => 5],
        ["nothing", () => undefined],
        ["line ends", (grantor) => `${grantor.url}/token\r\nX: y`],
        ["very long", (grantor) => `${grantor.url}/${"x".repeat(50_000)}`],
    ];
    for (const [name, endpoint] of rows) {
        test(`a token endpoint: ${name}`, async (t) => {
            const here = await start(t, {
                before: (grantor) => void (grantor.metadata = { token_endpoint: endpoint(grantor) }),
            });
            await fails(here, /./);
            isUnheard(here.grantor);
        });
    }

    test("metadata of another issuer", async (t) => {
        for (const issuer of [
            (url: string) => `${url}/`,
            (url: string) => `${url}/tenant`,
            () => "https://evil.example",
            () => undefined,
            () => 7,
            (url: string) => [url],
            (url: string) => url.replace("http:", "HTTP:"),
        ]) {
            const here = await start(t, {
                before: (grantor) => void (grantor.metadata = { issuer: issuer(grantor.url) }),
            });
            await fails(here, /issuer/);
            isUnheard(here.grantor);
            await here.gateway.stop();
        }
    });

    test("metadata of an issuer whose name is a prefix of another's path", async (t) => {
        const here = await start(t, {
            issuer: false,
            security: LOOPBACK,
            path: "/good",
            before: (grantor) => void (grantor.metadata = { issuer: grantor.origin }),
        });
        await fails(here, /issuer/);
        isUnheard(here.grantor);
    });

    test("redirects of metadata are followed to the same place, and to no forbidden one", async (t) => {
        const inside = await startFakeGrantor(t, "", "127.0.0.3");
        const here = await start(t, {
            before: (grantor) => {
                grantor.on = (asked, response) => {
                    const to = asked.path === "/.well-known/oauth-authorization-server" ? "/moved" : undefined;
                    if (asked.path === "/moved") grantor.documents.add("/moved");
                    if (to !== undefined) response.writeHead(302, { Location: to }).end();
                    return to !== undefined;
                };
            },
        });
        await works(here);
        const bad = await start(t, {
            before: (grantor) => {
                grantor.on = (asked, response) => {
                    if (asked.method !== "GET") return false;
                    response.writeHead(302, { Location: `${inside.url}${asked.path}` }).end();
                    return true;
                };
            },
        });
        await fails(bad, /security\.allow_networks/);
        isUntouched(inside);
        isUnheard(bad.grantor);
    });

    test("a chain of redirects that does not end", async (t) => {
        const here = await start(t, {
            before: (grantor) => {
                grantor.on = (asked, response) => {
                    if (asked.method !== "GET") return false;
                    response.writeHead(307, { Location: `${asked.path}x` }).end();
                    return true;
                };
            },
        });
        await fails(here, /redirect/);
        assert.ok(here.grantor.asked.items.length <= 16, `${here.grantor.asked.items.length} requests`);
    });

    for (const code of [301, 302, 303, 307, 308]) {
        test(`a redirect of the token endpoint is not followed: ${code}`, async (t) => {
            const evil = await startFakeGrantor(t);
            const here = await start(t, {
                security: LOOPBACK,
                before: (grantor) => {
                    grantor.answer = (_asked, response) =>
                        response.writeHead(code, { Location: `${evil.url}/token` }).end();
                },
            });
            await fails(here, /redirect/);
            isUntouched(evil);
        });
    }
});

describe("an authorization server that answers", { concurrency: 3 }, () => {
    const answer = (body: unknown, status?: number) => (_asked: unknown, response: http.ServerResponse) =>
        json(response, body, status);
    const token = { access_token: "abc", token_type: "Bearer", expires_in: 600 };
    const bad: [string, FakeGrantor["answer"]][] = [
        ["no JSON", answer("token=abc")],
        ["nothing", (_asked, response) => response.writeHead(200, { "Content-Type": "application/json" }).end()],
        ["an array", answer([token])],
        ["null", answer("null")],
        [
            "a form",
            (_asked, response) =>
                response
                    .writeHead(200, { "Content-Type": "application/x-www-form-urlencoded" })
                    .end("access_token=abc&token_type=Bearer"),
        ],
        ["half a document", answer('{"access_token": "abc", "token_type": "Bea')],
        ["1 MB", answer({ ...token, pad: "x".repeat(1 << 20) })],
        ["1 MB of token", answer({ ...token, access_token: "x".repeat(1 << 20) })],
        [
            "a very deep document",
            answer(`{"access_token":"abc","token_type":"Bearer","x":${"[".repeat(5000)}${"]".repeat(5000)}}`),
        ],
        ["no token", answer({ token_type: "Bearer", expires_in: 600 })],
        ["an empty token", answer({ ...token, access_token: "" })],
        ["a number as token", answer({ ...token, access_token: 17 })],
        ["a token with a line end", answer({ ...token, access_token: "abc\r\nX-Evil: 1" })],
        ["a token with a space", answer({ ...token, access_token: "abc def" })],
        ["a token with NUL", answer({ ...token, access_token: "abc\0def" })],
        ["a token that is not ASCII", answer({ ...token, access_token: "ab\u00e9" })],
        ["two tokens", answer('{"access_token":"abc","access_token":"def","token_type":"Bearer","expires_in":600}')],
        ["no type", answer({ access_token: "abc", expires_in: 600 })],
        ["the type mac", answer({ ...token, token_type: "mac" })],
        ["the type DPoP", answer({ ...token, token_type: "DPoP" })],
        ["a number as type", answer({ ...token, token_type: 1 })],
        ["a negative lifetime", answer({ ...token, expires_in: -5 })],
        ["no lifetime left", answer({ ...token, expires_in: 0 })],
        ["401", answer({ error: "invalid_client", error_description: "who are you" }, 401)],
        ["400", answer({ error: "invalid_scope" }, 400)],
        ["403", answer({ error: "access_denied" }, 403)],
        ["500", answer("oops", 500)],
        ["503", answer({ error: "temporarily_unavailable" }, 503)],
        ["204", (_asked, response) => response.writeHead(204).end()],
        ["201 with a token", answer(token, 201)],
        ["a token with 400", answer(token, 400)],
        ["a reset", (_asked, response) => response.destroy()],
        [
            "half an answer",
            (_asked, response) =>
                void response
                    .writeHead(200, { "Content-Length": "500", "Content-Type": "application/json" })
                    .write('{"access_token":', () => response.destroy()),
        ],
    ];
    for (const [name, lie] of bad) {
        test(`${name}: the call is refused, and the next good answer is used`, async (t) => {
            const here = await start(t, { before: (grantor) => void (grantor.answer = lie) });
            const text = await refusal(call(await client(here.gateway, "modern", "srv"), "echo", { text: "hi" }));
            assert.equal(here.guarded.visits.items.length, 0, "nothing is sent");
            assert.doesNotMatch(text, /abc|who are you|X-Evil|127\.0\.0\.1:/);
            assert.ok(!here.gateway.tail(10_000).includes(SECRET));
            const asked = here.grantor.tokens.length;
            assert.ok(asked <= 5, `asked ${asked} times`);
            here.grantor.answer = (_asked, response) => grant(response);
            await until(
                async () =>
                    (await call(await client(here.gateway, "modern", "srv"), "echo", { text: "hi" })).result
                        ?.isError !== true,
                "it works when the answer is good",
            );
            for (const { request } of here.guarded.visits.items) assert.equal(request.field("x-evil"), undefined);
        });
    }

    const fine: [string, unknown][] = [
        ["no lifetime", { access_token: "abc.def~ghi+/-_==", token_type: "Bearer" }],
        ["a type in small letters", { ...token, token_type: "bearer" }],
        ["a lifetime of a thousand years", { ...token, expires_in: 31_536_000_000 }],
        ["a lifetime of more than any", '{"access_token":"abc","token_type":"Bearer","expires_in":1e300}'],
        [
            "more than is asked for",
            { ...token, refresh_token: "never used", id_token: "x", scope: "a b", extra: { a: [1] } },
        ],
        ["a token of 8 KiB", { ...token, access_token: "x".repeat(8000) }],
    ];
    for (const [name, body] of fine) {
        test(`${name}: fine`, async (t) => {
            const here = await start(t, { before: (grantor) => void (grantor.answer = answer(body)) });
            await works(here);
            const { access_token } = (typeof body === "string" ? JSON.parse(body) : body) as typeof token;
            for (const { token: seen } of here.guarded.visits.items) assert.equal(seen, access_token);
            assert.ok(!here.gateway.tail(10_000).includes("never used"));
        });
    }

    test("very slowly: a byte now and then", async (t) => {
        const timers: NodeJS.Timeout[] = [];
        t.after(() => timers.forEach(clearInterval));
        const here = await start(t, {
            before: (grantor) => {
                grantor.answer = (_asked, response) => {
                    response.writeHead(200, { "Content-Type": "application/json" });
                    timers.push(setInterval(() => response.write(" "), 200));
                };
            },
        });
        const began = Date.now();
        const ask = await client(here.gateway, "modern", "srv");
        await within(refusal(call(ask, "echo", { text: "hi" })), "it ends");
        assert.ok(Date.now() - began < 16_000);
    });

    test("that asks for a retry later, or says nothing: no storm", async (t) => {
        const here = await start(t, {
            before: (grantor) => {
                grantor.answer = (_asked, response) =>
                    response.writeHead(429, { "Retry-After": "3600", "Content-Type": "application/json" }).end("{}");
            },
        });
        const ask = await client(here.gateway, "modern", "srv");
        for (let n = 0; n < 40; n++) await refusal(call(ask, "echo", { text: "hi" }));
        assert.ok(here.grantor.tokens.length <= 6, `asked ${here.grantor.tokens.length} times for 40 calls`);
    });

    test("errors with terminal sequences, secrets and a novel: the log has a line", async (t) => {
        const description = `\u001b[31mred\u0007 ${SECRET} \n${"novel ".repeat(5000)}`;
        const here = await start(t, {
            before: (grantor) => {
                grantor.answer = (asked, response) =>
                    json(
                        response,
                        { error: "invalid_client", error_description: `${description}${asked.headers.authorization}` },
                        401,
                    );
            },
        });
        const text = await refusal(call(await client(here.gateway, "modern", "srv"), "echo", { text: "hi" }));
        const error = (await status(here.gateway)).get("srv")!.error!;
        const log = here.gateway.tail(10_000);
        for (const said of [text, error, log]) {
            assert.ok(!said.includes("\u001b") && !said.includes("\u0007"), said.slice(0, 500));
            assert.ok(!/(novel ){40}/.test(said), said.slice(0, 3000));
            assert.ok(!said.includes(SECRET), said.slice(0, 600));
            assert.ok(!said.includes(here.grantor.tokens[0]!.headers.authorization!.slice(6, 40)));
        }
    });
});

test("credentials of one authorization server are shown to no other, whatever they say about each other", async (t) => {
    // Each names the other one's token endpoint, or claims its name.
    const [a, b] = [await startFakeGrantor(t, "/a"), await startFakeGrantor(t, "/b")];
    const servers = await Promise.all([a, b].map(() => startGuarded(t, modernOnly)));
    a.metadata = { token_endpoint: `${b.url}/token` };
    b.metadata = { issuer: a.url };
    servers[0]!.metadata = { authorization_servers: [a.url] };
    servers[1]!.metadata = { authorization_servers: [b.url, a.url] };
    const secret = (name: string) => `the secret of the client at ${name}`;
    const gateway = await startGateway(
        {
            config: {
                servers: {
                    one: { url: servers[0]!.url, auth: credentials(a.url, { client_secret: secret("a") }) },
                    two: { url: servers[1]!.url, auth: credentials(b.url, { client_secret: secret("b") }) },
                },
            },
        },
        t,
    );
    for (const name of ["one", "two"]) await call(await client(gateway, "modern", name), "echo", { text: "x" });
    await send(gateway, { method: "GET", path: "/ready" });
    assert.ok(!a.hasHeard(secret("b")), "a never hears b's");
    // Both authorities are named in the file, so a's metadata may point to b: that is a's choice, with a's secret.
    assert.ok(!b.hasHeard(secret("b")), "what claims to be another is told nothing");
});
