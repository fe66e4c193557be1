"""A few numbers that several processes see: how far each chain is, and whether to stop."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["Board"]


class Board:
    """Counts of the chains' steps and a stop sign, in a small file mapped into memory."""

    def __init__(self, file: Path, chains: int) -> None:
        self.file = file
        self.chains = chains
        self._cells = np.memmap(file, np.int64, "r+" if file.exists() else "w+", shape=(chains + 1,))

    def __reduce__(self) -> tuple[type[Board], tuple[Path, int]]:
        return Board, (self.file, self.chains)

    def report(self, chain: int, steps: int) -> None:
        """Say how many steps a chain has taken."""
        self._cells[chain] = steps

    def steps(self) -> int:
        """Steps of all chains together."""
        return int(self._cells[:-1].sum())

    def stop(self) -> None:
        """Ask every chain to stop at its next draw."""
        self._cells[-1] = 1

    def stopped(self) -> bool:
        """Whether chains were asked to stop."""
        return bool(self._cells[-1])
