"""A small Cloud Run behind the command line of `gcloud`: the verbs that a release uses, their flags, and nothing else.

Revisions are real servers of lesion, started with the arguments of the service file. What is known lies in state.json
of the folder FAKE_CLOUD; `front.py` sends requests where it says.
"""

import argparse
import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

FOLDER = Path(os.environ["FAKE_CLOUD"])
State = dict[str, Any]


def main(words: list[str]) -> None:
    verb = " ".join(words[: 4 if words[0] == "secrets" else 3])
    known = {
        "run services list": list_services,
        "run services replace": replace,
        "run services update-traffic": update_traffic,
        "secrets versions describe latest": describe_secret,
    }
    parser = argparse.ArgumentParser(prog=f"gcloud {verb}", allow_abbrev=False)
    parser.add_argument("--quiet", action="store_true", required=True)
    parser.add_argument("--project", required=True)
    if verb not in known:
        parser.error("Invalid choice")
    known[verb](parser, words[len(verb.split()) :])


def list_services(parser: argparse.ArgumentParser, words: list[str]) -> None:
    parser.add_argument("--region", required=True)
    parser.add_argument("--filter", required=True)
    parser.add_argument("--format", choices=["json"], required=True)
    asked = parser.parse_args(words)
    with change("list", asked) as state:
        service = state["services"].get(asked.region)
        if sum(verb == "list" for verb, *_ in state["journal"]) == state.get("garbled_list"):
            sys.stdout.write("<html>")
            return
        key, _, value = asked.filter.partition("=")
        assert key == "metadata.name"
        sys.stdout.write(json.dumps([service] if service and service["metadata"]["name"] == value else []))


def replace(parser: argparse.ArgumentParser, words: list[str]) -> None:
    import yaml

    parser.add_argument("--region", required=True)
    parser.add_argument("file", choices=["-"])
    asked = parser.parse_args(words)
    service = yaml.safe_load(sys.stdin)
    with change("replace", asked) as state:
        template = service["spec"]["template"]
        name, revisions = template["metadata"]["name"], state["revisions"].setdefault(asked.region, {})
        if not name.startswith(f"{service['metadata']['name']}-") or name in revisions:
            fail(f"the revision name {name} cannot be used")
        app = next(each for each in template["spec"]["containers"] if "ports" in each)
        mounted = {each["secret"]["secretName"] for each in template["spec"]["volumes"]}
        if missing := mounted - state["secrets"].keys():
            fail(f"secrets not found: {missing}")
        if app["image"] not in state["images"]:
            fail(f"Image '{app['image']}' not found.")
    server = find_server(state, app)  # may take long, so nothing is held meanwhile
    with change(None, asked) as state:
        state["revisions"].setdefault(asked.region, {})[name] = {"image": app["image"], "url": server}
        settle(state, asked.region, service, service["spec"]["traffic"])


def update_traffic(parser: argparse.ArgumentParser, words: list[str]) -> None:
    parser.add_argument("--region", required=True)
    parser.add_argument("service")
    parser.add_argument("--to-revisions", required=True)
    parser.add_argument("--remove-tags")
    asked = parser.parse_args(words)
    with change("update-traffic", asked) as state:
        service = state["services"].get(asked.region) or fail(f"Cannot find service [{asked.service}]")
        tags = [target for target in service["status"]["traffic"] if target.get("tag") not in (None, asked.remove_tags)]
        targets = [{"revisionName": each["revisionName"], "tag": each["tag"]} for each in tags]
        for pair in asked.to_revisions.split(","):
            revision, _, percent = pair.partition("=")
            targets.append({"revisionName": revision, "percent": int(percent)})
        settle(state, asked.region, service, targets)


def describe_secret(parser: argparse.ArgumentParser, words: list[str]) -> None:
    parser.add_argument("--secret", required=True)
    parser.add_argument("--format", choices=["value(state)"], required=True)
    asked = parser.parse_args(words)
    with change("secret", asked) as state:
        sys.stdout.write(state["secrets"].get(asked.secret) or fail(f"NOT_FOUND: Secret [{asked.secret}] not found"))


def settle(state: State, region: str, service: State, targets: list[State]) -> None:
    """Give a service this traffic, if it is one."""
    known = state["revisions"][region]
    if unknown := {target["revisionName"] for target in targets} - known.keys():
        fail(f"Revision {unknown} was not found")
    if sum(target.get("percent", 0) for target in targets) != 100:
        fail("The sum of traffic percentages must equal 100")
    url = f"{state['front']}/{region}"
    for target in targets:
        if "tag" in target:
            target["url"] = f"{url}/{target['tag']}"
    state["services"][region] = {**service, "status": {"url": f"{url}/service", "traffic": targets}}


@contextmanager
def change(verb: str | None, asked: argparse.Namespace) -> Iterator[State]:
    """The state, to be read and changed by one command at a time."""
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = json.loads((FOLDER / "state.json").read_text("utf-8"))
        if asked.project != state["project"]:
            fail(f"Permission denied on project {asked.project}")
        if verb:
            state["journal"].append([verb, getattr(asked, "region", ""), getattr(asked, "to_revisions", "")])
        broken = state["broken"].get(verb, 0)
        state["broken"][verb] = max(0, broken - 1)
        try:
            if not broken:
                yield state
        finally:
            (FOLDER / "state.new").write_text(json.dumps(state), "utf-8")
            (FOLDER / "state.new").replace(FOLDER / "state.json")
        if broken:
            fail("UNAVAILABLE: the service is currently unavailable")


def find_server(state: State, app: State) -> str:
    """The address of a server that runs this container; one serves all revisions of the same image."""
    import urllib.error
    import urllib.request

    pool = Path(state["pool"])
    words = [word.replace("/model/model.onnx", state["images"][app["image"]]["model"]) for word in app["args"]]
    note = pool / f"{re.sub('[^a-z0-9]', '', app['image'])[-64:]}.json"
    if not note.exists():
        note.write_text(json.dumps(start(words, state, note.with_suffix(".log"))), "utf-8")
    url = str(json.loads(note.read_text("utf-8"))["url"])
    probe = url + app["startupProbe"]["httpGet"]["path"]
    try:
        urllib.request.urlopen(probe, timeout=30).close()
    except urllib.error.URLError as error:
        fail(f"The user-provided container failed the configured startup probe checks: {error}")
    return url


def start(words: list[str], state: State, log: Path) -> dict[str, Any]:
    import subprocess

    here = ["--host", "127.0.0.1", "--port", "0", f"serve.tokens={state['tokens']}", "serve.rate=0"]
    command = [sys.executable, "-m", "lesion", "serve", *words, *here]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"http://[\d.:]+", log.read_text("utf-8")):
            return {"url": found[0], "pid": process.pid}
        time.sleep(0.05)
    sys.exit(f"ERROR: (gcloud) The user-provided container failed to start and listen: {log.read_text('utf-8')}")


def fail(reason: str) -> NoReturn:
    sys.exit(f"ERROR: (gcloud) {reason}")


if __name__ == "__main__":
    main(sys.argv[1:])
