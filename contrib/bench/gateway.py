"""What the gateway sinkd-http adds to a token, and what it holds in memory.

Usage: contrib/bench/gateway.py BUILD MODEL [TOKENS]

A daemon of one thread and a gateway of BUILD answer a question in a conversation that a client of the daemon follows
directly, over ZeroMQ. Two processes write down when each piece of the answer reached them: one reads the stream of the
gateway, the other the events. The difference of the two times of the same piece is what the gateway adds. The daemon sends
to one after the other, so there is a round in which the direct client comes first and one in which it comes second, and
what counts is their mean. Memory is looked at after a hundred requests more, and with fifty streams.
"""
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import msgpack
import zmq

FIRST = 20  # pieces that do not count: who comes second is still catching up
QUESTION = 'Tell me a long story about the sea.'


class Direct:
    """A client of the daemon that can do what is needed here."""

    def __init__(self, endpoint):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.connect(endpoint)
        self.last = 0
        self.call('hello', protocol=1, client='bench')

    def call(self, op, **fields):
        self.last += 1
        self.socket.send(msgpack.packb({'op': op, 'id': self.last, **fields}))
        while True:
            message = msgpack.unpackb(self.socket.recv())
            if message.get('id') == self.last:
                return message.get('ok', message)


def follow(endpoint, name, second):
    """As a process of its own: the times of the pieces, as JSON, when the answer is done."""
    direct = Direct(endpoint)
    while second and direct.call('show', conversation=name)['conversation']['state'] != 'answering':
        time.sleep(0.005)
    direct.call('attach', conversation=name, credit=1 << 30, **{'from': 1})
    print('ready', flush=True)
    times = []
    while True:
        frame = direct.socket.recv()
        now = time.monotonic_ns()
        event = msgpack.unpackb(frame)
        if event.get('ev') == 'text':
            times.append(now)
        elif event.get('ev') == 'done':
            print(json.dumps(times), flush=True)
            return


def connect(address):
    if address.startswith('/'):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(address)
        return peer
    host, port = address.split(':')
    return socket.create_connection((host, int(port)))


def post(peer, body):
    text = json.dumps(body).encode()
    peer.sendall(b'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n'
                 % len(text) + text)


def stream(address, name, tokens):
    """The times of the pieces, read from the gateway."""
    peer = connect(address)
    post(peer, {'messages': [{'role': 'user', 'content': QUESTION}], 'conversation': name, 'stream': True,
                'max_tokens': tokens, 'temperature': 0})
    times, rest = [], b''
    while True:
        piece = peer.recv(65536)
        now = time.monotonic_ns()
        if not piece:
            return times
        rest += piece
        *lines, rest = rest.split(b'\n')
        times += [now for line in lines if b'"delta":{"content"' in line]


def resident(pid):
    with open(f'/proc/{pid}/status', encoding='utf-8') as status:
        return next(int(line.split()[1]) for line in status if line.startswith('VmRSS:')) * 1024 / 1e6


def added(endpoint, address, tokens, second):
    """The median of what is added, in microseconds."""
    name = f'bench-{time.monotonic_ns()}'
    Direct(endpoint).call('new', name=name, sampling={'speculation': False})
    with subprocess.Popen([sys.executable, __file__, 'follow', endpoint, name, second], stdout=subprocess.PIPE,
                          text=True) as peer:
        if not second:
            peer.stdout.readline()
        through = stream(address, name, tokens)
        direct = json.loads(peer.stdout.read().splitlines()[-1])
    assert len(direct) == len(through), (len(direct), len(through))
    return statistics.median((b - a) / 1000 for a, b in zip(direct[FIRST:], through[FIRST:]))


def small(path, count):
    for i in range(count):
        peer = connect(path)
        post(peer, {'messages': [{'role': 'user', 'content': f'Number {i}.'}], 'max_tokens': 1})
        while peer.recv(65536):
            pass


def many(path, count, pid):
    """Memory with so many streams under way."""
    peers = [connect(path) for _ in range(count)]
    for i, peer in enumerate(peers):
        post(peer, {'messages': [{'role': 'user', 'content': f'Story {i}.'}], 'max_tokens': 16, 'stream': True})
    for peer in peers:
        peer.recv(1)
    most = resident(pid)
    for peer in peers:
        while peer.recv(65536):
            pass
    return most


def main(build, model, tokens=200):
    home = tempfile.mkdtemp(prefix='sinkd-bench.')
    env = {**os.environ, 'XDG_RUNTIME_DIR': home, 'XDG_STATE_HOME': home, 'XDG_CONFIG_HOME': home}
    path, endpoint, port = f'{home}/http.sock', f'ipc://{home}/sinkd/sinkd.sock', 18000 + os.getpid() % 1000
    daemon = subprocess.Popen([f'{build}/daemon/sinkd', '-m', model, '--threads', '1'], env=env, stderr=subprocess.DEVNULL)
    Direct(endpoint)
    gateway = subprocess.Popen([f'{build}/client/sinkd-http', '-l', f'unix:{path}', '-l', f'127.0.0.1:{port}'], env=env)
    try:
        while not os.path.exists(path):
            time.sleep(0.05)
        time.sleep(0.5)
        for kind, address in (('unix', path), ('TCP', f'127.0.0.1:{port}')) * 3:
            before, behind = (added(endpoint, address, int(tokens), second) for second in ('', 'second'))
            print(f'{kind}: {(before + behind) / 2:.0f} us added (median; {before:.0f} behind the direct client, '
                  f'{behind:.0f} ahead of it)')
        small(path, 100)
        print(f'{resident(gateway.pid):.1f} MB after a hundred requests, {many(path, 50, gateway.pid):.1f} MB with 50 streams')
    finally:
        gateway.terminate()
        daemon.terminate()
        daemon.wait()


if __name__ == '__main__':
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    if sys.argv[1] == 'follow':
        follow(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
