/* The test's side of the fixture server: its options, what it tells, what it is told to do. */
import { writeFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { BrainOptions } from "../fixtures/brain.ts";
import type { FixtureOptions } from "../fixtures/server.ts";
import { removeFolder, temporaryFolder } from "./temp.ts";
import { Recording, within } from "./wait.ts";

export type { FixtureOptions } from "../fixtures/server.ts";

const SERVER = fileURLToPath(new URL("../fixtures/server.ts", import.meta.url));
const BRAIN = fileURLToPath(new URL("../fixtures/brain-stdio.ts", import.meta.url));

export interface RpcMessage {
    jsonrpc?: string;
    id?: string | number;
    method?: string;
    params?: Record<string, unknown>;
    result?: Record<string, unknown>;
    error?: { code: number; message: string; data?: unknown };
}

export interface FixtureEvent {
    event: "start" | "message" | "held" | "set" | "shell" | "eof" | "sigterm";
    name?: string;
    pid?: number;
    cwd?: string;
    environ?: string[];
    stdio?: string[];
    fds?: number;
    id?: string | number;
    message?: RpcMessage;
    stdout?: string;
}

/** One living (or dead) fixture process. */
export class FixtureProcess {
    readonly name: string;
    readonly start: FixtureEvent;
    readonly events: Recording<FixtureEvent>;
    /** resolves when the process is gone */
    readonly gone: Promise<void>;
    #socket: net.Socket;
    #isGone = false;

    constructor(start: FixtureEvent, socket: net.Socket, gone: Promise<void>) {
        this.name = start.name!;
        this.start = start;
        this.events = new Recording(`event of the fixture ${start.name}`);
        this.gone = gone;
        void gone.then(() => (this.#isGone = true));
        this.#socket = socket;
    }

    do(command: Record<string, unknown> & { do: string }): void {
        this.#socket.write(`${JSON.stringify(command)}\n`);
    }

    notify(method: string, params?: unknown): void {
        this.do({ do: "send", message: { jsonrpc: "2.0", method, params } });
    }

    async set(options: Partial<FixtureOptions>): Promise<void> {
        const from = this.events.items.length;
        this.do({ do: "set", options });
        await this.events.waitFor((event) => event.event === "set", from);
    }

    /** Everything that it has told so far is in `events`; what it told and what it answered travel apart. */
    async sync(): Promise<void> {
        try {
            await this.set({});
        } catch (error) {
            if (!this.#isGone) throw error;
        }
    }

    /** What a shell script prints that runs as its child. */
    async shell(script: string): Promise<string> {
        const from = this.events.items.length;
        this.do({ do: "shell", script });
        return (await this.events.waitFor((event) => event.event === "shell", from)).stdout!;
    }

    /** Messages that it received, all or those of one method. */
    received(method?: string): RpcMessage[] {
        return this.events.items
            .filter((event) => event.event === "message")
            .map((event) => event.message!)
            .filter((message) => method === undefined || message.method === method);
    }

    async receives(predicate: (message: RpcMessage) => boolean): Promise<RpcMessage> {
        const event = await this.events.waitFor((item) => item.event === "message" && predicate(item.message!));
        return event.message!;
    }

    async isGone(): Promise<void> {
        await within(this.gone, `the fixture ${this.name} (pid ${this.start.pid}) is gone`);
    }
}

export class Control {
    readonly folder: string;
    readonly path: string;
    readonly starts: Recording<FixtureProcess>;
    #server: net.Server;
    #sockets = new Set<net.Socket>();
    #files = 0;

    constructor(folder: string, server: net.Server) {
        this.folder = folder;
        this.path = join(folder, "control");
        this.starts = new Recording("start of a fixture");
        this.#server = server;
        server.on("connection", (socket) => this.#connected(socket));
    }

    /** The command line of a fixture with these options. */
    command(options: Omit<FixtureOptions, "control">): string[] {
        return this.#command(SERVER, options);
    }

    /** That of fixtures/brain-stdio.ts. */
    brain(options: BrainOptions): string[] {
        return this.#command(BRAIN, options);
    }

    #command(script: string, options: object): string[] {
        const file = join(this.folder, `options-${++this.#files}.json`);
        writeFileSync(file, JSON.stringify({ ...options, control: this.path }));
        return [process.execPath, script, file];
    }

    /** The n-th start (from 1) of the fixture of that name. */
    async started(name: string, n = 1): Promise<FixtureProcess> {
        let seen = 0;
        return this.starts.waitFor((process) => process.name === name && ++seen === n);
    }

    count(name: string): number {
        return this.starts.items.filter((process) => process.name === name).length;
    }

    #connected(socket: net.Socket): void {
        this.#sockets.add(socket);
        let held = "";
        let process: FixtureProcess | undefined;
        const gone = new Promise<void>((resolve) => {
            socket.on("close", () => {
                this.#sockets.delete(socket);
                process?.events.end("it is gone");
                resolve();
            });
        });
        socket.on("error", () => {}); // a killed peer; "close" follows
        socket.setEncoding("utf8");
        socket.on("data", (chunk: string) => {
            held += chunk;
            for (let end = held.indexOf("\n"); end >= 0; end = held.indexOf("\n")) {
                const event = JSON.parse(held.slice(0, end)) as FixtureEvent;
                held = held.slice(end + 1);
                if (process === undefined) {
                    process = new FixtureProcess(event, socket, gone);
                    this.starts.push(process);
                } else process.events.push(event);
            }
        });
    }

    async close(): Promise<void> {
        for (const socket of this.#sockets) socket.destroy();
        await new Promise((resolve) => this.#server.close(resolve));
        removeFolder(this.folder);
    }
}

export async function startControl(): Promise<Control> {
    const folder = temporaryFolder();
    const server = net.createServer();
    const control = new Control(folder, server);
    await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(control.path, resolve);
    });
    server.unref();
    return control;
}
