/*
 * Servers that lie about where to go, a canary that counts whoever comes, and a gateway that believes too much or does not.
 */
import assert from "node:assert/strict";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import type { TestContext } from "node:test";

import { startGateway, type Config, type Gateway, type LogEntry, type ServerConfig, type Value } from "./gateway.ts";
import { makeKey } from "./issuer.ts";
import type { Certificate } from "./tls.ts";
import { Recording, within } from "./wait.ts";

export const KEYS = (() => {
    const { kty, n, e, kid, use, alg } = makeKey();
    return JSON.stringify({ keys: [{ kty, n, e, kid, use, alg }] });
})();

/** Counts whoever comes to a port of this machine, by whichever address. It answers a request for keys. */
export class Canary {
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

    /** At a port of its own, or that one. */
    async up(host = "::", port = 0): Promise<void> {
        this.#server.on("connection", (socket: net.Socket) => {
            this.seen.push(`${socket.localAddress}:${socket.localPort}`);
            this.#sockets.add(socket);
            socket.on("error", () => {});
        });
        this.#server.on("clientError", (_error, socket) => socket.destroy());
        await new Promise<void>((resolve) => this.#server.listen(port, host, resolve));
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
    async isUnseen(host = "127.0.0.1"): Promise<void> {
        const before = this.seen.items.length;
        const probe = net.connect(this.port, host);
        await this.seen.waitFor(() => true, before);
        probe.destroy();
        const visitors = this.seen.items.splice(0);
        assert.equal(visitors.length, 1, `nobody but the probe: ${visitors.join(" ")}`);
    }
}

/**
 * Says what the test has it say: the n-th text is where /keys/n leads, the jwks_uri of the issuer /i/n, the token_endpoint
 * of /t/n, the authorization server of the MCP server /as/n, and the resource_metadata of the challenges of /rm/n. Whatever
 * else there is to ask on the way there is as it should be.
 */
