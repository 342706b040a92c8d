import io
import math
from itertools import pairwise

import pypdfium2  # type: ignore[import-untyped]
import pytest
from PIL import Image, ImageChops, ImageDraw

from portal import printing
from portal.admin import Site
from portal.domain.voucher import show
from portal.printing import LAYOUTS, Card, grid, page_marks, pdf_measure, png_measure
from portal.sheets.layouts import DOT, Grid, Sheet
from portal.sheets.marks import (
    QUIET,
    Box,
    Fill,
    Mark,
    Paragraph,
    Place,
    Qr,
    Stroke,
    Text,
    box_of,
    fit,
    printable,
    wrapped,
)
from tests.unit import print_samples as samples

PER_PAGE = {"a4-40": 40, "a4-21": 21, "58mm": 1, "80mm": 1}
REAL = ("usual", "longest")
LARGE = ("a4-21", "58mm", "80mm")


def sample(name: str, count: int) -> tuple[Sheet, list[Card]]:
    words, url, serial = samples.SHEETS[name]
    return words, samples.cards(count, url, serial)


def page_of(name: str, layout: str) -> tuple[Grid, list[Mark]]:
    words, cards = sample(name, PER_PAGE[layout])
    plan = grid(words, cards, layout, pdf_measure)
    return plan, page_marks(plan, cards)


# --- QR codes on the printed page


@pytest.mark.parametrize("dpi", [203, 300])
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_qr_on_the_page_decodes_to_the_digits_printed(
    layout: str, name: str, dpi: int
) -> None:
    words, cards = sample(name, 2 * PER_PAGE[layout] - (PER_PAGE[layout] > 1))
    document = printing.pdf(words, cards, layout)
    pages = samples.rendered(document, dpi)
    assert len(pages) == 2
    found = [url for page in pages for url in samples.decoded(page)]
    assert sorted(found) == sorted(card.url for card in cards)
    text = samples.words_of(document)
    for card in cards:
        assert card.url.endswith(f"/{card.code}")
        assert show(card.code) in text and card.serial in text


@pytest.mark.parametrize("name", samples.SHEETS)
def test_the_qr_of_a_picture_for_print_apps_decodes_and_is_384_dots_wide(name: str) -> None:
    words, cards = sample(name, 1)
    image = Image.open(io.BytesIO(printing.png384(words, cards[0])))
    assert image.width == 384 and image.mode == "1"
    assert samples.decoded(image.convert("L")) == [cards[0].url]


@pytest.mark.parametrize("name", samples.SHEETS)
@pytest.mark.parametrize("layout", ["58mm", "80mm"])
def test_on_a_roll_modules_are_whole_dots_and_lie_on_dots(layout: str, name: str) -> None:
    words, cards = sample(name, 1)
    plan = grid(words, cards, layout, pdf_measure)
    (code,) = (mark for mark in plan.cell.marks if isinstance(mark, Qr))
    assert code.level == "Q"
    for length in (code.module, code.x, code.y):
        assert length / DOT == pytest.approx(round(length / DOT), abs=1e-9)
    assert code.module / DOT >= 4
    assert code.x >= 0 and code.x + code.edge <= plan.cell.width
    assert plan.cell.width / DOT == LAYOUTS[layout].dots


@pytest.mark.parametrize("layout", ["a4-40", "a4-21"])
def test_on_a4_the_usual_module_is_six_tenths_of_a_millimetre(layout: str) -> None:
    plan, _ = page_of("usual", layout)
    (code,) = (mark for mark in plan.cell.marks if isinstance(mark, Qr))
    assert (code.level, code.module, code.modules) == ("M", 0.6, 29)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_quiet_zone_of_every_qr_is_white(layout: str, name: str) -> None:
    plan, marks = page_of(name, layout)
    words, cards = sample(name, PER_PAGE[layout])
    (page,) = samples.rendered(printing.pdf(words, cards, layout), 300)
    scale = 300 / 25.4
    for code in (mark for mark in marks if isinstance(mark, Qr)):
        inner = QUIET * code.module
        outer = box_of(code)
        zone = page.crop(
            (
                round((outer.left + 0.15) * scale),
                round((outer.top + 0.15) * scale),
                round((outer.right - 0.15) * scale),
                round((outer.bottom - 0.15) * scale),
            )
        )
        hole = round((inner - 0.3) * scale)
        ImageDraw.Draw(zone).rectangle(
            (hole, hole, zone.width - hole, zone.height - hole), fill=255
        )
        assert not any(zone.histogram()[:200])


