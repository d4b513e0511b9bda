#!/usr/bin/env python3
"""Make what a release stands on, piece by piece, each only where it is missing.

    python deploy/foundation.py base --config deploy/production.toml     accounts, buckets, secrets, keys, registry
    python deploy/foundation.py edge --config deploy/production.toml     the load balancer over the regions
    python deploy/foundation.py alerts --config deploy/production.toml   the alerting policies

`--dry-run` prints the commands and runs none. What is there already is left as it is. Needs Python 3.11 and gcloud.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cloudrun import CloudError, call, show
from settings import HERE, Refusal, Settings

log = logging.getLogger("foundation")
APIS = (
    "run", "cloudbuild", "artifactregistry", "secretmanager", "cloudkms", "ondemandscanning", "compute", "aiplatform",
    "monitoring", "iamcredentials", "sts",
)  # fmt: skip
ISSUER = "https://token.actions.githubusercontent.com"


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that must be there: `make` makes it, unless `look` succeeds and says `seen`."""

    make: list[str]
    look: list[str] | None = None
    seen: str = ""
    text: str = ""
    """What `make` reads from stdin."""


def base(settings: Settings, number: str) -> Iterator[Piece]:
    """The project itself; `number` is its number."""
    project, service = settings.project, settings.service
    yield Piece(["services", "enable", *(f"{api}.googleapis.com" for api in APIS)])
    where = ["--location=europe"]
    yield _named(["artifacts", "repositories"], service, where, ["--repository-format=docker", "--immutable-tags"])
    for name in ("data", "models"):
        bucket = f"gs://{project}-{name}"
        private = ["--location=EU", "--uniform-bucket-level-access", "--public-access-prevention"]
        yield _named(["storage", "buckets"], bucket, [], private)
        yield Piece(["storage", "buckets", "update", bucket, "--versioning"])
    for name in ("serve", "train", "build", "github"):
        look = ["iam", "service-accounts", "describe", _account(settings, name)]
        yield Piece(["iam", "service-accounts", "create", f"{service}-{name}"], look)
    for secret in (settings.tokens, f"{service}-operator", f"{service}-collector"):
        yield _named(["secrets"], secret, [], ["--replication-policy=automatic"])
    ring = ["--location=global"]
    yield _named(["kms", "keyrings"], service, ring, [])
    signing = ["--purpose=asymmetric-signing", "--default-algorithm=ec-sign-p256-sha256"]
    yield _named(["kms", "keys"], "images", [*ring, f"--keyring={service}"], signing)
    yield from _trust(settings, number)
    yield from _roles(settings)


def _trust(settings: Settings, number: str) -> Iterator[Piece]:
    """Workload Identity Federation: workflows of one branch of one repository act as SERVICE-github, without a key."""
    pool = ["--location=global"]
    yield _named(["iam", "workload-identity-pools"], "github", pool, [])
    condition = f"assertion.repository=='{settings.repository}' && assertion.ref=='refs/heads/{settings.branch}'"
    mapping = "google.subject=assertion.sub,attribute.repository=assertion.repository"
    more = [f"--issuer-uri={ISSUER}", f"--attribute-mapping={mapping}", f"--attribute-condition={condition}"]
    where = [*pool, "--workload-identity-pool=github"]
    look = ["iam", "workload-identity-pools", "providers", "describe", "github", *where]
    yield Piece(["iam", "workload-identity-pools", "providers", "create-oidc", "github", *where, *more], look)
    member = (
        f"projects/{number}/locations/global/workloadIdentityPools/github/attribute.repository/{settings.repository}"
    )
    yield Piece(
        ["iam", "service-accounts", "add-iam-policy-binding", _account(settings, "github"),
         "--role=roles/iam.workloadIdentityUser", f"--member=principalSet://iam.googleapis.com/{member}"]
    )  # fmt: skip


