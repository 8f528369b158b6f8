"""`scripts/every-line`: work of daemons in which one dies before each line that they run through, once each.

Owns the command; what is asked and what must hold afterwards are the parts': `every_join.py`, `every_container.py`."""

import argparse
import sys
import time
from functools import partial

from tests.harness import every_container, every_join
from tests.harness.deaths import Found, every_line


def main() -> int:
    """0 when all held after every death."""
    parser = argparse.ArgumentParser(prog="scripts/every-line", description=__doc__)
    parser.add_argument("part", nargs="?", choices=("joins", "containers"), default="joins")
    parser.add_argument("--operation", action="append", choices=list(every_container.WORKS), help="of containers")
    parser.add_argument("--first", type=int, default=0, help="of all deaths")
    parser.add_argument("--step", type=int, default=1, help="every so many")
    options = parser.parse_args()
    found: Found = every_join.founded
    if options.part == "containers":
        found = partial(every_container.founded, options.operation)
    began = time.monotonic()
    report = every_line(found, options.first, options.step)
    for death in report.missed:
        print(f"not run through again: {death}")
    print(*report.table(), sep="\n")
    print(
        f"{len(report.reached)} deaths, {len(report.failed)} after which something did not hold, "
        f"{len(report.missed)} lines not reached; {time.monotonic() - began:.0f} s"
    )
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
