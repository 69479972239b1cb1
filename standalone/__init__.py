"""The runner that needs no host: weights and text in, pictures out."""
