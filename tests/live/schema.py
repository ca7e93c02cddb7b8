"""Answers that fit a JSON Schema or a regular expression, whatever the model would like to say, within any number of
tokens; the same after a kill and with guessed tokens; and refusals that name what is wrong. Debian's python3-jsonschema
is the judge."""
import json
import os
import re
import time

import live
from live import Daemon, case, same, sink, text_of
from schemas import SCHEMAS

try:
    import jsonschema
except ImportError:
    jsonschema = None

daemon = Daemon(live.model(), '--state', 'none')
REAL = bool(os.environ.get('SINKD_MODEL')) and os.path.exists(os.environ['SINKD_MODEL'])
FREE = {'temperature': 1.0, 'top_k': 0, 'top_p': 1.0, 'min_p': 0.0}


def check(text, schema):
    """The text is one value, and valid."""
    value = json.loads(text)
    if jsonschema is None:
        raise live.Skip('no python3-jsonschema')
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(value)
    return value


def answer(client, name, question, **sampling):
    """Asks in a conversation of its own; what came, and how it ended."""
    client.say(name, question, system='', sampling={**FREE, **sampling})
    events = client.until('done', name)
    client.call('remove', conversation=name)
    return text_of(events, name), events


def least(client, schema):
    """The tokens that the daemon asks for at least."""
    why = client.refused('say', conversation='least', text='x', create=True,
                         sampling={'schema': schema, 'max_tokens': 1})
    assert why.code == 'einval', why
    return int(re.search(r'takes (\d+) tokens', why.text).group(1))


@case
def answers_fit_every_schema():
    """Twenty answers: tokens from the fewest that do to plenty, other seeds, the model's freest choice."""
    client = daemon.client()
    for number, (name, question, schema) in enumerate(SCHEMAS):
        fewest = least(client, schema) if name != 'list' else 8
        for round_, most in enumerate((fewest + number, 300)):
            text, events = answer(client, f'{name}.{round_}', question, schema=schema, seed=17 * number + round_,
                                  max_tokens=most)
            done = events[-1]
            assert done['finish'] == 'end', (name, most, done, text)
            assert done['usage']['generated'] <= most, (name, most, done)
            check(text, schema)


@case
def any_value_ends_within_its_tokens():
    client = daemon.client()
    for number, schema in enumerate((True, {}, {'type': 'object'}, {'type': 'array', 'items': {'type': 'array'}})):
        for most in (2, 3, 9, 40):
            text, events = answer(client, 'any', 'Give me data.', schema=schema, seed=number, max_tokens=most)
            assert events[-1]['finish'] == 'end', events[-1]
            check(text, schema)


@case
def a_regex_is_matched_as_a_whole():
    client = daemon.client()
    for number, regex in enumerate((r'\(\d{3}\) \d{3}-\d{4}', '(yes|no), because [a-z ]{5,60}[.]',
                                    '[\u00e0-\u00fc\u4e00-\u9fa5]{1,9}', r'(\w+ ){2}(\w+)?', '[^a-z]*z')):
        for most in (24, 60):
            text, events = answer(client, 'regex', 'Say something.', regex=regex, seed=number, max_tokens=most)
            assert re.fullmatch(regex, text), (regex, text)
            assert events[-1]['finish'] == 'end'


@case
def a_conversation_may_have_one_of_its_own():
    client = daemon.client()
    schema = {'type': 'integer', 'minimum': 1, 'maximum': 5}
    info = client.call('new', name='own', sampling={**FREE, 'schema': schema, 'seed': 1})['conversation']
    assert info['sampling']['schema'] == schema
    assert 1 <= json.loads(client.ask('own', 'How many?')) <= 5
    client.call('regenerate', conversation='own', attach=True)
    client.until('done', 'own')
    assert re.fullmatch('[ab]{3}', client.ask('own', 'Which?', {'regex': '[ab]{3}'}))
    assert len(client.ask('own', 'Talk.', {'regex': '', 'max_tokens': 20, 'temperature': 0})) > 3
    assert 1 <= json.loads(client.ask('own', 'How many?')) <= 5
    client.call('fork', conversation='own', to='fork')
    assert client.call('show', conversation='fork')['conversation']['sampling']['schema'] == schema
    assert all('schema' not in one['sampling'] for one in client.call('list')['conversations'])
    client.call('generate', conversation='fork', attach=True)
    assert 1 <= json.loads(text_of(client.until('done', 'fork'), 'fork')) <= 5


@case
def what_cannot_be_is_refused_and_nothing_changes():
    client = daemon.client()
    client.ask('calm', 'Hello.', {'max_tokens': 4})
    before = client.call('log', conversation='calm')['messages']
    for sampling, word in (({'schema': {'not': {}}}, '/not'),
                           ({'schema': {'type': 'string', 'maxLength': 3}, 'max_tokens': 1}, 'max_tokens'),
                           ({'schema': {'enum': []}}, 'fits'), ({'schema': 'x'}, 'map'), ({'regex': '(a'}, 'regex'),
                           ({'regex': 'a', 'schema': {}}, 'both'), ({'regex': 7}, 'string')):
        for op, fields in (('say', {'text': 'x'}), ('regenerate', {}), ('generate', {})):
            why = client.refused(op, conversation='calm', sampling=sampling, **fields)
            assert why.code == 'einval' and word in why.text, why
        assert client.refused('new', sampling=sampling).code == 'einval'
    assert client.call('log', conversation='calm')['messages'] == before
    nested = {}
    for _ in range(40):
        nested = {'items': nested}
    assert client.refused('say', conversation='calm', text='x', sampling={'schema': nested['items']['items'][
        'items']['items']['items']['items']['items']['items']['items']['items']['items']}).code == 'einval'


