/* A Redis of the test's own: on a port and in a folder of its own, gone with the test. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import type { TestContext } from "node:test";

import { freePort } from "./ports.ts";
import { removeFolder, temporaryFolder } from "./temp.ts";
import { until, within } from "./wait.ts";

/** Debian's redis-tools has the program, but not under that name. */
const program = spawnSync("redis-server", ["--version"]).error === undefined ? "redis-server" : "redis-check-rdb";

const alive = new Set<ChildProcess>();
process.on("exit", () => {
    for (const child of alive) child.kill("SIGKILL");
});

export class Redis {
    readonly port: number;
    #folder = temporaryFolder();
    #more: string[];
    #child: ChildProcess | undefined;

    private constructor(port: number, more: string[]) {
        this.port = port;
        this.#more = more;
    }

    static async start(t: TestContext, more: string[] = []): Promise<Redis> {
        const redis = new Redis(await freePort(), more);
        t.after(() => redis.#end());
        await redis.run();
        return redis;
    }

    get url(): string {
        return `redis://127.0.0.1:${this.port}`;
    }

    /** Again, on the same port, with nothing in it. */
    async run(): Promise<void> {
        const port = ["--port", String(this.port), "--bind", "127.0.0.1", "--dir", this.#folder];
        const memory = ["--save", "", "--appendonly", "no", "--logfile", ""];
        const child = spawn(program, [...port, ...memory, ...this.#more], {
            argv0: "redis-server",
            stdio: ["ignore", "pipe", "inherit"],
        });
        this.#child = child;
        alive.add(child);
        let said = "";
        child.stdout.setEncoding("utf8");
        child.stdout.on("data", (chunk: string) => (said += chunk));
        await until(
            () => said.includes("Ready to accept connections"),
            () => `redis-server is ready; it said: ${said}`,
        );
    }

    /** Stands still, with its connections open. */
    pause(): void {
        this.#child!.kill("SIGSTOP");
    }

    goOn(): void {
        this.#child!.kill("SIGCONT");
    }

    async kill(): Promise<void> {
        const child = this.#child!;
        const closed = new Promise((resolve) => child.once("close", resolve));
        child.kill("SIGKILL");
        await within(closed, "the killed redis-server is gone");
        alive.delete(child);
        this.#child = undefined;
    }

    async #end(): Promise<void> {
        if (this.#child !== undefined) await this.kill();
        removeFolder(this.#folder);
    }
}
