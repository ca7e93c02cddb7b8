"""Conversations found, pinned, written to files and made again of them, and a command that outlives its daemon."""
import json
import os
import pty
import select
import signal
import subprocess

import live
from live import case, same, sink

daemon = live.Daemon(live.model())
other = live.Daemon(live.model())
scratch = live.directory()
SHORT = ('-n', '12', '--seed', '5', '--temperature', '0.5')
SETTINGS = {'max_tokens': 12, 'seed': 5, 'temperature': 0.5, 'stop': ['\n\n\n\n'], 'top_k': 30}
QUESTION = 'What is the sea?'


def _run(*words, **more):
    return sink(daemon, *words, **more)


def _good(*words, **more):
    done = _run(*words, **more)
    assert done.returncode == 0, f'{words}: status {done.returncode}: {done.stderr}'
    return done.stdout


def _fails(code, *words, **more):
    done = _run(*words, **more)
    assert done.returncode == code, f'{words}: {done}'
    assert done.stderr.startswith('sink: '), f'{words}: {done}'
    return done.stderr


def _path(name):
    return os.path.join(scratch, name)


def _tell(name, *texts, **fields):
    """A conversation in which these things were said, and nothing answered."""
    client = daemon.client()
    client.call('new', name=name, **fields)
    for text in texts:
        client.call('say', conversation=name, text=text, answer=False)
    client.close()


def _said(name, of=None):
    messages = (of or daemon).client().call('log', conversation=name)['messages']
    return [(message['role'], message['text']) for message in messages]


def _names():
    return _good('-q', 'ls').splitlines()


@case
def grep_finds_what_was_said():
    _tell('harbour', 'The Whale is grey.\nBut the sky is blue today.', 'A whale swims.', system='')
    _tell('garden', 'Roses, and a wHaLe of a time.', system='')
    lines = _good('grep', 'whale').splitlines()
    assert [line.split(' ')[0] for line in lines] == ['garden@0', 'harbour@1', 'harbour@0'], lines
    same(lines[0], 'garden@0 user: Roses, and a wHaLe of a time.')
    same(lines[2], 'harbour@0 user: The Whale is grey.')
    same(_good('grep', 'sky', 'is', 'BLUE'), 'harbour@0 user: But the sky is blue today.\n')
    same(_good('grep', '--in', 'garden', 'whale'), lines[0] + '\n')
    same(_good('grep', '-n', '1', 'whale'), lines[0] + '\n')
    found = [json.loads(line) for line in _good('--json', 'grep', '-c', 'harbour', 'whale').splitlines()]
    assert [(m['message'], m['before'], m['match'], m['after']) for m in found] == [
        (1, 'A ', 'whale', ' swims.'), (0, 'The ', 'Whale', ' is grey.')], found
    _fails(4, 'grep', 'submarine')
    _fails(4, 'grep', '--in', '=nowhere', 'whale')
    _fails(2, 'grep', '-n', '0', 'whale')


@case
def text_that_was_found_has_whole_characters_around_it():
    _tell('long', 'ä' * 200 + ' needle ' + '\u20ac' * 200, system='')
    match = json.loads(_good('--json', 'grep', 'needle'))
    for side in ('before', 'after'):
        assert 70 < len(match[side].encode()) <= 80, match
    assert set(match['before']) == {'ä', ' '} and set(match['after']) == {'\u20ac', ' '}, match


@case
def a_pinned_conversation_says_so():
    _tell('pinned', 'Keep me.', system='')
    _good('pin', 'pinned', 'garden')
    show = daemon.client().call('show', conversation='pinned')['conversation']
    assert show['pin'] is True, show
    assert 'the last to leave memory' in _good('show', 'pinned')
    _good('unpin', 'pinned', 'garden')
    assert daemon.client().call('show', conversation='pinned')['conversation']['pin'] is False
    _fails(4, 'pin', 'nobody', 'pinned')
    assert daemon.client().call('show', conversation='pinned')['conversation']['pin'] is True


