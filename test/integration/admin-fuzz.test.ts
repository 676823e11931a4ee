/*
 * The API of the console, asked for everything that its own document does not allow, member by member and parameter by
 * parameter: each is refused with a sentence, none is an error of the gateway, and what was said comes back whole.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import {
    documentOf, PASSWORD, resolved, routesOf, startAdmin, type Admin, type Answer, type Browser, type Document, type Parameter, type Route,
    type Schema,
} from "./lib/admin.ts";
import { Reader } from "./lib/audit.ts";

let admin: Admin;
let root: Browser;
let document: Document;
let routes: Route[] = [];

before(async () => {
    admin = await startAdmin({ users: [{ name: "root", roles: ["administrator"] }, { name: "victim", roles: ["viewer"] }] });
    root = await admin.login("root");
    document = await documentOf(admin);
    routes = routesOf(document);
    const role = await root.ask("POST", "/api/v1/roles", { body: { name: "victim", rights: { permissions: [] } } });
    assert.equal(role.status, 201, role.text);
});
after(async () => {
    admin.close();
    await admin.gateway.stop();
});

/* --- what is sent --- */

const quoted = (text: string): string => JSON.stringify(text);

/** JSON as it stands, of which most is what no member is. */
const VALUES: string[] = [
    "null", "true", "false", "0", "-0", "-1", "1", "1.0", "1.5", "1e2", "1e400", "-1e400", "0.1e-400",
    "2147483648", "9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551616", "1".repeat(400),
    '""', '" "', '"x"', '"\\u0000"', '"\\u0001"', '"\\u007f"', '"\\u0085"', '"\\u202e"', '"\\ufeff"', '"\\ud800"', '"\\udc00\\ud800"',
    '"\\r\\nSet-Cookie: a=b"', '"../../../etc/passwd"', '"%2e%2e%2f"', `"'; DROP TABLE users; --"`, '"=cmd|\'/c calc\'!A0"', '"{{ secret.x }}"',
    '"${x}"', '"*"', '"."', '".."', '"-"', '"administrator"', '"ADMINISTRATOR"', '"root"', '"ｒｏｏｔ"', '"ro\\u0456t"', '"root "', '"roo\\u0074"',
    quoted("x".repeat(64)), quoted("x".repeat(65)), quoted("€".repeat(22)), quoted("€".repeat(86)), quoted("x".repeat(4097)), quoted("x".repeat(70_000)),
    "[]", "[[]]", "[null]", '[""]', '["x","x"]', '["x",1]', `[${Array(2000).fill('"x"').join(",")}]`, `[${Array.from({ length: 101 }, (_, i) => `"r${i}"`).join(",")}]`,
    "{}", '{"x":1}', '{"permissions":"status.read"}', '{"permissions":["everything"]}', '{"operations":[{}]}', '{"operations":{}}',
    '{"operations":[{"upstream":"*","operation":"*","access":"admin"}]}', '{"operations":[{"upstream":"","operation":"","access":"write"}]}',
    '{"__proto__":{}}', `${"[".repeat(12)}${"]".repeat(12)}`, `${'{"a":'.repeat(12)}1${"}".repeat(12)}`, `${"[".repeat(500)}${"]".repeat(500)}`,
];
/** Bodies that are none. */
const BODIES: string[] = [
    "", " ", "null", "true", "1", '"x"', "[]", "[{}]", "{", "}", "{}{}", "{} x", "{,}", '{"a"}', '{"a":}', '{"a":1,}', "{'a':1}", '{"a":1 "b":2}', "// x\n{}",
    '\ufeff{}', '{"a":NaN}', '{"a":01}', '{"a":+1}', '{"a":.5}', '{"a":"\n"}', '{"a":"\\x"}', '{"":1}', '{"\\u0000":1}',
    `{${quoted("€".repeat(40))}:1}`, `{${quoted(`a${"€".repeat(40)}`)}:1}`, `{${quoted("x".repeat(60_000))}:1}`, `{"a":1,"a":1}`, `{"a":1,"\\u0061":1}`,
    `{${Array.from({ length: 1001 }, (_, i) => `"k${i}":1`).join(",")}}`, `[${Array(21_000).fill(1).join(",")}]`,
];
const QUERIES: string[] = [
    "", "=", "==", "%", "%0", "%zz", "%00", "%ff", "%c0%ae", "%e2%82", "a%00b", "%0d%0a", "..%2f", "*", "-1", "0", "1", "201", "1e1", "0x10", " 1".replace(" ", "%20"),
    "9223372036854775808", "18446744073709551616", "AA", "AAAA", "!!!!", "Li4vLi4v", "x".repeat(1025), "x".repeat(5000), "%e2%82%ac".repeat(86), "'%20OR%201=1", "%25", "_", "!",
];
const OBJECTS: string[] = [
    "%00", "%2e", "%2E%2e", "..%2f..", "%2f", "%5c", "%ff", "%c0%af", "%ed%a0%80", "x%0ay", "%20", "a%20b", "x".repeat(512), "x".repeat(513), "x".repeat(4000), "%e2%82%ac".repeat(60),
    "A".repeat(22), "-".repeat(22), "'", "\"", "*", "%25", "{user}", "~", "root%00", "ROOT", "administrator",
].map((text) => text.replace('"', "%22"));

