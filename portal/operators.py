"""Operators: who may sign in at the desk, with which password or PIN, and how often they may err.

Passwords and PINs are argon2id hashes, computed one at a time and off the event loop: on a small
box each takes a third of a second and 19 MiB. Who errs waits; who has not erred, and who comes in a
browser they signed in with before, is never made to wait for the errors of others.
"""

import asyncio
import hashlib
import json
import logging
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from portal import passwords
from portal.admin import Admin
from portal.audit import COMMAND_LINE
from portal.cards.finding import reason_of
from portal.errors import DeskError
from portal.sign_in_misses import MissStore, SignInMisses
from portal.store.audit import Deed
from portal.store.db import DatabaseError, Row, trouble
from portal.store.operators import OperatorStore

log = logging.getLogger(__name__)

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
ROLES = ("admin", "operator", "reviewer")
SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 200
PIN = re.compile(r"[0-9]{6}")
PIN_MISSES = 5
"""Wrong PINs in a row; then the browser must give the password again."""
BROWSER_KEPT_S = 90 * 86_400
"""A browser that nobody signed in with for so long must give the password again."""
MOST_WAITING = 8
"""Passwords waiting to be hashed; further ones are told to come back."""
BUSY_WAIT_S = 5
_COMMON = frozenset(
    "1234567890 0123456789 password12 passwordku password123 qwertyuiop katasandi1 katasandi123"
    " indonesia1 indonesia45 bismillah1 rahasia123 pesisir123 diskominfo operator12 admin12345"
    " administrator 1111111111 0000000000 sayangkamu".split()
)


@dataclass(frozen=True, slots=True, repr=False)
class Operator:
    """Somebody who may sign in."""

    name: str
    role: str
    """"admin" (the whole node), "operator", or "reviewer" (reads only)."""
    site_ids: frozenset[int] | None
    """The sites they work at; None: every site of the node."""
    password_hash: str
    must_change: bool
    """The password was given by somebody else and must be changed before anything else."""
    created_at: int

    @property
    def site_id(self) -> int | None:
        """The site under which the audit files what they do about themselves; None: the node."""
        return None if self.site_ids is None else min(self.site_ids)

    def sees(self, site_id: int | None) -> bool:
        """Whether what belongs to this site is there for them; None is the node as a whole."""
        return self.site_ids is None or site_id in self.site_ids


class SignInRefused(DeskError):
    """A sign-in that was refused; `wait_s` seconds must pass before the next try, 0: none."""

    def __init__(self, key: str, wait_s: int = 0) -> None:
        super().__init__(key)
        self.wait_s = wait_s


def _operator(row: Mapping[str, Any] | Row) -> Operator:
    columns: dict[str, Any] = dict(row)
    columns["must_change"] = bool(columns["must_change"])
    if columns["site_ids"] is not None:
        columns["site_ids"] = frozenset(json.loads(columns["site_ids"]))
    return Operator(**columns)


class PeopleStore(Protocol):
    """Where people who may sign in are kept; every change is recorded with it."""

    def operators(self) -> Sequence[Mapping[str, Any] | Row]:
        """All by name: the fields of Operator."""

    async def add(
        self,
        name: str,
        role: str,
        site_ids: Collection[int] | None,
        password_hash: str,
        must_change: bool,
        at: int,
        deed: Deed,
    ) -> None:
        """Add somebody whose name is free; `site_ids` None: they belong to no site, or to all."""

    async def change(
        self, name: str, role: str, site_ids: Collection[int] | None, at: int, deed: Deed
    ) -> None:
        """Set what somebody may do and where."""

    async def set_password(
        self,
        name: str,
        password_hash: str,
        must_change: bool,
        kept_browser: bytes | None,
        at: int,
        deed: Deed,
    ) -> None:
        """Set a password; every browser with a PIN but `kept_browser` must ask for it again."""

    async def remove(self, name: str, at: int, deed: Deed) -> None:
        """Remove somebody."""

    async def record(self, at: int, deed: Deed) -> None:
        """Write a deed that changes nothing else."""


