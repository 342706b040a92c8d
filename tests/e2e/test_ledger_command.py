"""`pesisir ledger` on a real directory: written out while the node runs, verified by the command
and by the auditors' own program, and tampered with by hand behind the program's back."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import node_process
from tests.e2e.command import START, STOP, Gateway, RunningNode, pesisir
from tests.e2e.node_process import SECRET, run

PROGRAM = Path(__file__).resolve().parents[2] / "docs" / "verify-ledger.py"


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which three sessions were had, and a ledger file of it made meanwhile."""
    directory = node_process.make(tmp_path_factory.mktemp("village"), harian={"data-day": "500MB"})
    cards = node_process.issue(directory, "harian", 3)
    with RunningNode(directory) as node:
        for n, (_, code) in enumerate(cards):
            gateway = Gateway(node, SECRET, mac=f"02-5A-00-00-00-0{n}")
            class_value = gateway.log_in(code)
            assert class_value is not None
            gateway.report(START, f"s{n}", class_value, up=0, down=0, time_s=0)
            gateway.report(STOP, f"s{n}", class_value, up=1_000, down=20_000, time_s=60)
            gateway.close()
        run(directory, "ledger", "export", str(directory / "while-running.ledger"))
    run(directory, "ledger", "export", str(directory / "later.ledger"))
    return directory


@pytest.fixture
def keys(village: Path) -> Path:
    lines = run(village, "ledger", "status")["keys"]
    file = village / "keys"
    file.write_text("# of the village\n" + "".join(f"{line}\n" for line in lines))
    return file


def verified(file: Path, *more: str | Path) -> Any:
    outcome = pesisir("ledger", "verify", file, "--json", *more)
    return json.loads(outcome.out)


def program(file: Path, keys: Path) -> subprocess.CompletedProcess[str]:
    lines = [line for line in keys.read_text().splitlines() if not line.startswith("#")]
    plain = keys.with_suffix(".plain")
    plain.write_text("\n".join(lines))
    command = [sys.executable, "-I", str(PROGRAM), str(file), str(plain)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["while-running.ledger", "later.ledger"])
def test_what_a_node_wrote_out_is_good(village: Path, keys: Path, name: str) -> None:
    found = verified(village / name, "--key", keys)
    assert found["is_good"] and found["problem"] is None
    assert found["node"] == run(village, "ledger", "status")["node"]
    (site,) = [one for one in found["sites"] if one["sessions"]]
    assert site["code"] == "TJL"
    assert (site["sessions"], site["input_octets"], site["output_octets"]) == (3, 3_000, 60_000)
    assert found["personal"]["opened"] == 0
    assert found["personal"]["closed"] >= 3
    assert program(village / name, keys).returncode == 0


def test_status_and_verify_say_it_in_words(village: Path, keys: Path) -> None:
    status = pesisir("--dir", village, "ledger", "status").out
    assert "nothing yet" in status and "pesisir/node/" in status
    said = pesisir("ledger", "verify", village / "later.ledger").out
    assert "none cosigned by a hub" in said
    assert "Site TJL: 3 sessions" in said
    assert "the file itself" in said
    assert said.splitlines()[-1].startswith("GOOD: ")
    assert (
        "with the keys given"
        in pesisir("ledger", "verify", village / "later.ledger", "--key", keys).out
    )


def test_a_file_holds_nothing_personal_unless_it_is_asked_for(village: Path, keys: Path) -> None:
    assert "025a0000000" not in (village / "later.ledger").read_text()
    file = village / "personal.ledger"
    run(village, "ledger", "export", str(file), "--personal", "--force")
    assert "025a00000001" in file.read_text()
    found = verified(file, "--key", keys)
    assert found["is_good"] and found["personal"]["opened"] >= 3
    assert program(file, keys).returncode == 0
    # Who looks is seen: the deed is in the audit, and in the ledger itself.
    actions = [json.loads(line).get("personal", "") for line in file.read_text().splitlines()[:-1]]
    assert any('"by":"command line"' in personal for personal in actions)
    database = sqlite3.connect(village / "pesisir.db")
    try:
        rows = database.execute("SELECT operator FROM audit WHERE action = 'ledger.export'")
        assert rows.fetchone() == ("command line",)
    finally:
        database.close()


def test_a_file_that_is_there_is_not_overwritten(village: Path) -> None:
    refused = pesisir("--dir", village, "ledger", "export", village / "later.ledger")
    assert "exists already; expected a new name, or --force" in refused.sentence()


def test_wrong_files_and_keys_get_a_sentence(village: Path, tmp_path: Path) -> None:
    file = village / "later.ledger"
    assert "cannot be read" in pesisir("ledger", "verify", tmp_path / "none").sentence()
    keys = tmp_path / "keys"
    for text, complaint in (("", "has no key"), ("abc\n", "expected name+key id+base64")):
        keys.write_text(text)
        assert complaint in pesisir("ledger", "verify", file, "--key", keys).sentence()
    outcome = pesisir("ledger", "verify", keys)
    assert (outcome.status, "WRONG: line 1" in outcome.err) == (1, True)


