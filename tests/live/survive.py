"""What a daemon leaves behind, and what the next one makes of it: histories, streams, caches, answers in flight."""
import os
import shutil
import signal
import sqlite3
import stat
import time

import live
from live import Daemon, case, dense, directory, eventually, main, same, text_of, tiny
from supervise import Service

POLICY = 'sink:4,188'  # some pages, soon full
FIRM = {'seed': 7, 'temperature': 0.9, 'max_tokens': 30}
LONG = {**FIRM, 'max_tokens': 700}


def state(daemon):
    return os.path.join(daemon.home, 'state', 'sinkd')


def files(daemon):
    return sorted(name for name in os.listdir(os.path.join(state(daemon), 'caches')) if name.endswith('.kv'))


def everything(client, name, to=None):
    """All events of a conversation, from the first on; up to number `to`."""
    info = client.call('attach', conversation=name, **{'from': 1})['conversation']
    last = info['seq'] - 1 if to is None else to
    events = []
    while not events or events[-1]['seq'] < last:
        events.append(client.event())
    client.call('detach', attachment=client.attachments.pop(name))
    dense(events, 1)
    return events


def idle(client, name):
    return eventually(lambda: (lambda info: info['state'] == 'idle' and info)(
        client.call('show', conversation=name)['conversation']), f'{name} is idle')


def rested(client, name):
    """Waits until the cache of an idle conversation is in its file."""
    idle(client, name)
    time.sleep(1.0 * live.SLOW)


def make(client, name, sampling=None, policy=POLICY, words=300):
    """A conversation whose window is full, and more."""
    client.call('new', name=name, policy=policy, sampling=sampling or FIRM, system='')
    client.call('feed', conversation=name, text='a bc def ' * words, wait=live.WAIT)
    client.ask(name, 'Say something.', create=False)


def prompt(client, name, text='Go on.'):
    """Asks once more; the answer and the `restored` events that came before it."""
    client.call('attach', conversation=name)
    client.call('say', conversation=name, text=text)
    events = client.until('done', name)
    client.call('detach', attachment=client.attachments.pop(name))
    return text_of(events, name), [event for event in events if event['ev'] == 'restored']


def reference(sampling, name='a', prompts=('Go on.',), path=None, options=(), **more):
    """The answers of a daemon that is left in peace, to a conversation made by make()."""
    daemon = Daemon(path or tiny(), '--state', 'none', *options)
    client = daemon.client()
    make(client, name, sampling, **more)
    answers = [prompt(client, name, text)[0] for text in prompts]
    client.close()
    daemon.stop()
    return answers


@case
def history_and_events_outlive_a_kill():
    daemon = Daemon(tiny())
    client = daemon.client()
    make(client, 'a')
    messages = client.call('log', conversation='a')['messages']
    events = everything(client, 'a')
    client.close()
    daemon.kill()
    daemon = Daemon(tiny(), home=daemon.home)
    client = daemon.client()
    same(client.call('log', conversation='a')['messages'], messages, 'messages')
    same(everything(client, 'a', len(events)), events, 'events')
    info = client.call('show', conversation='a')['conversation']
    assert info['tier'] in ('disk', 'replay') and info['policy'] == POLICY and info['seq'] > len(events), info
    client.close()
    daemon.stop()


@case
def files_are_the_owners_alone():
    home = directory()
    os.makedirs(os.path.join(home, 'state', 'sinkd'), mode=0o755)  # somebody was there first
    daemon = Daemon(tiny(), home=home, preexec=lambda: os.umask(0))
    client = daemon.client()
    make(client, 'a')
    rested(client, 'a')
    assert files(daemon), 'no cache was written'
    for folder, folders, names in os.walk(state(daemon)):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700, folder
        for name in names:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600, name
        assert folders in ([], ['caches']), folders
    client.close()
    daemon.stop()


