"""How much the generated inputs are: a little with the suite, the same every time; much by `make fuzz`, new every time.

`suite`, the default: 150 for each half (a file of this folder), derandomized. `fuzz`: 5,000 for each half, or as many
as FUZZ_EXAMPLES says, random; a failure prints the `@reproduce_failure` that brings it back, and the next run begins
with it. A half of several tests shares its examples among them: `@settings(max_examples=examples // 3)`, where
`examples = settings().max_examples` was read when the file was imported.
"""

import os
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.database import DirectoryBasedExampleDatabase

HOME = Path(__file__).parents[2] / "build" / "hypothesis"  # where git does not look, and `make clean` does
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": SLOW}

set_hypothesis_home_dir(HOME)
settings.register_profile("suite", max_examples=150, derandomize=True, database=None, **COMMON)
settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "5000")),
    database=DirectoryBasedExampleDatabase(HOME / "examples"),
    print_blob=True,
    **COMMON,
)
settings.load_profile("suite")  # `--hypothesis-profile fuzz` comes after it
