#!/usr/bin/env python3
"""Bring an image to all regions, a share of the traffic at a time, and give the traffic back when it does not do well.

    python deploy/release.py IMAGE@sha256:DIGEST --digest SHA256 --config deploy/production.toml

The new revision starts without traffic, under the tag `candidate`. At the tag's own address it must have the model with
the SHA-256 `--digest`, turn strangers away and answer images. Then it gets 5, 50 and 100 % of the traffic; at each step
the release sends images itself and reads the revision's metrics. The next region begins when the one before stands.
Whatever goes wrong, Ctrl-C and SIGTERM included, every region that was touched gets its traffic back.

The operator's token is read from LESION_TOKEN. Needs Python 3.11 and gcloud, nothing else.
Exit codes: 0 done; 1 failed, and the traffic is where it was, or where someone else put it meanwhile; 2 refused, and
nothing was touched; 3 the traffic must be given back by hand; 130 and 143 interrupted, and the traffic is where it was.
"""

import argparse
import logging
import os
import re
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

from cloudrun import CloudError, Region, Shares, State, Stuck, require_secret, secret_words, show
from probe import Site
from settings import IMAGE, Refusal, Settings

log = logging.getLogger("release")


class Failure(Exception):
    """The new revision did not do well."""


class Intervened(Exception):
    """Someone else changed the traffic meanwhile; they know why, so nothing is undone."""


class Interrupted(Exception):
    """A signal asked to stop."""


class Stop:
    """Whether a signal asked to stop; looked at between commands, so that none is cut off in the middle."""

    def __init__(self) -> None:
        self.signal = 0
        self._event = Event()
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self._note)

    def wait(self, seconds: float = 0) -> None:
        """Wait; Interrupted as soon as a signal came."""
        if self._event.wait(seconds):
            raise Interrupted(f"interrupted by {signal.Signals(self.signal).name}")

    def _note(self, number: int, frame: Any) -> None:
        self.signal = number
        self._event.set()


class Release:
    """One release: what is brought where, and how the traffic was before."""

    def __init__(self, settings: Settings, image: str, digest: str, token: str) -> None:
        self.settings, self.image, self.digest, self.token = settings, image, digest, token
        self.revision = name_revision(settings)
        self.stop = Stop()
        self.before: dict[Region, Shares] = {}

    def run(self) -> int:
        """Do it; the exit code. Raises Refusal before anything was touched, Stuck when the way back is blocked."""
        regions = [Region(self.settings, name) for name in self.settings.regions]
        require_secret(self.settings)
        before = {region: require_whole(region) for region in regions}
        try:
            for region, shares in before.items():
                self.stop.wait()
                self.before[region] = shares
                self.bring_up(region, shares)
        except Intervened as error:
            log.error("%s: stopped, nothing is undone", error)
            return 1
        except Exception as error:  # of whatever kind: the traffic goes back first
            log.error("%s", error, exc_info=not isinstance(error, Failure | CloudError | Interrupted))
            self.give_back()
            return 128 + self.stop.signal if isinstance(error, Interrupted) else 1
        return 0

    def bring_up(self, region: Region, before: Shares) -> None:
        """Take a region from its traffic `before` to the new revision alone."""
        log.info("%s: starting %s without traffic", region.name, self.revision)
        region.replace(self.image, self.revision, before)
        current = before or {self.revision: 100}
        state = require_shares(region, current)
        if self.revision not in state.tagged:
            raise Failure(f"{region.name}: {self.revision} has no address of its own")
        site = self.open_site(state.tagged[self.revision])
        self.smoke(region, site)
        for percent in self.settings.watch.steps if before else (100,):
            self.stop.wait()
            shares = split(before, self.revision, percent)
            require_shares(region, current)
            region.shift(shares)
            current = shares
            log.info("%s: %s has %d %% of the traffic", region.name, self.revision, percent)
            self.watch(region, site)
        self.confirm(region, self.open_site(state.url))

    def open_site(self, url: str) -> Site:
        """The server at an address, expected to have the new model."""
        return Site(url, self.token, self.digest, self.settings.watch.latency_s)

    def smoke(self, region: Region, site: Site) -> None:
        """Failure unless the server has the model within `smoke_s` and then does everything right, three times."""
        end = monotonic() + self.settings.watch.smoke_s
        while (problem := site.check_model()) and not site.reached and monotonic() < end:
            self.stop.wait(1)
        for _ in range(3):
            if problem := problem or site.check_strangers() or site.ask() or site.read_metrics():
                raise Failure(f"{region.name}: {site.url}: {problem}")

    def confirm(self, region: Region, site: Site) -> None:
        """Failure unless the service itself tells the new model within `smoke_s`: traffic takes a while to move."""
        end = monotonic() + self.settings.watch.smoke_s
        while problem := site.check_model():
            if monotonic() > end:
                raise Failure(f"{region.name}: {site.url}: {problem}")
            self.stop.wait(1)

    def watch(self, region: Region, site: Site) -> None:
        """Send images for one step; Failure as soon as too many of them, or of anyone's, are answered badly."""
        how, bad, problem = self.settings.watch, 0, ""
        planned = max(1, round(how.seconds / how.every_s))
        for sent in range(1, planned + 1):
            self.stop.wait(how.every_s)
            if said := site.ask() or site.read_metrics():
                problem, bad = said, bad + 1
            # A step is lost when the rest of it cannot save it any more; nobody waits for its end.
            if bad > how.bad * planned:
                raise Failure(f"{region.name}: {bad} of {sent} images were answered badly: {problem}")
            if site.failed > how.bad * max(planned, site.served):
                raise Failure(
                    f"{region.name}: {site.failed} of {site.served} requests to an instance were answered 5xx"
                )
        log.info("%s: %d images, %d answered badly", region.name, planned, bad)

    def give_back(self) -> None:
        """Return the traffic of every region that was touched; Stuck when that fails somewhere."""
        stuck = []
        for region, shares in self.before.items():
            if not shares:
                log.error("%s: there is no earlier revision to go back to", region.name)
                continue
            try:
                region.give_back(shares)
                log.info("%s: the traffic is back at %s", region.name, ", ".join(shares))
            except Stuck as error:
                stuck.append(str(error))
        if stuck:
            raise Stuck("\n".join(stuck))


