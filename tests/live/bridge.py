"""`sink --stdio`: the protocol as JSON-RPC, as an editor speaks it, and as a peer that is broken or hostile."""
import base64
import json
import os
import select
import signal
import subprocess
import time

import live
from live import case, dense, same, text_of

daemon = live.Daemon(live.model())
COMMAND = [live.SINK, '--stdio']


class Failed(Exception):
    """An error that the bridge answered with."""

    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['message']}")
        self.code = error['code']
        self.name = error.get('data', {}).get('code')


class Bridge:
    """One bridge and its lines. Messages that nobody asked for are kept, in order."""

    def __init__(self, command=None, shell=False, home=None):
        self.process = subprocess.Popen(command or COMMAND, env=live.environment(home or daemon.home), shell=shell,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.last = 0
        self.part = b''
        self.kept = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                pipe.close()
            except OSError:  # what it was not given any more
                pass

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, method, /, **params):
        self.last += 1
        self.write(json.dumps({'jsonrpc': '2.0', 'id': self.last, 'method': method, 'params': params}).encode() + b'\n')
        return self.last

    def message(self, wait=None):
        """The next message, whatever it is."""
        end = time.monotonic() + (live.WAIT if wait is None else wait)
        while b'\n' not in self.part:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise TimeoutError('no line came')
            more = os.read(self.process.stdout.fileno(), 1 << 20)
            if not more:
                raise EOFError(self.process.stderr.read())
            self.part += more
        line, self.part = self.part.split(b'\n', 1)
        message = json.loads(line)
        for one in message if isinstance(message, list) else [message]:
            assert one['jsonrpc'] == '2.0', one
        return message

    def answer(self, number):
        for at, message in enumerate(self.kept):
            if message.get('id') == number:
                return self.kept.pop(at)
        while True:
            message = self.message()
            if 'method' not in message and message.get('id') == number:
                return message
            self.kept.append(message)

    def reply(self, number):
        answer = self.answer(number)
        if 'error' in answer:
            raise Failed(answer['error'])
        return answer['result']

    def call(self, method, /, **params):
        return self.reply(self.send(method, **params))

    def refused(self, code, name, method, /, **params):
        try:
            answer = self.call(method, **params)
        except Failed as failure:
            assert (failure.code, failure.name) == (code, name), f'{method}: {failure} {failure.name}'
            assert len(str(failure)) > 15
            return str(failure)
        raise AssertionError(f'{method} {params}: {answer}')

    def event(self):
        while True:
            for at, message in enumerate(self.kept):
                if message.get('method') == 'event':
                    return self.kept.pop(at)['params']
            self.kept.append(self.message())

    def until(self, kind, conversation=None):
        events = []
        while not events or events[-1]['ev'] != kind or conversation not in (None, events[-1]['conversation']):
            events.append(self.event())
        return events

    def end(self):
        """Closes the input; what is still said, and the status."""
        self.process.stdin.close()
        rest = self.part + self.process.stdout.read()
        return [json.loads(line) for line in rest.splitlines()], self.process.wait(live.WAIT)

    def below(self, most, what='VmRSS'):
        """Whether it holds less memory than this. A build that watches memory holds more; its waits are longer, too."""
        held = self.memory(what)
        print(f'# {what} {held >> 10} kB')
        return held < most or live.SLOW > 1

    def memory(self, what='VmRSS'):
        with open(f'/proc/{self.process.pid}/status', encoding='ascii') as status:
            return next(int(line.split()[1]) for line in status if line.startswith(what + ':')) << 10


def _verbs():
    """The verbs of the page, from its table."""
    with open(os.path.join(live.SOURCE, 'libproto', 'README.md'), encoding='utf-8') as page:
        part = page.read().split('\n## Verbs')[1].split('\n## ')[0]
    return {line.split('`')[1] for line in part.splitlines() if line.startswith('| `')}


