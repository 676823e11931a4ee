/*
 * The official conformance suite with clients of the revisions before 2025-11-25, against the fixture and against the
 * gateway with the fixture behind it: all that it has for them. What the server alone passes it must pass there, too.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import type { Gateway } from "../integration/lib/gateway.ts";
import { excusedForOlder } from "./excused.ts";
import { startFixture, type Fixture } from "./lib/fixture.ts";
import { startGatewayTo } from "./lib/gateway.ts";
import { explain, failures, hasPassed, lost, runWholeServerSuite, type OlderRevision, type Outcome } from "./lib/suite.ts";

/** How many scenarios there are at least: a suite that runs none has shown nothing. */
const REVISIONS: { [revision in OlderRevision]: number } = { "2025-03-26": 1, "2025-06-18": 20 };

describe("the conformance suite for servers, with clients of older revisions", () => {
    let gateway: Gateway | undefined;
    const fixtures: Fixture[] = [];
    before(async () => {
        fixtures.push(await startFixture("both"), await startFixture("legacy"), await startFixture("both"));
        gateway = await startGatewayTo({ both: fixtures[0]!.url, legacy: fixtures[1]!.url });
    });
    after(async () => {
        try {
            await gateway?.stop();
        } finally {
            await Promise.all(fixtures.map((fixture) => fixture.stop()));
        }
    });

    for (const [key, least] of Object.entries(REVISIONS)) {
        const revision = key as OlderRevision;
        test(revision, async (t) => {
            const alone = await runWholeServerSuite(`http://localhost:${fixtures[2]!.port}/mcp`, revision);
            assert.ok(alone.size >= least, `${alone.size} scenarios`);
            for (const eras of ["both", "legacy"]) {
                const through = await runWholeServerSuite(`http://localhost:${gateway!.port}/mcp/${eras}`, revision);
                for (const [scenario, direct] of alone) {
                    const excuse = excusedForOlder[scenario];
                    const name = `${scenario}, a ${eras === "both" ? "modern" : "legacy"} server`;
                    await t.test(excuse === undefined ? name : `${name} (excused)`, (t) => {
                        assert.ok(hasPassed(direct), `the server alone:\n${explain(failures(direct))}`);
                        const outcome: Outcome = through.get(scenario) ?? { scenario, checks: [] };
                        const worse = lost(direct, outcome);
                        if (excuse !== undefined) {
                            t.diagnostic(`excused: ${excuse}`);
                            assert.notDeepEqual(worse, [], "it passes: remove it from the table in excused.ts");
                            return;
                        }
                        const said = explain(outcome.checks.filter((check) => worse.includes(check.id)));
                        assert.deepEqual(worse, [], `\n${said}`);
                    });
                }
            }
        });
    }
});
