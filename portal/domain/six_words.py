"""Six words: a fingerprint that one person reads out to another over the telephone.

Short Indonesian words of every day, 256 of them, so each stands for one octet. Any two differ in
at least two letters and no two begin with the same four: what is misheard is not another word.
Pure.
"""

import hashlib
import re

COUNT = 6
_ROUNDS = 100_000
"""Makes each guess of who looks for keys with the same words dear: 48 bits of words then cost as
much as some 64. A small box takes a third of a second."""

WORDS = tuple(
    """
    abad abang acara adik agung ahli akar alam aman angsa anting apel asap asin ayah badai bahu
    bakau bambu bangku banyak baris batik bawang bebek beduk bekal benang benih benua berita
    besar besi biji bilik biola bontot botol buah bubur bukit buku bunga bunyi buruh cahaya
    camar candi catur cawan celana cincin cinta cucu cuka cumi dadu daging dahan damai danau
    dapur daun dayung debu dewan dingin dokar dompet duduk dukun durian ekor elang ember empat
    empuk encer fajar foto gambar garam garuda gempa genap gerak gitar goreng gotong gula guling
    gunung guru hadiah halus harum hasil hati helai hidung hijau hujan hulu imbang indah ingat
    istana itik jaket jamur janji jasa jeruk jinak jingga jujur kabar kabut kapal karang kartu
    kayu kebun kecap kemah kerbau kereta kicau kilat kipas kolam kompor kopi kota kuali kucing
    kumis kunci kursi lada lahir lampu lantai lapar larut lebah lemon lereng lilin lima limun
    lumpur lurus magang manis masak mawar meja melati merah mesin minyak molek muara musim nanas
    nangka nasi niat nila nyaman obat obor ombak otak otot pagi paku panah pandan papan paras
    pasir peluk pena penyu petir piano piring pohon pondok pulau putih puyuh rajin ratus rawa
    rebung resep riang rimba rotan roti rumah rusa sabun salak sampan santan sawah sayap sayur
    segar sejuk selat sendok senja sepatu sikat singa sirih sukses sumur sungai susu tabung
    tambak tangga tari tawon teduh tekun telur tenda tepung terang tikar tiram tomat tujuh
    tulang tumbuh tutup udara ujung ular umbi untung usaha wajan wajik wangi warna warung wortel
    yakin
    """.split()
)


def fingerprint(*parts: bytes) -> tuple[str, ...]:
    """The six words of these octets, in their order."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(len(part).to_bytes(4, "big") + part)
    stretched = hashlib.pbkdf2_hmac(
        "sha256", hashed.digest(), b"pesisir six words 1", _ROUNDS, COUNT
    )
    return tuple(WORDS[octet] for octet in stretched)


def read(text: str) -> tuple[str, ...]:
    """The words a person typed: any case, parted by anything that is no letter.

    Raises ValueError when there are not six, or one is not in the list; says which.
    """
    typed = tuple(re.findall(r"[a-z]+", text.lower()))
    unknown = [word for word in typed if word not in WORDS]
    if unknown:
        raise ValueError(f"{unknown[0][:20]!r} is none of the words; expected one of the list")
    if len(typed) != COUNT:
        raise ValueError(f"{len(typed)} words; expected {COUNT}")
    return typed
