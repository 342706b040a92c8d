"""Documents go to the nodes they are for, once; wanted and actual state are known for each."""

import pytest

from portal.domain import document, note
from portal.errors import UserError
from portal.hub.checkpoints import verify
from portal.wire import Delta, Held, Refused
from tests.unit.hub.office import Office, Tell
from tests.unit.hub.written_node import WrittenNode


async def received(place: Office, node: WrittenNode, **said: object) -> list[tuple[str, str, int]]:
    """(name, scope, version) of what an exchange brings, each signature checked."""
    outcome = await place.take(node, node.exchange(**said))  # type: ignore[arg-type]
    found = []
    for text in outcome.answer.documents:
        parsed = note.parse_note(text)
        assert note.is_signed(parsed, place.hub.keys.documents_key, verify)
        one = document.parse(parsed.text)
        found.append((one.name, one.scope, one.version))
    return found


def test_a_node_gets_what_is_for_all_its_group_and_its_sites(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        other = WrittenNode(seed=b"\x09" * 32, sites=("LAIN",))
        await place.enrol(other)
        for scope in ("all", "group utara", "group selatan", "site DESA", "site LAIN"):
            await place.hub.documents.publish(
                "profiles", scope, {"profiles": {}}, by="sari", now=place.now
            )
        assert await received(place, node) == [
            ("profiles", "all", 1),
            ("profiles", "group utara", 1),
            ("profiles", "site DESA", 1),
        ]
        held = [Held("profiles", "all", 1), Held("profiles", "site DESA", 1)]
        refused = [Refused("profiles", "group utara", 1, "There is no such profile.")]
        assert await received(place, node, held=held, refused=refused) == []
        states = {
            each.scope: (each.state, each.refused_why)
            for each in await place.hub.documents.standings(node.node_id)
        }
        assert states == {
            "all": ("applied", None),
            "group utara": ("refused", "There is no such profile."),
            "site DESA": ("applied", None),
        }
        # The next version is sent, to who refused the last one too.
        for scope in ("all", "group utara"):
            await place.hub.documents.publish(
                "profiles", scope, {"profiles": {"x": {}}}, by="sari", now=place.now
            )
        assert await received(place, node, held=held, refused=refused) == [
            ("profiles", "all", 2),
            ("profiles", "group utara", 2),
        ]
        states = {
            each.scope: (each.state, each.refused_why)
            for each in await place.hub.documents.standings(node.node_id)
        }
        assert states["all"] == ("waiting", None)

    tell(story)


def test_versions_are_chained_and_the_deed_is_on_record(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        for number in range(3):
            await place.hub.documents.publish(
                "blocked", "all", {"n": number}, by="sari", now=place.now
            )
        rows = await place.hub.store.database.all("SELECT note FROM document ORDER BY version")
        texts = [note.parse_note(row["note"]).text for row in rows]
        parsed = [document.parse(text) for text in texts]
        assert [one.version for one in parsed] == [1, 2, 3]
        digests = [document.digest(text) for text in texts]
        assert [one.previous for one in parsed] == ["-", *digests[:2]]
        audit = await place.hub.store.database.all("SELECT who, deed, object FROM hub_audit")
        assert [tuple(row[name] for name in ("who", "deed", "object")) for row in audit] == [
            ("sari", "document.publish", "blocked all")
        ] * 3

    tell(story)


def test_a_hub_that_was_put_back_publishes_above_what_nodes_hold(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        await place.hub.documents.publish("blocked", "all", {}, by="sari", now=place.now)
        held = [Held("blocked", "all", 5)]
        assert await received(place, node, held=held) == []
        await place.hub.documents.publish("blocked", "all", {}, by="sari", now=place.now)
        assert await received(place, node, held=held) == [("blocked", "all", 7)]

    tell(story)


@pytest.mark.parametrize(
    ("name", "scope"),
    [("profiles", "site NIRGENDS"), ("profiles", "group Ü"), ("profiles", "x"), ("virus", "all")],
)
def test_a_document_for_nobody_is_refused(tell: Tell, name: str, scope: str) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        with pytest.raises(UserError):
            await place.hub.documents.publish(name, scope, {}, by="sari", now=place.now)
        assert await place.hub.store.database.all("SELECT name FROM document") == []

    tell(story)


def test_balances_are_kept_since_the_backup(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        from portal.wire import Backup

        answer = (await place.take(node)).answer
        assert (answer.wants_backup, answer.backup_number) == (True, 0)
        for number in range(1, 5):
            await place.take(node, node.exchange(delta=Delta(number, b"d%d" % number)))
        async with place.hub.store.database.transaction() as transaction:
            await place.hub.sealed.put_backup(
                transaction, node.node_id, Backup(2, b"whole"), place.now
            )
        answer = (await place.take(node, node.exchange(delta=Delta(2, b"late")))).answer
        assert (answer.wants_backup, answer.backup_number) == (False, 2)
        await place.take(node, node.exchange(delta=Delta(5, bytes(200_000))))
        recovery = await place.hub.sealed.recovery(place.hub.store.database, node.node_id)
        assert recovery.backup == Backup(2, b"whole")
        assert recovery.deltas == [Delta(3, b"d3"), Delta(4, b"d4")]
        assert (recovery.head, recovery.epoch) == (node.cosigned, 1)
        place.now += 2 * 86_400
        assert (await place.take(node)).answer.wants_backup

    tell(story)
