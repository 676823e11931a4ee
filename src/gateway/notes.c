/*
 * Records of what commands have changed in the store (accounts/notes.c): taken from there, written
 * to the trail, and put away when they are durable. One batch at a time, on worker 0 but for the
 * work in the store.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "private.h"

enum {
    MOST = 64,        /* of a batch */
    RETRY_MS = 10000, /* the trail or the store did not take it */
    OTHERS_MS = 70000 /* another instance has taken it, and may have died since */
};

struct gw_notes_batch {
    struct store_job job;
    struct audit_wait wait;
    struct gateway *gateway;
    char taker[ACCOUNTS_ID + 1];
    struct arena arena; /* of the notes */
    struct accounts_note notes[MOST];
    size_t n;
};

/* Nothing is under way any more. */
static void end_batch(struct gw_notes_batch *batch, uint64_t again_ms) {
    struct gateway *gateway = batch->gateway;
    arena_deinit(&batch->arena);
    mem_free(batch);
    gateway->notes.batch = NULL;
    if (gateway->notes.is_over)
        return;
    if (gateway->notes.is_wanted)
        gw_notes_look(gateway);
    else if (again_ms != 0 && gateway->notes.timer != NULL)
        io_timer_start(gateway->notes.timer, again_ms);
}

/* --- putting away --- */

static int drop(struct store_tx *tx, void *context) {
    const struct gw_notes_batch *batch = context;
    return accounts_drop_notes(tx, batch->taker);
}

static void deliver_dropped(struct io_message *message) {
    struct store_job *job = CONTAINER_OF(message, struct store_job, message);
    struct gw_notes_batch *batch = CONTAINER_OF(job, struct gw_notes_batch, job);
    if (batch->n == MOST) /* there may be more */
        batch->gateway->notes.is_wanted = true;
    end_batch(batch, job->result != 0 ? OTHERS_MS : 0);
}

static void submit(struct gw_notes_batch *batch, enum store_kind kind, store_work_fn *work,
                   void (*deliver)(struct io_message *message)) {
    batch->job = (struct store_job){.message.deliver = deliver,
                                    .loop = batch->gateway->loops[0],
                                    .kind = kind,
                                    .work = work,
                                    .context = batch};
    store_submit(batch->gateway->store, &batch->job);
}

static void deliver_recorded(struct io_message *message) {
    struct audit_wait *wait = CONTAINER_OF(message, struct audit_wait, message);
    struct gw_notes_batch *batch = CONTAINER_OF(wait, struct gw_notes_batch, wait);
    if (batch->gateway->notes.is_over) /* the next start records them once more */
        end_batch(batch, 0);
    else if (!wait->is_durable)
        end_batch(batch, OTHERS_MS);
    else
        submit(batch, STORE_NOTE, drop, deliver_dropped);
}

/* --- the records --- */

static void write_note(struct gw_worker *worker, const struct accounts_note *note,
                       struct buf *out) {
    char at[CLOCK_RFC3339_SIZE];
    struct audit_who who = {.user = note->who, .authentication = SLICE("command")};
    struct audit_what what = {.method = SLICE("command"), .operation = note->action};
    struct audit_decided decided = {.decision = SLICE("allowed"), .reason = note->reason};
    struct audit_result result = {.status = SLICE("ok"),
                                  .http_status = AUDIT_NONE,
                                  .upstream_status = AUDIT_NONE,
                                  .bytes = AUDIT_NONE,
                                  .duration_us = AUDIT_NONE};
    char event[32];
    if (slice_to_cstr(note->event, event, sizeof event) != 0)
        return;
    clock_format_rfc3339(note->at_ms, at);
    audit_write_begin(out, event, clock_wall_us(), note->id);
    audit_write_who(worker->audit_writer, out, &who);
    audit_write_what(worker->audit_writer, out, &what);
    audit_write_text(worker->audit_writer, out, SLICE("object"), note->object);
    audit_write_text(worker->audit_writer, out, SLICE("at"), slice_from_cstr(at));
    audit_write_decision(worker->audit_writer, out, &decided);
    audit_write_result(worker->audit_writer, out, &result);
}

