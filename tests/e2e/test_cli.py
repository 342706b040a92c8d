"""The command `pesisir`, run as people run it: what it prints, refuses and leaves behind."""

import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import (
    INTERIM,
    PROGRAM,
    SETTINGS,
    START,
    STOP,
    Gateway,
    RunningNode,
    environment,
    pesisir,
    process,
)

GATEWAY_KEYS = {"name", "family", "address", "site", "nas_id", "secret", "uam_secret"}
VOUCHER_KEYS = {
    "serial",
    "last4",
    "profile",
    "state",
    "first_used_at",
    "expires_at",
    "octets_used",
    "octets_left",
    "seconds_used",
    "seconds_left",
    "resets_at",
    "open_sessions",
}
SESSION_KEYS = {
    "id",
    "gateway",
    "acct_session_id",
    "serial",
    "calling_station_id",
    "framed_ip",
    "started_at",
    "last_seen_at",
    "ended_at",
    "end_cause",
    "input_octets",
    "output_octets",
    "session_time_s",
}


def make(directory: Path) -> Path:
    """A node's directory with ports of the system's choice."""
    directory.mkdir()
    (directory / "pesisir.toml").write_text(SETTINGS)
    outcome = pesisir(
        *("init", "--site", "KMAL", "--name", "Balai Desa Kamal", "--zone", "WITA"),
        *("--admin", "siti", "--dir", directory, "--json"),
    )
    assert set(outcome.json) >= {"dir", "admin", "password"}
    return directory


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new directory with a profile, a gateway and three cards, which no test changes."""
    directory = make(tmp_path_factory.mktemp("pristine") / "node")
    assert (
        pesisir("profile", "set", "harian", "--data-day", "500MB", "--dir", directory).status == 0
    )
    assert (
        pesisir(
            *("gateway", "add", "pos-1", "--family", "coova", "--address", "127.0.0.1"),
            *("--secret", "rahasia-pos-1", "--dir", directory),
        ).status
        == 0
    )
    cards = pesisir(
        *("voucher", "issue", "--profile", "harian", "--count", "3", "--json"),
        *("--dir", directory),
    )
    (directory / "cards.json").write_text(cards.out)
    return directory


@pytest.fixture
def directory(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it to work on."""
    return Path(shutil.copytree(pristine, tmp_path / "node"))


