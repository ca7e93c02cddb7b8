#!/usr/bin/env python3
"""Shapes what contrib/bench/run measured.

table.py FOLDER PAGE reads FOLDER's results, fills the tables between the marks of PAGE/README.md, and writes what
picture.gp draws as FOLDER/perplexity.tsv and so on. What has not been measured stays as it is.
"""
import json
import math
import os
import re
import sys

POLICIES = ("dense", "window", "recompute", "sink", "separator", "anchor")
STRETCHES = 16  # of the curve of perplexity
MIB = 1 << 20


class Missing(Exception):
    """A result that is not there."""


class Results:
    def __init__(self, folder):
        self.folder = folder

    def path(self, name):
        return os.path.join(self.folder, name)

    def has(self, name):
        return os.path.exists(self.path(name + ".json"))

    def json(self, name):
        if not self.has(name):
            raise Missing(name)
        with open(self.path(name + ".json"), encoding="utf-8") as f:
            return json.load(f)

    def numbered(self, prefix):
        """The numbers N for which prefix-N has been measured."""
        found = (re.fullmatch(prefix + r"-(\d+)\.json", name) for name in os.listdir(self.folder))
        return sorted(int(match[1]) for match in found if match)

    def nll(self, name):
        """The negative log-probability of each token, by its place in the text."""
        ret = {}
        with open(self.path(name + ".nll"), encoding="ascii") as f:
            for place, line in enumerate(f):
                words = line.split()
                ret[int(words[0]) if len(words) > 1 else place] = float(words[-1])
        return ret

    def write_tsv(self, name, head, rows):
        def cell(x):
            return "nan" if x is None else f"{x:.6g}" if isinstance(x, float) else str(x)

        with open(self.path(name + ".tsv"), "w", encoding="utf-8") as f:
            for row in [head, *rows]:
                f.write("\t".join(cell(x) for x in row) + "\n")


def number(x, decimals=0):
    return "" if x is None else f"{x:,.{decimals}f}"


def mib(size):
    return number(size / MIB, 1)


def signed(x, error):
    """A difference and its standard error."""
    return "" if x is None or error is None else f"{x:+.4f} ± {error:.4f}"


