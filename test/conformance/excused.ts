/*
 * What may come out worse through the gateway than at the server alone for now: scenarios, or single checks as
 * "scenario: check", each with its reason. What comes out as well although it is listed here fails the test: then its
 * line goes.
 */
export type Excuses = { [scenario: string]: string };

const OF_ITS_ERA = "what a server of the era before asks has no key of its own, and its tools know no envelope";
const SAYS_NOTHING = "a server of the era before does not say that it lacks a capability of the client";
const ONE_ANSWER = "the gateway answers with JSON when there is nothing to stream, so there is no stream to look at";
const HOLDS_ON = "the gateway asks a server again that has ended its stream, and meanwhile its client keeps its own";
const SAYS_AT_ONCE = "with a server of 2026-07-28, which ends no streams, the answer is there at once, as JSON";

const legacyClient: Excuses = {
    "server-sse-multiple-streams: server-sse-streams-functional": ONE_ANSWER,
    "server-sse-polling: server-sse-disconnect-resume": HOLDS_ON,
};

const legacyClientOfModernServer: Excuses = {
    ...legacyClient,
    "server-sse-polling: server-sse-priming-event": SAYS_AT_ONCE,
    "server-sse-polling: server-sse-retry-field": SAYS_AT_ONCE,
    "server-sse-polling: server-sse-disconnect-resume": SAYS_AT_ONCE,
};

const modernClient: Excuses = {
};

const modernClientOfLegacyServer: Excuses = {
    ...modernClient,
    "server-stateless: sep-2575-server-rejects-undeclared-capability": SAYS_NOTHING,
    "server-stateless: sep-2575-missing-capability-http-400": SAYS_NOTHING,
    "input-required-result-basic-elicitation": OF_ITS_ERA,
    "input-required-result-capability-check": OF_ITS_ERA,
    "input-required-result-ignore-extra-params": OF_ITS_ERA,
};

/** by the revision of the client, and the eras that the server behind the gateway speaks */
export const excused: { [client: string]: { [eras: string]: Excuses } } = {
    "2025-11-25": { legacy: legacyClient, both: legacyClientOfModernServer },
    "2026-07-28": { legacy: modernClientOfLegacyServer, both: modernClient },
};

/** scenarios with clients of 2025-06-18 and before */
export const excusedForOlder: Excuses = {};

/** scenarios of the suite for clients */
export const excusedForClients: Excuses = {
};
