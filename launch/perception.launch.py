# SPDX-License-Identifier: Apache-2.0
"""Start the node for one camera.

ros2 launch perception_node perception.launch.py image_topic:=/camera/image_raw
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.descriptions import ParameterFile
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from perception_node.ros.transport import use_large_frames

ARGUMENTS = {
    "image_topic": ("image", "Topic of the camera; with compressed, without /compressed."),
    "image_transport": ("", "raw or compressed; empty: as in params_file."),
    "model": ("", "Model bundle: a folder or a name; empty: as in params_file."),
    "namespace": ("", "Namespace of the node, one per camera."),
    "params_file": (
        PathJoinSubstitution(
            [FindPackageShare("perception_node"), "launch/params/perception.yaml"]
        ),
        "Parameters; arguments that are given here win.",
    ),
    "use_sim_time": ("false", "Take the time from /clock."),
    "autostart": ("true", "Configure and activate at start; false for a lifecycle manager."),
    "respawn": ("true", "Start the node again if it dies."),
    "exhausted_exit_s": ("30.0", "End, for respawn, after so long without an engine; 0: never."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
}
TEXTS = ("image_transport", "model")  # only where given
FLAGS = ("use_sim_time", "autostart")


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and the node."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription(
        [
            *arguments,
            OpaqueFunction(function=set_up_transport),
            OpaqueFunction(function=make_node),
        ]
    )


def set_up_transport(_context: LaunchContext) -> None:
    """Give our Fast DDS profile also to nodes that are launched later, such as a camera."""
    use_large_frames()


def make_node(context: LaunchContext) -> list[LifecycleNode]:
    """Make the node; texts that were not given are left to the parameter file."""
    value = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    given = [name for name in TEXTS if value[name].perform(context)]
    node = LifecycleNode(
        package="perception_node",
        executable="perception_node",
        name="perception",
        namespace=value["namespace"],
        parameters=[
            ParameterFile(value["params_file"], allow_substs=True),
            {name: ParameterValue(value[name], value_type=str) for name in given},
            {name: ParameterValue(value[name], value_type=bool) for name in FLAGS},
            {"exhausted_exit_s": ParameterValue(value["exhausted_exit_s"], value_type=float)},
        ],
        remappings=[("image", value["image_topic"])],
        ros_arguments=["--log-level", value["log_level"]],
        respawn=value["respawn"],
        respawn_delay=2.0,
        output="screen",
    )
    return [node]
