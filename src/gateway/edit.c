/*
 * Edit mode: whether writes are let through. What is decided by it is policy/, what is open is in
 * the store: windows, each with an end and a reason, for everybody, for a role, for an upstream.
 * Here is what every call asks, and who is told when something opens or closes.
 *
 * A window ends by the clock of the store, whatever timers think: each question looks at the time.
 * The timer of worker 0 is for those who wait to be told.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "private.h"

#define LAST_DATE_MS UINT64_C(253402300800000) /* the end of the year 9999 */

bool gw_edit_is_cut_off(const struct gateway *gateway) {
    return gateway->store != NULL && (gw_directory_is_silent(gateway, LIMIT_EDIT_SILENCE_MS) ||
                                      !store_can_write(gateway->store));
}

bool gw_edit_is_open(const struct gw_worker *worker, const struct auth_identity *identity,
                     struct slice upstream) {
    const struct gateway *gateway = worker->gateway;
    const struct directory *directory = worker->directory;
    if (atomic_load_explicit(&gateway->edit.is_always, memory_order_acquire))
        return true;
    if (directory == NULL || directory_next_close_ms(directory) == 0 || gw_edit_is_cut_off(gateway))
        return false;
    uint64_t until =
        directory_edit_until(directory, upstream, identity != NULL ? identity->roles : NULL,
                             identity != NULL ? identity->n_roles : 0);
    return until > directory_now_ms(directory, clock_boot_ms());
}

bool gw_edit_still_open(const struct gateway *gateway, uint64_t epoch) {
    return atomic_load_explicit(&gateway->edit.is_always, memory_order_acquire) ||
           (atomic_load(&gateway->edit.epoch) == epoch && !gw_edit_is_cut_off(gateway));
}

/* --- telling --- */

static void tell_session(void *context, struct gw_session *session) {
    (void)context;
    gw_notify_lists(session, 1u << MCP_LIST_TOOLS);
}

static struct slice scope_name(enum accounts_scope scope) {
    switch (scope) {
    case ACCOUNTS_EDIT_ALL:
        return SLICE("all");
    case ACCOUNTS_EDIT_ROLE:
        return SLICE("role");
    case ACCOUNTS_EDIT_UPSTREAM:
        return SLICE("upstream");
    }
    return SLICE_EMPTY;
}

struct turning {
    bool is_open;
    const struct accounts_edit *window; /* NULL: the configuration */
    const char *how;
};

static void write_record(struct audit_writer *writer, struct buf *out, const void *context) {
    const struct turning *turning = context;
    const struct accounts_edit *window = turning->window;
    audit_write_raw(out, SLICE("edit_mode"), turning->is_open ? SLICE("true") : SLICE("false"));
    audit_write_text(writer, out, SLICE("by"),
                     window != NULL && turning->is_open ? window->by
                                                        : slice_from_cstr(turning->how));
    if (window == NULL)
        return;
    audit_write_text(writer, out, SLICE("scope"), scope_name(window->scope));
    audit_write_text(writer, out, SLICE("name"), window->name);
    audit_write_text(writer, out, SLICE("reason"), window->reason);
    if (turning->is_open)
        audit_write_number(out, SLICE("left_ms"), window->until_ms - window->opened_ms);
}

static void tell(struct gateway *gateway, const struct turning *turning) {
    const struct accounts_edit *window = turning->window;
    log_write(gateway->log, LOG_WARN, "policy",
              turning->is_open ? "edit mode is on" : "edit mode is off",
              LOG_TEXT("by", window != NULL && turning->is_open ? window->by
                                                                : slice_from_cstr(turning->how)),
              LOG_TEXT("scope", window != NULL ? scope_name(window->scope) : SLICE("all")),
              LOG_TEXT("name", window != NULL ? window->name : SLICE_EMPTY),
              LOG_TEXT("reason", window != NULL ? window->reason : SLICE_EMPTY));
    gw_record_event(gateway, "edit", write_record, turning);
}

/* What clients have listed is not true any more, nor is what waits to be sent. */
static void turn(struct gateway *gateway) {
    atomic_fetch_add(&gateway->edit.epoch, 1);
    gw_directory_spread(gateway);
    gw_sessions_each(&gateway->sessions, tell_session, NULL);
}

void gw_edit_configure(struct gateway *gateway, const struct config *config) {
    struct gw_edit *edit = &gateway->edit;
    bool is_first = !edit->is_configured, was_open = atomic_load(&edit->is_always);
    edit->is_configured = true;
    atomic_store_explicit(&edit->is_always, config->edit_mode, memory_order_release);
    if (is_first || was_open == config->edit_mode)
        return;
    turn(gateway);
    tell(gateway, &(struct turning){.is_open = config->edit_mode, .how = "configuration"});
}

/* --- windows --- */

/* The same one, with the same end. */
static const struct accounts_edit *find(const struct gw_windows *windows,
                                        const struct accounts_edit *wanted) {
    for (size_t i = 0; i < windows->n; i++) {
        const struct accounts_edit *window = &windows->items[i];
        if (slice_eq(window->id, wanted->id) && window->until_ms == wanted->until_ms)
            return window;
    }
    return NULL;
}

static uint64_t now_ms(const struct gateway *gateway) {
    const struct directory *newest = gateway->directories.newest; /* worker 0 alone changes it */
    return newest != NULL ? directory_now_ms(newest, clock_boot_ms()) : 0;
}

