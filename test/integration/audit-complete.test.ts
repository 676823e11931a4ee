/*
 * Complete: what clients sent is what is recorded and counted, request for request.
 *
 * A request is
 *   - each JSON-RPC message with a method and an id that came whole, from whomever, alone or in a batch;
 *   - each GET that asks for a stream, each DELETE of a session;
 *   - any other HTTP request that is refused before its messages are looked at: without a credential, with a wrong one, for
 *     another host, from another page, what is no HTTP or no JSON, for a path where there is nothing, beyond a limit. It
 *     counts one, whatever is in it.
 * Notifications and responses are none, nor are health, readiness and metadata, nor connections on which nothing whole came.
 *
 * Records are the lines call, intent, request, stream and session; each line denied counts as many as it says. The same sum
 * is made at the end of every gateway of the whole suite (lib/audit.ts). CARDEA_TEST_SEED chooses another mix,
 * CARDEA_TEST_REQUESTS how many things are done (3000).
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { startHttp } from "./fixtures/http-server.ts";
import { check, isVerified, REQUESTS, trailOf } from "./lib/audit.ts";
import { startGateway, type Config, type Gateway } from "./lib/gateway.ts";
import { exchange, openSession, send, type Session } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { jwt, oauth, Tokens } from "./lib/principals.ts";
import { descendants } from "./lib/proc.ts";
import { random } from "./lib/random.ts";
import { reload } from "./lib/reload.ts";
import { temporaryFolder } from "./lib/temp.ts";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../build-asan", import.meta.url));
const NOTING = join(BUILD, "test", "hostile", "noting_server");
const SEED = Number(process.env.CARDEA_TEST_SEED ?? 1);
const N = Number(process.env.CARDEA_TEST_REQUESTS ?? 3000);
const AT_ONCE = 12;

/** One thing that clients do; says how many requests that was. */
interface Act {
    name: string;
    weight: number;
    run: () => Promise<number>;
}

