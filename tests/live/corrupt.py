"""What is kept is damaged: files of caches, caches in memory, the database.

    corrupt.py [--all] [--seed N]

Many conversations are made once; then each is given damage of its own, in copies of the state, and asked. Never a
crash, never another answer than that of a daemon whose files are sound, and never another conversation touched: those
that were left alone come from where they lay. Bytes of heads are flipped with their sum as it was, and with it computed
anew (by libxxhash, where it can be loaded); so are bytes of pages; files are cut, exchanged, emptied. Of the database,
what is damaged is found by --check-store, told, and mended by --repair-store as far as it can be.

By default a part of the places is tried, the same each time; --all tries each byte of the heads and more of the rest,
--seed others.
"""
import argparse
import concurrent.futures
import ctypes
import os
import random
import re
import shutil
import signal
import struct
import subprocess

import live
from live import Daemon, Refused, Skip, case, directory, eventually, main, same, text_of, tiny
from supervise import Service

COUNT = 32  # conversations
SPARED = 8  # one of so many is left alone
AT_ONCE = 3  # daemons
FIRM = {'temperature': 0.9, 'max_tokens': 12}
BLOCK = 4096
FIXED, PART, SUM = 184, 24, 8
DATABASE = 'sinkd.db'

given = argparse.Namespace(all=False, seed=1)


def place(home):
    return os.path.join(home, 'state', 'sinkd')


def name_of(number):
    return f'c{number}'


def ask(client, name, text='Go on.'):
    """An answer, and where the cache came from: 'memory', 'disk', 'replay', or None when it was there."""
    client.call('attach', conversation=name)
    client.call('say', conversation=name, text=text)
    events = client.until('done', name)
    client.call('detach', attachment=client.attachments.pop(name))
    client.kept.clear()
    restored = [event['from'] for event in events if event['ev'] == 'restored']
    assert len(restored) < 2, restored
    return text_of(events, name), (restored or [None])[0]


def log(client, name):
    return [(message['role'], message['text']) for message in client.call('log', conversation=name)['messages']]


class Original:
    """A state with many conversations, each with two generations of its cache, and what they say next."""

    def __init__(self, count=COUNT):
        self.names = [name_of(number) for number in range(count)]
        daemon = Daemon(tiny())
        client = daemon.client()
        for number, name in enumerate(self.names):
            client.call('new', name=name, policy='sink:4,124', system='', sampling={**FIRM, 'seed': number})
            ask(client, name, f'a bc {number} def ' * 60)
        eventually(lambda: client.call('status')['store']['caches'] == count, 'all caches are in files')
        for name in self.names:
            ask(client, name, 'Hello.')
        self.logs = {name: log(client, name) for name in self.names}
        client.close()
        daemon.stop()
        self.home = daemon.home
        self.files = {name: f'caches/{number}' for name, number in self._numbers()}
        home = self.copy()
        daemon = Daemon(tiny(), home=home)
        client = daemon.client()
        told = {name: ask(client, name) for name in self.names}
        assert {source for _, source in told.values()} == {'disk'}, told
        self.answers = {name: answer for name, (answer, _) in told.items()}
        assert len(set(self.answers.values())) > count // 2, 'they all say the same'
        client.close()
        daemon.stop()

    def _numbers(self):
        """Of the files; a conversation and its segment take two numbers each."""
        files = sorted((name for name in os.listdir(place(self.home) + '/caches')), key=lambda name: int(name[:-3]))
        assert len(files) == len(self.names), files
        return zip(self.names, files)

    def copy(self):
        home = directory()
        shutil.copytree(place(self.home), place(home), symlinks=True)
        for folder in (os.path.join(home, 'state'), place(home), place(home) + '/caches'):
            os.chmod(folder, 0o700)
        return home

    def path(self, home, name):
        return os.path.join(place(home), self.files[name])


_original = {}


def original(count=COUNT):
    if count not in _original:
        _original[count] = Original(count)
    return _original[count]


