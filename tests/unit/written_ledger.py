"""A ledger made by hand, written out as a file: what the two verifiers are tried on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from portal.domain import ledger, ledger_file, note
from portal.domain.ledger import ClockQuality, Flag, Kind, Record, Usage
from portal.domain.merkle import Frontier

START_AT = 1_790_000_000


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


class Signer:
    """A node or a hub, as far as it signs."""

    def __init__(self, seed: int, *, is_hub: bool = False) -> None:
        private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        public = private.public_key().public_bytes_raw()
        self.node = ledger.node_id(public)
        self.sign = private.sign
        if is_hub:
            self.key = note.Key(ledger.hub_key_name("bahari"), note.COSIGNATURE, public)
        else:
            self.key = note.Key(ledger.node_key_name(self.node), note.ED25519, public)


NODE, HUB, STRANGER = Signer(1), Signer(2, is_hub=True), Signer(3)


@dataclass
class Written:
    """The lines of one log; what is appended can be signed at any time."""

    node: Signer = NODE
    hub: Signer = HUB
    has_personal: bool = False
    lines: list[str] = field(default_factory=list)
    epoch: int = -1
    frontier: Frontier = field(default_factory=Frontier)
    total: int = 0

    def begin(self, parent: str | None = None) -> None:
        if not self.lines:
            head = ledger_file.head_line(self.node.node, has_personal=self.has_personal)
            self.lines += [head, *map(ledger_file.key_line, (self.node.key, self.hub.key))]
        self.epoch += 1
        self.frontier = Frontier()
        self.lines.append(ledger_file.epoch_line(self.epoch))
        payload = {"why": "first start", "key": str(self.node.key), "parent": parent}
        self.append(Kind.EPOCH, payload)

    def append(
        self,
        kind: Kind,
        payload: ledger.Payload,
        *,
        site: int = 0,
        person: dict[str, str] | None = None,
        is_pruned: bool = False,
    ) -> None:
        seq = self.frontier.size
        at = START_AT + 60 * self.total
        record = Record(kind, seq, 1, at, ClockQuality.RUNNING, site, payload)
        public, c_loc, salt, personal = ledger.encode(record), ledger.NO_PERSONAL, None, None
        if person is not None:
            salt, personal = bytes([seq % 256]) * 16, ledger.personal_octets(person)
            c_loc = ledger.commitment(salt, personal)
        leaf = ledger.leaf(public, c_loc)
        if not self.has_personal:
            salt = personal = None
        body = (None, None) if is_pruned else (public, c_loc)
        self.lines.append(ledger_file.record_line(seq, leaf, *body, salt=salt, personal=personal))
        self.frontier.append(leaf)
        self.total += 1

    def session(self, n: int, **more: bool) -> None:
        usage = Usage(
            int(Flag.FIRST | Flag.LAST), bytes([n % 256]) * 10, 1, 1, 60, 60, 60, n, 1000 * n, 1
        )
        person = {"mac": f"02000000{n:04x}", "ip": "10.1.0.2", "serial": f"A001-{n:02d}"}
        self.append(Kind.SESSION, usage, site=1, person=person, **more)

    def note(self, *, is_cosigned: bool) -> str:
        origin = ledger.origin(self.node.node, self.epoch)
        head = note.Checkpoint(origin, self.frontier.size, self.frontier.root())
        text = note.checkpoint_text(head)
        signatures = [note.sign_note(text, self.node.key, self.node.sign)]
        if is_cosigned:
            at = START_AT + 60 * self.total
            signatures.append(note.cosign(text, at, self.hub.key, self.hub.sign))
        return note.format_note(text, signatures)

    def sign(self, *, is_cosigned: bool = False) -> str:
        signed = self.note(is_cosigned=is_cosigned)
        self.lines.append(ledger_file.checkpoint_line(signed))
        return signed

    def end(self) -> Sequence[bytes]:
        return [line.encode() for line in (*self.lines, ledger_file.end_line(self.total))]


def two_epochs(*, has_personal: bool = False) -> Sequence[bytes]:
    """23 records with four checkpoints, then a second epoch of 9 that goes on from the third."""
    log = Written(has_personal=has_personal)
    log.begin()
    site = {"what": "site", "number": 1, "code": "TANJUNG", "name": "Tanjung Luar"}
    log.append(Kind.CONFIG, site)
    parent = None
    for n in range(1, 22):
        log.session(n)
        if n in (6, 12, 18):
            parent = log.sign(is_cosigned=True)
    log.sign()
    log.begin(parent)
    for n in range(30, 38):
        log.session(n)
    log.sign(is_cosigned=True)
    return log.end()
