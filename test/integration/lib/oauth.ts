/*
 * A gateway that takes the access tokens of issuers, at a port that is known before, because its URL is the resource
 * that tokens are for; and what the official SDKs need to get one: a provider that browses (issuer.ts) for a user.
 */
import net from "node:net";
import type { TestContext } from "node:test";

import type { OAuthClientProvider as OldProvider } from "@modelcontextprotocol/sdk/client/auth.js";
import type { OAuthClientProvider as NewProvider } from "@modelcontextprotocol/client";

import { launchGateway, type Config, type Gateway, type GatewayOptions, type ServerConfig, type Value } from "./gateway.ts";
import type { Answer } from "./http.ts";
import { browse } from "./issuer.ts";
import { ModernClient } from "./modern.ts";

async function freePort(): Promise<number> {
    const server = net.createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as net.AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    return port;
}

export interface ProtectedOptions extends Omit<Partial<GatewayOptions>, "config"> {
    /** of [server.oauth]; the resource is added */
    oauth: { [key: string]: Value };
    server?: { [key: string]: Value };
    servers: { [name: string]: ServerConfig };
    /** what tokens are for, below the gateway's origin */
    resource?: string;
}

export interface Protected {
    gateway: Gateway;
    /** what tokens are for */
    resource: string;
    config: Config;
}

/** Somebody else may take the port between its choice and its use: then another one. */
export async function startProtected(t: TestContext | undefined, options: ProtectedOptions): Promise<Protected> {
    const { oauth, server, servers, resource: path = "/mcp", ...rest } = options;
    for (let n = 0; ; n++) {
        const port = await freePort();
        const resource = `http://127.0.0.1:${port}${path}`;
        const config: Config = {
            server: { ...server, oauth: { ...oauth, protected_resource: { resource } } },
            servers,
        };
        const args = ["-l", `127.0.0.1:${port}`, ...(rest.args ?? [])];
        const gateway = launchGateway({ ...rest, config, args });
        try {
            await gateway.ready();
            t?.after(() => gateway.stop());
            return { gateway, resource, config };
        } catch (error) {
            const tail = gateway.tail();
            gateway.abandon();
            if (n === 2 || !/address already in use/i.test(tail)) throw new Error(`${String(error)}\n${tail}`);
        }
    }
}

/** A request that says nothing but who asks, and leaves nothing behind. */
export async function ping(gateway: Gateway, token: string | false, path = "/mcp"): Promise<Answer> {
    return new ModernClient(gateway, path, { token }).ask("server/discover");
}

export interface ClientOptions {
    user?: string;
    scope?: string;
}

const REDIRECT = "http://127.0.0.1:1/callback"; // nobody is there: only its URL is looked at

/** What a client keeps, for both SDKs: their providers have the same members. */
export class Wallet {
    readonly user: string;
    /** of each authorization request */
    readonly asked: URL[] = [];
    /** what came back */
    answer: URL | undefined;
    registrations = 0;
    tokens: { access_token: string; scope?: string } | undefined;
    #scope: string | undefined;
    #information: object | undefined;
    #verifier = "";
    #discovery: unknown;

    constructor(options: ClientOptions = {}) {
        this.user = options.user ?? "alice";
        this.#scope = options.scope;
    }

    get #members(): unknown {
        return {
            redirectUrl: REDIRECT,
            clientMetadata: {
                client_name: "a client of the tests",
                application_type: "native",
                redirect_uris: [REDIRECT],
                grant_types: ["authorization_code"],
                response_types: ["code"],
                token_endpoint_auth_method: "none",
                ...(this.#scope === undefined ? {} : { scope: this.#scope }),
            },
            clientInformation: () => this.#information,
            saveClientInformation: (information: object) => {
                this.registrations++;
                this.#information = information;
            },
            tokens: () => this.tokens,
            saveTokens: (tokens: { access_token: string }) => void (this.tokens = tokens),
            codeVerifier: () => this.#verifier,
            saveCodeVerifier: (verifier: string) => void (this.#verifier = verifier),
            discoveryState: () => this.#discovery,
            saveDiscoveryState: (state: unknown) => void (this.#discovery = state),
            redirectToAuthorization: async (url: URL) => {
                this.asked.push(url);
                this.answer = await browse(url, this.user, REDIRECT);
            },
        };
    }

    get old(): OldProvider {
        return this.#members as OldProvider;
    }

    get new(): NewProvider {
        return this.#members as NewProvider;
    }
}

/** The claims of a token, unproved. */
export function claims(token: string): { [name: string]: unknown } {
    return JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString()) as { [name: string]: unknown };
}
