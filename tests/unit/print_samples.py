"""Words and cards to print in tests: usual ones, and the longest that the desk takes."""

import random
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import pypdfium2  # type: ignore[import-untyped]
import zxingcpp
from PIL import Image

from portal.admin import Site
from portal.domain.profile import Profile, change
from portal.domain.voucher import make_code
from portal.printing import Card
from portal.sheets.layouts import PosterWords, Sheet
from portal.web.operator import print_words
from portal.web.text import Texts

NOW = 1_795_233_600
ZONE = ZoneInfo("Asia/Makassar")
USE_BEFORE_AT = 1_853_941_200  # 30 September 2028 is the last day
SHORT_URL = "http://192.168.182.1:8080"
LONG_URL = "https://wifi-desa-persiapan-tanjung-selayar.kotabarukab.go.id"

USUAL = Site(
    1,
    "TANJUNG",
    "WiFi Desa Tanjung",
    "Asia/Makassar",
    helper="Bu Sari, kantor desa, 0812-3456-7890",
    power_window="18:00-23:00",
    wifi_name="Desa Tanjung",
    counter="Kantor Desa Tanjung, loket 2",
    opening_hours="08:00-15:00",
)
LONGEST = Site(
    2,
    "TANJUNG-SELAYAR1",
    ("WiFi Gratis Desa Persiapan Tanjung Selayar Kecamatan Pulau Laut Kepulauan Utara dan" + "g")[
        :80
    ],
    "Asia/Makassar",
    helper=(
        "Ibu Maria Magdalena Sulastri Wulandari, loket pelayanan kantor desa lantai dua di samping"
        " balai pertemuan, Senin sampai Jumat pukul 08.00-15.00, telepon atau WhatsApp"
        " 0812-3456-7890-1234, terima kasih banyak"
    )[:200],
    power_window="00:00-01:30,05:00-08:00,11:30-13:00,18:00-24:00",
    wifi_name="Jaringan_Bersama_Desa_Tanjung_32",
    counter=(
        "Kantor Desa Persiapan Tanjung Selayar, loket pelayanan lantai dua di samping balai"
        " pertemuan, atau di Posyandu Mawar setiap hari Rabu pagi sebelum penimbangan balita"
        " dimulai, sampai selesai semuanya"
    )[:200],
    opening_hours="07:30-12:00,13:00-15:00,19:00-21:00",
)
PLAIN = change(Profile("harian"), data_total="2GB", valid="7d")
LONG = change(
    Profile("panjang"),
    data_day="500MB",
    data_week="2.5GB",
    data_month="9.5GB",
    time_day="2h30m",
    valid="365d",
    hours="05:00-08:00,18:00-23:30",
)
ABSURD = change(
    Profile("semua"),
    **{f"data_{window}": "999.5MB" for window in ("session", "day", "week", "month", "total")},
    **{f"time_{window}": "22h50m" for window in ("session", "day", "week", "month", "total")},
    valid="365d23h",
    hours="00:00-01:30,05:00-08:00,11:30-13:00,18:00-23:30",
)


@lru_cache
def texts() -> Texts:
    """The catalogues, read once."""
    return Texts()


def sheet(site: Site = USUAL, profile: Profile = PLAIN, **options: Any) -> Sheet:
    """What a sheet of this site and profile says."""
    url = LONG_URL if site is LONGEST else SHORT_URL
    return print_words.sheet(
        texts().translator(),
        site,
        profile,
        USE_BEFORE_AT,
        zone=ZONE,
        now=NOW,
        portal_url=url,
        **({"batch": "A017", "note": "Posyandu Mei"} | options),
    )


def poster(site: Site = USUAL) -> PosterWords:
    """What the poster of this site says."""
    url = LONG_URL if site is LONGEST else SHORT_URL
    t = texts().translator()
    return print_words.poster(t, site, zone=ZONE, now=NOW, portal_url=url)


SHEETS: dict[str, tuple[Sheet, str, str]] = {
    "usual": (sheet(), SHORT_URL, "A017-{:02d}"),
    "longest": (sheet(LONGEST, LONG, note="Pembagian " * 20), LONG_URL, "ZZ999-{:05d}"),
    "absurd": (sheet(LONGEST, ABSURD, note="x" * 200), LONG_URL, "ZZZZ999-{:05d}"),
    "bare": (
        print_words.sheet(
            texts().translator(),
            Site(3, "D", "Desa", "Asia/Jakarta"),
            Profile("bebas"),
            None,
            zone=ZONE,
            now=NOW,
            portal_url="http://10.1.0.1",
        ),
        "http://10.1.0.1",
        "A001-{:02d}",
    ),
}
"""Name -> words, the portal's URL, how serials are made."""


def cards(count: int, url: str = SHORT_URL, serial: str = "A017-{:02d}") -> list[Card]:
    """So many cards, always the same ones."""
    dice = random.Random(7)
    codes = [make_code(dice.randrange(10**11)) for _ in range(count)]
    return [Card(serial.format(n), code, f"{url}/{code}") for n, code in enumerate(codes, start=1)]


def rendered(pdf: bytes, dpi: int) -> list[Image.Image]:
    """The pages of a PDF as a printer of so many dots an inch would see them, in grey."""
    document = pypdfium2.PdfDocument(pdf)
    return [page.render(scale=dpi / 72).to_pil().convert("L") for page in document]


def decoded(image: Image.Image) -> list[str]:
    """What the QR codes of an image hold."""
    return [found.text for found in zxingcpp.read_barcodes(image)]


def words_of(pdf: bytes) -> str:
    """The text of a PDF, as somebody would select and copy it."""
    document = pypdfium2.PdfDocument(pdf)
    pages = [page.get_textpage().get_text_bounded() for page in document]
    return " ".join(" ".join(pages).replace("\xa0", " ").split())
