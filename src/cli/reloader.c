#include "reloader.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/limits.h"
#include "base/list.h"
#include "base/mem.h"
#include "io/loop.h"
#include "json/writer.h"
#include "secrets.h"

/* The file as it was read, or its text of the last time. Travels from the loop to the thread and
 * back. */
struct loading {
    struct io_message message;
    struct cli_reloader *reloader; /* NULL: it has gone */
    const struct cli_options *options;
    char *path;
    struct config *again; /* the configuration whose text is read again; NULL: the file is */
    const char *listen_address, *admin_listen; /* in place of the file's; NULL: not given */
    bool has_api_token;
    struct io_loop *loop;
    struct config_problems problems;
    struct config *config;
    int error;
};

struct asking {
    struct list_link link;
    bool is_of_store;                /* the file need not be read again */
    struct control_request *request; /* NULL: a signal, or the store */
};

struct cli_reloader {
    struct cli_reloader_options options;
    char *path;
    struct list waiting; /* struct asking: for the next one */
    struct list asked;   /* the same: for the one that is going on */
    bool is_running;
    pthread_t thread;
    struct loading *loading; /* the thread is at it, or its message is on the way */
    struct gateway_reload *reload;
    struct buf answer;     /* members of the object */
    struct config *served; /* as it was loaded last */
};

static void start(struct cli_reloader *reloader);

/* Reading: a thread of its own. */

static void deliver_loaded(struct io_message *message);

static void *load(void *context) {
    struct loading *loading = context;
    struct cli_secrets *secrets = cli_secrets_new(loading->options, CLI_TO_SERVE);
    struct config_resolvers resolvers = cli_secrets_resolvers(secrets);
    loading->error = loading->again != NULL
                         ? config_load_text_with(loading->again->path, loading->again->text,
                                                 &resolvers, &loading->problems, &loading->config)
                         : config_load_file_with(loading->path, &resolvers, &loading->problems,
                                                 &loading->config);
    cli_secrets_free(secrets);
    if (loading->error == 0)
        cli_override(loading->config, loading->listen_address, loading->admin_listen);
    if (loading->error == 0)
        loading->error =
            config_check_start(loading->config, loading->has_api_token, &loading->problems);
    io_loop_post(loading->loop, &loading->message);
    return NULL;
}

static void free_loading(struct loading *loading) {
    config_unref(loading->config);
    config_unref(loading->again);
    config_problems_deinit(&loading->problems);
    mem_free(loading->path);
    mem_free(loading);
}

/* Signals are the loop's. */
static int start_thread(struct cli_reloader *reloader) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&reloader->thread, NULL, load, reloader->loading);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

/* The answer. */

enum verdict { APPLIED, REFUSED, INVALID };

static void finish(struct cli_reloader *reloader, enum verdict verdict, const char *error) {
    struct list_link *link;
    size_t n_of_store = 0;
    buf_printf(&reloader->answer, "%s\"invalid\":%s", buf_len(&reloader->answer) != 0 ? "," : "",
               verdict == INVALID ? "true" : "false");
    while ((link = list_pop_front(&reloader->asked)) != NULL) {
        struct asking *asking = CONTAINER_OF(link, struct asking, link);
        if (asking->request != NULL)
            control_answer(asking->request, error,
                           buf_error(&reloader->answer) == 0 ? buf_slice(&reloader->answer)
                                                             : SLICE_EMPTY);
        n_of_store += asking->is_of_store;
        mem_free(asking);
    }
    reloader->is_running = false;
    for (; n_of_store != 0; n_of_store--)
        gateway_upstreams_done(reloader->options.gateway);
    if (!list_is_empty(&reloader->waiting))
        start(reloader);
}

static void fail(struct cli_reloader *reloader, enum verdict verdict, const char *error) {
    log_write(reloader->options.log, LOG_ERROR, "gateway",
              "the configuration was not reloaded: everything goes on as it was",
              LOG_CSTR("reason", error));
    gateway_record_configuration(reloader->options.gateway, NULL, "reload", SLICE_EMPTY, error);
    finish(reloader, verdict, error);
}

