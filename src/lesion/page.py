"""The shell of an HTML page that is complete in itself: it loads nothing and runs no script."""

from lesion.escape import to_html

_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def render_shell(title: str, style: str, body: str) -> str:
    """A page with this title (plain text), style sheet and body (both already safe)."""
    return _SHELL.format(title=to_html(title), style=style, body=body)
