"""Bad frames, bad values, bad files, bad neighbours: each gets a clear error, and everybody else goes on."""
import math
import os
import socket
import struct
import subprocess
import time

import msgpack

import live
from live import case, same, text_of

daemon = live.Daemon(live.tiny())
GREEDY = {'temperature': 0, 'max_tokens': 40}


def _goes_on(client=None):
    """The daemon lives, and this client (or a new one) is served."""
    client = client or daemon.client()
    assert client.call('status')['state'] == 'ready'
    assert daemon.alive(), daemon.text()


@case
def bad_frames_are_answered_and_the_next_is_served():
    client = daemon.client()
    frames = {
        'an array of four thousand million': bytes.fromhex('ddff000000'),
        'a map of four thousand million': bytes.fromhex('dfffffffff'),
        'ten thousand nested arrays': b'\x91' * 10000,
        'ten thousand nested maps': b'\x81\xa1a' * 10000,
        'a string of 4 GiB in ten bytes': b'\xdb\xff\xff\xff\xff' + b'x' * 10,
        'a binary of 4 GiB': b'\xc6\xff\xff\xff\xff',
        'nothing': b'',
        'one byte': b'\xc1',
        'a number': msgpack.packb(5),
        'an array': msgpack.packb([1, 2]),
        'a map without verb': msgpack.packb({'id': 5}),
        'a map without id': msgpack.packb({'op': 'status'}),
        'keys that are numbers': msgpack.packb({1: 2}),
        'a key twice': b'\x83\xa2id\x01\xa2id\x02\xa2op\xa6status',
        'half a map': msgpack.packb({'op': 'status', 'id': 1})[:-3],
        'a map and more': msgpack.packb({'op': 'status', 'id': 1}) + b'\x01',
        'a string that is no UTF-8': b'\x82\xa2id\x01\xa2op\xa4\xff\xfe\x80\x80',
        'an overlong character': b'\x82\xa2id\x01\xa2op\xa2\xc0\xaf',
        'a surrogate': b'\x82\xa2id\x01\xa2op\xa3\xed\xa0\x80',
        'an id below zero': msgpack.packb({'op': 'status', 'id': -1}),
        'an id that is text': msgpack.packb({'op': 'status', 'id': 'one'}),
        'a verb that is a number': msgpack.packb({'op': 7, 'id': 1}),
        'a verb of a kilobyte': msgpack.packb({'op': 'x' * 1000, 'id': 1}),
    }
    for what, frame in frames.items():
        client.send_raw(frame)
        message = client.receive(10)
        assert 'error' in message, f'{what}: {message}'
        assert message['error']['code'] in ('eformat', 'einval', 'eproto'), f'{what}: {message}'
        assert message['error']['text'], what
        _goes_on(client)


@case
def a_frame_of_many_parts_is_refused():
    client = daemon.client()
    client.socket.send_multipart([msgpack.packb({'op': 'status', 'id': 1})] * 1000)
    time.sleep(0.2)
    _goes_on()


@case
def a_frame_beyond_the_limit_is_refused():
    client = daemon.client()
    limit = client.server['limits']['message_bytes']
    client.send_raw(msgpack.packb({'op': 'tokenize', 'id': 9, 'text': 'x' * limit}))
    try:
        message = client.receive(3)
        assert 'error' in message, message
    except TimeoutError:
        pass  # ZeroMQ's own limit ends the connection
    _goes_on()


@case
def hello_comes_first():
    stranger = live.Client(daemon.endpoint, hello=False)
    assert stranger.refused('status').code == 'eproto'
    assert stranger.refused('hello', protocol=2, client='future').code == 'eproto'
    assert stranger.refused('hello', protocol='1', client='text').code == 'einval'
    stranger.call('hello', protocol=1, client='now')
    _goes_on(stranger)
    assert stranger.refused('levitate').code == 'eproto'


