/*
 * What has to be there before the gateway listens for other machines: TLS, authentication, and that neither stands in
 * for the other. Every combination goes through `cardea check`, beside an oracle that knows nothing of the code; some
 * through `cardea serve`, with calls to an address of this machine that is not loopback.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";

import { watch } from "./lib/canary.ts";
import { cardea, prepared, type Run } from "./lib/cli.ts";
import { binary, launchGateway, startGateway, type Gateway, type GatewayOptions } from "./lib/gateway.ts";
import { initialize } from "./lib/http.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { Authority } from "./lib/tls.ts";
import { until, within } from "./lib/wait.ts";

const TOKEN = "cardea_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
const HASH = `sha256:${createHash("sha256").update(TOKEN).digest("hex")}`;
const API_TOKEN = "0123456789abcdef".repeat(4);
const SERVER = '[mcp.servers.one]\ncmd = ["true"]\n';

/** An address of this machine that other machines could use, if it has one. */
const outside = Object.values(networkInterfaces())
    .flatMap((each) => each ?? [])
    .find((each) => !each.internal && each.family === "IPv4")?.address;
const unlessOutside = outside === undefined && "this machine has loopback addresses only";

type Callers = "nobody" | "token" | "MCP_API_TOKEN" | "oauth" | "client_ca" | "anonymous";

interface Combination {
    address: string;
    isOpen: boolean;
    callers: Callers;
    none: boolean;
    plaintext: boolean;
    proxies: boolean;
    auto: boolean;
}

function* combinations(): Generator<Combination> {
    const no = [false, true];
    for (const [address, isOpen] of [
        ["127.0.0.1:8000", false],
        ["[::1]:8000", false],
        ["0.0.0.0:8000", true],
        ["[::]:8000", true],
        ["192.0.2.7:8000", true],
    ] as const)
        for (const callers of ["nobody", "token", "MCP_API_TOKEN", "oauth", "client_ca", "anonymous"] as const)
            for (const none of no)
                for (const plaintext of no)
                    for (const proxies of no)
                        for (const auto of no)
                            yield { address, isOpen, callers, none, plaintext, proxies, auto };
}

function write(c: Combination): string {
    const lines = [`server.listen_address = "${c.address}"`];
    if (c.none) lines.push('server.auth.none = "I know"');
    if (c.plaintext) lines.push("server.plaintext = true");
    if (c.proxies) lines.push('server.trusted_proxies = ["198.51.100.1"]');
    if (c.auto) lines.push("server.tls.auto = true");
    if (c.callers === "anonymous") lines.push("server.auth.anonymous = true");
    if (c.callers === "client_ca") lines.push('server.tls.client_ca = "ca.pem"');
    if (c.callers === "token") lines.push("[server.auth.tokens.ci]", `hash = "${HASH}"`);
    if (c.callers === "oauth")
        lines.push(
            "[server.oauth]",
            'issuer = "https://id.example.com"',
            'protected_resource.resource = "https://gw.example.com/mcp"',
        );
    return `${lines.join("\n")}\n${SERVER}`;
}

/** Why it must not start, as words of the message; undefined: it may. */
function refusal(c: Combination): string | undefined {
    const usesTls = c.auto || c.callers === "client_ca";
    if (c.plaintext && usesTls) return "server.plaintext and [server.tls] contradict each other";
    const lets = c.callers === "anonymous" ? "anonymous" : "none";
    if (c.none && !["nobody", "anonymous"].includes(c.callers)) return `server.auth.${lets} lets everybody in, and `;
    if (!c.isOpen) return c.callers === "client_ca" && !c.auto ? "server.tls needs certificate and key" : undefined;
    if (c.plaintext && !c.proxies) return "server.plaintext is for a proxy in front";
    if (c.none) return undefined;
    if (c.callers === "nobody") return "nobody there can prove who they are";
    return c.callers === "anonymous" ? "server.auth.anonymous lets everybody in" : undefined;
}

const withApiToken = (value: string): NodeJS.ProcessEnv => ({ ...process.env, MCP_API_TOKEN: value });
const without = (): NodeJS.ProcessEnv => {
    const env = { ...process.env };
    delete env.MCP_API_TOKEN;
    return env;
};

interface Reply {
    status: number;
    text: string;
}

