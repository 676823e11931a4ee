/*
 * The dialer's rules from end to end: a server that may be asked (the configuration names it) says where its keys are, or
 * redirects there, and points at whatever it likes. A canary on loopback never sees a connection, and the log says what the
 * address was and which line would open it.
 */
import assert from "node:assert/strict";
import { after, before, describe, test, type TestContext } from "node:test";

import { FORMS, type Form } from "./lib/addresses.ts";
import { Canary, Liar, tell, tellTokens, type TellOptions, type Way } from "./lib/strangers.ts";
import { Authority } from "./lib/tls.ts";
import { within } from "./lib/wait.ts";

/** Of one gateway (LIMIT_ISSUERS is 32). */
const ISSUERS = 30;

/** White space at the end of a field is not part of its value. */
const fits = (form: Form, way: Way): boolean => way === "jwks_uri" || !form.url.endsWith(" ");

describe("addresses that nobody configured", () => {
    const canary = new Canary();
    const authority = new Authority();
    const secure = new Canary(authority.sign("DNS:localhost,IP:127.0.0.1,IP:127.1.2.3,IP:::1"));
    const liar = new Liar();
    before(async () => {
        await canary.up();
        await secure.up();
        await liar.up();
    });
    after(async () => {
        await liar.down();
        await secure.down();
        await canary.down();
    });

    /** What is sent there, and whether it is reached (or what the log says); an own path of an issuer beside the liar's. */
    type Row = [text: string, expected: boolean | RegExp, own?: string];

    async function check(t: TestContext, target: Canary, way: Way, options: TellOptions, rows: Row[]): Promise<void> {
        const sent = rows.filter(([, , own]) => own === undefined);
        const env = { ...process.env, SSL_CERT_FILE: authority.file };
        const told = await tell(t, liar, way, sent.map(([text]) => target.fill(text)), { ...options, env });
        for (const [n, [text, expected]] of sent.entries()) {
            if (expected === true) assert.equal(told[n]!.message, "keys fetched", `${text}: ${told[n]!.reason}`);
            else assert.match(String(told[n]!.reason), expected as RegExp, text);
        }
        const reached = rows.filter(([, expected]) => expected === true);
        const paths = reached.map(([text, , own]) => new URL(target.fill(own ?? text)).pathname);
        assert.deepEqual(target.asked.items.splice(0).sort(), paths.sort());
        target.seen.items.splice(0);
    }

    /** What allow_networks = ["127.0.0.0/8", "::1/128"] leaves closed. */
    const CLOSED: Row[] = [
        ["https://10.0.0.1:PORT/n", /a private address, which nobody configured/],
        ["https://[64:ff9b::7f00:1]:PORT/o", /a NAT64 address, which nobody configured/],
        ["https://[::127.0.0.1]:PORT/p", /an IPv4-compatible address, which nobody configured/],
        ["https://[2002:7f00:1::1]:PORT/q", /a 6to4 address, which nobody configured/],
        ["https://0.0.0.0:PORT/r", /an unspecified address, which nobody configured/],
    ];

    const filled = (url: string): string => canary.fill(url);

    assert.ok(FORMS.length >= 80);
    for (const way of ["jwks_uri", "redirect"] as const) {
        const forms = FORMS.filter((form) => fits(form, way));
        for (let from = 0; from < forms.length; from += ISSUERS) {
            const some = forms.slice(from, from + ISSUERS);
            test(`as ${way}: forms ${from} to ${from + some.length - 1}`, async (t) => {
                const outcomes = await tell(t, liar, way, some.map((form) => filled(form.url)));
                for (const [n, form] of some.entries()) {
                    const { message, reason } = outcomes[n]!;
                    assert.equal(message, "keys cannot be fetched", `${form.url}: ${JSON.stringify(outcomes[n])}`);
                    assert.match(String(reason), form.says, form.url);
                }
                await canary.isUnseen();
            });
        }
    }

    for (const way of ["token_endpoint", "authorization_servers"] as const) {
        for (let from = 0; from < FORMS.length; from += ISSUERS) {
            const some = FORMS.slice(from, from + ISSUERS);
            test(`as ${way}: forms ${from} to ${from + some.length - 1}`, async (t) => {
                const { gateway, told } = await tellTokens(t, liar, way, some.map((form) => filled(form.url)));
                await gateway.stop();
                for (const [n, form] of some.entries()) {
                    const { message, reason } = told[n]!;
                    assert.equal(message, "there is no token for the server", `${form.url}: ${JSON.stringify(told[n])}`);
                    // What is no issuer's name is none that the server has named.
                    const says = `${way}: ${String(reason)}`;
                    if (!/^authorization_servers: .*name no authorization server/.test(says)) assert.match(says, form.says, form.url);
                }
                await canary.isUnseen();
            });
        }
    }

    test("as resource_metadata of a challenge", async (t) => {
        const forms = FORMS.filter((form) => /^[!-\[\]-~]+$/.test(form.url)); // what needs no escape in a quoted string
        for (let from = 0; from < forms.length; from += ISSUERS) {
            const some = forms.slice(from, from + ISSUERS);
            liar.requests.items.splice(0);
            const { gateway, told } = await tellTokens(t, liar, "resource_metadata", some.map((form) => filled(form.url)));
            for (const [n, { message, reason }] of told.entries()) {
                assert.equal(message, "token got for the server", `${some[n]!.url}: ${reason}`);
                // The first token was refused, and the challenge was read: what it names is of no use, so the server is asked
                // for metadata where they are, if they are looked for at all, and then there is another token.
                const isDialled = some[n]!.says.source.includes("nobody configured");
                const line = isDialled ? `GET /.well-known/oauth-protected-resource/rm/${n}` : `POST /rm/${n}`;
                const count = (): number => liar.requests.items.filter((each) => each === line).length;
                await within(liar.requests.waitFor((each) => each === line && count() >= 2), `${some[n]!.url} is read`);
            }
            await gateway.stop();
            await canary.isUnseen();
        }
    });

    test("a token endpoint that redirects is not followed, not even to where it might have been itself", async (t) => {
        const hop = new Liar("127.0.0.1", authority.sign("IP:127.0.0.1"));
        await hop.up();
        t.after(() => hop.down());
        hop.texts = [secure.fill("https://127.0.0.1:PORT/token"), secure.fill("https://10.0.0.1:PORT/token")];
        const env = { ...process.env, SSL_CERT_FILE: authority.file };
        const security = { allow_networks: ["127.0.0.0/8"] };
        const endpoints = hop.texts.map((_text, n) => `${hop.url}/keys/${n}`);
        const { gateway, told } = await tellTokens(t, liar, "token_endpoint", endpoints, { env, security });
        await gateway.stop();
        for (const { reason } of told) assert.match(String(reason), /it redirects, which is not followed/);
        assert.ok(hop.requests.items.includes("POST /keys/0"));
        await secure.isUnseen();
    });

    test("at the end of a chain of redirects that are fine", async (t) => {
        for (const [detours, says] of [
            [1, /a loopback address, which nobody configured/],
            [2, /a loopback address, which nobody configured/],
            [3, /it redirects too often/],
        ] as const) {
            liar.detours = detours;
            t.after(() => (liar.detours = 0));
            const [told] = await tell(t, liar, "redirect", [filled("https://127.0.0.1:PORT/keys")]);
            assert.match(String(told!.reason), says);
            await canary.isUnseen();
        }
    });

    test("through one that a network opens to one that none opens, and back", async (t) => {
        const other = new Liar("127.0.0.2");
        await other.up();
        t.after(() => other.down());
        other.texts = [filled("https://127.0.0.1:PORT/keys"), filled("http://127.0.0.1:PORT/keys"), `${liar.url}/good`];
        const ways = other.texts.map((_text, n) => `${other.url}/keys/${n}`);
        const open = { allow_networks: ["127.0.0.2/32"] };
        const told = await tell(t, liar, "redirect", ways, { security: open });
        assert.match(String(told[0]!.reason), /127\.0\.0\.1 is a loopback address, which nobody configured/);
        assert.match(String(told[1]!.reason), /it redirects: .*has to be https/);
        assert.equal(told[2]!.message, "keys fetched", "the configuration names the last one");
        const closed = await tell(t, liar, "redirect", ways);
        for (const each of closed) assert.match(String(each.reason), /has to be https/);
        await canary.isUnseen();
    });

    test("security.allow_networks opens what it names, and http for loopback alone", async (t) => {
        const open = { allow_networks: ["127.0.0.0/8", "::1/128"] };
        await check(t, canary, "redirect", { security: open }, [
            ["http://127.0.0.1:PORT/a", true],
            ["http://127.1.2.3:PORT/b", true],
            ["http://[::1]:PORT/c", true],
            ["http://[::ffff:127.0.0.1]:PORT/d", true],
            ["http://localhost:PORT/e", true],
            ["http://x.localhost:PORT/f", true],
            ["http://[::127.0.0.1]:PORT/g", /has to be https/],
            ["http://0.0.0.0:PORT/h", /has to be https/],
            ["http://10.0.0.1:PORT/i", /has to be https/],
            ["http://127.1:PORT/m", /no URL/],
            ...CLOSED,
        ]);
        for (const way of ["jwks_uri", "redirect"] as const) {
            await check(t, secure, way, { security: open }, [
                ["https://127.0.0.1:PORT/a", true],
                ["https://127.1.2.3:PORT/b", true],
                ["https://[::1]:PORT/c", true],
                ["https://[::ffff:127.0.0.1]:PORT/d", /the certificate is not for this IP address/], // it was reached
                ["https://localhost:PORT/e", true],
                ...CLOSED,
            ]);
        }
    });

    test("an authority that the configuration names is reached, and only that one", async (t) => {
        const plain = { url: canary.fill("http://127.0.0.1:PORT/named"), expected_issuer: "https://named.test" };
        await check(t, canary, "redirect", { more: [plain] }, [
            ["http://127.0.0.1:PORT/a", true],
            ["HTTP://127.0.0.1:PORT/b", true],
            ["http://[::ffff:7f00:1]:PORT/c", true], // the same address
            ["/named", true, "http://127.0.0.1:PORT/named"],
            ["http://localhost:PORT/e", /has to be https/],
            ["http://127.0.0.2:PORT/f", /has to be https/],
            ["http://[::1]:PORT/g", /has to be https/],
            ["https://127.0.0.1:PORT/h", /127\.0\.0\.1 is a loopback address, which nobody configured/],
            ["http://127.0.0.1:80/i", /has to be https/],
        ]);
        const named = { url: secure.fill("https://localhost:PORT/named"), expected_issuer: "https://named.test" };
        for (const way of ["jwks_uri", "redirect"] as const) {
            await check(t, secure, way, { more: [named] }, [
                ["https://localhost:PORT/a", true],
                ["https://LOCALHOST:PORT/b", true],
                ["/named", true, "https://localhost:PORT/named"],
                ["https://x.localhost:PORT/c", /a loopback address, which nobody configured/],
                ["https://127.0.0.1:PORT/d", /127\.0\.0\.1 is a loopback address, which nobody configured/],
                ["https://[::1]:PORT/e", /::1 is a loopback address, which nobody configured/],
                ["https://localhost:443/f", /a loopback address, which nobody configured/],
                ["http://localhost:PORT/g", /https/],
            ]);
        }
    });
});
