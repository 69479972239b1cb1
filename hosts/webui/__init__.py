"""The web UIs of the A1111 family: Forge Neo, Forge, reForge and Automatic1111, by one extension.

They share their extension interface and their sampler lists; what differs is asked for by capability, never by name or
version. `start.py` is what `scripts/sigmagraft_webui.py` calls, and everything else hangs on it.
"""
