"""A card's holder is erased: nothing of theirs is in the file, and every sum stays."""

import asyncio
from pathlib import Path

import pytest

from portal import ledger_export
from portal.domain import ledger_file
from portal.domain.ledger import DayTotal, Kind, Usage
from portal.errors import UserError
from portal.signing import verify
from tests.unit.aaa.rig import START, STOP, NodeRig
from tests.unit.ledger_check import check_tree, records_of

GATEWAY = "10.20.0.1"
MAC, OTHER = "02-AA-BB-CC-DD-7E", "02-AA-BB-CC-DD-01"
DAY_S = 86_400


async def _used(rig: NodeRig, serial: str, mac: str, ip: str, count: int = 3) -> None:
    for n in range(count):
        said = {"time_s": 10 + n, "input_octets": 100, "output_octets": 1000}
        await rig.account(GATEWAY, STOP, f"{serial}{n}", user=serial, mac=mac, ip=ip, **said)


def _octets(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.glob("pesisir.db*"))


def _pseudonyms(path: Path) -> list[bytes]:
    return [
        record.payload.pseudonym
        for record, _ in records_of(path)
        if isinstance(record.payload, Usage)
    ]


def test_an_erased_holder_is_nowhere_in_the_file_and_sums_and_tree_stand(tmp_path: Path) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open()
        await rig.gateway("pos-1", GATEWAY)
        (serial, _), (other, _) = await rig.cards("p", count=2)
        await _used(rig, serial, MAC, "10.9.8.7")
        await _used(rig, other, OTHER, "10.9.8.8")
        path = await rig.settled()
        await rig.node.store.database.empty_log()
        theirs, *_, others = _pseudonyms(path)
        traces = [b"02aabbccdd7e", b"10.9.8.7", b'"serial":"' + serial.encode()]
        assert all(trace in _octets(path) for trace in (*traces, theirs))

        done = await rig.node.vouchers.erase(serial, "at their own wish")
        assert done == {"serials": [serial], "records": 3}
        path = await rig.settled()
        await rig.node.store.database.empty_log()
        for trace in traces:
            assert trace not in _octets(path), trace
        names = rig.node.store.database.all("SELECT octets FROM pseudonym")
        assert [row["octets"] for row in names] == [others]
        assert rig.show(serial)["state"] == "revoked" and rig.show(serial)["octets_used"] == 0
        assert rig.show(other)["octets_used"] == 3300
        (erasure,) = [r.payload for r, _ in records_of(path) if r.kind == Kind.ERASURE]
        assert isinstance(erasure, dict) and erasure["what"] == "person"
        assert erasure["count"] == len(erasure["records"]) == 3
        check_tree(path)

        # What comes late of theirs is nobody's, and brings no address back.
        said = {"time_s": 99, "input_octets": 150, "output_octets": 1000}
        await rig.account(GATEWAY, STOP, f"{serial}0", user=serial, mac=MAC, ip="10.9.8.7", **said)
        path = await rig.settled()
        for trace in traces:
            assert trace not in _octets(path), trace
        assert rig.show(serial)["octets_used"] == 0

        # The day's total still has them; only then do the bodies go.
        rig.sleep(3600)
        await rig.node.hours.look()
        rig.sleep(3 * DAY_S)
        await rig.node.hours.look()
        await rig.settled()
        totals = [r.payload for r, _ in records_of(path) if isinstance(r.payload, DayTotal)]
        assert isinstance(totals[-1], DayTotal)
        assert (totals[-1].sessions, totals[-1].input_octets) == (6, 600)
        await rig.node.retention.forget()
        await rig.node.store.database.empty_log()
        assert theirs not in _octets(path) and others in _octets(path)
        target = tmp_path / "ledger"
        await ledger_export.write(rig.node.ledger, target, report=lambda done, total: None)
        with target.open("rb") as lines:
            found = ledger_file.check(lines, verify)
        assert found.problem is None and found.pruned == 3
        await rig.close()

    asyncio.run(story())


