package org.sonoedge.app

import org.sonoedge.core.Answer
import org.sonoedge.core.Benchmark
import org.sonoedge.core.Bundle
import org.sonoedge.core.CamMap
import org.sonoedge.core.Prediction
import org.sonoedge.core.RgbImage
import org.sonoedge.core.SelfTest

enum class Screen { PICTURE, CAMERA, SELF_TEST, BENCHMARK, SETTINGS }

/** Which heat map is drawn over the picture. */
sealed class MapChoice {
    data object None : MapChoice()
    data object Fused : MapChoice()
    data class Branch(val name: String) : MapChoice()
}

/** A frame of the camera and its answer. */
data class Live(val frame: RgbImage, val answer: Answer)

/**
 * Everything the screen shows; a new one replaces it as a whole.
 *
 * @property explained the class of the heat map; null: the predicted one.
 * @property shown the picture with the chosen map over it, ready to draw.
 * @property logitTolerances by [Prediction.artifact]: how far its logit may be from full precision, from golden.npz.
 * @property selfTests one of each file that can answer; none: not run.
 * @property busy what the app is doing, in words; null: nothing.
 * @property error what went wrong, in words.
 */
data class UiState(
    val screen: Screen = Screen.PICTURE,
    val bundle: Bundle? = null,
    val settings: Settings = Settings(null, 1, Accelerator.CPU),
    val executed: Executed? = null,
    val logitTolerances: Map<String, Float> = emptyMap(),
    val picture: Picture? = null,
    val answer: Answer? = null,
    val explained: String? = null,
    val map: MapChoice = MapChoice.Fused,
    val shown: RgbImage? = null,
    val live: Live? = null,
    val selfTests: List<SelfTest> = emptyList(),
    val benchmark: Benchmark? = null,
    val saved: String? = null,
    val busy: String? = null,
    val error: String? = null,
) {
    /** The numbers and maps of [answer]; null for a refused picture. */
    val prediction: Prediction? get() = answer?.prediction

    /** The class whose heat map is shown. */
    val explainedLabel: String? get() = explained ?: prediction?.label

    /** The chosen map for the explained class, cut at zero; null where there is none. */
    val cam: CamMap?
        get() {
            val answer = prediction ?: return null
            val raw = when (val choice = map) {
                MapChoice.None -> null
                MapChoice.Fused -> answer.cam
                is MapChoice.Branch -> answer.branchCams[choice.name]
            }
            return raw?.forClass(explainedLabel == bundle?.positiveLabel)
        }
}
