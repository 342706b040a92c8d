"""Somebody wishes to be erased: nothing of them is in the files of the village or of the office,
and all sums, signatures and proofs stand. A real node, a real hub, TLS over real sockets."""

from pathlib import Path

from portal import signing
from portal.domain.ledger import Usage, decode
from portal.store import ledger_proof
from portal.store.db.either import HUB_FILE_NAME
from tests.e2e.hub_rig import HubRig, VillageRig
from tests.e2e.hub_stories import assert_hub_proves, play
from tests.unit.aaa.rig import STOP

GATEWAY, MAC, IP = "10.20.0.1", "02-AA-BB-CC-DD-7E", "10.9.8.7"
DAY_S = 86_400


def _octets(directory: Path, name: str) -> bytes:
    return b"".join(file.read_bytes() for file in directory.glob(f"{name}*"))


def test_an_erased_person_is_in_no_file_of_node_and_hub(tmp_path: Path) -> None:
    async def story(village: VillageRig, hub: HubRig) -> None:
        rig = village.rig
        await rig.gateway("pos-1", GATEWAY)
        (serial, _), (other, _) = await rig.cards("p", count=2)

        async def use(who: str, name: str) -> None:
            said = {"time_s": 60, "input_octets": 100, "output_octets": 1000}
            mac = MAC if who == serial else "02-AA-BB-CC-DD-01"
            await rig.account(GATEWAY, STOP, name, user=who, mac=mac, ip=IP, **said)

        for n in range(4):
            await use(serial, f"s{n}")
        await use(other, "o")
        await village.exchange_until_quiet()
        (name,) = {
            row[0] for row in hub.rows("SELECT pseudonym FROM session_record GROUP BY pseudonym")
        } - {
            row[0]
            for row in hub.rows("SELECT pseudonym FROM session_record ORDER BY seq DESC LIMIT 1")
        }
        assert name in _octets(hub.directory, HUB_FILE_NAME)
        # One more that the hub does not have yet when the person is erased.
        await use(serial, "late")
        assert (await rig.node.vouchers.erase(serial, "wish"))["records"] == 5
        await village.exchange_until_quiet()
        assert hub.totals() == (6, 600, 6000)
        users = hub.rows("SELECT users FROM site_day UNION ALL SELECT users FROM site_month")
        assert users == [(2,), (2,)]
        hub.run(hub.hub.tidy())
        assert name not in _octets(hub.directory, HUB_FILE_NAME)
        assert_hub_proves(hub)

        # The office's own backup has them, and the day is told: now the bodies go in the village.
        rig.sleep(3 * DAY_S)
        hub.at = rig.at
        await rig.node.hours.look()
        async with rig.node.ledger.store._database.transaction() as transaction:
            await transaction.run("UPDATE ledger_epoch SET backed_up = acked")
        await rig.node.retention.forget()
        path = await rig.settled()
        await rig.node.store.database.empty_log()
        for trace in (b"02aabbccdd7e", f'"serial":"{serial}"'.encode(), name):
            assert trace not in _octets(rig.directory, "pesisir.db"), trace
        names = [
            payload.pseudonym
            for _, public, _ in rig.node.ledger.store.records(0, 0, 1000)
            if isinstance(payload := decode(public).payload, Usage)
        ]
        assert len(names) == 1
        await village.exchange_until_quiet()
        assert_hub_proves(hub)
        keys = signing.SigningKeys.read(rig.directory)
        assert ledger_proof.check(path, keys.known_keys, signing.verify) > 10
        found = await village.exported(hub, tmp_path / "ledger")
        assert found.problem is None and found.pruned == 5

    play(tmp_path, story)
