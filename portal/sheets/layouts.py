"""Print layouts: where everything stands on a card, a sheet, a ticket and a poster.

Pure: words and sizes in, marks in millimetres out. A card is laid out once for a whole sheet, with
slots for what differs from card to card.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from portal.sheets.marks import (
    ASCENT,
    CODE,
    CODE_1,
    CODE_2,
    CODE_3,
    DESCENT,
    PICTURE_WIDTHS,
    QUIET,
    SERIAL,
    Fill,
    Mark,
    Measure,
    Paragraph,
    Place,
    Qr,
    Stroke,
    Text,
    bottom_of,
    fit,
    frame,
    picture,
    printable,
    rectangle,
)

LAYOUT_NAMES = ("a4-40", "a4-21", "58mm", "80mm")
"""Ways to print cards."""
DOT = 0.125
"""One dot of a thermal printer of 203 dpi in mm: they have 8 dots a mm."""
LEAST_DOTS, MOST_DOTS = 4, 10
"""Dots of a thermal printer for one module of a QR code (Denso: at least 4)."""
A4 = (210.0, 297.0)
PAPERS = {"a4": 1.0, "a3": math.sqrt(2)}
"""Papers of a poster, as the factor to A4."""
_CUT = 0.15
_MODULE_A4 = 0.6
_QR_SMALL, _QR_LARGE = 24.6, 22.8
"""Most that a QR code takes of a small and of a large card's edge; a long address gets smaller
modules."""
_POSTER_QR = 80.0
"""Edge of a poster's QR code without its quiet zone: read from a tenfold distance."""
POINT = 25.4 / 72


@dataclass(frozen=True, slots=True)
class Sheet:
    """What all cards of a sheet say, in words."""

    site_name: str
    wifi_name: str
    """The network's name; empty where it is the site's name."""
    gives: str
    """What a card gives, one sentence."""
    gives_short: str
    use_before: str
    """Until when the first login must be, one sentence; empty where there is no end."""
    use_before_short: str
    steps: tuple[str, str, str]
    status: str
    """Where to see what is left."""
    help: str
    """Whom to ask; empty where nobody is named."""
    free: str
    """GRATIS."""
    head_test: str
    """What the line that tests the printer's head should look like."""
    batch: str = ""
    """For the operator: batch and note."""


def sheet_of(fields: dict[str, Any]) -> Sheet:
    """The sheet that `dataclasses.asdict` took apart."""
    return Sheet(**{**fields, "steps": tuple(fields["steps"])})


@dataclass(frozen=True, slots=True)
class PosterWords:
    """What a wall poster says."""

    site_name: str
    wifi_name: str
    wifi_code: str
    """What the QR code holds: `WIFI:T:nopass;S:...;;`."""
    free: str
    scan: str
    """What the QR code is for."""
    steps: tuple[str, str, str]
    address_label: str
    address: str
    facts: tuple[tuple[str, str], ...]
    """Title and words: where and when to get a card, power hours, helper."""


def poster_words_of(fields: dict[str, Any]) -> PosterWords:
    """The words that `dataclasses.asdict` took apart."""
    facts = tuple((title, text) for title, text in fields["facts"])
    return PosterWords(**{**fields, "steps": tuple(fields["steps"]), "facts": facts})


@dataclass(frozen=True, slots=True)
class Cell:
    """One card: its size in mm and its marks."""

    width: float
    height: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """Cards on a page: so many across and down, from a corner."""

    page: tuple[float, float]
    columns: int
    rows: int
    left: float
    top: float
    cell: Cell
    marks: tuple[Mark, ...] = ()
    """What stands once on every page: cut lines, the strip."""

    @property
    def count(self) -> int:
        """Cards on a page."""
        return self.columns * self.rows

    def corner(self, n: int) -> tuple[float, float]:
        """The upper left corner of place `n` of a page, counted from 0 in rows."""
        row, column = divmod(n, self.columns)
        return self.left + column * self.cell.width, self.top + row * self.cell.height


