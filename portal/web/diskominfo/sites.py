"""Sites page: every site of the office, its state now, today's figures, until when data goes."""

from starlette.responses import Response

from portal.domain.hours import day_of
from portal.hub.review import Figures, SiteView
from portal.web.diskominfo.console import SITES, Console, moment, until
from portal.web.operator.desk import Need, Page, Visit

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


def pages(console: Console) -> list[Page]:
    """The pages of this module."""
    desk, office = console.desk, console.office

    async def sites(visit: Visit) -> Response:
        """GET: all sites by name."""
        views = await office.review.sites()
        group = visit.query.get("group", "")
        shown = [one for one in views if not group or one.group == group]
        newest = [one.data_until_at for one in shown if one.data_until_at is not None]
        return desk.page(
            visit,
            "sites",
            {
                "rows": [row(visit, one) for one in shown],
                "group": group,
                "groups": sorted({one.group for one in views if one.group}),
                "alarms": sum(one.alarms for one in shown),
                # What all sites together show is complete only until the earliest of them.
                "until": until(visit.t, min(newest, default=None), visit.now, visit.zone),
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
        "seen": moment(t, site.last_seen_at, visit.now, visit.zone),
        "until": moment(t, site.data_until_at, visit.now, site.zone),
        "verified": verified(visit, site),
        "alarms": site.alarms,
        **figures(visit, site.today, is_known=is_today),
    }


def verified(visit: Visit, site: SiteView) -> str:
    """How far the hub has checked the site's ledger, in words."""
    if site.cosigned_at is None:
        return visit.t("review.not_verified")
    at = visit.t.moment(site.cosigned_at, visit.now, visit.zone)
    return visit.t("review.verified", n=site.cosigned_size, at=at)


def figures(visit: Visit, found: Figures, *, is_known: bool) -> dict[str, str]:
    """Sums in words; a dash where nothing has arrived, which is not the same as nothing used; or
    that they are of too few people to be shown."""
    t = visit.t
    if not is_known and not found.sessions and not found.octets:
        return {"users": NOT_KNOWN, "sessions": NOT_KNOWN, "data": NOT_KNOWN}
    if found.is_hidden_from(visit.operator.role):
        few = t("review.few")
        return {"users": few, "sessions": few, "data": few}
    return {
        "users": t.number(found.users),
        "sessions": t.number(found.sessions),
        "data": t.octets(found.octets),
    }
