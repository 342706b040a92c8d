"""Card desk: what the pages of cards share.

The parts of the node they ask, the codes that may be shown once, and how a form that was refused
comes back with what was typed and the mistake beside its field.
"""

import unicodedata
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portal.admin import Admin, Site
from portal.cards.finding import REASON_LONGEST
from portal.devices import Devices
from portal.domain.voucher import parse_serial
from portal.errors import DeskError, UserError
from portal.grants import Grants, VoucherStatus
from portal.history import History
from portal.store.batches import BatchStore
from portal.store.db import Row
from portal.vouchers import Vouchers
from portal.web.operator.desk import NotHere, Visit, refusal

CODE_SHOWN_S = 600
"""A code that nobody confirmed is shown again for so long: old phones drop pages by themselves."""
_CODES_KEPT = 500


class Codes:
    """Codes of cards that were made a moment ago, each for the one sign-in that made it.

    In memory only: after a restart, after `CODE_SHOWN_S` or after "Sudah diberikan" there is
    nothing but the last four.
    """

    def __init__(self) -> None:
        self._codes: OrderedDict[tuple[str, str], tuple[int, str, str]] = OrderedDict()

    def keep(self, visit: Visit, made: Mapping[str, str]) -> None:
        """Keep the code and URL of a card as `vouchers.give` and `vouchers.replace` tell it."""
        key = (visit.sign_in.csrf, made["serial"])
        self._codes[key] = (visit.now, made["code"], made["url"])
        while len(self._codes) > _CODES_KEPT:
            self._codes.popitem(last=False)

    def of(self, visit: Visit, serial: str) -> tuple[str, str] | None:
        """(code, URL) of a card made in this sign-in, None when it may no longer be shown."""
        kept = self._codes.get((visit.sign_in.csrf, serial))
        if kept is None or not 0 <= visit.now - kept[0] < CODE_SHOWN_S:
            self.forget(visit, serial)
            return None
        return kept[1:]

    def forget(self, visit: Visit, serial: str) -> None:
        """The card is in its owner's hands."""
        self._codes.pop((visit.sign_in.csrf, serial), None)


@dataclass(frozen=True, slots=True)
class CardDesk:
    """The parts of the node that the pages of cards ask."""

    vouchers: Vouchers
    grants: Grants
    admin: Admin
    history: History
    devices: Devices
    batches: BatchStore
    codes: Codes = field(default_factory=Codes)

    def card(self, visit: Visit) -> dict[str, Any]:
        """The card that the address names, as `vouchers.show` gives it.

        Raises NotHere when there is none, or when it belongs to a site this person has not.
        """
        serial = visit.request.path_params["serial"]
        if parse_serial(serial) is None:
            raise NotHere
        try:
            shown = self.vouchers.show(serial)
        except UserError as error:
            raise NotHere from error
        visit.require_site(self.site_of(shown).id)
        return shown

    def site_of(self, shown: Mapping[str, Any]) -> Site:
        """The site of a card."""
        return self.admin.site(shown["site"])

    def status(self, serial: str) -> VoucherStatus:
        """Everything people may see of a card now."""
        return self.grants.status(self.vouchers.find(serial))

    def batch(self, visit: Visit) -> tuple[str, Row]:
        """The batch that the address names, and its name; raises NotHere like `card`."""
        name = visit.request.path_params["batch"].upper()
        row = self.batches.batch_of(name)
        if row is None:
            raise NotHere
        visit.require_site(row["site_id"])
        return name, row


class Slips:
    """The mistakes of a form, each beside its field; "" is the form as a whole."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        # Templates ask for fields that were not sent and mistakes that were not made.
        self.texts: defaultdict[str, str] = defaultdict(str)
        self.typed = defaultdict(str, visit.fields)

    def __bool__(self) -> bool:
        return any(self.texts.values())

    def add(self, name: str, key: str, **values: object) -> None:
        """Note a mistake at a field; the first one of a field stays."""
        if not self.texts[name]:
            self.texts[name] = self._visit.t(key, **values)

    def refused(self, error: UserError, fields: Mapping[str, str]) -> None:
        """Note why a use case refused; `fields`: the field each key of a DeskError is about."""
        if isinstance(error, DeskError):
            name = fields.get(error.key, "")
            if not self.texts[name]:
                self.texts[name] = refusal(self._visit.t, error)
        else:
            self.add("", "cards.slip_other")

    def reason(self) -> str:
        """The reason that was typed; a mistake when there is none or it is too long."""
        reason = " ".join(self.typed.get("reason", "").split())
        if not reason:
            self.add("reason", "cards.slip_reason")
        elif len(reason) > REASON_LONGEST:
            self.add("reason", "cards.slip_reason_long", n=REASON_LONGEST)
        return reason

    def last_two(self, name: str) -> None:
        """A mistake unless the last two digits of a serial or batch were typed."""
        if digits(self.typed.get("digits", "")) != name[-2:]:
            self.add("digits", "cards.slip_digits", serial=name)


def digits(text: str) -> str:
    """What was typed as plain digits; "" when there is anything but digits and spaces."""
    text = "".join(unicodedata.normalize("NFKC", text).split())
    found = [unicodedata.decimal(character, None) for character in text]
    return "" if None in found else "".join(str(digit) for digit in found)


def serial_of(batch: str, n: int) -> str:
    """The serial of card `n` of a batch."""
    return f"{batch}-{n:02d}"
