"""Client: the daemon's verbs as methods, and its streams as iterators.

Made from aio.py by twin.py: change it there.
"""
from __future__ import annotations

from types import TracebackType
from typing import (Any, Iterator, BinaryIO, Dict, List, Literal, Mapping, Optional, Sequence,
                    Type, Union, overload)

from . import events as _events
from .endpoint import find
from .errors import Invalid, NotFound, SinkError, error_of
from .protocol import CREDIT, Tail
from .records import (Answer, Fed, Found, Imported, Info, Logged, Match, Model, New, Rewind, Said, Scores, Text,
                      Timing, Usage, with_info)
from .shell import Shell

_CHUNK = 1 << 20  # bytes of a bundle that travel in one message
_STOP_WAIT = 5.0  # seconds that leaving a stream waits for its stop


class Stream:
    """Events of one conversation, in order and without a gap: an iterator and a context manager.

    A stream that was begun by say(), regenerate() or generate() ends with the answer that it asked for. Leaving its
    block before sends `stop` for that answer; detach() and a lost connection do not. One that was begun by attach()
    asked for nothing and stops nothing; it ends when the conversation is removed. It comes back by itself after a lost
    connection and after a restart of the daemon. At most `credit` bytes of events are under way, so a reader that does
    not read holds up nobody but the other streams of this client on the same conversation.
    """

    def __init__(self, client: Client, tail: Tail) -> None:
        self._client = client
        self._shell = client._shell
        self._tail = tail
        self._asks = tail.request.op != 'attach'
        self._over = False  # nothing more comes
        self._closed = False
        self._pieces: List[_events.Piece] = []
        self._done: Optional[_events.Done] = None
        self._failure: Optional[SinkError] = None
        self._name: str = ''
        self._info: Optional[Info] = None
        self.message: Optional[int] = None
        """The number of the message that was said."""
        self.seq: Optional[int] = None
        """The event that comes next: attach(start=seq) goes on there, also from another process."""
        self.note: Optional[str] = None
        """A sentence for a person, where the daemon has something to say about the conversation."""

    @property
    def conversation(self) -> str:
        """The name of the conversation, as it is after the events that were taken."""
        return self._name

    @property
    def info(self) -> Optional[Info]:
        """The conversation as it was when the stream began."""
        return self._info

    @property
    def answer(self) -> Answer:
        """The answer as far as it was seen: all of it when `finish` is set."""
        pieces, done = self._pieces, self._done
        return Answer(
            message=done.message if done else pieces[0].message if pieces else 0,
            text=''.join(piece.text for piece in pieces), finish=done.finish if done else None,
            usage=done.usage if done else Usage(), timing=done.timing if done else Timing(),
            ids=[one for piece in pieces for one in piece.ids],
            logprobs=[one for piece in pieces for one in piece.logprobs],
            top_logprobs=[one for piece in pieces for one in piece.top_logprobs])

    def begin(self) -> Stream:
        """Waits until the daemon has taken the request, which is sent already; raises what it answers otherwise."""
        if self._info or self._closed:
            return self
        try:
            reply = self._shell.reply(self._tail.request, self._client.timeout)
        except SinkError:
            self._end()
            raise
        self._info = Info.of(reply['conversation'])
        self._name = self._info.name
        self.message = reply.get('message')
        self.seq = self._tail.start if self._tail.start is not None else reply['seq']
        self.note = reply.get('note')
        return self

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> _events.Event:
        self.begin()
        if self._over or self._closed:
            raise StopIteration
        try:
            fields = self._shell.next(self._tail)
        except SinkError:
            self._end()
            raise
        if fields is None:
            self._end()
            raise StopIteration
        event = _events.event_of(fields)
        self._see(event)
        return event

    def text(self) -> Iterator[str]:
        """The pieces of the answer's text. An answer that was asked for and failed raises its error at the end."""
        for event in self:
            if isinstance(event, _events.Piece) and event.text:
                yield event.text
        if self._asks and self._failure:
            raise self._failure

    def result(self) -> Answer:
        """Reads on to the end of the answer, which is returned whole. When this is interrupted, the answer
        is stopped, if this stream asked for it."""
        if not self._asks:
            self._done = None
        try:
            while not self._done:
                self.__next__()
        except StopIteration:
            if not self._failure:
                raise NotFound('The stream ended before the answer did.') from None
        except BaseException:
            self._leave(quietly=True)
            raise
        if self._failure:
            raise self._failure
        return self.answer

    def stop(self) -> bool:
        """Stops the answer; what was written stays, and the stream goes on to its end. Whether there was one."""
        self.begin()
        return self._client.stop(self._name)

    def detach(self) -> None:
        """Leaves the stream; the answer goes on."""
        self.begin()
        self._end()

    def close(self) -> None:
        """What leaving the block does."""
        self._leave(quietly=False)

    def __enter__(self) -> Stream:
        try:
            return self.begin()
        except BaseException:
            self._leave(quietly=True)
            raise

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        trace: Optional[TracebackType]) -> None:
        self._leave(quietly=error is not None)

    def __del__(self) -> None:
        if hasattr(self, '_closed') and not self._closed:
            self._shell.core.discarded.append(self._tail)

    def _see(self, event: _events.Event) -> None:
        """Keeps what the event says about the answer."""
        self.seq = event.seq + 1
        if isinstance(event, _events.Begun):
            self._pieces = []
            self._failure = self._done = None
        elif isinstance(event, _events.Piece):
            self._pieces.append(event)
        elif isinstance(event, _events.Failed):
            self._failure = error_of(event.code, event.text)
        elif isinstance(event, _events.Done):
            self._see_done(event)
        elif isinstance(event, _events.Renamed):
            self._name = event.to
        elif isinstance(event, _events.Removed):
            self._failure = NotFound(f'The conversation "{event.conversation}" was removed.')
            self._end()

    def _see_done(self, event: _events.Done) -> None:
        self._done = event
        if event.finish != 'error':
            self._failure = None
        elif not self._failure:
            self._failure = SinkError('The answer ended with an error.')
        if self._asks:
            self._end()

    def _end(self) -> None:
        self._over = True
        if not self._closed:
            self._closed = True
            if not self._shell.closed:
                self._shell.drop(self._tail)

    def _answered(self) -> bool:
        """Whether nothing is left to be stopped, also by what has arrived and was not taken."""
        return not self._asks or self._over or self._tail.ended or any(
            fields['ev'] in ('done', 'removed') for fields, _ in self._tail.queue)

    def _leave(self, quietly: bool) -> None:
        """Ends the stream, and the answer that it asked for. `quietly` when another exception is on its way."""
        if self._closed or self._shell.closed:
            self._closed = True
            return
        try:
            if self._tail.request.ever and not self._answered():
                reply = self._shell.reply(self._tail.request, _STOP_WAIT)
                name = self._name or reply['conversation']['name']
                self._shell.reply(self._shell.start('stop', {'conversation': name}), _STOP_WAIT)
        except NotFound:
            pass
        except SinkError:
            if not quietly:
                raise
        finally:
            self._end()


