/*
 * The MCP server behind the conformance tests: `node fixture.ts [both|legacy|modern]`. Made with the SDK 2.x, on one
 * endpoint, /mcp: 2026-07-28 without state, and 2025-11-25 (and older) with sessions and resumable streams. Prints its
 * port as one line, and ends with its standard input.
 */
import { randomUUID } from "node:crypto";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { localhostHostValidation, localhostOriginValidation, toNodeHandler } from "@modelcontextprotocol/node";
import {
    createMcpHandler,
    isInitializeRequest,
    isJsonContentType,
    isLegacyRequest,
    WebStandardStreamableHTTPServerTransport,
    type EventStore,
    type JSONRPCMessage,
    type McpServer,
} from "@modelcontextprotocol/server";

import { makeServer, subscriptions, WATCHED, type Changes } from "./fixture/surface.ts";

const eras = process.argv[2] ?? "both";

/** The events of one session, for as long as it lives. */
class Events implements EventStore {
    #events: { id: string; stream: string; message: JSONRPCMessage }[] = [];

    async storeEvent(stream: string, message: JSONRPCMessage): Promise<string> {
        const id = `${stream}::${this.#events.length}`;
        this.#events.push({ id, stream, message });
        return id;
    }

    async getStreamIdForEventId(id: string): Promise<string | undefined> {
        return this.#events.find((event) => event.id === id)?.stream;
    }

    async replayEventsAfter(
        id: string,
        { send }: { send: (id: string, message: JSONRPCMessage) => Promise<void> },
    ): Promise<string> {
        const at = this.#events.findIndex((event) => event.id === id);
        const stream = this.#events[at]?.stream ?? "";
        for (const event of this.#events.slice(at + 1)) {
            // A priming event has no message; only what it primed for is sent again.
            if (at >= 0 && event.stream === stream && "jsonrpc" in event.message) await send(event.id, event.message);
        }
        return stream;
    }
}

interface Session {
    server: McpServer;
    transport: WebStandardStreamableHTTPServerTransport;
}
const sessions = new Map<string, Session>();

const changes: Changes = {
    tools: 0,
    prompts: 0,
    resource: 0,
    changed(what) {
        if (what === "tools") modern.notify.toolsChanged();
        else if (what === "prompts") modern.notify.promptsChanged();
        else modern.notify.resourceUpdated(WATCHED);
        for (const { server } of sessions.values()) {
            if (what === "tools") server.sendToolListChanged();
            else if (what === "prompts") server.sendPromptListChanged();
            else if (subscriptions.get(server)?.has(WATCHED)) {
                void server.server.sendResourceUpdated({ uri: WATCHED });
            }
        }
    },
};

const modern = createMcpHandler((context) => makeServer(context, changes), {
    legacy: "reject",
    onerror: (error) => console.error(String(error)),
});

const refusal = (status: number, code: number, message: string) =>
    Response.json({ jsonrpc: "2.0", error: { code, message } }, { status });

/** Streamable HTTP of 2025-11-25: a session begins with initialize and is known by its id from then on. */
async function legacy(request: Request): Promise<Response> {
    const id = request.headers.get("mcp-session-id");
    if (id !== null) {
        const session = sessions.get(id);
        if (session === undefined) return refusal(404, -32001, "Session not found");
        return session.transport.handleRequest(request);
    }
    if (request.method !== "POST") return refusal(400, -32000, "Bad Request: Mcp-Session-Id is missing");
    if (!isJsonContentType(request.headers.get("content-type"))) return refusal(415, -32000, "Unsupported Media Type");
    let parsedBody: unknown;
    try {
        parsedBody = await request.json();
    } catch {
        return refusal(400, -32700, "Parse error");
    }
    if (!isInitializeRequest(parsedBody)) return refusal(400, -32000, "Bad Request: no session");
    const server = makeServer({ era: "legacy" }, changes);
    const transport: WebStandardStreamableHTTPServerTransport = new WebStandardStreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        eventStore: new Events(),
        retryInterval: 200,
        onsessioninitialized: (created) => void sessions.set(created, { server, transport }),
        onsessionclosed: (closed) => void sessions.delete(closed),
    });
    await server.connect(transport);
    return transport.handleRequest(request, { parsedBody });
}

async function serve(request: Request): Promise<Response> {
    if (eras === "modern") return modern.fetch(request);
    if (await isLegacyRequest(request)) return legacy(request);
    // A server that never heard of 2026-07-28 sees a request without a session.
    return eras === "legacy" ? legacy(request) : modern.fetch(request);
}

const isHostOurs = localhostHostValidation();
const isOriginOurs = localhostOriginValidation();
const handle = toNodeHandler({ fetch: serve }, { onerror: (error) => console.error(String(error)) });

const listener = http.createServer((request, response) => {
    if (!isHostOurs(request, response) || !isOriginOurs(request, response)) return;
    if (new URL(request.url ?? "/", "http://localhost").pathname !== "/mcp") {
        response.writeHead(404).end();
        return;
    }
    void handle(request, response);
});
listener.listen(0, "127.0.0.1", () => {
    process.stdout.write(`${(listener.address() as AddressInfo).port}\n`);
});
process.stdin.on("close", () => process.exit(0)).resume();
