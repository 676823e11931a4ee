/* A client that knows only stdio, without an SDK: a line is a message, and nothing else may come out. */
import { spawn, type ChildProcess } from "node:child_process";

import { CAPABILITIES_KEY, CLIENT_KEY, MODERN, VERSION_KEY } from "../fixtures/brain.ts";
import type { RpcMessage } from "./control.ts";
import { binary } from "./gateway.ts";
import { initialize } from "./http.ts";
import { Recording, within } from "./wait.ts";

export class StdioClient {
    readonly process: ChildProcess;
    readonly messages = new Recording<RpcMessage>("message on stdout");
    readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
    stderr = "";
    #held = "";
    #next = 1;

    constructor(args: string[], env: NodeJS.ProcessEnv = process.env) {
        this.process = spawn(binary(), args, { env, stdio: ["pipe", "pipe", "pipe"] });
        this.process.stdin!.on("error", () => {});
        this.process.stdout!.setEncoding("utf8").on("data", (chunk: string) => {
            const lines = (this.#held + chunk).split("\n");
            this.#held = lines.pop()!;
            for (const line of lines) this.messages.push(JSON.parse(line) as RpcMessage);
        });
        this.process.stderr!.setEncoding("utf8").on("data", (chunk: string) => (this.stderr += chunk));
        this.exited = new Promise((resolve) =>
            this.process.once("close", (code, signal) => {
                this.messages.end(`it ended: code ${code}, signal ${signal}: ${this.stderr.slice(-2000)}`);
                resolve({ code, signal });
            }),
        );
    }

    write(message: unknown): void {
        this.process.stdin!.write(`${typeof message === "string" ? message : JSON.stringify(message)}\n`);
    }

    answer(id: string | number | undefined, from = 0): Promise<RpcMessage> {
        return this.messages.waitFor((message) => message.id === id && message.method === undefined, from);
    }

    request(method: string, params?: unknown, id: string | number = this.#next++): Promise<RpcMessage> {
        const from = this.messages.items.length;
        this.write({ jsonrpc: "2.0", id, method, params });
        return this.answer(id, from);
    }

    /** A request of 2026-07-28. */
    modern(method: string, params: { [key: string]: unknown } = {}, id?: string | number): Promise<RpcMessage> {
        const _meta = {
            [VERSION_KEY]: MODERN,
            [CAPABILITIES_KEY]: {},
            [CLIENT_KEY]: { name: "stdio-modern", version: "1" },
            ...(params._meta as object | undefined),
        };
        return this.request(method, { ...params, _meta }, id);
    }

    call(name: string, args: { [key: string]: unknown } = {}, id?: string | number): Promise<RpcMessage> {
        return this.request("tools/call", { name, arguments: args }, id);
    }

    async initialize(version = "2025-11-25"): Promise<RpcMessage> {
        this.write(initialize(version));
        const answer = await this.answer("init");
        this.write({ jsonrpc: "2.0", method: "notifications/initialized" });
        return answer;
    }

    /** Closes stdin; resolves when the process is gone. Fails when a sanitizer complained. */
    async close(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
        this.process.stdin!.end();
        try {
            const ended = await within(this.exited, () => `it ends; ${this.stderr.slice(-2000)}`);
            const complaint = /(ERROR|WARNING): \w+Sanitizer|: runtime error: .*/.exec(this.stderr);
            if (complaint !== null) throw new Error(`a sanitizer complained:\n${this.stderr}`);
            if (this.#held !== "") throw new Error(`half a line on stdout: ${this.#held}`);
            return ended;
        } finally {
            this.process.kill("SIGKILL"); // nothing when it has ended
        }
    }
}
