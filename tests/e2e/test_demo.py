"""`pesisir demo` as a process: comes up beside others, prints what one needs, keeps its data."""

import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

from portal.domain.voucher import is_well_formed
from portal.store.db.either import HUB_FILE_NAME
from tests.e2e.test_operator_command import Visitor
from tests.e2e.village import PESISIR, Process, environment, get, pesisir, run, send

CARD = re.compile(r"^ +(\d{4} \d{4} \d{4}) +([A-Z]\d{3}-\d{2})$", re.MULTILINE)


def cards(demo: Process) -> dict[str, str]:
    """The printed cards, code by serial."""
    return {serial: code for code, serial in CARD.findall("\n".join(demo.lines))}


def at_hub(directory: Path, octets: int) -> bool:
    """Whether the demo's hub knows of so many octets within two minutes, by itself."""
    until_s = time.monotonic() + 120
    while time.monotonic() < until_s:
        with closing(sqlite3.connect(directory / "hub" / HUB_FILE_NAME)) as database:
            found = database.execute(
                "SELECT SUM(input_octets + output_octets), SUM(sessions) FROM site_day"
            ).fetchone()
        if found == (octets, 1):
            return True
        time.sleep(0.5)
    return False


def test_stranger_gets_online_with_a_printed_code(tmp_path: Path) -> None:
    demo = Process("--dir", tmp_path / "demo", "demo")
    try:
        printed = cards(demo)
        assert len(printed) == 9
        assert all(is_well_formed(code.replace(" ", "")) for code in printed.values())
        page_url = demo.ready["practice"]
        text = "\n".join(demo.lines)
        assert f"Open {page_url}" in text and demo.ready["url"] in text
        assert re.search(r"Sign-in +admin +password \S{12,}", text)
        beside = re.search(r"^ +(\S*pesisir --dir .* session list) --open$", text, re.MULTILINE)
        assert beside is not None
        done = subprocess.run(
            shlex.split(beside[1]), env=environment(), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr

        async def check() -> None:
            page = await get(page_url)
            assert "Hanya untuk latihan" in page.words
            captured = next(link for link in page.links if link.endswith("/internet"))
            page = await get(captured)
            assert page.url.startswith(demo.ready["url"])
            page = await send(page.forms[0], kode=printed["A001-01"])
            assert "res=success" in page.url and "Berhasil" in page.words
            page = await get(page_url)
            presses = {form.action.rsplit("/", 1)[1]: form for form in page.forms}
            for _ in range(2):
                page = await send(presses["download-10"])
            assert "A001-01" in page.words and "kuota data habis" in page.words

        run(check)
        shown = pesisir(tmp_path / "demo", "voucher", "show", "A001-01")
        assert (shown["octets_used"], shown["state"]) == (20_000_000, "used_up")
        assert re.search(r"Hub sign-in +dinas +password \S{12,}", text)
        assert at_hub(tmp_path / "demo", 20_000_000)
    finally:
        status, seconds, errors = demo.stop()
    assert status == 0 and seconds < 10
    assert "Traceback" not in errors, errors


def test_data_survives_and_fresh_begins_again(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    first = Process("--dir", directory, "demo")
    one = cards(first)
    assert first.stop(signal.SIGINT)[0] == 0

    second = Process("--dir", directory, "demo")
    two = cards(second)
    assert not set(one) & set(two)
    assert [site["code"] for site in pesisir(directory, "site", "list")] == ["TJL", "WAI"]
    zones = {site["zone"] for site in pesisir(directory, "site", "list")}
    assert len(zones) == 2
    shown = pesisir(directory, "voucher", "show", "A001-01")
    assert (shown["state"], shown["last4"]) == ("unused", one["A001-01"][-4:])
    (gateway,) = pesisir(directory, "gateway", "list")
    assert (gateway["family"], gateway["address"]) == ("coova", "127.0.0.1")
    sign_in = [line for line in first.lines if "Sign-in" in line]
    assert sign_in == [line for line in second.lines if "Sign-in" in line]
    assert second.stop()[0] == 0

    third = Process("--dir", directory, "demo", "--fresh")
    assert set(cards(third)) == set(one)
    assert cards(third)["A001-01"] != one["A001-01"]
    assert third.stop()[0] == 0


def test_a_first_start_that_was_killed_is_made_good(tmp_path: Path) -> None:
    """As it stands after kill -9 between any two steps of making the hub and enrolling at it."""
    directory = tmp_path / "demo"
    assert Process("--dir", directory, "demo").stop(signal.SIGINT)[0] == 0
    hub = directory / "hub"
    with closing(sqlite3.connect(hub / HUB_FILE_NAME)) as database:
        # The first site is there with a token; the second is not.
        for table in ("site_node", "node", "node_key", "node_head", "checkpoint"):
            database.execute(f"DELETE FROM {table}")
        database.execute("UPDATE site SET node_id = NULL")
        database.execute("DELETE FROM enrolment WHERE site = 'WAI'")
        database.execute("UPDATE enrolment SET state = 'open', node_id = NULL")
        database.execute("DELETE FROM site WHERE code = 'WAI'")
        database.commit()
    (hub / "pesisir.demo").unlink()
    again = Process("--dir", directory, "demo")
    try:
        text = "\n".join(again.lines)
        assert "operator password dinas)" in text
        with closing(sqlite3.connect(hub / HUB_FILE_NAME)) as database:
            found = database.execute("SELECT code, node_id IS NULL FROM site").fetchall()
        assert sorted(found) == [("TJL", 0), ("WAI", 0)]
    finally:
        assert again.stop()[0] == 0


def test_the_desk_opens_with_the_printed_name_and_password(tmp_path: Path) -> None:
    demo = Process("--dir", tmp_path / "demo", "demo")
    try:
        text = "\n".join(demo.lines)
        desk = re.search(r"Desk +(http://127\.0\.0\.1:\d+)/operator/ ", text)
        printed = re.search(r"Sign-in +admin +password (\S+)", text)
        assert desk is not None and printed is not None
        assert demo.ready["desk"] == f"{desk[1]}/operator/"
        visitor = Visitor(desk[1])
        # Straight to the first page: in the demo nobody has to change anything.
        assert visitor.sign_in("admin", printed[1]) == "/operator/"
        assert visitor.ask("/operator/")[0] == 200
        given = pesisir(tmp_path / "demo", "operator", "password", "admin")["password"]
    finally:
        assert demo.stop()[0] == 0
    again = Process("--dir", tmp_path / "demo", "demo")
    try:
        text = "\n".join(again.lines)
        assert "Sign-in      admin  with the password you have set" in text
        assert printed[1] not in text and given not in text
    finally:
        assert again.stop()[0] == 0


def test_taken_ports_are_replaced_and_named(tmp_path: Path) -> None:
    # What another program already holds is as good as our own socket there.
    held = []
    for port in (8080, 3990):
        taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.append(taken)
        try:
            taken.bind(("127.0.0.1", port))
            taken.listen()
        except OSError:
            continue
    try:
        demo = Process("--dir", tmp_path / "demo", "demo")
        try:
            assert not demo.ready["url"].endswith(":8080")
            assert not demo.ready["practice"].endswith(":3990/")
            text = "\n".join(demo.lines)
            assert "Port 8080 is taken" in text and "Port 3990 is taken" in text

            async def check() -> None:
                page = await get(demo.ready["practice"].rstrip("/") + "/internet")
                assert page.status == 200 and page.url.startswith(demo.ready["url"])

            run(check)
        finally:
            assert demo.stop()[0] == 0
    finally:
        for taken in held:
            taken.close()


def test_directory_of_a_real_node_is_never_touched(tmp_path: Path) -> None:
    directory = tmp_path / "node"
    pesisir(directory, "init")
    before = sorted(path.name for path in directory.iterdir())
    for words in (("demo",), ("demo", "--fresh")):
        done = subprocess.run(
            [*PESISIR, "--dir", str(directory), *words],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 1
        assert "demo" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert sorted(path.name for path in directory.iterdir()) == before


def test_second_demo_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    demo = Process("--dir", tmp_path, "demo")
    try:
        for words in (("demo",), ("demo", "--fresh")):
            done = subprocess.run(
                [*PESISIR, "--dir", str(tmp_path), *words],
                env=environment(),
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 1 and "Traceback" not in done.stderr
        assert pesisir(tmp_path, "voucher", "show", "A001-01")["state"] == "unused"
    finally:
        assert demo.stop()[0] == 0
