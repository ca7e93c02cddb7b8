"""The status segment and `sink top`: looked at while the daemon works, is stopped, was killed; on terminals of any size."""
import fcntl
import json
import mmap
import os
import re
import signal
import subprocess
import time
import unicodedata

import live
import screen
from live import case

daemon = live.Daemon(live.model())


def name_of(endpoint):
    """By the rule of sink-protocol(7)."""
    folder, _, base = endpoint[len('ipc://'):].rpartition('/')
    value = 0xcbf29ce484222325
    for byte in f'ipc://{os.path.realpath(folder)}/{base}'.encode():
        value = (value ^ byte) * 0x100000001b3 % (1 << 64)
    return f'/dev/shm/sinkd-{value:016x}'


def top(*words, of=None, env=None):
    of = of or daemon
    return subprocess.run([live.SINK, 'top', *words], env={**live.environment(of.home, of.env), **(env or {})},
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=live.WAIT)


def look(of=None, *words):
    done = top('--json', *words, of=of)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def wait_for(condition, what, of=None):
    return live.eventually(lambda: condition(look(of)), what)


@case
def it_says_what_status_says():
    client = daemon.client()
    client.ask('plain', 'Say hello.', sampling={'max_tokens': 8, 'seed': 1})
    seen = wait_for(lambda s: s['answering'] == 0 and s['tokens_written'] and s, 'the answer is over')
    time.sleep(0.5)
    seen, status = look(), client.call('status')
    for key in ('pid', 'server', 'instance', 'state', 'conversations', 'pages', 'page_bytes', 'tokens_read',
                'tokens_written', 'steps', 'endpoint', 'pages_free', 'answering', 'queued'):
        assert seen[key] == status[key], (key, seen[key], status[key])
    for key in ('name', 'threads', 'kernels', 'bytes', 'context', 'arch'):
        assert seen['model'][key] == status['model'][key], key
    assert seen['step_ms']['max'] == status['step_ms']['max']
    assert sum(seen['step_ms']['buckets']) == seen['steps'] > 0
    assert seen['store']['state'] == status['store']['state'] == 'saving'
    assert 0 <= seen['age'] < 3
    info = client.call('show', conversation='plain')['conversation']
    row = [r for r in seen['latest'] if r['name'] == 'plain'][0]
    for key in ('state', 'messages', 'tokens', 'waiting', 'pinned', 'kept', 'window', 'evicted', 'tier', 'pin', 'policy',
                'cache_bytes', 'created', 'used'):
        assert row[key] == info[key], (key, row[key], info[key])
    client.close()


@case
def an_answer_is_seen_while_it_is_written():
    client = daemon.client()
    client.call('new', name='long', sampling=live.ENDLESS)
    client.say('long', live.TALK)
    seen = wait_for(lambda s: s['latest'][0]['name'] == 'long' and s['written_per_s'] > 0 and
                    s['latest'][0]['written_per_s'] > 0 and s, 'speeds')
    row = seen['latest'][0]
    assert row['state'] == 'answering', row
    assert seen['answering'] == 1 and row['generated'] > 0 and row['clients'] == 1, row
    again = wait_for(lambda s: s['tokens_written'] > seen['tokens_written'] and s, 'it goes on')
    assert again['latest'][0]['tokens'] > row['tokens']
    lines = top('--once').stdout.splitlines()
    assert 'ready' in lines[0] and any(re.match(r'long +answering +[0-9.]+ ', line) for line in lines), lines
    client.call('stop', conversation='long')
    wait_for(lambda s: s['answering'] == 0, 'the end is seen')
    wait_for(lambda s: s['written_per_s'] == 0 and s['latest'][0]['written_per_s'] == 0, 'the speed goes down')
    client.close()


