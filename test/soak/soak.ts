/*
 * The soak: clients of all eras come and go while servers crash, hang, flood and restart, for as long as is wanted.
 * Between rounds of load everything comes to rest, and then the gateway must be what it was before: no session, no
 * child, no descriptor, no byte held more, and no memory beyond what the allocator keeps.
 *
 * Memory: the level to compare with is that at rest after the first round, the warm-up. Left alone, glibc keeps much of
 * what was freed: once a block of some MiB was freed, blocks of that size no longer come from mmap, and the top of each
 * heap is given back only when twice as much is free there. That is 10 to 30 MiB here, of which 3 MiB are in use (by
 * malloc_stats), and would hide a leak. So the gateway runs with both thresholds fixed at glibc's own first values,
 * and what is allowed beyond the level, SLACK, is for fragments alone: a fixed amount, whatever the length of the run,
 * while a leak grows with it. The sanitizer build is not compared: it keeps freed memory on purpose, and finds leaks by
 * itself when the gateway ends.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { binary, startGateway, type Gateway, type ServerConfig } from "../integration/lib/gateway.ts";
import { ModernClient } from "../integration/lib/modern.ts";
import { within } from "../integration/lib/wait.ts";
import { Books } from "./books.ts";
import { comeBackAll, visit } from "./clients.ts";
import { pause, Random } from "./random.ts";
import { SoakServer, type Era } from "./servers.ts";
import { Trouble } from "./trouble.ts";
import { descendants, sample, show, type Sample } from "./watch.ts";
import type { Upstream, World } from "./world.ts";

export interface SoakOptions {
    seconds: number;
    seed: number;
    clients: number;
    /** how long servers keep connections that nobody uses, in ms: one of these. The gateway closes them after a minute. */
    keepAlive: number[];
    say: (line: string) => void;
}

export interface SoakResult {
    violations: string[];
    summary: string[];
    tail: string;
}

const MIB = 1024 * 1024;
const SLACK = 4 * MIB;
const TUNABLES = "glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072";
const LIMIT_MS = 45_000;
const REST_MS = 90_000;
const ROUND_S = 300;
const MAX_VIOLATIONS = 5;

const UPSTREAMS: Upstream[] = [
    { name: "calm", isCalm: true, era: "legacy", isShared: true },
    { name: "calmweb", isCalm: true, era: "modern" },
    { name: "calmold", isCalm: true, era: "legacy" },
    { name: "wild", isCalm: false, era: "legacy", isShared: true },
    { name: "wildnew", isCalm: false, era: "modern" },
    { name: "each", isCalm: false, era: "legacy", isPerSession: true, isShared: true },
    { name: "web", isCalm: false, era: "legacy" },
    { name: "webnew", isCalm: false, era: "modern" },
    { name: "websse", isCalm: false, era: "sse", isShared: true },
];

function configure(servers: SoakServer[]): { [name: string]: ServerConfig } {
    const build = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../build-asan", import.meta.url));
    const child = join(build, "test", "soak", "soak_child");
    const quick = { idle_timeout: "5s", shutdown_timeout: "1s", cooldown: "1s", failure_threshold: 8 };
    const calm = { ...quick, timeout: "40s", max_timeout: "40s", startup_timeout: "20s" };
    const wild = { ...quick, timeout: "3s", max_timeout: "10s", startup_timeout: "10s" };
    const url = (name: string) => servers.find((each) => each.name === name)!.url;
    return {
        calm: { cmd: [child, "legacy", "calm", "calm"], ...calm },
        calmweb: { url: url("calmweb"), ...calm },
        calmold: { url: url("calmold"), ...calm },
        wild: { cmd: [child, "legacy", "wild", "wild"], stderr: "pipe", ...wild },
        wildnew: { cmd: [child, "modern", "wild", "wildnew"], ...wild },
        each: { cmd: [child, "legacy", "wild", "each"], share: "session", max_instances: 64, ...wild },
        web: { url: url("web"), ...wild },
        webnew: { url: url("webnew"), ...wild },
        websse: { url: url("websse"), ...wild },
    };
}

