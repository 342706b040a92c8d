"""A hub on paper: it keeps one node's log in a list, cosigns what fits, and lies when told to."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portal import sealing, signed_requests, wire
from portal.domain import ledger, merkle, note
from portal.sync.trust import HubTrust

COSIGNER = Ed25519PrivateKey.from_private_bytes(b"c" * 32)
DOCUMENTS = Ed25519PrivateKey.from_private_bytes(b"d" * 32)
RECOVERY = b"r" * 32
COSIGNER_KEY = note.Key("pesisir/hub/x", note.COSIGNATURE, COSIGNER.public_key().public_bytes_raw())
DOCUMENTS_KEY = note.Key("pesisir/hub/x", note.ED25519, DOCUMENTS.public_key().public_bytes_raw())


def trust(url: str, authority: str) -> HubTrust:
    """What enrolment would leave at the node."""
    recovery = sealing.public_of(RECOVERY).hex()
    return HubTrust(url, authority, str(COSIGNER_KEY), str(DOCUMENTS_KEY), recovery)


@dataclass
class PaperHub:
    """`exchange` and `answer_http` are what a server calls."""

    epochs: dict[int, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    cosigned: dict[int, str] = field(default_factory=dict)
    """The newest of each epoch."""
    promises: list[str] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    held: list[wire.Held] = field(default_factory=list)
    deltas: list[wire.Delta] = field(default_factory=list)
    backup: wire.Backup | None = None
    counter: int = 0
    state: str = "active"
    requests: list[wire.Exchange] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    spoil: Callable[[wire.Answer], wire.Answer] = lambda answer: answer
    """What becomes of an answer on its way."""
    before_answer: Callable[[], bool] = lambda: True
    """False: the answer is lost."""

    instead: tuple[int, wire.Answer] | None = None
    """What it says to everything."""

    def records(self, epoch: int = 0) -> list[ledger.Record]:
        """What it has of an epoch, decoded."""
        return [ledger.decode(public) for public, _ in self.epochs.get(epoch, [])]

    def answer_http(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes]:
        signed = signed_requests.read(method, headers["host"], path, headers, body)
        self.bodies.append(len(body))
        if self.instead is not None:
            return self.instead[0], wire.pack(self.instead[1])
        if signed.counter <= self.counter:
            answer = wire.Answer(self.counter, problem="counter", detail="used before")
            return 401, wire.pack(answer)
        self.counter = signed.counter
        if self.state == "revoked":
            return 410, wire.pack(wire.Answer(0, problem="revoked", detail="Taken away."))
        if self.state == "pending":
            return 202, wire.pack(wire.Answer(0, problem="pending", detail="not approved"))
        if path.endswith("/backup"):
            self.backup = wire.unpack_backup(body, wire.Backup)
            self.deltas = [one for one in self.deltas if one.number > self.backup.number]
            return 200, b""
        status, answer = self.exchange(wire.unpack(body, wire.Exchange))
        if not self.before_answer():
            return 0, b""
        return status, wire.pack(self.spoil(answer))

    def exchange(self, message: wire.Exchange) -> tuple[int, wire.Answer]:
        self.requests.append(message)
        self.held = message.held
        if message.delta is not None:
            self.deltas.append(message.delta)
        log = self.epochs.setdefault(message.epoch, [])
        records = wire.unpack_records(message.records)
        text = note.parse_note(message.checkpoint).text
        checkpoint = note.parse_checkpoint(text)
        problem = line = head = None
        known = log[message.first : message.first + len(records)]
        if message.first > len(log):
            problem = "gap"
        elif message.acked_size > len(log) and message.proof is None:
            problem = "behind"
        elif known != records[: len(known)]:
            problem, head = "fork", self.cosigned.get(message.epoch)
        elif not records and checkpoint.size < len(log):
            problem, head = "rolled_back", self.cosigned.get(message.epoch)
        else:
            log += records[len(known) :]
            leaves = [ledger.leaf(*record) for record in log[: checkpoint.size]]
            if checkpoint.size > len(log):
                self.promises.append(message.checkpoint)
            elif merkle.root(leaves) == checkpoint.root:
                line = self.line(text)
                if checkpoint.size == len(log):
                    self.cosigned[message.epoch] = f"{message.checkpoint}{line}\n"
            else:
                problem, head = "fork", self.cosigned.get(message.epoch)
        answer = wire.Answer(
            len(log),
            cosignature=line,
            documents=self.documents,
            now_at=int(time.time()),
            backed_up_size=len(log),
            wants_backup=self.backup is None,
            problem=problem,
            head=head,
        )
        return 200 if problem in (None, "behind") else 409, answer

    def line(self, text: str) -> str:
        """The signature line that cosigns a checkpoint."""
        cosignature = note.cosign(text, int(time.time()), COSIGNER_KEY, COSIGNER.sign)
        return note.format_note(text, [cosignature]).removeprefix(text + "\n").rstrip("\n")
