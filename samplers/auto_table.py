"""What the sampler `auto` chooses from, by what was measured. Written by benchmarks.auto_table."""

from __future__ import annotations

# (rectified flow, guided) -> what was measured
CASES: dict[tuple[bool, bool], str] = {
    (False, False): "Gaussian mixtures",
    (True, False): "Gaussian mixtures, flow",
    (True, True): "guided Gaussian mixtures, flow",
    (False, True): "the bundled model at cfg 4",
}

# (rectified flow, guided) -> evaluations -> the best general way, its error, the next best, its error
TABLE: dict[tuple[bool, bool], dict[int, tuple[str, float, str, float]]] = {
    (False, False): {
        4: ("adams_pc fitted", 0.0991, "dpmpp_2m karras to 0.008", 0.1537),
        5: ("adams_pc fitted", 0.0525, "dpmpp_2m karras to 0.008", 0.0806),
        6: ("adams_pc fitted", 0.0263, "uni_pc_bh2:order=2 karras to 0.008", 0.0491),
        8: ("adams_pc fitted", 0.0109, "uni_pc_bh2:order=2 karras to 0.008", 0.0258),
        10: ("adams_pc fitted", 0.0064, "uni_pc_bh2:order=2 karras to 0.008", 0.0175),
        15: ("adams_pc fitted", 0.0024, "uni_pc_bh2 karras", 0.0046),
        20: ("adams_pc fitted", 0.0007, "uni_pc_bh2 karras", 0.0018),
        30: ("adams_pc fitted", 0.0009, "uni_pc_bh2 karras", 0.0012),
    },
    (True, False): {
        4: ("adams_pc fitted", 0.1569, "dpmpp_2m beta", 0.2448),
        5: ("adams_pc fitted", 0.0653, "dpmpp_2m beta", 0.1622),
        6: ("adams_pc fitted", 0.0472, "dpmpp_2m beta", 0.1131),
        8: ("adams_pc fitted", 0.0165, "dpmpp_2m beta", 0.0576),
        10: ("adams_pc fitted", 0.0061, "dpmpp_2m beta", 0.035),
        15: ("adams_pc fitted", 0.0046, "dpmpp_2m beta", 0.0271),
        20: ("adams_pc fitted", 0.0022, "dpmpp_2m beta", 0.0229),
        30: ("adams_pc fitted", 0.0009, "uni_pc_bh2 sgm_uniform", 0.0085),
    },
    (True, True): {
        4: ("adams_pc fitted", 0.2249, "dpmpp_2m beta", 0.2493),
        5: ("adams_pc fitted", 0.1119, "dpmpp_2m beta", 0.1615),
        6: ("adams_pc fitted", 0.055, "dpmpp_2m beta", 0.1094),
        8: ("adams_pc fitted", 0.0312, "dpmpp_2m beta", 0.0575),
        10: ("adams_pc fitted", 0.0132, "dpmpp_2m beta", 0.0351),
        15: ("adams_pc fitted", 0.006, "dpmpp_2m beta", 0.0254),
        20: ("adams_pc fitted", 0.0027, "dpmpp_2m beta", 0.0213),
        30: ("adams_pc fitted", 0.0012, "uni_pc_bh2 sgm_uniform", 0.0081),
    },
    (False, True): {
        4: ("euler beta", 0.301, "uni_pc_bh2 sgm_uniform", 0.332),
        5: ("euler beta", 0.157, "dpmpp_2m sgm_uniform", 0.196),
        6: ("euler beta", 0.115, "uni_pc_bh2:order=1 karras to 0.008", 0.125),
        8: ("uni_pc_bh2:order=1 karras to 0.008", 0.0529, "euler karras to 0.008", 0.0738),
        10: ("uni_pc_bh2:order=1 karras to 0.008", 0.0404, "dpmpp_2m karras to 0.008", 0.0484),
        20: ("dpmpp_2m karras", 0.01, "deis karras", 0.0119),
    },
}
