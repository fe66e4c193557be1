"""Every benchmark in turn: `make bench`. Tables go to the terminal, numbers to build/bench/*.json."""

from __future__ import annotations

import classics
import svi_overhead

if __name__ == "__main__":
    svi_overhead.main()
    classics.main()