@case
def it_works_while_the_daemon_is_stopped():
    daemon.signal(signal.SIGSTOP)
    try:
        time.sleep(0.3)
        began = time.monotonic()
        done = top('--once')
        assert done.returncode == 0 and f'pid {daemon.pid}' in done.stdout, done
        assert time.monotonic() - began < 3 * live.SLOW
        assert 'NOT ANSWERING' not in done.stdout, 'it is too early to say so'
        time.sleep(3.5)
        first = top('--once').stdout.splitlines()[0]
        assert re.search(r'NOT ANSWERING for [34-9]s', first), first
        assert look()['age'] > 3
    finally:
        daemon.signal(signal.SIGCONT)
    wait_for(lambda s: s['age'] < 1, 'it goes on')
    assert 'NOT ANSWERING' not in top('--once').stdout


@case
def it_needs_no_message():
    before = daemon.client()
    # Clients of the cases before are forgotten a moment after they have gone.
    live.eventually(lambda: before.call('status')['clients'] == 1, 'nobody else is there')
    log = daemon.text()
    for _ in range(5):
        look()
    assert before.call('status')['clients'] == 1
    assert daemon.text() == log
    before.close()


@case
def of_many_conversations_the_latest_are_shown():
    other = live.Daemon(live.tiny(), '--state', 'none')
    client = other.client()
    client.call('new', name='early', sampling=live.ENDLESS)
    client.say('early', live.TALK)
    for i in range(300):
        client.call('new', name=f'talk {i}')
    seen = wait_for(lambda s: s['conversations'] == 301 and s, 'all are counted', other)
    names = [row['name'] for row in seen['latest']]
    assert names == ['early'] + [f'talk {i}' for i in range(299, 44, -1)], names
    assert '301 (256 shown)' in top('--once', of=other).stdout
    client.call('rename', conversation='talk 299', to='anders')
    wait_for(lambda s: s['latest'][1]['name'] == 'anders', 'the new name is seen', other)
    client.call('remove', conversation='anders')
    wait_for(lambda s: s['conversations'] == 300, 'its end, too', other)
    client.close()
    other.stop()
    assert not os.path.exists(name_of(other.endpoint)), 'a regular end takes the segment away'


@case
def what_a_killed_daemon_leaves_is_known_and_replaced():
    other = live.Daemon(live.tiny())
    place = name_of(other.endpoint)
    assert os.path.exists(place), place
    other.kill()
    assert os.path.exists(place)
    done = top('--once', of=other)
    assert done.returncode == 3 and 'No daemon is running' in done.stderr and not done.stdout, done
    after = live.Daemon(live.tiny(), home=other.home)
    assert look(after)['pid'] == after.pid
    after.stop()
    assert top('--once', of=after).returncode == 3
    assert top('--json', of=after).returncode == 3


@case
def a_daemon_that_shows_nothing_is_no_missing_one():
    other = live.Daemon(live.tiny(), '--status-segment=no')
    assert not os.path.exists(name_of(other.endpoint))
    done = top('--once', of=other)
    assert done.returncode == 1 and 'status-segment' in done.stderr, done
    other.stop()


@case
def nobody_else_can_read_and_nobody_can_write():
    place = name_of(daemon.endpoint)
    assert os.stat(place).st_mode & 0o7777 == 0o400, oct(os.stat(place).st_mode)
    with open(place, 'rb') as segment:
        mmap.mmap(segment.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ).close()
        try:
            mmap.mmap(segment.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except PermissionError:
            pass
        else:
            raise AssertionError('it could be mapped for writing')
        held = fcntl.fcntl(segment, 36, b'\0' * 32)  # F_OFD_GETLK: F_RDLCK, from the beginning to the end
        assert held[0] == fcntl.F_WRLCK, 'the daemon holds its lock'
    if os.getuid():
        raise live.Skip('only root can be somebody else')
    program = f'import sys; open({place!r}, sys.argv[1])'
    for mode in ('rb', 'r+b'):
        done = subprocess.run(['/usr/bin/python3', '-c', program, mode], user=65534, group=65534, extra_groups=[],
                              capture_output=True, text=True)
        assert done.returncode and 'PermissionError' in done.stderr, done


@case
def a_segment_of_a_stranger_is_not_believed():
    if os.getuid():
        raise live.Skip('only root can be somebody else')
    home = live.directory()
    place = name_of(f'ipc://{home}/sinkd/sinkd.sock')
    real = name_of(daemon.endpoint)
    with open(real, 'rb') as source, open(place, 'wb') as copy:
        copy.write(source.read())
        fcntl.lockf(copy, fcntl.LOCK_EX)
        try:
            os.chown(place, 65534, 65534)
            done = subprocess.run([live.SINK, 'top', '--once'], env=live.environment(home), capture_output=True, text=True)
            assert done.returncode == 1 and 'belongs to user 65534' in done.stderr, done
        finally:
            os.unlink(place)


@case
def tables_and_objects_come_at_intervals():
    done = top('-n', '3', '-d', '0.05')
    assert done.returncode == 0 and done.stdout.count('● sinkd') == 3, done.stdout
    done = top('-n', '2', '-d', '0.05', '--json')
    assert [json.loads(line)['pid'] for line in done.stdout.splitlines()] == [daemon.pid] * 2
    for words in (['-d', '0'], ['-d', 'x'], ['-n', '0'], ['-d', '-1'], ['--interval', '1e9'], ['much']):
        assert top(*words).returncode == 2, words


def cells(text):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in 'WF' else 1 for c in text)


