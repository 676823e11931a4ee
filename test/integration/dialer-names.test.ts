/*
 * The dialer's rules and names, with a name server that lies. It has to be the machine's own, so this runs in a network of
 * its own (and sees /etc/resolv.conf of its own), which only root can make: the file starts itself once more in there. In
 * that network addresses of the internet, of private networks and of a cloud are all here, and a canary sits on each that
 * must not be reached.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import dgram from "node:dgram";
import { existsSync, writeFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { outcome, Canary, configOf, Liar, tell, type Way } from "./lib/strangers.ts";
import { startGateway } from "./lib/gateway.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { Authority } from "./lib/tls.ts";
import { Recording, within } from "./lib/wait.ts";

const PUBLIC = "93.184.215.14";
const PUBLIC6 = "2606:4700:0:0:0:0:0:1111";
const CLOSED4 = ["127.0.0.1", "127.0.0.5", "10.0.0.7", "169.254.169.254", "100.100.100.200"];
const CLOSED6 = ["::1", "fd00::7", "64:ff9b::7f00:1", "2002:7f00:1::1"];
const CLOSED = [...CLOSED4, ...CLOSED6];

/* --- the network --- */

const SCRIPT = `
ip link set lo up
for each in $ADDRESSES; do
    case $each in *:*) ip addr add "$each" dev lo nodad ;; *) ip addr add "$each" dev lo ;; esac
done
mount --bind "$RESOLV" /etc/resolv.conf
exec "$@"
`;

const isInside = process.env.CARDEA_TEST_NETWORK === "own";
const tools = ["/usr/bin/unshare", "/usr/sbin/ip", "/sbin/ip", "/bin/ip"].filter((path) => existsSync(path));
const missing =
    process.getuid?.() !== 0 ? "only root can make a network" : tools.length < 2 ? "unshare and ip are needed" : undefined;

function addresses(): string {
    const wanted = [PUBLIC, PUBLIC6, ...CLOSED.filter((each) => !each.startsWith("127.") && each !== "::1")];
    return wanted.map((each) => `${each}/${net.isIPv6(each) ? 128 : 32}`).join(" ");
}

