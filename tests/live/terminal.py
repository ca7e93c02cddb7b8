"""The interactive conversation on a terminal: typed, interrupted, pasted, detached, taken up again."""
import json
import os
import re
import time

import live
from live import case
from screen import Terminal as Screen

daemon = live.Daemon(live.model())


class Terminal(Screen):
    """The command on a terminal."""

    def __init__(self, *words, env=None):
        super().__init__([live.SINK, *words], live.environment(daemon.home, {'TERM': 'xterm', **(env or {})}))


def _state(name):
    try:
        return daemon.client().call('show', conversation=name)['conversation']['state']
    except live.Refused:
        return 'absent'


@case
def sink_alone_makes_main_and_talks():
    screen = Terminal()
    screen.expect('main', 'the name of the conversation')
    live.eventually(lambda: _state('main') == 'idle', 'main is made')
    screen.type('Say hello.\r')
    live.eventually(lambda: len(daemon.client().call('log', conversation='main')['messages']) >= 2, 'it answers')
    live.eventually(lambda: _state('main') == 'idle', 'the answer ends')
    answer = daemon.client().call('log', conversation='main')['messages'][-1]['text']
    word = (re.findall(r'[A-Za-z]{3,}', answer) or [''])[-1]
    screen.expect(re.escape(word), 'the answer on the screen')
    time.sleep(0.3)
    screen.type('\x04')
    assert screen.end() == 0, screen.plain()


@case
def ctrl_c_stops_the_answer_and_ctrl_d_detaches():
    client = daemon.client()
    client.call('new', name='chat', sampling=live.ENDLESS)
    screen = Terminal('attach', 'chat')
    screen.expect('chat', 'the name')
    screen.type(live.TALK + '\r')
    live.eventually(lambda: _state('chat') == 'answering', 'it answers')
    time.sleep(0.3)
    screen.type('\x03')
    live.eventually(lambda: _state('chat') == 'idle', 'Ctrl-C stops it')
    assert client.call('log', conversation='chat')['messages'][-1]['finish'] == 'stopped'
    time.sleep(0.3)
    screen.type('Again.\r')
    live.eventually(lambda: _state('chat') == 'answering', 'it answers again')
    screen.type('\x04')
    assert screen.end() == 0, 'Ctrl-D detaches, also while it answers'
    assert _state('chat') == 'answering', 'and the answer goes on'
    client.call('stop', conversation='chat')


@case
def a_closed_terminal_loses_nothing():
    client = daemon.client()
    client.call('new', name='closed', sampling={'max_tokens': 60, 'temperature': 0.8, 'seed': 3})
    screen = Terminal('attach', 'closed')
    screen.expect('closed', 'the name')
    screen.type('Tell me about the sea.\r')
    live.eventually(lambda: _state('closed') in ('answering', 'idle') and
                    len(client.call('log', conversation='closed')['messages']) >= 2, 'it answers')
    os.close(screen.fd)
    os.waitpid(screen.pid, 0)
    live.eventually(lambda: _state('closed') == 'idle', 'the answer ends all the same')
    answer = client.call('log', conversation='closed')['messages'][-1]['text']
    assert client.call('log', conversation='closed')['messages'][-1]['finish'] in ('end', 'length')
    back = Terminal('attach', 'closed')
    words = re.findall(r'[A-Za-z]{4,}', answer)
    assert words, answer
    back.expect(r'.*?'.join(map(re.escape, words[:3])), 'the answer is there')
    time.sleep(0.2)
    back.type('\x04')
    assert back.end() == 0


@case
def a_paste_of_several_lines_is_one_message():
    client = daemon.client()
    client.call('new', name='paste', sampling={'max_tokens': 5, 'seed': 3})
    screen = Terminal('attach', 'paste')
    screen.expect('paste', 'the name')
    time.sleep(0.3)
    screen.type('\x1b[200~first line\rsecond line\nthird line\x1b[201~')
    time.sleep(0.3)
    screen.type('\r')

    def said():
        return [m['text'] for m in client.call('log', conversation='paste')['messages'] if m['role'] == 'user']
    live.eventually(said, 'the message arrives')
    live.eventually(lambda: _state('paste') == 'idle', 'it is answered')
    assert said() == ['first line\nsecond line\nthird line'], said()
    screen.type('\x04')
    assert screen.end() == 0


