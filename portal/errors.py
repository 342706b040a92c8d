"""The exceptions that carry a sentence for people.

A face prints it as it is; everything else that escapes is our bug and is treated as one.
"""

from functools import cache

from babel.messages.pofile import read_po

from portal.resources import data_dir


class UserError(Exception):
    """Something a person can put right: one plain sentence saying what, the value seen and what was
    expected. The command line prints it on stderr and leaves with exit status 1; over the control
    socket it travels as text. It never holds a secret or a voucher code.
    """


class DeskError(UserError):
    """A UserError that a desk, a village's or an office's, says in the language of its page.

    `key` stands for the text `error.<key>` of the catalogues by topic in templates/lang, `values`
    for what is put into it. `str()` is the English sentence, for the command line.
    """

    def __init__(self, key: str, /, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.values = values

    def __str__(self) -> str:
        text = _english().get(f"error.{self.key}")
        return self.key if text is None else text.format_map(self.values)


@cache
def _english() -> dict[str, str]:
    """The English sentences by key; read at the first error, which the hot path never meets."""
    texts = {}
    for path in sorted((data_dir("templates") / "lang").glob("*/en.*.po")):
        with path.open("rb") as file:
            for message in read_po(file):
                if isinstance(message.id, str) and isinstance(message.string, str):
                    texts[message.id] = message.string
    return texts
