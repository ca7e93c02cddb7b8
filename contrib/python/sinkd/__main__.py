"""python3 -m sinkd: asks one question and streams the answer."""
from __future__ import annotations

import argparse
import sys

from . import Client, SinkError


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog='python3 -m sinkd', description='Asks one question and streams the answer.')
    parser.add_argument('-H', dest='host', help='the endpoint of the daemon')
    parser.add_argument('-c', dest='name', default='python', help='name of the conversation, made when missing')
    parser.add_argument('prompt', nargs='?', help='what to say; read from stdin when missing')
    given = parser.parse_args()
    try:
        with Client(given.host) as client:
            with client.say(given.name, given.prompt or sys.stdin.read(), create=True, stream=True) as stream:
                for piece in stream.text():
                    print(piece, end='', flush=True)
        print()
    except SinkError as error:
        print(f'sinkd: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
