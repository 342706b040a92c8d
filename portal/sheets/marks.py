"""Print marks: what a printed page is made of, and how words are made to fit a place.

A layout is a list of marks in millimetres from the top left corner; `printing` turns it into PDF,
PNG or SVG. Because everything that is printed is a mark with a known box, a test can prove that
nothing overlaps. Pure: how wide a text is comes in as a function of the font in use.
"""

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

Measure = Callable[[str, float, bool], float]
"""Width in mm of a text at a font size in mm, bold or not."""

ASCENT, DESCENT = 0.76, 0.22
"""How far letters reach over and under the line they stand on, in font sizes."""
LEADING = 1.18
"""From one line to the next, in font sizes."""
_SHRINK = 0.96

CODE, CODE_1, CODE_2, CODE_3, SERIAL = "code", "code 1", "code 2", "code 3", "serial"
"""What of a card a text stands for; its box is wide enough for every card of the sheet."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Text:
    """One line of words: from the left end of its base line."""

    x: float
    y: float
    text: str
    size: float
    width: float
    is_bold: bool = False
    slot: str | None = None
    """CODE ... SERIAL where the words are the card's own."""


@dataclass(frozen=True, slots=True)
class Qr:
    """A QR code with its quiet zone; x and y are the corner of the quiet zone."""

    x: float
    y: float
    module: float
    """Edge of one module in mm."""
    modules: int
    """Modules along an edge, without the quiet zone."""
    level: str
    content: str | None = None
    """None: the card's URL."""

    @property
    def edge(self) -> float:
        """Length of an edge in mm, quiet zone included."""
        return self.module * (self.modules + 2 * QUIET)


QUIET = 4
"""Modules of white around a QR code that readers are promised (ISO/IEC 18004)."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """A black line through points."""

    points: tuple[Point, ...]
    width: float
    is_dashed: bool = False
    is_closed: bool = False


@dataclass(frozen=True, slots=True)
class Fill:
    """A filled polygon."""

    points: tuple[Point, ...]


Mark = Text | Qr | Stroke | Fill


@dataclass(frozen=True, slots=True)
class Box:
    """The place a mark takes, in mm."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box", slack: float = 0.02) -> bool:
        """Tell whether two places share more than a hair."""
        return (
            min(self.right, other.right) - max(self.left, other.left) > slack
            and min(self.bottom, other.bottom) - max(self.top, other.top) > slack
        )

    def holds(self, other: "Box", slack: float = 0.02) -> bool:
        """Tell whether the other place lies inside."""
        return (
            other.left >= self.left - slack
            and other.top >= self.top - slack
            and other.right <= self.right + slack
            and other.bottom <= self.bottom + slack
        )


def box_of(mark: Mark) -> Box:
    """The place of a mark."""
    if isinstance(mark, Text):
        top, bottom = mark.y - ASCENT * mark.size, mark.y + DESCENT * mark.size
        return Box(mark.x, top, mark.x + mark.width, bottom)
    if isinstance(mark, Qr):
        return Box(mark.x, mark.y, mark.x + mark.edge, mark.y + mark.edge)
    half = mark.width / 2 if isinstance(mark, Stroke) else 0.0
    xs, ys = [x for x, _ in mark.points], [y for _, y in mark.points]
    return Box(min(xs) - half, min(ys) - half, max(xs) + half, max(ys) + half)


def moved(marks: Iterable[Mark], dx: float, dy: float) -> list[Mark]:
    """The same marks elsewhere."""
    return scaled(marks, 1.0, dx, dy)


def scaled(marks: Iterable[Mark], factor: float, dx: float = 0.0, dy: float = 0.0) -> list[Mark]:
    """The same marks in another size, then elsewhere."""
    found: list[Mark] = []
    for mark in marks:
        if isinstance(mark, Text):
            found.append(
                replace(
                    mark,
                    x=mark.x * factor + dx,
                    y=mark.y * factor + dy,
                    size=mark.size * factor,
                    width=mark.width * factor,
                )
            )
        elif isinstance(mark, Qr):
            found.append(
                replace(
                    mark,
                    x=mark.x * factor + dx,
                    y=mark.y * factor + dy,
                    module=mark.module * factor,
                )
            )
        else:
            points = tuple((x * factor + dx, y * factor + dy) for x, y in mark.points)
            if isinstance(mark, Stroke):
                found.append(replace(mark, points=points, width=mark.width * factor))
            else:
                found.append(Fill(points))
    return found