static void wait_for_next(struct gateway *gateway) {
    struct gw_edit *edit = &gateway->edit;
    uint64_t now = now_ms(gateway), next = UINT64_MAX;
    for (size_t i = 0; i < edit->windows.n; i++)
        next = edit->windows.items[i].until_ms < next ? edit->windows.items[i].until_ms : next;
    if (next == UINT64_MAX) {
        if (edit->timer != NULL)
            io_timer_stop(edit->timer);
        return;
    }
    io_timer_start(edit->timer, next > now ? next - now : 0);
}

static void on_timer(void *context) {
    struct gateway *gateway = context;
    struct gw_windows left = {0}, over = {0};
    struct gw_windows *windows = &gateway->edit.windows;
    uint64_t now = now_ms(gateway);
    left.items = mem_alloc((windows->n + 1) * sizeof *left.items);
    over.items = mem_alloc((windows->n + 1) * sizeof *over.items);
    for (size_t i = 0; left.items != NULL && over.items != NULL && i < windows->n; i++) {
        struct gw_windows *to = windows->items[i].until_ms > now ? &left : &over;
        to->items[to->n++] = windows->items[i];
    }
    if (over.n != 0) {
        mem_free(windows->items);
        *windows = left;
        left.items = NULL;
        turn(gateway);
        for (size_t i = 0; i < over.n; i++)
            tell(gateway, &(struct turning){.window = &over.items[i], .how = "time"});
    }
    mem_free(left.items);
    gw_windows_deinit(&over);
    wait_for_next(gateway);
}

void gw_edit_take(struct gateway *gateway, struct gw_windows *windows) {
    struct gw_edit *edit = &gateway->edit;
    struct gw_windows old = edit->windows;
    bool has_turned = false;
    edit->windows = *windows;
    *windows = (struct gw_windows){0};
    for (size_t i = 0; i < old.n; i++) {
        if (find(&edit->windows, &old.items[i]) != NULL)
            continue;
        has_turned = true;
        tell(gateway, &(struct turning){.window = &old.items[i], .how = "closed"});
    }
    for (size_t i = 0; i < edit->windows.n; i++) {
        if (find(&old, &edit->windows.items[i]) != NULL)
            continue;
        has_turned = true;
        tell(gateway, &(struct turning){.is_open = true, .window = &edit->windows.items[i]});
    }
    gw_windows_deinit(&old);
    if (has_turned)
        turn(gateway);
    if (edit->timer == NULL)
        edit->timer = io_timer_new(gateway_loop(gateway), on_timer, gateway);
    wait_for_next(gateway);
}

void gw_edit_deinit(struct gateway *gateway) {
    gateway->edit.timer = io_timer_free(gateway->edit.timer);
    gw_windows_deinit(&gateway->edit.windows);
}

/* --- asking --- */

/* What holds for everybody: the first window of that scope. */
static const struct accounts_edit *general(const struct gateway *gateway) {
    const struct gw_windows *windows = &gateway->edit.windows;
    for (size_t i = 0; i < windows->n; i++) {
        if (windows->items[i].scope == ACCOUNTS_EDIT_ALL)
            return &windows->items[i];
    }
    return NULL;
}

static void write_end(struct json_writer *writer, uint64_t left_ms) {
    char text[CLOCK_RFC3339_SIZE];
    uint64_t wall = clock_wall_ms();
    json_kv_u64(writer, SLICE("left_ms"), left_ms);
    if (left_ms < LAST_DATE_MS - wall) {
        clock_format_rfc3339(wall + left_ms, text);
        json_kv_string(writer, SLICE("until"), slice_from_cstr(text));
    }
}

static void write_window(struct json_writer *writer, const struct accounts_edit *window,
                         uint64_t now) {
    json_object_begin(writer);
    json_kv_string(writer, SLICE("scope"), scope_name(window->scope));
    if (window->scope != ACCOUNTS_EDIT_ALL)
        json_kv_string(writer, SLICE("name"), window->name);
    json_kv_string(writer, SLICE("by"), window->by);
    json_kv_string(writer, SLICE("reason"), window->reason);
    write_end(writer, window->until_ms > now ? window->until_ms - now : 0);
    json_object_end(writer);
}

int gateway_write_edit(struct gateway *gateway, struct buf *out) {
    const struct accounts_edit *window = general(gateway);
    struct json_writer writer;
    bool is_always = atomic_load(&gateway->edit.is_always);
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_bool(&writer, SLICE("edit_mode"),
                 gw_edit_is_open(&gateway->workers[0], NULL, SLICE_EMPTY));
    json_kv_string(&writer, SLICE("by"),
                   is_always || window == NULL ? SLICE("configuration") : window->by);
    uint64_t now = now_ms(gateway);
    if (!is_always && window != NULL) {
        json_kv_string(&writer, SLICE("reason"), window->reason);
        write_end(&writer, window->until_ms > now ? window->until_ms - now : 0);
    }
    json_key(&writer, SLICE("windows"));
    json_array_begin(&writer);
    for (size_t i = 0; i < gateway->edit.windows.n; i++)
        write_window(&writer, &gateway->edit.windows.items[i], now);
    json_array_end(&writer);
    json_object_end(&writer);
    return buf_error(out);
}
