"""What an answer by JSON Schema costs and keeps: whether it is valid, and tokens a second with a schema and without.

    top_builddir=build contrib/bench/schema.py [--answers N] [--tokens N] [--speculation VALUE] [NAME]...

The schemas are those of tests/live/schemas.py, with a question each. Answers with a schema and without take turns, with
the same question, the same seed, temperature 1, and the same number of tokens at most. Each answer by a schema must be
JSON and valid (python3-jsonschema). Speed is tokens for the time from the first token to the last.
"""
import argparse
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'tests', 'live'))

import jsonschema  # noqa: E402

import live  # noqa: E402
from live import Daemon, text_of  # noqa: E402
from schemas import SCHEMAS  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--answers', type=int, default=20, help='by each schema')
    parser.add_argument('--tokens', type=int, default=200, help='of an answer, at most')
    parser.add_argument('--speculation', default='auto', help="the daemon's option")
    parser.add_argument('name', nargs='*', help=', '.join(name for name, _, _ in SCHEMAS))
    return parser.parse_args()


def ask(client, question, sampling):
    """One answer in a conversation of its own: the text, the tokens, the ms that they took behind the first."""
    client.say('a', question, system='', sampling=sampling)
    events = client.until('done', 'a')
    client.call('remove', conversation='a')
    done = events[-1]
    return text_of(events, 'a'), done['finish'], done['usage']['generated'], done['timing']['decode_ms']


def measure(client, question, schema, given, valid):
    """Both speeds over all answers; what is no valid value goes to `valid` as False."""
    took = {True: [0, 0.0], False: [0, 0.0]}
    judge = jsonschema.Draft202012Validator(schema)
    for seed in range(given.answers):
        sampling = {'seed': seed, 'temperature': 1.0, 'max_tokens': given.tokens}
        for constrained in ((True, False) if seed % 2 else (False, True)):
            text, finish, tokens, ms = ask(client, question,
                                           {**sampling, 'schema': schema} if constrained else sampling)
            took[constrained][0] += max(0, tokens - 1)
            took[constrained][1] += ms
            if constrained:
                try:
                    good = finish == 'end' and judge.is_valid(json.loads(text))
                except ValueError:
                    good = False
                if not good:
                    print(f'  NOT VALID, {finish}: {text}', flush=True)
                valid.append(good)
    return [1e3 * tokens / ms if ms else 0 for tokens, ms in (took[False], took[True])]


def main():
    given = arguments()
    daemon = Daemon(live.model(), '--state', 'none', '--speculation', given.speculation)
    client = daemon.client()
    print(f'# {client.call("status")["model"]["name"]}, temperature 1, at most {given.tokens} tokens, '
          f'{given.answers} answers by a schema, speculation {given.speculation}', flush=True)
    valid, ratios, began = [], [], time.monotonic()
    for name, question, schema in SCHEMAS:
        if given.name and name not in given.name:
            continue
        plain, constrained = measure(client, question, schema, given, valid)
        ratios.append(constrained / plain)
        print(f'| {name} | {plain:.1f} | {constrained:.1f} | {ratios[-1]:.2f} |', flush=True)
    print(f'{sum(valid)} of {len(valid)} valid; ratio of speeds: mean {statistics.mean(ratios):.2f}, least '
          f'{min(ratios):.2f}; {time.monotonic() - began:.0f} s', flush=True)
    client.close()
    daemon.stop()
    sys.exit(0 if all(valid) else 1)


if __name__ == '__main__':
    main()
