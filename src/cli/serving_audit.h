/* The audit trail of a gateway that serves: the trail, its index, its sinks. */
#pragma once

#include "audit/index.h"
#include "audit/trail.h"
#include "base/sealing.h"
#include "config/config.h"

struct serving_audit;

/* [audit] in DATA_DIR/audit, whose private keys `sealing` encrypts. CLI_OK, with NULL when it is
 * switched off; else it has said why not. */
int serving_audit_start(const struct config *config, const char *data_dir,
                        const struct sealing *sealing, struct log *log,
                        struct serving_audit **ret_audit);
/* What the gateway writes to; NULL: nothing. */
struct audit *serving_audit_trail(const struct serving_audit *audit);
/* Who looks for its records; NULL: nobody can. */
struct audit_finder *serving_audit_finder(const struct serving_audit *audit);
/* Ends the trail, when the gateway has ended and its loops are still there. Accepts NULL. */
struct serving_audit *serving_audit_free(struct serving_audit *audit);
