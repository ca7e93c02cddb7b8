"""The harness itself: what the tests of the daemon lean on must be right."""
import os
import shutil
import socket
import subprocess
import sys

import live
from live import case
from notify import Manager, listening, passing


def _send(path, text, descriptors=()):
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(path)
    socket.send_fds(sender, [text.encode()], list(descriptors))
    sender.close()


@case
def notifications_are_read_line_by_line():
    manager = Manager(live.directory())
    _send(manager.path, 'READY=1\nSTATUS=All=well\nMAINPID=7\n')
    _, fields, descriptors = manager.until('READY', '1', wait=5)
    assert fields == {'READY': '1', 'STATUS': 'All=well', 'MAINPID': '7'} and descriptors == []


@case
def descriptors_are_received():
    manager = Manager(live.directory())
    reader, writer = os.pipe()
    _send(manager.path, 'FDSTORE=1\nFDNAME=a', [writer])
    _, fields, descriptors = manager.until('FDSTORE', wait=5)
    os.write(descriptors[0], b'through')
    assert fields['FDNAME'] == 'a' and os.read(reader, 99) == b'through'


@case
def silence_is_an_error_in_time():
    manager = Manager(live.directory())
    _send(manager.path, 'STATUS=loading')
    try:
        manager.until('READY', '1', wait=0.2)
    except AssertionError as error:
        assert 'loading' in str(error)
    else:
        raise AssertionError('READY came from nowhere')


@case
def the_system_s_own_tool_is_understood():
    if not shutil.which('systemd-notify'):
        raise live.Skip('no systemd-notify')
    manager = Manager(live.directory())
    with subprocess.Popen(['systemd-notify', '--ready', '--status=fine'], stderr=subprocess.PIPE, text=True,
                          env={**os.environ, 'NOTIFY_SOCKET': manager.path}) as tool:
        _, fields, _ = manager.until('READY', '1', wait=5)
        assert fields['STATUS'] == 'fine'
        manager.until('BARRIER', '1', wait=5)
        assert tool.wait(10) == 0, tool.stderr.read()


@case
def passed_descriptors_are_three_and_on():
    path = os.path.join(live.directory(), 's')
    listener = listening(path)
    reader, writer = os.pipe()
    program = ('import os, socket; assert os.environ["LISTEN_PID"] == str(os.getpid()); '
               'print(sorted(os.listdir("/proc/self/fd"))); os.write(3, b"through"); '
               'print(os.environ["LISTEN_FDS"], os.environ["LISTEN_FDNAMES"], socket.socket(fileno=4).getsockname())')
    stem, descriptors = passing([('pipe', writer), ('unit', listener.fileno())])
    done = subprocess.run(stem + [sys.executable, '-c', program], pass_fds=descriptors, capture_output=True, text=True,
                          check=False)
    # The last one is the listing's own.
    assert done.stdout.splitlines() == [str(list('012345')), f'2 pipe:unit {path}'], (done.stdout, done.stderr)
    assert os.read(reader, 99) == b'through'


@case
def gaps_and_duplicates_are_seen():
    live.dense([{'seq': 3}, {'seq': 4}, {'ev': 'bye'}, {'seq': 5}], 3)
    for numbers in ([3, 5], [3, 3], [4, 3]):
        try:
            live.dense([{'seq': number} for number in numbers], 3)
        except AssertionError:
            continue
        raise AssertionError(f'{numbers} passed')


live.main()