@case
def every_verb_is_there():
    done = {'shutdown'}  # last of all, below

    with Bridge() as bridge:
        def call(verb, **params):
            done.add(verb)
            return bridge.call(verb, **params)

        hello = call('hello')
        assert hello['protocol'] == 1 and hello['pid'] == daemon.pid and hello['bridge'], hello
        made = call('new', name='all', sampling={'max_tokens': 6, 'seed': 2, 'temperature': 0.5, 'stop': ['ä', '\n\n']})
        assert made['conversation']['sampling']['temperature'] == 0.5
        seen = call('attach', conversation='all', **{'from': 1})
        said = call('say', conversation='all', text='What is "the sea", \u00e4 \u0000 \U0001f30a?')
        events = bridge.until('done')
        dense(events, seen['seq'])
        assert call('credit', attachment=seen['attachment'], bytes=5) == {}
        assert call('detach', attachment=seen['attachment']) == {}
        log = call('log', conversation='all')['messages']
        same(text_of(events), log[-1]['text'])
        assert log[said['message']]['text'] == 'What is "the sea", \u00e4 \u0000 \U0001f30a?'
        assert call('regenerate', conversation='all', attach=True)['attachment']
        bridge.until('done')
        assert call('list')['conversations'][0]['name'] == 'all'
        assert call('show', conversation='all')['conversation']['state'] == 'idle'
        assert call('fork', conversation='all', to='copy')['conversation']['name'] == 'copy'
        assert call('rewind', conversation='copy', message=1)['conversation']['messages'] == 1
        assert call('rename', conversation='copy', to='moved')['conversation']['name'] == 'moved'
        assert call('pin', conversation='moved', pin=True)['conversation']['pin'] is True
        assert call('search', text='the sea', conversation='all')['matches']
        assert call('stop', conversation='all') == {'stopped': False}
        assert call('feed', conversation='moved', text='Once upon a time')['tokens'] > 0
        call('generate', conversation='moved', sampling={'max_tokens': 3}, attach=True)
        bridge.until('done', 'moved')
        tokens = call('tokenize', text='the sea')['tokens']
        back = call('detokenize', tokens=tokens)
        assert back['text'] == 'the sea' and base64.b64decode(back['bytes']) == b'the sea'
        assert call('score', tokens=tokens)['logprobs'][0] is None
        assert call('status')['state'] == 'ready' and call('models')['models']
        bundle = call('bundle', conversation='all')
        data = base64.b64decode(call('bundle_read', bundle=bundle['bundle'], offset=0)['data'])
        assert len(data) == bundle['bytes']
        call('bundle_close', bundle=bundle['bundle'])
        number = call('bundle_new', bytes=len(data))['bundle']
        for at in range(0, len(data), 1000):  # each length of padding
            call('bundle_write', bundle=number, offset=at, data=base64.b64encode(data[at:at + 1000]).decode())
        assert call('bundle_import', bundle=number, name='again')['conversation']['messages'] == len(log)
        same(call('log', conversation='again')['messages'][-1]['text'],
             call('log', conversation='all')['messages'][-1]['text'])
        assert call('remove', conversation='again') == {}
    own = live.Daemon(live.tiny())
    with Bridge(home=own.home) as bridge:
        assert bridge.call('shutdown') == {}
        assert own.wait() == 0
    untried = _verbs() - done
    assert not untried, f'not tried: {untried}'


@case
def errors_have_codes_and_words():
    with Bridge() as bridge:
        bridge.refused(-32002, 'enoent', 'show', conversation='nobody')
        bridge.refused(-32003, 'eexist', 'new', name='all')
        bridge.refused(-32602, 'einval', 'show')
        bridge.refused(-32602, 'einval', 'new', name='x', sampling={'temperature': 'hot'})
        bridge.refused(-32602, 'einval', 'new', name='x', sampling={'top_k': 1e300})
        bridge.refused(-32602, 'einval', 'bundle_write', bundle=1, offset=0, data='a?b')
        bridge.refused(-32602, 'einval', 'list', op='remove')
        bridge.refused(-32602, 'einval', 'list', id=5)
        bridge.refused(-32602, 'einval', 'list', x=json.loads('[' * 40 + ']' * 40))
        bridge.refused(-32602, 'einval', 'say', conversation='all', text='x' * 5000000)
        bridge.refused(-32601, 'eproto', 'no_such_verb')
        bridge.refused(-32601, 'eproto', 'rpc.discover')
        assert bridge.call('list')['conversations']


