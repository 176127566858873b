"""edgeq chat: lines, commands, and Ctrl-C at a real terminal."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tests.cli import fakes
from tests.cli.conftest import Call
from tests.cli.person import Person


def test_lines_on_stdin(call: Call, model: str) -> None:
    lines = b'Hi\n\n"""a\nb"""\n/stats\n/regen\n/clear\n/nonsense\n/help\n/bye\nnot read\n'
    result = call("chat", model, "--temp", "0", stdin=lines)
    assert result.code == 0
    assert result.out.count(fakes.SONG) == 4
    assert "tokens of context, 4 messages" in result.out
    assert "/regen" in result.out
    assert "/nonsense is unknown to edgeq" in result.err
    assert ">>>" not in result.out
    (made,) = result.models
    assert b"User: a\nb\n" in bytes(id for id in made.fed_ids if id < 256)


def test_a_full_context_is_told_of(call: Call, model: str) -> None:
    lines = b"".join(b"question %d\n" % turn for turn in range(6))
    result = call("chat", model, "-c", "200", stdin=lines)
    assert result.code == 0 and result.out.count(fakes.SONG) == 6
    assert "the beginning of the conversation is forgotten" in result.err


def test_quiet_means_nothing_but_errors(call: Call, model: str) -> None:
    lines = b"/nonsense\n" + b"".join(b"question %d\n" % turn for turn in range(6))
    result = call("chat", model, "-q", "-c", "200", "-n", "40", stdin=lines)
    assert result.code == 0 and result.err == ""
    assert call("chat", model, "-q", stdin=b"/set x 1\n").err.startswith("edgeq: error: 'x' cannot be set")


def test_the_end_of_input_leaves(call: Call, model: str) -> None:
    assert call("chat", model, stdin=b"Hi").code == 0


def test_ctrl_c_stops_the_answer_and_keeps_the_chat(model: str) -> None:
    with Person(fakes.program("chatty", "chat", model, "--temp", "0")) as person:
        person.wait_for(">>> ")
        person.type("Hi\n")
        person.wait_for("one, t")
        person.interrupt()
        person.wait_for(">>> ")
        person.interrupt()  # at the prompt, it only begins a new line
        person.wait_for(">>> ")
        person.type("/stats\n")
        person.wait_for("2 messages")
        person.wait_for(">>> ")
        person.type("More\n")
        person.wait_for("two")
        person.interrupt()
        person.wait_for(">>> ")
        person.leaves()


def test_ctrl_c_at_the_prompt_clears_the_line(model: str) -> None:
    with Person(fakes.program("Model", "chat", model, "--temp", "0")) as person:
        person.wait_for(">>> ")
        person.type("never said")
        person.wait_for("never said")
        person.interrupt()
        person.wait_for(">>> ")
        person.type("/regen\n")
        person.wait_for("there is no message to answer again")
        person.wait_for(">>> ")
        person.leaves()


def test_pasted_lines_are_one_message(model: str, tmp_path: Path) -> None:
    saved = tmp_path / "talk.json"
    with Person(fakes.program("Model", "chat", model, "--temp", "0")) as person:
        person.wait_for(">>> ")
        person.paste('/bye\n\n\t"""two\n')
        person.type("\n")
        person.wait_for(fakes.SONG)
        person.wait_for(">>> ")
        person.paste("/stats\n")  # a line is a line, pasted or typed
        person.type("\n")
        person.wait_for("2 messages")
        person.wait_for(">>> ")
        person.type(f"/save {saved}\n")
        person.wait_for("saved 2 messages")
        person.wait_for(">>> ")
        person.leaves()
    messages = json.loads(saved.read_text())["messages"]
    assert [message["content"] for message in messages] == ['/bye\n\n\t"""two', fakes.SONG]


REAL = "import sys; from edgeq.__main__ import main; sys.argv = ['edgeq', *{}]; sys.exit(main())"


