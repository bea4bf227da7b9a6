"""HunyuanVideo 1.0; its autoencoder is also that of Kandinsky 5."""