@case
def ids_and_notifications_are_as_json_rpc_says():
    with Bridge() as bridge:
        for number in ('"one"', '"ä\\n"', '7', '-3', '1.5', '""', '9007199254740993', 'null'):
            bridge.write(f'{{"jsonrpc":"2.0","id":{number},"method":"list"}}\n'.encode())
            assert bridge.message()['id'] == json.loads(number), number
        for number in ('true', '[]', '{}', json.dumps('x' * 2000)):
            bridge.write(f'{{"jsonrpc":"2.0","id":{number},"method":"list"}}\n'.encode())
            answer = bridge.message()
            assert answer['id'] is None and answer['error']['code'] == -32600, answer
        bridge.write(b'{"jsonrpc":"2.0","method":"new","params":{"name":"quiet"}}\n'
                     b'{"jsonrpc":"2.0","method":"no_such_verb"}\n{"jsonrpc":"2.0","method":"show","params":[1]}\n'
                     b'{"jsonrpc":"2.0","id":3,"result":{}}\n   \r\n\n')
        live.eventually(lambda: 'quiet' in [c['name'] for c in bridge.call('list')['conversations']], 'the notification')
        assert not bridge.kept, bridge.kept


@case
def batches_are_answered_together():
    with Bridge() as bridge:
        bridge.write(b'[{"jsonrpc":"2.0","id":1,"method":"tokenize","params":{"text":"sea"}},'
                     b'{"jsonrpc":"2.0","method":"list"},7,{"jsonrpc":"2.0","id":2,"method":"none"},'
                     b'{"jsonrpc":"2.0","id":3,"method":"hello"}]\n')
        answers = {answer['id']: answer for answer in bridge.message()}
        assert set(answers) == {1, 2, 3, None} and answers[None]['error']['code'] == -32600
        assert answers[1]['result']['tokens'] and answers[2]['error']['code'] == -32601
        bridge.write(b'[{"jsonrpc":"2.0","method":"list"}]\n[]\n')
        assert bridge.message()['error']['code'] == -32600  # the empty one; the other has no answer
        assert bridge.call('list')


@case
def garbage_is_answered_and_passed_over():
    with Bridge() as bridge:
        for line, code in ((b'garbage', -32700), (b'{"jsonrpc":"2.0","id":1', -32700), (b'{"a":1,"a":2}', -32700),
                           (b'\xff\xfe{}', -32700), (b'{"x":"\xc3\x28"}', -32700), (b'{"id":1,\0"method":"list"}', -32700),
                           (b'\0', -32700), (b'[' * 100000, -32700), (b'{"x":' * 5000 + b'1' + b'}' * 5000, -32700),
                           (b'1e999', -32700), (b'5', -32600), (b'"text"', -32600), (b'null', -32600),
                           (b'{}', -32600), (b'{"jsonrpc":"1.0","id":1,"method":"list"}', -32600),
                           (b'{"jsonrpc":"2.0","id":1,"method":5}', -32600), (b'{"jsonrpc":"2.0","id":1}', -32600),
                           (b'{"jsonrpc":"2.0","id":1,"method":"li\\u0000st"}', -32600),
                           (b'{"jsonrpc":"2.0","id":1,"method":"list","params":[]}', -32602),
                           (b'{"jsonrpc":"2.0","id":1,"method":"list","params":5}', -32602),
                           (b'[' + b'0,' * 1200000 + b'0]', -32600)):
            bridge.write(line + b'\n')
            answer = bridge.message()
            assert answer['error']['code'] == code and len(answer['error']['message']) > 8, (line[:60], answer)
        assert bridge.call('list')


@case
def long_lines_are_passed_over():
    with Bridge() as bridge:
        bridge.write(b'{"jsonrpc":"2.0","id":1,"method":"list","x":"' + b'x' * (10 << 20) + b'"}\n')
        assert 'result' in bridge.message()
        for _ in range(2):
            bridge.write(b'x' * (20 << 20))
            bridge.write(b'x' * (20 << 20) + b'\n')
            answer = bridge.message()
            assert answer['error']['code'] == -32600 and '16 MiB' in answer['error']['message'], answer
        assert bridge.call('list') and not bridge.kept
        assert bridge.below(10 << 20)


