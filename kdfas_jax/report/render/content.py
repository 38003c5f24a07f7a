"""What a page consists of: cells, parts and sections. The templates say how each kind looks (`render.html`).

All texts are plain; the templates escape them. `kind` names the macro in templates/macros.html that shows the object.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Figure:
    """A figure in a table: a fraction, shown in per cent, or an `area`, shown with four decimals.

    value: None is shown as a dash. words: below it, such as its interval. bar: with a bar of proportional length.
    """

    kind: ClassVar = "figure"
    value: float | None
    words: str = ""
    area: bool = False
    bar: bool = False


@dataclass(frozen=True)
class Named:
    """A name with an explanation below it."""

    kind: ClassVar = "named"
    name: str
    words: str


Cell = str | Figure | Named


@dataclass(frozen=True)
class Table:
    """A table that scrolls inside its box where it is too wide. title: a heading above it, '' for none."""

    kind: ClassVar = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""


@dataclass(frozen=True)
class Plots:
    """Plots (caption, <svg> element) beside each other."""

    kind: ClassVar = "plots"
    plots: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Pairs:
    """Bars of error rates in groups: (name, words, [(error rate's name, fraction), ...])."""

    kind: ClassVar = "pairs"
    groups: Sequence[tuple[str, str, Sequence[tuple[str, float]]]]


@dataclass(frozen=True)
class Face:
    """A picture: `source` is a data address, `name` says what it shows, `words` are further lines, `wrong` an error."""

    source: str
    name: str
    words: Sequence[str]
    wrong: bool


@dataclass(frozen=True)
class Gallery:
    """Faces under a heading."""

    kind: ClassVar = "gallery"
    title: str
    faces: Sequence[Face]


@dataclass(frozen=True)
class Text:
    """A paragraph, with a heading above it where there is a title."""

    kind: ClassVar = "text"
    words: str
    title: str = ""


@dataclass(frozen=True)
class Columns:
    """Parts beside each other where the page is wide enough."""

    kind: ClassVar = "columns"
    parts: Sequence["Part"]


Part = Table | Plots | Pairs | Gallery | Text | Columns


@dataclass(frozen=True)
class Section:
    """A section with a title, an introduction and its parts; a section without parts is left out of the page.

    half: it takes half of a wide page, beside the next or the previous one.
    """

    title: str
    words: str
    parts: Sequence[Part]
    half: bool = False

    @property
    def anchor(self) -> str:
        """The section's address in the page: 'By attack species' is 'by-attack-species'."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Grid:
    """One hundred presentations, `wrong` of which (0 to 100) are errors. icon: 'attack' or 'live'."""

    icon: str
    wrong: int
    title: str
    words: Sequence[str]


@dataclass(frozen=True)
class Hero:
    """The top of a page: the verdict in one sentence, two grids, and examples of what the model was shown."""

    verdict: str
    grids: Sequence[Grid] = ()
    examples: Sequence[Face] = ()
    words: Sequence[str] = ()