/** One initialize; throws when there is no answer over HTTP. */
function call(url: string, headers: Record<string, string>, ca?: string): Promise<Reply> {
    const module = url.startsWith("https:") ? https : http;
    const answered = new Promise<Reply>((resolve, reject) => {
        const request = module.request(
            url,
            {
                method: "POST",
                ca,
                agent: false,
                headers: {
                    "Content-Type": "application/json",
                    Accept: "application/json, text/event-stream",
                    ...headers,
                },
            },
            (response) => {
                let text = "";
                response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
                response.once("error", reject).once("end", () => resolve({ status: response.statusCode!, text }));
            },
        );
        request.once("error", reject).end(JSON.stringify(initialize("2025-06-18")));
    });
    return within(answered, `an answer of ${url}`);
}

const bearer = (token: string) => ({ Authorization: `Bearer ${token}` });

describe("beyond loopback", () => {
    let folder: string;
    before(() => (folder = temporaryFolder()));
    after(() => removeFolder(folder));

    test("every combination, in cardea check", { timeout: 300_000 }, async () => {
        const waiting = [...combinations()];
        let [done, refused] = [0, 0];
        const one = async (c: Combination, i: number) => {
            const file = join(folder, `${i}.toml`);
            writeFileSync(file, write(c));
            const env = c.callers === "MCP_API_TOKEN" ? withApiToken(API_TOKEN) : without();
            const run = await cardea(["check", file], { env });
            const reason = refusal(c);
            const about = `${JSON.stringify(c)}\n${write(c)}${run.stdout}${run.stderr}`;
            assert.equal(run.code, reason === undefined ? 0 : 78, about);
            if (reason !== undefined) assert.ok(run.stderr.includes(reason), about);
            if (reason !== undefined) refused++;
            done++;
        };
        const total = waiting.length;
        const worker = async () => {
            for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) await one(next, waiting.length);
        };
        await Promise.all([worker(), worker(), worker(), worker()]);
        assert.equal(done, total);
        assert.ok(refused > 100 && refused < total - 100, `${refused} of ${total} refused`);
    });

    test("an address of the command line and of the environment counts too", async () => {
        const file = join(folder, "closed.toml");
        writeFileSync(file, SERVER);
        const env = without();
        assert.equal((await cardea(["check", file], { env })).code, 0);
        assert.equal((await cardea(["check", "-l", "0.0.0.0:8000", file], { env })).code, 78);
        const byVariable = { ...env, CARDEA_LISTEN_ADDRESS: "0.0.0.0:8000" };
        assert.equal((await cardea(["check", file], { env: byVariable })).code, 78);
        assert.equal((await cardea(["check", "-l", "127.0.0.1:8000", file], { env: byVariable })).code, 0);
    });

    test("serve refuses what check refuses, before it makes or opens anything", async () => {
        const cases: [string, string, RegExp][] = [
            ["0.0.0.0:0", "", /nobody there can prove who they are/],
            ["[::]:0", "", /nobody there can prove who they are/],
            ["0.0.0.0:0", "[server]\nauth.anonymous = true\n", /server\.auth\.anonymous lets everybody in/],
            ["0.0.0.0:0", "[server]\nplaintext = true\nauth.none = 'I know'\n", /server\.plaintext is for a proxy/],
            ["127.0.0.1:0", "[server.tls]\nnames = ['gw']\n", /server\.tls needs certificate and key/],
        ];
        for (const [i, [address, lines, words]] of cases.entries()) {
            const own = join(folder, `serve-${i}`);
            mkdirSync(own);
            const run: Run = await cardea(["serve", "--admin-listen", "off", "-l", address, ...prepared(own, lines + SERVER)], {
                env: without(),
            });
            assert.equal(run.code, 78, run.stderr);
            assert.match(run.stderr, words);
            assert.equal(run.stdout, "");
            assert.ok(!existsSync(join(own, "data")), "nothing was made");
        }
    });

    test("MCP_API_TOKEN contradicts what lets everybody in, on every address", async () => {
        for (const line of ["auth.anonymous = true", 'auth.none = "I know"']) {
            const file = join(folder, "both.toml");
            writeFileSync(file, `[server]\n${line}\n${SERVER}`);
            const run = await cardea(["check", file], { env: withApiToken(API_TOKEN) });
            assert.equal(run.code, 78);
            assert.match(run.stderr, /MCP_API_TOKEN is set in the environment; keep one of them/);
            // Empty is not set.
            assert.equal((await cardea(["check", file], { env: withApiToken("") })).code, 0);
        }
    });

    const start = (t: TestContext, lines: string, options: Partial<GatewayOptions> = {}): Promise<Gateway> =>
        startGateway(
            {
                env: without(),
                ...options,
                config: `[server]\nworkers = 2\nhosts = ["${outside}"]\n${lines}${SERVER}`,
                args: ["-l", "0.0.0.0:0", ...(options.args ?? [])],
            },
            t,
        );
    const authority = (gateway: Gateway) => readFileSync(join(gateway.dataDir, "tls", "ca.pem"), "utf8");

    test("with MCP_API_TOKEN alone: TLS by itself, 401 without, 200 with it", { skip: unlessOutside }, async (t) => {
        const gateway = await start(t, "", { env: withApiToken(API_TOKEN) });
        const url = `https://${outside}:${gateway.port}/mcp`;
        const ca = authority(gateway);
        assert.equal((await call(url, {}, ca)).status, 401);
        assert.equal((await call(url, bearer(`${API_TOKEN}0`), ca)).status, 401);
        assert.equal((await call(url, bearer(API_TOKEN.slice(1)), ca)).status, 401);
        assert.equal((await call(url, bearer(API_TOKEN), ca)).status, 200);
        // The token of the data directory is for this machine alone.
        assert.equal((await call(url, bearer(gateway.token), ca)).status, 401);
        const local = `https://127.0.0.1:${gateway.port}/mcp`;
        assert.equal((await call(local, bearer(gateway.token), ca)).status, 200);
        // Without TLS there is no answer that is HTTP's 200, and nobody's certificate is taken for ours.
        const plain = await call(`http://${outside}:${gateway.port}/mcp`, bearer(API_TOKEN)).catch(() => undefined);
        assert.notEqual(plain?.status, 200);
        await assert.rejects(call(url, bearer(API_TOKEN)));
    });

    for (const lines of ["auth.none = 'I know'\n", "auth = { none = 'I know', anonymous = true }\n"])
        test(`with ${lines.trim()} everybody is let in, over TLS`, { skip: unlessOutside }, async (t) => {
            const gateway = await start(t, lines);
            const url = `https://${outside}:${gateway.port}/mcp`;
            const ca = authority(gateway);
            assert.equal((await call(url, {}, ca)).status, 200);
            // A credential that is wrong is not taken for none.
            assert.equal((await call(url, bearer(API_TOKEN), ca)).status, 401);
            const plain = await call(`http://${outside}:${gateway.port}/mcp`, {}).catch(() => undefined);
            assert.notEqual(plain?.status, 200);
        });

    test("with plaintext and a proxy: HTTP, and a token all the same", { skip: unlessOutside }, async (t) => {
        const gateway = await start(t, `plaintext = true\ntrusted_proxies = ["198.51.100.1"]\nauth.tokens.ci.hash = "${HASH}"\n`);
        const url = `http://${outside}:${gateway.port}/mcp`;
        assert.equal((await call(url, {})).status, 401);
        assert.equal((await call(url, bearer(TOKEN))).status, 200);
        assert.equal((await call(url, bearer(gateway.token))).status, 401);
        assert.ok(!existsSync(join(gateway.dataDir, "tls")), "no certificate was made");
    });

    test("0.0.0.0 is an address to listen on, and no host", async (t) => {
        const gateway = await start(t, `plaintext = true\ntrusted_proxies = ["198.51.100.1"]\nauth.tokens.ci.hash = "${HASH}"\n`);
        const headers = { ...bearer(TOKEN), Host: `0.0.0.0:${gateway.port}` };
        const refused = await call(`http://127.0.0.1:${gateway.port}/mcp`, headers);
        assert.ok([403, 421].includes(refused.status), `${refused.status} ${refused.text}`);
        assert.equal((await call(`http://127.0.0.1:${gateway.port}/mcp`, bearer(TOKEN))).status, 200);
    });

    test("the operator's certificate in place of a made one", { skip: unlessOutside }, async (t) => {
        const authority = new Authority();
        const own = authority.sign(`IP:${outside}`);
        const ca = readFileSync(authority.file, "utf8");
        const [certificate, key] = [join(folder, "own.pem"), join(folder, "own.key")];
        writeFileSync(certificate, own.cert);
        writeFileSync(key, own.key, { mode: 0o600 });
        const gateway = await start(t, `tls = { certificate = "${certificate}", key = "${key}" }\nauth.tokens.ci.hash = "${HASH}"\n`);
        const url = `https://${outside}:${gateway.port}/mcp`;
        assert.equal((await call(url, bearer(TOKEN), ca)).status, 200);
        assert.equal((await call(url, {}, ca)).status, 401);
    });

    test("the welcome names https and the ways in", async () => {
        const cases: [string, NodeJS.ProcessEnv, RegExp[]][] = [
            ['auth.none = "I know"\n', without(), [/MCP +https:\/\//, /not required: server\.auth\.none/]],
            [
                `auth.tokens.ci.hash = "${HASH}"\n[server.oauth]\nissuer = "http://127.0.0.1:1"\n` +
                    'protected_resource.resource = "https://gw.example.com/mcp"\n',
                withApiToken(API_TOKEN),
                [/from this machine alone/, /OAuth +http:\/\/127/, /1 in server\.auth\.tokens/, /MCP_API_TOKEN/],
            ],
        ];
        for (const [lines, env, words] of cases) {
            const config = `[server]\n${lines}${SERVER}`;
            const gateway = launchGateway({ config, args: ["-l", "0.0.0.0:0"], env });
            let said = "";
            gateway.process.stdout!.on("data", (chunk: Buffer) => (said += chunk.toString()));
            await gateway.ready();
            await gateway.stop();
            for (const word of words) assert.match(said, word);
            assert.ok(!said.includes(API_TOKEN) && !said.includes(gateway.token), "no token where there is no terminal");
        }
    });
});

describe("the welcome", () => {
    for (const listen of ["127.0.0.1:0", "0.0.0.0:0"]) {
        test(`its lines work as they are printed: ${listen}`, async () => {
            const folder = temporaryFolder();
            const file = join(folder, "cardea.toml");
            writeFileSync(file, `[server]\nlisten_address = "${listen}"\nworkers = 1\n[mcp.servers]\n`);
            const token = "a token that is long enough for anybody";
            const env = { ...process.env, MCP_API_TOKEN: token.replaceAll(" ", "-") };
            const canary = watch(join(folder, "canary"), env, join(folder, "data"));
            const child = spawn(binary(), ["serve", "-c", file, "--data-dir", join(folder, "data"), "--admin-listen", "off"], {
                env: canary?.env ?? env,
                stdio: ["ignore", "pipe", "ignore"],
            });
            canary?.started(child.pid!);
            let printed = "";
            child.stdout.setEncoding("utf8").on("data", (chunk: string) => (printed += chunk));
            try {
                const wanted = listen.startsWith("0") ? 2 : 1;
                const line = /claude mcp add --transport http cardea (\S+) \\\n +--header "Authorization: Bearer ([^"]+)"/g;
                await until(() => [...printed.matchAll(line)].length === wanted, () => `the whole welcome, not ${printed}`);
                for (const [, url, bearer] of printed.matchAll(line)) {
                    const path = /^\$\(cat '(.*)'\)$/.exec(bearer!)?.[1];
                    const value = path !== undefined ? readFileSync(path, "utf8").trim() : token.replaceAll(" ", "-");
                    const headers = {
                        Authorization: `Bearer ${value}`,
                        "Content-Type": "application/json",
                        Accept: "application/json, text/event-stream",
                    };
                    const isTls = url!.startsWith("https:");
                    const ca = isTls ? readFileSync(join(folder, "data", "tls", "ca.pem")) : undefined;
                    const status = await new Promise<number>((resolve, reject) => {
                        const outgoing = (isTls ? https : http).request(url!, { method: "POST", headers, ca, family: 4 }, (incoming) => {
                            incoming.resume();
                            resolve(incoming.statusCode!);
                        });
                        outgoing.once("error", reject);
                        outgoing.end(JSON.stringify(initialize("2025-11-25")));
                    });
                    assert.equal(status, 200, url);
                }
            } finally {
                child.kill("SIGTERM");
                await once(child, "exit");
            }
            assert.deepEqual(canary?.end() ?? [], []);
        });
    }
});
