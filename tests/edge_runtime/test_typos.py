"""A mistyped command or option: exit code 2, and the name that was meant."""

from __future__ import annotations

import pytest

from sonoedge.edge_runtime import cli


@pytest.mark.parametrize(
    ("typed", "advice"),
    [
        ("predicct", "Did you mean 'predict'?"),
        ("bench", "Did you mean 'benchmark'?"),
        ("nonsense", "Commands: demo, "),
    ],
)
def test_unknown_command(typed: str, advice: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([typed, "--help"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"error: unknown command {typed!r}. {advice}")
    assert output.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["predict", "a.png", "--bundel", "b"],
            "unrecognized arguments: --bundel b. Did you mean --bundle instead of --bundel?",
        ),
        (
            ["predict", "--jsn=1", "--treads", "2", "a.png"],
            "Did you mean --json instead of --jsn, --threads instead of --treads?",
        ),
        (["score", "--dta", "BUSI"], "required: --model, --data. Did you mean --data instead of --dta?"),
        (["train", "--data", "BUSI", "--cachee", "x"], "unrecognized arguments: --cachee x"),
        (["train", "--data", "BUSI", "--epochz"], "Did you mean --epochs instead of --epochz?"),
        (["predict", "--xyzzy", "a.png"], "unrecognized arguments: --xyzzy"),
        (["predict", "--thr", "x", "a.png"], "argument --threads: invalid int value: 'x'"),
        (["verify", "b", "c", "--", "--jsn"], "--jsn"),
    ],
)
def test_an_unknown_option_names_the_nearest(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"sonoedge {arguments[0]}: error: ")
    assert last.endswith(message)
