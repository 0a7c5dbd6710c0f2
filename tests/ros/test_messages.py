# SPDX-License-Identifier: Apache-2.0
"""What we serialize ourselves is what rclpy makes of the same message."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from vision_msgs.msg import Classification

from perception_node.config.sections import OutputConfig
from perception_node.engines.pipeline import Prediction, StageTimes
from perception_node.ros import messages
from perception_node.vision.postprocess import Hypothesis

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
HYPOTHESES = st.builds(Hypothesis, st.integers(0, 65535), TEXT, st.floats(0.0, 1.0))
STAMPS_NS = st.integers(0, 2**31 * messages.NANOSECONDS - 1)


@given(st.lists(HYPOTHESES, max_size=6), STAMPS_NS, TEXT, st.sampled_from(["index", "name"]))
def test_a_classification_is_serialized_as_rclpy_does(hypotheses, stamp_ns, frame_id, id_format):
    prediction = Prediction(tuple(hypotheses), stamp_ns, frame_id, StageTimes(0, 0, 0))
    config = OutputConfig(class_id_format=id_format)
    typed = messages.to_classification(prediction, config)
    serialized = messages.serialize_classification(prediction, config)
    assert len(serialized) == len(serialize_message(typed))
    assert deserialize_message(serialized, Classification) == typed


def test_another_layout_is_noticed(monkeypatch):
    assert messages.knows_classification()
    monkeypatch.setattr(messages, "STAMP", messages.struct.Struct("<Ii"))
    assert messages.knows_classification()  # the same bytes
    monkeypatch.setattr(messages, "SCORE", messages.struct.Struct("<f"))
    assert not messages.knows_classification()
