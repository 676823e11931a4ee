/*
 * [mcp.servers.X.tls]: which certificates of a server are taken, which one is shown to it, and that none of that
 * reaches another server.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import type { TLSSocket } from "node:tls";

import { startHttp, type HttpFixture, type HttpOptions } from "./fixtures/http-server.ts";
import { cardea, prepared } from "./lib/cli.ts";
import { startGateway, type Config, type Gateway, type ServerConfig, type Value } from "./lib/gateway.ts";
import { reload } from "./lib/reload.ts";
import { temporaryFolder, removeFolder } from "./lib/temp.ts";
import { Authority, type Certificate } from "./lib/tls.ts";
import { call, client, downReason, said, status } from "./lib/upstreams.ts";
import { until } from "./lib/wait.ts";

/** What this machine trusts by itself, and an authority of the operator's own. */
const [known, own] = [new Authority(), new Authority()];

const secure = (certificate: Certificate, t: TestContext, more: HttpOptions = {}): Promise<HttpFixture> =>
    startHttp({ ...more, tls: { ...certificate, ...more.tls } }, t);

function start(servers: { [name: string]: ServerConfig }, t: TestContext): Promise<Gateway> {
    const env = { ...process.env, SSL_CERT_FILE: known.file };
    return startGateway({ config: { servers }, env }, t);
}

const isReady = (gateway: Gateway, name: string) =>
    until(
        async () => (await status(gateway)).get(name)?.state === "ready",
        async () => `${name} is ready, not ${JSON.stringify((await status(gateway)).get(name))}`,
    );

/** Files of a certificate. */
function files(t: TestContext, certificate: Certificate): { client_cert_path: string; client_key_path: string } {
    const folder = temporaryFolder();
    t.after(() => removeFolder(folder));
    const paths = { client_cert_path: join(folder, "client.pem"), client_key_path: join(folder, "client.key") };
    writeFileSync(paths.client_cert_path, certificate.cert);
    writeFileSync(paths.client_key_path, certificate.key, { mode: 0o600 });
    return paths;
}

describe("the server's certificate", { concurrency: 2 }, () => {
    test("a file of authorities counts for its server, beside those of the system", async (t) => {
        const [a, b] = [await secure(own.sign("IP:127.0.0.1"), t), await secure(known.sign("IP:127.0.0.1"), t)];
        const gateway = await start(
            {
                own: { url: a.url, tls: { verify_certs: true, ca_bundle: own.file } },
                nexus: { url: a.url, tls: { root_ca_cert_path: own.file } },
                beside: { url: b.url, tls: { ca_bundle: own.file } },
                system: { url: b.url },
                empty: { url: b.url, tls: {} },
                alone: { url: a.url },
                bare: { url: a.url, tls: {} },
            },
            t,
        );
        for (const name of ["own", "nexus", "beside", "system", "empty"]) await isReady(gateway, name);
        for (const name of ["alone", "bare"])
            assert.match(await downReason(gateway, name), /issuer of the certificate is not known/);
        assert.equal(await said(call(await client(gateway, "legacy", "own"), "echo", { text: "hi" })), "hi");
    });

    const expired = own.sign("IP:127.0.0.1", true);
    const strange = (names: string) => new Authority().sign(names);
    const rows: [string, () => Certificate, { [key: string]: Value }, RegExp | undefined][] = [
        ["another name", () => own.sign("DNS:other.test"), {}, /not for this IP address/],
        ["another name, accepted", () => own.sign("DNS:other.test"), { accept_invalid_hostnames: true }, undefined],
        ["expired, any name accepted", () => expired, { accept_invalid_hostnames: true }, /expired/],
        ["unknown, any name accepted", () => strange("IP:127.0.0.1"), { accept_invalid_hostnames: true }, /not known here/],
        ["expired, unverified", () => expired, { verify_certs: false }, undefined],
        ["unknown and another name, unverified", () => strange("DNS:other.test"), { verify_certs: false }, undefined],
    ];
    for (const [name, certificate, tls, reason] of rows) {
        test(`${name}: ${reason === undefined ? "taken" : "refused"}`, async (t) => {
            const fixture = await secure(certificate(), t);
            const gateway = await start({ http: { url: fixture.url, tls: { ca_bundle: own.file, ...tls } } }, t);
            if (reason === undefined) await isReady(gateway, "http");
            else {
                assert.match(await downReason(gateway, "http"), reason);
                assert.equal(fixture.requests.items.length, 0, "nothing was sent");
            }
        });
    }

    test("what is accepted for one server is not for another at the same address", async (t) => {
        const fixture = await secure(new Authority().sign("DNS:other.test"), t);
        const gateway = await start(
            { lax: { url: fixture.url, tls: { verify_certs: false } }, strict: { url: fixture.url } },
            t,
        );
        await isReady(gateway, "lax");
        assert.match(await downReason(gateway, "strict"), /certificate/);
        // Also when there is a connection that could be taken.
        await said(call(await client(gateway, "modern", "lax"), "echo", { text: "hi" }));
        assert.notEqual((await status(gateway)).get("strict")!.state, "ready");
    });

    test("a file that is missing or holds nothing is named", async (t) => {
        const fixture = await secure(own.sign("IP:127.0.0.1"), t);
        const gateway = await start(
            {
                missing: { url: fixture.url, tls: { ca_bundle: "/nowhere/roots.pem" } },
                empty: { url: fixture.url, tls: { ca_bundle: "/dev/null" } },
            },
            t,
        );
        assert.match(await downReason(gateway, "missing"), /file of certificate authorities cannot be read/);
        assert.match(await downReason(gateway, "empty"), /file of certificate authorities holds no certificate/);
    });
});

