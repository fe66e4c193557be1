"""Every benchmark in turn, `make bench`; the quick ones; or those that are named, `run.py nuts.gradient svi.speed`.

Tables go to the terminal, numbers to build/bench. BENCH_UNTIL and BENCH_PAIRS are read by `peers.pairs`: what there is
no time for is left out, and said to be.
"""

from __future__ import annotations

import sys
from importlib import import_module

QUICK = ("nuts.ordinary", "nuts.simulation", "cold_start")
SLOW = (
    *("nuts.gradient", "nuts.speed", "svi.speed", "svi.overhead", "svi.training_end", "vae.training", "classics"),
    *("large.scaling", "large.rows", "large.throughput"),
)

if __name__ == "__main__":
    named = sys.argv[1:] or (*QUICK, *SLOW)
    for name in QUICK if named == ["quick"] else named:
        benchmark = import_module(name)
        print(f"\n{(benchmark.__doc__ or '').splitlines()[0]}", flush=True)
        benchmark.main()
