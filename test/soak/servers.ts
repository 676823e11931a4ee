/*
 * HTTP servers of both eras, and one of HTTP+SSE, in the soak's own process, which can be stopped and started again,
 * frozen, cut off from their clients, and made to forget their sessions. As with soak_child.c, what a call is to meet
 * stands in its arguments. Each has some resources that can be subscribed to; what it tells of one is numbered.
 */
import { randomUUID } from "node:crypto";
import http from "node:http";
import type net from "node:net";

import { MODERN, SERVER_KEY, SUBSCRIPTION_KEY, VERSION_KEY, type Message } from "../integration/fixtures/brain.ts";
import { textFor, type Books, type Wish } from "./books.ts";
import { NUMBER_KEY, RESOURCES, uriOf } from "./news.ts";
import { pause, type Random } from "./random.ts";

export type Era = "sse" | "legacy" | "modern";

const CACHED = { ttlMs: 1000, cacheScope: "public" };
const CAPABILITIES = {
    tools: { listChanged: true },
    resources: { listChanged: true, subscribe: true },
    logging: {},
};

/** Of a legacy server. Over HTTP+SSE it is there while its stream is. */
interface Session {
    uris: Set<string>;
    stream?: http.ServerResponse;
}

/** A subscriptions/listen that runs. */
interface Listen {
    id: string | number;
    asked: { [key: string]: unknown; resourceSubscriptions?: string[] };
    response: http.ServerResponse;
}

/** How a call is answered: on a response of its own, or (`isShared`) among others on the stream of its session. */
interface Reply {
    response: http.ServerResponse;
    isShared: boolean;
    session?: Session | undefined;
    wrap: (result: object) => object;
}

const elicitation = ({ nonce }: Wish) => ({
    mode: "form",
    message: nonce,
    requestedSchema: { type: "object", properties: { said: { type: "string" } } },
});

/** What the answer to a question makes of the call: see Books. */
const answered = ({ nonce }: Wish, result: { action?: string; content?: { said?: string } } | undefined) =>
    result?.action === "accept" ? String(result.content?.said) : `${result?.action ?? "error"} ${nonce}`;

export class SoakServer {
    readonly name: string;
    readonly era: Era;
    port = 0;
    isFrozen = false;
    readonly #random: Random;
    readonly #books: Books;
    readonly #sessions = new Map<string, Session>();
    readonly #listens = new Set<Listen>();
    /** by the id of what was asked */
    readonly #asked = new Map<string, (answer: Message) => void>();
    readonly #told = new Map<string, number>();
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
        return `http://127.0.0.1:${this.port}/${this.era === "sse" ? "sse" : "mcp"}`;
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
        if (this.era === "sse") for (const { stream } of this.#sessions.values()) stream?.end();
        this.#sessions.clear();
        this.#listens.clear();
    }

    /** To whoever has a session, or listens to it. */
    #tell(method: string, isWanted: (session?: Session, listen?: Listen) => boolean, params: object = {}): void {
        const event = (stream: http.ServerResponse | undefined, more: object) =>
            stream?.write(`data: ${JSON.stringify({ jsonrpc: "2.0", method, params: { ...params, ...more } })}\n\n`);
        const { _meta } = params as { _meta?: object };
        for (const session of this.#sessions.values()) if (isWanted(session)) event(session.stream, {});
        for (const listen of this.#listens) {
            if (isWanted(undefined, listen))
                event(listen.response, { _meta: { ..._meta, [SUBSCRIPTION_KEY]: listen.id } });
        }
    }

