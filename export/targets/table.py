"""The targets of ``sonoedge export --target``: which operators each takes, and which compiler proves it.

Sources of the lists:

- Ethos-U: what Arm's compiler says of itself, ``vela --supported-ops-report`` of ethos-u-vela 5.2.0, the tables
  "Ethos-U55 and Ethos-U65 TFLite" and "Ethos-U85 TFLite", without operators of variables and of recurrent networks.
- Edge TPU: "Supported operations" of https://coral.ai/docs/edgetpu/models-intro/. No compiler has confirmed this
  list here: no package index has Coral's.

``int8-only`` is what all of them take: for chips of other makers, whose compilers are not run here.
"""

from __future__ import annotations

from dataclasses import dataclass

from sonoedge.edge_runtime.errors import UsageError

_ETHOS = """
ABS ADD ARG_MAX AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION CONV_2D DEPTHWISE_CONV_2D ELU EXP EXPAND_DIMS
FULLY_CONNECTED GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG PACK PAD
PADV2 PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
RESIZE_NEAREST_NEIGHBOR REVERSE_V2 RSQRT SLICE SOFTMAX SPLIT SPLIT_V SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB
SUM TANH TILE TRANSPOSE TRANSPOSE_CONV UNPACK
"""
_ETHOS_U85_TOO = """
CAST DIV EQUAL GATHER GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_NOT LOGICAL_OR NOT_EQUAL REDUCE_ALL
REDUCE_ANY SCATTER_ND SELECT SELECT_V2
"""
_CORAL = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION LOGISTIC
MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE
RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE SQUEEZE
STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV
"""
_ETHOS_U55_U65 = frozenset(_ETHOS.split())
_ETHOS_U85 = _ETHOS_U55_U65 | frozenset(_ETHOS_U85_TOO.split())
_EDGE_TPU = frozenset(_CORAL.split())


@dataclass(frozen=True)
class VelaConfiguration:
    """For which chip and memories Vela compiles: names of its option and of Arm's vela.ini, which Vela holds."""

    accelerator: str
    system: str
    memory: str


@dataclass(frozen=True)
class Target:
    """Hardware that an int8 file is made for.

    Attributes:
        name: what the user types.
        operators: those that it takes; empty: no restriction.
        resize_factors: by which bilinear resizing with half-pixel centres may stretch; empty: by any.
        vela: how Arm's compiler is called; None if it is not Arm's.
        compiler: name of the compiler on PATH, if it is not Arm's; empty for none.
    """

    name: str
    operators: frozenset[str] = frozenset()
    resize_factors: tuple[int, ...] = ()
    vela: VelaConfiguration | None = None
    compiler: str = ""

    @property
    def is_integer(self) -> bool:
        """Whether everything between input and output must be int8."""
        return bool(self.operators)


CPU = Target("cpu")
_POWERS = tuple(2**power for power in range(1, 11))
TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        CPU,
        Target("int8-only", _ETHOS_U55_U65 & _EDGE_TPU, (2,)),
        Target(
            "ethos-u55", _ETHOS_U55_U65, (2,),
            VelaConfiguration("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram"),
        ),
        Target(
            "ethos-u65", _ETHOS_U55_U65, (2,),
            VelaConfiguration("ethos-u65-256", "Ethos_U65_High_End", "Dedicated_Sram"),
        ),
        Target(
            "ethos-u85", _ETHOS_U85, _POWERS,
            VelaConfiguration("ethos-u85-256", "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram"),
        ),
        Target("edgetpu", _EDGE_TPU, compiler="edgetpu_compiler"),
    )
}  # fmt: skip
"""By name."""


def target_called(name: str) -> Target:
    """The target of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in TARGETS:
        raise UsageError(f"--target is one of {', '.join(TARGETS)}. Received: {name!r}.")
    return TARGETS[name]
