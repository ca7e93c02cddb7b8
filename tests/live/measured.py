"""The sinks of new conversations: as measured beside the model, as many as its kind needs, or as somebody says."""
import os
import shutil
import signal
import subprocess

import live
from live import case

BENCH = os.path.join(live.BUILD, 'sinkd-bench')
GOLDEN = os.path.join(live.SOURCE, 'tests', 'golden')
USUAL = 'sink:4,2044'


def _copy(path):
    """The model in a directory of its own, where a measurement may lie beside it."""
    return shutil.copy(path, os.path.join(live.directory(), 'model.gguf'))


def _measure(model, *options):
    """sinkd-bench's own recommendation, which it leaves beside the model."""
    text = os.path.join(live.directory(), 'text')
    with open(text, 'w', encoding='utf-8') as f:
        f.writelines(f'the cat and the dog sat on the mat, and the rain fell; line {i}.\n' for i in range(60))
    run = subprocess.run([BENCH, 'sinks', '--model', model, '--text', text, '--tokens', '256', '--budget', '64', '--save',
                          '--threads', '1', *options], capture_output=True, text=True, env=live.environment(live.directory()))
    assert run.returncode == 0, run.stderr
    words = dict(line.split(None, 1) for line in run.stdout.splitlines() if len(line.split(None, 1)) == 2)
    assert words['saved'] == os.path.realpath(model) + '.sinks', run.stdout
    return int(words['recommended'])


def _say(model, sinks):
    """A measurement that says so, made from sinkd-bench's, whose fingerprint it keeps."""
    with open(model + '.sinks', encoding='utf-8') as f:
        lines = f.readlines()
    with open(model + '.sinks', 'w', encoding='utf-8') as f:
        f.writelines(f'sinks = {sinks}\n' if line.startswith('sinks') else line for line in lines)


def _new(client, **how):
    return client.call('new', **how)['conversation']['policy']


def _told(client):
    """What the daemon says of its policy, the same wherever it says it."""
    status, models = client.call('status')['model'], client.call('models')['models'][0]
    told = (status['policy'], status['policy_from'])
    assert told == (models['policy'], models['policy_from']), f'{told}, {models}'
    return told


@case
def a_measurement_is_followed_by_its_own_model_alone():
    one, other = _copy(live.tiny('q8_0 1')), _copy(live.tiny('q8_0 2'))
    recommended = _measure(one)
    assert recommended in (0, 1, 2, 4, 8, 16), recommended
    daemon = live.Daemon(one)
    assert _told(daemon.client()) == (f'sink:{recommended},{2048 - recommended}', 'measured')
    daemon.stop()
    _say(one, 3)
    daemon = live.Daemon(one)
    assert _told(daemon.client()) == ('sink:3,2045', 'measured')
    assert _new(daemon.client()) == 'sink:3,2045'
    shown = live.sink(daemon, 'status').stdout
    assert 'sink:3,2045 for new conversations (measured)' in shown, shown
    text = daemon.stop()
    assert f'New conversations keep sink:3,2045 (measured: {os.path.realpath(one)}.sinks)' in text, text
    daemon = live.Daemon(other)
    assert _told(daemon.client()) == (USUAL, 'default')
    assert _new(daemon.client()) == USUAL
    assert '.sinks' not in daemon.stop()


@case
def a_link_to_the_model_leads_to_its_measurement():
    model = _copy(live.tiny())
    link = os.path.join(live.directory(), 'default.gguf')
    os.symlink(model, link)
    _measure(link)
    _say(model, 5)
    daemon = live.Daemon(link)
    assert _told(daemon.client()) == ('sink:5,2043', 'measured')
    daemon.stop()


@case
def whoever_names_a_policy_has_it():
    model = _copy(live.tiny())
    _measure(model)
    _say(model, 3)
    daemon = live.Daemon(model, '--policy', 'sink:7,100')
    client = daemon.client()
    assert _told(client) == ('sink:7,100', 'configuration')
    assert _new(client) == 'sink:7,100'
    assert _new(client, policy='window:96') == 'window:96'
    assert 'New conversations keep' not in daemon.stop()
    daemon = live.Daemon(model, '--policy', 'auto')
    assert _new(daemon.client()) == 'sink:3,2045'
    assert _new(daemon.client(), policy='sink:0,99') == 'sink:0,99'
    daemon.stop()


