/* Runs a command of the binary to its end. */
import { spawn } from "node:child_process";
import { join } from "node:path";

import { checkCommand } from "./canary.ts";
import { binary, writeConfig, type Config } from "./gateway.ts";
import { within } from "./wait.ts";

export interface Run {
    code: number | null;
    signal: NodeJS.Signals | null;
    stdout: string;
    stderr: string;
}

export async function cardea(
    args: string[],
    options: { env?: NodeJS.ProcessEnv; cwd?: string; input?: string | Buffer } = {},
): Promise<Run> {
    const child = spawn(binary(), args, {
        env: options.env ?? process.env,
        cwd: options.cwd,
        stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    });
    child.stdin?.on("error", () => {}); // it ended before it had read all
    child.stdin?.end(options.input);
    let [stdout, stderr] = ["", ""];
    child.stdout!.setEncoding("utf8").on("data", (chunk: string) => (stdout += chunk));
    child.stderr!.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk));
    const ended = new Promise<Run>((resolve, reject) => {
        child.once("error", reject);
        child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
    });
    try {
        const run = await within(ended, () => `cardea ${args.join(" ")} ends; ${stdout} ${stderr}`);
        const complaint = /(ERROR|WARNING): \w+Sanitizer|: runtime error: .*/.exec(run.stderr);
        if (complaint !== null) throw new Error(`a sanitizer complained:\n${run.stderr}`);
        checkCommand(args, options.env ?? process.env, run.stdout + run.stderr);
        return run;
    } finally {
        child.kill("SIGKILL"); // nothing when it has ended
    }
}

/** A folder with a configuration and a data directory: what most commands want. */
export function prepared(folder: string, config: Config | string): string[] {
    return ["-c", writeConfig(folder, config), "--data-dir", join(folder, "data")];
}
