/*
 * Secrets at rest and in use: what the store keeps is what others read with the key, and only in its own place; what the
 * configuration names reaches the server that it is for, and nothing else; keys change under a running gateway, and a
 * rotation that is killed at any step loses nothing.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { trailOf } from "./lib/audit.ts";
import { secretValues, type Credential } from "./lib/canary-credentials.ts";
import { Search } from "./lib/canary-search.ts";
import { cardea, type Run } from "./lib/cli.ts";
import { binary, startGateway, type Gateway } from "./lib/gateway.ts";
import { openSession, served, text } from "./lib/http.ts";
import { unlessRoot } from "./lib/proc.ts";
import { askReload, configFile } from "./lib/reload.ts";
import { temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../build-asan", import.meta.url));
const KILLER = join(BUILD, "test", "hostile", "libkill_shim.so");

const hasFernet = spawnSync("python3", ["-c", "import cryptography.fernet"]).status === 0;
const unlessPython = !hasFernet && "python3-cryptography is not installed";

/** A place with a data directory, and commands that work on it. */
class Place {
    readonly folder = temporaryFolder();
    readonly data = join(this.folder, "data");
    readonly config = join(this.folder, "cardea.toml");
    /** of CARDEA_ENCRYPTION_KEY; undefined: not set */
    key: string | undefined;
    /** all that commands have said */
    said = "";

    constructor(text = "") {
        mkdirSync(this.data, { mode: 0o700 });
        this.write(text);
    }

    write(text: string): void {
        writeFileSync(this.config, text);
    }

    get env(): NodeJS.ProcessEnv {
        const { CARDEA_ENCRYPTION_KEY: _, ...env } = process.env;
        return this.key === undefined ? env : { ...env, CARDEA_ENCRYPTION_KEY: this.key };
    }

    async run(args: string[], input?: string | Buffer, more: NodeJS.ProcessEnv = {}): Promise<Run> {
        const run = await cardea([...args, "-c", this.config, "--data-dir", this.data], { env: { ...this.env, ...more }, input });
        this.said += run.stdout + run.stderr;
        return run;
    }

    async set(name: string, value: string): Promise<void> {
        const run = await this.run(["secret", "set", name], `${value}\n`);
        assert.equal(run.code, 0, run.stderr);
        secretValues.set(name, value);
    }

    async list(): Promise<{ name: string; opens: boolean; key?: string }[]> {
        const run = await this.run(["secret", "list", "--json"]);
        assert.equal(run.code, 0, run.stderr);
        return JSON.parse(run.stdout) as { name: string; opens: boolean; key?: string }[];
    }

    async keys(): Promise<{ source: string; keys: { id: string; encrypts: boolean; secrets: number; files: number }[]; unopened: number }> {
        const run = await this.run(["key", "list", "--json"]);
        assert.equal(run.code, 0, run.stderr);
        return JSON.parse(run.stdout);
    }
}

const serverTable = (url: string, more: string): string =>
    `[security]\nedit_mode = true\n[mcp.servers.it]\nurl = "${url}"\n${more}\n`;

/** A gateway before that place's data directory. */
const start = (t: TestContext, place: Place, more: Parameters<typeof startGateway>[0] | object = {}): Promise<Gateway> =>
    startGateway({ config: readFileSync(place.config, "utf8"), dataDir: place.data, env: place.env, ...more }, t);

const call = async (gateway: Gateway): Promise<void> => {
    await served(gateway, "it__echo");
    const session = await openSession(gateway);
    assert.equal(text(await session.call("it__echo", { text: "hello" })), "hello");
    await session.end();
};

const lastField = (fixture: HttpFixture, name: string): string | undefined => fixture.received("tools/call").at(-1)!.field(name);

