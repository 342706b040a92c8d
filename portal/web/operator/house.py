"""House: what of a node the desk's pages may use. `portal.node.Node` is one."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from portal.admin import Admin
from portal.audit import Audit
from portal.complaints import Complaints
from portal.devices import Devices
from portal.disconnects import Disconnects
from portal.doctor.doctor import Doctor
from portal.grants import Grants
from portal.health import Backhaul, Disk
from portal.history import History
from portal.keys import Keys
from portal.notices import Notices
from portal.online import Online
from portal.operators import Operators
from portal.overview import DayView
from portal.sessions import Sessions
from portal.settings import Settings
from portal.sheets.job import PrintJobs
from portal.store.node import NodeStore
from portal.sync.exchanges import Sync
from portal.vouchers import Vouchers


class HubSide(Protocol):
    """What of a node deals with its hub."""

    sync: Sync


class House(Protocol):
    """The parts of a node by name; a page module takes what it needs."""

    directory: Path
    settings: Settings
    keys: Keys
    admin: Admin
    operators: Operators
    audit: Audit
    notices: Notices
    complaints: Complaints
    vouchers: Vouchers
    prints: PrintJobs
    grants: Grants
    devices: Devices
    disconnects: Disconnects
    doctor: Doctor
    store: NodeStore
    sessions: Sessions
    history: History
    online: Online
    day_view: DayView
    backhaul: Backhaul
    disk: Disk
    elapsed_s: Callable[[], float]

    @property
    def hub(self) -> HubSide:
        """What deals with the node's hub."""
        ...

    def now(self) -> int:
        """The node's time in epoch seconds UTC."""
        ...

    def portal_url(self) -> str:
        """Where residents find the portal."""
        ...
