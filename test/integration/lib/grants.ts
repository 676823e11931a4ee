/*
 * Authorization servers that give tokens to the gateway, and a server behind it that takes no others:
 *
 *  - Grantor: oidc-provider, with client_credentials for clients that prove themselves in every way, and with token
 *    exchange (RFC 8693) as a grant of its own, which believes no subject token that it has not verified;
 *  - FakeGrantor: says what a test has it say, and keeps all that it hears;
 *  - Guarded: an MCP server that verifies its tokens, tells by RFC 9728 where they come from, and refuses with
 *    challenges (RFC 6750).
 */
import { createPrivateKey, randomUUID, type JsonWebKeyInput } from "node:crypto";
import { writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import { join } from "node:path";
import type { TestContext } from "node:test";

// @ts-expect-error: it comes without types
import Provider, { errors } from "oidc-provider";

import { HttpFixture, startHttp, type Exchange, type HttpOptions, type Received } from "../fixtures/http-server.ts";
import type { Value } from "./gateway.ts";
import { makeKey } from "./issuer.ts";
import { signJwt, verifyJwt, type Claims, type Jwk } from "./jwt.ts";
import { removeFolder, temporaryFolder } from "./temp.ts";
import { Recording, within } from "./wait.ts";

export const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
export const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";
export const ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
export const SCOPES = ["mcp:use", "files:read", "files:write"] as const;

/** With all that has to be escaped before it is base64 (RFC 6749 section 2.3.1). */
export const SECRET = 'a secret: of 100% + more & "quotes" = ~/\\';

export const ALGORITHMS = { ES256: "ec", RS256: "rsa", EdDSA: "ed25519" } as const;

/** The clients that there are, by their ids. */
export const CLIENTS = {
    basic: "gateway: basic+50%",
    post: "gateway-post&x=y",
    ES256: "gateway-es256",
    RS256: "gateway-rs256",
    EdDSA: "gateway-eddsa",
} as const;

const clientKeys: { [id: string]: Jwk } = {
    [CLIENTS.ES256]: makeKey("ec"),
    [CLIENTS.RS256]: makeKey("rsa"),
    [CLIENTS.EdDSA]: makeKey("ed25519"),
};

export const clientKey = (id: string): Jwk => clientKeys[id]!;

/** The file of its private key. */
export function keyFile(t: TestContext, id: string): string {
    const folder = temporaryFolder();
    t.after(() => removeFolder(folder));
    const path = join(folder, "client.pem");
    const key = createPrivateKey({ key: clientKey(id), format: "jwk" } as unknown as JsonWebKeyInput);
    writeFileSync(path, key.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
    return path;
}

/** [mcp.servers.NAME.auth] */
export const credentials = (
    issuer: string | undefined,
    more: { [key: string]: Value } = {},
): { [key: string]: Value } => ({
    type: "client_credentials",
    ...(issuer === undefined ? {} : { issuer }),
    client_id: CLIENTS.basic,
    client_secret: SECRET,
    ...more,
});

/** One request for a token, with what came of it. */
export interface Grant {
    at: number;
    form: URLSearchParams;
    authorization: string | undefined;
    status: number;
    body: { access_token?: string; error?: string; [name: string]: unknown };
}

const publicKey = ({ kty, crv, x, y, n, e, kid, alg, use }: Jwk): object => ({ kty, crv, x, y, n, e, kid, alg, use });

/** Where HTTP is spoken: it can go away and come back, at the same address. */
abstract class Place {
    url = "";
    /** "GET /path", as they came */
    readonly requests = new Recording<string>("request to the authorization server");
    /** what is asked is answered when this is done */
    gate: Promise<void> | undefined;
    protected path: string;
    #host: string;
    #scheme: string;
    #listener: http.Server;
    #sockets = new Set<net.Socket>();
    #port = 0;

    /** that were opened to it */
    connections = 0;

    constructor(path: string, host = "127.0.0.1", tls?: https.ServerOptions) {
        this.path = path;
        this.#host = host;
        this.#scheme = tls === undefined ? "http" : "https";
        const listen = (request: http.IncomingMessage, response: http.ServerResponse) => {
            this.requests.push(`${request.method} ${request.url}`);
            if (this.gate === undefined) void this.serve(request, response);
            else void this.gate.then(() => this.serve(request, response));
        };
        this.#listener = tls === undefined ? http.createServer(listen) : https.createServer(tls, listen);
        this.#listener.on("connection", (socket: net.Socket) => {
            this.connections++;
            this.#sockets.add(socket);
            socket.once("close", () => this.#sockets.delete(socket));
        });
    }

    /** What is asked waits until the function that this gives is called. */
    close(): () => void {
        const { promise, resolve } = Promise.withResolvers<void>();
        this.gate = promise;
        return () => {
            this.gate = undefined;
            resolve();
        };
    }

    protected abstract serve(request: http.IncomingMessage, response: http.ServerResponse): Promise<void>;
    protected begin(): void {}

    async up(): Promise<void> {
        await new Promise<void>((resolve, reject) => {
            this.#listener.once("error", reject);
            this.#listener.listen(this.#port, this.#host, () => {
                this.#listener.removeListener("error", reject);
                resolve();
            });
        });
        this.#port = (this.#listener.address() as net.AddressInfo).port;
        this.url = `${this.#scheme}://${this.#host}:${this.#port}${this.path}`;
        this.begin();
    }

    get origin(): string {
        return new URL(this.url).origin;
    }

    get port(): number {
        return this.#port;
    }

    /** Nobody listens any more. */
    async down(): Promise<void> {
        const closed = new Promise((resolve) => this.#listener.close(resolve));
        for (const socket of this.#sockets) socket.destroy();
        await within(closed, "the authorization server is down");
    }

    count(line: string): number {
        return this.requests.items.filter((item) => item === line).length;
    }
}

export interface GrantorOptions {
    /** of its URL: "" or "/tenant" */
    path?: string;
    keys?: Jwk[];
    /** of a token, in seconds */
    lifetime?: number;
    /** documents of RFC 8414 are not there, only those of OpenID Connect */
    openid?: boolean;
}

export class Grantor extends Place {
    keys: Jwk[];
    lifetime: number;
    /** asked for tokens, when it was answered */
    readonly grants = new Recording<Grant>("grant");
    /** users for whom no token is exchanged */
    readonly denied = new Set<string>();
    /** what tokens may be for that are exchanged: the gateway's URLs */
    readonly gateways: string[] = [];
    #options: GrantorOptions;
    #provider: InstanceType<typeof Provider>;
    /** what exchanged tokens say beside the rest */
    #extra = new WeakMap<object, Claims>();

    constructor(options: GrantorOptions) {
        super(options.path ?? "");
        this.#options = options;
        this.keys = options.keys ?? [makeKey("ec")];
        this.lifetime = options.lifetime ?? 600;
    }

    protected override begin(): void {
        this.#provider ??= this.#make();
    }

    /** These keys from now on; tokens are signed with the first one. */
    rotate(keys: Jwk[]): void {
        this.keys = keys;
        this.#provider = this.#make();
    }

    /** An access token of a user for the gateway. */
    token(user: string, resource: string, claims: Claims = {}): string {
        const now = Math.floor(Date.now() / 1000);
        const all = {
            iss: this.url,
            sub: user,
            aud: resource,
            client_id: "a client of the tests",
            scope: "mcp:use files:read files:write",
            iat: now,
            exp: now + 600,
            jti: randomUUID(),
        };
        return signJwt(this.keys[0]!, { ...all, ...claims });
    }

    /** Those that were given. */
    get given(): Grant[] {
        return this.grants.items.filter((grant) => grant.status === 200);
    }

    #make(): InstanceType<typeof Provider> {
        const common = {
            redirect_uris: [],
            response_types: [],
            grant_types: ["client_credentials", EXCHANGE],
            id_token_signed_response_alg: this.keys[0]!.alg,
        };
        const secret = { client_secret: SECRET, scope: SCOPES.join(" ") };
        const provider = new Provider(this.url, {
            clients: [
                { ...common, ...secret, client_id: CLIENTS.basic, token_endpoint_auth_method: "client_secret_basic" },
                { ...common, ...secret, client_id: CLIENTS.post, token_endpoint_auth_method: "client_secret_post" },
                ...Object.entries(clientKeys).map(([id, key]) => ({
                    ...common,
                    client_id: id,
                    scope: SCOPES.join(" "),
                    token_endpoint_auth_method: "private_key_jwt",
                    token_endpoint_auth_signing_alg: key.alg,
                    jwks: { keys: [publicKey(key)] },
                })),
            ],
            cookies: { keys: ["a key for cookies of a test"] },
            jwks: { keys: this.keys },
            scopes: ["openid", "offline_access", ...SCOPES],
            clientAuthMethods: ["client_secret_basic", "client_secret_post", "private_key_jwt"],
            enabledJWA: { clientAuthSigningAlgValues: Object.keys(ALGORITHMS) },
            features: {
                devInteractions: { enabled: false },
                clientCredentials: { enabled: true },
                resourceIndicators: {
                    enabled: true,
                    getResourceServerInfo: (_ctx: unknown, resource: string) => this.#resource(resource),
                },
            },
            formats: {
                customizers: {
                    jwt: (_ctx: unknown, token: object, parts: { payload: Claims }) =>
                        Object.assign(parts.payload, this.#extra.get(token)),
                },
            },
            ttl: { ClientCredentials: () => this.lifetime, AccessToken: () => this.lifetime },
            findAccount: (_ctx: unknown, id: string) => ({ accountId: id, claims: () => ({ sub: id }) }),
        });
        const parameters = ["audience", "resource", "scope", "subject_token", "subject_token_type"];
        const more = ["requested_token_type", "actor_token", "actor_token_type"];
        provider.registerGrantType(EXCHANGE, (ctx: never) => this.#exchange(provider, ctx), [...parameters, ...more]);
        provider.on("server_error", (_ctx: unknown, error: Error) => this.requests.push(`error: ${error.stack}`));
        return provider;
    }

    #resource(resource: string): object {
        return {
            scope: SCOPES.join(" "),
            audience: resource,
            accessTokenFormat: "jwt",
            accessTokenTTL: this.lifetime,
            jwt: { sign: { alg: this.keys[0]!.alg, kid: this.keys[0]!.kid } },
        };
    }

    /** RFC 8693 section 2. */
    async #exchange(provider: InstanceType<typeof Provider>, ctx: { [name: string]: any }): Promise<void> {
        const { client, params } = ctx.oidc;
        if (params.subject_token_type !== ACCESS_TOKEN) throw new errors.InvalidRequest("subject_token_type");
        if (![undefined, ACCESS_TOKEN].includes(params.requested_token_type))
            throw new errors.InvalidRequest("requested_token_type");
        if (typeof params.resource !== "string") throw new errors.InvalidTarget("resource is missing");
        let subject: Claims;
        try {
            subject = verifyJwt(params.subject_token, { keys: this.keys, issuer: this.url, audience: this.gateways });
        } catch (error) {
            throw new errors.InvalidRequest(`subject_token: ${String(error)}`);
        }
        const user = String(subject.sub);
        if (this.denied.has(user)) throw new errors.AccessDenied("not this user");
        const has = new Set(String(subject.scope ?? "").split(" "));
        const asked = params.scope === undefined ? [...has] : String(params.scope).split(" ");
        const scope = asked.filter((each) => has.has(each));
        if (scope.length === 0) throw new errors.InvalidScope("none of them", params.scope);
        const left = Math.floor(Number(subject.exp) - Date.now() / 1000);
        const token = new provider.AccessToken({
            accountId: user,
            client,
            gty: "token-exchange",
            scope: scope.join(" "),
            expiresIn: Math.max(1, Math.min(this.lifetime, left)),
        });
        this.#extra.set(token, { act: { sub: client.clientId }, azp: subject.client_id });
        token.resourceServer = new provider.ResourceServer(params.resource, this.#resource(params.resource));
        ctx.body = {
            access_token: await token.save(),
            issued_token_type: ACCESS_TOKEN,
            token_type: "Bearer",
            expires_in: token.expiration,
            scope: token.scope,
        };
    }

    protected async serve(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
        const { pathname } = new URL(request.url!, this.url);
        const { path } = this;
        // Documents of issuers with a path: RFC 8414 section 3.1 puts it last, and OpenID Connect first.
        if (
            !pathname.startsWith(path) ||
            (this.#options.openid === true && pathname.includes("authorization-server"))
        ) {
            const known = "/.well-known/oauth-authorization-server";
            if (path === "" || this.#options.openid === true || pathname !== `${known}${path}`) {
                response.writeHead(404).end();
                return;
            }
            request.url = `${path}/.well-known/openid-configuration`;
        }
        if (pathname === `${path}/token`) this.#record(request, response);
        (request as http.IncomingMessage & { originalUrl?: string }).originalUrl = request.url;
        request.url = request.url!.slice(path.length) || "/";
        await this.#provider.callback()(request, response);
    }

    /** What passes by. */
    #record(request: http.IncomingMessage, response: http.ServerResponse): void {
        const at = Date.now();
        let asked = "";
        const push = request.push.bind(request);
        request.push = (chunk: Buffer | null, ...rest) => {
            if (chunk !== null) asked += chunk.toString("utf8");
            return push(chunk, ...rest);
        };
        const end = response.end.bind(response);
        response.end = ((body?: string | Buffer) => {
            this.grants.push({
                at,
                form: new URLSearchParams(asked),
                authorization: request.headers.authorization,
                status: response.statusCode,
                body: JSON.parse(String(body ?? "{}") || "{}") as Grant["body"],
            });
            return end(body);
        }) as typeof response.end;
    }
}

export async function startGrantor(t: TestContext | undefined, options: GrantorOptions = {}): Promise<Grantor> {
    const grantor = new Grantor(options);
    await grantor.up();
    t?.after(() => grantor.down());
    return grantor;
}

/** What a stranger was asked. */
export interface Asked {
    method: string;
    path: string;
    headers: http.IncomingHttpHeaders;
    body: string;
    form: URLSearchParams;
}

export type Answering = (asked: Asked, response: http.ServerResponse) => unknown;

export class FakeGrantor extends Place {
    readonly asked = new Recording<Asked>("asked of the fake authorization server");
    /** what its metadata say in place of what is right, undefined: not at all */
    metadata: { [name: string]: unknown } = {};
    /** where they are, below its origin */
    documents = new Set<string>();
    /** of its token endpoint, the next answers first */
    readonly next: Answering[] = [];
    answer: Answering = (_asked, response) => grant(response);
    /** for any request; true: it has answered */
    on: ((asked: Asked, response: http.ServerResponse) => boolean | Promise<boolean>) | undefined;

    protected override begin(): void {
        this.documents.add(`/.well-known/oauth-authorization-server${this.path}`);
    }

    get tokens(): Asked[] {
        return this.asked.items.filter((each) => each.method === "POST");
    }

    /** In whatever form. */
    hasHeard(...secrets: string[]): boolean {
        const basic = this.asked.items.map(
            ({ headers }) => /^Basic (.*)$/.exec(headers.authorization ?? "")?.[1] ?? "",
        );
        const decoded = basic.map((text) => Buffer.from(text, "base64").toString());
        const raw = this.asked.items.flatMap(({ path, headers, body }) => [
            path,
            body,
            ...Object.values(headers).flat(),
        ]);
        const all = [...raw, ...decoded].flatMap((text = "") => {
            const plain = text
                .replaceAll("+", " ")
                .replace(/(%[0-9a-f]{2})+/gi, (part) => Buffer.from(part.replaceAll("%", ""), "hex").toString());
            return [text, plain];
        });
        return secrets.some((secret) =>
            all.some((text) => text.includes(secret) || text.includes(secret.replaceAll("+", " "))),
        );
    }

    protected async serve(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
        request.setEncoding("utf8");
        let body = "";
        for await (const chunk of request) body += chunk;
        const asked: Asked = {
            method: request.method!,
            path: request.url!,
            headers: request.headers,
            body,
            form: new URLSearchParams(body),
        };
        this.asked.push(asked);
        if (this.on !== undefined && (await this.on(asked, response))) return;
        if (asked.method === "GET" && this.documents.has(asked.path)) return json(response, this.#document());
        if (asked.method === "POST") return void (this.next.shift() ?? this.answer)(asked, response);
        response.writeHead(404).end();
    }

    #document(): object {
        return {
            issuer: this.url,
            token_endpoint: `${this.url}/token`,
            authorization_endpoint: `${this.url}/authorize`,
            response_types_supported: ["code"],
            grant_types_supported: ["client_credentials", EXCHANGE],
            token_endpoint_auth_methods_supported: ["client_secret_basic"],
            code_challenge_methods_supported: ["S256"],
            ...this.metadata,
        };
    }
}

export function json(response: http.ServerResponse, value: unknown, status = 200): void {
    response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store" });
    response.end(typeof value === "string" ? value : JSON.stringify(value));
}

/** A token, with what is said about it. */
export function grant(response: http.ServerResponse, more: { [name: string]: unknown } = {}): void {
    json(response, { access_token: `opaque-${randomUUID()}`, token_type: "Bearer", expires_in: 600, ...more });
}

export async function startFakeGrantor(
    t: TestContext | undefined,
    path = "",
    host?: string,
    tls?: https.ServerOptions,
): Promise<FakeGrantor> {
    const grantor = new FakeGrantor(path, host, tls);
    await grantor.up();
    t?.after(() => grantor.down());
    return grantor;
}

/** One request of the gateway to the guarded server. */
export interface Visit {
    at: number;
    request: Received;
    token: string | undefined;
    /** of a token that was taken */
    claims: Claims | undefined;
    status: 200 | 401 | 403;
    why: string;
}

export interface GuardedOptions extends HttpOptions {
    /** tokens are verified with its keys */
    grantor?: Grantor;
    /** what its metadata say in place of what is right; false: it has none */
    metadata?: { [name: string]: unknown } | false;
    /** where they are, below the origin */
    documents?: string[];
    /** what it says with 401, behind "Bearer " */
    challenge?: string;
}

const WELL_KNOWN = "/.well-known/oauth-protected-resource";

/** By path and by challenge, as the specification asks of servers. */
export const pathDocument = `${WELL_KNOWN}/mcp`;
export const rootDocument = WELL_KNOWN;

export class Guarded {
    fixture!: HttpFixture;
    readonly visits = new Recording<Visit>("visit of the guarded server");
    /** GETs of documents */
    readonly looks = new Recording<string>("document of the guarded server");
    metadata: { [name: string]: unknown } | false;
    documents: Set<string>;
    challenge: string;
    /** what a tool needs beyond a token */
    readonly wants = new Map<string, string>();
    /** tokens that it takes no longer */
    readonly revoked = new Set<string>();
    /** nobody is let in */
    isClosed = false;
    /** what stands for a token that is no JWT; throws */
    check: (token: string) => Claims;
    #grantor: Grantor | undefined;

    constructor(options: GuardedOptions) {
        this.#grantor = options.grantor;
        this.metadata = options.metadata ?? {};
        this.documents = new Set(options.documents ?? [pathDocument]);
        this.challenge = options.challenge ?? "";
        this.check = (token) => {
            if (this.#grantor === undefined) return { sub: "whoever", scope: "" };
            const { keys, url: issuer } = this.#grantor;
            return verifyJwt(token, { keys, issuer, audience: [this.url] });
        };
    }

    get url(): string {
        return this.fixture.url;
    }

    get origin(): string {
        return new URL(this.url).origin;
    }

    /** Those of MCP that were let in. */
    get served(): Visit[] {
        return this.visits.items.filter((visit) => visit.status === 200);
    }

    visitsOf(method: string, from = 0): Visit[] {
        return this.visits.items
            .slice(from)
            .filter(({ request }) => request.message?.method === method || request.method === method);
    }

    /** True: it has been answered. */
    on(exchange: Exchange): boolean {
        const { request } = exchange;
        if (request.path.startsWith("/.well-known/") || this.documents.has(request.path)) {
            this.looks.push(request.path);
            this.#document(exchange);
            return true;
        }
        const values = request.fields.filter(([name]) => name.toLowerCase() === "authorization");
        const token = /^Bearer ([A-Za-z0-9._~+/=-]+)$/.exec(values[0]?.[1] ?? "")?.[1];
        const visit: Visit = { at: Date.now(), request, token, claims: undefined, status: 401, why: "" };
        try {
            if (values.length > 1) throw new Error("there are two credentials");
            if (token === undefined) throw new Error("there is no token");
            if (this.isClosed) throw new Error("it is closed");
            if (this.revoked.has(token)) throw new Error("it is revoked");
            visit.claims = this.check(token);
            visit.status = 200;
        } catch (error) {
            visit.why = (error as Error).message;
        }
        const needed = this.wants.get(String(request.message?.params?.name));
        const isWanting =
            visit.status === 200 &&
            needed !== undefined &&
            request.message?.method === "tools/call" &&
            !needed.split(" ").every((each) => String(visit.claims!.scope).split(" ").includes(each));
        if (isWanting) visit.status = 403;
        this.visits.push(visit);
        if (visit.status === 200) return false;
        const error = isWanting ? [`error="insufficient_scope"`, `scope="${needed}"`] : [];
        if (visit.status === 401 && token !== undefined) error.push(`error="invalid_token"`);
        const fields = [...error, ...(this.challenge === "" ? [] : [this.challenge])].join(", ");
        exchange.empty(visit.status, { "WWW-Authenticate": `Bearer ${fields}`.trim() });
        return true;
    }

    #document(exchange: Exchange): void {
        if (this.metadata === false || !this.documents.has(exchange.request.path)) return exchange.empty(404);
        exchange.json({
            resource: this.url,
            ...(this.#grantor === undefined ? {} : { authorization_servers: [this.#grantor.url] }),
            bearer_methods_supported: ["header"],
            ...this.metadata,
        });
    }
}

export async function startGuarded(t: TestContext | undefined, options: GuardedOptions = {}): Promise<Guarded> {
    const guarded = new Guarded(options);
    const {
        grantor: _grantor,
        metadata: _metadata,
        documents: _documents,
        challenge: _challenge,
        on,
        ...rest
    } = options;
    guarded.fixture = await startHttp(
        { ...rest, on: async (exchange) => guarded.on(exchange) || ((await on?.(exchange)) ?? false) },
        t,
    );
    return guarded;
}
