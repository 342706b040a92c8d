"""Policy: what the hub signed is applied once, newer only; what works survives what does not."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portal import passwords
from portal.domain import document as documents
from portal.domain import note
from portal.domain.document import Document
from portal.domain.ledger import Kind, decode
from portal.policy import Policy
from portal.signing import verify
from portal.store.sync import SyncStore
from portal.wire import Held
from tests.unit.aaa.rig import NodeRig

OFFICE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))
NAME = "pesisir/hub/test"
KEY = note.Key(NAME, note.ED25519, OFFICE.public_key().public_bytes_raw())


def signed(document: Document, key: Ed25519PrivateKey = OFFICE) -> str:
    text = documents.text_of(document)
    return note.format_note(text, [note.sign_note(text, KEY, key.sign)])


def a_document(name: str, content: Mapping[str, Any], version: int = 1, **others: Any) -> Document:
    values: dict[str, Any] = {"scope": "all", "not_before_at": 0, "previous": "-"}
    return Document(name=name, version=version, content=content, **{**values, **others})


def after(document: Document, content: Mapping[str, Any], **others: Any) -> Document:
    """The next version."""
    return a_document(
        document.name,
        content,
        document.version + 1,
        scope=document.scope,
        previous=documents.digest(documents.text_of(document)),
        **others,
    )


class Village:
    """A node, its policy and what its ledger was told."""

    def __init__(self, rig: NodeRig):
        self.rig = rig
        self.policy = self.opened()

    def opened(self) -> Policy:
        node = self.rig.node
        return Policy(
            SyncStore(node._database),
            node.admin,
            node.notices,
            node.devices,
            node.operators,
            key=lambda: str(KEY),
            verify=verify,
            record=lambda payload: node.ledger.append(Kind.POLICY, payload),
            now=node.now,
        )

    async def take(self, *received: Document) -> None:
        await self.receive([signed(one) for one in received])

    async def receive(self, received: list[str]) -> None:
        await self.policy.receive(received)
        await self.rig.node.commit.now()

    @property
    def told(self) -> list[Mapping[str, Any]]:
        """What the ledger says of documents."""
        records = [decode(public) for _, public, _ in self.rig.node.ledger.store.records(0, 0, 500)]
        payloads = [one.payload for one in records if one.kind == Kind.POLICY]
        return [payload for payload in payloads if isinstance(payload, Mapping)]

    @property
    def states(self) -> list[str]:
        return [str(payload["state"]) for payload in self.told]


def run(tmp_path: Path, scenario: Callable[[Village], Awaitable[None]]) -> None:
    async def play() -> None:
        rig = await NodeRig(tmp_path).open()
        try:
            await scenario(Village(rig))
        finally:
            await rig.close()

    asyncio.run(play())


WARGA = a_document("profiles", {"profiles": {"warga": {"data_day": "500MB", "valid": "30d"}}})


def test_a_profile_of_the_hub_is_in_force_at_once_and_recorded(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.take(WARGA)
        profile = village.rig.node.admin.profiles_by_name["warga"]
        assert profile.data_day_octets == 500_000_000
        assert village.policy.held() == [Held("profiles", "all", 1)]
        assert village.states == ["applied"]
        assert village.told[0]["version"] == 1

    run(tmp_path, scenario)


def test_a_newer_version_takes_back_what_it_no_longer_names(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.take(WARGA, after(WARGA, {"profiles": {"warga": {"data_day": "1GB"}}}))
        profile = village.rig.node.admin.profiles_by_name["warga"]
        assert (profile.data_day_octets, profile.valid_s) == (10**9, None)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("note", "why"),
    [
        (signed(after(WARGA, {"profiles": {}}), STRANGER), "not signed"),
        (
            signed(after(WARGA, {"profiles": {}})).replace("scope all", "scope site TJL"),
            "not signed",
        ),
        ("no note at all", "blank line"),
    ],
)
def test_what_the_hub_did_not_sign_changes_nothing_and_is_recorded(
    tmp_path: Path, note: str, why: str
) -> None:
    async def scenario(village: Village) -> None:
        await village.take(WARGA)
        await village.receive([note])
        assert village.policy.held() == [Held("profiles", "all", 1)]
        assert village.states == ["applied", "refused"]
        assert why in str(village.told[1]["why"])
        # It comes with every exchange, and must not fill the ledger.
        await village.receive([note])
        await village.receive([note])
        assert village.states == ["applied", "refused"]

    run(tmp_path, scenario)


SECOND = after(WARGA, {"profiles": {"warga": {"data_day": "1GB"}}})


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (WARGA, "older than version 2"),
        (a_document("profiles", {"profiles": {}}, 2), "has been version 2 already"),
        (a_document("profiles", {"profiles": {}}, 3, previous="0" * 64), "another version 2"),
        (after(SECOND, {"profile": {}}), "another form"),
        (after(SECOND, {"profiles": {"warga": {"data_day": "lots"}}}), "data-day"),
        (after(SECOND, {"profiles": {"warga": {"colour": "red"}}}), "colour"),
    ],
)
def test_a_bad_or_older_document_is_refused_and_reported(
    tmp_path: Path, bad: Document, why: str
) -> None:
    async def scenario(village: Village) -> None:
        await village.take(WARGA, SECOND, bad)
        profile = village.rig.node.admin.profiles_by_name["warga"]
        assert profile.data_day_octets == 10**9
        assert village.states == ["applied", "applied", "refused"]
        assert why in str(village.told[2]["why"])
        if bad.version > 2:
            assert [one.version for one in village.policy.refused()] == [3]
        # The hub may send it again and again: it is told and recorded once.
        await village.take(bad)
        assert len(village.told) == 3

    run(tmp_path, scenario)


def test_versions_are_remembered_over_a_power_cut(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.take(WARGA, SECOND)
        await village.rig.restart()
        again = Village(village.rig)
        assert again.policy.held() == [Held("profiles", "all", 2)]
        await again.take(WARGA)
        assert again.states == ["applied", "applied", "refused"]
        await again.take(SECOND)
        assert again.states == ["applied", "applied", "refused"]

    run(tmp_path, scenario)


def test_a_document_waits_for_its_time(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        at = village.rig.node.now() + 3600
        await village.take(WARGA, after(WARGA, {"profiles": {"warga": {}}}, not_before_at=at))
        admin = village.rig.node.admin
        assert admin.profiles_by_name["warga"].data_day_octets
        assert village.policy.held() == [Held("profiles", "all", 2)]
        await village.policy.apply_due()
        assert admin.profiles_by_name["warga"].data_day_octets
        village.rig.sleep(3601)
        await village.opened().apply_due()
        assert not admin.profiles_by_name["warga"].data_day_octets
        assert village.states == ["applied", "waiting", "applied"]

    run(tmp_path, scenario)


def test_the_narrower_scope_holds_whatever_comes_later(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        here = a_document(
            "settings", {"site": {"helper": "Ibu Sari", "without_node": "open"}}, scope="site TJL"
        )
        everywhere = a_document("settings", {"site": {"helper": "Dinas", "counter": "Balai"}})
        await village.take(here, everywhere)
        site = village.rig.node.admin.site("TJL")
        assert (site.helper, site.counter, site.without_node) == ("Ibu Sari", "Balai", "open")

    run(tmp_path, scenario)


def test_announcements_come_and_go_with_their_document(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        notices, admin = village.rig.node.notices, village.rig.node.admin
        site_id = admin.site("TJL").id
        await notices.add(site_id, "Dari desa", starts_at=None, ends_at=None, by="budi")
        first = a_document(
            "announcements", {"announcements": [{"words": "Listrik padam"}, {"words": "Rapat"}]}
        )
        await village.take(first)
        assert set(notices.running(site_id)) == {"Dari desa", "Listrik padam", "Rapat"}
        await village.take(after(first, {"announcements": [{"words": "Rapat"}]}))
        assert set(notices.running(site_id)) == {"Dari desa", "Rapat"}

    run(tmp_path, scenario)


def test_more_announcements_than_a_page_holds_are_refused_and_nothing_is_changed(
    tmp_path: Path,
) -> None:
    async def scenario(village: Village) -> None:
        notices, site_id = village.rig.node.notices, village.rig.node.admin.site("TJL").id
        for number in range(4):
            await notices.add(site_id, f"Desa {number}", starts_at=None, ends_at=None, by="budi")
        before = notices.running(site_id)
        await village.take(
            a_document("announcements", {"announcements": [{"words": "A"}, {"words": "B"}]})
        )
        assert notices.running(site_id) == before
        assert village.states == ["refused"]

    run(tmp_path, scenario)


def test_blocked_phones_come_and_go_with_their_document(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        devices, site_id = village.rig.node.devices, village.rig.node.admin.site("TJL").id
        await devices.block("02:00:00:00:00:09", site_id, "dari desa", "budi")
        first = a_document("blocked", {"blocked": [{"mac": "02-11-22-33-44-55", "reason": "uji"}]})
        await village.take(first)
        assert devices.is_blocked("021122334455", site_id)
        await village.take(after(first, {"blocked": []}))
        assert not devices.is_blocked("021122334455", site_id)
        assert devices.is_blocked("020000000009", site_id)

    run(tmp_path, scenario)


def test_a_reset_gives_an_operator_a_password_that_must_be_changed(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        operators = village.rig.node.operators
        await operators.add("budi", "operator")
        content = {"operator": "budi", "password_hash": passwords.hashed("biru-laut-42")}
        await village.take(a_document("reset", content, scope="site TJL"))
        operator = await operators.sign_in("budi", "biru-laut-42", "10.0.0.9")
        assert operator.must_change
        missing = {"operator": "siti", "password_hash": content["password_hash"]}
        await village.take(a_document("reset", missing, 2, scope="site TJL", previous="-"))
        assert village.states == ["applied", "refused"]

    run(tmp_path, scenario)


def test_a_document_for_another_site_is_refused(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.take(a_document("settings", {"site": {"helper": "X"}}, scope="site WAI"))
        assert village.states == ["refused"]
        await village.take(
            a_document("settings", {"site": {"helper": "X"}, "sites": ["WAI", "LAIN"]})
        )
        assert village.rig.node.admin.site("TJL").helper == ""
        assert village.states == ["refused", "applied"]

    run(tmp_path, scenario)