def test_a_real_model_at_a_terminal(story: Path, tmp_path: Path) -> None:
    saved = tmp_path / "talk.json"
    arguments = ["chat", str(story), "--ignore-eos", "-p", "Once upon a time", "-t", "1"]
    with Person(REAL.format(arguments)) as person:
        person.wait_for(">>> ")
        assert "cut off: the context of 512 tokens is full" in person.seen
        person.type("/set max_tokens 20\n")
        person.wait_for(">>> ")
        person.paste("Lily had\na dog.")
        person.type("\n")
        person.wait_for("cut off after 20 tokens")
        person.wait_for(">>> ")
        person.type(f"/save {saved}\n")
        person.wait_for(str(saved))
        person.wait_for(">>> ")
        person.leaves()
    said = [message["content"] for message in json.loads(saved.read_text())["messages"]]
    assert said[-2] == "Lily had\na dog." and len(said) % 2 == 0 and said[-1].strip()


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The history file of this test alone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "edgeq" / "chat-history"


def test_what_was_typed_is_there_in_the_next_chat(model: str, state: Path) -> None:
    arguments = ("Model", "chat", model, "--temp", "0")
    with Person(fakes.program(*arguments)) as person:
        person.wait_for(">>> ")
        person.paste("first\nmessage")
        person.type("\n")
        person.wait_for(fakes.SONG)
        person.wait_for(">>> ")
        person.leaves()
    assert stat.S_IMODE(state.stat().st_mode) == 0o600 and stat.S_IMODE(state.parent.stat().st_mode) == 0o700
    with Person(fakes.program(*arguments)) as person:
        person.wait_for(">>> ")
        person.type("\x10")  # Ctrl-P: the line before
        person.wait_for("message")
        person.type("\n")
        person.wait_for(fakes.SONG)
        person.wait_for(">>> ")
        person.leaves()
    assert [json.loads(line) for line in state.read_text().splitlines()] == ["first\nmessage"] * 2


@pytest.mark.parametrize("switch", ["--no-history", "EDGEQ_NOHISTORY"])
def test_nothing_is_kept_where_nobody_wants_it(model: str, state: Path, switch: str) -> None:
    option = [switch] if switch.startswith("-") else []
    env = {} if option else {switch: "1"}
    with Person(fakes.program("Model", "chat", model, *option), env) as person:
        person.wait_for(">>> ")
        person.type("Hi\n")
        person.wait_for(fakes.SONG)
        person.wait_for(">>> ")
        person.type("\x10")
        person.wait_for("Hi")  # the chat itself remembers
        person.type("\x15")
        person.leaves()
    assert not state.parent.exists()


def test_a_history_that_cannot_be_kept_is_told_of_once(model: str, state: Path) -> None:
    state.mkdir(parents=True)
    with Person(fakes.program("Model", "chat", model)) as person:
        person.wait_for("chat-history cannot be kept")
        person.wait_for(">>> ")
        person.type("Hi\n")
        person.wait_for(fakes.SONG)
        person.wait_for(">>> ")
        person.leaves()
    assert person.seen.count("cannot be kept") == 1


# the first message, and the template --------------------------------------------------------------------


def heard(models: list[fakes.Model]) -> str:
    """What the model of the last call was told and said."""
    return bytes(id for id in models[-1].fed_ids if id < 256).decode()


def test_the_first_message_is_an_option(call: Call, model: str, tmp_path: Path) -> None:
    file = tmp_path / "first.txt"
    file.write_text("/bye\nnot\\n\n")
    for option, message in ((("-p", "/bye\\nsaid"), "/bye\nsaid"), (("-f", str(file)), "/bye\nnot\\n")):
        result = call("chat", model, *option, stdin=b"and then\n")
        assert result.code == 0 and result.out == f"{fakes.SONG}\n" * 2
        assert heard(result.models).startswith(f"User: {message}\nAssistant:{fakes.SONG}")
        assert "User: and then\n" in heard(result.models)


