"""Random traffic, SIGKILL at a random moment, and again: what a client was told stays true.

    crash.py [--rounds N] [--seed N] [--model FILE]

A client talks to several conversations at once: new, say, stop, regenerate, rewind, fork, rename, rm, feed, attach. Each
request bears a key and is sent again, to the next daemon, until it is answered. After every kill: conversations that
were made are there, those that were removed are not; every event that was received is still the event of that number,
and those that follow go on without gap or duplicate; the messages are what the events tell. At the end the same
requests go to a daemon that is left in peace, and all answers that nobody stopped must be the same, letter for letter.
"""
import argparse
import os
import random
import shutil
import sys
import threading
import time

import live
from live import Daemon, Refused, case, main, same, tiny
from supervise import Service

WORDS = ['sea', 'salt', 'wind', 'gull', 'rope', 'sail', 'The', 'and', 'why?', 'No.', 'ü', '海', '\n', 'of']
POLICIES = ['sink:4,60', 'sink:4,124', 'window:100', 'separator:4,32,64', 'anchor:2,30,60', 'recompute:40', 'dense']


class Record:
    """What a client knows of a conversation."""

    def __init__(self, name):
        self.name = name
        self.events = []  # of number 1 and up, without the name
        self.pending = None  # a request that is not answered yet
        self.busy = False
        self.loose = False  # an answer was stopped: where, depends on the hour
        self.base = []  # the messages that a fork began with, of which its events do not tell

    def take(self, event):
        event = dict(event)
        name = event.pop('conversation')
        event.pop('to', None)  # an old rename is told with the present name
        number = event['seq']
        if number <= len(self.events):
            same(repr(event), repr(self.events[number - 1]), f'event {number} of {name}')
            return
        assert number == len(self.events) + 1, f'{name}: event {number} after {len(self.events)}'
        self.events.append(event)
        if event['ev'] in ('answer', 'prefill', 'text') or event.get('role') == 'user':
            self.busy = True
        if event['ev'] in ('done', 'rewound', 'error'):
            self.busy = False

    def messages(self):
        """As the events tell them."""
        told = [list(message) for message in self.base]
        for event in self.events:
            if event['ev'] == 'message':
                assert event['message'] == len(told), (event, len(told))
                told.append([event['role'], event['text']])
            elif event['ev'] == 'answer':
                assert event['message'] == len(told), (event, len(told))
                told.append(['assistant', ''])
            elif event['ev'] == 'done' and event['message'] == len(told):  # stopped before it began
                told.append(['assistant', ''])
            elif event['ev'] == 'text':
                told[event['message']][1] += event['text']
            elif event['ev'] == 'rewound':
                del told[event['messages']:]
        return told


