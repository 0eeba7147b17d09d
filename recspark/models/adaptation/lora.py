"""Low-rank updates."""

from typing import Literal

from pydantic import Field
from transformers.pytorch_utils import Conv1D

from recspark.config import Settings
from recspark.errors import UserError
from recspark.models.adaptation.layers import layer_stack, linear_maps, top_layers
from recspark.models.encoder import TextEncoder

# Attention whole, as the recipe that was measured has it; peft's own for BERT are query and value alone.
ATTENTION = {"bert": ("query", "key", "value", "attention.output.dense")}


class Lora(Settings):
    """Low-rank updates of linear maps (Hu et al. 2022), by the peft library; merged into the weights for inference."""

    kind: Literal["lora"] = "lora"
    learning_rate: float = Field(2e-3, gt=0, description="peak, of the encoder")
    rank: int = Field(8, ge=1, description="of an update")
    alpha: int = Field(16, gt=0, description="updates are scaled by alpha / rank")
    targets: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="ends of the names of the linear maps; if not set, attention's of BERT, and peft's for other kinds of model",
    )
    layers: int | None = Field(None, ge=1, description="how many layers from the top have updates; all if not set")

    def apply(self, encoder: TextEncoder) -> None:
        """Raises UserError, with the names there are, if the targets match no linear map, or none are set and peft knows none."""
        from peft import LoraConfig, get_peft_model

        chosen = self.chosen(encoder)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=chosen,
            lora_dropout=0.0,
            fan_in_fan_out=isinstance(encoder.backbone.get_submodule(chosen[0]), Conv1D),
        )
        encoder.backbone = get_peft_model(encoder.backbone, config)

    def chosen(self, encoder: TextEncoder) -> list[str]:
        """Names of the linear maps that get updates."""
        from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as BY_MODEL

        # A pooler is read by no pooling here: it would never get a gradient, and ranks would wait for one.
        linear = {n: m for n, m in linear_maps(encoder.backbone).items() if not n.startswith("pooler.")}
        kind = encoder.backbone.config.model_type
        ends = sorted({name.rpartition(".")[2] for name in linear})
        targets = self.targets or ATTENTION.get(kind) or BY_MODEL.get(kind)
        if not targets:
            raise UserError(f"finetune.adaptation.targets: peft has none for {kind}; set some; names end in {ends}")
        chosen = [name for name in linear if any(name == t or name.endswith(f".{t}") for t in targets)]
        if self.layers:
            stack = layer_stack(encoder.backbone)
            top = {id(m) for number in top_layers(encoder.backbone, self.layers) for m in stack[number].modules()}
            chosen = [name for name in chosen if id(linear[name]) in top]
        if not chosen:
            raise UserError(f"finetune.adaptation.targets {list(targets)} match no linear map; names end in {ends}")
        return chosen

    def merge(self, encoder: TextEncoder) -> None:
        encoder.backbone = encoder.backbone.merge_and_unload()
