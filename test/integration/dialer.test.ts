/*
 * The dialer's rules from end to end: a server that may be asked (the configuration names it) says where its keys are, or
 * redirects there, and points at whatever it likes. A canary on loopback never sees a connection, and the log says what the
 * address was and which line would open it.
 */
import assert from "node:assert/strict";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import { after, before, describe, test, type TestContext } from "node:test";

import { FORMS, type Form } from "./lib/addresses.ts";
import { startGateway, type Config, type Gateway, type LogEntry, type Value } from "./lib/gateway.ts";
import { makeKey } from "./lib/issuer.ts";
import { Authority, type Certificate } from "./lib/tls.ts";
import { Recording, within } from "./lib/wait.ts";

/** Of one gateway (LIMIT_ISSUERS is 32). */
const ISSUERS = 30;

const KEYS = (() => {
    const { kty, n, e, kid, use, alg } = makeKey();
    return JSON.stringify({ keys: [{ kty, n, e, kid, use, alg }] });
})();

/** Counts whoever comes to a port of this machine, by whichever address. It answers a request for keys. */
class Canary {
    readonly seen = new Recording<string>("connection to the canary");
    readonly asked = new Recording<string>("request to the canary");
    port = 0;
    #server: http.Server;
    #sockets = new Set<net.Socket>();

    constructor(certificate?: Certificate) {
        const answer: http.RequestListener = (request, response) => {
            this.asked.push(request.url!);
            response.writeHead(200, { "Content-Type": "application/json" }).end(KEYS);
        };
        this.#server = certificate === undefined ? http.createServer(answer) : https.createServer(certificate, answer);
    }

    async up(): Promise<void> {
        this.#server.on("connection", (socket) => {
            this.seen.push(`${socket.localAddress}:${socket.localPort}`);
            this.#sockets.add(socket);
            socket.on("error", () => {});
        });
        this.#server.on("clientError", (_error, socket) => socket.destroy());
        await new Promise<void>((resolve) => this.#server.listen(0, "::", resolve));
        this.port = (this.#server.address() as net.AddressInfo).port;
    }

    fill(text: string): string {
        return text.replaceAll("PORT", String(this.port));
    }

    async down(): Promise<void> {
        const closed = new Promise((resolve) => this.#server.close(resolve));
        for (const socket of this.#sockets) socket.destroy();
        await within(closed, "the canary is gone");
    }

    /** Nobody came, and nobody is under way: the probe is accepted behind whoever came before it. */
    async isUnseen(): Promise<void> {
        const before = this.seen.items.length;
        const probe = net.connect(this.port, "127.0.0.1");
        await this.seen.waitFor(() => true, before);
        probe.destroy();
        const visitors = this.seen.items.splice(0);
        assert.equal(visitors.length, 1, `nobody but the probe: ${visitors.join(" ")}`);
    }
}

/** Says what the test has it say: the n-th text is where /keys/n leads, and the jwks_uri of the issuer /i/n. */
class Liar {
    texts: string[] = [];
    /** how often /keys/n redirects to itself before it leads anywhere */
    detours = 0;
    port = 0;
    #host: string;
    #server = http.createServer((request, response) => {
        const url = new URL(request.url!, "http://liar");
        const [, kind, number] = /\/(i|keys)\/(\d+)$/.exec(url.pathname) ?? [];
        const text = this.texts[Number(number)] ?? "";
        const detours = Number(url.searchParams.get("n") ?? 0);
        if (kind === "i") {
            const document = { issuer: `${this.url}/i/${number}`, jwks_uri: text };
            response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(document));
        } else if (kind === "keys") {
            // A field is bytes: they are UTF-8 here, as careless servers send them.
            const location = detours < this.detours ? `${url.pathname}?n=${detours + 1}` : Buffer.from(text).toString("latin1");
            response.writeHead(302, { Location: location }).end();
        } else {
            response.writeHead(url.pathname === "/good" ? 200 : 404, { "Content-Type": "application/json" }).end(KEYS);
        }
    });

    constructor(host = "127.0.0.1") {
        this.#host = host;
    }

    get url(): string {
        return `http://${this.#host}:${this.port}`;
    }

    async up(): Promise<void> {
        await new Promise<void>((resolve) => this.#server.listen(0, this.#host, resolve));
        this.port = (this.#server.address() as net.AddressInfo).port;
    }

    async down(): Promise<void> {
        this.#server.closeAllConnections();
        await new Promise((resolve) => this.#server.close(resolve));
    }
}

type Way = "jwks_uri" | "redirect";

const issuerOf = (liar: Liar, way: Way, n: number): { [key: string]: Value } =>
    way === "jwks_uri"
        ? { issuer: `${liar.url}/i/${n}` }
        : { url: `${liar.url}/keys/${n}`, expected_issuer: `https://issuer-${n}.test` };

const labelOf = (liar: Liar, way: Way, n: number): string => `${liar.url}/${way === "jwks_uri" ? "i" : "keys"}/${n}`;

function configOf(issuers: { [key: string]: Value }[], security: { [key: string]: Value } = {}): Config {
    const [first, ...others] = issuers;
    const all = { ...first, expected_audience: "x", protected_resource: { resource: "http://127.0.0.1:1/mcp" } };
    const rest = others.map((each) => ({ ...each, expected_audience: "x" }));
    return { server: { oauth: { ...all, issuers: rest } }, security, servers: {} };
}

const isOutcome = (entry: LogEntry): boolean =>
    entry.message === "keys cannot be fetched" || entry.message === "keys fetched" || entry.message === "there are no keys";

/** What became of the n-th issuer. */
const outcome = (gateway: Gateway, label: string): Promise<LogEntry> =>
    gateway.waitForLog((entry) => isOutcome(entry) && entry.issuer === label);

interface TellOptions {
    security?: { [key: string]: Value };
    /** issuers besides, which are fine */
    more?: { [key: string]: Value }[];
    env?: NodeJS.ProcessEnv;
}

/** Starts a gateway for whom each text is one issuer's; what became of each. */
async function tell(t: TestContext, liar: Liar, way: Way, texts: string[], options: TellOptions = {}): Promise<LogEntry[]> {
    const { security, more = [], env } = options;
    liar.texts = texts;
    const issuers = texts.map((_text, n) => issuerOf(liar, way, n));
    const gateway = await startGateway({ config: configOf([...issuers, ...more], security), env }, t);
    const labels = [...texts.map((_text, n) => labelOf(liar, way, n)), ...more.map((each) => String(each.url))];
    const outcomes = await Promise.all(labels.map((label) => outcome(gateway, label)));
    await gateway.stop();
    return outcomes;
}

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
                ["https://[::ffff:127.0.0.1]:PORT/d", true],
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
