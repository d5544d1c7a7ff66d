"""Which families of configurations are read, and which are known and refused."""

from __future__ import annotations

from collections.abc import Callable

from archsim.workloads.huggingface import decoders, encoder_decoders, encoders, experts, hybrids, published
from archsim.workloads.huggingface.config import Config, Fields

FAMILIES: dict[str, tuple[str, Callable[[Config], Fields]]] = {
    "arcee": ("ArceeForCausalLM", decoders.arcee),
    "aria_text": ("AriaTextForCausalLM", experts.aria_text),
    "baichuan": ("BaichuanForCausalLM", published.baichuan),
    "bart": ("BartForConditionalGeneration", encoder_decoders.bart),
    "bert": ("BertModel", encoders.bert),
    "biogpt": ("BioGptForCausalLM", decoders.biogpt),
    "blenderbot": ("BlenderbotForConditionalGeneration", encoder_decoders.pegasus),
    "bloom": ("BloomForCausalLM", decoders.bloom),
    "camembert": ("CamembertModel", encoders.roberta),
    "chatglm": ("ChatGLMModel", published.chatglm),
    "clip_vision_model": ("CLIPVisionModel", encoders.clip_vision),
    "code_llama": ("CodeLlamaForCausalLM", decoders.llama),
    "codegen": ("CodeGenForCausalLM", decoders.gptj),
    "cohere": ("CohereForCausalLM", decoders.cohere),
    "cohere2": ("Cohere2ForCausalLM", decoders.cohere2),
    "dbrx": ("DbrxForCausalLM", experts.dbrx),
    "deberta": ("DebertaModel", encoders.deberta),
    "deberta-v2": ("DebertaV2Model", encoders.deberta_v2),
    "deepseek_v2": ("DeepseekV2ForCausalLM", experts.deepseek_v2),
    "deepseek_v3": ("DeepseekV3ForCausalLM", experts.deepseek_v3),
    "deepseek_v32": ("DeepseekV32ForCausalLM", experts.deepseek_v32),
    "deit": ("DeiTModel", encoders.vit),
    "distilbert": ("DistilBertModel", encoders.distilbert),
    "dots1": ("Dots1ForCausalLM", experts.dots1),
    "ernie4_5": ("Ernie4_5ForCausalLM", decoders.ernie),
    "ernie4_5_moe": ("Ernie4_5_MoeForCausalLM", experts.ernie_moe),
    "exaone": ("ExaoneForCausalLM", published.exaone),
    "exaone4": ("Exaone4ForCausalLM", decoders.exaone4),
    "falcon": ("FalconForCausalLM", decoders.falcon),
    "flex_olmo": ("FlexOlmoForCausalLM", experts.flex_olmo),
    "gemma": ("GemmaForCausalLM", decoders.gemma),
    "gemma2": ("Gemma2ForCausalLM", decoders.gemma2),
    "gemma3_text": ("Gemma3ForCausalLM", decoders.gemma3),
    "glm": ("GlmForCausalLM", decoders.glm),
    "glm4": ("Glm4ForCausalLM", decoders.glm4),
    "glm4_moe": ("Glm4MoeForCausalLM", experts.glm4_moe),
    "gpt-sw3": ("GPTSw3LMHeadModel", decoders.gpt2),
    "gpt2": ("GPT2LMHeadModel", decoders.gpt2),
    "gpt_bigcode": ("GPTBigCodeForCausalLM", decoders.gpt_bigcode),
    "gpt_neo": ("GPTNeoForCausalLM", decoders.gpt_neo),
    "gpt_neox": ("GPTNeoXForCausalLM", decoders.gpt_neox),
    "gpt_oss": ("GptOssForCausalLM", experts.gpt_oss),
    "gptj": ("GPTJForCausalLM", decoders.gptj),
    "granite": ("GraniteForCausalLM", decoders.llama),
    "granitemoe": ("GraniteMoeForCausalLM", experts.granitemoe),
    "granitemoeshared": ("GraniteMoeSharedForCausalLM", experts.granitemoe),
    "helium": ("HeliumForCausalLM", decoders.llama),
    "hunyuan_v1_dense": ("HunYuanDenseV1ForCausalLM", decoders.hunyuan),
    "hunyuan_v1_moe": ("HunYuanMoEV1ForCausalLM", experts.hunyuan_moe),
    "internlm": ("InternLMForCausalLM", published.internlm),
    "internlm2": ("InternLM2ForCausalLM", decoders.llama),
    "internlm3": ("InternLM3ForCausalLM", decoders.llama),
    "kimi_k2": ("KimiK2ForCausalLM", experts.deepseek_v3),
    "llama": ("LlamaForCausalLM", decoders.llama),
    "llama4_text": ("Llama4ForCausalLM", experts.llama4),
    "m2m_100": ("M2M100ForConditionalGeneration", encoder_decoders.m2m),
    "marian": ("MarianMTModel", encoder_decoders.marian),
    "mbart": ("MBartForConditionalGeneration", encoder_decoders.mbart),
    "mimo": ("MiMoForCausalLM", published.mimo),
    "minimax_m2": ("MiniMaxM2ForCausalLM", experts.minimax_m2),
    "ministral": ("MinistralForCausalLM", decoders.mistral),
    "mistral": ("MistralForCausalLM", decoders.mistral),
    "mixtral": ("MixtralForCausalLM", experts.mixtral),
    "modernbert": ("ModernBertModel", encoders.modernbert),
    "mpt": ("MptForCausalLM", decoders.mpt),
    "mt5": ("MT5ForConditionalGeneration", encoder_decoders.mt5),
    "nemotron": ("NemotronForCausalLM", decoders.nemotron),
    "nemotron_h": ("NemotronHForCausalLM", hybrids.nemotron_h),
    "olmo": ("OlmoForCausalLM", decoders.olmo),
    "olmo2": ("Olmo2ForCausalLM", decoders.olmo2),
    "olmo3": ("Olmo3ForCausalLM", decoders.olmo3),
    "olmoe": ("OlmoeForCausalLM", experts.olmoe),
    "openai-gpt": ("OpenAIGPTLMHeadModel", decoders.openai_gpt),
    "opt": ("OPTForCausalLM", decoders.opt),
    "pegasus": ("PegasusForConditionalGeneration", encoder_decoders.pegasus),
    "persimmon": ("PersimmonForCausalLM", decoders.persimmon),
    "phi": ("PhiForCausalLM", decoders.phi),
    "phi3": ("Phi3ForCausalLM", decoders.phi3),
    "phimoe": ("PhimoeForCausalLM", experts.phimoe),
    "plbart": ("PLBartForConditionalGeneration", encoder_decoders.bart),
    "qwen": ("QWenLMHeadModel", published.qwen),
    "qwen2": ("Qwen2ForCausalLM", decoders.qwen2),
    "qwen2_moe": ("Qwen2MoeForCausalLM", experts.qwen2_moe),
    "qwen3": ("Qwen3ForCausalLM", decoders.qwen3),
    "qwen3_moe": ("Qwen3MoeForCausalLM", experts.qwen3_moe),
    "qwen3_next": ("Qwen3NextForCausalLM", hybrids.qwen3_next),
    "roberta": ("RobertaModel", encoders.roberta),
    "seed_oss": ("SeedOssForCausalLM", decoders.seed_oss),
    "siglip_vision_model": ("SiglipVisionModel", encoders.siglip_vision),
    "smollm3": ("SmolLM3ForCausalLM", decoders.smollm3),
    "stablelm": ("StableLmForCausalLM", decoders.stablelm),
    "starcoder2": ("Starcoder2ForCausalLM", decoders.starcoder2),
    "switch_transformers": ("SwitchTransformersForConditionalGeneration", encoder_decoders.switch),
    "t5": ("T5ForConditionalGeneration", encoder_decoders.t5),
    "vaultgemma": ("VaultGemmaForCausalLM", decoders.vaultgemma),
    "vit": ("ViTModel", encoders.vit),
    "whisper": ("WhisperForConditionalGeneration", encoder_decoders.whisper),
    "xglm": ("XGLMForCausalLM", decoders.xglm),
    "xlm-roberta": ("XLMRobertaModel", encoders.roberta),
}
"""``model_type`` to the architecture that is known by it, and the reader of its fields."""

