"""Grafts onto other programs: what every host shares is here, each host has a folder of its own.

Nothing in this package is imported unless a host asks for it, and nothing outside a host's folder imports that host.
"""