class Client:
    """A connection to sinkd, with each verb of its protocol as a method.

    One thread may use it at a time; one that comes while another waits is told so by a RuntimeError.

    The connection is made by the first call, or by connect() or entering the block. When it is lost, it comes back by
    itself: requests whose replies were lost are sent again and are carried out once, and streams go on where they were.

    `endpoint` is where the daemon is (default: $SINK_HOST, the user's socket, the system's); `timeout` how many seconds
    a call waits for its reply (None: as long as it takes); `patience` for how many calls and streams wait for a
    connection that was lost; `credit` how many bytes of events of one conversation may be under way.

    Arguments that are None are not sent. `sampling` is the map of the protocol's page; `schema`, a JSON Schema, and
    `regex` are two of its fields. Where the daemon refuses, a SinkError of the matching class is raised; so is what it
    would refuse anyway, before it is sent.
    """

    def __init__(self, endpoint: Optional[str] = None, *, name: str = 'python', timeout: Optional[float] = 60.0,
                 patience: Optional[float] = 60.0, credit: int = CREDIT) -> None:
        self.timeout = timeout
        self.credit = credit
        self._shell = Shell(find(endpoint), name, patience)

    @property
    def endpoint(self) -> str:
        """Where the daemon is looked for."""
        return self._shell.link.endpoint

    @property
    def hello(self) -> Optional[Mapping[str, Any]]:
        """What the daemon said of itself at the latest connection; None before the first."""
        return self._shell.core.hello

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._shell.core.ready

    def connect(self, wait: Optional[float] = 0.0) -> Client:
        """Connects; tries for `wait` seconds (None: for ever) where nobody answers yet."""
        self._shell.reply(self._shell.greet(wait), None if wait is None else wait + (self.timeout or wait))
        return self

    def close(self) -> None:
        """Closes the connection. What is being answered goes on."""
        self._shell.close()

    def __enter__(self) -> Client:
        return self.connect()

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        trace: Optional[TracebackType]) -> None:
        self.close()

    # ---- conversations ----

    def new(self, name: Optional[str] = None, *, system: Optional[str] = None, policy: Optional[str] = None,
                  marks: Optional[Sequence[int]] = None, pin_system: Optional[bool] = None,
                  sampling: Optional[Mapping[str, Any]] = None, schema: Any = None, regex: Optional[str] = None) -> New:
        """Makes a conversation; a name is invented when none is given."""
        return with_info(New, self._call('new', {
            'name': name, 'system': system, 'policy': policy, 'marks': marks, 'pin_system': pin_system,
            'sampling': _sampling(sampling, schema, regex)}))

    def list(self) -> List[Info]:
        """All conversations, last used first."""
        return [Info.of(one) for one in (self._call('list', {}))['conversations']]

    def show(self, conversation: str) -> Info:
        """One conversation."""
        return self._info('show', {'conversation': conversation})

    def rename(self, conversation: str, to: str) -> Info:
        """Gives it another name."""
        return self._info('rename', {'conversation': conversation, 'to': to})

    def remove(self, conversation: str) -> None:
        """Removes it with all that was said."""
        self._call('remove', {'conversation': conversation})

    def pin(self, conversation: str, pin: bool = True) -> Info:
        """Makes it the last to leave memory, or not."""
        return self._info('pin', {'conversation': conversation, 'pin': pin})

    def fork(self, conversation: str, to: str, message: Optional[int] = None) -> Info:
        """Copies the messages before `message` (default: all) to a new conversation, which is returned."""
        return self._info('fork', {'conversation': conversation, 'to': to, 'message': message})

    def rewind(self, conversation: str, message: int) -> Rewind:
        """Forgets the messages from this number on."""
        return with_info(Rewind, self._call('rewind', {'conversation': conversation, 'message': message}))

    # ---- talking ----

    @overload
    def say(self, conversation: str, text: str, *, stream: Literal[True], role: Optional[str] = None,
            answer: bool = True, create: bool = False, system: Optional[str] = None, policy: Optional[str] = None,
            marks: Optional[Sequence[int]] = None, pin_system: Optional[bool] = None,
            sampling: Optional[Mapping[str, Any]] = None, schema: Any = None,
            regex: Optional[str] = None) -> Stream: ...

    @overload
    def say(self, conversation: str, text: str, *, stream: Literal[False] = False, role: Optional[str] = None,
            answer: bool = True, create: bool = False, system: Optional[str] = None, policy: Optional[str] = None,
            marks: Optional[Sequence[int]] = None, pin_system: Optional[bool] = None,
            sampling: Optional[Mapping[str, Any]] = None, schema: Any = None,
            regex: Optional[str] = None) -> Said: ...

    def say(self, conversation: str, text: str, *, stream: bool = False, role: Optional[str] = None,
            answer: bool = True, create: bool = False, system: Optional[str] = None, policy: Optional[str] = None,
            marks: Optional[Sequence[int]] = None, pin_system: Optional[bool] = None,
            sampling: Optional[Mapping[str, Any]] = None, schema: Any = None,
            regex: Optional[str] = None) -> Union[Stream, Said]:
        """Says something. With `stream` the answer's events from this message on; without, what became of the message,
        while the answer is written. With `create` a missing conversation is made, of the kind that the arguments from
        `system` on say."""
        if stream and not answer:
            raise Invalid('A stream of what no answer follows would have no end: say it without stream.')
        return self._ask('say', {
            'conversation': conversation, 'text': text, 'role': role, 'answer': None if answer else False,
            'create': create or None, 'system': system, 'policy': policy, 'marks': marks, 'pin_system': pin_system,
            'sampling': _sampling(sampling, schema, regex)}, stream)

    @overload
    def regenerate(self, conversation: str, *, stream: Literal[True], sampling: Optional[Mapping[str, Any]] = None,
                   schema: Any = None, regex: Optional[str] = None) -> Stream: ...

    @overload
    def regenerate(self, conversation: str, *, stream: Literal[False] = False,
                   sampling: Optional[Mapping[str, Any]] = None, schema: Any = None,
                   regex: Optional[str] = None) -> Said: ...

    def regenerate(self, conversation: str, *, stream: bool = False, sampling: Optional[Mapping[str, Any]] = None,
                   schema: Any = None, regex: Optional[str] = None) -> Union[Stream, Said]:
        """Drops the last answer and makes it anew."""
        return self._ask('regenerate', {'conversation': conversation, 'sampling': _sampling(sampling, schema, regex)},
                         stream)

    @overload
    def generate(self, conversation: str, *, stream: Literal[True], sampling: Optional[Mapping[str, Any]] = None,
                 schema: Any = None, regex: Optional[str] = None) -> Stream: ...

    @overload
    def generate(self, conversation: str, *, stream: Literal[False] = False,
                 sampling: Optional[Mapping[str, Any]] = None, schema: Any = None,
                 regex: Optional[str] = None) -> Said: ...

    def generate(self, conversation: str, *, stream: bool = False, sampling: Optional[Mapping[str, Any]] = None,
                 schema: Any = None, regex: Optional[str] = None) -> Union[Stream, Said]:
        """Goes on from the last token that was read, without a template."""
        return self._ask('generate', {'conversation': conversation, 'sampling': _sampling(sampling, schema, regex)},
                         stream)

    def attach(self, conversation: str, start: Optional[int] = None) -> Stream:
        """The events from number `start` on (default: the next one), and live ones after them. Gone when `start` is no
        longer kept."""
        return self._stream('attach', {'conversation': conversation, 'from': start})

    def stop(self, conversation: str) -> bool:
        """Ends the answer or the reading; what was written stays. Whether there was something to stop."""
        return bool((self._call('stop', {'conversation': conversation}))['stopped'])

    def feed(self, conversation: str, text: Optional[str] = None, *, tokens: Optional[Sequence[int]] = None,
                   special: Optional[bool] = None) -> Fed:
        """Reads raw text or tokens into the conversation, without a template; returns when they were read."""
        return with_info(Fed, self._call_long('feed', {
            'conversation': conversation, 'text': text, 'tokens': tokens, 'special': special}))

    # ---- what was said ----

    def log(self, conversation: str, start: int = 0, count: Optional[int] = None) -> List[Logged]:
        """Messages from number `start` on, `count` of them (default: all)."""
        found: List[Logged] = []
        while count is None or len(found) < count:
            more = (self._call('log', {
                'conversation': conversation, 'from': start + len(found),
                'count': None if count is None else count - len(found)}))['messages']
            if not more:
                break
            found += [Logged.of(one) for one in more]
        return found

    def search(self, text: str, *, conversation: Optional[str] = None, count: Optional[int] = None) -> Found:
        """Messages that hold this text, latest first."""
        reply = self._call('search', {'text': text, 'conversation': conversation, 'count': count})
        return Found.of(reply, matches=[Match.of(one) for one in reply['matches']])

    # ---- tokens ----

    def tokenize(self, text: str, *, special: Optional[bool] = None) -> List[int]:
        """The tokens of a text."""
        tokens: List[int] = (self._call('tokenize', {'text': text, 'special': special}))['tokens']
        return tokens

    def detokenize(self, tokens: Sequence[int], *, continues: Optional[bool] = None) -> Text:
        """The text of tokens; when it `continues` another, a blank at its front stays."""
        return Text.of(self._call('detokenize', {'tokens': tokens, 'continues': continues}))

    def score(self, text: Optional[str] = None, *, tokens: Optional[Sequence[int]] = None,
                    conversation: Optional[str] = None) -> Scores:
        """The log-probability of each token after those before it, and after the conversation, which stays as it is."""
        return Scores.of(self._call_long('score', {
            'text': text, 'tokens': tokens, 'conversation': conversation}))

    # ---- bundles ----

    def export(self, conversation: str, file: BinaryIO, *, cache: bool = False) -> int:
        """Writes the conversation as it is now, with its cache or without, into a file; how many bytes."""
        bundle = self._call('bundle', {'conversation': conversation, 'cache': cache or None})
        written = 0
        try:
            while written < bundle['bytes']:
                data = (self._call('bundle_read', {
                    'bundle': bundle['bundle'], 'offset': written, 'count': _CHUNK}))['data']
                if not data:
                    break
                file.write(data)
                written += len(data)
        finally:
            self._close_bundle(bundle['bundle'])
        return written

    def import_(self, file: BinaryIO, name: Optional[str] = None) -> Imported:
        """Makes a conversation of what export() wrote."""
        data = file.read()
        bundle = (self._call('bundle_new', {'bytes': len(data)}))['bundle']
        try:
            for offset in range(0, len(data), _CHUNK):
                self._call('bundle_write', {
                    'bundle': bundle, 'offset': offset, 'data': data[offset:offset + _CHUNK]})
            return with_info(Imported, self._call_long('bundle_import', {
                'bundle': bundle, 'name': name}))
        finally:
            self._close_bundle(bundle)

    def _close_bundle(self, bundle: int) -> None:
        try:
            self._call('bundle_close', {'bundle': bundle})
        except SinkError:
            pass  # it ends with its connection anyway

    # ---- the daemon ----

    def status(self) -> Dict[str, Any]:
        """How the daemon is; the map of the protocol's page."""
        return self._call('status', {})

    def models(self) -> List[Model]:
        """The models that are there."""
        return [Model.of(one) for one in (self._call('models', {}))['models']]

    def shutdown(self) -> None:
        """Ends the daemon."""
        self._call('shutdown', {})

    def call(self, op: str, **fields: Any) -> Dict[str, Any]:
        """Any verb by its name, its fields as the protocol's page has them; its reply as it came."""
        return self._call(op, fields)

    # ---- what they are made of ----

    def _call(self, op: str, fields: Mapping[str, Any]) -> Dict[str, Any]:
        """A request and its reply."""
        return self._shell.reply(self._shell.start(op, fields), self.timeout)

    def _call_long(self, op: str, fields: Mapping[str, Any]) -> Dict[str, Any]:
        """The same for what has to be read by the model first, which takes as long as it takes."""
        return self._shell.reply(self._shell.start(op, fields), None)

    def _info(self, op: str, fields: Mapping[str, Any]) -> Info:
        return Info.of((self._call(op, fields))['conversation'])

    def _said(self, op: str, fields: Mapping[str, Any]) -> Said:
        return with_info(Said, self._call(op, fields))

    def _stream(self, op: str, fields: Mapping[str, Any]) -> Stream:
        return Stream(self, self._shell.follow(op, fields, self.credit))

    def _ask(self, op: str, fields: Mapping[str, Any],
             stream: bool) -> Union[Stream, Said]:
        return self._stream(op, fields) if stream else self._said(op, fields)


def _sampling(given: Optional[Mapping[str, Any]], schema: Any, regex: Optional[str]) -> Optional[Dict[str, Any]]:
    """The settings of an answer, with what shapes its text."""
    settings = dict(given or {})
    for key, value in (('schema', schema), ('regex', regex)):
        if value is not None:
            settings[key] = value
    return settings or None