# --- words that fit ----------------------------------------------------------------------------


def printable(text: str) -> str:
    """The text in the signs that every printer has (Windows-1252), on one line.

    What has no sign there loses its accents, else becomes a question mark.
    """
    found: list[str] = []
    for sign in unicodedata.normalize("NFC", text):
        if sign in "\n\r\t":
            found.append(" ")
        elif _is_known(sign):
            found.append(sign)
        else:
            plain = unicodedata.normalize("NFKD", sign)
            kept = "".join(part for part in plain if _is_known(part))
            if kept or not unicodedata.category(sign).startswith(("C", "M")):
                found.append(kept or "?")
    return " ".join(part for part in "".join(found).split(" ") if part)


def _is_known(sign: str) -> bool:
    try:
        sign.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return sign >= " " and sign not in "\x7f\xad"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Words to be set in a place, and how."""

    text: str
    is_bold: bool = False
    scale: float = 1.0
    """Of the size of the place's other words."""


def wrapped(text: str, width: float, size: float, is_bold: bool, measure: Measure) -> list[str]:
    """The text in lines no wider than `width` mm, broken at spaces; a word that is too wide for a
    line of its own at a hyphen, else anywhere. A no-break space holds its neighbours together.
    """
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if measure(longer, size, is_bold) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        while measure(word, size, is_bold) > width and len(word) > 1:
            cut = next(
                n
                for n in range(len(word) - 1, 0, -1)
                if n == 1 or measure(word[:n], size, is_bold) <= width
            )
            cut = word.rfind("-", 0, cut) + 1 or cut
            lines.append(word[:cut])
            word = word[cut:]
        line = word
    return [*lines, line] if line else lines


def _has_whole_words(text: str, width: float, size: float, is_bold: bool, m: Measure) -> bool:
    return all(m(word, size, is_bold) <= width for word in text.split(" "))


@dataclass(frozen=True, slots=True)
class Place:
    """Where words go: a rectangle, the font size they would like and the least they can do with."""

    x: float
    y: float
    width: float
    height: float
    size: float
    least: float
    align: str = "left"
    """left, center or right."""
    is_middle: bool = False
    """Whether what is left of the height is shared above and below."""


def fit(place: Place, paragraphs: Sequence[Paragraph], measure: Measure) -> list[Text]:
    """Set paragraphs under each other in a place, as large as they go.

    Words are broken, and at last cut off with an ellipsis, only when even the least size is too
    large.
    """
    wanted = [replace(part, text=printable(part.text)) for part in paragraphs]
    wanted = [part for part in wanted if part.text]
    size = place.size
    while True:
        is_least = size <= place.least
        lines = [
            (line, part)
            for part in wanted
            for line in wrapped(part.text, place.width, size * part.scale, part.is_bold, measure)
        ]
        if is_least:
            lines = _cut(lines, place, size, measure)
            break
        is_whole = all(
            _has_whole_words(part.text, place.width, size * part.scale, part.is_bold, measure)
            for part in wanted
        )
        if is_whole and _height(lines, size) <= place.height:
            break
        size = max(size * _SHRINK, place.least)
    y = place.y
    if place.is_middle:
        y += max(0.0, (place.height - _height(lines, size)) / 2)
    found = []
    for line, part in lines:
        own = size * part.scale
        width = measure(line, own, part.is_bold)
        slack = place.width - width
        x = place.x + {"left": 0.0, "center": slack / 2, "right": slack}[place.align]
        found.append(Text(x, y + ASCENT * own, line, own, width, part.is_bold))
        y += own * LEADING
    return found


def _height(lines: Sequence[tuple[str, Paragraph]], size: float) -> float:
    if not lines:
        return 0.0
    last = lines[-1][1].scale * size
    return sum(part.scale * size * LEADING for _, part in lines) - last * (
        LEADING - ASCENT - DESCENT
    )


