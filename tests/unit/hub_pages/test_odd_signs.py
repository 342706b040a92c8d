"""Odd signs in what is typed or asked for: said to be wrong or kept, never a fault of ours."""

import pytest

from tests.unit.hub_pages.office import Office

NUL = "\x00"


@pytest.mark.parametrize(
    "path",
    [
        "/review/audit?who=%00",
        "/review/?q=%00&group=%00&state=%00",
        "/review/usage?below=%00",
        "/review/documents/profiles?entry=%00",
    ],
)
def test_a_nul_in_an_address_is_no_fault(hub: Office, path: str) -> None:
    assert hub.enter("ketua").request("GET", path).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/review/site/%00",
        "/review/boxes/box/%00",
        "/review/people/%00",
        "/review/usage?at=%00",
        "/review/documents/profiles?scope=site+%00",
        "/review/alarms/one?node=%00&kind=%00&key=%00",
    ],
)
def test_nothing_is_called_nul(hub: Office, path: str) -> None:
    assert hub.enter("ketua").request("GET", path).status == 404


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/review/people/tinjau/role", {"role": "admin", "reason": f"sebab{NUL}lain"}),
        ("/review/site/TJL/settings", {"name": f"Desa{NUL}Tanjung"}),
        ("/review/documents/announcements", {"scope": "all", "words": f"Libur{NUL}besok"}),
        ("/review/documents/reset", {"site": "TJL", "operator": f"sari{NUL}"}),
        ("/review/boxes", {"code": "NUL", "name": f"Desa{NUL}"}),
    ],
)
def test_a_nul_in_a_form_is_no_fault(hub: Office, path: str, fields: dict[str, str]) -> None:
    person = hub.enter("ketua")
    page = person.send(path, {"csrf": person.csrf(), "once": "x", **fields})
    assert page.status in (200, 303, 400)
