/*
 * Edit mode: whether writes are let through. What is decided by it is policy/; here is the switch,
 * its time, and who is told when it is turned.
 *
 * All workers read one number, without a lock: until when it is open. Time is that of a clock that
 * goes on while the machine sleeps, so that fifteen minutes are over after a night, whatever timers
 * think. All else belongs to worker 0.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "private.h"

enum { EDIT_REASON = 500 };                    /* bytes that are kept of one */
#define LAST_DATE_MS UINT64_C(253402300800000) /* the end of the year 9999 */

bool gw_edit_is_open(const struct gateway *gateway) {
    uint64_t until = atomic_load_explicit(&gateway->edit.until_ms, memory_order_acquire);
    return until != 0 && (until == UINT64_MAX || clock_boot_ms() < until);
}

static void tell_session(void *context, struct gw_session *session) {
    (void)context;
    gw_notify_lists(session, 1u << MCP_LIST_TOOLS);
}

static void write_record(struct audit_writer *writer, struct buf *out, const void *context) {
    const struct gateway *gateway = context;
    const struct gw_edit *edit = &gateway->edit;
    uint64_t until = atomic_load(&gateway->edit.until_ms), now = clock_boot_ms();
    bool is_open = gw_edit_is_open(gateway);
    audit_write_raw(out, SLICE("edit_mode"), is_open ? SLICE("true") : SLICE("false"));
    audit_write_text(writer, out, SLICE("by"), slice_from_cstr(edit->by));
    audit_write_text(writer, out, SLICE("reason"), slice_from_cstr(edit->reason));
    if (is_open && until != UINT64_MAX)
        audit_write_number(out, SLICE("left_ms"), until > now ? until - now : 0);
}

/* What clients have listed is not true any more. */
static void tell(struct gateway *gateway, const char *message) {
    const struct gw_edit *edit = &gateway->edit;
    log_write(gateway->log, LOG_WARN, "policy", message, LOG_CSTR("by", edit->by),
              LOG_TEXT("reason", slice_from_cstr(edit->reason)));
    gw_record_event(gateway, "edit", write_record, gateway);
    gw_sessions_each(&gateway->sessions, tell_session, NULL);
}

static void set(struct gateway *gateway, uint64_t until_ms, const char *by, struct slice reason) {
    struct gw_edit *edit = &gateway->edit;
    size_t len = reason.len < EDIT_REASON ? reason.len : EDIT_REASON;
    mem_free(edit->reason);
    edit->reason = mem_xalloc(len + 1);
    if (len != 0)
        memcpy(edit->reason, reason.ptr, len);
    edit->by = by;
    atomic_store_explicit(&edit->until_ms, until_ms, memory_order_release);
    if (edit->timer != NULL)
        io_timer_stop(edit->timer);
}

static void on_timer(void *context) {
    struct gateway *gateway = context;
    uint64_t until = atomic_load(&gateway->edit.until_ms), now = clock_boot_ms();
    if (until == 0 || until == UINT64_MAX)
        return;
    if (now < until) {
        io_timer_start(gateway->edit.timer, until - now);
        return;
    }
    set(gateway, 0, "time", slice_from_cstr("its time is over"));
    tell(gateway, "edit mode is off");
}

void gw_edit_configure(struct gateway *gateway, const struct config *config) {
    struct gw_edit *edit = &gateway->edit;
    bool is_first = edit->by == NULL;
    if (!is_first && edit->configured == config->edit_mode)
        return;
    bool was_open = !is_first && gw_edit_is_open(gateway);
    edit->configured = config->edit_mode;
    set(gateway, config->edit_mode ? UINT64_MAX : 0, "configuration", SLICE_EMPTY);
    if (!is_first && was_open != config->edit_mode)
        tell(gateway, config->edit_mode ? "edit mode is on" : "edit mode is off");
}

void gw_edit_deinit(struct gateway *gateway) {
    gateway->edit.timer = io_timer_free(gateway->edit.timer);
    mem_free(TAKE(gateway->edit.reason));
}

void gateway_open_edit(struct gateway *gateway, uint64_t for_ms, struct slice reason) {
    struct gw_edit *edit = &gateway->edit;
    uint64_t now = clock_boot_ms();
    bool has_end = for_ms < UINT64_MAX - now;
    set(gateway, has_end ? now + for_ms : UINT64_MAX, "command", reason);
    if (has_end && edit->timer == NULL)
        edit->timer = io_timer_new(gateway_loop(gateway), on_timer, gateway);
    if (has_end)
        io_timer_start(edit->timer, for_ms);
    tell(gateway, "edit mode is on");
}

void gateway_close_edit(struct gateway *gateway, struct slice reason) {
    set(gateway, 0, "command", reason);
    tell(gateway, "edit mode is off");
}

int gateway_write_edit(struct gateway *gateway, struct buf *out) {
    const struct gw_edit *edit = &gateway->edit;
    struct json_writer writer;
    uint64_t until = atomic_load(&edit->until_ms), now = clock_boot_ms();
    bool is_open = gw_edit_is_open(gateway);
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_bool(&writer, SLICE("edit_mode"), is_open);
    json_kv_string(&writer, SLICE("by"), slice_from_cstr(edit->by));
    if (edit->reason[0] != '\0')
        json_kv_string(&writer, SLICE("reason"), slice_from_cstr(edit->reason));
    if (is_open && until != UINT64_MAX) {
        char text[CLOCK_RFC3339_SIZE];
        uint64_t left = until - now, wall = clock_wall_ms();
        json_kv_u64(&writer, SLICE("left_ms"), left);
        if (left < LAST_DATE_MS - wall) {
            clock_format_rfc3339(wall + left, text);
            json_kv_string(&writer, SLICE("until"), slice_from_cstr(text));
        }
    }
    json_object_end(&writer);
    return buf_error(out);
}
