/* HTTP+SSE (MCP 2024-11-05) without an SDK: the stream, and POSTs on connections of their own. */
import http from "node:http";
import https from "node:https";

import type { RpcMessage } from "./control.ts";
import { EventParser, initialize, send, type Answer, type Target } from "./http.ts";
import { Recording, within } from "./wait.ts";

export class SseSession {
    readonly target: Target;
    readonly messages = new Recording<RpcMessage>("message on the stream");
    readonly comments: string[];
    /** as the first event has it */
    endpoint = "";
    readonly ended: Promise<void>;
    readonly incoming: http.IncomingMessage;
    readonly ready: Promise<void>;
    #request: http.ClientRequest;
    #next = 1;

    constructor(target: Target, request: http.ClientRequest, incoming: http.IncomingMessage) {
        this.target = target;
        this.#request = request;
        this.incoming = incoming;
        incoming.setEncoding("utf8");
        let found: () => void;
        this.ready = new Promise((resolve) => (found = resolve));
        const parser = new EventParser(({ event, data }) => {
            if (event === "endpoint") {
                this.endpoint = data;
                found();
            } else if (event === "message") this.messages.push(JSON.parse(data) as RpcMessage);
            else throw new Error(`an event of the unknown kind ${event}`);
        });
        this.comments = parser.comments;
        incoming.on("data", (chunk: string) => parser.feed(chunk));
        incoming.on("error", () => {});
        this.ended = new Promise((resolve) =>
            incoming.once("close", () => {
                this.messages.end("the stream ended");
                resolve();
            }),
        );
    }

    get id(): string {
        return new URL(this.endpoint, "http://x").searchParams.get("sessionId")!;
    }

    /** One POST; its answer is that of HTTP. */
    post(body: unknown, more: { target?: Target; path?: string; headers?: Record<string, string | undefined> } = {}): Promise<Answer> {
        const headers = { Accept: undefined, ...more.headers };
        return send(more.target ?? this.target, { path: more.path ?? this.endpoint, body, headers });
    }

    /** Posts a request; resolves with what the stream says to it. */
    async request(method: string, params?: unknown, id: string | number = this.#next++): Promise<RpcMessage> {
        const from = this.messages.items.length;
        const accepted = await this.post({ jsonrpc: "2.0", id, method, params });
        if (accepted.status !== 202) throw new Error(`${method} got ${accepted.status} ${accepted.text.slice(0, 500)}`);
        return this.messages.waitFor((message) => message.id === id && message.method === undefined, from);
    }

    call(name: string, args: Record<string, unknown> = {}, id?: string | number): Promise<RpcMessage> {
        return this.request("tools/call", { name, arguments: args }, id);
    }

    async initialize(version = "2024-11-05"): Promise<RpcMessage> {
        const from = this.messages.items.length;
        const accepted = await this.post(initialize(version));
        if (accepted.status !== 202) throw new Error(`initialize got ${accepted.status} ${accepted.text}`);
        const answer = await this.messages.waitFor((message) => message.id === "init", from);
        await this.post({ jsonrpc: "2.0", method: "notifications/initialized" });
        return answer;
    }

    close(): void {
        this.#request.destroy();
    }
}

/** A stream that was asked for; its status may be a refusal. */
export async function askSse(target: Target, path = "/mcp/sse"): Promise<{ session: SseSession; status: number }> {
    const headers = {
        Host: `127.0.0.1:${target.port}`,
        Accept: "text/event-stream",
        Authorization: `Bearer ${target.token}`,
    };
    const options = { host: "127.0.0.1", port: target.port, path, headers, agent: false } as const;
    const request = target.tls ? https.request({ ...options, ...target.tls }) : http.request(options);
    const arriving = new Promise<http.IncomingMessage>((resolve, reject) => {
        request.once("response", resolve);
        request.once("error", reject);
    });
    request.end();
    const incoming = await within(arriving, `an answer to GET ${path}`);
    return { session: new SseSession(target, request, incoming), status: incoming.statusCode! };
}

/** A stream whose first event has come. */
export async function openSse(target: Target, path = "/mcp/sse"): Promise<SseSession> {
    const { session, status } = await askSse(target, path);
    if (status !== 200) throw new Error(`GET ${path} got ${status}`);
    await within(session.ready, "the endpoint event");
    return session;
}
