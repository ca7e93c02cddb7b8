"""Conversations: streams, cursors, watchers, and the three ways to leave."""
import json
import math
import os
import signal
import subprocess
import sys

import live
from live import case, dense, same, text_of

# A daemon for all cases; each has conversations of its own.
daemon = live.Daemon(live.model())
REAL = bool(os.environ.get('SINKD_MODEL'))
LONG = {'seed': 7, 'temperature': 0.8, 'max_tokens': 60}
QUESTION = 'Tell me a long story about a lighthouse keeper and the sea.'


@case
def an_answer_streams():
    client = daemon.client()
    reply = client.say('stream', QUESTION, sampling=LONG)
    events = client.until('done')
    dense(events, reply['seq'])
    kinds = [event['ev'] for event in events]
    assert kinds[0] == 'message' and events[0]['role'] == 'user', kinds
    assert kinds.index('message') < kinds.index('answer') < kinds.index('text') < kinds.index('done'), kinds
    assert kinds.count('text') > 5, 'an answer of 60 tokens comes in pieces'
    done = events[-1]
    assert done['finish'] in ('length', 'end'), done
    assert 0 < done['usage']['generated'] <= 60, done
    assert sum(event['tokens'] for event in events if event['ev'] == 'text') <= 60
    messages = client.call('log', conversation='stream')['messages']
    same(messages[-1]['text'], text_of(events))
    assert [message['role'] for message in messages][-2:] == ['user', 'assistant']


@case
def the_same_seed_gives_the_same_words():
    client = daemon.client()
    first = client.ask('seed.1', QUESTION, LONG)
    same(first, client.ask('seed.2', QUESTION, LONG))
    assert first != client.ask('seed.3', QUESTION, dict(LONG, seed=8)), 'another seed, other words'


@case
def a_killed_client_comes_back_to_the_whole_text():
    client = daemon.client()
    # A tiny model is too quick to be caught, unless something slows it.
    sampling = LONG if REAL or live.SLOW > 4 else {'temperature': 0, 'max_tokens': 3000}
    whole = client.ask('uncut', live.TALK, sampling)
    first = client.call('say', conversation='cut', text=live.TALK, create=True, sampling=sampling)['seq']
    child = subprocess.Popen([sys.executable, live.__file__, 'follow', daemon.endpoint, 'cut', str(first)],
                             stdout=subprocess.PIPE, text=True)
    lines = [child.stdout.readline() for _ in range(6)]
    child.send_signal(signal.SIGKILL)
    lines += child.stdout.readlines()
    child.wait()
    seen = [json.loads(line) for line in lines if line.endswith('\n')]
    assert not any(event['ev'] == 'done' for event in seen), 'the answer ended before the client was killed'
    back = daemon.client()
    back.call('attach', conversation='cut', **{'from': seen[-1]['seq'] + 1})
    events = seen + back.until('done')
    dense(events, first)
    same(text_of(events), whole)


@case
def watchers_see_the_same():
    watchers = [daemon.client() for _ in range(3)]
    watchers[0].call('new', name='watched')
    for watcher in watchers:
        watcher.call('attach', conversation='watched')
    watchers[1].call('say', conversation='watched', text=QUESTION, sampling=LONG)
    seen = [watcher.until('done') for watcher in watchers]
    assert seen[0] == seen[1] == seen[2]
    dense(seen[0])


@case
def words_do_not_depend_on_company():
    client = daemon.client()
    alone = client.ask('alone', QUESTION, LONG)
    names = [f'among.{i}' for i in range(8)]
    for i, name in enumerate(names):
        text = QUESTION if i == 3 else f'Count to {i + 20} in words, and then say why the number {i} is odd.'
        client.say(name, text, sampling=dict(LONG, seed=LONG['seed'] if i == 3 else i))
    events = []
    while sum(event['ev'] == 'done' for event in events) < 8:
        events.append(client.event())
    same(text_of(events, 'among.3'), alone)
    for name in names:
        dense([event for event in events if event['conversation'] == name])
    # They took turns: the last to begin spoke before the first had ended.
    order = [(event['ev'], event['conversation']) for event in events if event['ev'] in ('text', 'done')]
    assert not REAL or order.index(('text', 'among.7')) < order.index(('done', 'among.0')), order[:40]


