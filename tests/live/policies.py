"""Every retention policy side by side: what each keeps, and what is told of it."""
import bisect
import os
import signal

import live
from live import case, dense, same, sink, text_of

daemon = live.Daemon(live.tiny())
GREEDY = {'temperature': 0, 'max_tokens': 24}
SEEDED = {'seed': 11, 'temperature': 0.9, 'max_tokens': 24}
TEXT = 'The sea is wide, and the wind is cold. Who sails it; who stays? One more line:\nit ends here! '
TOKENS = daemon.client().call('tokenize', text=TEXT * 12)['tokens']
SEPARATORS = [daemon.client().call('tokenize', text=text)['tokens'][0] for text in '.,;:?!\n']
ANCHORS = [daemon.client().call('tokenize', text=text)['tokens'][0] for text in '.?!']
POLICIES = ('dense', 'window:96', 'recompute:48', 'sink:4,96', 'sink:4,96,token=2', 'separator:4,16,64',
            'separator:0,5,64', 'separator:4,0,64', 'separator:4,all,64', 'anchor:4,8,64', 'anchor:0,all,300',
            'anchor:2,3,7')


def _numbers(policy):
    """S, K and W of a policy; None: no end."""
    words = policy.partition(':')[2].partition(',token')[0].split(',')
    numbers = [None if word in ('', 'all') else int(word) for word in words]
    if policy.startswith(('separator', 'anchor')):
        return numbers
    return [numbers[0] if policy.startswith('sink') else 0, 0, numbers[-1]]


def _expected(policy, ids, marks):
    """What is held of a text under a policy, from its definition: (pinned, kept, the first token of the window)."""
    sinks, most, window = _numbers(policy)
    at = [i for i, token in enumerate(ids) if token in marks]
    pinned = min(sinks, len(ids))
    begin = max(pinned, len(ids) - window) if window else pinned
    if policy.startswith('anchor') and at:
        # The last token's own sequence; nothing of it is left once it has ended.
        begin = max(begin, at[-1] + 1)
    kept = 0
    if policy.startswith(('separator', 'anchor')):
        kept = bisect.bisect_left(at, begin) - bisect.bisect_left(at, pinned)
        kept = kept if most is None else min(kept, most)
    return pinned, kept, begin


def _name(*words):
    """A conversation's name, in which "=" may not stand."""
    return ' '.join(words).replace('=', ' ')


def _marks(policy):
    return SEPARATORS if policy.startswith('separator') else ANCHORS if policy.startswith('anchor') else []


def _info(client, name):
    return client.call('show', conversation=name)['conversation']


def _check(info, policy, ids, marks):
    pinned, kept, begin = _expected(policy, ids, marks)
    assert info['tokens'] == len(ids), f'{policy}: {info}'
    got = (info['pinned'], info['kept'], info['window'])
    assert got == (pinned, kept, len(ids) - begin), f'{policy}: {got}, not {(pinned, kept, len(ids) - begin)}'
    assert info['evicted'] == info['tokens'] - sum(got), f'{policy}: {info}'
    assert info['evicted_end'] == (begin if begin > pinned else 0), f'{policy}: {info}'


def _log_events(client, name):
    """All events that a conversation has so far."""
    last = _info(client, name)['seq'] - 1
    client.call('attach', conversation=name, **{'from': 1})
    events = []
    while not events or events[-1]['seq'] < last:
        events.append(client.event())
    return events


def _check_ranges(events, info):
    """The ranges that left the window follow each other, from the pinned start to the window."""
    told = [event for event in events if event['ev'] == 'evicted']
    if not info['evicted_end']:
        assert not told, told
        return
    end = info['pinned']
    for event in told:
        assert event['first'] == end and event['count'] > 0, f'{info["policy"]}: {event} after {end}'
        end += event['count']
    assert end == info['evicted_end'] and told[-1]['kept'] == info['kept'], f'{told[-1]}, {info}'


