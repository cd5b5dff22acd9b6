"""Live frames over a WebSocket: the newest frame wins, frames that it overtakes are dropped and counted.

The client sends binary messages, each an image file of at most `MAX_FRAME` bytes. Frames are numbered from 1 in the
order of arrival. For every computed frame the server sends one JSON object: the fields of /v1/explain and
``frame``, ``dropped`` (since the start), ``smoothed`` and ``recent`` (see `edge_runtime.stream.smoothing`; null for
a refused frame), ``total_ms`` (from taking the frame to the answer). The query parameter ``views`` asks for shifted
views of every frame. While an interpreter computes one frame, the next is taken and decoded, so that the model
never waits. An undecodable frame is answered ``{"frame", "error"}``, and the stream goes on.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import asdict
from time import perf_counter
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from sonoedge.edge_runtime.errors import SonoEdgeError
from sonoedge.edge_runtime.model.assess import MAX_VIEWS, Assessment, over_time
from sonoedge.edge_runtime.serve.metrics import Metrics
from sonoedge.edge_runtime.serve.station import AnswerOptions, Station
from sonoedge.edge_runtime.stream.smoothing import Smoother

MAX_FRAME = 8 * 1024 * 1024
MAX_STREAMS = 8
_IN_HAND = 2
"""Frames of one client in work at a time: one in an interpreter, one in decoding."""
_IDLE_SECONDS = 60.0
_VIEWS = {str(number) for number in range(1, MAX_VIEWS + 1)}


class Live:
    """The endpoint. For each client one task receives into a single slot, one takes frames from it, one answers."""

    def __init__(self, station: Station, metrics: Metrics, ready: asyncio.Event) -> None:
        self._station, self._metrics, self._ready = station, metrics, ready
        self.streams = 0

    async def endpoint(self, socket: WebSocket) -> None:
        """Serve one client until it goes away or is silent for a minute."""
        if self.streams >= MAX_STREAMS:
            await socket.close(1013)
            return
        self.streams += 1
        try:
            if socket.query_params.get("views", "1") not in _VIEWS:
                await socket.close(1008)
                return
            await socket.accept()
            await self._ready.wait()
            await _Stream(socket, self._station, self._metrics).run()
        finally:
            self.streams -= 1


class _Stream:
    def __init__(self, socket: WebSocket, station: Station, metrics: Metrics) -> None:
        self._socket, self._station, self._metrics = socket, station, metrics
        query = socket.query_params
        self._wanted = AnswerOptions(
            explain=True, peak=False, crop=query.get("crop") == "auto", views=int(query.get("views", "1"))
        )
        self._smoother = Smoother()
        self._newest: tuple[int, bytes] | None = None
        self._arrived = asyncio.Event()
        self._free = asyncio.Semaphore(_IN_HAND)
        self._in_hand: asyncio.Queue[tuple[int, float, asyncio.Future[dict[str, Any]]]] = asyncio.Queue()
        self._dropped = 0

    async def run(self) -> None:
        tasks = {asyncio.create_task(work()) for work in (self._receive, self._take, self._send)}
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        # An interpreter finishes the frame that it computes; only the answer is dropped.
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
                task.result()
        with suppress(RuntimeError, WebSocketDisconnect):
            await self._socket.close()

    async def _receive(self) -> None:
        number = 0
        while True:
            message = await asyncio.wait_for(self._socket.receive(), _IDLE_SECONDS)
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes")
            number += 1
            self._metrics.add("live_frames_total")
            if not data or len(data) > MAX_FRAME:
                await self._socket.close(1009 if data else 1003)
                return
            if self._newest is not None:
                self._dropped += 1
                self._metrics.add("live_frames_dropped_total")
            self._newest = (number, data)
            self._arrived.set()

    async def _take(self) -> None:
        """Hand the newest frame to the station whenever it has fewer than `_IN_HAND` frames of this client."""
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            await self._free.acquire()
            self._arrived.clear()
            assert self._newest is not None
            (number, data), self._newest = self._newest, None
            work = loop.run_in_executor(self._station.executor, self._station.answer, data, self._wanted)
            self._in_hand.put_nowait((number, perf_counter(), work))

    async def _send(self) -> None:
        """Answer in the order of arrival."""
        while True:
            number, start, work = await self._in_hand.get()
            try:
                body = await work
            except SonoEdgeError as error:
                self._metrics.add("images_unreadable_total")
                await self._socket.send_json({"frame": number, "error": str(error).partition(": ")[0]})
                continue
            finally:
                self._free.release()
            seconds = perf_counter() - start
            answer = self._smoothed(body, number, start)
            self._metrics.answered(answer["artifact"], answer["verdict"], seconds)
            await self._socket.send_json({**answer, "total_ms": round(1e3 * seconds, 3)})

    def _smoothed(self, body: dict[str, Any], number: int, when: float) -> dict[str, Any]:
        """The answer to a frame with the stream's smoothed result; a refused frame does not change the filter."""
        smoothed, recent = None, None
        assessment = Assessment(body["verdict"], tuple(body["reasons"]), body["text"])
        if body["logit"] is not None:
            smoothed, recent = self._smoother.add(body["logit"], when)
            assessment = over_time(self._station.bundle, assessment, smoothed, body["threshold"])
        return {
            **body,
            **assessment.to_json(),
            "smoothed": smoothed,
            "recent": asdict(recent) if recent else None,
            "frame": number,
            "dropped": self._dropped,
        }
