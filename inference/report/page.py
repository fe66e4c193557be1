"""A page of its own: sections of prose, tables, code and pictures in one HTML file that asks for nothing else."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...display.html import render
from ...display.table import Mark
from ...errors import InputError, check_path
from ...models.structure import one_line
from ..runtime.file import replace_file
from ..runtime.folder import check_folder
from .pictures import Picture

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Section:
    """A part of a page: a title, sentences, and parts of markup. closed: whether it is folded until somebody asks."""

    title: str
    parts: Sequence[Any] = ()
    prose: Sequence[str] = ()
    closed: bool = False


def page(title: str, sentence: str, sections: Sequence[Section], tone: Mark = "", about: str = "") -> str:
    """The text of an HTML file. sentence: what it all comes to. tone: whether that is good. about: a line above it."""
    return str(render("report.html", title=title, sentence=sentence, sections=sections, tone=tone, about=about))


def write_page(path: str | Path, text: str) -> Path:
    """Write a page, whole or not at all; the folders above it are made. Raises InputError where that cannot be."""
    path = check_page(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
    except OSError as error:
        raise InputError(f"cannot write the report to {path}: {(error.strerror or str(error)).lower()}") from error
    return path


def check_page(path: str | Path) -> Path:
    """The path of a page, where a link leads. Raises InputError where none could be written; nothing is left there."""
    path = check_path(path)
    path = path.resolve() if path.is_symlink() else path
    if path.is_dir():
        raise InputError(f"cannot write the report to {path}: it is a folder; name a file, {path / 'index.html'} say")
    if path.exists() and not path.is_file():
        raise InputError(f"cannot write the report to {path}: it is no file; name one, report.html say")
    check_folder(path.parent)
    return path


def code(text: str) -> Markup:
    """Lines of code, escaped."""
    return render("code.html", text=text)


def picture(draw: Callable[[], Any] | Picture, says: str) -> Markup:
    """A matplotlib Figure, or Axes of one, as an image within the page; a line that says why where it cannot be drawn.

    says: what it shows, for who cannot see it.
    """
    drawn = draw if isinstance(draw, Picture) else Picture(draw)
    try:
        content = base64.b64encode(drawn.small).decode()
        return render("picture.html", kind="png", content=content, says=says, why="")
    except Exception as error:  # a picture that fails costs the page itself alone
        why = str(error) if isinstance(error, InputError) else one_line(error)
        return render("picture.html", kind="", content="", says=says, why=why)


def drawing(svg: bytes, says: str) -> Markup:
    """An SVG as an image within the page, in which no script of its own could run."""
    return render("picture.html", kind="svg+xml", content=base64.b64encode(svg).decode(), says=says, why="")
