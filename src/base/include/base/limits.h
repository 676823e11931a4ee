/*
 * Every limit on what a peer can grow, in one place. Sizes in bytes, times in milliseconds. What is
 * configurable is a row of the option table (config/), whose default and bounds come from here.
 */
#pragma once

#define KIB(n) ((size_t)(n)*1024u)
#define MIB(n) ((size_t)(n)*1024u * 1024u)
#define GIB(n) (MIB(n) * 1024u)

/* HTTP, from clients and from upstreams. */
#define LIMIT_HTTP_HEADER_BLOCK     KIB(32) /* start line and fields together */
#define LIMIT_HTTP_START_LINE       KIB(8)
#define LIMIT_HTTP_FIELDS           100u
#define LIMIT_HTTP_FIELD_LINE       KIB(16)
#define LIMIT_HTTP_CHUNK_LINE       256u /* size and extensions */
#define LIMIT_HTTP_CHUNK_DIGITS     16u
#define LIMIT_HTTP_CHUNK_EXTENSIONS KIB(16) /* of one body, together */
#define LIMIT_HTTP_TRAILERS         KIB(8)
#define LIMIT_REQUEST_BODY          MIB(4)
#define LIMIT_UPSTREAM_MESSAGE      MIB(10) /* one JSON-RPC message: a line, a body, an event */
#define LIMIT_URI                   KIB(8)

/* Connections of clients. */
#define LIMIT_CONNECTIONS             32768u /* fewer where the process may not open as many */
#define LIMIT_CONNECTIONS_PER_ADDRESS 16384u
#define LIMIT_HEADER_MS               10000u   /* a whole head, once begun, however it drips in */
#define LIMIT_BODY_MS                 30000u   /* between bytes of a body */
#define LIMIT_BODY_RATE               KIB(1)   /* bytes a second of a body, beside that time */
#define LIMIT_WRITE_MS                30000u   /* between bytes that a client reads of what waits */
#define LIMIT_UNREAD                  KIB(256) /* that waits: then nothing more is fetched for it */
#define LIMIT_PIPELINED               KIB(64)  /* of requests behind the one that is answered */
#define LIMIT_CLIENT_IDLE_MS          120000u  /* between requests */
#define LIMIT_KEEPALIVE_MS            15000u   /* between comments on an open stream */
#define LIMIT_IN_FLIGHT               32u      /* calls of one principal */
#define LIMIT_WAIT_MS                 30000u   /* of requests beyond that */

/* SSE. */
#define LIMIT_SSE_LINE_OVERHEAD KIB(1) /* of a line beyond the data that it carries */

/* JSON. */
#define LIMIT_JSON_DEPTH      64u
#define LIMIT_JSON_KEYS       10000u
#define LIMIT_JSON_TAPE_NODES 200000u /* entries asked for in one document */

/* JSON-RPC and MCP. */
#define LIMIT_RPC_METHOD         128u
#define LIMIT_RPC_ID             KIB(1)
#define LIMIT_TOOLS_PER_UPSTREAM 1000u
#define LIMIT_DEFINITION         KIB(256)
#define LIMIT_SUBSCRIPTIONS      256u /* resources and tasks that a session, or a listen, hears of */
#define LIMIT_CARRIED            256u /* POSTs of an HTTP+SSE session that are being answered */
#define LIMIT_BATCH              100u /* messages of one (2025-03-26) */
#define LIMIT_CANCEL_REASON      200u /* bytes that are passed on */
#define LIMIT_LIST_PAGES         100u /* pages that are read of one upstream's list */
#define LIMIT_EXPOSED_NAME       64u
#define LIMIT_URI_LENGTH         KIB(8)

/* What is kept for clients whose connection breaks (gateway/replay.h). */
#define LIMIT_REPLAY_EVENTS    256u     /* of one session */
#define LIMIT_REPLAY_BYTES     KIB(256) /* ... unless server.resume_buffer says otherwise */
#define LIMIT_REPLAY_STREAMS   64u
#define LIMIT_REPLAY_MS        (5u * 60 * 1000) /* of a stream, after its end */
#define LIMIT_REPLAY_HELD      MIB(64)          /* of all sessions together */
#define LIMIT_REPLAY_PRINCIPAL MIB(16)          /* ... of one principal */
#define LIMIT_REPLAY_RETRY_MS  1000u            /* that a client waits before it comes back */

