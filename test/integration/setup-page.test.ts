/* The first start: the link that is printed on a terminal, the page behind it, and what the page asks for. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";

import { Admin, PASSWORD, startAdmin, type Answer } from "./lib/admin.ts";
import { cardea } from "./lib/cli.ts";
import { binary, launchGateway, writeConfig, type Gateway } from "./lib/gateway.ts";
import { temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

const PAGES = { "/setup": "text/html", "/assets/setup.css": "text/css", "/assets/setup.js": "text/javascript" };
const JSON_TYPE = { "content-type": "application/json" };
const NAVIGATION = { "sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };

/** A gateway on a terminal: what it prints there. Its process is the terminal's own, and ends with SIGTERM. */
async function startOnTerminal(t: TestContext, dataDir: string): Promise<() => string> {
    const folder = temporaryFolder();
    const config = writeConfig(folder, { server: { listen_address: "127.0.0.1:0" }, servers: {}, security: {} });
    const command = `exec '${binary()}' -c '${config}' --data-dir '${dataDir}' --admin-listen 127.0.0.1:0`;
    const child = spawn("script", ["-qec", command, "/dev/null"], { stdio: ["ignore", "pipe", "pipe"] });
    let printed = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => (printed += chunk));
    const ended = new Promise((resolve) => child.once("close", resolve));
    t.after(async () => {
        child.kill("SIGTERM");
        await within(ended, "the gateway on a terminal has ended");
    });
    await until(() => printed.includes("claude mcp add"), () => `the start has said everything: ${printed}`);
    return () => printed;
}

const LINK = /https:\/\/\S+\/setup#[\w-]{43}/;

