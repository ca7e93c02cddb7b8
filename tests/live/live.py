"""A private daemon, a client of it written from libproto/README.md, and a TAP reporter, for the live tests.

A test program declares its cases with @case and ends with main(). Each daemon lives in a directory of its own, with
HOME and the XDG directories inside it, so that no test meets a user's daemon, model or configuration.

Environment: SINKD_MODEL is a real model (else a tiny random one serves), SINKD_UNDER a command to run the daemon under,
such as valgrind, and SINKD_SLOW a factor for all waits.
"""
import atexit
import glob
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

import msgpack
import zmq

BUILD = os.environ.get('top_builddir', os.getcwd())
SOURCE = os.environ.get('top_srcdir', os.getcwd())


def _program(name):
    for place in (BUILD, os.path.join(BUILD, 'daemon'), os.path.join(BUILD, 'client')):
        if os.path.isfile(os.path.join(place, name)):
            return os.path.join(place, name)
    return shutil.which(name) or os.path.join(BUILD, name)


SINKD = _program('sinkd')
SINK = _program('sink')
MAKE_TINY = os.path.join(BUILD, 'tests', 'unit', 'make_tiny')
SLOW = float(os.environ.get('SINKD_SLOW', '1'))
WAIT = 60 * SLOW

_scratch = tempfile.mkdtemp(prefix='sinkd-live.')
_daemons = []
_cases = []


def _clean():
    for daemon in _daemons:
        daemon.kill()
    _drop_segments()
    shutil.rmtree(_scratch, ignore_errors=True)


def _drop_segments():
    """What killed daemons have left in shared memory; no daemon will follow them at these endpoints."""
    for path in glob.glob('/dev/shm/sinkd-*'):
        try:
            with open(path, 'rb') as segment:
                ours = _scratch.encode() + b'/' in segment.read(512)
            if ours:
                os.unlink(path)
        except OSError:
            pass


atexit.register(_clean)


def directory():
    """A new directory; gone when the test ends. Short, since a socket's path must fit 107 bytes."""
    return tempfile.mkdtemp(dir=_scratch)


def case(function):
    """Declares a test case; its name is what it says."""
    _cases.append(function)
    return function


class Skip(Exception):
    """Raised by a case that cannot be run here."""


def main():
    """Runs the cases in order, each whatever became of the one before."""
    for number, function in enumerate(_cases, 1):
        name = function.__name__.replace('_', ' ')
        began = time.monotonic()
        earlier = len(_daemons)
        try:
            function()
            print(f'ok {number} - {name}', flush=True)
        except Skip as why:
            print(f'ok {number} - {name} # SKIP {why}', flush=True)
        except Exception:  # whatever it is, it is a failed case
            for daemon in _daemons[earlier:]:
                daemon.tail()
            print(''.join('# ' + line + '\n' for line in traceback.format_exc().splitlines()), end='')
            print(f'not ok {number} - {name}', flush=True)
        print(f'# {time.monotonic() - began:.2f} s', flush=True)
    print(f'1..{len(_cases)}', flush=True)


_tiny = {}


def tiny(kind=''):
    """A small random model, made once a program; `kind` is what make_tiny takes."""
    if kind not in _tiny:
        path = os.path.join(directory(), 'tiny.gguf')
        subprocess.run([MAKE_TINY, path] + kind.split(), check=True, stdout=subprocess.DEVNULL)
        _tiny[kind] = path
    return _tiny[kind]


def model():
    """The real model when there is one."""
    return os.environ.get('SINKD_MODEL') or tiny()


# An answer that goes on until it is stopped, of whatever model: the last token is always the likeliest.
TALK = 'Talk for ever.'
ENDLESS = {'max_tokens': 1 << 30, 'temperature': 0, 'penalty_last': 1, 'presence_penalty': -10.0,
           'frequency_penalty': -10.0}


def eventually(condition, what, wait=None):
    """Waits until condition() is true; its value."""
    end = time.monotonic() + (WAIT if wait is None else wait * SLOW)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'waited in vain: {what}')
        time.sleep(0.01)