@pytest.fixture
def tampered(village: Path, tmp_path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """A copy of the directory, and its database without the triggers that forbid changes."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in village.glob("pesisir.*"):
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    database = sqlite3.connect(copy / "pesisir.db")
    names = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for (name,) in names:
        if name.startswith("ledger_"):
            database.execute(f"DROP TRIGGER {name}")
    yield copy, database
    database.close()


def first_session(database: sqlite3.Connection) -> int:
    (seq,) = database.execute("SELECT min(seq) FROM ledger WHERE kind = 1").fetchone()
    return int(seq)


def wrong(copy: Path, keys: Path) -> str:
    """What both verifiers name as the first wrong place of a new export of the copy."""
    file = copy / "tampered.ledger"
    run(copy, "ledger", "export", str(file))
    found = verified(file, "--key", keys)
    assert not found["is_good"]
    sentence: str = found["problem"]["sentence"]
    place = sentence.partition(": ")[0]
    outcome = pesisir("ledger", "verify", file, "--key", keys)
    assert outcome.status == 1
    assert f"WRONG: {place}: " in outcome.err
    other = program(file, keys)
    assert (other.returncode, f"WRONG: {place}: " in other.stdout) == (1, True), other.stdout
    return place


def test_a_row_changed_by_hand_is_named(
    tampered: tuple[Path, sqlite3.Connection], keys: Path
) -> None:
    copy, database = tampered
    seq = first_session(database)
    (public,) = database.execute("SELECT public FROM ledger WHERE seq = ?", (seq,)).fetchone()
    changed = public[:-2] + bytes([public[-2] ^ 2]) + public[-1:]
    database.execute("UPDATE ledger SET public = ? WHERE seq = ?", (changed, seq))
    database.commit()
    assert wrong(copy, keys) == f"record {seq} of epoch 0"


def test_a_row_that_was_made_text_by_hand_is_named(
    tampered: tuple[Path, sqlite3.Connection], keys: Path
) -> None:
    # What SQL's replace() leaves is text, and no UTF-8.
    copy, database = tampered
    seq = first_session(database)
    database.execute(
        "UPDATE ledger SET public = replace(public, x'01', x'ff') WHERE seq = ?", (seq,)
    )
    database.commit()
    assert wrong(copy, keys) == f"record {seq} of epoch 0"


def test_a_row_deleted_by_hand_is_named(
    tampered: tuple[Path, sqlite3.Connection], keys: Path
) -> None:
    copy, database = tampered
    seq = first_session(database)
    database.execute("DELETE FROM ledger WHERE seq = ?", (seq,))
    database.commit()
    assert wrong(copy, keys) == f"record {seq} of epoch 0"


def test_rows_swapped_by_hand_are_named(
    tampered: tuple[Path, sqlite3.Connection], keys: Path
) -> None:
    copy, database = tampered
    seq = first_session(database)
    for old, new in ((seq, -1), (seq + 1, seq), (-1, seq + 1)):
        database.execute("UPDATE ledger SET seq = ? WHERE seq = ?", (new, old))
    database.commit()
    assert wrong(copy, keys) == f"record {seq} of epoch 0"


def test_a_row_changed_with_its_leaf_does_not_fit_the_tree(
    tampered: tuple[Path, sqlite3.Connection], keys: Path
) -> None:
    """The node signs the tree it has kept, not the one that somebody made of its rows."""
    from portal.domain import ledger

    copy, database = tampered
    seq = first_session(database)
    public, c_loc = database.execute(
        "SELECT public, c_loc FROM ledger WHERE seq = ?", (seq,)
    ).fetchone()
    changed = public[:-2] + bytes([public[-2] ^ 2]) + public[-1:]
    database.execute(
        "UPDATE ledger SET public = ?, leaf = ? WHERE seq = ?",
        (changed, ledger.leaf(changed, c_loc), seq),
    )
    database.commit()
    assert wrong(copy, keys).startswith("one of the records 0 to ")


def test_a_body_taken_out_by_hand_is_named(
    tampered: tuple[Path, sqlite3.Connection], keys: Path
) -> None:
    """What old age takes out is said in the log; this is not."""
    copy, database = tampered
    seq = first_session(database)
    database.execute(
        "UPDATE ledger SET public = NULL, c_loc = NULL, salt = NULL, personal = NULL WHERE seq = ?",
        (seq,),
    )
    database.commit()
    assert wrong(copy, keys) == f"record {seq} of epoch 0"


def test_a_tail_cut_off_with_its_tree_is_named_where_it_was_cosigned(
    tampered: tuple[Path, sqlite3.Connection], keys: Path
) -> None:
    from portal import signing
    from portal.domain import ledger, merkle, note

    copy, database = tampered
    own = signing.SigningKeys.read(copy)
    leaves = [leaf for (leaf,) in database.execute("SELECT leaf FROM ledger ORDER BY seq")]
    head = note.Checkpoint(ledger.origin(own.node_id, 0), len(leaves), merkle.root(leaves))
    text = note.checkpoint_text(head)
    signed = note.format_note(text, (note.sign_note(text, own.key, own.sign),))
    database.execute("INSERT INTO checkpoint VALUES (0, ?, ?, 1)", (len(leaves), signed))
    left = len(leaves) - 2
    frontier = merkle.Frontier()
    frontier.extend(leaves[:left])
    database.execute("DELETE FROM ledger WHERE seq >= ?", (left,))
    database.execute("UPDATE ledger_epoch SET size = ?, frontier = ?", (left, frontier.to_octets()))
    database.commit()
    assert wrong(copy, keys) == f"record {left} of epoch 0"


def test_a_damaged_ledger_is_one_sentence(tampered: tuple[Path, sqlite3.Connection]) -> None:
    copy, database = tampered
    database.execute("DROP TABLE ledger")
    database.commit()
    outcome = pesisir("--dir", copy, "ledger", "export", copy / "damaged.ledger")
    assert outcome.status == 1
    assert "fault of the program" not in outcome.err
    assert outcome.err.count("\n") == 1, outcome.err