def test_the_same_code_stands_in_svg_png_and_pdf() -> None:
    url = f"{samples.SHORT_URL}/482917305515"
    rows = printing.matrix(url, "M")
    assert len(rows) == 29 == printing.modules_of(url, "M")
    svg = printing.qr_svg(url)
    assert 'viewBox="0 0 37 37"' in svg and len(svg) < 4_000
    black = 0
    for run in svg.rpartition(' d="')[2].split("z"):
        if "h" in run:
            black += int(run.partition("h")[2].partition("v")[0])
    assert black == sum(map(sum, rows))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Desa Tanjung", "WIFI:T:nopass;S:Desa Tanjung;;"),
        ('a;b,c:d\\e"f', 'WIFI:T:nopass;S:a\\;b\\,c\\:d\\\\e\\"f;;'),
    ],
)
def test_the_wifi_code_escapes_what_has_a_meaning(name: str, expected: str) -> None:
    assert printing.wifi_code(name) == expected


# --- words on the page


def is_frame_of(stroke: Mark, text: Mark) -> bool:
    return isinstance(stroke, Stroke) and stroke.is_closed and box_of(stroke).holds(box_of(text))


def collisions(marks: list[Mark]) -> list[tuple[Mark, Mark]]:
    """Words on words, on pictures, on lines or in quiet zones; codes on anything."""
    found = []
    for n, first in enumerate(marks):
        for second in marks[n + 1 :]:
            kinds = {type(first), type(second)}
            if not kinds & {Text, Qr} or not box_of(first).overlaps(box_of(second)):
                continue
            if is_frame_of(first, second) or is_frame_of(second, first):
                continue
            found.append((first, second))
    return found


