"""The one error that a user can mend."""

__all__ = ["InputError"]


class InputError(ValueError):
    """One line: what is wrong, where (site, column, row, option), and what would mend it.

    Raised wherever the mistake is in what was handed in. The command line prints the line and exits with status 2.
    """
