"""The office's part of a hub: its people, boxes, reviews and documents, built once on its store."""

from collections.abc import Callable
from dataclasses import dataclass

from portal.domain.quota import day_ordinal
from portal.enrolment import file_text
from portal.hub.coverage import Coverage
from portal.hub.documents import Documents
from portal.hub.enrolment import Enrolments, Invitation
from portal.hub.keys import HubKeys
from portal.hub.publishing import Publishing
from portal.hub.review import Review
from portal.hub.reviewers import OFFICE_ID, Office, reviewers
from portal.operators import Operators
from portal.place_values import check_zone
from portal.store.hub import HubStore
from portal.store.hub_office import OfficeStore
from portal.store.hub_review import ReviewStore
from portal.sync.trust import HubTrust


@dataclass(slots=True)
class HubOffice:
    """The office's part of a hub: what its pages and its commands use."""

    url: str
    place: Office
    people: Operators
    enrolments: Enrolments
    review: Review
    coverage: Coverage
    publishing: Publishing
    store: HubStore
    office: OfficeStore
    reading: ReviewStore
    trust: HubTrust
    now: Callable[[], int]

    @classmethod
    async def open(
        cls,
        store: HubStore,
        keys: HubKeys,
        documents: Documents,
        url: str,
        *,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        random_below: Callable[[int], int],
        random_token: Callable[[int], str],
    ) -> "HubOffice":
        """Build it on the hub's store; `url` is where nodes reach the hub.

        Raises UserError when the store names a zone that there is not.
        """
        office, reading = OfficeStore(store.database), ReviewStore(store.database)
        facts = await store.facts()
        check_zone(facts["zone"])
        enrolments = Enrolments(
            store, office, ca_der=keys.ca_certificate, now=now, random_bytes=random_bytes
        )
        publishing = Publishing(reading, documents, now=now, random_below=random_below)
        enrolments.on_regrouped = publishing.follow_group
        return cls(
            url=url,
            place=Office(facts["name"], facts["zone"]),
            people=await reviewers(
                office,
                now=now,
                elapsed_s=elapsed_s,
                random_below=random_below,
                random_token=random_token,
            ),
            enrolments=enrolments,
            review=Review(reading, office, now=now),
            coverage=Coverage(reading, now=now),
            publishing=publishing,
            store=store,
            office=office,
            reading=reading,
            trust=trust_of(keys, url),
            now=now,
        )

    def today(self) -> int:
        """The office's day (ordinal)."""
        return day_ordinal(self.now(), self.place.zone(OFFICE_ID))

    def enrolment_file(self, made: Invitation) -> str:
        """The file that goes to the village on a stick."""
        site = {"code": made.site, "name": made.name, "zone": made.zone}
        return file_text(self.trust, made.token, site, made.expires_at)


def trust_of(keys: HubKeys, url: str) -> HubTrust:
    """The hub as its nodes shall know it."""
    cosigner, documents = str(keys.cosigner_key), str(keys.documents_key)
    return HubTrust(url, keys.ca_pem, cosigner, documents, keys.recovery_public.hex())
