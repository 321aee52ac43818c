"""The browsers that are connected: pairing codes, pages, leases and workers. All of it runs in one event loop."""

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from edgewright.devices.browser.facts import describe_browser
from edgewright.devices.browser.messages import ActionFailed, Browser
from edgewright.devices.connection import are_times_possible
from edgewright.runtimes import wire
from edgewright.runtimes.web import WEB_PACKAGES
from edgewright.web.browsers.files import OfferedFolder, check_outputs
from edgewright.web.browsers.page_messages import (
    AskWorker,
    BeginWorker,
    EndWorker,
    OfferedFiles,
    PageAnswer,
    PageGreeting,
    PageMessage,
    PageState,
    PairPage,
    ResumePage,
    ServerMessage,
    WorkerFailed,
)

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without letters and digits that look alike
CODE_LETTERS = 8
VERSIONS = {package.runtime: package.version for package in reversed(WEB_PACKAGES)}
MOST_BROWSERS = 256


ReadFile = Callable[[Path | None, int], Awaitable[None]]


class PageFault(Exception):
    """A page sent something outside of the protocol; its session ends."""


class ActionError(Exception):
    """A command cannot have what it asks for."""

    def __init__(self, state: str, why: str) -> None:
        super().__init__(why)
        self.failure = ActionFailed(state=state, why=why)  # type: ignore[arg-type]  # one of the states


def _hash_token(token: str) -> str:
    return sha256(token.encode()).hexdigest()


@dataclass(eq=False)
class Worker:
    """A worker of a page, from the side of the command that uses it.

    Attributes:
        lines: what the command reads; None ends it.
        asked: the request that has no answer yet.
    """

    id: str
    number: int
    log: Path
    lease: "LeaseHold"
    lines: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    greeted: bool = False
    asked: wire.Request | None = None

    def put(self, message: object) -> None:
        self.lines.put_nowait(msgspec.json.encode(message) + b"\n")


@dataclass(eq=False)
class LeaseHold:
    """The use of a browser by one command."""

    page: "Page"
    files: OfferedFolder
    folder: Path


@dataclass(eq=False)
class Page:
    """A connected page.

    Attributes:
        send: sends a message to the page.
        close: ends its connection with a reason.
        leases: of the commands that use it.
    """

    name: str
    token_sha256: str
    facts: dict[str, Any]
    send: Callable[[ServerMessage], Awaitable[None]]
    close: Callable[[str], Awaitable[None]]
    health: dict[str, bool | float | None] = field(default_factory=dict)
    leases: list[LeaseHold] = field(default_factory=list)
    workers: dict[str, Worker] = field(default_factory=dict)

    def find_file(self, key: str) -> Path | None:
        """Return a file that was offered to the page under this key."""
        return next((path for lease in self.leases if (path := lease.files.find(key))), None)