def restored_after(end, service, sampling=None):
    """Makes a conversation, ends the daemon by end(service), asks once more; the answer and the restored event."""
    client = service.client()
    make(client, 'a', sampling)
    rested(client, 'a')
    before = client.call('show', conversation='a')['conversation']
    client.close()
    end(service)
    service.wait_ready()
    client = service.client()
    after = client.call('show', conversation='a')['conversation']
    for key in ('tokens', 'pinned', 'window', 'evicted', 'evicted_end', 'messages'):
        assert after[key] == before[key], f'{key}: {before[key]}, then {after[key]}'
    answer, restored = prompt(client, 'a')
    assert len(restored) == 1, restored
    client.close()
    return answer, restored[0], before['tokens']


@case
def a_cache_comes_back_from_memory():
    expected = reference(FIRM)
    for end in (Service.restart, Service.kill):
        service = Service(tiny())
        answer, restored, tokens = restored_after(end, service)
        assert restored['from'] == 'memory' and restored['recomputed'] == 0 and restored['tokens'] == tokens, restored
        same([answer], expected, 'answers')
        service.stop()


@case
def a_cache_comes_back_from_its_file():
    expected = reference(FIRM)
    for end in (Service.restart, Service.kill):
        service = Service(tiny(), room=0)
        answer, restored, tokens = restored_after(end, service)
        assert restored['from'] == 'disk' and restored['recomputed'] == 0 and restored['tokens'] == tokens, restored
        same([answer], expected, 'answers')
        service.stop()


@case
def a_cache_in_8_bits_comes_back():
    path, option = tiny('f16 0 32'), ('--cache-type', 'q8_0')
    expected = reference(FIRM, path=path, options=option)
    for room, source in ((8, 'memory'), (0, 'disk')):
        service = Service(path, *option, room=room)
        answer, restored, tokens = restored_after(Service.kill, service)
        assert restored['from'] == source and restored['recomputed'] == 0 and restored['tokens'] == tokens, restored
        same([answer], expected, 'answers')
        service.stop()


@case
def another_type_of_cache_is_made_anew():
    path = tiny('f16 0 32')
    daemon = Daemon(path)
    client = daemon.client()
    make(client, 'a')
    rested(client, 'a')
    client.close()
    daemon.stop()
    daemon = Daemon(path, '--cache-type', 'q8_0', home=daemon.home)
    client = daemon.client()
    answer, restored = prompt(client, 'a')
    assert [event['from'] for event in restored] == ['replay'], restored
    client.close()
    daemon.stop()
    assert 'the type of keys and values' in daemon.text(), daemon.text()


@case
def without_either_the_text_is_read_anew():
    def end(service):
        service.kill(again=False)
        shutil.rmtree(os.path.join(state(service), 'caches'))
        service.start()
    service = Service(tiny(), room=0)
    answer, restored, tokens = restored_after(end, service)
    assert restored['from'] == 'replay' and restored['recomputed'] == restored['tokens'] == tokens, restored
    same([answer], reference(FIRM), 'answers')
    service.stop()


def in_flight(service, end, tokens=60):
    """Ends the daemon in the middle of an answer; the whole answer, and the events of both lives."""
    client = service.client()
    make(client, 'a', LONG)
    client.call('attach', conversation='a')
    client.call('say', conversation='a', text='Go on.')
    events = [client.event()]
    while sum(event['ev'] == 'text' for event in events) < tokens:
        events.append(client.event())
    client.close()
    end(service)
    service.wait_ready()
    client = service.client()
    client.call('attach', conversation='a', **{'from': events[-1]['seq'] + 1})
    events += client.until('done', 'a')
    dense(events)
    log = client.call('log', conversation='a')['messages'][-1]
    same(text_of(events, 'a'), log['text'], 'text of the events and of the log')
    done = events[-1]
    assert done['usage']['generated'] == sum(event.get('tokens', 0) for event in events if event['ev'] == 'text') or \
        done['finish'] != 'length', done
    client.close()
    return log['text'], events


@case
def an_answer_goes_on_after_a_kill():
    expected = reference(LONG)
    def bare(service):
        service.kill(again=False)
        shutil.rmtree(os.path.join(state(service), 'caches'))
        service.start()
    for room, end in ((8, Service.kill), (8, Service.restart), (0, Service.kill), (0, Service.restart), (0, bare)):
        service = Service(tiny(), room=room)
        text, events = in_flight(service, end)
        same([text], expected, f'answers with room for {room}')
        kinds = [event['ev'] for event in events]
        assert kinds.count('answer') == 1 and kinds.count('restored') == 1, kinds
        restored = next(event for event in events if event['ev'] == 'restored')
        assert restored['from'] == ('memory' if room else 'replay' if end is bare else 'disk'), restored
        if room or end is Service.restart:
            assert restored['recomputed'] == 0, restored
        elif end is Service.kill:
            assert restored['recomputed'] <= 128, restored  # a page that was not full, and one that was being written
        service.stop()


