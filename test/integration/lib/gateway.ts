/* Starts the real binary on a configuration of its own, and ends it by its own process id. */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { SecureContextOptions } from "node:tls";
import { fileURLToPath } from "node:url";

import { examineTrail } from "./audit.ts";
import { report, watch, type Canary } from "./canary.ts";
import { removeFolder, temporaryFolder } from "./temp.ts";
import { Recording, within } from "./wait.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

export function binary(): string {
    const path = process.env.CARDEA_BIN ?? join(ROOT, "build", "cardea");
    if (!existsSync(path)) throw new Error(`no gateway at ${path}: build it, or set CARDEA_BIN`);
    return path;
}

export type Value = string | number | boolean | Value[] | { [key: string]: Value };

/** [mcp.servers.NAME] */
export interface StdioConfig {
    cmd: string[];
    [key: string]: Value;
}

export interface HttpConfig {
    url: string;
    [key: string]: Value;
}

export type ServerConfig = StdioConfig | HttpConfig;

export interface Config {
    server?: { [key: string]: Value };
    mcp?: { [key: string]: Value };
    /** by default edit mode is on: most tests are not about what may be called */
    security?: { [key: string]: Value };
    audit?: { [key: string]: Value };
    admin?: { [key: string]: Value };
    servers: { [name: string]: ServerConfig };
}

function inline(value: Value): string {
    // A JSON string is a TOML basic string: both know \" \\ \n \uXXXX, and JSON escapes what TOML refuses.
    if (Array.isArray(value)) return `[${value.map(inline).join(", ")}]`;
    if (typeof value === "object") {
        const entries = Object.entries(value).map(([key, item]) => `${JSON.stringify(key)} = ${inline(item)}`);
        return `{ ${entries.join(", ")} }`;
    }
    return JSON.stringify(value);
}

function table(header: string, values: { [key: string]: Value }): string {
    const lines = Object.entries(values).map(([key, value]) => `${key} = ${inline(value)}\n`);
    return `[${header}]\n${lines.join("")}\n`;
}

export function toml(config: Config): string {
    const quick = { restart: { initial: "50ms", max: "1s" } };
    let text = table("server", { workers: 2, ...config.server });
    if (config.mcp !== undefined) text += table("mcp", config.mcp);
    text += table("security", config.security ?? { edit_mode: true });
    if (config.audit !== undefined) text += table("audit", config.audit);
    if (config.admin !== undefined) text += table("admin", config.admin);
    for (const [name, server] of Object.entries(config.servers)) {
        text += table(`mcp.servers.${name}`, { ...quick, ...server });
    }
    return text;
}

export interface LogEntry {
    message?: string;
    [key: string]: unknown;
}

export interface GatewayOptions {
    config: Config | string;
    args?: string[];
    /** the whole environment of the gateway; by default that of the test */
    env?: NodeJS.ProcessEnv;
    dataDir?: string;
    cwd?: string;
    /** how much of a long log is kept, in lines; by default all */
    keep?: number;
    /** it has the API of the console, on a port of its own (the log's "admin_address") */
    admin?: boolean;
    /** false, with the reason beside it: this one is not written down (see lib/canary.ts) */
    canary?: false;
    /** false, with the reason beside it: its audit trail is not looked at when it has stopped (see lib/audit.ts) */
    audit?: false;
}

const alive = new Set<Gateway>();

export class Gateway {
    readonly process: ChildProcess;
    readonly folder: string;
    readonly dataDir: string;
    readonly log = new Recording<LogEntry>("log of the gateway");
    readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
    url = "";
    host = "";
    port = 0;
    token = "";
    /** set by tests of gateways with TLS: what their clients know */
    tls: SecureContextOptions | undefined;
    #raw: string[] = [];
    #complaint: string | undefined;
    #keep: number;
    #ended = false;
    #killed = false;
    #stopped: Promise<void> | undefined;
    /** its audit trail has to hold together at the end */
    isAudited = true;
    /** what watches over its credentials; undefined: nothing does */
    readonly canary: Canary | undefined;

    constructor(child: ChildProcess, folder: string, dataDir: string, keep = Infinity, canary?: Canary) {
        this.#keep = keep;
        this.canary = canary;
        if (child.pid !== undefined) canary?.started(child.pid);
        this.process = child;
        this.folder = folder;
        this.dataDir = dataDir;
        alive.add(this);
        this.exited = new Promise((resolve) => {
            child.once("error", (error) => {
                this.#raw.push(String(error));
                this.#ended = true;
                this.log.end(String(error));
                resolve({ code: null, signal: null });
            });
            child.once("close", (code, signal) => {
                this.#ended = true;
                this.log.end(`the gateway ended: code ${code}, signal ${signal}`);
                resolve({ code, signal });
            });
        });
        let held = "";
        child.stderr!.setEncoding("utf8");
        child.stderr!.on("data", (chunk: string) => {
            held += chunk;
            for (let end = held.indexOf("\n"); end >= 0; end = held.indexOf("\n")) {
                this.#line(held.slice(0, end));
                held = held.slice(end + 1);
            }
        });
        child.stdout!.resume();
    }

