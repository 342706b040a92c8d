"""Enrolment: a box with a token is let in by a person, once; over real TLS."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from portal import enrolment, wire
from portal.domain import enrol_token, ledger, merkle, note
from portal.enrolment import Enrolled, Given
from portal.errors import DeskError, UserError
from portal.signing import SigningKeys
from portal.sync import trust as hub_trust
from portal.sync.client import HubClient
from tests.unit.hub_pages.office import Office

WEEK_S = 7 * 86_400


def box() -> SigningKeys:
    return SigningKeys.make(os.urandom)


def ask(hub: Office, token: str, keys: SigningKeys, **more: Any) -> Enrolled:
    """A box that was given the hub's address and a token."""
    given = enrolment.read_words(hub.tls_url, token)
    return enrolment.enrol(given, keys, program="test", **more)


def approve(hub: Office, *, words: str | None = None, replace: bool = False) -> str:
    """Approve the one box that waits."""
    (one,) = hub.do(hub.hub.office.enrolments.waiting())
    said = " ".join(one.words) if words is None else words
    enrolments = hub.hub.office.enrolments
    return hub.do(enrolments.approve(one.token_id, "ketua", words=said, replace=replace))


def token(hub: Office) -> str:
    return hub.do(hub.hub.office.enrolments.invite("TJL", "ketua")).token


def state(hub: Office, keys: SigningKeys) -> str:
    (row,) = hub.all("SELECT state FROM node WHERE node_id = ?", keys.node_id)
    return str(row["state"])


def test_a_box_waits_until_a_person_has_compared_the_words(hub: Office) -> None:
    keys, given = box(), token(hub)
    first = ask(hub, given, keys)
    assert (first.state, state(hub, keys)) == ("pending", "pending")
    assert approve(hub, words=" ".join(first.words)) == keys.node_id
    assert ask(hub, given, keys).state == "active"
    assert first.site["code"] == "TJL"


def test_other_words_let_nobody_in(hub: Office) -> None:
    keys = box()
    words = list(ask(hub, token(hub), keys).words)
    words[0] = "abad" if words[0] != "abad" else "yakin"
    with pytest.raises(DeskError) as refused:
        approve(hub, words=" ".join(words))
    assert refused.value.key == "enrolment_words"
    assert state(hub, keys) == "pending"


def test_an_answer_that_was_lost_changes_nothing(hub: Office) -> None:
    keys, given = box(), token(hub)
    assert ask(hub, given, keys) == ask(hub, given, keys)
    assert len(hub.do(hub.hub.office.enrolments.waiting())) == 1


def test_a_token_is_for_one_box_and_a_second_raises_an_alarm(hub: Office) -> None:
    first, second, given = box(), box(), token(hub)
    ask(hub, given, first)
    with pytest.raises(UserError, match="another box has used this token"):
        ask(hub, given, second)
    (alarm,) = hub.all("SELECT node_id, kind FROM alarm")
    assert alarm == {"node_id": first.node_id, "kind": "two_boxes"}
    assert not hub.all("SELECT 1 AS one FROM node WHERE node_id = ?", second.node_id)


def test_a_token_is_good_for_a_week(hub: Office) -> None:
    given = token(hub)
    hub.at += WEEK_S
    with pytest.raises(UserError, match="older than a week"):
        ask(hub, given, box())


def test_a_new_token_withdraws_the_one_before(hub: Office) -> None:
    old, new = token(hub), token(hub)
    with pytest.raises(UserError, match="withdrawn"):
        ask(hub, old, box())
    assert ask(hub, new, box()).state == "pending"


def test_a_made_up_token_of_the_right_hub_is_refused(hub: Office) -> None:
    made_up = enrol_token.make(os.urandom, hub.hub.keys.ca_certificate)
    with pytest.raises(UserError, match="does not know the token"):
        ask(hub, made_up.text(), box())


