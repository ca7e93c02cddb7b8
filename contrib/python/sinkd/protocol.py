"""The protocol without a socket: frames go in, frames come out of `outbox`, and requests and tails change their state.

A request has one reply. A tail is one reader of one conversation's events; the tails of a conversation share the feed,
the one attachment to it that a connection can have. A feed has a cursor, the number of the event that it wants next:
an event before it was seen already, one beyond it shows a gap, and after a loss the feed comes back at it. So whatever
happens to the connection or to the daemon, the events of a tail follow each other. Nothing here waits or knows time.
"""
from __future__ import annotations

import secrets
from collections import deque
from typing import Any, Deque, Dict, List, Mapping, Optional, Tuple

from .errors import ConnectionLost, Gone, Invalid, NotFound, Protocol, SinkError, error_of
from .values import checked, pack, unpack

VERSION = 1
CREDIT = 262144  # bytes of events that may be under way, for one conversation

# What may become of a request whose connection was lost before its reply. Those that are not named here change
# something: they carry a key, so that the daemon knows the request when it is sent again.
_HARMLESS = {'list', 'show', 'log', 'search', 'status', 'models', 'tokenize', 'detokenize', 'score', 'stop', 'attach',
             'bundle', 'bundle_new'}
_NEVER_AGAIN = {'hello', 'detach', 'credit', 'shutdown', 'bundle_read', 'bundle_write', 'bundle_close'}


class _Awaited:
    """Something that others wait for: `wakes` are their futures, as asyncio has them."""

    def __init__(self) -> None:
        self.wakes: List[Any] = []

    def wake(self) -> None:
        """Something has changed."""
        for future in self.wakes:
            if not future.done():
                future.set_result(None)


class Request(_Awaited):
    """A request until its reply: then `done`, with `reply` or `error`."""

    def __init__(self, op: str, number: int, frame: bytes, repeats: bool) -> None:
        super().__init__()
        self.op = op
        self.number = number
        self.frame = frame
        self.repeats = repeats  # may be sent again on the next connection
        self.sent = False  # on this connection
        self.ever = False  # on any
        self.done = False
        self.reply: Dict[str, Any] = {}
        self.error: Optional[SinkError] = None
        self.tail: Optional[Tail] = None


class Tail(_Awaited):
    """A reader of a conversation's events. Those that wait for it are in `queue`; `ended` when no more will come."""

    def __init__(self, request: Request, start: Optional[int], credit: int) -> None:
        super().__init__()
        self.request = request
        self.start = start  # the event to begin with, when that was asked for
        self.credit = credit
        self.next: Optional[int] = None  # the event to queue next; before the reply all are
        self.queue: Deque[Tuple[Dict[str, Any], _Share]] = deque()
        self.feed: Optional[Feed] = None
        self.ended = False
        self.error: Optional[SinkError] = None


class Feed:
    """The attachment to a conversation."""

    def __init__(self, name: str, credit: int) -> None:
        self.name = name
        self.credit = credit
        self.number: Optional[int] = None  # the daemon's; None while there is none on this connection
        self.cursor = 0
        self.taken = 0  # bytes that are still to be granted again
        self.request = 0  # the attach that is to bring it back
        self.tails: List[Tail] = []


class _Share:
    """An event's bytes, given back when the last of its readers has taken it."""

    def __init__(self, feed: Feed, size: int) -> None:
        self.feed = feed
        self.number = feed.number
        self.size = size
        self.left = 0


