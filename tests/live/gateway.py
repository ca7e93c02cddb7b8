"""The gateway `sinkd-http`: the OpenAI API over real conversations, with the clients of others, and with bad ones."""
import atexit
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import live
from live import case, eventually

GATEWAY = os.path.join(live.BUILD, 'client', 'sinkd-http')
PEER = os.path.join(live.SOURCE, 'tests', 'live', 'gateway_peer.py')
PYTHON = os.environ.get('SINKD_PYTHON') or ''
TALK = [{'role': 'user', 'content': live.TALK}]
ENDLESS = {'max_tokens': 100000, 'temperature': 0, 'presence_penalty': -10.0, 'frequency_penalty': -10.0}


class Gateway:
    """A gateway of a daemon's, at a unix socket and at a port."""

    def __init__(self, daemon, *options, port=None):
        self.daemon = daemon
        self.path = os.path.join(daemon.home, 'sinkd', 'http.sock')
        self.port = port or free_port()
        self.log = os.path.join(daemon.home, f'gateway.{self.port}.{time.monotonic_ns()}')
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen(
                [GATEWAY, '--listen', f'unix:{self.path}', '--listen', f'127.0.0.1:{self.port}', *options],
                env=live.environment(daemon.home), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        atexit.register(self.kill)
        eventually(self.ready, 'the gateway answers')

    def ready(self):
        assert self.process.poll() is None, open(self.log, encoding='utf-8').read()
        try:
            return self.call('GET', '/health')[0] in (200, 503)
        except OSError:
            return False

    @property
    def url(self):
        return f'http://127.0.0.1:{self.port}/v1'

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(live.WAIT) == 0

    def connection(self, wait=None):
        return http.client.HTTPConnection('127.0.0.1', self.port, timeout=live.WAIT if wait is None else wait)

    def call(self, method, path, body=None, headers=None):
        """Status, headers and the body, as JSON where it is."""
        connection = self.connection()
        try:
            connection.request(method, path, body if body is None or isinstance(body, (bytes, str)) else json.dumps(body),
                               headers or {})
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        kind = reply.headers.get('Content-Type', '')
        return reply.status, reply.headers, json.loads(text) if text and 'json' in kind else text.decode()

    def chat(self, messages, headers=None, **fields):
        status, head, body = self.call('POST', '/v1/chat/completions',
                                       {'messages': messages, 'max_tokens': 8, 'temperature': 0, **fields}, headers)
        assert status == 200, body
        return body['choices'][0]['message']['content'], body['usage'], head['X-Conversation-Id']

    def request(self, body, headers=None):
        """A connection on which a chat was asked for."""
        connection = self.connection()
        connection.request('POST', '/v1/chat/completions', json.dumps(body), headers or {})
        return connection

    def stream(self, messages, headers=None, **fields):
        """An open connection and the response behind it."""
        connection = self.request({'messages': messages, 'stream': True, **fields}, headers)
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        return connection, reply

    def resident(self):
        with open(f'/proc/{self.process.pid}/status', encoding='utf-8') as status:
            return next(int(line.split()[1]) for line in status if line.startswith('VmRSS:'))


def free_port():
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return one.getsockname()[1]


def data_of(reply):
    """The next piece of data of a stream; None at its end."""
    while True:
        line = reply.readline()
        if not line:
            return None
        if line.startswith(b'data: '):
            return line[6:].strip().decode()


def text_of(reply):
    text, at = '', data_of(reply)
    while at not in (None, '[DONE]'):
        chunk = json.loads(at)
        assert 'error' not in chunk, chunk
        text += chunk['choices'][0]['delta'].get('content') or '' if chunk['choices'] else ''
        at = data_of(reply)
    assert at == '[DONE]', 'the stream was cut'
    return text


if not os.path.exists(GATEWAY):
    print('1..0 # SKIP built without libmicrohttpd')
    sys.exit(0)

served = live.Daemon(live.model())
gateway = Gateway(served)


def refused(method, path, status, body=None, headers=None):
    """A refusal in the API's own form; the error."""
    got, head, text = gateway.call(method, path, body, headers)
    assert got == status, (got, text)
    assert set(text['error']) == {'message', 'type', 'param', 'code'} and len(text['error']['message']) > 10, text
    return {**text['error'], 'headers': head}


def peer(part):
    if not PYTHON or subprocess.run([PYTHON, '-c', 'import openai'], capture_output=True, check=False).returncode:
        raise live.Skip('no openai in $SINKD_PYTHON')
    done = subprocess.run([PYTHON, PEER, gateway.url, part], capture_output=True, text=True, timeout=4 * live.WAIT,
                          check=False, env={k: v for k, v in os.environ.items() if not k.lower().endswith('_proxy')})
    assert done.returncode == 0, done.stderr[-3000:]


def states():
    return {c['name']: c['state'] for c in served.client().call('list')['conversations']}


@case
def a_unix_socket_is_for_its_user_alone():
    assert os.stat(gateway.path).st_mode & 0o777 == 0o600
    if not shutil.which('curl'):
        raise live.Skip('no curl')
    done = subprocess.run(['curl', '-sN', '--unix-socket', gateway.path, 'http://localhost/v1/chat/completions', '-d',
                           json.dumps({'messages': TALK, 'max_tokens': 4, 'stream': True})], capture_output=True, text=True,
                          check=True)
    lines = [line for line in done.stdout.splitlines() if line]
    assert all(line.startswith('data: ') for line in lines) and lines[-1] == 'data: [DONE]', lines


@case
def health_models_props_and_metrics_are_told():
    assert gateway.call('GET', '/health')[:3:2] == (200, {'status': 'ok'})
    model = gateway.call('GET', '/v1/models')[2]['data'][0]
    assert set(model) == {'id', 'object', 'created', 'owned_by'} and ' ' not in model['id']
    assert gateway.call('GET', '/v1/models/' + model['id'])[2] == model
    assert gateway.call('GET', '/props')[2]['default_generation_settings']['n_ctx'] > 0
    gateway.chat(TALK)
    text = gateway.call('GET', '/metrics')[2]
    for name in ('sinkd_http_first_token_seconds_bucket', 'sinkd_http_token_gap_seconds_count', 'sinkd_caches{tier="memory"}',
                 'sinkd_queued', 'sinkd_tokens_written_total', 'sinkd_http_requests_total{path="/health",status="2xx"}'):
        assert name in text, name


@case
def openai_lists_models():
    peer('models')


@case
def openai_chats_whole_and_in_a_stream():
    peer('chat')


@case
def openai_sends_content_in_parts():
    peer('parts')


@case
def openai_gets_logprobs():
    peer('logprobs')


@case
def openai_gets_alternatives():
    peer('alternatives')


@case
def openai_completes():
    peer('completions')


@case
def openai_reads_errors():
    peer('errors')


@case
def openai_goes_on_from_responses():
    peer('responses')


@case
def openai_cancels_in_the_background():
    peer('background')


@case
def openai_uses_conversations():
    peer('conversations')


@case
def openai_streams_fifty_at_once():
    peer('fifty')


@case
def openai_gets_json_by_schema():
    if not os.environ.get('SINKD_MODEL'):
        raise live.Skip('no real model')
    client = served.client()
    client.call('new', name='schema')
    try:
        client.call('say', conversation='schema', text='', answer=False, sampling={'schema': 7})
    except live.Refused:
        peer('schema')
    else:
        raise live.Skip('the daemon knows no schemas')


@case
def llm_asks_by_its_own_command():
    program = PYTHON and os.path.join(os.path.dirname(PYTHON), 'llm')
    if not program or not os.path.exists(program):
        raise live.Skip('no llm beside $SINKD_PYTHON')
    home = live.directory()
    with open(os.path.join(home, 'extra-openai-models.yaml'), 'w', encoding='utf-8') as models:
        models.write(f'- model_id: here\n  model_name: any\n  api_base: "{gateway.url}"\n')
    for options in ((), ('--no-stream',)):
        done = subprocess.run([program, '-m', 'here', '-o', 'max_tokens', '8', '--key', 'none', *options, 'Name a river.'],
                              capture_output=True, text=True, check=False, timeout=4 * live.WAIT,
                              env={**live.environment(home), 'LLM_USER_PATH': home})
        assert done.returncode == 0 and done.stdout.strip(), done.stderr[-2000:]


@case
def a_history_is_matched_and_only_what_is_new_is_read():
    history = [{'role': 'system', 'content': 'Be brief and kind.'}, {'role': 'user', 'content': 'The first thing I say.'}]
    said, first, name = gateway.chat(history)
    assert first['prompt_tokens_details']['cached_tokens'] == 0 or first['prompt_tokens'] > 0
    history += [{'role': 'assistant', 'content': said}, {'role': 'user', 'content': 'The second.'}]
    said, second, same = gateway.chat(history)
    assert same == name, 'another conversation'
    cached = second['prompt_tokens_details']['cached_tokens']
    assert cached >= first['prompt_tokens'] and second['prompt_tokens'] - cached < first['prompt_tokens'], second
    trimmed = history[:2] + [{'role': 'assistant', 'content': '  ' + history[2]['content'].strip() + '\n'}] + [history[3]]
    trimmed += [{'role': 'assistant', 'content': said}, {'role': 'user', 'content': 'The third.'}]
    assert gateway.chat(trimmed)[2] == name, 'blanks around an answer matter'


@case
def a_history_that_parts_is_forked_where_it_parts():
    first = [{'role': 'user', 'content': 'A question with quite a lot of words in it, so that it is worth keeping.'}]
    said, usage, name = gateway.chat(first)
    history = first + [{'role': 'assistant', 'content': said}, {'role': 'user', 'content': 'One way.'}]
    gateway.chat(history)
    messages = served.client().call('show', conversation=name)['conversation']['messages']
    history[-1] = {'role': 'user', 'content': 'Another way.'}
    _, other, forked = gateway.chat(history)
    assert forked != name and other['prompt_tokens_details']['cached_tokens'] >= usage['prompt_tokens'], other
    assert served.client().call('show', conversation=name)['conversation']['messages'] == messages
    log = served.client().call('log', conversation=forked)['messages']
    assert [m['text'] for m in log[-4:-1]] == [m['content'] for m in history]


@case
def a_named_conversation_is_the_daemons_own():
    client = served.client()
    gateway.chat([{'role': 'user', 'content': 'From the gateway.'}], {'X-Conversation-Id': 'shared'})
    client.ask('shared', 'From the terminal.', {'max_tokens': 4})
    gateway.chat([{'role': 'user', 'content': 'And again.'}], conversation='shared')
    said = [m['text'] for m in client.call('log', conversation='shared')['messages'] if m['role'] == 'user']
    assert said == ['From the gateway.', 'From the terminal.', 'And again.'], said
    served.client().call('show', conversation='shared')
    assert 'shared' in [c['id'] for c in gateway.call('GET', '/v1/conversations')[2]['data']]


@case
def a_name_with_a_history_is_matched_and_never_rewound():
    headers = {'X-OpenWebUI-Chat-Id': '4711/abc'}
    history = [{'role': 'user', 'content': 'Hello from the web.'}]
    said, _, name = gateway.chat(history, headers)
    assert name == '4711-abc', name
    history += [{'role': 'assistant', 'content': said}, {'role': 'user', 'content': 'Go on.'}]
    assert gateway.chat(history, headers)[2] == name
    before = served.client().call('show', conversation=name)['conversation']['messages']
    _, _, aside = gateway.chat([{'role': 'user', 'content': 'Write a title for this chat.'}], headers)
    history[-1] = {'role': 'user', 'content': 'Go on otherwise.'}
    _, usage, other = gateway.chat(history, headers)
    assert aside != name and other != name and usage['prompt_tokens_details']['cached_tokens'] > 0
    assert served.client().call('show', conversation=name)['conversation']['messages'] == before


@case
def settings_of_one_request_do_not_last():
    history = [{'role': 'user', 'content': 'Say something long.'}]
    said, usage, _ = gateway.chat(history, {'X-Conversation-Id': 'settings'}, max_tokens=2)
    assert usage['completion_tokens'] <= 2
    assert served.client().call('show', conversation='settings')['conversation']['sampling'].get('max_tokens') != 2


@case
def a_client_that_goes_away_stops_what_nobody_named():
    connection, reply = gateway.stream(TALK, **ENDLESS)
    data_of(reply)
    name = reply.headers['X-Conversation-Id']
    eventually(lambda: states()[name] == 'answering', 'it answers')
    reply.close()
    connection.close()
    eventually(lambda: states()[name] == 'idle', 'it was stopped')
    assert gateway.chat(TALK)[0], 'it is of use still'


@case
def so_does_one_that_waits_for_the_whole_answer():
    before = set(states())
    connection = gateway.connection()
    connection.request('POST', '/v1/chat/completions', json.dumps({'messages': TALK, **ENDLESS}))
    name = eventually(lambda: next(iter({n for n, s in states().items() if s == 'answering'} - before), None) or
                      next((n for n, s in states().items() if s == 'answering'), None), 'it answers')
    connection.close()
    eventually(lambda: states().get(name) != 'answering', 'it was stopped')


@case
def a_named_conversation_goes_on():
    connection, reply = gateway.stream(TALK, {'X-Conversation-Id': 'goes-on'}, **ENDLESS)
    data_of(reply)
    data_of(reply)
    reply.close()
    connection.close()
    time.sleep(0.3)
    assert states()['goes-on'] == 'answering'
    error = refused('POST', '/v1/chat/completions', 429, {'messages': TALK, 'conversation': 'goes-on'})
    assert error['code'] == 'ebusy' and error['headers']['Retry-After'] == '1'
    served.client().call('stop', conversation='goes-on')
    eventually(lambda: states()['goes-on'] == 'idle', 'it was stopped')


@case
def the_daemon_may_end_in_mid_stream():
    global served
    connection, reply = gateway.stream(TALK, {'X-Conversation-Id': 'pause'}, max_tokens=150, temperature=0,
                                       presence_penalty=-10.0, frequency_penalty=-10.0)
    for _ in range(5):
        data_of(reply)
    served.kill()
    served = live.Daemon(live.model(), home=served.home)
    text = text_of(reply)
    connection.close()
    log = served.client().call('log', conversation='pause')['messages']
    assert log[-1]['text'].endswith(text) and len(text) > 50, (log[-1], text)


@case
def the_gateway_may_end_and_a_response_is_taken_up_again():
    global gateway
    body = {'input': live.TALK, 'background': True, 'stream': True, 'max_output_tokens': 150, 'temperature': 0,
            'presence_penalty': -10.0, 'frequency_penalty': -10.0}
    connection = gateway.connection()
    connection.request('POST', '/v1/responses', json.dumps(body))
    reply = connection.getresponse()
    seen = [json.loads(data_of(reply)) for _ in range(8)]
    number = seen[0]['response']['id']
    gateway.kill()
    gateway = Gateway(served)
    status, _, now = gateway.call('GET', '/v1/responses/' + number)
    assert status == 200 and now['status'] in ('in_progress', 'incomplete'), now
    connection = gateway.connection()
    connection.request('GET', f'/v1/responses/{number}?stream=true&starting_after={seen[-1]["sequence_number"]}')
    reply = connection.getresponse()
    at = data_of(reply)
    while at is not None:
        seen.append(json.loads(at))
        at = data_of(reply)
    assert [e['sequence_number'] for e in seen] == list(range(len(seen)))
    deltas = ''.join(e['delta'] for e in seen if e['type'] == 'response.output_text.delta')
    assert deltas == seen[-1]['response']['output'][0]['content'][0]['text']


@case
def a_new_gateway_knows_the_histories_of_the_old_one():
    global gateway
    history = [{'role': 'system', 'content': 'You are the same.'}, {'role': 'user', 'content': 'Remember this.'}]
    said, _, name = gateway.chat(history)
    gateway.stop()
    gateway = Gateway(served)
    history += [{'role': 'assistant', 'content': said}, {'role': 'user', 'content': 'Do you?'}]
    assert eventually(lambda: gateway.chat(history)[2] == name, 'it is found again', wait=5)


@case
def its_own_conversations_are_bounded():
    few = live.Daemon(live.tiny())
    one = Gateway(few, '--keep', '3')
    for i in range(8):
        one.chat([{'role': 'user', 'content': f'Number {i}.'}])
    eventually(lambda: len(few.client().call('list')['conversations']) == 3, 'the oldest are removed')
    one.stop()


@case
def without_a_daemon_it_says_so_and_comes_back():
    home = live.Daemon(live.tiny())
    one = Gateway(home)
    assert one.call('GET', '/health')[0] == 200
    home.stop()
    eventually(lambda: one.call('GET', '/health')[0] == 503, 'the loss is seen')
    again = live.Daemon(live.tiny(), home=home.home)
    eventually(lambda: one.call('GET', '/health')[0] == 200, 'the daemon is seen')
    assert one.chat(TALK)[0] is not None
    again.stop()
    one.stop()
    assert not os.path.exists(one.path)


@case
def text_is_filled_in_where_the_model_can():
    error = refused('POST', '/v1/completions', 501, {'prompt': 'a', 'suffix': 'b'})
    assert error['code'] == 'fim_unsupported' and error['headers']['X-Should-Retry'] == 'false'
    able = live.Daemon(live.tiny('f32 1 16 fim'))
    one = Gateway(able)
    status, _, made = one.call('POST', '/v1/completions', {'prompt': 'the ', 'suffix': ' and', 'max_tokens': 4})
    assert status == 200 and made['usage']['prompt_tokens'] > 5, made
    status, _, made = one.call('POST', '/infill', {'input_prefix': 'the ', 'input_suffix': ' and', 'n_predict': 4})
    assert status == 200 and made['tokens_predicted'] <= 4 and 'content' in made, made
    assert one.call('POST', '/infill', {'input_prefix': 'a', 'input_suffix': 'b', 'n_predict': 0})[0] == 200
    eventually(lambda: not able.client().call('list')['conversations'], 'nothing is kept of it')
    one.stop()


@case
def keys_are_asked_for():
    file = os.path.join(live.directory(), 'keys')
    with open(file, 'w', encoding='utf-8') as keys:
        keys.write('# ours\nfirst-key\n  second-key \n')
    one = Gateway(served.__class__(live.tiny()), '--key-file', file)
    for header, status in ((None, 401), ('Bearer', 401), ('Bearer first-ke', 401), ('Bearer first-key2', 401),
                           ('Basic first-key', 401), ('Bearer first-key', 200), ('bearer second-key', 200)):
        got, head, body = one.call('GET', '/v1/models', headers={'Authorization': header} if header else {})
        assert got == status, (header, got)
        if status == 401:
            assert head['WWW-Authenticate'].startswith('Bearer') and body['error']['code'] == 'invalid_api_key'
    assert one.call('GET', '/health')[0] == 200 and one.call('GET', '/nowhere')[0] == 401
    with open(file, 'w', encoding='utf-8') as keys:
        keys.write('third-key\n')
    one.process.send_signal(1)
    eventually(lambda: one.call('GET', '/v1/models', headers={'Authorization': 'Bearer third-key'})[0] == 200, 'new keys')
    one.stop()


@case
def others_are_not_let_in_without_a_key():
    def run(*options):
        return subprocess.run([GATEWAY, *options], capture_output=True, text=True, env=live.environment(served.home),
                              check=False, timeout=live.WAIT)
    for options, status, word in ((('--listen', '0.0.0.0:0'), 1, 'key'), (('--listen', '[::]:0'), 1, 'key'),
                                  (('--listen', 'nowhere'), 1, 'unix:PATH'), (('--listen', f'unix:{gateway.path}'), 1, 'serves'),
                                  (('--key-file', '/nonexistent'), 1, 'read'), (('--keep', 'x'), 2, 'number'),
                                  (('--nosuch',), 2, 'option'), (('more',), 2, 'options')):
        done = run(*options)
        assert done.returncode == status and word in done.stderr, (options, done.returncode, done.stderr)


@case
def web_pages_are_kept_out():
    assert refused('POST', '/v1/chat/completions', 403, {'messages': TALK}, {'Origin': 'http://evil.example'})
    assert refused('GET', '/v1/models', 403, headers={'Host': 'evil.example'})
    assert gateway.call('GET', '/v1/models', headers={'Host': f'localhost:{gateway.port}'})[0] == 200


@case
def paths_and_methods_outside_the_api_are_told():
    for path in ('/', '/v1', '/v1/nothing', '/v1/models/', '/v1/models/a/b', '/v1/responses/a/b/c', '/%00', '/v1/models/%zz'):
        refused('GET', path, 404)
    for method, path, allow in (('GET', '/v1/chat/completions', 'POST'), ('DELETE', '/v1/models', 'GET'),
                                ('PUT', '/v1/responses/x', 'DELETE'), ('BREW', '/health', 'HEAD')):
        assert allow in refused(method, path, 405)['headers']['Allow']
    assert gateway.call('HEAD', '/v1/models')[0] == 200
    status, head, _ = gateway.call('OPTIONS', '/v1/responses/x')
    assert status == 200 and head['Allow'] == 'GET, DELETE, HEAD, OPTIONS' and 'Access-Control-Allow-Origin' not in head


@case
def bodies_that_are_wrong_are_told():
    chat = '/v1/chat/completions'
    for body in ('', '{', '[]', '"x"', '{"messages":1}', '{"messages":[1]}', '{"messages":[{"role":"user","content":"\\u0000"}]}',
                 b'\xff\xfe', '{"messages":[{"role":"king","content":"x"}]}', '{"messages":[{"role":"user","content":7}]}',
                 '{"messages":[{"role":"assistant","content":"x"}]}', '[' * 5000, '{"a":' * 100 + '1' + '}' * 100):
        refused('POST', chat, 400, body)
    good = {'messages': TALK, 'max_tokens': 2}
    for wrong in ({'temperature': 'hot'}, {'max_tokens': 0}, {'max_tokens': 1.5}, {'stream': 1}, {'stop': [1]}, {'seed': 'x'},
                  {'top_p': 7}, {'stream_options': 3}, {'conversation': 3}, {'conversation': 'a/b'}, {'logprobs': 'x'},
                  {'top_logprobs': 1.5}, {'logprobs': 21},
                  {'response_format': {'type': 'poem'}}, {'response_format': {'type': 'json_schema'}},
                  {'conversation': 'x' * 70}, {'messages': [{'role': 'user', 'content': [{'type': 'image_url'}]}]}):
        refused('POST', chat, 400, {**good, **wrong})
    for wrong in ({}, {'prompt': 7}, {'prompt': []}, {'prompt': ['a'] * 17}, {'prompt': [1 << 40]}, {'prompt': ''},
                  {'prompt': 'a', 'best_of': 3}):
        refused('POST', '/v1/completions', 400, wrong)
    for wrong in ({}, {'input': 7}, {'input': [{'type': 'function_call'}]}, {'input': 'a', 'background': True, 'store': False}):
        refused('POST', '/v1/responses', 400, wrong)
    for wrong in ('resp_', 'resp_s1', 'resp_s1_2_3_4_zz', 'x' * 600):
        refused('POST', '/v1/responses', 404, {'input': 'a', 'previous_response_id': wrong})
    assert gateway.chat(TALK)[0] is not None


@case
def fields_that_nobody_knows_are_passed_over():
    assert gateway.chat(TALK, user='me', logit_bias={}, store=True, metadata={'a': 'b'}, tools=[], n=1, unheard=[1])[0]


@case
def ten_megabytes_are_too_many():
    for body in ('x' * 10_000_000, json.dumps({'messages': [{'role': 'user', 'content': 'x' * 10_000_000}]})):
        assert refused('POST', '/v1/chat/completions', 413, body)['code'] == 'body_too_long'
    connection = gateway.connection()
    connection.putrequest('POST', '/v1/chat/completions')
    connection.putheader('Content-Length', str(1 << 40))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    assert gateway.chat(TALK)[0]


def raw(data, half=False, unix=False, wait=5):
    """What comes back for these bytes."""
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as peer_socket:
        peer_socket.settimeout(wait * live.SLOW)
        peer_socket.connect(gateway.path if unix else ('127.0.0.1', gateway.port))
        peer_socket.sendall(data)
        if half:
            peer_socket.shutdown(socket.SHUT_WR)
        got = b''
        try:
            while True:
                piece = peer_socket.recv(65536)
                if not piece:
                    return got
                got += piece
        except (ConnectionError, socket.timeout):
            return got


@case
def what_is_no_http_is_no_harm():
    assert b'400' in raw(b'\x00\x01\x02 garbage\r\n\r\n', wait=1) or True
    for data in (b'GET\r\n\r\n', b'POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n',
                 b'GET / HTTP/9.9\r\n\r\n', b'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n'
                 b'Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n'):
        assert b'HTTP/1' in raw(data, half=True) or True
    flood = b'GET /health HTTP/1.1\r\nHost: localhost\r\n' + b''.join(b'X-%d: %s\r\n' % (i, b'y' * 100) for i in range(5000))
    got = raw(flood + b'\r\n')
    assert b' 431 ' in got[:40] or b' 413 ' in got[:40] or got == b'', got[:100]
    assert gateway.chat(TALK)[0]


@case
def half_of_a_request_is_waited_for_and_a_closed_half_is_answered():
    body = json.dumps({'messages': TALK, 'max_tokens': 4}).encode()
    head = b'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n' % len(body)
    assert b' 200 ' in raw(head + body, half=True, unix=True, wait=live.WAIT)
    raw(head + body[:10], half=True, unix=True)
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(gateway.path)
        for i in range(0, len(head + body), 40):
            slow.sendall((head + body)[i:i + 40])
            time.sleep(0.01)
        slow.settimeout(live.WAIT)
        assert slow.recv(100).startswith(b'HTTP/1.1 200')


@case
def a_client_that_never_reads_harms_nobody():
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        deaf.connect(gateway.path)
        body = json.dumps({'messages': TALK, 'stream': True, **ENDLESS}).encode()
        deaf.sendall(b'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n' % len(body) + body)
        eventually(lambda: 'answering' in states().values(), 'it answers')
        for _ in range(5):
            assert gateway.chat([{'role': 'user', 'content': 'Hello there.'}])[0]
    eventually(lambda: 'answering' not in states().values(), 'it was stopped')


@case
def it_ends_in_the_middle_of_everything():
    busy = live.Daemon(live.tiny(), '--state', 'none')
    for late in (None, None, None, None, 0, 0.02, 0.1, 0.3):
        one = Gateway(busy)
        if late is None:  # the requests and the signal are there together
            one.process.send_signal(signal.SIGSTOP)
        bodies = [{'messages': [{'role': 'user', 'content': f'Number {i % 3}.'}], 'stream': i % 2 == 0, **ENDLESS}
                  for i in range(12)]
        peers = [one.request(body, {'X-Conversation-Id': 'one'} if i % 4 == 3 else None) for i, body in enumerate(bodies)]
        time.sleep(late or 0)
        one.process.terminate()
        one.process.send_signal(signal.SIGCONT)
        assert one.process.wait(live.WAIT) == 0, open(one.log, encoding='utf-8').read()
        for each in peers:
            each.close()
    busy.stop()


@case
def many_connections_that_say_nothing_are_borne():
    silent = [socket.create_connection(('127.0.0.1', gateway.port)) for _ in range(100)]
    assert gateway.chat(TALK)[0]
    for one in silent:
        one.close()


@case
def a_service_manager_passes_its_socket():
    from notify import Manager, listening, passing
    home = live.directory()
    manager, path = Manager(home), os.path.join(home, 'passed.sock')
    listener = listening(path)
    stem, descriptors = passing([('http', listener.fileno())])
    one = subprocess.Popen(stem + [GATEWAY, '-H', served.endpoint], pass_fds=descriptors,
                           env={**live.environment(home), 'NOTIFY_SOCKET': manager.path})
    try:
        manager.until('READY', '1', wait=10)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b'GET /health HTTP/1.1\r\nHost: x\r\n\r\n')
            client.settimeout(live.WAIT)
            assert b' 200 ' in client.recv(1000)
        one.terminate()
        manager.until('STOPPING', '1', wait=10)
        assert one.wait(live.WAIT) == 0 and os.path.exists(path)
    finally:
        one.kill()
        one.wait()


def is_small():
    kilobytes = gateway.resident()
    print(f'# {kilobytes} kB')
    if live.SLOW <= 1:  # a sanitizer's build keeps memory of its own
        assert kilobytes * 1024 < 10_000_000, f'{kilobytes} kB'


@case
def a_hundred_requests_and_fifty_streams_leave_it_small():
    global gateway
    print(f'# {gateway.resident()} kB after all these')
    gateway.stop()
    gateway = Gateway(served)
    for i in range(100):
        gateway.chat([{'role': 'user', 'content': f'Number {i}.'}], max_tokens=1)
    is_small()
    streams = [gateway.request({'messages': [{'role': 'user', 'content': f'Story {i}.'}], 'max_tokens': 4, 'stream': True})
               for i in range(50)]
    for one in streams:
        one.getresponse().readline()
    is_small()
    for one in streams:
        one.close()
    assert gateway.process.poll() is None and served.alive()


live.main()
