"""Completion in the shells themselves: each reads the script that `sink completion` prints, and is asked by its keys."""
import os
import re
import shutil
import subprocess
import time

import live
import screen
from live import case, sink

daemon = live.Daemon(live.tiny())
NAMES = ['plain', 'with blank', "it's", 'ns:one', 'ns:two', 'say "so"', 'ünder']


def _make():
    client = daemon.client()
    for name in NAMES:
        client.call('new', name=name)
    for number in range(3):
        client.call('say', conversation='plain', text=f'line {number}\nmore', answer=False, system='')
    client.close()
    templates = os.path.join(daemon.home, 'config', 'sinkd', 'templates')
    os.makedirs(templates)
    with open(os.path.join(templates, 'brief.ini'), 'w', encoding='utf-8') as file:
        file.write('description = Short answers\nsystem = Be brief.\n')


_make()


def _need(shell):
    if not shutil.which(shell):
        raise live.Skip(f'no {shell}')


def _candidates(*words, home=None, env=None):
    """What the program answers to a shell that quotes by itself."""
    done = sink(daemon, 'completion', 'fish', '--', *words, home=home, env=env)
    assert done.returncode == 0, done
    return [line.split('\t')[0] for line in done.stdout.splitlines()[1:]]


class Shell(screen.Terminal):
    """A shell on a terminal; Ctrl-T shows the line that is being typed."""

    def __init__(self, words, setup):
        super().__init__(words, live.environment(daemon.home, {
            'TERM': 'xterm', 'PS1': '$ ', 'ZDOTDIR': daemon.home, 'INPUTRC': '/dev/null', 'LC_ALL': 'C.UTF-8'}))
        self.type(setup + "\recho 'ready'now\r")
        self.expect('readynow\r', 'the shell is set up')
        time.sleep(0.2)

    def complete(self, line, keys='\t'):
        """The line as it is after Tab."""
        self.type(line + keys)
        time.sleep(0.3 * live.SLOW)
        for _ in range(20):
            self.type('\x14')
            found = self.expect('<<(.*?)>>', 'the line')
            if found[1] != line:
                break
            time.sleep(0.1)
        self.type('\x15')
        time.sleep(0.05)
        return re.sub(r'[\r\n]', '', found[1])

    def leave(self):
        self.type('\x15exit\r')
        self.end()


@case
def verbs_options_and_values_come_from_the_tables():
    verbs = _candidates('sink', '')
    helped = re.findall(r'^  ([a-z]+) ', sink(daemon, 'help').stdout, re.M)
    assert set(helped) <= set(verbs), (helped, verbs)
    options = _candidates('sink', 'ask', '--')
    for option in re.findall(r'--[a-z-]+', sink(daemon, 'help', 'ask').stdout):
        assert option in options, option
    assert '--temperature' not in _candidates('sink', 'ls', '--')
    assert _candidates('sink', '--color', '') == ['auto', 'always', 'never']
    assert _candidates('sink', 'ls', '--color=') == ['--color=auto', '--color=always', '--color=never']
    assert 'bundle' in _candidates('sink', 'export', '--format', '')
    assert 'sink:' in _candidates('sink', 'new', '--policy', '')
    assert 'brief' in _candidates('sink', 'ask', '-t', '') and 'brief' in _candidates('sink', 'template', 'show', '')
    assert _candidates('sink', 'completion', '') == ['bash', 'zsh', 'fish']
    assert 'ask' in _candidates('sink', 'help', '')


@case
def names_and_messages_come_from_the_daemon():
    assert sorted(_candidates('sink', 'log', '')) == sorted(NAMES)
    assert sorted(_candidates('sink', '-q', 'ask', '-dc', '')) == sorted(NAMES)
    assert sorted(_candidates('sink', 'rm', 'plain', '')) == sorted(set(NAMES) - {'plain'})
    assert '=plain' in _candidates('sink', 'show', '=')
    assert 'plain@' in _candidates('sink', 'rewind', '')
    assert _candidates('sink', 'show', 'plain@') == ['plain@0', 'plain@1', 'plain@2']
    assert _candidates('sink', 'fork', 'plain', '') == []
    assert _candidates('sink', 'show', 'nobody@') == []


@case
def nothing_is_started_and_nothing_is_said_without_a_daemon():
    home = live.directory()
    began = time.monotonic()
    done = sink(daemon, 'completion', 'bash', '--', 'sink log ', home=home, env={'SINKD_MODEL': live.tiny()})
    assert done.returncode == 0 and done.stdout == '-\n' and done.stderr == '', done
    assert time.monotonic() - began < 1 * live.SLOW
    time.sleep(0.2)
    assert sink(daemon, 'status', home=home).returncode == 3
    assert _candidates('sink', '-H', f'ipc://{daemon.home}/sinkd/sinkd.sock', 'log', '', home=home), 'where it is told'


@case
def an_answer_is_quick():
    times = []
    for _ in range(5):
        began = time.monotonic()
        _candidates('sink', 'log', '')
        times.append(time.monotonic() - began)
    print(f'# {sorted(times)[2] * 1000:.0f} ms')
    assert min(times) < 0.2 * live.SLOW, times


