"""Every benchmark in turn: `make bench`. Tables go to the terminal, numbers to build/bench/*.json."""

from __future__ import annotations

import classics
import cold_start
import gradient
import nuts_speed
import scaling
import svi_overhead
import svi_speed
import vae_training

if __name__ == "__main__":
    gradient.main()
    nuts_speed.main()
    svi_speed.main()
    cold_start.main()
    scaling.main()
    svi_overhead.main()
    vae_training.main()
    classics.main()
