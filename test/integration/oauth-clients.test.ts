/*
 * The official SDKs' OAuth clients, which know nothing but a URL: from the first 401 over the resource's metadata
 * (RFC 9728), the authorization server's (RFC 8414), registration (RFC 7591), authorization with PKCE and the resource
 * (RFC 8707) to a token and the call that was meant; and further, when a call needs more scopes.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { UnauthorizedError as OldUnauthorized } from "@modelcontextprotocol/sdk/client/auth.js";
import { Client as OldClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as OldTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from "@modelcontextprotocol/client";

import { MODERN } from "./fixtures/brain.ts";
import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { startIssuer, type Issuer } from "./lib/issuer.ts";
import { claims, startProtected, Wallet, type Protected } from "./lib/oauth.ts";
import { within } from "./lib/wait.ts";

interface Peer {
    /** the text of a tool's result */
    call(name: string, args?: object): Promise<string>;
    close(): Promise<void>;
}

type Connect = (url: string, wallet: Wallet) => Promise<Peer>;

const said = (result: unknown): string => (result as { content: { text: string }[] }).content[0]!.text;

/** Does it, after a visit to the authorization server if one is asked for; no more than one. */
async function authorized<T>(act: () => Promise<T>, finish: () => Promise<void>): Promise<T> {
    try {
        return await within(act(), "an answer, or that somebody has to log in");
    } catch (error) {
        if (!(error instanceof OldUnauthorized) && !(error instanceof UnauthorizedError)) throw error;
    }
    await within(finish(), "the code is a token");
    return within(act(), "an answer after the login");
}

async function oldSdk(url: string, wallet: Wallet): Promise<Peer> {
    let client: OldClient;
    let transport: OldTransport;
    const finish = () => transport.finishAuth(wallet.answer!.searchParams.get("code")!);
    await authorized(async () => {
        client = new OldClient({ name: "sdk-1", version: "1" });
        transport = new OldTransport(new URL(url), { authProvider: wallet.old });
        await client.connect(transport);
    }, finish);
    return {
        call: async (name, args = {}) =>
            said(await authorized(() => client.callTool({ name, arguments: args as never }), finish)),
        close: async () => {
            await transport.terminateSession();
            await client.close();
        },
    };
}

const newSdk =
    (mode: "legacy" | "auto" | { pin: string }): Connect =>
    async (url, wallet) => {
        let client: Client;
        let transport: StreamableHTTPClientTransport;
        const finish = () => transport.finishAuth(wallet.answer!.searchParams);
        await authorized(async () => {
            client = new Client({ name: "sdk-2", version: "1" }, { versionNegotiation: { mode } });
            transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: wallet.new });
            await client.connect(transport);
        }, finish);
        return {
            call: async (name, args = {}) =>
                said(await authorized(() => client.callTool({ name, arguments: args as never }), finish)),
            close: async () => {
                await transport.terminateSession();
                await client.close();
            },
        };
    };

const SDKS: { [name: string]: Connect } = {
    "SDK 1.x": oldSdk,
    "SDK 2.x legacy": newSdk("legacy"),
    "SDK 2.x auto": newSdk("auto"),
    "SDK 2.x modern": newSdk({ pin: MODERN }),
};

const scopes = (text: unknown): string[] => String(text).split(" ").sort();

describe("the SDKs' OAuth clients", { concurrency: 2 }, () => {
    let fixture: HttpFixture;
    let issuer: Issuer;
    let here: Protected;
    before(async () => {
        fixture = await startHttp({ name: "one" });
        issuer = await startIssuer(undefined, { path: "/tenant" });
        here = await startProtected(undefined, {
            oauth: { issuer: issuer.url, scopes: ["mcp:use"], token_type: "at+jwt" },
            servers: {
                one: { url: fixture.url },
                files: { url: fixture.url, scopes: ["files:read"], tools: { count: { scopes: ["files:write"] } } },
            },
        });
    });
    after(async () => {
        await here?.gateway.stop();
        await issuer?.down();
        await fixture?.close();
    });

    for (const [name, connect] of Object.entries(SDKS)) {
        test(`${name}: from nothing to a call`, async () => {
            const wallet = new Wallet();
            const peer = await connect(here.gateway.url, wallet);
            assert.equal(await peer.call("one__echo", { text: "hello" }), "hello");
            assert.equal(wallet.registrations, 1);
            assert.equal(wallet.asked.length, 1);
            const { searchParams: asked } = wallet.asked[0]!;
            assert.equal(asked.get("resource"), here.resource);
            assert.equal(asked.get("code_challenge_method"), "S256");
            assert.deepEqual(scopes(asked.get("scope")), ["mcp:use"], "no more than it needs");
            const token = claims(wallet.tokens!.access_token);
            assert.equal(token.aud, here.resource);
            assert.equal(token.iss, issuer.url);
            assert.equal(token.sub, "alice");
            await peer.close();
        });

        test(`${name}: more scopes, when a call needs them`, async () => {
            const wallet = new Wallet();
            const peer = await connect(here.gateway.url, wallet);
            const runs = fixture.brain.runs.get("count") ?? 0;
            assert.match(await peer.call("files__count"), /^\d+$/);
            assert.ok(fixture.brain.runs.get("count")! > runs);
            assert.equal(wallet.asked.length, 2, "asked once more, for all at once");
            assert.deepEqual(scopes(claims(wallet.tokens!.access_token).scope), [
                "files:read",
                "files:write",
                "mcp:use",
            ]);
            assert.equal(wallet.registrations, 1);
            // The new token is good for what the old one was good for.
            assert.equal(await peer.call("one__echo", { text: "still" }), "still");
            assert.equal(await peer.call("files__echo", { text: "too" }), "too");
            assert.equal(wallet.asked.length, 2);
            await peer.close();
        });

        test(`${name}: the endpoint of one server`, async () => {
            const wallet = new Wallet();
            const peer = await connect(`${here.gateway.url}/one`, wallet);
            assert.equal(await peer.call("echo", { text: "hello" }), "hello");
            assert.equal(wallet.asked[0]!.searchParams.get("resource"), `${here.resource}/one`);
            assert.equal(claims(wallet.tokens!.access_token).aud, `${here.resource}/one`);
            await peer.close();
        });

        test(`${name}: a wallet that has a token needs nobody to log in`, async () => {
            const wallet = new Wallet();
            await (await connect(here.gateway.url, wallet)).close();
            const again = await connect(here.gateway.url, wallet);
            assert.equal(await again.call("one__echo", { text: "again" }), "again");
            assert.equal(wallet.asked.length, 1);
            await again.close();
        });
    }

    test("two users of one client are two callers", async () => {
        const [alice, bob] = [new Wallet({ user: "alice" }), new Wallet({ user: "bob" })];
        const peers = await Promise.all([oldSdk(here.gateway.url, alice), oldSdk(here.gateway.url, bob)]);
        assert.deepEqual(
            await Promise.all(peers.map((peer, n) => peer.call("one__echo", { text: `I am ${n}` }))),
            ["I am 0", "I am 1"],
        );
        const principals = new Set(here.gateway.log.items.map((entry) => entry.principal));
        assert.ok(principals.has(`oauth:${issuer.url} alice`) && principals.has(`oauth:${issuer.url} bob`));
        await Promise.all(peers.map((peer) => peer.close()));
    });
});
