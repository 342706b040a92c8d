"""Print words: what cards, tickets and posters say, from a profile and a site.

What residents read is printed in Indonesian, whatever language the operator reads.
"""

from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from portal.admin import Site
from portal.domain.profile import WINDOWS, Profile, data_quota, time_quota
from portal.printing import wifi_code
from portal.sheets.layouts import PosterWords, Sheet
from portal.web.operator.card_words import gives
from portal.web.text import Translator


def wifi_name(site: Site) -> str:
    """The network's name as phones list it."""
    return site.wifi_name or site.name


def address(portal_url: str) -> str:
    """The portal's address as people type it: with the scheme, else Chrome searches for it."""
    parts = urlsplit(portal_url)
    return f"{parts.scheme}://{parts.netloc}/"


def gives_in_full(t: Translator, profile: Profile, now: int, zone: ZoneInfo) -> str:
    """What a card gives, in one sentence, and a second one where hours limit it."""
    text = gives(t, profile)
    if profile.hours is not None:
        text += " " + t("print.hours", hours=t.hours(profile.hours, now, zone))
    return text


def gives_in_short(t: Translator, profile: Profile) -> str:
    """What a card gives, in as few words as a small card has room for: `2 GB, 7 hari`."""
    parts = []
    for window in reversed(WINDOWS):
        octets, seconds = data_quota(profile, window), time_quota(profile, window)
        if octets is not None:
            parts.append(t(f"print.short_{window}", amount=t.quota(octets)))
        if seconds is not None:
            parts.append(t(f"print.short_{window}", amount=t.duration(seconds)))
    if not parts:
        parts.append(t("print.short_all"))
    if profile.valid_s is not None:
        parts.append(t.duration(profile.valid_s))
    return ", ".join(parts)


def sheet(
    t: Translator,
    site: Site,
    profile: Profile,
    use_before_at: int | None,
    *,
    zone: ZoneInfo,
    now: int,
    portal_url: str,
    batch: str = "",
    note: str = "",
) -> Sheet:
    """What all cards of a batch say. `use_before_at`: the first second after the last day."""
    use_before = use_before_short = ""
    if use_before_at is not None:
        date = t.last_date(use_before_at, zone).replace(" ", "\u00a0")
        use_before = t("print.use_before", date=date)
        use_before_short = t("print.use_before_short", date=t.short_date(use_before_at - 1, zone))
    return Sheet(
        site_name=site.name,
        wifi_name=site.wifi_name,
        gives=gives_in_full(t, profile, now, zone),
        gives_short=gives_in_short(t, profile),
        use_before=use_before,
        use_before_short=use_before_short,
        steps=steps(t, site),
        status=t("print.status", address=address(portal_url)),
        help=t("print.help", helper=site.helper) if site.helper else "",
        free=t("print.free"),
        head_test=t("print.head_test"),
        batch=f"{batch} \u00b7 {note}" if batch and note else batch,
    )


def steps(t: Translator, site: Site) -> tuple[str, str, str]:
    """The three steps from a card to the internet."""
    return (
        t("print.step_wifi", wifi=wifi_name(site)),
        t("print.step_page"),
        t("print.step_code"),
    )


def poster(t: Translator, site: Site, *, zone: ZoneInfo, now: int, portal_url: str) -> PosterWords:
    """What the wall poster of a site says."""
    name = wifi_name(site)
    hours = t.hours(site.opening_hours, now, zone) if site.opening_hours else None
    if site.counter:
        counter = site.counter if hours is None else f"{site.counter}, {hours}"
    else:
        counter = t("help.nobody") if hours is None else t("print.poster_office", hours=hours)
    facts = [(t("print.poster_card"), counter)]
    power_hours = site.power_hours
    power = site.power_window if power_hours is None else t.hours(power_hours, now, zone)
    if power:
        facts.append((t("print.poster_power"), power))
    if site.helper:
        facts.append((t("print.poster_help"), site.helper))
    return PosterWords(
        site_name=site.name,
        wifi_name=name,
        wifi_code=wifi_code(name),
        free=t("print.poster_free"),
        scan=t("print.poster_scan"),
        steps=(
            t("print.step_wifi", wifi=name),
            t("print.poster_step_page"),
            t("print.poster_step_code"),
        ),
        address_label=t("print.poster_address"),
        address=address(portal_url),
        facts=tuple(facts),
    )
