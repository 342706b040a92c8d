"""Printing: cards, tickets and posters as PDF, PNG and SVG.

Pure: words and codes in, bytes out. What is printed holds codes: whoever stores it keeps it from
others. QR codes are made here and nowhere else, and never by a service on the net.

A running node makes QR codes and nothing more of this: what draws pages takes 25 MB and a third of
a second to load, so it is imported where it is used, in a process of its own
(portal/sheets/job.py).
"""

import io
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any

import qrcode
from qrcode.constants import ERROR_CORRECT_M, ERROR_CORRECT_Q

from portal.domain.voucher import show
from portal.sheets import layouts as print_layouts
from portal.sheets.layouts import DOT, PAPERS, Cell, Grid, PosterWords, Sheet
from portal.sheets.marks import (
    CODE,
    CODE_1,
    CODE_2,
    CODE_3,
    QUIET,
    SERIAL,
    Fill,
    Mark,
    Measure,
    Qr,
    Stroke,
    Text,
    moved,
    scaled,
)

if TYPE_CHECKING:
    from fpdf import FPDF
    from PIL.ImageDraw import ImageDraw

Report = Callable[[int, int], None]

PNG_DOTS = 384
"""What a 58 mm roll prints across, and what print apps of phones take."""
_LEVELS = {"M": ERROR_CORRECT_M, "Q": ERROR_CORRECT_Q}
_REPORT_EVERY = 20
_PT = 72 / 25.4


@dataclass(frozen=True, slots=True)
class Card:
    """What only one card says. `code` and `url` open the network."""

    serial: str
    code: str
    url: str

    def word(self, slot: str) -> str:
        """What stands in a slot of a layout."""
        return {
            CODE: show(self.code),
            CODE_1: self.code[:4],
            CODE_2: self.code[4:8],
            CODE_3: self.code[8:],
            SERIAL: self.serial,
        }[slot]


@dataclass(frozen=True, slots=True)
class Layout:
    """A way to print cards."""

    name: str
    level: str
    """Error correction of the QR codes."""
    dots: int | None = None
    """Of a roll: dots across."""
    paper_mm: float = 0.0
    """Of a roll: how wide it is."""


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("a4-40", "M"),
        Layout("a4-21", "M"),
        Layout("58mm", "Q", PNG_DOTS, 58.0),
        Layout("80mm", "Q", 576, 80.0),
    )
}


# --- QR codes ----------------------------------------------------------------------------------


def matrix(content: str, level: str) -> list[list[bool]]:
    """The modules of a QR code, black is True, without the quiet zone."""
    code = qrcode.QRCode(error_correction=_LEVELS[level], border=0)
    # One segment: some old readers take a code of several modes for several texts.
    code.add_data(content.encode(), optimize=0)
    code.make(fit=True)
    return [[bool(module) for module in row] for row in code.modules]


@lru_cache(maxsize=32)
def _modules(length: int, level: str) -> int:
    """Modules along an edge of the code of a text of so many octets."""
    return len(matrix("x" * length, level))


def modules_of(content: str, level: str) -> int:
    """Modules along an edge of the QR code of a text."""
    return _modules(len(content.encode()), level)


def _runs(rows: Sequence[Sequence[bool]]) -> Iterable[tuple[int, int, int]]:
    """(x, y, length) of each black run of a row."""
    for y, row in enumerate(rows):
        start = None
        for x, is_black in enumerate(row):
            if is_black and start is None:
                start = x
            elif not is_black and start is not None:
                yield start, y, x - start
                start = None
        if start is not None:
            yield start, y, len(row) - start


def _path(content: str, level: str) -> str:
    """An SVG path of runs, in modules."""
    parts = []
    at_x, at_y = 0, 0
    for x, y, length in _runs(matrix(content, level)):
        parts.append(f"m{x - at_x} {y - at_y}h{length}v1h-{length}z")
        at_x, at_y = x, y
    return "".join(parts)


def qr_svg(content: str, level: str = "M") -> str:
    """A QR code with its quiet zone as one SVG element, as wide as its page lets it be."""
    edge = modules_of(content, level) + 2 * QUIET
    return (
        f'<svg class="qr" viewBox="0 0 {edge} {edge}" role="img" shape-rendering="crispEdges">'
        f'<path fill="#fff" d="M0 0h{edge}v{edge}H0z"/>'
        f'<path d="M{QUIET} {QUIET}{_path(content, level)}"/></svg>'
    )


