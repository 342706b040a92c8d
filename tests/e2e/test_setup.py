"""`pesisir setup`: on a pty as a person uses it, and from a file of answers; up to a real RADIUS
login of the first phone."""

import re
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from portal.cli import setup as cli_setup
from tests.e2e.command import START, Gateway, RunningNode, pesisir, process
from tests.e2e.pseudo_terminal import Terminal, run_all

PORTS: Any = {
    "PESISIR_HTTP_LISTEN": "127.0.0.1:0",
    "PESISIR_HTTP_OPERATOR_LISTEN": "127.0.0.1:0",
    "PESISIR_RADIUS_AUTH": "127.0.0.1:0",
    "PESISIR_RADIUS_ACCT": "127.0.0.1:0",
}
ANSWERS = """
site = "MALAHING"
site_name = "Desa Malahing"
zone = "WITA"
url = "http://10.1.0.2"
gateway = "balai"
family = "coova"
address = "127.0.0.1"
"""


class Started:
    """Stands for a RunningNode: where the node of a setup listens, out of its ready line."""

    def __init__(self, ready: str) -> None:
        self.ready = ready

    address: Any = RunningNode.address


def secret_of(directory: Path, name: str) -> str:
    shown = pesisir("--dir", directory, "gateway", "show", name, "--secret", "--json").json
    return str(shown["secret"])


def phone_comes(ready: str, secret: str, code: str) -> Gateway:
    """A phone logs in with the test card, and its session is reported."""
    gateway = Gateway(Started(ready), secret)  # type: ignore[arg-type]  # has what it asks for
    class_value = gateway.log_in(code)
    assert class_value is not None
    gateway.report(START, "5e55", class_value, up=0, down=0, time_s=0)
    return gateway


def test_a_person_is_led_from_nothing_to_the_first_phone_online(tmp_path: Path) -> None:
    directory = tmp_path / "node"
    with Terminal("--dir", directory, "setup", **PORTS) as terminal:
        terminal.answer("Name of the village, as residents see it", "Desa Malahing")
        # What is offered is taken by Enter alone, what is wrong is asked again.
        terminal.answer("A short code for it (letters, digits) [MALAHING]", "")
        run_all(
            terminal,
            [
                ("Its time zone: WIB, WITA or WIT", "Mars"),
                ("The zone is 'Mars'", "wita"),
                ("Whom residents ask for help", "Ibu Sari, kantor desa"),
                ("Where does this box stand?", "1"),
                ("Address of this box as phones reach it", "https://x"),
                ("A name with a certificate comes later", "http://10.1.0.2"),
                ("What tells whether the internet works", "none"),
            ],
        )
        terminal.expect("name admin   password ")
        run_all(
            terminal,
            [
                ("A name for it [pos-1]", "balai"),
                ("Which router is it?", "9"),
                ("expected a number from 1 to", "coova"),
                ("Network of the phones", "10.20.0.0/22"),
                ("Address its RADIUS packets come from", "di sana"),
                ("The gateway address is 'di sana'", "127.0.0.1"),
                ("Version of its system", ""),
                ("Its interface to the phones", "eth1; reboot"),
                ("expected the name of an interface", "eth1"),
                ("Its interface to the internet", ""),
                ("A name for these limits [harian]", ""),
                ("Data a day", "banyak"),
                ("banyak", "300MB"),
                ("Time a day", ""),
                ("Speed towards the phone", ""),
                ("Life of a card", ""),
                ("How many cards to print first", "4"),
            ],
        )
        terminal.expect("For your own test, good for 20MB and 15m:")
        terminal.expect("(card A002-01)")
        found = re.search(r"Type the test card's code there: ([0-9 ]{14})", terminal.text)
        if found is None:
            terminal.expect("Type the test card's code there: ")
            terminal.expect("\n")
            found = re.search(r"Type the test card's code there: ([0-9 ]{14})", terminal.text)
        assert found is not None
        terminal.answer("Start the node if it does not run, and watch?", "")
        terminal.expect("The node runs for this setup: ready ")
        terminal.expect("Waits for the first login.")
        ready = re.search(r"for this setup: (ready .*)\n", terminal.text)
        assert ready is not None
        code = found[1].replace(" ", "")
        gateway = phone_comes(ready[1].replace("\n", ""), secret_of(directory, "balai"), code)
        terminal.expect("The first phone is online.")
        terminal.expect("pesisir gateway doctor balai")
        assert terminal.end() == 0
        gateway.close()
    shown = pesisir("--dir", directory, "site", "list", "--json").json[0]
    assert (shown["code"], shown["zone"]) == ("MALAHING", "Asia/Makassar")
    assert shown["helper"] == "Ibu Sari, kantor desa"
    profile = pesisir("--dir", directory, "profile", "show", "harian", "--json").json
    assert profile["settings"]["data_day"] == "300MB"
    sheet = directory / "setup" / "cards-harian-1.pdf"
    assert sheet.read_bytes().startswith(b"%PDF")
    config = directory / "setup" / "balai" / "coova.conf"
    assert "10.20.0.0" in config.read_text() and "eth1" in config.read_text()
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert 'url = "http://10.1.0.2"' in (directory / "pesisir.toml").read_text()


