"""The mirror of a run at Weights & Biases, when asked for. The only file that knows W&B.

One thread of its own does all that touches W&B, in order; training only puts into its queue. So a slow, sick or
absent W&B neither delays nor stops a training, and what could not be sent waits beside the run for `wandb sync`.
"""

import logging
import os
import re
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict
from http.client import HTTPException
from pathlib import Path, PurePosixPath, PureWindowsPath
from queue import SimpleQueue
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lesion.artifact import Artifact
from lesion.config.schema import Config
from lesion.errors import brief
from lesion.extras import need
from lesion.redaction import redact
from lesion.run import Run

log = logging.getLogger(__name__)

PROBE_S = 2.0  # for an answer of the W&B host, name lookup included
INIT_S = 15.0  # for a host that answered, to accept a run
UPLOAD_S = 60.0  # at the end of a run
REGISTRY = "wandb-registry-model"  # the registry for models that every W&B organisation has
PRIVATE = ("runs", "serve", "tracking")  # parts of the configuration that say where, not what was trained
SECRET = re.compile("token|key|secret|passw|credential|auth", re.IGNORECASE)
USER = re.compile(r"(?<=://)[^/?#\s@]*@")  # the name of a person
STEP = "trainer/global_step"

Task = Callable[[Any], None]


def open_mirror(config: Config, run: Run) -> "Mirror | None":
    """The mirror of `run`; None unless `tracking.wandb` asks for one, and in all processes of a training but one.

    Returns at once. Raises MissingExtra when W&B is not installed; whatever else goes wrong is a warning in the log.
    """
    if config.tracking.wandb == "disabled" or rank_zero_only.rank:  # type: ignore[attr-defined]
        return None
    need("train", "wandb")
    return Mirror(config, run)


class Mirror:
    """A run at W&B: online, or offline beside the run when the host or the credentials are missing."""

    def __init__(self, config: Config, run: Run) -> None:
        self.logger: Logger = MirrorLogger(config.tracking.project, run.path.name, self._put)
        self._config = config
        self._run = run
        self._written = run.path / "wandb" / "*run-*"
        self._collection = re.sub(r"[^\w.-]", "-", f"{config.tracking.project}-{config.model.tier}", flags=re.ASCII)
        self._online = False
        self._failed = False
        self._warned = False
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="wandb mirror", daemon=True)
        self._thread.start()

    def log_model(self, path: Path, metrics: Mapping[str, float | None]) -> None:
        """Log the model file at `path` as the run's best model and, online, link it to the registry."""
        self._put(lambda run: self._send_model(run, path, metrics))

    def finish(self, failed: bool = False) -> None:
        """Wait until W&B has everything, at most UPLOAD_S seconds; mark the run there as failed or not."""
        self._failed = failed
        self._tasks.put(None)
        self._thread.join(UPLOAD_S)
        if self._thread.is_alive():
            self._warn(f"W&B did not take everything within {UPLOAD_S:.0f} s")

    def _put(self, task: Task) -> None:
        self._tasks.put(task)

    def _work(self) -> None:
        try:
            run = self._open()
        except Exception as error:  # a mirror is never a reason not to train
            log.warning("W&B cannot be used, nothing is mirrored to it: %s", redact(brief(error)))
            return
        for task in iter(self._tasks.get, None):
            self._try(task, run)
        self._try(lambda run: run.finish(exit_code=int(self._failed)), run)

    def _try(self, task: Task, run: Any) -> None:
        try:
            task(run)
        except Exception as error:
            self._warn(f"W&B did not take everything: {redact(brief(error))}")

    def _warn(self, said: str) -> None:
        if not self._warned:
            log.warning("%s; the run's own records are complete%s", said, self._hint())
        self._warned = True

    def _open(self) -> Any:
        # W&B takes this switch from the environment alone. Its reports of errors hold messages and stack traces, and
        # at exit they wait for a host that may not answer.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        session = wandb.setup(wandb.Settings(silent=True)).settings
        if self._config.tracking.wandb == "offline":
            run = self._init("offline")
            log.info("W&B is offline%s", self._hint())
            return run
        problem = _find_problem(session)
        if not problem:
            try:
                self._online = True
                return self._init("online")
            except Exception as error:
                self._online = False
                problem = f"W&B did not accept the run ({redact(brief(error))})"
        run = self._init("offline")
        log.warning("%s: the run is mirrored into its folder instead%s", problem, self._hint())
        return run

    def _init(self, mode: str) -> Any:
        """A W&B run that knows nothing of this machine: no program, arguments, packages, repository or host name."""
        import wandb

        settings: dict[str, Any] = {
            "silent": True,
            "console": "off",
            "reinit": "create_new",  # a notebook may have a run of its own
            "x_disable_meta": True,
            "x_disable_machine_info": True,
            "x_disable_stats": True,  # `engine.system` measures; this one also asks a cloud's metadata service
            "x_save_requirements": False,  # package URLs may hold passwords, and so may a git remote
            "disable_git": True,
            "save_code": False,
            "disable_code": True,
            "host": "-",
            "program": "-",
            "x_executable": "-",
            "init_timeout": INIT_S,
            "finish_timeout": UPLOAD_S - INIT_S,
            "finish_timeout_raises": True,
        }
        run = wandb.init(
            project=self._config.tracking.project,
            name=self._run.path.name,
            dir=str(self._run.path),
            mode=mode,  # type: ignore[arg-type]
            config=to_hyperparameters(self._config),
            settings=wandb.Settings(**settings),
        )
        self._written = self._run.path / "wandb" / Path(run.settings.sync_dir).name
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        return run

    def _hint(self) -> str:
        return f"; upload it later with `wandb sync {self._written}`"

    def _send_model(self, run: Any, path: Path, metrics: Mapping[str, float | None]) -> None:
        import wandb

        model = Artifact.read(path)
        target = f"{REGISTRY}/{self._collection}"
        facts = {
            "sha256": model.digest,
            "model": model.identity,
            "metrics": dict(metrics),
            "provenance": model.manifest.provenance,
            "registry": target,
        }
        artifact = wandb.Artifact(self._collection, type="model", metadata=to_public(facts))
        artifact.add_file(str(path), name="model.onnx")
        run.log_artifact(artifact, aliases=["best"])
        if not self._online:  # W&B links only what it has; the metadata say where to
            return
        try:
            run.link_artifact(artifact, target)
        except Exception as error:
            log.warning("the model is at W&B, but not linked to %s: %s", target, redact(brief(error)))