describe("secrets by name", () => {
    test("are set, listed and deleted; no command shows a value", async () => {
        const place = new Place();
        assert.deepEqual(await place.list(), []);
        assert.equal(existsSync(join(place.data, "vault.key")), false, "a look makes no key");
        await place.set("github", "value-of-github");
        await place.set("wiki.token-1", "value-of-wiki");
        assert.equal(statSync(join(place.data, "vault.key")).mode & 0o7777, 0o600);
        assert.deepEqual((await place.list()).map(({ name, opens }) => [name, opens]), [["github", true], ["wiki.token-1", true]]);
        assert.match((await place.run(["secret", "list"])).stdout, /^github +20\d\d-/m);
        assert.equal((await place.run(["secret", "delete", "github"])).code, 0);
        const again = await place.run(["secret", "delete", "github"]);
        assert.equal(again.code, 1);
        assert.match(again.stderr, /there is no secret github/);
        assert.equal((await place.list()).length, 1);
        assert.doesNotMatch(place.said, /value-of/);
    });

    for (const [what, args, input, code, says] of [
        ["a name with a space", ["secret", "set", "a b"], "x", 2, /1 to 64 letters/],
        ["a name of a path", ["secret", "delete", "../a"], undefined, 2, /1 to 64 letters/],
        ["nothing", ["secret", "set", "a"], "", 1, /it is empty/],
        ["a line end alone", ["secret", "set", "a"], "\n", 1, /it is empty/],
        ["no UTF-8", ["secret", "set", "a"], Buffer.from([0xff, 0xfe]), 1, /text in UTF-8/],
        ["a NUL", ["secret", "set", "a"], "a\0b", 1, /text in UTF-8/],
        ["too much", ["secret", "set", "a"], "x".repeat(65537), 1, /longer than 65536 bytes/],
        ["no terminal for a key", ["key", "new"], undefined, 2, /shown on a terminal only; with --out FILE/],
    ] as const) {
        test(`${what} is refused`, async () => {
            const place = new Place();
            const run = await place.run([...args], input);
            assert.equal(run.code, code, run.stderr);
            assert.match(run.stderr, says);
            assert.equal(existsSync(join(place.data, "vault.key")), false);
        });
    }

    test("as much as is allowed is kept", async () => {
        const place = new Place();
        await place.set("big", "x".repeat(65536));
        assert.deepEqual((await place.list()).map(({ name, opens }) => [name, opens]), [["big", true]]);
    });

    test("a key file that others may read is refused, and it is said what to do", async () => {
        const place = new Place();
        await place.set("a", "value-of-a");
        chmodSync(join(place.data, "vault.key"), 0o644);
        for (const args of [["secret", "set", "b"], ["key", "list"], ["key", "rotate"]]) {
            const run = await place.run(args, "x");
            assert.equal(run.code, 1, args.join(" "));
            assert.match(run.stderr, /chmod 600 \S*vault\.key/);
        }
    });

    test("a key that is missing is not made anew over what it has locked", async () => {
        const place = new Place();
        await place.set("a", "value-of-a");
        rmSync(join(place.data, "vault.key"));
        const run = await place.run(["secret", "set", "b"], "x");
        assert.equal(run.code, 1);
        assert.match(run.stderr, /there is no key/);
        assert.equal(existsSync(join(place.data, "vault.key")), false);
        // When it is lost for good: what it locked goes, and then there is a new one.
        assert.equal((await place.run(["secret", "delete", "a"])).code, 0);
        assert.equal((await place.run(["key", "rotate"])).code, 0);
        await place.set("b", "value-of-b");
    });
});

