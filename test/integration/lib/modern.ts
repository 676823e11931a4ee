/* A client of 2026-07-28 without an SDK: no handshake, an envelope and header fields on every request. */
import { CAPABILITIES_KEY, CLIENT_KEY, MODERN, VERSION_KEY } from "../fixtures/brain.ts";
import type { RpcMessage } from "./control.ts";
import { send, stream, type Answer, type Outgoing, type Stream, type Target } from "./http.ts";

/** The value codec of Mcp-Name and Mcp-Param-*. */
export function encodeField(value: string): string {
    const isPlain = /^[\x20-\x7e\t]*$/.test(value) && value.trim() === value && !/^=\?base64\?.*\?=$/.test(value);
    return isPlain ? value : `=?base64?${Buffer.from(value, "utf8").toString("base64")}?=`;
}

export interface ModernOptions {
    capabilities?: object;
    token?: string | false;
    /** further header fields, such as Mcp-Param-*; undefined takes one out */
    headers?: Outgoing["headers"];
    meta?: { [key: string]: unknown };
    id?: string | number;
    signal?: AbortSignal;
}

export class ModernClient {
    readonly target: Target;
    readonly path: string;
    readonly options: ModernOptions;
    #next = 1;

    constructor(target: Target, path = "/mcp", options: ModernOptions = {}) {
        this.target = { port: target.port, token: target.token };
        this.path = path;
        this.options = options;
    }

    outgoing(method: string, params: { [key: string]: unknown } = {}, more: ModernOptions = {}): Outgoing {
        const options = { ...this.options, ...more };
        const isOfTask = ["tasks/get", "tasks/update", "tasks/cancel"].includes(method);
        const name = method === "resources/read" ? params.uri : isOfTask ? params.taskId : params.name;
        const isNamed = isOfTask || ["tools/call", "prompts/get", "resources/read"].includes(method);
        const _meta = {
            [VERSION_KEY]: MODERN,
            [CAPABILITIES_KEY]: options.capabilities ?? {},
            [CLIENT_KEY]: { name: "raw-modern", version: "1" },
            ...(params._meta as object | undefined),
            ...options.meta,
        };
        return {
            path: this.path,
            token: options.token,
            signal: options.signal,
            headers: {
                "MCP-Protocol-Version": MODERN,
                "Mcp-Method": method,
                ...(isNamed ? { "Mcp-Name": encodeField(String(name)) } : {}),
                ...options.headers,
            },
            body: { jsonrpc: "2.0", id: options.id ?? this.#next++, method, params: { ...params, _meta } },
        };
    }

    /** Whatever the answer is. */
    async ask(method: string, params?: { [key: string]: unknown }, more?: ModernOptions): Promise<Answer> {
        return send(this.target, this.outgoing(method, params, more));
    }

    async stream(method: string, params?: { [key: string]: unknown }, more?: ModernOptions): Promise<Stream> {
        return stream(this.target, this.outgoing(method, params, more));
    }

    /** The last message of the answer; it must be one for this request. */
    async request(method: string, params?: { [key: string]: unknown }, more?: ModernOptions): Promise<RpcMessage> {
        const outgoing = this.outgoing(method, params, more);
        const answer = await send(this.target, outgoing);
        const last = answer.messages.at(-1);
        if (last === undefined || last.id !== (outgoing.body as RpcMessage).id) {
            throw new Error(`${method} got ${answer.status} ${answer.text.slice(0, 500)}`);
        }
        return last;
    }

    async call(name: string, args: { [key: string]: unknown } = {}, more?: ModernOptions): Promise<RpcMessage> {
        return this.request("tools/call", { name, arguments: args }, more);
    }
}