@case
def a_prompt_that_was_being_read_is_read_on():
    service = Service(tiny(), '--gap', '1')
    client = service.client()
    client.call('new', name='a', policy=POLICY, sampling=FIRM, system='')
    client.call('attach', conversation='a')
    client.call('say', conversation='a', text='a bc def ' * 4000)
    client.until('prefill', 'a')
    service.kill()
    service.wait_ready()
    client.close()
    client = service.client()
    client.call('attach', conversation='a', **{'from': 1})
    events = client.until('done', 'a')
    dense(events, 1)
    client.close()
    service.stop()
    daemon = Daemon(tiny(), '--state', 'none')
    client = daemon.client()
    client.call('new', name='a', policy=POLICY, sampling=FIRM, system='')
    same(text_of(events, 'a'), client.ask('a', 'a bc def ' * 4000, create=False), 'answers')
    client.close()
    daemon.stop()


@case
def a_request_with_a_key_is_carried_out_once():
    service = Service(tiny())
    client = service.client()
    first = client.call('new', name='a', policy=POLICY, sampling=FIRM, key=11)
    same(client.call('new', name='a', policy=POLICY, sampling=FIRM, key=11), first, 'replies')
    said = client.call('say', conversation='a', text='Hello.', key=12, attach=True)
    client.until('done', 'a')
    service.kill()
    service.wait_ready()
    client.close()
    client = service.client()
    again = client.call('say', conversation='a', text='Hello.', key=12, attach=True)
    assert 'attachment' not in again and again['seq'] == said['seq'] and again['message'] == said['message'], again
    assert idle(client, 'a')['messages'] == said['message'] + 2
    assert client.refused('new', name='a', key=13).code == 'eexist'
    assert client.refused('new', name='b', key=-1).code == 'einval'
    client.close()
    service.stop()


@case
def old_events_come_from_the_disk():
    daemon = Daemon(tiny(), '--log-bytes', '4096')
    client = daemon.client()
    client.call('new', name='a', policy=POLICY, sampling={**FIRM, 'max_tokens': 400}, system='')
    answer = client.ask('a', 'Hello.', create=False)
    events = everything(client, 'a')
    same(text_of(events, 'a'), answer, 'answers')
    readers = [daemon.client() for _ in range(3)]
    for reader in readers:
        reader.call('attach', conversation='a', credit=900, **{'from': 2})
    client.ask('a', 'Once more.', create=False)
    for reader in readers:
        number = reader.call('attach', conversation='a', **{'from': 2})['conversation']['seq']
        got = [event for event in reader.kept if False]
        reader.kept.clear()
        while not got or got[-1]['seq'] < number - 1:
            got.append(reader.event())
        dense(got, 2)
        reader.close()
    client.close()
    daemon.stop()


@case
def a_fork_shares_its_text_and_outlives_its_parent():
    service = Service(tiny())
    client = service.client()
    make(client, 'a')
    client.ask('a', 'And more?', create=False)
    messages = client.call('log', conversation='a')['messages']
    client.call('fork', conversation='a', to='b')
    client.call('fork', conversation='a', to='c', message=2)
    client.call('rewind', conversation='a', message=1)
    client.ask('a', 'Another way.', create=False)
    same(client.call('log', conversation='b')['messages'], messages, 'messages of the fork')
    same(client.call('log', conversation='c')['messages'], messages[:2], 'messages of the early fork')
    client.call('remove', conversation='a')
    service.kill()
    service.wait_ready()
    client.close()
    client = service.client()
    same(client.call('log', conversation='b')['messages'], messages, 'messages of the fork')
    same(client.call('log', conversation='c')['messages'], messages[:2], 'messages of the early fork')
    left = prompt(client, 'b')[0]
    client.call('fork', conversation='b', to='d', message=len(messages))
    assert prompt(client, 'd')[0] == left, 'the fork of a fork speaks otherwise'
    assert client.refused('show', conversation='a').code == 'enoent'
    client.close()
    service.stop()