static void write_problem(struct cli_reloader *reloader, struct json_writer *writer,
                          const struct config_problem *problem) {
    bool is_error = problem->severity == CONFIG_ERROR;
    struct buf line CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    if (config_problem_format(&line, problem) == 0)
        buf_truncate(&line, buf_len(&line) - 1); /* the line's end */
    if (buf_error(&line) == 0)
        log_write(reloader->options.log, is_error ? LOG_ERROR : LOG_WARN, "config", "problem",
                  LOG_TEXT("problem", buf_slice(&line)));
    json_object_begin(writer);
    json_kv_string(writer, SLICE("severity"), is_error ? SLICE("error") : SLICE("warning"));
    json_kv_string(writer, SLICE("file"), problem->path);
    json_kv_u64(writer, SLICE("line"), problem->line);
    json_kv_u64(writer, SLICE("column"), problem->column);
    json_kv_string(writer, SLICE("message"), problem->message);
    json_kv_string(writer, SLICE("text"), buf_slice(&line));
    json_object_end(writer);
}

static void write_problems(struct cli_reloader *reloader, const struct config_problems *problems) {
    struct json_writer writer;
    buf_append_cstr(&reloader->answer, "\"problems\":");
    json_writer_init(&writer, &reloader->answer);
    json_array_begin(&writer);
    for (size_t i = 0; i < problems->n; i++)
        write_problem(reloader, &writer, &problems->items[i]);
    json_array_end(&writer);
}

/* Applying. */

static void on_applied(void *context) {
    struct cli_reloader *reloader = context;
    reloader->reload = NULL;
    if (reloader->options.on_applied != NULL)
        reloader->options.on_applied(reloader->options.context, reloader->served);
    log_write(reloader->options.log, LOG_INFO, "gateway", "the configuration is reloaded");
    finish(reloader, APPLIED, NULL);
}

static void commit(struct cli_reloader *reloader, struct config *config) {
    struct slice report = gateway_reload_report(reloader->reload);
    buf_append_cstr(&reloader->answer, ",\"reload\":");
    buf_append(&reloader->answer, report);
    log_write(reloader->options.log, LOG_INFO, "gateway", "applies another configuration",
              LOG_TEXT("changes", report));
    gateway_record_configuration(reloader->options.gateway, config, "reload", report, NULL);
    config_unref(reloader->served);
    reloader->served = config_ref(config);
    for (size_t i = 0; i < ARRAY_LEN(reloader->options.parts); i++) {
        const struct cli_reload_part *part = reloader->options.parts[i];
        if (part != NULL)
            part->commit(part->context);
    }
    gateway_reload_commit(reloader->reload, on_applied, reloader);
}

/* False: `text` says why not. */
static bool prepare(struct cli_reloader *reloader, struct config *config, struct buf *text,
                    enum verdict *ret_verdict) {
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    int error =
        gateway_reload_prepare(reloader->options.gateway, config, &reason, &reloader->reload);
    for (size_t i = 0; i < ARRAY_LEN(reloader->options.parts) && error == 0; i++) {
        const struct cli_reload_part *part = reloader->options.parts[i];
        if (part != NULL)
            error = part->prepare(part->context, config, &reason);
        if (error != 0)
            reloader->reload = gateway_reload_drop(reloader->reload);
    }
    if (error == 0)
        return true;
    *ret_verdict = error == -ESHUTDOWN || error == -ENOMEM ? REFUSED : INVALID;
    if (error == -ESHUTDOWN)
        buf_append_cstr(text, "the gateway is stopping");
    else if (buf_len(&reason) != 0)
        buf_append(text, buf_slice(&reason));
    else
        buf_append_cstr(text, strerror(error < 0 ? -error : EINVAL));
    return false;
}

