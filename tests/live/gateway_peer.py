"""Clients of others against the gateway: gateway_peer.py URL PART, run by gateway.py under $SINKD_PYTHON.

They know nothing of sinkd; each part fails by an exception.
"""
import asyncio
import math
import sys

import openai

URL, PART = sys.argv[1], sys.argv[2]
client = openai.OpenAI(base_url=URL, api_key='none', max_retries=0)
ASK = [{'role': 'user', 'content': 'Name a river.'}]


def models():
    listed = client.models.list().data
    assert len(listed) == 1 and client.models.retrieve(listed[0].id).id == listed[0].id


def chat():
    whole = client.chat.completions.create(model='any', messages=ASK, max_tokens=12, temperature=0, seed=1)
    assert whole.choices[0].message.role == 'assistant' and whole.choices[0].finish_reason in ('length', 'stop')
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(client.chat.completions.create(model='any', messages=ASK, max_completion_tokens=12, temperature=0, seed=1,
                                                 stream=True, stream_options={'include_usage': True}))
    said = ''.join(c.choices[0].delta.content or '' for c in chunks if c.choices)
    assert said == whole.choices[0].message.content, (said, whole)
    assert chunks[0].choices[0].delta.role == 'assistant' and chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({c.id for c in chunks}) == 1 and chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def parts():
    message = {'role': 'user', 'content': [{'type': 'text', 'text': 'Name '}, {'type': 'text', 'text': 'a river.'}]}
    made = [client.chat.completions.create(model='any', messages=m, max_tokens=8, temperature=0).choices[0].message.content
            for m in ([message], ASK)]
    assert made[0] == made[1], made


def logprobs():
    made = client.chat.completions.create(model='any', messages=ASK, max_tokens=6, temperature=0, logprobs=True,
                                          top_logprobs=1)
    entries = made.choices[0].logprobs.content
    assert ''.join(e.token for e in entries) == made.choices[0].message.content
    assert all(e.logprob <= 0 and bytes(e.bytes).decode() == e.token for e in entries)
    assert all([t.token for t in e.top_logprobs] == [e.token] for e in entries), 'the likeliest was taken'


def alternatives():
    how = {'model': 'any', 'max_tokens': 12, 'temperature': 1.5, 'seed': 4, 'logprobs': True, 'top_logprobs': 5}
    made = client.chat.completions.create(messages=ASK, **how).choices[0]
    chunks = [c.choices[0] for c in client.chat.completions.create(messages=ASK, stream=True, **how) if c.choices]
    streamed = [e for c in chunks if c.logprobs for e in c.logprobs.content]
    assert made.logprobs.content == streamed and ''.join(e.token for e in streamed) == made.message.content
    others = 0
    for entry in streamed:
        best = [one.logprob for one in entry.top_logprobs]
        assert len(best) == 5 and best == sorted(best, reverse=True) and sum(map(math.exp, best)) <= 1 + 1e-9, entry
        assert best[-1] >= entry.logprob or entry.token in [one.token for one in entry.top_logprobs], entry
        others += entry.token != entry.top_logprobs[0].token
    assert others, 'not always the likeliest is taken at this temperature'
    # characters of several tokens: an entry for each, whose bytes are the text's
    how = {'model': 'any', 'max_tokens': 30, 'temperature': 0, 'logprobs': True, 'top_logprobs': 20,
           'extra_body': {'guided_regex': '(🌊🐟){3}'}}
    made = client.chat.completions.create(messages=ASK, **how).choices[0]
    entries = made.logprobs.content
    assert b''.join(bytes(e.bytes) for e in entries).decode() == made.message.content == '🌊🐟' * 3, made
    assert len(entries) > 6 and all(len(e.top_logprobs) == 20 for e in entries), entries
    made = client.completions.create(model='any', prompt='Once upon', max_tokens=6, temperature=1.5, seed=4, logprobs=3)
    told = made.choices[0].logprobs
    assert len(told.top_logprobs) == len(told.tokens) == len(told.token_logprobs) and told.text_offset[0] == 0
    for token, logprob, top in zip(told.tokens, told.token_logprobs, told.top_logprobs):
        assert 3 <= len(top) <= 4, top
        assert '\ufffd' in token or top[token] == logprob, (token, logprob, top)  # a part of a character has no name
    for wrong in ({'logprobs': True, 'top_logprobs': 21}, {'logprobs': True, 'top_logprobs': -1}):
        try:
            client.chat.completions.create(model='any', messages=ASK, **wrong)
            raise AssertionError(wrong)
        except openai.BadRequestError as e:
            assert e.param == 'top_logprobs', e