@case
def guesses_change_nothing():
    """Log-probabilities too: each token is what it would be."""
    other = Daemon(live.model(), '--state', 'none', '--speculation', 'off')
    eager = Daemon(live.model(), '--state', 'none', '--speculation', '16')
    clients = [one.client() for one in (daemon, eager, other)]
    for name, question, schema in SCHEMAS[::4]:
        told = []
        for client in clients:
            events = answer(client, name, question, schema=schema, seed=5, max_tokens=120, top_logprobs=3)[1]
            told.append([(event['text'], event['ids'], event['logprobs'], event['top_logprobs']) for event in events
                         if event['ev'] == 'text'])
        assert told[0] == told[2] and told[1] == told[2], name
    status = clients[1].call('status')
    assert status['accepted'] > 20, status
    assert clients[2].call('status')['drafted'] == 0
    for client in clients[1:]:
        client.close()
    eager.stop()
    other.stop()


@case
def an_answer_goes_on_after_a_kill():
    schema = {'type': 'array', 'minItems': 12, 'maxItems': 60,
              'items': {'type': 'object', 'required': ['word'], 'properties': {'word': {'type': 'string'}}}}
    sampling = {**FREE, 'schema': schema, 'seed': 3, 'max_tokens': 250 if REAL else 3000}
    one = Daemon(live.model())
    client = one.client()
    whole = client.ask('whole', live.TALK, sampling, system='')
    seq = client.call('say', conversation='cut', text=live.TALK, create=True, system='', sampling=sampling)['seq']
    for pause in (0.5, 0.5):
        time.sleep(pause * live.SLOW if REAL else 0.05)
        client.close()
        one.kill()
        one = Daemon(live.model(), home=one.home)
        client = one.client()
    client.call('attach', conversation='cut', **{'from': seq})
    events = client.until('done', 'cut')
    same(text_of(events, 'cut'), whole)
    assert events[-1]['finish'] == 'end'
    check(whole, schema)
    client.close()
    one.stop()


@case
def many_streams_at_once():
    """Each has a constraint of its own; others have none."""
    client = daemon.client()
    names = []
    for number, (name, question, schema) in enumerate(SCHEMAS + SCHEMAS[:4]):
        names.append(f'many.{number}')
        sampling = {**FREE, 'seed': number, 'max_tokens': 200}
        if number < len(SCHEMAS):
            sampling['schema'] = schema
        client.say(names[-1], question, sampling=sampling)
    texts, left = {name: '' for name in names}, set(names)
    while left:
        event = client.event()
        if event['ev'] == 'text':
            texts[event['conversation']] += event['text']
        elif event['ev'] == 'done':
            left.remove(event['conversation'])
    for number, (name, _, schema) in enumerate(SCHEMAS):
        check(texts[f'many.{number}'], schema)


@case
def the_command_takes_a_file():
    home = live.directory()
    path = os.path.join(home, 'schema.json')
    schema = {'type': 'object', 'properties': {'b': {'type': 'integer'}, 'a': {'type': 'boolean'}},
              'required': ['b', 'a']}
    with open(path, 'w', encoding='utf-8') as to:
        json.dump(schema, to)
    done = sink(daemon, 'ask', '--schema', path, '-n', '60', 'Give me a number.')
    assert done.returncode == 0 and done.stdout.endswith('}\n') and done.stdout.count('\n') == 1, done
    assert list(check(done.stdout, schema)) == ['b', 'a']
    done = sink(daemon, 'ask', '--regex', '[0-9]{4}', 'Which year?')
    assert re.fullmatch('[0-9]{4}\n', done.stdout), done
    made = sink(daemon, 'new', 'typed', '--schema', path)
    assert made.returncode == 0, made
    done = sink(daemon, 'ask', '-c', 'typed', 'Give me a number.')
    check(done.stdout, schema)
    exported = sink(daemon, 'export', 'typed', '--format', 'json', '-o', '-')
    copied = sink(daemon, 'import', '-', 'typed.2', stdin=exported.stdout)
    assert copied.returncode == 0, copied
    client = daemon.client()
    assert client.call('show', conversation='typed.2')['conversation']['sampling']['schema'] == schema
    before = len(client.call('list')['conversations'])
    with open(path, 'w', encoding='utf-8') as to:
        to.write('{"not": {}}')
    done = sink(daemon, 'ask', '--schema', path, 'x')
    assert done.returncode == 2 and '/not' in done.stderr and not done.stdout, done
    with open(path, 'w', encoding='utf-8') as to:
        to.write('{"not": ')
    for words in (('ask', '--schema', path, 'x'), ('new', '--schema', path), ('regen', 'typed', '--schema', path)):
        done = sink(daemon, *words)
        assert done.returncode == 2 and 'JSON' in done.stderr, done
    assert sink(daemon, 'ask', '--schema', home + '/none', 'x').returncode != 0
    assert sink(daemon, 'ask', '--regex', '(', 'x').returncode == 2
    assert len(client.call('list')['conversations']) == before


live.main()
daemon.stop()