describe("the pages of the console's listener", () => {
    test("have scripts and styles of their own origin alone, and none within them", async (t) => {
        const admin = await startAdmin({ users: [] }, t);
        for (const [path, media] of Object.entries(PAGES)) {
            const { status, headers, text } = await admin.ask("GET", path, NAVIGATION);
            assert.equal(status, 200, path);
            assert.equal(headers["content-type"], `${media}; charset=utf-8`);
            const policy = String(headers["content-security-policy"]).split("; ");
            for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
                "form-action 'none'", "frame-ancestors 'none'", "base-uri 'none'", "require-trusted-types-for 'script'"])
                assert.ok(policy.includes(part), `${path}: ${part}`);
            assert.ok(!String(headers["content-security-policy"]).includes("unsafe"));
            for (const [name, value] of Object.entries({ "referrer-policy": "no-referrer", "cache-control": "no-store",
                "x-content-type-options": "nosniff", "x-frame-options": "DENY" })) assert.equal(headers[name], value, `${path}: ${name}`);
            assert.doesNotMatch(text, /https?:\/\//, `${path} names nothing elsewhere`);
            assert.deepEqual(text, readFileSync(new URL(`../../web/${path === "/setup" ? "setup.html" : path.slice(8)}`, import.meta.url), "utf8"));
            const head = await admin.ask("HEAD", path);
            assert.equal(head.status, 200);
            assert.equal(head.text, "");
            assert.equal((await admin.ask("POST", path, JSON_TYPE, "{}")).status, 405);
        }
        const { text } = await admin.ask("GET", "/setup");
        assert.doesNotMatch(text, /<style|<script(?![^>]*\ssrc="\/assets\/)|\son\w+=|\sstyle=|javascript:/i);
        for (const [, id] of text.matchAll(/<label for="([^"]+)"/g)) assert.ok(text.includes(`id="${id}"`), `${id} has a label`);
        assert.equal([...text.matchAll(/<input/g)].length, [...text.matchAll(/<label/g)].length);
        // Until somebody asks for it there is no form in the document.
        assert.doesNotMatch(text.replace(/<template[\s\S]*?<\/template>/g, ""), /<form|<input/);
        const script = (await admin.ask("GET", "/assets/setup.js")).text;
        assert.doesNotMatch(script, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|localStorage|sessionStorage/);
        const paths = Object.keys((await admin.ask("GET", "/api/v1/openapi.json")).json.paths as object);
        assert.ok(paths.every((path) => path.startsWith("/api/v1/")), "they are no part of the API");
    });

    test("are for nobody who is led there by another site, and of no other name", async (t) => {
        const admin = await startAdmin({ users: [] }, t);
        assert.equal((await admin.ask("GET", "/setup", { ...NAVIGATION, "sec-fetch-site": "cross-site" })).status, 403);
        const wrong = await admin.ask("GET", "/setup", { ...NAVIGATION, host: `evil.example:${admin.port}` });
        assert.equal(wrong.status, 421);
        assert.match(String(wrong.headers["content-security-policy"]), /^default-src 'none'; frame-ancestors/);
        for (const path of ["/setup/", "/setup?code=x", "/assets/", "/assets/setup.html", "/assets/../setup", "/"])
            assert.ok([400, 404].includes((await admin.ask("GET", path)).status), path);
    });
});

describe("the first start", () => {
    const send = (admin: Admin, body: object): Promise<Answer> =>
        admin.ask("POST", "/api/v1/setup", { ...JSON_TYPE, origin: admin.origin, "sec-fetch-site": "same-origin" }, JSON.stringify(body));

    test("prints a link on a terminal that makes the first administrator, once", async (t) => {
        const dataDir = join(temporaryFolder(), "data");
        const printed = await startOnTerminal(t, dataDir);
        const link = new URL(LINK.exec(printed())![0]);
        const admin = new Admin({ dataDir } as Gateway, link.host);
        const code = link.hash.slice(1);
        assert.equal(link.pathname + link.search, "/setup");
        assert.equal((await admin.ask("GET", "/setup", NAVIGATION)).status, 200);
        assert.deepEqual((await admin.ask("GET", "/api/v1/setup")).json, { is_needed: true });
        for (const [password, says] of [["short", /12 characters/], ["password password", /tried first/], ["ann ann ann ann ann", /./]] as const) {
            const refused = await send(admin, { code, name: "ann", password });
            assert.equal(refused.status, 422, refused.text);
            assert.equal(refused.json.type, "urn:cardea:problem:password");
            assert.match(refused.json.detail, says);
        }
        const other = await send(admin, { code: `${code.slice(1)}A`, name: "ann", password: PASSWORD });
        assert.equal(other.status, 401);
        assert.match(`${other.json.detail} ${other.json.cure}`, /start the gateway again/);
        const made = await send(admin, { code, name: "ann", password: PASSWORD });
        assert.equal(made.status, 200, made.text);
        assert.ok(made.json.permissions.includes("users.write"));
        const again = await send(admin, { code, name: "eve", password: PASSWORD });
        assert.deepEqual([again.status, again.json.type], [409, "urn:cardea:problem:set-up"]);
        assert.deepEqual((await admin.ask("GET", "/api/v1/setup")).json, { is_needed: false });
        await admin.login("ann");
        assert.equal(printed().split(code).length - 1, 1, "the code is in the link alone, not in the log");
        admin.close();
    });

    test("prints none where somebody is there", async (t) => {
        const dataDir = join(temporaryFolder(), "data");
        const run = await cardea(["user", "add", "ann", "--admin", "--data-dir", dataDir], { input: PASSWORD });
        assert.equal(run.code, 0, run.stderr);
        const printed = await startOnTerminal(t, dataDir);
        assert.match(printed(), /console https:/);
        assert.doesNotMatch(printed(), LINK);
    });

    test("prints none where no terminal is", async (t) => {
        const gateway = launchGateway({ config: { servers: {}, security: {} }, admin: true });
        t.after(() => gateway.stop());
        let printed = "";
        gateway.process.stdout!.setEncoding("utf8").on("data", (chunk: string) => (printed += chunk));
        await until(() => printed.includes("claude mcp add"), () => `the start has said everything: ${printed}`);
        assert.match(printed, /console https:/);
        assert.doesNotMatch(printed, LINK);
    });
});