class Operators:
    """Who may sign in, in memory, and their sign-ins: a node's operators, a hub's reviewers."""

    def __init__(
        self,
        store: PeopleStore,
        admin: Admin | None,
        *,
        pins: OperatorStore | None = None,
        misses: MissStore | None = None,
        roles: Sequence[str] = ROLES,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        random_below: Callable[[int], int],
        random_token: Callable[[int], str],
    ):
        """`admin`: the sites people may be of, None where there are none. `pins`: where browsers
        are kept in which a PIN is enough, None where it never is. `misses`: where wrong passwords
        are kept, None where a restart forgets them."""
        self._store = store
        self._admin = admin
        self._pins = pins
        self._roles = tuple(roles)
        self._now = now
        self._elapsed_s = elapsed_s
        self._random_below = random_below
        self._random_token = random_token
        self._misses = SignInMisses(misses, now=now, elapsed_s=elapsed_s)
        self._hashing = asyncio.Lock()
        self._waiting = 0
        self._changing = asyncio.Lock()
        self._nobody: str | None = None
        self._by_name = {row["name"]: _operator(row) for row in store.operators()}

    # -- reading ---------------------------------------------------------------------------

    def all(self) -> list[Operator]:
        """All operators by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def find(self, name: str) -> Operator | None:
        """The operator of this name."""
        return self._by_name.get(name)

    def operator(self, name: str) -> Operator:
        """The operator of this name; raises DeskError when there is none."""
        found = self._by_name.get(name)
        if found is None:
            raise DeskError("operator_unknown", name=name[:40])
        return found

    # -- who may sign in -------------------------------------------------------------------

    async def add(
        self, name: str, role: str, sites: Sequence[str] = (), by: str = COMMAND_LINE
    ) -> str:
        """Add an operator of some sites, or of every site where none is named; return the password,
        which must be changed.

        Raises DeskError for a bad or taken name, an unknown role, an admin of one site, and
        UserError for an unknown site.
        """
        async with self._changing:
            if not NAME.fullmatch(name):
                raise DeskError("operator_name", name=name[:40])
            site_ids = self._site_ids(role, sites)
            if name in self._by_name:
                raise DeskError("operator_taken", name=name)
            password = passwords.make(self._random_below)
            now = self._now()
            added = Operator(name, role, site_ids, await self._hashed(password), True, now)
            await self._store.add(
                added.name,
                added.role,
                added.site_ids,
                added.password_hash,
                True,
                now,
                Deed(by, "operator.add", added.site_id, name, details=self._duty(added)),
            )
            self._by_name[name] = added
            return password

    async def change(
        self, name: str, role: str, sites: Sequence[str], reason: str, by: str = COMMAND_LINE
    ) -> Operator:
        """Set what an operator may do and at which sites, none named: at every one. It holds from
        their next click on.

        Raises DeskError without a reason, for oneself, for the last admin, when nothing would
        change, and as `add`.
        """
        reason = reason_of(reason)
        async with self._changing:
            operator = self.operator(name)
            if operator.name == by:
                raise DeskError("operator_self_change")
            changed = replace(operator, role=role, site_ids=self._site_ids(role, sites))
            if changed == operator:
                raise DeskError("operator_same", name=name)
            if role != "admin" and self._is_last_admin(operator):
                raise DeskError("operator_last_admin", name=name)
            details = f"{self._duty(operator)} -> {self._duty(changed)}"
            await self._store.change(
                name,
                changed.role,
                changed.site_ids,
                self._now(),
                Deed(by, "operator.change", changed.site_id, name, reason, details),
            )
            self._by_name[name] = changed
            return changed

    def _site_ids(self, role: str, sites: Sequence[str]) -> frozenset[int] | None:
        if role not in self._roles:
            raise DeskError("operator_role", role=role[:40])
        if role == "admin" and sites:
            raise DeskError("operator_admin_site")
        if self._admin is None:
            if sites:
                raise DeskError("operator_no_sites")
            return None
        admin = self._admin
        return frozenset(admin.site(site).id for site in sites) or None

    def _duty(self, operator: Operator) -> str:
        """Role and sites as the audit has them: `operator: KMAL, TNJG`, `reviewer: *`."""
        if operator.role == "admin":
            return operator.role
        return f"{operator.role}: {', '.join(self.codes_of(operator)) or '*'}"

    def codes_of(self, operator: Operator) -> list[str]:
        """The codes of an operator's sites; none: every site."""
        if self._admin is None:
            return []
        sites = self._admin.sites_by_id
        return [sites[site_id].code for site_id in sorted(operator.site_ids or ())]

    def _is_last_admin(self, operator: Operator) -> bool:
        return [one for one in self._by_name.values() if one.role == "admin"] == [operator]

    async def reset_password(self, name: str, by: str = COMMAND_LINE) -> str:
        """Give an operator a new password, which must be changed; return it.

        Their sign-ins end and every browser forgets its PIN.
        """
        async with self._changing:
            operator = self.operator(name)
            password = passwords.make(self._random_below)
            changed = replace(
                operator, password_hash=await self._hashed(password), must_change=True
            )
            deed = Deed(by, "operator.password", operator.site_id, name)
            await self._store.set_password(
                name, changed.password_hash, True, None, self._now(), deed
            )
            self._by_name[name] = changed
            return password

    async def take_password(self, name: str, password_hash: str, by: str) -> None:
        """Give an operator a password of which only the hash came here; it must be changed.

        Their sign-ins end and every browser forgets its PIN, as in `reset_password`. Raises
        DeskError when there is no such operator.
        """
        async with self._changing:
            operator = self.operator(name)
            changed = replace(operator, password_hash=password_hash, must_change=True)
            deed = Deed(by, "operator.password", operator.site_id, name)
            await self._store.set_password(name, password_hash, True, None, self._now(), deed)
            self._by_name[name] = changed

    async def remove(self, name: str, by: str = COMMAND_LINE) -> None:
        """Remove an operator; raises DeskError for the last admin and for oneself."""
        async with self._changing:
            operator = self.operator(name)
            if operator.name == by:
                raise DeskError("operator_self")
            if self._is_last_admin(operator):
                raise DeskError("operator_last_admin", name=name)
            await self._store.remove(
                name, self._now(), Deed(by, "operator.remove", operator.site_id, name)
            )
            del self._by_name[name]

    async def change_password(
        self, name: str, old: str, new: str, again: str, browser: str | None = None
    ) -> Operator:
        """Change one's own password; return the operator with it.

        The other browsers forget their PIN. Raises SignInRefused for a wrong old password, and
        DeskError for a new one that is too short, too common, the old one or mistyped.
        """
        operator = self.operator(name)
        self._check_wait(f"own:{name}", None)
        with self._turn():
            await self._misses.miss(f"own:{name}")
            if not await self._fits(old, operator.password_hash):
                raise SignInRefused("password_old")
        await self._misses.forgive(f"own:{name}")
        if new != again:
            raise DeskError("password_again")
        if not SHORTEST_PASSWORD <= len(new) <= LONGEST_PASSWORD:
            raise DeskError("password_length", least=SHORTEST_PASSWORD)
        if new == old:
            raise DeskError("password_same")
        if new.lower() in _COMMON or name in new.lower() or len(set(new)) < 5:
            raise DeskError("password_common")
        new_hash = await self._hashed(new)
        async with self._changing:
            if self._by_name.get(name) != operator:
                raise SignInRefused("password_old")
            changed = replace(operator, password_hash=new_hash, must_change=False)
            await self._store.set_password(
                name,
                new_hash,
                False,
                None if browser is None else _token_hash(browser),
                self._now(),
                Deed(name, "operator.own_password", operator.site_id, name),
            )
            self._by_name[name] = changed
            return changed

    # -- signing in ------------------------------------------------------------------------

    async def sign_in(
        self, name: str, password: str, source: str, browser: str | None = None
    ) -> Operator:
        """The operator whose name and password these are.

        `source`: the address they come from; `browser`: the token of a browser they signed in with
        before. Raises SignInRefused: the same for an unknown name and a wrong password.
        """
        name = name.strip().lower()
        operator = self._by_name.get(name) if NAME.fullmatch(name) else None
        is_known = operator is not None and self.browser_of(browser) == operator.name
        key = zlib.crc32(operator.name.encode()) if operator is not None else -1
        client = f"source:{source}"
        if is_known and browser is not None:
            client = f"browser:{_token_hash(browser).hex()}"
        self._check_wait(client, None)
        if not is_known:
            self._check_wait(None, key)
        stored = operator.password_hash if operator is not None else await self._nobodys()
        with self._turn():
            # Counted first: many tries at once are as many misses.
            await self._misses.miss(client)
            is_right = await self._fits(password, stored)
        if operator is None or not is_right or self._by_name.get(operator.name) != operator:
            if not is_known:
                await self._misses.miss_name(key)
            if operator is not None:
                # An unknown name is not written down: people type their password there.
                await self._record_sign_in(operator, "sign_in.refused")
            raise SignInRefused("sign_in")
        await self._misses.forgive(client)
        await self._record_sign_in(operator, "sign_in")
        return operator

    async def _record_sign_in(self, operator: Operator, action: str) -> None:
        """Write down a sign-in. On a full disk people still come in, to see that it is full: then
        only the log knows."""
        try:
            await self._store.record(
                self._now(), Deed(operator.name, action, operator.site_id, operator.name)
            )
        except DatabaseError as error:
            if trouble(error) is None:
                raise
            log.error("%s operator=%s not_recorded=%s", action, operator.name, error)

    # -- PINs ------------------------------------------------------------------------------

    def browser_of(self, browser: str | None) -> str | None:
        """Whose browser this is, where a PIN is enough; None where the password is needed."""
        if not browser or self._pins is None:
            return None
        row = self._pins.browser(_token_hash(browser))
        if row is None or row["misses"] >= PIN_MISSES or row["operator"] not in self._by_name:
            return None
        if self._now() - row["last_used_at"] > BROWSER_KEPT_S:
            return None
        return str(row["operator"])

    async def sign_in_with_pin(self, pin: str, browser: str) -> Operator:
        """The operator whose browser and PIN these are.

        Raises SignInRefused; from the fifth wrong PIN on the password is needed.
        """
        name, pins = self.browser_of(browser), self._pins
        if name is None or pins is None:
            raise SignInRefused("pin_over")
        operator = self._by_name[name]
        token_hash = _token_hash(browser)
        row = pins.browser(token_hash)
        assert row is not None
        with self._turn():
            # Counted first: many tries at once are as many misses.
            if not await pins.browser_missed(token_hash, PIN_MISSES):
                raise SignInRefused("pin_over")
            is_right = await self._fits(_pin_text(pin, browser), row["pin_hash"])
        if not is_right:
            await self._store.record(
                self._now(), Deed(name, "sign_in.refused", operator.site_id, name, details="PIN")
            )
            raise SignInRefused("pin" if self.browser_of(browser) is not None else "pin_over")
        if self._by_name.get(name) != operator or pins.browser(token_hash) is None:
            # Removed, or given a new password, while the PIN was being looked at.
            raise SignInRefused("pin_over")
        await pins.browser_used(
            token_hash,
            self._now(),
            Deed(name, "sign_in", operator.site_id, name, details="PIN"),
        )
        return operator

    async def set_pin(self, name: str, pin: str, again: str, replaced: str | None) -> str:
        """Let a PIN be enough in this browser; return the token it must keep.

        `replaced`: the token it kept until now. Raises DeskError for a PIN that is not six digits,
        too simple or mistyped, and when the password was set anew meanwhile.
        """
        operator, pins = self.operator(name), self._pins
        if pins is None:
            raise DeskError("pin_over")
        if not PIN.fullmatch(pin):
            raise DeskError("pin_digits")
        if pin != again:
            raise DeskError("pin_again")
        steps = {
            (int(second) - int(first)) % 10 for first, second in zip(pin, pin[1:], strict=False)
        }
        if len(set(pin)) < 3 or steps in ({1}, {9}):
            raise DeskError("pin_simple")
        browser = self._random_token(32)
        pin_hash = await self._hashed(_pin_text(pin, browser))
        async with self._changing:
            if self._by_name.get(name) != operator:
                # A password that was set anew meanwhile has ended this sign-in.
                raise DeskError("csrf")
            await pins.add_browser(
                _token_hash(browser),
                name,
                pin_hash,
                None if replaced is None else _token_hash(replaced),
                self._now(),
                Deed(name, "operator.pin", operator.site_id, name),
            )
        return browser

    async def forget_browser(self, browser: str) -> None:
        """In this browser the password is needed again."""
        name = self.browser_of(browser)
        operator = None if name is None else self._by_name[name]
        deed = None
        if operator is not None:
            deed = Deed(operator.name, "operator.pin", operator.site_id, operator.name, details="-")
        if self._pins is not None:
            await self._pins.forget_browser(_token_hash(browser), self._now(), deed)

    async def forget_old_browsers(self) -> None:
        """Forget browsers nobody used for long."""
        if self._pins is not None:
            await self._pins.forget_old_browsers(self._now() - BROWSER_KEPT_S)

    async def record(self, deed: Deed) -> None:
        """Write a deed that changes nothing else."""
        await self._store.record(self._now(), deed)

    # -- hashing ---------------------------------------------------------------------------

    async def _hashed(self, text: str) -> str:
        async with self._hashing:
            return await asyncio.to_thread(passwords.hashed, text)

    async def _fits(self, text: str, stored: str) -> bool:
        if len(text) > LONGEST_PASSWORD:
            return False
        async with self._hashing:
            return await asyncio.to_thread(passwords.fits, text, stored)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """A place among those whose password is being looked at; who gets none has missed
        nothing."""
        if self._waiting >= MOST_WAITING:
            raise SignInRefused("busy", BUSY_WAIT_S)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _nobodys(self) -> str:
        """A hash nothing fits, so that an unknown name takes as long as a known one."""
        if self._nobody is None:
            self._nobody = await self._hashed(self._random_token(16))
        return self._nobody

    def _check_wait(self, client: str | None, key: int | None) -> None:
        wait_s = self._misses.wait_s(client, key)
        if wait_s > 0:
            raise SignInRefused("sign_in_wait", int(-(-wait_s // 1)))


def _token_hash(browser: str) -> bytes:
    return hashlib.sha256(browser.encode()).digest()


def _pin_text(pin: str, browser: str) -> str:
    """What is hashed: without the browser's own token a stolen database gives no PIN away."""
    return f"{pin} {browser}"
