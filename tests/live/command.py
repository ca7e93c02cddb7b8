"""The command `sink` as scripts use it: what goes where, and how it ends."""
import json
import os
import signal
import stat
import subprocess
import time

import live
from live import case, same, sink

daemon = live.Daemon(live.model())
SHORT = ('-n', '12', '--seed', '5', '--temperature', '0.5')
QUESTION = 'What is the sea?'


def _run(*words, **more):
    return sink(daemon, *words, **more)


def _good(*words, **more):
    done = _run(*words, **more)
    assert done.returncode == 0, f'{words}: status {done.returncode}: {done.stderr}'
    return done.stdout


def _lines(text):
    return [json.loads(line) for line in text.splitlines()]


@case
def ask_prints_the_answer_and_nothing_else():
    client = daemon.client()
    whole = client.ask('plain', QUESTION, {'max_tokens': 12, 'seed': 5, 'temperature': 0.5})
    done = _run('ask', '-c', 'ask', *SHORT, QUESTION)
    assert done.returncode == 0, done
    same(done.stdout.rstrip('\n'), whole.rstrip('\n'))
    assert done.stdout.endswith('\n')
    # The words that follow are one prompt.
    same(_good('ask', '-c', 'ask.2', *SHORT, *QUESTION.split(' ')), done.stdout)


@case
def standard_input_and_files_join_the_prompt():
    home = live.directory()
    path = os.path.join(home, 'f.txt')
    with open(path, 'w', encoding='utf-8') as file:
        file.write('text of a file')
    _good('ask', '-c', 'joined', *SHORT, '-f', path, 'Summarize:', stdin='text of the pipe\n')
    first = daemon.client().call('log', conversation='joined')['messages']
    asked = [message['text'] for message in first if message['role'] == 'user'][0]
    for part in ('Summarize:', 'text of a file', 'text of the pipe'):
        assert part in asked, asked
    _good('ask', '-c', 'stdin', *SHORT, '-', stdin='from the pipe alone')
    messages = daemon.client().call('log', conversation='stdin')['messages']
    assert [m['text'] for m in messages if m['role'] == 'user'] == ['from the pipe alone'], messages
    assert _run('ask', '-c', 'nul', *SHORT, '-', stdin='').returncode == 2, 'an empty prompt is wrong usage'


@case
def a_system_prompt_belongs_to_a_new_conversation():
    _good('ask', '-c', 'sys', '-s', 'You are a pirate.', *SHORT, QUESTION)
    messages = daemon.client().call('log', conversation='sys')['messages']
    assert messages[0]['role'] == 'system' and messages[0]['text'] == 'You are a pirate.', messages


@case
def a_question_without_a_conversation_leaves_none_behind():
    before = {line for line in _good('-q', 'ls').split()}
    _good('ask', *SHORT, QUESTION)
    assert {line for line in _good('-q', 'ls').split()} == before


@case
def json_streams_events():
    done = _run('ask', '--json', '-c', 'json', *SHORT, QUESTION)
    assert done.returncode == 0, done.stderr
    events = _lines(done.stdout)
    assert events[-1]['ev'] == 'done', events[-1]
    live.dense([event for event in events if 'seq' in event])
    text = ''.join(event['text'] for event in events if event['ev'] == 'text')
    same(text.rstrip('\n'), _good('ask', '-c', 'json.2', *SHORT, QUESTION).rstrip('\n'))
    for verb in (('ls',), ('show', 'json'), ('status',), ('log', 'json'), ('tokenize', 'a b'), ('stop', 'json'),
                 ('wait', 'json')):
        words = _good('--json', *verb)
        assert words and _lines(words), verb


@case
def json_tells_the_likeliest():
    events = _lines(_good('ask', '--json', '--logprobs', '--top-logprobs', '3', *SHORT, QUESTION))
    pieces = [event for event in events if event['ev'] == 'text']
    assert pieces and all(len(piece['logprobs']) == len(piece['top_logprobs']) == piece['tokens'] for piece in pieces)
    assert all(len(top) in (3, 4) for piece in pieces for top in piece['top_logprobs']), pieces[0]
    done = _run('ask', '--top-logprobs', '21', QUESTION)
    assert done.returncode == 2 and 'top_logprobs' in done.stderr, done


