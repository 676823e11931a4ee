/*
 * What is wrong in Nexus 0.6.0 about who is calling, what and how often, each as a test of its own: the numbers are those
 * of the study of its source. The keys are those of its configuration.
 */
import assert from "node:assert/strict";
import { generateKeyPairSync, sign, type KeyObject } from "node:crypto";
import http from "node:http";
import https from "node:https";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { cardea } from "./lib/cli.ts";
import { startControl, type Control, type RpcMessage } from "./lib/control.ts";
import { startGateway, writeConfig, type Config, type Gateway, type Value } from "./lib/gateway.ts";
import { openSession, send, served } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { as, jwt as groupJwt, oauth as groupOauth } from "./lib/principals.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { Authority } from "./lib/tls.ts";
import { refusal, said } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

const ping = { jsonrpc: "2.0", id: 1, method: "ping" } as RpcMessage;

interface Key {
    kid: string;
    privateKey: KeyObject;
    jwk: object;
}

function makeKey(kid: string): Key {
    const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    return { kid, privateKey, jwk: { ...publicKey.export({ format: "jwk" }), kid, use: "sig", alg: "RS256" } };
}

function jwt(key: Key, claims: object): string {
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const now = Math.floor(Date.now() / 1000);
    const head = { alg: "RS256", kid: key.kid };
    const signed = `${part(head)}.${part({ iss: "https://id.example", aud: "nexus-production", exp: now + 600, ...claims })}`;
    return `${signed}.${sign("sha256", Buffer.from(signed), key.privateKey).toString("base64url")}`;
}

/** A JWKS as Nexus has it in server.oauth.url, with whatever keys are in it now. */
class Jwks {
    keys: object[] = [];
    nRequests = 0;
    url = "";
    #server = http.createServer((_request, response) => {
        this.nRequests++;
        response.setHeader("Content-Type", "application/json");
        response.end(JSON.stringify({ keys: this.keys }));
    });

    async start(): Promise<void> {
        await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
        this.url = `http://127.0.0.1:${(this.#server.address() as { port: number }).port}/jwks.json`;
    }

    stop(): void {
        this.#server.closeAllConnections();
        this.#server.close();
    }
}

const readCa = (authority: Authority) => readFileSync(authority.file);

