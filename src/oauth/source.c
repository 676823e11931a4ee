/* Sources of tokens for servers: their life. */
#include "oauth/source.h"

#include <errno.h>
#include <stdio.h>

#include "base/mem.h"

struct oauth_tokens {
    struct log *log;
};

struct oauth_source {
    atomic_uint refs;
};

int oauth_tokens_new(const struct oauth_tokens_options *options, struct oauth_tokens **ret_tokens) {
    struct oauth_tokens *tokens = mem_xalloc(sizeof *tokens);
    tokens->log = options->log;
    *ret_tokens = tokens;
    return 0;
}

struct oauth_tokens *oauth_tokens_free(struct oauth_tokens *tokens) {
    mem_free(tokens);
    return NULL;
}

int oauth_source_new(struct oauth_tokens *tokens, struct config *config,
                     const struct config_server *server, struct oauth_source **ret_source,
                     const char **ret_reason) {
    (void)tokens, (void)config, (void)server, (void)ret_reason;
    struct oauth_source *source = mem_alloc(sizeof *source);
    if (source == NULL)
        return -ENOMEM;
    atomic_init(&source->refs, 1);
    *ret_source = source;
    return 0;
}

struct oauth_source *oauth_source_ref(struct oauth_source *source) {
    atomic_fetch_add(&source->refs, 1);
    return source;
}

struct oauth_source *oauth_source_unref(struct oauth_source *source) {
    if (source != NULL && atomic_fetch_sub(&source->refs, 1) == 1)
        mem_free(source);
    return NULL;
}

enum oauth_answer oauth_source_get(struct oauth_source *source, struct oauth_token *subject,
                                   struct oauth_token_wait *wait) {
    (void)source, (void)subject;
    wait->token = NULL;
    wait->lack = OAUTH_LACK_UNREACHABLE;
    snprintf(wait->reason, sizeof wait->reason, "nothing was asked yet");
    return OAUTH_ANSWER_NONE;
}

bool oauth_token_wait_cancel(struct oauth_token_wait *wait) {
    (void)wait;
    return false;
}

bool oauth_source_refused(struct oauth_source *source, struct oauth_token *subject,
                          struct oauth_token *token, const struct http_head *head) {
    (void)source, (void)subject, (void)token, (void)head;
    return false;
}
