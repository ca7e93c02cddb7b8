"""Gemma 3 270M ($SINKD_GEMMA): a model without a chat template, whose turns are plain text and must end all the same."""
import os

import live
from live import case

MODEL = os.environ.get('SINKD_GEMMA')
GREEDY = {'temperature': 0, 'max_tokens': 80}
_daemon = []


def _client():
    if not MODEL:
        raise live.Skip('SINKD_GEMMA names no model')
    if not _daemon:
        _daemon.append(live.Daemon(MODEL))
    return _daemon[0].client()


def _ask(client, name, text, **more):
    """The answer, and how it ended."""
    client.ask(name, text, dict(GREEDY, **more.pop('sampling', {})), **more)
    message = client.call('log', conversation=name)['messages'][-1]
    return message['text'], message['finish']


@case
def an_answer_ends_where_the_users_turn_would_begin():
    client = _client()
    assert client.call('status')['model']['turns'] == 'plain'
    for name, question, says in (('a', 'What is the capital of France?', 'Paris'),
                                 ('a', 'What is the capital of Italy?', 'Rome')):
        text, finish = _ask(client, name, question)
        assert finish == 'stop' and says in text and 'User:' not in text, (text, finish)


@case
def a_system_prompt_stands_ahead_and_is_pinned():
    client = _client()
    text, finish = _ask(client, 'b', 'Who are you?', system='This is a talk with Ada, a helpful engineer from London.')
    assert finish == 'stop' and 'User:' not in text, (text, finish)
    messages = client.call('log', conversation='b')['messages']
    assert [message['role'] for message in messages] == ['system', 'user', 'assistant'], messages
    info = client.call('show', conversation='b')['conversation']
    assert info['pinned'] >= messages[0]['tokens'] > 5, info


@case
def what_a_client_stops_at_counts_too():
    text, finish = _ask(_client(), 'c', 'What is the capital of France?', sampling={'stop': ['Par']})
    assert finish == 'stop' and text.strip() == 'The capital of France is', (text, finish)


@case
def generating_goes_on_whatever_comes():
    client = _client()
    client.call('new', name='d', system='')
    client.call('feed', conversation='d', text='User: one\n\nUser: two\n\nUser: three\n\n')
    client.call('generate', conversation='d', sampling=dict(GREEDY, max_tokens=12), attach=True)
    while client.event()['ev'] != 'done':
        pass
    message = client.call('log', conversation='d')['messages'][-1]
    assert message['text'].startswith('User:') and message['finish'] == 'length', message


live.main()