describe("secrets in a configuration", () => {
    test("reach the server that they are for: by name, by file, by twin; each use is recorded", async (t) => {
        const fixture = await startHttp({ name: "it" }, t);
        const place = new Place(
            serverTable(
                fixture.url,
                `auth.token = "{{ secret.github }}"
                 headers = [
                    { rule = "insert", name = "X-Api-Key", value = "key {{ secret.api }}" },
                    { rule = "insert", name = "X-File", value = "{{ file.of-a-file }}" },
                 ]`,
            ),
        );
        await place.set("github", "the-token-of-github-0");
        await place.set("api", "the-key-of-the-api-0");
        writeFileSync(join(place.folder, "of-a-file"), "from-a-file\n");
        place.write(readFileSync(place.config, "utf8").replace("file.of-a-file", `file.${place.folder}/of-a-file`));
        const serving = await start(t, place);
        await call(serving);
        assert.equal(lastField(fixture, "authorization"), "Bearer the-token-of-github-0");
        assert.equal(lastField(fixture, "x-api-key"), "key the-key-of-the-api-0");
        assert.equal(lastField(fixture, "x-file"), "from-a-file");
        const trail = trailOf(serving);
        const lines = await until(() => {
            const found = trail.lines.filter((line) => line.event === "secret");
            return found.length >= 3 && found;
        }, "the uses are recorded");
        assert.deepEqual(
            lines.map((line) => `${String(line.option)} ${String(line.operation)}`).sort(),
            [
                "mcp.servers.it.auth.token secret.github",
                "mcp.servers.it.headers[0].value secret.api",
                `mcp.servers.it.headers[1].value file.${place.folder}/of-a-file`,
            ].sort(),
        );
        // The file by its own key, with a reload.
        writeFileSync(join(serving.folder, "of-a-twin"), "the-token-of-a-twin-0\n");
        writeFileSync(configFile(serving), serverTable(fixture.url, 'auth.token_file = "of-a-twin"'));
        const { run } = await askReload(serving);
        assert.equal(run.code, 0, run.stdout);
        await call(serving);
        assert.equal(lastField(fixture, "authorization"), "Bearer the-token-of-a-twin-0");
    });

    test("a reload takes up what was changed", async (t) => {
        const fixture = await startHttp({ name: "it" }, t);
        const place = new Place(serverTable(fixture.url, 'auth.token = "{{ secret.changing }}"'));
        await place.set("changing", "the-token-before-that");
        const gateway = await start(t, place);
        await call(gateway);
        assert.equal(lastField(fixture, "authorization"), "Bearer the-token-before-that");
        await place.set("changing", "the-token-after-that");
        const first = await askReload(gateway);
        assert.equal(first.run.code, 0, first.run.stdout);
        assert.deepEqual(first.answer.reload!.servers.changed, ["it"]);
        await call(gateway);
        assert.equal(lastField(fixture, "authorization"), "Bearer the-token-after-that");
        const second = await askReload(gateway);
        assert.deepEqual(second.answer.reload!.servers.changed, []);
        // One that is gone: all goes on as it was, and it is said.
        await place.run(["secret", "delete", "changing"]);
        const third = await askReload(gateway);
        assert.equal(third.run.code, 78);
        assert.match(third.run.stdout, /needs the secret changing, which is not there/);
        await call(gateway);
    });

    test("missing ones are all told by check, which makes nothing, and no gateway starts", async () => {
        const place = new Place(
            '[mcp.servers.a]\nurl = "https://a.example/"\nauth.token = "{{ secret.one }}"\n' +
                '[mcp.servers.b]\ncmd = ["x"]\nenv.KEY = "{{ secret.two }}"\n',
        );
        for (const command of ["check", "serve", "tools"]) {
            const run = await place.run([command]);
            assert.equal(run.code, 78, run.stderr);
            assert.match(run.stderr, /cardea\.toml:3:14: error: mcp\.servers\.a\.auth\.token needs the secret one, which is not there; give it its value with: cardea secret set one\n/);
            assert.match(run.stderr, /cardea\.toml:6:11: error: mcp\.servers\.b\.env\.KEY needs the secret two/);
            assert.deepEqual(readdirSync(place.data), []);
        }
        rmSync(place.data, { recursive: true });
        assert.equal((await place.run(["check"])).code, 78);
        assert.equal(existsSync(place.data), false);
    });

    test("check says what is missing without the keys, serve needs them", async () => {
        const place = new Place('[mcp.servers.a]\nurl = "https://a.example/"\nauth.token = "{{ secret.one }}"\n');
        await place.set("one", "value-of-one");
        const key = readFileSync(join(place.data, "vault.key"));
        rmSync(join(place.data, "vault.key"));
        assert.equal((await place.run(["check"])).code, 0);
        for (const command of ["serve", "tools"]) {
            const run = await place.run([command]);
            assert.equal(run.code, 78);
            assert.match(run.stderr, /auth\.token needs the secret one: there is no key/);
        }
        place.key = Buffer.alloc(32, "another key").toString("base64url");
        const other = await place.run(["check"]);
        assert.equal(other.code, 78);
        assert.match(other.stderr, /needs the secret one: no key that is here opens it/);
        place.key = undefined;
        writeFileSync(join(place.data, "vault.key"), key, { mode: 0o644 });
        const open = await place.run(["check"]);
        assert.equal(open.code, 78);
        assert.match(open.stderr, /needs the secret one: .*chmod 600/);
    });

    test("commands on secrets work with a configuration that cannot be loaded", async () => {
        const place = new Place('[nonsense]\n[mcp.servers.a]\nurl = "{{ env.NO_SUCH_VARIABLE }}"\n');
        await place.set("a", "value-of-a");
        assert.equal((await place.list()).length, 1);
        assert.equal((await place.run(["key", "rotate"])).code, 0);
    });
});

