/*
 * What the official conformance suite does not ask of a gateway, about credentials, addresses and names: each promise
 * once, in all its parts, through every door. What belongs to one part alone is tested where that part is
 * (oauth, metadata, forward; dialer, grants-discovery, bad-sse-upstreams; http-upstreams, hostile-modern).
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { brainTools, MODERN } from "./fixtures/brain.ts";
import { legacyOnly, modernOnly, startHttp, type Exchange, type HttpFixture, type HttpOptions } from "./fixtures/http-server.ts";
import { startControl, type Control, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway, type ServerConfig } from "./lib/gateway.ts";
import { initialize, openSession, send, served, text } from "./lib/http.ts";
import { SCOPES, startIssuer, type Issuer } from "./lib/issuer.ts";
import { ModernClient } from "./lib/modern.ts";
import { ping, startProtected, type Protected } from "./lib/oauth.ts";
import { as } from "./lib/principals.ts";
import { askSse, openSse } from "./lib/sse.ts";
import { Canary, Liar, tell, tellTokens } from "./lib/strangers.ts";
import { until, within } from "./lib/wait.ts";

const NEEDED = SCOPES[1]!; // of one server; tokens that say nothing have the first

describe("4.8.7: an endpoint of its own for each server, and a credential for each", () => {
    let control: Control;
    let issuer: Issuer;
    let here: Protected;
    const fixtures: { [name: string]: HttpFixture } = {};
    before(async () => {
        control = await startControl();
        issuer = await startIssuer(undefined);
        fixtures.modern = await startHttp(modernOnly);
        fixtures.legacy = await startHttp({ ...legacyOnly(), get: "stream" });
        fixtures.events = await startHttp({ ...legacyOnly("2024-11-05"), transport: "sse" });
        const servers: { [name: string]: ServerConfig } = {
            modern: { url: fixtures.modern.url, scopes: [NEEDED] },
            legacy: { url: fixtures.legacy.url },
            events: { url: fixtures.events.url, protocol: "sse" },
            child: { cmd: control.command({ name: "child" }) },
        };
        here = await startProtected(undefined, { oauth: { issuer: issuer.url }, servers });
    });
    after(async () => {
        await here?.gateway.stop();
        await issuer?.down();
        await control?.close();
        for (const fixture of Object.values(fixtures)) await fixture.close();
    });
    const NAMES = ["modern", "legacy", "events", "child"];
    const paths = (): string[] => ["/mcp", ...NAMES.map((name) => `/mcp/${name}`)];

    const metadataOf = (challenge: unknown): URL =>
        new URL(/resource_metadata="([^"]*)"/.exec(String(challenge))?.[1] ?? "no://metadata");

    test("401 names the metadata of the endpoint that was asked, and these name its resource", async () => {
        const { gateway } = here;
        const { origin } = new URL(here.resource);
        for (const path of paths()) {
            for (const token of [false, "made-up", await issuer.token("https://other.example/mcp")]) {
                for (const answer of [
                    await send(gateway, { path, token: token as string, body: initialize("2025-11-25") }),
                    await send(gateway, { path, token: token as string, method: "GET" }),
                    await ping(gateway, token as string, path),
                ]) {
                    assert.equal(answer.status, 401, `${path}: ${answer.text}`);
                    assert.equal(answer.headers["mcp-session-id"], undefined);
                    const url = metadataOf(answer.headers["www-authenticate"]);
                    assert.equal(url.href, `${origin}/.well-known/oauth-protected-resource${path}`);
                    assert.equal(/error="invalid_token"/.test(String(answer.headers["www-authenticate"])), token !== false);
                }
            }
            const document = await send(gateway, {
                method: "GET",
                path: `/.well-known/oauth-protected-resource${path}`,
                token: false,
            });
            assert.equal(document.status, 200);
            const { resource, authorization_servers } = JSON.parse(document.text) as { [key: string]: unknown };
            assert.equal(resource, `${origin}${path}`);
            assert.deepEqual(authorization_servers, [issuer.url]);
        }
        assert.equal((await askSse(as(gateway, "made-up"))).status, 401);
    });

    test("a token is good for the audience that it names: for all, for one endpoint, for nobody here", async () => {
        const { gateway, resource } = here;
        const all = await issuer.token(resource);
        for (const path of paths()) assert.equal((await ping(gateway, all, path)).status, 200, path);
        for (const name of NAMES) {
            const token = await issuer.token(`${resource}/${name}`);
            for (const path of paths()) {
                const { status } = await ping(gateway, token, path);
                assert.equal(status, path === `/mcp/${name}` ? 200 : 401, `one for ${name} at ${path}`);
            }
        }
        for (const name of ["modern", "legacy", "events"]) {
            // Meant for the server behind us: we are not that server.
            const token = await issuer.token(fixtures[name]!.url);
            for (const path of paths()) assert.equal((await ping(gateway, token, path)).status, 401, `${name} at ${path}`);
        }
    });

    test("403 names the scopes that the endpoint's server needs", async () => {
        const { gateway, resource } = here;
        const poor = await issuer.token(resource), rich = await issuer.token(resource, { scope: NEEDED });
        for (const path of ["/mcp", "/mcp/modern"]) {
            const name = path === "/mcp" ? "modern__echo" : "echo";
            const refused = await new ModernClient(as(gateway, poor), path).ask("tools/call", { name, arguments: {} });
            assert.equal(refused.status, 403, refused.text);
            const challenge = String(refused.headers["www-authenticate"]);
            assert.match(challenge, /error="insufficient_scope"/);
            assert.ok(challenge.includes(`scope="${NEEDED}"`), challenge);
            assert.equal(metadataOf(challenge).pathname, `/.well-known/oauth-protected-resource${path}`);
            const modern = new ModernClient(as(gateway, rich), path);
            assert.equal(text(await modern.call(name, { text: "hello" })), "hello");
        }
        const other = new ModernClient(as(gateway, poor), "/mcp/legacy");
        await until(async () => (await other.call("echo", { text: "x" })).result !== undefined, "others need none");
    });

    test("no server ever sees a caller's Authorization, over no transport", async () => {
        const { gateway, resource } = here;
        const token = await issuer.token(resource, { scope: NEEDED });
        const target = as(gateway, token);
        await until(async () => {
            const { result } = await new ModernClient(target).request("tools/list");
            const names = (result!.tools as { name: string }[]).map(({ name }) => name);
            return NAMES.every((name) => names.includes(`${name}__echo`));
        }, "all servers of this caller are up");
        const session = await openSession(target);
        const events = await openSse(target);
        await events.initialize();
        const modern = new ModernClient(target);
        for (const name of NAMES) {
            for (const client of [session, events, modern])
                assert.equal(text(await client.call(`${name}__echo`, { text: name })), name);
        }
        await session.end();
        events.close();
        const secret = token.split(".")[2]!;
        for (const [name, fixture] of Object.entries(fixtures)) {
            assert.ok(fixture.received("tools/call").length >= 3, name);
            for (const { fields, body, path } of fixture.requests.items) {
                const all = JSON.stringify([fields, body, path]);
                assert.ok(!all.includes(secret), name);
                assert.ok(!fields.some(([field]) => /^(proxy-)?authorization$|^cookie$/i.test(field)), all);
            }
        }
        const children = control.starts.items.filter((process) => process.name === "child");
        for (const child of children) {
            await child.sync();
            assert.ok(!JSON.stringify(child.events.items).includes(secret), "nor does a child, in what it is sent");
            assert.ok(!JSON.stringify(child.start.environ ?? []).includes(secret), "nor in its environment");
        }
        assert.ok(children.reduce((n, child) => n + child.received("tools/call").length, 0) >= 3);
        assert.ok(!gateway.tail(1e6).includes(secret), "nor does the log");
    });

    test("a token in the query is refused, whatever it is worth, and says nothing of it", async () => {
        const { gateway, resource } = here;
        const token = await issuer.token(resource, { scope: NEEDED });
        for (const path of paths()) {
            for (const key of ["access_token", "Access_Token", "access%5ftoken", "token"]) {
                const url = `${path}?${key}=${token}`;
                const without = await send(gateway, { path: url, token: false, body: initialize("2025-11-25") });
                assert.ok(without.status === 400 || without.status === 401, `${url.slice(0, 40)}: ${without.status}`);
                assert.ok(!without.text.includes(token));
                assert.equal(without.headers["mcp-session-id"], undefined);
            }
            const both = await send(gateway, { path: `${path}?access_token=${token}`, token, body: initialize("2025-11-25") });
            assert.equal(both.status, 400, "not beside a good one either");
        }
        assert.ok(!gateway.tail(1e6).includes(token.split(".")[2]!), "the log has none");
        for (const fixture of Object.values(fixtures))
            assert.ok(fixture.requests.items.every(({ path }) => !path.includes("access_token")));
    });
});

describe("4.8.8: where others say to go", () => {
    const canary = new Canary();
    const liar = new Liar();
    before(async () => {
        await canary.up();
        await liar.up();
    });
    after(async () => {
        await liar.down();
        await canary.down();
    });

    /** This machine, its network, its cloud, in the ways in which one can say so. */
    const PLACES: [url: string, says: RegExp][] = [
        ["https://127.0.0.1:PORT/x", /a loopback address, which nobody configured/],
        ["https://localhost:PORT/x", /a loopback address, which nobody configured/],
        ["https://[::1]:PORT/x", /a loopback address, which nobody configured/],
        ["https://[::ffff:127.0.0.1]:PORT/x", /a loopback address, which nobody configured/],
        ["https://0.0.0.0:PORT/x", /an unspecified address, which nobody configured/],
        ["https://10.0.0.1:PORT/x", /a private address, which nobody configured/],
        ["https://169.254.169.254/latest/meta-data", /a link-local address, which nobody configured/],
        ["https://[fd00:ec2::254]/latest", /a private address, which nobody configured/],
        ["https://[64:ff9b::7f00:1]:PORT/x", /a NAT64 address, which nobody configured/],
        ["http://169.254.169.254/latest", /https/],
        ["https://2130706433:PORT/x", /host|URL/],
        ["https://0x7f.1:PORT/x", /host|URL/],
        ["https://user@127.0.0.1:PORT/x", /user|URL/],
        ["file:///etc/passwd", /URL|https/],
    ];
    const urls = () => PLACES.map(([url]) => canary.fill(url));

    for (const way of ["jwks_uri", "redirect"] as const) {
        test(way === "redirect" ? "a redirect" : "the keys of an authorization server", async (t) => {
            const outcomes = await tell(t, liar, way, urls());
            for (const [n, [url, says]] of PLACES.entries()) {
                assert.equal(outcomes[n]!.message, "keys cannot be fetched", url);
                assert.match(String(outcomes[n]!.reason), says, url);
            }
            await canary.isUnseen();
        });
    }

    for (const way of ["authorization_servers", "token_endpoint"] as const) {
        test(`${way} that metadata name`, async (t) => {
            const { gateway, told } = await tellTokens(t, liar, way, urls());
            await gateway.stop();
            for (const [n, [url, says]] of PLACES.entries()) {
                const { message, reason } = told[n]!;
                assert.equal(message, "there is no token for the server", url);
                // What is no issuer's name is none that the server has named.
                if (!/name no authorization server/.test(String(reason))) assert.match(`${way}: ${String(reason)}`, says, url);
            }
            await canary.isUnseen();
        });
    }

    test("resource_metadata of a challenge", async (t) => {
        liar.requests.items.splice(0);
        const { gateway } = await tellTokens(t, liar, "resource_metadata", urls());
        // The challenge of each has been read when a second request has come: with the token, or for metadata elsewhere.
        for (const n of PLACES.keys()) {
            const about = () => liar.requests.items.filter((line) => line.endsWith(`/rm/${n}`)).length;
            await within(liar.requests.waitFor(() => about() >= 2), `the challenge of server ${n} is read`);
        }
        await gateway.stop();
        await canary.isUnseen();
    });

    test("the endpoint of HTTP+SSE: on another origin it is not spoken to", async (t) => {
        for (const [n, endpoint] of [
            `http://127.0.0.1:${canary.port}/message`,
            `http://localhost:${canary.port}/message`,
            `//127.0.0.1:${canary.port}/message`,
            `https://127.0.0.1:${canary.port}/message`,
            "http://169.254.169.254/latest/meta-data",
        ].entries()) {
            const fixture = await startHttp({ ...legacyOnly("2024-11-05"), transport: "sse", endpoint: () => endpoint }, t);
            const servers = { [`sse${n}`]: { url: fixture.url, protocol: "sse" } };
            const gateway = await startGateway({ config: { servers } }, t);
            await gateway.waitForLog((entry) => /endpoint event points to another origin/.test(JSON.stringify(entry)));
            assert.equal(fixture.received("POST").length, 0, endpoint);
            await gateway.stop();
        }
        await canary.isUnseen();
    });
});

