"""The daemon as a service: readiness, watchdog, passed sockets, signals, configuration, limits of the system."""
import os
import resource
import signal
import socket
import subprocess
import sys
import time

import live
from live import case
from notify import Manager, listening, passing

MODEL = live.tiny()


@case
def ready_means_usable():
    home = live.directory()
    manager = Manager(home)
    daemon = live.Daemon(MODEL, home=home, env=manager.environment(), ready=False)
    _, fields, _ = manager.until('READY', '1', wait=live.WAIT)
    assert all('READY' not in earlier for _, earlier, _ in manager.seen[:-1])
    # Whoever comes now is served: not after a while, and not by a second attempt.
    client = live.Client(daemon.endpoint, hello=False)
    hello = client.call('hello', protocol=1, client='early', wait=2)
    assert hello['model'] and hello['pid'] == daemon.pid, hello
    assert client.ask('first', 'Hello.', {'max_tokens': 3, 'seed': 1}) != ''
    manager.until('STATUS', wait=live.WAIT)
    daemon.signal(signal.SIGTERM)
    manager.until('STOPPING', '1', wait=live.WAIT)
    assert daemon.wait() == 0


@case
def a_daemon_that_cannot_serve_is_never_ready():
    home = live.directory()
    manager = Manager(home)
    daemon = live.Daemon('/nonexistent.gguf', home=home, env=manager.environment(), ready=False)
    assert daemon.wait() != 0
    manager.drain()
    assert all('READY' not in fields for _, fields, _ in manager.seen), manager.seen


@case
def the_watchdog_is_fed_while_it_idles_and_while_it_reads():
    home = live.directory()
    manager = Manager(home)
    limit = min(live.SLOW, 4)
    daemon = live.Daemon(MODEL, home=home, env=manager.environment(watchdog=limit))
    client = daemon.client()

    def longest_silence(seconds):
        manager.drain()
        manager.seen.clear()
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            manager.receive(0.05)
        times = [began] + [at for at, fields, _ in manager.seen if fields.get('WATCHDOG') == '1'] + [time.monotonic()]
        return max(after - before for before, after in zip(times, times[1:]))

    assert longest_silence(2.5 * limit) < limit, manager.seen
    client.say('long', 'the sea ' * 60000, sampling={'max_tokens': 1})
    client.until('prefill')
    assert longest_silence(2.5 * limit) < limit, manager.seen
    client.call('stop', conversation='long')
    daemon.stop()


@case
def a_passed_socket_serves_those_who_came_early():
    home = live.directory()
    os.mkdir(home + '/sinkd', 0o700)
    path = home + '/sinkd/sinkd.sock'
    listener = listening(path)
    inode = os.stat(path).st_ino
    early = live.Client('ipc://' + path, hello=False)
    number = early.send('hello', protocol=1, client='early')
    stem, descriptors = passing([('sinkd.socket', listener.fileno())])
    daemon = live.Daemon(MODEL, home=home, ready=False, stem=stem, pass_fds=descriptors)
    assert early.reply(number)['pid'] == daemon.pid
    assert early.ask('a', 'Hello.', {'max_tokens': 3, 'seed': 1}) != ''
    daemon.stop()
    assert os.stat(path).st_ino == inode, 'the socket is the manager\'s: it stays'
    listener.close()


@case
def sigterm_in_mid_answer_says_goodbye():
    for number in (signal.SIGTERM, signal.SIGINT):
        daemon = live.Daemon(MODEL)
        clients = [daemon.client() for _ in range(3)]
        for i, client in enumerate(clients):
            client.say(f'endless.{i}', live.TALK, sampling=live.ENDLESS)
            client.until('text')
        began = time.monotonic()
        daemon.signal(number)
        for client in clients:
            assert 'conversation' not in client.until('bye')[-1]
        assert daemon.wait() == 0, daemon.text()
        assert time.monotonic() - began < 5 * live.SLOW
        assert not os.path.exists(daemon.endpoint[len('ipc://'):]), 'its socket is gone'


# Connects and goes, for ever.
HAMMER = '''
import socket, sys
while True:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(1)
        try:
            caller.connect(sys.argv[1])
        except OSError:
            pass
'''


@case
def it_ends_while_callers_come_and_go():
    home = live.directory()
    os.mkdir(home + '/sinkd', 0o700)
    path = home + '/sinkd/sinkd.sock'
    listener = listening(path)
    stem, descriptors = passing([('sinkd.socket', listener.fileno())])
    callers = [subprocess.Popen([sys.executable, '-I', '-S', '-c', HAMMER, path]) for _ in range(2)]
    try:
        for _ in range(8):
            live.Daemon(MODEL, home=home, stem=stem, pass_fds=descriptors).stop()
    finally:
        for caller in callers:
            caller.kill()
            caller.wait()
    listener.close()