def name_revision(settings: Settings) -> str:
    """A name that no revision has had."""
    return f"{settings.service}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def split(before: Shares, revision: str, percent: int) -> Shares:
    """The traffic when `revision` gets so many per cent, and the one before it the rest."""
    return {**dict.fromkeys(before, 100 - percent), revision: percent}


def require_whole(region: Region) -> Shares:
    """The traffic of a region, {} where nobody is served yet; Refusal when it is split, or cannot be seen."""
    try:
        state = region.read()
    except CloudError as error:
        raise Refusal(str(error)) from error
    if state and list(state.shares.values()) not in ([], [100]):
        raise Refusal(
            f"{region.name}: the traffic is split, {state.shares}: another release may be under way; if none is, "
            f"choose one: {show(region.shift_words({'REVISION': 100}))}"
        )
    return state.shares if state else {}


def require_shares(region: Region, expected: Shares) -> State:
    """The state; Intervened unless the traffic is as this release left it."""
    state = region.read()
    if state is None or state.shares != expected:
        raise Intervened(f"{region.name}: the traffic is {state and state.shares}, {dict(expected)} expected")
    return state


def print_plan(settings: Settings, image: str) -> None:
    """The commands of a release that goes well, for a shell; REVISION stands for the one that has the traffic."""
    revision, before = name_revision(settings), {"REVISION": 100}
    lines = [show(secret_words(settings)), *(show(Region(settings, name).list_words()) for name in settings.regions)]
    for region in (Region(settings, name) for name in settings.regions):
        text = region.render(image, revision, before)
        lines.append(f"{show(region.words('replace', '-'))} <<'YAML'\n{text}YAML")
        lines += [show(region.shift_words(split(before, revision, each))) for each in settings.watch.steps]
    sys.stdout.write("\n".join(lines) + "\n")


def main(words: list[str]) -> int:
    """Run with these words; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", help="REGISTRY/NAME@sha256:DIGEST")
    parser.add_argument("--digest", required=True, help="SHA-256 of the model file that the image must serve")
    parser.add_argument("--config", required=True, type=Path, help="deploy/production.toml or deploy/staging.toml")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run none")
    asked = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        settings = Settings.read(asked.config)
        check(settings, asked.image, asked.digest)
        if asked.dry_run:
            print_plan(settings, asked.image)
            return 0
        token = os.environ.get("LESION_TOKEN", "").strip()
        if not token:
            raise Refusal("LESION_TOKEN is not set: without a token of the service nothing can be asked of it")
        release = Release(settings, asked.image, asked.digest.lower(), token)
        code = release.run()
    except Refusal as error:
        log.error("refused: %s", error)
        return 2
    except Stuck as error:
        log.critical("%s", error)
        return 3
    if code == 0:
        sys.stdout.write(f"{release.revision} has all traffic in {', '.join(settings.regions)}\n")
    return code


def check(settings: Settings, image: str, digest: str) -> None:
    """Refusal for what must not be released."""
    if not settings.tokens:
        raise Refusal("tokens: the service can be reached by anyone, and no secret with tokens is named")
    if not IMAGE.fullmatch(image):
        raise Refusal(f"{image}: name the image by its digest, NAME@sha256:…; a tag may mean another one tomorrow")
    if not re.fullmatch("[0-9a-fA-F]{64}", digest):
        raise Refusal(f"--digest: {digest} is no SHA-256")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
