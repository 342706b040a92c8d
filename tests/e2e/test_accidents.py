"""What happens in a village: ports taken, keys cut short, disks full, the plug pulled.

Whatever prevents a start is one plain sentence and exit status 1, and nothing is lost by it; what
happens to a running node stops neither accounting nor the answers for longer than it lasts.
"""

import asyncio
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from portal import keys
from portal.errors import UserError
from radius.packet import ACCESS_ACCEPT
from tests.e2e import village
from tests.e2e.command import (
    INTERIM,
    PROGRAM,
    START,
    STOP,
    Outcome,
    RunningNode,
    environment,
    pesisir,
    process,
)
from tests.e2e.crowd import check_stored, crowd, make_directory
from tests.e2e.node_process import (
    Nas,
    http_status,
    issue,
    make,
    run,
    sessions,
    used,
    wait_until,
)

FULL = "Maaf, penyimpanan alat kami penuh. Hubungi petugas."
LOOKS_EVERY_S = 15
"""portal.node.STALE_EVERY_S: how often the node looks whether the disk has room again."""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with three cards, of which the first was used; its node has ended."""
    directory = make(tmp_path_factory.mktemp("pristine") / "node", harian={"data-day": "500MB"})
    cards = issue(directory, "harian", 3)
    (directory / "cards").write_text("\n".join(f"{serial} {code}" for serial, code in cards))
    with RunningNode(directory) as node, Nas(node.ready) as nas:
        nas.log_in(cards[0][1])
        assert nas.report(STOP, "s-0", (1_000_000, 9_000_000), 60)
    assert node.process.returncode == 0
    check_intact(directory)
    return directory


@pytest.fixture
def directory(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it to work on."""
    return Path(shutil.copytree(pristine, tmp_path / "node"))


def cards(directory: Path) -> list[tuple[str, str]]:
    """Serial and code of its cards."""
    lines = (directory / "cards").read_text().splitlines()
    return [(line.split()[0], line.split()[1]) for line in lines]


def check_intact(directory: Path) -> None:
    """Everything that `pristine` had is still there."""
    assert used(directory, cards(directory)[0][0]) == (10_000_000, 60)
    assert list(sessions(directory)) == ["s-0"]
    assert len(run(directory, "voucher", "list")) == 3


def refusal(outcome: Outcome) -> str:
    """The one plain sentence of a node that does not start; the log may say more before it."""
    assert outcome.status == 1, outcome
    assert "Traceback" not in outcome.err and outcome.out == ""
    sentences = [line for line in outcome.err.splitlines() if not line.startswith("20")]
    assert len(sentences) == 1 and sentences[0].endswith("."), outcome.err
    assert "fault of the program" not in sentences[0]
    return sentences[0]


# --- a node that cannot start


@pytest.mark.parametrize("which", ["http", "auth", "acct"])
def test_a_port_in_use_is_one_sentence(directory: Path, which: str) -> None:
    kind = socket.SOCK_STREAM if which == "http" else socket.SOCK_DGRAM
    variable = "PESISIR_HTTP_LISTEN" if which == "http" else f"PESISIR_RADIUS_{which.upper()}"
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if which == "http":
            other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        sentence = refusal(process("node", "--dir", directory, **{variable: taken}))
    assert taken in sentence and "in use" in sentence
    check_intact(directory)


@pytest.mark.parametrize("variable", ["PESISIR_HTTP_LISTEN", "PESISIR_RADIUS_ACCT"])
def test_an_address_of_another_machine_is_one_sentence(directory: Path, variable: str) -> None:
    sentence = refusal(process("node", "--dir", directory, **{variable: "192.0.2.7:0"}))
    assert "192.0.2.7:0" in sentence and "no such address" in sentence


def test_a_second_node_in_a_directory_is_refused_and_the_first_works_on(directory: Path) -> None:
    with RunningNode(directory) as node, Nas(node.ready) as nas:
        assert str(node.process.pid) in refusal(process("node", "--dir", directory))
        assert nas.is_alive(nas.acct)
        answer = nas.log_in(cards(directory)[1][1])
        assert answer is not None and answer.code == ACCESS_ACCEPT
        check_intact(directory)


