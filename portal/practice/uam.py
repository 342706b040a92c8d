"""UAM as CoovaChilli 1.9 writes and reads it: redirects to the portal, hand-offs, JSON status.

Pure: text and octets in, text and octets out. The order of the parameters, their encoding and the
signature are those of src/redir.c, checked against an observed gateway. Which answer is due is the
practice gateway's decision (portal/practice/gateway.py), not ours.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from portal.practice.phone import Phone, Session


class UamError(ValueError):
    """A hand-off the gateway cannot read: what, the value seen, what was expected."""


@dataclass(frozen=True, slots=True)
class Uam:
    """What one gateway puts into its redirects. `view_point` is CoovaChilli-Acct-View-Point."""

    host: str  # uamip
    mac: str  # upper case with dashes
    nas_id: str
    portal_url: str  # uamserver
    secret: str | None  # uamsecret
    view_point: int

    def redirect(
        self,
        phone: Phone,
        res: str,
        *,
        reason: str | None = None,
        has_challenge: bool = False,
        times: Sequence[tuple[str, str]] = (),
        user_name: str | None = None,
        time_left_s: int | None = None,
        reply: str = "",
    ) -> str:
        """The URL of a redirect to the portal, with the parameters in CoovaChilli's order."""
        fields = [("res", res)]
        if reason is not None:
            fields.append(("reason", reason))
        fields += [("uamip", self.host), ("uamport", str(phone.port))]
        if has_challenge:
            fields.append(("challenge", phone.challenge.hex()))
        fields += times
        fields.append(("called", self.mac))
        if user_name is not None:
            fields.append(("uid", user_name))
        if time_left_s is not None:
            fields.append(("timeleft", str(time_left_s)))
        fields += [("mac", phone.calling_station_id), ("ip", phone.ip)]
        if reply:
            fields.append(("reply", reply))
        session_id = phone.session.id if phone.session else phone.session_id
        fields += [("nasid", self.nas_id), ("sessionid", session_id), ("userurl", phone.user_url)]
        return uam_url(self.portal_url, fields, self.secret)

    def status_url(self, phone: Phone, now: float) -> str:
        """Where /status leads: `already` or `notyet`, with the session's figures."""
        session = phone.session
        if session is None:
            return self.redirect(
                phone,
                "notyet",
                has_challenge=True,
                times=[("starttime", "0"), ("sessiontime", "0")],
                user_name=phone.last_user_name or None,
            )
        timeout_s = session.limits.session_timeout_s
        times = [("starttime", int(session.started_at)), ("sessiontime", session.time_s(now))]
        if timeout_s is not None:
            times.append(("sessiontimeout", timeout_s))
        return self.redirect(
            phone,
            "already",
            has_challenge=True,
            times=[(name, str(value)) for name, value in times],
            user_name=session.user_name,
            time_left_s=None if timeout_s is None else timeout_s - session.time_s(now),
        )

    def status_json(self, phone: Phone, now: float) -> dict[str, Any]:
        """What /json/status tells."""
        session = phone.session
        answer: dict[str, Any] = {
            "version": "1.0",
            "clientState": 0 if session is None else 1,
            "nasid": self.nas_id,
        }
        if session is None:
            answer["challenge"] = phone.challenge.hex()
        answer["location"] = {"name": "Latihan"}
        answer["redir"] = {
            "originalURL": phone.user_url,
            "redirectionURL": "",
            "logoutURL": f"http://{self.host}:{phone.port}/logoff",
            "ipAddress": phone.ip,
            "macAddress": phone.calling_station_id,
        }
        if session is not None:
            into, out = self.view(session)
            answer["session"] = {
                "sessionId": session.id,
                "userName": session.user_name,
                "startTime": int(session.started_at),
                "sessionTimeout": session.limits.session_timeout_s or 0,
                "terminateTime": 0,
                "idleTimeout": session.limits.idle_timeout_s or 0,
            }
            answer["accounting"] = {
                "sessionTime": session.time_s(now),
                "idleTime": 0,
                "inputOctets": into & 0xFFFFFFFF,
                "outputOctets": out & 0xFFFFFFFF,
                "inputGigawords": into >> 32,
                "outputGigawords": out >> 32,
                "viewPoint": "nas" if self.view_point == 1 else "client",
            }
        return answer

    def view(self, session: Session) -> tuple[int, int]:
        """Input and output octets as this gateway reports them: with view point 2, the default of
        CoovaChilli, the download is input."""
        if self.view_point == 1:
            return session.up_octets, session.down_octets
        return session.down_octets, session.up_octets


