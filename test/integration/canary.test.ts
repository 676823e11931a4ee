/*
 * Does the canary sing? Every kind of credential in every kind of place where it does not belong, in records made by hand,
 * and by real gateways that are made to leak; and what is right is not complained of.
 */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";

import { startHttp } from "./fixtures/http-server.ts";
import { checkCommand, examine, report, type Leak } from "./lib/canary.ts";
import type { Surroundings } from "./lib/canary-credentials.ts";
import { readRecord, writeRecord } from "./lib/canary-record.ts";
import { startControl } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { openSession, send, served } from "./lib/http.ts";
import { Authority } from "./lib/tls.ts";
import { temporaryFolder } from "./lib/temp.ts";
import { parseToml } from "./lib/toml.ts";
import { until } from "./lib/wait.ts";

type Peers = Parameters<typeof writeRecord>[0];

const folder = temporaryFolder();
let n = 0;

function look(peers: Peers, surroundings: Surroundings = {}): Leak[] {
    const file = join(folder, `record-${n++}`);
    writeFileSync(file, writeRecord(peers));
    return examine(readRecord(file), surroundings).leaks;
}

const TOKEN = "a-token-of-a-client/with+signs";
const SECRET = "the-secret-of-one-server";
const jwt = (sub: string) =>
    [{ alg: "ES256" }, { sub, iss: "https://id.example" }]
        .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
        .concat(Buffer.from(`signature of ${sub}, which is long enough`).toString("base64url"))
        .join(".");

const CONFIG = `
[server.oauth]
issuer = "http://127.0.0.1:9000"
[mcp.servers.one]
url = "http://127.0.0.1:9001/mcp"
auth.token = "${SECRET}"
[mcp.servers.two]
url = "http://127.0.0.1:9002/mcp"
[[mcp.servers.two.headers]]
rule = "forward"
name = "X-Api-Key"
[mcp.servers.forwarded]
url = "http://127.0.0.1:9003/mcp"
auth = { type = "forward" }
[mcp.servers.exchanged]
url = "http://127.0.0.1:9004/mcp"
auth = { type = "exchange", client_id = "gateway", client_secret = "of-the-gateway-there", token_endpoint = "http://127.0.0.1:9000/token" }
[mcp.servers.found]
url = "http://127.0.0.1:9005/mcp"
auth = { type = "client_credentials", client_id = "gateway", client_secret = "another-client-secret" }
[mcp.servers.proxied]
url = "http://up.example/mcp"
proxy = "http://user:of-the-proxy-alone@127.0.0.1:3128"
[mcp.servers.child]
cmd = ["child"]
env = { API_TOKEN = "{{ env.FOR_THE_CHILD }}" }
`;
const ENV = { MCP_API_TOKEN: "the-token-of-the-environment", FOR_THE_CHILD: "for-one-child-and-nobody-else" };

const config: Peers[number] = { text: "file /x/cardea.toml", heard: CONFIG };
const client = (fields: string, said = ""): Peers[number] => ({
    text: "accept tcp 127.0.0.1:50000",
    heard: `POST /mcp HTTP/1.1\r\nHost: gw\r\n${fields}Content-Length: 2\r\n\r\n{}`,
    said,
});
const to = (port: number, said: string, heard = ""): Peers[number] => ({ text: `connect tcp 127.0.0.1:${port}`, said, heard });
const request = (fields: string, body = ""): string =>
    `POST /mcp HTTP/1.1\r\nHost: up\r\n${fields}Content-Length: ${body.length}\r\n\r\n${body}`;
const answer = (body: string, fields = ""): string =>
    `HTTP/1.1 200 OK\r\n${fields}Content-Length: ${body.length}\r\n\r\n${body}`;
const base64 = (text: string) => Buffer.from(text).toString("base64");
const pem = {
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
} as const;
const keys = {
    rsa: generateKeyPairSync("rsa", { modulusLength: 2048, ...pem }),
    ec: generateKeyPairSync("ec", { namedCurve: "P-256", ...pem }),
    ed25519: generateKeyPairSync("ed25519", pem),
};
const given = jwt("given");
const got = (resource: string) =>
    to(9000, request("", `grant_type=x&resource=${encodeURIComponent(resource)}`), answer(`{"access_token":"${given}"}`));