const time = (seconds: number) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const listed = (counts: Map<string, number>) =>
    [...counts].sort(([, a], [, b]) => b - a).map(([name, count]) => `${name} ${count}`);

class Soak {
    readonly options: SoakOptions;
    readonly books: Books;
    readonly visits = new Map<string, number>();
    readonly peaks = { rss: 0, anonymous: 0, descriptors: 0, threads: 0, children: 0, held: 0, sessions: 0 };
    readonly rests: string[] = [];
    /** of servers, as the gateway tells */
    starts = 0;
    /** by level, and what was said of what is worse than a warning */
    readonly log = new Map<string, number>();
    readonly #gateway: Gateway;
    readonly #servers: SoakServer[];
    readonly #trouble: Trouble;
    readonly #isSanitized = readFileSync(binary()).includes("__asan_init");
    #loaded = 0;
    #round = 0;
    #first: Sample | undefined;
    #level: number | undefined;

    constructor(options: SoakOptions, books: Books, gateway: Gateway, servers: SoakServer[]) {
        this.options = options;
        this.books = books;
        this.#gateway = gateway;
        this.#servers = servers;
        const push = gateway.log.push.bind(gateway.log);
        gateway.log.push = (entry) => {
            push(entry);
            const { level = "no level", message = "" } = entry as { level?: string; message?: string };
            const kind = /^(debug|info|warn)$/.test(level) ? level : `${level} (${message})`;
            this.log.set(kind, (this.log.get(kind) ?? 0) + 1);
            if (entry.module === "upstream" && message === "ready") this.starts++;
        };
        this.#trouble = new Trouble(gateway, servers, new Random(options.seed, "trouble"));
    }

    get isBroken(): boolean {
        return this.books.violations.length >= MAX_VIOLATIONS;
    }