@case
def bash_completes():
    _need('bash')
    shell = Shell(['bash', '--norc', '--noprofile', '-i'],
                  'bind -x \'"\\C-t": printf "<<%s>>\\n" "$READLINE_LINE"\'; eval "$(sink completion bash)"')
    for typed, expected in (
            ('sink sho', 'sink show '), ('sink show pl', 'sink show plain '), ('sink show w', r'sink show with\ blank '),
            (r'sink show with\ b', r'sink show with\ blank '), ("sink show 'wi", "sink show 'with blank' "),
            ('sink show "wi', 'sink show "with blank" '), ('sink show i', r"sink show it\'s "),
            ('sink show n', 'sink show ns:'), ('sink show ns:t', 'sink show ns:two '),
            ("sink show 'ns:t", "sink show 'ns:two' "),
            ('sink show s', r'sink show say\ \"so\" '), ('sink show ü', 'sink show ünder '),
            ('sink ask --temper', 'sink ask --temperature '), ('sink ls --color=n', 'sink ls --color=never '),
            ('sink rewind pl', 'sink rewind plain@'), ('sink ask -t b', 'sink ask -t brief '),
            ('sink import /etc/hostn', 'sink import /etc/hostname '),
            ('echo; sink show pl', 'echo; sink show plain ')):
        got = shell.complete(typed)
        assert got == expected, (typed, got, expected)
    shell.leave()


@case
def bash_completes_by_its_own_variables():
    _need('bash')
    script = ('eval "$(sink completion bash)"; COMP_LINE="sink log ns:"; COMP_POINT=${#COMP_LINE}; '
              'COMP_WORDS=(sink log ns :); COMP_CWORD=3; _sink sink : ns; printf "%s\\n" "${COMPREPLY[@]}"; '
              'complete -p sink')
    done = subprocess.run(['bash', '--norc', '-c', script], env=live.environment(daemon.home), text=True,
                          capture_output=True, check=False)
    assert sorted(done.stdout.splitlines()) == ['complete -F _sink sink', 'one', 'two'], done


@case
def zsh_completes():
    _need('zsh')
    shell = Shell(['zsh', '-f', '-i'],
                  'autoload -Uz compinit; compinit -D -u; PROMPT="$ "; '
                  'show_line() { zle -I; print -r -- "<<$BUFFER>>" }; zle -N show_line; bindkey "^T" show_line; '
                  'bindkey "^U" kill-whole-line; unsetopt auto_menu; eval "$(sink completion zsh)"')
    for typed, expected in (
            ('sink show pl', 'sink show plain '), ('sink show w', r'sink show with\ blank '),
            (r'sink show with\ b', r'sink show with\ blank '), ("sink show 'wi", "sink show 'with blank' "),
            ('sink show i', r"sink show it\'s "), ('sink show n', 'sink show ns:'),
            ('sink show ns:t', 'sink show ns:two '), ('sink show s', r'sink show say\ \"so\" '),
            ('sink show ü', 'sink show ünder '), ('sink ask --temper', 'sink ask --temperature '),
            ('sink ls --color=n', 'sink ls --color=never '), ('sink rewind pl', 'sink rewind plain@'),
            ('sink ask -t b', 'sink ask -t brief '), ('sink import /etc/hostn', 'sink import /etc/hostname ')):
        got = shell.complete(typed)
        assert got == expected, (typed, got, expected)
    shell.leave()


@case
def zsh_finds_the_installed_file():
    _need('zsh')
    place = live.directory()
    with open(os.path.join(place, '_sink'), 'w', encoding='utf-8') as file:
        file.write(sink(daemon, 'completion', 'zsh').stdout)
    shell = Shell(['zsh', '-f', '-i'],
                  f'fpath=({place} $fpath); autoload -Uz compinit; compinit -D -u; PROMPT="$ "; '
                  'show_line() { zle -I; print -r -- "<<$BUFFER>>" }; zle -N show_line; bindkey "^T" show_line; '
                  'bindkey "^U" kill-whole-line')
    for _ in range(2):
        got = shell.complete('sink show pl')
        assert got == 'sink show plain ', got
    shell.leave()


@case
def fish_completes():
    _need('fish')

    def complete(line):
        script = f'sink completion fish | source; complete -C {line}'
        done = subprocess.run(['fish', '--no-config', '-c', script], text=True, capture_output=True, check=False,
                              env=live.environment(daemon.home, {'LC_ALL': 'C.UTF-8'}))
        assert done.returncode == 0, done
        return [row.split('\t')[0] for row in done.stdout.splitlines()]

    assert complete("'sink show pl'") == ['plain']
    assert complete("'sink show wi'") == [r'with\ blank'] or complete("'sink show wi'") == ['with blank']
    assert sorted(complete("'sink show ns:'")) == ['ns:one', 'ns:two']
    assert complete("'sink show ü'") == ['ünder']
    assert complete("'sink show plain@'") == ['plain@0', 'plain@1', 'plain@2']
    assert complete("'sink ask --temper'") == ['--temperature']
    assert complete("'sink ls --color=n'") == ['--color=never']
    assert complete("'sink import /etc/hostn'") == ['/etc/hostname']
    assert 'brief' in complete("'sink ask -t '")


@case
def the_daemon_ends_cleanly():
    daemon.stop()


live.main()
