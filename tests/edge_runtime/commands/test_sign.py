"""``sonoedge sign`` and ``sonoedge verify``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from sonoedge.edge_runtime.errors import TrustError, UsageError
from tests.helpers.bundles import policy_file


def test_sign_and_verify_commands(run_bundle: Path, tmp_path: Path, sonoedge: Callable) -> None:
    shutil.copytree(run_bundle, tmp_path / "bundle")
    made = sonoedge("sign", "--new-key", tmp_path / "clinic", "--json")
    assert made.code == 0
    key = json.loads(made.out)["key"]
    assert sonoedge("sign", tmp_path / "bundle", "--key", tmp_path / "clinic.key").code == 0
    result = sonoedge("verify", tmp_path / "bundle", "--key", tmp_path / "clinic.pub", "--json")
    assert result.code == 0
    body = json.loads(result.out)
    assert body["signature"] == "good, by clinic"
    assert len(body["artifacts"]) == 2 and all(a["passed"] for a in body["artifacts"])
    policy = policy_file(tmp_path, allowed_signers={"clinic": key})
    assert "the policy is met" in sonoedge("verify", tmp_path / "bundle", "--policy", policy, "--in-process").out
    assert "not checked" in sonoedge("verify", tmp_path / "bundle").out
    refused = sonoedge("verify", run_bundle, "--key", tmp_path / "clinic.pub")
    assert (refused.code, refused.out) == (TrustError.exit_code, "")
    assert sonoedge("sign").code == sonoedge("sign", tmp_path / "bundle").code == UsageError.exit_code