@case
def conversations_keep_the_policy_that_they_were_made_with():
    model = _copy(live.tiny())
    daemon = live.Daemon(model)
    assert _new(daemon.client(), name='old') == USUAL
    daemon.stop()
    _measure(model)
    _say(model, 2)
    daemon = live.Daemon(model, home=daemon.home)
    client = daemon.client()
    assert client.call('show', conversation='old')['conversation']['policy'] == USUAL
    assert _new(client) == 'sink:2,2046'
    daemon.stop()


@case
def a_damaged_or_foreign_measurement_is_a_warning():
    model, other = _copy(live.tiny('q8_0 1')), _copy(live.tiny('q8_0 2'))
    _measure(other)
    with open(other + '.sinks', encoding='utf-8') as f:
        foreign = f.read()
    for content, says in (('[sinks]\nsinks = 3\n', 'fingerprint is missing'), ('no file of ours\n', 'line 1'),
                          (foreign, 'other weights')):
        with open(model + '.sinks', 'w', encoding='utf-8') as f:
            f.write(content)
        daemon = live.Daemon(model)
        assert _told(daemon.client()) == (USUAL, 'default')
        assert _new(daemon.client()) == USUAL
        text = daemon.stop()
        warnings = [line for line in text.splitlines() if 'warning' in line and says in line]
        assert len(warnings) == 1 and USUAL in warnings[0] and '.sinks' in warnings[0], text
        checked = subprocess.run([live.SINKD, '-t', '-m', model], capture_output=True, text=True,
                                 env=live.environment(live.directory()))
        assert checked.returncode == 0 and says in checked.stderr, checked
        assert f'{USUAL} (default)' in checked.stdout, checked.stdout


@case
def a_sink_token_is_measured_and_kept_with_its_number():
    model = _copy(live.tiny())
    recommended = _measure(model, '--sink-token', '2')
    daemon = live.Daemon(model)
    policy = f'sink:{recommended},{2048 - recommended},token=2'
    assert _told(daemon.client()) == (policy, 'measured')
    daemon.stop()
    with open(model + '.sinks', 'a', encoding='utf-8') as f:
        f.write('; no such token\n')
    with open(model + '.sinks', encoding='utf-8') as f:
        content = f.read().replace('token = 2\n', 'token = 1000000\n')
    with open(model + '.sinks', 'w', encoding='utf-8') as f:
        f.write(content)
    daemon = live.Daemon(model)
    assert _told(daemon.client()) == (USUAL, 'default')
    assert 'a token that the model does not have' in daemon.stop()


@case
def a_model_with_learned_sinks_has_none_pinned():
    for name, expected in (('gpt-oss', ('sink:0,2048', 'learned')), ('gemma3', (USUAL, 'default'))):
        model = _copy(os.path.join(GOLDEN, f'family-{name}.gguf'))
        daemon = live.Daemon(model)
        assert _told(daemon.client()) == expected, _told(daemon.client())
        assert _new(daemon.client()) == expected[0]
        daemon.stop()


@case
def a_reload_may_name_a_policy_and_take_it_back():
    model = _copy(live.tiny())
    _measure(model)
    _say(model, 3)
    home = live.directory()
    path = os.path.join(home, 'sinkd.conf')
    with open(path, 'w', encoding='utf-8') as f:
        f.write('policy = sink:9,91\n')
    daemon = live.Daemon(model, '-f', path, home=home)
    client = daemon.client()
    assert _new(client) == 'sink:9,91'
    with open(path, 'w', encoding='utf-8') as f:
        f.write('policy = auto\n')
    daemon.signal(signal.SIGHUP)
    live.eventually(lambda: _told(client) == ('sink:3,2045', 'measured'), 'the measured policy')
    assert _new(client) == 'sink:3,2045'
    daemon.stop()


live.main()
