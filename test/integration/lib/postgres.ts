/* A PostgreSQL of the test's own: on a port and in a folder of its own, gone with the test. */
import assert from "node:assert/strict";
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { chmodSync, cpSync, globSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { freePort } from "./ports.ts";
import { descendants } from "./proc.ts";
import { removeFolder, temporaryFolder } from "./temp.ts";
import { until, within } from "./wait.ts";

const TOOLS = fileURLToPath(new URL("../../../build/tools/postgresql", import.meta.url));
const isRoot = process.geteuid!() === 0;
const NOBODY = 65534;
/** It refuses to run as root. */
const as = isRoot ? { uid: NOBODY, gid: NOBODY } : {};
/** Of all gateways on one store: CARDEA_ENCRYPTION_KEY. */
export const CLUSTER_KEY = `${Buffer.from("0123456789abcdef of the cluster!").toString("base64url")}=`;
export const PASSWORD = "a b/c@d:e?f";

const alive = new Set<ChildProcess>();
process.on("exit", () => {
    for (const child of alive) child.kill("SIGQUIT");
});

/** The installed one, or what scripts/setup has unpacked. */
function programs(folder: string): string {
    const named = process.env.CARDEA_POSTGRES_BIN;
    if (named !== undefined) return named;
    const installed = globSync("/usr/lib/postgresql/*/bin/initdb").at(-1);
    if (installed !== undefined) return dirname(installed);
    const unpacked = globSync(join(TOOLS, "usr/lib/postgresql/*/bin/initdb")).at(-1);
    if (unpacked === undefined) throw new Error("there is no PostgreSQL: scripts/setup test");
    // A checkout may be in a folder of root's own.
    if (spawnSync("test", ["-x", unpacked], as).status === 0) return dirname(unpacked);
    cpSync(join(TOOLS, "usr"), join(folder, "usr"), { recursive: true });
    return dirname(join(folder, unpacked.slice(TOOLS.length)));
}

export class Postgres {
    readonly port: number;
    readonly #folder: string;
    readonly #bin: string;
    #child: ChildProcess | undefined;

    private constructor(port: number) {
        this.port = port;
        this.#folder = temporaryFolder();
        chmodSync(this.#folder, 0o777);
        this.#bin = programs(this.#folder);
    }

    static async start(t: TestContext): Promise<Postgres> {
        const postgres = new Postgres(await freePort());
        t.after(async () => {
            await postgres.stop();
            removeFolder(postgres.#folder);
        });
        postgres.#init();
        await postgres.run();
        return postgres;
    }

    /** Its user may make databases; the password is not in it, but in PGPASSWORD. */
    url(database: string): string {
        return `postgres://tester@127.0.0.1:${this.port}/${database}`;
    }

    urlWithPassword(database: string): string {
        return `postgres://tester:${encodeURIComponent(PASSWORD)}@127.0.0.1:${this.port}/${database}`;
    }

    #init(): void {
        const file = join(this.#folder, "password");
        writeFileSync(file, `${PASSWORD}\n`, { mode: 0o644 });
        const where = ["-D", join(this.#folder, "data"), "-N", "-E", "UTF8", "--no-locale", "--no-instructions"];
        const made = spawnSync(join(this.#bin, "initdb"), [...where, "-U", "tester", "-A", "scram-sha-256", "--pwfile", file], {
            ...as,
            cwd: "/",
            encoding: "utf8",
        });
        assert.equal(made.status, 0, `initdb: ${made.stdout}${made.stderr}`);
    }

    /** Again, on the same port, with what was in it. */
    async run(): Promise<void> {
        const options = ["-h", "127.0.0.1", "-p", String(this.port), "-k", this.#folder, "-c", "fsync=off", "-c", "jit=off"];
        const child = spawn(join(this.#bin, "postgres"), ["-D", join(this.#folder, "data"), ...options], {
            ...as,
            cwd: "/",
            stdio: ["ignore", "ignore", "pipe"],
        });
        this.#child = child;
        alive.add(child);
        let said = "";
        child.stderr!.setEncoding("utf8").on("data", (chunk: string) => (said += chunk));
        await until(
            () => said.includes("ready to accept connections"),
            () => `postgres is ready; it said: ${said}`,
        );
    }

    /** At once; what was committed is there when it runs again. */
    async stop(): Promise<void> {
        const child = this.#child;
        if (child === undefined) return;
        this.#child = undefined;
        const closed = new Promise((resolve) => child.once("close", resolve));
        this.#child = child;
        this.goOn();
        this.#child = undefined;
        child.kill("SIGQUIT");
        await within(closed, "the stopped postgres is gone");
        alive.delete(child);
    }

    /** Stands still, with all of its processes and connections. */
    pause(): void {
        this.#signal("SIGSTOP");
    }

    goOn(): void {
        this.#signal("SIGCONT");
    }

    #signal(signal: NodeJS.Signals): void {
        const { pid } = this.#child!;
        for (const each of [pid!, ...descendants(pid!)]) process.kill(each, signal);
    }

    /** What psql says to it, a line each, with | between columns. */
    ask(database: string, sql: string): string {
        const asked = spawnSync(join(this.#bin, "psql"), ["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, this.url(database)], {
            env: { ...process.env, PGPASSWORD: PASSWORD },
            encoding: "utf8",
        });
        assert.equal(asked.status, 0, `${sql}: ${asked.stderr}`);
        return asked.stdout.trim();
    }
}
