from lesion.page import render_shell


def test_a_text_cannot_become_markup_or_a_command_of_a_terminal() -> None:
    page = render_shell("<b>&\"'\x1b[31m\u202e", "", "")
    assert r"<title>&lt;b&gt;&amp;&quot;&#x27;\x1b[31m\u202e</title>" in page


def test_the_shell_forbids_scripts_and_the_network() -> None:
    page = render_shell("a <b> {c}", "p { color: red }", "<p>{body}</p>")
    assert "<title>a &lt;b&gt; {c}</title>" in page
    assert "default-src 'none'" in page
    assert "p { color: red }" in page
    assert "<p>{body}</p>" in page
