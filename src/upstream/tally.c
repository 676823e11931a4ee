#include "tally.h"

/* What both are to tell they have told. */
static void settle(struct tally *tally, uint64_t now_ms) {
    if (now_ms - tally->heard_ms < TALLY_LAG_MS)
        return;
    tally->early = tally->again = 0;
    tally->is_owed = false;
}

static void hear(struct tally *tally, uint64_t now_ms) {
    settle(tally, now_ms);
    tally->heard_ms = now_ms;
}

void tally_ask(struct tally *tally) {
    tally->early = 0;
}

void tally_turn(struct tally *tally, bool has_old, uint64_t now_ms) {
    settle(tally, now_ms);
    tally->again = has_old ? tally->early : 0;
    tally->early = 0;
    tally->leads = tally->is_held = tally->is_owed = false;
}

void tally_old(struct tally *tally, uint64_t now_ms) {
    hear(tally, now_ms);
    tally->is_held = !tally->leads;
}

enum tally_word tally_current(struct tally *tally, bool has_old, uint64_t now_ms) {
    hear(tally, now_ms);
    if (tally->again != 0) {
        tally->again--;
        tally->is_owed = has_old;
        return has_old ? TALLY_COPY : TALLY_PERHAPS;
    }
    tally->leads = true;
    tally->is_held = tally->is_owed = false;
    tally->early++;
    return TALLY_NEWS;
}

bool tally_end(struct tally *tally, bool is_cut, uint64_t now_ms) {
    bool was_owed = tally->is_owed;
    settle(tally, now_ms);
    bool is_lacking = tally->is_held || (is_cut ? was_owed : tally->is_owed);
    tally->is_held = tally->is_owed = false;
    return is_lacking;
}
