package org.sonoedge.core

import java.io.File
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.sqrt

/**
 * Does this device compute what the workstation computed? The replay of golden.npz with one artifact.
 *
 * @property replayError largest |logit − the artifact's own logit at export|.
 * @property referenceError largest |logit − the full model's logit|.
 * @property camError largest relative (L2) difference of the fused map from the artifact's own.
 * @property tolerance for the three of them, in this order.
 * @property flips images whose decision at the bundle's threshold differs from the artifact's at export.
 */
data class SelfTest(
    val artifact: String,
    val images: Int,
    val replayError: Double,
    val referenceError: Double,
    val camError: Double,
    val tolerance: List<Double>,
    val flips: Int,
) {
    /** All three within tolerance; a NaN is not. */
    val passed: Boolean get() = listOf(replayError, referenceError, camError).zip(tolerance).all { (e, t) -> e <= t }
}

/** golden.npz, checked: N pictures and what each artifact must give for them. */
class Golden private constructor(private val arrays: Map<String, NpyArray>) {
    val images: List<RgbImage> = List(arrays.getValue("reference_logit").shape.single()) { image("image_$it") }
    val referenceLogits: FloatArray = arrays.getValue("reference_logit").floats

    fun logits(artifact: Artifact): FloatArray = arrays.getValue("${artifact.name}.logit").floats
    fun cams(artifact: Artifact): List<FloatArray> = arrays.getValue("${artifact.name}.cam").let { a -> images.indices.map(a::row) }

    /** Largest |logit − own|, |logit − reference|, relative error of the map. */
    fun tolerance(artifact: Artifact): List<Double> =
        arrays.getValue("${artifact.name}.tolerance").floats.map { it.toDouble() }

    private fun image(name: String): RgbImage {
        val array = arrays[name] ?: throw BundleException("$GOLDEN lacks $name.")
        if (array.shape.size != 3 || array.shape[2] != 3) throw BundleException("$GOLDEN: $name is not an RGB picture.")
        return RgbImage(array.shape[1], array.shape[0], array.bytes)
    }

    companion object {
        /**
         * The golden vectors of a bundle.
         *
         * @throws BundleException the file is malformed or lacks an array.
         */
        fun read(bundle: Bundle): Golden {
            val arrays = readNpz(File(bundle.folder, GOLDEN))
            val needed = listOf("reference_logit", "reference_cam") +
                bundle.artifacts.flatMap { a -> listOf("logit", "cam", "tolerance").map { "${a.name}.$it" } }
            val missing = needed.filter { it !in arrays }
            if (missing.isNotEmpty()) throw BundleException("$GOLDEN lacks ${missing.joinToString()}.")
            val count = arrays.getValue("reference_logit").floats.size
            for (name in needed) {
                val array = arrays.getValue(name)
                val first = if (name.endsWith(".tolerance")) 3 else count
                if (count == 0 || array.floats.isEmpty() || array.shape.firstOrNull() != first) {
                    throw BundleException("$GOLDEN: $name has the shape ${array.shape}.")
                }
            }
            return Golden(arrays)
        }
    }
}

/**
 * Replay the golden pictures of every file that can give an answer: of a cascade both models', each with its own.
 *
 * @param progress is told how many pictures of how many are done.
 */
fun selfTests(model: Model, progress: (done: Int, all: Int) -> Unit = { _, _ -> }): List<SelfTest> {
    val goldens = model.classifiers.mapValues { Golden.read(it.value.bundle) }
    val all = goldens.values.sumOf { it.images.size }
    var done = 0
    return model.classifiers.map { (name, classifier) ->
        selfTest(classifier, goldens.getValue(name)) { progress(++done, all) }.copy(artifact = name)
    }
}

private fun selfTest(classifier: Classifier, golden: Golden, progress: () -> Unit): SelfTest {
    val artifact = classifier.artifact
    val own = golden.logits(artifact)
    val cams = golden.cams(artifact)
    var replay = 0.0
    var reference = 0.0
    var map = 0.0
    var flips = 0
    for ((i, image) in golden.images.withIndex()) {
        val answer = classifier.predict(image)
        replay = largest(replay, abs(answer.logit - own[i]))
        reference = largest(reference, abs(answer.logit - golden.referenceLogits[i]))
        val cam = answer.cam ?: throw BundleException("This artifact was exported without explanation outputs: cam.")
        map = largest(map, relativeError(cam.values, cams[i]))
        if (answer.label != decide(classifier.bundle, sigmoid(own[i].toDouble()), artifact.threshold)) flips++
        progress()
    }
    return SelfTest(artifact.name, golden.images.size, replay, reference, map, golden.tolerance(artifact), flips)
}

/** ||[map] − [wanted]|| / ||[wanted]||; NaN where the sizes differ. */
internal fun relativeError(map: FloatArray, wanted: FloatArray): Double {
    if (map.size != wanted.size) return Double.NaN
    fun norm(value: (Int) -> Double): Double = sqrt(map.indices.sumOf { value(it).let { v -> v * v } })
    return norm { (map[it] - wanted[it]).toDouble() } / max(norm { wanted[it].toDouble() }, 1e-6)
}

/** The larger one; a NaN stays. */
private fun largest(a: Double, b: Double): Double = if (a.isNaN() || b.isNaN()) Double.NaN else max(a, b)