def uam_fields(query: str) -> dict[str, bytes]:
    """The parameters of /logon, decoded as CoovaChilli does: %XX only, `+` stays `+`."""
    pairs = (part.partition("=") for part in query.split("&") if part)
    return {name: unquote_to_bytes(value) for name, _, value in pairs}


def uam_quote(text: str) -> str:
    """Percent-encode as CoovaChilli does: every reserved octet, lower-case hex, space as %20."""
    return re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), quote(text, safe=""))


def uam_url(portal_url: str, fields: list[tuple[str, str]], uam_secret: str | None) -> str:
    """The redirect to the portal; with a secret it ends in `md`, upper-case hex of
    MD5(the whole URL before "&md=" + uamsecret)."""
    query = "&".join(f"{name}={uam_quote(value)}" for name, value in fields)
    url = portal_url + ("&" if "?" in portal_url else "?") + query
    if not uam_secret:
        return url
    return f"{url}&md={hashlib.md5((url + uam_secret).encode()).hexdigest().upper()}"


def uam_key(challenge: bytes, uam_secret: str | None) -> bytes:
    """MD5(challenge + uamsecret), or the challenge itself when there is no secret."""
    if not uam_secret:
        return challenge
    return hashlib.md5(challenge + uam_secret.encode()).digest()


def read_hand_off(
    fields: Mapping[str, bytes], challenge: bytes, uam_secret: str | None
) -> tuple[bytes, dict[str, Any]]:
    """The user name of a hand-off, and its proof: `password` for PAP (padding NULs stay in) or
    `chap`, the challenge and CHAP-Password. Raises UamError when either is missing or unreadable.
    """
    user_name = fields.get("username", b"")
    if not user_name:
        raise UamError("username is missing; expected username and password or response")
    key = uam_key(challenge, uam_secret)
    if "password" in fields:
        return user_name, {"password": pap_password(fields["password"], key)}
    if "response" in fields:
        answer = chap_password(fields["response"], fields.get("ident", b"0"))
        return user_name, {"chap": (key, answer)}
    raise UamError("password and response are missing; expected one of them")


def pap_password(text: bytes, key: bytes) -> bytes:
    """The password of a PAP hand-off: hex, each 16 octets XOR the same key (no chaining).

    Padding NULs stay in: CoovaChilli sends User-Password with the decoded length.
    Raises UamError when the text is not 2 to 256 hex digits.
    """
    if not re.fullmatch(rb"(?:[0-9a-fA-F]{2}){1,128}", text):
        raise UamError(f"password has {len(text)} characters; expected 2 to 256 hex digits")
    hidden = bytes.fromhex(text.decode())
    return bytes(octet ^ key[i % len(key)] for i, octet in enumerate(hidden))


def chap_password(text: bytes, ident: bytes) -> bytes:
    """CHAP-Password of a CHAP hand-off: the identifier (decimal) and the 16 octets of the response.

    Raises UamError when either cannot be read.
    """
    if not re.fullmatch(rb"[0-9a-fA-F]{32}", text):
        raise UamError(f"response has {len(text)} characters; expected 32 hex digits")
    number = int(ident) if re.fullmatch(rb"[0-9]{1,3}", ident) else 256
    if number > 255:
        raise UamError(f"ident is {ident[:8]!r}; expected 0 to 255")
    return bytes([number]) + bytes.fromhex(text.decode())
