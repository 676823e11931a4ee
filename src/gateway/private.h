/*
 * What the files of gateway/ share. A request travels through them in this order:
 *
 *     worker.c      runs the loops
 *     door.c        accepts, or refuses when there are too many (peers.h)
 *     opening.c     before HTTP: the PROXY header, the TLS handshake
 *     connection.c  bytes to HTTP messages and back
 *     phases.c      what the head of a request decides, before its body
 *     border.c      who may come near (border.h): origin.c whose hosts, cors.c whose pages
 *     metadata.c    where tokens come from
 *     authn.c       who is calling (principals.c: whose state is whose)
 *     generation.c  what is exchanged when the configuration is (reload.c: how)
 *     exchange.c    one HTTP request and its answer (JSON or SSE)
 *     message.c     one JSON-RPC message: its era, then the session, notifications, batches
 *     modern.c      what a request of 2026-07-28 has to carry
 *     call.c        a request that is being answered: its life, waiting, answers
 *     waiting.c     requests beyond those that a principal may have running (admission.h)
 *     pressure.c    what happens when a client does not read
 *     methods.c     the table of methods; those that the gateway answers by itself
 *     offers.c      what servers declare that the gateway has no name for
 *     view.c        what a caller sees of the upstreams
 *     access.c      what it may do with it (policy/); edit.c the switch that lets writes through;
 *                   definitions.c what tools were when they were seen first
 *     units.c       how often (limits/)
 *     lists.c       merged lists        route.c  one call to one upstream
 *     cache.c       how long clients may keep these
 *     ask.c         what a server asks of a client with a session (asked.h: for the record)
 *     input.c       ... when it is of 2026-07-28, and answers that it wants input
 *     rounds.c      ... when the client is, and comes back with it
 *     parked.c      calls that wait for that
 *     seal.c        texts that clients keep for us: request_state.c what such a client brings back,
 *                   task_id.c ids of tasks
 *     tasks.c       requests about tasks    task_run.c  tasks that no client knows of
 *     task_place.c  where they are      task_request.c  requests of ours about them
 *     task_notes.c  what servers tell of tasks on their own
 *     task_news.c   ... to who listens
 *     token.c       whose access token may be used for which upstream
 *     record.c      what of all that is written into the audit trail (record_request.c: of requests
 *                   that are no calls)
 *     session.c     legacy sessions     notify.c what upstreams tell on their own
 *     listen.c      the same for clients of 2026-07-28, who listen instead
 *     subscriptions.c  what either has subscribed to    subscription_renew.c  ... again
 *     replay.c      what their streams have said (replay.h); resume.c a client comes back for it
 *     sse.c         clients of HTTP+SSE: their stream, and the messages that are POSTed for it
 *
 * Four headers have what they share: state.h what lives longer than a request, request.h a
 * connection and an HTTP request, call.h what becomes of a JSON-RPC message, record.h what is
 * recorded of it.
 */
#pragma once

#include "call.h"
#include "request.h"
#include "state.h"
