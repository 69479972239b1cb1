"""Scheduler objects with the class names, configs and behaviour that users of diffusers know.

A facade over `sigmagraft.samplers`: each class is a row of a table (sampler, coordinates, config), none has a method
of its own.
"""

from __future__ import annotations

from . import table_adams as adams
from . import table_ancestral as ancestral
from . import table_distilled as distilled
from . import table_dpm as dpm
from . import table_edm as edm
from . import table_flow as flow
from . import table_inverse as inverse
from . import table_sigma as sigma
from . import table_stochastic as stochastic
from .frozen import FrozenDict
from .output import SchedulerOutput
from .scheduler import Scheduler
from .shifted import FlowScheduler


class DDIMScheduler(Scheduler, row=ancestral.DDIM):
    """DDIM, from deterministic (eta 0) to DDPM's noise (eta 1) (arXiv:2010.02502)."""


class DDPMScheduler(Scheduler, row=ancestral.DDPM):
    """Ancestral sampling with any of its variances, predicted ones too (arXiv:2006.11239, 2102.09672)."""


class PNDMScheduler(Scheduler, row=ancestral.PNDM):
    """Pseudo linear multistep after Runge-Kutta steps, or without them (`skip_prk_steps`) (arXiv:2202.09778)."""


class IPNDMScheduler(Scheduler, row=ancestral.IPNDM):
    """Improved PNDM for v-prediction models with a sine schedule."""


class LMSDiscreteScheduler(Scheduler, row=sigma.LMS):
    """Linear multistep in sigma, of order 4 or that of `step(order=)`."""


class EulerDiscreteScheduler(Scheduler, row=sigma.EULER):
    """Euler's method."""


class EulerAncestralDiscreteScheduler(Scheduler, row=sigma.EULER_ANCESTRAL):
    """Euler's method with ancestral noise."""


class HeunDiscreteScheduler(Scheduler, row=sigma.HEUN):
    """Heun's method; two evaluations a step (arXiv:2206.00364)."""


class KDPM2DiscreteScheduler(Scheduler, row=sigma.KDPM2):
    """DPM-Solver-2 as k-diffusion has it; two evaluations a step."""


class KDPM2AncestralDiscreteScheduler(Scheduler, row=sigma.KDPM2_ANCESTRAL):
    """KDPM2 with ancestral noise."""


class DPMSolverSDEScheduler(Scheduler, row=sigma.DPM_SDE):
    """DPM-Solver++ on the diffusion SDE with Brownian noise; two evaluations a step (arXiv:2211.01095)."""


class DPMSolverMultistepScheduler(Scheduler, row=dpm.DPM_MULTISTEP):
    """DPM-Solver and DPM-Solver++ of orders 1 to 3, on the ODE or the SDE (arXiv:2206.00927, 2211.01095)."""


class DPMSolverSinglestepScheduler(Scheduler, row=dpm.DPM_SINGLESTEP):
    """DPM-Solver and DPM-Solver++ whose steps of order p take p of the run's evaluations."""


class DEISMultistepScheduler(Scheduler, row=adams.DEIS):
    """DEIS in log-SNR (arXiv:2204.13902)."""


class UniPCMultistepScheduler(Scheduler, row=adams.UNIPC):
    """UniPC with B(h) = h (bh1) or exp(h) - 1 (bh2) (arXiv:2302.04867)."""


class SASolverScheduler(Scheduler, row=stochastic.SA):
    """SA-Solver, a stochastic Adams predictor-corrector (arXiv:2309.05019)."""


class TCDScheduler(Scheduler, row=distilled.TCD):
    """Trajectory consistency distillation; `step(eta=)` is the paper's gamma (arXiv:2402.19159)."""


class LCMScheduler(Scheduler, row=distilled.LCM):
    """Latent consistency models (arXiv:2310.04378)."""


class CMStochasticIterativeScheduler(Scheduler, row=distilled.CONSISTENCY):
    """Consistency models (arXiv:2303.01469)."""


class EDMEulerScheduler(Scheduler, row=edm.EDM_EULER):
    """Euler's method for EDM models."""


class EDMDPMSolverMultistepScheduler(Scheduler, row=edm.EDM_MULTISTEP):
    """DPM-Solver++ for EDM models."""


class FlowMatchEulerDiscreteScheduler(FlowScheduler, row=flow.FLOW_EULER):
    """Euler's method on rectified flow."""


class FlowMatchHeunDiscreteScheduler(FlowScheduler, row=flow.FLOW_HEUN):
    """Heun's method on rectified flow; two evaluations a step."""


class DDIMInverseScheduler(Scheduler, row=inverse.DDIM_INVERSE):
    """DDIM upwards."""


class DPMSolverMultistepInverseScheduler(Scheduler, row=inverse.MULTISTEP_INVERSE):
    """DPM-Solver and DPM-Solver++ upwards."""


__all__ = [
    "CMStochasticIterativeScheduler",
    "DDIMInverseScheduler",
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepInverseScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "FrozenDict",
    "HeunDiscreteScheduler",
    "IPNDMScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "Scheduler",
    "SchedulerOutput",
    "TCDScheduler",
    "UniPCMultistepScheduler",
]