describe("4.8.9: names and annotations", () => {
    const schema = (properties: object) => ({ type: "object", properties });
    /** with own keys that an object of JavaScript has from elsewhere */
    const parse = (json: string) => JSON.parse(json) as { [key: string]: unknown };

    test("x-mcp-header: the field is made for clients that do not know of it", async (t) => {
        const fixture = await startHttp(modernOnly, t);
        const gateway = await startGateway({ config: { servers: { http: { url: fixture.url } } } }, t);
        await served(gateway, "http__mirror");
        const session = await openSession(gateway), events = await openSse(gateway);
        await events.initialize();
        const args = { region: "eu ü", count: 42, deep: { flag: true }, plain: "p" };
        for (const client of [session, events]) {
            const from = fixture.requests.items.length;
            assert.deepEqual(JSON.parse(text(await client.call("http__mirror", args))), args);
            const [sent] = fixture.received("tools/call", from);
            const fields = sent!.fields.filter(([name]) => /^mcp-param-/i.test(name));
            assert.deepEqual(Object.fromEntries(fields.map(([name, value]) => [name.toLowerCase(), value])), {
                "mcp-param-region": `=?base64?${Buffer.from("eu ü").toString("base64")}?=`,
                "mcp-param-count": "42",
                "mcp-param-flag": "true",
            });
            assert.equal(sent!.field("mcp-name"), "mirror");
        }
        events.close();
        assert.deepEqual(fixture.complaints, []);
    });

    test("x-mcp-header that breaks a rule: the tool is hidden, and the log says which and why; over stdio it means nothing", async (t) => {
        const bad: { [name: string]: object } = {
            "of-a-number": schema({ a: { type: "number", "x-mcp-header": "A" } }),
            "of-an-object": schema({ a: { type: "object", "x-mcp-header": "A" } }),
            empty: schema({ a: { type: "string", "x-mcp-header": "" } }),
            "with-a-space": schema({ a: { type: "string", "x-mcp-header": "A B" } }),
            "with-a-line": schema({ a: { type: "string", "x-mcp-header": "A\r\nX-Evil: 1" } }),
            "with-a-colon": schema({ a: { type: "string", "x-mcp-header": "A:" } }),
            "not-ascii": schema({ a: { type: "string", "x-mcp-header": "Ä" } }),
            twice: schema({ a: { type: "string", "x-mcp-header": "Same" }, b: { type: "string", "x-mcp-header": "sAME" } }),
            "no-text": schema({ a: { type: "string", "x-mcp-header": 7 } }),
        };
        const tools = [
            ...brainTools([MODERN]),
            ...Object.entries(bad).map(([name, inputSchema]) => ({ name, inputSchema })),
        ];
        const fixture = await startHttp({ ...modernOnly, tools }, t);
        const control = await startControl();
        t.after(() => control.close());
        const servers = { http: { url: fixture.url }, child: { cmd: control.brain({ name: "child", ...modernOnly, tools } as never) } };
        const gateway = await startGateway({ config: { servers } }, t);
        await served(gateway, "http__echo", "child__echo");
        const clients = [new ModernClient(gateway), await openSession(gateway)];
        for (const name of Object.keys(bad)) {
            const warning = await gateway.waitForLog((entry) => entry.item === name && entry.upstream === "http");
            assert.equal(warning.level, "warn");
            assert.equal(warning.message, "left an item out of a list");
            assert.match(String(warning.reason), /x-mcp-header|header/, name);
            for (const client of clients) {
                const { result } = await client.request("tools/list");
                const names = (result!.tools as { name: string }[]).map((tool) => tool.name);
                assert.ok(!names.includes(`http__${name}`), name);
                assert.ok(names.includes(`child__${name}`), `${name} over stdio`);
                const { error } = await client.call(`http__${name}`, { a: "x" });
                assert.equal(error?.code, -32602, name);
            }
        }
        assert.ok(!fixture.received("tools/call").some(({ message }) => String(message?.params?.name) in bad), "none was called");
    });

    const NAMES = ["constructor", "__proto__", "prototype", "toString", "hasOwnProperty", "valueOf", "__defineGetter__", "length"];

    /** Has a tool, prompt and resource of each name, and says what it was called. */
    const answer = (exchange: Exchange): boolean => {
        const { method, params } = exchange.message;
        const type = exchange.request.field("mcp-method") === undefined ? {} : { resultType: "complete", ttlMs: 60_000, cacheScope: "private" };
        const said = (value: unknown) => [{ type: "text", text: JSON.stringify(value) }];
        if (method === "tools/list") {
            const properties = parse(`{${NAMES.map((name, n) => `"${name}": {"type": "string", "x-mcp-header": "P${n}"}`).join()}}`);
            exchange.result({ ...type, tools: NAMES.map((name) => ({ name, inputSchema: schema(properties) })) });
        } else if (method === "prompts/list") exchange.result({ ...type, prompts: NAMES.map((name) => ({ name })) });
        else if (method === "resources/list") exchange.result({ ...type, resources: NAMES.map((name) => ({ uri: `test://${name}`, name })) });
        else if (method === "tools/call") exchange.result({ ...type, content: said([params!.name, params!.arguments]) });
        else if (method === "prompts/get") exchange.result({ ...type, messages: [{ role: "user", content: said(params!.name)[0] }] });
        else if (method === "resources/read") exchange.result({ ...type, contents: [{ uri: params!.uri, text: "read" }] });
        else return false;
        return true;
    };

    for (const [era, options] of [["modern", modernOnly], ["legacy", legacyOnly()]] as [string, HttpOptions][]) {
        test(`names that every object of JavaScript has: a ${era} server's tools, prompts, resources and arguments`, async (t) => {
            const fixture = await startHttp({ ...options, on: answer }, t);
            const gateway: Gateway = await startGateway({ config: { servers: { http: { url: fixture.url } } } }, t);
            await served(gateway, "http__constructor");
            const args = parse(`{${NAMES.map((name) => `"${name}": "of ${name}"`).join()}}`);
            const headers = Object.fromEntries(NAMES.map((name, n) => [`Mcp-Param-P${n}`, `of ${name}`]));
            const modern = new ModernClient(gateway), session = await openSession(gateway);
            const asks: ((method: string, params: { [key: string]: unknown }) => Promise<RpcMessage>)[] = [
                (method, params) => modern.request(method, params, method === "tools/call" ? { headers } : {}),
                (method, params) => session.request(method, params),
            ];
            for (const ask of asks) {
                const listed = (await ask("tools/list", {})).result!.tools as { name: string }[];
                assert.deepEqual(listed.map(({ name }) => name), NAMES.map((name) => `http__${name}`));
                for (const name of NAMES) {
                    const from = fixture.requests.items.length;
                    const called = await ask("tools/call", { name: `http__${name}`, arguments: args });
                    assert.deepEqual(text(called), JSON.stringify([name, args]), name);
                    const [sent] = fixture.received("tools/call", from);
                    for (const [n, each] of NAMES.entries())
                        assert.equal(sent!.field(`mcp-param-p${n}`), era === "modern" ? `of ${each}` : undefined, each);
                    const prompt = (await ask("prompts/get", { name: `http__${name}` })).result!.messages as { content: { text: string } }[];
                    assert.equal(prompt[0]!.content.text, JSON.stringify(name));
                    const { result } = await ask("resources/read", { uri: `test://${name}` });
                    assert.deepEqual(result!.contents, [{ uri: `test://${name}`, text: "read" }]);
                }
            }
            assert.deepEqual(fixture.complaints, []);
        });
    }

    test("... as methods, and as tools, prompts and resources that nobody has", async (t) => {
        const fixture = await startHttp(modernOnly, t);
        const gateway = await startGateway({ config: { servers: { http: { url: fixture.url } } } }, t);
        await served(gateway, "http__echo");
        const session = await openSession(gateway), modern = new ModernClient(gateway);
        for (const name of [...NAMES, "tools/__proto__", "__proto__/list", "initialize/constructor"]) {
            assert.equal((await session.request(name)).error?.code, -32601, name);
            const unknown = await modern.ask(name);
            assert.equal(unknown.status, 404, name);
            assert.equal(unknown.messages[0]?.error?.code, -32601, name);
        }
        for (const name of [...NAMES, ...NAMES.map((each) => `http__${each}`), ...NAMES.map((each) => `${each}__echo`)]) {
            for (const client of [session, modern]) {
                assert.equal((await client.request("tools/call", { name, arguments: {} })).error?.code, -32602, name);
                assert.equal((await client.request("prompts/get", { name })).error?.code, -32602, name);
            }
        }
        for (const name of NAMES) {
            for (const path of [`/mcp/${name}`, `/mcp/sse/${name}`]) {
                const { status } = await send(gateway, { path, body: initialize("2025-11-25") });
                assert.equal(status, 404, path);
            }
        }
        assert.equal(fixture.received("tools/call").length, 0);
        assert.equal(text(await session.call("http__echo", { text: "still here" })), "still here");
    });
});
