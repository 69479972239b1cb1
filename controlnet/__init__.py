"""ControlNets, T2I-Adapters and their kin as patches: no host, no runner."""
