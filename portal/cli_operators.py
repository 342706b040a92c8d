"""The commands about operators: who may sign in at the desk."""

from typing import Any

import click

from portal.terminal import (
    Group,
    call,
    complete_from,
    details,
    json_option,
    show,
    table,
    when,
)

_OPERATORS = complete_from("operators", "name")
_SITES = complete_from("sites", "code")


@click.group(cls=Group)
def operator() -> None:
    """People who sign in at the operator's desk."""


_NAME = click.argument("name", metavar="NAME")
_KNOWN = click.argument("name", metavar="NAME", shell_complete=_OPERATORS)


def _password_text(found: dict[str, Any]) -> str:
    lines = details(
        [
            ("Sign-in", found["name"]),
            ("Role", found["role"]),
            ("Site", found["site"] or "all"),
            ("Password", found["password"]),
        ]
    )
    return f"{lines}\n\nThe password is shown only now, and must be changed at the first sign-in."


@operator.command("add")
@_NAME
@click.option(
    "--role",
    type=click.Choice(["admin", "operator", "reviewer"]),
    required=True,
    help="admin: the whole node; operator: gives cards; reviewer: reads only.",
)
@click.option("--site", metavar="CODE", shell_complete=_SITES, help="Their site (else all sites).")
@json_option
def add_operator(name: str, role: str, site: str | None, as_json: bool) -> None:
    """Let somebody sign in; print the first password, which is shown only now."""
    show(call("add_operator", name=name, role=role, site=site), as_json, _password_text)


@operator.command("password")
@_KNOWN
@json_option
def operator_password(name: str, as_json: bool) -> None:
    """Give somebody a new password, shown only now.

    Their sign-ins end and their PINs are forgotten. This is also how an admin gets in again.
    """
    show(call("operator_password", name=name), as_json, _password_text)


@operator.command("list")
@json_option
def list_operators(as_json: bool) -> None:
    """List who may sign in."""

    def text(found: list[dict[str, Any]]) -> str:
        return table(
            ["SIGN-IN", "ROLE", "SITE", "PASSWORD", "SINCE"],
            [
                [
                    one["name"],
                    one["role"],
                    one["site"] or "all",
                    "to be changed" if one["must_change"] else "own",
                    when(one["created_at"]),
                ]
                for one in found
            ],
        )

    show(call("operators"), as_json, text)


@operator.command("remove")
@_KNOWN
@json_option
def remove_operator(name: str, as_json: bool) -> None:
    """Let somebody sign in no more.

    What they did stays in the audit. The last admin cannot be removed.
    """
    removed = call("remove_operator", name=name)
    show(removed, as_json, lambda done: f"{done['name']} is removed.")