@case
def attaching_replays_and_goes_live():
    client = daemon.client()
    reply = client.call('say', conversation='replay', text=QUESTION, create=True, sampling=LONG)
    live.eventually(lambda: client.call('show', conversation='replay')['conversation']['seq'] > reply['seq'] + 5,
                    'the answer goes on')
    middle = daemon.client()
    middle.call('attach', conversation='replay', **{'from': reply['seq'] + 3})
    events = middle.until('done')
    dense(events, reply['seq'] + 3)
    later = daemon.client()
    info = later.call('attach', conversation='replay', **{'from': reply['seq']})
    again = later.until('done')
    assert again[3:] == events, 'a replay repeats what was live'
    assert info['conversation']['seq'] == again[-1]['seq'] + 1


@case
def attaching_twice_at_once_is_fine():
    client = daemon.client()
    client.call('say', conversation='twice', text=QUESTION, create=True, sampling=LONG)
    others = [daemon.client() for _ in range(2)]
    for other in others:
        other.send('attach', conversation='twice', **{'from': 1})
    results = []
    for other in others:
        other.reply(other.last)
        results.append(other.until('done'))
    assert results[0] == results[1]


@case
def detaching_and_leaving_do_not_stop_an_answer():
    client = daemon.client()
    whole = client.ask('stays', QUESTION, LONG)
    leaver = daemon.client()
    leaver.say('leaves', QUESTION, sampling=LONG)
    leaver.close()
    detacher = daemon.client()
    attachment = detacher.call('attach', conversation='leaves')['attachment']
    detacher.call('detach', attachment=attachment)
    detacher.kept.clear()
    live.eventually(lambda: client.call('show', conversation='leaves')['conversation']['state'] == 'idle', 'it ends')
    same(client.call('log', conversation='leaves')['messages'][-1]['text'], whole)
    try:
        event = detacher.event(0.3)
        raise AssertionError(f'an event after detach: {event}')
    except TimeoutError:
        pass


@case
def stop_stops_and_keeps_what_was_said():
    client, other = daemon.client(), daemon.client()
    client.say('stopped', live.TALK, sampling=live.ENDLESS)
    client.until('text')
    assert other.call('stop', conversation='stopped')['stopped'] is True
    events = client.until('done')
    assert events[-1]['finish'] == 'stopped', events[-1]
    assert other.call('stop', conversation='stopped')['stopped'] is False
    info = client.call('show', conversation='stopped')['conversation']
    assert info['state'] == 'idle' and info['answer'] is None, info
    assert client.call('log', conversation='stopped')['messages'][-1]['text'] != ''
    assert client.ask('stopped', 'Go on.', {'max_tokens': 5, 'seed': 1}) != '', 'the conversation goes on'


@case
def a_conversation_that_answers_is_busy():
    client = daemon.client()
    client.say('busy', live.TALK, sampling=live.ENDLESS)
    assert client.refused('say', conversation='busy', text='And?').code == 'ebusy'
    client.call('stop', conversation='busy')
    client.until('done', 'busy')


@case
def a_reader_without_credit_waits_and_harms_nobody():
    client, starved = daemon.client(), daemon.client()
    client.call('new', name='credit')
    attachment = starved.call('attach', conversation='credit', credit=1)['attachment']
    whole = client.ask('credit', QUESTION, LONG)
    first = starved.event()
    assert first['ev'] == 'message', first
    try:
        raise AssertionError(f'an event without credit: {starved.event(0.3)}')
    except TimeoutError:
        pass
    starved.call('credit', attachment=attachment, bytes=1 << 20)
    events = [first] + starved.until('done')
    dense(events)
    same(text_of(events), whole)


@case
def stop_strings_cut_the_answer():
    client = daemon.client()
    whole = client.ask('words', QUESTION, LONG)
    assert len(whole) > 20
    at = len(whole) // 2
    stop = whole[at:at + 5]
    cut = client.ask('words.cut', QUESTION, dict(LONG, stop=[stop]))
    same(cut, whole[:whole.index(stop)])


