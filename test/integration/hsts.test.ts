/* Strict-Transport-Security (RFC 6797): on every answer over TLS, never without. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import https from "node:https";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";

import { startControl, type Control } from "./lib/control.ts";
import { startGateway, type Gateway, type Value } from "./lib/gateway.ts";
import { initialize, send } from "./lib/http.ts";
import { Authority } from "./lib/tls.ts";
import { within } from "./lib/wait.ts";

const FIELD = "strict-transport-security";
const YEAR = "max-age=31536000";

interface Said {
    status: number;
    hsts: unknown;
}

describe("Strict-Transport-Security", () => {
    let control: Control;
    const authority = new Authority();
    before(async () => {
        control = await startControl();
    });
    after(async () => control.close());

    const start = (t: TestContext, server: { [key: string]: Value }): Promise<Gateway> =>
        startGateway({ config: { server, servers: { one: { cmd: control.command({ name: "one" }) } } } }, t);

    const tls = (more: { [key: string]: Value } = {}): { [key: string]: Value } => {
        const { key, cert } = authority.sign("DNS:gw.example.com,DNS:localhost");
        const certificate = join(authority.folder, "gw.pem");
        const keyFile = join(authority.folder, "gw.key");
        writeFileSync(certificate, cert);
        writeFileSync(keyFile, key, { mode: 0o600 });
        return { tls: { certificate, key: keyFile, names: ["gw.example.com"], ...more } };
    };

    /** What an answer says, by its host. */
    function ask(
        gateway: Gateway,
        host: string,
        path: string,
        more: https.RequestOptions = {},
        body?: string,
    ): Promise<Said> {
        const asked = new Promise<Said>((resolve, reject) => {
            const { headers, ...options } = more;
            const request = https.request(
                {
                    host: "127.0.0.1",
                    port: gateway.port,
                    servername: "gw.example.com",
                    ca: readFileSync(authority.file),
                    path,
                    agent: false,
                    headers: { Host: host, ...(headers as object) },
                    ...options,
                },
                (incoming) => {
                    incoming.resume();
                    const said = { status: incoming.statusCode!, hsts: incoming.headers[FIELD] };
                    incoming.once("end", () => resolve(said));
                },
            );
            request.once("error", reject);
            request.end(body);
        });
        return within(asked, `an answer to ${path}`);
    }

    test("on every answer over TLS, refusals too, but not for localhost", async (t) => {
        const gateway = await start(t, { ...tls(), max_request_body: "2KiB" });
        const host = `gw.example.com:${gateway.port}`;
        const json = { "Content-Type": "application/json", Accept: "application/json, text/event-stream" };
        const known = { ...json, ...gateway.headers };
        const post = (headers: Record<string, string>): https.RequestOptions => ({ method: "POST", headers });
        const hello = JSON.stringify(initialize("2025-11-25"));
        assert.deepEqual(await ask(gateway, host, "/health"), { status: 200, hsts: YEAR });
        assert.deepEqual(await ask(gateway, host, "/ready"), { status: 200, hsts: YEAR });
        assert.deepEqual(await ask(gateway, host, "/.well-known/x"), { status: 404, hsts: YEAR });
        assert.deepEqual(await ask(gateway, host, "/mcp", post(json), hello), { status: 401, hsts: YEAR });
        assert.deepEqual(await ask(gateway, host, "/mcp", post(known), hello), { status: 200, hsts: YEAR });
        assert.deepEqual(await ask(gateway, host, "/mcp", post(known), "{"), { status: 400, hsts: YEAR });
        const chunked = { ...known, "Transfer-Encoding": "chunked" };
        const long = `"${"x".repeat(3000)}"`;
        assert.deepEqual(await ask(gateway, host, "/mcp", post(chunked), long), { status: 413, hsts: YEAR });
        for (const name of ["localhost", `localhost:${gateway.port}`, `LOCALHOST:${gateway.port}`]) {
            const { status, hsts } = await ask(gateway, name, "/health");
            assert.equal(status, 200);
            assert.equal(hsts, undefined, "it would hold for every other program on this machine");
        }
    });

    test("for as long as it is configured, or not at all", async (t) => {
        const short = await start(t, tls({ hsts: "1h" }));
        assert.equal((await ask(short, "gw.example.com", "/health")).hsts, "max-age=3600");
        const off = await start(t, tls({ hsts: "0s" }));
        assert.equal((await ask(off, "gw.example.com", "/health")).hsts, undefined);
    });

    test("never without TLS", async (t) => {
        const gateway = await start(t, { hosts: ["gw.example.com"] });
        const answer = await send(gateway, { method: "GET", path: "/health", headers: { Host: "gw.example.com" } });
        assert.equal(answer.status, 200);
        assert.equal(answer.headers[FIELD], undefined);
    });
});