ALIASES = {
    "gemma3": "gemma3_text",
    "kimi_vl": "deepseek_v3",
    "llama4": "llama4_text",
    "qwen2_5_vl": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen2_vl": "qwen2",
    "qwen2_vl_text": "qwen2",
    "qwen3_5": "qwen3_next",
    "qwen3_5_moe": "qwen3_next",
    "qwen3_5_moe_text": "qwen3_next",
    "qwen3_5_text": "qwen3_next",
    "qwen3_vl": "qwen3",
    "qwen3_vl_moe": "qwen3_moe",
    "qwen3_vl_moe_text": "qwen3_moe",
    "qwen3_vl_text": "qwen3",
}
"""Language models within others, which are written as another family."""

_STATES = "these layers of a state-space model or of linear attention are not modelled"
_TWO_TOWERS = "an encoder and a decoder that looks at it (cross attention) are not modelled"
_VISION = "a vision tower with its own text tower is not modelled"
_INDEXER = "sparse attention, whose indexer chooses the keys of each query, is not modelled"
_GEMMA3N = "alternating updates and embeddings of each layer are not modelled"
_UNLIKE_HEADS = "layers whose heads are others than those of layers with a window are not modelled"

# fmt: off
REFUSED = {
    **dict.fromkeys(
        ("bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "kimi_linear", "lfm2", "lfm2_moe", "mamba",
         "mamba2", "minimax", "minimax_text_01", "plamo2", "recurrent_gemma", "rwkv", "xlstm", "zamba", "zamba2"),
        _STATES,
    ),
    **dict.fromkeys(
        ("bigbird_pegasus", "led", "longt5", "mllama", "moshi",
         "musicgen", "nllb-moe", "prophetnet", "seamless_m4t", "speech_to_text",
         "t5gemma", "trocr", "udop", "umt5"), _TWO_TOWERS,
    ),
    **dict.fromkeys(
        ("align", "altclip", "blip", "blip-2", "clip", "clipseg", "flava", "groupvit", "siglip", "siglip2", "xclip"),
        _VISION,
    ),
    **dict.fromkeys(
        ("deepseek_ref", "deepseek_v4", "glm_moe_dsa", "minimax_m3", "minimax_m3_vl"), _INDEXER,
    ),
    **dict.fromkeys(("gemma3n", "gemma3n_text"), _GEMMA3N),
    **dict.fromkeys(("gemma4", "gemma4_text", "mimo_v2_flash"), _UNLIKE_HEADS),
    "nemotron-nas": "layers of widths of their own, some without attention, are not modelled",
    "albert": "layers that share their weights are not modelled",
    "apertus": "the activation xIELU is not modelled",
    "bitnet": "weights of three values and norms within MLP and attention are not modelled",
    "jetmoe": "experts of attention are not modelled",
    "longcat_flash": "two attentions a layer and experts that compute nothing are not modelled",
}
"""Families that are known and not modelled, and why."""
# fmt: on
