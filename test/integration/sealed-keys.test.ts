/*
 * Private keys of the audit trail and of TLS at rest: no file holds one in plain once a gateway has started, each is good in
 * its own place only, nothing is made anew beside what is locked, and keys change under a gateway that goes on renewing.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { startAdmin } from "./lib/admin.ts";
import { cardea, type Run } from "./lib/cli.ts";
import { launchGateway, startGateway, type Gateway } from "./lib/gateway.ts";
import { unlessRoot } from "./lib/proc.ts";
import { askReload, configFile } from "./lib/reload.ts";
import { temporaryFolder } from "./lib/temp.ts";
import { until } from "./lib/wait.ts";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../build-asan", import.meta.url));
const KILLER = join(BUILD, "test", "hostile", "libkill_shim.so");
const SEALED = ["audit/signing.pem", "audit/hmac.key", "tls/ca.key", "tls/server.key"];
const hasFernet = spawnSync("python3", ["-c", "import cryptography.fernet"]).status === 0;
const unlessPython = !hasFernet && "python3-cryptography is not installed";
const keyOf = (text: string): string => `${Buffer.alloc(32, text).toString("base64url")}=`;
const CONFIG = '[server.tls]\nauto = true\n[mcp.servers.it]\nurl = "http://127.0.0.1:9/"\n';

const PYTHON = `
import json, sys
from cryptography.fernet import MultiFernet, Fernet
ask = json.load(sys.stdin)
keys = MultiFernet([Fernet(key) for key in ask["keys"]])
print(json.dumps([keys.decrypt(text.split("\\n")[0].encode()).decode() for text in ask["texts"]]))
`;

function decrypt(keys: string[], texts: string[]): string[] {
    const run = spawnSync("python3", ["-c", PYTHON], { input: JSON.stringify({ keys, texts }), encoding: "utf8" });
    assert.equal(run.status, 0, run.stderr);
    return JSON.parse(run.stdout) as string[];
}

class Place {
    readonly folder = temporaryFolder();
    readonly data = join(this.folder, "data");
    readonly config = join(this.folder, "cardea.toml");
    key: string | undefined;

    constructor(config = CONFIG) {
        mkdirSync(this.data, { mode: 0o700 });
        writeFileSync(this.config, config);
    }

    get env(): NodeJS.ProcessEnv {
        const { CARDEA_ENCRYPTION_KEY: _, ...env } = process.env;
        return this.key === undefined ? env : { ...env, CARDEA_ENCRYPTION_KEY: this.key };
    }

    start(t: TestContext, more: object = {}): Promise<Gateway> {
        return startGateway({ config: readFileSync(this.config, "utf8"), dataDir: this.data, env: this.env, ...more }, t);
    }

    /** A gateway that comes up and ends. */
    async once(t: TestContext): Promise<Gateway> {
        const gateway = await this.start(t);
        await gateway.stop();
        return gateway;
    }

    run(...args: string[]): Promise<Run> {
        return cardea([...args, "-c", this.config, "--data-dir", this.data], { env: this.env });
    }

    async fine(...args: string[]): Promise<string> {
        const { code, stdout, stderr } = await this.run(...args);
        assert.equal(code, 0, `${args.join(" ")}: ${stderr}`);
        return stdout;
    }

    /** One that does not start; what it says. */
    async refused(): Promise<string> {
        const run = await this.run("serve", "-l", "127.0.0.1:0", "--admin-listen", "off");
        assert.equal(run.code, 1, run.stderr);
        return run.stderr;
    }

    path(name: string): string {
        return join(this.data, name);
    }

    read(name: string): string {
        return readFileSync(this.path(name), "utf8");
    }

    get keys(): string[] {
        return this.read("vault.key").trim().split("\n");
    }

    async listed(): Promise<{ id: string; files: number }[]> {
        return (JSON.parse(await this.fine("key", "list", "--json")) as { keys: { id: string; files: number }[] }).keys;
    }

    /** What everybody may know of the keys: it stays the same as long as they do. */
    get identity(): string[] {
        return ["audit/public.pem", "tls/ca.pem", "tls/server.pem"].map((name) => this.read(name));
    }

    /** As it was before there was a vault for these files. */
    unseal(): void {
        const texts = SEALED.map((name) => this.read(name));
        const plain = decrypt(this.keys, texts);
        SEALED.forEach((name, i) => writeFileSync(this.path(name), plain[i]!.slice(plain[i]!.indexOf(",") + 1), { mode: 0o600 }));
    }
}

function* files(folder: string): Generator<string> {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
        const path = join(folder, entry.name);
        if (entry.isDirectory()) yield* files(path);
        else if (entry.isFile()) yield path;
    }
}

