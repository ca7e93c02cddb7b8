"""The events of a conversation's log, one class each; what this package does not know yet is an Unknown."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Type

from .records import Record, Timing, Usage


@dataclass(frozen=True)
class Event(Record):
    """An event: its conversation and its number there."""

    conversation: str = ''
    seq: int = 0


@dataclass(frozen=True)
class Message(Event):
    """A message was appended; not the assistant's, whose text streams."""

    message: int = 0
    role: str = ''
    text: str = ''
    tokens: int = 0


@dataclass(frozen=True)
class Begun(Event):
    """An answer begins."""

    message: int = 0


@dataclass(frozen=True)
class Prefill(Event):
    """Reading goes on."""

    message: int = 0
    done: int = 0
    total: int = 0
    ms: float = 0.0


@dataclass(frozen=True)
class Piece(Event):
    """A piece of the answer: whole characters. `ids`, `logprobs` and `top_logprobs` when they were asked for."""

    message: int = 0
    text: str = ''
    tokens: int = 0
    ids: List[int] = field(default_factory=list)
    logprobs: List[float] = field(default_factory=list)
    top_logprobs: List[List[Dict[str, Any]]] = field(default_factory=list)


@dataclass(frozen=True)
class Evicted(Event):
    """Tokens left the window."""

    first: int = 0
    count: int = 0
    kept: int = 0


@dataclass(frozen=True)
class Restored(Event):
    """The cache came back."""

    tokens: int = 0
    recomputed: int = 0
    ms: float = 0.0

    @property
    def source(self) -> str:
        """Where it came from: "memory", "disk" or "replay"."""
        return str(self.fields.get('from', ''))


@dataclass(frozen=True)
class Unsaved(Event):
    """The disk takes no more: what follows may be lost with the daemon."""

    code: str = ''
    text: str = ''


@dataclass(frozen=True)
class Saved(Event):
    """All is saved again."""


@dataclass(frozen=True)
class Done(Event):
    """The answer ended."""

    message: int = 0
    finish: str = ''
    usage: Usage = Usage()
    timing: Timing = Timing()


@dataclass(frozen=True)
class Failed(Event):
    """Something went wrong with this conversation; with `message`, with that answer."""

    code: str = ''
    text: str = ''
    message: Optional[int] = None


@dataclass(frozen=True)
class Rewound(Event):
    """Messages from this number on are forgotten."""

    messages: int = 0


@dataclass(frozen=True)
class Renamed(Event):
    """The last event under the old name."""

    to: str = ''


@dataclass(frozen=True)
class Removed(Event):
    """The last event of all."""


@dataclass(frozen=True)
class Unknown(Event):
    """An event of a newer daemon; `ev` is its kind, `fields` all that it says."""

    ev: str = ''


_CLASSES: Dict[str, Type[Event]] = {
    'message': Message, 'answer': Begun, 'prefill': Prefill, 'text': Piece, 'evicted': Evicted, 'restored': Restored,
    'unsaved': Unsaved, 'saved': Saved, 'done': Done, 'error': Failed, 'rewound': Rewound, 'renamed': Renamed,
    'removed': Removed}


def event_of(fields: Mapping[str, Any]) -> Event:
    """The event of this map."""
    cls = _CLASSES.get(fields['ev'], Unknown)
    if cls is Done:
        return Done.of(fields, usage=Usage.of(fields.get('usage') or {}), timing=Timing.of(fields.get('timing') or {}))
    return cls.of(fields)
