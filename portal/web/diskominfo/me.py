"""Me: who I am here, what that lets me do, my password."""

from starlette.responses import Response

from portal.web.diskominfo.console import Console
from portal.web.operator.desk import Need, Page, Visit


def pages(console: Console) -> list[Page]:
    """The pages of this module."""

    async def me(visit: Visit) -> Response:
        """GET."""
        return console.desk.page(visit, "me")

    return [Page("/review/me", me, Need.SEE)]
