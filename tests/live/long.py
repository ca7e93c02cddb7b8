"""A prompt far longer than the window is read, shown as progress, and stalls nobody."""
import time

import live
from live import case, text_of

WORDS = 100000
MODEL = live.tiny()


@case
def a_prompt_of_100000_tokens_beside_a_live_stream():
    daemon = live.Daemon(MODEL)
    client, reader = daemon.client(), daemon.client()
    client.call('new', name='talk', policy='sink:4,128')
    # The other conversation answers for as long as the reading takes, begun anew when it ends.
    client.say('talk', live.TALK, sampling=live.ENDLESS)
    client.until('text')

    reader.call('new', name='long', policy='sink:4,256')
    thousand = reader.call('tokenize', text='the sea ' * 1000)['tokens']
    text = 'the sea ' * (WORDS * 1000 // len(thousand) + 1000)
    began = time.monotonic()
    reader.say('long', text, sampling={'seed': 1, 'max_tokens': 5})
    gaps, last, progress, done = [], time.monotonic(), [], None
    while done is None:
        while True:
            try:
                event = client.event(0.02 / live.SLOW)
            except TimeoutError:
                break
            if event['ev'] == 'done':
                client.send('regenerate', conversation='talk')
                client.reply(client.last)
            if event['ev'] == 'text':
                now = time.monotonic()
                gaps.append(now - last)
                last = now
                break
        while True:
            try:
                event = reader.event(0)
            except TimeoutError:
                break
            if event['ev'] == 'prefill':
                progress.append((event['done'], event['total']))
            if event['ev'] == 'done':
                done = event
                break
        assert time.monotonic() - began < 5 * live.WAIT, f'not read in time: {progress[-1:]}'
    took = time.monotonic() - began
    total = progress[-1][1]
    worst = max(gaps)
    print(f'# {total} tokens in {took:.1f} s; {len(gaps)} pieces beside it, the longest gap {worst * 1000:.0f} ms')
    assert total >= WORDS and progress[-1][0] == total, progress[-1]
    assert len(progress) >= 3 and [pair[0] for pair in progress] == sorted(pair[0] for pair in progress)
    assert done['usage']['prompt'] >= WORDS and done['usage']['evicted'] > 0, done
    assert len(gaps) >= 10, 'the live stream stood still'
    assert worst < 1.0 * live.SLOW, f'the live stream stood still for {worst:.2f} s'
    client.call('stop', conversation='talk')
    daemon.stop()


@case
def reading_can_be_stopped():
    daemon = live.Daemon(MODEL)
    client = daemon.client()
    client.say('long', 'the sea ' * WORDS, sampling={'seed': 1, 'max_tokens': 5})
    client.until('prefill')
    assert client.call('stop', conversation='long')['stopped'] is True
    live.eventually(lambda: client.call('show', conversation='long')['conversation']['state'] == 'idle', 'it stops', 5)
    assert client.ask('other', 'Hello.', {'max_tokens': 5, 'seed': 1}) != ''
    daemon.stop()


live.main()
