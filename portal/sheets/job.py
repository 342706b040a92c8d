"""Print jobs: cards are issued here, drawn in a process of their own, and fetched as a file.

Drawing takes CPU that the gateways' packets need, so it never happens in the node: one child at a
time, at the lowest priority, fed by a pipe. The file holds codes: it lies in DIR/print, which only
the node's user can enter, and is deleted an hour after it was first fetched, at the latest after 72
hours. A small file beside it remembers what it is, so that a restart loses nothing that is ready.
"""

import asyncio
import json
import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from portal.errors import DeskError, UserError
from portal.sheets.layouts import PosterWords, Sheet

log = logging.getLogger(__name__)

DIRECTORY = "print"
KEPT_S = 72 * 3600
KEPT_FETCHED_S = 3600
AT_ONCE_S = 60.0
"""So long a small drawing may take on the slowest box."""
WITHIN_S = 3600.0
"""So long a batch of ten thousand cards may take on the slowest box."""
SWEEP_EVERY_S = 60.0
WAITING_MOST = 20
LEAST_FREE_OCTETS = 100_000_000
"""Room on the disk that printing leaves to accounting: ten thousand tickets are 27 MB."""
_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")
SLICE = 100
"""Cards handed to the child before others get their turn."""

Report = Callable[[int, int], None]
_Card = tuple[str, str, str]


class PrintError(Exception):
    """The drawing failed; the log says why."""


