/*
 * What is wrong in Nexus 0.6.0 about who is calling, each as a test of its own: the numbers are those of the study of its
 * source. The keys are those of its configuration.
 */
import assert from "node:assert/strict";
import { generateKeyPairSync, sign, type KeyObject } from "node:crypto";
import http from "node:http";
import https from "node:https";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { startControl, type Control, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Config, type Gateway, type Value } from "./lib/gateway.ts";
import { openSession, send, served } from "./lib/http.ts";
import { temporaryFolder } from "./lib/temp.ts";
import { Authority } from "./lib/tls.ts";
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