const PYTHON = `
import json, sqlite3, sys
from cryptography.fernet import Fernet, MultiFernet
ask = json.load(sys.stdin)
keys = MultiFernet([Fernet(key) for key in ask["keys"] or [Fernet.generate_key()]])
store = sqlite3.connect(ask["store"], timeout=20)
if "read" in ask:
    (token,) = store.execute("SELECT token FROM sealed WHERE kind = 'secret' AND name = ?", [ask["read"]]).fetchone()
    print(json.dumps({"token": token, "plain": keys.decrypt(token.encode()).decode()}))
elif "rotate" in ask:
    for kind, name, token in store.execute("SELECT kind, name, token FROM sealed WHERE kind <> 'key'").fetchall():
        store.execute("UPDATE sealed SET token = ? WHERE kind = ? AND name = ?", [keys.rotate(token.encode()).decode(), kind, name])
    store.commit()
elif "move" in ask:
    store.execute("UPDATE sealed SET token = (SELECT token FROM sealed WHERE name = ?) WHERE name = ?", ask["move"])
    store.commit()
else:
    token = keys.encrypt(ask["plain"].encode()).decode()
    store.execute("INSERT INTO sealed VALUES ('secret', ?, ?, 1, 1)", [ask["write"], token])
    store.commit()
`;

function python(ask: object): { token: string; plain: string } {
    const run = spawnSync("python3", ["-c", PYTHON], { input: JSON.stringify(ask), encoding: "utf8" });
    assert.equal(run.status, 0, run.stderr);
    return JSON.parse(run.stdout === "" ? "{}" : run.stdout) as { token: string; plain: string };
}

describe("Fernet", { skip: unlessPython }, () => {
    test("python3-cryptography reads what we write, and we read what it writes", async (t) => {
        const fixture = await startHttp({ name: "it" }, t);
        const place = new Place(serverTable(fixture.url, 'auth.token = "{{ secret.foreign }}"'));
        const store = join(place.data, "store.sqlite");
        for (const value of ["v", "the value of ours", "ä, €, 🔑", "x".repeat(5000)]) {
            await place.set("ours", value);
            const keys = readFileSync(join(place.data, "vault.key"), "utf8").trim().split("\n");
            assert.equal(python({ store, keys, read: "ours" }).plain, `cardea:1:11:secret/ours,${value}`);
        }
        const keys = readFileSync(join(place.data, "vault.key"), "utf8").trim().split("\n");
        python({ store, keys, write: "foreign", plain: "cardea:1:14:secret/foreign,the-token-from-python" });
        secretValues.set("foreign", "the-token-from-python");
        await call(await start(t, place));
        assert.equal(lastField(fixture, "authorization"), "Bearer the-token-from-python");
        // MultiFernet.rotate() and ours mean the same.
        const next = Buffer.alloc(32, "of the next rotation").toString("base64url") + "=";
        python({ store, keys: [next, ...keys], rotate: true });
        place.key = `${next},${keys.join(",")}`;
        assert.deepEqual((await place.list()).map(({ opens }) => opens), [true, true]);
        assert.equal((await place.run(["key", "rotate"])).code, 0);
        place.key = next;
        assert.deepEqual((await place.list()).map(({ opens }) => opens), [true, true]);
    });

    test("a token that was moved to another row, or that belongs to nobody, is refused", async () => {
        const place = new Place('[mcp.servers.a]\nurl = "https://a.example/"\nauth.token = "{{ secret.cheap }}"\n');
        const store = join(place.data, "store.sqlite");
        await place.set("dear", "value-of-dear");
        await place.set("cheap", "value-of-cheap");
        python({ store, keys: [], move: ["dear", "cheap"] });
        const run = await place.run(["check"]);
        assert.equal(run.code, 78);
        assert.match(run.stderr, /needs the secret cheap: .*belongs to something else/);
        assert.deepEqual((await place.list()).map(({ name, opens }) => [name, opens]), [["cheap", false], ["dear", true]]);
        const keys = readFileSync(join(place.data, "vault.key"), "utf8").trim().split("\n");
        python({ store, keys, write: "bare", plain: "a secret without an owner" });
        assert.equal((await place.list()).find(({ name }) => name === "bare")!.opens, false);
        assert.doesNotMatch(place.said, /value-of|without an owner/);
    });
});