@case
def figures_tell_where_memory_and_files_are():
    client = daemon.client()
    client.ask('figures', QUESTION, {'max_tokens': 3})
    assert client.call('show', conversation='figures')['conversation']['tier'] == 'memory'
    table = _good('ls').splitlines()
    assert 'TIER' in table[0] and ' memory ' in [line for line in table if line.startswith('figures')][0], table
    store = client.call('status')['store']
    assert store['state'] == 'saving' and os.path.exists(store['path']) and store['free_bytes'] > 0, store
    assert store['path'] in _good('status')


@case
def markdown_is_for_people():
    _tell('paper', 'How *blue* is it?\n', system='Be brief.')
    same(_good('export', 'paper'), '# paper\n\n## system\n\nBe brief.\n\n## user\n\nHow *blue* is it?\n')
    path = _path('paper.md')
    assert _good('export', 'paper', '-o', path) == ''
    with open(path, encoding='utf-8') as file:
        same(file.read(), _good('export', '=paper', '--format', 'md', '-o', '-'))


@case
def a_file_is_not_written_over_unasked():
    path = _path('once.md')
    _good('export', 'paper', '-o', path)
    with open(path, 'w', encoding='utf-8') as file:
        file.write('mine')
    assert 'exists' in _fails(1, 'export', 'paper', '-o', path)
    with open(path, encoding='utf-8') as file:
        same(file.read(), 'mine')
    _good('export', 'paper', '--force', '-o', path)
    with open(path, encoding='utf-8') as file:
        same(file.read(), _good('export', 'paper'))
    _fails(1, 'export', 'paper', '--force', '-o', scratch)
    _fails(1, 'export', 'paper', '-o', _path('no/such/place'))
    _fails(4, 'export', '=nobody', '-o', _path('nobody.md'))
    _fails(2, 'export', 'paper', '--format', 'pdf')
    _fails(2, 'export', 'paper', '--format', 'json', '--with-cache')
    left = [name for name in os.listdir(scratch) if 'part' in name or name == 'nobody.md']
    assert not left, left


@case
def json_comes_back_message_by_message():
    text = 'Quotes "and" \\ lines\nand \u00e4\u20ac\U0001f600 and \x07.'
    _tell('data', text, 'Again.', system='Be kind.', policy='sink:4,252', pin_system=False, sampling=SETTINGS)
    path = _path('data.json')
    _good('export', 'data', '--format', 'json', '-o', path)
    with open(path, encoding='utf-8') as file:
        export = json.load(file)
    assert export['name'] == 'data' and export['policy'] == 'sink:4,252' and export['created'] > 0, export
    assert [(m['role'], m['text']) for m in export['messages']] == _said('data'), export
    same(_good('import', path, 'data.2'), 'data.2\n')
    assert _said('data.2') == _said('data')
    info = json.loads(_good('--json', 'show', 'data.2'))
    assert {key: info['sampling'][key] for key in SETTINGS} == SETTINGS, info
    same(info['policy'], 'sink:4,252')
    _fails(1, 'import', path)  # the name is taken
    done = sink(other, 'import', '-', stdin=_good('--json', 'export', 'data'))
    assert (done.returncode, done.stdout) == (0, 'data\n'), done
    assert _said('data', other) == _said('data')


@case
def an_answer_is_a_message_like_others():
    _good('ask', '-c', 'answered', '-s', '', *SHORT, QUESTION)
    done = sink(other, 'import', '-', 'copied', stdin=_good('--json', 'export', 'answered'))
    assert done.returncode == 0, done
    assert _said('copied', other) == _said('answered')


