/* The gateway on a port that is known before, with a stderr of the test's own: for tests of the log itself. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import type { TestContext } from "node:test";

import { report, watch } from "./canary.ts";
import { binary, writeConfig, type Config } from "./gateway.ts";
import { send, type Answer } from "./http.ts";
import { removeFolder, temporaryFolder } from "./temp.ts";
import { until, within } from "./wait.ts";

async function freePort(): Promise<number> {
    const server = net.createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as net.AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    return port;
}

export interface Bare {
    process: ChildProcess;
    port: number;
    token: string;
    folder: string;
    health(): Promise<Answer>;
    /** TERM; the status it ends with. */
    stop(): Promise<{ code: number | null; signal: string | null }>;
}

/** `stderr`: a descriptor, which stays the caller's. */
export async function startBare(config: Config, stderr: number, t: TestContext, args: string[] = []): Promise<Bare> {
    const folder = temporaryFolder();
    const port = await freePort();
    const dataDir = join(folder, "data");
    mkdirSync(dataDir, { mode: 0o700 });
    const file = writeConfig(folder, config);
    const canary = watch(join(folder, "canary"), process.env, dataDir);
    const child = spawn(
        binary(),
        ["serve", "-c", file, "--data-dir", dataDir, "-l", `127.0.0.1:${port}`, "--admin-listen", "off", "--log-style", "json", ...args],
        { env: canary?.env ?? process.env, stdio: ["ignore", "ignore", stderr] },
    );
    if (child.pid !== undefined) canary?.started(child.pid);
    const exited = once(child, "close") as Promise<[number | null, string | null]>;
    const bare: Bare = {
        process: child,
        port,
        token: "",
        folder,
        health: () => send({ port, token: bare.token }, { method: "GET", path: "/health" }),
        stop: async () => {
            child.kill("SIGTERM");
            const [code, signal] = await within(exited, "the gateway ends");
            return { code, signal };
        },
    };
    t.after(async () => {
        child.kill("SIGKILL");
        await exited;
        const leaks = canary?.end() ?? [];
        removeFolder(folder);
        if (leaks.length > 0) throw new Error(report(leaks));
    });
    await until(async () => {
        if (child.exitCode !== null) throw new Error(`the gateway ended with ${child.exitCode}`);
        try {
            return (await bare.health()).status === 200;
        } catch {
            return false;
        }
    }, "the gateway answers");
    bare.token = readFileSync(join(dataDir, "token"), "utf8").trim();
    return bare;
}
