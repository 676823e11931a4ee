/*
 * Clients of every kind behind one interface: the official SDK 1.x and 2.x, and raw ones. What counts is what came
 * over the wire, and that the SDK, where there is one, accepted it.
 */
import { Client as OldClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as OldTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ResultSchema } from "@modelcontextprotocol/sdk/types.js";
import { Client, StreamableHTTPClientTransport, type RequestMethod } from "@modelcontextprotocol/client";

import { LEVEL_KEY, MODERN } from "../fixtures/brain.ts";
import type { RpcMessage } from "./control.ts";
import { openRaw } from "./raw-callers.ts";
import { Recording, within } from "./wait.ts";

export interface CallOptions {
    /** asks for progress */
    progress?: boolean;
    signal?: AbortSignal;
}

export interface Caller {
    /** negotiated */
    version: string;
    isModern: boolean;
    /** every message that came, in order */
    wire: Recording<RpcMessage>;
    /** The answer as it came. Throws when there is none, or the SDK did not take it. */
    request(method: string, params?: { [key: string]: unknown }, options?: CallOptions): Promise<RpcMessage>;
    /** what later calls want to hear */
    setLevel(level: string): Promise<void>;
    close(): Promise<void>;
}

export interface Place {
    url: string;
    headers: Record<string, string>;
}

interface AnyTransport {
    send(message: unknown, options?: unknown): Promise<void>;
    onmessage?: (message: never, extra: never) => void;
}

/** What both SDKs have in common: the wire under a transport. */
function tap(transport: AnyTransport, wire: Recording<RpcMessage>): (method: string) => string | number | undefined {
    const deliver = transport.onmessage!;
    transport.onmessage = (message, extra) => {
        wire.push(message);
        deliver(message, extra);
    };
    const forward = transport.send.bind(transport);
    const last = new Map<string, string | number>();
    transport.send = (message, options) => {
        const { id, method } = message as RpcMessage;
        if (id !== undefined && method !== undefined) last.set(method, id);
        return forward(message, options);
    };
    return (method) => last.get(method);
}

async function outcome(run: Promise<unknown>, find: () => RpcMessage | undefined, method: string): Promise<RpcMessage> {
    let problem: unknown;
    try {
        await within(run, `an answer to ${method}`);
    } catch (error) {
        problem = error;
    }
    const answer = find();
    if (answer === undefined) throw problem ?? new Error(`${method}: the SDK has an answer that never came`);
    if (problem !== undefined && answer.error === undefined) {
        throw new Error(`the SDK did not take ${JSON.stringify(answer).slice(0, 1000)}: ${problem}`, {
            cause: problem,
        });
    }
    return answer;
}

const found = (wire: Recording<RpcMessage>, from: number, id: string | number | undefined) =>
    wire.items.slice(from).find((item) => item.id === id && item.method === undefined);

async function oldSdk(place: Place): Promise<Caller> {
    const client = new OldClient({ name: "sdk-1", version: "1" }, { capabilities: {} });
    const transport = new OldTransport(new URL(place.url), { requestInit: { headers: place.headers } });
    const wire = new Recording<RpcMessage>("message to SDK 1.x");
    await within(client.connect(transport), "SDK 1.x connects");
    const lastId = tap(transport as AnyTransport, wire);
    return {
        version: transport.protocolVersion!,
        isModern: false,
        wire,
        async request(method, params = {}, options = {}) {
            const from = wire.items.length;
            const more = { signal: options.signal, ...(options.progress ? { onprogress: () => {} } : {}) };
            const run =
                method === "tools/list"
                    ? client.listTools(params)
                    : method === "tools/call"
                      ? client.callTool(params as never, undefined, more)
                      : client.request({ method, params } as never, ResultSchema, more);
            return outcome(run, () => found(wire, from, lastId(method)), method);
        },
        setLevel: async (level) => void (await client.setLoggingLevel(level as never)),
        close: async () => {
            await transport.terminateSession().catch(() => {});
            await client.close();
        },
    };
}

async function newSdk(place: Place, mode: "legacy" | "auto" | { pin: string }): Promise<Caller> {
    const client = new Client({ name: "sdk-2", version: "1" }, { capabilities: {}, versionNegotiation: { mode } });
    const transport = new StreamableHTTPClientTransport(new URL(place.url), {
        requestInit: { headers: place.headers },
    });
    const wire = new Recording<RpcMessage>("message to SDK 2.x");
    await within(client.connect(transport), `SDK 2.x (${JSON.stringify(mode)}) connects`);
    const lastId = tap(transport as AnyTransport, wire);
    const version = client.getNegotiatedProtocolVersion()!;
    const isModern = version === MODERN;
    let level: string | undefined;
    return {
        version,
        isModern,
        wire,
        async request(method, given = {}, options = {}) {
            const from = wire.items.length;
            const more = { signal: options.signal, ...(options.progress ? { onprogress: () => {} } : {}) };
            const _meta = { ...(given._meta as object | undefined), [LEVEL_KEY]: level };
            const params = isModern && level !== undefined ? { ...given, _meta } : given;
            const run =
                method === "tools/list"
                    ? client.listTools(params)
                    : method === "tools/call"
                      ? client.callTool(params as never, more)
                      : client.request({ method: method as RequestMethod, params }, more);
            return outcome(run, () => found(wire, from, lastId(method)), method);
        },
        setLevel: async (wanted) => {
            level = wanted;
            if (!isModern) await client.setLoggingLevel(wanted as never);
        },
        close: async () => {
            await transport.terminateSession().catch(() => {});
            await client.close();
        },
    };
}

/** Who declares nothing, and can be asked for nothing. */
const raw = (version: string) => (place: Place) => openRaw(place, version, "http", {});

export const CALLERS: { [name: string]: (place: Place) => Promise<Caller> } = {
    "SDK 1.x": oldSdk,
    "SDK 2.x legacy": (place) => newSdk(place, "legacy"),
    "SDK 2.x auto": (place) => newSdk(place, "auto"),
    "SDK 2.x modern": (place) => newSdk(place, { pin: MODERN }),
    "raw 2025-03-26": raw("2025-03-26"),
    "raw 2025-06-18": raw("2025-06-18"),
    "raw 2026-07-28": raw(MODERN),
};
