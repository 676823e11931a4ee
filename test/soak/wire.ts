/*
 * One connection to the gateway, by hand: requests one after the other, each with its whole response, and nothing
 * that was not asked for. Its messages are handed on as they come. `slow` reads little by little.
 */
import net from "node:net";

import type { RpcMessage } from "../integration/lib/control.ts";
import { Trace } from "./books.ts";
import { pause } from "./random.ts";

export interface Response {
    status: number;
    fields: Map<string, string>;
    /** undefined when it was whole */
    broken?: string;
    /** of a body that is no message */
    text: string;
}

export interface WireRequest {
    method?: string;
    path: string;
    fields: { [name: string]: string };
    body?: string;
    onMessage?: (message: RpcMessage) => void;
    /** of HTTP+SSE: what its first event says */
    onEndpoint?: (path: string) => void;
    /** so many pieces of it go out one after the other */
    pieces?: number;
}

type Body = "none" | "length" | "chunk size" | "chunk" | "chunk end" | "trailer";

const EMPTY = Buffer.alloc(0);

export class Wire {
    readonly trace: Trace;
    readonly socket: net.Socket;
    readonly closed: Promise<void>;
    /** by either side; nothing can be sent any more */
    isClosed = false;
    /** something came that nobody had asked for */
    onExcess: (what: string) => void = () => {};
    #held: Buffer = EMPTY;
    #state: "idle" | "head" | Body = "idle";
    #left = 0;
    #response: Response | undefined;
    #isEvents = false;
    #body: Buffer[] = [];
    #request: WireRequest | undefined;
    #done: ((response: Response) => void) | undefined;
    #isSlow: boolean;
    #queue: { request: WireRequest; done: (response: Response) => void }[] = [];

    constructor(port: number, name: string, slow?: { bytes: number; ms: number }) {
        this.trace = new Trace(`connection of ${name}`);
        const highWaterMark = slow?.bytes ?? 64 * 1024;
        this.socket = net.connect({ host: "127.0.0.1", port, highWaterMark } as net.TcpNetConnectOpts);
        this.socket.setNoDelay(true);
        this.#isSlow = slow !== undefined;
        this.socket.on("data", (chunk: Buffer) => {
            if (this.#isSlow) {
                this.socket.pause();
                setTimeout(() => this.socket.resume(), slow!.ms);
            }
            this.#feed(chunk);
        });
        this.socket.on("error", (error) => this.trace.note(String(error)));
        this.socket.on("end", () => {
            this.isClosed = true;
            this.trace.note("the gateway ended the connection");
            this.socket.end();
        });
        this.closed = new Promise((resolve) => {
            this.socket.on("close", () => {
                this.isClosed = true;
                this.trace.note("closed");
                this.#finish("the connection was closed");
                resolve();
            });
        });
    }

    /** a response is awaited */
    get isBusy(): boolean {
        return this.#state !== "idle";
    }

    /** No longer a slow reader. */
    hurry(): void {
        this.#isSlow = false;
        this.socket.resume();
    }

    /** RST, or FIN */
    close(isReset = false): void {
        this.isClosed = true;
        this.trace.note(isReset ? "we reset" : "we close");
        if (isReset) this.socket.resetAndDestroy();
        else this.socket.destroy();
    }

    static bytes(request: WireRequest): string {
        const fields = { ...request.fields };
        if (request.body !== undefined) fields["Content-Length"] = String(Buffer.byteLength(request.body));
        const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
        return `${request.method ?? "POST"} ${request.path} HTTP/1.1\r\n${lines.join("")}\r\n${request.body ?? ""}`;
    }

    /** Never rejects: what went wrong is in `broken`. Those before it need not have their response yet. */
    async request(request: WireRequest): Promise<Response> {
        if (this.isClosed) return { status: 0, fields: new Map(), text: "", broken: "the connection was closed" };
        const done = new Promise<Response>((resolve) => this.#queue.push({ request, done: resolve }));
        if (this.#state === "idle") this.#expect();
        this.trace.note(
            `send ${request.method ?? "POST"} ${request.path} ${request.pieces === undefined ? "" : `in ${request.pieces} pieces `}${(request.body ?? "").slice(0, 200)}`,
        );
        const bytes = Wire.bytes(request);
        if (request.pieces === undefined) this.socket.write(bytes);
        else void this.#drip(bytes, Math.ceil(bytes.length / request.pieces));
        return done;
    }

    #expect(): void {
        const next = this.#queue.shift();
        this.#request = next?.request;
        this.#done = next?.done;
        this.#state = next === undefined ? "idle" : "head";
    }

    async #drip(bytes: string, size: number): Promise<void> {
        for (let at = 0; at < bytes.length && !this.socket.destroyed; at += size) {
            this.socket.write(bytes.slice(at, at + size));
            await pause(2);
        }
    }

