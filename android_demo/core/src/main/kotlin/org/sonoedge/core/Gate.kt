package org.sonoedge.core

import java.io.File
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sqrt

const val GATE_FILE = "domain.npz"

/** Where one picture lies: flagged above [warning], refused above [threshold] or when [distance] is not a number. */
data class GateResult(val distance: Double, val threshold: Double, val warning: Double) {
    /** Whether the picture can be judged at all; a NaN cannot. */
    val withinLimit: Boolean get() = distance <= threshold

    /** Whether the picture is like the training images. */
    val withinWarning: Boolean get() = distance <= min(warning, threshold)
}

/**
 * The out-of-gateResult gate of one artifact, from domain.npz: `edge_runtime/model/gate.py` is its specification.
 *
 * @property mean of C channels, as [inverseStd]; [components] are K directions of C, [variances] K.
 */
class Gate internal constructor(
    private val branches: List<Branch>,
    private val mean: FloatArray,
    private val inverseStd: FloatArray,
    private val components: List<FloatArray>,
    private val variances: FloatArray,
    private val noise: Double,
    private val threshold: Double,
    private val warning: Double,
) {
    /** The verdict on one picture from its feature maps by branch, float32 (1, h, w, c) in C order. */
    fun check(maps: Map<String, FloatArray>): GateResult = GateResult(distance(features(maps)), threshold, warning)

    /** Squared Mahalanobis distance over the number of channels. */
    private fun distance(features: DoubleArray): Double {
        val z = DoubleArray(features.size) { ((features[it] - mean[it]) * inverseStd[it]).coerceIn(-CUT_OFF, CUT_OFF) }
        var explained = 0.0
        var inside = 0.0
        for ((direction, variance) in components.zip(variances.toList())) {
            var score = 0.0
            for (i in z.indices) score += direction[i] * z[i]
            explained += score * score
            inside += score * score / variance
        }
        // The rest of z is what no direction explains; rounding must not make it negative.
        val rest = max(z.sumOf { it * it } - explained, 0.0)
        return (inside + rest / noise) / z.size
    }

    /** Pooled maps, each scaled to length one, one after the other. */
    private fun features(maps: Map<String, FloatArray>): DoubleArray {
        val pooled = branches.map { branch ->
            val map = maps.getValue(branch.name)
            val sums = DoubleArray(branch.channels)
            for (i in map.indices) sums[i % branch.channels] += map[i].toDouble()
            val cells = branch.height * branch.width
            val length = max(sqrt(sums.sumOf { (it / cells) * (it / cells) }), 1e-12)
            DoubleArray(sums.size) { sums[it] / cells / length }
        }
        return pooled.reduce(DoubleArray::plus)
    }
}

/**
 * The gate of an artifact, or null where the bundle has none for it.
 *
 * @throws BundleException domain.npz does not fit the bundle.
 */
fun loadGate(bundle: Bundle, artifact: String): Gate? {
    val file = File(bundle.folder, GATE_FILE)
    if (!file.isFile) return null
    val arrays = readNpz(file)
    if ("threshold.$artifact" !in arrays) return null
    val channels = bundle.branches.sumOf { it.channels }
    fun array(name: String): NpyArray = arrays[name] ?: throw BundleException("$GATE_FILE lacks the array $name.")
    fun numbers(name: String, vararg shape: Int): FloatArray {
        val found = array(name)
        if (found.shape != shape.toList() || found.floats.size != shape.fold(1, Int::times) || !found.floats.all(Float::isFinite)) {
            throw BundleException("$GATE_FILE: $name must be finite and of shape ${shape.toList()}.")
        }
        return found.floats
    }
    val names = bundle.branches.map { it.name }
    if (array("branches").texts != names) {
        throw BundleException("$GATE_FILE describes the branches ${array("branches").texts}, the bundle has $names.")
    }
    val directions = array("components").shape.firstOrNull() ?: 0
    numbers("components", directions, channels)
    val variances = numbers("variances", directions)
    val noise = numbers("noise").single()
    if (variances.any { it <= 0f } || noise <= 0f) throw BundleException("$GATE_FILE: variances must be positive.")
    return Gate(
        branches = bundle.branches,
        mean = numbers("mean", channels),
        inverseStd = numbers("inverse_std", channels),
        components = List(directions, array("components")::row),
        variances = variances,
        noise = noise.toDouble(),
        threshold = numbers("threshold.$artifact").single().toDouble(),
        warning = numbers("warning.$artifact").single().toDouble(),
    )
}

/** No single channel decides: standard deviations beyond this count as this. */
private const val CUT_OFF = 4.0
