"""Where the daemon is: a person's own comes before the system's, unless only the system's is there."""
from __future__ import annotations

import os
import stat
from typing import Optional

from .errors import Invalid

_SYSTEM = '/run/sinkd/sinkd.sock'
_PATH_MOST = 107


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _default() -> str:
    runtime: Optional[str] = os.environ.get('XDG_RUNTIME_DIR', '')
    if not runtime or not runtime.startswith('/'):
        runtime = f'/run/user/{os.getuid()}'
        if not os.access(runtime, os.X_OK):
            return _SYSTEM
    own = f'{runtime}/sinkd/sinkd.sock'
    return _SYSTEM if not _is_socket(own) and _is_socket(_SYSTEM) else own


def find(given: Optional[str] = None) -> str:
    """The endpoint for ZeroMQ: `given`, else $SINK_HOST, else the socket of the user's daemon or the system's."""
    place = given or os.environ.get('SINK_HOST') or _default()
    if place.startswith('/'):
        place = 'ipc://' + place
    if not place.startswith(('ipc://', 'tcp://')):
        raise Invalid(f'"{place}" is no endpoint: it must begin with ipc://, tcp:// or a slash.')
    if place.startswith('ipc://') and len(os.fsencode(place)) - len('ipc://') > _PATH_MOST:
        raise Invalid(f'The path of the socket {place} is longer than {_PATH_MOST} bytes.')
    return place
