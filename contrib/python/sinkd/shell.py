"""The two ways to wait: Shell blocks the thread that asks, AsyncShell an asyncio task. All else is one for both."""
from __future__ import annotations

import asyncio
import math
import threading
import time
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Union

import zmq

from .errors import ConnectionLost, SinkError, Timeout
from .link import Link
from .protocol import Core, Request, Tail


class _Base:
    """What both shells do without waiting."""

    def __init__(self, endpoint: str, client: str, patience: Optional[float]) -> None:
        self.core = Core(client)
        self.link = Link(self.core, endpoint, patience)

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self.link.closed

    def _open(self) -> None:
        if self.link.closed:
            raise ConnectionLost('This client was closed.')

    def _late(self, request: Request) -> SinkError:
        """The reply did not come in time."""
        self.core.forget(request)
        if not self.core.ready:
            return self.link.reason
        return Timeout(f'The daemon did not answer "{request.op}" in time.')

    @staticmethod
    def _outcome(request: Request) -> Dict[str, Any]:
        if request.error:
            raise request.error
        return request.reply

    def _event(self, tail: Tail) -> Optional[Dict[str, Any]]:
        """The next event; None when no more will come."""
        if tail.queue:
            return self.core.take(tail)
        if tail.error:
            raise tail.error
        return None


def _deadline(timeout: Optional[float]) -> float:
    return math.inf if timeout is None else time.monotonic() + timeout


class Shell(_Base):
    """Waits by blocking. One thread at a time: a second one that comes while another is in here is told so."""

    def __init__(self, endpoint: str, client: str, patience: Optional[float]) -> None:
        super().__init__(endpoint, client, patience)
        self._lock = threading.RLock()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError('This client is in use by another thread; give each thread a Client of its own.')
        try:
            yield
        finally:
            self._lock.release()

    def greet(self, patience: Optional[float]) -> Request:
        """Asks for a connection, to be tried for so long."""
        with self._alone():
            self._open()
            self.link.first_patience = patience
            return self.core.greet()

    def start(self, op: str, fields: Mapping[str, Any]) -> Request:
        """Sends a request without waiting for its reply."""
        with self._alone():
            self._open()
            request = self.core.start(op, fields)
            self.link.advance()
            return request

    def follow(self, op: str, fields: Mapping[str, Any], credit: int) -> Tail:
        """Sends a request that attaches, without waiting for its reply."""
        with self._alone():
            self._open()
            tail = self.core.follow(op, fields, credit)
            self.link.advance()
            return tail

    def reply(self, request: Request, timeout: Optional[float]) -> Dict[str, Any]:
        """Waits for the reply."""
        with self._alone():
            if not self._wait(lambda: request.done, _deadline(timeout)):
                raise self._late(request)
            return self._outcome(request)

    def next(self, tail: Tail) -> Optional[Dict[str, Any]]:
        """Waits for the next event; None when no more will come."""
        with self._alone():
            self._wait(lambda: bool(tail.queue or tail.ended), math.inf)
            fields = self._event(tail)
            self.link.advance()
            return fields

    def drop(self, tail: Tail) -> None:
        """Ends a tail."""
        with self._alone():
            self.core.drop(tail)
            self.link.advance()

    def close(self) -> None:
        """Closes the connection."""
        with self._alone():
            self.link.close()

    def _wait(self, ready: Callable[[], bool], deadline: float) -> bool:
        while True:
            self.link.advance()
            if ready():
                return True
            if self.link.closed or time.monotonic() >= deadline:
                return False
            self._doze(deadline)

    def _doze(self, deadline: float) -> None:
        due = self.link.due()
        until = deadline if due is None else min(deadline, due)
        left = -1 if until == math.inf else max(0, math.ceil(1000 * (until - time.monotonic())))
        poller = zmq.Poller()
        for each in self.link.sockets:
            poller.register(each, zmq.POLLIN)
        if self.link.sockets:
            poller.poll(left)
        elif left > 0:
            time.sleep(left / 1000)


class AsyncShell(_Base):
    """Waits in the event loop that is running at the first use, and belongs to it from then on.

    ZeroMQ's descriptors are edge-triggered, so all that is there is taken in at each sign of life and after each send.
    """

    def __init__(self, endpoint: str, client: str, patience: Optional[float]) -> None:
        super().__init__(endpoint, client, patience)
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._watched: List[int] = []
        self._watching: List[zmq.Socket[bytes]] = []

    def greet(self, patience: Optional[float]) -> Request:
        """Asks for a connection, to be tried for so long."""
        self._open()
        self._home()
        self.link.first_patience = patience
        return self.core.greet()

    def start(self, op: str, fields: Mapping[str, Any]) -> Request:
        """Sends a request without waiting for its reply."""
        self._open()
        self._home()
        request = self.core.start(op, fields)
        self._advance()
        return request

    def follow(self, op: str, fields: Mapping[str, Any], credit: int) -> Tail:
        """Sends a request that attaches, without waiting for its reply."""
        self._open()
        self._home()
        tail = self.core.follow(op, fields, credit)
        self._advance()
        return tail

    async def reply(self, request: Request, timeout: Optional[float]) -> Dict[str, Any]:
        """Waits for the reply."""
        try:
            await self._until(request, lambda: request.done, timeout)
        except asyncio.CancelledError:
            if not request.tail:
                self.core.forget(request)
            raise
        if not request.done:
            raise self._late(request)
        return self._outcome(request)

    async def next(self, tail: Tail) -> Optional[Dict[str, Any]]:
        """Waits for the next event; None when no more will come."""
        await self._until(tail, lambda: bool(tail.queue or tail.ended), None)
        fields = self._event(tail)
        if self.core.outbox:
            self._advance()
        return fields

    def drop(self, tail: Tail) -> None:
        """Ends a tail."""
        self.core.drop(tail)
        self._advance()

    def close(self) -> None:
        """Closes the connection."""
        self._unwatch()
        self.link.close()
        self._watch()

    def _home(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise RuntimeError('This client belongs to another event loop; give each loop an AsyncClient of its own.')
        return loop

    async def _until(self, waiting: Union[Request, Tail], ready: Callable[[], bool], timeout: Optional[float]) -> None:
        """Waits for what a Request or a Tail is to become; no longer than this many seconds."""
        loop = self._home()
        self._advance()
        deadline = _deadline(timeout)
        while not ready() and not self.link.closed:
            left = None if deadline == math.inf else deadline - loop.time()
            if left is not None and left <= 0:
                return
            woken: asyncio.Future[None] = loop.create_future()
            waiting.wakes.append(woken)
            try:
                await (asyncio.wait({woken}, timeout=left) if left is not None else woken)
            finally:
                waiting.wakes.remove(woken)

    # ---- the loop's side ----

    def _advance(self) -> None:
        if self._loop is None or self._loop.is_closed():
            return
        more = self.link.advance()
        self._watch()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        due = self.link.due()
        if more:
            self._timer = self._loop.call_later(0, self._advance)
        elif due is not None:
            self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._advance)

    def _watch(self) -> None:
        """Lets the loop look at the descriptors of the present connection."""
        if self._watching == self.link.sockets or self._loop is None:
            return
        self._unwatch()
        self._watching = self.link.sockets
        for each in self._watching:
            number = each.getsockopt(zmq.FD)
            assert isinstance(number, int)
            self._watched.append(number)
            self._loop.add_reader(number, self._advance)

    def _unwatch(self) -> None:
        if self._loop and not self._loop.is_closed():
            for number in self._watched:
                self._loop.remove_reader(number)
        if self.link.closed and self._timer:
            self._timer.cancel()
        self._watched = []
        self._watching = []
