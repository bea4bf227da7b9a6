"""Tokenizer and text encoder for the words of the journeys.

python -m journeys.text --out work/tokenizer
"""

import argparse

import numpy as np
from text import make_text_encoder as small_encoder
from text import tokens, train_tokenizer
from transformers import CLIPTextModel, CLIPTokenizer

from journeys.words import caption, draw_labels, vocabulary

__all__ = ["LENGTH", "WIDTH", "build_tokenizer", "make_text_encoder", "tokens"]

LENGTH, WIDTH = 32, 128


def build_tokenizer(folder: str, captions: int = 6000) -> CLIPTokenizer:
    """Train the vocabulary on captions and save it."""
    rng = np.random.default_rng(5)
    texts = [caption(draw_labels(rng, None), rng) for _ in range(captions)] + 20 * vocabulary()
    return train_tokenizer(folder, texts, vocabulary(), 2000, LENGTH)


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Three layers of width 128: free word order needs one more than fixed sentences."""
    return small_encoder(tokenizer, WIDTH, layers=3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="work/tokenizer")
    print("vocabulary", len(build_tokenizer(parser.parse_args().out).get_vocab()))