def test_who_guesses_tokens_has_to_wait(own_hub: Office) -> None:
    made_up = enrol_token.make(os.urandom, own_hub.hub.keys.ca_certificate).text()
    said = []
    for _ in range(12):
        with pytest.raises(UserError) as refused:
            ask(own_hub, made_up, box())
        said.append(str(refused.value))
    assert "too many wrong tokens" in said[-1]


def test_a_box_cannot_take_the_name_of_another(hub: Office) -> None:
    victim = box()
    thief = SigningKeys(os.urandom(32), os.urandom(32), victim.node_id)
    with pytest.raises(UserError, match="does not fit its key"):
        ask(hub, token(hub), thief)


def test_the_file_is_as_good_as_address_and_token(hub: Office, tmp_path: Path) -> None:
    made = hub.do(hub.hub.office.enrolments.invite("TJL", "ketua"))
    path = tmp_path / "tjl.enrol"
    path.write_text(hub.hub.office.enrolment_file(made), encoding="utf-8")
    found = enrolment.read_file(path)
    assert found.site == "TJL"
    # The file names the port that the settings say; the test's is another.
    given = Given(hub.tls_url, found.token, found.trust, found.site)
    done = enrolment.enrol(given, box(), program="test")
    assert done.state == "pending"
    enrolment.keep(tmp_path, done)
    assert hub_trust.read(tmp_path) == hub.hub.office.trust


def test_address_and_token_give_the_same_keys_as_the_file(hub: Office) -> None:
    done = ask(hub, token(hub), box())
    wanted = hub.hub.office.trust
    assert (done.trust.authority, done.trust.cosigner, done.trust.documents) == (
        wanted.authority,
        wanted.cosigner,
        wanted.documents,
    )
    assert done.trust.recovery == wanted.recovery


def test_a_hub_that_the_token_does_not_name_gets_nothing(hub: Office) -> None:
    other = enrol_token.make(os.urandom, b"the CA of another hub").text()
    with pytest.raises(UserError, match="not the hub that made the token"):
        ask(hub, other, box())
    assert hub.all("SELECT 1 AS one FROM enrolment WHERE state = 'pending'") == []


# --- the second box of a site


def test_a_replacement_needs_a_yes_and_ends_the_old_box(hub: Office) -> None:
    old, new = box(), box()
    ask(hub, token(hub), old)
    approve(hub)
    ask(hub, token(hub), new)
    assert [one["kind"] for one in hub.all("SELECT kind FROM alarm WHERE ended_at IS NULL")] == [
        "two_boxes"
    ]
    with pytest.raises(DeskError) as refused:
        approve(hub)
    assert refused.value.key == "enrolment_replace"
    approve(hub, replace=True)
    assert (state(hub, old), state(hub, new)) == ("revoked", "active")
    (row,) = hub.all("SELECT replaces FROM node WHERE node_id = ?", new.node_id)
    assert row["replaces"] == old.node_id
    assert hub.all("SELECT 1 AS one FROM alarm WHERE ended_at IS NULL") == []


def test_a_box_with_another_site_keeps_that_when_one_is_taken_over(hub: Office) -> None:
    old, new = box(), box()
    ask(hub, token(hub), old)
    approve(hub)
    ask(hub, hub.add_site("WSI", "Desa Waisai"), old)
    approve(hub)
    ask(hub, token(hub), new)
    approve(hub, replace=True)
    assert state(hub, old) == "active"
    sites = {row["code"]: row["node_id"] for row in hub.all("SELECT code, node_id FROM site")}
    assert sites == {"TJL": new.node_id, "WSI": old.node_id}


def test_a_refused_box_cannot_come_again_with_its_token(hub: Office) -> None:
    keys, given = box(), token(hub)
    ask(hub, given, keys)
    (one,) = hub.do(hub.hub.office.enrolments.waiting())
    hub.do(hub.hub.office.enrolments.refuse(one.token_id, "ketua", "bukan kotak kami"))
    with pytest.raises(UserError, match="withdrawn"):
        ask(hub, given, keys)
    assert state(hub, keys) == "revoked"