class BrowserHub:
    """All browsers of one server.

    Args:
        find_device: returns the name of the registered device with this hash of a token; None if there is none. It is
            called in a thread.
    """

    def __init__(self, find_device: Callable[[str], str | None]) -> None:
        self._find_device = find_device
        self._codes: dict[str, tuple[str, asyncio.Future[tuple[dict[str, Any], str]]]] = {}
        self._pages: dict[str, Page] = {}
        self._tokens: dict[str, str] = {}  # hashes by the names of the browsers that were connected
        self._reasons: dict[str, str] = {}  # why a page that was connected is not any more
        self._leases: dict[str, LeaseHold] = {}
        self._numbers = itertools.count(1)

    # Pairing

    def offer_code(self, name: str) -> tuple[str, asyncio.Future[tuple[dict[str, Any], str]]]:
        """Return a code for one browser, and its facts and the hash of its token once it used the code."""
        if any(offered == name for offered, _ in self._codes.values()):
            raise ActionError("busy", f"another command is waiting for the browser '{name}'")
        if name in self._pages:
            raise ActionError("busy", f"a browser is connected as '{name}'")
        code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LETTERS))
        found: asyncio.Future[tuple[dict[str, Any], str]] = asyncio.get_running_loop().create_future()
        self._codes[code] = name, found
        return code, found

    def revoke_code(self, code: str) -> None:
        self._codes.pop(code, None)

    async def admit(
        self,
        first: PairPage | ResumePage,
        send: Callable[[ServerMessage], Awaitable[None]],
        close: Callable[[str], Awaitable[None]],
    ) -> tuple[Page, str]:
        """Return the session of a page and its token. Raises PageFault for a wrong or used code, or a false token."""
        if len(self._pages) >= MOST_BROWSERS:
            raise PageFault(f"{MOST_BROWSERS} browsers are connected, which is the most")
        facts = describe_browser(first.facts)
        if isinstance(first, PairPage):
            entry = self._codes.pop(first.code.upper(), None)
            if entry is None or entry[1].done():
                raise PageFault("This code is wrong, was used, or has expired. Create another one.")
            token = secrets.token_urlsafe(32)
            page = Page(entry[0], _hash_token(token), facts, send, close)
            entry[1].set_result((facts, page.token_sha256))
        else:
            token = first.token
            page = Page(await self._find_owner(first), _hash_token(token), facts, send, close)
        if earlier := self._pages.get(page.name):
            await self.leave(earlier, "the device was opened in another page")
            await earlier.close("This device was opened in another page.")
        self._pages[page.name], self._tokens[page.name] = page, page.token_sha256
        return page, token

    async def _find_owner(self, resume: ResumePage) -> str:
        digest = _hash_token(resume.token)
        known = secrets.compare_digest(self._tokens.get(resume.name, ""), digest)
        name = resume.name if known else await asyncio.to_thread(self._find_device, digest)
        if name != resume.name:
            raise PageFault("This browser is not paired. Create a code with edgewright devices add, and enter it here.")
        return name

    async def leave(self, page: Page, why: str) -> None:
        """Forget a page whose connection ends; its workers end for their commands too."""
        for worker in page.workers.values():
            worker.lines.put_nowait(None)
        page.workers.clear()
        self._reasons[page.name] = why
        if self._pages.get(page.name) is page:
            del self._pages[page.name]

    def is_connected(self, page: Page) -> bool:
        return self._pages.get(page.name) is page

    async def forget(self, name: str) -> None:
        self._tokens.pop(name, None)
        if page := self._pages.get(name):
            await self.leave(page, "it was removed")
            await page.close("This device was removed.")

    def find_page(self, token: str) -> Page | None:
        """Return the page with this token."""
        digest = _hash_token(token)
        return next((one for one in self._pages.values() if secrets.compare_digest(one.token_sha256, digest)), None)

    # Commands

    def list_browsers(self) -> tuple[Browser, ...]:
        here = tuple(
            Browser(name=page.name, state="ready", facts=page.facts, health=page.health)
            for page in self._pages.values()
        )
        gone = self._reasons.items()
        return here + tuple(
            Browser(name=name, state="offline", why=why) for name, why in gone if name not in self._pages
        )

    def lease(self, name: str, folder: Path) -> tuple[str, LeaseHold]:
        """Use a browser until `release`. Raises ActionError if it is not connected."""
        page = self._pages.get(name)
        if page is None:
            why = self._reasons.get(name, "its page is not open")
            raise ActionError("offline", f"{name}: {why}")
        lease = LeaseHold(page, OfferedFolder(folder), folder)
        page.leases.append(lease)
        key = secrets.token_urlsafe(16)
        self._leases[key] = lease
        return key, lease

    async def release(self, key: str) -> None:
        lease = self._leases.pop(key)
        lease.page.leases.remove(lease)
        for worker in [one for one in lease.page.workers.values() if one.lease is lease]:
            await self.end_worker(lease.page, worker)

    async def start_worker(self, key: str, runtime: str, log: Path) -> tuple[Page, Worker]:
        """Start a worker in a browser. Raises ActionError if its page was closed."""
        lease = self._leases.get(key)
        if lease is None or self._pages.get(lease.page.name) is not lease.page:
            raise ActionError("offline", "its page was closed")
        worker = Worker(secrets.token_hex(4), next(self._numbers), log, lease)
        lease.page.workers[worker.id] = worker
        await lease.page.send(BeginWorker(worker=worker.id, runtime=runtime))
        return lease.page, worker

    async def ask(self, page: Page, worker: Worker, request: wire.Request) -> None:
        """Send a request to a worker; a file that cannot be offered is answered here."""
        if worker.asked is not None or worker.id not in page.workers:
            worker.lines.put_nowait(None)
            return
        try:
            files = await asyncio.to_thread(_offer_files, worker.lease.files, request.command)
        except (LookupError, OSError, ValueError, TypeError) as error:
            failed = wire.CommandFailed(kind="internal", why=f"a file cannot be sent to the browser: {error}", trace="")
            worker.put(wire.Answer(id=request.id, result=failed))
            return
        worker.asked = request
        await page.send(AskWorker(worker=worker.id, request=request, files=files))

    async def end_worker(self, page: Page, worker: Worker) -> None:
        if page.workers.pop(worker.id, None) is not None:
            worker.lines.put_nowait(None)
            await page.send(EndWorker(worker=worker.id))

    # Messages from pages

    async def take(self, page: Page, message: PageMessage, read_file: ReadFile) -> None:
        """Handle a message. Raises PageFault for one that the protocol does not allow now.

        Args:
            read_file: writes the next file of the page, which has this number of bytes, to a path, or drops it.
        """
        if isinstance(message, PageState):
            page.health = {name: getattr(message, name) for name in message.__struct_fields__}
            return
        worker = page.workers.get(message.worker)
        if worker is None and not isinstance(message, PageAnswer):
            return  # it ended meanwhile
        match message:
            case PageGreeting(greeting=greeting) if worker:
                if worker.greeted:
                    raise PageFault("a worker greeted twice")
                worker.greeted = True
                if isinstance(greeting, wire.Hello):
                    version = VERSIONS.get(greeting.runtime, "")
                    greeting = msgspec.structs.replace(greeting, pid=worker.number, version=version)
                worker.put(greeting)
            case WorkerFailed(why=why) if worker:
                await asyncio.to_thread(_append, worker.log, why)
                await self.end_worker(page, worker)
            case PageAnswer():
                await self._take_answer(page, worker, message, read_file)

    async def _take_answer(
        self,
        page: Page,
        worker: Worker | None,
        message: PageAnswer,
        read_file: ReadFile,
    ) -> None:
        """Receive the files of an answer, then pass it on; the answer of an ended worker is read and dropped."""
        targets: list[Path] = []
        if worker is not None:
            if worker.asked is None or worker.asked.id != message.answer.id or not worker.greeted:
                raise PageFault("an answer came without a request")
            _check_result(worker.asked.command, message.answer.result)
            targets = _choose_targets(worker.asked.command, message, worker.lease.folder)
        for position, head in enumerate(message.files):
            await read_file(_part_of(targets[position]) if worker else None, head.bytes)
        if worker is None or worker.asked is None or worker.id not in page.workers:
            return  # its command ended meanwhile
        try:
            await asyncio.to_thread(_finish_files, worker.asked.command, targets)
        except (ValueError, MemoryError, OSError, EOFError, LookupError) as error:
            raise PageFault(f"the outputs cannot be read: {error}") from None
        worker.asked = None
        worker.put(message.answer)


