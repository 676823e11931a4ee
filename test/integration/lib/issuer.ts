/*
 * A real authorization server (oidc-provider) in the test's process: RFC 8414 and OpenID metadata, dynamic
 * registration, PKCE, resource indicators (RFC 8707), access tokens as JWTs (RFC 9068). Whoever `login_hint` names
 * is logged in and consents to everything, without a browser. Its keys can change and it can go away and come back,
 * at the same address.
 */
import { generateKeyPairSync, randomUUID } from "node:crypto";
import http from "node:http";
import net from "node:net";
import type { TestContext } from "node:test";

// @ts-expect-error: it comes without types
import Provider from "oidc-provider";

import { Recording, within } from "./wait.ts";

export const SCOPES = ["mcp:use", "files:read", "files:write"] as const;

/** The id and secret of the client that gets tokens for itself. */
const SERVICE = { id: "service", secret: "the secret of the service, which is long enough" };

type Jwk = { [name: string]: unknown; kid: string };

export function makeKey(kind: "rsa" | "ec" | "ed25519" = "rsa"): Jwk {
    const made =
        kind === "rsa"
            ? generateKeyPairSync("rsa", { modulusLength: 2048 })
            : kind === "ec"
              ? generateKeyPairSync("ec", { namedCurve: "P-256" })
              : generateKeyPairSync("ed25519");
    const alg = { rsa: "RS256", ec: "ES256", ed25519: "EdDSA" }[kind];
    return { ...made.privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg };
}

export interface IssuerOptions {
    /** of the issuer's URL: "" or "/tenant" */
    path?: string;
    keys?: Jwk[];
    /** seconds */
    lifetime?: number;
}

export interface TokenOptions {
    scope?: string;
    /** takes the place of what the token would say */
    claims?: { [name: string]: unknown };
}

interface Token {
    payload: { [name: string]: unknown };
    header: { [name: string]: unknown };
}

export class Issuer {
    url = "";
    /** "GET /path", as they came */
    readonly requests = new Recording<string>("request to the issuer");
    keys: Jwk[];
    /** the set of keys is empty */
    hide = false;
    /** the set of keys is asked for in vain */
    silent = false;
    #options: IssuerOptions;
    #provider: InstanceType<typeof Provider>;
    #listener: http.Server;
    #sockets = new Set<net.Socket>();
    #port = 0;
    #claims: { [name: string]: unknown } = {};

