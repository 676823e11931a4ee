/* Clients that are asked in the midst of a call: what they say, and whether they come back at all. */
import { summary, type Call } from "./books.ts";
import type { Visitor } from "./clients.ts";
import { pause, type Random } from "./random.ts";
import type { Wire } from "./wire.ts";
import { late, type Speaker } from "./world.ts";

/** A call that its client has left while the gateway may wait for it. */
export interface Left {
    speaker: Speaker;
    call: Call;
    /** of the request that ends it */
    params: { [key: string]: unknown };
}

const MOST_LEFT = 8;

const resultFor = (call: Call, said: string): object =>
    said === "accept" ? { action: said, content: { said: call.wish.nonce } } : { action: said };

/** After a while; undefined: nothing, until the server gives up. */
export async function answerQuestion(random: Random, call: Call): Promise<object | undefined> {
    const said = random.weighted({ accept: 80, decline: 8, cancel: 5, nothing: call.maySayNothing === true ? 7 : 0 });
    await pause(random.int(0, 200));
    if (said === "nothing") return undefined;
    call.said = said;
    return resultFor(call, said);
}

/** The client of a call that wants input: it calls again with that, or does not. */
export async function comeBack(
    visitor: Visitor,
    first: Wire,
    speaker: Speaker,
    call: Call,
    params: { [key: string]: unknown },
): Promise<void> {
    const { world, random } = visitor;
    const { books } = world;
    const isParked = world.upstreams.some(({ name, era }) => name === call.upstream && era !== "modern");
    for (let wire = first, round = 1; ; round++) {
        const { inputRequests, requestState } = call.wanted!;
        const asked = Object.entries(inputRequests ?? {});
        const message = { id: call.id, result: { inputRequests } };
        if (asked.length !== 1) books.violation(`${asked.length} questions: ${books.describe(call)}`, call.trace);
        if (asked.length !== 1 || !books.asked(call, message, asked[0]![1].params)) return books.drop(call, "given up");
        const [key] = asked[0]!;
        const answered = (said: string) => ({ ...params, requestState, inputResponses: { [key]: resultFor(call, said) } });
        const never = round === 1 && world.left.length < MOST_LEFT ? 8 : 0;
        const fate = random.weighted({ accept: 60, decline: 8, cancel: 4, empty: round < 3 ? 8 : 0, never, hangup: 8 });
        await pause(random.int(0, 300));
        if (fate === "never") {
            books.drop(call, "does not come back");
            world.left.push({ speaker, call, params: answered("accept") });
            return undefined;
        }
        delete call.wanted;
        call.id = speaker.nextId();
        if (fate !== "empty") call.said = fate === "hangup" ? "accept" : fate;
        const again = call.said === undefined ? { ...params, requestState, inputResponses: {} } : answered(call.said);
        if (wire.isClosed) wire = visitor.wire("comes back");
        const onMessage = visitor.taker([call], wire.trace, speaker);
        const pending = wire.request({ ...speaker.request("tools/call", again, call.id), onMessage });
        if (fate === "hangup") {
            await late(pending, random.int(0, 100));
            books.drop(call, "hung up when it had come back");
            wire.close(random.chance(0.5));
            // The gateway may not have seen the request at all.
            if (isParked) world.left.push({ speaker, call, params: again });
            return undefined;
        }
        const response = await late(pending, world.limitMs);
        const isAsked = call.wanted !== undefined && response !== "late" && response.broken === undefined;
        if (!isAsked) return visitor.conclude(call, response);
    }
}

/** What the call comes to does not matter any more; afterwards nothing waits for its client. */
export async function comeBackLate(visitor: Visitor, { speaker, call, params }: Left): Promise<void> {
    const { books, limitMs, asking } = visitor.world;
    const wire = visitor.wire("comes back late");
    const request = speaker.request("tools/call", params, speaker.nextId());
    const onMessage = (message: object) => {
        const foreign = /[0-9a-z]+-\d+-\d+/.exec(JSON.stringify(message))?.[0];
        if (foreign !== undefined && foreign !== call.wish.nonce)
            books.violation(`the answer of another to ${books.describe(call)}: ${summary(message)}`, wire.trace);
    };
    const response = await late(wire.request({ ...request, onMessage }), limitMs);
    if (response === "late" || response.broken !== undefined)
        books.violation(`no end for who came back late: ${books.describe(call)}`, wire.trace);
    wire.close();
    asking.delete(call);
}
