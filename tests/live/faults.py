"""A disk that fails: each call of the store fails once, in turn, and a full disk gets room again.

    faults.py [--all] [--most N]

fault.c, preloaded, counts the calls of a class that the store makes and lets the n-th one fail. A script of requests is
carried out in two lives of a daemon, in which that happens once; then comes a life without faults. Each of the first
two either goes on or ends with a status and a reason, never by a signal; what was acknowledged while the daemon said
that it was saving is there afterwards; the store is sound; and all texts are those of a daemon that was left in peace.

By default at most SPREAD numbers of a class are tried, evenly spread; --all tries each, --most N at most N.
"""
import argparse
import concurrent.futures
import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

import live
from live import Daemon, Refused, Skip, case, directory, eventually, main, same, text_of, tiny
from supervise import Service

LIBRARY = os.path.join(live.BUILD, 'tests', 'live', '.libs', 'libfault.so')
SPREAD = 7
AT_ONCE = 6  # daemons
FIRM = {'seed': 7, 'temperature': 0.9, 'max_tokens': 24}
NEW = {'policy': 'sink:4,124', 'sampling': FIRM, 'system': ''}

# Each step changes what is there. The second life begins behind LIFE of them.
SCRIPT = [
    ('new', {'name': 'a', **NEW}),
    ('say', {'conversation': 'a', 'text': 'a bc def ' * 60}),
    ('say', {'conversation': 'a', 'text': 'Hello.'}),
    ('fork', {'conversation': 'a', 'to': 'b', 'message': 2}),
    ('say', {'conversation': 'b', 'text': 'Well?'}),
    ('new', {'name': 'c', **NEW}),
    ('say', {'conversation': 'c', 'text': 'The sea.'}),
    ('say', {'conversation': 'a', 'text': 'And then?'}),
    ('rewind', {'conversation': 'a', 'message': 2}),
    ('say', {'conversation': 'a', 'text': 'Another way.'}),
    ('rename', {'conversation': 'b', 'to': 'd'}),
    ('remove', {'conversation': 'c'}),
    ('say', {'conversation': 'd', 'text': 'Once more.'}),
]
LIFE = 7
LAST = 'Go on.'  # said to each conversation at the very end


class Fault:
    """What this test and fault.c share; see there."""

    def __init__(self, home, call, error):
        self.path = os.path.join(home, 'fault')
        with open(self.path, 'wb') as file:
            file.write(bytes(4096))
        with open(self.path, 'r+b') as file:
            self.shared = mmap.mmap(file.fileno(), 4096)
        self.env = {'LD_PRELOAD': LIBRARY, 'FAULT_FILE': self.path, 'FAULT_CALL': call, 'FAULT_ERROR': error,
                    'FAULT_BELOW': os.path.realpath(os.path.join(home, 'state', 'sinkd'))}

    def arm(self, at, lasting=False):
        struct.pack_into('=QQ', self.shared, 0, at, lasting)

    @property
    def counted(self):
        return struct.unpack_from('=Q', self.shared, 16)[0]

    @property
    def failed(self):
        return struct.unpack_from('=Q', self.shared, 24)[0]

    @property
    def last(self):
        return bytes(self.shared[32:136]).split(b'\0')[0].decode(errors='replace')


class Ended(Exception):
    """The daemon ended where it was not asked to."""


class Spoilt(Exception):
    """An answer ended with an error, as it may without memory: from there on the script says other things."""


class Unusable(Exception):
    """A conversation could not be read, and is left alone until the next life."""


