#!/usr/bin/env python3
"""Asks a conversation of sinkd one question and streams the answer; written from the page of the protocol alone."""
import argparse
import json
import os
import sys

import msgpack
import zmq

RUN = os.environ.get('XDG_RUNTIME_DIR', '/run')
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('-H', dest='host', default=os.environ.get('SINK_HOST', f'{RUN}/sinkd/sinkd.sock'))
parser.add_argument('-c', dest='name', default='python', help='name of the conversation, made when missing')
parser.add_argument('--from', dest='seq', type=int, help='say nothing, but go on from this event')
parser.add_argument('--json', action='store_true', help='print every event as a line of JSON')
parser.add_argument('prompt', nargs='?', help='what to say; read from stdin when missing')
given = parser.parse_args()
socket = zmq.Context().socket(zmq.DEALER)
socket.linger = 0
socket.connect(given.host if '://' in given.host else 'ipc://' + given.host)


def send(op, number, **fields):
    socket.send(msgpack.packb({'op': op, 'id': number, **fields}))


def receive():
    """The next message and its size; a daemon that says nothing for long is asked for a sign of life."""
    if not socket.poll(3000):
        send('status', 4)
    frame = socket.recv() if socket.poll(3000) else b''
    message = msgpack.unpackb(frame) if frame else {'error': {'text': f'Nobody answers at {given.host}.'}}
    if 'error' in message:
        sys.exit(f"sinkask: {message['error']['text']}" + (f' Go on with --from {seq}.' if seq else ''))
    return message, len(frame)


seq = given.seq
send('hello', 1, protocol=1, client='sinkask')
receive()
if given.seq is not None:
    send('attach', 2, conversation=given.name, **{'from': seq})
else:
    send('say', 2, conversation=given.name, text=given.prompt or sys.stdin.read(), create=True, attach=True)
attached = receive()[0]['ok']
seq, event, info = attached['seq'], {}, attached['conversation']
ended = seq == info['seq'] and info['answer'] is None
while not ended:
    event, size = receive()
    if 'seq' not in event:
        continue  # a reply, or a word that the daemon ends
    seq = event['seq'] + 1
    if given.json or event['ev'] == 'text':
        print(json.dumps(event) + '\n' if given.json else event['text'], end='', flush=True)
    send('credit', 3, attachment=attached['attachment'], bytes=size)
    ended = event['ev'] in ('done', 'error', 'removed')
sys.exit(f"sinkask: {event['text']}" if event.get('ev') == 'error' else None)
