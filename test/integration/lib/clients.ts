/* The official SDK's client, over stdio to a server itself or over HTTP to the gateway, with a record of what it gets. */
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { ClientCapabilities, JSONRPCMessage, Notification } from "@modelcontextprotocol/sdk/types.js";

import type { Gateway, StdioConfig } from "./gateway.ts";
import { Recording, within } from "./wait.ts";

export interface Peer {
    client: Client;
    transport: Transport;
    /** everything but progress, which the SDK hands to the call */
    notifications: Recording<Notification>;
    /** every message that came in, as it came */
    wire: Recording<JSONRPCMessage>;
    errors: Error[];
    close(): Promise<void>;
}

export interface PeerOptions {
    capabilities?: ClientCapabilities;
    headers?: Record<string, string>;
}

async function connect(transport: Transport, options: PeerOptions): Promise<Peer> {
    const client = new Client({ name: "cardea-tests", version: "1.0.0" }, { capabilities: options.capabilities ?? {} });
    const peer: Peer = {
        client,
        transport,
        notifications: new Recording<Notification>("notification to the client"),
        wire: new Recording<JSONRPCMessage>("message to the client"),
        errors: [],
        close: async () => {
            if (transport instanceof StreamableHTTPClientTransport) {
                await transport.terminateSession().catch(() => {}); // the gateway may be gone already
            }
            await within(client.close(), "the client is closed");
        },
    };
    client.fallbackNotificationHandler = async (notification) => peer.notifications.push(notification);
    client.onerror = (error) => peer.errors.push(error);
    await within(client.connect(transport), "the client is connected");
    const deliver = transport.onmessage!;
    transport.onmessage = (message, extra) => {
        peer.wire.push(message);
        deliver(message, extra);
    };
    return peer;
}

/** The server itself. */
export async function connectDirect(server: StdioConfig, options: PeerOptions = {}): Promise<Peer> {
    const [command, ...args] = server.cmd;
    const transport = new StdioClientTransport({
        command: command!,
        args,
        env: { PATH: process.env.PATH!, ...(server.env as Record<string, string> | undefined) },
        cwd: server.cwd as string | undefined,
        stderr: "ignore",
    });
    return connect(transport, options);
}

/** The gateway: all upstreams, or one of them. */
export async function connectGateway(gateway: Gateway, upstream?: string, options: PeerOptions = {}): Promise<Peer> {
    const url = new URL(upstream === undefined ? gateway.url : `${gateway.url}/${upstream}`);
    const transport = new StreamableHTTPClientTransport(url, {
        requestInit: { headers: { ...gateway.headers, ...options.headers } },
    });
    return connect(transport, options);
}

/**
 * What came for each request before its answer, by the request's id, which the SDK also takes as progress token. Read
 * from the wire, because the SDK drops a progress notification whose answer arrives in the same chunk.
 */
export function progressOf(wire: JSONRPCMessage[]): Map<string | number, { [key: string]: unknown }[]> {
    const before = new Map<string | number, { [key: string]: unknown }[]>();
    const answered = new Set<string | number>();
    for (const message of wire) {
        if (!("method" in message)) {
            if (message.id !== undefined) answered.add(message.id);
            continue;
        }
        if (message.method !== "notifications/progress") continue;
        const { progressToken, ...rest } = message.params as { progressToken: string | number };
        if (answered.has(progressToken)) throw new Error(`progress for ${progressToken} after its answer`);
        before.set(progressToken, [...(before.get(progressToken) ?? []), rest]);
    }
    return before;
}

/** The error that a call ends with; fails when it does not. */
export async function failure(call: Promise<unknown>): Promise<{ code: number; message: string; data?: unknown }> {
    let answer: unknown;
    try {
        answer = await call;
    } catch (error) {
        const { code, message, data } = error as { code: number; message: string; data?: unknown };
        if (typeof code !== "number") throw error;
        return data === undefined ? { code, message } : { code, message, data };
    }
    throw new Error(`expected an error, got ${JSON.stringify(answer)}`);
}
