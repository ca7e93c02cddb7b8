"""`sink acp`: the Agent Client Protocol, spoken with by the client of that protocol's own SDK."""
import asyncio
import json
import os
import subprocess
import sys
import time

import live
from live import case, same

try:
    import acp
    from acp.exceptions import RequestError
    from acp.schema import (ClientCapabilities, EmbeddedResourceContentBlock, ImageContentBlock, ResourceContentBlock,
                            TextContentBlock, TextResourceContents)
except ImportError:
    PEER = os.environ.get('SINKD_PYTHON')
    if PEER and os.path.realpath(sys.prefix) == os.path.realpath(sys.base_prefix):
        os.execv(PEER, [PEER, *sys.argv])
    print('1..0 # SKIP the package agent-client-protocol is not installed')
    sys.exit(0)

daemon = live.Daemon(live.model())
SHORT = ['-n', '12', '--seed', '5']


class Editor:
    """What an editor does with updates: it keeps them."""

    def __init__(self):
        self.updates = []

    async def session_update(self, session_id, update, **_):
        self.updates.append((session_id, update))

    def on_connect(self, conn):
        pass

    def chunks(self, kind, session=None):
        return [update for of, update in self.updates
                if update.session_update == kind and session in (None, of)]

    def text(self, kind='agent_message_chunk', session=None):
        return ''.join(update.content.text for update in self.chunks(kind, session))

    async def until(self, condition, what):
        end = time.monotonic() + live.WAIT
        while not condition():
            assert time.monotonic() < end, f'waited in vain: {what}: {self.updates[-3:]}'
            await asyncio.sleep(0.01)


def _words(text):
    return [TextContentBlock(type='text', text=text)]


def talk(function, *options, initialize=True):
    """Runs function(agent, editor) with a `sink acp` of its own."""
    async def run():
        editor = Editor()
        async with acp.spawn_agent_process(editor, live.SINK, 'acp', *options,
                                           env=live.environment(daemon.home)) as (agent, process):
            if initialize:
                await agent.initialize(protocol_version=1, client_capabilities=ClientCapabilities())
            result = await asyncio.wait_for(function(agent, editor), live.WAIT * 2)
            process.stdin.close()
            assert await asyncio.wait_for(process.wait(), live.WAIT) == 0
            return result
    return asyncio.run(run())


async def _refused(awaitable, code):
    try:
        answer = await awaitable
    except RequestError as error:
        assert error.code == code, (error.code, str(error))
        assert len(str(error)) > 8
        return str(error)
    raise AssertionError(f'{answer} and no error')


@case
def it_says_what_it_can():
    async def run(agent, _):
        answer = await agent.initialize(protocol_version=1, client_capabilities=ClientCapabilities())
        able = answer.agent_capabilities
        assert answer.protocol_version == 1 and answer.agent_info.name == 'sinkd'
        assert able.load_session and able.prompt_capabilities.embedded_context
        assert not able.prompt_capabilities.image and not able.prompt_capabilities.audio
        for what in ('list', 'resume', 'fork', 'close', 'delete'):
            assert getattr(able.session_capabilities, what) is not None, what
        later = await agent.initialize(protocol_version=9, client_capabilities=ClientCapabilities())
        assert later.protocol_version == 1
        await agent.authenticate(method_id='any')
    talk(run, initialize=False)


@case
def a_prompt_is_answered_in_a_stream():
    async def run(agent, editor):
        session = await agent.new_session(cwd='/home/me/my sea', mcp_servers=[])
        assert session.session_id == 'my sea-1', session
        answer = await agent.prompt(session_id=session.session_id, prompt=_words('What is the sea?'))
        assert answer.stop_reason == 'max_tokens', answer
        assert answer.usage.output_tokens == 12 and answer.usage.input_tokens > 0
        assert editor.text('user_message_chunk') == ''
        same(editor.text(), daemon.client().call('log', conversation='my sea-1')['messages'][-1]['text'])
        assert len({chunk.message_id for chunk in editor.chunks('agent_message_chunk')}) == 1
        again = await agent.new_session(cwd='/home/me/my sea/', mcp_servers=[])
        assert again.session_id == 'my sea-2'
        strange = await agent.new_session(cwd='/', mcp_servers=[])
        assert strange.session_id == 'session-1'
        strange = await agent.new_session(cwd='/x/..@=' + 'ä' * 60, mcp_servers=[])
        assert strange.session_id == '__' + 'ä' * 24 + '-1', strange
    talk(run, *SHORT)