#define LIMIT_MIRRORS      32u /* tool arguments that are repeated in header fields */
#define LIMIT_MIRROR_DEPTH 16u /* of objects around such an argument */

/* What is declared, as it is written. */
#define LIMIT_CAPABILITIES KIB(16) /* of a server */
#define LIMIT_EXTENSIONS   KIB(8)  /* of a session's client, and as much of experiments */
#define LIMIT_OFFERS       KIB(64) /* of servers, told to one client */

/* What servers send. */
#define LIMIT_GARBAGE_LINES        1000u /* of a child, that are no messages, in its life */
#define LIMIT_GARBAGE_MESSAGES     10u   /* of an HTTP server, in one answer */
#define LIMIT_REFUSED_REQUESTS     100u  /* in one answer, that are answered at all */
#define LIMIT_ASKS                 16u   /* of the server of one call, unanswered by its client */
#define LIMIT_PARKED               32u   /* calls of one principal that wait for input */
#define LIMIT_INPUT_ROUNDS         8u    /* of a call whose server wants input again and again */
#define LIMIT_INPUT_PACE_MS        250u  /* between rounds in which nobody is asked */
#define LIMIT_TASK_ID              1024u /* bytes of a server's id of a task */
#define LIMIT_TASK_NAME            2048u /* bytes of what clients are given for one */
#define LIMIT_TASK_TOKENS          32u   /* of one session, whose progress is still told */
#define LIMIT_TASK_CURSOR          1000u /* bytes of a server's cursor of tasks/list */
#define LIMIT_TASK_POLL_LEAST_MS   250u  /* between two questions how far a task is */
#define LIMIT_TASK_POLL_USUAL_MS   1000u /* where the server does not say */
#define LIMIT_TASK_POLL_MOST_MS    30000u
#define LIMIT_TASK_POLL_FAILURES   3u                /* in a row, of which no answer came */
#define LIMIT_TASK_KEYS            65536u            /* bytes of keys of input that one has got */
#define LIMIT_ASK_MS               (10u * 60 * 1000) /* for the client to answer one */
#define LIMIT_WATCHES              4096u             /* of resources and tasks, at one instance */
#define LIMIT_WATCHED_BYTES        MIB(1)            /* of their URIs and ids together */
#define LIMIT_UPDATED              KIB(16) /* params of an update that are kept and passed on */
#define LIMIT_SESSION_ID           KIB(1)
#define LIMIT_SSE_ID               KIB(1)
#define LIMIT_ERROR_BODY           KIB(64) /* of an HTTP answer that is an error */
#define LIMIT_HTTP_INTERIM         8u      /* 1xx heads in front of one answer */
#define LIMIT_SERVER_QUEUE         200u    /* messages to one server that wait for their turn */
#define LIMIT_STDIN_QUEUE          MIB(16) /* to a child, before callers are refused */
#define LIMIT_STDERR_LINE          KIB(1)
#define LIMIT_STDERR_LINES         50u /* a second, into the log */
#define LIMIT_SERVER_LOGS          50u /* likewise, of notifications/message */
#define LIMIT_TEMPLATE_EXPRESSIONS 16u /* of one URI template */

/* Who is calling. */
#define LIMIT_JWT           KIB(16)
#define LIMIT_JWT_TRIES     16u      /* keys that one token is tried with */
#define LIMIT_JWKS          KIB(256) /* bytes of a set of keys, of an issuer's metadata */
#define LIMIT_JWKS_KEYS     64u
#define LIMIT_JWKS_FETCH_MS 10000u
#define LIMIT_JWKS_WAIT_MS  5000u  /* of a request whose key is not there yet */
#define LIMIT_JWKS_PAUSE_MS 30000u /* between two fetches because of unknown keys */
#define LIMIT_JWKS_STALE_MS (24u * 3600u * 1000u)