@pytest.mark.parametrize("name", [".", "pesisir.db", "pesisir.lock"])
def test_what_may_not_be_written_is_one_sentence(directory: Path, name: str) -> None:
    (directory / "pesisir.lock").unlink()
    if name == "pesisir.lock":
        (directory / name).touch()
    usual = (directory / name).stat().st_mode
    (directory / name).chmod(0o500 if name == "." else 0o400)
    sentence = refusal(process_with_few_rights("node", "--dir", str(directory)))
    assert str(directory) in sentence
    (directory / name).chmod(usual)
    check_intact(directory)


def process_with_few_rights(*words: str) -> Outcome:
    """Run the command; root without the right to write everywhere."""
    command = [*PROGRAM, *words]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everywhere, and there is no setpriv")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_a_read_only_file_system_is_one_sentence(pristine: Path, small_disk: Path) -> None:
    directory = Path(shutil.copytree(pristine, small_disk / "node"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    sentence = refusal(process("node", "--dir", directory))
    assert str(directory) in sentence and "ead-only" in sentence
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    check_intact(directory)


def test_a_missing_key_file_is_one_sentence_and_no_new_keys_are_made(directory: Path) -> None:
    kept = (directory / keys.FILE_NAME).rename(directory / "kept")
    sentence = refusal(process("node", "--dir", directory))
    assert "key file" in sentence and "backup" in sentence
    assert not (directory / keys.FILE_NAME).exists()
    kept.rename(directory / keys.FILE_NAME)
    check_intact(directory)


def test_a_key_file_cut_anywhere_is_never_used(directory: Path) -> None:
    file = directory / keys.FILE_NAME
    whole = file.read_bytes()
    for length in range(len(whole.rstrip())):
        file.write_bytes(whole[:length])
        with pytest.raises(UserError, match="put it back from a backup"):
            keys.read(directory)
    file.write_bytes(whole[:200])
    assert "key file" in refusal(process("node", "--dir", directory))
    file.write_bytes(whole)
    check_intact(directory)


def newer(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 999")
    database.close()


def damaged_inside(path: Path) -> None:
    with sqlite3.connect(path) as database:
        (page,) = database.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'gateway'"
        ).fetchone()
        (octets,) = database.execute("PRAGMA page_size").fetchone()
    database.close()
    with open(path, "r+b") as file:
        file.seek((page - 1) * octets)
        file.write(b"\xa5" * octets)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (newer, "newer"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(b"no database at all" * 1000), "not a database"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "malformed"),
        (lambda path: os.truncate(path, 100), "cannot be"),
        (damaged_inside, "malformed"),
    ],
    ids=["newer", "empty", "garbage", "half", "100 octets", "damaged inside"],
)
def test_an_unusable_database_is_one_sentence_and_left_alone(
    directory: Path, spoil: Callable[[Path], object], words: str
) -> None:
    path = directory / "pesisir.db"
    whole = path.read_bytes()
    spoil(path)
    before = path.read_bytes()
    sentence = refusal(process("node", "--dir", directory))
    assert words in sentence and str(path) in sentence
    # A command must not go on with it either.
    assert str(path) in refusal(pesisir("voucher", "list", "--dir", directory))
    assert path.read_bytes() == before
    for name in ("pesisir.db-wal", "pesisir.db-shm"):
        (directory / name).unlink(missing_ok=True)
    path.write_bytes(whole)
    check_intact(directory)


@pytest.mark.parametrize(
    ("text", "variables", "words"),
    [
        ("[htpp]\nlisten = '127.0.0.1:0'", {}, "htpp"),
        ("[http]\nlisten = 80", {}, "http.listen is 80"),
        ("[http\n", {}, "pesisir.toml"),
        (None, {"PESISIR_RADIUS_AUTH": "nowhere"}, "nowhere"),
        (None, {"PESISIR_HTTP_LISTN": "127.0.0.1:0"}, "PESISIR_HTTP_LISTN"),
        (
            None,
            {
                "PESISIR_HTTP_LISTEN": "https://127.0.0.1:0",
                "PESISIR_HTTP_TLS_CERT": "cards",
                "PESISIR_HTTP_TLS_KEY": "cards",
            },
            "certificate",
        ),
    ],
    ids=["section", "type", "no TOML", "address", "misspelt variable", "certificate"],
)
def test_wrong_settings_are_one_sentence(
    directory: Path, text: str | None, variables: dict[str, str], words: str
) -> None:
    if text is not None:
        (directory / "pesisir.toml").write_text(text)
    assert words in refusal(process("node", "--dir", directory, **variables))


