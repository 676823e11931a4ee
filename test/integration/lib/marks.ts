/* Calls with a mark each, as many at once as are wanted, on connections that stay: to be found again in a trail. */
import http from "node:http";

import type { Gateway } from "./gateway.ts";
import { openSession, type Outgoing } from "./http.ts";
import { ModernClient } from "./modern.ts";

export type Outcome = "answered" | "refused" | "nothing";

export class Marks {
    readonly gateway: Gateway;
    readonly tool: string;
    readonly sent = new Set<string>();
    /** got a result that has it */
    readonly answered = new Set<string>();
    readonly refused = new Map<string, string>();
    /** the milliseconds that each one took that was answered */
    readonly times: number[] = [];
    #agent: http.Agent;
    #legacy: Record<string, string> | undefined;
    #prefix: string;
    #next = 0;
    #stopped = false;

    constructor(gateway: Gateway, tool: string, prefix: string, atOnce: number) {
        this.gateway = gateway;
        this.tool = tool;
        this.#prefix = prefix;
        this.#agent = new http.Agent({ keepAlive: true, maxSockets: atOnce });
    }

    /** Every second call belongs to a session of the old era. */
    async withSession(): Promise<this> {
        this.#legacy = (await openSession(this.gateway)).headers;
        return this;
    }

    #outgoing(mark: string, n: number): Outgoing {
        const params = { name: this.tool, arguments: { text: mark } };
        if (this.#legacy === undefined || n % 2 === 0) return new ModernClient(this.gateway).outgoing("tools/call", params);
        return { headers: this.#legacy, body: { jsonrpc: "2.0", id: n, method: "tools/call", params } };
    }

    /** One call; whatever happens is an answer. */
    one(): Promise<Outcome> {
        const n = this.#next++, mark = `mark-${this.#prefix}-${n.toString(36)}`;
        const { headers, body } = this.#outgoing(mark, n);
        const bytes = JSON.stringify(body), began = performance.now();
        this.sent.add(mark);
        return new Promise((resolve) => {
            const nothing = () => resolve("nothing");
            const request = http.request(
                {
                    host: "127.0.0.1",
                    port: this.gateway.port,
                    method: "POST",
                    path: "/mcp",
                    agent: this.#agent,
                    headers: {
                        Authorization: `Bearer ${this.gateway.token}`,
                        Accept: "application/json, text/event-stream",
                        "Content-Type": "application/json",
                        "Content-Length": Buffer.byteLength(bytes),
                        ...(headers as Record<string, string>),
                    },
                },
                (response) => {
                    let text = "";
                    response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
                    response.on("error", nothing).on("aborted", nothing).on("close", nothing);
                    response.on("end", () => {
                        if (!response.complete) return nothing();
                        if (response.statusCode === 200 && text.includes(mark) && !text.includes('"isError":true')) {
                            this.answered.add(mark);
                            this.times.push(performance.now() - began);
                            return resolve("answered");
                        }
                        this.refused.set(mark, `${response.statusCode} ${text}`);
                        resolve("refused");
                    });
                },
            );
            request.on("error", nothing);
            request.end(bytes);
        });
    }

    /** `atOnce` loops of calls until stop(), or until each has done its part of `n`. */
    async run(atOnce: number, n = Infinity): Promise<void> {
        let left = n;
        await Promise.all(
            Array.from({ length: atOnce }, async () => {
                while (!this.#stopped && left-- > 0) if ((await this.one()) === "nothing" && n === Infinity) return;
            }),
        );
    }

    stop(): void {
        this.#stopped = true;
    }

    end(): void {
        this.#agent.destroy();
    }
}