@case
def what_is_no_export_is_refused_and_leaves_nothing():
    before = _names()
    for text in ('', 'Dear diary,', '{', '{"messages": [}', '{"name": "x"}', '{"messages": 5}', '[]',
                 '{"name": "x", "messages": [{"role": "user"}]}', '{"name": "x", "messages": [{"text": "a"}]}',
                 '{"name": "x", "messages": [{"role": "pirate", "text": "a"}]}',
                 '{"name": "x", "messages": [{"role": "user", "text": "a"}, 7]}'):
        _fails(2, 'import', '-', stdin=text)
        assert _names() == before, text
    _fails(1, 'import', _path('nothing'))


def _bundle(name, path, *options):
    _good('export', name, '--format', 'bundle', '-o', path, *options)
    with open(path, 'rb') as file:
        return file.read()


def _go_on(of, name):
    done = sink(of, 'ask', '-c', name, *SHORT, 'And then?')
    assert done.returncode == 0, done
    return done.stdout


@case
def a_bundle_goes_on_with_the_same_words_elsewhere():
    _good('ask', '-c', 'moving', '--policy', 'sink:4,60', '-n', '80', '--seed', '5', QUESTION)
    for number, options in enumerate(((), ('--with-cache',))):
        path = _path(f'moving.{number}')
        data = _bundle('moving', path, *options)
        done = sink(other, '--json', 'import', path, f'moved.{number}')
        assert done.returncode == 0, done
        reply = json.loads(done.stdout)
        assert reply['cache'] == ('taken' if options else 'none'), reply
        assert _said(f'moved.{number}', other) == _said('moving')
        piped = subprocess.run([live.SINK, 'import', '-', f'piped.{number}'], env=live.environment(other.home),
                               input=data, capture_output=True, timeout=live.WAIT, check=False)
        assert (piped.returncode, piped.stdout) == (0, f'piped.{number}\n'.encode()), piped
    words = _go_on(daemon, 'moving')
    for name in ('moved.0', 'moved.1', 'piped.0', 'piped.1'):
        same(_go_on(other, name), words)


@case
def a_bundle_keeps_its_name_unless_it_is_taken():
    path = _path('named')
    _bundle('moving', path)
    done = sink(other, 'import', path)
    assert (done.returncode, done.stdout) == (0, 'moving\n'), done
    assert sink(other, 'import', path).returncode == 1


@case
def a_damaged_bundle_is_refused_and_leaves_nothing():
    data = _bundle('moving', _path('whole'), '--with-cache')
    _good('import', _path('whole'), 'sound')
    words = _go_on(daemon, 'sound')
    before = _names()
    middle = len(data) // 2
    for number, damaged in enumerate((data[:middle], data + b'\0', b'\0' * 100,
                                      data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:])):
        path = _path(f'damaged.{number}')
        with open(path, 'wb') as file:
            file.write(damaged)
        done = _run('import', path, 'broken')
        # Damage in the cache does no harm: it is left out, and read anew.
        if done.returncode == 0:
            same(_go_on(daemon, 'broken'), words)
            _good('rm', 'broken')
        else:
            assert done.stderr.startswith('sink: '), done
        assert sorted(_names()) == sorted(before), number


@case
def bundles_end_with_their_connection():
    for _ in range(3):
        client = daemon.client()
        for _ in range(16):
            live.eventually(lambda: _opened(client), 'there is room for another bundle')
        assert client.refused('bundle', conversation='moving').code == 'ebusy'
        client.close()


def _opened(client):
    try:
        return client.call('bundle', conversation='moving')
    except live.Refused as refusal:
        assert refusal.code == 'ebusy', refusal
        return None


@case
def a_bundle_never_goes_to_a_terminal():
    screen, terminal = pty.openpty()
    done = subprocess.run([live.SINK, 'export', 'moving', '--with-cache'], env=live.environment(daemon.home),
                          stdout=terminal, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=live.WAIT,
                          check=False)
    os.close(terminal)
    os.close(screen)
    assert done.returncode == 2, done


