"""Data quotas at gateways whose accounting has no octets: they cannot be kept, so they are refused.

uspot reports times only (radius/nas/uspot.py). A card with a data quota would be unlimited there.
"""

from portal.admin import Admin, Gateway, Site
from portal.domain.profile import WINDOWS, Profile, data_quota


def has_data_quota(profile: Profile) -> bool:
    """Whether cards of this profile have any data quota."""
    return any(data_quota(profile, window) is not None for window in WINDOWS)


def is_uncounted(admin: Admin, gateway: Gateway, profile: Profile) -> bool:
    """Whether this gateway would let cards of this profile use data that nobody counts."""
    return not admin.families[gateway.family].SENDS_OCTETS and has_data_quota(profile)


def is_for_no_gateway(admin: Admin, site: Site, profile: Profile) -> bool:
    """Whether every gateway of a site would refuse cards of this profile; not where it has none."""
    gateways = [one for one in admin.gateways_by_id.values() if one.site_id == site.id]
    return bool(gateways) and all(is_uncounted(admin, one, profile) for one in gateways)


def gateway_advice(admin: Admin, gateway: Gateway) -> list[str]:
    """One plain sentence for who sets this gateway up, when there are cards it will refuse."""
    refused = sorted(
        name
        for name, profile in admin.profiles_by_name.items()
        if is_uncounted(admin, gateway, profile)
    )
    if not refused:
        return []
    label = admin.families[gateway.family].LABEL
    return [
        f"Cards with a data quota will be refused at gateway {gateway.name!r}, because {label}"
        f" counts no data; give out cards with a time quota there, not of {', '.join(refused)}."
    ]


def profile_advice(admin: Admin, profile: Profile) -> list[str]:
    """One plain sentence for who sets this profile, when there are gateways that will refuse it."""
    refusing = sorted(
        gateway.name
        for gateway in admin.gateways_by_id.values()
        if is_uncounted(admin, gateway, profile)
    )
    if not refusing:
        return []
    return [
        f"Cards of profile {profile.name!r} will be refused at {', '.join(refusing)}, which"
        " counts no data; a time quota works there."
    ]