@case
def rewinding_works_after_a_restart():
    service = Service(tiny())
    client = service.client()
    make(client, 'a')
    client.ask('a', 'One.', create=False)
    first = client.ask('a', 'Two.', create=False)
    service.kill()
    service.wait_ready()
    client.close()
    client = service.client()
    count = client.call('show', conversation='a')['conversation']['messages']
    reply = client.call('rewind', conversation='a', message=count - 2)
    assert reply['by'] == 'cache', reply
    same(client.ask('a', 'Two.', create=False), first, 'answers')
    reply = client.call('rewind', conversation='a', message=0)
    assert reply['by'] in ('cache', 'replay') and reply['conversation']['messages'] == 0, reply
    client.close()
    service.stop()


@case
def caches_leave_memory_for_the_disk_and_come_back():
    pages = Daemon(tiny(), '--state', 'none')
    client = pages.client()
    room = client.call('status')['page_bytes'] * 64
    client.close()
    pages.stop()
    daemon = Daemon(tiny(), '--cache', str(room), '--batch', '64')
    client = daemon.client()
    names = [f'c{number}' for number in range(16)]
    for name in names:
        make(client, name)
        if name == 'c1':
            client.call('pin', conversation=name)
    tiers = {info['name']: info['tier'] for info in client.call('list')['conversations']}
    assert list(tiers.values()).count('disk') >= 2 and tiers['c1'] == 'memory' and tiers['c15'] == 'memory', tiers
    answer, restored = prompt(client, 'c0')
    assert [event['from'] for event in restored] == ['disk'] and restored[0]['recomputed'] == 0, restored
    same([answer], reference(FIRM), 'answers')
    client.close()
    daemon.stop()


@case
def an_idle_cache_leaves_by_the_clock():
    daemon = Daemon(tiny(), '--cache-idle', '1')
    client = daemon.client()
    make(client, 'a')
    eventually(lambda: client.call('show', conversation='a')['conversation']['tier'] == 'disk', 'it left')
    restored = prompt(client, 'a')[1]
    assert [event['from'] for event in restored] == ['disk'] and restored[0]['recomputed'] == 0, restored
    client.close()
    daemon.stop()


@case
def few_files_of_caches_are_kept_when_few_may_be():
    daemon = Daemon(tiny(), '--cache-files', '1M')
    client = daemon.client()
    for name in ('a', 'b', 'c', 'd', 'e', 'f'):
        make(client, name)
        rested(client, name)
    status = client.call('status')['store']
    assert 0 < status['cache_bytes'] <= 1 << 20 and status['caches'] == len(files(daemon)), status
    client.close()
    daemon.stop()


@case
def what_is_removed_is_gone():
    daemon = Daemon(tiny())
    client = daemon.client()
    make(client, 'a')
    client.ask('a', 'The word is Zyzzyvarium, remember it.', create=False)
    client.call('new', name='b')
    rested(client, 'a')
    found = client.call('search', text='zyzzyvarium')['matches']
    assert [match['conversation'] for match in found] == ['a'] and found[0]['match'] == 'Zyzzyvarium', found
    client.call('remove', conversation='a')
    assert not client.call('search', text='zyzzyvarium')['matches']

    def gone():
        for folder, _, names in os.walk(state(daemon)):
            for name in names:
                with open(os.path.join(folder, name), 'rb') as file:
                    if b'zyzzyvar' in file.read().lower():
                        return False
        return True
    eventually(gone, 'the word is nowhere any more')
    assert not files(daemon), files(daemon)
    client.close()
    daemon.stop()