    #line(line: string): void {
        this.#raw.push(line);
        if (/(ERROR|WARNING): \w+Sanitizer|: runtime error: /.test(line)) this.#complaint ??= line;
        if (this.#raw.length > 2 * this.#keep) {
            this.#raw.splice(0, this.#keep);
            this.log.items.splice(0, this.#keep);
        }
        try {
            this.log.push(JSON.parse(line) as LogEntry);
        } catch {
            this.log.push({ message: line, unparsed: true }); // a sanitizer's report, or a broken log
        }
    }

    get pid(): number {
        return this.process.pid!;
    }

    tail(lines = 60): string {
        return this.#raw.slice(-lines).join("\n");
    }

    async waitForLog(predicate: (entry: LogEntry) => boolean, from = 0): Promise<LogEntry> {
        return this.log.waitFor(predicate, from);
    }

    async ready(): Promise<void> {
        const entry = await this.waitForLog((item) => item.message === "listening" && item.address !== undefined);
        this.host = String(entry.address);
        this.port = Number(this.host.slice(this.host.lastIndexOf(":") + 1));
        this.url = `http://${this.host}/mcp`;
        this.token = readFileSync(join(this.dataDir, "token"), "utf8").trim();
    }

    get headers(): Record<string, string> {
        return { Authorization: `Bearer ${this.token}` };
    }

    /** kill -9; what is left of the folder is removed by stop(). */
    async kill(): Promise<void> {
        this.#killed = true;
        this.canary?.look(this.pid);
        this.process.kill("SIGKILL");
        await within(this.exited, "the killed gateway is gone");
    }

    /** SIGTERM, wait, clean up. Throws when the gateway did not end with 0 or a sanitizer complained. */
    stop(): Promise<void> {
        this.#stopped ??= this.#stop();
        return this.#stopped;
    }

    async #stop(): Promise<void> {
        const killed = this.#killed;
        try {
            if (!this.#ended) {
                this.canary?.look(this.pid);
                this.process.kill("SIGTERM");
            }
            const { code, signal } = await within(this.exited, "the gateway ends after SIGTERM");
            if (!killed && (code !== 0 || signal !== null)) {
                throw new Error(`the gateway ended with code ${code}, signal ${signal}`);
            }
            if (this.#complaint !== undefined) throw new Error(`a sanitizer complained: ${this.#complaint}`);
            const leaks = this.canary?.end() ?? [];
            if (leaks.length > 0) throw new Error(report(leaks));
            const problems = killed || !this.isAudited ? [] : await examineTrail(this.dataDir);
            if (problems.length > 0) throw new Error(`the audit trail does not hold together:\n  ${problems.join("\n  ")}`);
        } catch (error) {
            throw new Error(`${String(error)}\n${this.tail()}`);
        } finally {
            if (!this.#ended) this.process.kill("SIGKILL");
            alive.delete(this);
            removeFolder(this.folder);
        }
    }

    /** For one that did not come up. */
    abandon(): void {
        this.#killed = true;
        if (!this.#ended) this.process.kill("SIGKILL");
        alive.delete(this);
        removeFolder(this.folder);
    }
}

const tails: (() => string)[] = [];

process.on("exit", (code) => {
    for (const gateway of alive) gateway.abandon();
    if (code === 0) return;
    for (const tail of tails) process.stderr.write(`--- the gateway's log, its end\n${tail()}\n`);
});

export function writeConfig(folder: string, config: Config | string): string {
    const file = join(folder, "cardea.toml");
    writeFileSync(file, typeof config === "string" ? config : toml(config));
    return file;
}

/** Starts without waiting for it to listen. */
export function launchGateway(options: GatewayOptions): Gateway {
    const folder = temporaryFolder();
    const dataDir = options.dataDir ?? join(folder, "data");
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    const file = writeConfig(folder, options.config);
    const args = ["serve", "-c", file, "--data-dir", dataDir, "-l", "127.0.0.1:0", "--log", "debug"];
    args.push("--admin-listen", options.admin === true ? "127.0.0.1:0" : "off");
    const env = options.env ?? process.env;
    const canary = options.canary === false ? undefined : watch(join(folder, "canary"), env, dataDir);
    const child = spawn(binary(), [...args, "--log-style", "json", ...(options.args ?? [])], {
        env: canary?.env ?? env,
        cwd: options.cwd,
        stdio: ["ignore", "pipe", "pipe"],
    });
    const gateway = new Gateway(child, folder, dataDir, options.keep, canary);
    gateway.isAudited = options.audit !== false;
    tails.push(() => gateway.tail());
    return gateway;
}

/** Starts it and waits until it listens. With `t` it is stopped when that test ends, however it ends. */
export async function startGateway(options: GatewayOptions, t?: TestContext): Promise<Gateway> {
    const gateway = launchGateway(options);
    t?.after(() => gateway.stop());
    try {
        await gateway.ready();
    } catch (error) {
        gateway.abandon();
        throw new Error(`${String(error)}\n${gateway.tail()}`);
    }
    return gateway;
}
