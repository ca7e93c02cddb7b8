"""The Python package in contrib/python: its two clients against a daemon, each from the page of the protocol."""
import asyncio
import inspect
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import live
from live import case, eventually, same

PACKAGE = os.path.join(live.SOURCE, 'contrib', 'python')
sys.path.insert(0, PACKAGE)
sys.dont_write_bytecode = True
import sinkd  # noqa: E402  (from the tree)
from sinkd import events  # noqa: E402
from sinkd.protocol import Core  # noqa: E402

TALK = 'Tell me a long story about the sea.'
daemon = live.Daemon(live.model())
requested = set()  # the verbs that were sent


def _recorded(method):
    def record(self, op, *rest, **fields):
        requested.add(op)
        return method(self, op, *rest, **fields)
    return record


Core.start = _recorded(Core.start)
Core._post = _recorded(Core._post)


async def _value(thing):
    """What either client's method gives."""
    return await thing if inspect.isawaitable(thing) else thing


async def _events(stream):
    """All events of either client's stream."""
    if hasattr(stream, '__anext__'):
        return [event async for event in stream]
    return list(stream)


def _both(walk):
    """Runs a coroutine function of a client and a word for its names once with each client."""
    async def asynchronous():
        async with sinkd.AsyncClient(daemon.endpoint) as client:
            await walk(client, 'async')

    with sinkd.Client(daemon.endpoint) as client:
        asyncio.run(walk(client, 'sync'))
    asyncio.run(asynchronous())


def _raises(kind, call, *words, **fields):
    try:
        call(*words, **fields)
    except kind as error:
        assert len(str(error)) > 8, f'the error says only "{error}"'
        return error
    raise AssertionError(f'{call} {words} {fields} raised no {kind.__name__}')


def _logged(name):
    return daemon.client().call('log', conversation=name)['messages'][-1]['text']


def _state(name):
    return daemon.client().call('show', conversation=name)['conversation']['state']


