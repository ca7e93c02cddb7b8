"""A terminal of our own, for the live tests of what a person sees."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

import live

ESCAPES = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]|\x1b[()=>][A-Z0-9]?|\x1b\][^\x07]*\x07')


def _resize(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, words, env, rows=24, columns=80):
        self.screen = ''
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                _resize(0, rows, columns)  # before it looks
                os.execvpe(words[0], words, env)
            finally:
                os._exit(127)

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

    def resize(self, rows, columns):
        _resize(self.fd, rows, columns)

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
