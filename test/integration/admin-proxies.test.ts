/*
 * The console behind a proxy: whose address logins are throttled by, and what sessions and records have. From nobody but
 * admin.trusted_proxies, and in the one field that was chosen.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { PASSWORD, startAdmin, type Admin, type Answer } from "./lib/admin.ts";
import { trailOf } from "./lib/audit.ts";

const PROXIED = { x_forwarded_for: true };
const users = [{ name: "root", roles: ["administrator"] }];

type Fields = Record<string, string | string[]>;
const tryLogin = (admin: Admin, password: string, fields: Fields = {}): Promise<Answer> =>
    admin.ask("POST", "/api/v1/login", { "content-type": "application/json", ...fields }, JSON.stringify({ name: "root", password }));

/** Whose address a session has that is opened with these fields. */
async function addressOf(admin: Admin, fields: Fields): Promise<string> {
    const entered = await tryLogin(admin, PASSWORD, fields);
    assert.equal(entered.status, 200, entered.text);
    const cookie = String([entered.headers["set-cookie"]].flat()[0]).split(";")[0]!;
    const listed = await admin.ask("GET", "/api/v1/sessions", { cookie });
    return (listed.json.items as { is_own: boolean; address: string }[]).find(({ is_own }) => is_own)!.address;
}

describe("the console's clients behind a proxy", () => {
    const everything: Fields = { "x-forwarded-for": "203.0.113.9", "x-real-ip": "203.0.113.8", forwarded: "for=203.0.113.7" };

    test("nobody chooses their address, unless they are a proxy of the console's", async (t) => {
        const closed = [
            { server: {}, admin: {} },
            { server: { client_ip: PROXIED, trusted_proxies: ["127.0.0.1"] }, admin: {} },
            { server: { client_ip: PROXIED, trusted_proxies: ["127.0.0.1"] }, admin: { trusted_proxies: ["192.0.2.7"] } },
            { server: {}, admin: { trusted_proxies: ["127.0.0.1"] } },
        ];
        for (const config of closed) {
            const admin = await startAdmin({ config: { servers: {}, ...config }, users }, t);
            assert.equal(await addressOf(admin, everything), "127.0.0.1", JSON.stringify(config));
            await admin.gateway.stop();
        }
    });

    test("what a proxy of the console's says counts, in the field that was chosen and from the right", async (t) => {
        const config = { servers: {}, server: { client_ip: PROXIED }, admin: { trusted_proxies: ["127.0.0.1", "198.51.100.0/24"] } };
        const admin = await startAdmin({ config, users }, t);
        const rows: [Fields, string][] = [
            [everything, "203.0.113.9"],
            [{ "x-forwarded-for": "10.9.8.7, 203.0.113.9" }, "203.0.113.9"], // the first one is the client's own invention
            [{ "x-forwarded-for": ["10.9.8.7", "203.0.113.9, 198.51.100.4"] }, "203.0.113.9"],
            [{ "x-forwarded-for": "2001:db8::5" }, "2001:db8::5"],
            [{ "x-forwarded-for": "203.0.113.9, unknown" }, "127.0.0.1"],
            [{ "x-forwarded-for": "203.0.113.9/24" }, "127.0.0.1"],
            [{ "x-forwarded-for": "" }, "127.0.0.1"],
            [{ "x-real-ip": "203.0.113.8" }, "127.0.0.1"],
            [{}, "127.0.0.1"],
        ];
        for (const [fields, address] of rows) assert.equal(await addressOf(admin, fields), address, JSON.stringify(fields));
        const record = await trailOf(admin.gateway).find((line) => line.event === "admin-login" && line.address === "203.0.113.9", "a record with the client's address");
        assert.equal(record.status, "ok");
    });

    test("logins are throttled by the client's address, and a client does not get around that", async (t) => {
        const config = { servers: {}, server: { client_ip: PROXIED }, admin: { trusted_proxies: ["127.0.0.1"] } };
        const admin = await startAdmin({ config, users }, t);
        const from = async (fields: Fields, password = "not the right one"): Promise<number> => (await tryLogin(admin, password, fields)).status;
        // As a proxy passes it on: whatever the client wrote stands first.
        const statuses: number[] = [];
        for (let i = 0; i < 8; i++) statuses.push(await from({ "x-forwarded-for": `10.0.0.${i}, 203.0.113.9` }));
        assert.deepEqual(statuses.slice(0, 5), Array(5).fill(401));
        assert.ok(statuses.slice(6).every((status) => status === 429), statuses.join(" "));
        assert.equal(await from({ "x-forwarded-for": "203.0.113.10" }, PASSWORD), 200, "somebody else behind the same proxy logs in");
    });
});