@pytest.fixture(scope="module")
def running(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node that runs on another copy; tests only add to it."""
    place = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("running") / "node"))
    with RunningNode(place) as node:
        yield node


@pytest.fixture
def live(running: RunningNode) -> Path:
    """The directory of the running node."""
    return Path(running.process.args[-1])  # type: ignore[index,arg-type]


def cards(directory: Path) -> list[dict[str, str]]:
    """The three cards of the directory."""
    found: list[dict[str, str]] = json.loads((directory / "cards.json").read_text())["vouchers"]
    return found


# --- init


def test_init_makes_a_directory_only_its_owner_can_read(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "node"
    old = os.umask(0)
    try:
        outcome = pesisir("init", "--dir", place, "--json")
    finally:
        os.umask(old)
    made = outcome.json
    assert made["dir"] == str(place) and made["admin"] == "admin"
    assert len(made["password"]) >= 16
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()}
    assert {"pesisir.toml", "pesisir.keys", "pesisir.db"} <= set(names)
    assert set(names.values()) == {0o600}
    sites = pesisir("site", "list", "--json", "--dir", place).json
    assert [(site["code"], site["zone"]) for site in sites] == [("DESA", "Asia/Jakarta")]


def test_init_refuses_a_directory_that_has_data(directory: Path) -> None:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert "has a node's data already" in pesisir("init", "--dir", directory).sentence()
    (directory / "pesisir.db").unlink()
    assert "keys without a database" in pesisir("init", "--dir", directory).sentence()
    assert (directory / "pesisir.keys").read_bytes() == before["pesisir.keys"]


def test_init_after_a_refusal_can_be_made_again(tmp_path: Path) -> None:
    for words, part in (
        (["--zone", "Mars/Phobos"], "Mars/Phobos"),
        (["--site", "a b"], "A B"),
        (["--name", "  "], "name"),
        (["--admin", "Siti Aminah"], "Siti Aminah"),
    ):
        assert part in pesisir("init", "--dir", tmp_path, *words).sentence()
        assert not (tmp_path / "pesisir.db").exists()
        assert not (tmp_path / "pesisir.keys").exists()
    assert pesisir("init", "--dir", tmp_path).status == 0


def test_init_with_settings_that_cannot_work_says_so_and_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "pesisir.toml").write_text("[http]\nlisten = 80\n")
    assert "http.listen is 80" in pesisir("init", "--dir", tmp_path).sentence()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == ["pesisir.toml"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_directory_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot be" in pesisir("init", "--dir", tmp_path / "node").sentence()


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "node", Path("/proc/nowhere/node")):
        assert str(place) in pesisir("init", "--dir", place).sentence()


# --- the directory, words and statuses


def test_dir_stands_before_or_after_or_in_the_environment(directory: Path) -> None:
    expected = pesisir("profile", "list", "--json", "--dir", directory).json
    assert pesisir("--dir", directory, "profile", "list", "--json").json == expected
    assert pesisir("profile", "--dir", directory, "list", "--json").json == expected
    assert pesisir("profile", "list", "--json", PESISIR_DIR=str(directory)).json == expected
    other = pesisir("profile", "list", "--dir", directory / "x", PESISIR_DIR=str(directory))
    assert str(directory / "x") in other.sentence()


def test_a_directory_without_data_is_one_sentence(tmp_path: Path, directory: Path) -> None:
    assert "pesisir init" in pesisir("site", "list", "--dir", tmp_path / "none").sentence()
    (tmp_path / "empty").mkdir()
    assert "holds no Pesisir data" in pesisir("node", "--dir", tmp_path / "empty").sentence()
    assert list((tmp_path / "empty").iterdir()) == []
    (directory / "pesisir.db").unlink()
    assert "pesisir restore" in pesisir("site", "list", "--dir", directory).sentence()
    assert not (directory / "pesisir.db").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["vouchr"],
        ["voucher", "issue"],
        ["voucher", "issue", "--profile", "harian", "--count", "0"],
        ["voucher", "issue", "--profile", "harian", "--count", "many"],
        ["voucher", "issue", "--profil", "harian"],
        ["voucher", "revoke", "A001-01"],
        ["gateway", "add", "pos-2"],
        ["session", "disconnect", "x"],
        ["site", "add", "X"],
        ["init", "--role", "king"],
    ],
)
def test_wrong_words_are_one_sentence_with_status_2(directory: Path, words: list[str]) -> None:
    assert "--help" in pesisir(*words, "--dir", directory).sentence(2)


def test_the_installed_command_is_the_same() -> None:
    assert process("--version").out == pesisir("--version").out
    assert "--help" in process("vouchr").sentence(2)
    assert "pesisir init" in process("site", "list", "--dir", "/nowhere").sentence()


def test_no_words_print_the_help_with_status_2() -> None:
    outcome = pesisir()
    assert outcome.status == 2 and "Usage: pesisir" in outcome.err


def test_version_and_help() -> None:
    assert re.fullmatch(r"pesisir \d+\.\d+\.\d+\n", pesisir("--version").out)
    assert "voucher" in pesisir("--help").out
    assert "--use-before" in pesisir("voucher", "issue", "-h").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    assert "_PESISIR_COMPLETE" in pesisir("completion", shell).out


def test_completion_knows_the_names_in_the_directory(directory: Path) -> None:
    outcome = process(
        _PESISIR_COMPLETE="bash_complete",
        COMP_WORDS=f"pesisir --dir {directory} gateway show p",
        COMP_CWORD="5",
    )
    assert outcome.out == "plain,pos-1\n"


def test_a_settings_mistake_stops_every_command(directory: Path) -> None:
    (directory / "pesisir.toml").write_text('[radius]\nauth = "0.0.0.0:99999"\n')
    for words in (["node"], ["site", "list"]):
        message = pesisir(*words, "--dir", directory).sentence()
        assert message.startswith('radius.auth is "0.0.0.0:99999"; expected')


def test_a_newer_database_is_refused_and_left_alone(directory: Path) -> None:
    with sqlite3.connect(directory / "pesisir.db") as database:
        database.execute("PRAGMA user_version = 999")
    database.close()
    for words in (["node"], ["site", "list"]):
        message = pesisir(*words, "--dir", directory).sentence()
        assert "999" in message and "newer" in message
    checked = pesisir("check", "--json", "--dir", directory)
    assert checked.status == 1
    assert [c["name"] for c in json.loads(checked.out)["checks"] if c["status"] == "fail"] == [
        "database"
    ]


def test_a_missing_or_damaged_key_file_is_one_sentence(directory: Path) -> None:
    (directory / "pesisir.keys").write_text("{}")
    assert "pesisir.keys" in pesisir("voucher", "list", "--dir", directory).sentence()
    (directory / "pesisir.keys").unlink()
    assert "key file" in pesisir("node", "--dir", directory).sentence()
    assert pesisir("check", "--dir", directory).status == 1


def test_a_damaged_database_is_one_sentence(directory: Path) -> None:
    (directory / "pesisir.db").write_bytes(b"no database at all" * 1000)
    assert "pesisir.db" in pesisir("site", "list", "--dir", directory).sentence()


def test_a_fault_of_the_program_is_one_sentence_and_its_traceback_is_kept(directory: Path) -> None:
    with sqlite3.connect(directory / "pesisir.db") as database:
        database.execute("UPDATE profile SET limits = '{\"no_such_limit\": 1}'")
    database.close()
    message = pesisir("profile", "list", "--dir", directory).sentence()
    log = directory / "pesisir.crash.log"
    assert str(log) in message
    assert "Traceback" in log.read_text() and stat.S_IMODE(log.stat().st_mode) == 0o600
    shown = process("profile", "list", "--dir", directory, PESISIR_DEBUG="1")
    assert shown.status == 1 and "Traceback" in shown.err


# --- site, gateway, profile; alone and beside a running node


@pytest.fixture(params=["alone", "beside a node"])
def place(request: pytest.FixtureRequest) -> Path:
    """A directory whose commands run in their own process, and one whose node runs them."""
    name = "directory" if request.param == "alone" else "live"
    found: Path = request.getfixturevalue(name)
    return found


def test_sites(place: Path) -> None:
    added = pesisir(
        *("site", "add", "tjl", "Tanjung Laut", "--zone", "wit", "--json", "--dir", place)
    ).json
    assert (added["code"], added["zone"]) == ("TJL", "Asia/Jayapura")
    again = pesisir("site", "add", "TJL", "Lagi", "--zone", "WIB", "--dir", place)
    assert "TJL" in again.sentence()
    changed = pesisir(
        *("site", "set", "TJL", "--helper", "Bu Siti, balai desa", "--announcement", "Ronda malam"),
        *("--json", "--dir", place),
    ).json
    assert changed["helper"] == "Bu Siti, balai desa" and changed["name"] == "Tanjung Laut"
    assert changed["announcement"] == "Ronda malam"
    times = ("--power-window", "18.00-23.00", "--opening-hours", "8:00-15:00")
    where = ("--counter", "Kantor Desa", "--wifi-name", "TANJUNG", "--announcement", "")
    changed = pesisir("site", "set", "TJL", *times, *where, "--json", "--dir", place).json
    assert (changed["power_window"], changed["opening_hours"]) == ("18:00-23:00", "08:00-15:00")
    assert (changed["counter"], changed["wifi_name"]) == ("Kantor Desa", "TANJUNG")
    assert changed["announcement"] == ""
    words = pesisir("site", "set", "TJL", "--power-window", "malam", "--dir", place).sentence()
    assert 'power window is "malam"; expected hours such as 18:00-23:00' in words
    listed = pesisir("site", "list", "--json", "--dir", place).json
    assert [site["code"] for site in listed] == ["KMAL", "TJL"]
    assert "Bu Siti" in pesisir("site", "list", "--dir", place).out
    assert "XYZ" in pesisir("site", "set", "XYZ", "--name", "x", "--dir", place).sentence()


def test_gateways(place: Path) -> None:
    added = pesisir(
        *("gateway", "add", "pos-2", "--family", "mikrotik", "--address", "10.7.0.0/24"),
        *("--site", "KMAL", "--nas-id", "balai", "--json", "--dir", place),
    ).json
    assert set(added) >= GATEWAY_KEYS
    assert (added["site"], added["nas_id"], added["address"]) == ("KMAL", "balai", "10.7.0.0/24")
    assert len(added["secret"]) >= 22 and len(added["uam_secret"]) >= 22
    hidden = pesisir("gateway", "show", "pos-2", "--json", "--dir", place).json
    assert set(hidden) >= GATEWAY_KEYS
    assert hidden["secret"] is None and hidden["uam_secret"] is None
    shown = pesisir("gateway", "show", "pos-2", "--secret", "--json", "--dir", place).json
    assert shown["secret"] == added["secret"] and shown["uam_secret"] == added["uam_secret"]
    text = pesisir("gateway", "show", "pos-2", "--dir", place).out
    assert added["secret"] not in text and added["uam_secret"] not in text
    changed = pesisir(
        *("gateway", "set", "pos-2", "--uam-secret", "none", "--nas-id", "none"),
        *("--mac-auth", "no", "--address", "10.7.0.9", "--json", "--dir", place),
    ).json
    assert (changed["nas_id"], changed["address"], changed["mac_auth"]) == (None, "10.7.0.9", False)
    shown = pesisir("gateway", "show", "pos-2", "--secret", "--json", "--dir", place).json
    assert shown["uam_secret"] is None and shown["secret"] == added["secret"]
    listed = pesisir("gateway", "list", "--json", "--dir", place).json
    assert isinstance(listed, list) and {g["name"] for g in listed} >= {"pos-1", "pos-2"}
    assert all(g["secret"] is None for g in listed)
    for words, part in (
        (["pos-2", "--family", "coova", "--address", "10.9.0.1", "--site", "KMAL"], "pos-2"),
        (["pos-3", "--family", "cisco", "--address", "10.9.0.1", "--site", "KMAL"], "cisco"),
        (["pos-3", "--family", "coova", "--address", "10.9.0.300", "--site", "KMAL"], "10.9.0.300"),
        (["pos-3", "--family", "coova", "--address", "10.9.0.1/24", "--site", "KMAL"], "/24"),
        (["pos-3", "--family", "coova", "--address", "10.9.0.1", "--site", "NIX"], "NIX"),
        (["a b", "--family", "coova", "--address", "10.9.0.1", "--site", "KMAL"], "a b"),
    ):
        assert part in pesisir("gateway", "add", *words, "--dir", place).sentence()
    assert pesisir("gateway", "remove", "pos-2", "--dir", place).status == 0
    assert "pos-2" in pesisir("gateway", "show", "pos-2", "--dir", place).sentence()


@pytest.mark.parametrize(
    ("family", "files"),
    [
        (
            "coova",
            ["coova.conf", "coova-dns-watch.sh", "coova-dnsmasq.conf", "coova-ipup.sh"],
        ),
        ("mikrotik", ["mikrotik.rsc", "mikrotik-login.html"]),
        ("generic", ["generic.txt"]),
        ("uspot", ["uspot.sh"]),
    ],
)
def test_gateway_configurations(directory: Path, family: str, files: list[str]) -> None:
    add = ("gateway", "add", "pos-4", "--family", family, "--address", "10.7.0.1")
    added = pesisir(*add, "--json", "--dir", directory).json
    config = ("gateway", "config", "pos-4", "--dir", directory)
    found = pesisir(*config, "--json", "--radius-host", "10.7.0.2").json["files"]
    assert [file["name"] for file in found] == files
    assert added["secret"] in found[0]["text"] and "10.7.0.2" in found[0]["text"]
    text = pesisir(*config, "--portal-url", "http://10.7.0.3:8080").out
    assert "http://10.7.0.3:8080" in text and added["secret"] in text
    target = directory / "out"
    assert pesisir(*config, "--out", target).status == 0
    assert sorted(path.name for path in target.iterdir()) == sorted(files)
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.iterdir()} == {0o600}
    for words, part in (
        (("--guest-net", "10.7.0.5/24"), "10.7.0.5/24"),
        (("--radius-host", "node.example"), "node.example"),
        (("--guest-if", "eth0; reboot"), "eth0; reboot"),
        (("--portal-url", "10.7.0.3"), "10.7.0.3"),
        (("--portal-url", 'http://10.7.0.3/"; reboot'), "reboot"),
        (("--version", "5"), "5"),
    ):
        assert part in pesisir(*config, *words).sentence()


def test_a_guest_network_is_one_gateways_only(directory: Path) -> None:
    def add(name: str, address: str, *more: str) -> dict[str, Any]:
        words = ("--family", "mikrotik", "--address", address, *more)
        added: dict[str, Any] = pesisir(
            "gateway", "add", name, *words, "--json", "--dir", directory
        ).json
        return added

    first, second = add("pos-5", "10.7.5.1"), add("pos-6", "10.7.6.1")
    assert first["guest_net"] != second["guest_net"]
    config = ("gateway", "config", "pos-5", "--dir", directory)
    shown = pesisir(*config, "--guest-net", "10.99.0.0/24", "--version", "6", "--json").json
    assert shown["guest_net"] == "10.99.0.0/24" and "10.99.0.1/24" in shown["files"][0]["text"]
    # It is remembered from then on, and nobody else gets it.
    assert "10.99.0.1/24" in pesisir(*config).out
    taken = ("gateway", "set", "pos-6", "--guest-net", "10.99.0.0/22", "--dir", directory)
    assert "pos-5" in pesisir(*taken).sentence()


def test_open_services_of_a_site(place: Path) -> None:
    words = ("site", "set", "KMAL", "--open-services")
    changed = pesisir(*words, "layanan.desa.id, 10.9.0.5:8443", "--json", "--dir", place).json
    assert changed["open_services"] == "layanan.desa.id 10.9.0.5:8443"
    assert "captive.apple.com" in pesisir(*words, "captive.apple.com", "--dir", place).sentence()
    assert pesisir(*words, "", "--json", "--dir", place).json["open_services"] == ""


def test_profiles(place: Path) -> None:
    made = pesisir(
        *("profile", "set", "warga", "--data-day", "500MB", "--data-session", "100MB"),
        *("--data-week", "2GB", "--data-month", "5GB", "--data-total", "10GB"),
        *("--time-session", "1h", "--time-day", "2h", "--time-week", "10h", "--time-month", "30h"),
        *("--time-total", "100h", "--rate-down", "2M", "--rate-up", "512k", "--valid", "30d"),
        *("--devices", "2", "--idle", "10m", "--interim", "2m", "--hours", "06:00-22:00"),
        *("--when-used-up", "throttle:128k", "--remember-phone", "no", "--json", "--dir", place),
    ).json
    assert made["name"] == "warga"
    assert made["limits"]["data_day_octets"] == 500_000_000
    assert made["limits"]["throttle_kbps"] == 128 and made["limits"]["remember_phone"] is False
    changed = pesisir(
        "profile", "set", "warga", "--data-day", "none", "--devices", "3", "--json", "--dir", place
    ).json
    assert changed["limits"]["data_day_octets"] is None and changed["limits"]["devices"] == 3
    assert changed["limits"]["data_week_octets"] == 2 * 10**9
    assert pesisir("profile", "show", "warga", "--json", "--dir", place).json == changed
    listed = pesisir("profile", "list", "--json", "--dir", place).json
    assert [p["name"] for p in listed] == ["harian", "warga"]
    assert "data-day 500MB" in pesisir("profile", "list", "--dir", place).out
    for words, part in (
        (["--data-day", "500"], None),
        (["--data-day", "-5MB"], "-5MB"),
        (["--rate-down", "fast"], "fast"),
        (["--valid", "30"], "30"),
        (["--devices", "0"], "0"),
        (["--hours", "25:00-26:00"], "25:00"),
        (["--interim", "5s"], "5s"),
        (["--when-used-up", "slow"], "slow"),
        (["--remember-phone", "maybe"], "maybe"),
    ):
        if part is not None:
            words = ["profile", "set", "warga", *words, "--dir", str(place)]
            assert part in pesisir(*words).sentence()
    assert "harian" in pesisir("profile", "remove", "harian", "--dir", place).sentence()
    assert pesisir("profile", "remove", "warga", "--dir", place).status == 0
    assert "warga" in pesisir("profile", "show", "warga", "--dir", place).sentence()


# --- voucher


def test_vouchers(place: Path) -> None:
    issue = ("voucher", "issue", "--profile", "harian", "--site", "KMAL", "--dir", place)
    issued = pesisir(*issue, "--count", "2", "--note", "arisan", "--json").json
    assert set(issued) >= {"batch", "vouchers"} and len(issued["vouchers"]) == 2
    for card in issued["vouchers"]:
        assert set(card) >= {"serial", "code", "url"}
        assert re.fullmatch("[0-9]{12}", card["code"])
        assert card["url"].endswith("/" + card["code"])
        assert card["serial"].startswith(issued["batch"] + "-")
    first, second = issued["vouchers"]
    by_serial = pesisir("voucher", "show", first["serial"], "--json", "--dir", place)
    assert set(by_serial.json) >= VOUCHER_KEYS
    assert by_serial.json["state"] == "unused" and by_serial.json["octets_left"] == 500_000_000
    assert by_serial.json["last4"] == first["code"][-4:]
    assert first["code"] not in by_serial.out
    code = first["code"]
    for words, stdin in (
        ([code], ""),
        ([code[:4], code[4:8], code[8:]], ""),
        ([f"{code[:4]}-{code[4:8]}-{code[8:]}"], ""),
        (["-"], code + "\n"),
    ):
        outcome = pesisir("voucher", "show", *words, "--json", "--dir", place, stdin=stdin)
        assert outcome.json == by_serial.json
    text = pesisir("voucher", "show", code, "--dir", place).out
    assert f"**** **** {code[-4:]}" in text and code not in text
    last_day = pesisir(*issue, "--use-before", "2099-01-31", "--json")
    assert len(last_day.json["vouchers"]) == 1
    for words, status, part in (
        (["--use-before", "soon"], 1, "soon"),
        (["--use-before", "2020-01-01"], 1, "2020-01-01"),
        (["--site", "NIX"], 1, "NIX"),
        (["--profile", "emas"], 1, "emas"),
        (["--count", "0"], 2, "0"),
        (["--count", "10001"], 2, "10001"),
    ):
        assert part in pesisir(*issue, *words).sentence(status)
    revoked = pesisir(
        "voucher", "revoke", second["serial"], "--reason", "hilang", "--json", "--dir", place
    ).json
    assert [entry["state"] for entry in revoked] == ["revoked"]
    again = pesisir("voucher", "revoke", second["code"], "--reason", "x", "--dir", place)
    assert second["serial"] in again.sentence() and second["code"] not in again.err
    replaced = pesisir(
        "voucher", "replace", first["code"], "--reason", "basah", "--json", "--dir", place
    ).json
    (new,) = replaced["vouchers"]
    assert set(new) >= {"serial", "code", "url"} and new["code"] != first["code"]
    old = pesisir("voucher", "show", first["serial"], "--json", "--dir", place).json
    assert old["state"] == "replaced"
    listed = pesisir("voucher", "list", "--batch", issued["batch"], "--json", "--dir", place).json
    assert {v["serial"]: v["state"] for v in listed} == {
        first["serial"]: "replaced",
        second["serial"]: "revoked",
    }
    table = pesisir("voucher", "list", "--dir", place).out
    assert first["serial"] in table and first["code"] not in table


def test_an_unknown_code_is_never_repeated(place: Path) -> None:
    for code in ("123456789012", "1234 5678 9012", "4829 1730 5515"):
        for words in (["show"], ["revoke", "--reason", "x"], ["replace", "--reason", "x"]):
            outcome = pesisir("voucher", *words, code, "--dir", place)
            message = outcome.sentence()
            assert code not in message and code.replace(" ", "") not in message
    if (place / "node.log").exists():
        assert "123456789012" not in (place / "node.log").read_text()


def test_two_cards_cannot_be_shown_at_once(directory: Path) -> None:
    assert "2 cards" in pesisir(
        "voucher", "show", "A001-01", "A001-02", "--dir", directory
    ).sentence(2)


def test_ten_thousand_cards_in_one_batch(directory: Path) -> None:
    words = ("voucher", "issue", "--profile", "harian", "--count", "10000", "--json")
    issued = pesisir(*words, "--dir", directory).json
    assert len({card["code"] for card in issued["vouchers"]}) == 10_000


# --- session, through a running node


def test_sessions(running: RunningNode, live: Path) -> None:
    (card,) = pesisir(
        "voucher", "issue", "--profile", "harian", "--site", "KMAL", "--json", "--dir", live
    ).json["vouchers"]
    gateway = Gateway(running, "rahasia-pos-1")
    try:
        accepted = gateway.log_in(card["code"])
        assert accepted is not None
        gateway.report(START, "s-1", accepted, up=0, down=0, time_s=0)
        gateway.report(INTERIM, "s-1", accepted, up=1_000_000, down=9_000_000, time_s=60)
        sessions = ("session", "list", "--serial", card["serial"], "--dir", live)
        (found,) = pesisir(*sessions, "--open", "--json").json
        assert set(found) >= SESSION_KEYS
        assert found["gateway"] == "pos-1" and found["acct_session_id"] == "s-1"
        assert found["calling_station_id"] == "025a00112233" and found["framed_ip"] == "10.1.0.7"
        assert found["input_octets"] + found["output_octets"] == 10_000_000
        assert found["session_time_s"] == 60 and found["ended_at"] is None
        shown = pesisir("voucher", "show", card["serial"], "--json", "--dir", live).json
        assert shown["octets_used"] == 10_000_000 and shown["octets_left"] == 490_000_000
        assert shown["state"] == "active" and shown["open_sessions"] == 1
        assert "02:5a:00:11:22:33" in pesisir("session", "list", "--dir", live).out
        for since, count in (("1h", 1), ("2020-01-01", 1), ("2099-01-01 08:00", 0)):
            assert len(pesisir(*sessions, "--since", since, "--json").json) == count
        assert pesisir(*sessions, "--gateway", "pos-1", "--limit", "1", "--json").json == [found]
        assert "yesterday" in pesisir(*sessions, "--since", "yesterday").sentence()
        assert "nix" in pesisir(*sessions, "--gateway", "nix").sentence()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(process, "session", "disconnect", str(found["id"]), "--dir", live)
            gateway.acknowledge_disconnect()
            assert (asked.result().status, asked.result().out) == (0, "ack\n")
        gateway.report(STOP, "s-1", accepted, up=1_000_000, down=9_000_000, time_s=90)
        assert pesisir(*sessions, "--open", "--json").json == []
        (ended,) = pesisir(*sessions, "--json").json
        assert ended["ended_at"] is not None
        over = pesisir("session", "disconnect", str(found["id"]), "--dir", live)
        assert "has ended" in over.sentence()
        assert "77" in pesisir("session", "disconnect", "77", "--dir", live).sentence()
    finally:
        gateway.close()


def test_without_a_node_nobody_can_be_disconnected(directory: Path) -> None:
    message = pesisir("session", "disconnect", "1", "--dir", directory).sentence()
    assert "No node is running" in message


def test_a_gateway_added_beside_a_running_node_is_heard_at_once(tmp_path: Path) -> None:
    place = make(tmp_path / "node")
    pesisir("profile", "set", "harian", "--data-day", "500MB", "--dir", place)
    (card,) = pesisir("voucher", "issue", "--profile", "harian", "--json", "--dir", place).json[
        "vouchers"
    ]
    with RunningNode(place) as node:
        added = pesisir(
            *("gateway", "add", "pos-9", "--family", "coova", "--address", "127.0.0.1"),
            *("--json", "--dir", place),
        ).json
        gateway = Gateway(node, added["secret"])
        try:
            assert gateway.log_in(card["code"]) is not None
            pesisir("voucher", "revoke", card["serial"], "--reason", "x", "--dir", place)
            assert gateway.log_in(card["code"]) is None
        finally:
            gateway.close()
        (heard,) = pesisir("gateway", "list", "--json", "--dir", place).json
        assert heard["last_heard_at"] is not None


# --- the node and its directory


def test_a_second_node_is_refused_and_the_first_lives(running: RunningNode, live: Path) -> None:
    message = pesisir("node", "--dir", live).sentence()
    assert f"(pid {running.process.pid})" in message and "already running" in message
    assert running.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_stops_in_good_order(directory: Path, number: signal.Signals) -> None:
    assert RunningNode(directory).stop(number) == 0
    assert not (directory / "pesisir.sock").exists()
    for line in (directory / "node.log").read_text().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line), line


def test_a_killed_node_starts_again(directory: Path) -> None:
    RunningNode(directory).stop(signal.SIGKILL)
    assert pesisir("site", "list", "--dir", directory).status == 0
    with RunningNode(directory):
        assert pesisir("site", "list", "--dir", directory).status == 0


def test_a_port_in_use_is_one_sentence(running: RunningNode, directory: Path) -> None:
    for name, section in (("http", "http"), ("auth", "radius")):
        host, port = running.address(name)
        key = "listen" if section == "http" else "auth"
        more = {f"PESISIR_{section.upper()}_{key.upper()}": f"{host}:{port}"}
        message = pesisir("node", "--dir", directory, **more)
        assert message.status == 1 and message.out == ""
        sentences = [line for line in message.err.splitlines() if not line.startswith("20")]
        assert len(sentences) == 1 and f"{host}:{port}" in sentences[0]
        checked = pesisir("check", "--dir", directory, **more)
        assert checked.status == 1 and f"{host}:{port} is in use" in checked.out


def test_commands_at_once_all_succeed(place: Path) -> None:
    def issue(_: int) -> dict[str, Any]:
        words = ("voucher", "issue", "--profile", "harian", "--site", "KMAL", "--count", "200")
        found: dict[str, Any] = process(*words, "--json", "--dir", place).json
        return found

    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(issue, range(4)))
    assert len({batch["batch"] for batch in batches}) == 4
    for batch in batches:
        words = ("voucher", "list", "--batch", batch["batch"], "--json", "--dir", place)
        assert len(pesisir(*words).json) == 200


def test_commands_while_a_node_starts_and_stops_are_neither_lost_nor_doubled(
    directory: Path,
) -> None:
    def issue(_: int) -> int:
        words = ("voucher", "issue", "--profile", "harian", "--json", "--dir", directory)
        return len(process(*words).json["vouchers"])

    with ThreadPoolExecutor(2) as pool:
        issued = pool.map(issue, range(8))
        for _ in range(2):
            with RunningNode(directory):
                time.sleep(0.3)
        assert sum(issued) == 8
    assert len(pesisir("voucher", "list", "--json", "--dir", directory).json) == 3 + 8


def test_check(running: RunningNode, live: Path, directory: Path) -> None:
    found = pesisir("check", "--json", "--dir", live).json
    assert found["ok"] is True
    status = {entry["name"]: entry["status"] for entry in found["checks"]}
    assert {"settings", "database", "http.listen", "radius.auth", "radius.acct"} <= set(status)
    assert "gateway pos-1" in status and status["database"] == "ok"
    assert status["backhaul"] == "warning"
    origins = {entry["name"]: entry["origin"] for entry in found["settings"]}
    assert origins["http.listen"] == "pesisir.toml" and origins["hub.url"] == "default"
    assert pesisir("check", "--dir", directory).status == 0
    secret = "postgresql://u:hunter2@db/x"
    shown = pesisir("check", "--dir", directory, PESISIR_DATABASE_URL=secret)
    assert shown.status == 1 and "hunter2" not in shown.out + shown.err
    missing = pesisir("check", "--json", "--dir", directory / "nowhere")
    assert missing.status == 1 and json.loads(missing.out)["ok"] is False


def test_check_changes_nothing(directory: Path) -> None:
    before = {p.name: p.read_bytes() for p in directory.iterdir()}
    pesisir("check", "--dir", directory)
    after = {p.name: p.read_bytes() for p in directory.iterdir()}
    # SQLite's own two files beside a database that was read.
    assert set(after) - set(before) <= {"pesisir.db-wal", "pesisir.db-shm"}
    assert {name: after[name] for name in before} == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_root_leaves_nothing_the_service_cannot_open(directory: Path) -> None:
    for path in (directory, *directory.iterdir()):
        os.chown(path, 12345, 12345)
    for words in (["check"], ["site", "list"], ["backup", directory.parent / "b"]):
        assert pesisir(*words, "--dir", directory).status == 0
        assert {path.stat().st_uid for path in directory.iterdir()} == {12345}


# --- backup and restore


def test_a_backup_brings_a_dead_box_back(running: RunningNode, live: Path, tmp_path: Path) -> None:
    card = cards(live)[0]
    file = tmp_path / "node.backup"
    made = pesisir("backup", file, "--json", "--dir", live).json
    assert made["file"] == str(file) and made["octets"] == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not list(live.glob("pesisir.backup-*")) and not list(live.glob("pesisir.scratch-*"))
    new = tmp_path / "new"
    outcome = pesisir("restore", file, "--json", "--dir", new).json
    assert outcome["backup_at"] == made["made_at"] and outcome["lost"] is None
    assert outcome["settings_restored"] is True and outcome["kept"] == []
    shown = pesisir("voucher", "show", card["code"], "--json", "--dir", new).json
    assert shown["serial"] == card["serial"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in new.iterdir()} == {0o600}
    with RunningNode(new):
        assert pesisir("voucher", "show", card["code"], "--dir", new).status == 0


def test_a_restore_names_what_is_lost_and_keeps_what_was(directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "node.backup"
    made_at = pesisir("backup", file, "--json", "--dir", directory).json["made_at"]
    while time.time() < made_at + 1:
        time.sleep(0.05)
    issue = ("voucher", "issue", "--profile", "harian", "--count", "2", "--json")
    since = pesisir(*issue, "--dir", directory).json
    pesisir("voucher", "revoke", "A001-02", "--reason", "x", "--dir", directory)
    toml = (directory / "pesisir.toml").read_bytes()
    outcome = pesisir("restore", file, "--json", "--dir", directory).json
    assert outcome["lost"] == {
        "vouchers": 2,
        "batches": [since["batch"]],
        "working_again": ["A001-02"],
        "sessions": 0,
        "octets": 0,
    }
    assert (directory / "pesisir.toml").read_bytes() == toml
    kept = [Path(name) for name in outcome["kept"]]
    assert all(path.exists() for path in kept)
    (old,) = [path for path in kept if path.name.startswith("pesisir.db.before-")]
    with sqlite3.connect(old) as database:
        assert database.execute("SELECT COUNT(*) FROM voucher").fetchone() == (5,)
    database.close()
    listed = pesisir("voucher", "list", "--json", "--dir", directory).json
    assert len(listed) == 3
    # A serial that is on paper is not given to another card.
    assert pesisir(*issue, "--dir", directory).json["batch"] > since["batch"]
    text = pesisir("restore", file, "--dir", directory).out
    assert "The backup is from" in text and "kept" in text


def test_a_restore_is_refused_while_a_node_runs(running: RunningNode, live: Path) -> None:
    file = live / "b.backup"
    pesisir("backup", file, "--dir", live)
    message = pesisir("restore", file, "--dir", live).sentence()
    assert "already running" in message and str(running.process.pid) in message
    assert pesisir("voucher", "list", "--dir", live).status == 0
    file.unlink()


def test_a_backup_is_not_overwritten_unasked(directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "node.backup"
    file.write_text("mine")
    assert "exists already" in pesisir("backup", file, "--dir", directory).sentence()
    assert file.read_text() == "mine"
    assert pesisir("backup", file, "--force", "--dir", directory).status == 0
    for target in (tmp_path, tmp_path / "no" / "where"):
        assert (
            str(target.parent if target.name == "where" else target)
            in pesisir("backup", target, "--dir", directory).sentence()
        )


@pytest.mark.parametrize("damage", ["cut", "changed", "other", "empty", "missing"])
def test_a_damaged_backup_touches_nothing(directory: Path, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "node.backup"
    assert pesisir("backup", file, "--dir", directory).status == 0
    octets = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(octets[: len(octets) // 2])
    elif damage == "changed":
        octets[5000] ^= 1
        file.write_bytes(octets)
    elif damage == "other":
        file.write_bytes(os.urandom(5000))
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert str(file) in pesisir("restore", file, "--dir", directory).sentence()
    after = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert after == before


# --- people at a terminal


def at_terminal(words: list[str], answers: bytes) -> tuple[int, str]:
    """Run the command on a terminal, type the answers; its status and what the screen showed."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *words], stdin=terminal, stdout=terminal, stderr=terminal, env=environment()
    )
    os.close(terminal)
    os.write(controller, answers)
    screen = b""
    while select.select([controller], [], [], 20)[0]:
        try:
            octets = os.read(controller, 4096)
        except OSError:
            break
        if not octets:
            break
        screen += octets
    os.close(controller)
    return process.wait(20), screen.decode()


def test_init_at_a_terminal_asks_for_the_site(tmp_path: Path) -> None:
    status, screen = at_terminal(
        ["init", "--dir", str(tmp_path / "n")], b"kmal\nBalai Desa\nWITA\n"
    )
    assert status == 0 and "Time zone" in screen
    (site,) = pesisir("site", "list", "--json", "--dir", tmp_path / "n").json
    assert (site["code"], site["name"], site["zone"]) == ("KMAL", "Balai Desa", "Asia/Makassar")


def test_the_end_of_input_at_a_question_leaves_nothing(tmp_path: Path) -> None:
    status, screen = at_terminal(["init", "--dir", str(tmp_path / "n")], b"\x04")
    assert status == 130 and "Stopped." in screen and "Traceback" not in screen
    assert not (tmp_path / "n").exists()


def test_output_into_a_closed_pipe_is_no_error(directory: Path) -> None:
    program = " ".join(PROGRAM)
    done = subprocess.run(
        ["bash", "-c", f"{program} voucher list --dir {directory} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.stderr == "" and done.stdout in ("0\n", "1\n")
