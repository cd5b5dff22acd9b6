package org.sonoedge.core

import kotlin.math.exp

/**
 * An open model file. Tensors go by the names of its only signature; all of them are float32 in C order.
 *
 * [run] is one synchronous inference: arrays in, new arrays out. Not thread-safe.
 */
interface ModelRunner : AutoCloseable {
    /** Static shape by input name, batch axis included. */
    fun inputShapes(): Map<String, List<Int>>

    /** Static shape by output name, batch axis included. */
    fun outputShapes(): Map<String, List<Int>>

    fun run(inputs: Map<String, FloatArray>): Map<String, FloatArray>

    override fun close()
}

/** Wall-clock milliseconds of the parts of one answer. */
data class Latency(val resizeMs: Double, val invokeMs: Double, val headMs: Double) {
    val totalMs: Double get() = resizeMs + invokeMs + headMs

    operator fun plus(other: Latency) =
        Latency(resizeMs + other.resizeMs, invokeMs + other.invokeMs, headMs + other.headMs)
}

/**
 * One answer; [probability] (0–1) and [logit] are of the bundle's positive label.
 *
 * @property artifact which file answered; of a cascade's cheap model with the folder before it.
 * @property cam fused Grad-CAM map, or null where the head has none; [branchCams] and [shares] are by branch.
 * @property gateResult where the picture lies among those of training, for the model that decided; null without a gate.
 * @property scale what the file's own logit was multiplied by: 1, but for a cascade's cheap model.
 */
data class Prediction(
    val label: String,
    val probability: Double,
    val logit: Double,
    val threshold: Double,
    val artifact: String,
    val latency: Latency,
    val cam: CamMap?,
    val branchCams: Map<String, CamMap>,
    val shares: Map<String, Float>,
    val gateResult: GateResult?,
    val scale: Double = 1.0,
) {
    /**
     * The probabilities that this model may have given in full precision: its logit moved both ways by
     * [logitTolerance], the second tolerance of its file in golden.npz.
     *
     * It says what the export may have changed and nothing about how sure the model is of the lesion.
     */
    fun band(logitTolerance: Float): ClosedFloatingPointRange<Double> =
        sigmoid(logit - scale * logitTolerance)..sigmoid(logit + scale * logitTolerance)
}

/** The positive label from the threshold on (inclusive), else the other one. */
fun decide(bundle: Bundle, probability: Double, threshold: Double): String =
    if (probability >= threshold) bundle.positiveLabel else bundle.negativeLabel

/** What answers with a bundle: one of its files, or both models of its cascade. */
interface Model : AutoCloseable {
    /** What settings and run files call it, with its size and threshold. */
    val artifact: Artifact

    /** The files that can give an answer, as [Prediction.artifact] names them. */
    val classifiers: Map<String, Classifier>

    /** The share of images (0–1) for which a cascade asks both models; null where there is only one. */
    val escalated: Double?

    /** The model's numbers for one picture of any size, whatever it shows; [answer] is for a person. */
    fun predict(image: RgbImage): Prediction

    /**
     * What a benchmark times in turn, whatever the models say: [predict]; of a cascade a frame of which the cheap
     * model is sure, then one for which both are asked.
     */
    fun turns(image: RgbImage): List<Latency>

    override fun close()
}

/**
 * An open artifact: picture -> prediction and maps, of any picture; see [answer] for what a person gets.
 *
 * @throws BundleException the files' tensors are not what bundle.json says, or domain.npz does not fit; both runners
 *   are closed then.
 */
class Classifier(
    val bundle: Bundle,
    override val artifact: Artifact,
    private val backbone: ModelRunner,
    private val head: ModelRunner,
) : Model {
    override val classifiers = mapOf(artifact.name to this)
    override val escalated: Double? get() = null
    internal val gate: Gate?

    init {
        try {
            check()
            gate = loadGate(bundle, artifact.name)
        } catch (error: BundleException) {
            close()
            throw error
        }
    }

    override fun predict(image: RgbImage): Prediction {
        val start = System.nanoTime()
        val input = toInput(image, bundle.input.height, bundle.input.width)
        val resized = System.nanoTime()
        val maps = backbone.run(mapOf(INPUT to input))
        val invoked = System.nanoTime()
        val outputs = head.run(maps)
        val latency = Latency(ms(start, resized), ms(resized, invoked), ms(invoked, System.nanoTime()))
        return prediction(outputs, latency, gate?.check(maps))
    }

    override fun turns(image: RgbImage): List<Latency> = listOf(predict(image).latency)

    override fun close() {
        backbone.close()
        head.close()
    }

    private fun prediction(outputs: Map<String, FloatArray>, latency: Latency, gateResult: GateResult?): Prediction {
        val probability = outputs.getValue("probability")[0].toDouble()
        val shapes = head.outputShapes()
        fun cam(name: String): CamMap? =
            outputs[name]?.let { CamMap(shapes.getValue(name)[1], shapes.getValue(name)[2], it) }
        val names = bundle.branches.map { it.name }
        return Prediction(
            label = decide(bundle, probability, artifact.threshold),
            probability = probability,
            logit = outputs.getValue("logit")[0].toDouble(),
            threshold = artifact.threshold,
            artifact = artifact.name,
            latency = latency,
            cam = cam("cam"),
            branchCams = names.mapNotNull { name -> cam("cam_$name")?.let { name to it } }.toMap(),
            shares = (names + BIAS).mapNotNull { name -> outputs["share_$name"]?.let { name to it[0] } }.toMap(),
            gateResult = gateResult,
        )
    }

    private fun check() {
        if (bundle.labels.size != 2) {
            throw BundleException("This version runs binary classifiers. Labels: ${bundle.labels.joinToString()}.")
        }
        val maps = bundle.branches.associate { it.name to it.shape }
        val input = mapOf(INPUT to listOf(1, bundle.input.height, bundle.input.width, 3))
        expect("backbone inputs", backbone.inputShapes(), input)
        expect("backbone outputs", backbone.outputShapes(), maps)
        expect("head inputs", head.inputShapes(), maps)
        val missing = setOf("logit", "probability") - head.outputShapes().keys
        if (missing.isNotEmpty()) throw BundleException("${artifact.name}: the head lacks the outputs $missing.")
    }

    private fun expect(what: String, received: Map<String, List<Int>>, wanted: Map<String, List<Int>>) {
        if (received != wanted) throw BundleException("${artifact.name}: $what must be $wanted. Received: $received.")
    }
}

internal fun sigmoid(logit: Double): Double = 1.0 / (1.0 + exp(-logit))

/** Milliseconds between two readings of [System.nanoTime]. */
fun ms(from: Long, to: Long): Double = (to - from) / 1e6

/** The part of a logit that no branch brings, among [Prediction.shares]. */
internal const val BIAS = "bias"

private const val INPUT = "image"