@case
def two_terminals_watch_one_conversation():
    client = daemon.client()
    client.call('new', name='shared', sampling={'max_tokens': 30, 'seed': 3, 'temperature': 0.5})
    screens = [Terminal('attach', 'shared') for _ in range(2)]
    for screen in screens:
        screen.expect('shared', 'the name')
    time.sleep(0.3)
    screens[0].type('What is salt?\r')
    screens[1].expect('What is salt', 'the other sees the question')
    live.eventually(lambda: _state('shared') == 'idle' and
                    len(client.call('log', conversation='shared')['messages']) >= 2, 'it answers')
    answer = client.call('log', conversation='shared')['messages'][-1]['text']
    words = re.findall(r'[A-Za-z]{4,}', answer)[:2]
    for screen in screens:
        screen.expect(r'.*?'.join(map(re.escape, words)), 'both see the answer')
        screen.type('\x04')
        assert screen.end() == 0


def _messages(name):
    return daemon.client().call('log', conversation=name)['messages']


def _said(name):
    return [m['text'] for m in _messages(name) if m['role'] == 'user']


def _styled(name):
    """A conversation whose answer is Markdown."""
    export = {'name': name, 'policy': 'sink:4,252', 'sampling': {}, 'messages': [
        {'role': 'system', 'text': 'Be brief.'}, {'role': 'user', 'text': 'Say *it*.'},
        {'role': 'assistant', 'text': '# Head\n\nSome **bold** and `code`.\n\n```c\nint *a;\n```\n\x1b[31mred\n'}]}
    done = live.sink(daemon, 'import', '-', stdin=json.dumps(export))
    assert done.returncode == 0, done


def _open(name, *words, env=None, sampling=None):
    """A chat in a conversation of this name, made before, behind its first prompt."""
    if sampling is not None:
        daemon.client().call('new', name=name, sampling=sampling, system='')
    terminal = Terminal(*words, 'attach', name, env=env)
    terminal.expect(f'{name}> ', 'the prompt')
    time.sleep(0.1)
    return terminal


def _leave(terminal):
    terminal.type('\x15\x04')
    assert terminal.end() == 0, terminal.plain()


@case
def markdown_is_styled_and_stays_whole():
    _styled('styled')
    for words in (('log', '--no-pager', 'styled'), ('attach', '-r', 'styled')):
        terminal = Terminal(*words)
        live.eventually(lambda t=terminal: t.read() and 'red' in t.screen or 'red' in t.screen, 'the answer')
        text = terminal.screen
        assert '\x1b[0;1;35m# Head' in text or '\x1b[0;1;35m#' in text, text
        assert '\x1b[0;2m**\x1b[0;1mbold\x1b[0;2m**\x1b[0m and' in text, text
        assert '\x1b[0;36m`code`' in text and '\x1b[0;36mint *a;' in text, text
        assert '^[[31mred' in text and '\x1b[31m' not in text, 'what an answer holds cannot drive the terminal'
        assert 'Say *it*.' in text, 'what a person said stays as it is'
        plain = terminal.plain().replace('\r', '')
        assert 'Some **bold** and `code`.\n\n```c\nint *a;\n```\n' in plain, plain
        if words[0] == 'attach':
            terminal.type('\x04')
        assert terminal.end() == 0
    for words, env in ((('--raw', 'log', '--no-pager', 'styled'), {}), (('log', 'styled'), {'NO_COLOR': '1'}),
                       (('log', 'styled'), {'TERM': 'dumb'})):
        terminal = Terminal(*words, env={'PAGER': '', **env})
        assert terminal.end() == 0
        assert 'Some **bold** and `code`.' in terminal.screen, terminal.screen
    done = live.sink(daemon, 'log', 'styled')
    assert '\x1b[31mred' in done.stdout and '\x1b[0' not in done.stdout, 'a pipe gets every byte and no other'


@case
def a_long_log_goes_through_the_pager():
    _styled('paged')
    terminal = Terminal('log', 'paged', env={'PAGER': 'sed s/^/PAGED:/'})
    assert terminal.end() == 0
    assert 'PAGED:' in terminal.screen and '^[[31mred' in terminal.screen, terminal.screen
    terminal = Terminal('log', 'paged', env={'PAGER': 'true'})
    assert terminal.end() == 0, 'a pager that is left early is no failure'
    terminal = Terminal('log', '--no-pager', 'paged', env={'PAGER': 'sed s/^/PAGED:/'})
    assert terminal.end() == 0 and 'PAGED:' not in terminal.screen


