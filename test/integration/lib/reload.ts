/* Another configuration for a gateway that runs. */
import assert from "node:assert/strict";
import { join } from "node:path";

import { cardea, type Run } from "./cli.ts";
import { writeConfig, type Config, type Gateway } from "./gateway.ts";

export interface Problem {
    severity: "error" | "warning";
    file: string;
    line: number;
    column: number;
    message: string;
    text: string;
}

export interface ReloadAnswer {
    ok: boolean;
    error?: string;
    invalid?: boolean;
    problems: Problem[];
    reload?: {
        applied: string[];
        needs_restart: string[];
        servers: { added: string[]; changed: string[]; removed: string[]; unchanged: number };
    };
}

export const configFile = (gateway: Gateway): string => join(gateway.folder, "cardea.toml");

/** `cardea reload --json`, whatever comes of it. */
export async function askReload(gateway: Gateway): Promise<{ run: Run; answer: ReloadAnswer }> {
    const run = await cardea(["reload", "--json", "--data-dir", gateway.dataDir]);
    return { run, answer: JSON.parse(run.stdout) as ReloadAnswer };
}

/** Writes the configuration and has it applied. */
export async function reload(gateway: Gateway, config: Config | string): Promise<NonNullable<ReloadAnswer["reload"]>> {
    writeConfig(gateway.folder, config);
    const { run, answer } = await askReload(gateway);
    assert.equal(run.code, 0, run.stdout + run.stderr);
    assert.equal(answer.ok, true, run.stdout);
    return answer.reload!;
}
