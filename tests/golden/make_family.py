#!/usr/bin/env python3
"""
Makes the golden models of the families: tests/golden/family-NAME.gguf, random weights with every feature of the family
switched on, and family-NAME.logits, what they yield for a fixed text. Run by hand, in an environment that has PyPI's
torch, transformers, gguf and numpy:

    make_family.py DIRECTORY [NAME...]

Dense logits are those of transformers' own code. For policies there is none: a literal evaluation in double, raw keys
rotated at their rank for each token anew, agrees with transformers on the dense mask, and then gives what the masks of
sinks and windows yield. A file of logits is, in 32-bit numbers: tokens, vocabulary, step, then the text; then for each of
POLICIES the logits of tokens step - 1, 2 * step - 1, ...
"""
import sys

import gguf
import numpy as np
import torch
import transformers as tf

VOCAB, TOKENS, STEP = 288, 100, 4
SINK_WINDOWS = [(0, TOKENS), (4, 24), (3, 12)]  # POLICIES of test_family.c: dense, sink:4,24, sink:3,12
NEAR = 20  # tokens that layers with a window of their own see
random = np.random.default_rng(7)


def randomize(model):
    """Products keep the variance of their input; matrices are halves, so that the file has the same ones."""
    for name, p in model.named_parameters():
        if "sinks" in name:
            x = random.standard_normal(p.shape)
        elif p.dim() == 1 and name.endswith("bias") or name.endswith("_bias"):
            x = 0.3 * random.standard_normal(p.shape)
        elif p.dim() == 1:
            x = 0.25 * random.standard_normal(p.shape) + (0 if model.config.model_type == "gemma3_text" else 1)
        else:
            fan = p.shape[-2] if p.dim() == 3 else p.shape[-1]
            x = random.standard_normal(p.shape) * (0.5 if "emb" in name or "wte" in name else fan**-0.5)
            x = x.astype(np.float16)
        p.data = torch.tensor(np.asarray(x, np.float32))
    return model.float().eval()


def state(model):
    return {k: v.detach().numpy().astype(np.float64) for k, v in model.state_dict().items()}


class Family:
    """What the literal evaluation and the file need: sizes, options, and weights by their names in GGUF."""

    def __init__(self, name, arch, model, heads, kv, size, **options):
        self.name, self.arch, self.model = name, arch, model
        self.heads, self.kv, self.size = heads, kv, size
        self.rotated, self.base, self.near_base, self.near_period = size, 10000.0, None, None
        self.layer_norm, self.eps, self.activation, self.parallel = False, 1e-5, "gate", False
        self.original, self.far_freq = None, None  # rows from which on a cache takes other frequencies
        self.inv_freq, self.scale, self.turn_scale, self.slopes = None, size**-0.5, 1.0, None
        self.clip, self.embed_scale, self.used, self.pairs = 0, 1.0, 0, False
        self.fused_qkv, self.fused_gate = False, False
        self.__dict__.update(options)
        self.keys, self.w, self.layers = {}, {}, []

    def is_near(self, layer):
        return self.near_period is not None and not (self.near_period and (layer + 1) % self.near_period == 0)


# ---- the literal evaluation ----


def norm(f, x, w, b=None):
    if f.layer_norm:
        x = x - x.mean(-1, keepdims=True)
    y = x / np.sqrt((x * x).mean(-1, keepdims=True) + f.eps) * w
    return y if b is None else y + b


def linear(w, name, x):
    y = x @ w[name + ".weight"].T
    return y + w[name + ".bias"] if name + ".bias" in w else y


def named_norm(f, w, name, x):
    return norm(f, x, w[name + ".weight"], w.get(name + ".bias"))


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(np.math.erf if hasattr(np, "math") else __import__("math").erf)(x / np.sqrt(2)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def activate(f, g, u):
    if f.activation == "gelu":
        return gelu(u)
    if f.activation == "gate_gelu":
        return g * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g**3))) * u
    if f.activation == "clamped":
        g, u = np.minimum(g, 7), np.clip(u, -7, 7)
        return g * sigmoid(1.702 * g) * (u + 1)
    return g * sigmoid(g) * u


def feed_forward(f, w, x):
    if f.used:
        return experts(f, w, x)
    g = linear(w, "ffn_gate", x) if "ffn_gate.weight" in w else None
    return linear(w, "ffn_down", activate(f, g, linear(w, "ffn_up", x)))