/* The last one is waited for: records become durable in their order. */
static int record(struct gw_notes_batch *batch) {
    struct gw_worker *worker = &batch->gateway->workers[0];
    int error = 0;
    for (size_t i = 0; i < batch->n && error == 0; i++) {
        struct buf body CLEANUP(buf_deinit) = BUF_INIT(LIMIT_AUDIT_BODY);
        write_note(worker, &batch->notes[i], &body);
        struct slice piece = buf_slice(&body);
        bool is_last = i == batch->n - 1;
        error = buf_error(&body);
        if (error == 0)
            error = audit_submit(worker->audit, &piece, 1, is_last ? &batch->wait : NULL);
    }
    return error;
}

static void deliver_taken(struct io_message *message) {
    struct store_job *job = CONTAINER_OF(message, struct store_job, message);
    struct gw_notes_batch *batch = CONTAINER_OF(job, struct gw_notes_batch, job);
    struct gateway *gateway = batch->gateway;
    if (job->result != 0 || gateway->notes.is_over) {
        end_batch(batch, RETRY_MS);
    } else if (batch->n == 0) {
        uint64_t again_ms = gateway->notes.is_others ? 0 : OTHERS_MS;
        gateway->notes.is_others = true;
        end_batch(batch, again_ms);
    } else if (gateway->workers[0].audit == NULL) { /* nothing is recorded */
        submit(batch, STORE_NOTE, drop, deliver_dropped);
    } else {
        batch->wait =
            (struct audit_wait){.message.deliver = deliver_recorded, .loop = gateway->loops[0]};
        if (record(batch) != 0)
            end_batch(batch, OTHERS_MS);
    }
}

/* --- taking --- */

static bool keep(void *context, const struct accounts_note *note) {
    struct gw_notes_batch *batch = context;
    struct arena *arena = &batch->arena;
    struct accounts_note copy = {
        .id = arena_dup(arena, note->id),
        .at_ms = note->at_ms,
        .event = arena_dup(arena, note->event),
        .who = arena_dup(arena, note->who),
        .action = arena_dup(arena, note->action),
        .object = arena_dup(arena, note->object),
        .reason = arena_dup(arena, note->reason),
    };
    if (copy.id.ptr == NULL || copy.event.ptr == NULL || copy.who.ptr == NULL ||
        copy.action.ptr == NULL || copy.object.ptr == NULL || copy.reason.ptr == NULL)
        return false; /* it is taken again later */
    batch->notes[batch->n++] = copy;
    return batch->n < MOST;
}

/* May be run again: it begins anew. */
static int take(struct store_tx *tx, void *context) {
    struct gw_notes_batch *batch = context;
    arena_deinit(&batch->arena);
    arena_init(&batch->arena, MIB(4));
    batch->n = 0;
    return accounts_take_notes(tx, MOST, batch->taker, keep, batch);
}

void gw_notes_look(struct gateway *gateway) {
    struct gw_notes *notes = &gateway->notes;
    notes->is_wanted = notes->batch != NULL;
    if (notes->is_wanted || gateway->is_stopping || notes->is_over)
        return;
    notes->batch = mem_alloc(sizeof *notes->batch);
    if (notes->batch == NULL)
        return;
    notes->batch->gateway = gateway;
    arena_init(&notes->batch->arena, MIB(4));
    submit(notes->batch, STORE_NOTE, take, deliver_taken);
}

static void on_timer(void *context) {
    gw_notes_look(context);
}

void gw_notes_found(struct gateway *gateway) {
    gateway->notes.is_others = false;
    if (gateway->notes.timer == NULL)
        gateway->notes.timer = io_timer_new(gateway->loops[0], on_timer, gateway);
    gw_notes_look(gateway);
}

void gw_notes_free(struct gateway *gateway) {
    gateway->notes.is_over = true;
    gateway->notes.timer = io_timer_free(gateway->notes.timer);
}
