/*
 * The certificate of the gateway: its own authority and what clients do to trust it, renewals while connections are
 * open, the operator's files as they are replaced on the disk and by a reload, what is wrong with them, `cardea cert`.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { chmodSync, existsSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import https from "node:https";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import tls from "node:tls";
import { fileURLToPath } from "node:url";

import { cardea, type Run } from "./lib/cli.ts";
import { startControl, type Control } from "./lib/control.ts";
import { launchGateway, startGateway, writeConfig, type Config, type Gateway, type Value } from "./lib/gateway.ts";
import { openSession, served, text } from "./lib/http.ts";
import { askReload, configFile, reload } from "./lib/reload.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { Authority, type Certificate } from "./lib/tls.ts";
import { within } from "./lib/wait.ts";

type Table = { [key: string]: Value };

const HERE = fileURLToPath(new URL(".", import.meta.url));
const TAKEN_UP = "another certificate is served to connections that come from now on";
const REFUSED = "the changed certificate cannot be used; the old one is served on";

let control: Control;
let authority: Authority;
let folder: string;
let n = 0;

before(async () => {
    control = await startControl();
    authority = new Authority();
    folder = temporaryFolder();
});
after(async () => {
    await control.close();
    removeFolder(folder);
});

const AUTO: Table = { auto: true, names: ["gw.test", "*.wild.test", "192.168.1.213"] };

/** With a fixture named `it`. */
const config = (table: Table, name = `cert${++n}`): Config => ({
    server: { tls: table },
    servers: { it: { cmd: control.command({ name }) } },
});

const caOf = (gateway: Gateway): string => readFileSync(join(gateway.dataDir, "tls", "ca.pem"), "utf8");

async function started(t: TestContext, table: Table, dataDir?: string): Promise<Gateway> {
    const gateway = await startGateway({ config: config(table), dataDir }, t);
    gateway.tls = { ca: table.auto === true ? caOf(gateway) : readFileSync(authority.file, "utf8") };
    return gateway;
}

const cert = (gateway: Gateway, ...args: string[]): Promise<Run> =>
    cardea(["cert", ...args, "-c", configFile(gateway), "--data-dir", gateway.dataDir]);

interface Shown {
    certificates: {
        subject: string;
        issuer: string;
        names: string[];
        sha256: string;
        validity: string;
        expires_in_days: number;
        is_authority: boolean;
    }[];
}

async function shown(gateway: Gateway): Promise<Shown["certificates"]> {
    const run = await cert(gateway, "show", "--json");
    assert.equal(run.code, 0, run.stderr);
    return (JSON.parse(run.stdout) as Shown).certificates;
}

/** What a new connection is shown; throws what a client would. */
function connect(gateway: Gateway, servername: string | undefined, ca: string | undefined): Promise<tls.PeerCertificate> {
    return within(
        new Promise((resolve, reject) => {
            const socket = tls.connect({ host: "127.0.0.1", port: gateway.port, servername, ca }, () => {
                resolve(socket.getPeerCertificate());
                socket.destroy();
            });
            socket.once("error", reject);
        }),
        "a handshake",
    );
}

const served256 = async (gateway: Gateway): Promise<string> =>
    (await connect(gateway, "localhost", String(gateway.tls!.ca))).fingerprint256;

const errorCode = (code: string) => (error: NodeJS.ErrnoException) => error.code === code;