class Core:
    """One client's side of the protocol."""

    def __init__(self, client: str) -> None:
        self.outbox: Deque[bytes] = deque()
        self.hello: Optional[Dict[str, Any]] = None  # of the latest connection
        self.ready = False  # hello is answered
        self.refusal: Optional[SinkError] = None  # why this connection is of no use
        self.discarded: Deque[Tail] = deque()  # by readers that nobody holds any more
        self._client = client
        self._leaving = False  # the daemon has said bye: what can wait is for the next one
        self._last = 0
        self._hello = 0
        self._pending: Dict[int, Request] = {}
        self._feeds: Dict[str, Feed] = {}

    # ---- what a shell asks for ----

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a connection."""
        return bool(self._pending or self._feeds)

    def start(self, op: str, fields: Mapping[str, Any]) -> Request:
        """Begins a request; Invalid when its fields could not be sent."""
        values = checked(dict(fields))
        repeats = op not in _NEVER_AGAIN
        if repeats and op not in _HARMLESS:
            values.setdefault('key', secrets.randbelow((1 << 63) - 1) + 1)
        self._last += 1
        request = Request(op, self._last, pack({'op': op, 'id': self._last, **values}), repeats)
        if self.hello:
            self._check_size(request)
            if request.error:
                raise request.error
        self._pending[request.number] = request
        self._send(request)
        return request

    def greet(self) -> Request:
        """A request for a connection: its reply is the daemon's to hello."""
        self._last += 1
        request = Request('hello', self._last, b'', True)
        self._pending[request.number] = request
        self._send(request)
        return request

    def follow(self, op: str, fields: Mapping[str, Any], credit: int) -> Tail:
        """Begins a request that attaches its client, and the tail that comes of it."""
        name = fields.get('conversation')
        feed = self._feeds.get(name) if isinstance(name, str) else None
        start = fields.get('from')
        values = {**fields, 'credit': credit}
        if op != 'attach':
            values['attach'] = True
        elif feed and (start is None or (isinstance(start, int) and start > feed.cursor)):
            values['from'] = feed.cursor  # the others on this feed still want these
        request = self.start(op, values)
        tail = Tail(request, start, credit)
        request.tail = tail
        if feed:
            tail.feed = feed
            feed.tails.append(tail)
        return tail

    def forget(self, request: Request) -> None:
        """Nobody waits for this one any more."""
        self._pending.pop(request.number, None)

    def take(self, tail: Tail) -> Dict[str, Any]:
        """The next event in the tail's queue, whose bytes are thereby taken."""
        fields, share = tail.queue.popleft()
        self._give_back(share)
        return fields

    def drop(self, tail: Tail) -> None:
        """The reader goes; the last one of a feed ends the attachment. What is being answered goes on."""
        feed = tail.feed
        self.forget(tail.request)
        while tail.queue:
            self._give_back(tail.queue.popleft()[1])
        tail.ended = True
        tail.feed = None
        if not feed or tail not in feed.tails:
            return
        feed.tails.remove(tail)
        if not feed.tails and self._feeds.get(feed.name) is feed:
            del self._feeds[feed.name]
            if feed.number is not None:
                self._post('detach', attachment=feed.number)

    def reap(self) -> None:
        """Drops the tails whose readers were discarded."""
        while self.discarded:
            self.drop(self.discarded.popleft())

    # ---- what happens to the connection ----

    def opened(self) -> None:
        """A new connection: hello comes first."""
        self.outbox.clear()
        self.refusal = None
        self._leaving = False
        self._hello = self._post('hello', protocol=VERSION, client=self._client)

    def lost(self) -> None:
        """The connection is gone. What can be sent again waits for the next one."""
        self.outbox.clear()
        self.ready = False
        for feed in self._feeds.values():
            feed.number = None
            feed.request = feed.taken = 0
        for request in list(self._pending.values()):
            if request.sent and not request.repeats:
                self._settle(request, error=ConnectionLost(
                    f'The connection was lost before "{request.op}" was answered: it may have been carried out.'))
            request.sent = False

    def fail(self, error: SinkError) -> None:
        """No connection will come: all that waits ends."""
        for feed in list(self._feeds.values()):
            self._end(feed, error)
        for request in list(self._pending.values()):
            self._settle(request, error=error)

    def received(self, frame: bytes) -> None:
        """Takes a frame in. `refusal` is set when it ends the use of this connection."""
        try:
            message = unpack(frame)
            if isinstance(message.get('ev'), str):
                self._event(message, len(frame))
            else:
                self._reply(message)
        except Protocol as error:
            self.refusal = error
        except (KeyError, TypeError, AttributeError):
            self.refusal = Protocol('What came from the daemon is not what its protocol says.')

    # ---- requests ----

    def _post(self, op: str, **fields: Any) -> int:
        """Sends what nobody waits for; its number."""
        self._last += 1
        self.outbox.append(pack({'op': op, 'id': self._last, **fields}))
        return self._last

    def _check_size(self, request: Request) -> None:
        most = ((self.hello or {}).get('limits') or {}).get('message_bytes')
        if most and len(request.frame) > most:
            request.error = Invalid(f'The request has {len(request.frame)} bytes; the daemon takes {most}.')

    def _send(self, request: Request) -> None:
        if request.sent or not self.ready or (self._leaving and request.repeats):
            return
        if not request.frame:
            self._settle(request, self.hello)
            return
        request.sent = request.ever = True
        self.outbox.append(request.frame)

    def _settle(self, request: Request, reply: Optional[Dict[str, Any]] = None,
                error: Optional[SinkError] = None) -> None:
        self._pending.pop(request.number, None)
        request.done = True
        request.reply = reply or {}
        request.error = error
        if request.tail and error:
            self._finish(request.tail, error)
        elif request.tail:
            self._followed(request.tail, request.reply)
        request.wake()

    def _reply(self, message: Dict[str, Any]) -> None:
        number = message.get('id') or 0
        error = message.get('error')
        wrong = error_of(error['code'], error['text']) if error else None
        reply = message.get('ok') or {}
        if number == self._hello:
            self._greeted(reply, wrong)
            return
        request = self._pending.get(number)
        if request and request.sent:
            if wrong and wrong.code == 'ebusy' and self._leaving and request.repeats:
                request.sent = False  # the next daemon is asked
            else:
                self._settle(request, reply, wrong)
            return
        feed = next((one for one in self._feeds.values() if number and one.request == number), None)
        if feed:
            self._came_back(feed, reply, wrong)
        elif 'attachment' in reply and not self._numbered(reply['attachment']):
            self._post('detach', attachment=reply['attachment'])  # its reader has gone meanwhile

    def _greeted(self, reply: Dict[str, Any], wrong: Optional[SinkError]) -> None:
        if not wrong and reply.get('protocol') != VERSION:
            wrong = Protocol(
                f'The daemon speaks version {reply.get("protocol")} of the protocol, this client {VERSION}.')
        if wrong:
            self.refusal = wrong
            return
        self.hello = reply
        self.ready = True
        for feed in self._feeds.values():
            self._come_back(feed)
        for request in list(self._pending.values()):
            self._check_size(request)
            if request.error:
                self._settle(request, error=request.error)
            else:
                self._send(request)

    # ---- feeds and tails ----

    def _numbered(self, number: Optional[int]) -> Optional[Feed]:
        return next((one for one in self._feeds.values() if number is not None and one.number == number), None)

    def _followed(self, tail: Tail, reply: Dict[str, Any]) -> None:
        """The reply that makes a tail what it is."""
        info, seq, number = reply['conversation'], reply['seq'], reply.get('attachment')
        feed = self._numbered(number) or self._feeds.get(info['name'])
        if not feed:
            feed = self._feeds[info['name']] = Feed(info['name'], tail.credit)
            feed.cursor = seq
        if tail.feed is not feed:
            if tail.feed:
                tail.feed.tails.remove(tail)
            tail.feed = feed
            feed.tails.append(tail)
        tail.next = seq
        if tail.request.op == 'attach':
            tail.next = tail.start if tail.start is not None else info['seq']
            feed.number, feed.cursor, feed.taken, feed.request = number, seq, 0, 0
        elif number is None and feed.number is None and not feed.request:
            self._come_back(feed)  # this reply was kept from before a loss, and attaches nobody
        elif number is not None and feed.number is None and not feed.request:
            feed.number = number
        queued, tail.queue = tail.queue, deque()
        for fields, share in queued:  # what came before the reply, on a feed that was there already; attach begins anew
            if tail.request.op == 'attach' or fields['seq'] < tail.next:
                self._give_back(share)
            else:
                tail.queue.append((fields, share))
                tail.next = fields['seq'] + 1
        tail.wake()

    def _come_back(self, feed: Feed) -> None:
        feed.number = None
        feed.taken = 0
        feed.request = self._post('attach', conversation=feed.name, credit=feed.credit, **{'from': feed.cursor})

    def _came_back(self, feed: Feed, reply: Dict[str, Any], wrong: Optional[SinkError]) -> None:
        feed.request = 0
        if isinstance(wrong, Invalid):
            wrong = Gone(f'The daemon has lost events of "{feed.name}" that were seen already.')
        if wrong:
            self._end(feed, wrong)
            return
        feed.number, feed.cursor = reply['attachment'], reply['seq']

    def _finish(self, tail: Tail, error: Optional[SinkError]) -> None:
        tail.ended = True
        tail.error = tail.error or error
        tail.wake()

    def _end(self, feed: Feed, error: Optional[SinkError]) -> None:
        """The attachment has ended, and with it its tails; those whose request is under way see what that brings."""
        if self._feeds.get(feed.name) is feed:
            del self._feeds[feed.name]
        tails, feed.tails = feed.tails, []
        for tail in tails:
            tail.feed = None
            if tail.next is not None:
                self._finish(tail, error)

    def _event(self, message: Dict[str, Any], size: int) -> None:
        name, kind = message.get('conversation'), message['ev']
        if name is None:
            self._leaving = self._leaving or kind == 'bye'
            return
        feed = self._feeds.get(name)
        if not feed or feed.number is None:
            return
        if kind == 'error' and message['code'] == 'egone':
            self._end(feed, Gone(message['text']))
            return
        if message['seq'] > feed.cursor:
            self._come_back(feed)
        if message['seq'] != feed.cursor:
            return
        feed.cursor += 1
        self._hand_out(feed, message, size)
        if kind == 'renamed':
            del self._feeds[name]
            feed.name = message['to']
            self._feeds[feed.name] = feed
        elif kind == 'removed':
            self._end(feed, NotFound(f'The conversation "{name}" was removed.'))

    def _hand_out(self, feed: Feed, message: Dict[str, Any], size: int) -> None:
        share = _Share(feed, size)
        wanting = [tail for tail in feed.tails if tail.next is None or message['seq'] >= tail.next]
        share.left = max(1, len(wanting))
        for tail in wanting:
            if tail.next is not None:
                tail.next = message['seq'] + 1
            tail.queue.append((message, share))
            tail.wake()
        if not wanting:
            self._give_back(share)

    def _give_back(self, share: _Share) -> None:
        """Grants what was taken, when half of the first grant has come together."""
        share.left -= 1
        feed = share.feed
        if share.left or feed.number is None or share.number != feed.number or not self.ready:
            return
        feed.taken += share.size
        if feed.taken >= max(1, feed.credit // 2):
            self._post('credit', attachment=feed.number, bytes=feed.taken)
            feed.taken = 0
