#include "resolver.h"

#include <ares.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "address.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/mem.h"
#include "fd_poll.h"
#include "loop_private.h"

/*
 * c-ares does the protocol; the loop watches its sockets and its one timer. Three things are done
 * here instead of leaving them to ares_getaddrinfo():
 *
 * - Each look-up has a channel. It can be given up alone, nobody waits behind it, its questions
 * come from a port that no other look-up uses, and a changed resolv.conf counts at once.
 * - A and AAAA are asked as two questions, because ares_getaddrinfo() answers only when both are
 *   there, and servers that never answer AAAA exist (RFC 8305 section 3 wants them apart too).
 * - So the search list of resolv.conf is walked here, both families together: a name whose A record
 *   is found under one domain must not get its AAAA record from another.
 *
 * /etc/hosts comes first, and a name that it has is not asked for by DNS.
 *
 * ares_library_init() does nothing but count on Unix and is not safe in threads, so it is not
 * called; ares_library_initialized() says where that would be wrong.
 */

enum { TRY_MS = 1500, TRIES = 3, NAME_SIZE = 256, SEARCH_MAX = 8 };

struct io_resolver {
    struct io_loop *loop;
    ares_channel files; /* for /etc/hosts only: answers inside of the question */
    char *test_servers; /* owned; NULL: those of the system */
};

struct socket_poll {
    struct list_link link;
    struct fd_poll *poll;
};

struct question {
    struct lookup *lookup;
    ares_channel channel; /* NULL: /etc/hosts had the name */
    struct io_timer *timer;
    struct list sockets;
    bool is_done;
    int status; /* of c-ares */
    struct io_address found[LIMIT_DIAL_ADDRESSES];
    size_t count;
};

struct lookup {
    struct io_resolver *resolver;
    uint16_t port;
    lookup_fn *fn;
    void *context;
    struct question questions[LOOKUP_FAMILIES];
    /* What is asked for, one after the other: whole names with their last dot. */
    char names[SEARCH_MAX + 1][NAME_SIZE];
    size_t name_count, next_name;
    bool has_name; /* one of them exists, with or without an address */
    bool has_news;
};

/* --- sentences --- */

static int error_of_status(int status, const char **ret_reason) {
    static const struct {
        int status, error;
        const char *reason;
    } rows[] = {
        {ARES_ENOTFOUND, -ENOENT, "no such host"},
        {ARES_ENODATA, -ENOENT, "the host name has no address"},
        {ARES_EBADNAME, -EINVAL, "not a host name"},
        {ARES_ETIMEOUT, -ETIMEDOUT, "the name server did not answer"},
        /* c-ares goes on to the next server, and after the last one does not say why. */
        {ARES_ECONNREFUSED, -EIO, "no name server could answer"},
        {ARES_EREFUSED, -EIO, "no name server could answer"},
        {ARES_ESERVFAIL, -EIO, "no name server could answer"},
        {ARES_ENOTIMP, -EIO, "no name server could answer"},
        {ARES_ENOMEM, -ENOMEM, "out of memory"},
        {ARES_EFILE, -EIO, "the configuration of the name service cannot be read"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].status == status) {
            *ret_reason = rows[i].reason;
            return rows[i].error;
        }
    }
    *ret_reason = "the answer of the name server makes no sense";
    return -EIO;
}

/* There is no such name or no address: not a fault that may pass. */
static bool is_final(int status) {
    return status == ARES_ENOTFOUND || status == ARES_ENODATA;
}

int lookup_error(const struct lookup *lookup, const char **ret_reason) {
    int v4 = lookup->questions[LOOKUP_V4].status, v6 = lookup->questions[LOOKUP_V6].status;
    if (is_final(v4) && is_final(v6))
        return error_of_status(lookup->has_name ? ARES_ENODATA : ARES_ENOTFOUND, ret_reason);
    return error_of_status(is_final(v4) || v4 == ARES_SUCCESS ? v6 : v4, ret_reason);
}