def test_nothing_is_erased_while_a_phone_is_online_and_the_card_has_ended(tmp_path: Path) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open()
        await rig.gateway("pos-1", GATEWAY)
        [(serial, _)] = await rig.cards("p")
        said = {"time_s": 0, "input_octets": 0, "output_octets": 0}
        await rig.account(GATEWAY, START, "s", user=serial, mac=MAC, ip="10.9.8.7", **said)
        with pytest.raises(UserError, match="still online"):
            await rig.node.vouchers.erase(serial, "wish")
        assert rig.show(serial)["state"] == "revoked"
        path = await rig.settled()
        assert b"02aabbccdd7e" in _octets(path)
        await rig.account(GATEWAY, STOP, "s", user=serial, mac=MAC, ip="10.9.8.7", **said)
        assert (await rig.node.vouchers.erase(serial, "wish"))["records"] == 1
        await rig.settled()
        await rig.node.store.database.empty_log()
        assert b"02aabbccdd7e" not in _octets(path)
        lines = await rig.node.audit.lines(None, limit=9)
        assert [line.action for line in lines if line.object == serial] == [
            "voucher.erase",
            "voucher.revoke",
        ]
        await rig.close()

    asyncio.run(story())


def test_a_holder_with_many_records_is_named_in_several(tmp_path: Path) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open()
        await rig.gateway("pos-1", GATEWAY)
        [(serial, _)] = await rig.cards("p")
        await _used(rig, serial, MAC, "10.9.8.7", count=502)
        assert (await rig.node.vouchers.erase(serial, "wish"))["records"] == 502
        path = await rig.settled()
        erasures = [r.payload for r, _ in records_of(path) if r.kind == Kind.ERASURE]
        sizes = [len(one["records"]) for one in erasures if isinstance(one, dict)]
        assert sizes == [500, 2]
        check_tree(path)
        await rig.close()

    asyncio.run(story())


def test_a_session_that_ends_while_the_ledger_is_searched_is_erased_too(tmp_path: Path) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open()
        await rig.gateway("pos-1", GATEWAY)
        for moment, (serial, _) in enumerate(await rig.cards("p", count=40)):
            said = {"time_s": 9, "input_octets": 9, "output_octets": 9, "user": serial, "mac": MAC}
            await rig.account(GATEWAY, START, serial, ip="10.9.8.7", **said)
            with pytest.raises(UserError, match="still online"):
                await rig.node.vouchers.erase(serial, "wish")
            erasing = asyncio.ensure_future(rig.node.vouchers.erase(serial, "wish"))
            await asyncio.sleep(moment * 0.0002)
            await rig.account(GATEWAY, STOP, serial, ip="10.9.8.7", **said)
            try:
                await erasing
            except UserError:
                await rig.node.vouchers.erase(serial, "wish")
        path = await rig.settled()
        await rig.node.store.database.empty_log()
        for trace in (b"02aabbccdd7e", b"10.9.8.7"):
            assert trace not in _octets(path), trace
        check_tree(path)
        await rig.close()

    asyncio.run(story())


def test_bodies_stay_while_the_ledger_is_exported(tmp_path: Path) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open()
        await rig.gateway("pos-1", GATEWAY)
        [(serial, _)] = await rig.cards("p")
        await _used(rig, serial, MAC, "10.9.8.7")
        rig.sleep(3 * DAY_S)
        await rig.node.retention.forget()
        # As an export does, from when it has seen how far the log goes until its last line.
        async with rig.node.ledger.store.pruning:
            await rig.node.vouchers.erase(serial, "wish")
            forgetting = asyncio.ensure_future(rig.node.retention.forget())
            await asyncio.wait((forgetting,), timeout=0.5)
            assert len(_pseudonyms(await rig.settled())) == 3
        await forgetting
        assert _pseudonyms(await rig.settled()) == []
        await rig.close()

    asyncio.run(story())