@case
def an_export_that_is_killed_leaves_no_file():
    path = _path('late')
    child = subprocess.Popen([live.SINK, 'export', 'moving', '--with-cache', '-o', path], stdin=subprocess.DEVNULL,
                             env=live.environment(daemon.home), stderr=subprocess.DEVNULL)
    child.terminate()
    child.wait(live.WAIT)
    assert os.path.exists(path) or child.returncode == -signal.SIGTERM, child.returncode
    assert not [name for name in os.listdir(scratch) if name.endswith('.part')]


@case
def the_chat_finds_pins_and_writes():
    _tell('spoken', 'The whale came by night.', system='')
    path = _path('spoken.json')
    pid, screen = pty.fork()
    if pid == 0:
        try:
            os.execve(live.SINK, ['sink', 'attach', 'spoken'], live.environment(daemon.home, {'TERM': 'xterm'}))
        finally:
            os._exit(127)
    seen = ''

    def shows(text):
        nonlocal seen
        if select.select([screen], [], [], 0.01)[0]:
            seen += os.read(screen, 65536).decode('utf-8', 'replace')
        return text in seen
    live.eventually(lambda: shows('by night') and 'spoken' in seen.rsplit('by night', 1)[1], 'its prompt is there')
    os.write(screen, b'/grep WHALE\r')
    live.eventually(lambda: shows('spoken@0'), 'it was found')
    os.write(screen, f'/export {path}\r'.encode())
    live.eventually(lambda: shows('is written to'), 'it was written')
    with open(path, encoding='utf-8') as file:
        same(json.load(file)['messages'][0]['text'], 'The whale came by night.')
    client = daemon.client()

    def state(key):
        return client.call('show', conversation='spoken')['conversation'][key]

    def pinned():
        shows('detached')  # the screen is read on, lest it fill
        return state('pin')
    # What another client adds is read, without an answer to come: that keeps nobody from typing.
    client.call('say', conversation='spoken', text='The sea was black. ' * 500, answer=False)
    live.eventually(lambda: shows('black') and state('state') == 'idle', 'it was read')
    os.write(screen, b'/pin\r')
    live.eventually(lambda: pinned() is True, 'it is pinned')
    os.write(screen, b'/pin off\r')
    live.eventually(lambda: pinned() is False, 'it is pinned no more')
    os.write(screen, b'\x04')
    live.eventually(lambda: shows('detached') or os.waitpid(pid, os.WNOHANG)[0], 'it ends')
    os.close(screen)


@case
def commands_go_on_over_a_restart_without_a_word():
    global daemon
    long = ('-n', '150' if os.environ.get('SINKD_MODEL') else '3000', '--seed', '5', '--temperature', '0.5')
    _good('ask', '-c', 'calm', *long, QUESTION)
    whole = _good('show', 'calm@' + str(len(_said('calm')) - 1))
    running = {}

    def begin(key, *words):
        running[key] = subprocess.Popen([live.SINK, *words], env=live.environment(daemon.home), text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    begin('ask', 'ask', '-c', 'storm', *long, QUESTION)
    client = daemon.client()
    live.eventually(lambda: 'storm' in [c['name'] for c in client.call('list')['conversations']], 'it is made')

    def state():
        return client.call('show', conversation='storm')['conversation']
    live.eventually(lambda: state()['messages'] and state()['state'] in ('answering', 'idle'), 'it answers')
    begin('wait', 'wait', 'storm')
    live.eventually(lambda: state()['clients'] == 2 or state()['state'] == 'idle', 'both watch')
    if state()['state'] == 'idle':
        raise live.Skip('the answer was too quick to be interrupted')
    client.close()
    daemon.stop()
    daemon = live.Daemon(live.model(), home=daemon.home)
    for key, child in running.items():
        out, error = child.communicate(timeout=live.WAIT)
        assert (child.returncode, error) == (0, ''), f'{key}: {child.returncode}, {error!r}, {out!r}'
        if key == 'ask':
            same(out.rstrip('\n'), whole.rstrip('\n'))
    assert len(_said('storm')) == len(_said('calm'))


live.main()