@case
def an_answer_can_be_made_anew_and_taken_back():
    client = daemon.client()
    first = client.ask('anew', QUESTION, LONG)
    client.call('regenerate', conversation='anew', attach=True, sampling=dict(LONG, seed=99))
    second = text_of([event for event in client.until('done', 'anew')])
    assert first != second
    client.call('regenerate', conversation='anew', sampling=LONG)
    client.until('done', 'anew')
    messages = client.call('log', conversation='anew')['messages']
    same(messages[-1]['text'], first)
    client.call('fork', conversation='anew', to='anew.fork')
    client.call('rewind', conversation='anew', message=messages[-2]['message'])
    left = client.call('log', conversation='anew')['messages']
    assert len(left) == len(messages) - 2, left
    forked = client.call('log', conversation='anew.fork')['messages']
    assert [message['text'] for message in forked] == [message['text'] for message in messages]
    same(client.ask('anew', QUESTION, LONG), first)


@case
def names_change_and_go():
    client, watcher = daemon.client(), daemon.client()
    client.ask('old', 'Hello.', {'max_tokens': 3, 'seed': 1})
    watcher.call('attach', conversation='old', **{'from': 1})
    watcher.until('done')
    client.call('rename', conversation='old', to='new name')
    assert watcher.until('renamed')[-1]['to'] == 'new name'
    assert client.refused('show', conversation='old').code == 'enoent'
    client.ask('new name', 'Again.', {'max_tokens': 3, 'seed': 1}, create=False)
    assert watcher.until('done')[-1]['conversation'] == 'new name'
    client.call('new', name='old')
    assert client.refused('rename', conversation='old', to='new name').code == 'eexist'
    client.call('remove', conversation='new name')
    assert watcher.until('removed')[-1]['ev'] == 'removed'
    assert 'new name' not in [info['name'] for info in client.call('list')['conversations']]


@case
def low_level_verbs_agree_with_each_other():
    client = daemon.client()
    text = 'The lighthouse stood on a rock, 42 metres high — “ça va”.'
    ids = client.call('tokenize', text=text)['tokens']
    back = client.call('detokenize', tokens=ids)
    same(back['text'], text)
    same(back['bytes'], text.encode())
    scored = client.call('score', tokens=ids)
    assert scored['tokens'] == ids and len(scored['logprobs']) == len(ids)
    assert all(value is None or value <= 0 for value in scored['logprobs']), scored['logprobs']
    client.call('new', name='raw', system='')
    assert client.call('feed', conversation='raw', tokens=ids)['tokens'] == len(ids)
    client.call('generate', conversation='raw', attach=True, sampling={'temperature': 0, 'max_tokens': 8,
                                                                       'logprobs': True})
    events = client.until('done')
    chosen = [value for event in events if event['ev'] == 'text' for value in event['logprobs']]
    taken = [value for event in events if event['ev'] == 'text' for value in event['ids']]
    assert len(chosen) == len(taken) and all(value <= 0 for value in chosen)
    client.call('generate', conversation='raw', sampling={
        'temperature': 1.5, 'top_k': 0, 'top_p': 1, 'min_p': 0, 'seed': 3, 'max_tokens': 12, 'top_logprobs': 5})
    for event in (event for event in client.until('done') if event['ev'] == 'text'):
        assert len(event['ids']) == len(event['logprobs']) == len(event['top_logprobs']) == event['tokens']
        for token, logprob, top in zip(event['ids'], event['logprobs'], event['top_logprobs']):
            best = [one['logprob'] for one in top]
            assert len(top) in (5, 6) and best[:5] == sorted(best[:5], reverse=True) and sum(map(math.exp, best)) <= 1
            assert [one['logprob'] for one in top if one['id'] == token] == [logprob], (token, logprob, top)
            assert len(top) == 5 or top[5]['id'] == token
            for one in top:
                whole = client.call('detokenize', tokens=[one['id']])
                assert one.get('bytes', one['text'].encode()) == whole['bytes'] or one['text'].startswith('<|'), one


