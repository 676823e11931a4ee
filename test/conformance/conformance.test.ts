/*
 * The official conformance suite, against the fixture and against the gateway with the fixture behind it: what the
 * server alone passes it must pass there, too. The client of each revision meets a server of both eras (with which the
 * gateway speaks the modern one) and one that knows only the legacy one.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import type { Gateway } from "../integration/lib/gateway.ts";
import { excused } from "./excused.ts";
import { startFixture, type Eras, type Fixture } from "./lib/fixture.ts";
import { startGatewayTo } from "./lib/gateway.ts";
import {
    differences,
    explain,
    failures,
    hasPassed,
    lost,
    runServerSuite,
    serverScenarios,
    type Outcome,
    type Revision,
} from "./lib/suite.ts";

const REVISIONS: Revision[] = ["2025-11-25", "2026-07-28"];
/** An extension of which the fixture knows nothing. */
const isTask = (scenario: string) => scenario.startsWith("tasks-");

/** One run of the suite: a revision's client, the server's eras, and whether the gateway is between them. */
interface Run {
    key: string;
    revision: Revision;
    eras: Eras;
    through: boolean;
}
const keyOf = (revision: Revision, eras: Eras, through: boolean) =>
    `${revision} ${eras} ${through ? "through" : "direct"}`;
const RUNS: Run[] = REVISIONS.flatMap((revision) =>
    [
        { revision, eras: "both" as const, through: false },
        { revision, eras: "both" as const, through: true },
        { revision, eras: "legacy" as const, through: true },
    ].map((run) => ({ ...run, key: keyOf(run.revision, run.eras, run.through) })),
);
/** at a time; scenarios have deadlines of their own, and not every machine has many cores */
const WORKERS = 2;

describe("the conformance suite for servers", () => {
    let gateway: Gateway | undefined;
    const fixtures: Fixture[] = [];
    const results = new Map<string, Map<string, Outcome> | Error>();

    before(async () => {
        // A fixture a run: scenarios change what it lists.
        const names = new Map(RUNS.map(({ key }, at) => [key, `run${at}`]));
        const ports = new Map<string, number>();
        const servers: { [name: string]: string } = {};
        await Promise.all(
            RUNS.map(async ({ key, eras, through }) => {
                const fixture = await startFixture(eras);
                fixtures.push(fixture);
                ports.set(key, fixture.port);
                if (through) servers[names.get(key)!] = fixture.url;
            }),
        );
        gateway = await startGatewayTo(servers);
        const queue = [...RUNS];
        const work = async () => {
            for (let run = queue.shift(); run !== undefined; run = queue.shift()) {
                const port = run.through ? gateway!.port : ports.get(run.key)!;
                const path = run.through ? `/mcp/${names.get(run.key)!}` : "/mcp";
                const result = runServerSuite(`http://localhost:${port}${path}`, run.revision);
                results.set(run.key, await result.catch((error: Error) => error));
            }
        };
        await Promise.all(Array.from({ length: WORKERS }, work));
    });
    after(async () => {
        try {
            await gateway?.stop();
        } finally {
            await Promise.all(fixtures.map((fixture) => fixture.stop()));
        }
    });

    const outcomeOf = (revision: Revision, eras: Eras, through: boolean, scenario: string): Outcome => {
        const result = results.get(keyOf(revision, eras, through));
        if (result instanceof Error) throw result;
        return result?.get(scenario) ?? { scenario, checks: [] };
    };

    for (const revision of REVISIONS) {
        const { required, unscored } = serverScenarios(revision);
        const scenarios = [...required, ...unscored].filter((scenario) => !isTask(scenario));
        const tasks = unscored.filter(isTask);

        describe(`${revision}, the server alone`, () => {
            for (const scenario of scenarios) {
                test(scenario, () => {
                    const outcome = outcomeOf(revision, "both", false, scenario);
                    assert.ok(hasPassed(outcome), `\n${explain(failures(outcome))}`);
                });
            }
        });

        for (const eras of ["both", "legacy"] as const) {
            const excuses = excused[revision]?.[eras] ?? {};
            describe(`${revision}, through the gateway to a ${eras === "both" ? "modern" : "legacy"} server`, () => {
                // Also those that the suite does not score: the server alone passes them.
                for (const scenario of scenarios) {
                    const excuse = excuses[scenario];
                    test(excuse === undefined ? scenario : `${scenario} (excused)`, (t) => {
                        const outcome = outcomeOf(revision, eras, true, scenario);
                        const direct = outcomeOf(revision, "both", false, scenario);
                        for (const line of differences(direct, outcome)) t.diagnostic(line);
                        const worse = lost(direct, outcome);
                        const forgiven = worse.filter((id) => `${scenario}: ${id}` in excuses);
                        const said = `\n${explain(outcome.checks.filter((check) => worse.includes(check.id)))}`;
                        if (excuse !== undefined) {
                            t.diagnostic(`excused: ${excuse}`);
                            assert.notDeepEqual(worse, [], "it passes: remove it from the table in excused.ts");
                        } else {
                            assert.notDeepEqual(outcome.checks, [], "nothing was checked");
                            assert.deepEqual(worse, forgiven, said);
                            const listed = Object.keys(excuses).filter((key) => key.startsWith(`${scenario}: `));
                            const needless = listed.filter((key) => !worse.includes(key.slice(scenario.length + 2)));
                            assert.deepEqual(needless, [], "they pass: remove them from the table in excused.ts");
                            for (const key of listed) t.diagnostic(`excused: ${key}: ${excuses[key]}`);
                        }
                    });
                }

                test("every excuse is for a scenario that there is", () => {
                    const strangers = Object.keys(excuses).filter((key) => !scenarios.includes(key.split(": ")[0]!));
                    assert.deepEqual(strangers, []);
                });

                if (tasks.length === 0) return;
                test("the tasks extension, which the server does not have, hangs nowhere", (t) => {
                    for (const scenario of tasks) {
                        const outcome = outcomeOf(revision, eras, true, scenario);
                        assert.ok(outcome.checks.length > 0, scenario);
                        assert.ok(!outcome.checks.some((check) => check.id === "scenario-timeout"), scenario);
                        const direct = outcomeOf(revision, "both", false, scenario);
                        for (const line of differences(direct, outcome)) t.diagnostic(`${scenario}: ${line}`);
                    }
                });
            });
        }
    }
});