def test_no_directory_is_one_sentence_and_none_is_made(tmp_path: Path) -> None:
    for place in (tmp_path / "none", tmp_path):
        assert "pesisir init" in refusal(process("node", "--dir", place))
    assert list(tmp_path.iterdir()) == []


# --- a node that is told to stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_under_load_stops_within_ten_seconds_and_keeps_its_word(
    tmp_path: Path, number: signal.Signals
) -> None:
    directory = make_directory(tmp_path / "node")
    with (
        ExitStack() as stack,
        crowd(directory, random.Random(1), singles=20, pairs=10) as gateways,
        RunningNode(directory) as node,
    ):
        gateways.find(node.ready)
        gateways.work(300)
        # A browser in the middle of a request, one that says nothing, and a silent command.
        for half in (b"GET / HTTP/1.1\r\nHost: x\r\n", b""):
            opened = stack.enter_context(socket.create_connection(node.address("http")))
            opened.sendall(half)
        silent = stack.enter_context(socket.socket(socket.AF_UNIX))
        silent.connect(str(directory / "pesisir.sock"))
        node.process.send_signal(number)
        begun_at = time.monotonic()
        while node.process.poll() is None:
            assert time.monotonic() - begun_at < 10, "still running"
            gateways.turn()
        gateways.collect(0)
        assert node.stop() == 0
        assert not (directory / "pesisir.sock").exists()
        check_stored(directory, gateways, gateways.phones[-1].serial)
    log = (directory / "node.log").read_text()
    assert "Traceback" not in log, log