@case
def a_blank_that_the_tokenizer_puts_in_front_is_not_of_the_text():
    pieces = live.Daemon(live.tiny('f32 1 16 pieces'))
    client = pieces.client()
    ids = client.call('tokenize', text='the sand')['tokens']
    same(client.call('detokenize', tokens=ids)['text'], 'the sand')
    same(client.call('detokenize', tokens=ids, **{'continues': True})['text'], ' the sand')
    assert client.refused('detokenize', tokens=ids, **{'continues': 1}).code == 'einval'
    def answer(name):
        """What came, and what its tokens are with the blank."""
        events = client.until('done', name)
        ids = [i for event in events if event['ev'] == 'text' for i in event['ids']]
        raw = client.call('detokenize', tokens=ids, **{'continues': True})['text']
        return text_of(events, name), None if min(ids, default=0) < 3 or '\ufffd' in raw else raw

    blanks = [0, 0]
    for seed in range(200):
        sampling = {'seed': seed, 'temperature': 3, 'max_tokens': 2, 'logprobs': True}
        client.say('turn', 'and', sampling=sampling)
        text, raw = answer('turn')
        if raw is not None:
            same(text, raw.removeprefix(' '))
            same(client.call('log', conversation='turn')['messages'][-1]['text'], text)
            blanks[0] += raw.startswith(' ')
        client.call('new', name='raw', system='')
        client.call('feed', conversation='raw', text='the')
        client.call('generate', conversation='raw', attach=True, sampling=sampling)
        text, raw = answer('raw')
        if raw is not None:  # it goes on with a text, and has its blank
            same(text, raw)
            blanks[1] += raw.startswith(' ')
        for name in 'turn', 'raw':
            client.call('remove', conversation=name)
        if min(blanks) > 1:
            break
    assert min(blanks) > 0, blanks
    pieces.stop()


@case
def thinking_can_be_left_out_where_the_template_says_how():
    assert daemon.client().refused('new', name='thinks', sampling={'no_thinking': True}).code == 'einval'
    thinks = live.Daemon(live.tiny('f32 1 16 pieces'))
    client = thinks.client()

    def prompt(name):
        return [event for event in client.until('done', name) if event['ev'] == 'prefill'][-1]['total']

    quick = {'max_tokens': 2, 'seed': 3}
    client.say('plain', 'and', sampling=quick)
    plain = prompt('plain')
    opened = [len(client.call('tokenize', text='assistant\n' + text)['tokens'])
              for text in ('', '<think>\n\n</think>\n\n')]
    client.call('new', name='own', sampling={**quick, 'no_thinking': True})
    assert client.call('show', conversation='own')['conversation']['sampling']['no_thinking'] is True
    client.say('own', 'and', attach=True)
    same(prompt('own') - plain, opened[1] - opened[0])
    client.say('own', 'and', attach=False, sampling={**quick, 'no_thinking': False})
    longer = prompt('own')
    client.say('own', 'and', attach=False)
    same(prompt('own') - longer, opened[1] - opened[0])
    thinks.stop()
    thinks = live.Daemon(live.tiny('f32 1 16 pieces'), home=thinks.home)
    again = thinks.client().call('show', conversation='own')['conversation']['sampling']
    assert again['no_thinking'] is True, again
    thinks.stop()


@case
def the_window_rolls_and_says_so():
    client = daemon.client()
    client.call('new', name='rolls', policy='sink:4,128', pin_system=False)
    client.say('rolls', 'one two three four five six seven eight nine ten ' * 30,
               sampling={'max_tokens': 20, 'seed': 5})
    events = client.until('done')
    assert any(event['ev'] == 'evicted' for event in events), [event['ev'] for event in events]
    info = client.call('show', conversation='rolls')['conversation']
    assert info['evicted'] > 0 and info['window'] <= 128 and info['pinned'] == 4, info
    prefill = [event for event in events if event['ev'] == 'prefill']
    assert prefill and prefill[-1]['done'] == prefill[-1]['total'], prefill


@case
def status_tells_the_state():
    client = daemon.client()
    status = client.call('status')
    assert status['state'] == 'ready' and status['pid'] == client.server['pid'], status
    assert status['conversations'] == len(client.call('list')['conversations'])
    assert status['model']['name'] == client.server['model']['name']
    assert any(entry['loaded'] for entry in client.call('models')['models'])


@case
def the_daemon_ends_cleanly():
    daemon.stop()


live.main()
