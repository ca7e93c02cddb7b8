"""A small service manager: it runs one program as a unit with Type=notify, keeps its descriptors, and starts it again.

What it does is what systemd does with FDSTORE=1, FDNAME=, FDPOLL=0 and FDSTOREREMOVE=1, LISTEN_FDS and
LISTEN_FDNAMES, FileDescriptorStoreMax=, FileDescriptorStorePreserve= and Restart=on-failure, as far as the daemon can
tell. A program that ends is seen within TICK. Messages are taken before the end of their sender is, as systemd does.

    supervise.py [--preserve] -- COMMAND...

runs the command and starts it again whenever it ends or was killed, until it is interrupted. SIGUSR1 restarts it;
SIGUSR2 stops and starts it, which empties the store unless it is to be preserved.
"""
import atexit
import os
import queue
import re
import select
import signal
import subprocess
import sys
import threading
import time

import live
from notify import Manager, passing

TICK = 0.02
GIVEN_UP = (2, 5, 6)  # RestartPreventExitStatus= of the units
CLEAN_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)

_all = []


def _close_all():
    for supervisor in _all:
        supervisor.close()


atexit.register(_close_all)


def _same(left, right):
    """Whether two descriptors are one file."""
    left, right = os.fstat(left), os.fstat(right)
    return (left.st_dev, left.st_ino) == (right.st_dev, right.st_ino)


class Supervisor:
    """Runs a command. `sockets` are pairs of a name and a listening socket, as of a socket unit; `room` is the most
    that the store takes, what is more is closed and nothing said; `restart` is 'on-failure', 'always' or 'no'.

    `store` is a dict of names and lists of descriptors, `said` a list of (time, life, {name: value}) of all messages,
    `life` counts the starts, `dropped` what the store had no room for.
    """

    def __init__(self, command=None, env=None, sockets=(), room=8, restart='on-failure', pause=0.1, watchdog=None):
        self.command = command
        self.env = env
        self.sockets = list(sockets)
        self.room = room
        self.restarts = restart
        self.pause = pause
        self.manager = Manager(live.directory())
        self.notifying = self.manager.environment(watchdog)
        self.store = {}
        self.unpolled = set()
        self.said = []
        self.life = 0
        self.dropped = 0
        self.status = None  # of the last life, once it has ended
        self.process = None
        self.due = None  # when to start it again
        self.asked = None  # what is to follow the end that was asked for: 'again' or 'hold'
        self.closed = False
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        _all.append(self)

    # What is overridden where the program is started in another way.
    def spawn(self, stem, descriptors):
        """Starts the program; its subprocess.Popen."""
        return subprocess.Popen(stem + self.command, env={**os.environ, **(self.env or {}), **self.notifying},
                                pass_fds=descriptors)

    # With the lock held.
    def _start(self):
        passed = [(name, listener.fileno()) for name, listener in self.sockets]
        passed += [(name, descriptor) for name, descriptors in self.store.items() for descriptor in descriptors]
        self.due = None
        self.life += 1
        self.status = None
        self.process = self.spawn(*passing(passed))

    def _take(self, fields, descriptors):
        name = fields.get('FDNAME', 'stored')
        if fields.get('FDSTOREREMOVE') == '1':
            self._remove(name)
        if fields.get('FDSTORE') != '1':
            for descriptor in descriptors:
                os.close(descriptor)
            return
        for descriptor in descriptors:
            self._keep(name, descriptor, fields.get('FDPOLL') != '0')

    def _keep(self, name, descriptor, polled):
        kept = [one for several in self.store.values() for one in several]
        full = len(kept) >= self.room
        if full or any(_same(descriptor, one) for one in kept):
            self.dropped += full
            os.close(descriptor)
            return
        self.store.setdefault(name, []).append(descriptor)
        if not polled:
            self.unpolled.add(descriptor)

    def _remove(self, name, wanted=lambda descriptor: True):
        for descriptor in [one for one in self.store.get(name, []) if wanted(one)]:
            self.store[name].remove(descriptor)
            self.unpolled.discard(descriptor)
            os.close(descriptor)
        if not self.store.get(name, [0]):
            del self.store[name]

    def _empty(self):
        for name in list(self.store):
            self._remove(name)

    def _drop_hung_up(self):
        def hung_up(descriptor):
            poll = select.poll()
            poll.register(descriptor, 0)
            return descriptor not in self.unpolled and any(
                event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))
        for name in list(self.store):
            self._remove(name, hung_up)

    def _reap(self):
        if self.process is None or self.process.poll() is None:
            return
        self.status = self.process.returncode
        self.process = None
        failed = self.status not in (0, *(-number for number in CLEAN_SIGNALS))
        again = self.restarts == 'always' or (self.restarts == 'on-failure' and failed)
        if self.asked == 'again' or (self.asked is None and again and self.status not in GIVEN_UP):
            self.due = time.monotonic() + self.pause
        elif self.asked is None:
            self._empty()
        self.asked = None

    def _drain(self, wait=0):
        """The messages that are there, or that the first one comes with; the lock is taken for each."""
        message = self.manager.receive(wait)
        while message:
            with self.changed:
                when, fields, descriptors = message
                self.said.append((when, self.life, fields))
                self._take(fields, descriptors)
            message = self.manager.receive(0)

    def _watch(self):
        while not self.closed:
            ended = self.process is not None and self.process.poll() is not None
            self._drain(0 if ended else TICK)
            with self.changed:
                if ended:
                    self._reap()
                self._drop_hung_up()
                if self.due is not None and time.monotonic() >= self.due and not self.closed:
                    self._start()
                self.changed.notify_all()

    def _until(self, condition, what, wait=None):
        """Waits until condition() is true; its value."""
        end = time.monotonic() + (live.WAIT if wait is None else wait * live.SLOW)
        with self.changed:
            while True:
                value = condition()
                if value:
                    return value
                if time.monotonic() > end:
                    raise AssertionError(f'waited in vain: {what}; said: {self.said[-20:]}')
                self.changed.wait(1)

    def _end(self, number, then):
        """Ends this life with a signal: `then` it starts 'again', or the store is on 'hold'."""
        with self.changed:
            life = self.life
            self.due = None
            if self.process is not None:
                self.asked = then
                self.process.send_signal(number)
        self._until(lambda: self.process is None or self.life != life, 'its end')

    # The public half.
    def start(self):
        with self.changed:
            assert self.process is None and self.due is None, 'it runs already'
            self._start()

    def find(self, name, pattern='.*', life=None):
        """The first message of a life (this one) that has such an assignment; None without one."""
        life = self.life if life is None else life
        return next((message for message in self.said
                     if message[1] == life and re.search(pattern, message[2].get(name, '\n'))), None)

    def wait_ready(self, wait=None):
        """Waits until it runs, and has said READY=1 in this life."""
        def ready():
            if self.process is None and self.due is None:
                raise AssertionError(f'it ended with {self.status}')
            return self.process is not None and self.find('READY', '^1$')
        self._until(ready, 'READY=1', wait)

    def wait_status(self, pattern, wait=None):
        """Waits for a STATUS= of this life that matches; the text."""
        return self._until(lambda: self.find('STATUS', pattern), f'STATUS={pattern}', wait)[2]['STATUS']

    def wait_ended(self, wait=None):
        """Waits until it has ended for good; its exit status, negative for a signal."""
        self._until(lambda: self.process is None and self.due is None, 'its end', wait)
        return self.status

    def kill(self, again=True):
        """SIGKILL. It is started again after a pause, unless that is not wanted: then start() does."""
        self._end(signal.SIGKILL, 'again' if again else 'hold')

    def restart(self):
        """A clean end, then the next life; the store is kept. The exit status of the life before."""
        self._end(signal.SIGTERM, 'hold')
        status = self.status
        self.start()
        return status

    def stop(self, preserve=False):
        """A clean end; the store is emptied unless it is preserved. The exit status."""
        self._end(signal.SIGTERM, 'hold')
        if not preserve:
            with self.changed:
                self._empty()
        return self.status

    def close(self):
        """Ends everything at once."""
        with self.changed:
            self.closed = True
            if self.process is not None:
                self.process.kill()
                self.process.wait()
        self.thread.join()
        self._empty()
        self.manager.close()

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        process = self.process
        return process is not None and process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)


