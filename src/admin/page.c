/* Lists in pages. An answer has a maximum, and what is in a list may be long: so a page ends by its
 * length, too, and not only by the number of its items. */
#include "private.h"

enum { USUAL_PAGE = 50 };

void api_page_begin(struct api_page *page, struct api_request *request) {
    *page = (struct api_page){.request = request,
                              .most = api_query_number(request, "limit", USUAL_PAGE)};
    json_writer_init(&page->writer, &request->answer.body);
    json_object_begin(&page->writer);
    json_key(&page->writer, SLICE("items"));
    json_array_begin(&page->writer);
}

bool api_page_takes(struct api_page *page) {
    page->has_more = page->n == page->most || buf_len(&page->request->answer.body) > API_PAGE;
    if (!page->has_more)
        page->n++;
    return !page->has_more;
}

static void end(struct api_page *page, struct slice cursor) {
    json_array_end(&page->writer);
    json_key(&page->writer, SLICE("next"));
    if (page->has_more)
        json_string(&page->writer, cursor);
    else
        json_null(&page->writer);
    json_object_end(&page->writer);
}

void api_page_end(struct api_page *page, struct slice place) {
    CLEANUP(buf_deinit) struct buf cursor = BUF_INIT(KIB(1));
    guard_write_cursor(&cursor, place);
    end(page, buf_slice(&cursor));
}

void api_page_end_at(struct api_page *page, const struct accounts_place *place) {
    CLEANUP(buf_deinit) struct buf cursor = BUF_INIT(KIB(1));
    guard_write_place(&cursor, place);
    end(page, buf_slice(&cursor));
}

static int refuse(struct api_request *request) {
    return api_refuse(request, 400, "cursor: is none of this list", NULL);
}

int api_read_cursor(struct api_request *request, struct buf *place) {
    struct slice cursor = api_query(request, "cursor");
    int error = cursor.ptr != NULL ? guard_read_cursor(cursor, place) : 0;
    return error > 0 ? refuse(request) : error;
}

int api_read_place(struct api_request *request, struct accounts_place *ret_place,
                   bool *ret_is_there) {
    struct slice cursor = api_query(request, "cursor");
    int error = cursor.ptr != NULL ? guard_read_place(cursor, ret_place) : 0;
    *ret_is_there = cursor.ptr != NULL;
    return error > 0 ? refuse(request) : error;
}
