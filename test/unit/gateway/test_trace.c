/* The trace that a request belongs to, by its traceparent (W3C Trace Context, section 3.2.2). */
#include "private.h"
#include "test.h"

#define ID   "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"

static void test_traces(void) {
    static const struct {
        const char *name, *text, *trace;
    } rows[] = {
        {"as it is", "00-" ID "-" SPAN "-01", ID},
        {"not sampled", "00-" ID "-" SPAN "-00", ID},
        {"of a version that comes after ours", "01-" ID "-" SPAN "-01-more", ID},
        {"nothing", "", ""},
        {"too short", "00-" ID "-" SPAN "-0", ""},
        {"too long for its version", "00-" ID "-" SPAN "-01-more", ""},
        {"no trace", "00-00000000000000000000000000000000-" SPAN "-01", ""},
        {"capitals", "00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01", ""},
        {"the version that is none", "ff-" ID "-" SPAN "-01", ""},
        {"no version", "xx-" ID "-" SPAN "-01", ""},
        {"a quote", "00-4bf92f3577b34da6a3ce929d0e0e473\"-" SPAN "-01", ""},
        {"no hyphen behind it", "00-" ID "0" SPAN "-01", ""},
        {"no hyphen before it", "00 " ID "-" SPAN "-01", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        CHECK_STR(gw_record_trace(slice_from_cstr(rows[i].text)), rows[i].trace);
    }
}

TEST_MAIN(TEST(test_traces))