describe("rotation", () => {
    test("of keys of the environment: in front, rotate, take the old one out", async () => {
        const place = new Place();
        const [old, next] = ["the old key", "the new key"].map((text) => `${Buffer.alloc(32, text).toString("base64url")}=`);
        place.key = old;
        await place.set("a", "value-of-a");
        assert.equal(existsSync(join(place.data, "vault.key")), false);
        place.key = `${next},${old}`;
        await place.set("b", "value-of-b");
        let keys = await place.keys();
        assert.equal(keys.source, "CARDEA_ENCRYPTION_KEY");
        assert.deepEqual(keys.keys.map(({ encrypts, secrets }) => [encrypts, secrets]), [[false, 0], [true, 2]], "instances with the old key alone read it");
        const run = await place.run(["key", "rotate"]);
        assert.equal(run.code, 0, run.stderr);
        assert.match(run.stdout, /2 secrets were encrypted again[^]*can be taken out of CARDEA_ENCRYPTION_KEY/);
        place.key = next;
        keys = await place.keys();
        assert.deepEqual(keys.keys.map(({ encrypts, secrets }) => [encrypts, secrets]), [[true, 2]]);
        assert.equal(keys.unopened, 0);
        place.key = old;
        const stale = await place.run(["secret", "set", "c"], "x");
        assert.equal(stale.code, 1, "nobody writes under a key that was taken out");
        assert.match(stale.stderr, /under a key that is not here/);
        place.key = "nonsense";
        const wrong = await place.run(["secret", "list"]);
        assert.match(wrong.stderr, /key 1 of CARDEA_ENCRYPTION_KEY is no key/);
        assert.doesNotMatch(wrong.stderr, /nonsense/);
    });

    test("of credentials of systemd", async () => {
        const place = new Place();
        const credentials = join(place.folder, "credentials");
        mkdirSync(credentials, { mode: 0o500 });
        writeFileSync(join(credentials, "cardea.key"), `${Buffer.alloc(32, "of systemd").toString("base64url")}\n`, { mode: 0o400 });
        const run = await place.run(["secret", "set", "a"], "value-of-a", { CREDENTIALS_DIRECTORY: credentials });
        assert.equal(run.code, 0, run.stderr);
        assert.equal(existsSync(join(place.data, "vault.key")), false);
        const list = await place.run(["key", "list"], undefined, { CREDENTIALS_DIRECTORY: credentials });
        assert.match(list.stdout, /CREDENTIALS_DIRECTORY[^]*1 secrets {2}encrypts/);
    });

    test("killed at each of its steps, while a gateway serves: nothing is lost, and the next one goes on", { timeout: 240_000 }, async (t) => {
        assert.ok(existsSync(KILLER), `no shim at ${KILLER}: build it, or set CARDEA_BUILD_DIR`);
        const fixture = await startHttp({ name: "it" }, t);
        const place = new Place(serverTable(fixture.url, 'auth.token = "{{ secret.s07 }}"'));
        const N = 20; // two transactions
        const value = (i: number) => `the-value-number-${i}-of-many`;
        for (let i = 0; i < N; i++) await place.set(`s${String(i).padStart(2, "0")}`, value(i));
        const serve = () => start(t, place, { admin: true, audit: false /* it is about the keys, and there are many reloads */ });
        const gateway = await serve();
        await call(gateway);
        // Private keys of the trail and of the console's certificate, and what everybody may know of them.
        const N_FILES = 4;
        const identity = () => ["audit/public.pem", "tls/ca.pem", "tls/server.pem"].map((name) => readFileSync(join(place.data, name), "utf8"));
        const before = identity();
        const count = join(place.folder, "count");
        const rotate = (at?: number): Promise<Run> =>
            place.run(["key", "rotate"], undefined, {
                LD_PRELOAD: KILLER,
                KILL_SHIM_COUNT: count,
                ASAN_OPTIONS: `${process.env.ASAN_OPTIONS ?? ""}:verify_asan_link_order=0`,
                ...(at === undefined ? {} : { KILL_SHIM_AT: String(at) }),
            });
        assert.equal((await rotate()).code, 0);
        const n = Number(readFileSync(count, "utf8"));
        assert.ok(n > 10, `a rotation has more than ${n} steps`);
        let killed = 0;
        const points = Array.from({ length: n }, (_, i) => i + 1).filter((at) => n <= 60 || at % Math.ceil(n / 60) === 0 || at < 15 || at > n - 15);
        for (const at of points) {
            const run = await rotate(at);
            killed += run.signal === "SIGKILL" ? 1 : 0;
            const { keys, unopened } = await place.keys();
            assert.equal(unopened, 0, `killed at ${at}`);
            assert.equal(keys.reduce((sum, { secrets }) => sum + secrets, 0), N);
            assert.equal(keys.filter(({ encrypts }) => encrypts).length, 1);
            assert.equal(keys.reduce((sum, { files }) => sum + files, 0), N_FILES, `killed at ${at}`);
            if (at % 10 === 1) {
                const { run: reloaded } = await askReload(gateway);
                assert.equal(reloaded.code, 0, `killed at ${at}: ${reloaded.stdout}`);
            }
            // Whoever comes in between writes under a key that stays.
            await place.set("s03", value(3));
            const end = await place.run(["key", "rotate"]);
            assert.equal(end.code, 0, `after ${at}: ${end.stderr}`);
            assert.equal(readFileSync(join(place.data, "vault.key"), "utf8").trim().split("\n").length, 1);
            assert.deepEqual((await place.keys()).keys.map(({ files }) => files), [N_FILES], `after ${at}`);
        }
        assert.ok(killed >= points.length - 2, `${killed} of ${points.length} were killed`);
        const { run } = await askReload(gateway);
        assert.equal(run.code, 0, run.stdout);
        await call(gateway);
        assert.equal(lastField(fixture, "authorization"), `Bearer ${value(7)}`);
        await gateway.stop();
        await call(await serve());
        assert.deepEqual(identity(), before, "nothing was made anew");
    });
});