describe("nexus", () => {
    const first = makeKey("first");
    let control: Control;
    let jwks: Jwks;
    before(async () => {
        control = await startControl();
        jwks = new Jwks();
        await jwks.start();
    });
    after(async () => {
        jwks.stop();
        await control.close();
    });

    async function withGateway(server: { [key: string]: Value }, run: (gateway: Gateway) => Promise<void>) {
        jwks.keys = [first.jwk];
        const config: Config = { server, servers: { one: { cmd: control.command({ name: "one" }) } } };
        const gateway = await startGateway({ config });
        try {
            await served(gateway, "one__echo");
            await run(gateway);
        } finally {
            await gateway.stop();
        }
    }

    const oauth = (more: { [key: string]: Value } = {}): { [key: string]: Value } => ({
        url: jwks.url,
        expected_issuer: "https://id.example",
        expected_audience: "nexus-production",
        protected_resource: {
            resource: "https://nexus.example.com",
            authorization_servers: ["https://id.example"],
        },
        ...more,
    });

    const status = async (gateway: Gateway, token: string | false, headers: Record<string, string> = {}) =>
        (await send({ port: gateway.port, token: token || "" }, { token, headers, body: ping })).status;
    /** 400: let in, and then told that there is no session. */
    const IN = 400;

    test("6.1: without server.oauth it is open to everybody", async () => {
        await withGateway({}, async (gateway) => {
            assert.equal(await status(gateway, false), 401);
            assert.equal(await status(gateway, "anything"), 401);
            assert.equal(await status(gateway, gateway.token), IN);
        });
    });

    test("6.1: the audience is checked only where it is configured, scopes never", async () => {
        const lacking = oauth({ scopes: ["mcp"] });
        delete (lacking as { expected_audience?: Value }).expected_audience;
        await withGateway({ oauth: lacking }, async (gateway) => {
            const good = { sub: "alice", scope: "mcp", aud: "https://nexus.example.com" };
            assert.equal(await status(gateway, jwt(first, good)), IN);
            assert.equal(await status(gateway, jwt(first, { ...good, aud: "another-app" })), 401);
            assert.equal(await status(gateway, jwt(first, { ...good, aud: undefined })), 401);
            assert.equal(await status(gateway, jwt(first, { ...good, scope: "other" })), 403);
        });
    });

    test("6.2.7: callers without a group see nothing, or everything", async () => {
        const identification = {
            enabled: true,
            client_id: { jwt_claim: "sub" },
            group_id: { jwt_claim: "plan" },
            validation: { group_values: ["free", "pro"] },
        };
        await withGateway({ oauth: oauth(), client_identification: identification }, async (gateway) => {
            for (const claims of [{ sub: "a" }, { sub: "a", plan: "free" }]) {
                const as = { port: gateway.port, token: jwt(first, claims) } as Gateway;
                await served(as, "one__echo");
            }
            assert.equal(await status(gateway, jwt(first, { sub: "a", plan: "gold" })), 400);
            assert.equal(await status(gateway, jwt(first, { sub: "  " })), 401);
        });
    });

    test("6.2.8: groups in an array are no groups; names with dots are not found", async () => {
        for (const [claim, claims] of [
            ["groups", { groups: ["pro", "free"] }],
            ["realm_access.roles", { realm_access: { roles: ["pro"] } }],
            ["https://id.example/plan", { "https://id.example/plan": "pro" }],
        ] as [string, object][]) {
            const identification = {
                enabled: true,
                group_id: { jwt_claim: claim },
                validation: { group_values: ["free", "pro"] },
            };
            await withGateway({ oauth: oauth(), client_identification: identification }, async (gateway) => {
                assert.equal(await status(gateway, jwt(first, { sub: "a", ...claims })), IN, claim);
                const text = JSON.stringify(claims).replaceAll("pro", "gold").replaceAll("free", "gold");
                assert.equal(await status(gateway, jwt(first, { sub: "a", ...JSON.parse(text) })), 400, claim);
            });
        }
    });

    test("6.2.10: without poll_interval a new key needs a restart; an unknown kid fetches nothing", async () => {
        await withGateway({ oauth: oauth() }, async (gateway) => {
            assert.equal(await status(gateway, jwt(first, { sub: "a" })), IN);
            const second = makeKey("second");
            jwks.keys = [first.jwk, second.jwk];
            assert.equal(await status(gateway, jwt(second, { sub: "a" })), IN);
        });
    });

    test("6.2.10: a storm of unknown kids is one fetch", async () => {
        await withGateway({ oauth: oauth() }, async (gateway) => {
            assert.equal(await status(gateway, jwt(first, { sub: "a" })), IN);
            const nBefore = jwks.nRequests;
            const strangers = Array.from({ length: 200 }, (_, i) => jwt({ ...first, kid: `made-up-${i}` }, { sub: "a" }));
            const answers = await Promise.all(strangers.map((token) => status(gateway, token)));
            assert.ok(answers.every((answer) => answer === 401));
            assert.ok(jwks.nRequests - nBefore <= 1, `${jwks.nRequests - nBefore} fetches`);
            assert.equal(await status(gateway, jwt(first, { sub: "a" })), IN);
        });
    });

    test("2.6: one strange key makes the whole set unreadable", async () => {
        await withGateway({ oauth: oauth() }, async (gateway) => {
            const second = makeKey("second");
            jwks.keys = [{ kty: "post-quantum", kid: "x" }, { kty: "oct", k: "AAAA" }, {}, second.jwk];
            assert.equal(await status(gateway, jwt(second, { sub: "a" })), IN);
        });
    });

    test("6.3.1: with [server.tls] the shipped binary panics", async () => {
        const authority = new Authority();
        const leaf = authority.sign("IP:127.0.0.1");
        const folder = temporaryFolder();
        writeFileSync(join(folder, "cert.pem"), leaf.cert);
        writeFileSync(join(folder, "key.pem"), leaf.key, { mode: 0o600 });
        const gateway = await startGateway({
            config: {
                server: { tls: { certificate: join(folder, "cert.pem"), key: join(folder, "key.pem") } },
                servers: { one: { cmd: control.command({ name: "one" }) } },
            },
        });
        try {
            const answered = new Promise<number>((resolve, reject) => {
                const request = https.request(
                    { port: gateway.port, host: "127.0.0.1", path: "/health", ca: readCa(authority) },
                    (response) => {
                        response.resume();
                        resolve(response.statusCode!);
                    },
                );
                request.once("error", reject);
                request.end();
            });
            assert.equal(await within(answered, "an answer over TLS"), 200);
        } finally {
            await gateway.stop();
        }
    });

    test("6.3.6: any token that the issuer signed for anybody is good", async () => {
        const open = oauth({ expected_issuer: "https://id.example" });
        delete (open as { expected_audience?: Value }).expected_audience;
        await withGateway({ oauth: open }, async (gateway) => {
            for (const aud of ["https://other.example", ["a", "b"], "", "https://nexus.example.com.evil.example"]) {
                assert.equal(await status(gateway, jwt(first, { sub: "a", aud })), 401, String(aud));
            }
            assert.equal(
                await status(gateway, jwt(first, { sub: "a", aud: "https://nexus.example.com", iss: "https://evil.example" })),
                401,
            );
        });
    });

    test("6.3.9: a body is read before anybody asks who sends it", async () => {
        await withGateway({ oauth: oauth(), max_request_body: "4MiB" }, async (gateway) => {
            const before = await send(gateway, { path: "/ready", method: "GET" });
            assert.equal(before.status, 200);
            const answers = await Promise.all(
                Array.from({ length: 20 }, () =>
                    send(gateway, { token: "nobody", body: `"${"x".repeat(3 << 20)}"` }).then(
                        (answer) => answer.status,
                        () => 0,
                    ),
                ),
            );
            assert.ok(answers.every((answer) => answer === 401 || answer === 0), String(answers));
        });
    });

    test("2.6: an issuer that is not there is an error of the gateway, over and over", async () => {
        await withGateway({ oauth: oauth({ url: "http://127.0.0.1:1/jwks.json" }) }, async (gateway) => {
            assert.equal(await status(gateway, jwt(first, { sub: "a" })), 401, "nobody is let in");
            await until(
                () => gateway.log.items.some((entry) => JSON.stringify(entry).includes("127.0.0.1:1")),
                "the log names the address",
            );
            assert.equal(await status(gateway, gateway.token), IN, "others are served");
            const session = await openSession(gateway);
            await session.end();
        });
    });
});

