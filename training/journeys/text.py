"""Tokenizer and text encoder for the words of the journeys.

    python -m journeys.text --out work/tokenizer

Byte-pair encoding trained on captions, so that every word of theirs is one token, saved as a CLIPTokenizer.
"""

import argparse
import json
from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from journeys.words import caption, draw_labels, vocabulary

LENGTH, WIDTH = 32, 128


def build_tokenizer(folder: str, captions: int = 6000) -> CLIPTokenizer:
    """Train the vocabulary and save it; letters are kept, so that any text can be read."""
    rng = np.random.default_rng(5)
    texts = [caption(draw_labels(rng, None), rng) for _ in range(captions)] + 20 * vocabulary()
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    bpe.normalizer, bpe.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    letters = [chr(code) for code in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=2000, end_of_word_suffix="</w>", special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=letters, min_frequency=1, show_progress=False)  # fmt: skip
    bpe.train_from_iterator(texts, trainer)
    state = json.loads(bpe.to_str())["model"]
    vocab, merges = state["vocab"], [tuple(m) if isinstance(m, list) else tuple(m.split()) for m in state["merges"]]
    for letter in letters:
        vocab.setdefault(letter + "</w>", len(vocab))
    # vocab= and merges=: with transformers 5, vocab_file= and merges_file= silently give unknown tokens only
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)
    split = [word for word in vocabulary() if len(tokenizer(word)["input_ids"]) != 3]
    longest = max(len(tokenizer(text)["input_ids"]) for text in texts)
    if split or longest > LENGTH:
        raise ValueError(f"words of more than one token: {split}; the longest caption has {longest} tokens")
    tokenizer.save_pretrained(folder)
    return tokenizer


def tokens(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> torch.Tensor:
    """Token numbers (B, 32)."""
    ids = tokenizer(list(texts), padding="max_length", max_length=LENGTH, truncation=True)["input_ids"]
    return torch.tensor(ids)


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Three layers of width 128: free word order needs one more than fixed sentences."""
    config = CLIPTextConfig(
        vocab_size=max(tokenizer.get_vocab().values()) + 1, hidden_size=WIDTH, intermediate_size=4 * WIDTH,
        num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=LENGTH, projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id)  # fmt: skip
    return CLIPTextModel(config)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="work/tokenizer")
    print("vocabulary", len(build_tokenizer(parser.parse_args().out).get_vocab()))