# --- the disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MB of its own; mounting one takes root."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("no small disk can be mounted here: " + mounted.stderr.decode().strip())
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Leave not one octet on a disk; returns the file that takes the room."""
    filler = place / "filler"
    with open(filler, "ab", buffering=0) as file:
        for size in (65536, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return filler


def page_after_code(ready: str, code: str) -> str:
    """What the portal says to a resident who types a code."""

    async def type_it() -> str:
        url = ready.split(" url=")[1].strip() + "/"
        page = await village.get(url)
        return (await village.send(page.forms[0], kode=code)).words

    return asyncio.run(type_it())


def test_a_full_disk_keeps_accounting_and_loses_nothing(pristine: Path, small_disk: Path) -> None:
    directory = Path(shutil.copytree(pristine, small_disk / "node"))
    (_, first), (serial, second), (_, third) = cards(directory)
    ballast = directory / "pesisir.ballast"
    ballast.unlink(missing_ok=True)
    with RunningNode(directory) as node, Nas(node.ready) as nas:
        http = node.address("http")
        assert nas.log_in(second) is not None
        assert nas.report(START, "s-1") and nas.report(INTERIM, "s-1", (1, 2), 1)
        assert http_status(http, "/healthz") == 200 and nas.is_alive(nas.acct)
        assert ballast.stat().st_size == 8_000_000

        # The ballast is given up, so sessions under way are accounted, and new ones must wait.
        filler = fill(small_disk)
        wait_until(lambda: nas.report(INTERIM, "s-1", (1_000, 2_000), 10, within_s=0.5))
        assert not ballast.exists()
        assert used(directory, serial) == (3_000, 10)
        assert http_status(http, "/healthz") == 503
        assert nas.message(third) == FULL
        assert "Alat WiFi sedang penuh" in page_after_code(node.ready, third)
        assert not nas.is_alive(nas.acct, 0.3) and not nas.is_alive(nas.auth, 0.3)

        # That room is used up too: what cannot be stored is not answered, and nothing breaks.
        fill(small_disk)
        for seconds in range(11, 14):
            assert not nas.report(INTERIM, "s-1", (5_000, 5_000 + seconds), seconds, within_s=0.3)
        assert nas.message(third) == FULL
        assert http_status(http, "/healthz") == 503
        issuing = refusal(pesisir("voucher", "issue", "--profile", "harian", "--dir", directory))
        assert "disk is full" in issuing
        adding = ("gateway", "add", "pos-2", "--family", "coova", "--address", "10.0.0.2")
        assert "disk is full" in refusal(pesisir(*adding, "--dir", directory))
        assert pesisir("check", "--dir", directory).status == 1

        # There is room again.
        filler.unlink()
        wait_until(lambda: nas.report(INTERIM, "s-1", (5_000, 5_013), 13, within_s=0.5))
        assert used(directory, serial) == (10_013, 13)
        wait_until(lambda: http_status(http, "/healthz") == 200, LOOKS_EVERY_S + 5)
        assert ballast.stat().st_size == 8_000_000
        assert nas.is_alive(nas.acct) and nas.is_alive(nas.auth)
        assert nas.report(STOP, "s-1", (6_000, 6_000), 20)
        answer = nas.log_in(third)
        assert answer is not None and answer.code == ACCESS_ACCEPT
        assert len(run(directory, "voucher", "list")) == 3
        assert [gateway["name"] for gateway in run(directory, "gateway", "list")] == ["pos-1"]

        # Nor is a node stopped in the middle of it a node that hangs.
        fill(small_disk)
        nas.report(INTERIM, "s-2", (7, 7), 7, within_s=0.1)
        fill(small_disk)
        assert node.stop() == 0
        filler.unlink()
    listed = sessions(directory)
    assert listed["s-1"]["input_octets"] + listed["s-1"]["output_octets"] == 12_000
    assert used(directory, serial) == (12_000, 20)
    assert used(directory, cards(directory)[0][0]) == (10_000_000, 60)


def test_a_disk_that_fails_stops_nothing_for_longer_than_it_lasts(directory: Path) -> None:
    (_, _), (serial, code), (_, third) = cards(directory)
    with RunningNode(directory) as node, Nas(node.ready) as nas:
        nas.log_in(code)
        assert nas.report(START, "s-1") and nas.report(INTERIM, "s-1", (1, 2), 1)
        # A disk that went read-only does not let the ballast go either.
        ballast = directory / "pesisir.ballast"
        ballast.unlink()
        ballast.mkdir()
        written = (directory / "pesisir.db-wal").stat().st_size
        before = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (written, before[1]))
        for seconds in range(2, 5):
            assert not nas.report(INTERIM, "s-1", (500, 500 + seconds), seconds, within_s=0.3)
        assert nas.message(third) == FULL
        assert not nas.is_alive(nas.acct, 0.3)
        assert http_status(node.address("http"), "/healthz") == 503
        issuing = refusal(pesisir("voucher", "issue", "--profile", "harian", "--dir", directory))
        assert "disk I/O error" in issuing
        ballast.rmdir()
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, before)
        wait_until(lambda: nas.report(INTERIM, "s-1", (500, 504), 4, within_s=0.5))
        assert used(directory, serial) == (1_004, 4)
        assert node.stop() == 0
    assert used(directory, serial) == (1_004, 4)
    log = (directory / "node.log").read_text()
    assert "Traceback" not in log and "commit_works_again" in log, log


def test_a_power_cut_that_tears_the_last_writes_leaves_a_prefix(
    pristine: Path, directory: Path
) -> None:
    """SD cards lose or scramble what they wrote last, even what they said was safe."""
    chance = random.Random(3)
    serial, code = cards(directory)[1]
    reports = [(100 * n, 1_000 * n) for n in range(1, 31)]
    with RunningNode(directory) as node, Nas(node.ready) as nas:
        nas.log_in(code)
        assert nas.report(START, "s-1")
        for seconds, octets in enumerate(reports, 1):
            assert nas.report(INTERIM, "s-1", octets, seconds)
        node.stop(signal.SIGKILL)
    wal = directory / "pesisir.db-wal"
    whole = wal.read_bytes()
    prefixes = {(0, 0)} | {(sum(octets), n) for n, octets in enumerate(reports, 1)}
    seen = set()
    for turn in range(25):
        for name in ("pesisir.db", "pesisir.db-shm"):
            (directory / name).unlink(missing_ok=True)
        shutil.copy(pristine / "pesisir.db", directory / "pesisir.db")
        at = chance.randrange(len(whole))
        tail = b"" if turn % 2 else chance.randbytes(len(whole) - at)
        wal.write_bytes(whole[:at] + tail)
        found = used(directory, serial)
        assert found in prefixes, found
        seen.add(found)
        assert used(directory, cards(directory)[0][0]) == (10_000_000, 60)
    assert len(seen) > 10
    # The gateway reports on, and its counters say what the card has really used.
    with RunningNode(directory) as node, Nas(node.ready) as again:
        again.class_value = nas.class_value
        assert again.report(STOP, "s-1", (4_000, 40_000), 40)
        assert used(directory, serial) == (44_000, 40)
        assert node.stop() == 0