def completions():
    made = client.completions.create(model='any', prompt=['Once upon', 'The sea'], max_tokens=6, temperature=0, logprobs=0)
    assert [c.index for c in made.choices] == [0, 1] and made.usage.completion_tokens > 2
    assert ''.join(made.choices[0].logprobs.tokens) == made.choices[0].text
    one = client.completions.create(model='any', prompt='Once upon', max_tokens=6, temperature=0, echo=True)
    assert one.choices[0].text == 'Once upon' + made.choices[0].text, (one, made)
    pieces = client.completions.create(model='any', prompt='Once upon', max_tokens=6, temperature=0, stream=True)
    assert ''.join(p.choices[0].text for p in pieces) == made.choices[0].text


def errors():
    for wrong, kind in (({'messages': []}, openai.BadRequestError), ({'temperature': -1}, openai.BadRequestError),
                        ({'n': 2}, openai.BadRequestError), ({'stop': 'x' * 999}, openai.BadRequestError),
                        ({'tools': [{'type': 'function', 'function': {'name': 'f'}}]}, openai.BadRequestError)):
        try:
            client.chat.completions.create(**{'model': 'any', 'messages': ASK, 'max_tokens': 4, **wrong})
        except kind as error:
            assert error.body['message'] and 'type' in error.body and 'param' in error.body, error.body
        else:
            raise AssertionError(f'{wrong} was taken')
    try:
        client.models.retrieve('none/such')
    except openai.NotFoundError as error:
        assert error.code == 'model_not_found'
    else:
        raise AssertionError('a model that is not there')


def responses():
    first = client.responses.create(model='any', input='Name a colour.', max_output_tokens=8, temperature=0,
                                    instructions='Be brief.')
    assert first.output_text and first.status in ('completed', 'incomplete') and first.usage.output_tokens > 0
    events = list(client.responses.create(model='any', input='Another.', previous_response_id=first.id,
                                          max_output_tokens=8, stream=True, instructions='Be brief.'))
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert events[0].type == 'response.created' and events[-1].type in ('response.completed', 'response.incomplete')
    second = events[-1].response
    assert second.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens, (first, second)
    assert ''.join(e.delta for e in events if e.type == 'response.output_text.delta') == second.output_text
    again = list(client.responses.retrieve(second.id, stream=True, starting_after=5))
    assert [e.sequence_number for e in again] == list(range(6, len(events)))
    assert again[-1].response.output_text == second.output_text
    assert client.responses.retrieve(second.id).output_text == second.output_text
    other = client.responses.create(model='any', input='Something else.', previous_response_id=first.id,
                                    max_output_tokens=4)  # behind the first, where the second stands already
    assert other.output_text and client.responses.retrieve(second.id).output_text == second.output_text
    client.responses.delete(other.id)
    try:
        client.responses.retrieve(other.id)
    except openai.NotFoundError:
        pass
    else:
        raise AssertionError('a response that was deleted')


def background():
    endless = {'presence_penalty': -10.0, 'frequency_penalty': -10.0}  # what was said once is said again
    begun = client.responses.create(model='any', input='Talk for ever.', background=True, max_output_tokens=9000,
                                    temperature=0, extra_body=endless)
    assert begun.status == 'in_progress' and begun.background
    assert client.responses.retrieve(begun.id).status == 'in_progress'
    ended = client.responses.cancel(begun.id)
    assert ended.status in ('cancelled', 'completed'), ended
    later = client.responses.retrieve(begun.id)
    assert later.output_text == ended.output_text, (later, ended)
    untold = client.responses.create(model='any', input='Hello.', store=False, max_output_tokens=2)
    try:
        client.responses.retrieve(untold.id)
    except openai.NotFoundError:
        pass
    else:
        raise AssertionError('a response that was not to be stored')


def conversations():
    made = client.conversations.create()
    said = client.responses.create(model='any', input='Hello.', conversation=made.id, max_output_tokens=4)
    assert said.conversation.id == made.id and client.conversations.retrieve(made.id).id == made.id
    items = client.conversations.items.list(made.id).data
    assert [i.role for i in items][-2:] == ['user', 'assistant'] and items[-1].content[0].text == said.output_text
    assert client.conversations.delete(made.id).deleted


def fifty():
    async def one(peer, n):
        text, stream = '', await peer.chat.completions.create(
            model='any', messages=[{'role': 'user', 'content': f'Number {n}.'}], max_tokens=8, temperature=0, stream=True)
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ''
        return text

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=URL, api_key='none', max_retries=0) as peer:
            return await asyncio.gather(*(one(peer, n) for n in range(50)))

    assert len(asyncio.run(all_of_them())) == 50


def schema():
    wanted = {'type': 'object', 'properties': {'name': {'type': 'string'}, 'length': {'type': 'integer'}},
              'required': ['name', 'length'], 'additionalProperties': False}
    made = client.chat.completions.create(
        model='any', messages=ASK, max_tokens=60,
        response_format={'type': 'json_schema', 'json_schema': {'name': 'river', 'schema': wanted}})
    import json
    value = json.loads(made.choices[0].message.content)
    assert isinstance(value['name'], str) and isinstance(value['length'], int)


globals()[PART]()