class Traffic:
    def __init__(self, service, seed):
        self.service = service
        self.random = random.Random(seed)
        self.client = None
        self.records = {}
        self.asked = {}  # requests under way: id -> (record, op, fields)
        self.done = []  # (op, fields) that were carried out, in order
        self.names = 0
        self.former = {}  # records by names that they had
        self.kinds = {}
        self.refused = {}

    def invent(self):
        self.names += 1
        return f'c{self.names}'

    def text(self, most=12):
        return ' '.join(self.random.choice(WORDS) for _ in range(self.random.randint(1, most)))

    def connect(self):
        self.client = self.service.client()
        self.asked = {}
        there = {info['name'] for info in self.client.call('list')['conversations']}
        for name, record in self.records.items():
            if record.pending and record.pending[0] in ('new', 'fork', 'remove', 'rename'):
                continue
            assert name in there, f'{name} is lost'
        for name in there - set(self.records):
            assert any(record.pending and name in (record.pending[1].get('to'), record.pending[1].get('name'))
                       for record in self.records.values()), f'{name} is back'
        for record in list(self.records.values()):
            if record.name in there and not (record.pending and record.pending[0] in ('remove', 'rename')):
                self.attach(record)
        for record in list(self.records.values()):
            if record.pending:
                self.send(record, *record.pending)

    def attach(self, record, first=False):
        try:
            self.client.call('attach', conversation=record.name, credit=1 << 30,
                             **{'from': 1 if first else len(record.events) + 1})
        except Refused as refusal:
            assert refusal.code == 'enoent' and record.pending, f'{record.name}: {refusal}'
        self.sort()

    def sort(self):
        """What came beside the reply to a call."""
        while self.client.kept:
            self.take(self.client.kept.pop(0))

    def send(self, record, op, fields):
        record.pending = (op, fields)
        number = self.client.send(op, **fields)
        self.client.awaited.add(number)
        self.asked[number] = record

    def ask(self, record, op, **fields):
        self.kinds[op] = self.kinds.get(op, 0) + 1
        self.send(record, op, {**fields, 'key': self.random.getrandbits(62) + 1})

    def take(self, message):
        if 'ev' in message:
            name = message.get('conversation')
            record = self.records.get(name) or self.former.get(name)
            if record:
                record.take(message)
            return
        record = self.asked.pop(message['id'], None)
        if record is None:
            return
        op, fields = record.pending
        record.pending = None
        if 'error' in message:
            code = message['error']['code']
            assert code in ('ebusy', 'einval', 'egone') or (op, code) == ('fork', 'enoent'), \
                f'{op} {fields}: {message["error"]}'
            self.refused[code] = self.refused.get(code, 0) + 1
            if op in ('new', 'fork'):
                del self.records[record.name]
            return
        self.answered(record, op, fields, message['ok'])

    def answered(self, record, op, fields, answer):
        self.done.append((op, fields))
        if op in ('new', 'fork'):
            if op == 'fork':
                record.base = self.told(record)[:fields['message']]
                assert len(record.base) == fields['message'], record.base
            self.attach(record)
        elif op == 'remove':
            del self.records[record.name]
        elif op == 'rename':
            self.former[record.name] = self.records.pop(record.name)
            record.name = fields['to']
            self.records[record.name] = record
        elif op == 'stop':
            record.loose = record.loose or answer['stopped']

    def pump(self, wait):
        self.sort()
        try:
            self.take(self.client.receive(wait / live.SLOW))
        except TimeoutError:
            pass

    def begin(self):
        """One more request, if there is a conversation free for it."""
        free = [record for record in self.records.values() if not record.pending]
        if len(self.records) < 3 or (len(self.records) < 12 and self.random.random() < 0.1):
            name = self.invent()
            self.records[name] = Record(name)
            sampling = {'seed': self.random.randint(0, 1000), 'temperature': 0.9,
                        'max_tokens': self.random.choice([1, 8, 30, 100])}
            self.ask(self.records[name], 'new', name=name, policy=self.random.choice(POLICIES), sampling=sampling,
                     system=self.random.choice(['', 'You are a ship.']))
            return
        if not free:
            return
        record = self.random.choice(free)
        if record.busy:
            if self.random.random() < 0.005:
                self.ask(record, 'stop', conversation=record.name)
            elif self.random.random() < 0.02:
                self.attach(record, first=True)
            return
        self.act(record)

    def act(self, record):
        count = len(record.messages())
        what = self.random.random()
        name = {'conversation': record.name}
        if what < 0.6 or count < 2:
            self.ask(record, 'say', text=self.text(), **name)
            record.busy = True
        elif what < 0.68:
            self.ask(record, 'regenerate', sampling={'seed': self.random.randint(0, 1000)}, **name)
            record.busy = True
        elif what < 0.76:
            self.ask(record, 'rewind', message=self.random.randint(max(0, count - 4), count), **name)
        elif what < 0.84 and len(self.records) < 12:
            to = self.invent()
            fork = self.records[to] = Record(to)
            fork.loose = record.loose
            self.ask(fork, 'fork', to=to, message=self.random.randint(1, count), **name)
        elif what < 0.88:
            to = self.invent()
            self.ask(record, 'rename', to=to, **name)
        elif what < 0.92 and len(self.records) > 4:
            self.ask(record, 'remove', **name)
        else:
            self.attach(record, first=True)

    def run(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.random.random() < 0.3:
                self.begin()
            self.pump(0.002)
        self.sort()

    def settle(self):
        """Until all is answered and nobody is busy."""
        end = time.monotonic() + live.WAIT
        while time.monotonic() < end:
            self.pump(0.05)
            if not self.asked and all(info['state'] == 'idle' for info in self.client.call('list')['conversations']):
                self.sort()
                break
            self.sort()
        else:
            raise AssertionError(f'there is no end to {list(self.asked.values())}')
        for record in self.records.values():
            self.attach(record, first=True)
        while any(len(record.events) < self.client.call('show', conversation=record.name)['conversation']['seq'] - 1
                  for record in self.records.values()):
            self.pump(0.05)
            self.sort()
        self.compare()

    def told(self, record):
        return [[message['role'], message['text']]
                for message in self.client.call('log', conversation=record.name)['messages']]

    def compare(self):
        for record in self.records.values():
            told = self.told(record)
            assert told == record.messages(), (f'{record.name}: messages {told[-6:]}, but its events are '
                                               f'{[e for e in record.events if e["ev"] != "text"][-20:]}')


def in_peace(traffic):
    """The same requests to a daemon that is not killed, one after another; the messages of each conversation."""
    daemon = Daemon(traffic.service.path, '--state', 'none')
    client = daemon.client()
    for op, fields in traffic.done:
        if op == 'stop':
            continue
        try:
            client.call(op, **fields)
        except Refused:
            pass  # it follows from what was stopped
        name = fields.get('to') or fields.get('name') or fields.get('conversation')
        if op in ('say', 'regenerate'):
            live.eventually(lambda: client.call('show', conversation=name)['conversation']['state'] == 'idle', name)
    told = {info['name']: [[message['role'], message['text']]
                           for message in client.call('log', conversation=info['name'])['messages']]
            for info in client.call('list')['conversations']}
    client.close()
    daemon.stop()
    return told


def crash(rounds, seed, path):
    service = Service(path, room=8, pause=0)
    traffic = Traffic(service, seed)
    luck = random.Random(seed)
    for number in range(rounds):
        traffic.connect()
        traffic.run(luck.uniform(0, 0.6) * live.SLOW)
        if number % 10 == 9:
            traffic.settle()
            traffic.run(luck.uniform(0, 0.1))
        traffic.client.close()
        service.room = luck.choice([0, 8])
        how = luck.random()
        if how < 0.1:
            service.restart()
        elif how < 0.2:
            service.kill(again=False)
            shutil.rmtree(os.path.join(service.home, 'state', 'sinkd', 'caches'), ignore_errors=True)
            service.start()
        else:
            service.kill()
        if not service.room:
            with service.changed:
                service._empty()
        service.wait_ready()
    traffic.connect()
    traffic.settle()
    told = {record.name: traffic.told(record) for record in traffic.records.values()}
    peaceful = in_peace(traffic)
    compared = 0
    for record in traffic.records.values():
        if not record.loose:
            same(told[record.name], peaceful[record.name], f'{record.name} and its undisturbed twin')
            compared += 1
    traffic.client.close()
    service.stop()
    check(service)
    for trouble in ('damaged', 'no good', 'SAVING HAS STOPPED', 'is lost', 'cannot be'):
        assert trouble not in service.text(), [line for line in service.text().splitlines() if trouble in line]
    print(f'# {rounds} kills, seed {seed}: {sum(len(r.events) for r in traffic.records.values())} events of '
          f'{len(traffic.records)} conversations checked, {compared} compared with undisturbed twins; requests: '
          f'{traffic.kinds}; refused: {traffic.refused}', flush=True)


def check(service):
    """What is kept is sound."""
    import subprocess
    done = subprocess.run([live.SINKD, '--check-store'], env=live.environment(service.home), capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@case
def twenty_kills_in_random_traffic():
    crash(20, int.from_bytes(os.urandom(3), 'little'), tiny())


@case
def commands_notice_no_more_than_a_pause():
    service = Service(tiny())
    end = time.monotonic() + 6 * live.SLOW
    asked = [[], [], []]
    failed = []

    def ask(number):
        while time.monotonic() < end:
            asked[number].append(f'message {len(asked[number])}')
            done = live.sink(service, 'ask', '-c', f'c{number}', '-n', '60', asked[number][-1])
            if done.returncode or done.stderr:
                failed.append(done)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    ends = 0
    while time.monotonic() < end:
        time.sleep(random.uniform(0.1, 0.8) * live.SLOW)
        random.choice([service.kill, service.restart])()
        service.wait_ready()
        ends += 1
    for thread in threads:
        thread.join()
    assert not failed, failed
    client = service.client()
    for number, texts in enumerate(asked):
        said = client.call('log', conversation=f'c{number}', count=100000)['messages']
        same([message['text'] for message in said if message['role'] == 'user'], texts, 'what was said')
        assert all(message['finish'] for message in said if message['role'] == 'assistant'), said[-2:]
    client.close()
    service.stop()
    print(f'# {sum(len(texts) for texts in asked)} commands over {ends} ends of the daemon', flush=True)


if __name__ == '__main__':
    if len(sys.argv) > 1:
        parser = argparse.ArgumentParser(description='kills a daemon again and again')
        parser.add_argument('--rounds', type=int, default=200)
        parser.add_argument('--seed', type=int, default=1)
        parser.add_argument('--model')
        given = parser.parse_args()
        crash(given.rounds, given.seed, given.model or tiny())
    else:
        main()