def qr_lines(content: str) -> list[str]:
    """A QR code with its quiet zone for a terminal, two rows in a line of half blocks.

    White is drawn and black is left out, as terminals are dark; readers take both.
    """
    edge = [[False] * QUIET]
    rows = [edge[0] + row + edge[0] for row in matrix(content, "M")]
    blank = [False] * len(rows[0])
    rows = [*[blank] * QUIET, *rows, *[blank] * QUIET]
    if len(rows) % 2:
        rows.append(blank)
    signs = {(False, False): "\u2588", (False, True): "\u2580", (True, False): "\u2584"}
    return [
        "".join(signs.get(pair, " ") for pair in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]


def wifi_code(name: str) -> str:
    """What a QR code holds that joins the open network `name`."""
    quoted = "".join(f"\\{sign}" if sign in '\\;,":' else sign for sign in name)
    return f"WIFI:T:nopass;S:{quoted};;"


# --- pages of cards ----------------------------------------------------------------------------


def grid(sheet: Sheet, cards: Sequence[Card], layout: str, measure: Measure) -> Grid:
    """The page on which these cards are set; raises KeyError for an unknown layout."""
    kind = LAYOUTS[layout]
    modules = modules_of(max((card.url for card in cards), key=len), kind.level)
    serial = max((card.serial for card in cards), key=lambda text: measure(text, 1.0, True))
    if kind.dots is None:
        lay_out = {"a4-40": print_layouts.a4_40, "a4-21": print_layouts.a4_21}[layout]
        return lay_out(sheet, modules, serial, measure)
    cell = print_layouts.ticket(sheet, modules, serial, measure, kind.dots)
    left = (kind.paper_mm - cell.width) / 2
    return Grid((kind.paper_mm, cell.height), 1, 1, left, 0.0, cell)


def _own(mark: Mark, card: Card) -> Mark:
    """The mark with the card's own words and code."""
    if isinstance(mark, Text) and mark.slot is not None:
        return Text(mark.x, mark.y, card.word(mark.slot), mark.size, mark.width, mark.is_bold)
    if isinstance(mark, Qr) and mark.content is None:
        return Qr(mark.x, mark.y, mark.module, mark.modules, mark.level, card.url)
    return mark


def page_marks(grid: Grid, cards: Sequence[Card]) -> list[Mark]:
    """Everything on one page, cards and what stands once."""
    marks = list(grid.marks)
    for n, card in enumerate(cards):
        marks += [_own(mark, card) for mark in moved(grid.cell.marks, *grid.corner(n))]
    return marks


# --- PDF ---------------------------------------------------------------------------------------


def _document(title: str) -> "FPDF":
    from fpdf import FPDF

    # The fonts every reader has: nothing is embedded, nothing is fetched.
    document = FPDF(unit="mm")
    document.set_auto_page_break(False)
    document.set_margin(0)
    document.set_title(title)
    document.set_creator("Pesisir")
    return document


def _encoded(text: str) -> str:
    """Windows-1252 as the library takes it: as if it were Latin-1."""
    return text.encode("cp1252", "replace").decode("latin-1")


@lru_cache(maxsize=1)
def _ruler() -> "FPDF":
    return _document("")


@lru_cache(maxsize=4096)
def _em_width(text: str, is_bold: bool) -> float:
    ruler = _ruler()
    ruler.set_font("helvetica", "B" if is_bold else "", 100)
    return float(ruler.get_string_width(_encoded(text))) / (100 / _PT)


def pdf_measure(text: str, size: float, is_bold: bool) -> float:
    """Width in mm of a text in a PDF."""
    return _em_width(text, is_bold) * size


def _draw(document: "FPDF", marks: Iterable[Mark]) -> None:
    for mark in marks:
        if isinstance(mark, Text):
            document.set_font("helvetica", "B" if mark.is_bold else "", mark.size * _PT)
            document.text(mark.x, mark.y, _encoded(mark.text))
        elif isinstance(mark, Qr):
            _draw_qr(document, mark)
        elif isinstance(mark, Stroke):
            document.set_line_width(mark.width)
            if mark.is_dashed:
                document.set_dash_pattern(1, 1)
            document.polyline(mark.points, polygon=mark.is_closed)
            if mark.is_dashed:
                document.set_dash_pattern()
        else:
            document.polygon(mark.points, style="F")


def _draw_qr(document: "FPDF", mark: Qr) -> None:
    """One path, so that no reader leaves a seam between two runs; in modules, so that it is
    short."""
    if mark.content is None:
        raise ValueError("a QR code without content")
    module = mark.module * _PT
    left = (mark.x + QUIET * mark.module) * _PT
    top = (document.h - mark.y - QUIET * mark.module) * _PT
    runs = "".join(f"{x} {y} {n} 1 re\n" for x, y, n in _runs(matrix(mark.content, mark.level)))
    document._out(f"q {module:.5f} 0 0 {-module:.5f} {left:.3f} {top:.3f} cm\n{runs}f Q")


def pdf(
    sheet: Sheet,
    cards: Sequence[Card],
    layout: str,
    report: Report = lambda done, total: None,
) -> bytes:
    """All cards as one PDF; `report` is called with how many are set and how many there are.

    Raises KeyError for an unknown layout, ValueError without cards.
    """
    if not cards:
        raise ValueError("no cards to print; expected at least one")
    plan = grid(sheet, cards, layout, pdf_measure)
    document = _document(sheet.site_name)
    done = 0
    for first in range(0, len(cards), plan.count):
        page = cards[first : first + plan.count]
        document.add_page(format=plan.page)
        _draw(document, page_marks(plan, page))
        if done // _REPORT_EVERY != (done + len(page)) // _REPORT_EVERY:
            report(done, len(cards))
        done += len(page)
    report(len(cards), len(cards))
    return bytes(document.output())


def poster(words: PosterWords, paper: str) -> bytes:
    """A wall poster as PDF; `paper` is a name of PAPERS. Raises KeyError for another."""
    factor = PAPERS[paper]
    cell = poster_cell(words, pdf_measure)
    document = _document(words.wifi_name)
    document.add_page(format=(cell.width * factor, cell.height * factor))
    _draw(document, scaled(cell.marks, factor))
    return bytes(document.output())


def poster_cell(words: PosterWords, measure: Measure) -> Cell:
    """A wall poster on A4."""
    cell = print_layouts.poster(words, modules_of(words.wifi_code, "M"), measure)
    marks = [
        Qr(mark.x, mark.y, mark.module, mark.modules, mark.level, words.wifi_code)
        if isinstance(mark, Qr)
        else mark
        for mark in cell.marks
    ]
    return Cell(cell.width, cell.height, tuple(marks))


# --- PNG ---------------------------------------------------------------------------------------

_BOLD, _BOLD_WORDS = 0.018, 0.007
"""The font that comes with the image library has one weight; bold is drawn with so much of the
size around it. Words get less, else the dots of their i and j run into the strokes."""
_PNG_SIGNS = {"\xa0": " ", "\u2013": "-", "\u2014": "-", "\xb7": "-", "\u2022": "-"}


@lru_cache(maxsize=256)
def _font(size: float) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(max(1.0, size))


@lru_cache(maxsize=4096)
def _png_text(text: str) -> str:
    """The text in the signs that font has: letters lose their accents."""
    found = []
    for sign in text:
        sign = _PNG_SIGNS.get(sign, sign)
        if not sign.isascii() and sign not in "\u2018\u2019\u201c\u201d\u2026":
            sign = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode() or "?"
        found.append(sign)
    return "".join(found)


@lru_cache(maxsize=4096)
def png_measure(text: str, size: float, is_bold: bool) -> float:
    """Width in mm of a text in a PNG. Measured at its size: there letters begin at whole dots."""
    width = float(_font(size / DOT).getlength(_png_text(text))) * DOT
    return width + (2 * _BOLD * size if is_bold else 0.0)


def png384(sheet: Sheet, card: Card) -> bytes:
    """The thermal ticket of one card as a PNG of 384 dots width, black and white."""
    from PIL import Image, ImageDraw

    plan = grid(sheet, [card], "58mm", png_measure)
    width, height = PNG_DOTS, round(plan.cell.height / DOT)
    image = Image.new("L", (width, height), 255)
    drawing = ImageDraw.Draw(image)
    for mark in plan.cell.marks:
        _paint(drawing, _own(mark, card))
    out = io.BytesIO()
    image.point(lambda grey: 255 if grey > 120 else 0).convert("1").save(out, "PNG", optimize=True)
    return out.getvalue()


def _paint(drawing: "ImageDraw", mark: Mark) -> None:
    if isinstance(mark, Text):
        size = mark.size / DOT
        bold = _BOLD_WORDS if any(letter in mark.text for letter in "ij") else _BOLD
        weight = mark.size * bold / DOT if mark.is_bold else 0.0
        drawing.text(
            (mark.x / DOT + weight, mark.y / DOT),
            _png_text(mark.text),
            fill=0,
            font=_font(size),
            anchor="ls",
            stroke_width=weight,
        )
    elif isinstance(mark, Qr):
        dots = round(mark.module / DOT)
        left, top = round(mark.x / DOT) + QUIET * dots, round(mark.y / DOT) + QUIET * dots
        for x, y, n in _runs(matrix(mark.content or "", mark.level)):
            at_x, at_y = left + x * dots, top + y * dots
            drawing.rectangle((at_x, at_y, at_x + n * dots - 1, at_y + dots - 1), fill=0)
    elif isinstance(mark, Stroke):
        points: list[tuple[float, float]] = [(x / DOT, y / DOT) for x, y in mark.points]
        if mark.is_closed:
            points.append(points[0])
        weight_dots = max(1, round(mark.width / DOT))
        if mark.is_dashed:
            (from_x, height), (to_x, _) = points
            for dash_x in range(round(from_x), round(to_x), 16):
                drawing.line((dash_x, height, dash_x + 7, height), fill=0, width=weight_dots)
        else:
            drawing.line(points, fill=0, width=weight_dots, joint="curve")
    else:
        corners = [(x / DOT, y / DOT) for x, y in mark.points]
        if len(corners) == 4 and len({x for x, _ in corners}) == 2:
            # Pillow paints the last dot of an edge too.
            right, bottom = max(x for x, _ in corners), max(y for _, y in corners)
            drawing.rectangle((*min(corners), right - 1, bottom - 1), fill=0)
        else:
            drawing.polygon(corners, fill=0)


# --- SVG ---------------------------------------------------------------------------------------


def svg_pages(sheet: Sheet, cards: Sequence[Card], layout: str) -> list[str]:
    """Each page of cards as one SVG element, for a page that the browser prints."""
    plan = grid(sheet, cards, layout, pdf_measure)
    return [
        _svg(plan.page, page_marks(plan, cards[first : first + plan.count]))
        for first in range(0, len(cards), plan.count)
    ]


def _svg(page: tuple[float, float], marks: Iterable[Mark]) -> str:
    width, height = page
    parts = [f'<svg class="sheet" viewBox="0 0 {_n(width)} {_n(height)}">']
    parts += [_svg_mark(mark) for mark in marks]
    return "".join([*parts, "</svg>"])


def _svg_mark(mark: Mark) -> str:
    if isinstance(mark, Text):
        # The browser's own font keeps to the place that was measured.
        bold = ' font-weight="700"' if mark.is_bold else ""
        width = pdf_measure(mark.text, mark.size, mark.is_bold)
        return (
            f'<text x="{_n(mark.x)}" y="{_n(mark.y)}" font-size="{_n(mark.size)}"{bold}'
            f' textLength="{_n(width)}" lengthAdjust="spacingAndGlyphs">{escape(mark.text)}</text>'
        )
    if isinstance(mark, Qr):
        x, y = mark.x + QUIET * mark.module, mark.y + QUIET * mark.module
        return (
            f'<path transform="translate({_n(x)} {_n(y)}) scale({_n(mark.module)})"'
            f' shape-rendering="crispEdges" d="M0 0{_path(mark.content or "", mark.level)}"/>'
        )
    points = "L".join(f"{_n(x)} {_n(y)}" for x, y in mark.points)
    if isinstance(mark, Fill):
        return f'<path d="M{points}z"/>'
    dash = ' stroke-dasharray="1"' if mark.is_dashed else ""
    end = "z" if mark.is_closed else ""
    line = _n(mark.width)
    return f'<path d="M{points}{end}" fill="none" stroke="#000" stroke-width="{line}"{dash}/>'


def _n(value: float) -> str:
    """A number with as few digits as print needs."""
    return f"{value:.3f}".rstrip("0").rstrip(".")