@case
def values_out_of_range_name_themselves():
    client = daemon.client()
    client.call('new', name='ranges')
    big = (1 << 64) - 1
    for key, values in {
            'temperature': [math.nan, math.inf, -math.inf, -0.1, 101, 'warm', True],
            'top_p': [0, -1, 1.01, math.nan],
            'min_p': [-0.1, 1, math.nan],
            'top_k': [-1, 1 << 31, -(1 << 63), big, 1.5],
            'repetition_penalty': [0, -1, 11, math.nan],
            'presence_penalty': [-11, 11, math.inf],
            'frequency_penalty': [-11, 11],
            'penalty_last': [-1, 8193, big],
            'max_tokens': [-1, 1 << 31, -(1 << 63), big],
            'seed': [-1, big, 'one'],
            'stop': ['word', [''], ['x' * 257], ['a'] * 17, [5]],
            'logprobs': [1, 'yes'],
            'top_logprobs': [-1, 21, 1.5, True],
    }.items():
        for value in values:
            refusal = client.refused('say', conversation='ranges', text='Hi', sampling={key: value})
            assert refusal.code == 'einval' and key in refusal.text, f'{key}={value!r}: {refusal}'
    for verb, fields in (
            ('attach', {'conversation': 'ranges', 'from': -1}), ('attach', {'conversation': 'ranges', 'from': 999}),
            ('attach', {'conversation': 'ranges', 'from': big}), ('attach', {'conversation': 'ranges', 'credit': -1}),
            ('credit', {'attachment': 999, 'bytes': 1}), ('detach', {'attachment': -1}),
            ('log', {'conversation': 'ranges', 'from': -1}), ('log', {'conversation': 'ranges', 'count': -5}),
            ('log', {'conversation': 'ranges', 'count': big}),
            ('rewind', {'conversation': 'ranges', 'message': -1}),
            ('rewind', {'conversation': 'ranges', 'message': 1 << 62}),
            ('say', {'conversation': 'ranges'}), ('say', {'conversation': 'ranges', 'text': 5}),
            ('say', {'conversation': 'ranges', 'text': 'Hi', 'role': 'wizard'}),
            ('say', {'conversation': 5, 'text': 'Hi'}), ('say', {'text': 'Hi'}),
            ('new', {'policy': 'sink:-4,128'}), ('new', {'policy': 'sink:4,0'}),
            ('new', {'policy': 'sink:4,99999999999999999999'}), ('new', {'policy': 'whirl'}),
            ('new', {'policy': 'sink:2000000000,2000000000'})):
        refusal = client.refused(verb, **fields)
        assert refusal.code in ('einval', 'enoent', 'ebusy'), f'{verb} {fields}: {refusal}'
    _goes_on(client)


@case
def tokens_outside_the_vocabulary_are_refused():
    client = daemon.client()
    client.call('new', name='tokens')
    vocabulary = client.server['model']['vocab']
    for bad in (vocabulary, -1, 1 << 31, 1 << 40, -(1 << 63), (1 << 64) - 1):
        for verb, fields in (('feed', {'conversation': 'tokens'}), ('score', {}), ('detokenize', {})):
            refusal = client.refused(verb, tokens=[1, bad], **fields)
            assert refusal.code == 'einval', f'{verb} {bad}: {refusal}'
    for wrong in ('12', [1, 'two'], [1.5], {'a': 1}):
        assert client.refused('feed', conversation='tokens', tokens=wrong).code == 'einval'
    _goes_on(client)


@case
def names_that_are_no_names_are_refused():
    client = daemon.client()
    bad = ('', 'a/b', '../x', '/', '.hidden', '-x', ' x', 'x ', 'a\nb', 'a\0b', 'a\x7fb', 'a@b', 'a=b', 'x' * 65,
           'x' * 4096, 'é' * 33, '\x1b[31m')
    for name in bad:
        assert client.refused('new', name=name).code == 'einval', repr(name)
        assert client.refused('say', conversation=name, text='Hi', create=True).code == 'einval', repr(name)
    client.call('new', name='old name')
    for name in bad:
        assert client.refused('rename', conversation='old name', to=name).code == 'einval', repr(name)
    for name in ('x' * 64, 'é' * 32, 'a b', 'ünï', '1'):
        client.call('new', name=name)
    assert client.refused('new', name='a b').code == 'eexist'
    for verb in ('show', 'attach', 'stop', 'log', 'remove', 'regenerate', 'generate'):
        refusal = client.refused(verb, conversation='nobody')
        assert refusal.code == 'enoent' and 'nobody' in refusal.text, f'{verb}: {refusal}'


@case
def a_client_that_never_reads_harms_nobody():
    client = daemon.client()
    alone = client.ask('calm', 'Hello there.', GREEDY)
    lazy = [daemon.client() for _ in range(4)]
    for reader in lazy:
        reader.socket.setsockopt(live.zmq.RCVHWM, 1)
        for i in range(20):
            reader.send('attach', conversation='calm', **{'from': 1, 'credit': 1 << 30})
        reader.send('log', conversation='calm')
    for i in range(5):
        same(client.ask(f'calm.{i}', 'Hello there.', GREEDY), alone)
    for reader in lazy:
        reader.close()
    _goes_on(client)


@case
def a_silent_or_babbling_raw_peer_harms_nobody():
    path = daemon.endpoint[len('ipc://'):]
    peers = []
    for words in (b'', b'\x01\x00', b'GET / HTTP/1.1\r\n\r\n', os.urandom(4096), b'\xff' * 65536):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.connect(path)
        peer.settimeout(1)
        try:
            peer.sendall(words)
        except OSError:
            pass
        peers.append(peer)
    _goes_on()
    for peer in peers:
        peer.close()
    for _ in range(200):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.connect(path)
        peer.close()
    _goes_on()


@case
def many_clients_come_and_go():
    for _ in range(50):
        client = daemon.client()
        client.send('say', conversation='crowd', text='Hi', create=True, attach=True, sampling=GREEDY)
        client.close()
    live.eventually(lambda: daemon.client().call('show', conversation='crowd')['conversation']['state'] == 'idle',
                    'the crowd is answered')
    _goes_on()