@case
def a_long_request_holds_up_no_other():
    with Bridge() as bridge:
        bridge.call('new', name='fed')
        feeding = bridge.send('feed', conversation='fed', text='The sea is wide and deep. ' * 400)
        began = time.monotonic()
        for _ in range(5):
            bridge.call('list')
        assert bridge.call('show', conversation='fed')['conversation']['state'] in ('queued', 'reading')
        assert bridge.call('stop', conversation='fed') == {'stopped': True}
        took = time.monotonic() - began
        assert took < 5 * live.SLOW, f'{took} s'
        bridge.answer(feeding)


@case
def an_answer_is_stopped():
    with Bridge() as bridge:
        bridge.call('say', conversation='endless', text=live.TALK, create=True, attach=True, sampling=live.ENDLESS)
        events = bridge.until('text')
        assert bridge.call('stop', conversation='endless') == {'stopped': True}
        events += bridge.until('done')
        assert events[-1]['finish'] == 'stopped'
        dense(events)


@case
def two_bridges_and_a_client_see_the_same():
    with Bridge() as one, Bridge() as two:
        one.call('new', name='shared', sampling={'max_tokens': 20, 'seed': 4})
        two.call('attach', conversation='shared', **{'from': 1})
        client = daemon.client()
        client.call('attach', conversation='shared', **{'from': 1})
        one.call('attach', conversation='shared', **{'from': 1})
        one.call('say', conversation='shared', text='What is the sea?')
        seen = [one.until('done'), two.until('done'), client.until('done')]
        assert seen[0] == seen[1] == seen[2]
        client.close()


@case
def a_daemon_that_is_killed_is_a_pause():
    global daemon
    with Bridge() as bridge:
        before = bridge.call('hello')['instance']
        bridge.call('new', name='killed', sampling={'max_tokens': 80, 'seed': 6, 'temperature': 0.3})
        bridge.call('attach', conversation='killed', **{'from': 1})
        bridge.call('say', conversation='killed', text='Tell me a story about the sea.')
        events = bridge.until('text')
        daemon.kill()
        lost = bridge.message()
        while lost.get('method') != 'connection':
            bridge.kept.append(lost)
            lost = bridge.message()
        assert lost['params'] == {'state': 'lost', 'instance': before}, lost
        waiting = bridge.send('fork', conversation='killed', to='begun while away')
        daemon = live.Daemon(live.model(), home=daemon.home)
        events += bridge.until('done')
        dense(events, 1)
        same(text_of(events), bridge.call('log', conversation='killed')['messages'][-1]['text'])
        try:
            bridge.reply(waiting)
        except Failed as failure:
            assert failure.name == 'ebusy', failure
        back = [m['params'] for m in bridge.kept if m.get('method') == 'connection']
        assert [m['state'] for m in back] == ['connected'] and back[0]['instance'] != before
        assert bridge.call('hello')['pid'] == daemon.pid


