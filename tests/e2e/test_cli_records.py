"""The command `pesisir` on sites, gateways, profiles, cards and sessions, also beside a node."""

import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli_node import make
from tests.e2e.command import (
    INTERIM,
    START,
    STOP,
    Gateway,
    RunningNode,
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


# --- site, gateway, profile; alone and beside a running node


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
