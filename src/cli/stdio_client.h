/* Standard input and output as they belong to a client, who hears nothing but messages there. */
#pragma once

#include <stdbool.h>

#include "base/compiler.h"

struct cli_stdio;

/*
 * First of all: descriptors 0 and 1 are given other numbers, and what is read from there or printed
 * from now on comes from nowhere and goes to standard error. False: that is said on stderr.
 */
bool cli_stdio_take(void);
/*
 * Both as descriptors that a loop can wait for, for the caller to close: files, which no loop can
 * wait for, are copied by a thread. -errno.
 */
MUST_CHECK int cli_stdio_open(int *ret_in_fd, int *ret_out_fd, struct cli_stdio **ret_stdio);
/* After both were closed: until a file is written whole. Accepts NULL. */
struct cli_stdio *cli_stdio_free(struct cli_stdio *stdio);