    announce(): void {
        for (const list of ["tools", "resources"]) {
            this.#tell(
                `notifications/${list}/list_changed`,
                (session, listen) => session !== undefined || listen!.asked[`${list}ListChanged`] === true,
            );
        }
    }

    /** How often this resource was updated. */
    told(uri: string): number {
        return this.#told.get(uri) ?? 0;
    }

    /** This resource is updated, for those who are subscribed. */
    touch(uri: string): void {
        if (this.isFrozen || !this.isUp) return;
        this.#told.set(uri, this.told(uri) + 1);
        const isWanted = (session?: Session, listen?: Listen) =>
            (session?.uris.has(uri) ?? listen!.asked.resourceSubscriptions?.includes(uri)) === true;
        this.#tell("notifications/resources/updated", isWanted, { uri, _meta: { [NUMBER_KEY]: this.told(uri) } });
    }

    /** An update that nobody has asked for. */
    tellStrange(): void {
        this.#tell("notifications/resources/updated", () => true, { uri: `soak://${this.name}/strange` });
    }

    /** Every listen, or stream of a session, ends: as the specification has it, without a word, or in the middle of one. */
    endStreams(): void {
        const end = (response: http.ServerResponse | undefined, last: string) => {
            const how = this.#random.int(0, 2);
            if (how === 0) response?.end(last);
            else if (how === 1) response?.end();
            else {
                response?.write('data: {"jsonrpc":"2.0","meth');
                response?.socket?.resetAndDestroy();
            }
        };
        for (const { id, response } of this.#listens) {
            const result = { resultType: "complete", _meta: { [SUBSCRIPTION_KEY]: id } };
            end(response, `data: ${JSON.stringify({ jsonrpc: "2.0", id, result })}\n\n`);
        }
        this.#listens.clear();
        for (const { stream } of this.#sessions.values()) end(stream, "");
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
        const id = this.#idOf(request);
        if (request.method === "POST" && (this.era === "sse") === request.url!.startsWith("/message")) {
            await this.#post(JSON.parse(Buffer.concat(chunks).toString("utf8")) as Message, request, response);
        } else if (this.era === "legacy" && request.method === "DELETE") {
            response.writeHead(this.#sessions.delete(id) ? 200 : 404).end();
        } else if (this.era === "sse" && request.method === "GET") this.#stream(randomUUID(), response);
        else if (this.era === "legacy" && request.method === "GET" && this.#sessions.has(id)) this.#stream(id, response);
        else response.writeHead(request.method === "GET" && this.era === "legacy" ? 404 : 405).end();
    }

    #idOf(request: http.IncomingMessage): string {
        const { searchParams } = new URL(request.url!, "http://x");
        return String(this.era === "sse" ? searchParams.get("session") : request.headers["mcp-session-id"]);
    }

    /** That of a session, which over HTTP+SSE begins and ends with it. */
    #stream(id: string, response: http.ServerResponse): void {
        const session = this.#sessions.get(id) ?? { uris: new Set() };
        session.stream = response;
        this.#sessions.set(id, session);
        response.writeHead(200, { "Content-Type": "text/event-stream" }).flushHeaders();
        if (this.era === "sse") response.write(`event: endpoint\ndata: /message?session=${id}\n\n`);
        response.on("close", () => {
            if (session.stream === response) delete session.stream;
            if (this.era === "sse") this.#sessions.delete(id);
        });
    }

    async #post(message: Message, request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
        const { id, method } = message;
        const session = this.#sessions.get(this.#idOf(request));
        const isShared = this.era === "sse";
        const json = (status: number, body: object, fields: http.OutgoingHttpHeaders = {}) => {
            const text = JSON.stringify({ jsonrpc: "2.0", id, ...body });
            if (isShared) return void session?.stream?.write(`event: message\ndata: ${text}\n\n`);
            response.writeHead(status, { "Content-Type": "application/json", ...fields }).end(text);
        };
        const meta = message.params?._meta as { [key: string]: unknown } | undefined;
        const isModern = meta?.[VERSION_KEY] === MODERN;
        if (isShared) {
            if (session === undefined) return void response.writeHead(404).end("no session");
            const { do: what } = (message.params?.arguments ?? {}) as Partial<Wish>;
            if (what === "stderr") return void response.writeHead(503).end("busy");
            response.writeHead(202).end("Accepted");
        } else if (isModern !== (this.era === "modern")) {
            const data = { supported: [MODERN], requested: "" };
            return isModern
                ? json(400, { error: { code: -32601, message: "Method not found" } })
                : json(400, { error: { code: -32022, message: "Unsupported protocol version", data } });
        }
        if (method === "initialize") {
            const opened = randomUUID();
            if (!isShared) this.#sessions.set(opened, { uris: new Set() });
            const serverInfo = { name: this.name, version: "1" };
            const protocolVersion = isShared ? "2024-11-05" : "2025-11-25";
            const result = { protocolVersion, capabilities: CAPABILITIES, serverInfo };
            return json(200, { result }, { "Mcp-Session-Id": opened });
        }
        if (!isModern && session === undefined) {
            return json(404, { error: { code: -32001, message: "Session not found" } });
        }
        if (method === undefined) this.#asked.get(String(id))?.(message);
        if (id === undefined || method === undefined) return void (isShared || response.writeHead(202).end());
        if (isModern && method === "subscriptions/listen") return this.#listen(message, response);
        const wrap = (result: object, more: object = {}) =>
            isModern
                ? { resultType: "complete", ...more, ...result, _meta: { [SERVER_KEY]: { name: "s", version: "1" } } }
                : result;
        if (method !== "tools/call") {
            const result = this.#answer(method, isModern, message.params, session);
            if (result === undefined)
                return json(isModern ? 404 : 200, { error: { code: -32601, message: "Method not found" } });
            return json(200, { result: wrap(result, isModern && /list$|discover$/.test(method) ? CACHED : {}) });
        }
        const stream = isShared ? session!.stream : response;
        if (stream === undefined) return undefined;
        return this.#call(message, { response: stream, isShared, session, wrap });
    }

    /** What is no call; undefined: no such method. */
    #answer(method: string, isModern: boolean, params: Message["params"], session?: Session): object | undefined {
        switch (method) {
            case "server/discover":
                return isModern ? { supportedVersions: [MODERN], capabilities: CAPABILITIES } : undefined;
            case "tools/list":
                return { tools: [{ name: "t", inputSchema: { type: "object" } }] };
            case "resources/list":
                return {
                    resources: Array.from({ length: RESOURCES }, (_, n) => ({
                        uri: uriOf(this.name, n),
                        name: String(n),
                    })),
                };
            case "resources/templates/list":
                return { resourceTemplates: [] };
            case "resources/subscribe":
                session?.uris.add(params!.uri as string);
                return isModern ? undefined : {};
            case "resources/unsubscribe":
                session?.uris.delete(params!.uri as string);
                return isModern ? undefined : {};
            case "ping":
            case "logging/setLevel":
                return {};
            default:
                return undefined;
        }
    }

    #listen({ id, params }: Message, response: http.ServerResponse): void {
        const asked = params!.notifications as Listen["asked"];
        const listen: Listen = { id: id!, asked, response };
        const notifications = { ...asked, promptsListChanged: undefined };
        const said = { notifications, _meta: { [SUBSCRIPTION_KEY]: id } };
        const message = { jsonrpc: "2.0", method: "notifications/subscriptions/acknowledged", params: said };
        response.writeHead(200, { "Content-Type": "text/event-stream" }).write(`data: ${JSON.stringify(message)}\n\n`);
        this.#listens.add(listen);
        response.on("close", () => this.#listens.delete(listen));
    }

    /** Undefined: it was asked, and nothing more is to be said now. */
    async #askClient(message: Message, wish: Wish, reply: Reply): Promise<string | undefined> {
        const { response, isShared, wrap } = reply;
        const params = message.params!;
        if (this.era === "modern") {
            const { who } = (params.inputResponses ?? {}) as { who?: object };
            const requestState = `state of ${wish.nonce}`;
            if (who !== undefined) return params.requestState === requestState ? answered(wish, who) : "another's state";
            const inputRequests = { who: { method: "elicitation/create", params: elicitation(wish) } };
            const result = wrap({ resultType: "input_required", inputRequests, requestState });
            response
                .writeHead(200, { "Content-Type": "application/json" })
                .end(JSON.stringify({ jsonrpc: "2.0", id: message.id, result }));
            return undefined;
        }
        const id = `ask ${wish.nonce}`;
        const request = { jsonrpc: "2.0", id, method: "elicitation/create", params: elicitation(wish) };
        if (!isShared) response.writeHead(200, { "Content-Type": "text/event-stream" });
        const answer = await new Promise<Message | undefined>((resolve) => {
            this.#asked.set(id, resolve);
            response.once("close", () => resolve(undefined));
            response.write(`data: ${JSON.stringify(request)}\n\n`);
        });
        this.#asked.delete(id);
        return answer === undefined ? undefined : answered(wish, answer.result);
    }

    async #call(message: Message, reply: Reply): Promise<void> {
        const { response, isShared, wrap } = reply;
        const id = message.id!;
        const params = message.params!;
        const wish = params.arguments as unknown as Wish;
        const progressToken = (params._meta as { progressToken?: unknown } | undefined)?.progressToken;
        const { who } = (params.inputResponses ?? {}) as { who?: object };
        if (wish.do !== "ask" || this.era !== "modern" || who !== undefined) this.#books.ran(wish.nonce);
        const said = wish.do === "ask" ? await this.#askClient(message, wish, reply) : textFor(wish);
        if (said === undefined) return undefined;
        const write = (text: string | Buffer): unknown =>
            response.destroyed ||
            response.write(text) ||
            new Promise((resolve) => response.once("drain", resolve).once("close", resolve));
        const event = (body: object) => write(`data: ${JSON.stringify({ jsonrpc: "2.0", ...body })}\n\n`);
        const body =
            wish.do === "refuse"
                ? { error: { code: 4242, message: wish.nonce } }
                : {
                      result: wrap({
                          content: [{ type: "text", text: said }],
                          ...(wish.do === "fail" ? { isError: true } : {}),
                      }),
                  };
        const whole = JSON.stringify({ jsonrpc: "2.0", id, ...body });
        const wantsEvents = ["progress", "flood", "log", "twice", "stray", "crash-half"].includes(wish.do);
        const isEvents = isShared || response.headersSent || wantsEvents || this.#random.chance(0.4);
        const begin = (fields: http.OutgoingHttpHeaders = {}) =>
            response.headersSent
                ? response
                : response.writeHead(200, {
                      "Content-Type": isEvents ? "text/event-stream" : "application/json",
                      ...fields,
                  });
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
                begin();
                await write("data: this is no message\n\n");
                return void (isShared || response.end());
            case "slow":
                await pause(wish.ms);
                break;
        }
        if (response.destroyed) return undefined;
        if (!isEvents) {
            begin({ "Content-Length": Buffer.byteLength(whole) });
            return this.#drip(wish, whole, write, reply);
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
        else if (wish.do === "changed") this.announce();
        else if (wish.do === "touch") this.touch(uriOf(this.name, wish.n));
        else if (wish.do === "strange") this.tellStrange();
        else if (wish.do === "end-listens") this.endStreams();
        return this.#drip(wish, `data: ${whole}\n\n`, write, reply);
    }

    async #drip(
        wish: Wish,
        text: string,
        write: (text: string) => unknown,
        { response, isShared }: Reply,
    ): Promise<void> {
        if (isShared) await write(text);
        else if (wish.do === "drip") {
            for (let at = 0; at < text.length && !response.destroyed; at += 7) {
                await write(text.slice(at, at + 7));
                await pause(wish.ms);
            }
            response.end();
        } else response.end(text);
    }
}
