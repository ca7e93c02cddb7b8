"""The Python package's protocol.py without a socket: what it says to what a daemon may say, at moments that no real one
can be brought to. Written from libproto/README.md."""
import os
import sys

import msgpack

import live
from live import case, same

sys.path.insert(0, os.path.join(live.SOURCE, 'contrib', 'python'))
sys.dont_write_bytecode = True
from sinkd import errors  # noqa: E402  (from the tree)
from sinkd.protocol import Core  # noqa: E402

INFO = {'name': 'sea', 'seq': 5, 'answer': None}


class Peer:
    """A core, and the daemon's part by hand."""

    def __init__(self, greet=True):
        self.core = Core('test')
        self.core.opened()
        if greet:
            self.greet()

    def sent(self):
        """What was sent since the last look."""
        frames = [msgpack.unpackb(frame) for frame in self.core.outbox]
        self.core.outbox.clear()
        return frames

    def give(self, **message):
        self.core.received(msgpack.packb(message))

    def greet(self, **more):
        hello = self.sent()[0]
        same((hello['op'], hello['protocol']), ('hello', 1))
        self.give(id=hello['id'], ok={'protocol': 1, 'limits': {'message_bytes': 1000}, **more})

    def again(self):
        """The connection is lost, and another one is there."""
        self.core.lost()
        self.core.opened()
        self.greet()

    def event(self, seq, ev='text', conversation='sea', **more):
        self.give(ev=ev, conversation=conversation, seq=seq, **more)

    def follow(self, number=7, seq=5, **fields):
        """A tail on `sea` that the daemon has granted."""
        tail = self.core.follow('say', {'conversation': 'sea', 'text': 'Hi', **fields}, 1000)
        request = self.sent()[-1]
        self.give(id=request['id'], ok={'conversation': INFO, 'message': 1, 'seq': seq, 'attachment': number})
        return tail


def _taken(core, tail):
    seen = []
    while tail.queue:
        seen.append(core.take(tail)['seq'])
    return seen


@case
def hello_comes_first_and_alone():
    peer = Peer(greet=False)
    request = peer.core.start('list', {})
    same([one['op'] for one in peer.sent()], ['hello'])
    peer.give(id=1, ok={'protocol': 1})
    same([one['op'] for one in peer.sent()], ['list'])
    peer.give(id=request.number, ok={'conversations': []})
    assert request.done and request.reply == {'conversations': []}


@case
def another_version_is_no_use():
    for reply in ({'ok': {'protocol': 2}}, {'error': {'code': 'eproto', 'text': 'This is version 2.'}}):
        peer = Peer(greet=False)
        peer.sent()
        peer.give(id=1, **reply)
        assert isinstance(peer.core.refusal, errors.Protocol) and not peer.core.ready


@case
def frames_that_are_no_messages_end_the_connection():
    for frame in (b'', b'\xc1', b'\x81\xa1a', msgpack.packb([1]), msgpack.packb({1: 2}), b'\x81\xa1\xff\x01',
                  msgpack.packb({'ev': 'text', 'conversation': 'sea', 'seq': 'five'}),
                  msgpack.packb({'ev': 'text', 'conversation': 'sea'}), msgpack.packb({'id': 2, 'error': 'bad'})):
        peer = Peer()
        peer.follow()
        peer.core.received(frame)
        assert peer.core.refusal, frame
        same(peer.core.refusal.code, 'eproto')


@case
def what_changes_something_has_a_key_and_is_sent_again_with_it():
    peer = Peer()
    peer.core.start('list', {})
    peer.core.start('rename', {'conversation': 'a', 'to': 'b'})
    lost = peer.core.start('bundle_read', {'bundle': 1, 'offset': 0})
    first = peer.sent()
    same(['key' in one for one in first], [False, True, False])
    assert 1 <= first[1]['key'] < 1 << 63
    peer.again()
    same(peer.sent(), first[:2])
    assert isinstance(lost.error, errors.ConnectionLost) and 'may have been' in str(lost.error)


