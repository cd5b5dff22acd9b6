"""The tables of measured figures: each is a function of one JSON file of docs/results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scripts.results import explanations
from scripts.results.project import mutants, support, survivors
from sonoedge.train.markdown import markdown_table


def front(body: dict[str, Any]) -> str:
    """Table of the README; ``body`` is benchmark.json."""
    names = {
        "full Keras model": "full Keras model",
        "tflite-int8": "`tflite-int8`",
        "openvino-int8": "`openvino-int8`",
        "TFLite converter, int8": "TensorFlow Lite's own int8 converter",
    }
    rows = {row["name"]: row for row in body["rows"]}
    lines = []
    for name, shown in names.items():
        row = rows[name]
        lines.append([shown, changed_of(body, row), f"{row['size_bytes'] / 1e6:.1f}", f"{row['p50_ms']:.0f}"])
    return markdown_table(["file", "decisions changed", "MB", "ms a frame"], lines)


def benchmark(body: dict[str, Any]) -> str:
    """Table of quality and cost of every file; ``body`` is benchmark.json."""
    head = ["file", "MB", "ms (p50)", "decisions changed", "accuracy", "AUC [95 %]", "heat map kept", "peak MB"]
    lines = []
    for row in body["rows"]:
        name = {"artifact": f"`{row['name']}`", "peer": f"*{row['name']}*"}.get(row["kind"], row["name"])
        kept = "–" if row["heatmap_cosine"] is None else f"{row['heatmap_cosine']:.4f}"
        value, low, high = row["auc"]
        lines.append([
            name, f"{row['size_bytes'] / 1e6:.1f}", f"{row['p50_ms']:.0f}", changed_of(body, row),
            f"{row['accuracy'][0]:.3f}", f"{value:.3f} [{low:.3f}, {high:.3f}]", kept,
            f"{row['peak_bytes'] / 1e6:.0f}",
        ])  # fmt: skip
    return markdown_table(head, lines)


def decisions(body: dict[str, Any]) -> str:
    """Table of changed decisions by split and file; ``body`` is decisions.json."""
    head = ["split", "full model, test AUC", "file", "int8", "changed, validation", "changed, test [95 % by group]"]
    lines = []
    for row in body["seeds"]:
        auc = row["test_auc"]
        for name, file in row["files"].items():
            flipped, images = file["validation"]
            lines.append([
                f"seed {row['seed']}", f"{auc[0]:.3f} [{auc[1]:.3f}, {auc[2]:.3f}]", f"`{name}`",
                f"{100 * file['int8_share']:.0f} %", f"{flipped} of {images}", counted(file["changed"]),
            ])  # fmt: skip
    for name, count in body.get("pooled", {}).items():
        lines.append(["all images, each out of fold", "", f"`{name}`", "", "", counted(count)])
    for name, file in body.get("external", {}).get("files", {}).items():
        lines.append(["another source, seed 0", "", f"`{name}`", "", "", counted(file["changed"])])
    return markdown_table(head, lines)


def candidates(body: dict[str, Any]) -> str:
    """Table of the guard's figures for each candidate; ``body`` is candidates.json or compact.json."""
    times = body.get("float32_p50_ms", {})
    head = [
        "file",
        "candidate",
        "MB",
        "int8",
        "p50 ms (float32)" if times else "p50 ms",
        "flipped [95 % by group]",
        "expected flips",
    ]
    lines = []
    for name, rows in body["candidates"].items():
        exact = f" ({times[name.partition('-')[0]]:.0f})" if times else ""
        for row in rows:
            bold = "**" if row.get("taken") else ""
            _, low, high = row["flips"]
            lines.append([
                f"`{name}`", f"{bold}{row['candidate']}{bold}", f"{row['size_bytes'] / 1e6:.1f}",
                f"{100 * row['int8_share']:.0f} %", f"{row['p50_ms']:.0f}{exact}",
                f"{row['flipped']} of {row['images']} [{100 * low:.1f}, {100 * high:.1f} %]",
                f"{100 * row['expected_flips']:.1f} %", f"{row['logit_error']:.3f}",
            ])  # fmt: skip
    return markdown_table([*head, "RMS logit error"], lines)


