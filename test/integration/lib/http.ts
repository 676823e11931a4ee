/*
 * MCP over HTTP without an SDK: every request on a connection of its own (so that the workers share them), nothing
 * added that was not asked for, the answer kept as it came. exchange() goes below HTTP and sends bytes.
 */
import http from "node:http";
import https from "node:https";
import net from "node:net";
import type tls from "node:tls";

import type { Control, FixtureProcess, RpcMessage } from "./control.ts";
import type { Gateway } from "./gateway.ts";
import { Recording, until, within } from "./wait.ts";

export interface ServerEvent {
    event?: string;
    id?: string;
    data: string;
}

/** Events out of a text/event-stream, fed as it arrives. */
export class EventParser {
    #held = "";
    #event: ServerEvent = { data: "" };
    #any = false;
    readonly comments: string[] = [];
    #emit: (event: ServerEvent) => void;

    constructor(emit: (event: ServerEvent) => void) {
        this.#emit = emit;
    }

    feed(chunk: string): void {
        this.#held += chunk;
        for (;;) {
            const match = /\r\n|\n|\r(?!$)/.exec(this.#held);
            if (match === null) return;
            const line = this.#held.slice(0, match.index);
            this.#held = this.#held.slice(match.index + match[0].length);
            this.#line(line);
        }
    }

    #line(line: string): void {
        if (line === "") {
            if (this.#any) this.#emit(this.#event);
            this.#event = { data: "" };
            this.#any = false;
            return;
        }
        const colon = line.indexOf(":");
        if (colon === 0) {
            this.comments.push(line.slice(1).trim());
            return;
        }
        const field = colon < 0 ? line : line.slice(0, colon);
        const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (field === "data") {
            this.#event.data += this.#any ? `\n${value}` : value;
            this.#any = true;
        } else if (field === "event") this.#event.event = value;
        else if (field === "id") this.#event.id = value;
    }
}

export interface Answer {
    status: number;
    headers: http.IncomingHttpHeaders;
    text: string;
    /** the messages of a JSON body or of an event stream, in order */
    messages: RpcMessage[];
}

export interface Outgoing {
    method?: string;
    path?: string;
    headers?: Record<string, string | string[] | undefined>;
    /** a string is sent as it is, anything else as JSON */
    body?: unknown;
    /** the gateway's token; false: none */
    token?: string | false;
    signal?: AbortSignal;
}

export interface Target {
    port: number;
    token: string;
    /** https, with these authorities, this certificate of the client, ... */
    tls?: tls.SecureContextOptions;
}

function start(target: Target, outgoing: Outgoing): { request: http.ClientRequest; body: string | undefined } {
    const { method = "POST", path = "/mcp", token = target.token, signal } = outgoing;
    const body =
        outgoing.body === undefined || typeof outgoing.body === "string"
            ? outgoing.body
            : JSON.stringify(outgoing.body);
    const headers: Record<string, string | string[]> = { Host: `127.0.0.1:${target.port}` };
    if (token !== false) headers.Authorization = `Bearer ${token}`;
    if (method === "POST") {
        headers["Content-Type"] = "application/json";
        headers.Accept = "application/json, text/event-stream";
    } else if (method === "GET") headers.Accept = "text/event-stream";
    if (body !== undefined) headers["Content-Length"] = String(Buffer.byteLength(body));
    for (const [name, value] of Object.entries(outgoing.headers ?? {})) {
        for (const key of Object.keys(headers)) if (key.toLowerCase() === name.toLowerCase()) delete headers[key];
        if (value !== undefined) headers[name] = value;
    }
    const options = { host: "127.0.0.1", port: target.port, method, path, headers, agent: false, signal } as const;
    const request = target.tls ? https.request({ ...options, ...target.tls }) : http.request(options);
    return { request, body };
}

function response(request: http.ClientRequest): Promise<http.IncomingMessage> {
    return within(
        new Promise<http.IncomingMessage>((resolve, reject) => {
            request.once("response", resolve);
            request.once("error", reject);
        }),
        `an answer to ${request.method} ${request.path}`,
    );
}

/** One request and its whole answer. */
export async function send(target: Target, outgoing: Outgoing = {}): Promise<Answer> {
    const { request, body } = start(target, outgoing);
    const arriving = response(request);
    request.end(body);
    const incoming = await arriving;
    incoming.setEncoding("utf8");
    let text = "";
    await within(
        new Promise<void>((resolve, reject) => {
            incoming.on("data", (chunk: string) => (text += chunk));
            incoming.once("end", resolve);
            incoming.once("error", reject);
        }),
        () => `the end of the answer to ${request.method} ${request.path}; so far ${JSON.stringify(text.slice(-600))}`,
    );
    const messages: RpcMessage[] = [];
    const type = incoming.headers["content-type"] ?? "";
    if (type.startsWith("text/event-stream")) {
        new EventParser(({ data }) => data !== "" && messages.push(JSON.parse(data) as RpcMessage)).feed(text);
    } else if (type.startsWith("application/json") && text !== "") {
        const value = JSON.parse(text) as RpcMessage | RpcMessage[];
        messages.push(...(Array.isArray(value) ? value : [value]));
    }
    return { status: incoming.statusCode!, headers: incoming.headers, text, messages };
}

export interface Stream {
    status: number;
    headers: http.IncomingHttpHeaders;
    messages: Recording<RpcMessage>;
    /** the same of an event stream, with those that say nothing */
    events: Recording<ServerEvent>;
    /** of an event stream, as they came */
    comments: string[];
    /** resolves when the other side has ended it */
    ended: Promise<void>;
    close(): void;
}

/** A request whose answer is read as it comes; resolves when its head is there. */
export async function stream(target: Target, outgoing: Outgoing = { method: "GET" }): Promise<Stream> {
    const { request, body } = start(target, outgoing);
    const arriving = response(request);
    request.end(body);
    const incoming = await arriving;
    const messages = new Recording<RpcMessage>(`message on ${request.method} ${request.path}`);
    incoming.setEncoding("utf8");
    const events = new Recording<ServerEvent>(`event on ${request.method} ${request.path}`);
    const parser = new EventParser((event) => {
        events.push(event);
        if (event.data !== "" && (event.event ?? "message") === "message") messages.push(JSON.parse(event.data) as RpcMessage);
    });
    if ((incoming.headers["content-type"] ?? "").startsWith("application/json")) {
        let text = "";
        incoming.on("data", (chunk: string) => (text += chunk));
        incoming.once("end", () => text !== "" && messages.push(JSON.parse(text) as RpcMessage)); // "": hung up
    } else incoming.on("data", (chunk: string) => parser.feed(chunk));
    incoming.on("error", () => {});
    const ended = new Promise<void>((resolve) => {
        incoming.once("close", () => {
            messages.end("the stream ended");
            events.end("the stream ended");
            resolve();
        });
    });
    return {
        status: incoming.statusCode!,
        headers: incoming.headers,
        messages,
        events,
        comments: parser.comments,
        ended,
        close: () => request.destroy(),
    };
}

export const VERSIONS = ["2025-03-26", "2025-06-18", "2025-11-25"] as const;

export function initialize(version: string, capabilities: Record<string, unknown> = {}): RpcMessage {
    return {
        jsonrpc: "2.0",
        id: "init",
        method: "initialize",
        params: { protocolVersion: version, capabilities, clientInfo: { name: "raw", version: "1" } },
    };
}

/** A legacy session, by hand. */
export class Session {
    readonly target: Target;
    readonly path: string;
    readonly id: string;
    readonly version: string;
    readonly initialized: RpcMessage;
    #next = 1;

