/* MCP of both eras by hand; everything ends when the endpoint's signal says so. */
import http from "node:http";

import { EventParser } from "../../integration/lib/http.ts";
import { Recording } from "../../integration/lib/wait.ts";

export interface Endpoint {
    port: number;
    path: string;
    signal: AbortSignal;
}

export interface Rpc {
    jsonrpc: "2.0";
    id?: string | number | null;
    method?: string;
    params?: { [key: string]: unknown };
    result?: { [key: string]: unknown };
    error?: { code: number; message: string; data?: unknown };
}

/** undefined takes out what would have been sent */
type Headers = { [name: string]: string | undefined };

export const LEGACY = "2025-11-25";
export const MODERN = "2026-07-28";

export const KEY = {
    version: "io.modelcontextprotocol/protocolVersion",
    capabilities: "io.modelcontextprotocol/clientCapabilities",
    client: "io.modelcontextprotocol/clientInfo",
    level: "io.modelcontextprotocol/logLevel",
    server: "io.modelcontextprotocol/serverInfo",
    subscription: "io.modelcontextprotocol/subscriptionId",
} as const;

export interface Answer {
    status: number;
    headers: http.IncomingHttpHeaders;
    text: string;
    /** of a JSON body or of an event stream, in order */
    messages: Rpc[];
}

export interface Stream {
    status: number;
    /** as they come */
    messages: Recording<Rpc>;
    /** resolves when all of it is there */
    ended: Promise<Answer>;
    close(): void;
}

/** Every request has a connection of its own, so that the workers of a gateway share them. */
async function open(endpoint: Endpoint, method: string, body: unknown, more: Headers): Promise<Stream> {
    const { port, path, signal } = endpoint;
    const data = body === undefined ? "" : JSON.stringify(body);
    const given: Headers = {
        Host: `127.0.0.1:${port}`,
        Accept: "application/json, text/event-stream",
        "Content-Type": method === "POST" ? "application/json" : undefined,
        "Content-Length": method === "POST" ? String(Buffer.byteLength(data)) : undefined,
        ...more,
    };
    const headers = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    const request = http.request({ host: "127.0.0.1", port, method, path, headers, agent: false, signal });
    const incoming = await new Promise<http.IncomingMessage>((resolve, reject) => {
        request.once("response", resolve);
        request.on("error", reject); // after the answer has begun, it ends that
        request.end(data);
    });
    const { statusCode: status = 0, headers: fields } = incoming;
    const isStream = fields["content-type"]?.startsWith("text/event-stream") ?? false;
    const messages = new Recording<Rpc>(`message in answer to ${data.slice(0, 200)}`);
    const events = new EventParser((event) => event.data !== "" && messages.push(JSON.parse(event.data) as Rpc));
    let text = "";
    const ended = new Promise<Answer>((resolve, reject) => {
        incoming.setEncoding("utf8");
        incoming.on("data", (chunk: string) => {
            text += chunk;
            if (isStream) events.feed(chunk);
        });
        incoming.on("error", () => {}); // "close" follows
        incoming.once("close", () => {
            messages.end("the answer ended");
            if (incoming.complete) resolve({ status, headers: fields, text, messages: messages.items });
            else reject(new Error(`the answer broke off after ${JSON.stringify(text.slice(-200))}`));
        });
        incoming.once("end", () => {
            if (isStream || !fields["content-type"]?.startsWith("application/json")) return;
            try {
                for (const message of [JSON.parse(text) as Rpc | Rpc[]].flat()) messages.push(message);
            } catch (error) {
                reject(new Error(`no JSON: ${JSON.stringify(text.slice(0, 500))}`, { cause: error }));
            }
        });
    });
    ended.catch(() => {}); // for those who wait for messages only
    return { status, messages, ended, close: () => request.destroy() };
}

async function exchange(endpoint: Endpoint, method: string, body: unknown, headers: Headers): Promise<Answer> {
    return (await open(endpoint, method, body, headers)).ended;
}

export async function post(endpoint: Endpoint, body: unknown, headers: Headers = {}): Promise<Answer> {
    return exchange(endpoint, "POST", body, headers);
}

/** The answer to this id, which must be there. */
function answerOf(answer: Answer, id: string | number): Rpc {
    const last = answer.messages.at(-1);
    if (last === undefined || last.id !== id) {
        throw new Error(`no answer to ${JSON.stringify(id)}: status ${answer.status}, ${answer.text.slice(0, 500)}`);
    }
    return last;
}