class Terminal(screen.Terminal):
    """`sink` on a terminal, with the environment of a daemon's clients."""

    def __init__(self, whose, *words, env=None, rows=24, columns=80):
        super().__init__([live.SINK, *words], live.environment(whose.home, {'TERM': 'xterm', **(env or {})}), rows, columns)


class Screen(Terminal):
    """What `sink top` has drawn last."""

    def __init__(self, of, *words, rows=24, columns=80, **more):
        super().__init__(of, 'top', '-d', '0.1', *words, rows=rows, columns=columns, **more)

    def picture(self):
        """Its lines: what stands behind the last but one sequence that puts the cursor home, since that is whole."""
        self.read(0.02)
        pictures = self.screen.split('\x1b[H')
        if len(pictures) < 3:
            return []
        self.screen = '\x1b[H'.join(pictures[-3:])
        return re.sub('\r+\n$', '', screen.ESCAPES.sub('', pictures[-2])).replace('\r', '').split('\n')

    def wait(self, condition, what):
        def met():
            lines = self.picture()
            return lines if lines and condition(lines) else None
        try:
            return live.eventually(met, what)
        except AssertionError as why:
            raise AssertionError(f'{why}; the screen: {self.picture()}') from None

    def selected(self):
        marked = [line[2:].split('  ')[0] for line in self.picture() if line.startswith('> ')]
        return marked[0] if len(marked) == 1 else None


@case
def keys_select_sort_and_end():
    client = daemon.client()
    for name in ('eins', 'zwei', 'drei'):
        client.call('new', name=name)
    screen = Screen(daemon)
    screen.wait(lambda p: p[0].startswith('● sinkd') and p[-1].startswith('q ends'), 'the picture')
    live.eventually(lambda: screen.selected() == 'drei', 'the first is selected')
    screen.type('j')
    live.eventually(lambda: screen.selected() == 'zwei', 'j goes down')
    screen.type('\x1bOB')
    live.eventually(lambda: screen.selected() == 'eins', 'an arrow, too')
    screen.type('\x1b[A')
    live.eventually(lambda: screen.selected() == 'zwei', 'and up')
    screen.type('sss')
    lines = screen.wait(lambda p: p[-1].endswith('name'), 's sorts')
    rows = [line[2:].split('  ')[0] for line in lines if re.match(r'[> ] [a-z]', line)]
    assert rows == sorted(rows) and len(rows) >= 5, rows
    assert screen.selected() == 'zwei', 'the selection goes with its row'
    screen.type('G')
    live.eventually(lambda: screen.selected() == rows[-1], 'the last')
    screen.type('g')
    live.eventually(lambda: screen.selected() == rows[0], 'the first')
    client.call('new', name='aaa')
    live.eventually(lambda: screen.selected() == 'aaa', 'what comes to the top is selected')
    screen.type('\x1b[99~x\x00\xff')
    screen.type('q')
    assert screen.end() == 0
    assert '\x1b[?1049l' in screen.screen, 'the screen is given back'
    for name in ('eins', 'zwei', 'drei', 'aaa'):
        client.call('remove', conversation=name)
    client.close()