const random = "ab".repeat(32);
const hello = Buffer.concat([Buffer.from([22, 3, 1, 0, 80, 1, 0, 0, 76, 3, 3]), Buffer.from(random, "hex")]);

describe("in a record", () => {
    const bearer = client(`Authorization: Bearer ${TOKEN}\r\n`);
    const asJwt = client(`Authorization: Bearer ${jwt("alice")}\r\n`);
    const key = client("X-Api-Key: key-of-the-client-itself\r\n");

    const found: { [name: string]: { peers: Peers; credential: RegExp; place: RegExp; around?: Surroundings } } = {
        "a client's token at a server": {
            peers: [bearer, to(9001, request(`Authorization: Bearer ${TOKEN}\r\n`))],
            credential: /^authorization of a client \(a-to\.\.\., 30 characters\)$/,
            place: /^to 127\.0\.0\.1:9001$/,
        },
        "in the body, percent-encoded": {
            peers: [bearer, to(9001, request("", `a=${encodeURIComponent(TOKEN)}`))],
            credential: /^authorization of a client/,
            place: /9001/,
        },
        "in base64, after one byte": { peers: [bearer, to(9001, request("", base64(`1${TOKEN}`)))], credential: /^auth/, place: /9001/ },
        "in base64, after two": { peers: [bearer, to(9001, request("", base64(`12${TOKEN}22`)))], credential: /^auth/, place: /9001/ },
        "in JSON": { peers: [bearer, to(9001, request("", `"${TOKEN.replace("/", "\\/")}"`))], credential: /^auth/, place: /9001/ },
        "the end of it": { peers: [bearer, to(9001, request("", TOKEN.slice(-20)))], credential: /^auth/, place: /9001/ },
        "the signature of a token": {
            peers: [asJwt, to(9001, request("", jwt("alice").split(".")[2]))],
            credential: /^authorization of a client/,
            place: /9001/,
        },
        "across two writes": {
            peers: [bearer, to(9001, request("", TOKEN))],
            credential: /^auth/,
            place: /9001/,
        },
        "a password": {
            peers: [client(`Authorization: Basic ${base64("me:my-long-password")}\r\n`), to(9001, request("", "my-long-password"))],
            credential: /^auth/,
            place: /9001/,
        },
        "a token that was shown many times": {
            peers: [...Array.from({ length: 20_000 }, () => bearer), to(9001, request("", TOKEN))],
            credential: /^auth/,
            place: /9001/,
        },
        "a cookie": {
            peers: [client("Cookie: a=b; session=0123456789abcdef\r\n"), to(9001, request("X: 0123456789abcdef\r\n"))],
            credential: /^cookie of a client/,
            place: /9001/,
        },
        "Proxy-Authorization": {
            peers: [client(`Proxy-Authorization: Bearer ${TOKEN}\r\n`), to(9001, request("", TOKEN))],
            credential: /^proxy-auth/,
            place: /9001/,
        },
        "a key at a server that no rule names": {
            peers: [key, to(9001, request("X-Api-Key: key-of-the-client-itself\r\n"))],
            credential: /^x-api-key of a client/,
            place: /9001/,
        },
        "a client's token at a child": {
            peers: [bearer, { text: "pipe", said: `{"params":{"auth":"${TOKEN}"}}\n` }],
            credential: /^auth/,
            place: /stdin/,
        },
        "in the log": { peers: [bearer, { text: "stderr", said: `{"token":"${TOKEN}"}` }], credential: /^auth/, place: /^stderr$/ },
        "on stdout": { peers: [bearer, { text: "stdout", said: TOKEN }], credential: /^auth/, place: /^stdout$/ },
        "in a file": { peers: [bearer, { text: "file /x/data/definitions", said: TOKEN }], credential: /^auth/, place: /definitions/ },
        "in an answer to a client": {
            peers: [client(`Authorization: Bearer ${TOKEN}\r\n`, answer(`"${TOKEN} is wrong"`))],
            credential: /^auth/,
            place: /^to the client/,
        },
        "on the control socket": { peers: [bearer, { text: "accept unix", said: TOKEN }], credential: /^auth/, place: /^accept unix$/ },
        "in the arguments": {
            peers: [bearer],
            credential: /^auth/,
            place: /cmdline/,
            around: { places: [{ kind: "argument", name: "/proc/PID/cmdline", bytes: Buffer.from(`cardea\0${TOKEN}\0`) }] },
        },
        "inside TLS, to a server": {
            peers: [
                bearer,
                { text: "connect tcp 127.0.0.1:9001", said: hello },
                { text: `tls client up.example ${random}`, said: request(`X: ${TOKEN}\r\n`) },
            ],
            credential: /^auth/,
            place: /^to 127\.0\.0\.1:9001 \(TLS\)$/,
        },
        "a token that came by TLS": {
            peers: [
                { text: "tls server - 00", heard: `GET /mcp HTTP/1.1\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n` },
                to(9001, request("", TOKEN)),
            ],
            credential: /^auth/,
            place: /9001/,
        },
        "a server's token at another server": {
            peers: [to(9002, request(`Authorization: Bearer ${SECRET}\r\n`))],
            credential: /^mcp\.servers\.one\.auth\.token/,
            place: /9002/,
        },
        "at a client": { peers: [client("", answer(SECRET))], credential: /one\.auth\.token/, place: /^to the client/ },
        "in the log, of the configuration": { peers: [{ text: "stderr", said: SECRET }], credential: /one\.auth\.token/, place: /stderr/ },
        "a client's token at a forward server, no JWT": {
            peers: [bearer, to(9003, request(`Authorization: Bearer ${TOKEN}\r\n`))],
            credential: /^auth/,
            place: /9003/,
        },
        "a subject token at the server": {
            peers: [asJwt, to(9004, request(`Authorization: Bearer ${jwt("alice")}\r\n`))],
            credential: /^auth/,
            place: /9004/,
        },
        "a subject token in another parameter": {
            peers: [asJwt, to(9000, request("", `subject_token=x&actor_token=${jwt("alice")}`))],
            credential: /^auth/,
            place: /9000/,
        },
        "a client secret at the server": {
            peers: [to(9004, request("", "of-the-gateway-there"))],
            credential: /exchanged\.auth\.client_secret/,
            place: /9004/,
        },
        "a client secret at an issuer that the server did not name": {
            peers: [
                to(9005, request(""), answer('{"authorization_servers":["http://127.0.0.1:9010"]}')),
                to(9010, request(""), answer('{"token_endpoint":"http://127.0.0.1:9011/token"}')),
                to(9012, request(`Authorization: Basic ${base64("gateway:another-client-secret")}\r\n`)),
            ],
            credential: /found\.auth\.client_secret/,
            place: /9012/,
        },
        "a token that was got, at another server": {
            peers: [got("http://127.0.0.1:9004/mcp"), to(9005, request(`Authorization: Bearer ${given}\r\n`))],
            credential: /^access_token that 127\.0\.0\.1:9000 gave/,
            place: /9005/,
        },
        "a token that was got, in the log": {
            peers: [got("http://127.0.0.1:9004/mcp"), { text: "stderr", said: given }],
            credential: /^access_token/,
            place: /stderr/,
        },
        "an assertion at a server": {
            peers: [to(9000, request("", `x=1&client_assertion=${jwt("gateway")}`)), to(9004, request("", jwt("gateway")))],
            credential: /^client_assertion/,
            place: /9004/,
        },
        "the proxy's password behind the proxy": {
            peers: [
                {
                    text: "connect tcp 127.0.0.1:3128",
                    said: `CONNECT up.example:80 HTTP/1.1\r\nHost: up.example:80\r\n\r\n${request(`X: ${base64("user:of-the-proxy-alone")}\r\n`)}`,
                    heard: "HTTP/1.1 200 OK\r\n\r\n",
                },
            ],
            credential: /proxied\.proxy/,
            place: /up\.example:80 through the proxy/,
        },
        "a child's environment, at the child": {
            peers: [{ text: "pipe", said: ENV.FOR_THE_CHILD }],
            credential: /child\.env\.API_TOKEN/,
            place: /stdin/,
        },
        "MCP_API_TOKEN in the log": { peers: [{ text: "stderr", said: ENV.MCP_API_TOKEN }], credential: /^MCP_API_TOKEN/, place: /stderr/ },
        "the local token at a server": {
            peers: [{ text: "file /x/data/token", said: "0123456789abcdef\n" }, to(9001, request("", "0123456789abcdef"))],
            credential: /^the local token/,
            place: /9001/,
        },
        ...Object.fromEntries(
            Object.entries(keys).map(([type, { privateKey }]) => [
                `a line of a private key in the log: ${type}`,
                {
                    peers: [
                        { text: "file /x/key.pem", heard: privateKey },
                        { text: "stderr", said: privateKey.split("\n")[type === "rsa" ? 10 : 1]! },
                    ],
                    credential: /^the private key \/x\/key\.pem/,
                    place: /stderr/,
                },
            ]),
        ),
        "a server's session at a client": {
            peers: [
                to(9001, request(""), answer("{}", "Mcp-Session-Id: 5e55-10n-0f-0ne\r\n")),
                client("", answer("{}", "Mcp-Session-Id: 5e55-10n-0f-0ne\r\n")),
            ],
            credential: /^Mcp-Session-Id of a server/,
            place: /^to the client/,
        },
        "a server's session at another server": {
            peers: [
                to(9001, request(""), answer("{}", "Mcp-Session-Id: 5e55-10n-0f-0ne\r\n")),
                to(9002, request("Mcp-Session-Id: 5e55-10n-0f-0ne\r\n")),
            ],
            credential: /^Mcp-Session-Id of a server/,
            place: /9002/,
        },
        "a client's session at a server": {
            peers: [client("", answer("{}", "Mcp-Session-Id: c11ent-5ess10n\r\n")), to(9001, request("", "c11ent-5ess10n"))],
            credential: /^Mcp-Session-Id of a client/,
            place: /9001/,
        },
    };
    for (const [name, { peers, credential, place, around }] of Object.entries(found)) {
        test(`found: ${name}`, () => {
            const leaks = look([config, ...peers], { env: ENV, ...around });
            assert.ok(leaks.length > 0, "nothing was found");
            for (const leak of leaks) {
                assert.match(leak.credential, credential);
                assert.match(leak.place, place);
            }
            for (const value of [TOKEN, SECRET, given, ...Object.values(ENV)])
                assert.ok(!report(leaks).includes(value), "the report itself has none");
        });
    }

    const fine: { [name: string]: Peers } = {
        "a server's token at that server": [to(9001, request(`Authorization: Bearer ${SECRET}\r\n`))],
        "the same under another name of this machine": [{ text: "connect tcp [::1]:9001", said: request(`Authorization: ${SECRET}\r\n`) }],
        "a header that a rule passes on": [key, to(9002, request("X-Api-Key: key-of-the-client-itself\r\n"))],
        "a JWT at a forward server": [asJwt, to(9003, request(`Authorization: Bearer ${jwt("alice")}\r\n`))],
        "a subject token": [asJwt, to(9000, request("", `grant_type=x&subject_token=${jwt("alice")}&client_secret=of-the-gateway-there`))],
        "a client secret at the issuer that the server named": [
            to(9005, request(""), answer('{"authorization_servers":["http:\\/\\/127.0.0.1:9010"]}')),
            to(9010, request(""), answer('{"token_endpoint":"http://127.0.0.1:9011/token"}')),
            to(9011, request(`Authorization: Basic ${base64("gateway:another-client-secret")}\r\n`)),
        ],
        "a token that was got, at its server": [got("http://127.0.0.1:9004/mcp"), to(9004, request(`Authorization: Bearer ${given}\r\n`))],
        "the proxy's password at the proxy": [
            {
                text: "connect tcp 127.0.0.1:3128",
                said: `CONNECT up.example:80 HTTP/1.1\r\nProxy-Authorization: Basic ${base64("user:of-the-proxy-alone")}\r\n\r\n${request("")}`,
                heard: "HTTP/1.1 200 OK\r\n\r\n",
            },
        ],
        "the local token in its file": [{ text: "file /x/data/token", said: "0123456789abcdef\n", heard: "0123456789abcdef\n" }],
        ...Object.fromEntries(
            Object.entries(keys).map(([type, { publicKey, privateKey }]) => [
                `a public key in the log: ${type}`,
                [
                    { text: "file /x/key.pem", heard: privateKey },
                    { text: "stderr", said: publicKey },
                ],
            ]),
        ),
        "what a server tells": [
            to(9001, request(`Authorization: Bearer ${SECRET}\r\n`), answer(`{"echo":"${SECRET}"}`)),
            client("", answer(`{"echo":"${SECRET}"}`)),
        ],
        "a server's session at that server": [
            to(9001, request("") + request("Mcp-Session-Id: 5e55-10n-0f-0ne\r\n"), answer("{}", "Mcp-Session-Id: 5e55-10n-0f-0ne\r\n")),
        ],
    };
    for (const [name, peers] of Object.entries(fine)) {
        test(`right: ${name}`, () => {
            const leaks = look([config, ...peers], { env: ENV });
            assert.equal(leaks.length, 0, report(leaks));
        });
    }

    test("what a server put into a header is no excuse", () => {
        const peers = [to(9001, request(""), answer("{}", `X-Echo: ${SECRET}\r\n`)), client("", answer("{}", `X-Echo: ${SECRET}\r\n`))];
        assert.equal(look([config, ...peers]).length, 1);
    });
});

