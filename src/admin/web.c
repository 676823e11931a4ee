/* Pages for browsers, with their scripts and style sheets: the same for everybody. What is in them
 * is what people are told; what they do is done by the API. */
#include "web.h"

#include "handlers.h"
#include "private.h"

void api_get_page(struct api_request *request) {
    const struct slice wanted = slice_from_cstr(request->route->page);
    for (size_t i = 0; i < n_web_files; i++) {
        if (slice_eq(slice_from_cstr(web_files[i].name), wanted))
            buf_append(&request->answer.body, web_files[i].content);
    }
    api_request_done(request, 0);
}
