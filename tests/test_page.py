from lesion.page import render_shell, to_text


def test_a_text_cannot_become_markup_or_a_command_of_a_terminal() -> None:
    assert to_text("<b>&\"'\x1b[31m\u202e") == "&lt;b&gt;&amp;&quot;&#x27;?[31m?"


def test_the_shell_forbids_scripts_and_the_network() -> None:
    page = render_shell("a <b> {c}", "p { color: red }", "<p>{body}</p>")
    assert "<title>a &lt;b&gt; {c}</title>" in page
    assert "default-src 'none'" in page
    assert "p { color: red }" in page
    assert "<p>{body}</p>" in page