@case
def each_policy_keeps_what_its_name_says():
    client = daemon.client()
    for policy in POLICIES:
        name = _name('fed', policy)
        client.call('new', name=name, policy=policy)
        front = [2] if 'token' in policy else []
        for cut in (TOKENS[:5], TOKENS[5:70], TOKENS[70:]):
            assert client.call('feed', conversation=name, tokens=cut)['tokens'] == len(cut)
            front += cut
            _check(_info(client, name), policy, front, _marks(policy))
        info = _info(client, name)
        assert info['policy'] == policy, info
        events = _log_events(client, name)
        dense(events)
        _check_ranges(events, info)


@case
def answers_go_on_under_each_policy():
    client = daemon.client()
    for policy in POLICIES:
        name = _name('say', policy)
        client.say(name, TEXT * 6, policy=policy, pin_system=False, sampling=SEEDED)
        events = client.until('done', name)
        dense(events)
        info = _info(client, name)
        _check_ranges(events, info)
        usage = events[-1]['usage']
        assert events[-1]['finish'] in ('length', 'end') and usage['generated'] > 0, events[-1]
        assert [usage[key] for key in ('pinned', 'kept', 'window')] == \
            [info[key] for key in ('pinned', 'kept', 'window')], (usage, info)
        assert usage['evicted'] == info['evicted'], (usage, info)
        same(text_of(events), client.ask(name + ' 2', TEXT * 6, SEEDED, policy=policy, pin_system=False))


@case
def a_system_prompt_is_pinned_where_the_policy_has_sinks():
    client = daemon.client()
    system = 'You sail the seven seas and you speak in short words, always.'
    for policy, pins in (('sink:4,400', True), ('separator:4,100,300', True), ('anchor:0,100,300', True),
                         ('window:404', False), ('recompute:404', False), ('dense', False),
                         ('separator:4,all,400', False), ('separator:4,1000,20', False), ('sink:4,96', False)):
        name = 'system ' + policy
        told = client.call('new', name=name, policy=policy, system=system)['conversation']['policy']
        message = client.call('log', conversation=name)['messages'][0]
        before, after = _numbers(policy), _numbers(told)
        if not pins:
            assert told == policy, (policy, told)
            continue
        assert after[0] == message['first_token'] + message['tokens'] > before[0], (policy, told)
        assert sum(after) == sum(before) and after[1] == before[1], (policy, told)
        client.ask(name, TEXT * 8, GREEDY)
        assert _info(client, name)['pinned'] == after[0]
    plain = client.call('new', name='not pinned', policy='sink:4,400', system=system, pin_system=False)
    assert plain['conversation']['policy'] == 'sink:4,400', plain


@case
def a_policy_that_keeps_all_ends_with_an_error():
    small = live.Daemon(live.tiny(), '--cache', '1M')
    client = small.client()
    page = client.call('status')['page_bytes']
    room = (1 << 20) // page * 64
    for policy in ('dense', 'separator:4,all,64'):
        client.call('new', name=policy, policy=policy)
        client.call('attach', conversation=policy)
        refusal = client.refused('feed', conversation=policy, tokens=[20] * (room + 1000))
        assert refusal.code == 'ebusy' and 'full' in refusal.text and policy in refusal.text, refusal
        error = client.until('error', policy)[-1]
        assert error['code'] == 'ebusy' and error['text'] == refusal.text, error
        info = _info(client, policy)
        assert info['state'] == 'failed' and 64 < info['tokens'] <= room, info
        assert client.refused('score', conversation=policy, tokens=[20] * 5).code == 'ebusy'
        client.call('remove', conversation=policy)
    for policy in ('sink:4,99999', 'separator:4,99999,64', 'anchor:0,5,99999', 'recompute:99999'):
        assert client.refused('new', policy=policy).code == 'ebusy', policy
    assert client.call('status')['pages_free'] == client.call('status')['pages']
    small.stop()


