"""What `sink --stdio` adds to a token, and the memory that it takes.

    top_builddir=build contrib/bench/bridge.py [rounds [threads]]

Two readers follow one conversation, each a process of its own that notes when an event is in its hands: one from a
ZeroMQ socket, the other from another socket or from a bridge. Who attached first is sent an event first, so both orders
are measured; what two sockets differ by is the error of the measurement. With `threads` of the engine below the number
of cores nobody has to wait for a core. The real model (SINKD_MODEL); run it on a quiet machine.
"""
import json
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'tests', 'live'))

import msgpack  # noqa: E402

import live  # noqa: E402

TOKENS = 300


def _moments(take, read):
    """Reads until the answer's end; the moment of each text event by its seq."""
    print('ready', flush=True)
    seen = []
    while not seen or b'finish' not in seen[-1][1] or b'usage' not in seen[-1][1]:
        data = take()
        seen.append((time.monotonic(), data))
    events = [(now, read(data)) for now, data in seen]
    return {event['seq']: now for now, event in events if event.get('ev') == 'text'}


def follow_socket(endpoint):
    """A reader of a plain socket; prints what it saw."""
    client = live.Client(endpoint)
    client.call('attach', conversation='a', credit=1 << 24)
    print(json.dumps([_moments(client.socket.recv, msgpack.unpackb), 0]))


def follow_bridge(_):
    """A reader of a bridge; prints what it saw, and the bridge's memory in MB."""
    with subprocess.Popen([live.SINK, '--stdio'], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bridge:
        bridge.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"attach","params":{"conversation":"a"}}\n')
        bridge.stdin.flush()
        bridge.stdout.readline()
        moments = _moments(bridge.stdout.readline, lambda data: json.loads(data)['params'])
        with open(f'/proc/{bridge.pid}/status', encoding='ascii') as status:
            memory = next(int(line.split()[1]) for line in status if line.startswith('VmHWM:')) / 1024
        print(json.dumps([moments, memory]))
        bridge.stdin.close()


def one_answer(daemon, kinds):
    """What each reader of one answer saw, in the order of `kinds`, which is that of attaching."""
    readers = []
    for kind in kinds:
        readers.append(subprocess.Popen([sys.executable, __file__, 'follow', kind, daemon.endpoint], text=True,
                                        env=live.environment(daemon.home), stdout=subprocess.PIPE))
        assert readers[-1].stdout.readline() == 'ready\n'
    client = daemon.client()
    client.call('say', conversation='a', text='Tell me a very long story about the sea.',
                sampling={'max_tokens': TOKENS, 'seed': 3, 'temperature': 0.8, 'speculation': False})
    seen = [json.loads(reader.communicate()[0]) for reader in readers]
    client.call('rewind', conversation='a', message=0)
    client.close()
    return seen


def compare(daemon, other, rounds):
    """Microseconds by which the other reader's events come after the socket's, sorted; and the other's memory."""
    late, memory = [], 0
    for number in range(rounds):
        kinds = ['socket', other][::-1 if number % 2 else 1]
        seen = one_answer(daemon, kinds)[::-1 if number % 2 else 1]
        (first, _), (second, most) = seen
        memory = max(memory, most)
        late += [1e6 * (second[seq] - first[seq]) for seq in first if seq in second]
    return sorted(late), memory


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    daemon = live.Daemon(live.model(), '--threads', sys.argv[2] if len(sys.argv) > 2 else '0')
    client = daemon.client()
    client.call('new', name='a', system='')
    client.ask('a', 'Hello.', {'max_tokens': 8}, create=False)
    client.call('rewind', conversation='a', message=0)
    for name, kind in (('another socket', 'socket'), ('the bridge', 'bridge')):
        late, memory = compare(daemon, kind, rounds)
        print(f'{name:15s} {statistics.median(late):7.1f} us later (median of {len(late)} events; a tenth above '
              f'{late[len(late) * 9 // 10]:.1f})' + (f', {memory:.1f} MB' if memory else ''), flush=True)


if sys.argv[1:2] == ['follow']:
    {'socket': follow_socket, 'bridge': follow_bridge}[sys.argv[2]](sys.argv[3])
else:
    main()