@case
def an_attachment_that_ends_is_named():
    forgetful = live.Daemon(live.tiny(), '--state', 'none')
    client = forgetful.client()
    for name in ('gone', 'kept'):
        client.call('new', name=name, system='')
    client.close()
    follower = subprocess.Popen([live.SINK, 'log', '-f', 'gone'], env=forgetful.env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with Bridge(home=forgetful.home) as bridge:
        for name in ('gone', 'kept'):
            bridge.call('attach', conversation=name, **{'from': 1})
        live.eventually(lambda: bridge.call('show', conversation='gone')['conversation']['clients'] == 2, 'it follows')
        forgetful.kill()
        forgetful = live.Daemon(live.tiny(), '--state', 'none', home=forgetful.home)
        ended = sorted((bridge.until('ended')[-1] for _ in range(2)), key=lambda event: event['conversation'])
        assert [(e['conversation'], e['code']) for e in ended] == [('gone', 'enoent'), ('kept', 'enoent')], ended
        assert all('seq' not in e and len(e['text']) > 10 for e in ended), ended
    out, err = follower.communicate(timeout=live.WAIT)
    assert follower.returncode == 4 and 'gone' in err, (follower.returncode, out, err)
    forgetful.stop()


@case
def who_does_not_read_harms_nobody():
    with Bridge() as bridge, Bridge() as other:
        other.call('new', name='flood', sampling=live.ENDLESS)
        bridge.call('attach', conversation='flood')
        bridge.call('new', name='big', system='wide sea ' * 30000)
        assert len(bridge.call('log', conversation='big')['messages'][0]['text']) == 270000
        try:  # it stops taking requests, too
            os.set_blocking(bridge.process.stdin.fileno(), False)
            while True:
                bridge.process.stdin.write(b'{"jsonrpc":"2.0","id":0,"method":"log","params":{"conversation":"big"}}\n' * 99)
                bridge.process.stdin.flush()
                time.sleep(0.05)
        except BlockingIOError:
            pass
        other.call('say', conversation='flood', text=live.TALK)
        time.sleep(1)
        began = time.monotonic()
        assert other.call('list') and other.call('stop', conversation='flood')['stopped']
        assert time.monotonic() - began < 5 * live.SLOW
        assert bridge.below(96 << 20, 'VmHWM')


@case
def the_end_of_the_input_waits_for_replies():
    with Bridge() as bridge:
        bridge.call('new', name='end', sampling={'max_tokens': 30})
        feeding = bridge.send('feed', conversation='end', text='The sea is wide and deep. ' * 40)
        last = bridge.send('show', conversation='nobody')
        bridge.write(b'{"jsonrpc":"2.0","id":"partial","method":"tokenize","params":{"text":"sea"}}')  # no newline
        said, status = bridge.end()
        assert status == 0 and {m['id'] for m in said} == {feeding, last, 'partial'}, said
    with Bridge() as bridge:
        bridge.call('say', conversation='end', text='Go on.', attach=True)
        _, status = bridge.end()
        assert status == 0
    client = daemon.client()
    live.eventually(lambda: client.call('log', conversation='end')['messages'][-1].get('finish'), 'the answer goes on')
    assert client.call('log', conversation='end')['messages'][-1]['finish'] in ('length', 'end')
    client.close()


@case
def who_reads_no_more_ends_it():
    with Bridge() as bridge:
        bridge.call('list')
        bridge.process.stdout.close()
        assert bridge.process.wait(live.WAIT) == 0


@case
def it_speaks_through_other_processes():
    for command in (f'cat | {live.SINK} --stdio | cat', f'sh -c "exec {live.SINK} stdio"'):
        with Bridge(command, shell=True) as bridge:
            assert bridge.call('hello')['protocol'] == 1
            bridge.call('say', conversation='piped', text='Hello.', create=True, attach=True, sampling={'max_tokens': 5})
            dense(bridge.until('done'))
            _, status = bridge.end()
            assert status == 0


@case
def it_is_small():
    with Bridge() as bridge:
        bridge.call('say', conversation='small', text='Hello.', create=True, attach=True, sampling={'max_tokens': 50})
        bridge.until('done')
        assert bridge.below(10 << 20, 'VmHWM')


@case
def too_many_requests_are_refused():
    with Bridge() as bridge:
        bridge.call('hello')
        daemon.signal(signal.SIGSTOP)
        try:
            for number in range(1100):
                bridge.write(json.dumps({'jsonrpc': '2.0', 'id': number, 'method': 'status'}).encode() + b'\n')
            for number in range(1024, 1100):
                answer = bridge.message()
                assert answer['id'] == number and answer['error']['data']['code'] == 'ebusy', answer
        finally:
            daemon.signal(signal.SIGCONT)
        for _ in range(1024):
            assert 'result' in bridge.message()


@case
def it_starts_a_daemon():
    home = live.directory()
    os.makedirs(home + '/data/sinkd/models')
    os.symlink(live.tiny(), home + '/data/sinkd/models/default.gguf')
    with Bridge(home=home) as bridge:
        assert bridge.call('hello')['protocol'] == 1
        assert bridge.call('shutdown') == {}


live.main()