class Life:
    """A daemon that may end at any time."""

    def __init__(self, home, env):
        self.daemon = Daemon(tiny(), home=home, env=env, ready=False)
        self.client = None
        for _ in range(3):
            try:
                self.daemon.wait_ready()
                self.client = live.Client(self.daemon.endpoint, hello=False)
                self.client.call('hello', protocol=1, client='test', wait=2)
                return
            except AssertionError:
                if self.daemon.alive():
                    raise
                break
            except (Refused, TimeoutError):  # there was no memory for it: once more
                if self.client:
                    self.client.close()
                self.client = None

    def call(self, op, **fields):
        """The reply. A request that there was no memory for is refused under number 0, and sent again."""
        number = self.client.send(op, **fields)
        end = time.monotonic() + live.WAIT
        while True:
            try:
                message = self.client.receive(0.3)
            except TimeoutError:
                if not self.daemon.alive():
                    raise Ended() from None
                assert time.monotonic() < end, f'no reply to {op} {fields}: {self.daemon.text()[-2000:]}'
                continue
            if message.get('id') == 0:
                assert message['error']['code'] == 'enomem', message
                number = self.client.send(op, **fields)
            elif message.get('id') == number and 'error' in message:
                if re.match('"[^"]*" cannot be used', message['error']['text']):
                    raise Unusable(message['error']['text'])
                raise Refused(message['error'])
            elif message.get('id') == number:
                return message['ok']

    def look(self, op, **fields):
        """A call that changes nothing, and may be made again."""
        for _ in range(2):
            try:
                return self.call(op, **fields)
            except Refused as refusal:
                assert refusal.code == 'enomem', refusal
        return self.call(op, **fields)

    def messages(self):
        """What is there, when all are idle: names and messages."""
        def settled():
            infos = self.look('list')['conversations']
            for info in infos:
                if info['state'] == 'failed':
                    self.look('log', conversation=info['name'])  # one that cannot be used says so
                    raise Spoilt(info)
            return all(info['state'] == 'idle' for info in infos) and [infos]
        infos = eventually(settled, 'all are idle')[0]
        return {info['name']: [(message['role'], message['text']) for message in
                               self.look('log', conversation=info['name'])['messages']] for info in infos}

    def answer(self, name):
        self.call('say', conversation=name, text=LAST)
        return self.messages()[name][-1][1]

    def close(self):
        if self.client:
            self.client.close()

    def end(self, number):
        """Ends it; what it said."""
        self.close()
        if self.daemon.alive():
            self.daemon.signal(number)
        status = self.daemon.wait()
        assert status == -number if number == signal.SIGKILL else status == 0, \
            f'the daemon ended with {status}: {self.daemon.text()[-2000:]}'


class Peace:
    """The script with a daemon that is left in peace: what is there after each step, and what is said at the end."""

    def __init__(self):
        life = Life(directory(), {})
        self.states = [{}]
        for op, fields in SCRIPT:
            life.call(op, **fields)
            self.states.append(life.messages())
        self.answers = {name: life.answer(name) for name in self.states[-1]}
        life.end(signal.SIGTERM)
        assert all(left != right for left, right in zip(self.states, self.states[1:]))