def integers(body: dict[str, Any]) -> str:
    """Table of the files for integer hardware; ``body`` is integers.json."""
    head = ["target", "compiled for", "MB", "operators on the NPU", "estimated ms", "kilobytes of memory",
            "flipped [95 % by group]", "expected flips", "AUC difference"]  # fmt: skip
    lines = []
    for row in body["rows"]:
        _, low, high = row["flips"]
        memory = ", ".join(
            f"{size / 1024:.0f} {kind.replace('_', ' ')}" for kind, size in row["memory_bytes"].items()
        )
        value, *ends = row["auc_difference"]
        lines.append([
            f"`{row['target']}`", f"{row['accelerator']}, {row['clock_hz'] / 1e6:.0f} MHz",
            f"{row['size_bytes'] / 1e6:.1f}", f"{row['operators_on_npu']} of {row['operators']}",
            f"{row['latency_ms']:.1f}", memory,
            f"{row['flipped']} of {row['images']} [{100 * low:.1f}, {100 * high:.1f} %]",
            f"{100 * row['expected_flips']:.1f} %", f"{value:+.3f} [{ends[0]:+.3f}, {ends[1]:+.3f}]",
        ])  # fmt: skip
    return markdown_table(head, lines)


def gate(body: dict[str, Any]) -> str:
    """Table of what the out-of-domain gate refuses and flags; ``body`` is gate.json."""
    titles = {
        "photos": "photographs, in colour",
        "photos, grey": "the same in grey",
        "uclm": "BUS-UCLM (Siemens)",
        "uc": "BUS-UC (web atlas, mixed scanners)",
        "bra": "BUS-BRA (external, chose nothing)",
    }
    own = body["out_of_fold"]
    head = ["images", "n", "refused", "of these by distance", "flagged or refused", "AUC, all and answered"]
    share, _, high = map(percent, own["refused_share"])
    lines = [[
        "BUSI, out of fold", own["images"], f"**{share}** (95 % interval 0–{high})", own["refused_by_distance"],
        percent((own["refused"] + own["flagged"]) / own["images"]),
        f"{own['auc']:.3f}, {own['auc_of_answered']:.3f}",
    ]]  # fmt: skip
    for name, row in body["others"].items():
        auc = f"{row['auc']:.3f}, {row['auc_of_answered']:.3f}" if "auc" in row else "–"
        shares = (row["refused"], row["refused_by_distance"], row["refused"] + row["flagged"])
        lines.append([titles.get(name, name), row["images"], *map(percent, shares), auc])
    return markdown_table(head, lines)


def travel(body: dict[str, Any]) -> str:
    """Table of AUC on sources that were left out, and of the differences; ``body`` is travel.json."""
    sources = list(dict.fromkeys(
        pair["metric"].removeprefix("AUC on ") for pair in body["pairs"] if pair["metric"] != "AUC"
    ))  # fmt: skip
    lines = [
        [row["row"], row["title"].removeprefix("… "), interval(row["mean_auc"]),
         *(f"{auc:.3f}" for auc in row["fold_aucs"])]
        for row in body["rows"]
    ]  # fmt: skip
    differences = [
        [pair["second"], pair["first"], pair["metric"], interval(pair["difference"]), pair["verdict"]]
        for pair in body["pairs"]
    ]
    first = markdown_table(["row", "what", "AUC, mean of the sources", *sources], lines)
    return f"{first}\n\n{markdown_table(['row', 'minus', 'figure', 'difference', 'first is'], differences)}"