def check(home, *more):
    """--check-store, which must end by itself; its status and what it says."""
    done = subprocess.run([live.SINKD, *(more or ['--check-store'])], env=live.environment(home), capture_output=True,
                          text=True, errors='replace', check=False, timeout=live.WAIT)
    assert done.returncode in (0, 1), f'{more} ended with {done.returncode}: {done.stdout}{done.stderr}'
    return done.returncode, done.stdout + done.stderr


def start(home):
    """A daemon, or None when it ended, with a status and a reason."""
    daemon = Daemon(tiny(), home=home, ready=False)
    try:
        daemon.wait_ready()
    except AssertionError:
        if daemon.alive():
            raise
        assert daemon.wait() in (1, 5) and 'error:' in daemon.text(), f'{daemon.wait()}: {daemon.text()}'
        return None
    return daemon


# Files of caches.

def _xxhash():
    try:
        function = ctypes.CDLL('libxxhash.so.0').XXH3_64bits_withSeed
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_uint64
    function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    return lambda data, seed=0: function(bytes(data), len(data), seed)


XXH3 = _xxhash()


class Cache:
    """A file as README.md has it: its bytes, to be damaged."""

    def __init__(self, path):
        self.path = path
        with open(path, 'rb') as file:
            self.data = bytearray(file.read())
        self.base = struct.unpack_from('<Q', self.data, 80)[0]
        assert self.data[:8] == b'sinkd-kv' == self.data[self.base // 2:self.base // 2 + 8], 'one of two heads is none'
        self.heads = sorted((0, self.base // 2), key=lambda at: struct.unpack_from('<Q', self.data, at + 16))
        self.older, self.newer = self.heads
        self.page = struct.unpack_from('<Q', self.data, 72)[0]

    def parts(self, head):
        return struct.unpack_from('<I', self.data, head + 68)[0]

    def slots(self, head):
        """Where its pages begin."""
        size = (self.page + BLOCK - 1) // BLOCK * BLOCK
        return [self.base + size * struct.unpack_from('<I', self.data, head + FIXED + PART * part + 20)[0]
                for part in range(self.parts(head))]

    def head_bytes(self, head):
        return FIXED + PART * self.parts(head) + SUM

    def sign(self, head, length):
        struct.pack_into('<Q', self.data, head + length - SUM, XXH3(self.data[head:head + length - SUM]))

    def flip(self, at, bits=0x01):
        self.data[at] ^= bits

    def write(self):
        with open(self.path, 'wb') as file:
            file.write(self.data)


class Damage:
    """`inflict(cache)` damages a file; then it comes from one of `sources`. `found`: --check-store names the file, or
    does not; None: as it is.
    """

    def __init__(self, what, inflict, sources=('disk', 'replay'), found=None):
        self.what = what
        self.inflict = inflict
        self.sources = sources
        self.found = found


def flipped_head(which, at, bits):
    def inflict(cache):
        cache.flip(getattr(cache, which) + at, bits)
    # A head of a later version, as far as that can be told, is no damage.
    return Damage(f'{which} head, byte {at} ^ {bits}', inflict, ('disk',), None if 8 <= at < 12 else True)


def forged_head(which, at, bits):
    def inflict(cache):
        head = getattr(cache, which)
        length = cache.head_bytes(head)
        cache.flip(head + at, bits)
        cache.sign(head, length)
    return Damage(f'{which} head, byte {at} ^ {bits}, summed', inflict, ('disk',) if which == 'older' else
                  ('disk', 'replay'))


def flipped_page(luck):
    """A byte of a page of the newer generation. When the older one has the page, too, both are of no use."""
    which, part_of = luck.random(), luck.random()

    def inflict(cache):
        slots = cache.slots(cache.newer)
        cache.flip(slots[int(which * len(slots))] + int(part_of * cache.page), 1 << luck.randrange(8))
    return Damage(f'page {which}, {part_of}', inflict, found=True)


def flipped_new_page(luck):
    """One that the newer generation has alone: the older one serves."""
    part_of = luck.random()

    def inflict(cache):
        own = set(cache.slots(cache.newer)) - set(cache.slots(cache.older))
        assert own, 'the last writing wrote no page'
        cache.flip(min(own) + int(part_of * cache.page), 1 << luck.randrange(8))
    return Damage(f'own page, {part_of}', inflict, ('disk',), True)


def cut(length):
    def inflict(cache):
        del cache.data[length:]
    return Damage(f'cut to {length}', inflict, found=True if length < BLOCK else None)


def both_heads(cache):
    cache.flip(cache.older + 30)
    cache.flip(cache.newer + 30)


def later_version(cache):
    for head in cache.heads:
        struct.pack_into('<I', cache.data, head + 8, 99)


def forget_newer(cache):
    cache.data[cache.newer:cache.newer + FIXED] = bytes(FIXED)


def grow(cache):
    cache.data += bytes(3 * BLOCK + 7)


def overwrite(cache):
    cache.data[:] = random.Random(len(cache.data)).randbytes(len(cache.data))


def zeros(cache):
    cache.data[:] = bytes(len(cache.data))


def damages(luck):
    """All that is done to files, in an order that puts unlike ones side by side."""
    cache = Cache(original().path(original().home, name_of(0)))
    length = cache.head_bytes(cache.newer)
    step = 1 if given.all else 5
    every = [Damage('both heads', both_heads, ('replay',), True), Damage('a later version', later_version, ('replay',)),
             Damage('the older generation alone', forget_newer, ('disk',), False),
             Damage('longer', grow, ('disk',), False), Damage('noise', overwrite, ('replay',), True),
             Damage('zeros', zeros, ('replay',)), cut(0), cut(1), cut(FIXED)]
    for which in ('older', 'newer'):
        for at in [*range(luck.randrange(step), FIXED, step), *range(FIXED, length, 1 if given.all else 17)]:
            every.append(flipped_head(which, at, 1 << luck.randrange(8)))
            if XXH3 and at < length - SUM:
                every.append(forged_head(which, at, 1 << luck.randrange(8)))
    for border in range(BLOCK, len(cache.data), BLOCK):
        every += [cut(border), cut(border - 1)]
    every += [flipped_page(luck) for _ in range(1000 if given.all else 60)]
    every += [flipped_new_page(luck) for _ in range(200 if given.all else 20)]
    luck.shuffle(every)
    return every


def ask_all(home, expected, tally, kept=()):
    """Asks everybody once; `expected` are the sources by name, ('disk',) unless said. A file that was of no use has
    been set aside, but for those `kept`.
    """
    daemon = start(home)
    assert daemon, 'it does not start'
    client = daemon.client()
    for name in original().names:
        answer, source = ask(client, name)
        same(answer, original().answers[name], f'answers of {name}')
        assert source in expected.get(name, ('disk',)), f'{name} came from {source}, not {expected.get(name)}'
        if name in expected:
            tally[source] = tally.get(source, 0) + 1
            aside = os.path.exists(original().path(home, name) + '.bad')
            tally['set aside'] = tally.get('set aside', 0) + aside
            assert aside == (source == 'replay' and name not in kept), f'{name}: {source}, set aside: {aside}'
    client.close()
    daemon.stop()


def damaged_life(some):
    """A life in which these damages are there, each in another file."""
    home = original().copy()
    victims = [name for number, name in enumerate(original().names) if number % SPARED]
    damaged = dict(zip(victims, some))
    tally = {}
    for name, damage in damaged.items():
        cache = Cache(original().path(home, name))
        before = bytes(cache.data)
        damage.inflict(cache)
        assert cache.data != before, damage.what
        cache.write()
    says = check(home)[1]
    try:
        for name, damage in damaged.items():
            found = '/' + original().files[name] in says
            assert damage.found is None or found == damage.found, f'{name}: {damage.what}: --check-store: {says}'
            tally['found'] = tally.get('found', 0) + found
        kept = [name for name, damage in damaged.items() if damage.what in ('a later version', 'cut to 0')]
        ask_all(home, {name: damage.sources for name, damage in damaged.items()}, tally, kept)
        code, says = check(home)
        assert code == 0 or kept, f'afterwards: {says}'
    except AssertionError as why:
        raise AssertionError(f'{why}; {[(name, damage.what) for name, damage in damaged.items()]}') from why
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return tally


def in_turns(function, rounds):
    """Some at once; the sum of the tallies."""
    total = {}
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for tally in pool.map(function, rounds):
            for key, value in tally.items():
                total[key] = total.get(key, 0) + value
    return total


@case
def damaged_files_of_caches_harm_nobody():
    every = damages(random.Random(given.seed))
    room = COUNT - (COUNT + SPARED - 1) // SPARED
    tally = in_turns(damaged_life, [every[at:at + room] for at in range(0, len(every), room)])
    print(f'# {len(every)} damaged files: {tally}', flush=True)
    if not XXH3:
        print('# without libxxhash no sums were computed anew', flush=True)


@case
def files_of_others_are_not_taken():
    home = original().copy()
    first, second, third, fourth = (original().path(home, name_of(number)) for number in (1, 2, 3, 4))
    os.rename(first, first + '.x')
    os.rename(second, first)
    os.rename(first + '.x', second)  # exchanged
    shutil.copy(fourth, third)  # a copy of another's
    ask_all(home, {name_of(number): ('replay',) for number in (1, 2, 3)}, {})


@case
def files_of_another_policy_or_model_are_not_taken():
    def build(path, policy):
        daemon = Daemon(path)
        client = daemon.client()
        client.call('new', name='c0', policy=policy, system='', sampling={**FIRM, 'seed': 0})
        ask(client, 'c0', 'a bc def ' * 60)
        client.close()
        daemon.stop()
        caches = place(daemon.home) + '/caches'
        return os.path.join(caches, os.listdir(caches)[0])
    others = [build(tiny(), 'sink:4,188'), build(tiny('q8_0'), 'sink:4,124'), build(tiny(), 'sink:4,124')]
    home = original().copy()
    for number, other in enumerate(others, 1):
        shutil.copy(other, original().path(home, name_of(number)))
    ask_all(home, {name_of(number): ('replay',) for number in (1, 2, 3)}, {})


@case
def a_huge_file_is_a_file_like_others():
    home = original().copy()
    os.truncate(original().path(home, name_of(1)), 1 << 40)
    ask_all(home, {name_of(1): ('disk', 'replay')}, {})
    assert os.path.getsize(original().path(home, name_of(1))) < 1 << 30, 'it stays huge'


@case
def missing_files_and_foreign_ones():
    home = original().copy()
    os.unlink(original().path(home, name_of(1)))
    for name in ('99999.kv', 'notes.txt', '1.kv.bad', '-1.kv', '1e3.kv'):
        with open(os.path.join(place(home), 'caches', name), 'wb') as file:
            file.write(b'x')
    ask_all(home, {name_of(1): ('replay',)}, {}, [name_of(1)])
    left = os.listdir(place(home) + '/caches')
    assert '99999.kv' not in left and {'notes.txt', '-1.kv', '1e3.kv'} <= set(left), left


# Caches in memory.

HEAD = 4096  # of both files


class Memory:
    """The two files that the service manager keeps."""

    def __init__(self, service):
        self.pages = service.store['sinkd-pages'][0]
        self.records = service.store['sinkd-records'][0]
        self.page = struct.unpack('=Q', os.pread(self.pages, 8, 64))[0]

    def blocks(self):
        """Places and sizes of records in use."""
        at = HEAD
        while True:
            _, order, _, used = struct.unpack('=IIQQ', os.pread(self.records, 24, at))
            if not order:
                return
            if used == 1:
                yield at, 1 << order
            at += 1 << order

    def pages_of(self, at, size):
        """Places of the pages that a record names."""
        data = os.pread(self.records, size - 64, at + 64)
        count = sum(struct.unpack_from('=3Q', data, 40))
        numbers = [struct.unpack_from('=I', data, 304 + 24 * entry + 16)[0] for entry in range(count)]
        return [HEAD + (number - 1) * self.page for number in numbers if number]

    @staticmethod
    def flip(file, at, bits):
        os.pwrite(file, bytes([os.pread(file, 1, at)[0] ^ bits]), at)


def harm_a_cache(memory, block, luck):
    at, size = block
    bits = 1 << luck.randrange(8)
    pages = memory.pages_of(at, size)
    if luck.random() < 0.5 or not pages:
        memory.flip(memory.records, at + 64 + luck.randrange(min(size - 64, 304 + 24 * 6)), bits)
    else:
        memory.flip(memory.pages, luck.choice(pages) + luck.randrange(memory.page), bits)


def harm_everything(memory, luck):
    """Where all are concerned: the identities, the heads of blocks."""
    what = luck.randrange(3)
    bits = 1 << luck.randrange(8)
    if what == 0:
        memory.flip(luck.choice([memory.pages, memory.records]), luck.randrange(80), bits)
    elif what == 1:
        memory.flip(memory.records, luck.choice(list(memory.blocks()))[0] + luck.randrange(64), bits)
    else:
        at, size = luck.choice(list(memory.blocks()))
        os.pwrite(memory.records, luck.randbytes(size), at)


class Undisturbed:
    """What the conversations say to one question after the other."""

    def __init__(self):
        self.daemon = Daemon(tiny(), '--state', place(original().copy()))
        self.client = self.daemon.client()

    def answers(self):
        return {name: ask(self.client, name)[0] for name in original().names}

    def close(self):
        self.client.close()
        self.daemon.stop()


def ask_again(service, undisturbed, tally):
    """Asks everybody; all must say what the others say. The sources."""
    service.wait_ready()
    client = service.client()
    sources = []
    for name, expected in undisturbed.answers().items():
        answer, source = ask(client, name)
        same(answer, expected, f'answers of {name}')
        tally[source] = tally.get(source, 0) + 1
        sources.append(source)
    client.close()
    return sources


def damaged_memory(harm):
    """Lives between which the memory is harmed by harm(memory, tally)."""
    undisturbed = Undisturbed()
    service = Service(tiny(), home=original().copy())
    tally = {}
    ask_again(service, undisturbed, {})
    for _ in range(40 if given.all else 6):
        service.kill(again=False)
        most = harm(Memory(service), tally)
        service.start()
        sources = ask_again(service, undisturbed, tally)
        assert sum(source != 'memory' for source in sources) <= most, f'{most} were harmed: {sources}'
    undisturbed.close()
    service.stop()
    return tally


@case
def damaged_caches_in_memory_harm_nobody_else():
    luck = random.Random(given.seed)

    def harm(memory, tally):
        blocks = list(memory.blocks())
        assert len(blocks) == COUNT, len(blocks)
        harmed = luck.sample(blocks, COUNT // 2)
        for block in harmed:
            harm_a_cache(memory, block, luck)
        tally['flipped'] = tally.get('flipped', 0) + len(harmed)
        return len(harmed)
    print(f'# caches in memory: {damaged_memory(harm)}', flush=True)


@case
def a_damaged_memory_is_told_from_a_sound_one():
    luck = random.Random(given.seed)

    def harm(memory, tally):
        harm_everything(memory, luck)
        tally['damaged'] = tally.get('damaged', 0) + 1
        return COUNT
    print(f'# memory as a whole: {damaged_memory(harm)}', flush=True)


# The database.

FEW = 6  # conversations


def positions(luck):
    """Bytes of the database to be damaged: all over it, in its head, and at the heads of pages."""
    size = os.path.getsize(os.path.join(place(original(FEW).home), DATABASE))
    page = 4096
    some = [luck.randrange(100) for _ in range(100 if given.all else 3)]
    some += [page * luck.randrange(size // page) + luck.randrange(12) for _ in range(200 if given.all else 6)]
    some += [luck.randrange(size) for _ in range(1000 if given.all else 15)]
    return [(at, 1 << luck.randrange(8)) for at in some]


def served(home, tally, sound=False):
    """What a daemon makes of it: right texts and answers, or a clear error. `sound`: all must be right."""
    own = original(FEW)
    daemon = start(home)
    if not daemon:
        assert not sound, 'it does not start'
        tally['ended'] = tally.get('ended', 0) + 1
        return
    client = daemon.client()
    there = {info['name'] for info in client.call('list')['conversations']}
    told = daemon.text()
    assert there >= set(own.names) or re.search('renamed|left out|cannot|damaged', told), f'some are gone: {told}'
    assert not sound or there == set(own.names), there
    for name in there:
        try:
            messages = log(client, name)
            assert name in own.names, f'there is a {name!r}'
            same(messages, own.logs[name], f'messages of {name}')
            same(ask(client, name)[0], own.answers[name], f'answers of {name}')
            tally['served'] = tally.get('served', 0) + 1
        except Refused as refusal:
            assert not sound, f'{name}: {refusal}'
            assert len(refusal.text) > 8, refusal
            tally['refused'] = tally.get('refused', 0) + 1
    tally['gone'] = tally.get('gone', 0) + len(own.names) - len(there)
    client.close()
    daemon.stop()


def same_files(*homes):
    contents = []
    for home in homes:
        with open(os.path.join(place(home), DATABASE), 'rb') as file:
            contents.append(file.read())
    return contents[0] == contents[1]


def damaged_database(where):
    at, bits = where
    homes = [original(FEW).copy() for _ in range(2)]
    tally = {}
    try:
        for home in homes:
            with open(os.path.join(place(home), DATABASE), 'r+b') as file:
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ bits]))
        code, says = check(homes[0])
        tally['found'] = int(code != 0)
        served(homes[0], tally, sound=code == 0)
        if 'a newer one reads it' in says:  # it is left alone, by all
            assert check(homes[1], '--repair-store')[0] == 1 and same_files(*homes), says
            return tally
        says += check(homes[1], '--repair-store')[1]
        code, again = check(homes[1])
        assert code == 0, f'after the repair: {again}'
        repaired = {}
        served_after_repair(homes[1], repaired, says)
        tally.update({f'{key} after repair': value for key, value in repaired.items()})
    except AssertionError as why:
        raise AssertionError(f'byte {at} ^ {bits}: {why}') from why
    finally:
        for home in homes:
            shutil.rmtree(home, ignore_errors=True)
    return tally


def served_after_repair(home, tally, says):
    """Texts are those that were, or shorter; those that are whole go on as before."""
    own = original(FEW)
    daemon = start(home)
    assert daemon, f'it does not start after {says}'
    client = daemon.client()
    there = {info['name'] for info in client.call('list')['conversations']}
    for name in there & set(own.names):
        try:
            messages = log(client, name)
            assert messages == own.logs[name][:len(messages)], f'{name} says {messages}, after {says}'
            if f'"{name}" has lost its settings' in daemon.text():
                tally['without settings'] = tally.get('without settings', 0) + 1
            elif messages == own.logs[name]:
                answer = ask(client, name)[0]
                same(answer, own.answers[name], f'answers of {name}')
                tally['served'] = tally.get('served', 0) + 1
            else:
                tally['cut'] = tally.get('cut', 0) + 1
        except Refused as refusal:
            tally['refused'] = tally.get('refused', 0) + 1
            assert len(refusal.text) > 8, refusal
    tally['gone'] = tally.get('gone', 0) + len(own.names) - len(there)
    client.close()
    daemon.stop()


@case
def a_damaged_database_never_tells_anything_wrong():
    places = positions(random.Random(given.seed))
    original(FEW)
    print(f'# {len(places)} bytes of the database: {in_turns(damaged_database, places)}', flush=True)


@case
def a_database_that_is_cut_short():
    own = original(FEW)
    size = os.path.getsize(os.path.join(place(own.home), DATABASE))
    lengths = [0, 1, 99, 100, 4095, 4096, 4097, size // 2, size - 4096, size - 1]
    if given.all:
        lengths += range(8192, size, 4096)

    def shortened(length):
        home = own.copy()
        os.truncate(os.path.join(place(home), DATABASE), length)
        tally = {}
        tally['found'] = int(check(home)[0] != 0)
        served(home, tally, sound=not tally['found'])
        shutil.rmtree(home)
        return tally
    print(f'# {len(lengths)} lengths: {in_turns(shortened, lengths)}', flush=True)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='damages what is kept')
    parser.add_argument('--all', action='store_true')
    parser.add_argument('--seed', type=int)
    parser.parse_args(namespace=given)
    given.seed = given.seed or 1
    main()
