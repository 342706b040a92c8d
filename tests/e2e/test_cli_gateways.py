"""Gateways at the command line: swapped counters, and cards a gateway cannot count, and
configurations as they are printed."""

from pathlib import Path

import pytest

from tests.e2e.command import pesisir
from tests.unit import router_grammar


@pytest.fixture
def place(tmp_path: Path) -> Path:
    pesisir("init", "--site", "TJL", "--zone", "WITA", "--dir", tmp_path)
    return tmp_path


def test_swapped_octets_are_a_setting(place: Path) -> None:
    add = ("gateway", "add", "pos-1", "--family", "mikrotik", "--address", "10.1.0.1")
    assert pesisir(*add, "--json", "--dir", place).json["swap_octets"] == "auto"
    changed = pesisir("gateway", "set", "pos-1", "--swap-octets", "yes", "--dir", place)
    assert "Swap octets:    yes" in changed.out
    assert (
        pesisir("gateway", "show", "pos-1", "--json", "--dir", place).json["swap_octets"] == "yes"
    )
    wrong = pesisir("gateway", "set", "pos-1", "--swap-octets", "maybe", "--dir", place)
    assert "maybe" in wrong.err


def test_who_sets_up_a_gateway_that_counts_no_data_is_told(place: Path) -> None:
    pesisir("profile", "set", "harian", "--data-day", "500MB", "--dir", place)
    add = ("gateway", "add", "ap", "--family", "uspot", "--address", "10.1.0.1")
    said = pesisir(*add, "--dir", place).out
    sentence = "Cards with a data quota will be refused at gateway 'ap'"
    assert sentence in said and said.rstrip().endswith("not of harian.")
    found = pesisir("gateway", "set", "ap", "--mac-auth", "no", "--json", "--dir", place).json
    assert len(found["advice"]) == 1 and found["advice"][0].startswith(sentence)
    said = pesisir("profile", "set", "bulan", "--data-month", "5GB", "--dir", place).out
    assert "Cards of profile 'bulan' will be refused at ap" in said
    said = pesisir("profile", "set", "jam", "--time-total", "2h", "--dir", place).out
    assert "refused" not in said
    issue = ("voucher", "issue", "--profile")
    refused = pesisir(*issue, "harian", "--dir", place)
    assert refused.sentence() == (
        "Cards of profile harian have a data quota, but the gateway of TJL counts no data; choose a"
        " profile with a time quota."
    )
    assert pesisir(*issue, "jam", "--json", "--dir", place).json["vouchers"]


def test_what_config_prints_can_be_loaded_as_it_is(place: Path) -> None:
    """`gateway config NAME > /etc/chilli.conf` works; the rest are comments."""
    add = ("gateway", "add", "pos-1", "--family", "coova", "--address", "10.1.0.1")
    secret = pesisir(*add, "--json", "--dir", place).json["secret"]
    config = ("gateway", "config", "pos-1", "--radius-host", "10.1.0.2", "--dir", place)
    printed = pesisir(*config).out
    assert router_grammar.chilli(printed)["radiussecret"] == [secret]
    files = {one["name"]: one["text"] for one in pesisir(*config, "--json").json["files"]}
    main, *others = files
    assert printed.startswith(files[main]) and len(others) == 3
    for name in others:
        assert f"\n#| {name} (" in printed
        assert pesisir(*config, "--file", name).out == files[name]
    found = [line.removeprefix("#| ") for line in printed.splitlines() if line.startswith("#| ")]
    assert "ipt -I INPUT -i" in "\n".join(found)
    assert pesisir(*config, "--file", "chilli.conf").sentence() == (
        f"The configuration of pos-1 has no file chilli.conf, only {', '.join(files)}."
    )