@case
def a_request_that_is_too_long_is_not_sent():
    peer = Peer()
    try:
        peer.core.start('say', {'conversation': 'a', 'text': 'x' * 1001})
    except errors.Invalid:
        same(peer.sent(), [])
    else:
        raise AssertionError('it was sent')
    early = Peer(greet=False)
    request = early.core.start('say', {'conversation': 'a', 'text': 'x' * 1001})
    early.greet()
    assert isinstance(request.error, errors.Invalid) and not early.sent()


@case
def after_bye_what_can_wait_is_for_the_next_daemon():
    peer = Peer()
    busy = peer.core.start('list', {})
    peer.sent()
    peer.give(ev='bye', reason='It is told to.')
    peer.give(id=busy.number, error={'code': 'ebusy', 'text': 'The daemon ends.'})
    waiting = peer.core.start('show', {'conversation': 'a'})
    same(peer.sent(), [])
    assert not busy.done and not waiting.done
    peer.again()
    same([one['op'] for one in peer.sent()], ['list', 'show'])


@case
def events_follow_each_other_whatever_arrives():
    peer = Peer()
    tail = peer.follow()
    for seq in (5, 6, 5, 6, 7):
        peer.event(seq)
    same(_taken(peer.core, tail), [5, 6, 7])
    peer.event(10)  # a gap: it comes back at its cursor
    back = peer.sent()[-1]
    same((back['op'], back['from'], back['conversation']), ('attach', 8, 'sea'))
    peer.event(11)
    peer.give(id=back['id'], ok={'conversation': INFO, 'attachment': 8, 'seq': 8})
    for seq in (8, 9, 10, 11):
        peer.event(seq)
    same(_taken(peer.core, tail), [8, 9, 10, 11])


@case
def after_a_loss_it_comes_back_at_its_cursor():
    peer = Peer()
    tail = peer.follow()
    peer.event(5)
    peer.again()
    back = peer.sent()[-1]
    same((back['op'], back['from']), ('attach', 6))
    peer.give(id=back['id'], ok={'conversation': INFO, 'attachment': 1, 'seq': 6})
    peer.event(6)
    same(_taken(peer.core, tail), [5, 6])


@case
def a_reply_that_was_kept_attaches_at_its_event():
    peer = Peer()
    tail = peer.core.follow('say', {'conversation': 'sea', 'text': 'Hi'}, 1000)
    first = peer.sent()[-1]
    peer.again()
    same(peer.sent(), [first])
    peer.give(id=first['id'], ok={'conversation': INFO, 'message': 1, 'seq': 5})
    back = peer.sent()[-1]
    same((back['op'], back['from']), ('attach', 5))
    peer.give(id=back['id'], ok={'conversation': INFO, 'attachment': 2, 'seq': 5})
    peer.event(5)
    same(_taken(peer.core, tail), [5])


@case
def events_that_are_not_there_any_more_are_told():
    for code, kind in (('egone', errors.Gone), ('einval', errors.Gone), ('enoent', errors.NotFound)):
        peer = Peer()
        tail = peer.follow()
        peer.event(5)
        peer.again()
        peer.give(id=peer.sent()[-1]['id'], error={'code': code, 'text': 'It is not so.'})
        assert tail.ended and isinstance(tail.error, kind), tail.error
        same(_taken(peer.core, tail), [5])
    peer = Peer()
    tail = peer.follow()
    peer.event(5, 'error', code='egone', text='This reader was too slow.')
    assert tail.ended and isinstance(tail.error, errors.Gone) and not tail.queue


@case
def credit_is_granted_when_half_of_it_was_taken():
    peer = Peer()
    tail = peer.follow()
    for seq in range(5, 9):
        peer.event(seq, text='x' * 100)
    size = len(msgpack.packb({'ev': 'text', 'conversation': 'sea', 'seq': 5, 'text': 'x' * 100}))
    same(peer.sent(), [])
    for _ in range(4):
        peer.core.take(tail)
    grants = peer.sent()
    same([(one['op'], one['attachment'], one['bytes']) for one in grants], [('credit', 7, 4 * size)])


