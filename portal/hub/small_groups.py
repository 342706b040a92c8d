"""Small groups: which figures and records are of too few cards to be shown to a reviewer.

The group is the cards of one site on one day, as one node told of them. Below LEAST_GROUP neither
its sums nor its single records are shown. In a larger group a record tells its profile only where
that does not single out few: the records without one are never of fewer than LEAST_GROUP cards
either, so nobody gets at them by taking the others away. Nothing the office shows is a sum over
several of these groups; whoever adds such a sum must hide it where one of its groups is hidden.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from portal.store.db.either import Row

LEAST_GROUP = 5
"""What fewer cards than this did is hidden from reviewers."""
SEES_ALL = "admin"
"""The role from which nothing is hidden."""

Group = tuple[str, int, int]
"""Node, day (ordinal), the node's number of the site."""


def is_small(users: int, *, is_used: bool) -> bool:
    """Whether a group that used something is too small; also records that no card is known of."""
    return is_used and users < LEAST_GROUP


def told_profiles(users: Mapping[int, int]) -> frozenset[int]:
    """The profiles that may stand at the records of a group: profile -> its cards."""
    by_size = sorted(users, key=lambda profile: (users[profile], profile))
    hidden = 0
    for place, profile in enumerate(by_size):
        # Enough cards on both sides: those whose profile is told, and the others together.
        if users[profile] >= LEAST_GROUP and (hidden == 0 or hidden >= LEAST_GROUP):
            return frozenset(by_size[place:])
        hidden += users[profile]
    return frozenset()


@dataclass(frozen=True, slots=True)
class Groups:
    """What somebody may see of some days."""

    small: frozenset[Group] = frozenset()
    told: Mapping[Group, frozenset[int]] | None = None
    """The profiles that are told; None: all of them everywhere."""

    def small_sites(self, node_id: str, day: int, wanted: Iterable[int] | None) -> list[int]:
        """The sites of a node's day that are hidden, highest number first; of these sites only,
        None: of all."""
        found = {site for node, when, site in self.small if (node, when) == (node_id, day)}
        return sorted(found if wanted is None else found & set(wanted), reverse=True)

    def tells(self, group: Group, profile: int) -> bool:
        """Whether the profile may stand at a record of this group."""
        return self.told is None or profile in self.told.get(group, frozenset())


def groups_of(rows: Iterable[Row]) -> Groups:
    """What reviewers may see: from sums by node, site, day and profile."""
    users: dict[Group, dict[int, int]] = {}
    used: set[Group] = set()
    for row in rows:
        group = (str(row["node_id"]), int(row["day"]), int(row["site"]))
        users.setdefault(group, {})[int(row["profile"])] = int(row["users"])
        if int(row["sessions"]) or int(row["input_octets"]) or int(row["output_octets"]):
            used.add(group)
    small = frozenset(
        group
        for group, of_group in users.items()
        if is_small(sum(of_group.values()), is_used=group in used)
    )
    told = {group: told_profiles(each) for group, each in users.items() if group not in small}
    return Groups(small, told)
