/* config-reference: prints docs/CONFIGURATION.md as the option table has it. */
#include <stdio.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "config/config.h"

int main(void) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(1));
    if (config_write_reference(&text) != 0)
        return 1;
    struct slice all = buf_slice(&text);
    return fwrite(all.ptr, 1, all.len, stdout) == all.len && fflush(stdout) == 0 ? 0 : 1;
}