describe("nexus: what and how often", () => {
    type Table = { [key: string]: Value };
    let fixture: HttpFixture;
    before(async () => void (fixture = await startHttp()));
    after(() => fixture.close());

    const limit = (n: number, interval: string): Table => ({ limit: n, interval });
    const identification = { enabled: true, client_id: { jwt_claim: "sub" }, group_id: { jwt_claim: "plan" } };

    /** A gateway with the server `one`, which has these keys, and `two`, which has none. */
    async function withServer(one: Table, run: (gateway: Gateway) => Promise<void>, server: Table = {}): Promise<void> {
        const { url } = fixture;
        const config: Config = {
            server: { oauth: groupOauth, client_identification: identification, ...server },
            servers: { one: { url, ...one }, two: { url } },
        };
        const gateway = await startGateway({ config });
        try {
            for (const name of ["one", "two"]) {
                await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === name);
            }
            await run(gateway);
        } finally {
            await gateway.stop();
        }
    }

    const user = (gateway: Gateway, claims: object): ModernClient => new ModernClient(as(gateway, groupJwt(claims)));
    const names = async (client: ModernClient, prefix = "one__"): Promise<string[]> => {
        const { result } = await client.request("tools/list");
        return (result!.tools as { name: string }[]).map(({ name }) => name).filter((name) => name.startsWith(prefix));
    };
    /** Waits for the caller's own connection to the server, which what is denied must not have. */
    const seesTwo = (client: ModernClient) => until(async () => (await names(client, "two__")).length !== 0, "two is listed");
    const seesOne = (client: ModernClient) => until(async () => (await names(client)).length !== 0, "one is listed");
    async function passing(client: ModernClient, name: string, n: number): Promise<number> {
        let passed = 0;
        for (let i = 0; i < n; i++) if ((await client.call(name)).result?.isError !== true) passed++;
        return passed;
    }

    test("6.1: the example with per_user.groups does not start", async () => {
        const folder = temporaryFolder();
        const file = writeConfig(
            folder,
            `[server.client_identification]
enabled = true
client_id.jwt_claim = "sub"
group_id.jwt_claim = "plan"

[mcp.servers.database]
cmd = ["true"]

# Free tier users get limited access
[mcp.servers.database.rate_limits.per_user.groups.free]
limit = 100
interval = "3600s"

# Enterprise users get higher limits
[mcp.servers.database.rate_limits.per_user.groups.enterprise]
limit = 10000
interval = "3600s"

[mcp.servers.github]
url = "https://api.github.com/mcp"
[mcp.servers.github.rate_limits]
limit = 1000
interval = "3600s"
[mcp.servers.github.rate_limits.tools]
search_code = { limit = 30, interval = "60s" }
create_issue = { limit = 10, interval = "60s" }
`,
        );
        const run = await cardea(["check", file]);
        removeFolder(folder);
        assert.equal(run.code, 0, run.stdout + run.stderr);
    });

    test("6.1: limits of users and groups are for LLM tokens only", async () => {
        const per_user = { ...limit(1, "1h"), groups: { free: limit(2, "1h"), enterprise: limit(4, "1h") } };
        await withServer({ rate_limits: { per_user } }, async (gateway) => {
            for (const [sub, plan, n] of [
                ["a", "free", 2],
                ["b", "free", 2],
                ["c", "enterprise", 4],
                ["d", undefined, 1],
            ] as const) {
                assert.equal(await passing(user(gateway, { sub, plan }), "one__echo", 6), n, sub);
            }
        });
    });

    test("6.1, 6.2.3: the limit of a server is one for each of its tools", async () => {
        await withServer({ rate_limits: limit(4, "1h") }, async (gateway) => {
            const client = user(gateway, { sub: "a" });
            let passed = 0;
            for (const tool of ["echo", "count", "structured", "seen"]) passed += await passing(client, `one__${tool}`, 3);
            assert.equal(passed, 4);
        });
    });

    test("6.2.3: one call counts twice", async () => {
        await withServer({}, async (gateway) => {
            const client = user(gateway, { sub: "a" });
            const statuses: number[] = [];
            for (let i = 0; i < 6; i++) statuses.push((await client.ask("tools/call", { name: "two__echo" })).status);
            assert.deepEqual(statuses, [200, 200, 200, 200, 429, 429]);
        }, { rate_limits: { global: limit(4, "1h") } });
    });

    test("6.1, 6.2.2: 100 an hour are 3,600 an hour: less than one a second cannot be said", async () => {
        await withServer({ rate_limits: { tools: { echo: limit(3, "1h") } } }, async (gateway) => {
            const client = user(gateway, { sub: "a" });
            assert.equal(await passing(client, "one__echo", 3), 3, "and not a tenth of them");
            const from = performance.now();
            await until(async () => {
                assert.equal(await passing(client, "one__echo", 5), 0);
                return performance.now() - from > 1300;
            }, "more than a second without another one");
        });
    });

    test("2.4: a limit of 0 is an error of every call; an interval below a second a crash", async () => {
        const rate_limits = { tools: { echo: limit(0, "1h"), count: limit(2, "300ms") } };
        await withServer({ rate_limits }, async (gateway) => {
            const client = user(gateway, { sub: "a" });
            assert.match(await refusal(client.call("one__echo")), /rate_limits\.tools\.echo/);
            assert.equal(await passing(client, "one__count", 2), 2);
            await until(async () => (await passing(client, "one__count", 1)) === 1, "it passes again after a moment");
            await said(client.call("one__seen"));
        });
    });

    test("6.2.7, 6.3.4: without a group everything that has no allow is open, and deny lets everybody in", async () => {
        await withServer({ deny: ["free"] }, async (gateway) => {
            const good = user(gateway, { sub: "a", plan: "pro" });
            await seesOne(good);
            await said(good.call("one__echo", { text: "x" }));
            for (const [sub, plan] of [
                ["b", "free"],
                ["c", undefined],
                ["d", ["free", "pro"]],
                ["e", { free: true }],
                ["f", ["pro", 1]],
                ["g", []],
                ["h", null],
            ] as [string, unknown][]) {
                const client = user(gateway, { sub, plan });
                await seesTwo(client);
                assert.deepEqual(await names(client), [], JSON.stringify(plan));
                assert.equal((await client.call("one__echo")).error?.code, -32602, JSON.stringify(plan));
            }
        });
    });

    test("6.2.7: without a group nothing is there, where nothing is restricted", async () => {
        await withServer({}, async (gateway) => {
            const client = user(gateway, { sub: "a" });
            await seesOne(client);
            await said(client.call("one__echo", { text: "x" }));
        });
    });

    test("6.2.8: a claim that is an array is no group", async () => {
        await withServer({ allow: ["pro"], deny: ["blocked"] }, async (gateway) => {
            const client = user(gateway, { sub: "a", plan: ["free", "pro"] });
            await seesOne(client);
            await said(client.call("one__echo", { text: "x" }));
            const blocked = user(gateway, { sub: "b", plan: ["pro", "blocked"] });
            await seesTwo(blocked);
            assert.deepEqual(await names(blocked), []);
        });
    });

    test("6.3.3: whoever says so in a header is in the group", async () => {
        const headers = { ...identification, group_id: { http_header: "X-Group" } };
        const ask = (gateway: Gateway, group: string) =>
            new ModernClient(as(gateway, groupJwt({ sub: "a" })), "/mcp", { headers: { "X-Group": group } });
        await withServer(
            { allow: ["admin"] },
            async (gateway) => {
                const client = ask(gateway, "admin");
                await seesTwo(client);
                assert.deepEqual(await names(client), []);
                assert.equal((await client.call("one__echo")).error?.code, -32602);
            },
            { client_identification: headers, trusted_proxies: ["192.0.2.1"] },
        );
        await withServer(
            { allow: ["admin"] },
            async (gateway) => {
                await seesOne(ask(gateway, "admin"));
                await said(ask(gateway, "admin").call("one__echo", { text: "x" }));
                assert.deepEqual(await names(ask(gateway, "user")), [], "the same token, another group");
                assert.equal((await ask(gateway, "user").call("one__echo")).error?.code, -32602);
            },
            { client_identification: headers, trusted_proxies: ["127.0.0.1"] },
        );
    });

    test("6.1, 6.3.7: prompts and resources know no access", async () => {
        await withServer({ allow: ["pro"] }, async (gateway) => {
            const [pro, free] = [user(gateway, { sub: "a", plan: "pro" }), user(gateway, { sub: "b", plan: "free" })];
            await seesOne(pro);
            await seesTwo(free);
            const prompts = async (client: ModernClient) =>
                ((await client.request("prompts/list")).result!.prompts as { name: string }[]).map(({ name }) => name).sort();
            assert.deepEqual(await prompts(pro), ["one__review", "two__review"]);
            assert.deepEqual(await prompts(free), ["two__review"]);
            assert.equal((await pro.request("prompts/get", { name: "one__review" })).error, undefined);
            assert.equal((await free.request("prompts/get", { name: "one__review" })).error?.code, -32602);
        });
    });

    test("6.3.7: the names of servers are told to everybody", async () => {
        await withServer({ allow: ["pro"] }, async (gateway) => {
            const free = user(gateway, { sub: "b", plan: "free" });
            await seesTwo(free);
            const ready = await send(free.target, { method: "GET", path: "/ready" });
            const { upstreams } = JSON.parse(ready.text) as { upstreams: { name: string }[] };
            assert.deepEqual(upstreams.map(({ name }) => name), ["two"]);
            for (const path of ["/mcp/one", "/mcp/nothing"]) {
                assert.equal((await new ModernClient(free.target, path).ask("tools/list")).status, 404, path);
            }
        });
    });

    test("6.3.7: prompts and resources know no limit of the server", async () => {
        await withServer({ rate_limits: limit(3, "1h") }, async (gateway) => {
            const client = user(gateway, { sub: "a" });
            await seesOne(client);
            for (let i = 0; i < 3; i++) assert.equal((await client.request("prompts/get", { name: "one__review" })).error, undefined);
            assert.notEqual((await client.request("prompts/get", { name: "one__review" })).error, undefined);
            await refusal(client.call("one__echo"));
        });
    });

    test("6.3.9: tokens are checked before anybody counts", async () => {
        await withServer({}, async (gateway) => {
            const ask = (token: string) => new ModernClient(as(gateway, token)).ask("tools/list");
            const statuses: number[] = [];
            for (let i = 0; i < 6; i++) statuses.push((await ask(`${groupJwt({ sub: "a", n: i })}x`)).status);
            assert.deepEqual(statuses, [401, 401, 401, 429, 429, 429]);
            assert.equal((await ask(groupJwt({ sub: "a" }))).status, 429);
        }, { rate_limits: { per_ip: limit(3, "1h") } });
    });

    test("6.3.10: X-Forwarded-For of anybody is a way around per_ip", async () => {
        const client_ip = { x_forwarded_for: true, x_real_ip: true };
        await withServer({}, async (gateway) => {
            const statuses: number[] = [];
            for (let i = 0; i < 4; i++) {
                const headers = { "X-Forwarded-For": `198.51.100.${i}`, "X-Real-IP": `198.51.100.${i}` };
                statuses.push((await send(gateway, { method: "GET", path: "/nothing", headers })).status);
            }
            assert.deepEqual(statuses.map((status) => status === 429), [false, false, true, true], String(statuses));
        }, { client_ip, rate_limits: { per_ip: limit(2, "1h") }, trusted_proxies: ["192.0.2.1"] });
    });

    test("6.3.10: behind a proxy everybody shares one bucket, or chooses one", async () => {
        const client_ip = { x_forwarded_for: true };
        await withServer({}, async (gateway) => {
            const from = async (forwarded: string) =>
                (await send(gateway, { method: "GET", path: "/nothing", headers: { "X-Forwarded-For": forwarded } })).status;
            assert.notEqual(await from("198.51.100.1"), 429);
            assert.equal(await from("198.51.100.1"), 429);
            assert.notEqual(await from("198.51.100.2"), 429, "another caller of the same proxy");
            assert.equal(await from("203.0.113.9, 198.51.100.1"), 429, "what the caller wrote itself is not the address");
        }, { client_ip, rate_limits: { per_ip: limit(1, "1h") }, trusted_proxies: ["127.0.0.1"] });
    });
});