function nothingIsPlain(place: Place, hmac?: string): void {
    for (const path of files(place.data)) {
        const bytes = readFileSync(path);
        assert.ok(!bytes.includes("PRIVATE KEY"), path);
        assert.ok(hmac === undefined || !bytes.includes(hmac), path);
    }
    for (const name of SEALED) {
        assert.match(place.read(name), /^gAAAAA[\w-]+=*\n# under the key [0-9a-f]{16}\n$/, name);
        assert.equal(statSync(place.path(name)).mode & 0o7777, 0o600, name);
    }
}

describe("private keys at rest", () => {
    test("are in no file in plain after the first start; public ones are, and need no vault", async (t) => {
        const place = new Place();
        const gateway = await place.start(t);
        assert.equal(statSync(place.path("vault.key")).mode & 0o7777, 0o600, "made at the first start");
        nothingIsPlain(place);
        await place.fine("cert", "renew");
        nothingIsPlain(place);
        await gateway.stop();
        nothingIsPlain(place);
        rmSync(place.path("vault.key"));
        for (const args of [["audit", "verify"], ["audit", "head"], ["cert", "show"]]) await place.fine(...args);
        for (const name of ["audit/public.pem", "tls/ca.pem", "tls/server.pem"]) assert.match(place.read(name), /^-----BEGIN/);
    });

    test("the console's certificate alone: likewise", async (t) => {
        const place = new Place('[mcp.servers.it]\nurl = "http://127.0.0.1:9/"\n');
        await place.start(t, { admin: true });
        nothingIsPlain(place);
    });

    test("python3-cryptography reads them; each begins with its own name", { skip: unlessPython }, async (t) => {
        const place = new Place();
        await place.once(t);
        const plain = decrypt(place.keys, SEALED.map((name) => place.read(name)));
        SEALED.forEach((name, i) => {
            assert.ok(plain[i]!.startsWith(`cardea:1:${name.length + 5}:file/${name},`), name);
            assert.match(plain[i]!, name.endsWith("hmac.key") ? /,[\w-]{43}\n$/ : /,-----BEGIN PRIVATE KEY-----\n/);
        });
    });

    test("those of before, in plain, are taken over by the next start, with what a killed one has left", { skip: unlessPython }, async (t) => {
        const place = new Place();
        await place.once(t);
        const before = place.identity;
        place.unseal();
        for (const name of SEALED) writeFileSync(`${place.path(name)}.new`, "-----BEGIN PRIVATE KEY-----\nhalf of", { mode: 0o600 });
        assert.match(await place.fine("cert", "ca"), /BEGIN CERTIFICATE/, "commands read them");
        const hmac = place.read("audit/hmac.key").trim();
        const gateway = await place.start(t);
        await gateway.waitForLog((entry) => /in plain are encrypted now/.test(entry.message ?? "") && entry.files === 4);
        await gateway.stop();
        nothingIsPlain(place, hmac);
        assert.deepEqual(place.identity, before, "they are the same keys");
        const again = await place.once(t);
        assert.equal(again.log.items.some((entry) => /are encrypted now/.test(entry.message ?? "")), false);
        await place.fine("audit", "verify");
    });

    test("a start that is killed at any of its steps leaves each file as it was, or encrypted", { skip: unlessPython, timeout: 150_000 }, async (t) => {
        assert.ok(existsSync(KILLER), `no shim at ${KILLER}: build it, or set CARDEA_BUILD_DIR`);
        const place = new Place();
        await place.once(t);
        const before = place.identity;
        const shim = { ...place.env, LD_PRELOAD: KILLER, ASAN_OPTIONS: `${process.env.ASAN_OPTIONS ?? ""}:verify_asan_link_order=0` };
        place.unseal();
        const plain = SEALED.map((name) => place.read(name));
        let isUp = false;
        let [killed, half] = [0, 0];
        for (let at = 1; !isUp; at++) {
            SEALED.forEach((name, i) => writeFileSync(place.path(name), plain[i]!, { mode: 0o600 }));
            const gateway = launchGateway({ config: CONFIG, dataDir: place.data, env: { ...shim, KILL_SHIM_AT: String(at) }, canary: false /* it is killed */ });
            isUp = await gateway.ready().then(() => true, () => false);
            await gateway.kill();
            const { signal } = await gateway.exited;
            gateway.abandon();
            assert.equal(signal, "SIGKILL", gateway.tail());
            killed += isUp ? 0 : 1;
            const n = SEALED.filter((name) => place.read(name).startsWith("gAAAAA")).length;
            SEALED.forEach((name, i) => assert.ok(/^gAAAAA[\w-]+=*\n# under/.test(place.read(name)) || place.read(name) === plain[i], `${name} at ${at}`));
            if (n === 0 || n === SEALED.length) continue;
            half++;
            await place.once(t);
            nothingIsPlain(place);
            assert.deepEqual(place.identity, before, `killed at ${at}`);
        }
        assert.ok(half >= 3, `${killed} were killed, ${half} with some of the files encrypted`);
    });

    test("a command before the first start has no key yet; the start encrypts what it made", async (t) => {
        const place = new Place();
        const ca = await place.fine("cert", "ca");
        assert.equal(existsSync(place.path("vault.key")), false);
        await place.once(t);
        nothingIsPlain(place);
        assert.equal(place.read("tls/ca.pem"), ca);
    });

    test("a file that others may read is refused as before, not quietly taken over", { skip: unlessPython }, async (t) => {
        const place = new Place();
        await place.once(t);
        place.unseal();
        chmodSync(place.path("audit/signing.pem"), 0o644);
        assert.match(await place.refused(), /signing\.pem can be read by others/);
    });

    test("of another account they stay that account's, when root encrypts them", { skip: unlessRoot || unlessPython }, async (t) => {
        const place = new Place();
        await place.once(t);
        place.unseal();
        for (const name of SEALED) chownSync(place.path(name), 65534, 65534);
        await place.fine("key", "rotate");
        nothingIsPlain(place);
        for (const name of SEALED) assert.equal(statSync(place.path(name)).uid, 65534, name);
    });
});

describe("what cannot be opened", () => {
    for (const [one, other] of [
        ["audit/signing.pem", "tls/ca.key"],
        ["tls/ca.key", "tls/server.key"],
        ["audit/hmac.key", "audit/signing.pem"],
    ] as const) {
        test(`${one} and ${other} are not good in each other's place`, async (t) => {
            const place = new Place();
            await place.once(t);
            renameSync(place.path(one), place.path("aside"));
            renameSync(place.path(other), place.path(one));
            renameSync(place.path("aside"), place.path(other));
            const before = place.identity;
            assert.match(await place.refused(), /data\/(audit|tls)\/[a-z.]+ holds what was encrypted for another file: somebody has changed it/);
            assert.deepEqual(place.identity, before);
        });
    }

    test("a key that is missing: nothing starts, nothing is made, and it is said which one it takes", async (t) => {
        const place = new Place();
        await place.once(t);
        const [{ id }] = (await place.listed()) as [{ id: string }];
        const [before, sealed] = [place.identity, SEALED.map((name) => place.read(name))];
        const vault = place.read("vault.key");
        rmSync(place.path("vault.key"));
        const lock = await place.refused();
        for (const name of SEALED) assert.match(lock, new RegExp(`${name.replace(".", "\\.")} \\(key ${id}\\)`));
        assert.match(lock, /Bring the key back/);
        for (const args of [["cert", "renew"], ["secret", "set", "a"], ["key", "rotate"], ["key", "rotate", "--force"]]) {
            const run = await cardea([...args, "-c", place.config, "--data-dir", place.data], { env: place.env, input: "value" });
            assert.equal(run.code, 1, `${args.join(" ")} ${run.stderr}`);
            assert.match(run.stderr, new RegExp(id), args.join(" "));
        }
        assert.equal(existsSync(place.path("vault.key")), false);
        // Another one, and where the right one is.
        place.key = keyOf("another");
        const wrong = await place.refused();
        assert.match(wrong, new RegExp(`data/audit/signing\\.pem is encrypted under the key ${id}, which is not among those of CARDEA_ENCRYPTION_KEY; give it that key, too`));
        assert.match(wrong, /if it is lost, move the folder audit out of the data directory/);
        assert.match((await place.run("cert", "renew")).stderr, new RegExp(`tls/ca\\.key is encrypted under the key ${id}`));
        writeFileSync(place.path("vault.key"), vault, { mode: 0o600 });
        assert.match(await place.refused(), /data\/vault\.key, which is not used as long as there are keys elsewhere, may have it/);
        place.key = undefined;
        assert.deepEqual(SEALED.map((name) => place.read(name)), sealed, "all is as it was");
        await place.once(t);
        assert.deepEqual(place.identity, before);
    });

    test("a token that was changed is no damaged key that could be made anew", async (t) => {
        const place = new Place();
        await place.once(t);
        const before = place.identity;
        for (const name of SEALED) {
            const text = place.read(name);
            writeFileSync(place.path(name), text.slice(0, 60) + (text[60] === "A" ? "B" : "A") + text.slice(61), { mode: 0o600 });
            assert.match(await place.refused(), new RegExp(`${name.replace(".", "\\.")} was changed, or is damaged: the key [0-9a-f]{16}, which it names, does not open it`));
            writeFileSync(place.path(name), text);
        }
        assert.deepEqual(place.identity, before);
        await place.once(t);
    });

    test("a key that is lost for good: what it locked is put away, --force leaves the rest behind", async (t) => {
        const place = new Place();
        await place.once(t);
        rmSync(place.path("vault.key"));
        renameSync(place.path("audit"), place.path("audit-of-before"));
        rmSync(place.path("tls"), { recursive: true });
        assert.match(await place.refused(), /what is in the store is encrypted/);
        assert.match((await place.run("key", "rotate")).stderr, /what is in the store is encrypted/);
        await place.fine("key", "rotate", "--force");
        await place.once(t);
        nothingIsPlain(place);
        await place.fine("audit", "verify");
        await place.fine("audit", "verify", "--dir", place.path("audit-of-before"));
    });
});

describe("keys that change", () => {
    test("under a gateway that runs: what it renews later is under the key of then", async (t) => {
        const place = new Place();
        const gateway = await place.start(t);
        for (const name of ["one.test", "two.test"]) {
            const [{ id: old }] = (await place.listed()) as [{ id: string }];
            assert.match(await place.fine("key", "rotate"), /4 private keys were encrypted again\.\nThe key is new/);
            const [{ id, files: n }, ...rest] = (await place.listed()) as [{ id: string; files: number }];
            assert.deepEqual([n, rest], [4, []]);
            assert.notEqual(id, old);
            // The gateway itself makes a certificate now, by the keys as they are.
            const before = place.read("tls/server.pem");
            writeFileSync(configFile(gateway), CONFIG.replace("auto = true", `auto = true\nnames = ["${name}"]`));
            const { run } = await askReload(gateway);
            assert.equal(run.code, 0, run.stdout);
            await until(() => place.read("tls/server.pem") !== before, "a new certificate");
            assert.deepEqual((await place.listed()).map(({ files: all }) => all), [4]);
            assert.ok(place.read("tls/server.key").includes(id));
        }
        await gateway.stop();
        await place.once(t);
        nothingIsPlain(place);
    });

    test("of the environment: the files go with the first key at each start", async (t) => {
        const place = new Place();
        const [old, next] = [keyOf("the old key"), keyOf("the new key")];
        place.key = old;
        await place.once(t);
        const before = place.identity;
        assert.equal(existsSync(place.path("vault.key")), false);
        place.key = `${next},${old}`;
        const gateway = await place.start(t);
        await gateway.waitForLog((entry) => /under the first one now/.test(entry.message ?? "") && entry.files === 4);
        assert.deepEqual((await place.listed()).map(({ files: n }) => n), [4, 0]);
        // Whoever has the old one only is told, and changes nothing.
        place.key = old;
        const renewed = await place.run("cert", "renew");
        assert.equal(renewed.code, 1);
        assert.match(renewed.stderr, /tls\/ca\.key is encrypted under the key [0-9a-f]{16}, which is not among those of CARDEA_ENCRYPTION_KEY/);
        place.key = `${next},${old}`;
        assert.match(await place.fine("key", "rotate"), /All but the first key can be taken out of CARDEA_ENCRYPTION_KEY/);
        await gateway.stop();
        place.key = next;
        await place.once(t);
        nothingIsPlain(place);
        assert.deepEqual(place.identity, before);
    });

    test("while the console is open: secrets can be set as before, or it is said what to do", async (t) => {
        const isPut = async (admin: Awaited<ReturnType<typeof startAdmin>>, status: number) => {
            const answer = await (await admin.login("root")).ask("PUT", "/api/v1/secrets/github", { body: { value: "value-of-the-console" } });
            assert.equal(answer.status, status, answer.text);
            return answer.json as { detail: string; cure: string };
        };
        const users = [{ name: "root", roles: ["administrator"] }];
        const admin = await startAdmin({ users }, t);
        await isPut(admin, 204);
        for (let i = 0; i < 2; i++) {
            const run = await cardea(["key", "rotate", "--data-dir", admin.gateway.dataDir]);
            assert.equal(run.code, 0, run.stderr);
            await isPut(admin, 204);
            const list = await (await admin.login("root")).get("/api/v1/secrets");
            assert.deepEqual(list.json.items.map((item: { can_be_opened: boolean }) => item.can_be_opened), [true]);
        }
        admin.close();
        // What a process was started with it does not read again.
        const [old, next] = [keyOf("of the console"), keyOf("of the next one")];
        const other = await startAdmin({ users, env: { ...process.env, CARDEA_ENCRYPTION_KEY: old } }, t);
        await isPut(other, 204);
        const run = await cardea(["key", "rotate", "--data-dir", other.gateway.dataDir], {
            env: { ...process.env, CARDEA_ENCRYPTION_KEY: `${next},${old}` },
        });
        assert.equal(run.code, 0, run.stderr);
        const refused = await isPut(other, 503);
        assert.match(refused.detail, /under a key that this gateway does not have/);
        assert.match(refused.cure, /restart the gateway with the new key in CARDEA_ENCRYPTION_KEY/);
        other.close();
    });
});
