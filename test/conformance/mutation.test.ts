/*
 * Our own checks at an endpoint: at the fixture (which proves the checks), at the gateway, and at a proxy in front of
 * the gateway that does one wrong thing after the other. What table 4.6 calls visible, a check has to notice.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import type { Gateway } from "../integration/lib/gateway.ts";
import { PATIENCE_MS } from "../integration/lib/wait.ts";
import type { Need, OwnCheck } from "./checks/common.ts";
import { startFixture, type Eras, type Fixture } from "./lib/fixture.ts";
import { startGatewayTo } from "./lib/gateway.ts";
import { startProxy, type Mutation } from "./lib/proxy.ts";
import { mutations, transparent } from "./mutations.ts";
import { ownChecks, release, runOwnCheck } from "./own-checks.ts";

/**
 * What the gateway does not serve yet, by the eras that the server speaks and the one that the client does. A check that
 * needs it and passes nevertheless fails the test.
 */
const missing: { [server in Eras]?: { [client in OwnCheck["era"]]: Need[] } } = {
    // Such a server knows neither the envelope that these checks look at nor keys for what it asks.
    legacy: { modern: ["requests of the server"] },
};

/** Runs the checks at the fixture alone, with the proxy in front of that, too: it proves them without a gateway. */
const onlyDirect = process.env.CARDEA_TEST_DIRECT === "1";
/** A mutated answer may be one that never comes. */
const SHORT_MS = Math.min(4000, PATIENCE_MS);

const isMissing = (check: OwnCheck, eras: Eras) =>
    !onlyDirect && check.needs !== undefined && (missing[eras]?.[check.era] ?? []).includes(check.needs);
const title = (check: OwnCheck) => `${check.era}: ${check.name}`;

describe("our own checks", () => {
    let both: Fixture;
    let legacy: Fixture;
    let gateway: Gateway | undefined;
    let target: { port: number; path: string };
    before(async () => {
        [both, legacy] = await Promise.all([startFixture("both"), startFixture("legacy")]);
        if (onlyDirect) {
            target = { port: both.port, path: "/mcp" };
            return;
        }
        gateway = await startGatewayTo({ both: both.url, legacy: legacy.url });
        target = { port: gateway.port, path: "/mcp/both" };
    });
    after(async () => {
        try {
            // A call that nobody waits for any more is still a call, which a gateway lets end.
            await Promise.all([both, legacy].map((fixture) => release(fixture.port)));
            await gateway?.stop();
        } finally {
            await Promise.all([both, legacy].map((fixture) => fixture.stop()));
        }
    });

    describe("at the fixture", () => {
        for (const check of ownChecks) {
            test(title(check), async () => {
                const error = await runOwnCheck(check, both.port, "/mcp", PATIENCE_MS);
                if (error !== undefined) throw error;
            });
        }
    });

    for (const eras of ["both", "legacy"] as const) {
        describe(
            `through the gateway to a ${eras === "both" ? "modern" : "legacy"} server`,
            { skip: onlyDirect },
            () => {
                for (const check of ownChecks) {
                    const isExcused = isMissing(check, eras);
                    test(`${title(check)}${isExcused ? " (excused)" : ""}`, async (t) => {
                        const ms = isExcused ? SHORT_MS : PATIENCE_MS;
                        const error = await runOwnCheck(check, gateway!.port, `/mcp/${eras}`, ms);
                        if (isExcused) {
                            t.diagnostic(`excused: needs ${check.needs}`);
                            assert.ok(
                                error !== undefined,
                                "it passes: take what it needs out of the table of what is missing",
                            );
                        } else if (error !== undefined) throw error;
                    });
                }
            },
        );
    }

    describe("through a proxy that is wrong", { concurrency: 3 }, () => {
        const checks = ownChecks.filter((check) => !isMissing(check, "both"));
        const notices = async (mutation: Mutation, ms: number): Promise<{ check: OwnCheck; error: Error }[]> => {
            const proxy = await startProxy(target.port, mutation);
            try {
                const errors = await Promise.all(
                    checks.map((check) => runOwnCheck(check, proxy.port, target.path, ms)),
                );
                return checks.flatMap((check, at) => (errors[at] === undefined ? [] : [{ check, error: errors[at] }]));
            } finally {
                await proxy.stop();
            }
        };
        const first = (error: Error) => error.message.split("\n", 3).join(" ").slice(0, 200);

        for (const mutation of [transparent, ...mutations]) {
            test(`one that ${mutation.name}`, async (t) => {
                const isVisible = mutation.visible !== "none";
                const noticed = await notices(mutation, isVisible ? SHORT_MS : PATIENCE_MS);
                for (const { check, error } of noticed) t.diagnostic(`noticed by "${title(check)}": ${first(error)}`);
                if (!isVisible) {
                    assert.deepEqual(
                        noticed.map(({ check, error }) => `${title(check)}: ${first(error)}`),
                        [],
                        "nothing of it shows, so no check may fail",
                    );
                } else {
                    const eras = new Set(noticed.map(({ check }) => check.era));
                    if (mutation.visible !== "2026-07-28")
                        assert.ok(eras.has("legacy"), "no check of 2025-11-25 notices it");
                    if (mutation.visible !== "2025-11-25")
                        assert.ok(eras.has("modern"), "no check of 2026-07-28 notices it");
                }
            });
        }
    });
});
