/* check-json FILE...: whether the JSON reader accepts each file, with the default limits. */
#include "check.h"
#include "json/reader.h"

static bool check(struct slice document, struct buf *reason) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct json_error error = {.reason = "no memory"};
    int r = json_reader_new(&reader);
    if (r == 0)
        r = json_read(reader, document, &json_want_root, NULL, &error);
    if (r != 0)
        buf_printf(reason, "%s (at byte %zu)", error.reason, error.offset);
    return r == 0;
}

int main(int argc, char **argv) {
    return check_main(argc, argv, check);
}