def test_answers_of_a_file_do_the_same_beside_a_running_node(tmp_path: Path) -> None:
    directory, answers = tmp_path / "node", tmp_path / "answers.toml"
    answers.write_text(ANSWERS + 'cards = 0\nstart = "no"\n')
    done = pesisir("--dir", directory, "setup", "--answers", answers, **PORTS)
    assert done.status == 0, done.err
    assert "What to put on the router" in done.out and "balai" in done.out
    assert not list((directory / "setup").glob("*.pdf"))

    # Again, while the node runs: what is there stays, and the first phone is waited for.
    answers.write_text('gateway = "balai"\ncards = 0\nwatch = "30s"\n')
    with RunningNode(directory, **PORTS) as node:
        issue = ("voucher", "issue", "--profile", "harian", "--json")
        card = pesisir("--dir", directory, *issue).json["vouchers"][0]
        secret = secret_of(directory, "balai")
        outcome: list[Any] = []

        def set_up() -> None:
            outcome.append(process("--dir", directory, "setup", "--answers", answers, **PORTS))

        waiting = threading.Thread(target=set_up)
        waiting.start()
        gateway = phone_comes(node.ready, secret, card["code"])
        waiting.join(60)
        gateway.close()
    assert outcome[0].status == 0, outcome[0]
    assert "The node is running." in outcome[0].out
    assert "The first phone is online." in outcome[0].out


def test_a_time_only_make_gets_time_limits(tmp_path: Path) -> None:
    directory, answers = tmp_path / "node", tmp_path / "answers.toml"
    answers.write_text(ANSWERS.replace('"coova"', '"uspot"') + 'cards = 2\nstart = "no"\n')
    done = pesisir("--dir", directory, "setup", "--answers", answers, **PORTS)
    assert done.status == 0, done.err
    settings = pesisir("--dir", directory, "profile", "show", "harian", "--json").json["settings"]
    assert settings["time_day"] == "3h" and settings.get("data_day") in (None, "none")
    test = pesisir("--dir", directory, "profile", "show", "uji", "--json").json["settings"]
    assert test.get("data_total") in (None, "none") and test["time_total"] == "15m"


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    directory, answers = tmp_path / "node", tmp_path / "answers.toml"
    answers.write_text(ANSWERS + 'cards = 0\nwatch = "5s"\n')
    bad = {**PORTS, "PESISIR_RADIUS_AUTH": "192.0.2.77:1812"}
    done = pesisir("--dir", directory, "setup", "--answers", answers, **bad)
    assert done.status == 1
    assert "The node does not start" in done.err and "192.0.2.77" in done.err


def test_nobody_at_the_first_phone_is_an_exit_status_and_a_word(tmp_path: Path) -> None:
    directory, answers = tmp_path / "node", tmp_path / "answers.toml"
    answers.write_text(ANSWERS + 'cards = 0\nwatch = "1s"\n')
    done = pesisir("--dir", directory, "setup", "--answers", answers, **PORTS)
    assert done.status == 1
    assert "No phone is online yet." in done.out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("site = ", "are no TOML"),
        ('sites = "X"', 'have "sites"; expected some of site, site_name'),
        ("site = [1]", 'The answer "site"'),
        (ANSWERS.replace("127.0.0.1", "di sana"), "The gateway address is 'di sana'"),
        (ANSWERS.replace('"coova"', '"teh"'), '"teh" is none of them'),
    ],
)
def test_bad_answers_are_named(tmp_path: Path, text: str, words: str) -> None:
    answers = tmp_path / "answers.toml"
    answers.write_text(text)
    done = pesisir("--dir", tmp_path / "node", "setup", "--answers", answers, **PORTS)
    assert done.status == 1 and words in done.err, done.err


def test_without_a_terminal_it_wants_answers(tmp_path: Path) -> None:
    said = pesisir("--dir", tmp_path / "node", "setup").sentence()
    assert said == (
        "Setup asks questions; run it on a terminal, or give their answers with --answers FILE."
    )
    assert not (tmp_path / "node").exists()


def test_ctrl_c_at_a_question_leaves_nothing_half_made(tmp_path: Path) -> None:
    with Terminal("--dir", tmp_path / "node", "setup", **PORTS) as terminal:
        terminal.expect("Name of the village, as residents see it [Desa]: ")
        terminal.interrupt()
        assert terminal.end() == 130
    assert not (tmp_path / "node" / "pesisir.db").exists()


def test_every_answer_is_documented() -> None:
    docs = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
    text = docs.read_text("utf-8")
    assert [key for key in cli_setup.ANSWERS if f"`{key}`" not in text] == []
