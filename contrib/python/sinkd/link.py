"""One connection that comes and goes: a DEALER with a monitor that tells of its end, and the pauses between attempts.

ZeroMQ would reconnect by itself, but then what was queued before the loss could arrive ahead of hello or a second time;
so each connection is a socket of its own. A Link knows the protocol's core and moves frames between the two; it never
waits: that is the part of the shells.
"""
from __future__ import annotations

import errno
import itertools
import os
import socket as sockets
import time
from typing import Any, List, Optional

import zmq

from .errors import ConnectionLost, SinkError
from .protocol import Core
from .values import FRAME_MOST

_PAUSE_LEAST, _PAUSE_MOST = 0.02, 2.0  # seconds between attempts, doubled each time
_NEVER = 3600 * 1000  # ms until ZeroMQ's own attempt, which thus never comes
_HEARTBEAT, _HEARTBEAT_LOST = 5000, 15000  # ms; over TCP only, where a dead peer is silent
_AT_ONCE = 500  # frames that are taken in without a pause
_ENDS = (zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_CONNECT_RETRIED
         | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
         | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
_monitors = itertools.count()


class Link:
    """The connection under a core. `patience` is for how many seconds attempts go on before those that wait give up."""

    def __init__(self, core: Core, endpoint: str, patience: Optional[float]) -> None:
        self.core = core
        self.endpoint = endpoint
        self.patience = patience
        self.first_patience: Optional[float] = 0.0  # the same, before there was any connection
        self.closed = False
        self.reason: SinkError = ConnectionLost(f'There is no connection to {endpoint}.')
        self._context: Any = zmq.Context.instance()
        self._socket: Optional[zmq.Socket[bytes]] = None
        self._monitor: Optional[zmq.Socket[bytes]] = None
        self._connected = False  # the peer accepted: from here on a loss is no "nobody there"
        self._over = False  # the monitor told of the end; what had arrived before is still to be read
        self._pause = _PAUSE_LEAST
        self._next_try = 0.0
        self._down_since: Optional[float] = None  # since when somebody waits in vain

    @property
    def sockets(self) -> List[zmq.Socket[bytes]]:
        """What to wait for; empty between attempts."""
        return [one for one in (self._socket, self._monitor) if one is not None]

    def due(self) -> Optional[float]:
        """When advance() has something to do by itself, in time.monotonic(); None: only when the sockets say so."""
        if self.closed or self._socket or not self.core.wanted:
            return None
        return self._next_try

    def advance(self) -> bool:
        """Does all that can be done now. True when more has arrived than was taken in at once."""
        self.core.reap()
        while not self.closed:
            if not self._socket and not self._try():
                return False
            taken = self._receive()
            self._send()
            if self.core.refusal:
                self._drop(self.core.refusal)
            elif taken >= _AT_ONCE:
                return True
            elif not taken and not self._lost():
                return False
        return False

    def close(self) -> None:
        """The end; those that wait are told."""
        self.closed = True
        self._close_sockets()
        self.core.lost()
        self.core.fail(ConnectionLost('This client was closed.'))

    # ---- attempts ----

    def _try(self) -> bool:
        """Starts an attempt, if it is time for one and somebody wants it."""
        now = time.monotonic()
        if not self.core.wanted or now < self._next_try:
            return False
        if self._down_since is None:
            self._down_since = now
        self._open()
        self.core.opened()
        return True

    def _open(self) -> None:
        self._connected = self._over = False
        self._socket = self._context.socket(zmq.DEALER)
        for option, value in ((zmq.MAXMSGSIZE, FRAME_MOST), (zmq.LINGER, 0), (zmq.RECONNECT_IVL, _NEVER),
                              (zmq.SNDHWM, 0), (zmq.RCVHWM, 0)):
            self._socket.setsockopt(option, value)
        if self.endpoint.startswith('tcp://'):
            self._socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT)
            self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_LOST)
        name = f'inproc://sinkd-monitor-{next(_monitors)}'
        self._socket.monitor(name, _ENDS | zmq.EVENT_CONNECTED)
        self._monitor = self._context.socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.LINGER, 0)
        self._monitor.connect(name)
        self._socket.connect(self.endpoint)

    def _close_sockets(self) -> None:
        if self._socket:
            self._socket.disable_monitor()
            self._socket.close(0)
        if self._monitor:
            self._monitor.close(0)
        self._socket = self._monitor = None

    def _drop(self, why: SinkError) -> None:
        """This connection is of no use any more."""
        now = time.monotonic()
        patience = self.patience if self.core.hello else self.first_patience
        self.reason = why
        self._close_sockets()
        self.core.lost()
        self.core.refusal = None
        self._next_try = now + self._pause
        self._pause = min(2 * self._pause, _PAUSE_MOST)
        if self._down_since is None:
            self._down_since = now
        if why.code == 'eproto' or (patience is not None and now - self._down_since >= patience):
            self._down_since = None
            self._next_try = 0.0
            self._pause = _PAUSE_LEAST
            self.core.fail(why)

    def _lost(self) -> bool:
        """Hears what the monitor has to say. True when the connection is lost."""
        while self._monitor:
            try:
                event = int.from_bytes(self._monitor.recv_multipart(zmq.DONTWAIT)[0][:2], 'little')
            except zmq.Again:
                break
            self._connected = self._connected or event == zmq.EVENT_CONNECTED
            self._over = self._over or bool(event & _ENDS)
        if self._over and not self._receive():
            self._drop(self._why())
        return self._over

    def _why(self) -> SinkError:
        """Words for the loss. ZeroMQ does not tell why nobody answers, so a unix socket is asked once more."""
        if self._connected:
            return ConnectionLost(f'The connection to {self.endpoint} was lost.')
        text = f'No daemon answers at {self.endpoint}'
        if self.endpoint.startswith('ipc://'):
            path = self.endpoint[len('ipc://'):]
            with sockets.socket(sockets.AF_UNIX) as probe:
                probe.setblocking(False)
                code = probe.connect_ex('\0' + path[1:] if path.startswith('@') else path)
                if code not in (0, errno.EAGAIN):
                    text += f': {os.strerror(code)}'
        return ConnectionLost(text + '.')

    # ---- frames ----

    def _receive(self) -> int:
        """Takes in what has arrived; how many frames."""
        assert self._socket
        for taken in range(_AT_ONCE):
            try:
                frame = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                return taken
            self.core.received(frame)
            if self.core.refusal:
                return taken
            if self.core.ready:
                self._pause = _PAUSE_LEAST
                self._down_since = None
        return _AT_ONCE

    def _send(self) -> None:
        assert self._socket
        while self.core.outbox:
            try:
                self._socket.send(self.core.outbox[0], zmq.DONTWAIT)
            except zmq.Again:
                return  # the loss is about to be told
            self.core.outbox.popleft()
