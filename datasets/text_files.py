"""Text and SMILES files, one string a line."""

from pathlib import Path

from pandas import Series

from ..errors import InputError, check_exists, check_path

__all__ = ["SMILES", "TEXT", "read_strings"]

SMILES = (".smi", ".smiles", ".ism")  # in these a name may follow the string
TEXT = (".txt", *SMILES)


def read_strings(path: str | Path) -> Series:
    """The lines of a text file (UTF-8), a Series called ``string``: (N,).

    Of a SMILES file (.smi, .smiles, .ism) the first word of each line: what follows is the molecule's name.

    Raises
    ------
    InputError
        The file is missing, empty or not text, or a line is empty.
    """
    path = check_path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the path of a file in it")
    check_exists(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: save it as such, one string a line") from error
    if not text:
        raise InputError(f"{path} is empty: give one string a line")
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise InputError(f"{path}, line {number} is empty: remove it")
    words = path.suffix.lower() in SMILES
    return Series([line.split()[0] if words else line for line in lines], name="string")