@pytest.mark.parametrize("name", samples.SHEETS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_overlaps_and_all_lies_on_the_card(layout: str, name: str) -> None:
    plan, _ = page_of(name, layout)
    card = Box(0, 0, plan.cell.width, plan.cell.height)
    assert collisions(list(plan.cell.marks)) == []
    for mark in plan.cell.marks:
        assert card.holds(box_of(mark)), mark
    assert collisions([mark for mark in plan.marks if isinstance(mark, Text)]) == []
    strip = [mark for mark in plan.marks if not (isinstance(mark, Stroke) and mark.is_dashed)]
    assert collisions(strip) == []
    for mark in strip:
        assert Box(5, 5, plan.page[0] - 5, plan.top).holds(box_of(mark)), mark


@pytest.mark.parametrize("site", [samples.USUAL, samples.LONGEST], ids=["usual", "longest"])
def test_nothing_overlaps_on_the_poster(site: Site) -> None:
    cell = printing.poster_cell(samples.poster(site), pdf_measure)
    assert collisions(list(cell.marks)) == []
    for mark in cell.marks:
        assert Box(0, 0, cell.width, cell.height).holds(box_of(mark))


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_ink_on_the_page_stays_where_it_was_measured(layout: str, name: str) -> None:
    _, marks = page_of(name, layout)
    words, cards = sample(name, PER_PAGE[layout])
    (page,) = samples.rendered(printing.pdf(words, cards, layout), 300)
    assert ink_outside(page, marks, 300 / 25.4) == 0


@pytest.mark.parametrize("name", samples.SHEETS)
def test_ink_of_a_picture_stays_where_it_was_measured(name: str) -> None:
    words, cards = sample(name, 1)
    plan = grid(words, cards, "58mm", png_measure)
    assert collisions(list(plan.cell.marks)) == []
    image = Image.open(io.BytesIO(printing.png384(words, cards[0]))).convert("L")
    assert ink_outside(image, page_marks(plan, cards), 1 / DOT, shift=-plan.left) == 0


def ink_outside(page: Image.Image, marks: list[Mark], scale: float, shift: float = 0.0) -> int:
    """Dark dots that lie in no mark's box, with a third of a millimetre of grace."""
    white = Image.new("L", page.size, 255)
    drawing = ImageDraw.Draw(white)
    for mark in marks:
        box = box_of(mark)
        drawing.rectangle(
            (
                (box.left + shift - 0.3) * scale,
                (box.top - 0.3) * scale,
                (box.right + shift + 0.3) * scale,
                (box.bottom + 0.3) * scale,
            ),
            fill=0,
        )
    dark = page.point(lambda grey: 255 if grey < 128 else 0)
    return sum(ImageChops.multiply(dark, white).histogram()[128:])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_digits_are_the_largest_words_of_a_card(layout: str) -> None:
    for name in samples.SHEETS:
        plan, _ = page_of(name, layout)
        texts = [mark for mark in plan.cell.marks if isinstance(mark, Text)]
        digits = [mark.size for mark in texts if (mark.slot or "").startswith("code")]
        others = [mark.size for mark in texts if not (mark.slot or "").startswith("code")]
        assert min(digits) > max(others)


@pytest.mark.parametrize("layout", LARGE)
def test_a_large_card_says_everything_a_resident_needs(layout: str) -> None:
    words, cards = sample("usual", 1)
    text = samples.words_of(printing.pdf(words, cards, layout))
    for said in (
        "WiFi Desa Tanjung",
        show(cards[0].code),
        "2 GB dan 7 hari sejak pertama dipakai.",
        "Mulai dipakai paling lambat 30 September 2028.",
        "Matikan data seluler.",
        "Desa Tanjung",
        "Ketik 12 angka, tekan Masuk.",
        "Cek sisa: http://192.168.182.1:8080/",
        "Bantuan: Bu Sari, kantor desa, 0812-3456-7890",
        "A017-01",
        "GRATIS",
    ):
        assert said in text, said
    assert ("Garis di bawah harus utuh." in text) == (layout != "a4-21")


def test_a_small_card_says_little_and_the_sheet_the_rest_once() -> None:
    words, cards = sample("usual", 40)
    text = samples.words_of(printing.pdf(words, cards, "a4-40"))
    for often in ("2 GB, 7 hari", "Mulai paling lambat 30/09/2028", "GRATIS"):
        assert text.count(often) >= 40, often
    for once in (
        "2 GB dan 7 hari sejak pertama dipakai.",
        "Matikan data seluler.",
        "Ketik 12 angka, tekan Masuk.",
        "Cek sisa: http://192.168.182.1:8080/",
        "0812-3456-7890",
        "Posyandu Mei",
    ):
        assert text.count(once) == 1, once


def unbroken(text: str) -> str:
    """Without spaces, line ends and hyphens, which a line end may swallow."""
    return "".join(sign for sign in printable(text) if sign.isalnum())


def test_even_the_longest_words_are_printed_to_the_end() -> None:
    words, cards = sample("longest", 1)
    for layout in LARGE:
        text = samples.words_of(printing.pdf(words, cards, layout))
        joined = unbroken(text)
        for said in (words.site_name, words.gives, words.use_before, words.status, words.help):
            assert unbroken(said) in joined, (layout, said)
        for step in words.steps:
            assert unbroken(step) in joined, (layout, step)
        assert "\u2026" not in text
    words, cards = sample("absurd", 1)
    for layout in LARGE:
        joined = unbroken(samples.words_of(printing.pdf(words, cards, layout)))
        for said in (words.site_name, words.use_before, words.status, words.help):
            assert unbroken(said) in joined, (layout, said)


def test_a_roll_ends_with_a_line_of_every_dot_of_the_head() -> None:
    words, cards = sample("usual", 1)
    image = Image.open(io.BytesIO(printing.png384(words, cards[0]))).convert("L")
    rows = [image.crop((0, y, 384, y + 1)) for y in range(image.height)]
    full = [y for y, row in enumerate(rows) if row.getextrema() == (0, 0)]
    assert len(full) == 8 and full[0] > image.height * 0.9


@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_black_is_printed_on_white(layout: str) -> None:
    words, cards = sample("usual", PER_PAGE[layout])
    document = pypdfium2.PdfDocument(printing.pdf(words, cards, layout))
    red, green, blue = document[0].render(scale=2).to_pil().convert("RGB").split()
    assert red.tobytes() == green.tobytes() == blue.tobytes()
    assert red.getextrema() == (0, 255)


@pytest.mark.parametrize("layout", ["a4-40", "a4-21"])
def test_cut_lines_surround_every_card(layout: str) -> None:
    plan, _ = page_of("usual", layout)
    lines = [mark for mark in plan.marks if isinstance(mark, Stroke) and mark.is_dashed]
    assert len(lines) == plan.columns + plan.rows + 2
    for n in range(plan.count):
        x, y = plan.corner(n)
        edges = (x, y, x + plan.cell.width, y + plan.cell.height)
        for value, axis in zip(edges, (0, 1, 0, 1), strict=True):
            assert any(
                math.isclose(line.points[0][axis], value, abs_tol=1e-6)
                and math.isclose(line.points[1][axis], value, abs_tol=1e-6)
                for line in lines
            )


def test_a_card_per_page_of_a_roll_and_full_pages_of_a4() -> None:
    words, cards = sample("usual", 43)
    for layout, pages in (("a4-40", 2), ("a4-21", 3), ("58mm", 43), ("80mm", 43)):
        assert len(samples.rendered(printing.pdf(words, cards, layout), 36)) == pages


def test_progress_is_told_and_ends_with_all() -> None:
    words, cards = sample("usual", 90)
    seen: list[tuple[int, int]] = []
    printing.pdf(words, cards, "a4-40", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (90, 90) and len(seen) >= 3
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_an_unknown_layout_and_no_cards_are_refused() -> None:
    words, cards = sample("usual", 1)
    with pytest.raises(KeyError):
        printing.pdf(words, cards, "a5")
    with pytest.raises(ValueError, match="no cards"):
        printing.pdf(words, [], "a4-40")


# --- the poster


@pytest.mark.parametrize("dpi", [96, 203, 300])
@pytest.mark.parametrize("paper", ["a4", "a3"])
@pytest.mark.parametrize("site", [samples.USUAL, samples.LONGEST], ids=["usual", "longest"])
def test_the_poster_joins_the_network_and_holds_no_card(site: Site, paper: str, dpi: int) -> None:
    words = samples.poster(site)
    (page,) = samples.rendered(printing.poster(words, paper), dpi)
    assert samples.decoded(page) == [printing.wifi_code(site.wifi_name)]


def test_the_poster_says_what_somebody_at_the_wall_needs() -> None:
    text = samples.words_of(printing.poster(samples.poster(), "a4"))
    for said in (
        "Gratis, jangan bayar",
        "Desa Tanjung",
        "Matikan data seluler.",
        "http://192.168.182.1:8080/",
        "Kantor Desa Tanjung, loket 2, pukul 08.00\u201315.00 WITA",
        "pukul 18.00\u201323.00 WITA",
        "0812-3456-7890",
    ):
        assert said in text, said


def test_the_posters_code_is_large_enough_for_a_wall() -> None:
    for site in (samples.USUAL, samples.LONGEST):
        cell = printing.poster_cell(samples.poster(site), pdf_measure)
        (code,) = (mark for mark in cell.marks if isinstance(mark, Qr))
        assert code.module * code.modules >= 79.9


# --- setting words


def test_words_are_broken_at_spaces_and_no_break_spaces_hold() -> None:
    lines = wrapped("dua\u00a0GB dan tujuh hari", 10.0, 2.0, False, pdf_measure)
    assert " ".join(lines) == "dua\u00a0GB dan tujuh hari"
    assert all(pdf_measure(line, 2.0, False) <= 10.0 for line in lines)
    assert lines[0].startswith("dua\u00a0GB")


def test_a_word_that_is_too_wide_is_broken_at_a_hyphen_or_anywhere() -> None:
    assert wrapped("Bersama-Tanjung", 9.0, 2.0, False, pdf_measure)[0] == "Bersama-"
    lines = wrapped("x" * 200, 9.0, 2.0, False, pdf_measure)
    assert "".join(lines) == "x" * 200


def test_words_shrink_before_they_are_cut_and_are_cut_before_they_overflow() -> None:
    place = Place(0, 0, 30, 8, 4, 1)
    short = fit(place, [Paragraph("Gratis")], pdf_measure)
    assert short[0].size == 4
    longer = fit(place, [Paragraph("kantor desa " * 5)], pdf_measure)
    assert longer[0].size < 4 and not longer[-1].text.endswith("\u2026")
    endless = fit(place, [Paragraph("kantor desa " * 200)], pdf_measure)
    assert endless[-1].text.endswith("\u2026")
    for texts in (short, longer, endless):
        for text in texts:
            assert Box(0, 0, 30, 8).holds(box_of(text))


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        ("Désa \u201cBahari\u201d \u2013 2", "Désa \u201cBahari\u201d \u2013 2"),
        ("dua\nbaris\tini", "dua baris ini"),
        ("Ṣubuh ﬁ", "Subuh fi"),
        ("\u6e29 \U0001f600\u200d", "? ?"),
        ("a\x00b\x85c\xadd", "abcd"),
        ("08.00\u201315.00 2\u00a0GB", "08.00\u201315.00 2\u00a0GB"),
    ],
)
def test_signs_that_no_printer_has_become_ones_it_has(typed: str, printed: str) -> None:
    assert printable(typed) == printed


