"""The daemon under a service manager: what it gives to be kept, what it finds again, and who is served meanwhile.

First the manager itself (supervise.py), with a small child of its own.
"""
import os
import re
import signal
import socket
import subprocess
import sys
import time

import live
from live import case
from notify import listening
from supervise import Service, Supervisor

MODEL = live.tiny()

# The child: tells what it was given, then does what it is told by lines: keep NAME, forget NAME, hang NAME (keeps a
# pipe whose other end is closed), say TEXT, exit STATUS.
CHILD = r'''
import os, socket, sys
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.connect(os.environ["NOTIFY_SOCKET"])
names = os.environ.get("LISTEN_FDNAMES", "")
assert not names or os.environ["LISTEN_PID"] == str(os.getpid())
first = [os.pread(3 + place, 99, 0).decode() for place, name in enumerate(names.split(":")) if name.startswith("m")]
manager.send(("STATUS=%s|%s" % (names, ",".join(first))).encode())
manager.send(b"READY=1")
for count, line in enumerate(sys.stdin, 1):
    word, what = line.split()
    if word == "keep":
        number = os.memfd_create(what)
        os.write(number, what.encode())
        socket.send_fds(manager, [b"FDSTORE=1\nFDNAME=" + what.encode()], [number])
        socket.send_fds(manager, [b"FDSTORE=1\nFDNAME=" + what.encode()], [number])
    elif word == "hang":
        for poll in (b"FDPOLL=0\n", b""):
            reader, writer = os.pipe()
            os.close(writer)
            socket.send_fds(manager, [b"FDSTORE=1\n" + poll + b"FDNAME=" + what.encode()], [reader])
    elif word == "forget":
        manager.send(b"FDSTOREREMOVE=1\nFDNAME=" + what.encode())
    elif word == "exit":
        sys.exit(int(what))
    manager.send(b"STATUS=did %d" % count)
'''


class Child(Supervisor):
    """The small child under the manager."""

    def __init__(self, **settings):
        self.told = 0  # lines, in this life
        super().__init__([sys.executable, '-I', '-S', '-c', CHILD], **settings)
        self.start()
        self.wait_ready()

    def spawn(self, stem, descriptors):
        self.told = 0
        return subprocess.Popen(stem + self.command, env={**os.environ, **self.notifying}, pass_fds=descriptors,
                                stdin=subprocess.PIPE, text=True)

    def do(self, word, what):
        """Has the child do something; waits until it has."""
        self.process.stdin.write(f'{word} {what}\n')
        self.process.stdin.flush()
        self.told += 1
        if word != 'exit':
            self.wait_status(f'^did {self.told}$')

    def given(self):
        """What this life found: the names, and what is in the memories among them."""
        self.wait_ready()
        names, contents = self.wait_status(r'\|').split('|')
        return names, contents


@case
def the_manager_keeps_what_it_is_given():
    child = Child()
    assert child.given() == ('', '')
    child.do('keep', 'm1')
    child.do('keep', 'm2')
    assert sorted(child.store) == ['m1', 'm2'] and all(len(one) == 1 for one in child.store.values()), child.store
    child.kill()
    assert child.given() == ('m1:m2', 'm1,m2')
    child.do('forget', 'm1')
    assert child.restart() == -signal.SIGTERM
    assert child.given() == ('m2', 'm2')
    child.stop(preserve=True)
    child.start()
    assert child.given() == ('m2', 'm2')
    child.stop()
    child.start()
    assert child.given() == ('', '')
    child.close()


@case
def the_manager_s_store_is_small_and_silent():
    child = Child(room=2)
    for name in ('m1', 'm2', 'm3'):
        child.do('keep', name)
    assert sorted(child.store) == ['m1', 'm2'] and child.dropped == 3, 'each is given twice'
    child.do('forget', 'm2')
    child.do('keep', 'm1')
    child.restart()
    assert child.given() == ('m1:m1', 'm1,m1'), 'names may come twice'
    child.close()


