"""The node's SQL: what the use cases read at start, by key, and write in one commit.

Every statement stands next to the function that runs it. Nothing is decided here.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from portal.domain.session import Session
from portal.store import audit
from portal.store.audit import Deed
from portal.store.batch import DEVICE, SESSION, read_session
from portal.store.db import Database, Row
from portal.store.journal import Journal
from portal.store.ledger import Rule, gateway_config, number_profile, profile_config, site_config

_VOUCHER = (
    "SELECT v.id, v.account_id, v.batch_id, v.site_id, v.serial, v.code_hash, v.last4,"
    " v.sealed_code,"
    " v.issued_at, v.use_before_at, v.revoked_at, v.replaced_at, v.end_reason, a.profile,"
    " a.first_used_at, a.total_octets, a.total_s, a.move_day, a.move_count, a.last_session_id,"
    " a.extra_valid_s, EXISTS (SELECT 1 FROM credit c WHERE c.account_id = a.id) AS has_credit,"
    " (SELECT MAX(n.id) FROM voucher n WHERE n.account_id = v.account_id) AS newest_id"
    " FROM voucher v JOIN account a ON a.id = v.account_id"
)


class NodeStore:
    """Reads and writes of a node over its Database."""

    def __init__(self, database: Database):
        self.database = database
        self.journal = Journal(database)
        database.settled_by(self.journal)

    # -- at start --------------------------------------------------------------------------

    def box(self) -> dict[str, str]:
        """The node's own few values: boot number, latest time, serial of the last batch."""
        return {
            row["name"]: row["value"] for row in self.database.all("SELECT name, value FROM box")
        }

    def sites(self) -> list[Row]:
        """All sites, oldest first."""
        return self.database.all(
            "SELECT id, code, name, zone, helper, power_window, wifi_name, counter, opening_hours,"
            " open_services, without_node FROM site ORDER BY id"
        )

    def gateways(self) -> list[Row]:
        """All gateways, oldest first."""
        return self.database.all(
            "SELECT id, site_id, name, family, address, nas_id, secret, uam_secret, mac_auth,"
            " login_base, sends_gigawords, guest_net, swap_octets FROM gateway ORDER BY id"
        )

    def removed_gateways(self) -> list[Row]:
        """Id and name of gateways there were once."""
        return self.database.all("SELECT id, name FROM removed_gateway")

    def profiles(self) -> list[Row]:
        """All profiles by name."""
        return self.database.all("SELECT name, limits FROM profile ORDER BY name")

    def learned_addresses(self) -> list[str]:
        """Source addresses that have sent a valid Message-Authenticator."""
        rows = self.database.all("SELECT address FROM learned_address")
        return [row["address"] for row in rows]

    def open_sessions(self) -> list[Session]:
        """Sessions that had not ended, oldest first."""
        rows = self.database.all(
            f"SELECT {SESSION} FROM session WHERE ended_at IS NULL ORDER BY id"
        )
        return [read_session(row) for row in rows]

    def outages(self, since_at: int) -> list[tuple[int, int | None]]:
        """Backhaul outages that had not ended before `since_at`, oldest first."""
        rows = self.database.all(
            "SELECT started_at, ended_at FROM outage WHERE ended_at IS NULL OR ended_at >= ?"
            " ORDER BY started_at",
            (since_at,),
        )
        return [(row["started_at"], row["ended_at"]) for row in rows]

    # -- by key ----------------------------------------------------------------------------

    def voucher_by_hash(self, code_hash: bytes) -> Row | None:
        """The card with this code, by the keyed hash of the code."""
        return self.database.one(f"{_VOUCHER} WHERE v.code_hash = ?", (code_hash,))

    def voucher_by_serial(self, serial: str) -> Row | None:
        """The card with this serial."""
        return self.database.one(f"{_VOUCHER} WHERE v.serial = ?", (serial,))

    def voucher_by_id(self, voucher_id: int) -> Row | None:
        """The card with this row id."""
        return self.database.one(f"{_VOUCHER} WHERE v.id = ?", (voucher_id,))

    def current_voucher(self, account_id: int) -> Row | None:
        """The newest card of an account."""
        return self.database.one(
            f"{_VOUCHER} WHERE v.account_id = ? ORDER BY v.id DESC LIMIT 1", (account_id,)
        )

    def newest_vouchers(self, limit: int) -> list[Row]:
        """The newest cards that have not ended, newest first."""
        return self.database.all(
            f"{_VOUCHER} WHERE v.revoked_at IS NULL AND v.replaced_at IS NULL"
            " ORDER BY v.id DESC LIMIT ?",
            (limit,),
        )

    def days_of_accounts(self, account_ids: Sequence[int], since_day: str) -> list[Row]:
        """What these accounts used on each day since `since_day`."""
        return self.database.all(
            "SELECT u.account_id, u.day, u.octets, u.seconds FROM json_each(?) AS wanted"
            " CROSS JOIN usage_day AS u ON u.account_id = wanted.value AND u.day >= ?",
            (json.dumps(account_ids), since_day),
        )

    def devices_of_accounts(self, account_ids: Sequence[int]) -> list[Row]:
        """The phones of these accounts."""
        columns = ", ".join(f"d.{name.strip()}" for name in DEVICE.split(","))
        return self.database.all(
            f"SELECT {columns} FROM json_each(?) AS wanted"
            " CROSS JOIN device AS d ON d.account_id = wanted.value",
            (json.dumps(account_ids),),
        )

    def account_days(self, account_id: int, since_day: str) -> list[Row]:
        """What an account used on each day since `since_day`."""
        return self.database.all(
            "SELECT day, octets, seconds FROM usage_day WHERE account_id = ? AND day >= ?",
            (account_id, since_day),
        )

    def account_credits(self, account_id: int) -> list[Row]:
        """All top-ups of an account, by day."""
        return self.database.all(
            "SELECT day, octets, seconds FROM credit WHERE account_id = ?", (account_id,)
        )

    def account_devices(self, account_id: int) -> list[Row]:
        """The phones of an account."""
        return self.database.all(
            f"SELECT {DEVICE} FROM device WHERE account_id = ?",
            (account_id,),
        )

    def account_of_mac(self, mac: str) -> Row | None:
        """The account this phone logged in to last, and whether it may come back without typing."""
        return self.database.one(
            "SELECT account_id, is_remembered FROM device WHERE mac = ?"
            " ORDER BY granted_at DESC, account_id DESC LIMIT 1",
            (mac,),
        )

    def session(self, session_id: int) -> Session | None:
        """The session with this id."""
        row = self.database.one(
            f"SELECT {SESSION} FROM session WHERE id = ?",
            (session_id,),
        )
        return None if row is None else read_session(row)

    def session_without_class(self, gateway_id: int, acct_session_id: str) -> Session | None:
        """The newest session of a gateway that returned no Class, by its Acct-Session-Id."""
        row = self.database.one(
            f"SELECT {SESSION} FROM session WHERE has_class = 0 AND gateway_id = ?"
            " AND acct_session_id = ? ORDER BY id DESC LIMIT 1",
            (gateway_id, acct_session_id),
        )
        return None if row is None else read_session(row)

    def newest_evidence_at(self) -> int:
        """The latest moment any of the newest or open sessions was seen, 0 when there is none."""
        row = self.database.one(
            "SELECT MAX(last_seen_at) AS at FROM (SELECT last_seen_at FROM session"
            " WHERE ended_at IS NULL UNION ALL SELECT last_seen_at FROM"
            " (SELECT last_seen_at FROM session ORDER BY id DESC LIMIT 100))"
        )
        return 0 if row is None or row["at"] is None else int(row["at"])

    # -- lists for people ------------------------------------------------------------------

    async def list_sessions(
        self,
        *,
        only_open: bool,
        since_at: int | None,
        account_id: int | None,
        gateway_id: int | None,
        limit: int,
    ) -> list[tuple[Session, str | None]]:
        """Sessions newest first with the serial of their card."""
        columns = ", ".join(f"s.{name.strip()}" for name in SESSION.split(","))
        where = ["1 = 1"]
        parameters: list[Any] = []
        if only_open:
            where.append("s.ended_at IS NULL")
        if since_at is not None:
            where.append("s.last_seen_at >= ?")
            parameters.append(since_at)
        if account_id is not None:
            where.append("v.account_id = ?")
            parameters.append(account_id)
        if gateway_id is not None:
            where.append("s.gateway_id = ?")
            parameters.append(gateway_id)
        rows = await self.database.all_slowly(
            f"SELECT {columns}, v.serial AS serial FROM session s"
            " LEFT JOIN voucher v ON v.id = s.voucher_id"
            f" WHERE {' AND '.join(where)} ORDER BY s.id DESC LIMIT ?",
            (*parameters, limit),
        )
        return [(read_session(row), row["serial"]) for row in rows]

    async def list_vouchers(
        self, *, site_id: int | None, batch: str | None, limit: int
    ) -> list[Row]:
        """Cards newest first; `batch` is the part of the serial before the dash."""
        return await self.database.all_slowly(
            f"{_VOUCHER} WHERE (? IS NULL OR v.site_id = ?) AND (? IS NULL OR v.serial LIKE ?)"
            " AND v.batch_id NOT IN (SELECT id FROM batch WHERE kind <> 'cards')"
            " ORDER BY v.id DESC LIMIT ?",
            (site_id, site_id, batch, f"{batch}-%", limit),
        )

    def count_vouchers(self, profile: str) -> int:
        """How many cards follow a profile."""
        row = self.database.one(
            "SELECT COUNT(*) AS n FROM account a JOIN voucher v ON v.account_id = a.id"
            " WHERE a.profile = ?",
            (profile,),
        )
        return 0 if row is None else int(row["n"])

    def sites_of_profile(self, profile: str) -> set[int]:
        """The sites whose cards follow a profile."""
        rows = self.database.all("SELECT DISTINCT site_id FROM batch WHERE profile = ?", (profile,))
        return {row["site_id"] for row in rows}

    # -- changes by people -----------------------------------------------------------------

    async def add_site(self, code: str, name: str, zone: str, *, at: int, deed: Deed) -> int:
        """Insert a site; return its id, which the deed recorded with it gets too."""
        async with self.database.transaction() as transaction:
            site_id = await transaction.insert(
                "INSERT INTO site (code, name, zone) VALUES (?, ?, ?)", (code, name, zone)
            )
            await audit.write(transaction, at, replace(deed, site_id=site_id))
            columns = {"code": code, "name": name, "zone": zone}
            transaction.append(site_config(site_id, at, columns))
            return site_id

    async def set_site(self, site_id: int, fields: dict[str, str], *, at: int, deed: Deed) -> None:
        """Change the given columns of a site."""
        assignments = ", ".join(f"{column} = ?" for column in fields)
        async with self.database.transaction() as transaction:
            await transaction.run(
                f"UPDATE site SET {assignments} WHERE id = ?",
                (*fields.values(), site_id),
            )
            await audit.write(transaction, at, deed)
            transaction.append(site_config(site_id, at, fields))

    async def add_gateway(self, columns: dict[str, Any], *, at: int, deed: Deed) -> int:
        """Insert a gateway; return its id."""
        async with self.database.transaction() as transaction:
            gateway_id = await transaction.insert(
                f"INSERT INTO gateway ({', '.join(columns)})"
                f" VALUES ({', '.join('?' * len(columns))})",
                tuple(columns.values()),
            )
            await audit.write(transaction, at, deed)
            transaction.append(gateway_config(gateway_id, columns["site_id"], at, columns))
            return gateway_id

    async def set_gateway(
        self, gateway_id: int, columns: dict[str, Any], *, at: int, deed: Deed
    ) -> None:
        """Change the given columns of a gateway."""
        assignments = ", ".join(f"{column} = ?" for column in columns)
        async with self.database.transaction() as transaction:
            await transaction.run(
                f"UPDATE gateway SET {assignments} WHERE id = ?",
                (*columns.values(), gateway_id),
            )
            await audit.write(transaction, at, deed)
            transaction.append(gateway_config(gateway_id, deed.site_id or 0, at, columns))

    async def record(self, *, at: int, deed: Deed) -> None:
        """Record a deed that changes nothing."""
        async with self.database.transaction() as transaction:
            await audit.write(transaction, at, deed)

    async def remove_gateway(self, gateway_id: int, *, at: int, deed: Deed) -> None:
        """Delete a gateway; only its name stays, for its sessions."""
        async with self.database.transaction() as transaction:
            await transaction.run(
                "INSERT INTO removed_gateway (id, name) SELECT id, name FROM gateway WHERE id = ?",
                (gateway_id,),
            )
            await transaction.run("DELETE FROM gateway WHERE id = ?", (gateway_id,))
            await audit.write(transaction, at, deed)
            gone = {"removed": 1}
            transaction.append(gateway_config(gateway_id, deed.site_id or 0, at, gone))

    async def set_profile(self, name: str, limits: str, *, at: int, deed: Deed) -> None:
        """Insert or replace a profile."""
        async with self.database.transaction() as transaction:
            await transaction.run(
                "INSERT INTO profile (name, limits) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET limits = excluded.limits",
                (name, limits),
            )
            number = await number_profile(transaction, self.database, name)
            await audit.write(transaction, at, deed)
            transaction.append(profile_config(number, name, at, json.loads(limits)))

    async def remove_profile(self, name: str, *, at: int, deed: Deed) -> None:
        """Delete a profile that no card follows."""
        async with self.database.transaction() as transaction:
            await transaction.run("DELETE FROM profile WHERE name = ?", (name,))
            number = await number_profile(transaction, self.database, name)
            await audit.write(transaction, at, deed)
            transaction.append(profile_config(number, name, at, {}, removed=1))

    async def forget_sealed_before(self, issued_before_at: int) -> int:
        """Drop the sealed copies of codes issued before a moment; return how many."""
        async with self.database.transaction() as transaction:
            return await transaction.run(
                "UPDATE voucher SET sealed_code = NULL"
                " WHERE sealed_code IS NOT NULL AND issued_at < ?",
                (issued_before_at,),
            )

    async def forget_personal(self, rule: Rule, step: int) -> int:
        """Erase MAC and IP of the next sessions last seen before a moment; return how many.

        Goes on where it stopped the last time.
        """
        done_id = int(self.box().get("personal_erased_to", "0"))
        rows = self.database.all(
            "SELECT id, last_seen_at FROM session WHERE id > ? ORDER BY id LIMIT ?", (done_id, step)
        )
        old = []
        for row in rows:
            if row["last_seen_at"] >= rule.before_at:
                break
            old.append((row["id"],))
        if old:
            async with self.database.transaction() as transaction:
                await transaction.run_many(
                    "UPDATE session SET mac = NULL, framed_ip = NULL WHERE id = ?", old
                )
                await transaction.run(
                    "INSERT INTO box (name, value) VALUES ('personal_erased_to', ?)"
                    " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    (str(old[-1][0]),),
                )
                transaction.append(rule.erased("sessions", len(old)))
        return len(old)

    async def forget_phones(self, rule: Rule) -> int:
        """Delete phones that have not logged in since a moment; return how many."""
        async with self.database.transaction() as transaction:
            gone = await transaction.run(
                "DELETE FROM device WHERE granted_at < ?", (rule.before_at,)
            )
            if gone:
                transaction.append(rule.erased("phones", gone))
            return gone