class Run:
    """The script with one fault."""

    # SQLite does not always tell why it could not open a file.
    REASONS = {'ENOSPC': 'full|space|open|readonly|I/O error', 'EIO': 'error', 'EMFILE': 'open|readonly|I/O error',
               'ENOMEM': 'memory'}

    def __init__(self, peace, call, error, at):
        self.peace = peace
        self.home = directory()
        self.fault = Fault(self.home, call, error)
        self.fault.arm(at)
        self.error = error
        self.at = at
        self.done = 0  # steps that were carried out
        self.safe = 0  # steps that must not be forgotten any more
        self.tried = 0  # steps that were begun
        self.spoilt = False
        self.seen = set()  # what became of it

    def found(self, life):
        """Where in the script this is, after a start."""
        there = life.messages()
        fits = [step for step in range(self.safe, self.tried + 1) if self.peace.states[step] == there]
        assert fits, f'after steps {self.safe} to {self.tried} there is {there}, ' \
                     f'and not {self.peace.states[self.safe:self.tried + 1]}'
        self.done = self.safe = self.tried = fits[0]

    def step(self, life):
        op, fields = SCRIPT[self.done]
        self.tried = self.done + 1
        for _ in range(3):
            try:
                life.call(op, **fields)
                break
            except Refused as refusal:
                assert refusal.code in ('ebusy', 'eio', 'enomem') and len(refusal.text) > 8, refusal
                self.seen.add(f'refused {refusal.code}')
                why = refusal.text
                there = life.messages()
                assert there == self.peace.states[self.done], f'{op} was refused, and left {there}'
                eventually(lambda: life.look('status')['store']['state'] == 'saving', 'saving goes on', 5)
        else:
            raise AssertionError(f'{op} {fields} is refused for ever: {why}')
        there = life.messages()
        assert there == self.peace.states[self.tried], f'{op} made {there}, not {self.peace.states[self.tried]}'
        self.done = self.tried
        state = life.look('status')['store']
        if state['state'] == 'saving':
            self.safe = self.done
        else:
            self.seen.add('saving stopped')
            assert state['state'] == 'stopped' and state['text'], state

    def live(self, until, number):
        """A life up to this step, ended by the signal unless it ends by itself."""
        life = Life(self.home, self.fault.env)
        try:
            if not life.client:
                raise Ended()
            self.found(life)
            while self.done < until:
                self.step(life)
        except Ended:
            self.ended(life)
            return
        except (Spoilt, Unusable) as what:
            assert self.error == 'ENOMEM' or isinstance(what, Unusable), what
            self.seen.add('an answer failed' if isinstance(what, Spoilt) else 'unusable until the next life')
            self.spoilt = isinstance(what, Spoilt)
        life.end(number)

    def ended(self, life):
        life.close()
        status = life.daemon.wait()
        says = life.daemon.text()
        self.seen.add(f'ended with {status}')
        assert status in (1, 5, 6), f'the daemon ended with {status}: {says[-2000:]}'
        assert re.search(self.REASONS[self.error], says.splitlines()[-1]), f'no reason: {says[-2000:]}'

    def check(self):
        done = subprocess.run([live.SINKD, '--check-store'], env=live.environment(self.home), capture_output=True,
                              text=True, check=False)
        missing = not os.path.exists(os.path.join(self.home, 'state', 'sinkd', 'sinkd.db'))
        assert done.returncode == 0 or missing, done.stdout + done.stderr

    def afterwards(self):
        life = Life(self.home, {})
        assert life.client, life.daemon.text()
        self.found(life)
        while self.done < len(SCRIPT):
            self.step(life)
        for name, answer in self.peace.answers.items():
            same(life.answer(name), answer, f'answers of {name}')
        life.end(signal.SIGTERM)

    def goes_on(self):
        """After an answer that failed: all that is there can be used."""
        life = Life(self.home, {})
        assert life.client, life.daemon.text()
        infos = life.call('list')['conversations']
        names = set(self.peace.states[self.safe])
        assert {info['name'] for info in infos} >= names, infos
        for info in infos:
            if info['state'] == 'failed':
                life.call('regenerate', conversation=info['name'])
        assert set(life.messages()) >= names
        life.end(signal.SIGTERM)

    def __call__(self):
        try:
            self.live(LIFE, signal.SIGKILL if self.at % 2 else signal.SIGTERM)
            if not self.spoilt:
                self.live(len(SCRIPT), signal.SIGTERM)
            self.check()
            if self.spoilt:
                self.goes_on()
            else:
                self.afterwards()
            return self.fault.failed, self.seen
        except Exception as why:
            raise AssertionError(f'call {self.at} ({self.fault.last}): {why}') from why
        finally:
            shutil.rmtree(self.home, ignore_errors=True)


_peace = []
_lock = threading.Lock()


def peace():
    with _lock:
        if not _peace:
            _peace.append(Peace())
    return _peace[0]


def count(call):
    """How many calls of this class the script makes."""
    if not os.path.exists(LIBRARY):
        raise Skip(f'no {LIBRARY}')
    run = Run(peace(), call, 'EIO', 0)
    run()
    return run.fault.counted