@case
def the_manager_drops_what_hung_up():
    child = Child()
    child.do('hang', 'pipe')
    child.do('say', 'hello')
    live.eventually(lambda: len(child.store['pipe']) == 1, 'the one that is polled is gone')
    child.do('say', 'again')
    assert len(child.store['pipe']) == 1
    child.close()


@case
def the_manager_restarts_what_failed_only():
    child = Child(sockets=[('unit', listening(os.path.join(live.directory(), 's')))])
    assert child.given() == ('unit', '')
    child.do('keep', 'm1')
    child.do('exit', '3')
    live.eventually(lambda: child.life == 2, 'the second life')
    assert child.given() == ('unit:m1', 'm1')
    child.process.kill()  # by somebody else
    live.eventually(lambda: child.life == 3, 'the third life')
    assert child.given() == ('unit:m1', 'm1')
    child.do('exit', '0')
    assert child.wait_ended() == 0 and not child.store
    child.start()
    assert child.given() == ('unit', '')
    child.do('exit', '6')
    assert child.wait_ended() == 6
    child.close()


@case
def the_manager_is_a_program():
    home = live.directory()
    log = os.path.join(home, 'log')
    command = f'echo life $$ >>{log}; exec sleep 600'
    program = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'supervise.py')]

    def lives():
        if not os.path.exists(log):
            return []
        with open(log, encoding='ascii') as file:
            return [int(line.split()[1]) for line in file]
    with subprocess.Popen(program + ['--preserve', '--', 'sh', '-c', command]) as manager:
        live.eventually(lambda: len(lives()) == 1, 'the first life')
        os.kill(lives()[0], signal.SIGKILL)
        live.eventually(lambda: len(lives()) == 2, 'the second life')
        for count, number in ((3, signal.SIGUSR1), (4, signal.SIGUSR2)):
            manager.send_signal(number)
            live.eventually(lambda count=count: len(lives()) == count, 'one more life')
        manager.send_signal(signal.SIGINT)
        assert manager.wait(live.WAIT) == 0
    assert not os.path.exists(f'/proc/{lives()[-1]}')
    assert subprocess.run(program, stderr=subprocess.DEVNULL, check=False).returncode != 0


# From here on the daemon.

def kept(service, name='sinkd-listen'):
    """How many descriptors the store has under the name."""
    return len(service.store.get(name, []))


def path_of(service):
    return service.endpoint[len('ipc://'):]


def inode(service):
    return os.stat(path_of(service)).st_ino


def greet(client, number=None):
    """The process that answers a hello, which may have been sent before."""
    return client.reply(number or client.send('hello', protocol=1, client='test'))['pid']


@case
def a_killed_daemon_s_socket_lives_on():
    service = Service(MODEL)
    assert kept(service) == 1
    first, file = service.pid, inode(service)
    for _ in range(3):
        service.kill(again=False)
        client = live.Client(service.endpoint, hello=False)
        number = client.send('hello', protocol=1, client='early')
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        plain.connect(path_of(service))  # nobody is refused while nobody is there
        time.sleep(0.05)
        service.start()
        assert greet(client, number) == service.pid != first
        assert client.ask('a', 'Hello.', {'max_tokens': 3, 'seed': 1}) != ''
        assert inode(service) == file and kept(service) == 1
        plain.close()
        client.close()
    service.stop()


@case
def a_client_that_stays_comes_back_by_itself():
    service = Service(MODEL)
    client = service.client()
    first = client.server['pid']
    service.kill()
    service.wait_ready()
    live.eventually(lambda: greet(client) != first, 'the next life answers')
    service.restart()
    service.wait_ready()
    assert greet(client) == service.pid
    service.stop()


@case
def a_restart_keeps_the_socket_file():
    service = Service(MODEL)
    file = inode(service)
    for _ in range(2):
        assert service.restart() == 0
        assert inode(service) == file, 'it was there all the time'
        service.wait_ready()
        assert service.client().server['pid'] == service.pid
    service.stop()


