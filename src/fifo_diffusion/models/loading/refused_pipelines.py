"""Pipeline classes of diffusers, modular ones too, that make or change videos and that FIFO does not take: why, and
what comes nearest.

Together with the registry's these are all of them (a test looks through the installed diffusers).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """Of one pipeline class.

    Attributes:
        why: one clause, about the class ("it ...").
        instead: the nearest thing that works, as an order.
    """

    why: str
    instead: str


_PICTURE = (
    "its denoiser is told the picture that a clip begins with, and windows further on begin with none (with Wan and "
    "SkyReels-V2 FIFO has something to say there, with others not)"
)
_VIDEO = "it changes a given video from beginning to end, and FIFO goes on without one"
_CONTROL = "it follows given frames one by one (edges, poses, a camera), which an endless video has not"
_LONG = "it makes long videos in a way of its own, with a memory of earlier clips"
_LARGER = "it makes finished videos larger, and denoises none"
_SINGLE = "it makes single pictures"
_SOUND = "its transformer makes picture and sound together"
_SOUND_GUIDED = "its guiders guide picture and sound by up to four passes, of which FIFO knows two"
_ALL = "it makes text, pictures and sound with one model"
_GUARDED = "its licence wants a filter of contents over every video (cosmos_guardrail), which FIFO does not run"
_OWN_BLOCKS = "it encodes its picture in blocks of its own, which FIFO does not run"
_OF_NONE = "its frames are made one by one by a model of single pictures"


def _start(class_name: str) -> str:
    return f"use {class_name} and give the picture as start="


def _use(class_name: str) -> str:
    return f"use {class_name}"


_DIRECTLY = "use it without FIFO"
_LTX2 = "use LTX2Pipeline on its parts, without sound"
_START_OF_PARTS = "use WanImageToVideoPipeline on its parts and give the picture as start="
_ON_RESULT = "use it on what FIFO has made"

REFUSED: dict[str, Refusal] = {
    "AnimateDiffControlNetPipeline": Refusal(_CONTROL, "use AnimateDiffPipeline on its parts"),
    "AnimateDiffPAGPipeline": Refusal(
        "its guidance takes a third pass through layers that it changes", "use AnimateDiffPipeline on its parts"
    ),
    "AnimateDiffSparseControlNetPipeline": Refusal(_CONTROL, "use AnimateDiffPipeline on its parts"),
    "AnimateDiffVideoToVideoControlNetPipeline": Refusal(_CONTROL, "use AnimateDiffPipeline on its parts"),
    "AnimateDiffVideoToVideoPipeline": Refusal(_VIDEO, "use AnimateDiffPipeline on its parts, with start=VIDEO"),
    "AnyFlowFARPipeline": Refusal(_LONG, _use("AnyFlowPipeline")),
    "ChronoEditPipeline": Refusal("it edits one picture", _start("WanPipeline")),
    "CogVideoXFunControlPipeline": Refusal(_CONTROL, _use("CogVideoXPipeline")),
    "CogVideoXImageToVideoPipeline": Refusal(_PICTURE, _start("CogVideoXPipeline")),
    "CogVideoXVideoToVideoPipeline": Refusal(_VIDEO, "use CogVideoXPipeline on its parts, with start=VIDEO"),
    "ConsisIDPipeline": Refusal(_PICTURE, _start("CogVideoXPipeline")),
    "Cosmos2TextToImagePipeline": Refusal(_SINGLE, _start("WanPipeline")),
    "Cosmos2VideoToWorldPipeline": Refusal(_PICTURE, _start("WanPipeline")),
    "Cosmos2_5_PredictBasePipeline": Refusal(_GUARDED, _use("WanPipeline")),
    "Cosmos2_5_TransferPipeline": Refusal(_CONTROL, _use("WanPipeline")),
    "Cosmos3DistilledModularPipeline": Refusal(_ALL, _use("WanPipeline")),
    "Cosmos3OmniModularPipeline": Refusal(_ALL, _use("WanPipeline")),
    "Cosmos3OmniPipeline": Refusal(_ALL, _use("WanPipeline")),
    "CosmosTextToWorldPipeline": Refusal(
        f"{_GUARDED}, and the statistics of its latents are given for the places of one clip", _use("WanPipeline")
    ),
    "CosmosVideoToWorldPipeline": Refusal(_PICTURE, _start("WanPipeline")),
    "EchoModularPipeline": Refusal(_LONG, _DIRECTLY),
    "EasyAnimateControlPipeline": Refusal(_CONTROL, _use("EasyAnimatePipeline")),
    "EasyAnimateInpaintPipeline": Refusal(_PICTURE, _start("EasyAnimatePipeline")),
    "HeliosModularPipeline": Refusal(_LONG, _DIRECTLY),
    "HeliosPipeline": Refusal(_LONG, _DIRECTLY),
    "HeliosPyramidDistilledModularPipeline": Refusal(_LONG, _DIRECTLY),
    "HeliosPyramidModularPipeline": Refusal(_LONG, _DIRECTLY),
    "HeliosPyramidPipeline": Refusal(_LONG, _DIRECTLY),
    "HunyuanSkyreelsImageToVideoPipeline": Refusal(_PICTURE, _start("HunyuanVideoPipeline")),
    "HunyuanVideo15ImageToVideoPipeline": Refusal(_PICTURE, _start("HunyuanVideo15Pipeline")),
    "HunyuanVideo15ModularPipeline": Refusal(
        "it has parts that FIFO takes as a standard pipeline only", "use HunyuanVideo15Pipeline on its parts"
    ),
    "HunyuanVideoFramepackPipeline": Refusal(_LONG, _use("HunyuanVideoPipeline")),
    "HunyuanVideoImageToVideoPipeline": Refusal(_PICTURE, _start("HunyuanVideoPipeline")),
    "I2VGenXLPipeline": Refusal(_PICTURE, _start("TextToVideoSDPipeline")),
    "Kandinsky5I2IPipeline": Refusal(_SINGLE, _start("WanPipeline")),
    "Kandinsky5I2VPipeline": Refusal(_PICTURE, _start("Kandinsky5T2VPipeline")),
    "Kandinsky5T2IPipeline": Refusal(_SINGLE, _start("WanPipeline")),
    "Kandinsky6SRPipeline": Refusal(_LARGER, _ON_RESULT),
    "Kandinsky6TI2VAPipeline": Refusal(_SOUND, _use("WanPipeline")),
    "LTX25ModularPipeline": Refusal(_SOUND_GUIDED, _LTX2),
    "LTX2ConditionPipeline": Refusal(_PICTURE, f"{_LTX2}, with start="),
    "LTX2DFRPipeline": Refusal("it is one of several passes over a clip, with key frames beside it", _LTX2),
    "LTX2DFRTemporalRefinePipeline": Refusal(_VIDEO, _LTX2),
    "LTX2HDRPipeline": Refusal(_VIDEO, _LTX2),
    "LTX2ImageToVideoPipeline": Refusal(_PICTURE, f"{_LTX2}, with start="),
    "LTX2InContextPipeline": Refusal(_CONTROL, _LTX2),
    "LTX2LatentUpsamplePipeline": Refusal(_LARGER, _ON_RESULT),
    "LTX2ModularPipeline": Refusal(_SOUND_GUIDED, _LTX2),
    "LTX2VideoDiffusionDecodePipeline": Refusal("it is an autoencoder, and denoises no clips", _LTX2),
    "LTXConditionPipeline": Refusal(_PICTURE, "use LTXPipeline on its parts, with start="),
    "LTXI2VLongMultiPromptPipeline": Refusal(_LONG, "use LTXPipeline on its parts"),
    "LTXImageToVideoPipeline": Refusal(_PICTURE, "use LTXPipeline on its parts, with start="),
    "LTXLatentUpsamplePipeline": Refusal(_LARGER, _ON_RESULT),
    "LucyEditPipeline": Refusal(_VIDEO, "use WanPipeline, with start=VIDEO"),
    "MotifVideoImage2VideoPipeline": Refusal(_PICTURE, _start("MotifVideoPipeline")),
    "PIAPipeline": Refusal(_PICTURE, _start("AnimateDiffPipeline")),
    "SanaImageToVideoPipeline": Refusal(_PICTURE, _start("SanaVideoPipeline")),
    "SanaWMPipeline": Refusal(_CONTROL, _use("SanaVideoPipeline")),
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": Refusal(
        "its checkpoints are those of the pipeline from text, and it puts a picture in the place of the first latent",
        _start("SkyReelsV2DiffusionForcingPipeline"),
    ),
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline": Refusal(
        _LONG, "use SkyReelsV2DiffusionForcingPipeline on its parts, with start=VIDEO"
    ),
    "StableVideoDiffusionPipeline": Refusal(
        "it takes no text, and tells all frames of a clip the picture that it begins with, which windows further on do "
        "not; and its autoencoder mixes the frames that it decodes together",
        _start("WanImageToVideoPipeline"),
    ),
    "TextToVideoZeroPipeline": Refusal(_OF_NONE, _use("AnimateDiffPipeline")),
    "TextToVideoZeroSDXLPipeline": Refusal(_OF_NONE, _use("AnimateDiffSDXLPipeline")),
    "VideoToVideoSDPipeline": Refusal(_VIDEO, "use TextToVideoSDPipeline on its parts, with start=VIDEO"),
    "Wan22Image2VideoModularPipeline": Refusal(_OWN_BLOCKS, _START_OF_PARTS),
    "Wan22VaceModularPipeline": Refusal(_CONTROL, _use("Wan22ModularPipeline")),
    "WanAnimate2DistilledModularPipeline": Refusal(_CONTROL, _use("WanModularPipeline")),
    "WanAnimate2ModularPipeline": Refusal(_CONTROL, _use("WanModularPipeline")),
    "WanAnimatePipeline": Refusal(_CONTROL, _use("WanPipeline")),
    "WanImage2VideoModularPipeline": Refusal(_OWN_BLOCKS, _START_OF_PARTS),
    "WanVACEPipeline": Refusal(_CONTROL, _use("WanPipeline")),
    "WanVideoToVideoPipeline": Refusal(_VIDEO, "use WanPipeline on its parts, with start=VIDEO"),
}
