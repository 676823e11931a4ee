/*
 * The same thing a thousand times: starts and stops of children, and kills of the gateway. Nothing may be left: no
 * process, no descriptor. The children are a small C program (test/hostile/tiny_server.c), so that a thousand are cheap.
 */
import assert from "node:assert/strict";
import net from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { startGateway, type Gateway } from "./lib/gateway.ts";
import { openSession, text } from "./lib/http.ts";
import { descendants, descriptors, unlessRoot } from "./lib/proc.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../build-asan", import.meta.url));
const TINY = join(BUILD, "test", "hostile", "tiny_server");
const STARTS = 1000;
const AT_ONCE = 8;
const KILLS = 50;

describe("endurance", () => {
    test(`${STARTS} starts and stops of a child leave no process and no descriptor`, { skip: unlessRoot }, async (t) => {
        const servers = { tiny: { cmd: [TINY], share: "session", max_instances: 100 } };
        // Without a trail: its index opens files when nobody else wants the processor.
        const gateway = await startGateway({ config: { servers, audit: { enabled: false } }, args: ["--log", "info"] }, t);
        const once = async () => {
            const session = await openSession(gateway);
            const answer = await session.call("tiny__t");
            assert.match(text(answer), /^pid \d+$/);
            assert.ok((await session.end()).status < 300);
            return text(answer);
        };
        await once();
        await until(() => descendants(gateway.pid).length <= 2, "only the spawner is left");
        const processes = descendants(gateway.pid).length;
        const before = descriptors(gateway);
        const seen = new Set<string>();
        let left = STARTS;
        await Promise.all(
            Array.from({ length: AT_ONCE }, async () => {
                while (left-- > 0) seen.add(await once());
            }),
        );
        assert.ok(seen.size > STARTS / 2, `a process of its own for each session, not ${seen.size}`);
        await until(() => descendants(gateway.pid).length <= processes, "every child is gone");
        await until(() => descriptors(gateway) <= before, () => `${descriptors(gateway)} descriptors, ${before} before`);
    });

    test(`${KILLS} times kill -9 of the gateway leaves no child and no grandchild`, async () => {
        const folder = temporaryFolder();
        const path = join(folder, "held.sock");
        const held = new Set<net.Socket>();
        let connected = () => {};
        let gone = () => {};
        const listener = net.createServer((socket) => {
            held.add(socket);
            socket.on("error", () => {});
            socket.on("close", () => {
                held.delete(socket);
                gone();
            });
            socket.resume();
            connected();
        });
        await new Promise<void>((resolve) => listener.listen(path, resolve));
        for (let round = 0; round < KILLS; round++) {
            const up = new Promise<void>((resolve) => (connected = resolve));
            const down = new Promise<void>((resolve) => (gone = resolve));
            const servers = { tiny: { cmd: [TINY, path] } };
            const gateway = await startGateway({ config: { servers }, args: ["--log", "info"] });
            await within(up, "the grandchild is up");
            await gateway.kill();
            // The kernel closes the grandchild's socket when the grandchild is dead.
            await within(down, "the grandchild is gone");
            await until(() => held.size === 0, "nobody holds the socket");
            await gateway.stop();
        }
        await new Promise((resolve) => listener.close(resolve));
        removeFolder(folder);
    });
});