def _digits(n: int) -> str:
    return "0" * n


def _slot(
    slot: str, sample: str, x: float, y: float, size: float, is_bold: bool, measure: Measure
) -> Text:
    return Text(x, y, sample, size, measure(sample, size, is_bold), is_bold, slot)


def _largest(sample: str, width: float, most: float, measure: Measure) -> float:
    """The font size at which a bold sample takes `width` mm, at most `most`."""
    size = min(most, most * width / measure(sample, most, True))
    while measure(sample, size, True) > width:
        size *= 0.99
    return size


def _module(modules: int, edge: float) -> float:
    return min(_MODULE_A4, edge / (modules + 2 * QUIET))


def cut_lines(grid_left: float, grid_top: float, cell: Cell, columns: int, rows: int) -> list[Mark]:
    """Dashed lines around all cards."""
    right, bottom = grid_left + columns * cell.width, grid_top + rows * cell.height
    marks: list[Mark] = []
    for n in range(columns + 1):
        x = grid_left + n * cell.width
        marks.append(Stroke(((x, grid_top), (x, bottom)), _CUT, is_dashed=True))
    for n in range(rows + 1):
        y = grid_top + n * cell.height
        marks.append(Stroke(((grid_left, y), (right, y)), _CUT, is_dashed=True))
    return marks


# --- A4, 40 small cards ------------------------------------------------------------------------


def small_card(sheet: Sheet, modules: int, serial: str, measure: Measure) -> Cell:
    """Code, QR, quota, date, serial, GRATIS on 38 x 34 mm; `serial`: the widest of the sheet."""
    width, height, pad = 38.0, 34.0, 1.3
    qr = Qr(0, 0.4, _module(modules, _QR_SMALL), modules, "M")
    qr = Qr(width - qr.edge - 0.4, 0.4, qr.module, modules, "M")
    room = qr.x - pad
    size = _largest(_digits(4), room, 14.5 * POINT, measure)
    step = size * 1.06
    y = pad + (qr.edge - 0.8 - pad - 2 * step - size * ASCENT) / 2 + size * ASCENT
    marks: list[Mark] = [qr]
    for n, slot in enumerate((CODE_1, CODE_2, CODE_3)):
        marks.append(_slot(slot, _digits(4), pad, y + n * step, size, True, measure))
    small = 6.5 * POINT
    last = height - pad - DESCENT * small
    free = measure(printable(sheet.free), small, True)
    serial_size = min(small, (width - 2 * pad - free - 2) / measure(serial, 1.0, True))
    marks.append(_slot(SERIAL, serial, pad, last, serial_size, True, measure))
    marks.append(Text(width - pad - free, last, printable(sheet.free), small, free, True))
    top = qr.edge + 0.4
    marks += fit(
        Place(
            pad,
            top,
            width - 2 * pad,
            last - ASCENT * small - 0.4 - top,
            8.2 * POINT,
            4 * POINT,
            is_middle=True,
        ),
        [Paragraph(sheet.gives_short, True), Paragraph(sheet.use_before_short, scale=0.86)],
        measure,
    )
    return Cell(width, height, tuple(marks))


def a4_40(sheet: Sheet, modules: int, serial: str, measure: Measure) -> Grid:
    """5 x 8 small cards; what they leave out stands in a strip above them."""
    cell = small_card(sheet, modules, serial, measure)
    left, top = 10.0, 20.0
    marks = cut_lines(left, top, cell, 5, 8)
    # The strip: name and sentences, three steps, whom to ask.
    strip, y = 13.2, 5.6
    marks += fit(
        Place(left, y, 52, strip, 10 * POINT, 4.5 * POINT),
        [
            Paragraph(sheet.site_name, True),
            Paragraph(sheet.gives, scale=0.72),
            Paragraph(sheet.use_before, scale=0.72),
        ],
        measure,
    )
    x = left + 54
    for n, words in enumerate(sheet.steps):
        wide = (34.0, 28.0, 25.0)[n]
        marks += _step_below(n, words, x, y, wide, strip, 4.2, 6.6 * POINT, measure)
        x += wide + 1.5
    room = left + 190 - x
    marks += fit(
        Place(x, y, room, strip, 6.6 * POINT, 3.6 * POINT),
        [
            Paragraph(sheet.free, True, 1.2),
            Paragraph(sheet.status),
            Paragraph(sheet.help),
            Paragraph(sheet.batch, scale=0.9),
        ],
        measure,
    )
    return Grid(A4, 5, 8, left, top, cell, tuple(marks))