test("the report shows where, and four characters", () => {
    const leaks = look([
        client(`Authorization: Bearer ${TOKEN}\r\n`),
        to(9001, request(`X-Before: 1\r\nX-Leak: ${TOKEN}\r\nX-After: 2\r\n`)),
    ]);
    assert.match(report(leaks), /to 127\.0\.0\.1:9001, as it is: .*X-Leak: >>>a-to\.\.\.<<<\\r\\nX-After: 2/);
});

test("TOML as the tests write it", () => {
    const text = 'a = 1 # one\n[b."c d"]\ne.f = ["x", \'y\', """\nz\\\n  z"""]\n[[b.g]]\nh = { i = "\\u0041\\"" , j = true }\n[[b.g]]\nbroken = }\nk = 2026-01-01\n';
    assert.deepEqual(JSON.parse(JSON.stringify(parseToml(text))), {
        a: 1,
        b: { "c d": { e: { f: ["x", "y", "zz"] } }, g: [{ h: { i: 'A"', j: true } }, { k: "2026-01-01" }] },
    });
});

describe("a command", () => {
    test("whose output has a credential of the configuration is found", () => {
        const file = join(folder, "command.toml");
        writeFileSync(file, CONFIG);
        checkCommand(["check", file], ENV, "fine");
        assert.throws(() => checkCommand(["check", file], ENV, `token = "${SECRET}"`), /output of cardea check/);
    });
});

