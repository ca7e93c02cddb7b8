"""What guessing tokens from the text (option speculation) gains or costs: tokens a second with it and without.

    top_builddir=build contrib/bench/speculate.py [--rounds N] [--tokens N] [--with VALUE] [--temperature T] [KIND]...

Two daemons, one with speculation = auto (or VALUE), one with it off, answer the same prompts with the same seeds in
turns; every answer must be the same, tokens and log-probabilities. Kinds: edit (a text, corrected or changed), quote
(summaries that quote), code (a program, changed), chat. The first round warms up and does not count. Beside the ratio
of times stands that of the CPU time that the two daemons took, which other programs disturb less.
"""
import argparse
import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'tests', 'live'))

import live  # noqa: E402
from live import Daemon  # noqa: E402

HARBOUR = (
    'The old harbour lies on the north side of the bay, behind a wall of grey stone. Every morning the fishing '
    'boats come in with the tide, and the women of the town wait on the quay with their baskets. The light on the'
    ' end of the wall was built in 1857, after a storm had driven three ships on to the rocks in one night. It '
    'has been lit ever since, but for four years of war. The keeper lives in a small white house beside it with '
    'his wife, two children, and a dog that is afraid of the sea. In winter the road to the town is often under '
    'water, and the children row to school.')
BREAD = (
    'To make a plain loaf you need five hundred grams of flour, three hundred grams of water, ten grams of salt, '
    'and five grams of dry yeast. Mix the flour, the salt and the yeast in a large bowl. Add the water and stir '
    'until there is no dry flour left. Cover the bowl and let it rest for twenty minutes. Fold the dough four '
    'times, cover it again, and let it rise for two hours. Heat the oven to 230 degrees. Shape the loaf, let it '
    'rise for another forty minutes, and bake it for thirty five minutes. Let it cool on a rack before you cut '
    'it.')
LETTER = (
    'Dear Mr Harris, thank you for your letter of the third of May. We have looked at the three machines that you'
    ' sent back to us. Two of them were damaged on the way, and we will replace them at no cost. The third '
    'machine works as it should; the noise that you heard comes from the fan, which needs to be cleaned once a '
    'month. Please find enclosed a copy of the manual. The new machines will arrive at your office before the end'
    ' of the month. Yours sincerely, Anna Weber, customer service.')
PROGRAM = '''def read_numbers(path):
    numbers = []
    with open(path) as file:
        for line in file:
            line = line.strip()
            if line:
                numbers.append(int(line))
    return numbers


def mean(numbers):
    total = 0
    for number in numbers:
        total += number
    return total / len(numbers)


def print_report(path):
    numbers = read_numbers(path)
    print("count:", len(numbers))
    print("mean:", mean(numbers))
'''
TABLE = '''struct point {
    int x;
    int y;
};

int distance(struct point a, struct point b)
{
    int dx = a.x - b.x;
    int dy = a.y - b.y;
    return dx * dx + dy * dy;
}

int nearest(struct point *list, int count, struct point to)
{
    int best = 0;
    for (int i = 1; i < count; i++)
        if (distance(list[i], to) < distance(list[best], to))
            best = i;
    return best;
}
'''
KINDS = {
    'edit': [
        f'Repeat the following text word for word.\n\n{HARBOUR}',
        f'Correct the spelling of this text and write the whole text again.\n\n'
        f'{BREAD.replace("flour", "flower").replace("another", "an other")}',
        f'Write this letter again, but address it to Mrs Smith.\n\n{LETTER}',
        f'Copy this text and put every number in digits.\n\n{BREAD}',
    ],
    'quote': [
        f'{HARBOUR}\n\nSummarize the text above with sentences taken from it.',
        f'{BREAD}\n\nList the steps of this recipe, one a line, in the words of the text.',
        f'{LETTER}\n\nQuote the sentences of this letter that say what will happen to the machines.',
        f'{HARBOUR} {BREAD}\n\nSummarize these two texts.',
    ],
    'code': [
        f'Rename the function mean to average in this program and print the whole program.\n\n```python\n{PROGRAM}```',
        f'Add a comment to each function of this program and print the whole program.\n\n```c\n{TABLE}```',
    ],
    'chat': [
        'What is the capital of France, and what is it known for?',
        'Tell me a short story about a lighthouse keeper.',
        'How do I learn to play the guitar?',
        'Why is the sky blue?',
        'Give me some advice for a long journey by train.',
        'Explain how a bicycle stays upright.',
    ],
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3, help='that count')
    parser.add_argument('--tokens', type=int, default=200, help='of an answer, at most')
    parser.add_argument('--temperature', type=float, default=0)
    parser.add_argument('--with', dest='value', default='auto', help='the value that is compared with off')
    parser.add_argument('kind', nargs='*', help=', '.join(KINDS))
    given = parser.parse_args()
    if set(given.kind) - set(KINDS):
        parser.error(f'there are the kinds {", ".join(KINDS)}')
    return given


