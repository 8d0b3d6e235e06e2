"""Pairs of models worth knowing before one merges any: the default of ``merge.pairs``, shown in notebook 02.

Each name stands in ``prepare/known_models.json`` with its facts, so that the pairs can be compared without a network.
"""

KNOWN_PAIRS = {
    "the plan's pair": ["md-nishat-008/TigerLLM-9B-it", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"],
    "same shapes, other positions": ["deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "Qwen/Qwen2.5-7B"],
    "the Math line": ["deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "Qwen/Qwen2.5-Math-7B"],
    "Gemma 3 at 1B": ["md-nishat-008/TigerLLM-1B-it", "google/gemma-3-1b-it"],
    "Gemma 2 at 9B": ["md-nishat-008/TigerLLM-9B-it", "google/gemma-2-9b-it"],
    "Qwen at 7B": ["Qwen/Qwen2.5-7B-Instruct", "open-thoughts/OpenThinker2-7B"],
    "Llama at 8B": [
        "BanglaLLM/BanglaLLama-3.1-8b-bangla-alpaca-orca-instruct-v0.0.1",
        "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
    ],
}
