"""What routers accept, as far as it can be checked without one: RouterOS scripts, UCI, chilli.conf.

Written after MikroTik's documentation of its scripting language and menus, OpenWrt's of UCI and of
its configurations, and CoovaChilli 1.9's list of options. Stricter than the real programs: a
property that no generated file needs is unknown here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field


class GrammarError(ValueError):
    """What a router would refuse."""


# --- RouterOS

_ANY_FILTER = "chain action comment place-before src-address dst-address in-interface protocol"
ROUTEROS_ADD: dict[str, str] = {
    "/interface bridge": "name comment",
    "/ip address": "address interface comment",
    "/ip pool": "name ranges",
    "/ip dhcp-server": "name interface address-pool lease-time disabled",
    "/ip dhcp-server network": "address gateway dns-server dhcp-option comment",
    "/ip dhcp-server option": "name code value force",
    "/ip dns static": "name address ttl type disabled comment",
    "/ip hotspot": "name interface address-pool profile addresses-per-mac idle-timeout"
    " keepalive-timeout disabled",
    "/ip hotspot profile": "name hotspot-address dns-name html-directory login-by mac-auth-mode"
    " use-radius radius-accounting radius-interim-update nas-port-type",
    "/ip hotspot walled-garden ip": "action dst-address dst-host protocol dst-port comment",
    "/ip hotspot ip-binding": "address type comment",
    "/ip firewall nat": f"{_ANY_FILTER} dst-port out-interface hotspot to-addresses to-ports",
    "/ip firewall filter": f"{_ANY_FILTER} dst-port reject-with",
    "/ipv6 firewall filter": "chain in-interface action comment",
    "/radius": "service address secret authentication-port accounting-port timeout comment",
    "/system script": "name policy source",
    "/system scheduler": "name interval policy on-event",
}
ROUTEROS_SET: dict[str, str] = {
    "/ip dns": "allow-remote-requests",
    "/ip hotspot user profile": "shared-users keepalive-timeout idle-timeout add-mac-cookie"
    " transparent-proxy rate-limit",
    "/radius": "require-message-auth",
    "/radius incoming": "accept port",
    "/system identity": "name",
}
ROUTEROS_FETCH: dict[str, str] = {"/tool": "url keep-result"}
_WITH_PROPERTIES = {"add": ROUTEROS_ADD, "set": ROUTEROS_SET, "fetch": ROUTEROS_FETCH}
_FIND = {"name", "comment", "default", "disabled", "dynamic"}
_BARE_VERBS = {"remove", "enable", "disable", "find", "flush", "run", "get"}
_MENUS = {*ROUTEROS_ADD, *ROUTEROS_SET, "/ip dns cache", "/interface", "/system script", "/tool"}
_BARE = re.compile(r"[A-Za-z0-9_.,:/@+-]+|\$[a-z]+|>|<|=|!|\*")
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\$": "$", "\\3F": "?"}


@dataclass
class Command:
    """One command of a RouterOS script."""

    menu: str
    verb: str
    properties: dict[str, str] = field(default_factory=dict)


class RouterOs:
    """Reads a RouterOS script; raises GrammarError with the line."""

    def __init__(self, script: str) -> None:
        self.commands: list[Command] = []
        lines = [line for line in script.split("\n") if not line.startswith("#")]
        for line in lines:
            self._text, self._at = line, 0
            try:
                self._statements("")
            except GrammarError as error:
                raise GrammarError(f"{error}: {line[:200]}") from None

    def _peek(self) -> str:
        while self._at < len(self._text) and self._text[self._at] == " ":
            self._at += 1
        return self._text[self._at : self._at + 1]

    def _take(self, wanted: str) -> None:
        if self._peek() != wanted:
            raise GrammarError(f"expected {wanted!r} at {self._text[self._at : self._at + 40]!r}")
        self._at += 1

    def _statements(self, end: str) -> None:
        while self._peek() != end:
            if self._peek() == ";":
                self._at += 1
                continue
            if not self._peek():
                raise GrammarError(f"expected {end!r} before the end")
            self._statement()
        if end:
            self._take(end)

    def _statement(self) -> None:
        if self._peek() == "{":
            self._at += 1
            self._statements("}")
        elif self._peek() == ":":
            self._at += 1
            self._keyword(self._word())
        elif self._peek() == "/":
            self._menu_command()
        elif self._peek() == "[":
            self._value()
        else:
            raise GrammarError(f"no statement at {self._text[self._at : self._at + 40]!r}")

    def _keyword(self, word: str) -> None:
        match word:
            case "local" | "set":
                self._word()
                self._value()
            case "put" | "delay" | "resolve" | "toarray" | "len" | "pick" | "parse":
                while self._peek() not in ("", ";", "]", "}"):
                    if re.match(r"[a-z]+=", self._text[self._at :]):
                        self._word_and_equals()
                    self._value()
            case "if":
                self._take("(")
                self._condition()
                self._block("do")
                if self._text[self._at :].lstrip().startswith("else="):
                    self._peek()
                    self._block("else")
            case "do":
                self._peek()
                self._take("{")
                self._statements("}")
                self._block("on-error")
            case "foreach":
                self._word()
                self._peek()
                self._expect("in=")
                self._value()
                self._block("do")
            case _:
                raise GrammarError(f"unknown command :{word}")

    def _block(self, name: str) -> None:
        self._peek()
        self._expect(f"{name}=")
        self._take("{")
        self._statements("}")

    def _expect(self, text: str) -> None:
        if not self._text.startswith(text, self._at):
            raise GrammarError(f"expected {text} at {self._text[self._at : self._at + 40]!r}")
        self._at += len(text)

    def _condition(self) -> None:
        while self._peek() != ")":
            self._value()
        self._take(")")

    def _menu_command(self) -> None:
        words: list[str] = []
        while True:
            start = self._at
            found = re.compile(r"/?[a-z][a-z0-9-]*").match(self._text, self._at)
            if found is None or self._text[found.end() : found.end() + 1] == "=":
                raise GrammarError(f"no command in {self._text[start : start + 60]!r}")
            words.append(found[0])
            self._at = found.end()
            menu = " ".join(words[:-1])
            verb = words[-1]
            if menu in _MENUS and verb in {*_WITH_PROPERTIES, *_BARE_VERBS}:
                break
            self._peek()
        command = Command(menu, verb)
        if verb in _WITH_PROPERTIES:
            self._properties(command)
        else:
            self._rest(verb)
        self.commands.append(command)

    def _properties(self, command: Command) -> None:
        table = _WITH_PROPERTIES[command.verb]
        if command.menu not in table:
            raise GrammarError(f"no {command.verb} in {command.menu}")
        if self._peek() == "[":
            self._value()
        while self._peek() not in ("", ";", "]", "}"):
            name = self._word_and_equals()
            if name not in table[command.menu].split():
                raise GrammarError(f"{command.menu} has no property {name}")
            if name in command.properties:
                raise GrammarError(f"{name} twice")
            command.properties[name] = self._value()

    def _rest(self, verb: str) -> None:
        while self._peek() not in ("", ";", "]", "}"):
            found = re.compile(r"([a-z-]+)=").match(self._text, self._at)
            if found is not None:
                if found[1] not in _FIND:
                    raise GrammarError(f"cannot find by {found[1]}")
                self._at = found.end()
            self._value()

    def _word(self) -> str:
        self._peek()
        found = re.compile(r"[a-z][A-Za-z0-9-]*").match(self._text, self._at)
        if found is None:
            raise GrammarError(f"expected a word at {self._text[self._at : self._at + 40]!r}")
        self._at = found.end()
        return found[0]

    def _word_and_equals(self) -> str:
        name = self._word()
        self._expect("=")
        return name

    def _value(self) -> str:
        start = self._at
        match self._peek():
            case '"':
                text = self._string()
                if text.startswith(("/", ":")) and not re.fullmatch(r"/[\w./-]*", text):
                    # A script within a script: read with the same grammar.
                    self.commands += RouterOs(text).commands
                return text
            case "[":
                self._at += 1
                if self._peek() == "[":
                    self._value()
                    self._take("]")
                elif self._peek() in (":", "/"):
                    self._statements("]")
                else:
                    self._rest(self._word())
                    self._take("]")
            case "{":
                self._at += 1
                while self._peek() != "}":
                    self._value()
                    if self._peek() in (";", ","):
                        self._at += 1
                self._take("}")
            case "(":
                self._at += 1
                while self._peek() != ")":
                    self._value()
                    if self._peek() == ",":
                        self._at += 1
                self._take(")")
            case _:
                found = _BARE.match(self._text, self._at)
                if found is None:
                    raise GrammarError(f"no value at {self._text[self._at : self._at + 40]!r}")
                self._at = found.end()
        return self._text[start : self._at].strip()

    def _string(self) -> str:
        self._take('"')
        parts: list[str] = []
        while True:
            if self._at >= len(self._text):
                raise GrammarError("a string has no end")
            letter = self._text[self._at]
            if letter == '"':
                self._at += 1
                return "".join(parts)
            if letter in "$?":
                raise GrammarError(f"{letter} in a string without its escape")
            if letter == "\\":
                coded = next(
                    (one for one in _ESCAPES if self._text.startswith(one, self._at)), None
                )
                if coded is None:
                    raise GrammarError(f"unknown escape {self._text[self._at : self._at + 3]!r}")
                parts.append(_ESCAPES[coded])
                self._at += len(coded)
                continue
            parts.append(letter)
            self._at += 1


# --- UCI


@dataclass
class Section:
    """One section of an OpenWrt configuration."""

    kind: str
    name: str | None
    options: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)


_UCI_NAME = re.compile(r"[A-Za-z0-9_]+")


def uci(text: str) -> list[Section]:
    """The sections of an OpenWrt configuration; raises GrammarError with the line."""
    sections: list[Section] = []
    for line in text.split("\n"):
        words = _uci_words(line)
        if not words:
            continue
        match words:
            case ["config", kind, *names] if len(names) <= 1:
                for name in (kind, *names):
                    if not _UCI_NAME.fullmatch(name):
                        raise GrammarError(f"{name!r} is no name: {line}")
                sections.append(Section(kind, names[0] if names else None))
            case ["option", name, value] if sections and _UCI_NAME.fullmatch(name):
                if name in sections[-1].options or name in sections[-1].lists:
                    raise GrammarError(f"{name} twice: {line}")
                sections[-1].options[name] = value
            case ["list", name, value] if sections and _UCI_NAME.fullmatch(name):
                if name in sections[-1].options:
                    raise GrammarError(f"{name} is an option too: {line}")
                sections[-1].lists.setdefault(name, []).append(value)
            case _:
                raise GrammarError(f"no line of UCI: {line}")
    names = [section.name for section in sections if section.name is not None]
    if len(names) != len(set(names)):
        raise GrammarError(f"two sections have one name: {sorted(names)}")
    return sections


def _uci_words(line: str) -> list[str]:
    words: list[str] = []
    at = 0
    while at < len(line):
        if line[at] in " \t":
            at += 1
            continue
        if line[at] == "#":
            break
        word = ""
        while at < len(line) and line[at] not in " \t":
            if line[at] in "'\"":
                end = line.find(line[at], at + 1)
                if end < 0:
                    raise GrammarError(f"a quote has no end: {line}")
                word += line[at + 1 : end]
                at = end + 1
            elif line[at] == "\\":
                word += line[at + 1 : at + 2]
                at += 2
            else:
                word += line[at]
                at += 1
        words.append(word)
    return words


def here_documents(script: str) -> Iterator[tuple[str, str]]:
    """The command line and the text of each here-document of a shell script."""
    pattern = re.compile(r"^([^\n]*<<'(\w+)')\n(.*?)^\2$", re.MULTILINE | re.DOTALL)
    for found in pattern.finditer(script):
        yield found[1], found[3]


# --- chilli.conf

CHILLI_FLAGS = frozenset(("uamanydns", "acctupdate", "swapoctets", "macauth", "macreauth"))
CHILLI_MULTIPLE = frozenset(("uamallowed",))
CHILLI_VALUES = frozenset(
    "dhcpif net uamlisten uamport lease dns1 domain ipup ipdown radiusserver1 radiusserver2"
    " radiussecret radiusauthport radiusacctport radiusnasid radiustimeout coaport"
    " definteriminterval uamserver uamsecret uamallowed captiveportalapi_uri".split()
)


def chilli(text: str) -> dict[str, list[str]]:
    """The options of a chilli.conf (gengetopt's format); raises GrammarError with the line."""
    found: dict[str, list[str]] = {}
    for line in text.split("\n"):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"""([a-z0-9_]+)(?:\s+(?:"([^"]*)"|'([^']*)'|([^\s"']+)))?""", line)
        if match is None:
            raise GrammarError(f"no line of chilli.conf: {line}")
        name = match[1]
        value = next((text for text in match.groups()[1:] if text is not None), None)
        if (name in CHILLI_FLAGS) != (value is None) or (
            value is not None and name not in CHILLI_VALUES
        ):
            raise GrammarError(f"CoovaChilli 1.9 does not take: {line}")
        if name in found and name not in CHILLI_MULTIPLE:
            raise GrammarError(f"{name} twice")
        found.setdefault(name, []).append(value or "")
    return found
