/*
 * A proxy that is wrong in one way: it passes everything as it came, but for what a mutation does to it. Bytes of a
 * body are touched only where the mutation wants its messages.
 */
import http from "node:http";
import type { AddressInfo } from "node:net";

import type { Rpc } from "./wire.ts";

export type Fields = [name: string, value: string][];

/** One event of a stream: its lines as name and value; comments have an empty name. */
export type Event = Fields;

export interface Mutation {
    name: string;
    /** what table 4.6 says sees it: tests of this revision, of both, or none */
    visible: "2025-11-25" | "2026-07-28" | "both" | "none";
    /** the header fields of the request, without those of the connection itself */
    requestFields?: (fields: Fields, proxy: { port: number; target: number }) => Fields;
    requestMessage?: (message: Rpc) => void;
    status?: (status: number) => number;
    responseFields?: (fields: Fields) => Fields;
    responseMessage?: (message: Rpc) => void;
    event?: (event: Event) => Event;
    /** nothing of a stream goes out before its end */
    buffer?: true;
    delayMs?: number;
}

const HOP = new Set(["connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "te", "trailer"]);

function fieldsOf(raw: string[]): Fields {
    const fields: Fields = [];
    for (let at = 0; at < raw.length; at += 2) {
        if (!HOP.has(raw[at]!.toLowerCase())) fields.push([raw[at]!, raw[at + 1]!]);
    }
    return fields;
}

/** Changes the messages of a JSON text; any other text stays as it is. */
function rewrite(text: string, change: (message: Rpc) => void): string {
    let value: unknown;
    try {
        value = JSON.parse(text);
    } catch {
        return text;
    }
    for (const message of [value].flat()) {
        if (typeof message === "object" && message !== null) change(message as Rpc);
    }
    return JSON.stringify(value);
}

function readEvent(block: string): Event {
    return block.split("\n").map((line) => {
        const colon = line.indexOf(":");
        if (colon < 0) return [line, ""];
        return [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
    });
}

function writeEvent(event: Event): string {
    return `${event.map(([name, value]) => `${name}: ${value}\n`).join("")}\n`;
}

export interface Proxy {
    port: number;
    stop(): Promise<void>;
}

/** In front of a port of this machine. */
export async function startProxy(target: number, mutation: Mutation): Promise<Proxy> {
    const agent = new http.Agent({ keepAlive: true });
    const server = http.createServer((request, response) => {
        void pass(request, response).catch(() => response.destroy());
    });

    async function pass(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
        const chunks: Buffer[] = [];
        for await (const chunk of request) chunks.push(chunk as Buffer);
        let body = Buffer.concat(chunks);
        if (mutation.requestMessage !== undefined && body.length > 0) {
            body = Buffer.from(rewrite(body.toString("utf8"), mutation.requestMessage));
        }
        await new Promise<void>((resolve) => void setTimeout(resolve, mutation.delayMs ?? 0));
        const port = (server.address() as AddressInfo).port;
        let fields = fieldsOf(request.rawHeaders);
        fields = mutation.requestFields?.(fields, { port, target }) ?? fields;
        // The one thing that a proxy on another port cannot leave alone: what names that port.
        fields = fields.map(([name, value]) =>
            /^(host|origin)$/i.test(name) ? [name, value.replace(`:${port}`, `:${target}`)] : [name, value],
        );
        if (body.length > 0) fields.push(["Content-Length", String(body.length)]);
        const onward = http.request({
            host: "127.0.0.1",
            port: target,
            method: request.method,
            path: request.url,
            headers: fields.flat(),
            setHost: false,
            agent,
        });
        response.on("close", () => {
            if (!response.writableFinished) onward.destroy(); // who hangs up, hangs up on the server
        });
        const incoming = await new Promise<http.IncomingMessage>((resolve, reject) => {
            onward.once("response", resolve);
            onward.once("error", reject);
            onward.end(body);
        });
        await answer(incoming, response);
    }

    async function answer(incoming: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
        let fields = fieldsOf(incoming.rawHeaders);
        fields = mutation.responseFields?.(fields) ?? fields;
        const status = mutation.status?.(incoming.statusCode!) ?? incoming.statusCode!;
        const type = incoming.headers["content-type"] ?? "";
        const length = incoming.headers["content-length"];
        const isTouched = mutation.responseMessage !== undefined || mutation.event !== undefined;
        if (!isTouched && length !== undefined) fields.push(["Content-Length", length]);
        response.writeHead(status, fields.flat());
        if (type.startsWith("text/event-stream") && (isTouched || mutation.buffer)) {
            await passEvents(incoming, response);
        } else if (mutation.responseMessage !== undefined) {
            const chunks: Buffer[] = [];
            for await (const chunk of incoming) chunks.push(chunk as Buffer);
            response.end(rewrite(Buffer.concat(chunks).toString("utf8"), mutation.responseMessage));
        } else {
            response.flushHeaders();
            for await (const chunk of incoming) response.write(chunk);
            response.end();
        }
    }

    async function passEvents(incoming: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
        if (!mutation.buffer) response.flushHeaders();
        let out = "";
        let held = "";
        incoming.setEncoding("utf8");
        for await (const chunk of incoming) {
            held += chunk as string;
            for (let end = held.indexOf("\n\n"); end >= 0; end = held.indexOf("\n\n")) {
                let event = readEvent(held.slice(0, end));
                held = held.slice(end + 2);
                event = mutation.event?.(event) ?? event;
                if (mutation.responseMessage !== undefined) {
                    event = event.map(([name, value]) =>
                        name === "data" && value !== ""
                            ? [name, rewrite(value, mutation.responseMessage!)]
                            : [name, value],
                    );
                }
                out += writeEvent(event);
            }
            if (!mutation.buffer) {
                response.write(out);
                out = "";
            }
        }
        response.end(out);
    }

    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return {
        port: (server.address() as AddressInfo).port,
        stop: async () => {
            server.closeAllConnections();
            agent.destroy();
            await new Promise((resolve) => server.close(resolve));
        },
    };
}