export class Liar {
    texts: string[] = [];
    /** how often /keys/n redirects to itself before it leads anywhere */
    detours = 0;
    port = 0;
    /** "POST /token" */
    readonly requests = new Recording<string>("request to the liar");
    #host: string;
    #scheme: "http" | "https";
    #server: http.Server;
    #serve: http.RequestListener = (request, response) => {
        const url = new URL(request.url!, "http://liar");
        const [, kind, number] = /\/(i|keys|t|good|mcp|as|rm)\/(\d+)$/.exec(url.pathname) ?? [];
        const text = this.texts[Number(number)] ?? "";
        const detours = Number(url.searchParams.get("n") ?? 0);
        const say = (document: object): void => {
            response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(document));
        };
        const challenge = `Bearer resource_metadata="${text}"`;
        this.requests.push(`${request.method} ${url.pathname}`);
        if (request.method === "POST" && url.pathname === "/token") {
            say({ access_token: `token-${this.requests.items.length}`, token_type: "Bearer", expires_in: 600 });
        } else if (request.method === "POST" && kind === "rm") {
            response.writeHead(401, { "WWW-Authenticate": challenge }).end();
        } else if (kind === "i") {
            say({ issuer: `${this.url}/i/${number}`, jwks_uri: text });
        } else if (kind === "t") {
            say({ issuer: `${this.url}/t/${number}`, token_endpoint: text });
        } else if (kind === "good") {
            say({ issuer: `${this.url}/good/${number}`, token_endpoint: `${this.url}/token` });
        } else if ((kind === "as" || kind === "rm") && url.pathname.startsWith("/.well-known/oauth-protected-resource/")) {
            const servers = [kind === "as" ? text : `${this.url}/good/${number}`];
            say({ resource: `${this.url}/${kind}/${number}`, authorization_servers: servers });
        } else if (kind === "keys") {
            // A field is bytes: they are UTF-8 here, as careless servers send them.
            const location = detours < this.detours ? `${url.pathname}?n=${detours + 1}` : Buffer.from(text).toString("latin1");
            response.writeHead(302, { Location: location }).end();
        } else {
            response.writeHead(url.pathname === "/good" ? 200 : 404, { "Content-Type": "application/json" }).end(KEYS);
        }
    };

    constructor(host = "127.0.0.1", certificate?: Certificate) {
        this.#host = host;
        this.#scheme = certificate === undefined ? "http" : "https";
        this.#server = certificate === undefined ? http.createServer(this.#serve) : https.createServer(certificate, this.#serve);
    }

    get url(): string {
        return `${this.#scheme}://${this.#host}:${this.port}`;
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

export type Way = "jwks_uri" | "redirect";

const issuerOf = (liar: Liar, way: Way, n: number): { [key: string]: Value } =>
    way === "jwks_uri"
        ? { issuer: `${liar.url}/i/${n}` }
        : { url: `${liar.url}/keys/${n}`, expected_issuer: `https://issuer-${n}.test` };

const labelOf = (liar: Liar, way: Way, n: number): string => `${liar.url}/${way === "jwks_uri" ? "i" : "keys"}/${n}`;

export function configOf(issuers: { [key: string]: Value }[], security: { [key: string]: Value } = {}): Config {
    const [first, ...others] = issuers;
    const all = { ...first, expected_audience: "x", protected_resource: { resource: "http://127.0.0.1:1/mcp" } };
    const rest = others.map((each) => ({ ...each, expected_audience: "x" }));
    return { server: { oauth: { ...all, issuers: rest } }, security, servers: {} };
}

const isOutcome = (entry: LogEntry): boolean =>
    entry.message === "keys cannot be fetched" || entry.message === "keys fetched" || entry.message === "there are no keys";

/** What became of the n-th issuer. */
export const outcome = (gateway: Gateway, label: string): Promise<LogEntry> =>
    gateway.waitForLog((entry) => isOutcome(entry) && entry.issuer === label);

export interface TellOptions {
    security?: { [key: string]: Value };
    /** issuers besides, which are fine */
    more?: { [key: string]: Value }[];
    env?: NodeJS.ProcessEnv;
}

/** Starts a gateway for whom each text is one issuer's; what became of each. */
export async function tell(t: TestContext, liar: Liar, way: Way, texts: string[], options: TellOptions = {}): Promise<LogEntry[]> {
    const { security, more = [], env } = options;
    liar.texts = texts;
    const issuers = texts.map((_text, n) => issuerOf(liar, way, n));
    const gateway = await startGateway({ config: configOf([...issuers, ...more], security), env }, t);
    const labels = [...texts.map((_text, n) => labelOf(liar, way, n)), ...more.map((each) => String(each.url))];
    const outcomes = await Promise.all(labels.map((label) => outcome(gateway, label)));
    await gateway.stop();
    return outcomes;
}

/** Places in what concerns the tokens that the gateway gets for servers. */
export type TokenWay = "token_endpoint" | "authorization_servers" | "resource_metadata";

const PATHS = { token_endpoint: "mcp", authorization_servers: "as", resource_metadata: "rm" } as const;

const isTokenOutcome = (entry: LogEntry): boolean =>
    entry.message === "there is no token for the server" || entry.message === "token got for the server";

/** Starts a gateway for whom each text is in the way of one server's token; what became of each. */
export async function tellTokens(
    t: TestContext,
    liar: Liar,
    way: TokenWay,
    texts: string[],
    options: TellOptions = {},
): Promise<{ gateway: Gateway; told: LogEntry[] }> {
    liar.texts = texts;
    const servers: { [name: string]: ServerConfig } = {};
    for (const n of texts.keys()) {
        const issuer = way === "token_endpoint" ? { issuer: `${liar.url}/t/${n}` } : {};
        const auth = { type: "client_credentials", client_id: "gateway", client_secret: "a secret of the gateway's own", ...issuer };
        servers[`s${n}`] = { url: `${liar.url}/${PATHS[way]}/${n}`, protocol: "streamable-http", auth };
    }
    const config: Config = { security: options.security ?? {}, servers };
    const gateway = await startGateway({ config, env: options.env }, t);
    const first = (name: string): Promise<LogEntry> =>
        gateway.waitForLog((entry) => isTokenOutcome(entry) && entry.server === name);
    return { gateway, told: await Promise.all(Object.keys(servers).map(first)) };
}
