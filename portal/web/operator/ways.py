"""Ways: where the pages of a desk lie and what its cookies are called.

The village's desk and the office's are the same machinery under two roots; their cookies never
reach one another.
"""

import re
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ways:
    """The addresses of one desk."""

    root: str
    """What every path begins with, no slash at the end."""
    cookie: str
    """What the names of its cookies begin with."""
    nav: tuple[tuple[str, str], ...]
    """The menu in its order: path, key of the text."""
    name: str = "desk.name"
    """The text with the desk's name."""
    _back: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        back = re.compile(re.escape(self.root) + r"/[A-Za-z0-9/_.~%?=&-]{0,300}")
        object.__setattr__(self, "_back", back)

    @property
    def home(self) -> str:
        return f"{self.root}/"

    @property
    def sign_in(self) -> str:
        return f"{self.root}/sign-in"

    @property
    def sign_out(self) -> str:
        return f"{self.root}/sign-out"

    @property
    def me(self) -> str:
        return f"{self.root}/me"

    @property
    def password(self) -> str:
        """Where one changes one's own password."""
        return f"{self.root}/me/password"

    @property
    def pin(self) -> str:
        return f"{self.root}/me/pin"

    @property
    def language_cookie(self) -> str:
        return f"{self.cookie}_lang"

    @property
    def form_cookie(self) -> str:
        """Seals the form of who is not signed in yet."""
        return f"{self.cookie}_form"

    @property
    def browser_cookie(self) -> str:
        """Of a browser in which a PIN is enough."""
        return f"{self.cookie}_browser"

    def good_way_back(self, path: str) -> str | None:
        """`path` when it is one of the desk's own addresses and leads no circle, else None."""
        if not self._back.fullmatch(path) or "//" in path or path.startswith(self.sign_in):
            return None
        return path