@case
def a_search_finds_what_was_said():
    daemon = Daemon(tiny())
    client = daemon.client()
    for name in ('a', 'b'):
        client.call('new', name=name, system=f'You are {name}. 100% "sure".', sampling={'max_tokens': 1})
        client.ask(name, f'Tell me of the Queen of {name}\nand of nobody else', create=False)
    client.call('fork', conversation='a', to='c')
    names = lambda **more: sorted((match['conversation'], match['message'])
                                  for match in client.call('search', **more)['matches'])
    eventually(lambda: names(text='QUEEN OF a') == [('a', 1), ('c', 1)], 'the fork is found too')
    assert names(text='queen', conversation='b') == [('b', 1)]
    assert names(text='100% "') == [('a', 0), ('b', 0), ('c', 0)]
    assert names(text='a. 100_') == [] and names(text='%') == [('a', 0), ('b', 0), ('c', 0)]
    match = client.call('search', text='Queen', conversation='b')['matches'][0]
    assert (match['before'], match['after']) == ('Tell me of the ', ' of b'), match
    assert client.call('search', text='e', count=1)['more'] is True
    assert client.refused('search', text='').code == 'einval'
    assert client.refused('search', text='x', conversation='zz').code == 'enoent'
    client.close()
    daemon.stop()


@case
def a_newer_store_is_left_alone():
    daemon = Daemon(tiny())
    client = daemon.client()
    client.call('new', name='a')
    client.close()
    daemon.stop()
    path = os.path.join(state(daemon), 'sinkd.db')
    with sqlite3.connect(path) as database:
        version = database.execute('PRAGMA user_version').fetchone()[0]
        database.execute(f'PRAGMA user_version = {version + 1}')
    database.close()
    with open(path, 'rb') as file:
        before = file.read()
    again = Daemon(tiny(), home=daemon.home, ready=False)
    assert again.wait() == 1 and 'version' in again.text(), again.text()
    with open(path, 'rb') as file:
        same(file.read(), before, 'files')


@case
def a_store_is_one_daemons():
    daemon = Daemon(tiny())
    other = Daemon(tiny(), '--state', state(daemon), ready=False)
    assert other.wait() == 5 and 'sinkd' in other.text(), other.text()
    daemon.stop()


@case
def nothing_is_kept_where_nothing_shall_be():
    daemon = Daemon(tiny(), '--state', 'none')
    client = daemon.client()
    make(client, 'a')
    assert client.call('status')['store'] == {'state': 'off'}
    assert client.refused('search', text='x').code == 'einval'
    client.call('fork', conversation='a', to='b')
    assert prompt(client, 'a')[0] == prompt(client, 'b')[0]
    client.close()
    daemon.stop()
    assert not os.path.exists(os.path.join(state(daemon), 'sinkd.db'))


@case
def another_models_conversations_are_refused_and_kept():
    daemon = Daemon(tiny())
    client = daemon.client()
    make(client, 'a')
    client.close()
    daemon.stop()
    other = Daemon(tiny('q8_0'), home=daemon.home)
    client = other.client()
    info = client.call('show', conversation='a')['conversation']
    assert info['messages'] == 2, info
    # The same vocabulary: the text is read anew. The file of the other weights is set aside.
    restored = prompt(client, 'a')[1]
    assert [event['from'] for event in restored] == ['replay'], restored
    client.close()
    other.stop()


@case
def all_come_back_at_once_when_that_is_wanted():
    daemon = Daemon(tiny())
    client = daemon.client()
    for name in ('a', 'b', 'c'):
        make(client, name)
    client.close()
    daemon.stop()
    daemon = Daemon(tiny(), '--restore-at-start', home=daemon.home)
    client = daemon.client()
    eventually(lambda: all(info['tier'] == 'memory' for info in client.call('list')['conversations']), 'all are back')
    client.close()
    daemon.stop()


@case
def the_last_turn_is_safe_when_the_end_is_asked_for():
    service = Service(tiny())
    client = service.client()
    make(client, 'a', LONG)
    client.call('say', conversation='a', text='Go on.', attach=True)
    client.until('text', 'a')
    began = time.monotonic()
    service.signal(signal.SIGTERM)
    while client.event()['ev'] != 'bye':
        pass
    assert time.monotonic() - began < 10 * live.SLOW
    client.close()
    service.wait_ended()
    service.start()
    service.wait_ready()
    client = service.client()
    idle(client, 'a')
    same([client.call('log', conversation='a')['messages'][-1]['text']], reference(LONG), 'answers')
    client.close()
    service.stop()


if __name__ == '__main__':
    main()