def _roles(settings: Settings) -> Iterator[Piece]:
    """Who may do what: no more than it needs, and on single things rather than on the project where that goes."""
    project, service = settings.project, settings.service
    grants = {
        "serve": ("monitoring.metricWriter", "logging.logWriter"),
        "train": ("logging.logWriter",),
        "build": ("run.admin", "logging.logWriter", "ondemandscanning.admin", "aiplatform.user"),
        "github": ("cloudbuild.builds.editor", "serviceusage.serviceUsageConsumer"),
    }
    whole = [
        (["projects"], project, ["--condition=None"], who, role) for who, roles in grants.items() for role in roles
    ]
    single: list[tuple[list[str], str, list[str], str, str]] = [
        (["secrets"], settings.tokens, [], "serve", "secretmanager.secretAccessor"),
        (["secrets"], f"{service}-collector", [], "serve", "secretmanager.secretAccessor"),
        (["secrets"], f"{service}-operator", [], "serve", "secretmanager.secretAccessor"),
        (["secrets"], f"{service}-operator", [], "build", "secretmanager.secretAccessor"),
        (["secrets"], settings.tokens, [], "build", "secretmanager.viewer"),
        (["storage", "buckets"], f"gs://{project}-data", [], "train", "storage.objectViewer"),
        (["storage", "buckets"], f"gs://{project}-models", [], "train", "storage.objectUser"),
        (["storage", "buckets"], f"gs://{project}-models", [], "build", "storage.objectUser"),
        (["storage", "buckets"], f"gs://{project}_cloudbuild", [], "build", "storage.objectViewer"),
        (["storage", "buckets"], f"gs://{project}_cloudbuild", [], "github", "storage.admin"),
        (["artifacts", "repositories"], service, ["--location=europe"], "build", "artifactregistry.writer"),
        (["kms", "keys"], "images", ["--location=global", f"--keyring={service}"], "build", "cloudkms.signerVerifier"),
        (["iam", "service-accounts"], _account(settings, "serve"), [], "build", "iam.serviceAccountUser"),
        (["iam", "service-accounts"], _account(settings, "train"), [], "build", "iam.serviceAccountUser"),
        (["iam", "service-accounts"], _account(settings, "build"), [], "github", "iam.serviceAccountUser"),
    ]  # fmt: skip
    yield _named(["storage", "buckets"], f"gs://{project}_cloudbuild", [], ["--public-access-prevention"])
    for kind, name, where, account, role in whole + single:
        member = f"--member=serviceAccount:{_account(settings, account)}"
        yield Piece([*kind, "add-iam-policy-binding", name, *where, member, f"--role=roles/{role}"])


def edge(settings: Settings) -> Iterator[Piece]:
    """A global HTTPS load balancer over the regions; only what lies under /static/ is cached."""
    service, everywhere = settings.service, ["--global"]
    scheme = "--load-balancing-scheme=EXTERNAL_MANAGED"
    yield _named(["compute", "addresses"], service, everywhere, [])
    yield _named(["compute", "ssl-certificates"], service, everywhere, [f"--domains={settings.domain}"])
    yield _named(["compute", "ssl-policies"], service, everywhere, ["--profile=MODERN", "--min-tls-version=1.2"])
    for region in settings.regions:
        more = ["--network-endpoint-type=serverless", f"--cloud-run-service={service}"]
        yield _named(["compute", "network-endpoint-groups"], f"{service}-{region}", [f"--region={region}"], more)
    cdn = ["--enable-cdn", "--cache-mode=USE_ORIGIN_HEADERS"]  # the server says what may be kept, and how long
    for name, more in ((f"{service}-api", []), (f"{service}-static", cdn)):
        yield _named(["compute", "backend-services"], name, everywhere, [scheme, "--protocol=HTTPS", *more])
        for region in settings.regions:
            group = f"{service}-{region}"
            there = [f"--network-endpoint-group={group}", f"--network-endpoint-group-region={region}"]
            look = ["compute", "backend-services", "describe", name, *everywhere, "--format=value(backends[].group)"]
            make = ["compute", "backend-services", "add-backend", name, *everywhere, *there]
            yield Piece(make, look, f"networkEndpointGroups/{group}")
    for name, body in url_maps(settings).items():
        yield Piece(["compute", "url-maps", "import", name, *everywhere], text=json.dumps(body, indent=2))
    more = [f"--url-map={service}", f"--ssl-certificates={service}", f"--ssl-policy={service}"]
    yield _named(["compute", "target-https-proxies"], service, everywhere, more)
    yield _named(
        ["compute", "target-http-proxies"], f"{service}-redirect", everywhere, [f"--url-map={service}-redirect"]
    )
    for name, proxy, port in ((service, "https", 443), (f"{service}-redirect", "http", 80)):
        more = [scheme, f"--address={service}", f"--target-{proxy}-proxy={name}", f"--ports={port}"]
        yield _named(["compute", "forwarding-rules"], name, everywhere, more)