@case
def settings_hold_in_this_chat_alone():
    terminal = _open('setting', sampling={'max_tokens': 4, 'temperature': 0.5, 'seed': 3})
    terminal.type('/set max 9\r')
    terminal.expect('max is 9 here', 'it is set')
    terminal.type('/set\r')
    terminal.expect('max +9   here; the conversation has 4', 'it is shown')
    terminal.expect('temperature +0.5', 'and the others')
    terminal.type('Tell me.\r')
    live.eventually(lambda: len(_messages('setting')) == 2, 'it is answered')
    live.eventually(lambda: _state('setting') == 'idle', 'to its end')
    assert _messages('setting')[-1]['finish'] == 'length'
    terminal.expect('9 new', 'nine tokens')
    terminal.type('/set max none\r')
    terminal.expect("conversation's own", 'it is as before')
    with open(os.path.join(daemon.home, 'form.json'), 'w', encoding='utf-8') as file:
        file.write('{"enum": ["salt"]}')
    terminal.type(f'/set schema {daemon.home}/form.json\r')
    terminal.expect('form.json here', 'a schema is set')
    terminal.type('/set max 20\r')
    terminal.expect('max is 20 here', 'and room for it')
    terminal.type('What is it?\r')
    live.eventually(lambda: _messages('setting')[-1]['text'] == '"salt"' and _state('setting') == 'idle', 'it holds')
    terminal.expect('new', 'the end')
    terminal.type('/set none\r')
    terminal.expect("conversation's own", 'it is as before')
    terminal.type('/set temperature hot\r')
    terminal.expect('takes a number', 'a wrong value is told')
    terminal.type('/set temprature 1\r')
    terminal.expect('did you mean temperature', 'and a wrong key')
    terminal.type('/regen\r')
    terminal.expect('4 new', 'four tokens')
    live.eventually(lambda: _state('setting') == 'idle', 'the end')
    terminal.type('/continue\r')
    terminal.expect('4 new', 'four more')
    live.eventually(lambda: _state('setting') == 'idle', 'the end')
    assert daemon.client().call('show', conversation='setting')['conversation']['sampling']['max_tokens'] == 4
    _leave(terminal)


@case
def files_and_the_editor_make_messages():
    home = live.directory()
    path = os.path.join(home, 'a file.txt')
    with open(path, 'w', encoding='utf-8') as file:
        file.write('text of the file\n')
    editor = os.path.join(home, 'editor')
    with open(editor, 'w', encoding='utf-8') as file:
        file.write('#!/bin/sh\necho edited >>"$1"\n')
    os.chmod(editor, 0o755)
    terminal = _open('compose', sampling={'max_tokens': 2}, env={'EDITOR': editor, 'VISUAL': ''})
    terminal.type(f'/file {path}\r')
    terminal.expect('goes with the next message, 16 bytes', 'the file waits')
    terminal.type('What is this?\r')
    live.eventually(lambda: len(_messages('compose')) >= 2 and _state('compose') == 'idle', 'it is answered')
    assert _said('compose') == ['What is this?\n\ntext of the file'], _said('compose')
    terminal.expect('compose> ', 'the prompt')
    terminal.type('/file /no/such\r')
    terminal.expect('cannot be read', 'a wrong path is told')
    terminal.type('/edit some words\r')
    live.eventually(lambda: len(_messages('compose')) >= 4 and _state('compose') == 'idle', 'it is answered')
    assert _said('compose')[1] == 'some wordsedited', _said('compose')
    terminal.expect('some wordsedited.*compose> ', 'what was written is shown')
    time.sleep(0.1)
    terminal.type('a line\x18\x05')
    terminal.expect('a lineedited', 'the editor has changed the line')
    terminal.type('!\r')
    live.eventually(lambda: len(_messages('compose')) >= 6 and _state('compose') == 'idle', 'it is answered')
    assert _said('compose')[2] == 'a lineedited!', _said('compose')
    _leave(terminal)


