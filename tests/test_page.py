from lesion.page import render_shell


def test_the_shell_forbids_scripts_and_the_network() -> None:
    page = render_shell("a <b> {c}", "p { color: red }", "<p>{body}</p>")
    assert "<title>a &lt;b&gt; {c}</title>" in page
    assert "default-src 'none'" in page
    assert "p { color: red }" in page
    assert "<p>{body}</p>" in page
