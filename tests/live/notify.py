"""The service manager's side of sd_notify(3) and sd_listen_fds(3): enough of it to test a daemon where no systemd runs."""
import array
import os
import socket
import sys
import time


class Manager:
    """A notification socket. What arrives is kept: `seen` is a list of (time, {name: value}, [descriptors])."""

    def __init__(self, directory):
        self.path = os.path.join(directory, 'notify')
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.seen = []

    def environment(self, watchdog=None):
        """What a unit finds in its environment; `watchdog` in seconds."""
        env = {'NOTIFY_SOCKET': self.path}
        if watchdog:
            env['WATCHDOG_USEC'] = str(int(watchdog * 1e6))
        return env

    def receive(self, wait):
        """Takes one message; None when none comes in `wait` seconds."""
        self.socket.settimeout(wait)
        try:
            data, ancillary, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(64 * 4))
        except (socket.timeout, BlockingIOError):
            return None
        descriptors = array.array('i')
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(payload[:len(payload) - len(payload) % descriptors.itemsize])
        fields = dict(line.split('=', 1) for line in data.decode().splitlines() if '=' in line)
        if 'BARRIER' in fields:  # sd_notify_barrier(3): the sender waits until its descriptor is closed
            while descriptors:
                os.close(descriptors.pop())
        self.seen.append((time.monotonic(), fields, list(descriptors)))
        return self.seen[-1]

    def until(self, name, value=None, wait=60):
        """Waits for a message with this assignment; the message. AssertionError when it does not come."""
        end = time.monotonic() + wait
        while True:
            left = end - time.monotonic()
            message = self.receive(left) if left > 0 else None
            if message is None:
                raise AssertionError(f'no {name}={value} in {wait} s; seen: {[fields for _, fields, _ in self.seen]}')
            if name in message[1] and value in (None, message[1][name]):
                return message

    def drain(self):
        """Takes all that has arrived."""
        while self.receive(0):
            pass

    def close(self):
        self.socket.close()


def listening(path):
    """A listening stream socket, as a .socket unit makes it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(64)
    return listener


# Moves descriptors to 3 and on, names itself in LISTEN_PID, and becomes the command, as the manager's child does.
_STEM = '''
import fcntl, os, sys
numbers = [int(number) for number in sys.argv[1].split(",")]
copies = [fcntl.fcntl(number, fcntl.F_DUPFD, 3 + len(numbers)) for number in numbers]
for number in numbers:
    os.close(number)
for place, copy in enumerate(copies, 3):
    os.dup2(copy, place)
    os.close(copy)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(numbers)), LISTEN_FDNAMES=sys.argv[2])
os.execvp(sys.argv[3], sys.argv[3:])
'''


def passing(descriptors):
    """What a command is started with that finds these descriptors, pairs of a name and a number, as passed in: the
    words in front of it, and the descriptors that must be open for it.
    """
    if not descriptors:
        return [], ()
    numbers = [number for _, number in descriptors]
    return ([sys.executable, '-I', '-S', '-c', _STEM, ','.join(map(str, numbers)),
             ':'.join(name for name, _ in descriptors)], tuple(numbers))