@case
def it_can_be_installed_from_its_folder_without_a_network():
    home = live.directory()
    venv, copy = os.path.join(home, 'venv'), os.path.join(home, 'python')
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns('__pycache__', 'build', '*.egg-info'))
    subprocess.run(['chmod', '-R', 'u+w', copy], check=True)  # the sources of a tarball under test are read-only
    made = subprocess.run([sys.executable, '-m', 'venv', '--system-site-packages', venv], capture_output=True,
                          check=False)
    if made.returncode:
        raise live.Skip('no python3-venv')
    python = os.path.join(venv, 'bin', 'python')
    if subprocess.run([python, '-c', 'import setuptools, wheel'], capture_output=True, check=False).returncode:
        raise live.Skip('no setuptools and wheel')
    env = live.environment(daemon.home, {'PIP_NO_INDEX': '1', 'PIP_DISABLE_PIP_VERSION_CHECK': '1'})
    done = subprocess.run([python, '-m', 'pip', 'install', '--no-build-isolation', copy], env=env, cwd=home, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    where = subprocess.run([python, '-c', 'import sinkd; print(sinkd.__file__)'], env=env, cwd=home, text=True,
                           capture_output=True, check=True).stdout.strip()
    assert where.startswith(venv), where
    assert os.path.exists(os.path.join(os.path.dirname(where), 'py.typed'))
    daemon.client().call('new', name='installed', sampling={'max_tokens': 20, 'seed': 3})
    done = subprocess.run([python, '-m', 'sinkd', '-c', 'installed', 'What is the sea?'], env=env, cwd=home, text=True,
                          capture_output=True, timeout=live.WAIT, check=False)
    assert done.returncode == 0 and not done.stderr, done
    same(done.stdout, _logged('installed') + '\n')


@case
def one_version_is_told_everywhere():
    def read(path):
        with open(os.path.join(live.SOURCE, path), encoding='utf-8') as file:
            return file.read()
    house = re.search(r'AC_INIT\(\[sinkd\], \[([^]]+)\]\)', read('configure.ac')).group(1)
    same(re.search(r'^version = "(.*)"$', read('contrib/python/pyproject.toml'), re.M).group(1), house)
    same(sinkd.__version__, house)


@case
def the_blocking_client_is_made_from_the_other():
    subprocess.run([sys.executable, os.path.join(PACKAGE, 'twin.py'), '--check'], check=True)


async def _walk_conversations(client, word):
    one, two, three = word + '1', word + '2', word + '3'
    made = await _value(client.new(one, system='Be brief.', policy='sink:4,508', sampling={'max_tokens': 8, 'seed': 5}))
    assert (made.conversation.name, made.conversation.sampling['seed']) == (one, 5), made
    said = await _value(client.say(one, 'Hello.', answer=False))
    assert said.message == 1 and said.conversation.name == one, said
    await _value(client.feed(one, ' And so on.'))
    answer = await _value(client.generate(one, stream=True).result())
    assert answer.finish and answer.usage.generated <= 8, answer
    again = await _events(client.regenerate(one, stream=True, sampling={'max_tokens': 4}))
    assert isinstance(again[0], events.Rewound) and isinstance(again[-1], events.Done), again
    live.dense([{'seq': event.seq} for event in again])
    assert (await _value(client.fork(one, two, 1))).messages == 1
    same((await _value(client.rename(two, three))).name, three)
    same((await _value(client.show(three))).messages, 1)
    assert (await _value(client.pin(three))).pin and not (await _value(client.pin(three, False))).pin
    assert {one, three} <= {info.name for info in await _value(client.list())}
    log = await _value(client.log(one))
    assert [message.role for message in log][:2] == ['system', 'user'] and log[1].text.startswith('Hello.'), log
    same(len(await _value(client.log(one, 1, 1))), 1)
    found = await _value(client.search('be brief', conversation=one))
    assert not found.more and [(match.message, match.match) for match in found.matches] == [(0, 'Be brief')], found
    rewound = await _value(client.rewind(one, 1))
    assert rewound.by in ('cache', 'replay') and rewound.conversation.messages == 1, rewound
    assert not await _value(client.stop(one))
    bundle = io.BytesIO()
    same(await _value(client.export(one, bundle)), len(bundle.getvalue()))
    bundle.seek(0)
    same((await _value(client.import_(bundle, word + '4'))).conversation.messages, 1)
    for name in (one, three, word + '4'):
        await _value(client.remove(name))


async def _walk_the_rest(client, _):
    tokens = await _value(client.tokenize('The sea.'))
    text = await _value(client.detokenize(tokens))
    same((text.text, text.bytes), ('The sea.', b'The sea.'))
    scores = await _value(client.score('The sea.'))
    same(scores.tokens, tokens)
    assert len(scores.logprobs) == len(tokens) and all(one is None or one <= 0 for one in scores.logprobs), scores
    status = await _value(client.status())
    same((status['pid'], client.hello['pid']), (daemon.pid, daemon.pid))
    assert isinstance(await _value(client.models()), list)
    assert client.connected


@case
def both_have_each_verb_of_the_protocol():
    _both(_walk_conversations)
    _both(_walk_the_rest)

    async def follow(client, word):
        await _value(client.say(word, 'Hello.', create=True, answer=False))
        stream = client.attach(word, 1)
        first = await _value(stream.__anext__() if hasattr(stream, '__anext__') else next(stream))
        same(first.seq, 1)
        await _value(stream.detach())
        await _value(client.remove(word))
    _both(follow)
    with open(os.path.join(live.SOURCE, 'libproto', 'README.md'), encoding='utf-8') as file:
        page = file.read().split('## Verbs')[1].split('## Events')[0]
    verbs = set(re.findall(r'^\| `([a-z_]+)` \|', page, re.M))
    same(sorted(verbs - requested - {'shutdown', 'credit'}), [])
    assert len(verbs) > 25 and callable(sinkd.Client.shutdown), verbs


@case
def both_have_one_surface():
    for one, other in ((sinkd.Client, sinkd.AsyncClient), (sinkd.Stream, sinkd.AsyncStream)):
        names = [sorted(name for name in vars(cls) if not name.startswith('_')) for cls in (one, other)]
        same(names[0], names[1])
        assert all(getattr(getattr(one, name), '__doc__', None) for name in names[0]), names[0]


@case
def each_event_of_the_protocol_has_its_class():
    with open(os.path.join(live.SOURCE, 'libproto', 'README.md'), encoding='utf-8') as file:
        page = file.read().split('## Events')[1]
    for kind, fields in re.findall(r'^\| `([a-z]+)` \| (.*?) \| ', page.split('|---|')[1], re.M):
        event = events.event_of({'ev': kind, 'conversation': 'a', 'seq': 1})
        assert not isinstance(event, events.Unknown), kind
        names = re.findall(r'`([a-z]+)`', re.sub(r'[:(].*?(?=,|$)', '', fields))
        missing = [name for name in names if not hasattr(event, {'from': 'source'}.get(name, name))]
        same(missing, [], kind)
    strange = events.event_of({'ev': 'sung', 'conversation': 'a', 'seq': 2, 'tune': 'x'})
    assert isinstance(strange, events.Unknown) and strange.ev == 'sung' and strange.fields['tune'] == 'x', strange


@case
def fifty_streams_at_once_are_whole():
    async def main():
        async with sinkd.AsyncClient(daemon.endpoint) as client:
            async def one(number):
                name = f'many{number}'
                sampling = {'max_tokens': 12, 'seed': number}
                async with client.say(name, TALK, create=True, stream=True, sampling=sampling) as stream:
                    pieces = [piece async for piece in stream.text()]
                return name, ''.join(pieces), stream.answer
            return await asyncio.gather(*(one(number) for number in range(50)))

    answers = asyncio.run(main())
    same(len(answers), 50)
    for name, text, answer in answers:
        assert text and answer.finish in ('length', 'end'), answer
        same(text, answer.text)
        same(text, _logged(name))


def _killed(word, follow):
    """The daemon is killed in mid-answer; `follow` gives the events that its reader sees."""
    global daemon
    client = daemon.client()
    sampling = {'max_tokens': 60, 'seed': 11}
    whole = client.ask(word + '-whole', TALK, sampling=sampling)
    died = threading.Event()

    def die():
        global daemon
        daemon.kill()
        daemon = live.Daemon(live.model(), home=daemon.home)
        died.set()
    seen = follow(word, sampling, lambda: threading.Thread(target=die).start())
    assert died.wait(live.WAIT), 'the answer ended before the daemon was killed'
    live.dense([{'seq': event.seq} for event in seen])
    same(''.join(event.text for event in seen if isinstance(event, events.Piece)), whole)
    assert isinstance(seen[-1], events.Done), seen[-1]
    same(_logged(word), whole)


@case
def killed_in_mid_stream_the_answer_goes_on():
    def follow(word, sampling, die):
        seen = []
        with sinkd.Client(daemon.endpoint) as client:
            with client.say(word, TALK, create=True, stream=True, sampling=sampling) as stream:
                for event in stream:
                    seen.append(event)
                    if sum(isinstance(one, events.Piece) for one in seen) == 5 and isinstance(event, events.Piece):
                        die()
        return seen
    _killed('killed', follow)


@case
def killed_in_mid_stream_the_answer_goes_on_under_asyncio():
    def follow(word, sampling, die):
        async def main():
            seen = []
            async with sinkd.AsyncClient(daemon.endpoint) as client:
                async with client.say(word, TALK, create=True, stream=True, sampling=sampling) as stream:
                    async for event in stream:
                        seen.append(event)
                        if sum(isinstance(one, events.Piece) for one in seen) == 5 and isinstance(event, events.Piece):
                            die()
            return seen
        return asyncio.run(main())
    _killed('killed-async', follow)


@case
def what_is_asked_while_the_daemon_is_away_is_done_once():
    async def main():
        global daemon
        async with sinkd.AsyncClient(daemon.endpoint) as client:
            daemon.signal(signal.SIGSTOP)  # it takes no more, and what is sent now is lost with it
            asked = [asyncio.ensure_future(client.say('once', f'Number {number}.', create=True, answer=False))
                     for number in range(5)]
            await asyncio.sleep(0.2)
            daemon.kill()
            await asyncio.sleep(0.1)
            asked.append(asyncio.ensure_future(client.new('later')))
            daemon = await asyncio.get_running_loop().run_in_executor(
                None, lambda: live.Daemon(live.model(), home=daemon.home))
            await asyncio.gather(*asked)
            texts = [message.text for message in await client.log('once') if message.role == 'user']
            same(sorted(texts), [f'Number {number}.' for number in range(5)])
    asyncio.run(main())


@case
def a_reader_that_does_not_read_holds_up_nobody():
    async def main():
        async with sinkd.AsyncClient(daemon.endpoint, credit=2000) as client:
            slow = client.say('slow', TALK, create=True, stream=True, sampling={'max_tokens': 200, 'seed': 1})
            async with client.say('quick', TALK, create=True, stream=True, sampling={'max_tokens': 50}) as quick:
                assert (await quick.result()).finish
            while (await client.show('slow')).state != 'idle':
                await asyncio.sleep(0.05)
            held = sum(share.size for _, share in slow._tail.queue)
            assert 0 < held < 4000, f'{held} bytes wait for the slow reader'
            same((await slow.result()).text, (await client.log('slow'))[-1].text)
    asyncio.run(main())


HOSTILE = [
    ('sampling', {'temperature': math.nan}), ('sampling', {'temperature': math.inf}), ('sampling', {'seed': 1 << 70}),
    ('sampling', {'max_tokens': -1 << 64}), ('sampling', {'stop': ['\ud800']}), ('sampling', {'\udfff': 1}),
    ('sampling', {1: 2}), ('sampling', {'stop': {1, 2}}), ('sampling', {'seed': 1j}), ('sampling', {'x': object()}),
    ('text', 'half \ud83d'), ('text', None), ('text', 7), ('text', b'\xff'), ('conversation', 'a\udc80b'),
    ('conversation', 'a/b'), ('conversation', ''), ('role', 'king'), ('sampling', {'temperature': 'hot'}),
    ('sampling', {'top_p': 7}), ('marks', ['a']), ('policy', 'forget everything')]


@case
def hostile_values_are_refused_in_words():
    deep = []
    for _ in range(40):
        deep = [deep]
    round_and_round = []
    round_and_round.append(round_and_round)
    more = [('sampling', {'stop': deep}), ('sampling', {'stop': round_and_round}),
            ('sampling', {str(number): number for number in range(200)}), ('text', 'x' * (5 << 20))]

    async def walk(client, _):
        for key, value in HOSTILE + more:
            fields = {'conversation': 'hostile', 'text': 'Hello.', 'create': True, key: value}
            try:
                await _value(client.say(fields.pop('conversation'), fields.pop('text'), **fields))
            except sinkd.Invalid as error:
                assert len(str(error)) > 8, error
            else:
                raise AssertionError(f'{key} = {value!r:.80} passed')
            assert (await _value(client.list())) is not None
        assert 'hostile' not in {info.name for info in await _value(client.list())}
    _both(walk)
    with sinkd.Client(daemon.endpoint) as client:
        _raises(sinkd.Invalid, client.say, 'hostile', 'Hello.', stream=True, sampling={'temperature': math.nan})
        _raises(sinkd.Invalid, client.say, 'hostile', 'Hello.', stream=True, answer=False)
        client.new('begun')
        _raises(sinkd.Invalid, client.attach('begun', -5).begin)
        _raises(sinkd.Invalid, client.attach('begun', 999).begin)
        _raises(sinkd.Invalid, sinkd.Client, 'http://localhost')
        _raises(sinkd.Invalid, sinkd.Client, '/' + 'x' * 200)


@case
def errors_have_their_classes():
    with sinkd.Client(daemon.endpoint) as client:
        _raises(sinkd.NotFound, client.show, 'nowhere')
        _raises(LookupError, client.attach('nowhere').begin)
        client.new('there')
        _raises(sinkd.Exists, client.new, 'there')
        _raises(ValueError, client.rewind, 'there', -1)
        same(_raises(sinkd.Protocol, client.call, 'nonsense').code, 'eproto')
        with client.say('there', live.TALK, stream=True, sampling=live.ENDLESS):
            _raises(sinkd.Busy, client.say, 'there', 'And?')
        assert eventually(lambda: _state('there') == 'idle', 'the answer to be stopped')
    nobody = f'ipc://{live.directory()}/sock'
    began = time.monotonic()
    assert 'No such file' in str(_raises(sinkd.ConnectionLost, sinkd.Client(nobody).list))
    _raises(ConnectionError, sinkd.Client(nobody).connect, 0.3)
    assert time.monotonic() - began < 5 * live.SLOW
    with sinkd.Client(daemon.endpoint, timeout=0.3) as client:
        daemon.signal(signal.SIGSTOP)
        try:
            _raises(sinkd.Timeout, client.list)
            _raises(TimeoutError, client.say('there', 'Hello?', stream=True).begin)
        finally:
            daemon.signal(signal.SIGCONT)
    client = sinkd.Client(daemon.endpoint).connect()
    client.close()
    _raises(sinkd.ConnectionLost, client.list)


@case
def a_cursor_that_is_too_old_is_gone():
    small = live.Daemon(live.tiny(), '--log-bytes', '64K', '--state', 'none')
    with sinkd.Client(small.endpoint) as client:
        for _ in range(12):
            client.say('old', 'x' * 20000, create=True, answer=False)
            eventually(lambda: client.show('old').state == 'idle', 'the text to be read')
        first = client.show('old').first_seq
        assert first > 1, 'all events are kept'
        _raises(sinkd.Gone, client.attach('old', 1).begin)
        with client.attach('old', first) as stream:
            same(next(stream).seq, first)
    small.stop()


@case
def leaving_a_stream_stops_the_answer_that_it_asked_for():
    with sinkd.Client(daemon.endpoint) as client:
        with client.say('left', live.TALK, create=True, stream=True, sampling=live.ENDLESS) as stream:
            for event in stream:
                if isinstance(event, events.Piece):
                    break
        same(client.show('left').state, 'idle')
        same(client.log('left')[-1].finish, 'stopped')
        try:
            with client.say('left', live.TALK, stream=True, sampling=live.ENDLESS):
                raise KeyError('a mistake in the block')
        except KeyError:
            pass
        same(client.show('left').state, 'idle')
        with client.say('left', live.TALK, stream=True, sampling=live.ENDLESS) as stream:
            assert stream.stop()
            same(stream.result().finish, 'stopped')


@case
def detaching_and_closing_stop_nothing():
    with sinkd.Client(daemon.endpoint) as client:
        with client.say('goes', live.TALK, create=True, stream=True, sampling=live.ENDLESS) as stream:
            next(stream)
            stream.detach()
        with client.attach('goes') as other:
            assert isinstance(next(other), events.Event)
        assert _state('goes') in ('reading', 'answering'), _state('goes')
        assert client.stop('goes')
        stream = client.say('goes', live.TALK, stream=True, sampling=live.ENDLESS).begin()
    assert _state('goes') in ('reading', 'answering'), 'closing the client stopped the answer'
    assert stream.seq, 'a cursor to come back to'
    assert daemon.client().call('stop', conversation='goes')['stopped']


@case
def streams_that_nobody_holds_are_let_go():
    with sinkd.Client(daemon.endpoint) as client:
        client.say('let-go', live.TALK, create=True, stream=True, sampling=live.ENDLESS).begin()
        eventually(lambda: client.show('let-go').clients == 0, 'the attachment to end')
        assert client.stop('let-go')


@case
def cancelling_a_task_stops_its_answer():
    async def main():
        async with sinkd.AsyncClient(daemon.endpoint) as client:
            async def block():
                async with client.say('cancelled', live.TALK, create=True, stream=True,
                                      sampling=live.ENDLESS) as stream:
                    async for _ in stream:
                        pass

            async def result():
                await client.say('cancelled', live.TALK, create=True, stream=True, sampling=live.ENDLESS).result()
            for work in (block, result):
                for pause in (0, 0.001, 0.3):
                    task = asyncio.ensure_future(work())
                    await asyncio.sleep(pause)
                    task.cancel()
                    try:
                        await task
                    except asyncio.CancelledError:
                        pass
                    if pause or client.connected:
                        state = {info.name: info.state for info in await client.list()}.get('cancelled', 'idle')
                        same(state, 'idle', f'states after {pause} s')
            endless = client.say('cancelled', live.TALK, stream=True, sampling=live.ENDLESS)
            try:
                await asyncio.wait_for(endless.result(), 0.3)
            except asyncio.TimeoutError:
                same((await client.show('cancelled')).state, 'idle')
            else:
                raise AssertionError('an endless answer ended')
            feeding = asyncio.ensure_future(client.feed('cancelled', 'word ' * 300))
            await asyncio.sleep(0.05)
            feeding.cancel()
            assert await client.list()
    asyncio.run(main())


@case
def an_interrupt_stops_the_answer():
    daemon.client().call('new', name='interrupted', sampling=live.ENDLESS)
    child = subprocess.Popen([sys.executable, '-m', 'sinkd', '-c', 'interrupted', live.TALK], cwd=PACKAGE,
                             env=live.environment(daemon.home, {'PYTHONDONTWRITEBYTECODE': '1'}),
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout.read(8)
    child.send_signal(signal.SIGINT)
    child.stdout.read()
    same(child.wait(live.WAIT), 130)
    same(_state('interrupted'), 'idle')


@case
def two_streams_of_one_conversation_see_the_same():
    async def main():
        async with sinkd.AsyncClient(daemon.endpoint) as client:
            await client.say('shared', 'One.', create=True, answer=False)
            async with client.attach('shared', 1) as watcher:
                first = [await watcher.__anext__()]
                sampling = {'max_tokens': 20, 'seed': 2}
                async with client.say('shared', TALK, stream=True, sampling=sampling) as stream:
                    asked = [event async for event in stream]
                async with client.attach('shared', 1) as late:
                    again = [await late.__anext__() for _ in range(asked[-1].seq)]
                while first[-1].seq < asked[-1].seq:
                    first.append(await watcher.__anext__())
            live.dense([{'seq': event.seq} for event in first], 1)
            same(first, again)
            same(first[-len(asked):], asked)
            same(len(client._shell.core._feeds), 0)
    asyncio.run(main())


@case
def names_that_change_are_followed():
    with sinkd.Client(daemon.endpoint) as client, sinkd.Client(daemon.endpoint) as other:
        with client.say('before', live.TALK, create=True, stream=True, sampling=live.ENDLESS) as stream:
            next(stream)
            other.rename('before', 'after')
            for event in stream:
                if isinstance(event, events.Renamed):
                    break
            same(stream.conversation, 'after')
        same(client.show('after').state, 'idle')
        with client.attach('after') as stream:
            other.remove('after')
            assert isinstance(list(stream)[-1], events.Removed)


@case
def a_client_belongs_to_one_thread_at_a_time():
    with sinkd.Client(daemon.endpoint) as client:
        client.new('threads')
        stream = client.attach('threads')
        seen = []
        waiting = threading.Thread(target=lambda: seen.append(next(stream)))
        waiting.start()
        eventually(lambda: _refuses(client), 'the other thread to wait')
        daemon.client().call('rename', conversation='threads', to='threads2')
        waiting.join(live.WAIT)
        assert isinstance(seen[0], events.Renamed), seen
        assert client.list()
        stream.detach()


def _refuses(client):
    try:
        client.list()
    except RuntimeError as error:
        return 'another thread' in str(error)
    return False


@case
def answers_take_the_form_that_is_asked_for():
    schema = {'type': 'object', 'properties': {'name': {'type': 'string', 'maxLength': 12}, 'age': {'type': 'integer'}},
              'required': ['name', 'age'], 'additionalProperties': False}
    with sinkd.Client(daemon.endpoint) as client:
        _raises(sinkd.Invalid, client.new, 'shapes', regex='(')
        fields = {'create': True, 'stream': True, 'sampling': {'max_tokens': 200, 'seed': 1}}
        answer = json.loads(client.say('shapes', 'Who are you?', schema=schema, **fields).result().text)
        assert sorted(answer) == ['age', 'name'] and isinstance(answer['age'], int), answer
        assert re.fullmatch('(yes|no)', client.say('shapes', 'Is it?', regex='(yes|no)', **fields).result().text)


@case
def the_daemon_ends_by_their_word():
    with sinkd.Client(daemon.endpoint, patience=0.5) as client:
        client.shutdown()
        same(daemon.wait(), 0)
        _raises(sinkd.ConnectionLost, client.list)


live.main()
