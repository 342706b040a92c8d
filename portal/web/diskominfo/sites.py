"""Sites page: every site of the office, its state now, today's figures, until when data goes.

What needs somebody comes first: a regency has some 160 sites, of which a few are in trouble.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.responses import Response

from portal.domain.hours import day_of
from portal.hub.review import Figures, SiteView
from portal.web.diskominfo.console import SITES, Console, brief, earliest, until
from portal.web.operator.desk import Need, Page, Visit, whole_number

PAGE = 50
STATES = ("gone", "late", "revoked", "pending", "new", "none", "up")
"""The worst first."""
ORDERS = ("worst", "name", "cards")
KINDS = {
    "up": "ok",
    "late": "low",
    "new": "low",
    "pending": "low",
    "gone": "bad",
    "revoked": "bad",
    "none": "low",
}
"""A site's state -> the sign beside its words."""
NOT_KNOWN = "\u2013"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which sites, and in which order."""

    group: str
    state: str
    words: str
    order: str

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "_Wanted":
        order = query.get("order", "")
        words = " ".join(query.get("q", "").split())[:80]
        order = order if order in ORDERS else ORDERS[0]
        return cls(query.get("group", ""), query.get("state", ""), words, order)

    @property
    def is_narrow(self) -> bool:
        """Whether something of the form was filled in."""
        return bool(self.group or self.words or self.order != ORDERS[0])

    def address(self, **other: str) -> str:
        """Where these are shown, or others."""
        values = {"group": self.group, "state": self.state, "q": self.words, "order": self.order}
        kept = {name: value for name, value in {**values, **other}.items() if value}
        if kept.get("order") == ORDERS[0]:
            del kept["order"]
        return f"{SITES}?{urlencode(kept)}" if kept else SITES

    def among(self, site: SiteView) -> bool:
        """Whether a site has the group and the words, in its name or code."""
        known = f"{site.name} {site.code}".casefold()
        is_named = all(word in known for word in self.words.casefold().split())
        return is_named and self.group in ("", site.group)

    def sorted(self, sites: Sequence[SiteView], role: str) -> list[SiteView]:
        """The sites in the wanted order, of the same rank by name."""
        if self.order == "worst":
            return sorted(sites, key=lambda one: (-one.alarms, STATES.index(one.state)))
        if self.order == "cards":
            # What is hidden must not be seen by its place either.
            return sorted(
                sites, key=lambda one: 0 if one.today.is_hidden_from(role) else -one.today.users
            )
        return list(sites)


def pages(console: Console) -> list[Page]:
    """The pages of this module."""
    desk, office = console.desk, console.office

    async def sites(visit: Visit) -> Response:
        """GET: what is asked for, fifty at a time."""
        views = await office.review.sites()
        wanted = _Wanted.of(visit.query)
        among = [one for one in views if wanted.among(one)]
        counts = Counter(one.state for one in among)
        chosen = [one for one in among if wanted.state in ("", one.state)]
        shown = wanted.sorted(chosen, visit.operator.role)
        start = min(whole_number(visit.query.get("from")) or 0, max(len(shown) - 1, 0))
        start -= start % PAGE
        return desk.page(
            visit,
            "sites",
            {
                "rows": [row(visit, one) for one in shown[start : start + PAGE]],
                "wanted": wanted,
                "groups": sorted({one.group for one in views if one.group}),
                "orders": [(one, visit.t(f"review.order.{one}")) for one in ORDERS],
                "total": visit.t("review.sites_count", n=len(among)),
                "all": wanted.address(state=""),
                "states": [
                    {
                        "kind": KINDS[state],
                        "said": visit.t("review.state_count", n=counts[state], state=said),
                        "href": wanted.address(state=state),
                        "is_here": state == wanted.state,
                    }
                    for state in STATES
                    if counts[state]
                    for said in [visit.t(f"review.state.{state}")]
                ],
                "has_any": bool(views),
                "alarms": sum(one.alarms for one in among),
                # What all sites together show is complete only until the earliest of them.
                "until": until(visit.t, earliest(shown), visit.now, visit.zone),
                "before": wanted.address(**{"from": str(start - PAGE)}) if start else None,
                "after": wanted.address(**{"from": str(start + PAGE)})
                if start + PAGE < len(shown)
                else None,
            },
        )

    return [Page(SITES, sites, Need.SEE)]


def row(visit: Visit, site: SiteView) -> dict[str, object]:
    """A site as a line of the table."""
    t, data_at = visit.t, site.data_until_at
    today = day_of(visit.now, site.zone)
    is_today = data_at is not None and day_of(data_at, site.zone) == today
    return {
        "code": site.code,
        "name": site.name,
        "group": site.group,
        "kind": KINDS[site.state],
        "state": t(f"review.state.{site.state}"),
        "seen": brief(t, site.last_seen_at, visit.now, visit.zone),
        "until": brief(t, site.data_until_at, visit.now, visit.zone),
        "verified": visit.t("review.not_verified")
        if site.cosigned_at is None
        else visit.t(
            "review.verified",
            n=site.cosigned_size,
            at=brief(t, site.cosigned_at, visit.now, visit.zone),
        ),
        "alarms": site.alarms,
        **figures(visit, site.today, is_known=is_today),
    }


def verified(visit: Visit, site: SiteView) -> str:
    """How far the hub has checked the site's ledger, in words."""
    if site.cosigned_at is None:
        return visit.t("review.not_verified")
    at = visit.t.moment(site.cosigned_at, visit.now, visit.zone)
    return visit.t("review.verified", n=site.cosigned_size, at=at)


def figures(visit: Visit, found: Figures, *, is_known: bool) -> dict[str, object]:
    """Sums in words; a dash where nothing has arrived, which is not the same as nothing used; or
    that they are of too few people to be shown."""
    t = visit.t
    if not is_known and not found.sessions and not found.octets:
        return {"is_few": False, "users": NOT_KNOWN, "sessions": NOT_KNOWN, "data": NOT_KNOWN}
    if found.is_hidden_from(visit.operator.role):
        return {"is_few": True}
    return {
        "is_few": False,
        "users": t.number(found.users),
        "sessions": t.number(found.sessions),
        "data": t.octets(found.octets),
    }