def _cut(
    lines: list[tuple[str, Paragraph]], place: Place, size: float, measure: Measure
) -> list[tuple[str, Paragraph]]:
    """The lines that there is room for: the longest paragraph loses its end."""
    kept = list(lines)
    while len(kept) > 1 and _height(kept, size) > place.height:
        parts = [part for _, part in kept]
        longest = max(parts, key=parts.count)
        at = len(parts) - 1 - parts[::-1].index(longest)
        del kept[at]
        before = at - 1 if at and kept[at - 1][1] is longest else None
        if before is not None:
            line = kept[before][0].removesuffix("\u2026")
            while line and measure(line + "\u2026", size * longest.scale, longest.is_bold) > (
                place.width
            ):
                line = line[:-1]
            kept[before] = (line.rstrip(" ,;") + "\u2026", longest)
    return kept


def bottom_of(texts: Sequence[Text], default: float) -> float:
    """Where the last of the texts ends, `default` when there is none."""
    return max((box_of(text).bottom for text in texts), default=default)


# --- pictures ----------------------------------------------------------------------------------


def _arc(x: float, y: float, radius: float, start: float, end: float, steps: int) -> list[Point]:
    return [
        (
            x + radius * math.cos(math.radians(start + (end - start) * n / steps)),
            y + radius * math.sin(math.radians(start + (end - start) * n / steps)),
        )
        for n in range(steps + 1)
    ]


def rectangle(x: float, y: float, width: float, height: float) -> tuple[Point, ...]:
    """The corners of a rectangle."""
    return ((x, y), (x + width, y), (x + width, y + height), (x, y + height))


def frame(x: float, y: float, width: float, height: float, line: float) -> Stroke:
    """The outline of a rectangle, with its line inside."""
    half = line / 2
    return Stroke(rectangle(x + half, y + half, width - line, height - line), line, is_closed=True)


def _wifi() -> list[Mark]:
    marks: list[Mark] = [
        Stroke(tuple(_arc(0.5, 0.82, radius, -138, -42, 12)), 0.1) for radius in (0.28, 0.5, 0.72)
    ]
    return [*marks, Fill(tuple(_arc(0.5, 0.82, 0.1, 0, 345, 23)))]


def _mobile_data_off() -> list[Mark]:
    """The two arrows of mobile data as phones show them, struck out."""
    up = ((0.32, 0.1), (0.5, 0.36), (0.37, 0.36), (0.37, 0.9), (0.27, 0.9), (0.27, 0.36))
    down = ((0.68, 0.9), (0.86, 0.64), (0.73, 0.64), (0.73, 0.1), (0.63, 0.1), (0.63, 0.64))
    return [
        Fill((*up, (0.14, 0.36))),
        Fill((*down, (0.5, 0.64))),
        Stroke(((0.06, 0.94), (0.94, 0.06)), 0.09),
    ]


def _login_page() -> list[Mark]:
    """A phone with a field and a button on it."""
    return [
        frame(0.22, 0.02, 0.56, 0.96, 0.07),
        frame(0.34, 0.26, 0.32, 0.16, 0.05),
        Fill(rectangle(0.34, 0.5, 0.32, 0.16)),
        Fill(rectangle(0.44, 0.82, 0.12, 0.05)),
    ]


def _keypad() -> list[Mark]:
    """The keys of a number pad."""
    keys = [(x, y) for y in (0.06, 0.3, 0.54) for x in (0.14, 0.4, 0.66)] + [(0.4, 0.78)]
    return [Fill(rectangle(x, y, 0.2, 0.17)) for x, y in keys]


PICTURES: tuple[tuple[Mark, ...], ...] = (
    (*_mobile_data_off(), *moved(_wifi(), 1.15, 0.0)),
    tuple(_login_page()),
    tuple(_keypad()),
)
"""One for each step, in squares of edge 1: mobile data off and Wi-Fi on, the page, the digits."""
PICTURE_WIDTHS = (2.15, 1.0, 1.0)


def picture(n: int, x: float, y: float, edge: float) -> list[Mark]:
    """The picture of step `n` (0 to 2), `edge` mm high and PICTURE_WIDTHS times that wide."""
    return scaled(PICTURES[n], edge, x, y)
