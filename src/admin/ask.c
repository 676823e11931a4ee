/* What only the gateway's first worker can say is asked by a message to its loop, and comes back by
 * one to ours. Nobody waits for it. */
#include <errno.h>

#include "base/mem.h"
#include "private.h"

struct query {
    struct io_message message;
    struct list_link link; /* of api->queries */
    struct api *api;       /* NULL: there is none any more */
    api_write_fn *write;
    void *context;
    struct buf text;
    int error;
    struct api_request *request; /* or NULL, and then: */
    void (*next)(struct api_request *request, int error);
    api_asked_fn *done;
};

static void free_query(struct query *query) {
    list_remove(&query->link);
    buf_deinit(&query->text);
    mem_free(query);
}

/* On our loop. */
static void deliver_answer(struct io_message *message) {
    struct query *query = CONTAINER_OF(message, struct query, message);
    struct api_request *request = query->request;
    if (query->api == NULL) {
        free_query(query);
        return;
    }
    int error = query->error != 0 ? query->error : buf_error(&query->text);
    if (request == NULL) {
        query->done(query->api, error, buf_slice(&query->text));
        free_query(query);
        return;
    }
    void (*next)(struct api_request *, int) = query->next;
    struct buf text = query->text;
    query->text = BUF_INIT(0);
    free_query(query);
    api_answer_reset(&request->answer);
    buf_deinit(&request->answer.body);
    request->answer.body = text;
    next(request, error);
}

/* On the gateway's. */
static void deliver_query(struct io_message *message) {
    struct query *query = CONTAINER_OF(message, struct query, message);
    if (query->api == NULL) { /* both have ended */
        free_query(query);
        return;
    }
    query->error = query->write(query->context, &query->text);
    query->message = (struct io_message){.deliver = deliver_answer};
    io_loop_post(query->api->loop, &query->message);
}

static void ask(struct api *api, struct query *query, api_write_fn *write, void *context) {
    query->api = api;
    query->write = write;
    query->context = context;
    buf_init(&query->text, API_ANSWER);
    query->message = (struct io_message){.deliver = deliver_query};
    list_push_back(&api->queries, &query->link);
    io_loop_post(gateway_loop(api->options.gateway), &query->message);
}

void api_ask(struct api_request *request, api_write_fn *write, void *context,
             void (*next)(struct api_request *request, int error)) {
    struct api *api = request->api;
    if (api->options.gateway == NULL || write == NULL) {
        api_request_done(request,
                         api_refuse(request, 503, "this gateway does not tell that", NULL));
        return;
    }
    struct query *query = mem_xalloc(sizeof *query);
    query->request = request;
    query->next = next;
    ask(api, query, write, context);
}

void api_ask_alone(struct api *api, api_write_fn *write, void *context, api_asked_fn *done) {
    struct query *query = mem_xalloc(sizeof *query);
    query->done = done;
    ask(api, query, write, context);
}

/* --- what was written --- */

struct api_refreshing {
    struct gateway_refresh refresh;
    struct list_link link;       /* in api->refreshes */
    struct api_request *request; /* NULL: the API has ended */
};

static void deliver_refreshed(struct io_message *message) {
    struct gateway_refresh *refresh = CONTAINER_OF(message, struct gateway_refresh, message);
    struct api_refreshing *refreshing = CONTAINER_OF(refresh, struct api_refreshing, refresh);
    struct api_request *request = refreshing->request;
    if (request != NULL)
        list_remove(&refreshing->link);
    mem_free(refreshing);
    if (request != NULL)
        request->next(request);
}

void api_refresh(struct api_request *request) {
    struct api *api = request->api;
    struct api_refreshing *refreshing = mem_xalloc(sizeof *refreshing);
    refreshing->request = request;
    refreshing->refresh.loop = api->loop;
    refreshing->refresh.done = deliver_refreshed;
    list_push_back(&api->refreshes, &refreshing->link);
    gateway_refresh(api->options.gateway, &refreshing->refresh);
}

void api_forget_refreshes(struct api *api) {
    LIST_FOREACH_SAFE (&api->refreshes, link, tmp) {
        struct api_refreshing *refreshing = CONTAINER_OF(link, struct api_refreshing, link);
        list_remove(link);
        refreshing->refresh.loop = NULL;
        api_request_free(TAKE(refreshing->request));
    }
}

/* They lie in a mailbox still, which delivers them when its loop is freed. */
void api_forget_queries(struct api *api) {
    LIST_FOREACH_SAFE (&api->queries, link, tmp) {
        struct query *query = CONTAINER_OF(link, struct query, link);
        list_remove(&query->link);
        query->api = NULL;
        if (query->request != NULL)
            api_request_free(TAKE(query->request));
    }
}