@case
def the_slowest_reader_of_a_conversation_governs_its_credit():
    peer = Peer()
    quick, slow = peer.follow(), peer.follow()
    for seq in range(5, 10):
        peer.event(seq, text='x' * 200)
    _taken(peer.core, quick)
    same(peer.sent(), [])
    same(_taken(peer.core, slow), [5, 6, 7, 8, 9])
    assert sum(one['bytes'] for one in peer.sent()) >= 500
    peer.event(10)
    peer.core.drop(slow)
    same(peer.sent(), [])
    peer.core.drop(quick)
    same([(one['op'], one['attachment']) for one in peer.sent()][-1:], [('detach', 7)])


@case
def a_late_reader_gets_the_past_and_the_others_do_not():
    peer = Peer()
    early = peer.follow()
    peer.event(5)
    late = peer.core.follow('attach', {'conversation': 'sea', 'from': 2}, 1000)
    attach = peer.sent()[-1]
    same(attach['from'], 2)
    peer.event(6)
    peer.give(id=attach['id'], ok={'conversation': {**INFO, 'seq': 7}, 'attachment': 9, 'seq': 2})
    for seq in range(2, 8):
        peer.event(seq)
    same(_taken(peer.core, early), [5, 6, 7])
    same(_taken(peer.core, late), [2, 3, 4, 5, 6, 7])
    live_one = peer.core.follow('attach', {'conversation': 'sea'}, 1000)
    attach = peer.sent()[-1]
    same(attach['from'], 8)
    peer.give(id=attach['id'], ok={'conversation': {**INFO, 'seq': 9}, 'attachment': 10, 'seq': 8})
    peer.event(8)
    peer.event(9)
    same((_taken(peer.core, live_one), _taken(peer.core, late)), ([9], [8, 9]))


@case
def what_comes_before_the_reply_is_not_lost():
    peer = Peer()
    watcher = peer.follow()
    asked = peer.core.follow('say', {'conversation': 'sea', 'text': 'And?'}, 1000)
    request = peer.sent()[-1]
    for seq in (5, 6, 7):
        peer.event(seq)
    peer.give(id=request['id'], ok={'conversation': INFO, 'message': 3, 'seq': 6, 'attachment': 7})
    peer.event(8)
    same((_taken(peer.core, watcher), _taken(peer.core, asked)), ([5, 6, 7, 8], [6, 7, 8]))


@case
def an_attachment_that_nobody_waits_for_is_ended():
    peer = Peer()
    tail = peer.core.follow('say', {'conversation': 'sea', 'text': 'Hi'}, 1000)
    request = peer.sent()[-1]
    peer.core.drop(tail)
    peer.give(id=request['id'], ok={'conversation': INFO, 'message': 1, 'seq': 5, 'attachment': 7})
    same([(one['op'], one['attachment']) for one in peer.sent()], [('detach', 7)])


@case
def names_move_with_the_events():
    peer = Peer()
    tail = peer.follow()
    peer.event(5, 'renamed', to='lake')
    peer.event(6, conversation='lake')
    again = peer.core.follow('say', {'conversation': 'lake', 'text': 'Hi'}, 1000)
    peer.give(id=peer.sent()[-1]['id'],
              ok={'conversation': {**INFO, 'name': 'lake'}, 'message': 1, 'seq': 7, 'attachment': 7})
    peer.event(7, 'removed', conversation='lake')
    same((_taken(peer.core, tail), _taken(peer.core, again)), ([5, 6, 7], [7]))
    assert tail.ended and again.ended


@case
def when_no_connection_comes_all_that_wait_are_told():
    peer = Peer()
    tail, request = peer.follow(), peer.core.start('list', {})
    peer.core.lost()
    assert peer.core.wanted
    peer.core.fail(errors.ConnectionLost('Nobody is there.'))
    assert request.done and tail.ended and isinstance(tail.error, errors.ConnectionLost)
    assert not peer.core.wanted


live.main()
