"""Makes tokenizer-smollm2.txt, turns-smollm2.txt and pretoken.txt; see README.md.

    make_tokenizer.py MODEL.gguf TEXTS.jsonl

TEXTS.jsonl has an object with "text" a line; every fifth is taken. The ids come from Hugging Face's tokenizers (0.23), the
rendered turns from jinja2 (3.1) and the file's own template.
"""
import json
import os
import random
import struct
import sys

import jinja2
from tokenizers import Regex, Tokenizer, models, pre_tokenizers as pre

HERE = os.path.dirname(os.path.abspath(__file__))

# The expressions of the models' own tokenizer.json files.
LLAMA = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
GPT2 = pre.ByteLevel(add_prefix_space=False, use_regex=True)
SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
LOWER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
UPPER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
REST = r"\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK3 = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
             r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPLITS = {
    'gpt-2': GPT2,
    'smollm': pre.Sequence([pre.Digits(True), GPT2]),
    'llama-bpe': pre.Split(Regex(LLAMA % '{1,3}'), 'isolated'),
    'qwen2': pre.Split(Regex(LLAMA % ''), 'isolated'),
    'falcon': pre.Sequence([pre.Punctuation('contiguous'), GPT2, pre.Split(Regex('[0-9][0-9][0-9]'), 'isolated')]),
    'gpt-4o': pre.Split(Regex('|'.join([LOWER + SUFFIX, UPPER + SUFFIX, REST % '{1,3}'])), 'isolated'),
    'tekken': pre.Split(Regex('|'.join([LOWER, UPPER, REST % ''])), 'isolated'),
    'qwen35': pre.Split(Regex(QWEN35), 'isolated'),
    'deepseek-v3': pre.Sequence([pre.Split(Regex(expression), 'isolated') for expression in
                                 (r'\p{N}{1,3}', '[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+', DEEPSEEK3)]),
}

# What the expressions treat differently, to be strung together at random.
PARTS = [' ', '  ', '\t', '\n', '\r\n', '\r', "'s", "'S", "'ll", "'", '\u2019s', 'a', 'Z', 'word', '\xe9', 'e\u0301',
         '\u65e5\u672c', '1', '12', '2024', '\xb2', '\xbd', '\u2167', '\u0663', '.', '...', '!?', '-', '_', '$', '\xa0',
         '\u3000', '\u2028', '\x85', '\u180e', '\u200b', '\U0001f642', '\x00', '\x07', '\x1c', '\ufeff', '\u017f', '\xdf',
         '\u0391\u03a9', '\ud55c', '\u0939\u093f', '<|im_end|>', '=', '/*', '\u1680', '\u2009']

TURNS = [
    [('user', 'Hello')],
    [('system', 'You are terse.'), ('user', 'What is 2+2?')],
    [('user', 'Hi'), ('assistant', 'Hello! How can I help?'), ('user', 'Tell me a joke.')],
    [('system', ''), ('user', '')],
    [('user', ' leading and trailing \n'), ('assistant', '\n\ncode:\n  x = 1\n'), ('user', '1234 \xe9 \u65e5\u672c\u8a9e')],
    [('system', '\n'), ('user', '\n\nnewlines first'), ('assistant', '   '), ('user', "don't")],
]


def metadata(path):
    """The keys of a GGUF file."""
    with open(path, 'rb') as file:
        def number(form):
            return struct.unpack('<' + form, file.read(struct.calcsize('<' + form)))[0]

        def value(kind):
            if kind == 8:
                return file.read(number('Q')).decode()
            if kind == 9:
                item, count = number('I'), number('Q')
                return [value(item) for _ in range(count)]
            return number('BbHhIif?__Qqd'[kind])

        file.seek(16)
        return {value(8): value(number('I')) for _ in range(number('Q'))}


def tokenizer(keys):
    tokens = keys['tokenizer.ggml.tokens']
    made = Tokenizer(models.BPE({text: i for i, text in enumerate(tokens)},
                                [tuple(merge.split(' ')) for merge in keys['tokenizer.ggml.merges']]))
    made.pre_tokenizer = SPLITS['smollm']
    return made, [text for text, kind in zip(tokens, keys['tokenizer.ggml.token_type']) if kind == 3]


def line(*parts):
    return '\t'.join(part if isinstance(part, str) else ' '.join(map(str, part)) for part in parts) + '\n'


def hexed(text):
    return text.encode().hex()


def write_tokens(made, texts):
    with open(os.path.join(HERE, 'tokenizer-smollm2.txt'), 'w') as out:
        for text in texts:
            out.write(line(hexed(text), made.encode(text, add_special_tokens=False).ids))


def write_turns(made, keys):
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(keys['tokenizer.chat_template'])
    with open(os.path.join(HERE, 'turns-smollm2.txt'), 'w') as out:
        for turns in TURNS:
            text = template.render(messages=[{'role': role, 'content': content} for role, content in turns],
                                   add_generation_prompt=True)
            out.write(line([role + ':' + hexed(content) for role, content in turns],
                           made.encode(text, add_special_tokens=False).ids))


def write_splits(texts):
    with open(os.path.join(HERE, 'pretoken.txt'), 'w') as out:
        for text in texts:
            for name, split in SPLITS.items():
                pieces = [text[begin:end] for _, (begin, end) in split.pre_tokenize_str(text)]
                assert ''.join(pieces) == text
                out.write(line(name, hexed(text), [len(piece.encode()) for piece in pieces]))


def main():
    keys = metadata(sys.argv[1])
    with open(sys.argv[2]) as file:
        texts = [json.loads(text)['text'] for text in file][::5]
    made, control = tokenizer(keys)
    write_tokens(made, texts)
    made.add_special_tokens(control)
    write_turns(made, keys)
    dice = random.Random(7)
    write_splits([''.join(dice.choice(PARTS) for _ in range(dice.randint(1, 12))) for _ in range(250)])


main()
