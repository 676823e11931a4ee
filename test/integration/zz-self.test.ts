import assert from "node:assert/strict";
import { test } from "node:test";
import { randomUUID } from "node:crypto";
import { ACCESS_TOKEN, ASSERTION, CLIENTS, clientKey, EXCHANGE, SECRET, startGrantor, startGuarded } from "./lib/grants.ts";
import { signJwt, verifyJwt } from "./lib/jwt.ts";
for (const path of ["", "/tenant"])
test("self" + path, async (t) => {
    const g = await startGrantor(t, { path });
    const guarded = await startGuarded(t, { grantor: g });
    const enc = (s: string) => encodeURIComponent(s).replace(/%20/g, "+");
    const basic = { Authorization: `Basic ${Buffer.from(`${enc(CLIENTS.basic)}:${enc(SECRET)}`).toString("base64")}` };
    const ask = async (form: Record<string,string>, headers = {}) => {
        const a = await fetch(`${g.url}/token`, { method: "POST", headers, body: new URLSearchParams(form) });
        return { status: a.status, body: await a.json() as any };
    };
    const cc = { grant_type: "client_credentials", resource: guarded.url, scope: "mcp:use" };
    console.log(await ask(cc, basic));
    console.log(await ask({ ...cc, client_id: CLIENTS.post, client_secret: SECRET }));
    for (const alg of ["ES256", "RS256", "EdDSA"] as const) {
        const id = CLIENTS[alg];
        const client_assertion = signJwt(clientKey(id), { iss: id, sub: id, aud: g.url, jti: randomUUID(), iat: Date.now()/1000|0, exp: (Date.now()/1000|0)+60 }, { typ: "JWT" });
        const a = await ask({ ...cc, client_assertion, client_assertion_type: ASSERTION });
        console.log(a.status, a.body.error_description, a.body.expires_in);
        verifyJwt(a.body.access_token, { keys: g.keys, issuer: g.url, audience: [guarded.url] });
    }
    g.gateways.push("http://gw/mcp");
    const sub = { grant_type: EXCHANGE, subject_token_type: ACCESS_TOKEN, subject_token: g.token("alice", "http://gw/mcp"), resource: guarded.url, scope: "files:read" };
    const a = await ask(sub, basic);
    console.log(a, verifyJwt(a.body.access_token, { keys: g.keys, issuer: g.url, audience: [guarded.url] }));
    console.log(await ask({ ...sub, subject_token: g.token("alice", "http://other/mcp") }, basic));
    console.log(g.requests.items, g.grants.items.length, [...g.grants.items[0]!.form]);
    for (const p of ["/.well-known/oauth-authorization-server" + path, path + "/.well-known/openid-configuration"]) { const m = await fetch(g.origin + p); console.log(p, m.status, ((await m.json()) as any).issuer); }
    const m = await fetch(guarded.url, { method: "POST", body: "{}" }); console.log(m.status, m.headers.get("www-authenticate"));
});
