"""Schedulers that cannot be stepped frame by frame, or do not go with a model, and what to use instead."""

import math
from typing import Any

from fifo_diffusion.errors import ArgumentError, Message, Setting
from fifo_diffusion.models.shared.scheduler_choice import flow_shift_of
from fifo_diffusion.models.shared.step_rules import Rule, is_flow


def check_scheduler(
    scheduler: Any, rule: Rule | None, count: int, eta: float, flow: bool | None, *, shifted: bool = False
) -> None:
    """Raises ValueError where this scheduler cannot be used for this model, or with these options. `shifted`: it is
    told how its sigmas shift with the size of the video."""
    name = type(scheduler).__name__
    if rule is not None and rule.refused:
        raise ValueError(
            Message(f"the scheduler {name} cannot be stepped frame by frame: {rule.refused}; ", advice(flow))
        )
    if rule is None and not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(Message(f"the scheduler {name} cannot be stepped frame by frame: ", advice(flow)))
    config, its_flow = scheduler.config, is_flow(scheduler, rule)
    for_flow_only = not hasattr(scheduler, "scale_model_input") or (rule is not None and rule.space == "flow")
    predicts = config.get("prediction_type", "flow_prediction" if flow else "epsilon")
    if flow and its_flow and predicts != "flow_prediction":
        raise ValueError(
            Message(f"{name} is set up for a model that predicts {predicts}, this one predicts flow: ", advice(flow))
        )
    if flow is False and its_flow and not for_flow_only:
        raise ValueError(
            Message(f"{name} is set up for flow matching, this model was trained by diffusion: ", advice(flow))
        )
    if flow and not its_flow:
        raise ValueError(
            Message(f"{name} is set up for diffusion, and this model was trained by flow matching: ", advice(flow))
        )
    if flow is False and for_flow_only:
        raise ValueError(
            Message(f"{name} is for flow matching, and this model was trained by diffusion: ", advice(flow))
        )
    if config.get("prediction_type") == "flow_prediction" and not config.get("use_flow_sigmas"):
        what = "set use_flow_sigmas=True in its config" if "use_flow_sigmas" in config else advice(flow)
        raise ValueError(Message(f"{name} predicts flow without flow sigmas: ", what))
    if config.get("thresholding"):
        raise ValueError("dynamic thresholding is not supported: set thresholding=False in the scheduler's config")
    if config.get("invert_sigmas"):
        raise ValueError("flow matching with invert_sigmas is not supported")
    if its_flow and config.get("use_dynamic_shifting") and not shifted:
        raise ValueError("dynamic shifting is not supported: set use_dynamic_shifting=False and a fixed shift")
    if config.get("upscale_mode") and config.get("scale_factors"):
        raise ValueError(f"{name} with scale_factors changes the size of frames on the way: leave scale_factors out")
    shift, trained = flow_shift_of(scheduler), config.get("num_train_timesteps", 1000)
    if shift is not None and not 0 < shift < math.inf:
        raise ValueError(f"the flow shift must be a number above 0, not {shift:g}")
    if count > trained:
        raise ValueError(
            Message(
                f"the queue has {count} levels but the scheduler only {trained} timesteps: use fewer ",
                *(Setting("num_partitions"), " or more ", Setting("frames_per_level")),
            )
        )
    original = config.get("original_inference_steps")
    if original and count > original:
        raise ValueError(
            Message(
                *(f"the queue has {count} levels but {name} at most {original}: use ", Setting("frames_per_level")),
                *(
                    ", so that ",
                    Setting("num_partitions"),
                    " x ",
                    Setting("window"),
                    " / ",
                    Setting("frames_per_level"),
                ),
                " is what the model was made for (4 to 8, say)",
            )
        )
    if eta and its_flow:
        raise ArgumentError(
            "eta", eta, "it belongs to diffusion models, and this one is sampled by flow matching: leave it out"
        )
    if eta and _draws(scheduler, rule):
        raise ArgumentError("eta", eta, f"{name} draws noise by a rule of its own: leave it out")


def _draws(scheduler: Any, rule: Rule | None) -> bool:
    """Whether it draws noise by a rule of its own."""
    stochastic = str(scheduler.config.get("algorithm_type")).startswith("sde")
    return stochastic or (rule is not None and rule.fresh and not rule.lost)


def advice(flow: bool | None) -> Message:
    """What to give instead of a scheduler that does not do."""
    change = ("set ", Setting("scheduler", python="pipe.scheduler"), " to a ")
    usual = Message(*change, "DDIMScheduler, EulerDiscreteScheduler or DPMSolverMultistepScheduler")
    for_flow = Message(
        *change,
        "FlowMatchEulerDiscreteScheduler, or to a UniPCMultistepScheduler with use_flow_sigmas=True and "
        'prediction_type="flow_prediction"',
    )
    if flow is None:
        return Message(usual, ", for flow matching to a FlowMatchEulerDiscreteScheduler")
    return for_flow if flow else usual