def experts(f, w, x):
    logits = linear(w, "ffn_gate_inp", x)
    y = np.zeros_like(x)
    for t in range(len(x)):
        best = np.argsort(-logits[t], kind="stable")[: f.used]
        p = np.exp(logits[t][best] - logits[t][best].max())
        for e, share in zip(best, p / p.sum()):
            one = {k.replace("_exps", ""): v[e] for k, v in w.items() if "_exps" in k}
            g, u = linear(one, "ffn_gate", x[t]), linear(one, "ffn_up", x[t])
            y[t] += share * linear(one, "ffn_down", activate(f, g, u))
    return y


def rotate(f, x, ranks, near, far):
    """x[n][heads][size] at n ranks; the halves of what is rotated are pairs, as transformers has it."""
    if f.slopes is not None:
        return x
    half = f.rotated // 2
    base = f.near_base if near and f.near_base else f.base
    freq = f.inv_freq if f.inv_freq is not None and not (near and f.near_base) else base ** (-np.arange(half) / half)
    angle = ranks[:, None] * (f.far_freq if far else freq)[None]
    c, s = np.cos(angle)[:, None] * f.turn_scale, np.sin(angle)[:, None] * f.turn_scale
    a, b = x[..., :half], x[..., half : f.rotated]
    return np.concatenate([a * c - b * s, a * s + b * c, x[..., f.rotated :]], -1)


def attend(f, w, q, k, v, mask, near, far):
    """mask is what the policy leaves; ranks are among that, also where a layer sees less."""
    out = np.zeros((len(q), f.heads * f.size))
    for t in range(len(q)):
        seen = np.flatnonzero(mask[t])
        ranks = np.arange(len(seen))
        keep = seen > t - NEAR if near else np.ones(len(seen), bool)
        turned = np.repeat(rotate(f, k[seen], ranks, near, far)[keep], f.heads // f.kv, axis=1)
        own = rotate(f, q[t : t + 1], ranks[-1:], near, far)[0]
        score = np.einsum("hd,khd->hk", own, turned) * f.scale
        if f.slopes is not None:
            score -= f.slopes[:, None] * (ranks[-1] - ranks[keep])[None]
        if "attn_sinks.weight" in w:
            score = np.concatenate([score, w["attn_sinks.weight"][:, None]], 1)
        p = np.exp(score - score.max(1, keepdims=True))
        p = (p / p.sum(1, keepdims=True))[:, : keep.sum()]
        values = np.repeat(v[seen][keep], f.heads // f.kv, axis=1)
        out[t] = np.einsum("hk,khd->hd", p, values).reshape(-1)
    return out


def literal(f, tokens, mask):
    far = f.original is not None and mask.sum(1).max() > f.original
    x = f.w["token_embd.weight"][tokens] * f.embed_scale
    for i, w in enumerate(f.layers):
        h = named_norm(f, w, "attn_norm_2" if "attn_norm_2.weight" in w else "attn_norm", x)
        q, k, v = (linear(w, "attn_" + n, h) for n in "qkv")
        if f.clip:
            q, k, v = (np.clip(y, -f.clip, f.clip) for y in (q, k, v))
        q, k, v = (y.reshape(len(x), -1, f.size) for y in (q, k, v))
        if "attn_q_norm.weight" in w:
            q, k = named_norm(f, w, "attn_q_norm", q), named_norm(f, w, "attn_k_norm", k)
        a = linear(w, "attn_output", attend(f, w, q, k, v, mask, f.is_near(i), far))
        before = "ffn_norm" if "ffn_norm.weight" in w else "attn_norm" if f.parallel else "post_attention_norm"
        if "post_ffw_norm.weight" in w:
            x = x + named_norm(f, w, "post_attention_norm", a)
            x = x + named_norm(f, w, "post_ffw_norm", feed_forward(f, w, named_norm(f, w, "ffn_norm", x)))
        elif f.parallel:
            x = x + a + feed_forward(f, w, named_norm(f, w, before, x))
        else:
            x = x + a
            x = x + feed_forward(f, w, named_norm(f, w, before, x))
    return named_norm(f, f.w, "output_norm", x) @ f.w.get("output.weight", f.w["token_embd.weight"]).T


def sink_mask(n, sinks, window):
    t, i = np.arange(n)[:, None], np.arange(n)[None]
    return (i <= t) & ((i < sinks) | (i > t - window))


# ---- the file ----


def byte_characters():
    printable = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 256)]
    others = iter(range(256, 512))
    return [chr(b if b in printable else next(others)) for b in range(256)]


