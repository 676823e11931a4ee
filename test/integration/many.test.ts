/*
 * 200 upstreams, of which 20 are dead and 5 hang: those that live are served within two seconds of the gateway's
 * start. The children are test/hostile/tiny_server.c, the HTTP servers ports of test/hostile/tiny_http.c.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import type { RpcMessage } from "./lib/control.ts";
import { binary, startGateway, type ServerConfig } from "./lib/gateway.ts";
import { openSession, text } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { within } from "./lib/wait.ts";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../build-asan", import.meta.url));
const TINY = join(BUILD, "test", "hostile", "tiny_server");
const TINY_HTTP = join(BUILD, "test", "hostile", "tiny_http");

const LIVING = 175;
const WITHIN_MS = 2000;
/*
 * Measured on two cores: 1.5 to 1.6 s, which is mostly the second and a half that a list waits for those that hang; with
 * sanitizers 1.6 to 1.8 s. There another test file runs beside this one, and its share is taken into account.
 */
const SANITIZER_FACTOR = 2;
const isSanitized = readFileSync(binary()).includes("__asan_init");
const limit = WITHIN_MS * (isSanitized ? SANITIZER_FACTOR : 1);

async function ports(t: TestContext, n: number, ...args: string[]): Promise<number[]> {
    const child = spawn(TINY_HTTP, ["--ports", String(n), "--until-eof", ...args], {
        stdio: ["pipe", "pipe", "inherit"],
    });
    t.after(() => child.stdin.end());
    const found: number[] = [];
    await within(
        new Promise<void>((resolve, reject) => {
            child.once("error", reject);
            child.once("exit", (code) => reject(new Error(`tiny_http ended with ${code}`)));
            createInterface(child.stdout).on("line", (line) => found.push(Number(line)) === n && resolve());
        }),
        "tiny_http listens",
    );
    return found;
}

/** A port on which nobody listens. One that was free a moment ago may be the gateway's own by now. */
const REFUSED = 1;

describe("200 upstreams", () => {
    for (const era of ["legacy", "modern"] as const) {
        test(`the living ones are served within ${limit} ms to a ${era} client`, async (t) => {
            const servers: { [name: string]: ServerConfig } = {};
            const url = (port: number) => ({ url: `http://127.0.0.1:${port}/mcp` });
            const add = (kind: string, n: number, make: (i: number) => ServerConfig) => {
                for (let i = 0; i < n; i++) servers[`${kind}-${i}`] = make(i);
            };
            const legacy = await ports(t, 44, "--revision", "legacy", "--sessions", "--sse");
            const modern = await ports(t, 43, "--revision", "modern");
            const hanging = await ports(t, 3, "--hang");
            add("child", 88, () => ({ cmd: [TINY] }));
            add("child-dead", 10, () => ({ cmd: [TINY, "dead"] }));
            add("child-hang", 2, () => ({ cmd: [TINY, "hang"], shutdown_timeout: "100ms" }));
            add("http-legacy", 44, (i) => url(legacy[i]!));
            add("http-modern", 43, (i) => url(modern[i]!));
            add("http-dead", 10, () => url(REFUSED));
            add("http-hang", 3, (i) => url(hanging[i]!));
            assert.equal(Object.keys(servers).length, 200);
            const wanted = Object.keys(servers).filter((name) => !/-(dead|hang)-/.test(name));
            assert.equal(wanted.length, LIVING);

            const began = performance.now();
            const gateway = await startGateway({ config: { servers }, args: ["--log", "info"] }, t);
            const listening = performance.now() - began;
            let request: (method: string, params: { [key: string]: unknown }) => Promise<RpcMessage>;
            if (era === "modern") {
                const client = new ModernClient(gateway);
                request = (method, params) => client.request(method, params);
            } else {
                const session = await openSession(gateway);
                request = (method, params) => session.request(method, params);
            }
            const names: string[] = [];
            let lists = 0;
            while (names.length < LIVING) {
                names.length = 0;
                lists++;
                let cursor: unknown;
                do {
                    const { result } = await request("tools/list", cursor === undefined ? {} : { cursor });
                    names.push(...(result!.tools as { name: string }[]).map((tool) => tool.name));
                    cursor = result!.nextCursor;
                } while (cursor !== undefined);
                const took = performance.now() - began;
                assert.ok(took < limit * 5, `${names.length} of ${LIVING} after ${took.toFixed(0)} ms`);
            }
            const took = performance.now() - began;
            t.diagnostic(
                `${era}: listening after ${listening.toFixed(0)} ms, ${names.length} tools after ${took.toFixed(0)} ms ` +
                    `(${lists} lists)${isSanitized ? ", with sanitizers" : ""}`,
            );
            assert.deepEqual(names.map((name) => name.slice(0, name.indexOf("__"))).sort(), wanted.sort());
            const calls = await Promise.all(
                names.map(async (name) => [
                    name,
                    text(await request("tools/call", { name, arguments: { text: name } })),
                ]),
            );
            for (const [name, said] of calls) {
                if (name!.startsWith("child-")) assert.match(said!, /^pid \d+$/);
                else assert.equal(said, name);
            }
            assert.ok(took < limit, `the list was complete after ${took.toFixed(0)} ms, not within ${limit}`);
        });
    }
});
