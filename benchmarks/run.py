"""Every benchmark in turn, `make bench`, or the quick ones. Tables go to the terminal, numbers to build/bench.

BENCH_UNTIL and BENCH_PAIRS are read by `pairs`: what there is no time for is left out, and said to be.
"""

from __future__ import annotations

import sys

import classics
import cold_start
import gradient
import large_rows
import nuts_speed
import ordinary
import scaling
import simulation
import svi_overhead
import svi_speed
import training_end
import vae_training

QUICK = (ordinary, simulation, cold_start)
SLOW = (gradient, nuts_speed, svi_speed, scaling, svi_overhead, training_end, vae_training, classics, large_rows)

if __name__ == "__main__":
    for benchmark in QUICK if "quick" in sys.argv else (*QUICK, *SLOW):
        print(f"\n{(benchmark.__doc__ or '').splitlines()[0]}", flush=True)
        benchmark.main()