def test_names_in_other_scripts_still_print() -> None:
    site = Site(4, "X", "Désa \u6e29\u6cc9 \U0001f600 Ṣubuh", "Asia/Jakarta", helper="\u4e2d")
    words = samples.sheet(site)
    cards = samples.cards(1)
    for layout in LAYOUTS:
        (page, *_) = samples.rendered(printing.pdf(words, cards, layout), 203)
        assert samples.decoded(page) == [cards[0].url]
    assert printing.png384(words, cards[0])


def test_fills_and_strokes_have_boxes() -> None:
    assert box_of(Fill(((0, 0), (2, 0), (2, 1)))) == Box(0, 0, 2, 1)
    assert box_of(Stroke(((0, 0), (2, 0)), 0.5)) == Box(-0.25, -0.25, 2.25, 0.25)


@pytest.mark.parametrize("size_mm", [3.0, 3.53, 4.23])
def test_on_the_picture_the_dots_of_bold_letters_stand_apart(size_mm: float) -> None:
    image = Image.new("L", (60, 60), 255)
    words = Text(20 * DOT, 45 * DOT, "i", size_mm, 1.0, is_bold=True)
    printing._paint(ImageDraw.Draw(image), words)
    dark = image.point(lambda grey: 255 if grey > 120 else 0)
    inked = [0 in dark.crop((0, y, 60, y + 1)).tobytes() for y in range(60)]
    begun = sum(now and not before for before, now in pairwise([False, *inked]))
    assert begun == 2, "a stroke, and a dot above it"