def test_a_revoked_box_needs_new_keys(hub: Office) -> None:
    keys = box()
    ask(hub, token(hub), keys)
    approve(hub)
    hub.do(hub.hub.office.enrolments.revoke(keys.node_id, "ketua", "kotak dicuri"))
    with pytest.raises(UserError, match="revoked this box"):
        ask(hub, token(hub), keys)
    last = hub.deeds()[-2:]
    assert any(deed["deed"] == "node.revoke" and deed["reason"] == "kotak dicuri" for deed in last)


# --- new keys


def enrolled(hub: Office, directory: Path) -> tuple[SigningKeys, hub_trust.HubTrust]:
    """A box in a directory, let in."""
    keys = SigningKeys.read_or_make(directory, os.urandom)
    done = ask(hub, token(hub), keys)
    approve(hub)
    return keys, done.trust


def good_keys(hub: Office, node_id: str) -> set[bytes]:
    rows = hub.all(
        "SELECT public_key FROM node_key WHERE node_id = ? AND ended_at IS NULL", node_id
    )
    return {bytes(row["public_key"]) for row in rows}


def test_a_changed_key_takes_the_place_of_the_old_one_when_it_is_used(
    hub: Office, tmp_path: Path
) -> None:
    old, trust = enrolled(hub, tmp_path)
    new = enrolment.change_key(tmp_path, old, trust, os.urandom)
    assert new.node_id == old.node_id
    assert new.public != old.public
    assert SigningKeys.read(tmp_path) == new
    assert good_keys(hub, old.node_id) == {old.public, new.public}
    # A box that lost its power before it kept the new key reports with the old one, as before.
    assert report(hub, trust, old, 1) == 200
    assert good_keys(hub, old.node_id) == {old.public, new.public}
    assert report(hub, trust, new, 2) == 200
    assert good_keys(hub, old.node_id) == {new.public}
    assert report(hub, trust, old, 3) == 401


def report(hub: Office, trust: hub_trust.HubTrust, keys: SigningKeys, counter: int) -> int:
    """The status of an exchange of an empty log, signed by these keys."""
    at = note.Checkpoint(ledger.origin(keys.node_id, 0), 0, merkle.Frontier().root())
    text = note.checkpoint_text(at)
    checkpoint = note.format_note(text, (note.sign_note(text, keys.key, keys.sign),))
    body = wire.pack(wire.Exchange(wire.VERSION, 0, 0, b"", checkpoint, 0, []))
    client = HubClient(trust.url, trust.authority, node_id=keys.node_id, signer=keys.sign)

    async def asked() -> int:
        path = client.path("exchange")
        return (await client.request("POST", path, body, counter=counter, created_at=1)).status

    try:
        return asyncio.run(asked())
    finally:
        client.close()


STOPPED = """
import os, sys
from pathlib import Path
from portal import enrolment
from portal.signing import SigningKeys
from portal.sync import trust

left = int(sys.argv[2])

def stop(event, arguments):
    global left
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "socket.connect"):
        left -= 1
        if left < 0:
            os._exit(9)

place = Path(sys.argv[1])
keys, hub = SigningKeys.read(place), trust.read(place)
sys.addaudithook(stop)
enrolment.change_key(place, keys, hub, os.urandom)
enrolment.key_told(place)
"""


