"""Who is told what."""

from __future__ import annotations

from sonoedge.train.callbacks import EpochEnded, Event, FeaturesComputed, keras_listeners, listening, tell


class LikeKeras:
    """What a Keras callback has."""

    def set_model(self, model: object) -> None: ...

    def on_epoch_end(self, epoch: int, logs: object = None) -> None: ...


def test_functions_hear_events_and_keras_callbacks_are_kept_for_keras() -> None:
    heard: list[Event] = []
    other = LikeKeras()
    with listening([heard.append, other]):
        tell(FeaturesComputed(1, 2))
        assert keras_listeners() == [other]
        with listening(()):
            tell(EpochEnded("head", 1, 2, {}))
            assert keras_listeners() == []
        tell(FeaturesComputed(2, 2))
    tell(FeaturesComputed(3, 3))
    assert heard == [FeaturesComputed(1, 2), FeaturesComputed(2, 2)]