def _step_below(
    n: int,
    words: str,
    x: float,
    y: float,
    width: float,
    height: float,
    edge: float,
    size: float,
    measure: Measure,
) -> list[Mark]:
    """A step with its number, its picture, and the words under it."""
    number = f"{n + 1}"
    size_of_number = edge * 0.95
    wide = measure(number, size_of_number, True)
    marks: list[Mark] = [
        Text(x, y + (edge + 0.72 * size_of_number) / 2, number, size_of_number, wide, True)
    ]
    marks += picture(n, x + wide + edge * 0.25, y, edge)
    top = y + edge + 0.5
    marks += fit(
        Place(x, top, width, y + height - top, size, 3.6 * POINT), [Paragraph(words)], measure
    )
    return marks


# --- A4, 21 large cards ------------------------------------------------------------------------


def large_card(sheet: Sheet, modules: int, serial: str, measure: Measure) -> Cell:
    """Everything a resident needs on 66.6 x 41 mm."""
    width, height, pad = 200 / 3, 41.0, 2.0
    qr = Qr(0, 0, _module(modules, _QR_LARGE), modules, "M")
    # The quiet zone is white already: it may reach to the cut line.
    qr = Qr(width - qr.edge - 0.5, 0.5, qr.module, modules, "M")
    room = qr.x - pad - 0.3
    marks: list[Mark] = [qr]
    free = printable(sheet.free)
    free_size = 6.5 * POINT
    free_wide = measure(free, free_size, True) + 2.0
    free_high = free_size * 1.3
    marks.append(frame(pad, pad, free_wide, free_high, 0.25))
    free_y = pad + (free_high + 0.72 * free_size) / 2
    marks.append(Text(pad + 1.0, free_y, free, free_size, free_wide - 2.0, True))
    marks += fit(
        Place(
            pad + free_wide + 1.2,
            pad - 0.2,
            room - free_wide - 1.2,
            free_high + 0.6,
            7.6 * POINT,
            3.4 * POINT,
            is_middle=True,
        ),
        [Paragraph(sheet.site_name, True)],
        measure,
    )
    sample = f"{_digits(4)} {_digits(4)} {_digits(4)}"
    size = _largest(sample, room, 17 * POINT, measure)
    y = pad + free_high + 1.0 + 0.74 * size
    marks.append(_slot(CODE, sample, pad, y, size, True, measure))
    words_top = y + DESCENT * size + 0.3
    steps_top = qr.y + qr.edge
    marks += fit(
        Place(pad, words_top, room, steps_top - 0.5 - words_top, 7.4 * POINT, 4 * POINT),
        [Paragraph(sheet.gives, True), Paragraph(sheet.use_before)],
        measure,
    )
    last_size = 6.2 * POINT
    last = height - pad - DESCENT * last_size
    bottom = last - ASCENT * last_size
    wide = measure(serial, last_size, True)
    marks.append(_slot(SERIAL, serial, width - pad - wide, last, last_size, True, measure))
    lines_top = bottom - last_size * 1.25
    lines = Place(
        pad,
        lines_top,
        width - 2 * pad - wide - 1.5,
        height - pad + 0.1 - lines_top,
        last_size,
        3.1 * POINT,
    )
    marks += fit(lines, [Paragraph(sheet.status), Paragraph(sheet.help)], measure)
    x = pad
    for n, step in enumerate(sheet.steps):
        own = (24.0, 19.6, 17.0)[n]
        marks += _step_below(
            n, step, x, steps_top, own, lines_top - 0.3 - steps_top, 3.9, 5.8 * POINT, measure
        )
        x += own + 1.0
    return Cell(width, height, tuple(marks))


