"""How registered models look on a terminal, and as JSON."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lesion.cli.render import print_line, print_table
from lesion.cli.runs.tables import to_local
from lesion.records import to_json
from lesion.tracking.texts import show_figure
from lesion.tracking.versions import Promotion, Version

log = logging.getLogger("lesion.cli")


def print_versions(versions: Sequence[Version], as_json: bool) -> None:
    """One line per version."""
    if as_json:
        print(to_json({"models": [asdict(version) for version in versions]}))
        return
    if not versions:
        print_line("no model is registered")
        log.info("next: lesion models register RUN --name NAME")
        return
    rows = [["model", "alias", "kind", "registered", "run", "val AUROC", "test AUROC"]]
    for version in versions:
        about = (version.lineage.get(key, "") for key in ("model", "run"))
        kind, run = about
        figures = [show_figure(_newest(version, split)) for split in ("val", "test")]
        when = to_local(version.registered)
        rows.append([version.reference, ", ".join(version.aliases), kind, when, run, *figures])
    print_table(rows, texts=5)
    log.info("next: lesion models show MODEL · lesion models promote NAME VERSION · lesion serve --model MODEL")


def print_version(version: Version, path: Path, promotions: Sequence[Promotion], as_json: bool) -> None:
    """All of a version."""
    if as_json:
        print(to_json({**asdict(version), "path": str(path), "promotions": [asdict(each) for each in promotions]}))
        return
    held = f", {' and '.join(version.aliases)}" if version.aliases else ""
    print_line(f"{version.reference}{held}: {version.bytes:,} bytes, registered {to_local(version.registered)}")
    print_line(f"file: {path}")
    for key, value in version.lineage.items():
        print_line(f"{key.replace('_', ' ')}: {value}")
    rows = [["figure", *(f"{each.split} {each.fingerprint}" for each in version.evaluations)]]
    names = dict.fromkeys(name for each in version.evaluations for name in each.figures)
    for name in names:
        rows.append([name.replace("_", " "), *(show_figure(each.figures.get(name)) for each in version.evaluations)])
    if names:
        print_table(rows)
    rows = [["promoted", "alias", "from", "to", "forced"]]
    for each in promotions:
        previous = "–" if each.previous is None else str(each.previous)
        rows.append([to_local(each.promoted), each.alias, previous, str(each.version), each.forced or ""])
    if promotions:
        print_table(rows, texts=5)


def print_registered(version: Version, as_json: bool) -> None:
    """What a file is called now."""
    if as_json:
        print(to_json(asdict(version)))
        return
    print_line(f"{version.reference}: {version.lineage['model']}, sha256 {version.sha256[:12]}")
    log.info(
        "next: lesion eval --model %s · lesion models promote %s %d", version.reference, version.name, version.version
    )


def print_promotion(promotion: Promotion, as_json: bool) -> None:
    """What an alias means now."""
    if as_json:
        print(to_json(asdict(promotion)))
        return
    if promotion.previous == promotion.version:
        print_line(f"{promotion.name}@{promotion.version} was in {promotion.alias} already")
        return
    before = "" if promotion.previous is None else f", before it {promotion.previous}"
    print_line(f"{promotion.name}@{promotion.version} is in {promotion.alias} now{before}")
    if promotion.forced:
        log.warning("forced: %s", promotion.forced)


def _newest(version: Version, split: str) -> float | None:
    found = [each.figures.get("auroc") for each in version.evaluations if each.split == split]
    return found[-1] if found else None
