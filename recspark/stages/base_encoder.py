"""Where the encoder that a night starts from lies."""

from pathlib import Path

from recspark.errors import UserError
from recspark.lake import Lake
from recspark.models.encoder import PRETRAINED, EncoderConfig


def base_encoder(lake: Lake, encoder: EncoderConfig) -> EncoderConfig:
    """The settings with a path that holds in every process: absolute, a URI, or a hub name.

    Raises UserError if the lake's own pre-trained model is meant, and there is none of this run date or before.
    """
    if encoder.path != PRETRAINED:
        path = str(Path(encoder.path).absolute()) if Path(encoder.path).is_dir() else encoder.path
        return encoder.model_copy(update={"path": path})
    dates = [date for date in lake.model_dates("pretrained") if date <= lake.run_date]
    if not dates:
        raise UserError(
            f"encoder.path is not set, and the lake {lake.root} has no model pretrained of run date {lake.run_date} or before; "
            "run the stage pretrain, or set encoder.path to a transformers model directory"
        )
    path, _ = lake.read_model("pretrained", dates[-1])
    return encoder.model_copy(update={"path": path})
