"""Writes what jinja2 makes of chat templates: make_templates.py FOLDER >FOLDER/expected.txt

FOLDER has the templates (NAME.jinja); the conversations are those of this folder's templates/conversations.jsonl, one
context a line. Each line of the output is the template's name, the number of the conversation, and the text, with
\\n, \\t, \\0 and \\\\ for line feeds, tabs, zeros and backslashes; "!" alone stands for an error. jinja2 is set up as Hugging
Face's apply_chat_template() does it.
"""
import datetime
import json
import os
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return jinja2.nodes.Scope(parser.parse_statements(["name:endgeneration"], drop_needle=True))


def raise_exception(message):
    raise jinja2.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def escaped(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\0", "\\0")


def main(folder):
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates", "conversations.jsonl")
    with open(here, encoding="utf-8") as f:
        contexts = [json.loads(line) for line in f]
    env = environment()
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".jinja"):
            continue
        with open(os.path.join(folder, name), encoding="utf-8", newline="") as f:
            source = f.read()
        template = None
        for number, context in enumerate(contexts):
            try:
                template = template or env.from_string(source)
                text = escaped(template.render({"tools": None, "documents": None, **context}))
            except Exception as error:  # whatever jinja2 or the template raises
                if "-v" in sys.argv:
                    print(name, number, repr(error), file=sys.stderr)
                text = "!"
            print(name[: -len(".jinja")], number, text, sep="\t")


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    main(sys.argv[1])
