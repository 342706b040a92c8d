"""Making cards: new codes, new serials, and the sealed copies by which a print can be repeated.

A code is told when it is made and, until first use and for 72 hours at most, out of its sealed
copy; the node itself keeps only its keyed hash.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from cryptography.fernet import Fernet

from portal.accounts import Accounts
from portal.admin import Admin, Site
from portal.audit import COMMAND_LINE
from portal.cards.finding import REASON_LONGEST, SLICE, CardFinding, batch_of
from portal.cards.taking import Taken
from portal.data_counting import is_for_no_gateway
from portal.domain import hours, voucher
from portal.errors import DeskError
from portal.store.audit import Deed
from portal.store.cards import CardStore, NewBatch, NewCard
from portal.store.db import DatabaseError, trouble
from portal.store.node import NodeStore

log = logging.getLogger(__name__)

BATCH_MAX = 10_000
PIECE = 50
"""Cards written in one transaction; a larger batch is made in pieces."""
BREATH = 5
"""Cards made before others get their turn: a quarter of a millisecond on a quick machine, two on
the slowest."""
BREATH_S = 0.001
"""Pause after so many. A packet takes four turns of the loop from its socket to its answer, and
would meet cards in each of them."""
SEALED_KEPT_S = 72 * 3600
"""A jammed print can be printed again unchanged for so long, at most until first use."""


@dataclass(frozen=True, slots=True, repr=False)
class _Code:
    """A code, and what is stored of it."""

    text: str
    hash: bytes
    sealed: bytes

    def card(
        self,
        serial: str,
        use_before_at: int | None,
        given_at: int | None = None,
        given_by: str | None = None,
    ) -> NewCard:
        """The card with this code."""
        return NewCard(
            *(serial, self.hash, self.text[-4:], self.sealed, use_before_at, given_at, given_by)
        )


class CardMaking:
    """Makes cards and tells their codes."""

    def __init__(
        self,
        store: NodeStore,
        cards: CardStore,
        admin: Admin,
        accounts: Accounts,
        finding: CardFinding,
        *,
        seal_key: bytes,
        now: Callable[[], int],
        random_below: Callable[[int], int],
        portal_url: Callable[[], str],
    ):
        self._store = store
        self._cards = cards
        self._admin = admin
        self._accounts = accounts
        self._finding = finding
        self._seal = Fernet(seal_key)
        self._now = now
        self._random_below = random_below
        self._portal_url = portal_url
        self._last_number = int(store.box().get("batch_number", "0"))
        self._being_made: set[str] = set()
        self._unfinished: set[int] = set()

    def next_number(self) -> int:
        """The number of a new batch, which nobody gets again while this node runs."""
        self._last_number += 1
        return self._last_number

    # -- issuing ---------------------------------------------------------------------------

    async def issue(
        self,
        profile: str,
        *,
        count: int = 1,
        site: str | None = None,
        note: str = "",
        use_before: str | None = None,
        by: str = COMMAND_LINE,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, Any]:
        """Make a batch of cards and tell their codes.

        `report` is called with how many are made and how many it will be.
        """
        self._check_profile(profile)
        at_site = self._admin.only_site(site)
        self._check_counted(profile, at_site)
        if not 1 <= count <= BATCH_MAX:
            raise DeskError("cards.count", count=count, most=BATCH_MAX)
        use_before_at = None if not use_before else self._use_before_at(use_before, at_site)
        note = " ".join(note.split())
        if len(note) > REASON_LONGEST:
            raise DeskError("cards.note_long", length=len(note), longest=REASON_LONGEST)
        number = self.next_number()
        deed = Deed(
            by,
            "voucher.issue",
            at_site.id,
            batch_of(voucher.serial(number, 1)),
            details=f"{count} x {profile}",
        )
        return await self._issue(
            NewBatch(number, at_site.id, profile, note, self._now(), by),
            [use_before_at] * count,
            [deed],
            report=report,
        )

    async def give(
        self, profile: str, *, site: str | None = None, by: str = COMMAND_LINE
    ) -> dict[str, Any]:
        """Make one card and give it to somebody at once: {"serial", "code", "url"}."""
        self._check_profile(profile)
        at_site = self._admin.only_site(site)
        self._check_counted(profile, at_site)
        number = self.next_number()
        now = self._now()
        deed = Deed(by, "voucher.give", at_site.id, voucher.serial(number, 1), details=profile)
        made = await self._issue(
            NewBatch(number, at_site.id, profile, "", now, by), [None], [deed], is_given=True
        )
        given: dict[str, Any] = made["vouchers"][0]
        return given

    async def succeed(
        self,
        old: Sequence[Taken],
        *,
        reason: str,
        by: str,
        leave_out: Callable[[Taken], bool],
        followed: Callable[[Sequence[str]], Awaitable[None]],
        report: Callable[[int, int], None],
    ) -> dict[str, Any]:
        """Make a new card in place of each old one of a profile and site; the new one takes over
        the account and the old one ends.

        Many are replaced in pieces. Each card is replaced whole or not at all: when something stops
        it, the batch holds those that are. `leave_out` is asked for each just before; `followed` is
        awaited with the serials of each piece once it is on disk. Raises DeskError when the disk
        stops it on the way.
        """
        batch = NewBatch(self.next_number(), old[0].site_id, old[0].profile, "", self._now(), by)
        batch_id: int | None = None
        told: list[dict[str, Any]] = []
        first = ""
        for begin in range(0, len(old), PIECE):
            codes: list[_Code] = []
            try:
                for n in range(len(old[begin : begin + PIECE])):
                    codes.append(self._made())
                    if n % BREATH == BREATH - 1 and len(old) > PIECE:
                        await asyncio.sleep(BREATH_S)
                piece = [card for card in old[begin : begin + PIECE] if not leave_out(card)]
                if not piece:
                    continue
                first = first or piece[0].serial
                is_one = first == piece[-1].serial
                batch = replace(
                    batch,
                    issued_at=self._now(),
                    note=f"replaces {first}" + ("" if is_one else f" to {piece[-1].serial}"),
                )
                cards = [
                    code.card(voucher.serial(batch.number, n), card.use_before_at)
                    for n, (code, card) in enumerate(
                        zip(codes, piece, strict=False), start=len(told) + 1
                    )
                ]
                deeds = [
                    Deed(
                        *(by, "voucher.replace", card.site_id, card.serial, reason),
                        details=f"{card.serial} -> {new.serial}",
                    )
                    for card, new in zip(piece, cards, strict=True)
                ]
                pairs = [(card.id, card.account_id) for card in piece]
                batch_id = await self._cards.replace(batch_id, batch, cards, pairs, deeds, reason)
            except DatabaseError as error:
                if not told or trouble(error) is None:
                    raise
                log.error("replacing_stopped done=%d of=%d error=%s", len(told), len(old), error)
                raise DeskError(
                    "cards.replace_stopped",
                    done=len(told),
                    total=len(old),
                    batch=batch_of(told[0]["serial"]),
                ) from error
            finally:
                self._being_made.difference_update(code.text for code in codes)
            for code, card, new in zip(codes, piece, cards, strict=False):
                told.append(self._told(new.serial, code.text) | {"replaces": card.serial})
            await followed([card.serial for card in piece])
            report(len(told), len(old))
        return {"batch": batch_of(voucher.serial(batch.number, 1)), "vouchers": told}

    def _check_profile(self, name: str) -> None:
        if name not in self._admin.profiles_by_name:
            known = ", ".join(self._admin.profiles_by_name) or "-"
            raise DeskError("cards.unknown_profile", profile=name, known=known)

    def _check_counted(self, name: str, site: Site) -> None:
        """Cards that no gateway of their site could let in are not made."""
        if is_for_no_gateway(self._admin, site, self._admin.profiles_by_name[name]):
            raise DeskError("cards.data_not_counted", profile=name, site=site.name)

    def _use_before_at(self, text: str, site: Site) -> int:
        try:
            day = date.fromisoformat(text)
        except ValueError:
            raise DeskError("cards.use_before_form", date=text[:20]) from None
        end_at = hours.end_of_day(day, self._admin.zone(site.id))
        if end_at <= self._now():
            raise DeskError("cards.use_before_over", date=text)
        return end_at

    async def _issue(
        self,
        batch: NewBatch,
        use_before_at: Sequence[int | None],
        deeds: Sequence[Deed],
        *,
        is_given: bool = False,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, Any]:
        count = len(use_before_at)
        batch_id = None
        if count > PIECE:
            batch_id = await self._begin(batch)
        codes: list[str] = []
        serials: list[str] = []
        cards: list[NewCard] = []
        try:
            for n in range(count):
                code = self._made()
                codes.append(code.text)
                card = code.card(
                    voucher.serial(batch.number, n + 1),
                    use_before_at[n],
                    batch.issued_at if is_given else None,
                    batch.issued_by if is_given else None,
                )
                serials.append(card.serial)
                cards.append(card)
                if len(codes) % BREATH == 0 and count > PIECE:
                    await asyncio.sleep(BREATH_S)
                if batch_id is not None and len(cards) == PIECE:
                    await self._cards.add(batch_id, batch, cards)
                    cards = []
                    report(len(codes), count)
            if batch_id is None:
                await self._cards.issue(batch, cards, deeds)
            else:
                if cards:
                    await self._cards.add(batch_id, batch, cards)
                await self._cards.finish(batch_id, batch.issued_at, deeds)
        except Exception:
            if batch_id is not None:
                with suppress(DatabaseError):
                    # What cannot be removed now is at the next large batch or the next start.
                    await self._cards.remove_unfinished(batch_id)
            raise
        finally:
            self._unfinished.discard(batch_id or 0)
            self._being_made.difference_update(codes)
        told = []
        for n, (serial, text) in enumerate(zip(serials, codes, strict=True), start=1):
            told.append(self._told(serial, text))
            if n % SLICE == 0:
                await asyncio.sleep(0)
        return {"batch": batch_of(serials[0]), "vouchers": told}

    async def _begin(self, batch: NewBatch) -> int:
        """Begin a batch that is made in pieces; while it is unfinished it does not exist."""
        await self.remove_unfinished()
        batch_id = await self._cards.begin(batch)
        self._unfinished.add(batch_id)
        return batch_id

    async def remove_unfinished(self) -> None:
        """Remove what is left of batches that were not made to their end."""
        for batch_id in self._cards.unfinished():
            if batch_id not in self._unfinished:
                await self._cards.remove_unfinished(batch_id)

    def _told(self, serial: str, code: str) -> dict[str, Any]:
        return {"serial": serial, "code": code, "url": f"{self._portal_url()}/{code}"}

    def _made(self) -> "_Code":
        """A new code, and what is stored of it; nobody else makes it meanwhile."""
        code = self._new_code()
        self._being_made.add(code)
        return _Code(code, self._accounts.hash_of(code), self._seal.encrypt(code.encode()))

    def _new_code(self) -> str:
        """A code nobody has: 11 random digits and a check digit, never the printed example."""
        while True:
            code = voucher.make_code(self._random_below(voucher.CODE_SPACE))
            if code == voucher.RESERVED_CODE or code in self._being_made:
                continue
            if self._store.voucher_by_hash(self._accounts.hash_of(code)) is None:
                return code

    # -- sealed copies ---------------------------------------------------------------------

    async def codes_of(self, batch: str, *, by: str = COMMAND_LINE) -> list[dict[str, Any]]:
        """The codes of a batch to be printed once more, each {"serial", "code", "url"}.

        Left out are cards whose copy is gone (used, over, older than 72 hours) and those given to
        somebody: two people would hold one code. Raises DeskError when nothing is left.
        """
        rows = await self._finding.of_batch(batch)
        told = []
        for n, row in enumerate(rows, start=1):
            if n % SLICE == 0:
                await asyncio.sleep(0)
            if row["given_at"] is not None or row["was_used"]:
                continue
            if self._has_copy(row["sealed_code"], row["issued_at"]):
                told.append(self._told(row["serial"], self._opened(row["sealed_code"])))
        name = batch_of(rows[0]["serial"])
        if not told:
            raise DeskError("cards.no_codes", batch=name)
        details = f"{len(told)} of {len(rows)} cards"
        await self._cards.record(
            self._now(), Deed(by, "voucher.print", rows[0]["site_id"], name, details=details)
        )
        return told

    async def code_of(self, key: str, *, by: str = COMMAND_LINE) -> dict[str, Any]:
        """The code of one unused card once more, for whoever just gave it: {"serial", "code",
        "url"}. Raises DeskError when it is used, over or older than 72 hours."""
        card = self._finding.find(key)
        row = self._store.voucher_by_serial(card.serial)
        if (
            row is None
            or not self._has_copy(row["sealed_code"], row["issued_at"])
            or (card.account.first_used_at is not None and await self._cards.was_used(card.id))
        ):
            raise DeskError("cards.no_code", serial=card.serial)
        await self._cards.record(
            self._now(), Deed(by, "voucher.show_code", card.site_id, card.serial)
        )
        return self._told(card.serial, self._opened(row["sealed_code"]))

    def _has_copy(self, sealed: bytes | None, issued_at: int) -> bool:
        return sealed is not None and self._now() < issued_at + SEALED_KEPT_S

    def _opened(self, sealed: bytes) -> str:
        return self._seal.decrypt(sealed).decode()

    async def forget_sealed(self) -> int:
        """Drop the sealed copies of codes that are over 72 hours old; return how many."""
        return await self._store.forget_sealed_before(self._now() - SEALED_KEPT_S)
