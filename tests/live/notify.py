"""The service manager's side of sd_notify(3) and sd_listen_fds(3): enough of it to test a daemon where no systemd runs."""
import array
import os
import socket
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


# A stem for a command: the shell names itself in LISTEN_PID and then becomes the daemon, as the manager's child does. The
# descriptor must have been moved to 3 by give().
ACTIVATED = ['/bin/sh', '-c', 'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=${NAMES-sinkd.socket}; '
             'export LISTEN_PID LISTEN_FDS LISTEN_FDNAMES; exec "$@"', 'sh']


def give(listener):
    """For preexec_fn: makes the listener descriptor 3, open across exec."""
    def move():
        os.dup2(listener.fileno(), 3, inheritable=True)
    return move