@case
def copies_rewinding_and_new_ones():
    terminal = _open('tree', sampling={'max_tokens': 3, 'seed': 3})
    for text in ('one', 'two'):
        terminal.type(text + '\r')
        live.eventually(lambda t=text: t in _said('tree') and _state('tree') == 'idle', 'it is answered')
        terminal.expect('tree> ', 'the prompt')
    terminal.type('/fork\r')
    terminal.expect('tree-2> ', 'the copy has a name')
    time.sleep(0.1)
    assert _said('tree-2') == ['one', 'two']
    terminal.type('/rewind\r')
    live.eventually(lambda: _said('tree-2') == ['one'], 'the last question and answer are gone')
    time.sleep(0.2)
    terminal.type('/fork other@1\r')
    terminal.expect('other> ', 'a copy of the beginning')
    assert _said('other') == ['one'] and len(_messages('other')) == 1
    time.sleep(0.1)
    terminal.type('/system Speak like the sea.\r')
    live.eventually(lambda: any(_messages(i['name'])[:1] and _messages(i['name'])[0]['text'] == 'Speak like the sea.'
                                for i in daemon.client().call('list')['conversations']), 'a new one with that prompt')
    time.sleep(0.3)
    terminal.type('/raw\r')
    terminal.expect('shown as they are', 'raw')
    terminal.type('/raw\r')
    terminal.expect('are styled', 'and styled again')
    _leave(terminal)


@case
def tab_completes_commands_names_and_files():
    client = daemon.client()
    for name in ('tab.one', 'tab.two x'):
        client.call('new', name=name)
    home = live.directory()
    with open(os.path.join(home, 'long name.txt'), 'w', encoding='utf-8') as file:
        file.write('words')
    terminal = _open('tab.one')
    terminal.type('/swi\ttab.t\t')
    terminal.expect('/swi.*tch .*tab.t.*wo x ', 'the command, then a name')
    terminal.type('\r')
    terminal.expect('tab.two x> ', 'we are there')
    time.sleep(0.1)
    terminal.type('/switch tab\t\t')
    terminal.expect('tab.two x +tab.one', 'both are listed')
    terminal.type('\x15/set temp\t1.5\r')
    terminal.expect('temperature is 1.5 here', 'a setting')
    terminal.type(f'/file {home}/lo\t\r')
    terminal.expect('5 bytes', 'a file')
    _leave(terminal)


@case
def history_is_kept_for_the_user_alone():
    terminal = _open('remember', sampling={'max_tokens': 1})
    terminal.type('/show\r')
    terminal.expect('policy.*remember> ', 'it is shown')
    _leave(terminal)
    path = os.path.join(daemon.home, 'state', 'sinkd', 'history')
    assert os.stat(path).st_mode & 0o777 == 0o600
    terminal = _open('remember')
    terminal.type('\x1b[A\r')
    terminal.expect('/show.*policy', 'the line is there')
    time.sleep(0.2)
    _leave(terminal)


@case
def a_template_makes_the_conversation():
    place = os.path.join(daemon.home, 'config', 'sinkd', 'templates')
    os.makedirs(place, exist_ok=True)
    with open(os.path.join(place, 'sea.ini'), 'w', encoding='utf-8') as file:
        file.write('system = You are the sea.\nmax = 3\npolicy = sink:4,100\n')
    terminal = Terminal('attach', '-t', 'sea', 'shore')
    terminal.expect('shore> ', 'the prompt')
    info = daemon.client().call('show', conversation='shore')['conversation']
    assert info['policy'].startswith('sink:') and info['sampling']['max_tokens'] == 3, info
    assert _messages('shore')[0]['text'] == 'You are the sea.'
    time.sleep(0.1)
    _leave(terminal)
    terminal = Terminal('attach', '-t', 'sea')
    terminal.expect('attached to ([^]]*)\\]', 'a name was invented')
    terminal.expect('> ', 'the prompt')
    time.sleep(0.1)
    _leave(terminal)


@case
def no_colour_when_it_is_not_wanted():
    screen = Terminal('ls', env={'NO_COLOR': '1'})
    assert screen.end() == 0
    assert not re.search(r'\x1b\[[0-9;]*m', screen.screen), screen.screen


@case
def the_daemon_ends_cleanly():
    daemon.stop()


live.main()
