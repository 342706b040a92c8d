"""Vouchers: everything people at the desk and the command line may do with cards, in one place.

Finding and showing is in cards/finding.py, making cards in cards/making.py, changing them in
cards/actions.py and cards/endings.py, forgetting who had one in cards/erasing.py, and the phones
just heard of in phones.py; here they are put together.
"""

from collections.abc import Callable, Container

from portal.aaa import Aaa
from portal.accounts import Accounts
from portal.admin import Admin
from portal.cards.actions import CardActions
from portal.cards.endings import CardEndings
from portal.cards.erasing import CardErasing
from portal.cards.finding import CardFinding
from portal.cards.making import BATCH_MAX, SEALED_KEPT_S, CardMaking
from portal.cards.taking import CardTaking
from portal.commit import GroupCommit
from portal.grants import Grants
from portal.phones import RecentPhones
from portal.pseudonyms import Pseudonyms
from portal.sessions import Sessions
from portal.store.cards import CardStore
from portal.store.erasing import ErasingStore
from portal.store.node import NodeStore

__all__ = ["BATCH_MAX", "SEALED_KEPT_S", "Vouchers"]


class Vouchers:
    """The use cases of cards."""

    def __init__(
        self,
        store: NodeStore,
        admin: Admin,
        accounts: Accounts,
        sessions: Sessions,
        grants: Grants,
        commit: GroupCommit,
        aaa: Aaa,
        pseudonyms: Pseudonyms,
        *,
        seal_key: bytes,
        hidden_cards: Container[int],
        device_name_of: Callable[[int], str | None],
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        random_below: Callable[[int], int],
        portal_url: Callable[[], str],
        quota_changed: Callable[[int, frozenset[str], str], None],
    ):
        cards = CardStore(store.database)
        finding = CardFinding(store, cards, admin, accounts, grants, hidden=hidden_cards, now=now)
        making = CardMaking(
            *(store, cards, admin, accounts, finding),
            seal_key=seal_key,
            now=now,
            random_below=random_below,
            portal_url=portal_url,
        )
        taking = CardTaking(finding, accounts, now=now)
        actions = CardActions(
            *(cards, admin, accounts, grants, finding, taking), now=now, changed=quota_changed
        )
        endings = CardEndings(cards, accounts, grants, commit, finding, making, taking, now=now)
        phones = RecentPhones(
            *(admin, accounts, sessions, aaa),
            name_of=device_name_of,
            now=now,
            elapsed_s=elapsed_s,
        )
        erasing = CardErasing(
            *(ErasingStore(store.database), accounts, sessions, pseudonyms),
            *(commit, finding, endings),
            now=now,
            empty_log=store.database.empty_log,
        )
        self.find = finding.find
        self.show = finding.show
        self.history = finding.history
        self.listed = finding.listed
        self.find_cards = finding.find_cards
        self.recent_phones = phones.seen
        self.issue = making.issue
        self.give = making.give
        self.codes_of = making.codes_of
        self.code_of = making.code_of
        self.forget_sealed = making.forget_sealed
        self.remove_unfinished = making.remove_unfinished
        self.next_batch_number = making.next_number
        self.confirm_given = actions.confirm_given
        self.undo_give = endings.undo_give
        self.top_up = actions.top_up
        self.extend = actions.extend
        self.revoke = endings.revoke
        self.erase = erasing.erase
        self.revoke_batch = endings.revoke_batch
        self.replace = endings.replace
        self.replace_range = endings.replace_range
