/* Children: what they are given, how they are found out, how they end. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, realpathSync } from "node:fs";
import { after, before, describe, test, type TestContext } from "node:test";
import { join } from "node:path";

import { startControl, type Control, type FixtureOptions, type FixtureProcess } from "./lib/control.ts";
import { startGateway, type Gateway, type GatewayOptions, type ServerConfig } from "./lib/gateway.ts";
import { openSession, served, serving, text, type Session } from "./lib/http.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

describe("stdio", () => {
    let control: Control;
    let folder: string;
    before(async () => {
        control = await startControl();
        folder = realpathSync(temporaryFolder());
    });
    after(async () => {
        await control.close();
        removeFolder(folder);
    });

    /** A gateway with one upstream, "one", and a session on it. */
    const one = async (
        t: TestContext,
        options: Omit<FixtureOptions, "control">,
        server: Partial<ServerConfig>,
        run: (gateway: Gateway, session: Session) => Promise<void>,
        more: Partial<GatewayOptions> = {},
    ) => {
        const config = { servers: { one: { cmd: control.command(options), ...server } } };
        const gateway = await startGateway({ config, ...more }, t);
        await run(gateway, await openSession(gateway, "/mcp/one"));
    };

    /** The first call that is answered, while the upstream may still be starting. */
    const answered = (session: Session, name: string, args: Record<string, unknown> = {}) =>
        until(async () => {
            const answer = await session.call(name, args);
            return answer.result !== undefined && answer.result.isError !== true ? answer : false;
        }, `${name} is answered`);

    const environment = {
        PATH: process.env.PATH!,
        HOME: "/home/of-the-gateway",
        LANG: "C.UTF-8",
        TZ: "Europe/Zurich",
        USER: "somebody",
        TMPDIR: "/tmp",
        SECRET: "not for children",
        CARDEA_LOG: "debug",
        LD_LIBRARY_PATH: "/nowhere",
        NODE_OPTIONS: "--no-warnings",
        MAY_PASS: "passes",
        "WITH SPACE": "x",
    };

    test("a child sees what is declared and PATH, HOME, LANG, TZ, USER, TMPDIR, no more", async (t) => {
        const server = { env: { DECLARED: "value with = and 'quotes'", TZ: "UTC" } };
        await one(
            t,
            { name: "env" },
            server,
            async (_, session) => {
                await answered(session, "echo");
                const { start } = await serving(control, session);
                const { PATH, HOME, LANG, USER, TMPDIR } = environment;
                const expected = { PATH, HOME, LANG, USER, TMPDIR, TZ: "UTC", DECLARED: "value with = and 'quotes'" };
                assert.deepEqual(
                    start.environ!.sort(),
                    Object.entries(expected)
                        .map(([key, value]) => `${key}=${value}`)
                        .sort(),
                );
            },
            { env: { ...environment, ...sanitizer() } },
        );
    });

    test("inherit_env passes what it names; what is not set stays unset", async (t) => {
        const env: NodeJS.ProcessEnv = { ...environment, ...sanitizer() };
        for (const name of ["LANG", "TZ", "TMPDIR"]) delete env[name];
        await one(
            t,
            { name: "inherit" },
            { inherit_env: ["MAY_PASS", "IS_NOT_SET"] },
            async (_, session) => {
                await answered(session, "echo");
                const { start } = await serving(control, session);
                const { PATH, HOME, USER, MAY_PASS } = environment;
                assert.deepEqual(
                    start.environ!.sort(),
                    Object.entries({ PATH, HOME, USER, MAY_PASS })
                        .map(([key, value]) => `${key}=${value}`)
                        .sort(),
                );
            },
            { env },
        );
    });

    test("{{ env.X }} in a declared variable and in cmd", async (t) => {
        const cmd = control.command({ name: "expanded" });
        const server = {
            cmd: [...cmd, "{{ env.MAY_PASS }}"],
            env: { TOKEN: "<{{ env.SECRET }}>", OTHER: '{{ env.NOT_SET | default("d") }}' },
        };
        await one(
            t,
            { name: "unused" },
            server,
            async (_, session) => {
                await answered(session, "echo");
                const { start } = await serving(control, session);
                assert.ok(start.environ!.includes("TOKEN=<not for children>"));
                assert.ok(start.environ!.includes("OTHER=d"));
                assert.equal((start as { argv?: string[] }).argv!.at(-1), "passes");
            },
            { env: { ...environment, ...sanitizer() } },
        );
    });

    test("a child has descriptors 0, 1, 2 and no other", async (t) => {
        // Node opens some of its own, so a shell looks before it becomes the fixture, opening nothing itself.
        const look =
            'n=0; while [ $n -lt 1024 ]; do [ -h /proc/self/fd/$n ] && open="$open $n"; n=$((n+1)); done; OPEN="$open" exec "$@"';
        const cmd = ["/bin/sh", "-c", look, "sh", ...control.command({ name: "fds" })];
        await one(t, { name: "unused" }, { cmd }, async (_, session) => {
            await answered(session, "echo");
            const { start } = await serving(control, session);
            assert.ok(start.environ!.includes("OPEN= 0 1 2"), String(start.environ));
            assert.match(start.stdio![0]!, /^(pipe|socket):/);
            assert.match(start.stdio![1]!, /^(pipe|socket):/);
        });
    });

    test("cwd", async (t) => {
        const cwd = join(folder, "work here");
        mkdirSync(cwd);
        await one(t, { name: "cwd" }, { cwd }, async (_, session) => {
            await answered(session, "echo");
            assert.equal((await serving(control, session)).start.cwd, cwd);
        });
    });

    test("stderr to a file", async (t) => {
        const file = join(folder, "stderr.log");
        await one(
            t,
            { name: "err-file", stderr: ["a line for the file"] },
            { stderr: { file } },
            async (_, session) => {
                await answered(session, "echo");
                (await serving(control, session)).do({ do: "stderr", line: "a second line" });
                await until(
                    () => /a line for the file\n[^]*a second line\n/.test(readFileSync(file, "utf8")),
                    "both lines are in the file",
                );
            },
        );
    });

    test('stderr = "pipe": lines come to the log, made safe, whatever their length', async (t) => {
        await one(
            t,
            { name: "err-pipe", stderr: ["first \u001b[31mred\u0007 line"] },
            { stderr: "pipe" },
            async (gateway, session) => {
                await answered(session, "echo");
                const first = await gateway.waitForLog((entry) => JSON.stringify(entry).includes("first "));
                assert.ok(
                    !Object.values(first).some((value) => /[\u0000-\u0008\u001b]/.test(String(value))),
                    JSON.stringify(first),
                );
                assert.ok(JSON.stringify(first).includes("one"), "the entry names the upstream");
                const child = await serving(control, session);
                child.do({ do: "stderr", line: "x".repeat(1_000_000) });
                child.do({ do: "stderr", line: "after the long one" });
                await gateway.waitForLog((entry) => JSON.stringify(entry).includes("after the long one"));
                assert.ok(
                    gateway.log.items.every((entry) => JSON.stringify(entry).length < 100_000),
                    "long lines are cut",
                );
                assert.equal(text(await session.call("echo", { text: "fine" })), "fine");
            },
        );
    });

    test('stderr = "null" is the default that is quiet', async (t) => {
        await one(
            t,
            { name: "err-null", stderr: ["nobody reads this"] },
            { stderr: "null" },
            async (gateway, session) => {
                await answered(session, "echo");
                assert.equal((await serving(control, session)).start.stdio![2], "/dev/null");
                assert.ok(!JSON.stringify(gateway.log.items).includes("nobody reads this"));
            },
        );
    });

    test("garbage on stdout breaks nothing", async (t) => {
        const noise = [
            "Server started on port 3000",
            "{",
            '{"level":30,"time":1700000000000,"pid":1,"msg":"a logger that writes JSON"}',
            "[]",
            "null",
            "\u0000\u0001\u0002",
            '{"jsonrpc":"2.0","id":"never asked","result":{}}',
            '{"jsonrpc":"2.0","id":99999,"result":{}}',
            '{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}',
            '{"jsonrpc":"2.0","method":"notifications/no/such/thing"}',
            '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"none","progress":1}}',
            '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}',
            "x".repeat(200_000),
        ];
        await one(t, { name: "noise", noise }, {}, async (_, session) => {
            const answer = await answered(session, "echo", { text: "clear" });
            assert.equal(text(answer), "clear");
            for (let round = 0; round < 5; round++)
                assert.equal(text(await session.call("echo", { text: `r${round}` })), `r${round}`);
            assert.equal(control.count("noise"), 1, "it was not started again for that");
        });
    });

    test("the same answer twice: the first counts", async (t) => {
        await one(t, { name: "twice" }, {}, async (_, session) => {
            await answered(session, "echo");
            const child = await serving(control, session);
            const from = child.events.items.length;
            const waiting = session.call("hold");
            const { id } = await child.events.waitFor((event) => event.event === "held", from);
            const answer = (mark: string) => ({
                jsonrpc: "2.0",
                id,
                result: { content: [{ type: "text", text: mark }] },
            });
            child.do({ do: "send", message: answer("first") });
            child.do({ do: "send", message: answer("second") });
            assert.equal(text(await waiting), "first");
            assert.equal(text(await session.call("echo", { text: "third" })), "third");
        });
    });

    test("the probe: a server that exits on an unknown first request is started again as a legacy one", async (t) => {
        await one(t, { name: "shy", discover: "exit" }, {}, async (_, session) => {
            assert.equal(text(await answered(session, "echo", { text: "there" })), "there");
            const child = await serving(control, session);
            assert.equal(child.received()[0]!.method, "initialize", "the verdict is kept: no second probe");
            assert.ok(
                control.starts.items.some(
                    (item) => item.name === "shy" && item.received()[0]?.method === "server/discover",
                ),
            );
            // and it stays kept when the server comes back after a crash
            const starts = control.count("shy");
            await session.call("crash");
            const next = await control.started("shy", starts + 1);
            await next.receives((message) => message.method === "initialize");
            assert.equal(next.received()[0]!.method, "initialize");
        });
    });

    test("the probe: a server that is silent on it is started again as a legacy one", async (t) => {
        await one(t, { name: "mute", discover: "silent" }, {}, async (_, session) => {
            const started = performance.now();
            assert.equal(text(await answered(session, "echo", { text: "there" })), "there");
            assert.ok(performance.now() - started < 10_000);
            const child = await serving(control, session);
            assert.equal(child.received()[0]!.method, "initialize");
            const probed = control.starts.items.find(
                (item) => item.name === "mute" && item.received()[0]?.method === "server/discover",
            );
            assert.ok(probed !== undefined && probed !== child);
            await probed.isGone();
        });
    });

    test("a legacy server is spoken to in the order of the lifecycle", async (t) => {
        await one(t, { name: "polite" }, {}, async (_, session) => {
            await answered(session, "echo");
            const child = await serving(control, session);
            const methods = child.received().map((message) => message.method);
            const initialize = methods.indexOf("initialize");
            assert.equal(methods[initialize + 1], "notifications/initialized", String(methods));
            assert.ok(
                methods.slice(0, initialize).every((method) => method === "server/discover"),
                String(methods),
            );
            const asked = child.received("initialize")[0]!.params!;
            assert.equal(asked.protocolVersion, "2025-11-25");
            assert.equal(typeof (asked.clientInfo as { name: unknown }).name, "string");
        });
    });

    for (const protocolVersion of ["2024-11-05", "2025-03-26", "2025-06-18"]) {
        test(`a server that answers with ${protocolVersion} is served`, async (t) => {
            await one(t, { name: `v${protocolVersion}`, protocolVersion }, {}, async (_, session) => {
                assert.equal(text(await answered(session, "echo", { text: "old" })), "old");
            });
        });
    }

    test("timeout: a call without a sign of life ends with an error and is cancelled at the server", async (t) => {
        await one(t, { name: "timeout" }, { timeout: "400ms" }, async (_, session) => {
            await answered(session, "echo");
            const child = await serving(control, session);
            const from = child.events.items.length;
            const answer = await session.call("hold");
            assert.ok(answer.error !== undefined || answer.result?.isError === true, JSON.stringify(answer));
            const held = await child.events.waitFor((event) => event.event === "held", from);
            const cancelled = await child.events.waitFor(
                (event) => event.message?.method === "notifications/cancelled",
                from,
            );
            assert.equal(cancelled.message!.params!.requestId, held.id);
            child.do({ do: "release" });
            assert.equal(text(await session.call("echo", { text: "next" })), "next");
        });
    });

    test("idle_timeout: an unused child is stopped, its tools stay, and the next call starts it", async (t) => {
        await one(t, { name: "idle" }, { idle_timeout: "300ms" }, async (_, session) => {
            await answered(session, "echo");
            const child = control.starts.items.findLast((item) => item.name === "idle")!;
            await child.isGone();
            const names = ((await session.request("tools/list")).result!.tools as { name: string }[]).map(
                (item) => item.name,
            );
            assert.ok(names.includes("echo"), String(names));
            assert.equal(text(await session.call("echo", { text: "awake" })), "awake");
        });
    });

    test('share = "session": every session has a child of its own, which ends with it', async (t) => {
        await one(t, { name: "apart" }, { share: "session" }, async (gateway, session) => {
            const other = await openSession(gateway, "/mcp/one");
            await answered(session, "echo");
            await answered(other, "echo");
            const [mine, theirs] = [await serving(control, session), await serving(control, other)];
            assert.notEqual(mine, theirs);
            await other.end();
            await theirs.isGone();
            assert.equal(text(await session.call("echo", { text: "still" })), "still");
        });
    });
});

