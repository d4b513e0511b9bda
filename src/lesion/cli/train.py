"""`lesion train`."""

from typing import Annotated

import typer

from lesion.cli.options import Environment, Files, Json, Overrides


def train(
    overrides: Overrides = None,
    tier: Annotated[
        str | None, typer.Option(help="baseline (default), resnet or efficientnet: configs/tier/.", show_default=False)
    ] = None,
    subsample: Annotated[
        float | None, typer.Option(help="Share of the training lesions, in (0, 1].", show_default=False)
    ] = None,
    config: Files = None,
    env: Environment = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the merged configuration, stop.")] = False,
    as_json: Json = False,
) -> None:
    """Train a classifier and export its best weights to a model file.

    Example: lesion train --tier baseline --subsample 0.1 trainer.epochs=10
    """
    from lesion.cli.settings import merge_with_tier

    settings = merge_with_tier(overrides, config, env, {"data.subsample": subsample}, tier)
    if print_config:
        from lesion.config.load import to_yaml

        print(to_yaml(settings), end="")
        return
    from lesion.cli.render import Bars, show
    from lesion.extras import need

    need("train", "torch", "torchvision", "lightning", "torchmetrics", "onnx", "onnxscript")
    from lesion.engine import train as engine

    show(engine.train(settings, Bars()), as_json)
