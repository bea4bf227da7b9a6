"""Tokenizer and text encoder, built from the world's own captions.

    python training/text.py --out work/tokenizer

Byte-pair encoding trained on the captions (every word of a caption is one token), saved as a CLIPTokenizer.
"""

import argparse
import json
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

LENGTH, WIDTH = 20, 96


def build_tokenizer(folder: str, captions: int = 6000) -> CLIPTokenizer:
    """Train the vocabulary of toybox's world and save it."""
    from fifo_diffusion.toybox.world import make_clip

    rng = np.random.default_rng(5)
    texts = [make_clip(rng, 1, held=None)[1] for _ in range(captions)]
    return train_tokenizer(folder, texts, {word for text in texts for word in text.split()}, 1000, LENGTH)


def train_tokenizer(folder: str, texts: Sequence[str], words: Iterable[str], size: int, length: int) -> CLIPTokenizer:
    """Train a vocabulary and save it; letters are kept, so that any text can be read.

    Args:
        texts: to train on.
        words: each must come out as one token.
        size: of the vocabulary, about.
        length: of a text, in tokens.

    Raises:
        ValueError: a word is several tokens, or a text is longer than `length`.
    """
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    bpe.normalizer, bpe.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    letters = [chr(code) for code in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=size, end_of_word_suffix="</w>", special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=letters, min_frequency=1, show_progress=False)  # fmt: skip
    bpe.train_from_iterator(texts, trainer)
    state = json.loads(bpe.to_str())["model"]
    vocab, merges = state["vocab"], [tuple(m) if isinstance(m, list) else tuple(m.split()) for m in state["merges"]]
    for letter in letters:
        vocab.setdefault(letter + "</w>", len(vocab))
    # vocab= and merges=: with transformers 5, vocab_file= and merges_file= silently give unknown tokens only
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=length)
    split = sorted(word for word in words if len(tokenizer(word)["input_ids"]) != 3)
    longest = max(len(tokenizer(text)["input_ids"]) for text in texts)
    if split or longest > length:
        raise ValueError(f"words of more than one token: {split}; the longest text has {longest} tokens")
    tokenizer.save_pretrained(folder)
    return tokenizer


def tokens(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> torch.Tensor:
    """Token numbers (B, the tokenizer's length)."""
    return torch.tensor(tokenizer(list(texts), padding="max_length", truncation=True)["input_ids"])


def make_text_encoder(tokenizer: CLIPTokenizer, width: int = WIDTH, layers: int = 2) -> CLIPTextModel:
    """A small text encoder with random weights; toybox's has two layers of width 96."""
    config = CLIPTextConfig(
        vocab_size=max(tokenizer.get_vocab().values()) + 1, hidden_size=width, intermediate_size=4 * width,
        num_hidden_layers=layers, num_attention_heads=4, max_position_embeddings=tokenizer.model_max_length,
        projection_dim=width, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id)  # fmt: skip
    return CLIPTextModel(config)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="work/tokenizer")
    print("vocabulary", len(build_tokenizer(parser.parse_args().out).get_vocab()))
