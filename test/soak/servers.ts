/*
 * HTTP servers of both eras in the soak's own process, which can be stopped and started again, frozen, cut off from their
 * clients, and made to forget their sessions. As with soak_child.c, what a call is to meet stands in its arguments.
 */
import { randomUUID } from "node:crypto";
import http from "node:http";
import type net from "node:net";

import { MODERN, SERVER_KEY, VERSION_KEY, type Message } from "../integration/fixtures/brain.ts";
import { textFor, type Books, type Wish } from "./books.ts";
import { pause, type Random } from "./random.ts";

export type Era = "legacy" | "modern";

const CACHED = { ttlMs: 1000, cacheScope: "public" };
const CAPABILITIES = { tools: { listChanged: true }, logging: {} };

export class SoakServer {
    readonly name: string;
    readonly era: Era;
    port = 0;
    isFrozen = false;
    readonly #random: Random;
    readonly #books: Books;
    readonly #sessions = new Set<string>();
    readonly #streams = new Set<http.ServerResponse>();
    readonly #sockets = new Set<net.Socket>();
    #server: http.Server | undefined;

    readonly #keepAlive: number[];

    constructor(name: string, era: Era, random: Random, books: Books, keepAlive: number[]) {
        this.#keepAlive = keepAlive;
        this.name = name;
        this.era = era;
        this.#random = random;
        this.#books = books;
    }

    get url(): string {
        return `http://127.0.0.1:${this.port}/mcp`;
    }

    get isUp(): boolean {
        return this.#server !== undefined;
    }

    /** A port that nobody is given by chance while this server is down: below the kernel's range. */
    async choosePort(): Promise<void> {
        for (let tries = 0; tries < 100; tries++) {
            this.port = this.#random.int(20_000, 32_000);
            if (await this.start()) return;
        }
        throw new Error("no free port");
    }