describe("the gateway's certificate", { concurrency: 2 }, () => {
    /** A server that wants one of `own`, and notes what it is shown. */
    async function mutual(t: TestContext): Promise<{ fixture: HttpFixture; shown: Set<string> }> {
        const shown = new Set<string>();
        const tls = { ...own.sign("IP:127.0.0.1"), ca: readFileSync(own.file), requestCert: true, rejectUnauthorized: true };
        const on: HttpOptions["on"] = (exchange) => {
            shown.add((exchange.socket as TLSSocket).getPeerCertificate().serialNumber);
            return false;
        };
        return { fixture: await secure(tls, t, { tls, on }), shown };
    }

    test("is shown to the server that it is for; each server gets its own", async (t) => {
        const { fixture, shown } = await mutual(t);
        const [one, two] = [own.sign("DNS:one"), own.sign("DNS:two")];
        const tls = { ca_bundle: own.file };
        const gateway = await start(
            {
                one: { url: fixture.url, tls: { ...tls, ...files(t, one) } },
                two: { url: fixture.url, tls: { ...tls, ...files(t, two) } },
                none: { url: fixture.url, tls },
                stranger: { url: fixture.url, tls: { ...tls, ...files(t, known.sign("DNS:x")) } },
            },
            t,
        );
        await isReady(gateway, "one");
        await isReady(gateway, "two");
        assert.equal(shown.size, 2);
        assert.match(await downReason(gateway, "none"), /wants a certificate of the client/);
        assert.match(await downReason(gateway, "stranger"), /./);
        shown.clear();
        await said(call(await client(gateway, "modern", "one"), "echo", { text: "hi" }));
        assert.equal(shown.size, 1);
    });

    test("files that cannot be used are named", async (t) => {
        const { fixture } = await mutual(t);
        const [one, two] = [files(t, own.sign("DNS:one")), files(t, own.sign("DNS:two"))];
        const tls = { ca_bundle: own.file };
        const gateway = await start(
            {
                mixed: { url: fixture.url, tls: { ...tls, ...one, client_key_path: two.client_key_path } },
                nocert: { url: fixture.url, tls: { ...tls, ...one, client_cert_path: "/nowhere/c.pem" } },
                nokey: { url: fixture.url, tls: { ...tls, ...one, client_key_path: "/nowhere/k.pem" } },
                empty: { url: fixture.url, tls: { ...tls, ...one, client_key_path: "/dev/null" } },
            },
            t,
        );
        assert.match(await downReason(gateway, "mixed"), /client's key does not belong to the client's certificate/);
        assert.match(await downReason(gateway, "nocert"), /file of the client's certificate cannot be read/);
        assert.match(await downReason(gateway, "nokey"), /file of the client's key cannot be read/);
        assert.match(await downReason(gateway, "empty"), /file of the client's key holds no private key/);
        assert.equal(fixture.requests.items.length, 0, "nothing was sent");
    });

    test("is kept over a reload that does not change the server, and read again when it does", async (t) => {
        const { fixture, shown } = await mutual(t);
        const paths = files(t, own.sign("DNS:one"));
        const tls = { ca_bundle: own.file, ...paths };
        const config = (more: { [key: string]: Value } = {}): Config => ({
            servers: { http: { url: fixture.url, tls, ...more } },
        });
        const gateway = await start(config().servers, t);
        await isReady(gateway, "http");
        const starts = () => fixture.received("server/discover").length;
        const [first, n] = [[...shown], starts()];
        assert.equal(first.length, 1);

        const other = own.sign("DNS:other");
        writeFileSync(paths.client_cert_path, other.cert);
        writeFileSync(paths.client_key_path, other.key);
        const changes = await reload(gateway, { ...config(), mcp: { list_timeout: "1s" } });
        assert.equal(changes.servers.unchanged, 1);
        await said(call(await client(gateway, "legacy"), "echo", { text: "hi" }));
        assert.equal(starts(), n, "it goes on");
        assert.deepEqual([...shown], first);

        assert.deepEqual((await reload(gateway, config({ timeout: "50s" }))).servers.changed, ["http"]);
        await said(call(await client(gateway, "legacy"), "echo", { text: "hi" }));
        assert.equal(shown.size, 2, "another certificate");

        const bare = { url: fixture.url, timeout: "50s", tls: { ca_bundle: own.file } };
        await reload(gateway, { servers: { http: bare } });
        assert.match(await downReason(gateway, "http"), /wants a certificate/);
    });
});

test("cardea check says what is lax, and what cannot be", async (t) => {
    const folder = temporaryFolder();
    t.after(() => removeFolder(folder));
    const check = (server: ServerConfig) =>
        cardea(["check", ...prepared(folder, { servers: { a: server } }).slice(0, 2)]);
    const url = "https://a.example/mcp";
    const lax = await check({ url, tls: { verify_certs: false, accept_invalid_hostnames: true } });
    assert.equal(lax.code, 0, lax.stderr);
    assert.match(lax.stdout + lax.stderr, /warning: mcp\.servers\.a\.tls\.verify_certs is false/);
    assert.match(lax.stdout + lax.stderr, /warning: mcp\.servers\.a\.tls\.accept_invalid_hostnames is true/);
    const wrong: [ServerConfig, RegExp][] = [
        [{ url: "http://127.0.0.1:1/mcp", tls: { verify_certs: true } }, /tls is for servers with an https URL/],
        [{ cmd: ["x"], tls: { verify_certs: true } }, /is for servers with url/],
        [{ url, tls: { ca_bundle: "/a", root_ca_cert_path: "/a" } }, /another name for ca_bundle/],
        [{ url, tls: { client_cert_path: "/a" } }, /client_cert_path needs client_key_path/],
        [{ url, tls: { client_key_path: "/a" } }, /client_key_path needs client_cert_path/],
        [{ url, tls: { ca_bundle: "" } }, /ca_bundle/],
    ];
    for (const [server, says] of wrong) {
        const run = await check(server);
        assert.equal(run.code, 78, JSON.stringify(server));
        assert.match(run.stdout + run.stderr, says);
    }
});
