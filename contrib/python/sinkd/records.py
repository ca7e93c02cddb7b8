"""What replies and events are made of. Each record has the protocol's fields as attributes, and all that came, also
fields of a newer daemon, in `fields`."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Type, TypeVar

R = TypeVar('R', bound='Record')


@dataclass(frozen=True)
class Record:
    """A map of the protocol."""

    fields: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls: Type[R], fields: Mapping[str, Any], **built: Any) -> R:
        """A record of this map; keys that it does not know stay in `fields`; what is `built` replaces plain values."""
        known = {key: value for key, value in fields.items()
                 if key in cls.__dataclass_fields__ and value is not None and key != 'fields'}
        return cls(fields, **{**known, **built})


@dataclass(frozen=True)
class Info(Record):
    """A conversation as the daemon describes it; the page of the protocol explains each field."""

    name: str = ''
    state: str = ''
    messages: int = 0
    tokens: int = 0
    waiting: int = 0
    policy: str = ''
    pinned: int = 0
    kept: int = 0
    window: int = 0
    evicted: int = 0
    evicted_end: int = 0
    cache_bytes: int = 0
    tier: str = ''
    pin: bool = False
    clients: int = 0
    created: float = 0.0
    used: float = 0.0
    seq: int = 0
    first_seq: int = 0
    answer: Optional[int] = None
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Logged(Record):
    """A message of a conversation."""

    message: int = 0
    role: str = ''
    text: str = ''
    tokens: int = 0
    first_token: int = 0
    time: float = 0.0
    finish: Optional[str] = None


@dataclass(frozen=True)
class Match(Record):
    """A place where a text was found."""

    conversation: str = ''
    message: int = 0
    role: str = ''
    time: float = 0.0
    before: str = ''
    match: str = ''
    after: str = ''


@dataclass(frozen=True)
class Model(Record):
    """A model that the daemon could load."""

    name: str = ''
    path: str = ''
    loaded: bool = False


@dataclass(frozen=True)
class Usage(Record):
    """What an answer cost, in tokens."""

    prompt: int = 0
    cached: int = 0
    generated: int = 0
    evicted: int = 0
    kept: int = 0
    window: int = 0
    pinned: int = 0


@dataclass(frozen=True)
class Timing(Record):
    """How long an answer took."""

    queue_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    first_ms: float = 0.0
    prompt_per_s: float = 0.0
    decode_per_s: float = 0.0


@dataclass(frozen=True)
class New(Record):
    """A conversation that was made; `note` is a sentence for a person, where there is something to say."""

    conversation: Info = Info()
    note: Optional[str] = None


@dataclass(frozen=True)
class Said(Record):
    """What became of something said: the number of its message and of the message's event."""

    conversation: Info = Info()
    message: int = 0
    seq: int = 0
    note: Optional[str] = None


@dataclass(frozen=True)
class Rewind(Record):
    """A conversation after its end was forgotten, `by` the cache or by reading the rest anew ("replay")."""

    conversation: Info = Info()
    by: str = ''


@dataclass(frozen=True)
class Fed(Record):
    """A conversation after raw text was read into it."""

    conversation: Info = Info()
    tokens: int = 0


@dataclass(frozen=True)
class Found(Record):
    """What a search found; `more` when there was more than was asked for."""

    matches: List[Match] = field(default_factory=list)
    more: bool = False


@dataclass(frozen=True)
class Text(Record):
    """The text of tokens; `bytes` are theirs also where they are no UTF-8."""

    text: str = ''
    bytes: bytes = b''


@dataclass(frozen=True)
class Scores(Record):
    """Tokens and the log-probability of each; None for one that nothing precedes."""

    tokens: List[int] = field(default_factory=list)
    logprobs: List[Optional[float]] = field(default_factory=list)


@dataclass(frozen=True)
class Imported(Record):
    """A conversation made of a bundle; `cache` tells what became of the cache in it."""

    conversation: Info = Info()
    cache: str = ''
    note: Optional[str] = None


@dataclass(frozen=True)
class Answer(Record):
    """An answer, as far as it was seen."""

    message: int = 0
    text: str = ''
    finish: Optional[str] = None
    usage: Usage = Usage()
    timing: Timing = Timing()
    ids: List[int] = field(default_factory=list)
    logprobs: List[float] = field(default_factory=list)
    top_logprobs: List[List[Dict[str, Any]]] = field(default_factory=list)


def with_info(cls: Type[R], reply: Dict[str, Any]) -> R:
    """A record whose `conversation` is an Info."""
    return cls.of(reply, conversation=Info.of(reply['conversation']))