@case
def words_do_not_depend_on_company():
    client = daemon.client()
    policies = ('separator:4,16,64', 'anchor:4,8,64', 'recompute:48', 'window:96')
    alone = {policy: client.ask('alone ' + policy, TEXT * 5, SEEDED, policy=policy) for policy in policies}
    client.say('noise', live.TALK, sampling=live.ENDLESS)
    client.until('text', 'noise')
    for policy in policies:
        client.say('among ' + policy, TEXT * 5, policy=policy, sampling=SEEDED)
    events = []
    while sum(event['ev'] == 'done' for event in events) < len(policies):
        events.append(client.event())
    client.call('stop', conversation='noise')
    client.until('done', 'noise')
    for policy in policies:
        same(text_of(events, 'among ' + policy), alone[policy], policy)
        progress = [event for event in events
                    if event['ev'] == 'prefill' and event['conversation'] == 'among ' + policy]
        assert progress[-1]['done'] == progress[-1]['total'], progress
    again = [(event['ev'], event['conversation']) for event in events]
    read = again.index(('answer', 'among recompute:48'))
    assert ('prefill', 'among recompute:48') not in again[read:], 'nothing is told of reading anew'


@case
def recomputing_predicts_from_the_window_alone():
    client = daemon.client()
    client.call('new', name='short', policy='recompute:40', system='')
    client.call('feed', conversation='short', tokens=TOKENS[-40:])
    client.call('new', name='long', policy='recompute:40', system='')
    client.call('feed', conversation='long', tokens=TOKENS)
    scored = [client.call('score', conversation=name, tokens=TOKENS[:50])['logprobs'] for name in ('short', 'long')]
    # From the same 40 tokens each, elsewhere in the text: the keys, turned by other angles, are rounded otherwise.
    assert max(abs(a - b) for a, b in zip(*scored)) < 0.02, scored


@case
def scores_agree_with_answers():
    client = daemon.client()
    for policy in POLICIES:
        name = _name('score', policy)
        client.call('new', name=name, policy=policy, system='')
        client.call('feed', conversation=name, tokens=TOKENS[:200])
        client.call('fork', conversation=name, to=name + ' 2')
        client.call('generate', conversation=name, attach=True, sampling=dict(GREEDY, logprobs=True))
        events = client.until('done', name)
        ids = [token for event in events if event['ev'] == 'text' for token in event['ids']]
        told = [value for event in events if event['ev'] == 'text' for value in event['logprobs']]
        scored = client.call('score', conversation=name + ' 2', tokens=ids)
        assert scored['tokens'] == ids and len(scored['logprobs']) == len(ids)
        assert max(abs(a - b) for a, b in zip(told, scored['logprobs'])) < 1e-6, (policy, told, scored)
    refusal = client.refused('score', conversation='score recompute:48', tokens=[20] * 65536)
    assert refusal.code == 'einval' and 'recompute:48' in refusal.text, refusal


@case
def conversations_go_back_and_part_under_each_policy():
    client = daemon.client()
    for policy in POLICIES:
        name = _name('back', policy)
        first = client.ask(name, TEXT * 3, SEEDED, policy=policy)
        client.call('regenerate', conversation=name, sampling=dict(SEEDED, seed=12))
        client.until('done', name)
        client.call('regenerate', conversation=name, sampling=SEEDED)
        same(text_of(client.until('done', name)), first, policy)
        client.call('fork', conversation=name, to=name + ' 2')
        second = client.ask(name, 'And then? ' + TEXT, SEEDED)
        client.say(name + ' 2', 'And then? ' + TEXT, sampling=SEEDED)
        same(text_of(client.until('done', name + ' 2')), second, policy)
        messages = client.call('log', conversation=name)['messages']
        client.call('rewind', conversation=name, message=messages[-2]['message'])
        info = _info(client, name)
        assert info['evicted'] == info['tokens'] - info['pinned'] - info['kept'] - info['window'] >= 0, info
        same(client.ask(name, 'And then? ' + TEXT, SEEDED), second, policy)
        done = client.call('generate', conversation=name, attach=True, sampling=SEEDED)
        usage = client.until('done', name)[-1]['usage']
        assert usage['evicted'] >= 0 and done['message'] == len(messages), (policy, usage)


