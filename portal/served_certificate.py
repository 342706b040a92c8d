"""The certificate the listeners serve, changed under them when its files change.

A pair goes into use whole or not at all. Files are read once, checked apart from the connections,
and only then handed to them: a pair that is half written, or a chain cut off where phones would not
trust it any more, leaves the one in use where it is.
"""

import logging
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from portal.certificates import Standing, sentence, standing
from portal.errors import UserError

log = logging.getLogger(__name__)


class Pair(NamedTuple):
    """The two files' contents."""

    chain: bytes
    key: bytes


class ServedCertificate:
    """A certificate and its key, from two PEM files that may be replaced at any time.

    `host` is the name phones check it for, None where none is set. With `keeps_sessions` what a
    client needs to resume its session is kept here, and not sent to and fro sealed in a ticket:
    350 octets less for each time it comes back, for a few hundred of memory. Raises UserError when
    the files cannot be used at the start.
    """

    def __init__(
        self,
        chain: Path,
        key: Path,
        host: str | None,
        *,
        now: Callable[[], int],
        keeps_sessions: bool = False,
    ):
        self.file = chain
        self._key = key
        self._host = host
        self._now = now
        self._refused: Pair | None = None
        self.refusal: str | None = None
        """Why the files there are now are not in use, one plain sentence; None when they are."""
        try:
            self._pair = self._read()
            self._in_use = _context(self._pair)
        except (OSError, ssl.SSLError, ValueError) as error:
            # OpenSSL's own words are codes.
            raise UserError(
                f"The certificate {chain} or its key {key} cannot be used;"
                " expected two PEM files that belong together."
            ) from error
        self.context = _context(self._pair)
        """For the listeners. Each connection is handed on to the certificate in use: a context that
        were given another one would go on serving the old one beside it, where one key is RSA and
        the other is not."""
        if keeps_sessions:
            self.context.options |= ssl.OP_NO_TICKET
        self.context.sni_callback = self._hand_on
        self.standing: Standing = self._look_at(self._pair)
        """What phones thought of the certificate in use when it was last looked at."""

    def look(self) -> bool:
        """Take the files into use if they have changed and fit; whether they were."""
        self.standing = self._look_at(self._pair)
        try:
            pair = self._read()
        except OSError as error:
            self._keep(None, f"{error.filename} cannot be read: {error.strerror}.")
            return False
        if pair == self._pair:
            self._refused = self.refusal = None
            return False
        try:
            context = _context(pair)
        except (ssl.SSLError, ValueError):
            self._keep(pair, f"{self.file} and {self._key} do not belong together.")
            return False
        found = self._look_at(pair)
        if found.fault is not None and self.standing.fault is None:
            self._keep(pair, sentence(found, self._host))
            return False
        self._in_use, self._pair, self.standing = context, pair, found
        self._refused = self.refusal = None
        log.info("certificate_reloaded file=%s ends_at=%s", self.file, found.ends_at)
        return True

    def _look_at(self, pair: Pair) -> Standing:
        return standing(pair.chain, self._host, self._now())

    def _keep(self, pair: Pair | None, reason: str) -> None:
        """Stay with what is in use; the log is told once of each pair."""
        if self.refusal != reason or self._refused != pair:
            log.warning("certificate_kept file=%s reason=%s", self.file, reason)
        self._refused, self.refusal = pair, reason

    def _read(self) -> Pair:
        return Pair(self.file.read_bytes(), self._key.read_bytes())

    def _hand_on(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> None:
        connection.context = self._in_use


def fits(chain: bytes, key: bytes) -> bool:
    """Whether a certificate and a key, both PEM, can be served together."""
    try:
        _context(Pair(chain, key))
    except (ssl.SSLError, ValueError):
        return False
    return True


def _context(pair: Pair) -> ssl.SSLContext:
    """A context for a server. Raises ssl.SSLError when the two do not belong together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with _in_memory(pair.chain) as chain, _in_memory(pair.key) as key:
        # An encrypted key is refused; without a password OpenSSL would ask the terminal for one.
        context.load_cert_chain(chain, key, password="")
    return context


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """The path of a file that exists in memory only, so that what is loaded is what was checked and
    no key is written anywhere."""
    number = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(number, content)
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)