/** A client with one connection that stays open. */
class OneConnection {
    readonly #agent: https.Agent;
    readonly #gateway: Gateway;
    constructor(gateway: Gateway, t: TestContext) {
        this.#gateway = gateway;
        this.#agent = new https.Agent({ keepAlive: true, maxSockets: 1, ca: gateway.tls!.ca as string });
        t.after(() => this.#agent.destroy());
    }
    /** The port of our end of the connection on which the answer came. */
    get(): Promise<number> {
        return within(
            new Promise((resolve, reject) => {
                const options = { host: "127.0.0.1", port: this.#gateway.port, path: "/health", agent: this.#agent };
                https
                    .get(options, (answer) => {
                        const port = answer.socket.localPort!;
                        answer.resume().once("end", () => resolve(port));
                    })
                    .once("error", reject);
            }),
            "an answer",
        );
    }
}

/** Runs a call that is held by its server; release() lets it end. */
async function heldCall(gateway: Gateway): Promise<() => Promise<void>> {
    await served(gateway, "it__hold");
    const session = await openSession(gateway);
    const running = session.call("it__hold");
    const from = control.starts.items.at(-1)!;
    await from.events.waitFor((event) => event.event === "held");
    return async () => {
        from.do({ do: "release" });
        assert.equal(text(await running), "released");
    };
}

const takenUp = (gateway: Gateway, from: number) => gateway.waitForLog((entry) => entry.message === TAKEN_UP, from);

/** Where the operator keeps certificate and key; put() replaces them as ACME clients do. */
class Files {
    readonly certificate: string;
    readonly key: string;
    constructor() {
        const name = join(folder, `files-${++n}`);
        this.certificate = `${name}.pem`;
        this.key = `${name}.key`;
    }
    get table(): Table {
        return { certificate: this.certificate, key: this.key };
    }
    #write(path: string, content: string): void {
        writeFileSync(`${path}.new`, content, { mode: 0o600 });
        renameSync(`${path}.new`, path);
    }
    put(certificate: Partial<Certificate>): void {
        if (certificate.cert !== undefined) this.#write(this.certificate, certificate.cert);
        if (certificate.key !== undefined) this.#write(this.key, certificate.key);
    }
}

const sign = () => authority.sign("DNS:localhost,IP:127.0.0.1");
const sha256 = (certificate: Certificate) => new X509Certificate(certificate.cert).fingerprint256;

describe("the gateway's own authority", () => {
    test("clients that trust it connect by name and by address, others do not", async (t) => {
        const gateway = await started(t, AUTO);
        const run = await cert(gateway, "ca");
        assert.equal(run.code, 0, run.stderr);
        assert.equal(run.stdout, caOf(gateway));
        assert.equal(run.stderr, "", "the advice is for terminals");
        for (const name of ["gw.test", "localhost", "any.wild.test"]) {
            const peer = await connect(gateway, name, run.stdout);
            assert.match(peer.subjectaltname!, /DNS:gw\.test, DNS:\*\.wild\.test, IP Address:192\.168\.1\.213/);
        }
        await connect(gateway, undefined, run.stdout); // by 127.0.0.1
        await assert.rejects(connect(gateway, "evil.test", run.stdout), errorCode("ERR_TLS_CERT_ALTNAME_INVALID"));
        await assert.rejects(connect(gateway, "a.b.wild.test", run.stdout), errorCode("ERR_TLS_CERT_ALTNAME_INVALID"));
        await assert.rejects(connect(gateway, "localhost", undefined), errorCode("UNABLE_TO_VERIFY_LEAF_SIGNATURE"));
        const other = readFileSync(authority.file, "utf8");
        await assert.rejects(connect(gateway, "localhost", other), errorCode("UNABLE_TO_VERIFY_LEAF_SIGNATURE"));
        for (const name of ["ca.key", "ca.pem", "server.key", "server.pem"]) {
            assert.equal(statSync(join(gateway.dataDir, "tls", name)).mode & 0o777, 0o600, name);
        }
    });

    test("NODE_EXTRA_CA_CERTS is all that a client of Node needs", async (t) => {
        const gateway = await started(t, { auto: true });
        await served(gateway, "it__echo");
        const script = `
            import { Client } from "@modelcontextprotocol/sdk/client/index.js";
            import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
            const client = new Client({ name: "child", version: "1" });
            const headers = { Authorization: "Bearer " + process.env.TOKEN };
            const url = new URL("https://localhost:" + process.env.PORT + "/mcp");
            await client.connect(new StreamableHTTPClientTransport(url, { requestInit: { headers } }));
            const result = await client.callTool({ name: "it__echo", arguments: { text: "over TLS" } });
            console.log(result.content[0].text);
            await client.close();`;
        const run = (extra: Record<string, string>): Promise<string> =>
            within(
                new Promise((resolve, reject) => {
                    const env = { ...process.env, PORT: String(gateway.port), TOKEN: gateway.token, ...extra };
                    const args = ["--input-type=module", "-e", script];
                    execFile(process.execPath, args, { cwd: HERE, env }, (error, stdout, stderr) => {
                        if (error !== null) reject(new Error(stderr));
                        else resolve(stdout.trim());
                    });
                }),
                "the client ends",
            );
        assert.equal(await run({ NODE_EXTRA_CA_CERTS: join(gateway.dataDir, "tls", "ca.pem") }), "over TLS");
        await assert.rejects(run({}), /UNABLE_TO_VERIFY_LEAF_SIGNATURE|fetch failed/);
    });

    test("curl accepts it", async (t) => {
        const curl = ["/usr/bin/curl", "/usr/local/bin/curl"].find(existsSync);
        if (curl === undefined) return t.skip("there is no curl here");
        const gateway = await started(t, AUTO);
        const get = (...more: string[]): Promise<{ code: number; stdout: string }> =>
            new Promise((resolve) => {
                const url = `https://gw.test:${gateway.port}/health`;
                const args = ["-sS", "--noproxy", "*", "--resolve", `gw.test:${gateway.port}:127.0.0.1`, ...more, url];
                execFile(curl, args, (error, stdout) => resolve({ code: error === null ? 0 : Number(error.code), stdout }));
            });
        assert.deepEqual(await get("--cacert", join(gateway.dataDir, "tls", "ca.pem")), {
            code: 0,
            stdout: '{"status":"healthy"}',
        });
        assert.equal((await get()).code, 60, "CURLE_PEER_FAILED_VERIFICATION");
        return undefined;
    });

    test("show tells what is served, as text and as JSON", async (t) => {
        const gateway = await started(t, AUTO);
        const [server, above] = await shown(gateway);
        assert.equal(server!.subject, "CN=gw.test");
        assert.equal(server!.issuer, above!.subject);
        assert.deepEqual([server!.is_authority, above!.is_authority], [false, true]);
        assert.deepEqual([server!.validity, server!.expires_in_days], ["valid", 89]);
        for (const name of ["gw.test", "*.wild.test", "192.168.1.213", "localhost", "127.0.0.1", "::1"]) {
            assert.ok(server!.names.includes(name), name);
        }
        assert.equal(await served256(gateway), server!.sha256);
        const { stdout } = await cert(gateway, "show");
        assert.match(stdout, /^subject +CN=gw\.test$/m);
        assert.match(stdout, /\(expires in 89 days\)/);
        assert.ok(stdout.includes(`SHA-256 ${server!.sha256}`) && stdout.includes(`SHA-256 ${above!.sha256}`));
        assert.doesNotMatch(stdout, /PRIVATE/);
    });

    test("a renewal takes over while connections are open and calls run", async (t) => {
        const gateway = await started(t, AUTO);
        const old = await served256(gateway);
        const open = new OneConnection(gateway, t);
        const port = await open.get();
        const release = await heldCall(gateway);
        const from = gateway.log.items.length;
        const run = await cert(gateway, "renew");
        assert.equal(run.code, 0, run.stderr);
        await takenUp(gateway, from);
        const [server, above] = await shown(gateway);
        assert.notEqual(server!.sha256, old);
        assert.equal(await served256(gateway), server!.sha256, "the authority is as before");
        assert.equal(above!.sha256, new X509Certificate(caOf(gateway)).fingerprint256);
        assert.equal(await open.get(), port, "the same connection");
        await release();
    });

    test("after kill -9 it is the same certificate", async (t) => {
        const dataDir = join(temporaryFolder(), "data");
        const first = await started(t, AUTO, dataDir);
        const [before, ca] = [await served256(first), caOf(first)];
        await first.kill();
        const second = await started(t, AUTO, dataDir);
        assert.equal(await served256(second), before);
        assert.equal(caOf(second), ca);
    });

    test("a damaged key is made anew, a lost authority is told loudly and not before it has to be", async (t) => {
        const dataDir = join(temporaryFolder(), "data");
        const first = await started(t, AUTO, dataDir);
        const [before, ca] = [await served256(first), caOf(first)];
        await first.stop();
        writeFileSync(join(dataDir, "tls", "server.key"), "-----BEGIN PRIVATE KEY-----\n");
        const second = await started(t, AUTO, dataDir);
        assert.notEqual(await served256(second), before);
        assert.equal(caOf(second), ca);
        const entry = await second.waitForLog((item) => item.message === "a new certificate was made");
        assert.equal(entry.because, "its files were damaged or incomplete");
        await second.stop();
        // The key of the authority goes: the certificate is served on, with a warning.
        rmSync(join(dataDir, "tls", "ca.key"));
        const third = await started(t, AUTO, dataDir);
        assert.equal(caOf(third), ca);
        await third.waitForLog((item) => /key of the authority .* is missing or damaged/.test(String(item.reason)));
        // A renewal needs it: now there is another authority, and everybody is told.
        const run = await cert(third, "renew");
        assert.equal(run.code, 0);
        assert.match(run.stderr, /CLIENTS THAT TRUST THE OLD ONE REFUSE THIS GATEWAY/);
        assert.notEqual(caOf(third), ca);
        assert.equal(readFileSync(join(dataDir, "tls", "ca.pem.old"), "utf8"), ca);
    });

    test("a name that a reload brings is in the certificate soon, without a connection lost", async (t) => {
        const gateway = await started(t, { auto: true });
        const open = new OneConnection(gateway, t);
        const port = await open.get();
        const release = await heldCall(gateway);
        await assert.rejects(
            connect(gateway, "late.test", String(gateway.tls!.ca)),
            errorCode("ERR_TLS_CERT_ALTNAME_INVALID"),
        );
        const from = gateway.log.items.length;
        const text = readFileSync(configFile(gateway), "utf8");
        const report = await reload(gateway, text.replace('"auto" = true', '"auto" = true, "names" = ["late.test"]'));
        assert.deepEqual(report.applied, ["server.tls.names"]);
        await takenUp(gateway, from);
        await connect(gateway, "late.test", String(gateway.tls!.ca));
        assert.equal(await open.get(), port);
        await release();
    });
});

describe("the operator's files", () => {
    test("replaced on the disk they are taken up, and a running call ends well", async (t) => {
        const files = new Files();
        const [one, two] = [sign(), sign()];
        files.put(one);
        const gateway = await started(t, files.table);
        assert.equal(await served256(gateway), sha256(one));
        const open = new OneConnection(gateway, t);
        const port = await open.get();
        const release = await heldCall(gateway);
        const from = gateway.log.items.length;
        files.put(two);
        await takenUp(gateway, from);
        assert.equal(await served256(gateway), sha256(two));
        assert.equal(await open.get(), port, "the same connection");
        await release();
        assert.deepEqual((await shown(gateway)).map((each) => each.sha256), [sha256(two)]);
        for (const command of ["renew", "ca"]) {
            const run = await cert(gateway, command);
            assert.equal(run.code, 1);
            assert.ok(run.stderr.includes(files.certificate), run.stderr);
        }
        assert.equal(existsSync(join(gateway.dataDir, "tls")), false, "no authority of its own is made");
    });

    test("behind links that are pointed elsewhere, as mounted secrets are", async (t) => {
        const [first, second, at] = [temporaryFolder(), temporaryFolder(), temporaryFolder()];
        const [one, two] = [sign(), sign()];
        for (const [place, certificate] of [
            [first, one],
            [second, two],
        ] as const) {
            writeFileSync(join(place, "tls.crt"), certificate.cert);
            writeFileSync(join(place, "tls.key"), certificate.key, { mode: 0o600 });
        }
        symlinkSync(first, join(at, "..data"));
        symlinkSync("..data/tls.crt", join(at, "tls.crt"));
        symlinkSync("..data/tls.key", join(at, "tls.key"));
        const gateway = await started(t, { certificate: join(at, "tls.crt"), key: join(at, "tls.key") });
        assert.equal(await served256(gateway), sha256(one));
        const from = gateway.log.items.length;
        symlinkSync(second, join(at, "..tmp"));
        renameSync(join(at, "..tmp"), join(at, "..data"));
        await takenUp(gateway, from);
        assert.equal(await served256(gateway), sha256(two));
    });

    test("a wrong pair keeps the old one, until it is right", async (t) => {
        const files = new Files();
        const [one, two] = [sign(), sign()];
        files.put(one);
        const gateway = await started(t, files.table);
        const from = gateway.log.items.length;
        files.put({ cert: two.cert });
        const entry = await gateway.waitForLog((item) => item.message === REFUSED, from);
        assert.match(String(entry.reason), /does not belong to the certificate/);
        assert.equal(await served256(gateway), sha256(one));
        files.put({ key: two.key });
        await takenUp(gateway, from);
        assert.equal(await served256(gateway), sha256(two));
        assert.equal(gateway.log.items.filter((item) => item.message === REFUSED).length, 1, "told once");
    });

    test("authorities of clients come and go without a restart", async (t) => {
        const files = new Files();
        files.put(sign());
        const [mine, other] = [new Authority(), new Authority()];
        const clients = join(folder, `clients-${++n}.pem`);
        const trust = (from: Authority) => {
            writeFileSync(`${clients}.new`, readFileSync(from.file));
            renameSync(`${clients}.new`, clients);
        };
        trust(mine);
        const gateway = await started(t, { ...files.table, client_ca: clients, require_client_certificate: true });
        const get = (from: Authority): Promise<number> => {
            const { cert, key } = from.sign("DNS:client.test");
            const ca = String(gateway.tls!.ca);
            return within(
                new Promise((resolve, reject) => {
                    const options = { host: "127.0.0.1", port: gateway.port, path: "/health", agent: false, ca, cert, key };
                    https.get(options, (answer) => resolve(answer.resume().statusCode!)).once("error", reject);
                }),
                "an answer or an error",
            );
        };
        assert.equal(await get(mine), 200);
        await assert.rejects(get(other));
        const from = gateway.log.items.length;
        trust(other);
        await takenUp(gateway, from);
        assert.equal(await get(other), 200);
        await assert.rejects(get(mine));
    });

    test("SIGHUP looks at once, a reload goes from one kind to the other and refuses what is wrong", async (t) => {
        const files = new Files();
        const one = sign();
        files.put(one);
        const gateway = await started(t, files.table);
        const was = readFileSync(configFile(gateway), "utf8");
        const wrong = was.replace(files.key, `${files.key}.missing`);
        writeConfig(gateway.folder, wrong);
        const { run, answer } = await askReload(gateway);
        assert.equal(run.code, 78);
        assert.match(answer.error!, /cannot read server\.tls\.key .*missing: No such file/);
        assert.equal(await served256(gateway), sha256(one));
        writeConfig(gateway.folder, was.replace(/^tls = .*$|^"?tls"? = .*$/m, 'tls = { auto = true }'));
        const second = await askReload(gateway);
        assert.equal(second.run.code, 0, second.run.stdout);
        await connect(gateway, "localhost", caOf(gateway));
        writeConfig(gateway.folder, was);
        const from = gateway.log.items.length;
        gateway.process.kill("SIGHUP");
        await gateway.waitForLog((item) => item.message === "the configuration is reloaded", from);
        assert.equal(await served256(gateway), sha256(one));
    });

    const wrong: { name: string; says: RegExp; prepare: (files: Files) => Table }[] = [
        {
            name: "is missing",
            says: /cannot read server\.tls\.certificate .*: No such file or directory/,
            prepare: (files) => files.table,
        },
        {
            name: "has another key",
            says: /the key .* does not belong to the certificate/,
            prepare: (files) => {
                files.put({ cert: sign().cert, key: sign().key });
                return files.table;
            },
        },
        {
            name: "and the key are exchanged",
            says: /holds a key and no certificate/,
            prepare: (files) => {
                const { cert, key } = sign();
                files.put({ cert: key, key: cert });
                return files.table;
            },
        },
        {
            name: "is a folder",
            says: /Is a directory/,
            prepare: (files) => ({ ...files.table, certificate: folder }),
        },
        {
            name: "comes with authorities of clients that are none",
            says: /holds no certificate in PEM/,
            prepare: (files) => {
                files.put(sign());
                writeFileSync(`${files.key}.txt`, "no certificate");
                return { ...files.table, client_ca: `${files.key}.txt` };
            },
        },
    ];
    for (const row of wrong) {
        test(`a certificate that ${row.name}: the gateway says so and does not start`, async () => {
            const gateway = launchGateway({ config: config(row.prepare(new Files())) });
            const { code } = await within(gateway.exited, "the gateway ends");
            assert.equal(code, 1, gateway.tail());
            assert.match(gateway.tail(), row.says);
            gateway.abandon();
        });
    }

    test("one that has expired is served all the same, and an open key is told with its cure", async (t) => {
        const files = new Files();
        files.put(authority.sign("DNS:localhost", true));
        chmodSync(files.key, 0o644);
        const gateway = await started(t, files.table);
        await gateway.waitForLog((item) => /has expired/.test(String(item.message)));
        const entry = await gateway.waitForLog((item) => item.cure !== undefined);
        assert.equal(entry.cure, `chmod 600 '${files.key}'`);
        await assert.rejects(connect(gateway, "localhost", String(gateway.tls!.ca)), errorCode("CERT_HAS_EXPIRED"));
        assert.match((await cert(gateway, "show")).stdout, /EXPIRED \d+ days ago/);
    });
});

test("on loopback without a table there is no TLS, and cert says what switches it on", async (t) => {
    const gateway = await startGateway({ config: { servers: { it: { cmd: control.command({ name: `cert${++n}` }) } } } }, t);
    for (const command of ["show", "renew", "ca"]) {
        const run = await cert(gateway, command);
        assert.equal(run.code, 1);
        assert.match(run.stderr, /no TLS on 127\.0\.0\.1:8000; \[server\.tls\] with auto = true/);
        assert.equal(run.stdout, "");
    }
    assert.equal(existsSync(join(gateway.dataDir, "tls")), false);
    assert.equal((await openSession(gateway)).initialized.error, undefined);
});

test("cert wants one of its three words", async () => {
    for (const args of [["cert"], ["cert", "nonsense"], ["cert", "show", "more"]]) {
        const run = await cardea(args);
        assert.equal(run.code, 2, run.stderr);
    }
});