class Daemon:
    """A sinkd of our own. `home` may be that of an earlier one, to follow it."""

    def __init__(self, path=None, *options, home=None, env=None, ready=True, pass_fds=(), preexec=None, stem=None):
        self.home = home or directory()
        self.endpoint = f'ipc://{self.home}/sinkd/sinkd.sock'
        self.log = os.path.join(self.home, f'log.{len(_daemons)}')
        self.env = environment(self.home, env)
        command = shlex.split(os.environ.get('SINKD_UNDER', '')) + [SINKD]
        if path:
            command += ['-m', path]
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen(
                (stem or []) + command + list(options), env=self.env, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, pass_fds=pass_fds, preexec_fn=preexec)
        _daemons.append(self)
        if ready:
            self.wait_ready()

    @property
    def pid(self):
        return self.process.pid

    def wait_ready(self):
        """Waits until a client is greeted."""
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f'the daemon ended with {self.process.returncode}: {self.text()}')
            client = Client(self.endpoint, hello=False)
            try:
                client.call('hello', protocol=1, client='ready?', wait=0.5)
                return
            except TimeoutError:
                pass
            finally:
                client.close()
        raise AssertionError(f'the daemon was not ready in {WAIT} s: {self.text()}')

    def client(self, name='test'):
        return Client(self.endpoint, name)

    def text(self):
        with open(self.log, encoding='utf-8', errors='replace') as log:
            return log.read()

    def tail(self):
        if os.path.exists(self.log):
            for line in self.text().splitlines()[-15:]:
                print('# log: ' + line)

    def alive(self):
        return self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, wait=None):
        """Its exit status."""
        return self.process.wait(WAIT if wait is None else wait * SLOW)

    def stop(self):
        """A clean end, which it must come to by itself; its log is returned."""
        self.signal(signal.SIGTERM)
        status = self.wait()
        assert status == 0, f'the daemon ended with {status}: {self.text()[-2000:]}'
        return self.text()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def environment(home, more=None):
    """What a daemon or a client of `home` finds in its environment."""
    env = {key: value for key, value in os.environ.items()
           if not key.startswith(('XDG_', 'SINK_', 'NOTIFY_', 'WATCHDOG_', 'LISTEN_', 'LIBEDIT_'))}
    env.update(HOME=home, XDG_RUNTIME_DIR=home, XDG_CONFIG_HOME=home + '/config', XDG_DATA_HOME=home + '/data',
               XDG_STATE_HOME=home + '/state', XDG_CACHE_HOME=home + '/cache', TERM='dumb',
               PATH=os.path.dirname(SINKD) + ':' + os.path.dirname(SINK) + ':' + env['PATH'])
    env.update(more or {})
    _shut_out_the_systems_daemon(home)
    return env


def _shut_out_the_systems_daemon(home):
    """A socket at which nobody listens: without any of its own, a client would turn to the system's daemon."""
    path = home + '/sinkd/sinkd.sock'
    if os.path.lexists(path):
        return
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    try:
        with socket.socket(socket.AF_UNIX) as nobody:
            nobody.bind(path)
    except OSError:
        pass  # a daemon came first


class Refused(Exception):
    """The daemon's answer to a call that it refuses."""

    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['text']}")
        self.code = error['code']
        self.text = error['text']


