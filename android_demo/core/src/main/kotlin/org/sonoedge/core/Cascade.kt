package org.sonoedge.core

import java.io.File
import kotlin.math.abs
import kotlin.math.ln
import kotlin.math.ln1p

/** What settings and run files call both models of a cascade together; the default of a bundle that has one. */
const val CASCADE = "cascade"

/**
 * A cheap model that answers first; the bundle's own model is asked only where that one is not sure.
 *
 * [scale] * logit + [offset] estimates the full model's logit from the cheap model's. Where that is closer than
 * [margin] to the full model's threshold (in logits), the full model decides.
 *
 * @property first folder in the bundle that holds the cheap model's bundle.
 * @property escalated share of images (0–1) for which both were asked when this was fitted; 1 where it was not noted.
 */
data class CascadeSpec(
    val first: String,
    val firstArtifact: String,
    val fullArtifact: String,
    val scale: Double,
    val offset: Double,
    val margin: Double,
    val escalated: Double,
)

/**
 * Both models of a bundle with a cascade, open; decides as `edge_runtime.model.cascade` does.
 *
 * [Prediction.artifact] says which model decided: the cheap one's is `<folder>/<artifact>`. Its logit is the estimate
 * of the full model's, so that all answers are on one scale with one threshold, and its maps and shares are scaled
 * alike. Milliseconds are those of both models where both ran. Each model resizes the picture to its own size.
 *
 * @param full of a bundle with a cascade; [first] of the bundle inside it. Both are closed by [close] only.
 * @throws BundleException only one of the two has a gate: the other one's answers would go unguarded.
 */
class Cascade(private val first: Classifier, private val full: Classifier) : Model {
    private val bundle = full.bundle
    private val spec = bundle.cascade ?: throw BundleException("${bundle.name} holds no cascade.")
    private val firstName = "${spec.first}/${first.artifact.name}"

    /** The full model's threshold as a logit; of 0 and 1 infinitely far away: the cheap model then always decides. */
    private val cut = full.artifact.threshold.let { ln(it) - ln1p(-it) }

    override val artifact = bundle.choices.first { it.name == CASCADE }
    override val classifiers = mapOf(firstName to first, full.artifact.name to full)
    override val escalated get() = spec.escalated

    init {
        if ((first.gate == null) != (full.gate == null)) {
            val without = if (first.gate == null) "the cheap model" else "the full model"
            throw BundleException(
                "In this cascade $without has no gate against images unlike those of training. Export it again, or " +
                    "choose one file in the settings.",
            )
        }
    }

    override fun predict(image: RgbImage): Prediction {
        val cheap = first.predict(image)
        val logit = spec.scale * cheap.logit + spec.offset
        // Not the other way round: a NaN asks the full model.
        if (abs(logit - cut) >= spec.margin) return answerOfFirst(cheap, logit)
        val answer = full.predict(image)
        return answer.copy(latency = cheap.latency + answer.latency)
    }

    override fun turns(image: RgbImage): List<Latency> =
        listOf(first.predict(image).latency, first.predict(image).latency + full.predict(image).latency)

    override fun close() {
        first.close()
        full.close()
    }

    private fun answerOfFirst(cheap: Prediction, logit: Double): Prediction {
        val scale = spec.scale.toFloat()
        fun scaled(map: CamMap) = CamMap(map.rows, map.columns, FloatArray(map.values.size) { scale * map.values[it] })
        return cheap.copy(
            label = if (logit >= cut) bundle.positiveLabel else bundle.negativeLabel,
            probability = sigmoid(logit),
            logit = logit,
            threshold = full.artifact.threshold,
            artifact = firstName,
            cam = cheap.cam?.let(::scaled),
            branchCams = cheap.branchCams.mapValues { scaled(it.value) },
            shares = cheap.shares.mapValues { (name, share) ->
                scale * share + if (name == BIAS) spec.offset.toFloat() else 0f
            },
            scale = spec.scale,
        )
    }
}

/** The section `cascade` of bundle.json. */
internal fun parseCascade(body: Any?): CascadeSpec {
    val keys = setOf("first", "first_artifact", "full_artifact", "scale", "offset", "margin", "metrics")
    val item = Record(body, "cascade", keys)
    val metrics = item.record("metrics")
    val spec = CascadeSpec(
        first = item.string("first"),
        firstArtifact = item.string("first_artifact"),
        fullArtifact = item.string("full_artifact"),
        scale = item.number("scale"),
        offset = item.number("offset"),
        margin = item.number("margin"),
        escalated = listOf("test", "validation").firstNotNullOfOrNull { subset ->
            ((metrics[subset] as? Map<*, *>)?.get("escalated") as? Number)?.toDouble()?.takeIf { it in 0.0..1.0 }
        } ?: 1.0,
    )
    if (listOf(spec.first, spec.firstArtifact, spec.fullArtifact).any { !NAME.matches(it) }) {
        throw BundleException("cascade: names must be lower-case letters, digits, '.', '_', '-'.")
    }
    if (listOf(spec.scale, spec.offset, spec.margin).any { !it.isFinite() }) {
        throw BundleException("cascade: scale, offset and margin must be finite. Received: $spec.")
    }
    if (!(spec.scale > 0 && spec.margin >= 0)) {
        throw BundleException("cascade: scale must be positive, margin not negative. Received: $spec.")
    }
    return spec
}

/**
 * The cheap model's bundle inside [bundle], with its digests checked.
 *
 * @throws BundleException missing, damaged, with other labels, without the artifact, or itself a cascade.
 */
internal fun firstBundle(bundle: Bundle, spec: CascadeSpec): Bundle {
    val folder = File(bundle.folder, spec.first)
    if (!File(folder, MANIFEST).isFile) {
        throw BundleException("The cascade names ${spec.first}/, which holds no bundle.")
    }
    val first = try {
        readBundle(folder)
    } catch (error: BundleException) {
        throw BundleException("In ${spec.first}/: ${error.message}", error)
    }
    if (first.labels to first.positiveLabel != bundle.labels to bundle.positiveLabel) {
        throw BundleException(
            "Both models of a cascade need the same labels, in the same order and with the same positive one. " +
                "Received: ${first.labels.joinToString()} and ${bundle.labels.joinToString()}.",
        )
    }
    // That both take the same kind of input needs no look: only one kind is read.
    if (first.cascade != null) {
        throw BundleException("${spec.first}/ is a cascade itself; the model asked first must be a plain bundle.")
    }
    if (first.artifacts.none { it.name == spec.firstArtifact }) {
        val names = first.artifacts.joinToString { it.name }
        throw BundleException("The bundle ${spec.first}/ has no artifact '${spec.firstArtifact}'. It has: $names.")
    }
    return first
}
