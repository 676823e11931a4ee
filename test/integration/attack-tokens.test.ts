/*
 * Those who would use the tokens that are got for servers against others: servers whose challenges lock callers out,
 * and callers who go while their call still waits.
 */
import assert from "node:assert/strict";
import { test } from "node:test";

import { legacyOnly } from "./fixtures/http-server.ts";
import { startGateway } from "./lib/gateway.ts";
import { credentials, startGrantor, startGuarded } from "./lib/grants.ts";
import { openSession } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { startProtected } from "./lib/oauth.ts";
import { as } from "./lib/principals.ts";
import { call, said, type Request } from "./lib/upstreams.ts";
import { until } from "./lib/wait.ts";

test("a call that is cancelled while it waits for a token: the server hears of neither", async (t) => {
    const grantor = await startGrantor(t);
    const guarded = await startGuarded(t, { ...legacyOnly(), grantor });
    const config = { servers: { srv: { url: guarded.url, auth: credentials(grantor.url) } } };
    const gateway = await startGateway({ config }, t);
    const session = await openSession(gateway, "/mcp/srv");
    const echo = (id: number, text: string) =>
        session.send({ body: { jsonrpc: "2.0", id, method: "tools/call", params: { name: "echo", arguments: { text } } } });
    assert.equal((await echo(1, "first")).status, 200);
    for (const { body } of grantor.given) guarded.revoked.add(body.access_token!);
    const open = grantor.close();
    const asked = grantor.count("POST /token");
    const held = echo(2, "cancelled");
    await until(() => grantor.count("POST /token") === asked + 1, "a token is asked for");
    await session.notify("notifications/cancelled", { requestId: 2 });
    await held;
    open();
    // What was sent before has arrived before.
    const answer = await echo(3, "last");
    assert.equal(answer.status, 200);
    assert.equal(guarded.fixture.received("notifications/cancelled").length, 0);
    const texts = guarded.served
        .filter(({ request }) => request.message?.method === "tools/call")
        .map(({ request }) => (request.message!.params!.arguments as { text: string }).text);
    assert.deepEqual(texts, ["first", "last"]);
});

test("scopes that a challenge wants of one caller, and that are denied, lock out nobody", async (t) => {
    const grantor = await startGrantor(t);
    const guarded = await startGuarded(t, { grantor });
    const { gateway, resource } = await startProtected(t, {
        oauth: { issuer: grantor.url, leeway: "0s" },
        servers: { srv: { url: guarded.url, auth: { ...credentials(undefined), type: "exchange" } } },
    });
    grantor.gateways.push(resource);
    const caller = (user: string): Request => {
        const client = new ModernClient(as(gateway, grantor.token(user, resource)), "/mcp/srv");
        return (method, params) => client.request(method, params);
    };
    const alice = caller("alice");
    assert.equal(await said(call(alice, "echo", { text: "a" })), "a");
    guarded.challenge = 'scope="admin:all"';
    for (const { body } of grantor.given) guarded.revoked.add(body.access_token!);
    await call(alice, "echo", { text: "b" });
    guarded.challenge = "";
    const bob = caller("bob");
    assert.equal(await said(call(bob, "echo", { text: "c" })), "c");
    assert.equal(await said(call(alice, "echo", { text: "d" })), "d");
});
