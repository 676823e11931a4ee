/* Clients that subscribe in their session, and those of 2026-07-28 that listen. */
import type { RpcMessage } from "../integration/lib/control.ts";
import { summary } from "./books.ts";
import type { Visitor } from "./clients.ts";
import { changed, Hearing, LISTS, RESOURCES, uriOf } from "./news.ts";
import { pause } from "./random.ts";
import { late, type Upstream } from "./world.ts";

export type Ask = (method: string, params: object, isSure: boolean) => Promise<RpcMessage | undefined>;

/** Some that there are, of this server or of any that this client can use. */
function someUris({ world, random }: Visitor, upstream: Upstream | undefined, isModern: boolean): Map<string, Upstream> {
    const fit = world.upstreams.filter((each) => !(isModern && each.isPerSession));
    return new Map(
        Array.from({ length: random.int(1, 5) }, () => {
            const from = upstream ?? random.pick(random.chance(0.6) ? fit.filter(({ isCalm }) => isCalm) : fit);
            return [uriOf(from.name, random.int(0, RESOURCES - 1)), from];
        }),
    );
}

const tellerOf = ({ world }: Visitor, { name, isCalm }: Upstream) => (isCalm ? world.tellers.get(name) : undefined);

/** The client of a session subscribes; end() unsubscribes from some of it. */
export async function inSession(
    visitor: Visitor,
    hearing: Hearing,
    ask: Ask,
    upstream: Upstream | undefined,
): Promise<{ end(): Promise<void> } | undefined> {
    const { random } = visitor;
    const uris: string[] = [];
    for (const [uri, from] of random.chance(0.6) ? someUris(visitor, upstream, false) : []) {
        hearing.expect(uri, tellerOf(visitor, from));
        const answer = await ask("resources/subscribe", { uri }, from.isCalm);
        if (answer === undefined) continue;
        hearing.owe(uri);
        uris.push(uri);
    }
    return {
        end: async () => {
            for (const uri of uris) {
                if (!random.chance(0.3)) continue;
                hearing.release(uri);
                await ask("resources/unsubscribe", { uri }, true);
            }
        },
    };
}

/** What is acknowledged of what was asked for; a string: what is wrong with it. */
function honoured(
    message: RpcMessage,
    asked: { [key: string]: unknown },
    uris: Map<string, Upstream>,
): string[] | string {
    const { notifications = {} } = (message.params ?? {}) as { notifications?: { [key: string]: unknown } };
    if (message.method !== "notifications/subscriptions/acknowledged") return "no acknowledgement";
    for (const key of Object.keys(notifications)) {
        if (key !== "resourceSubscriptions" && asked[key] !== true) return `${key} was not asked for`;
    }
    const found = (notifications.resourceSubscriptions ?? []) as string[];
    const foreign = found.find((uri) => !uris.has(uri));
    if (foreign !== undefined) return `${foreign} was not asked for`;
    const missing = [...uris].find(([uri, { isCalm }]) => isCalm && !found.includes(uri));
    return missing === undefined ? found : `${missing[0]} is not honoured`;
}

/** subscriptions/listen: hears of some things for a while, and hangs up. */
export async function listen(visitor: Visitor): Promise<void> {
    const { world, random } = visitor;
    const { books, limitMs } = world;
    const place = visitor.place();
    if (place.upstream?.isPerSession) return visitor.legacy();
    const speaker = visitor.modernSpeaker(place.path, place.upstream);
    const id = random.chance(0.5) ? speaker.nextId() : `listen ${random.int(1, 1_000_000)}`;
    const uris = random.chance(0.8) ? someUris(visitor, place.upstream, true) : new Map<string, Upstream>();
    const lists = LISTS.filter(() => random.chance(0.5));
    const asked: { [key: string]: unknown } = {
        ...Object.fromEntries(lists.map((list) => [`${list}ListChanged`, true])),
        ...(uris.size > 0 ? { resourceSubscriptions: [...uris.keys()] } : {}),
    };
    const wire = visitor.wire("listens");
    const hearing = new Hearing(books, wire.trace, id);
    for (const list of lists) hearing.lists.add(changed(list));
    for (const [uri, from] of uris) hearing.expect(uri, tellerOf(visitor, from));
    let began: (isWell: boolean) => void;
    let isBegun = false;
    let isLeaving = false;
    const beginning = new Promise<boolean>((resolve) => (began = resolve));
    const onMessage = (message: RpcMessage) => {
        if (isLeaving) return;
        if (isBegun && message.method !== undefined) return hearing.take(message);
        const found = isBegun ? `an answer: ${JSON.stringify(message)}` : honoured(message, asked, uris);
        if (typeof found === "string") books.violation(`listens, but ${found}: ${summary(message)}`, wire.trace);
        else for (const uri of found) hearing.owe(uri);
        isBegun = true;
        began(typeof found !== "string");
    };
    const stream = wire.request({ ...speaker.request("subscriptions/listen", { notifications: asked }, id), onMessage });
    void stream.then((response) => {
        began(false);
        if (!isLeaving) books.violation(`a listen ends by itself: ${JSON.stringify(response)}`, wire.trace);
    });
    const isHasty = random.chance(0.15);
    const isWell = await late(beginning, isHasty ? random.int(0, 100) : limitMs);
    if (isWell === "late" && !isHasty) books.violation("a listen is not acknowledged", wire.trace);
    if (isWell === true) {
        if (random.chance(0.5)) await visitor.calls(speaker, "beside a listen");
        else await pause(random.int(0, 4000));
        if (random.chance(0.6)) await hearing.catchUp(limitMs);
    }
    isLeaving = true;
    wire.close(random.chance(0.5));
}