@case
def a_conversation_that_recomputes_can_be_stopped():
    client = daemon.client()
    client.say('stopped', TEXT * 10, policy='recompute:300', sampling=live.ENDLESS)
    client.until('text', 'stopped')
    assert client.call('stop', conversation='stopped')['stopped'] is True
    assert client.until('done', 'stopped')[-1]['finish'] == 'stopped'
    assert client.ask('stopped', 'Go on.', GREEDY) != ''
    info = _info(client, 'stopped')
    assert info['state'] == 'idle' and info['window'] == 300, info
    # Stopped before anything was read, a conversation begins as if nothing had been said.
    client.say('early', 'Hello. ' * 2000, policy='sink:4,96,token=2', sampling=GREEDY)
    client.call('stop', conversation='early')
    client.until('done', 'early')
    client.call('rewind', conversation='early', message=0)
    same(client.ask('early', TEXT, GREEDY), client.ask('late', TEXT, GREEDY, policy='sink:4,96,token=2'))


@case
def a_sink_token_stands_at_the_front():
    client = daemon.client()
    client.call('new', name='front', policy='sink:1,96,token=2', system='')
    begin = _info(client, 'front')
    client.call('new', name='plain', policy='sink:1,96', system='')
    assert begin['waiting'] == _info(client, 'plain')['waiting'] + 1 == 1, begin
    for name, policy in (('said', 'sink:1,96,token=2'), ('said plain', 'sink:1,96')):
        client.say(name, 'Hello.', policy=policy, sampling=GREEDY, answer=False)
    live.eventually(lambda: _info(client, 'said')['waiting'] == _info(client, 'said plain')['waiting'] == 0, 'read')
    assert _info(client, 'said')['tokens'] == _info(client, 'said plain')['tokens'] + 1
    first = client.call('log', conversation='said')['messages'][0]
    assert first['first_token'] == 0, first
    client.call('rewind', conversation='said', message=0)
    assert _info(client, 'said')['tokens'] == 0
    # Fed by hand, it is the same text.
    client.call('new', name='fed', policy='sink:1,96,token=2')
    client.call('feed', conversation='fed', tokens=TOKENS[:60])
    client.call('new', name='by hand', policy='sink:1,96')
    client.call('feed', conversation='by hand', tokens=[2] + TOKENS[:60])
    assert _info(client, 'fed')['tokens'] == 61
    scores = [client.call('score', conversation=name, tokens=TOKENS[60:90])['logprobs'] for name in ('fed', 'by hand')]
    assert scores[0] == scores[1]


@case
def marks_can_be_named():
    client = daemon.client()
    letters = [client.call('tokenize', text=text)['tokens'][0] for text in 'sw']
    for policy in ('separator:2,7,32', 'anchor:2,7,32'):
        name = 'marks ' + policy
        client.call('new', name=name, policy=policy, marks=letters)
        client.call('feed', conversation=name, tokens=TOKENS)
        _check(_info(client, name), policy, TOKENS, letters)
        client.call('fork', conversation=name, to=name + ' 2')
        client.call('feed', conversation=name + ' 2', tokens=TOKENS[:77])
        _check(_info(client, name + ' 2'), policy, TOKENS + TOKENS[:77], letters)
    client.say('marks said', TEXT, policy='separator:2,7,32', marks=letters, sampling=GREEDY, answer=False)
    typed = sink(daemon, 'new', '--policy', 'separator:2,7,32', '--marks', ','.join(map(str, letters)), 'marks typed')
    assert typed.returncode == 0, typed
    client.call('feed', conversation='marks typed', tokens=TOKENS)
    _check(_info(client, 'marks typed'), 'separator:2,7,32', TOKENS, letters)