def cpu_ms(pid):
    """CPU time of all threads so far."""
    spent = 0
    for thread in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{thread}/schedstat', encoding='ascii') as stat:
            spent += int(stat.read().split()[0])
    return spent / 1e6


def ask(client, daemon, prompt, given, seed):
    """One answer in a conversation of its own: what was said; and of a token, the time and the CPU time."""
    client.call('new', name='a', system='')
    client.say('a', prompt, create=False, sampling={'seed': seed, 'temperature': given.temperature,
                                                    'max_tokens': given.tokens, 'logprobs': True})
    events = client.until('answer', 'a')
    spent = cpu_ms(daemon.pid)
    events = client.until('done', 'a')
    spent = cpu_ms(daemon.pid) - spent
    client.call('remove', conversation='a')
    said = [(event['text'], event['ids'], event['logprobs']) for event in events if event['ev'] == 'text']
    more = max(1, events[-1]['usage']['generated'] - 1)
    return said + [events[-1]['finish']], events[-1]['timing']['decode_ms'] / more, spent / more


def measure(clients, daemons, prompt, given, seed):
    """Medians over the rounds: tokens a second without and with, the ratio of times, the ratio of CPU times."""
    took = {name: [] for name in clients}
    for turn in range(given.rounds + 1):
        answers = {}
        for name in sorted(clients, reverse=turn % 2 == 0):
            answers[name], *figures = ask(clients[name], daemons[name], prompt, given, seed)
            took[name] += [figures] if turn else []
        assert answers['on'] == answers['off'], f'the answers to "{prompt[:40]}..." differ'
    pairs = list(zip(took['off'], took['on']))
    return (*(1e3 / statistics.median(ms for ms, _ in took[name]) for name in ('off', 'on')),
            *(statistics.median(off[i] / on[i] for off, on in pairs) for i in (0, 1)))


def compare(kind, clients, daemons, given):
    """All prompts of a kind."""
    before = clients['on'].call('status')
    rows = []
    for number, prompt in enumerate(KINDS[kind]):
        rows.append(measure(clients, daemons, prompt, given, number + 1))
        print('  {} {}: {:.1f} tokens/s without, {:.1f} with, ratio {:.3f}, of CPU time {:.3f}'.format(
            kind, number, *rows[-1]), flush=True)
    after = clients['on'].call('status')
    drafted, accepted = (after[key] - before[key] for key in ('drafted', 'accepted'))
    without, with_, ratios, cpu = zip(*rows)
    print(f'{kind}: median {statistics.median(without):.1f} tokens/s without, {statistics.median(with_):.1f} with; '
          f'ratio mean {statistics.mean(ratios):.3f}, median {statistics.median(ratios):.3f}, least {min(ratios):.3f}; '
          f'of CPU time mean {statistics.mean(cpu):.3f}; {accepted} of {drafted} drafted tokens were right', flush=True)


def main():
    given = arguments()
    daemons = {'off': Daemon(live.model(), '--state', 'none', '--speculation', 'off'),
               'on': Daemon(live.model(), '--state', 'none', '--speculation', given.value)}
    clients = {name: daemon.client() for name, daemon in daemons.items()}
    print(f'# {clients["on"].call("status")["model"]["name"]}, temperature {given.temperature}, at most '
          f'{given.tokens} tokens, {given.rounds} rounds; ratio: with to without', flush=True)
    for kind in given.kind or KINDS:
        compare(kind, clients, daemons, given)
    for name, daemon in daemons.items():
        clients[name].close()
        daemon.stop()


if __name__ == '__main__':
    main()
