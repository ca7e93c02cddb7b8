"""Guessed tokens (option speculation) change no answer: the same tokens, log-probabilities, events and ends with guesses
of any length, with as many as pay, and with none; with company, after a stop, and after a kill."""
import os
import signal
import time

import live
from live import Daemon, case, directory, main, same, text_of, tiny
from supervise import Service

POLICIES = ('sink:4,120', 'sink:70,60', 'window:64', 'separator:4,20,80', 'separator:4,all,60', 'anchor:4,20,80', 'dense',
            'recompute:40')
TEXT = 'The old harbour lies on the north side of the bay, behind a wall of grey stone. ' * 3
SAMPLINGS = (
    {'temperature': 0, 'max_tokens': 150},
    {'temperature': 0.8, 'max_tokens': 90},
    {'temperature': 0.8, 'max_tokens': 90, 'presence_penalty': -2.0, 'frequency_penalty': -1.0, 'penalty_last': 9},
    {'temperature': 0.3, 'max_tokens': 90, 'repetition_penalty': 1.3, 'top_k': 5},
    dict(live.ENDLESS, max_tokens=150),
)

# What is compared with a daemon that guesses nothing. Each case has conversations of its own.
VALUES = ('off', '1', '4', '16', 'auto') if live.SLOW <= 1 else ('off', '4', '16')
daemons = {value: Daemon(tiny(), '--state', 'none', '--speculation', value) for value in VALUES}


def told(events):
    """What events say, without times, and without what depends on them."""
    timed = ('seq', 'ms', 'timing')
    return [{key: value for key, value in event.items() if key not in timed}
            for event in events if event['ev'] != 'prefill']


def state_of(client, name):
    info = client.call('show', conversation=name)['conversation']
    return {key: info[key] for key in info if key not in ('seq', 'first_seq', 'created', 'used', 'clients', 'sampling')}


def everywhere(play):
    """Plays the same with every daemon; what came of it must be the same."""
    want = None
    for value, daemon in daemons.items():
        client = daemon.client()
        got = play(client)
        client.close()
        if want is None:
            want = got
        assert got == want, f'speculation = {value}: {first_difference(want, got)}'


def first_difference(want, got):
    for number, (left, right) in enumerate(zip(want, got)):
        if left != right:
            return f'{number}: {left} became {right}'
    return f'{len(want)} became {len(got)}'


def guesses(value):
    client = daemons[value].client()
    status = client.call('status')
    client.close()
    return status['drafted'], status['accepted']


def talk(client, name, policy, sampling):
    """A conversation with several answers; all that was told."""
    sampling = {'seed': 5, 'top_logprobs': 2, **sampling}
    client.call('new', name=name, policy=policy, system='', sampling=sampling)
    client.call('attach', conversation=name)
    client.call('feed', conversation=name, text=TEXT)
    for step in ('Say it again.', 'And again.'):
        client.call('say', conversation=name, text=step)
        events = client.until('done', name)
        yield from told(events)
        yield state_of(client, name)
    client.call('regenerate', conversation=name, sampling={'seed': 6})
    yield from told(client.until('done', name))
    client.call('generate', conversation=name, sampling={'max_tokens': 33})
    yield from told(client.until('done', name))
    yield state_of(client, name)
    yield client.call('score', conversation=name, text='What comes next?')['logprobs']
    yield client.call('log', conversation=name)['messages'][-1]['text']


@case
def every_answer_is_the_same_under_every_policy():
    for number, policy in enumerate(POLICIES):
        for kind, sampling in enumerate(SAMPLINGS if live.SLOW <= 1 else SAMPLINGS[number % 5:][:1]):
            everywhere(lambda client: list(talk(client, f'talk.{number}.{kind}', policy, sampling)))
    least = 500 if live.SLOW <= 1 else 50
    for value in daemons.keys() - {'off', 'auto'}:
        drafted, accepted = guesses(value)
        assert accepted > least and drafted - accepted > least, f'{value}: {drafted} drafted, {accepted} accepted'
    assert guesses('off') == (0, 0)