describe("complete", () => {
    for (const mode of ["best_effort", "required"] as const) {
        test(`${N} things that clients do at random, ${mode}: sent = recorded + counted`, { timeout: 240_000 }, async (t) => {
            const folder = temporaryFolder(), dataDir = join(folder, "data");
                const fixture = await startHttp(
                {
                    on: (exchange) => {
                        const text = (exchange.message.params?.arguments as { text?: string } | undefined)?.text;
                        if (text !== "reset") return false;
                        exchange.reset();
                        return true;
                    },
                },
                t,
            );
            const tokens = new Tokens({ alice: ["dev"], bob: undefined });
            const config: Config = {
                server: { auth: { tokens: tokens.table }, oauth },
                audit: { mode },
                security: {},
                servers: {
                    it: { url: fixture.url, access: "read", tools: { count: { access: "write" } } },
                    child: { cmd: [NOTING, join(folder, "notes")], access: "read", restart: { initial: "50ms", max: "200ms" } },
                    // Breaks off and takes too long: of the others every call arrives.
                    bad: { url: fixture.url, access: "read", timeout: "1s" },
                    ops: { url: fixture.url, access: "read", allow: ["ops"] },
                },
            };
            const gateway = await startGateway({ config, dataDir }, t);
            let sent = 0;
            const die = random(SEED * 7 + (mode === "required" ? 1 : 0));
            const pick = <T>(of: readonly T[]): T => of[die(of.length)]!;
            const who = (): Gateway => pick([gateway, tokens.as(gateway, "alice"), tokens.as(gateway, "bob")]);
            let serial = 0;

            // Opening one is two requests: initialize, and a notification, which is none.
            const open = async (version?: string): Promise<Session> => {
                sent++;
                return openSession(who(), "/mcp", version);
            };
            for (const name of ["it", "child"]) await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === name);
            const sessions = await Promise.all(Array.from({ length: 6 }, () => open()));
            const batches = await Promise.all(Array.from({ length: 2 }, () => open("2025-03-26")));

            const NAMES = ["it__echo", "it__fail", "it__refuse", "it__structured", "it__count", "it__nothing", "child__echo", "bad__echo", "ops__echo", "no__where", ""];
            const LISTS = ["tools/list", "prompts/list", "resources/list", "resources/templates/list"];
            const call = () => {
                const name = pick(NAMES);
                return { name, arguments: { text: pick(["a", name === "bad__echo" ? "reset" : "b", "x".repeat(3000), "é\u0000\n"]), n: die(1000) } };
            };
            const post = (body: unknown) => pick(sessions).send({ body });
            const request = (method: string, params: object = {}) => ({ jsonrpc: "2.0", id: ++serial, method, params });
            const refused = async (outgoing: Parameters<typeof send>[1]) => {
                const { status, text } = await send(gateway, outgoing);
                assert.ok(status >= 400, `${status} ${text}`);
                return 1;
            };
            const raw = async (bytes: string) => {
                await exchange(gateway.port, bytes);
                return 1;
            };

            const ACTS: Act[] = [
                { name: "call, legacy", weight: 20, run: async () => (await post(request("tools/call", call())), 1) },
                { name: "call, modern", weight: 20, run: async () => (await new ModernClient(who()).ask("tools/call", call()), 1) },
                { name: "list, legacy", weight: 6, run: async () => (await post(request(pick(LISTS))), 1) },
                { name: "list, modern", weight: 6, run: async () => (await new ModernClient(who(), pick(["/mcp", "/mcp/it"])).ask(pick(LISTS)), 1) },
                { name: "other methods", weight: 6, run: async () => (await post(request(pick(["ping", "no/such", "logging/setLevel", "completion/complete", "prompts/get", "resources/read"]))), 1) },
                { name: "modern discover", weight: 3, run: async () => (await new ModernClient(who()).ask("server/discover"), 1) },
                { name: "modern without its fields", weight: 3, run: async () => (await new ModernClient(who()).ask("tools/list", {}, { headers: { "Mcp-Method": "tools/call" } }), 1) },
                {
                    name: "batch",
                    weight: 4,
                    run: async () => {
                        const body = [request("ping"), { jsonrpc: "2.0", method: "notifications/x" }, request("tools/call", call()), request("no/such")];
                        const { status, text } = await pick(batches).send({ body });
                        assert.equal(status, 200, text);
                        return 3;
                    },
                },
                { name: "initialize and DELETE", weight: 4, run: async () => (await (await openSession(who())).end(), 2) },
                {
                    name: "stream",
                    weight: 4,
                    run: async () => {
                        const session = await openSession(who());
                        const opened = await session.stream();
                        opened.close();
                        await opened.ended;
                        return 2;
                    },
                },
                { name: "DELETE of no session", weight: 2, run: async () => refused({ method: "DELETE", headers: { "Mcp-Session-Id": "none-of-ours-0000" } }) },
                { name: "POST to no session", weight: 2, run: async () => (await send(gateway, { body: request("ping"), headers: { "Mcp-Session-Id": "none-of-ours-0000" } }), 1) },
                {
                    name: "cancelled",
                    weight: 3,
                    run: async () => {
                        const session = pick(sessions), id = `held-${++serial}`;
                        const answer = session.send({ body: { jsonrpc: "2.0", id, method: "tools/call", params: { name: "it__hold", arguments: { text: id } } } }).catch(() => {});
                        await fixture.requests.waitFor(({ body }) => body.includes(`"${id}"`));
                        await session.notify("notifications/cancelled", { requestId: id });
                        await answer;
                        return 1;
                    },
                },
                {
                    name: "hung up",
                    weight: 3,
                    run: async () => {
                        const id = `gone-${++serial}`, abort = new AbortController();
                        const answer = new ModernClient(who()).request("tools/call", { name: "it__hold", arguments: { text: id } }, { signal: abort.signal }).catch(() => {});
                        await fixture.requests.waitFor(({ body }) => body.includes(`"${id}"`));
                        abort.abort();
                        await answer;
                        return 1;
                    },
                },
                { name: "timed out", weight: 1, run: async () => (await new ModernClient(who()).ask("tools/call", { name: "bad__hold", arguments: {} }), 1) },
                { name: "notification", weight: 4, run: async () => (await pick(sessions).notify(pick(["notifications/roots/list_changed", "notifications/cancelled", "notifications/x"]), { requestId: "none" }), 0) },
                { name: "response", weight: 1, run: async () => (await post({ jsonrpc: "2.0", id: 12345, result: {} }), 0) },
                { name: "health and metadata", weight: 3, run: async () => (await send(gateway, { method: "GET", token: false, path: pick(["/health", "/ready", "/.well-known/oauth-protected-resource/mcp"]) }), 0) },
                { name: "no token", weight: 4, run: async () => refused({ token: false, body: pick([{}, request("ping"), [request("ping"), request("ping")], "{"]) }) },
                { name: "no token, GET", weight: 2, run: async () => refused({ token: false, method: pick(["GET", "DELETE"]) }) },
                { name: "a wrong token", weight: 3, run: async () => refused({ token: pick(["cardea_wrong", "x", "eyJhbGciOiJub25lIn0.e30."]), body: request("ping") }) },
                { name: "an expired token", weight: 2, run: async () => refused({ token: jwt({ sub: "old", exp: 1 }), body: request("ping") }) },
                { name: "a JWT", weight: 2, run: async () => (await new ModernClient({ port: gateway.port, token: jwt({ sub: `j${die(5)}` }) }).ask("tools/list"), 1) },
                { name: "another host", weight: 2, run: async () => refused({ headers: { Host: "evil.example" }, body: request("ping") }) },
                { name: "another page", weight: 2, run: async () => refused({ headers: { Origin: "https://evil.example" }, body: request("ping") }) },
                { name: "no JSON", weight: 3, run: async () => refused({ body: pick(["{", "", "[]", "nul", '{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}']) }) },
                { name: "another type", weight: 2, run: async () => refused({ body: request("ping"), headers: { "Content-Type": "text/plain" } }) },
                { name: "nothing there", weight: 2, run: async () => refused({ method: pick(["GET", "POST"]), path: pick(["/nothing", "/mcp/nobody"]) }) },
                { name: "another verb", weight: 2, run: async () => refused({ method: "PUT", body: {} }) },
                { name: "too much", weight: 1, run: async () => raw(`POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${gateway.token}\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n`) },
                { name: "no HTTP", weight: 2, run: async () => raw(pick(["HELLO\r\n\r\n", "GET /mcp HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET /mcp HTTP/9\r\n\r\n", "\0\0\0\r\n\r\n"])) },
            ];
            const wheel = ACTS.flatMap((act) => Array<Act>(act.weight).fill(act));
            const done = new Map<string, number>();
            let left = N;
            const disturbances = new Map<number, () => unknown>([
                [Math.floor(N * 0.75), () => fixture.expire()],
                [
                    Math.floor(N * 0.6),
                    () => {
                        for (const pid of descendants(gateway.pid))
                            if (readFileSync(`/proc/${pid}/cmdline`, "latin1").includes("noting_server")) process.kill(pid, "SIGKILL");
                    },
                ],
                [Math.floor(N / 2), () => reload(gateway, { ...config, servers: { ...config.servers, more: { url: fixture.url, access: "read" } } })],
                [Math.floor(N / 4), () => fixture.expire()],
            ]);
            await Promise.all(
                Array.from({ length: AT_ONCE }, async () => {
                    while (left-- > 0) {
                        await disturbances.get(left)?.();
                        const act = pick(wheel);
                        const n = await act.run().catch((error: unknown) => {
                            throw new Error(`${act.name}: ${String(error)}`);
                        });
                        sent += n;
                        done.set(act.name, (done.get(act.name) ?? 0) + n);
                    }
                }),
            );
            await gateway.stop();
            const lines = trailOf({ dataDir } as Gateway).lines;
            const records = lines.filter((line) => REQUESTS.has(line.event));
            const denied = lines.filter(({ event }) => event === "denied");
            const counted = denied.reduce((sum, line) => sum + Number(line.count), 0), n = records.length + counted;
            const byEvent = new Map<string, number>();
            for (const line of records) {
                const key = `${line.event} ${String(line.method)} ${String(line.status)}`;
                byEvent.set(key, (byEvent.get(key) ?? 0) + 1);
            }
            const shown = [
                ...[...done].map(([name, count]) => `  sent ${count} of "${name}"`),
                ...[...byEvent].map(([key, count]) => `  recorded ${count} of "${key}"`),
                ...denied.map((line) => `  ${String(line.count)} denied, ${String(line.reason)}`),
            ].join("\n");
            assert.equal(n, sent, `${sent} were sent, ${n} are recorded or counted\n${shown}`);
            if (mode === "required") {
                const outcomes = new Set(lines.filter(({ event }) => event === "outcome").map(({ id }) => id));
                const open = lines.filter((line) => line.event === "intent" && !outcomes.has(line.id));
                assert.deepEqual(open, [], "each intent has its outcome after a clean stop");
            }
            const ids = records.map(({ id }) => id).filter((id) => id !== undefined);
            assert.equal(new Set(ids).size, ids.length, "no id comes twice");
            assert.deepEqual(check(dataDir).problems, []);
            await isVerified(dataDir);
            t.diagnostic(`${sent} requests: ${records.length} records, ${counted} counted`);
        });
    }
});
