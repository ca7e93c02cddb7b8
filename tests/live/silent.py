"""A daemon that is there and does not answer, since it was stopped: clients say so, give up in time, or go on with it."""
import re
import signal
import socket
import subprocess
import time

import live
from live import case

daemon = live.Daemon(live.tiny())
client = daemon.client()
client.call('new', name='a')


class Command:
    """A `sink` that runs beside others."""

    def __init__(self, *words):
        self.began = time.monotonic()
        self.process = subprocess.Popen([live.SINK, *words], env=daemon.env, stdin=subprocess.DEVNULL, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def end(self, wait=60):
        """Its exit status, the seconds it took, and what it said."""
        out, err = self.process.communicate(timeout=wait * live.SLOW)
        return self.process.returncode, time.monotonic() - self.began, out, err


@case
def nobody_hangs_without_a_word():
    daemon.signal(signal.SIGSTOP)
    try:
        time.sleep(4)
        looks = [Command(*words) for words in (['ls'], ['status'], ['show', 'a'], ['log', 'a'], ['log', '-f', 'a'],
                                               ['stop', 'a'], ['rm', '--force', 'a'], ['grep', 'x'], ['ls', '-q'])]
        timed = [Command(*words) for words in (['ask', '--timeout', '3', 'x'], ['wait', '--timeout', '3', 'a'])]
        starts = Command('new', 'b')
        for one in timed:
            status, took, out, err = one.end()
            assert status == 124 and 2.5 < took < 6 * live.SLOW and not out, (status, took, err)
        for one in looks:
            status, took, out, err = one.end()
            assert status == 3 and 9 < took < 14 * live.SLOW and not out, (status, took, err)
            assert re.search(rf'process {daemon.pid} has shown no life for \d+s', err), err
        assert 'waiting for the daemon' not in err, 'not with -q'
        status, took, out, err = starts.end()
        assert status == 3 and 28 < took < 36 * live.SLOW, (status, took, err)
        assert 'waiting for the daemon' in err and err.count('\n') == 2, err
    finally:
        daemon.signal(signal.SIGCONT)
    assert client.call('show', conversation='a')['conversation']['name'] == 'a', 'nothing was done meanwhile'


@case
def one_that_waits_is_served_when_the_daemon_goes_on():
    daemon.signal(signal.SIGSTOP)
    waiting = [Command('ls', '-q'), Command('new', 'late')]
    time.sleep(5)
    daemon.signal(signal.SIGCONT)
    for one, said in zip(waiting, ('a\n', 'late\n')):
        status, took, out, err = one.end()
        assert status == 0 and said in out and took < 12 * live.SLOW, (status, took, out, err)


@case
def one_that_follows_is_told_once_and_goes_on():
    client.call('new', name='long', system='', sampling={**live.ENDLESS, 'max_tokens': 100000})
    asking = Command('ask', '-c', 'long', 'x')
    following = Command('log', '-f', 'a')
    live.eventually(lambda: client.call('show', conversation='long')['conversation']['state'] == 'answering' and
                    client.call('show', conversation='a')['conversation']['clients'] == 1, 'both follow')
    daemon.signal(signal.SIGSTOP)
    time.sleep(9)
    daemon.signal(signal.SIGCONT)
    time.sleep(1)
    client.call('stop', conversation='long')
    client.call('say', conversation='a', text='Here.', answer=False)
    status, _, out, err = asking.end()
    assert out and err.count('the daemon does not answer; waiting for it') == 1, (status, out[-200:], err)
    time.sleep(1)
    following.process.send_signal(signal.SIGTERM)
    _, _, out, err = following.end()
    assert 'Here.' in out and err.count('the daemon does not answer; waiting for it') == 1, (out, err)


@case
def a_full_queue_is_no_missing_daemon():
    path = daemon.endpoint[len('ipc://'):]
    daemon.signal(signal.SIGSTOP)
    others = []
    try:
        while len(others) < 1000:
            others.append(socket.socket(socket.AF_UNIX))
            others[-1].setblocking(False)
            others[-1].connect(path)
        raise AssertionError('the queue has no end')
    except BlockingIOError:
        pass
    one, other = Command('ls', '-q'), Command('status')
    status, took, _, err = other.end()
    assert status == 3 and took > 9 and 'shown no life' in err, (status, took, err)
    for sock in others:
        sock.close()
    one.end()
    last = Command('ls', '-q')
    time.sleep(1)
    daemon.signal(signal.SIGCONT)
    status, took, out, err = last.end()
    assert status == 0 and 'a\n' in out, (status, took, err)


@case
def the_daemon_ends_cleanly():
    client.close()
    daemon.stop()


live.main()