def table(head, rows):
    """In Markdown; what does not begin with a letter is set to the right."""
    def right(column):
        return all(not row[column] or row[column][0] in "0123456789+-" for row in rows)

    lines = [head, ["--:" if right(i) else "---" for i in range(len(head))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def mean(x):
    return sum(x) / len(x)


def joint_ppl(rows):
    """The perplexity of rows of as many tokens each."""
    return math.exp(mean([math.log(row["ppl"]) for row in rows]))


def machine(r):
    try:
        with open(r.path("machine.tsv"), encoding="utf-8") as f:
            rows = [line.rstrip("\n").split("\t") for line in f]
    except FileNotFoundError as e:
        raise Missing("machine") from e
    for name in ("policies", "recompute", "sinks", "curve-sink", "endless"):
        if r.has(name):
            j = r.json(name)
            rows += [["model", j["model"]], ["kernels", j["kernels"]], ["precision", j["precision"]],
                     ["threads", str(j["threads"])]]
            break
    return table(["what", "value"], rows)


def compared(row):
    """What the tables of compare have in common. A row that never overlaps with recomputation has no difference."""
    own = row["policy"] == "recompute"
    return "" if own else signed(row["vs_recompute"], row["vs_recompute_se"])


def policies(r):
    j = r.json("policies")
    return table(["policy", "budget", "setting", "tokens", "ppl", "ppl_second_half", "vs_recompute", "median ms",
                  "p99 ms", "speedup", "cache MiB"],
                 [[row["policy"], number(row["budget"]), f"`{row['setting']}`", number(row["tokens"]),
                   number(row["ppl"], 2), number(row["ppl_second_half"], 2), compared(row),
                   number(row["median_ms"], 1), number(row["p99_ms"], 1), number(row["speedup"], 1),
                   mib(row["cache_bytes"])] for row in j["rows"]])


def recompute(r):
    rows = r.json("recompute")["rows"]
    made = {row["budget"]: row["tokens"] for row in rows if row["policy"] == "recompute"}
    return table(["policy", "budget", "setting", "positions", "vs_recompute", "perplexity, as a multiple"],
                 [[row["policy"], number(row["budget"]), f"`{row['setting']}`", number(made[row["budget"]]),
                   compared(row), number(math.exp(row["vs_recompute"]), 3)]
                  for row in rows if row["policy"] != "recompute"])


def sinks(r):
    j = r.json("sinks")
    rows = [[number(row["sinks"]), number(row["ppl"], 2), number(row["ppl_second_half"], 2),
             number(row["over_best"], 4)] for row in j["rows"]]
    return table(["sinks", "ppl", "ppl_second_half", "over_best"], rows) + \
        f"\n\nThe fewest that are within half a percent of the best: {j['recommended']}."


def positions(r):
    rows = []
    for where in ("cache", "text"):
        parts = r.json("positions-" + where)["rows"]
        for times in (1, 2, 4, 8):
            part = parts[times - 1:times]
            if part:
                rows.append([where, f"{times}×", number(part[0]["end"]), number(joint_ppl(parts[:times]), 2),
                             number(part[0]["ppl"], 2)])
    last = number(parts[0]["end"])
    return table(["positions", "trained length", "tokens", "ppl", f"ppl of the last {last}"], rows)


def speed(r):
    found = {}
    for budget in r.numbered("speed"):
        found[budget] = {row["policy"]: row for row in r.json(f"speed-{budget}")["rows"]}
    if not found:
        raise Missing("speed")
    rows = [(budget, row["recompute"]["median_ms"], row["sink"]["median_ms"], row["sink"]["p99_ms"],
             row["sink"]["speedup"]) for budget, row in found.items()]
    r.write_tsv("time", ["budget", "recompute", "sink", "sink_p99", "speedup"], rows)
    return table(["budget", "recompute, ms", "sink, ms", "sink, p99 ms", "speedup"],
                 [[number(row[0]), *(number(x, 1) for x in row[1:])] for row in rows])


def endless(r):
    j = r.json("endless")
    group = max(1, len(j["rows"]) // 10)
    rows = []
    for at in range(0, len(j["rows"]), group):
        part = j["rows"][at:at + group]
        rows.append([number(part[-1]["end"]), number(joint_ppl(part), 2), number(part[-1]["resident_kib"] / 1024, 1)])
    return table(["tokens read", "ppl of this part", "resident MiB"], rows) + "\n\n" + table(
        ["setting", "ppl", "first tokens, median ms", "last tokens, median ms", "tokens/s, all", "cache MiB"],
        [[f"`{j['policy']}`", number(j["ppl"], 2), number(j["first_timed_ms"], 2), number(j["last_timed_ms"], 2),
          number(j["tokens_per_s"], 1), mib(j["cache_bytes"])]])


def over_sink(other, base, places):
    """How much worse than `base` at those of the places that `other` has: the mean, and its standard error.

    Before the first place that it has, the budget is not full, and all are the same.
    """
    d = [other[i] - base[i] for i in places if i in other]
    if not d:
        return None, None
    m = mean(d)
    error = math.sqrt(sum((x - m) ** 2 for x in d) / (len(d) - 1) / len(d)) if len(d) > 1 else 0.0
    share = mean([i >= min(other) for i in places])
    return m * share, error * share


def curve(r):
    """Perplexity over stretches. Recomputation is a sample: sink's stretch, moved by the mean difference there."""
    info = {name: r.json("curve-" + name) for name in POLICIES}
    nll = {name: r.nll("curve-" + name) for name in POLICIES}
    size = len(nll["sink"]) // STRETCHES
    picture, sums = [], {name: [] for name in POLICIES}
    for at in range(0, size * STRETCHES, size):
        places = range(at, at + size)
        base = mean([nll["sink"][i] for i in places])
        over = {name: over_sink(nll[name], nll["sink"], places) for name in POLICIES}
        for name in POLICIES:
            sums[name].append(None if over[name][0] is None else base + over[name][0])
        ppl = [None if sums[name][-1] is None else math.exp(min(sums[name][-1], 50)) for name in POLICIES]
        picture.append([at + size, *ppl, *(over[name][0] for name in POLICIES), over["recompute"][1]])
    r.write_tsv("perplexity", ["end", *POLICIES, *(name + "_over_sink" for name in POLICIES), "recompute_error"],
                picture)

    def ppl_of(values):
        known = [x for x in values if x is not None]
        return number(math.exp(mean(known)), 2) if known else ""

    half, quarter = STRETCHES // 2, STRETCHES // 4
    return table(["policy", "setting", f"ppl, tokens 1 to {number(size * half)}",
                  f"ppl, the last {number(size * quarter)}"],
                 [[name, f"`{info[name]['policy']}`", ppl_of(sums[name][:half]), ppl_of(sums[name][-quarter:])]
                  for name in POLICIES])


def streameval(r):
    names = ("window", "sink", "separator")
    found = {name: r.json("streameval-" + name) for name in names}
    window = int(found["window"]["policy"].split(":")[1])
    rows, picture = [], []
    for row in zip(*(found[name]["rows"] for name in names)):
        first = row[0]
        end = window * first["back"] / first["tokens_back"] if first["tokens_back"] else None
        shares = [None if x["accuracy"] is None else x["accuracy"] * 100 for x in row]
        rows.append([number(first["back"]), number(first["tokens_back"]), number(first["questions"]),
                     *(number(x, 0) + " %" if x is not None else "" for x in shares)])
        picture.append([first["back"], *shares, end])
    r.write_tsv("streameval", ["back", *names, "window_end"], picture)
    return table(["lines back", "tokens back", "questions", *(f"`{found[name]['policy']}`" for name in names)], rows)


def chat(r):
    j = r.json("chat")
    return table(["setting", "turns", "tokens", "evicted", "tokens/s", "first tenth", "last tenth", "cache MiB",
                  "resident MiB, first tenth", "at the end"],
                 [[f"`{j['policy']}`", number(j["turns"]), number(j["tokens"]), number(j["evicted"]),
                   number(j["tokens_per_s"], 1), number(j["first_tenth_per_s"], 1), number(j["last_tenth_per_s"], 1),
                   mib(j["cache_bytes"]), number(j["resident_kib_first"] / 1024, 1),
                   number(j["resident_kib_last"] / 1024, 1)]])


def memory(r):
    """The picture of memory: no table."""
    head = ["tokens", "endless", "endless_cache", "chat", "chat_cache", "dense_cache"]
    rows = []
    if r.has("endless"):
        j = r.json("endless")
        rows += [[row["end"], row["resident_kib"] / 1024, j["cache_bytes"] / MIB, None, None, None]
                 for row in j["rows"]]
    if r.has("chat"):
        rows += [[row["tokens"], None, None, row["resident_kib"] / 1024, row["cache_bytes"] / MIB, None]
                 for row in r.json("chat")["rows"]]
    if r.has("curve-dense") and rows:
        j = r.json("curve-dense")
        each = j["cache_bytes"] / j["tokens"] / MIB
        rows += [[at, None, None, None, None, at * each] for at in (min(x[0] for x in rows), max(x[0] for x in rows))]
    if rows:
        r.write_tsv("memory", head, rows)


def fill(page, blocks):
    """Each block replaces what stands between its marks."""
    with open(page, encoding="utf-8") as f:
        text = f.read()
    for name, block in blocks.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            sys.exit(f"{page} has no marks for {name}.")
        text = f"{head}{begin}\n\n{block}\n\n{end}{tail}"
    with open(page + ".part", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(page + ".part", page)


def main(folder, page):
    r = Results(folder)
    blocks = {}
    for part in (machine, policies, recompute, sinks, positions, speed, endless, curve, streameval, chat):
        try:
            blocks[part.__name__] = part(r)
        except Missing:
            pass
    memory(r)
    fill(os.path.join(page, "README.md"), blocks)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__.split("\n\n", 1)[1])
    main(*sys.argv[1:])
