/* server.limits.max_in_flight: whoever has many calls waiting does not make another client wait for them. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import net from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";

import { binary, startGateway, type Gateway } from "./lib/gateway.ts";
import { openSession, served } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { post } from "./lib/raw.ts";
import { until, within } from "./lib/wait.ts";

const ERAS = ["legacy", "modern"] as const;

const percentile = (times: number[], part: number) => {
    const sorted = [...times].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!;
};

/** A connection that is kept; one request at a time, written as it is. */
class Kept {
    #socket: net.Socket;
    #done: (() => void) | undefined;
    constructor(port: number) {
        this.#socket = net.connect({ host: "127.0.0.1", port });
        let came = "";
        this.#socket.setEncoding("latin1").on("data", (chunk: string) => {
            came += chunk;
            const head = came.indexOf("\r\n\r\n");
            if (head < 0) return;
            const length = Number(/^Content-Length: (\d+)/im.exec(came)?.[1] ?? NaN);
            const isWhole = Number.isNaN(length) ? came.endsWith("0\r\n\r\n") : came.length >= head + 4 + length;
            if (!isWhole) return;
            assert.match(came, /^HTTP\/1\.1 200 /);
            came = "";
            this.#done!();
        });
        this.#socket.on("error", () => {});
    }
    ask(bytes: string): Promise<void> {
        return new Promise((resolve) => {
            this.#done = resolve;
            this.#socket.write(bytes);
        });
    }
    close(): void {
        this.#socket.destroy();
    }
}

/** A call as bytes, by a client of that name; each in a session of its own where there are sessions. */
async function requester(gateway: Gateway, era: string, name: string): Promise<(id: string) => string> {
    const meta = { "io.modelcontextprotocol/clientInfo": { name, version: "1" } };
    const modern = new ModernClient(gateway, "/mcp/tiny", { meta });
    const session = await openSession(gateway, "/mcp/tiny");
    return (id) => {
        const params = { name: "echo", arguments: {} };
        const { headers, body } =
            era === "modern"
                ? modern.outgoing("tools/call", params, { id })
                : { headers: session.headers, body: { jsonrpc: "2.0", id, method: "tools/call", params } };
        return post(gateway, JSON.stringify(body), headers as { [name: string]: string }, "/mcp/tiny");
    };
}

/*
 * The server takes 50 ms here, so that the thousand, of whom 32 run at a time, are served no faster than a test can keep
 * up with under a sanitizer; each of them waits for a second and a half. docs/BENCHMARKS.md has the figures for 5 ms.
 */
describe("a thousand waiting calls of one client", () => {
    for (const era of ERAS) {
        test(`${era}: another one's calls take about as long as alone`, { timeout: 80_000 }, async (t) => {
            const TINY = join(binary(), "../test/hostile/tiny_http");
            const tiny = spawn(TINY, ["--port", "0", "--delay-ms", "50", "--until-eof"], {
                stdio: ["pipe", "pipe", "inherit"],
            });
            t.after(() => void tiny.stdin.end());
            const { value } = await createInterface(tiny.stdout)[Symbol.asyncIterator]().next();
            const config = { server: { workers: 2 }, servers: { tiny: { url: `http://127.0.0.1:${value}/mcp` } } };
            const gateway = await startGateway({ config, args: ["--log", "info"] }, t);
            await served(gateway, "tiny__echo");
            const CROWD = 1000;
            const CALLS = 60;
            const kept = new Kept(gateway.port);
            const other = await requester(gateway, era, "other");
            const measure = async () => {
                const times: number[] = [];
                for (let i = 0; i < CALLS; i++) {
                    const began = performance.now();
                    await within(kept.ask(other(`other-${i}`)), "an answer");
                    times.push(performance.now() - began);
                }
                return percentile(times, 0.99);
            };
            const alone = await measure();
            const crowd = await requester(gateway, era, "crowd");
            let done = 0;
            let stops = false;
            const members = Array.from({ length: CROWD }, () => new Kept(gateway.port));
            const running = members.map(async (member, i) => {
                while (!stops) {
                    await member.ask(crowd(`crowd-${i}`));
                    done++;
                }
            });
            await until(() => done > CROWD / 10, "the crowd is served");
            const beside = await measure();
            stops = true;
            await within(Promise.all(running), "all of the crowd is answered");
            t.diagnostic(`p99 ${alone.toFixed(1)} ms alone, ${beside.toFixed(1)} ms beside ${done} calls of the crowd`);
            for (const each of [...members, kept]) each.close();
            assert.ok(beside < 2 * alone + 200, `${beside} ms beside a crowd, ${alone} ms alone`);
        });
    }
});
