#!/usr/bin/env python3
"""Makes sinkd/client.py from sinkd/aio.py: the same without waiting for coroutines. With --check it only compares."""
import os
import re
import sys

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'sinkd')
RULES = [
    (r'\A"""AsyncClient: .*?"""\n', '"""Client: the daemon\'s verbs as methods, and its streams as iterators.\n\n'
     'Made from aio.py by twin.py: change it there.\n"""\n'),
    (r'It belongs to one event loop, and any number of tasks may use it at once\.',
     'One thread may use it at a time; one that comes while another waits is told so by a RuntimeError.'),
    (r'interrupted or cancelled', 'interrupted'),
    (r'an asynchronous iterator', 'an iterator'),
    (r'Coroutine\[Any, Any, (\w+)\]', r'\1'),
    (r'Coroutine, ', ''),
    (r'\basync (def|for|with)\b', r'\1'),
    (r'\bawait ', ''),
    (r'\bStopAsyncIteration\b', 'StopIteration'),
    (r'\bAsync(Client|Stream|Shell|Iterator)\b', r'\1'),
    (r'\b__a(enter|exit|iter|next)__', r'__\1__'),
]


def twin(text):
    """The blocking form of a module."""
    for pattern, by in RULES:
        text = re.sub(pattern, by, text, flags=re.S)
    return text


def main():
    with open(os.path.join(HERE, 'aio.py'), encoding='utf-8') as file:
        text = twin(file.read())
    place = os.path.join(HERE, 'client.py')
    if '--check' in sys.argv[1:]:
        with open(place, encoding='utf-8') as file:
            return 0 if file.read() == text else 'client.py is not what twin.py makes of aio.py.'
    with open(place, 'w', encoding='utf-8') as file:
        file.write(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