class State(StrEnum):
    """How far a job is."""

    ISSUING = "issuing"
    WAITING = "waiting"
    PRINTING = "printing"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be drawn: the words and the cards."""

    batch: str
    sheet: Sheet
    cards: Sequence[Mapping[str, str]]
    """Each `serial`, `code`, `url`."""


@dataclass(slots=True)
class Job:
    """One sheet somebody asked for."""

    id: str
    site_id: int
    by: str
    layout: str
    made_at: int
    count: int
    batch: str = ""
    state: State = State.ISSUING
    done: int = 0
    fetched_at: int | None = None
    trouble: UserError | None = field(default=None, repr=False)
    """Why it failed, where that can be put right."""

    @property
    def is_over(self) -> bool:
        """Whether nothing changes any more."""
        return self.state in (State.READY, State.FAILED)


class PrintJobs:
    """The sheets of a node that are being made or are ready to be fetched."""

    def __init__(
        self,
        directory: Path,
        *,
        now: Callable[[], int],
        random_token: Callable[[int], str],
        free_octets: Callable[[], int],
    ) -> None:
        """Keep files in `directory`/print; what was ready before a restart still is.

        `free_octets`: what may still be written to the disk.
        """
        self._place = directory / DIRECTORY
        self._now = now
        self._random_token = random_token
        self._free_octets = free_octets
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._children: set[asyncio.subprocess.Process] = set()
        self._one_at_a_time = asyncio.Lock()
        self._one_small = asyncio.Lock()
        """Small drawings do not wait for sheets, but for each other: each child takes 50 MB."""
        self._is_closed = False
        self._find_ready()

    # -- asking ----------------------------------------------------------------------------

    def start(
        self,
        *,
        site_id: int,
        by: str,
        layout: str,
        count: int,
        make: Callable[[Report], Awaitable[Work]],
    ) -> Job:
        """Begin a job: `make` issues the cards, or opens their sealed copies, and is told how to
        report how many there are.

        Raises DeskError when too many wait already, or when the disk is nearly full.
        """
        if self._is_closed or len(self._tasks) >= WAITING_MOST:
            raise DeskError("print.waiting")
        if self._free_octets() < LEAST_FREE_OCTETS:
            raise DeskError("print.disk_full")
        job = Job(self._random_token(18), site_id, by, layout, self._now(), count)
        self._jobs[job.id] = job
        task = asyncio.get_running_loop().create_task(self._run(job, make), name="print job")
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))
        return job

    async def settled(self, job: Job, within_s: float) -> None:
        """Wait until a job is over, at most so long."""
        task = self._tasks.get(job.id)
        if task is not None:
            await asyncio.wait((task,), timeout=within_s)

    def job(self, job_id: str) -> Job | None:
        """The job with this id, None when there is none (any more)."""
        self.sweep()
        return self._jobs.get(job_id)

    def jobs(self, site_id: int) -> list[Job]:
        """The jobs of a site, newest first."""
        self.sweep()
        found = [job for job in self._jobs.values() if job.site_id == site_id]
        return sorted(reversed(found), key=lambda job: -job.made_at)

    def forget(self, job: Job) -> None:
        """Drop a job that is over, and its file."""
        self._delete(job.id)

    def fetch(self, job: Job) -> Path | None:
        """The file of a job that is ready; from now on it is kept for an hour."""
        path = self._file(job)
        if job.state is not State.READY or not path.exists():
            return None
        if job.fetched_at is None:
            job.fetched_at = self._now()
            self._remember(job)
        return path

    def kept_until(self, job: Job) -> int:
        """When the file of a job is deleted (epoch seconds UTC)."""
        end_at = job.made_at + KEPT_S
        return end_at if job.fetched_at is None else min(end_at, job.fetched_at + KEPT_FETCHED_S)

    # -- small drawings --------------------------------------------------------------------

    async def pages(self, work: Work, layout: str) -> bytes:
        """The pages of cards as SVG elements, for the browser to print."""
        task = {"kind": "svg", "sheet": asdict(work.sheet), "layout": layout}
        return await self._at_once(task, _cards(work))

    async def ticket(self, work: Work, layout: str) -> bytes:
        """The cards of a small batch as PDF."""
        task = {"kind": "pdf", "sheet": asdict(work.sheet), "layout": layout}
        return await self._at_once(task, _cards(work))

    async def picture(self, work: Work) -> bytes:
        """The thermal ticket of the first card as PNG of 384 dots width."""
        task = {"kind": "png", "sheet": asdict(work.sheet), "layout": ""}
        return await self._at_once(task, _cards(work))

    async def poster(self, words: PosterWords, paper: str) -> bytes:
        """The wall poster as PDF."""
        task = {"kind": "poster", "words": asdict(words), "layout": paper}
        return await self._at_once(task)

    async def _at_once(self, task: dict[str, Any], cards: Sequence[_Card] = ()) -> bytes:
        """Draw without a file. Raises PrintError."""
        async with self._one_small:
            return await self._drawn(task, cards)

    async def _drawn(self, task: dict[str, Any], cards: Sequence[_Card]) -> bytes:
        child = await self._child()
        try:
            async with asyncio.timeout(AT_ONCE_S):
                reading = asyncio.gather(_all(child.stdout), _all(child.stderr))
                await _feed(child, {**task, "path": None}, cards)
                drawing, said = await reading
                status = await child.wait()
        except TimeoutError as error:
            log.error("print_timeout kind=%s", task["kind"])
            raise PrintError(task["kind"]) from error
        finally:
            await self._end(child)
        if status:
            raise _failed(task["kind"], said)
        return drawing

    # -- jobs ------------------------------------------------------------------------------

    async def _run(self, job: Job, make: Callable[[Report], Awaitable[Work]]) -> None:
        def report(done: int, total: int) -> None:
            job.done, job.count = done, total

        part = self._place / f"{job.id}.part"
        try:
            work = await make(report)
            job.batch, job.count, job.done = work.batch, len(work.cards), 0
            job.state = State.WAITING
            async with self._one_at_a_time:
                job.state = State.PRINTING
                self._place.mkdir(mode=0o700, exist_ok=True)
                await self._print(job, work, part, report)
            part.rename(self._file(job))
            job.state = State.READY
            self._remember(job)
        except UserError as error:
            job.trouble, job.state = error, State.FAILED
        except (PrintError, OSError) as error:
            log.error("print_job_failed batch=%s error=%s", job.batch, type(error).__name__)
            job.state = State.FAILED
        except BaseException:
            job.state = State.FAILED
            raise
        finally:
            part.unlink(missing_ok=True)

    async def _print(self, job: Job, work: Work, part: Path, report: Report) -> None:
        task = {"kind": "pdf", "sheet": asdict(work.sheet), "layout": job.layout}
        child = await self._child()
        try:
            async with asyncio.timeout(WITHIN_S):
                reading = asyncio.gather(_follow(child.stdout, report), _all(child.stderr))
                await _feed(child, {**task, "path": str(part)}, _cards(work))
                _, said = await reading
                status = await child.wait()
        except TimeoutError as error:
            raise PrintError("too slow") from error
        finally:
            await self._end(child)
        if status:
            raise _failed("pdf", said)

    async def _child(self) -> asyncio.subprocess.Process:
        if self._is_closed:
            raise PrintError("the node is stopping")
        # A session of its own: Ctrl-C at the terminal is the node's, and the node ends its child.
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "portal.sheets.child"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
        self._children.add(child)
        return child

    async def _end(self, child: asyncio.subprocess.Process) -> None:
        """See a child off, and end it where it has not ended."""
        self._children.discard(child)
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()

    async def close(self) -> None:
        """Cancel what is being made; at shutdown."""
        self._is_closed = True
        for child in list(self._children):
            with suppress(ProcessLookupError):
                child.kill()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- files -----------------------------------------------------------------------------

    def sweep(self) -> None:
        """Delete what is no longer kept."""
        now = self._now()
        for job in list(self._jobs.values()):
            if job.is_over and now >= self.kept_until(job):
                self._delete(job.id)

    def _delete(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)
        for suffix in _SUFFIXES:
            with suppress(OSError):
                (self._place / f"{job_id}{suffix}").unlink(missing_ok=True)

    def _file(self, job: Job) -> Path:
        return self._place / f"{job.id}.pdf"

    def _remember(self, job: Job) -> None:
        """Write what a restarted node must know of a file."""
        known = {name: getattr(job, name) for name in _REMEMBERED}
        path = self._place / f"{job.id}.json"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(known, file)
        except OSError as error:
            log.warning("print_job_not_remembered error=%s", error.strerror)

    def _find_ready(self) -> None:
        """Take up the files of before a restart; what was not finished goes."""
        try:
            names = sorted(os.listdir(self._place))
        except OSError:
            return
        for name in names:
            job_id, _, suffix = name.partition(".")
            if suffix == "json" and _ID.fullmatch(job_id):
                with suppress(OSError, ValueError, TypeError):
                    text = (self._place / name).read_text("utf-8")
                    job = Job(job_id, **json.loads(text), state=State.READY)
                    if self._file(job).exists() and self.kept_until(job) > 0:
                        self._jobs[job_id] = job
        for name in names:
            job_id, _, suffix = name.partition(".")
            if job_id not in self._jobs and f".{suffix}" in _SUFFIXES:
                self._delete(job_id)
        self.sweep()


_SUFFIXES = (".pdf", ".json", ".part")
_REMEMBERED = ("site_id", "by", "layout", "made_at", "count", "batch", "fetched_at")


def _cards(work: Work) -> list[_Card]:
    return [(card["serial"], card["code"], card["url"]) for card in work.cards]


async def _feed(
    child: asyncio.subprocess.Process, task: Mapping[str, Any], cards: Sequence[_Card]
) -> None:
    """Give a child its task, then the cards in slices: ten thousand at once would keep the gateways
    waiting."""
    if child.stdin is None:
        raise PrintError("the child has no pipe")
    try:
        child.stdin.write(json.dumps(task).encode() + b"\n")
        for first in range(0, len(cards), SLICE):
            child.stdin.write(json.dumps(cards[first : first + SLICE]).encode() + b"\n")
            await child.stdin.drain()
            await asyncio.sleep(0)
        child.stdin.close()
    except ConnectionError:
        pass  # it has ended; what it said tells why


async def _all(pipe: asyncio.StreamReader | None) -> bytes:
    return b"" if pipe is None else await pipe.read()


async def _follow(pipe: asyncio.StreamReader | None, report: Report) -> None:
    """Pass on what a child says about how far it is."""
    while pipe is not None and (line := await pipe.readline()):
        done, _, total = line.decode("ascii", "replace").partition(" ")
        if done.isdigit() and total.strip().isdigit():
            report(int(done), int(total))


def _failed(kind: str, said: bytes) -> PrintError:
    log.error("print_failed kind=%s said=%s", kind, said.decode("ascii", "replace").strip()[:200])
    return PrintError(kind)
