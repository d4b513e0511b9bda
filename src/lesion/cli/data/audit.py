"""`lesion data audit`."""

from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.options import Environment, Files, Json, Overrides


def audit(
    overrides: Overrides = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with pictures to this file.", show_default=False)
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Put the images of each error in quarantine.")] = False,
    restore: Annotated[bool, typer.Option("--restore", help="First take all images out of quarantine.")] = False,
    config: Files = None,
    env: Environment = None,
    as_json: Json = False,
) -> None:
    """Look for damaged, mislabelled, duplicate and leaking images; exit 1 when one must not be trained on.

    Example: lesion data audit data.root=data/ham10000 --html audit.html
    """
    from lesion.cli.bars import Bars
    from lesion.cli.render import show
    from lesion.cli.settings import merge
    from lesion.data import quarantine
    from lesion.data.audit import choose_for_quarantine, examine, judge, require_clean
    from lesion.data.audit_page import render_page
    from lesion.data.split import processed_folder
    from lesion.files import ensure_folder, write_atomic

    data = merge(overrides, config, env=env, command="data audit").data
    root, processed = Path(data.root), processed_folder(data)
    if html:
        ensure_folder(html.parent)
    if restore:
        quarantine.restore(processed)
    examination = examine(root, processed, data.workers, Bars())
    report = judge(examination)
    if fix:
        quarantine.add_to_quarantine(processed, choose_for_quarantine(report))
        quarantine.ensure_quarantine(processed)
        report = judge(examination)
    show(report, as_json)
    if html:
        write_atomic(html, render_page(report, examination.paths))
    require_clean(report)
