/* Edit mode of a gateway that runs. */
import assert from "node:assert/strict";
import net from "node:net";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { cardea, type Run } from "./cli.ts";
import type { Gateway } from "./gateway.ts";
import { within } from "./wait.ts";

/** `cardea edit ...` that works. */
export async function edit(gateway: Gateway, ...args: string[]): Promise<Run> {
    const run = await cardea(["edit", ...args, "--data-dir", gateway.dataDir]);
    assert.equal(run.code, 0, run.stdout + run.stderr);
    return run;
}

/** The windows that are open end so soon, as if they had been opened for that long: minutes are the least that can be asked for. */
export function shorten(gateway: Gateway, ms: number): void {
    const store = new DatabaseSync(join(gateway.dataDir, "store.sqlite"));
    store.exec("PRAGMA busy_timeout = 5000");
    store.prepare("UPDATE edit_windows SET until_ms = ?").run(Date.now() + ms);
    store.exec("UPDATE changes SET number = number + 1");
    store.close();
}

/** One command over the control socket, and its answer. */
export async function control(gateway: Gateway, command: { command: string; [key: string]: unknown }): Promise<{ [key: string]: unknown }> {
    const socket = net.connect(join(gateway.dataDir, "control.sock"));
    let held = "";
    const answered = new Promise<{ [key: string]: unknown }>((resolve, reject) => {
        socket.once("error", reject);
        socket.once("close", () => reject(new Error(`the control socket closed after ${JSON.stringify(held)}`)));
        socket.setEncoding("utf8").on("data", (chunk: string) => {
            held += chunk;
            if (held.includes("\n")) resolve(JSON.parse(held) as { [key: string]: unknown });
        });
    });
    try {
        socket.write(`${JSON.stringify(command)}\n`);
        return await within(answered, () => `an answer to ${JSON.stringify(command)}; so far ${held}`);
    } finally {
        socket.destroy();
    }
}