describe("a real gateway", () => {
    const KEY = "a-key-that-a-client-shows", CHILD = "a-secret-of-the-child";

    /** It leaks, and so its own end would fail the test. */
    const leaksOf = async (gateway: Gateway): Promise<string> => {
        let said = "";
        await gateway.stop().catch((error: unknown) => (said = String(error)));
        return said.slice(0, said.indexOf("\n{"));
    };
    const call = async (gateway: Gateway, fields: Record<string, string>, path = "/mcp/http") => {
        const session = await openSession(gateway, path, "2025-11-25");
        const body = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "echo", arguments: { text: "x" } } };
        await (await session.send({ headers: fields, body: JSON.stringify(body) })).messages.at(-1);
    };

    test("that passes on what no rule allows: to a server, and in TLS to another one", async (t) => {
        const fixture = await startHttp({}, t);
        const authority = new Authority(temporaryFolder());
        const secure = await startHttp({ tls: { ...authority.sign("IP:127.0.0.1") } }, t);
        const headers = [{ rule: "forward", name: "X-Trace" }];
        const servers = {
            http: { url: fixture.url, headers },
            tls: { url: secure.url, headers },
        };
        const gateway = await startGateway({ config: { servers }, env: { ...process.env, SSL_CERT_FILE: authority.file } });
        await call(gateway, { "X-Api-Key": KEY, "X-Trace": KEY });
        await call(gateway, { "X-Api-Key": KEY, "X-Trace": KEY }, "/mcp/tls");
        const said = await leaksOf(gateway);
        assert.match(said, new RegExp(`x-api-key of a client \\(a-ke\\.\\.\\., ${KEY.length} characters\\)`));
        assert.match(said, new RegExp(`to 127\\.0\\.0\\.1:${new URL(fixture.url).port}, as it is: .*x-trace: >>>a-ke`, "i"));
        assert.match(said, new RegExp(`:${new URL(secure.url).port} \\(TLS\\), as it is`));
        assert.ok(!said.includes(KEY));
        assert.ok(existsSync(gateway.folder) === false, "nothing is left");
    });

    test("that passes on what a rule allows", async (t) => {
        const fixture = await startHttp({}, t);
        const servers = { http: { url: fixture.url, headers: [{ rule: "forward", name: "X-Api-Key" }] } };
        const gateway = await startGateway({ config: { servers } });
        await call(gateway, { "X-Api-Key": KEY });
        assert.ok(fixture.requests.items.some((each) => each.field("x-api-key") === KEY));
        const { leaks, credentials, bytes } = gateway.canary!.examine();
        assert.deepEqual(leaks, []);
        assert.ok(credentials >= 3, `${credentials} credentials: the key, the token, a session`);
        assert.ok(bytes > 1000);
        await gateway.stop();
    });

    test("whose child writes its own secret into the log", async (t) => {
        const script = 'echo "the token is $API_TOKEN" >&2; cat >/dev/null';
        const child = { cmd: ["/bin/sh", "-c", script], env: { API_TOKEN: CHILD }, stderr: "pipe" };
        const gateway = await startGateway({ config: { servers: { child } } });
        await gateway.waitForLog((entry) => JSON.stringify(entry).includes("the token is"));
        assert.match(await leaksOf(gateway), /mcp\.servers\.child\.env\.API_TOKEN .*\n {4}stderr, as it is/);
    });

    test("that is killed", async (t) => {
        const script = 'echo "the token is $API_TOKEN" >&2; cat >/dev/null';
        const child = { cmd: ["/bin/sh", "-c", script], env: { API_TOKEN: CHILD }, stderr: "pipe" };
        const gateway = await startGateway({ config: { servers: { child } } });
        await gateway.waitForLog((entry) => JSON.stringify(entry).includes("the token is"));
        await until(() => gateway.canary!.examine().leaks.length > 0, "the line is written down");
        await gateway.kill();
        assert.match(await leaksOf(gateway), /mcp\.servers\.child\.env\.API_TOKEN/);
    });

    test("is all written down: both sides of stdio, TLS, the log, and no child of it", async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const gateway = await startGateway({ config: { servers: { it: { cmd: control.command({ name: "it" }) } } } }, t);
        await served(gateway, "it__echo");
        await send(gateway, { method: "GET", path: "/health" });
        // What was said is noted when it has been said, and so perhaps after it was heard.
        await until(
            () =>
                gateway
                    .canary!.record()
                    .peers.filter((peer) => /^accept tcp/.test(peer.text))
                    .some(({ heard, said }) => heard.includes("GET /health HTTP/1.1") && said.includes("HTTP/1.1 200")),
            "a request and its answer are written down",
        );
        const { peers, lost } = gateway.canary!.record();
        const of = (text: RegExp) => peers.filter((peer) => text.test(peer.text));
        assert.equal(lost, 0);
        assert.ok(of(/^pipe$/).some(({ said }) => said.includes('"method":"initialize"')));
        assert.ok(of(/^pipe$/).some(({ heard }) => heard.includes('"protocolVersion"')));
        assert.ok(of(/^stderr$/).some(({ said }) => said.includes('"listening"')));
        assert.ok(of(/^file .*cardea\.toml$/).some(({ heard }) => heard.includes("[mcp.servers.it]")));
        assert.ok(of(/^file .*\/token$/).some(({ said }) => said.toString().trim() === gateway.token));
    });
});

after(() => rmSync(folder, { recursive: true, force: true }));
