"""Policy contents: what the JSON of each kind of document means for this node's sites.

`check` refuses a document whole before anything of it is applied; `effective` adds all documents of
one name up. Nothing here changes anything.

profiles       {"profiles": {"warga": {"data_day": "500MB", "valid": "30d"}}}   as `profile set`
announcements  {"announcements": [{"words": "...", "starts_at": 0, "ends_at": null}]}
blocked        {"blocked": [{"mac": "02aabbccddee", "reason": "..."}]}
settings       {"site": {"helper": "...", "without_node": "closed"}}            as `site set`
reset          {"operator": "budi", "password_hash": "$argon2id$..."}           changed at sign-in

Announcements, blocked and settings may name `"sites": ["TJL"]`; without it they mean every site of
the node that the scope covers.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from portal import notices, place_values
from portal.admin import Admin
from portal.domain.document import Document
from portal.domain.profile import Profile, change, settings
from portal.errors import UserError
from portal.operators import NAME as OPERATOR_NAME
from radius.nas import canonical_mac

_PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HASH = re.compile(r"\$argon2id\$v=19\$m=([0-9]{1,6}),t=([0-9]{1,2}),p=1\$[A-Za-z0-9+/$]{20,200}")
_MOST_HASH_MEMORY_KIB = 65_536
_REASON_LONGEST = 120
_NOT_FROM_AFAR = ("zone",)
"""A site's days are cut by its zone: that is for who stands there."""


class ContentError(ValueError):
    """A content that cannot be applied here: what, seen, expected, in one sentence."""


class _Profiles(msgspec.Struct, forbid_unknown_fields=True):
    profiles: dict[str, dict[str, str]]


class _Announcement(msgspec.Struct, forbid_unknown_fields=True):
    words: str
    starts_at: int = 0
    ends_at: int | None = None


class _Announcements(msgspec.Struct, forbid_unknown_fields=True):
    announcements: list[_Announcement]
    sites: list[str] | None = None


class _BlockedPhone(msgspec.Struct, forbid_unknown_fields=True):
    mac: str
    reason: str


class _Blocked(msgspec.Struct, forbid_unknown_fields=True):
    blocked: list[_BlockedPhone]
    sites: list[str] | None = None


class _Settings(msgspec.Struct, forbid_unknown_fields=True):
    site: dict[str, str]
    sites: list[str] | None = None


class _Reset(msgspec.Struct, forbid_unknown_fields=True):
    operator: str
    password_hash: str


_FORMS: dict[str, type[msgspec.Struct]] = {
    "profiles": _Profiles,
    "announcements": _Announcements,
    "blocked": _Blocked,
    "settings": _Settings,
    "reset": _Reset,
}


@dataclass(frozen=True, slots=True)
class Notice:
    """An announcement that a document wants."""

    site_id: int
    words: str
    starts_at: int
    ends_at: int | None


@dataclass(slots=True)
class Effective:
    """What all documents of one name say together."""

    profiles: dict[str, dict[str, str]] = field(default_factory=dict)
    """Profile -> every setting as a text."""
    notices: list[Notice] = field(default_factory=list)
    blocked: dict[tuple[int, str], str] = field(default_factory=dict)
    """(site, MAC) -> reason."""
    sites: dict[str, dict[str, str]] = field(default_factory=dict)
    """Site code -> fields."""
    resets: dict[str, str] = field(default_factory=dict)
    """Operator -> hash of the password they get."""


def check(document: Document, admin: Admin) -> None:
    """Raise ContentError when the document cannot be applied at this node."""
    content = _content(document)
    try:
        _check_form(content)
        _site_ids(document, getattr(content, "sites", None), admin)
    except UserError as error:
        raise ContentError(str(error)) from error


def check_form(document: Document) -> None:
    """Raise ContentError when no node could apply the document, whatever its sites."""
    try:
        _check_form(_content(document))
    except UserError as error:
        raise ContentError(str(error)) from error


