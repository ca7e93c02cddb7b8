"""contrib/python/sinkask.py: that the page of the protocol is enough to write a client from."""
import json
import os
import re
import subprocess
import sys

import live
from live import case, same

SCRIPT = os.path.join(live.SOURCE, 'contrib', 'python', 'sinkask.py')
daemon = live.Daemon(live.model())


def _run(*words, stdin=None):
    return subprocess.run([sys.executable, SCRIPT, *words], env=live.environment(daemon.home), text=True, input=stdin,
                          capture_output=True, timeout=live.WAIT, check=False)


@case
def it_is_short_and_stands_alone():
    with open(SCRIPT, encoding='utf-8') as file:
        lines = file.read().splitlines()
    assert len(lines) < 60, f'{len(lines)} lines'
    imported = set(re.findall(r'^(?:import|from) +([a-z_]+)', '\n'.join(lines), re.M))
    assert imported - sys.stdlib_module_names <= {'zmq', 'msgpack'}, imported


@case
def it_asks_and_prints_the_answer():
    daemon.client().call('new', name='asked', sampling={'max_tokens': 40, 'seed': 7})
    done = _run('-c', 'asked', 'What is the sea?')
    assert done.returncode == 0 and done.stdout.strip(), done
    same(done.stdout, daemon.client().call('log', conversation='asked')['messages'][-1]['text'])


@case
def killed_in_mid_answer_it_comes_back_to_the_rest():
    daemon.client().call('new', name='cut', sampling={'max_tokens': 60, 'seed': 7})
    child = subprocess.Popen([sys.executable, SCRIPT, '--json', '-c', 'cut', 'Tell me a long story about the sea.'],
                             env=live.environment(daemon.home), stdout=subprocess.PIPE, text=True)
    seen = []
    while sum(event['ev'] == 'text' for event in seen) < 3:
        seen.append(json.loads(child.stdout.readline()))
    child.kill()
    seen += [json.loads(line) for line in child.stdout.read().rpartition('\n')[0].splitlines()]
    assert seen[-1]['ev'] != 'done', 'the answer ended before the client was killed'
    done = _run('--json', '-c', 'cut', '--from', str(seen[-1]['seq'] + 1))
    assert done.returncode == 0, done
    events = seen + [json.loads(line) for line in done.stdout.splitlines()]
    live.dense(events)
    same(live.text_of(events), daemon.client().call('log', conversation='cut')['messages'][-1]['text'])


@case
def it_says_when_nobody_answers():
    env = live.environment(live.directory())
    done = subprocess.run([sys.executable, SCRIPT, 'Hello?'], env=env, text=True, capture_output=True,
                          timeout=live.WAIT, check=False)
    assert done.returncode != 0 and done.stderr.strip(), done


@case
def the_daemon_ends_cleanly():
    daemon.stop()


live.main()