def a4_21(sheet: Sheet, modules: int, serial: str, measure: Measure) -> Grid:
    """3 x 7 large cards."""
    cell = large_card(sheet, modules, serial, measure)
    return Grid(A4, 3, 7, 5.0, 5.0, cell, tuple(cut_lines(5.0, 5.0, cell, 3, 7)))


# --- thermal rolls -----------------------------------------------------------------------------


def ticket(sheet: Sheet, modules: int, serial: str, measure: Measure, dots: int) -> Cell:
    """One ticket for a roll with so many dots across, as long as its words need."""
    width = dots * DOT
    is_wide = width > 60
    factor = 1.25 if is_wide else 1.0
    marks: list[Mark] = []
    y = 1.0

    def put(paragraphs: Sequence[Paragraph], size: float, lines: int, gap: float) -> None:
        """Words across the ticket, centred, on at most so many lines of their size."""
        nonlocal y
        size *= factor * POINT
        place = Place(0.0, y, width, lines * size * 1.2, size, size * 0.6, "center")
        texts = fit(place, paragraphs, measure)
        marks.extend(texts)
        y = bottom_of(texts, y) + gap

    put([Paragraph(sheet.site_name, True)], 12, 3, 0.8)
    if sheet.wifi_name and sheet.wifi_name != sheet.site_name:
        put([Paragraph(f"WiFi: {sheet.wifi_name}")], 9, 2, 0.8)
    free = printable(sheet.free)
    size = 9.5 * factor * POINT
    wide = measure(free, size, True)
    marks.append(frame((width - wide) / 2 - 2, y, wide + 4, size * 1.35, 0.375))
    marks.append(Text((width - wide) / 2, y + size * 1.035, free, size, wide, True))
    y += size * 1.35 + 1.2

    sample = f"{_digits(4)} {_digits(4)} {_digits(4)}"
    size = _largest(sample, width, 26 * factor * POINT, measure)
    wide = measure(sample, size, True)
    marks.append(_slot(CODE, sample, (width - wide) / 2, y + 0.74 * size, size, True, measure))
    y += 0.74 * size + DESCENT * size + 0.2

    per_module = min(MOST_DOTS if is_wide else 8, dots // (modules + 2 * QUIET))
    edge_dots = per_module * (modules + 2 * QUIET)
    y = math.ceil(y / DOT) * DOT
    marks.append(Qr((dots - edge_dots) // 2 * DOT, y, per_module * DOT, modules, "Q"))
    y += edge_dots * DOT + 0.2

    put([Paragraph(sheet.gives, True)], 10, 5, 0.8)
    put([Paragraph(sheet.use_before)], 9, 4, 1.6)
    y = _steps_beside(sheet, marks, y, width, factor, measure)
    put([Paragraph(sheet.status, True)], 8.5, 3, 0.8)
    put([Paragraph(sheet.help)], 8.5, 6, 1.0)
    size = 9.5 * factor * POINT
    wide = measure(serial, size, True)
    marks.append(_slot(SERIAL, serial, (width - wide) / 2, y + ASCENT * size, size, True, measure))
    y += size + 1.0
    put([Paragraph(sheet.head_test)], 7, 2, 0.5)
    # Every dot of the head once: a dot that is dead leaves a white stripe.
    y = math.ceil(y / DOT) * DOT
    marks.append(Fill(rectangle(0.0, y, width, 8 * DOT)))
    y += 8 * DOT + 2.5
    marks.append(Stroke(((0.125, y), (width - 0.125, y)), 0.25, is_dashed=True))
    return Cell(width, math.ceil((y + 1.0) / DOT) * DOT, tuple(marks))


def _steps_beside(
    sheet: Sheet, marks: list[Mark], y: float, width: float, factor: float, measure: Measure
) -> float:
    """The steps under each other, words beside the pictures; returns where they end."""
    size = 8.8 * factor * POINT
    edge = 5.6 * factor
    for n, words in enumerate(sheet.steps):
        number = f"{n + 1}."
        wide = measure(number, size, True)
        marks.append(Text(0.0, y + (edge + 0.72 * size) / 2, number, size, wide, True))
        left = wide + 0.8
        marks += picture(n, left, y, edge)
        left += PICTURE_WIDTHS[n] * edge + 1.2
        place = Place(left, y, width - left, 4 * size * 1.2, size, size * 0.6)
        texts = fit(place, [Paragraph(words)], measure)
        high = bottom_of(texts, y) - y
        if high < edge:
            texts = [
                Text(t.x, t.y + (edge - high) / 2, t.text, t.size, t.width, t.is_bold)
                for t in texts
            ]
        marks += texts
        y += max(high, edge) + 1.2
    return y


# --- the wall poster ---------------------------------------------------------------------------


def poster(words: PosterWords, modules: int, measure: Measure) -> Cell:
    """A wall poster on A4; A3 is the same, larger."""
    width, height = A4
    pad = 14.0
    room = width - 2 * pad
    free = fit(
        Place(pad, 15.0, room, 15.0, 34 * POINT, 14 * POINT, "center", True),
        [Paragraph(words.free, True)],
        measure,
    )
    marks: list[Mark] = [*free]
    y = 33.0
    name = fit(
        Place(pad, y, room, 26.0, 58 * POINT, 12 * POINT, "center", True),
        [Paragraph(words.wifi_name, True)],
        measure,
    )
    marks += name
    y += 27.5
    if words.site_name != words.wifi_name:
        site = Place(pad, y, room, 9.0, 17 * POINT, 8 * POINT, "center", True)
        marks += fit(site, [Paragraph(words.site_name)], measure)
    y += 10.0
    module = _POSTER_QR / modules
    # The margin of the paper is white too: the quiet zone reaches into it.
    qr = Qr(pad - QUIET * module, y, module, modules, "M")
    marks.append(qr)
    marks += fit(
        Place(pad, y + qr.edge, _POSTER_QR, 7.5, 15 * POINT, 8 * POINT, "center"),
        [Paragraph(words.scan, True)],
        measure,
    )
    x = qr.x + qr.edge + 2
    top = y + 3.0
    for n, step in enumerate(words.steps):
        edge = 13.0
        size = edge * 0.8
        number = f"{n + 1}"
        wide = measure(number, size, True)
        marks.append(Text(x, top + (edge + 0.72 * size) / 2, number, size, wide, True))
        marks += picture(n, x + wide + 4, top, edge)
        place = Place(x, top + edge + 1.5, width - pad - x, 18.0, 17 * POINT, 8 * POINT)
        marks += fit(place, [Paragraph(step)], measure)
        top += 35.0
    y += qr.edge + 8.5
    marks.append(_rule(pad, y, room))
    marks += fit(
        Place(pad, y + 3.0, room, 20.0, 26 * POINT, 8 * POINT, "center", True),
        [Paragraph(words.address_label, scale=0.55), Paragraph(words.address, True)],
        measure,
    )
    y += 25.0
    each = (height - 10.0 - y) / max(1, len(words.facts))
    for title, text in words.facts:
        marks.append(_rule(pad, y, room))
        for left, wide, part in (
            (pad, 46.0, Paragraph(title, True)),
            (pad + 49.0, room - 49.0, Paragraph(text)),
        ):
            place = Place(left, y + 1.5, wide, each - 3.0, 19 * POINT, 6 * POINT, is_middle=True)
            marks += fit(place, [part], measure)
        y += each
    return Cell(width, height, tuple(marks))


def _rule(x: float, y: float, width: float) -> Stroke:
    return Stroke(((x, y), (x + width, y)), 0.5)