    /** False: the port is taken. */
    async start(): Promise<boolean> {
        if (this.#server !== undefined) return true;
        const server = http.createServer((request, response) => void this.#serve(request, response));
        server.keepAliveTimeout = this.#random.pick(this.#keepAlive);
        server.on("connection", (socket: net.Socket) => {
            this.#sockets.add(socket);
            socket.on("error", () => {});
            socket.on("close", () => this.#sockets.delete(socket));
        });
        return new Promise((resolve) => {
            server.once("error", () => resolve(false));
            server.listen(this.port, "127.0.0.1", () => {
                this.#server = server;
                resolve(true);
            });
        });
    }

    /** Gone in the middle of everything, its sessions too. */
    async stop(): Promise<void> {
        const server = this.#server;
        this.#server = undefined;
        this.forget();
        if (server === undefined) return;
        const closed = new Promise((resolve) => server.close(resolve));
        this.reset();
        await closed;
    }

    reset(): void {
        for (const socket of this.#sockets) socket.resetAndDestroy();
    }

    forget(): void {
        this.#sessions.clear();
        this.#streams.clear();
    }

    announce(): void {
        for (const stream of this.#streams) {
            stream.write(`data: ${JSON.stringify({ jsonrpc: "2.0", method: "notifications/tools/list_changed" })}\n\n`);
        }
    }

    get connections(): number {
        return this.#sockets.size;
    }

    async #serve(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
        response.on("error", () => {});
        const chunks: Buffer[] = [];
        try {
            for await (const chunk of request) chunks.push(chunk as Buffer);
        } catch {
            return; // the gateway hung up in between
        }
        while (this.isFrozen) await pause(50);
        if (request.socket.destroyed) return;
        if (request.method === "POST") {
            await this.#post(JSON.parse(Buffer.concat(chunks).toString("utf8")) as Message, request, response);
        } else if (this.era === "legacy" && request.method === "DELETE") {
            response.writeHead(this.#sessions.delete(String(request.headers["mcp-session-id"])) ? 200 : 404).end();
        } else if (this.era === "legacy" && request.method === "GET" && this.#isKnown(request)) {
            response.writeHead(200, { "Content-Type": "text/event-stream" }).flushHeaders();
            this.#streams.add(response);
            response.on("close", () => this.#streams.delete(response));
        } else response.writeHead(request.method === "GET" && this.era === "legacy" ? 404 : 405).end();
    }

    #isKnown(request: http.IncomingMessage): boolean {
        return this.#sessions.has(String(request.headers["mcp-session-id"]));
    }

    async #post(message: Message, request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
        const { id, method } = message;
        const json = (status: number, body: object, fields: http.OutgoingHttpHeaders = {}) => {
            const text = JSON.stringify({ jsonrpc: "2.0", id, ...body });
            response.writeHead(status, { "Content-Type": "application/json", ...fields }).end(text);
        };
        const meta = message.params?._meta as { [key: string]: unknown } | undefined;
        const isModern = meta?.[VERSION_KEY] === MODERN;
        if (isModern !== (this.era === "modern")) {
            const data = { supported: [MODERN], requested: "" };
            return isModern
                ? json(400, { error: { code: -32601, message: "Method not found" } })
                : json(400, { error: { code: -32022, message: "Unsupported protocol version", data } });
        }
        if (method === "initialize") {
            const session = randomUUID();
            this.#sessions.add(session);
            const serverInfo = { name: this.name, version: "1" };
            const result = { protocolVersion: "2025-11-25", capabilities: CAPABILITIES, serverInfo };
            return json(200, { result }, { "Mcp-Session-Id": session });
        }
        if (!isModern && !this.#isKnown(request)) {
            return json(404, { error: { code: -32001, message: "Session not found" } });
        }
        if (id === undefined) return void response.writeHead(202).end();
        const wrap = (result: object, more: object = {}) =>
            isModern
                ? { resultType: "complete", ...more, ...result, _meta: { [SERVER_KEY]: { name: "s", version: "1" } } }
                : result;
        if (method === "server/discover") {
            return json(200, { result: wrap({ supportedVersions: [MODERN], capabilities: CAPABILITIES }, CACHED) });
        }
        if (method === "tools/list") {
            return json(200, { result: wrap({ tools: [{ name: "t", inputSchema: { type: "object" } }] }, CACHED) });
        }
        if (method === "ping" || method === "logging/setLevel") return json(200, { result: {} });
        if (method !== "tools/call")
            return json(isModern ? 404 : 200, { error: { code: -32601, message: "Method not found" } });
        const wish = message.params!.arguments as unknown as Wish;
        this.#books.ran(wish.nonce);
        return this.#call(wish, id!, meta?.progressToken, wrap, response);
    }

    async #call(
        wish: Wish,
        id: string | number,
        progressToken: unknown,
        wrap: (result: object) => object,
        response: http.ServerResponse,
    ): Promise<void> {
        const write = (text: string | Buffer): unknown =>
            response.destroyed ||
            response.write(text) ||
            new Promise((resolve) => response.once("drain", resolve).once("close", resolve));
        const event = (message: object) => write(`data: ${JSON.stringify({ jsonrpc: "2.0", ...message })}\n\n`);
        const body =
            wish.do === "refuse"
                ? { error: { code: 4242, message: wish.nonce } }
                : {
                      result: wrap({
                          content: [{ type: "text", text: textFor(wish) }],
                          ...(wish.do === "fail" ? { isError: true } : {}),
                      }),
                  };
        const whole = JSON.stringify({ jsonrpc: "2.0", id, ...body });
        const wantsEvents = ["progress", "flood", "log", "twice", "stray", "crash-half"].includes(wish.do);
        const isEvents = wantsEvents || this.#random.chance(0.4);
        const begin = (fields: http.OutgoingHttpHeaders = {}) =>
            response.writeHead(200, { "Content-Type": isEvents ? "text/event-stream" : "application/json", ...fields });
        switch (wish.do) {
            case "hang":
                if (this.#random.chance(0.5)) begin().flushHeaders();
                return undefined;
            case "crash":
                return void response.socket?.resetAndDestroy();
            case "crash-half":
                begin();
                await write(`data: ${whole.slice(0, whole.length >> 1)}`);
                return void response.socket?.resetAndDestroy();
            case "stderr":
                return void response.writeHead(503, { "Content-Type": "text/plain", "Retry-After": "1" }).end("busy");
            case "garbage":
                return void begin().end("data: this is no message\n\n");
            case "slow":
                await pause(wish.ms);
                break;
        }
        if (response.destroyed) return undefined;
        if (!isEvents) {
            begin({ "Content-Length": Buffer.byteLength(whole) });
            return this.#drip(wish, whole, write, response);
        }
        begin();
        if (wish.do === "progress" || wish.do === "flood") {
            for (let progress = 1; progressToken !== undefined && progress <= wish.n; progress++) {
                await event({
                    method: "notifications/progress",
                    params: { progressToken, progress, message: wish.nonce },
                });
                if (wish.do === "progress") await pause(wish.ms);
            }
        } else if (wish.do === "log") {
            for (let i = 0; i < wish.n; i++) {
                await event({
                    method: "notifications/message",
                    params: { level: "error", data: `${wish.nonce} ${i}` },
                });
            }
        } else if (wish.do === "stray") await event({ id: 987654321, result: { content: [] } });
        else if (wish.do === "twice") await write(`data: ${whole}\n\n`);
        if (wish.do === "changed") this.announce();
        return this.#drip(wish, `data: ${whole}\n\n`, write, response);
    }

    async #drip(
        wish: Wish,
        text: string,
        write: (text: string) => unknown,
        response: http.ServerResponse,
    ): Promise<void> {
        if (wish.do === "drip") {
            for (let at = 0; at < text.length && !response.destroyed; at += 7) {
                await write(text.slice(at, at + 7));
                await pause(wish.ms);
            }
            response.end();
        } else response.end(text);
    }
}
