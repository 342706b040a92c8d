"""The command `pesisir`, run as people run it: what it prints, refuses and leaves behind."""

import json
import os
import pty
import re
import select
import signal
import sqlite3
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli_node import cards
from tests.e2e.command import (
    PROGRAM,
    RunningNode,
    environment,
    pesisir,
    process,
)

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