def test_a_box_killed_at_any_step_of_a_change_of_key_reports_on(
    hub: Office, tmp_path: Path
) -> None:
    """Whatever key it starts with then is good, and asking again ends with a new one."""
    first, trust = enrolled(hub, tmp_path)
    hub_trust.write(tmp_path, trust)
    counter, seen, was_killed, steps = 0, {first.public}, True, 0
    while was_killed:
        code = (sys.executable, "-c", STOPPED, str(tmp_path), str(steps))
        was_killed = subprocess.run(code, timeout=60).returncode == 9
        steps += 1
        keys = SigningKeys.read(tmp_path)
        counter += 1
        assert report(hub, trust, keys, counter) == 200
        seen.add(keys.public)
    assert steps > 10
    assert len(seen) >= 2 and keys.public != first.public
    assert not (tmp_path / enrolment.NEXT_KEY_NAME).exists()
    assert good_keys(hub, first.node_id) == {keys.public}


def test_a_change_of_key_without_a_link_changes_nothing(hub: Office, tmp_path: Path) -> None:
    old, trust = enrolled(hub, tmp_path)
    nowhere = hub_trust.HubTrust("https://127.0.0.1:9", *tuple_of(trust)[1:])
    with pytest.raises(UserError, match=r"cannot be reached.*\. The key was not changed; the box"):
        enrolment.change_key(tmp_path, old, nowhere, os.urandom)
    assert SigningKeys.read(tmp_path) == old
    assert good_keys(hub, old.node_id) == {old.public}


def test_a_revoked_box_does_not_get_another_key(hub: Office, tmp_path: Path) -> None:
    old, trust = enrolled(hub, tmp_path)
    hub.do(hub.hub.office.enrolments.revoke(old.node_id, "admin", "kotak dicuri"))
    with pytest.raises(UserError, match="taken this box's right to report"):
        enrolment.change_key(tmp_path, old, trust, os.urandom)
    assert SigningKeys.read(tmp_path) == old


def test_a_change_of_key_whose_answer_was_lost_is_made_good(hub: Office, tmp_path: Path) -> None:
    old, trust = enrolled(hub, tmp_path)
    before = (tmp_path / "pesisir.signing").read_bytes()
    kept: list[bytes] = []

    def noted(count: int) -> bytes:
        kept.append(os.urandom(count))
        return kept[-1]

    with dropped_answers(hub.tls_url) as url:
        cut = hub_trust.HubTrust(url, *tuple_of(trust)[1:])
        with pytest.raises(UserError):
            enrolment.change_key(tmp_path, old, cut, noted)
    assert (tmp_path / "pesisir.signing").read_bytes() == before
    new = enrolment.change_key(tmp_path, old, trust, os.urandom)
    assert new.seed == kept[0]
    assert report(hub, trust, new, 1) == 200
    assert good_keys(hub, old.node_id) == {new.public}
    # And once more, as if this answer had been lost as well.
    hub.do(hub.hub.office.enrolments.take_key(old.node_id, old.public, new.public))
    assert good_keys(hub, old.node_id) == {new.public}


def test_nobody_changes_a_key_without_the_old_one(hub: Office, tmp_path: Path) -> None:
    old, trust = enrolled(hub, tmp_path)
    thief = SigningKeys(os.urandom(32), old.exchange, old.node_id)
    with pytest.raises(UserError, match="not this box's"):
        enrolment.change_key(tmp_path, thief, trust, os.urandom)
    assert good_keys(hub, old.node_id) == {old.public}


def tuple_of(trust: hub_trust.HubTrust) -> tuple[str, str, str, str, str]:
    return (trust.url, trust.authority, trust.cosigner, trust.documents, trust.recovery)


@contextmanager
def dropped_answers(url: str) -> Iterator[str]:
    """An address at which nothing is ever answered."""

    class Silent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.connection.close()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


# --- what is given


@pytest.mark.parametrize(
    "url", ["http://hub.example", "hub.example", "https://hub.example/x", "https://u@hub.example"]
)
def test_only_a_plain_https_address_is_taken(url: str) -> None:
    good = enrol_token.make(os.urandom, b"x").text()
    with pytest.raises(UserError, match="expected an address as https"):
        enrolment.read_words(url, good)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"form": "pesisir-enrolment-1"}', "\x00"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.enrol"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="is no enrolment file"):
        enrolment.read_file(path)