@case
def the_command_line_names_the_conversation_and_its_settings():
    async def run(agent, editor):
        session = await agent.new_session(cwd='/x', mcp_servers=[])
        assert session.session_id == 'named'
        answer = await agent.prompt(session_id='named', prompt=_words('Hello.'))
        assert answer.stop_reason in ('max_tokens', 'end_turn')
        await editor.until(lambda: editor.chunks('usage_update'), 'a usage update')
        usage = editor.chunks('usage_update')[0]
        assert usage.size == 400, usage
        assert editor.chunks('session_info_update')[0].title == 'named'
    for _ in range(2):  # the second time it is there already
        talk(run, '-c', 'named', '-s', 'You are terse.', '--policy', 'sink:4,396', *SHORT)
    log = daemon.client().call('log', conversation='named')['messages']
    assert [m['role'] for m in log] == ['system', 'user', 'assistant', 'user', 'assistant']
    assert log[0]['text'] == 'You are terse.'


@case
def text_resources_and_links_are_taken_and_images_are_not():
    async def run(agent, _):
        session = (await agent.new_session(cwd='/x/blocks', mcp_servers=[])).session_id
        inner = TextResourceContents(uri='file:///x/a.c', text='int a;')
        await agent.prompt(session_id=session, prompt=[
            TextContentBlock(type='text', text='Look at '),
            ResourceContentBlock(type='resource_link', name='b.c', uri='file:///x/b.c'),
            TextContentBlock(type='text', text=' and this:'),
            EmbeddedResourceContentBlock(type='resource', resource=inner)])
        said = daemon.client().call('log', conversation=session)['messages'][-2]['text']
        same(said, 'Look at [b.c](file:///x/b.c) and this:\n\nfile:///x/a.c\n```\nint a;\n```\n')
        text = await _refused(agent.prompt(session_id=session, prompt=[
            ImageContentBlock(type='image', data='AAAA', mime_type='image/png')]), -32602)
        assert 'images' in text
        await _refused(agent.prompt(session_id=session, prompt=[]), -32602)
        await _refused(agent.prompt(session_id='nobody', prompt=_words('x')), -32002)
    talk(run, *SHORT)


@case
def cancel_stops_the_answer():
    daemon.client().call('new', name='endless', sampling=live.ENDLESS)

    async def run(agent, editor):
        await agent.resume_session(session_id='endless', cwd='/x')
        prompt = asyncio.ensure_future(agent.prompt(session_id='endless', prompt=_words(live.TALK)))
        await editor.until(lambda: len(editor.chunks('agent_message_chunk')) > 3, 'an answer')
        await _refused(agent.prompt(session_id='endless', prompt=_words('more')), -32004)
        await agent.cancel(session_id='endless')
        answer = await prompt
        assert answer.stop_reason == 'cancelled', answer
        early = asyncio.ensure_future(agent.prompt(session_id='endless', prompt=_words(live.TALK)))
        await asyncio.sleep(0)
        await agent.cancel(session_id='endless')  # perhaps before the daemon has even begun
        assert (await early).stop_reason == 'cancelled'
    talk(run)


@case
def a_session_is_loaded_with_its_past():
    async def run(agent, editor):
        await agent.load_session(session_id='named', cwd='/x', mcp_servers=[])
        log = daemon.client().call('log', conversation='named')['messages']
        same(editor.text('user_message_chunk'), ''.join(m['text'] for m in log if m['role'] == 'user'))
        same(editor.text(), ''.join(m['text'] for m in log if m['role'] == 'assistant'))
        assert len({chunk.message_id for chunk in editor.chunks('agent_message_chunk')}) == 2
        await _refused(agent.load_session(session_id='nobody', cwd='/x', mcp_servers=[]), -32002)
    talk(run)


