"""``sonoedge stream``: a camera, a clip, a DICOM cine loop or a folder, frame by frame."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections import Counter
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image

from sonoedge.edge_runtime.api import load
from sonoedge.edge_runtime.commands.options import JSON, QUIET, UNGATED, add_bundle, add_choice_of_model
from sonoedge.edge_runtime.commands.predict import exit_code, refusal_note
from sonoedge.edge_runtime.dicom.read import read_dicom
from sonoedge.edge_runtime.errors import DataError, MissingExtraError, UsageError
from sonoedge.edge_runtime.files import write_bytes_atomic
from sonoedge.edge_runtime.imaging.region import parse_crop
from sonoedge.edge_runtime.model.assess import MAX_VIEWS
from sonoedge.edge_runtime.model.predictor import Predictor
from sonoedge.edge_runtime.stream.frames import Source, check_fps, open_source, paced
from sonoedge.edge_runtime.stream.pipeline import FrameResult, FrameStream, annotate
from sonoedge.edge_runtime.stream.recording import Recorder
from sonoedge.edge_runtime.stream.smoothing import DEFAULT_SECONDS
from sonoedge.edge_runtime.words import INTENDED_USE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--source", required=True, metavar="camera|FILE|DIR", help=(
        "camera, camera:DEVICE, a video, GIF or TIFF clip, a DICOM file, or a folder of frames"
    ))  # fmt: skip
    add_bundle(parser)
    add_choice_of_model(parser)
    JSON.add(parser, "one object a line, for each frame")
    parser.add_argument("--crop", default="none", metavar="none|auto|L,T,R,B", help=(
        "classify only this part; auto: the DICOM region or the detected scan (default: none)"
    ))  # fmt: skip
    parser.add_argument("--crop-picture", type=Path, metavar="PNG", help="write what the crop leaves out")
    parser.add_argument("--smooth", type=float, default=DEFAULT_SECONDS, metavar="SECONDS", help=(
        "time constant of the filter, 0: off (default: %(default)s)"
    ))  # fmt: skip
    parser.add_argument("--views", type=int, default=1, metavar="N", help=(
        "classify N - 1 slightly shifted crops of each frame, too: 'uncertain' where one changes the answer (to 9)"
    ))  # fmt: skip
    UNGATED.add(parser)
    parser.add_argument("--annotated", type=Path, metavar="FILE|DIR", help=(
        "write frames with heat map: .gif, .mp4, .dcm (Secondary Capture) or a folder"
    ))  # fmt: skip
    parser.add_argument("--report", type=Path, metavar="DCM", help=(
        "write a DICOM Structured Report on a DICOM source; with --deidentify it refers to --annotated x.dcm"
    ))  # fmt: skip
    parser.add_argument("--deidentify", action="store_true", help="copy no patient data into DICOM output")
    parser.add_argument(
        "--fps", type=float, default=25.0, help="of a source that does not say (default: %(default)s)"
    )
    parser.add_argument("--realtime", action="store_true", help="play a file at its own speed and drop late frames")
    parser.add_argument("--max-frames", type=int, metavar="N", help="stop after N answers")
    QUIET.add(parser)
    parser.epilog = (
        "examples:\n"
        "  sonoedge stream --bundle bundle --source camera\n"
        "  sonoedge stream --bundle bundle --source cine.dcm --crop auto --annotated result.dcm --deidentify\n"
        "  sonoedge stream --bundle bundle --source frames/ --json > results.jsonl"
    )


def run(args: argparse.Namespace) -> int:
    """Answer a source frame by frame.

    Exit code 3 if a frame could not be read, there was none, or the source broke off; else 11 if a frame was
    refused; else 0, also after Ctrl-C.
    """
    if args.max_frames is not None and args.max_frames < 1:
        raise UsageError("--max-frames is at least 1.")
    if not 0 <= args.smooth <= 60:
        raise UsageError("--smooth is 0 to 60 seconds.")
    if not 1 <= args.views <= MAX_VIEWS:
        raise UsageError(f"--views is 1 to {MAX_VIEWS}.")
    crop, fps = parse_crop(args.crop), check_fps(args.fps)
    source = open_source(args.source, fps=fps)
    if args.realtime and not source.live:
        source = paced(source)
    _check_report(args, source)
    model = load(args.bundle, args.artifact, threads=args.threads, profile=args.profile)
    stream = FrameStream(
        model, source, crop=crop, smooth_seconds=args.smooth, ungated=args.ungated, views=args.views
    )
    if not args.json:
        print(INTENDED_USE, file=sys.stderr)
    with ExitStack() as stack:
        recorder = None
        if args.annotated:
            frame_ms = source.dicom.frame_ms if source.dicom and source.dicom.frame_ms else 1e3 / fps
            recorder = stack.enter_context(
                Recorder(args.annotated, frame_ms=frame_ms, source=source.dicom, deidentify=args.deidentify)
            )
        results, problem = _run(args, stream, recorder, source.count)
        if recorder:
            recorder.text = _summary_text(results)
    if args.report and results:
        if all(line.smoothed is None for line in results):
            print("note: every frame was refused: no report is written.", file=sys.stderr)
        else:
            _write_report(args, source, model, results)
    if args.crop_picture and stream.first is not None:
        picture = stream.region.outline(stream.first) if stream.region else stream.first
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        write_bytes_atomic(args.crop_picture, buffer.getvalue())
    if not results:
        raise problem or DataError(f"No readable frame in {args.source} ({stream.unreadable} unreadable).")
    _report(results, stream)
    refused = sum(line.smoothed is None for line in results)
    refusal_note(refused, len(results))
    if problem:
        raise problem
    return exit_code(unreadable=stream.unreadable, refused=refused)


def _run(
    args: argparse.Namespace,
    stream: FrameStream,
    recorder: Recorder | None,
    count: int | None,
) -> tuple[list[_Line], DataError | None]:
    """Answer all frames. After Ctrl-C, or if the source breaks off, the answers so far are kept.

    Returns:
        The answers, and the error that ended the stream early, if any.
    """
    lines: list[_Line] = []
    shown = perf_counter()
    try:
        for result in islice(stream, args.max_frames):
            print(json.dumps(result.to_json()) if args.json else _text(result), flush=True)
            if recorder:
                recorder.add(annotate(result), result.seconds)
            lines.append(_Line(result))
            if recorder and recorder.full:
                return lines, DataError(
                    f"{recorder.path.name} is full: it ends with frame {result.frame}, and so does this stream. "
                    "Use .mp4 or a folder, which have no limit."
                )
            if args.progress and perf_counter() - shown > 2:
                shown = perf_counter()
                of = f" of {count}" if count else ""
                print(f"{len(lines)}{of} frames, {stream.dropped} dropped", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
    except DataError as error:
        return lines, error
    return lines, None


class _Line:
    """What the summary needs of a frame, without pictures and maps: a day's stream must fit in memory."""

    __slots__ = ("artifact", "bare_ms", "frame", "smoothed", "total_ms", "verdict")

    def __init__(self, result: FrameResult) -> None:
        latency = result.answer.latency_ms
        self.verdict, self.smoothed, self.total_ms = result.assessment.verdict, result.smoothed, result.total_ms
        self.frame, self.artifact = result.frame, result.answer.artifact
        self.bare_ms = latency["invoke"] + latency["head"]


