"""`scripts/simulate`: many seeds of the simulated cluster, a table of the rules that can be switched off, and one of
how a cluster does as it grows."""

import argparse
import time
from collections import Counter

from tests.harness.scale import measure
from tests.harness.weather import RULES, weather


def main() -> int:
    """0 when every invariant held in every seed, or when a table was asked for."""
    options = _options()
    if options.table:
        for rule in RULES:
            _print_bites(rule, options)
        return 0
    if options.scale:
        for members in (3, 5, 10, 20, 50, 100):
            print(measure(members), flush=True)
        return 0
    return _run(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--first", type=int, default=0, help="the first seed; one that failed repeats exactly")
    parser.add_argument("--members", type=_count, help="3 to 100 (default: 3, 5 or 7, by the seed)")
    parser.add_argument("--off", action="append", default=[], choices=RULES, metavar="RULE", help=", ".join(RULES))
    parser.add_argument("--table", action="store_true", help="every rule switched off in turn: which seeds bite")
    parser.add_argument("--scale", action="store_true", help="traffic, election and commit times up to 100 members")
    return parser.parse_args()


def _count(text: str) -> int:
    if not 3 <= int(text) <= 100:
        raise argparse.ArgumentTypeError("3 to 100 members")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    started = time.monotonic()
    sums: Counter[str] = Counter()
    failed = []
    for seed in range(options.first, options.first + options.seeds):
        try:
            world = weather(seed, options.members, options.off)
        except Exception as error:  # whatever ends a member is a failure of the seed
            failed.append(seed)
            print(f"seed {seed} failed: {type(error).__name__}: {error}", flush=True)
            continue
        sums["acknowledged transactions"] += len(world.acknowledged)
        sums["terms"] += max(world.leaders, default=0)
        sums["snapshots installed"] += world.snapshots
        sums["stores lost and fetched"] += world.healed
    counts = ", ".join(f"{count:,} {what}" for what, count in sums.items())
    print(f"{options.seeds} seeds in {time.monotonic() - started:.0f} s: {counts}; {len(failed)} failed")
    if failed:
        print(f"repeat one with: scripts/simulate --seeds 1 --first {failed[0]}")
    return 1 if failed else 0


def _print_bites(rule: str, options: argparse.Namespace) -> None:
    bites: dict[int, str] = {}
    for seed in range(options.first, options.first + options.seeds):
        try:
            weather(seed, options.members, [*options.off, rule])
        except Exception as error:  # any of them shows that the rule is needed
            bites[seed] = str(error).partition("\n")[0] or type(error).__name__
    first = next(iter(bites), None)
    example = f"; seed {first}: {bites[first]}" if first is not None else ""
    print(f"{rule}: {len(bites)} of {options.seeds} seeds{example}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
