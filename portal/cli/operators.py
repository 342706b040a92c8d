"""The commands about operators: who may sign in at the desk."""

from typing import Any

import click

from portal.cli.terminal import (
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


_ROLE = click.Choice(["admin", "operator", "reviewer"])


def _sites_text(found: dict[str, Any]) -> str:
    return ", ".join(found["sites"] or ["all"])


def _password_text(found: dict[str, Any]) -> str:
    lines = details(
        [
            ("Sign-in", found["name"]),
            ("Role", found["role"]),
            ("Site", _sites_text(found)),
            ("Password", found["password"]),
        ]
    )
    return f"{lines}\n\nThe password is shown only now, and must be changed at the first sign-in."


@operator.command("add")
@_NAME
@click.option(
    "--role",
    type=_ROLE,
    required=True,
    help="admin: the whole node; operator: gives cards; reviewer: reads only.",
)
@click.option(
    "--site",
    "sites",
    metavar="CODE",
    multiple=True,
    shell_complete=_SITES,
    help="A site of theirs; may be repeated (else all sites).",
)
@json_option
def add_operator(name: str, role: str, sites: tuple[str, ...], as_json: bool) -> None:
    """Let somebody sign in; print the first password, which is shown only now."""
    show(call("add_operator", name=name, role=role, sites=sites), as_json, _password_text)


@operator.command("set")
@_KNOWN
@click.option("--role", type=_ROLE, help="What they may do from now on.")
@click.option(
    "--site",
    "sites",
    metavar="CODE",
    multiple=True,
    shell_complete=_SITES,
    help="A site of theirs from now on; may be repeated.",
)
@click.option("--all-sites", is_flag=True, help="From now on they work at all sites.")
@click.option("--reason", required=True, help="Why; it stands in the audit.")
@json_option
def set_operator(
    name: str,
    role: str | None,
    sites: tuple[str, ...],
    all_sites: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Change what somebody may do, and at which sites; it holds at once.

    What is not named stays. The last admin stays an admin.
    """
    if role is None and not sites and not all_sites:
        raise click.UsageError("Nothing to change; expected --role, --site or --all-sites.")
    if sites and all_sites:
        raise click.UsageError("--site and --all-sites exclude each other.")
    arguments = {"name": name, "role": role, "sites": sites, "all_sites": all_sites}
    changed = call("set_operator", **arguments, reason=reason)
    show(
        changed,
        as_json,
        lambda done: f"{done['name']} is {done['role']} of: {_sites_text(done)}.",
    )


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
                    _sites_text(one),
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