@case
def shutdown_is_a_verb():
    daemon = live.Daemon(MODEL)
    client = daemon.client()
    client.call('shutdown')
    assert daemon.wait() == 0


@case
def sighup_reloads_the_configuration():
    home = live.directory()
    conf = os.path.join(home, 'sinkd.conf')

    def write(text):
        with open(conf, 'w', encoding='utf-8') as file:
            file.write(text)

    write('conversations = 2\n')
    daemon = live.Daemon(MODEL, '-f', conf, home=home)
    client = daemon.client()
    client.call('new', name='a')
    client.call('new', name='b')
    assert client.refused('new', name='c').code == 'ebusy'
    write('conversations = nonsense\n')
    daemon.signal(signal.SIGHUP)
    live.eventually(lambda: 'nonsense' in daemon.text(), 'the mistake is logged')
    assert client.refused('new', name='c').code == 'ebusy', 'a bad file changes nothing'
    write('conversations = 3\n')
    daemon.signal(signal.SIGHUP)

    def made():
        try:
            return client.call('new', name='c')
        except live.Refused:
            return None
    live.eventually(made, 'the new limit holds')
    assert client.refused('new', name='d').code == 'ebusy'
    daemon.stop()


@case
def sighup_tells_the_manager():
    home = live.directory()
    manager = Manager(home)
    daemon = live.Daemon(MODEL, home=home, env=manager.environment())
    manager.until('READY', '1')
    manager.seen.clear()
    daemon.signal(signal.SIGHUP)
    _, fields, _ = manager.until('RELOADING', '1')
    assert int(fields['MONOTONIC_USEC']) > 0
    manager.until('READY', '1')
    daemon.stop()


@case
def test_mode_checks_and_ends():
    env = live.environment(live.directory())

    def run(*words):
        return subprocess.run([live.SINKD, *words], env=env, capture_output=True, text=True, check=False,
                              timeout=live.WAIT)
    good = run('-t', '-m', MODEL)
    assert good.returncode == 0, good
    assert run('-t', '-m', MODEL, '--threads', 'many').returncode != 0
    unknown = run('-t', '-m', MODEL, '--sparkle')
    assert unknown.returncode != 0 and 'sparkle' in unknown.stderr, unknown
    conf = os.path.join(env['HOME'], 'bad.conf')
    with open(conf, 'w', encoding='utf-8') as file:
        file.write('model = ' + MODEL + '\nsparkle = 1\n')
    bad = run('-t', '-f', conf)
    assert bad.returncode != 0 and 'sparkle' in bad.stderr, bad
    assert run('--version').stdout.startswith('sinkd '), run('--version')
    printed = run('-p', '-m', MODEL)
    assert printed.returncode == 0 and 'model' in printed.stdout, printed
    with open(conf, 'w', encoding='utf-8') as file:
        file.write(printed.stdout)
    assert run('-p', '-f', conf).stdout == printed.stdout, 'what is printed can be read again'


@case
def no_default_port_is_opened():
    daemon = live.Daemon(MODEL)
    with open(f'/proc/{daemon.pid}/net/tcp', encoding='ascii') as table:
        inodes = {line.split()[9] for line in table.readlines()[1:]}
    links = []
    for name in os.listdir(f'/proc/{daemon.pid}/fd'):
        try:
            links.append(os.readlink(f'/proc/{daemon.pid}/fd/{name}'))
        except OSError:
            pass
    assert not [link for link in links if link.startswith('socket:[') and link[8:-1] in inodes], links
    mode = os.stat(os.path.dirname(daemon.endpoint[len('ipc://'):])).st_mode
    assert mode & 0o077 == 0, f'the socket\'s directory has mode {mode:o}'
    daemon.stop()


@case
def more_peers_than_descriptors_do_not_end_it():
    def poor():
        resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
    daemon = live.Daemon(MODEL, preexec=poor)
    path = daemon.endpoint[len('ipc://'):]
    peers = []
    for _ in range(150):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.settimeout(0.5)
        try:
            peer.connect(path)
        except OSError:
            peer.close()
            continue
        peers.append(peer)
    time.sleep(0.5)
    assert daemon.alive(), f'it ended with {daemon.process.returncode}'
    for peer in peers:
        peer.close()
    live.eventually(lambda: live.sink(daemon, 'status').returncode == 0, 'it serves again')
    assert daemon.alive()
    daemon.stop()


live.main()
