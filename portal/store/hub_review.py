"""The SQL of what reviewers read: sites with their figures, the usage log, hours, documents' state.

Only reads. Sums come from the roll-ups; single records only where single records are shown. Every
statement stands next to the function that runs it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from portal.store.db.either import HubDatabase, Row

_SESSION = (
    "SELECT node_id, day, epoch, seq, site, pseudonym, gateway, profile, started_at, at,"
    " duration_s, counted_s, input_octets, output_octets, cause, flags, clock_quality"
    " FROM session_record"
)


class ReviewStore:
    """Reads for the pages of the office."""

    def __init__(self, database: HubDatabase):
        self._database = database

    # --- sites and boxes

    async def sites(self) -> list[Row]:
        """All sites with the state of their box, by name; a site without a box has none of it."""
        return await self._database.all(
            "SELECT s.code, s.name, s.zone, s.group_name, s.power_window, s.without_node,"
            " s.node_id, s.created_at, n.state, n.last_seen_at FROM site s"
            " LEFT JOIN node n ON n.node_id = s.node_id ORDER BY s.name, s.code"
        )

    async def places(self) -> list[Row]:
        """Under which node and number the records of each site stand: code, node_id, number."""
        return await self._database.all(
            "SELECT s.code, m.node_id, m.number FROM site s"
            " JOIN node_name m ON m.what = 'site' AND m.code = s.code"
            " WHERE m.node_id = s.node_id OR EXISTS (SELECT 1 FROM site_node b"
            " WHERE b.node_id = m.node_id AND b.site = s.code)"
            " ORDER BY s.code, m.node_id, m.number"
        )

    async def boxes(self) -> list[Row]:
        """All boxes, newest first, with the sites they report or reported for."""
        return await self._database.all(
            "SELECT n.node_id, n.state, n.replaces, n.enrolled_at, n.approved_at, n.revoked_at,"
            " n.last_seen_at, b.site, b.since_at, b.until_at FROM node n"
            " LEFT JOIN site_node b ON b.node_id = n.node_id"
            " ORDER BY n.enrolled_at DESC, n.node_id, b.since_at"
        )

    async def heads(self) -> list[Row]:
        """The newest log of each box: epoch, size, newest_at, cosigned_size, cosigned_at."""
        return await self._database.all(
            "SELECT h.node_id, h.epoch, h.size, h.newest_at, c.size AS cosigned_size,"
            " c.cosigned_at FROM node_head h"
            " JOIN (SELECT node_id, MAX(epoch) AS epoch FROM node_head GROUP BY node_id) m"
            " ON m.node_id = h.node_id AND m.epoch = h.epoch"
            " LEFT JOIN checkpoint c ON c.node_id = h.node_id AND c.epoch = h.epoch"
            " AND c.size = (SELECT MAX(k.size) FROM checkpoint k WHERE k.node_id = h.node_id"
            " AND k.epoch = h.epoch)"
        )

    async def open_alarms(self) -> list[Row]:
        """How many alarms stand for each box."""
        return await self._database.all(
            "SELECT node_id, COUNT(*) AS count FROM alarm WHERE ended_at IS NULL GROUP BY node_id"
        )

    async def names(self, what: str) -> list[Row]:
        """What nodes' numbers of gateways or profiles stand for."""
        return await self._database.all(
            "SELECT node_id, number, name FROM node_name WHERE what = ?", (what,)
        )

    # --- sums

    async def days(self, first_day: int, last_day: int) -> list[Row]:
        """The sums of each site and day, over its profiles, in a period."""
        return await self._database.all(
            "SELECT node_id, site, day, SUM(sessions) AS sessions, SUM(users) AS users,"
            " SUM(input_octets) AS input_octets, SUM(output_octets) AS output_octets,"
            " SUM(counted_s) AS counted_s FROM site_day WHERE day BETWEEN ? AND ?"
            " GROUP BY node_id, site, day ORDER BY day DESC, node_id, site",
            (first_day, last_day),
        )

    async def groups(self, day: int) -> list[Row]:
        """The sums of a day by site and profile."""
        return await self._database.all(
            "SELECT node_id, day, site, profile, sessions, users, input_octets, output_octets"
            " FROM site_day WHERE day = ?",
            (day,),
        )

    async def hours(self, node_id: str, site: int, first: int, last: int) -> list[Row]:
        """What was used in each hour (epoch seconds / 3600) of a place."""
        return await self._database.all(
            "SELECT hour, sessions, octets, peak FROM site_hour"
            " WHERE node_id = ? AND site = ? AND hour BETWEEN ? AND ? ORDER BY hour",
            (node_id, site, first, last),
        )

    async def events(
        self, node_id: str, kinds: Iterable[int], first_at: int, end_at: int
    ) -> list[Row]:
        """Records of these kinds with their octets, in a period, oldest first."""
        found: list[Row] = []
        for kind in kinds:
            found += await self._database.all(
                "SELECT e.kind, e.at, e.site, e.payload, r.public FROM event e"
                " LEFT JOIN record r ON r.node_id = e.node_id AND r.epoch = e.epoch"
                " AND r.seq = e.seq WHERE e.node_id = ? AND e.kind = ? AND e.at >= ? AND e.at < ?"
                " ORDER BY e.at, e.epoch, e.seq",
                (node_id, kind, first_at, end_at),
            )
        return sorted(found, key=lambda row: int(row["at"]))

    # --- the usage log

    async def filled_days(self, first_day: int, last_day: int) -> list[Row]:
        """The days of a period on which a node had usage, newest first: day, node_id."""
        return await self._database.all(
            "SELECT DISTINCT day, node_id FROM site_day WHERE day BETWEEN ? AND ?"
            " ORDER BY day DESC, node_id",
            (first_day, last_day),
        )

    async def sessions(
        self,
        node_id: str,
        day: int,
        sites: Sequence[int] | None,
        without: Sequence[int],
        below: tuple[int, int] | None,
        limit: int,
    ) -> list[Row]:
        """Records of a node's day below (epoch, seq), newest first; of these sites, None: of
        all, and of none in `without`."""
        wheres = ["node_id = ?", "day = ?"]
        values: list[Any] = [node_id, day]
        if sites is not None:
            wheres.append(f"site IN ({', '.join('?' * len(sites))})")
            values += sites
        if without:
            wheres.append(f"site NOT IN ({', '.join('?' * len(without))})")
            values += without
        if below is not None:
            wheres.append("(epoch < ? OR (epoch = ? AND seq < ?))")
            values += (below[0], *below)
        return await self._database.all(
            f"{_SESSION} WHERE {' AND '.join(wheres)} ORDER BY epoch DESC, seq DESC LIMIT ?",
            (*values, limit),
        )

    async def session(self, node_id: str, day: int, epoch: int, seq: int) -> Row | None:
        """One record."""
        return await self._database.one(
            f"{_SESSION} WHERE node_id = ? AND day = ? AND epoch = ? AND seq = ?",
            (node_id, day, epoch, seq),
        )

    async def of_pseudonym(
        self, node_id: str, pseudonym: bytes, first_day: int, last_day: int, limit: int
    ) -> list[Row]:
        """All records of one voucher's month."""
        return await self._database.all(
            f"{_SESSION} WHERE node_id = ? AND day BETWEEN ? AND ? AND pseudonym = ?"
            " ORDER BY day DESC, epoch DESC, seq DESC LIMIT ?",
            (node_id, first_day, last_day, pseudonym, limit),
        )

    # --- documents

    async def documents(self) -> list[Row]:
        """The newest version of each document: name, scope, version, note, made_at, made_by."""
        return await self._database.all(
            "SELECT d.name, d.scope, d.version, d.note, d.made_at, d.made_by FROM document d"
            " WHERE d.version = (SELECT MAX(k.version) FROM document k WHERE k.name = d.name"
            " AND k.scope = d.scope) ORDER BY d.name, d.scope"
        )

    async def document_states(self) -> list[Row]:
        """What each node says it holds, or would not take."""
        return await self._database.all(
            "SELECT node_id, name, scope, held_version, held_at, refused_version, refused_at,"
            " refused_why FROM document_state"
        )
