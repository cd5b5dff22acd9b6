package org.sonoedge.core

/**
 * The verdict on one picture, as `edge_runtime.model.assess` gives it.
 *
 * @property verdict `suspicious`, `not_suspicious`, `uncertain` or `refused`.
 * @property reasons `outside_training`, `unlike_training` and `not_b_mode`, as far as they apply; none where the
 *   threshold decided.
 * @property text both in words.
 */
data class Assessment(val verdict: String, val reasons: List<String>, val text: String)

/**
 * What a person gets for one picture.
 *
 * @property gateResult where the picture lies among those of training; null: the bundle has no gate.
 * @property hints codes of what speaks against the picture itself, see [org.sonoedge.core.hints].
 * @property prediction the model's numbers and maps; null for a refused picture, of which they say nothing.
 */
data class Answer(
    val assessment: Assessment,
    val gateResult: GateResult?,
    val hints: List<String>,
    val prediction: Prediction?,
)

/**
 * Classify a picture and assess the answer: gate, picture quality, threshold and cascade together.
 *
 * @throws ModelException the model's answer is not a number.
 */
fun answer(bundle: Bundle, model: Model, image: RgbImage): Answer {
    val prediction = model.predict(image)
    // Not below the threshold either.
    if (!prediction.probability.isFinite() || !prediction.logit.isFinite()) {
        throw ModelException("The model did not answer with a number.")
    }
    val hints = hints(image, quality(image))
    val assessment = assess(bundle, prediction.probability, prediction.threshold, prediction.gateResult, hints)
    return Answer(assessment, prediction.gateResult, hints, prediction.takeIf { assessment.verdict != "refused" })
}

/** The verdict: refused before uncertain before the side of the threshold. The app asks for no shifted views. */
internal fun assess(
    bundle: Bundle, probability: Double, threshold: Double, gateResult: GateResult?, hints: List<String>,
): Assessment {
    val outside = gateResult != null && !gateResult.withinLimit
    val unlike = gateResult != null && gateResult.withinLimit && !gateResult.withinWarning
    val reasons = listOf(
        "outside_training" to outside, "unlike_training" to unlike, "not_b_mode" to hints.any(AGAINST_B_MODE::contains),
    ).filter { it.second }.map { it.first }
    val verdict = when {
        // Two weak signs are together a strong one.
        outside || reasons.size == 2 -> "refused"
        reasons.isNotEmpty() -> "uncertain"
        else -> if (probability >= threshold) "suspicious" else "not_suspicious"
    }
    val label = if (verdict == "suspicious") bundle.positiveLabel else bundle.negativeLabel
    return Assessment(verdict, reasons, Words.verdict(verdict, reasons, label))
}

/** The words that people read: edge_runtime/words/en.json, which both builds copy. */
object Words {
    private val table: Map<*, *> by lazy {
        val stream = Words::class.java.getResourceAsStream("/words/en.json") ?: error("This build lacks words/en.json.")
        JsonReader.read(stream.use { it.readBytes() }.decodeToString()) as Map<*, *>
    }

    /** The sentence for a verdict. */
    fun verdict(code: String, reasons: List<String>, label: String): String {
        val clauses = reasons.joinToString(table["and"] as String) { word("reasons", it) as String }
        val text = (word("verdicts", code) as Map<*, *>)["text"] as String
        return text.replace("{reasons}", clauses).replace("{label}", label)
    }

    /** The sentence for a hint. */
    fun hint(code: String): String = word("hints", code) as String

    private fun word(part: String, code: String): Any =
        (table[part] as Map<*, *>)[code] ?: error("words/en.json lacks $part.$code.")
}

private val AGAINST_B_MODE = setOf("flat", "colour", "speckle")
