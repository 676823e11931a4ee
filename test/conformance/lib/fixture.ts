/* Starts fixture.ts, which lives as long as its standard input is open. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { within } from "../../integration/lib/wait.ts";

const PROGRAM = fileURLToPath(new URL("../fixture.ts", import.meta.url));

export interface Fixture {
    port: number;
    url: string;
    /** what it wrote to stderr so far */
    said(): string;
    stop(): Promise<void>;
}

/** The eras that it speaks. */
export type Eras = "both" | "legacy" | "modern";

export async function startFixture(eras: Eras = "both"): Promise<Fixture> {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", PROGRAM, eras], {
        stdio: ["pipe", "pipe", "pipe"],
    });
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => (said = (said + chunk).slice(-20_000)));
    child.stdin.on("error", () => {}); // it ended first
    const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
    const line = await within(
        new Promise<string>((resolve, reject) => {
            createInterface(child.stdout).once("line", resolve);
            child.once("error", reject);
            void ended.then(() => reject(new Error(`the fixture ended:\n${said}`)));
        }),
        () => `the fixture says its port:\n${said}`,
    );
    return {
        port: Number(line),
        url: `http://127.0.0.1:${line}/mcp`,
        said: () => said,
        stop: async () => {
            child.stdin.end();
            await within(ended, "the fixture ends with its input").finally(() => child.kill("SIGKILL"));
        },
    };
}
