"""People of the office: added, changed, given a new password and removed by admins, each a deed."""

from tests.unit.hub_pages.office import Office, OfficePerson
from tests.unit.web.village import Page


def given(page: Page) -> str:
    """The password that a page shows."""
    (password,) = [word for word in page.text.split() if word.count("-") == 3]
    return password


def test_somebody_new_signs_in_with_the_shown_password_and_must_change_it(hub: Office) -> None:
    admin = hub.enter("ketua")
    form = admin.get("/review/people")
    page = admin.submit(form, name="Sari", role="reviewer")
    newcomer = hub.sign_in("sari", given(page))
    assert newcomer.request("GET", "/review/").headers["location"].startswith("/review/me/password")
    # The same form once more makes no second person and shows no password.
    again = admin.submit(form, name="Sari", role="reviewer")
    assert given(page) not in again.text
    deed = hub.deeds()[-2]
    assert (deed["who"], deed["deed"], deed["object"]) == ("ketua", "operator.add", "sari")
    assert given(page) not in str(hub.deeds())


def test_a_name_that_is_taken_or_no_name_is_said_so(hub: Office) -> None:
    admin = hub.enter("ketua")
    for name in ("tinjau", "dua kata", ""):
        assert admin.submit(admin.get("/review/people"), name=name, role="admin").alert


def test_a_role_holds_from_the_next_click_on(hub: Office) -> None:
    admin, reviewer = hub.enter("ketua"), hub.enter("tinjau")
    assert reviewer.request("GET", "/review/audit").status == 403
    form = admin.get("/review/people/tinjau")
    assert admin.submit(form, role="admin", reason="").alert
    page = admin.submit(form, role="admin", reason="menggantikan ketua")
    assert "Peran tinjau diubah" in page.text
    assert reviewer.request("GET", "/review/audit").status == 200
    deed = hub.deeds()[-1]
    assert (deed["deed"], deed["reason"]) == ("operator.change", "menggantikan ketua")


def test_a_new_password_ends_what_was_open(hub: Office) -> None:
    admin, reviewer = hub.enter("ketua"), hub.enter("tinjau")
    page = admin.submit(admin.get("/review/people/tinjau"), form=2)
    assert reviewer.request("GET", "/review/").status == 303
    hub.sign_in("tinjau", given(page))


def test_who_is_removed_is_out_and_their_deeds_stay(hub: Office) -> None:
    admin, reviewer = hub.enter("ketua"), hub.enter("tinjau")
    reviewer.get("/review/usage")
    form = admin.get("/review/people/tinjau")
    assert admin.submit(form, form=3, name="ketua").alert
    assert "tinjau tidak bisa masuk lagi" in admin.submit(form, form=3, name="tinjau").text
    assert reviewer.request("GET", "/review/").status == 303
    text = admin.get("/review/audit?who=tinjau").text
    assert "Membaca catatan pemakaian" in text and "ketua tidak" not in text


def test_the_last_admin_can_neither_leave_nor_lower_themselves(hub: Office) -> None:
    admin = hub.enter("ketua")
    assert "akun Anda sendiri" in admin.get("/review/people/ketua").text
    for what in ("role", "password", "remove"):
        fields = {"csrf": admin.csrf(), "role": "reviewer", "reason": "coba", "name": "ketua"}
        page = admin.send(f"/review/people/ketua/{what}", fields)
        assert page.alert
    assert OfficePerson(hub, "ketua").request("GET", "/review/people").status == 303