/* --- names --- */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_alpha(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_label(struct slice label) {
    if (label.len == 0 || label.len > 63)
        return false;
    for (size_t i = 0; i < label.len; i++) {
        char c = label.ptr[i];
        if (!is_digit(c) && !is_alpha(c) && c != '-' && c != '_')
            return false;
    }
    return true;
}

/* What inet_aton(3) and browsers take for a part of an IPv4 address. */
static bool is_number(struct slice label) {
    if (slice_starts_with_nocase(label, SLICE("0x")))
        return true;
    for (size_t i = 0; i < label.len; i++) {
        if (!is_digit(label.ptr[i]))
            return false;
    }
    return true;
}

bool lookup_is_name(struct slice name) {
    if (slice_ends_with(name, SLICE(".")))
        name = slice_sub(name, 0, name.len - 1);
    if (name.len > 253)
        return false;
    struct slice label;
    bool has_more;
    do {
        has_more = slice_cut(name, '.', &label, &name);
        if (!is_label(label))
            return false;
    } while (has_more);
    return !is_number(label);
}

static void add_name(struct lookup *lookup, const char *name, const char *domain) {
    if (lookup->name_count == ARRAY_LEN(lookup->names))
        return;
    char *out = lookup->names[lookup->name_count];
    int n = snprintf(out, NAME_SIZE, "%s%s%s", name, domain[0] != '\0' ? "." : "", domain);
    if (n <= 0 || n > 253)
        return;
    if (out[n - 1] != '.')
        snprintf(out + n, NAME_SIZE - (size_t)n, ".");
    lookup->name_count++;
}

/* resolv.conf(5), search and ndots. A name that ends in a dot is whole. */
static int list_names(struct lookup *lookup, const char *name) {
    struct ares_options options = {0};
    int mask = 0, ndots = 1;
    if (strchr(name, '\0')[-1] == '.') {
        add_name(lookup, name, "");
        return ARES_SUCCESS;
    }
    int status = ares_save_options(lookup->questions[LOOKUP_V4].channel, &options, &mask);
    if (status != ARES_SUCCESS)
        return status;
    if ((mask & ARES_OPT_NDOTS) != 0)
        ndots = options.ndots;
    int dots = 0;
    for (const char *c = name; *c != '\0'; c++)
        dots += *c == '.';
    if (dots >= ndots)
        add_name(lookup, name, "");
    int domains = options.ndomains < SEARCH_MAX ? options.ndomains : SEARCH_MAX;
    for (int i = 0; i < domains; i++) {
        if (strcmp(options.domains[i], ".") != 0 && options.domains[i][0] != '\0')
            add_name(lookup, name, options.domains[i]);
    }
    if (dots < ndots)
        add_name(lookup, name, "");
    ares_destroy_options(&options);
    return ARES_SUCCESS;
}

/* --- the sockets and the timer of a channel --- */

static void after_ares(struct lookup *lookup);

static void on_socket(void *context, int fd, int events) {
    struct question *question = context;
    ares_process_fd(question->channel, (events & UV_READABLE) != 0 ? fd : ARES_SOCKET_BAD,
                    (events & UV_WRITABLE) != 0 ? fd : ARES_SOCKET_BAD);
    after_ares(question->lookup);
}

static void on_timer(void *context) {
    struct question *question = context;
    ares_process_fd(question->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    after_ares(question->lookup);
}

static struct socket_poll *find_socket(struct question *question, int fd) {
    LIST_FOREACH_SAFE (&question->sockets, link, next) {
        struct socket_poll *entry = CONTAINER_OF(link, struct socket_poll, link);
        if (fd_poll_fd(entry->poll) == fd)
            return entry;
    }
    return NULL;
}

static void forget_socket(struct socket_poll *entry) {
    list_remove(&entry->link);
    fd_poll_free(entry->poll);
    mem_free(entry);
}

/* What c-ares wants to know of a socket; nothing more: it closes it next. A socket that cannot be
 * watched is one whose server does not answer. */
static void on_socket_state(void *context, ares_socket_t fd, int readable, int writable) {
    struct question *question = context;
    int events = (readable != 0 ? UV_READABLE : 0) | (writable != 0 ? UV_WRITABLE : 0);
    struct socket_poll *entry = find_socket(question, fd);
    if (entry == NULL && events != 0) {
        struct io_loop *loop = question->lookup->resolver->loop;
        struct fd_poll *poll = NULL;
        if (fd_poll_new(loop, fd, on_socket, question, &poll) != 0)
            return;
        entry = mem_xalloc(sizeof *entry);
        entry->poll = poll;
        list_push_back(&question->sockets, &entry->link);
    }
    if (entry != NULL && (events == 0 || fd_poll_start(entry->poll, events) != 0))
        forget_socket(entry);
}

static void arm_timer(struct question *question) {
    struct timeval tv;
    if (ares_timeout(question->channel, NULL, &tv) == NULL)
        io_timer_stop(question->timer);
    else /* rounded up: what fires too early asks again for nothing */
        io_timer_start(question->timer,
                       (uint64_t)tv.tv_sec * 1000 + (uint64_t)tv.tv_usec / 1000 + 1);
}

/* --- questions and answers --- */

static void add_address(struct question *question, const struct io_address *address) {
    for (size_t i = 0; i < question->count; i++) {
        if (strcmp(question->found[i].text, address->text) == 0)
            return;
    }
    if (question->count < ARRAY_LEN(question->found))
        question->found[question->count++] = *address;
}

static void add_answers(struct lookup *lookup, const struct ares_addrinfo *answers) {
    for (const struct ares_addrinfo_node *node = answers->nodes; node != NULL;
         node = node->ai_next) {
        struct io_address address;
        if (node->ai_family == AF_INET && node->ai_addrlen >= sizeof(struct sockaddr_in)) {
            struct sockaddr_in in;
            memcpy(&in, node->ai_addr, sizeof in);
            address_of_peer_v4(&in.sin_addr, lookup->port, &address);
            add_address(&lookup->questions[LOOKUP_V4], &address);
        } else if (node->ai_family == AF_INET6 && node->ai_addrlen >= sizeof(struct sockaddr_in6)) {
            struct sockaddr_in6 in;
            memcpy(&in, node->ai_addr, sizeof in);
            address_of_peer_v6(&in.sin6_addr, lookup->port, &address);
            add_address(&lookup->questions[LOOKUP_V6], &address);
        }
    }
}

static size_t count_all(const struct lookup *lookup) {
    return lookup->questions[LOOKUP_V4].count + lookup->questions[LOOKUP_V6].count;
}

/* Called by c-ares, sometimes from inside of the question: only notes what came. */
static void on_answer(void *context, int status, int timeouts, struct ares_addrinfo *answers) {
    struct question *question = context;
    (void)timeouts;
    if (status == ARES_SUCCESS && answers != NULL)
        add_answers(question->lookup, answers);
    if (answers != NULL)
        ares_freeaddrinfo(answers);
    if (status == ARES_ENODATA)
        question->lookup->has_name = true;
    question->is_done = true;
    question->status = status;
    question->lookup->has_news = true;
}

static void ask(struct lookup *lookup) {
    const char *name = lookup->names[lookup->next_name++];
    for (int i = 0; i < LOOKUP_FAMILIES; i++)
        lookup->questions[i].is_done = false;
    for (int i = 0; i < LOOKUP_FAMILIES; i++) {
        struct ares_addrinfo_hints hints = {.ai_family = i == LOOKUP_V4 ? AF_INET : AF_INET6,
                                            .ai_socktype = SOCK_STREAM};
        ares_getaddrinfo(lookup->questions[i].channel, name, NULL, &hints, on_answer,
                         &lookup->questions[i]);
    }
}

static bool both_done(const struct lookup *lookup) {
    return lookup->questions[LOOKUP_V4].is_done && lookup->questions[LOOKUP_V6].is_done;
}

/* A fault that may pass ends the walk: the next domain might have another host of this name. */
static bool wants_next_name(const struct lookup *lookup) {
    return both_done(lookup) && count_all(lookup) == 0 && lookup->next_name < lookup->name_count &&
           is_final(lookup->questions[LOOKUP_V4].status) &&
           is_final(lookup->questions[LOOKUP_V6].status);
}

static void go_on(struct lookup *lookup) {
    while (wants_next_name(lookup))
        ask(lookup);
    uv_update_time(&lookup->resolver->loop->uv);
    for (int i = 0; i < LOOKUP_FAMILIES; i++)
        arm_timer(&lookup->questions[i]);
}

static void after_ares(struct lookup *lookup) {
    go_on(lookup);
    if (lookup->has_news) {
        lookup->has_news = false;
        lookup->fn(lookup->context); /* may free the look-up */
    }
}

bool lookup_is_done(const struct lookup *lookup, enum lookup_family family) {
    return lookup->questions[family].is_done;
}

size_t lookup_count(const struct lookup *lookup, enum lookup_family family) {
    return lookup->questions[family].count;
}

const struct io_address *lookup_address(const struct lookup *lookup, enum lookup_family family,
                                        size_t index) {
    return &lookup->questions[family].found[index];
}

/* --- a look-up --- */

static void on_file_answer(void *context, int status, int timeouts, struct ares_addrinfo *answers) {
    struct lookup *lookup = context;
    (void)timeouts;
    if (status == ARES_SUCCESS && answers != NULL)
        add_answers(lookup, answers);
    if (answers != NULL)
        ares_freeaddrinfo(answers);
}

/* hosts(5) knows no last dot. */
static bool is_in_hosts(struct lookup *lookup, const char *name) {
    char bare[NAME_SIZE];
    struct slice text = slice_from_cstr(name);
    struct ares_addrinfo_hints hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = lookup->resolver->test_servers != NULL ? ARES_AI_ENVHOSTS : 0,
    };
    if (slice_ends_with(text, SLICE(".")))
        text.len--;
    if (slice_to_cstr(text, bare, sizeof bare) == 0)
        ares_getaddrinfo(lookup->resolver->files, bare, NULL, &hints, on_file_answer, lookup);
    for (int i = 0; i < LOOKUP_FAMILIES; i++) {
        lookup->questions[i].is_done = true;
        lookup->questions[i].status = ARES_ENODATA;
    }
    return count_all(lookup) != 0;
}

static int open_channel(struct question *question) {
    struct io_resolver *resolver = question->lookup->resolver;
    char lookups[] = "b";
    struct ares_options options = {
        .flags = ARES_FLAG_NOALIASES,
        .timeout = TRY_MS,
        .tries = TRIES,
        .lookups = lookups,
        .sock_state_cb = on_socket_state,
        .sock_state_cb_data = question,
    };
    int status = ares_init_options(&question->channel, &options,
                                   ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
                                       ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB);
    if (status != ARES_SUCCESS) {
        question->channel = NULL;
        return status;
    }
    question->timer = io_timer_new(resolver->loop, on_timer, question);
    if (resolver->test_servers != NULL)
        status = ares_set_servers_ports_csv(question->channel, resolver->test_servers);
    return status;
}

static int start_dns(struct lookup *lookup, const char *name) {
    for (int i = 0; i < LOOKUP_FAMILIES; i++) {
        int status = open_channel(&lookup->questions[i]);
        if (status != ARES_SUCCESS)
            return status;
    }
    int status = list_names(lookup, name);
    if (status != ARES_SUCCESS)
        return status;
    if (lookup->name_count == 0)
        return ARES_EBADNAME;
    ask(lookup);
    go_on(lookup);
    lookup->has_news = false; /* the caller looks at what there is */
    return ARES_SUCCESS;
}

int lookup_start(struct io_resolver *resolver, struct slice name, uint16_t port, lookup_fn *fn,
                 void *context, struct lookup **ret_lookup, const char **ret_reason) {
    char text[NAME_SIZE];
    if (!lookup_is_name(name) || slice_to_cstr(name, text, sizeof text) != 0)
        return error_of_status(ARES_EBADNAME, ret_reason);
    struct lookup *lookup = mem_xalloc(sizeof *lookup);
    lookup->resolver = resolver;
    lookup->port = port;
    lookup->fn = fn;
    lookup->context = context;
    for (int i = 0; i < LOOKUP_FAMILIES; i++) {
        lookup->questions[i].lookup = lookup;
        list_init(&lookup->questions[i].sockets);
    }
    int status = is_in_hosts(lookup, text) ? ARES_SUCCESS : start_dns(lookup, text);
    if (status != ARES_SUCCESS) {
        lookup_free(lookup);
        return error_of_status(status, ret_reason);
    }
    *ret_lookup = lookup;
    return 0;
}

struct lookup *lookup_free(struct lookup *lookup) {
    if (lookup == NULL)
        return NULL;
    for (int i = 0; i < LOOKUP_FAMILIES; i++) {
        struct question *question = &lookup->questions[i];
        struct list_link *link;
        if (question->channel != NULL)
            ares_destroy(question->channel); /* calls on_answer() and on_socket_state() */
        while ((link = list_first(&question->sockets)) != NULL)
            forget_socket(CONTAINER_OF(link, struct socket_poll, link));
        io_timer_free(question->timer);
    }
    mem_free(lookup);
    return NULL;
}

/* --- the resolver --- */

int io_resolver_new(struct io_loop *loop, struct io_resolver **ret_resolver) {
    char lookups[] = "f";
    struct ares_options options = {.flags = ARES_FLAG_NOALIASES, .lookups = lookups};
    const char *reason;
    int status = ares_library_initialized();
    if (status != ARES_SUCCESS)
        return -ENOSYS;
    struct io_resolver *resolver = mem_xalloc(sizeof *resolver);
    resolver->loop = loop;
    status = ares_init_options(&resolver->files, &options, ARES_OPT_FLAGS | ARES_OPT_LOOKUPS);
    if (status != ARES_SUCCESS) {
        mem_free(resolver);
        return error_of_status(status, &reason);
    }
    *ret_resolver = resolver;
    return 0;
}

struct io_resolver *io_resolver_free(struct io_resolver *resolver) {
    if (resolver != NULL) {
        ares_destroy(resolver->files);
        mem_free(resolver->test_servers);
        mem_free(resolver);
    }
    return NULL;
}

struct io_loop *resolver_loop(const struct io_resolver *resolver) {
    return resolver->loop;
}

void resolver_set_test_servers(struct io_resolver *resolver, const char *servers) {
    mem_free(resolver->test_servers);
    resolver->test_servers = mem_xstrdup(servers);
}