/** Something that the schema of a member takes. */
function fine(schema: Schema): unknown {
    const own = resolved(document, schema);
    if (own.enum !== undefined) return own.enum[0];
    switch (Array.isArray(own.type) ? own.type[0] : own.type) {
        case "integer":
        case "number":
            return own.minimum ?? 1;
        case "boolean":
            return false;
        case "array":
            return [];
        case "object":
            return Object.fromEntries((own.required ?? []).map((name) => [name, fine(own.properties![name]!)]));
        default:
            return "x".repeat(Math.max(1, own.minLength ?? 1));
    }
}
const sample = (body: Schema): Record<string, unknown> => fine(body) as Record<string, unknown>;

/* Not what ends or locks out the one that asks. */
const isTried = (route: Route): boolean => !["/api/v1/logout", "/api/v1/events"].includes(route.path);
const pathOf = (route: Route, object = "victim", query = ""): string => {
    const required = route.parameters.filter((item) => item.in === "query" && item.required);
    const all = [...required.map((item) => `${item.name}=${encodeURIComponent(String(fine(item.schema)))}`), query].filter((item) => item !== "");
    return route.path.replace(/\{\w+\}/g, object) + (all.length === 0 ? "" : `?${all.join("&")}`);
};

/* --- what has to be --- */

let asked = 0;

function isFine(what: string, answer: Answer): void {
    const shown = `${what.slice(0, 300)}: ${answer.status} ${answer.text.slice(0, 500)}`;
    assert.ok(answer.status < 500 || (answer.status === 503 && /does not tell|wait|too many/.test(answer.text)), shown);
    assert.ok(!answer.text.includes("\ufffd"), `not UTF-8: ${shown}`);
    assert.doesNotMatch(answer.text, /sqlite|SELECT |errno|\.c:\d/i, shown);
    if (answer.status >= 400) {
        assert.equal(answer.headers["content-type"], "application/problem+json", shown);
        assert.ok(answer.json.detail.length > 0, shown);
    }
    for (const name of ["location", "x-csrf-token"]) assert.doesNotMatch(String(answer.headers[name] ?? ""), /[^\x21-\x7e]/, shown);
    assert.notEqual(answer.status, 401, `whoever asks is still somebody: ${shown}`);
    asked++;
}

async function send(route: Route, path: string, raw: string): Promise<void> {
    const isPublic = route.permission === "public";
    const headers = { ...(route.needsMatch ? { "if-match": "*" } : {}), "content-type": "application/json" };
    const answer = await root.ask(route.method, path, { raw, headers, anonymous: isPublic });
    if (isPublic && answer.status === 401) return;
    isFine(`${route.method} ${path} ${raw}`, answer);
}

