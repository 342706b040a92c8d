"""Publishing: what the office wants of its nodes becomes a signed document, version by version.

Each change is a whole new version, checked by the same rules as at the node before it is signed.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from portal import passwords, policy_contents
from portal.domain import document
from portal.domain.document import ALL, NO_PREVIOUS, Document
from portal.domain.note import parse_note
from portal.domain.profile import Profile, change, settings
from portal.errors import DeskError, UserError
from portal.hub.documents import Documents
from portal.hub.review import SiteView
from portal.policy_contents import ContentError
from portal.store.db.either import Row
from portal.store.hub_review import ReviewStore

Change = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes the content of the next version out of the last one's."""


@dataclass(frozen=True, slots=True)
class Published:
    """The newest version of a document."""

    name: str
    scope: str
    version: int
    content: Mapping[str, Any]
    made_at: int
    made_by: str
    is_signed: bool = True
    """False: what is stored is not what this hub signed, and no node will believe it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A document at a site: what the office wants, and what the site's node has."""

    site: SiteView
    document: Published
    held_version: int
    held_at: int | None
    refused_why: str | None
    """Why its node would not take the newest version."""

    @property
    def state(self) -> str:
        """ "held", "refused", "older" (it has an earlier version), "none", "no_box"; "damaged": the
        newest version is not what this hub signed."""
        if self.site.node_id is None:
            return "no_box"
        if not self.document.is_signed:
            return "damaged"
        if self.held_version >= self.document.version:
            return "held"
        if self.refused_why is not None:
            return "refused"
        return "older" if self.held_version else "none"


class Publishing:
    """The office's documents."""

    def __init__(
        self,
        reading: ReviewStore,
        documents: Documents,
        *,
        now: Callable[[], int],
        random_below: Callable[[int], int],
    ) -> None:
        self._reading = reading
        self._documents = documents
        self._now = now
        self._random_below = random_below
        self._one_at_a_time = asyncio.Lock()

    async def all(self) -> list[Published]:
        """The newest version of every document."""
        rows = await self._reading.documents()
        return [_published(row, self._documents.is_ours(row["note"])) for row in rows]

    async def one(self, name: str, scope: str) -> Published | None:
        """The newest version of a document; None before the first."""
        for found in await self.all():
            if (found.name, found.scope) == (name, scope):
                return found
        return None

    async def wishes(self, sites: list[SiteView]) -> list[Wish]:
        """Every document at every site that it is for."""
        states = {
            (row["node_id"], row["name"], row["scope"]): row
            for row in await self._reading.document_states()
        }
        found = []
        for published in await self.all():
            for site in sites:
                if not covers(published.scope, site):
                    continue
                row = states.get((site.node_id, published.name, published.scope))
                is_refused = row is not None and row["refused_version"] == published.version
                found.append(
                    Wish(
                        site,
                        published,
                        0 if row is None else int(row["held_version"]),
                        None if row is None else row["held_at"],
                        row["refused_why"] if row is not None and is_refused else None,
                    )
                )
        return found

    async def publish(self, name: str, scope: str, change: Change, by: str) -> None:
        """Sign the next version of a document.

        Raises DeskError for a content that no node would take; then nothing is written.
        """
        async with self._one_at_a_time:
            before = await self.one(name, scope)
            content = change({} if before is None else dict(before.content))
            if _names_sites(name, scope):
                # A box may have sites of several groups, and knows of no group.
                content = {**content, "sites": await self._in_group(scope)}
            try:
                policy_contents.check_form(Document(name, scope, 1, 0, NO_PREVIOUS, content))
            except ContentError as error:
                raise DeskError("document_content", why=str(error)) from error
            try:
                await self._documents.publish(name, scope, content, by=by, now=self._now())
            except UserError as error:
                raise DeskError("document_content", why=str(error)) from error

    async def follow_group(self, group: str, by: str) -> None:
        """After sites came into a group or left it: sign anew what is for the group, where that
        names other sites now."""
        scope = f"group {group}"
        for found in await self.all():
            if found.scope != scope or not _names_sites(found.name, scope):
                continue
            if found.content.get("sites") != await self._in_group(scope):
                await self.publish(found.name, scope, lambda content: content, by)

    async def _in_group(self, scope: str) -> list[str]:
        group = scope.removeprefix("group ")
        rows = await self._reading.sites()
        return sorted(row["code"] for row in rows if row["group_name"] == group)

    async def reset(self, scope: str, operator: str, by: str) -> str:
        """Give an operator of a site a new password; return it. Only its hash travels."""
        password = passwords.make(self._random_below)
        password_hash = await asyncio.to_thread(passwords.hashed, password)
        content = {"operator": operator.strip().lower(), "password_hash": password_hash}
        await self.publish("reset", scope, lambda _: content, by)
        return password


def _names_sites(name: str, scope: str) -> bool:
    return scope.startswith("group ") and name in ("announcements", "blocked", "settings")


def covers(scope: str, site: SiteView) -> bool:
    """Whether a scope means this site."""
    return scope in (ALL, f"group {site.group}", f"site {site.code}")


def set_entry(what: str, key: str, entry: Mapping[str, Any]) -> Change:
    """Add an entry to a list of a content, in the place of the one with the same `key`."""

    def changed(content: dict[str, Any]) -> dict[str, Any]:
        kept = [one for one in content.get(what, []) if one.get(key) != entry[key]]
        return {**content, what: [*kept, dict(entry)]}

    return changed


def remove_entry(what: str, key: str, value: str) -> Change:
    """Take the entry with this `key` out of a list of a content."""

    def changed(content: dict[str, Any]) -> dict[str, Any]:
        kept = [one for one in content.get(what, []) if str(one.get(key)) != value]
        return {**content, what: kept}

    return changed


def set_profile(name: str, texts: Mapping[str, str]) -> Change:
    """Have a profile with these settings, the rest as its default.

    Raises DeskError for a name or a value that no profile has.
    """
    given = {field: text for field, text in texts.items() if text}
    try:
        settings(change(Profile(name), **given))
    except (ValueError, TypeError) as error:
        raise DeskError("document_content", why=str(error)) from error

    def changed(content: dict[str, Any]) -> dict[str, Any]:
        return {"profiles": {**content.get("profiles", {}), name: given}}

    return changed


def remove_profile(name: str) -> Change:
    """No longer say anything about a profile; nodes keep what they have."""

    def changed(content: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in content.get("profiles", {}).items() if key != name}
        return {"profiles": kept}

    return changed


def set_settings(texts: Mapping[str, str]) -> Change:
    """Have these settings of sites and no others; an empty one is left to the village."""
    given = {field: text for field, text in texts.items() if text}
    return lambda content: {**content, "site": given}


def _published(row: Row, is_signed: bool) -> Published:
    parsed = document.parse(parse_note(row["note"]).text)
    return Published(
        parsed.name,
        parsed.scope,
        parsed.version,
        parsed.content,
        row["made_at"],
        row["made_by"],
        is_signed,
    )
