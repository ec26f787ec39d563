"""Fuzzes the whole pipeline: `python tests/fuzz --inputs 1000000`.

Streams of all dialects are changed at random, and each is observed whole and split. The program prints how many inputs
and bytes there were, how many exceptions and internal errors, how often whole and split differ, and the slowest input.
The exit status is 1 if one of these is wrong. An input follows from its number alone. Ctrl-C ends the run, and prints
what was found so far.

    --inputs N       how many (default 20,000)
    --first N        number of the first one (default 0). `--first N --inputs 1` makes one again
    --processes N    default: one for each core
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from contextlib import suppress
from multiprocessing import get_context

from fuzz_run import Report, run

BLOCK = 2_000
"""Inputs that a process takes at once."""


def main() -> int:
    """Run, print, and give the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    last = options.first + options.inputs
    blocks = [range(start, min(start + BLOCK, last)) for start in range(options.first, last, BLOCK)]
    report, began = Report(), time.monotonic()
    with get_context("spawn").Pool(options.processes) as pool, suppress(KeyboardInterrupt):
        for part in pool.imap_unordered(run, blocks):
            report.add(part)
            print(f"\r{report.inputs:,} of {options.inputs:,}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print("\n".join(report.lines()))
    print(f"{'seconds':<36} {time.monotonic() - began:,.0f}")
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