static void apply(struct cli_reloader *reloader, struct loading *loading) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    enum verdict verdict = INVALID;
    write_problems(reloader, &loading->problems);
    if (loading->error != 0) {
        fail(reloader, loading->error == -ENOMEM ? REFUSED : INVALID,
             loading->error == -ENOMEM ? "the gateway is out of memory"
                                       : "the configuration has errors");
    } else if (prepare(reloader, loading->config, &text, &verdict)) {
        commit(reloader, loading->config);
    } else {
        buf_append_byte(&text, '\0');
        fail(reloader, verdict, buf_error(&text) == 0 ? buf_slice(&text).ptr : "out of memory");
    }
}

static void deliver_loaded(struct io_message *message) {
    struct loading *loading = CONTAINER_OF(message, struct loading, message);
    struct cli_reloader *reloader = loading->reloader;
    if (reloader != NULL) {
        pthread_join(reloader->thread, NULL);
        reloader->loading = NULL;
        apply(reloader, loading);
    }
    free_loading(loading);
}

static void start(struct cli_reloader *reloader) {
    const struct cli_reloader_options *options = &reloader->options;
    bool is_of_file = false;
    reloader->is_running = true;
    LIST_FOREACH_SAFE (&reloader->waiting, link, tmp)
        is_of_file = is_of_file || !CONTAINER_OF(link, struct asking, link)->is_of_store;
    list_splice_back(&reloader->asked, &reloader->waiting);
    buf_reset(&reloader->answer, KIB(4));
    struct loading *loading = mem_xalloc(sizeof *loading);
    *loading = (struct loading){
        .message = {.deliver = deliver_loaded},
        .reloader = reloader,
        .options = options->options,
        .path = mem_xstrdup(reloader->path),
        .again = is_of_file ? NULL : config_ref(reloader->served),
        .listen_address = options->options->listen_address,
        .admin_listen = options->options->admin_listen,
        .has_api_token = options->options->api_token != NULL,
        .loop = gateway_loop(options->gateway),
    };
    config_problems_init(&loading->problems);
    reloader->loading = loading;
    int error = start_thread(reloader);
    if (error != 0) {
        free_loading(TAKE(reloader->loading));
        fail(reloader, REFUSED, strerror(-error));
    }
}

/* The public part. */

static void ask(struct cli_reloader *reloader, bool is_of_store, struct control_request *request) {
    struct asking *asking = mem_xalloc(sizeof *asking);
    asking->is_of_store = is_of_store;
    asking->request = request;
    list_push_back(&reloader->waiting, &asking->link);
    if (!reloader->is_running)
        start(reloader);
}

void cli_reloader_start(struct cli_reloader *reloader) {
    ask(reloader, false, NULL);
}

void cli_reloader_take_upstreams(void *context) {
    ask(context, true, NULL);
}

void cli_reloader_command(void *context, struct control_request *request,
                          const struct json_reader *arguments) {
    (void)arguments;
    ask(context, false, request);
}

struct cli_reloader *cli_reloader_new(const struct cli_reloader_options *options) {
    struct cli_reloader *reloader = mem_xalloc(sizeof *reloader);
    reloader->options = *options;
    reloader->path = mem_xstrdup(options->config->path.ptr);
    reloader->served = config_ref(options->config);
    list_init(&reloader->waiting);
    list_init(&reloader->asked);
    buf_init(&reloader->answer, MIB(8));
    return reloader;
}

static void drop_askings(struct list *askings) {
    struct list_link *link;
    while ((link = list_pop_front(askings)) != NULL) {
        struct asking *asking = CONTAINER_OF(link, struct asking, link);
        if (asking->request != NULL)
            control_answer(asking->request, "the gateway has stopped", SLICE_EMPTY);
        mem_free(asking);
    }
}

struct cli_reloader *cli_reloader_free(struct cli_reloader *reloader) {
    if (reloader == NULL)
        return NULL;
    if (reloader->loading != NULL) {
        pthread_join(reloader->thread, NULL);
        reloader->loading->reloader = NULL; /* its message frees it, at the latest with the loop */
    }
    drop_askings(&reloader->asked);
    drop_askings(&reloader->waiting);
    buf_deinit(&reloader->answer);
    config_unref(reloader->served);
    mem_free(reloader->path);
    mem_free(reloader);
    return NULL;
}
