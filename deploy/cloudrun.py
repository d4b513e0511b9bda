"""Cloud Run in one region: the few gcloud commands that a release needs."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from time import sleep
from typing import Any

from settings import Refusal, Settings

TAG = "candidate"
PATIENCE_S = 900  # for one command; a new revision may take minutes to start
TRIES, PAUSE_S = 4, 2.0  # to give the traffic back
Shares = Mapping[str, int]
"""Traffic in per cent, by revision."""


class CloudError(Exception):
    """A command failed."""


class Stuck(Exception):
    """The traffic could not be given back."""


@dataclass(frozen=True, slots=True)
class State:
    """A service as it is: its address, its traffic, and the addresses of its tagged revisions."""

    url: str
    shares: dict[str, int]
    tagged: dict[str, str]


@dataclass(frozen=True, slots=True)
class Region:
    """The service in one region."""

    settings: Settings
    name: str

    def words(self, verb: str, *more: str) -> list[str]:
        """The words of `gcloud run services VERB`."""
        return ["run", "services", verb, *more, f"--region={self.name}", f"--project={self.settings.project}"]

    def list_words(self) -> list[str]:
        """The command that tells the state; unlike `describe`, it does not fail where there is no service yet."""
        return self.words("list", f"--filter=metadata.name={self.settings.service}", "--format=json")

    def shift_words(self, shares: Shares, *more: str) -> list[str]:
        """The command that splits the traffic."""
        split = ",".join(f"{revision}={percent}" for revision, percent in shares.items() if percent)
        return self.words("update-traffic", self.settings.service, f"--to-revisions={split}", *more)

    def read(self) -> State | None:
        """The state; None where there is no service yet. Raises CloudError."""
        found = [each for each in json.loads(call(self.list_words()) or "[]") if _name(each) == self.settings.service]
        if not found:
            return None
        status = found[0].get("status", {})
        shares: dict[str, int] = {}
        for target in status.get("traffic", []):
            if target.get("percent"):
                shares[target["revisionName"]] = shares.get(target["revisionName"], 0) + target["percent"]
        tagged = {each["revisionName"]: each["url"] for each in status.get("traffic", []) if each.get("tag") == TAG}
        return State(status.get("url", ""), shares, tagged)

    def replace(self, image: str, revision: str, shares: Shares) -> None:
        """Start a new revision under the tag; `shares`, or without any the new one, keep the traffic."""
        call(self.words("replace", "-"), self.render(image, revision, shares))

    def render(self, image: str, revision: str, shares: Shares) -> str:
        """The service file: the traffic as it is, and the new revision under the tag."""
        targets = [{"revisionName": name, "percent": percent} for name, percent in (shares or {revision: 100}).items()]
        return self.settings.render(image, revision, [*targets, {"revisionName": revision, "tag": TAG}])

    def shift(self, shares: Shares) -> None:
        """Split the traffic. Raises CloudError."""
        call(self.shift_words(shares))

    def give_back(self, shares: Shares) -> None:
        """Return the traffic to `shares` and take the tag away; Stuck, with what to do by hand, if that cannot be."""
        words = self.shift_words(shares, f"--remove-tags={TAG}")
        for attempt in range(TRIES):
            try:
                call(words)
                state = self.read()
                if state and state.shares == dict(shares):
                    return
                problem = f"the traffic is {state and state.shares}"
            except CloudError as error:
                problem = str(error)
            sleep(PAUSE_S * attempt)
        raise Stuck(f"{self.name}: the traffic was not given back: {problem}\nby hand: {show(words)}")


def require_secret(settings: Settings) -> None:
    """Refusal unless the secret with the tokens has a version that is enabled."""
    try:
        state = call(secret_words(settings)).strip().lower()
    except CloudError as error:
        raise Refusal(f"tokens: the secret {settings.tokens} cannot be seen: {error}") from error
    if state != "enabled":
        raise Refusal(f"tokens: the latest version of the secret {settings.tokens} is {state or 'not there'}")


def secret_words(settings: Settings) -> list[str]:
    """The command that tells whether there are tokens; it does not read them."""
    where = [f"--secret={settings.tokens}", f"--project={settings.project}"]
    return ["secrets", "versions", "describe", "latest", *where, "--format=value(state)"]


def call(words: list[str], text: str = "") -> str:
    """What `gcloud` says to these words and `text` on its stdin; CloudError with its reason when it fails.

    It runs in a session of its own: Ctrl-C must not cut it off between asking and being told.
    """
    program = shutil.which("gcloud")
    if program is None:
        raise CloudError("gcloud is not on PATH")
    try:
        done = subprocess.run(
            [program, *words, "--quiet"], input=text, capture_output=True, text=True, timeout=PATIENCE_S,
            start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CloudError(f"{show(words)}: {error}") from error
    if done.returncode:
        raise CloudError(f"{show(words)}: {done.stderr.strip()[-1000:] or f'exit code {done.returncode}'}")
    return done.stdout


def show(words: list[str]) -> str:
    """The command as it is typed."""
    return shlex.join(["gcloud", *words])


def _name(service: dict[str, Any]) -> str:
    return str(service.get("metadata", {}).get("name"))
