"""What keeping conversations costs, and what coming back takes: figures of the daemon as a whole.

    top_builddir=build contrib/bench/store.py [overhead] [restart] [fork] [size]

overhead  tokens a second of one long answer, with and without a store, alternating
restart   from the start of the next daemon to READY=1, and from a question to its first text, for each way back
fork      how long the verb takes, by the length of the conversation
size      bytes on the disk of a conversation, by its length, at a budget of 1,024

The first two use the real model (SINKD_MODEL), the others a tiny one. Medians; run it on a quiet machine.
"""
import os
import shutil
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'tests', 'live'))

import live  # noqa: E402
from live import Daemon, tiny  # noqa: E402
from supervise import Service  # noqa: E402

FIRM = {'seed': 7, 'temperature': 0.8, 'max_tokens': 1}


def state(daemon):
    return os.path.join(daemon.home, 'state', 'sinkd')


def fill(client, name, tokens, policy='sink:4,2044'):
    client.call('new', name=name, policy=policy, sampling=FIRM, system='')
    words = 0
    while client.call('show', conversation=name)['conversation']['tokens'] < tokens:
        client.call('feed', conversation=name, wait=600,
                    text=' '.join(f'word {words + i}, and' for i in range(min(2000, tokens // 8 + 1))))
        words += 2000


def overhead(rounds=9, tokens=200):
    daemons = {'no store': Daemon(live.model(), '--state', 'none'), 'store': Daemon(live.model()),
               'store and manager': Service(live.model())}
    clients = {name: daemon.client() for name, daemon in daemons.items()}
    figures = {name: [] for name in daemons}
    for client in clients.values():
        client.call('new', name='a', sampling={**FIRM, 'max_tokens': tokens}, system='')
        client.ask('a', 'Tell me a very long story.', create=False)
    for number in range(rounds):
        for name in list(daemons)[number % 3:] + list(daemons)[:number % 3]:
            client = clients[name]
            client.call('rewind', conversation='a', message=0)
            client.call('say', conversation='a', text='Tell me a very long story about the sea.', attach=True,
                        sampling={'max_tokens': tokens, 'seed': 3, 'temperature': 0.8})
            done = client.until('done', 'a')[-1]
            figures[name].append(done['timing']['decode_per_s'])
    for name, values in figures.items():
        ratios = [value / none for value, none in zip(values, figures['no store'])]
        print(f'overhead  {name:18s} {statistics.median(values):7.1f} tokens/s, ratio {statistics.median(ratios):.4f} '
              f'(median of {rounds}; {min(values):.1f} to {max(values):.1f})', flush=True)
    for name, daemon in daemons.items():
        clients[name].close()
        daemon.stop()


def first_text(client, name):
    client.call('attach', conversation=name)
    began = time.monotonic()
    client.call('say', conversation=name, text='Yes.')
    events = client.until('text', name)
    took = (time.monotonic() - began) * 1e3
    events += client.until('done', name)
    restored = [event for event in events if event['ev'] == 'restored']
    return took, restored[0] if restored else None


def restart(rounds=5):
    rows = {}
    for where, room, remove in (('memory', 8, False), ('disk', 0, False), ('replay', 0, True)):
        service = Service(live.model(), room=room)
        client = service.client()
        fill(client, 'a', 2400)
        for how in ['kill', 'restart'] * rounds if where != 'replay' else ['kill']:
            first_text(client, 'a')
            warm = first_text(client, 'a')[0]
            time.sleep(1.5)
            client.close()
            if remove:
                service.kill(again=False)
                shutil.rmtree(os.path.join(state(service), 'caches'))
                service.start()
            else:
                getattr(service, how)()
            began = time.monotonic()
            service.wait_ready()
            ready = (time.monotonic() - began) * 1e3
            client = service.client()
            took, restored = first_text(client, 'a')
            assert restored and restored['from'] == where, restored
            rows.setdefault((where, how), []).append((ready, restored['ms'], took, warm, restored['tokens'],
                                                      restored['recomputed']))
        client.close()
        service.stop()
    for (where, how), values in rows.items():
        ready, back, took, warm, tokens, again = (statistics.median(column) for column in zip(*values))
        print(f'restart   {where:7s} after {how:7s}: ready {ready:6.0f} ms; cache back in {back:7.1f} ms, first text '
              f'{took:7.1f} ms after the question (never stopped: {warm:.1f}); {tokens:.0f} tokens, {again:.0f} '
              f'recomputed', flush=True)


def fork(lengths=(1000, 10000, 100000, 1000000)):
    daemon = Daemon(tiny(), '--message-bytes', '64M')
    client = daemon.client()
    for length in lengths:
        name = f'of-{length}'
        fill(client, name, length, 'sink:4,1020')
        took = []
        for number in range(21):
            began = time.monotonic()
            client.call('fork', conversation=name, to=f'{name}-{number}')
            took.append((time.monotonic() - began) * 1e3)
        print(f'fork      {length:8d} tokens: {statistics.median(took):.2f} ms ({min(took):.2f} to {max(took):.2f})',
              flush=True)
    client.close()
    daemon.stop()


def size(lengths=(10000, 100000, 1000000)):
    daemon = Daemon(tiny())
    client = daemon.client()
    client.call('new', name='a', policy='sink:4,1020', sampling={**FIRM, 'max_tokens': 250}, system='')
    tokens = 0
    while tokens < lengths[-1]:
        client.call('say', conversation='a', text='Go on, please.')
        while (info := client.call('show', conversation='a')['conversation'])['state'] != 'idle':
            time.sleep(0.002)
        tokens = info['tokens']
        if tokens >= lengths[0]:
            lengths = lengths[1:]
            time.sleep(2)
            store = sum(os.path.getsize(os.path.join(state(daemon), name))
                        for name in os.listdir(state(daemon)) if name.startswith('sinkd.db'))
            caches = sum(entry.stat().st_size for entry in os.scandir(os.path.join(state(daemon), 'caches')))
            text = sum(len(message['text'].encode()) for message in client.call('log', conversation='a')['messages'])
            page = client.call('status')['page_bytes']
            print(f'size      {tokens:8d} tokens: store {store} bytes ({store / tokens:.1f} a token), cache file '
                  f'{caches} bytes ({caches / page:.1f} pages), text in the first reply of log {text} bytes', flush=True)
        if not lengths:
            break
    client.close()
    daemon.stop()


if __name__ == '__main__':
    parts = {'overhead': overhead, 'restart': restart, 'fork': fork, 'size': size}
    for word in sys.argv[1:] or parts:
        parts[word]()