@case
def a_second_daemon_is_refused():
    second = live.Daemon(live.tiny(), home=daemon.home, ready=False)
    status = second.wait()
    assert status != 0, 'a second daemon runs on the same path'
    assert str(daemon.pid) in second.text() or 'another' in second.text() or 'already' in second.text(), second.text()
    _goes_on()


@case
def a_stale_socket_file_is_replaced():
    home = live.directory()
    first = live.Daemon(live.tiny(), home=home)
    first.kill()
    assert os.path.exists(f'{home}/sinkd/sinkd.sock'), 'a killed daemon leaves its socket behind'
    live.Daemon(live.tiny(), home=home).stop()


def _gguf(*pairs, tensors=0, version=3):
    """The beginning of a GGUF file: header and metadata, pairs of (name, type, bytes)."""
    data = b'GGUF' + struct.pack('<IQQ', version, tensors, len(pairs))
    for name, kind, value in pairs:
        data += struct.pack('<Q', len(name)) + name + struct.pack('<I', kind) + value
    return data


@case
def damaged_model_files_end_with_status_six():
    whole = open(live.tiny(), 'rb').read()
    text = lambda s: struct.pack('<Q', len(s)) + s
    alignment = b'general.alignment'
    files = {
        'nothing': b'',
        'four bytes': b'GGUF',
        'another format': b'PK\x03\x04' + whole[4:],
        'half a file': whole[:len(whole) // 2],
        'all but the last byte': whole[:-1],
        'version 1': whole[:4] + struct.pack('<I', 1) + whole[8:],
        'big-endian': whole[:4] + struct.pack('>I', 3) + whole[8:],
        'tensors without end': whole[:8] + struct.pack('<Q', (1 << 64) - 1) + whole[16:],
        'pairs without end': whole[:16] + struct.pack('<Q', 1 << 62) + whole[24:],
        'an endless string': _gguf((b'general.name', 8, struct.pack('<Q', (1 << 63) - 1))),
        'an endless array': _gguf((b'x', 9, struct.pack('<IQ', 0, 1 << 61))),
        'an array of arrays': _gguf((b'x', 9, struct.pack('<IQ', 9, 1) * 64)),
        'an unknown type': _gguf((b'x', 99, b'')),
        'an empty key': _gguf((b'', 8, text(b'llama'))),
        'a key twice': _gguf(*[(b'general.architecture', 8, text(b'llama'))] * 2),
        'no architecture': _gguf((b'general.name', 8, text(b'x'))),
        'an unknown architecture': _gguf((b'general.architecture', 8, text(b'perceptron'))),
        'alignment 0': _gguf((alignment, 4, struct.pack('<I', 0))),
        'alignment 3': _gguf((alignment, 4, struct.pack('<I', 3))),
        'alignment of text': _gguf((alignment, 8, text(b'32'))),
        'no dimension of zero': _gguf((b'general.architecture', 8, text(b'llama')), tensors=1) +
                                text(b'x') + struct.pack('<IQIQ', 1, 0, 0, 0),
        'dimensions that overflow': _gguf((b'general.architecture', 8, text(b'llama')), tensors=1) +
                                    text(b'x') + struct.pack('<IQQQQIQ', 4, *[1 << 42] * 4, 0, 0),
        'nine dimensions': _gguf((b'general.architecture', 8, text(b'llama')), tensors=1) +
                           text(b'x') + struct.pack('<I', 9) + b'\x01' * 200,
        'offset past the end': _gguf((b'general.architecture', 8, text(b'llama')), tensors=1) +
                               text(b'x') + struct.pack('<IQIQ', 1, 32, 0, (1 << 64) - 32),
    }
    for what, data in files.items():
        path = os.path.join(live.directory(), 'bad.gguf')
        with open(path, 'wb') as file:
            file.write(data)
        bad = live.Daemon(path, ready=False)
        status = bad.wait()
        assert status == 6, f'{what}: status {status}: {bad.text()}'
        assert 'bad.gguf' in bad.text() or 'GGUF' in bad.text(), f'{what}: {bad.text()}'
        checked = subprocess.run([live.SINKD, '-t', '-m', path], env=bad.env, capture_output=True, check=False)
        assert checked.returncode == 6, f'{what}: sinkd -t says {checked.returncode}'


@case
def a_missing_model_is_named():
    missing = live.Daemon('/nonexistent/model.gguf', ready=False)
    assert missing.wait() not in (0, None)
    assert '/nonexistent/model.gguf' in missing.text(), missing.text()
    folder = live.Daemon(live.directory(), ready=False)
    assert folder.wait() not in (0, None), folder.text()


@case
def after_all_that_it_answers_and_ends_cleanly():
    client = daemon.client()
    assert client.ask('last', 'Hello.', GREEDY) != ''
    daemon.stop()


live.main()