    #finish(broken?: string): void {
        const done = this.#done;
        if (done === undefined) return;
        const response: Response = this.#response ?? { status: 0, fields: new Map(), text: "" };
        if (broken !== undefined) response.broken = broken;
        else if (!this.#isEvents) this.#deliver(Buffer.concat(this.#body).toString("utf8"), response);
        this.trace.note(`response ${response.status} ${broken ?? "whole"}`);
        if (response.fields.get("connection") === "close") this.isClosed = true;
        this.#response = undefined;
        this.#body = [];
        this.#expect();
        done(response);
        if (broken !== undefined) this.#finish(broken);
    }

    #deliver(text: string, response: Response): void {
        response.text = text.slice(0, 2000);
        if (text === "" || !(response.fields.get("content-type") ?? "").startsWith("application/json")) return;
        const value = JSON.parse(text) as RpcMessage | RpcMessage[];
        for (const message of Array.isArray(value) ? value : [value]) this.#request!.onMessage?.(message);
    }

    #feed(chunk: Buffer): void {
        try {
            if (!this.isBusy) return this.onExcess(chunk.toString("latin1").slice(0, 300));
            let rest: Buffer | undefined = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
            this.#held = EMPTY;
            while (rest !== undefined && rest.length > 0) {
                if (!this.isBusy) return this.onExcess(rest.toString("latin1").slice(0, 300));
                const next: Buffer | undefined = this.#step(rest);
                if (next === undefined) this.#held = rest;
                rest = next;
            }
        } catch (error) {
            this.onExcess(`unreadable: ${String(error)}`);
            this.socket.destroy();
        }
    }

    /** What is left, or undefined when more is needed. */
    #step(bytes: Buffer): Buffer | undefined {
        if (this.#state === "length" || this.#state === "chunk") {
            const taken = bytes.subarray(0, this.#left);
            this.#left -= taken.length;
            this.#take(taken);
            if (this.#left === 0) {
                if (this.#state === "length") this.#finish();
                else this.#state = "chunk end";
            }
            return bytes.subarray(taken.length);
        }
        const isHead = this.#state === "head";
        const end = bytes.indexOf(isHead ? "\r\n\r\n" : "\r\n");
        if (end < 0) return undefined;
        const text = bytes.toString("latin1", 0, end);
        if (isHead) this.#head(text);
        else if (this.#state === "chunk end") this.#state = "chunk size";
        else if (this.#state === "trailer") this.#finish();
        else {
            if (!/^[0-9a-f]+$/i.test(text)) throw new Error(`chunk size ${JSON.stringify(text)}`);
            this.#left = parseInt(text, 16);
            this.#state = this.#left === 0 ? "trailer" : "chunk";
        }
        return bytes.subarray(end + (isHead ? 4 : 2));
    }

    #head(text: string): void {
        const [first, ...lines] = text.split("\r\n");
        const status = /^HTTP\/1\.1 (\d{3})( |$)/.exec(first!)?.[1];
        if (status === undefined) throw new Error(`status line ${JSON.stringify(first)}`);
        if (status === "100") return;
        const fields = new Map(
            lines.map((line) => [
                line.slice(0, line.indexOf(":")).toLowerCase(),
                line.slice(line.indexOf(":") + 1).trim(),
            ]),
        );
        this.#response = { status: Number(status), fields, text: "" };
        this.#isEvents = (fields.get("content-type") ?? "").startsWith("text/event-stream");
        this.#body = [];
        this.trace.note(`head ${status} ${fields.get("content-type") ?? ""}`);
        if (fields.get("transfer-encoding") === "chunked") this.#state = "chunk size";
        else if (Number(fields.get("content-length") ?? 0) > 0) {
            this.#left = Number(fields.get("content-length"));
            this.#state = "length";
        } else this.#finish();
    }

    /** Events end with an empty line, which is searched in what is new only. */
    #take(bytes: Buffer): void {
        if (!this.#isEvents) {
            this.#body.push(bytes);
            return;
        }
        let from = 0;
        for (;;) {
            const last = this.#body.at(-1);
            if (from === 0 && last !== undefined && last.at(-1) === 10 && bytes[0] === 10) {
                from = 1; // the empty line was cut in two
                this.#event();
                continue;
            }
            const end = bytes.indexOf("\n\n", from);
            if (end < 0) break;
            this.#body.push(bytes.subarray(from, end + 1));
            this.#event();
            from = end + 2;
        }
        if (from < bytes.length) this.#body.push(bytes.subarray(from));
    }

    #event(): void {
        const lines = Buffer.concat(this.#body).toString("utf8").split("\n");
        this.#body = [];
        const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (lines.includes("event: endpoint")) this.#request!.onEndpoint?.(data.join("\n"));
        else if (data.length > 0 && data[0] !== "") this.#request!.onMessage?.(JSON.parse(data.join("\n")) as RpcMessage);
    }
}