def _check_form(content: msgspec.Struct) -> None:
    match content:
        case _Profiles():
            for name, texts in content.profiles.items():
                if not _PROFILE_NAME.fullmatch(name):
                    raise ContentError(f"a profile is called {name[:40]!r}")
                _profile_texts(name, texts)
        case _Announcements():
            if len(content.announcements) > notices.KEPT_MOST:
                raise ContentError(
                    f"{len(content.announcements)} announcements; expected at most"
                    f" {notices.KEPT_MOST}"
                )
            for one in content.announcements:
                words = " ".join(one.words.split())
                if not 1 <= len(words) <= notices.WORDS_LONGEST:
                    raise ContentError(f"an announcement has {len(words)} letters")
                if one.ends_at is not None and one.ends_at <= one.starts_at:
                    raise ContentError("an announcement ends before it begins")
        case _Blocked():
            for phone in content.blocked:
                if canonical_mac(phone.mac) is None:
                    raise ContentError(f"a blocked phone is {phone.mac[:40]!r}; expected a MAC")
                if not 1 <= len(phone.reason.strip()) <= _REASON_LONGEST:
                    raise ContentError("a blocked phone has no reason, or a very long one")
        case _Settings():
            for name, text in content.site.items():
                if name in _NOT_FROM_AFAR:
                    raise ContentError(f"a site's {name} is not changed from afar")
                if name == "name" and not text.strip():
                    raise ContentError("a site's name is empty")
                place_values.site_value(name, text)
        case _Reset():
            found = _HASH.fullmatch(content.password_hash)
            if not OPERATOR_NAME.fullmatch(content.operator) or found is None:
                raise ContentError("a reset names no operator or holds no argon2id hash")
            if int(found[1]) > _MOST_HASH_MEMORY_KIB or int(found[2]) > 10:
                raise ContentError("a reset's hash asks for more memory or time than this box has")


def effective(documents: Iterable[Document], admin: Admin) -> Effective:
    """What documents of one name say together; the narrower scope comes last and holds."""
    result = Effective()
    for document in sorted(documents, key=lambda one: (one.precedence, one.scope)):
        content = _content(document)
        site_ids = _site_ids(document, getattr(content, "sites", None), admin)
        match content:
            case _Profiles():
                for name, texts in content.profiles.items():
                    result.profiles[name] = _profile_texts(name, texts)
            case _Announcements():
                result.notices += [
                    Notice(site_id, " ".join(one.words.split()), one.starts_at, one.ends_at)
                    for site_id in site_ids
                    for one in content.announcements
                ]
            case _Blocked():
                for phone in content.blocked:
                    mac = canonical_mac(phone.mac) or ""
                    for site_id in site_ids:
                        result.blocked[(site_id, mac)] = " ".join(phone.reason.split())
            case _Settings():
                for site_id in site_ids:
                    code = admin.sites_by_id[site_id].code
                    result.sites.setdefault(code, {}).update(content.site)
            case _Reset():
                result.resets[content.operator] = content.password_hash
    return result


def _content(document: Document) -> msgspec.Struct:
    try:
        return msgspec.convert(document.content, type=_FORMS[document.name])
    except msgspec.ValidationError as error:
        raise ContentError(f"the content of {document.name} has another form: {error}") from None


def _profile_texts(name: str, texts: Mapping[str, str]) -> dict[str, str]:
    """Every setting of a profile: what the document does not name has its default."""
    try:
        return settings(change(Profile(name), **texts))
    except (ValueError, TypeError) as error:
        raise ContentError(f"profile {name}: {error}") from error


def _site_ids(document: Document, codes: list[str] | None, admin: Admin) -> list[int]:
    """The sites of this node that a document means."""
    if document.scope.startswith("site "):
        here = [admin.site(document.scope.removeprefix("site ")).id]
    else:
        here = list(admin.sites_by_id)
    if codes is None:
        return here
    # A document for many nodes names sites of other nodes too.
    return [site_id for site_id in here if admin.sites_by_id[site_id].code in codes]
