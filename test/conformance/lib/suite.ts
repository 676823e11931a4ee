/* Runs the official conformance suite (the command line of its package) and reads what it wrote. */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { removeFolder, temporaryFolder } from "../../integration/lib/temp.ts";
import { within } from "../../integration/lib/wait.ts";

const PACKAGE = fileURLToPath(new URL("../node_modules/@modelcontextprotocol/conformance/", import.meta.url));
const PROGRAM = join(PACKAGE, "dist", "index.js");

export type Revision = "2025-11-25" | "2026-07-28";
export type OlderRevision = "2025-03-26" | "2025-06-18";

export interface Check {
    id: string;
    name: string;
    description: string;
    status: "SUCCESS" | "FAILURE" | "WARNING" | "SKIPPED" | "INFO";
    errorMessage?: string;
    details?: unknown;
}

/** What came of one scenario; no checks: it said nothing, which is a failure. */
export interface Outcome {
    scenario: string;
    checks: Check[];
}

/** The scenarios of a revision for servers, those that count first. They stand in the package, frozen. */
export function serverScenarios(revision: Revision): { required: string[]; unscored: string[] } {
    const lines = readFileSync(join(PACKAGE, "requirements", `${revision}.yaml`), "utf8").split("\n");
    let section = "";
    const required: string[] = [];
    const unscored: string[] = [];
    for (const [at, line] of lines.entries()) {
        section = /^(\w+):$/.exec(line)?.[1] ?? section;
        const entry = /^ {2}- (?:scenario: )?(\S+)$/.exec(line)?.[1];
        if (entry === undefined) continue;
        if (section === "server") required.push(entry);
        if (section === "not_scored" && lines[at + 1]?.trim() === "leg: server") unscored.push(entry);
    }
    if (required.length === 0 || unscored.length === 0) throw new Error(`no scenarios found for ${revision}`);
    return { required, unscored };
}

interface Run {
    code: number | null;
    said: string;
    outcomes: Map<string, Outcome>;
}

async function run(args: string[], env: NodeJS.ProcessEnv, ms: number): Promise<Run> {
    const folder = temporaryFolder();
    const child = spawn(process.execPath, [PROGRAM, ...args, "--output-dir", folder], {
        env: { ...process.env, NO_COLOR: "1", ...env },
        stdio: ["ignore", "pipe", "pipe"],
    });
    try {
        let said = "";
        child.stdout.setEncoding("utf8").on("data", (chunk: string) => (said += chunk));
        child.stderr.setEncoding("utf8").on("data", (chunk: string) => (said += chunk));
        const code = await within(
            new Promise<number | null>((resolve, reject) => {
                child.once("error", reject);
                child.once("close", resolve);
            }),
            () => `the suite ends; ${args.join(" ")}; the end of what it said:\n${said.slice(-2000)}`,
            ms,
        );
        return { code, said, outcomes: readOutcomes(folder) };
    } finally {
        child.kill("SIGKILL"); // nothing when it has ended
        removeFolder(folder);
    }
}

/** For people: everything that it says goes where this program's own output goes. */
export function runSuiteByHand(args: string[]): Promise<number | null> {
    const child = spawn(process.execPath, [PROGRAM, ...args, "--verbose"], { stdio: "inherit" });
    return new Promise((resolve, reject) => {
        child.once("error", reject);
        child.once("close", resolve);
    });
}

/** Folders are called [server-][auth/]SCENARIO-TIME. */
function readOutcomes(folder: string): Map<string, Outcome> {
    const outcomes = new Map<string, Outcome>();
    const names = readdirSync(folder).flatMap((name) =>
        name === "auth" ? readdirSync(join(folder, name)).map((each) => `${name}/${each}`) : name,
    );
    for (const name of names) {
        const scenario = /^(?:server-)?(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$/.exec(name)?.[1];
        if (scenario === undefined) throw new Error(`the suite left something unknown behind: ${name}`);
        const file = join(folder, name, "checks.json"); // not there when the suite itself gave up
        const checks = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Check[]) : [];
        outcomes.set(scenario, { scenario, checks });
    }
    return outcomes;
}