def _check_report(args: argparse.Namespace, source: Source) -> None:
    """Check before the work that a report has a DICOM object to refer to, and that its package is installed."""
    if not args.report:
        return
    if source.dicom is None:
        raise UsageError("--report refers to the images of a DICOM file: --source must be one.")
    if args.deidentify and (args.annotated is None or args.annotated.suffix.lower() != ".dcm"):
        raise UsageError("--report with --deidentify refers to the deidentified frames: add --annotated FILE.dcm.")
    if find_spec("highdicom") is None:
        raise MissingExtraError("highdicom", "sr")


def _write_report(args: argparse.Namespace, source: Source, model: Predictor, lines: list[_Line]) -> None:
    """Report the frame with the highest smoothed probability, of the source or of its deidentified capture."""
    from sonoedge.edge_runtime.dicom.structured_report import Finding, structured_report

    assert source.dicom is not None
    answered = [(line.smoothed, i) for i, line in enumerate(lines) if line.smoothed is not None]
    probability, number = max(answered, key=lambda pair: pair[0])
    highest, evidence, frame = lines[number], source.dicom.dataset, lines[number].frame
    if args.deidentify:
        evidence, frame = read_dicom(args.annotated.read_bytes()).dataset, number + 1
    finding = Finding(
        artifact=highest.artifact,
        probability=probability,
        threshold=model.artifact.threshold,
        assessment=highest.verdict,
        frame=frame if int(evidence.get("NumberOfFrames") or 1) > 1 else None,
        text=_summary_text(lines),
    )
    write_bytes_atomic(args.report, structured_report(evidence, model.bundle, finding))


def _report(lines: list[_Line], stream: FrameStream) -> None:
    total, bare = (
        float(np.percentile([getattr(line, name) for line in lines], 90)) for name in ("total_ms", "bare_ms")
    )
    print(
        f"{len(lines)} frames answered, {stream.dropped} dropped, {stream.unreadable} unreadable; "
        f"p90 {total:.1f} ms a frame, of which inference {bare:.1f} ms "
        f"(overhead {100 * (total / bare - 1):.1f} %); {_summary_text(lines)}",
        file=sys.stderr,
    )


def _summary_text(lines: list[_Line]) -> str:
    if not lines:
        return "no frames"
    counts = Counter(line.verdict for line in lines)
    shares = ", ".join(f"{verdict} {count}" for verdict, count in counts.items())
    smoothed = [line.smoothed for line in lines if line.smoothed is not None]
    highest = f"highest smoothed probability {max(smoothed):.3f}; " if smoothed else ""
    return f"{highest}{shares}. {INTENDED_USE}"


def _text(result: FrameResult) -> str:
    numbers = ", ".join(result.assessment.reasons)
    if result.answer.probability is not None:
        numbers = f"p={result.answer.probability:.4f} smoothed={result.smoothed:.4f}"
    return (
        f"{result.frame:>6} {result.seconds:8.2f} s  {result.assessment.verdict:<14} {numbers}  "
        f"{result.total_ms:6.1f} ms"
    )
