/* The console's API, spoken to as a browser and as a program does. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { Agent, request as httpsRequest } from "node:https";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { connect, type TLSSocket } from "node:tls";

import { binary, startGateway, type Config, type Gateway } from "./gateway.ts";
import { temporaryFolder } from "./temp.ts";
import { within } from "./wait.ts";

export const COOKIE = "__Host-cardea-session";
export const PASSWORD = "long enough for a password 7";

export interface Answer {
    status: number;
    headers: { [name: string]: string | string[] | undefined };
    text: string;
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    json: any;
}

export interface Asking {
    body?: unknown;
    /** in place of a JSON body */
    raw?: string;
    headers?: Record<string, string | string[]>;
    /** without the cookie, without the CSRF token */
    anonymous?: boolean;
    noCsrf?: boolean;
}

/** The users of `users` are there before the gateway starts. */
export interface AdminUser {
    name: string;
    roles: string[];
}

function add(dataDir: string, user: AdminUser): void {
    const args = ["user", "add", user.name, ...user.roles.flatMap((role) => ["--role", role])];
    const run = [...args, "--data-dir", dataDir];
    execFileSync(binary(), run, { input: `${PASSWORD}\n`, stdio: ["pipe", "pipe", "pipe"] });
}

export class Admin {
    readonly gateway: Gateway;
    readonly host: string;
    readonly port: number;
    readonly ca: string;
    readonly agent: Agent;

    constructor(gateway: Gateway, address: string) {
        this.gateway = gateway;
        this.host = address;
        this.port = Number(address.slice(address.lastIndexOf(":") + 1));
        this.ca = readFileSync(join(gateway.dataDir, "tls", "ca.pem"), "utf8");
        this.agent = new Agent({ ca: this.ca, keepAlive: true, maxSockets: 8 });
    }

    get origin(): string {
        return `https://${this.host}`;
    }

    ask(method: string, path: string, headers: Record<string, string | string[]> = {}, body = ""): Promise<Answer> {
        const asked = new Promise<Answer>((resolve, reject) => {
            const request = httpsRequest(
                { host: "127.0.0.1", port: this.port, agent: this.agent, servername: "", method, path, headers },
                (response) => {
                    let text = "";
                    if (response.headers["content-type"] === "text/event-stream" && response.statusCode === 200) {
                        response.on("error", () => undefined).destroy(); // that there is one is the answer
                        resolve({ status: 200, headers: response.headers, text, json: undefined });
                        return;
                    }
                    response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
                    response.once("error", reject);
                    response.once("end", () => {
                        const kind = String(response.headers["content-type"] ?? "");
                        const json: unknown = /json(;|$)/.test(kind) && text !== "" ? JSON.parse(text) : undefined;
                        resolve({ status: response.statusCode!, headers: response.headers, text, json });
                    });
                },
            );
            request.once("error", reject);
            request.end(body);
        });
        return within(asked, `${method} ${path} is answered`);
    }

    /** A connection of its own, for bytes that no client library sends. */
    raw(): Promise<TLSSocket> {
        const socket = connect({ host: "127.0.0.1", port: this.port, ca: this.ca });
        return within(
            new Promise((resolve, reject) => socket.once("secureConnect", () => resolve(socket)).once("error", reject)),
            "a TLS connection to the console",
        );
    }

    /** All that comes until the end. */
    async talk(bytes: string): Promise<string> {
        const socket = await this.raw();
        let text = "";
        const ended = new Promise<void>((resolve) => {
            socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
            socket.once("close", () => resolve());
            socket.on("error", () => undefined);
        });
        socket.write(bytes);
        await within(ended, () => `the connection ends; so far: ${text}`);
        return text;
    }

    async login(name: string, password = PASSWORD): Promise<Browser> {
        const answer = await this.ask("POST", "/api/v1/login", { "content-type": "application/json" },
            JSON.stringify({ name, password }));
        if (answer.status !== 200) throw new Error(`the login of ${name}: ${answer.status} ${answer.text}`);
        return new Browser(this, cookieOf(answer), answer.json.csrf_token as string, answer);
    }

    /** A program with a token. */
    async withToken(token: string, method: string, path: string, body?: unknown,
        headers: Record<string, string> = {}): Promise<Answer> {
        const all = { authorization: `Bearer ${token}`, ...(body === undefined ? {} : JSON_TYPE), ...headers };
        return this.ask(method, path, all, body === undefined ? "" : JSON.stringify(body));
    }

    close(): void {
        this.agent.destroy();
    }
}

const JSON_TYPE = { "content-type": "application/json" };

export function cookieOf(answer: Answer): string {
    const lines = ([] as string[]).concat(answer.headers["set-cookie"] ?? []);
    const line = lines.find((item) => item.startsWith(`${COOKIE}=`));
    return line === undefined ? "" : line.slice(COOKIE.length + 1, line.indexOf(";"));
}

/** Somebody who is logged in. */
export class Browser {
    readonly admin: Admin;
    cookie: string;
    csrf: string;
    readonly entered: Answer;

    constructor(admin: Admin, cookie: string, csrf: string, entered: Answer) {
        this.admin = admin;
        this.cookie = cookie;
        this.csrf = csrf;
        this.entered = entered;
    }

