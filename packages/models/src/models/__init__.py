"""Real models that every package can use offline: tinylm, trained here, and MiniLM from a registry package."""

from models.corpus import corpus, documents, sentences
from models.load import Loaded, load
from models.score import bits_per_byte, token_losses

__all__ = ["Loaded", "bits_per_byte", "corpus", "documents", "load", "sentences", "token_losses"]
