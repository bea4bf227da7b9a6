"""A small evaluation, which the tests of studies share."""

FIFO_ROW = {"method": "fifo", "num_partitions": 1, "lookahead": True, "window": 4}
SMALL = {
    "tables": ["quality"],
    "rows": {"fifo": FIFO_ROW, "genl": {"method": "genl", "window": 4, "num_inference_steps": 2}},
    "prompts": ["a red ball", "a cat"],
    "num_frames": 18,
    "base_clips": 1,
    "base_steps": 1,
    "cost_frames": [5],
    "partitions": [1],
    "mse_clips": 2,
    "ablation_frames": 6,
}