    constructor(options: IssuerOptions) {
        this.#options = options;
        this.keys = options.keys ?? [makeKey()];
        this.#listener = http.createServer((request, response) => void this.#serve(request, response));
        this.#listener.on("connection", (socket) => {
            this.#sockets.add(socket);
            socket.once("close", () => this.#sockets.delete(socket));
        });
    }

    /** At the port that it had, if it had one. */
    async up(): Promise<void> {
        await new Promise<void>((resolve, reject) => {
            this.#listener.once("error", reject);
            this.#listener.listen(this.#port, "127.0.0.1", () => {
                this.#listener.removeListener("error", reject);
                resolve();
            });
        });
        this.#port = (this.#listener.address() as net.AddressInfo).port;
        this.url = `http://127.0.0.1:${this.#port}${this.#options.path ?? ""}`;
        this.#provider ??= this.#make();
    }

    async down(): Promise<void> {
        const closed = new Promise((resolve) => this.#listener.close(resolve));
        for (const socket of this.#sockets) socket.destroy();
        await within(closed, "the issuer is down");
    }

    get jwksUrl(): string {
        return `${this.url}/jwks`;
    }

    /** These keys from now on; tokens are signed with the first one. */
    rotate(keys: Jwk[]): void {
        this.keys = keys;
        this.#provider = this.#make();
    }

    /** How often a document was asked for. */
    count(path: string): number {
        return this.requests.items.filter((item) => item === `GET ${path}`).length;
    }

    /** By client_credentials (RFC 6749 section 4.4), for this resource. */
    async token(resource: string, options: TokenOptions = {}): Promise<string> {
        this.#claims = options.claims ?? {};
        const answer = await fetch(`${this.url}/token`, {
            method: "POST",
            headers: {
                Authorization: `Basic ${Buffer.from(`${SERVICE.id}:${encodeURIComponent(SERVICE.secret)}`).toString("base64")}`,
            },
            body: new URLSearchParams({
                grant_type: "client_credentials",
                resource,
                scope: options.scope ?? SCOPES[0],
            }),
        });
        this.#claims = {};
        const body = (await answer.json()) as { access_token?: string };
        if (body.access_token === undefined) {
            throw new Error(`no token: ${answer.status} ${JSON.stringify(body)} ${this.requests.items.at(-1)}`);
        }
        return body.access_token;
    }

    #make(): InstanceType<typeof Provider> {
        const provider = new Provider(this.url, {
            clients: [
                {
                    client_id: SERVICE.id,
                    client_secret: SERVICE.secret,
                    grant_types: ["client_credentials"],
                    redirect_uris: [],
                    response_types: [],
                    scope: SCOPES.join(" "),
                },
            ],
            cookies: { keys: ["a key for cookies of a test"] },
            jwks: { keys: this.keys },
            scopes: ["openid", "offline_access", ...SCOPES],
            clientAuthMethods: ["client_secret_basic", "client_secret_post", "none"],
            features: {
                devInteractions: { enabled: false },
                clientCredentials: { enabled: true },
                registration: { enabled: true },
                resourceIndicators: {
                    enabled: true,
                    getResourceServerInfo: (_ctx: unknown, resource: string) => ({
                        scope: SCOPES.join(" "),
                        audience: resource,
                        accessTokenFormat: "jwt",
                        accessTokenTTL: this.#options.lifetime ?? 600,
                        jwt: { sign: { alg: this.keys[0]!.alg, kid: this.keys[0]!.kid } },
                    }),
                    useGrantedResource: () => true,
                },
            },
            formats: {
                customizers: {
                    jwt: (_ctx: unknown, _token: unknown, parts: Token) => Object.assign(parts.payload, this.#claims),
                },
            },
            // Clients register with the scopes that they know of then, and learn of others later.
            extraClientMetadata: {
                properties: ["all_scopes"],
                validator: (_ctx: unknown, _key: string, _value: unknown, metadata: { scope?: string }) => {
                    metadata.scope = SCOPES.join(" ");
                },
            },
            interactions: { url: (_ctx: unknown, { uid }: { uid: string }) => `${this.url}/interaction/${uid}` },
            findAccount: (_ctx: unknown, id: string) => ({ accountId: id, claims: () => ({ sub: id }) }),
            pkce: { required: () => true },
        });
        provider.on("server_error", (_ctx: unknown, error: Error) => this.requests.push(`error: ${error.stack}`));
        return provider;
    }

    async #serve(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
        const path = this.#options.path ?? "";
        const { pathname } = new URL(request.url!, this.url);
        this.requests.push(`${request.method} ${pathname}`);
        if (!pathname.startsWith(path)) {
            response.writeHead(404).end();
            return;
        }
        if (pathname === `${path}/jwks` && this.silent) return;
        if (pathname === `${path}/jwks` && this.hide) {
            response.writeHead(200, { "Content-Type": "application/jwk-set+json" }).end('{"keys":[]}');
            return;
        }
        (request as http.IncomingMessage & { originalUrl?: string }).originalUrl = request.url;
        request.url = request.url!.slice(path.length) || "/";
        if (pathname.startsWith(`${path}/interaction/`)) await this.#interact(request, response);
        else await this.#provider.callback()(request, response);
    }

    /** Says yes to whatever is asked. */
    async #interact(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
        const { prompt, params, session, grantId } = await this.#provider.interactionDetails(request, response);
        if (prompt.name === "login") {
            const login = { accountId: String(params.login_hint ?? "somebody") };
            return this.#provider.interactionFinished(request, response, { login });
        }
        const grant =
            grantId === undefined
                ? new this.#provider.Grant({ accountId: session.accountId, clientId: params.client_id })
                : await this.#provider.Grant.find(grantId);
        const { missingOIDCScope, missingResourceScopes } = prompt.details;
        if (missingOIDCScope !== undefined) grant.addOIDCScope(missingOIDCScope.join(" "));
        for (const [resource, scopes] of Object.entries(missingResourceScopes ?? {})) {
            grant.addResourceScope(resource, (scopes as string[]).join(" "));
        }
        return this.#provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } });
    }
}

export async function startIssuer(t: TestContext | undefined, options: IssuerOptions = {}): Promise<Issuer> {
    const issuer = new Issuer(options);
    await issuer.up();
    t?.after(() => issuer.down());
    return issuer;
}

/** Cookies of one browser. */
class Jar {
    #cookies = new Map<string, string>();
    take(response: Response): void {
        for (const line of response.headers.getSetCookie()) {
            const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!;
            if (value === "") this.#cookies.delete(name!);
            else this.#cookies.set(name!, value!);
        }
    }
    get header(): string {
        return [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    }
}

/** What a browser does with the URL of an authorization request: the URL to which it is sent back. */
export async function browse(url: URL, user: string, redirect: string): Promise<URL> {
    const jar = new Jar();
    let next = new URL(url);
    next.searchParams.set("login_hint", user);
    for (let n = 0; n < 12; n++) {
        const response = await fetch(next, { redirect: "manual", headers: { Cookie: jar.header } });
        const text = await response.text();
        const location = response.headers.get("location");
        if (location === null) throw new Error(`${next.pathname} got ${response.status} ${text.slice(0, 600)}`);
        jar.take(response);
        next = new URL(location, next);
        if (next.href.startsWith(redirect)) return next;
    }
    throw new Error("too many redirects");
}