@case
def the_configuration_names_marks():
    client = daemon.client()
    letters = [client.call('tokenize', text=text)['tokens'][0] for text in 'sw']
    home = live.directory()
    os.makedirs(home + '/config/sinkd')

    def configure(ids):
        with open(home + '/config/sinkd/sinkd.conf', 'w', encoding='utf-8') as file:
            file.write(f'policy = separator:2,7,32\nseparator-ids = {ids}\n')

    configure(f'{letters[0]}, {letters[1]}')
    other = live.Daemon(live.tiny(), home=home)
    client = other.client()
    for name, more, marks in (('a', {}, letters), ('b', {'marks': SEPARATORS[:2]}, SEPARATORS[:2]),
                              ('c', {'policy': 'anchor:2,7,32'}, ANCHORS)):
        client.call('new', name=name, **more)
        client.call('feed', conversation=name, tokens=TOKENS)
        _check(_info(client, name), more.get('policy', 'separator:2,7,32'), TOKENS, marks)
    # What does not fit changes nothing; what does holds for conversations to come.
    for name, ids, says, marks in (('d', '999999', 'stays as it was', letters),
                                   ('e', SEPARATORS[0], 'was read again', SEPARATORS[:1])):
        configure(ids)
        other.signal(signal.SIGHUP)
        live.eventually(lambda says=says: says in other.text(), says)
        client.call('new', name=name)
        client.call('feed', conversation=name, tokens=TOKENS)
        _check(_info(client, name), 'separator:2,7,32', TOKENS, marks)
    other.stop()


@case
def settings_that_do_not_fit_the_model_are_told():
    for options, says in ((('--separator-ids', '5,999999'), 'separator-ids'), (('--anchors', '999999'), 'anchors'),
                          (('--policy', 'sink:4,96,token=999999'), 'policy')):
        for more in ((), ('-t',)):
            other = live.Daemon(live.tiny(), *options, *more, ready=False)
            assert other.wait() == 6, other.text()
            assert says in other.text() and '999999' in other.text(), other.text()
    for options in (('--separator-ids', 'comma'), ('--anchors', '1,-2'), ('--policy', 'anchor:4,5')):
        other = live.Daemon(live.tiny(), *options, ready=False)
        assert other.wait() == 2 and options[0][2:] in other.text().lower(), other.text()
    checked = live.Daemon(live.tiny(), '-t', '--policy', 'anchor:4,all,256', ready=False)
    assert checked.wait() == 0 and 'not trained for anchors' in checked.text(), checked.text()


@case
def anchors_without_training_come_with_a_note():
    client = daemon.client()
    notes = [client.call('new', name='noted', policy='anchor:4,8,64')['note'],
             client.call('new', name='noted too', policy='anchor:4,8,64', system='Be brief.')['note'],
             client.say('noted last', 'Hello.', policy='anchor:4,8,64', answer=False)['note']]
    assert len(set(notes)) == 1 and 'not trained' in notes[0], notes
    assert 'note' not in client.say('noted last', 'Again.', answer=False, policy='anchor:4,8,64')
    assert 'note' not in client.call('new', name='not noted', policy='separator:4,8,64')
    assert sum('"noted' in line and 'not trained' in line for line in daemon.text().splitlines()) == 3
    for words in (('new', '--policy', 'anchor:4,8,64', 'noted typed'),
                  ('ask', '-n', '3', '--policy', 'anchor:4,8,64', '-c', 'noted asked', 'Hello.')):
        done = sink(daemon, *words)
        assert done.returncode == 0 and 'sink: ' + notes[0] in done.stderr and 'not trained' not in done.stdout, done
    usual = live.Daemon(live.tiny(), '--policy', 'anchor:4,8,64')
    assert 'not trained' in usual.text(), usual.text()
    usual.stop()