/** Every scenario that a revision asks of a server, and those that it does not score. */
export async function runServerSuite(url: string, revision: Revision): Promise<Map<string, Outcome>> {
    const { outcomes, said } = await run(["server", "--url", url, "--requirements", revision], {}, 240_000);
    if (outcomes.size === 0) throw new Error(`the suite ran no scenario:\n${said.slice(-2000)}`);
    return outcomes;
}

/** Everything that the suite has for a revision of which it has no list of what counts. */
export async function runWholeServerSuite(url: string, revision: OlderRevision): Promise<Map<string, Outcome>> {
    const args = ["server", "--url", url, "--suite", "all", "--spec-version", revision];
    const { outcomes, said } = await run(args, {}, 240_000);
    if (outcomes.size === 0) throw new Error(`the suite ran no scenario:\n${said.slice(-2000)}`);
    return outcomes;
}

export interface ClientRun {
    checks: Check[];
    /** the suite's own verdict: it also counts warnings, and a client that fails */
    passed: boolean;
    said: string;
}

/** One scenario for clients. The command gets the address of the scenario's server as its last argument. */
export async function runClientScenario(
    scenario: string,
    revision: Revision,
    command: string[],
    env: NodeJS.ProcessEnv = {},
): Promise<ClientRun> {
    if (command.some((part) => part.includes(" "))) throw new Error("the suite splits the command at spaces");
    const args = ["client", "--command", command.join(" "), "--scenario", scenario, "--spec-version", revision];
    // Extensions belong to no revision, and are skipped (which is success) unless they are forced.
    if (scenario.startsWith("auth/client-credentials-")) args.push("--force");
    const { code, said, outcomes } = await run(args, env, 60_000);
    const checks = outcomes.get(scenario)?.checks ?? [];
    return { checks, passed: code === 0 && checks.length > 0, said };
}

export function failures(outcome: Outcome): Check[] {
    return outcome.checks.filter((check) => check.status === "FAILURE");
}

export function hasPassed(outcome: Outcome): boolean {
    // A scenario of which nothing was checked has shown nothing.
    return outcome.checks.length > 0 && failures(outcome).length === 0;
}

export function explain(checks: Check[]): string {
    const lines = checks.map((check) => {
        const details = check.details === undefined ? "" : `\n      ${JSON.stringify(check.details)?.slice(0, 1500)}`;
        return `  ${check.status} ${check.id}: ${check.errorMessage ?? check.description}${details}`;
    });
    return lines.length === 0 ? "  (no check at all)" : lines.join("\n");
}

/** How often each check of a scenario came to each status. */
function count(outcome: Outcome): Map<string, number> {
    const counts = new Map<string, number>();
    for (const { id, status } of outcome.checks) {
        if (status !== "INFO") counts.set(`${id} ${status}`, (counts.get(`${id} ${status}`) ?? 0) + 1);
    }
    return counts;
}

/** What differs between two runs of one scenario, check by check; empty when nothing does. */
export function differences(direct: Outcome, through: Outcome): string[] {
    const [before, after] = [count(direct), count(through)];
    return [...new Set([...before.keys(), ...after.keys()])]
        .filter((key) => before.get(key) !== after.get(key))
        .map((key) => `${key}: directly ${before.get(key) ?? 0}, through the gateway ${after.get(key) ?? 0}`);
}

/** The checks that fail, or that succeed less often than directly: skipped, or with a warning. */
export function lost(direct: Outcome, through: Outcome): string[] {
    const [before, after] = [count(direct), count(through)];
    const ids = new Set([...direct.checks, ...through.checks].map((check) => check.id));
    return [...ids].filter((id) => {
        const succeeded = (counts: Map<string, number>) => counts.get(`${id} SUCCESS`) ?? 0;
        return (after.get(`${id} FAILURE`) ?? 0) > 0 || succeeded(after) < succeeded(before);
    });
}