@case
def a_session_is_loaded_while_an_answer_is_written():
    other = daemon.client()
    other.call('new', name='busy', sampling=live.ENDLESS)
    other.say('busy', live.TALK)
    other.until('text')

    async def run(agent, editor):
        await agent.load_session(session_id='busy', cwd='/x', mcp_servers=[])
        seen = len(editor.text())
        assert seen > 0 and editor.text('user_message_chunk') == live.TALK
        await _refused(agent.prompt(session_id='busy', prompt=_words('x')), -32004)
        await editor.until(lambda: len(editor.text()) > seen, 'more of the answer')
        other.call('stop', conversation='busy')
        whole = live.eventually(lambda: other.call('log', conversation='busy')['messages'][-1].get('finish') and
                                other.call('log', conversation='busy')['messages'][-1]['text'], 'the end')
        await editor.until(lambda: len(editor.text()) >= len(whole), 'the end of the answer')
        same(editor.text(), whole)
    talk(run)


@case
def what_others_say_is_told():
    async def run(agent, editor):
        session = (await agent.new_session(cwd='/x/shared', mcp_servers=[])).session_id
        other = daemon.client()
        answer = await asyncio.to_thread(other.ask, session, 'From the terminal.', {'max_tokens': 8})
        await editor.until(lambda: editor.text() == answer, 'the answer to another')
        same(editor.text('user_message_chunk'), 'From the terminal.')
        other.call('rename', conversation=session, to='renamed by another')
        await editor.until(lambda: editor.chunks('session_info_update')[-1].title == 'renamed by another', 'a title')
        done = await agent.prompt(session_id=session, prompt=_words('And I?'))
        assert done.stop_reason in ('max_tokens', 'end_turn'), done
        assert [s.session_id for s in (await agent.list_sessions()).sessions][0] == session
    talk(run, *SHORT)


@case
def two_editors_share_a_conversation():
    async def run(agent, editor):
        await agent.new_session(cwd='/x', mcp_servers=[])
        second = Editor()
        async with acp.spawn_agent_process(second, live.SINK, 'acp', env=live.environment(daemon.home)) as (also, _):
            await also.initialize(protocol_version=1, client_capabilities=ClientCapabilities())
            await also.resume_session(session_id='pair', cwd='/x')
            await agent.prompt(session_id='pair', prompt=_words('One.'))
            await second.until(lambda: second.text() == editor.text(), 'the same words')
            assert second.text('user_message_chunk') == 'One.' and editor.text('user_message_chunk') == ''
            await also.prompt(session_id='pair', prompt=_words('Two.'))
            await editor.until(lambda: second.text() == editor.text(), 'the same words again')
            assert editor.text('user_message_chunk') == 'Two.'
    talk(run, '-c', 'pair', *SHORT)


@case
def sessions_are_listed_forked_closed_and_deleted():
    async def run(agent, editor):
        first = (await agent.new_session(cwd='/x/tree', mcp_servers=[])).session_id
        await agent.prompt(session_id=first, prompt=_words('Remember the sea.'))
        copy = (await agent.fork_session(session_id=first, cwd='/x/tree', mcp_servers=[])).session_id
        assert (first, copy) == ('tree-1', 'tree-2')
        await agent.prompt(session_id=copy, prompt=_words('And now?'))
        messages = {c['name']: c['messages'] for c in daemon.client().call('list')['conversations']}
        assert messages[copy] == messages[first] + 2, messages
        listed = {s.session_id: s for s in (await agent.list_sessions(cwd='/home')).sessions}
        assert listed[first].cwd == '/x/tree' and listed['named'].cwd == '/home'
        assert listed[first].updated_at.startswith('20') and listed[first].updated_at.endswith('Z')
        daemon.client().call('new', name='dying', sampling=live.ENDLESS)
        await agent.resume_session(session_id='dying', cwd='/x')
        prompt = asyncio.ensure_future(agent.prompt(session_id='dying', prompt=_words(live.TALK)))
        await editor.until(lambda: editor.chunks('agent_message_chunk', 'dying'), 'an answer')
        await agent.close_session(session_id='dying')
        assert (await prompt).stop_reason == 'cancelled'
        await _refused(agent.prompt(session_id='dying', prompt=_words('x')), -32002)
    talk(run, *SHORT)
    live.eventually(lambda: daemon.client().call('show', conversation='dying')['conversation']['state'] == 'idle',
                    'the closed session stops')


