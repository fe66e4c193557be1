"""What torchrun tells a process that it started; light, for the command line asks before torch is imported."""

import os

RUN = "TORCHELASTIC_RUN_ID"  # in the environment of every process that torchrun started


def launched() -> int:
    """How many processes torchrun started along with this one; 1 where it did not."""
    return int(os.environ.get("WORLD_SIZE", 1)) if RUN in os.environ else 1


def launched_rank() -> int:
    """The number of this process among them, from 0."""
    return int(os.environ.get("RANK", 0)) if RUN in os.environ else 0
