"""The one error that a user can mend, and the commonest reason for it."""

__all__ = ["InputError", "check_positive"]


class InputError(ValueError):
    """One line: what is wrong, where (site, column, row, option), and what would mend it.

    Raised wherever the mistake is in what was handed in. The command line prints the line and exits with status 2.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import GMM
    >>> GMM(components=0)
    Traceback (most recent call last):
        ...
    pyrometer.errors.InputError: components=0 must be a whole number, 1 or more
    """


def check_positive(**sizes: int) -> None:
    """Raise InputError where a size is not a whole number, 1 or more."""
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name}={value!r} must be a whole number, 1 or more")
