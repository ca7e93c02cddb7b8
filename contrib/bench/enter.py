"""What `sink` adds to the time from Enter to the first byte of an answer.

    top_builddir=build contrib/bench/enter.py [rounds [threads]]

The engine's own part is what `done` tells as first_ms: from the moment that the daemon has the message to the moment
that the first token is picked. The rest is this program's measurement less that: from the key on a terminal (or the
start of `sink ask`) to the first byte of the answer's text on it. With `threads` of the engine below the number of
cores nobody has to wait for a core. The real model (SINKD_MODEL); run it on a quiet machine.
"""
import os
import pty
import select
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'tests', 'live'))

import live  # noqa: E402
import screen  # noqa: E402

QUESTION = 'Count from one to three.'
HOW = {'max_tokens': 6, 'temperature': 0, 'seed': 1}


def program():
    """The program itself: libtool's script around it takes longer than all that is measured here."""
    real = os.path.join(os.path.dirname(live.SINK), '.libs', 'sink')
    return real if os.path.exists(real) else live.SINK


def environment(daemon):
    return live.environment(daemon.home, {'TERM': 'xterm', 'LD_LIBRARY_PATH': os.path.join(
        live.BUILD, 'libproto', '.libs')})


def told(client, conversation, seq):
    """What the events from `seq` on say of the answer: the first piece of its text, and first_ms."""
    client.call('attach', conversation=conversation, **{'from': seq})
    events = client.until('done', conversation)
    first = next(event['text'] for event in events if event['ev'] == 'text')
    return first, events[-1]['timing']['first_ms']


def next_seq(client, conversation):
    return client.call('show', conversation=conversation)['conversation']['seq']


class Reader:
    """All that comes out of a descriptor, with the moment of each piece."""

    def __init__(self, fd):
        self.fd = fd
        self.pieces = []

    def read(self, wait):
        while select.select([self.fd], [], [], wait)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return False
            if not data:
                return False
            self.pieces.append((time.monotonic(), data))
        return True

    def moment(self, text, since):
        """When the first byte of `text` was there, after `since` bytes of all."""
        everything = b''.join(data for _, data in self.pieces)
        at = everything.index(text, since)
        for now, data in self.pieces:
            if at < len(data):
                return now
            at -= len(data)
        raise AssertionError

    def count(self):
        return sum(len(data) for _, data in self.pieces)


def in_a_chat(daemon, client, rounds):
    """Ms above first_ms, of each round of one conversation on a terminal."""
    client.call('new', name='chat', system='', sampling=HOW)
    terminal = screen.Terminal([program(), 'attach', 'chat'], environment(daemon))
    reader = Reader(terminal.fd)
    above = []
    reader.read(1)
    for _ in range(rounds):
        os.write(terminal.fd, QUESTION.encode())
        reader.read(0.3)
        before, seq = reader.count(), next_seq(client, 'chat')
        pressed = time.monotonic()
        os.write(terminal.fd, b'\r')
        reader.read(1.5)
        first, own = told(client, 'chat', seq)
        client.call('detach', attachment=client.attachments.pop('chat'))
        above.append(1e3 * (reader.moment(first.strip().encode(), before) - pressed) - own)
    os.write(terminal.fd, b'\x04')
    terminal.end()
    return above


def by_ask(daemon, client, rounds, terminal):
    """Ms above first_ms, from the start of `sink ask` to its first byte, in a pipe or on a terminal."""
    above = []
    name = 'terminal' if terminal else 'pipe'
    words = [program(), 'ask', '-q', '-c', name, '-n', '6', '--temperature', '0', '--seed', '1', QUESTION]
    client.call('new', name=name, system='')
    for _ in range(rounds):
        seq = next_seq(client, name)
        ours, theirs = pty.openpty() if terminal else os.pipe()
        began = time.monotonic()
        with subprocess.Popen(words, env=environment(daemon), stdout=theirs, stdin=subprocess.DEVNULL) as process:
            os.close(theirs)
            reader = Reader(ours)
            while reader.read(1):
                pass
            process.wait()
        os.close(ours)
        first, own = told(client, name, seq)
        client.call('detach', attachment=client.attachments.pop(name))
        above.append(1e3 * (reader.moment(first.encode(), 0) - began) - own)
    return above


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    daemon = live.Daemon(live.model(), '--threads', sys.argv[2] if len(sys.argv) > 2 else '0')
    client = daemon.client()
    client.ask('warm', 'Hello.', {'max_tokens': 8})
    for name, measure in (('a chat on a terminal', in_a_chat),
                          ('sink ask in a pipe', lambda *a: by_ask(*a, False)),
                          ('sink ask on a terminal', lambda *a: by_ask(*a, True))):
        above = sorted(measure(daemon, client, rounds))
        print(f'{name:22s} {statistics.median(above):6.1f} ms above the engine (median of {len(above)}; a tenth above '
              f'{above[len(above) * 9 // 10]:.1f}, most {above[-1]:.1f})', flush=True)


main()
