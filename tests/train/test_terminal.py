"""What a command shows of the log."""

from __future__ import annotations

import logging

import pytest

from sonoedge.train.terminal import LOG, shown


def test_lines_and_warnings_go_to_their_streams(capsys: pytest.CaptureFixture[str]) -> None:
    with shown():
        LOG.info("trained")
        LOG.warning("few images")
    assert capsys.readouterr() == ("trained\n", "warning: few images\n")


def test_json_has_standard_output_for_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(lines=False):
        LOG.info("trained")
        LOG.warning("few images")
    assert capsys.readouterr() == ("", "warning: few images\n")


def test_the_log_is_the_programs_own_afterwards(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = (LOG.level, LOG.propagate, list(LOG.handlers))
    with pytest.raises(KeyError), shown():
        raise KeyError
    assert (LOG.level, LOG.propagate, list(LOG.handlers)) == before
    with caplog.at_level(logging.INFO, logger="sonoedge"):
        LOG.info("trained")
    assert caplog.messages == ["trained"]
    assert capsys.readouterr() == ("", "")