/* Tokens that are got for servers. */
#define LIMIT_TOKEN_ANSWER   KIB(64) /* of a token endpoint */
#define LIMIT_TOKEN_FETCH_MS 10000u  /* metadata and token together */
#define LIMIT_TOKEN_REQUESTS 32u     /* of one server at once; others wait for their turn */
#define LIMIT_TOKEN_PAUSE_MS 60000u  /* the longest after failures in a row */
#define LIMIT_REDIRECTS      3u      /* of a document that holds no secret; nothing else follows */
#define LIMIT_ALLOW_NETWORKS 64u
#define LIMIT_ISSUERS        32u
#define LIMIT_API_TOKENS     1000u
#define LIMIT_KNOWN_TOKENS   4096u   /* verified tokens that a worker remembers */
#define LIMIT_KNOWN_TOKEN_MS 300000u /* and for how long at most */
#define LIMIT_SCOPES         32u     /* that one server, tool or request can need */
#define LIMIT_GROUPS         256u    /* of one caller that are kept */
#define LIMIT_AUDIENCES      16u     /* of one token that are kept */
#define LIMIT_CLIENT_ID      256u    /* bytes of an identity that a claim or header gives */
#define LIMIT_PROXY_HEADER   KIB(4)  /* of the PROXY protocol, with what is behind the addresses */
#define LIMIT_FORWARDED      64u     /* addresses in X-Forwarded-For that are looked at */

/* What and how often. */
#define LIMIT_ACCESS_GROUPS    1000u /* in one allow or deny */
#define LIMIT_ARGUMENT_RULES   100u  /* of one tool */
#define LIMIT_ARGUMENT_VALUES  1000u /* in one allow or deny of an argument */
#define LIMIT_PATTERN          KIB(4)
#define LIMIT_PATTERN_STEPS    100000u  /* of one match */
#define LIMIT_PATTERN_WORK     1000000u /* steps of all matches of one call */
#define LIMIT_PATTERN_MEMORY   MIB(4)   /* of one match */
#define LIMIT_WHITELIST        10000u
#define LIMIT_RATE             1000000000u                 /* the largest limit */
#define LIMIT_RATE_INTERVAL_MS (24u * 24u * 3600u * 1000u) /* the longest interval: 24 days */
#define LIMIT_RATE_EXACT       1000u    /* up to which each unit is counted by itself */
#define LIMIT_RATE_LEVELS      8u       /* that one check takes together */
#define LIMIT_COUNTERS         1000000u /* in memory; beyond, those who come share what they have */
#define LIMIT_DEFINITIONS      10000u   /* of one upstream that are remembered */
#define LIMIT_REDIS_PENDING    10000u   /* checks of one worker that wait for Redis */
#define LIMIT_REDIS_REPLY      KIB(64)

/* Rights of a role or a token. */
#define LIMIT_RIGHTS         KIB(256) /* the document */
#define LIMIT_RIGHTS_GRANTS  256u     /* operations that it names */
#define LIMIT_RIGHTS_PATTERN 512u     /* bytes of a name with stars */
#define LIMIT_USERS          100000u
#define LIMIT_ROLES          1000u
#define LIMIT_ROLE_GROUPS    100u     /* of OAuth, that have one role */
#define LIMIT_USER_ROLES     32u      /* of one user */
#define LIMIT_USER_TOKENS    100u     /* of one user */
#define LIMIT_TOKEN_RIGHTS   KIB(256) /* the documents of all tokens of one user together */
#define LIMIT_DISPLAY_NAME   128u     /* bytes; of a user, a token */
#define LIMIT_DESCRIPTION    1024u    /* bytes; of a role */
#define LIMIT_TOKEN_DAYS     3650u

/* Certificates of the gateway. */
#define LIMIT_CERTIFICATE_NAMES 256u   /* in the gateway's own */
#define LIMIT_CERTIFICATE_FILE  MIB(1) /* a chain, a key, the authorities of clients */

#define LIMIT_REFUSAL_LINES 50u /* a second, of a worker, into the log */

/* The control socket. */
#define LIMIT_CONTROL_PEERS   32u
#define LIMIT_CONTROL_COMMAND KIB(64)

/* What is held for peers in all: then those who bring more are not read. */
#define LIMIT_HELD MIB(256)