@case
def enter_attaches():
    client = daemon.client()
    client.call('new', name='tür', sampling={'max_tokens': 5, 'seed': 3})
    screen = Screen(daemon)
    live.eventually(lambda: screen.selected() == 'tür', 'it is selected')
    screen.type('\r')
    screen.expect('tür', 'the conversation')
    time.sleep(0.5)
    screen.type('Hello.\r')
    live.eventually(lambda: len(client.call('log', conversation='tür')['messages']) >= 2, 'it is talked to')
    live.eventually(lambda: client.call('show', conversation='tür')['conversation']['state'] == 'idle', 'it answers')
    screen.type('\x04')
    assert screen.end() == 0
    client.close()


@case
def names_fit_any_terminal():
    client = daemon.client()
    names = ['ありがとう' * 4, 'é' * 32, 'e\u0301' * 20, 'x' * 64, '😀' * 16]
    for name in names:
        client.call('new', name=name)
    for rows, columns in ((24, 80), (10, 40), (24, 20), (5, 30), (3, 12), (1, 5), (2, 1), (60, 200), (24, 3)):
        screen = Screen(daemon, rows=rows, columns=columns)
        lines = screen.wait(lambda p: p, f'a picture of {columns} x {rows}')
        assert len(lines) <= rows, (rows, lines)
        assert all(cells(line) <= columns for line in lines), (columns, [(cells(li), li) for li in lines])
        screen.type('jjkG q')
        assert screen.end() == 0
    done = top('--once').stdout
    assert all(name in done for name in names), 'into a file they go whole'
    for name in names:
        client.call('remove', conversation=name)
    client.close()


@case
def the_picture_follows_the_terminals_size():
    screen = Screen(daemon)
    screen.wait(lambda p: any('EVICTED' in line for line in p), 'all columns')
    screen.resize(12, 40)
    lines = screen.wait(lambda p: max(map(cells, p)) <= 40 and len(p) <= 12, 'a smaller picture')
    assert not any('EVICTED' in line for line in lines) and any('STATE' in line for line in lines), lines
    screen.resize(30, 100)
    screen.wait(lambda p: any('EVICTED' in line for line in p), 'all columns again')
    screen.type('\x03')
    assert screen.end() == 130
    assert '\x1b[?1049l' in screen.screen


@case
def a_stop_gives_the_terminal_back():
    screen = Screen(daemon)
    screen.wait(lambda p: p, 'a picture')
    screen.screen = ''
    os.kill(screen.pid, signal.SIGTSTP)  # its process group is an orphan, so that it is not stopped, but steps back
    live.eventually(lambda: screen.read(0.02) and re.search(r'\[\?1049l.*\[\?1049h', screen.screen, re.S), 'both')
    os.kill(screen.pid, signal.SIGTERM)
    assert screen.end() == 128 + signal.SIGTERM


@case
def a_daemon_that_ends_and_comes_back_is_followed():
    other = live.Daemon(live.tiny())
    screen = Screen(other)
    screen.wait(lambda p: f'pid {other.pid}' in p[0], 'the first daemon')
    other.stop()
    screen.wait(lambda p: 'No daemon' in p[0], 'it is gone')
    after = live.Daemon(live.tiny(), home=other.home)
    screen.wait(lambda p: f'pid {after.pid}' in p[0], 'the next one')
    after.kill()
    screen.wait(lambda p: 'No daemon' in p[0], 'it was killed')
    screen.type('q')
    assert screen.end() == 0


@case
def a_dumb_terminal_gets_tables():
    screen = Terminal(daemon, 'top', '-n', '2', '-d', '0.1', env={'TERM': 'dumb'})
    assert screen.end() == 0
    assert '\x1b' not in screen.screen and screen.screen.count('● sinkd') == 2, screen.screen
    screen = Terminal(daemon, 'top', '-d', '0.1', env={'TERM': 'no-such-terminal'})
    screen.expect('● sinkd.*● sinkd', 'one table after another')
    screen.type('\x03')
    screen.end()


@case
def the_daemon_ends_cleanly():
    daemon.stop()


live.main()
