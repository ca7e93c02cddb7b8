"""What may go wrong. Each code of the protocol is a class, so that callers catch what they can handle."""
from __future__ import annotations

from typing import Dict, Optional, Type


class SinkError(Exception):
    """Anything that goes wrong between this client and its daemon; `code` is the protocol's word for it."""

    code = 'error'

    def __init__(self, text: str, code: Optional[str] = None) -> None:
        super().__init__(text)
        self.text = text
        if code:
            self.code = code

    def __str__(self) -> str:
        return self.text


class Invalid(SinkError, ValueError):
    """A value of the wrong type or out of its range, whether this client or the daemon saw it."""

    code = 'einval'


class NotFound(SinkError, LookupError):
    """There is no such conversation, message or model."""

    code = 'enoent'


class Exists(SinkError):
    """The name is taken."""

    code = 'eexist'


class Busy(SinkError):
    """A limit is reached, or the conversation is answering: try later."""

    code = 'ebusy'


class Malformed(SinkError):
    """The daemon could not read a message."""

    code = 'eformat'


class OutOfMemory(SinkError):
    """The daemon has no memory for this."""

    code = 'enomem'


class DiskFailed(SinkError):
    """The daemon could not read or write a file."""

    code = 'eio'


class DeviceFailed(SinkError):
    """The daemon's accelerator failed."""

    code = 'edevice'


class Protocol(SinkError):
    """The other side speaks another version, or does not know the verb."""

    code = 'eproto'


class Gone(SinkError):
    """The events from this cursor on are no longer kept."""

    code = 'egone'


class ConnectionLost(SinkError, ConnectionError):
    """There is no connection, and none came back in time."""

    code = 'econn'


class Timeout(SinkError, TimeoutError):
    """The daemon is there, but did not answer in time."""

    code = 'etimedout'


_CLASSES: Dict[str, Type[SinkError]] = {
    each.code: each for each in (Invalid, NotFound, Exists, Busy, Malformed, OutOfMemory, DiskFailed, DeviceFailed,
                                 Protocol, Gone, ConnectionLost, Timeout)}


def error_of(code: str, text: str) -> SinkError:
    """The exception for a code; one that is not known here is a SinkError with that code."""
    return _CLASSES.get(code, SinkError)(text, code)