class Service(Supervisor):
    """A sinkd under this manager, to be used like live.Daemon, but that it comes back after kill(); end it with stop()
    or close(). `settings` are the Supervisor's.
    """

    def __init__(self, path=None, *options, home=None, ready=True, **settings):
        self.home = home or live.directory()
        self.endpoint = f'ipc://{self.home}/sinkd/sinkd.sock'
        self.path = path
        self.options = options
        self.lives = []
        super().__init__(**settings)
        self.start()
        if ready:
            self.wait_ready()

    def spawn(self, stem, descriptors):
        self.lives.append(live.Daemon(self.path, *self.options, home=self.home, ready=False, stem=stem,
                                      pass_fds=descriptors, env={**(self.env or {}), **self.notifying}))
        return self.lives[-1].process

    def client(self, name='test'):
        return live.Client(self.endpoint, name)

    def text(self):
        """The logs of all lives."""
        return ''.join(daemon.text() for daemon in self.lives)

    def stop(self, preserve=False):
        """A clean end, which it must come to by itself; the logs are returned."""
        status = super().stop(preserve)
        assert status == 0, f'the daemon ended with {status}: {self.text()[-2000:]}'
        return self.text()


def main(words):
    preserve = words[:1] == ['--preserve']
    words = words[preserve:]
    if words[:1] != ['--'] or not words[1:]:
        sys.exit('usage: supervise.py [--preserve] -- COMMAND...')
    caught = queue.SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _: caught.put(number))
    supervisor = Supervisor(words[1:], restart='always')
    supervisor.start()
    while supervisor.process is not None or supervisor.due is not None:
        try:
            number = caught.get(timeout=1)
        except queue.Empty:
            continue
        if number == signal.SIGUSR1:
            supervisor.restart()
            continue
        supervisor.stop(preserve)
        if number != signal.SIGUSR2:
            return 0
        supervisor.start()
    return supervisor.status


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