/** This file again, in a network of its own. */
async function runInside(t: TestContext): Promise<void> {
    const folder = temporaryFolder();
    t.after(() => removeFolder(folder));
    const resolv = join(folder, "resolv.conf");
    writeFileSync(resolv, "nameserver 127.0.0.1\noptions ndots:1\n");
    const env: NodeJS.ProcessEnv = { ...process.env, CARDEA_TEST_NETWORK: "own", RESOLV: resolv, ADDRESSES: addresses() };
    delete env.NODE_TEST_CONTEXT;
    const self = [process.execPath, "--test-reporter=tap", fileURLToPath(import.meta.url)];
    const child = spawn("unshare", ["--net", "--mount", "sh", "-ec", SCRIPT, "sh", ...self], {
        env,
        stdio: ["ignore", "pipe", "pipe"],
    });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (said += text));
    t.after(() => void child.kill("SIGKILL"));
    const code = await new Promise((resolve) => child.once("close", resolve));
    assert.equal(code, 0, said);
    assert.match(said, /^# pass [1-9]/m, said);
    assert.match(said, /^# skipped 0$/m, said);
}

/* --- the name server --- */

type Answers = (string | { alias: string })[];

/** UDP, RFC 1035; answers are not to be kept (TTL 0). */
class Names {
    /** the n-th entry answers the n-th question of that type, the last one all that follow */
    zone = new Map<string, Answers[]>();
    /** "A name" */
    readonly questions = new Recording<string>("question to the name server");
    #turns = new Map<string, number>();
    #socket = dgram.createSocket("udp4");

    async up(): Promise<void> {
        this.#socket.on("message", (query, from) => this.#socket.send(this.#answer(query), from.port, from.address));
        await new Promise<void>((resolve) => this.#socket.bind(53, "127.0.0.1", resolve));
    }

    down(): void {
        this.#socket.close();
    }

    count(question: string): number {
        return this.questions.items.filter((each) => each === question).length;
    }

    #answer(query: Buffer): Buffer {
        const labels: string[] = [];
        let at = 12;
        for (; query[at] !== 0; at += query[at]! + 1) labels.push(query.toString("latin1", at + 1, at + 1 + query[at]!));
        const type = query.readUInt16BE(at + 1) === 28 ? "AAAA" : "A";
        const name = labels.join(".").toLowerCase();
        const question = `${type} ${name}`;
        this.questions.push(question);
        const turns = this.zone.get(question);
        const turn = this.#turns.get(question) ?? 0;
        this.#turns.set(question, turn + 1);
        const answers = turns?.[Math.min(turn, turns.length - 1)] ?? [];
        const isKnown = this.zone.has(`A ${name}`) || this.zone.has(`AAAA ${name}`);
        const head = Buffer.from(query.subarray(0, 12));
        head.writeUInt16BE(isKnown ? 0x8180 : 0x8183, 2);
        head.writeUInt16BE(answers.length, 6);
        head.fill(0, 8, 12);
        return Buffer.concat([head, query.subarray(12, at + 5), ...records(name, type, answers)]);
    }
}

const labelsOf = (name: string): Buffer =>
    Buffer.concat([...name.split(".").map((each) => Buffer.concat([Buffer.of(each.length), Buffer.from(each)])), Buffer.of(0)]);

/** Each alias is the owner of what comes behind it. */
function* records(name: string, type: "A" | "AAAA", answers: Answers): Generator<Buffer> {
    let owner = name;
    for (const answer of answers) {
        const isAlias = typeof answer !== "string";
        const data = isAlias ? labelsOf(answer.alias) : type === "A" ? bytes4(answer) : bytes6(answer);
        const rest = Buffer.alloc(10);
        rest.writeUInt16BE(isAlias ? 5 : type === "A" ? 1 : 28, 0);
        rest.writeUInt16BE(1, 2);
        rest.writeUInt16BE(data.length, 8);
        yield Buffer.concat([labelsOf(owner), rest, data]);
        if (isAlias) owner = answer.alias;
    }
}

const bytes4 = (address: string): Buffer => Buffer.from(address.split(".").map(Number));

function bytes6(address: string): Buffer {
    const [left, right] = address.split("::").map((half) => half.split(":").filter((each) => each !== ""));
    const groups = right === undefined ? left! : [...left!, ...Array<string>(8 - left!.length - right.length).fill("0"), ...right];
    return Buffer.concat(groups.map((each) => Buffer.from(each.padStart(4, "0"), "hex")));
}

/* --- outside --- */

if (isInside) describe("names that lie", inside);
else test("names that lie, in a network of its own", { skip: missing }, runInside);

/* --- inside --- */

function inside(): void {
    const names = new Names();
    const authority = new Authority();
    const liar = new Liar();
    const server = new Canary(authority.sign(`DNS:*.names.test,IP:${PUBLIC}`));
    const server6 = new Canary(authority.sign("DNS:*.names.test"));
    const canaries = new Map<string, Canary>(CLOSED.map((address) => [address, new Canary()]));
    const env = { ...process.env, SSL_CERT_FILE: authority.file };
    const fill = (text: string): string => server.fill(text);

    before(async () => {
        await names.up();
        await liar.up();
        await server.up(PUBLIC);
        await server6.up(PUBLIC6, server.port);
        for (const [address, canary] of canaries) await canary.up(address, server.port);
    });
    after(async () => {
        for (const canary of canaries.values()) await canary.down();
        await server6.down();
        await server.down();
        await liar.down();
        names.down();
    });

    async function unseen(): Promise<void> {
        for (const [address, canary] of canaries) await canary.isUnseen(address);
    }

    type Row = { name: string; a?: Answers[]; aaaa?: Answers[]; says?: RegExp };

    async function check(t: TestContext, way: Way, rows: Row[], port = server.port): Promise<void> {
        for (const { name, a, aaaa } of rows) {
            if (a !== undefined) names.zone.set(`A ${name}`, a);
            if (aaaa !== undefined) names.zone.set(`AAAA ${name}`, aaaa);
        }
        const told = await tell(t, liar, way, rows.map(({ name }) => `https://${name}:${port}/${name}`), { env });
        for (const [n, { name, says }] of rows.entries()) {
            if (says === undefined) assert.equal(told[n]!.message, "keys fetched", `${name}: ${told[n]!.reason}`);
            else assert.match(String(told[n]!.reason), says, name);
        }
    }

    const closed = (kind: string): RegExp => new RegExp(` is ${kind}, which nobody configured: security\\.allow_networks`);

    for (const way of ["jwks_uri", "redirect"] as const) {
        test(`names of closed addresses, as ${way}`, async (t) => {
            await check(t, way, [
                { name: "public.names.test", a: [[PUBLIC]] },
                { name: "public6.names.test", aaaa: [[PUBLIC6]] },
                { name: "loop.names.test", a: [["127.0.0.1"]], says: closed("a loopback address") },
                { name: "loop6.names.test", aaaa: [["::1"]], says: closed("a loopback address") },
                { name: "both.names.test", a: [["127.0.0.5"]], aaaa: [["::1"]], says: closed("a loopback address") },
                { name: "mapped.names.test", aaaa: [["0:0:0:0:0:ffff:7f00:1"]], says: closed("a loopback address") },
                { name: "zero.names.test", a: [["0.0.0.0"]], says: closed("an unspecified address") },
                { name: "zero6.names.test", aaaa: [["::"]], says: closed("an unspecified address") },
                { name: "private.names.test", a: [["10.0.0.7"]], says: closed("a private address") },
                { name: "ula.names.test", aaaa: [["fd00::7"]], says: closed("a private address") },
                { name: "metadata.names.test", a: [["169.254.169.254"]], says: closed("a link-local address") },
                { name: "alibaba.names.test", a: [["100.100.100.200"]], says: closed("a carrier-grade NAT address") },
                { name: "nat64.names.test", aaaa: [["64:ff9b::7f00:1"]], says: closed("a NAT64 address") },
                { name: "sixtofour.names.test", aaaa: [["2002:7f00:1::1"]], says: closed("a 6to4 address") },
                { name: "alias.names.test", a: [[{ alias: "hop.names.test" }, "127.0.0.1"]], says: closed("a loopback address") },
                {
                    name: "chain.names.test",
                    a: [[{ alias: "public.names.test" }, { alias: "x.example" }, "10.0.0.7"]],
                    says: closed("a private address"),
                },
                { name: "goodalias.names.test", a: [[{ alias: "hop.names.test" }, PUBLIC]] },
                { name: "none.names.test", says: /no such host/ },
            ]);
            await unseen();
        });

        test(`names of two minds, as ${way}: what is public is reached, the rest is not`, async (t) => {
            await check(t, way, [
                { name: "mix-1.names.test", a: [["127.0.0.1", PUBLIC]] },
                { name: "mix-2.names.test", a: [[PUBLIC, "127.0.0.1", "10.0.0.7"]] },
                { name: "mix-3.names.test", a: [[PUBLIC]], aaaa: [["::1", "fd00::7"]] },
                { name: "mix-4.names.test", a: [["127.0.0.1"]], aaaa: [[PUBLIC6]] },
                { name: "mix-5.names.test", a: [["169.254.169.254", PUBLIC]], aaaa: [["0:0:0:0:0:ffff:a00:7"]] },
            ]);
            await unseen();
        });
    }

    test("of one that is public and does not answer, that is what the log says", async (t) => {
        const silent = new Canary();
        await silent.up("127.0.0.1"); // at a port at which nobody else listens
        t.after(() => silent.down());
        const row = { name: "deaf.names.test", a: [["127.0.0.1", PUBLIC]], says: new RegExp(`${PUBLIC}:\\d+: connection refused`) };
        await check(t, "jwks_uri", [row], silent.port);
        await silent.isUnseen();
    });

    test("an answer that changes between two questions: one question is asked, and its answer dialled", async (t) => {
        const turns = (): Answers[] => [[PUBLIC], ["127.0.0.1"], [PUBLIC], ["127.0.0.1"]];
        const rows = Array.from({ length: 10 }, (_each, n): Row => ({ name: `turn-${n}.names.test`, a: turns() }));
        await check(t, "jwks_uri", rows);
        for (const { name } of rows) assert.equal(names.count(`A ${name}`), 1, "checked and dialled by one look-up");
        await unseen();
    });

    test("an answer that changes between two hops of one fetch", async (t) => {
        // The public server sends it to the same name again, which is another address by then.
        const hop = new Liar(PUBLIC, authority.sign("DNS:*.names.test"));
        await hop.up();
        t.after(() => hop.down());
        names.zone.set("A hop-again.names.test", [[PUBLIC], ["127.0.0.5"]]);
        hop.texts = [fill("https://hop-again.names.test:PORT/keys")];
        const [told] = await tell(t, liar, "jwks_uri", [`https://hop-again.names.test:${hop.port}/keys/0`], { env });
        assert.match(String(told!.reason), closed("a loopback address"));
        assert.equal(names.count("A hop-again.names.test"), 2);
        await unseen();
    });

    test("an answer that changes between two fetches, and back", async (t) => {
        names.zone.set("A rebind.names.test", [[PUBLIC], ["127.0.0.1"], [PUBLIC]]);
        liar.texts = [fill("https://rebind.names.test:PORT/rebind")];
        const issuer = { issuer: `${liar.url}/i/0`, poll_interval: "1s" };
        const gateway = await startGateway({ config: configOf([issuer]), env }, t);
        const first = await outcome(gateway, issuer.issuer);
        assert.equal(first.message, "keys fetched");
        const isRefused = (entry: { message?: string; reason?: unknown }): boolean =>
            entry.message === "keys cannot be fetched" && closed("a loopback address").test(String(entry.reason));
        await gateway.waitForLog(isRefused);
        const from = gateway.log.items.findIndex(isRefused);
        await gateway.waitForLog((entry) => entry.message === "keys confirmed", from);
        await gateway.stop();
        assert.ok(names.count("A rebind.names.test") >= 3);
        await unseen();
    });

    test("security.allow_networks opens names that point there, and the canaries do sing", async (t) => {
        names.zone.set("A opened.names.test", [["10.0.0.7"]]);
        const options = { env, security: { allow_networks: ["10.0.0.0/8"] } };
        const [told] = await tell(t, liar, "jwks_uri", [fill("https://opened.names.test:PORT/x")], options);
        assert.match(String(told!.reason), /during the TLS handshake/);
        const canary = canaries.get("10.0.0.7")!;
        await within(canary.seen.waitFor(() => true), "it was reached");
        canary.seen.items.splice(0);
        await unseen();
    });

    test("a name of which the configuration names the authority is dialled wherever it points", async (t) => {
        names.zone.set("A named.names.test", [["127.0.0.1"]]);
        const more = [{ url: fill("https://named.names.test:PORT/named"), expected_issuer: "https://named.names.test" }];
        const other = fill("https://public.names.test:PORT/y");
        await tell(t, liar, "jwks_uri", [other], { env, more });
        const canary = canaries.get("127.0.0.1")!;
        await within(canary.seen.waitFor(() => true), "it was reached");
        canary.seen.items.splice(0);
        await unseen();
    });
}