@case
def detached_answers_are_waited_for():
    began = time.monotonic()
    done = _run('ask', '-d', '-c', 'bg', '-n', '100', '--seed', '5', QUESTION)
    returned = time.monotonic() - began
    assert done.returncode == 0, done
    assert _run('wait', 'bg').returncode == 0
    waited = time.monotonic() - began
    messages = daemon.client().call('log', conversation='bg')['messages']
    assert messages[-1]['role'] == 'assistant' and messages[-1]['finish'], messages[-1]
    print(f'# returned after {returned:.2f} s, the answer ended after {waited:.2f} s')
    assert _run('wait', 'bg').returncode == 0, 'also when it ended before'
    assert messages[-1]['text'].strip() in _good('log', 'bg')


@case
def interrupting_a_question_stops_its_answer():
    child = subprocess.Popen([live.SINK, 'ask', '-c', 'int', '--temperature', '0', '--penalty-last', '1',
                              '--presence-penalty', '-10', '--frequency-penalty', '-10', live.TALK], env=live.environment(daemon.home), stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    client = daemon.client()

    def answering():
        try:
            return client.call('show', conversation='int')['conversation']['state'] == 'answering'
        except live.Refused:
            return False
    live.eventually(answering, 'it answers')
    assert os.read(child.stdout.fileno(), 1), 'and it is seen'  # from here on the client minds its signals
    child.send_signal(signal.SIGINT)
    assert child.wait(live.WAIT) == 130, child.stderr.read()
    live.eventually(lambda: client.call('show', conversation='int')['conversation']['state'] == 'idle', 'it stopped')


@case
def a_killed_command_stops_nothing():
    child = subprocess.Popen([live.SINK, 'ask', '--json', '-c', 'killed', '-n', '60', '--seed', '5', QUESTION],
                             env=live.environment(daemon.home), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                             text=True)
    seen = []
    while sum(event['ev'] == 'text' for event in seen) < 3:
        seen.append(json.loads(child.stdout.readline()))
    child.kill()
    seen += _lines(child.stdout.read().rpartition('\n')[0])
    last = seen[-1]['seq']
    follower = subprocess.Popen([live.SINK, '--json', 'log', '-f', '--from', str(last + 1), 'killed'],
                                env=live.environment(daemon.home), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                text=True)
    rest = []
    while (seen + rest)[-1]['ev'] != 'done':
        rest.append(json.loads(follower.stdout.readline()))
    follower.kill()
    live.dense([event for event in seen + rest if 'seq' in event])
    text = ''.join(event['text'] for event in seen + rest if event['ev'] == 'text')
    same(text.rstrip(), _good('ask', '-c', 'whole', '-n', '60', '--seed', '5', QUESTION).rstrip())


@case
def conversations_are_listed_moved_and_removed():
    _good('new', 'box')
    assert 'box' in _good('-q', 'ls').splitlines()
    _good('mv', 'box', 'chest')
    assert 'chest' in _good('-q', 'ls').splitlines() and 'box' not in _good('-q', 'ls').splitlines()
    _good('ask', '-c', 'chest', *SHORT, QUESTION)
    _good('fork', 'chest', 'copy')
    assert _good('log', 'copy') == _good('log', 'chest')
    assert 'chest' in _good('show', 'chest')
    _good('rm', 'chest', 'copy')
    assert _run('show', '=chest').returncode == 4
    assert _run('rm', 'chest').returncode == 4
    assert _run('mv', 'nobody', 'somebody').returncode == 4


@case
def each_failure_has_its_code():
    for words, code in (
            (('fly',), 2), (('ask', '--sparkle', 'x'), 2), (('ask', '--seed', 'x', 'x'), 2), (('mv', 'a'), 2),
            (('ask', '-c', 'a/b', *SHORT, 'x'), 2), (('ask', '--temperature', '-1', 'x'), 2),
            (('show', '=nobody'), 4), (('log', '=nobody'), 4), (('wait', '=nobody'), 4),
            (('ask', '-c', 'strict', '--strict', '-n', '1', '--seed', '5', QUESTION), 7)):
        done = _run(*words)
        assert done.returncode == code, f'{words}: status {done.returncode}, {done.stderr}'
        if code != 7:
            assert done.stderr.startswith('sink: ') and len(done.stderr.splitlines()) == 1, f'{words}: {done.stderr!r}'
            assert done.stdout == '', f'{words}: {done.stdout!r}'
    client = daemon.client()
    client.say('occupied', live.TALK, sampling=live.ENDLESS)
    assert _run('ask', '-c', 'occupied', QUESTION).returncode == 5
    assert _run('wait', '--timeout', '0.2', 'occupied').returncode == 124
    _good('stop', 'occupied')
    client.until('done')


@case
def no_daemon_is_a_code_of_its_own():
    home = live.directory()
    for words in (('status',), ('ls',), ('stop', 'x'), ('shutdown',)):
        done = sink(daemon, *words, home=home)
        assert done.returncode == 3 and done.stderr.startswith('sink: '), f'{words}: {done}'
    done = sink(daemon, 'ask', QUESTION, home=home, env={'SINKD_MODEL': ''})
    assert done.returncode == 6, f'no daemon and no model: {done}'


@case
def help_and_version_are_answers():
    for words in (('--help',), ('help',), ('ask', '--help'), ('help', 'ask')):
        done = _run(*words)
        assert done.returncode == 0 and 'Usage: sink' in done.stdout and done.stderr == '', f'{words}: {done}'
    assert _good('--version').startswith('sink '), _good('--version')


@case
def colours_are_for_terminals_alone():
    for env in ({}, {'NO_COLOR': '1'}, {'TERM': 'xterm-256color'}):
        for words in (('ls',), ('status',), ('log', 'json'), ('--help',)):
            done = _run(*words, env=env)
            assert '\033' not in done.stdout + done.stderr, (words, env)
    assert '\033' not in _good('--color', 'never', 'ls')


@case
def text_of_a_model_cannot_drive_a_terminal_by_the_log():
    daemon.client().call('say', conversation='escape', text='red \033[31m alert \007', create=True, answer=False)
    assert '\033' in daemon.client().call('log', conversation='escape')['messages'][-1]['text']
    same(_lines(_good('--json', 'log', 'escape'))[-1]['text'], 'red \033[31m alert \007')


@case
def a_closed_pipe_is_no_drama():
    done = subprocess.run(['/bin/sh', '-c', '"$0" log json | head -c 1', live.SINK], env=live.environment(daemon.home),
                          capture_output=True, text=True, timeout=live.WAIT, check=False)
    assert done.returncode == 0 and len(done.stdout) == 1, done


@case
def tokenize_agrees_with_the_daemon():
    ids = daemon.client().call('tokenize', text='Hello world')['tokens']
    printed = _good('tokenize', 'Hello world')
    assert all(str(number) in printed for number in ids), printed


@case
def a_list_takes_a_form():
    client = daemon.client()
    client.call('new', name='form', sampling={'seed': 77})
    lines = _good('ls', '-F', '{name}\\t{messages} {{x} {sampling.seed}').splitlines()
    assert 'form\t0 {x} 77' in lines, lines
    assert len(lines) == len(_good('ls', '-q').splitlines())
    wrong = _run('ls', '-F', '{nmae}')
    assert wrong.returncode == 2 and 'nmae' in wrong.stderr and not wrong.stdout, wrong
    assert _run('ls', '-F', '{name').returncode == 2
    table = _good('ls')
    assert table.startswith('NAME') and _good('ls', '--no-legend').split()[0] == table.splitlines()[1].split()[0]


@case
def a_log_takes_a_time():
    client = daemon.client()
    for text in ('early', 'late'):
        client.call('say', conversation='times', create=True, text=text, system='', answer=False)
    middle = (client.call('log', conversation='times')['messages'][1]['time'])
    time.sleep(2 * live.SLOW)
    client.call('say', conversation='times', text='last', answer=False)
    assert _good('log', '--since', '1h', 'times').count('user') == 3
    ago = f'{time.time() - middle - 0.5:.2f}s'
    shown = _lines(_good('log', '--json', '--since', ago, 'times'))
    assert [m['text'] for m in shown] == ['last'], (shown, ago)
    assert _good('log', '--since', '2099-01-01', 'times') == ''
    assert _good('log', '--since', '1999-12-31 23:59', '-n', '1', 'times').split('\n')[1] == 'last'
    for wrong in ('soon', '12:30', '1y', '-5m'):
        assert _run('log', '--since', wrong, 'times').returncode == 2, wrong
    assert _run('log', '--since', '1h', '-f', 'times').returncode == 2


@case
def temporary_is_temporary():
    before = _good('ls', '-q')
    _good('ask', '--temp', *SHORT, QUESTION, env={'SINK_CONVERSATION': 'mine'})
    assert _good('ls', '-q') == before
    assert _run('ask', '--temp', '-c', 'mine', QUESTION).returncode == 2


@case
def templates_make_conversations():
    place = os.path.join(daemon.home, 'config', 'sinkd', 'templates')
    os.makedirs(place)
    with open(os.path.join(place, 'brief.ini'), 'w', encoding='utf-8') as file:
        file.write('description = Short answers\nsystem = Be brief.\n  Be kind.\nmax = 5\nseed = 9\n'
                   'policy = sink:4,200\nprompt = Answer this:\n')
    assert 'brief            Short answers' in _good('template').splitlines(), _good('template')
    assert _good('template', 'path').strip() == place
    assert _good('template', 'path', 'brief').strip() == os.path.join(place, 'brief.ini')
    assert 'Be kind.' in _good('template', 'show', 'brief')
    assert {'name': 'brief', 'description': 'Short answers'} in _lines(_good('template', 'ls', '--json'))
    client = daemon.client()
    _good('new', '-t', 'brief', '--seed', '4', 'of.template')
    info = client.call('show', conversation='of.template')['conversation']
    assert info['sampling']['seed'] == 4 and info['sampling']['max_tokens'] == 5, info
    assert info['policy'].startswith('sink:'), info
    assert client.call('log', conversation='of.template')['messages'][0]['text'] == 'Be brief.\nBe kind.'
    _good('ask', '-t', 'brief', '-c', 'asked.template', 'Who?')
    _good('ask', '-t', 'brief', '-n', '3', '-c', 'asked.template', 'Why?')
    messages = client.call('log', conversation='asked.template')['messages']
    assert [m['text'] for m in messages if m['role'] != 'assistant'] == [
        'Be brief.\nBe kind.', 'Answer this:\n\nWho?', 'Answer this:\n\nWhy?'], messages
    assert client.call('show', conversation='asked.template')['conversation']['sampling']['max_tokens'] == 5
    assert _run('ask', '-t', 'nosuch', 'Who?').returncode == 4
    with open(os.path.join(place, 'wrong.ini'), 'w', encoding='utf-8') as file:
        file.write('system = x\n\ntemprature = 1\n')
    wrong = _run('new', '-t', 'wrong', 'never')
    assert wrong.returncode == 2 and 'line 3' in wrong.stderr and 'temperature' in wrong.stderr, wrong
    # An edited one is checked; a new one begins with a form.
    done = _run('template', 'edit', 'wrong', env={'VISUAL': 'true'})
    assert done.returncode == 2 and 'line 3' in done.stderr, done
    _good('template', 'edit', 'fresh', env={'VISUAL': 'sed -i s/^system.*/system=Edited/'})
    assert 'Edited' in _good('template', 'show', 'fresh')
    assert _run('template', 'show').returncode == 2 and _run('template', 'eat', 'x').returncode == 2


@case
def templates_that_come_with_sinkd_are_right():
    place = os.path.join(live.SOURCE, 'contrib', 'templates')
    for name in sorted(os.listdir(place)):
        if name.endswith('.ini'):
            _good('new', '-t', os.path.join(place, name), 'shipped.' + name)


@case
def the_daemon_is_started_on_demand():
    home = live.directory()
    env = {'SINKD_MODEL': live.model(), 'SINKD': live.SINKD}
    try:
        done = sink(daemon, 'ask', *SHORT, QUESTION, home=home, env=env)
        assert done.returncode == 0 and done.stdout.strip(), done
        status = sink(daemon, '--json', 'status', home=home, env=env)
        pid = json.loads(status.stdout)['pid']
        assert pid != daemon.pid
        again = sink(daemon, 'ask', *SHORT, QUESTION, home=home, env=env)
        same(again.stdout, done.stdout)
        assert json.loads(sink(daemon, '--json', 'status', home=home, env=env).stdout)['pid'] == pid
    finally:
        sink(daemon, 'shutdown', home=home, env=env)
    live.eventually(lambda: sink(daemon, 'status', home=home, env=env).returncode == 3, 'it ended')
    # The default model is found in the data directory as well.
    os.makedirs(home + '/data/sinkd/models')
    os.symlink(live.model(), home + '/data/sinkd/models/default.gguf')
    env['SINKD_MODEL'] = ''
    done = sink(daemon, 'ask', *SHORT, QUESTION, home=home, env=env)
    sink(daemon, 'shutdown', home=home, env=env)
    assert done.returncode == 0, done


@case
def two_that_start_it_at_once_share_one():
    home = live.directory()
    env = live.environment(home, {'SINKD_MODEL': live.tiny(), 'SINKD': live.SINKD})
    children = [subprocess.Popen([live.SINK, 'ask', *SHORT, QUESTION], env=env, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) for _ in range(3)]
    try:
        for child in children:
            out, error = child.communicate(timeout=live.WAIT)
            assert child.returncode == 0, error
    finally:
        sink(daemon, 'shutdown', home=home, env=env)


@case
def shutdown_ends_the_daemon():
    _good('shutdown')
    assert daemon.wait() == 0
    path = daemon.endpoint[len('ipc://'):]
    assert not os.path.exists(path) or not stat.S_ISSOCK(os.stat(path).st_mode)


live.main()
