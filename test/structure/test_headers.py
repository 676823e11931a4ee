#!/usr/bin/env python3
"""Every header compiles alone, and twice."""

import structure

FLAGS = structure.module_flags()


def alone(path):
    def test():
        module = structure.module_of(path)
        flags = FLAGS.get(module)
        if flags is None:
            return [f"src/{module} has no C file"]
        text = f'#include "{path}"\n#include "{path}"\nint main(void) {{ return 0; }}\n'
        fine, said = structure.compiles([*flags, "-Werror"], text)
        return [] if fine else [said]
    return test


headers = sorted((structure.ROOT / "src").rglob("*.h"))
structure.run_tests([(f"{path.relative_to(structure.ROOT)} compiles alone", alone(path)) for path in headers])