    get headers(): Record<string, string> {
        return { cookie: `${COOKIE}=${this.cookie}`, origin: this.admin.origin, "sec-fetch-site": "same-origin" };
    }

    async ask(method: string, path: string, asking: Asking = {}): Promise<Answer> {
        const headers: Record<string, string | string[]> = asking.anonymous === true ? {} : { ...this.headers };
        if (asking.noCsrf !== true && asking.anonymous !== true) headers["x-csrf-token"] = this.csrf;
        const body = asking.raw ?? (asking.body === undefined ? "" : JSON.stringify(asking.body));
        if (body !== "") headers["content-type"] = "application/json";
        Object.assign(headers, asking.headers);
        return this.admin.ask(method, path, headers, body);
    }

    get(path: string): Promise<Answer> {
        return this.ask("GET", path);
    }

    async change(method: string, path: string, body: unknown): Promise<Answer> {
        const { headers } = await this.get(path);
        return this.ask(method, path, { body, headers: { "if-match": String(headers.etag) } });
    }

    take(answer: Answer): void {
        const cookie = cookieOf(answer);
        if (cookie !== "") this.cookie = cookie;
        this.csrf = String(answer.headers["x-csrf-token"] ?? answer.json?.csrf_token ?? this.csrf);
    }
}

export interface Parameter {
    name: string;
    in: string;
    required: boolean;
    schema: Schema;
}

/** Of JSON Schema what the document has. */
export interface Schema {
    type?: string | string[];
    properties?: Record<string, Schema>;
    required?: string[];
    items?: Schema;
    enum?: string[];
    minimum?: number;
    maximum?: number;
    minLength?: number;
    maxLength?: number;
    $ref?: string;
}

/** A row of the table of routes, as the OpenAPI document has it. */
export interface Route {
    method: string;
    path: string;
    /** "GET /api/v1/users/{user}" */
    name: string;
    permission: string;
    audit: string;
    parameters: Parameter[];
    /** of the body; undefined: it has none */
    body: Schema | undefined;
    needsMatch: boolean;
    hasStream: boolean;
}

interface Operation {
    "x-permission": string;
    "x-audit": string;
    parameters: Parameter[];
    requestBody?: { content: { "application/json": { schema: Schema } } };
    responses: unknown;
}

export interface Document {
    paths: Record<string, Record<string, Operation>>;
    components: { schemas: Record<string, Schema> };
}

export const resolved = (document: Document, schema: Schema): Schema =>
    schema.$ref === undefined ? schema : document.components.schemas[schema.$ref.slice("#/components/schemas/".length)]!;

export async function documentOf(admin: Admin): Promise<Document> {
    return (await admin.ask("GET", "/api/v1/openapi.json")).json as Document;
}

export const routesOf = (document: Document): Route[] =>
    Object.entries(document.paths).flatMap(([path, methods]) =>
        Object.entries(methods).map(([method, row]) => ({
            method: method.toUpperCase(),
            path,
            name: `${method.toUpperCase()} ${path}`,
            permission: row["x-permission"],
            audit: row["x-audit"],
            parameters: row.parameters,
            body: row.requestBody && resolved(document, row.requestBody.content["application/json"].schema),
            needsMatch: row.parameters.some((item) => item.name === "If-Match"),
            hasStream: JSON.stringify(row.responses).includes("event-stream"),
        })),
    );

export interface AdminOptions {
    config?: Partial<Config>;
    users: AdminUser[];
    env?: NodeJS.ProcessEnv;
}

export async function startAdmin(options: AdminOptions, t?: TestContext): Promise<Admin> {
    const dataDir = join(temporaryFolder(), "data");
    for (const user of options.users) add(dataDir, user);
    const config = { servers: {}, security: {}, ...options.config };
    const gateway = await startGateway({ config, admin: true, dataDir, ...(options.env ? { env: options.env } : {}) }, t);
    const entry = await gateway.waitForLog((item) => item.message === "the console's API listens");
    return new Admin(gateway, String(entry.address));
}

/** An event stream: what came so far, by event. */
export async function listen(browser: Browser, path = "/api/v1/events"): Promise<{
    events: { event: string; data: unknown }[];
    status: number;
    ended: Promise<void>;
    close(): void;
}> {
    const events: { event: string; data: unknown }[] = [];
    return new Promise((resolve, reject) => {
        const request = httpsRequest(
            { host: "127.0.0.1", port: browser.admin.port, ca: browser.admin.ca, agent: false, path,
                headers: browser.headers },
            (response) => {
                let held = "";
                response.setEncoding("utf8").on("data", (chunk: string) => {
                    held += chunk;
                    for (let end = held.indexOf("\n\n"); end >= 0; end = held.indexOf("\n\n")) {
                        const block = held.slice(0, end);
                        held = held.slice(end + 2);
                        const event = /^event: (.*)$/m.exec(block)?.[1];
                        const data = /^data: (.*)$/m.exec(block)?.[1];
                        if (event !== undefined && data !== undefined) events.push({ event, data: JSON.parse(data) });
                    }
                });
                const ended = new Promise<void>((done) => response.once("close", () => done()));
                resolve({ events, status: response.statusCode!, ended, close: () => request.destroy() });
            },
        );
        request.once("error", reject);
        request.end();
    });
}
