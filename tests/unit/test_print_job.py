import asyncio
import io
import json
import os
import resource
import signal
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from PIL import Image

from portal.errors import DeskError
from portal.sheets import job as print_job
from portal.sheets.job import Job, PrintError, PrintJobs, Report, State, Work
from tests.unit import print_samples as samples


class Rig:
    """Print jobs over a directory, with a clock that stands still."""

    def __init__(self, directory: Path) -> None:
        self.now = samples.NOW
        self.directory = directory
        self.tokens = 0
        self.free_octets = 10**9
        self.jobs = self.restarted()

    def restarted(self) -> PrintJobs:
        return PrintJobs(
            self.directory,
            now=lambda: self.now,
            random_token=self.token,
            free_octets=lambda: self.free_octets,
        )

    def token(self, octets: int) -> str:
        self.tokens += 1
        return f"{self.tokens:024d}"

    def start(self, count: int, layout: str = "a4-40", site_id: int = 1) -> Job:
        async def make(report: Report) -> Work:
            return work(count)

        return self.begin(make, count, layout, site_id)

    def begin(
        self,
        make: Callable[[Report], Awaitable[Work]],
        count: int = 1,
        layout: str = "a4-40",
        site_id: int = 1,
    ) -> Job:
        return self.jobs.start(site_id=site_id, by="sari", layout=layout, count=count, make=make)

    def files(self) -> set[str]:
        place = self.directory / print_job.DIRECTORY
        return {path.suffix for path in place.iterdir()} if place.exists() else set()


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(3_000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that within 30 s")


def command_line(pid: int) -> bytes:
    """What others can read of a child; nothing when it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def children_s() -> float:
    """CPU seconds of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def work(count: int) -> Work:
    dealt = [
        {"serial": card.serial, "code": card.code, "url": card.url} for card in samples.cards(count)
    ]
    return Work("A017", samples.sheet(), dealt)


def test_a_job_ends_with_a_file_that_only_the_node_can_read(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(tmp_path)
        job = rig.start(45)
        await rig.jobs.settled(job, 60)
        assert (job.state, job.batch, job.done, job.count) == (State.READY, "A017", 45, 45)
        path = rig.jobs.fetch(job)
        assert path is not None
        codes = [
            url
            for page in samples.rendered(path.read_bytes(), 203)
            for url in samples.decoded(page)
        ]
        assert sorted(codes) == sorted(card.url for card in samples.cards(45))
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert rig.files() == {".pdf", ".json"}
        assert samples.cards(1)[0].code not in (path.parent / f"{job.id}.json").read_text()
        await rig.jobs.close()

    asyncio.run(story())


def test_codes_are_on_no_command_line_and_the_node_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(tmp_path)
        job = rig.start(400)
        seen: list[int] = []
        own_s, drawing_s = time.process_time(), children_s()
        lines: set[bytes] = set()
        while not job.is_over:
            await asyncio.sleep(0.01)
            seen.append(job.done)
            for child in rig.jobs._children:
                lines.add(command_line(child.pid))
        assert job.state is State.READY
        assert len({done for done in seen if 0 < done < 400}) > 3
        lines.discard(b"")
        assert lines and not any(card.code.encode() in b"".join(lines) for card in samples.cards(3))
        await rig.jobs.close()
        # Drawing is left to the child: the node's own process looks on for a fraction of it.
        own_s, drawing_s = time.process_time() - own_s, children_s() - drawing_s
        assert own_s < drawing_s / 2

    asyncio.run(story())


def test_a_file_goes_after_72_hours_or_an_hour_after_it_was_fetched(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(tmp_path)
        kept, fetched = rig.start(1), rig.start(1, "58mm")
        await rig.jobs.settled(kept, 60)
        await rig.jobs.settled(fetched, 60)
        assert rig.jobs.fetch(fetched) is not None
        rig.now += 3599
        assert rig.jobs.job(fetched.id) is fetched and rig.jobs.fetch(fetched) is not None
        rig.now += 1
        rig.jobs.sweep()
        assert rig.jobs.job(fetched.id) is None and rig.jobs.fetch(fetched) is None
        assert [job.id for job in rig.jobs.jobs(1)] == [kept.id]
        rig.now = samples.NOW + 72 * 3600 - 1
        assert rig.jobs.fetch(kept) is not None
        rig.now += 1
        assert rig.jobs.job(kept.id) is None
        assert rig.files() == set()

    asyncio.run(story())


def test_after_a_restart_what_was_ready_is_ready_and_the_rest_is_gone(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(tmp_path)
        job = rig.start(2)
        await rig.jobs.settled(job, 60)
        assert rig.jobs.fetch(job) is not None
        place = tmp_path / print_job.DIRECTORY
        (place / f"{'x' * 24}.part").write_bytes(b"%PDF")
        (place / f"{'y' * 24}.json").write_text("{}")
        (place / f"{'z' * 24}.pdf").write_bytes(b"%PDF")
        again = rig.restarted()
        found = again.jobs(1)
        assert [(one.id, one.state, one.batch, one.fetched_at) for one in found] == [
            (job.id, State.READY, "A017", samples.NOW)
        ]
        assert again.fetch(found[0]) is not None
        assert {path.stem for path in place.iterdir()} == {job.id}
        rig.now += 3600
        assert rig.restarted().jobs(1) == [] and rig.files() == set()

    asyncio.run(story())


def test_at_shutdown_the_child_ends_and_nothing_half_is_left(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(tmp_path)
        job = rig.start(5_000)
        await until(lambda: bool(rig.jobs._children))
        (child,) = rig.jobs._children
        await rig.jobs.close()
        assert child.returncode == -signal.SIGKILL and job.done < 5_000
        with pytest.raises(ProcessLookupError):
            os.kill(child.pid, 0)
        assert job.state is State.FAILED and rig.files() == set()
        with pytest.raises(DeskError):
            rig.start(1)
        with pytest.raises(PrintError):
            await rig.jobs.poster(samples.poster(), "a4")

    asyncio.run(story())


def test_a_child_that_dies_fails_its_job_and_the_next_one_works(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(tmp_path)
        job = rig.start(2_000)
        await until(lambda: bool(rig.jobs._children))
        (child,) = rig.jobs._children
        child.kill()
        await rig.jobs.settled(job, 60)
        assert job.state is State.FAILED and job.trouble is None and rig.files() == set()
        second = rig.start(1)
        await rig.jobs.settled(second, 60)
        assert second.state is State.READY

    asyncio.run(story())


def test_what_the_cards_were_refused_for_stays_with_the_job(tmp_path: Path) -> None:
    async def make(report: Report) -> Work:
        raise DeskError("cards.count", count=0, most=10_000)

    async def story() -> None:
        rig = Rig(tmp_path)
        job = rig.begin(make)
        await rig.jobs.settled(job, 10)
        assert job.state is State.FAILED
        assert isinstance(job.trouble, DeskError) and job.trouble.key == "cards.count"
        rig.jobs.forget(job)
        assert rig.jobs.job(job.id) is None

    asyncio.run(story())


def test_issuing_is_told_before_printing_and_one_child_works_at_a_time(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(tmp_path)
        go_on = asyncio.Event()

        async def make(report: Report) -> Work:
            report(50, 100)
            await go_on.wait()
            return work(100)

        slow, other = rig.begin(make, 100), rig.start(300)
        await asyncio.sleep(0)
        assert (slow.state, slow.done, slow.count) == (State.ISSUING, 50, 100)
        go_on.set()
        most = 0
        while not (slow.is_over and other.is_over):
            most = max(most, len(rig.jobs._children))
            await asyncio.sleep(0.01)
        assert most == 1
        assert slow.state is State.READY and other.state is State.READY

    asyncio.run(story())


def test_too_many_jobs_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(tmp_path)

        async def make(report: Report) -> Work:
            await asyncio.sleep(60)
            return work(1)

        for _ in range(print_job.WAITING_MOST):
            rig.begin(make)
        with pytest.raises(DeskError) as refused:
            rig.begin(make)
        assert refused.value.key == "print.waiting"
        await rig.jobs.close()

    asyncio.run(story())


def test_printing_leaves_the_last_of_the_disk_to_accounting(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(tmp_path)
        rig.free_octets = print_job.LEAST_FREE_OCTETS - 1
        with pytest.raises(DeskError) as refused:
            rig.start(1)
        assert refused.value.key == "print.disk_full" and rig.jobs.jobs(1) == []

    asyncio.run(story())


def test_small_drawings_come_back_without_a_file(tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(tmp_path)
        one = work(1)
        picture = Image.open(io.BytesIO(await rig.jobs.picture(one)))
        assert picture.width == 384
        assert samples.decoded(picture.convert("L")) == [one.cards[0]["url"]]
        (page,) = samples.rendered(await rig.jobs.ticket(one, "80mm"), 203)
        assert samples.decoded(page) == [one.cards[0]["url"]]
        svg = (await rig.jobs.pages(work(41), "a4-40")).decode()
        assert svg.count("<svg") == 2 and svg.count("<path transform") == 41
        assert (await rig.jobs.poster(samples.poster(), "a3")).startswith(b"%PDF")
        with pytest.raises(PrintError):
            await rig.jobs.ticket(one, "a5")
        assert rig.files() == set()

    asyncio.run(story())


def test_small_drawings_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        jobs = Rig(tmp_path).jobs
        at_once = most = 0
        child = jobs._child

        async def counted() -> asyncio.subprocess.Process:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            return await child()

        end = jobs._end

        async def ended(process: asyncio.subprocess.Process) -> None:
            nonlocal at_once
            await end(process)
            at_once -= 1

        monkeypatch.setattr(jobs, "_child", counted)
        monkeypatch.setattr(jobs, "_end", ended)
        drawn = await asyncio.gather(*(jobs.poster(samples.poster(), "a4") for _ in range(3)))
        assert [one[:4] for one in drawn] == [b"%PDF"] * 3
        assert most == 1

    asyncio.run(story())


def test_what_went_wrong_is_logged_without_a_code(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        rig = Rig(tmp_path)
        with pytest.raises(PrintError):
            await rig.jobs.ticket(work(1), "a5")

    asyncio.run(story())
    assert "KeyError" in caplog.text
    assert samples.cards(1)[0].code not in caplog.text


def test_a_damaged_memory_of_a_file_is_no_obstacle(tmp_path: Path) -> None:
    place = tmp_path / print_job.DIRECTORY
    place.mkdir()
    job_id = "a" * 24
    (place / f"{job_id}.pdf").write_bytes(b"%PDF")
    for text in ("", "[]", "{", json.dumps({"site_id": 1}), json.dumps({"colour": "red"})):
        (place / f"{job_id}.json").write_text(text)
        (place / f"{job_id}.pdf").write_bytes(b"%PDF")
        assert Rig(tmp_path).jobs.jobs(1) == []
        assert list(place.iterdir()) == []
