"""Random configurations are recovered from the state dict alone, in both layouts."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from sigmagraft.core.fill import skeleton
from sigmagraft.core.keymap import inverse, rename, unet_table, unet_table_for, vae_table, vae_table_for
from sigmagraft.standalone.text import TextConfig, TextEncoder
from sigmagraft.standalone.unet import UNet, UNetConfig
from sigmagraft.standalone.vae import VAE, VAEConfig

SEEDS = range(12)


def shapes(network: object) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}  # type: ignore[attr-defined]


def random_unet(seed: int) -> UNetConfig:
    r = random.Random(seed)
    levels = r.randint(1, 4)
    linear = r.random() < 0.5
    depth = [r.choice([0, 1, 2, 3]) for _ in range(levels)]
    depth[r.randrange(levels)] = r.choice([1, 2])  # some level attends
    latent = r.choice([4, 16, 32])
    return UNetConfig(
        in_channels=r.choice([latent, latent + 1, 2 * latent + 1]),
        out_channels=latent,
        model_channels=r.choice([32, 64, 96]),
        channel_mult=tuple(sorted(r.randint(1, 4) for _ in range(levels))),
        num_res_blocks=tuple(r.randint(1, 3) for _ in range(levels)),
        transformer_depth=tuple(depth),
        transformer_depth_middle=r.randint(1, 4),
        context_dim=r.choice([64, 128, 192]),
        adm_in_channels=r.choice([None, 64, 1664]),
        use_linear=linear,
        num_heads=None if linear else 8,
        head_dim=64 if linear else None,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_unet(seed: int) -> None:
    config = random_unet(seed)
    with skeleton():
        found = shapes(UNet(config))
    assert UNetConfig.from_shapes(found) == config
    table = unet_table(config.num_res_blocks, [bool(depth) for depth in config.transformer_depth])
    diffusers, unknown = rename(found, inverse(table))
    assert not unknown
    assert rename(diffusers, unet_table_for(diffusers)) == (found, [])


@pytest.mark.parametrize("seed", SEEDS)
def test_vae(seed: int) -> None:
    r = random.Random(seed)
    z = r.choice([4, 8, 16, 32])
    config = VAEConfig(
        ch=r.choice([32, 64]),
        ch_mult=tuple(sorted(r.randint(1, 3) for _ in range(r.randint(1, 4)))),
        num_res_blocks=r.randint(1, 3),
        z_channels=z,
        embed_dim=r.choice([None, z]),
    )
    config = replace(config, ch_mult=(1, *config.ch_mult[1:]))
    with skeleton():
        found = shapes(VAE(config))
    assert VAEConfig.from_shapes(found) == config
    diffusers, unknown = rename(found, inverse(vae_table(len(config.ch_mult), config.num_res_blocks)))
    assert not unknown
    assert rename(diffusers, vae_table_for(diffusers)) == (found, [])


@pytest.mark.parametrize("seed", SEEDS)
def test_text(seed: int) -> None:
    r = random.Random(seed)
    heads = r.randint(1, 4)
    config = TextConfig(
        vocab=r.randint(514, 900),
        width=64 * heads,
        layers=r.randint(1, 5),
        heads=heads,
        intermediate=r.choice([64, 256]),
        max_length=r.choice([77, 248]),
        projection=r.choice([None, 64, 96]),
    )
    with skeleton():
        found = shapes(TextEncoder(config))
    assert TextConfig.from_shapes(found) == config