@case
def stop_and_start_with_and_without_preserving():
    service = Service(MODEL)
    file = inode(service)
    service.stop(preserve=True)
    assert inode(service) == file
    service.start()
    service.wait_ready()
    assert inode(service) == file
    service.stop()
    refused = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        refused.connect(path_of(service))
        raise AssertionError('somebody listens')
    except ConnectionRefusedError:
        pass  # the file is there, which is no obstacle
    service.start()
    service.wait_ready()
    assert service.client().server['pid'] == service.pid
    service.stop()


@case
def a_request_is_answered_that_came_while_it_loads():
    service = Service(MODEL, ready=False)
    live.eventually(lambda: kept(service), 'it listens')
    client = live.Client(service.endpoint, hello=False)
    assert greet(client) == service.pid
    service.kill(again=False)
    number = live.Client(service.endpoint, hello=False).send('hello', protocol=1, client='gone')
    assert number == 1  # that one goes away again, unheard
    service.start()
    client = live.Client(service.endpoint, hello=False)
    assert greet(client) == service.pid
    service.stop()


def _memory(text):
    number = os.memfd_create('test')
    os.write(number, text.encode())
    return number


def _pipe():
    reader, writer = os.pipe()
    os.close(writer)
    return reader


@case
def a_store_of_strange_things_is_put_in_order():
    service = Service(MODEL)
    service.kill(again=False)
    file = inode(service)
    other = listening(os.path.join(live.directory(), 's'))
    service.store.update({
        'sinkd-pages-v0': [_memory('of another version')], 'stored': [_pipe()],
        'sinkd-pages': [_memory('noise'), _memory('more noise')],
        'sinkd-records': [_pipe(), os.open('/dev/null', os.O_RDONLY)],
        'sinkd-listen': service.store['sinkd-listen'] + [os.dup(other.fileno())]})
    service.unpolled.update(number for several in service.store.values() for number in several)
    service.start()
    service.wait_ready()
    live.eventually(lambda: set(service.store) <= {'sinkd-listen', 'sinkd-pages', 'sinkd-records'}, service.store)
    assert kept(service) == 1 and kept(service, 'sinkd-pages') == kept(service, 'sinkd-records') <= 1, service.store
    said = re.search('warning: Descriptors without a use were passed in: (.*)', service.text())
    assert said and 'sinkd-pages-v0' in said[1] and 'sinkd-records' in said[1], service.text()
    assert inode(service) == file
    service.restart()
    service.wait_ready()
    assert inode(service) == file
    service.stop()


@case
def a_full_store_costs_no_more_than_the_queue():
    service = Service(MODEL, room=0)
    assert service.dropped and not service.store
    service.kill()
    service.wait_ready()
    assert service.client().server['pid'] == service.pid
    assert service.restart() == 0
    service.wait_ready()
    assert service.client().server['pid'] == service.pid
    service.stop()


@case
def a_manager_that_keeps_nothing_is_given_nothing():
    service = Service(MODEL, env={'FDSTORE': '0'})
    assert not service.store and not service.dropped
    service.stop()
    assert not os.path.exists(path_of(service)), 'the socket is gone as ever'


@case
def the_socket_of_a_unit_is_not_kept():
    home = live.directory()
    os.mkdir(home + '/sinkd', 0o700)
    unit = listening(home + '/sinkd/sinkd.sock')
    service = Service(MODEL, home=home, sockets=[('sinkd.socket', unit)])
    file = inode(service)
    assert not kept(service)
    service.kill(again=False)
    client = live.Client(service.endpoint, hello=False)
    number = client.send('hello', protocol=1, client='early')
    service.start()
    assert greet(client, number) == service.pid
    service.restart()
    service.wait_ready()
    service.stop()
    assert inode(service) == file
    unit.close()