describe("a hostile child", () => {
    let control: Control;
    let gateway: Gateway;
    let child: FixtureProcess;
    before(async () => {
        control = await startControl();
        gateway = await startGateway({ config: { servers: { one: { cmd: control.command({ name: "hostile" }) } } } });
        await served(gateway, "one__echo");
        child = await serving(control, await openSession(gateway, "/mcp/one"));
    });
    after(async () => {
        await gateway?.stop();
        await control.close();
    });

    test("the attacks would work outside", async () => {
        const outside = spawnSync("/bin/sh", ["-c", `cat ${gateway.dataDir}/token`], { encoding: "utf8" });
        assert.equal(outside.stdout.trim(), gateway.token);
        assert.equal((await child.shell("echo it runs")).trim(), "it runs");
    });

    const attacks: { name: string; script: (data: string, pid: number) => string }[] = [
        { name: "reads the token", script: (data) => `cat ${data}/token` },
        { name: "lists the data directory", script: (data) => `ls -A ${data}` },
        {
            name: "takes the cover off",
            script: (data) => `umount ${data}; umount -l ${data}; ls -A ${data}; cat ${data}/token`,
        },
        {
            name: "mounts the root again beside it",
            script: (data) =>
                `m=$(mktemp -d); mount --bind / $m && ls -A $m${data} && cat $m${data}/token; umount -l $m; rmdir $m`,
        },
        {
            name: "makes namespaces of its own",
            script: (data) =>
                `unshare -m sh -c 'umount ${data}; ls -A ${data}'; unshare -Urm sh -c 'umount ${data}; ls -A ${data}'`,
        },
        {
            name: "enters the gateway's namespaces",
            script: (data, pid) => `nsenter -t ${pid} -m ls -A ${data}; nsenter -t 1 -m ls -A ${data}`,
        },
        {
            name: "goes through the roots of others",
            script: (data) => `for p in /proc/[0-9]*; do ls -A $p/root${data}; cat $p/root${data}/token; done`,
        },
        {
            name: "goes through the descriptors of others",
            script: (data) => `for f in /proc/[0-9]*/fd/*; do readlink $f; done | grep '^${data}'`,
        },
        { name: "moves the folder away", script: (data) => `mv ${data} ${data}.away; ls -A ${data}.away` },
        {
            name: "reads the gateway's memory",
            script: (_, pid) =>
                `test -r /proc/${pid}/maps && grep -m1 . /proc/${pid}/maps; dd if=/proc/${pid}/mem bs=1 count=0 && echo opened`,
        },
        {
            name: "reads the gateway's environment",
            script: (_, pid) => `cat /proc/${pid}/environ | tr '\\0' '\\n' | head -1`,
        },
    ];
    for (const { name, script } of attacks) {
        test(`${name}: in vain`, async () => {
            const stdout = await child.shell(`{ ${script(gateway.dataDir, gateway.pid)}; } 2>/dev/null`);
            assert.ok(!stdout.includes(gateway.token), "it has the token");
            assert.equal(stdout.trim(), "");
        });
    }

    test("and the gateway is as before", async () => {
        assert.equal(readFileSync(join(gateway.dataDir, "token"), "utf8").trim(), gateway.token);
        const session = await openSession(gateway, "/mcp/one");
        assert.equal(text(await session.call("echo", { text: "well" })), "well");
    });
});

