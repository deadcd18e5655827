"""A network between clients and PostgreSQL whose faults are switched while it runs.

It follows the wire protocol (version 3, without TLS) as far as it must to know which statement a
client has sent, and when the server has answered it.
"""

from __future__ import annotations

import asyncio
import re
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Self

LONGEST_READ = 65536

PATIENCE = 120.0
"""Seconds after which something that has to come is given up."""


class Proxy:
    """Passes connections to ``127.0.0.1:port`` on to a server: host or socket folder, and port.

    ``accepted`` counts the connections that came, ``refused`` those that found no server,
    ``cuts_made`` the replies that were swallowed.
    """

    def __init__(self, host: str, port: int) -> None:
        self.accepted = self.refused = self.cuts_made = 0
        self.latency = 0.0
        self.cuts: list[re.Pattern[str]] = []
        self.flowing = asyncio.Event()
        self.flowing.set()
        # Ours, or a wait for it would be collected as garbage.
        self.never = asyncio.Event()
        self.arrivals = threading.Semaphore(0)
        self._address = host, port
        self._listening: list[asyncio.Server] = []
        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self.lead_to(*self._address)
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def lead_to(self, host: str, port: int) -> int:
        """One more port, that leads to another server; every fault is one of all ports."""
        return self._call(self._listen(host, port))

    def delay(self, seconds: float) -> None:
        """Let every message take so long, in either direction."""
        self.latency = seconds

    def silence(self, silent: bool = True) -> None:
        """Accept and take everything, and pass nothing on; or pass on what has gathered."""
        self._call(self._silence(silent))

    def reset(self, said: str = "") -> int:
        """Cut the connections that have sent a statement that matches; how many they are."""
        return self._call(self._reset(re.compile(said, re.IGNORECASE)))

    def strand(self, said: str = "") -> int:
        """Leave such connections half open for ever: neither side hears of the other again."""
        return self._call(self._strand(re.compile(said, re.IGNORECASE)))

    def clear(self) -> None:
        """End the connections that are half open, for the server too."""
        self._call(self._clear())

    def cut_reply_to(self, statement: str, times: int = 1) -> None:
        """The next statements that match reach the server, and are committed if they commit.

        Their reply does not come back: the connection is reset instead.
        """
        self.cuts += [re.compile(statement, re.IGNORECASE)] * times

    def take_cut(self, statement: str) -> bool:
        for cut in self.cuts:
            if cut.search(statement):
                self.cuts.remove(cut)
                return True
        return False

    def wait_for_arrivals(self, count: int) -> bool:
        """Until so many connections came since the last call; False when they did not."""
        while self.arrivals.acquire(blocking=False):
            pass
        return all(self.arrivals.acquire(timeout=PATIENCE) for _ in range(count))

    def _call[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    async def _listen(self, host: str, port: int) -> int:
        accept = partial(self._accept, host, port)
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._listening.append(server)
        chosen: int = server.sockets[0].getsockname()[1]
        return chosen

    async def _accept(
        self,
        host: str,
        port: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.accepted += 1
        self.arrivals.release()
        try:
            upstream = await connect(host, port)
        except OSError:
            self.refused += 1
            writer.transport.abort()
            return
        link = Link(self, (reader, writer), upstream)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)

    async def _silence(self, silent: bool) -> None:
        self.flowing.clear() if silent else self.flowing.set()

    async def _reset(self, said: re.Pattern[str]) -> int:
        links = self._living(said)
        for link in links:
            link.abort()
        return len(links)

    async def _strand(self, said: re.Pattern[str]) -> int:
        links = self._living(said)
        for link in links:
            link.stranded = True
        return len(links)

    async def _clear(self) -> None:
        for link in self._links:
            if link.stranded:
                link.abort()

    def _living(self, said: re.Pattern[str]) -> list[Link]:
        return [link for link in self._links if link.has_said(said) and not link.stranded]

    async def _close(self) -> None:
        for server in self._listening:
            server.close()
        for link in self._links:
            link.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)


class Link:
    """One connection through the proxy: two streams, one for each direction."""

    def __init__(self, proxy: Proxy, client: Any, server: Any) -> None:
        self.proxy = proxy
        self.client_reader, self.client_writer = client
        self.server_reader, self.server_writer = server
        self.stranded = self.cut = False
        self.statements: set[str] = set()
        self._said = Statements(self._on_statement)
        self._heard = Messages(begun=True)

    def has_said(self, pattern: re.Pattern[str]) -> bool:
        return any(pattern.search(statement) for statement in self.statements)

    def abort(self) -> None:
        """A reset, for both sides."""
        self.client_writer.transport.abort()
        self.server_writer.transport.abort()

    async def run(self) -> None:
        pumps = [
            asyncio.ensure_future(self._pump(self.client_reader, self._to_server)),
            asyncio.ensure_future(self._pump(self.server_reader, self._to_client)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        self.abort()

    async def _pump(self, reader: asyncio.StreamReader, pass_on: Callable[[bytes], None]) -> None:
        try:
            while data := await reader.read(LONGEST_READ):
                if self.proxy.latency:
                    await asyncio.sleep(self.proxy.latency)
                await self.proxy.flowing.wait()
                if self.stranded:
                    await self.proxy.never.wait()
                pass_on(data)
        except OSError:
            pass

    def _to_server(self, data: bytes) -> None:
        # Read first: the reply may be in before the next line.
        self._said.feed(data)
        self.server_writer.write(data)

    def _to_client(self, data: bytes) -> None:
        # Every reply ends with ReadyForQuery; what came before it is lost with it.
        ready = any(kind == b"Z" for kind, _ in self._heard.feed(data))
        if not self.cut:
            self.client_writer.write(data)
        elif ready:
            self.proxy.cuts_made += 1
            self.abort()

    def _on_statement(self, statement: str) -> None:
        self.statements.add(statement)
        self.cut = self.cut or self.proxy.take_cut(statement)


class Messages:
    """Cuts a stream into messages: kind and body. A client's first one has no kind."""

    def __init__(self, begun: bool = False) -> None:
        self._begun = begun
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._rest += data
        return iter(list(self._whole()))

    def _whole(self) -> Iterator[tuple[bytes, bytes]]:
        while True:
            head = 1 if self._begun else 0
            if len(self._rest) < head + 4:
                return
            (length,) = struct.unpack_from("!i", self._rest, head)
            if len(self._rest) < head + length:
                return
            kind, body = self._rest[:head], self._rest[head + 4 : head + length]
            self._rest = self._rest[head + length :]
            self._begun = True
            yield kind, body


class Statements:
    """Reads what a client sends and tells each statement that is about to run."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._messages = Messages()
        self._tell = tell
        self._prepared: dict[bytes, str] = {}

    def feed(self, data: bytes) -> None:
        for kind, body in self._messages.feed(data):
            if kind == b"Q":
                self._tell(body.rstrip(b"\0").decode(errors="replace"))
            elif kind == b"P":
                name, statement, _ = body.split(b"\0", 2)
                self._prepared[name] = statement.decode(errors="replace")
            elif kind == b"B":
                _, name, _ = body.split(b"\0", 2)
                self._tell(self._prepared.get(name, ""))