MERGES = """t h|h e|i n|th e|e r|a n|Ġ t|Ġ a|o n|r e|Ġ the|n d|an d|Ġa n|Ġ s|l l|in g|Ġ w|o u|Ġ i|Ġ o|a t|e n|o r|Ġ c|e s|s t|u s|i s"""


def put_vocabulary(g):
    merges = MERGES.split("|")
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *byte_characters(), *(m.replace(" ", "") for m in merges)]
    assert len(tokens) == VOCAB
    g.add_tokenizer_model("gpt2")
    g.add_tokenizer_pre("smollm")
    g.add_token_list(tokens)
    g.add_token_types([3] * 3 + [1] * (VOCAB - 3))
    g.add_token_merges(merges)
    g.add_bos_token_id(1)
    g.add_eos_token_id(2)
    g.add_add_bos_token(False)


def put_key(g, name, value):
    if isinstance(value, bool):
        g.add_bool(name, value)
    elif isinstance(value, int):
        g.add_uint32(name, value)
    elif isinstance(value, str):
        g.add_string(name, value)
    else:
        g.add_float32(name, value)


def interleave(w, heads):
    """From halves to neighbours, as files of the llama architecture have their q and k."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def fuse(f, w):
    w = dict(w)
    for kind in (".weight", ".bias"):
        if f.fused_qkv and "attn_q" + kind in w:
            w["attn_qkv" + kind] = np.concatenate([w.pop("attn_" + n + kind) for n in "qkv"])
        if f.fused_gate and "ffn_gate" + kind in w:
            w["ffn_up" + kind] = np.concatenate([w.pop("ffn_gate" + kind), w["ffn_up" + kind]])
        for n, heads in ("attn_q", f.heads), ("attn_k", f.kv):
            if f.pairs and n + kind in w:
                w[n + kind] = interleave(w[n + kind], heads)
    return w


def put_tensor(g, name, x):
    if x.ndim == 3 and name.endswith(".weight"):
        q = gguf.quants.quantize(x.astype(np.float32), gguf.GGMLQuantizationType.MXFP4)
        g.add_tensor(name, q, raw_dtype=gguf.GGMLQuantizationType.MXFP4)
    else:
        halves = x.ndim == 2 and "ffn_gate_inp" not in name and name.endswith("weight")
        g.add_tensor(name, x.astype(np.float16 if halves else np.float32))


def write(f, path):
    g = gguf.GGUFWriter(path, f.arch)
    ff = next((f.layers[0][n].shape[-2] for n in ("ffn_up.weight", "ffn_up_exps.weight") if n in f.layers[0]))
    sizes = {
        "block_count": len(f.layers),
        "context_length": 4096,
        "embedding_length": f.w["token_embd.weight"].shape[1],
        "feed_forward_length": ff,
        "attention.head_count": f.heads,
        "attention.head_count_kv": f.kv,
        "attention.layer_norm_epsilon" if f.layer_norm else "attention.layer_norm_rms_epsilon": f.eps,
    }
    g.add_name("tiny " + f.name)
    for name, value in {**sizes, **f.keys}.items():
        put_key(g, f.arch + "." + name, value)
    put_vocabulary(g)
    for name, x in f.w.items():
        put_tensor(g, name, x)
    for i, w in enumerate(f.layers):
        for name, x in fuse(f, w).items():
            put_tensor(g, f"blk.{i}.{name}", x)
    g.write_header_to_file()
    g.write_kv_data_to_file()
    g.write_tensors_to_file()
    g.close()


# ---- the families ----


def take(f, s, prefix, names, layers):
    """Weights by names: ours -> theirs, with and without bias."""
    for i in range(layers):
        w = {}
        for ours, theirs in names.items():
            for kind in (".weight", ".bias"):
                if f"{prefix}{i}.{theirs}{kind}" in s:
                    w[ours + kind] = s[f"{prefix}{i}.{theirs}{kind}"]
        f.layers.append(w)


LLAMA_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

SMALL = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4)


def like_llama(name, arch, config, model, names=LLAMA_NAMES, **options):
    model = randomize(model(config))
    s = state(model)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    f = Family(name, arch, model, config.num_attention_heads, config.num_key_value_heads, size,
               eps=config.rms_norm_eps, **options)
    take(f, s, "model.layers.", names, config.num_hidden_layers)
    f.w = {"token_embd.weight": s["model.embed_tokens.weight"], "output_norm.weight": s["model.norm.weight"]}
    if not config.tie_word_embeddings:
        f.w["output.weight"] = s["lm_head.weight"]
    return f


def llama3():
    rope = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=64)
    c = tf.LlamaConfig(**SMALL, num_key_value_heads=2, rope_parameters=rope, attention_bias=True, mlp_bias=True)
    f = like_llama("llama3", "llama", c, tf.LlamaForCausalLM, pairs=True)
    inv = f.model.model.rotary_emb.inv_freq.numpy().astype(np.float64)
    plain = 500000.0 ** (-np.arange(8) / 8)
    f.w["rope_freqs.weight"] = (plain / inv).astype(np.float32)
    f.inv_freq = plain / f.w["rope_freqs.weight"]
    f.keys = {"rope.freq_base": 500000.0, "rope.dimension_count": 16}
    return f


def qwen2():
    c = tf.Qwen2Config(**SMALL, num_key_value_heads=2, rope_parameters=dict(rope_type="default", rope_theta=1e6))
    f = like_llama("qwen2", "qwen2", c, tf.Qwen2ForCausalLM, base=1e6)
    f.keys = {"rope.freq_base": 1e6}
    return f


def qwen3():
    c = tf.Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=24, tie_word_embeddings=True,
                       rope_parameters=dict(rope_type="default", rope_theta=1e6))
    f = like_llama("qwen3", "qwen3", c, tf.Qwen3ForCausalLM, base=1e6)
    f.keys = {"rope.freq_base": 1e6, "attention.key_length": 24, "attention.value_length": 24}
    return f


def like_gpt(name, arch, config, model, prefix, names, kv, top, **options):
    """LayerNorm with fused q, k and v, which transformers keeps in an order of its own: see `split`."""
    model = randomize(model(config))
    s = state(model)
    heads = config.num_attention_heads
    size = config.hidden_size // heads
    f = Family(name, arch, model, heads, kv, size, layer_norm=True, activation="gelu", fused_qkv=True, **options)
    take(f, s, prefix, names, config.num_hidden_layers)
    f.w = {ours: s[theirs] for ours, theirs in top.items() if theirs in s}
    return f


def split(f, order):
    """q, k and v out of a fused matrix: `order` takes [rows, ...] to a list of three."""
    for w in f.layers:
        for kind in (".weight", ".bias"):
            if "qkv" + kind in w:
                q, k, v = order(w.pop("qkv" + kind))
                w["attn_q" + kind], w["attn_k" + kind], w["attn_v" + kind] = q, k, v


def gptneox():
    c = tf.GPTNeoXConfig(**SMALL, use_parallel_residual=True, tie_word_embeddings=False,
                         rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5))
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
             "qkv": "attention.query_key_value", "attn_output": "attention.dense",
             "ffn_up": "mlp.dense_h_to_4h", "ffn_down": "mlp.dense_4h_to_h"}
    top = {"token_embd.weight": "gpt_neox.embed_in.weight", "output.weight": "embed_out.weight",
           "output_norm.weight": "gpt_neox.final_layer_norm.weight", "output_norm.bias": "gpt_neox.final_layer_norm.bias"}
    f = like_gpt("gptneox", "gptneox", c, tf.GPTNeoXForCausalLM, "gpt_neox.layers.", names, 4, top, rotated=8,
                 parallel=True)
    top_names = state(f.model)
    f.w.setdefault("output.weight", top_names.get("lm_head.weight"))

    def order(x):
        x = x.reshape(4, 3, 16, *x.shape[1:])
        return [x[:, i].reshape(64, *x.shape[3:]) for i in range(3)]

    split(f, order)
    f.keys = {"rope.dimension_count": 8, "use_parallel_residual": True}
    return f


def falcon(two_norms=False):
    c = tf.FalconConfig(vocab_size=VOCAB, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, ffn_hidden_size=96,
                        new_decoder_architecture=two_norms, multi_query=not two_norms, num_kv_heads=2,
                        parallel_attn=True, bias=False, alibi=False, tie_word_embeddings=True)
    names = {"attn_norm": "ln_mlp" if two_norms else "input_layernorm", "attn_norm_2": "ln_attn",
             "qkv": "self_attention.query_key_value", "attn_output": "self_attention.dense",
             "ffn_up": "mlp.dense_h_to_4h", "ffn_down": "mlp.dense_4h_to_h"}
    top = {"token_embd.weight": "transformer.word_embeddings.weight", "output_norm.weight": "transformer.ln_f.weight",
           "output_norm.bias": "transformer.ln_f.bias"}
    kv = 2 if two_norms else 1
    f = like_gpt("falcon", "falcon", c, tf.FalconForCausalLM, "transformer.h.", names, kv, top, parallel=True)

    def order(x):
        if not two_norms:
            return [x[:64], x[64:80], x[80:]]
        x = x.reshape(2, 4, 16, *x.shape[1:])
        return [x[:, :2].reshape(64, *x.shape[3:]), x[:, 2].reshape(32, *x.shape[3:]), x[:, 3].reshape(32, *x.shape[3:])]

    split(f, order)
    return f


def falcon40():
    return falcon(True)


def mpt():
    c = tf.MptConfig(vocab_size=VOCAB, d_model=72, n_heads=6, n_layers=2, max_seq_len=4096, no_bias=True,
                     attn_config=dict(alibi=True, alibi_bias_max=8, clip_qkv=1.5), tie_word_embeddings=True)
    names = {"attn_norm": "norm_1", "ffn_norm": "norm_2", "qkv": "attn.Wqkv", "attn_output": "attn.out_proj",
             "ffn_up": "ffn.up_proj", "ffn_down": "ffn.down_proj"}
    top = {"token_embd.weight": "transformer.wte.weight", "output_norm.weight": "transformer.norm_f.weight"}
    slopes = 2.0 ** -np.array([2, 4, 6, 8, 1, 3])
    f = like_gpt("mpt", "mpt", c, tf.MptForCausalLM, "transformer.blocks.", names, 6, top, slopes=slopes, clip=1.5)
    split(f, lambda x: np.split(x, 3))
    f.keys = {"attention.max_alibi_bias": 8.0, "attention.clamp_kqv": 1.5}
    return f


def gemma3():
    rope = dict(full_attention=dict(rope_type="linear", factor=2.0, rope_theta=1e6),
                sliding_attention=dict(rope_type="default", rope_theta=10000.0))
    c = tf.Gemma3TextConfig(vocab_size=VOCAB, hidden_size=48, intermediate_size=64, num_hidden_layers=6,
                            num_attention_heads=4, num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16,
                            sliding_window=NEAR, rope_parameters=rope, rms_norm_eps=1e-6)
    names = {**LLAMA_NAMES, "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
             "post_ffw_norm": "post_feedforward_layernorm"}
    f = like_llama("gemma3", "gemma3", c, tf.Gemma3ForCausalLM, names, base=1e6, near_base=1e4, near_period=6,
                   activation="gate_gelu", embed_scale=48**0.5)
    f.inv_freq = 1e6 ** (-np.arange(8) / 8) / 2
    for w in (f.w, *f.layers):
        for name in w:
            if "norm" in name:
                w[name] = w[name] + 1
    f.keys = {"rope.freq_base": 1e6, "attention.key_length": 16, "attention.value_length": 16,
              "attention.sliding_window": NEAR, "rope.scaling.type": "linear", "rope.scaling.factor": 2.0}
    return f


def phi3(original=2048, near=NEAR):
    short = [1.0, 1.1, 1.2, 1.4, 1.7, 2.0]
    rope = dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75, short_factor=short,
                long_factor=[3 * x for x in short], original_max_position_embeddings=original)
    c = tf.Phi3Config(**SMALL, num_key_value_heads=2, max_position_embeddings=4096, rope_parameters=rope,
                      original_max_position_embeddings=original, sliding_window=near, pad_token_id=0)
    names = {**LLAMA_NAMES, "qkv": "self_attn.qkv_proj", "gate_up": "mlp.gate_up_proj"}
    f = like_llama("phi3", "phi3", c, tf.Phi3ForCausalLM, names, fused_qkv=True, fused_gate=True,
                   near_period=0 if near else None, rotated=12)
    split(f, lambda x: [x[:64], x[64:96], x[96:]])
    for w in f.layers:
        w["ffn_gate.weight"], w["ffn_up.weight"] = np.split(w.pop("gate_up.weight"), 2)
    f.inv_freq = 10000.0 ** (-np.arange(6) / 6) / np.array(short, np.float32)
    f.original, f.far_freq = original, f.inv_freq / 3
    f.turn_scale = np.sqrt(1 + np.log(4096 / original) / np.log(original))
    f.w["rope_factors_short.weight"] = np.array(short)
    f.w["rope_factors_long.weight"] = 3 * np.array(short)
    f.keys = {"rope.dimension_count": 12, "rope.scaling.attn_factor": float(f.turn_scale),
              "rope.scaling.original_context_length": original}
    if near:
        f.keys["attention.sliding_window"] = near
    return f


def phi3_long():
    return phi3(16, None)  # dense and sink:4,24 are longer, sink:3,12 is not


def gpt_oss():
    rope = dict(rope_type="yarn", rope_theta=150000.0, factor=4.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
                original_max_position_embeddings=64)
    c = tf.GptOssConfig(vocab_size=VOCAB, hidden_size=64, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
                        num_key_value_heads=2, head_dim=16, num_local_experts=6, num_experts_per_tok=2,
                        sliding_window=NEAR, rope_parameters=rope, pad_token_id=0, eos_token_id=2)
    c._experts_implementation = "eager"
    names = {k: v for k, v in LLAMA_NAMES.items() if "ffn" not in k}
    names |= {"post_attention_norm": "post_attention_layernorm", "ffn_gate_inp": "mlp.router"}
    f = like_llama("gpt_oss", "gpt-oss", c, tf.GptOssForCausalLM, names, near_period=2, activation="clamped", used=2)
    rotary = f.model.model.rotary_emb
    f.inv_freq, f.turn_scale = rotary.inv_freq.double().numpy(), rotary.attention_scaling
    for layer, w in zip(f.model.model.layers, f.layers):
        x = layer.mlp.experts
        gate_up, down = x.gate_up_proj.data.numpy(), x.down_proj.data.numpy()
        for name, y in ("gate", gate_up[..., ::2]), ("up", gate_up[..., 1::2]), ("down", down):
            q = gguf.quants.quantize(np.ascontiguousarray(y.swapaxes(1, 2)), gguf.GGMLQuantizationType.MXFP4)
            w[f"ffn_{name}_exps.weight"] = gguf.quants.dequantize(q, gguf.GGMLQuantizationType.MXFP4).astype(np.float64)
            y[...] = w[f"ffn_{name}_exps.weight"].swapaxes(1, 2)
        bias = x.gate_up_proj_bias.data.double().numpy()
        w["ffn_gate_exps.bias"], w["ffn_up_exps.bias"] = bias[:, ::2], bias[:, 1::2]
        w["ffn_down_exps.bias"] = x.down_proj_bias.data.double().numpy()
        w["attn_sinks.weight"] = layer.self_attn.sinks.data.double().numpy()
    f.keys = {"rope.freq_base": 150000.0, "attention.key_length": 16, "attention.value_length": 16,
              "attention.sliding_window": NEAR, "expert_count": 6, "expert_used_count": 2,
              "expert_feed_forward_length": 64, "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
              "rope.scaling.original_context_length": 64}
    return f


FAMILIES = (llama3, qwen2, qwen3, gptneox, falcon, falcon40, mpt, gemma3, phi3, phi3_long, gpt_oss)
FAMILIES = {f.__name__: f for f in FAMILIES}


def make(name, directory):
    f = FAMILIES[name]()
    f.name = name.replace("_", "-")
    tokens = random.integers(3, VOCAB, TOKENS)
    with torch.no_grad():
        theirs = f.model(torch.tensor(tokens[None])).logits[0].double().numpy()
    rows = slice(STEP - 1, None, STEP)
    logits = [literal(f, tokens, sink_mask(TOKENS, *p)) for p in SINK_WINDOWS]
    off = np.abs(logits[0] - theirs).max() / np.abs(theirs).max()
    print(f"{f.name}: the literal evaluation is off by {off:.1e}; sinks change {np.abs(logits[1] - theirs).max():.2g}")
    assert off < 1e-5
    write(f, f"{directory}/family-{f.name}.gguf")
    with open(f"{directory}/family-{f.name}.logits", "wb") as out:
        out.write(np.array([TOKENS, VOCAB, STEP, *tokens], np.int32).tobytes())
        for x in (theirs, *logits[1:]):
            out.write(x[rows].astype(np.float32).tobytes())


if __name__ == "__main__":
    for name in sys.argv[2:] or FAMILIES:
        random = np.random.default_rng(7)
        make(name, sys.argv[1])