def test_the_first_message_from_a_pipe(call: Call, model: str, tmp_path: Path) -> None:
    """As a shell's <(...) is one: whatever `run -f` takes."""
    read, write = os.pipe()
    os.write(write, b"Hi\n")
    os.close(write)
    result = call("chat", model, "-f", f"/dev/fd/{read}")
    os.close(read)
    assert result.code == 0 and heard(result.models).startswith("User: Hi\nAssistant:")


def test_a_person_goes_on_behind_the_first_message(model: str) -> None:
    with Person(fakes.program("Model", "chat", model, "-p", "Hi")) as person:
        person.wait_for(fakes.SONG)
        person.wait_for(">>> ")
        person.type("/stats\n")
        person.wait_for("2 messages")
        person.wait_for(">>> ")
        person.leaves()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-p", "a", "-f", "b"], "a first message is given with -p and with -f"),
        (["-p", " "], "the first message is empty"),
        (["-f", "none"], "there is no file none: name one that is there"),
        (["-p", "x" * 500], "tokens, but the context holds 400"),
        (["--chat-template-kwargs", "3"], "is 3, but must be an object"),
        (["--chat-template-kwargs", "{"], "--chat-template-kwargs is not JSON"),
        (["--chat-template-kwargs", '{"colour": 1}'], "'colour', which the chat template does not ask for"),
        (["--think"], "the chat template has no switch for thinking (enable_thinking or thinking)"),
        (["--chat-template", "none"], "none cannot be read"),
    ],
)
def test_options_that_cannot_be_so(call: Call, model: str, arguments: list[str], complaint: str) -> None:
    result = call("chat", model, *arguments)
    assert result.code == 2 and result.out == ""
    (line,) = [line for line in result.err.splitlines() if "context;" not in line and "plain" not in line]
    assert complaint in line


def test_a_template_in_place_of_the_models(call: Call, model: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jinja"
    file.write_text("{{ colour }}{% for m in messages %}<{{ m.content }}>{% endfor %}{{ enable_thinking }}:")
    options = ("--chat-template", str(file), "--chat-template-kwargs", '{"colour": "red"}')
    for switch, value in (("--think", "True"), ("--no-think", "False")):
        result = call("chat", model, *options, switch, "-p", "Hi")
        assert result.code == 0 and heard(result.models).startswith(f"red<Hi>{value}:")
    twice = '{"enable_thinking": true}'
    result = call("chat", model, *options[:3], twice, "--think", "-p", "Hi")
    assert result.code == 2 and "enable_thinking is given twice" in result.err


def test_a_template_that_cannot_be_compiled(call: Call, model: str, tmp_path: Path) -> None:
    (tmp_path / "a.jinja").write_text("{% if %}")
    result = call("chat", model, "--chat-template", str(tmp_path / "a.jinja"))
    assert result.code == 3 and "the chat template cannot be compiled" in result.err and not result.models


def test_an_answer_that_was_cut_says_so(call: Call, model: str) -> None:
    result = call("chat", model, "-n", "3", "-p", "Hi")
    assert result.out == "one\n" and "(cut off after 3 tokens, as -n or /set max_tokens says)" in result.err
    assert "cut off" not in call("chat", model, "-n", "3", "-p", "Hi", "-q").err


def test_answers_are_held(call: Call, model: str) -> None:
    pytest.importorskip("llguidance", reason="llguidance is not installed: pip install 'edgeq[grammar]'")
    result = call(
        "chat",
        model,
        "--regex",
        "(yes|no)!",
        stdin=b"Is it?\nReally?\n",
    )
    assert result.code == 0 and result.out.count("!") == 2
    assert set(result.out.replace("!", " ").split()) <= {"yes", "no"}
    for words in (["--stop", "x"], ["--ignore-eos"]):
        refused = call("chat", model, "--json-object", *words, stdin=b"Hi\n")
        assert refused.code == 2 and "says where the text ends" in refused.err
    assert call("chat", model, "-j", '{"not": {}}', stdin=b"Hi\n").code == 2
