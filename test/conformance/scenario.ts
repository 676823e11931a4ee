/*
 * One scenario for servers by hand, with all that the suite says about it:
 * `node scenario.ts NAME REVISION [direct|both|legacy]`. Without a gateway, or (as it is when nothing is said) through
 * one to a server of both eras, or to one that knows only the legacy one.
 */
import { startFixture } from "./lib/fixture.ts";
import { startGatewayTo } from "./lib/gateway.ts";
import { runSuiteByHand } from "./lib/suite.ts";

const [scenario, revision, how = "both"] = process.argv.slice(2);
if (scenario === undefined || revision === undefined || !["direct", "both", "legacy"].includes(how)) {
    process.stderr.write("usage: node scenario.ts NAME REVISION [direct|both|legacy]\n");
    process.exit(2);
}
const fixture = await startFixture(how === "legacy" ? "legacy" : "both");
const gateway = how === "direct" ? undefined : await startGatewayTo({ fixture: fixture.url });
const url =
    gateway === undefined ? `http://localhost:${fixture.port}/mcp` : `http://localhost:${gateway.port}/mcp/fixture`;
const code = await runSuiteByHand(["server", "--url", url, "--scenario", scenario, "--spec-version", revision]);
if (code !== 0 && gateway !== undefined) process.stdout.write(`--- the gateway's log, its end\n${gateway.tail()}\n`);
await gateway?.stop();
await fixture.stop();
process.exitCode = code ?? 1;