def _offer_files(offered: OfferedFolder, command: wire.Command) -> OfferedFiles:
    match command:
        case wire.Open(session=session, feeds=feeds) | wire.ProfileRuns(session=session, feeds=feeds):
            model, beside = offered.offer_model(session.model)
            return OfferedFiles(model=model, beside=beside, feeds=offered.offer_arrays(feeds))
        case wire.Invoke(feeds=feeds):
            return OfferedFiles(feeds=offered.offer_arrays(feeds))
        case wire.Compile():
            raise TypeError("a browser does not compile")
    return OfferedFiles()


def _check_result(command: wire.Command, result: wire.Result) -> None:
    """Raise PageFault for times that cannot have been measured; browsers have no CPU time."""
    if not are_times_possible(command, result) or (isinstance(result, wire.Times) and result.cpu_ns):
        raise PageFault("impossible times were reported")


def _choose_targets(command: wire.Command, message: PageAnswer, folder_of_lease: Path) -> list[Path]:
    """Return the paths of the files; PageFault for files that were not asked for."""
    names = [head.name for head in message.files]
    match command:
        case _ if isinstance(message.answer.result, wire.CommandFailed):
            allowed: dict[str, Path] = {}
        case wire.Invoke(outputs=outputs):
            allowed = {"": Path(outputs)}
        case wire.ProfileRuns(folder=folder):
            Path(folder).mkdir(parents=True, exist_ok=True)
            allowed = {name: Path(folder) / name for name in ("trace.json", "ran.json")}
        case _:
            allowed = {}
    if names != list(allowed):
        raise PageFault("files were sent that do not belong to the answer")
    if not all(path.resolve().is_relative_to(folder_of_lease.resolve()) for path in allowed.values()):
        raise PageFault("outputs are not in the folder of the command")
    return list(allowed.values())


def _finish_files(command: wire.Command, targets: list[Path]) -> None:
    for target in targets:
        part = _part_of(target)
        if isinstance(command, wire.Invoke):
            check_outputs(part, target)
        else:
            msgspec.json.decode(part.read_bytes())
            part.replace(target)


def _part_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _append(log: Path, text: str) -> None:
    try:
        with log.open("a") as file:
            file.write(f"{text}\n")
    except OSError:
        return