describe("what the document does not allow", () => {
    test("members of bodies", { timeout: 140_000 }, async () => {
        for (const route of routes.filter((item) => isTried(item) && item.body !== undefined)) {
            for (const name of Object.keys(route.body!.properties ?? {})) {
                for (const value of VALUES) {
                    const rest = Object.entries(sample(route.body!)).filter(([key]) => key !== name);
                    await send(route, pathOf(route), `{${[...rest.map(([key, item]) => `${quoted(key)}:${JSON.stringify(item)}`), `${quoted(name)}:${value}`].join(",")}}`);
                }
            }
        }
    });

    test("bodies", async () => {
        for (const route of routes.filter((item) => isTried(item) && item.body !== undefined)) {
            for (const body of BODIES) {
                const headers = { ...(route.needsMatch ? { "if-match": "*" } : {}), "content-type": "application/json" };
                const answer = await root.ask(route.method, pathOf(route), { raw: body, headers, anonymous: route.permission === "public" });
                isFine(`${route.name} ${body}`, answer);
                assert.ok([400, 413, 415, 422].includes(answer.status) || body === "", `${route.name} ${body}: ${answer.status} ${answer.text}`);
            }
        }
    });

    test("queries", async () => {
        for (const route of routes.filter(isTried)) {
            const named = route.parameters.filter((item: Parameter) => item.in === "query");
            for (const value of QUERIES) {
                for (const { name, required } of named) {
                    const others = route.parameters.filter((item) => item.in === "query" && item.required && item.name !== name);
                    const query = [...others.map((item) => `${item.name}=${String(fine(item.schema))}`), `${name}=${value}`].join("&");
                    const path = `${route.path.replace(/\{\w+\}/g, "victim")}?${query}`;
                    if (route.method !== "GET" && !required) continue;
                    isFine(`${route.method} ${path}`, await root.ask(route.method, path, route.needsMatch ? { headers: { "if-match": "*" } } : {}));
                }
            }
            for (const query of ["&", "a", "a=b", `${"€".repeat(30)}=1`, `a${"€".repeat(30)}=1`, "__proto__=1", "limit=1;limit=2", "limit[]=1", "x".repeat(3000)]) {
                const path = pathOf(route, "victim", query.replace(/€/g, "%e2%82%ac"));
                const answer = await root.ask(route.method, path, route.body === undefined ? {} : { body: sample(route.body) });
                isFine(`${route.method} ${path}`, answer);
                assert.ok(answer.status >= 400, `${path}: ${answer.status}`);
            }
        }
    });

    test("objects", async () => {
        for (const route of routes.filter((item) => isTried(item) && item.path.includes("{"))) {
            for (const object of OBJECTS) {
                if (route.method === "DELETE" && /root|administrator/i.test(object)) continue;
                if (/password$/.test(route.path) && /root/i.test(object)) continue;
                const asking = { ...(route.body === undefined ? {} : { body: { ...sample(route.body) } }), headers: { "if-match": '"77"' } };
                isFine(`${route.method} ${pathOf(route, object)}`, await root.ask(route.method, pathOf(route, object), asking));
            }
        }
    });

    test("versions", async () => {
        for (const route of routes.filter((item) => item.needsMatch)) {
            for (const tag of ['""', '"0"', '"01"', '"-1"', '"18446744073709551615"', '"18446744073709551616"', '"1', "1", '"1""2"', '"1", *', "*, *", "W/*", 'w/"1"', '"\t"', "x".repeat(3000)]) {
                const asking = { ...(route.body === undefined ? {} : { body: {} }), headers: { "if-match": tag } };
                const answer = await root.ask(route.method, pathOf(route), asking);
                isFine(`${route.name} If-Match: ${tag}`, answer);
                assert.ok([400, 404, 412].includes(answer.status), `${tag}: ${answer.status} ${answer.text}`);
            }
        }
    });
});

describe("afterwards", () => {
    test("it is the gateway that it was, and its trail is text", async () => {
        assert.ok(asked > 3000, `${asked} were asked`);
        const session = await root.get("/api/v1/session");
        assert.equal(session.status, 200, session.text);
        assert.equal(session.json.user.name, "root");
        const roles = (await root.get("/api/v1/users/root")).json.roles as string[];
        assert.deepEqual(roles, ["administrator"]);
        assert.equal((await admin.login("root", PASSWORD).catch((error: Error) => error.message.includes(" 429 "))) !== false, true);
        for (const { text } of new Reader(admin.gateway.dataDir).more()) {
            assert.ok(!text.includes("\ufffd"), `not UTF-8: ${text.slice(0, 300)}`);
            assert.ok(text.length < 40_000, `a record of ${text.length} bytes`);
        }
    });
});