describe("canary", () => {
    /** Everything below a folder. */
    function* files(folder: string): Generator<string> {
        for (const entry of readdirSync(folder, { withFileTypes: true })) {
            const path = join(folder, entry.name);
            if (entry.isDirectory()) yield* files(path);
            else if (entry.isFile()) yield path;
        }
    }

    test("a secret and the key of the environment appear in nothing that was ever written", async (t) => {
        const fixture = await startHttp({ name: "it" }, t);
        const values = {
            token: "canary/token+with=signs-7f3a9c51e0",
            header: "canary header with spaces 51e07f3a9c",
            wrong: "canary wrong \n line end 9c51e07f3a",
        };
        const place = new Place(
            serverTable(
                fixture.url,
                'auth.token = "{{ secret.token }}"\nheaders = [{ rule = "insert", name = "X-Api-Key", value = "{{ secret.header }}" }]',
            ),
        );
        place.key = `${Buffer.from("0123456789abcdef0123456789abcde!").toString("base64url")}=`;
        const said: { name: string; bytes: Buffer }[] = [];
        for (const [name, value] of Object.entries(values)) await place.set(name, value);
        const gateway = await start(t, place, {
            args: ["--log", "trace"],
            canary: false /* what is looked at is said here, and the file that is read has no values in it */,
        });
        await call(gateway);
        for (const name of ["environ", "cmdline"])
            said.push({ name: `/proc/PID/${name}`, bytes: readFileSync(`/proc/${gateway.pid}/${name}`) });
        await place.list();
        await place.keys();
        await place.set("token", values.token);
        await askReload(gateway);
        await call(gateway);
        // What is refused is not quoted: a value that no header may have, a server that does not answer.
        writeFileSync(configFile(gateway), serverTable(fixture.url, 'auth.token = "{{ secret.wrong }}"'));
        const { run: refused, answer } = await askReload(gateway);
        assert.equal(refused.code, 78, refused.stdout);
        assert.match(JSON.stringify(answer), /auth\.token/);
        writeFileSync(configFile(gateway), serverTable("http://127.0.0.1:1/{{ secret.token }}", 'auth.token = "{{ secret.token }}"'));
        assert.equal((await askReload(gateway)).run.code, 0);
        const session = await openSession(gateway);
        await session.call("it__echo", { text: "x" });
        await place.run(["status"]);
        await place.run(["check"]);
        await place.run(["key", "rotate"]);
        await gateway.stop();
        said.push({ name: "what commands said", bytes: Buffer.from(place.said) });
        said.push({ name: "the log", bytes: Buffer.from(gateway.tail(1e6)) });
        said.push({ name: "reload", bytes: Buffer.from(refused.stdout + refused.stderr) });
        for (const path of files(place.data)) said.push({ name: path, bytes: readFileSync(path) });
        assert.ok(said.some(({ name }) => name.includes("audit")), "the trail is there");
        assert.ok(said.some(({ name }) => name.endsWith("store.sqlite")), "the store is there");
        const credentials = [...Object.entries(values), ["key", place.key]].map(
            ([what, value]): Credential => ({ what: what!, value: value!, may: () => false }),
        );
        const search = new Search(credentials);
        for (const { name, bytes } of said) {
            const hits = [...search.in(bytes)].map(({ needle }) => `${needle.credential.what} ${needle.how}`);
            assert.deepEqual(hits, [], name);
        }
    });

    test("no core is dumped, and nobody of the same account reads the memory", { skip: unlessRoot }, async () => {
        const folder = temporaryFolder();
        chmodSync(folder, 0o755);
        const command = join(folder, "cardea");
        writeFileSync(command, readFileSync(binary()), { mode: 0o755 });
        // It waits for its input, as nobody.
        const child = spawn("setpriv", ["--reuid", "65534", "--regid", "65534", "--clear-groups", command, "secret", "set", "a", "--data-dir", join(folder, "x")], {
            stdio: ["pipe", "ignore", "ignore"],
        });
        try {
            const proc = `/proc/${child.pid}`;
            await until(
                () => /^Name:\s+cardea$/m.test(readFileSync(`${proc}/status`, "utf8")) && /Max core file size\s+0\s+0/.test(readFileSync(`${proc}/limits`, "utf8")),
                "it runs, and may dump no core",
            );
            assert.match(readFileSync(`${proc}/status`, "utf8"), /^Uid:\s+65534\s+65534/m);
            // The kernel gives these files to root when a process is not dumpable (proc(5)).
            await until(() => statSync(`${proc}/environ`).uid === 0, "its memory is closed");
        } finally {
            child.stdin.end();
            child.kill("SIGKILL");
            await within(new Promise((resolve) => child.once("close", resolve)), "it ends");
        }
    });
});