    constructor(target: Target, path: string, id: string, version: string, initialized: RpcMessage) {
        this.target = target;
        this.path = path;
        this.id = id;
        this.version = version;
        this.initialized = initialized;
    }

    get headers(): Record<string, string> {
        return { "Mcp-Session-Id": this.id, "MCP-Protocol-Version": this.version };
    }

    async send(outgoing: Outgoing): Promise<Answer> {
        return send(this.target, { path: this.path, ...outgoing, headers: { ...this.headers, ...outgoing.headers } });
    }

    async stream(outgoing: Outgoing = { method: "GET" }): Promise<Stream> {
        return stream(this.target, { path: this.path, ...outgoing, headers: { ...this.headers, ...outgoing.headers } });
    }

    /** Sends a request; returns its answer and what came before it. */
    async request(method: string, params?: unknown, id: string | number = this.#next++): Promise<RpcMessage> {
        const answer = await this.send({ body: { jsonrpc: "2.0", id, method, params } });
        const last = answer.messages.at(-1);
        if (answer.status !== 200 || last?.id !== id) {
            throw new Error(`${method} got ${answer.status} ${answer.text.slice(0, 500)}`);
        }
        return last;
    }

    async notify(method: string, params?: unknown): Promise<Answer> {
        return this.send({ body: { jsonrpc: "2.0", method, params } });
    }

    async call(name: string, args: Record<string, unknown> = {}, id?: string | number): Promise<RpcMessage> {
        return this.request("tools/call", { name, arguments: args }, id);
    }