@case
def an_answer_ends_where_it_would():
    def play(client):
        told_all = []
        client.call('new', name='ends', policy='sink:4,120', system='', sampling={'seed': 5, 'temperature': 0})
        client.call('feed', conversation='ends', text=TEXT)
        for most in range(1, 24):
            client.call('say', conversation='ends', text='Again.', attach=True,
                        sampling={'max_tokens': most, 'logprobs': True, 'presence_penalty': -10.0, 'penalty_last': 3})
            told_all += told(client.until('done', 'ends'))
            told_all.append(state_of(client, 'ends'))
            client.call('generate', conversation='ends', sampling={'max_tokens': 40})  # shows what the cache has read
            told_all += told(client.until('done', 'ends'))
        return told_all

    everywhere(play)


@case
def a_stop_string_cuts_a_draft():
    def play(client):
        told_all = []
        client.call('new', name='stops', policy='dense', system='', sampling={'seed': 5, 'temperature': 0})
        client.call('feed', conversation='stops', text=TEXT)
        whole = client.ask('stops', live.TALK, {'max_tokens': 200, **{key: live.ENDLESS[key] for key in (
            'penalty_last', 'presence_penalty', 'frequency_penalty')}}, create=False)
        for size in range(1, 40, 3):
            client.call('rewind', conversation='stops', message=0)
            stop = whole[-size - 3:][:size] or whole
            client.call('say', conversation='stops', text=live.TALK, attach=True,
                        sampling={**live.ENDLESS, 'max_tokens': 200, 'stop': [stop, 'never'], 'logprobs': True})
            told_all += told(client.until('done', 'stops'))
            client.call('generate', conversation='stops', sampling={'max_tokens': 20, 'logprobs': True})
            told_all += told(client.until('done', 'stops'))
            told_all.append(state_of(client, 'stops'))
        assert any(event.get('finish') == 'stop' for event in told_all)
        return told_all

    everywhere(play)


@case
def company_changes_nothing():
    """Two answers at once, while a third conversation reads."""
    def play(client):
        for name in ('left', 'right'):
            client.call('new', name=name, policy='sink:4,120', system='', sampling=dict(live.ENDLESS, max_tokens=400))
            client.call('feed', conversation=name, text=TEXT + name)
            client.call('attach', conversation=name)
        client.call('new', name='reads', policy='window:64', system='')
        for name in ('left', 'right'):
            client.send('say', conversation=name, text='Again, please.', sampling={'logprobs': True})
        for number in range(3):
            client.call('feed', conversation='reads', text=f'word {number} and so on, ' * 300)
        events, ended = [], 0
        while ended < 2:
            events.append(client.event())
            ended += events[-1]['ev'] == 'done'
        return [told([event for event in events if event.get('conversation') == name]) for name in ('left', 'right')]

    # Replies to `send` are no events: they are taken out of the way by the calls that follow.
    everywhere(play)


@case
def a_draft_that_finds_no_page_harms_nobody():
    """An arena of 64 pages: another conversation has half of them, and gives way when they are needed, not before."""
    texts = []
    for value in ('off', '3', '16'):
        daemon = Daemon(tiny(), '--state', 'none', '--speculation', value, '--cache', '1M', '--policy', 'dense')
        client = daemon.client()
        pages = client.call('status')['pages']
        for name in ('idle', 'fills'):
            client.call('new', name=name, system='', sampling={**live.ENDLESS, 'logprobs': True})
        client.call('feed', conversation='idle', text='ab ' * (pages * 8), wait=live.WAIT)
        client.call('say', conversation='fills', text=live.TALK, attach=True)
        events = client.until('error', 'fills', wait=live.WAIT)
        assert 'has an end' in events[-1]['text'], events[-1]
        texts.append(told(events))
        client.close()
        daemon.stop()
    for text in texts[1:]:
        assert text == texts[0], first_difference(texts[0], text)