@case
def the_socket_of_a_unit_goes_before_ours():
    service = Service(MODEL)
    service.kill(again=False)
    # The unit takes the path, as systemd does, while ours is still kept.
    os.unlink(path_of(service))
    unit = listening(path_of(service))
    file = inode(service)
    service.sockets.append(('sinkd.socket', unit))
    service.start()
    service.wait_ready()
    assert not kept(service) and inode(service) == file
    assert service.client().server['pid'] == service.pid
    service.stop()
    unit.close()


@case
def another_path_is_another_socket():
    service = Service(MODEL)
    old = path_of(service)
    service.kill(again=False)
    service.options = ('--listen', f'ipc://{service.home}/sinkd/other.sock')
    service.endpoint = service.options[1]
    service.start()
    service.wait_ready()
    assert service.client().server['pid'] == service.pid
    assert not os.path.exists(old), 'the file of the old one is gone'
    live.eventually(lambda: kept(service) == 1, 'the new one is kept')
    file = inode(service)
    service.kill()
    service.wait_ready()
    assert inode(service) == file
    service.stop()


@case
def another_path_leaves_the_old_one_to_its_new_owner():
    service = Service(MODEL)
    old = path_of(service)
    service.kill(again=False)
    os.unlink(old)
    owner = listening(old)
    service.options = ('--listen', f'ipc://{service.home}/sinkd/other.sock')
    service.endpoint = service.options[1]
    service.start()
    service.wait_ready()
    assert os.path.exists(old)
    service.stop()
    owner.close()


@case
def an_endpoint_of_another_kind_needs_no_socket_file():
    service = Service(MODEL)
    old = path_of(service)
    service.kill(again=False)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        service.endpoint = f'tcp://127.0.0.1:{free.getsockname()[1]}'
    service.options = ('--listen', service.endpoint)
    service.start()
    service.wait_ready()
    assert service.client().server['pid'] == service.pid
    assert not kept(service) and not os.path.exists(old)
    service.stop()


@case
def a_socket_that_lost_its_file_is_made_anew():
    for usurped in (False, True):
        service = Service(MODEL)
        service.kill(again=False)
        if usurped:  # a daemon that was started by hand meanwhile, and was killed
            by_hand = live.Daemon(MODEL, home=service.home)
            by_hand.kill()
        else:
            os.unlink(path_of(service))
        service.start()
        service.wait_ready()
        assert service.client().server['pid'] == service.pid
        live.eventually(lambda service=service: kept(service) == 1, 'one is kept')
        file = inode(service)
        service.kill()
        service.wait_ready()
        assert inode(service) == file
        service.stop()


@case
def a_socket_whose_file_leads_elsewhere_is_made_anew():
    service = Service(MODEL)
    service.kill(again=False)
    os.unlink(path_of(service))
    other = listening(path_of(service))
    service.start()
    service.wait_ready()
    assert service.client().server['pid'] == service.pid
    service.stop()
    other.close()


@case
def a_second_daemon_is_refused_still():
    service = Service(MODEL)
    second = Service(MODEL, home=service.home, ready=False)
    assert second.wait_ended() == 5, second.text()
    assert 'serves' in second.text()
    assert service.client().server['pid'] == service.pid
    service.kill(again=False)
    # By hand it may be had while the manager pauses; the manager's then gives up and says why.
    by_hand = live.Daemon(MODEL, home=service.home)
    service.start()
    assert service.wait_ended() == 5, service.text()
    assert by_hand.client().server['pid'] == by_hand.pid
    by_hand.stop()


@case
def sigterm_twice_ends_it_at_once():
    service = Service(MODEL)
    client = service.client()
    client.say('endless', live.TALK, sampling=live.ENDLESS)
    client.until('text')
    file = inode(service)
    service.signal(signal.SIGTERM)
    service.signal(signal.SIGTERM)
    assert service.wait_ended() == 0, service.text()
    assert inode(service) == file
    service.start()
    service.wait_ready()
    assert service.client().server['pid'] == service.pid
    service.stop()


@case
def states_are_told():
    service = Service(MODEL)
    service.wait_status('conversations')
    service.stop()
    assert service.find('STOPPING', '^1$')


live.main()
