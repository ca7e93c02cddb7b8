"""Values on their way to and from the daemon: what it would refuse is found here, before anything is sent."""
from __future__ import annotations

import math
from typing import Any, Dict

import msgpack

from .errors import Invalid, Protocol

DEEPEST = 16  # maps and lists within each other, the request's own map included
MOST_PAIRS = 128  # of one map
MOST_VALUES = 1 << 20
FRAME_MOST = 64 << 20  # bytes of a reply


class _Checker:
    def __init__(self) -> None:
        self.values = 0

    def plain(self, value: Any, path: str, depth: int) -> Any:
        """The value as it is sent; Invalid, naming its place, when it cannot be."""
        self.values += 1
        if self.values > MOST_VALUES:
            raise Invalid(f'The request has more than {MOST_VALUES} values.')
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, int):
            if not -1 << 63 <= value < 1 << 63:
                raise Invalid(f'{path} is a number beyond 64 bits.')
            return int(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise Invalid(f'{path} is {value}; only finite numbers can be sent.')
            return float(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        if isinstance(value, (dict, list, tuple)):
            return self._container(value, path, depth + 1)
        raise Invalid(f'{path} is of type {type(value).__name__}, which cannot be sent.')

    def _container(self, value: Any, path: str, depth: int) -> Any:
        if depth > DEEPEST:
            raise Invalid(f'{path} nests deeper than {DEEPEST}.')
        if not isinstance(value, dict):
            return [self.plain(one, f'{path}[{at}]', depth) for at, one in enumerate(value)]
        if len(value) > MOST_PAIRS:
            raise Invalid(f'{path} has {len(value)} keys; {MOST_PAIRS} can be sent.')
        for key in value:
            if not isinstance(key, str):
                raise Invalid(f'A key of {path} is of type {type(key).__name__}; keys are strings.')
        return {self._text(key, f'a key of {path}'): self.plain(one, f'{path}.{key}', depth)
                for key, one in value.items()}

    @staticmethod
    def _text(value: str, path: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Invalid(f'{path} has half of a surrogate pair at {error.start}, which is no UTF-8.') from None
        return str(value)


def checked(fields: Dict[str, Any]) -> Dict[str, Any]:
    """The fields of a request as they are sent, those that are None left out."""
    checker = _Checker()
    return {key: checker.plain(value, key, 1) for key, value in fields.items() if value is not None}


def pack(message: Dict[str, Any]) -> bytes:
    """A message as a frame."""
    frame: bytes = msgpack.packb(message, use_bin_type=True)
    return frame


def unpack(frame: bytes) -> Dict[str, Any]:
    """A frame as a message; Protocol when it is none."""
    try:
        message = msgpack.unpackb(frame, raw=False, strict_map_key=True)
    except Exception as error:  # msgpack raises its own kinds, ValueError, UnicodeDecodeError and others
        raise Protocol(f'What came from the daemon is no message: {error}') from None
    if not isinstance(message, dict):
        raise Protocol('What came from the daemon is no message, since it is no map.')
    return message