@case
def bad_policies_and_marks_are_refused():
    client = daemon.client()
    for policy in ('sink:4,0', 'separator:4,0,0', 'sink:-4,96', 'window:-1', 'window:0', 'recompute:0', 'recompute',
                   'sink:4,99999999999', 'separator:4,99999999999,64', 'sink:4', 'separator:4,64', 'anchor:4,5,6,7',
                   'anchor:all,5,6', 'whirl', 'Sink:4,96', '', 'dense:4', 'sink:0,96,token=2', 'window:96,token=2',
                   'sink:4,96,token=', 'sink:4,96,token=-1', 'sink:4,96,token=999999', 'x' * 5000):
        refusal = client.refused('new', policy=policy)
        assert refusal.code == 'einval', (policy, refusal)
    assert '999999' in client.refused('new', policy='sink:4,96,token=999999').text
    for marks, says in (([999999], '999999'), ([5, -1], '-1'), ([1 << 40], str(1 << 40)), ([1.5], 'marks'),
                        (['.'], 'marks'), ('5', 'marks'), ([], 'marks'), ([5] * 4097, '4096'), ([[5]], 'marks')):
        for policy in ('separator:4,8,64', 'anchor:4,8,64'):
            refusal = client.refused('new', policy=policy, marks=marks)
            assert refusal.code == 'einval' and says in refusal.text, (marks, refusal)
    for policy in ('sink:4,96', 'dense', 'window:96', 'recompute:96'):
        for verb, fields in (('new', {}), ('say', {'conversation': 'never', 'text': 'x', 'create': True})):
            refusal = client.refused(verb, policy=policy, marks=[5], **fields)
            assert refusal.code == 'einval' and 'marks' in refusal.text, (policy, refusal)
    assert client.refused('show', conversation='never').code == 'enoent'
    for marks in ('', 'comma', '5;6', '5,-6', '99999999999999999999', '999999'):
        done = sink(daemon, 'new', '--policy', 'separator:4,8,64', '--marks', marks, 'never')
        assert done.returncode == 2 and done.stderr.startswith('sink: '), (marks, done)
    assert daemon.alive()


@case
def the_log_shows_where_the_memory_begins():
    client = daemon.client()
    for policy, rule in (('sink:4,150', 'begins here ──'), ('separator:4,9,150', '(and 9 separators of what is above)'),
                         ('recompute:150', 'begins here ──'), ('anchor:0,1,150', '(and 1 anchor of what is above)')):
        name = 'horizon ' + policy
        for i in range(8):
            client.ask(name, f'{i} ' + TEXT[:60], {'temperature': 0, 'max_tokens': 4}, policy=policy, pin_system=False)
        done = sink(daemon, 'log', name)
        assert done.returncode == 0, done
        lines = done.stdout.splitlines()
        at = [i for i, line in enumerate(lines) if line.startswith('── ')]
        assert len(at) == 1 and rule in lines[at[0]], (policy, lines)
        # Between what is out of sight and what is not.
        above = [line for line in lines[:at[0]] if line.startswith('[')]
        below = [line for line in lines[at[0]:] if line.startswith('[')]
        assert all('out of' in line for line in above[1:]) and not any('out of' in line for line in below), lines
        assert '── ' not in sink(daemon, '--json', 'log', name).stdout
        last = sink(daemon, 'log', '-n', '1', name).stdout
        assert '── ' not in last or len(below) == 1, last
        shown = sink(daemon, 'show', name).stdout.split()
        info = _info(client, name)
        for label, key in (('pinned', 'pinned'), ('kept', 'kept'), ('window', 'window'), ('since', 'evicted_end')):
            assert shown[shown.index(label) + 1] == str(info[key]), (shown, info)
    client.ask('horizon none', 'Hello.', GREEDY)
    assert '── ' not in sink(daemon, 'log', 'horizon none').stdout


@case
def the_daemon_ends_cleanly():
    daemon.stop()


live.main()