def spread(counted, most):
    """Numbers from 1 to `counted`, at most so many."""
    if counted <= most:
        return range(1, counted + 1)
    return sorted({1 + number * (counted - 1) // (most - 1) for number in range(most)})


given = argparse.Namespace(most=SPREAD)


def each(call, *errors):
    counted = count(call)
    if not counted:
        raise Skip('there is no such call here')
    tried = met = 0
    outcomes = {}
    for error in errors:
        runs = [Run(peace(), call, error, at) for at in spread(counted, given.most)]
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for failed, seen in pool.map(lambda run: run(), runs):
                tried += 1
                met += failed
                for what in seen if failed else ['not met']:
                    outcomes[what] = outcomes.get(what, 0) + 1
                if failed and not seen:
                    outcomes['went on'] = outcomes.get('went on', 0) + 1
    print(f'# {call}: {counted} calls, {tried} runs ({", ".join(errors)}), {met} faults: {outcomes}', flush=True)


@case
def a_write_fails():
    each('write', 'ENOSPC', 'EIO')


@case
def a_write_is_short():
    each('write', 'SHORT')


@case
def a_sync_fails():
    each('sync', 'EIO')


@case
def a_truncation_fails():
    each('truncate', 'EIO')


@case
def a_rename_fails():
    each('rename', 'EIO')


@case
def a_file_cannot_be_removed():
    each('unlink', 'EIO')


@case
def a_file_cannot_be_opened():
    each('open', 'EMFILE', 'ENOSPC')


@case
def a_read_fails():
    each('read', 'EIO')


@case
def a_mapping_fails():
    each('map', 'ENOMEM')


@case
def there_is_no_memory():
    each('alloc', 'ENOMEM')


def log(client, name='a'):
    return [(message['role'], message['text']) for message in client.call('log', conversation=name)['messages']]


def follow(client, text, *kinds):
    """Says something; the events until the answer is done and all of these kinds have come."""
    client.call('attach', conversation='a')
    client.call('say', conversation='a', text=text)
    events = []
    while not {'done', *kinds} <= {event['ev'] for event in events}:
        events.append(client.event())
    client.call('detach', attachment=client.attachments.pop('a'))
    return events


def in_peace(*texts):
    """The messages of a conversation that was told this, by a daemon that has no disk."""
    daemon = Daemon(tiny(), '--state', 'none')
    client = daemon.client()
    client.call('new', name='a', **NEW)
    for text in texts:
        client.ask('a', text, create=False)
    messages = log(client)
    client.close()
    daemon.stop()
    return messages


def statuses(service):
    """All that the service manager was told, in order."""
    with service.changed:
        return [fields['STATUS'] for _, _, fields in service.said if 'STATUS' in fields]


class Preloaded(Service):
    """What starts it, to pass descriptors, is a program of its own, which is not to be preloaded."""

    def spawn(self, stem, descriptors):
        return super().spawn([*stem, 'env', f'LD_PRELOAD={LIBRARY}'], descriptors)


def full_disk(room):
    """The disk is full, the daemon is killed, the disk has room again."""
    if not os.path.exists(LIBRARY):
        raise Skip(f'no {LIBRARY}')
    home = directory()
    fault = Fault(home, 'write', 'ENOSPC')
    del fault.env['LD_PRELOAD']
    service = Preloaded(tiny(), home=home, env=fault.env, room=room)
    client = service.client()
    client.call('new', name='a', **NEW)
    client.ask('a', 'a bc def ' * 60, create=False)
    saved = log(client)

    fault.arm(fault.counted + 1, lasting=True)
    events = follow(client, 'Hello.', 'unsaved')
    unsaved = next(event for event in events if event['ev'] == 'unsaved')
    assert unsaved['code'] == 'ebusy' and 'full' in unsaved['text'], unsaved
    state = client.call('status')['store']
    assert state['state'] == 'stopped' and 'full' in state['text'], state
    service.wait_status('STOPPED.*full')
    follow(client, 'Go on.')  # all the same
    same(log(client), in_peace('a bc def ' * 60, 'Hello.', 'Go on.'), 'messages')
    client.close()

    service.kill(again=False)  # and the disk is still full
    service.start()
    service.wait_ready()
    client = service.client()
    same(log(client), saved, 'messages')
    follow(client, 'Hello.', 'unsaved')
    fault.arm(0)
    events = follow(client, 'Go on.', 'saved')
    assert client.call('status')['store']['state'] == 'saving'
    eventually(lambda: 'STOPPED' not in statuses(service)[-1], 'the service manager knows it, too')
    client.close()

    service.kill()
    service.wait_ready()
    client = service.client()
    same(log(client), in_peace('a bc def ' * 60, 'Hello.', 'Go on.'), 'messages')
    client.ask('a', LAST, create=False)
    same(log(client), in_peace('a bc def ' * 60, 'Hello.', 'Go on.', LAST), 'messages')
    client.close()
    service.stop()


@case
def a_full_disk_stops_saving_until_it_has_room():
    full_disk(8)


@case
def the_same_without_caches_in_memory():
    full_disk(0)


# Places that are not what they should be.

TOLD = 'a bc def ' * 60


def held_down():
    """In front of a command: root, too, is bound by the modes of files."""
    if os.geteuid():
        return []
    if not shutil.which('setpriv'):
        raise Skip('no setpriv')
    return ['setpriv', '--inh-caps=-all', '--bounding-set=-all', '--']


def used_store():
    """A home with a conversation in its store; the state directory."""
    daemon = Daemon(tiny())
    client = daemon.client()
    client.call('new', name='a', **NEW)
    client.ask('a', TOLD, create=False)
    client.close()
    daemon.stop()
    place = os.path.join(daemon.home, 'state', 'sinkd')
    assert [name for name in os.listdir(place + '/caches') if name.endswith('.kv')], 'no cache was written'
    return daemon.home, place


def goes_on(home, said, stem=None, tier=None, trouble=False):
    """A life in which the conversation answers; `said` are the texts before. Whether caches are written."""
    daemon = Daemon(tiny(), home=home, stem=stem)
    client = daemon.client()
    same(log(client), in_peace(*said), 'messages')
    events = follow(client, LAST)
    same(log(client), in_peace(*said, LAST), 'messages')
    assert tier in [None] + [event['from'] for event in events if event['ev'] == 'restored'], events
    if trouble:
        eventually(lambda: 'text' in client.call('status')['store'], 'status tells why caches are not written')
    client.close()
    return daemon.stop()


def is_refused(home, reason, stem=None):
    daemon = Daemon(tiny(), home=home, ready=False, stem=stem)
    assert daemon.wait() in (1, 2) and re.search(reason, daemon.text()), daemon.text()


@case
def a_state_directory_that_cannot_be_written_is_refused_and_left():
    home, place = used_store()
    stem = held_down()
    os.chmod(place, 0o500)
    is_refused(home, 'sinkd.db', stem)
    os.chmod(place, 0o700)
    assert not [name for name in os.listdir(place) if '.bad' in name], os.listdir(place)
    goes_on(home, [TOLD], tier='disk')


@case
def caches_that_cannot_be_written_are_read_all_the_same():
    home, place = used_store()
    stem = held_down()
    os.chmod(place + '/caches', 0o500)
    for name in os.listdir(place + '/caches'):
        os.chmod(f'{place}/caches/{name}', 0o400)
    goes_on(home, [TOLD], stem, tier='disk', trouble=True)
    os.chmod(place + '/caches', 0o700)
    goes_on(home, [TOLD, LAST])


@case
def a_state_directory_may_be_a_link_and_nothing_else():
    home, place = used_store()
    os.rename(place, home + '/elsewhere')
    os.symlink(home + '/elsewhere', place)
    goes_on(home, [TOLD], tier='disk')
    os.rename(home + '/elsewhere', home + '/gone')
    is_refused(home, 'no directory')  # the link leads nowhere
    os.unlink(place)
    with open(place, 'w', encoding='utf-8'):
        pass
    is_refused(home, 'no directory')
    assert os.path.getsize(place) == 0


@case
def the_directory_of_caches_may_be_a_link_and_need_not_be_one():
    home, place = used_store()
    os.rename(place + '/caches', home + '/elsewhere')
    os.symlink(home + '/elsewhere', place + '/caches')
    goes_on(home, [TOLD], tier='disk')
    os.unlink(place + '/caches')
    with open(place + '/caches', 'w', encoding='utf-8'):
        pass
    says = goes_on(home, [TOLD, LAST], tier='replay', trouble=True)
    assert 'Caches are not kept' in says, says
    assert os.path.getsize(place + '/caches') == 0


@case
def a_database_that_is_no_file_is_refused_and_left():
    home, place = used_store()
    os.rename(place + '/sinkd.db', home + '/elsewhere')
    with open(home + '/elsewhere', 'rb') as file:
        before = file.read()
    os.symlink(home + '/elsewhere', place + '/sinkd.db')
    is_refused(home, 'link')
    with open(home + '/elsewhere', 'rb') as file:
        assert file.read() == before
    os.unlink(place + '/sinkd.db')
    os.mkdir(place + '/sinkd.db')
    is_refused(home, 'sinkd.db')
    os.rmdir(place + '/sinkd.db')
    os.rename(home + '/elsewhere', place + '/sinkd.db')
    goes_on(home, [TOLD], tier='disk')


@case
def a_cache_that_is_no_file_is_never_followed():
    said = [TOLD]
    home, place = used_store()
    for make in (lambda path: os.symlink(home + '/elsewhere', path), os.mkdir, os.mkfifo):
        path = next(f'{place}/caches/{name}' for name in os.listdir(place + '/caches') if name.endswith('.kv'))
        os.rename(path, home + '/elsewhere')
        with open(home + '/elsewhere', 'rb') as file:
            before = file.read()
        make(path)
        goes_on(home, said, tier='replay')
        said.append(LAST)
        with open(home + '/elsewhere', 'rb') as file:
            assert file.read() == before
        if os.path.isdir(path):
            os.rmdir(path)
        elif os.path.lexists(path):
            os.unlink(path)
        goes_on(home, said)
        said.append(LAST)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='lets each call of the store fail')
    parser.add_argument('--all', dest='most', action='store_const', const=1 << 30)
    parser.add_argument('--most', type=int)
    parser.parse_args(namespace=given)
    given.most = given.most or SPREAD
    main()