class MirrorLogger(Logger):
    """Lightning's metrics, handed on to the mirror."""

    def __init__(self, project: str, run: str, put: Callable[[Task], None]) -> None:
        super().__init__()
        self._project = project
        self._run = run
        self._put = put

    @property
    def name(self) -> str:
        """The W&B project."""
        return self._project

    @property
    def version(self) -> str:
        """The name of the run."""
        return self._run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Queue `metrics` of a global step."""
        row = dict(metrics) if step is None else {**metrics, STEP: step}
        self._put(lambda run: run.log(row))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration was given, redacted, when the run was opened."""


def to_hyperparameters(config: Config) -> dict[str, Any]:
    """What W&B may know of the configuration: no addresses, no secrets, no absolute paths."""
    return {key: to_public(value, key) for key, value in asdict(config).items() if key not in PRIVATE}


def to_public(value: Any, key: str = "") -> Any:
    """`value` without values of secret-sounding keys, users and passwords in URLs, and parents of absolute paths."""
    if isinstance(value, Mapping):
        return {str(name): to_public(inner, str(name)) for name, inner in value.items()}
    if value is not None and SECRET.search(key):
        return "***"
    if isinstance(value, list | tuple):
        return [to_public(inner, key) for inner in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute():
                return kind(value).name
        return USER.sub("", redact(value))
    return value


def _find_problem(session: Any) -> str:
    """Why a run cannot be online, or nothing. Asked before W&B is: its own attempt takes 90 s."""
    import wandb

    if session.mode in ("offline", "dryrun", "disabled"):
        return f"W&B is told to be {session.mode} (WANDB_MODE)"
    host = urlsplit(session.base_url).hostname
    try:
        if not wandb.login(prompt=False, verify=False):
            return f"there is no API key for W&B ({host}; `wandb login` stores one)"
    except Exception as error:
        return f"the API key for W&B cannot be used ({redact(brief(error))})"
    own = {"http": session.http_proxy, "https": session.https_proxy}
    proxies = {**urllib.request.getproxies(), **{scheme: proxy for scheme, proxy in own.items() if proxy}}
    return "" if answers(redact(session.base_url), proxies) else f"W&B ({host}) did not answer within {PROBE_S:.0f} s"


def answers(url: str, proxies: Mapping[str, str]) -> bool:
    """Whether an HTTP server at `url` answers within PROBE_S seconds, and not with an error of its own."""
    found: list[bool] = []

    def ask() -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler(dict(proxies)))
        try:
            opener.open(f"{url}/healthz", timeout=PROBE_S).close()
            found.append(True)
        except HTTPError as error:
            found.append(error.code < 500 and error.code != 407)  # 407: a proxy lets nobody through
            error.close()
        except URLError as error:  # W&B brings certificates of its own
            found.append(isinstance(error.reason, ssl.SSLCertVerificationError))
        except (OSError, ValueError, HTTPException):
            found.append(False)

    # A timeout of the socket does not cover the lookup of the name.
    thread = Thread(target=ask, name="wandb probe", daemon=True)
    thread.start()
    thread.join(PROBE_S)
    return found == [True]