def compact(body: dict[str, Any]) -> str:
    """Table of what the compact recipe is worth at home and elsewhere; ``body`` is compact.json."""

    def auc(values: list[float]) -> str:
        return "{:.3f} [{:.3f}, {:.3f}]".format(*values)

    trained, external, site, file = body["train"], body["external"], body["site"], body["file"]
    own, after = site["own_threshold"], (site["sensitivity"], site["specificity"])
    elsewhere = f"{external['images']} images of {external['groups']} patients elsewhere"
    lines = [["test images of all sources, AUC", auc(trained["test"]["auc"])]]
    lines += [
        [f"test images of {name.removeprefix('source ')} ({part['images']}), AUC", auc(part["metrics"]["auc"])]
        for name, part in trained["by_source"].items()
    ]
    lines += [
        [f"{elsewhere}, AUC of the Keras model", auc(external["full"]["auc"])],
        ["the same, AUC of `tflite-int8`", auc(external["tflite-int8"]["auc"])],
        ["sensitivity and specificity there, threshold of the run", f"{own[0]:.2f}, {own[1]:.2f}"],
        [
            f"the same, threshold from {site['patients']} of the patients there (median of {site['draws']} draws)",
            f"{after[0]['median']:.2f}, {after[1]['median']:.2f}",
        ],
        ["tenth percentiles of these", f"{after[0]['p10']:.2f}, {after[1]['p10']:.2f}"],
        [
            "`tflite-int8`: MB; decisions changed of the validation images",
            f"{file['size_bytes'] / 1e6:.1f}; {file['flipped']} of {file['images']}",
        ],
        ["training, minutes", f"{trained['seconds']['fit'] / 60:.0f}"],
    ]
    for subset, maps in body["pointing"].items():
        lines += [
            [f"peak of the heat map in the lesion, {subset}: {name}", auc(values)]
            for name, values in maps.items()
        ]  # fmt: skip
    return markdown_table(["", "value [95 %, by patient]"], lines)


def augmentation(body: dict[str, Any]) -> str:
    """Table of training with and without augmented copies; ``body`` is augmentation.json."""
    titles = {"stages": "no copies", "copies": "2 copies (default)"}
    head = ["row", "AUC, mean of folds", "AUC, stress", "accuracy", "sensitivity", "specificity"]
    lines = [
        [
            titles[row["row"]], *(interval(row[key]) for key in ("mean_auc", "stress_auc")),
            *(f"{row[key]['value']:.3f}" for key in ("accuracy", "sensitivity", "specificity")),
        ]
        for row in body["rows"]
    ]  # fmt: skip
    return markdown_table(head, lines)


def interval(found: dict[str, float]) -> str:
    """``0.931 [0.906, 0.955]``."""
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def changed_of(body: dict[str, Any], row: dict[str, Any]) -> str:
    """``0 of 94``; a dash for the full model."""
    return "–" if row["changed"] is None else f"{row['changed']} of {body['data']['images']}"


def percent(share: float) -> str:
    """``0.6 %``."""
    return f"{100 * share:.1f} %"


def counted(count: dict[str, Any]) -> str:
    """``0 of 94 [0.0, 5.1 %]``."""
    low, high = count["interval"]
    return f"{count['events']} of {count['images']} [{100 * low:.1f}, {100 * high:.1f} %]"


TABLES: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "front": (front, "benchmark.json"),
    "benchmark": (benchmark, "benchmark.json"),
    "decisions": (decisions, "decisions.json"),
    "candidates": (candidates, "candidates.json"),
    "gate": (gate, "gate.json"),
    "augmentation": (augmentation, "augmentation.json"),
    "compact": (compact, "compact.json"),
    "rounding": (candidates, "compact.json"),
    "integers": (integers, "integers.json"),
    "travel": (travel, "travel.json"),
    "methods": (explanations.methods, "explanations-methods.json"),
    "methods_answers": (explanations.answers, "explanations-methods.json"),
    "methods_agreement": (explanations.agreement, "explanations-methods.json"),
    "methods_cost": (explanations.cost, "explanations-methods.json"),
    "methods_words": (explanations.words, "explanations-methods.json"),
    "support": (support, "support.json"),
    "mutants": (mutants, "mutants.json"),
    "survivors": (survivors, "mutants.json"),
}