@case
def a_stop_leaves_a_conversation_that_goes_on():
    """Wherever it is stopped, what was said is the beginning of the whole, and `generate` goes on with the rest."""
    whole = None
    for value, daemon in daemons.items():
        client = daemon.client()
        client.call('new', name='cut', policy='sink:4,120', system='', sampling=live.ENDLESS)
        client.call('feed', conversation='cut', text=TEXT)
        if whole is None:
            whole = client.ask('cut', live.TALK, {**live.ENDLESS, 'max_tokens': 5000}, create=False)
            client.close()
            continue
        client.call('say', conversation='cut', text=live.TALK, attach=True)
        events = client.until('text', 'cut')
        time.sleep(0.02)
        client.call('stop', conversation='cut')
        events += client.until('done', 'cut')
        assert events[-1]['finish'] == 'stopped', events[-1]
        client.call('generate', conversation='cut', sampling={**live.ENDLESS, 'max_tokens': 50})
        text = text_of(events + client.until('done', 'cut'), 'cut')[:len(whole)]
        assert whole.startswith(text), f'{value}: {text[-40:]!r} is not of the whole'
        client.close()


@case
def one_that_is_killed_says_the_same():
    sampling = {'seed': 3, **dict(live.ENDLESS, max_tokens=2500), 'logprobs': True}
    for policy in ('sink:4,120', 'separator:4,20,80'):
        texts = []
        for value, kind in (('off', Daemon), ('4', Daemon), ('4', Service), ('16', Service)):
            daemon = kind(tiny(), '--speculation', value)
            client = daemon.client()
            client.call('new', name='a', policy=policy, system='', sampling=sampling)
            client.call('feed', conversation='a', text=TEXT)
            seq = client.call('say', conversation='a', text=live.TALK)['seq']
            for _ in range(0 if value == 'off' else 2):
                time.sleep(0.05 * live.SLOW)
                client.close()
                daemon.kill()
                if kind is Daemon:
                    daemon = Daemon(tiny(), '--speculation', value, home=daemon.home)
                daemon.wait_ready()
                client = daemon.client()
            client.call('attach', conversation='a', **{'from': seq})
            events = [event for event in client.until('done', 'a') if event['ev'] == 'text']
            texts.append((value, [(event['text'], event['ids'], event['logprobs']) for event in events]))
            client.close()
            daemon.stop()
        for value, text in texts[1:]:
            assert text == texts[0][1], f'{policy}, {value}: {first_difference(texts[0][1], text)}'


@case
def a_request_may_decline():
    client = daemons['4'].client()
    before = client.call('status')['drafted']
    sampling = dict(live.ENDLESS, max_tokens=100)
    plain = client.ask('declines', live.TALK, {**sampling, 'speculation': False})
    assert client.call('status')['drafted'] == before
    same(client.ask('accepts', live.TALK, sampling), plain)
    assert client.call('status')['drafted'] > before
    assert client.refused('say', conversation='declines', text='x', sampling={'speculation': 'often'}).code == 'einval'
    client.close()


@case
def the_option_may_change():
    home = directory()
    path = os.path.join(home, 'conf')
    with open(path, 'w', encoding='ascii') as to:
        to.write('speculation = off\n')
    daemon = Daemon(tiny(), '--state', 'none', '-f', path, home=home)
    client = daemon.client()
    sampling = dict(live.ENDLESS, max_tokens=100)
    plain = client.ask('before', live.TALK, sampling)
    assert client.call('status')['drafted'] == 0
    with open(path, 'w', encoding='ascii') as to:
        to.write('speculation = 3\n')
    daemon.signal(signal.SIGHUP)
    while not client.call('status')['drafted']:
        same(client.ask('after', live.TALK, sampling), plain)
        client.call('remove', conversation='after')
    client.close()
    daemon.stop()


main()
for one in daemons.values():
    one.stop()