/** A session of 2025-11-25. */
export class LegacySession {
    readonly endpoint: Endpoint;
    readonly headers: { [name: string]: string };
    readonly initialized: Rpc;
    #next = 1;

    constructor(endpoint: Endpoint, id: string, initialized: Rpc) {
        this.endpoint = endpoint;
        this.headers = { "Mcp-Session-Id": id, "MCP-Protocol-Version": LEGACY };
        this.initialized = initialized;
    }

    static initialize(capabilities: object = {}): Rpc {
        const clientInfo = { name: "own-checks", version: "1" };
        const params = { protocolVersion: LEGACY, capabilities, clientInfo };
        return { jsonrpc: "2.0", id: "init", method: "initialize", params };
    }

    static async open(endpoint: Endpoint, capabilities?: object): Promise<LegacySession> {
        const answer = await post(endpoint, LegacySession.initialize(capabilities));
        const id = answer.headers["mcp-session-id"];
        if (answer.status !== 200 || typeof id !== "string") {
            throw new Error(`initialize opened no session: status ${answer.status}, ${answer.text.slice(0, 500)}`);
        }
        const session = new LegacySession(endpoint, id, answerOf(answer, "init"));
        const accepted = await session.send({ jsonrpc: "2.0", method: "notifications/initialized" });
        if (accepted.status !== 202) throw new Error(`initialized got ${accepted.status} ${accepted.text}`);
        return session;
    }

    async send(body: unknown, headers: Headers = {}): Promise<Answer> {
        return post(this.endpoint, body, { ...this.headers, ...headers });
    }

    async ask(method: string, params: object = {}, id: string | number = this.#next++): Promise<Rpc> {
        return answerOf(await this.send({ jsonrpc: "2.0", id, method, params }), id);
    }

    async call(name: string, args: object = {}, id?: string | number): Promise<Rpc> {
        return this.ask("tools/call", { name, arguments: args }, id);
    }

    async stream(method: string, params: object, id: string | number = this.#next++): Promise<Stream> {
        return open(this.endpoint, "POST", { jsonrpc: "2.0", id, method, params }, this.headers);
    }

    async end(): Promise<Answer> {
        return exchange(this.endpoint, "DELETE", undefined, this.headers);
    }
}

export interface ModernOptions {
    /** put over what belongs there; undefined takes a key out */
    meta?: { [key: string]: unknown };
    headers?: Headers;
    id?: string | number;
}

let next = 1;

/** One request of 2026-07-28 as it should be, and what the caller wants different about it. */
export function modern(
    method: string,
    params: { [key: string]: unknown } = {},
    options: ModernOptions = {},
): { body: Rpc & { id: string | number }; headers: Headers } {
    const name = method === "resources/read" ? params.uri : params.name;
    const isNamed = ["tools/call", "prompts/get", "resources/read"].includes(method);
    const _meta = {
        [KEY.version]: MODERN,
        [KEY.client]: { name: "own-checks", version: "1" },
        [KEY.capabilities]: {},
        ...options.meta,
    };
    return {
        body: { jsonrpc: "2.0", id: options.id ?? `m${next++}`, method, params: { ...params, _meta } },
        headers: {
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": method,
            ...(isNamed ? { "Mcp-Name": String(name) } : {}),
            ...options.headers,
        },
    };
}

export interface ModernAnswer {
    status: number;
    message: Rpc;
    /** all of them, the last included */
    messages: Rpc[];
}

export async function ask(
    endpoint: Endpoint,
    method: string,
    params?: { [key: string]: unknown },
    options?: ModernOptions,
): Promise<ModernAnswer> {
    const { body, headers } = modern(method, params, options);
    const answer = await post(endpoint, body, headers);
    return { status: answer.status, message: answerOf(answer, body.id), messages: answer.messages };
}

export async function listen(
    endpoint: Endpoint,
    method: string,
    params?: { [key: string]: unknown },
    options?: ModernOptions,
): Promise<Stream> {
    const { body, headers } = modern(method, params, options);
    return open(endpoint, "POST", body, headers);
}

/** The text of a tool's result. */
export function text({ result, error }: Rpc): string {
    const content = result?.content as { text?: string }[] | undefined;
    if (content?.[0]?.text === undefined) throw new Error(`no text in ${JSON.stringify(result ?? error)}`);
    return content[0].text;
}