describe("the end", () => {
    let control: Control;
    before(async () => {
        control = await startControl();
    });
    after(async () => {
        await control.close();
    });

    /** A gateway whose upstreams all serve. */
    const running = async (
        t: TestContext,
        fixtures: Omit<FixtureOptions, "control">[],
        more: Partial<ServerConfig> = {},
    ) => {
        const servers = Object.fromEntries(
            fixtures.map((options) => [options.name, { cmd: control.command(options), ...more }]),
        );
        const gateway = await startGateway({ config: { servers } }, t);
        const session = await openSession(gateway);
        for (const { name } of fixtures) {
            await until(async () => {
                const { result } = await session.call(`${name}__echo`);
                return result !== undefined && result.isError !== true;
            }, `${name} serves`);
        }
        const children = control.starts.items.filter((item) => fixtures.some(({ name }) => item.name.startsWith(name)));
        return { gateway, session, children };
    };

    test("SIGTERM: stdin is closed first, a child that ends by that gets no signal", async (t) => {
        const { gateway, children } = await running(t, [{ name: "obedient" }]);
        const child = children.at(-1)!;
        await gateway.stop();
        await child.isGone();
        const seen = child.events.items
            .filter((event) => event.event === "eof" || event.event === "sigterm")
            .map((event) => event.event);
        assert.deepEqual(seen, ["eof"]);
    });

    test("a child that ignores the end of stdin and TERM is killed, in that order", async (t) => {
        const { gateway, children } = await running(t, [{ name: "stubborn", stubborn: true }], {
            shutdown_timeout: "300ms",
        });
        const child = children.at(-1)!;
        await gateway.stop();
        await child.isGone();
        const seen = child.events.items
            .filter((event) => event.event === "eof" || event.event === "sigterm")
            .map((event) => event.event);
        assert.deepEqual(seen, ["eof", "sigterm"]);
    });

    test("what a child left behind goes with the gateway", async (t) => {
        const { gateway } = await running(t, [{ name: "parent", grandchild: true }]);
        const grandchild = await control.started("parent/grandchild");
        await gateway.stop();
        await grandchild.isGone();
    });

    test("SIGTERM answers what runs before it ends", async (t) => {
        const { gateway, session, children } = await running(t, [{ name: "draining" }]);
        const child = children.at(-1)!;
        const from = child.events.items.length;
        const waiting = session.call("draining__hold");
        await child.events.waitFor((event) => event.event === "held", from);
        const lines = gateway.log.items.length;
        gateway.process.kill("SIGTERM");
        await gateway.waitForLog(() => true, lines);
        child.do({ do: "release" });
        assert.equal(text(await waiting), "released");
        const { code } = await within(gateway.exited, "the gateway ends after its last call");
        assert.equal(code, 0);
        await gateway.stop();
    });

    test("kill -9 of the gateway leaves no child, no stubborn one, no grandchild in a session of its own", async (t) => {
        const { gateway, children } = await running(t, [
            { name: "killed" },
            { name: "killed-stubborn", stubborn: true },
            { name: "killed-parent", stubborn: true, grandchild: true },
        ]);
        const grandchild = await control.started("killed-parent/grandchild");
        await gateway.kill();
        for (const child of [...children, grandchild]) await child.isGone();
        await gateway.stop();
    });

    test("kill -9 in the middle of calls", async (t) => {
        for (let round = 0; round < 3; round++) {
            const { gateway, session, children } = await running(t, [{ name: `mid-${round}`, stubborn: true }]);
            const child = children.at(-1)!;
            const from = child.events.items.length;
            const waiting = assert.rejects(session.call(`mid-${round}__hold`));
            await child.events.waitFor((event) => event.event === "held", from);
            await gateway.kill();
            await waiting;
            await child.isGone();
            await gateway.stop();
        }
    });
});

/** What a sanitizer build needs of the environment when the test makes its own. */
function sanitizer(): NodeJS.ProcessEnv {
    const kept: NodeJS.ProcessEnv = {};
    for (const name of ["ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS"]) {
        if (process.env[name] !== undefined) kept[name] = process.env[name];
    }
    return kept;
}