class Client:
    """One connection. Events that arrive while a reply is awaited are kept, in order.

    Credit is granted as events are taken, unless a call names its own.
    """

    def __init__(self, endpoint, name='test', hello=True):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, 0)
        self.socket.connect(endpoint)
        self.last = 0
        self.kept = []
        self.attachments = {}  # by conversation
        self.grants = set()  # calls whose replies nobody waits for
        self.awaited = set()  # calls whose replies are kept like events
        self.server = self.call('hello', protocol=1, client=name) if hello else None

    def close(self):
        self.context.destroy(linger=0)

    def send(self, op, **fields):
        """Sends a request without waiting; its id."""
        self.last += 1
        self.socket.send(msgpack.packb({'op': op, 'id': self.last, **fields}))
        return self.last

    def send_raw(self, frame):
        self.socket.send(frame)

    def receive(self, wait=None):
        """The next message of any kind; TimeoutError when none comes."""
        while True:
            if not self.socket.poll(int(1000 * (WAIT if wait is None else wait * SLOW))):
                raise TimeoutError('no message came')
            frame = self.socket.recv()
            message = msgpack.unpackb(frame)
            if message.get('id') in self.grants:
                self.grants.remove(message['id'])
                continue
            attachment = self.attachments.get(message.get('conversation'))
            if attachment is not None:
                self.grants.add(self.send('credit', attachment=attachment, bytes=len(frame)))
                if message['ev'] == 'renamed':
                    self.attachments[message['to']] = self.attachments.pop(message['conversation'])
            return message

    def reply(self, number, wait=None):
        end = time.monotonic() + (WAIT if wait is None else wait * SLOW)
        while True:
            message = self.receive(max(0, end - time.monotonic()) / SLOW)
            if 'ev' in message or message['id'] in self.awaited:
                self.kept.append(message)
            elif message['id'] == number:
                if 'error' in message:
                    raise Refused(message['error'])
                return message['ok']

    def call(self, op, wait=None, **fields):
        answer = self.reply(self.send(op, **fields), wait)
        if 'attachment' in answer and 'credit' not in fields:
            self.attachments[answer['conversation']['name']] = answer['attachment']
        return answer

    def refused(self, op, **fields):
        """Calls a verb that must be refused; the refusal."""
        try:
            answer = self.call(op, **fields)
        except Refused as refusal:
            assert len(refusal.text) > 8, f'{op} {fields}: the error says only "{refusal.text}"'
            # Its traceback would hold the frame that holds it, and a context in such a cycle may never be released.
            return refusal.with_traceback(None)
        raise AssertionError(f'{op} {fields} was not refused: {answer}')

    def event(self, wait=None):
        if self.kept:
            return self.kept.pop(0)
        message = self.receive(wait)
        assert 'ev' in message, f'an event was awaited: {message}'
        return message

    def until(self, kind, conversation=None, wait=None):
        """All events up to the first of this kind (of this conversation), itself included."""
        events = []
        while True:
            events.append(self.event(wait))
            if events[-1]['ev'] == kind and (conversation is None or events[-1].get('conversation') == conversation):
                return events

    def say(self, conversation, text, create=True, attach=True, sampling=None, **fields):
        """Says something and follows the answer; the reply."""
        return self.call('say', conversation=conversation, text=text, create=create, attach=attach,
                         sampling=sampling or {}, **fields)

    def ask(self, conversation, text, sampling=None, **fields):
        """Says something; the answer's text."""
        self.say(conversation, text, sampling=sampling, **fields)
        return text_of(self.until('done', conversation), conversation)


def text_of(events, conversation=None):
    """The words that stream in these events."""
    return ''.join(event['text'] for event in events
                   if event['ev'] == 'text' and conversation in (None, event['conversation']))


def dense(events, first=None):
    """Checks that sequence numbers have neither gap nor duplicate."""
    numbers = [event['seq'] for event in events if 'seq' in event]
    expected = list(range(first if first is not None else numbers[0],
                          (first if first is not None else numbers[0]) + len(numbers)))
    assert numbers == expected, f'sequence numbers {numbers}'


def same(left, right, what='texts'):
    """Equal, or an error that shows where they part."""
    if left != right:
        at = next((i for i, (a, b) in enumerate(zip(left, right)) if a != b), min(len(left), len(right)))
        raise AssertionError(f'{what} part at {at}: {left[max(0, at - 20):at + 40]!r} / '
                             f'{right[max(0, at - 20):at + 40]!r} (lengths {len(left)}, {len(right)})')


def sink(daemon, *words, stdin=None, env=None, wait=None, home=None):
    """Runs the command; the completed process, its output as text."""
    return subprocess.run([SINK, *words], env=environment(home or daemon.home, env), text=True,
                          input=stdin, stdin=subprocess.DEVNULL if stdin is None else None,
                          capture_output=True, timeout=WAIT if wait is None else wait * SLOW, check=False)


if __name__ == '__main__':
    # live.py follow ENDPOINT CONVERSATION FROM: prints events as JSON, for ever. A client to be killed.
    follower = Client(sys.argv[2], 'follower')
    follower.call('attach', conversation=sys.argv[3], **{'from': int(sys.argv[4])})
    while True:
        seen = follower.event()
        print(json.dumps(seen), flush=True)
