#!/usr/bin/env python3
"""A forbidden include does not compile: each module is handed every other module's headers."""

import structure
from floors import MAY_INCLUDE

FLAGS = structure.module_flags()
HEADERS = structure.public_headers()


def include(module, header):
    return structure.compiles(FLAGS[module], f'#include "{header}"\nint main(void) {{ return 0; }}\n')


def own_headers(module):
    def test():
        """Without this one the others would pass for any reason at all."""
        return [f"{module}: its own {header} does not compile:\n{said}"
                for header in HEADERS.get(module, []) for fine, said in [include(module, header)] if not fine]
    return test


def forbidden(module):
    def test():
        complaints = []
        for other in HEADERS.keys() - MAY_INCLUDE.get(module, set()) - {module}:
            fine, said = include(module, HEADERS[other][0])
            if fine:
                complaints.append(f"{module} can include {HEADERS[other][0]}; scripts/floors.py does not allow it")
            elif "No such file" not in said:
                complaints.append(f"{module}: {HEADERS[other][0]} fails for another reason:\n{said}")
        return complaints
    return test


def every_module_is_in_the_table():
    return [f"src/{module} has no row in scripts/floors.py" for module in FLAGS if module not in MAY_INCLUDE]


structure.run_tests(
    [("every module has its row", every_module_is_in_the_table)]
    + [(f"{module} includes its own headers", own_headers(module)) for module in FLAGS if HEADERS.get(module)]
    + [(f"{module} includes nothing from above or beside", forbidden(module)) for module in FLAGS]
)
