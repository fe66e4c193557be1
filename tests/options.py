"""Options of the command line, for tests that want it to be over soon."""


def brief(guides: str, reference: str) -> list[str]:
    """Those of a comparison of guides that takes seconds, and converges to nothing."""
    quick = ["--steps", "40", "--starts", "1", "--draws", "20", "--quiet"]
    return ["--guides", guides, "--reference", reference, *quick]