    async end(): Promise<Answer> {
        return this.send({ method: "DELETE" });
    }
}

export async function openSession(
    gateway: Gateway,
    path = "/mcp",
    version: string = VERSIONS[2],
    token?: string | false,
): Promise<Session> {
    const target: Target = { port: gateway.port, token: gateway.token, tls: gateway.tls };
    const answer = await send(target, { path, token, body: initialize(version) });
    const id = answer.headers["mcp-session-id"];
    if (answer.status !== 200 || typeof id !== "string") {
        throw new Error(`initialize got ${answer.status} ${answer.text.slice(0, 500)}`);
    }
    const session = new Session(target, path, id, version, answer.messages.at(-1)!);
    const accepted = await session.send({ token, body: { jsonrpc: "2.0", method: "notifications/initialized" } });
    if (accepted.status !== 202) throw new Error(`initialized got ${accepted.status} ${accepted.text}`);
    return session;
}

/** Waits until all these tools are listed: their upstreams serve. */
export async function served(gateway: Gateway, ...names: string[]): Promise<void> {
    const session = await openSession(gateway);
    let listed: string[] = [];
    for (const name of names) {
        await until(
            async () => {
                listed = [];
                let cursor: unknown;
                do {
                    const { result } = await session.request("tools/list", cursor === undefined ? {} : { cursor });
                    listed.push(...(result!.tools as { name: string }[]).map((tool) => tool.name));
                    cursor = result!.nextCursor;
                } while (cursor !== undefined);
                return listed.includes(name);
            },
            () => `${name} is listed, beside ${listed}`,
        );
    }
    await session.end();
}

/** The text of a tool's result. */
export function text(message: RpcMessage): string {
    const content = message.result?.content as { text?: string }[] | undefined;
    if (content?.[0]?.text === undefined) throw new Error(`no text in ${JSON.stringify(message)}`);
    return content[0].text;
}

/** The fixture process that serves this session's calls. */
export async function serving(control: Control, session: Session, prefix = ""): Promise<FixtureProcess> {
    const { pid } = JSON.parse(text(await session.call(`${prefix}whoami`))) as { pid: number };
    const find = () => control.starts.items.findLast((process) => process.start.pid === pid);
    await until(() => find() !== undefined, `the fixture with the pid ${pid} has told of its start`);
    const found = find()!;
    await found.sync();
    return found;
}

export interface RawAnswer {
    status: number;
    headers: Map<string, string>;
    body: string;
}

/** Whole responses out of what a connection gave. */
export function parseResponses(bytes: Buffer): RawAnswer[] {
    const answers: RawAnswer[] = [];
    let rest = bytes;
    while (rest.length > 0) {
        const end = rest.indexOf("\r\n\r\n");
        if (end < 0) throw new Error(`not a response: ${JSON.stringify(rest.toString("latin1").slice(0, 300))}`);
        const [first, ...lines] = rest.subarray(0, end).toString("latin1").split("\r\n");
        const status = /^HTTP\/1\.[01] (\d{3})( |$)/.exec(first!)?.[1];
        if (status === undefined) throw new Error(`not a status line: ${first}`);
        const headers = new Map(
            lines.map((line) => [
                line.slice(0, line.indexOf(":")).toLowerCase(),
                line.slice(line.indexOf(":") + 1).trim(),
            ]),
        );
        rest = rest.subarray(end + 4);
        let body = Buffer.alloc(0);
        if (headers.get("transfer-encoding") === "chunked") {
            for (;;) {
                const line = rest.indexOf("\r\n");
                const size = parseInt(rest.subarray(0, line).toString("latin1"), 16);
                body = Buffer.concat([body, rest.subarray(line + 2, line + 2 + size)]);
                rest = rest.subarray(line + 2 + size + 2);
                if (size === 0) break;
            }
        } else if (headers.has("content-length")) {
            const length = Number(headers.get("content-length"));
            body = rest.subarray(0, length) as Buffer<ArrayBuffer>;
            rest = rest.subarray(length);
        }
        answers.push({ status: Number(status), headers, body: body.toString("utf8") });
    }
    return answers;
}

/** Sends bytes on a connection of their own; the answers when the gateway has closed it. */
export async function exchange(port: number, bytes: string | Buffer): Promise<RawAnswer[]> {
    const socket = net.connect({ host: "127.0.0.1", port });
    const chunks: Buffer[] = [];
    socket.on("data", (chunk) => chunks.push(chunk));
    const closed = new Promise<void>((resolve) => {
        socket.on("error", () => {}); // a reset after the refusal is a close, too
        socket.on("end", () => socket.end());
        socket.on("close", () => resolve());
    });
    socket.write(bytes);
    try {
        await within(
            closed,
            () => `the gateway closes; it sent ${JSON.stringify(Buffer.concat(chunks).toString("latin1"))}`,
        );
    } finally {
        socket.destroy();
    }
    return parseResponses(Buffer.concat(chunks));
}