/* Connections to upstreams. */
#define LIMIT_CONNECT_MS       10000u /* name, connection, proxy and TLS together */
#define LIMIT_DIAL_ADDRESSES   16u    /* of one name that are tried */
#define LIMIT_KEPT_CONNECTIONS 32u    /* idle, of one partition */
#define LIMIT_KEPT_IN_ALL      1024u  /* idle, of one worker */
#define LIMIT_KEPT_MS          4000u  /* idle, unless the server's Keep-Alive says otherwise */
#define LIMIT_HEADER_RULES     64u
#define LIMIT_SSE_RETRY_MS     30000u /* the longest pause that a server may ask for */

/* Calls. */
#define LIMIT_CALL_IDLE_MS       60000u
#define LIMIT_CALL_TOTAL_MS      (30u * 60u * 1000u)
#define LIMIT_UPSTREAM_IN_FLIGHT 1024u  /* that run on one upstream */
#define LIMIT_FAILURES           5u     /* in a row: then the upstream is left alone */
#define LIMIT_COOLDOWN_MS        30000u /* for this long */

/* The audit trail. */
#define LIMIT_AUDIT_BODY     KIB(64) /* of one record */
#define LIMIT_AUDIT_STRING   1024u   /* bytes of one text in it */
#define LIMIT_AUDIT_HELD     MIB(4)  /* of one worker, not written yet */
#define LIMIT_AUDIT_ROWS     256u    /* lines about strangers a minute */
#define LIMIT_AUDIT_RESERVE  MIB(4)  /* kept free for those who are known */
#define LIMIT_AUDIT_TORN     64u     /* files of what crashes tore off */
#define LIMIT_AUDIT_FINDINGS 1000u   /* that are told one by one */
#define LIMIT_AUDIT_PAGE     10000u  /* records of one page */
#define LIMIT_AUDIT_QUERY_MS 2000u   /* that one page is looked for */
#define LIMIT_REDACT_RULES   1000u   /* paths; patterns */

/* The store. */
#define LIMIT_STORE_SILENCE_MS 30000u /* after which tokens of its users are refused */
#define LIMIT_EDIT_SILENCE_MS  2000u  /* ... edit mode is off */

/* Secrets at rest. */
#define LIMIT_SECRET     KIB(64)
#define LIMIT_VAULT_KEYS 32u

/* Users and what they may. */
#define LIMIT_DIRECTORY       GIB(1) /* names and roles of all users and tokens, in memory */
#define LIMIT_SESSIONS        32u    /* of one user at once: then the oldest ends */
#define LIMIT_SESSION_TEXT    256u   /* bytes that are kept of a browser's name */
#define LIMIT_LOGIN_ROWS      20000u /* failures that are remembered, of all strangers together */
#define LIMIT_KNOWN_ADDRESSES 32u    /* of one user, from which logins have succeeded */
#define LIMIT_EDIT_WINDOWS    256u   /* open at once */
#define LIMIT_EDIT_REASON     1000u
#define LIMIT_EDIT_LEAST_MS   (60u * 1000u)
#define LIMIT_EDIT_MOST_MS    (24u * 3600u * 1000u)

/* Configuration. */
#define LIMIT_CONFIG_FILE       MIB(4)
#define LIMIT_CONFIG_MEMORY     MIB(64)  /* the parsed file; the configuration made of it; each */
#define LIMIT_CONFIG_STRING     KIB(128) /* one value after expansion; what execve(2) takes */
#define LIMIT_CONFIG_VARIABLES  4096u    /* of the environment that are noted */
#define LIMIT_CONFIG_PROBLEMS   200u     /* that are told before the rest is left out */
#define LIMIT_STORED_DEFINITION KIB(64)  /* of an upstream of the store, as JSON */
#define LIMIT_STORED_UPSTREAMS  100u
#define LIMIT_STORED_VALUES     1000u    /* of one, tables and lists included */
#define LIMIT_STORED_TEXT       KIB(128) /* all texts of one, with its secrets */
#define LIMIT_TOML_DEPTH        32u      /* of brackets */
#define LIMIT_TOML_KEY_PARTS    32u
#define LIMIT_TOML_VALUES       400000u
