"""Questions at a terminal, and an answers file that stands for the person."""

import tomllib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import click

from portal.errors import UserError


class Questions:
    """Asks people, or an answers file in their place."""

    def __init__(self, answers: dict[str, str] | None) -> None:
        self._answers = answers

    @property
    def has_people(self) -> bool:
        """Whether a person answers, who can be asked again."""
        return self._answers is None

    def ask(
        self,
        key: str,
        question: str,
        default: str,
        check: Callable[[str], str] = str,
    ) -> str:
        """The answer to one question; `check` gives it in its final form.

        A person whose answer `check` refuses (UserError) is asked again; a file's is an error.
        """
        if self._answers is not None:
            return check(self._answers.get(key, default))
        while True:
            said = click.prompt(question, default=default, show_default=bool(default))
            try:
                return check(str(said).strip())
            except UserError as error:
                click.echo(f"  {error}")

    def choose(self, key: str, question: str, options: Sequence[tuple[str, str]]) -> str:
        """One of the options (word, meaning); the first is the default."""
        words = [word for word, _ in options]

        def check(text: str) -> str:
            if text.lower() in words:
                return text.lower()
            if text.isdigit() and 1 <= int(text) <= len(words):
                return words[int(text) - 1]
            raise UserError(f'"{text}" is none of them; expected a number from 1 to {len(words)}.')

        if self.has_people:
            click.echo(question)
            for number, (word, meaning) in enumerate(options, 1):
                click.echo(f"  {number}  {word:<9} {meaning}".rstrip())
            question = "Which"
        return self.ask(key, question, words[0], check)

    def agreed(self, key: str, question: str) -> bool:
        """Yes or no; yes is the default."""

        def check(text: str) -> str:
            if text.lower() in ("y", "yes", "ya", "n", "no", "tidak"):
                return text.lower()
            raise UserError(f'"{text}" is neither; expected yes or no.')

        return self.ask(key, question, "yes", check)[0] == "y"


def read(file: Path, known: Collection[str]) -> dict[str, str]:
    """The answers of a file, by keys that are `known`; raises UserError for what is not
    understood."""
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The answers {file} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"The answers {file} are no TOML: {error}.") from None
    for key, value in found.items():
        if key not in known:
            raise UserError(
                f'The answers {file} have "{key}"; expected some of {", ".join(known)}.'
            )
        if not isinstance(value, str | int):
            raise UserError(f'The answer "{key}" in {file} is {value}; expected a text.')
    return {
        key: ("yes" if value else "no") if isinstance(value, bool) else str(value)
        for key, value in found.items()
    }
