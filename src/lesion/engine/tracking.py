"""Where metrics go: a CSV in the run folder always, W&B when asked. The only file that knows W&B."""

from dataclasses import asdict
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger

from lesion.config.schema import Config
from lesion.run import Run


def open_loggers(config: Config, run: Run) -> list[Logger]:
    """Lightning loggers for a run."""
    loggers: list[Logger] = [CSVLogger(save_dir=run.path, name="", version="metrics")]
    if config.tracking.wandb != "disabled":
        loggers.append(_open_wandb(config, run))
    return loggers


def close_loggers(config: Config) -> None:
    """Let W&B finish its upload or its offline file."""
    if config.tracking.wandb != "disabled":
        import wandb

        wandb.finish()


def _open_wandb(config: Config, run: Run) -> Logger:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    settings: dict[str, Any] = {
        "settings": wandb.Settings(silent=True, x_disable_meta=True, save_code=False, console="off"),
    }
    return WandbLogger(
        name=run.path.name,
        project=config.tracking.project,
        save_dir=str(run.path),
        mode=config.tracking.wandb,
        config=asdict(config),
        log_model=False,
        **settings,
    )
