"""The interactive conversation on a terminal: typed, interrupted, pasted, detached, taken up again."""
import os
import pty
import re
import select
import signal
import struct
import fcntl
import termios
import time

import live
from live import case

daemon = live.Daemon(live.model())
ESCAPES = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]|\x1b[()=>][A-Z0-9]?|\x1b\][^\x07]*\x07')


class Terminal:
    """A program on a terminal of 80 columns."""

    def __init__(self, *words, env=None):
        self.screen = ''
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            environment = live.environment(daemon.home, {'TERM': 'xterm', **(env or {})})
            try:
                os.execve(live.SINK, ['sink', *words], environment)
            finally:
                os._exit(127)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))

    def read(self, wait=0.05):
        while select.select([self.fd], [], [], wait)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return False
            if not data:
                return False
            self.screen += data.decode('utf-8', 'replace')
        return True

    def plain(self):
        return ESCAPES.sub('', self.screen)

    def expect(self, pattern, what, wait=None):
        """Waits until the pattern appears; the screen is empty behind it."""
        end = time.monotonic() + (live.WAIT if wait is None else wait * live.SLOW)
        while True:
            going = self.read()
            found = re.search(pattern, self.plain(), re.S)
            if found:
                self.screen = self.plain()[found.end():]
                return found
            assert going and time.monotonic() < end, f'waited in vain: {what}; the screen: {self.plain()[-1500:]!r}'

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self, wait=10):
        """Its exit status, when it ends by itself."""
        limit = time.monotonic() + wait * live.SLOW
        while time.monotonic() < limit:
            self.read(0.01)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f'it does not end; the screen: {self.plain()[-1500:]!r}')


def _state(name):
    try:
        return daemon.client().call('show', conversation=name)['conversation']['state']
    except live.Refused:
        return 'absent'


@case
def sink_alone_makes_main_and_talks():
    screen = Terminal()
    screen.expect('main', 'the name of the conversation')
    live.eventually(lambda: _state('main') == 'idle', 'main is made')
    screen.type('Say hello.\r')
    live.eventually(lambda: len(daemon.client().call('log', conversation='main')['messages']) >= 2, 'it answers')
    live.eventually(lambda: _state('main') == 'idle', 'the answer ends')
    answer = daemon.client().call('log', conversation='main')['messages'][-1]['text']
    word = (re.findall(r'[A-Za-z]{3,}', answer) or [''])[-1]
    screen.expect(re.escape(word), 'the answer on the screen')
    time.sleep(0.3)
    screen.type('\x04')
    assert screen.end() == 0, screen.plain()


@case
def ctrl_c_stops_the_answer_and_ctrl_d_detaches():
    client = daemon.client()
    client.call('new', name='chat', sampling=live.ENDLESS)
    screen = Terminal('attach', 'chat')
    screen.expect('chat', 'the name')
    screen.type(live.TALK + '\r')
    live.eventually(lambda: _state('chat') == 'answering', 'it answers')
    time.sleep(0.3)
    screen.type('\x03')
    live.eventually(lambda: _state('chat') == 'idle', 'Ctrl-C stops it')
    assert client.call('log', conversation='chat')['messages'][-1]['finish'] == 'stopped'
    time.sleep(0.3)
    screen.type('Again.\r')
    live.eventually(lambda: _state('chat') == 'answering', 'it answers again')
    screen.type('\x04')
    assert screen.end() == 0, 'Ctrl-D detaches, also while it answers'
    assert _state('chat') == 'answering', 'and the answer goes on'
    client.call('stop', conversation='chat')


@case
def a_closed_terminal_loses_nothing():
    client = daemon.client()
    client.call('new', name='closed', sampling={'max_tokens': 60, 'temperature': 0.8, 'seed': 3})
    screen = Terminal('attach', 'closed')
    screen.expect('closed', 'the name')
    screen.type('Tell me about the sea.\r')
    live.eventually(lambda: _state('closed') in ('answering', 'idle') and
                    len(client.call('log', conversation='closed')['messages']) >= 2, 'it answers')
    os.close(screen.fd)
    os.waitpid(screen.pid, 0)
    live.eventually(lambda: _state('closed') == 'idle', 'the answer ends all the same')
    answer = client.call('log', conversation='closed')['messages'][-1]['text']
    assert client.call('log', conversation='closed')['messages'][-1]['finish'] in ('end', 'length')
    back = Terminal('attach', 'closed')
    words = re.findall(r'[A-Za-z]{4,}', answer)
    assert words, answer
    back.expect(r'.*?'.join(map(re.escape, words[:3])), 'the answer is there')
    time.sleep(0.2)
    back.type('\x04')
    assert back.end() == 0


@case
def a_paste_of_several_lines_is_one_message():
    client = daemon.client()
    client.call('new', name='paste', sampling={'max_tokens': 5, 'seed': 3})
    screen = Terminal('attach', 'paste')
    screen.expect('paste', 'the name')
    time.sleep(0.3)
    screen.type('\x1b[200~first line\rsecond line\nthird line\x1b[201~')
    time.sleep(0.3)
    screen.type('\r')

    def said():
        return [m['text'] for m in client.call('log', conversation='paste')['messages'] if m['role'] == 'user']
    live.eventually(said, 'the message arrives')
    live.eventually(lambda: _state('paste') == 'idle', 'it is answered')
    assert said() == ['first line\nsecond line\nthird line'], said()
    screen.type('\x04')
    assert screen.end() == 0


@case
def two_terminals_watch_one_conversation():
    client = daemon.client()
    client.call('new', name='shared', sampling={'max_tokens': 30, 'seed': 3, 'temperature': 0.5})
    screens = [Terminal('attach', 'shared') for _ in range(2)]
    for screen in screens:
        screen.expect('shared', 'the name')
    time.sleep(0.3)
    screens[0].type('What is salt?\r')
    screens[1].expect('What is salt', 'the other sees the question')
    live.eventually(lambda: _state('shared') == 'idle' and
                    len(client.call('log', conversation='shared')['messages']) >= 2, 'it answers')
    answer = client.call('log', conversation='shared')['messages'][-1]['text']
    words = re.findall(r'[A-Za-z]{4,}', answer)[:2]
    for screen in screens:
        screen.expect(r'.*?'.join(map(re.escape, words)), 'both see the answer')
        screen.type('\x04')
        assert screen.end() == 0


@case
def no_colour_when_it_is_not_wanted():
    screen = Terminal('ls', env={'NO_COLOR': '1'})
    assert screen.end() == 0
    assert not re.search(r'\x1b\[[0-9;]*m', screen.screen), screen.screen


@case
def the_daemon_ends_cleanly():
    daemon.stop()


live.main()