def url_maps(settings: Settings) -> dict[str, dict[str, object]]:
    """Which path goes where, and http to https."""
    service = settings.service
    prefix = f"https://www.googleapis.com/compute/v1/projects/{settings.project}/global/backendServices"
    api, static = f"{prefix}/{service}-api", f"{prefix}/{service}-static"
    matcher = {"name": "paths", "defaultService": api, "pathRules": [{"paths": ["/static/*"], "service": static}]}
    redirect = {"httpsRedirect": True, "redirectResponseCode": "MOVED_PERMANENTLY_DEFAULT"}
    return {
        service: {
            "name": service,
            "defaultService": api,
            "hostRules": [{"hosts": [settings.domain], "pathMatcher": "paths"}],
            "pathMatchers": [matcher],
        },
        f"{service}-redirect": {"name": f"{service}-redirect", "defaultUrlRedirect": redirect},
    }


def alerts(channel: str) -> Iterator[Piece]:
    """The alerting policies, told to a notification channel."""
    for policy in json.loads((HERE / "monitoring" / "policies.json").read_text("utf-8")):
        name = policy["displayName"]
        look = [
            "alpha",
            "monitoring",
            "policies",
            "list",
            f'--filter=displayName="{name}"',
            "--format=value(displayName)",
        ]
        make = ["alpha", "monitoring", "policies", "create", f"--policy={json.dumps(policy)}"]
        yield Piece([*make, *([f"--notification-channels={channel}"] if channel else [])], look, name)


def _named(kind: list[str], name: str, where: list[str], more: list[str]) -> Piece:
    return Piece([*kind, "create", name, *where, *more], [*kind, "describe", name, *where])


def _account(settings: Settings, name: str) -> str:
    return f"{settings.service}-{name}@{settings.project}.iam.gserviceaccount.com"


def put(piece: Piece, project: str) -> None:
    """Make a piece unless it is there. Raises CloudError."""
    here = [f"--project={project}"]
    if piece.look is not None:
        try:
            if piece.seen in call([*piece.look, *here]):
                log.info("there is: %s", show(piece.make)[:120])
                return
        except CloudError:
            pass  # not there, or not to be seen: then making it says why
    log.info("making: %s", show(piece.make)[:120])
    call([*piece.make, *here], piece.text)


def main(words: list[str]) -> int:
    """Run with these words; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["base", "edge", "alerts"])
    parser.add_argument("--config", required=True, type=Path, help="deploy/production.toml or deploy/staging.toml")
    parser.add_argument("--channel", default="", help="with alerts: the notification channel, projects/…/…")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run none")
    asked = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        settings = Settings.read(asked.config)
        number = "PROJECT_NUMBER"
        if asked.part == "base" and not asked.dry_run:
            number = call(["projects", "describe", settings.project, "--format=value(projectNumber)"]).strip()
        parts = {"base": base(settings, number), "edge": edge(settings), "alerts": alerts(asked.channel)}
        for piece in parts[asked.part]:
            if asked.dry_run:
                sys.stdout.write(f"{show([*piece.make, f'--project={settings.project}'])}{_heredoc(piece.text)}\n")
            else:
                put(piece, settings.project)
    except (Refusal, CloudError) as error:
        log.error("error: %s", error)
        return 1
    return 0


def _heredoc(text: str) -> str:
    return f" <<'JSON'\n{text}\nJSON" if text else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
