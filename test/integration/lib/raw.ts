/* A connection without HTTP: what is written goes as it is, what came is kept. */
import net from "node:net";

import type { Gateway } from "./gateway.ts";
import { parseResponses, type RawAnswer } from "./http.ts";
import { ModernClient } from "./modern.ts";
import { until, within } from "./wait.ts";

export class Raw {
    readonly socket: net.Socket;
    readonly closed: Promise<void>;
    #chunks: Buffer[] = [];
    constructor(port: number, localAddress = "127.0.0.1") {
        this.socket = net.connect({ host: "127.0.0.1", port, localAddress });
        this.socket.on("data", (chunk) => this.#chunks.push(chunk));
        this.socket.on("error", () => {});
        this.closed = new Promise((resolve) => this.socket.once("close", () => resolve()));
    }
    get bytes(): Buffer {
        return Buffer.concat(this.#chunks);
    }
    /** when the gateway has closed it */
    async answers(ms?: number): Promise<RawAnswer[]> {
        await within(this.closed, "the gateway closes the connection", ms);
        return parseResponses(this.bytes);
    }
    /** A request on it that is answered: it is a connection like any other. */
    async health(): Promise<number> {
        const before = this.bytes.length;
        this.socket.write("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        await until(() => this.bytes.length > before || this.socket.destroyed, "an answer on the connection");
        return parseResponses(this.bytes.subarray(before))[0]?.status ?? 0;
    }
    end(): void {
        this.socket.destroy();
    }
}

/** The bytes of a POST, perhaps of a part of its body. */
export function post(
    gateway: Gateway,
    body: string | Buffer,
    headers: { [name: string]: string } = {},
    path = "/mcp",
): string {
    const fields = {
        Host: `127.0.0.1:${gateway.port}`,
        Authorization: `Bearer ${gateway.token}`,
        Accept: "application/json, text/event-stream",
        "Content-Type": "application/json",
        "Content-Length": String(Buffer.byteLength(body)),
        ...headers,
    };
    const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
    return `POST ${path} HTTP/1.1\r\n${lines.join("")}\r\n${body.toString()}`;
}

/** A call of 2026-07-28 as bytes. */
export function modernPost(gateway: Gateway, path: string, params: { [key: string]: unknown }): string {
    const { headers, body } = new ModernClient(gateway, path).outgoing("tools/call", params);
    return post(gateway, JSON.stringify(body), headers as { [name: string]: string }, path);
}
