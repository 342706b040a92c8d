"""Gateway doctor: the page that watches a gateway go live and says what is right and wrong.

Opening it begins to watch; a link looks again, no script is needed. A session is cut off for the
test only by the pages that ask before (portal/web/operator/online.py).
"""

from starlette.responses import Response

from portal.admin import Admin
from portal.doctor.doctor import Doctor
from portal.doctor.evidence import State
from portal.errors import UserError
from portal.web.operator import doctor_words
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit
from portal.web.operator.house import House
from portal.web.operator.online import LIST as ONLINE

PATH = "/operator/gateways/{gateway}/doctor"
_SIGNS = {State.OK: "ok", State.WARN: "low", State.BAD: "bad"}


def pages(desk: Desk, house: House) -> list[Page]:
    """Every address of these pages."""
    found = DoctorPages(desk, house.admin, house.doctor)
    return [
        Page(PATH, found.look, Need.ADMIN),
        Page(PATH, found.begin_anew, Need.ADMIN, ("POST",)),
    ]


class DoctorPages:
    """What the doctor says of one gateway."""

    def __init__(self, desk: Desk, admin: Admin, doctor: Doctor) -> None:
        self._desk = desk
        self._admin = admin
        self._doctor = doctor

    def _name(self, visit: Visit) -> str:
        """The gateway's name, of a site this person sees; else NotHere."""
        name = str(visit.request.path_params["gateway"])
        try:
            gateway = self._admin.gateway(name)
        except UserError:
            raise NotHere from None
        visit.require_site(gateway.site_id)
        return gateway.name

    async def look(self, visit: Visit) -> Response:
        """What was found so far."""
        name = self._name(visit)
        report = self._doctor.look(name)
        t, here = visit.t, PATH.format(gateway=name)
        rows = [
            {**doctor_words.told(t, finding), "sign": _SIGNS.get(finding.state)}
            for finding in report.findings
        ]
        test = report.testable
        return self._desk.page(
            visit,
            "gateway_doctor",
            {
                "name": name,
                "here": here,
                "back": here.removesuffix("/doctor"),
                "label": report.label,
                "address": report.gateway.address,
                "watched": t.duration(round(report.watched_s)),
                "summary": doctor_words.summary(t, report),
                "kind": "bad" if not report.is_good else "good" if report.is_done else "",
                "online": report.online,
                "rows": rows,
                "test": None
                if test is None
                else {
                    "who": test.serial or (test.mac or ""),
                    "href": f"{ONLINE}/{test.session_id}",
                },
            },
        )

    async def begin_anew(self, visit: Visit) -> Response:
        """Forget what was seen, after a change at the router."""
        name = self._name(visit)
        self._doctor.look(name, begins_anew=True)
        return self._desk.go(PATH.format(gateway=name))
