"""Retention: after the period a session no longer says whose it was, and usage stays."""

import asyncio
from pathlib import Path

from radius.packet import CLASS
from tests.unit.aaa.rig import STOP, NodeRig

GW, MAC = "10.20.0.1", "02-AA-BB-CC-DD-01"


def test_phone_and_address_are_erased_after_the_period_and_usage_stays(tmp_path: Path) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open({"PESISIR_PRIVACY_PERSONAL_DAYS": "30"})
        await rig.gateway("pos-1", GW)
        [(serial, code)] = await rig.cards("p")
        for n in range(2):
            reply = await rig.access(GW, code, code, MAC, acct_session_id=f"s{n}")
            assert reply is not None
            await rig.account(
                GW,
                STOP,
                f"s{n}",
                mac=MAC,
                ip="10.1.0.9",
                class_value=reply.first[CLASS],
                time_s=60,
                input_octets=1,
                output_octets=2,
            )
            assert await rig.node.retention.forget() == 0
            rig.sleep(29 * 86_400)
        rig.sleep(2 * 86_400)
        assert await rig.node.retention.forget() == 2
        assert await rig.node.retention.forget() == 0
        for found in await rig.node.history.listed():
            assert found["calling_station_id"] is None and found["framed_ip"] is None
            assert found["input_octets"] == 1 and found["serial"] == serial
        assert rig.show(serial)["octets_used"] == 6
        phones = rig.node.store.database.one("SELECT COUNT(*) AS n FROM device")
        assert phones is not None and phones["n"] == 0
        assert rig.node.accounts.card_of_phone("02aabbccdd01", rig.node.now()) is None
        await rig.close()

    asyncio.run(story())


def test_complaints_are_deleted_so_long_after_their_answer_and_the_audit_says_so(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open({"PESISIR_PRIVACY_COMPLAINT_DAYS": "30"})
        complaints = rig.node.complaints
        site = next(iter(rig.node.admin.sites_by_id))
        told = [
            await complaints.add(
                site,
                category="slow",
                words=words,
                contact="",
                serial=None,
                client=None,
                source=words,
            )
            for words in ("lambat", "lambat sekali", "masih lambat")
        ]
        await complaints.answer(told[0].id, site, "sudah", by="ani")
        rig.sleep(20 * 86_400)
        await complaints.answer(told[1].id, site, "sudah", by="ani")
        rig.sleep(11 * 86_400)
        await rig.node.retention.forget()
        await rig.node.retention.forget()
        # The first is gone; the second is too young, the third still waits.
        assert [complaints.one(one.id) is None for one in told] == [True, False, False]
        assert complaints.waiting([site])[0] == 1
        lines = await rig.node.audit.lines(site, limit=50)
        forgotten = [line for line in lines if line.action == "complaint.forget"]
        assert [(line.operator, line.object) for line in forgotten] == [("the node", "1")]
        await rig.close()

    asyncio.run(story())