def _raw(*messages, options=()):
    """A client without an SDK: its lines, and the answers."""
    text = ''.join(json.dumps({'jsonrpc': '2.0', **m}) + '\n' if isinstance(m, dict) else m + '\n' for m in messages)
    done = live.sink(daemon, 'acp', *options, stdin=text)
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


@case
def what_the_sdk_would_never_send_is_refused():
    daemon.client().call('new', name='to delete')
    answers = {m['id']: m for m in _raw(
        {'id': 1, 'method': 'session/new'}, {'id': 2, 'method': 'session/new', 'params': {'cwd': 5}},
        {'id': 3, 'method': 'no/such'}, {'id': 4, 'method': 'session/prompt', 'params': {'sessionId': 'x\0y'}},
        {'id': 5, 'method': 'session/prompt', 'params': []}, 'garbage',
        {'id': 6, 'method': 'session/delete', 'params': {'sessionId': 'to delete'}},
        {'id': 7, 'method': 'session/delete', 'params': {'sessionId': 'to delete'}},
        {'method': 'session/cancel', 'params': {'sessionId': 'nobody'}},
        {'method': '$/cancel_request', 'params': {'requestId': 1}},
        {'id': 8, 'method': 'initialize', 'params': {'protocolVersion': '2024-11-05'}}) if 'id' in m}
    codes = {number: answer.get('error', {}).get('code') for number, answer in answers.items()}
    assert codes == {1: -32602, 2: -32602, 3: -32601, 4: -32602, 5: -32602, None: -32700, 6: None, 7: -32002,
                     8: None}, codes


@case
def a_prompt_outlives_the_daemon():
    daemon.client().call('new', name='long', sampling={'max_tokens': 60, 'seed': 3, 'temperature': 0.3})

    async def run(agent, editor):
        global daemon
        await agent.resume_session(session_id='long', cwd='/x')
        prompt = asyncio.ensure_future(agent.prompt(session_id='long', prompt=_words('Tell me of the sea.')))
        await editor.until(lambda: len(editor.chunks('agent_message_chunk')) > 5, 'an answer')
        daemon.kill()
        daemon = await asyncio.to_thread(live.Daemon, live.model(), home=daemon.home)
        answer = await prompt
        assert answer.stop_reason in ('max_tokens', 'end_turn'), answer
        same(editor.text(), daemon.client().call('log', conversation='long')['messages'][-1]['text'])
    talk(run)


@case
def the_end_of_the_editor_stops_no_answer():
    daemon.client().call('new', name='left', sampling={'max_tokens': 30, 'seed': 3})
    command = [live.SINK, 'acp']
    with subprocess.Popen(command, env=live.environment(daemon.home), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as child:
        for number, (method, params) in enumerate([
                ('session/resume', {'sessionId': 'left', 'cwd': '/'}),
                ('session/prompt', {'sessionId': 'left', 'prompt': [{'type': 'text', 'text': 'Go on.'}]})]):
            child.stdin.write(json.dumps({'jsonrpc': '2.0', 'id': number, 'method': method, 'params': params}) + '\n')
            child.stdin.flush()
            while f'"id":{number}' not in (line := child.stdout.readline()):
                if 'agent_message_chunk' in line:
                    child.kill()
                    break
    client = daemon.client()
    live.eventually(lambda: client.call('log', conversation='left')['messages'][-1].get('finish') in ('length', 'end'),
                    'the answer goes on')


live.main()