    async run(): Promise<void> {
        const { seconds } = this.options;
        this.#first = await this.#rest();
        this.options.say(`at rest before the load: ${show(this.#first)}`);
        const warm = seconds < 60 ? seconds : Math.min(60, seconds / 3);
        for (let left = seconds; left > 0.5 && !this.isBroken;) {
            const rounds = Math.ceil((left - (this.#round === 0 ? warm : 0)) / ROUND_S);
            const length = this.#round === 0 ? warm : left / rounds;
            await this.#load(length);
            left -= length;
            this.#compare(await this.#rest());
            await this.#isWell();
        }
    }

    async #load(seconds: number): Promise<void> {
        const { seed, clients } = this.options;
        this.#round++;
        const until = performance.now() + seconds * 1000;
        const isOver = () => performance.now() > until || this.isBroken;
        const { port, token } = this.#gateway;
        const world: World = {
            target: { port, token },
            books: this.books,
            upstreams: UPSTREAMS,
            tellers: new Map(this.#servers.map((server) => [server.name, server])),
            left: [],
            asking: new Set(),
            limitMs: LIMIT_MS,
            isOver,
        };
        const visitors = Array.from({ length: clients }, (_, index) => {
            const name = `round ${this.#round}, client ${index + 1}`;
            return visit(world, new Random(seed, name), name, this.visits);
        });
        const watching = this.#watch(isOver, seconds);
        await Promise.all([...visitors, this.#trouble.run(isOver), watching]);
        await comeBackAll(world, new Random(seed, `end of round ${this.#round}`));
        this.#loaded += seconds;
    }

    async #watch(isOver: () => boolean, seconds: number): Promise<void> {
        const started = performance.now();
        for (let n = 1, calls = this.books.calls; !isOver(); n++) {
            await pause(2000);
            const now = await sample(this.#gateway);
            for (const name of Object.keys(this.peaks) as (keyof Soak["peaks"])[]) {
                this.peaks[name] = Math.max(this.peaks[name], now[name] ?? 0);
            }
            if (n % 5 !== 0) continue;
            const at = this.#loaded + Math.min(seconds, (performance.now() - started) / 1000);
            this.options.say(
                `${time(at)} of ${time(this.options.seconds)}  ${this.books.calls} calls (${((this.books.calls - calls) / 10).toFixed(0)}/s), ` +
                    `${this.books.refusals} errors, ${this.books.open} open; ${show(now)}`,
            );
            calls = this.books.calls;
        }
    }

    /** Polls until nothing is left of the load; says what is when it takes too long. */
    async #rest(): Promise<Sample> {
        const end = performance.now() + REST_MS;
        for (;;) {
            const now = await sample(this.#gateway);
            const first = this.#first ?? { ...now, children: 0 };
            const isQuiet =
                this.#servers.every((server) => server.connections === 0) &&
                now.sessions === 0 &&
                now.held === 0 &&
                now.children === 0 &&
                now.threads <= first.threads;
            // The index lets go of what it has cached when no line has come for some seconds.
            const isSmall = this.#level === undefined || now.anonymous <= this.#level + SLACK;
            if (isQuiet && isSmall && (now.descriptors ?? 0) <= (first.descriptors ?? 0)) return now;
            if (performance.now() > end) {
                this.books.violation(
                    `not at rest ${REST_MS / 1000} s after the load: ${show(now)}\n  at first: ${show(first)}\n` +
                        [...descendants(this.#gateway.pid)].map(([pid, line]) => `  child ${pid} ${line}`).join("\n"),
                );
                return now;
            }
            await pause(500);
        }
    }

    #compare(now: Sample): void {
        const text = `at rest after round ${this.#round}: ${show(now)}`;
        this.rests.push(text);
        this.options.say(text);
        this.#level ??= now.anonymous;
        if (!this.#isSanitized && now.anonymous > this.#level + SLACK) {
            this.books.violation(
                `${now.anonymous} bytes of anonymous memory at rest, ${this.#level} after the warm-up, ${SLACK} more are allowed`,
            );
        }
    }

    /** Every server serves again; the first calls may still find what the troubles left. */
    async #isWell(): Promise<void> {
        const client = new ModernClient(this.#gateway);
        for (const { name, isPerSession } of UPSTREAMS) {
            if (isPerSession) continue;
            const end = performance.now() + 20_000;
            for (let tries = 0; ;) {
                const wish = { nonce: `well${this.#round}${name}-${++tries}-0`, do: "ok", n: 0, ms: 0 };
                const answer = await client.call(`${name}__t`, wish);
                const content = answer.result?.content as { text: string }[] | undefined;
                if (answer.result?.isError !== true && content?.[0]?.text === wish.nonce) break;
                if (performance.now() > end) {
                    this.books.violation(`${name} is not well 20 s after the load: ${JSON.stringify(answer)}`);
                    break;
                }
                await pause(200);
            }
        }
    }

    summary(): string[] {
        const { books, peaks } = this;
        const mib = (bytes: number) => `${(bytes / MIB).toFixed(1)} MiB`;
        return [
            `seed ${this.options.seed}, ${time(this.#loaded)} of load in ${this.#round} rounds, ${this.options.clients} clients at once`,
            `calls: ${books.calls}; results ${books.results}, errors ${books.refusals}, cancelled or hung up ${books.dropped}, open ${books.open}`,
            `asked ${books.asks} times; told unasked ${books.news} times`,
            `longest answer: ${books.maxLatency.toFixed(0)} ms, to ${books.slowest}`,
            `visits: ${listed(this.visits).join(", ")}`,
            `troubles: ${listed(this.#trouble.counts).join(", ")}; ${this.starts} starts of servers`,
            `lines of the gateway's log: ${listed(this.log).join(", ")}`,
            `at the most: RSS ${mib(peaks.rss)}, anonymous ${mib(peaks.anonymous)}, ${peaks.descriptors} descriptors, ${peaks.threads} threads, ` +
                `${peaks.children} children, ${peaks.sessions} sessions, ${mib(peaks.held)} held`,
            ...(this.#first === undefined ? [] : [`at rest before: ${show(this.#first)}`]),
            ...this.rests,
            "errors by kind:",
            ...listed(books.errors).map((line) => `  ${line}`),
        ];
    }
}

/** Without what the children said and what is refused to those who send parts of requests. */
const tailOf = (gateway: Gateway | undefined) =>
    (gateway?.tail(4000) ?? "")
        .split("\n")
        .filter((line) => !/"message":"(stderr|refused a request)"/.test(line))
        .slice(-100)
        .join("\n");

/** Never throws: what went wrong is among the violations. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
    const books = new Books(options.seed);
    const server = (name: string, era: Era) =>
        new SoakServer(name, era, new Random(options.seed, name), books, options.keepAlive);
    const servers = [
        server("calmweb", "modern"),
        server("calmold", "legacy"),
        server("web", "legacy"),
        server("webnew", "modern"),
        server("websse", "sse"),
    ];
    let gateway: Gateway | undefined;
    let run: Soak | undefined;
    try {
        for (const server of servers) await server.choosePort();
        const config = {
            server: { workers: 2, session_idle_timeout: "15s", limits: { max_in_flight: 256 } },
            // What is calm is in every list, however busy the machine is when it starts.
            mcp: { list_timeout: "10s" },
            servers: configure(servers),
        };
        const env = { ...process.env, GLIBC_TUNABLES: TUNABLES };
        // No canary: its record would be full in the first minute, and memory is what is measured here.
        gateway = await startGateway({ config, env, args: ["--log", "info"], keep: 2000, canary: false });
        run = new Soak(options, books, gateway, servers);
        await run.run();
    } catch (error) {
        books.violation(error instanceof Error ? error.stack! : String(error));
    }
    const family = gateway === undefined ? [] : [gateway.pid, ...descendants(gateway.pid).keys()];
    await gateway?.stop().catch((error: unknown) => books.violation(`the end: ${String(error)}`));
    const left = family.filter((pid) => existsSync(`/proc/${pid}/exe`)); // not of one that is only not yet waited for
    if (left.length > 0) books.violation(`processes are left: ${left}`);
    for (const server of servers) await within(server.stop(), `${server.name} stops`).catch(() => {});
    return { violations: books.violations, summary: run?.summary() ?? [], tail: tailOf(gateway) };
}

async function main(): Promise<number> {
    const { values } = parseArgs({
        options: {
            minutes: { type: "string" },
            seconds: { type: "string" },
            seed: { type: "string" },
            clients: { type: "string", default: "32" },
            out: { type: "string" },
        },
    });
    const seconds = Number(values.seconds ?? Number(values.minutes ?? 5) * 60);
    const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
    const clients = Number(values.clients);
    if (!(seconds >= 1) || !Number.isInteger(seed) || !(clients >= 1)) throw new Error("soak: not a number");
    const say = (line: string) => void process.stdout.write(`${line}\n`);
    say(`soak: ${time(seconds)} of load with the seed ${seed} (the same again: SEED=${seed})`);
    const { violations, summary, tail } = await soak({ seconds, seed, clients, keepAlive: [500, 5000, 120_000], say });
    const text = [
        "",
        ...summary,
        "",
        violations.length === 0
            ? "nothing was lost, nothing came twice, nothing is left"
            : `${violations.length} violations`,
    ];
    for (const line of text) say(line);
    if (values.out !== undefined) {
        mkdirSync(dirname(values.out), { recursive: true });
        writeFileSync(values.out, `${text.join("\n")}\n`);
    }
    if (violations.length === 0) return 0;
    for (const each of violations.slice(0, 2 * MAX_VIOLATIONS)) say(`\nVIOLATION ${each}`);
    say(`\n--- the gateway's log, its end\n${tail}`);
    return 1;
}

if (import.meta.main ?? process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main();
